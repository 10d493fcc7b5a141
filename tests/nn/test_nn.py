"""Test the pieces of training: initial weights, orders of rows, losses, update rules, and records."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays

from fnnexp.data.datasets import Arrays
from fnnexp.nn.engines.base import engine_named
from fnnexp.nn.engines.numpy_engine import DenseRows, Examples, Scaling
from fnnexp.nn.engines.per_sample import BLOCK, BlockDescent
from fnnexp.nn.epoch import same_order_groups
from fnnexp.nn.network import Architecture, Parameters, Workspace, backward, forward, initial_theta
from fnnexp.nn.pieces import optimizers
from fnnexp.nn.pieces.activations import ACTIVATIONS, activation_named
from fnnexp.nn.pieces.batching import Batching, slices
from fnnexp.nn.pieces.initializers import (
    DISTRIBUTIONS,
    INITIALIZERS,
    Biases,
    distribution_of,
    draw,
    standard_deviation,
)
from fnnexp.nn.pieces.losses import gradient_in_place, losses_and_hits
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.rng import generator
from fnnexp.nn.training import Lane, Recipe, Stack, advance, start

F32, F64 = np.dtype("float32"), np.dtype("float64")


def images(n_train: int = 90, n_test: int = 30, inputs: int = 12, classes: int = 4) -> Arrays:
    """Return images with learnable labels. The first and last column are 0 in every training row."""
    rng = np.random.default_rng(7)
    direction = rng.standard_normal((inputs, classes))

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        X = (rng.integers(0, 256, (n, inputs)) * (rng.random((n, inputs)) < 0.5)).astype(np.uint8)
        return X, (X @ direction).argmax(axis=1).astype(np.uint8)

    arrays = Arrays(*split(n_train), *split(n_test))
    arrays.x_train[:, [0, -1]] = 0
    return arrays


ARRAYS = images()
SMALL = Architecture(12, (9, 7), 4, "tanh")
UNBOUNDED = replace(SMALL, activation="relu")
HYPER = {
    "sgd": (("lr", 0.1),),
    "momentum": (("lr", 0.01), ("momentum", 0.9)),
    "adam": (("lr", 0.01), ("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8)),
    "nesterov": (("lr", 0.01), ("momentum", 0.9)),
    "adagrad": (("lr", 0.1), ("epsilon", 1e-10)),
    "rmsprop": (("lr", 0.01), ("rho", 0.9), ("epsilon", 1e-7)),
    "adamw": (("lr", 0.01), ("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8), ("weight_decay", 0.01)),
}
MODES = {
    "full": Batching("full"),
    "mini": Batching("mini", 32, shuffle=True),
    "sample": Batching("sample"),
}


def recipe_of(mode: str = "mini", optimizer: str = "sgd", epochs: int = 3, **changes: Any) -> Recipe:
    return replace(Recipe(SMALL, MODES[mode], optimizer, epochs, dtype="float64"), **changes)


def lane(key: str = "a", seed: int = 0, std: float = 0.3, hyper: Any = HYPER["sgd"]) -> Lane:
    return Lane(key, seed, (std,) * 3, hyper)


def trained(recipe: Recipe, *lanes: Lane, arrays: Arrays = ARRAYS) -> tuple[Stack, list[Any]]:
    return advance(recipe, start(recipe, lanes or [lane(hyper=HYPER[recipe.optimizer])]), arrays)


# --- initial weights ----------------------------------------------------------------------------------------

# The standard deviations for the layers (784, 100) and (32, 128), written out independently.
TABLE = {
    "max": (1 / 784, 1 / 128),
    "sqrtmax": (1 / 28, 128**-0.5),
    "xavier": (1 / 28, 32**-0.5),
    "he": (2 / 28, 2 * 32**-0.5),
    "he2": (2 * 884**-0.5, 2 * 160**-0.5),
    "normal": (0.3, 0.3),
    "glorot_normal": ((2 / 884) ** 0.5, (2 / 160) ** 0.5),
    "he_normal": ((2 / 784) ** 0.5, 0.25),
    "lecun_normal": (1 / 28, 32**-0.5),
    "glorot_uniform": ((2 / 884) ** 0.5, (2 / 160) ** 0.5),
    "he_uniform": ((2 / 784) ** 0.5, 0.25),
    "lecun_uniform": (1 / 28, 32**-0.5),
    "uniform": (0.3, 0.3),
    "truncated_normal": (0.3, 0.3),
    "orthogonal": (1 / 28, 128**-0.5),
    "zeros": (0.0, 0.0),
}


def test_the_table_has_every_method() -> None:
    assert set(INITIALIZERS) == set(TABLE)


@pytest.mark.parametrize("method", INITIALIZERS)
def test_the_standard_deviation_of_a_method_is_its_formula(method: str) -> None:
    for shape, expected in zip([(784, 100), (32, 128)], TABLE[method], strict=True):
        assert math.isclose(standard_deviation(method, *shape, 0.3), expected, rel_tol=1e-15)


@pytest.mark.parametrize("method", sorted({*INITIALIZERS} - {"zeros"}))
def test_weights_have_the_moments_and_the_bounds_of_the_method(method: str) -> None:
    wide, distribution = Architecture(784, (100,), 10, "relu"), distribution_of(method)
    stds = tuple(standard_deviation(method, *shape, 0.3) for shape in wide.shapes)
    theta = initial_theta(wide, 0, stds, F64, distribution=distribution)
    unit = Parameters(wide, theta[None]).W[0] / TABLE[method][0]
    # The standard deviation, fourth moment and largest value of unit draws; the normal distribution that is
    # truncated at 2 has the variance 1 - 4φ(2)/(2Φ(2) - 1) and the fourth moment 3 - 28φ(2)/(2Φ(2) - 1).
    std, fourth, largest = {
        "normal": (1, 3, 6),
        "uniform": (1, 9 / 5, 3**0.5),
        "truncated_normal": (0.87962566, 1.4161890, 2),
        "orthogonal": (1, 3, 6),
    }[distribution]
    # For n = 78,400 draws, the standard error is at most 0.25% for the deviation and σ/√n for the mean. Four
    # standard errors are allowed.
    assert abs(unit.std() / std - 1) < 0.01
    assert abs(unit.mean()) < 0.015
    assert abs((unit**4).mean() / fourth - 1) < 0.04
    assert 0.66 * largest < np.abs(unit).max() <= largest * (1 + 1e-15)


def test_zeros_are_zeros() -> None:
    assert not initial_theta(SMALL, 0, (0.0,) * 3, F64, distribution="constant").any()


def test_truncated_draws_equal_the_normal_draws_that_are_not_truncated() -> None:
    address = (3, "weights", 0)
    normal, truncated = (draw(*address, (99, 99), 0.5, name) for name in ("normal", "truncated_normal"))
    within = np.abs(normal) <= 1
    assert 0.94 < within.mean() < 0.97
    assert (truncated[within] == normal[within]).all()
    assert (truncated != normal).sum() == (~within).sum()


@pytest.mark.parametrize("shape", [(40, 40), (40, 7), (7, 40), (1, 5), (5, 1)])
def test_orthogonal_weights_have_orthonormal_columns_or_rows(shape: tuple[int, int]) -> None:
    W = draw(3, "weights", 0, shape, standard_deviation("orthogonal", *shape), "orthogonal")
    product = W.T @ W if shape[0] >= shape[1] else W @ W.T
    np.testing.assert_allclose(product, np.eye(min(shape)), rtol=0, atol=1e-14)
    # Gram and Schmidt's method gives the same columns, so the diagonal of R is positive.
    A = generator(3, "weights", 0).standard_normal(shape)
    first = A[:, 0] if shape[0] >= shape[1] else A[0]
    np.testing.assert_allclose(
        W[:, 0] if shape[0] >= shape[1] else W[0], first / np.linalg.norm(first), rtol=0, atol=1e-14
    )


def test_orthogonal_weights_are_those_of_pytorch_from_the_same_draws() -> None:
    torch = pytest.importorskip("torch")

    def normal(tensor: Any, *_: Any, **__: Any) -> Any:  # PyTorch's weights have the shape (n_out, n_in)
        draws = generator(3, "weights", 0).standard_normal((n_in, n_out))
        return tensor.copy_(torch.tensor(draws.T.copy()))

    for n_in, n_out in [(9, 4), (4, 9)]:  # of a square matrix, PyTorch makes the rows orthogonal one by one
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "normal_", normal)
            W = torch.nn.init.orthogonal_(torch.empty(n_out, n_in, dtype=torch.float64), gain=2)
        std = 2 * standard_deviation("orthogonal", n_in, n_out)
        ours = draw(3, "weights", 0, (n_in, n_out), std, "orthogonal")
        np.testing.assert_allclose(ours, W.numpy().T, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs", "arguments"),
    [
        ("glorot_uniform", "xavier_uniform_", {}),
        ("he_uniform", "kaiming_uniform_", {"nonlinearity": "relu"}),
        ("lecun_uniform", "kaiming_uniform_", {"nonlinearity": "linear"}),
        ("glorot_normal", "xavier_normal_", {}),
        ("he_normal", "kaiming_normal_", {"nonlinearity": "relu"}),
        ("lecun_normal", "kaiming_normal_", {"nonlinearity": "linear"}),
    ],
)
def test_scales_are_those_of_pytorch(ours: str, theirs: str, arguments: dict[str, str]) -> None:
    torch = pytest.importorskip("torch")
    scales: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "uniform_", lambda self, low, high, **_: scales.append(high / 3**0.5))
        patch.setattr(torch.Tensor, "normal_", lambda self, mean, std, **_: scales.append(std))
        getattr(torch.nn.init, theirs)(torch.empty(30, 50), **arguments)
    assert scales == pytest.approx([standard_deviation(ours, 50, 30)], rel=1e-14)


def test_normal_without_a_standard_deviation_is_refused() -> None:
    with pytest.raises(ValueError, match="'normal' needs a standard deviation; pass std"):
        standard_deviation("normal", 2, 2)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_mean_is_added_to_the_draws(distribution: str) -> None:
    plain = draw(3, "weights", 0, (9, 7), 0.5, distribution)
    np.testing.assert_allclose(draw(3, "weights", 0, (9, 7), 0.5, distribution, 2.0), plain + 2, rtol=1e-15)


def test_biases_start_as_a_constant_normal_or_uniform_and_only_where_they_would_be_zero() -> None:
    def started(biases: Biases | None, hidden: str = "zeros", output: str = "zeros") -> dict[str, np.ndarray]:
        architecture = Architecture(16, (3000,), 2000, "relu", hidden, output)
        return Parameters(
            architecture, initial_theta(architecture, 3, (1.0, 1.0), F64, biases=biases)[None]
        ).named(0)

    plain, constant, normal, uniform, bounded = map(
        started,
        (None, Biases("constant", 0.1), Biases("normal", 0.2), Biases("uniform"), Biases("uniform", 0.3)),
    )
    for other in (constant, normal, uniform, bounded):
        assert all((other[name] == plain[name]).all() for name in ("W1", "W2"))
    assert (constant["b1"] == 0.1).all()
    assert (constant["b2"] == 0.1).all()
    for layer, bound in ((1, 1 / 4), (2, 3000**-0.5)):
        assert abs(normal[f"b{layer}"].std() / 0.2 - 1) < 0.06
        assert 0.99 * bound < np.abs(uniform[f"b{layer}"]).max() <= bound * (1 + 1e-15)
        assert 0.29 < np.abs(bounded[f"b{layer}"]).max() <= 0.3 * (1 + 1e-15)
    drawn = started(Biases("constant", 5.0), "normal", "none")
    assert "b2" not in drawn
    assert abs(drawn["b1"].std() - 1) < 0.06
    np.testing.assert_allclose(normal["b1"] / 0.2, drawn["b1"], rtol=1e-15)  # the same address


def test_weights_and_the_order_of_rows_have_seeds_of_their_own() -> None:
    recipe, hyper = recipe_of(), HYPER["sgd"]
    lanes = [
        Lane("a", 7, (0.3,) * 3, hyper, (("init", 1), ("order", 2))),
        Lane("b", 1, (0.3,) * 3, hyper, (("order", 2),)),
        Lane("c", 2, (0.3,) * 3, hyper, (("init", 1),)),
        Lane("d", 1, (0.3,) * 3, hyper),
        Lane("e", 2, (0.3,) * 3, hyper),
    ]
    untrained = start(recipe, lanes)
    assert [lane.key for lane in untrained.lanes] == ["d", "a", "b", "c", "e"]  # by the seed of the order
    assert same_order_groups(recipe, untrained) == [(range(1), 1), (range(1, 5), 2)]
    stack, _ = advance(recipe, untrained, ARRAYS)
    at = {lane.key: k for k, lane in enumerate(stack.lanes)}
    for theta in (untrained.theta, stack.theta):
        assert (theta[at["a"]] == theta[at["b"]]).all()
        assert (theta[at["a"]] == theta[at["c"]]).all()
        assert not (theta[at["a"]] == theta[at["e"]]).all()
    assert (untrained.theta[at["a"]] == untrained.theta[at["d"]]).all()
    assert not (stack.theta[at["a"]] == stack.theta[at["d"]]).all()


@pytest.mark.parametrize("bias", ["zeros", "normal", "none"])
def test_with_one_seed_two_methods_differ_in_scale_alone(bias: str) -> None:
    architecture = replace(SMALL, hidden_bias=bias, output_bias=bias)

    def unit_draws(*stds: float) -> list[np.ndarray]:
        named = Parameters(architecture, initial_theta(architecture, 5, stds, F64)[None]).named(0)
        return [array / stds[int(name[1]) - 1] for name, array in named.items()]

    for a, b in zip(unit_draws(0.1, 0.2, 0.3), unit_draws(3.0, 1.0, 0.07), strict=True):
        np.testing.assert_allclose(a, b, rtol=4e-16, atol=0)


def test_the_draws_of_a_layer_depend_only_on_the_seed_and_the_layer_index() -> None:
    def weights(seed: int, layer: int, *hidden: int, inputs: int = 12, bias: str = "zeros") -> np.ndarray:
        architecture = Architecture(inputs, hidden, 4, "relu", bias, bias)
        theta = initial_theta(architecture, seed, (1.0,) * (len(hidden) + 1), F64)
        return Parameters(architecture, theta[None]).W[layer][0]

    first, second = weights(1, 0, 9, 7), weights(1, 1, 9, 7)
    assert (weights(1, 0, 9) == first).all()  # not on later layers
    assert (weights(1, 1, 9, 7, inputs=3) == second).all()  # not on earlier layers
    assert (weights(1, 0, 9, 7, bias="normal") == first).all()  # not on the biases
    assert not (weights(2, 0, 9, 7) == first).any()
    assert not (weights(1, 1, 9, 9, inputs=9) == weights(1, 0, 9, 9, inputs=9)).any()


def test_drawn_biases_differ_from_the_weights_and_zero_biases_are_zero() -> None:
    assert not np.isin(draw(0, "biases", 0, (1, 9), 1.0), draw(0, "weights", 0, (12, 9), 1.0)).any()
    named = Parameters(SMALL, initial_theta(SMALL, 0, (1.0,) * 3, F64)[None]).named(0)
    assert [name for name, array in named.items() if not array.any()] == ["b1", "b2", "b3"]


def test_initial_float32_weights_are_the_float64_weights_rounded() -> None:
    assert (
        initial_theta(SMALL, 3, (0.3,) * 3, F32) == initial_theta(SMALL, 3, (0.3,) * 3, F64).astype(F32)
    ).all()


def test_parameters_are_views_of_theta_and_a_layer_without_bias_has_no_b() -> None:
    architecture = replace(SMALL, hidden_bias="none")
    theta = np.arange(2.0 * architecture.parameter_count).reshape(2, -1)
    named = Parameters(architecture, theta).named(1)
    assert {name: array.shape for name, array in named.items()} == {
        "W1": (12, 9),
        "W2": (9, 7),
        "W3": (7, 4),
        "b3": (4,),
    }
    assert (np.concatenate([array.ravel() for array in named.values()]) == theta[1]).all()
    Parameters(architecture, theta).W[1][0, 2, 3] = -1
    assert theta[0, 12 * 9 + 2 * 7 + 3] == -1


# --- the order of rows --------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(0, 2**40), st.integers(1, 500))
def test_the_order_of_an_epoch_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    order = Batching("sample", None, shuffle=True).order(n, seed, epoch)
    assert order is not None
    assert sorted(order) == list(range(n))


def test_orders_differ_between_epochs_and_between_seeds() -> None:
    orders = [Batching("mini", 8, shuffle=True).order(500, seed, e) for seed in (0, 1) for e in (1, 2, 3)]
    for i, order in enumerate(orders):
        for earlier in orders[:i]:
            assert np.mean(order == earlier) < 0.05  # by chance, about one row in 500 has the same position


def test_the_order_of_epoch_7_does_not_depend_on_earlier_draws() -> None:
    batching = Batching("mini", 8, shuffle=True)
    orders = [batching.order(50, 3, epoch) for epoch in range(1, 8)]
    assert (batching.order(50, 3, 7) == orders[-1]).all()
    address = np.random.SeedSequence((3, 3, 7))  # seed, the number that stands for orders, epoch
    assert (orders[-1] == np.random.Generator(np.random.PCG64(address)).permutation(50)).all()


def test_without_shuffling_rows_keep_the_order_of_the_file() -> None:
    assert all(Batching(mode).order(50, 0, 1) is None for mode in MODES)


def test_batch_size_depends_on_the_mode_and_the_number_of_rows() -> None:
    batchings = [Batching("full"), Batching("mini", 32), Batching("mini", 32), Batching("sample")]
    sizes = [batching.batch_size(n) for batching, n in zip(batchings, (100, 100, 20, 100), strict=True)]
    assert sizes == [100, 32, 20, 1]


@given(st.integers(0, 300), st.integers(1, 80))
def test_slices_cover_every_row_once_and_only_the_last_may_be_shorter(n: int, size: int) -> None:
    all_slices = list(slices(n, size))
    assert [row for rows in all_slices for row in range(n)[rows]] == list(range(n))
    assert all(rows.stop - rows.start == size for rows in all_slices[:-1])


@pytest.mark.parametrize("dtype", [F32, F64])
def test_rows_are_gathered_and_scaled(dtype: Any) -> None:
    X = np.arange(60, dtype=np.uint8).reshape(20, 3) * 4 + 1
    unit, raw = DenseRows(X, Scaling(255.0), 8, dtype), DenseRows(X, Scaling(), 8, dtype)
    for where in (slice(2, 9), np.array([19, 0, 0, 7])):
        assert raw.take(where).used is None
        np.testing.assert_array_equal(raw.take(where).X, X[where])
        np.testing.assert_array_equal(unit.take(where).X, X[where].astype(dtype) / dtype.type(255))
        assert unit.take(where).X.dtype == dtype


@pytest.mark.parametrize("where", [slice(1, 4), np.array([3, 1, 2])])
def test_columns_that_are_zero_in_all_selected_rows_are_omitted(where: Any) -> None:
    X = np.zeros((5, 10), np.uint8)
    X[1, 2], X[2, 7], X[3, 7] = 5, 6, 7
    X[0] = X[4] = 9  # not selected
    examples = DenseRows(X, Scaling(), 4, F32).take(where)
    np.testing.assert_array_equal(examples.used, [2, 7])
    np.testing.assert_array_equal(examples.X, X[where][:, [2, 7]])


# --- the loss -----------------------------------------------------------------------------------------------

logits_of_any_magnitude = np_arrays(F64, (2, 3, 5), elements=st.floats(-1e300, 1e300))


def measured(Z: np.ndarray, labels: Any, epsilon: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the losses, the hits and dZ of the logits Z, without changing Z."""
    dZ, row = Z.copy(), np.empty((*Z.shape[:2], 1), Z.dtype)
    onehot = np.eye(Z.shape[-1], dtype=Z.dtype)[np.asarray(labels)]
    losses, hits = losses_and_hits(dZ, onehot, epsilon, row)
    gradient_in_place(dZ, onehot, epsilon, row)
    return losses, hits, dZ


