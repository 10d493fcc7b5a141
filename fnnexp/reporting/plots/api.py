"""The plotting functions of the public API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import pandas as pd

from fnnexp.errors import FnnexpError
from fnnexp.nn.layer_stats import COUNTED
from fnnexp.reporting.document.wording import percent
from fnnexp.reporting.plots.curves import curves as draw_curves
from fnnexp.reporting.plots.heat_map import heat_map
from fnnexp.reporting.plots.layers import histograms as draw_histograms
from fnnexp.reporting.plots.rows.regions import boundaries
from fnnexp.results import filters, frames
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import labels_of, others
from fnnexp.results.networks.histograms import REMEDY, averaged, of_runs
from fnnexp.results.networks.network import Network
from fnnexp.results.networks.regions import regions
from fnnexp.results.networks.stored import loaded
from fnnexp.tracking.run_format import METRICS

if TYPE_CHECKING:
    from fnnexp.reporting.plots.picture import Picture

MOST_NETWORKS = 12
"""The largest number of networks in a figure of boundaries."""

ACROSS, WIDEST = 2, 6.5
"""Panels side by side, and the width in inches: less than on a page, to be readable on a projector."""


@validate_frames
def plot_curves(runs: pd.DataFrame, curves: pd.DataFrame, metric: str | None = None) -> Picture:
    """Draw a metric by epoch, means over seeds with 95% intervals: one panel per arch and batching mode.

    A trial that stopped early keeps its last value to the end of its line.

    Parameters
    ----------
    runs
        The trials to draw: the frame of :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of its rows.
        They may differ in seed, in arch, init and batching, and in the params of these three.
    curves
        The frame of :func:`fnnexp.curves` for the same experiment; curves of other trials are ignored.
    metric
        `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`, `test_loss` or `test_accuracy`; the
        ranking metric if None. A loss axis is cut where a few curves would flatten the rest; curves that end
        above it are listed.

    Returns
    -------
    Picture
        A matplotlib Figure; a notebook shows it, and `.savefig("curves.png", facecolor="white")` writes it.

    Raises
    ------
    FnnexpError
        If the metric was not recorded, or the trials differ in a factor that one figure cannot show.
    """
    runs = filters.reported(runs)
    metric = _checked_metric(runs, metric)
    return _not_empty(draw_curves(runs, curves, metric, across=ACROSS), metric)


@validate_frames
def plot_heat_map(runs: pd.DataFrame, metric: str | None = None) -> Picture:
    """Draw a heat map of the mean over seeds by arch and init, in percent, one panel per batching mode.

    Parameters
    ----------
    runs
        As for :func:`plot_curves`; only finished trials are drawn.
    metric
        `val_accuracy`, `test_accuracy` or `train_accuracy`; the ranking metric if None.

    Returns
    -------
    Picture
        As for :func:`plot_curves`.

    Raises
    ------
    FnnexpError
        If no trial has finished, or the trials differ in a factor that one figure cannot show.
    """
    runs = filters.reported(runs)
    metric = _checked_metric(runs, metric)
    if not metric.endswith("accuracy"):
        raise FnnexpError(f"metric={metric!r}: must be an accuracy; write metric='val_accuracy'")
    return _not_empty(heat_map(runs, metric, widest=WIDEST), metric)


@validate_frames
def plot_histograms(runs: pd.DataFrame, quantity: str = "a", *, tracking_uri: str | None = None) -> Picture:
    """Draw how the values of each layer are distributed, by epoch: a row of panels for each initializer.

    Parameters
    ----------
    runs
        The trials to draw, trained with `diagnostics=full`: the frame of :func:`fnnexp.runs` or
        :func:`fnnexp.sweep`, or some of its rows. They may differ in seed and init.
    quantity
        `a`, the outputs of the hidden layers; or `dz`, the gradients, without their sign.
    tracking_uri
        As for :func:`fnnexp.runs`.

    Returns
    -------
    Picture
        As for :func:`plot_curves`.

    Raises
    ------
    FnnexpError
        If none of the trials has histograms, or they differ in a factor that one figure cannot show.
    """
    if quantity not in COUNTED:
        raise FnnexpError(
            f"quantity={quantity!r}: must be one of {', '.join(COUNTED)}; write 'a' for the outputs of the "
            "layers or 'dz' for their gradients"
        )
    runs = filters.reported(runs)
    for factor in [*others(runs), "arch", "batching"]:
        if len(runs[factor].drop_duplicates()) > 1:
            _refuse(runs, factor)
    histograms, reasons = of_runs(runs["run_id"], tracking_uri)
    groups = runs[runs["run_id"].isin(histograms)].groupby(labels_of(runs, "init"), observed=True)["run_id"]
    options = {str(init): averaged([histograms[run_id] for run_id in ids]) for init, ids in groups}
    figure = draw_histograms(options, quantity, widest=1.7 * WIDEST) if options else None
    if figure is None:
        why = (
            "they have no hidden layers" if options else next(iter(reasons), f"none has histograms; {REMEDY}")
        )
        raise FnnexpError(f"nothing to draw of these {len(runs):,} trials: {why}")
    return figure


def plot_boundary(
    network: Network | str | pd.Series | pd.DataFrame | Sequence[Network | str | pd.Series],
    *,
    experiment: str | None = None,
    tracking_uri: str | None = None,
) -> Picture:
    """Draw which class networks with two inputs predict in each place of the plane, and their training rows.

    `fnnexp.plot_boundary(fnnexp.best(runs))` draws the best trial on `data=moons`, say. A region has the
    colour of the predicted class, and is the stronger the surer the network is.

    Parameters
    ----------
    network
        A network from :func:`fnnexp.load`, or what `load` reads: a name or id, or a row of
        :func:`fnnexp.runs`. Or several of them, up to 12, in a list; or the frame of their runs. Each has a
        panel.
    experiment, tracking_uri
        As for :func:`fnnexp.load`.

    Returns
    -------
    Picture
        As for :func:`plot_curves`.

    Raises
    ------
    FnnexpError
        As :func:`fnnexp.load` does; also if a network does not have two inputs, if there are none or too many
        networks, or if the training data is not on this machine.

    Examples
    --------
    >>> fnnexp.plot_boundary(runs[runs["seed"] == 0])  # doctest: +SKIP
    """
    wanted: Sequence[Any] = network if isinstance(network, list | tuple) else [network]
    if isinstance(network, pd.DataFrame):
        wanted = [row for _, row in network.iterrows()]
    if not 1 <= len(wanted) <= MOST_NETWORKS:
        raise FnnexpError(
            f"plot_boundary draws 1 to {MOST_NETWORKS} networks, not {len(wanted)}; choose some, as in "
            "fnnexp.plot_boundary(fnnexp.best(runs)) or fnnexp.plot_boundary(runs[runs['seed'] == 0])"
        )
    panels = []
    for each in wanted:
        one = loaded(each, experiment, tracking_uri)
        accuracy = one.accuracy(*one.rows("train"))
        panels.append((one.name, f"training accuracy {percent(accuracy)}", regions(one)))
    return boundaries(panels)


def _checked_metric(runs: pd.DataFrame, metric: str | None) -> str:
    """Return the metric to draw. Raise if it is unknown or if one figure cannot show the trials."""
    metric = frames.ranking(runs) if metric is None else metric
    if metric not in METRICS:
        raise FnnexpError(f"metric={metric!r}: must be one of {', '.join(METRICS)}")
    for factor in others(runs):
        _refuse(runs, factor)
    return metric


def _not_empty(figure: Picture | None, metric: str) -> Picture:
    if figure is None:
        raise FnnexpError(f"nothing to draw: none of these finished trials has {metric}")
    return figure


def _refuse(runs: pd.DataFrame, factor: str) -> NoReturn:
    """Raise, because the trials differ in a factor that one figure cannot show."""
    value = next(iter(runs[factor].dropna()), None)
    raise FnnexpError(
        f"these trials differ in {factor}, which one figure cannot show; draw one value at a time: "
        f"runs[runs[{factor!r}] == {value!r}]"
    )
