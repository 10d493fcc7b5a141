"""Pairs, shares, the leader and what a report says of them, on frames with known effects."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from boxes import apart
from markupsafe import escape
from scipy import stats

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.reporting import averages
from fnnexp.reporting import write as report
from fnnexp.reporting.document import html, markdown, wording
from fnnexp.reporting.document.blocks import Section, Text
from fnnexp.reporting.plots import picture
from fnnexp.reporting.plots.against_time import against_time
from fnnexp.reporting.plots.curves import curves as plot_curves
from fnnexp.reporting.plots.heat_map import heat_map
from fnnexp.reporting.sections import leaderboard, mistakes, pairs, summary
from fnnexp.reporting.sections.by_factor import architecture as by_architecture
from fnnexp.reporting.sections.by_factor import shares
from fnnexp.results import comparisons, filters, frames, statistics
from fnnexp.results.factors import factors_of
from fnnexp.tracking.run_format import METRICS

INITS = ("sqrtmax", "xavier", "he")
ARCHS, BATCHINGS = ("relu_100", "tanh_128"), ("full", "mini")
EFFECT = {"tanh_128": 0.05, "mini": 0.1, "he": 0.02}


def grid(seeds, noise=0.001, validation=500, **missing):
    """Return the frame of a full grid: options add known effects, and xavier is numerically sqrtmax."""
    rng = np.random.default_rng(0)
    rows = []
    for arch, init, batching, seed in itertools.product(ARCHS, INITS, BATCHINGS, range(seeds)):
        name = f"{arch}-{init}-{batching}-s{seed}"
        twin = name.replace("xavier", "sqrtmax")
        value = next((r["val_accuracy"] for r in rows if r["name"] == twin), None)
        if value is None:
            value = 0.7 + sum(EFFECT.get(option, 0) for option in (arch, init, batching))
            value += noise * rng.normal()
        rows.append({
            "trial": name, "name": name, "status": "finished", "identical_to": twin if twin != name else None,
            "arch": arch, "init": init, "batching": batching, "optimizer": "sgd", "data": "digits",
            "seed": seed, "epochs": 2, "data.validation": validation, "test_images": 360,
            "seconds_per_epoch": 0.1 + 0.2 * (batching == "mini"), "diverged_epoch": None, "error": None,
            **dict.fromkeys(METRICS, 0.5), "val_accuracy": value, "test_accuracy": value - 0.01,
        })  # fmt: skip
    runs = pd.DataFrame(rows).astype({"seed": "Int64"})
    options = {
        group: pd.CategoricalDtype(list(names))
        for group, names in (("arch", ARCHS), ("init", INITS), ("batching", BATCHINGS))
    }
    return runs.astype({**options, "optimizer": "category", "data": "category"})


def test_numerically_identical_options_and_configurations_are_joined():
    runs = grid(3)
    assert list(comparisons.levels(runs)["init"].cat.categories) == ["sqrtmax = xavier", "he"]
    assert len(comparisons.configurations(runs)) == 2 * 2 * 2
    pairs = comparisons.of_options(runs)
    assert pairs["factor"].tolist() == ["arch", "init", "batching"]  # one pair per factor: xavier is joined
    assert set(comparisons.with_leader(runs)["family"]) == {8 * 7 // 2}
    assert pairs["family"].tolist() == [1, 1, 1]
    # If options are identical only in some cells, these configurations are joined but the options are not.
    xavier_on_relu = runs["name"].str.contains("relu_100-xavier")
    runs.loc[xavier_on_relu, "identical_to"] = np.nan
    runs.loc[xavier_on_relu, "val_accuracy"] += 0.001
    assert len(comparisons.levels(runs)["init"].cat.categories) == 3
    names = [configuration.name for configuration in comparisons.configurations(runs)]
    assert "tanh_128 sqrtmax mini = tanh_128 xavier mini" in names
    assert len(names) == 2 * 2 * 2 + 2


def test_each_seed_of_joined_configurations_counts_once():
    runs = grid(3)
    runs.loc[runs["init"] == "he", "val_accuracy"] -= 0.1  # so that the joined options lead
    findings = comparisons.findings(runs)
    assert "sqrtmax = xavier" in findings.configurations[0].name
    assert [len(configuration.tried) for configuration in findings.configurations] == [3] * 8
    assert "did not finish" not in " ".join(summary.sentences(runs, findings))


# Checksums of a file before and after a change.
OLD, NEW = "0123456789ab" + 52 * "c", "fedcba987654" + 52 * "d"


def grid_on_changed_data(seeds=3):
    """Return a grid twice, the second time on other data under the same path, where `he` loses 0.1."""
    old, new = grid(seeds).assign(data_checksum=OLD), grid(seeds).assign(data_checksum=NEW)
    he = new["init"] == "he"
    new.loc[he, ["val_accuracy", "test_accuracy"]] -= 0.1
    new["trial"], new["name"] = "new-" + new["trial"], "new-" + new["name"]
    new["identical_to"] = "new-" + new["identical_to"]
    return pd.concat([old, new], ignore_index=True)


def test_trials_on_changed_data_are_separate_configurations():
    runs = grid_on_changed_data()
    assert factors_of(runs) == ["arch", "init", "batching", "data_checksum"]
    board = leaderboard.leaderboard(runs)
    assert board["seeds"].tolist() == [3] * 24
    for row in board.to_dict("records"):
        factors = ["arch", "init", "batching", "data_checksum"]
        selected = (runs[factors].astype("str") == pd.Series(row)[factors].astype("str")).all(axis=1)
        values = runs.loc[selected, "val_accuracy"]
        assert (row["val_accuracy"], row["val_accuracy_sd"]) == pytest.approx((values.mean(), values.std()))
    findings = comparisons.findings(runs)
    assert [len(item.metric) for item in findings.configurations] == [3] * 16
    best = findings.configurations[0]
    assert statistics.mean(best.metric) == board["val_accuracy"].iloc[0]
    assert best.name == "tanh_128 he mini data_checksum=0123456789ab"
    assert "data_checksum" in set(findings.of_options["factor"])
    assert ("data_checksum",) in set(findings.shares["effect"].str.split(" × ").map(tuple))
    tables = by_architecture.tables(runs, by_architecture.table(runs))
    assert [item.title for item in tables] == ["data_checksum=0123456789ab", "data_checksum=fedcba987654"]
    shown = leaderboard.table(runs, board)
    assert shown.rows[0][shown.head.index("data_checksum")].text == "0123456789ab"
    for checksum in ("0123456789ab", OLD):
        subset = filters.where(runs, {"data_checksum": checksum})
        assert subset["trial"].tolist() == runs.loc[runs["data_checksum"] == OLD, "trial"].tolist()
        assert "data_checksum" not in factors_of(subset)


def test_a_checksum_determined_by_the_path_is_not_a_factor():
    runs = grid_on_changed_data()
    runs["data.path"] = runs["data_checksum"].map({OLD: "a.npz", NEW: "b.npz"})
    assert factors_of(runs) == ["arch", "init", "batching", "data.path"]
    runs.loc[0, "data_checksum"] = 64 * "e"  # and a.npz has changed once more
    assert factors_of(runs)[-1] == "data_checksum"


def test_the_answer_warns_if_results_are_measured_on_different_images():
    runs = grid_on_changed_data()
    warning = "come from 2 data sets. A difference between data sets is not a difference between networks"
    assert warning in fnnexp.answer(runs)
    assert warning in " ".join(summary.caveats(runs, comparisons.findings(runs)))  # so a terminal shows it
    runs["data"] = runs["data_checksum"].map({OLD: "digits", NEW: "mnist"}).astype("category")
    assert warning in fnnexp.answer(runs)
    runs.loc[runs["data_checksum"] == NEW, "status"] = "failed"  # then all results are of one data set
    assert warning not in fnnexp.answer(runs)
    assert warning not in fnnexp.answer(grid(2))


def test_the_finished_trial_of_joined_options_counts():
    runs = grid(3)
    interrupted = runs.assign(status=runs["status"].mask(runs["init"] == "sqrtmax", "interrupted"))
    pd.testing.assert_frame_equal(comparisons.of_options(interrupted), comparisons.of_options(runs))


def test_a_trial_counts_once_however_often_it_is_in_a_frame():
    runs = grid(2, noise=0.01)
    unfinished = runs.assign(status="running", val_accuracy=np.nan)  # as in a store where it still runs
    for frame in (pd.concat([runs, runs]), pd.concat([runs, unfinished]), pd.concat([unfinished, runs])):
        for function in (
            leaderboard.leaderboard,
            by_architecture.table,
            fnnexp.compare,
            fnnexp.shares,
            comparisons.in_each_cell,
        ):
            pd.testing.assert_frame_equal(function(frame), function(runs), obj=function.__name__)
        for factor in ("arch", "init"):
            pd.testing.assert_frame_equal(fnnexp.compare(frame, factor), fnnexp.compare(runs, factor))
        assert fnnexp.answer(frame) == fnnexp.answer(runs)
        curves = runs[["trial"]].assign(epoch=1, metric="val_accuracy", value=runs["val_accuracy"])
        pd.testing.assert_frame_equal(
            averages.of_curves(frame, pd.concat([curves, curves]), "val_accuracy"),
            averages.of_curves(runs, curves, "val_accuracy"),
        )
        pd.testing.assert_frame_equal(
            averages.of_ends(frame, "val_accuracy"), averages.of_ends(runs, "val_accuracy")
        )


def test_the_later_of_two_trials_of_a_configuration_and_seed_counts_and_the_answer_says_so():
    """Different versions of the numerics make such trials. Here the later trial has the higher accuracy."""
    first = grid(2).assign(started=pd.Timestamp("2024-01-01", tz="UTC"))
    later = first.assign(
        started=pd.Timestamp("2024-01-02", tz="UTC"), val_accuracy=first["val_accuracy"] + 0.05
    )
    later["trial"], later["identical_to"] = "more-" + later["trial"], "more-" + later["identical_to"]
    for both in (pd.concat([first, later]), pd.concat([later, first])):
        board, findings = leaderboard.leaderboard(both), comparisons.findings(both)
        assert board["val_accuracy"].tolist() == leaderboard.leaderboard(later)["val_accuracy"].tolist()
        assert board["seeds"].tolist() == [2] * 12
        assert statistics.mean(findings.configurations[0].metric) == board["val_accuracy"].iloc[0]
        assert (
            "24 trials are not counted, because another trial of the same configuration and seed"
            in fnnexp.answer(both)
        )
        best = comparisons.finished_trials(both, findings.configurations[0])
        assert best["trial"].str.startswith("more-").all()
    assert "not counted" not in fnnexp.answer(pd.concat([later, later]))


def test_differences_are_paired_by_seed_and_recover_the_known_effects():
    runs = grid(12)
    pairs = comparisons.of_options(runs).set_index("factor")
    for factor, better, worse in (("arch", "tanh_128", "relu_100"), ("init", "he", "sqrtmax = xavier")):
        row = pairs.loc[factor]
        assert (row["a"], row["b"], row["cells"], row["seeds"]) == (better, worse, 4, 12)
        assert row["low"] < EFFECT[better] < row["high"]
        assert row["verdict"] == "better"
        assert (row["ahead"], row["probability"]) == (12, 1.0)
        assert pd.isna(row["seeds_needed"])
    values = runs.set_index(["arch", "init", "batching", "seed"])["val_accuracy"]
    leader = comparisons.with_leader(runs).iloc[0]
    d = values["tanh_128", "he", "mini"] - values["tanh_128", "sqrtmax", "mini"]
    assert leader["a"] == "tanh_128 he mini"
    assert leader["b"] == "tanh_128 sqrtmax mini = tanh_128 xavier mini" or "=" in leader["b"]
    assert leader["difference"] == pytest.approx(d.mean())
    student = stats.ttest_1samp(d, 0)
    assert (leader["low"], leader["high"]) == pytest.approx(student.confidence_interval())
    assert (leader["test"], leader["p"]) == ("t", pytest.approx(student.pvalue))
    assert leader["p_sign_flip"] == statistics.sign_flip_test(d)
    assert leader["p_corrected"] == pytest.approx(min(1, 28 * student.pvalue))


def test_the_best_of_each_cell_is_compared_with_the_next_and_corrected_within_the_cell():
    runs = grid(7)
    runs.loc[(runs["arch"] == "relu_100") & (runs["init"] == "he"), "val_accuracy"] -= 0.1  # "he" is last
    worst = runs[runs["init"] == "he"].copy()  # a fourth option, always the worst
    worst["val_accuracy"] -= 0.5 + 0.001 * np.random.default_rng(3).normal(size=len(worst))
    for column in ("trial", "name"):
        worst[column] = worst[column].str.replace("-he-", "-max-")
    worst["init"] = "max"
    runs = pd.concat([runs.astype({"init": "str"}), worst.astype({"init": "str"})], ignore_index=True)
    runs["init"] = runs["init"].astype(pd.CategoricalDtype(["max", *INITS]))
    best_in_cells = comparisons.in_each_cell(runs).set_index(["arch", "batching"])
    assert len(best_in_cells) == 4
    for (arch, batching), row in best_in_cells.iterrows():
        best, second = ("he", "sqrtmax") if arch == "tanh_128" else ("sqrtmax", "he")
        assert (row["a"], row["b"]) == tuple(x.replace("sqrtmax", "sqrtmax = xavier") for x in (best, second))
        values = runs[(runs["arch"] == arch) & (runs["batching"] == batching)].set_index(["init", "seed"])
        x, y, z = (values["val_accuracy"][init].to_numpy() for init in (best, second, "max"))
        p = [stats.ttest_1samp(d, 0).pvalue for d in (x - y, x - z, y - z)]
        assert row["p"] == pytest.approx(p[0])
        assert (row["family"], row["p_sign_flip"]) == (3, 2 / 2**7)
        assert row["p_corrected"] == pytest.approx(statistics.holm(p)[0])
        assert (row["difference"], row["verdict"]) == (pytest.approx((x - y).mean()), "better")
    sentences = " ".join(summary.sentences(runs, comparisons.findings(runs)))
    assert "Best initializer in each of 4 combinations of arch and batching: " in sentences
    assert "sqrtmax = xavier in 2, he in 2; significant leads: sqrtmax = xavier in 2, he in 2." in sentences


def many_options(options):
    """Return a grid of this many initializers, no two of which are identical."""
    runs = grid(2)
    he = runs[runs["init"] == "he"].astype({"init": "str"})
    rng = np.random.default_rng(options)
    parts = []
    for i in range(options):
        names = {column: he[column] + f"-{i}" for column in ("trial", "name")}
        parts.append(he.assign(init=f"mine_{i}", val_accuracy=rng.uniform(0.5, 0.9, len(he)), **names))
    return pd.concat(parts, ignore_index=True).astype({"init": "category"})


def test_work_grows_with_the_options_and_not_with_their_pairs(monkeypatch):
    """Intervals (4,999 resamples) and seeds needed (a thousand candidates) are the costly parts."""
    calls = []
    interval, seeds_needed_by = statistics.mean_interval, statistics.seeds_needed_by
    monkeypatch.setattr(
        statistics, "mean_interval", lambda *args, **kwargs: calls.append(1) or interval(*args, **kwargs)
    )
    monkeypatch.setattr(
        statistics,
        "seeds_needed_by",
        lambda many, *args, **kwargs: calls.extend(many) or seeds_needed_by(many, *args, **kwargs),
    )
    counts = []
    for options in (15, 30):
        calls.clear()
        comparisons.findings(many_options(options))
        counts.append(len(calls))
    assert counts[1] < 2.2 * counts[0]


def test_the_best_of_many_options_in_a_cell_is_corrected_for_all_their_pairs():
    runs = many_options(12)
    failed = runs["name"].isin(
        ["relu_100-he-full-s1-3", "relu_100-he-full-s0-4"]
    )  # some pairs then share one seed, or none
    runs["status"] = runs["status"].mask(failed, "failed")
    for row in comparisons.in_each_cell(runs).to_dict("records"):
        cell = runs[(runs["arch"] == row["arch"]) & (runs["batching"] == row["batching"])]
        cell = cell[cell["status"] == "finished"]
        by_init = {
            init: trials.set_index("seed")["val_accuracy"]
            for init, trials in cell.groupby("init", observed=True)
        }
        ranked = sorted(by_init, key=lambda init: -by_init[init].mean())
        assert [row["a"], row["b"]] == ranked[:2]
        p = [
            statistics.paired_t_test((by_init[a] - by_init[b]).dropna())
            for a, b in itertools.combinations(ranked, 2)
        ]
        comparable = [len(by_init[a].index.intersection(by_init[b].index)) > 0
                    for a, b in itertools.combinations(ranked, 2)]  # fmt: skip
        assert row["family"] == sum(comparable)
        assert row["p_corrected"] == statistics.holm(p, sum(comparable))[0]


def test_a_note_names_some_of_many_identical_options_and_counts_the_rest():
    runs = many_options(9)
    first = runs.drop_duplicates(["arch", "batching", "seed"])
    same = runs[["arch", "batching", "seed"]].merge(first, how="left", on=["arch", "batching", "seed"])
    runs["identical_to"] = same["trial"].where(same["trial"] != runs["trial"])
    runs["val_accuracy"] = same["val_accuracy"]
    notes = leaderboard.leaderboard(runs).set_index("init")["note"]
    assert set(notes["mine_0"]) == {"same as mine_1, mine_2, mine_3, mine_4, mine_5 and 3 more"}


def test_no_cell_is_compared_without_several_initializers_and_another_factor():
    runs = grid(3)
    for subset in (runs[runs["init"] == "he"], runs[:0], runs[runs["name"].str.match("relu_100-.*-full")]):
        assert comparisons.in_each_cell(subset).empty
        assert not pairs.best_in_each_cell(comparisons.findings(subset)).rows


def test_a_pair_uses_only_seeds_and_cells_that_both_finished():
    runs = grid(6)
    diverged = (runs["name"] == "tanh_128-he-mini-s0") | (runs["name"] == "relu_100-he-full-s1")
    runs.loc[diverged, "status"] = "diverged"
    pairs = comparisons.of_options(runs).set_index("factor")
    assert pairs["seeds"].tolist() == [6, 6, 6]
    assert pairs.loc["init", "cells"] == 2  # two of the four cells lack a seed
    leader = comparisons.with_leader(runs)
    assert leader["a"].iloc[0] == "tanh_128 he mini"
    assert leader["seeds"].iloc[0] == 5
    findings = comparisons.findings(runs)
    assert "1 of its 6 trials did not finish" in " ".join(summary.sentences(runs, findings))


def test_one_seed_settles_nothing_and_the_answer_says_so():
    runs = grid(1)
    answer = fnnexp.answer(runs)
    assert answer.startswith(
        "One seed settles nothing: of 8 configurations, tanh_128 he mini leads and is 2.06"
    )
    assert "which says nothing about other seeds" in answer
    for rows in (comparisons.with_leader(runs), comparisons.of_options(runs)):
        assert set(rows["verdict"]) == {"open"}
        assert rows["probability"].isna().all()


def test_a_verdict_does_not_depend_on_other_trials_in_the_frame():
    """The family of a question is its own pairs."""
    runs = grid(4, noise=0.004)
    alone = fnnexp.compare(runs[runs["arch"] == "relu_100"].query("batching == 'full'"), "init").iloc[0]
    cells = comparisons.in_each_cell(runs).set_index(["arch", "batching"])
    assert (cells["family"] == 1).all()
    for column in ("p", "p_corrected", "verdict"):
        assert cells.loc[("relu_100", "full"), column] == alone[column]
    copies = [runs.assign(arch=f"arch_{i}", trial=f"{i}-" + runs["trial"]) for i in range(3)]
    copies = [frame.assign(identical_to=f"{i}-" + frame["identical_to"]) for i, frame in enumerate(copies)]
    all_cells = comparisons.in_each_cell(pd.concat([runs, *copies])).set_index(["arch", "batching"])
    pd.testing.assert_frame_equal(all_cells.loc[cells.index], cells)


def test_a_pair_has_the_same_verdict_in_every_table_of_a_question():
    """The best was picked by looking, so the leader's pairs are corrected as the pairs of any two options."""
    rng = np.random.default_rng(7)
    for trial in range(20):
        runs = grid(5, noise=0.0)
        runs = runs[(runs["arch"] == "relu_100") & (runs["batching"] == "full")].assign(identical_to=None)
        runs["val_accuracy"] += 0.01 * rng.normal(size=len(runs))
        leader, all_pairs = fnnexp.compare(runs), fnnexp.compare(runs, "init")
        in_both = leader.merge(all_pairs, on=["a", "b"])
        assert len(in_both) == 2, trial
        for column in ("p", "family", "p_corrected", "p_equivalent", "verdict"):
            assert in_both[f"{column}_x"].tolist() == in_both[f"{column}_y"].tolist()
        values = runs.pivot_table(index="seed", columns="init", values="val_accuracy", observed=True)
        d = [values[a] - values[b] for a, b in zip(all_pairs["a"], all_pairs["b"], strict=True)]
        pool = statistics.shared(d, options=3)
        p = [statistics.paired_t_test(differences, pool) for differences in d]
        assert all_pairs["p"].tolist() == pytest.approx(p)
        assert all_pairs["p_corrected"].tolist() == pytest.approx(statistics.holm(p).tolist())