def softmax(Z: np.ndarray) -> np.ndarray:
    """Return p, computed from the gradient with class 0 as the label."""
    p = measured(Z, np.zeros(Z.shape[:2], int))[2]
    p[..., 0] += 1
    return p


@settings(deadline=None)
@given(logits_of_any_magnitude)
def test_softmax_is_a_distribution_for_logits_of_any_magnitude(Z: np.ndarray) -> None:
    with np.errstate(over="ignore"):  # differences of up to 2e300
        p = softmax(Z)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=0, atol=1e-15 * 5)


def test_softmax_equals_values_computed_by_hand() -> None:
    Z = np.log([[[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]])
    np.testing.assert_allclose(softmax(Z), [[[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]]], rtol=1e-15)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_without_epsilon_the_loss_of_huge_logits_is_finite_and_correct(dtype: Any) -> None:
    Z = np.array([[[1e4, -1e4, 0.0], [1e30, 0.0, 0.0], [-1e30, -1e30, -1e30]]], dtype)
    with np.errstate(all="raise", under="ignore"):
        losses, _, dZ = measured(Z, [[1, 1, 2]])
    np.testing.assert_allclose(losses, [[2e4, 1e30, math.log(3)]], rtol=1e-6)
    np.testing.assert_allclose(dZ, [[[1, -1, 0], [1, -1, 0], [1 / 3, 1 / 3, -2 / 3]]], rtol=1e-6)


def test_with_epsilon_a_probability_that_underflows_has_a_finite_loss_and_no_gradient() -> None:
    Z = np.array([[[200.0, 0.0]]], F32)
    losses, _, dZ = measured(Z, [[1]], 1e-12)
    np.testing.assert_allclose(losses, -math.log(1e-12), rtol=1e-6)
    assert not dZ.any()


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-2])
def test_losses_and_gradients_equal_their_closed_forms(epsilon: float) -> None:
    rng = np.random.default_rng(0)
    Z, labels = rng.normal(0, 4, (2, 6, 5)), rng.integers(0, 5, (2, 6))
    onehot = np.eye(5)[labels]
    p = np.exp(Z) / np.exp(Z).sum(axis=-1, keepdims=True)
    p_y = (p * onehot).sum(axis=-1)
    losses, hits, dZ = measured(Z, labels, epsilon)
    np.testing.assert_allclose(losses, -np.log(p_y + epsilon), rtol=1e-13, atol=1e-15)
    assert (hits == (p.argmax(axis=-1) == labels)).all()
    np.testing.assert_allclose(dZ, (p_y / (p_y + epsilon))[..., None] * (p - onehot), rtol=0, atol=1e-14)


