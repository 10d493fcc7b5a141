"""`search=tpe`: Optuna chooses the configurations of a sweep, batch by batch, by the results so far.

The first batch is that of a random search. Each later batch comes from a new sampler of Optuna, a
tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011). It is
told the results of all batches before, its seed is the number of the batch, and within a batch a constant
liar keeps the configurations apart. So a batch depends on the results of the batches before it, and on
nothing else: the same command, started again, asks for the same trials, finds them done in the store, and
goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

import pandas as pd
from rich.console import Console

from fnnexp.config import compose
from fnnexp.config.compose import Sweep
from fnnexp.config.grids import spaces
from fnnexp.config.grids.spaces import BATCH, Drawn, Space, text_of
from fnnexp.console import without_messages
from fnnexp.errors import plural
from fnnexp.results import frames
from fnnexp.sweeping.runs import Outcome
from fnnexp.sweeping.search.budgets import Purse, by_seed
from fnnexp.sweeping.search.rounds import Rounds, Train
from fnnexp.sweeping.search.study import (
    LOGGERS,
    Result,
    StudyFile,
    as_trial,
    distributions,
    value_in,
)
from fnnexp.tracking.writer import Tracker

MOST_ASKED = 20
"""For a batch, Optuna is asked at most so many times its size, since it may ask for a configuration again."""


class Asking(Rounds):
    """A sweep with ``search=tpe``. `requested` is the sweep; its trials are those of the first batch."""

    def __init__(
        self, requested: Sweep, train: Train, tracker: Tracker, purse: Purse, console: Console
    ) -> None:
        super().__init__(requested, train, tracker, purse, console)
        assert requested.drawn is not None
        self.dimensions = requested.drawn.dimensions
        self.results: list[Result] = []
        self.batches: list[int] = []
        self._asked = 0
        self.metric = "val_accuracy"
        self.worst = math.inf
        self.file = StudyFile(
            requested.experiment,
            self.dimensions,
            next((ids for ids in requested.drawn.trials if ids), ()),
            requested.drawn.where,
        )

    def run(self) -> Outcome:
        """Train batch after batch until all configurations are trained, and print the best."""
        with closing(self.file):
            return self._run()

    def _run(self) -> Outcome:
        batch, number = self.requested, 1
        while True:
            known = {trial.id for trial in self.trials}
            is_whole = self._trained(by_seed([trial for trial in batch.trials if trial.id not in known]))
            self._tell(batch, number, is_whole=is_whole)
            left = left_to_ask(self.requested, self._asked)
            if not (is_whole and left):
                break
            self._say(f"batch {number} of {number - (-left // BATCH)}: {self._best()}")
            if self._is_late(0):  # 0 trials more, because the trials left are counted after the loop
                break
            rows = ask(self.dimensions, self.results, number, min(left, BATCH))
            if not rows:
                break
            batch, number = compose.batch(self.requested, rows), number + 1
        outcome = self.outcome
        if outcome.out_of_time or outcome.not_run:  # the budget is used up
            outcome.not_run += left * self._seeds
        self._show(number)
        return outcome

    @property
    def _seeds(self) -> int:
        """The number of trials of a configuration, one for each seed."""
        assert self.requested.drawn is not None
        return max(map(len, self.requested.drawn.trials))

    def _tell(self, batch: Sweep, number: int, *, is_whole: bool) -> None:
        """Add the results of a batch to the study, and write its file.

        A seed that diverged counts as the worst result so far, and a seed that failed does not count. Of a
        batch that was stopped, only the configurations before the first unfinished one count.
        """
        assert batch.drawn is not None
        self._asked += len(batch.drawn.rows)
        requested, trained = self.requested, {trial.id for trial in self.trials}
        runs = frames.runs(requested.experiment, tracking_uri=requested.tracking_uri)
        runs = runs[runs["trial"].isin(trained)]
        self.metric = frames.ranking(runs)
        results = self._results(batch.drawn, runs.set_index("trial"), is_whole=is_whole)
        self.results += results
        self.batches += [number] * len(results)
        self.file.add(results, self.metric)
        try:
            self.file.write()
        except OSError as error:
            self._say(f"the study can't be written to {self.file.path} ({error}); the search goes on")

    def _results(self, drawn: Drawn, runs: pd.DataFrame, *, is_whole: bool) -> list[Result]:
        """Return the results of the configurations that a batch has drawn.

        `runs` has the runs of all trials, by trial id. `is_whole` is whether all trials of the batch ended.
        """
        metric = runs[self.metric].astype("float64")
        finished = metric[(runs["status"] == "finished") & metric.notna()].to_dict()
        diverged = {*runs.index[runs["status"] == "diverged"]}
        failed = {*runs.index[runs["status"] == "failed"]}
        ids = {trial for trials in drawn.trials for trial in trials}
        self.worst = min([self.worst, *(value for trial, value in finished.items() if trial in ids)])
        results = []
        for row, trials in zip(drawn.rows, drawn.trials, strict=True):
            ended = [trial for trial in trials if trial in finished or trial in diverged or trial in failed]
            if not is_whole and len(ended) < len(trials):
                break
            values = [finished.get(trial, self.worst) for trial in ended if trial not in failed]
            mean = sum(values) / len(values) if values else math.inf
            own = runs.loc[ended]
            results.append(
                Result(row, mean if math.isfinite(mean) else None, trials, [*own["name"]], _span(own))
            )
        return results

    # What is printed

    @property
    def _leader(self) -> int | None:
        """The index of the best configuration so far, the first of equal ones; None if none has a result."""
        known = {i: result.value for i, result in enumerate(self.results) if result.value is not None}
        return max(known, key=lambda i: (known[i], -i), default=None)

    def _best(self) -> str:
        """Return the best configuration so far, with its metric, as a text to print."""
        if self._leader is None:
            return "no trial finished so far"
        best = self.results[self._leader]
        settings = " ".join(
            f"{key}={text_of(value)}" for (key, _), value in zip(self.dimensions, best.row, strict=True)
        )
        return f"best of {len(self.results)}: {settings}, {self._value(best)}"

    def _value(self, result: Result) -> str:
        assert result.value is not None
        mean = f", the mean of {plural(len(result.trials), 'seed')}" if len(result.trials) > 1 else ""
        return f"{self.metric} {100 * result.value:.2f}%{mean}"

    def _show(self, number: int) -> None:
        """Print the best configuration, the batch in which it was found, and how to see the study."""
        if self.results:
            leader = self._leader
            batch = "" if leader is None else f"; found in batch {self.batches[leader]} of {number}"
            self._say(f"search={self.requested.search.name}: {self._best()}{batch}")
        if self.file.path.exists():
            self._say(
                f"the study is {self.file.path}; to see it, run pip install optuna-dashboard and then "
                f"optuna-dashboard sqlite:///{self.file.path.as_posix()}"
            )


def _span(runs: pd.DataFrame) -> tuple[datetime, datetime] | None:
    """Return when the first of these runs started and when the last ended, in local time as Optuna wants."""
    if runs.empty:
        return None
    ends = runs["started"] + pd.to_timedelta(runs["seconds"].fillna(0), unit="s")
    first, last = (
        time.to_pydatetime(warn=False).astimezone().replace(tzinfo=None)
        for time in (runs["started"].min(), ends.max())
    )
    return first, last


def left_to_ask(requested: Sweep, asked: int) -> int:
    """Return how many configurations a search has still to train, after `asked` configurations."""
    assert requested.drawn is not None
    assert requested.search.trials is not None
    if spaces.size_of(space for _, space in requested.drawn.dimensions) <= requested.search.trials:
        return len(requested.drawn.rows) - asked  # the first batch has all
    return requested.search.trials - asked


def ask(
    dimensions: Sequence[tuple[str, Space]], results: Sequence[Result], batch: int, n: int
) -> list[tuple[Any, ...]]:
    """Ask Optuna's sampler for the `n` configurations to train next, given the results so far.

    Parameters
    ----------
    dimensions
        The keys that are drawn, and their spaces.
    results
        The results of all earlier batches. Their configurations are not returned again.
    batch
        The number of earlier batches, which seeds the sampler.
    n
        The number of configurations. If Optuna asks for too few new ones, random ones are added. Fewer are
        returned if the space has no others left, after rounding.
    """
    import optuna

    asked = distributions(dimensions)
    known = {repr(result.row) for result in results}
    rows: list[tuple[Any, ...]] = []
    with without_messages(*LOGGERS):
        sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=batch)
        study = optuna.create_study(sampler=sampler, direction="maximize")
        study.add_trials([as_trial(dimensions, result) for result in results])
        for _ in range(MOST_ASKED * n):
            params = study.ask(asked).params
            row = tuple(value_in(space, params[key]) for key, space in dimensions)
            if repr(row) not in known:
                known.add(repr(row))
                rows.append(row)
            if len(rows) == n:
                return rows
    others = spaces.drawn(dimensions, len(known) + n, "random")
    return [*rows, *(row for row in others if repr(row) not in known)][:n]