def test_seeds_added_after_a_look_are_tested_with_tests_valid_at_every_look():
    runs = grid(6, noise=0.004)
    runs = runs[(runs["arch"] == "relu_100") & (runs["batching"] == "full") & (runs["init"] != "xavier")]
    values = runs.pivot_table(index="seed", columns="init", values="val_accuracy", observed=True)
    d = (values["he"] - values["sqrtmax"]).to_numpy()
    unseen, seen = runs.assign(look=pd.NA), runs.assign(look=1)
    for frame in (runs, unseen, seen):  # looked at for the first time, or again without new seeds
        (pair,) = fnnexp.compare(frame.astype({"look": "Int64"}) if "look" in frame else frame).to_dict(
            "records"
        )
        assert (pair["test"], pair["looks"]) == ("t", 1)
        assert pair["p"] == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
        assert "looked" not in fnnexp.answer(frame)
    grown = runs.assign(look=runs["seed"].map({0: 1, 1: 1, 2: 2, 3: 2})).astype({"look": "Int64"})
    (pair,) = fnnexp.compare(grown).to_dict("records")
    assert (pair["test"], pair["looks"]) == ("safe t", 3)
    assert pair["p"] == statistics.safe_t_test(d)
    assert (pair["low"], pair["high"]) == statistics.safe_t_interval(d)[:2]
    assert pair["p_equivalent"] == statistics.safe_equivalence_test(d, 0.002)
    assert "Reports looked at these seeds 3 times while seeds were added" in fnnexp.answer(grown)
    # A new option's trials are seen for the first time, so its pairs are too.
    with_new_option = grown.assign(
        look=grown["look"].where(grown["init"] == "he", pd.NA).where(grown["init"] != "he", 1)
    )
    assert fnnexp.compare(with_new_option)["test"].tolist() == ["t"]
    failing_too = grown.copy()
    failing_too.loc[(failing_too["init"] == "sqrtmax") & (failing_too["seed"] == 3), "val_accuracy"] = 0.1
    (pair,) = fnnexp.compare(failing_too).to_dict("records")
    assert (pair["test"], pair["p"]) == ("safe signs", statistics.safe_sign_test(np.ones(6)))


