"""Activation functions with their derivatives, in place.

A derivative is taken from the activation A that is already there, never from Z again:
``backward`` turns dA, the gradient with respect to A, into dZ where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SIGMOID_CLIP = 500.0
"""exp(500) is finite in float64, so that no overflow is met on the way to 0 or 1."""


@dataclass(frozen=True)
class Activation:
    """One activation function.

    Attributes
    ----------
    forward
        ``forward(Z)`` writes A over Z, any shape.
    backward
        ``backward(A, dA, scratch)`` writes dZ over dA; all three have one shape, scratch is overwritten.
    """

    forward: Callable[[Array], None]
    backward: Callable[[Array, Array, Array], None]


def relu_forward(Z: Array) -> None:
    """Write A = max(Z, 0)."""
    np.maximum(Z, 0, out=Z)


def relu_backward(A: Array, dA: Array, scratch: Array) -> None:
    """Write dZ = dA where A > 0, else 0."""
    np.sign(A, out=scratch)
    np.multiply(dA, scratch, out=dA)


def tanh_forward(Z: Array) -> None:
    """Write A = tanh(Z)."""
    np.tanh(Z, out=Z)


def tanh_backward(A: Array, dA: Array, scratch: Array) -> None:
    """Write dZ = dA (1 − A²)."""
    np.multiply(A, A, out=scratch)
    np.subtract(1, scratch, out=scratch)
    np.multiply(dA, scratch, out=dA)


def tanh_as_published_backward(A: Array, dA: Array, scratch: Array) -> None:
    """Write dZ = dA (1 − tanh(A)²): the slip of the published program, which applies tanh a second time.

    Wrong on purpose; the gradient check fails it by name.
    """
    np.tanh(A, out=scratch)
    tanh_backward(scratch, dA, scratch)


def sigmoid_forward(Z: Array) -> None:
    """Write A = 1 / (1 + exp(−Z)), Z clipped from below at −500 (from above it makes no difference)."""
    np.negative(Z, out=Z)
    np.minimum(Z, SIGMOID_CLIP, out=Z)
    np.exp(Z, out=Z)
    np.add(Z, 1, out=Z)
    np.reciprocal(Z, out=Z)


def sigmoid_backward(A: Array, dA: Array, scratch: Array) -> None:
    """Write dZ = dA A (1 − A)."""
    np.subtract(1, A, out=scratch)
    np.multiply(scratch, A, out=scratch)
    np.multiply(dA, scratch, out=dA)


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(relu_forward, relu_backward),
    "tanh": Activation(tanh_forward, tanh_backward),
    "tanh_as_published": Activation(tanh_forward, tanh_as_published_backward),
    "sigmoid": Activation(sigmoid_forward, sigmoid_backward),
}
