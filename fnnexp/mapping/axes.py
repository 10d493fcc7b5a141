"""An axis of a map: a numeric key and its values, spaced by ratios or by differences."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cache

from fnnexp.config.schema import NODES, UNSCIENTIFIC, Config
from fnnexp.errors import ConfigError, did_you_mean

LOG, LINEAR = "log", "linear"

WIDE = 100
"""An axis whose ends differ by this factor or more is logarithmic, unless the command says otherwise."""

EXAMPLE = "optimizer.lr:1e-3..10:64"

MOST_VALUES = 1 << 16
"""Maximum number of values of an axis."""

PATTERN = re.compile(r"([^:]*):(.*?)\.\.([^:]*):([^:]*)(?::([^:]*))?")


@dataclass(frozen=True)
class Axis:
    """A numeric key and n values from ``low`` up to, but without, ``high``.

    Value i is low · (high/low)^(i/n) on a logarithmic axis, and low + (high − low) · i/n on a linear one. So
    an axis with n · K values has the value i of this axis at i · K, to the last bit.

    Attributes
    ----------
    key
        A key of a config, such as ``optimizer.lr``.
    low, high
        The first value, and the end of the axis.
    n
        The number of values of the whole axis.
    scale
        ``log`` or ``linear``.
    first, stop
        The part of the axis that a map shows: the values with the indices first … stop − 1.
    """

    key: str
    low: float
    high: float
    n: int
    scale: str
    first: int
    stop: int

    @property
    def indices(self) -> range:
        """The indices of the values that the map shows."""
        return range(self.first, self.stop)

    @property
    def values(self) -> list[float]:
        """The values that the map shows.

        >>> axis("x", "init.gain:1..100:4").values
        [1.0, 3.1622776601683795, 10.0, 31.622776601683793]
        """
        return [self.value(i) for i in self.indices]

    def value(self, i: int) -> float:
        """Return value i of the whole axis; a whole number for a key that has whole numbers."""
        share = Fraction(i, self.n)  # in lowest terms, so that finer axes compute the same value
        top, bottom = share.numerator, share.denominator
        if self.scale == LOG:
            value = self.low * (self.high / self.low) ** (top / bottom)
        else:
            value = self.low + (self.high - self.low) * top / bottom
        return int(value) if numeric_keys()[self.key] == "int" and value.is_integer() else value

    def finer(self, factor: int) -> Axis:
        """Return the axis with ``factor`` times as many values, among which are those of this axis.

        Raises
        ------
        ConfigError
            If the key has whole numbers and would get fractions, or the axis would have too many values.
        """
        finer = replace(self, n=self.n * factor, first=self.first * factor, stop=self.stop * factor)
        if (fraction := finer.fraction()) is not None:
            raise ConfigError(
                f"finer={factor}: {self.key} has whole numbers, but would get {fraction:g}; omit finer, and "
                "write more values for the other axis"
            )
        if finer.n > MOST_VALUES:
            raise ConfigError(
                f"finer={factor}: {self.key} would have {finer.n:,} values, but an axis has at most "
                f"{MOST_VALUES:,}; write finer={MOST_VALUES // self.n}"
            )
        return finer

    def fraction(self) -> float | None:
        """Return a value of the axis that is no whole number although its key needs one; None if all are."""
        if numeric_keys()[self.key] != "int":
            return None
        return next((value for value in map(self.value, self.indices) if not isinstance(value, int)), None)

    @property
    def is_whole(self) -> bool:
        """Whether the map shows the whole axis."""
        return (self.first, self.stop) == (0, self.n)

    def __str__(self) -> str:
        """Return the axis as it is written in a command.

        >>> str(axis("x", "optimizer.lr:0.001..10:64")), str(axis("y", "seed:0..8:8"))
        ('optimizer.lr:0.001..10:64', 'seed:0..8:8')
        """
        text = f"{self.key}:{_text(self.low)}..{_text(self.high)}:{self.n}"
        return text if self.scale == _usual(self.low, self.high) else f"{text}:{self.scale}"


def axis(name: str, text: str) -> Axis:
    """Return the axis that a word of a command describes.

    Parameters
    ----------
    name
        ``x`` or ``y``.
    text
        ``KEY:LOW..HIGH:N``, which ``:log`` or ``:linear`` may follow.

    Raises
    ------
    ConfigError
        If the text describes no axis, with what to write.
    """
    word, match = f"{name}={text}", PATTERN.fullmatch(text)
    if match is None:
        raise ConfigError(f"{word}: must be KEY:LOW..HIGH:N; write {name}={EXAMPLE}")
    key, low_text, high_text, count, scale = match.groups()
    if key not in numeric_keys():
        raise ConfigError(_no_number(word, key))
    low, high = (_number(word, end) for end in (low_text, high_text))
    if not re.fullmatch(r"\d{1,9}", count, re.ASCII) or int(count) < 2:
        raise ConfigError(
            f"{word}: an axis needs at least two values, and this one has {count or 'none'}; write "
            f"{name}={key}:{low_text}..{high_text}:64, or give {key} one value with {key}={low_text}"
        )
    if int(count) > MOST_VALUES:
        raise ConfigError(f"{word}: an axis has at most {MOST_VALUES:,} values; write {name}={EXAMPLE}")
    if not low < high:
        raise ConfigError(
            f"{word}: the axis must rise, so {low_text} must be below {high_text}; write "
            f"{name}={key}:{_text(min(low, high))}..{_text(max(low, high) + (low == high))}:{count}"
        )
    if scale not in (None, LOG, LINEAR):
        raise ConfigError(
            f"{word}: the spacing must be {LOG} or {LINEAR}; write "
            f"{name}={key}:{low_text}..{high_text}:{count}:{LOG}"
        )
    if scale == LOG and low <= 0:
        raise ConfigError(
            f"{word}: a logarithmic axis begins above 0; write "
            f"{name}={key}:{low_text}..{high_text}:{count}:{LINEAR}, or begin at 1e-3"
        )
    n = int(count)
    chosen = Axis(key, low, high, n, scale or _usual(low, high), 0, n)
    if (fraction := chosen.fraction()) is not None:
        raise ConfigError(
            f"{word}: {key} has whole numbers, but the axis would have {fraction:g}; write "
            f"{name}={key}:{math.floor(low)}..{math.floor(low) + n}:{n}:{LINEAR}"
        )
    if not math.isfinite(high - low) or chosen.value(1) == low:
        raise ConfigError(
            f"{word}: the ends are too close together or too far apart for {n} values; write {name}={EXAMPLE}"
        )
    return chosen


def window(word: str, axes: tuple[Axis, Axis], ranges: tuple[range, range]) -> tuple[Axis, Axis]:
    """Return two axes limited to these ranges of indices; raise if an axis has no such values.

    `word` is the word of the command that gives the ranges, for the error message.
    """
    parts = []
    for each, chosen, name in zip(axes, ranges, "xy", strict=True):
        if not 0 <= chosen.start < chosen.stop <= each.n:
            raise ConfigError(
                f"{word}: the cells of {name} are 0 to {each.n - 1}; write a part of them, or "
                f"zoom=0..{axes[0].n},0..{axes[1].n} for all"
            )
        parts.append(replace(each, first=chosen.start, stop=chosen.stop))
    return parts[0], parts[1]


@cache
def numeric_keys() -> dict[str, str]:
    """Return the keys of a config whose values are numbers, each with ``int`` or ``float``."""
    nodes = [("", Config), *((f"{name}.", node) for name, node in NODES.items())]
    kinds = {
        prefix + attribute.name: str(attribute.type).removesuffix(" | None")
        for prefix, node in nodes
        for attribute in fields(node)
        if (prefix + attribute.name).split(".")[0] not in UNSCIENTIFIC
    }
    numbers = {key: kind for key, kind in kinds.items() if kind in ("int", "float")}
    # The type of dropout also allows a list, with a number for each layer.
    return numbers | {"regularization.dropout": "float"}


def _no_number(word: str, key: str) -> str:
    """Return the error message for a key that can't be an axis, since its values are not numbers."""
    name = word.partition("=")[0]
    hint = did_you_mean(key, numeric_keys())
    return (
        f"{word}: {key or 'nothing'} is not a numeric key of a trial;{hint or ''} an axis is a key such as "
        f"optimizer.lr, init.gain, regularization.l2 or batching.size; write {name}={EXAMPLE}"
    )


def _number(word: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        name = word.partition("=")[0]
        raise ConfigError(f"{word}: {text or 'nothing'} is not a finite number; write {name}={EXAMPLE}")
    return number


def _usual(low: float, high: float) -> str:
    return LOG if low > 0 and high / low >= WIDE else LINEAR


def _text(number: float) -> str:
    """Return a number as it is written in a command.

    >>> _text(10.0), _text(0.001), _text(1e-7)
    ('10', '0.001', '1e-07')
    """
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
