"""What six real MNIST seeds settle, compared with forty other seeds; nothing is trained here."""

import itertools

import numpy as np
import pandas as pd
import pytest
from recorded import recorded
from scipy import stats

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.results import comparisons

MINI = recorded("card_grid_mini")
FULL = recorded("card_grid_full")
ARCHS = ("relu_100", "tanh_128", "sigmoid_32_32")
BOTH = "sqrtmax = xavier"
TRUTH = {
    ("relu_100", "he", "max"): (1.62, 0.17),
    ("relu_100", "he", BOTH): (0.67, 0.14),
    ("tanh_128", "he", "max"): (1.17, 0.18),
    ("tanh_128", "he", BOTH): (0.76, 0.16),
    ("tanh_128", BOTH, "max"): (0.41, 0.14),
    ("sigmoid_32_32", "he", "max"): (79.7, 3.2),
    ("sigmoid_32_32", "he", BOTH): (4.76, 1.00),
}
"""The difference of two initializers over forty other seeds, in points, and its standard deviation."""


def cell(runs, arch):
    return runs[runs["arch"] == arch]


def count_correct(runs, arch, init):
    """Return how many of the 5,000 validation images each seed classified correctly."""
    selected = runs[(runs["arch"] == arch) & (runs["init"] == init)].set_index("seed").sort_index()
    return (selected["val_accuracy"] * 5000).round().astype(int).to_numpy()


@pytest.mark.parametrize("arch", ARCHS)
def test_six_seeds_settle_all_pairs_and_agree_with_forty(arch):
    """The sign-flip test leaves these nine pairs open, because six seeds have only 64 sign patterns."""
    pairs = fnnexp.compare(cell(MINI, arch), "init").set_index(["a", "b"])
    assert set(pairs.index) == {("he", "max"), ("he", BOTH), (BOTH, "max")}
    for (a, b), row in pairs.iterrows():
        assert (row["verdict"], row["test"], row["family"]) == ("better", "t", 3)
        assert (row["ahead"], row["seeds"]) == (6, 6)
        assert pd.isna(row["seeds_needed"])
        assert 3 * row["p_sign_flip"] > 0.05
        if (arch, a, b) in TRUTH:
            mean, deviation = TRUTH[arch, a, b]
            assert abs(100 * row["difference"] - mean) < 4 * deviation / 6**0.5


def test_six_of_seven_intervals_over_six_seeds_contain_the_mean_of_forty():
    """The seventh, of sigmoid_32_32 with `he` against `max`, starts a point above."""
    covered = []
    for (arch, a, b), (mean, _) in TRUTH.items():
        row = fnnexp.compare(cell(MINI, arch), "init").set_index(["a", "b"]).loc[(a, b)]
        covered.append(100 * row["low"] < mean < 100 * row["high"])
    assert sum(covered) == 6


def test_a_verdict_in_a_cell_does_not_depend_on_other_cells_in_the_frame():
    """The frame has one architecture, or three, or three in two batching modes."""
    columns = list(comparisons.PAIR)
    three = comparisons.in_each_cell(MINI).set_index("arch")
    six = comparisons.in_each_cell(pd.concat([MINI, FULL])).set_index(["arch", "batching"])
    for arch, mode in itertools.product(ARCHS, ("mini", "full")):
        row = six.loc[(arch, mode)]
        pairs = fnnexp.compare(cell(MINI if mode == "mini" else FULL, arch), "init")
        alone = pairs.set_index(["a", "b"]).loc[(row["a"], row["b"])]
        pd.testing.assert_series_equal(row[columns], alone[columns], check_names=False, check_exact=True)
        if mode == "mini":
            mine = three.loc[arch, columns]
            pd.testing.assert_series_equal(mine, alone[columns], check_names=False, check_exact=True)


@pytest.mark.parametrize("runs", [MINI, FULL], ids=["mini", "full"])
def test_the_best_of_a_cell_has_the_most_correct_images(runs):
    for row in comparisons.in_each_cell(runs).to_dict("records"):
        correct = {init: count_correct(runs, row["arch"], init) for init in ("max", "sqrtmax", "he")}
        ranked = sorted(correct, key=lambda init: -correct[init].sum())
        assert [row["a"], row["b"]] == [init.replace("sqrtmax", BOTH) for init in ranked[:2]]
        assert row["ahead"] == (correct[ranked[0]] > correct[ranked[1]]).sum()


