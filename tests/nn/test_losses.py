"""Test losses: extreme logits, smoothed targets, outputs, and 20 steps against PyTorch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_law_stacking import images

from fnnexp.nn.evaluation import parameters_from, predict
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.losses import LOSSES, loss_for, target_values
from fnnexp.nn.rows import splits_of
from fnnexp.nn.training import Lane, Recipe, advance, start

ALL = [(loss, output) for loss, outputs in LOSSES.items() for output in outputs]
EXTREME = [1e4, -1e4, 60.0, -60.0, 0.0]


def recipe_of(loss: str, output: str, smoothing: float = 0.0, **changes: Any) -> Recipe:
    recipe = Recipe(Architecture(12, (9,), 5, "tanh"), Batching("full"), "sgd", 20, dtype="float64")
    recipe = replace(recipe, loss=loss, output=output if len(LOSSES[loss]) > 1 else None, **changes)
    return replace(recipe, options=("label_smoothing",)) if smoothing else recipe


def lane_of(smoothing: float = 0.0) -> Lane:
    hyper = (("lr", 0.5), ("label_smoothing", smoothing))
    return Lane("0", 3, (0.4, 0.4), hyper if smoothing else hyper[:1])


def measured(
    recipe: Recipe, Z: np.ndarray, labels: Any, smoothing: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the losses, hits, outputs and dZ of the logits Z, without changing Z."""
    loss, dZ, row = loss_for(recipe), Z.copy(), np.empty((*Z.shape[:2], 1), Z.dtype)
    other, label = target_values(loss, np.full((1, 1, 1), smoothing, Z.dtype), Z.shape[-1])
    T = np.where(np.arange(Z.shape[-1]) == np.asarray(labels)[..., None], label, other)
    losses, hits = loss.losses_and_hits(dZ, T, recipe.epsilon, row)
    outputs = loss.outputs(dZ, row)
    loss.gradient(dZ, T, recipe.epsilon, row)
    return losses, hits, outputs, dZ


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("loss", "output"), ALL)
def test_huge_logits_overflow_in_no_loss(loss: str, output: str, smoothing: float, dtype: Any) -> None:
    Z = np.array([[EXTREME, EXTREME[::-1]]], dtype)
    with np.errstate(all="raise", under="ignore"):
        results = measured(recipe_of(loss, output, smoothing), Z, [[1, 2]], smoothing)
    assert all(np.isfinite(array).all() for array in results)
    assert (results[0] >= 0).all()


def test_the_binary_loss_of_huge_logits_is_correct() -> None:
    Z = np.array([[[1e4, -1e4, 0.0], [-50.0, 50.0, -1e4]]])
    losses, _, A, dZ = measured(recipe_of("binary_cross_entropy", "sigmoid"), Z, [[1, 1]])
    assert losses[0].tolist() == pytest.approx([2e4 + math.log(2), 2 * math.exp(-50)], rel=1e-14)
    np.testing.assert_allclose(A[0, 0], [1, 0, 0.5])
    np.testing.assert_allclose(dZ[0, 0], [1, -1, 0.5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1 - 1e-16, 1e-30])
@pytest.mark.parametrize(("loss", "output"), ALL)
def test_the_prediction_is_the_first_of_the_largest_logits(
    loss: str, output: str, smoothing: float, dtype: Any
) -> None:
    Z = np.array([[[500.0, 501.0, 0.0], [7.0, 7.0, 0.0], [7.0, 7.0, 0.0], [-1e9, -1e8, -1e9]]], dtype)
    hits = measured(recipe_of(loss, output, smoothing), Z, [[1, 0, 1, 1]], smoothing)[1]
    assert hits.tolist() == [[True, True, False, True]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("loss", "output"), ALL)
def test_rows_beside_it_do_not_change_a_rows_prediction(loss: str, output: str, smoothing: float) -> None:
    nan, inf = np.nan, np.inf
    rows = [[3e38, -3e38, 0.0], [7.0, 7.0, 0.0], [nan, 1.0, 0.0], [nan] * 3, [inf, 1.0, -inf], [-inf] * 3]
    Z, labels = np.array([rows], np.float32), [0] * len(rows)
    recipe = recipe_of(loss, output, smoothing)
    with np.errstate(all="ignore"):
        together = measured(recipe, Z, [labels], smoothing)[:2]
        alone = [measured(recipe, Z[:, [b]], [[0]], smoothing)[:2] for b in range(len(rows))]
    for result, results in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(result, np.concatenate(results, axis=1))
    assert together[1][0, :2].all()


@pytest.mark.parametrize("loss", LOSSES)
def test_smoothed_targets_have_their_closed_form(loss: str) -> None:
    smoothing = np.array([0.0, 0.1, 0.6]).reshape(3, 1, 1)
    other, label = target_values(next(iter(LOSSES[loss].values())), smoothing, 5)
    answers = 2 if loss == "binary_cross_entropy" else 5
    np.testing.assert_allclose(other.ravel(), np.array([0.0, 0.1, 0.6]) / answers, rtol=1e-15)
    np.testing.assert_allclose(label.ravel(), 1 - np.array([0.0, 0.1, 0.6]) * (1 - 1 / answers), rtol=1e-15)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(("loss", "output"), ALL)
