"""Softmax cross-entropy and its gradient, in closed form.

For the logits z of one example with label y, p = softmax(z) and the loss is −log(p_y + ε). Its exact
gradient with respect to z is p_y / (p_y + ε) · (p − onehot(y)); with ε = 0 it is the familiar p − onehot(y).
The factor matters where p_y underflows: the example then gets no gradient.

Softmax is p_c = exp(z_c − max z) / Σ_k exp(z_k − max z). Three functions compute it step by step:
:func:`subtract_largest`, :func:`exponentiate`, :func:`probabilities`.
"""

from __future__ import annotations

import numpy as np

from fnnexp.nn.arrays import Array


def subtract_largest(Z: Array, row: Array, out: Array) -> None:
    """Write z − max z to ``out`` for each row of Z (…, C), and max z to ``row`` (…, 1)."""
    np.maximum.reduce(Z, axis=-1, keepdims=True, out=row)
    np.subtract(Z, row, out=out)


def exponentiate(Z: Array, row: Array) -> None:
    """Write exp(z) over each row of Z (…, C), and Σ exp(z) to ``row`` (…, 1)."""
    np.exp(Z, out=Z)
    np.add.reduce(Z, axis=-1, keepdims=True, out=row)


def probabilities(E: Array, row: Array, out: Array | None = None) -> Array:
    """Return the softmax E / Σ exp(z), in ``out`` if given; :func:`exponentiate` writes E and ``row``."""
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
    if (np.add.reduce(Z == 0, axis=-1, dtype=np.uint8) != 1).any():  # a tie, or NaN logits
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
