"""Execution: where and how trials run. Nothing here changes a number, except the engine its last bits."""

from __future__ import annotations

from dataclasses import dataclass, field

ADDRESSES = {
    "dask": (r"(tcp|tls)://[^/:]+:\d+", "tcp://HOST:8786"),
    "ray": (r"(ray://)?[^/:]+:\d+", "HOST:6379"),
}
"""The form of a cluster's address by backend, and how to write one."""

BACKENDS = ("loky", "multiprocessing", "threading", "sequential", *ADDRESSES)

MOST_WORKERS = 1024


@dataclass
class Execution:
    """How a sweep runs: the config's node ``execution``, with ``diagnostics`` beside it.

    Attributes
    ----------
    n_jobs
        Workers, as joblib counts them: -1 is one a core.
    backend, address
        One of :data:`BACKENDS`; the address of a cluster.
    engine
        A key of :data:`fnnexp.nn.engines.base.ENGINES`.
    max_lanes
        The most lanes in a stack; None leaves it to the plan.
    segment_seconds
        Seconds that a worker trains before it reports.
    retries, fail_fast
        How often a trial that broke is tried again; whether the first failure stops the sweep.
    diagnostics
        Whether layer statistics are recorded. In a config this is the key ``diagnostics``, at the top.
    """

    n_jobs: int = -1
    backend: str = "loky"
    engine: str = "numpy"
    max_lanes: int | None = None
    segment_seconds: float = 5.0
    retries: int = 1
    fail_fast: bool = False
    address: str | None = None
    diagnostics: bool = field(default=False, metadata={"omegaconf_ignore": True})
