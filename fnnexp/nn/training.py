"""Train a stack: ``start`` initializes it, ``advance`` trains it for whole epochs.

    start(recipe, lanes) → stack
    advance(recipe, stack, arrays, seconds, diagnostics, engine) → (stack', records)

Both are pure functions. The stack contains the complete state of its lanes, and every random draw depends on
its address alone (:mod:`fnnexp.nn.rng`). So a lane's curve and weights are bitwise the same alone and in any
stack, however the epochs are cut into segments.
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
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.rows import splits_of
from fnnexp.nn.stack import DataArrays, Lane, Recipe, Record, Stack

__all__ = ["DataArrays", "Lane", "Recipe", "Record", "Stack", "advance", "engine_version", "start"]

Measured = dict[str, dict[str, Array]]
"""The means of the metrics (K,), by split and by metric."""


def start(recipe: Recipe, lanes: Sequence[Lane]) -> Stack:
    """Return an untrained stack. With shuffling, lanes are sorted by seed, as equal seeds share an order."""
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
    """Train the stack for whole epochs, at least one, until ``seconds`` have passed or training is complete.

    Training is complete when the stack's epoch is ``recipe.epochs`` or no lane is left. A lane has diverged
    when a loss or a parameter is not finite at the end of an epoch. It then leaves the stack, and its record
    for that epoch says so.

    Parameters
    ----------
    seconds
        The time budget. It is checked after each epoch.
    clock
        Returns the time in seconds.
    diagnostics
        Whether the records include diagnostics. They change nothing else.
    engine
        A key of :data:`fnnexp.nn.engines.base.ENGINES`. The results of engines agree up to rounding.

    Returns
    -------
    The new stack, and a record for each lane and epoch. With diagnostics on, each lane also has a record of
    epoch 0.
    """
    began = clock()
    records: list[Record] = []
    compute_engine = engine_for(recipe, engine)
    if not stack.has_parameters:
        stack = start(recipe, stack.lanes)
    with np.errstate(all="ignore"):  # an overflow makes the lane diverge, which is recorded
        stack = replace(stack, theta=stack.theta.copy(), slots=tuple(slot.copy() for slot in stack.slots))
        rows = splits_of(recipe, arrays)
        held_out = [split for split in rows if split != "train"]
        probe = Probe(recipe, rows["train"]) if diagnostics else None
        if recipe.epochs == 0:
            epoch_began = clock()
            measured = {name: evaluate(recipe, stack, compute_engine, split) for name, split in rows.items()}
            seconds_per_lane = (clock() - epoch_began) / len(stack.lanes)
            records = _records(stack, measured, seconds_per_lane, probe)
            return stack.select(_not_diverged(records)), records
        if probe and stack.epoch == 0:
            records = [
                Record(lane.key, 0, probe.measure(theta), 0.0)
                for lane, theta in zip(stack.lanes, stack.theta, strict=True)
            ]
        trainer = EpochTrainer(recipe, stack, rows["train"], compute_engine)
        while stack.lanes and stack.epoch < recipe.epochs:
            before = stack.theta.copy() if probe else None
            epoch_began = clock()
            stack = replace(stack, epoch=stack.epoch + 1)
            measured = {"train": trainer.train(stack.epoch)}
            for split in held_out:
                measured[split] = evaluate(recipe, stack, compute_engine, rows[split])
            seconds_per_lane = (clock() - epoch_began) / len(stack.lanes)
            new_records = _records(stack, measured, seconds_per_lane, probe, before)
            records += new_records
            remaining = _not_diverged(new_records)
            if len(remaining) < len(new_records):
                stack = stack.select(remaining)
                if stack.lanes:
                    trainer = EpochTrainer(recipe, stack, rows["train"], compute_engine)
            if clock() - began >= seconds:
                break
    return stack, records


def engine_version(recipe: Recipe, engine: str) -> str:
    """Return the version of the engine that trains a recipe, as runs record it.

    The version also says when per-sample descent falls back to NumPy.
    """
    return engine_for(recipe, engine).version


def _records(
    stack: Stack, measured: Measured, seconds: float, probe: Probe | None, before: Array | None = None
) -> list[Record]:
    """Return the record of each lane for the stack's epoch; ``before`` is θ (K, P) before the epoch."""
    finite = _finite(stack, measured)
    records = []
    for k, lane in enumerate(stack.lanes):
        metrics = _metrics_of(k, measured)
        if probe:
            metrics |= probe.measure(stack.theta[k], None if before is None else before[k])
        theta = None if finite[k] else _with_canonical_nan(stack.theta[k])
        records.append(Record(lane.key, stack.epoch, metrics, seconds, theta))
    return records


def _not_diverged(records: Sequence[Record]) -> list[int]:
    """Return the indices of the lanes that have not diverged, given the records of one epoch."""
    return [k for k, record in enumerate(records) if not record.diverged]


def _finite(stack: Stack, measured: Measured) -> Array:
    """Return whether the parameters and all losses of each lane (K,) are finite.

    Finite parameters are not enough: after a step that is far too long, the logits may overflow. The training
    loss does not show this, because it is computed before the step.
    """
    losses = [np.isfinite(means["loss"]) for means in measured.values()]
    finite: Array = np.logical_and.reduce([np.isfinite(stack.theta).all(axis=1), *losses])
    return finite


def _with_canonical_nan(theta: Array) -> Array:
    """Return a copy of the parameters in which every NaN has the bits of ``np.nan``.

    The sign of a computed NaN depends on whether its element is in the SIMD body or in the tail of a loop,
    and so on the other lanes of the stack.
    """
    copy: Array = theta.copy()
    copy[np.isnan(copy)] = np.nan
    return copy


def _metrics_of(k: int, measured: Measured) -> dict[str, float]:
    """Return the metrics of one lane by name.

    A NaN loss becomes ``math.nan``, for the reason in :func:`_with_canonical_nan`. Other metrics that are not
    finite are omitted.
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
