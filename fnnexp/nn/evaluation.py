"""Evaluate networks on a split: the metrics of a stack, or the predictions of one network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.base import Engine, MakeRows
from fnnexp.nn.engines.numpy_engine import BlasFirstLayer, DenseRows, FirstLayer, RowSource, Scaling
from fnnexp.nn.engines.threads import Team
from fnnexp.nn.epoch import CHUNK, LaneSlice, Measured, add_metrics, lane_slices
from fnnexp.nn.network import Architecture, Parameters, Workspace, forward
from fnnexp.nn.pieces.batching import slices
from fnnexp.nn.pieces.losses import loss_for
from fnnexp.nn.pieces.metrics import Totals
from fnnexp.nn.rows import Split
from fnnexp.nn.stack import Lane, Recipe, Stack, smoothed_targets


def evaluate(
    recipe: Recipe, stack: Stack, engine: Engine, split: Split, team: Team | None = None
) -> dict[str, Array]:
    """Return the metrics of a stack's K networks on a split: the means over its rows, (K,), by name.

    The threads of ``team`` share the rows.
    """
    n, K = len(split.images), len(stack.lanes)
    size, team = min(CHUNK, n), team or Team()
    totals = Totals(K, recipe.metrics)
    benches: dict[int, tuple[RowSource, list[LaneSlice]]] = {}

    def compute(thread: int, chunk: slice) -> list[Measured]:
        if thread not in benches:
            rows = engine.make_rows(split.images, split.scaling, size, stack.theta.dtype)
            benches[thread] = rows, lane_slices(recipe, stack, stack.theta, size, engine)
        rows, stack_slices = benches[thread]
        inputs, labels = [(range(K), rows.take(chunk))], np.asarray(split.labels[chunk])
        measured = []
        for lane_slice in stack_slices:
            work = lane_slice.workspace(chunk.stop - chunk.start)
            work.set_labels(labels, lane_slice.target_values)
            forward(lane_slice.parameters, lane_slice.inputs(inputs), work)
            measured.append(
                lane_slice.measure(work, labels, recipe.epsilon, with_outputs=totals.needs_outputs)
            )
        return measured

    team.in_order(slices(n, CHUNK), compute, partial(add_metrics, totals))
    return totals.means(n)


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network for n images.

    Attributes
    ----------
    predicted
        (n,) the class with the largest logit; in a tie, the first of them.
    output
        (n,) float64, the network's output for the predicted class; with softmax, its probability.
    loss
        (n,) float64, the loss that the network was trained with.
    """

    predicted: NDArray[np.intp]
    output: NDArray[np.float64]
    loss: NDArray[np.float64]


def parameters_from(
    architecture: Architecture,
    arrays: Mapping[str, Array],
    first_layer: Callable[[Array], FirstLayer] = BlasFirstLayer,
) -> Parameters:
    """Return one network's :class:`Parameters`, given its arrays by name: ``W1 b1 W2 b2 …``."""
    theta = np.empty((1, architecture.parameter_count), arrays["W1"].dtype)
    parameters = Parameters(architecture, theta, first_layer)
    for layer, (W, b) in enumerate(zip(parameters.W, parameters.b, strict=True), start=1):
        W[0] = arrays[f"W{layer}"]
        if b is not None:
            b[0, 0] = arrays[f"b{layer}"]
    return parameters


def predict(
    recipe: Recipe, lane: Lane, parameters: Parameters, split: Split, make_rows: MakeRows = DenseRows
) -> Predictions:
    """Return one network's predictions for the n rows of a split.

    The rows are split into the same chunks as in :func:`evaluate`. So the accuracy equals the recorded one on
    the same machine, if ``parameters`` and ``make_rows`` are of the engine that trained the network.
    """
    n = len(split.images)
    predictions = Predictions(np.empty(n, np.intp), np.empty(n), np.empty(n))
    loss, target_values = loss_for(recipe), smoothed_targets(recipe, [lane])
    with np.errstate(all="ignore"):  # logits of a diverged network may overflow
        for chunk, work, Z in _logits(recipe, parameters, split.images, split.scaling, make_rows):
            work.set_labels(np.asarray(split.labels[chunk])[None], target_values)
            predicted = Z[0].argmax(axis=1)
            losses, _ = loss.losses_and_hits(Z, work.targets, recipe.epsilon, work.row)
            outputs = loss.outputs(Z, work.row, out=Z)
            predictions.predicted[chunk], predictions.loss[chunk] = predicted, losses[0]
            predictions.output[chunk] = outputs[0, np.arange(len(predicted)), predicted]
    return predictions


def outputs_for(
    recipe: Recipe, parameters: Parameters, images: Array, scaling: Scaling, make_rows: MakeRows = DenseRows
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return one network's predicted classes (n,) and its outputs (n, C) for n rows without labels.

    The classes, and the outputs for these classes, are the same as from :func:`predict`, to the last bit.
    """
    predicted = np.empty(len(images), np.intp)
    all_outputs = np.empty((len(images), recipe.architecture.classes))
    loss = loss_for(recipe)
    with np.errstate(all="ignore"):
        for chunk, work, Z in _logits(recipe, parameters, images, scaling, make_rows):
            predicted[chunk] = Z[0].argmax(axis=1)
            work.set_labels(np.zeros(Z.shape[:2], np.uint8))  # outputs do not depend on labels
            loss.losses_and_hits(Z, work.targets, recipe.epsilon, work.row)
            all_outputs[chunk] = loss.outputs(Z, work.row, out=Z)[0]
    return predicted, all_outputs


def _logits(
    recipe: Recipe, parameters: Parameters, images: Array, scaling: Scaling, make_rows: MakeRows
) -> Iterator[tuple[slice, Workspace, Array]]:
    """Yield for each chunk of the rows: its slice of them, its workspace, and its logits (1, B, C)."""
    dtype = parameters.theta.dtype
    rows = make_rows(images, scaling, min(CHUNK, len(images)), dtype)
    for chunk in slices(len(images), CHUNK):
        work = Workspace(recipe.architecture, 1, chunk.stop - chunk.start, dtype)
        yield chunk, work, forward(parameters, [(range(1), rows.take(chunk))], work)
