"""Segments run by joblib, several at a time; each result is handed back as soon as its segment ends.

joblib's Parallel takes no new work while it runs. So each of ``n_jobs`` threads of the parent runs a Parallel
of one segment at a time, and they share loky's reusable processes. With a cluster, they wait for its workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import BrokenProcessPool

from fnnexp.config.execution import Execution
from fnnexp.errors import FnnexpError
from fnnexp.sweeping.backends import loky
from fnnexp.sweeping.backends.cluster import Cluster
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.worker import Broken, Trained, WorkerDied, blas_kernel, train_segment

CORES = "LOKY_MAX_CPU_COUNT"
"""The variable by which joblib's users limit the cores."""

LOOK = 0.5
"""Seconds between two looks at the workers."""


def worker_count(n_jobs: int, cluster: Cluster | None = None) -> int:
    """Return the number of workers of an ``n_jobs`` as joblib means it: −1 is one a core."""
    cores = cluster.cores if cluster else cores_here()
    return n_jobs if n_jobs > 0 else max(cores + 1 + n_jobs, 1)


def cores_here() -> int:
    """Return the number of cores of this machine that joblib uses.

    Raises
    ------
    FnnexpError
        When the variable that limits it is no number.
    """
    try:
        return int(cpu_count())
    except ValueError as error:
        limit = os.environ.get(CORES)
        raise FnnexpError(
            f"{CORES}={limit!r}, a variable of the environment: must be a whole number; write {CORES}=2, or "
            f"unset {CORES}"
        ) from error


