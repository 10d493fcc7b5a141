"""Who is better once each is tuned: the check against luck in tuning, and the expected best."""

from __future__ import annotations

import math
import statistics
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

import fnnexp
from fnnexp.config.grids.tuned import TUNING_SEEDS, Tuned, parsed
from fnnexp.reporting import tuned
from fnnexp.reporting.sections import pairs as of_pairs
from fnnexp.reporting.sections import summary
from fnnexp.results import comparisons, questions
from fnnexp.results.ranking import Ranking

ASKED = Tuned(("init",), ("optimizer.lr",))
RANKING = Ranking("val_accuracy", 0.2)
NOISE = np.array([0.001, -0.002, 0.0, 0.002, -0.001, 0.0015])


def frame(levels, diverged=()):
    """Return trials of initializers, given the mean of each learning rate in tuning and on fresh seeds."""
    rows = []
    for i, (init, by_lr) in enumerate(levels.items()):
        for lr, (in_tuning, fresh) in by_lr.items():
            means = [(seed, in_tuning, str(ASKED)) for seed in TUNING_SEEDS]
            means += [(seed, fresh + NOISE[seed - i], None) for seed in range(6)] if fresh is not None else []
            rows += [
                {
                    "trial": f"{init} {lr} {seed}", "name": init, "init": init, "init.method": init,
                    "optimizer.lr": lr, "seed": seed, "val_accuracy": mean, "epochs": 3, "tuning": tag,
                    "status": "diverged" if (init, lr, seed) in diverged else "finished",
                }
                for seed, mean, tag in means
            ]  # fmt: skip
    runs = pd.DataFrame(rows)
    return runs.assign(
        arch="a", batching="mini", identical_to=pd.Series(pd.NA, runs.index, dtype="str"),
        seed=runs["seed"].astype("Int64"), init=runs["init"].astype("category"),
    )  # fmt: skip


def answer(levels, **more):
    """Return the comparison, and its only pair."""
    (comparison,) = tuned.all_of(frame(levels, **more), RANKING)
    (pair,) = tuned.pairs(comparison).to_dict("records")
    return comparison, pair


def test_the_summary_says_what_a_pair_that_did_not_pass_the_check_lacks():
    pair = pd.Series({
        "verdict": "open", "low": 0.004, "high": 0.007, "p_corrected": 0.0003, "family": 3, "test": "t",
        "seeds": 6, "difference": 0.005, "seeds_needed": math.nan, "check": tuned.FAILED,
    })  # fmt: skip
    assert summary._unsettled(pair) == ", but not clearly with other good values"
    assert summary._needed(pair) == "; luck in tuning may explain the difference"
    pair["check"] = tuned.MISSING
    assert summary._unsettled(pair) == ", but the check is missing"
    assert summary._needed(pair).endswith("needs other good values, trained with the same seeds")
    by_chance = pair.copy()
    by_chance["p_corrected"], by_chance["check"] = 0.06, ""
    assert summary._unsettled(by_chance) == ", but p = 0.06 after correction for 3 pairs"
    assert summary._needed(by_chance) == "; it would take more than 1,000 seeds to settle it"


