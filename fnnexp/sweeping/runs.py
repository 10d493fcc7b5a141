"""The MLflow runs of a sweep's trials, the curves that are logged to them, and what became of the trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console

from fnnexp.config.trial import Trial
from fnnexp.nn.network import Parameters
from fnnexp.nn.training import Lane, Record
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.progress import SweepProgress
from fnnexp.sweeping.worker import Broken, Trained
from fnnexp.tracking.reader import Known
from fnnexp.tracking.run_format import TOO_GOOD, best_of, is_too_good
from fnnexp.tracking.writer import Tracker

DELETED = "its run was deleted in MLflow during the sweep; start the same command again to train it anew"


@dataclass
class Outcome:
    """What became of a sweep: the names of its trials, by what happened to them.

    Attributes
    ----------
    elsewhere
        The trials that another sweep is training, each with who that is.
    too_good
        Those whose test accuracy was 1.0 at the first epoch.
    page
        Where MLflow's UI shows the trials, if that is known.
    """

    done_before: int = 0
    elsewhere: list[tuple[str, str]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    diverged: list[tuple[str, int]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    too_good: list[str] = field(default_factory=list)
    interrupted: bool = False
    stopped: bool = False
    seconds: float = 0.0
    page: str | None = None


class Runs:
    """The runs of a sweep: opened when a stack is handed out, logged to, and closed when a lane ends.

    A lane is the trials of one group, which are numerically identical: each has a run of its own.

    Parameters
    ----------
    groups
        The trials of each lane, by its key.
    known
        The runs that the store has of trials, by trial id.
    engine
        Who computes.
    curves
        The records of the lanes that were begun before, by key.
    tracker, progress, outcome
        Where is written what becomes of the trials.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[Trial]],
        known: Mapping[str, Known],
        engine: str,
        curves: dict[str, list[Record]],
        tracker: Tracker,
        progress: SweepProgress,
        outcome: Outcome,
    ) -> None:
        self.groups, self.engine, self.curves = groups, engine, curves
        self.tracker, self.progress, self.outcome = tracker, progress, outcome
        self._known = known
        self._ids: dict[str, str] = {}
        self._last_logged: dict[str, int] = {}
        self._closed: set[str] = set()

    def open(self, lanes: Iterable[Lane]) -> None:
        """Make or reopen the runs of lanes."""
        with self.tracker.together():
            for lane in lanes:
                first, *_ = self.groups[lane.key]
                for trial in self.groups[lane.key]:
                    if trial.id not in self._ids:
                        self._open(trial, None if trial is first else first)

    def _open(self, trial: Trial, identical_to: Trial | None) -> None:
        known = self._known.get(trial.id)
        if known is not None and self._goes_on(known, trial):
            self._last_logged[trial.id] = self.tracker.resume(known.run_id)
            self._ids[trial.id] = known.run_id
            return
        if known is not None:
            self.tracker.discard(known.run_id)
        self._ids[trial.id] = self.tracker.begin(trial, identical_to=identical_to, engine=self.engine)
        self._last_logged[trial.id] = -1

    def _goes_on(self, known: Known, trial: Trial) -> bool:
        """Whether a run holds the beginning of this sweep's curve; another engine's curve is another."""
        return trial.numbers_id in self.curves and self.tracker.engine_of(known.run_id) == self.engine

    def add(self, records: Iterable[Record]) -> None:
        """Add records to the curves, to be logged later: a curve has no hole, whatever happens meanwhile."""
        for record in records:
            self.curves.setdefault(record.key, []).append(record)

    def log(self, ended: Trained, unfinished: bool) -> list[str]:
        """Log a segment whose records were added, and close the runs of the lanes that ended.

        A lane ends when it diverges, or with its stack. Return the keys of those that ended.
        """
        stack = ended.stack
        lanes: list[tuple[str, np.ndarray, int | None]]
        lanes = [(one.key, one.theta, one.epoch) for one in ended.records if one.theta is not None]
        going_on: Sequence[Lane] = stack.lanes if unfinished else ()
        if not unfinished:
            lanes += [(lane.key, theta, None) for lane, theta in zip(stack.lanes, stack.theta, strict=True)]
        with self.tracker.together():
            for key, theta, diverged_at in lanes:
                self._finish(key, theta, ended, diverged_at)
            for lane in going_on:
                for trial in self.groups[lane.key]:
                    self.tracker.log(self._ids[trial.id], self._not_logged(trial))
        keys = [key for key, *_ in lanes]
        self._leave_deleted([*keys, *(lane.key for lane in going_on)])
        for key, _, diverged_at in lanes:
            self._count_end(key, diverged_at)
        for lane in going_on:
            for trial in self._open_trials(lane.key):
                self._count_epochs(trial)
        return keys

    def fail(self, planned: PlannedStack, broken: Broken) -> None:
        """Close the runs of a stack's only lane as failed."""
        (lane,) = planned.lanes
        for trial in self._open_trials(lane.key):
            self.tracker.fail(self._ids[trial.id], broken.reason, broken.traceback)
            self._count_failure(trial, broken.reason, planned.stack.epoch)

    def _leave_deleted(self, keys: Iterable[str]) -> None:
        """Count the trials of these lanes as failed whose runs somebody deleted; the others go on."""
        for key in keys:
            for trial in self._open_trials(key):
                if self._ids[trial.id] in self.tracker.gone:
                    self._count_failure(trial, DELETED, self._last_logged[trial.id])

    def _count_failure(self, trial: Trial, reason: str, last_epoch: int) -> None:
        self._closed.add(trial.id)
        self.outcome.failed.append((trial.name, reason))
        self.progress.say(f"{trial.name} failed: {reason}")
        self.progress.epoch(max(trial.recipe.epochs - max(last_epoch, 0), 1))
        self.progress.failure()

    def _open_trials(self, key: str) -> list[Trial]:
        return [trial for trial in self.groups[key] if trial.id not in self._closed]

    def interrupt(self) -> None:
        """Close the runs that are open; a sweep that comes to its end leaves none."""
        for trial_id, run_id in self._ids.items():
            if trial_id not in self._closed:
                self.tracker.interrupt(run_id)

    def _not_logged(self, trial: Trial) -> list[tuple[int, dict[str, float]]]:
        """Return the part of a trial's curve that its run does not hold yet."""
        last = self._last_logged[trial.id]
        return [(one.epoch, one.metrics) for one in self.curves[trial.numbers_id] if one.epoch > last]

    def _finish(self, key: str, theta: np.ndarray, ended: Trained, diverged_at: int | None) -> None:
        """Log the rest of a lane's curve, and close its runs."""
        curve = self.curves[key]
        seconds = sum(record.seconds for record in curve) / max(curve[-1].epoch, 1)
        best = best_of((record.epoch, record.metrics) for record in curve)
        for trial in self.groups[key]:
            self.tracker.finish(
                self._ids[trial.id],
                trial,
                Parameters(trial.recipe.architecture, theta[None]).named(0),
                seconds_per_epoch=seconds,
                blas=ended.blas,
                engine=ended.engine,
                diverged_at=diverged_at,
                curve=self._not_logged(trial),
                best=best,
            )

    def _count_epochs(self, trial: Trial) -> None:
        """Count what was logged; a record of epoch 0 counts where it is the whole training."""
        new = self._not_logged(trial)
        counted = [epoch for epoch, _ in new if epoch > 0 or trial.recipe.epochs == 0]
        self.progress.epoch(len(counted))
        if any(is_too_good(*each) for each in new):
            if not self.outcome.too_good:
                self.progress.say(f"{trial.name}: test accuracy is 1.0 at the first epoch. {TOO_GOOD}")
            self.outcome.too_good.append(trial.name)
        self._last_logged[trial.id] = self.curves[trial.numbers_id][-1].epoch

    def _count_end(self, key: str, diverged_at: int | None) -> None:
        """Count the trials of a lane whose runs are closed."""
        last = self.curves[key][-1].metrics
        metric = "val_accuracy" if "val_accuracy" in last else "test_accuracy"
        for trial in self._open_trials(key):
            self._closed.add(trial.id)
            self._count_epochs(trial)
            if diverged_at is None:
                self.outcome.finished.append(trial.name)
                self.progress.done(trial.name, last[metric], metric)
            else:
                self.outcome.diverged.append((trial.name, diverged_at))
                self.progress.say(f"{trial.name} diverged at epoch {diverged_at}")
                self.progress.epoch(max(trial.recipe.epochs, 1) - max(diverged_at, 1))
                self.progress.done(trial.name, float("-inf"), metric)


def say_undiagnosed(known: Mapping[str, Known], done: Sequence[Trial], console: Console) -> None:
    """Say how many of the trials that are done have no diagnostics, when diagnostics are asked for."""
    without = sum(not known[trial.id].diagnosed for trial in done)
    if without:
        console.print(
            f"{without} of the {len(done)} trials that are done were trained without diagnostics and are not "
            "trained again for them; write tracking.experiment=NAME for an experiment in which they are",
            highlight=False,
            soft_wrap=True,
        )
