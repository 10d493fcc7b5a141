"""The ranking metric by architecture, initializer and batching: a heat map, and a table."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.reporting.document.blocks import Cell, Section, Table, Text
from fnnexp.reporting.document.wording import mean_and_spread
from fnnexp.reporting.figures import Drawing, of_finished_trials
from fnnexp.reporting.plots.heat_map import heat_map
from fnnexp.reporting.sections.leaderboard import NOT_FINISHED, means_over_seeds
from fnnexp.results import filters, numeric
from fnnexp.results.factors import AXES, as_text, groups, labels_of, others
from fnnexp.results.ranking import Ranking, matching_accuracy, ranking_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def section(runs: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section of a frame of runs; where no accuracy ranks, the one beside it is drawn."""
    ranking = ranking or ranking_of(runs)
    metric, cells = matching_accuracy(runs, ranking), table(runs, ranking)
    best = numeric.at_best(runs, ranking)
    caption = f"{metric} in percent, the mean over seeds; darker is better, by the logit."
    drawing = Drawing("heat_map", caption, lambda part: heat_map(part, metric))
    note = f"{ranking.metric}{' in percent' * ranking.is_accuracy}; (2/3): two of three trials finished."
    if best is not runs:
        note += " Behind `at` are the best values of the numeric factors, at which it is shown."
    shown = [*of_finished_trials(runs, [drawing], ranking), *tables(best, table(best, ranking))]
    return Section(
        "By architecture, initializer and batching",
        [Text(note, quiet=True), *shown],
        {"table": cells.reset_index()},
    )


def table(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.DataFrame:
    """Return what ranks as text, an accuracy in percent: arch and init down, batching across.

    A cell is the mean and standard deviation over seeds, `95.12 ± 0.21`; `(2/3)` behind it: so many of the
    configuration's trials finished. A configuration without any says why, one that was not run is empty.
    Where other factors vary (`optimizer.lr`, `epochs`) they are index levels before arch and init. A param
    that varies below an axis is part of its label (`normal std=0.3`).
    """
    ranking = ranking or ranking_of(runs)
    runs = filters.once(runs)
    beside = others(runs)
    labelled = runs.assign(**{axis: labels_of(runs, axis) for axis in AXES})
    cells: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for key, group in groups(labelled, [*beside, *AXES]):
        *row, batching = (as_text(value) for value in key)
        cells[tuple(row)][batching] = _cell(group, ranking)
    columns = pd.Index([str(each) for each in labelled["batching"].cat.categories], name="batching")
    index = pd.MultiIndex.from_tuples(list(cells), names=[*beside, "arch", "init"]) if cells else None
    return pd.DataFrame(list(cells.values()), index=index, columns=columns).fillna("")


def _cell(group: pd.DataFrame, ranking: Ranking) -> str:
    metric = ranking.metric
    numbers = means_over_seeds(group, [metric])
    if not numbers["seeds"]:
        return ", ".join(status for status in NOT_FINISHED if numbers[status]) or "–"
    some = f" ({numbers['seeds']}/{len(group)})" if numbers["seeds"] < len(group) else ""
    places = group[[f"best {axis}" for axis in numeric.axes_at_best(group)]].iloc[0].dropna()
    at = f" at {', '.join(map(as_text, places))}" if len(places) else ""
    return mean_and_spread(numbers[metric], numbers[f"{metric}_sd"], ranking) + at + some


def tables(runs: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Table]:
    """Yield the table as shown: one for each combination of the factors beside the three axes."""
    beside = others(runs)
    levels = [cells.index.get_level_values(name) for name in beside]
    for key, part in list(cells.groupby(levels, sort=False)) if beside else [((), cells)]:
        rows = [
            [*map(Cell, map(str, index[-2:])), *map(Cell, map(str, row))]
            for index, row in zip(part.index, part.to_numpy(), strict=True)
        ]
        title = ", ".join(f"{name}={value}" for name, value in zip(beside, key, strict=True))
        yield Table(title, ["arch", "init", *map(str, part.columns)], rows, 2, file="table.csv")
