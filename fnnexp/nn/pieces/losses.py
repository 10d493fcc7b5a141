"""Losses: the output of the last layer, each row's loss, and its gradient in closed form.

Z are the logits of some rows with labels y, and T their targets: onehot(y), or with label smoothing s

    t = (1 − s) onehot(y) + s/C,

where C is the number of classes (Szegedy et al. 2016, §7). Each output of ``binary_cross_entropy`` answers a
question with two answers, so s/2 replaces s/C. The recorded loss is the one that the gradient descends: with
smoothed targets, and the same function for every split. Penalties on the weights are not part of it.

- ``cross_entropy``: p = softmax(z), and the loss is −Σ t_c log(p_c + ε). With one-hot targets it is
  −log(p_y + ε), and its exact gradient with respect to z is p_y / (p_y + ε) · (p − t). The factor matters
  where p_y underflows: the row then gets no gradient. With any targets, the gradient is
  dz_j = p_j Σ_c r_c − r_j, where r_c = t_c p_c / (p_c + ε). With ε = 0 it is the familiar p − t.
- ``binary_cross_entropy``: a = σ(z) = 1 / (1 + exp(−z)), each class against all others. The loss is the *sum*
  over the classes −Σ t_c log a_c + (1 − t_c) log(1 − a_c) = Σ softplus(z_c) − t_c z_c (Nielsen 2015, eq. 63).
  Its gradient is a − t.
- ``mse``: a = σ(z), softmax(z) or z, and the loss is ½ Σ (a_c − t_c)², a sum over the classes with the factor
  ½ of Nielsen (2015, eq. 6). Its gradient with respect to a is d = a − t. With respect to z it is d a (1 − a)
  for σ, and a_j (d_j − Σ_c d_c a_c) for softmax.

The prediction is the class with the largest logit, for every loss. In a tie it is the first of them.

Softmax is p_c = exp(z_c − max z) / Σ_k exp(z_k − max z). Three functions compute it step by step:
:func:`subtract_largest`, :func:`exponentiate`, :func:`probabilities`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.pieces.table import Table


class Outputs(Protocol):
    """A function that returns the outputs of the last layer, in the array ``out`` if it is given.

    Z and ``row`` contain what :attr:`Loss.losses_and_hits` has written. ``out`` may be Z.
    """

    def __call__(self, Z: Array, row: Array, /, out: Array | None = None) -> Array: ...  # noqa: D102


@dataclass(frozen=True)
class Loss:
    """A loss with its output function. All arrays have the axes K networks, B rows and C classes.

    Attributes
    ----------
    losses_and_hits
        ``losses_and_hits(Z, T, epsilon, row)`` returns each row's loss (K, B) float64, and whether its label
        is the prediction (K, B). The label is the class with the largest of the row's targets T. The function
        overwrites the logits Z, and the buffer ``row`` (K, B, 1), with values that the other two functions
        read.
    gradient
        ``gradient(Z, T, epsilon, row)`` then overwrites Z with dZ, the gradient of each row's loss.
    outputs
        ``outputs(Z, row, out=None)``, before ``gradient``, returns the outputs; see :class:`Outputs`.
    smoothed
        The same loss for targets that are not one-hot; None if this loss allows any targets.
    one_against_all
        Whether each output separates one class from all others, so that smoothed targets are nearer to ½.
    """

    losses_and_hits: Callable[[Array, Array, float, Array], tuple[Array, Array]]
    gradient: Callable[[Array, Array, float, Array], None]
    outputs: Outputs
    smoothed: Loss | None = None
    one_against_all: bool = False


def subtract_largest(Z: Array, row: Array, out: Array) -> None:
    """Write z − max z to ``out`` for each row of Z (…, C), and max z to ``row`` (…, 1)."""
    np.maximum.reduce(Z, axis=-1, keepdims=True, out=row)
    np.subtract(Z, row, out=out)


def exponentiate(Z: Array, row: Array) -> None:
    """Write exp(z) over each row of Z (…, C), and Σ exp(z) to ``row`` (…, 1)."""
    np.exp(Z, out=Z)
    np.add.reduce(Z, axis=-1, keepdims=True, out=row)


def probabilities(E: Array, row: Array, out: Array | None = None) -> Array:
    """Return the softmax E / ``row``, where :func:`exponentiate` has written E = exp(z) and its sum ``row``.

    The result is in the array ``out`` if it is given.
    """
    P: Array = np.divide(E, row, out=out)
    return P


def losses_and_hits(Z: Array, onehot: Array, epsilon: float, row: Array) -> tuple[Array, Array]:
    """Return the loss of each example, and whether it is a hit: whether its label is the prediction.

    The prediction is the class with the largest logit; in a tie, the first of them.

    Parameters
    ----------
    Z
        Logits (K, B, C); overwritten with exp(z − max z), which :func:`gradient_in_place` then reads.
    onehot
        (K, B, C) in the dtype of Z: 1 at the label, else 0.
    epsilon
        The ε ≥ 0 in −log(p_y + ε). If 0, the loss is computed as logsumexp(z) − z_y, which cannot underflow.
    row
        (K, B, 1) in the dtype of Z; overwritten with Σ exp(z − max z).

    Returns
    -------
    losses (K, B) float64 and hits (K, B) bool.
    """
    subtract_largest(Z, row, out=Z)
    z_y = np.add.reduce(Z * onehot, axis=-1)  # exact: all terms but one are 0
    hits = z_y == 0
    # A hit has z_y = 0, because Z is z − max z here. This test fails in a tie, with NaN logits, and where Z
    # overflows to −∞, which makes z_y NaN. `argmax` is slower, and right in these cases too.
    if (np.add.reduce(Z == 0, axis=-1, dtype=np.uint8) != 1).any() or np.isnan(z_y).any():
        hits = Z.argmax(axis=-1) == onehot.argmax(axis=-1)
    exponentiate(Z, row)
    log_sum = np.log(row[..., 0])
    losses = log_sum - z_y if epsilon == 0 else -np.log(np.exp(z_y - log_sum) + Z.dtype.type(epsilon))
    return losses.astype(np.float64), hits


def gradient_in_place(Z: Array, onehot: Array, epsilon: float, row: Array) -> None:
    """Overwrite Z with dZ, the gradient of each example's loss. Call :func:`losses_and_hits` first.

    Parameters
    ----------
    Z, row
        exp(z − max z) (K, B, C), overwritten; its sum over the classes (K, B, 1).
    onehot
        (K, B, C) in the dtype of Z: 1 at the label, else 0.
    epsilon
        The ε ≥ 0 in −log(p_y + ε).
    """
    probabilities(Z, row, out=Z)
    if epsilon == 0:
        np.subtract(Z, onehot, out=Z)
        return
    p_y = np.add.reduce(Z * onehot, axis=-1, keepdims=True)
    factor = p_y / (p_y + Z.dtype.type(epsilon))
    np.subtract(Z, onehot, out=Z)
    np.multiply(Z, factor, out=Z)


# --- cross-entropy with smoothed targets --------------------------------------------------------------------


def smoothed_losses_and_hits(Z: Array, T: Array, epsilon: float, row: Array) -> tuple[Array, Array]:
    """Return each row's loss −Σ t log(p + ε), and whether its prediction is right.

    Write exp(z − max z) over Z, and its sum over the classes to ``row``.
    """
    hits = _hits(Z, T)
    subtract_largest(Z, row, out=Z)
    weighted = np.add.reduce(Z * T, axis=-1)
    exponentiate(Z, row)
    if epsilon == 0:  # −Σ t log p, as the targets sum to 1
        losses = np.log(row[..., 0]) - weighted
    else:
        losses = -np.add.reduce(np.log(Z / row + Z.dtype.type(epsilon)) * T, axis=-1)
    return losses.astype(np.float64), hits


def smoothed_gradient(Z: Array, T: Array, epsilon: float, row: Array) -> None:
    """Overwrite Z with dz_j = p_j Σ_c r_c − r_j, where p is the softmax and r = t p / (p + ε).

    Call :func:`smoothed_losses_and_hits` first, which writes what this function reads to Z and ``row``.
    """
    probabilities(Z, row, out=Z)
    if epsilon == 0:
        np.subtract(Z, T, out=Z)
        return
    R = T * Z / (Z + Z.dtype.type(epsilon))
    np.multiply(Z, np.add.reduce(R, axis=-1, keepdims=True), out=Z)
    np.subtract(Z, R, out=Z)


# --- binary cross-entropy -----------------------------------------------------------------------------------


def binary_losses_and_hits(Z: Array, T: Array, epsilon: float, row: Array) -> tuple[Array, Array]:
    """Return each row's loss Σ softplus(z) − t z, and whether its prediction is right; write σ(z) over Z.

    softplus(z) − t z is computed as max(z, 0) − t z + log(1 + exp(−|z|)), which neither overflows nor
    cancels.
    """
    hits = _hits(Z, T)
    losses = np.maximum(Z, 0)
    np.subtract(losses, Z * T, out=losses)
    np.add(losses, np.log1p(np.exp(-np.abs(Z))), out=losses)
    sigmoid(Z, row)
    return np.add.reduce(losses, axis=-1).astype(np.float64), hits


def outputs_minus_targets(A: Array, T: Array, epsilon: float, row: Array) -> None:
    """Overwrite the outputs A with dZ = A − T."""
    np.subtract(A, T, out=A)


# --- the quadratic cost -------------------------------------------------------------------------------------


def squared_losses_and_hits(
    output: Callable[[Array, Array], None], Z: Array, T: Array, epsilon: float, row: Array
) -> tuple[Array, Array]:
    """Return each row's loss ½ Σ (a − t)², and whether its prediction is right; write the outputs A over Z.

    ``output(Z, row)`` is the function that writes A over Z.
    """
    hits = _hits(Z, T)
    output(Z, row)
    D = Z - T
    losses = np.add.reduce(np.multiply(D, D, out=D), axis=-1)
    return np.multiply(losses, 0.5, out=losses).astype(np.float64), hits


def sigmoid_squared_gradient(A: Array, T: Array, epsilon: float, row: Array) -> None:
    """Overwrite the outputs A with dZ = (A − T) A (1 − A)."""
    slope = A * (1 - A)
    np.subtract(A, T, out=A)
    np.multiply(A, slope, out=A)


def softmax_squared_gradient(A: Array, T: Array, epsilon: float, row: Array) -> None:
    """Overwrite the outputs A with dz_j = a_j (d_j − Σ_c d_c a_c), where d = a − t."""
    D = A - T
    np.subtract(D, np.add.reduce(D * A, axis=-1, keepdims=True), out=D)
    np.multiply(A, D, out=A)


# --- output functions, and what losses share ----------------------------------------------------------------


def sigmoid(Z: Array, row: Array) -> None:
    """Write σ(z) = exp(min(z, 0)) / (1 + exp(−|z|)) over Z; no exp can overflow."""
    total = np.exp(-np.abs(Z)) + 1
    np.minimum(Z, 0, out=Z)
    np.exp(Z, out=Z)
    np.divide(Z, total, out=Z)


def softmax(Z: Array, row: Array) -> None:
    """Write softmax(z) over Z, and Σ exp(z − max z) to ``row``."""
    subtract_largest(Z, row, out=Z)
    exponentiate(Z, row)
    probabilities(Z, row, out=Z)


def identity(Z: Array, row: Array) -> None:
    """Leave the logits Z as they are: they are the outputs."""


def as_written(A: Array, row: Array, out: Array | None = None) -> Array:
    """Return a copy of the outputs A, which ``losses_and_hits`` wrote over Z; in ``out`` if it is given."""
    copy: Array = np.positive(A, out=out)
    return copy


def _hits(Z: Array, T: Array) -> Array:
    """Return for each row whether the class with the largest logit is the label (has the largest target).

    In a tie the first of the classes counts. NaN counts as the largest logit.
    """
    hits: Array = Z.argmax(axis=-1) == T.argmax(axis=-1)
    return hits


# --- the table ----------------------------------------------------------------------------------------------

LOSSES: Table[dict[str, Loss]] = Table(
    {
        "cross_entropy": {
            "softmax": Loss(
                losses_and_hits,
                gradient_in_place,
                probabilities,
                smoothed=Loss(smoothed_losses_and_hits, smoothed_gradient, probabilities),
            ),
        },
        "binary_cross_entropy": {
            "sigmoid": Loss(binary_losses_and_hits, outputs_minus_targets, as_written, one_against_all=True),
        },
        "mse": {
            "sigmoid": Loss(partial(squared_losses_and_hits, sigmoid), sigmoid_squared_gradient, as_written),
            "softmax": Loss(partial(squared_losses_and_hits, softmax), softmax_squared_gradient, as_written),
            "identity": Loss(partial(squared_losses_and_hits, identity), outputs_minus_targets, as_written),
        },
    }
)
"""The losses by name, each with its output functions. The names are the allowed values of ``loss.name``.

