"""Every engine against the op-by-op reference: trajectories in float64, a reference run for each lane.

The measure: parameters may differ by 1e-10 of the largest entry of their array, losses by 1e-10 of the
larger of themselves and 1, and accuracies not at all (two that differ at all differ by a row's share). The
two programs sum in different orders, so a step differs by some 1e-16 of its size and of the parameters. 50
such steps come to less than 1e-13 where rounding only adds up; the largest seen is 2e-13, with Adam from
`max`, which divides small gradients by their size. So 1e-10 leaves room for another BLAS.

The start and the order of rows do not come from the package: they are drawn here from the addresses that
the design documents, with its table of standard deviations written out again.

Where training is chaotic each step amplifies what differs, and two correct programs drift apart whatever they
compute (the last test shows it of the reference itself). So the step sizes in `RATES` are some twenty times
below that, and yet the parameters move by a million times the tolerance, which is asserted: a gradient wrong
by one part in a million would be seen.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from formulas import STDS

from fnnexp.data.datasets import Arrays
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.initializers import INITIALIZERS
from fnnexp.nn.testing import reference
from fnnexp.nn.training import Lane, Recipe, advance, start

if TYPE_CHECKING:
    pass

TOLERANCE = 1e-10
MOVED = 1e6 * TOLERANCE  # of the array's largest entry

WEIGHTS, BIASES, ORDER = 1, 2, 3

STD = STDS | {"normal": lambda n_in, n_out: 0.3, "unit_normal": STDS["normal"]}

ARCHITECTURES = {
    "relu_100": Architecture(784, (100,), 10, "relu"),
    "tanh_128": Architecture(784, (128,), 10, "tanh"),
    "sigmoid_32_32": Architecture(784, (32, 32), 10, "sigmoid"),
    "relu_98": Architecture(784, (98,), 10, "relu"),
    "tanh_64_32": Architecture(784, (64, 32), 10, "tanh"),
    "relu_100_published": Architecture(784, (100,), 10, "relu", hidden_bias="normal", output_bias="none"),
    "tanh_as_published": Architecture(784, (128,), 10, "tanh_as_published"),
    "softmax": Architecture(784, (), 10, "relu"),
}
ASKED = list(ARCHITECTURES)[:6]

# Batching, training rows and epochs: at least 50 steps each. Mini batches of 32 end with one of 4; rows one
# at a time cross the border of a block of 64.
BATCHINGS = {
    "full": (Batching("full"), 60, 50),
    "mini": (Batching("mini", 32, shuffle=True), 100, 13),
    "sample": (Batching("sample"), 70, 1),
    "sample_shuffled": (Batching("sample", None, shuffle=True), 70, 1),
}

RATES = {"sgd": 0.01, "momentum": 0.002, "adam": 1e-4}
HYPER = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
}
OPTIMIZERS = {"sgd": reference.Sgd, "momentum": reference.Momentum, "adam": reference.Adam}


pytestmark = pytest.mark.usefixtures("one_blas_thread")


def images(n_train: int, n_test: int = 20) -> Arrays:
    """Like MNIST's: bytes, four in five of them 0, whole columns of zeros; a class lights its own pixels."""
    rng = np.random.default_rng(n_train)
    likely = 0.4 * rng.random((10, 784)) * (rng.random(784) > 67 / 784)

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 10, n)
        X = rng.integers(1, 256, (n, 784)) * (rng.random((n, 784)) < likely[y])
        return X.astype(np.uint8), y.astype(np.uint8)

    arrays = Arrays(*split(n_train), *split(n_test))
    assert 0.75 < np.mean(arrays.x_train == 0) < 0.85
    return arrays


def drawn(seed: int, purpose: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, purpose, index))))


def begun(recipe: Recipe, seed: int, method: str) -> reference.Network:
    """The untrained reference network of a trial."""
    architecture = recipe.architecture
    W, b = [], []
    for layer, (n_in, n_out) in enumerate(pairwise((784, *architecture.hidden, 10))):
        std = STD[method](n_in, n_out)
        W.append(drawn(seed, WEIGHTS, layer).standard_normal((n_in, n_out)) * std)
        kind = architecture.output_bias if layer == len(architecture.hidden) else architecture.hidden_bias
        b.append(
            {
                "none": lambda n, std, layer: None,
                "zeros": lambda n, std, layer: np.zeros(n),
                "normal": lambda n, std, layer: drawn(seed, BIASES, layer).standard_normal((1, n))[0] * std,
            }[kind](n_out, std, layer)
        )
    return reference.Network(W, b, architecture.activation, recipe.epsilon, recipe.reduction)


