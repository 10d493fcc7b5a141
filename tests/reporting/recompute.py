"""Recompute the numbers of a report from its `runs.csv` alone, with SciPy, statsmodels and plain counting.

This module does not import fnnexp, so it cannot share a mistake with the report. The caller says which
factors vary. All trials must have finished, and each configuration and seed must occur once.
"""

import bisect
import functools
import itertools
import math

import numpy as np
import pandas as pd
from scipy import integrate, optimize, special, stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

METRIC = "val_accuracy"
MARGIN = 0.2 / 100
ALPHA = 0.05
PRIOR = 2
"""The expected size of a difference in standard deviations, for seeds that were looked at before."""

IMAGES, CLASSES = 5000, 10
"""The number of MNIST images for validation, and of classes."""


def read(file, factors):
    """Return the finished trials with options as text, and the look that saw each trial first or infinity."""
    runs = pd.read_csv(file)
    assert (runs["status"] == "finished").all()
    assert not runs.duplicated([*factors, "seed"]).any()
    assert (runs[["data.validation", "classes"]] == [IMAGES, CLASSES]).all(axis=None)
    runs["look"] = runs["look"].fillna(math.inf) if "look" in runs else math.inf
    runs["training"] = runs["identical_to"].astype("object").fillna(runs["trial"])
    return as_names(runs, factors)


def as_names(table, factors):
    """Return a table with the options of these factors as text; a rate of 1.0 becomes `1`."""
    texts = {
        factor: [f"{value:g}" if isinstance(value, float) else str(value) for value in table[factor]]
        for factor in factors
        if factor in table
    }
    return table.assign(**texts)


def joined(runs, factors):
    """Return one row per training. Options with identical trainings everywhere are merged to `a = b`."""
    names = {}
    for factor in factors:
        rest = [other for other in factors if other != factor]
        by_trainings = {}
        for option in runs[factor].unique():
            trials = runs[runs[factor] == option]
            trainings = frozenset(map(tuple, trials[[*rest, "seed", "training"]].to_numpy()))
            by_trainings.setdefault(trainings, []).append(option)
        names[factor] = {
            option: " = ".join(options) for options in by_trainings.values() for option in options
        }
    named = runs.assign(**{factor: runs[factor].map(names[factor]) for factor in factors})
    return named.drop_duplicates([*factors, "seed"])


def named(runs, factors):
    """Return the name of the configuration of each row: `relu_100 he optimizer.lr=0.1`."""
    texts = [runs[f] if f in ("arch", "init", "batching") else f"{f}=" + runs[f] for f in factors]
    return texts[0].str.cat(texts[1:], sep=" ") if len(texts) > 1 else texts[0]


def at_best(runs, factors, axes):
    """Return the trials of each combination of the other factors at its own best values of these axes.

    The best values have the highest mean over seeds; ties are broken by the smallest values.
    """
    rest = [factor for factor in factors if factor not in axes]
    means = runs.groupby([*rest, *axes])[METRIC].mean().round(12).reset_index()
    ranked = means.sort_values([METRIC, *axes], ascending=[False, *(True for _ in axes)], key=pd.to_numeric)
    return runs.merge(ranked.drop_duplicates(rest).drop(columns=METRIC))


def question(runs, column, others=()):
    """Return all pairs of options in a column as one family of tests, those with the best option first.

    The accuracies and looks of each option are tables, with seeds down and combinations of `others` across.
    """
    means = runs.groupby(column)[METRIC].mean().sort_values(ascending=False)
    by = ["seed", *others]
    tables = {}
    for option in means.index:
        rows = runs[runs[column] == option].sort_values(by)
        n = rows["seed"].nunique()
        tables[option] = [rows[name].to_numpy().reshape(n, -1) for name in (METRIC, "look")]
    two_by_two = [*itertools.combinations(tables.items(), 2)]
    pairs = shared([pair(*two, len(two_by_two)) for two in two_by_two])
    table, family = pd.DataFrame(pairs).assign(family=len(pairs)), len(pairs)
    table["p_corrected"], table["p_equivalent"] = holm(table["p"]), holm(table["p_equivalent"])
    inside = (table["low"] >= -MARGIN) & (table["high"] <= MARGIN) & (table["p_equivalent"] <= ALPHA)
    table["verdict"] = np.where(
        inside, "equivalent", np.where(table["p_corrected"] <= ALPHA, "better", "open")
    )
    needed = [
        seeds_needed(row["d"], row["mixed"], family) if row["verdict"] == "open" else math.nan
        for row in table.to_dict("records")
    ]
    return table.assign(seeds_needed=pd.Series(needed, dtype="float64"))