def with_failures(seeds, failing_seeds, noise=0.002):
    """Return one cell of three options; `he` fails to learn in the `failing_seeds`."""
    runs = grid(seeds, noise=noise)
    runs = runs[(runs["arch"] == "relu_100") & (runs["batching"] == "full")].assign(identical_to=None)
    runs.loc[(runs["init"] == "he") & runs["seed"].isin(failing_seeds), "val_accuracy"] = 0.11
    rng = np.random.default_rng(1)
    runs.loc[runs["init"] == "xavier", "val_accuracy"] = 0.6 + 0.002 * rng.normal(size=seeds)
    return runs.reset_index(drop=True)


def test_a_sign_flip_test_replaces_students_if_some_seeds_failed_to_learn():
    runs = with_failures(8, failing_seeds=[2, 5])
    pairs = fnnexp.compare(runs, "init").set_index(["a", "b"])
    assert pairs["failed"].to_dict() == {
        ("sqrtmax", "xavier"): 0, ("sqrtmax", "he"): 2, ("xavier", "he"): 2
    }  # fmt: skip
    values = runs.set_index(["init", "seed"])["val_accuracy"]
    for (a, b), row in pairs.iterrows():
        d = (values[a] - values[b]).to_numpy()
        test, p = (
            ("sign flip", statistics.sign_flip_test(d))
            if "he" in (a, b)
            else ("t", stats.ttest_1samp(d, 0).pvalue)
        )
        assert (row["test"], row["p"]) == (test, pytest.approx(p))
        assert math.isnan(row["p_equivalent"]) == ("he" in (a, b))
    assert "he (2 of 8 seeds); their pairs are tested by sign only." in fnnexp.answer(runs)
    # 15 pairs of configurations need ten seeds for a test by sign (15 × 2/2¹⁰ < 5%), 3 of options seven.
    both = pd.concat(
        [runs.assign(**{"optimizer.lr": lr, "trial": runs["trial"] + str(lr)}) for lr in (0.1, 0.2)]
    )
    assert set(fnnexp.compare(both, "init")["test"]) == {"t", "sign flip"}
    assert set(fnnexp.compare(both)["test"]) == {"t"}
    assert "are tested by sign only where the seeds are enough for it." in fnnexp.answer(both)
    # Twice the accuracy of guessing depends on the number of classes.
    assert set(fnnexp.compare(runs.assign(classes=100), "init")["test"]) == {"t"}
    # An option that fails in every seed is plainly behind, so t is used.
    always = fnnexp.compare(with_failures(4, failing_seeds=range(4)), "init").set_index(["a", "b"])
    assert set(always["test"]) == {"shared t"}
    assert always.loc[("sqrtmax", "he"), "verdict"] == "better"


