"""`until=settled`: train seeds round by round, until every question of a sweep is settled.

The first round has the grid's seeds, or three. Each later round has more seeds for every configuration that
is still in question. After a round, :class:`fnnexp.results.race.Race` decides by the results of
these rounds alone. So the same command, started again, takes the same decisions and goes on.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table

from fnnexp.config.resolve import ParamsOfTrials, with_seed
from fnnexp.config.trial import Trial
from fnnexp.errors import ConfigError, FnnexpError, plural
from fnnexp.results import comparisons, frames
from fnnexp.results import race as races
from fnnexp.results.factors import AXES
from fnnexp.results.ranking import Ranking, ranking_of
from fnnexp.sweeping.runs import Outcome
from fnnexp.sweeping.search.rounds import Rounds
from fnnexp.tracking.experiment import record_asked, record_look
from fnnexp.tracking.run_format import DONE, Asked

FIRST_SEEDS = 3
"""The number of seeds of the first round, if the grid has fewer than two."""

MOST_ROWS = 40
"""The largest number of rows of the table of questions."""


class Settling(Rounds):
    """A sweep with ``until=settled``. `requested` is the sweep; its trials are those of the grid."""

    race: races.Race | None = None
    ranking: Ranking | None = None
    seeds_an_option = 0.0
    done: frozenset[str] = frozenset()

    def run(self) -> Outcome:
        """Train round after round until no question is open, and print what is settled."""
        first, bases = first_round(self.requested.trials, self.requested.until.most_seeds)
        refuse_impossible(bases, self.requested.compare)
        rounds = races.rounds({trial.seed for trial in first}, self.requested.until.most_seeds)
        next(rounds)
        wanted = first
        while wanted:
            if not self._trained(wanted):
                break
            rows = self._look(bases)
            seeds = next(rounds, [])
            wanted = [with_seed(base, seed) for seed in seeds for base in rows]
            left = [trial for trial in wanted if trial.id not in self.done]
            if left:
                options = plural(len(rows), "option")
                self._say(f"{self._so_far()}; {plural(len(seeds), 'more seed')} for {options}")
            if left and self._is_late(len(left)):
                break
        self._show()
        if self.outcome.elsewhere:
            self._say(
                "until=settled: this round needs the trials of another sweep; when that has ended, start the "
                "same command again"
            )
        return self.outcome

    def _look(self, bases: Sequence[Trial]) -> list[Trial]:
        """Answer the questions by the results so far; return a trial of each configuration in question.

        `bases` has one trial of each configuration. Those in question need further seeds.
        """
        runs = frames.runs(self.requested.experiment, tracking_uri=self.requested.tracking_uri)
        self.done = frozenset(runs.loc[runs["status"].isin(DONE), "trial"].astype("str"))
        runs = runs[runs["trial"].isin([trial.id for trial in self.trials])].reset_index(drop=True)
        finished = runs["status"] == "finished"
        if (runs["look"].isna() & finished).any():
            record_look(self.requested.experiment, self.requested.tracking_uri, int(time.time() * 1000))
        if not finished.any():
            return []
        if self.ranking is None:
            self.ranking = ranking_of(runs, margin=self.requested.margin)
        results = races.results_of(runs, self.ranking)
        if self.race is None:
            self.race = self._race(results)
            self._record(self.race, bases)
        self.race.look(results)
        keys = [frozenset(results.options[row].items()) for row in self.race.rows]
        options = comparisons.levels(runs).astype("str")
        of_trial = {
            trial: frozenset(zip(options.columns, row, strict=True))
            for trial, row in zip(runs["trial"], options.itertuples(index=False), strict=True)
        }
        trained = {(key, seed) for key, seed in zip(of_trial.values(), runs["seed"], strict=True)}
        self.seeds_an_option = len(trained) / len(results.options)
        return [base for base in bases if of_trial.get(base.id) in set(keys)]

    def _race(self, results: races.Results) -> races.Race:
        """Return the questions of this sweep, as the race that decides when each is settled.

        The first results show which factors vary.
        """
        factors = list(results.options[0])
        chosen = factors
        if self.requested.compare:
            chosen = list(dict.fromkeys(_factor(name, factors) for name in self.requested.compare))
        questions = races.questions_of(results.options, chosen)
        assert self.ranking is not None
        return races.Race(questions, self.ranking.limit, self.requested.until.most_seeds)

    def _record(self, race: races.Race, bases: Sequence[Trial]) -> None:
        """Record in the store which questions this sweep asks, so that reports answer these first."""
        requested = self.requested
        asked = Asked(
            requested.compare,
            requested.margin,
            tuple(sorted({trial.seed for trial in self.trials})),
            requested.until.most_seeds,
            len(race.questions),
            tuple(base.id for base in bases),
        )
        record_asked(requested.experiment, requested.tracking_uri, asked)

    # What is printed

    def _so_far(self) -> str:
        assert self.race is not None
        settled = sum(question.is_settled for question in self.race.questions)
        return (
            f"round {self.race.rounds}: {settled:,} of {plural(len(self.race.questions), 'question')} settled"
        )

    def _show(self) -> None:
        """Print the questions with their answers."""
        if self.race is None or self.ranking is None:
            if not self._is_stopped:
                self._say("until=settled: no trial finished, so there is nothing to compare")
            return
        if not self.race.questions:
            self._say("until=settled: the options train identically, so there is nothing to compare")
            return
        ranking, questions = self.ranking, self.race.questions
        table = Table("with", "answer", "seeds", box=None, pad_edge=False, header_style="bold")
        for question in questions[:MOST_ROWS]:
            cell = comparisons.name_of(question.cell)
            table.add_row(cell, races.answer(question, ranking), str(question.seeds))
        self.console.print(table)
        if len(questions) > MOST_ROWS:
            self._say(f"… and {plural(len(questions) - MOST_ROWS, 'more question')}")
        settled = sum(question.is_settled for question in questions)
        self._say(
            f"until=settled: {settled:,} of {plural(len(questions), 'question')} settled after "
            f"{plural(self.race.rounds, 'round')}, with {self.seeds_an_option:.1f} seeds an option on average"
        )


def first_round(trials: Sequence[Trial], most_seeds: int) -> tuple[list[Trial], list[Trial]]:
    """Return the trials of the first round, and separately one trial of each configuration.

    If the grid has several seeds, the first round has these; otherwise three seeds (at most `most_seeds`).
    """
    bases: dict[frozenset[tuple[str, str]], Trial] = {}
    for trial, params in zip(trials, ParamsOfTrials(trials), strict=True):
        bases.setdefault(frozenset(item for item in params.items() if item[0] != "seed"), trial)
    configurations = list(bases.values())
    if len({trial.seed for trial in trials}) > 1:
        return list(trials), configurations
    seeds = range(trials[0].seed, trials[0].seed + min(FIRST_SEEDS, most_seeds))
    return [with_seed(base, seed) for seed in seeds for base in configurations], configurations


def _factor(name: str, factors: Sequence[str]) -> str:
    """Return which of the factors a name in ``compare`` means; raise if it means none of them."""
    if (factor := races.factor_named(name, factors)) is not None:
        return factor
    raise FnnexpError(
        f"compare={name}: changes only together with another factor; what varies is {', '.join(factors)}; "
        f"write compare={factors[0]}"
    )


def _refuse_follower(name: str, section: str, options: Sequence[Mapping[str, str]]) -> None:
    """Raise if a factor to compare is determined by the axes of a report, such as `init`.

    Its options can't be compared, since none differs in this factor alone.

    Parameters
    ----------
    name, section
        The factor as given in ``compare``, and the section of the config to which it belongs.
    options
        The settings of each configuration, by section.
    """
    if section in AXES:
        return
    by_axes: dict[tuple[str | None, ...], set[str | None]] = {}
    for each in options:
        by_axes.setdefault(tuple(map(each.get, AXES)), set()).add(each.get(section))
    if all(len(values) == 1 for values in by_axes.values()):
        varied = [axis for axis in AXES if len({each.get(axis) for each in options}) > 1]
        raise ConfigError(
            f"compare={name}: changes only together with {' and '.join(varied)} in this sweep; write "
            f"compare={varied[0]}"
        )


def refuse_impossible(bases: Sequence[Trial], compare: Sequence[str]) -> None:
    """Raise if there are too many pairs to compare, or if a factor to compare is determined by others.

    `bases` has one trial of each configuration.
    """
    options: list[dict[str, str]] = []
    for params in ParamsOfTrials(bases):
        sections: dict[str, str] = {}
        for key, value in params.items():
            if key != "seed":
                section = key.partition(".")[0]
                sections[section] = f"{sections.get(section, '')} {key}={value}"
        options.append(sections)
    varied = [name for name in options[0] if len({each.get(name) for each in options}) > 1]
    for name in compare:
        _refuse_follower(name, name.partition(".")[0], options)
    chosen = [name.partition(".")[0] for name in compare] or varied
    count = sum(
        math.comb(size, 2)
        for factor in dict.fromkeys(chosen)
        for size in Counter(
            tuple(each.get(name) for name in varied if name != factor) for each in options
        ).values()
    )
    if count > races.MOST_QUESTIONS:
        fewer = "" if len(varied) == 1 else f", or one factor, as in compare={varied[0]}"
        raise ConfigError(
            f"until=settled: this sweep has {count:,} pairs of options to compare, and at most "
            f"{races.MOST_QUESTIONS:,} can be settled; write fewer values{fewer}"
        )
