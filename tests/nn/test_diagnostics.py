"""Test diagnostics: each quantity equals an independent computation, and recording them changes no result."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_law_stacking import Arrays, images, outcomes, stacks, train_in_segments
from threadpoolctl import threadpool_limits

from fnnexp.data import datasets as data
from fnnexp.nn import layer_stats as diagnostics
from fnnexp.nn.layer_stats import QUANTITIES, Probe, has_diagnostics, names
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.rows import splits_of
from fnnexp.nn.testing import reference
from fnnexp.nn.training import Lane, Recipe, Record, advance, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODES = {"full": Batching("full"), "mini": Batching("mini", 16, True), "sample": Batching("sample")}
HYPER = (("lr", 0.05),)


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread() -> Iterator[None]:
    with threadpool_limits(1, "blas"):
        yield


def recipe_of(activation: str | tuple[str, ...] = "relu", mode: str = "mini", **changes: Any) -> Recipe:
    hidden = changes.pop("hidden", (9, 7))
    shape = Architecture(12, hidden, 4, activation, changes.pop("hidden_bias", "normal"))
    return Recipe(shape, MODES[mode], "sgd", **{"epochs": 3, "dtype": "float64", **changes})


def lanes_of(recipe: Recipe, count: int = 1, std: float = 0.4) -> list[Lane]:
    stds = (std,) * len(recipe.architecture.shapes)
    return [Lane(f"{k}", k, stds, HYPER) for k in range(count)]


def probe_of(recipe: Recipe, arrays: Any) -> Probe:
    return Probe(recipe, splits_of(recipe, arrays)["train"])


def measured(recipe: Recipe, arrays: Any, theta: np.ndarray) -> dict[str, float]:
    return probe_of(recipe, arrays).measure(lanes_of(recipe)[0], theta[0])[0]


# --- the definition of each quantity ---


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("epsilon", [0.0, 1e-2])
@pytest.mark.parametrize("n", [45, 6000])
def test_spreads_and_shares_equal_those_of_the_reference(activation: str, epsilon: float, n: int) -> None:
    """The ops of the reference give every Z and dZ, from which the test computes spreads and shares."""
    recipe = recipe_of(activation, epochs=2, epsilon=epsilon, validation=5, reduction="sum")
    arrays = images(1, n, 8, 12, 4)
    stack, records = advance(recipe, start(recipe, lanes_of(recipe)), arrays, diagnostics="full")
    n_train, count = n - 5, min(512, math.ceil((n - 5) / 16))
    rows = [i * n_train // count for i in range(count)]
    X, y = arrays.x_train[rows] / 255, arrays.y_train[rows]

    parameters = Parameters(recipe.architecture, stack.theta)
    network = reference.Network(
        [W[0] for W in parameters.W],
        [None if b is None else b[0, 0] for b in parameters.b],
        activation,
        epsilon,
        "sum",  # so that the gradient of a row is that of its own loss
    )
    Zs = pre_activations(network, X)
    dZs = gradients(network, X, y)
    metrics, counts = records[-1].metrics, counts_in(recipe, records[-1])
    f = ACTIVATIONS[activation].forward
    for layer, (Z, dZ) in enumerate(zip(Zs, dZs, strict=True), start=1):
        assert metrics[f"layer{layer}/z_std"] == pytest.approx(
            np.sqrt(((Z - Z.mean()) ** 2).mean()), rel=1e-12
        )
        assert metrics[f"layer{layer}/dz_std"] == pytest.approx(dZ.std(), rel=1e-9)
        A = Z.copy()
        if layer < len(Zs):
            f(A)
        assert [list(each) for each in counts[layer - 1]] == [counted(A), counted(dZ)]
        if layer == len(Zs):
            assert not {f"layer{layer}/dead", f"layer{layer}/saturated"} & set(metrics)
        elif activation == "relu":
            assert metrics[f"layer{layer}/dead"] == np.mean([(Z[:, j] <= 0).all() for j in range(Z.shape[1])])
        elif activation in FLAT:
            assert metrics[f"layer{layer}/saturated"] == FLAT[activation](Z).mean()
        else:
            assert not {f"layer{layer}/dead", f"layer{layer}/saturated"} & set(metrics)


def counts_in(recipe: Recipe, record: Record) -> np.ndarray:
    """Return the counts (layers, quantities, bins) of a record."""
    return diagnostics.histogram_arrays(recipe.architecture, [record])["counts"][0]


def counted(values: np.ndarray) -> list[int]:
    """Return the number of values in each bin, by the definition of the bins."""
    counts = []
    for low, high in zip(diagnostics.LOW, diagnostics.HIGH, strict=True):
        if low < 0:
            inside = (low <= values) & (values < high)
        else:
            inside = (low < values) & (values <= high) if high else values == 0
        counts.append(int(inside.sum()))
    return counts


def test_a_histogram_counts_every_number_once_by_the_definition_of_the_bins() -> None:
    rng = np.random.default_rng(0)
    edges = np.array(diagnostics.MAGNITUDES)
    spread = rng.choice([-1, 1], 3000) * 10 ** rng.uniform(-15, 9, 3000)
    values = np.concatenate([edges, -edges, spread, [0.0, -0.0, np.inf, -np.inf]])
    assert len(edges) == 88
    assert (np.diff(edges) > 0).all()
    assert (edges[1:] <= 2 * edges[:-1]).all()
    for each in (values, np.r_[values, np.nan, -np.nan], values.astype(np.float32)):
        counts = diagnostics.histogram(each)
        with np.errstate(all="ignore"):
            assert list(counts) == counted(each.astype(np.float64))
        assert counts.sum() == len(values)


def test_dead_and_saturated_units_can_be_read_from_histograms() -> None:
    for activation, quantity in (("relu", "dead"), ("tanh", "saturated"), ("sigmoid", "saturated")):
        recipe, arrays = recipe_of(activation, hidden=(9,)), images(1, 400, 8, 12, 4)
        _, records = advance(recipe, start(recipe, lanes_of(recipe, std=9.0)), arrays, diagnostics="full")
        for record in records:
            counts, share = counts_in(recipe, record)[0, 0], record.metrics[f"layer1/{quantity}"]
            low, high = diagnostics.LOW, diagnostics.HIGH
            if activation == "relu":  # a dead unit is 0 in all 25 rows
                assert share <= counts[(low == 0) & (high == 0)].sum() / 225
                continue
            flat = (high > 0.99) | ((low < -0.99) if activation == "tanh" else (high <= 0.01))
            assert share == counts[flat].sum() / counts.sum() > 0.1


FLAT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": lambda Z: np.abs(Z) > math.atanh(0.99),
    "tanh_as_published": lambda Z: np.abs(Z) > math.atanh(0.99),
    "sigmoid": lambda Z: np.abs(Z) > math.log(0.99 / 0.01),
    "softsign": lambda Z: np.abs(Z) > 99,
    "elu": lambda Z: np.exp(Z) < 0.01,
    "selu": lambda Z: np.exp(Z) < 0.01,
}
"""Where the activations are saturated, by Z."""


def pre_activations(network: reference.Network, X: np.ndarray) -> list[np.ndarray]:
    Zs, A = [], X
    for layer, W in enumerate(network.W):
        b = network.b[layer]
        Zs.append(A @ W if b is None else A @ W + b)
        if layer < len(network.activations):
            A = network.activations[layer].forward(Zs[-1])
    return Zs


def gradients(network: reference.Network, X: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Return the dZ that each layer's Matmul receives in backward; Add does not change it."""
    dZs = []
    for op in network.matmuls:
        op.backward = recording(op.backward, dZs)
    network.loss_and_gradients(X, y)
    return dZs[::-1]


