"""The sweep: a fold of pure segments. Workers train; the parent alone logs, saves and hands out again."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from rich.console import Console

from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.data.cache import cache_folder
from fnnexp.data.npz import DamagedError
from fnnexp.nn.layer_stats import told_by
from fnnexp.nn.network import Parameters
from fnnexp.nn.training import Lane, Record, Stack
from fnnexp.sweeping import leases
from fnnexp.sweeping.backends.cluster import Cluster, workers
from fnnexp.sweeping.checkpoints import CHECKPOINTS, Checkpoints
from fnnexp.sweeping.dry_run import say_undiagnosed
from fnnexp.sweeping.executor import Executor, WorkerDied, resolved
from fnnexp.sweeping.locks import Claims, folder_for
from fnnexp.sweeping.plan import Planned, identical, plan, spread
from fnnexp.sweeping.progress import SweepProgress
from fnnexp.sweeping.stopping import Stopping
from fnnexp.sweeping.worker import Broken, Trained
from fnnexp.tracking.retry import StoreError
from fnnexp.tracking.writer import Known, Tracker, best_of, runs_of

AHEAD = 2
"""Stacks handed out for each worker before the store is open: it should not wait for that."""


@dataclass
class Outcome:
    """What became of a sweep: the names of its trials, by what happened to them.

    ``elsewhere`` are those that another sweep is training, each with who that is; ``page`` is where MLflow's
    UI shows them, if that is known.
    """

    experiment: str
    done_before: int = 0
    elsewhere: list[tuple[str, str]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    diverged: list[tuple[str, int]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    interrupted: bool = False
    stopped: bool = False
    seconds: float = 0.0
    page: str | None = None


def run(trials: Sequence[Trial], tracker: Tracker, execution: Execution, console: Console) -> Outcome:
    """Train the trials that are not done yet.

    An exception in a trial is recorded on its run and costs no other trial, except with ``fail_fast``, which
    stops the sweep at the first. Ctrl-C and SIGTERM let the segments under way end and save them; the outcome
    then says that the sweep was interrupted.
    """
    began = time.monotonic()
    tracker.check()
    claims = Claims(folder_for(tracker.uri, cache_folder()))
    ids = [trial.id for trial in trials]
    with contextlib.ExitStack() as held:
        lease = None
        elsewhere = held.enter_context(claims.on(tracker.experiment, ids))
        if tracker.is_remote:
            with claims.turn():
                tracker.open()
            free = [each for each in ids if each not in elsewhere]
            lease = held.enter_context(leases.on(tracker, free, cache_folder()))
            elsewhere |= lease.elsewhere
        known: Mapping[str, Known] = {}
        if not tracker.is_new:
            with claims.turn():
                tracker.open()
            known = tracker.known(mend=True)
        done, wanted = runs_of(known, trials)
        if execution.diagnostics:
            say_undiagnosed(known, done, console)
        checkpoints = Checkpoints(CHECKPOINTS, execution.engine)
        for key in {trial.numbers_id for trial in done} - {trial.numbers_id for trial in wanted}:
            checkpoints.remove(key)  # which a process was killed before it could do
        outcome = Outcome(tracker.experiment, done_before=len(done))
        outcome.elsewhere = [(trial.name, elsewhere[trial.id]) for trial in wanted if trial.id in elsewhere]
        mine = [trial for trial in wanted if trial.id not in elsewhere]
        if mine:
            with workers(execution.backend, execution.address, execution.engine) as backend:
                one = _Sweep(mine, known, tracker, claims, execution, console, outcome, backend)
                one.run(lease.beat if lease else None)
    outcome.seconds = time.monotonic() - began
    return outcome


def _epochs(trial: Trial, curve: Sequence[tuple[int, Mapping[str, float]]]) -> int:
    """Return how many of a trial's epochs these are; what diagnostics tell of its start is none."""
    return sum(epoch > 0 or trial.recipe.epochs == 0 for epoch, _ in curve)


