"""Train segments (some epochs of a stack) with joblib or on a cluster, several at a time.

The result of a segment is returned when the segment ends.

joblib's Parallel accepts no new work while it runs. Therefore each of ``n_jobs`` threads of the parent runs
Parallel with one segment at a time. The threads share loky's reusable processes; with a cluster, they wait
for its workers.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import BrokenProcessPool

from fnnexp.config.execution import Execution
from fnnexp.errors import FnnexpError, plural
from fnnexp.results.networks.one_thread import blas_kernel
from fnnexp.sweeping.backends import loky
from fnnexp.sweeping.backends.cluster import Cluster
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.worker import Broken, Trained, WorkerDied, time_epoch, train_segment

CORES = "LOKY_MAX_CPU_COUNT"
"""The environment variable that limits the number of cores that joblib uses."""

CHECK_SECONDS = 0.5
"""Seconds between two checks of the workers."""

PATIENCE = 10.0
"""Seconds within which workers must have measured an epoch."""


def worker_count(n_jobs: int, cluster: Cluster | None = None) -> int:
    """Return the number of workers for ``n_jobs``, as joblib counts: −1 is one per core, −2 is one fewer."""
    cores = cluster.cores if cluster else cores_here()
    return n_jobs if n_jobs > 0 else max(cores + 1 + n_jobs, 1)


def too_many_workers(n_jobs: int, cluster: Cluster | None = None) -> str | None:
    """Return a note if there are more workers than cores of this machine, else None."""
    cores = cores_here()
    if cluster is not None or n_jobs <= cores:
        return None
    return (
        f"execution.n_jobs={n_jobs}: this machine has {plural(cores, 'core')}, which the workers share; this "
        "takes more memory and is no faster; execution.n_jobs=-1 is one worker per core"
    )


def threads_each(n_jobs: int, stacks: int) -> int:
    """Return the number of threads for each stack of networks: cores divided by stacks, but at least 1."""
    return max(min(n_jobs, cores_here()) // max(stacks, 1), 1)


def cores_here() -> int:
    """Return the number of this machine's cores that joblib uses.

    Raises
    ------
    FnnexpError
        If :data:`CORES` is set and is not a whole number.
    """
    try:
        return int(cpu_count())
    except ValueError as error:
        limit = os.environ.get(CORES)
        raise FnnexpError(
            f"environment variable {CORES}={limit!r}: must be a whole number; write {CORES}=2, or unset it"
        ) from error


class Executor:
    """Trains up to ``n_jobs`` segments (some epochs of a stack) at a time.

    ``submit`` never waits; ``result`` waits for a segment.

    Parameters
    ----------
    execution
        The settings: the backend, the number of workers, the engine.
    cluster
        The cluster to train on; None trains on this machine.
    say
        Called with each message about the workers.
    beat
        Called about every :data:`CHECK_SECONDS` while waiting.
    deadline
        The time, by ``time.monotonic``, at which segments end after their current epoch; None is no limit.
    """

    def __init__(
        self,
        execution: Execution,
        cluster: Cluster | None = None,
        *,
        say: Callable[[str], None] = print,
        beat: Callable[[], None] | None = None,
        deadline: float | None = None,
    ) -> None:
        self.execution, self.cluster, self.say, self.beat = execution, cluster, say, beat
        self.deadline = math.inf if deadline is None else deadline
        self.n_jobs = worker_count(execution.n_jobs, cluster)
        self.under_way = 0
        self._kernels: set[str] = set()
        self._checked = time.monotonic()
        self._watch = loky.Watch()
        self._tasks: queue.SimpleQueue[tuple[PlannedStack, int] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[PlannedStack, Trained | Broken | FnnexpError]]
        self._results = queue.SimpleQueue()
        if self._trains_here:
            # Call this before threads start. The call takes the dynamic loader's lock and then waits for the
            # GIL. Another thread that imports a library holds the GIL and waits for the lock: a deadlock.
            blas_kernel()
        # Daemon threads let the parent process exit before the epochs that a worker is training have ended.
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self.n_jobs)]
        for thread in self._threads:
            thread.start()

    @property
    def _trains_here(self) -> bool:
        """Whether threads of this process train the stacks of networks, without worker processes."""
        uses_threads = self.n_jobs == 1 or self.execution.backend in ("threading", "sequential")
        return self.cluster is None and uses_threads

    @property
    def cores(self) -> int:
        """The number of cores that stacks may use, in threads, when there are fewer stacks than workers.

        On a cluster it is 1, since the workers may be on other machines.
        """
        return 1 if self.cluster is not None else min(self.n_jobs, cores_here())

    def threads_for(self, waiting: int) -> int:
        """Return how many threads the next stack of networks may use, while `waiting` more stacks wait.

        If fewer stacks wait and train than there are workers, some workers are idle, and the stack also uses
        their cores. On a cluster the number is 1, since the workers may be on other machines.
        """
        if self.cluster is not None:
            return 1
        return threads_each(self.n_jobs, self.under_way + 1 + waiting)

    def submit(self, planned: PlannedStack, threads: int = 1) -> None:
        """Submit a stack of networks: the next free worker trains some epochs of it, in so many threads."""
        self.under_way += 1
        self._tasks.put((planned, threads))

    def ready(self) -> bool:
        """Return whether :meth:`result` would return without waiting."""
        return not self._results.empty()

    def result(self) -> tuple[PlannedStack, Trained | Broken]:
        """Wait until a worker has trained a segment (some epochs of a stack); return stack and result.

        Raises
        ------
        FnnexpError
            If the connection to the cluster is lost, or the data can't be sent to it.
        """
        while True:
            if time.monotonic() - self._checked > CHECK_SECONDS:
                self._check_workers()
                self._checked = time.monotonic()
            try:  # with a timeout, since Windows handles Ctrl-C only between waits
                planned, ended = self._results.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                continue
            self.under_way -= 1
            if isinstance(ended, FnnexpError):
                raise ended
            if isinstance(ended, Trained):
                self._compare_kernels(f"{ended.blas}, {ended.engine.partition(' (')[0]}")
            return planned, ended

    def forget(self) -> None:
        """Withdraw the submitted stacks of networks that no worker has started."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()
                self.under_way -= 1

    def abandon(self, *, at_once: bool = False) -> None:
        """Withdraw all stacks of networks and kill this machine's worker processes.

        Training in this process can't be killed. The method waits until its current epochs have ended, unless
        ``at_once`` is true; BLAS then stays on one thread until they have ended.
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
        """Let each thread end after the epochs that it is training."""
        for _ in self._threads:
            self._tasks.put(None)

    def _check_workers(self) -> None:
        """Find out whether workers died, so that no thread waits forever for one; call :attr:`beat`."""
        if self.cluster is None:
            self._watch.check()
        else:
            for message in self.cluster.news():
                self.say(message)
        if self.beat is not None:
            self.beat()

    def _compare_kernels(self, kernel: str) -> None:
        """Warn if the workers' processors differ: results then agree up to rounding, not bit by bit."""
        if self._kernels and kernel not in self._kernels:
            others = ", ".join(sorted(self._kernels))
            self.say(f"workers compute with {kernel} and {others}: results agree to rounding, not bit by bit")
        self._kernels.add(kernel)

    def _serve(self) -> None:
        """Train submitted stacks of networks one after another. This is the body of each thread."""
        loky.block_interrupts()
        while (task := self._tasks.get()) is not None:
            planned, threads = task
            self._results.put((planned, self._train(replace(planned, threads=threads))))

    def _train(self, planned: PlannedStack) -> Trained | Broken | FnnexpError:
        left = max(self.deadline - time.monotonic(), 0.0)
        seconds = min(self.execution.segment_seconds, left)
        execution = replace(self.execution, segment_seconds=seconds)
        if self.cluster is not None:
            return _train_on(self.cluster, planned, execution)
        backend = execution.backend
        settings = loky.settings() if backend == "loky" else {"backend": backend}
        ended: Trained | Broken
        try:
            (ended,) = _parallel(self.n_jobs, settings)([delayed(train_segment)(planned, execution)])
        except BrokenProcessPool as error:  # the base class of joblib's TerminatedWorkerError
            return WorkerDied("the worker process died (killed, or out of memory)", str(error))
        except Exception as error:
            return Broken.by(error)
        return ended


