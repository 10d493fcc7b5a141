"""Segments run by joblib, several at a time, each handed back as soon as it ends.

joblib's Parallel takes no new work while it runs. So each of ``n_jobs`` threads of the parent runs a
Parallel of one segment at a time; loky's reusable processes are shared between them, and a cluster is reached
the same way.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from multiprocessing import resource_tracker
from typing import Any

from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky.backend import resource_tracker as lokys_resource_tracker

from fnnexp.errors import FnnexpError
from fnnexp.sweeping.backends.cluster import Cluster
from fnnexp.sweeping.plan import Planned
from fnnexp.sweeping.worker import Broken, Trained, blas_kernel, get_ready, train_segment


def loky(engine: str) -> dict[str, Any]:
    """Return how joblib is asked for its processes: the same words each time, or it would start others.

    States are small: to map a file into memory would cost more than the pipe.
    """
    return {"backend": "loky", "max_nbytes": None, "initializer": get_ready, "initargs": (engine,)}


class WorkerDied(Broken):
    """A segment whose worker process was killed: by the system, for memory, or by hand."""


def resolved(n_jobs: int, backend: str | Cluster = "loky") -> int:
    """Return the number of workers of an ``n_jobs`` as joblib means it: −1 is one a core."""
    cores = cpu_count() if isinstance(backend, str) else backend.cores
    return n_jobs if n_jobs > 0 else max(cores + 1 + n_jobs, 1)


class Executor:
    """At most ``n_jobs`` segments under way; ``submit`` never waits, ``result`` waits for the next to end.

    Parameters
    ----------
    backend
        The name of one of joblib's, or a connected cluster.
    say
        Where to tell what a person should know of the workers.
    beat
        Called about every :data:`LOOK` seconds of waiting.
    """

    def __init__(
        self,
        *,
        n_jobs: int,
        backend: str | Cluster,
        say: Callable[[str], None] = print,
        beat: Callable[[], None] | None = None,
    ) -> None:
        self.n_jobs, self.backend, self.say, self.beat = n_jobs, backend, say, beat
        self.under_way = 0
        self._kernels: set[str] = set()
        self._looked = time.monotonic()
        self._dead: dict[int, float] = {}
        self._tasks: queue.SimpleQueue[tuple[Planned, float] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Planned, Trained | Broken | FnnexpError]] = queue.SimpleQueue()
        # Daemons: whoever gives up waiting for a segment can leave.
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(n_jobs)]
        for thread in self._threads:
            thread.start()

    def submit(self, planned: Planned, seconds: float) -> None:
        """Hand a stack to the next free worker."""
        self.under_way += 1
        self._tasks.put((planned, seconds))

    def ready(self) -> bool:
        """Whether :meth:`result` would not wait."""
        return not self._results.empty()

    def result(self) -> tuple[Planned, Trained | Broken]:
        """Return the next segment that ends, with what was handed out.

        Raises
        ------
        FnnexpError
            When the cluster is gone, or the data can't be sent to it.
        """
        while True:
            if time.monotonic() - self._looked > LOOK:
                self._look_after()
                if self.beat is not None:
                    self.beat()
                self._looked = time.monotonic()
            try:  # a wait with a limit, so that Ctrl-C is noticed on every system
                planned, ended = self._results.get(timeout=LOOK)
            except queue.Empty:
                continue
            self.under_way -= 1
            if isinstance(ended, FnnexpError):
                raise ended
            if isinstance(ended, Trained):
                self._compare(f"{ended.blas}, {ended.engine}")
            return planned, ended

    def forget(self) -> None:
        """Drop what was submitted and no worker has begun."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()
                self.under_way -= 1

    def abandon(self) -> None:
        """Drop everything, and end the worker processes in the middle of what they do."""
        from joblib.externals.loky import reusable_executor

        self.forget()
        if isinstance(self.backend, str) and reusable_executor._executor is not None:
            reusable_executor._executor.shutdown(wait=False, kill_workers=True)

    def close(self) -> None:
        """Let the threads end when their segments do."""
        for _ in self._threads:
            self._tasks.put(None)

    def _look_after(self) -> None:
        """See to it that no segment waits for a worker that is gone."""
        if isinstance(self.backend, str):
            self._dead = _watch(self._dead)
            return
        for line in self.backend.news():
            self.say(line)

    def _compare(self, kernel: str) -> None:
        """Say it when processors of different kinds work together: the promise is then rounding, not bits."""
        if self._kernels and kernel not in self._kernels:
            others = ", ".join(sorted(self._kernels))
            self.say(f"a worker computes with {kernel}, another with {others}: equal up to rounding only")
        self._kernels.add(kernel)

    def _serve(self) -> None:
        _block_interrupts()
        while (task := self._tasks.get()) is not None:
            run = self._run if isinstance(self.backend, str) else self._run_on_cluster
            self._results.put((task[0], run(*task)))

    def _run(self, planned: Planned, seconds: float) -> Trained | Broken:
        from joblib.externals.loky.process_executor import BrokenProcessPool

        settings = loky(planned.engine) if self.backend == "loky" else {"backend": self.backend}
        try:
            (ended,) = Parallel(n_jobs=self.n_jobs, **settings)([delayed(train_segment)(planned, seconds)])
        except BrokenProcessPool as error:  # TerminatedWorkerError is one
            return WorkerDied("the worker process died (killed, or out of memory)", str(error))
        except Exception as error:
            return Broken(f"{type(error).__name__}: {error}", traceback.format_exc())
        return ended  # type: ignore[no-any-return]

    def _run_on_cluster(self, planned: Planned, seconds: float) -> Trained | Broken | FnnexpError:
        cluster = self.backend
        assert isinstance(cluster, Cluster)
        try:
            cluster.send(planned.data)
            with parallel_config(backend=cluster.backend(planned.data), n_jobs=self.n_jobs):
                (ended,) = Parallel()([delayed(train_segment)(planned, seconds)])
        except FnnexpError as error:
            return error
        except BaseException as error:  # not of the trial's: what it raises, it returns
            if (lost := cluster.lost()) is not None:
                return lost
            if isinstance(error, cluster.died):
                return WorkerDied("the worker died (killed, or out of memory)", str(error))
            return Broken(f"{type(error).__name__}: {error}", traceback.format_exc())
        return ended  # type: ignore[no-any-return]


