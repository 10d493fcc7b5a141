"""Statistics agree with closed forms, SciPy and plain loops, and keep their promises on simulated seeds."""

import itertools
import math
import operator
import random
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate, stats

from fnnexp.results import statistics
from fnnexp.results.statistics import (
    PRIOR,
    equivalence_test,
    holm,
    mean_interval,
    paired_t_test,
    safe_equivalence_test,
    safe_sign_test,
    safe_t_interval,
    safe_t_test,
    seeds_needed,
    sign_flip_test,
    student_interval,
    superiority,
    test_set_error,
    variance_shares,
)


def within(fraction, expected, repetitions):
    """Return whether a simulated fraction is within four standard errors of the promised one."""
    return abs(fraction - expected) <= 4 * math.sqrt(expected * (1 - expected) / repetitions)


# Intervals

SHAPES = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "uniform": (lambda rng, n: rng.uniform(size=n), 0.5),
    "skewed": (lambda rng, n: rng.gamma(4, size=n), 4.0),
}


def test_one_seed_has_no_interval_and_equal_seeds_have_a_point():
    for values in ([], [0.9], [0.9, math.nan]):
        low, high, method = mean_interval(values)
        assert math.isnan(low)
        assert math.isnan(high)
        assert method == "none"
    for n in (6, 20):
        assert mean_interval([0.1] * n) == student_interval([0.1] * n) == (0.1, 0.1, "equal")
    for n in (2, 5):  # with probability 2^-4, half of the distribution is beyond five equal values
        assert mean_interval([0.1] * n).method == student_interval([0.1] * n).method == "none"


def test_cutting_intervals_at_known_bounds_does_not_change_their_coverage():
    x = [0.98, 0.99, 1.0, 0.7]
    free, cut = mean_interval(x), mean_interval(x, within=statistics.ACCURACY)
    assert free.high > 1
    assert cut == (free.low, 1.0, "t")
    assert mean_interval([-0.9, 0.8], within=statistics.DIFFERENCE)[:2] == (-1, 1)
    assert np.isnan(mean_interval([0.9], within=statistics.ACCURACY)[:2]).all()
    rng = np.random.default_rng(5)
    for p, n in itertools.product((0.02, 0.9), (3, 7)):
        samples = [rng.binomial(20, p, size=n) / 20 for _ in range(100)]
        ends = [[mean_interval(x, within=bounds)[:2] for x in samples] for bounds in ((-9, 9), (0, 1))]
        free, cut = ([low <= p <= high for low, high in intervals] for intervals in ends)
        assert free == cut


def test_fewer_than_six_seeds_have_students_interval():
    for n in (2, 3, 5):
        x = np.random.default_rng(n).normal(size=n)
        low, high, method = mean_interval(x)
        assert (low, high) == pytest.approx(stats.ttest_1samp(x, 0).confidence_interval())
        assert method == "t"


def test_six_or_more_seeds_have_a_skewed_and_reproducible_bootstrap_interval():
    x = np.array([0.1, 0.11, 0.12, 0.12, 0.13, 0.14, 0.15, 0.6])
    low, high, method = mean_interval(x)
    assert method == "bca"
    assert high - x.mean() > 1.5 * (x.mean() - low)
    assert mean_interval(x) == (low, high, method)
    # A nearly degenerate sample still has finite ends.
    assert np.isfinite(mean_interval([0.5] * 7 + [0.51])[:2]).all()


@pytest.mark.parametrize(
    ("n", "shape", "coverage"),
    [
        (2, "normal", 0.95),
        (3, "normal", 0.95),
        (6, "normal", 0.94),
        (6, "uniform", 0.94),
        (6, "skewed", 0.92),
        (10, "normal", 0.95),
        (10, "uniform", 0.95),
        (10, "skewed", 0.94),
    ],
)
def test_intervals_have_the_documented_coverage(n, shape, coverage):
    repetitions, rng = 600, np.random.default_rng(n)
    draw, true = SHAPES[shape]
    intervals = [mean_interval(draw(rng, n)) for _ in range(repetitions)]
    covered = np.mean([low <= true <= high for low, high, _ in intervals])
    assert within(covered, coverage, repetitions), covered


