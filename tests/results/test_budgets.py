"""Trials cut at equal cost, and what a report says of them, against frames computed by hand."""

import doctest
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.nn.pieces.batching import slices
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.reporting.document.blocks import Table
from fnnexp.reporting.sections.by_factor import equal_cost
from fnnexp.results import budgets, comparisons
from fnnexp.tracking.run_format import METRICS

ROWS, SIZE = 1000, 128  # eight updates an epoch, the last of 104 rows
EPOCHS = {"full": 20, "mini": 4}
SECONDS = {"full": 0.5, "mini": 1.5}


def accuracy(arch, mode, seed, epoch):
    """Return a made-up validation accuracy: up to epoch 3 it grows, then it falls; no two are the same."""
    level = {"full": 0.6, "mini": 0.5}[mode] + 0.1 * (arch == "tanh_128")
    return level + 0.02 * min(epoch, 6 - epoch) + 0.001 * seed * epoch + 0.003 * seed**2 * (mode == "mini")


def trials(epochs=EPOCHS, seconds=SECONDS, archs=("relu_100",), seeds=3):
    """Return the frames of trials of two batching modes."""
    runs, curves = [], []
    for arch in archs:
        for mode in epochs:
            for seed in range(seeds):
                name = f"{arch}-{mode}-s{seed}"
                last = epochs[mode]
                points = {e: accuracy(arch, mode, seed, e) for e in range(1, last + 1)}
                best = max(points, key=points.get, default=None)
                runs.append({
                    "trial": name, "name": name, "status": "finished", "arch": arch, "init": "he",
                    "batching": mode, "optimizer": "sgd", "data": "digits", "seed": seed, "epochs": last,
                    "batching.mode": mode, "batching.size": SIZE if mode == "mini" else None,
                    "data.validation": 200, "train_images": ROWS, "identical_to": None,
                    "seconds_per_epoch": seconds[mode] * (1 + 0.01 * (seed - 1)),
                    **dict.fromkeys(METRICS, 0.5), "val_accuracy": points.get(last), "best_val_epoch": best,
                    "best_val_accuracy": points.get(best),
                })  # fmt: skip
                for epoch, value in points.items():
                    for metric in METRICS:
                        there = value if metric == "val_accuracy" else 0.01 * epoch
                        curves.append({"trial": name, "epoch": epoch, "metric": metric, "value": there})
    columns = ["trial", "epoch", "metric", "value"]
    return pd.DataFrame(runs), pd.DataFrame(curves, columns=columns)


def cut_at(runs, curves, unit):
    """Return the epoch of each arch and mode, which all seeds share."""
    cut = fnnexp.at_equal(runs, curves, unit)
    found = cut.groupby(["arch", "batching"], observed=True)["epoch"].agg(["min", "max"])
    assert (found["min"] == found["max"]).all()
    return cut, found["max"].to_dict()


@pytest.mark.parametrize(
    ("unit", "full", "mini"),
    [("epochs", 4, 4), ("updates", 20, 2), ("seconds", 12, 4)],
    # 20 epochs of full are 20 updates or 10 s; 4 of mini 32 updates or 6 s.
)
def test_each_mode_is_taken_at_its_last_epoch_within_what_the_least_trained_one_cost(unit, full, mini):
    runs, curves = trials()
    cut, epochs = cut_at(runs, curves, unit)
    assert epochs == {("relu_100", "full"): full, ("relu_100", "mini"): mini}
    assert len(cut) == len(runs)
    for row in cut.to_dict("records"):
        arch, mode, seed, epoch = (row[key] for key in ("arch", "batching", "seed", "epoch"))
        points = [accuracy(arch, mode, seed, each) for each in range(1, epoch + 1)]
        assert row["val_accuracy"] == points[-1]
        assert (row["best_val_accuracy"], row["best_val_epoch"]) == (max(points), np.argmax(points) + 1)
        assert {row[metric] for metric in METRICS} == {points[-1], 0.01 * epoch}
        each = {"epochs": 1, "updates": 8 if mode == "mini" else 1}
        each["seconds"] = SECONDS[mode] * (1 + 0.01 * (seed - 1))
        assert row["spent"] == pytest.approx(epoch * each[unit])
        assert row["epochs"] == EPOCHS[mode]  # what the trial is does not change