def test_a_tie_in_one_lane_does_not_change_the_hits_of_a_lane_with_nan_logits() -> None:
    tied, nan = [[0.0, 0.0]], [[np.nan, np.nan]]
    alone = measured(np.array([nan]), [[0]])[1]
    together = measured(np.array([tied, nan]), [[0], [0]])[1]
    assert together[1].tolist() == alone[0].tolist()


def test_the_first_of_tied_logits_is_the_prediction() -> None:
    Z = np.array([[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 2.0]]])
    assert measured(Z, [[0, 1, 1]])[1].tolist() == [[True, False, True]]


# --- activations --------------------------------------------------------------------------------------------


def logistic(z: float) -> float:
    return 1 / (1 + math.exp(-max(z, -500.0)))


def gelu_and_derivative(z: float) -> tuple[float, float]:
    if abs(z) > 30:
        return max(z, 0.0), float(z > 0)
    t = math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))
    dt = (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)
    return z * (1 + t) / 2, (1 + t + z * dt) / 2


LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772
CLOSED_FORMS = {  # f(z) and f′(z)
    "relu": lambda z: (max(z, 0.0), z > 0),
    "tanh": lambda z: (math.tanh(z), 1 - math.tanh(z) ** 2),
    "tanh_as_published": lambda z: (math.tanh(z), 1 - math.tanh(math.tanh(z)) ** 2),
    "sigmoid": lambda z: (logistic(z), logistic(z) * logistic(-z)),
    "leaky_relu": lambda z: (z, 1) if z > 0 else (0.01 * z, 0.01),
    "elu": lambda z: (z, 1) if z > 0 else (math.expm1(z), math.exp(z)),
    "selu": lambda z: (
        (LAMBDA * z, LAMBDA) if z > 0 else (LAMBDA * ALPHA * math.expm1(z), LAMBDA * ALPHA * math.exp(z))
    ),
    "softplus": lambda z: (max(z, 0.0) + math.log1p(math.exp(-abs(z))), logistic(z)),
    "softsign": lambda z: (z / (1 + abs(z)), (1 + abs(z)) ** -2),
    "gelu": gelu_and_derivative,
    "silu": lambda z: (
        z * logistic(z) if z > -700 else 0.0,
        logistic(z) * (1 + max(z, -700.0) * logistic(-z)),
    ),
    "identity": lambda z: (z, 1),
}
POINTS = [0.0, -0.0, 1e-6, -1e-6, 0.5, -1.0, 3.0, -3.0, 12.0, -12.0, 30.0, -30.0, 1e3, -1e3, 1e6, -1e6]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_derivatives_equal_their_closed_forms(name: str, dtype: str) -> None:
    """Up to rounding relative to the value, or to 1 where a value near 0 is a difference from 1."""
    largest = 3e38 if dtype == "float32" else 1e150
    Z = np.array([*POINTS, largest, -largest], dtype)
    expected = [CLOSED_FORMS[name](float(z)) for z in Z]
    A, derivative, f = Z.copy(), np.empty_like(Z), ACTIVATIONS[name]
    with np.errstate(all="raise", under="ignore", over="ignore"):
        f.forward(A)
        before = A.copy()
        f.derivative(Z if f.needs_z else A, A, derivative)
    np.testing.assert_array_equal(A, before)
    for actual, exact in zip((A, derivative), np.transpose(expected), strict=True):
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(actual, exact, rtol=20 * eps, atol=20 * eps)