def test_no_interval_of_resampled_means_of_three_values_covers_95_percent():
    """This is why fewer than six seeds have Student's interval."""
    rng, repetitions = np.random.default_rng(0), 2000
    x = rng.normal(size=(repetitions, 3))
    widest = np.mean((x.min(axis=1) <= 0) & (x.max(axis=1) >= 0))
    assert within(widest, 1 - 2.0 ** (1 - 3), repetitions)


# Tests of pairs


def test_sign_flip_test_agrees_with_scipy():
    for n in (2, 5, 9):
        d = np.random.default_rng(n).normal(0.3, size=n)
        expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=2**n)
        assert sign_flip_test(d) == pytest.approx(expected.pvalue)
    many = np.random.default_rng(0).normal(0.3, size=40)
    assert sign_flip_test(many) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, rel=0.3)
    for n in (40, 200):  # only two patterns are as far, and Hoeffding's bound is never below their fraction
        assert 2.0 ** (1 - n) < sign_flip_test(np.full(n, 1.0)) < 3 * math.exp(-n / 2)
    assert math.isnan(sign_flip_test([]))


def test_sign_flip_test_of_thousands_of_differences_agrees_with_the_normal_distribution():
    rng = np.random.default_rng(3)
    for mean in (0.0, 0.03, 0.06):
        d = rng.normal(mean, 1, 2_001)
        normal = 2 * stats.norm.sf(abs(d.sum()) / math.sqrt((d**2).sum()))
        assert sign_flip_test(d) == pytest.approx(normal, abs=0.01)
    assert sign_flip_test(np.full(2_001, 0.5)) < 1e-300
    assert sign_flip_test(np.zeros(2_001)) == 1


def exact_sign_flip(numerators):
    """Return the exact p value of differences with a common denominator, from their numerators."""
    n, observed = len(numerators), abs(sum(numerators))
    patterns = itertools.product((-1, 1), repeat=n)
    count = sum(abs(sum(map(operator.mul, signs, numerators))) >= observed for signs in patterns)
    return Fraction(count, 2**n)


@pytest.mark.parametrize("images", [10, 237, 10_000])
def test_sign_flip_test_is_exact_for_accuracies_with_ties(images):
    """Exact sums of such differences often tie, but floating-point sums do not; ties must still count."""
    rng, ties = random.Random(images), 0
    for _ in range(150):
        n, most = rng.randint(1, 8), min(images, rng.choice((2, 6, 40)))
        correct = [(rng.randint(0, most), rng.randint(0, most)) for _ in range(n)]
        expected = exact_sign_flip([a - b for a, b in correct])
        ties += expected > Fraction(2, 2**n)
        assert sign_flip_test([a / images - b / images for a, b in correct]) == float(expected), correct
        cells = [np.mean([a / images] * 3) - np.mean([b / images] * 3) for a, b in correct]
        assert sign_flip_test(cells) == float(expected), correct
    assert ties > 75
    assert sign_flip_test([0.1, 0.2, 0.3, -0.6]) == 1


def test_sign_flip_test_does_not_depend_on_the_unit():
    d = np.random.default_rng(3).normal(0.3, size=8)
    assert len({sign_flip_test(d * scale) for scale in (1e-12, 1e-3, 1.0, 1e9)}) == 1


def test_sign_flip_test_cannot_reach_5_percent_with_fewer_than_six_seeds():
    for n in range(1, 12):
        least = sign_flip_test(np.arange(1, n + 1))
        assert least == 2.0 ** (1 - n)
        assert (least <= 0.05) == (n >= 6)


