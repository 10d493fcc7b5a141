"""Curves as inline SVG: one panel an architecture × batching, one style an initializer.

A drawing takes its lines' text colour from the page (`currentColor`), so one SVG is right in light and dark.
What is drawn never depends on colour alone: each initializer has its own marker and dash as well.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fnnexp.analysis import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KNOWN = ("max", "sqrtmax", "xavier", "he", "he2", "normal", "glorot_normal", "he_normal")
"""Initializers whose style is fixed, so that reports can be laid side by side; others follow in order."""

# At least 3 : 1 against white and against the dark page.
COLOURS = ("#3a7fd5", "#d9730d", "#16916c", "#d6455d", "#8f63d2", "#7d7a1a", "#c750a8", "#747b85")
MARKERS = ("o", "s", "^", "D", "v", "p", "X", "*", "<", ">", "d", "h", "8", "P", "1", "2", "3", "4")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
STROKE: dict[str, Any] = {"linewidth": 1.4, "markersize": 4.5, "markeredgewidth": 1.2, "fillstyle": "none"}
INK = "#010203"  # stands for the page's text colour until the drawing is SVG

PANEL = (3.1, 2.1)  # inches: one panel's axes
GAP = (0.35, 0.62)
LEFT, RIGHT, TOP, BOTTOM, LEGEND_ROW = 0.75, 0.15, 0.4, 0.55, 0.24
COLUMNS = 3  # panels beside each other on a page
UNIFORM_LOSS = math.log(10)  # cross-entropy of the uniform guess over ten classes


class Style(NamedTuple):
    """How one initializer is drawn, everywhere."""

    color: str
    marker: str
    linestyle: Any


def styles(inits: Sequence[str]) -> dict[str, Style]:
    """Return a style for each initializer's label; `normal std=0.3` has the colour of `normal`.

    >>> styles(["he", "mine"])["he"] == styles(["max", "he"])["he"]
    True
    """
    order = list(dict.fromkeys([*KNOWN, *inits]))
    families = list(dict.fromkeys(name.partition(" ")[0] for name in order))
    return {name: _style(families.index(name.partition(" ")[0]), order.index(name)) for name in inits}


def _style(family: int, i: int) -> Style:
    return Style(
        COLOURS[family % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[(i + i // 8) % len(DASHES)]
    )


def curves(runs: pd.DataFrame, curves: pd.DataFrame, metric: str) -> str:
    """Return one metric's curves as an SVG element: the mean over seeds, with a band from least to most.

    Parameters
    ----------
    runs
        The trials to draw, of one combination of the factors other than arch, init and batching.
    curves
        Their curves; those of other trials are passed over.
    metric
        One of `frames.METRICS`. A loss axis ends where it would hide the rest; what leaves it is named.

    Returns
    -------
    str
        `<svg …>…</svg>`, or an empty string if nothing was recorded of it.
    """
    points = _points(runs, curves, metric)
    if points.empty:
        return ""
    look = styles(list(points["init"].cat.categories))
    panels = list(points.groupby(["arch", "batching"], observed=True, sort=True))
    shown = [name for name in look if (points["init"] == name).any()]
    figure, axes = _canvas(len(panels), points["batching"].nunique(), len(shown), metric.replace("_", " "))
    top = _loss_limit(points) if metric.endswith("loss") else None
    for ax, ((arch, batching), panel) in zip(axes, panels, strict=True):
        _draw_panel(ax, panel, look, shown, top)
        ax.set_title(f"{arch} · {batching}", color=INK, fontsize=9, loc="left", parse_math=False)
    _share_limits(axes, points, top)
    _legend(figure, look, shown)
    return _svg(figure, metric)


def _points(runs: pd.DataFrame, curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return mean, least and most over seeds for each arch, init, batching (labels) and epoch."""
    about = runs[["trial"]].assign(
        **{axis: frames.labels(runs, axis) for axis in ("arch", "init", "batching")}
    )
    lines = curves.loc[curves["metric"] == metric, ["trial", "epoch", "value"]].astype({"trial": "str"})
    joined = lines.merge(about, on="trial", how="inner")
    grouped = joined.groupby(["arch", "batching", "init", "epoch"], observed=True)["value"]
    return grouped.agg(["mean", "min", "max"]).reset_index().astype({"epoch": "float64"})


def _loss_limit(points: pd.DataFrame) -> float:
    """Return where the loss axis ends: beyond the uniform guess and beyond what most lines end at."""
    last = points.sort_values("epoch").groupby(["arch", "batching", "init"], observed=True)["mean"].last()
    return float(min(1.05 * points["max"].max(), max(1.5 * UNIFORM_LOSS, 2 * last.median())))


