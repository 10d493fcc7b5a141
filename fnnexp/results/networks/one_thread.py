"""BLAS on one thread, as everywhere in training and prediction, and the name of its kernel."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


class _OneThread:
    """Limits BLAS to one thread while some thread of this process is in a ``with`` block of it.

    Where BLAS has its own threads, the limit is one of the whole process; where BLAS uses OpenMP, it is one
    of the current thread. So every block sets the limit, and the last block to end restores the previous
    setting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            limit = self._controller().limit(limits=1, user_api="blas")
            if self._blocks == 0:
                self._limit = limit
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                self._controller()
                self._limit.restore_original_limits()
                self._controller()  # so that the next limit can be set by any thread

    @staticmethod
    def _controller() -> Any:
        """Return threadpoolctl's controller of BLAS, so that this thread can set limits.

        Some libraries ignore limits from any thread but the first that set one, until this is cleared.
        """
        for library in _thread_pools().lib_controllers:
            if hasattr(library, "clear_controlling_thread"):  # since threadpoolctl 3.8
                library.clear_controlling_thread(force=True)
        return _thread_pools()


ONE_THREAD = _OneThread()
"""The only instance, because the limit belongs to the process."""


@cache
def _thread_pools() -> Any:
    return ThreadpoolController()


@cache
def blas_kernel() -> str:
    """Return the name and version of NumPy's BLAS, and the kernel that it chose for this processor."""
    libraries = [library for library in _thread_pools().info() if library["user_api"] == "blas"]
    if not libraries:
        return "unknown"
    own = [library for library in libraries if "numpy" in library["filepath"]]  # SciPy may bring another BLAS
    library = (own or libraries)[0]
    kernel = library.get("architecture") or "unknown kernel"
    return f"{library['internal_api']} {library['version']} {kernel}"
