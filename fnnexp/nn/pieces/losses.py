"""Softmax cross-entropy and its gradient, in closed form.

For the logits z of one example with label y, p = softmax(z) and the loss is −log(p_y + ε). Its exact
gradient with respect to z is p_y / (p_y + ε) · (p − onehot(y)); with ε = 0 the familiar p − onehot(y).
The factor matters where p_y underflows: such an example then gets no gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def losses_and_hits(Z: Array, onehot: Array, epsilon: float, row: Array) -> tuple[Array, Array]:
    """Return each example's loss and whether its label is the first of the largest logits.

    Parameters
    ----------
    Z
        Logits (K, B, C); overwritten with exp(z − max z), for :func:`gradient_in_place` to go on from.
    onehot
        (K, B, C) of Z's dtype: 1 at the label, else 0.
    epsilon
        ε ≥ 0 of −log(p_y + ε). With 0 the loss is computed as logsumexp(z) − z_y, which cannot underflow.
    row
        (K, B, 1) of Z's dtype; overwritten with Σ exp(z − max z).

    Returns
    -------
    losses (K, B) float64 and hits (K, B) bool.
    """
    np.maximum.reduce(Z, axis=-1, keepdims=True, out=row)
    np.subtract(Z, row, out=Z)
    z_y = np.add.reduce(Z * onehot, axis=-1)  # exact: one term, the others are 0
    hits = z_y == 0
    if (np.add.reduce(Z == 0, axis=-1, dtype=np.uint8) != 1).any():  # a tie, or logits that are no numbers
        hits = Z.argmax(axis=-1) == onehot.argmax(axis=-1)
    np.exp(Z, out=Z)
    np.add.reduce(Z, axis=-1, keepdims=True, out=row)
    log_sum = np.log(row[..., 0])
    losses = log_sum - z_y if epsilon == 0 else -np.log(np.exp(z_y - log_sum) + Z.dtype.type(epsilon))
    return losses.astype(np.float64), hits


def gradient_in_place(Z: Array, onehot: Array, epsilon: float, row: Array) -> None:
    """Write dZ, the gradient of each example's loss, over Z as :func:`losses_and_hits` left it.

    Parameters
    ----------
    Z, row
        exp(z − max z) (K, B, C), overwritten; its sum (K, B, 1).
    onehot
        (K, B, C) of Z's dtype: 1 at the label, else 0.
    epsilon
        ε ≥ 0 of −log(p_y + ε).
    """
    np.divide(Z, row, out=Z)
    if epsilon == 0:
        np.subtract(Z, onehot, out=Z)
        return
    p_y = np.add.reduce(Z * onehot, axis=-1, keepdims=True)
    factor = p_y / (p_y + Z.dtype.type(epsilon))
    np.subtract(Z, onehot, out=Z)
    np.multiply(Z, factor, out=Z)
