"""Format numbers for sentences and tables.

Values of the ranking metric are written in the unit of their :class:`~fnnexp.results.ranking.Ranking`. The
default is accuracy, in percent.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from fnnexp.console import columns, fitted
from fnnexp.data.datasets import IMAGES
from fnnexp.results.ranking import ACCURACY, Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


def value(x: float, ranking: Ranking = ACCURACY) -> str:
    """Return a value of the ranking metric with its unit.

    >>> value(0.95123), value(0.25, Ranking("val_loss")), value(1.5, Ranking("seconds_to_0.9"))
    ('95.12%', '0.2500', '1.5 s')
    """
    if math.isnan(x):
        return "–"
    unit = "%" if ranking.is_accuracy else f" {ranking.unit}".rstrip()
    return f"{plain(x, ranking)}{unit}"


def percent(fraction: float) -> str:
    """Return a fraction as a percentage.

    >>> percent(0.95123), percent(float("nan"))
    ('95.12%', '–')
    """
    return value(fraction)


def mean_and_spread(mean: float, deviation: float, ranking: Ranking = ACCURACY) -> str:
    """Return a mean with its standard deviation, without the unit.

    >>> mean_and_spread(0.95123, 0.0021), mean_and_spread(0.95123, math.nan), mean_and_spread(math.nan, 0.0)
    ('95.12 ± 0.21', '95.12', '–')
    """
    if math.isnan(mean):
        return "–"
    return plain(mean, ranking) + ("" if math.isnan(deviation) else f" ± {plain(deviation, ranking)}")


def points(difference: float, ranking: Ranking = ACCURACY) -> str:
    """Return a difference of the ranking metric, in percentage points for accuracies.

    >>> points(0.0021), points(-0.0021), points(0.25, Ranking("val_loss"))
    ('0.21 points', '−0.21 points', '0.2500')
    """
    return f"{plain(difference, ranking)} {ranking.unit}".rstrip()


def between(low: float, high: float, ranking: Ranking = ACCURACY) -> str:
    """Return an interval without the unit.

    >>> between(-0.001, 0.0201), between(-0.00004, 0.2), between(float("nan"), float("nan"))
    ('−0.10 to 2.01', '0.00 to 20.00', '–')
    """
    return "–" if math.isnan(low) else f"{plain(low, ranking)} to {plain(high, ranking)}"


def plain(x: float, ranking: Ranking = ACCURACY) -> str:
    """Return a value of the ranking metric without the unit, formatted as :func:`number` formats numbers.

    An accuracy is a percentage with two decimals. A loss has four decimals, a time three significant digits.

    >>> plain(0.0021), plain(math.nan)
    ('0.21', '–')
    """
    if math.isnan(x):
        return "–"
    format_spec = "z.2f" if ranking.is_accuracy else "z.3g" if ranking.is_time else "z.4f"
    return f"{ranking.scale * x:{format_spec}}".replace("-", "−")


def number(value: float, format_spec: str) -> str:
    """Return a number in a format. Negative numbers have a minus sign (−), unless they round to 0.

    >>> number(-0.25, ".2f"), number(-0.001, ".2f"), number(math.nan, ".3g")
    ('−0.25', '0.00', '–')
    """
    text = "–" if math.isnan(value) else format(value, format_spec).replace("-", "−")
    return text if re.search("[1-9–]", text) else text.removeprefix("−")


def listed(texts: Sequence[str]) -> str:
    """Return texts as a list in a sentence.

    >>> listed(["max"]), listed(["max", "he"]), listed(["max", "he", "xavier"])
    ('max', 'max and he', 'max, he and xavier')
    """
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last


def class_title(names: Sequence[str], number: int) -> str:
    """Return what sentences call a class: its name, or its number if classes have no names.

    >>> class_title(["ant", "bee"], 1), class_title((), 1)
    ('bee', 'class 1')
    """
    return names[number] if names else f"class {number}"


def cut(text: str, most: int) -> str:
    """Return a text that takes at most so many columns of a terminal, cut at its end.

    >>> cut("ant", 7), cut("bumblebee", 7)
    ('ant', 'bumble…')
    """
    return text if columns(text) <= most else f"{fitted(text, most - 1)}…"


def rows_of(runs: pd.DataFrame) -> str:
    """Return what sentences call the rows of these trials' data: images if they are known to be images.

    >>> import pandas as pd
    >>> rows_of(pd.DataFrame({"data": ["mnist", "digits"]})), rows_of(pd.DataFrame({"data": ["files"]}))
    ('images', 'rows')
    """
    names = runs["data"].dropna() if "data" in runs else ()
    return "images" if len(names) and set(names) <= {*IMAGES} else "rows"


def after_stopping(runs: pd.DataFrame) -> str:
    """Return a sentence for captions of curves, on trials that stopped early; "" if there are none."""
    if "stopped_epoch" not in runs or runs["stopped_epoch"].isna().all():
        return ""
    return " A trial that stopped early keeps its last value to the end of its line."
