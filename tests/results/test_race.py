"""Which questions of a sweep are settled, compared with intervals that are computed in another way."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

from fnnexp.results import filters
from fnnexp.results import race as races
from fnnexp.results.race import Question, Race, Results, questions_of
from fnnexp.results.ranking import Ranking
from fnnexp.tracking.run_format import Asked

GRID = [{"arch": arch, "init": init} for arch in ("relu_9", "tanh_9") for init in ("he", "max", "xavier")]


def results(goodness, failed=None, options=()):
    goodness = np.array(goodness, float)
    return Results(list(options), goodness, np.zeros(goodness.shape, bool) if failed is None else failed)


def pair():
    return [Question("init", {}, ("a", "b"), (0, 1))]


def evidence(d, mean):
    """Return the Bayes factor against a mean: the density of t for effects from N(0, 4²), over that for 0."""
    n = len(d)
    t = (np.mean(d) - mean) / (np.std(d, ddof=1) / math.sqrt(n))

    def density(effect):
        return stats.nct.pdf(t, n - 1, effect * math.sqrt(n)) * stats.norm.pdf(effect, 0, 4)

    around = np.mean(d - mean) / np.std(d, ddof=1)
    spread = [around - 6, around - 1, around, around + 1, around + 6]
    total = sum(integrate.quad(density, low, high)[0] for low, high in pairwise(spread))
    return total / stats.t.pdf(t, n - 1)


def test_the_questions_are_all_pairs_that_differ_in_one_factor_alone():
    questions = questions_of(GRID, ["arch", "init"])
    assert len(questions) == 3 * 1 + 2 * 3
    for question in questions:
        a, b = (GRID[row] for row in question.rows)
        assert {name for name in a if a[name] != b[name]} == {question.factor}
        assert question.options == (a[question.factor], b[question.factor])
        assert question.cell == {name: a[name] for name in a if name != question.factor}
    assert {question.factor for question in questions_of(GRID, ["init"])} == {"init"}


@pytest.mark.parametrize("seed", range(40))
def test_a_verdict_is_that_of_the_interval_of_means_with_too_little_evidence_against_them(seed):
    rng = np.random.default_rng(seed)
    n, margin = int(rng.integers(4, 9)), 1.0
    d = rng.normal(rng.choice([0.0, 0.4, 8.0]), rng.choice([0.05, 0.3, 1.0]), n)
    race = Race([*pair(), Question("init", {}, ("c", "d"), (2, 3))], margin, 30)
    race.look(results([d, 0 * d, rng.normal(size=n), rng.normal(size=n)]))

    def excess(mean):
        return math.log(evidence(d, mean)) - math.log(2 / races.ERROR_RATE)

    # The evidence grows with the distance of a mean from that of the differences.
    middle = float(np.mean(d))
    far = middle + 4 * np.std(d, ddof=1)
    verdict = "open"
    if excess(far) > 0:
        half = optimize.brentq(excess, middle, far) - middle
        if abs(middle) + half < margin:
            verdict = "equivalent"
        elif abs(middle) > half:
            verdict = "better"
    else:
        verdict = None  # the interval is wider than four standard deviations
    question = race.questions[0]
    decided = "open" if question.verdict == "out of reach" else question.verdict
    assert verdict is None or decided == verdict or (verdict == "equivalent" and decided == "better")
    if decided == "better":
        assert question.options == (("a", "b") if middle > 0 else ("b", "a"))
        assert math.isclose(question.difference, abs(middle))


def test_a_settled_question_keeps_its_verdict_and_others_go_on():
    clear, noise = [9.0, 9.1, 8.9, 9.05, 9.0, 9.1], [1.0, -1.0, 0.9, -0.8, 0.3, -0.5]
    zeros = [0.0] * 6
    race = Race(questions_of([{"x": "0"}, {"x": "1"}, {"x": "2"}], ["x"]), 0.01, 1000)
    race.look(results([clear, zeros, noise]))
    assert [question.verdict for question in race.questions] == ["better", "better", "open"]
    assert race.rows == [1, 2]
    first = race.questions[0].seeds, race.questions[0].p
    race.look(results([[*clear, -99.0, 99.0], [*zeros, 0, 0], [*noise, 0, 0]]))
    assert (race.questions[0].seeds, race.questions[0].p) == first
    assert race.questions[0].verdict == "better"


def test_a_question_is_out_of_reach_if_no_plausible_spread_lets_it_be_settled():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 10)
    race = Race(pair(), 0.01, 12)
    race.look(results([noise - noise.mean(), 0 * noise]))
    (question,) = race.questions
    assert question.verdict == "out of reach"
    assert race.rows == []
    half = 3 * np.std(noise, ddof=1) / math.sqrt(question.needed or 10_000)  # a rough interval at that number
    assert question.needed is None or half < 0.05
    within_reach = Race(pair(), 5.0, 30)
    within_reach.look(results([noise[:4], 0 * noise[:4]]))
    assert within_reach.questions[0].verdict in ("open", "equivalent")


def test_no_question_is_open_at_the_largest_number_of_seeds():
    race = Race(pair(), 0.5, 3)
    race.look(results([[0.1, 0.5, -0.4], [0, 0, 0]]))
    assert race.questions[0].verdict == "out of reach"


def test_where_an_option_fails_in_some_seeds_signs_are_counted_and_no_pair_is_equivalent():
    d = np.array([0.5] * 7 + [-0.001])
    failed = np.zeros((2, 8), bool)
    failed[0, 7] = True
    race = Race(pair(), 10.0, 30)
    race.look(results([d, 0 * d], failed))
    assert race.questions[0].verdict == "open"  # 7 of 8 signs are not enough, and there is no equivalence
    assert race.questions[0].p == pytest.approx(9 * 8 / 2**8)  # 2^-8 / (B(8, 2)) = 9 · C(8, 7) / 2^8
    race.look(results([[0.1, -0.1, 0.2, -0.2, 0.1, -0.1, 0.2, -0.2], 0 * d]))
    assert race.questions[0].verdict == "equivalent"


def test_seeds_that_only_one_option_finished_do_not_count():
    race = Race(pair(), math.nan, 30)
    race.look(results([[1.0, np.nan, 2.0], [0.0, 0.0, np.nan]]))
    assert race.questions[0].seeds == 1
    assert race.questions[0].difference == 1.0
    assert race.rows == [0, 1]
    race.look(results([[1.0, np.nan, 2.0, np.nan], [0.0, 0.0, np.nan, np.nan]]))
    assert race.questions[0].verdict == "out of reach"


@pytest.mark.parametrize(
    ("goodness", "fails", "words"),
    [
        ([[1, 1, 1, 1, np.nan], [1, np.nan, np.nan, np.nan, np.nan]], [], "only 1 seed finished for both"),
        # n equal signs have the p value (n + 1) / 2^n: below 0.04 from 8 on
        ([[0.5] * 6, [0.5] * 6], [], "their means are equal so far, and it would take about 8 seeds"),
        ([[0.9] * 5, [0.1] * 5], [0], "a is ahead by 80.00 points, and it would take about 8 seeds"),
        (
            [[0.9, 0.1] * 3, [0.1, 0.9] * 3],
            [0],
            "their means are equal so far, and it would take more than 10,000 seeds",
        ),
    ],
)
def test_what_is_out_of_reach_is_said_with_the_seeds_that_it_would_take(goodness, fails, words):
    failed = np.zeros(np.shape(goodness), bool)
    failed[0, fails] = True
    ranking = Ranking("val_accuracy", 0.2)
    race = Race(pair(), ranking.limit, np.shape(goodness)[1])
    race.look(results(goodness, failed))
    assert races.answer(race.questions[0], ranking).startswith(f"a or b cannot be settled: {words}")
    numbers = [n for n in range(2, 20) if (n + 1) / 2**n <= races.ERROR_RATE]
    assert numbers[0] == 8


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([0.1, 0.12, 0.09], [0.1, 0.1, 0.1], "a and b learned in no seed"),
        ([0.1, 0.1, 0.1], [0.9, 0.4, 0.6], "b learned in every seed, a in none; b is ahead by 53.33 points"),
        ([0.1, 0.9, 0.1], [0.1, 0.1, 0.1], "a or b: open; a is ahead by 26.67 points"),
        ([0.1], [0.9], "b or a: open; b is ahead by 80.00 points"),
    ],
)
def test_a_pair_in_which_an_option_never_learned_is_not_called_open(a, b, words):
    ranking, accuracies = Ranking("val_accuracy", 0.2), np.array([a, b])
    race = Race([*pair(), *(Question("init", {}, ("c", "d"), (0, 1)) for _ in range(400))], math.nan, 30)
    race.look(results(accuracies, accuracies < 0.2))
    assert races.answer(race.questions[0], ranking) == words
    assert race.questions[0].verdict == "open"  # no test decides it


@pytest.mark.parametrize("shuffle", [0, 1, 2])
def test_results_do_not_depend_on_the_order_of_rows(shuffle):
    rng = np.random.default_rng(5)
    runs = pd.DataFrame([
        {"trial": f"{init}{seed}", "run_id": f"{init}{seed}", "init": init, "seed": seed,
         "status": "finished", "val_accuracy": rng.uniform(), "test_accuracy": 0.5, "identical_to": None}
        for init in ("he", "max") for seed in range(4)
    ])  # fmt: skip
    runs["init"] = runs["init"].astype("category")
    expected = races.results_of(runs, Ranking("val_accuracy", 0.2))
    mixed = runs.sample(frac=1, random_state=shuffle).reset_index(drop=True)
    results = races.results_of(mixed, Ranking("val_accuracy", 0.2))
    assert results.options == expected.options == [{"init": "he"}, {"init": "max"}]
    assert np.array_equal(results.goodness, expected.goodness)
    assert np.array_equal(results.goodness[0], runs["val_accuracy"][:4])


SPREAD = {"relu_9": 0.01, "tanh_9": 0.001}
"""The standard deviation of the accuracy over seeds, by architecture."""


@pytest.fixture
def raced():
    """Return the trials of a sweep that added seeds round by round, what it asked, and its race."""
    rng = np.random.default_rng(11)
    means = {"he": 0.9, "max": 0.885, "xavier": 0.899}
    accuracy = np.array([rng.normal(means[of["init"]], SPREAD[of["arch"]], 12) for of in GRID])
    race, known = Race(questions_of(GRID, ["init"]), 0.002, 12), np.full(accuracy.shape, np.nan)
    rows, used, more = list(range(len(GRID))), 0, 3
    while rows and used < 12:
        new = slice(used, min(used + more, 12))
        known[rows, new] = accuracy[rows, new]
        used = new.stop
        race.look(results(known[:, :used]))
        rows, more = race.rows, max(1, used // 4)
    trained = zip(*np.nonzero(np.isfinite(known)), strict=True)
    runs = frame([(GRID[row], int(seed), known[row, seed]) for row, seed in trained])
    starts = tuple(runs.loc[runs["seed"] == 0, "trial"])
    return runs, Asked(("init",), None, (0, 1, 2), 12, len(race.questions), starts), race


def frame(trials):
    """Return finished trials as a frame of runs."""
    runs = pd.DataFrame([
        {**of, "seed": seed, "trial": f"{of['arch']}{of['init']}{seed:02}", "status": "finished",
         "run_id": f"{i}", "val_accuracy": value, "test_accuracy": 0.5, "identical_to": None,
         "batching": "mini"}
        for i, (of, seed, value) in enumerate(trials)
    ])  # fmt: skip
    return runs.astype(dict.fromkeys(("arch", "init", "batching"), "category"))


def verdicts(race, **cell):
    return {
        (question.options, *question.cell.values()): (question.verdict, question.seeds, question.needed)
        for question in race.questions
        if cell.items() <= question.cell.items()
    }


RANKING = Ranking("val_accuracy", 0.2)


def test_a_report_decides_what_the_rounds_decided(raced):
    runs, asked, race = raced
    assert len({question.seeds for question in race.questions}) > 1  # some were settled before others
    others = frame([({"arch": "relu_9", "init": "he"}, seed, 0.1) for seed in range(5)]).assign(
        arch="sigmoid_9", trial="other"
    )
    everything = pd.concat([others, runs], ignore_index=True).astype({"arch": "category"})
    rows = races.rows_of(everything, asked)
    assert sorted(rows["trial"]) == sorted(runs["trial"])
    assert verdicts(races.replayed(rows, RANKING, asked)) == verdicts(race)
    part = filters.part(runs, runs["arch"] == "tanh_9")
    of_part = {key[0]: verdict for key, verdict in verdicts(race, arch="tanh_9").items()}
    decided = verdicts(races.replayed(races.rows_of(part, asked), RANKING, asked))
    assert {key[0]: verdict for key, verdict in decided.items()} == of_part


def test_seeds_that_a_sweep_did_not_train_decide_what_its_rounds_could_not():
    he, max_ = ({"arch": "relu_9", "init": init} for init in ("he", "max"))
    rng = np.random.default_rng(3)
    trials = [
        (of, seed, rng.normal(0.9 + 0.006 * (of is he), 0.004)) for seed in range(30) for of in (he, max_)
    ]
    asked = Asked((), None, (0, 1, 2), 5, 1)
    few = races.replayed(frame(trials[:10]), RANKING, asked)
    (question,) = few.questions
    assert (question.verdict, question.seeds) == ("out of reach", 5)
    (question,) = races.replayed(frame(trials), RANKING, asked).questions
    assert (question.verdict, question.options, question.seeds) == ("better", ("he", "max"), 30)
    assert races.replayed(frame(trials[::2]), RANKING, asked) is None  # nothing varies
