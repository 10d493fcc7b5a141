"""A network looked at: its confusion matrix, its worst errors, and its first weights, as pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fnnexp.reporting.document.blocks import Drawing
from fnnexp.reporting.plots.curves import DARK, HIGH, INK, LOW, ON_DARK, ON_LIGHT, png, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from fnnexp.reporting.sections.mistakes import Looked

MOST_CLASSES = 30
"""Of more classes no confusion matrix is drawn: its counts could not be read."""

GALLERY = (4, 8)
"""Rows and columns of the worst errors."""

UNITS, ACROSS = 100, 10
"""At most so many hidden units are drawn, so many beside each other."""

CLIP = 99.5
"""The percentile of the weights' sizes at which their shades end, so that a few do not pale the rest."""

NEGATIVE, ZERO, POSITIVE = (0.03, 0.19, 0.42), (0.66, 0.66, 0.66), (1.0, 0.93, 0.72)
"""Dark to light also without colour: a grey print still tells the sign."""


def drawings(looked: Looked) -> tuple[list[Drawing], list[str]]:
    """Return the figures of a trial's mistakes and weights, and a sentence for each that can't be drawn."""
    side = math.isqrt(looked.images.shape[1])
    square = side * side == looked.images.shape[1]
    made: list[tuple[str, str, Figure]] = []
    missing = []
    if looked.classes <= MOST_CLASSES:
        made.append(("confusion", CONFUSION, confusion_matrix(looked)))
    else:
        missing.append(f"A matrix of {looked.classes} classes can't be read as a figure: see confusion.csv.")
    if not square:
        missing.append(
            f"An input of {looked.images.shape[1]} numbers is no square image, so neither mistakes nor "
            "weights are drawn."
        )
    elif len(looked.wrong):
        made.append(("worst_errors", _gallery_caption(looked), gallery(looked, side)))
    if square:
        made.append(("first_weights", _weights_caption(looked), first_weights(looked.W1, side)))
    return [
        Drawing("mistakes", name, "", caption, svg(figure, name.replace("_", " ")), png(figure))
        for name, caption, figure in made
    ], missing


CONFUSION = (
    "How many images of each real class (rows) are said to be of each class (columns). The shades are of the"
    " mistakes alone; at the right, how many percent of the class are right."
)


def confusion_matrix(looked: Looked) -> Figure:
    """Return the counts, real class down and predicted across: right ones plain, mistakes shaded."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from fnnexp.reporting.sections.mistakes import confusion

    counts, n = confusion(looked).to_numpy(), looked.classes
    cell, left, top, right, bottom = (0.52, 0.34), 0.5, 0.5, 0.7, 0.1
    width, height = left + n * cell[0] + right, top + n * cell[1] + bottom
    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0)
    place = (left / width, bottom / height, n * cell[0] / width, n * cell[1] / height)
    ax = figure.add_axes(place, xlim=(0, n), ylim=(n, 0))
    _bare(ax)
    worst = int((counts - np.diag(np.diag(counts))).max())
    middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5}
    for real in range(n):
        for said in range(n):
            count, at = int(counts[real, said]), (said + 0.5, real + 0.5)
            if real == said:
                box: dict[str, Any] = {"facecolor": "none", "edgecolor": INK, "linewidth": 0.7, "alpha": 0.45}
                ink = INK
            elif not count:
                ax.text(*at, "·", color=INK, alpha=0.5, **middle)
                continue
            else:
                part = count / worst
                colour = tuple(a + (b - a) * part for a, b in zip(LOW, HIGH, strict=True))
                box, ink = {"facecolor": colour, "linewidth": 0}, ON_DARK if part > DARK else ON_LIGHT
            ax.add_patch(Rectangle((said + 0.03, real + 0.04), 0.94, 0.92, **box))
            ax.text(*at, f"{count:,}", color=ink, **middle)
        total = int(counts[real].sum())
        share = f"{100 * counts[real, real] / total:.1f}" if total else "–"
        ax.text(n + 0.75, real + 0.5, share, color=INK, ha="right", va="center", fontsize=8.5)
    ax.text(n + 0.75, -0.32, "right %", color=INK, ha="right", va="bottom", fontsize=8)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xticks([i + 0.5 for i in range(n)], [str(i) for i in range(n)])
    ax.set_yticks([i + 0.5 for i in range(n)], [str(i) for i in range(n)])
    ax.set_xlabel("said", color=INK, fontsize=9)
    ax.set_ylabel("real", color=INK, fontsize=9)
    return figure


def gallery(looked: Looked, side: int) -> Figure:
    """Return the mistakes of the highest loss as images, each with what it is and what it was said to be."""
    rows, columns = GALLERY
    places = looked.wrong[: rows * columns]
    said = looked.predictions
    ink = 255 - np.asarray(looked.images[places], np.uint8).reshape(len(places), side, side)
    tiles = np.repeat(ink[..., None], 3, axis=3)
    titles = [
        f"real {looked.real[i]}, said {said.said[i]} ({100 * said.probability[i]:.0f}%)" for i in places
    ]
    return _tiled(tiles, columns, tile=1.22, gap=(0.24, 0.3), titles=titles)[0]


def _gallery_caption(looked: Looked) -> str:
    n = min(len(looked.wrong), math.prod(GALLERY))
    which = "All of its mistakes" if n == len(looked.wrong) else f"Its {n} mistakes of the highest loss"
    file = "training" if looked.split == "validation" else "test"
    return (
        f"{which} on {looked.split} images, the worst first, with the class that is right, the class that it "
        f"says, and that one's probability. mistakes.csv has all, with their rows in the {file} file."
    )


def first_weights(W1: NDArray[Any], side: int) -> Figure:
    """Return each hidden unit's weights as an image, the largest norm first, on one symmetric scale."""
    shown = _by_norm(W1)[:UNITS]
    limit = _limit(W1)
    tiles = _shades(W1[:, shown].T.reshape(len(shown), side, side), limit)
    columns = min(ACROSS, len(shown))
    figure, bottom = _tiled(tiles, columns, tile=0.82, gap=(0.1, 0.1), below=0.62)
    width, height = figure.get_size_inches()
    ax = figure.add_axes((0.35 / width, (bottom - 0.3) / height, 2.6 / width, 0.14 / height))
    _bare(ax)
    ramp = _shades(np.linspace(-1.0, 1.0, 256)[None, :], 1.0)
    ax.imshow(ramp, aspect="auto", extent=(-1, 1, 0, 1), interpolation="none")
    ax.set_xticks([-1, 0, 1], [f"−{limit:.2g}", "0", f"{limit:.2g}"])
    ax.set_yticks([])
    return figure


