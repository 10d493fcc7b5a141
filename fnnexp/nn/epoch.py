"""One epoch of training: the buffers of a stack, and the loop over batches that changes its arrays in place.

Rows are computed a chunk at a time and lanes a slice at a time, so that what a step writes stays in cache.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.base import Descent, Engine, engine_named, per_sample_engine
from fnnexp.nn.engines.numpy_engine import Inputs
from fnnexp.nn.network import Parameters, Workspace, backward, forward
from fnnexp.nn.pieces.batching import slices
from fnnexp.nn.pieces.losses import gradient_in_place, losses_and_hits, probabilities
from fnnexp.nn.pieces.metrics import Totals
from fnnexp.nn.pieces.optimizers import OPTIMIZERS, sgd
from fnnexp.nn.stack import DataArrays, Recipe, Stack

CHUNK = 512
"""Rows computed at once: few enough that their activations stay in cache. The number is part of the result,
for the order in which gradients are summed follows from it."""

SLICE_BYTES = 1 << 18
"""The most bytes of one array of activations of the lanes that take a step together: a core's cache then
holds several of them, and one lane's first weights and inputs. The number changes no result."""


def is_plain(recipe: Recipe) -> bool:
    """Whether the optimizer is plain descent: a step adds −η times the gradient and remembers nothing."""
    return OPTIMIZERS[recipe.optimizer].update is sgd


def descends_by_row(recipe: Recipe) -> bool:
    """Whether an epoch is plain descent with a step for each row, which engines do in their own way."""
    return recipe.batching.mode == "sample" and is_plain(recipe)


def engine_for(recipe: Recipe, name: str) -> Engine:
    """Return the engine of that name as it trains a recipe."""
    if descends_by_row(recipe):
        return per_sample_engine(name, recipe.architecture.activation)
    return engine_named(name)


