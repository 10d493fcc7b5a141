"""Reports of grids that are no products: factors that vary together, combinations that were left out, and
trials that were trained for more epochs later."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fnnexp
from fnnexp.reporting.document.blocks import TERMINAL, Text
from fnnexp.reporting.sections import leaderboard, overview, summary
from fnnexp.reporting.sections.by_factor import asked
from fnnexp.results import comparisons, filters, questions
from fnnexp.results.ranking import ranking_of
from fnnexp.tracking.run_format import METRICS

OPTIONS = {"arch": "relu_100", "init": "he", "batching": "mini", "optimizer": "sgd", "data": "digits"}


def frame(*configurations, seeds=6):
    """Return the frame of finished trials; each configuration is better than the one before."""
    rng, rows = np.random.default_rng(5), []
    for number, configuration in enumerate(configurations):
        for seed in range(seeds):
            value = 0.7 + 0.05 * number + 0.004 * rng.normal()
            name = f"{configuration}-{seed}"
            rows.append({
                "trial": name, "name": name, "status": "finished", "identical_to": None, **OPTIONS,
                "optimizer.lr": 0.1, "seed": seed, "epochs": 2, "data.validation": 500, "test_images": 360,
                "seconds_per_epoch": 0.1, "diverged_epoch": None, "error": None,
                **dict.fromkeys(METRICS, 0.5), "val_accuracy": value, "test_accuracy": value, **configuration,
            })  # fmt: skip
    return pd.DataFrame(rows).astype({"seed": "Int64", **dict.fromkeys(OPTIONS, "category")})


RATES = [{"init": init, "optimizer.lr": lr} for init, lr in (("max", 1.0), ("he", 0.1), ("xavier", 0.3))]
TOGETHER = "vary together (he with 0.1, max with 1 and xavier with 0.3), so these trials cannot tell"


def test_the_answer_says_that_the_initializers_have_their_own_learning_rates():
    answer = str(fnnexp.answer(frame(*RATES)))
    begin = (
        "On relu_100 with mini-batches, each with its own optimizer.lr, xavier is the best of 3 initializers"
    )
    assert answer.startswith(begin)
    assert f"init and optimizer.lr {TOGETHER} their effects apart." in answer
    crossed = [{**each, "arch": arch} for arch in ("relu_100", "tanh_128") for each in RATES]
    assert f"init and optimizer.lr {TOGETHER}" in str(fnnexp.answer(frame(*crossed)))


def test_settings_that_several_initializers_share_are_said_to_be_their_own():
    answer = str(fnnexp.answer(frame(*RATES, {"init": "normal", "optimizer.lr": 0.1})))
    assert "each with its own optimizer.lr, normal is the best of 4 initializers" in answer
    assert "vary together" not in answer


def test_default_learning_rates_and_presets_are_no_news():
    batching = [{"batching": "full", "optimizer.lr": 0.5}, {"batching": "mini", "optimizer.lr": 0.1}]
    preset = [{"experiment": "a", "epochs": 3}, {"experiment": "b", "epochs": 4}]
    assert overview.together(frame(*batching)) == overview.together(frame(*preset)) == []
    full = [{"init": init, "optimizer.lr": lr} for init in ("he", "max") for lr in (0.1, 0.2)]
    assert overview.together(frame(*full)) == []


@pytest.mark.parametrize(
    ("keys", "configurations", "names"),
    [
        (
            "arch with init",
            [{"arch": "relu_100", "init": "max"}, {"arch": "tanh_128", "init": "he"}],
            ["relu_100 max", "tanh_128 he"],
        ),
        (
            "batching with optimizer.lr",
            [{"batching.size": 16, "optimizer.lr": 0.2}, {"batching.size": 64, "optimizer.lr": 0.1}],
            ["mini size=16 optimizer.lr=0.2", "mini size=64 optimizer.lr=0.1"],
        ),
        (
            "optimizer with epochs",
            [{"optimizer": "adam", "epochs": 3}, {"optimizer": "sgd", "epochs": 5}],
            ["adam epochs=3", "sgd epochs=5"],
        ),
    ],
)
def test_factors_that_vary_together_are_compared_together(keys, configurations, names):
    runs = frame(*configurations)
    assert list(comparisons.levels(runs).columns) == [keys]
    first, second = (runs.loc[part, "val_accuracy"].to_numpy() for part in np.split(np.arange(len(runs)), 2))
    p = stats.ttest_rel(second, first).pvalue
    for factor in (keys, *keys.split(" with ")):
        (pair,) = fnnexp.compare(runs, factor).to_dict("records")
        assert (pair["a"], pair["b"], pair["seeds"]) == (names[1], names[0], 6)
        assert pair["p"] == pytest.approx(p)
        assert pair["difference"] == pytest.approx((second - first).mean())
    shares = fnnexp.shares(runs).set_index("effect")["share"]
    assert set(shares.index) == {keys, "seed"}
    assert shares.sum() == pytest.approx(1)
    assert f"{names[1]} is the best of 2 configurations" in str(fnnexp.answer(runs))
    (table,) = overview.together(runs)
    assert len(table) == 2


def test_factors_that_only_repeat_are_not_joined():
    seeds = frame({"seed_init": 1, "seed_order": 3}, {"seed_init": 2, "seed_order": 4})
    assert list(comparisons.levels(seeds).columns) == ["seed_init", "seed_order"]


def test_the_answer_says_which_initializers_only_some_combinations_have():
    trained = [("relu_100", "max"), ("relu_100", "he"), ("tanh_128", "max"), ("tanh_128", "xavier")]
    runs = frame(*({"arch": arch, "init": init} for arch, init in trained))
    answer = str(fnnexp.answer(runs))
    assert "Not every initializer was tried in each: xavier only in 1 and he only in 1." in answer
    assert len(comparisons.configurations(runs, ranking_of(runs))) == 4
    full = [{"arch": arch, "init": init} for arch in ("relu_100", "tanh_128") for init in ("max", "he")]
    assert "Not every initializer" not in str(fnnexp.answer(frame(*full)))


SHORT = [{"init": init, "epochs": 2} for init in ("max", "he")]
LONG = [{**each, "epochs": 4} for each in SHORT]


def swept(configurations, at, command):
    """Return the frame of a sweep that began `at` so many seconds; each trial took 9 s."""
    started = pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(seconds=at)
    rows = frame(*configurations).assign(started=started, seconds=9.0, command=f"fnnexp -m {command}")
    return rows.assign(epochs=rows["epochs"].astype("Int64"))


def joined(*frames):
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(init=rows["init"].astype("category"))


def test_trials_that_were_trained_for_more_epochs_later_are_not_compared():
    runs = joined(swept(SHORT, 0, "epochs=2"), swept(LONG, 60, "epochs=4"))
    alone = str(fnnexp.answer(runs[runs["epochs"] == 4].reset_index(drop=True)))
    note = (
        "12 trials of 2 epochs were later trained for 4: only the longer ones are compared; "
        'fnnexp.compare(runs, "epochs") compares both.'
    )
    assert str(fnnexp.answer(runs)) == f"{alone}\n{note}"
    assert fnnexp.leaderboard(runs)["init"].tolist() == ["he", "max"]
    (pair,) = fnnexp.compare(runs, "epochs").itertuples()
    assert ({pair.a, pair.b}, pair.cells) == ({"2", "4"}, 2)
    again = joined(runs, swept([{**each, "epochs": 8} for each in LONG], 200, "epochs=8"))
    assert "24 trials of 2 and 4 epochs were later trained for 8:" in str(fnnexp.answer(again))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((SHORT, 0, "epochs=2,4"), (LONG, 60, "epochs=2,4")),  # one command asked for both
        ((SHORT, 0, "epochs=2"), (LONG, 60, "'epochs=range(2,5,2)'")),
        ((SHORT, 60, "epochs=2"), (LONG, 0, "epochs=4")),  # the shorter ones came later
        ((SHORT, 0, "epochs=2"), (LONG[:1], 60, "epochs=4 init=max")),  # not all went on
        ((SHORT, 0, "epochs=2"), (LONG, 5, "epochs=4")),  # at the same time
    ],
)
def test_numbers_of_epochs_that_were_asked_for_are_compared(first, second):
    runs = joined(swept(*first), swept(*second))
    assert filters.longest(runs) is runs
    assert "epochs" in fnnexp.leaderboard(runs)


def test_an_unfinished_longer_trial_takes_no_place():
    later = swept(LONG, 60, "epochs=4")
    later.loc[0, "status"] = "interrupted"
    runs = joined(swept(SHORT, 0, "epochs=2"), later)
    assert filters.longest(runs) is runs


GRID = [
    {"arch": arch, "init": init, "batching": batching}
    for batching in ("full", "mini")
    for arch in ("relu_100", "tanh_128")
    for init in ("max", "he", "xavier")
]


def test_the_answers_of_the_factors_lead_in_a_whole_grid_of_several():
    """Each configuration of the grid is better than the one before it, by 2 points."""
    runs = frame(*GRID)
    runs[["val_accuracy", "test_accuracy"]] *= 0.4
    init, cells, batching, arch, best, *_ = str(fnnexp.answer(runs)).splitlines()
    assert init.startswith("On average, xavier is the best of 3 initializers: ")
    assert cells.startswith("xavier is the best initializer in each of the 4 combinations")
    assert batching.startswith("On average, mini is the best of 2 batching modes: ")
    assert batching.endswith("mini has the best mean in each of 6 combinations.")
    assert arch.startswith("On average, tanh_128 is the best of 2 architectures: ")
    assert best.startswith("tanh_128 xavier mini is the best of 12 configurations: ")
    assert "On average" not in str(fnnexp.answer(runs[runs.index >= 6]))  # not all were run
    assert "On average" not in str(fnnexp.answer(runs[runs["seed"] == 0]))


def test_the_terminal_and_the_handout_answer_on_every_factor_of_a_grid():
    runs = frame(*GRID)
    runs[["val_accuracy", "test_accuracy"]] *= 0.4
    section = summary.section(*questions.rows_and_findings(runs))
    lines = [block.text for block in section.shown_in(TERMINAL) if isinstance(block, Text)]
    ahead = {
        factor: 100 * runs.groupby(factor, observed=True)["val_accuracy"].mean().diff().iloc[-1]
        for factor in ("batching", "arch")
    }
    assert lines[0] == fnnexp.answer(runs).splitlines()[0]  # the initializers, with their interval
    assert lines[1:3] == [
        f"Best batching mode on average: mini, {ahead['batching']:.2f} points ahead of full.",
        f"Best architecture on average: tanh_128, {ahead['arch']:.2f} points ahead of relu_100.",
    ]
    assert not any(line.startswith("Best ") for line in section.sentences)  # the page has the evidence
    noise = np.random.default_rng(3).normal(0.9, 0.01, len(runs))
    alike = summary.section(*questions.rows_and_findings(runs.assign(val_accuracy=noise)))
    lines = " ".join(block.text for block in alike.shown_in(TERMINAL) if isinstance(block, Text))
    assert re.search("Best batching mode on average: (mini or full|full or mini)\\.", lines)


@pytest.mark.parametrize(
    ("configurations", "rates"),
    [
        ([{"init": "max"}, {"init": "he"}], "0.1"),
        ([{"init": i, "schedule": "cosine", "optimizer.lr": 0.3} for i in ("max", "he")], "0.3"),
        (
            [{"init": init, "batching": mode, "optimizer.lr": lr}
             for init in ("max", "he") for mode, lr in (("full", 0.5), ("mini", 0.1))],
            "0.5 (full) and 0.1 (mini)",
        ),
        ([{"optimizer": "adam", "optimizer.lr": 0.001}, {"optimizer": "sgd"}], "0.001 (adam) and 0.1 (sgd)"),
        (RATES, None),  # each initializer has its own
        ([{"init": i, "optimizer.lr": lr} for i in ("max", "he") for lr in (0.1, 0.2)], None),  # a factor
        ([{"init": i, "optimizer.lr": lr} for i in ("max", "he") for lr in (0.1, 0.2, 0.3)], None),  # an axis
        ([{"init": "he"}], None),  # nothing is compared
        ([{"data": "digits"}, {"data": "mnist"}], None),
    ],
)  # fmt: skip
def test_the_answer_names_the_learning_rate_that_all_options_shared(configurations, rates):
    answer = fnnexp.answer(frame(*configurations))
    shared = f"All trained for 2 epochs at optimizer.lr={rates}; other rates may change the answer."
    assert (shared in answer.splitlines()) == (rates is not None)
    assert ("other rates" in answer) == (rates is not None)


def test_the_leader_of_options_that_cannot_be_told_apart_is_named():
    runs = frame(*GRID)
    noise = np.random.default_rng(8).normal(0.9, 0.01, len(runs))
    runs = runs.assign(val_accuracy=noise, test_accuracy=0.9)
    means = 100 * runs.groupby("init", observed=True)["val_accuracy"].mean().sort_values()
    first = fnnexp.answer(runs).splitlines()[0]
    ahead = f"{means.index[-1]} is {means.iloc[-1] - means.iloc[-2]:.2f} points ahead of {means.index[-2]}"
    assert first.startswith(f"On average, the 3 initializers cannot be told apart ({ahead}, 95% interval ")


def test_what_was_asked_names_the_options_that_none_beats_and_those_that_all_of_them_beat():
    names = ("zeros", "max", "xavier", "he")
    runs = frame(*({"arch": arch, "init": init} for arch in ("relu_100", "tanh_128") for init in names))
    noise = 0.01 * np.random.default_rng(2).normal(size=len(runs))
    means = {"zeros": 0.1, "max": 0.1, "xavier": 0.8, "he": 0.8}
    tanh = runs["arch"] == "tanh_128"
    accuracy = runs["init"].astype("str").map(means).where(tanh, 0.1) + noise
    runs = runs.assign(val_accuracy=accuracy, test_accuracy=accuracy)
    sentences = asked.answers(runs, asked.by_compare(runs, ["init"]), None, None)
    first, table, unsettled = sentences.blocks
    assert first.text == (
        "4 of the 12 questions that were asked (compare=init) are settled: he and xavier are better than max "
        "and zeros with tanh_128."
    )
    assert [row[0].text for row in table.rows] == ["relu_100"] * 6 + ["tanh_128"] * 6
    assert [" is better than " in row[1].text for row in table.rows] == [False] * 6 + [True] * 4 + [False] * 2
    neither = sum("learned in no seed" in row[1].text for row in table.rows)
    assert neither == 7  # all pairs on relu_100, and max with zeros on tanh_128
    assert unsettled.text.startswith("Of 12 questions, 7 are answered by which options learned at all")


@pytest.mark.parametrize("seeds", [5, 6])
def test_the_leaderboard_says_by_which_method_it_computed_its_intervals(seeds):
    runs = frame({"init": "max"}, {"init": "he"}, seeds=seeds)
    section = leaderboard.section(runs)
    best = section.data["leaderboard"].iloc[0]
    values = runs.loc[runs["init"] == "he", "val_accuracy"]
    ends = stats.t.interval(0.95, seeds - 1, values.mean(), values.sem())
    (about,) = [text.text for text in section.blocks if isinstance(text, Text)]
    is_t = np.allclose((best["low"], best["high"]), ends, rtol=1e-9)
    assert is_t == (seeds < 6)
    assert ("by Student's t. " in about) == is_t
    assert ("by a BCa bootstrap; a Student's t interval of the same mean" in about) == (not is_t)


@pytest.mark.parametrize(("data", "things"), [("digits", "images"), ("files", "rows"), ("moons", "rows")])
def test_rows_are_called_images_only_if_they_are(data, things):
    answer = str(fnnexp.answer(frame(*({"data": data, "init": init} for init in ("max", "he")))))
    assert f"On the test {things}, which were not used to choose it" in answer
    assert f"for 500 validation {things} and " in answer
    assert ("image" in answer) == (things == "images")


@pytest.mark.parametrize(("gap", "is_said"), [(0.12, True), (-0.12, True), (0.005, False)])
def test_validation_and_test_accuracies_that_differ_too_much_are_explained(gap, is_said):
    runs = frame({"init": "max"}, {"init": "he"}).assign(data="files")
    runs["test_accuracy"] = runs["val_accuracy"] - gap
    best = runs[runs["init"] == "he"][["val_accuracy", "test_accuracy"]].mean()
    error = np.sqrt((best * (1 - best) / np.array([500, 360])).sum())  # binomial
    answer = str(fnnexp.answer(runs))
    assert is_said == (abs(gap) > 3 * error) == ("Validation accuracy is" in answer)
    assert "best of many configurations" not in answer  # there are two
    if is_said:
        side = "above" if gap > 0 else "below"
        (explained,) = re.findall(rf"is 12.00 points {side} test accuracy, but .* only (\S+) points", answer)
        assert float(explained) == pytest.approx(196 * error, abs=0.02)
        assert "the test rows may come from another source than the training rows" in answer
        digits = str(fnnexp.answer(runs.assign(data="digits")))
        assert "the test images are by other people than the training images" in digits
