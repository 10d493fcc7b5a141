"""Training a stack: ``start`` makes it, ``advance`` trains whole epochs of it.

    start(recipe, lanes) → stack
    advance(recipe, stack, arrays, seconds, diagnostics, engine) → (stack', records)

Both are pure. The stack holds all that a lane's future depends on, and every draw has an address. So a lane's
curve and weights are bitwise the same alone, in any stack, and in any cut into segments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.epoch import EpochTrainer, engine_for
from fnnexp.nn.evaluation import evaluate
from fnnexp.nn.layer_stats import Probe
from fnnexp.nn.network import initial_theta
from fnnexp.nn.pieces.metrics import splits
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.stack import DataArrays, Lane, Recipe, Record, Stack

__all__ = ["DataArrays", "Lane", "Recipe", "Record", "Stack", "advance", "engine_version", "start"]

Measured = dict[str, dict[str, Array]]
"""Each metric's mean (K,), by split and metric."""


def start(recipe: Recipe, lanes: Sequence[Lane]) -> Stack:
    """Return the untrained stack. Lanes that see the same order of rows are put side by side."""
    ordered = tuple(sorted(lanes, key=lambda lane: lane.seed)) if recipe.batching.shuffle else tuple(lanes)
    dtype = np.dtype(recipe.dtype)
    theta = np.stack([initial_theta(recipe.architecture, lane.seed, lane.stds, dtype) for lane in ordered])
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

    A lane is recorded as diverged, and leaves the stack, at the end of the first epoch at which one of its
    losses or parameters is no longer finite. Diagnostics change nothing else. ``engine`` is a key of
    :data:`fnnexp.nn.engines.base.ENGINES`; engines agree up to rounding.

    Returns
    -------
    The new stack, and a record for each lane and epoch; with diagnostics also one of epoch 0. The stack is
    done when its epoch is ``recipe.epochs`` or no lane is left.
    """
    began = clock()
    records: list[Record] = []
    computing = engine_for(recipe, engine)
    if not stack.has_parameters:
        stack = start(recipe, stack.lanes)
    with np.errstate(all="ignore"):  # an overflow shows in the result, and is recorded
        stack = replace(stack, theta=stack.theta.copy(), slots=tuple(slot.copy() for slot in stack.slots))
        rows = _splits(recipe, arrays)
        held_out = [split for split in rows if split != "train"]
        probe = Probe(recipe, *rows["train"]) if diagnostics else None
        if recipe.epochs == 0:
            epoch_began = clock()
            measured = {split: evaluate(recipe, stack, computing, *of) for split, of in rows.items()}
            spent = (clock() - epoch_began) / len(stack.lanes)
            records = _records(stack, measured, spent, probe)
            return stack.select(_not_diverged(records)), records
        if probe and stack.epoch == 0:
            records = [
                Record(lane.key, 0, probe.measure(theta), 0.0)
                for lane, theta in zip(stack.lanes, stack.theta, strict=True)
            ]
        trainer = EpochTrainer(recipe, stack, arrays, computing)
        while stack.lanes and stack.epoch < recipe.epochs:
            before = stack.theta.copy() if probe else None
            epoch_began = clock()
            stack = replace(stack, epoch=stack.epoch + 1)
            measured = {"train": trainer.train(stack.epoch)}
            for split in held_out:
                measured[split] = evaluate(recipe, stack, computing, *rows[split])
            spent = (clock() - epoch_began) / len(stack.lanes)
            latest = _records(stack, measured, spent, probe, before)
            records += latest
            going_on = _not_diverged(latest)
            if len(going_on) < len(latest):
                stack = stack.select(going_on)
                if stack.lanes:
                    trainer = EpochTrainer(recipe, stack, arrays, computing)
            if clock() - began >= seconds:
                break
    return stack, records


def engine_version(recipe: Recipe, engine: str) -> str:
    """Return what computes a recipe with this engine, for the record.

    That is the engine's version; where the engine leaves per-sample descent to NumPy, it says so too.
    """
    return engine_for(recipe, engine).version


def _splits(recipe: Recipe, arrays: DataArrays) -> dict[str, tuple[Array, Array]]:
    """Return the images and labels of each split."""
    n = len(arrays.x_train) - recipe.validation
    rows = {
        "train": (arrays.x_train[:n], arrays.y_train[:n]),
        "val": (arrays.x_train[n:], arrays.y_train[n:]),
        "test": (arrays.x_test, arrays.y_test),
    }
    return {split: rows[split] for split in splits(recipe.validation > 0)}


def _records(
    stack: Stack, measured: Measured, seconds: float, probe: Probe | None, before: Array | None = None
) -> list[Record]:
    """Return each lane's record of the stack's epoch; ``before`` is θ (K, P) from before it."""
    finite = _finite(stack, measured)
    records = []
    for k, lane in enumerate(stack.lanes):
        metrics = _metrics_of(k, measured)
        if probe:
            metrics |= probe.measure(stack.theta[k], None if before is None else before[k])
        theta = None if finite[k] else _with_one_nan(stack.theta[k])
        records.append(Record(lane.key, stack.epoch, metrics, seconds, theta))
    return records


def _not_diverged(records: Sequence[Record]) -> list[int]:
    """Return which lanes go on, by the records of their last epoch."""
    return [k for k, record in enumerate(records) if not record.diverged]


def _finite(stack: Stack, measured: Measured) -> Array:
    """Return for each lane (K,) whether its parameters and all its losses are finite.

    Finite parameters are not enough: after a step that is far too long they may still make logits that
    overflow. The training loss, measured before the step, does not show that.
    """
    losses = [np.isfinite(means["loss"]) for means in measured.values()]
    finite: Array = np.logical_and.reduce([np.isfinite(stack.theta).all(axis=1), *losses])
    return finite


def _with_one_nan(theta: Array) -> Array:
    """Return a copy of the parameters in which every NaN is ``np.nan``.

    The sign of a computed NaN depends on whether its element was in a loop's SIMD body or its tail, and so on
    the lanes beside it.
    """
    copy: Array = theta.copy()
    copy[np.isnan(copy)] = np.nan
    return copy


def _metrics_of(k: int, measured: Measured) -> dict[str, float]:
    """Return one lane's metrics by name.

    A NaN loss becomes ``math.nan``, see :func:`_with_one_nan`. Other metrics that are not finite are left
    out.
    """
    metrics = {}
    for split, means in measured.items():
        for name, mean in means.items():
            value = float(mean[k])
            if name == "loss":
                value = math.nan if math.isnan(value) else value
            elif not math.isfinite(value):
                continue
            metrics[f"{split}_{name}"] = value
    return metrics
