"""The time left of a sweep, from the shapes of its stacks and what their epochs took so far."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from fnnexp.nn.training import Record
from fnnexp.sweeping.executor import Executor, threads_each
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.resources.makespan import Busy, Job, seconds_left
from fnnexp.sweeping.resources.speeds import Speeds, recalled

ENOUGH_SHARE, ENOUGH_SECONDS = 0.1, 20.0
"""The time left is shown once the workers have trained for 10% of the sweep, or for 20 s each."""

AT_FIRST = 0.1
"""The weight of what is measured while the workers load code and MLflow opens the store."""


@dataclass(frozen=True)
class _Running:
    """A stack that was submitted. `since` is when a worker began to train it; None while all are busy."""

    stack: PlannedStack
    job: Job
    threads: int
    since: float | None


class TimeLeft:
    """Estimates the time left from the shapes of the stacks and the seconds that their epochs took.

    The rest of the sweep is simulated (:mod:`fnnexp.sweeping.resources.makespan`) with the speeds that were
    measured so far (:class:`fnnexp.sweeping.resources.speeds.Speeds`). The time that a worker takes for some
    epochs is measured from when it was free to when this process takes the results. So it includes the time
    in which one waits for the other.

    Parameters
    ----------
    stacks
        All stacks of the sweep, in order.
    n_jobs
        The number of workers.
    clock
        Returns the seconds since some moment.
    engine
        The name of the engine.
    segment_seconds
        How long a worker trains before it returns a stack.
    cores
        How many cores the stacks may share, as threads, if fewer stacks train than there are workers.

    Attributes
    ----------
    speeds
        The speeds that were measured.
    """

    def __init__(
        self,
        stacks: Sequence[PlannedStack],
        n_jobs: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        engine: str = "numpy",
        segment_seconds: float = 5.0,
        cores: int = 1,
    ) -> None:
        self.n_jobs, self.clock, self.segment, self.cores = n_jobs, clock, segment_seconds, cores
        self.speeds = Speeds(engine)
        self._waiting = [self._entry(stack) for stack in stacks]
        self._running: tuple[_Running, ...] = ()
        self._workers, self._segments, self._measured = min(n_jobs, len(stacks)), 0, 0.0
        self._loading = 0.0  # the seconds that a worker takes longer for its first epoch

    @classmethod
    def of(cls, stacks: Sequence[PlannedStack], executor: Executor) -> TimeLeft:
        """Return an estimator for the stacks that an executor trains, with speeds from earlier sweeps."""
        execution, n_jobs = executor.execution, executor.n_jobs
        left = cls(
            stacks,
            n_jobs,
            engine=execution.engine,
            segment_seconds=execution.segment_seconds,
            cores=executor.cores,
        )
        if executor.cluster is None:
            recalled(left.speeds, stacks, threads_each(n_jobs, len(stacks)), n_jobs)
        return left

    def submitted(self, stack: PlannedStack, threads: int = 1) -> None:
        """Note that a stack of networks was handed to the workers, to be trained with so many threads."""
        self._take(stack)
        is_free = len(self._running) < self.n_jobs
        since = self.clock() if is_free else None
        self._running += (_Running(stack, self._job(stack), threads, since),)

    def returned(
        self, stack: PlannedStack, rest: PlannedStack | None = None, records: Iterable[Record] = ()
    ) -> None:
        """Note that a worker has returned a stack of networks.

        Parameters
        ----------
        stack
            The stack as it was submitted.
        rest
            The stack with its remaining epochs; None if the stack is done or has failed.
        records
            The records of the epochs that the worker trained.
        """
        now, former = self.clock(), next((each for each in self._running if each.stack is stack), None)
        running = [each for each in self._running if each is not former]
        for i, each in enumerate(running[: self.n_jobs]):
            if each.since is None:
                running[i] = replace(each, since=now)
        self._running = tuple(running)
        if former is None:
            self._take(stack)
        if rest:
            self._waiting.insert(0, self._entry(rest))
        by_epoch: defaultdict[int, list[float]] = defaultdict(list)
        for record in records:
            if record.epoch > 0 or stack.recipe.epochs == 0:
                by_epoch[record.epoch].append(record.seconds)
        if former is not None and by_epoch:
            self._measure(former, [by_epoch[epoch] for epoch in sorted(by_epoch)], now)

    def _measure(self, former: _Running, epochs: Sequence[Sequence[float]], now: float) -> None:
        """Note how long some epochs of a stack took.

        `epochs` has a list for each epoch, with each network's share of the seconds that the epoch took.

        The first epoch of a worker loads code, and while the workers train their first epochs, MLflow's
        import slows them down. So the first epoch does not count. From the first results of a worker, only
        the quicker half of the other epochs counts; from later results, all of them.
        """
        kind, lanes, threads = former.job.kind, former.job.lanes, former.threads
        is_first = self._segments < self._workers
        self._segments += 1
        self._measured += sum(map(sum, epochs))
        seconds = [sum(shares) * lanes / len(shares) for shares in epochs]  # as if no lane had ended
        waited = 0.0 if is_first or former.since is None else now - former.since - sum(map(sum, epochs))
        usual = seconds[1:] or seconds
        typical = statistics.fmean(sorted(usual)[: -(-len(usual) // 2)] if is_first else usual)
        if is_first:
            self._loading = max(seconds[0] - typical, 0.0)
        weight = AT_FIRST if is_first else 1.0
        taken = len(seconds) * typical + max(waited, 0.0)
        self.speeds.note(kind, lanes, threads, taken, epochs=len(seconds), weight=weight)
        if former.stack.recipe.epochs > 0 and (len(seconds) > 1 or not is_first):
            trials = lanes if former.stack.stack.epoch == 0 else 0
            self.speeds.remember(kind, lanes, threads, seconds[is_first:], trials=trials)

    def seconds(self) -> float | None:
        """Return the estimated seconds left, or None until enough is measured for an estimate."""
        if self._segments < self._workers:
            return None
        now, running, waiting = self.clock(), self._running, [job for _, job in self._waiting]
        busy = [Busy(each.job, each.since - now, each.threads) for each in running if each.since is not None]
        left = seconds_left(
            [*(each.job for each in running if each.since is None), *waiting],
            self.n_jobs,
            self.speeds.epoch,
            busy=busy,
            segment=self.segment,
            threads=lambda stacks: max(self.cores // stacks, 1),
        )
        if self._workers == 1:  # the next segment is for another worker, which loads its code
            left += self._loading * (self._segments < self.n_jobs)
        enough = min(ENOUGH_SHARE * (self._measured + left * self._workers), ENOUGH_SECONDS * self.n_jobs)
        return left if self._measured >= enough else None

    def _entry(self, stack: PlannedStack) -> tuple[frozenset[str], Job]:
        return frozenset(lane.key for lane in stack.lanes), self._job(stack)

    def _job(self, stack: PlannedStack) -> Job:
        epochs = max(stack.last_epoch - stack.stack.epoch, 1)
        return Job(self.speeds.kind(stack), len(stack.lanes), epochs)

    def _take(self, stack: PlannedStack) -> None:
        """Remove the networks of a stack from those that wait; a waiting stack may lose only some of them."""
        keys = frozenset(lane.key for lane in stack.lanes)
        for i, (waiting, job) in enumerate(self._waiting):
            if keys & waiting:
                others = waiting - keys
                self._waiting[i : i + 1] = [(others, job._replace(lanes=len(others)))] if others else []
                return
