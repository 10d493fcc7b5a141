"""Test added metrics: they are means over the rows of a split, and change no other result."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_law_stacking import Arrays, alone, images, outcomes, stacks, train_in_segments

from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces import metrics
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.metrics import METRICS
from fnnexp.nn.testing import reference
from fnnexp.nn.training import Lane, Recipe, advance, start

pytestmark = pytest.mark.usefixtures("one_blas_thread")


def label_metric(P: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return values that depend on the probabilities and on the label of each row."""
    return P[np.arange(len(labels)), labels] * (1 + labels) + P.max(axis=1)


MODES = {
    "full": Batching("full"),
    "mini": Batching("mini", 600, shuffle=True),
    "sample": Batching("sample", None, shuffle=True),
}


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("hidden", [(9,), ()])
def test_a_metric_is_the_mean_over_the_rows_of_each_split(
    hidden: tuple[int, ...], engine: str, mode: str, optimizer: str
) -> None:
    """With a learning rate of 0 the network is the same for all rows. They fill several chunks and blocks."""
    arrays = images(1, 1300, 530, 30, 4)
    recipe = Recipe(
        Architecture(30, hidden, 4, "tanh"), MODES[mode], optimizer, 1, validation=20, dtype="float64"
    )
    hyper = (("lr", 0.0), ("momentum", 0.9))[: 1 + (optimizer == "momentum")]
    lanes = [Lane(f"{k}", k % 2, (0.5,) * (1 + len(hidden)), hyper) for k in range(3)]
    with mock.patch.dict(METRICS, {"added": label_metric}):
        stack, records = advance(recipe, start(recipe, lanes), arrays, engine=engine)
    X, y = np.asarray(arrays.x_train) / 255, arrays.y_train
    splits = {"train": (X[:-20], y[:-20]), "val": (X[-20:], y[-20:])}
    splits["test"] = np.asarray(arrays.x_test) / 255, arrays.y_test
    parameters = Parameters(recipe.architecture, stack.theta)
    for k, record in enumerate(records):
        network = reference.Network(
            [W[k] for W in parameters.W], [None if b is None else b[k, 0] for b in parameters.b], "tanh"
        )
        for split, (rows, labels) in splits.items():
            expected = label_metric(network.forward(rows), labels).mean()
            assert record.metrics[f"{split}_added"] == pytest.approx(expected, rel=1e-12)
        assert list(record.metrics) == [
            f"{split}_{name}" for split in splits for name in ("loss", "accuracy", "added")
        ]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(stacks(), st.sampled_from(sorted(ENGINES)), st.data())
def test_an_added_metric_is_bitwise_the_same_in_any_stack_and_changes_no_other_result(
    case: tuple[Recipe, list[Lane], Arrays], engine: str, random: st.DataObject
) -> None:
    recipe, lanes, arrays = case
    plain, done = train_in_segments(random.draw, recipe, lanes, arrays, engine=engine)
    without = outcomes(plain, done)
    with mock.patch.dict(METRICS, {"added": label_metric}):
        expected = alone(recipe, lanes, arrays, engine)
        records, done = train_in_segments(random.draw, recipe, lanes, arrays, engine=engine)
    assert outcomes(records, done) == expected
    for record in records:
        for split in metrics.splits():
            record.metrics.pop(f"{split}_added", None)
    assert outcomes(records, done) == without


def test_a_mean_that_is_not_finite_is_omitted_and_the_lane_continues() -> None:
    def undefined(P: np.ndarray, labels: np.ndarray) -> Any:
        return np.log(labels * 0.0)

    arrays = images(1, 60, 20, 12, 4)
    recipe = Recipe(Architecture(12, (5,), 4, "relu"), MODES["mini"], "sgd", 2)
    stack = start(recipe, [Lane("a", 0, (0.3, 0.3), (("lr", 0.1),))])
    with mock.patch.dict(METRICS, {"undefined": undefined}):
        stack, records = advance(recipe, stack, arrays)
    assert [lane.key for lane in stack.lanes] == ["a"]
    assert [list(record.metrics) for record in records] == [metrics.required_names(validation=False)] * 2
    assert all(math.isfinite(value) for record in records for value in record.metrics.values())


def test_a_metric_that_returns_a_scalar_is_refused() -> None:
    with mock.patch.dict(METRICS, {"top": lambda P, labels: P.max()}):
        totals = metrics.Totals(1)
        with pytest.raises(ValueError, match=r"'top' returned an array of shape \(\) for 3 rows"):
            totals.add_extra(slice(0, 1), np.ones((1, 3, 2)) / 2, np.zeros(3, np.uint8))


def test_names_include_added_metrics_but_required_names_do_not() -> None:
    plain = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    assert metrics.names(validation=False) == metrics.required_names(validation=False) == plain
    with mock.patch.dict(METRICS, {"top_2": label_metric}):
        assert metrics.names(validation=False) == [*plain[:2], "train_top_2", *plain[2:], "test_top_2"]
        assert metrics.required_names(validation=False) == plain
