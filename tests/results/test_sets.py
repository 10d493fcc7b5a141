"""A set has no order: results depend on the trials alone, not on the frame that contains them."""

import gc
import math
import weakref

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_comparisons import grid, report_of

import fnnexp
from fnnexp.reporting import averages
from fnnexp.reporting.document import markdown
from fnnexp.reporting.sections import leaderboard
from fnnexp.reporting.sections.by_factor import architecture as by_architecture
from fnnexp.results import comparisons, filters, frames, statistics

OWN_COLUMNS = {"seven": 7, "gap": "wide", "Unnamed: 0": 0, "cost": 0.5, 3: "three"}
"""Columns that a user added, or that a saved index left: they do not describe trials."""


def shuffled(frame, rng):
    """Return the same rows in random order, with any index and more columns, also in random order."""
    own_columns = {name: rng.permutation(len(frame)) for name in OWN_COLUMNS}
    frame = pd.concat([frame, pd.DataFrame(own_columns, frame.index)], axis=1)
    frame = frame.sample(frac=1, random_state=rng.integers(1 << 31))
    return frame[rng.permutation(frame.columns.to_numpy(object))].set_axis(
        pd.Index(rng.integers(0, 5, len(frame)), name="trial"), axis=0
    )


def curves_of(runs):
    """Return curves of two metrics; no two trials have the same values."""
    points = pd.DataFrame({"epoch": [1, 2], "factor": [0.9, 1.0]})
    both = [
        runs[["trial"]].merge(points, how="cross").assign(metric=f"val_{quantity}")
        for quantity in ("accuracy", "loss")
    ]
    curves = pd.concat(both, ignore_index=True)
    values = runs.set_index("trial")["val_accuracy"]
    return curves.assign(value=curves["factor"] * values[curves["trial"]].to_numpy()).drop(columns="factor")


def all_results(runs, curves):
    """Return everything that fnnexp computes or draws from a frame, except the report."""
    results = {"answer": str(fnnexp.answer(runs)), "configurations": comparisons.configurations(runs)}
    results |= {name: getattr(fnnexp, name)(runs) for name in ("leaderboard", "compare", "shares")}
    results |= {f"compare {factor}": fnnexp.compare(runs, factor) for factor in ("arch", "init", "batching")}
    results["cells"], results["table"] = comparisons.in_each_cell(runs), by_architecture.table(runs)
    results["ends"] = averages.of_ends(runs, "val_accuracy")
    drawn = fnnexp.plot_curves(runs, curves).axes
    results["drawn"] = [(line.get_label(), line.get_xydata().tolist()) for ax in drawn for line in ax.lines]
    return results


def assert_same_results(results, expected):
    assert results.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(results[name], value, check_exact=True, obj=name)
        elif name == "configurations":
            for actual, wanted in zip(results[name], value, strict=True):
                assert (actual.levels, actual.name, actual.tried) == (
                    wanted.levels,
                    wanted.name,
                    wanted.tried,
                )
                pd.testing.assert_series_equal(actual.metric, wanted.metric, check_exact=True)
        else:
            assert results[name] == value