def recording(backward: Any, dZs: list[np.ndarray]) -> Any:
    def record(dZ: np.ndarray) -> Any:
        dZs.append(dZ)
        return backward(dZ)

    return record


@pytest.mark.parametrize("mode", list(MODES))
def test_the_update_ratio_is_the_relative_change_of_the_weights_in_an_epoch(mode: str) -> None:
    recipe, arrays = recipe_of("tanh", mode), images(2, 80, 8, 12, 4)
    stack = start(recipe, lanes_of(recipe))
    before = Parameters(recipe.architecture, stack.theta).named(0)
    for epoch in (1, 2, 3):
        stack, records = advance(recipe, stack, arrays, seconds=0, diagnostics=True)
        now = Parameters(recipe.architecture, stack.theta).named(0)
        for layer in (1, 2, 3):
            W0, W = before[f"W{layer}"].ravel(), now[f"W{layer}"].ravel()
            expected = math.sqrt(math.fsum((W - W0) ** 2)) / math.sqrt(math.fsum(W0**2))
            assert records[-1].epoch == epoch
            assert records[-1].metrics[f"layer{layer}/update_ratio"] == pytest.approx(expected, rel=1e-12)
        before = now


def test_weights_that_are_all_zero_have_no_update_ratio() -> None:
    recipe, arrays = recipe_of("tanh", hidden=(), epochs=1), images(2, 80, 8, 12, 4)
    _, (at_start, end) = advance(recipe, start(recipe, lanes_of(recipe, std=0.0)), arrays, diagnostics=True)
    assert at_start.metrics == {"layer1/z_std": 0.0, "layer1/dz_std": pytest.approx(0.4330127)}  # √3/4
    assert "layer1/update_ratio" not in end.metrics


