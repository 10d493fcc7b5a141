"""Means and intervals over seeds for figures: by epoch, by value of a numeric factor, and at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.results import filters, frames, statistics
from fnnexp.results.factors import AXES, as_text, labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def of_curves(runs: pd.DataFrame, curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric's mean over seeds with its 95% interval, a row for each option and epoch.

    The columns are `arch`, `batching` and `init` (labels), `epoch`, `mean`, and the ends of the interval,
    `low` and `high`. It is Student's interval, because thousands of points are too many to resample. It is
    cut at 0 and, for an accuracy, at 1. With one seed both ends equal the mean. A trial that stopped early
    keeps its last value (:func:`carried_forward`).
    """
    runs = filters.once(runs)
    joined = carried_forward(of_trials(runs, curves, metric), runs, AXES, ["trial"])
    grouped = joined.groupby(["arch", "batching", "init", "epoch"], observed=True)["value"]
    means = grouped.agg(["mean", "std", "count", "min", "max"]).reset_index().astype({"epoch": "float64"})
    return _with_interval(means, most=1 if metric.endswith("accuracy") else None)


def of_trials(runs: pd.DataFrame, curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the curve of one metric for each trial, a row for each epoch.

    The columns are `trial`; `arch`, `init` and `batching` (labels); `seeds`, a text such as `seed 0`; `epoch`
    and `value`.
    """
    runs = filters.once(runs)
    labels = runs[["trial"]].assign(**{axis: labels_of(runs, axis) for axis in AXES})
    seeds = [name for name in ("seed", *frames.SEEDS) if name in runs]
    texts = [name + " " + runs[name].map(as_text) for name in seeds]
    labels["seeds"] = [", ".join(row) for row in zip(*texts, strict=True)] if texts else ""
    chosen = (curves["metric"] == metric) & curves["trial"].isin(runs["trial"])
    points = curves.loc[chosen, ["trial", "epoch", "value"]].astype({"trial": "str"})
    points = points.drop_duplicates(["trial", "epoch"], keep="last")
    return labels.merge(points, on="trial", how="inner")


def carried_forward(
    points: pd.DataFrame, runs: pd.DataFrame, line: Sequence[str], curve: Sequence[str]
) -> pd.DataFrame:
    """Return points of curves in which trials that stopped early keep their last value to the end.

    A line of a figure shows means over trials. If a trial left the mean where it stops, the line would jump
    there. With its last value repeated, the line ends at the mean by which the trials are ranked.

    Parameters
    ----------
    points
        Rows with `trial`, `epoch` and `value`.
    runs
        The trials.
    line, curve
        The columns whose values tell the lines of a figure apart, such as `init`, and those that tell the
        curves of single trials apart. A line ends at the last epoch that any of its trials has.
    """
    stopped = runs.loc[runs["stopped_epoch"].notna(), "trial"] if "stopped_epoch" in runs else ()
    if not points["trial"].isin(stopped).any():
        return points
    ends = points.groupby(list(line), observed=True, dropna=False)["epoch"].transform("max")
    last = points.assign(missing=ends - points["epoch"]).sort_values("epoch", kind="stable")
    last = last.drop_duplicates(list(curve), keep="last")
    last = last[last["trial"].isin(stopped)]
    added = last.loc[last.index.repeat(last["missing"].astype("int64"))]
    added["epoch"] += added.groupby(list(curve), observed=True).cumcount() + 1
    return pd.concat([points, added.drop(columns="missing")], ignore_index=True)


def last_epochs(runs: pd.DataFrame) -> pd.Series:
    """Return the last epoch of each finished trial (float64): that of stopping early, or else `epochs`.

    Frames that have each option only at its best number of epochs (:func:`fnnexp.results.numeric.at_best`)
    call this number `best epochs`. The result is NaN where the last epoch is unknown.
    """
    unknown = pd.Series(float("nan"), runs.index)
    epochs = next((runs[column] for column in ("epochs", "best epochs") if column in runs), unknown)
    return runs.get("stopped_epoch", unknown).astype("float64").fillna(epochs.astype("float64"))


def of_values(rows: pd.DataFrame, metric: str, axes: Sequence[str]) -> pd.DataFrame:
    """Return a metric's mean over seeds with its 95% interval, for each option and value of some factors.

    Parameters
    ----------
    rows
        Trials with values of these factors, as returned by :func:`fnnexp.results.numeric.along`.
    metric
        The column to average.
    axes
        The columns of the numeric factors, such as `optimizer.lr`.

    Returns
    -------
    DataFrame
        A row for each arch, init and batching (labels) and each value on the axes. The columns `mean`, `low`
        and `high` are as in :func:`of_curves`, over the finished seeds; the mean is NaN if there are none.
        `count` is the number of finished seeds, and `diverged` the number of diverged trials.
    """
    labels = {axis: labels_of(rows, axis) for axis in AXES}
    value = rows[metric].where(rows["status"] == "finished")
    trials = rows.assign(**labels, value=value, diverged=rows["status"] == "diverged")
    points = trials.groupby([*AXES, *axes], observed=True).agg(
        **{name: ("value", name) for name in ("mean", "std", "count", "min", "max")},
        diverged=("diverged", "sum"),
    )
    return _with_interval(points.reset_index(), most=1 if metric.endswith("accuracy") else None)


def of_ends(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the final accuracy and the training time of each option, as means over the finished seeds.

    There is a row for each arch, init and batching (labels). The columns `mean`, `low` and `high` are as in
    :func:`of_curves`, and `time` is in seconds.
    """
    runs = filters.once(runs)
    labels = {axis: labels_of(runs, axis) for axis in AXES}
    time = runs["seconds_per_epoch"] * last_epochs(runs).fillna(1)
    finished = runs.assign(**labels, value=runs[metric], time=time)[runs["status"] == "finished"]
    means = finished.groupby(list(AXES), observed=True).agg(
        **{name: ("value", name) for name in ("mean", "std", "count", "min", "max")}, time=("time", "mean")
    )
    return _with_interval(means, most=1).dropna(subset="mean").reset_index()


def _with_interval(means: pd.DataFrame, most: float | None) -> pd.DataFrame:
    half = statistics.t_half_width(means["std"], means["count"])
    low, high = (means["mean"] - half).clip(lower=0), (means["mean"] + half).clip(upper=most)
    return means.assign(low=low, high=high)


def with_both_seeds(points: pd.DataFrame) -> pd.DataFrame:
    """Return points of a figure whose `low` and `high` are the results of both seeds where there are two.

    An interval from two seeds is some nine standard deviations to each side, and would fill a figure.
    """
    two = points["count"] == TWO
    return points.assign(
        low=points["low"].mask(two, points["min"]), high=points["high"].mask(two, points["max"])
    )


TWO = 2

INTERVALS = "{} are 95% intervals (Student's t)."
BOTH_SEEDS = "{} the results of both seeds, because an interval of two would say little."


def about_spread(points: pd.DataFrame, bands: str, both: str) -> list[str]:
    """Return sentences on what is drawn beside the means of points of :func:`with_both_seeds`.

    `bands` is what the figure calls its intervals, and `both` begins the sentence on two seeds.
    """
    several, two = (points["count"] > TWO).any(), (points["count"] == TWO).any()
    where = f"With two seeds, {both[0].lower()}{both[1:]}" if several else both
    return [INTERVALS.format(bands)] * bool(several) + [BOTH_SEEDS.format(where)] * bool(two)
