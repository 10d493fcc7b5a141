"""How numbers are written in sentences and tables."""

from __future__ import annotations

import math
import re


def percent(fraction: float) -> str:
    """Return a fraction as percent.

    >>> percent(0.95123), percent(float("nan"))
    ('95.12%', '–')
    """
    return "–" if math.isnan(fraction) else f"{100 * fraction:.2f}%"


def mean_and_spread(mean: float, deviation: float) -> str:
    """Return a mean with its standard deviation, both fractions, in percent.

    >>> mean_and_spread(0.95123, 0.0021), mean_and_spread(0.95123, math.nan), mean_and_spread(math.nan, 0.0)
    ('95.12 ± 0.21', '95.12', '–')
    """
    if math.isnan(mean):
        return "–"
    return f"{100 * mean:.2f}" + ("" if math.isnan(deviation) else f" ± {100 * deviation:.2f}")


def points(fraction: float) -> str:
    """Return a difference of fractions in percentage points.

    >>> points(0.0021), points(-0.0021)
    ('0.21 points', '−0.21 points')
    """
    return f"{_hundredfold(fraction)} points"


def between(low: float, high: float) -> str:
    """Return an interval of fractions in percent or in percentage points.

    >>> between(-0.001, 0.0201), between(-0.00004, 0.2), between(float("nan"), float("nan"))
    ('−0.10 to 2.01', '0.00 to 20.00', '–')
    """
    return "–" if math.isnan(low) else f"{_hundredfold(low)} to {_hundredfold(high)}"


def _hundredfold(fraction: float) -> str:
    """Return a hundred times the number with a true minus, and no minus before a 0."""
    return f"{100 * fraction:z.2f}".replace("-", "−")


def number(value: float, form: str) -> str:
    """Return a number in this format with a true minus, and no minus before a 0.

    >>> number(-0.25, ".2f"), number(-0.001, ".2f"), number(math.nan, ".3g")
    ('−0.25', '0.00', '–')
    """
    text = "–" if math.isnan(value) else format(value, form).replace("-", "−")
    return text if re.search("[1-9–]", text) else text.removeprefix("−")


def plural(n: int, noun: str) -> str:
    """Return a number of things.

    >>> plural(1, "pair"), plural(2, "pair")
    ('1 pair', '2 pairs')
    """
    return f"{n} {noun}" + ("" if n == 1 else "s")