def test_units_that_are_dead_by_construction_are_counted() -> None:
    """Three of eight units have only negative weights, so they are 0 for all rows of positive inputs."""
    recipe = recipe_of(hidden=(8,), hidden_bias="zeros")
    arrays = images(3, 64, 8, 12, 4)
    arrays = replace(arrays, x_train=np.maximum(arrays.x_train, 1))
    theta = start(recipe, lanes_of(recipe)).theta
    W = Parameters(recipe.architecture, theta).W[0][0]
    W[:] = np.abs(W)
    W[:, [1, 4, 6]] *= -1
    assert measured(recipe, arrays, theta)["layer1/dead"] == 3 / 8


@pytest.mark.parametrize(
    ("activation", "limit"), [("tanh", math.atanh(0.99)), ("sigmoid", math.log(99)), ("softsign", 99)]
)
def test_only_units_beyond_the_saturation_limit_are_saturated(activation: str, limit: float) -> None:
    recipe = recipe_of(activation, hidden=(4,))
    arrays = images(3, 64, 8, 12, 4)
    theta = start(recipe, lanes_of(recipe)).theta
    parameters = Parameters(recipe.architecture, theta)
    parameters.W[0][:] = 0
    parameters.b[0][0, 0] = np.array([-1.001, -0.999, 0.999, 1.001]) * limit
    assert measured(recipe, arrays, theta)["layer1/saturated"] == 0.5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("std", [0.03, 1.0])
