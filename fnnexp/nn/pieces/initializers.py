"""Initializers: methods to draw a layer's initial weights, each a distribution and a formula for their size.

A weight is a unit draw from the distribution, times the standard deviation that the formula gives, plus a
mean. The unit draws depend on the seed, the layer and the distribution alone. So with the same seed, two
methods of one distribution differ in scale alone. To add a method, enter it in :data:`INITIALIZERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.pieces.table import Table
from fnnexp.nn.rng import generator

CUT = 2.0
"""``truncated_normal`` has no draws beyond this many standard deviations."""


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return draws from N(0, 1)."""
    return rng.standard_normal(shape)


def _uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return draws from U(−√3, √3), whose standard deviation is 1."""
    return rng.uniform(-math.sqrt(3), math.sqrt(3), shape)


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return draws from N(0, 1) without those beyond ±2, as Keras's ``TruncatedNormal``.

    Draws beyond ±2 are drawn again after all others, until none is beyond ±2. So the other weights, 95% of
    them, equal those of ``normal`` with this seed. The standard deviation of the remaining draws is 0.88.
    """
    values = rng.standard_normal(shape)
    while (beyond := np.abs(values) > CUT).any():
        values[beyond] = rng.standard_normal(np.count_nonzero(beyond))
    return values


def _orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return a random matrix with orthogonal columns (or rows, if these are fewer) and a mean square of 1.

    The matrix is the Q of the QR decomposition of unit normal draws (Saxe et al. 2014), times √max(n_in,
    n_out). The diagonal of R is made positive, so that Q is uniform among such matrices (Mezzadri 2007).
    """
    n_in, n_out = shape
    values = rng.standard_normal(shape)
    Q, R = np.linalg.qr(values if n_in >= n_out else values.T)
    Q *= np.where(np.diagonal(R) < 0, -1.0, 1.0) * math.sqrt(max(shape))
    matrix: Array = Q if n_in >= n_out else Q.T
    return matrix


def _constant(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return zeros, so that all weights equal the mean."""
    return np.zeros(shape)


DISTRIBUTIONS: Table[Callable[[np.random.Generator, tuple[int, ...]], Array]] = Table(
    {
        "normal": _normal,
        "uniform": _uniform,
        "truncated_normal": _truncated_normal,
        "orthogonal": _orthogonal,
        "constant": _constant,
    }
)
"""The distributions: functions that return unit draws of a shape, in float64."""


@dataclass(frozen=True)
class Initializer:
    """A method to draw initial weights: its formula and the distribution of its draws.

    Attributes
    ----------
    formula
        Returns the standard deviation of a layer's weights from its numbers of inputs and units, n_in and
        n_out. None if the config determines the standard deviation.
    distribution
        A key of :data:`DISTRIBUTIONS`.
    """

    formula: Callable[[int, int], float] | None
    distribution: str = "normal"


INITIALIZERS: Table[Initializer] = Table(
    {
        "max": Initializer(lambda n_in, n_out: 1 / max(n_in, n_out)),
        "sqrtmax": Initializer(lambda n_in, n_out: 1 / math.sqrt(max(n_in, n_out))),
        # The published programs call this Xavier; textbooks call it LeCun's initializer (LeCun et al. 1998).
        "xavier": Initializer(lambda n_in, n_out: 1 / math.sqrt(n_in)),
        # The published programs call this He; the textbook formula is he_normal.
        "he": Initializer(lambda n_in, n_out: 2 / math.sqrt(n_in)),
        "he2": Initializer(lambda n_in, n_out: 2 / math.sqrt(n_in + n_out)),
        # Glorot & Bengio 2010, eq. 12; He et al. 2015, eq. 10.
        "glorot_normal": Initializer(lambda n_in, n_out: math.sqrt(2 / (n_in + n_out))),
        "he_normal": Initializer(lambda n_in, n_out: math.sqrt(2 / n_in)),
        "normal": Initializer(None),  # the standard deviation is the setting init.std
        # LeCun et al. 1998, §4.6: the same formula as xavier.
        "lecun_normal": Initializer(lambda n_in, n_out: 1 / math.sqrt(n_in)),
        # The bound of a uniform distribution is √3 standard deviations: √(6/(n_in + n_out)) for Glorot &
        # Bengio 2010, eq. 16; √(6/n_in) for He et al. 2015; √(3/n_in) for LeCun et al. 1998.
        "glorot_uniform": Initializer(lambda n_in, n_out: math.sqrt(2 / (n_in + n_out)), "uniform"),
        "he_uniform": Initializer(lambda n_in, n_out: math.sqrt(2 / n_in), "uniform"),
        "lecun_uniform": Initializer(lambda n_in, n_out: 1 / math.sqrt(n_in), "uniform"),
        "uniform": Initializer(None, "uniform"),  # standard deviation (high − low)/√12, mean (low + high)/2
        # The standard deviation before the truncation is init.std.
        "truncated_normal": Initializer(None, "truncated_normal"),
        # Saxe et al. 2014: orthonormal columns or rows, so the mean square of a weight is 1/max(n_in, n_out).
        "orthogonal": Initializer(lambda n_in, n_out: 1 / math.sqrt(max(n_in, n_out)), "orthogonal"),
        "zeros": Initializer(lambda n_in, n_out: 0.0, "constant"),
    }
)
"""The methods. The keys are the allowed values of ``init.method``."""


