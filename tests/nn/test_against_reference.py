"""Compare each engine with the op-by-op reference: float64 trajectories, with a reference run for each lane.

Parameters may differ by 1e-12 of the largest entry of their array, and losses by 1e-12 max(1, loss).
Accuracies must be equal: if the predictions for a row differ, accuracies differ by much more than the
tolerance. The two programs sum in different orders, so a step differs by some 1e-16 of its size and of the
parameters. If rounding errors only add up, 50 steps differ by less than 1e-13. The largest observed
difference is 2e-13, with Adam from `max`, which divides small gradients by their size. Raw inputs, from 0 to
255, make steps so large that rounding errors grow; there 1e-10 is allowed.

The initial weights and the order of rows do not come from the package. They are drawn here from the
documented addresses, with standard deviations from `formulas.py`.

With large steps training is chaotic: each step amplifies differences, and two correct programs drift apart
(the last test shows that the reference drifts from itself). So the step sizes in `RATES` are some twenty
times smaller. The tests assert that the parameters nevertheless move by a million times the tolerance. They
would therefore detect a gradient that is wrong by one part in a million.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise, product
from types import MappingProxyType

import numpy as np
import pytest
from formulas import BOUNDS, STDS

from fnnexp.data.datasets import Arrays
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.initializers import INITIALIZERS, distribution_of
from fnnexp.nn.pieces.losses import LOSSES
from fnnexp.nn.pieces.schedules import SCHEDULES as TABLE
from fnnexp.nn.pieces.schedules import Schedule, factors
from fnnexp.nn.testing import reference
from fnnexp.nn.training import Lane, Recipe, advance, start

TOLERANCE = 1e-12
MOVED = 1e-4  # the least movement to test, as a fraction of the array's largest entry

WEIGHTS, BIASES, ORDER, DROPOUT = 1, 2, 3, 4

METHODS = ("max", "sqrtmax", "xavier", "he", "he2", "normal", "glorot_normal", "he_normal")
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
    "leaky_relu": Architecture(784, (16, 8), 10, "leaky_relu", slope=0.3),
    "elu+selu": Architecture(784, (16, 8), 10, ("elu", "selu")),
    "softplus+softsign": Architecture(784, (16, 8), 10, ("softplus", "softsign")),
    "gelu": Architecture(784, (16, 8), 10, "gelu"),
    "silu+identity": Architecture(784, (16, 8), 10, ("silu", "identity")),
}
MAIN_ARCHITECTURES = list(ARCHITECTURES)[:6]

# Batching, training rows and epochs, for at least 50 steps. The last batch of "mini" has 4 rows. The 70 rows
# of "sample" are more than a block of 64.
BATCHINGS = {
    "full": (Batching("full"), 60, 50),
    "mini": (Batching("mini", 32, shuffle=True), 100, 13),
    "sample": (Batching("sample"), 70, 1),
    "sample_shuffled": (Batching("sample", None, shuffle=True), 70, 1),
}

RATES = {
    "sgd": 0.01,
    "momentum": 0.002,
    "adam": 1e-4,
    "nesterov": 0.002,
    "adagrad": 1e-4,
    "rmsprop": 1e-4,
    "adamw": 1e-4,
}
HYPER = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "nesterov": {"momentum": 0.9},
    "adagrad": {"epsilon": 1e-4},
    "rmsprop": {"rho": 0.9, "epsilon": 1e-4},
    "adamw": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.1},
}
OPTIMIZERS = {"sgd": reference.Sgd, "momentum": reference.Momentum, "adam": reference.Adam}
MORE_OPTIMIZERS = {
    "nesterov": reference.Nesterov,
    "adagrad": reference.Adagrad,
    "rmsprop": reference.RmsProp,
    "adamw": reference.AdamW,
}
SCHEDULES = [
    Schedule("constant", warmup=3.5),
    Schedule("step", (("every", 2.0), ("gamma", 0.5)), 1.0),
    Schedule("exponential", (("gamma", 0.7),)),
    Schedule("inverse_time", (("rate", 0.5),), 2.0),
    Schedule("linear", (("end", 0.1),)),
    Schedule("cosine", (("end", 0.0),), 1.0),
    Schedule("one_cycle", (("peak", 3.0), ("rise", 0.3), ("end", 0.1))),
]


pytestmark = pytest.mark.usefixtures("one_blas_thread")


def images(n_train: int, n_test: int = 20) -> Arrays:
    """Return images like MNIST: four of five bytes are 0, some columns are 0, pixels depend on the class."""
    rng = np.random.default_rng(n_train)
    likely = 0.4 * rng.random((10, 784)) * (rng.random(784) > 67 / 784)

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 10, n)
        X = rng.integers(1, 256, (n, 784)) * (rng.random((n, 784)) < likely[y])
        return X.astype(np.uint8), y.astype(np.uint8)

    arrays = Arrays(*split(n_train), *split(n_test))
    assert 0.75 < np.mean(arrays.x_train == 0) < 0.85
    return arrays


def generator(seed: int, purpose: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, purpose, index))))


def dropout_masks(rates: dict[int, float], seed: int, widths: tuple[int, ...]):
    """Return the masks of a step, drawn from the documented addresses."""

    def masks(step: int, rows: int) -> list[np.ndarray]:
        of_layers = []
        for layer, width in enumerate(widths):
            p = rates.get(layer, 0.0)
            address = np.random.SeedSequence((seed, DROPOUT, step, layer))
            u = np.random.Generator(np.random.PCG64(address)).random((rows, width), dtype=np.float32)
            of_layers.append((u >= p) / (1 - p))
        return of_layers

    return masks if rates else None


def uniform(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return (2 * rng.random(shape) - 1) * 3**0.5


def truncated_normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    draws = rng.standard_normal(shape).ravel()
    while len(beyond := [i for i, draw in enumerate(draws) if abs(draw) > 2]):
        draws[beyond] = rng.standard_normal(len(beyond))
    return draws.reshape(shape)


def orthogonal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return normal draws with orthogonal columns, or rows if they are fewer, by Gram and Schmidt."""
    draws = rng.standard_normal(shape)
    vectors = draws.T if shape[0] >= shape[1] else draws
    for i, vector in enumerate(vectors):
        for _ in range(2):  # twice is enough (Giraud, Langou & Rozložník 2005)
            vector -= vectors[:i].T @ (vectors[:i] @ vector)
        vector /= np.linalg.norm(vector)
    return draws * max(shape) ** 0.5


