"""Early stopping, compared with a plain rule applied to the curve of the same lane trained to the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fnnexp.data.datasets import Arrays
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.stopping import METRICS, Stopping
from fnnexp.nn.training import Lane, Recipe, Record, advance, start

pytestmark = pytest.mark.usefixtures("one_blas_thread")

EPOCHS = 12
RECIPE = Recipe(
    Architecture(9, (8,), 3, "tanh"), Batching("mini", 8, shuffle=True), "momentum", EPOCHS, validation=16
)
RATES = (0.01, 0.1, 0.5, 2.0, 1e30)
LANES = [Lane(f"{k}", k, (1.0, 1.0), (("lr", lr), ("momentum", 0.5))) for k, lr in enumerate(RATES)]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """Return images whose labels are partly noise, so that the validation loss soon rises again."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (80, 9)).astype(np.uint8)
    y = np.where(rng.random(80) < 0.3, rng.integers(0, 3, 80), X[:, 0] // 86).astype(np.uint8)
    return Arrays(X[:64], y[:64], X[64:], y[64:])


@pytest.fixture(scope="module")
def whole(arrays: Arrays) -> dict[str, list[Record]]:
    """Return the curves of the lanes, each trained alone and to the end."""
    return {lane.key: advance(RECIPE, start(RECIPE, [lane]), arrays)[1] for lane in LANES}


def by_hand(values: list[float], patience: int, min_delta: float, sign: int) -> tuple[int, int]:
    """Return the best and the last epoch, where more is better if the sign is 1 and less if it is −1."""
    best = 0
    for i in range(1, len(values)):
        if sign * (values[i] - values[best]) > min_delta:
            best = i
        if i - best == patience:
            return best + 1, i + 1
    return best + 1, len(values)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("patience", "min_delta"), [(1, 0.0), (2, 0.0), (3, 0.03125), (EPOCHS, 0.0)])
def test_a_lane_stops_where_the_plain_rule_says_and_keeps_the_weights_of_its_best_epoch(
    metric: str, patience: int, min_delta: float, whole: dict[str, list[Record]], arrays: Arrays
) -> None:
    recipe = replace(RECIPE, stopping=Stopping(patience, min_delta, metric))
    stack, records = advance(recipe, start(recipe, LANES), arrays)
    ends = {lane.key: stack.end(k) for k, lane in enumerate(stack.lanes)}
    ends |= {record.key: record.end for record in records if record.end is not None}
    for lane in LANES:
        curve = [record for record in records if record.key == lane.key]
        uncut, end = whole[lane.key], ends[lane.key]
        assert [record.metrics for record in curve[:-1]] == [r.metrics for r in uncut[: len(curve) - 1]]
        if uncut[-1].diverged:
            assert (end.how, end.epoch, end.best_epoch) == ("diverged", uncut[-1].epoch, None)
            continue
        values = [record.metrics[metric] for record in uncut]
        best, last = by_hand(values, patience, min_delta, 1 if "accuracy" in metric else -1)
        assert (end.best_epoch, end.epoch, curve[-1].epoch) == (best, last, last)
        assert end.how == ("stopped" if last < EPOCHS else "complete")
        assert curve[-1].metrics == uncut[last - 1].metrics
        for epochs, theta in ((best, end.best_theta), (last, end.theta)):
            shorter = replace(RECIPE, epochs=epochs)
            trained, _ = advance(shorter, start(shorter, [lane]), arrays)
            assert theta is not None
            assert theta.tobytes() == trained.theta[0].tobytes()


def test_the_lanes_of_the_tests_stop_at_different_epochs_and_not_at_all(
    whole: dict[str, list[Record]],
) -> None:
    curves = [[r.metrics["val_loss"] for r in curve] for curve in whole.values() if not curve[-1].diverged]
    assert len({by_hand(curve, 2, 0.0, -1) for curve in curves}) >= 3
    assert {by_hand(curve, 2, 0.0, -1)[1] == EPOCHS for curve in curves} == {True, False}


def test_a_lane_that_diverges_keeps_the_weights_of_its_best_epoch(arrays: Arrays) -> None:
    recipe = replace(
        RECIPE,
        architecture=replace(RECIPE.architecture, activation="relu"),
        stopping=Stopping(99, 0.0, "train_loss"),
    )
    lane = Lane("0", 0, (1.0, 1.0), (("lr", 0.1), ("momentum", 20.0)))
    _, records = advance(recipe, start(recipe, [lane]), arrays)
    end = records[-1].end
    assert end is not None
    assert end.how == "diverged"
    assert end.best_epoch is not None
    assert end.best_theta is not None
    assert np.isfinite(end.best_theta).all()