class _Sweep:
    """The loop's state: what waits, what is under way, and each lane's curve and runs."""

    def __init__(
        self,
        trials: Sequence[Trial],
        known: Mapping[str, Known],
        tracker: Tracker,
        claims: Claims,
        execution: Execution,
        console: Console,
        outcome: Outcome,
        backend: str | Cluster,
    ) -> None:
        self.tracker, self.claims, self.backend = tracker, claims, backend
        self.execution, self.outcome = execution, outcome
        self.groups = identical(trials)
        self.known = known
        self.checkpoints = Checkpoints(CHECKPOINTS, execution.engine)
        self.checkpoints.tidy()
        self.curves: dict[str, list[Record]] = {}
        self.run_ids: dict[str, str] = {}
        self.logged: dict[str, int] = {}
        self.closed: set[str] = set()
        self.breaks: Counter[str] = Counter()
        self.deaths: Counter[tuple[str, ...]] = Counter()
        self.suspects: deque[Planned] = deque()
        self.on_trial: Planned | None = None
        self.unsaved = False
        self.n_jobs = resolved(execution.n_jobs, backend)
        epochs = sum(max(trial.recipe.epochs, 1) for trial in trials)
        self.progress = SweepProgress(console, epochs=epochs, trials=len(trials))
        tracker.say = self.progress.say
        states = self._load_checkpoints()
        self.waiting = deque(
            plan(
                trials,
                max_lanes=execution.max_lanes,
                n_jobs=self.n_jobs,
                states=states,
                diagnostics=execution.diagnostics,
                engine=execution.engine,
            )
        )

    def run(self, beat: Callable[[], None] | None) -> None:
        """Hand out stacks and take in what comes back until nothing is left; call `beat` while that lasts."""
        executor = Executor(n_jobs=self.n_jobs, backend=self.backend, say=self.progress.say, beat=beat)
        try:
            with Stopping(self._interrupt), self.progress:
                self._begin(executor)
                while executor.under_way or (self._queued and not self._stopping):
                    self._hand_out(executor)
                    while not executor.ready() and self.tracker.describe():
                        pass  # the time of waiting is good for what need not be said at once
                    if self._stopping:
                        executor.forget()
                    if executor.under_way:
                        self._take_in(executor, *executor.result())
        except StoreError:
            self._save_what_comes(executor)
            raise
        except KeyboardInterrupt:
            executor.abandon()
            raise
        finally:
            executor.close()
            with contextlib.suppress(StoreError):
                self._interrupt_open_runs()

    def _save_what_comes(self, executor: Executor) -> None:
        """Keep what is under way, now that it can't be logged: it is logged by the same command."""
        self.progress.say("nothing can be logged: saving what is under way, then leaving")
        executor.forget()
        while executor.under_way:
            _, ended = executor.result()
            if isinstance(ended, Trained):
                for record in ended.records:
                    self.curves.setdefault(record.key, []).append(record)
                self._save(ended.stack)

    @property
    def _stopping(self) -> bool:
        return self.outcome.interrupted or self.outcome.stopped

    @property
    def _die_together(self) -> bool:
        """Whether a worker's death fails what all the others do, as in loky's pool and in no cluster."""
        return isinstance(self.backend, str)

    @property
    def _queued(self) -> bool:
        return bool(self.waiting or self.suspects)

    def _begin(self, executor: Executor) -> None:
        """Let the workers begin, and then open the store, which takes MLflow seconds."""
        ahead = self.n_jobs if self.tracker.is_open else AHEAD * self.n_jobs
        first = [self.waiting.popleft() for _ in range(min(ahead, len(self.waiting)))]
        for planned in first:
            executor.submit(planned, self.execution.segment_seconds)
        try:
            with self.claims.turn():
                self.tracker.open()
        except BaseException:
            executor.abandon()
            raise
        for planned in first:
            self._open_runs(planned)

    def _interrupt(self) -> None:
        self.outcome.interrupted = True
        self.progress.say("interrupted: waiting for the segments under way; Ctrl-C again to leave at once")

    def _hand_out(self, executor: Executor) -> None:
        """Keep every worker busy; but what is suspected of killing workers runs by itself, and first."""
        while not self._stopping and self.on_trial is None and executor.under_way < self.n_jobs:
            if self.suspects:
                if executor.under_way:
                    return
                planned = self.on_trial = self.suspects.popleft()
            elif self.waiting:
                planned = self.waiting.popleft()
            else:
                return
            executor.submit(planned, self.execution.segment_seconds)
            self._open_runs(planned)

    def _take_in(self, executor: Executor, planned: Planned, ended: Trained | Broken) -> None:
        by_itself = self.n_jobs == 1 or planned is self.on_trial or not self._die_together
        if planned is self.on_trial:
            self.on_trial = None
        if isinstance(ended, Broken):
            self._set_apart(planned, ended, by_itself)
            return
        self.deaths.pop(tuple(lane.key for lane in planned.lanes), None)
        for lane in planned.lanes:
            self.breaks.pop(lane.key, None)
        stack, epochs = ended.stack, planned.recipe.epochs
        unfinished = bool(stack.lanes) and stack.epoch < epochs
        for record in ended.records:  # before anything that Ctrl-C could cut short: a curve has no holes
            self.curves.setdefault(record.key, []).append(record)
        if unfinished:
            rest = replace(planned, lanes=stack.lanes, epoch=stack.epoch, state=stack)
            free = self.n_jobs - executor.under_way - len(self.waiting)
            self.waiting.extendleft(reversed(spread([rest], free)))  # no core is idle while lanes can part
        try:
            self._hand_out(executor)  # first of all back to work, then the books
            if unfinished:  # what is done goes to its runs at once
                self._save(stack)
            self._log_all(ended, unfinished)
        except StoreError:
            self._save(stack)
            raise

    def _log_all(self, ended: Trained, unfinished: bool) -> None:
        """Log a segment, and close the runs of the lanes that are done."""
        stack = ended.stack
        over = [(one.key, one.theta, one.epoch) for one in ended.records if one.theta is not None]
        going_on = stack.lanes if unfinished else ()
        done = () if unfinished else stack.lanes
        with self.tracker.together():
            for key, theta, epoch in over:
                self._finish(key, theta, ended, diverged_at=epoch)
            for k, lane in enumerate(done):
                self._finish(lane.key, stack.theta[k], ended)
            for lane in going_on:
                self._log(lane.key)
        for key, _, epoch in over:
            self._count(key, diverged_at=epoch)
        for lane in done:
            self._count(lane.key)
        for lane in going_on:
            self._advance(lane.key)

    def _open_runs(self, planned: Planned) -> None:
        """Make or reopen the run of every trial of the stack's lanes."""
        with self.tracker.together():
            for lane in planned.lanes:
                group = self.groups[lane.key]
                for trial in group:
                    if trial.id in self.run_ids:
                        continue
                    known = self.known.get(trial.id)
                    if known is not None and self._goes_on(known, lane):
                        self.logged[trial.id] = self.tracker.resume(known.run_id)
                        self.run_ids[trial.id] = known.run_id
                        continue
                    if known is not None:
                        self.tracker.discard(known.run_id)
                    twin = group[0] if trial is not group[0] else None
                    self.run_ids[trial.id] = self.tracker.begin(
                        trial, identical_to=twin, engine=self.execution.engine
                    )
                    self.logged[trial.id] = -1

    def _goes_on(self, known: Known, lane: Lane) -> bool:
        """Whether a run holds the beginning of a lane's curve: engines that took turns have one each."""
        return lane.key in self.curves and self.tracker.engine_of(known.run_id) == self.execution.engine

    def _log(self, key: str) -> None:
        """Log what is new of a lane's curve to the run of each of its trials."""
        for trial in self.groups[key]:
            self.tracker.log(self.run_ids[trial.id], self._new(trial))

    def _advance(self, key: str) -> None:
        """Count what was logged of a lane that goes on."""
        for trial in self.groups[key]:
            self.progress.epoch(_epochs(trial, self._new(trial)))
            self.logged[trial.id] = self.curves[key][-1].epoch

    def _new(self, trial: Trial) -> list[tuple[int, dict[str, float]]]:
        """Return what the trial's run does not hold yet of its curve."""
        curve = self.curves[trial.numbers_id]
        return [(record.epoch, record.metrics) for record in curve if record.epoch > self.logged[trial.id]]

    def _finish(self, key: str, theta: np.ndarray, ended: Trained, diverged_at: int | None = None) -> None:
        """Log the rest of a lane's curve, and close the run of each of its trials."""
        curve = self.curves[key]
        seconds = sum(record.seconds for record in curve) / max(curve[-1].epoch, 1)
        best = best_of((record.epoch, record.metrics) for record in curve)
        for trial in self.groups[key]:
            weights = Parameters(trial.recipe.architecture, theta[None]).named(0)
            self.tracker.finish(
                self.run_ids[trial.id],
                trial,
                weights,
                seconds_per_epoch=seconds,
                blas=ended.blas,
                engine=ended.engine,
                diverged_at=diverged_at,
                curve=self._new(trial),
                best=best,
            )

    def _count(self, key: str, diverged_at: int | None = None) -> None:
        """Count the trials of a lane whose runs are closed; nothing of it is needed any more."""
        last = self.curves[key][-1].metrics
        metric = "val_accuracy" if "val_accuracy" in last else "test_accuracy"
        for trial in self.groups[key]:
            self.closed.add(trial.id)
            self.progress.epoch(_epochs(trial, self._new(trial)))
            if diverged_at is None:
                self.outcome.finished.append(trial.name)
                self.progress.done(trial.name, last[metric], metric)
            else:
                self.outcome.diverged.append((trial.name, diverged_at))
                self.progress.say(f"{trial.name} diverged at epoch {diverged_at}")
                self.progress.epoch(max(trial.recipe.epochs, 1) - max(diverged_at, 1))
                self.progress.done(trial.name, float("-inf"), metric)
        self.checkpoints.remove(key)

    def _save(self, stack: Stack) -> None:
        """Write checkpoints; where that can't be done the sweep goes on without, and says so once."""
        left = [
            k
            for k, lane in enumerate(stack.lanes)
            if any(trial.id not in self.closed for trial in self.groups[lane.key])
        ]
        try:
            self.checkpoints.save(stack.select(left), self.curves)
        except OSError as error:
            if not self.unsaved:
                self.progress.say(
                    f"checkpoints can't be written to {self.checkpoints.folder} ({error}); the sweep goes "
                    "on, but if it is stopped, the trials under way start over"
                )
            self.unsaved = True

    def _set_apart(self, planned: Planned, broken: Broken, by_itself: bool) -> None:
        """Find the trial that broke a segment by halving its stack, and record its failure on its run.

        A death in loky's pool fails every segment under way, whoever brought it about, so it counts only
        against a stack that ran by itself; in a cluster, from the second on, for machines come and go.
        """
        count, keys = len(planned.lanes), tuple(lane.key for lane in planned.lanes)
        died = isinstance(broken, WorkerDied)
        if died and not by_itself:
            self.progress.say(f"a worker died; a stack of {count} is tried again by itself")
            self.suspects.append(planned)
            return
        if died and not self._die_together and not self.deaths[keys]:
            self.progress.say(f"a worker died; a stack of {count} is tried again")
            self.deaths[keys] += 1
            self.waiting.append(planned)
            return
        again = self.suspects if died and self._die_together else self.waiting
        if count > 1:
            self.progress.say(f"a stack of {count} broke ({broken.reason}); trying its halves")
            again.extendleft(planned.split())
            return
        (lane,) = planned.lanes
        group = self.groups[lane.key]
        self.breaks[lane.key] += 1
        if self.breaks[lane.key] <= self.execution.retries:
            self.progress.say(
                f"{group[0].name} broke ({broken.reason}); tried again, {self.breaks[lane.key]} of "
                f"{self.execution.retries} times"
            )
            again.appendleft(planned)
            return
        for trial in group:
            self.tracker.fail(self.run_ids[trial.id], broken.reason, broken.traceback)
            self.closed.add(trial.id)
            self.outcome.failed.append((trial.name, broken.reason))
            self.progress.say(f"{trial.name} failed: {broken.reason}")
            self.progress.epoch(max(trial.recipe.epochs - max(planned.epoch, 0), 1))
            self.progress.failure()
        if self.execution.fail_fast and not self.outcome.stopped:
            self.outcome.stopped = True
            self.progress.say("execution.fail_fast=true: waiting for the segments under way, then leaving")

    def _load_checkpoints(self) -> dict[str, Stack]:
        """Return the state of each lane that was begun before, and remember its curve."""
        states: dict[str, Stack] = {}
        others: Counter[str] = Counter()
        for key, group in self.groups.items():
            try:
                found = self.checkpoints.load(group[0].lane(), group[0].recipe)
            except DamagedError as error:
                self.progress.say(f"{group[0].name} starts over: {error}")
                continue
            if found is not None:
                states[key], self.curves[key] = found
            else:
                others.update(self.checkpoints.begun_by_others(key))
        if states:
            self.progress.say(f"{len(states)} begun before: they go on where they were")
        for engine, count in others.items():
            self.progress.say(
                f"{count} begun before with execution.engine={engine} start over, for a trial is one engine's"
                f" from beginning to end; with execution.engine={engine} they go on where they were"
            )
        wanted = self.execution.diagnostics
        if unlike := sum(told_by(self.curves[key][-1].metrics) != wanted for key in states):
            have = "have diagnostics from here on" if wanted else "have no diagnostics from here on"
            other = "diagnostics=false" if wanted else "diagnostics=true"
            self.progress.say(f"{unlike} of them {have}; so far they were trained with {other}")
        return states

    def _interrupt_open_runs(self) -> None:
        """Close the runs that an end before the end left open; a whole sweep leaves none."""
        for trial_id, run_id in self.run_ids.items():
            if trial_id not in self.closed:
                self.tracker.interrupt(run_id)
