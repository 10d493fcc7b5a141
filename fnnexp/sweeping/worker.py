"""What a worker does: one segment of one stack. It reads data and computes, and writes nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from fnnexp.config.execution import Execution
from fnnexp.data import datasets as data
from fnnexp.data.datasets import Arrays, Prepared
from fnnexp.errors import DataError
from fnnexp.nn.engines.base import engine_named
from fnnexp.nn.training import Record, Stack, advance, engine_version
from fnnexp.sweeping.plan import PlannedStack


@dataclass(frozen=True)
class Trained:
    """A segment's end: the stack's new state, the records, and which BLAS kernel and engine computed them."""

    stack: Stack
    records: list[Record]
    blas: str
    engine: str


@dataclass(frozen=True)
class Broken:
    """A segment that raised: one line of what happened, and the whole traceback."""

    reason: str
    traceback: str

    @classmethod
    def by(cls, error: BaseException) -> Broken:
        """Return what an exception that is being handled did to a segment."""
        return cls(f"{type(error).__name__}: {error}", traceback.format_exc())


class WorkerDied(Broken):
    """A segment whose worker process was killed: by the system, for memory, or by hand."""


def train_segment(planned: PlannedStack, execution: Execution) -> Trained | Broken:
    """Train a stack for about ``segment_seconds`` in whole epochs, BLAS on one thread."""
    try:
        with _ONE_THREAD:
            stack, records = advance(
                planned.recipe,
                planned.stack,
                _RECEIVED.get(planned.data.checksum) or data.load(planned.data),
                execution.segment_seconds,
                diagnostics=execution.diagnostics,
                engine=execution.engine,
            )
        return Trained(stack, records, blas_kernel(), engine_version(planned.recipe, execution.engine))
    except Exception as error:
        return Broken.by(error)


_RECEIVED: dict[str, Arrays] = {}
"""The data sets that a cluster sent to this process, by checksum."""


def receive(prepared: Prepared, arrays: Arrays) -> None:
    """Keep a data set in memory, unless this machine's disk has it, where all processes share it."""
    try:
        data.load(prepared)
    except DataError:
        for array in vars(arrays).values():
            array.flags.writeable = False
        _RECEIVED[prepared.checksum] = arrays


def get_ready(engine: str) -> None:
    """Initialize a worker process: load what its first segment needs, and tie its life to the parent's."""
    depend_on_the_parent()
    with contextlib.suppress(ImportError):  # the parent reports it
        engine_named(engine)
    blas_kernel()


def depend_on_the_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and exit when the parent dies.

    Ctrl-C in a terminal reaches every process of the group; the parent decides what it means. A parent that
    is killed tells nobody, and a worker of loky's would wait for its next task for five more minutes.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        threading.Thread(target=_exit_with, args=(parent.pid,), daemon=True).start()


def _exit_with(parent: int | None) -> None:
    """Exit when the parent has died: getppid then names another process."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class _OneThread:
    """A context that keeps BLAS on one thread while any segment of this process is under way.

    Where BLAS has its own threads the setting belongs to the process; where it uses OpenMP's, to each thread.
    So every segment sets it, and the last one to end restores what was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._segments = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            limit = self._controlling().limit(limits=1, user_api="blas")
            if self._segments == 0:
                self._limit = limit
            self._segments += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._segments -= 1
            if self._segments == 0:
                self._controlling()
                self._limit.restore_original_limits()
                self._controlling()  # so that the next thread that sets a limit is obeyed

    @staticmethod
    def _controlling() -> Any:
        """Return the controller for this thread: it would silently ignore all threads but its first user."""
        for library in _threads().lib_controllers:
            if hasattr(library, "clear_controlling_thread"):  # from threadpoolctl 3.8 on
                library.clear_controlling_thread(force=True)
        return _threads()


_ONE_THREAD = _OneThread()


@cache
def _threads() -> Any:
    return ThreadpoolController()


@cache
def blas_kernel() -> str:
    """Return the name and version of NumPy's BLAS, and the kernel it chose for this processor."""
    libraries = [library for library in _threads().info() if library["user_api"] == "blas"]
    if not libraries:
        return "unknown"
    own = [library for library in libraries if "numpy" in library["filepath"]]  # SciPy may bring another
    library = (own or libraries)[0]
    kernel = library.get("architecture") or "unknown kernel"
    return f"{library['internal_api']} {library['version']} {kernel}"
