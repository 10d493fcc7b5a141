"""fnnexp: which small neural network works, and why.

The public API is small. :func:`sweep` runs a sweep; :func:`runs`, :func:`curves` and :func:`diagnostics`
return what one has recorded, as data frames; :func:`leaderboard`, :func:`compare`, :func:`shares`,
:func:`answer`, :func:`plot_curves` and :func:`plot_heat_map` take such a frame, or any part of one.
:func:`at_equal` cuts one where batching modes have cost the same; :func:`seconds_to` adds the time to a
level. :func:`images` is a data set as a table, :func:`published` the numbers that were printed elsewhere.
What a user can mend is raised as :class:`FnnexpError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnnexp.api import sweep
    from fnnexp.data.images import images
    from fnnexp.errors import FnnexpError
    from fnnexp.reporting.plots.api import plot_curves, plot_heat_map
    from fnnexp.reporting.replication.published import published
    from fnnexp.reporting.sections.leaderboard import leaderboard
    from fnnexp.reporting.sections.summary import answer
    from fnnexp.results.budgets import at_equal
    from fnnexp.results.comparisons import shares
    from fnnexp.results.frames import curves, diagnostics, runs
    from fnnexp.results.questions import compare
    from fnnexp.results.ranking import seconds_to

__version__ = "0.1.0"
__all__ = [
    "FnnexpError",
    "__version__",
    "answer",
    "at_equal",
    "compare",
    "curves",
    "diagnostics",
    "images",
    "leaderboard",
    "plot_curves",
    "plot_heat_map",
    "published",
    "runs",
    "seconds_to",
    "shares",
    "sweep",
]

_HOMES = {
    "FnnexpError": "fnnexp.errors",
    "answer": "fnnexp.reporting.sections.summary",
    "at_equal": "fnnexp.results.budgets",
    "compare": "fnnexp.results.questions",
    "curves": "fnnexp.results.frames",
    "diagnostics": "fnnexp.results.frames",
    "images": "fnnexp.data.images",
    "leaderboard": "fnnexp.reporting.sections.leaderboard",
    "plot_curves": "fnnexp.reporting.plots.api",
    "plot_heat_map": "fnnexp.reporting.plots.api",
    "published": "fnnexp.reporting.replication.published",
    "runs": "fnnexp.results.frames",
    "seconds_to": "fnnexp.results.ranking",
    "shares": "fnnexp.results.comparisons",
    "sweep": "fnnexp.api",
}
"""Where each name is defined. It is imported when asked for: the commands start without pandas."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fnnexp' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
