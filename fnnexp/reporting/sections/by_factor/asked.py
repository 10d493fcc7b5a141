"""The answers to the questions of a sweep with ``until=settled``, or of ``--compare``: they lead the report.

A question is a pair of options of a factor, with everything else equal. Its test stays valid if results are
looked at while seeds are added (:mod:`fnnexp.results.race`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.reporting.document.blocks import EVERYWHERE, MOST_ROWS, Cell, Table, Text
from fnnexp.reporting.document.wording import listed
from fnnexp.results import comparisons
from fnnexp.results import race as races
from fnnexp.results.factors import tuples_of
from fnnexp.results.ranking import ranking_of
from fnnexp.tracking.run_format import Asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fnnexp.reporting.document.blocks import Block
    from fnnexp.results.comparisons import Configuration
    from fnnexp.results.race import Question, Race
    from fnnexp.results.ranking import Ranking

CLOSE = 4
"""If there are more combinations than this, the first are named and the rest are counted."""

MOST_SEEDS = 30
"""A question of ``--compare`` that needs more seeds than this is out of reach."""

REST = "The rest compares all configurations with each other, which takes more seeds."
ALL = (
    "The tables and figures below test the same pairs as a report of any sweep does, which takes more seeds."
)
"""The sentence before the rest of the report: ALL if the questions were about all pairs, otherwise REST."""


class Answers(NamedTuple):
    """The answers to the questions of `compare` or `until`.

    There are blocks for the report, a frame with a row for each pair of options, and the margin.
    """

    blocks: Sequence[Block]
    frame: pd.DataFrame
    margin: float | None

    def covers(self, configurations: Sequence[Configuration]) -> bool:
        """Return whether the pairs that were asked about are all pairs of these configurations."""
        return len(self.frame) == math.comb(len(configurations), 2)


def by_compare(runs: pd.DataFrame, compare: Sequence[str]) -> Asked:
    """Return the questions of ``--compare`` about these trials, in the form in which a sweep records its own.

    Raise if a factor does not vary, or if there are too many questions.
    """
    factors = [str(name) for name in comparisons.levels(runs).columns]
    for name in compare:
        if races.factor_named(name, factors) is None:
            raise FnnexpError(
                f"--compare {name}: does not vary in these trials, or follows from another factor; what "
                f"varies is {', '.join(factors) or 'nothing'}.{did_you_mean(name, factors)}"
            )
    levels = comparisons.levels(runs).astype("str").drop_duplicates()
    options = [dict(zip(factors, row, strict=True)) for row in tuples_of(levels)]
    chosen = {str(races.factor_named(name, factors)) for name in compare}
    if (count := races.count_questions(options, chosen)) > races.MOST_QUESTIONS:
        raise FnnexpError(
            f"--compare {','.join(compare)}: asks about {count:,} pairs of options, and at most "
            f"{races.MOST_QUESTIONS:,} can be compared; report on fewer options, as in KEY=VALUE,VALUE"
        )
    seeds = tuple(sorted(int(seed) for seed in runs["seed"].dropna().unique()))
    return Asked(tuple(compare), None, seeds, max(MOST_SEEDS, len(seeds)))


def answers(runs: pd.DataFrame, asked: Asked, metric: str | None, margin: float | None) -> Answers | None:
    """Return the answers to the questions of a sweep or of ``--compare``; None if these trials have none.

    Parameters
    ----------
    runs
        The trials of the report.
    asked
        The factors to compare, the margin and the seeds, as the sweep or ``--compare`` gave them.
    metric, margin
        The options of the report, which take the place of the sweep's.
    """
    rows = races.rows_of(runs, asked)
    if rows.empty:
        return None
    if margin is None and metric is None:
        margin = asked.margin
    ranking = ranking_of(rows, metric, margin)
    race = None if ranking.is_time else races.replayed(rows, ranking, asked)
    if race is None:
        return None
    factors = [*_by_factor(race.questions)]
    compare = [name for name in asked.compare if races.factor_named(name, factors)]
    texts = [_headline(race.questions, compare, ranking), *_unsettled(race)]
    first, *others = [Text(text, EVERYWHERE) for text in texts]
    frame = races.as_frame(race).astype({"seeds_needed": "Int64"})
    return Answers([first, _table(race, ranking), *others], frame, margin)


def _headline(questions: Sequence[Question], compare: Sequence[str], ranking: Ranking) -> str:
    """Return a sentence on how many questions are settled, and which options are better than all others."""
    n, settled = len(questions), sum(question.is_settled for question in questions)
    by = f" (compare={','.join(compare)})" if compare else ""
    if n == 1:
        end = "is settled" if settled else "is not settled"
        return f"The question that was asked{by} {end}: {races.answer(questions[0], ranking)}."
    if settled in (0, n):
        count = f"All {n:,}" if settled else f"None of the {n:,}"
        count = f"{count} questions that were asked{by} {'are' if settled else 'is'} settled"
    else:
        verb = "is" if settled == 1 else "are"
        count = f"{settled:,} of the {n:,} questions that were asked{by} {verb} settled"
    winners = [text for factor, of in _by_factor(questions).items() for text in _winners(factor, of)]
    return f"{count}{': ' * bool(winners)}{'; '.join(winners)}."


def _by_factor(questions: Iterable[Question]) -> Mapping[str, list[Question]]:
    factors: dict[str, list[Question]] = {}
    for question in questions:
        factors.setdefault(question.factor, []).append(question)
    return factors


def _winners(factor: str, questions: Iterable[Question]) -> list[str]:
    """Return which options of a factor are significantly better than others, in which combinations.

    In each combination of the other factors, the best options are those that beat some option and are beaten
    by none. The text names the options that all of the best beat.
    """
    by_cell: dict[str, list[Question]] = {}
    for question in questions:
        by_cell.setdefault(comparisons.name_of(question.cell), []).append(question)
    winners: dict[tuple[str, str], list[str]] = {}
    for cell, of_cell in by_cell.items():
        options = sorted({option for question in of_cell for option in question.options})
        beats: dict[str, set[str]] = {option: set() for option in options}
        for question in of_cell:
            if question.verdict == races.BETTER:
                beats[question.options[0]].add(question.options[1])
        best = [option for option in options if beats[option] and option not in set().union(*beats.values())]
        beaten = set.intersection(*(beats[option] for option in best)) if best else set()
        if beaten:
            names = [comparisons.name_of({factor: option}) for option in (*best, *sorted(beaten))]
            others = listed(names[len(best) :])
            if len(beaten) == len(options) - 1 > 1:
                others = f"every other {factor}"
            verb = "is" if len(best) == 1 else "are"
            winners.setdefault((f"{listed(names[: len(best)])} {verb}", others), []).append(cell)
    texts = []
    for (best_are, others), cells in winners.items():
        several = len(cells) > CLOSE
        named = [*cells[: CLOSE - 1], f"{len(cells) - CLOSE + 1} more"] if several else cells
        where = f" with {listed(named)}" if any(cells) else ""
        texts.append(f"{best_are} better than {others}{where}")
    return texts


def _unsettled(race: Race) -> list[str]:
    """Return a sentence on the pairs of options that are not settled, if there are several pairs."""
    verdicts = [question.verdict for question in race.questions if not question.is_guess]
    if len(race.questions) == 1:
        return []
    out, is_open = verdicts.count(races.OUT_OF_REACH), verdicts.count(races.OPEN)
    texts = []
    if guesses := len(race.questions) - len(verdicts):
        verb = "is" if guesses == 1 else "are"
        texts.append(f"{guesses:,} {verb} answered by which options learned at all")
    if out:
        texts.append(f"{out:,} cannot be settled with {race.most_seeds:,} seeds an option")
    if is_open:
        texts.append(f"{is_open:,} {'is' if is_open == 1 else 'are'} open, which further seeds may settle")
    return [f"Of {len(race.questions):,} questions, {listed(texts)}."] if texts else []


def _table(race: Race, ranking: Ranking) -> Table:
    """Return a table with the answer on each pair of options that was asked about.

    In each combination of the other factors, the settled pairs come first.
    """
    cells = [question.cell for question in race.questions]
    settled_first = sorted(race.questions, key=lambda each: (cells.index(each.cell), not each.is_settled))
    rows = [
        [
            Cell(comparisons.name_of(question.cell)),
            Cell(races.answer(question, ranking)),
            Cell(str(question.seeds), float(question.seeds)),
        ]
        for question in settled_first[:MOST_ROWS]
    ]
    head = ["with", "answer", "seeds"]
    table = Table("", head, rows, names=2, media=EVERYWHERE, file="asked.csv", total=len(race.questions))
    return table if any(row[0].text for row in rows) else table.without("with")
