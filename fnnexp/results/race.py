"""Decide, after each round of seeds, which questions of a sweep are settled.

A question is a pair of options of one factor, with everything else equal: is `he` better than `max` on
`tanh_128` with mini-batches? After each round, the two options are compared on the seeds that both finished.
The tests are valid at every look (:func:`statistics.safe_t_test`,
:func:`statistics.safe_equivalence_test` and, where an option failed to learn in some seeds but not in others,
:func:`statistics.safe_sign_test`).

Each question is settled at the level :data:`ERROR_RATE`, divided by the number of all questions
(Bonferroni). The mean differences that its test does not reject at this level are an interval, which contains
the true difference at all looks together. `better` says that 0 is not in the interval, `equivalent` that all
of it is within the margin. So with at least 95% probability all verdicts are right, however many rounds there
are and whenever they end. (Holm's procedure is not valid here: options that are rightly called equivalent
could as well have been called better, so the other questions must not profit.) A settled question keeps its
verdict.

The test assumes that differences are roughly normal. `benchmarks/races.py` measures how often a verdict is
wrong on real seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations, count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from fnnexp.results import comparisons, filters, statistics
from fnnexp.results.factors import group_numbers, tuples_of
from fnnexp.results.frames import CHECKSUM, params_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fnnexp.results.ranking import Ranking
    from fnnexp.tracking.run_format import Asked

OPEN, BETTER, EQUIVALENT, OUT_OF_REACH = "open", "better", "equivalent", "out of reach"

PRIOR = 4.0
"""τ of the safe t test. It is larger than for a report, whose seeds are more and whose questions are fewer.

With many questions an effect must be large to be seen in few seeds. On the card grid's mini-batches, τ of 2
takes 6.4 seeds an option, and 4 takes 5.9 (`benchmarks/races.py`).
"""

ERROR_RATE = 0.04
"""The level of all verdicts of a sweep together.

