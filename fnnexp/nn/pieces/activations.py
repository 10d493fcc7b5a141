"""Activation functions, their derivatives, and tests for units that have stopped learning.

To add an activation, write its two functions and enter them in :data:`ACTIVATIONS`. Both work in place and
elementwise, on arrays of any shape, in float32 or float64. For every finite input, the result must be finite
if its dtype can represent it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.pieces.table import Table

SIGMOID_CLIP = 500.0
"""The largest argument of exp in the sigmoid. exp(500) is finite in float64. In float32 it is infinite, which
is harmless: 1 / (1 + ∞) = 0 is correct."""

LEAKY_SLOPE = 0.01
"""The default slope of ``leaky_relu`` for negative inputs, as in Maas, Hannun & Ng (2013)."""

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
"""λ and α of SELU. With them, activations of zero mean and unit variance keep both (Klambauer et al. 2017,
eq. 14)."""

GELU_SCALE = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
GELU_CLIP = 10.0
"""The constants of the tanh form of GELU. Beyond ±10, its tanh is ±1 to the last bit of float64."""


@dataclass(frozen=True)
class Activation:
    """An activation function f, its derivative, and what the diagnostics record about its units.

    Attributes
    ----------
    forward
        ``forward(Z)`` writes A = f(Z) over Z.
    derivative
        ``derivative(Z, A, out)`` writes f′(Z) to ``out``, which shares no memory with Z or A; then
        dZ = dA · f′(Z). It changes neither Z nor A.
    needs_z
        Whether the derivative uses Z, which is then kept in a buffer of its own. Otherwise Z has been
        overwritten by A, and ``Z`` is the same array as ``A``.
    dead, saturated
        Optional. Both get the A (B, H) of a hidden layer. ``dead(A)`` returns the share of units that pass no
        gradient on, ``saturated(A)`` the share of values at which f is flat. The diagnostics record them
        under these names; see :data:`fnnexp.nn.layer_stats.QUANTITIES`.
    """

    forward: Callable[[Array], None]
    derivative: Callable[[Array, Array, Array], None]
    needs_z: bool = False
    dead: Callable[[Array], float] | None = None
    saturated: Callable[[Array], float] | None = None


def _row_of(value: float, Z: Array) -> Array:
    """Return a row (H,) in which every element is this value.

    NumPy computes the maximum of Z and such a row three times as fast as the maximum of Z and a number.
    """
    return np.full(Z.shape[-1:], value, Z.dtype)


def relu_forward(Z: Array) -> None:
    """Write A = max(Z, 0)  (Glorot, Bordes & Bengio 2011)."""
    np.maximum(Z, _row_of(0, Z), out=Z)


def relu_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write 1 where A > 0, else 0."""
    np.greater(A, 0, out=out)


def relu_dead(A: Array) -> float:
    """Return the share of the units of A (B, H) that are 0 in every row."""
    return float((~(A > 0).any(axis=0)).mean())


def tanh_forward(Z: Array) -> None:
    """Write A = tanh(Z)."""
    np.tanh(Z, out=Z)


def tanh_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write 1 − A²."""
    np.multiply(A, A, out=out)
    np.subtract(1, out, out=out)


def beyond_099(A: Array) -> float:
    """Return the share of the values of A (B, H) that are below −0.99 or above 0.99."""
    return float((np.abs(A) > 0.99).mean())


def tanh_as_published_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write 1 − tanh(A)², the derivative with the mistake of the published program: tanh is applied twice.

    It is wrong on purpose, to reproduce that program. The gradient check expects it to fail.
    """
    np.tanh(A, out=out)
    np.multiply(out, out, out=out)
    np.subtract(1, out, out=out)


def sigmoid_forward(Z: Array) -> None:
    """Write A = 1 / (1 + exp(−Z)). In float64, Z below −500 counts as −500, so that exp(−Z) is finite."""
    np.negative(Z, out=Z)
    if Z.itemsize == 8:
        np.minimum(Z, _row_of(SIGMOID_CLIP, Z), out=Z)
    np.exp(Z, out=Z)
    np.add(Z, 1, out=Z)
    np.reciprocal(Z, out=Z)


