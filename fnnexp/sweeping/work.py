"""The work of a sweep or a map: the stacks that wait for a worker, and those that are in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fnnexp.data.cache import cache_folder
from fnnexp.sweeping.executor import Executor
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.resources import memory
from fnnexp.sweeping.resources.kept_speeds import keep
from fnnexp.sweeping.terminal.progress import SweepProgress
from fnnexp.sweeping.terminal.time_left import TimeLeft
from fnnexp.sweeping.waiting import Suspicion, Waiting
from fnnexp.sweeping.worker import Broken, Trained

INTERRUPTED = "interrupted: stopping after the epochs in training; Ctrl-C again stops at once"

FAILED = "execution.fail_fast=true: stopping after the epochs in training"


class Work:
    """The stacks (networks that train together) that wait or are in training; and whether to stop.

    What happens with the results is up to the caller: a sweep logs them as runs, a map keeps them as cells.

    Parameters
    ----------
    stacks
        The stacks, in the order in which they should train.
    executor
        The workers.
    progress
        Where to show the time left, and messages.

    Attributes
    ----------
    waiting
        The queue of the stacks that wait.
    is_stopping
        Whether no more segments (some epochs of a stack) are to be submitted.
    """

    def __init__(self, stacks: Sequence[PlannedStack], executor: Executor, progress: SweepProgress) -> None:
        self.executor, self.progress = executor, progress
        self.time_left = progress.time_left = TimeLeft.of(stacks, executor)
        self.waiting = Waiting([planned for planned in stacks if not planned.is_there], executor.n_jobs)
        retries, die_together = executor.execution.retries, executor.cluster is None
        self._suspicion = Suspicion(self.waiting, retries=retries, die_together=die_together)
        self.is_stopping = False

    @property
    def is_left(self) -> bool:
        """Whether a segment is in training, or a stack of networks waits and may still be submitted."""
        return bool(self.executor.under_way or (self.waiting and not self.is_stopping))

    def next(self) -> PlannedStack | None:
        """Remove and return the next stack of networks to submit; None if none waits or may run now."""
        return None if self.is_stopping else self.waiting.next(self.executor.under_way)

    def submit(self, planned: PlannedStack) -> None:
        """Submit a stack of networks, to be trained with as many threads as there are idle cores."""
        threads = self.executor.threads_for(len(self.waiting))
        threads = memory.threads_that_fit(planned, threads, self.executor.execution)
        self.executor.submit(planned, threads)
        self.time_left.submitted(planned, threads)

    def take_back(self, planned: PlannedStack, trained: Trained) -> PlannedStack | None:
        """After a worker has trained a segment of a stack, queue the stack with its remaining epochs.

        Return what was queued; None if nothing remains: the stack has ended, or training stops at its epoch
        for now.
        """
        self._suspicion.clear(planned)
        stack = trained.stack
        rest = replace(planned, stack=stack) if stack.lanes and stack.epoch < planned.last_epoch else None
        self.time_left.returned(planned, rest, trained.records)
        if rest:
            self.waiting.put_back(rest, self.executor.under_way)
        return rest

    def retry(self, planned: PlannedStack, broken: Broken, *, name: str) -> bool:
        """Queue a stack of networks whose training broke again, whole or in halves; print how.

        `name` is the name of its first trial. Return False, without queueing it, if it is a single network
        that broke too often.
        """
        message = self._suspicion.retry(planned, broken, name=name)
        if message:
            self.progress.say(message)
        self.time_left.returned(planned, planned if message else None)
        return message is not None

    def stop(self, message: str) -> None:
        """Submit nothing more, and print a message that says why."""
        self.is_stopping = True
        self.progress.time_left = None
        self.progress.say(message)

    def close(self) -> None:
        """Let the workers end, and keep the speeds that were measured on this machine."""
        self.executor.close()
        if self.executor.cluster is None:
            keep(cache_folder(), self.time_left.speeds.remembered(self.executor.n_jobs))
