"""Images and points drawn with ASCII characters, for terminals of 80 columns."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fnnexp.console import fitted, padded
from fnnexp.data.labelled import Numbers

ACROSS, LINES, GAP = 4, 9, 2
"""Images side by side, lines of an image at most, and columns between two images. A character is twice as
high as wide, so an image has twice as many columns as lines."""

SHADES = " .:-=+*#%@"
"""Characters from dark to light on a dark terminal."""

CANVAS = (64, 20)
"""Columns and lines of the plane in which points are drawn."""

NAMES = string.digits + string.ascii_lowercase
"""The character of each class; further classes are `?`."""


def images(pixels: NDArray[np.uint8], titles: Sequence[str]) -> list[str]:
    """Return lines of text that draw images (n, S, S) in characters, each below its title.

    The lightest part of each image has the lightest character.

    >>> images(np.array([[[255, 0], [0, 0]]], np.uint8), ["7"])
    ['7', '@@', '']
    """
    lines = min(pixels.shape[1], LINES)
    drawn = [_image(image, lines) for image in pixels]
    width, text = 2 * lines + GAP, []
    for start in range(0, len(drawn), ACROSS):
        row = slice(start, start + ACROSS)
        text.append("".join(padded(fitted(title, width - GAP), width) for title in titles[row]))
        text += ["".join(line.ljust(width) for line in parts) for parts in zip(*drawn[row], strict=True)]
        text.append("")
    return [line.rstrip() for line in text[:-1]]


def _image(image: NDArray[np.uint8], lines: int) -> list[str]:
    side = len(image)
    means = _shares(side, lines) @ image.astype(np.float64) @ _shares(side, 2 * lines).T
    levels = np.rint(means * ((len(SHADES) - 1) / max(float(means.max()), 1e-9))).astype(np.intp)
    return ["".join(SHADES[level] for level in line) for line in levels.tolist()]


def _shares(pixels: int, parts: int) -> NDArray[np.float64]:
    """Return a matrix (parts, pixels) that shrinks a line of pixels: each part is the mean of its pixels.

    A pixel on the edge of two parts belongs to both, in proportion.
    """
    edges = np.linspace(0, pixels, parts + 1)
    covered = np.clip(edges[:, None] - np.arange(pixels), 0, 1)  # how much of each pixel is before each edge
    shares: NDArray[np.float64] = np.diff(covered, axis=0) * (parts / pixels)
    return shares


def points(x: Numbers, labels: NDArray[np.uint8]) -> list[str]:
    """Return lines of text that draw points x (n, 2) in the plane, with the ends of both axes.

    A character stands for the class that most points at its place have: 0 to 9, then a to z.
    """
    columns, lines = CANVAS
    low, high = x.min(axis=0).astype(float), x.max(axis=0).astype(float)
    place = (x - low) / np.where(high > low, high - low, 1) * (np.array(CANVAS) - 1)
    column, line = np.rint(place).astype(np.intp).T
    counts = np.zeros((lines, columns, int(labels.max()) + 1), np.intp)
    np.add.at(counts, (lines - 1 - line, column, labels), 1)
    names = np.array([NAMES[i] if i < len(NAMES) else "?" for i in range(counts.shape[2])])
    drawn = np.where(counts.any(axis=2), names[counts.argmax(axis=2)], " ")
    left, right, bottom, top = (
        f"{value:.3g}".replace("-", "−") for value in (low[0], high[0], low[1], high[1])
    )
    margin = max(len(top), len(bottom))
    edge = {0: top, lines - 1: bottom}
    text = [f"{edge.get(i, ''):>{margin}} |{''.join(row).rstrip()}" for i, row in enumerate(drawn)]
    axis = left + right.rjust(columns - len(left))
    return [*text, f"{'':{margin}} +{'-' * columns}", f"{'':{margin}}  {axis}"]
