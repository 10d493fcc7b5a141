"""The figures of the diagnostics: spreads by layer at the start, and what becomes of the layers by epoch.

Colours, markers and dashes are those that an initializer has in every picture.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from fnnexp.reporting.plots import curves as plots
from fnnexp.reporting.plots.curves import (
    BOTTOM,
    COLUMNS,
    GAP,
    INK,
    LEFT,
    LEGEND_ROW,
    PANEL,
    RIGHT,
    STROKE,
    TOP,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 1.7  # inches: these panels are lower, for there are many
TITLE = 46  # characters that fit above a panel
WIDE = 0.6  # inches between panels that each have an axis of their own
ASIDE = 0.3  # layers that markers of one layer are spread over, so that they do not hide each other

MOST_PANELS = 36
"""At most so many panels by epoch; the rest is in diagnostics.csv."""


class Panel(NamedTuple):
    """One panel: its title, and rows of `init x mean low high`."""

    title: str
    lines: pd.DataFrame


def at_start(points: pd.DataFrame) -> Figure | None:
    """Return the spreads of the untrained networks by layer, a row an architecture.

    Parameters
    ----------
    points
        Rows of `arch init quantity layer mean low high`, arch and init being categories; of `quantity` those
        of :data:`START` are drawn, a column each.
    """
    shown = points[points["quantity"].isin(quantity for quantity, *_ in START)]
    columns = [each for each in START if (shown["quantity"] == each[0]).any()]
    if shown.empty:
        return None
    panels, kinds = [], []
    for arch, part in shown.groupby("arch", observed=True):
        for quantity, said, log in columns:
            panels.append(Panel(f"{arch} · {said}", part[part["quantity"] == quantity]))
            kinds.append((quantity, log))
    panels = [each._replace(lines=each.lines.rename(columns={"layer": "x"})) for each in panels]
    figure, axes, look = _drawn(panels, len(columns), "layer", gap=WIDE, aside=ASIDE)
    for quantity, log in dict.fromkeys(kinds):
        mine = [(ax, p) for ax, p, kind in zip(axes, panels, kinds, strict=True) if kind == (quantity, log)]
        _share_limits([ax for ax, _ in mine], pd.concat([p.lines for _, p in mine]), log)
    for i, ax in enumerate(axes):
        last = int(panels[i - i % len(columns)].lines["x"].max())
        ax.set_xlim(0.5, last + 0.5)
        ax.set_xticks(range(1, last + 1, -(-last // 12)))
        ax.tick_params(labelleft=True)
    _finish(figure, look)
    return figure


START = (
    ("z_std", "pre-activations", True),
    ("dz_std", "gradients", True),
    ("idle", "dead or saturated %", False),
)
"""What is drawn of the start: the quantity, what it is called, and whether its axis is logarithmic."""


def by_epoch(points: pd.DataFrame, said: str, *, log: bool) -> Figure | None:
    """Return one quantity by epoch, a panel an architecture × layer × batching.

    Parameters
    ----------
    points
        Rows of `arch layer batching init epoch mean low high`, arch, batching and init being categories.
    said
        What the axis is called.
    log
        Whether it is logarithmic.
    """
    if points.empty:
        return None
    panels = [
        Panel(f"{arch} · layer {layer} · {batching}", part.rename(columns={"epoch": "x"}))
        for (arch, layer, batching), part in points.groupby(["arch", "layer", "batching"], observed=True)
    ][:MOST_PANELS]
    batchings = points["batching"].nunique()
    columns = batchings if 1 < batchings <= COLUMNS else min(COLUMNS, len(panels))
    figure, axes, look = _drawn(panels, columns, "epoch")
    _share_limits(axes, pd.concat([panel.lines for panel in panels]), log)
    for i in range(0, len(axes), columns):
        axes[i].set_ylabel(said, color=INK, fontsize=9)
    _finish(figure, look)
    return figure


def _drawn(
    panels: Sequence[Panel], columns: int, x: str, *, gap: float = GAP[0], aside: float = 0.0
) -> tuple[Figure, list[Axes], dict[str, plots.Style]]:
    """Return a figure with its panels' lines, its axes, and the style of each initializer in it."""
    from matplotlib.figure import Figure

    inits = list(panels[0].lines["init"].cat.categories)
    there = set().union(*(panel.lines["init"] for panel in panels))
    look = {name: style for name, style in plots.styles(inits).items() if name in there}
    rows = -(-len(panels) // columns)
    legend = LEGEND_ROW * -(-len(look) // plots._legend_columns(columns)) + 0.15
    width = LEFT + RIGHT + columns * PANEL[0] + (columns - 1) * gap
    height = TOP + BOTTOM + legend + rows * HEIGHT + (rows - 1) * GAP[1]
    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0)
    axes = []
    for i, panel in enumerate(panels):
        left = LEFT + (i % columns) * (PANEL[0] + gap)
        bottom = height - TOP - HEIGHT - (i // columns) * (HEIGHT + GAP[1])
        box = (left / width, bottom / height, PANEL[0] / width, HEIGHT / height)
        ax = plots._plain(figure.add_axes(box), ticks=i % columns == 0)
        title = textwrap.shorten(panel.title, TITLE, placeholder=" …")
        ax.set_title(title, color=INK, fontsize=9, loc="left", parse_math=False)
        if i >= len(panels) - columns:
            ax.set_xlabel(x, color=INK, fontsize=9)
        _draw(ax, panel, look, aside)
        axes.append(ax)
    return figure, axes, look


def _draw(ax: Axes, panel: Panel, look: dict[str, plots.Style], aside: float) -> None:
    for i, (name, style) in enumerate(look.items()):
        line = panel.lines[panel.lines["init"] == name].sort_values("x")
        if line.empty:
            continue
        at = line["x"].to_numpy(float) + (aside * ((i + 0.5) / len(look) - 0.5))
        y, low, high = (line[column].to_numpy(float) for column in ("mean", "low", "high"))
        step = 1 if aside else max(1, len(at) // 8)
        ax.plot(at, y, **STROKE | style._asdict(), markevery=(i % step, step))
        if aside or len(at) == 1:
            ax.vlines(at, low, high, color=style.color, linewidth=1)
        elif (high > low).any():
            ax.fill_between(at, low, high, color=style.color, alpha=0.15, linewidth=0)


def _share_limits(axes: Sequence[Axes], lines: pd.DataFrame, log: bool) -> None:
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


def _finish(figure: Figure, look: dict[str, plots.Style]) -> None:
    plots._legend(figure, plots._lines(look, list(look)), list(look))
