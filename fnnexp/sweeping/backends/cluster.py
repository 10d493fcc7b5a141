"""A cluster as the executor sees it, and what it is sent: data sets, and the question of its versions."""

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
"""Seconds in which a cluster must answer and have a worker before a sweep begins."""

PACKAGES = ("fnnexp", "numpy", "scipy", "cloudpickle", "threadpoolctl")
"""The packages that must have one version everywhere: they compute a segment, or carry it to a worker."""

ENGINE_PACKAGES = {"numba": ("numba", "llvmlite")}
"""The packages that an engine needs beside them."""


class ClusterError(FnnexpError):
    """The cluster can't do what is asked of it; nothing was begun."""


class ClusterLostError(FnnexpError):
    """The cluster went away during the sweep; the same command goes on from the last checkpoints."""

    exit_status = 1


class Cluster(ABC):
    """A connected cluster. Its workers have this process's versions.

    Attributes
    ----------
    head
        What is gone when the cluster is: "Dask scheduler".
    died
        The exceptions of a segment whose worker died.
    address
        As told.
    cores
        The number of segments that it can train at once.
    """

    head: str
    died: tuple[type[BaseException], ...]
    cores: int

    def __init__(self, address: str) -> None:
        self.address = address
        self._sent: dict[str, Any] = {}
        self._sending = threading.Lock()

    def train(self, planned: PlannedStack, execution: Execution) -> Trained | Broken:
        """Train a segment on a worker; each data set is sent once. To be called from many threads."""
        with self._sending:
            if planned.data.checksum not in self._sent:
                self._sent[planned.data.checksum] = self.send(planned.data, in_memory(planned.data))
        return self.train_with(self._sent[planned.data.checksum], planned, execution)

    @abstractmethod
    def send(self, prepared: Prepared, arrays: Arrays) -> Any:
        """Send a data set to all workers, also to those that come later; return its handle."""

    @abstractmethod
    def train_with(self, handle: Any, planned: PlannedStack, execution: Execution) -> Trained | Broken:
        """Train a segment on a worker that has the data set of this handle."""

    @abstractmethod
    def lost(self) -> ClusterLostError | None:
        """Return the error that ends the sweep if the cluster is gone for good; wait until that is known."""

    @abstractmethod
    def news(self) -> Iterator[str]:
        """Yield a line for each worker that came or went since the last time.

        Raises
        ------
        ClusterLostError
            When the cluster is gone, or a worker came that has other versions.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the cluster, which goes on without us; segments under way are given up."""

    def gone(self) -> ClusterLostError:
        """Return the error that says that the cluster is gone."""
        return ClusterLostError(
            f"the {self.head} {self.address} is gone; start the same command again when it is back, and it "
            "goes on where it was"
        )


CLUSTERS = {"dask": "distributed", "ray": "ray"}
"""The package, and logger, of each kind of cluster; the module beside this one has the kind's name."""


@contextlib.contextmanager
def connected(execution: Execution) -> Iterator[Cluster | None]:
    """Yield the cluster that an execution names, or None when it names a backend of this machine.

    Raises
    ------
    ClusterError
        Within seconds: the package is missing, the cluster does not answer, has no worker, or its workers
        have other versions.
    """
    kind = execution.backend
    if kind not in CLUSTERS:
        yield None
        return
    if importlib.util.find_spec(CLUSTERS[kind]) is None:
        raise ClusterError(
            f"execution.backend={kind} needs the package {CLUSTERS[kind]}, which is not installed here; "
            f'write: pip install "fnnexp[{kind}]"'
        )
    packages = (*PACKAGES, *ENGINE_PACKAGES.get(execution.engine, ()))
    module = import_module(f"fnnexp.sweeping.backends.{kind}")
    logger = logging.getLogger(CLUSTERS[kind])
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # our own lines say what matters
    try:
        with contextlib.closing(module.connect(execution.address, packages)) as cluster:
            yield cluster
    finally:
        logger.setLevel(level)


def in_memory(prepared: Prepared) -> Arrays:
    """Return a data set as plain arrays, ready to be sent."""
    mapped = data.load(prepared)
    return Arrays(**{key: np.array(array) for key, array in vars(mapped).items()})


def own_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return this process's version of Python and of each package."""
    found = {"python": ".".join(map(str, sys.version_info[:2]))}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def refuse_others(
    versions: Mapping[str, Mapping[str, str | None]], packages: Sequence[str] = PACKAGES
) -> None:
    """Compare each worker's versions with this process's; of Python, only major and minor.

    Raises
    ------
    ClusterError
        With all that differs, by worker.
    """
    own = own_versions(packages)
    lines = []
    for worker, theirs in versions.items():
        python = ".".join((theirs.get("python") or "").split(".")[:2])
        differ = [
            f"{name} {theirs.get(name) or 'missing'} (here {mine})"
            for name, mine in own.items()
            if (python if name == "python" else theirs.get(name)) != mine
        ]
        if differ:
            lines.append(f"  {worker}: {', '.join(differ)}")
    if lines:
        raise ClusterError(
            "workers of other versions would compute other numbers, or fail:\n"
            + "\n".join(lines)
            + "\nInstall the same there as here (`pip install -c constraints.txt …`) and start them again."
        )
