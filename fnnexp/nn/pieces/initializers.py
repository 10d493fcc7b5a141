"""Initializers: a standard deviation for each method, and the draw that it scales.

The unit normal draws depend on (seed, layer) only, so two methods with one seed start from the same
directions and differ by scale alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.rng import generator

STANDARD_DEVIATIONS: dict[str, Callable[[int, int], float]] = {
    "max": lambda n_in, n_out: 1 / max(n_in, n_out),
    "sqrtmax": lambda n_in, n_out: 1 / math.sqrt(max(n_in, n_out)),
    # What the compared programs call Xavier; textbooks call it LeCun's (LeCun et al. 1998).
    "xavier": lambda n_in, n_out: 1 / math.sqrt(n_in),
    # What the compared programs call He; the textbook's form is he_normal.
    "he": lambda n_in, n_out: 2 / math.sqrt(n_in),
    "he2": lambda n_in, n_out: 2 / math.sqrt(n_in + n_out),
    # Glorot & Bengio 2010, eq. 12; He et al. 2015, eq. 10.
    "glorot_normal": lambda n_in, n_out: math.sqrt(2 / (n_in + n_out)),
    "he_normal": lambda n_in, n_out: math.sqrt(2 / n_in),
}
"""The methods whose scale follows from a layer's shape (n_in, n_out)."""

METHODS = (*STANDARD_DEVIATIONS, "normal")


def standard_deviation(method: str, n_in: int, n_out: int, std: float | None = None) -> float:
    """Return the standard deviation of one layer's weights.

    Parameters
    ----------
    method
        One of :data:`METHODS`.
    n_in, n_out
        The layer's inputs and units.
    std
        The constant of ``normal``; the other methods ignore it.

    >>> standard_deviation("he", 784, 100)
    0.07142857142857142
    """
    if method == "normal":
        if std is None:
            raise ValueError("the initializer 'normal' needs its std")
        return std
    return STANDARD_DEVIATIONS[method](n_in, n_out)


def draw(seed: int, purpose: str, layer: int, shape: tuple[int, ...], std: float) -> NDArray[Any]:
    """Return N(0, std²) draws in float64: the unit draws of (seed, purpose, layer), scaled."""
    return generator(seed, purpose, layer).standard_normal(shape) * np.float64(std)
