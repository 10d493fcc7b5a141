"""A set has no order: what is told of trials depends on them alone, and not on the frame that holds them."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_comparisons import grid, report_of

import fnnexp
from fnnexp.reporting.document import markdown
from fnnexp.reporting.sections import leaderboard
from fnnexp.reporting.sections.by_factor import architecture as by_architecture
from fnnexp.results import averages, comparisons, filters, frames, statistics

MINE = {"seven": 7, "gap": "wide", "Unnamed: 0": 0, "loss": 0.5, 3: "three"}
"""Columns that a user adds, or an index leaves: they say nothing of a trial."""


def shuffled(frame, rng):
    """Return the same rows in another order, under any index, with more columns in another order."""
    mine = {name: rng.permutation(len(frame)) for name in MINE}
    frame = pd.concat([frame, pd.DataFrame(mine, frame.index)], axis=1)
    frame = frame.sample(frac=1, random_state=rng.integers(1 << 31))
    return frame[rng.permutation(frame.columns.to_numpy(object))].set_axis(
        pd.Index(rng.integers(0, 5, len(frame)), name="trial"), axis=0
    )


def curves_of(runs):
    """Return curves of two metrics by which no two trials agree."""
    points = pd.DataFrame({"epoch": [1, 2], "factor": [0.9, 1.0]})
    both = [
        runs[["trial"]].merge(points, how="cross").assign(metric=f"val_{quantity}")
        for quantity in ("accuracy", "loss")
    ]
    curves = pd.concat(both, ignore_index=True)
    values = runs.set_index("trial")["val_accuracy"]
    return curves.assign(value=curves["factor"] * values[curves["trial"]].to_numpy()).drop(columns="factor")


def said(runs, curves):
    """Return all that is told of a frame, but for the report."""
    told = {"answer": str(fnnexp.answer(runs)), "configurations": comparisons.configurations(runs)}
    told |= {each: getattr(fnnexp, each)(runs) for each in ("leaderboard", "compare", "shares")}
    told |= {f"compare {each}": fnnexp.compare(runs, each) for each in ("arch", "init", "batching")}
    told["cells"], told["table"] = comparisons.in_each_cell(runs), by_architecture.table(runs)
    told["ends"] = averages.of_ends(runs, "val_accuracy")
    drawn = fnnexp.plot_curves(runs, curves).axes
    told["drawn"] = [(line.get_label(), line.get_xydata().tolist()) for ax in drawn for line in ax.lines]
    return told


def agree(told, expected):
    assert told.keys() == expected.keys()
    for name, one in expected.items():
        if isinstance(one, pd.DataFrame):
            pd.testing.assert_frame_equal(told[name], one, check_exact=True, obj=name)
        elif name == "configurations":
            for mine, its in zip(told[name], one, strict=True):
                assert (mine.levels, mine.name, mine.tried) == (its.levels, its.name, its.tried)
                pd.testing.assert_series_equal(mine.metric, its.metric, check_exact=True)
        else:
            assert told[name] == one


def troubled(seeds):
    """Return a grid in which a trial has failed and one has diverged."""
    runs = grid(seeds, noise=0.01)
    for name, status in (("relu_100-he-full-s1", "failed"), ("tanh_128-he-mini-s2", "diverged")):
        runs.loc[runs["name"] == name, ["status", "val_accuracy"]] = [status, math.nan]
    return runs.assign(command=["fnnexp -cn one", "fnnexp -cn two"] * (len(runs) // 2))


RUNS = troubled(7)
CURVES = curves_of(RUNS)
EXPECTED = said(RUNS, CURVES)


@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(st.integers(0, 1 << 31))
def test_nothing_depends_on_the_order_of_rows_or_columns_or_on_the_index_or_columns_of_ones_own(seed):
    rng = np.random.default_rng(seed)
    agree(said(shuffled(RUNS, rng), shuffled(CURVES, rng)), EXPECTED)


def test_the_report_of_the_same_trials_is_the_same_to_the_letter(monkeypatch):
    expected = markdown.render(report_of("a", RUNS, CURVES, monkeypatch))
    assert "fnnexp -cn one" in expected
    assert "relu_100-he-full-s1 | failed" in expected
    for seed in range(2):
        rng = np.random.default_rng(seed)
        runs, curves = (shuffled(frame, rng).reset_index(drop=True) for frame in (RUNS, CURVES))
        document = report_of("a", runs, curves, monkeypatch)
        assert markdown.render(document) == expected


def test_the_interval_of_seven_trials_is_of_their_values_in_order_of_their_seeds():
    runs = grid(7, noise=0.01)
    alone = runs[runs["name"].str.startswith("tanh_128-he-mini")]
    values = alone.sort_values("seed")["val_accuracy"]
    expected = statistics.mean_interval(values, within=statistics.ACCURACY)
    for seed in range(20):
        (row,) = fnnexp.leaderboard(alone.sample(frac=1, random_state=seed)).to_dict("records")
        assert (row["low"], row["high"], row["interval"]) == expected
        assert row["val_accuracy"] == statistics.mean(values)


def test_beyond_sixteen_seeds_the_test_draws_the_same_for_any_order():
    runs = grid(18, noise=0.05)
    pair = runs[runs["name"].str.contains("tanh_128-(?:he|sqrtmax)-mini")]
    (expected,) = fnnexp.compare(pair, "init").to_dict("records")
    assert 0 < expected["p"] < 1
    for seed in range(10):
        assert fnnexp.compare(pair.sample(frac=1, random_state=seed), "init").to_dict("records") == [expected]


def test_what_is_told_of_a_configuration_does_not_depend_on_what_else_is_in_the_frame():
    runs = grid(8, noise=0.01)
    some = runs[(runs["arch"] == "tanh_128") & (runs["batching"] == "mini")]
    few, all_ = fnnexp.leaderboard(some).set_index("init"), fnnexp.leaderboard(runs)
    mine = all_[(all_["arch"] == "tanh_128") & (all_["batching"] == "mini")].set_index("init")
    columns = ["seeds", "val_accuracy", "val_accuracy_sd", "low", "high", "interval"]
    pd.testing.assert_frame_equal(
        mine.loc[few.index, columns], few[columns], check_exact=True, check_index_type=False
    )
    pair, among = fnnexp.compare(some).iloc[0], fnnexp.compare(runs)
    (same,) = among[among["b"] == "tanh_128 sqrtmax = xavier mini"].to_dict("records")
    for column in ("seeds", "difference", "low", "high", "interval", "ahead", "probability", "p"):
        assert same[column] == pair[column]


def test_of_a_trial_that_is_there_twice_with_other_results_the_same_counts_in_any_order():
    first = grid(3).assign(started=pd.Timestamp("2024-01-01", tz="UTC"))
    second = first.assign(val_accuracy=first["val_accuracy"] - 0.1)  # another machine's, at the same moment
    told = fnnexp.leaderboard(pd.concat([first, second]))
    assert told["seeds"].tolist() == [3] * 12
    pd.testing.assert_frame_equal(fnnexp.leaderboard(pd.concat([second, first])), told, check_exact=True)


def test_a_column_of_ones_own_may_have_any_name():
    runs = grid(2)
    names = ("done", "row", "text", "value", "metric", "time", "cell", "option", "index", "level_0")
    more = runs.assign(**dict.fromkeys(names, range(len(runs))))
    pd.testing.assert_frame_equal(fnnexp.leaderboard(more), fnnexp.leaderboard(runs))
    assert fnnexp.answer(more) == fnnexp.answer(runs)
    assert {*names} <= {*filters.once(more).columns}


@pytest.mark.parametrize(
    ("group", "texts", "expected"),
    [
        ("init", ["mine", "he", "mine_10", "max", "mine_9"], ["max", "he", "mine", "mine_9", "mine_10"]),
        (
            "arch",
            ["tanh_9", "relu_98", "tanh_128", "relu_100"],
            ["relu_100", "tanh_128", "relu_98", "tanh_9"],
        ),
        ("optimizer", ["sgd", "adam"], ["adam", "sgd"]),
    ],
)
def test_options_stand_in_the_order_of_the_documentation_and_others_by_name(group, texts, expected):
    for order in (texts, texts[::-1], [*texts, texts[0]]):
        assert frames.as_options(pd.Series(order), group).cat.categories.to_list() == expected


def test_a_seed_is_no_factor_and_every_key_of_a_config_is_one():
    runs = grid(2)
    assert frames.params_of(runs) == [
        "arch", "init", "batching", "optimizer", "data", "data.validation", "epochs",
    ]  # fmt: skip
    more = runs.assign(dtype=["float32", "float64"] * (len(runs) // 2), **{"optimizer.momentum": 0.9})
    assert {"dtype", "optimizer.momentum"} <= {*frames.params_of(more)}
    assert len(leaderboard.leaderboard(more)) == len(leaderboard.leaderboard(runs)) * 2