def sigmoid_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write A (1 − A)."""
    np.subtract(1, A, out=out)
    np.multiply(out, A, out=out)


def sigmoid_saturated(A: Array) -> float:
    """Return the share of the values of A (B, H) that are below 0.01 or above 0.99."""
    return float(((A < 0.01) | (A > 0.99)).mean())


def leaky_relu_forward(slope: float, Z: Array) -> None:
    """Write A = Z where Z > 0, else slope · Z  (Maas, Hannun & Ng 2013).

    A is the maximum of the two, because slope < 1.
    """
    np.maximum(Z, Z * slope, out=Z)


def leaky_relu_derivative(slope: float, Z: Array, A: Array, out: Array) -> None:
    """Write 1 where A > 0, else the slope."""
    np.greater(A, 0, out=out)
    np.maximum(out, _row_of(slope, out), out=out)


def leaky_relu(slope: float) -> Activation:
    """Return the leaky ReLU with a slope for negative inputs, 0 ≤ slope < 1."""
    return Activation(partial(leaky_relu_forward, slope), partial(leaky_relu_derivative, slope))


def elu_forward(Z: Array) -> None:
    """Write A = Z where Z > 0, else exp(Z) − 1: the ELU of Clevert, Unterthiner & Hochreiter (2016), α = 1.

    Because exp(z) − 1 ≥ z, A is the maximum of Z and exp(min(Z, 0)) − 1.
    """
    negative = np.minimum(Z, _row_of(0, Z))
    np.expm1(negative, out=negative)
    np.maximum(Z, negative, out=Z)


def elu_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write 1 where A > 0, else exp(Z) = A + 1."""
    np.minimum(A, _row_of(0, A), out=out)
    np.add(out, 1, out=out)


def elu_saturated(A: Array) -> float:
    """Return the share of the values of A (B, H) that are below −0.99; the derivative there is below 0.01."""
    return float((A < -0.99).mean())


def selu_forward(Z: Array) -> None:
    """Write A = λ Z where Z > 0, else λ α (exp(Z) − 1)  (Klambauer, Unterthiner, Mayr & Hochreiter 2017)."""
    zeros = _row_of(0, Z)
    negative = np.minimum(Z, zeros)
    np.expm1(negative, out=negative)
    np.multiply(negative, SELU_SCALE * SELU_ALPHA, out=negative)
    np.maximum(Z, zeros, out=Z)
    np.multiply(Z, SELU_SCALE, out=Z)
    np.add(Z, negative, out=Z)


def selu_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write λ where A > 0, else λ α exp(Z) = A + λ α."""
    np.greater(A, 0, out=out)
    np.multiply(out, SELU_SCALE - SELU_SCALE * SELU_ALPHA, out=out)
    np.add(out, SELU_SCALE * SELU_ALPHA, out=out)
    np.add(out, np.minimum(A, _row_of(0, A)), out=out)


def selu_saturated(A: Array) -> float:
    """Return the share of the values of A (B, H) within 1% of their lower bound −λ α."""
    return float((A < -0.99 * SELU_SCALE * SELU_ALPHA).mean())


def softplus_forward(Z: Array) -> None:
    """Write A = log(1 + exp(Z))  (Dugas et al. 2001).

    It is computed as max(Z, 0) + log(1 + exp(−|Z|)), which cannot overflow.
    """
    tail = np.abs(Z)
    np.negative(tail, out=tail)
    np.exp(tail, out=tail)
    np.log1p(tail, out=tail)
    np.maximum(Z, _row_of(0, Z), out=Z)
    np.add(Z, tail, out=Z)


def softplus_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write 1 / (1 + exp(−Z)) = 1 − exp(−A)."""
    np.negative(A, out=out)
    np.expm1(out, out=out)
    np.negative(out, out=out)


def softsign_forward(Z: Array) -> None:
    """Write A = Z / (1 + |Z|)  (Bergstra, Desjardins, Lamblin & Bengio 2009)."""
    size = np.abs(Z)
    np.add(size, 1, out=size)
    np.divide(Z, size, out=Z)


