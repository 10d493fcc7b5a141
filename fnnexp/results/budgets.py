"""Cut trials where their batching modes have cost the same: as many epochs, updates or seconds of training.

An epoch of full batches is one update, and one of single rows as many as there are rows. So modes that are
compared at equal epochs differ in updates by orders of magnitude. Here each is taken where it stood within
one budget: the least that a mode was trained for in all.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.nn.pieces.batching import MODES, Batching
from fnnexp.results import comparisons, filters
from fnnexp.results.arguments import validate_frames
from fnnexp.tracking.run_format import BEST, METRICS

UNITS = ("epochs", "updates", "seconds")
"""What training can be counted in."""

SPENT = "spent"
"""The column of :func:`at_equal` that says what a trial cost."""

ROUNDING = 1e-9
"""An epoch that ends later than the budget by less than this share ends within it."""

UNKNOWN = {
    "updates": "how many it made is not known, because its runs do not say how many images they train on",
    "seconds": "how long its epochs took is not recorded",
}
"""Why it is not known what an epoch cost."""


class AtEqual(NamedTuple):
    """Trials cut at equal cost.

    Attributes
    ----------
    runs
        As :func:`at_equal` returns them.
    costs
        A row for each batching mode in each cell (combination of the other factors): the other factors,
        `batching`; `cost` of an epoch and `epochs` that were trained; `budget` (float64, NaN where it is not
        known); `epoch` (Int64), where it was cut, 0 where no epoch ended within the budget.
    """

    runs: pd.DataFrame
    costs: pd.DataFrame


@validate_frames
def at_equal(runs: pd.DataFrame, curves: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Return the trials as they stood when their batching modes had cost the same.

    In each cell (combination of the other factors) the budget is what the mode that was trained least cost in
    all. Each mode is taken at its last epoch that ended within it, all its seeds at the same.

    Parameters
    ----------
    runs, curves
        :func:`fnnexp.runs` and :func:`fnnexp.curves` of the same experiment, or some of their rows.
    unit
        `epochs`, `updates` (steps of the optimizer) or `seconds` (`seconds_per_epoch`, the mean over seeds,
        measured while the trial trained in a stack with others, its validation and test included).

    Returns
    -------
    DataFrame
        A frame of runs as any other: :func:`fnnexp.compare`, :func:`fnnexp.leaderboard` and
        :func:`fnnexp.answer` take it. The metrics of finished trials are those of their epoch, which is in
        the column `epoch`; `spent` is its cost in the unit. A mode that ended no epoch within the budget is
        left out of that cell, and `.attrs["about"]` says so in a sentence.

    Raises
    ------
    FnnexpError
        When the unit is none, batching does not vary, or no two modes can be compared.

    Examples
    --------
    >>> equal = fnnexp.at_equal(runs, curves, "updates")  # doctest: +SKIP
    >>> fnnexp.compare(equal, "batching")  # doctest: +SKIP
    """
    if unit not in UNITS:
        raise FnnexpError(
            f"unit={unit!r} is no cost of training; write one of {', '.join(UNITS)}."
            f"{did_you_mean(str(unit), UNITS)}"
        )
    if not batching_varies(runs):
        raise FnnexpError(f"batching does not vary in these {len(runs)} trials, so they need no equal {unit}")
    cut, costs = cut_at_equal_cost(runs, curves, unit)
    said = " ".join(omitted_modes(costs, unit))
    if not batching_varies(cut[cut["status"] == "finished"]):
        raise FnnexpError(said or f"no two batching modes have a finished trial with curves, at equal {unit}")
    cut.attrs["about"] = said
    return cut


def batching_varies(runs: pd.DataFrame) -> bool:
    """Whether these trials have several options of batching that differ numerically."""
    return len(runs) > 0 and "batching" in comparisons.levels(filters.once(runs))


def cut_at_equal_cost(runs: pd.DataFrame, curves: pd.DataFrame, unit: str) -> AtEqual:
    """Return trials whose batching varies cut at equal cost, and what it was."""
    runs = filters.once(runs)
    modes = comparisons.levels(runs)
    factors = [str(name) for name in modes.columns]
    cell = [name for name in factors if name != "batching"]
    finished = runs["status"] == "finished"
    spent = cost_of_an_epoch(runs, unit)
    last = curves.groupby(curves["trial"].astype("str"))["epoch"].max()
    done = modes.assign(cost=spent, epochs=runs["trial"].astype("str").map(last).astype("float64"))[finished]
    costs = done.groupby(factors, observed=True).agg(cost=("cost", "mean"), epochs=("epochs", "min"))
    costs = costs.reset_index()
    total = costs["cost"] * costs["epochs"]
    costs["budget"] = (
        total.groupby([costs[name] for name in cell], observed=True).transform("min") if cell else total.min()
    )
    within = np.floor(costs["budget"] / costs["cost"] * (1 + ROUNDING))
    costs["epoch"] = within.where(total.notna(), 0).astype("Int64")
    epoch = modes.merge(costs, how="left", on=factors)["epoch"].where(finished)
    cut = runs.assign(epoch=epoch, **{SPENT: epoch.astype("float64") * spent})
    return AtEqual(_at_epoch(filters.part(cut, epoch.fillna(1) > 0), curves), costs)