def standard_deviation(method: str, n_in: int, n_out: int, std: float | None = None) -> float:
    """Return the standard deviation of one layer's weights; for ``truncated_normal``, before the truncation.

    Parameters
    ----------
    method
        A key of :data:`INITIALIZERS`.
    n_in, n_out
        The layer's numbers of inputs and units.
    std
        The standard deviation for the methods without a formula; the others ignore it.

    >>> standard_deviation("he", 784, 100)
    0.07142857142857142
    """
    formula = INITIALIZERS[method].formula
    if formula is not None:
        return formula(n_in, n_out)
    if std is None:
        raise ValueError(f"the initializer '{method}' needs a standard deviation; pass std")
    return std


def distribution_of(method: str) -> str:
    """Return the distribution of a method's draws, a key of :data:`DISTRIBUTIONS`.

    >>> distribution_of("he"), distribution_of("he_uniform")
    ('normal', 'uniform')
    """
    return INITIALIZERS[method].distribution


BIAS_STARTS = ("constant", "normal", "uniform")
"""The allowed values of ``init.bias``."""


@dataclass(frozen=True)
class Biases:
    """How to draw the initial biases that would otherwise be zero.

    Attributes
    ----------
    distribution
        One of :data:`BIAS_STARTS`.
    scale
        The constant, the standard deviation of ``normal``, or the bound of ``uniform``. If None, the bound of
        ``uniform`` is 1/√n_in, as in PyTorch's ``Linear``.
    """

    distribution: str
    scale: float | None = None

    def draw(self, seed: int, layer: int, n_in: int, n_out: int) -> Array:
        """Return the initial biases (1, n_out) of one layer."""
        scale = 1 / math.sqrt(n_in) if self.scale is None else self.scale
        if self.distribution == "constant":
            return np.full((1, n_out), scale)
        std = scale / math.sqrt(3) if self.distribution == "uniform" else scale
        return draw(seed, "biases", layer, (1, n_out), std, self.distribution)


UnitDraws = Callable[[int, str, int, tuple[int, ...], str], Array]


def unit_draws(seed: int, purpose: str, layer: int, shape: tuple[int, ...], distribution: str) -> Array:
    """Return random draws in float64 before they are scaled: for ``normal``, draws from N(0, 1).

    They depend on these arguments alone. ``distribution`` is a key of :data:`DISTRIBUTIONS`.
    """
    return DISTRIBUTIONS[distribution](generator(seed, purpose, layer), shape)


def draw(
    seed: int,
    purpose: str,
    layer: int,
    shape: tuple[int, ...],
    std: float,
    distribution: str = "normal",
    mean: float = 0.0,
    unit: UnitDraws = unit_draws,
) -> Array:
    """Return random draws with a standard deviation and a mean, in float64: :func:`unit_draws` · std + mean.

    ``unit`` is :func:`unit_draws`, or that function with a cache.
    """
    values: Array = unit(seed, purpose, layer, shape, distribution) * np.float64(std)
    return values + np.float64(mean) if mean else values