def softsign_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write 1 / (1 + |Z|)² = (1 − |A|)²."""
    np.abs(A, out=out)
    np.subtract(1, out, out=out)
    np.multiply(out, out, out=out)


def gelu_forward(Z: Array) -> None:
    """Write A = Z (1 + tanh U) / 2 with U = √(2/π) (Z + 0.044715 Z³)  (Hendrycks & Gimpel 2016).

    This is the authors' approximation of Z Φ(Z), where Φ is the distribution function of N(0, 1).
    """
    T = Z * Z
    np.multiply(T, GELU_SCALE * GELU_CUBIC, out=T)
    np.add(T, GELU_SCALE, out=T)
    np.multiply(T, Z, out=T)
    np.tanh(T, out=T)
    np.add(T, 1, out=T)
    np.multiply(Z, 0.5, out=Z)
    np.multiply(Z, T, out=Z)


def gelu_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write (1 + T) / 2 + A (1 − T) U′ with T = tanh U and U′ = √(2/π) (1 + 3 · 0.044715 Z²).

    Z is clipped first. Otherwise U′ might overflow where 1 − T is 0, and the product would be NaN.
    """
    T = np.clip(Z, -GELU_CLIP, GELU_CLIP)
    np.multiply(T, T, out=out)
    np.multiply(out, GELU_SCALE * GELU_CUBIC, out=out)
    np.multiply(T, out + GELU_SCALE, out=T)
    np.tanh(T, out=T)
    np.multiply(out, 3, out=out)
    np.add(out, GELU_SCALE, out=out)
    rest = 1 - T
    np.multiply(rest, A, out=rest)
    np.multiply(out, rest, out=out)
    np.add(T, 1, out=T)
    np.multiply(T, 0.5, out=T)
    np.add(out, T, out=out)


def silu_forward(Z: Array) -> None:
    """Write A = Z / (1 + exp(−Z)) = Z σ(Z)  (Hendrycks & Gimpel 2016; Elfwing, Uchibe & Doya 2018)."""
    divisor = -Z
    np.exp(divisor, out=divisor)
    np.add(divisor, 1, out=divisor)
    np.divide(Z, divisor, out=Z)


def silu_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write S + A (1 − S) with S = σ(Z) = 1 / (1 + exp(−Z))."""
    np.negative(Z, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.reciprocal(out, out=out)
    rest = 1 - out
    np.multiply(rest, A, out=rest)
    np.add(out, rest, out=out)


def identity_forward(Z: Array) -> None:
    """Leave A = Z: the network is linear."""


def identity_derivative(Z: Array, A: Array, out: Array) -> None:
    """Write 1."""
    out.fill(1)


ACTIVATIONS: Table[Activation] = Table(
    {
        "relu": Activation(relu_forward, relu_derivative, dead=relu_dead),
        "tanh": Activation(tanh_forward, tanh_derivative, saturated=beyond_099),
        "tanh_as_published": Activation(tanh_forward, tanh_as_published_derivative, saturated=beyond_099),
        "sigmoid": Activation(sigmoid_forward, sigmoid_derivative, saturated=sigmoid_saturated),
        "leaky_relu": leaky_relu(LEAKY_SLOPE),
        "elu": Activation(elu_forward, elu_derivative, saturated=elu_saturated),
        "selu": Activation(selu_forward, selu_derivative, saturated=selu_saturated),
        "softplus": Activation(softplus_forward, softplus_derivative),
        "softsign": Activation(softsign_forward, softsign_derivative, saturated=beyond_099),
        "gelu": Activation(gelu_forward, gelu_derivative, needs_z=True),
        "silu": Activation(silu_forward, silu_derivative, needs_z=True),
        "identity": Activation(identity_forward, identity_derivative),
    }
)
"""The activation functions. The keys are the allowed values of ``arch.activation``."""


def activation_named(name: str, slope: float = LEAKY_SLOPE) -> Activation:
    """Return the activation with this key in :data:`ACTIVATIONS`; ``slope`` is only for ``leaky_relu``."""
    return leaky_relu(slope) if name == "leaky_relu" else ACTIVATIONS[name]
