"""Statistics: functions from an array to a number or an interval.

One seed has no interval. With fewer than six seeds, neither an interval of resampled means nor a sign-flip
test can reach 95%. Student's t can, if the differences are roughly normal; `docs/statistics.md` shows how
often it errs on real seeds. More seeds do not reduce the error from a finite number of test images.

Sources
-------
- Agarwal et al. 2021, *Deep reinforcement learning at the edge of the statistical precipice* (rliable).
- Efron 1987, *Better bootstrap confidence intervals*; computed by `scipy.stats.bootstrap`.
- Fisher 1935, *The design of experiments*, §21: the sign-flip test.
- Gönen, Johnson, Lu and Westfall 2005, *The Bayesian two-sample t test*: the Bayes factor of a t statistic.
- Grünwald, de Heide and Koolen 2024, *Safe testing*: the inverse of this Bayes factor is a p value that is
  valid at every look.
- Hesterberg 2015, *What teachers should know about the bootstrap*, §3.4: why small-sample intervals are too
  narrow.
- Hoeffding 1963, *Probability inequalities for sums of bounded random variables*.
- Holm 1979, *A simple sequentially rejective multiple test procedure*.
- Horowitz and Sahni 1974, *Computing partitions with applications to the knapsack problem*: meet in the
  middle.
- Phipson and Smyth 2010, *Permutation p-values should never be zero*.
- Schuirmann 1987, *A comparison of the two one-sided tests procedure and the power approach*.
- Smyth 2004, *Linear models and empirical Bayes methods for assessing differential expression*, §5: t tests
  that share their variances.
- Student 1908, *The probable error of a mean*.
- Wilson 1927, *Probable inference, the law of succession, and statistical inference*.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special, stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
"""The confidence level of intervals and tests."""

BOOTSTRAP_FROM = 6
"""The least number of values for a bootstrap interval: see :func:`mean_interval`."""

BOOTSTRAP_UP_TO = 10_000
"""The largest number of values for a bootstrap interval, whose time grows with the square of this number."""

ROUNDING = 1e-12
"""Accuracies, or differences of them, that differ by at most this differ by rounding and count as equal."""

SAME_SUM = 1e-9
"""Signed sums of the same differences d count as equal if they differ by less than this fraction of Σ|d|."""

RESAMPLES = 4999
"""The number of resamples of a bootstrap."""

EXACT_UP_TO = 32
"""With more differences than this, the sign-flip test counts :data:`PATTERNS` random patterns, not all."""

PATTERNS = 2**16
"""The number of random sign patterns of a sign-flip test."""

PRIOR = 2.0
"""τ, the standard deviation of the prior N(0, τ²) on the effect: see :func:`safe_t_test`."""

SHARED_UP_TO = 5
"""The largest number of seeds with which the pairs of a question share a variance: see :func:`shared`."""

SHARED_FREEDOM = 2
"""The largest number of degrees of freedom of a shared variance."""

LEAST_VARIANCE = 0.01
"""The least variance that a pair lends to others, relative to the median of its question's pairs. A smaller
one is luck: three differences between numbers of correct predictions can be equal."""

BY_BLOCKS_FROM = 1000
"""From this number of differences on, the random patterns of a sign-flip test are drawn by blocks of 16
signs."""

CERTAIN = 1e-12
"""If Hoeffding's bound on p is below this, none of :data:`PATTERNS` random patterns is as far from 0."""

TOGETHER = 64
"""The largest number of lists of differences whose random signed sums are computed at once (32 MB)."""

AT_ONCE = 1 << 22
"""Maximum number of random numbers drawn at once (32 MB). It limits memory and does not change results."""


class Interval(NamedTuple):
    """The ends of an interval, NaN if there is none.

    `method` says how it was computed: `bca` (the bootstrap), `t`, `shared t` or `safe t`; `equal` if all
    values are equal, and `none` if there is no interval.
    """

    low: float
    high: float
    method: str


ACCURACY, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)
"""The bounds of an accuracy and of a difference of two accuracies."""

NOTHING = Interval(float("nan"), float("nan"), "none")


def mean(values: ArrayLike) -> float:
    """Return the arithmetic mean, NaN if there are no values.

    >>> mean([0.25, 0.75])
    0.5
    """
    x = np.asarray(values, dtype=np.float64)
    return float(x.mean()) if x.size else float("nan")