def pair(a, b, family):
    """Return the comparison of two options, each a name with its arrays, before correction for other pairs.

    Where some seeds failed, signs are tested if the signs of so many seeds can settle a pair of the family.

    The accuracy of a seed is the mean over the combinations. Its look is the first that saw all its trials.
    """
    if a[1][0].mean() < b[1][0].mean():
        a, b = b, a
    (better, (x, x_looks)), (other, (y, y_looks)) = a, b
    bad = np.hstack([x, y]) < 2 / CLASSES
    mixed = (bad.any(axis=0) & ~bad.all(axis=0)).any()
    looks = len(np.unique(np.hstack([x_looks, y_looks]).max(axis=1)))
    can = 2 / 2 ** len(x) * family <= ALPHA
    test = ("safe signs" if mixed else "safe t") if looks > 1 else ("sign flip" if mixed and can else "t")
    d = ((x * IMAGES).round() - (y * IMAGES).round()).mean(axis=1) / IMAGES
    x, y = x.mean(axis=1), y.mean(axis=1)
    low, high = interval(test, d)
    return {"a": better, "b": other, "seeds": len(d), "looks": looks, "difference": d.mean(),
            "ahead": (d > 0).sum(), "failed": bad.any(axis=1).sum(),
            "probability": stats.mannwhitneyu(x, y).statistic / len(d) ** 2 if len(d) > 1 else math.nan,
            "low": low, "high": high, "test": test, "p": p_value(test, d), "p_sign_flip": sign_flips(d),
            "p_equivalent": math.nan if mixed else p_equivalent(test, d), "d": d, "mixed": mixed}  # fmt: skip


def shared(pairs):
    """Return pairs with the tests and interval of a variance that is partly shared, as in Smyth (2004).

    This needs three options, and differences that vary; it is for at most five seeds.
    """
    tested = [row for row in pairs if row["test"] == "t" and row["seeds"] > 1 and not row["mixed"]]
    options = {row[side] for row in pairs if row["test"] == "t" and not row["mixed"] for side in "ab"}
    variances = np.array([row["d"].var(ddof=1) for row in tested])
    if len(options) < 3 or len(tested) < 3 or np.median(variances) < 1e-20:
        return pairs
    df = np.array([row["seeds"] - 1 for row in tested])
    # If all variances are equal, log s² is distributed as log χ² − log df, whose moments SciPy knows.
    log_chi2 = [stats.loggamma(n / 2) for n in df]
    e = np.log(np.maximum(variances, np.median(variances) / 100))
    e = e - [x.mean() + math.log(2 / n) for x, n in zip(log_chi2, df, strict=True)]
    excess = e.var(ddof=1) - np.mean([x.var() for x in log_chi2])
    prior, center = math.inf, e.mean()
    if excess > 0:
        prior = optimize.brentq(lambda d: stats.loggamma(d / 2).var() - excess, 1e-3, 1e7, xtol=1e-12)
        center += stats.loggamma(prior / 2).mean() + math.log(2 / prior)
    prior = min(prior, 2, len(options) - 2)
    for row, variance, own in zip(tested, variances, df, strict=True):
        if row["seeds"] <= 5:
            error = math.sqrt((prior * math.exp(center) + own * variance) / (prior + own) / row["seeds"])
            of_mean = stats.t(prior + own, row["difference"], error)
            row["low"], row["high"] = np.clip(of_mean.interval(0.95), -1, 1)
            row["p"] = 2 * min(of_mean.cdf(0), of_mean.sf(0))
            row["p_equivalent"] = max(of_mean.cdf(-MARGIN), of_mean.sf(MARGIN))
            row["test"] = "shared t"
    return pairs


# The tests; those named `safe` are valid for any number of looks, the others for one


def p_value(test, d):
    """Return the p of a test. Differences that are all equal are tested by sign."""
    if len(d) < 2:
        return math.nan
    if test in ("sign flip", "safe signs") or not np.ptp(d):
        return safe_signs(d) if test.startswith("safe") else sign_flips(d)
    return safe_t(d) if test == "safe t" else stats.ttest_1samp(d, 0).pvalue


