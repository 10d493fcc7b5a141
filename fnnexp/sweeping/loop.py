"""The sweep loop: workers train segments (some epochs of a stack); the parent logs and saves their results.

The parent then submits the remaining epochs of each stack.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from rich.console import Console

from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.console import print_plain, while_doing
from fnnexp.data.cache import cache_folder
from fnnexp.data.npz import DamagedError
from fnnexp.errors import plural
from fnnexp.nn.engines.base import engine_named
from fnnexp.nn.training import Stack, engine_version
from fnnexp.sweeping.backends.cluster import connected
from fnnexp.sweeping.checkpoints import CHECKPOINTS, Checkpoints, resume
from fnnexp.sweeping.executor import Executor, too_many_workers, worker_count
from fnnexp.sweeping.plan import PlannedStack, identical, in_order, last_epoch, plan
from fnnexp.sweeping.resources import disk, memory
from fnnexp.sweeping.resources.engine import COMPILING, done_by_others, must_compile, with_engine
from fnnexp.sweeping.resources.locks import Claim, folder_for, in_use
from fnnexp.sweeping.resources.states import STATES, States, begun_with
from fnnexp.sweeping.runs import Outcome, Runs, print_undiagnosed
from fnnexp.sweeping.terminal.progress import SweepProgress, cores_used
from fnnexp.sweeping.terminal.stopping import stopping
from fnnexp.sweeping.work import FAILED, INTERRUPTED, Work
from fnnexp.sweeping.worker import Broken, Trained
from fnnexp.tracking.reader import Known, runs_of
from fnnexp.tracking.retry import StoreError, mlflow_settings
from fnnexp.tracking.writer import Tracker

__all__ = ["Outcome", "run"]

AHEAD = 2
"""Stacks submitted per worker before the MLflow store is open, so that no worker waits for the store."""


def run(
    trials: Sequence[Trial],
    tracker: Tracker,
    execution: Execution,
    console: Console,
    *,
    deadline: float | None = None,
    keep_order: bool = False,
    quiet: bool = False,
    upto: int | None = None,
) -> Outcome:
    """Train the trials that are not done yet, and return what became of all trials.

    An exception in a trial is recorded on its run and does not affect other trials. With ``fail_fast`` the
    first exception stops the sweep. After Ctrl-C or SIGTERM the running segments end and are saved; the
    outcome's ``interrupted`` is then true.

    Parameters
    ----------
    trials, tracker, execution, console
        The trials; the writer of their MLflow runs; the settings; where to print.
    deadline
        A time of ``time.monotonic`` at which the sweep ends as after Ctrl-C; the outcome's ``out_of_time`` is
        then true. None is no limit.
    keep_order
        Whether the stacks train in the order of their trials, instead of the most expensive first.
    quiet
        Whether the progress leaves no lines behind, as in the later rounds of a search.
    upto
        An epoch at which training pauses: each trial gets a checkpoint, its run stays unfinished, and a later
        call goes on with it. None trains all epochs.
    """
    began = time.monotonic()
    tracker.check()
    folder = folder_for(tracker.uri, cache_folder())
    claim = Claim(folder, tracker.experiment, [trial.id for trial in trials])
    with mlflow_settings(), in_use(STATES.parent, cache_folder()), claim:
        with while_doing("opening the MLflow store", console):
            known = _known(tracker, claim)
        done, wanted = runs_of(known, trials)
        print_undiagnosed(known, done, execution.diagnostics, console)
        states = States(STATES, execution.keep_states)
        states.say = partial(print_plain, console)
        shorter = states.ends_of(wanted)
        execution, about_engines = with_engine(
            execution,
            trials,
            known,
            n_jobs=worker_count(execution.n_jobs),
            shorter=begun_with(shorter, wanted, execution),
        )
        checkpoints = Checkpoints(CHECKPOINTS, execution.engine)
        checkpoints.tidy()
        # A sweep that was killed may have left checkpoints of finished trials.
        checkpoints.remove({trial.numbers_id for trial in done} - {trial.numbers_id for trial in wanted})
        by_others = done_by_others(done, known, execution.engine)
        outcome = Outcome(done_before=len(done), by_other_engines=by_others)
        owners = claim.elsewhere
        outcome.elsewhere = [(trial.name, owners[trial.id]) for trial in wanted if trial.id in owners]
        if claimed := [trial for trial in wanted if trial.id not in owners]:
            results = disk.needed(claimed, diagnostics=execution.diagnostics)
            disk.check(results, tracker.uri, tracker.experiment)
            states.results = disk.needed_beside(STATES, results, tracker.uri, tracker.experiment)
            groups = identical(claimed)
            epochs = sum(max(last_epoch(trial.recipe, upto), 1) for trial in claimed)
            with connected(execution) as cluster:
                progress = SweepProgress(console, epochs=epochs, trials=len(claimed), quiet=quiet)
                tracker.say = states.say = progress.say
                n_jobs = worker_count(execution.n_jobs, cluster)
                if not quiet:
                    for line in filter(None, [*about_engines, too_many_workers(n_jobs, cluster)]):
                        progress.say(line)
                for version in _fallback_engines(claimed, execution.engine):
                    progress.say(f"computed by {version}")
                if cluster is None and must_compile(claimed, execution.engine):
                    progress.say(COMPILING.format(execution.engine))
                begun, curves = resume(checkpoints, groups, execution, progress.say, is_told=not quiet)
                begun |= states.go_on(shorter, groups, execution, begun)
                planned = plan(groups, max_lanes=execution.max_lanes, n_jobs=n_jobs, begun=begun, upto=upto)
                stacks = memory.fitting(planned, groups, execution, n_jobs)
                if keep_order:
                    stacks = in_order(stacks, groups)
                executor = Executor(execution, cluster, say=progress.say, beat=claim.beat, deadline=deadline)
                runs = Runs(groups, known, execution.engine, curves, tracker, progress, outcome, upto)
                _Sweep(stacks, executor, runs, checkpoints, states, claim, deadline).run()
                tracker.tidy()
    outcome.seconds = time.monotonic() - began
    return outcome


def _known(tracker: Tracker, claim: Claim) -> Mapping[str, Known]:
    """Open the store and return its runs by trial id. If it is a server, also claim the trials on it.

    A new experiment has no runs, so then this returns at once: the store is opened later, while the workers
    train.
    """
    if tracker.is_new:
        return {}
    with claim.turn():
        tracker.open(describe=False)
    if tracker.is_remote:
        claim.share(tracker)
    return tracker.known()


def _fallback_engines(trials: Sequence[Trial], engine: str) -> list[str]:
    """Return the versions of the engines that compute trials in place of `engine`, which can't train these.

    A version is the text that a run records as its engine.
    """
    versions = {engine_version(trial.recipe, engine) for trial in trials}
    return sorted(versions - {engine_named(engine).version})


def _how_workers_start(executor: Executor) -> str:
    """Return the text that the progress shows while the workers start."""
    if executor.cluster is not None:
        return f"handing work to {plural(executor.n_jobs, 'worker')}"
    return f"starting {plural(executor.n_jobs, 'worker')}" if executor.n_jobs > 1 else "starting"


class _Sweep:
    """The sweep loop and its parts.

    These are the queue, the workers, the MLflow runs, the checkpoints, the final states, and the claim, which
    keeps other sweeps from training the same trials.
    """

    def __init__(
        self,
        stacks: Sequence[PlannedStack],
        executor: Executor,
        runs: Runs,
        checkpoints: Checkpoints,
        states: States,
        claim: Claim,
        deadline: float | None = None,
    ) -> None:
        self.deadline = math.inf if deadline is None else deadline
        self.executor, self.runs, self.claim = executor, runs, claim
        self.checkpoints, self.states = checkpoints, states
        self.tracker, self.progress, self.outcome = runs.tracker, runs.progress, runs.outcome
        self.work = Work(stacks, executor, self.progress)
        # A sweep that was killed may have saved the last epoch of a stack and not logged it.
        self.there = [planned for planned in stacks if planned.is_there]
        self.cannot_save = False

    def run(self) -> None:
        """Submit stacks of networks and process the results that come back, until no stack is left."""
        executor = self.executor
        try:
            with stopping(self._interrupt), self.progress:
                self._begin()
                while self.work.is_left:
                    self._hand_out()
                    while not executor.ready() and self.tracker.describe():
                        pass  # use the wait to log params, which are not urgent
                    if self.work.is_stopping:
                        executor.forget()
                    if executor.under_way:
                        self._take_in(*executor.result())
        except StoreError:
            self._save_running_segments()
            raise
        except KeyboardInterrupt:
            executor.abandon(at_once=True)
            raise
        finally:
            self.work.close()
            with suppress(StoreError):
                self.runs.interrupt()

    def _begin(self) -> None:
        """Start the workers first and then open the store, which takes MLflow seconds."""
        workers = _how_workers_start(self.executor)
        self.progress.start(workers, len(self.work.waiting.stacks), self._cores_used())
        # With a deadline, give each worker only one stack: it would begin a second one after the deadline.
        at_once = self.tracker.is_open or self.deadline < math.inf
        ahead = self.executor.n_jobs * (1 if at_once else AHEAD)
        first = []
        for planned in self.work.waiting.first(ahead):
            first.append(self._submit(planned))
        if not self.tracker.is_open:
            self.progress.stage(f"{workers} and opening the MLflow store")
        try:
            with self.claim.turn():
                self.tracker.open()
        except Exception:
            self.executor.abandon()
            raise
        for planned in first:
            self.runs.open(planned.lanes)
        for planned in self.there:
            self._log_again(planned)
        self.progress.stage("training the first epochs")

    def _cores_used(self) -> str:
        """Return the end of the first line of the progress, such as ", with 2 threads"; often it is empty."""
        if self.executor.cluster is not None:
            return ""
        return cores_used(self.work.waiting.stacks, self.executor.execution.engine, self.executor.n_jobs)

    def _submit(self, planned: PlannedStack) -> PlannedStack:
        """Submit a stack of networks; return it with the parameters from which its training goes on."""
        if planned.stack.epoch and not planned.stack.has_parameters:
            planned = self._loaded(planned)
        self.work.submit(planned)
        return planned

    def _loaded(self, planned: PlannedStack) -> PlannedStack:
        """Return a stack with the saved states of trials with fewer epochs, from which its networks go on.

        If the states can't be read, return the stack at epoch 0.
        """
        try:
            stack, records = self.states.loaded(planned, diagnostics=self.executor.execution.diagnostics)
        except DamagedError as error:
            trials = sum(len(self.runs.groups[lane.key]) for lane in planned.lanes)
            start_over = f"{plural(trials, 'trial')} will start over instead of going on from saved states"
            self.progress.say(f"{start_over}: {error}")
            fresh = replace(planned, stack=Stack.without_parameters(planned.lanes))
            self.work.time_left.returned(planned, fresh)
            return fresh
        self.runs.go_on(records)
        return replace(planned, stack=stack)

    def _log_again(self, planned: PlannedStack) -> None:
        """Log a stack of networks that an earlier sweep already trained up to `upto`, so it does not train.

        That sweep may have been killed after it saved the last epoch and before it logged it.
        """
        if not planned.stack.has_parameters:
            planned = self._loaded(planned)
            if not planned.is_there:
                self.work.waiting.stacks.append(planned)
                return
            self._save(planned.stack)
        self.runs.open(planned.lanes)
        self.runs.pause(planned.stack.lanes)
        self.work.time_left.returned(planned)

    def _hand_out(self) -> None:
        """Submit stacks of networks until every worker is busy."""
        if self.work.waiting:
            self._note_the_time()
        while planned := self.work.next():
            self.runs.open(self._submit(planned).lanes)

    def _take_in(self, planned: PlannedStack, ended: Trained | Broken) -> None:
        """Log and save the epochs that a worker trained, and queue the rest of their stack of networks.

        If training failed, queue the stack again.
        """
        if isinstance(ended, Broken):
            self._retry(planned, ended)
            return
        self.runs.add(ended.records)  # first, so that Ctrl-C in a later line does not lose them
        stack = ended.stack
        unfinished = bool(stack.lanes) and stack.epoch < planned.recipe.epochs
        rest = self.work.take_back(planned, ended)
        try:
            self._hand_out()  # the worker trains while this process logs
            if unfinished:
                self._save(stack)
            self.states.keep(ended, not unfinished, self.runs.groups, self.runs.curves)
            self.checkpoints.remove(self.runs.log(ended, unfinished, is_paused=unfinished and rest is None))
        except StoreError:
            self._save(stack)
            raise

    def _retry(self, planned: PlannedStack, broken: Broken) -> None:
        """Queue a stack of networks whose training broke again, whole or in halves.

        A stack of a single network is given up after ``execution.retries`` retries, and its trial fails.
        """
        first, *_ = self.runs.groups[planned.lanes[0].key]
        if self.work.retry(planned, broken, name=first.name):
            return
        self.runs.fail(planned, broken)
        if self.executor.execution.fail_fast and not self.outcome.stopped:
            self.outcome.stopped = True
            self.work.stop(FAILED)

    def _save(self, stack: Stack) -> None:
        """Write the checkpoints of a stack of networks; warn once if they can't be written."""
        try:
            self.checkpoints.save(stack, self.runs.curves)
        except OSError as error:
            if not self.cannot_save:
                self.progress.say(
                    f"checkpoints can't be written to {self.checkpoints.folder} ({error}); the sweep "
                    "continues, but unfinished trials start over if it is stopped"
                )
            self.cannot_save = True

    def _save_running_segments(self) -> None:
        """Wait for the segments in training, and save their results, which can't be logged, in checkpoints.

        The same command goes on from these checkpoints later.
        """
        self.progress.say("results can't be logged: saving the epochs in training, then stopping")
        self.executor.forget()
        while self.executor.under_way:
            _, ended = self.executor.result()
            if isinstance(ended, Trained):
                self.runs.add(ended.records)
                self._save(ended.stack)

    def _note_the_time(self) -> None:
        """Stop the sweep if the time of its budget is over."""
        if time.monotonic() >= self.deadline and not self.outcome.out_of_time:
            self.outcome.out_of_time = True
            self.work.stop("the time of the budget is used up: stopping after the epochs in training")

    def _interrupt(self) -> None:
        self.outcome.interrupted = True
        self.work.stop(INTERRUPTED)
