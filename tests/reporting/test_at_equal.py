"""Trials cut at equal cost, and what a report says of them, compared with values computed by hand."""

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
from fnnexp.reporting import at_equal as budgets
from fnnexp.reporting.document.blocks import Table
from fnnexp.reporting.sections.by_factor import equal_cost
from fnnexp.results import comparisons
from fnnexp.tracking.run_format import METRICS

ROWS, SIZE = 1000, 128  # eight updates per epoch, the last with 104 rows
EPOCHS = {"full": 20, "mini": 4}
SECONDS = {"full": 0.5, "mini": 1.5}


def accuracy(arch, mode, seed, epoch):
    """Return an invented validation accuracy that rises up to epoch 3 and then falls; no two are equal."""
    level = {"full": 0.6, "mini": 0.5}[mode] + 0.1 * (arch == "tanh_128")
    return level + 0.02 * min(epoch, 6 - epoch) + 0.001 * seed * epoch + 0.003 * seed**2 * (mode == "mini")


def trials(epochs=EPOCHS, seconds=SECONDS, archs=("relu_100",), seeds=3):
    """Return the frames of runs and curves for trials of two batching modes."""
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
                        recorded = value if metric == "val_accuracy" else 0.01 * epoch
                        curves.append({"trial": name, "epoch": epoch, "metric": metric, "value": recorded})
    columns = ["trial", "epoch", "metric", "value"]
    return pd.DataFrame(runs), pd.DataFrame(curves, columns=columns)


def cut_at(runs, curves, unit):
    """Return the frame cut at equal cost, and the epoch of each arch and mode, which all seeds share."""
    cut = fnnexp.at_equal(runs, curves, unit)
    epochs = cut.groupby(["arch", "batching"], observed=True)["epoch"].agg(["min", "max"])
    assert (epochs["min"] == epochs["max"]).all()
    return cut, epochs["max"].to_dict()


@pytest.mark.parametrize(
    ("unit", "full", "mini"),
    [("epochs", 4, 4), ("updates", 20, 2), ("seconds", 12, 4)],
    # 20 epochs of full are 20 updates or 10 s; 4 epochs of mini are 32 updates or 6 s.
)
def test_each_mode_is_cut_at_its_last_epoch_within_the_cost_of_the_least_trained_mode(unit, full, mini):
    runs, curves = trials()
    cut, epochs = cut_at(runs, curves, unit)
    assert epochs == {("relu_100", "full"): full, ("relu_100", "mini"): mini}
    assert len(cut) == len(runs)
    for row in cut.to_dict("records"):
        arch, mode, seed, epoch = (row[key] for key in ("arch", "batching", "seed", "epoch"))
        points = [accuracy(arch, mode, seed, e) for e in range(1, epoch + 1)]
        assert row["val_accuracy"] == points[-1]
        assert (row["best_val_accuracy"], row["best_val_epoch"]) == (max(points), np.argmax(points) + 1)
        assert {row[metric] for metric in METRICS} == {points[-1], 0.01 * epoch}
        cost = {"epochs": 1, "updates": 8 if mode == "mini" else 1}
        cost["seconds"] = SECONDS[mode] * (1 + 0.01 * (seed - 1))
        assert row["spent"] == pytest.approx(epoch * cost[unit])
        assert row["epochs"] == EPOCHS[mode]  # the trial's configuration does not change


@pytest.mark.parametrize("unit", budgets.UNITS)
def test_the_metrics_at_the_cut_epochs_are_compared(unit):
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


def test_trials_with_equal_epochs_are_not_changed_at_equal_epochs():
    runs, curves = trials(epochs={"full": 4, "mini": 4})
    cut = fnnexp.at_equal(runs, curves, "epochs")
    pd.testing.assert_frame_equal(fnnexp.compare(cut, "batching"), fnnexp.compare(runs, "batching"))


def test_each_combination_of_the_other_factors_has_its_own_budget():
    runs, curves = trials(archs=("relu_100", "tanh_128"))
    slow = (runs["arch"] == "tanh_128") & (runs["batching"] == "mini")
    runs["seconds_per_epoch"] *= np.where(slow, 2, 1)  # 12 s, so full costs least with 10 s
    _, epochs = cut_at(runs, curves, "seconds")
    relu = {("relu_100", "full"): 12, ("relu_100", "mini"): 4}
    assert epochs == relu | {("tanh_128", "full"): 20, ("tanh_128", "mini"): 3}
    _, alone = cut_at(runs[runs["arch"] == "relu_100"], curves, "seconds")
    assert alone == relu


def test_row_order_and_curves_of_other_trials_do_not_matter():
    runs, curves = trials(archs=("relu_100", "tanh_128"))
    subset = runs[runs["arch"] == "relu_100"]
    expected = fnnexp.at_equal(subset, curves[curves["trial"].isin(subset["trial"])], "updates")
    mixed = subset.sample(frac=1, random_state=0), pd.concat([curves, curves]).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(fnnexp.at_equal(*mixed, "updates"), expected)