def test_a_leaky_relu_has_the_slope_that_is_asked_for() -> None:
    Z, out = np.array([-2.0, 0.0, 2.0]), np.empty(3)
    for slope in (0.0, 0.25):
        A, f = Z.copy(), activation_named("leaky_relu", slope)
        f.forward(A)
        f.derivative(A, A, out)
        assert (A.tolist(), out.tolist()) == ([-2 * slope, 0, 2], [slope, slope, 1])
    assert activation_named("elu", 0.25) is ACTIVATIONS["elu"]


# --- update rules -------------------------------------------------------------------------------------------

RULES = {
    "sgd": {"lr": [[0.1], [0.5]]},
    "momentum": {"lr": [[0.1], [0.5]], "momentum": [[0.9], [0.0]]},
    "adam": {
        "lr": [[0.1], [0.5]],
        "beta1": [[0.9], [0.5]],
        "beta2": [[0.99], [0.9]],
        "epsilon": [[1e-8], [1.0]],
    },
}


def stepped(name: str, *gradients: list[float]) -> np.ndarray:
    """Return θ of two lanes with different hyperparameters, after the same gradients from θ = 0."""
    hyper = {key: np.array(value) for key, value in RULES[name].items()}
    assert tuple(hyper) == OPTIMIZERS[name].hyperparameters
    theta = np.zeros((2, len(gradients[0])))
    slots = tuple(np.zeros_like(theta) for _ in range(OPTIMIZERS[name].slots))
    for step, g in enumerate(gradients, start=1):
        OPTIMIZERS[name].update(theta, np.array([g, g]), slots, step, hyper)
    return theta


