"""Means and intervals over seeds, as figures draw them: for each point of a curve, and for each end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.results import filters, statistics
from fnnexp.results.factors import AXES, labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def of_curves(runs: pd.DataFrame, curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return `mean low high` over seeds for each arch, init, batching (labels) and epoch.

    The interval is Student's t at every number of seeds: thousands of points are too many to resample. It
    ends where the metric does, at 0 and, for an accuracy, at 1; one seed has none, so its band is its line.
    """
    runs = filters.once(runs)
    labels = runs[["trial"]].assign(**{axis: labels_of(runs, axis) for axis in AXES})
    lines = curves.loc[curves["metric"] == metric, ["trial", "epoch", "value"]].astype({"trial": "str"})
    lines = lines.drop_duplicates(["trial", "epoch"], keep="last")
    joined = labels.merge(lines, on="trial", how="inner")
    grouped = joined.groupby(["arch", "batching", "init", "epoch"], observed=True)["value"]
    points = grouped.agg(["mean", "std", "count"]).reset_index().astype({"epoch": "float64"})
    return _with_interval(points, most=1 if metric.endswith("accuracy") else None)


def of_values(rows: pd.DataFrame, metric: str, axes: Sequence[str]) -> pd.DataFrame:
    """Return `mean low high` over the finished seeds for each arch, init, batching (labels) and place.

    Parameters
    ----------
    rows
        Trials along some axes: :func:`fnnexp.results.numeric.along`.
    axes
        The columns that say where a trial stands on them.

    Returns
    -------
    DataFrame
        Also `count`, how many seeds finished, and `diverged`, how many trials did. The mean is NaN where none
        finished. The interval is as of :func:`of_curves`.
    """
    labels = {axis: labels_of(rows, axis) for axis in AXES}
    value = rows[metric].where(rows["status"] == "finished")
    table = rows.assign(**labels, value=value, diverged=rows["status"] == "diverged")
    points = table.groupby([*AXES, *axes], observed=True).agg(
        mean=("value", "mean"), std=("value", "std"), count=("value", "count"), diverged=("diverged", "sum")
    )
    return _with_interval(points.reset_index(), most=1 if metric.endswith("accuracy") else None)


def of_ends(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return `mean low high` of an accuracy and `time` for each arch, init and batching (labels).

    They are over the finished seeds; `time` is the mean seconds of training.
    """
    runs = filters.once(runs)
    labels = {axis: labels_of(runs, axis) for axis in AXES}
    # Where epochs are a numeric factor, the trials are at their best number of them.
    epochs = next((runs[column] for column in ("epochs", "best epochs") if column in runs), 1)
    time = runs["seconds_per_epoch"] * epochs
    table = runs.assign(**labels, value=runs[metric], time=time)[runs["status"] == "finished"]
    means = table.groupby(list(AXES), observed=True).agg(
        mean=("value", "mean"), std=("value", "std"), count=("value", "count"), time=("time", "mean")
    )
    return _with_interval(means, most=1).dropna(subset="mean").reset_index()


def _with_interval(means: pd.DataFrame, most: float | None) -> pd.DataFrame:
    half = statistics.t_half_width(means["std"], means["count"])
    low, high = (means["mean"] - half).clip(lower=0), (means["mean"] + half).clip(upper=most)
    return means.assign(low=low, high=high)
