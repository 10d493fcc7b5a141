"""A Dask cluster: its scheduler hands segments to its workers, and again when a worker dies."""

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
    refuse_others,
)
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.worker import Broken, Trained, receive, train_segment

GONE = ("closing", "closed")
"""The states of a client that will not come back."""


def connect(address: str, packages: Sequence[str]) -> Dask:
    """Return the cluster of a scheduler; see :func:`fnnexp.sweeping.backends.cluster.connected`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other versions are an error below
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
    """See :class:`Cluster`. Made when at least one worker is there and all have our versions."""

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
        # A stack goes to its worker through the scheduler, so that another worker can take it over.
        self._settings.enter_context(
            dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
        )

    def send(self, prepared: Prepared, arrays: Arrays) -> None:
        """Leave a data set with the scheduler, which hands it to each worker once, whenever that comes.

        It stays there for the next sweep.
        """
        name = f"fnnexp-{version('fnnexp')}-{prepared.checksum}"
        self._client.register_plugin(_DataSet(prepared, arrays), name=name)

    def train_with(self, handle: None, planned: PlannedStack, execution: Execution) -> Trained | Broken:
        """Train a segment on the worker that the scheduler chooses: all have the data."""
        ended: Trained | Broken = self._client.submit(train_segment, planned, execution, pure=False).result()
        return ended

    def lost(self) -> ClusterLostError | None:
        """Return that the scheduler is gone, once the client has given up to connect again."""
        while self._client.status == "connecting":
            time.sleep(0.1)
        return self.gone() if self._client.status in GONE else None

    def news(self) -> Iterator[str]:
        """Yield who came and who went."""
        if self._client.status in GONE:
            raise self.gone()
        try:
            now = self._client.nthreads()
            if now.keys() - self._workers.keys():
                now = self._compared_workers()
        except ClusterError as error:
            raise ClusterLostError(f"a worker came in the middle of the sweep; {error}") from error
        except Exception:  # the connection is down; the client's status says when it gives up
            return
        before, self._workers = self._workers, now
        for worker in sorted(before.keys() - now.keys()):
            yield f"the worker {worker} is gone; another trains its segment again"
        for worker in sorted(now.keys() - before.keys()):
            yield f"the worker {worker} has come"
        if before and not now:
            yield "the cluster has no worker left; waiting for one"

    def close(self) -> None:
        """Close the client."""
        self._settings.close()
        self._client.close(timeout=PATIENCE)

    def _compared_workers(self) -> dict[str, int]:
        """Return the number of threads of each worker, all of which have our versions."""
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

    def setup(self, worker: Worker) -> None:
        receive(self.prepared, self.arrays)
        del self.arrays
