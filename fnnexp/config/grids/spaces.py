"""Draw configurations from the values of a sweep's keys: ``search=random``, ``search=sobol``, ``search=tpe``.

The space has a dimension for each key with several values: a list, a range, a glob or an interval. Which
configurations are drawn depends on the keys and their values alone, not on their order. A search for more
configurations draws the same ones first, so it goes on where a search for fewer ended.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import numpy as np
from hydra.core.override_parser.types import FloatRange, IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.override_parser.types import Sweep as SweptValue

from fnnexp.config.jobs import number_type
from fnnexp.errors import ConfigError
from fnnexp.nn.rng import generator

DIGITS = 4
"""The significant digits of a drawn number, which becomes part of names. In narrow intervals it has more."""

FEWEST = 100
"""The least number of different values in an interval, after rounding."""

DRAWN = 20
"""How many configurations `search=halving` draws if there is an interval and no number is given."""

SEED = 0
"""The seed of every draw of a search."""

LOG = "log"

BATCH = 12
"""The number of configurations that `tpe` asks for at a time, which train in one stack or a few.

It is the usual number of lanes of a stack. It is the same on every machine, because the configurations that
`tpe` chooses depend on it.
"""


@dataclass(frozen=True)
class Choices:
    """A finite number of values, each as likely as the others."""

    values: Sequence[Any]

    @property
    def size(self) -> float:
        """The number of values."""
        return len(self.values)

    @property
    def texts(self) -> list[str]:
        """The values as Hydra writes them. They are all different."""
        return [*map(text_of, self.values)]

    def at(self, u: float) -> Any:
        """Return the value that `u` selects, a random number 0 ≤ u < 1. All values are equally likely."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True)