def he_and_sqrtmax(pairs):
    """Return the row that compares `he` with `sqrtmax`."""
    return pairs[(pairs["a"] != "xavier") & (pairs["b"] != "xavier")].iloc[0]


def test_options_are_equivalent_if_their_difference_is_surely_within_the_margin():
    runs = with_failures(10, failing_seeds=[], noise=0.0)
    rng = np.random.default_rng(2)
    he, sqrtmax = (runs["init"] == init for init in ("he", "sqrtmax"))
    for scale, expected in ((0.0005, "equivalent"), (0.02, "open")):
        runs.loc[he, "val_accuracy"] = runs.loc[sqrtmax, "val_accuracy"].to_numpy() + scale * rng.normal(
            size=10
        )
        assert he_and_sqrtmax(fnnexp.compare(runs, "init"))["verdict"] == expected
    runs.loc[he, "val_accuracy"] = (
        runs.loc[sqrtmax, "val_accuracy"].to_numpy() + 0.001 + 0.0003 * rng.normal(size=10)
    )
    row = he_and_sqrtmax(fnnexp.compare(runs, "init"))
    d = runs[he]["val_accuracy"].to_numpy() - runs[sqrtmax]["val_accuracy"].to_numpy()
    one_sided = [
        stats.ttest_1samp(d, -0.002, alternative="greater").pvalue,
        stats.ttest_1samp(d, 0.002, alternative="less").pvalue,
    ]
    assert (row["a"], row["verdict"]) == ("he", "equivalent")  # although it is surely ahead
    assert row["p_corrected"] < 0.05
    assert row["p_equivalent"] == pytest.approx(3 * max(one_sided))  # Holm: the smallest p of three pairs
    assert he_and_sqrtmax(fnnexp.compare(runs, "init", margin=0.01))["verdict"] == "better"
    best = (
        "the best of 3 initializers are he and sqrtmax, which are equivalent (within ±0.2 points); "
        "xavier is worse"
    )
    assert best in fnnexp.answer(runs)
    for wrong in (0, -1, math.nan, "1", math.inf, True):
        with pytest.raises(FnnexpError, match=r"write percentage points above 0: margin=0\.2"):
            fnnexp.compare(runs, "init", margin=wrong)