def standard_deviation(values: ArrayLike) -> float:
    """Return the sample standard deviation √(Σ(x − x̄)² / (n − 1)), NaN for fewer than two values.

    This is the spread of single trials over seeds. The standard error of their mean is smaller by √n.

    >>> standard_deviation([1.0, 3.0])
    1.4142135623730951
    """
    x = np.asarray(values, dtype=np.float64)
    return float(x.std(ddof=1)) if x.size > 1 else float("nan")


def mean_interval(
    values: ArrayLike, level: float = LEVEL, *, within: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    """Return a confidence interval for the mean of the distribution that the n values come from.

    - n ≤ 1: no interval.
    - All values equal up to rounding: that point for n ≥ 6, else no interval, because a few equal values do
      not show that further values will be equal.
    - n = 2 to 5: Student's t, exact for normal values. An interval of resampled means cannot reach 95% here:
      it is inside the range of the values, and with probability 2^(1−n) all of them are on one side of a
      symmetric distribution's centre.
    - n ≥ 6: the bias-corrected, accelerated (BCa) bootstrap (Efron 1987) with a fixed random seed. Its level
      is raised to 1 − 2Φ(−√(n/(n−1)) t), where t is Student's quantile for the level, because the bootstrap
      interval is too narrow in small samples (Hesterberg 2015). Measured coverage at n = 6: 94% for normal
      or uniform values, 92% for skewed values (a gamma of shape 4). At n = 10: 94 to 96%, and 93%.
    - n > 10,000: Student's t. The mean of so many values is as good as normal.

    `within` are known bounds of the mean, such as `ACCURACY` or `DIFFERENCE`. The interval is cut there,
    which does not change its coverage.

    >>> [mean_interval(values).method for values in ([0.9], [0.9] * 6, [0.9, 0.91, 0.94])]
    ['none', 'equal', 't']
    """
    low, high, method = _unbounded(values, level)
    return Interval(float(np.clip(low, *within)), float(np.clip(high, *within)), method)


def _unbounded(values: ArrayLike, level: float) -> Interval:
    """Return the interval of :func:`mean_interval` before it is cut at the bounds."""
    x = np.asarray(values, dtype=np.float64)
    n, student_t = x.size, student_interval(x, level)
    if not BOOTSTRAP_FROM <= n <= BOOTSTRAP_UP_TO or student_t.method != "t":
        return student_t
    quantile = float(stats.t.ppf((1 + level) / 2, n - 1))
    widened_level = 1 - 2 * float(stats.norm.cdf(-math.sqrt(n / (n - 1)) * quantile))
    ends = stats.bootstrap(
        (x,),
        np.mean,
        confidence_level=widened_level,
        n_resamples=RESAMPLES,
        batch=max(1, AT_ONCE // n),
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(ends.low), float(ends.high), "bca")


def student_interval(
    values: ArrayLike, level: float = LEVEL, *, within: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    """Return Student's confidence interval x̄ ± t s/√n for a mean, for two or more values.

    Equal values have that point as their interval if n ≥ 6, else no interval: see :func:`mean_interval`. The
    interval contains 0 exactly if :func:`paired_t_test` of the values gives p > 1 − `level`.

    >>> student_interval([1.0, 2.0, 3.0]).low.__round__(2), student_interval([0.5] * 6).method
    (-0.48, 'equal')
    """
    x = np.asarray(values, dtype=np.float64)
    n = x.size
    if n < 2 or not np.isfinite(x).all():
        return NOTHING
    if np.ptp(x) <= ROUNDING:
        return Interval(float(x[0]), float(x[0]), "equal") if n >= BOOTSTRAP_FROM else NOTHING
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * float(x.std(ddof=1)) / math.sqrt(n)
    low, high = np.clip([mean(x) - half, mean(x) + half], *within)
    return Interval(float(low), float(high), "t")


def t_half_width(deviations: ArrayLike, counts: ArrayLike, level: float = LEVEL) -> NDArray[np.float64]:
    """Return half the width of Student's interval for many means at once, 0 where a count is below two.

    `deviations` are the standard deviations of the values of each mean, `counts` the numbers of values.

    >>> t_half_width([1.0, float("nan")], [3, 1]).round(3).tolist()
    [2.484, 0.0]
    """
    n = np.maximum(np.asarray(counts, dtype=np.float64), 2)
    half = stats.t.ppf((1 + level) / 2, n - 1) * np.asarray(deviations, dtype=np.float64) / np.sqrt(n)
    return np.where(np.isnan(half), 0.0, half)


def prediction_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Return Student's interval for another draw from the same normal distribution: x̄ ± t s √(1 + 1/n).

    >>> prediction_interval([1.0, 2.0, 3.0]).low.__round__(2), prediction_interval([1.0]).method
    (-2.97, 'none')
    """
    x = np.asarray(values, dtype=np.float64)
    n = x.size
    if n < 2 or not np.isfinite(x).all():
        return NOTHING
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * float(x.std(ddof=1)) * math.sqrt(1 + 1 / n)
    return Interval(mean(x) - half, mean(x) + half, "t")


# Pairs


class SharedVariance(NamedTuple):
    """A variance that the pairs of a question share, and the degrees of freedom that it adds to each pair."""

    variance: float
    freedom: float


def shared(many: Sequence[ArrayLike], options: int) -> SharedVariance | None:
    """Return the variance that the pairs of a question share; None if each pair keeps its own variance.

    Two or three differences estimate their variance s² so badly that a t test needs differences of many
    standard deviations. But the pairs of a question often have similar variances. So the variance of a pair
    becomes

        (d s₀² + (n − 1) s²) / (d + n − 1)

    with d + n − 1 degrees of freedom (Smyth 2004). Both s₀² and d are estimated from the variances of all
    pairs: the less similar these are, the smaller is d (:func:`_typical_variance`). The pairs of K options
    are not independent, so d is at most K − 2, and at most 2. The real seeds in `docs/statistics.md` show
    what this does to the tests.

    Parameters
    ----------
    many
        The differences of each pair. Pairs with one difference, or with one that is not finite, are ignored.
    options
        The number of options that the pairs are of.

    Returns
    -------
    SharedVariance or None
        None for fewer than three options, and if the differences of half the pairs do not vary.

    >>> shared([[1.0, 3.0], [2.0, 4.0], [0.0, 2.0]], options=3).freedom
    1
    """
    lists = [np.asarray(differences, dtype=np.float64) for differences in many]
    lists = [d for d in lists if d.size > 1 and np.isfinite(d).all()]
    if options < 3 or len(lists) < 3:
        return None
    # Sorted, because a sum depends on its order, and tables have the pairs in different orders.
    variances, freedoms = np.array(sorted((float(d.var(ddof=1)), d.size - 1) for d in lists)).T
    least = LEAST_VARIANCE * float(np.median(variances))
    if math.sqrt(least) <= ROUNDING:
        return None
    typical, freedom = _typical_variance(np.maximum(variances, least), freedoms)
    return SharedVariance(typical, min(freedom, options - 2, SHARED_FREEDOM))


def _typical_variance(variances: NDArray[np.float64], freedom: NDArray[np.float64]) -> tuple[float, float]:
    """Estimate the typical variance s₀² of pairs, and how alike their variances are: d degrees of freedom.

    The true variance of a pair is taken as d s₀² / χ²(d); `variances` are estimates of it with `freedom`
    degrees of freedom each. log s² then has the variance ψ′(freedom/2) + ψ′(d/2), which gives d, infinite if
    the estimates vary no more than those of equal variances; its mean gives s₀² (Smyth 2004, §6.2).
    """
    half = freedom / 2
    e = np.log(variances) - special.digamma(half) + np.log(half)
    excess = float(e.var(ddof=1) - special.polygamma(1, half).mean())
    if excess <= 0:
        return math.exp(float(e.mean())), math.inf
    d = 2 * _inverse_trigamma(excess)
    return math.exp(float(e.mean() + special.digamma(d / 2) - math.log(d / 2))), d


def _inverse_trigamma(y: float) -> float:
    """Return the x > 0 with ψ′(x) = y, by Newton's method for 1/ψ′, which is nearly linear (Smyth 2004).

    >>> round(_inverse_trigamma(float(special.polygamma(1, 3.0))), 9)
    3.0
    """
    x = 0.5 + 1 / y
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / y) / float(special.polygamma(2, x))
        x += step
        if abs(step) <= 1e-12 * x:
            break
    return x


def _standard_error(d: NDArray[np.float64], pool: SharedVariance | None) -> tuple[float, float]:
    """Return the standard error of the mean of two or more differences, and its degrees of freedom.

    With `pool`, it is computed from the variance that pairs share.
    """
    freedom = d.size - 1
    if pool is None:
        return standard_deviation(d) / math.sqrt(d.size), freedom
    total = pool.freedom + freedom
    variance = (pool.freedom * pool.variance + freedom * float(d.var(ddof=1))) / total
    return math.sqrt(variance / d.size), total


def shared_t_interval(
    differences: ArrayLike,
    pool: SharedVariance,
    level: float = LEVEL,
    *,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Return Student's interval for the mean of differences, with the variance that pairs share (`pool`).

    It contains 0 exactly if :func:`paired_t_test` with the same variance gives p > 1 − `level`.

    >>> interval = shared_t_interval([1.0, 2.0, 3.0], SharedVariance(1.0, 2))
    >>> round(interval.low, 2), interval.method
    (0.4, 'shared t')
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.size < 2 or not np.isfinite(d).all():
        return NOTHING
    error, freedom = _standard_error(d, pool)
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    low, high = np.clip([mean(d) - half, mean(d) + half], *within)
    return Interval(float(low), float(high), "shared t")


def paired_t_test(differences: ArrayLike, pool: SharedVariance | None = None) -> float:
    """Return the two-sided p value of Student's t test for a mean difference of 0 (Student 1908).

    With a :func:`shared` variance it is the moderated t test of Smyth (2004). If all differences are equal
    and there is no shared variance, t is undefined, and p is that of :func:`sign_flip_test`. With fewer than
    two differences, p is NaN.

    >>> round(paired_t_test([1.0, 2.0, 3.0]), 4), paired_t_test([0.1, 0.1, 0.1]), paired_t_test([0.1])
    (0.0742, 0.25, nan)
    >>> round(paired_t_test([1.0, 2.0, 3.0], SharedVariance(1.0, 2)), 4)
    0.0257
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.size < 2 or not np.isfinite(d).all():
        return float("nan")
    if pool is None and np.ptp(d) <= ROUNDING:
        return sign_flip_test(d)
    error, freedom = _standard_error(d, pool)
    return float(2 * special.stdtr(freedom, -abs(mean(d) / error)))


def equivalence_test(differences: ArrayLike, margin: float, pool: SharedVariance | None = None) -> float:
    """Test whether a mean is within ±margin, by two one-sided t tests (Schuirmann 1987); return p.

    One test is for a mean above −margin, the other for a mean below +margin. The larger of their p values is
    returned. With a :func:`shared` variance they are moderated t tests, as in :func:`paired_t_test`. If all
    differences are equal and within ±margin, and no variance is shared, p is 2^−n: the probability that n of
    n seeds are within if half of all possible seeds are outside. With fewer than two differences, p is NaN.

    >>> round(equivalence_test([-0.1, 0.0, 0.1], 0.5), 4), equivalence_test([0.0, 0.0], 0.5)
    (0.0065, 0.25)
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.size < 2 or not np.isfinite(d).all():
        return float("nan")
    if pool is None and np.ptp(d) <= ROUNDING:
        return 1.0 if abs(mean(d)) >= margin else math.pow(0.5, d.size)
    error, freedom = _standard_error(d, pool)
    return float(special.stdtr(freedom, -((margin - abs(mean(d))) / error)))


def sign_flip_test(differences: ArrayLike) -> float:
    """Test whether paired differences are symmetric about 0 (Fisher 1935); return the two-sided p value.

    If neither option of a pair is better, each difference could equally have the opposite sign. So p is the
    fraction of all sign patterns for which the mean is at least as far from 0 as the observed mean. NaN if
    there are no differences.

    Up to 32 differences, all patterns are counted. Each combines a pattern of the first half of the
    differences with a pattern of the second half, so two lists of sums cover all patterns (Horowitz and Sahni
    1974). With more differences, 65,536 random patterns and the observed pattern are counted (Phipson and
    Smyth 2010). If no random pattern is as far from 0, p is at most Hoeffding's bound 2 exp(−(Σd)²/2Σd²).
    Sums that differ by less than 1e-9 of Σ|d| count as equal: such a difference is rounding, since accuracies
    over N images are far coarser.

    >>> sign_flip_test([0.1, 0.2, 0.3]), sign_flip_test([0.1, 0.2, 0.3, -0.6])
    (0.25, 1.0)
    """
    return float(sign_flip_tests([differences])[0])


def sign_flip_tests(many: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return the p value of :func:`sign_flip_test` for each of many lists of differences.

    Lists of equal length share their random sign patterns. So many lists take little longer than one.
    """
    lists = [np.asarray(differences, dtype=np.float64) for differences in many]
    p = np.full(len(lists), np.nan)
    by_size: dict[int, list[int]] = {}
    for i, d in enumerate(lists):
        if d.size > EXACT_UP_TO:
            by_size.setdefault(d.size, []).append(i)
        elif d.size:
            p[i] = _over_all_patterns(d)
    for places in by_size.values():
        p[places] = _over_random_patterns([lists[i] for i in places])
    return p


def signs_can_settle(seeds: int, pairs: int = 1, *, level: float = LEVEL) -> bool:
    """Return whether a sign-flip test of one of these pairs can reach the level: p is at least 2/2ⁿ.

    >>> [signs_can_settle(6, pairs) for pairs in (1, 3)], signs_can_settle(12, 66)
    ([True, False], True)
    """
    return pairs * math.ldexp(2.0, -seeds) <= 1 - level


def _over_all_patterns(d: NDArray[np.float64]) -> float:
    """Return the fraction of all sign patterns whose sum Σ ±d is as far from 0 as the observed sum Σd."""
    least = _least(d)
    first, second = _signed_sums(d[: d.size // 2]), _signed_sums(d[d.size // 2 :])
    second.sort()
    first.sort()  # np.searchsorted is faster for sorted values
    above = len(second) - np.searchsorted(second, least - first, side="left")
    below = np.searchsorted(second, -least - first, side="right")
    return min(1.0, float((above + below).sum()) / float(2**d.size))


def _over_random_patterns(lists: Sequence[NDArray[np.float64]]) -> list[float]:
    """Estimate what :func:`_over_all_patterns` computes, from random patterns.

    The lists have one length, and share the patterns.
    """
    bounds = [_hoeffding(d) if d.any() else 1.0 for d in lists]
    drawn = [i for i, d in enumerate(lists) if d.any() and bounds[i] >= CERTAIN]
    as_far = [1] * len(lists)
    for i in range(0, len(drawn), TOGETHER):
        some = drawn[i : i + TOGETHER]
        counts = _as_far(np.stack([lists[i] for i in some]), np.array([_least(lists[i]) for i in some]))
        for place, count in zip(some, counts, strict=True):
            as_far[place] += count
    sampled = [count / (PATTERNS + 1) for count in as_far]
    return [
        1.0 if not d.any() else min(p, bound) if count == 1 else p
        for d, p, bound, count in zip(lists, sampled, bounds, as_far, strict=True)
    ]


def _least(d: NDArray[np.float64]) -> float:
    """Return how far from 0 a sum Σ ±d must be to count as being as far as Σd, which allows for rounding."""
    return abs(float(d.sum())) - SAME_SUM * float(np.abs(d).sum())


def _as_far(d: NDArray[np.float64], least: NDArray[np.float64]) -> list[int]:
    """Count the random sign patterns, of :data:`PATTERNS`, whose sum is at least as far from 0 as `least`.

    Return the count for each row of d.
    """
    rng, size, counts = np.random.default_rng(0), d.shape[1], np.zeros(len(d), dtype=np.int64)
    if size < BY_BLOCKS_FROM:
        step = max(1, AT_ONCE // size)
        for i in range(0, PATTERNS, step):
            signs = rng.integers(0, 2, (min(step, PATTERNS - i), size)) * 2.0 - 1
            # One product for all lists changes only the rounding of a list's sums, which `least` allows.
            counts += (np.abs(signs @ d.T) >= least).sum(axis=0)
        return [int(count) for count in counts]
    # A block of 16 signs has 65,536 patterns. Their sums are computed once and looked up.
    sums = np.zeros((len(d), PATTERNS))
    for start in range(0, size, 16):
        pattern = rng.integers(0, 1 << min(16, size - start), PATTERNS)
        for total, row in zip(sums, d, strict=True):
            total += _signed_sums(row[start : start + 16])[pattern]
    return [int((np.abs(total) >= limit).sum()) for total, limit in zip(sums, least, strict=True)]


def _hoeffding(d: NDArray[np.float64]) -> float:
    """Return an upper bound on the p value of :func:`sign_flip_test`, by Hoeffding's inequality."""
    return min(1.0, 2 * math.exp(-(float(d.sum()) ** 2) / (2 * float((d**2).sum()))))


def _signed_sums(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums Σ ±d of all 2^n patterns of signs."""
    sums = np.zeros(1)
    for difference in d:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


# Tests for seeds that are looked at more than once


def safe_t_test(differences: ArrayLike, mean_difference: float = 0.0, *, prior: float = PRIOR) -> float:
    """Test whether a mean is `mean_difference`; return a p value that is valid at every look at the results.

    A look is an occasion on which the results are seen, after which seeds may be added.

    For n differences with mean x̄, standard deviation s and t = (x̄ − `mean_difference`) / (s/√n), p is 1/BF,
    at most 1. The Bayes factor BF compares an effect drawn from N(0, τ²) with no effect (Gönen et al. 2005):

        BF = (1 + nτ²)^(−1/2) · [(1 + t²/ν) / (1 + t²/(ν(1 + nτ²)))]^((ν+1)/2),  ν = n − 1.

    The effect is the true mean minus `mean_difference`, in standard deviations; τ is `prior`. Under the null
    hypothesis, the probability that BF reaches 1/α at any look is at most α (Ville's inequality; Grünwald et
    al. 2024). So seeds may be added after any look at the results, for any reason. If all differences are
    equal, t is undefined, and p is that of :func:`safe_sign_test`. With fewer than two differences, p is NaN.

    >>> round(safe_t_test([1.0, 2.0, 3.0]), 4), safe_t_test([1.0])
    (0.344, nan)
    """
    d = np.asarray(differences, dtype=np.float64) - mean_difference
    if d.size < 2 or not np.isfinite(d).all():
        return float("nan")
    if np.ptp(d) <= ROUNDING:
        return safe_sign_test(d)
    t = mean(d) / (standard_deviation(d) / math.sqrt(d.size))
    nu, a = d.size - 1, 1 + d.size * prior**2
    log_bf = (nu + 1) / 2 * (math.log1p(t**2 / nu) - math.log1p(t**2 / (nu * a))) - math.log(a) / 2
    return math.exp(min(0.0, -log_bf))


def safe_t_interval(
    differences: ArrayLike, level: float = LEVEL, *, within: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    """Return an interval for a mean that stays valid if results are seen repeatedly while seeds are added.

    It contains the means that :func:`safe_t_test` does not reject. With very few differences the test rejects
    no mean, and the interval is all of `within`.

    >>> safe_t_interval([0.010, 0.012, 0.011, 0.013], within=DIFFERENCE).low.__round__(4)
    0.0068
    """
    d = np.asarray(differences, dtype=np.float64)
    student = student_interval(d, level)
    if student.method != "t":
        return student
    half = float(_safe_critical(np.array([d.size]), 1 - level)[0]) * standard_deviation(d) / math.sqrt(d.size)
    low, high = np.clip([mean(d) - half, mean(d) + half], *within)
    return Interval(float(low), float(high), "safe t")


def _safe_critical(n: NDArray[np.int_], alpha: float, prior: float = PRIOR) -> NDArray[np.float64]:
    """Return the least |t| for which :func:`safe_t_test` of n differences gives p ≤ α; infinity if none."""
    a = 1 + n * prior**2
    r = (np.sqrt(a) / alpha) ** (2 / n)
    with np.errstate(divide="ignore"):
        return np.where(r < a, np.sqrt((n - 1) * (r - 1) / np.maximum(1 - r / a, 0.0)), np.inf)


def safe_half_width(n: NDArray[np.int_], alpha: float, *, prior: float = PRIOR) -> NDArray[np.float64]:
    """Return half the width of :func:`safe_t_interval` at level 1 − α, in standard deviations.

    It is infinite where n differences are too few for an interval.

    >>> safe_half_width(np.array([2, 10]), 0.05).round(3).tolist()
    [inf, 1.256]
    """
    return _safe_critical(n, alpha, prior) / np.sqrt(n)


def safe_equivalence_test(differences: ArrayLike, margin: float, *, prior: float = PRIOR) -> float:
    """Test whether a mean is within ±margin; return a p value that is valid at every look at the results.

    :func:`safe_t_test` tests the means −margin and +margin, and the larger of its two p values is returned.
    If it rejects both, it also rejects every mean beyond them. If the observed mean is not within ±margin, p
    is 1.

    >>> round(safe_equivalence_test([-0.1, 0.0, 0.1, 0.0], 0.5), 3), safe_equivalence_test([0.6, 0.7], 0.5)
    (0.025, 1.0)
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.size < 2 or not np.isfinite(d).all():
        return float("nan")
    if abs(mean(d)) >= margin:
        return 1.0
    return max(safe_t_test(d, margin, prior=prior), safe_t_test(d, -margin, prior=prior))


def safe_sign_test(differences: ArrayLike) -> float:
    """Test whether both signs are equally likely; return a p value that is valid at every look at results.

    Of the n differences that are not 0, k are positive. The Bayes factor

        BF = 2^n B(k + 1, n − k + 1),  where B is the Beta function,

    compares two hypotheses about the probability of a positive sign: that any value from 0 to 1 is equally
    likely, and that it is one half. p is 1/BF, but at most 1. If all differences are 0, p is 1.

    >>> safe_sign_test([0.1, 0.2, 0.3, 0.4, 0.1, 0.2]), safe_sign_test([0.0])
    (0.109375, 1.0)
    """
    d = np.asarray(differences, dtype=np.float64)
    k, n = int((d > 0).sum()), int((d != 0).sum())
    return min(1.0, (n + 1) * math.comb(n, k) / (1 << n))


def holm(p_values: ArrayLike, pairs: int | None = None) -> NDArray[np.float64]:
    """Return p values corrected for multiple comparisons (Holm 1979), in the same order; NaN stays NaN.

    Parameters
    ----------
    p_values
        One p value per pair.
    pairs
        The number of pairs in the family, if `p_values` has only some of them, picked by their results. The
        other pairs count as if their p were larger, which can only raise the result.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: int(np.isfinite(p).sum())]
    weights = (len(order) if pairs is None else pairs) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * weights), 1.0)
    return corrected


def superiority(a: ArrayLike, b: ArrayLike) -> float:
    """Return the probability that a new value of a exceeds a new value of b; a tie counts one half.

    It is the fraction of all pairs of a value of a and a value of b, not only of pairs with the same seed:
    "probability of improvement" in rliable (Agarwal et al. 2021), Mann and Whitney's U divided by n·m for n
    and m values. With few values it is coarse: if three values of a all exceed three values of b, it is 1.
    NaN if there are no values.

    >>> superiority([3, 2], [1, 2])
    0.875
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not x.size or not y.size:
        return float("nan")
    y = np.sort(y)
    below, not_above = (np.searchsorted(y, x, side).sum() for side in ("left", "right"))
    return float((below + not_above) / 2 / (x.size * y.size))


def seeds_needed(
    differences: ArrayLike,
    *,
    pairs: int = 1,
    level: float = LEVEL,
    power: float = 0.8,
    most: int = 1000,
    signs: bool = False,
) -> int | None:
    """Return how many seeds would settle a comparison if further differences are like these.

    After seeds are added, the results are seen a second time. So this is the least n at which
    :func:`safe_t_test`, at level 1 − (1 − level)/pairs, detects a true effect of this mean and standard
    deviation with probability `power`, by the noncentral t distribution. With few differences it is a rough
    guess, as are their mean and standard deviation.

    Parameters
    ----------
    pairs
        The number of pairs in the family.
    signs
        Whether :func:`safe_sign_test` must also be able to reach the level.

    Returns
    -------
    int or None
        None if unknown (fewer than two differences, or a mean of 0) or above `most`.

    Examples
    --------
    >>> seeds_needed([0.01, 0.02, 0.03]), seeds_needed([0.01, 0.02, 0.03], signs=True)
    (8, 8)
    >>> seeds_needed([0.01]), seeds_needed([-0.1, 0.1])
    (None, None)
    """
    return seeds_needed_by([differences], [signs], pairs=pairs, level=level, power=power, most=most)[0]


def seeds_needed_by(
    many: Sequence[ArrayLike],
    signs: Sequence[bool],
    *,
    pairs: int = 1,
    level: float = LEVEL,
    power: float = 0.8,
    most: int = 1000,
) -> list[int | None]:
    """Return how many seeds each of many comparisons needs, as :func:`seeds_needed` does for one.

    Each list of differences has its `signs`. The power grows with n. So the least n is found by bisection,
    for all lists at once.
    """
    lists = [np.asarray(differences, dtype=np.float64) for differences in many]
    known = np.array(
        [d.size > 1 and bool(np.isfinite(d).all()) and abs(d.mean()) > ROUNDING for d in lists], dtype=bool
    )
    if not known.any():
        return [None] * len(lists)
    # If all differences are equal, their variance is 0 and t is undefined, so safe_t_test uses the sign test.
    constant = np.array(
        [ok and np.ptp(d) <= ROUNDING for d, ok in zip(lists, known, strict=True)], dtype=bool
    )
    effect = np.full(len(lists), np.nan)
    for i in np.flatnonzero(known & ~constant):
        effect[i] = abs(float(lists[i].mean())) / float(lists[i].std(ddof=1))
    by_sign = constant | np.array(signs, dtype=bool)
    n = np.arange(most + 1)
    enough_signs = np.where(n < 2, False, (n + 1) * np.exp2(-n.astype(np.float64)) * pairs <= 1 - level)
    critical = np.append([np.inf] * 2, _safe_critical(n[2:], (1 - level) / pairs))

    def settles(i: NDArray[np.intp], n: NDArray[np.int_]) -> NDArray[np.bool_]:
        """Return whether n differences like those of list i settle its comparison."""
        shift, limit = effect[i] * np.sqrt(n), critical[n]
        # The noncentral t distribution is slow, so it is computed only where the power is in doubt. If the
        # limit exceeds the shift by 3, the power is below 69%: T is (Z + shift)/s, and s is below 1 with a
        # probability of at most 68%. If the shift exceeds the limit by 6, the power is 1, and the
        # distribution may underflow to NaN.
        reached = shift > limit + 6
        near = np.isfinite(limit) & (shift > limit - 3) & ~reached
        reached[near] = stats.nct.sf(limit[near], n[near] - 1, shift[near]) >= power
        settled: NDArray[np.bool_] = (reached | constant[i]) & (enough_signs[n] | ~by_sign[i])
        return settled

    rest = np.flatnonzero(known)
    rest = rest[settles(rest, np.full(len(rest), most))]
    is_settled = np.isin(np.arange(len(lists)), rest)
    too_few, enough = np.full(len(lists), 1), np.full(len(lists), most)
    while len(rest := rest[enough[rest] - too_few[rest] > 1]):
        middle = (too_few[rest] + enough[rest]) // 2
        settled = settles(rest, middle)
        enough[rest[settled]], too_few[rest[~settled]] = middle[settled], middle[~settled]
    return [int(n) if ok else None for n, ok in zip(enough, is_settled, strict=True)]


def fewest_for_signs(pairs: int = 1, *, level: float = LEVEL) -> int:
    """Return the least number of seeds with which :func:`safe_sign_test` can settle one of so many pairs.

    With n differences of the same sign, its p is (n + 1)/2ⁿ.

    >>> fewest_for_signs(), fewest_for_signs(2775)
    (8, 21)
    """
    n = 1
    while (n + 1) / 2**n * pairs > 1 - level:
        n += 1
    return n


# The error from a finite test set


def test_set_error(accuracy: float, images: int) -> float:
    """Return the standard error of an accuracy measured on a number of images, about √(p(1 − p)/n).

    It is half the width of Wilson's interval (1927) at one standard error, so an accuracy of 100% has an
    error too. More seeds do not reduce it: all trials are measured on the same images, and other images would
    shift all accuracies together.

    >>> round(test_set_error(0.96, 10_000), 5)
    0.00196
    """
    if not images or math.isnan(accuracy):
        return float("nan")
    return math.sqrt(accuracy * (1 - accuracy) / images + 1 / (4 * images**2)) / (1 + 1 / images)


test_set_error.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it because of its name


# Analysis of variance


def variance_shares(values: ArrayLike, names: Sequence[str]) -> dict[tuple[str, ...], float]:
    """Divide the variance over a full grid among the factors, their interactions and the seeds.

    The shares are the sums of squares of a balanced analysis of variance (Fisher 1925), divided by their
    total.

    Parameters
    ----------
    values
        An array with an axis for each factor, in the order of `names`, and a last axis for seeds. No value is
        NaN or infinite.
    names
        The factors' names.

    Returns
    -------
    dict
        Maps effects, `("init",)`, …, `("arch", "init")`, …, to shares; `()` is the variance between seeds
        within a cell. The shares add up to 1. Empty if all values are equal.

    Raises
    ------
    ValueError
        If a value is missing or the number of names does not fit the axes.

    Examples
    --------
    >>> variance_shares([[[1.0], [2.0]], [[3.0], [4.0]]], ["arch", "init"])[("arch",)]
    0.8
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != len(names) + 1 or not x.size or not np.isfinite(x).all():
        raise ValueError(
            f"values has the shape {x.shape}; it must have {len(names) + 1} axes, one for each factor and "
            "one for the seeds, and no missing value"
        )
    total = float(((x - x.mean()) ** 2).sum())
    if total <= 1e-24 * x.size:
        return {}
    cells = x.mean(axis=-1)
    axes = range(len(names))
    effects: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for size in range(len(names) + 1):
        for subset in combinations(axes, size):
            effect = cells.mean(axis=tuple(a for a in axes if a not in subset), keepdims=True)
            for smaller, contained in effects.items():
                if set(smaller) < set(subset):
                    effect = effect - contained
            effects[subset] = effect
    shares = {
        tuple(names[a] for a in subset): float((effect**2).mean()) * x.size / total
        for subset, effect in effects.items()
        if subset
    }
    return {**shares, (): float(((x - cells[..., None]) ** 2).sum()) / total}
