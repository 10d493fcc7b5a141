"""Heat maps of accuracies by architecture, initializer and batching mode, or by any two factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import logit

from fnnexp.reporting import averages
from fnnexp.reporting.plots.layout import bare, in_rows, set_title
from fnnexp.reporting.plots.picture import Picture, mark
from fnnexp.reporting.plots.scales import EDGES
from fnnexp.reporting.plots.style import BEST, INK, shade

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

WIDEST = 11.2  # inches; a page in a window of 1,300 pixels shows this without scrolling
CELL = (0.72, 0.36)  # the width and height of a cell, in inches
LETTER = 0.075  # the width of a letter in the label of an axis, in inches
TILT = 30  # degrees, of the names of columns that are too long for a cell
SLOPE = math.cos(math.radians(TILT))  # the share of a tilted name's length that it takes in width

SHADES = (
    "The more a cell stands out from the page (dark on white, light on black), the better; the shades follow"
    " the logit."
)
"""What captions say about the shades."""


class Cells(NamedTuple):
    """A panel of a heat map: its title and its means by row and column (NaN if missing).

    The cell at `best` (row, column) gets a frame. `options` are the options that all cells share, by factor.
    """

    title: str
    means: Sequence[Sequence[float]]
    best: tuple[int, int] | None = None
    options: Mapping[str, str] = MappingProxyType({})


class Names(NamedTuple):
    """What the columns of all panels stand for, or their rows: a factor and the names of its options."""

    factor: str
    options: Sequence[str]


def heat_map(
    runs: pd.DataFrame, metric: str, *, scale: tuple[float, float] | None = None, widest: float = WIDEST
) -> Picture | None:
    """Return a heat map of the mean over seeds by arch and init, one panel per batching mode.

    `runs` differ in no other factors than arch, init and batching. A row of panels is at most `widest` inches
    wide. `scale` is as for :func:`cell_panels`. Return None if no trial finished.
    """
    means = averages.of_ends(runs, metric)
    if means.empty:
        return None
    archs, inits, batchings = (list(means[axis].cat.categories) for axis in ("arch", "init", "batching"))
    values = means.set_index(["batching", "arch", "init"])["mean"].to_dict()
    panels = [
        Cells(
            str(b),
            [[values.get((b, a, n), math.nan) for n in inits] for a in archs],
            options={"batching": str(b)},
        )
        for b in batchings
    ]
    columns, rows = Names("init", inits), Names("arch", archs)
    return cell_panels(panels, columns, rows, metric, scale=scale, widest=widest)


def cell_panels(
    panels: Sequence[Cells],
    columns: Names,
    rows: Names,
    metric: str,
    *,
    x_label: str = "",
    y_label: str = "",
    scale: tuple[float, float] | None = None,
    widest: float = WIDEST,
) -> Picture:
    """Return a figure of heat maps of accuracies, with the same shades in all panels.

    The shade is linear in the logit of the accuracy, so differences near 100% can be seen.

    Parameters
    ----------
    columns, rows
        The columns and the rows (from the top) of every panel.
    metric
        The accuracy that is shown.
    x_label, y_label
        The labels of the columns and rows.
    scale
        The accuracies with the lightest and the darkest shade, if other figures share them; by default the
        least and the largest of the panels.
    widest
        The maximum width of a row of panels, in inches.
    """
    known = [v for panel in panels for row in panel.means for v in row if not math.isnan(v)]
    least, most = scale or (min(known), max(known))
    x_names, y_names = columns.options, rows.options
    label = 0.09 * max(map(len, y_names)) + 0.25 + 0.25 * bool(y_label)
    tilt = max(map(len, x_names)) > 9
    top = (0.42 + LETTER * max(map(len, x_names)) / 2 if tilt else 0.5) + 0.2 * bool(x_label)
    size = (CELL[0] * len(x_names), CELL[1] * len(y_names))
    ends = [(j + 0.5) * CELL[0] + tilt * (SLOPE * LETTER * len(name) + 0.1) for j, name in enumerate(x_names)]
    step = (max(size[0] + 0.3, *ends), size[1] + top + 0.1)
    across = max(1, min(len(panels), int((widest - label) / step[0])))
    width, height = label + across * step[0], -(-len(panels) // across) * step[1]
    figure = Picture(figsize=(width, height), facecolor="none")
    for (row, column), panel in zip(in_rows(len(panels), across), panels, strict=True):
        x, y = label + column * step[0], height - (row + 1) * step[1] + 0.1
        ax = figure.add_axes((x / width, y / height, size[0] / width, size[1] / height))
        _draw_cells(ax, panel, columns, rows, metric, least, most)
        set_title(ax, panel.title)
        ax.xaxis.tick_top()
        ax.xaxis.set_label_position("top")
        turned: dict[str, Any] = {"rotation": TILT, "ha": "left"} if tilt else {}
        ax.set_xticks([j + 0.5 for j in range(len(x_names))], x_names, parse_math=False, **turned)
        shown = y_names if column == 0 else [""] * len(y_names)
        ax.set_yticks([j + 0.5 for j in range(len(y_names))], shown, parse_math=False)
        ax.set_xlabel(x_label, color=INK, fontsize=9)
        is_long = LETTER * len(y_label) > size[1]  # a long label begins at the bottom and goes beyond the top
        where: dict[str, Any] = {"loc": "bottom" if is_long else "center"}
        ax.set_ylabel(y_label if column == 0 else "", color=INK, fontsize=9, **where)
    return figure


def _draw_cells(
    ax: Axes, panel: Cells, columns: Names, rows: Names, metric: str, least: float, most: float
) -> None:
    from matplotlib.patches import Rectangle

    for y, row in enumerate(panel.means):
        for x, value in enumerate(row):
            middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5}
            if math.isnan(value):
                ax.text(x + 0.5, y + 0.5, "–", color=INK, **middle)
                continue
            colour, ink = shade(depth(value, least, most))
            cell = ax.add_patch(Rectangle((x + 0.02, y + 0.03), 0.96, 0.94, facecolor=colour, linewidth=0))
            text = ax.text(x + 0.5, y + 0.5, f"{100 * value:.1f}", color=ink, **middle)
            named = {columns.factor: columns.options[x], rows.factor: rows.options[y]}
            mark(ax, [cell, text], {**panel.options, **named}, metric, [x + 0.5], [y + 0.5],
                 {"mean": [value]}, size=(1, 1))  # fmt: skip
    if panel.best is not None:
        y, x = panel.best
        ax.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=BEST, linewidth=2, clip_on=False))
    ax.set(xlim=(0, len(panel.means[0])), ylim=(len(panel.means), 0))
    bare(ax)


def depth(value: float, least: float, most: float) -> float:
    """Return the shade of an accuracy, from 0 for `least` to 1 for `most`, linear in the logit.

    >>> depth(0.9, 0.8, 0.9), depth(0.8, 0.8, 0.9), depth(0.8, 0.8, 0.8)
    (1.0, 0.0, 0.0)
    """
    z, low, high = logit(np.clip([value, least, most], *EDGES))
    return float((z - low) / (high - low)) if high > low else 0.0
