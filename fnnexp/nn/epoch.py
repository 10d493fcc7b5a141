"""One epoch of training: a loop over batches that changes the arrays of a stack in place.

A step computes one chunk of rows and one slice of networks at a time, so that its activations stay in cache.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.base import Assistant, Descent, Engine, FirstStep, engine_named, per_sample_engine
from fnnexp.nn.engines.numpy_engine import DenseRows, Examples, Inputs, RowSource
from fnnexp.nn.engines.threads import Team
from fnnexp.nn.network import Architecture, Parameters, Workspace, backward, forward
from fnnexp.nn.pieces.batching import slices
from fnnexp.nn.pieces.losses import loss_for
from fnnexp.nn.pieces.metrics import Totals
from fnnexp.nn.pieces.optimizers import OPTIMIZERS, decay_weights, sgd
from fnnexp.nn.pieces.regularizers import (
    DROPOUT,
    Draws,
    Dropout,
    add_l1_gradient,
    add_l2_gradient,
    bound_norms,
    clip_norms,
)
from fnnexp.nn.pieces.schedules import Schedule, factors
from fnnexp.nn.rows import Split
from fnnexp.nn.stack import Recipe, Stack, smoothed_targets

CHUNK = 512
"""Rows computed at once: few enough that their activations stay in cache. Changing the number changes results
in the last bits, because it determines the order in which gradients are summed."""

SLICE_BYTES = 1 << 18
"""The largest size in bytes of an array of activations, for the lanes of one slice. A core's cache then has
room for several such arrays and for the first weights and inputs of a lane. The number changes no result."""

PENALTIES = {"l2": add_l2_gradient, "l1": add_l1_gradient}
"""The penalties on the weights, by the name of their coefficient."""

NOT_IN_PLACE = frozenset({"l1", "clip_norm", "max_norm"})
"""Options with which plain descent needs the whole gradient of a batch before it changes the parameters."""


def is_plain(recipe: Recipe) -> bool:
    """Return whether the optimizer is plain gradient descent, which has no state: θ ← θ − η g."""
    return OPTIMIZERS[recipe.optimizer].update is sgd


def descends_by_row(recipe: Recipe) -> bool:
    """Return whether an epoch is plain descent with a step for each row.

    Engines have special code for such epochs. It supports only the cross-entropy of one-hot targets, and no
    options such as ``l2``. An engine's ``can_descend`` says which architectures its code supports.
    """
    plain = is_plain(recipe) and recipe.loss == "cross_entropy" and not recipe.options
    return plain and recipe.batching.mode == "sample"


def engine_for(recipe: Recipe, name: str) -> Engine:
    """Return the engine with this name, for training a recipe.

    If the recipe has a step for each row, and the engine's code for such steps does not support the
    activations but NumPy's does, the returned engine takes these steps with NumPy.
    """
    if descends_by_row(recipe):
        return per_sample_engine(name, recipe.architecture)
    return engine_named(name)


@dataclass(frozen=True)
class Step:
    """A training step of K networks on a batch, for the threads that compute the chunks of the batch.

    Attributes
    ----------
    batch
        The places of the batch's rows in the order of the epoch.
    orders
        For each group of networks that share an order of the rows: the row numbers in this order, or None for
        the order of the file.
    row_weight, decay
        The factors (K, 1, 1) by which the gradient of each row, and the weights, are multiplied. A ``decay``
        of None leaves the weights as they are.
    """

    batch: slice
    orders: list[Array | None]
    row_weight: Array
    decay: Array | None


class EpochTrainer:
    """Trains the networks of a stack, for one epoch at each call of :meth:`train`.

    The buffers are allocated once. The arrays of the stack are changed in place. The threads of ``team``
    compute the chunks of a batch, each with its own buffers.
    """

    def __init__(
        self, recipe: Recipe, stack: Stack, split: Split, engine: Engine, team: Team | None = None
    ) -> None:
        self.recipe, self.stack, self.team = recipe, stack, team or Team()
        self.images, self.labels = np.asarray(split.images), np.asarray(split.labels)
        dtype = np.dtype(recipe.dtype)
        self.batch_size = recipe.batching.batch_size(len(self.images))
        self.optimizer = OPTIMIZERS[recipe.optimizer]
        numbers = [dict(lane.hyper) for lane in stack.lanes]
        self.update = engine.updates.get(self.optimizer.update, self.optimizer.update)
        self.hyper = {
            name: np.array([[lane[name]] for lane in numbers], dtype)
            for name in (*self.optimizer.hyperparameters, *recipe.options)
            if name != "schedule"
        }
        self.dropout = Dropout(
            numbers,
            [lane.seed_for("noise") for lane in stack.lanes],
            (self.images.shape[1], *recipe.architecture.hidden),
            dtype,
        )
        self.groups = same_order_groups(recipe, stack)
        # With plain gradient descent and batches of a single chunk, `backward` changes the parameters itself
        # and stores no gradient.
        self.in_place = is_plain(recipe) and self.batch_size <= CHUNK and not {*recipe.options} & NOT_IN_PLACE
        self.descent: Descent | None = None
        self.benches: list[Bench] = []
        if descends_by_row(recipe) and engine.can_descend(recipe.architecture):
            self.descent = engine.per_sample(
                recipe.architecture,
                Parameters(recipe.architecture, stack.theta, engine.first_layer),
                self.hyper["lr"],
                recipe.epsilon,
                [lanes for lanes, _ in self.groups],
            )
            make_rows = self.descent.make_rows
            self.rows = [
                make_rows(self.images, split.scaling, self.descent.max_rows, dtype) for _ in self.groups
            ]
        else:
            size = min(CHUNK, self.batch_size)
            make_rows = DenseRows if self.dropout.of_inputs else engine.make_rows
            self.gradients = stack.theta if self.in_place else np.empty_like(stack.theta)
            threads = min(self.team.size, -(-self.batch_size // CHUNK))
            for _ in range(threads):
                gradients = self.gradients if threads == 1 else np.empty_like(stack.theta)
                self.benches.append(
                    Bench(
                        [make_rows(self.images, split.scaling, size, dtype) for _ in self.groups],
                        lane_slices(recipe, stack, gradients, size, engine, self.dropout.hidden),
                        gradients,
                    )
                )
            if not self.in_place:
                self.penalized = _PenalizedWeights(recipe.architecture, stack.theta, self.gradients)
            # The weight of a row in the loss, by batch size, because the last batch may be shorter.
            self.row_weights: dict[int, Array] = {}
            self._step_first_weights_at_once(engine)
            self.assistant = self._assistant(engine)

    def _step_first_weights_at_once(self, engine: Engine) -> None:
        """Let the engine update the first layer's weights while it computes their gradient, if it can."""
        bench = self.benches[0]
        self.first_steps = (
            engine.first_step is not None
            and self.optimizer.update in engine.updates
            and self.batch_size <= CHUNK
            and not {*self.recipe.options} & (NOT_IN_PLACE | {"l2"})
            and not isinstance(bench.rows[0], DenseRows)
        )
        if self.first_steps:
            assert engine.first_step is not None
            for lane_slice in bench.slices:
                slots = [slot[lane_slice.lanes] for slot in self.stack.slots]
                lane_slice.first_step = engine.first_step(
                    lane_slice.parameters.first, slots, self.optimizer.update
                )

    def _assistant(self, engine: Engine) -> Assistant | None:
        """Return an assistant, which lets a second thread help with the mini-batches of a single network.

        None if no thread is free, or if the engine or the recipe does not allow it.
        """
        (bench, *others), lanes = self.benches, self.stack.lanes
        can_assist = (
            engine.assistant is not None
            and self.team.size > 1
            and not others
            and len(lanes) == 1
            and bool(self.recipe.architecture.hidden)
            and (self.in_place or self.first_steps)
            and not isinstance(bench.rows[0], DenseRows)
        )
        if not can_assist:
            return None
        assert engine.assistant is not None
        (lane_slice,) = bench.slices
        return engine.assistant(bench.rows[0], lane_slice.parameters.first, lane_slice.first_step)

    @contextmanager
    def _assisted(self, order: Array | None) -> Iterator[None]:
        """Let the assistant's thread, if there is one, help while the ``with`` block trains an epoch."""
        if self.assistant is None:
            yield
            return
        n = len(self.images)
        (lane_slice,) = self.benches[0].slices
        works = {rows: lane_slice.workspace(rows) for rows in {self.batch_size, n % self.batch_size} - {0}}
        buffers = {rows: (work.A[0], work.dA[0]) for rows, work in works.items()}
        order = np.arange(n) if order is None else order
        self.team.start(self.assistant.begin(order, self.batch_size, buffers))
        try:
            yield
        finally:
            self.assistant.end()

    def train(self, epoch: int) -> dict[str, Array]:
        """Train one epoch; return the mean of each metric for the K networks, (K,).

        Each row is evaluated just before the step that uses it.
        """
        n = len(self.images)
        orders = [self.recipe.batching.order(n, seed, epoch) for _, seed in self.groups]
        totals = Totals(len(self.stack.lanes), self.recipe.metrics)
        self.with_outputs = totals.needs_outputs
        if self.descent is not None:
            for block in slices(n, self.descent.max_rows):
                self._descend(self.descent, block, orders, totals)
            self.descent.write_back()
            return totals.means(n)
        per_epoch = -(-n // self.batch_size)
        steps_before = (epoch - 1) * per_epoch
        rates = self._rates(steps_before, per_epoch) if "schedule" in self.recipe.options else None
        with self._assisted(orders[0]):
            for i, batch in enumerate(slices(n, self.batch_size)):
                if rates is not None:
                    self.hyper["lr"] = rates[i]
                    self.row_weights.clear()
                self._learn(batch, orders, steps_before + i + 1, totals)
        (first_bench, *_) = self.benches
        if self.in_place:
            for lane_slice in first_bench.slices:
                lane_slice.parameters.first.write_back()
        for lane_slice in first_bench.slices:
            if lane_slice.first_step is not None:
                lane_slice.first_step.write_back()
        return totals.means(n)

    def _rates(self, first_step: int, steps: int) -> Array:
        """Return the learning rates (steps, K, 1) of an epoch of this many steps.

        ``first_step`` is the number of its first step, counted from 0 over all epochs.
        """
        total = self.recipe.epochs * steps
        lanes = self.stack.lanes
        schedules = dict.fromkeys(lane.schedule or Schedule("constant") for lane in lanes)
        by_schedule = {plan: factors(plan, first_step, steps, total, steps) for plan in schedules}
        rates = [
            dict(lane.hyper)["lr"] * by_schedule[lane.schedule or Schedule("constant")] for lane in lanes
        ]
        return np.stack(rates, axis=1)[:, :, None].astype(self.stack.theta.dtype)

    def _descend(self, descent: Descent, block: slice, orders: list[Array | None], totals: Totals) -> None:
        """Take one step for each row of a block of rows, and add the rows' metrics to the totals."""
        inputs, labels = self._take(self.rows, block, orders)
        losses, hits = descent.descend(inputs, labels)
        all_lanes = slice(0, len(labels))
        totals.add(all_lanes, losses, hits)
        if totals.needs_outputs:
            totals.add_extra(all_lanes, descent.probabilities(labels.shape[1]), labels)

    def _learn(self, batch: slice, orders: list[Array | None], number: int, totals: Totals) -> None:
        """Take one step for a batch. Its gradient is summed over chunks of rows in a fixed order."""
        size = batch.stop - batch.start
        step = Step(batch, orders, self._row_weight(size), self._decay(size))
        self.dropout.begin(number)
        if self.first_steps:
            for lane_slice in self.benches[0].slices:
                assert lane_slice.first_step is not None
                hyper = {name: values[lane_slice.lanes] for name, values in self.hyper.items()}
                lane_slice.first_step.begin(number, hyper)
        self.team.in_order(
            self._chunks(size),
            partial(self._compute, step),
            partial(self._add, totals),
            size=len(self.benches),
        )
        if self.first_steps:
            if "weight_decay" in self.hyper:
                decay_weights(self.penalized.W[1:], self.hyper)
            for lane_slice in self.benches[0].slices:
                assert lane_slice.first_step is not None
                lane_slice.first_step.finish(
                    self.stack.theta[lane_slice.lanes], self.gradients[lane_slice.lanes]
                )
        elif not self.in_place:
            self._regularize_gradients(size)
            if "weight_decay" in self.hyper:
                decay_weights(self.penalized.W, self.hyper)
            self.update(self.stack.theta, self.gradients, self.stack.slots, number, self.hyper)
            if "max_norm" in self.hyper:
                for W in self.penalized.W:
                    bound_norms(W, self.hyper["max_norm"])
            for bench in self.benches:
                for lane_slice in bench.slices:
                    lane_slice.parameters.first.weights_changed()

    def _chunks(self, size: int) -> Iterator[tuple[slice, Draws]]:
        """Yield the chunks of a batch in order, each with the next random draws for dropout."""
        for chunk in slices(size, CHUNK):
            yield chunk, self.dropout.draw(chunk.stop - chunk.start)

    def _compute(self, step: Step, thread: int, part: tuple[slice, Draws]) -> Computed:
        """Compute the metrics and the gradient of a chunk of the batch, with the buffers of one thread."""
        bench, (chunk, draws), batch = self.benches[thread], part, step.batch
        empty = self._empty(chunk)
        rows = slice(batch.start + chunk.start, batch.start + chunk.stop)
        inputs, labels = self._take(bench.rows, rows, step.orders, draws)
        measured = []
        for lane_slice in bench.slices:
            lanes, work = lane_slice.lanes, lane_slice.workspace(chunk.stop - chunk.start)
            work.set_labels(labels[lanes], lane_slice.target_values)
            self._write_masks(draws, lanes, work)
            slice_inputs = lane_slice.inputs(inputs)
            dZ = forward(lane_slice.parameters, slice_inputs, work)
            measured.append(
                lane_slice.measure(work, labels[lanes], self.recipe.epsilon, with_outputs=self.with_outputs)
            )
            lane_slice.loss.gradient(dZ, work.targets, self.recipe.epsilon, work.row)
            np.multiply(dZ, step.row_weight[lanes], out=dZ)
            backward(
                lane_slice.parameters,
                slice_inputs,
                work,
                lane_slice.gradients,
                None if step.decay is None else step.decay[lanes],
                first_step=lane_slice.first_step,
                empty=empty,
            )
        return Computed(chunk, bench, measured)

    def _empty(self, chunk: slice) -> float | None:
        """Return 0 or −0, the gradient of first-layer weights whose inputs are 0 in all rows of a chunk.

        It is 0 for the first chunk of a batch. For a later chunk it is −0, because its gradient is added to
        others, and x + (−0) is x for every x. Return None if the gradient must be added to an array and not
        overwrite it.
        """
        if self.in_place or (chunk.start > 0 and len(self.benches) == 1):
            return None
        return 0.0 if chunk.start == 0 else -0.0

    def _add(self, totals: Totals, computed: Computed) -> None:
        """Add a chunk's metrics to the totals, and its gradient to the gradient of the batch.

        If there is only one thread, it has added the gradient there already.
        """
        add_metrics(totals, computed.measured)
        gradients = computed.bench.gradients
        if gradients is self.gradients:
            return
        if computed.chunk.start == 0:
            np.copyto(self.gradients, gradients)
        else:
            np.add(self.gradients, gradients, out=self.gradients)

    def _row_weight(self, size: int) -> Array:
        """Return the factor (K, 1, 1) by which a row's gradient is multiplied in a batch of this size.

        If `backward` changes the parameters itself, the factor includes −η, where η is the learning rate.
        """
        if size not in self.row_weights:
            weight = np.ones((len(self.stack.lanes), 1, 1), self.stack.theta.dtype)
            if self.recipe.reduction == "mean":
                weight /= size
            self.row_weights[size] = -self.hyper["lr"][:, :, None] * weight if self.in_place else weight
        return self.row_weights[size]

    def _decay(self, size: int) -> Array | None:
        """Return 1 − η · l2 (K, 1, 1), by which `backward` multiplies the weights before a step.

        None without l2, or if `backward` does not change the parameters itself.
        """
        if not self.in_place or "l2" not in self.hyper:
            return None
        l2 = self._penalty("l2", size)
        decay: Array = 1 - self.hyper["lr"][:, :, None] * l2
        return decay

    def _penalty(self, name: str, size: int) -> Array:
        """Return the coefficient (K, 1, 1) of a penalty such as ``l2``.

        If a step uses the sum of the rows' gradients and not their mean, it is multiplied by the batch size.
        """
        coefficient: Array = self.hyper[name][:, :, None]
        return coefficient if self.recipe.reduction == "mean" else coefficient * coefficient.dtype.type(size)

    def _regularize_gradients(self, size: int) -> None:
        """Add the gradients of the penalties, and then clip the gradients."""
        for name, add in PENALTIES.items():
            if name in self.hyper:
                coefficient = self._penalty(name, size)
                for W, gradient, buffer in self.penalized:
                    add(gradient, W, coefficient, buffer)
        if "clip_norm" in self.hyper:
            clip_norms(self.gradients, self.hyper["clip_norm"])

    def _write_masks(self, draws: Draws, lanes: slice, work: Workspace) -> None:
        """Write the dropout masks of these networks to the workspace."""
        for layer, masks in work.masks.items():
            for k, lane in enumerate(range(*lanes.indices(len(self.stack.lanes)))):
                self.dropout.mask(draws, layer + 1, lane, masks[k])

    def _dropped(self, draws: Draws, lane: int, examples: Examples) -> Examples:
        """Return rows of the input with dropout for one network: each value is set to 0 or scaled up."""
        mask = np.empty((len(examples.X), self.images.shape[1]), examples.X.dtype)
        self.dropout.mask(draws, 0, lane, mask)
        return Examples(
            examples.X * (mask if examples.used is None else mask[:, examples.used]), examples.used
        )

    def _take(
        self,
        sources: Sequence[RowSource],
        where: slice,
        orders: list[Array | None],
        draws: Draws | None = None,
    ) -> tuple[Inputs, NDArray[np.uint8]]:
        """Return B rows of the epoch: the inputs for each group of networks, and the labels of all K, (K, B).

        Parameters
        ----------
        sources, orders
            For each group of networks: where the rows come from, and the order of the rows in this epoch.
        where
            The places of the B rows in these orders.
        draws
            The random draws for dropout.
        """
        inputs = []
        labels = np.empty((len(self.stack.lanes), where.stop - where.start), np.uint8)
        for (lanes, _), rows, order in zip(self.groups, sources, orders, strict=True):
            chosen = where if order is None else order[where]
            examples = rows.take(chosen)
            if draws is not None and self.dropout.of_inputs:
                examples = self._dropped(draws, lanes.start, examples)
            inputs.append((lanes, examples))
            labels[lanes.start : lanes.stop] = self.labels[chosen]
        return inputs, labels


class _PenalizedWeights:
    """The weights of each layer of a stack, for penalties such as l2.

    Iterating yields for each layer its W, the gradient of W, and a buffer for the gradient of a penalty.
    """

    def __init__(self, architecture: Architecture, theta: Array, gradients: Array) -> None:
        self.W = Parameters(architecture, theta).W
        self._gradients = Parameters(architecture, gradients).W
        self._buffers: list[Array] = []

    def __iter__(self) -> Iterator[tuple[Array, Array, Array]]:
        self._buffers = self._buffers or [np.empty_like(W) for W in self.W]
        return zip(self.W, self._gradients, self._buffers, strict=True)


class LaneSlice:
    """Networks of a stack that are computed together: few enough that their activations stay in cache.

    Attributes
    ----------
    lanes
        Which networks of the stack they are.
    parameters, gradients
        Their parameters, and the arrays to which gradients are added. Plain descent on small batches adds its
        steps directly to the parameters; both attributes are then the same object.
    first_step
        Updates the first layer's weights; None if they are updated with the other parameters.
    loss, target_values
        The loss; and the networks' smoothed targets, or None for one-hot targets.
    """

    def __init__(
        self,
        recipe: Recipe,
        lanes: slice,
        stack: Stack,
        gradients: Array,
        engine: Engine,
        dropout: Collection[int] = (),
    ) -> None:
        self.architecture, self.lanes, theta = recipe.architecture, lanes, stack.theta
        self.loss, self.target_values = loss_for(recipe), smoothed_targets(recipe, stack.lanes[lanes])
        self._dropout = dropout
        self.first_step: FirstStep | None = None
        self.parameters = self.gradients = Parameters(self.architecture, theta[lanes], engine.first_layer)
        if gradients is not theta:
            self.gradients = Parameters(self.architecture, gradients[lanes], engine.first_layer)
        self._work: dict[int, Workspace] = {}

    def workspace(self, rows: int) -> Workspace:
        """Return the buffers for the forward and backward passes with this number of rows."""
        if rows not in self._work:
            theta = self.parameters.theta
            self._work[rows] = Workspace(self.architecture, len(theta), rows, theta.dtype, self._dropout)
        return self._work[rows]

    def inputs(self, inputs: Inputs) -> Inputs:
        """Return the inputs for the networks of this slice, given those for all networks of the stack.

        Each has the range of the networks that share it, which are numbered from 0 within the slice.
        """
        first, stop = self.lanes.start, self.lanes.stop
        return [
            (range(max(lanes.start, first) - first, min(lanes.stop, stop) - first), examples)
            for lanes, examples in inputs
            if lanes.start < stop and lanes.stop > first
        ]

    def measure(self, work: Workspace, labels: Array, epsilon: float, *, with_outputs: bool) -> Measured:
        """Return the losses, hits, outputs and labels of the rows, from which metrics are computed.

        This overwrites ``work.logits``. A hit is a row whose prediction is right.
        """
        losses, hits = self.loss.losses_and_hits(work.logits, work.targets, epsilon, work.row)
        outputs = self.loss.outputs(work.logits, work.row) if with_outputs else None
        return self.lanes, losses, hits, outputs, labels


@dataclass(frozen=True)
class Bench:
    """The sources and buffers with which one thread computes chunks of a batch for K networks.

    Attributes
    ----------
    rows
        Where it takes rows from, for each group of networks with the same order of rows.
    slices
        The networks, in slices that are computed one after another.
    gradients
        The array (K, P) for the gradient of a chunk. If there is only one thread, it adds up the gradients of
        all chunks of a batch there.
    """

    rows: Sequence[RowSource]
    slices: Sequence[LaneSlice]
    gradients: Array


@dataclass(frozen=True)
class Computed:
    """The result of a thread for a chunk of a batch.

    ``measured`` has the losses and hits of the rows, and ``bench.gradients`` the chunk's gradient.
    """

    chunk: slice
    bench: Bench
    measured: Sequence[Measured]


Measured = tuple[slice, Array, Array, Array | None, Array]
"""Some lanes; and of some rows the losses, the hits, the outputs (None without added metrics), the labels."""


def add_metrics(totals: Totals, measured: Sequence[Measured]) -> None:
    """Add the losses, hits and other metrics of some rows to the totals.

    ``measured`` is what :meth:`LaneSlice.measure` has returned for each slice of networks.
    """
    for lanes, losses, hits, outputs, labels in measured:
        totals.add(lanes, losses, hits)
        if outputs is not None:
            totals.add_extra(lanes, outputs, labels)


def lane_slices(
    recipe: Recipe, stack: Stack, gradients: Array, rows: int, engine: Engine, dropout: Collection[int] = ()
) -> list[LaneSlice]:
    """Split the networks of a stack into slices that are computed together.

    A slice has few enough networks that their activations for this number of rows stay in cache. ``dropout``
    are the hidden layers with dropout, counted from 0.
    """
    widest = max((*recipe.architecture.hidden, recipe.architecture.classes))
    size = max(SLICE_BYTES // (rows * widest * stack.theta.itemsize), 1)
    return [
        LaneSlice(recipe, lanes, stack, gradients, engine, dropout)
        for lanes in slices(len(stack.lanes), size)
    ]


def same_order_groups(recipe: Recipe, stack: Stack) -> list[tuple[range, int]]:
    """Return the ranges of networks that have the same order of rows, each with the seed of that order.

    With dropout of inputs each network is a range of its own, because its inputs differ from the others'.
    """
    if f"{DROPOUT}0" in recipe.options:
        return [(range(k, k + 1), lane.seed_for("order")) for k, lane in enumerate(stack.lanes)]
    if not recipe.batching.shuffle:
        return [(range(len(stack.lanes)), 0)]
    groups = []
    lanes = stack.lanes
    for seed, same_seed in groupby(range(len(lanes)), key=lambda k: lanes[k].seed_for("order")):
        members = list(same_seed)
        groups.append((range(members[0], members[-1] + 1), seed))
    return groups