DRAWS = dict.fromkeys(BOUNDS, uniform) | {"truncated_normal": truncated_normal, "orthogonal": orthogonal}
"""How the initializers draw that do not draw from a normal distribution."""


def initial_network(recipe: Recipe, seed: int, method: str, smoothing: float = 0.0) -> reference.Network:
    """Return the untrained reference network of a trial."""
    architecture = recipe.architecture
    W, b = [], []
    for layer, (n_in, n_out) in enumerate(pairwise((784, *architecture.hidden, 10))):
        std = STD[method](n_in, n_out)
        draw = DRAWS.get(method, lambda rng, shape: rng.standard_normal(shape))
        W.append(draw(generator(seed, WEIGHTS, layer), (n_in, n_out)) * std)
        bias = architecture.output_bias if layer == len(architecture.hidden) else architecture.hidden_bias
        b.append(
            {
                "none": lambda n, std, i: None,
                "zeros": lambda n, std, i: np.zeros(n),
                "normal": lambda n, std, i: generator(seed, BIASES, i).standard_normal((1, n))[0] * std,
            }[bias](n_out, std, layer)
        )
    loss = recipe.loss, recipe.output, smoothing, architecture.slope
    return reference.Network(W, b, architecture.activation, recipe.epsilon, recipe.reduction, *loss)


def batches(batching: Batching, n: int, seed: int, epoch: int) -> list[np.ndarray]:
    order = generator(seed, ORDER, epoch).permutation(n) if batching.shuffle else np.arange(n)
    size = {"full": n, "mini": batching.size, "sample": 1}[batching.mode]
    return [order[i : i + size] for i in range(0, n, size)]


