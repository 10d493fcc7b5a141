"""Training a stack: its state, and ``advance``, which trains whole epochs of it.

    start(recipe, lanes) → stack
    advance(recipe, stack, arrays, seconds, diagnostics, engine) → (stack', records)

Both are pure. All that a lane's future depends on is in the stack, and every draw has an address, so a
lane's curve and weights are bitwise the same alone, in any stack, and in any cut into segments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.engines.base import Descent, Engine, engine_named
from fnnexp.nn.engines.numpy_engine import Inputs
from fnnexp.nn.layer_stats import Probe
from fnnexp.nn.network import Architecture, Parameters, Workspace, backward, forward, initial
from fnnexp.nn.pieces.batching import Batching, pieces
from fnnexp.nn.pieces.losses import gradient_in_place, losses_and_hits
from fnnexp.nn.pieces.optimizers import OPTIMIZERS

Array = NDArray[Any]

CHUNK = 512
"""Rows computed at once: few enough that their activations stay in cache. A fixed number, because the
order in which gradients are summed is part of the result."""

TEAM_BYTES = 1 << 18
"""What one array of activations of the lanes that go through a step together may take: several of them,
with the first layer's weights and inputs of one lane, fit a core's cache. It changes no result."""


class DataArrays(Protocol):
    """The four arrays of a data set: images (n, D) and labels (n,), all uint8."""

    @property
    def x_train(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def y_train(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def x_test(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def y_test(self) -> NDArray[np.uint8]: ...  # noqa: D102


@dataclass(frozen=True)
class Recipe:
    """What all lanes of a stack share.

    Attributes
    ----------
    architecture, batching
        The network's shape; how an epoch is cut.
    optimizer
        A key of :data:`fnnexp.nn.pieces.optimizers.OPTIMIZERS`.
    epochs
        Epochs to train; 0 records the untrained network.
    reduction
        ``mean`` or ``sum`` of the batch's gradients.
    epsilon
        ε of the loss −log(p_y + ε).
    scale
        ``unit`` or ``raw`` inputs.
    validation
        How many of the last training rows are held out.
    dtype
        ``float32`` or ``float64``.
    """

    architecture: Architecture
    batching: Batching
    optimizer: str
    epochs: int
    reduction: str = "mean"
    epsilon: float = 0.0
    scale: str = "unit"
    validation: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Lane:
    """What is a lane's own.

    Attributes
    ----------
    key
        Its name, carried along and never looked into.
    seed
        The address of its draws.
    stds
        The standard deviation of each layer's weights at the start.
    hyper
        The optimizer's hyperparameters as (name, value), in the optimizer's order.
    """

    key: str
    seed: int
    stds: tuple[float, ...]
    hyper: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Stack:
    """K lanes after some whole epochs: θ (K, P) and the optimizer's slots, each (K, P).

    A stack that has not begun has θ (K, 0) and no slots; :func:`advance` draws its start.
    """

    lanes: tuple[Lane, ...]
    theta: Array
    slots: tuple[Array, ...]
    epoch: int = 0

    @classmethod
    def not_begun(cls, lanes: Sequence[Lane]) -> Stack:
        """Return a stack whose start is not drawn yet."""
        return cls(tuple(lanes), np.empty((len(lanes), 0)), ())

    @property
    def is_begun(self) -> bool:
        """Whether its start is drawn."""
        return bool(self.theta.shape[1])

    def select(self, which: Sequence[int]) -> Stack:
        """Return the stack of some of its lanes."""
        chosen = list(which)
        return replace(
            self,
            lanes=tuple(self.lanes[k] for k in chosen),
            theta=self.theta[chosen],
            slots=tuple(slot[chosen] for slot in self.slots),
        )


@dataclass(frozen=True)
class Record:
    """One lane's metrics for one epoch.

    Training loss and accuracy are means over the epoch's rows as each was met, before the step it took
    part in; validation and test are measured after the epoch's last step. At epoch 0 all are measured on
    the untrained network. ``seconds`` is the stack's wall time for the epoch, divided by its lanes. A lane
    that diverged leaves with its last parameters, ``theta`` (P,).

    With diagnostics each record holds those of its epoch's end too, and there is one of epoch 0, before any
    training, that holds nothing else (:data:`fnnexp.nn.layer_stats.QUANTITIES`). They are not in ``seconds``.
    """

    key: str
    epoch: int
    metrics: dict[str, float]
    seconds: float
    theta: Array | None = None

    @property
    def diverged(self) -> bool:
        """Whether one of its losses or parameters was no longer finite."""
        return self.theta is not None


def start(recipe: Recipe, lanes: Sequence[Lane]) -> Stack:
    """Return the untrained stack. Lanes that see the same order of rows are put side by side."""
    ordered = tuple(sorted(lanes, key=lambda lane: lane.seed)) if recipe.batching.shuffle else tuple(lanes)
    dtype = np.dtype(recipe.dtype)
    theta = np.stack([initial(recipe.architecture, lane.seed, lane.stds, dtype) for lane in ordered])
    slots = tuple(np.zeros_like(theta) for _ in range(OPTIMIZERS[recipe.optimizer].slots))
    return Stack(ordered, theta, slots)


def advance(
    recipe: Recipe,
    stack: Stack,
    arrays: DataArrays,
    seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
    *,
    diagnostics: bool = False,
    engine: str = "numpy",
) -> tuple[Stack, list[Record]]:
    """Train whole epochs, at least one, until ``seconds`` have passed or the stack is done.

    A lane one of whose losses or parameters is no longer finite at an epoch's end is recorded as diverged
    there and leaves the stack. Whether there are diagnostics changes nothing else. ``engine`` is a key of
    :data:`fnnexp.nn.engines.base.ENGINES`; engines agree up to rounding.

    Returns
    -------
    The new stack, and a record for each lane and epoch, with diagnostics one of epoch 0 too. The stack is
    done when its epoch is ``recipe.epochs`` or no lane is left.
    """
    began = clock()
    records: list[Record] = []
    computing = engine_named(engine)
    if not stack.is_begun:
        stack = start(recipe, stack.lanes)
    with np.errstate(all="ignore"):  # what overflows is found by its result and said on the record
        stack = replace(stack, theta=stack.theta.copy(), slots=tuple(slot.copy() for slot in stack.slots))
        probe = _probe(recipe, arrays) if diagnostics else None
        if recipe.epochs == 0:
            records = _untrained(recipe, stack, arrays, clock, computing, probe)
            return stack.select([k for k, record in enumerate(records) if not record.diverged]), records
        if probe and stack.epoch == 0:
            records = [
                Record(lane.key, 0, probe.measure(theta), 0.0)
                for lane, theta in zip(stack.lanes, stack.theta, strict=True)
            ]
        trainer = _Trainer(recipe, stack, arrays, computing)
        while stack.lanes and stack.epoch < recipe.epochs:
            before = stack.theta.copy() if probe else None
            epoch_began = clock()
            epoch = stack.epoch + 1
            training = trainer.train(epoch)
            held_out = [_evaluate(recipe, stack, computing, *split) for split in _held_out(recipe, arrays)]
            measured = [("train", training), *zip(_held_out_names(recipe), held_out, strict=True)]
            spent = (clock() - epoch_began) / len(stack.lanes)
            finite = _finite(stack, measured)
            for k, lane in enumerate(stack.lanes):
                metrics = _named(k, measured)
                if probe and before is not None:
                    metrics |= probe.measure(stack.theta[k], before[k])
                records.append(Record(lane.key, epoch, metrics, spent, _gone(stack, k, finite)))
            stack = replace(stack, epoch=epoch)
            if not finite.all():
                stack = stack.select(np.flatnonzero(finite).tolist())
                if stack.lanes:
                    trainer = _Trainer(recipe, stack, arrays, computing)
            if clock() - began >= seconds:
                break
    return stack, records


def rehearsal_rows(recipe: Recipe, n: int) -> int:
    """Return how many of n training rows :func:`rehearse` trains on: a few batches' worth."""
    size = recipe.batching.batch_size(n)
    return min({"full": 2 * CHUNK, "mini": 4 * size, "sample": 128}[recipe.batching.mode], n)


