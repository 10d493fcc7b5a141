"""Panels of lines, each panel with its own axes, for published numbers and ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fnnexp.reporting.plots import layout
from fnnexp.reporting.plots.picture import mark
from fnnexp.reporting.plots.scales import name_short_log_axis
from fnnexp.reporting.plots.style import INK, STROKE, style

if TYPE_CHECKING:
    from fnnexp.reporting.plots.picture import Picture


class Line(NamedTuple):
    """A line with an optional band from `low` to `high`. If it is `alone`, its points are not joined."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    alone: bool = False


class Panel(NamedTuple):
    """A panel with lines of the quantity `title`. The axes named in `log`, such as "xy", are logarithmic."""

    title: str
    lines: Sequence[Line]
    log: str = ""
    x_label: str = "epoch"


SIZE, GAP = (2.9, 2.1), 0.62
"""The width and height of a panel, and the gap between panels, which has room for ticks, in inches."""


def line_panels(panels: Sequence[Panel]) -> Picture:
    """Return a figure with the panels side by side. Lines with the same name have the same style."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    positions, titles = layout.in_rows(len(panels), layout.COLUMNS), [panel.title for panel in panels]
    figure, axes = layout.panels(positions, titles, len(names), x_label="", size=SIZE, gap=GAP)
    entries: dict[str, Any] = {}
    labels_below = [*(panel.x_label for panel in panels[layout.COLUMNS :]), *[""] * layout.COLUMNS]
    for ax, panel, below in zip(axes, panels, labels_below[: len(panels)], strict=True):
        if panel.x_label != below:
            ax.set_xlabel(panel.x_label, color=INK, fontsize=9)
        ax.tick_params(which="both", labelleft=True)
        if "x" in panel.log:
            ax.set_xscale("log")
        if "y" in panel.log:
            ax.set_yscale("log")
        for line in panel.lines:
            i = names.index(line.name)
            stroke = STROKE | style(i, i)._asdict()
            if line.alone:
                stroke |= {"linestyle": "", "color": INK, "marker": "x+"[i % 2], "markersize": 4}
            every, order = (1, 3) if line.alone else (max(1, len(line.x) // 8), 2)
            artists: list[Any] = [*ax.plot(line.x, line.y, **stroke, markevery=every, zorder=order)]
            entries[line.name] = artists[0]
            values = {panel.x_label: [*line.x], "value" if line.low is None else "mean": [*line.y]}
            if line.low is not None and line.high is not None:
                band = ax.fill_between(
                    line.x, line.low, line.high, color=stroke["color"], alpha=0.15, linewidth=0
                )
                artists.append(band)
                values |= {"low": [*line.low], "high": [*line.high]}
            mark(ax, artists, {"line": line.name}, panel.title, line.x, line.y, values)
        if "y" in panel.log:
            name_short_log_axis(ax.yaxis, ax.get_ylim())
    layout.add_legend(figure, {name: entries[name] for name in names})
    return figure
