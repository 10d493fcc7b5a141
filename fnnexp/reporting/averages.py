"""Means and intervals over seeds for figures: by epoch, by value of a numeric factor, and at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.results import filters, frames, statistics
from fnnexp.results.factors import AXES, as_text, labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def of_curves(runs: pd.DataFrame, curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric's `mean`, `low` and `high` over seeds for each arch, init and batching label and epoch.

    A trial that stopped early keeps its last value (:func:`carried_forward`). `low` and `high` are the ends
    of Student's 95% interval, because thousands of points are too many to resample. The interval is cut at 0
    and, for an accuracy, at 1. With one seed both ends equal the mean.
    """
    runs = filters.once(runs)
    joined = carried_forward(of_trials(runs, curves, metric), runs, AXES, ["trial"])
    grouped = joined.groupby(["arch", "batching", "init", "epoch"], observed=True)["value"]
    means = grouped.agg(["mean", "std", "count", "min", "max"]).reset_index().astype({"epoch": "float64"})
    return _with_interval(means, most=1 if metric.endswith("accuracy") else None)


def of_trials(runs: pd.DataFrame, curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric's curves: `trial`, `seeds` (text), arch, init and batching label, `epoch`, `value`."""
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
    """Return points with the last values of trials that stopped early repeated to the end of their lines.

    A mean over the trials that remain would jump where another trial stops. With the last values repeated, a
    line ends at the mean by which its trials are ranked.

    Parameters
    ----------
    points
        Rows with `trial`, `epoch` and `value`.
    runs
        The trials.
    line, curve
        The columns whose values distinguish the lines of a figure, and those whose values distinguish the
        curves of single trials. A line ends at the last epoch of its trials.
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
    """Return the last epoch of each finished trial (float64): where it stopped early, or else `epochs`.

    In a frame of :func:`fnnexp.results.numeric.at_best`, `epochs` can be the column `best epochs`. The result
    is NaN where the last epoch is unknown.
    """
    unknown = pd.Series(float("nan"), runs.index)
    epochs = next((runs[column] for column in ("epochs", "best epochs") if column in runs), unknown)
    return runs.get("stopped_epoch", unknown).astype("float64").fillna(epochs.astype("float64"))


def of_values(rows: pd.DataFrame, metric: str, axes: Sequence[str]) -> pd.DataFrame:
    """Return `mean`, `low` and `high` over the finished seeds for each arch, init, batching and value.

    Parameters
    ----------
    rows
        Trials along some axes, as returned by :func:`fnnexp.results.numeric.along`.
    metric
        The column to average.
    axes
        The columns with the trials' values on these axes.

    Returns
    -------
    DataFrame
        Options are labels. Further columns are `count`, the number of finished seeds, and `diverged`, the
        number of diverged trials. The mean is NaN where no trial finished. The interval is that of
        :func:`of_curves`.
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
    """Return `mean`, `low` and `high` of an accuracy, and `time`, for each arch, init and batching (labels).

    All are over the finished seeds. `time` is the mean training time in seconds.
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
