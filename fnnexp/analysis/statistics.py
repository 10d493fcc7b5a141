"""Statistics: functions from an array to a number, apart from the drawing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def mean(values: ArrayLike) -> float:
    """Return the arithmetic mean, NaN of nothing.

    >>> mean([0.25, 0.75])
    0.5
    """
    x = np.asarray(values, dtype=np.float64)
    return float(x.mean()) if x.size else float("nan")


def standard_deviation(values: ArrayLike) -> float:
    """Return the sample standard deviation √(Σ(x − x̄)² / (n − 1)), NaN of fewer than two values.

    It says how far single trials lie apart over seeds; the mean's own error is smaller by √n.

    >>> standard_deviation([1.0, 3.0])
    1.4142135623730951
    """
    x = np.asarray(values, dtype=np.float64)
    return float(x.std(ddof=1)) if x.size > 1 else float("nan")
