"""Draw a map: the accuracy of each cell, the cells that diverged, and the boundary of trainability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from fnnexp.mapping.arrays import Map
from fnnexp.reporting.plots.picture import Picture
from fnnexp.reporting.plots.scales import EDGES, ROUND
from fnnexp.reporting.plots.style import DARKEST, INK, LIGHTEST, SMALLEST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

SIZE = 5.4  # inches of the longer side of the map
DIVERGED_COLOUR, MISSING_COLOUR, LINE = "#e8a15c", "#b9bec5", "#c2185b"
"""The colours of cells that diverged, of cells without results, and of the boundary."""

MOST_TICKS = 8


def plot_map(m: Map) -> Picture:
    """Draw a map: the last accuracy of each cell, and the boundary between cells that learn and the others.

    Parameters
    ----------
    m
        The map, from :func:`fnnexp.read_map`.

    Returns
    -------
    Picture
        A matplotlib Figure; a notebook shows it, and `.savefig("map.png", facecolor="white")` writes it. The
        axes below and at the left have the values, those above and at the right the numbers of the cells, for
        `zoom=` and `cell=`.
    """
    from matplotlib.colors import FuncNorm, LinearSegmentedColormap, ListedColormap
    from matplotlib.patches import Patch

    rows, columns = m[m.metric].shape
    scale = SIZE / max(rows, columns)
    wide, high = max(scale * columns, 2.2), max(scale * rows, 2.2)
    left, right, top, bottom = 0.95, 1.45, 0.75, 0.6
    width, height = wide + left + right, high + top + bottom
    figure = Picture(figsize=(width, height), facecolor="none")
    ax = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    x0, y0 = (int(m.about.get(name, 0)) for name in ("first_x", "first_y"))
    extent = (x0, x0 + columns, y0, y0 + rows)
    shades = LinearSegmentedColormap.from_list("accuracy", [LIGHTEST, DARKEST])
    shown = np.ma.masked_where(m.diverged | m.missing, m[m.metric])
    placed: dict[str, Any] = {
        "origin": "lower",
        "extent": extent,
        "aspect": "auto",
        "interpolation": "nearest",
    }
    least, most = _ends(m)
    norm = FuncNorm((_depth, _accuracy), vmin=least, vmax=most)
    image = ax.imshow(shown, cmap=shades, norm=norm, **placed)
    others: list[tuple[str, Any]] = []
    for colour, mask, label in (
        (DIVERGED_COLOUR, m.diverged, "diverged"),
        (MISSING_COLOUR, m.missing, "failed"),
    ):
        if mask.any():
            flat = np.ma.masked_where(~mask, np.zeros(mask.shape))
            ax.imshow(flat, cmap=ListedColormap([colour]), **placed)
            others.append((label, Patch(facecolor=colour)))
    if (line := _boundary(ax, m.learns, x0, y0)) is not None:
        others.append((f"better than guessing ({100 * m.guessing:.0f}%)", line))
    _axes(ax, m, x0, y0)
    bar_ax = figure.add_axes(((left + wide + 0.62) / width, bottom / height, 0.16 / width, high / height))
    bar = figure.colorbar(
        image, cax=bar_ax, ticks=_bar_ticks(least, most), format=lambda value, _: f"{100 * value:g}"
    )
    bar.set_label(_words(m.metric), color=INK, fontsize=9)
    bar.outline.set_visible(False)
    bar_ax.tick_params(colors=INK, labelsize=SMALLEST)
    if others:
        legend = figure.legend(
            [handle for _, handle in others],
            [label for label, _ in others],
            loc="upper left",
            bbox_to_anchor=(left / width - 0.01, 1),
            ncols=len(others),
            frameon=False,
            fontsize=SMALLEST,
            labelcolor=INK,
            handlelength=1.6,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _words(metric: str) -> str:
    """Return the label for a metric.

    >>> _words("val_accuracy")
    'validation accuracy at the end, %'
    """
    split, _, name = metric.partition("_")
    return f"{'validation' if split == 'val' else split} {name} at the end, %"


def _depth(accuracy: Any) -> Any:
    """Return the logit of an accuracy. The shade of a cell depends on it, as in the heat maps of reports."""
    return logit(np.clip(accuracy, *EDGES))


def _accuracy(depth: Any) -> Any:
    return expit(depth)


def _ends(m: Map) -> tuple[float, float]:
    """Return the accuracies with the lightest and the darkest shade: that of guessing, and the best."""
    known = m[m.metric][~m.diverged & ~m.missing]
    least, most = np.clip([m.guessing, float(known.max(initial=0.0))], *EDGES)
    return float(least), max(float(most), float(_accuracy(_depth(least) + 0.1)))


def _bar_ticks(least: float, most: float) -> list[float]:
    """Return round accuracies for the colour bar, which are apart from each other."""
    low, high = _depth(least), _depth(most)
    ticks: list[float] = []
    for value in ROUND:
        at = (_depth(value) - low) / (high - low)
        if 0 <= at <= 1 and all(abs(_depth(other) - _depth(value)) > 0.05 * (high - low) for other in ticks):
            ticks.append(value)
    return sorted(ticks)


def _boundary(ax: Axes, learns: Any, x0: int, y0: int) -> Any:
    """Draw the boundary, the edges between cells that learn and the others; return the line, or None."""
    from matplotlib.collections import LineCollection

    j, i = np.nonzero(learns[:, 1:] != learns[:, :-1])
    upright = np.stack([np.stack([i + 1, j], -1), np.stack([i + 1, j + 1], -1)], axis=1)
    j, i = np.nonzero(learns[1:] != learns[:-1])
    level = np.stack([np.stack([i, j + 1], -1), np.stack([i + 1, j + 1], -1)], axis=1)
    segments = np.concatenate([upright, level]) + np.array([x0, y0])
    if not len(segments):
        return None
    cells = max(learns.shape)
    line = LineCollection(
        list(segments), colors=LINE, linewidths=max(0.4, min(1.6, 60 / cells)), capstyle="projecting"
    )
    ax.add_collection(line, autolim=False)
    return line


def _axes(ax: Axes, m: Map, x0: int, y0: int) -> None:
    """Give the axes values below and at the left, and numbers of cells above and at the right."""
    ax.spines[:].set_color(INK)
    ax.spines[:].set_linewidth(0.6)
    ax.tick_params(colors=INK, labelsize=SMALLEST)
    for axis, values, first, key in ((ax.xaxis, m.x, x0, m.x_key), (ax.yaxis, m.y, y0, m.y_key)):
        _value_ticks(axis, np.asarray(values, np.float64), first)
        axis.set_label_text(key, color=INK, fontsize=9, parse_math=False)
    for side in ("x", "y"):
        twin = ax.secondary_xaxis("top") if side == "x" else ax.secondary_yaxis("right")
        twin.tick_params(colors=INK, labelsize=SMALLEST, length=2)
        twin.spines[:].set_visible(False)
        axis = twin.xaxis if side == "x" else twin.yaxis
        axis.set_label_text("cell", color=INK, fontsize=SMALLEST)


def _value_ticks(axis: Axis, values: Any, first: int) -> None:
    """Put ticks at round values, each in the middle of the cell that has it or between two cells."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    is_log = len(values) > 1 and values[0] > 0 and _is_even(np.log(values))
    position = np.arange(len(values)) + first + 0.5
    wanted = _round_log(values[0], values[-1]) if is_log else _round_linear(values[0], values[-1])
    scaled = np.log if is_log else (lambda value: value)
    places = {float(np.interp(scaled(value), scaled(values), position)): value for value in wanted}
    axis.set_major_locator(FixedLocator(list(places)))
    texts = {place: f"{value:g}" for place, value in places.items()}
    axis.set_major_formatter(FuncFormatter(lambda place, _: texts.get(place, "")))


def _is_even(values: Any) -> bool:
    steps = np.diff(values)
    return bool(np.allclose(steps, steps[0], rtol=1e-6))


def _round_log(low: float, high: float) -> Sequence[float]:
    """Return round values between two numbers: powers of ten, with their multiples if there are few."""
    for digits in ((1, 2, 3, 5), (1, 3), (1,)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [float(f"{digit}e{power}") for power in powers for digit in digits]
        inside = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(inside) <= MOST_TICKS:
            break
    inside = inside[:: -(-len(inside) // MOST_TICKS)]
    return inside if len(inside) > 1 else _round_linear(low, high)


def _round_linear(low: float, high: float) -> Sequence[float]:
    from matplotlib.ticker import MaxNLocator

    return [float(value) for value in MaxNLocator(6).tick_values(low, high) if low <= value <= high]
