"""How long stacks take on all workers together: the sweep loop, simulated with known seconds of epochs."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST = 50
"""How many waiting stacks are simulated one by one. The work of those before them is divided evenly."""


class Job(NamedTuple):
    """A stack to train: a number for its kind, its number of lanes (networks), and the epochs that remain."""

    kind: int
    lanes: int
    epochs: float


Epoch = Callable[[int, int, int], float]
"""Returns the seconds of an epoch, given the kind, the lanes and the threads of a stack."""

Threads = Callable[[int], int]
"""Returns how many threads a stack gets, if this many stacks are in training or wait, itself included."""


@dataclass(frozen=True)
class Busy:
    """A stack of networks in training: what it had to train when it `began`, and its number of threads."""

    job: Job
    began: float = 0.0
    threads: int = 1


def seconds_left(
    waiting: Sequence[Job],
    n_jobs: int,
    epoch: Epoch,
    *,
    busy: Iterable[Busy] = (),
    segment: float = math.inf,
    threads: Threads = lambda stacks: 1,
) -> float:
    """Simulate the workers, and return the seconds from time 0 until all stacks of networks are trained.

    A free worker takes the first stack that waits. When no stack waits, the rest of a stack that returns is
    divided among the workers that are idle, as in :class:`fnnexp.sweeping.waiting.Waiting`.

    Parameters
    ----------
    waiting
        The stacks that wait, in order.
    n_jobs
        The number of workers.
    epoch
        Returns the seconds of an epoch, for a kind of stack, a number of lanes and a number of threads.
    busy
        The stacks in training, at most one for each worker.
    segment
        After how many seconds a stack returns, at the end of an epoch.
    threads
        Returns the number of threads of each stack, for a number of stacks in training.
    """
    running = [_Running(each, epoch(each.job.kind, each.job.lanes, each.threads), segment) for each in busy]
    first = Counter(waiting[:-MOST])
    shared = sum(count * job.epochs * epoch(job.kind, job.lanes, 1) for job, count in first.items()) / n_jobs
    return shared + _simulated(deque(waiting[-MOST:]), n_jobs, epoch, running, segment, threads)


@dataclass(frozen=True)
class _Running:
    """A stack in training: the seconds of one of its epochs, and how often the worker returns it."""

    busy: Busy
    epoch: float
    segment: float

    @property
    def end(self) -> float:
        """When the stack is done."""
        return self.busy.began + self.busy.job.epochs * self.epoch

    def returns(self, after: float) -> float:
        """Return the first time after `after` at which the worker returns the stack, to go on or done."""
        if self.epoch <= 0 or self.segment / self.epoch >= self.busy.job.epochs:
            return self.end
        epochs = max(math.ceil(self.segment / self.epoch), 1)
        segments = math.floor((after - self.busy.began) / (epochs * self.epoch)) + 1
        return min(self.busy.began + max(segments, 1) * epochs * self.epoch, self.end)

    def rest(self, at: float) -> Job:
        """Return the stack with the epochs that are left if the worker returns it at the time `at`."""
        trained = round((at - self.busy.began) / self.epoch)
        return self.busy.job._replace(epochs=self.busy.job.epochs - trained)


def _simulated(
    queue: deque[Job],
    n_jobs: int,
    epoch: Epoch,
    running: list[_Running],
    segment: float,
    threads: Threads,
) -> float:
    def start(job: Job, at: float, stacks: int) -> None:
        count = threads(stacks)
        running.append(_Running(Busy(job, at, count), epoch(job.kind, job.lanes, count), segment))

    now = 0.0
    while running or queue:
        if queue and len(running) < n_jobs:
            start(queue.popleft(), now, len(running) + 1 + len(queue))
            continue
        next_done = min(running, key=lambda each: each.end)
        if len(running) < n_jobs:
            changes = [each for each in running if _changes(each, threads(len(running)))]
            next_back = min(changes, key=lambda each: each.returns(now), default=next_done)
            at = next_back.returns(now)
            if at < next_done.end:
                running.remove(next_back)
                now = at
                parts = _divided(next_back.rest(at), n_jobs - len(running))
                stacks = len(running) + len(parts)
                for part in parts:
                    start(part, now, stacks)
                continue
        running.remove(next_done)
        now = max(now, next_done.end)
    return now


def _changes(each: _Running, threads: int) -> bool:
    """Return whether idle workers can help with a stack that returns: by training a part, or with threads."""
    return each.busy.job.lanes > 1 or each.busy.threads < threads


def _divided(job: Job, n: int) -> list[Job]:
    """Divide a stack into n parts, as the sweep would; into fewer if each has a single lane (network).

    >>> [part.lanes for part in _divided(Job(0, 5, 1), 3)], [part.lanes for part in _divided(Job(0, 2, 1), 3)]
    ([2, 2, 1], [1, 1])
    """
    widths = [job.lanes]
    while len(widths) < n and max(widths) > 1:
        widest = max(widths)
        widths.remove(widest)
        widths += [(widest + 1) // 2, widest // 2]
    return [job._replace(lanes=lanes) for lanes in sorted(widths, reverse=True)]
