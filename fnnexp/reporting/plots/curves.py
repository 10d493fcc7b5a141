"""Curves, a heat map, and accuracy against time: one style an initializer, in every picture.

A drawing takes its lines' text colour from the page (`currentColor`), so one SVG is right in light and dark.
What is drawn never depends on colour alone: each initializer has its own marker and dash as well.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from fnnexp import console as notebook
from fnnexp.results import frames, statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

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
HEADER = 0.26  # of an architecture's row, above its panels' titles
LEFT, RIGHT, TOP, BOTTOM, LEGEND_ROW = 0.75, 0.15, 0.4, 0.45, 0.21
COLUMNS = 3  # panels beside each other on a page
SHOWN_WIDTH, MOST_ZOOM = 900, 1.7  # in a notebook: pixels of its column, and how much a small figure grows
UNIFORM_LOSS = math.log(10)  # cross-entropy of the uniform guess over ten classes


class Picture(Figure):
    """A figure that a notebook shows on white, large enough for the back row, whatever its theme."""

    def _ipython_display_(self) -> None:
        """Show it. What pyplot registers for every figure goes before all other ways to say how."""
        zoom = min(max(SHOWN_WIDTH / (96 * self.get_figwidth()), 1.0), MOST_ZOOM)
        width, height = (round(96 * zoom * inches) for inches in self.get_size_inches())
        notebook.picture(png(self, dpi=round(2 * 96 * zoom)), width, height)


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


def curves(runs: pd.DataFrame, curves: pd.DataFrame, metric: str, *, across: int = COLUMNS) -> Picture | None:
    """Return one metric's curves: the mean over seeds in its 95% interval, one panel an architecture.

    A panel's axes are the batching modes. With one mode, or with many, they follow each other.

    Parameters
    ----------
    runs
        The trials to draw, of one combination of the factors other than arch, init and batching.
    curves
        Their curves; those of other trials are passed over.
    metric
        One of `frames.METRICS`. A loss axis ends where it would hide the rest; what leaves it is named.
    across
        The most panels beside each other, where batching modes do not say how many.

    Returns
    -------
    Picture or None
        For :func:`svg` and :func:`png`; None if nothing was recorded of it.
    """
    points = _points(runs, curves, metric)
    if points.empty:
        return None
    look = styles(list(points["init"].cat.categories))
    panels = list(points.groupby(["arch", "batching"], observed=True, sort=True))
    shown = [name for name in look if (points["init"] == name).any()]
    rows, columns = ([name for name in points[of].cat.categories if (points[of] == name).any()]
                     for of in ("arch", "batching"))  # fmt: skip
    by_row = 1 < len(columns) <= COLUMNS
    packed = min(_packed(len(panels)), across)
    places = [
        (rows.index(arch), columns.index(batching)) if by_row else divmod(i, packed)
        for i, ((arch, batching), _) in enumerate(panels)
    ]
    figure, axes = _canvas(places, len(shown), _axis_title(metric), rows if by_row else ())
    top = _loss_limit(points) if metric.endswith("loss") else None
    for ax, ((arch, batching), panel) in zip(axes, panels, strict=True):
        _draw_panel(ax, panel, look, shown, top)
        title = batching if by_row else arch if len(columns) == 1 else f"{arch} · {batching}"
        ax.set_title(str(title), color=INK, fontsize=9, loc="left", parse_math=False)
    _share_limits(axes, points, top)
    _legend(figure, _lines(look, shown), shown)
    return figure


def _axis_title(metric: str) -> str:
    return metric.replace("_", " ") + (" %" if metric.endswith("accuracy") else "")


def _packed(panels: int) -> int:
    """Return how many of so many panels stand beside each other."""
    return 2 if panels == 4 else min(COLUMNS, panels)


def _points(runs: pd.DataFrame, curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return mean and interval over seeds for each arch, init, batching (labels) and epoch.

    The interval is Student's t at every number of seeds: thousands of points are too many to resample. It
    ends where the metric does, at 0 and, for an accuracy, at 1; one seed has none, so its band is its line.
    """
    runs = frames.once(runs)
    about = runs[["trial"]].assign(
        **{axis: frames.labels(runs, axis) for axis in ("arch", "init", "batching")}
    )
    lines = curves.loc[curves["metric"] == metric, ["trial", "epoch", "value"]].astype({"trial": "str"})
    lines = lines.drop_duplicates(["trial", "epoch"], keep="last")
    joined = lines.merge(about, on="trial", how="inner")
    grouped = joined.groupby(["arch", "batching", "init", "epoch"], observed=True)["value"]
    points = grouped.agg(["mean", "std", "count"]).reset_index().astype({"epoch": "float64"})
    half = statistics.t_half_width(points["std"], points["count"])
    points["low"] = (points["mean"] - half).clip(lower=0)
    points["high"] = (points["mean"] + half).clip(upper=1 if metric.endswith("accuracy") else None)
    return points


