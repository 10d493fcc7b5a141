"""Figures of one network: its confusion matrix, misclassified images, and the weights of its first layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Rectangle

from fnnexp.nn.arrays import Array
from fnnexp.reporting.plots.heat_map import WIDEST
from fnnexp.reporting.plots.layout import bare
from fnnexp.reporting.plots.picture import Picture, mark
from fnnexp.reporting.plots.rows import classes
from fnnexp.reporting.plots.style import INK, SMALLEST, shade

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

CLIP = 99.5
"""The percentile of absolute weights at which the scale ends, so that outliers do not make the rest pale."""

NAME, MOST_WIDE = 16, 6.0
"""Characters of the name of a class beside a matrix. Above it, names are turned if the columns would
together be wider than this, in inches."""

SHARES = 0.83
"""How far to the right of a matrix the column of percentages ends, in inches. Its head touches no name."""

CHARACTER, LINE = 0.068, 0.14  # the width of a character and the height of a line, in inches

NEGATIVE, ZERO, POSITIVE = (0.03, 0.19, 0.42), (0.66, 0.66, 0.66), (1.0, 0.93, 0.72)
"""These colours run from dark to light, so a print in grey still shows the sign."""

LEVELS = 24
"""The steps from 0 to each end of the scale. With more, images of noise are several times as large."""


def confusion_matrix(counts: NDArray[np.int64], things: str = "rows", names: Sequence[str] = ()) -> Picture:
    """Return a figure of a confusion matrix: counts (C, C), a row per real class, with shaded mistakes.

    `things` is a noun for what is counted. `names` are the names of the classes, if they have names.
    """
    n = len(counts)
    labels: list[str] = classes.titles(names, n, NAME)
    hovered: Sequence[Any] = list(names) if names else range(n)
    longest = CHARACTER * max(map(len, labels))
    turned = n * max(longest + 0.16, 0.52) > MOST_WIDE and longest > 0.4
    cell, bottom = (0.52 if turned else max(longest + 0.16, 0.52), 0.34), 0.1
    left, top, right = 0.36 + max(longest, 0.14), 0.5 + longest * turned, SHARES + 0.07
    if n * cell[0] > (room := WIDEST - left - right):
        letters = max(len(f"{counts.max():,}"), 0 if turned else max(map(len, labels)))
        cell = (max(room / n, CHARACTER * letters + 0.08), cell[1])
    width, height = left + n * cell[0] + right, top + n * cell[1] + bottom
    figure = Picture(figsize=(width, height), facecolor="none")
    place = (left / width, bottom / height, n * cell[0] / width, n * cell[1] / height)
    ax = figure.add_axes(place, xlim=(0, n), ylim=(n, 0))
    bare(ax)
    worst = int((counts - np.diag(np.diag(counts))).max())
    middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5}
    for real in range(n):
        for predicted in range(n):
            count, position = int(counts[real, predicted]), (predicted + 0.5, real + 0.5)
            numbers = {"real": [hovered[real]], "predicted": [hovered[predicted]], "count": [count]}
            mark(ax, [], {}, things, [position[0]], [position[1]], numbers, size=(1, 1))
            box: dict[str, Any] = {"facecolor": "none", "edgecolor": INK, "linewidth": 0.7, "alpha": 0.45}
            ink = INK
            if real != predicted:
                if not count:
                    ax.text(*position, "·", color=INK, alpha=0.7, **middle)
                    continue
                colour, ink = shade(count / worst)
                box = {"facecolor": colour, "linewidth": 0}
            ax.add_patch(Rectangle((predicted + 0.03, real + 0.04), 0.94, 0.92, **box))
            ax.text(*position, f"{count:,}", color=ink, **middle)
        total = int(counts[real].sum())
        share = f"{100 * counts[real, real] / total:.1f}" if total else "–"
        ax.text(n + SHARES / cell[0], real + 0.5, share, color=INK, ha="right", va="center", fontsize=8.5)
    ax.text(n + SHARES / cell[0], -0.32, "correct %", color=INK, ha="right", va="bottom", fontsize=SMALLEST)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ticks = [i + 0.5 for i in range(n)]
    ax.set_xticks(ticks, labels, parse_math=False, rotation=90 if turned else 0)
    ax.set_yticks(ticks, labels, parse_math=False)
    ax.set_xlabel("predicted", color=INK, fontsize=9)
    ax.set_ylabel("real", color=INK, fontsize=9)
    return figure


def gallery(
    images: NDArray[np.uint8], titles: Sequence[str], columns: int, values: Mapping[str, Sequence[Any]]
) -> Picture:
    """Return a figure of images (n, S, S) on white, with a title of one or two lines above each.

    The page shows the `values` of an image under the mouse pointer; `values` has lists of n items by name.
    """
    tiles = np.repeat((255 - images)[..., None], 3, axis=3)
    gap = (0.24, 0.3 + LINE * max(title.count("\n") for title in titles))
    return _tiled(tiles, columns, tile=1.22, gap=gap, titles=titles, about=("mistake", values))[0]


def first_weights(W1: Array, side: int, most: int, columns: int) -> Picture:
    """Return a figure of the weights of hidden units as images, the largest norm first, on one scale.

    Parameters
    ----------
    W1
        The weights (D, H), with D = side².
    most, columns
        The largest number of units that are drawn, and the number of units in a row.
    """
    norms = np.linalg.norm(W1.astype(np.float64), axis=0)
    units = np.argsort(-norms, kind="stable")[:most]
    limit = float(np.percentile(np.abs(W1), CLIP)) or float(np.abs(W1).max()) or 1.0
    tiles = _shades(W1[:, units].T.reshape(len(units), side, side), limit)
    about = ("hidden unit", {"unit": units.tolist(), "norm": norms[units].tolist()})
    across = min(columns, len(units))
    figure, bottom = _tiled(tiles, across, tile=0.82, gap=(0.1, 0.1), about=about, below=0.62)
    width, height = figure.get_size_inches()
    ax = figure.add_axes((0.35 / width, (bottom - 0.3) / height, 2.6 / width, 0.14 / height))
    bare(ax)
    ramp = _shades(np.linspace(-1.0, 1.0, 256)[None, :], 1.0)
    ax.imshow(ramp, aspect="auto", extent=(-1, 1, 0, 1), interpolation="none")
    ax.set_xticks([-1, 0, 1], [f"−{limit:.2g}", "0", f"{limit:.2g}"])
    ax.set_yticks([])
    return figure


def _shades(values: Array, limit: float) -> NDArray[np.uint8]:
    """Return values (…) as colours (…, 3), with 0 in the middle and ±limit at the ends of the scale."""
    scaled = np.round(LEVELS * np.clip(values.astype(np.float64) / limit, -1, 1)) / LEVELS
    channels = [np.interp(scaled, (-1, 0, 1), ends) for ends in zip(NEGATIVE, ZERO, POSITIVE, strict=True)]
    return np.round(255 * np.stack(channels, axis=-1)).astype(np.uint8)


def _tiled(
    tiles: NDArray[np.uint8],
    columns: int,
    *,
    tile: float,
    gap: tuple[float, float],
    about: tuple[str, Mapping[str, Sequence[Any]]],
    titles: Sequence[str] = (),
    below: float = 0.1,
) -> tuple[Picture, float]:
    """Return a figure of square images (n, S, S, 3) on a grid, and the height at which its last row ends.

    In inches, an image is `tile` wide, `gap` is the space between columns and between rows, and `below` the
    space under the last row.
    `about` is a noun for an image, and the values that the page shows of each. All images are drawn as one
    transparent image, so a hundred images take no longer than one.
    """
    n, side = tiles.shape[:2]
    columns = min(columns, n)
    rows = -(-n // columns)
    over = gap[1] if titles else 0.1
    per = side / tile  # pixels per inch
    step = (round(side + gap[0] * per), round(side + gap[1] * per))
    width = columns * step[0] / per + 0.1
    height = over + (rows - 1) * step[1] / per + tile + below
    figure = Picture(figsize=(width, height), facecolor="none")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    bare(ax)
    ax.set_axis_off()
    whole = np.zeros((side + (rows - 1) * step[1], side + (columns - 1) * step[0], 4), np.uint8)
    left, top = gap[0] / 2 + 0.05, height - over
    middles: list[tuple[float, float]] = []
    for i, image in enumerate(tiles):
        y, x = (i // columns) * step[1], (i % columns) * step[0]
        whole[y : y + side, x : x + side, :3] = image
        whole[y : y + side, x : x + side, 3] = 255
        middles.append((left + (x + side / 2) / per, top - (y + side / 2) / per))
        if titles:
            position = (left + (x + side / 2) / per, top - y / per + 0.05)
            style: dict[str, Any] = {"fontsize": SMALLEST, "ha": "center", "va": "bottom"}
            ax.text(*position, titles[i], color=INK, parse_math=False, **style)
    high, wide = whole.shape[0] / per, whole.shape[1] / per
    ax.imshow(whole, extent=(left, left + wide, top - high, top), aspect="auto", interpolation="none")
    ax.set(xlim=(0, width), ylim=(0, height))
    what, values = about
    mark(ax, [], {}, what, [x for x, _ in middles], [y for _, y in middles], values, size=(tile, tile))
    return figure, top - high
