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

from fnnexp.data import datasets as data
from fnnexp.data.datasets import Arrays, Prepared
from fnnexp.errors import DataError
from fnnexp.nn.engines.base import engine_named
from fnnexp.nn.training import Record, Stack, advance, start
from fnnexp.sweeping.plan import Planned


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


def train_segment(planned: Planned, seconds: float) -> Trained | Broken:
    """Train a stack for about ``seconds`` in whole epochs, BLAS on one thread."""
    try:
        with _ONE_THREAD:
            arrays = _RECEIVED.get(planned.data.checksum) or data.load(planned.data)
            stack = planned.state or start(planned.recipe, planned.lanes)
            how: dict[str, Any] = {"diagnostics": planned.diagnostics, "engine": planned.engine}
            stack, records = advance(planned.recipe, stack, arrays, seconds, **how)
        return Trained(stack, records, blas_kernel(), engine_named(planned.engine).version)
    except Exception as error:
        return Broken(f"{type(error).__name__}: {error}", traceback.format_exc())


_RECEIVED: dict[str, Arrays] = {}
"""The data sets that were sent to this process, by checksum: a cluster shares no disk with the parent."""


def receive(prepared: Prepared, arrays: Arrays) -> None:
    """Keep a data set in memory, unless it lies on this machine's disk, where all its processes share it."""
    try:
        data.load(prepared)
    except DataError:
        for array in vars(arrays).values():
            array.flags.writeable = False
        _RECEIVED[prepared.checksum] = arrays


def get_ready(engine: str) -> None:
    """Begin a worker process with what its first segment would wait for."""
    depend_on_the_parent()
    with contextlib.suppress(ImportError):  # which the parent tells the user
        engine_named(engine)
    blas_kernel()


def depend_on_the_parent() -> None:
    """Leave Ctrl-C to the parent, and when the parent is gone, go.

    Ctrl-C in a terminal reaches every process of the group; the parent decides what it means. And a parent
    that is killed tells nobody: a worker of loky's would wait for its next task for five more minutes.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        threading.Thread(target=_leave_with, args=(parent.pid,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """End this process when its parent has: whoever has lost his parent is given another."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class _OneThread:
    """BLAS on one thread while any segment of this process is under way.

    The setting is the process's where BLAS has threads of its own, and each thread's where they are OpenMP's:
    so every segment sets it, and the last one to end puts back what was.
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
                self._controlling()  # nobody from here on: whoever sets limits next is obeyed

    @staticmethod
    def _controlling() -> Any:
        """Return the controller, at this thread's command: it silently obeys only the first that used it."""
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