def test_shares_recover_the_known_effects_and_need_a_full_grid():
    shares, about = comparisons.shares_by(grid(4, noise=1e-6))
    share_of = dict(zip(shares["effect"], shares["share"], strict=True))
    assert list(share_of)[:3] == ["batching", "arch", "init"]
    assert share_of["batching"] == pytest.approx(0.1**2 / (0.1**2 + 0.05**2 + 0.02**2), rel=1e-3)
    assert "4 seeds" in about
    one_seed, about = comparisons.shares_by(grid(1))
    assert "seed" not in one_seed["effect"].tolist()
    assert "One seed can't tell" in about
    runs = grid(3)
    no_shares, about = comparisons.shares_by(runs[runs["name"].str[:11] != "tanh_128-he"])
    assert no_shares.empty
    assert "2 of 8 combinations" in about
    assert "tanh_128 he full" in about
    assert comparisons.shares_by(runs[:1])[1] == "No factor varies, so the variance has no shares."


@pytest.mark.parametrize("seeds", [1, 3, 8, 14])
def test_the_sentences_agree_with_the_tables(seeds):
    runs = grid(seeds, noise=0.01)
    findings = comparisons.findings(runs)
    sentences = " ".join(summary.sentences(runs, findings))
    board = leaderboard.leaderboard(runs)
    table = leaderboard.table(runs, board)
    first = dict(zip(table.head, (cell.text for cell in table.rows[0]), strict=True))
    assert f"leads with {first['val %'].split()[0]}% val_accuracy" in sentences
    assert f"it has {first['test %'].split()[0]}%" in sentences
    assert all(first[axis] in sentences for axis in ("arch", "init", "batching"))
    if seeds > 1:
        assert f"95% interval {first['95% interval']} over {seeds} seeds" in sentences
    nearest = dict(zip(pairs.leader(findings).head, pairs.leader(findings).rows[0], strict=True))
    assert f"{nearest['points'].text} points ahead of {nearest['against'].text}" in sentences
    verdict = pairs.leader(findings).head.index("verdict")
    better = sum(row[verdict].text == "better" for row in pairs.leader(findings).rows)
    assert f"better than {better} of 7 others" in sentences
    if needed := nearest["seeds needed"].text.strip("?"):
        assert f"about {needed} seeds would settle it" in sentences
    for effect, share in [(row[0].text, row[1].text) for row in shares.table(findings).rows[:3]]:
        assert f"{effect} {share}%" in sentences


def test_without_validation_the_answer_says_that_the_choice_is_optimistic():
    runs = grid(3).assign(val_accuracy=np.nan)
    findings = comparisons.findings(runs)
    (*_, doubt) = summary.caveats(runs, findings)
    assert "chosen on the test images, so its result is optimistic" in doubt
    assert "chosen on the test images" in " ".join(summary.details(runs, findings))


@pytest.mark.parametrize("metric", ["val_accuracy", "test_accuracy"])
def test_a_single_configuration_is_not_called_chosen(metric):
    runs = grid(3)
    if metric == "test_accuracy":
        runs = runs.assign(val_accuracy=np.nan)
    alone = runs[(runs["arch"] == "tanh_128") & (runs["init"] == "he") & (runs["batching"] == "mini")]
    mean = f"{100 * alone['test_accuracy'].mean():.2f}%"
    fewer = runs.assign(status=np.where(runs.index.isin(alone.index), "finished", "diverged"))
    for frame in (alone, fewer):  # in `fewer` the others diverged, so none of them could be chosen
        answer = fnnexp.answer(frame)
        assert f"On the test images, which were not used to choose it, it has {mean}." in answer
        assert f" has {100 * alone[metric].mean():.2f}% {metric}" in answer
        for word in ("optimistic", "leads", "chosen on"):
            assert word not in answer
    assert ("optimistic" in fnnexp.answer(runs)) == (metric == "test_accuracy")


def options_with_seeds(first, second, third=()):
    """Return a frame of three options of one factor, each with its own seeds; the first leads."""
    runs = grid(8)
    runs = runs[(runs["arch"] == "relu_100") & (runs["batching"] == "full")].assign(identical_to=None)
    runs["val_accuracy"] += runs["init"].map({"he": 0.2, "sqrtmax": 0.1, "xavier": 0.0}).astype(float)
    seeds = {"he": first, "sqrtmax": second, "xavier": third}
    return runs[[row.seed in seeds[row.init] for row in runs.itertuples()]]


def test_the_answer_names_the_seeds_that_would_pair_the_leader_with_the_next():
    answer = fnnexp.answer(options_with_seeds((0, 1), (3, 4)))
    assert answer.startswith(
        "On relu_100 with full batches, he leads. It has no finished seed in common with sqrtmax, the next "
        "best (seed=0,1 and seed=3,4), so they cannot be paired; run he with seed=3,4, or sqrtmax with "
        "seed=0,1, to pair them.\n"
    )
    assert "no finished seed in common with the others, so nothing can be tested" in answer
    for text in ("one seed", "p value", "0 seeds", "would settle"):
        assert text not in answer
    diverged = options_with_seeds((0, 1), (0, 1, 3))
    lost_seeds = (diverged["init"] == "sqrtmax") & (diverged["seed"] != 3)
    diverged["status"] = diverged["status"].mask(lost_seeds, "diverged")
    answer = fnnexp.answer(diverged)  # running the diverged seeds again would not help
    assert "(seed=0,1 and seed=3), so they cannot be paired; run he with seed=3 to pair them." in answer


def test_the_candidates_leave_out_a_network_that_diverged_or_did_not_learn():
    runs = options_with_seeds(range(3), range(3), range(3))
    xavier = runs["init"] == "xavier"
    alone = runs.assign(val_accuracy=runs["val_accuracy"].mask(xavier, 0.1))
    alone["status"] = alone["status"].mask(xavier & (alone["seed"] > 0), "diverged")
    text = fnnexp.answer(alone)
    assert "; xavier did not learn in any seed." in text
    assert "Some trials diverged, and no mean includes them: xavier (2 of 3)." in text
    leader_fails = runs.assign(val_accuracy=runs["val_accuracy"].mask(xavier, 0.1))
    leader_fails.loc[~xavier & (runs["seed"] == 1), "val_accuracy"] = 0.11
    first = fnnexp.answer(leader_fails).splitlines()[0]
    assert first.startswith(
        "On relu_100 with full batches, the best of 3 initializers is he or sqrtmax, which "
    )
    assert "; xavier did not learn in any seed." in first


def test_a_key_of_an_option_is_compared_among_the_trials_that_have_it():
    runs = options_with_seeds(range(4), range(4), range(4))
    sizes = runs["init"].astype("str").map({"he": 32, "sqrtmax": 64, "xavier": None}).astype("Int64")
    mode = pd.Series("mini", runs.index).mask(sizes.isna(), "full").astype("category")
    size_of = {"batching": mode, "batching.size": sizes, "init": "he", "init.method": "he"}
    sized = runs.assign(**size_of)
    (pair,) = fnnexp.compare(sized, "batching.size").to_dict("records")
    values = [sized.loc[sized["batching.size"] == size, "val_accuracy"].to_numpy() for size in (32, 64)]
    assert (pair["a"], pair["b"], pair["seeds"], pair["cells"], pair["family"]) == ("32", "64", 4, 1, 1)
    assert pair["difference"] == pytest.approx((values[0] - values[1]).mean())
    assert pair["p"] == pytest.approx(stats.ttest_rel(*values).pvalue)
    with pytest.raises(FnnexpError, match=r"batching\.size. has one value, 32, or none in these 8 trials"):
        fnnexp.compare(sized[sized["batching.size"].fillna(32) == 32], "batching.size")
    with pytest.raises(FnnexpError, match=r"batching\.mode. varies only together with other settings in"):
        fnnexp.compare(sized.assign(**{"batching.mode": mode.astype("str")}), "batching.mode")


