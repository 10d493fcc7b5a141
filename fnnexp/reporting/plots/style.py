"""The style of all figures: one style per initializer, and the colours of shaded cells.

Text and axes have the colour of the page (`currentColor`), so one SVG suits light and dark themes.
Initializers also differ in marker and dashes, so that figures are readable without colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

KNOWN = (
    "max", "sqrtmax", "xavier", "he", "he2", "normal", "glorot_normal", "he_normal",
    "glorot_uniform", "he_uniform", "uniform", "lecun_normal", "lecun_uniform", "truncated_normal",
    "orthogonal", "zeros",
)  # fmt: skip
"""Initializers with a fixed style, so that reports can be compared. Any others get the next styles."""

# Each colour has a contrast of at least 3 : 1 on a white page and on a dark page. The distance (CIEDE2000) of
# any two is at least 12, and at least 5 as seen with protanopia, deuteranopia or tritanopia (Machado et al.
# 2009); that of any two of the first eight is at least 20, and at least 8.
COLOURS = (
    "#0084e4", "#c07824", "#0c9c6c", "#e45460", "#786ca8", "#787848", "#d8189c", "#307884",
    "#00780c", "#2460f0", "#849090", "#cc2424", "#a8486c", "#a884c0", "#8448c0", "#606c6c",
)  # fmt: skip
GREY = "#747b85"  # the colour of lines and bars that stand for no option
MARKERS: tuple[Any, ...] = (
    "o", "s", "^", "D", "v", "p", "X", "*", "<", ">", "d", "P", "h", "8", "H",
    (4, 1, 0), (3, 1, 0), (6, 1, 0), (3, 1, 60), (5, 1, 180),
)  # fmt: skip
"""Markers that can be filled, because the fill has a meaning in some figures. Tuples are stars."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
STROKE: dict[str, Any] = {"linewidth": 1.4, "markersize": 4.5, "markeredgewidth": 1.2, "fillstyle": "none"}
INK = "#010203"  # a placeholder: the SVG has the text colour of its page instead

SMALLEST = 8.5  # the smallest font, in typographic points; 11 pixels on the page

LIGHTEST, DARKEST = (0.91, 0.95, 0.99), (0.05, 0.24, 0.47)
ON_LIGHT, ON_MIDDLE, ON_DARK = "#000001", "#000002", "#fffffe"  # colours of the numbers in cells
BEST = "#d9730d"  # the colour of the frame of the best cell
DARK = 0.67  # cells darker than this (0 lightest, 1 darkest) have white numbers


class Style(NamedTuple):
    """The colour, the marker and the dashes of an initializer, the same in all figures."""

    color: str
    marker: Any
    linestyle: Any


def styles(inits: Sequence[str]) -> dict[str, Style]:
    """Return the style of each initializer by its label; `normal std=0.3` has the colour of `normal`.

    >>> styles(["he", "mine"])["he"] == styles(["max", "he"])["he"]
    True
    """
    order = list(dict.fromkeys([*KNOWN, *inits]))
    families = list(dict.fromkeys(name.partition(" ")[0] for name in order))
    return {name: style(families.index(name.partition(" ")[0]), order.index(name)) for name in inits}


def styles_in(inits: pd.Series) -> dict[str, Style]:
    """Return the styles of the initializers in a categorical column, in the order of the categories."""
    present = set(inits)
    return {name: style for name, style in styles(list(inits.cat.categories)).items() if name in present}


def style(family: int, i: int) -> Style:
    """Return the style of the i-th line; lines of one family (an initializer) share a colour."""
    return Style(
        COLOURS[family % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[(i + i // 8) % len(DASHES)]
    )


def shade(depth: float) -> tuple[str, str]:
    """Return the colour of a cell with a depth from 0 (lightest) to 1 (darkest), and of the number in it."""
    ink = ON_DARK if depth > DARK else ON_LIGHT if depth < 1 - DARK else ON_MIDDLE
    return _level(round(STEPS * depth)), ink


STEPS = 100
"""The number of steps from the lightest to the darkest shade."""


def _level(step: int) -> str:
    colour = (a + (b - a) * step / STEPS for a, b in zip(LIGHTEST, DARKEST, strict=True))
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


SHADES = {_level(step): (f"s{step}", _level(STEPS - step)) for step in range(STEPS + 1)} | {
    ON_LIGHT: ("weak", ON_DARK),
    ON_MIDDLE: ("middle", ON_MIDDLE),
    ON_DARK: ("strong", ON_LIGHT),
}
"""A name for each colour of cells and of their numbers, and the colour that replaces it on a dark page."""
