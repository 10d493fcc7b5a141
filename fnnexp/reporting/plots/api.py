"""The figures of the public API, of any part of a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnnexp.errors import FnnexpError
from fnnexp.reporting.plots.curves import curves as draw_curves
from fnnexp.reporting.plots.heat_map import heat_map
from fnnexp.results import frames
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import others
from fnnexp.tracking.run_format import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.reporting.plots.picture import Picture

ACROSS, WIDEST = 2, 6.5
"""Panels beside each other, and inches: what can be read from the back row, where a page takes more."""


@validate_frames
def plot_curves(runs: pd.DataFrame, curves: pd.DataFrame, metric: str | None = None) -> Picture:
    """Draw the curves of some trials: the mean over seeds in its 95% interval, a panel an arch × batching.

    Parameters
    ----------
    runs
        The trials to draw: :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of their rows. They may
        differ in arch, init, batching, what belongs to these, and seed.
    curves
        :func:`fnnexp.curves` of their experiment; curves of other trials are passed over.
    metric
        One of `train_loss train_accuracy val_loss val_accuracy test_loss test_accuracy`; the one that ranks
        if None. A loss axis ends where it would hide the rest; what leaves it is named.

    Returns
    -------
    Picture
        A matplotlib Figure; a notebook shows it, and `.savefig("curves.png", facecolor="white")` writes it.

    Raises
    ------
    FnnexpError
        When nothing was recorded, or the trials differ in more than one picture can show.
    """
    metric = _checked_metric(runs, metric)
    return _not_empty(draw_curves(runs, curves, metric, across=ACROSS), metric)


@validate_frames
def plot_heat_map(runs: pd.DataFrame, metric: str | None = None) -> Picture:
    """Draw the mean over seeds of each arch × init × batching, in percent, a panel a batching mode.

    Parameters
    ----------
    runs
        As for :func:`plot_curves`; finished trials count.
    metric
        `val_accuracy`, `test_accuracy` or `train_accuracy`; the one that ranks if None.

    Returns
    -------
    Picture
        As of :func:`plot_curves`.

    Raises
    ------
    FnnexpError
        When no trial has finished, or the trials differ in more than one picture can show.
    """
    metric = _checked_metric(runs, metric)
    if not metric.endswith("accuracy"):
        raise FnnexpError(f"metric={metric!r} is no accuracy, and a heat map is in percent")
    return _not_empty(heat_map(runs, metric, widest=WIDEST), metric)


def _checked_metric(runs: pd.DataFrame, metric: str | None) -> str:
    """Return the metric to draw, the one that ranks if None; refuse trials that one figure can't show."""
    metric = frames.ranking(runs) if metric is None else metric
    if metric not in METRICS:
        raise FnnexpError(f"metric={metric!r} is unknown; it can be {', '.join(METRICS)}.")
    for factor in others(runs):
        value = next(iter(runs[factor].dropna()), None)
        raise FnnexpError(
            f"these trials differ in {factor}, which one picture can't show; draw one value at a time: "
            f"runs[runs[{factor!r}] == {value!r}]"
        )
    return metric


def _not_empty(figure: Picture | None, metric: str) -> Picture:
    if figure is None:
        raise FnnexpError(f"nothing to draw: no finished trial here has {metric}")
    return figure
