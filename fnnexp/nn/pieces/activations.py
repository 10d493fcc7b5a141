"""Activation functions, their slopes, and tests for units that have stopped learning.

To add an activation, write its two functions and enter them in :data:`ACTIVATIONS`. Both work in place and
elementwise, on arrays of any shape, in float32 or float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fnnexp.nn.arrays import Array

SIGMOID_CLIP = 500.0
"""The largest argument of exp in the sigmoid. exp(500) is finite in float64. In float32 it is infinite, which
is harmless: 1 / (1 + ∞) = 0 is correct."""


@dataclass(frozen=True)
class Activation:
    """An activation function f, its slope, and what the diagnostics record about its units.

    Attributes
    ----------
    forward
        ``forward(Z)`` writes A = f(Z) over Z.
    slope
        ``slope(A, out)`` writes f′(Z), computed from A = f(Z); then dZ = dA · f′(Z). Z has been overwritten
        by then, so an f whose slope cannot be computed from its value, such as GELU, is not supported.
    dead, saturated
        Optional. Both get the A (B, H) of a hidden layer. ``dead(A)`` returns the share of units that pass no
        gradient on, ``saturated(A)`` the share of values at which f is flat. The diagnostics record them
        under these names; see :data:`fnnexp.nn.layer_stats.QUANTITIES`.
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
    """Return the share of the units of A (B, H) that are 0 in every row."""
    return float((~(A > 0).any(axis=0)).mean())


def tanh_forward(Z: Array) -> None:
    """Write A = tanh(Z)."""
    np.tanh(Z, out=Z)


def tanh_slope(A: Array, out: Array) -> None:
    """Write 1 − A²."""
    np.multiply(A, A, out=out)
    np.subtract(1, out, out=out)


def tanh_saturated(A: Array) -> float:
    """Return the share of the values of A (B, H) that are below −0.99 or above 0.99."""
    return float((np.abs(A) > 0.99).mean())


def tanh_as_published_slope(A: Array, out: Array) -> None:
    """Write 1 − tanh(A)², the slope with the mistake of the published program: tanh is applied twice.

    It is wrong on purpose, to reproduce that program. The gradient check expects it to fail.
    """
    np.tanh(A, out=out)
    tanh_slope(out, out)


def sigmoid_forward(Z: Array) -> None:
    """Write A = 1 / (1 + exp(−Z)), with Z clipped below at −500; clipping above would change nothing."""
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
    """Return the share of the values of A (B, H) that are below 0.01 or above 0.99."""
    return float(((A < 0.01) | (A > 0.99)).mean())


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(relu_forward, relu_slope, dead=relu_dead),
    "tanh": Activation(tanh_forward, tanh_slope, saturated=tanh_saturated),
    "tanh_as_published": Activation(tanh_forward, tanh_as_published_slope, saturated=tanh_saturated),
    "sigmoid": Activation(sigmoid_forward, sigmoid_slope, saturated=sigmoid_saturated),
}
"""The activation functions. The keys are the allowed values of ``arch.activation``."""