It is a little below 5%, because real differences are somewhat skewed: see `benchmarks/races.py`.
"""

PLAUSIBLE = 0.975
"""The one-sided confidence at which a spread counts as plausible (not smaller), and a difference (not
larger)."""

FROM_SEEDS = 4
"""With fewer seeds than this, no question is out of reach."""

MOST_QUESTIONS = 2000
"""The largest number of questions of a sweep. With more, each question would need many seeds."""

MOST_NEEDED = 10_000
"""If a question needs more seeds than this, the number is not given."""


def more_seeds(used: int) -> int:
    """Return how many seeds the next round adds for each configuration that is still in question.

    >>> [more_seeds(used) for used in (3, 7, 8, 20)]
    [1, 1, 2, 5]
    """
    return max(1, used // 4)


def rounds(first: Collection[int], most: int) -> Iterator[list[int]]:
    """Yield the seeds of each round, `most` seeds in all rounds together.

    The first round has the given seeds. Later rounds have the unused numbers above the lowest of them.

    >>> list(rounds([5, 3], 6))
    [[3, 5], [4], [6], [7], [8]]
    """
    used = sorted({*first})
    unused = (seed for seed in count(used[0]) if seed not in first)
    later = islice(unused, max(most - len(used), 0))
    total, seeds = 0, used
    while seeds:
        yield seeds
        total += len(seeds)
        seeds = list(islice(later, more_seeds(total)))


class Results(NamedTuple):
    """The results of a sweep's trials as arrays of configurations × seeds.

    Attributes
    ----------
    options
        Each configuration's option of each factor, as in `{"init": "he"}`.
    goodness
        The ranking metric as a number of which more is better; NaN where no trial finished.
    failed
        Whether the trial failed to learn.
    seeds
        The seeds, one for each column.
    """

    options: list[dict[str, str]]
    goodness: NDArray[np.float64]
    failed: NDArray[np.bool_]
    seeds: Sequence[int] = ()

    def of_seeds(self, seeds: Collection[int]) -> Results:
        """Return the results with only the columns of some seeds."""
        columns = [i for i, seed in enumerate(self.seeds) if seed in seeds]
        return Results(
            self.options,
            self.goodness[:, columns],
            self.failed[:, columns],
            [self.seeds[i] for i in columns],
        )


def results_of(runs: pd.DataFrame, ranking: Ranking) -> Results:
    """Return the results of these trials. Configurations that train identically share a row."""
    runs = filters.once(runs)
    levels = comparisons.levels(runs)
    names = [str(name) for name in levels.columns]
    keys = tuples_of(levels.astype("str"))
    number = {key: i for i, key in enumerate(sorted(set(keys)))}
    rows = np.array([number[key] for key in keys])
    columns, seeds = pd.factorize(runs["seed"], sort=True)
    finished = (runs["status"] == "finished").to_numpy(bool)
    shape = len(number), len(seeds)
    goodness, failed = np.full(shape, np.nan), np.zeros(shape, bool)
    place = rows[finished], columns[finished]
    goodness[place] = ranking.goodness(runs[ranking.metric].astype("float64")).to_numpy()[finished]
    failed[place] = comparisons.failed_to_learn(runs, ranking).to_numpy(bool)[finished]
    options = [dict(zip(names, key, strict=True)) for key in number]
    return Results(options, goodness, failed, [int(seed) for seed in seeds])


@dataclass
class Question:
    """The question which of two configurations that differ in one factor is better; and its answer so far.

    Attributes
    ----------
    factor
        The factor in which the two configurations differ.
    cell
        The options of all other factors, which the two configurations share.
    options
        The two options of the factor; once the question is settled, the better one is first.
    rows
        The rows of the two configurations in :class:`Results`, in the order of `options`.
    verdict
        `open`, `better`, `equivalent` or `out of reach`.
    p
        The p value of the verdict, not corrected for the number of questions; 1 before the first test.
    difference
        By how much the first option is better, averaged over the seeds.
    seeds
        The number of seeds that both options had finished when the question was last decided.
    needed
        About how many seeds would settle the question; None if it is settled, unknown or above
        :data:`MOST_NEEDED`.
    learned
        In how many of the seeds each option learned, in the order of `options`.
    """

    factor: str
    cell: dict[str, str]
    options: tuple[str, str]
    rows: tuple[int, int]
    verdict: str = OPEN
    p: float = 1.0
    difference: float = float("nan")
    seeds: int = 0
    needed: int | None = None
    learned: tuple[int, int] = (0, 0)

    @property
    def is_settled(self) -> bool:
        """Whether one option is better, or both are equivalent."""
        return self.verdict in (BETTER, EQUIVALENT)

    @property
    def is_guess(self) -> bool:
        """Whether no test settles the question, but none is needed: the second option learned in no seed.

        There are two or more seeds, and the first option learned in all of them, or in none either.
        """
        return not self.is_settled and self.seeds > 1 and self.learned in ((0, 0), (self.seeds, 0))


def questions_of(options: Sequence[Mapping[str, str]], factors: Iterable[str]) -> list[Question]:
    """Return a question for each pair of configurations that differ in one of the factors alone."""
    questions = []
    for factor in factors:
        cells: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for row, of in enumerate(options):
            cell = tuple((name, option) for name, option in of.items() if name != factor)
            cells.setdefault(cell, []).append(row)
        questions += [
            Question(factor, dict(cell), (options[i][factor], options[j][factor]), (i, j))
            for cell, rows in cells.items()
            for i, j in combinations(rows, 2)
        ]
    return questions


def count_questions(options: Sequence[Mapping[str, str]], factors: Iterable[str]) -> int:
    """Return how many questions :func:`questions_of` would return, without making them."""
    return sum(
        math.comb(size, 2)
        for factor in factors
        for size in Counter(
            tuple(option for name, option in of.items() if name != factor) for of in options
        ).values()
    )


@dataclass
class Race:
    """Decides the questions of a sweep (which of two options is better) after each round of seeds.

    Parameters
    ----------
    questions
        All questions of the sweep, from :func:`questions_of`.
    limit
        Options whose mean difference is within ±limit are equivalent; NaN: no options are.
    most_seeds
        The largest number of seeds for an option.
    family
        The number of questions that share :data:`ERROR_RATE`, if `questions` are only some of them.
    """

    questions: list[Question]
    limit: float
    most_seeds: int
    family: int = 0
    rounds: int = field(default=0, init=False)

    @property
    def alpha(self) -> float:
        """The largest p value that settles a question: the error rate, divided by the number of questions."""
        return ERROR_RATE / max(len(self.questions), self.family, 1)

    @property
    def unsettled(self) -> list[Question]:
        """The questions that are still open, and that further seeds may settle."""
        return [question for question in self.questions if question.verdict == OPEN]

    @property
    def rows(self) -> list[int]:
        """The configurations that open questions are about, as numbers of rows in :class:`Results`."""
        return sorted({row for question in self.unsettled for row in question.rows})

    def reopen(self) -> None:
        """Open again the questions that were out of reach of the planned seeds; there are more seeds now."""
        for question in self.questions:
            if question.verdict == OUT_OF_REACH:
                question.verdict, question.needed = OPEN, None

    def look(self, results: Results) -> None:
        """Decide the open questions (pairs of options) by the results of all rounds of seeds so far."""
        self.rounds += 1
        unsettled = self.unsettled
        p_better, p_equivalent = (np.ones(len(unsettled)) for _ in range(2))
        differences = []
        for i, question in enumerate(unsettled):
            d, mixed = _differences(question, results)
            differences.append((d, mixed))
            question.difference, question.seeds = statistics.mean(d), len(d)
            question.learned = _learned(question, results)
            p_better[i], p_equivalent[i] = _p_values(d, self.limit, mixed=mixed)
        for i, question in enumerate(unsettled):
            question.p = float(min(p_better[i], p_equivalent[i]))
            if question.p <= self.alpha:
                question.verdict = EQUIVALENT if p_equivalent[i] < p_better[i] else BETTER
        for question, (d, mixed) in zip(unsettled, differences, strict=True):
            if question.difference < 0:
                question.options, question.rows = question.options[::-1], question.rows[::-1]
                question.difference, question.learned = -question.difference, question.learned[::-1]
            tried = results.goodness.shape[1]
            if question.verdict == OPEN and not self._can_be_settled(d, tried, mixed=mixed):
                question.verdict = OUT_OF_REACH
                question.needed = _needed(d, self.limit, self.alpha, mixed=mixed)

    def _can_be_settled(self, d: NDArray[np.float64], tried: int, *, mixed: bool) -> bool:
        """Return whether more seeds, up to `most_seeds` in all, may settle which of two options is better.

        `d` has their differences on the seeds so far, and `tried` is the number of seeds that were trained.
        More seeds would not help if hardly any of these finished for both options, because one diverges.
        """
        if tried >= FROM_SEEDS and len(d) < 2:
            return False
        if len(d) < FROM_SEEDS or len(d) >= self.most_seeds:
            return len(d) < self.most_seeds
        return _within_reach(d, self.limit, self.alpha, self.most_seeds, mixed=mixed)


def _differences(question: Question, results: Results) -> tuple[NDArray[np.float64], bool]:
    """Return the differences of a question's two options in the seeds that both finished.

    Also return whether an option failed to learn in some of these seeds but not in others.
    """
    rows = list(question.rows)
    both = np.isfinite(results.goodness[rows]).all(axis=0)
    a, b = results.goodness[rows][:, both]
    failed = results.failed[rows][:, both]
    d = a - b
    d[np.abs(d) <= statistics.ROUNDING] = 0.0
    return d, bool((failed.any(axis=1) & ~failed.all(axis=1)).any())


def _learned(question: Question, results: Results) -> tuple[int, int]:
    """Return in how many seeds the first option learned, and in how many the second one.

    Only seeds that both options finished count.
    """
    rows = list(question.rows)
    both = np.isfinite(results.goodness[rows]).all(axis=0)
    first, second = (int(np.count_nonzero(~failed[both])) for failed in results.failed[rows])
    return first, second


def _p_values(d: NDArray[np.float64], limit: float, *, mixed: bool) -> tuple[float, float]:
    """Return the p values of two tests: for a difference of two options, and for their equivalence.

    `d` has the differences by seed. A p value is 1 if there is no such test.
    """
    if len(d) < 2:
        return 1.0, 1.0
    if mixed:
        return statistics.safe_sign_test(d), 1.0
    p_equivalent = 1.0 if math.isnan(limit) else statistics.safe_equivalence_test(d, limit, prior=PRIOR)
    return statistics.safe_t_test(d, prior=PRIOR), p_equivalent


def _within_reach(d: NDArray[np.float64], limit: float, alpha: float, most: int, *, mixed: bool) -> bool:
    """Return whether further seeds, up to `most` in all, may settle which of two options is better.

    `d` has their differences so far. The most favourable case that these leave plausible decides: the
    smallest spread over seeds, with the largest difference (for "better") or with none (for "equivalent").
    """
    n = len(d)
    if (signs := _signs(d, limit, mixed=mixed)) is not None:
        more = np.arange(1, most - n + 1)
        ahead = max((signs > 0).sum(), (signs < 0).sum())
        return bool((_sign_p(ahead + more, np.count_nonzero(signs) + more) <= alpha).any())
    totals, spread = np.arange(n + 1, most + 1), float(d.std(ddof=1))
    least = spread * math.sqrt((n - 1) / stats.chi2.ppf(PLAUSIBLE, n - 1))
    largest = abs(statistics.mean(d)) + stats.t.ppf(PLAUSIBLE, n - 1) * spread / math.sqrt(n)
    half = statistics.safe_half_width(totals, alpha, prior=PRIOR) * least
    return bool((half < largest).any() or (not math.isnan(limit) and (half < limit).any()))


def _signs(d: NDArray[np.float64], limit: float, *, mixed: bool) -> NDArray[np.float64] | None:
    """Return the numbers whose signs alone decide which of two options is better; None if sizes count too.

    Signs decide if an option failed to learn in some seeds but not in others, or if all differences are
    equal. If these equal differences are within ±limit, the signs of their distances from the limit show that
    the options are equivalent.
    """
    if mixed:
        return d
    if np.ptp(d) > statistics.ROUNDING:
        return None
    return d - limit if abs(d[0]) < limit else d


def _sign_p(ahead: NDArray[np.int_], n: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the p values of :func:`statistics.safe_sign_test` for `ahead` positive signs among n."""
    log_p = -special.betaln(ahead + 1, n - ahead + 1) - n * math.log(2)
    return np.asarray(np.exp(log_p), dtype=np.float64)