def p_equivalent(test, d):
    """Return the p of a mean outside the margin; if all differences are equal, the p of their signs."""
    if len(d) < 2:
        return math.nan
    outside = abs(d.mean()) >= MARGIN
    if test == "safe t":
        return 1.0 if outside else max(p_value(test, d - MARGIN), p_value(test, d + MARGIN))
    if not np.ptp(d):
        return 1.0 if outside else 0.5 ** len(d)
    return ttost_paired(d, 0 * d, -MARGIN, MARGIN)[0]


def interval(test, d):
    """Return the 95% interval, or NaN if it is a bootstrap interval, which :func:`bca` bounds."""
    if len(d) < 2 or (len(d) < 6 and not np.ptp(d)):
        return math.nan, math.nan
    if not np.ptp(d):
        return d[0], d[0]
    if test in ("sign flip", "safe signs") and len(d) >= 6:
        return math.nan, math.nan
    if test == "safe t":
        half = critical(len(d), ALPHA) * stats.sem(d)
        return np.clip([d.mean() - half, d.mean() + half], -1, 1)
    return np.clip(stats.ttest_1samp(d, 0).confidence_interval(0.95), -1, 1)


def sign_flips(d):
    """Return the share of all sign patterns whose sum is at least as far from 0, up to rounding."""
    patterns = np.array(list(itertools.product((1, -1), repeat=len(d))))
    return (abs(patterns @ d) >= abs(d.sum()) - 1e-9).mean()


def safe_signs(d):
    """Return the likelihood of the positive signs at probability 1/2 over that at a uniform probability."""
    ahead, n = (d > 0).sum(), (d != 0).sum()
    return min(1.0, stats.binom.pmf(ahead, n, 0.5) / stats.betabinom.pmf(ahead, n, 1, 1))


def safe_t(d):
    """Return the inverse of the Bayes factor against a mean of 0."""
    return min(1.0, math.exp(-log_bayes_factor(stats.ttest_1samp(d, 0).statistic, len(d))))


def log_bayes_factor(t, n):
    """Return the log Bayes factor of a mean from N(0, (2σ)²) against a mean of 0, given n differences.

    `t` is the t statistic of the differences. Both likelihoods are for the sample mean (t/√n standard
    deviations) and the sum of squares about it (n − 1), integrated over all log σ by the trapezoid rule.
    """
    mean = abs(t) / math.sqrt(n)
    log_s = np.linspace(-15, 15, 3001) + math.log(mean**2 + 1) / 2
    squares = -(n - 1) * (log_s + np.exp(-2 * log_s) / 2)
    log_likelihoods = [
        special.logsumexp(squares + stats.norm.logpdf(mean, scale=np.exp(log_s) * math.sqrt(1 / n + tau**2)))
        for tau in (PRIOR, 0)
    ]
    return log_likelihoods[0] - log_likelihoods[1]


@functools.cache
def critical(n, alpha):
    """Return the smallest |t| of n differences with a Bayes factor of 1/α, infinity if there is none."""
    most = 1e6
    if log_bayes_factor(most, n) < -math.log(alpha):
        return math.inf
    return optimize.brentq(lambda t: log_bayes_factor(t, n) + math.log(alpha), 0, most, xtol=1e-10)


def seeds_needed(d, mixed, family):
    """Return the smallest number of seeds with a power of 80% at a second look, NaN if it exceeds 1,000."""
    if len(d) < 2 or not d.mean():
        return math.nan
    alpha, varies = ALPHA / family, np.ptp(d) > 0

    def enough(n):
        signs = (varies and not mixed) or safe_signs(np.ones(n)) <= alpha
        return bool(signs and (not varies or power(abs(d.mean()) / d.std(ddof=1), n, alpha) >= 0.8))

    least = 2 + bisect.bisect_left(range(2, 1001), True, key=enough)
    return least if least <= 1000 else math.nan


def power(effect, n, alpha):
    """Return the probability that t exceeds its critical value, in the direction of the effect.

    Given the standard deviation s of a sample, √n times its mean must exceed s times the critical value.
    """
    limit = critical(n, alpha)
    if math.isinf(limit):
        return 0.0
    chi = np.linspace(*stats.chi.ppf([1e-13, 1 - 1e-13], n - 1), 4001)
    beyond = stats.norm.sf(limit * chi / math.sqrt(n - 1) - effect * math.sqrt(n))
    return integrate.trapezoid(beyond * stats.chi.pdf(chi, n - 1), chi)