def _canvas(panels: int, batchings: int, inits: int, said: str) -> tuple[Figure, list[Axes]]:
    """Return a figure of fixed panel size, the legend's rows below the panels, and one axes a panel."""
    from matplotlib.figure import Figure

    columns = batchings if 1 < batchings <= COLUMNS else 2 if panels == 4 else min(COLUMNS, panels)
    rows = -(-panels // columns)
    legend = LEGEND_ROW * -(-inits // _legend_columns(columns)) + 0.15
    width = LEFT + RIGHT + columns * PANEL[0] + (columns - 1) * GAP[0]
    height = TOP + BOTTOM + legend + rows * PANEL[1] + (rows - 1) * GAP[1]
    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0)
    axes = []
    for i in range(panels):
        x = LEFT + (i % columns) * (PANEL[0] + GAP[0])
        y = height - TOP - PANEL[1] - (i // columns) * (PANEL[1] + GAP[1])
        ax = figure.add_axes((x / width, y / height, PANEL[0] / width, PANEL[1] / height))
        if i >= panels - columns:
            ax.set_xlabel("epoch", color=INK, fontsize=9)
        if i % columns == 0:
            ax.set_ylabel(said, color=INK, fontsize=9)
        axes.append(_plain(ax, ticks=i % columns == 0))
    return figure, axes


def _legend_columns(columns: int) -> int:
    return 2 * columns if columns > 1 else 2


def _plain(ax: Axes, *, ticks: bool) -> Axes:
    from matplotlib.ticker import MaxNLocator

    ax.patch.set_alpha(0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.tick_params(colors=INK, labelsize=8, labelleft=ticks)
    ax.grid(color=INK, alpha=0.12, linewidth=0.6)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return ax


def _draw_panel(
    ax: Axes, panel: pd.DataFrame, look: dict[str, Style], shown: Sequence[str], top: float | None
) -> None:
    first, last = float(panel["epoch"].min()), float(panel["epoch"].max())
    single = first == last
    beyond = []
    for i, name in enumerate(shown):
        line = panel[panel["init"] == name].sort_values("epoch")
        if line.empty:
            continue
        # With one epoch all points stand above each other: lay them side by side.
        x = line["epoch"].to_numpy() + (0.6 * ((i + 0.5) / len(shown) - 0.5) if single else 0)
        _draw_line(ax, x, line, look[name], i, top)
        if top is not None and line["mean"].iloc[-1] > top:
            beyond.append(f"{name} {line['mean'].iloc[-1]:.3g}")
    if beyond:
        said = textwrap.fill("above, at the end: " + ", ".join(beyond), 44, max_lines=5)
        place: dict[str, Any] = {"ha": "right", "va": "top", "transform": ax.transAxes}
        ax.text(0.99, 0.98, said, fontsize=7, color=INK, parse_math=False, **place)
    if single:
        ax.set_xticks([first])
        ax.set_xlim(first - 0.5, first + 0.5)


def _draw_line(ax: Axes, x: Any, line: pd.DataFrame, style: Style, i: int, top: float | None) -> None:
    y, low, high = (line[column].to_numpy() for column in ("mean", "min", "max"))
    if top is not None:  # far beyond the axis some renderers lose the clipped line
        y, low, high = (np.minimum(values, 20 * top) for values in (y, low, high))
    step = max(1, len(x) // 8)
    ax.plot(x, y, **STROKE | style._asdict(), markevery=(i % step, step))
    if len(x) == 1:
        ax.vlines(x, low, high, color=style.color, linewidth=1)
    elif (high > low).any():
        ax.fill_between(x, low, high, color=style.color, alpha=0.15, linewidth=0)


def _share_limits(axes: Sequence[Axes], points: pd.DataFrame, top: float | None) -> None:
    """Give all panels one y axis, so that they can be compared by eye."""
    low = float(points["min"].min())
    high = float(points["max"].max()) if top is None else min(top, float(points["max"].max()))
    margin = 0.06 * (high - low) or 0.05
    for ax in axes:
        ax.set_ylim(low - margin, high + margin)


def _legend(figure: Figure, look: dict[str, Style], shown: Sequence[str]) -> None:
    """Put one legend for all panels below them, where no data is."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **STROKE | look[name]._asdict()) for name in shown]
    columns = _legend_columns(round((figure.get_figwidth() - LEFT - RIGHT + GAP[0]) / (PANEL[0] + GAP[0])))
    style: dict[str, Any] = {
        "frameon": False,
        "fontsize": 8.5,
        "labelcolor": INK,
        "handlelength": 3.2,
        "borderaxespad": 0.1,
    }
    legend = figure.legend(handles, list(shown), loc="lower center", ncols=columns, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _svg(figure: Figure, metric: str) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": metric}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # Sizes in the style sheet's hands, not in points.
    svg = re.sub(r'(<svg[^>]*?) width="[\d.]+pt" height="[\d.]+pt"', r"\1", svg.replace("\n", " "), count=1)
    width = math.ceil(figure.get_figwidth() * 96)
    svg = svg.replace(
        "<svg ", f'<svg role="img" aria-label="{metric} by epoch" style="max-width:{width}px" ', 1
    )
    return svg.replace(INK, "currentColor")