def rehearse(
    recipe: Recipe,
    lane: Lane,
    lanes: int,
    arrays: DataArrays,
    clock: Callable[[], float] = time.perf_counter,
    *,
    engine: str = "numpy",
) -> float:
    """Return the seconds that each of so many lanes, all like this one, takes for one row of training."""
    rows = rehearsal_rows(recipe, len(arrays.x_train))
    few = _Rows(arrays.x_train[:rows], arrays.y_train[:rows], arrays.x_test[:1], arrays.y_test[:1])
    recipe = replace(recipe, validation=0)
    one = start(recipe, [lane])
    with np.errstate(all="ignore"):
        trainer = _Trainer(recipe, one.select([0] * lanes), few, engine_named(engine))
        spent = []
        for _ in range(3):  # the first warms up
            began = clock()
            trainer.train(1)
            spent.append(clock() - began)
    return min(spent[1:]) / (rows * lanes)


@dataclass(frozen=True)
class _Rows:
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]


class _Trainer:
    """One stack's buffers, and the loop over an epoch's batches that changes its arrays in place."""

    def __init__(self, recipe: Recipe, stack: Stack, arrays: DataArrays, computing: Engine) -> None:
        self.recipe, self.stack = recipe, stack
        n = len(arrays.x_train) - recipe.validation
        self.images, self.labels = np.asarray(arrays.x_train[:n]), np.asarray(arrays.y_train[:n])
        dtype = np.dtype(recipe.dtype)
        self.batch_size = recipe.batching.batch_size(n)
        self.size = min(CHUNK, self.batch_size)
        self.hyper = {
            name: np.array([[dict(lane.hyper)[name]] for lane in stack.lanes], dtype)
            for name in OPTIMIZERS[recipe.optimizer].hyperparameters
        }
        self.groups = _groups(recipe, stack)
        self.per_sample: Descent | None = None
        rows = computing.rows
        # A step of plain descent on one chunk of rows is added to the parameters as it is computed.
        self.at_once = recipe.optimizer == "sgd" and self.batch_size <= CHUNK
        if recipe.batching.mode == "sample" and recipe.optimizer == "sgd":
            self.per_sample = computing.per_sample(
                recipe.architecture,
                Parameters(recipe.architecture, stack.theta, computing.first_layer),
                self.hyper["lr"],
                recipe.epsilon,
                [lanes for lanes, _ in self.groups],
            )
            self.size, rows = self.per_sample.rows, self.per_sample.takes
        else:
            self.gradients = stack.theta if self.at_once else np.empty_like(stack.theta)
            self.teams = _teams(recipe, stack.theta, self.gradients, self.size, computing)
            self.weights: dict[int, Array] = {}  # of whole batches and of the short last one
        self.rows = [rows(self.images, recipe.scale, self.size, dtype) for _ in self.groups]

    def train(self, epoch: int) -> tuple[Array, Array]:
        """Train one epoch; return the mean loss and accuracy (K,) over its rows as they were met."""
        n, lanes = len(self.images), len(self.stack.lanes)
        orders = [self.recipe.batching.order(n, seed, epoch) for _, seed in self.groups]
        loss, hits = np.zeros(lanes), np.zeros(lanes)
        step = (epoch - 1) * -(-n // self.batch_size)
        cut = self.size if self.per_sample else self.batch_size
        for batch in pieces(n, cut):
            step += 1
            learn = self._learn_block if self.per_sample else self._learn_batch
            learn(batch, orders, step, loss, hits)
        if self.per_sample:
            self.per_sample.store()
        elif self.at_once:
            for team in self.teams:
                team.parameters.first.store()
        return loss / n, hits / n

    def _learn_block(
        self, block: slice, orders: list[Array | None], step: int, loss: Array, hits: Array
    ) -> None:
        """Take one step a row of the block."""
        assert self.per_sample is not None
        inputs, labels = self._take(block, orders)
        _count(*self.per_sample.descend(inputs, labels), loss, hits)

    def _learn_batch(
        self, batch: slice, orders: list[Array | None], step: int, loss: Array, hits: Array
    ) -> None:
        """Take one step for the batch, its gradient summed over chunks of rows in a fixed order."""
        size = batch.stop - batch.start
        each = self._weight(size)
        if not self.at_once:
            self.gradients.fill(0)
        for chunk in pieces(size, CHUNK):
            inputs, labels = self._take(slice(batch.start + chunk.start, batch.start + chunk.stop), orders)
            for team in self.teams:
                mine = team.lanes
                work = team.workspace(chunk.stop - chunk.start)
                work.expect(labels[mine])
                seen = team.of(inputs)
                logits = forward(team.parameters, seen, work)
                met = losses_and_hits(logits, work.onehot, self.recipe.epsilon, work.row)
                _count(*met, loss[mine], hits[mine])
                gradient_in_place(logits, work.onehot, self.recipe.epsilon, work.row)
                np.multiply(logits, each[mine], out=logits)
                backward(team.parameters, seen, work, team.into)
        if not self.at_once:
            update = OPTIMIZERS[self.recipe.optimizer].update
            update(self.stack.theta, self.gradients, self.stack.slots, step, self.hyper)
            for team in self.teams:
                team.parameters.first.changed()

    def _weight(self, size: int) -> Array:
        """Return what a row's gradient counts in a batch of so many, for each lane (K, 1, 1); −η with it."""
        if size not in self.weights:
            weight = np.ones((len(self.stack.lanes), 1, 1), self.stack.theta.dtype)
            if self.recipe.reduction == "mean":
                weight /= size
            self.weights[size] = -self.hyper["lr"][:, :, None] * weight if self.at_once else weight
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


class _Team:
    """Some lanes of a stack that go through a step together: few enough that their activations stay in cache.

    Attributes
    ----------
    lanes
        Which.
    parameters, into
        Theirs, and where their gradients are added.
    """

    def __init__(
        self, recipe: Recipe, lanes: slice, theta: Array, gradients: Array, computing: Engine
    ) -> None:
        self.recipe, self.lanes = recipe, lanes
        make = computing.first_layer
        self.parameters = self.into = Parameters(recipe.architecture, theta[lanes], make)
        if gradients is not theta:
            self.into = Parameters(recipe.architecture, gradients[lanes], make)
        self._work: dict[int, Workspace] = {}

    def workspace(self, rows: int) -> Workspace:
        """Return the buffers for that many rows."""
        if rows not in self._work:
            theta = self.parameters.theta
            self._work[rows] = Workspace(self.recipe.architecture, len(theta), rows, theta.dtype)
        return self._work[rows]

    def of(self, inputs: Inputs) -> Inputs:
        """Return what the team sees of the stack's inputs, its lanes counted from 0."""
        first, stop = self.lanes.start, self.lanes.stop
        return [
            (range(max(lanes.start, first) - first, min(lanes.stop, stop) - first), examples)
            for lanes, examples in inputs
            if lanes.start < stop and lanes.stop > first
        ]


def _teams(recipe: Recipe, theta: Array, gradients: Array, rows: int, computing: Engine) -> list[_Team]:
    """Cut the lanes of θ (K, P) into teams for batches or chunks of so many rows."""
    widest = max((*recipe.architecture.hidden, recipe.architecture.classes))
    size = max(TEAM_BYTES // (rows * widest * theta.itemsize), 1)
    return [_Team(recipe, lanes, theta, gradients, computing) for lanes in pieces(len(theta), size)]


def _count(losses: Array, right: Array, loss: Array, hits: Array) -> None:
    """Add the rows' losses and hits (K, B) to each lane's sums (K,)."""
    loss += np.add.reduce(losses, axis=1)
    hits += np.count_nonzero(right, axis=1)


def _groups(recipe: Recipe, stack: Stack) -> list[tuple[range, int]]:
    """Return the runs of lanes that see the same rows, each with the seed of their order."""
    if not recipe.batching.shuffle:
        return [(range(len(stack.lanes)), 0)]
    groups = []
    for seed, run in groupby(range(len(stack.lanes)), key=lambda k: stack.lanes[k].seed):
        members = list(run)
        groups.append((range(members[0], members[-1] + 1), seed))
    return groups


def _held_out_names(recipe: Recipe) -> list[str]:
    return ["val", "test"] if recipe.validation else ["test"]


def _held_out(recipe: Recipe, arrays: DataArrays) -> list[tuple[Array, Array]]:
    """Return images and labels of what is measured after each epoch: validation if any, and test."""
    test = (arrays.x_test, arrays.y_test)
    if not recipe.validation:
        return [test]
    n = len(arrays.x_train) - recipe.validation
    return [(arrays.x_train[n:], arrays.y_train[n:]), test]


def _evaluate(
    recipe: Recipe, stack: Stack, computing: Engine, images: Array, labels: Array
) -> tuple[Array, Array]:
    """Return the mean loss and accuracy (K,) over all rows of a split."""
    size = min(CHUNK, len(images))
    teams = _teams(recipe, stack.theta, stack.theta, size, computing)
    rows = computing.rows(images, recipe.scale, size, stack.theta.dtype)
    loss, hits = np.zeros(len(stack.lanes)), np.zeros(len(stack.lanes))
    for chunk in pieces(len(images), CHUNK):
        inputs, expected = [(range(len(stack.lanes)), rows.take(chunk))], np.asarray(labels[chunk])
        for team in teams:
            work = team.workspace(chunk.stop - chunk.start)
            work.expect(expected)
            logits = forward(team.parameters, team.of(inputs), work)
            met = losses_and_hits(logits, work.onehot, recipe.epsilon, work.row)
            _count(*met, loss[team.lanes], hits[team.lanes])
    return loss / len(images), hits / len(images)


def _probe(recipe: Recipe, arrays: DataArrays) -> Probe:
    """Return the rows that diagnostics are measured on."""
    n = len(arrays.x_train) - recipe.validation
    images, labels = np.asarray(arrays.x_train[:n]), arrays.y_train[:n]
    how: dict[str, Any] = {"scale": recipe.scale, "epsilon": recipe.epsilon, "dtype": np.dtype(recipe.dtype)}
    return Probe(recipe.architecture, images, labels, **how)


def _untrained(
    recipe: Recipe,
    stack: Stack,
    arrays: DataArrays,
    clock: Callable[[], float],
    computing: Engine,
    probe: Probe | None,
) -> list[Record]:
    """Return the records of epoch 0."""
    began = clock()
    n = len(arrays.x_train) - recipe.validation
    splits = [("train", (arrays.x_train[:n], arrays.y_train[:n]))]
    splits += zip(_held_out_names(recipe), _held_out(recipe, arrays), strict=True)
    measured = [(name, _evaluate(recipe, stack, computing, *split)) for name, split in splits]
    spent = (clock() - began) / len(stack.lanes)
    finite = _finite(stack, measured)
    records = []
    for k, lane in enumerate(stack.lanes):
        metrics = _named(k, measured) | (probe.measure(stack.theta[k]) if probe else {})
        records.append(Record(lane.key, 0, metrics, spent, _gone(stack, k, finite)))
    return records


def _finite(stack: Stack, measured: list[tuple[str, tuple[Array, Array]]]) -> Array:
    """Return for each lane (K,) whether its parameters and all its losses are finite.

    Finite parameters are not enough: after a step that is far too long they may still make logits that
    overflow, which the training loss, measured before the step, has not met.
    """
    parts = [np.isfinite(stack.theta).all(axis=1), *(np.isfinite(loss) for _, (loss, _) in measured)]
    finite: Array = np.logical_and.reduce(parts)
    return finite


def _gone(stack: Stack, k: int, finite: Array) -> Array | None:
    """Return the parameters of a lane that diverged, else None; every NaN in them is NumPy's one.

    Which sign a NaN comes out with depends on whether an element met a loop's SIMD body or its tail, and so
    on the lanes beside it.
    """
    if finite[k]:
        return None
    theta: Array = stack.theta[k].copy()
    theta[np.isnan(theta)] = np.nan
    return theta


def _named(k: int, measured: list[tuple[str, tuple[Array, Array]]]) -> dict[str, float]:
    """Return one lane's metrics under their names, with the one NaN as in :func:`_gone`."""
    metrics = {}
    for split, (loss, accuracy) in measured:
        metrics[f"{split}_loss"] = math.nan if np.isnan(loss[k]) else float(loss[k])
        metrics[f"{split}_accuracy"] = float(accuracy[k])
    return metrics
