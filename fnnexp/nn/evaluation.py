"""What a trained network says of images: the forward pass alone, by the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.engines.numpy_engine import Rows
from fnnexp.nn.network import Architecture, Parameters, Workspace, forward
from fnnexp.nn.pieces.batching import pieces
from fnnexp.nn.pieces.losses import losses_and_hits
from fnnexp.nn.training import CHUNK

Array = NDArray[Any]


@dataclass(frozen=True)
class Predictions:
    """What a network says of n images.

    Attributes
    ----------
    said
        (n,) the class of the largest logit, the first of several.
    probability
        (n,) float64, the softmax of that class.
    loss
        (n,) float64, −log(p + ε) of the label.
    """

    said: NDArray[np.intp]
    probability: NDArray[np.float64]
    loss: NDArray[np.float64]


def parameters_of(architecture: Architecture, arrays: Mapping[str, Array]) -> Parameters:
    """Return the parameters of one lane from the arrays that :meth:`Parameters.named` gives."""
    theta = np.empty((1, architecture.parameter_count), arrays["W1"].dtype)
    parameters = Parameters(architecture, theta)
    for layer, (W, b) in enumerate(zip(parameters.W, parameters.b, strict=True), start=1):
        W[0] = arrays[f"W{layer}"]
        if b is not None:
            b[0, 0] = arrays[f"b{layer}"]
    return parameters


def predict(
    architecture: Architecture,
    parameters: Parameters,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    scale: str,
    epsilon: float = 0.0,
) -> Predictions:
    """Return what one lane says of images (n, D) with labels (n,).

    The rows are cut as they are where training measures a split, so on one machine the accuracy is that one.
    `scale` and `epsilon` are :class:`fnnexp.nn.training.Recipe`'s.
    """
    n, dtype = len(images), parameters.theta.dtype
    found = Predictions(np.empty(n, np.intp), np.empty(n), np.empty(n))
    rows = Rows(images, scale, min(CHUNK, n), dtype)
    with np.errstate(all="ignore"):  # logits that overflow are the network's
        for chunk in pieces(n, CHUNK):
            size = chunk.stop - chunk.start
            work = Workspace(architecture, 1, size, dtype)
            work.expect(np.asarray(labels[chunk])[None])
            Z = forward(parameters, [(range(1), rows.take(chunk))], work)
            said = Z[0].argmax(axis=1)
            losses, _ = losses_and_hits(Z, work.onehot, epsilon, work.row)
            found.said[chunk], found.loss[chunk] = said, losses[0]
            found.probability[chunk] = Z[0, np.arange(size), said] / work.row[0, :, 0]
    return found
