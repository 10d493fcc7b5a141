"""Activation functions: forward, slope, and how to tell that a unit has stopped learning.

To add one, write its two functions and enter them in :data:`ACTIVATIONS`. Both work in place and elementwise,
on arrays of any shape and of float32 or float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fnnexp.nn.arrays import Array

SIGMOID_CLIP = 500.0
"""exp(500) is finite in float64, so nothing overflows on the way to 0 or 1. In float32 it is infinite all the
same, and 1 / (1 + ∞) = 0 is right."""


@dataclass(frozen=True)
class Activation:
    """One activation function f, and which shares of its units the diagnostics record.

    Attributes
    ----------
    forward
        ``forward(Z)`` writes A = f(Z) over Z.
    slope
        ``slope(A, out)`` writes f′(Z), computed from A = f(Z); then dZ = dA · f′(Z). Z is no longer there, so
        an f whose slope does not follow from its value (GELU, for one) can't be had this way.
    dead, saturated
        Optional. ``dead(A)`` returns the share of units, ``saturated(A)`` the share of values, of a hidden
        layer's A (B, H) through which no gradient passes, or hardly any. Diagnostics record what is given
        under that name; see :data:`fnnexp.nn.layer_stats.QUANTITIES`.
    """

    forward: Callable[[Array], None]
    slope: Callable[[Array, Array], None]
    dead: Callable[[Array], float] | None = None
    saturated: Callable[[Array], float] | None = None


def relu_forward(Z: Array) -> None:
    """Write A = max(Z, 0)."""
    np.maximum(Z, 0, out=Z)


def relu_slope(A: Array, out: Array) -> None:
    """Write 1 where A > 0, else 0."""
    np.sign(A, out=out)


def relu_dead(A: Array) -> float:
    """Return the share of units of A (B, H) that are 0 in all rows."""
    return float((~(A > 0).any(axis=0)).mean())


def tanh_forward(Z: Array) -> None:
    """Write A = tanh(Z)."""
    np.tanh(Z, out=Z)


def tanh_slope(A: Array, out: Array) -> None:
    """Write 1 − A²."""
    np.multiply(A, A, out=out)
    np.subtract(1, out, out=out)


def tanh_saturated(A: Array) -> float:
    """Return the share of A (B, H) beyond ±0.99."""
    return float((np.abs(A) > 0.99).mean())


def tanh_as_published_slope(A: Array, out: Array) -> None:
    """Write 1 − tanh(A)²: the slip of the published program, which applies tanh a second time.

    Wrong on purpose; the gradient check fails it by name.
    """
    np.tanh(A, out=out)
    tanh_slope(out, out)


def sigmoid_forward(Z: Array) -> None:
    """Write A = 1 / (1 + exp(−Z)), Z clipped from below at −500 (from above it makes no difference)."""
    np.negative(Z, out=Z)
    if Z.itemsize == 8:
        np.minimum(Z, SIGMOID_CLIP, out=Z)
    np.exp(Z, out=Z)
    np.add(Z, 1, out=Z)
    np.reciprocal(Z, out=Z)


def sigmoid_slope(A: Array, out: Array) -> None:
    """Write A (1 − A)."""
    np.subtract(1, A, out=out)
    np.multiply(out, A, out=out)


def sigmoid_saturated(A: Array) -> float:
    """Return the share of A (B, H) below 0.01 or above 0.99."""
    return float(((A < 0.01) | (A > 0.99)).mean())


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(relu_forward, relu_slope, dead=relu_dead),
    "tanh": Activation(tanh_forward, tanh_slope, saturated=tanh_saturated),
    "tanh_as_published": Activation(tanh_forward, tanh_as_published_slope, saturated=tanh_saturated),
    "sigmoid": Activation(sigmoid_forward, sigmoid_slope, saturated=sigmoid_saturated),
}
"""The activation functions by the name that ``arch.activation`` gives."""
