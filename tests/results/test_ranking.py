"""Which metrics can rank trials, and the time to a level, computed by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_comparisons import grid

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.reporting.sections import mistakes, overview, pairs, summary
from fnnexp.results import comparisons, ranking
from fnnexp.results.ranking import Ranking


def test_validation_accuracy_ranks_if_all_trials_held_out_rows_else_test_accuracy():
    runs = grid(2)
    assert ranking.ranking_of(runs) == Ranking("val_accuracy", 0.2)
    assert ranking.ranking_of(runs.assign(val_accuracy=np.nan)) == Ranking("test_accuracy", 0.2)


@pytest.mark.parametrize("metric", ranking.NAMES)
def test_any_loss_or_accuracy_can_rank_and_a_loss_has_no_default_margin(metric):
    runs = grid(2).assign(best_val_accuracy=0.75)
    ranked_by = ranking.ranking_of(runs, metric)
    more_is_better = metric.endswith("accuracy")
    assert ranked_by == Ranking(metric, 0.2 if more_is_better else None)
    assert (ranked_by.scale, ranked_by.unit) == ((100, "points") if more_is_better else (1, ""))
    better, worse = (0.75, 0.25) if more_is_better else (0.25, 0.75)
    values = ranked_by.goodness(pd.Series([better, worse]))
    assert values[0] > values[1]
    assert ranking.ranking_of(runs, metric, 0.5).limit == (0.005 if more_is_better else 0.5)
    assert math.isnan(ranked_by.limit) == (not more_is_better)


WRONG = {
    "val_los": r"metric='val_los' cannot rank trials; write val_accuracy, val_loss, .* or seconds_to_0\.95\. "
    "Did you mean 'val_loss'",
    "seconds_to_95": "metric='seconds_to_95' cannot rank trials",
    "arch": "metric='arch' cannot rank trials",
    "seconds_to_.9": r"these runs have no such column; write fnnexp\.seconds_to\(runs, curves, 0\.9\)",
    "best_val_accuracy": "these runs have no such column; write val_accuracy, ",
    "val_loss": "none of 24 finished trials has it; they have val_accuracy, test_accuracy, test_loss, tr",
}


@pytest.mark.parametrize("metric", WRONG)
def test_a_metric_that_cannot_rank_is_refused_with_suggestions(metric):
    runs = grid(2).assign(val_loss=np.nan)
    with pytest.raises(FnnexpError, match=WRONG[metric]):
        ranking.ranking_of(runs, metric)


def test_a_ranking_by_the_losses_of_different_losses_is_called_meaningless():
    runs = grid(2)
    half = np.arange(len(runs)) % 2 == 0
    mixed = runs.assign(loss=np.where(half, "cross_entropy", "mse"))
    smoothed = runs.assign(**{"loss.label_smoothing": np.where(half, 0.0, 0.1)})
    for different in (mixed, smoothed):
        note = ranking.different_losses_note(different, Ranking("train_loss"))
        assert "The train_loss of a trial is measured with its own loss" in note
        assert "rank by train_accuracy" in note
        assert note in summary.caveats(different, comparisons.findings(different, Ranking("train_loss")))
        assert not ranking.different_losses_note(different, Ranking("train_accuracy"))
    one = mixed.assign(status=np.where(half, "finished", "failed"))
    measured = runs.assign(loss=np.linspace(0, 1, len(runs)))  # a user's own column, not an option
    for same in (runs, runs.assign(loss="mse"), one, measured):
        assert not ranking.different_losses_note(same, Ranking("train_loss"))


@pytest.mark.parametrize("margin", [0, -1, math.nan])
def test_a_margin_of_0_or_less_is_refused(margin):
    with pytest.raises(FnnexpError, match=r"write percentage points above 0: margin=0\.2"):
        ranking.ranking_of(grid(2), margin=margin)
    with pytest.raises(FnnexpError, match=r"write a number above 0$"):
        ranking.ranking_of(grid(2), "test_loss", margin)


def curves_of(runs, values, metric="val_accuracy"):
    """Return curves in which each trial has these values at epochs 1, 2, …."""
    points = pd.DataFrame({"epoch": range(1, len(values) + 1), "value": values})
    return runs[["trial"]].merge(points, how="cross").assign(metric=metric)


def test_the_time_to_a_level_ends_with_the_first_epoch_at_or_above_it():
    runs = grid(2)
    first, rest = runs[:1], runs[1:]
    curves = pd.concat([curves_of(first, [0.5, 0.875, 0.75, 0.875]), curves_of(rest, [0.5, 0.25])])
    timed = fnnexp.seconds_to(runs, curves, 0.875)
    assert timed["seconds_to_0.875"].iloc[0] == 2 * runs["seconds_per_epoch"].iloc[0]
    assert timed["seconds_to_0.875"].iloc[1:].isna().all()
    assert fnnexp.seconds_to(runs, curves, 0.5)["seconds_to_0.5"].tolist() == list(runs["seconds_per_epoch"])
    ranked_by = ranking.ranking_of(timed, "seconds_to_0.8750")
    assert (ranked_by, ranked_by.unit) == (Ranking("seconds_to_0.875"), "s")
    assert ranking.missing_values_note(timed, ranked_by).startswith(
        "23 of 24 finished trials never reached it"
    )
    assert ranking.missing_values_note(runs, ranking.ranking_of(runs)) == ""
    assert list(timed.columns) == [*runs.columns, "seconds_to_0.875"]
    # If some trials held out no rows, it is test accuracy.
    without_validation = runs.assign(val_accuracy=np.nan)
    curves = pd.concat([curves, curves_of(runs, [0.1, 0.2, 0.9], "test_accuracy")])
    seconds = fnnexp.seconds_to(without_validation, curves, 0.875)["seconds_to_0.875"]
    assert seconds.tolist() == pytest.approx((3 * runs["seconds_per_epoch"]).tolist())


@pytest.mark.parametrize(
    ("level", "written"), [(95, r"0\.95"), (0, r"0\.95"), (-1, r"0\.95"), (97.5, r"0\.975")]
)
def test_a_level_outside_0_to_1_is_refused(level, written):
    runs = grid(2)
    with pytest.raises(FnnexpError, match=f"must be an accuracy, .* from 0 to 1; write level={written}$"):
        fnnexp.seconds_to(runs, curves_of(runs, [0.5]), level)


# Comparisons by other metrics


def with_losses(seeds=6):
    """Return a grid whose losses rank options differently than its accuracies: `he` has the highest loss."""
    runs = grid(seeds)
    noise = dict(zip(runs["name"], 0.01 * np.random.default_rng(5).normal(size=len(runs)), strict=True))
    twins = runs["name"].str.replace("xavier", "sqrtmax")
    runs["val_loss"] = 0.5 + 0.25 * (runs["init"] == "he") + twins.map(noise)
    return runs


def test_the_lower_loss_is_better():
    runs = with_losses()
    pair = fnnexp.compare(runs, "init", metric="val_loss").iloc[0]
    assert (pair["a"], pair["b"]) == ("sqrtmax = xavier", "he")
    by_init = {
        init: trials.groupby("seed")["val_loss"].mean()
        for init, trials in runs.groupby("init", observed=True)
    }
    d = (by_init["he"] - by_init["sqrtmax"]).to_numpy()
    test = stats.ttest_1samp(d, 0)
    assert pair["difference"] == pytest.approx(d.mean())
    assert (pair["low"], pair["high"]) == pytest.approx(test.confidence_interval())
    assert (pair["p"], pair["ahead"], pair["probability"]) == (pytest.approx(test.pvalue), 6, 1)
    assert (pair["test"], pair["verdict"]) == ("t", "better")  # by their accuracy, all trials learned
    best = fnnexp.compare(runs, metric="val_loss")["a"].iloc[0]
    means = runs.groupby(["arch", "init", "batching"], observed=True)["val_loss"].mean()
    assert best.replace(" = xavier", "") == " ".join(means.idxmin())


def test_a_loss_has_no_equivalent_options_without_a_margin():
    runs = with_losses()
    runs["val_loss"] = 0.5 + 0.001 * np.random.default_rng(3).normal(size=len(runs))
    pair = fnnexp.compare(runs, "batching", metric="val_loss").iloc[0]
    assert math.isnan(pair["p_equivalent"])
    assert pair["verdict"] != "equivalent"
    assert fnnexp.compare(runs, "batching", metric="val_loss", margin=0.01)["verdict"].item() == "equivalent"


def test_shares_divide_the_variance_of_the_ranking_metric():
    runs = with_losses()
    assert fnnexp.shares(runs, metric="val_loss")["effect"].iloc[0] == "init"
    assert fnnexp.shares(runs)["effect"].iloc[0] == "batching"


def test_a_trial_that_never_reached_the_level_is_not_in_any_pair():
    runs = grid(6)
    full = runs["batching"] == "full"
    curves = pd.concat([curves_of(runs[full], [0.5, 0.75]), curves_of(runs[~full], [0.75])])
    never = runs["name"] == "tanh_128-he-mini-s0"
    curves.loc[curves["trial"].isin(runs["name"][never]), "value"] = 0.5
    timed = fnnexp.seconds_to(runs, curves, 0.75)
    subset = timed[(timed["arch"] == "tanh_128") & (timed["init"] == "he")]
    pair = fnnexp.compare(subset, "batching", metric="seconds_to_0.75").iloc[0]
    # Full needs two epochs of 0.1 s, mini one of 0.3 s; one seed of mini never reaches the level.
    assert (pair["a"], pair["b"], pair["seeds"]) == ("full", "mini", 5)
    assert pair["difference"] == pytest.approx(0.1)


def test_the_metric_of_all_trials_ranks_each_configuration():
    """A configuration whose trials all held out rows is still ranked by test accuracy, like the others."""
    runs = grid(2)
    without = (runs["init"] == "he") & (runs["seed"] == 0)
    runs.loc[without, ["val_accuracy", "data.validation"]] = [np.nan, 0]
    runs["test_accuracy"] = 0.19  # below twice the accuracy of guessing, so all trials failed to learn
    assert all(configuration.failed.all() for configuration in comparisons.configurations(runs))


# Reports by other metrics


def test_the_leaderboard_and_the_answer_use_the_unit_of_the_ranking_metric():
    runs = with_losses()
    board = fnnexp.leaderboard(runs, metric="val_loss")
    means = runs.groupby(["arch", "init", "batching"], observed=True)["val_loss"].mean()
    assert board["val_loss"].tolist() == pytest.approx(sorted(means))
    answer = fnnexp.answer(runs, metric="val_loss")
    best = comparisons.configurations(runs, Ranking("val_loss"))[0].name
    assert f"{best} leads with {means.min():.4f} val_loss (95% interval " in answer
    nearest = fnnexp.compare(runs, metric="val_loss").iloc[0]
    ends = f"{nearest['low']:.4f} to {nearest['high']:.4f}".replace("-", "−")
    assert f"{nearest['difference']:.4f} ahead of {nearest['b']} (95% interval {ends}; ahead in " in answer
    assert "optimistic" not in answer
    assert "chosen on the test images" in fnnexp.answer(runs, metric="test_loss")
    table = pairs.options(comparisons.findings(runs, Ranking("val_loss", 0.25)))
    assert table.head[3] == "ahead by"
    findings = comparisons.findings(runs, Ranking("val_loss", 0.25))
    note = pairs.note(findings)
    assert "put the difference within ±0.25." in note
    assert "no margin was given" in pairs.note(findings._replace(ranking=Ranking("val_loss")))
    assert "in percentage points." in pairs.note(findings._replace(ranking=ranking.ACCURACY))
    marks = {cell.text[-1:] for row in table.rows for cell in row}
    assert [mark in marks for mark in "±*?"] == [mark in note for mark in ("±: ", "*: ", "; ? means")]
    assert mistakes.best_trial(runs, comparisons.findings(runs, Ranking("val_loss")))["val_loss"] == (
        comparisons.configurations(runs, Ranking("val_loss"))[0].metric.min()
    )


BASES = {
    None: "Ranked by val_accuracy, on rows held out of training: the mean over seeds at the last epoch",
    "val_loss": "Ranked by val_loss, as requested (lower is better): ",
    "test_loss": "Choosing on test data is optimistic",
    "train_accuracy": "It is measured on the training images",
    "best_val_accuracy": "The best epoch was chosen by its result",
    "seconds_to_0.75": "12 of 24 finished trials never reached it",
}


@pytest.mark.parametrize("metric", BASES)
def test_the_report_says_which_metric_ranks_and_why_to_doubt_it(metric):
    runs = with_losses(2).assign(best_val_accuracy=0.75)
    runs = fnnexp.seconds_to(runs, curves_of(runs[runs["batching"] == "mini"], [0.75]), 0.75)
    assert BASES[metric] in overview.basis(runs, ranking.ranking_of(runs, metric))


def test_seeds_that_never_reached_the_level_are_not_in_any_mean():
    runs = grid(3)
    curves = curves_of(runs[runs["seed"] < 2], [0.75])
    timed = fnnexp.seconds_to(runs, curves[~curves["trial"].str.contains("-he-mini-")], 0.75)
    board = fnnexp.leaderboard(timed, metric="seconds_to_0.75").set_index(["arch", "init", "batching"])
    assert set(board["seeds"]) == {2, 0}
    assert board.loc[("relu_100", "xavier", "full"), "seconds_to_0.75"] == pytest.approx(0.1)
    assert board["seconds_to_0.75"].iloc[-2:].isna().all()
    findings = comparisons.findings(timed, Ranking("seconds_to_0.75"))
    expected = (
        "leads with 0.1 s seconds_to_0.75, the same in all 2 seeds; 1 of its 3 trials did not finish or never"
    )
    assert expected in " ".join(summary.sentences(timed, findings))
    assert "2 of 8 configurations never reached the level: " in " ".join(summary.sentences(timed, findings))


def test_times_are_compared_without_a_test():
    """Trials of one stack share a clock, so their times are not independent."""
    runs = grid(6)
    timed = fnnexp.seconds_to(runs, curves_of(runs, [0.75]), 0.75)
    pairs = fnnexp.compare(timed, "batching", metric="seconds_to_0.75", margin=1)
    assert pairs[["a", "b", "test", "verdict", "seeds"]].to_numpy().tolist() == [
        ["full", "mini", "none", "open", 6]
    ]
    assert pairs["difference"].tolist() == pytest.approx([0.2])
    untested = ["low", "high", "p", "p_sign_flip", "p_corrected", "p_equivalent", "seeds_needed"]
    assert pairs[untested].isna().all(axis=None)
    cell = timed[(timed["init"] == "he") & (timed["arch"] == "relu_100")]
    answer = fnnexp.answer(cell, metric="seconds_to_0.75")
    assert answer.startswith(
        "full is the fastest of 2 batching modes: 0.2 s ahead of mini (ahead in 6 of 6 seeds). Times"
    )
    assert "Times are not tested" in answer


@pytest.mark.usefixtures("blank_figures")
def test_a_report_is_ranked_by_the_metric_of_the_command_line(invoke, tmp_path):
    sweep = ("-m", "data=digits", "data.validation=200", "init=he,max", "batching=full,mini", "seed=0,1")
    assert invoke(*sweep, "epochs=2", "execution.n_jobs=1", cwd=tmp_path).status == 0
    for metric, margin in (("val_loss", "0.25"), ("seconds_to_0.2", "1")):
        report = invoke(
            "report", "digits", "--metric", metric, "--margin", margin, "--folder", "out", cwd=tmp_path
        )
        assert (report.status, f"digits by {metric}" in report.out) == (0, True)
        assert "In MLflow:" not in report.out
        page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
        assert f"Ranked by {metric}, as requested (lower is better)" in page.replace("\\", "")
        assert page.splitlines()[0].replace("\\", "") == f"# digits by {metric}"
        assert f"report digits --metric {metric} --margin {margin} --folder out" in page
        runs = pd.read_csv(tmp_path / "out" / "runs.csv")
        board = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
        means = runs.groupby(["init", "batching"])[metric].mean()
        assert board[metric].tolist() == pytest.approx(sorted(means))
        pair = pd.read_csv(tmp_path / "out" / "leader.csv").iloc[0]
        assert means[tuple(pair["a"].split())] == pytest.approx(means.min())
        assert pair["difference"] == pytest.approx(means[tuple(pair["b"].split())] - means.min())
    wrong = invoke("report", "digits", "--metric", "val_los", cwd=tmp_path)
    assert wrong.status == 2
    assert "Did you mean 'val_loss'?" in wrong.err
