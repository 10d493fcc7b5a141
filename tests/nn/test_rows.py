"""Test which rows train, their labels and the scaling of inputs, against formulas and scikit-learn.

The draws are made here from the documented addresses.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from test_law_stacking import outcomes, real_valued

from fnnexp.data.datasets import Arrays
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.rows import noisy, numbers, scaling, splits_of
from fnnexp.nn.training import Lane, Recipe, advance, start

SPLIT, SUBSET, LABELS = 7, 8, 9

RECIPE = Recipe(Architecture(6, (5,), 3, "tanh"), Batching("mini", 16, True), "sgd", 3, validation=10)


def generator(seed: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, purpose, 0))))


def pixels(n: int = 90) -> Arrays:
    """Return inputs of which the first is 0 in every training row and the second is 255."""
    rng = np.random.default_rng(1)
    x_train, x_test = (rng.integers(0, 256, (rows, 6), np.uint8) for rows in (n, 20))
    x_train[:, :2] = 0, 255
    return Arrays(x_train, rng.integers(0, 3, n, np.uint8), x_test, rng.integers(0, 3, 20, np.uint8))


# --- scaling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("scale", ["center", "standardize"])
def test_inputs_are_scaled_as_scikit_learn_does(scale: str, real: bool, dtype: str) -> None:
    arrays = real_valued(pixels()) if real else pixels()
    recipe = replace(RECIPE, scale=scale, dtype=dtype, seed_split=4, subset=40)
    rows = splits_of(recipe, arrays)
    divisor = np.float64(1 if real else 255)
    scaler = StandardScaler(with_std=scale == "standardize").fit(rows["train"].images / divisor)
    for split in rows.values():
        expected = scaler.transform(split.images / divisor)
        given = split.scaling.scaled(split.images, np.empty(split.images.shape, dtype))
        assert given == pytest.approx(expected, rel=4 * float(np.finfo(dtype).eps), abs=1e-14)
    assert not rows["train"].scaling.scaled(rows["train"].images, np.empty((40, 6)))[:, :2].any()


def test_statistics_are_exact_where_inputs_are_far_from_zero() -> None:
    """In float32, the sum of these inputs would lose the deviation of 1, and so would their squares."""
    X = np.float32(2**22 + np.arange(1000) % 3)[:, None]
    scaled = scaling("standardize", X).scaled(X, np.empty((1000, 1), np.float32))
    assert scaled[:3, 0] == pytest.approx((np.arange(3) - 0.999) / np.std(np.arange(1000) % 3), rel=1e-6)


def test_unit_is_refused_for_real_numbers() -> None:
    with pytest.raises(ValueError, match="these are float32; write scale=raw or scale=standardize"):
        scaling("unit", np.zeros((2, 2), np.float32))


# --- which rows ---------------------------------------------------------------------------------------------


def chosen(n: int, **changes: Any) -> tuple[list[int], list[int]]:
    train, held_out = numbers(replace(RECIPE, **changes), n)
    return np.arange(n)[train].tolist(), np.arange(n)[held_out].tolist()


def test_without_a_seed_the_last_rows_are_held_out_and_no_row_is_copied() -> None:
    assert chosen(90) == (list(range(80)), list(range(80, 90)))
    arrays = pixels()
    rows = splits_of(RECIPE, arrays)
    assert all(np.shares_memory(rows[name].images, arrays.x_train) for name in ("train", "val"))
    assert list(splits_of(replace(RECIPE, validation=0), arrays)) == ["train", "test"]


@pytest.mark.parametrize("seed", [0, 5])
def test_with_a_seed_the_last_rows_of_its_order_are_held_out(seed: int) -> None:
    order = generator(seed, SPLIT).permutation(90)
    assert chosen(90, seed_split=seed) == (sorted(order[:80]), sorted(order[80:]))


@pytest.mark.parametrize("seed", [None, 0, 5])
def test_subsets_are_nested_and_keep_the_held_out_rows(seed: int | None) -> None:
    all_rows, held_out = chosen(90, seed_split=seed)
    order = generator(seed or 0, SUBSET).permutation(80)
    subsets = [chosen(90, seed_split=seed, subset=size) for size in (1, 20, 21, 80)]
    for (train, held), size in zip(subsets, (1, 20, 21, 80), strict=True):
        assert held == held_out
        assert train == sorted(np.array(all_rows)[order[:size]])
    for (smaller, _), (larger, _) in pairwise(subsets):
        assert set(smaller) < set(larger)
    assert subsets[-1][0] == all_rows


# --- noisy labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 5])
def test_labels_are_replaced_by_other_classes_with_the_given_probability(seed: int | None) -> None:
    labels = np.random.default_rng(2).integers(0, 3, 20_000, np.uint8)
    draws = generator(seed or 0, LABELS).random(len(labels))
    before, given = np.zeros(len(labels), bool), labels
    for noise in (0.0, 0.1, 0.4, 0.99):
        less_noisy, given = given, noisy(replace(RECIPE, label_noise=noise, seed_split=seed), labels)
        wrong = given != labels
        assert (wrong == (draws < noise)).all()
        assert (given[before] == less_noisy[before]).all()
        before = wrong
    shares = [np.mean(given[wrong & (labels == label)] == (label + 1) % 3) for label in range(3)]
    assert shares == pytest.approx([0.5] * 3, abs=4 * 0.5 / (len(labels) / 3) ** 0.5)


def test_noise_does_not_depend_on_the_subset_and_spares_held_out_and_test_rows() -> None:
    arrays, recipe = pixels(), replace(RECIPE, label_noise=0.6, seed_split=3)
    labels = noisy(recipe, arrays.y_train)
    for subset in (None, 30):
        train, held_out = chosen(90, seed_split=3, subset=subset)
        rows = splits_of(replace(recipe, subset=subset), arrays)
        assert (rows["train"].labels == labels[train]).all()
        assert (rows["val"].labels == arrays.y_train[held_out]).all()
        assert rows["test"].labels is arrays.y_test


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scale", ["unit", "standardize"])
@pytest.mark.parametrize("mode", [Batching("mini", 16, True), Batching("sample")])
def test_training_equals_training_on_the_chosen_rows_written_out(
    mode: Batching, scale: str, engine: str
) -> None:
    arrays, lanes = pixels(), [Lane("a", 1, (0.3, 0.3), (("lr", 0.1),))]
    plain = replace(RECIPE, batching=mode, scale=scale)
    recipe = replace(plain, seed_split=3, subset=50, label_noise=0.3)
    train, held_out = chosen(90, seed_split=3, subset=50)
    written = Arrays(
        arrays.x_train[train + held_out],
        np.concatenate([noisy(recipe, arrays.y_train)[train], arrays.y_train[held_out]]),
        arrays.x_test,
        arrays.y_test,
    )
    results = []
    for each, data in ((recipe, arrays), (plain, written)):
        stack, records = advance(each, start(each, lanes), data, diagnostics="full", engine=engine)
        results.append(outcomes(records, [stack]))
    assert results[0] == results[1]
    assert recipe.rows_to_train(90) == 50
