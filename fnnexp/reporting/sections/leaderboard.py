"""The leaderboard: one row per configuration, the best first."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fnnexp.config.schema import CHOICES
from fnnexp.reporting.document.blocks import EVERYWHERE, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, mean_and_spread
from fnnexp.results import filters, statistics
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import AXES, as_text, by_version, factors_of, groups, labels_of, others
from fnnexp.results.ranking import ACCURACY, Ranking, ranking_of
from fnnexp.results.seeds import averaged
from fnnexp.tracking.run_format import STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fnnexp.reporting.document.blocks import Block

NOT_FINISHED = STATUSES[1:]
"""The statuses of trials without a result."""

MOST_SHOWN = 40
"""The largest number of configurations in the table on the page."""

MOST_NAMED = 5
"""The largest number of identical configurations that a note names."""


def section(runs: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the leaderboard section for a frame of runs."""
    ranking, runs = ranking or ranking_of(runs), averaged(runs)
    board = leaderboard(runs, metric=ranking.metric)
    whole = table(runs, board, ranking)
    blocks: list[Block] = [whole._replace(rows=whole.rows[:MOST_SHOWN])]
    if len(board) > MOST_SHOWN:
        note = f"The best {MOST_SHOWN} of {len(board):,} configurations; leaderboard.csv lists all."
        blocks.append(Text(note, EVERYWHERE, quiet=True))
    return Section("Leaderboard", blocks, {"leaderboard": board})


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
        - `seeds`: the number of finished trials; `diverged`, `failed`, `running`, `interrupted`: the numbers
          of other trials.
        - The ranking metric and test accuracy: the mean and the standard deviation (`…_sd`, NaN for one seed)
          over seeds; accuracies are fractions. Unless test accuracy ranks, only the first row has it.
        - `low`, `high`: the 95% interval of the ranking metric's mean; `interval`: how it was computed
          (:func:`fnnexp.results.statistics.mean_interval`).
        - `note`: the configurations of this frame that are numerically identical to the row's.

        Configurations without a finished trial come last.
    """
    runs = by_version(runs)
    ranking = ranking_of(runs, metric)
    runs = filters.once(averaged(runs))
    metrics = list(dict.fromkeys([ranking.metric, "test_accuracy"]))
    factors = factors_of(runs)
    by_configuration = [group for _, group in groups(runs, factors)]
    first = runs.loc[[group.index[0] for group in by_configuration], factors].reset_index(drop=True)
    numbers = pd.DataFrame(
        [over_seeds(group, metrics, ranking) for group in by_configuration], index=first.index
    )
    board = pd.concat([first, numbers], axis=1).assign(note=_notes(runs, by_configuration, factors))
    if board.empty:
        return board
    ascending = not ranking.is_accuracy
    board = board.sort_values(metrics[0], ascending=ascending, kind="stable", ignore_index=True)
    if metrics[0] != "test_accuracy":
        board.loc[1:, ["test_accuracy", "test_accuracy_sd"]] = np.nan
    return board


def over_seeds(group: pd.DataFrame, metrics: Sequence[str], ranking: Ranking) -> dict[str, Any]:
    """Return the statistics of one configuration, by column name of :func:`leaderboard`."""
    finished = group.loc[group["status"] == "finished", metrics[0]]
    interval = statistics.mean_interval(finished.dropna(), within=ranking.bounds)
    ends = {"low": interval.low, "high": interval.high, "interval": interval.method}
    return means_over_seeds(group, metrics) | ends


def means_over_seeds(group: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    """Return the statistics of :func:`over_seeds` without the interval, which is slow to compute."""
    finished = group[(group["status"] == "finished") & group[metrics[0]].notna()]
    numbers: dict[str, Any] = {"seeds": len(finished)}
    numbers |= {status: int((group["status"] == status).sum()) for status in NOT_FINISHED}
    for metric in metrics:
        numbers[metric] = statistics.mean(finished[metric])
        numbers[f"{metric}_sd"] = statistics.standard_deviation(finished[metric])
    return numbers


def _notes(runs: pd.DataFrame, groups: Sequence[pd.DataFrame], factors: Sequence[str]) -> list[str]:
    """Return a note per configuration that names numerically identical configurations: `same as sqrtmax`."""
    training = runs["identical_to"].fillna(runs["trial"])
    groups_with = defaultdict(list)
    for i, group in enumerate(groups):
        for trial in training[group.index]:
            groups_with[trial].append(i)
    notes = []
    for i, group in enumerate(groups):
        shared = Counter(j for trial in training[group.index] for j in groups_with[trial] if j != i)
        names = [
            _difference(group, groups[j], factors) + (f" in {n} of {len(group)}" if n < len(group) else "")
            for j, n in islice(shared.items(), MOST_NAMED)
        ]
        more = f" and {len(shared) - MOST_NAMED} more" if len(shared) > MOST_NAMED else ""
        notes.append(f"same as {', '.join(names)}{more}" if names else "")
    return notes


def _difference(group: pd.DataFrame, other: pd.DataFrame, factors: Sequence[str]) -> str:
    """Return the name of the other configuration, shortened to its options that differ."""
    options, other_options = ({f: as_text(g[f].iloc[0]) for f in factors} for g in (group, other))
    return " ".join(
        other_options[f] if f in CHOICES else f"{f}={other_options[f]}"
        for f in factors
        if other_options[f] != options[f]
    )


def table(runs: pd.DataFrame, board: pd.DataFrame, ranking: Ranking | None = None) -> Table:
    """Return the leaderboard to show. Labels of options include their params; notes list missing trials."""
    ranking = ranking or ranking_of(runs)
    metrics = list(dict.fromkeys([ranking.metric, "test_accuracy"]))
    factors = factors_of(runs)
    names = [factor for factor in factors if "." not in factor or factor.partition(".")[0] not in factors]
    names = [name for name in names if name.partition(".")[0] in AXES or name in others(runs)]
    labels = {factor: labels_of(board, factor) for factor in names if factor in CHOICES}
    rows = []
    for i, record in enumerate(board.to_dict("records")):
        row = [Cell(str(labels[f].iloc[i]) if f in labels else as_text(record[f])) for f in names]
        row.append(Cell(str(record["seeds"]), float(record["seeds"])))
        row.append(_cell(record, metrics[0], ranking))
        row.append(Cell(between(record["low"], record["high"], ranking)))
        for metric in metrics[1:]:  # only in the first row, so that no reader chooses by test results
            row.append(_cell(record, metric, ACCURACY) if i == 0 else Cell("", float(record[metric])))
        missing = [f"{record[status]} {status}" for status in NOT_FINISHED if record[status]]
        rows.append([*row, Cell("; ".join([*missing, record["note"]] if record["note"] else missing))])
    columns = [name.removeprefix("optimizer.") for name in names]
    titles = [
        f"{metric.replace('_accuracy', '')} %" if metric.endswith("accuracy") else metric
        for metric in metrics
    ]
    head = [*columns, "seeds", titles[0], "95% interval", *titles[1:], "note"]
    whole = Table("", head, rows, len(names), EVERYWHERE, file="leaderboard.csv", wide=titles[1:])
    return whole if any(row[-1].text for row in rows) else whole.without("note")


def _cell(record: Any, metric: str, ranking: Ranking) -> Cell:
    return Cell(mean_and_spread(record[metric], record[f"{metric}_sd"], ranking), float(record[metric]))
