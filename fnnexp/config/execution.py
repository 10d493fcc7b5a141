"""Execution: where, how and how much to train. Engines differ by rounding; nothing else changes a result."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fnnexp.config import key
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.layer_stats import FULL, Level

ADDRESSES = {
    "dask": (r"(tcp|tls)://[^/:]+:\d+", "tcp://HOST:8786"),
    "ray": (r"(ray://)?[^/:]+:\d+", "HOST:6379"),
}
"""For each cluster backend, the pattern of its address and an example."""

EXAMPLES = " or ".join(example for _, example in ADDRESSES.values())

BACKENDS = ("loky", "multiprocessing", "threading", "sequential", *ADDRESSES)

MOST_WORKERS = 1024


UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
"""The units of ``execution.memory`` and ``execution.keep_states``, in bytes."""

SIZES = "500MB or 4GB"


def bytes_of(text: str) -> int:
    """Return the number of bytes of a size such as ``4GB``.

    Raises
    ------
    ValueError
        If the text is not a number above 0 and a unit.

    Examples
    --------
    >>> bytes_of("4GB"), bytes_of("1.5 gib")
    (4000000000, 1610612736)
    """
    units = {unit.lower(): size for unit, size in UNITS.items()}
    match = re.fullmatch(r"(-?\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"must be a number and one of {', '.join(UNITS)}")
    number, unit = float(match[1]), match[2].lower()
    if number <= 0:
        raise ValueError("must be above 0")
    if not unit:
        raise ValueError(f"the size has no unit; the units are {', '.join(UNITS)}")
    if unit not in units:
        raise ValueError(f"{match[2]} is not a unit; the units are {', '.join(UNITS)}")
    return max(int(number * units[unit]), 1)


def recorded(diagnostics: object) -> Level:
    """Return what the diagnostics record: False for nothing, True for numbers, "full" for histograms too.

    `diagnostics` is the value of the key `diagnostics` in a config.

    Raises
    ------
    ValueError
        If the value is neither full nor one of the words for true and false, such as yes, on, no and off.

    Examples
    --------
    >>> recorded(True), recorded("off"), recorded("full")
    (True, False, 'full')
    """
    if diagnostics == FULL:
        return FULL
    if isinstance(diagnostics, int):
        return bool(diagnostics)
    for value, words in ((True, ("true", "yes", "y", "on")), (False, ("false", "no", "n", "off"))):
        if isinstance(diagnostics, str) and diagnostics.lower() in words:
            return value
    raise ValueError("must be true, false or full")


TIMES = {"s": 1.0, "m": 60.0, "h": 3600.0}
"""The units of time of a budget, in seconds."""

BUDGETS = "5m (also 90s, 2h), 200trials or 1000epochs"


@dataclass(frozen=True)
class Budget:
    """How much a command may train.

    Attributes
    ----------
    text
        The budget as it was written.
    seconds
        The wall-clock time from the start of the command; None: no limit.
    trials, epochs
        How many trials, and how many epochs of trials, may be trained in all, by this command and by earlier
        ones; None: no limit.
    """

    text: str
    seconds: float | None = None
    trials: int | None = None
    epochs: int | None = None


def budget_of(text: str) -> Budget:
    """Return the budget of a text such as ``5m`` or ``200trials``.

    Raises
    ------
    ValueError
        If the text is not a number above 0 and a unit.

    Examples
    --------
    >>> budget_of("5m").seconds, budget_of("200trials").trials, budget_of("1 epoch").epochs
    (300.0, 200, 1)
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(s|m|h|trials?|epochs?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"budget={text}: must be a number above 0 and a unit; write {BUDGETS}")
    number, unit = float(match[1]), match[2]
    if unit in TIMES:
        return Budget(text, seconds=number * TIMES[unit])
    if not number.is_integer():
        raise ValueError(f"budget={text}: must be a whole number of {unit.rstrip('s')}s; write {BUDGETS}")
    return Budget(text, **{f"{unit.rstrip('s')}s": int(number)})


def bytes_kept(text: str | None) -> int:
    """Return the value of ``execution.keep_states`` in bytes; 0 if no states are kept.

    >>> bytes_kept("500MB"), bytes_kept("0"), bytes_kept(None)
    (500000000, 0, 0)
    """
    return 0 if text in (None, "0") else bytes_of(str(text))


AUTO = "auto"
"""The value of ``execution.engine`` that chooses an engine for the whole sweep."""


@dataclass
class Execution:
    """Where and how trials run. It changes no result, except that engines differ by rounding."""

    n_jobs: int = key(
        -1,
        f"The number of workers, up to {MOST_WORKERS}; -1 means one worker per core, -2 all cores but one, "
        "and so on, but at least one worker. While there are fewer stacks than workers, a worker uses the "
        "idle cores too, in threads.",
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
    memory: str | None = key(
        None,
        f"The most memory that a worker takes, as {SIZES}; wider stacks are cut, and a trial that does not "
        "fit is refused. Null: what the machine, or the limit of its container, has left, divided by the "
        "workers.",
    )
    keep_states: str | None = key(
        "1GB",
        "The most disk space for the final states of trials, from which trials with more epochs go on. The "
        "oldest leave first, and results come before them. 0 or null: none are kept.",
    )
    segment_seconds: float = key(
        5.0, "How long a worker trains before its curves are logged.", unit="seconds", least=0
    )
    retries: int = key(1, "How often to retry a trial that failed.", least=0)
    fail_fast: bool = key(False, "Whether the first trial that failed stops the sweep.")
    address: str | None = key(None, f"The address of a cluster, as {EXAMPLES}.")
    # What to record about layers. In a config this is the key `diagnostics`, which belongs to no group.
    diagnostics: Level = field(default=False, metadata={"omegaconf_ignore": True})
