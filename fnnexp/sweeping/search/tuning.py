"""`compare=init tune=optimizer.lr`: tune each option, then compare the tuned options on fresh seeds.

The trials that tune are trained first. The best configuration of each option is then trained with fresh
seeds. Where an option wins, the other is also trained with the winner's values: the check
(:mod:`fnnexp.reporting.tuned`). What is trained next depends on the results in the store alone. So the same
command, started again, takes the same decisions and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from fnnexp.config.grids.tuned import TUNING_SEEDS, Tuned, level_of
from fnnexp.config.resolve import ParamsOfTrials, with_seed
from fnnexp.config.trial import Trial
from fnnexp.errors import plural
from fnnexp.reporting import tuned
from fnnexp.reporting.document.wording import mean_and_spread
from fnnexp.results import frames, statistics
from fnnexp.results.factors import as_text
from fnnexp.results.ranking import ranking_of
from fnnexp.sweeping.runs import Outcome
from fnnexp.sweeping.search.rounds import Rounds
from fnnexp.tracking.experiment import record_look
from fnnexp.tracking.retry import mlflow_settings
from fnnexp.tracking.run_format import AND, TUNING

MOST_ROWS = 40
"""The largest number of rows of the table of options."""


class Tuning(Rounds):
    """A sweep with ``compare`` and ``tune``, which compares tuned options.

    `requested` is the sweep; its trials are those by which options are tuned.
    """

    @property
    def asked(self) -> Tuned:
        """The factors that are compared, and the keys that are tuned for each option."""
        assert self.requested.tuned is not None
        return self.requested.tuned

    def run(self) -> Outcome:
        """Tune each option, compare the tuned options with fresh seeds, check the winner; print the answer.

        If the budget or an interruption ends the sweep before, print how far it came.
        """
        if not self._phase(self.requested.trials, tunes=True):
            options, seeds = len(self._options()), len(self.asked.fresh)
            self._say(
                f"tuning is not complete, so nothing is compared yet; after it, {plural(options, 'option')} "
                f"will be trained with {plural(seeds, 'fresh seed')}"
            )
            return self.outcome
        self._mark(self.requested.trials, tunes=True)
        comparison = self._read()
        if comparison is None:
            self._say(
                "nothing to compare: fewer than two options have a value that finished on all tuning seeds"
            )
            return self.outcome
        chosen = [(level, each.chosen) for level, each in enumerate(comparison.levels)]
        wanted = [(level, draw) for level, draw in chosen if draw is not None]
        if not self._phase(self._with_fresh_seeds(comparison, wanted), tunes=False):
            self._show(comparison, None)
            return self.outcome
        self._mark(self.trials[len(self.requested.trials) :], tunes=False)
        comparison = self._read()
        assert comparison is not None
        if not self._phase(self._with_fresh_seeds(comparison, tuned.needed(comparison)), tunes=True):
            self._show(comparison, None)
            return self.outcome
        comparison = self._read()
        assert comparison is not None
        self._show(comparison, tuned.pairs(comparison))
        return self.outcome

    def _phase(self, wanted: Sequence[Trial], *, tunes: bool) -> bool:
        """Train the trials of a phase (tuning, comparing or checking); return whether the next one can begin.

        With `tunes`, for tuning and checking, new runs get a tag, because comparisons leave such trials out.
        """
        if wanted and self._is_late(len(wanted)):
            return False
        self.tracker.tuning = str(self.asked) if tunes else None
        try:
            return self._trained(wanted)
        finally:
            self.tracker.tuning = None

    def _mark(self, trials: Sequence[Trial], *, tunes: bool) -> None:
        """Correct the tags of runs that another command trained for another purpose.

        With `tunes`, all these trials get the tag of trials that tune. Otherwise they lose it: a trial that
        an earlier command trained as a check is compared now, if more draws have made its values the best.
        """
        runs, name = self._runs(trials), str(self.asked)
        for run_id, text in zip(runs["run_id"], runs["tuning"], strict=True):
            names = [] if pd.isna(text) else str(text).split(AND)
            if (name in names) == tunes:
                continue
            names = [*names, name] if tunes else [each for each in names if each != name]
            with mlflow_settings():
                self.tracker.tag(run_id, TUNING, AND.join(names))

    def _runs(self, trials: Sequence[Trial]) -> pd.DataFrame:
        runs = frames.runs(self.requested.experiment, tracking_uri=self.requested.tracking_uri)
        return runs[runs["trial"].isin([trial.id for trial in trials])].reset_index(drop=True)

    def _options(self) -> set[tuple[tuple[str, str], ...]]:
        """Return the options that are compared, each as the params that identify it: `init.method=he`."""
        return {level_of(self.asked, params) for params in ParamsOfTrials(self.requested.trials)}

    def _read(self) -> tuned.Comparison | None:
        """Read the results of this sweep, and return the comparison so far.

        Return None if fewer than two options have values that finished.
        """
        runs = self._runs(self.trials)
        if not (runs["status"] == "finished").any():
            return None
        comparisons = tuned.of(runs, self.asked, ranking_of(runs, margin=self.requested.margin))
        if len(comparisons) != 1 or sum(level.chosen is not None for level in comparisons[0].levels) < 2:
            return None
        return comparisons[0]

    def _with_fresh_seeds(
        self, comparison: tuned.Comparison, wanted: Sequence[tuple[int, int]]
    ) -> list[Trial]:
        """Return trials of the wanted configurations with every fresh seed, in the order of the seeds.

        A pair in `wanted` has the index of an option, and the index of one of the configurations drawn for
        it.
        """
        by_id = {trial.id: trial for trial in self.requested.trials}
        bases = [
            by_id[comparison.levels[level].draws["trials"].iloc[draw][0]]
            for level, draw in dict.fromkeys(wanted)
        ]
        return [with_seed(base, seed) for seed in self.asked.fresh for base in bases]

    # What is printed

    def _show(self, comparison: tuned.Comparison, pairs: pd.DataFrame | None) -> None:
        """Print the values chosen for each option, and the answer.

        `pairs` has the results of the comparisons; None if some trials are missing, and then no answer is
        printed.
        """
        ranking, keys = comparison.ranking, comparison.keys
        table = Table(
            comparison.factors, *keys, "", f"{ranking.metric}", "seeds",
            box=None, pad_edge=False, header_style="bold",
        )  # fmt: skip
        rows = []
        for number, level in enumerate(comparison.levels):
            own = comparison.own(number)
            values = own.loc[own["status"] == "finished", ranking.metric].to_numpy(float)
            mean, spread = statistics.mean(values), statistics.standard_deviation(values)
            chosen = [as_text(value) for value in comparison.values(number).values()] or ["–"] * len(keys)
            # Results that are shown before all trials are trained would be a look, which changes the tests.
            shown = "" if pairs is None else mean_and_spread(mean, spread, ranking)
            texts = level.name, *chosen, tuned.marks(level, keys), shown
            goodness = ranking.goodness(pd.Series([mean])).fillna(float("-inf")).iloc[0]
            rows.append((-goodness, [*texts, str(len(values))]))
        if pairs is None:
            self._say("the values of each option are chosen, but some trials with fresh seeds are missing:")
        else:
            self._record_look()
        for _, cells in sorted(rows, key=lambda row: row[0])[:MOST_ROWS]:
            table.add_row(*cells)
        self.console.print(table)
        for sentence in tuned.sentences(comparison, pairs) if pairs is not None else ():
            self._say(sentence)

    def _record_look(self) -> None:
        """Record a look in the store (somebody saw results with fresh seeds), unless all were seen before."""
        runs = self._runs(self.trials)
        is_new = runs["look"].isna() & (runs["status"] == "finished") & ~runs["seed"].isin(TUNING_SEEDS)
        if is_new.any():
            record_look(self.requested.experiment, self.requested.tracking_uri, int(time.time() * 1000))
