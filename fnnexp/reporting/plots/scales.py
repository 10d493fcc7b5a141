"""Axes for metrics and numeric factors: logit, logarithmic and linear scales."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from fnnexp.reporting.averages import TWO
from fnnexp.results import numeric
from fnnexp.results.factors import as_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from numpy.typing import NDArray

ROUND = (
    0.5, 0.9, 0.1, 0.99, 0.8, 0.95, 0.98, 0.2, 0.3, 0.7, 0.6, 0.4, 0.97, 0.96, 0.995, 0.05, 0.02, 0.01, 0.999,
    0.85, 0.94, 0.93, 0.92, 0.91, 0.985, 0.975,
)  # fmt: skip
"""Candidate ticks of accuracy axes, the most important first."""

POWERS = tuple(digit * 10.0**power for digit in (1, 5, 2, 3, 7) for power in (0, -1, 1, -2, 2, 3, -3, -4, 4))
"""Candidate ticks of loss and time axes, the most important first."""

EDGES = (1e-3, 1 - 5e-4)
"""Accuracies beyond a limit are drawn at that limit, because the logits of 0 and 1 are infinite."""

BEYOND = math.log(3)
"""How far intervals of accuracies may go beyond all means, in units of the logit: to three times the odds."""

LEAST_LOSS = 1e-4


class Scale(NamedTuple):
    """A scale of Matplotlib: its name, its transform, the inverse, and the ticks to try, the best first."""

    name: str
    transform: Callable[..., Any]
    back: Callable[..., Any]
    wanted: Sequence[float]


LOGIT = Scale("logit", logit, expit, ROUND)
LOG = Scale("log", np.log, np.exp, POWERS)
LINEAR = Scale("linear", lambda x: x, lambda x: x, ())


def _log_beside_zero(positive: NDArray[np.float64]) -> Scale:
    """Return a logarithmic scale that includes 0.

    0 is as far below the smallest value as neighbouring values are from each other on average. Between 0 and
    the smallest value, the scale is linear.
    """
    least = float(positive[0])
    step = float(np.diff(np.log(positive)).mean())

    def transform(x: Any) -> Any:
        ratio = np.asarray(x, dtype=np.float64) / least
        return np.where(ratio < 1, step * ratio, step + np.log(np.maximum(ratio, 1)))

    def back(z: Any) -> Any:
        z = np.asarray(z, dtype=np.float64)
        return least * np.where(z < step, z / step, np.exp(np.maximum(z, step) - step))

    return Scale("function", transform, back, ())


ROOM_UP, ROOM_ACROSS = 0.09, 0.15
"""The least distance of two ticks of a y axis and of an axis of seconds, as a share of the axis."""

FEW, LONGEST = 10, 6
"""If a factor has at most `FEW` values, none with more than `LONGEST` characters, these can be the ticks."""

LETTER = 0.024
"""The width of a character of a tick, as a share of the axis of a panel."""


def share_y_axis(axes: Sequence[Axes], points: pd.DataFrame, top: float | None = None) -> list[str]:
    """Give all panels the same y axis, so that they can be compared.

    Accuracies get a logit axis, which is stretched towards 100%, where improvements are hardest. Losses get a
    logarithmic axis, on which a high loss at the start does not flatten the rest. Intervals of accuracies are
    cut where they would flatten the lines: with few seeds, they can reach 0 or 1, whose logits are infinite.

    Parameters
    ----------
    points
        The columns `mean low high`, and `count` if points with two seeds have both as `low` and `high`.
    top
        The upper limit of a loss axis; None for accuracies.

    Returns
    -------
    list of str
        A note for the caption if an interval is cut.
    """
    is_cut = False
    low, high = float(points["low"].min()), float(points["high"].max())
    if top is None:
        of_two = points[points["count"] <= TWO] if "count" in points else points[:0]
        results = pd.concat([points["mean"], of_two["low"], of_two["high"]])
        ends = logit(np.clip([results.min(), results.max()], *EDGES))
        least, most = expit(ends + np.array([-BEYOND, BEYOND]))
        is_cut = low < least or high > most
        scale, (low, high) = LOGIT, np.clip([max(low, least), min(high, most)], *EDGES)
    else:
        scale = LOG
        low, high = max(low, 0.7 * float(points["mean"].min()), LEAST_LOSS), min(top, high)
    ends = scale.transform(np.array([low, max(high, low)]))
    margin = 0.06 * (ends[1] - ends[0]) or 0.05
    ends += (-margin, margin)
    ticks = _ticks(ends, scale)
    for ax in axes:
        ax.set_yscale(scale.name)
        ax.set_ylim(*scale.back(ends))
        _name_ticks(ax.yaxis, ticks, lambda y: _short(100 * y if top is None else y))
    return ["Wide intervals are cut."] if is_cut else []


def _short(value: float) -> str:
    """Return a value as a tick, short enough for the margin of a panel.

    >>> _short(97.5), _short(5.5e7), _short(0.0001)
    ('97.5', '5.5e7', '0.0001')
    """
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.4g}")


def name_short_log_axis(axis: Axis, ends: tuple[float, float]) -> None:
    """Give a logarithmic axis from `ends[0]` to `ends[1]` round ticks, such as 60, if it is short.

    Matplotlib writes 6 × 10¹ on an axis of less than two powers of ten, for which panels have no room.
    """
    if ends[1] < 100 * ends[0]:
        _name_ticks(axis, _ticks(np.log(np.array(ends)), LOG), _short)


def share_time_axis(axes: Sequence[Axes], seconds: pd.Series) -> None:
    """Give all panels the same logarithmic x axis of seconds."""
    span = (float(seconds.min()) / 1.6, float(seconds.max()) * 1.6)
    ticks = _ticks(np.log(np.array(span)), LOG, ROOM_ACROSS)
    for ax in axes:
        ax.set(xscale="log", xlim=span)
        _name_ticks(ax.xaxis, ticks, lambda x: f"{x:g}")


def share_value_axis(axes: Sequence[Axes], values: Sequence[float], which: Literal["x", "y"] = "x") -> None:
    """Give all panels the same axis for a factor, logarithmic if its values are spaced by ratios.

    A logarithmic axis can include 0 (:func:`_log_beside_zero`). The ticks are the values themselves if these
    are few and short, else round numbers.
    """
    from matplotlib.ticker import MaxNLocator

    x, log = np.unique(np.asarray(values, dtype=np.float64)), numeric.is_log(values)
    zero = numeric.is_log_beside_zero(values)
    scale = _log_beside_zero(x[1:]) if zero else LOG if log else LINEAR
    functions = {"functions": (scale.transform, scale.back)} if zero else {}
    ends = scale.transform(x[[0, -1]])
    ends = ends + np.array([-1, 1]) * (0.04 * (ends[1] - ends[0]) or 0.05)
    first, last = float(x[0]), float(x[-1])
    many = [tick for tick in MaxNLocator(6).tick_values(first, last) if first <= tick <= last]
    if log or zero:
        many = [*[0.0] * zero, *_powers_between(float(x[x > 0][0]), last)]
    names = [len(as_text(value)) for value in x]
    shown = x if len(x) <= FEW and max(names) <= LONGEST else many
    room = ROOM_UP if which == "y" else max(ROOM_UP, LETTER * min(LONGEST, max(names)))
    ticks = _apart(shown, ends, scale, room) or _apart(x, ends, scale, room)
    for ax in axes:
        (ax.set_xscale if which == "x" else ax.set_yscale)(scale.name, **functions)
        ax.set(**{f"{which}lim": scale.back(ends)})
        _name_ticks(ax.xaxis if which == "x" else ax.yaxis, ticks, as_text)


def _powers_between(low: float, high: float) -> list[float]:
    """Return round values (1, 3, 2 and 5 times powers of ten) around `low` to `high`, for ticks.

    The most important come first.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{digit}e{power}") for digit in (1, 3, 2, 5) for power in powers]


def _ticks(ends: NDArray[np.float64], scale: Scale, room: float = ROOM_UP) -> list[float]:
    """Return round values as ticks of an axis, not too close to each other.

    `ends` are the transformed limits of the axis, and `room` the least distance of ticks as a share of it.
    """
    from matplotlib.ticker import MaxNLocator

    return _apart((*scale.wanted, *MaxNLocator(4).tick_values(*scale.back(ends))), ends, scale, room)


def _apart(
    values: Iterable[float], ends: NDArray[np.float64], scale: Scale, room: float = ROOM_UP
) -> list[float]:
    """Return the values that are within the axis, without any that is too close to an earlier value.

    `ends` and `room` are as for :func:`_ticks`.
    """
    ticks: list[float] = []
    low, high = scale.back(ends)
    room *= ends[1] - ends[0]

    def distance(a: float, b: float) -> float:
        return float(abs(scale.transform(a) - scale.transform(b)))

    for value in values:
        if low <= value <= high and all(distance(value, other) >= room for other in ticks):
            ticks.append(float(value))
    return sorted(ticks)


def _name_ticks(axis: Axis, ticks: Sequence[float], name: Callable[[float], str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: name(value)))
