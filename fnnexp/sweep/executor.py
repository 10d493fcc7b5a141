"""Segments run by joblib, several at a time, each handed back as soon as it ends.

joblib's Parallel takes no new work while it runs. So each of ``n_jobs`` threads of the parent runs a
Parallel of one segment at a time; loky's reusable processes are shared between them.
"""

from __future__ import annotations

import queue
import threading
import traceback
from typing import Any

from joblib import Parallel, cpu_count, delayed

from fnnexp.sweep.plan import Planned
from fnnexp.sweep.worker import Broken, Trained, train_segment


class WorkerDied(Broken):
    """A segment whose worker process was killed: by the system, for memory, or by hand."""


def resolved(n_jobs: int) -> int:
    """Return the number of workers of an ``n_jobs`` as joblib means it: −1 is one a core."""
    return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)


class Executor:
    """At most ``n_jobs`` segments under way; ``submit`` never waits, ``result`` waits for the next to end."""

    def __init__(self, *, n_jobs: int, backend: str) -> None:
        self.n_jobs = n_jobs
        self.backend = backend
        self.under_way = 0
        self._tasks: queue.SimpleQueue[tuple[Planned, float] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Planned, Trained | Broken]] = queue.SimpleQueue()
        # Daemons: whoever gives up waiting for a segment can leave.
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(n_jobs)]
        for thread in self._threads:
            thread.start()

    def submit(self, planned: Planned, seconds: float) -> None:
        """Hand a stack to the next free worker."""
        self.under_way += 1
        self._tasks.put((planned, seconds))

    def result(self) -> tuple[Planned, Trained | Broken]:
        """Return the next segment that ends, with what was handed out."""
        while True:
            try:  # a wait with a limit, so that Ctrl-C is noticed on every system
                ended = self._results.get(timeout=0.5)
            except queue.Empty:
                continue
            self.under_way -= 1
            return ended

    def close(self) -> None:
        """Let the threads end when their segments do."""
        for _ in self._threads:
            self._tasks.put(None)

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._results.put((task[0], self._run(*task)))

    def _run(self, planned: Planned, seconds: float) -> Trained | Broken:
        from joblib.externals.loky.process_executor import BrokenProcessPool

        settings: dict[str, Any] = {"backend": self.backend}
        if self.backend == "loky":
            settings["max_nbytes"] = None  # states are small: a memory-mapped file costs more than the pipe
        try:
            (ended,) = Parallel(n_jobs=self.n_jobs, **settings)([delayed(train_segment)(planned, seconds)])
        except BrokenProcessPool as error:  # TerminatedWorkerError is one
            return WorkerDied("the worker process died (killed, or out of memory)", str(error))
        except Exception as error:
            return Broken(f"{type(error).__name__}: {error}", traceback.format_exc())
        return ended  # type: ignore[no-any-return]