def test_a_winner_must_beat_all_good_values_of_the_other():
    he = {0.1: (0.95, 0.95), 0.2: (0.90, None), 0.3: (0.80, None), 0.4: (0.7, None)}
    unlucky = {0.1: (0.93, 0.90), 0.2: (0.92, 0.95), 0.3: (0.91, 0.90), 0.4: (0.2, None)}
    comparison, pair = answer({"he": he, "max": unlucky})
    assert (pair["a"], pair["b"], pair["check"], pair["verdict"]) == ("he", "max", "failed", "open")
    sentence, other = tuned.sentences(comparison, tuned.pairs(comparison))
    assert "with the values that tuning chose it is ahead of max" in sentence
    assert "luck in tuning may explain the difference" in sentence
    assert "max has 95.02% with optimizer.lr=0.2, which was" in other  # 0.95 and the mean of the noise
    no_other, _ = answer({"he": he, "max": {0.1: (0.93, 0.90)}})  # one configuration, so none was left
    assert not [*tuned._other_values(no_other, pd.DataFrame({"b": ["max"], "check": [tuned.FAILED]}))]
    assert "told apart" not in sentence
    worse = {**unlucky, 0.2: (0.92, 0.91)}
    _, pair = answer({"he": he, "max": worse})
    assert (pair["check"], pair["verdict"]) == ("passed", "better")
    _, pair = answer({"he": he, "max": {**worse, 0.3: (0.91, None)}})
    assert (pair["check"], pair["verdict"]) == ("not trained", "open")
    comparison, _ = answer({"he": he, "max": worse})
    assert tuned.needed(comparison) == [(1, 1), (1, 2)]  # the second and third best of the other option


def test_a_lead_that_is_not_significant_is_no_tie():
    """Of three options the best is ahead of one by more than the interval, but there are three pairs."""
    noisy = NOISE * 7.5
    rows = frame({name: {0.1: (0.9, 0.95), 0.2: (0.8, None)} for name in ("he", "max", "zeros")})
    fresh = ~rows["seed"].isin(TUNING_SEEDS)
    for name, means in (("he", 0.95 + 0 * noisy), ("max", 0.94 + noisy), ("zeros", 0.95 + noisy)):
        rows.loc[fresh & (rows["init"] == name), "val_accuracy"] = means
    (comparison,) = tuned.all_of(rows, RANKING)
    table = tuned.pairs(comparison)
    behind = table[table["b"] == "max"].iloc[0]
    assert (behind["verdict"], behind["low"] > 0, behind["p"] < 0.05) == ("open", True, True)
    (sentence,) = tuned.sentences(comparison, table)
    assert f"Holm p {behind['p_corrected']:.2g}), but not significantly" in sentence
    assert "it is ahead of he (by" in sentence
    assert sentence.endswith("but cannot be told apart.")
    metrics = dict.fromkeys(("test_accuracy", "train_accuracy", "train_loss", "val_loss", "test_loss"), 0.9)
    compared = fnnexp.compare(rows.assign(**metrics, seconds_per_epoch=0.1), "init")
    columns = ["a", "b", "difference", "p", "p_corrected", "verdict"]
    in_order = [frame[columns].sort_values(["a", "b"], ignore_index=True) for frame in (table, compared)]
    pd.testing.assert_frame_equal(*in_order)  # one family of all three pairs, one p of each
    assert len(table) == 3


def test_times_of_tuned_options_are_not_tested():
    rates = {"he": {0.1: (1.0, 1.0), 0.2: (3.0, None)}, "max": {0.1: (2.0, 2.0), 0.2: (3.0, None)}}
    rows = frame(rates).rename(columns={"val_accuracy": "seconds_to_0.9"}).assign(val_accuracy=0.9)
    (comparison,) = tuned.all_of(rows, Ranking("seconds_to_0.9"))
    (sentence,) = tuned.sentences(comparison, tuned.pairs(comparison))
    assert "he leads on 6 fresh seeds: it is ahead of max (by 1 s); times are not tested, " in sentence


def test_comparisons_that_differ_in_what_is_fixed_are_named_by_it():
    rates = {"he": {0.1: (0.95, 0.95), 0.2: (0.8, None)}, "max": {0.1: (0.9, 0.9), 0.2: (0.8, None)}}
    longer = frame(rates).assign(epochs=6)
    longer["trial"] += " longer"
    both = pd.concat([frame(rates), longer], ignore_index=True)
    comparisons = tuned.all_of(both.assign(**{"batching.size": 128}), RANKING)
    texts = [tuned.sentences(each, tuned.pairs(each))[0] for each in comparisons]
    assert [text.split(" and ")[0] for text in texts] == ["With epochs=3", "With epochs=6"]


