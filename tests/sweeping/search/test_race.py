"""Which questions of a sweep are settled, compared with intervals that are computed in another way."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

from fnnexp.results.ranking import Ranking
from fnnexp.sweeping.search import race as races
from fnnexp.sweeping.search.race import Question, Race, Results, questions_of

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
    found = "open" if question.verdict == "out of reach" else question.verdict
    assert verdict is None or found == verdict or (verdict == "equivalent" and found == "better")
    if found == "better":
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
    found = races.results_of(mixed, Ranking("val_accuracy", 0.2))
    assert found.options == expected.options == [{"init": "he"}, {"init": "max"}]
    assert np.array_equal(found.goodness, expected.goodness)
    assert np.array_equal(found.goodness[0], runs["val_accuracy"][:4])