def batches(batching: Batching, n: int, seed: int, epoch: int) -> list[np.ndarray]:
    order = drawn(seed, ORDER, epoch).permutation(n) if batching.shuffle else np.arange(n)
    size = {"full": n, "mini": batching.size, "sample": 1}[batching.mode]
    return [order[i : i + size] for i in range(0, n, size)]


def scaled(recipe: Recipe, X: np.ndarray) -> np.ndarray:
    return X / 255.0 if recipe.scale == "unit" else X.astype(np.float64)


Curve = list[dict[str, float]]


def reference_run(
    recipe: Recipe, arrays: Arrays, seed: int, method: str, hyper: dict[str, float]
) -> tuple[Curve, reference.Network]:
    """Train the reference by itself; return its metrics an epoch, and the network that it ends with."""
    network, n = begun(recipe, seed, method), len(arrays.x_train) - recipe.validation
    optimizer = OPTIMIZERS[recipe.optimizer](**hyper)
    X, y = scaled(recipe, arrays.x_train), arrays.y_train
    splits = {"test": (scaled(recipe, arrays.x_test), arrays.y_test)}
    if recipe.validation:
        splits["val"] = (X[n:], y[n:])
    curve = []
    for epoch in range(1, recipe.epochs + 1):
        rows = batches(recipe.batching, n, seed, epoch)
        met = list(reference.train(network, optimizer, X[:n], y[:n], rows))
        sizes = [len(some) / n for some in rows]
        metrics = dict(zip(("train_loss", "train_accuracy"), np.dot(sizes, met), strict=True))
        for split, (X_held_out, y_held_out) in splits.items():
            P = network.forward(X_held_out)
            metrics[f"{split}_loss"] = network.loss(P, y_held_out).mean()
            metrics[f"{split}_accuracy"] = np.mean(P.argmax(axis=1) == y_held_out)
        curve.append(metrics)
    return curve, network


def assert_trajectories_agree(
    recipe: Recipe, arrays: Arrays, methods: tuple[str, ...] = tuple(INITIALIZERS), rate: float | None = None
) -> None:
    """Train a lane for each method, two seeds in turn, in one stack by each engine, and by the reference."""
    recipe = replace(recipe, dtype="float64")
    hyper = {"lr": rate or RATES[recipe.optimizer], **HYPER[recipe.optimizer]}
    lanes = []
    for k, method in enumerate(methods):
        stds = tuple(STD[method](n_in, n_out) for n_in, n_out in recipe.architecture.shapes)
        lanes.append(Lane(method, 3 + 5 * (k % 2), stds, tuple(hyper.items())))
    theirs = {
        lane.key: reference_run(recipe, arrays, lane.seed, lane.key, dict(lane.hyper)) for lane in lanes
    }
    for engine in ENGINES:
        wrong = {
            name: f"{error:.1e}"
            for name, error in differences(recipe, lanes, arrays, theirs, engine).items()
            if not error <= TOLERANCE
        }
        assert not wrong, engine


def differences(
    recipe: Recipe,
    lanes: list[Lane],
    arrays: Arrays,
    theirs: dict[str, tuple[Curve, reference.Network]],
    engine: str,
) -> dict[str, float]:
    """How far an engine's metrics and last parameters are from the reference's, by what they are."""
    begin = start(recipe, lanes)
    stack, records = advance(recipe, begin, arrays, engine=engine)
    assert sorted(lane.key for lane in stack.lanes) == sorted(theirs)
    worst: dict[str, float] = {}
    for k, lane in enumerate(stack.lanes):
        curve, network = theirs[lane.key]
        mine = [record for record in records if record.key == lane.key]
        assert [record.epoch for record in mine] == list(range(1, recipe.epochs + 1))
        for record, expected in zip(mine, curve, strict=True):
            assert record.metrics.keys() == expected.keys()
            for name, value in expected.items():
                error = abs(record.metrics[name] - value) / max(1.0, abs(value))
                worst[f"{name} of {lane.key}"] = max(error, worst.get(f"{name} of {lane.key}", 0.0))
        before = Parameters(recipe.architecture, begin.theta).named(k)
        after = Parameters(recipe.architecture, stack.theta).named(k)
        wanted = {f"W{i}": W for i, W in enumerate(network.W, 1)}
        wanted |= {f"b{i}": b for i, b in enumerate(network.b, 1) if b is not None}
        assert after.keys() == wanted.keys()
        for name, theta in wanted.items():
            largest = np.abs(theta).max()
            worst[f"{name} of {lane.key}"] = np.abs(after[name] - theta).max() / largest
            moved = np.abs(theta - before[name]).max() / largest
            assert moved > MOVED, f"{name} of {lane.key} moved by {moved:.1e} only: nothing was tested"
    return worst


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("arch", ASKED)
def test_every_lane_follows_its_reference_for_50_steps(arch: str, batching: str, optimizer: str) -> None:
    how, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES[arch], how, optimizer, epochs)
    assert epochs * len(batches(how, rows, 0, 1)) >= 50
    assert_trajectories_agree(recipe, images(rows))


