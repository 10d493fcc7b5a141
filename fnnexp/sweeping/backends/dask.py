"""A Dask cluster: its scheduler hands segments to its workers, and again when one of them dies."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from distributed import Client, KilledWorker, WorkerPlugin
from distributed.client import FutureCancelledError
from joblib._dask import DaskDistributedBackend

from fnnexp import __version__
from fnnexp.data.datasets import Arrays, Prepared
from fnnexp.sweeping.backends.cluster import (
    PATIENCE,
    Cluster,
    ClusterError,
    ClusterLostError,
    in_memory,
    refuse_others,
)
from fnnexp.sweeping.worker import receive

GONE = ("closing", "closed")
"""The states of a client that will not come back."""

FOR_EVER = 10.0**9
"""Seconds that a segment waits for a worker when all have gone; :meth:`Dask.news` says that it does."""


def connect(address: str, packages: Sequence[str]) -> Dask:
    """Return the cluster of a scheduler; see :func:`fnnexp.sweeping.backends.cluster.workers`."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters of it is said by us
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that differ: below they are an error
            client = Client(address, timeout=PATIENCE, name="fnnexp", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"execution.address={address}: no Dask scheduler answers within {PATIENCE:g} s ({error}); start "
            "one with `dask scheduler`, or leave out execution.backend=dask"
        ) from error
    try:
        return Dask(address, client, packages)
    except BaseException:
        client.close()
        raise


class Dask(Cluster):
    """See :class:`Cluster`. Made when at least one worker is there and all are like this process."""

    died = (KilledWorker, FutureCancelledError)

    def __init__(self, address: str, client: Client, packages: Sequence[str]) -> None:
        self.address, self._client, self._packages = address, client, packages
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise ClusterError(
                f"execution.address={address}: the scheduler has no worker; start one on each machine with "
                f"`dask worker {address} --nthreads 1 --nworkers=-1`"
            ) from error
        self._workers = self._like_us()
        self.cores = sum(self._workers.values())
        self._sent: set[str] = set()
        self._sending = threading.Lock()

    def send(self, prepared: Prepared) -> None:
        """Leave a data set with the scheduler, which hands it to each worker once, whenever that comes.

        It stays there for the next sweep: a cluster holds each data set once a process.
        """
        with self._sending:
            if prepared.checksum not in self._sent:
                name = f"fnnexp-{__version__}-{prepared.checksum}"
                self._client.register_plugin(_DataSet(prepared, in_memory(prepared)), name=name)
                self._sent.add(prepared.checksum)

    def backend(self, prepared: Prepared) -> Any:
        """Return a backend of joblib's for one call."""
        return _Backend(client=self._client, wait_for_workers_timeout=FOR_EVER)

    def lost(self) -> ClusterLostError | None:
        """Return that the scheduler is gone, once the client has given up to connect again."""
        while self._client.status == "connecting":
            time.sleep(0.1)
        return self._gone() if self._client.status in GONE else None

    def news(self) -> Iterator[str]:
        """Yield who came and who went."""
        if self._client.status in GONE:
            raise self._gone()
        try:
            now = self._client.nthreads()
            if now.keys() - self._workers.keys():
                now = self._like_us()
        except ClusterError as error:
            raise ClusterLostError(f"a worker came in the middle of the sweep; {error}") from error
        except Exception:  # between two schedulers; the client's status says when it gives up
            return
        before, self._workers = self._workers, now
        for worker in sorted(before.keys() - now.keys()):
            yield f"the worker {worker} is gone; what it was at is done again by another"
        for worker in sorted(now.keys() - before.keys()):
            yield f"the worker {worker} has come"
        if before and not now:
            yield "the cluster has no worker left; waiting for one"

    def close(self) -> None:
        """Close the client; what it still waits for is given up."""
        self._client.close(timeout=PATIENCE)

    def _gone(self) -> ClusterLostError:
        return ClusterLostError(
            f"the Dask scheduler {self.address} is gone; start the same command again when it is back, "
            "and it goes on where it was"
        )

    def _like_us(self) -> dict[str, int]:
        """Return the threads of each worker, all of which have our versions."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = self._client.get_versions(packages=list(self._packages))
        theirs = {worker: each["packages"] for worker, each in found["workers"].items() if each}
        refuse_others(theirs, self._packages)
        return dict(self._client.nthreads())


class _DataSet(WorkerPlugin):
    """A data set on its way to the workers' memory."""

    idempotent = True

    def __init__(self, prepared: Prepared, arrays: Arrays) -> None:
        self.prepared, self.arrays = prepared, arrays

    def setup(self, worker: Any) -> None:
        receive(self.prepared, self.arrays)
        del self.arrays


class _Backend(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's, which would wait for ever for a task that Dask gave up: it tells only of those that ended."""

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Any:
        def tell(ended: Future[Any]) -> None:
            if (error := ended.exception()) is not None:
                callback(error)

        future = super().submit(func, callback)
        future.add_done_callback(tell)
        return future
