"""Test threads: results are added in the order of the parts, errors reach the caller, bits stay the same."""

import threading
import time

import numpy as np
import pytest

from fnnexp.data.datasets import Arrays
from fnnexp.nn.engines import numba_engine
from fnnexp.nn.engines.base import engine_named
from fnnexp.nn.engines.threads import Team
from fnnexp.nn.epoch import EpochTrainer
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.rows import splits_of
from fnnexp.nn.training import Lane, Recipe, advance, start


@pytest.mark.parametrize("size", [1, 2, 4])
def test_results_are_added_in_the_order_of_the_parts(size):
    added, threads = [], set()

    def compute(thread, part):
        threads.add((thread, threading.get_ident()))
        time.sleep(0.001 * (part % 3))  # later parts are often ready first
        return part**2

    with Team(size) as team:
        for _ in range(2):
            team.in_order(iter(range(20)), compute, added.append)
        team.in_order(range(5), compute, added.append, size=1)
    assert added == [part**2 for part in (*range(20), *range(20), *range(5))]
    assert {thread for thread, _ in threads} <= set(range(size))


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("where", ["parts", "compute", "add"])
def test_an_error_reaches_the_caller_and_later_parts_are_not_added(where, size):
    added = []

    def fail_at_5(place, part):
        if place == where and part == 5:
            raise ValueError(f"{place} {part}")
        return part

    with Team(size) as team:
        with pytest.raises(ValueError, match=f"{where} 5"):
            team.in_order(
                (fail_at_5("parts", part) for part in range(20)),
                lambda thread, part: fail_at_5("compute", part),
                lambda result: added.append(fail_at_5("add", result)),
            )
        assert added == sorted(added)
        assert not {*added} & set(range(5, 20))
        team.in_order(range(3), lambda thread, part: part, added.append)
    assert added[-3:] == [0, 1, 2]


def test_threads_compute_with_the_floating_point_settings_of_the_caller():
    both = threading.Barrier(2)

    def compute(thread, part):
        both.wait(timeout=10)
        return np.geterr()

    settings = []
    with np.errstate(all="ignore"), Team(2) as team:
        team.in_order(range(2), compute, settings.append)
    assert settings == [dict.fromkeys(("divide", "over", "under", "invalid"), "ignore")] * 2


def mostly_zeros():
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (150, 60)) * (rng.random((150, 60)) < 0.2)).astype(np.uint8)
    return Arrays(images, labels := rng.integers(0, 10, 150).astype(np.uint8), images, labels)


@pytest.mark.parametrize("hidden", [(100,), (16, 9)])
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("sgd", {}), ("sgd", {"l2": 0.01, "dropout.1": 0.2}), ("adamw", {}), ("momentum", {})],
)
def test_mini_batches_with_an_assistant_have_the_same_bits(optimizer, options, hidden):
    arrays = mostly_zeros()
    numbers = {"lr": 0.1, "momentum": 0.9, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-7, "weight_decay": 0.1}
    recipe = Recipe(
        Architecture(60, hidden, 10, "tanh"),
        Batching("mini", 64, shuffle=True),
        optimizer,
        3,
        options=tuple(options),
    )
    hyper = {name: numbers[name] for name in OPTIMIZERS[optimizer].hyperparameters} | options
    lane = Lane("", 0, (0.1,) * (len(hidden) + 1), tuple(hyper.items()))
    stack = start(recipe, [lane])
    with Team(2) as team:
        trainer = EpochTrainer(recipe, stack, splits_of(recipe, arrays)["train"], engine_named("numba"), team)
        assert trainer.assistant is not None
    results = [advance(recipe, stack, arrays, engine="numba", threads=threads) for threads in (1, 2)]
    (theta, curve), (theta_of_two, curve_of_two) = (
        (stack.theta.tobytes(), [record.metrics for record in records]) for stack, records in results
    )
    assert theta == theta_of_two
    assert curve == curve_of_two


def test_an_error_of_the_assistant_reaches_the_caller(monkeypatch):
    """Otherwise the caller would wait for ever."""

    def fail(*_):
        raise MemoryError("of the assistant")

    monkeypatch.setattr(numba_engine, "assist", fail)
    recipe = Recipe(Architecture(60, (100,), 10, "tanh"), Batching("mini", 64), "sgd", 1)
    stack = start(recipe, [Lane("", 0, (0.1, 0.1), (("lr", 0.1),))])
    with pytest.raises(MemoryError, match="of the assistant"):
        advance(recipe, stack, mostly_zeros(), engine="numba", threads=2)
