"""A Ray cluster: each segment is a task, and the data lies in the shared memory of each machine."""

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
    refuse_others,
)
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.worker import Broken, Trained, receive, train_segment

START = 60.0
"""Seconds in which a machine starts its first worker process and answers."""


def connect(address: str, packages: Sequence[str]) -> Ray:
    """Return the cluster of a head node; see :func:`fnnexp.sweeping.backends.cluster.connected`."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()  # Ray itself waits a minute
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"execution.address={address}: no Ray cluster of our version answers ({error}); start one with "
            "`ray start --head`, or leave out execution.backend=ray"
        ) from error
    try:
        return Ray(address, packages)
    except BaseException:
        ray.shutdown()
        raise


class Ray(Cluster):
    """See :class:`Cluster`. Made when at least one processor is there and all machines have our versions."""

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
                f"execution.address={address}: the cluster has no processor to train on; start a worker on "
                f"each machine with `ray start --address={address}`"
            )
        self._machines = self._compared(_machines())

    def send(self, prepared: Prepared, arrays: Arrays) -> Any:
        """Put a data set where each machine fetches it once, for its first worker; return its address."""
        return ray.put(arrays)

    def train_with(self, handle: Any, planned: PlannedStack, execution: Execution) -> Trained | Broken:
        """Train a segment as a task that Ray does not try again: the sweep does."""
        task = ray.remote(num_cpus=1, max_retries=0)(_train_with_data)
        ended: Trained | Broken = task.remote(planned, execution, handle).future().result()
        return ended

    def lost(self) -> ClusterLostError | None:
        """Return that the head node is gone."""
        return None if ray.is_initialized() else self.gone()

    def news(self) -> Iterator[str]:
        """Yield which machines came and went."""
        if (lost := self.lost()) is not None:
            raise lost
        before, now = self._machines, _machines()
        try:
            self._compared({node: name for node, name in now.items() if node not in before})
        except ClusterError as error:
            raise ClusterLostError(f"a machine came in the middle of the sweep; {error}") from error
        self._machines = now
        for node in before.keys() - now.keys():
            yield f"the machine {before[node]} is gone; another trains its segment again"
        for node in now.keys() - before.keys():
            yield f"the machine {now[node]} has come"

    def close(self) -> None:
        """Leave the cluster."""
        ray.shutdown()

    def _compared(self, machines: dict[str, str]) -> dict[str, str]:
        """Return the machines, all of which have our versions."""

        def versions(packages: Sequence[str]) -> dict[str, str | None]:  # goes by value: they may lack fnnexp
            import sys
            from importlib import metadata

            found: dict[str, str | None] = {"python": ".".join(map(str, sys.version_info[:3]))}
            for package in packages:
                try:
                    found[package] = metadata.version(package)
                except metadata.PackageNotFoundError:
                    found[package] = None
            return found

        ask = ray.remote(num_cpus=0, max_retries=0)(versions)
        asked = [
            ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                self._packages
            )
            for node in machines
        ]
        try:
            answers = ray.get(asked, timeout=START)
        except exceptions.RayError as error:
            raise ClusterError(f"a machine of {self.address} runs no task: {error}") from error
        refuse_others(dict(zip(machines.values(), answers, strict=True)), self._packages)
        return machines


def _machines() -> dict[str, str]:
    """Return the name of each machine that is there, by its id."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def _train_with_data(planned: PlannedStack, execution: Execution, arrays: Arrays) -> Trained | Broken:
    """Train on a worker. Ray has mapped the arrays from the machine's shared memory."""
    receive(planned.data, arrays)
    return train_segment(planned, execution)