def test_sign_flip_test_keeps_its_level():
    repetitions, rng = 2000, np.random.default_rng(1)
    for n in (6, 9):
        for draw in (rng.standard_normal, lambda size: rng.standard_t(2, size=size)):
            wrong = np.mean([sign_flip_test(draw(n)) <= 0.05 for _ in range(repetitions)])
            # The attainable level is the largest multiple of 2^(1−n) below 5%.
            assert within(wrong, math.floor(0.05 * 2 ** (n - 1)) / 2 ** (n - 1), repetitions)


def test_holm_keeps_the_level_although_the_leader_was_picked_by_looking():
    """With `pairs`, all pairs count. With the shown pairs alone, the lead would look real too often."""
    repetitions, configurations, n, rng = 400, 6, 11, np.random.default_rng(2)
    picked, shown = 0, 0
    for _ in range(repetitions):
        x = rng.normal(size=(configurations, n))
        x = x[np.argsort(-x.mean(axis=1))]
        p = [sign_flip_test(x[0] - other) for other in x[1:]]
        picked += holm(p, configurations * (configurations - 1) // 2).min() <= 0.05
        shown += holm(p).min() <= 0.05
    assert picked / repetitions <= 0.05 or within(picked / repetitions, 0.05, repetitions)
    assert shown / repetitions > 0.05 + 4 * math.sqrt(0.05 * 0.95 / repetitions)


def test_holm_agrees_with_the_textbook_procedure():
    p = np.array([0.02, 0.001, 0.04, 0.6, 0.011])
    order, expected, running = np.argsort(p), np.empty(5), 0.0
    for i, j in enumerate(order):
        running = max(running, (5 - i) * p[j])
        expected[j] = min(1, running)
    assert holm(p) == pytest.approx(expected)
    assert holm([0.01, math.nan, 0.02]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)
    assert holm([]).size == 0
    # A part of the family with `pairs` never gets smaller p values than the full procedure.
    assert (holm(p[1:3], pairs=5) >= holm(p)[1:3]).all()


def test_superiority_agrees_with_mann_and_whitneys_u():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 5, 7), rng.integers(0, 5, 4)
    assert superiority(a, b) == pytest.approx(stats.mannwhitneyu(a, b).statistic / 28)
    assert superiority(a, b) + superiority(b, a) == pytest.approx(1)
    assert superiority(a, a) == 0.5
    assert math.isnan(superiority([], b))


@pytest.mark.parametrize("effect", [0.5, 1.0, 3.0])
def test_seeds_needed_settle_a_pair_in_four_of_five_experiments(effect):
    """Seeds are added after a first look, so the test is the one for a second look."""
    pilot = effect + np.array([1.0, -1.0]) / math.sqrt(2)  # mean `effect`, standard deviation 1
    n, repetitions = seeds_needed(pilot), 1000
    rng = np.random.default_rng(4)
    settled = [
        np.mean([bayes_p(rng.normal(effect, 1, k)) <= 0.05 for _ in range(repetitions)]) for k in (n, n - 1)
    ]
    assert settled[0] >= 0.8 or within(settled[0], 0.8, repetitions)
    assert settled[1] < 0.8 or within(settled[1], 0.8, repetitions)


def bayes_p(d):
    """Return the inverse of the Bayes factor in closed form, with the terms as published."""
    n = len(d)
    t2, a = stats.ttest_1samp(d, 0).statistic ** 2, 1 + n * PRIOR**2
    return min(1.0, 1 / (a**-0.5 * ((1 + t2 / (n - 1)) / (1 + t2 / ((n - 1) * a))) ** (n / 2)))


