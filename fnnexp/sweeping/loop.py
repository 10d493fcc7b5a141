"""The sweep: a fold of pure segments. Workers train; the parent alone logs, saves and hands out again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from rich.console import Console

from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.data.cache import cache_folder
from fnnexp.nn.engines.base import engine_named
from fnnexp.nn.training import Stack, engine_version
from fnnexp.sweeping.backends.cluster import connected
from fnnexp.sweeping.checkpoints import CHECKPOINTS, Checkpoints, resume
from fnnexp.sweeping.executor import Executor
from fnnexp.sweeping.locks import Claim, folder_for
from fnnexp.sweeping.plan import PlannedStack, identical, plan
from fnnexp.sweeping.progress import SweepProgress
from fnnexp.sweeping.runs import Outcome, Runs, say_undiagnosed
from fnnexp.sweeping.stopping import stopping
from fnnexp.sweeping.waiting import Suspicion, Waiting
from fnnexp.sweeping.worker import Broken, Trained
from fnnexp.tracking.reader import Known, runs_of
from fnnexp.tracking.retry import StoreError, mlflow_settings
from fnnexp.tracking.writer import Tracker

__all__ = ["Outcome", "run"]

AHEAD = 2
"""The stacks handed out to each worker before the store is open, so that no worker waits for that."""


def run(trials: Sequence[Trial], tracker: Tracker, execution: Execution, console: Console) -> Outcome:
    """Train the trials that are not done yet.

    An exception in a trial is recorded on its run and costs no other trial, except with ``fail_fast``, which
    stops the sweep at the first. Ctrl-C and SIGTERM let the segments under way end and save them; the outcome
    then says that the sweep was interrupted.
    """
    began = time.monotonic()
    tracker.check()
    folder = folder_for(tracker.uri, cache_folder())
    with mlflow_settings(), Claim(folder, tracker.experiment, [trial.id for trial in trials]) as claim:
        known = _known(tracker, claim)
        done, wanted = runs_of(known, trials)
        if execution.diagnostics:
            say_undiagnosed(known, done, console)
        checkpoints = Checkpoints(CHECKPOINTS, execution.engine)
        checkpoints.tidy()
        # Those of a sweep that was killed before it could.
        checkpoints.remove({trial.numbers_id for trial in done} - {trial.numbers_id for trial in wanted})
        outcome = Outcome(done_before=len(done))
        others = claim.elsewhere
        outcome.elsewhere = [(trial.name, others[trial.id]) for trial in wanted if trial.id in others]
        if mine := [trial for trial in wanted if trial.id not in others]:
            groups = identical(mine)
            epochs = sum(max(trial.recipe.epochs, 1) for trial in mine)
            with connected(execution) as cluster:
                progress = SweepProgress(console, epochs=epochs, trials=len(mine))
                tracker.say = progress.say
                for version in _engines_that_fall_back(mine, execution.engine):
                    progress.say(f"computed by {version}")
                begun, curves = resume(checkpoints, groups, execution, progress.say)
                executor = Executor(execution, cluster, say=progress.say, beat=claim.beat)
                stacks = plan(groups, max_lanes=execution.max_lanes, n_jobs=executor.n_jobs, begun=begun)
                runs = Runs(groups, known, execution.engine, curves, tracker, progress, outcome)
                _Sweep(stacks, executor, runs, checkpoints, claim).run()
    outcome.seconds = time.monotonic() - began
    return outcome


def _known(tracker: Tracker, claim: Claim) -> Mapping[str, Known]:
    """Return the runs that the store has, by trial id; on a server, claim the trials there too.

    A store without the experiment has none; it is opened later, while the workers train.
    """
    if tracker.is_new:
        return {}
    with claim.turn():
        tracker.open()
    if tracker.is_remote:
        claim.share(tracker)
    return tracker.known()


def _engines_that_fall_back(trials: Sequence[Trial], engine: str) -> list[str]:
    """Return the engine's versions, as runs record them, where another computes a part for it."""
    versions = {engine_version(trial.recipe, engine) for trial in trials}
    return sorted(versions - {engine_named(engine).version})