class Executor:
    """At most ``n_jobs`` segments under way; ``submit`` never waits, ``result`` waits for the next to end.

    Parameters
    ----------
    execution
        How the segments are trained, and by how many workers of which backend.
    cluster
        The cluster that trains; None: this machine.
    say
        Called with a line about the workers for people to read.
    beat
        Called about every :data:`LOOK` seconds of waiting.
    """

    def __init__(
        self,
        execution: Execution,
        cluster: Cluster | None = None,
        *,
        say: Callable[[str], None] = print,
        beat: Callable[[], None] | None = None,
    ) -> None:
        self.execution, self.cluster, self.say, self.beat = execution, cluster, say, beat
        self.n_jobs = worker_count(execution.n_jobs, cluster)
        self.under_way = 0
        self._kernels: set[str] = set()
        self._looked = time.monotonic()
        self._watch = loky.Watch()
        self._tasks: queue.SimpleQueue[PlannedStack | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[PlannedStack, Trained | Broken | FnnexpError]]
        self._results = queue.SimpleQueue()
        if self._trains_here:
            # The search for BLAS holds the loader's lock and needs the interpreter's. In a thread, beside an
            # import that loads a library, each would wait for the other for ever.
            blas_kernel()
        # Daemons, so that the parent can leave without waiting for a segment.
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self.n_jobs)]
        for thread in self._threads:
            thread.start()

    @property
    def _trains_here(self) -> bool:
        """Whether segments are trained by threads of this process."""
        here = self.n_jobs == 1 or self.execution.backend in ("threading", "sequential")
        return self.cluster is None and here

    def submit(self, planned: PlannedStack) -> None:
        """Hand a stack to the next free worker."""
        self.under_way += 1
        self._tasks.put(planned)

    def ready(self) -> bool:
        """Whether :meth:`result` would return at once."""
        return not self._results.empty()

    def result(self) -> tuple[PlannedStack, Trained | Broken]:
        """Return the next segment that ends, with the stack that was submitted.

        Raises
        ------
        FnnexpError
            When the cluster is gone, or the data can't be sent to it.
        """
        while True:
            if time.monotonic() - self._looked > LOOK:
                self._look_after()
                self._looked = time.monotonic()
            try:  # a wait with a limit, so that Ctrl-C is noticed on every system
                planned, ended = self._results.get(timeout=LOOK)
            except queue.Empty:
                continue
            self.under_way -= 1
            if isinstance(ended, FnnexpError):
                raise ended
            if isinstance(ended, Trained):
                self._compare(f"{ended.blas}, {ended.engine.partition(' (')[0]}")
            return planned, ended

    def forget(self) -> None:
        """Drop the stacks that were submitted and that no worker has begun."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()
                self.under_way -= 1

    def abandon(self, *, at_once: bool = False) -> None:
        """Drop all stacks, and end this machine's worker processes in the middle of a segment.

        A segment in this process can't be ended. It is waited for, unless that has to be `at_once`: until it
        ends by itself, BLAS is on one thread.
        """
        self.forget()
        if self.cluster is not None:
            return
        loky.shut_down()
        if self._trains_here and not at_once:
            self.close()
            for thread in self._threads:
                thread.join()

    def close(self) -> None:
        """Let the threads end when their segments do."""
        for _ in self._threads:
            self._tasks.put(None)

    def _look_after(self) -> None:
        """Check that no segment waits for a worker that is gone."""
        if self.cluster is None:
            self._watch.look()
        else:
            for line in self.cluster.news():
                self.say(line)
        if self.beat is not None:
            self.beat()

    def _compare(self, kernel: str) -> None:
        """Say when processors of different kinds work together: then equal up to rounding, not to the bit."""
        if self._kernels and kernel not in self._kernels:
            others = ", ".join(sorted(self._kernels))
            self.say(f"a worker computes with {kernel}, another with {others}: equal up to rounding only")
        self._kernels.add(kernel)

    def _serve(self) -> None:
        """Run segment after segment: what each thread does."""
        loky.block_interrupts()
        while (planned := self._tasks.get()) is not None:
            self._results.put((planned, self._train(planned)))

    def _train(self, planned: PlannedStack) -> Trained | Broken | FnnexpError:
        if self.cluster is not None:
            return _train_on(self.cluster, planned, self.execution)
        here = self.execution
        settings = loky.settings(here.engine) if here.backend == "loky" else {"backend": here.backend}
        ended: Trained | Broken
        try:
            (ended,) = _parallel(self.n_jobs, settings)([delayed(train_segment)(planned, here)])
        except BrokenProcessPool as error:  # joblib's TerminatedWorkerError is one
            return WorkerDied("the worker process died (killed, or out of memory)", str(error))
        except Exception as error:
            return Broken.by(error)
        return ended


def _train_on(
    cluster: Cluster, planned: PlannedStack, execution: Execution
) -> Trained | Broken | FnnexpError:
    """Train a segment on a cluster; return the error that ends the sweep when the cluster is gone."""
    try:
        return cluster.train(planned, execution)
    except FnnexpError as error:
        return error
    except BaseException as error:  # the trial's own exceptions come as a result: this is the cluster's
        if (lost := cluster.lost()) is not None:
            return lost
        if isinstance(error, cluster.died):
            return WorkerDied("the worker died (killed, or out of memory)", str(error))
        return Broken.by(error)


@contextlib.contextmanager
def workers_starting(execution: Execution) -> Iterator[None]:
    """Start the worker processes while the block prepares their work; end them if the block fails.

    They take as long to import NumPy as Hydra takes to compose a grid, and have another core.
    """
    n_jobs = worker_count(execution.n_jobs) if execution.backend == "loky" else 1
    if not 1 < n_jobs <= cores_here():
        yield
        return
    # In a thread, so that Ctrl-C does not fall into the middle of it. One task starts all processes.
    with ThreadPoolExecutor(1, initializer=loky.block_interrupts) as thread:
        started = thread.submit(_start_workers, n_jobs, execution.engine)
        try:
            yield
        except BaseException:
            while not started.done():
                loky.kill_workers()
                wait([started], timeout=0.02)
            raise


def _start_workers(n_jobs: int, engine: str) -> None:
    _parallel(n_jobs, loky.settings(engine))([delayed(blas_kernel)()])


_SETTLING = threading.Lock()


def _parallel(n_jobs: int, settings: Mapping[str, Any]) -> Parallel:
    """Return joblib's Parallel, which would settle multiprocessing's start method by asking for it."""
    with _SETTLING:
        settled = multiprocessing.get_start_method(allow_none=True)
        parallel = Parallel(n_jobs=n_jobs, **settings)
        if settled is None:
            multiprocessing.set_start_method(None, force=True)
    return parallel