def _needed(d: NDArray[np.float64], limit: float, alpha: float, *, mixed: bool) -> int | None:
    """Return about how many seeds would settle a question, if further differences are like those in `d`.

    None if this is unknown or above :data:`MOST_NEEDED`.
    """
    n = len(d)
    if n < 2:
        return None
    totals = np.arange(n + 1, MOST_NEEDED + 1)
    if (signs := _signs(d, limit, mixed=mixed)) is not None:
        ahead = max((signs > 0).sum(), (signs < 0).sum())
        settles = _sign_p(totals * ahead // n, totals * np.count_nonzero(signs) // n) <= alpha
    else:
        spread, mean = float(d.std(ddof=1)), abs(statistics.mean(d))
        half = statistics.safe_half_width(totals, alpha, prior=PRIOR) * spread
        settles = half < mean
        if not math.isnan(limit):
            settles |= half < limit - mean
    return int(totals[np.argmax(settles)]) if settles.any() else None


def as_frame(race: Race) -> pd.DataFrame:
    """Return a frame with a row for each question (a pair of options), with its verdict so far."""
    rows: list[dict[str, Any]] = [
        {
            "factor": question.factor,
            **question.cell,
            "a": question.options[0],
            "b": question.options[1],
            "seeds": question.seeds,
            "difference": question.difference,
            "p": question.p,
            "verdict": question.verdict,
            "seeds_needed": question.needed,
        }
        for question in race.questions
    ]
    return pd.DataFrame(rows)


def answer(question: Question, ranking: Ranking) -> str:
    """Return a sentence that says which of a question's two options is better, or why this is open."""
    a, b = (comparisons.name_of({question.factor: option}) for option in question.options)
    difference = f"{question.difference * ranking.scale:.2f} {ranking.unit}".strip()
    if question.verdict == BETTER:
        return f"{a} is better than {b}, by {difference}"
    if question.verdict == EQUIVALENT:
        return f"{a} and {b} are equivalent: they differ by {difference}, less than {ranking.margin:g}"
    if question.seeds == 0:
        return f"{a} or {b}: no seed finished for both"
    so_far = f"{a} is ahead by {difference}" if question.difference else "their means are equal so far"
    if question.is_guess:
        return (
            f"{a} learned in every seed, {b} in none; {so_far}"
            if question.learned[0]
            else (f"{a} and {b} learned in no seed")
        )
    if question.verdict == OUT_OF_REACH:
        if question.seeds == 1:
            return f"{a} or {b} cannot be settled: only 1 seed finished for both"
        needed = "more than 10,000" if question.needed is None else f"about {question.needed:,}"
        return f"{a} or {b} cannot be settled: {so_far}, and it would take {needed} seeds"
    return f"{a} or {b}: open; {so_far}"


def factor_named(name: str, factors: Sequence[str]) -> str | None:
    """Return the factor that a name in ``compare`` stands for; None if there is none.

    Factors that vary together are one factor, as in "arch with init".

    >>> factors = ["arch with init", "optimizer.lr"]
    >>> [factor_named(name, factors) for name in ("init", "init.std", "optimizer.lr", "epochs")]
    ['arch with init', 'arch with init', 'optimizer.lr', None]
    """
    names = {name, name.partition(".")[0]}
    return next((each for each in factors if each == name or names & {*each.split(comparisons.WITH)}), None)


# Deciding the questions again for a report, after the sweep


def rows_of(runs: pd.DataFrame, asked: Asked) -> pd.DataFrame:
    """Return the trials of the configurations that a sweep with `until=settled` compared, with all seeds."""
    if not asked.trials:
        return runs
    lengths = {len(start) for start in asked.trials}
    starts = {*asked.trials}
    named = [any(trial[:length] in starts for length in lengths) for trial in runs["trial"].astype("str")]
    columns = [name for name in (*params_of(runs), CHECKSUM) if name in runs]
    varied = [name for name in columns if int(runs[name].nunique(dropna=False)) > 1]
    configuration = group_numbers(runs, varied)
    return filters.part(runs, configuration.isin(configuration[named]))


def replayed(rows: pd.DataFrame, ranking: Ranking, asked: Asked) -> Race | None:
    """Decide the questions of a sweep again, round by round, from the results of its trials.

    If there are results of further seeds, as after a sweep over `seed`, the questions that the rounds did not
    settle are then decided once more from all results.

    Parameters
    ----------
    rows
        The trials of :func:`rows_of`.
    ranking
        The metric and the margin.
    asked
        The factors that the sweep compared, its margin and its seeds.

    Returns
    -------
    The race; None if no trial has a result, or these trials have no such question or too many.
    """
    if rows.empty or not rows.loc[rows["status"] == "finished", ranking.metric].notna().any():
        return None
    results = results_of(rows, ranking)
    factors = list(results.options[0])
    chosen = [factor_named(name, factors) for name in asked.compare] or factors
    asked_about = list(filter(None, dict.fromkeys(chosen)))
    if not 0 < count_questions(results.options, asked_about) <= MOST_QUESTIONS:
        return None
    questions = questions_of(results.options, asked_about)
    race = Race(questions, ranking.limit, asked.most_seeds, asked.questions)
    seen: set[int] = set()
    for seeds in rounds(asked.seeds, asked.most_seeds):
        if not race.unsettled or not {*seeds} & {*results.seeds}:
            break
        seen |= {*seeds}
        race.look(results.of_seeds(seen))
    if {*results.seeds} - seen:
        race.reopen()
        race.look(results)
    return race
