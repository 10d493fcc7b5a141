"""Evaluation: a forward pass over a split, for a stack's metrics or for one network's predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.base import Engine
from fnnexp.nn.engines.numpy_engine import DenseRows
from fnnexp.nn.epoch import CHUNK, lane_slices
from fnnexp.nn.network import Architecture, Parameters, Workspace, forward
from fnnexp.nn.pieces.batching import slices
from fnnexp.nn.pieces.losses import losses_and_hits, probabilities
from fnnexp.nn.pieces.metrics import Totals
from fnnexp.nn.stack import Recipe, Stack


def evaluate(recipe: Recipe, stack: Stack, engine: Engine, images: Array, labels: Array) -> dict[str, Array]:
    """Return each metric's mean (K,) over images (n, D) with labels (n,)."""
    n, K = len(images), len(stack.lanes)
    size = min(CHUNK, n)
    some_lanes = lane_slices(recipe, stack.theta, stack.theta, size, engine)
    rows = engine.make_rows(images, recipe.scale, size, stack.theta.dtype)
    totals = Totals(K)
    for chunk in slices(n, CHUNK):
        inputs, labels_here = [(range(K), rows.take(chunk))], np.asarray(labels[chunk])
        for some in some_lanes:
            work = some.workspace(chunk.stop - chunk.start)
            work.set_labels(labels_here)
            forward(some.parameters, some.inputs(inputs), work)
            some.measure(work, labels_here, recipe.epsilon, totals)
    return totals.means(n)


@dataclass(frozen=True)
class Predictions:
    """What a network predicts for n images.

    Attributes
    ----------
    predicted
        (n,) the class of the largest logit, the first of several.
    probability
        (n,) float64, the softmax of that class.
    loss
        (n,) float64, −log(p + ε) of the label.
    """

    predicted: NDArray[np.intp]
    probability: NDArray[np.float64]
    loss: NDArray[np.float64]


def parameters_from(architecture: Architecture, arrays: Mapping[str, Array]) -> Parameters:
    """Return the parameters of one lane from the arrays that :meth:`Parameters.named` gives."""
    theta = np.empty((1, architecture.parameter_count), arrays["W1"].dtype)
    parameters = Parameters(architecture, theta)
    for layer, (W, b) in enumerate(zip(parameters.W, parameters.b, strict=True), start=1):
        W[0] = arrays[f"W{layer}"]
        if b is not None:
            b[0, 0] = arrays[f"b{layer}"]
    return parameters


def predict(
    recipe: Recipe, parameters: Parameters, images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> Predictions:
    """Return one lane's predictions for images (n, D) with labels (n,).

    Rows are cut into chunks as in :func:`evaluate`, so on one machine the accuracy is the one that training
    recorded.
    """
    n, dtype = len(images), parameters.theta.dtype
    found = Predictions(np.empty(n, np.intp), np.empty(n), np.empty(n))
    rows = DenseRows(images, recipe.scale, min(CHUNK, n), dtype)
    with np.errstate(all="ignore"):  # overflowing logits are the network's, not the caller's
        for chunk in slices(n, CHUNK):
            size = chunk.stop - chunk.start
            work = Workspace(recipe.architecture, 1, size, dtype)
            work.set_labels(np.asarray(labels[chunk])[None])
            Z = forward(parameters, [(range(1), rows.take(chunk))], work)
            predicted = Z[0].argmax(axis=1)
            losses, _ = losses_and_hits(Z, work.onehot, recipe.epsilon, work.row)
            P = probabilities(Z, work.row, out=Z)
            found.predicted[chunk], found.loss[chunk] = predicted, losses[0]
            found.probability[chunk] = P[0, np.arange(size), predicted]
    return found
