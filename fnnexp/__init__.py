"""fnnexp: which small neural network works, and why.

The public API is small. :func:`sweep` runs a sweep; :func:`runs`, :func:`curves` and :func:`diagnostics`
return what one has recorded, as data frames; :func:`leaderboard`, :func:`compare`, :func:`shares`,
:func:`answer`, :func:`plot_curves` and :func:`plot_heat_map` take such a frame, or any part of one.
:func:`images` is a data set as a table, :func:`published` the numbers that were printed elsewhere. What a
user can mend is raised as :class:`FnnexpError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnnexp.analysis.answers import answer
    from fnnexp.analysis.comparisons import compare, shares
    from fnnexp.analysis.figures import plot_curves, plot_heat_map
    from fnnexp.analysis.frames import curves, diagnostics, runs
    from fnnexp.analysis.images import images
    from fnnexp.analysis.published import published
    from fnnexp.analysis.report import leaderboard
    from fnnexp.api import sweep
    from fnnexp.errors import FnnexpError

__version__ = "0.1.0"
__all__ = [
    "FnnexpError",
    "__version__",
    "answer",
    "compare",
    "curves",
    "diagnostics",
    "images",
    "leaderboard",
    "plot_curves",
    "plot_heat_map",
    "published",
    "runs",
    "shares",
    "sweep",
]

_HOMES = {
    "FnnexpError": "fnnexp.errors",
    "answer": "fnnexp.analysis.answers",
    "compare": "fnnexp.analysis.comparisons",
    "curves": "fnnexp.analysis.frames",
    "diagnostics": "fnnexp.analysis.frames",
    "images": "fnnexp.analysis.images",
    "leaderboard": "fnnexp.analysis.report",
    "plot_curves": "fnnexp.analysis.figures",
    "plot_heat_map": "fnnexp.analysis.figures",
    "published": "fnnexp.analysis.published",
    "runs": "fnnexp.analysis.frames",
    "shares": "fnnexp.analysis.comparisons",
    "sweep": "fnnexp.api",
}
"""Where each name is defined. It is imported when asked for: the commands start without pandas."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fnnexp' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