def cost_of_an_epoch(runs: pd.DataFrame, unit: str) -> pd.Series:
    """Return what an epoch cost each trial (float64), NaN where that is not known.

    >>> runs = pd.DataFrame({"batching.mode": ["full", "mini", "sample"], "batching.size": [None, 128, None]})
    >>> cost_of_an_epoch(runs.assign(train_images=55_000), "updates").tolist()
    [1.0, 430.0, 55000.0]
    """
    if unit == "epochs":
        return pd.Series(1.0, runs.index)
    if unit == "seconds":
        seconds = runs["seconds_per_epoch"].astype("float64")
        return seconds.where(seconds > 0)
    nothing = pd.Series(np.nan, runs.index)
    mode = runs["batching.mode"] if "batching.mode" in runs else runs["batching"].astype("str")
    size, rows = (runs.get(column, nothing) for column in ("batching.size", "train_images"))
    updates = [_updates(*each) for each in zip(mode, size, rows, strict=True)]
    return pd.Series(updates, runs.index, "float64")


def _updates(mode: Any, size: Any, rows: Any) -> float:
    """Return the optimizer's steps in an epoch."""
    if mode == "full":
        return 1
    if mode not in MODES or pd.isna(rows) or (mode == "mini" and pd.isna(size)):
        return math.nan
    batching = Batching(mode, None if pd.isna(size) else int(size))
    return math.ceil(int(rows) / batching.batch_size(int(rows)))


def _at_epoch(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with the metrics that the trials with an `epoch` had at it."""
    points = curves[["trial", "epoch", "metric", "value"]].astype({"trial": "str", "metric": "str"})
    points = points.drop_duplicates(["trial", "epoch", "metric"], keep="last")
    ends = runs[["trial", "epoch"]].dropna().rename(columns={"epoch": "end"})
    points = points.merge(ends.astype({"trial": "str"}), on="trial", how="inner")
    last = points[points["epoch"] == points["end"]]
    values = last.set_index(["trial", "metric"])["value"].unstack("metric")  # noqa: PD010
    best = points[(points["metric"] == "val_accuracy") & (points["epoch"] <= points["end"])]
    best = best.sort_values(["value", "epoch"], ascending=[False, True]).drop_duplicates("trial")
    values = values.reindex(columns=list(METRICS))
    values[list(BEST)] = best.set_index("trial")[["value", "epoch"]].reindex(values.index)
    cut, trial = runs["epoch"].notna(), runs["trial"].astype("str")
    known = [column for column in values.columns if column in runs]
    return runs.assign(**{
        column: runs[column].where(~cut, trial.map(values[column]).astype(runs[column].dtype))
        for column in known
    })  # fmt: skip


def amount(value: float, unit: str) -> str:
    """Return so much training in words.

    >>> amount(1, "updates"), amount(55_000, "updates"), amount(0.12345, "seconds")
    ('1 update', '55,000 updates', '0.123 s')
    """
    if unit == "seconds":
        return f"{value:.3g} s"
    return f"{value:,.0f} {unit.removesuffix('s') if value == 1 else unit}"


def omitted_modes(costs: pd.DataFrame, unit: str) -> list[str]:
    """Return a sentence for each batching mode that can't be compared in some cell, with the numbers."""
    names = [str(name) for name in costs.columns[: list(costs.columns).index("batching")]]
    texts = []
    for option in dict.fromkeys(costs["batching"]):
        mine = costs[costs["batching"] == option]
        lacking = mine[mine["epoch"] == 0]
        if lacking.empty:
            continue
        text = f"At equal {unit} {option} can't be compared"
        if len(lacking) < len(mine):
            text += f" in {len(lacking)} of {len(mine)} combinations of {' and '.join(names)}"
        same = (costs[names] == lacking[names].iloc[0]).all(axis=1)
        texts.append(f"{text}: {_reason(lacking.iloc[0], costs[same], unit)}.")
    return texts


def _reason(row: pd.Series, cell: pd.DataFrame, unit: str) -> str:
    """Return why a mode ended no epoch within the budget of its cell."""
    if math.isnan(row["epochs"]):
        return "the curves hold none of its epochs"
    if math.isnan(row["cost"]):
        return UNKNOWN[unit]
    least = cell.iloc[int((cell["cost"] * cell["epochs"]).argmin())]
    needed = amount(math.ceil(row["cost"] / least["cost"]), "epochs")
    return (
        f"its first epoch ends after {amount(row['cost'], unit)}, and {least['batching']} was trained for "
        f"{amount(row['budget'], unit)} ({amount(least['epochs'], 'epochs')}; {needed} would do)"
    )
