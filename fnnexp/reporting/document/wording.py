"""How numbers are written in sentences and tables.

A number of what ranks is written in the unit of its :class:`~fnnexp.results.ranking.Ranking`; without one it
is an accuracy.
"""

from __future__ import annotations

import math
import re

from fnnexp.results.ranking import ACCURACY, Ranking


def value(x: float, ranking: Ranking = ACCURACY) -> str:
    """Return a value of what ranks, with its unit.

    >>> value(0.95123), value(0.25, Ranking("val_loss")), value(1.5, Ranking("seconds_to_0.9"))
    ('95.12%', '0.2500', '1.5 s')
    """
    if math.isnan(x):
        return "–"
    unit = "%" if ranking.is_accuracy else f" {ranking.unit}".rstrip()
    return f"{plain(x, ranking)}{unit}"


def percent(fraction: float) -> str:
    """Return a fraction as percent.

    >>> percent(0.95123), percent(float("nan"))
    ('95.12%', '–')
    """
    return value(fraction)


def mean_and_spread(mean: float, deviation: float, ranking: Ranking = ACCURACY) -> str:
    """Return a mean with its standard deviation, without a unit.

    >>> mean_and_spread(0.95123, 0.0021), mean_and_spread(0.95123, math.nan), mean_and_spread(math.nan, 0.0)
    ('95.12 ± 0.21', '95.12', '–')
    """
    if math.isnan(mean):
        return "–"
    return plain(mean, ranking) + ("" if math.isnan(deviation) else f" ± {plain(deviation, ranking)}")


def points(difference: float, ranking: Ranking = ACCURACY) -> str:
    """Return a difference of what ranks, of accuracies in percentage points.

    >>> points(0.0021), points(-0.0021), points(0.25, Ranking("val_loss"))
    ('0.21 points', '−0.21 points', '0.2500')
    """
    return f"{plain(difference, ranking)} {ranking.unit}".rstrip()


def between(low: float, high: float, ranking: Ranking = ACCURACY) -> str:
    """Return an interval without a unit.

    >>> between(-0.001, 0.0201), between(-0.00004, 0.2), between(float("nan"), float("nan"))
    ('−0.10 to 2.01', '0.00 to 20.00', '–')
    """
    return "–" if math.isnan(low) else f"{plain(low, ranking)} to {plain(high, ranking)}"


def plain(x: float, ranking: Ranking = ACCURACY) -> str:
    """Return a number of what ranks without a unit, with a true minus, and no minus before a 0.

    An accuracy has two digits of a percent behind the point, a loss four, a time three in all.

    >>> plain(0.0021), plain(math.nan)
    ('0.21', '–')
    """
    if math.isnan(x):
        return "–"
    form = "z.2f" if ranking.is_accuracy else "z.3g" if ranking.is_time else "z.4f"
    return f"{ranking.scale * x:{form}}".replace("-", "−")


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