@pytest.mark.parametrize("n", [2, 5, 30])
def test_safe_t_test_is_the_inverse_bayes_factor_of_a_normal_prior_on_the_effect(n):
    """The noncentral t density, integrated over effects from N(0, τ²), is divided by the central density."""
    for mean in (0.0, 0.4, 1.5):
        d = np.random.default_rng(n).normal(mean, 1.0, n)
        t = stats.ttest_1samp(d, 0).statistic

        def evidence(effect, t=t):
            return stats.nct.pdf(t, n - 1, effect * math.sqrt(n)) * stats.norm.pdf(effect, 0, PRIOR)

        bayes_factor = integrate.quad(evidence, -15, 15, points=[0], limit=400)[0] / stats.t.pdf(t, n - 1)
        assert safe_t_test(d) == pytest.approx(min(1.0, 1 / bayes_factor), rel=1e-5)
        assert safe_t_test(d + 0.3, 0.3) == pytest.approx(safe_t_test(d))


def test_safe_t_interval_contains_the_means_that_are_not_rejected():
    for n in (3, 4, 10, 60):
        d = np.random.default_rng(n).normal(0.01, 0.02, n)
        low, high, method = safe_t_interval(d)
        assert method == "safe t"
        if math.isinf(low):  # too few to reject any mean
            assert safe_t_test(d, 1e6) > 0.05
            continue
        for end, beyond in ((low, low - 1e-6), (high, high + 1e-6)):
            assert safe_t_test(d, end) == pytest.approx(0.05)
            assert safe_t_test(d, beyond) < 0.05
        inner = student_interval(d)
        assert low < inner.low < inner.high < high


def test_safe_tests_err_in_at_most_5_percent_of_races_and_students_t_in_many():
    """A race adds seeds one at a time until two equal options look different, or to forty seeds."""
    rng, races = np.random.default_rng(0), 400
    wrong = dict.fromkeys(("safe", "signs", "student", "equivalent"), 0)
    for _ in range(races):
        d = rng.normal(0, 1, 40)
        looks = [d[:n] for n in range(3, 41)]
        wrong["safe"] += any(safe_t_test(seen) <= 0.05 for seen in looks)
        wrong["signs"] += any(safe_sign_test(seen) <= 0.05 for seen in looks)
        wrong["student"] += any(paired_t_test(seen) <= 0.05 for seen in looks)
        wrong["equivalent"] += any(safe_equivalence_test(seen + 0.5, 0.5) <= 0.05 for seen in looks)
    assert wrong["safe"] <= 0.05 * races
    assert wrong["signs"] <= 0.05 * races
    assert wrong["equivalent"] <= 0.05 * races
    assert wrong["student"] >= 0.2 * races  # why the safe tests are needed


def test_safe_sign_test_averages_over_all_probabilities_of_a_positive_sign():
    for k, n in ((6, 6), (0, 5), (13, 20)):
        d = np.array([1.0] * k + [-1.0] * (n - k) + [0.0])
        likelihood_ratio = integrate.quad(lambda p, k=k, n=n: (2 * p) ** k * (2 * (1 - p)) ** (n - k), 0, 1)[
            0
        ]
        assert safe_sign_test(d) == pytest.approx(min(1.0, 1 / likelihood_ratio))


def test_safe_equivalence_test_is_the_safe_t_test_at_the_nearer_end():
    d = np.random.default_rng(5).normal(0.001, 0.002, 20)
    nearer = max(bayes_p(d - 0.01), bayes_p(d + 0.01))
    assert safe_equivalence_test(d, 0.01) == pytest.approx(nearer, rel=1e-9)
    assert safe_equivalence_test(d, 0.0005) == 1.0
    assert math.isnan(safe_equivalence_test([0.0], 0.1))


def test_seeds_needed_is_none_if_unknown_or_too_large():
    for unknown in ([], [0.1], [0.1, -0.1], [0.1, math.nan]):
        assert seeds_needed(unknown) is None
    assert seeds_needed([1e-6, 1.0, -0.9999]) is None  # more than `most`
    assert seeds_needed([0.1, 0.1]) == 8  # 9/2^8 is the first below 5%
    assert seeds_needed([1.0, 1.0 + 1e-9], signs=True) == 8
    assert seeds_needed([0.1, 0.2, 0.3], pairs=12, signs=True) == 12  # 12 · 13/2^12
    assert seeds_needed([0.1, 0.2, 0.3], pairs=12) == 12
    assert seeds_needed([0.1, 0.11, 0.12], pairs=12) == 5