def grid_with_failures(seeds):
    """Return a grid with a failed and a diverged trial."""
    runs = grid(seeds, noise=0.01)
    for name, status in (("relu_100-he-full-s1", "failed"), ("tanh_128-he-mini-s2", "diverged")):
        runs.loc[runs["name"] == name, ["status", "val_accuracy"]] = [status, math.nan]
    return runs.assign(command=["fnnexp -cn one", "fnnexp -cn two"] * (len(runs) // 2))


RUNS = grid_with_failures(7)
CURVES = curves_of(RUNS)
EXPECTED = all_results(RUNS, CURVES)


@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(st.integers(0, 1 << 31))
def test_results_do_not_depend_on_row_order_column_order_index_or_own_columns(seed):
    rng = np.random.default_rng(seed)
    assert_same_results(all_results(shuffled(RUNS, rng), shuffled(CURVES, rng)), EXPECTED)


def test_the_report_does_not_depend_on_row_or_column_order(monkeypatch):
    expected = markdown.render(report_of("a", RUNS, CURVES, monkeypatch))
    assert "fnnexp -cn one" in expected
    assert "relu_100-he-full-s1 | failed" in expected
    for seed in range(2):
        rng = np.random.default_rng(seed)
        runs, curves = (shuffled(frame, rng).reset_index(drop=True) for frame in (RUNS, CURVES))
        document = report_of("a", runs, curves, monkeypatch)
        assert markdown.render(document) == expected


def test_an_interval_is_computed_from_the_values_in_order_of_their_seeds():
    runs = grid(7, noise=0.01)
    alone = runs[runs["name"].str.startswith("tanh_128-he-mini")]
    values = alone.sort_values("seed")["val_accuracy"]
    expected = statistics.mean_interval(values, within=statistics.ACCURACY)
    for seed in range(20):
        (row,) = fnnexp.leaderboard(alone.sample(frac=1, random_state=seed)).to_dict("records")
        assert (row["low"], row["high"], row["interval"]) == expected
        assert row["val_accuracy"] == statistics.mean(values)


def test_the_p_value_of_many_seeds_does_not_depend_on_row_order():
    runs = grid(18, noise=0.05)
    pair = runs[runs["name"].str.contains("tanh_128-(?:he|sqrtmax)-mini")]
    (expected,) = fnnexp.compare(pair, "init").to_dict("records")
    assert 0 < expected["p"] < 1
    for seed in range(10):
        assert fnnexp.compare(pair.sample(frac=1, random_state=seed), "init").to_dict("records") == [expected]


def test_results_of_a_configuration_do_not_depend_on_other_trials_in_the_frame():
    runs = grid(8, noise=0.01)
    subset = runs[(runs["arch"] == "tanh_128") & (runs["batching"] == "mini")]
    subset_board, board = fnnexp.leaderboard(subset).set_index("init"), fnnexp.leaderboard(runs)
    same_rows = board[(board["arch"] == "tanh_128") & (board["batching"] == "mini")].set_index("init")
    columns = ["seeds", "val_accuracy", "val_accuracy_sd", "low", "high", "interval"]
    pd.testing.assert_frame_equal(
        same_rows.loc[subset_board.index, columns],
        subset_board[columns],
        check_exact=True,
        check_index_type=False,
    )
    pair, all_pairs = fnnexp.compare(subset).iloc[0], fnnexp.compare(runs)
    (same_pair,) = all_pairs[all_pairs["b"] == "tanh_128 sqrtmax = xavier mini"].to_dict("records")
    for column in ("seeds", "difference", "low", "high", "interval", "ahead", "probability", "p"):
        assert same_pair[column] == pair[column]


def test_which_of_two_results_of_a_trial_counts_does_not_depend_on_row_order():
    first = grid(3).assign(started=pd.Timestamp("2024-01-01", tz="UTC"))
    second = first.assign(val_accuracy=first["val_accuracy"] - 0.1)  # from another machine, at the same time
    board = fnnexp.leaderboard(pd.concat([first, second]))
    assert board["seeds"].tolist() == [3] * 12
    pd.testing.assert_frame_equal(fnnexp.leaderboard(pd.concat([second, first])), board, check_exact=True)


def test_own_columns_may_have_any_name():
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
def test_options_are_sorted_as_in_the_documentation_and_others_by_name(group, texts, expected):
    for order in (texts, texts[::-1], [*texts, texts[0]]):
        assert frames.as_options(pd.Series(order), group).cat.categories.to_list() == expected


def test_every_config_key_is_a_factor_but_the_seed_is_not():
    runs = grid(2)
    assert frames.params_of(runs) == [
        "arch", "init", "batching", "optimizer", "data", "data.validation", "epochs",
    ]  # fmt: skip
    more = runs.assign(dtype=["float32", "float64"] * (len(runs) // 2), **{"optimizer.momentum": 0.9})
    assert {"dtype", "optimizer.momentum"} <= {*frames.params_of(more)}
    assert len(leaderboard.leaderboard(more)) == len(leaderboard.leaderboard(runs)) * 2


def test_results_are_remembered_for_a_frame_while_it_lives():
    calls = []

    @frames.remembered
    def count(runs, more=0):
        calls.append(more)
        return [len(runs) + more]

    runs = RUNS.copy()
    count(runs), count(runs)
    assert len(calls) == 2
    with frames.remembering():
        count(runs).append("changed by the caller")
        assert count(runs) == [len(RUNS)]
        assert count(runs, 1) == count(runs, more=1) == [len(RUNS) + 1]
        assert calls[2:] == [0, 1, 1]
        in_order = filters.once(runs)
        assert filters.once(in_order) is in_order  # a frame that is its own result …
        part, gone = filters.once(runs)[2::-1].copy(), []
        assert count(part) == [3]
        weakref.finalize(filters.once(part), gone.append, "result")
        weakref.finalize(part, gone.append, "frame")
        del part, in_order
        gc.collect()
        assert {*gone} == {"frame", "result"}  # … does not keep itself alive


def test_trials_that_are_in_order_and_all_count_are_not_copied():
    runs = filters.once(RUNS)
    assert filters.once(runs) is runs
    again = pd.concat([runs, runs[:1].assign(trial="other", started=pd.Timestamp(0, tz="UTC"))])
    pd.testing.assert_frame_equal(filters.once(again)[["name", "seed"]], runs[["name", "seed"]])
