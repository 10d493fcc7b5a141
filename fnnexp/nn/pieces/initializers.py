"""Initializers: formulas for the standard deviation of a layer's weights, and the normal draws they scale.

The unit normal draws depend on (seed, layer) only. So with the same seed, two methods start from the same
directions and differ in scale alone. To add a method, enter its formula in :data:`INITIALIZERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.rng import generator

INITIALIZERS: dict[str, Callable[[int, int], float] | None] = {
    "max": lambda n_in, n_out: 1 / max(n_in, n_out),
    "sqrtmax": lambda n_in, n_out: 1 / math.sqrt(max(n_in, n_out)),
    # The published programs call this Xavier; textbooks call it LeCun's initializer (LeCun et al. 1998).
    "xavier": lambda n_in, n_out: 1 / math.sqrt(n_in),
    # The published programs call this He; the textbook formula is he_normal.
    "he": lambda n_in, n_out: 2 / math.sqrt(n_in),
    "he2": lambda n_in, n_out: 2 / math.sqrt(n_in + n_out),
    # Glorot & Bengio 2010, eq. 12; He et al. 2015, eq. 10.
    "glorot_normal": lambda n_in, n_out: math.sqrt(2 / (n_in + n_out)),
    "he_normal": lambda n_in, n_out: math.sqrt(2 / n_in),
    "normal": None,
}
"""The methods. The keys are the allowed values of ``init.method``. A formula returns the standard deviation
of a layer from its numbers of inputs and units, n_in and n_out. ``normal`` has no formula: its standard
deviation is the constant ``init.std``."""


def standard_deviation(method: str, n_in: int, n_out: int, std: float | None = None) -> float:
    """Return the standard deviation of one layer's weights.

    Parameters
    ----------
    method
        A key of :data:`INITIALIZERS`.
    n_in, n_out
        The layer's numbers of inputs and units.
    std
        The standard deviation for ``normal``; the other methods ignore it.

    >>> standard_deviation("he", 784, 100)
    0.07142857142857142
    """
    formula = INITIALIZERS[method]
    if formula is not None:
        return formula(n_in, n_out)
    if std is None:
        raise ValueError(f"the initializer '{method}' needs a standard deviation; pass std")
    return std


def draw(seed: int, purpose: str, layer: int, shape: tuple[int, ...], std: float) -> Array:
    """Return N(0, std²) draws in float64: unit normal draws for (seed, purpose, layer), times std."""
    return generator(seed, purpose, layer).standard_normal(shape) * np.float64(std)
