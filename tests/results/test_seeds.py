"""Test the spread over each seed, and the note on seeds that pair less."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

import fnnexp
from fnnexp.reporting.sections.pairs import weaker_pairs
from fnnexp.results import numeric, seeds
from fnnexp.results.factors import factors_of
from fnnexp.results.ranking import ranking_of

ACCURACIES = ("train_accuracy", "val_accuracy", "test_accuracy")


def runs_of(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return a frame of finished trials, from their params and accuracies."""
    common = {"arch": "relu_9", "batching": "mini", "status": "finished", "identical_to": None, "seed": 0}
    frame = pd.DataFrame([
        {**common, "init": "he", "trial": f"{i}", "name": f"{i}", "run_id": f"{i}", **row}
        for i, row in enumerate(rows)
    ])  # fmt: skip
    options = {name: frame[name].astype("category") for name in ("arch", "init", "batching")}
    accuracies = dict.fromkeys(("train_accuracy", "val_accuracy"), frame["test_accuracy"])
    losses = dict.fromkeys(("train_loss", "val_loss", "test_loss", "seconds_per_epoch"), 1.0)
    return frame.assign(**options, **accuracies, **losses)


@pytest.fixture
def grid() -> pd.DataFrame:
    """Return 4 × 3 trials whose accuracy depends on the two seeds."""
    accuracy = np.random.default_rng(0).uniform(0.8, 0.9, (4, 3))
    return runs_of([
        {"seed_init": i, "seed_order": j, "test_accuracy": accuracy[i, j]}
        for i, j in product(range(4), range(3))
    ])  # fmt: skip


def test_the_spread_over_a_seed_is_that_of_trials_that_agree_in_everything_else(grid: pd.DataFrame) -> None:
    accuracy = grid["test_accuracy"].to_numpy().reshape(4, 3)
    spread = seeds.spread(grid, ranking_of(grid)).set_index("seed")
    assert list(spread.index) == ["seed_init", "seed_order"]
    assert list(spread["values"]) == [4, 3]
    assert spread["deviation"].to_numpy() == pytest.approx(
        [accuracy.var(axis=0, ddof=1).mean() ** 0.5, accuracy.var(axis=1, ddof=1).mean() ** 0.5]
    )


def test_the_spread_is_pooled_over_what_finished(grid: pd.DataFrame) -> None:
    part = grid.drop(index=[0, 5, 7]).assign(init="he")
    squares = degrees = 0.0
    for _, column in part.groupby("seed_order"):
        squares += ((column["test_accuracy"] - column["test_accuracy"].mean()) ** 2).sum()
        degrees += len(column) - 1
    spread = seeds.spread(part, ranking_of(part)).set_index("seed")["deviation"]
    assert spread["seed_init"] == pytest.approx((squares / degrees) ** 0.5)


def test_there_is_no_spread_where_only_the_seed_itself_varies(grid: pd.DataFrame) -> None:
    replicates = grid.drop(columns=["seed_init", "seed_order"]).assign(seed=range(12))
    assert seeds.spread(replicates, ranking_of(replicates)).empty


def test_seeds_are_factors_that_have_no_best_value(grid: pd.DataFrame) -> None:
    assert factors_of(grid) == ["seed_init", "seed_order"]
    assert numeric.axes_of(grid) == []
    answer = str(fnnexp.answer(grid))
    assert answer.startswith("The standard deviation of val_accuracy is ")
    assert "over seed_init (4 values) and " in answer
    assert "lead" not in answer
    assert "best" not in answer


@pytest.mark.parametrize(
    ("methods", "shuffled", "fragments"),
    [
        (("he", "xavier", "truncated_normal"), True, []),
        (("he", "he_uniform"), True, ["2 kinds (normal and uniform)", "pairs only the order of rows"]),
        (("orthogonal", "zeros", "mine"), False, ["(orthogonal and constant)", "a seed pairs nothing"]),
    ],
)
def test_the_report_says_where_seeds_pair_less(
    methods: tuple[str, ...], shuffled: bool, fragments: list[str]
) -> None:
    runs = runs_of([
        {"init": name, "init.method": name, "batching.shuffle": shuffled, "test_accuracy": 0.9 - 0.01 * i}
        for i, name in enumerate(methods)
    ])  # fmt: skip
    (note,) = weaker_pairs(runs) or [""]
    assert [text for text in fragments if text not in note] == []
    assert bool(note) == bool(fragments)
    assert note in str(fnnexp.answer(runs))


def test_initializers_are_compared_over_seeds_set_apart_which_have_no_best_value(grid: pd.DataFrame) -> None:
    gain = np.random.default_rng(1).uniform(0.05, 0.06, 12)
    better = grid.assign(init="max", trial=grid["trial"] + "b")
    better = better.assign(**{name: grid[name] + gain for name in ACCURACIES})
    both = pd.concat([grid.assign(init="he"), better], ignore_index=True)
    both["init"] = both["init"].astype("category")
    (row,) = fnnexp.compare(both).to_dict("records")
    assert (row["a"], row["b"], row["seeds"], row["ahead"]) == ("max", "he", 4, 4)
    assert row["difference"] == pytest.approx(gain.mean())
    answer = str(fnnexp.answer(both))
    assert "max is the best of 2 initializers" in answer
    assert "over seed_init (4 values) and " in answer
    assert "seed_order=" not in answer
    board = fnnexp.leaderboard(both)
    means = grid["val_accuracy"].to_numpy().reshape(4, 3).mean(axis=1)
    assert list(board["init"]) == ["max", "he"]
    assert board["val_accuracy"].tolist() == pytest.approx([means.mean() + gain.mean(), means.mean()])
    assert board["val_accuracy_sd"].iloc[1] == pytest.approx(means.std(ddof=1))


def test_a_mean_over_seeds_is_finished_if_all_its_trials_are(grid: pd.DataFrame) -> None:
    status = ["finished"] * 23 + ["diverged"]
    both = pd.concat([grid, grid.assign(init="max")], ignore_index=True).assign(status=status)
    merged = seeds.averaged(both)
    assert merged["status"].tolist().count("finished") == 7
    assert list(merged.loc[merged["status"] == "diverged", ["init", "seed"]].iloc[0]) == ["max", 3]
    assert seeds.averaged(merged) is merged
    assert seeds.averaged(grid) is grid
