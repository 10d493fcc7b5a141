"""Private ground of loky: joblib's ``_executor``, its ``_processes`` and ``_result_queue``; its tracker.

Two things need it. A worker that is killed while it sends a result leaves the sweep waiting for ever, see
:class:`Watch`. And Ctrl-C, or an error, has to end the workers at once. The public function
``get_reusable_executor()`` is of no use here: where joblib has no pool, or a broken one, it makes a pool that
joblib's next call fails on.

We do without what a later loky lacks, and ``tests/sweeping/test_loky_seams.py`` fails and says what it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from fnnexp.sweeping.worker import get_ready

GRACE = 3.0
"""Seconds in which loky notices a dead worker by itself. It takes milliseconds, or never does."""


def settings(engine: str) -> dict[str, Any]:
    """Return joblib's arguments for its pool. Other arguments would start other processes.

    States are small: to map a file into memory would cost more than the pipe.
    """
    return {"backend": "loky", "max_nbytes": None, "initializer": get_ready, "initargs": (engine,)}


def pool() -> Any:
    """Return joblib's pool, or None where there is none."""
    return getattr(_part_of_loky("reusable_executor"), "_executor", None)


def processes() -> list[BaseProcess]:
    """Return the worker processes, also those that died a moment ago."""
    return list((getattr(pool(), "_processes", None) or {}).values())


def shut_down() -> None:
    """End the pool, and its workers in the middle of what they do."""
    if (now := pool()) is not None:
        now.shutdown(wait=False, kill_workers=True)


def kill_workers() -> None:
    """Kill the worker processes; the pool fails what was handed out to them.

    :func:`shut_down` raises a KeyError in a thread of loky's when a task was handed out just before. It is
    better for workers that train: each thread that sees a broken pool removes joblib's folder, and joblib
    prints a complaint of the second.
    """
    for worker in processes():
        _kill(worker)


class Watch:
    """Breaks the pool when it does not notice that a worker has died.

    A worker that is killed while it sends a result leaves half a message in the pipe that all workers share.
    loky waits for the other half as long as the pipe has a writer. When all writers are gone, it sees the
    end of the pipe and fails the tasks under way, as after any death.
    """

    def __init__(self) -> None:
        self._dead: dict[int | None, float] = {}

    def look(self) -> None:
        """Break the pool if a worker has been dead for :data:`GRACE` seconds. Call it again and again."""
        workers, now = processes(), time.monotonic()
        self._dead = {
            worker.pid: self._dead.get(worker.pid, now) for worker in workers if not worker.is_alive()
        }
        if not any(now - since > GRACE for since in self._dead.values()):
            return
        for worker in workers:
            _kill(worker)
            worker.join()
        with contextlib.suppress(AttributeError, OSError):
            pool()._result_queue._writer.close()
        self._dead = {}


def block_interrupts() -> None:
    """Keep Ctrl-C from this thread and the worker processes that it starts: the parent's main thread acts."""
    if not hasattr(signal, "pthread_sigmask"):
        return
    for tracker in (resource_tracker, _part_of_loky("backend.resource_tracker")):
        if hasattr(tracker, "ensure_running"):
            tracker.ensure_running()  # now: starting its process unblocks Ctrl-C
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _kill(worker: BaseProcess) -> None:
    """Kill a process; loky's have no working ``kill()`` on POSIX."""
    if worker.is_alive() and worker.pid is not None:
        with contextlib.suppress(OSError):
            os.kill(worker.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def _part_of_loky(name: str) -> Any:
    """Return a module of joblib's loky, or None where it has no such module."""
    try:
        return import_module(f"joblib.externals.loky.{name}")
    except ImportError:
        return None