class _Sweep:
    """The loop over the parts of a sweep: what waits, runs, is logged, is suspected, and is saved."""

    def __init__(
        self,
        stacks: Sequence[PlannedStack],
        executor: Executor,
        runs: Runs,
        checkpoints: Checkpoints,
        claim: Claim,
    ) -> None:
        self.executor, self.runs, self.checkpoints, self.claim = executor, runs, checkpoints, claim
        self.tracker, self.progress, self.outcome = runs.tracker, runs.progress, runs.outcome
        self.waiting = Waiting(stacks, executor.n_jobs)
        retries, die_together = executor.execution.retries, executor.cluster is None
        self.suspicion = Suspicion(self.waiting, retries=retries, die_together=die_together)
        self.cannot_save = False

    def run(self) -> None:
        """Hand out stacks and take in what comes back until nothing is left."""
        executor = self.executor
        try:
            with stopping(self._interrupt), self.progress:
                self._begin()
                while executor.under_way or (self.waiting and not self._is_stopping):
                    self._hand_out()
                    while not executor.ready() and self.tracker.describe():
                        pass  # while we wait, we write what need not be written at once
                    if self._is_stopping:
                        executor.forget()
                    if executor.under_way:
                        self._take_in(*executor.result())
        except StoreError:
            self._save_what_comes()
            raise
        except KeyboardInterrupt:
            executor.abandon(at_once=True)
            raise
        finally:
            executor.close()
            with suppress(StoreError):
                self.runs.interrupt()

    def _begin(self) -> None:
        """Let the workers begin, and then open the store, which takes MLflow seconds."""
        ahead = self.executor.n_jobs * (1 if self.tracker.is_open else AHEAD)
        first = self.waiting.first(ahead)
        for planned in first:
            self.executor.submit(planned)
        try:
            with self.claim.turn():
                self.tracker.open()
        except Exception:
            self.executor.abandon()
            raise
        for planned in first:
            self.runs.open(planned.lanes)

    def _hand_out(self) -> None:
        """Keep every worker busy."""
        while not self._is_stopping and (planned := self.waiting.next(self.executor.under_way)):
            self.executor.submit(planned)
            self.runs.open(planned.lanes)

    def _take_in(self, planned: PlannedStack, ended: Trained | Broken) -> None:
        """Log and save a segment, and put the rest of its stack back; or find out what broke it."""
        if isinstance(ended, Broken):
            self._try_again(planned, ended)
            return
        self.suspicion.clear(planned)
        self.runs.add(ended.records)  # before anything that Ctrl-C could cut short
        stack = ended.stack
        unfinished = bool(stack.lanes) and stack.epoch < planned.recipe.epochs
        if unfinished:
            self.waiting.put_back(replace(planned, stack=stack), self.executor.under_way)
        try:
            self._hand_out()  # the worker first, then the books
            if unfinished:
                self._save(stack)
            self.checkpoints.remove(self.runs.log(ended, unfinished))
        except StoreError:
            self._save(stack)
            raise

    def _try_again(self, planned: PlannedStack, broken: Broken) -> None:
        """Have a broken stack tried again, in halves; fail a single lane that has broken too often."""
        first, *_ = self.runs.groups[planned.lanes[0].key]
        if line := self.suspicion.again(planned, broken, name=first.name):
            self.progress.say(line)
            return
        self.runs.fail(planned, broken)
        if self.executor.execution.fail_fast and not self.outcome.stopped:
            self.outcome.stopped = True
            self.progress.say("execution.fail_fast=true: waiting for the segments under way, then leaving")

    def _save(self, stack: Stack) -> None:
        """Write the checkpoints of a stack; where that can't be done, say so once, and go on."""
        try:
            self.checkpoints.save(stack, self.runs.curves)
        except OSError as error:
            if not self.cannot_save:
                self.progress.say(
                    f"checkpoints can't be written to {self.checkpoints.folder} ({error}); the sweep goes "
                    "on, but if it is stopped, the trials under way start over"
                )
            self.cannot_save = True

    def _save_what_comes(self) -> None:
        """Save the segments under way, which can't be logged now: the same command logs them."""
        self.progress.say("nothing can be logged: saving what is under way, then leaving")
        self.executor.forget()
        while self.executor.under_way:
            _, ended = self.executor.result()
            if isinstance(ended, Trained):
                self.runs.add(ended.records)
                self._save(ended.stack)

    @property
    def _is_stopping(self) -> bool:
        return self.outcome.interrupted or self.outcome.stopped

    def _interrupt(self) -> None:
        self.outcome.interrupted = True
        self.progress.say("interrupted: waiting for the segments under way; Ctrl-C again to leave at once")
