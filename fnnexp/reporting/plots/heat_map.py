"""A heat map: the mean over seeds of each architecture, initializer and batching mode."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logit

from fnnexp.reporting.plots import averages
from fnnexp.reporting.plots.layout import bare, in_rows, set_title
from fnnexp.reporting.plots.picture import Picture
from fnnexp.reporting.plots.scales import EDGES
from fnnexp.reporting.plots.style import INK, shade

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

WIDEST = 12.5  # inches, which a page shows at its own width
CELL = (0.82, 0.36)  # inches


def heat_map(runs: pd.DataFrame, metric: str, *, widest: float = WIDEST) -> Picture | None:
    """Return the mean over seeds of each arch × init × batching, a panel a batching, its number in each cell.

    `runs` are of one combination of the factors other than these three; as many panels stand beside each
    other as `widest` inches take. None if no trial finished.
    """
    means = averages.of_ends(runs, metric)
    if means.empty:
        return None
    archs, inits, batchings = (list(means[axis].cat.categories) for axis in ("arch", "init", "batching"))
    least, most = float(means["mean"].min()), float(means["mean"].max())
    label = 0.09 * max(map(len, archs)) + 0.25
    tilt = max(map(len, inits)) > 9
    top = 0.65 + (0.06 * max(map(len, inits)) if tilt else 0)
    panel = (CELL[0] * len(inits), CELL[1] * len(archs))
    step = (panel[0] + 0.3, panel[1] + top + 0.1)
    columns = max(1, min(len(batchings), int((widest - label) / step[0])))
    rows = -(-len(batchings) // columns)
    width, height = label + columns * step[0], rows * step[1]
    figure = Picture(figsize=(width, height), facecolor="none")
    values = means.set_index(["batching", "arch", "init"])["mean"].to_dict()
    for (row, column), batching in zip(in_rows(len(batchings), columns), batchings, strict=True):
        x, y = label + column * step[0], height - (row + 1) * step[1] + 0.1
        ax = figure.add_axes((x / width, y / height, panel[0] / width, panel[1] / height))
        _draw_cells(ax, [[values.get((batching, a, n), math.nan) for n in inits] for a in archs], least, most)
        set_title(ax, batching)
        ax.xaxis.tick_top()
        turned: dict[str, Any] = {"rotation": 30, "ha": "left"} if tilt else {}
        ax.set_xticks([j + 0.5 for j in range(len(inits))], inits, parse_math=False, **turned)
        shown = archs if column == 0 else [""] * len(archs)
        ax.set_yticks([j + 0.5 for j in range(len(archs))], shown, parse_math=False)
    return figure


def _draw_cells(ax: Axes, rows: Sequence[Sequence[float]], least: float, most: float) -> None:
    from matplotlib.patches import Rectangle

    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5}
            if math.isnan(value):
                ax.text(x + 0.5, y + 0.5, "–", color=INK, **middle)
                continue
            z, low, high = logit(np.clip([value, least, most], *EDGES))
            colour, ink = shade((z - low) / (high - low) if high > low else 0.0)
            ax.add_patch(Rectangle((x + 0.02, y + 0.03), 0.96, 0.94, facecolor=colour, linewidth=0))
            ax.text(x + 0.5, y + 0.5, f"{100 * value:.1f}", color=ink, **middle)
    ax.set(xlim=(0, len(rows[0])), ylim=(len(rows), 0))
    bare(ax)