def test_the_leaderboard_says_why_only_the_leader_has_a_test_accuracy():
    (remark,) = (block.text for block in leaderboard.section(grid(2)).blocks if isinstance(block, Text))
    assert "test %: only the leader's, so that no configuration is chosen by test results." in remark
    alone = leaderboard.section(options_with_seeds((0, 1), ()))
    assert "only the leader's" not in alone.blocks[-1].text


def test_the_page_has_the_means_of_a_small_grid_once_as_a_table():
    section = by_architecture.section(grid(2))
    assert [type(block).__name__ for block in section.blocks] == ["Figure", "Text"]
    assert section.blocks[1].text == "The leaderboard has the same means, with their spread over seeds."
    one_factor = by_architecture.section(options_with_seeds((0, 1), (0, 1)))
    assert (one_factor.blocks, len(one_factor.data["table"])) == ([], 2)


def test_the_answer_says_if_the_leader_is_behind_on_the_seeds_it_shares():
    runs = options_with_seeds((0, 1, 2), (0, 1))
    paired = (runs["init"] == "he") & (runs["seed"] != 2)
    runs["val_accuracy"] = runs["val_accuracy"].mask(runs["init"] == "he", 0.999)
    runs.loc[paired, "val_accuracy"] = runs.loc[runs["init"] == "sqrtmax", "val_accuracy"].to_numpy() - [
        0.01,
        0.03,
    ]
    (pair,) = comparisons.with_leader(runs).to_dict("records")
    assert (pair["a"], pair["b"], pair["difference"]) == ("sqrtmax", "he", pytest.approx(0.02))
    half = stats.t.ppf(0.975, 1) * math.sqrt(2) / math.sqrt(2)  # in points, for differences of 1 and 3
    ends = f"{2 - half:.2f} to {2 + half:.2f}".replace("-", "−")
    expected = (
        "he is 2.00 points behind sqrtmax on the seeds that both have "
        f"(95% interval {ends}; behind in 2 of 2 seeds)"
    )
    assert expected in fnnexp.answer(runs)


def test_intervals_are_cut_at_0_and_1_on_the_page_and_in_the_files():
    runs = grid(2)
    low_trial = (runs["init"] == "he") & (runs["seed"] == 1)
    runs.loc[low_trial, "val_accuracy"] = 0.01  # Student's interval of two seeds is wider than 0 to 1
    board, findings = leaderboard.leaderboard(runs), comparisons.findings(runs)
    assert board["low"].min() == 0
    assert board["high"].max() == 1
    table = leaderboard.table(runs, board)
    column = table.head.index("95% interval")
    for row, (low, high) in zip(table.rows, board[["low", "high"]].to_numpy(), strict=True):
        assert row[column].text == f"{100 * low:.2f} to {100 * high:.2f}"
    assert findings.with_leader["low"].min() == -1
    assert findings.with_leader["high"].max() == 1


def test_no_number_is_printed_as_negative_zero():
    low = statistics.mean_interval([0.001, 0.002, 0.0]).low
    for text in (
        wording.between(-0.00003, 0.01),
        wording.between(-0.01, -0.00001),
        wording.points(-0.00004),
    ):
        assert not re.search(r"[-−]0\.00(?!\d)", text)
    assert wording.between(low, -low) == f"−{-100 * low:.2f} to {-100 * low:.2f}"


def test_options_that_differ_only_by_rounding_are_level():
    runs = options_with_seeds(range(6), range(6))
    he, sqrtmax = (runs["init"] == init for init in ("he", "sqrtmax"))
    runs.loc[sqrtmax, "val_accuracy"] = [0.3, 0.5, 0.6, 0.7, 0.5, 0.5]
    rounded_differently = [0.1 + 0.2, 0.5, 0.7 - 0.1, 0.8 - 0.1, 0.5, 0.5]
    runs.loc[he, "val_accuracy"] = rounded_differently
    (pair,) = comparisons.with_leader(runs).to_dict("records")
    assert (pair["difference"], pair["ahead"], pair["low"], pair["high"]) == (0, 0, 0, 0)
    assert "he and sqrtmax are equivalent (within ±0.2 points)." in fnnexp.answer(runs)
    runs.loc[he, "val_accuracy"] = [0.3 + 0.01, 0.5 + 0.02, 0.6 + 0.03, 0.7 - 0.06, 0.5, 0.5]
    (pair,) = comparisons.with_leader(runs).to_dict("records")
    assert (pair["difference"], pair["p"], pd.isna(pair["seeds_needed"])) == (0, 1, True)
    assert "sqrtmax and he are level (" in fnnexp.answer(runs)
    assert "how many seeds would settle it cannot be estimated yet" in fnnexp.answer(runs)


def test_the_answer_gives_the_error_of_finite_images_and_the_spread_over_seeds():
    runs = grid(6, noise=0.01)
    sentences = " ".join(summary.sentences(runs, comparisons.findings(runs)))
    best = leaderboard.leaderboard(runs).iloc[0]
    for split, images in (("val", 500), ("test", 360)):
        error = statistics.test_set_error(best[f"{split}_accuracy"], images)
        assert f"{100 * error:.2f} points for {images}" in sentences
    assert f"standard deviation over seeds is {100 * best['val_accuracy_sd']:.2f} points" in sentences


def test_any_subset_of_a_frame_can_be_compared():
    runs = grid(3)
    for subset in (runs[:0], runs[:1], runs[runs["init"] == "he"].iloc[::-1], runs[runs["seed"] == 2]):
        findings = comparisons.findings(subset)
        assert summary.sentences(subset, findings)
        assert len(findings.with_leader) == max(0, len(findings.configurations) - 1)
    assert summary.sentences(runs[:0], comparisons.findings(runs[:0])) == [
        "No trial has finished, so there is no answer yet."
    ]


def report_of(title, runs, curves, monkeypatch):
    """Return the report of these trials as a document, without rendering figures or reading weights."""
    monkeypatch.setattr(picture, "svg", lambda figure, label: "<svg></svg>")  # rendering takes a second
    monkeypatch.setattr(picture, "png", lambda figure: b"")
    no_mistakes = Section("Mistakes", [Text("None <seen>.")])
    monkeypatch.setattr(mistakes, "section", lambda *_: no_mistakes)
    no_diagnostics = pd.DataFrame(columns=["trial", "epoch", "layer", "quantity", "value"])
    return report.make(title, [], frames.ExperimentFrames(runs, curves, no_diagnostics), None)


NO_CURVES = pd.DataFrame(columns=["trial", "epoch", "metric", "value"])


