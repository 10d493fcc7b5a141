"""The stacks that wait for a worker, and the search among them for the trial that breaks its stack."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from fnnexp.sweeping.plan import PlannedStack, spread
from fnnexp.sweeping.worker import Broken, WorkerDied


class Waiting:
    """The queue of stacks. Those suspected of killing their worker come first, and run alone.

    Parameters
    ----------
    stacks
        In the order in which they are to run.
    n_jobs
        The number of workers.
    """

    def __init__(self, stacks: Iterable[PlannedStack], n_jobs: int) -> None:
        self.n_jobs = n_jobs
        self.stacks = deque(stacks)
        self.suspects: deque[PlannedStack] = deque()
        self._suspect: PlannedStack | None = None  # the one that runs

    def __bool__(self) -> bool:
        """Whether any stack waits."""
        return bool(self.stacks or self.suspects)

    def first(self, count: int) -> list[PlannedStack]:
        """Take the first stacks, at most so many."""
        return [self.stacks.popleft() for _ in range(min(count, len(self.stacks)))]

    def next(self, under_way: int) -> PlannedStack | None:
        """Take the stack to hand out beside those under way; None while there is none, or none may run."""
        if self._suspect is not None or under_way >= self.n_jobs:
            return None
        if self.suspects:
            if under_way:
                return None
            self._suspect = self.suspects.popleft()
            return self._suspect
        return self.stacks.popleft() if self.stacks else None

    def put_back(self, rest: PlannedStack, under_way: int) -> None:
        """Put a stack first in the queue, in as many parts as workers would be idle without."""
        idle = self.n_jobs - under_way - len(self.stacks)
        self.stacks.extendleft(reversed(spread([rest], idle)))

    def ended(self, planned: PlannedStack) -> bool:
        """Let others run again if this was a suspect; return whether the stack ran with nothing beside it."""
        suspected = planned is self._suspect
        if suspected:
            self._suspect = None
        return suspected or self.n_jobs == 1


class Suspicion:
    """Finds the trial that breaks its stack: halves the stack, and tries a single lane some times more.

    A death in loky's pool fails every segment under way, so it counts only against a stack that ran alone.
    In a cluster it fails one segment; the first counts against no stack, for machines come and go.

    Parameters
    ----------
    waiting
        Where stacks are put that are tried again.
    retries
        How often a lane that broke is tried again.
    die_together
        Whether a worker's death fails all segments under way.
    """

    def __init__(self, waiting: Waiting, *, retries: int, die_together: bool) -> None:
        self._waiting, self._retries, self._die_together = waiting, retries, die_together
        self._breaks: Counter[str] = Counter()
        self._deaths: Counter[tuple[str, ...]] = Counter()

    def clear(self, planned: PlannedStack) -> None:
        """Forget what a stack is suspected of, for it has trained a segment."""
        self._waiting.ended(planned)
        self._deaths.pop(_keys(planned), None)
        for key in _keys(planned):
            self._breaks.pop(key, None)

    def again(self, planned: PlannedStack, broken: Broken, *, name: str) -> str | None:
        """Put a broken stack, or its halves, back to be tried again.

        Parameters
        ----------
        planned, broken
            The stack, and what became of its segment.
        name
            The name of its first trial.

        Returns
        -------
        A line that says what is tried; None when it is one lane that has broken too often.
        """
        keys, count = _keys(planned), len(planned.lanes)
        died, alone = isinstance(broken, WorkerDied), self._waiting.ended(planned)
        if died and self._die_together and not alone:
            self._waiting.suspects.append(planned)
            return f"a worker died; a stack of {count} is tried again by itself"
        if died and not self._die_together and not self._deaths[keys]:
            self._deaths[keys] += 1
            self._waiting.stacks.append(planned)
            return f"a worker died; a stack of {count} is tried again"
        queue = self._waiting.suspects if died and self._die_together else self._waiting.stacks
        if count > 1:
            queue.extendleft(planned.split())
            return f"a stack of {count} broke ({broken.reason}); trying its halves"
        (key,) = keys
        self._breaks[key] += 1
        if self._breaks[key] > self._retries:
            return None
        queue.appendleft(planned)
        return f"{name} broke ({broken.reason}); tried again, {self._breaks[key]} of {self._retries} times"


def _keys(planned: PlannedStack) -> tuple[str, ...]:
    return tuple(lane.key for lane in planned.lanes)
