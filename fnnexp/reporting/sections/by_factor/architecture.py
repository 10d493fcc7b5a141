"""The ranking metric by architecture, initializer and batching, as a heat map and a table."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.errors import plural
from fnnexp.reporting import averages
from fnnexp.reporting.document.blocks import MOST_ROWS, PAGE, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import mean_and_spread
from fnnexp.reporting.figures import Drawing, of_finished_trials, shared_scale
from fnnexp.reporting.plots.heat_map import SHADES, heat_map
from fnnexp.reporting.sections.leaderboard import MOST_SHOWN, NOT_FINISHED, means_over_seeds
from fnnexp.results import comparisons, filters, numeric
from fnnexp.results.factors import AXES, as_text, factors_of, group_numbers, labels_of, others
from fnnexp.results.ranking import Ranking, matching_accuracy, ranking_of
from fnnexp.results.seeds import averaged

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_TABLES = 40
"""The largest number of tables on the page; table.csv has all combinations."""

TITLE = "By architecture, initializer and batching"


def section(runs: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section with the results of each combination of architecture, initializer and batching mode.

    It has a heat map of an accuracy, also where a loss or a time ranks, and tables of the ranking metric. If
    none of these three factors varies, the section is empty: a table would have a single cell. Where the rows
    of the leaderboard have the means of all cells, there are no tables, and if also only one factor varies,
    the section is empty: its heat map would be a line of these means.
    """
    ranking, runs = ranking or ranking_of(runs), averaged(runs)
    metric, cells = matching_accuracy(runs, ranking), table(runs, ranking)
    best = numeric.at_best(runs, ranking)
    data = {"table": cells.reset_index()}
    factors = {*map(str, comparisons.levels(best))}
    rows = group_numbers(runs, factors_of(runs)).nunique()
    is_repeated = best is runs and rows <= MOST_SHOWN and metric == ranking.metric
    if (is_repeated and len(factors) == 1) or ((others(best) or best is not runs) and not factors & {*AXES}):
        return Section(TITLE, [], data)
    caption = f"{metric} in percent, mean over seeds. {SHADES}"
    finished = best[best["status"] == "finished"]
    scale = shared_scale(finished, others(best), lambda trials: averages.of_ends(trials, metric)["mean"])
    drawing = Drawing("heat_map", caption, lambda trials: heat_map(trials, metric, scale=scale))
    unit = " in percent" * ranking.is_accuracy
    if is_repeated:
        drawn = of_finished_trials(runs, [drawing], ranking)
        same = Text("The leaderboard has the same means, with their spread over seeds.", PAGE, quiet=True)
        return Section(TITLE, [*drawn, same], data)
    shown_cells = table(best, ranking)
    texts = " ".join(map(str, shown_cells.to_numpy().ravel()))
    note = f"{ranking.metric}{unit}: mean{' ± standard deviation over seeds' * ('±' in texts)}."
    if mark := re.search(r"\((\d+)/(\d+)\)", texts):
        note += f" {mark[0]}: {mark[1]} of {mark[2]} trials finished."
    if best is not runs:
        note += " Each cell is at its best values of the numeric factors, which follow the word 'at'."
    shown = [*of_finished_trials(runs, [drawing], ranking), *tables(best, shown_cells)]
    return Section(TITLE, [Text(note, quiet=True), *shown], data)


def table(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.DataFrame:
    """Return the ranking metric as text, accuracies in percent; rows are arch and init, columns batching.

    A cell is the mean and standard deviation over seeds, `95.12 ± 0.21`, followed by `(2/3)` if only two of
    three trials finished. If no trial finished, the cell says why; if no trial was run, the cell is empty.
    Other factors that vary (`optimizer.lr`, `epochs`) are index levels before arch and init. The label of an
    option includes those of its params that vary (`normal std=0.3`).
    """
    ranking = ranking or ranking_of(runs)
    runs = filters.once(runs)
    factors = others(runs)
    labelled = runs.assign(**{axis: labels_of(runs, axis) for axis in AXES})
    number = group_numbers(labelled, by := [*factors, *AXES])
    first = labelled.loc[number.drop_duplicates().sort_values().index]
    numbers = means_over_seeds(labelled, number, [ranking.metric])
    counts, best_values = number.value_counts(sort=False).sort_index(), _best_values(first)
    cells: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    keys = first[by].itertuples(index=False, name=None)
    for key, values, trials, at in zip(keys, numbers, counts, best_values, strict=True):
        *row, batching = (as_text(value) for value in key)
        cells[tuple(row)][batching] = _cell(values, trials, at, ranking)
    columns = pd.Index([str(option) for option in labelled["batching"].cat.categories], name="batching")
    index = pd.MultiIndex.from_tuples(list(cells), names=[*factors, "arch", "init"]) if cells else None
    return pd.DataFrame(list(cells.values()), index=index, columns=columns).fillna("")


def _best_values(first: pd.DataFrame) -> list[str]:
    """Return the best values of the numeric factors in each row of a frame, as text."""
    columns = [first[f"best {axis}"].tolist() for axis in numeric.axes_at_best(first)]
    rows = zip(*columns, strict=True) if columns else [()] * len(first)
    return [", ".join(as_text(value) for value in row if not pd.isna(value)) for row in rows]


def _cell(numbers: dict[str, Any], trials: int, best_values: str, ranking: Ranking) -> str:
    metric = ranking.metric
    if not numbers["seeds"]:
        return ", ".join(status for status in NOT_FINISHED if numbers[status]) or "–"
    finished = f" ({numbers['seeds']}/{trials})" if numbers["seeds"] < trials else ""
    at = f" at {best_values}" if best_values else ""
    return mean_and_spread(numbers[metric], numbers[f"{metric}_sd"], ranking) + at + finished


def tables(runs: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Table | Text]:
    """Yield the tables to show, one per combination of the factors other than arch, init and batching.

    `cells` is the result of :func:`table`. At most :data:`MOST_TABLES` tables are shown, and a sentence has
    the number of the rest.
    """
    factors = others(runs)
    levels = [cells.index.get_level_values(name) for name in factors]
    parts = cells.groupby(levels, sort=False) if factors else [((), cells)]
    for values, group in islice(parts, MOST_TABLES):
        shown = group.head(MOST_ROWS)
        rows = [
            [*map(Cell, map(str, index[-2:])), *map(Cell, map(str, row))]
            for index, row in zip(shown.index, shown.to_numpy(), strict=True)
        ]
        title = ", ".join(f"{name}={value}" for name, value in zip(factors, values, strict=True))
        head = ["arch", "init", *map(str, group.columns)]
        yield Table(title, head, rows, 2, file="table.csv", total=len(group))
    if (more := len(parts) - MOST_TABLES) > 0:
        yield Text(f"table.csv has {plural(more, 'more combination')} of {', '.join(factors)}.", quiet=True)
