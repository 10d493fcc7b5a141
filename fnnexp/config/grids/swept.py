"""What the overrides of a grid sweep over, and how many jobs that makes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep, Sweep, Transformer

from fnnexp.config.grids import conditions
from fnnexp.config.jobs import key_of
from fnnexp.config.schema import LISTS
from fnnexp.data import room
from fnnexp.errors import ConfigError, plural

BYTES_A_TRIAL = 3000
"""The bytes of memory that each trial takes in this process until the sweep ends, as measured."""

MOST_SHOWN = 8
"""Maximum number of values that an error message repeats."""


def line_of(override: Override) -> str:
    """Return an override as it was written."""
    return str(override.input_line)


def refuse_nested(overrides: Iterable[Override]) -> None:
    """Raise for ``lr=interval(0,1),interval(2,3)``, which Hydra parses but cannot use."""
    for override in overrides:
        value = override.value()
        if isinstance(value, ChoiceSweep) and any(isinstance(element, Sweep) for element in value.list):
            raise ConfigError(
                f"{line_of(override)}: an interval or a range must stand alone; omit the rest, or write "
                "single values"
            )


def refuse_split(overrides: Iterable[Override]) -> None:
    """Raise for ``arch.hidden=32,16``, where the value must be a list and its brackets are missing."""
    for override in overrides:
        value, key = override.value(), override.get_key_element()
        if key_of(key) not in LISTS or not isinstance(value, ChoiceSweep | RangeSweep):
            continue
        few = value_count(override) <= MOST_SHOWN
        elements = [*override.sweep_iterator()] if few else []
        if isinstance(value, ChoiceSweep) and not all(type(element) is int for element in elements):
            continue
        texts = list(map(Transformer.str, elements)) or ["64", "32"]
        networks = f"{key}={','.join(f'[{text}]' for text in texts)}"
        raise ConfigError(
            f"{line_of(override)}: must be a list for each network; write {key}=[{','.join(texts)}] for one "
            f"network with {plural(len(texts), 'hidden layer')}, or in a sweep {networks} for "
            f"{plural(len(texts), 'network')}"
        )


def is_continuous(override: Override) -> bool:
    """Return whether an override sweeps over an interval, as in ``optimizer.lr=interval(0,1)``."""
    return override.is_sweep_override() and not override.is_discrete_sweep()


def refuse_continuous(override: Override) -> None:
    """Raise if an override of a grid is an interval, which has no list of values to train with."""
    if is_continuous(override):
        key = override.get_key_element()
        raise ConfigError(
            f"{line_of(override)}: a sweep needs a list of values; write {key}=1,2 or {key}=range(3), or to "
            "draw values add search=random search.trials=20"
        )


def values_of(override: Override, drawn: Sequence[Any] | None) -> Iterator[tuple[str, Any]]:
    """Yield each value that an override sweeps over, as an override ``key=value`` and as a Python value.

    If `drawn` is given, its values take their place.
    """
    key = override.get_key_element()
    if not override.is_sweep_override():
        line = f"{key}={override.get_value_element_as_str()}"
        yield line_of(override) if override.is_delete() else line, override.value()
        return
    for element in override.sweep_iterator() if drawn is None else drawn:
        yield f"{key}={Transformer.str(element)}", element


def refuse_too_many(counts: Mapping[str, float], is_part: bool) -> None:
    """Raise if a grid has more jobs than there is memory for, before any is made.

    Parameters
    ----------
    counts
        The number of values of each key.
    is_part
        Whether ``where`` will leave out some of the combinations. Then the number of jobs is not known yet.
    """
    combinations, most = math.prod(counts.values()), conditions.MOST_COMBINATIONS
    largest = max(counts, key=lambda key: counts[key], default="")
    if not is_part:
        refuse_without_memory(combinations, largest)
    elif combinations > most:
        raise ConfigError(
            f"the sweep has {_count(combinations)} jobs before where=… leaves any out, and where=… can "
            f"filter at most {most:,}; write fewer values, above all for {largest}"
        )
    else:
        refuse_without_memory(counts[largest], largest)


def refuse_without_memory(jobs: float, largest: str) -> None:
    """Raise if there is too little memory for so many jobs; `largest` is the key with the most values."""
    available = room.available_memory()
    if available is None or jobs * BYTES_A_TRIAL <= available:
        return
    raise ConfigError(
        f"the sweep has {_count(jobs)} jobs, and each takes {BYTES_A_TRIAL // 1000} KB of memory, but only "
        f"{available / 1e9:.3g} GB are left, enough for {available // BYTES_A_TRIAL:,}; write fewer values, "
        f"above all for {largest}"
    )


def _count(jobs: float) -> str:
    return f"{jobs:,.0f}" if math.isfinite(jobs) else "endless"


def value_counts(overrides: Iterable[Override]) -> dict[str, float]:
    """Return the number of values of each key of a grid, without building lists of them."""
    # The last override of a key counts.
    return {override.get_key_element(): value_count(override) for override in overrides}


def value_count(override: Override) -> float:
    """Return how many values an override has. Intervals and steps of 0 count as 1; they are refused later."""
    value = override.value()
    if isinstance(value, RangeSweep) and value.step:
        assert value.start is not None
        assert value.stop is not None
        if not math.isfinite((value.stop - value.start) / value.step):
            return math.inf
        start, stop, step = map(Decimal, (value.start, value.stop, value.step))  # decimals, as in Hydra
        return max(0, math.ceil((stop - start) / step))
    if isinstance(value, Glob) and override.config_loader is not None:
        return len(list(override.sweep_iterator()))
    return len(value.list) if isinstance(value, ChoiceSweep) else 1
