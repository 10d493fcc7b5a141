"""Train a stack: ``start`` initializes it, ``advance`` trains it for whole epochs.

    start(recipe, lanes) → stack
    advance(recipe, stack, arrays, seconds, diagnostics, engine, threads) → (stack', records)

Both are pure functions. The stack contains the complete state of its lanes, and every random draw depends on
its address alone (:mod:`fnnexp.nn.rng`). So a lane's curve and weights are bitwise the same alone and in any
stack, however the epochs are cut into segments, and with any number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache

import numpy as np

from fnnexp.nn.arrays import Array, DType
from fnnexp.nn.engines.threads import Team
from fnnexp.nn.epoch import EpochTrainer, engine_for
from fnnexp.nn.evaluation import evaluate
from fnnexp.nn.layer_stats import Level, Probe
from fnnexp.nn.network import initial_theta
from fnnexp.nn.pieces.initializers import UnitDraws, unit_draws
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.stopping import Stopping
from fnnexp.nn.pieces.table import short
from fnnexp.nn.rows import splits_of
from fnnexp.nn.stack import Best, DataArrays, End, Lane, Recipe, Record, Stack

__all__ = [
    "Best",
    "DataArrays",
    "End",
    "Lane",
    "Recipe",
    "Record",
    "Stack",
    "advance",
    "engine_version",
    "start",
]

Measured = dict[str, dict[str, Array]]
"""The means of the metrics (K,), by split and by metric."""


def start(recipe: Recipe, lanes: Sequence[Lane]) -> Stack:
    """Return a stack of networks that train together, with their initial parameters, before training.

    With shuffling, the networks are sorted by the seed of their order of rows.
    """
    ordered = tuple(lanes)
    if recipe.batching.shuffle:
        ordered = tuple(sorted(lanes, key=lambda lane: lane.seed_for("order")))
    dtype = np.dtype(recipe.dtype)
    unit: UnitDraws = unit_draws
    if len(ordered) > 1:  # networks with the same seed scale the same random draws, so cache these
        unit = lru_cache(maxsize=len(recipe.architecture.shapes))(unit_draws)
    theta = np.stack([_initial_theta(recipe, lane, dtype, unit) for lane in ordered])
    slots = tuple(np.zeros_like(theta) for _ in range(OPTIMIZERS[recipe.optimizer].slots))
    best = None
    if recipe.stopping is not None:
        best = Best((recipe.stopping.worst,) * len(ordered), (0,) * len(ordered), theta.copy())
    return Stack(ordered, theta, slots, best=best)


def _initial_theta(recipe: Recipe, lane: Lane, dtype: DType, unit: UnitDraws) -> Array:
    return initial_theta(
        recipe.architecture,
        lane.seed_for("init"),
        lane.stds,
        dtype,
        distribution=lane.distribution,
        mean=lane.mean,
        biases=lane.biases,
        unit=unit,
    )


def advance(
    recipe: Recipe,
    stack: Stack,
    arrays: DataArrays,
    seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
    *,
    diagnostics: Level = False,
    engine: str = "numpy",
    threads: int = 1,
    around_threads: AbstractContextManager[None] | None = None,
    upto: int | None = None,
) -> tuple[Stack, list[Record]]:
    """Train the stack for whole epochs, at least one, until ``seconds`` have passed or training is complete.

    Training is complete after ``recipe.epochs`` epochs, or when no network is left. A network has diverged
    if a loss or a parameter is not finite at the end of an epoch. A network stops early if
    ``recipe.stopping`` says so before the last epoch. In both cases the network leaves the stack, and its
    last record contains its :class:`fnnexp.nn.stack.End`.

    Parameters
    ----------
    seconds
        The time budget. It is checked after each epoch.
    clock
        Returns the time in seconds.
    diagnostics
        Whether the records include diagnostics, and with `full` also histograms. They change nothing else.
    engine
        A key of :data:`fnnexp.nn.engines.base.ENGINES`. The results of engines agree up to rounding.
    threads
        How many threads may compute. Their number changes no bit of a result.
    around_threads
        A context manager that each thread which the function starts enters first and leaves last.
    upto
        The epoch at which to stop; None is the recipe's last. A schedule of the learning rate is the same
        either way: it is made for all epochs of the recipe.

    Returns
    -------
    The new stack, and a record for each network and epoch. With diagnostics on, each network also has a
    record of epoch 0.
    """
    began = clock()
    records: list[Record] = []
    compute_engine = engine_for(recipe, engine)
    if not stack.has_parameters:
        stack = start(recipe, stack.lanes)
    with (
        np.errstate(all="ignore"),
        Team(threads, around_threads) as team,
    ):  # no warnings: after an overflow the network diverges, and that is recorded
        stack = stack.copy()
        rows = splits_of(recipe, arrays)
        held_out = [split for split in rows if split != "train"]
        probe = Probe(recipe, rows["train"], diagnostics) if diagnostics else None
        if recipe.epochs == 0:
            epoch_began = clock()
            measured = {
                name: evaluate(recipe, stack, compute_engine, split, team) for name, split in rows.items()
            }
            seconds_per_lane = (clock() - epoch_began) / len(stack.lanes)
            records = _records(recipe, stack, measured, seconds_per_lane, probe)
            return stack.select(_not_ended(records)), records
        if probe and stack.epoch == 0:
            records = [
                _record_at_start(lane, probe, theta)
                for lane, theta in zip(stack.lanes, stack.theta, strict=True)
            ]
        trainer = EpochTrainer(recipe, stack, rows["train"], compute_engine, team)
        last = recipe.epochs if upto is None else min(upto, recipe.epochs)
        while stack.lanes and stack.epoch < last:
            before = stack.theta.copy() if probe else None
            epoch_began = clock()
            stack = replace(stack, epoch=stack.epoch + 1)
            measured = {"train": trainer.train(stack.epoch)}
            for split in held_out:
                measured[split] = evaluate(recipe, stack, compute_engine, rows[split], team)
            seconds_per_lane = (clock() - epoch_began) / len(stack.lanes)
            if recipe.stopping is not None:
                stack = _with_best(recipe.stopping, stack, measured)
            new_records = _records(recipe, stack, measured, seconds_per_lane, probe, before)
            records += new_records
            remaining = _not_ended(new_records)
            if len(remaining) < len(new_records):
                stack = stack.select(remaining)
                if stack.lanes:
                    trainer = EpochTrainer(recipe, stack, rows["train"], compute_engine, team)
            if clock() - began >= seconds:
                break
    return stack, records


def engine_version(recipe: Recipe, engine: str) -> str:
    """Return the name and version of the engine that trains a recipe, as a run records them.

    If NumPy takes the steps for single rows in place of this engine, the text says so. It also names the
    user's own functions that NumPy computes, although the engine compiles those of fnnexp.
    """
    version = engine_for(recipe, engine).version
    names = (recipe.optimizer, *recipe.architecture.activations)
    own = [short(name) for name in names if short(name) != name]
    if own and engine != "numpy":
        version += f" (NumPy computes {', '.join(dict.fromkeys(own))}, not compiled)"
    return version


def _with_best(rule: Stopping, stack: Stack, measured: Measured) -> Stack:
    """Return the stack with each network's best epoch so far, given the metrics of the epoch just trained.

    An epoch in which a network diverged is never its best.
    """
    assert stack.best is not None
    split, name = rule.metric.split("_")
    values, epochs = list(stack.best.values), list(stack.best.epochs)
    for k, is_finite in enumerate(_finite(stack, measured)):
        value = float(measured[split][name][k])
        if is_finite and rule.improves(value, values[k]):
            values[k], epochs[k] = value, stack.epoch
            stack.best.theta[k] = stack.theta[k]
    return replace(stack, best=Best(tuple(values), tuple(epochs), stack.best.theta))


def _record_at_start(lane: Lane, probe: Probe, theta: Array) -> Record:
    """Return a network's record of epoch 0, before training. It has only diagnostics."""
    diagnostics, histograms = probe.measure(lane, theta)
    return Record(lane.key, 0, diagnostics, 0.0, histograms=histograms)


