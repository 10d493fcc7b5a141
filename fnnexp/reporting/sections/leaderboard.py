"""The leaderboard: one row per configuration, the best first."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fnnexp.config.schema import CHOICES
from fnnexp.reporting import tuned
from fnnexp.reporting.document.blocks import EVERYWHERE, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, mean_and_spread, plain
from fnnexp.results import filters, statistics
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import (
    AXES,
    as_text,
    as_texts,
    by_version,
    factors_of,
    group_numbers,
    labels_of,
    others,
)
from fnnexp.results.ranking import ACCURACY, Ranking, ranking_of
from fnnexp.results.seeds import averaged
from fnnexp.tracking.run_format import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fnnexp.reporting.document.blocks import Block

TITLE = "Leaderboard"

NOT_FINISHED = STATUSES[1:]
"""The statuses of trials without a result."""

MOST_SHOWN = 40
"""The largest number of configurations in the table on the page."""

MOST_NAMED = 5
"""The largest number of identical configurations that a note names."""


BESIDE = {
    "parameters": "parameters: weights and biases of the network",
    "updates": "updates: optimizer steps of a trial, mean over seeds",
    "gap": (
        "train − val: training accuracy minus validation accuracy in percentage points, mean over seeds; "
        "training accuracy is averaged over the last epoch, each row before the step that uses it"
    ),
}
"""Columns that do not rank the configurations, and what they mean. The table shows those that have values."""

TRAIN_VAL = "train − val"
"""The title of the column `gap`."""


def section(runs: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the leaderboard section for a frame of runs."""
    ranking, runs = ranking or ranking_of(runs), averaged(runs)
    board = _board(runs, ranking)
    shown = table(runs, board, ranking)
    blocks: list[Block] = [shown]
    notes = [*_about_interval(board), *about_test(shown), *(BESIDE[name] for name in _known(board))]
    if notes:
        blocks.append(Text(f"{'. '.join(notes)}.", quiet=True))
    return Section(TITLE, blocks, {"leaderboard": board})


@validate_frames
def leaderboard(runs: pd.DataFrame, *, metric: str | None = None) -> pd.DataFrame:
    """Return one row per configuration (everything but the seed), the best first.

    Parameters
    ----------
    runs
        The frame of :func:`fnnexp.runs`, or some of its rows. Each trial counts once.
    metric
        The ranking metric, as for :func:`fnnexp.compare`.

    Returns
    -------
    DataFrame
        - The factors that vary in this frame.
        - `seeds`: the number of finished trials; `diverged`, `failed`, `running`, `interrupted`, `pruned`:
          the numbers of other trials.
        - The ranking metric and test accuracy: the mean and the standard deviation (`…_sd`, NaN for one seed)
          over seeds; accuracies are fractions. Unless test accuracy ranks, only the first row has it.
        - `low`, `high`: the 95% interval of the ranking metric's mean; `interval`: how it was computed
          (:func:`fnnexp.results.statistics.mean_interval`).
        - `parameters` (Int64) and the mean of `updates`, as in :func:`fnnexp.runs`; `gap`: the mean of
          `train_accuracy` − `val_accuracy`, a fraction. Means are over finished trials.
        - `note`: the configurations of this frame that are numerically identical to the row's.

        Configurations without a finished trial come last.
    """
    runs = by_version(filters.longest(runs))
    ranking = ranking_of(runs, metric)
    rows, _ = tuned.reported(runs, ranking)
    return _board(rows, ranking)


