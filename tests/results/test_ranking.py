"""What ranks, and what is refused; the time to a level, computed by hand."""

import doctest
import math

import numpy as np
import pandas as pd
import pytest
from test_comparisons import grid

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.results import ranking
from fnnexp.results.ranking import Ranking


def test_validation_accuracy_ranks_where_all_held_rows_out_and_else_test_accuracy():
    runs = grid(2)
    assert ranking.of(runs) == Ranking("val_accuracy", 0.2)
    assert ranking.of(runs.assign(val_accuracy=np.nan)) == Ranking("test_accuracy", 0.2)


@pytest.mark.parametrize("metric", ranking.NAMES)
def test_any_loss_or_accuracy_ranks_and_a_margin_is_given_with_a_loss(metric):
    runs = grid(2).assign(best_val_accuracy=0.75)
    found = ranking.of(runs, metric)
    more_is_better = metric.endswith("accuracy")
    assert found == Ranking(metric, 0.2 if more_is_better else None)
    assert (found.scale, found.unit) == ((100, "points") if more_is_better else (1, ""))
    better, worse = (0.75, 0.25) if more_is_better else (0.25, 0.75)
    values = found.goodness(pd.Series([better, worse]))
    assert values[0] > values[1]
    assert ranking.of(runs, metric, 0.5).limit == (0.005 if more_is_better else 0.5)
    assert math.isnan(found.limit) == (not more_is_better)


WRONG = {
    "val_los": r"metric='val_los' ranks nothing; it can be val_accuracy, val_loss, .* or seconds_to_0\.95\. "
    "Did you mean 'val_loss'",
    "seconds_to_95": "metric='seconds_to_95' ranks nothing",
    "arch": "metric='arch' ranks nothing",
    "seconds_to_.9": r"these runs have no such column; write fnnexp\.seconds_to\(runs, curves, 0\.9\)",
    "best_val_accuracy": "these runs have no such column$",
    "val_loss": "none of the 24 finished trials has it; they have val_accuracy, test_accuracy, test_loss, tr",
}


@pytest.mark.parametrize("metric", WRONG)
def test_what_can_not_rank_is_refused_with_what_can(metric):
    runs = grid(2).assign(val_loss=np.nan)
    with pytest.raises(FnnexpError, match=WRONG[metric]):
        ranking.of(runs, metric)


@pytest.mark.parametrize("margin", [0, -1, math.nan])
def test_a_margin_is_above_0(margin):
    with pytest.raises(FnnexpError, match=r"write percentage points above 0: margin=0\.2"):
        ranking.of(grid(2), margin=margin)
    with pytest.raises(FnnexpError, match=r"write a number above 0$"):
        ranking.of(grid(2), "test_loss", margin)


def curves_of(runs, values, metric="val_accuracy"):
    """Return curves in which each trial has these values at the epochs 1, 2, …."""
    points = pd.DataFrame({"epoch": range(1, len(values) + 1), "value": values})
    return runs[["trial"]].merge(points, how="cross").assign(metric=metric)


def test_the_time_to_a_level_is_that_of_the_first_epoch_that_ends_at_it_or_above():
    runs = grid(2)
    first, rest = runs[:1], runs[1:]
    curves = pd.concat([curves_of(first, [0.5, 0.875, 0.75, 0.875]), curves_of(rest, [0.5, 0.25])])
    timed = fnnexp.seconds_to(runs, curves, 0.875)
    assert timed["seconds_to_0.875"].iloc[0] == 2 * runs["seconds_per_epoch"].iloc[0]
    assert timed["seconds_to_0.875"].iloc[1:].isna().all()
    assert fnnexp.seconds_to(runs, curves, 0.5)["seconds_to_0.5"].tolist() == list(runs["seconds_per_epoch"])
    found = ranking.of(timed, "seconds_to_0.8750")
    assert (found, found.unit) == (Ranking("seconds_to_0.875"), "s")
    assert ranking.without_value(timed, found).startswith("23 of 24 finished trials never reached it")
    assert ranking.without_value(runs, ranking.of(runs)) == ""
    assert list(timed.columns) == [*runs.columns, "seconds_to_0.875"]
    # Where not all held rows out it is test accuracy.
    untested = runs.assign(val_accuracy=np.nan)
    curves = pd.concat([curves, curves_of(runs, [0.1, 0.2, 0.9], "test_accuracy")])
    found = fnnexp.seconds_to(untested, curves, 0.875)["seconds_to_0.875"]
    assert found.tolist() == pytest.approx((3 * runs["seconds_per_epoch"]).tolist())


@pytest.mark.parametrize(
    ("level", "written"), [(95, r"0\.95"), (0, r"0\.95"), (-1, r"0\.95"), (97.5, r"0\.975")]
)
def test_a_level_is_a_share(level, written):
    runs = grid(2)
    with pytest.raises(FnnexpError, match=f"is no accuracy, which is a share from 0 to 1; write {written}$"):
        fnnexp.seconds_to(runs, curves_of(runs, [0.5]), level)


def test_the_examples_run():
    assert doctest.testmod(ranking).failed == 0
