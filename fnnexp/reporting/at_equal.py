"""Compare batching modes at equal cost: after equal numbers of epochs, updates or seconds of training.

An epoch of full batches is one update; an epoch of single rows is one update per row. So modes that are
compared at equal epochs differ in updates by orders of magnitude.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.results import comparisons, filters, frames
from fnnexp.results.arguments import validate_frames
from fnnexp.tracking.run_format import BEST, METRICS

UNITS = ("epochs", "updates", "seconds")
"""The units in which training can be counted."""

SPENT = "spent"
"""The column of :func:`at_equal` with the cost of a trial until the epoch at which it is compared."""

ROUNDING = 1e-9
"""An epoch that exceeds the budget by less than this fraction counts as within the budget."""

UNKNOWN = {
    "updates": "how many it made is unknown, because its runs do not record how many rows they train on",
    "seconds": "how long its epochs took is not recorded",
}
"""Reasons why the cost of an epoch is unknown, by unit."""


class AtEqual(NamedTuple):
    """Trials as they were when their batching modes had cost the same, and these costs.

    Attributes
    ----------
    runs
        The trials: a frame of runs with the metrics at these epochs, as :func:`at_equal` returns it.
    costs
        A row for each batching mode in each combination of the other factors. The columns are the other
        factors; `batching`; `cost`, of one epoch; `epochs`, the number that were trained; `budget`, the cost
        up to which the modes are compared (float64, NaN if unknown); `epoch` (Int64), the last epoch within
        the budget, 0 if there is none.
    """

    runs: pd.DataFrame
    costs: pd.DataFrame


@validate_frames
def at_equal(runs: pd.DataFrame, curves: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Return the trials with the metrics that they had when their batching modes had cost the same.

    In each cell (combination of the other factors), the budget is the total cost of the mode that cost least.
    Each mode is compared at its last epoch within the budget, the same epoch for all its seeds.

    Parameters
    ----------
    runs, curves
        The frames of :func:`fnnexp.runs` and :func:`fnnexp.curves` for one experiment, or some of their rows.
    unit
        How cost is counted: `epochs`, `updates` (steps of the optimizer) or `seconds`. Seconds are the means
        of `seconds_per_epoch` over seeds. They include evaluation, and were measured while trials trained
        together in stacks.

    Returns
    -------
    DataFrame
        A frame of runs for :func:`fnnexp.compare`, :func:`fnnexp.leaderboard` and :func:`fnnexp.answer`.
        Finished trials have the metrics of the epoch at which they are compared. The columns `epoch` and
        `spent` have the number of this epoch and the cost until its end, in the unit. If no epoch of a mode
        ends within the budget of a cell, the mode is omitted from that cell, and a sentence in
        `.attrs["about"]` says so.

    Raises
    ------
    FnnexpError
        If the unit is unknown, batching does not vary, or no two modes can be compared.

    Examples
    --------
    >>> equal = fnnexp.at_equal(runs, curves, "updates")  # doctest: +SKIP
    >>> fnnexp.compare(equal, "batching")  # doctest: +SKIP
    """
    if unit not in UNITS:
        raise FnnexpError(
            f"unit={unit!r}: not a unit of training cost; write one of {', '.join(UNITS)}."
            f"{did_you_mean(str(unit), UNITS)}"
        )
    if not batching_varies(runs):
        these = "this trial" if len(runs) == 1 else f"these {len(runs):,} trials"
        raise FnnexpError(
            f"batching does not vary in {these}, so at_equal has no modes to compare; pass trials of several "
            "batching modes, as from a sweep with batching=full,mini"
        )
    cut, costs = cut_at_equal_cost(runs, curves, unit)
    about = " ".join(omitted_modes(costs, unit))
    if not batching_varies(cut[cut["status"] == "finished"]):
        raise FnnexpError(
            about
            or f"no two batching modes have a finished trial with curves to compare at equal {unit}; pass "
            "the runs and the curves of finished trials of several modes"
        )
    cut.attrs["about"] = about
    return cut


def batching_varies(runs: pd.DataFrame) -> bool:
    """Return whether batching is a factor of these trials: several options that train differently."""
    return len(runs) > 0 and "batching" in comparisons.levels(filters.once(runs))