def _board(runs: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return one row per configuration, with the columns of :func:`leaderboard`, the best first."""
    runs = filters.once(averaged(runs))
    metrics = list(dict.fromkeys([ranking.metric, "test_accuracy"]))
    factors = factors_of(runs)
    number = group_numbers(runs, factors)
    first = runs.loc[number.drop_duplicates().sort_values().index, factors].reset_index(drop=True)
    numbers = pd.DataFrame(over_seeds(runs, number, metrics, ranking), index=first.index)
    board = pd.concat([first, numbers, _beside(runs, number)], axis=1)
    board = board.assign(note=_notes(runs, number, first))
    if board.empty:
        return board
    ascending = not ranking.is_accuracy
    board = board.sort_values(metrics[0], ascending=ascending, kind="stable", ignore_index=True)
    if metrics[0] != "test_accuracy":
        board.loc[1:, ["test_accuracy", "test_accuracy_sd"]] = np.nan
    return board


def _beside(runs: pd.DataFrame, number: pd.Series) -> pd.DataFrame:
    """Return `parameters` and the means over seeds of `updates` and `gap`, a row for each configuration.

    `number` has the number of each trial's configuration. A value is NaN where the frame has no such column,
    for example because an older version made it.
    """
    unknown = pd.Series(np.nan, runs.index)
    columns = [
        runs.get(name, unknown) for name in ("parameters", "updates", "train_accuracy", "val_accuracy")
    ]
    parameters, updates, train, val = (column.astype("float64") for column in columns)
    finished = runs["status"] == "finished"
    of_trials = pd.DataFrame({"updates": updates, "gap": train - val}).where(finished)
    means = of_trials.groupby(number).mean()
    means.insert(0, "parameters", parameters.groupby(number).first().astype("Int64"))
    return means


def _about_interval(board: pd.DataFrame) -> list[str]:
    """Return how the intervals of the means were computed, [] if there are none."""
    methods = {*board["interval"]} if "interval" in board else set()
    if "bca" not in methods:
        return ["95% interval: of the mean over seeds, by Student's t"] if "t" in methods else []
    few = f" (with fewer than {statistics.BOOTSTRAP_FROM} seeds, Student's t)" if "t" in methods else ""
    return [
        f"95% interval: of the mean over seeds, by a BCa bootstrap{few}; a Student's t interval of the same "
        "mean, as in figures of curves, has other ends"
    ]


TEST = "test %"
"""The title of the column of test accuracy, if another metric ranks."""


def about_test(table: Table) -> list[str]:
    """Return why only the leader has a test accuracy; [] if the table has no such column, or a single row."""
    if TEST not in table.head or len(table.rows) < 2:
        return []
    return [f"{TEST}: only the leader's, so that no configuration is chosen by test results"]


def _known(board: pd.DataFrame) -> list[str]:
    """Return the names of the columns in :data:`BESIDE` that have a value in some row."""
    return [name for name in BESIDE if name in board and board[name].notna().any()]


def over_seeds(
    runs: pd.DataFrame, number: pd.Series, metrics: Sequence[str], ranking: Ranking
) -> list[dict[str, Any]]:
    """Return the statistics of each group of trials: counts, means, standard deviations and an interval.

    They have the names of the columns of :func:`leaderboard`. The interval is that of the first metric.
    `number` has the number of each trial's group, counted from 0.
    """
    rows = means_over_seeds(runs, number, metrics)
    for row, values in zip(rows, _values_of_groups(runs, number, metrics), strict=True):
        interval = statistics.mean_interval(values[0], within=ranking.bounds)
        row |= {"low": interval.low, "high": interval.high, "interval": interval.method}
    return rows


def means_over_seeds(runs: pd.DataFrame, number: pd.Series, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the statistics of :func:`over_seeds` without the interval, which is slow to compute."""
    counts = {status: (runs["status"] == status).groupby(number).sum() for status in NOT_FINISHED}
    missing = pd.DataFrame(counts).to_dict("records")
    rows = []
    for unfinished, values in zip(missing, _values_of_groups(runs, number, metrics), strict=True):
        row: dict[str, Any] = {"seeds": values.shape[1], **{str(s): int(n) for s, n in unfinished.items()}}
        for metric, of_metric in zip(metrics, values, strict=True):
            row[metric] = statistics.mean(of_metric)
            row[f"{metric}_sd"] = statistics.standard_deviation(of_metric)
        rows.append(row)
    return rows


def _values_of_groups(
    runs: pd.DataFrame, number: pd.Series, metrics: Sequence[str]
) -> Iterator[NDArray[np.float64]]:
    """Yield the metrics of each group's finished trials as an array of metrics × trials."""
    has_result = (runs["status"] == "finished") & runs[metrics[0]].notna()
    order = number[has_result].sort_values(kind="stable")
    values = np.ascontiguousarray(runs.loc[order.index, list(metrics)].to_numpy(np.float64).T)
    ends = np.searchsorted(order.to_numpy(), np.arange(int(number.max()) + 2 if len(number) else 1))
    for start, end in pairwise(ends.tolist()):
        yield values[:, start:end]


def _notes(runs: pd.DataFrame, number: pd.Series, first: pd.DataFrame) -> list[str]:
    """Return a note per configuration that names numerically identical configurations: `same as sqrtmax`.

    `first` has the factors of each configuration's first trial.
    """
    training = runs["identical_to"].fillna(runs["trial"])
    if training.is_unique:
        return [""] * len(first)
    order = number[training.duplicated(keep=False)].sort_values(kind="stable").index
    # Numerically identical trials share one training. Count how often each configuration has each training
    # that occurs more than once, and how often each such training occurs in each configuration.
    trainings: dict[int, Counter[str]] = defaultdict(Counter)
    configurations: dict[str, Counter[int]] = defaultdict(Counter)
    for i, trained in zip(number[order].tolist(), training[order].tolist(), strict=True):
        trainings[i][trained] += 1
        configurations[trained][i] += 1
    texts = {str(factor): as_texts(first[factor]).tolist() for factor in first}
    sizes = number.value_counts(sort=False)
    notes = [""] * len(first)
    for i, own in trainings.items():
        shared = Counter[int]()
        for trained, times in own.items():
            shared.update({j: times * n for j, n in configurations[trained].items() if j != i})
        names = [
            _difference(i, j, texts) + (f" in {n} of {sizes[i]}" if n < sizes[i] else "")
            for j, n in islice(shared.items(), MOST_NAMED)
        ]
        more = f" and {len(shared) - MOST_NAMED} more" if len(shared) > MOST_NAMED else ""
        notes[i] = f"same as {', '.join(names)}{more}" if names else ""
    return notes


def _difference(i: int, j: int, texts: Mapping[str, Sequence[str]]) -> str:
    """Return the name of configuration j, shortened to its options that differ from those of i."""
    return " ".join(
        options[j] if factor in CHOICES else f"{factor}={options[j]}"
        for factor, options in texts.items()
        if options[i] != options[j]
    )


def table(runs: pd.DataFrame, board: pd.DataFrame, ranking: Ranking | None = None) -> Table:
    """Return the first rows of the leaderboard as a table to show.

    The labels of options include their params that vary. Notes say how many trials did not finish.
    """
    ranking = ranking or ranking_of(runs)
    metrics = list(dict.fromkeys([ranking.metric, "test_accuracy"]))
    factors = factors_of(runs)
    names = [factor for factor in factors if "." not in factor or factor.partition(".")[0] not in factors]
    names = [name for name in names if name.partition(".")[0] in AXES or name in others(runs)]
    labels = {factor: labels_of(board, factor) for factor in names if factor in CHOICES}
    beside, rows = _known(board), []
    for i, record in enumerate(board.head(MOST_SHOWN).to_dict("records")):
        row = [Cell(str(labels[f].iloc[i]) if f in labels else as_text(record[f])) for f in names]
        row.append(Cell(str(record["seeds"]), float(record["seeds"])))
        row.append(_cell(record, metrics[0], ranking))
        row.append(Cell(between(record["low"], record["high"], ranking)))
        for metric in metrics[1:]:  # only in the first row, so that no reader chooses by test results
            row.append(_cell(record, metric, ACCURACY) if i == 0 else Cell("", float(record[metric])))
        row += [_cell_beside(name, record[name]) for name in beside]
        missing = [f"{record[status]} {status}" for status in NOT_FINISHED if record[status]]
        rows.append([*row, Cell("; ".join([*missing, record["note"]] if record["note"] else missing))])
    columns = [name.removeprefix("optimizer.") for name in names]
    titles = [
        f"{metric.replace('_accuracy', '')} %" if metric.endswith("accuracy") else metric
        for metric in metrics
    ]
    wide = [*titles[1:], *(TRAIN_VAL if name == "gap" else name for name in beside)]
    head = [*columns, "seeds", titles[0], "95% interval", *wide, "note"]
    name, total = "leaderboard.csv", len(board)
    whole = Table("", head, rows, len(names), EVERYWHERE, file=name, wide=wide, total=total)
    noted = len(board) and (board["note"].ne("").any() or board[[*NOT_FINISHED]].to_numpy().any())
    return whole if noted else whole.without("note")


def _cell(record: Any, metric: str, ranking: Ranking) -> Cell:
    return Cell(mean_and_spread(record[metric], record[f"{metric}_sd"], ranking), float(record[metric]))


def _cell_beside(name: str, value: Any) -> Cell:
    """Return the cell of a column in :data:`BESIDE`: `gap` in percentage points, counts as whole numbers."""
    if pd.isna(value):
        return Cell("–")
    return Cell(plain(value) if name == "gap" else f"{value:,.0f}", float(value))