FEW = ("he", "normal", "sqrtmax")


@pytest.mark.parametrize("arch", ["tanh_as_published", "softmax"])
@pytest.mark.parametrize("batching", BATCHINGS)
def test_the_published_derivative_and_a_network_without_hidden_layers_follow_too(
    arch: str, batching: str
) -> None:
    how, rows, epochs = BATCHINGS[batching]
    assert_trajectories_agree(Recipe(ARCHITECTURES[arch], how, "sgd", epochs), images(rows))


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_gradients_that_are_summed_follow(optimizer: str, batching: str) -> None:
    how, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES["relu_100"], how, optimizer, epochs, reduction="sum")
    # The step of a sum is as many times longer as the batch has rows; Adam's is not.
    per_batch = 1 if optimizer == "adam" else how.batch_size(rows)
    assert_trajectories_agree(recipe, images(rows), FEW, RATES[optimizer] / per_batch)


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("epsilon", [1e-12, 1e-2])
@pytest.mark.parametrize("arch", ["relu_100_published", "tanh_64_32"])
def test_the_loss_with_epsilon_follows(arch: str, epsilon: float, batching: str) -> None:
    how, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES[arch], how, "sgd", epochs, epsilon=epsilon)
    assert_trajectories_agree(recipe, images(rows), FEW)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_raw_bytes_follow(batching: str) -> None:
    how, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES["sigmoid_32_32"], how, "sgd", epochs, scale="raw")
    assert_trajectories_agree(recipe, images(rows), FEW, 0.003)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_rows_held_out_are_not_trained_on_and_are_measured(batching: str) -> None:
    how, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES["tanh_64_32"], how, "adam", epochs, validation=33)
    assert_trajectories_agree(recipe, images(rows + 33), FEW)


@pytest.mark.parametrize("how", [Batching("full"), Batching("mini", 600, shuffle=True)])
def test_batches_of_more_rows_than_are_computed_at_once_follow(how: Batching) -> None:
    recipe = Recipe(ARCHITECTURES["sigmoid_32_32"], how, "momentum", epochs=20)
    assert_trajectories_agree(recipe, images(1100, 530), FEW)


def test_the_published_full_batch_experiment_follows() -> None:
    recipe = Recipe(
        ARCHITECTURES["relu_100_published"], Batching("full"), "sgd", 50, reduction="sum", epsilon=1e-12
    )
    assert_trajectories_agree(recipe, images(600), ("unit_normal", "normal"), 1e-5)


def drift(rate: float) -> float:
    """How far the reference ends from itself, one row at a time, when its start differs by rounding."""
    how, rows, epochs = BATCHINGS["sample"]
    recipe, arrays = Recipe(ARCHITECTURES["tanh_64_32"], how, "sgd", epochs), images(rows)
    ends = []
    for factor in (1.0, 1.0 + 2**-52):
        network, optimizer = begun(recipe, 3, "he"), reference.Sgd(rate)
        network.W[0] *= factor
        X = scaled(recipe, arrays.x_train)
        list(reference.train(network, optimizer, X, arrays.y_train, batches(how, rows, 3, 1)))
        ends.append(np.concatenate([W.ravel() for W in network.W]))
    return np.abs(ends[0] - ends[1]).max() / np.abs(ends[0]).max()


def test_the_reference_drifts_from_itself_at_twenty_times_the_step_size_and_not_at_ours() -> None:
    assert drift(20 * RATES["sgd"]) > TOLERANCE
    assert drift(RATES["sgd"]) < TOLERANCE / 1000