# The test set and the factors


def test_test_set_error_is_0_2_points_at_96_percent_of_10000_images():
    assert test_set_error(0.96, 10_000) == pytest.approx(0.002, abs=5e-5)
    rng = np.random.default_rng(5)
    assert test_set_error(0.9, 500) == pytest.approx(rng.binomial(500, 0.9, 20_000).std() / 500, rel=0.03)
    assert 0 < test_set_error(1.0, 360) < 1 / 360
    assert math.isnan(test_set_error(math.nan, 10))
    assert math.isnan(test_set_error(0.5, 0))


def test_variance_shares_agree_with_a_plain_analysis_of_variance():
    x = np.random.default_rng(6).normal(size=(3, 4, 2, 5))
    shares = variance_shares(x, ["a", "b", "c"])
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == {t for k in range(4) for t in itertools.combinations("abc", k)}
    total = ((x - x.mean()) ** 2).sum()
    a = 4 * 2 * 5 * ((x.mean(axis=(1, 2, 3)) - x.mean()) ** 2).sum()
    ab_cells = 2 * 5 * ((x.mean(axis=(2, 3)) - x.mean()) ** 2).sum()
    b = 3 * 2 * 5 * ((x.mean(axis=(0, 2, 3)) - x.mean()) ** 2).sum()
    assert shares["a",] == pytest.approx(a / total)
    assert shares["a", "b"] == pytest.approx((ab_cells - a - b) / total)
    assert shares[()] == pytest.approx(5 * x.var(axis=-1).sum() / total)
    one_seed = variance_shares(x[..., :1], ["a", "b", "c"])
    assert one_seed[()] == 0  # so chance shows as interaction, as the report says


def test_an_additive_grid_has_no_interaction():
    x = np.add.outer(np.add.outer([0.0, 1.0], [0.0, 0.1, 0.5]), [0.0, 0.0])
    assert variance_shares(x, ["a", "b"])["a", "b"] == pytest.approx(0, abs=1e-12)


def test_variance_shares_refuse_an_empty_cell_and_are_empty_without_variance():
    with pytest.raises(ValueError, match="no missing value"):
        variance_shares([[[0.1]], [[math.nan]]], ["a", "b"])
    with pytest.raises(ValueError, match="must have 3 axes"):
        variance_shares([[0.1]], ["a", "b"])
    assert variance_shares(np.full((2, 2, 3), 0.7), ["a", "b"]) == {}


def test_statistics_import_neither_matplotlib_nor_mlflow():
    assert not {"matplotlib", "mlflow"} & set(vars(statistics))


# Many values


@pytest.mark.parametrize("n", [6, 17, 50])
def test_results_do_not_depend_on_how_many_numbers_are_drawn_at_once(n, monkeypatch):
    x = np.round(np.random.default_rng(n).normal(0.01, 0.05, n), 3)
    expected = mean_interval(x), sign_flip_test(x)
    for at_once in (1 << 12, 999_999):
        monkeypatch.setattr(statistics, "AT_ONCE", at_once)
        assert (mean_interval(x), sign_flip_test(x)) == expected