def _loss_limit(points: pd.DataFrame) -> float:
    """Return where the loss axis ends: beyond the uniform guess and beyond what most lines end at."""
    last = points.sort_values("epoch").groupby(["arch", "batching", "init"], observed=True)["mean"].last()
    return float(min(1.05 * points["high"].max(), max(1.5 * UNIFORM_LOSS, 2 * last.median())))


def _canvas(
    places: Sequence[tuple[int, int]], handles: int, said: str, headers: Sequence[str] = ()
) -> tuple[Picture, list[Axes]]:
    """Return a figure of fixed panel size with the legend's rows below the panels, and its axes.

    `places` are the row and column of each panel; `headers`, if any, stand above the rows.
    """
    rows, columns = (max(each) + 1 for each in zip(*places, strict=True))
    legend = LEGEND_ROW * -(-handles // _legend_columns(columns)) + 0.15
    header = HEADER if headers else 0.0
    step = (PANEL[0] + GAP[0], PANEL[1] + GAP[1] + header)
    width = LEFT + RIGHT + columns * step[0] - GAP[0]
    height = TOP + BOTTOM + legend + header + rows * step[1] - GAP[1] - header
    figure = Picture(figsize=(width, height), facecolor="none")
    below = {column: max(r for r, c in places if c == column) for _, column in places}
    axes = []
    for row, column in places:
        x, y = LEFT + column * step[0], height - TOP - header - PANEL[1] - row * step[1]
        ax = figure.add_axes((x / width, y / height, PANEL[0] / width, PANEL[1] / height))
        first = column == min(c for r, c in places if r == row)
        if row == below[column]:
            ax.set_xlabel("epoch", color=INK, fontsize=9)
        if first:
            ax.set_ylabel(said, color=INK, fontsize=9)
        axes.append(_plain(ax, ticks=first))
    for row, text in enumerate(headers):
        y = height - TOP - row * step[1]
        style: dict[str, Any] = {"color": INK, "fontsize": 10, "weight": "bold", "va": "bottom"}
        figure.text(LEFT / width, y / height, text, **style, parse_math=False)
        _rule(figure, (y + HEADER - 0.02) / height)
    return figure, axes


def _rule(figure: Picture, y: float) -> None:
    """Draw a line across the figure: what is below it belongs together."""
    from matplotlib.lines import Line2D

    figure.add_artist(Line2D([0, 1], [y, y], color=INK, alpha=0.3, linewidth=0.8))


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
    y, low, high = (line[column].to_numpy() for column in ("mean", "low", "high"))
    # Far beyond the axis some renderers lose the clipped line.
    edges = EDGES if top is None else (LEAST_LOSS, 20 * top)
    y, low, high = (np.clip(values, *edges) for values in (y, low, high))
    step = max(1, len(x) // 8)
    ax.plot(x, y, **STROKE | style._asdict(), markevery=(i % step, step))
    if len(x) == 1:
        ax.vlines(x, low, high, color=style.color, linewidth=1)
    elif (high > low).any():
        ax.fill_between(x, low, high, color=style.color, alpha=0.15, linewidth=0)


ROUND = (
    0.5, 0.9, 0.1, 0.99, 0.8, 0.95, 0.98, 0.2, 0.3, 0.7, 0.6, 0.4, 0.97, 0.96, 0.995, 0.05, 0.02, 0.01, 0.999,
    0.85, 0.94, 0.93, 0.92, 0.91, 0.985, 0.975,
)  # fmt: skip
"""Accuracies that an axis may name, those first that are named if there is room for few."""

EDGES = (1e-3, 1 - 5e-4)
"""Where an accuracy of 0 or 1, which has no logit, is drawn; and one beyond these."""

LEAST_LOSS = 1e-4


def _share_limits(axes: Sequence[Axes], points: pd.DataFrame, top: float | None) -> None:
    """Give all panels one y axis, so that they can be compared by eye.

    Accuracies stand by their logit, log(a / (1 − a)), and losses (those with a `top`) by their logarithm: 90,
    95 and 98% are as far apart as they are hard to reach, and a slow start does not flatten the rest.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    accuracy = top is None
    transform, back = (_logit, _expit) if accuracy else (np.log, np.exp)
    low, high = float(points["low"].min()), float(points["high"].max())
    if accuracy:
        low, high = np.clip([low, high], *EDGES)
    else:
        assert top is not None
        low, high = max(low, 0.7 * float(points["mean"].min()), LEAST_LOSS), min(top, high)
    ends = transform(np.array([low, max(high, low)]))
    margin = 0.06 * (ends[1] - ends[0]) or 0.05
    ends += (-margin, margin)
    named = _round_ticks(ends, transform, ROUND if accuracy else POWERS)
    for ax in axes:
        ax.set_yscale("logit" if accuracy else "log")
        ax.set_ylim(*back(ends))
        ax.yaxis.set_major_locator(FixedLocator(named))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y if accuracy else y:.4g}"))


POWERS = tuple(digit * 10.0**power for digit in (1, 5, 2, 3, 7) for power in (0, -1, 1, -2, 2, 3, -3, -4, 4))
"""Losses and seconds that an axis may name."""


def _round_ticks(ends: Any, transform: Any, wanted: Sequence[float]) -> list[float]:
    """Return the wanted values, and others between them, that lie between the ends and not too close."""
    from matplotlib.ticker import MaxNLocator

    found: list[float] = []
    low, high = (_expit if transform is _logit else np.exp)(ends)
    room = 0.09 * (ends[1] - ends[0])
    for value in (*wanted, *MaxNLocator(4).tick_values(low, high)):
        if low <= value <= high and all(abs(transform(value) - transform(other)) >= room for other in found):
            found.append(float(value))
    return sorted(found)


def _logit(a: Any) -> Any:
    return np.log(a) - np.log1p(-np.asarray(a))


def _expit(z: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(z)))


def _lines(look: dict[str, Style], shown: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], **STROKE | look[name]._asdict()) for name in shown]


def _legend(figure: Figure, handles: Sequence[Any], shown: Sequence[str]) -> None:
    """Put one legend for all panels below them, where no data is."""
    columns = _legend_columns(round((figure.get_figwidth() - LEFT - RIGHT + GAP[0]) / (PANEL[0] + GAP[0])))
    columns = -(-len(shown) // -(-len(shown) // columns))  # as many rows, filled evenly
    style: dict[str, Any] = {
        "frameon": False,
        "fontsize": 8.5,
        "labelcolor": INK,
        "handlelength": 3.2,
        "borderaxespad": 0.1,
    }
    legend = figure.legend(list(handles), list(shown), loc="lower center", ncols=columns, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)


# All configurations at once

WIDEST = 12.5  # inches, which a page shows at its own width
CELL = (0.82, 0.36)  # inches: one cell of the heat map
LOW, HIGH = (0.91, 0.95, 0.99), (0.05, 0.24, 0.47)  # the ends of its colours, light to dark
ON_LIGHT, ON_DARK, DARK = "#10151b", "#ffffff", 0.65  # numbers on them, and from where white is read better
FILLS = ("none", "full", "bottom", "left", "top", "right")  # a batching mode each


def heat_map(runs: pd.DataFrame, metric: str, *, widest: float = WIDEST) -> Picture | None:
    """Return the mean over seeds of each arch × init × batching, a panel a batching, its number in each cell.

    `runs` are of one combination of the factors other than these three; as many panels stand beside each
    other as `widest` inches take. None if no trial finished.
    """
    means = _means(runs, metric)
    if means.empty:
        return None
    archs, inits, batchings = (list(means[axis].cat.categories) for axis in ("arch", "init", "batching"))
    least, most = float(means["mean"].min()), float(means["mean"].max())
    label = 0.09 * max(map(len, archs)) + 0.25
    tilt = max(map(len, inits)) > 9
    top = 0.65 + (0.06 * max(map(len, inits)) if tilt else 0)
    panel = (CELL[0] * len(inits), CELL[1] * len(archs))
    columns = max(1, min(len(batchings), int((widest - label) / (panel[0] + 0.3))))
    rows = -(-len(batchings) // columns)
    width, height = label + columns * (panel[0] + 0.3), rows * (panel[1] + top + 0.1)
    figure = Picture(figsize=(width, height), facecolor="none")
    values = means.set_index(["batching", "arch", "init"])["mean"].to_dict()
    step = (panel[0] + 0.3, panel[1] + top + 0.1)
    for i, batching in enumerate(batchings):
        x, y = label + (i % columns) * step[0], height - (i // columns + 1) * step[1] + 0.1
        ax = figure.add_axes((x / width, y / height, panel[0] / width, panel[1] / height))
        _draw_cells(ax, [[values.get((batching, a, n), math.nan) for n in inits] for a in archs], least, most)
        ax.set_title(batching, color=INK, fontsize=9, loc="left", parse_math=False)
        ax.xaxis.tick_top()
        turned: dict[str, Any] = {"rotation": 30, "ha": "left"} if tilt else {}
        ax.set_xticks([j + 0.5 for j in range(len(inits))], inits, parse_math=False, **turned)
        shown = archs if i % columns == 0 else [""] * len(archs)
        ax.set_yticks([j + 0.5 for j in range(len(archs))], shown, parse_math=False)
    return figure


def _means(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return mean, interval and time over the finished seeds of each arch, init and batching (labels)."""
    runs = frames.once(runs)
    about = {axis: frames.labels(runs, axis) for axis in ("arch", "init", "batching")}
    time = runs["seconds_per_epoch"] * runs["epochs"] if "epochs" in runs else runs["seconds_per_epoch"]
    table = runs.assign(**about, value=runs[metric], time=time)[runs["status"] == "finished"]
    grouped = table.groupby(["arch", "init", "batching"], observed=True)
    found = grouped.agg(
        mean=("value", "mean"), std=("value", "std"), count=("value", "count"), time=("time", "mean")
    )
    half = statistics.t_half_width(found["std"], found["count"])
    found = found.assign(low=(found["mean"] - half).clip(lower=0), high=(found["mean"] + half).clip(upper=1))
    return found.dropna(subset="mean").reset_index()


def _draw_cells(ax: Axes, rows: Sequence[Sequence[float]], least: float, most: float) -> None:
    from matplotlib.patches import Rectangle

    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5}
            if math.isnan(value):
                ax.text(x + 0.5, y + 0.5, "–", color=INK, **place)
                continue
            z, low, high = _logit(np.clip([value, least, most], *EDGES))
            part = (z - low) / (high - low) if high > low else 0.0
            colour = tuple(a + (b - a) * part for a, b in zip(LOW, HIGH, strict=True))
            ax.add_patch(Rectangle((x + 0.02, y + 0.03), 0.96, 0.94, facecolor=colour, linewidth=0))
            ink = ON_DARK if part > DARK else ON_LIGHT
            ax.text(x + 0.5, y + 0.5, f"{100 * value:.1f}", color=ink, **place)
    ax.set(xlim=(0, len(rows[0])), ylim=(len(rows), 0))
    ax.patch.set_alpha(0)
    ax.spines[:].set_visible(False)
    ax.tick_params(colors=INK, labelsize=8, length=0)


def against_time(runs: pd.DataFrame, metric: str) -> Picture | None:
    """Return each configuration's mean and interval against its seconds of training, a panel an architecture.

    The marker is the initializer's of every picture, its filling the batching mode. None if no finished trial
    has its time recorded.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    means = _means(runs, metric).dropna(subset="time")
    means = means[means["time"] > 0]
    if means.empty:
        return None
    look = styles(list(means["init"].cat.categories))
    shown = [name for name in look if (means["init"] == name).any()]
    batchings = [name for name in means["batching"].cat.categories if (means["batching"] == name).any()]
    panels = list(means.groupby("arch", observed=True))
    places = [divmod(i, _packed(len(panels))) for i in range(len(panels))]
    figure, axes = _canvas(places, len(shown) + len(batchings), _axis_title(metric))
    fills = {name: FILLS[i % len(FILLS)] for i, name in enumerate(batchings)}
    span = (float(means["time"].min()) / 1.6, float(means["time"].max()) * 1.6)
    for ax, (arch, panel) in zip(axes, panels, strict=True):
        ax.set(xscale="log", xlim=span)
        for row in panel.to_dict("records"):
            style = look[row["init"]]
            low, mean, high = np.clip([row["low"], row["mean"], row["high"]], *EDGES)
            ax.vlines(row["time"], low, high, color=style.color, linewidth=1, alpha=0.6)
            point = STROKE | {"color": style.color, "marker": style.marker, "linestyle": ""}
            ax.plot([row["time"]], [mean], **point | {"fillstyle": fills[row["batching"]]})
        ax.set_title(str(arch), color=INK, fontsize=9, loc="left", parse_math=False)
        if ax.get_xlabel():
            ax.set_xlabel("seconds of training", color=INK, fontsize=9)
    named = _round_ticks(np.log(np.array(span)), np.log, POWERS)
    for ax in axes:
        ax.xaxis.set_major_locator(FixedLocator(named))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    _share_limits(axes, means, None)
    handles = [
        Line2D([], [], **STROKE | {"color": look[n].color, "marker": look[n].marker, "linestyle": ""})
        for n in shown
    ]
    handles += [
        Line2D([], [], **STROKE | {"color": INK, "marker": "o", "linestyle": "", "fillstyle": fills[n]})
        for n in batchings
    ]
    _legend(figure, handles, [*shown, *batchings])
    return figure


# Published beside ours


class Line(NamedTuple):
    """A line with, where `low` is given, its band; `alone`: points that no line joins."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    alone: bool = False


class Panel(NamedTuple):
    """Lines about one quantity, which is the title; `log`, the axes that are logarithmic, as in "xy"."""

    title: str
    lines: Sequence[Line]
    log: str = ""
    across: str = "epoch"


def panels(drawn: Sequence[Panel]) -> Figure:
    """Return panels, each with an axis of its own; lines of one name look the same in all of them."""
    names = list(dict.fromkeys(line.name for panel in drawn for line in panel.lines))
    figure, axes = _canvas([divmod(i, COLUMNS) for i in range(len(drawn))], len(names), "")
    handles: dict[str, Any] = {}
    for ax, panel in zip(axes, drawn, strict=True):
        ax.set_title(panel.title, color=INK, fontsize=9, loc="left", parse_math=False)
        ax.set_xlabel(panel.across, color=INK, fontsize=9)
        ax.tick_params(labelleft=True)
        if "x" in panel.log:
            ax.set_xscale("log")
        if "y" in panel.log:
            ax.set_yscale("log")
        for line in panel.lines:
            i = names.index(line.name)
            style = STROKE | _style(i, i)._asdict()
            if line.alone:
                style |= {"linestyle": "", "color": INK, "marker": "x+"[i % 2], "markersize": 4}
            every = 1 if line.alone else max(1, len(line.x) // 8)
            handles[line.name] = ax.plot(
                line.x, line.y, **style, markevery=every, zorder=3 if line.alone else 2
            )[0]
            if line.low is not None and line.high is not None:
                ax.fill_between(line.x, line.low, line.high, color=style["color"], alpha=0.15, linewidth=0)
    _legend(figure, [handles[name] for name in names], names)
    return figure


# What a figure becomes


def png(figure: Figure, dpi: int = 150) -> bytes:
    """Return the figure as a PNG on white, for where SVG is not taken."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg_file(svg: str) -> str:
    """Return an inline SVG as a file that stands alone: dark on white, whatever shows it."""
    style = "<style>:root { color: #1c2127; background: #fff }</style>"
    return '<?xml version="1.0" encoding="utf-8"?>\n' + re.sub(r"(<svg[^>]*>)", rf"\1{style}", svg, count=1)


def svg(figure: Figure, label: str) -> str:
    """Return the figure as an SVG element for the page, with a label for who can't see it."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # Sizes in the style sheet's hands, not in points.
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt" height="[\d.]+pt"', r"\1", text.replace("\n", " "), count=1)
    width = math.ceil(figure.get_figwidth() * 96)
    text = text.replace(
        "<svg ", f'<svg role="img" aria-label="{escape(label)}" style="max-width:{width}px" ', 1
    )
    return text.replace(INK, "currentColor")
