"""Accuracy against training time: one point per configuration, one panel per architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from fnnexp.reporting import averages
from fnnexp.reporting.plots.curves import axis_title
from fnnexp.reporting.plots.layout import add_legend, columns_for, in_rows, panels
from fnnexp.reporting.plots.picture import mark
from fnnexp.reporting.plots.scales import EDGES, share_time_axis, share_y_axis
from fnnexp.reporting.plots.style import INK, STROKE, styles_in
from fnnexp.results.factors import AXES

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.reporting.plots.picture import Picture

FILLS = ("none", "full", "bottom", "left", "top", "right")  # the fill of a marker shows the batching mode


def against_time(runs: pd.DataFrame, metric: str) -> Picture | None:
    """Return a figure with a point for each configuration: its mean accuracy at its training time in seconds.

    A bar shows the 95% interval of the mean. The marker shows the initializer, as in all figures, and its
    fill shows the batching mode. There is a panel for each architecture. Return None if no finished trial has
    a recorded time.
    """
    means = averages.with_both_seeds(averages.of_ends(runs, metric)).dropna(subset="time")
    means = means[means["time"] > 0]
    if means.empty:
        return None
    strokes = {
        name: STROKE | {"color": style.color, "marker": style.marker, "linestyle": ""}
        for name, style in styles_in(means["init"]).items()
    }
    batchings = means["batching"].cat.remove_unused_categories().cat.categories
    fills = {name: {"fillstyle": FILLS[i % len(FILLS)]} for i, name in enumerate(batchings)}
    shown = fills if len(fills) > 1 else {}
    groups = list(means.groupby("arch", observed=True))
    figure, axes = panels(
        in_rows(len(groups), columns_for(len(groups))),
        [str(arch) for arch, _ in groups],
        len(strokes) + len(shown),
        x_label="seconds of training",
        y_label=axis_title(metric),
    )
    for ax, (_, panel) in zip(axes, groups, strict=True):
        for row in panel.to_dict("records"):
            stroke = strokes[row["init"]] | fills[row["batching"]]
            low, mean, high = np.clip([row["low"], row["mean"], row["high"]], *EDGES)
            bar = ax.vlines(row["time"], low, high, color=stroke["color"], linewidth=1, alpha=0.6)
            points = ax.plot([row["time"]], [mean], **stroke)
            values = {"seconds": [row["time"]], **{name: [row[name]] for name in ("mean", "low", "high")}}
            options = {axis: str(row[axis]) for axis in AXES}
            mark(ax, [bar, *points], options, metric, [row["time"]], [mean], values)
    share_time_axis(axes, means["time"])
    cut = share_y_axis(axes, means)
    any_init = STROKE | {"color": INK, "marker": "o", "linestyle": ""}
    entries = {name: Line2D([], [], **stroke) for name, stroke in strokes.items()}
    entries |= {name: Line2D([], [], **any_init | fill) for name, fill in shown.items()}
    add_legend(figure, entries)
    figure.notes += averages.about_spread(means, "Bars", "Bars join") + cut
    if shown:
        figure.notes.append("The fill of a marker shows the batching mode.")
    return figure
