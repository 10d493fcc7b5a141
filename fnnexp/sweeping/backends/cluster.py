"""The interface of a cluster, the connection to it, and the check of its workers' package versions."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from fnnexp.config.execution import Execution
from fnnexp.data import datasets as data
from fnnexp.data.datasets import Arrays, Prepared
from fnnexp.errors import FnnexpError
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.worker import Broken, Trained

PATIENCE = 5.0
"""Seconds within which a cluster must answer and have a worker when a sweep starts."""

PACKAGES = ("fnnexp", "numpy", "scipy", "cloudpickle", "threadpoolctl")
"""The packages that must have the same version everywhere, since they compute or transfer segments."""

ENGINE_PACKAGES = {"numba": ("numba", "llvmlite")}
"""The further packages that an engine needs."""


class ClusterError(FnnexpError):
    """Raised if a cluster can't run the sweep. Nothing was started."""


class ClusterLostError(FnnexpError):
    """Raised if the cluster is lost during the sweep. The same command resumes from the last checkpoints."""

    exit_status = 1


class Cluster(ABC):
    """A connected cluster, whose workers have the same package versions as this process.

    Attributes
    ----------
    head
        The name, in messages, of the part without which the cluster is lost, such as "Dask scheduler".
    died
        The types of the exceptions by which the cluster reports that a worker died.
    address
        The cluster's address, as configured.
    cores
        The number of segments that the cluster can train at the same time.
    """

    head: str
    died: tuple[type[BaseException], ...]
    cores: int

    def __init__(self, address: str) -> None:
        self.address = address
        self._sent: dict[str, Any] = {}
        self._sending = threading.Lock()

    def train(self, planned: PlannedStack, execution: Execution) -> Trained | Broken:
        """Train some epochs of a stack of networks on a worker. Each data set is sent once. Thread-safe."""
        with self._sending:
            if planned.data.checksum not in self._sent:
                self._sent[planned.data.checksum] = self.send(planned.data, in_memory(planned.data))
        return self.train_with(self._sent[planned.data.checksum], planned, execution)

    @abstractmethod
    def send(self, prepared: Prepared, arrays: Arrays) -> Any:
        """Send a data set to all present and future workers; return a handle for :meth:`train_with`."""

    @abstractmethod
    def train_with(self, handle: Any, planned: PlannedStack, execution: Execution) -> Trained | Broken:
        """Train some epochs of a stack of networks on a worker that has the data set with this handle."""

    @abstractmethod
    def lost(self) -> ClusterLostError | None:
        """Return the error to raise if the cluster is lost for good, else None; wait until this is known."""

    @abstractmethod
    def news(self) -> Iterator[str]:
        """Yield a message for each worker that joined or left since the last call.

        Raises
        ------
        ClusterLostError
            If the cluster is lost, or a worker with other versions joined.
        """

    @abstractmethod
    def close(self) -> None:
        """Disconnect from the cluster, which keeps running. Training that still runs there is abandoned."""

    def gone(self) -> ClusterLostError:
        """Return the error that reports the loss of the cluster."""
        return ClusterLostError(
            f"the connection to the {self.head} {self.address} is lost; start the same command again when it "
            "is back, and the sweep resumes"
        )


CLUSTERS = {"dask": "distributed", "ray": "ray"}
"""The package of each backend, which is also its logger's name. The backend's module has its own name."""


@contextlib.contextmanager
def connected(execution: Execution) -> Iterator[Cluster | None]:
    """Connect to the cluster that the settings name, and yield it; yield None if they name no cluster.

    It is disconnected when the block ends.

    Raises
    ------
    ClusterError
        Within seconds, if the package is missing, the cluster does not answer or has no worker, or its
        workers have other versions.
    """
    backend = execution.backend
    if backend not in CLUSTERS:
        yield None
        return
    if importlib.util.find_spec(CLUSTERS[backend]) is None:
        raise ClusterError(
            f"execution.backend={backend} needs the package {CLUSTERS[backend]}, which is not installed; "
            f'run pip install "fnnexp[{backend}]"'
        )
    packages = (*PACKAGES, *ENGINE_PACKAGES.get(execution.engine, ()))
    module = import_module(f"fnnexp.sweeping.backends.{backend}")
    logger = logging.getLogger(CLUSTERS[backend])
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # fnnexp's own messages report what matters
    try:
        with contextlib.closing(module.connect(execution.address, packages)) as cluster:
            yield cluster
    finally:
        logger.setLevel(level)


def in_memory(prepared: Prepared) -> Arrays:
    """Return a data set as arrays in memory, ready to be sent."""
    mapped = data.load(prepared)
    return Arrays(**{key: np.array(array) for key, array in vars(mapped).items()})


def own_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return this process's versions of Python and of each installed package."""
    versions = {"python": ".".join(map(str, sys.version_info[:2]))}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def refuse_other_versions(
    versions: Mapping[str, Mapping[str, str | None]], packages: Sequence[str] = PACKAGES
) -> None:
    """Raise if a worker has other versions of the packages than this process.

    Of the version of Python, only the first two numbers are compared.

    Parameters
    ----------
    versions
        The versions of each worker, by its name and then by the name of the package.
    packages
        The packages to compare.

    Raises
    ------
    ClusterError
        With all differences of each worker.
    """
    own = own_versions(packages)
    lines = []
    for worker, remote in versions.items():
        python = ".".join((remote.get("python") or "").split(".")[:2])
        differences = [
            f"{name} {remote.get(name) or 'missing'} (here {local})"
            for name, local in own.items()
            if (python if name == "python" else remote.get(name)) != local
        ]
        if differences:
            lines.append(f"  {worker}: {', '.join(differences)}")
    if lines:
        raise ClusterError(
            "workers have other package versions, with which they would compute other numbers or fail:\n"
            + "\n".join(lines)
            + "\nInstall the versions of this machine (`pip install -c constraints.txt …`) and restart them."
        )
