"""Private parts of loky: joblib's ``_executor``, its ``_processes`` and ``_result_queue``, and its tracker.

They are needed for two reasons. Without :class:`Watch`, the sweep would wait forever if a worker is killed
while it sends a result. And Ctrl-C or an error must end the workers at once. The public function
``get_reusable_executor()`` does not help: if joblib has no pool or a broken one, it creates a pool with which
joblib's next call fails.

Each use falls back if a later loky lacks a part; ``tests/sweeping/test_loky_seams.py`` then names the part.
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

from fnnexp.sweeping.worker import initialize_worker

GRACE = 3.0
"""Seconds after which fnnexp acts on a dead worker. loky notices it within milliseconds or not at all."""


def settings() -> dict[str, Any]:
    """Return the arguments of joblib's ``Parallel`` that define its pool of worker processes.

    With other arguments, joblib would start new processes instead of reusing those that run.
    ``max_nbytes=None`` turns memory mapping off, since stacks of networks are small and a pipe is faster. So
    joblib writes nothing to its temporary folder, but it fails if the path of this folder is not in ASCII, as
    where a user of Windows has an umlaut in the name.
    """
    return {
        "backend": "loky",
        "max_nbytes": None,
        "temp_folder": os.sep,
        "initializer": initialize_worker,
    }


def pool() -> Any:
    """Return joblib's pool, or None if it has no pool."""
    return getattr(_loky_module("reusable_executor"), "_executor", None)


def processes() -> list[BaseProcess]:
    """Return the worker processes, including processes that died recently."""
    return list((getattr(pool(), "_processes", None) or {}).values())


def shut_down() -> None:
    """Shut the pool down and kill its workers, even while they train."""
    if (current := pool()) is not None:
        current.shutdown(wait=False, kill_workers=True)


def kill_workers() -> None:
    """Kill the worker processes, so that their tasks fail.

    Use this while workers start, because :func:`shut_down` then raises a KeyError in a thread of loky if a
    task was just submitted. Use :func:`shut_down` while workers train: after a kill, each thread that sees
    the broken pool removes joblib's folder, and joblib complains when a second thread tries.
    """
    for worker in processes():
        _kill(worker)


class Watch:
    """Makes the running tasks fail if a worker died and loky did not notice.

    A worker that is killed while it sends a result leaves half a message in the pipe that all workers share.
    loky waits for the other half as long as any process can write to the pipe. So :meth:`check` kills the
    other workers and closes the pipe. Then loky fails the running tasks, as it does after any other death.
    """

    def __init__(self) -> None:
        self._dead: dict[int | None, float] = {}

    def check(self) -> None:
        """Make the tasks fail if a worker has been dead for :data:`GRACE` seconds. Call this regularly."""
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
    """Block Ctrl-C in this thread and in the processes it starts; the main thread handles Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):
        return
    for tracker in (resource_tracker, _loky_module("backend.resource_tracker")):
        if hasattr(tracker, "ensure_running"):
            tracker.ensure_running()  # start the tracker now, since starting it later would unblock Ctrl-C
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _kill(worker: BaseProcess) -> None:
    """Kill a process. loky's processes have no working ``kill()`` on POSIX."""
    if worker.is_alive() and worker.pid is not None:
        with contextlib.suppress(OSError):
            os.kill(worker.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def _loky_module(name: str) -> Any:
    """Return a module of joblib's loky, or None if it does not exist."""
    try:
        return import_module(f"joblib.externals.loky.{name}")
    except ImportError:
        return None