def scaled(recipe: Recipe, X: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return the inputs X, scaled with the statistics of the training rows."""
    if recipe.scale == "raw":
        return X.astype(np.float64)
    X, train = (x / np.float64(255 if x.dtype == np.uint8 else 1) for x in (X, train))
    if recipe.scale == "unit":
        return X
    centred, deviation = X - train.mean(axis=0), train.std(axis=0)
    return centred if recipe.scale == "center" else centred / np.where(np.ptp(train, axis=0), deviation, 1)


Curve = list[dict[str, float]]


def reference_run(
    recipe: Recipe,
    arrays: Arrays,
    seed: int,
    method: str,
    hyper: dict[str, float],
    schedule: Schedule | None = None,
) -> tuple[Curve, reference.Network]:
    """Train the reference; return the metrics of each epoch, and the trained network."""
    options = {name: hyper.pop(name) for name in recipe.options if name in hyper}
    smoothing = options.pop("label_smoothing", 0.0)
    network, n = initial_network(recipe, seed, method, smoothing), len(arrays.x_train) - recipe.validation
    dropout = {int(name.removeprefix("dropout.")): options.pop(name) for name in {*options} if "." in name}
    widths = (784, *recipe.architecture.hidden)
    regularization = reference.Regularization(**options, masks=dropout_masks(dropout, seed, widths))
    optimizer = (OPTIMIZERS | MORE_OPTIMIZERS)[recipe.optimizer](**hyper)
    per_epoch = len(batches(recipe.batching, n, seed, 1))
    plan = (recipe.epochs * per_epoch, per_epoch)
    rates = schedule and (
        hyper["lr"]
        * reference.schedule_factor(
            schedule.name, t, *plan, warmup=schedule.warmup, **dict(schedule.parameters)
        )
        for t in range(plan[0])
    )
    (X, X_test), y = (
        (scaled(recipe, x, arrays.x_train[:n]) for x in (arrays.x_train, arrays.x_test)),
        arrays.y_train,
    )
    splits = {"test": (X_test, arrays.y_test)}
    if recipe.validation:
        splits["val"] = (X[n:], y[n:])
    curve = []
    for epoch in range(1, recipe.epochs + 1):
        rows = batches(recipe.batching, n, seed, epoch)
        first_step = (epoch - 1) * len(rows) + 1
        step_results = list(
            reference.train(network, optimizer, X[:n], y[:n], rows, regularization, first_step, rates)
        )
        sizes = [len(batch) / n for batch in rows]
        metrics = dict(zip(("train_loss", "train_accuracy"), np.dot(sizes, step_results), strict=True))
        for split, (X_held_out, y_held_out) in splits.items():
            P = network.forward(X_held_out)
            metrics[f"{split}_loss"] = network.loss(P, y_held_out).mean()
            metrics[f"{split}_accuracy"] = np.mean(P.argmax(axis=1) == y_held_out)
        curve.append(metrics)
    return curve, network


def assert_trajectories_agree(
    recipe: Recipe,
    arrays: Arrays,
    methods: tuple[str, ...] = METHODS,
    rate: float | None = None,
    options: Mapping[str, Sequence[float]] = MappingProxyType({}),
    tolerance: float = TOLERANCE,
    schedules: Sequence[Schedule | None] = (None,),
) -> None:
    """Compare a stack with one lane for each method, trained with each engine, with the reference.

    ``options`` has the values of each of the recipe's options, one for each lane. Lanes have the schedules in
    turn.
    """
    numbered = {*options, *(["schedule"] if any(schedules) else [])}
    recipe = replace(recipe, dtype="float64", options=tuple(sorted(numbered)))
    hyper = {"lr": rate or RATES[recipe.optimizer], **HYPER[recipe.optimizer]}
    lanes = []
    for k, method in enumerate(methods):
        stds = tuple(STD[method](n_in, n_out) for n_in, n_out in recipe.architecture.shapes)
        distribution = distribution_of(method) if method in INITIALIZERS else "normal"
        schedule, seed = schedules[k % len(schedules)], 3 + 5 * (k % 2)
        numbers = tuple((hyper | {name: options[name][k] for name in sorted(options)}).items())
        lanes.append(Lane(method, seed, stds, numbers, distribution=distribution, schedule=schedule))
    reference_runs = {
        lane.key: reference_run(recipe, arrays, lane.seed, lane.key, dict(lane.hyper), lane.schedule)
        for lane in lanes
    }
    for engine in ENGINES:
        errors = {
            name: f"{error:.1e}"
            for name, error in differences(recipe, lanes, arrays, reference_runs, engine).items()
            if not error <= tolerance
        }
        assert not errors, engine


def differences(
    recipe: Recipe,
    lanes: list[Lane],
    arrays: Arrays,
    reference_runs: dict[str, tuple[Curve, reference.Network]],
    engine: str,
) -> dict[str, float]:
    """Return the largest errors of an engine's metrics and final parameters, by name and lane."""
    untrained = start(recipe, lanes)
    stack, records = advance(recipe, untrained, arrays, engine=engine)
    assert sorted(lane.key for lane in stack.lanes) == sorted(reference_runs)
    largest_errors: dict[str, float] = {}
    for k, lane in enumerate(stack.lanes):
        curve, network = reference_runs[lane.key]
        lane_records = [record for record in records if record.key == lane.key]
        assert [record.epoch for record in lane_records] == list(range(1, recipe.epochs + 1))
        for record, expected in zip(lane_records, curve, strict=True):
            assert record.metrics.keys() == expected.keys()
            for name, value in expected.items():
                error = abs(record.metrics[name] - value) / max(1.0, abs(value))
                largest_errors[f"{name} of {lane.key}"] = max(
                    error, largest_errors.get(f"{name} of {lane.key}", 0.0)
                )
        before = Parameters(recipe.architecture, untrained.theta).named(k)
        after = Parameters(recipe.architecture, stack.theta).named(k)
        reference_arrays = {f"W{i}": W for i, W in enumerate(network.W, 1)}
        reference_arrays |= {f"b{i}": b for i, b in enumerate(network.b, 1) if b is not None}
        assert after.keys() == reference_arrays.keys()
        for name, theta in reference_arrays.items():
            largest = np.abs(theta).max()
            largest_errors[f"{name} of {lane.key}"] = np.abs(after[name] - theta).max() / largest
            moved = np.abs(theta - before[name]).max() / largest
            assert moved > MOVED, f"{name} of {lane.key} moved by only {moved:.1e}, too little to test"
    return largest_errors


# Each pair of an architecture, a batching, an optimizer and half of the methods, but not each combination.
PAIRS = [
    (arch, batching, ("sgd", "adam")[(i + j) % 2], METHODS[(i + j // 2) % 2 :: 2])
    for i, arch in enumerate(MAIN_ARCHITECTURES)
    for j, batching in enumerate(BATCHINGS)
]


@pytest.mark.parametrize(("arch", "batching", "optimizer", "methods"), PAIRS)
def test_every_lane_agrees_with_its_reference_for_50_steps(
    arch: str, batching: str, optimizer: str, methods: tuple[str, ...]
) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES[arch], batching_config, optimizer, epochs)
    assert epochs * len(batches(batching_config, rows, 0, 1)) >= 50
    assert_trajectories_agree(recipe, images(rows), methods)


def test_every_pair_of_two_choices_is_compared_with_the_reference() -> None:
    values = MAIN_ARCHITECTURES, list(BATCHINGS), ["sgd", "adam"], [METHODS[::2], METHODS[1::2]]
    for a, b in combinations(range(4), 2):
        assert {(case[a], case[b]) for case in PAIRS} == set(product(values[a], values[b]))


@pytest.mark.parametrize("optimizer", MORE_OPTIMIZERS)
@pytest.mark.parametrize("batching", ["full", "mini", "sample"])
def test_more_optimizers_agree_with_their_reference_for_50_steps(batching: str, optimizer: str) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES["tanh_64_32"], batching_config, optimizer, epochs)
    assert_trajectories_agree(recipe, images(rows), SOME_METHODS)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_schedule_agrees_with_its_reference_for_50_steps(optimizer: str) -> None:
    assert {schedule.name for schedule in SCHEDULES} == set(TABLE)
    batching_config, rows, epochs = BATCHINGS["mini"]
    recipe = Recipe(ARCHITECTURES["tanh_64_32"], batching_config, optimizer, epochs, options=("schedule",))
    methods = tuple(INITIALIZERS)[: len(SCHEDULES)]
    assert_trajectories_agree(recipe, images(rows), methods, schedules=SCHEDULES)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
def test_the_factors_of_a_schedule_equal_its_reference(schedule: Schedule) -> None:
    steps, per_epoch = 70, 7
    expected = [
        reference.schedule_factor(
            schedule.name, t, steps, per_epoch, warmup=schedule.warmup, **dict(schedule.parameters)
        )
        for t in range(steps)
    ]
    np.testing.assert_allclose(factors(schedule, 0, steps, steps, per_epoch), expected, rtol=1e-13)


SOME_METHODS = ("he", "normal", "sqrtmax")


def test_every_distribution_of_initial_weights_agrees() -> None:
    batching_config, rows, epochs = BATCHINGS["mini"]
    recipe = Recipe(ARCHITECTURES["tanh_64_32"], batching_config, "sgd", epochs)
    assert_trajectories_agree(recipe, images(rows), tuple(DRAWS))


@pytest.mark.parametrize("arch", ["tanh_as_published", "softmax"])
@pytest.mark.parametrize("batching", BATCHINGS)
def test_the_published_derivative_and_a_network_of_one_layer_match_the_reference(
    arch: str, batching: str
) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    assert_trajectories_agree(Recipe(ARCHITECTURES[arch], batching_config, "sgd", epochs), images(rows))


@pytest.mark.parametrize("batching", ["mini", "sample"])
@pytest.mark.parametrize("arch", list(ARCHITECTURES)[8:])
def test_every_activation_and_lists_of_them_agree(arch: str, batching: str) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES[arch], batching_config, "sgd", epochs)
    assert_trajectories_agree(recipe, images(rows), ("he", "normal"))


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_summed_gradients_agree(optimizer: str, batching: str) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES["relu_100"], batching_config, optimizer, epochs, reduction="sum")
    # With the sum, a step is longer by the number of rows in the batch, except with Adam.
    rows_per_step = 1 if optimizer == "adam" else batching_config.batch_size(rows)
    assert_trajectories_agree(recipe, images(rows), SOME_METHODS, RATES[optimizer] / rows_per_step)


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("epsilon", [1e-12, 1e-2])
@pytest.mark.parametrize("arch", ["relu_100_published", "tanh_64_32"])
def test_the_loss_with_epsilon_agrees(arch: str, epsilon: float, batching: str) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES[arch], batching_config, "sgd", epochs, epsilon=epsilon)
    assert_trajectories_agree(recipe, images(rows), SOME_METHODS)


