"""The learning rate over the epochs: one line for each schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from fnnexp.nn.pieces.schedules import factors
from fnnexp.reporting.plots.layout import add_legend, panels
from fnnexp.reporting.plots.style import STROKE, style

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fnnexp.nn.pieces.schedules import Schedule
    from fnnexp.reporting.plots.picture import Picture

POINTS = 100
"""How many steps of an epoch are drawn; a run has its own number."""


def learning_rates(lines: Mapping[str, tuple[float, Schedule, int]]) -> Picture:
    """Return a figure of learning rates, each given by its label: the initial rate, schedule and epochs."""
    figure, (ax,) = panels([(0, 0)], [""], 2 * len(lines), y_label="learning rate")
    entries = {}
    for i, (label, (lr, schedule, epochs)) in enumerate(lines.items()):
        steps = POINTS * epochs
        stroke = STROKE | style(i, i)._asdict() | {"marker": ""}
        ax.plot(np.arange(steps) / POINTS, lr * factors(schedule, 0, steps, steps, POINTS), **stroke)
        entries[label] = Line2D([], [], **stroke)
    ax.set_ylim(bottom=0)
    add_legend(figure, entries, columns=1)
    return figure