def test_the_markdown_report_has_the_tables_of_the_page(monkeypatch):
    document = report_of("a|b <i>", grid(3), NO_CURVES, monkeypatch)
    text, page = markdown.render(document), html.render(document)
    rows = re.findall(r"^\|(.*)\|$", text, flags=re.MULTILINE)
    data = [row.replace("\\", "").split("|") for row in rows if "---" not in row]
    shown = re.findall(r"<tr>(.*?)</tr>", page)
    shown = [[re.sub("<.*?>", "", c) for c in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row)] for row in shown]
    assert len(data) > 20
    assert [row for row in data if [cell.strip() for cell in row] not in shown] == []
    assert text.startswith("# a\\|b &lt;i>")
    assert "<h1>a|b &lt;i&gt;</h1>" in page
    assert "None &lt;seen&gt;." in page


SUBSETS = {
    "one architecture": lambda runs: runs[runs["arch"] == "relu_100"],
    "one seed": lambda runs: runs[runs["seed"] == 1],
    "one configuration": lambda runs: runs[
        (runs["arch"] == "tanh_128") & (runs["init"] == "he") & (runs["batching"] == "full")
    ],
    "one trial": lambda runs: runs.iloc[[5]],
    "rows dropped": lambda runs: runs.sample(frac=0.6, random_state=0),
    "a mode that only one architecture has": lambda runs: runs[
        (runs["arch"] == "tanh_128") | (runs["batching"] == "mini")
    ],
    "other columns, without the optional ones": lambda runs: runs[
        sorted(set(runs.columns) - {"test_images", "data.validation", "epochs"}, reverse=True)
    ].iloc[::-1],
    "the twins alone": lambda runs: runs[runs["init"] == "xavier"],
    "none finished": lambda runs: runs.assign(status="failed", val_accuracy=np.nan, test_accuracy=np.nan),
    "no rows": lambda runs: runs[:0],
}


@pytest.mark.parametrize("name", SUBSETS)
def test_the_report_accepts_any_subset_of_a_frame(name, monkeypatch):
    all_runs = grid(2)
    curves = all_runs[["trial"]].merge(pd.DataFrame({"epoch": [1, 2], "value": [0.5, 0.75]}), how="cross")
    curves = pd.concat(
        [curves.assign(metric=f"{s}_{q}") for s in ("val", "test") for q in ("loss", "accuracy")]
    )
    runs = SUBSETS[name](all_runs)
    document, findings = report_of("part", runs, curves.iloc[::-1], monkeypatch), comparisons.findings(runs)
    text, page = markdown.render(document), html.render(document)
    sentences = summary.sentences(runs, findings)
    assert document.section("The answer").sentences == sentences
    for sentence in sentences:
        assert str(escape(sentence)) in page
        assert markdown.escaped(sentence) in text
    assert page.count("<figure>") == len(document.figures)
    finished = runs["status"].eq("finished").any()
    assert bool(document.figures) == finished
    best = mistakes.best_trial(runs, findings)
    assert (best is not None) == finished
    assert best is None or best["val_accuracy"] in findings.configurations[0].metric.to_numpy()


def test_the_answer_names_options_that_are_the_same_experiment():
    runs = grid(3)
    sentences = summary.sentences(runs, comparisons.findings(runs))
    assert [
        sentence
        for sentence in sentences
        if sentence.startswith("sqrtmax and xavier are numerically identical")
    ]
    rest = runs[runs["init"] != "xavier"]
    assert not [
        sentence
        for sentence in summary.sentences(rest, comparisons.findings(rest))
        if "numerically identical" in sentence
    ]


def test_curves_have_a_row_of_panels_per_architecture_even_if_some_are_missing():
    runs = grid(2)
    runs = runs[(runs["arch"] == "tanh_128") | (runs["batching"] == "mini")]
    curves = runs[["trial"]].assign(epoch=1, value=0.9, metric="val_accuracy")
    figure = plot_curves(runs, curves, "val_accuracy")
    assert [text.get_text() for text in figure.texts] == list(ARCHS)
    corners = {}
    for ax in figure.axes:
        box = ax.get_position()
        corners.setdefault(round(box.y0, 3), []).append((round(box.x0, 3), ax.get_title(loc="left")))
    lower, upper = (corners[y] for y in sorted(corners))
    assert [title for _, title in upper] == ["mini"]
    assert [title for _, title in lower] == ["full", "mini"]
    assert upper[0][0] == lower[1][0]  # aligned by column
    assert len({ax.get_ylim() for ax in figure.axes}) == 1


def test_logit_axes_have_round_labels_and_keep_accuracies_of_0_and_1():
    runs = grid(2).assign(val_accuracy=lambda frame: np.where(frame["batching"] == "mini", 1.0, 0.1))
    curves = runs[["trial"]].assign(epoch=1, value=runs["val_accuracy"], metric="val_accuracy")
    figure = plot_curves(runs, curves, "val_accuracy")
    figure.draw_without_rendering()
    ax = figure.axes[0]
    labels = [float(label.get_text()) for label in ax.get_yticklabels()]
    assert labels == sorted(labels)
    assert {10, 50, 90, 99} <= set(labels)
    assert all(np.isfinite(line.get_ydata()).all() for panel in figure.axes for line in panel.lines)
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert apart(boxes)
    low, high = ax.get_ylim()
    assert low < 0.1 < 0.999 < high < 1


def test_the_heat_map_prints_every_mean_without_overlaps():
    runs = grid(2)
    figure = heat_map(runs, "val_accuracy")
    figure.draw_without_rendering()
    texts = [text for ax in figure.axes for text in ax.texts]
    means = runs.groupby(["batching", "arch", "init"], observed=True)["val_accuracy"].mean()
    assert [text.get_text() for text in texts] == [f"{100 * mean:.1f}" for mean in means]
    for ax in figure.axes:
        labels = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
        assert apart(labels)
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert apart(boxes)
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)


def test_tilted_names_of_a_heat_map_stay_in_the_figure_and_off_the_next_panel():
    runs = grid(2)
    runs["init"] = runs["init"].cat.rename_categories({"he": "truncated_normal"})
    figure = heat_map(runs, "val_accuracy")
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert len(boxes) == 2
    assert apart(boxes)
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)


def test_accuracy_against_time_shows_each_configuration_once():
    runs = grid(3)
    figure = against_time(runs, "val_accuracy")
    drawn = {(line.get_xdata()[0], line.get_ydata()[0]) for ax in figure.axes for line in ax.lines}
    groups = runs.groupby(["arch", "init", "batching"], observed=True)
    expected = {(2 * g["seconds_per_epoch"].mean(), g["val_accuracy"].mean()) for _, g in groups}
    assert sorted(drawn) == [pytest.approx(point) for point in sorted(expected)]
    assert against_time(runs.assign(seconds_per_epoch=np.nan), "val_accuracy") is None


# Edge cases


def one_factor(values, seeds=None):
    """Return trials of one architecture with full batches, from accuracies and seeds by initializer."""
    first = grid(1).iloc[[0]].assign(identical_to=None)
    rows = [
        first.assign(init=init, seed=seed, val_accuracy=value, trial=f"{init}-{seed}", name=f"{init}-{seed}")
        for init, accuracies in values.items()
        for seed, value in zip((seeds or {}).get(init, range(len(accuracies))), accuracies, strict=True)
    ]
    return pd.concat(rows, ignore_index=True).astype({"init": "category", "seed": "Int64"})