``loss.output`` chooses among the outputs of a loss that has several.
"""


class Settings(Protocol):
    """The attributes of a :class:`fnnexp.nn.stack.Recipe` that choose a loss."""

    @property
    def loss(self) -> str: ...  # noqa: D102
    @property
    def output(self) -> str | None: ...  # noqa: D102
    @property
    def options(self) -> tuple[str, ...]: ...  # noqa: D102


def output_of(recipe: Settings) -> str:
    """Return the name of a recipe's output function: softmax, sigmoid or identity."""
    return recipe.output or next(iter(LOSSES[recipe.loss]))


def loss_for(recipe: Settings) -> Loss:
    """Return the loss that a recipe chooses; with label smoothing, its form for smoothed targets."""
    loss = LOSSES[recipe.loss][output_of(recipe)]
    return loss.smoothed if loss.smoothed and "label_smoothing" in recipe.options else loss


def target_values(loss: Loss, smoothing: Array, classes: int) -> tuple[Array, Array]:
    """Return the target of the wrong classes and the target of the right class, for each network.

    ``smoothing`` has the label smoothing s of each network. Both arrays returned have its shape.
    """
    other = smoothing / (2 if loss.one_against_all else classes)
    # The largest target marks the label, so it must be the largest even if 1 − s is lost in rounding.
    return other, np.maximum(1 - smoothing + other, np.nextafter(other, 1))