def test_memory_for_many_seeds_is_bounded(monkeypatch):
    x = np.random.default_rng(0).normal(size=1500)
    monkeypatch.setattr(statistics, "AT_ONCE", 1 << 16)
    mean_interval(x[:6])  # SciPy's imports must not count
    tracemalloc.start()
    try:
        low, high, _ = mean_interval(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert low < x.mean() < high
    assert peak < 1500 * statistics.RESAMPLES  # one byte per drawn number; drawing all at once takes 16


def test_sign_flip_tests_of_many_lists_count_the_random_patterns_of_each():
    rng = np.random.default_rng(0)
    lists = [np.round(rng.normal(0.004, 0.03, n), 3) for n in (40, 1, 40, 1003, 6, 40, 1003, 77)]
    lists += [np.zeros(40), np.full(40, 0.1), np.array([])]
    together = statistics.sign_flip_tests(lists)
    for d, p in zip(lists, together, strict=True):
        assert p == sign_flip_test(d) or (math.isnan(p) and not len(d))
    draws, patterns = np.random.default_rng(0), statistics.PATTERNS
    signs = draws.integers(0, 2, (patterns, 40)) * 2.0 - 1
    for d, p in ((lists[i], together[i]) for i in (0, 2, 5)):
        as_far = np.abs(signs @ d) >= abs(d.sum()) - 1e-12
        assert p == (1 + as_far.sum()) / (patterns + 1)


@pytest.mark.parametrize("pairs", [1, 45, 199_990_000])
def test_seeds_needed_by_many_lists_are_the_first_that_have_the_power(pairs):
    """The power grows with the number of seeds, so bisection finds the number that trying all finds."""
    rng, alpha = np.random.default_rng(pairs), 0.05 / pairs
    lists = [rng.normal(10 ** rng.uniform(-2, 1.5), 1, int(rng.integers(2, 20))) for _ in range(60)]
    signs = (rng.random(60) < 0.3).tolist()
    n = np.arange(2, 1001)
    a = 1 + n * statistics.PRIOR**2
    r = (np.sqrt(a) / alpha) ** (2 / n)
    with np.errstate(invalid="ignore", divide="ignore"):
        critical = np.where(r < a, np.sqrt((n - 1) * (r - 1) / (1 - r / a)), np.inf)
    expected = []
    for d, sign in zip(lists, signs, strict=True):
        shift = abs(d.mean()) / d.std(ddof=1) * np.sqrt(n)
        # far above the critical value, where SciPy's distribution is NaN, the power is 1
        power = np.where(shift > critical + 6, 1.0, stats.nct.sf(critical, n - 1, shift))
        settled = (power >= 0.8) & (((n + 1) * 2.0**-n * pairs <= 0.05) | (not sign))
        expected.append(int(n[np.argmax(settled)]) if settled.any() else None)
    assert statistics.seeds_needed_by(lists, signs, pairs=pairs) == expected
    assert seeds_needed(lists[0], pairs=pairs, signs=signs[0]) == expected[0]


def test_more_than_10000_values_have_students_interval():
    x = np.random.default_rng(0).normal(size=10_001)
    assert mean_interval(x) == statistics.student_interval(x)
    assert mean_interval(x[:6]).method == "bca"


# Student's t and equivalence


def test_paired_t_test_and_its_interval_agree_with_scipy():
    for n in (2, 3, 6, 40):
        d = np.random.default_rng(n).normal(0.3, size=n)
        expected = stats.ttest_1samp(d, 0)
        assert paired_t_test(d) == pytest.approx(expected.pvalue)
        low, high, method = student_interval(d)
        assert ((low, high), method) == (pytest.approx(expected.confidence_interval()), "t")
        assert (low <= 0 <= high) == (paired_t_test(d) >= 0.05)
    for too_few in ([], [0.1], [0.1, math.nan]):
        assert math.isnan(paired_t_test(too_few))
        assert student_interval(too_few).method == "none"


def test_differences_that_do_not_vary_are_judged_by_their_signs():
    for n in (2, 5, 6):
        assert paired_t_test([0.1] * n) == 2.0 ** (1 - n)
        assert equivalence_test([0.001] * n, 0.002) == 2.0**-n
        assert equivalence_test([0.003] * n, 0.002) == 1


def test_equivalence_test_is_the_larger_of_two_one_sided_tests():
    for n, shift in ((3, 0.0), (6, 0.3), (6, -0.3), (10, 2.0)):
        d = np.random.default_rng(n).normal(shift, size=n)
        sides = [
            stats.ttest_1samp(d, -1, alternative="greater").pvalue,
            stats.ttest_1samp(d, 1, alternative="less").pvalue,
        ]
        assert equivalence_test(d, 1) == pytest.approx(max(sides))
    assert math.isnan(equivalence_test([0.1], 1))


def test_all_sign_patterns_of_up_to_32_differences_are_counted():
    """Combining two halves agrees with listing all patterns, and p can be far below what sampling reaches."""
    for n in (7, 12, 16):
        d = np.round(np.random.default_rng(n).normal(0.02, 0.05, n), 2)
        patterns = (np.arange(2**n)[:, None] >> np.arange(n) & 1) * 2.0 - 1
        as_far = np.abs(patterns @ d) >= abs(d.sum()) - 1e-12
        assert sign_flip_test(d) == as_far.mean()
    far = np.random.default_rng(0).uniform(1, 2, size=32)  # by sampling, p could not be below 1/65,537
    assert sign_flip_test(far) == 2.0**-31
    assert sign_flip_test(np.full(33, 1.0)) == pytest.approx(2 * math.exp(-33 / 2))


@pytest.mark.long
@pytest.mark.parametrize(("n", "pairs"), [(4, 1), (6, 36), (14, 500_000)])
def test_seeds_needed_settle_a_pair_of_a_large_family_in_four_of_five_experiments(n, pairs):
    """The pilot has the true mean and spread."""
    rng, repetitions = np.random.default_rng(n), 2000
    effect = next(e for e in np.arange(0.5, 40, 0.01) if seeds_needed([e - 1, e + 1], pairs=pairs) == n)
    effect /= math.sqrt(2)  # the standard deviation of the pilot, e − 1 and e + 1, is √2
    settled = np.mean([bayes_p(rng.normal(effect, size=n)) <= 0.05 / pairs for _ in range(repetitions)])
    assert 0.78 <= settled <= 0.95


@pytest.mark.parametrize("freedom", [0.5, 1.5])
def test_a_shared_variance_is_that_of_the_population_of_variances(freedom):
    """True variances are drawn from the distribution that the estimate assumes, for 20,000 pairs."""
    rng = np.random.default_rng(11)
    variances = freedom * 4.0 / rng.chisquare(freedom, 20_000)
    many = rng.normal(size=(20_000, 4)) * np.sqrt(variances)[:, None]
    pool = statistics.shared(many, options=9)
    assert pool.freedom == pytest.approx(freedom, rel=0.05)
    assert pool.variance == pytest.approx(4.0, rel=0.1)


def test_a_shared_variance_has_few_degrees_of_freedom_and_needs_three_options():
    alike = np.random.default_rng(2).normal(size=(3000, 3))  # all pairs have the same variance
    assert statistics.shared(alike, options=9) == (pytest.approx(1.0, rel=0.05), 2)
    assert statistics.shared(alike, options=3).freedom == 1
    assert statistics.shared(alike, options=2) is None
    assert statistics.shared([[0.1] * 3] * 3, options=3) is None
    assert statistics.shared([[0.1], [0.2], [0.3]], options=3) is None


def test_a_shared_t_test_is_students_with_more_degrees_of_freedom():
    d, pool = [1.0, 2.0, 4.0], statistics.SharedVariance(2.0, 1.5)
    df = 1.5 + 2
    of_mean = stats.t(df, np.mean(d), math.sqrt((1.5 * 2.0 + 2 * np.var(d, ddof=1)) / df / 3))
    assert paired_t_test(d, pool) == pytest.approx(2 * of_mean.cdf(0))
    assert statistics.equivalence_test(d, 3.0, pool) == pytest.approx(of_mean.sf(3.0))
    assert statistics.shared_t_interval(d, pool)[:2] == pytest.approx(of_mean.interval(0.95))
    assert statistics.shared_t_interval(d, pool, within=(0, 3)).high == 3
    assert math.isnan(statistics.shared_t_interval([1.0, math.inf], pool).low)
    assert paired_t_test([1.0] * 3, pool) < paired_t_test([1.0] * 3)