class EpochTrainer:
    """One stack's buffers, and :meth:`train`, which changes its arrays in place."""

    def __init__(self, recipe: Recipe, stack: Stack, arrays: DataArrays, engine: Engine) -> None:
        self.recipe, self.stack = recipe, stack
        n = len(arrays.x_train) - recipe.validation
        self.images, self.labels = np.asarray(arrays.x_train[:n]), np.asarray(arrays.y_train[:n])
        dtype = np.dtype(recipe.dtype)
        self.batch_size = recipe.batching.batch_size(n)
        self.optimizer = OPTIMIZERS[recipe.optimizer]
        self.hyper = {
            name: np.array([[dict(lane.hyper)[name]] for lane in stack.lanes], dtype)
            for name in self.optimizer.hyperparameters
        }
        self.groups = same_order_groups(recipe, stack)
        # A step of plain descent on one chunk of rows is added to the parameters as it is computed.
        self.in_place = is_plain(recipe) and self.batch_size <= CHUNK
        self.descent: Descent | None = None
        if descends_by_row(recipe):
            self.descent = engine.per_sample(
                recipe.architecture,
                Parameters(recipe.architecture, stack.theta, engine.first_layer),
                self.hyper["lr"],
                recipe.epsilon,
                [lanes for lanes, _ in self.groups],
            )
            size, make_rows = self.descent.max_rows, self.descent.make_rows
        else:
            size, make_rows = min(CHUNK, self.batch_size), engine.make_rows
            self.gradients = stack.theta if self.in_place else np.empty_like(stack.theta)
            self.slices = lane_slices(recipe, stack.theta, self.gradients, size, engine)
            self.weights: dict[int, Array] = {}  # by batch size: whole batches, and a short last one
        self.rows = [make_rows(self.images, recipe.scale, size, dtype) for _ in self.groups]

    def train(self, epoch: int) -> dict[str, Array]:
        """Train one epoch; return each metric's mean (K,) over the rows, each measured before its step."""
        n = len(self.images)
        orders = [self.recipe.batching.order(n, seed, epoch) for _, seed in self.groups]
        totals = Totals(len(self.stack.lanes))
        if self.descent is not None:
            for block in slices(n, self.descent.max_rows):
                self._descend(self.descent, block, orders, totals)
            self.descent.write_back()
            return totals.means(n)
        steps_before = (epoch - 1) * -(-n // self.batch_size)
        for step, batch in enumerate(slices(n, self.batch_size), start=steps_before + 1):
            self._learn(batch, orders, step, totals)
        if self.in_place:
            for some in self.slices:
                some.parameters.first.write_back()
        return totals.means(n)

    def _descend(self, descent: Descent, block: slice, orders: list[Array | None], totals: Totals) -> None:
        """Take one step for each row of the block."""
        inputs, labels = self._take(block, orders)
        losses, hits = descent.descend(inputs, labels)
        every_lane = slice(0, len(labels))
        totals.add(every_lane, losses, hits)
        if totals.needs_probabilities:
            totals.add_others(every_lane, descent.probabilities(labels.shape[1]), labels)

    def _learn(self, batch: slice, orders: list[Array | None], step: int, totals: Totals) -> None:
        """Take one step for the batch, its gradient summed over chunks of rows in a fixed order."""
        size = batch.stop - batch.start
        weight = self._row_weight(size)
        if not self.in_place:
            self.gradients.fill(0)
        for chunk in slices(size, CHUNK):
            inputs, labels = self._take(slice(batch.start + chunk.start, batch.start + chunk.stop), orders)
            for some in self.slices:
                lanes, work = some.lanes, some.workspace(chunk.stop - chunk.start)
                work.set_labels(labels[lanes])
                seen = some.inputs(inputs)
                dZ = forward(some.parameters, seen, work)
                some.measure(work, labels[lanes], self.recipe.epsilon, totals)
                gradient_in_place(dZ, work.onehot, self.recipe.epsilon, work.row)
                np.multiply(dZ, weight[lanes], out=dZ)
                backward(some.parameters, seen, work, some.gradients)
        if not self.in_place:
            self.optimizer.update(self.stack.theta, self.gradients, self.stack.slots, step, self.hyper)
            for some in self.slices:
                some.parameters.first.weights_changed()

    def _row_weight(self, size: int) -> Array:
        """Return the weight (K, 1, 1) of a row's gradient in a batch of this size, times −η if in place."""
        if size not in self.weights:
            weight = np.ones((len(self.stack.lanes), 1, 1), self.stack.theta.dtype)
            if self.recipe.reduction == "mean":
                weight /= size
            self.weights[size] = -self.hyper["lr"][:, :, None] * weight if self.in_place else weight
        return self.weights[size]

    def _take(self, where: slice, orders: list[Array | None]) -> tuple[Inputs, NDArray[np.uint8]]:
        """Return each group's inputs, and every lane's labels (K, B)."""
        inputs = []
        labels = np.empty((len(self.stack.lanes), where.stop - where.start), np.uint8)
        for (lanes, _), rows, order in zip(self.groups, self.rows, orders, strict=True):
            chosen = where if order is None else order[where]
            inputs.append((lanes, rows.take(chosen)))
            labels[lanes.start : lanes.stop] = self.labels[chosen]
        return inputs, labels


class LaneSlice:
    """Some lanes of a stack that take a step together: few enough that their activations stay in cache.

    Attributes
    ----------
    lanes
        Which lanes of the stack.
    parameters, gradients
        Theirs; one object where gradients are added to the parameters as they are computed.
    """

    def __init__(self, recipe: Recipe, lanes: slice, theta: Array, gradients: Array, engine: Engine) -> None:
        self.architecture, self.lanes = recipe.architecture, lanes
        self.parameters = self.gradients = Parameters(self.architecture, theta[lanes], engine.first_layer)
        if gradients is not theta:
            self.gradients = Parameters(self.architecture, gradients[lanes], engine.first_layer)
        self._work: dict[int, Workspace] = {}

    def workspace(self, rows: int) -> Workspace:
        """Return the buffers for this many rows."""
        if rows not in self._work:
            theta = self.parameters.theta
            self._work[rows] = Workspace(self.architecture, len(theta), rows, theta.dtype)
        return self._work[rows]

    def inputs(self, inputs: Inputs) -> Inputs:
        """Return the stack's inputs for these lanes alone, which are counted from 0."""
        first, stop = self.lanes.start, self.lanes.stop
        return [
            (range(max(lanes.start, first) - first, min(lanes.stop, stop) - first), examples)
            for lanes, examples in inputs
            if lanes.start < stop and lanes.stop > first
        ]

    def measure(self, work: Workspace, labels: Array, epsilon: float, totals: Totals) -> None:
        """Add the rows' metrics to the totals. ``work.logits`` become what :func:`losses_and_hits` writes."""
        losses, hits = losses_and_hits(work.logits, work.onehot, epsilon, work.row)
        totals.add(self.lanes, losses, hits)
        if totals.needs_probabilities:
            totals.add_others(self.lanes, probabilities(work.logits, work.row), labels)


def lane_slices(recipe: Recipe, theta: Array, gradients: Array, rows: int, engine: Engine) -> list[LaneSlice]:
    """Cut the lanes of θ (K, P) into slices, for batches or chunks of this many rows."""
    widest = max((*recipe.architecture.hidden, recipe.architecture.classes))
    size = max(SLICE_BYTES // (rows * widest * theta.itemsize), 1)
    return [LaneSlice(recipe, lanes, theta, gradients, engine) for lanes in slices(len(theta), size)]


def same_order_groups(recipe: Recipe, stack: Stack) -> list[tuple[range, int]]:
    """Return the runs of lanes that see the same rows, each with the seed of their order."""
    if not recipe.batching.shuffle:
        return [(range(len(stack.lanes)), 0)]
    groups = []
    for seed, run in groupby(range(len(stack.lanes)), key=lambda k: stack.lanes[k].seed):
        members = list(run)
        groups.append((range(members[0], members[-1] + 1), seed))
    return groups