def test_pairs_of_each_of_several_comparisons_are_checked_and_a_question_introduces_the_rest():
    rates = {"he": {0.1: (0.95, 0.95), 0.2: (0.9, None)}, "max": {0.1: (0.93, 0.90), 0.2: (0.92, None)}}
    longer = frame(rates).assign(epochs=6)
    longer["trial"] += " longer"
    longer["val_accuracy"] += 0.01 + longer["seed"] % 2 * 0.001
    both = pd.concat([frame(rates), longer], ignore_index=True).assign(
        optimizer="sgd", test_accuracy=0.9, train_accuracy=0.9, train_loss=0.1, val_loss=0.1, test_loss=0.1,
        seconds_per_epoch=0.1,
    )  # fmt: skip
    pairs = fnnexp.compare(both)
    same = pairs["b"] == "max epochs=6"
    assert pairs.loc[same, ["a", "check", "verdict"]].to_numpy().tolist() == [
        ["he epochs=6", "not trained", "open"]
    ]
    assert {*pairs.loc[~same, "check"]} == {""}
    texts = str(fnnexp.answer(both)).splitlines()
    assert [text.split(",")[0] for text in texts if text.startswith("With ")] == [
        "With epochs=3 and optimizer.lr tuned for each option",
        "With epochs=6 and optimizer.lr tuned for each option",
    ]
    assert "Which configuration is best in these comparisons together?" in texts


def test_a_configuration_that_diverges_once_in_tuning_is_not_chosen():
    levels = {"he": {0.1: (0.95, 0.95), 0.2: (0.99, None)}, "max": {0.1: (0.9, 0.9), 0.2: (0.8, None)}}
    comparison, _ = answer(levels, diverged={("he", 0.2, TUNING_SEEDS[1])})
    assert [level.chosen for level in comparison.levels] == [0, 0]
    assert comparison.levels[0].draws["diverged"].tolist() == [0, 1]


def test_the_end_of_what_was_tried_is_marked(monkeypatch):
    rates = {0.1: (0.9, 0.9), 0.2: (0.91, 0.91), 0.3: (0.8, None)}
    comparison, _ = answer({"he": {**rates, 0.4: (0.92, 0.92)}, "max": {**rates, 0.01: (0.1, None)}})
    assert [tuned.marks(level, comparison.keys) for level in comparison.levels] == ["highest tried", ""]
    assert next(tuned.at_ends(comparison)).startswith("he has the highest optimizer.lr that was tried")
    monkeypatch.setattr(tuned, "FEW", 0)
    assert next(tuned.at_ends(comparison)).startswith("1 of 2 options has the highest optimizer.lr that was")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_the_expected_best_is_the_mean_over_all_orders(count):
    values = [0.1, 0.4, 0.4, 0.7, 0.9]
    by_order = [max(order[:count]) for order in permutations(values)]
    assert tuned.expected_best(values, count) == pytest.approx(statistics.mean(by_order))


def test_the_name_of_a_comparison_can_be_read():
    for asked in (ASKED, Tuned(("init", "arch"), ("optimizer.lr", "optimizer.momentum"))):
        assert parsed(str(asked)) == asked
    assert parsed("a user's text") is None


def test_shares_and_leaderboard_of_a_tuned_sweep_have_the_rows_of_the_report():
    """`he` has trials with fresh seeds at a rate that tuning tried but did not choose."""
    he = {0.1: (0.95, 0.95), 0.2: (0.90, 0.90), 0.3: (0.80, None)}
    other = {0.1: (0.70, None), 0.2: (0.90, 0.91), 0.3: (0.80, None)}
    metrics = dict.fromkeys(("test_accuracy", "train_accuracy", "train_loss", "val_loss", "test_loss"), 0.9)
    runs = frame({"he": he, "max": other}).assign(**metrics, seconds_per_epoch=0.1)
    board = fnnexp.leaderboard(runs)
    assert board["init"].tolist() == ["he", "max"]
    assert board["optimizer.lr"].tolist() == [0.1, 0.2]
    shares = fnnexp.shares(runs)
    assert {*shares["effect"]} == {"init", "seed"}
    (comparison,) = tuned.all_of(runs, RANKING)
    values = np.array([comparison.own(level)["val_accuracy"].to_numpy(float) for level in (0, 1)])
    between = 6 * ((values.mean(axis=1) - values.mean()) ** 2).sum() / ((values - values.mean()) ** 2).sum()
    assert shares.set_index("effect")["share"]["init"] == pytest.approx(between)