@pytest.mark.parametrize("smoothing", [(), (0.1, 0.2, 0.9)], ids=["onehot", "smoothed"])
@pytest.mark.parametrize("batching", ["mini", "sample_shuffled"])
@pytest.mark.parametrize(("loss", "output"), [(loss, o) for loss, outputs in LOSSES.items() for o in outputs])
def test_every_loss_with_every_output_agrees(
    loss: str, output: str, batching: str, smoothing: tuple[float, ...]
) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(Architecture(784, (16,), 10, "tanh"), batching_config, "sgd", epochs, loss=loss)
    recipe = replace(recipe, output=output if len(LOSSES[loss]) > 1 else None)
    if smoothing and loss == "cross_entropy":
        recipe = replace(recipe, epsilon=1e-2)
    options = {"label_smoothing": smoothing} if smoothing else {}
    assert_trajectories_agree(recipe, images(rows), SOME_METHODS, options=options, tolerance=1e-12)


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("scale", ["raw", "center", "standardize", "real raw", "real standardize"])
def test_inputs_of_every_scale_agree(scale: str, batching: str) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    kind, _, scale = scale.rpartition(" ")
    held_out = 0 if scale == "raw" else 9  # the statistics are those of the other rows
    recipe = Recipe(
        ARCHITECTURES["sigmoid_32_32"], batching_config, "sgd", epochs, scale=scale, validation=held_out
    )
    arrays = images(rows + held_out)
    if kind == "real":
        x_train, x_test = (np.float32(x / 99 - 1) for x in (arrays.x_train, arrays.x_test))
        arrays = replace(arrays, x_train=x_train, x_test=x_test)
    tolerance = 1e-10 if scale == "raw" else TOLERANCE
    assert_trajectories_agree(recipe, arrays, SOME_METHODS, 0.003, tolerance=tolerance)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_validation_rows_are_evaluated_but_not_trained_on(batching: str) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES["tanh_64_32"], batching_config, "adam", epochs, validation=33)
    assert_trajectories_agree(recipe, images(rows + 33), SOME_METHODS)