@contextlib.contextmanager
def begun_early(n_jobs: int, backend: str, engine: str) -> Iterator[None]:
    """Have the worker processes start while the block prepares what they are to do; a failure ends them.

    They take as long to start Python and NumPy as Hydra takes to compose a grid, and have another core.
    """
    n_jobs = resolved(n_jobs) if backend == "loky" else 1
    if not 1 < n_jobs <= cpu_count():
        yield
        return
    # In a thread, so that Ctrl-C does not fall into the middle of it. One task starts all processes.
    with ThreadPoolExecutor(1, initializer=_block_interrupts) as thread:
        started = thread.submit(_start, n_jobs, engine)
        try:
            yield
        except BaseException:
            while not started.done():
                _kill_workers()
                wait([started], timeout=0.02)
            raise


LOOK = 0.5
"""Seconds between two looks at the workers."""


def _start(n_jobs: int, engine: str) -> None:
    Parallel(n_jobs=n_jobs, **loky(engine))([delayed(blas_kernel)()])


def _block_interrupts() -> None:
    """Keep Ctrl-C from this thread, and so from the worker processes that it starts: it is the parent's."""
    if hasattr(signal, "pthread_sigmask"):
        for tracker in (resource_tracker, lokys_resource_tracker):
            tracker.ensure_running()  # which unblocks Ctrl-C when it starts its process
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _kill_workers() -> None:
    """End worker processes that one thread waits for: loky's pool sees it, and fails what was handed out.

    Its own way, ``shutdown(kill_workers=True)``, raises a KeyError in a thread when a task was handed out
    just before. It is the better one for workers that train: of several threads that see a pool broken, each
    removes joblib's folder, and the second one's complaint is printed.
    """
    from joblib.externals.loky import reusable_executor
    from joblib.externals.loky.backend.utils import kill_process_tree

    for worker in list((getattr(reusable_executor._executor, "_processes", None) or {}).values()):
        kill_process_tree(worker)


GRACE = 3.0
"""Seconds in which loky notices a dead worker by itself; it takes it milliseconds, or for ever."""


def _watch(dead: dict[int, float]) -> dict[int, float]:
    """Break loky's pool when it does not notice that a worker has died.

    A worker that is killed while it sends a result leaves half a message in the pipe that all workers share,
    and loky waits for the other half: the pipe stays open as long as anybody could write to it. With all
    writers gone it sees the end, and fails the tasks under way as after any death.

    Parameters
    ----------
    dead
        When each worker was first seen dead, by process id; what this returned the last time.
    """
    from joblib.externals.loky import reusable_executor
    from joblib.externals.loky.backend.utils import kill_process_tree

    pool = reusable_executor._executor
    workers = list((getattr(pool, "_processes", None) or {}).values())
    now = time.monotonic()
    dead = {worker.pid: dead.get(worker.pid, now) for worker in workers if not worker.is_alive()}
    if any(now - since > GRACE for since in dead.values()):
        for worker in workers:
            kill_process_tree(worker)
        with contextlib.suppress(OSError):
            pool._result_queue._writer.close()
        return {}
    return dead