def test_the_answer_of_a_tuned_sweep_is_that_of_the_report():
    """The options chose different rates, which is no confusion of two factors."""
    he = {0.1: (0.95, 0.95), 0.2: (0.90, None), 0.3: (0.80, None)}
    other = {0.1: (0.70, 0.70), 0.2: (0.90, 0.90), 0.3: (0.80, 0.80)}
    runs = frame({"he": he, "max": other}).assign(
        test_accuracy=0.9, train_accuracy=0.9, train_loss=0.1, val_loss=0.1, test_loss=0.1,
        seconds_per_epoch=0.1,
    )  # fmt: skip
    (comparison,) = tuned.all_of(runs, RANKING)
    first, end, *rest = str(fnnexp.answer(runs)).splitlines()
    assert end.startswith("he has the lowest optimizer.lr that was tried, so values beyond it may be better;")
    assert [first] == tuned.sentences(comparison, tuned.pairs(comparison))
    assert not any("is the best of" in text or "is better than" in text for text in rest)  # one answer
    assert "vary together" not in str(fnnexp.answer(runs))
    more = runs[(runs["optimizer.lr"] == 0.1) & runs["tuning"].isna()].assign(**{"optimizer.lr": 0.7})
    more["trial"] += " at a rate that tuning did not try"
    both = pd.concat([runs, more], ignore_index=True).assign(optimizer="sgd")
    texts = str(fnnexp.answer(both)).splitlines()
    assert texts[0] == first
    assert texts[2] == "Which configuration is best in all trials except those that tuned?"


@pytest.mark.parametrize(("second_best", "verdict"), [(0.95, "open"), (0.91, "better")])
def test_pairs_of_tuned_options_have_the_verdicts_of_the_report(second_best, verdict):
    """`max` chose the rate 0.1 by luck; at 0.2 it is as good as `he`, or worse."""
    he = {0.1: (0.95, 0.95), 0.2: (0.90, None), 0.3: (0.80, None)}
    other = {0.1: (0.93, 0.90), 0.2: (0.92, second_best), 0.3: (0.91, 0.90)}
    runs = frame({"he": he, "max": other}).assign(
        test_accuracy=0.9, train_accuracy=0.9, train_loss=0.1, val_loss=0.1, test_loss=0.1,
        seconds_per_epoch=0.1,
    )  # fmt: skip
    checks = (runs["init"] == "max") & (runs["optimizer.lr"] > 0.1) & ~runs["seed"].isin(TUNING_SEEDS)
    runs.loc[checks, "tuning"] = str(ASKED)  # as a sweep records trials that only check
    (comparison,) = tuned.all_of(runs, RANKING)
    assert tuned.pairs(comparison)["verdict"].tolist() == [verdict]
    for pairs in (fnnexp.compare(runs), fnnexp.compare(runs, "init")):
        (pair,) = pairs.to_dict("records")
        assert (pair["a"], pair["b"], pair["seeds"], pair["verdict"]) == ("he", "max", 6, verdict)
        assert pair["difference"] == pytest.approx(0.05 + (NOISE - np.roll(NOISE, 1)).mean())