G1, G2 = [1.0, -4.0, 0.0], [3.0, 2.0, 0.0]


def test_steps_of_sgd_equal_values_computed_by_hand() -> None:
    np.testing.assert_allclose(stepped("sgd", G1), [[-0.1, 0.4, 0], [-0.5, 2, 0]], rtol=1e-15)
    np.testing.assert_allclose(stepped("sgd", G1, G2), [[-0.4, 0.2, 0], [-2, 1, 0]], rtol=1e-15)


def test_steps_of_momentum_equal_values_computed_by_hand() -> None:
    np.testing.assert_allclose(stepped("momentum", G1), stepped("sgd", G1), rtol=1e-15)
    # v₂ = 0.9 v₁ + g₂ = (3.9, −1.6); in the second lane μ is 0.
    np.testing.assert_allclose(stepped("momentum", G1, G2), [[-0.49, 0.56, 0], [-2, 1, 0]], rtol=1e-14)


def test_the_first_step_of_adam_is_minus_lr_times_the_sign_of_the_gradient() -> None:
    np.testing.assert_allclose(stepped("adam", G1)[0], [-0.1, 0.1, 0], rtol=1e-7)
    np.testing.assert_allclose(stepped("adam", G1)[1], [-0.5 * 1 / 2, 0.5 * 4 / 5, 0], rtol=1e-14)


