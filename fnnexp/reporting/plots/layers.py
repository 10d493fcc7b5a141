"""Figures of the diagnostics: spreads by layer at the start, and what becomes of the layers by epoch."""

from __future__ import annotations

import textwrap
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from fnnexp.reporting.plots import layout
from fnnexp.reporting.plots.layout import add_legend, draw_band, in_rows, legend_lines
from fnnexp.reporting.plots.style import INK, styles_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from fnnexp.reporting.plots.picture import Picture

HEIGHT = 1.7  # inches: these panels are lower, for there are many
TITLE = 46  # characters that fit above a panel
WIDE = 0.6  # inches between panels that each have an axis of their own
ASIDE = 0.3  # layers that markers of one layer are spread over, so that they do not hide each other

MOST_PANELS = 36
"""At most so many panels by epoch; the rest is in diagnostics.csv."""


class Quantity(NamedTuple):
    """What is drawn of the start: its name in the data, in words, and whether its axis is logarithmic."""

    name: str
    title: str
    log: bool


START = (
    Quantity("z_std", "pre-activations", True),
    Quantity("dz_std", "gradients", True),
    Quantity("idle", "dead or saturated %", False),
)


def at_start(points: pd.DataFrame) -> Picture | None:
    """Return the spreads of the untrained networks by layer, a row an architecture.

    Parameters
    ----------
    points
        Rows of `arch init quantity layer mean low high`, arch and init being categories; of `quantity` those
        of :data:`START` are drawn, a column each.
    """
    points = points[points["quantity"].isin(quantity.name for quantity in START)]
    columns = [quantity for quantity in START if (points["quantity"] == quantity.name).any()]
    if points.empty:
        return None
    panels = {
        f"{arch} · {quantity.title}": part[part["quantity"] == quantity.name]
        for arch, part in points.rename(columns={"layer": "x"}).groupby("arch", observed=True)
        for quantity in columns
    }
    figure, axes = _drawn(panels, len(columns), x_label="layer", gap=WIDE, aside=ASIDE)
    lines = list(panels.values())
    for column, quantity in enumerate(columns):
        below = slice(column, None, len(columns))
        _share_y_axis(axes[below], pd.concat(lines[below]), quantity.log)
    for i, ax in enumerate(axes):
        last = int(lines[i - i % len(columns)]["x"].max())
        ax.set_xlim(0.5, last + 0.5)
        ax.set_xticks(range(1, last + 1, -(-last // 12)))
        ax.tick_params(labelleft=True)
    return figure


def by_epoch(points: pd.DataFrame, title: str, *, log: bool) -> Picture | None:
    """Return one quantity by epoch, a panel an architecture × layer × batching.

    Parameters
    ----------
    points
        Rows of `arch layer batching init epoch mean low high`, arch, batching and init being categories.
    title
        What the axis is called.
    log
        Whether it is logarithmic.
    """
    if points.empty:
        return None
    groups = points.rename(columns={"epoch": "x"}).groupby(["arch", "layer", "batching"], observed=True)
    panels = {
        f"{arch} · layer {layer} · {batching}": part
        for (arch, layer, batching), part in islice(groups, MOST_PANELS)
    }
    batchings = points["batching"].nunique()
    columns = batchings if 1 < batchings <= layout.COLUMNS else min(layout.COLUMNS, len(panels))
    figure, axes = _drawn(panels, columns, y_label=title)
    _share_y_axis(axes, pd.concat(panels.values()), log)
    return figure


def _drawn(
    panels: Mapping[str, pd.DataFrame], columns: int, *, aside: float = 0.0, **how: Any
) -> layout.Panels:
    """Return panels with their lines and legend.

    Parameters
    ----------
    panels
        Rows of `init x mean low high`, by the panel's title.
    columns, how
        Panels beside each other, and what else :func:`layout.panels` takes.
    aside
        Layers that the points of one layer are spread over.
    """
    drawn = styles_in(pd.concat(panels.values())["init"])
    titles = [textwrap.shorten(title, TITLE, placeholder=" …") for title in panels]
    grid = layout.panels(in_rows(len(panels), columns), titles, len(drawn), height=HEIGHT, **how)
    for ax, lines in zip(grid.axes, panels.values(), strict=True):
        for i, (name, style) in enumerate(drawn.items()):
            line = lines[lines["init"] == name].sort_values("x")
            if len(line):
                x = line["x"].to_numpy(float) + (aside * ((i + 0.5) / len(drawn) - 0.5))
                draw_band(ax, x, line, style, i, bars=bool(aside))
    add_legend(grid.figure, legend_lines(drawn))
    return grid


def _share_y_axis(axes: Sequence[Axes], lines: pd.DataFrame, log: bool) -> None:
    """Give these panels one y axis: a logarithmic one over what is above 0, or 0 to 100%.

    Where nothing is above 0 a logarithm has nothing to show, so the axis stays linear.
    """
    if not log:
        for ax in axes:
            ax.set_ylim(-4, 104)
        return
    positive = lines.loc[lines["mean"] > 0, ["mean", "low", "high"]]
    if positive.empty:
        return
    low = positive["low"].where(positive["low"] > 0, positive["mean"]).min()
    high = positive["high"].max()
    for ax in axes:
        ax.set_ylim(low / 1.5, high * 1.5)  # first: one panel of zeros alone has no logarithmic limits
        ax.set_yscale("log")
        ax.tick_params(which="minor", colors=INK, labelleft=False, length=2)
