"""The layout of all figures with lines: panels of one size on a grid, with one legend below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fnnexp.reporting import averages
from fnnexp.reporting.plots.picture import Picture, mark
from fnnexp.reporting.plots.style import INK, SMALLEST, STROKE
from fnnexp.results.factors import AXES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from numpy.typing import NDArray

    from fnnexp.reporting.plots.style import Style

PANEL = (3.1, 2.1)  # the width and height of a panel's axes, in inches
GAP = (0.35, 0.62)
HEADER = 0.26  # the height of a row's header, above the titles of its panels, in inches
LEFT, RIGHT, TOP, BOTTOM, LEGEND_ROW = 0.75, 0.15, 0.4, 0.45, 0.21
COLUMNS = 3  # panels side by side on a page


class Panels(NamedTuple):
    """A figure and the axes of its panels."""

    figure: Picture
    axes: list[Axes]


def panels(
    positions: Sequence[tuple[int, int]],
    titles: Sequence[str],
    legend_entries: int,
    *,
    x_label: str = "epoch",
    y_label: str = "",
    headers: Sequence[str] = (),
    size: tuple[float, float] = PANEL,
    gap: float = GAP[0],
) -> Panels:
    """Return a figure with empty panels, ready to draw in, and room for a legend below them.

    Parameters
    ----------
    positions
        The row and the column of each panel, from 0.
    titles
        The title of each panel.
    legend_entries
        How many entries the legend will have; :func:`add_legend` adds it.
    x_label, y_label
        The labels of the axes. Only the lowest panel of a column and the first panel of a row show them.
    headers
        A line of text to write above each row of panels; empty for none.
    size, gap
        The width and height of a panel, and the horizontal gap between panels, in inches.
    """
    rows, columns = (max(indices) + 1 for indices in zip(*positions, strict=True))
    width, height = size
    header = HEADER if headers else 0.0
    step = (width + gap, height + GAP[1] + header)
    wide = LEFT + RIGHT + columns * step[0] - gap
    legend = LEGEND_ROW * -(-legend_entries // _legend_columns(wide)) + 0.15
    high = TOP + BOTTOM + legend + header + rows * step[1] - GAP[1] - header
    figure = Picture(figsize=(wide, high), facecolor="none")
    lowest = {column: max(r for r, c in positions if c == column) for _, column in positions}
    axes = []
    for (row, column), title in zip(positions, titles, strict=True):
        x, y = LEFT + column * step[0], high - TOP - header - height - row * step[1]
        ax = figure.add_axes((x / wide, y / high, width / wide, height / high))
        first = column == min(c for r, c in positions if r == row)
        _plain(ax, ticks=first)
        set_title(ax, title)
        if row == lowest[column]:
            ax.set_xlabel(x_label, color=INK, fontsize=9)
        if first and y_label:
            ax.set_ylabel(y_label, color=INK, fontsize=9)
        axes.append(ax)
    for row, text in enumerate(headers):
        y = high - TOP - row * step[1]
        bold: dict[str, Any] = {"color": INK, "fontsize": 10, "weight": "bold", "va": "bottom"}
        figure.text(LEFT / wide, y / high, text, **bold, parse_math=False)
        rule = [(y + HEADER - 0.02) / high] * 2
        figure.add_artist(Line2D([0, 1], rule, color=INK, alpha=0.3, linewidth=0.8))
    return Panels(figure, axes)


def in_rows(panels: int, columns: int) -> list[tuple[int, int]]:
    """Return the (row, column) of each of a number of panels that fill one row after the other.

    >>> in_rows(3, 2)
    [(0, 0), (0, 1), (1, 0)]
    """
    return [divmod(i, columns) for i in range(panels)]


def columns_for(panels: int) -> int:
    """Return how many panels are side by side: all, but at most :data:`COLUMNS`, and of four panels two."""
    return 2 if panels == 4 else min(COLUMNS, panels)


def set_title(ax: Axes, title: str) -> Text:
    """Set the title of a panel, aligned to the left, and return it."""
    return ax.set_title(title, color=INK, fontsize=9, loc="left", parse_math=False)


def _plain(ax: Axes, *, ticks: bool) -> None:
    ax.patch.set_alpha(0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.tick_params(which="both", colors=INK, labelsize=SMALLEST, labelleft=ticks)
    ax.grid(color=INK, alpha=0.12, linewidth=0.6)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def bare(ax: Axes) -> None:
    """Remove the frame, the ticks and the background of axes, but keep the labels."""
    ax.patch.set_alpha(0)
    ax.spines[:].set_visible(False)
    ax.tick_params(colors=INK, labelsize=SMALLEST, length=0)


def draw_band(
    ax: Axes,
    x: NDArray[np.float64],
    line: pd.DataFrame,
    style: Style,
    i: int,
    *,
    quantity: str,
    at: Mapping[str, str],
    bars: bool = False,
    within: tuple[float, float] | None = None,
) -> list[Artist]:
    """Draw the i-th line of a panel: the column `mean`, in a band from the column `low` to `high`.

    If the column `count` says that no point has more than two seeds, thin lines are drawn instead of the band
    (:func:`averages.with_both_seeds`).

    Parameters
    ----------
    quantity, at
        What the page shows under the mouse pointer beside the mean: the name of the drawn quantity, and for
        each point the numbers in some columns of `line`, given as {name to show: column}.
    bars
        Whether to draw a marker and a bar for each point instead of a band. A single point always has a bar.
    within
        Limits to clip values to, because some renderers lose lines that go far beyond the axis.

    A line has a gap where its mean is missing.

    Returns
    -------
    list
        The artists that were drawn, which the page highlights together. The caller can append others.
    """
    known = line["mean"].notna().to_numpy()
    y, low, high = (line[column].to_numpy(float) for column in ("mean", "low", "high"))
    values = {name: line.loc[known, column].tolist() for name, column in at.items()}
    values["mean"] = y[known].tolist()
    if ((low != y) | (high != y))[known].any():
        values |= {"low": low[known].tolist(), "high": high[known].tolist()}
    if within is not None:
        y, low, high = (np.clip(values, *within) for values in (y, low, high))
    step = 1 if bars else max(1, len(x) // 8)
    artists: list[Artist] = [*ax.plot(x, y, **STROKE | style._asdict(), markevery=(i % step, step))]
    if bars or len(x) == 1:
        artists.append(ax.vlines(x, low, high, color=style.color, linewidth=1))
    elif "count" in line and (line["count"] <= averages.TWO).all():
        seeds: dict[str, Any] = {"color": style.color, "linewidth": 0.8, "alpha": 0.7, "markersize": 3}
        for each in (low, high) if (high > low).any() else ():
            artists += ax.plot(x, each, marker="." if len(x) <= FEW else "", **seeds)
    elif (high > low).any():
        artists.append(ax.fill_between(x, low, high, color=style.color, alpha=0.15, linewidth=0))
    mark(ax, artists, options_of(line), quantity, x[known].tolist(), y[known].tolist(), values)
    return artists


FEW = 12
"""A line with at most so many points has a mark at each result of two seeds."""


def options_of(rows: pd.DataFrame) -> dict[str, str]:
    """Return the option of arch, init and batching that all rows share, by factor.

    A factor that is no column is left out.
    """
    return {axis: str(rows[axis].iloc[0]) for axis in AXES if axis in rows}


def legend_lines(styles: dict[str, Style]) -> dict[str, Line2D]:
    """Return the legend entry of each initializer."""
    return {name: Line2D([], [], **STROKE | style._asdict()) for name, style in styles.items()}


def add_legend(figure: Picture, entries: dict[str, Any], columns: int | None = None) -> None:
    """Add a legend at the bottom of a figure, one for all its panels.

    `entries` has what to show of each entry, such as a line, by its text; several artists of an entry are
    shown side by side. `columns` is the largest number of columns; None for as many as fit.
    """
    columns = columns or _legend_columns(figure.get_figwidth())
    columns = -(-len(entries) // -(-len(entries) // columns))  # fewer columns, if they need no more rows
    style: dict[str, Any] = {
        "frameon": False,
        "fontsize": SMALLEST,
        "labelcolor": INK,
        "handlelength": 3.2,
        "borderaxespad": 0.1,
        "handler_map": {tuple: HandlerTuple(ndivide=None, pad=0.3)},
    }
    legend = figure.legend(list(entries.values()), list(entries), loc="lower center", ncols=columns, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _legend_columns(wide: float) -> int:
    """Return how many entries of a legend fit side by side: two for each panel of the usual width."""
    return 2 * max(round((wide - LEFT - RIGHT + GAP[0]) / (PANEL[0] + GAP[0])), 1)