def _train_on(
    cluster: Cluster, planned: PlannedStack, execution: Execution
) -> Trained | Broken | FnnexpError:
    """Train some epochs of a stack of networks on a cluster; return an error if the cluster is lost."""
    try:
        return cluster.train(planned, execution)
    except FnnexpError as error:
        return error
    except BaseException as error:  # an error of the cluster; exceptions of a trial are returned as Broken
        if (lost := cluster.lost()) is not None:
            return lost
        if isinstance(error, cluster.died):
            return WorkerDied("the worker died (killed, or out of memory)", str(error))
        return Broken.by(error)


@contextlib.contextmanager
def workers_starting(execution: Execution) -> Iterator[None]:
    """Start the worker processes while the block runs; kill them if the block fails.

    The workers import NumPy on their own cores in the time that Hydra needs to compose a grid.
    """
    n_jobs = worker_count(execution.n_jobs) if execution.backend == "loky" else 1
    if not 1 < n_jobs <= cores_here():
        yield
        return
    # Start in a thread, so that Ctrl-C does not interrupt the start.
    with ThreadPoolExecutor(1, initializer=loky.block_interrupts) as thread:
        started = thread.submit(_start_workers, n_jobs)
        try:
            yield
        except BaseException:
            while not started.done():
                loky.kill_workers()
                wait([started], timeout=0.02)
            raise


def _start_workers(n_jobs: int) -> None:
    """Start all worker processes, which loky does when it gets its first task."""
    _parallel(n_jobs, loky.settings())([delayed(blas_kernel)()])


def timed_epochs(
    tasks: Iterable[tuple[PlannedStack, int, float]], execution: Execution, n_jobs: int
) -> list[float | None]:
    """Measure how many seconds an epoch of each stack of networks takes; None for a stack that fails.

    Each task has the arguments of :func:`fnnexp.sweeping.worker.time_epoch` except the settings. The workers
    of this machine measure. As many stacks train at the same time as in a sweep, since they share the
    processor's caches and memory.
    """
    settings: dict[str, Any] = {"backend": execution.backend}
    if execution.backend == "loky":
        settings = loky.settings() | ({"timeout": PATIENCE} if n_jobs > 1 else {})
    parallel = _parallel(n_jobs, {**settings, "batch_size": 1})
    calls = [delayed(time_epoch)(planned, execution, rows, seconds) for planned, rows, seconds in tasks]
    try:
        return list(parallel(calls))
    except (BrokenProcessPool, TimeoutError):
        return [None] * len(calls)


_START_METHOD_LOCK = threading.Lock()


def _parallel(n_jobs: int, settings: Mapping[str, Any]) -> Parallel:
    """Return joblib's Parallel. Joblib would also fix multiprocessing's start method; this is undone."""
    with _START_METHOD_LOCK:
        method = multiprocessing.get_start_method(allow_none=True)
        parallel = Parallel(n_jobs=n_jobs, **settings)
        if method is None:
            multiprocessing.set_start_method(None, force=True)
    return parallel