def test_with_few_classes_a_trial_has_learned_a_ninth_of_the_way_from_guessing():
    runs = one_factor({"a": [0.97, 0.96, 0.98], "b": [0.74, 0.57, 1.0]}).assign(classes=2)
    assert not comparisons.failed_to_learn(runs).any()
    assert set(fnnexp.compare(runs)["test"]) == {"t"}
    assert comparisons.failed_to_learn(runs.assign(val_accuracy=0.55)).all()
    answer = fnnexp.answer(runs.assign(val_accuracy=0.5 + 0.01 * runs["seed"].astype(float)))
    assert "No network learned: all end below 55.6%, a ninth of the way from guessing to 100%." in answer
    for classes, limit in ((3, 11 / 27), (9, 1 / 9 + 8 / 81), (11, 2 / 11), (100, 0.02)):
        assert comparisons.learning_limit(classes) == pytest.approx(limit)
    assert comparisons.learning_limit(10) == 0.2


def test_each_trial_is_judged_by_its_own_number_of_classes():
    runs = one_factor({"two": [0.54, 0.53], "five": [0.54, 0.53], "ten": [0.54, 0.53]})
    runs["classes"] = runs["init"].astype("str").map({"two": 2, "five": 5, "ten": 10})
    assert {*runs["init"][comparisons.failed_to_learn(runs)]} == {"two"}
    answer = fnnexp.answer(runs)
    limit = "below 55.6%, a ninth of the way from guessing to 100%"
    assert f"1 of 3 configurations did not learn ({limit}): two." in answer
    answer = fnnexp.answer(runs.assign(val_accuracy=0.1 + 0.001 * runs["seed"].astype(float)))
    limits = "55.6% with 2 classes, 28.9% with 5 classes and 20% with 10 classes"
    assert f"No network learned: all end below {limits}." in answer


def test_an_open_pair_whose_interval_excludes_0_says_why():
    near = [0.9 - d for d in (0.002, 0.001, 0.003, 0.002, 0.0, 0.001)]
    two = one_factor({"a": [0.9] * 6, "b": near})
    assert "but p" not in fnnexp.answer(two)
    worse = {name: [0.5, 0.6, 0.7, 0.8, 0.5, 0.6] for name in "cde"}
    more = one_factor({"a": [0.9] * 6, "b": near, **worse})
    pair = fnnexp.compare(more).iloc[0]
    assert pair["verdict"] == "open"
    assert pair["low"] > 0
    expected = (
        f" to {100 * pair['high']:.2f}, but p = {pair['p_corrected']:.3g} after correction for 10 pairs; "
    )
    assert expected in fnnexp.answer(more)
    failing = one_factor({"a": [0.9, 0.91, 0.9], "b": [0.1, 0.21, 0.1]})
    assert fnnexp.compare(failing)["test"].item() == "t"  # three signs are too few
    failing = one_factor({"a": [0.9] * 6, "b": [0.1, 0.89, 0.89, 0.89, 0.89, 0.91]})
    assert "by a sign-flip test" not in fnnexp.answer(failing)  # the interval includes 0


def test_three_seeds_settle_what_is_plain_in_a_question_of_many_options():
    """With its own spread alone, no pair of six options is settled by three seeds unless t is above 17."""
    rng = np.random.default_rng(5)
    means = {"a": 0.95, "b": 0.94, "c": 0.94, "d": 0.93, "e": 0.92, "f": 0.85}
    runs = one_factor({name: (mean + 0.01 * rng.normal(size=3)).tolist() for name, mean in means.items()})
    pairs = fnnexp.compare(runs, "init").set_index(["a", "b"])
    worst = pairs.xs("f", level="b")
    assert set(worst["verdict"]) == {"better"}
    assert set(pairs["test"]) == {"shared t"}
    values = runs.pivot_table(index="seed", columns="init", values="val_accuracy", observed=True)
    own = [15 * stats.ttest_rel(values[a], values["f"]).pvalue for a in worst.index]
    assert sum(p > 0.05 for p in own) >= 3
    # A question of two options has no other pair, and with six seeds each pair has its own spread.
    assert set(fnnexp.compare(runs[runs["init"].isin(["a", "b"])], "init")["test"]) == {"t"}
    six = one_factor({name: (mean + 0.01 * rng.normal(size=6)).tolist() for name, mean in means.items()})
    assert set(fnnexp.compare(six, "init")["test"]) == {"t"}


def test_the_leader_is_compared_with_the_next_that_shares_a_seed():
    runs = one_factor({"a": [0.8, 0.81], "b": [0.7, 0.71], "c": [0.6, 0.62]}, {"b": [2, 3]})
    answer = fnnexp.answer(runs)
    assert "nan" not in answer
    assert "cannot be told apart" in answer


def test_a_leader_surely_behind_on_the_seeds_it_shares_needs_no_more_seeds():
    b = [0.5, 0.52, 0.51, 0.92, 0.93, 0.931]
    answer = fnnexp.answer(one_factor({"a": [0.9, 0.91, 0.92], "b": b}, {"a": [3, 4, 5]}))
    assert "a is 1.70 points behind b on the seeds that both have" in answer
    assert "which is significant; it leads only by seeds that the other lacks" in answer
    assert "would settle" not in answer


def test_the_answer_calls_a_tie_level():
    answer = fnnexp.answer(one_factor({"a": [0.8] * 3, "b": [0.8] * 3}))
    assert "a and b are level (over 3 seeds)" in answer


def test_spaces_in_names_do_not_mix_up_combinations():
    runs = pd.concat([
        one_factor({"i1": [0.8 + option[0], 0.81 + option[0]], "i2": [0.8, 0.81]}).assign(
            arch=option[1], batching=option[2], trial=lambda t, i=i: f"{i}-" + t["trial"]
        )
        for i, option in enumerate([(0.1, "p", "q r"), (-0.3, "p q", "r")])
    ]).astype({"arch": "category", "batching": "category"})  # fmt: skip
    (pair,) = fnnexp.compare(runs, "init").to_dict("records")
    assert (pair["a"], pair["cells"], pair["difference"]) == ("i2", 2, pytest.approx(0.1))


def test_a_combination_without_a_pair_has_no_best_option():
    runs = grid(3)
    runs = runs[runs["init"] != "xavier"].astype({"init": "str"}).assign(identical_to=None)
    runs.loc[runs["init"] == "he", "seed"] += 10
    assert "est initializer" not in fnnexp.answer(runs.astype({"init": "category"}))


def test_if_no_network_learned_the_answer_opens_with_that():
    runs = one_factor({"a": [0.11, 0.12, 0.1], "b": [0.1, 0.09, 0.13]})
    first, *rest = str(fnnexp.answer(runs)).splitlines()
    assert first.startswith("No network learned: all end below 20%, twice the accuracy of guessing. ")
    assert "Try other learning rates" in first
    assert not any("told apart" in text or "leads" in text for text in (first, *rest))
    one_learned = fnnexp.answer(one_factor({"a": [0.11, 0.12, 0.1], "b": [0.9, 0.91, 0.92]}))
    assert "No network learned" not in one_learned