def test_trials_that_did_not_finish_are_not_changed():
    runs, curves = trials()
    diverged = runs["trial"] == "relu_100-full-s1"
    runs.loc[diverged, ["status", "val_accuracy"]] = ["diverged", 0.125]
    curves = curves[(curves["trial"] != "relu_100-full-s1") | (curves["epoch"] < 3)]
    cut, epochs = cut_at(runs, curves, "updates")
    assert epochs["relu_100", "full"] == 20
    unchanged = cut[cut["status"] == "diverged"].iloc[0]
    assert (unchanged["val_accuracy"], unchanged["epoch"] is pd.NA) == (0.125, True)
    assert fnnexp.compare(cut, "batching")["seeds"].tolist() == [2]


def test_a_seed_that_stopped_early_sets_the_budget_of_its_mode():
    """All seeds of a mode are cut at the same epoch, which each of them has."""
    runs, curves = trials()
    runs["stopped_epoch"] = pd.Series(pd.NA, runs.index, "Int64").mask(runs["trial"] == "relu_100-mini-s1", 3)
    curves = curves[(curves["trial"] != "relu_100-mini-s1") | (curves["epoch"] <= 3)]
    for unit, full, mini in (("epochs", 3, 3), ("updates", 20, 2), ("seconds", 9, 3)):
        cut, epochs = cut_at(runs, curves, unit)
        assert epochs == {("relu_100", "full"): full, ("relu_100", "mini"): mini}
        for row in cut.to_dict("records"):
            assert row["val_accuracy"] == accuracy("relu_100", row["batching"], row["seed"], row["epoch"])


def test_a_mode_without_an_epoch_within_the_budget_is_omitted_with_a_reason():
    runs, curves = trials(epochs={"full": 3, "mini": 2})
    reason = (
        "At equal updates mini can't be compared: its first epoch takes 8 updates, but full was trained for "
        "only 3 updates (3 epochs; 8 epochs would be enough)."
    )
    cut, costs = budgets.cut_at_equal_cost(runs, curves, "updates")
    assert (set(cut["batching"]), budgets.omitted_modes(costs, "updates")) == ({"full"}, [reason])
    with pytest.raises(FnnexpError) as error:
        fnnexp.at_equal(runs, curves, "updates")
    assert str(error.value) == reason
    # Three epochs of full take as long as one of mini, except where mini takes twice as long.
    runs, curves = trials(epochs={"full": 3, "mini": 2}, archs=("relu_100", "tanh_128"))
    slow = (runs["arch"] == "tanh_128") & (runs["batching"] == "mini")
    runs["seconds_per_epoch"] *= np.where(slow, 2, 1)
    cut, epochs = cut_at(runs, curves, "seconds")
    assert epochs == {("relu_100", "full"): 3, ("relu_100", "mini"): 1, ("tanh_128", "full"): 3}
    assert cut.attrs["about"] == (
        "At equal seconds mini can't be compared in 1 of 2 combinations of arch: its first epoch takes 3 s, "
        "but full was trained for only 1.5 s (3 epochs; 6 epochs would be enough)."
    )
    assert fnnexp.compare(cut, "batching")["cells"].tolist() == [1]


def test_an_unknown_cost_of_an_epoch_is_reported():
    runs, curves = trials()
    old = runs.drop(columns="train_images")  # as for runs of an older version
    with pytest.raises(FnnexpError, match="mini can't be compared: how many it made is unknown, because"):
        fnnexp.at_equal(old, curves, "updates")
    assert budgets.cost_of_an_epoch(old, "updates").dropna().tolist() == [1, 1, 1]  # full needs no count
    untimed = runs.assign(seconds_per_epoch=math.nan)
    with pytest.raises(FnnexpError, match="full can't be compared: how long its epochs took is not recorded"):
        fnnexp.at_equal(untimed, curves, "seconds")
    with pytest.raises(FnnexpError, match="mini can't be compared: the curves contain none of its epochs"):
        fnnexp.at_equal(runs, curves[curves["trial"].str.contains("full")], "updates")


@pytest.mark.parametrize(("mode", "size"), [("full", None), ("mini", 128), ("mini", 5000), ("sample", None)])
def test_the_updates_of_an_epoch_are_the_steps_of_the_optimizer(mode, size, store, monkeypatch):
    steps, momentum = [], OPTIMIZERS["momentum"]

    def update(theta, grad, slots, step, hyper):
        steps.append(step)
        momentum.update(theta, grad, slots, step, hyper)

    monkeypatch.setitem(OPTIMIZERS, "momentum", replace(momentum, update=update))
    sizes = {"batching.size": size} if size else {}
    settings = {"data": "digits", "data.validation": 1000, "optimizer": "momentum", "execution.n_jobs": 1}
    runs = fnnexp.sweep(batching=mode, epochs=1, **settings, **sizes)
    assert runs["train_images"].tolist() == [437]
    assert budgets.cost_of_an_epoch(runs, "updates").tolist() == [max(steps)]
    assert max(steps) == len(list(slices(437, {"full": 437, "sample": 1}.get(mode, size))))


