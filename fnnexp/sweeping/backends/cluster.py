"""Workers on other machines, as the executor sees them; ``dask`` and ``ray`` are the two kinds."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from fnnexp.data import datasets as data
from fnnexp.data.datasets import Arrays, Prepared
from fnnexp.errors import FnnexpError

PATIENCE = 5.0
"""Seconds in which a cluster answers and has a worker, or the sweep does not begin."""

PACKAGES = ("fnnexp", "numpy", "scipy", "joblib", "cloudpickle", "threadpoolctl")
"""What must be of one version everywhere: what a segment computes with, and what carries it there."""

ENGINE_PACKAGES = {"numba": ("numba", "llvmlite")}
"""What an engine needs beside them."""


class ClusterError(FnnexpError):
    """The cluster can't do what is asked of it; nothing was begun."""


class ClusterLostError(FnnexpError):
    """The cluster went away in the middle: the same command goes on from the last checkpoints."""

    exit_status = 1


class Cluster(ABC):
    """A connected cluster. Its workers are like this process, and hold the data sets that were sent.

    Attributes
    ----------
    address
        As told.
    cores
        How many segments it can train at once.
    died
        What a segment raises whose worker died.
    """

    address: str
    cores: int
    died: tuple[type[BaseException], ...]

    @abstractmethod
    def send(self, prepared: Prepared) -> None:
        """Give a data set to every worker, also to those that come later; a second time costs nothing."""

    @abstractmethod
    def backend(self, prepared: Prepared) -> Any:
        """Return a backend for one joblib Parallel, whose task trains on a data set that was sent."""

    @abstractmethod
    def lost(self) -> ClusterLostError | None:
        """Return what there is to say when the cluster is gone for good; wait while that is not known."""

    @abstractmethod
    def news(self) -> Iterator[str]:
        """Yield what there is to say of workers that came or went since the last time.

        Raises
        ------
        ClusterLostError
            When the cluster is gone, or a worker came that would compute something else.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the cluster, which goes on without us."""


CLUSTERS = {
    "dask": ("fnnexp.sweeping.backends.dask", "distributed"),
    "ray": ("fnnexp.sweeping.backends.ray", "ray"),
}
"""The module of each kind, and the package that it needs."""


@contextlib.contextmanager
def workers(backend: str, address: str | None, engine: str = "numpy") -> Iterator[str | Cluster]:
    """Yield what the executor works with: joblib's own backends by name, or a connected cluster.

    Raises
    ------
    ClusterError
        Within seconds: the package is missing, the cluster does not answer, has no worker, or its workers
        have other versions.
    """
    if backend not in CLUSTERS:
        yield backend
        return
    module, package = CLUSTERS[backend]
    if importlib.util.find_spec(package) is None:
        raise ClusterError(
            f"execution.backend={backend} needs the package {package}, which is not installed here; "
            f'write: pip install "fnnexp[{backend}]"'
        )
    cluster: Cluster = import_module(module).connect(address, (*PACKAGES, *ENGINE_PACKAGES.get(engine, ())))
    try:
        yield cluster
    finally:
        cluster.close()


def in_memory(prepared: Prepared) -> Arrays:
    """Return a data set as plain arrays, ready to be sent."""
    mapped = data.load(prepared)
    return Arrays(**{key: np.array(array) for key, array in vars(mapped).items()})


def own_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return this process's version of Python and of each package."""
    found = {"python": _minor(".".join(map(str, sys.version_info[:3])))}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def refuse_others(
    versions: Mapping[str, Mapping[str, str | None]], packages: Sequence[str] = PACKAGES
) -> None:
    """Compare each worker's versions with this process's.

    Raises
    ------
    ClusterError
        With all that differs, by worker.
    """
    own = own_versions(packages)
    lines = []
    for worker, theirs in versions.items():
        unlike = [
            f"{name} {theirs.get(name) or 'missing'} (here {mine})"
            for name, mine in own.items()
            if _minor(theirs.get(name) or "", name) != mine
        ]
        if unlike:
            lines.append(f"  {worker}: {', '.join(unlike)}")
    if lines:
        raise ClusterError(
            "workers of other versions would compute other numbers, or fail:\n"
            + "\n".join(lines)
            + "\nInstall the same there as here (`pip install -c constraints.txt …`) and start them again."
        )


def _minor(text: str, name: str = "python") -> str:
    """Return a version as it is compared: Python's without what does not change a number."""
    return ".".join(text.split(".")[:2]) if name == "python" else text