class WholeNumbers:
    """The whole numbers from `low` to `high`, both included; with `is_log`, uniform in their logarithm."""

    low: int
    high: int
    is_log: bool = False

    @property
    def values(self) -> Sequence[int]:
        """The numbers, ascending."""
        return range(self.low, self.high + 1)

    @property
    def size(self) -> float:
        """The number of values."""
        return self.high + 1 - self.low

    def at(self, u: float) -> int:
        """Return the whole number that `u` selects, a random number 0 ≤ u < 1.

        A whole number n is as likely as the real numbers from n − ½ to n + ½ together.
        """
        if self.is_log:
            exact = _between(math.log(self.low - 0.5), math.log(self.high + 0.5), u)
            return min(max(round(math.exp(exact)), self.low), self.high)
        return min(self.low + int(u * (self.high + 1 - self.low)), self.high)


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`, uniform, or with `is_log` uniform in their logarithm."""

    low: float
    high: float
    is_log: bool = False

    size = math.inf
    values: ClassVar[Sequence[float]] = ()  # endlessly many, so they are never listed

    def at(self, u: float) -> float:
        """Return the number of the interval that `u` selects, a random number 0 ≤ u < 1.

        It is rounded to :data:`DIGITS` significant digits, or to more in a narrow interval.

        >>> Interval(1e-4, 1, is_log=True).at(0.3), Interval(0.98765, 0.98769).at(0.3)
        (0.001585, 0.987662)
        """
        if self.is_log:
            exact = math.exp(_between(math.log(self.low), math.log(self.high), u))
        else:
            exact = _between(self.low, self.high, u)
        return self.rounded(exact)

    def rounded(self, exact: float) -> float:
        """Round a number to the few digits that trials use, and keep it within the interval."""
        return min(max(float(f"{exact:.{self._digits - 1}e}"), self.low), self.high)

    @property
    def _digits(self) -> int:
        """The number of significant digits, with which the interval has :data:`FEWEST` values or more."""
        step = self.high / FEWEST - self.low / FEWEST
        largest = math.floor(math.log10(max(abs(self.low), abs(self.high))))
        return min(max(DIGITS, largest + 1 - math.floor(math.log10(step))), 17)


def _between(low: float, high: float, u: float) -> float:
    return low * (1 - u) + high * u


Space = Choices | WholeNumbers | Interval


def text_of(value: Any) -> str:
    """Return a drawn value as it is written in an override."""
    return Transformer.str(value)


@dataclass(frozen=True)
class Drawn:
    """The configurations that a search has drawn.

    Attributes
    ----------
    dimensions
        The keys that were drawn, and their spaces.
    rows
        The values of each configuration, in the order of `dimensions`.
    trials
        The ids of the trials of each configuration, one for each seed; none if `where` leaves it out.
    where
        The sentences of ``where``, sorted.
    """

    dimensions: Sequence[tuple[str, Space]]
    rows: Sequence[tuple[Any, ...]]
    trials: Sequence[Sequence[str]] = ()
    where: Sequence[str] = ()


class Steps(Sequence[float]):
    """The values of a range of floats, as in ``range(0,1,0.1)``. Each is computed only when it is read."""

    def __init__(self, steps: FloatRange) -> None:
        self._start, self._stop, self._step = (Decimal(x) for x in (steps.start, steps.stop, steps.step))

    @property
    def step(self) -> float:
        """The difference of a value and the one before it."""
        return float(self._step)

    def __len__(self) -> int:
        return max(math.ceil((self._stop - self._start) / self._step), 0)

    def __getitem__(self, i: Any) -> Any:
        return float(self._start + range(len(self))[i] * self._step)


def space_of(override: Override, is_group: bool) -> Space:
    """Return the space from which a search draws the values of a key.

    Parameters
    ----------
    override
        The override, with several values in Hydra's grammar.
    is_group
        Whether the key is a group, whose values are options.

    Raises
    ------
    ConfigError
        If the space is empty or impossible, with what was given, what is allowed and what to write.
    """
    key, value = override.get_key_element(), override.value()
    tags = value.tags if isinstance(value, SweptValue) else set()
    if isinstance(value, IntervalSweep):
        return _interval(override, value, None if is_group else number_type(override.key_or_group))
    if tags:
        raise ConfigError(
            f"{override.input_line}: a tag goes with an interval, as in {key}=tag(log,interval(1e-4,1)); "
            "omit tag(…)"
        )
    if isinstance(value, RangeSweep):
        steps = value.range()
        return Choices(Steps(steps) if isinstance(steps, FloatRange) else steps)
    values = {Transformer.str(element): element for element in override.sweep_iterator()}
    return Choices([*values.values()])


def _interval(override: Override, interval: IntervalSweep, number: type | None) -> Space:
    """Return the space of an interval. `number` is the type of the key's numbers; None if it has none."""
    assert interval.start is not None
    assert interval.end is not None
    key, line, low, high = override.get_key_element(), override.input_line, interval.start, interval.end
    if number is None:
        raise ConfigError(
            f"{line}: an interval draws a number, and {key} is not one number; write its values, as {key}=A,B"
        )
    if unknown := sorted(map(str, interval.tags - {LOG})):
        raise ConfigError(
            f"{line}: the tag {', '.join(unknown)} is unknown; the only tag is log, which draws the "
            f"logarithm uniformly; write {key}=tag(log,interval({low:g},{high:g}))"
        )
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"{line}: the ends of an interval must be finite; write {key}=interval(1,10)")
    if low >= high:
        instead = f"{key}={low:g}" if low == high else f"{key}={_written(interval, high, low)}"
        raise ConfigError(f"{line}: the start of an interval must be below its end; write {instead}")
    is_log = LOG in interval.tags
    if is_log and low <= 0:
        start = 1 if number is int else high / 1e4
        instead = _written(interval, start, high) if high > start else "interval(1,10)"
        raise ConfigError(f"{line}: with log, the interval must start above 0; write {key}={instead}")
    if number is not int:
        return Interval(float(low), float(high), is_log)
    first, last = math.ceil(low), math.floor(high)
    if first > last:
        raise ConfigError(
            f"{line}: {key} must be a whole number, and there is none in the interval; write "
            f"{key}={_written(interval, last, first)}"
        )
    return WholeNumbers(first, last, is_log)


def _written(interval: IntervalSweep, low: float, high: float) -> str:
    """Return an interval in Hydra's grammar."""
    text = f"interval({low:g},{high:g})"
    return f"tag(log,{text})" if LOG in interval.tags else text


def size_of(spaces: Iterable[Space]) -> float:
    """Return the number of configurations in a space with these dimensions."""
    return math.prod(space.size for space in spaces)


def drawn(dimensions: Sequence[tuple[str, Space]], n: int, search: str) -> list[tuple[Any, ...]]:
    """Return `n` different configurations, or all if the space has no more.

    Parameters
    ----------
    dimensions
        The keys and their spaces.
    n
        The number of configurations.
    search
        A key of :data:`DRAWS`.

    Returns
    -------
    list
        For each configuration, its values in the order of `dimensions`. There are fewer than `n` if rounding
        leaves too few different values in narrow intervals.
    """
    keys, spaces = [key for key, _ in dimensions], [space for _, space in dimensions]
    if size_of(spaces) <= n:
        return [*itertools.product(*(space.values for space in spaces))]
    draw, draws = partial(DRAWS[search], keys), n
    while True:
        rows = zip(
            *(map(space.at, column) for space, column in zip(spaces, draw(draws).T.tolist(), strict=True)),
            strict=True,
        )
        different = {repr(row): row for row in rows}
        if len(different) >= n or draws > 64 * (n + 64):
            return [*itertools.islice(different.values(), n)]
        draws *= 2


def uniform(keys: Sequence[str], n: int) -> np.ndarray:
    """Return `n` independent uniform draws for each key, (n, keys).

    The draws of a key stay the same if other keys are added or removed.
    """
    return np.column_stack([_generator(key).random(n) for key in keys])


def _generator(key: str) -> np.random.Generator:
    return generator(SEED, "search", int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]))


def sobol(keys: Sequence[str], n: int) -> np.ndarray:
    """Return the first `n` points of a scrambled Sobol' sequence, (n, keys), by SciPy.

    Its dimensions are the keys in alphabetical order. The points fill the space more evenly than independent
    draws do. See A. B. Owen, "Scrambling Sobol' and Niederreiter–Xing points", 1998.
    """
    from scipy.stats import qmc  # here, because it takes long to import

    engine = qmc.Sobol(len(keys), rng=SEED)
    points = engine.random_base2(math.ceil(math.log2(n)))[:n]  # for other numbers of points SciPy warns
    places = {key: i for i, key in enumerate(sorted(keys))}
    return np.asarray(points[:, [places[key] for key in keys]])


DRAWS = {"random": uniform, "halving": uniform, "sobol": sobol, "tpe": uniform}
"""The function that draws the points of each search. For `tpe` these are only the first batch of points."""