@pytest.mark.parametrize("unit", budgets.UNITS)
def test_what_is_compared_are_the_metrics_at_those_epochs(unit):
    runs, curves = trials()
    cut, epochs = cut_at(runs, curves, unit)
    x, y = (
        [accuracy("relu_100", mode, seed, epochs["relu_100", mode]) for seed in range(3)]
        for mode in ("mini", "full")
    )
    pair = fnnexp.compare(cut, "batching").iloc[0]
    assert {pair["a"], pair["b"]} == {"mini", "full"}
    assert abs(pair["difference"]) == pytest.approx(abs(np.mean(x) - np.mean(y)))
    assert pair["p"] == pytest.approx(stats.ttest_rel(x, y).pvalue)
    assert pair["family"] == 1
    board = fnnexp.leaderboard(cut)
    assert board["val_accuracy"].max() == pytest.approx(max(np.mean(x), np.mean(y)))
    assert f"{100 * max(np.mean(x), np.mean(y)):.2f}% val_accuracy" in fnnexp.answer(cut)


def test_at_equal_epochs_trials_of_as_many_epochs_stay_as_they_are():
    runs, curves = trials(epochs={"full": 4, "mini": 4})
    cut = fnnexp.at_equal(runs, curves, "epochs")
    pd.testing.assert_frame_equal(fnnexp.compare(cut, "batching"), fnnexp.compare(runs, "batching"))


def test_each_combination_of_the_other_factors_has_a_budget_of_its_own():
    runs, curves = trials(archs=("relu_100", "tanh_128"))
    slow = (runs["arch"] == "tanh_128") & (runs["batching"] == "mini")
    runs["seconds_per_epoch"] *= np.where(slow, 2, 1)  # 12 s, so that the 10 s of full are least
    _, epochs = cut_at(runs, curves, "seconds")
    relu = {("relu_100", "full"): 12, ("relu_100", "mini"): 4}
    assert epochs == relu | {("tanh_128", "full"): 20, ("tanh_128", "mini"): 3}
    _, alone = cut_at(runs[runs["arch"] == "relu_100"], curves, "seconds")
    assert alone == relu


def test_neither_the_order_of_rows_nor_what_else_the_curves_hold_matters():
    runs, curves = trials(archs=("relu_100", "tanh_128"))
    part = runs[runs["arch"] == "relu_100"]
    expected = fnnexp.at_equal(part, curves[curves["trial"].isin(part["trial"])], "updates")
    mixed = part.sample(frac=1, random_state=0), pd.concat([curves, curves]).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(fnnexp.at_equal(*mixed, "updates"), expected)


def test_what_did_not_finish_is_left_as_it_is():
    runs, curves = trials()
    lost = runs["trial"] == "relu_100-full-s1"
    runs.loc[lost, ["status", "val_accuracy"]] = ["diverged", 0.125]
    curves = curves[(curves["trial"] != "relu_100-full-s1") | (curves["epoch"] < 3)]
    cut, epochs = cut_at(runs, curves, "updates")
    assert epochs["relu_100", "full"] == 20
    left = cut[cut["status"] == "diverged"].iloc[0]
    assert (left["val_accuracy"], left["epoch"] is pd.NA) == (0.125, True)
    assert fnnexp.compare(cut, "batching")["seeds"].tolist() == [2]


