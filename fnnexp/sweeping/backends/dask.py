"""A Dask cluster. Its scheduler assigns segments to workers, and reassigns them when a worker dies.

A segment is some epochs of a stack.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import dask
from distributed import Client, KilledWorker, Worker, WorkerPlugin
from distributed.client import FutureCancelledError

from fnnexp.config.execution import Execution
from fnnexp.data.datasets import Arrays, Prepared
from fnnexp.sweeping.backends.cluster import (
    PATIENCE,
    Cluster,
    ClusterError,
    ClusterLostError,
    refuse_other_versions,
)
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.worker import Broken, Trained, receive, train_segment

GONE = ("closing", "closed")
"""The states of a client that will not reconnect."""


def connect(address: str, packages: Sequence[str]) -> Dask:
    """Connect to the Dask scheduler at an address, and return its cluster with at least one worker.

    Raise a ClusterError if no scheduler answers, it has no worker, or a worker has other versions of
    `packages`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about package versions, which refuse_other_versions compares
            client = Client(address, timeout=PATIENCE, name="fnnexp", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"execution.address={address}: no Dask scheduler answers within {PATIENCE:g} s ({error}); start "
            "one with `dask scheduler`, or omit execution.backend=dask"
        ) from error
    try:
        return Dask(address, client, packages)
    except BaseException:
        client.close()
        raise


class Dask(Cluster):
    """A Dask cluster with at least one worker; see :class:`Cluster`."""

    head = "Dask scheduler"
    died = (KilledWorker, FutureCancelledError)

    def __init__(self, address: str, client: Client, packages: Sequence[str]) -> None:
        super().__init__(address)
        self._client, self._packages = client, packages
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise ClusterError(
                f"execution.address={address}: the scheduler has no worker; start one on each machine with "
                f"`dask worker {address} --nthreads 1 --nworkers=-1`"
            ) from error
        self._workers = self._compared_workers()
        self.cores = sum(self._workers.values())
        self._settings = ExitStack()
        # Stacks pass through the scheduler, which can then reassign them; silence Dask's warning about size.
        self._settings.enter_context(
            dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
        )

    def send(self, prepared: Prepared, arrays: Arrays) -> None:
        """Send a data set to the scheduler, which passes it to each present and future worker once.

        The scheduler keeps the data set for the next sweep.
        """
        name = f"fnnexp-{version('fnnexp')}-{prepared.checksum}"
        self._client.register_plugin(_DataSet(prepared, arrays), name=name)

    def train_with(self, handle: None, planned: PlannedStack, execution: Execution) -> Trained | Broken:
        """Train some epochs of a stack of networks on a worker that the scheduler chooses."""
        ended: Trained | Broken = self._client.submit(train_segment, planned, execution, pure=False).result()
        return ended

    def lost(self) -> ClusterLostError | None:
        """Return an error if the scheduler is lost, else None; wait while the client tries to reconnect."""
        while self._client.status == "connecting":
            time.sleep(0.1)
        return self.gone() if self._client.status in GONE else None

    def news(self) -> Iterator[str]:
        """Yield a message for each worker that joined or left."""
        if self._client.status in GONE:
            raise self.gone()
        try:
            now = self._client.nthreads()
            if now.keys() - self._workers.keys():
                now = self._compared_workers()
        except ClusterError as error:
            raise ClusterLostError(f"a worker that joined during the sweep is unusable: {error}") from error
        except Exception:  # disconnected; `lost` checks whether the client gave up
            return
        before, self._workers = self._workers, now
        for worker in sorted(before.keys() - now.keys()):
            yield f"worker {worker} left; another worker trains its epochs again"
        for worker in sorted(now.keys() - before.keys()):
            yield f"worker {worker} joined"
        if before and not now:
            yield "the cluster has no workers; waiting for one to join"

    def close(self) -> None:
        """Close the client."""
        self._settings.close()
        self._client.close(timeout=PATIENCE)

    def _compared_workers(self) -> dict[str, int]:
        """Return the number of threads of each worker, after comparing its package versions.

        Raise if a worker has other versions of the packages than this process.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer: Any = self._client.get_versions(packages=list(self._packages))
        versions = {worker: info["packages"] for worker, info in answer["workers"].items() if info}
        refuse_other_versions(versions, self._packages)
        return dict(self._client.nthreads())


class _DataSet(WorkerPlugin):
    """The plugin that puts a data set into a worker's memory."""

    idempotent = True

    def __init__(self, prepared: Prepared, arrays: Arrays) -> None:
        self.prepared, self.arrays = prepared, arrays

    def setup(self, worker: Worker) -> None:
        receive(self.prepared, self.arrays)
        del self.arrays
