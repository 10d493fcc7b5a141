"""A team of threads that compute the parts of a sum at the same time, and add them in a fixed order.

NumPy, its BLAS and compiled code release Python's lock, so threads of one process use several cores. The
order of the additions does not depend on the number of threads, and so results are bitwise the same with any
number.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import Generic, Self, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


class Team:
    """A team of threads. The caller is the first of them; the others wait for work until :meth:`close`.

    Parameters
    ----------
    size
        The number of threads, including the caller.
    around
        A context manager that each thread except the caller enters first and leaves last.
    """

    def __init__(self, size: int = 1, around: AbstractContextManager[None] | None = None) -> None:
        self.size = size
        self._around = around or nullcontext()
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Daemon threads let the process exit before an epoch that is in training has ended.
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(size - 1)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the other threads finish their tasks and end."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def start(self, task: Callable[[], None]) -> None:
        """Run a task in one of the other threads."""
        self._tasks.put(task)

    def in_order(
        self,
        parts: Iterable[Part],
        compute: Callable[[int, Part], Result],
        add: Callable[[Result], None],
        size: int | None = None,
    ) -> None:
        """Call ``add(compute(thread, part))`` for each part; several threads compute at the same time.

        Parameters
        ----------
        parts
            Read by one thread at a time.
        compute
            Called with the number of its thread, from 0 on, and a part; several calls run at once.
        add
            Called with the results, by one thread at a time, in the order of the parts.
        size
            The largest number of threads to use; None means all.

        Raises
        ------
        BaseException
            The first exception of any of the calls; there are then no more calls.
        """
        threads = self.size if size is None else min(size, self.size)
        if threads == 1:
            for part in parts:
                add(compute(0, part))
            return
        work = _Work(iter(parts), compute, add)
        for thread in range(1, threads):
            # np.errstate is a context variable, so the threads run in a copy of the caller's context.
            self._tasks.put(partial(copy_context().run, work.take_part, thread))
        work.take_part(0)
        work.wait()

    def _serve(self) -> None:
        with self._around:
            while (task := self._tasks.get()) is not None:
                task()


class _Work(Generic[Part, Result]):
    """The parts of one sum, which threads compute at the same time and add in order.

    For each part there is a lock, which is released when the part's result has been added. The thread that
    has computed the next part waits for this lock before it adds its result.
    """

    def __init__(
        self, parts: Iterator[Part], compute: Callable[[int, Part], Result], add: Callable[[Result], None]
    ) -> None:
        self._parts, self._compute, self._add = parts, compute, add
        self._lock, self._last_added = threading.Lock(), threading.Lock()
        self._error: BaseException | None = None

    def take_part(self, thread: int) -> None:
        """Compute and add parts until none is left."""
        while True:
            with self._lock:
                try:
                    if self._error is not None:
                        return
                    part = next(self._parts)
                except StopIteration:
                    return
                except BaseException as error:
                    self._error = error
                    return
                before_added, added = self._last_added, threading.Lock()
                added.acquire()
                self._last_added = added
            try:
                result = self._compute(thread, part)
                with before_added:
                    if self._error is None:
                        self._add(result)
            except BaseException as error:
                self._error = self._error or error
            finally:
                added.release()

    def wait(self) -> None:
        """Wait until all parts are added; raise the first exception."""
        with self._last_added:
            if self._error is not None:
                raise self._error
