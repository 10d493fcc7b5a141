"""Execution: where and how trials run. Engines differ by rounding; nothing else changes a result."""

from __future__ import annotations

from dataclasses import dataclass, field

ADDRESSES = {
    "dask": (r"(tcp|tls)://[^/:]+:\d+", "tcp://HOST:8786"),
    "ray": (r"(ray://)?[^/:]+:\d+", "HOST:6379"),
}
"""For each cluster backend, the pattern of its address and an example."""

BACKENDS = ("loky", "multiprocessing", "threading", "sequential", *ADDRESSES)

MOST_WORKERS = 1024


@dataclass
class Execution:
    """How a sweep runs: the config's node ``execution``, and the key ``diagnostics``.

    Attributes
    ----------
    n_jobs
        Number of workers, as in joblib: -1 is one per core.
    backend, address
        One of :data:`BACKENDS`; the address of a cluster.
    engine
        A key of :data:`fnnexp.nn.engines.base.ENGINES`.
    max_lanes
        The most lanes (trials) in a stack; None lets the plan decide.
    segment_seconds
        Seconds that a worker trains before it returns records to the parent.
    retries, fail_fast
        How often to retry a trial that failed; whether the first failure stops the sweep.
    diagnostics
        Whether to record layer statistics. In a config this is the top-level key ``diagnostics``.
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