def test_the_initial_spread_of_the_first_layer_follows_from_std_and_images(std: float, seed: int) -> None:
    """Z = x W with W ~ N(0, std²) has E z² = std² mean ‖x‖², on real digits.

    For a unit w, Σ_x z² = wᵀ G w with G = Xᵀ X, which has mean std² tr G and variance 2 std⁴ tr G². The H
    units are independent. The test allows 4 standard deviations. A standard deviation subtracts the mean,
    which lowers z² by (Σ_h x̄ w_h / H)², whose mean is std² ‖x̄‖² / H. The test allows 10 times as much.
    """
    arrays = data.load(data.prepare("digits"))
    units = 400
    recipe = Recipe(Architecture(784, (units,), 10, "tanh"), MODES["full"], "sgd", epochs=1)
    theta = start(recipe, [Lane("0", seed, (std, std), HYPER)]).theta
    z_std = measured(recipe, arrays, theta)["layer1/z_std"]
    n = len(arrays.x_train)
    count = math.ceil(n / 8)
    X = np.asarray(arrays.x_train)[np.arange(count) * n // count] / 255
    G = X.T @ X
    expected = std**2 * np.trace(G) / count
    standard_deviation = std**2 * math.sqrt(2 * np.trace(G @ G) / units) / count
    below = 10 * std**2 * float(X.mean(axis=0) @ X.mean(axis=0)) / units
    assert expected - 4 * standard_deviation - below < z_std**2 < expected + 4 * standard_deviation
    assert 4 * standard_deviation + below < 0.5 * expected  # the bounds are tight enough for the test to fail


def test_the_probe_of_a_file_sorted_by_label_contains_all_labels() -> None:
    arrays = images(4, 1000, 8, 12, 10)
    order = np.argsort(arrays.y_train, kind="stable")
    ordered = replace(arrays, x_train=arrays.x_train[order], y_train=arrays.y_train[order])
    recipe = Recipe(Architecture(12, (), 10, "relu"), MODES["mini"], "sgd", epochs=1, dtype="float64")
    assert set(probe_of(recipe, ordered).labels) == set(range(10))


def test_a_spread_that_overflows_is_omitted() -> None:
    recipe, arrays = recipe_of("relu", dtype="float32"), images(5, 64, 8, 12, 4)
    with np.errstate(all="ignore"):
        values = measured(recipe, arrays, start(recipe, lanes_of(recipe, std=1e30)).theta)
    assert set(values) < set(names(recipe.architecture))
    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_names_lists_all_recorded_diagnostics_and_no_metric(activation: str) -> None:
    recipe, arrays = recipe_of(activation), images(6, 64, 8, 12, 4)
    _, records = advance(recipe, start(recipe, lanes_of(recipe)), arrays, diagnostics=True)
    plain = [name for name in records[-1].metrics if not has_diagnostics([name])]
    assert plain == ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    assert [name for name in records[-1].metrics if has_diagnostics([name])] == list(
        names(recipe.architecture)
    )
    quantities = {name.partition("/")[2] for name in names(recipe.architecture)}
    share = {"dead"} if activation == "relu" else {"saturated"} if activation in FLAT else set()
    assert quantities == {"z_std", "dz_std", "update_ratio"} | share <= set(QUANTITIES)


def test_each_layer_of_a_list_of_activations_has_its_own_share() -> None:
    recipe, arrays = recipe_of(("gelu", "relu"), mode="sample"), images(6, 64, 8, 12, 4)
    _, records = advance(recipe, start(recipe, lanes_of(recipe)), arrays, diagnostics=True)
    recorded = [name for name in records[-1].metrics if has_diagnostics([name])]
    assert recorded == list(names(recipe.architecture))
    assert [name for name in recorded if "dead" in name or "saturated" in name] == ["layer2/dead"]


# --- law 2 and law 4: diagnostics change no other result ---


def without_diagnostics(records: list[Record]) -> list[Record]:
    """Return the records as they would be without diagnostics."""
    stripped = [
        replace(
            record,
            metrics={name: v for name, v in record.metrics.items() if not has_diagnostics([name])},
            histograms=None,
        )
        for record in records
    ]
    return [record for record in stripped if record.metrics]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(stacks(), st.sampled_from((1, 7, 512)), st.data())
def test_diagnostics_change_no_result_and_are_bitwise_the_same_in_any_stack_and_segment(
    case: tuple[Recipe, list[Lane], Arrays], rows: int, random: st.DataObject
) -> None:
    recipe, lanes, arrays = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnostics, "MAX_ROWS", rows)
        expected, expected_with = {}, {}
        for lane in lanes:
            stack, records = advance(recipe, start(recipe, [lane]), arrays)
            expected |= outcomes(records, [stack])
            stack, records = advance(recipe, start(recipe, [lane]), arrays, diagnostics="full")
            assert {record.epoch for record in records} >= {0}
            expected_with |= outcomes(records, [stack])
            named = [(record.epoch, list(record.metrics)) for record in records]
            assert outcomes(without_diagnostics(records), [stack])[lane.key] == expected[lane.key], named
        records, done = train_in_segments(random.draw, recipe, lanes, arrays, diagnostics="full")
        assert outcomes(records, done) == expected_with
        assert outcomes(without_diagnostics(records), done) == expected


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_on_real_digits_diagnostics_change_no_metric_and_no_weight(mode: str, optimizer: str) -> None:
    arrays = data.load(data.prepare("digits"))
    hyper = {"sgd": HYPER, "adam": (("lr", 0.01), ("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8))}
    recipe = Recipe(Architecture(784, (20,), 10, "relu"), MODES[mode], optimizer, 2, validation=1200)
    lanes = [Lane(f"{k}", k, (0.05, 0.2), hyper[optimizer]) for k in range(3)]
    plain, records = advance(recipe, start(recipe, lanes), arrays)
    with_diagnostics, diagnostic_records = advance(recipe, start(recipe, lanes), arrays, diagnostics=True)
    assert with_diagnostics.theta.tobytes() == plain.theta.tobytes()
    assert outcomes(without_diagnostics(diagnostic_records), [with_diagnostics]) == outcomes(records, [plain])
    assert [record.epoch for record in diagnostic_records] == [0] * 3 + [1] * 3 + [2] * 3
    assert {record.seconds for record in diagnostic_records[:3]} == {0.0}


def test_a_curve_without_diagnostics_can_continue_with_diagnostics() -> None:
    recipe, arrays = recipe_of(epochs=3), images(7, 64, 8, 12, 4)
    stack, first = advance(recipe, start(recipe, lanes_of(recipe, 2)), arrays, seconds=0)
    stack, rest = advance(recipe, stack, arrays, diagnostics=True)
    assert not any(has_diagnostics(record.metrics) for record in first)
    assert [record.epoch for record in rest] == [2, 2, 3, 3]
    assert all(has_diagnostics(record.metrics) for record in rest)


def test_zero_epochs_record_metrics_and_diagnostics_together() -> None:
    recipe, arrays = recipe_of(epochs=0), images(7, 64, 8, 12, 4)
    _, (record,) = advance(recipe, start(recipe, lanes_of(recipe)), arrays, diagnostics=True)
    _, (plain,) = advance(recipe, start(recipe, lanes_of(recipe)), arrays)
    assert record.epoch == 0
    assert without_diagnostics([record])[0].metrics == plain.metrics
    assert "layer1/z_std" in record.metrics