def test_a_mode_that_ended_no_epoch_within_the_budget_is_left_out_and_the_numbers_are_said():
    runs, curves = trials(epochs={"full": 3, "mini": 2})
    said = (
        "At equal updates mini can't be compared: its first epoch ends after 8 updates, and full was trained "
        "for 3 updates (3 epochs; 8 epochs would do)."
    )
    cut, costs = budgets.cut_at_equal_cost(runs, curves, "updates")
    assert (set(cut["batching"]), budgets.omitted_modes(costs, "updates")) == ({"full"}, [said])
    with pytest.raises(FnnexpError) as error:
        fnnexp.at_equal(runs, curves, "updates")
    assert str(error.value) == said
    # The three epochs of full have room for one of mini, but where that takes twice as long.
    runs, curves = trials(epochs={"full": 3, "mini": 2}, archs=("relu_100", "tanh_128"))
    slow = (runs["arch"] == "tanh_128") & (runs["batching"] == "mini")
    runs["seconds_per_epoch"] *= np.where(slow, 2, 1)
    cut, epochs = cut_at(runs, curves, "seconds")
    assert epochs == {("relu_100", "full"): 3, ("relu_100", "mini"): 1, ("tanh_128", "full"): 3}
    assert cut.attrs["about"] == (
        "At equal seconds mini can't be compared in 1 of 2 combinations of arch: its first epoch ends after "
        "3 s, and full was trained for 1.5 s (3 epochs; 6 epochs would do)."
    )
    assert fnnexp.compare(cut, "batching")["cells"].tolist() == [1]


def test_what_an_epoch_cost_and_is_not_known_is_said():
    runs, curves = trials()
    old = runs.drop(columns="train_images")  # a run of before, that is
    with pytest.raises(FnnexpError, match="mini can't be compared: how many it made is not known, because"):
        fnnexp.at_equal(old, curves, "updates")
    assert budgets.cost_of_an_epoch(old, "updates").dropna().tolist() == [1, 1, 1]  # of full all is known
    untimed = runs.assign(seconds_per_epoch=math.nan)
    with pytest.raises(FnnexpError, match="full can't be compared: how long its epochs took is not recorded"):
        fnnexp.at_equal(untimed, curves, "seconds")
    with pytest.raises(FnnexpError, match="mini can't be compared: the curves hold none of its epochs"):
        fnnexp.at_equal(runs, curves[curves["trial"].str.contains("full")], "updates")


@pytest.mark.parametrize(("mode", "size"), [("full", None), ("mini", 128), ("mini", 5000), ("sample", None)])
def test_an_epoch_has_as_many_updates_as_the_optimizer_makes(mode, size, store, monkeypatch):
    steps, momentum = [], OPTIMIZERS["momentum"]

    def update(theta, grad, slots, step, hyper):
        steps.append(step)
        momentum.update(theta, grad, slots, step, hyper)

    monkeypatch.setitem(OPTIMIZERS, "momentum", replace(momentum, update=update))
    sizes = {"batching.size": size} if size else {}
    how = {"data": "digits", "data.validation": 1000, "optimizer": "momentum", "execution.n_jobs": 1}
    runs = fnnexp.sweep(batching=mode, epochs=1, **how, **sizes)
    assert runs["train_images"].tolist() == [437]
    assert budgets.cost_of_an_epoch(runs, "updates").tolist() == [max(steps)]
    assert max(steps) == len(list(slices(437, {"full": 437, "sample": 1}.get(mode, size))))


def test_what_is_no_unit_or_has_no_modes_to_compare_is_refused():
    runs, curves = trials()
    with pytest.raises(FnnexpError, match=r"write one of epochs, updates, seconds\. Did you mean 'updates'"):
        fnnexp.at_equal(runs, curves, "update")
    with pytest.raises(FnnexpError, match="batching does not vary in these 3 trials"):
        fnnexp.at_equal(runs[runs["batching"] == "full"], curves, "updates")
    with pytest.raises(FnnexpError, match="no two batching modes have a finished trial"):
        fnnexp.at_equal(runs.assign(status="failed"), curves, "updates")
    assert not budgets.batching_varies(runs[:0])