@pytest.mark.parametrize("batching_config", [Batching("full"), Batching("mini", 600, shuffle=True)])
def test_batches_larger_than_a_chunk_agree(batching_config: Batching) -> None:
    recipe = Recipe(ARCHITECTURES["sigmoid_32_32"], batching_config, "momentum", epochs=20)
    assert_trajectories_agree(recipe, images(1100, 530), SOME_METHODS)


def test_the_published_full_batch_experiment_agrees() -> None:
    recipe = Recipe(
        ARCHITECTURES["relu_100_published"], Batching("full"), "sgd", 50, reduction="sum", epsilon=1e-12
    )
    assert_trajectories_agree(recipe, images(600), ("unit_normal", "normal"), 1e-5)


REGULARIZED = {
    "l2": {"l2": 0.1},
    "l1": {"l1": 0.01},
    "dropout": {"dropout.1": 0.5, "dropout.2": 0.2},
    "dropout_of_inputs": {"dropout.0": 0.2, "dropout.2": 0.5},
    "max_norm": {"max_norm": 0.5},
    "clip_norm": {"clip_norm": 0.2},
    "all": {"l2": 0.1, "l1": 0.01, "dropout.0": 0.2, "dropout.1": 0.5, "max_norm": 1.0, "clip_norm": 0.2},
}