def test_predictions_have_the_recorded_loss_and_the_outputs(loss: str, output: str, smoothing: float) -> None:
    recipe, lane = recipe_of(loss, output, smoothing, epochs=2), lane_of(smoothing)
    arrays = images(1, 40, 30, 12, 5)
    stack, records = advance(recipe, start(recipe, [lane]), arrays, diagnostics=True)
    weights = Parameters(recipe.architecture, stack.theta).named(0)
    test = splits_of(recipe, arrays)["test"]
    predictions = predict(recipe, lane, parameters_from(recipe.architecture, weights), test)
    assert predictions.loss.mean() == pytest.approx(records[-1].metrics["test_loss"], rel=1e-14)
    assert (predictions.predicted == arrays.y_test).mean() == records[-1].metrics["test_accuracy"]
    A1 = np.tanh(np.asarray(arrays.x_test) / 255 @ weights["W1"] + weights["b1"])
    Z = A1 @ weights["W2"] + weights["b2"]
    softmax = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    expected = {"softmax": softmax, "sigmoid": 1 / (1 + np.exp(-Z)), "identity": Z}[output]
    rows = np.arange(30), Z.argmax(axis=1)
    np.testing.assert_allclose(predictions.output, expected[rows], rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(("loss", "output"), ALL)
def test_diagnostics_measure_the_gradient_of_the_same_loss(loss: str, output: str, smoothing: float) -> None:
    recipe, lane = recipe_of(loss, output, smoothing, epochs=2), lane_of(smoothing)
    arrays, rows = images(1, 40, 30, 12, 5), [0, 13, 26]
    stack, records = advance(recipe, start(recipe, [lane]), arrays, diagnostics=True)
    weights = Parameters(recipe.architecture, stack.theta).named(0)
    A1 = np.tanh(np.asarray(arrays.x_train[rows]) / 255 @ weights["W1"] + weights["b1"])
    Z = (A1 @ weights["W2"] + weights["b2"])[None]
    dZ = measured(recipe, Z, arrays.y_train[None, rows], smoothing)[3]
    assert records[-1].metrics["layer2/dz_std"] == pytest.approx(dZ.std(), rel=1e-12)


@pytest.mark.parametrize(("loss", "output"), ALL)
def test_a_label_that_is_no_class_of_the_network_is_refused_before_training(loss: str, output: str) -> None:
    recipe, arrays = recipe_of(loss, output), images(1, 40, 30, 12, 5)
    arrays.y_test[7] = 5
    with pytest.raises(
        ValueError, match="go up to 5, but the network has 5 classes, 0 to 4; write classes=6"
    ):
        advance(recipe, start(recipe, [lane_of()]), arrays)


def test_smoothed_lanes_share_a_stack_and_a_lane_without_smoothing_takes_the_code_of_before() -> None:
    plain, smoothed = recipe_of("cross_entropy", "softmax"), recipe_of("cross_entropy", "softmax", 0.1)
    assert loss_for(plain) is LOSSES["cross_entropy"]["softmax"]
    assert loss_for(smoothed) is loss_for(plain).smoothed
    arrays = images(1, 40, 30, 12, 5)
    lanes = [replace(lane_of(s), key=f"{s}") for s in (0.1, 0.2)]
    _, records = advance(smoothed, start(smoothed, lanes), arrays)
    last = {record.key: record.metrics["train_loss"] for record in records}
    assert last["0.1"] < last["0.2"]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(("loss", "output"), ALL)
def test_twenty_steps_equal_those_of_pytorch(loss: str, output: str, smoothing: float) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    recipe, arrays = recipe_of(loss, output, smoothing), images(1, 40, 30, 12, 5)
    begin = start(recipe, [lane_of(smoothing)])
    stack, records = advance(recipe, begin, arrays)
    named = Parameters(recipe.architecture, begin.theta).named(0)
    W1, b1, W2, b2 = parameters = [
        torch.tensor(named[name], requires_grad=True) for name in ("W1", "b1", "W2", "b2")
    ]
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    X, y = torch.tensor(np.asarray(arrays.x_train) / 255), torch.tensor(arrays.y_train.astype(np.int64))
    share = smoothing / (2 if loss == "binary_cross_entropy" else 5)
    T = (1 - smoothing) * functional.one_hot(y, 5).double() + share
    apply = {"softmax": lambda Z: torch.softmax(Z, 1), "sigmoid": torch.sigmoid, "identity": lambda Z: Z}
    value = {
        "cross_entropy": lambda Z: functional.cross_entropy(Z, y, label_smoothing=smoothing),
        "binary_cross_entropy": lambda Z: torch.nn.BCEWithLogitsLoss(reduction="none")(Z, T).sum(1).mean(),
        "mse": lambda Z: functional.mse_loss(apply[output](Z), T, reduction="none").sum(1).mean() / 2,
    }[loss]
    for record in records:
        optimizer.zero_grad()
        mean = value(torch.tanh(X @ W1 + b1) @ W2 + b2)
        mean.backward()
        optimizer.step()
        assert record.metrics["train_loss"] == pytest.approx(mean.item(), rel=1e-10)
    after = Parameters(recipe.architecture, stack.theta).named(0)
    for name, expected in zip(("W1", "b1", "W2", "b2"), parameters, strict=True):
        np.testing.assert_allclose(after[name], expected.detach().numpy(), rtol=0, atol=1e-10)