def holm(p):
    """Return Holm's p values by their definition: the largest Bonferroni p over all sets with the pair.

    A pair without p stays without, but it counts as a pair with p = 1.
    """
    known = p.fillna(1.0).to_numpy()
    bonferroni = known * (known >= known[:, None]).sum(axis=1)
    return np.where(p.isna(), math.nan, [min(1.0, bonferroni[known <= p_i].max()) for p_i in known])


# The tables of a report


def options(runs, factors):
    """Return all pairs of options of each factor; the pairs of a factor are a family."""
    runs = joined(runs, factors)
    for factor in factors:
        if len(runs[factor].unique()) > 1:
            others = [other for other in factors if other != factor]
            yield question(runs, factor, others).assign(factor=factor)


def cells(runs, factors):
    """Return the best initializer in each cell against the next best; the pairs of a cell are a family."""
    runs = joined(runs, factors)
    others = [factor for factor in factors if factor != "init"]
    for options_of_cell, cell in runs.groupby(others) if others else []:
        yield question(cell, "init").head(1).assign(**dict(zip(others, options_of_cell, strict=True)))


def leader(runs, factors):
    """Return the best configuration against every other; all pairs of configurations are one family."""
    runs = joined(runs, factors)
    runs = runs.assign(configuration=named(runs, factors))
    return question(runs, "configuration").head(runs["configuration"].nunique() - 1)


def failures(runs, factors):
    """Return (configuration, number of seeds below twice the accuracy of guessing, number of seeds)."""
    runs = joined(runs, factors)
    failed = (runs[METRIC] < 2 / CLASSES).groupby(named(runs, factors))
    return [*failed.agg(["sum", "size"]).itertuples(name=None)]


def board(runs, factors):
    """Return the mean and standard deviation of each configuration, including identical configurations."""
    by = runs.groupby(factors)
    means = by[[METRIC, "test_accuracy"]].mean()
    spreads = by[[METRIC, "test_accuracy"]].std().add_suffix("_sd")
    return means.join(spreads).assign(seeds=by.size(), values=by[METRIC].apply(np.array)).reset_index()


def bounds(values):
    """Return bounds for both ends of the interval of a mean: Student's below six values, else BCa."""
    if len(values) >= 6:
        return list(bca(values))
    return [(end, end) for end in np.clip(stats.ttest_1samp(values, 0).confidence_interval(0.95), 0, 1)]


def bca(values):
    """Return bounds for both ends of the BCa interval of a mean, from all n^n resamples.

    A report draws 4,999 resamples, so its ends have sampling error: the bounds are four standard errors wide
    on either side. The level is expanded as in Hesterberg (2015, §3.4).
    """
    x, n, resamples = np.asarray(values), len(values), 4999
    means = np.sort(x[resampled(n)].mean(axis=1).round(12))
    mean = x.mean().round(12)
    jackknife = (x.sum() - x) / (n - 1)
    u = jackknife.mean() - jackknife
    a = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    below = ((means < mean).mean() + (means <= mean).mean()) / 2
    z0 = stats.norm.ppf(below + np.array([-4, 0, 4]) * math.sqrt(below * (1 - below) / resamples))
    tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    for z in stats.norm.ppf([tail, 1 - tail]):
        level = stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))
        error = 4 * np.sqrt(level * (1 - level) / resamples) + 1 / resamples
        low, high = np.clip([(level - error).min(), (level + error).max()], 0, 1)
        yield np.quantile(means, low, method="lower"), np.quantile(means, high, method="higher")


@functools.cache
def resampled(n):
    return np.array(list(itertools.product(range(n), repeat=n)))


def shares(runs, factors):
    """Return the share of each effect in the sum of squares, by ANOVA; the residual belongs to the seeds."""
    runs = joined(runs, factors)
    table = runs.set_axis([column.replace(".", "_") for column in runs.columns], axis=1)
    terms = [f"C({factor.replace('.', '_')})" for factor in factors]
    with np.errstate(divide="ignore"):  # with one seed the residual is 0
        squares = anova_lm(ols(f"{METRIC} ~ {' * '.join(terms)}", table).fit())["sum_sq"]
    effects = dict(zip(terms, factors, strict=True))
    names = [" × ".join(effects.get(term, "seed") for term in effect.split(":")) for effect in squares.index]
    return dict(zip(names, squares / squares.sum(), strict=True))


def image_error(accuracy, images):
    """Return the standard error of an accuracy on a number of images: half of Wilson's interval at z = 1."""
    low, high = proportion_confint(accuracy * images, images, 2 * stats.norm.sf(1), method="wilson")
    return (high - low) / 2
