"""A Ray cluster. Some epochs of a stack are a task; the data is in the shared memory of each machine."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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

START = 60.0
"""Seconds within which a machine must start its first worker process and answer."""


def connect(address: str, packages: Sequence[str]) -> Ray:
    """Connect to the head node of a Ray cluster at an address, and return the cluster.

    Raise a ClusterError if no head node answers, or if a machine has other versions of `packages` than this
    one.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()  # Ray itself waits for a minute
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"execution.address={address}: no cluster of Ray {ray.__version__} answers ({error}); start "
            "one with `ray start --head`, or omit execution.backend=ray"
        ) from error
    try:
        return Ray(address, packages)
    except BaseException:
        ray.shutdown()
        raise


class Ray(Cluster):
    """A Ray cluster with at least one processor; see :class:`Cluster`."""

    head = "Ray cluster"
    died = (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.OutOfMemoryError,
        exceptions.ObjectLostError,
    )

    def __init__(self, address: str, packages: Sequence[str]) -> None:
        super().__init__(address)
        self._packages = packages
        self.cores = int(ray.cluster_resources().get("CPU", 0))
        if self.cores == 0:
            raise ClusterError(
                f"execution.address={address}: the cluster has no processors; start a worker on "
                f"each machine with `ray start --address={address}`"
            )
        self._machines = self._compared(_machines())

    def send(self, prepared: Prepared, arrays: Arrays) -> Any:
        """Put a data set into Ray's object store, where each machine fetches it once; return its handle."""
        return ray.put(arrays)

    def train_with(self, handle: Any, planned: PlannedStack, execution: Execution) -> Trained | Broken:
        """Train some epochs of a stack of networks as a task. Ray does not retry it, since the sweep does."""
        task = ray.remote(num_cpus=1, max_retries=0)(_train_with_data)
        ended: Trained | Broken = task.remote(planned, execution, handle).future().result()
        return ended

    def lost(self) -> ClusterLostError | None:
        """Return an error if the head node is lost, else None."""
        return None if ray.is_initialized() else self.gone()

    def news(self) -> Iterator[str]:
        """Yield a message for each machine that joined or left."""
        if (lost := self.lost()) is not None:
            raise lost
        before, now = self._machines, _machines()
        try:
            self._compared({node: name for node, name in now.items() if node not in before})
        except ClusterError as error:
            raise ClusterLostError(f"a machine that joined during the sweep is unusable: {error}") from error
        self._machines = now
        for node in before.keys() - now.keys():
            yield f"machine {before[node]} left; another machine trains its epochs again"
        for node in now.keys() - before.keys():
            yield f"machine {now[node]} joined"

    def close(self) -> None:
        """Disconnect from the cluster."""
        ray.shutdown()

    def _compared(self, machines: dict[str, str]) -> dict[str, str]:
        """Return the given machines by id, after comparing their package versions.

        Raise if a machine has other versions of the packages than this process.
        """

        def versions(
            packages: Sequence[str],
        ) -> dict[str, str | None]:  # Ray sends its code to machines that may lack fnnexp
            import sys
            from importlib import metadata

            installed: dict[str, str | None] = {"python": ".".join(map(str, sys.version_info[:3]))}
            for package in packages:
                try:
                    installed[package] = metadata.version(package)
                except metadata.PackageNotFoundError:
                    installed[package] = None
            return installed

        task = ray.remote(num_cpus=0, max_retries=0)(versions)
        references = [
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                self._packages
            )
            for node in machines
        ]
        try:
            answers = ray.get(references, timeout=START)
        except exceptions.RayError as error:
            raise ClusterError(f"a machine of the cluster {self.address} can't run tasks: {error}") from error
        refuse_other_versions(dict(zip(machines.values(), answers, strict=True)), self._packages)
        return machines


def _machines() -> dict[str, str]:
    """Return the names of the connected machines, by id."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def _train_with_data(planned: PlannedStack, execution: Execution, arrays: Arrays) -> Trained | Broken:
    """Train some epochs of a stack of networks, with arrays that Ray maps from shared memory."""
    receive(planned.data, arrays)
    return train_segment(planned, execution)
