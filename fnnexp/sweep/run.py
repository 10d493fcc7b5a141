"""The sweep: a fold of pure segments. Workers train; the parent alone logs, saves and hands out again."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from fnnexp.nn.network import Parameters
from fnnexp.nn.training import Record, Stack
from fnnexp.sweep.checkpoints import Checkpoints
from fnnexp.sweep.cluster import Cluster, workers
from fnnexp.sweep.executor import Executor, WorkerDied, resolved
from fnnexp.sweep.plan import Planned, identical, plan
from fnnexp.sweep.progress import SweepProgress
from fnnexp.sweep.worker import Broken, Trained
from fnnexp.tracking import Known, Tracker, runs_of
from fnnexp.trial import Trial

WORKER_RETRIES = 1
"""How often a stack is tried again whole after its worker died: another stack may have been the cause."""


@dataclass(frozen=True)
class Settings:
    """How a sweep is run; nothing here changes a number."""

    n_jobs: int = -1
    backend: str = "loky"
    max_lanes: int | None = None
    segment_seconds: float = 5.0
    checkpoints: Path = Path(".fnnexp/checkpoints")
    address: str | None = None


@dataclass
class Outcome:
    """What became of a sweep: the names of its trials, by what happened to them."""

    experiment: str
    done_before: int = 0
    finished: list[str] = field(default_factory=list)
    diverged: list[tuple[str, int]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0


def run(trials: Sequence[Trial], tracker: Tracker, settings: Settings, console: Console) -> Outcome:
    """Train the trials that are not done yet.

    An exception in a trial is recorded on its run and costs no other trial. Ctrl-C lets the segments under
    way end and saves them; the outcome then says that it was interrupted.
    """
    began = time.monotonic()
    known = tracker.known()
    done, wanted = runs_of(known, trials)
    outcome = Outcome(tracker.experiment, done_before=len(done))
    if wanted:
        with workers(settings.backend, settings.address) as backend:
            _Sweep(wanted, known, tracker, settings, console, outcome, backend).run()
    outcome.seconds = time.monotonic() - began
    return outcome


class _Sweep:
    """The loop's state: what waits, what is under way, and each lane's curve and runs."""

    def __init__(
        self,
        trials: Sequence[Trial],
        known: Mapping[str, Known],
        tracker: Tracker,
        settings: Settings,
        console: Console,
        outcome: Outcome,
        backend: str | Cluster,
    ) -> None:
        self.backend = backend
        self.tracker, self.settings, self.outcome = tracker, settings, outcome
        self.groups = identical(trials)
        self.known = known
        self.checkpoints = Checkpoints(settings.checkpoints)
        self.checkpoints.tidy()
        self.curves: dict[str, list[Record]] = {}
        self.run_ids: dict[str, str] = {}
        self.logged: dict[str, int] = {}
        self.closed: set[str] = set()
        self.deaths: Counter[tuple[str, ...]] = Counter()
        self.n_jobs = resolved(settings.n_jobs, backend)
        epochs = sum(max(trial.recipe.epochs, 1) for trial in trials)
        self.progress = SweepProgress(console, epochs=epochs, trials=len(trials))
        tracker.say = self.progress.say
        states = self._load_checkpoints()
        self.waiting = deque(plan(trials, max_lanes=settings.max_lanes, n_jobs=self.n_jobs, states=states))

    def run(self) -> None:
        """Hand out stacks and take in what comes back until nothing is left."""
        executor = Executor(n_jobs=self.n_jobs, backend=self.backend, say=self.progress.say)
        mine = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, self._interrupt) if mine else None
        try:
            with self.progress:
                while executor.under_way or (self.waiting and not self.outcome.interrupted):
                    self._hand_out(executor)
                    while not executor.ready() and self.tracker.describe():
                        pass  # the time of waiting is good for what need not be said at once
                    if executor.under_way:
                        self._take_in(executor, *executor.result())
        finally:
            if mine:
                signal.signal(signal.SIGINT, before)
            executor.close()
            if self.outcome.interrupted:
                self._interrupt_open_runs()

    def _interrupt(self, *_: object) -> None:
        """Take Ctrl-C as a wish: the books are never cut short by the first, only by the second."""
        if self.outcome.interrupted:
            raise KeyboardInterrupt
        self.outcome.interrupted = True
        self.progress.say("interrupted: waiting for the segments under way; Ctrl-C again to leave at once")

    def _hand_out(self, executor: Executor) -> None:
        while self.waiting and executor.under_way < self.n_jobs and not self.outcome.interrupted:
            planned = self.waiting.popleft()
            executor.submit(planned, self.settings.segment_seconds)
            self._open_runs(planned)

    def _take_in(self, executor: Executor, planned: Planned, ended: Trained | Broken) -> None:
        if isinstance(ended, Broken):
            self._set_apart(planned, ended)
            return
        stack, epochs = ended.stack, planned.recipe.epochs
        unfinished = bool(stack.lanes) and stack.epoch < epochs
        for record in ended.records:  # before anything that Ctrl-C could cut short: a curve has no holes
            self.curves.setdefault(record.key, []).append(record)
        if unfinished:
            self.waiting.appendleft(replace(planned, lanes=stack.lanes, epoch=stack.epoch, state=stack))
        self._hand_out(executor)  # first of all back to work, then the books
        if unfinished:  # what is done goes to its runs at once
            self.checkpoints.save(stack, self.curves)
        for record in ended.records:
            if record.theta is not None:
                self._finish(record.key, record.theta, ended.blas, diverged_at=record.epoch)
        for k, lane in enumerate(stack.lanes):
            if unfinished:
                self._log(lane.key)
            else:
                self._finish(lane.key, stack.theta[k], ended.blas)

    def _open_runs(self, planned: Planned) -> None:
        """Make or reopen the run of every trial of the stack's lanes."""
        for lane in planned.lanes:
            group = self.groups[lane.key]
            for trial in group:
                if trial.id in self.run_ids:
                    continue
                known = self.known.get(trial.id)
                if known is not None and lane.key in self.curves:
                    self.logged[trial.id] = self.tracker.resume(known.run_id)
                    self.run_ids[trial.id] = known.run_id
                    continue
                if known is not None:
                    self.tracker.discard(known.run_id)
                twin = group[0] if trial is not group[0] else None
                self.run_ids[trial.id] = self.tracker.begin(trial, identical_to=twin)
                self.logged[trial.id] = -1

    def _log(self, key: str) -> None:
        """Log what is new of a lane's curve to the run of each of its trials."""
        for trial in self.groups[key]:
            new = self._new(trial)
            self.tracker.log(self.run_ids[trial.id], new)
            self.logged[trial.id] = self.curves[key][-1].epoch
            self.progress.epoch(len(new))

    def _new(self, trial: Trial) -> list[tuple[int, dict[str, float]]]:
        """Return what the trial's run does not hold yet of its curve."""
        curve = self.curves[trial.numbers_id]
        return [(record.epoch, record.metrics) for record in curve if record.epoch > self.logged[trial.id]]

    def _finish(self, key: str, theta: np.ndarray, blas: str, diverged_at: int | None = None) -> None:
        curve = self.curves[key]
        last = curve[-1].metrics
        metric = "val_accuracy" if "val_accuracy" in last else "test_accuracy"
        seconds = sum(record.seconds for record in curve) / len(curve)
        for trial in self.groups[key]:
            weights, new = Parameters(trial.recipe.architecture, theta[None]).named(0), self._new(trial)
            self.tracker.finish(
                self.run_ids[trial.id],
                trial,
                weights,
                seconds_per_epoch=seconds,
                blas=blas,
                diverged_at=diverged_at,
                curve=new,
            )
            self.closed.add(trial.id)
            self.progress.epoch(len(new))
            if diverged_at is None:
                self.outcome.finished.append(trial.name)
                self.progress.done(trial.name, last[metric], metric)
            else:
                self.outcome.diverged.append((trial.name, diverged_at))
                self.progress.say(f"{trial.name} diverged at epoch {diverged_at}")
                self.progress.epoch(max(trial.recipe.epochs, 1) - max(diverged_at, 1))
                self.progress.done(trial.name, float("-inf"), metric)
        self.checkpoints.remove(key)

    def _set_apart(self, planned: Planned, broken: Broken) -> None:
        """Find the trial that broke a segment by halving its stack, and record its failure on its run."""
        if isinstance(broken, WorkerDied):
            keys = tuple(lane.key for lane in planned.lanes)
            self.deaths[keys] += 1
            if self.deaths[keys] <= WORKER_RETRIES:
                self.progress.say(f"a worker died; its stack of {len(keys)} is tried again")
                self.waiting.append(planned)
                return
        if len(planned.lanes) > 1:
            self.progress.say(f"a stack of {len(planned.lanes)} broke ({broken.reason}); trying its halves")
            self.waiting.extendleft(planned.split())
            return
        (lane,) = planned.lanes
        for trial in self.groups[lane.key]:
            self.tracker.fail(self.run_ids[trial.id], broken.reason, broken.traceback)
            self.closed.add(trial.id)
            self.outcome.failed.append((trial.name, broken.reason))
            self.progress.say(f"{trial.name} failed: {broken.reason}")
            self.progress.epoch(max(trial.recipe.epochs - max(planned.epoch, 0), 1))
            self.progress.failure()

    def _load_checkpoints(self) -> dict[str, Stack]:
        """Return the state of each lane that was begun before, and remember its curve."""
        states: dict[str, Stack] = {}
        for key, group in self.groups.items():
            try:
                found = self.checkpoints.load(group[0].lane(), group[0].recipe)
            except ValueError as error:
                self.progress.say(f"{group[0].name} starts over: {error}")
                continue
            if found is not None:
                states[key], self.curves[key] = found
        if states:
            self.progress.say(f"{len(states)} begun before: they go on where they were")
        return states

    def _interrupt_open_runs(self) -> None:
        for trial_id, run_id in self.run_ids.items():
            if trial_id not in self.closed:
                self.tracker.interrupt(run_id)
