"""Execution: where and how trials run. Engines differ by rounding; nothing else changes a result."""

from __future__ import annotations

from dataclasses import dataclass, field

from fnnexp.config import key
from fnnexp.nn.engines.base import ENGINES

ADDRESSES = {
    "dask": (r"(tcp|tls)://[^/:]+:\d+", "tcp://HOST:8786"),
    "ray": (r"(ray://)?[^/:]+:\d+", "HOST:6379"),
}
"""For each cluster backend, the pattern of its address and an example."""

EXAMPLES = " or ".join(example for _, example in ADDRESSES.values())

BACKENDS = ("loky", "multiprocessing", "threading", "sequential", *ADDRESSES)

MOST_WORKERS = 1024


AUTO = "auto"
"""The value of ``execution.engine`` that chooses an engine for the whole sweep."""


@dataclass
class Execution:
    """Where and how trials run. It changes no result, except that engines differ by rounding."""

    n_jobs: int = key(
        -1,
        f"The number of workers, up to {MOST_WORKERS}; -1 means one worker per core.",
        unit="workers",
    )
    backend: str = key("loky", "A backend of joblib, or a cluster.", names=BACKENDS)
    engine: str = key(
        AUTO,
        "How to compute. `numba` is compiled and faster, and needs the extra `numba`. `auto` is numba where "
        "it is installed and saves time, else NumPy; it goes on with the engine that began the sweep.",
        names=(AUTO, *ENGINES),
    )
    max_lanes: int | None = key(
        None, "The most trials in a stack. Null: chosen for the batching mode.", unit="trials", least=1
    )
    segment_seconds: float = key(
        5.0, "How long a worker trains before its curves are logged.", unit="seconds", least=0
    )
    retries: int = key(1, "How often to retry a trial that failed.", least=0)
    fail_fast: bool = key(False, "Whether the first trial that failed stops the sweep.")
    address: str | None = key(None, f"The address of a cluster, as {EXAMPLES}.")
    # Whether to record layer statistics: in a config, the key `diagnostics` without a group.
    diagnostics: bool = field(default=False, metadata={"omegaconf_ignore": True})