def for_each(options: dict[str, float], lanes: int) -> dict[str, list[float]]:
    """Return the options with a value for each lane; the second lane has other values."""
    return {
        name: [value * (1.0 if lane != 1 else 0.9) for lane in range(lanes)]
        for name, value in sorted(options.items())
    }


# "all" has each batching with each optimizer; the other options have each batching and each optimizer.
REGULARIZED_CASES = [
    (options, batching, optimizer)
    for i, options in enumerate(REGULARIZED)
    for j, batching in enumerate(("full", "mini", "sample_shuffled"))
    for k, optimizer in enumerate(("sgd", "adam"))
    if options == "all" or (i + j + k) % 2 == 0
]


@pytest.mark.parametrize(("options", "batching", "optimizer"), REGULARIZED_CASES)
def test_regularized_training_agrees(options: str, batching: str, optimizer: str) -> None:
    batching_config, rows, epochs = BATCHINGS[batching]
    recipe = Recipe(ARCHITECTURES["tanh_64_32"], batching_config, optimizer, epochs)
    assert_trajectories_agree(
        recipe, images(rows), ("he", "normal"), None, for_each(REGULARIZED[options], 2), 1e-12
    )


def test_the_penalty_of_summed_gradients_is_multiplied_by_the_rows_of_a_batch() -> None:
    recipe = Recipe(ARCHITECTURES["relu_100"], Batching("mini", 32), "sgd", 13, reduction="sum")
    for penalty in ({"l2": 0.1}, {"l2": 0.1, "l1": 0.01}):
        options = for_each(penalty, len(SOME_METHODS))
        assert_trajectories_agree(recipe, images(100), SOME_METHODS, RATES["sgd"] / 32, options)


def drift(rate: float) -> float:
    """Return the distance between two per-sample reference runs whose initial weights differ by rounding."""
    batching_config, rows, epochs = BATCHINGS["sample"]
    recipe, arrays = Recipe(ARCHITECTURES["tanh_64_32"], batching_config, "sgd", epochs), images(rows)
    final_weights = []
    for factor in (1.0, 1.0 + 2**-52):
        network, optimizer = initial_network(recipe, 3, "he"), reference.Sgd(rate)
        network.W[0] *= factor
        X = scaled(recipe, arrays.x_train, arrays.x_train)
        list(reference.train(network, optimizer, X, arrays.y_train, batches(batching_config, rows, 3, 1)))
        final_weights.append(np.concatenate([W.ravel() for W in network.W]))
    return np.abs(final_weights[0] - final_weights[1]).max() / np.abs(final_weights[0]).max()


def test_the_reference_drifts_from_itself_only_at_twenty_times_the_step_size() -> None:
    assert drift(20 * RATES["sgd"]) > TOLERANCE
    assert drift(RATES["sgd"]) < TOLERANCE / 1000