def test_the_second_step_of_adam_equals_its_closed_form() -> None:
    g1, g2 = np.array(G1), np.array(G2)
    for k in range(2):
        lr, beta1, beta2, epsilon = (RULES["adam"][name][k][0] for name in RULES["adam"])
        m_hat, v_hat = (beta1 * g1 + g2) / (1 + beta1), (beta2 * g1**2 + g2**2) / (1 + beta2)
        second = stepped("adam", G1, G2)[k] - stepped("adam", G1)[k]
        np.testing.assert_allclose(second, -lr * m_hat / (np.sqrt(v_hat) + epsilon), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name, rule in OPTIMIZERS.items() if rule.slots])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_update_rule_has_the_same_bits_in_blocks_and_compiled(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule, rng = OPTIMIZERS[name], np.random.default_rng(0)
    initial = rng.standard_normal((3, 500)).astype(dtype)
    hyper = {key: np.array([[v], [0.9 * v], [0.5 * v]], dtype) for key, v in HYPER[name]}
    gradients = [(rng.standard_normal((3, 500)) * 10.0 ** (2 - t)).astype(dtype) for t in range(5)]

    def result(update: Any, block: int) -> list[bytes]:
        monkeypatch.setattr(optimizers, "BLOCK", block)
        theta, slots = initial.copy(), tuple(np.zeros_like(initial) for _ in range(rule.slots))
        for step, grad in enumerate(gradients, start=1):
            update(theta, grad.copy(), slots, step, hyper)
        return [array.tobytes() for array in (theta, *slots)]

    whole = result(rule.update, 10_000)
    assert result(rule.update, 1100) == result(rule.update, 37) == whole
    assert result(engine_named("numba").updates[rule.update], 10_000) == whole


# --- one row at a time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (9,), (9, 7)])
@pytest.mark.parametrize("bias", ["normal", "none"])
@pytest.mark.parametrize("epsilon", [0.0, 1e-2])
@pytest.mark.parametrize("rows", [1, BLOCK])
def test_descent_by_block_equals_a_plain_step_for_each_row(
    rows: int, epsilon: float, bias: str, hidden: tuple[int, ...]
) -> None:
    architecture = Architecture(12, hidden, 4, "sigmoid", bias, bias)
    rng, stds = np.random.default_rng(0), (0.5,) * (len(hidden) + 1)
    theta = np.stack([initial_theta(architecture, seed, stds, F64) for seed in range(3)])
    plain = Parameters(architecture, theta.copy())
    by_block = Parameters(architecture, theta.copy())
    lr = np.array([[0.1], [0.2], [0.3]])
    images = np.where(rng.random((2, rows, 12)) < 0.8, rng.random((2, rows, 12)), 0)
    images[1][:, [0, 3, 9]] = 0
    used = np.flatnonzero(images[1].any(axis=0))
    inputs = [(range(2), Examples(images[0])), (range(2, 3), Examples(images[1][:, used], used))]
    labels = rng.integers(0, 4, (3, rows))

    gradients = Parameters(architecture, np.empty_like(theta))
    rows_of_lanes = [(lanes, X) for (lanes, _), X in zip(inputs, images, strict=True)]
    work, losses, hits = Workspace(architecture, 3, 1, F64), np.empty((3, rows)), np.empty((3, rows), bool)
    for t in range(rows):
        row = [(lanes, Examples(X[t : t + 1])) for lanes, X in rows_of_lanes]
        work.set_labels(labels[:, t : t + 1])
        row_results = losses_and_hits(forward(plain, row, work), work.targets, epsilon, work.row)
        losses[:, t : t + 1], hits[:, t : t + 1] = row_results
        gradient_in_place(work.logits, work.targets, epsilon, work.row)
        gradients.theta.fill(0)
        backward(plain, row, work, gradients)
        OPTIMIZERS["sgd"].update(plain.theta, gradients.theta, (), t + 1, {"lr": lr})

    descent = BlockDescent(architecture, by_block, lr, epsilon, [lanes for lanes, _ in inputs])
    by_block_losses, by_block_hits = descent.descend(inputs, labels)
    descent.write_back()
    np.testing.assert_allclose(by_block_losses, losses, rtol=0, atol=1e-13)
    assert (by_block_hits == hits).all()
    np.testing.assert_allclose(by_block.theta, plain.theta, rtol=0, atol=1e-14)
    assert np.abs(by_block.theta - theta).max() > 1e-3


# --- records ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validation", [0, 15])
def test_zero_epochs_record_the_untrained_network_at_epoch_0(validation: int) -> None:
    recipe = recipe_of(epochs=0, validation=validation)
    stack, (record,) = trained(recipe)
    initial = start(recipe, [lane()])
    assert (record.key, record.epoch, stack.epoch, record.diverged) == ("a", 0, 0, False)
    assert (stack.theta == initial.theta).all()
    W1, b1, W2, b2, W3, b3 = Parameters(SMALL, initial.theta).named(0).values()
    n = 90 - validation
    splits = {
        "train": (ARRAYS.x_train[:n], ARRAYS.y_train[:n]),
        "val": (ARRAYS.x_train[n:], ARRAYS.y_train[n:]),
        "test": (ARRAYS.x_test, ARRAYS.y_test),
    }
    expected = {}
    for split, (X, y) in splits.items():
        if len(X):
            Z = np.tanh(np.tanh(X / 255 @ W1 + b1) @ W2 + b2) @ W3 + b3
            p = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
            expected[f"{split}_loss"] = -np.log(p[range(len(y)), y]).mean()
            expected[f"{split}_accuracy"] = np.mean(Z.argmax(axis=1) == y)
    assert record.metrics == pytest.approx(expected, rel=1e-13)


def test_training_metrics_are_computed_before_the_step_that_uses_the_rows() -> None:
    tested_on_training = replace(ARRAYS, x_test=ARRAYS.x_train, y_test=ARRAYS.y_train)
    _, before = trained(recipe_of("full", epochs=0), arrays=tested_on_training)
    _, records = trained(recipe_of("full", epochs=4), arrays=tested_on_training)
    for earlier, later in zip([*before, *records], records, strict=False):
        assert later.metrics["train_loss"] == pytest.approx(earlier.metrics["test_loss"], rel=1e-13)
        assert later.metrics["train_accuracy"] == earlier.metrics["test_accuracy"]
    assert records[-1].metrics["test_loss"] < records[0].metrics["test_loss"]


@pytest.mark.parametrize("mode", MODES)
def test_a_learning_rate_of_0_changes_no_parameter(mode: str) -> None:
    stack, records = trained(recipe_of(mode), lane(hyper=(("lr", 0.0),)))
    assert (stack.theta == start(recipe_of(mode), [lane()]).theta).all()
    _, (untrained,) = trained(recipe_of(mode, epochs=0))
    assert all(record.metrics == pytest.approx(untrained.metrics, rel=1e-13) for record in records)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_loss_falls_with_every_mode_and_optimizer(mode: str, optimizer: str) -> None:
    _, records = trained(recipe_of(mode, optimizer, epochs=40 if mode == "full" else 10))
    assert [record.epoch for record in records] == list(range(1, len(records) + 1))
    assert records[-1].metrics["train_loss"] < 0.9 * records[0].metrics["train_loss"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_advance_does_not_change_its_arguments(mode: str, optimizer: str) -> None:
    recipe = recipe_of(mode, optimizer)
    before, _ = advance(recipe, start(recipe, [lane(hyper=HYPER[optimizer])]), ARRAYS, seconds=0)
    assert before.epoch == 1
    frozen = [before.theta, *before.slots, *vars(ARRAYS).values()]
    copies = [array.copy() for array in frozen]
    for array in frozen:
        array.setflags(write=False)
    try:
        after, _ = advance(recipe, before, ARRAYS)
    finally:
        for array in vars(ARRAYS).values():
            array.setflags(write=True)
    assert all((array == copy).all() for array, copy in zip(frozen, copies, strict=True))
    assert (before.epoch, after.epoch) == (1, 3)
    assert not (after.theta == before.theta).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "adamw"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_weights_of_a_pixel_that_is_always_0_never_change(mode: str, optimizer: str, dtype: str) -> None:
    recipe = recipe_of(mode, optimizer, dtype=dtype)
    stack, _ = trained(recipe)
    untrained = start(recipe, [lane(hyper=HYPER[optimizer])])
    unchanged = (Parameters(SMALL, stack.theta).W[0] == Parameters(SMALL, untrained.theta).W[0]).all(
        axis=(0, 2)
    )
    assert np.flatnonzero(unchanged).tolist() == [0, 11]


def test_a_segment_has_at_least_one_epoch_and_stops_when_its_time_is_used() -> None:
    recipe, seconds = recipe_of(epochs=6), count()
    stack, records = advance(recipe, start(recipe, [lane()]), ARRAYS, 0, lambda: float(next(seconds)))
    assert (stack.epoch, len(records)) == (1, 1)
    stack, records = advance(recipe, stack, ARRAYS)
    assert [record.epoch for record in records] == [2, 3, 4, 5, 6]
    assert advance(recipe, stack, ARRAYS)[1] == []


def test_lanes_with_the_same_order_of_rows_are_adjacent() -> None:
    lanes = [lane(f"{k}", seed) for k, seed in enumerate((2, 0, 2, 1, 0))]
    assert [lane.key for lane in start(recipe_of("mini"), lanes).lanes] == ["1", "4", "3", "0", "2"]
    assert [lane.key for lane in start(recipe_of("full"), lanes).lanes] == ["0", "1", "2", "3", "4"]


def test_a_lane_that_diverges_leaves_and_the_other_lanes_continue() -> None:
    recipe = recipe_of("full", "momentum", epochs=30, architecture=UNBOUNDED)
    growing = (("lr", 1.0), ("momentum", 1e20))  # μ > 1: every step is longer than the previous step
    stack, records = trained(recipe, lane("good", hyper=HYPER["momentum"]), lane("bad", hyper=growing))
    bad = [record for record in records if record.key == "bad"]
    assert [record.diverged for record in bad] == [False] * (len(bad) - 1) + [True]
    assert 2 < bad[-1].epoch < 30
    assert bad[-1].end is not None
    assert bad[-1].end.theta.shape == stack.theta[0].shape
    assert all(math.isfinite(value) for record in bad[:-1] for value in record.metrics.values())
    assert [remaining.key for remaining in stack.lanes] == ["good"]
    assert [r.epoch for r in records if r.key == "good"] == list(range(1, 31))


def test_a_lane_with_finite_parameters_and_infinite_logits_has_diverged() -> None:
    _, (record,) = trained(
        recipe_of("full", epochs=1, architecture=UNBOUNDED),
        lane(hyper=(("lr", 1e200),)),
    )
    assert record.end is not None
    assert np.isfinite(record.end.theta).all()
    assert math.isfinite(record.metrics["train_loss"])
    assert math.isnan(record.metrics["test_loss"])
    assert record.diverged


def test_a_stack_whose_lanes_have_all_diverged_is_empty() -> None:
    stack, records = trained(
        recipe_of(epochs=9, architecture=UNBOUNDED),
        lane(hyper=(("lr", 1e300),)),
        lane("b", 1, hyper=(("lr", 1e300),)),
    )
    assert stack.lanes == ()
    assert stack.theta.shape == (0, SMALL.parameter_count)
    assert all(record.diverged for record in records if record.epoch == records[-1].epoch)


def test_an_untrained_lane_whose_loss_is_not_finite_has_diverged_at_epoch_0() -> None:
    stack, (record,) = trained(recipe_of(epochs=0, architecture=UNBOUNDED), lane(std=1e200))
    assert (record.diverged, record.epoch, stack.lanes) == (True, 0, ())


def test_select_returns_the_state_of_the_lanes_in_the_given_order() -> None:
    recipe = recipe_of("mini", "momentum")
    stack, _ = trained(recipe, *(lane(f"{k}", k, hyper=HYPER["momentum"]) for k in range(4)))
    selected = stack.select([3, 1])
    assert [chosen.key for chosen in selected.lanes] == ["3", "1"]
    assert (selected.theta == stack.theta[[3, 1]]).all()
    assert (selected.slots[0] == stack.slots[0][[3, 1]]).all()
    assert selected.epoch == stack.epoch