def test_a_pair_that_did_not_pass_the_check_is_open_in_all_tables_whatever_they_call_it():
    """The options of `batching.size` are called `mini size=64` where batching modes are compared."""
    asked = Tuned(("batching.size",), ("optimizer.lr",))
    rates = {"he": {0.1: (0.95, 0.95), 0.2: (0.9, None)}, "max": {0.1: (0.93, 0.90), 0.2: (0.92, None)}}
    runs = frame(rates).assign(
        test_accuracy=0.9, train_accuracy=0.9, train_loss=0.1, val_loss=0.1, test_loss=0.1,
        seconds_per_epoch=0.1,
    )  # fmt: skip
    sizes = runs["init"].map({"he": 64, "max": 8}).astype("Int64")
    same = pd.Series("he", runs.index, dtype="category")
    runs = runs.assign(**{"batching.size": sizes, "init": same, "init.method": "he"})
    runs["tuning"] = runs["tuning"].where(runs["tuning"].isna(), str(asked))
    (comparison,) = tuned.all_of(runs, RANKING)
    (pair,) = tuned.pairs(comparison).to_dict("records")
    assert (pair["a"], pair["check"], pair["verdict"]) == ("batching.size=64", "not trained", "open")
    for pairs in (fnnexp.compare(runs), fnnexp.compare(runs, "batching")):
        (pair,) = pairs.to_dict("records")
        assert (pair["a"], pair["b"], pair["verdict"]) == ("mini size=64", "mini size=8", "open")


def test_a_lead_in_one_combination_is_open_too_if_it_did_not_pass_the_check(monkeypatch):
    """Tuned for each initializer and architecture. Of many options, only pairs with the best have rows."""
    asked = Tuned(("init", "arch"), ("optimizer.lr",))
    rates = {"he": {0.1: (0.95, 0.95), 0.2: (0.9, None)}, "max": {0.1: (0.93, 0.90), 0.2: (0.92, None)}}
    of_archs = [frame(rates).assign(**{"arch": arch, "arch.activation": arch}) for arch in ("a", "b")]
    runs = pd.concat([runs.assign(trial=runs["trial"] + f" {i}") for i, runs in enumerate(of_archs)])
    runs = runs.assign(
        arch=runs["arch"].astype("category"), tuning=runs["tuning"].where(runs["tuning"].isna(), str(asked)),
        test_accuracy=0.9, train_accuracy=0.9, train_loss=0.1, val_loss=0.1, test_loss=0.1,
        seconds_per_epoch=0.1,
    ).reset_index(drop=True)  # fmt: skip
    tunings = tuned.all_of(runs, RANKING)
    compared, _ = tuned.parts(runs, tunings)
    _, findings = questions.rows_and_findings(compared.drop(columns="optimizer.lr"), RANKING)
    assert findings.in_each_cell["verdict"].tolist() == ["better", "better"]
    checked = tuned.checked(findings, tunings, compared)
    assert checked.in_each_cell["verdict"].tolist() == ["open", "open"]
    assert checked.in_each_cell["check"].tolist() == ["not trained", "not trained"]
    assert "better" not in {*checked.with_leader["verdict"]}
    finished = [each for each in findings.configurations if len(each.metric)]
    (sentence,) = summary._by_cell(checked.in_each_cell, finished, findings.configurations)
    assert sentence.endswith("its lead is significant in none; the check of 2 leads is missing.")
    assert "are tested, but not checked against luck in tuning." in of_pairs.note(checked)  # he, on average
    cells = of_pairs.best_in_each_cell(checked)
    texts = [[cell.text for cell in row] for row in cells.rows]
    assert [[*row[:3], row[4], row[-1]] for row in texts] == [
        ["a", "he", "max", "open", "–"], ["b", "he", "max", "open", "–"]
    ]  # fmt: skip
    monkeypatch.setattr(comparisons, "MOST_OPTIONS", 3)
    assert len(tuned.pairs(tunings[0])) == 3
    again = tuned.checked(findings, tunings, compared)
    pd.testing.assert_frame_equal(again.in_each_cell, checked.in_each_cell)
    assert [level.name for level in tunings[0].levels] == ["a he", "a max", "b he", "b max"]
    assert {*checked.with_leader["a"], *checked.with_leader["b"]} == {"a he", "a max", "b he", "b max"}
