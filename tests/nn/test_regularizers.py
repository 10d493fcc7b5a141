"""Test dropout, penalties and norms: definitions, addresses, and an independent library where installed."""

from __future__ import annotations

import numpy as np
import pytest

from fnnexp.data.datasets import Arrays
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.regularizers import Dropout, bound_norms, clip_norms
from fnnexp.nn.training import Lane, Recipe, advance, start

pytestmark = pytest.mark.usefixtures("one_blas_thread")


def masks(rates, seeds, step=1, rows=200, width=50):
    dropout = Dropout([{"dropout.1": rate} for rate in rates], seeds, (3, width), np.dtype("f8"))
    dropout.begin(step)
    draws = dropout.draw(rows)
    drawn = np.empty((len(rates), rows, width))
    for lane in range(len(rates)):
        dropout.mask(draws, 1, lane, drawn[lane])
    return drawn


def test_a_mask_is_zero_with_the_rate_as_probability_and_its_mean_is_one():
    drawn = masks([0.2, 0.5, 0.9], [0, 1, 2])
    for mask, rate in zip(drawn, (0.2, 0.5, 0.9), strict=True):
        assert set(np.unique(mask)) == {0.0, 1 / (1 - rate)}
        assert abs((mask == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / mask.size)


def test_lanes_with_one_seed_keep_at_a_higher_rate_a_part_of_what_they_keep_at_a_lower():
    low, high, other = masks([0.2, 0.5, 0.2], [7, 7, 8]) > 0
    assert (low | ~high).all()
    assert (low != other).any()


def test_a_mask_depends_on_the_step_and_not_on_the_steps_before():
    assert (masks([0.5], [3], step=1) != masks([0.5], [3], step=2)).any()
    assert (masks([0.5], [3], step=2) == masks([0.5], [3], step=2)).all()


def test_norms_are_bounded_and_shorter_vectors_stay():
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((2, 100))
    clipped = gradients.copy()
    clip_norms(clipped, np.array([[2.0], [1e3]]))
    assert np.allclose(clipped[0], gradients[0] * 2 / np.linalg.norm(gradients[0]), rtol=1e-14)
    assert (clipped[1] == gradients[1]).all()
    W = rng.standard_normal((2, 30, 4)) * [0.1, 1, 1, 1]
    bounded = W.copy()
    bound_norms(bounded, np.array([[2.0], [3.0]]))
    assert np.allclose(np.linalg.norm(bounded, axis=1)[:, 1:], [[2.0], [3.0]], rtol=1e-14)
    assert (bounded[:, :, 0] == W[:, :, 0]).all()


def test_a_gradient_that_overflows_is_not_clipped_so_the_lane_diverges():
    gradients = np.array([[np.inf, 1.0], [1e200, 1e200]])
    with np.errstate(over="ignore"):
        clip_norms(gradients, np.ones((2, 1)))
    assert gradients.tolist() == [[np.inf, 1.0], [1e200, 1e200]]


def test_a_gradient_whose_squares_overflow_in_float32_is_clipped():
    gradients = np.array([[3e30, 4e30], [np.inf, 1]], np.float32)
    with np.errstate(over="ignore"):
        clip_norms(gradients, np.full((2, 1), 10, np.float32))
    assert gradients.tolist() == [[pytest.approx(6), pytest.approx(8)], [np.inf, 1.0]]


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize(
    "options", [{"l2": 0.05}, {"l1": 0.01}, {"clip_norm": 0.5}, {"l2": 0.05, "clip_norm": 0.5}]
)
def test_twenty_steps_equal_those_of_pytorch(options, engine):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (180, 30)) * (rng.random((180, 30)) < 0.2)
    labels = rng.integers(0, 10, 180).astype("u1")
    arrays = Arrays(X[:160].astype("u1"), labels[:160], X[160:].astype("u1"), labels[160:])
    recipe = Recipe(
        Architecture(30, (20,), 10, "tanh"), Batching("mini", 16), "sgd", 2, "mean", dtype="float64",
        options=tuple(sorted(options)),
    )  # fmt: skip
    lane = Lane("k", 0, (0.05, 0.2), (("lr", 0.1), *sorted(options.items())))
    stack = start(recipe, [lane])
    named = Parameters(recipe.architecture, stack.theta).named(0)
    theta = {name: torch.tensor(array, requires_grad=True) for name, array in named.items()}
    X = torch.tensor(X[:160] / 255.0)
    y = torch.tensor(arrays.y_train.astype("i8"))
    for step in range(20):
        rows = slice(16 * (step % 10), 16 * (step % 10) + 16)
        logits = torch.tanh(X[rows] @ theta["W1"] + theta["b1"]) @ theta["W2"] + theta["b2"]
        loss = torch.nn.functional.cross_entropy(logits, y[rows])
        for name in ("W1", "W2"):
            loss = loss + options.get("l2", 0) / 2 * (theta[name] ** 2).sum()
            loss = loss + options.get("l1", 0) * theta[name].abs().sum()
        gradients = torch.autograd.grad(loss, list(theta.values()))
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        factor = min(1.0, options.get("clip_norm", np.inf) / float(norm))
        with torch.no_grad():
            for parameter, gradient in zip(theta.values(), gradients, strict=True):
                parameter -= 0.1 * factor * gradient
    trained, _ = advance(recipe, stack, arrays, engine=engine)
    for name, array in Parameters(recipe.architecture, trained.theta).named(0).items():
        assert np.abs(array - theta[name].detach().numpy()).max() < 1e-12, name
