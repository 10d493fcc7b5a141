"""fnnexp: which small neural network works, and why.

The public API is small: :func:`runs`, :func:`curves` and :func:`diagnostics` return what a sweep has
recorded, as data frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

__version__ = "0.1.0"
__all__ = ["__version__", "curves", "diagnostics", "runs"]


def runs(experiment: str, *, tracking_uri: str | None = None) -> DataFrame:
    """Return one row a trial: its choices, parameters and final metrics, typed.

    See :func:`fnnexp.analysis.frames.runs`.
    """
    from fnnexp.analysis import frames

    return frames.runs(experiment, tracking_uri=tracking_uri)


def curves(experiment: str, *, tracking_uri: str | None = None) -> DataFrame:
    """Return one row a trial, epoch and metric.

    See :func:`fnnexp.analysis.frames.curves`.
    """
    from fnnexp.analysis import frames

    return frames.curves(experiment, tracking_uri=tracking_uri)


def diagnostics(experiment: str, *, tracking_uri: str | None = None) -> DataFrame:
    """Return one row a trial, epoch, layer and quantity of what was recorded with ``diagnostics=true``.

    See :func:`fnnexp.analysis.frames.diagnostics`.
    """
    from fnnexp.analysis import frames

    return frames.diagnostics(experiment, tracking_uri=tracking_uri)
