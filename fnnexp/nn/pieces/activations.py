"""Activation functions with their derivatives, in place.

A derivative is taken from the activation A that is already there, never from Z again: dZ = dA · f′, where
``slope`` writes f′.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SIGMOID_CLIP = 500.0
"""exp(500) is finite in float64, so that no overflow is met on the way to 0 or 1. In float32 it is infinite
all the same, and 1 / (1 + ∞) = 0 is right."""


@dataclass(frozen=True)
class Activation:
    """One activation function.

    Attributes
    ----------
    forward
        ``forward(Z)`` writes A over Z, any shape.
    slope
        ``slope(A, out)`` writes f′(z), as it follows from A = f(z); both have one shape.
    """

    forward: Callable[[Array], None]
    slope: Callable[[Array, Array], None]


def relu_forward(Z: Array) -> None:
    """Write A = max(Z, 0)."""
    np.maximum(Z, 0, out=Z)


def relu_slope(A: Array, out: Array) -> None:
    """Write 1 where A > 0, else 0."""
    np.sign(A, out=out)


def tanh_forward(Z: Array) -> None:
    """Write A = tanh(Z)."""
    np.tanh(Z, out=Z)


def tanh_slope(A: Array, out: Array) -> None:
    """Write 1 − A²."""
    np.multiply(A, A, out=out)
    np.subtract(1, out, out=out)


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


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(relu_forward, relu_slope),
    "tanh": Activation(tanh_forward, tanh_slope),
    "tanh_as_published": Activation(tanh_forward, tanh_as_published_slope),
    "sigmoid": Activation(sigmoid_forward, sigmoid_slope),
}
