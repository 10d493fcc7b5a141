"""One epoch of training: a loop over batches that changes the arrays of a stack in place.

A step computes one chunk of rows and one slice of lanes at a time, so that its activations stay in cache.
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
from fnnexp.nn.pieces.optimizers import OPTIMIZERS, decay, sgd
from fnnexp.nn.pieces.schedules import Schedule, factors
from fnnexp.nn.stack import DataArrays, Recipe, Stack

CHUNK = 512
"""Rows computed at once: few enough that their activations stay in cache. Changing the number changes results
in the last bits, because it determines the order in which gradients are summed."""

SLICE_BYTES = 1 << 18
"""The largest size in bytes of an array of activations, for the lanes of one slice. A core's cache then has
room for several such arrays and for the first weights and inputs of a lane. The number changes no result."""


def is_plain(recipe: Recipe) -> bool:
    """Return whether the optimizer is plain gradient descent, which has no state: θ ← θ − η g."""
    return OPTIMIZERS[recipe.optimizer].update is sgd


def descends_by_row(recipe: Recipe) -> bool:
    """Return whether an epoch is plain descent with a step for each row, which has its own code."""
    return recipe.batching.mode == "sample" and is_plain(recipe) and not recipe.options


def engine_for(recipe: Recipe, name: str) -> Engine:
    """Return the engine of this name, in its form for descent row by row if the recipe needs that."""
    if descends_by_row(recipe):
        return per_sample_engine(name, recipe.architecture.activation)
    return engine_named(name)


class EpochTrainer:
    """The buffers to train one stack; :meth:`train` changes its arrays in place."""

    def __init__(self, recipe: Recipe, stack: Stack, arrays: DataArrays, engine: Engine) -> None:
        self.recipe, self.stack = recipe, stack
        n = len(arrays.x_train) - recipe.validation
        self.images, self.labels = np.asarray(arrays.x_train[:n]), np.asarray(arrays.y_train[:n])
        dtype = np.dtype(recipe.dtype)
        self.batch_size = recipe.batching.batch_size(n)
        self.optimizer = OPTIMIZERS[recipe.optimizer]
        self.update = engine.updates.get(self.optimizer.update, self.optimizer.update)
        self.hyper = {
            name: np.array([[dict(lane.hyper)[name]] for lane in stack.lanes], dtype)
            for name in self.optimizer.hyperparameters
        }
        self.W = Parameters(recipe.architecture, stack.theta).W
        self.groups = same_order_groups(recipe, stack)
        # If a batch is one chunk, backward adds a step of plain descent directly to the parameters.
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
            self.weights: dict[int, Array] = {}  # by batch size: the last batch may be shorter
        self.rows = [make_rows(self.images, recipe.scale, size, dtype) for _ in self.groups]

    def train(self, epoch: int) -> dict[str, Array]:
        """Train one epoch; return the mean (K,) of each metric, where a row is evaluated before its step."""
        n = len(self.images)
        orders = [self.recipe.batching.order(n, seed, epoch) for _, seed in self.groups]
        totals = Totals(len(self.stack.lanes))
        if self.descent is not None:
            for block in slices(n, self.descent.max_rows):
                self._descend(self.descent, block, orders, totals)
            self.descent.write_back()
            return totals.means(n)
        per_epoch = -(-n // self.batch_size)
        steps_before = (epoch - 1) * per_epoch
        rates = self._rates(steps_before, per_epoch) if "schedule" in self.recipe.options else None
        for i, batch in enumerate(slices(n, self.batch_size)):
            if rates is not None:
                self.hyper["lr"] = rates[i]
                self.weights.clear()
            self._learn(batch, orders, steps_before + i + 1, totals)
        if self.in_place:
            for lane_slice in self.slices:
                lane_slice.parameters.first.write_back()
        return totals.means(n)

    def _rates(self, first_step: int, steps: int) -> Array:
        """Return the learning rates (steps, K, 1) of an epoch, whose first step in the run is given."""
        total = self.recipe.epochs * steps
        lanes = self.stack.lanes
        schedules = dict.fromkeys(lane.schedule or Schedule("constant") for lane in lanes)
        by_schedule = {plan: factors(plan, first_step, steps, total, steps) for plan in schedules}
        rates = [
            dict(lane.hyper)["lr"] * by_schedule[lane.schedule or Schedule("constant")] for lane in lanes
        ]
        return np.stack(rates, axis=1)[:, :, None].astype(self.stack.theta.dtype)

    def _descend(self, descent: Descent, block: slice, orders: list[Array | None], totals: Totals) -> None:
        """Take one step for each row of the block."""
        inputs, labels = self._take(block, orders)
        losses, hits = descent.descend(inputs, labels)
        all_lanes = slice(0, len(labels))
        totals.add(all_lanes, losses, hits)
        if totals.needs_probabilities:
            totals.add_extra(all_lanes, descent.probabilities(labels.shape[1]), labels)

    def _learn(self, batch: slice, orders: list[Array | None], step: int, totals: Totals) -> None:
        """Take one step for a batch. Its gradient is summed over chunks of rows in a fixed order."""
        size = batch.stop - batch.start
        weight = self._row_weight(size)
        if not self.in_place:
            self.gradients.fill(0)
        for chunk in slices(size, CHUNK):
            inputs, labels = self._take(slice(batch.start + chunk.start, batch.start + chunk.stop), orders)
            for lane_slice in self.slices:
                lanes, work = lane_slice.lanes, lane_slice.workspace(chunk.stop - chunk.start)
                work.set_labels(labels[lanes])
                slice_inputs = lane_slice.inputs(inputs)
                dZ = forward(lane_slice.parameters, slice_inputs, work)
                lane_slice.measure(work, labels[lanes], self.recipe.epsilon, totals)
                gradient_in_place(dZ, work.onehot, self.recipe.epsilon, work.row)
                np.multiply(dZ, weight[lanes], out=dZ)
                backward(lane_slice.parameters, slice_inputs, work, lane_slice.gradients)
        if not self.in_place:
            if "weight_decay" in self.hyper:
                decay(self.W, self.hyper)
            self.update(self.stack.theta, self.gradients, self.stack.slots, step, self.hyper)
            for lane_slice in self.slices:
                lane_slice.parameters.first.weights_changed()

    def _row_weight(self, size: int) -> Array:
        """Return the factor (K, 1, 1) of a row's gradient in a batch of this size.

        If the step is taken in place, the factor includes −η.
        """
        if size not in self.weights:
            weight = np.ones((len(self.stack.lanes), 1, 1), self.stack.theta.dtype)
            if self.recipe.reduction == "mean":
                weight /= size
            self.weights[size] = -self.hyper["lr"][:, :, None] * weight if self.in_place else weight
        return self.weights[size]

    def _take(self, where: slice, orders: list[Array | None]) -> tuple[Inputs, NDArray[np.uint8]]:
        """Return the inputs of each group of lanes, and the labels of all lanes (K, B)."""
        inputs = []
        labels = np.empty((len(self.stack.lanes), where.stop - where.start), np.uint8)
        for (lanes, _), rows, order in zip(self.groups, self.rows, orders, strict=True):
            chosen = where if order is None else order[where]
            inputs.append((lanes, rows.take(chosen)))
            labels[lanes.start : lanes.stop] = self.labels[chosen]
        return inputs, labels


class LaneSlice:
    """Lanes of a stack that are computed together: few enough that their activations stay in cache.

    Attributes
    ----------
    lanes
        The lanes, as a slice of the stack.
    parameters, gradients
        The lanes' parameters, and the arrays to which gradients are added. Plain descent on small batches
        adds its steps to the parameters at once; both attributes are then the same object.
    """

    def __init__(self, recipe: Recipe, lanes: slice, theta: Array, gradients: Array, engine: Engine) -> None:
        self.architecture, self.lanes = recipe.architecture, lanes
        self.parameters = self.gradients = Parameters(self.architecture, theta[lanes], engine.first_layer)
        if gradients is not theta:
            self.gradients = Parameters(self.architecture, gradients[lanes], engine.first_layer)
        self._work: dict[int, Workspace] = {}

    def workspace(self, rows: int) -> Workspace:
        """Return the buffers for this number of rows."""
        if rows not in self._work:
            theta = self.parameters.theta
            self._work[rows] = Workspace(self.architecture, len(theta), rows, theta.dtype)
        return self._work[rows]

    def inputs(self, inputs: Inputs) -> Inputs:
        """Return the part of the stack's inputs for these lanes, which are numbered from 0."""
        first, stop = self.lanes.start, self.lanes.stop
        return [
            (range(max(lanes.start, first) - first, min(lanes.stop, stop) - first), examples)
            for lanes, examples in inputs
            if lanes.start < stop and lanes.stop > first
        ]

    def measure(self, work: Workspace, labels: Array, epsilon: float, totals: Totals) -> None:
        """Add the metrics of the rows to the totals. :func:`losses_and_hits` overwrites ``work.logits``."""
        losses, hits = losses_and_hits(work.logits, work.onehot, epsilon, work.row)
        totals.add(self.lanes, losses, hits)
        if totals.needs_probabilities:
            totals.add_extra(self.lanes, probabilities(work.logits, work.row), labels)


def lane_slices(recipe: Recipe, theta: Array, gradients: Array, rows: int, engine: Engine) -> list[LaneSlice]:
    """Split the lanes of θ (K, P) into slices, for chunks of this number of rows."""
    widest = max((*recipe.architecture.hidden, recipe.architecture.classes))
    size = max(SLICE_BYTES // (rows * widest * theta.itemsize), 1)
    return [LaneSlice(recipe, lanes, theta, gradients, engine) for lanes in slices(len(theta), size)]


def same_order_groups(recipe: Recipe, stack: Stack) -> list[tuple[range, int]]:
    """Return the ranges of lanes that have the same order of rows, each with its seed."""
    if not recipe.batching.shuffle:
        return [(range(len(stack.lanes)), 0)]
    groups = []
    for seed, same_seed in groupby(range(len(stack.lanes)), key=lambda k: stack.lanes[k].seed):
        members = list(same_seed)
        groups.append((range(members[0], members[-1] + 1), seed))
    return groups
