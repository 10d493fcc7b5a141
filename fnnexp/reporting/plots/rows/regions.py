"""Figures of what networks with two inputs predict in the plane, with the rows that they were trained on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fnnexp.reporting.plots.layout import add_legend, columns_for, in_rows
from fnnexp.reporting.plots.picture import Picture
from fnnexp.reporting.plots.rows.classes import titles as names_of
from fnnexp.reporting.plots.style import COLOURS, INK, MARKERS, SMALLEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from fnnexp.results.networks.regions import Regions

SIDE, GAP, LEFT, TOP, BOTTOM, LEGEND, LINE = 2.35, (0.46, 0.72), 0.42, 0.5, 0.3, 0.3, 0.15  # inches

TITLE, TITLE_LINES = 32, 4
"""The numbers of characters of a line above a panel, and of lines at most. A longer title is cut."""

NAME = 14
"""Characters of the name of a class in the legend."""

MOST_POINTS = 300
"""The largest number of training rows in a panel."""

FAINT, STRONG, STEPS = 0.1, 0.5, 8
"""The opacity of a region where the network is unsure and where it is sure, and the steps between."""


def boundaries(panels: Sequence[tuple[str, str, Regions]]) -> Picture:
    """Return a figure with a panel for each network: its title, a second line, and its regions.

    A region has the colour of the class that the network predicts there. It is transparent, so that it suits
    a light and a dark page. The legend has the names of the classes, if they are the same in all panels.
    """
    across = columns_for(len(panels))
    rows = -(-len(panels) // across)
    titles = [_in_lines(title) for title, *_ in panels]
    more = LINE * max(title.count("\n") for title in titles)
    step = (SIDE + GAP[0], SIDE + GAP[1] + more)
    width = LEFT + across * step[0] - GAP[0] + 0.15
    height = TOP + rows * step[1] - GAP[1] + BOTTOM + LEGEND
    figure = Picture(figsize=(width, height), facecolor="none")
    places = in_rows(len(panels), across)
    for (row, column), title, (_, below, regions) in zip(places, titles, panels, strict=True):
        left, bottom = LEFT + column * step[0], height - TOP - more - SIDE - row * step[1]
        ax = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
        _draw(ax, regions)
        text: dict[str, Any] = {"transform": ax.transAxes, "color": INK, "va": "bottom", "parse_math": False}
        ax.text(0, 1 + 0.19 / SIDE, title, fontsize=SMALLEST, **text)
        ax.text(0, 1 + 0.04 / SIDE, below, fontsize=SMALLEST, alpha=0.75, **text)
    classes = max(regions.classes for *_, regions in panels)
    names = {regions.class_names for *_, regions in panels}
    texts = names_of(names.pop() if len(names) == 1 else (), classes, NAME, "class ")
    entries = {text: Line2D([], [], linestyle="", **_marker(i, 5)) for i, text in enumerate(texts)}
    add_legend(figure, entries, 2 if across == 1 else 5)
    return figure


def _in_lines(title: str) -> str:
    r"""Return a title broken into lines, after a space or a hyphen unless a part is longer than a line.

    >>> _in_lines("relu_100-he_normal-mini-s0-data=moons-optimizer.lr=1e-05")
    'relu_100-he_normal-mini-s0-\ndata=moons-optimizer.lr=1e-05'
    """
    lines = [""]
    for part in re.split(r"(?<=\s)|(?<=-)(?<!\de-)", title):
        if len(lines[-1]) + len(part.rstrip()) > TITLE and lines[-1]:
            lines.append("")
        whole = lines.pop() + part
        lines += [whole[i : i + TITLE] for i in range(0, len(whole), TITLE)] or [""]
    if len(lines) > TITLE_LINES:
        lines = [*lines[: TITLE_LINES - 1], f"{lines[TITLE_LINES - 1][: TITLE - 1]}…"]
    return "\n".join(line.rstrip() for line in lines)


def draw_points(ax: Axes, points: NDArray[Any], labels: NDArray[Any]) -> None:
    """Draw at most :data:`MOST_POINTS` rows (n, 2), evenly chosen, with the markers of their classes."""
    chosen = np.unique(np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).round().astype(int))
    for label in np.unique(labels[chosen]).tolist():
        x, y = points[chosen[labels[chosen] == label]].T
        ax.plot(x, y, linestyle="", **_marker(label, 2.6))


def _marker(label: int, size: float) -> dict[str, Any]:
    return {
        "color": COLOURS[label % len(COLOURS)], "marker": MARKERS[label % len(MARKERS)], "markersize": size,
        "markeredgecolor": INK, "markeredgewidth": 0.25,
    }  # fmt: skip


def _draw(ax: Axes, regions: Regions) -> None:
    extent = (regions.x[0], regions.x[-1], regions.y[0], regions.y[-1])
    ax.imshow(_tints(regions), origin="lower", extent=extent, aspect="auto", interpolation="nearest")
    draw_points(ax, regions.points, regions.labels)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    plain(ax)


def plain(ax: Axes) -> None:
    """Give axes thin lines and few ticks in the colour of the page's text, and no background."""
    ax.patch.set_alpha(0)
    ax.spines[:].set_color(INK)
    ax.spines[:].set_linewidth(0.5)
    ax.spines[:].set_alpha(0.5)
    ax.tick_params(colors=INK, labelsize=SMALLEST, length=2, width=0.5)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))


def _tints(regions: Regions) -> NDArray[np.uint8]:
    """Return a colour for each point of a grid (n, n, 4): that of the predicted class.

    The surer the network is, the more opaque is the colour.
    """
    palette = np.array([to_rgb(colour) for colour in COLOURS])
    sure = np.ones(regions.output.shape)
    if regions.is_probability:
        guessing = 1 / max(regions.classes, 2)
        sure = np.clip((regions.output - guessing) / (1 - guessing), 0, 1)
    opacity = FAINT + (STRONG - FAINT) * np.round(sure * STEPS) / STEPS
    colours = palette[regions.predicted % len(COLOURS)]
    tints: NDArray[np.uint8] = np.rint(255 * np.dstack([colours, opacity])).astype(np.uint8)
    return tints