@pytest.mark.parametrize(
    ("margin", "verdicts"),
    [
        (0.2, ("better", "better", "better")),
        (1.0, ("equivalent", "better", "better")),
        (1.5, ("equivalent", "better", "equivalent")),
        (2.0, ("equivalent", "equivalent", "equivalent")),
    ],
)
def test_a_margin_wider_than_the_interval_makes_options_equivalent(margin, verdicts):
    pairs = fnnexp.compare(cell(MINI, "relu_100"), "init", margin=margin).set_index(["a", "b"])
    for (a, b), expected in zip((("he", BOTH), ("he", "max"), (BOTH, "max")), verdicts, strict=True):
        row = pairs.loc[(a, b)]
        inside = -margin < 100 * row["low"] and 100 * row["high"] < margin
        assert row["verdict"] == expected
        assert (row["verdict"] == "equivalent") == inside


def test_a_tie_is_not_a_win_for_either_option():
    """In three of six seeds neither network changed in three steps, and both have the same images correct."""
    runs = cell(FULL, "sigmoid_32_32")
    row = fnnexp.compare(runs, "init").set_index(["a", "b"]).loc[(BOTH, "max")]
    a, b = (count_correct(FULL, "sigmoid_32_32", init) for init in ("sqrtmax", "max"))
    assert (a == b).sum() == 3
    assert row["ahead"] == (a > b).sum() == 2
    assert row["probability"] == pytest.approx(stats.mannwhitneyu(a, b).statistic / 36)
    assert row["verdict"] == "open"
    same = runs[runs["init"] == "max"]
    twice = pd.concat([same, same.assign(init="mine", trial="mine-" + same["trial"])])
    tie = fnnexp.compare(twice.astype({"init": "category"}), "init").iloc[0]
    assert (tie["difference"], tie["ahead"], tie["probability"]) == (0, 0, 0.5)
    assert (tie["p"], tie["p_equivalent"], tie["verdict"]) == (1, 2**-6, "equivalent")


def test_if_a_network_failed_in_some_seeds_and_the_signs_can_settle_no_pair_t_is_used():
    """After one step on all images, `he` has learned in every seed and each of the others failed in one.

    p of six signs is at least 2/2^6; for three pairs that is above 5%. Two options are one pair.
    """
    runs = recorded("one_step")
    failed = {init: (count_correct(runs, "relu_100", init) < 1000).sum() for init in ("max", "sqrtmax", "he")}
    assert failed == {"max": 1, "sqrtmax": 1, "he": 0}
    pairs = fnnexp.compare(runs, "init").set_index(["a", "b"])
    assert pairs["failed"].to_dict() == {("max", BOTH): 2, ("max", "he"): 1, ("he", BOTH): 1}
    for (a, b), row in pairs.iterrows():
        x, y = (count_correct(runs, "relu_100", option.partition(" ")[0]) for option in (a, b))
        assert (row["test"], row["p"]) == ("t", pytest.approx(stats.ttest_rel(x, y).pvalue))
        assert np.isnan(row["p_equivalent"])
        assert row["verdict"] == "open"
    two = runs[runs["init"].isin(["max", "he"])].assign(identical_to=None)
    pair = fnnexp.compare(two, "init").iloc[0]
    d = count_correct(two, "relu_100", pair["a"]) - count_correct(two, "relu_100", pair["b"])
    as_far = [abs(np.dot(signs, d)) >= abs(d.sum()) for signs in itertools.product((1, -1), repeat=6)]
    assert (pair["test"], pair["p"]) == ("sign flip", np.mean(as_far))


def test_one_seed_of_a_grid_of_learning_rates_settles_nothing():
    runs = recorded("lr_grid")
    assert len(runs) == 15
    for pairs in (fnnexp.compare(runs), fnnexp.compare(runs, "init"), fnnexp.compare(runs, "optimizer.lr")):
        assert set(pairs["verdict"]) == {"open"}
        assert pairs[["probability", "low", "high", "seeds_needed"]].isna().all(axis=None)
    assert fnnexp.shares(runs)["share"].sum() == pytest.approx(1)
    assert fnnexp.shares(runs)["effect"].iloc[0] == "optimizer.lr"


def test_options_are_compared_at_their_own_best_learning_rates():
    runs = recorded("lr_grid")
    best = runs.groupby("init", observed=True)["val_accuracy"].max()
    pairs = fnnexp.compare(runs, "init")
    assert len(pairs) == 3
    for row in pairs.to_dict("records"):
        assert row["difference"] == pytest.approx(best[row["a"]] - best[row["b"]], abs=1e-12)
    leader = fnnexp.compare(runs)
    assert leader["difference"].tolist() == pytest.approx(sorted(best.max() - best)[1:], abs=1e-12)
    rates = fnnexp.compare(runs, "optimizer.lr")  # values of a numeric factor, averaged over other factors
    values = sorted(set(runs["optimizer.lr"]))
    assert len(rates) == len(values) * (len(values) - 1) / 2
    assert {*rates["a"], *rates["b"]} == {f"{value:g}" for value in values}
    with pytest.raises(FnnexpError, match=r"factors that vary are init, optimizer\.lr\. Did you mean 'init'"):
        fnnexp.compare(runs, "inti")