def cut_at_equal_cost(runs: pd.DataFrame, curves: pd.DataFrame, unit: str) -> AtEqual:
    """Return the trials as :func:`at_equal` does, and the costs by which their epochs were chosen."""
    runs = filters.once(runs)
    options = comparisons.levels(runs)
    factors = [str(name) for name in options.columns]
    cell = [name for name in factors if name != "batching"]
    finished = runs["status"] == "finished"
    epoch_cost = cost_of_an_epoch(runs, unit)
    last = curves.groupby("trial", observed=True)["epoch"].max()
    last.index = last.index.astype("str")
    finished_options = options.assign(
        cost=epoch_cost, epochs=runs["trial"].astype("str").map(last).astype("float64")
    )[finished]
    costs = finished_options.groupby(factors, observed=True).agg(
        cost=("cost", "mean"), epochs=("epochs", "min")
    )
    costs = costs.reset_index()
    total = costs["cost"] * costs["epochs"]
    costs["budget"] = (
        total.groupby([costs[name] for name in cell], observed=True).transform("min") if cell else total.min()
    )
    affordable = np.floor(costs["budget"] / costs["cost"] * (1 + ROUNDING))
    costs["epoch"] = affordable.where(total.notna(), 0).astype("Int64")
    epoch = options.merge(costs, how="left", on=factors)["epoch"].where(finished)
    cut = runs.assign(epoch=epoch, **{SPENT: epoch.astype("float64") * epoch_cost})
    if "updates" in runs:
        updates = epoch.astype("float64") * frames.updates_of_an_epoch(runs)
        cut["updates"] = updates.astype("Int64").fillna(runs["updates"])
    return AtEqual(_at_epoch(filters.part(cut, epoch.fillna(1) > 0), curves), costs)


def cost_of_an_epoch(runs: pd.DataFrame, unit: str) -> pd.Series:
    """Return what one epoch of each trial costs in a unit of :data:`UNITS` (float64), NaN if unknown.

    >>> runs = pd.DataFrame({"batching.mode": ["full", "mini", "sample"], "batching.size": [None, 128, None]})
    >>> cost_of_an_epoch(runs.assign(train_images=55_000), "updates").tolist()
    [1.0, 430.0, 55000.0]
    """
    if unit == "epochs":
        return pd.Series(1.0, runs.index)
    if unit == "seconds":
        seconds = runs["seconds_per_epoch"].astype("float64")
        return seconds.where(seconds > 0)
    return frames.updates_of_an_epoch(runs)


def _at_epoch(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with each trial's metrics at the end of the epoch in its column `epoch`.

    The metrics are taken from the curves; the best validation accuracy is the best until then. Trials whose
    `epoch` is missing are unchanged.
    """
    ends = runs.dropna(subset="epoch").astype({"trial": "str"}).set_index("trial")["epoch"]
    end = curves["trial"].map(ends).astype("Int64")
    of_best = (curves["metric"] == "val_accuracy") & (curves["epoch"] < end)
    chosen = (of_best | (curves["epoch"] == end)).fillna(False)
    points = curves.loc[chosen, ["trial", "epoch", "metric", "value"]].assign(end=end[chosen])
    points = points.astype({"trial": "str", "metric": "str"})
    points = points.drop_duplicates(["trial", "epoch", "metric"], keep="last")
    last = points[points["epoch"] == points["end"]]
    values = last.set_index(["trial", "metric"])["value"].unstack("metric")  # noqa: PD010
    best = points[points["metric"] == "val_accuracy"]
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
    """Return an amount of training in words.

    >>> amount(1, "updates"), amount(55_000, "updates"), amount(0.12345, "seconds")
    ('1 update', '55,000 updates', '0.123 s')
    """
    if unit == "seconds":
        return f"{value:.3g} s"
    return f"{value:,.0f} {unit.removesuffix('s') if value == 1 else unit}"


def omitted_modes(costs: pd.DataFrame, unit: str) -> list[str]:
    """Return a sentence for each batching mode that cannot be compared at equal cost, and why.

    It says in how many combinations of the other factors, if not in all. `costs` is that of
    :class:`AtEqual`.
    """
    names = [str(name) for name in costs.columns[: list(costs.columns).index("batching")]]
    texts = []
    for option in dict.fromkeys(costs["batching"]):
        costs_of_mode = costs[costs["batching"] == option]
        omitted = costs_of_mode[costs_of_mode["epoch"] == 0]
        if omitted.empty:
            continue
        text = f"At equal {unit} {option} can't be compared"
        if len(omitted) < len(costs_of_mode):
            text += f" in {len(omitted)} of {len(costs_of_mode)} combinations of {' and '.join(names)}"
        same_cell = (costs[names] == omitted[names].iloc[0]).all(axis=1)
        texts.append(f"{text}: {_reason(omitted.iloc[0], costs[same_cell], unit)}.")
    return texts


def _reason(row: pd.Series, cell: pd.DataFrame, unit: str) -> str:
    """Return why no epoch of a batching mode ended within its budget of epochs, updates or seconds.

    `row` has the costs of the mode, and `cell` those of all modes in the same combination of factors.
    """
    if math.isnan(row["epochs"]):
        return "the curves contain none of its epochs"
    if math.isnan(row["cost"]):
        return UNKNOWN[unit]
    least = cell.iloc[int((cell["cost"] * cell["epochs"]).argmin())]
    needed = amount(math.ceil(row["cost"] / least["cost"]), "epochs")
    return (
        f"its first epoch takes {amount(row['cost'], unit)}, but {least['batching']} was trained for only "
        f"{amount(row['budget'], unit)} ({amount(least['epochs'], 'epochs')}; {needed} would be enough)"
    )
