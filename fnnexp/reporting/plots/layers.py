"""Figures of the diagnostics: the state of each layer before training, and after each epoch."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from fnnexp.reporting.plots import layout
from fnnexp.reporting.plots.layout import add_legend, draw_band, in_rows, legend_lines
from fnnexp.reporting.plots.style import INK, styles_in

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from matplotlib.axes import Axes

    from fnnexp.reporting.plots.picture import Picture

HEIGHT = 1.7  # inches of a panel; lower than elsewhere, because there are many
TITLE = 40  # characters that fit above a panel
WIDE = 0.6  # inches between panels that do not share a y axis
ASIDE = 0.3  # the markers of one layer are spread over this width, in layers, so that they do not overlap

MOST_PANELS = 36
"""The largest number of panels by epoch; diagnostics.csv has the numbers of all."""


class Quantity(NamedTuple):
    """A quantity of untrained networks: its name in the data, its title, and whether its axis is log."""

    name: str
    title: str
    log: bool


START = (
    Quantity("z_std", "sd of pre-activations", True),
    Quantity("dz_std", "sd of gradients", True),
    Quantity("idle", "dead or saturated %", False),
)


def at_start(points: pd.DataFrame) -> Picture | None:
    """Return a figure of the untrained networks by layer, with a row of panels per architecture.

    Parameters
    ----------
    points
        The columns `arch init quantity layer mean low high`, with arch and init as categories. Each quantity
        of :data:`START` is a column of panels.
    """
    points = points[points["quantity"].isin(quantity.name for quantity in START)]
    columns = [quantity for quantity in START if (points["quantity"] == quantity.name).any()]
    if points.empty:
        return None
    panels = {
        (str(arch), quantity.title): part[part["quantity"] == quantity.name]
        for arch, part in points.rename(columns={"layer": "x"}).groupby("arch", observed=True)
        for quantity in columns
    }
    figure, axes = _drawn(panels, len(columns), x_label="layer", gap=WIDE, aside=ASIDE)
    lines = list(panels.values())
    for column, quantity in enumerate(columns):
        in_column = slice(column, None, len(columns))
        _share_y_axis(axes[in_column], pd.concat(lines[in_column]), quantity.log)
    for i, ax in enumerate(axes):
        last = int(lines[i - i % len(columns)]["x"].max())
        ax.set_xlim(0.5, last + 0.5)
        ax.set_xticks(range(1, last + 1, -(-last // 12)))
        ax.tick_params(labelleft=True)
    return figure


def by_epoch(points: pd.DataFrame, title: str, *, log: bool) -> Picture | None:
    """Return a figure of one quantity by epoch, one panel per architecture × layer × batching mode.

    Parameters
    ----------
    points
        The columns `arch layer batching init epoch mean low high`, the names as categories.
    title
        The title of the y axis.
    log
        Whether the y axis is logarithmic.
    """
    if points.empty:
        return None
    groups = points.rename(columns={"epoch": "x"}).groupby(["arch", "layer", "batching"], observed=True)
    panels = {
        (f"{arch} · {batching}", f"layer {layer} · {title}"): part
        for (arch, layer, batching), part in islice(groups, MOST_PANELS)
    }
    batchings = points["batching"].nunique()
    columns = batchings if 1 < batchings <= layout.COLUMNS else min(layout.COLUMNS, len(panels))
    figure, axes = _drawn(panels, columns, y_label=title)
    _share_y_axis(axes, pd.concat(panels.values()), log)
    return figure


def _drawn(
    panels: Mapping[tuple[str, str], pd.DataFrame], columns: int, *, aside: float = 0.0, **options: Any
) -> layout.Panels:
    """Return panels with their lines and a legend.

    Parameters
    ----------
    panels
        Frames with the columns `init x mean low high`, by the two parts of the title: see :func:`_titles`.
    columns, options
        The number of panels in a row, and further arguments of :func:`layout.panels`.
    aside
        How far the points of one layer are spread along x, so that they do not overlap; 1 is the distance of
        two layers.
    """
    drawn = styles_in(pd.concat(panels.values())["init"])
    grid = layout.panels(in_rows(len(panels), columns), _titles(panels), len(drawn), height=HEIGHT, **options)
    at = {"layer": "layer", "epoch": "x"} if not aside else {"layer": "x"}
    for ax, lines in zip(grid.axes, panels.values(), strict=True):
        for i, (name, style) in enumerate(drawn.items()):
            line = lines[lines["init"] == name].sort_values("x")
            if len(line):
                x = line["x"].to_numpy(float) + (aside * ((i + 0.5) / len(drawn) - 0.5))
                quantity = str(line["quantity"].iloc[0])
                draw_band(ax, x, line, style, i, bars=bool(aside), quantity=quantity, at=at)
    add_legend(grid.figure, legend_lines(drawn))
    return grid


def _titles(parts: Collection[tuple[str, str]]) -> list[str]:
    r"""Return the titles of panels: whose they are, and the layer and quantity, which are never cut.

    If a title does not fit on one line, each has two.

    >>> _titles([("relu_100 · mini", "layer 1 · update ratio")])
    ['relu_100 · mini · layer 1 · update ratio']
    >>> _titles([("relu_8x100 · sample", "layer 10 · dead or saturated %")])
    ['relu_8x100 · sample\nlayer 10 · dead or saturated %']
    """
    titles = [" · ".join(part) for part in parts]
    if max(map(len, titles)) <= TITLE:
        return titles
    half = TITLE // 2 - 1
    short = (name if len(name) <= TITLE else f"{name[:half]}…{name[-half:]}" for name, _ in parts)
    return [f"{name}\n{shown}" for name, (_, shown) in zip(short, parts, strict=True)]


def _share_y_axis(axes: Sequence[Axes], lines: pd.DataFrame, log: bool) -> None:
    """Give all panels the same y axis: logarithmic over the positive values, or 0 to 100%.

    Without positive values a logarithmic axis stays linear.
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
        ax.set_ylim(low / 1.5, high * 1.5)  # before set_yscale, which cannot find limits for a panel of zeros
        ax.set_yscale("log")
        ax.tick_params(which="minor", colors=INK, labelleft=False, length=2)
