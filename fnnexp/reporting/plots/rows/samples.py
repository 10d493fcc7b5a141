"""Figures of a data set: how many rows each class has, and some of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fnnexp.reporting.plots.layout import add_legend, set_title
from fnnexp.reporting.plots.picture import Picture
from fnnexp.reporting.plots.rows.classes import titles
from fnnexp.reporting.plots.rows.regions import draw_points, plain
from fnnexp.reporting.plots.style import COLOURS, GREY, INK, SMALLEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

WIDTH, HEIGHT = 9.0, 4.1  # inches
BARS = (0.62, 0.78, 3.6, 2.85)
"""The left edge, the bottom, the width and the height of the area of the bars, in inches."""

TURNED = 0.35
"""How much higher the bars begin above turned names, which end above the legend, in inches."""

ROWS = (4.75, 0.5, 4.05, 3.35)
"""The same numbers for the area beside the bars, which shows rows of the data."""

SHADES = (1.0, 0.6, 0.3)
"""The opacity of the bars of each split. They are grey, since colours stand for classes."""

MOST_TICKS = 20
"""With more classes than this, not each has a tick."""

ABOVE, BELOW, FEW = 16, 12, 3
"""Characters of the name of a class above an image, and below its bar; so many names are not turned."""

CHARACTERS = 13
"""How many characters of the name of an input fit above an inch of its histogram."""

LONG = 40
"""Characters of the name of an input beside an axis."""

MOST_INPUTS = 16
"""The largest number of inputs whose histograms are drawn."""

BINS = 24


def of_images(
    counts: pd.DataFrame, images: NDArray[np.uint8], labels: Sequence[int], names: Sequence[str] = ()
) -> Picture:
    """Return a figure of a data set: a bar for each class and split, and example images beside the bars.

    `counts` has the number of rows, a line for each class and a column for each split. `images` (n, S, S) are
    n examples of S by S pixels.
    """
    figure = _bars(counts, names)
    above = titles(names, len(counts), ABOVE, "class ")
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        ax = _panel(figure, i, 4, 4, gap=(0.08, 0.24))
        ax.imshow(255 - image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_axis_off()
        ax.set_title(above[label], color=INK, fontsize=SMALLEST, pad=1.5, parse_math=False)
    return figure


def of_points(
    counts: pd.DataFrame,
    points: NDArray[Any],
    labels: NDArray[np.uint8],
    names: Sequence[str] = (),
    input_names: Sequence[str] = (),
) -> Picture:
    """Return a figure with bars of `counts` (rows by class and split), and points (n, 2) in the plane."""
    figure = _bars(counts, names)
    ax = _panel(figure, 0, 1, 1)
    draw_points(ax, points, labels)
    plain(ax)
    if input_names:
        across, up = titles(input_names, 2, LONG, "input ", first=1)
        style: dict[str, Any] = {"color": INK, "fontsize": SMALLEST, "parse_math": False}
        ax.set_xlabel(across, **style)
        ax.set_ylabel(up, **style)
    return figure


def of_inputs(
    counts: pd.DataFrame, x: NDArray[Any], names: Sequence[str] = (), input_names: Sequence[str] = ()
) -> Picture:
    """Return a figure of the rows by class and split, and a histogram of each input of the rows (n, D)."""
    figure = _bars(counts, names)
    shown = min(x.shape[1], MOST_INPUTS)
    across = int(np.ceil(np.sqrt(shown)))
    most = int(CHARACTERS * ROWS[2] / across)
    above = titles(input_names[:shown], shown, most, "input ", first=1)
    for i in range(shown):
        ax = _panel(figure, i, across, -(-shown // across), gap=(0.32, 0.42))
        heights, edges = np.histogram(np.asarray(x[:, i], np.float64), BINS)
        ax.stairs(heights, edges, fill=True, color=COLOURS[0])
        plain(ax)
        ax.set_yticks([])
        ax.xaxis.set_major_locator(MaxNLocator(2))
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
        ax.set_title(above[i], color=INK, fontsize=SMALLEST, pad=1.5, parse_math=False)
    return figure


def _bars(counts: pd.DataFrame, names: Sequence[str]) -> Picture:
    """Return a figure with a stacked bar for each class: its rows in each split (a column of `counts`).

    The right side of the figure stays empty, for rows of the data.
    """
    figure = Picture(figsize=(WIDTH, HEIGHT), facecolor="none")
    left, bottom, width, height = BARS
    raised = TURNED if names and len(counts) > FEW else 0.0
    ax = _axes(figure, (left, bottom + raised, width, height - raised))
    numbers, below = np.arange(len(counts)), np.zeros(len(counts))
    handles = {}
    for i, (split, column) in enumerate(counts.items()):
        grey: dict[str, Any] = {"color": GREY, "alpha": SHADES[i], "linewidth": 0}
        ax.bar(numbers, column, 0.8, bottom=below, **grey)
        below += column.to_numpy()
        handles[str(split)] = Patch(**grey)
    plain(ax)
    ax.spines[["top", "right"]].set_visible(False)
    shown = numbers[:: -(-len(counts) // MOST_TICKS)]
    ax.set_xticks(shown)
    if names:
        below_bars = titles(names, len(counts), BELOW)
        turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        style: dict[str, Any] = {"fontsize": SMALLEST, "parse_math": False}
        style |= turned if len(counts) > FEW else {}
        ax.set_xticklabels([below_bars[number] for number in shown], **style)
    else:
        ax.set_xlabel("class", color=INK, fontsize=SMALLEST)
    set_title(ax, "rows")
    add_legend(figure, handles, 3)
    return figure


def _panel(figure: Picture, i: int, across: int, rows: int, gap: tuple[float, float] = (0.0, 0.0)) -> Axes:
    """Return axes for the i-th panel of a grid of `across` × `rows` panels beside the bars."""
    left, bottom, width, height = ROWS
    row, column = divmod(i, across)
    step = ((width + gap[0]) / across, (height + gap[1]) / rows)
    place = (left + column * step[0], bottom + height - (row + 1) * step[1] + gap[1])
    return _axes(figure, (*place, step[0] - gap[0], step[1] - gap[1]))


def _axes(figure: Picture, inches: tuple[float, float, float, float]) -> Axes:
    left, bottom, width, height = inches
    return figure.add_axes((left / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT))
