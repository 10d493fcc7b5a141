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


def softmax_in_place(Z: Array, row: Array) -> None:
    """Write softmax over the last axis of the logits Z (…, C) over Z; row (…, 1) is overwritten."""
    np.maximum.reduce(Z, axis=-1, keepdims=True, out=row)
    np.subtract(Z, row, out=Z)
    np.exp(Z, out=Z)
    np.add.reduce(Z, axis=-1, keepdims=True, out=row)
    np.divide(Z, row, out=Z)


def losses_and_hits(Z: Array, labels: Array, epsilon: float) -> tuple[Array, Array]:
    """Return each example's loss and whether its label is the first of the largest logits.

    Parameters
    ----------
    Z
        Logits (K, B, C); left as they are.
    labels
        (K, B) integers in 0…C − 1.
    epsilon
        ε ≥ 0 of −log(p_y + ε). With 0 the loss is computed as logsumexp(z) − z_y, which cannot underflow.

    Returns
    -------
    losses (K, B) float64 and hits (K, B) bool.
    """
    picked = labels[..., None].astype(np.intp, copy=False)
    shifted = Z - Z.max(axis=-1, keepdims=True)
    z_y = np.take_along_axis(shifted, picked, axis=-1)[..., 0]
    log_sum = np.log(np.exp(shifted).sum(axis=-1))
    losses = log_sum - z_y if epsilon == 0 else -np.log(np.exp(z_y - log_sum) + Z.dtype.type(epsilon))
    return losses.astype(np.float64), Z.argmax(axis=-1) == labels


def gradient_in_place(Z: Array, onehot: Array, epsilon: float, row: Array) -> None:
    """Write dZ, the gradient of each example's loss, over its logits Z.

    Parameters
    ----------
    Z
        Logits (K, B, C); overwritten.
    onehot
        (K or 1, B, C) of Z's dtype: 1 at the label, else 0.
    epsilon
        ε ≥ 0 of −log(p_y + ε).
    row
        (K, B, 1), overwritten.
    """
    softmax_in_place(Z, row)
    if epsilon == 0:
        np.subtract(Z, onehot, out=Z)
        return
    p_y = np.add.reduce(Z * onehot, axis=-1, keepdims=True)  # exact: one term, the others are 0
    factor = p_y / (p_y + Z.dtype.type(epsilon))
    np.subtract(Z, onehot, out=Z)
    np.multiply(Z, factor, out=Z)
