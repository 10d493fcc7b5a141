"""The queue of stacks that wait for a worker, and the search for the trial that breaks its stack."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator

from fnnexp.errors import plural
from fnnexp.sweeping.plan import PlannedStack, spread
from fnnexp.sweeping.worker import Broken, WorkerDied


class Waiting:
    """The queue of the stacks (networks that train together) that wait for a worker.

    Stacks that may have killed their worker come first, and run alone to find out.

    Parameters
    ----------
    stacks
        The stacks in the order in which they should run.
    n_jobs
        The number of workers.
    """

    def __init__(self, stacks: Iterable[PlannedStack], n_jobs: int) -> None:
        self.n_jobs = n_jobs
        self.stacks = deque(stacks)
        self.suspects: deque[PlannedStack] = deque()
        self._suspect: PlannedStack | None = None  # runs alone, to see whether it kills its worker

    def __len__(self) -> int:
        """Return the number of stacks of networks that wait."""
        return len(self.stacks) + len(self.suspects)

    def first(self, count: int) -> Iterator[PlannedStack]:
        """Remove up to ``count`` stacks from the front of the queue, one after another, and yield them."""
        for _ in range(min(count, len(self.stacks))):
            yield self.stacks.popleft()

    def next(self, under_way: int) -> PlannedStack | None:
        """Remove and return the next stack of networks to submit; None if none waits or may run now.

        ``under_way`` is the number of stacks that were submitted and have not returned yet.
        """
        if self._suspect is not None or under_way >= self.n_jobs:
            return None
        if self.suspects:
            if under_way:
                return None
            self._suspect = self.suspects.popleft()
            return self._suspect
        return self.stacks.popleft() if self.stacks else None

    def put_back(self, rest: PlannedStack, under_way: int) -> None:
        """Put a stack with its remaining epochs first in the queue, divided if workers are idle."""
        idle = self.n_jobs - under_way - len(self.stacks)
        self.stacks.extendleft(reversed(spread([rest], idle)))

    def ended(self, planned: PlannedStack) -> bool:
        """Note that a stack of networks is no longer in training; return whether it was the only one."""
        was_suspect = planned is self._suspect
        if was_suspect:
            self._suspect = None
        return was_suspect or self.n_jobs == 1


class Suspicion:
    """Finds the trial that breaks its stack, by halving the stack and retrying single lanes (networks).

    When a worker of loky's pool dies, every running segment fails. So the death counts only against a stack
    that ran alone. When a worker of a cluster dies, only its segment fails. There, the first death does not
    count against the stack, since machines of a cluster come and go.

    Parameters
    ----------
    waiting
        The queue for the stacks to retry.
    retries
        How often a single lane that broke is retried.
    die_together
        Whether a worker's death fails all running segments.
    """

    def __init__(self, waiting: Waiting, *, retries: int, die_together: bool) -> None:
        self._waiting, self._retries, self._die_together = waiting, retries, die_together
        self._breaks: Counter[str] = Counter()
        self._deaths: Counter[tuple[str, ...]] = Counter()

    def clear(self, planned: PlannedStack) -> None:
        """Note that a stack trained some epochs: if it broke before, this no longer counts against it."""
        self._waiting.ended(planned)
        self._deaths.pop(_keys(planned), None)
        for key in _keys(planned):
            self._breaks.pop(key, None)

    def retry(self, planned: PlannedStack, broken: Broken, *, name: str) -> str | None:
        """Queue a broken stack, or its halves, again.

        Parameters
        ----------
        planned, broken
            The stack, and how its segment broke.
        name
            The name of the stack's first trial.

        Returns
        -------
        A message about the retry; None if the stack is a single lane (network) that has broken too often.
        """
        keys, count = _keys(planned), len(planned.lanes)
        died, alone = isinstance(broken, WorkerDied), self._waiting.ended(planned)
        if died and self._die_together and not alone:
            self._waiting.suspects.append(planned)
            return f"a worker died; retrying a stack of {plural(count, 'network')} alone"
        if died and not self._die_together and not self._deaths[keys]:
            self._deaths[keys] += 1
            self._waiting.stacks.append(planned)
            return f"a worker died; retrying a stack of {plural(count, 'network')}"
        queue = self._waiting.suspects if died and self._die_together else self._waiting.stacks
        if count > 1:
            queue.extendleft(planned.split())
            return f"a stack of {count} networks broke ({broken.reason}); retrying its halves"
        (key,) = keys
        self._breaks[key] += 1
        if self._breaks[key] > self._retries:
            return None
        queue.appendleft(planned)
        return f"{name} broke ({broken.reason}); retrying ({self._breaks[key]} of {self._retries})"


def _keys(planned: PlannedStack) -> tuple[str, ...]:
    return tuple(lane.key for lane in planned.lanes)