def _weights_caption(looked: Looked) -> str:
    n, shown = looked.W1.shape[1], min(looked.W1.shape[1], UNITS)
    which = f"the {n} hidden units" if n <= UNITS else f"{shown} of the {n} hidden units"
    return (
        f"The weights into {which} of the first layer, a unit an image, the largest norm first; dark is "
        f"negative, light positive, on one scale that ends at the {CLIP}th percentile of their size. A pixel "
        "that is 0 in all training images gives no gradient: there each weight is as it was drawn."
    )


def _by_norm(W: NDArray[Any]) -> NDArray[np.intp]:
    """Return the units (columns of W), the largest norm first."""
    return np.argsort(-np.linalg.norm(W.astype(np.float64), axis=0), kind="stable")


def _limit(W: NDArray[Any]) -> float:
    return float(np.percentile(np.abs(W), CLIP)) or float(np.abs(W).max()) or 1.0


def _shades(values: NDArray[Any], limit: float) -> NDArray[np.uint8]:
    """Return values (…) as colours (…, 3), 0 in the middle, ± limit at the ends."""
    at = np.clip(values.astype(np.float64) / limit, -1, 1)
    ends = [np.interp(at, (-1, 0, 1), each) for each in zip(NEGATIVE, ZERO, POSITIVE, strict=True)]
    return np.round(255 * np.stack(ends, axis=-1)).astype(np.uint8)


def _tiled(
    tiles: NDArray[np.uint8],
    columns: int,
    *,
    tile: float,
    gap: tuple[float, float],
    titles: list[str] | None = None,
    below: float = 0.1,
) -> tuple[Figure, float]:
    """Return a figure of square images (n, S, S, 3), some inches wide each, and where the last row ends.

    All are one picture with nothing between them, so that a hundred cost what one does.
    """
    from matplotlib.figure import Figure

    n, side = tiles.shape[:2]
    columns = min(columns, n)
    rows = -(-n // columns)
    over = gap[1] if titles else 0.1
    width = columns * (tile + gap[0]) + 0.1
    height = over + rows * tile + (rows - 1) * gap[1] + below
    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0)
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    _bare(ax)
    ax.set_axis_off()
    per = side / tile  # pixels an inch
    step = (round(side + gap[0] * per), round(side + gap[1] * per))
    whole = np.zeros((side + (rows - 1) * step[1], side + (columns - 1) * step[0], 4), np.uint8)
    left, top = gap[0] / 2 + 0.05, height - over
    for i, image in enumerate(tiles):
        y, x = (i // columns) * step[1], (i % columns) * step[0]
        whole[y : y + side, x : x + side, :3] = image
        whole[y : y + side, x : x + side, 3] = 255
        if titles:
            at = (left + (x + side / 2) / per, top - y / per + 0.05)
            ax.text(*at, titles[i], color=INK, fontsize=7.5, ha="center", va="bottom")
    high, wide = whole.shape[0] / per, whole.shape[1] / per
    ax.imshow(whole, extent=(left, left + wide, top - high, top), aspect="auto", interpolation="none")
    ax.set(xlim=(0, width), ylim=(0, height))
    return figure, top - high


def _bare(ax: Axes) -> None:
    ax.patch.set_alpha(0)
    ax.spines[:].set_visible(False)
    ax.tick_params(colors=INK, labelsize=8, length=0)
