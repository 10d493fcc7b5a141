"""A metric over the values of numeric factors: lines over one factor, and a map over two."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from scipy.special import expit, logit

from fnnexp.reporting import averages
from fnnexp.reporting.plots.curves import axis_title, by_arch_and_batching
from fnnexp.reporting.plots.heat_map import Cells, Names, cell_panels, depth
from fnnexp.reporting.plots.layout import (
    PANEL,
    add_legend,
    columns_for,
    draw_band,
    in_rows,
    legend_lines,
    options_of,
    panels,
)
from fnnexp.reporting.plots.picture import mark
from fnnexp.reporting.plots.scales import EDGES, share_value_axis, share_y_axis
from fnnexp.reporting.plots.style import BEST, INK, STROKE, shade, styles_in
from fnnexp.results.factors import AXES, as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from fnnexp.reporting.plots.picture import Picture
    from fnnexp.reporting.plots.style import Style

MOST_MAPS = 12
"""The largest number of panels in a map."""

MOST_NUMBERED = 15
"""If neither factor has more values than this, a map has cells with numbers, else points."""

MOST_POINTS = 1000
"""With more points than this, a panel draws them as an image; as shapes they would be megabytes of SVG."""

SMALL, LARGE = 4.0, 14.0
"""The smallest and the largest side of a square, in typographic points."""

DOT: dict[str, Any] = {"marker": "s", "markersize": 7, "linestyle": ""}
RING: dict[str, Any] = DOT | {"fillstyle": "none", "color": BEST, "markeredgewidth": 2}

AROUND: dict[str, Any] = {
    "marker": "o", "markersize": 11, "markeredgewidth": 1.1, "fillstyle": "none", "color": INK,
    "linestyle": "",
}  # fmt: skip
"""The circle around the marker of a best value, whatever the marker of its line."""

FULL: dict[str, Any] = {"fillstyle": "full"}
CROSS: dict[str, Any] = STROKE | {"color": INK, "marker": "x", "linestyle": ""}


def lines(rows: pd.DataFrame, metric: str, axis: str) -> Picture | None:
    """Return a figure of a metric over one numeric factor, with a line per initializer.

    There is one panel per architecture and batching mode with a finished or a diverged trial.

    Parameters
    ----------
    rows
        Trials with their values of this factor, as returned by :func:`fnnexp.results.numeric.along`, which
        differ in no other categorical factors than arch, init and batching.
    metric
        An accuracy.
    axis
        The name of the factor.

    Returns
    -------
    Picture or None
        Means over the finished seeds with their 95% intervals, or with both seeds. A circle is around the
        best value of a line; a cross at the bottom of a panel a value at which trials diverged. None if no
        trial finished.
    """
    at, best = f"at {axis}", f"best {axis}"
    points = averages.with_both_seeds(averages.of_values(rows, metric, [at, best]))
    if points["mean"].isna().all():
        return None
    any_result = points["mean"].notna() | points["diverged"].gt(0)
    points = points[any_result.groupby([points["arch"], points["batching"]], observed=True).transform("any")]
    drawn = styles_in(points["init"])
    extra = {"best": Line2D([], [], **AROUND)}
    if points["diverged"].any():
        extra["diverged"] = Line2D([], [], **CROSS)
    figure, axes, groups = by_arch_and_batching(
        points, len(drawn) + len(extra), x_label=axis, y_label=axis_title(metric)
    )
    share_value_axis(axes, points[at].tolist())
    cut = share_y_axis(axes, points)
    for ax, panel in zip(axes, groups, strict=True):
        for i, (name, style) in enumerate(drawn.items()):
            _draw_line(ax, panel[panel["init"] == name].sort_values(at), style, i, axis, metric)
    add_legend(figure, legend_lines(drawn) | extra)
    figure.notes += averages.about_spread(points, "Bands", "Thin lines are") + cut
    if "diverged" in extra:
        figure.notes.append("A cross at the bottom is a value at which trials diverged.")
    return figure


def dots(rows: pd.DataFrame, metric: str, axis: str) -> Picture | None:
    """Return a figure of a metric over one numeric factor, with a point per configuration.

    There is one panel per architecture and batching mode.

    Parameters
    ----------
    rows
        Trials with their values of all numeric factors, as returned by
        :func:`fnnexp.results.numeric.at_all_values`, which differ in no other categorical factors than arch,
        init and batching.
    metric, axis
        As for :func:`lines`.

    Returns
    -------
    Picture or None
        Means over the finished seeds. A circle marks the best configuration of an initializer. None if no
        trial finished.
    """
    all_at = [str(column) for column in rows if str(column).startswith("at ")]
    all_best = [column.replace("at ", "best ", 1) for column in all_at]
    rows = rows.dropna(subset=[f"at {axis}"]).fillna(dict.fromkeys([*all_at, *all_best], -1.0))
    points = averages.of_values(rows, metric, [*all_at, *all_best])
    points = points[points["mean"].notna()]
    if points.empty:
        return None
    drawn = styles_in(points["init"])
    figure, axes, groups = by_arch_and_batching(
        points, len(drawn) + 1, x_label=axis, y_label=axis_title(metric)
    )
    share_value_axis(axes, points[f"at {axis}"].tolist())
    share_y_axis(axes, points.assign(low=points["mean"], high=points["mean"]))
    for ax, panel in zip(axes, groups, strict=True):
        for name, style in drawn.items():
            own = panel[panel["init"] == name]
            is_best = (own[all_at].to_numpy() == own[all_best].to_numpy()).all(axis=1)
            look = STROKE | style._asdict() | {"linestyle": ""}
            drawing = []
            for part, how in ((own, look), (own[is_best], look | FULL), (own[is_best], AROUND)):
                drawing += ax.plot(part[f"at {axis}"], np.clip(part["mean"], *EDGES), **how)
            if len(own):
                x, y = own[f"at {axis}"].tolist(), own["mean"].clip(*EDGES).tolist()
                values = {axis: x, "mean": own["mean"].tolist()}
                mark(ax, drawing, options_of(own), metric, x, y, values)
    add_legend(figure, legend_lines(drawn) | {"best": Line2D([], [], **AROUND)})
    return figure


def _draw_line(ax: Axes, line: pd.DataFrame, style: Style, i: int, axis: str, metric: str) -> None:
    at, best, finished = line[f"at {axis}"], line[f"best {axis}"], line["mean"].notna()
    if finished.any():
        # Skip values without a result: gaps in the line would hide a point without neighbours.
        artists = draw_band(ax, at[finished].to_numpy(float), line[finished], style, i, within=EDGES,
                            quantity=metric, at={axis: f"at {axis}"})  # fmt: skip
        top = line[finished & (at == best)]
        for look in (STROKE | style._asdict() | {"linestyle": ""} | FULL, AROUND):
            artists += ax.plot(at[top.index], np.clip(top["mean"], *EDGES), **look)
    diverged = at[line["diverged"] > 0]
    # The crosses of each line have a different height, so that they do not overlap.
    bottom = np.full(len(diverged), 0.03 + 0.04 * i)
    ax.plot(diverged, bottom, transform=ax.get_xaxis_transform(), **CROSS | {"color": style.color})


def plane(
    rows: pd.DataFrame, metric: str, x: str, y: str, scale: tuple[float, float] | None = None
) -> Picture | None:
    """Return a map of the mean over seeds by two numeric factors, with the best pair of values framed.

    There is one panel per combination of the categorical factors.

    Parameters
    ----------
    rows, metric
        As for :func:`lines`, with the trials' values of both factors.
    x, y
        The names of the factors.
    scale
        The accuracies with the lightest and the darkest shade, by default the least and the largest drawn.

    Returns
    -------
    Picture or None
        At most twelve panels, the first in the order of options. With few values the panels have cells with
        numbers, with many values they are scatter plots. None if no trial finished.
    """
    points = of_plane(rows, metric, x, y)
    if points.empty:
        return None
    scale = scale or (float(points["mean"].min()), float(points["mean"].max()))
    varied = [axis for axis in AXES if len({*points[axis]}) > 1]
    every = [part for _, part in points.groupby(list(AXES), observed=True)]
    parts = every[:MOST_MAPS]
    titles = [" · ".join(str(part[axis].iloc[0]) for axis in varied) for part in parts]
    few = max(points[f"at {axis}"].nunique() for axis in (x, y)) <= MOST_NUMBERED
    figure = (_cells if few else _scatter)(parts, titles, x, y, metric, scale)
    if len(every) > MOST_MAPS:
        figure.notes.append(f"The first {MOST_MAPS} of {len(every)} panels are drawn.")
    return figure


def of_plane(rows: pd.DataFrame, metric: str, x: str, y: str) -> pd.DataFrame:
    """Return the means over seeds that :func:`plane` shows, a row for each option and pair of values."""
    points = averages.of_values(rows, metric, [f"at {x}", f"at {y}", f"best {x}", f"best {y}"])
    return points[points["mean"].notna()]


def _cells(
    parts: Sequence[pd.DataFrame],
    titles: Sequence[str],
    x: str,
    y: str,
    metric: str,
    scale: tuple[float, float],
) -> Picture:
    """Return a map of cells with numbers, where y increases upwards."""
    points = pd.concat(parts)
    columns, lines = (sorted(map(float, {*points[f"at {axis}"]})) for axis in (x, y))
    lines.reverse()
    maps = []
    for title, part in zip(titles, parts, strict=True):
        means = part.set_index([f"at {y}", f"at {x}"])["mean"].to_dict()
        values = [[means.get((b, a), math.nan) for a in columns] for b in lines]
        best = (lines.index(part[f"best {y}"].iloc[0]), columns.index(part[f"best {x}"].iloc[0]))
        maps.append(Cells(title, values, best, options_of(part)))
    across, up = (Names(axis, [*map(as_text, each)]) for axis, each in ((x, columns), (y, lines)))
    return cell_panels(maps, across, up, metric, x_label=x, y_label=y, scale=scale)


def _scatter(
    parts: Sequence[pd.DataFrame],
    titles: Sequence[str],
    x: str,
    y: str,
    metric: str,
    scale: tuple[float, float],
) -> Picture:
    """Return a scatter plot with a shaded point for each pair of values."""
    everything = pd.concat(parts)
    least, most = scale
    low, high = logit(np.clip([least, most], *EDGES))
    shades = {f"{100 * expit(low + z * (high - low)):.1f} %": shade(z)[0] for z in (0.0, 0.5, 1.0)}
    entries = {name: Line2D([], [], color=colour, **DOT) for name, colour in shades.items()}
    entries["best"] = Line2D([], [], **RING)
    positions = in_rows(len(parts), columns_for(len(parts)))
    figure, axes = panels(positions, titles, len(entries), x_label=x, y_label=y)
    for ax, part in zip(axes, parts, strict=True):
        colours = [shade(depth(mean, least, most))[0] for mean in part["mean"]]
        across, up = part[f"at {x}"], part[f"at {y}"]
        size = max(72 * side / len({*values}) for side, values in zip(PANEL, (across, up), strict=True))
        many = len(part) > MOST_POINTS
        area = float(np.clip(size, SMALL, LARGE)) ** 2
        points = ax.scatter(across, up, s=area, c=colours, marker="s", linewidths=0, rasterized=many)
        values = {x: across.tolist(), y: up.tolist(), "mean": part["mean"].tolist()}
        mark(ax, [points], options_of(part), metric, across.tolist(), up.tolist(), values)
        ax.plot(part[f"best {x}"].iloc[:1], part[f"best {y}"].iloc[:1], **RING)
    share_value_axis(axes, everything[f"at {x}"].tolist())
    share_value_axis(axes, everything[f"at {y}"].tolist(), "y")
    add_legend(figure, entries)
    return figure
