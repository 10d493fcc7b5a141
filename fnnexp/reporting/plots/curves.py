"""Figures of lines: metrics and learning rates by epoch, and the best result of tuning by its trials."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from fnnexp.nn.pieces.schedules import factors
from fnnexp.reporting import averages
from fnnexp.reporting.plots.layout import (
    COLUMNS,
    add_legend,
    columns_for,
    draw_band,
    in_rows,
    legend_lines,
    options_of,
    panels,
)
from fnnexp.reporting.plots.picture import mark
from fnnexp.reporting.plots.scales import EDGES, LEAST_LOSS, share_y_axis
from fnnexp.reporting.plots.style import INK, SMALLEST, STROKE, styles, styles_in
from fnnexp.reporting.plots.style import style as style_of
from fnnexp.results.factors import AXES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes

    from fnnexp.nn.pieces.schedules import Schedule
    from fnnexp.reporting.plots.picture import Picture
    from fnnexp.reporting.plots.style import Style

UNIFORM_LOSS = math.log(10)  # cross-entropy of a uniform guess over ten classes


def curves(runs: pd.DataFrame, curves: pd.DataFrame, metric: str, *, across: int = COLUMNS) -> Picture | None:
    """Return a figure of a metric's curves, the means over seeds with their 95% intervals, or with two seeds.

    There is one panel per architecture and batching mode. Two or three batching modes are the columns of a
    grid whose rows are the architectures; otherwise the panels fill rows.

    Parameters
    ----------
    runs
        The trials to draw, which differ in no other factors than arch, init and batching.
    curves
        The curves of these trials; curves of other trials are ignored.
    metric
        A metric that is recorded in each epoch, such as `val_loss`. A loss axis is cut where a few curves
        would flatten the rest; curves that end above it are listed.
    across
        The largest number of panels in a row, unless the columns are batching modes.

    Returns
    -------
    Picture or None
        None if the metric was not recorded.
    """
    points = averages.with_both_seeds(averages.of_curves(runs, curves, metric))
    if points.empty:
        return None
    drawn = styles_in(points["init"])
    figure, axes, groups = by_arch_and_batching(points, len(drawn), y_label=axis_title(metric), across=across)
    top = loss_limit(points) if metric.endswith("loss") else None
    panels_above = [
        _draw_panel(ax, panel, drawn, top, metric) for ax, panel in zip(axes, groups, strict=True)
    ]
    cut = share_y_axis(axes, points, top)
    figure.notes += averages.about_spread(points, "Bands", "Thin lines are") + cut
    if top is None:
        figure.notes.append("The axis is stretched towards 100% (logit), where improvements are hardest.")
    elif points["high"].max() > top:
        listed = "; lines that end above it are listed" * any(panels_above)
        figure.notes.append(f"The axis is cut where a few lines would flatten the others{listed}.")
    add_legend(figure, legend_lines(drawn))
    _mark_trials(axes, groups, averages.of_trials(runs, curves, metric), metric)
    return figure


MOST_OF_TRIALS = 100_000
"""If the trials have more points than this, the page has no curves of single trials."""


def _mark_trials(axes: list[Axes], groups: list[pd.DataFrame], trials: pd.DataFrame, metric: str) -> None:
    """Record the curve of each trial, so that the page can draw it when a reader asks for it.

    `axes` and `groups` are the panels and their points. A line of one trial needs no further curve.
    """
    panel_of = {
        (options["arch"], options["batching"]): ax
        for ax, options in zip(axes, map(options_of, groups), strict=True)
    }
    if len(trials) > MOST_OF_TRIALS or trials.empty:
        return
    for _, line in trials.groupby([*AXES], observed=True):
        options = options_of(line)
        if line["trial"].nunique() < 2:
            continue
        ax = panel_of[options["arch"], options["batching"]]
        for _, curve in line.groupby("trial", sort=False):
            epochs, values = curve["epoch"].tolist(), curve["value"].tolist()
            floor, ceiling = EDGES if metric.endswith("accuracy") else (LEAST_LOSS, math.inf)
            y = curve["value"].clip(floor, ceiling).tolist()
            mark(ax, [], options, metric, epochs, y, {"epoch": epochs, "value": values},
                 single=curve["seeds"].iloc[0])  # fmt: skip


class Grouped(NamedTuple):
    """A figure, the axes of its panels, and the points of each panel."""

    figure: Picture
    axes: list[Axes]
    points: list[pd.DataFrame]


def by_arch_and_batching(
    points: pd.DataFrame,
    legend_entries: int,
    *,
    x_label: str = "epoch",
    y_label: str,
    across: int = COLUMNS,
) -> Grouped:
    """Return a figure with an empty panel for each architecture and batching mode, and the points of each.

    The panels are arranged as :func:`curves` says.

    Parameters
    ----------
    points
        A frame with the categorical columns `arch` and `batching`.
    legend_entries, x_label, y_label
        As for :func:`fnnexp.reporting.plots.layout.panels`.
    across
        As for :func:`curves`.
    """
    groups = list(points.groupby(["arch", "batching"], observed=True, sort=True))
    archs, batchings = (
        list(points[axis].cat.remove_unused_categories().cat.categories) for axis in ("arch", "batching")
    )
    if gridded := 1 < len(batchings) <= COLUMNS:
        positions = [(archs.index(arch), batchings.index(batching)) for (arch, batching), _ in groups]
        titles = [str(batching) for (_, batching), _ in groups]
    else:
        across = min(columns_for(len(groups)), across)
        positions = in_rows(len(groups), across)
        one_mode = len(batchings) == 1
        titles = [str(arch) if one_mode else f"{arch} · {batching}" for (arch, batching), _ in groups]
    figure, axes = panels(
        positions, titles, legend_entries, x_label=x_label, y_label=y_label, headers=archs if gridded else ()
    )
    return Grouped(figure, axes, [part for _, part in groups])


def axis_title(metric: str) -> str:
    """Return the label of an axis for this metric.

    >>> axis_title("val_accuracy"), axis_title("train_loss")
    ('val accuracy %', 'train loss')
    """
    return metric.replace("_", " ") + (" %" if metric.endswith("accuracy") else "")


def loss_limit(points: pd.DataFrame) -> float:
    """Return an upper limit of the loss axis that cuts lines which end far above most others.

    It is not below the loss of guessing among ten classes, and not above the highest point.
    """
    last = points.sort_values("epoch").groupby(["arch", "batching", "init"], observed=True)["mean"].last()
    return float(min(1.05 * points["high"].max(), max(1.5 * UNIFORM_LOSS, 2 * last.median())))


def _draw_panel(
    ax: Axes, panel: pd.DataFrame, drawn: dict[str, Style], top: float | None, metric: str
) -> bool:
    """Draw the lines of a panel, and return whether it lists lines that end above the axis."""
    first, last = float(panel["epoch"].min()), float(panel["epoch"].max())
    single = first == last
    within = EDGES if top is None else (LEAST_LOSS, 20 * top)
    above = []
    for i, (name, style) in enumerate(drawn.items()):
        line = panel[panel["init"] == name].sort_values("epoch")
        if line.empty:
            continue
        # With one epoch all points have the same x and would overlap.
        x = line["epoch"].to_numpy() + (0.6 * ((i + 0.5) / len(drawn) - 0.5) if single else 0)
        draw_band(ax, x, line, style, i, within=within, quantity=metric, at={"epoch": "epoch"})
        if top is not None and line["mean"].iloc[-1] > top:
            above.append(f"{name} {line['mean'].iloc[-1]:.3g}")
    if above:
        note = textwrap.fill("final loss above the axis: " + ", ".join(above), 44, max_lines=5)
        corner: dict[str, Any] = {"ha": "right", "va": "top", "transform": ax.transAxes}
        ax.text(0.99, 0.98, note, fontsize=SMALLEST, color=INK, parse_math=False, **corner)
    if single:
        ax.set_xticks([first])
        ax.set_xlim(first - 0.5, first + 0.5)
    return bool(above)


POINTS = 100
"""How many points of a learning rate are drawn for each epoch, whatever the number of steps in the trials."""

MOST_SHOWN = 100
"""About how many points of a line show their values on the page."""


def best_found(points: pd.DataFrame, metric: str, factor: str = "") -> Picture:
    """Return a figure of the best result that tuning has found, by the number of tuning trials.

    Parameters
    ----------
    points
        The columns `level` (the name of a tuned option, which gets a line), `trials` (the number of tuning
        trials) and `best` (the mean over seeds of the best configuration among so many trials).
    metric
        The ranking metric.
    factor
        The factor whose options were tuned; "" if several factors were compared together.
    """
    drawn = styles(list(dict.fromkeys(points["level"])))
    figure, (ax,) = panels(
        [(0, 0)], [""], len(drawn), x_label="tuning trials", y_label=f"best mean {axis_title(metric)}"
    )
    for name, style in drawn.items():
        line = points[points["level"] == name]
        drawing = ax.plot(line["trials"], line["best"], **STROKE | style._asdict())
        trials, best = line["trials"].tolist(), line["best"].tolist()
        values: dict[str, list[Any]] = {} if factor else {"options": [name] * len(line)}
        values |= {"trials": trials, "best": best}
        options = {factor: name} if factor else {}
        mark(ax, drawing, options, f"best mean {metric}", trials, best, values)
    if metric.endswith("accuracy"):
        share_y_axis([ax], points.assign(mean=points["best"], low=points["best"], high=points["best"]))
    add_legend(figure, legend_lines(drawn))
    return figure


def learning_rates(lines: Mapping[str, tuple[float, Schedule, int]]) -> Picture:
    """Return a figure of learning rates by epoch.

    `lines` has the initial rate, the schedule and the number of epochs of each line, by its label.
    """
    figure, (ax,) = panels([(0, 0)], [""], 2 * len(lines), y_label="learning rate")
    entries = {}
    for i, (label, (lr, schedule, epochs)) in enumerate(lines.items()):
        steps = POINTS * epochs
        stroke = STROKE | style_of(i, i)._asdict() | {"marker": ""}
        x, y = np.arange(steps) / POINTS, lr * factors(schedule, 0, steps, steps, POINTS)
        drawing = ax.plot(x, y, **stroke)
        shown = slice(None, None, max(1, steps // MOST_SHOWN))
        at, rates = x[shown].tolist(), y[shown].tolist()
        mark(ax, drawing, {"schedule": label}, "learning rate", at, rates, {"epoch": at, "lr": rates})
        entries[label] = Line2D([], [], **stroke)
    ax.set_ylim(bottom=0)
    add_legend(figure, entries, columns=1)
    return figure