def test_an_unknown_unit_or_trials_without_modes_to_compare_are_refused():
    runs, curves = trials()
    with pytest.raises(FnnexpError, match=r"write one of epochs, updates, seconds\. Did you mean 'updates'"):
        fnnexp.at_equal(runs, curves, "update")
    with pytest.raises(FnnexpError, match=r"batching does not vary in these 3 trials.*full,mini"):
        fnnexp.at_equal(runs[runs["batching"] == "full"], curves, "updates")
    with pytest.raises(FnnexpError, match="no two batching modes have a finished trial"):
        fnnexp.at_equal(runs.assign(status="failed"), curves, "updates")
    assert not budgets.batching_varies(runs[:0])


def test_two_batch_sizes_are_two_modes():
    runs, curves = trials()
    other, points = trials(epochs={"mini": 4})
    other["batching.size"] = 500  # two updates an epoch
    for frame in (other, points):
        frame["trial"] = "500-" + frame["trial"]
    runs, curves = pd.concat([runs, other]), pd.concat([curves, points])
    cut = fnnexp.at_equal(runs, curves, "updates")
    epochs = cut.groupby(comparisons.levels(cut)["batching"], observed=True)["epoch"].first().to_dict()
    assert epochs == {"full": 8, "mini size=128": 1, "mini size=500": 4}


# The section of the report


def rows_of(section):
    """Return the rows of a section's tables as dictionaries."""
    tables = [block for block in section.blocks if isinstance(block, Table)]
    return [
        dict(zip(table.head, (c.text for c in row), strict=True)) for table in tables for row in table.rows
    ]


def test_the_report_compares_at_equal_epochs_updates_and_seconds_as_separate_questions():
    runs, curves = trials()
    section = equal_cost.section(runs, curves)
    rows = {row["at equal"]: row for row in rows_of(section)}
    assert list(rows) == list(budgets.UNITS)
    figures = {
        "epochs": ({"full": "4", "mini": "4"}, {"full": "4", "mini": "4"}),
        "updates": ({"full": "20", "mini": "2"}, {"full": "20", "mini": "16"}),
        "seconds": ({"full": "12", "mini": "4"}, {"full": "5.94–6.06", "mini": "5.94–6.06"}),
    }
    for unit, (epochs, cost) in figures.items():
        row, cut = rows[unit], fnnexp.at_equal(runs, curves, unit)
        values = [cut[cut["batching"] == row[side]].sort_values("seed") for side in ("better", "than")]
        x, y = (trials_of_mode["val_accuracy"].to_numpy() for trials_of_mode in values)
        test = stats.ttest_rel(x, y)
        ends = " to ".join(f"{100 * end:.2f}" for end in test.confidence_interval())
        assert row["points"] == f"{100 * (x - y).mean():.2f}"
        assert row["95% interval"] == ends.replace("-", "−")
        assert row["Holm p"] == f"{test.pvalue:.3g}".replace(
            "-", "−"
        )  # of one pair, whatever the other two units say
        assert row["epochs"] == f"{epochs[row['better']]} and {epochs[row['than']]}"
        assert row["cost"] == f"{cost[row['better']]} and {cost[row['than']]}"
        lead = f"At equal {unit}, {row['better']} leads: it is better than {row['than']} (by {row['points']} "
        assert sum(lead in sentence for sentence in section.sentences) == (row["verdict"] == "better")
    assert section.sentences[0] == "Updates per epoch: 1 with full, 8 with mini."
    assert {rows["epochs"]["better"], rows["updates"]["better"]} == {"full", "mini"}  # the units disagree
    data = section.data["equal_cost"]
    assert data["at_equal"].tolist() == list(budgets.UNITS)
    assert data["family"].tolist() == [1, 1, 1]
    assert section.data["budgets"]["budget"].tolist() == [4, 4, 20, 20, pytest.approx(6), pytest.approx(6)]


def test_the_report_says_which_modes_cannot_be_compared_and_omits_the_section_for_one_mode():
    runs, curves = trials(epochs={"full": 3, "mini": 2})
    section = equal_cost.section(runs, curves)
    assert {row["at equal"] for row in rows_of(section)} == {"epochs", "seconds"}
    assert [sentence for sentence in section.sentences if "can't be compared" in sentence] == [
        "At equal updates mini can't be compared: its first epoch takes 8 updates, but full was trained for "
        "only 3 updates (3 epochs; 8 epochs would be enough)."
    ]
    assert equal_cost.section(runs[runs["batching"] == "mini"], curves).blocks == []
    section = equal_cost.section(runs[runs["seed"] == 0], curves)
    assert "cannot be told apart from" in " ".join(section.sentences)
    assert "points, in one seed)" in " ".join(section.sentences)