def test_batches_of_two_sizes_are_two_modes():
    runs, curves = trials()
    other, points = trials(epochs={"mini": 4})
    other["batching.size"] = 500  # two updates an epoch
    for frame in (other, points):
        frame["trial"] = "500-" + frame["trial"]
    runs, curves = pd.concat([runs, other]), pd.concat([curves, points])
    cut = fnnexp.at_equal(runs, curves, "updates")
    found = cut.groupby(comparisons.levels(cut)["batching"], observed=True)["epoch"].first().to_dict()
    assert found == {"full": 8, "mini size=128": 1, "mini size=500": 4}


# The section


def shown(section):
    """Return the rows of its table, each by its head."""
    tables = [block for block in section.blocks if isinstance(block, Table)]
    return [
        dict(zip(table.head, (c.text for c in row), strict=True)) for table in tables for row in table.rows
    ]


def test_the_report_compares_at_equal_epochs_updates_and_seconds_each_with_its_own_family():
    runs, curves = trials()
    section = equal_cost.section(runs, curves)
    rows = {row["at equal"]: row for row in shown(section)}
    assert list(rows) == list(budgets.UNITS)
    figures = {
        "epochs": ({"full": "4", "mini": "4"}, {"full": "4", "mini": "4"}),
        "updates": ({"full": "20", "mini": "2"}, {"full": "20", "mini": "16"}),
        "seconds": ({"full": "12", "mini": "4"}, {"full": "5.94–6.06", "mini": "5.94–6.06"}),
    }
    for unit, (epochs, cost) in figures.items():
        row, cut = rows[unit], fnnexp.at_equal(runs, curves, unit)
        values = [cut[cut["batching"] == row[side]].sort_values("seed") for side in ("better", "than")]
        x, y = (each["val_accuracy"].to_numpy() for each in values)
        test = stats.ttest_rel(x, y)
        ends = " to ".join(f"{100 * end:.2f}" for end in test.confidence_interval())
        assert row["points"] == f"{100 * (x - y).mean():.2f}"
        assert row["95% interval"] == ends.replace("-", "−")
        assert row["Holm p"] == f"{test.pvalue:.3g}".replace(
            "-", "−"
        )  # of one pair, whatever the other two units say
        assert row["epochs"] == f"{epochs[row['better']]} and {epochs[row['than']]}"
        assert row["cost"] == f"{cost[row['better']]} and {cost[row['than']]}"
        lead = f"At equal {unit} {row['better']} leads: it is better than {row['than']} (by {row['points']} "
        assert sum(lead in sentence for sentence in section.sentences) == (row["verdict"] == "better")
    assert section.sentences[0] == "Updates in an epoch: 1 with full, 8 with mini."
    assert {rows["epochs"]["better"], rows["updates"]["better"]} == {"full", "mini"}  # they do not agree
    data = section.data["equal_cost"]
    assert data["at_equal"].tolist() == list(budgets.UNITS)
    assert data["family"].tolist() == [1, 1, 1]
    assert section.data["budgets"]["budget"].tolist() == [4, 4, 20, 20, pytest.approx(6), pytest.approx(6)]


def test_the_report_says_what_can_not_be_compared_and_has_no_such_section_without_a_choice_of_batching():
    runs, curves = trials(epochs={"full": 3, "mini": 2})
    section = equal_cost.section(runs, curves)
    assert {row["at equal"] for row in shown(section)} == {"epochs", "seconds"}
    assert [sentence for sentence in section.sentences if "can't be compared" in sentence] == [
        "At equal updates mini can't be compared: its first epoch ends after 8 updates, and full was trained "
        "for 3 updates (3 epochs; 8 epochs would do)."
    ]
    assert equal_cost.section(runs[runs["batching"] == "mini"], curves).blocks == []
    section = equal_cost.section(runs[runs["seed"] == 0], curves)
    assert "not told apart from" in " ".join(section.sentences)
    assert "points, in one seed)" in " ".join(section.sentences)


@pytest.mark.parametrize("module", [budgets, equal_cost])
def test_the_examples_run(module):
    assert doctest.testmod(module).failed == 0