def _records(
    recipe: Recipe,
    stack: Stack,
    measured: Measured,
    seconds: float,
    probe: Probe | None,
    before: Array | None = None,
) -> list[Record]:
    """Return each network's record of the epoch just trained.

    ``measured`` has the metrics, and ``before`` is θ (K, P) before this epoch.
    """
    finite = _finite(stack, measured)
    records = []
    for k, lane in enumerate(stack.lanes):
        metrics = _metrics_of(k, measured)
        histograms: bytes | None = None
        if probe:
            diagnostics, histograms = probe.measure(
                lane, stack.theta[k], None if before is None else before[k]
            )
            metrics |= diagnostics
        end = None
        if not finite[k]:
            end = replace(stack.end(k, "diverged"), theta=_with_canonical_nan(stack.theta[k]))
        elif _stops(recipe, stack, k):
            end = stack.end(k, "stopped")
        records.append(Record(lane.key, stack.epoch, metrics, seconds, end, histograms))
    return records


def _stops(recipe: Recipe, stack: Stack, k: int) -> bool:
    """Return whether network k stops early. At the last epoch a network is complete, not stopped."""
    if recipe.stopping is None or stack.best is None or stack.epoch >= recipe.epochs:
        return False
    return recipe.stopping.is_due(stack.epoch, stack.best.epochs[k])


def _not_ended(records: Sequence[Record]) -> list[int]:
    """Return the positions of the networks that stay in the stack, given the records of one epoch."""
    return [k for k, record in enumerate(records) if record.end is None]


def _finite(stack: Stack, measured: Measured) -> Array:
    """Return for each of K networks whether its parameters and all its losses are finite, (K,).

    Finite parameters are not enough: after a step that is far too long, the logits may overflow. The training
    loss does not show this, because it is computed before the step.
    """
    losses = [np.isfinite(means["loss"]) for means in measured.values()]
    finite: Array = np.logical_and.reduce([np.isfinite(stack.theta).all(axis=1), *losses])
    return finite


def _with_canonical_nan(theta: Array) -> Array:
    """Return a copy of the parameters in which all NaNs have the same bits, those of ``np.nan``.

    The sign of a computed NaN depends on whether its element is in the SIMD body or in the tail of a loop. So
    it would depend on the other networks of the stack.
    """
    copy: Array = theta.copy()
    copy[np.isnan(copy)] = np.nan
    return copy


def _metrics_of(k: int, measured: Measured) -> dict[str, float]:
    """Return the metrics of network k by name.

    A NaN loss becomes ``math.nan``, because the sign of a computed NaN may depend on the other networks of
    the stack. Other metrics that are not finite are omitted.
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
