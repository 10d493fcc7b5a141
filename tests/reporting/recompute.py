"""The figures of a report once more, from its `runs.csv` alone: by SciPy, by statsmodels, and by counting.

It imports nothing of fnnexp, so it and a report share no mistake. Its caller says which factors vary. All
trials must have finished, each configuration and seed once.
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
"""How many standard deviations a difference is expected to be, where seeds were looked at before."""

IMAGES, CLASSES = 5000, 10
"""Of MNIST, to validate on."""


def read(file, factors):
    """Return the finished trials, with the names of options, and the look that saw each, or infinity."""
    runs = pd.read_csv(file)
    assert (runs["status"] == "finished").all()
    assert not runs.duplicated([*factors, "seed"]).any()
    assert (runs[["data.validation", "classes"]] == [IMAGES, CLASSES]).all(axis=None)
    runs["look"] = runs["look"].fillna(math.inf) if "look" in runs else math.inf
    runs["training"] = runs["identical_to"].astype("object").fillna(runs["trial"])
    return as_names(runs, factors)


def as_names(table, factors):
    """Return a table with the options of these factors as text: a rate of 1.0 is `1`."""
    texts = {
        factor: [f"{value:g}" if isinstance(value, float) else str(value) for value in table[factor]]
        for factor in factors
        if factor in table
    }
    return table.assign(**texts)


def joined(runs, factors):
    """Return one row a training; options that are the same trainings everywhere are one: `a = b`."""
    names = {}
    for factor in factors:
        rest = [each for each in factors if each != factor]
        same = {}
        for option in runs[factor].unique():
            mine = runs[runs[factor] == option]
            same.setdefault(frozenset(map(tuple, mine[[*rest, "seed", "training"]].to_numpy())), []).append(
                option
            )
        names[factor] = {option: " = ".join(options) for options in same.values() for option in options}
    named = runs.assign(**{factor: runs[factor].map(names[factor]) for factor in factors})
    return named.drop_duplicates([*factors, "seed"])


def named(runs, factors):
    """Return each row's configuration: `relu_100 he optimizer.lr=0.1`."""
    texts = [runs[f] if f in ("arch", "init", "batching") else f"{f}=" + runs[f] for f in factors]
    return texts[0].str.cat(texts[1:], sep=" ") if len(texts) > 1 else texts[0]


def at_best(runs, factors, axes):
    """Return the trials of each combination of the other factors at its own best values of these axes.

    The best have the best mean over seeds; of equal means the smallest values are taken.
    """
    rest = [factor for factor in factors if factor not in axes]
    means = runs.groupby([*rest, *axes])[METRIC].mean().round(12).reset_index()
    ranked = means.sort_values([METRIC, *axes], ascending=[False, *(True for _ in axes)], key=pd.to_numeric)
    return runs.merge(ranked.drop_duplicates(rest).drop(columns=METRIC))


def question(runs, column, places=()):
    """Return every two of a column's options, the best with every other first, and all as one family.

    Of each option there are its accuracies and its looks: seeds down, the combinations of `places` across.
    """
    means = runs.groupby(column)[METRIC].mean().sort_values(ascending=False)
    by = ["seed", *places]
    tables = {}
    for option in means.index:
        rows = runs[runs[column] == option].sort_values(by)
        n = rows["seed"].nunique()
        tables[option] = [rows[each].to_numpy().reshape(n, -1) for each in (METRIC, "look")]
    pairs = [pair(*two) for two in itertools.combinations(tables.items(), 2)]
    table, family = pd.DataFrame(pairs).assign(family=len(pairs)), len(pairs)
    table["p_corrected"], table["p_equivalent"] = holm(table["p"]), holm(table["p_equivalent"])
    inside = (table["low"] >= -MARGIN) & (table["high"] <= MARGIN) & (table["p_equivalent"] <= ALPHA)
    table["verdict"] = np.where(
        inside, "equivalent", np.where(table["p_corrected"] <= ALPHA, "better", "open")
    )
    needed = [
        seeds_needed(row["d"], row["test"], family) if row["verdict"] == "open" else math.nan
        for row in table.to_dict("records")
    ]
    return table.assign(seeds_needed=pd.Series(needed, dtype="float64"))


def pair(a, b):
    """Return what a report says of two options, each a name and its arrays, before it corrects for others.

    A seed's accuracy is the mean over the places. Its last look is the one that saw all its trials.
    """
    if a[1][0].mean() < b[1][0].mean():
        a, b = b, a
    (better, (x, seen)), (other, (y, also_seen)) = a, b
    bad = np.hstack([x, y]) < 2 / CLASSES
    mixed = (bad.any(axis=0) & ~bad.all(axis=0)).any()
    looks = len(np.unique(np.hstack([seen, also_seen]).max(axis=1)))
    test = ("safe signs" if mixed else "safe t") if looks > 1 else ("sign flip" if mixed else "t")
    d = ((x * IMAGES).round() - (y * IMAGES).round()).mean(axis=1) / IMAGES
    x, y = x.mean(axis=1), y.mean(axis=1)
    low, high = interval(test, d)
    return {"a": better, "b": other, "seeds": len(d), "looks": looks, "difference": d.mean(),
            "ahead": (d > 0).sum(), "failed": bad.any(axis=1).sum(),
            "probability": stats.mannwhitneyu(x, y).statistic / len(d) ** 2 if len(d) > 1 else math.nan,
            "low": low, "high": high, "test": test, "p": p_value(test, d), "p_sign_flip": sign_flips(d),
            "p_equivalent": math.nan if mixed else p_equivalent(test, d), "d": d}  # fmt: skip


# The tests, each for one look or, after `safe`, for any number of looks


def p_value(test, d):
    """Return the p of a test; differences that are all the same are tested by their signs."""
    if len(d) < 2:
        return math.nan
    if test in ("sign flip", "safe signs") or not np.ptp(d):
        return safe_signs(d) if test.startswith("safe") else sign_flips(d)
    return safe_t(d) if test == "safe t" else stats.ttest_1samp(d, 0).pvalue


def p_equivalent(test, d):
    """Return the p for a mean within the margin; if all are the same, half of all seeds could lie outside."""
    if len(d) < 2:
        return math.nan
    outside = abs(d.mean()) >= MARGIN
    if test == "safe t":
        return 1.0 if outside else max(p_value(test, d - MARGIN), p_value(test, d + MARGIN))
    if not np.ptp(d):
        return 1.0 if outside else 0.5 ** len(d)
    return ttost_paired(d, 0 * d, -MARGIN, MARGIN)[0]


def interval(test, d):
    """Return the 95% interval; none where it is of resampled means, which :func:`bca` bounds."""
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
    """Return the share of all sign patterns that lie as far from 0: sums are apart by more than rounding."""
    patterns = np.array(list(itertools.product((1, -1), repeat=len(d))))
    return (abs(patterns @ d) >= abs(d.sum()) - 1e-9).mean()


def safe_signs(d):
    """Return how likely so many positive signs are at one half, against all probabilities of one alike."""
    ahead, n = (d > 0).sum(), (d != 0).sum()
    return min(1.0, stats.binom.pmf(ahead, n, 0.5) / stats.betabinom.pmf(ahead, n, 1, 1))


def safe_t(d):
    """Return the inverse of the Bayes factor against a mean of 0."""
    return min(1.0, math.exp(-log_bayes_factor(stats.ttest_1samp(d, 0).statistic, len(d))))


def log_bayes_factor(t, n):
    """Return by how much a mean of N(0, (2σ)²) makes n differences with this t likelier than a mean of 0.

    Both likelihoods, of the sample's mean (t/√n standard deviations) and of the squares about it (n − 1), are
    integrated over all log σ by the trapezoid rule.
    """
    mean = abs(t) / math.sqrt(n)
    log_s = np.linspace(-15, 15, 3001) + math.log(mean**2 + 1) / 2
    squares = -(n - 1) * (log_s + np.exp(-2 * log_s) / 2)
    likely = [
        special.logsumexp(squares + stats.norm.logpdf(mean, scale=np.exp(log_s) * math.sqrt(1 / n + tau**2)))
        for tau in (PRIOR, 0)
    ]
    return likely[0] - likely[1]


@functools.cache
def critical(n, alpha):
    """Return the |t| of n differences from which on the Bayes factor is 1/α; infinity where it is at none."""
    most = 1e6
    if log_bayes_factor(most, n) < -math.log(alpha):
        return math.inf
    return optimize.brentq(lambda t: log_bayes_factor(t, n) + math.log(alpha), 0, most, xtol=1e-10)


def seeds_needed(d, test, family):
    """Return the least number of seeds with a power of 80% at a second look, NaN if it is beyond 1,000."""
    if len(d) < 2 or not d.mean():
        return math.nan
    alpha, varies = ALPHA / family, np.ptp(d) > 0

    def enough(n):
        signs = (test in ("t", "safe t") and varies) or safe_signs(np.ones(n)) <= alpha
        return bool(signs and (not varies or power(abs(d.mean()) / d.std(ddof=1), n, alpha) >= 0.8))

    least = 2 + bisect.bisect_left(range(2, 1001), True, key=enough)
    return least if least <= 1000 else math.nan


def power(effect, n, alpha):
    """Return how often t is beyond its critical value, on the side of the effect.

    With a sample's standard deviation s that is how often √n times its mean is beyond s times that value.
    """
    limit = critical(n, alpha)
    if math.isinf(limit):
        return 0.0
    chi = np.linspace(*stats.chi.ppf([1e-13, 1 - 1e-13], n - 1), 4001)
    beyond = stats.norm.sf(limit * chi / math.sqrt(n - 1) - effect * math.sqrt(n))
    return integrate.trapezoid(beyond * stats.chi.pdf(chi, n - 1), chi)


def holm(p):
    """Return Holm's p values: of Bonferroni's in any set of pairs with this one in it, the greatest.

    Where there is no p there is none, but the pair counts as one with a larger.
    """
    known = p.fillna(1.0).to_numpy()
    alone = known * (known >= known[:, None]).sum(axis=1)
    return np.where(p.isna(), math.nan, [min(1.0, alone[known <= each].max()) for each in known])


# The tables of a report


def options(runs, factors):
    """Return every two options of each factor: all pairs of one factor are a family."""
    runs = joined(runs, factors)
    for factor in factors:
        if len(runs[factor].unique()) > 1:
            yield question(runs, factor, [each for each in factors if each != factor]).assign(factor=factor)


def cells(runs, factors):
    """Return the best initializer in each combination of the others, and the next; a cell is a family."""
    runs = joined(runs, factors)
    places = [each for each in factors if each != "init"]
    for key, cell in runs.groupby(places) if places else []:
        yield question(cell, "init").head(1).assign(**dict(zip(places, key, strict=True)))


def leader(runs, factors):
    """Return the best configuration against every other; all pairs of configurations are the family."""
    runs = joined(runs, factors)
    runs = runs.assign(configuration=named(runs, factors))
    return question(runs, "configuration").head(runs["configuration"].nunique() - 1)


def failures(runs, factors):
    """Return each configuration, in how many seeds it is below twice what guessing gets, and its seeds."""
    runs = joined(runs, factors)
    failed = (runs[METRIC] < 2 / CLASSES).groupby(named(runs, factors))
    return [*failed.agg(["sum", "size"]).itertuples(name=None)]


def board(runs, factors):
    """Return mean and standard deviation of each configuration, also of those that are another's same."""
    by = runs.groupby(factors)
    means = by[[METRIC, "test_accuracy"]].mean()
    spreads = by[[METRIC, "test_accuracy"]].std().add_suffix("_sd")
    return means.join(spreads).assign(seeds=by.size(), values=by[METRIC].apply(np.array)).reset_index()


def bounds(values):
    """Return bounds for both ends of a mean's interval: Student's of fewer than six values, else bca's."""
    if len(values) >= 6:
        return list(bca(values))
    return [(end, end) for end in np.clip(stats.ttest_1samp(values, 0).confidence_interval(0.95), 0, 1)]


def bca(values):
    """Return bounds for both ends of the BCa interval of a mean, from all n^n resamples.

    A report draws 4,999 of them, so its ends are quantiles at levels that are off by chance: the bounds are
    four standard errors wide on either side. The level is raised as Hesterberg (2015, §3.4) has it.
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
    """Return each effect's share of all squares by an analysis of variance; the residual is the seeds'."""
    runs = joined(runs, factors)
    table = runs.set_axis([column.replace(".", "_") for column in runs.columns], axis=1)
    terms = [f"C({factor.replace('.', '_')})" for factor in factors]
    with np.errstate(divide="ignore"):  # one seed leaves no residual to divide by
        squares = anova_lm(ols(f"{METRIC} ~ {' * '.join(terms)}", table).fit())["sum_sq"]
    effects = dict(zip(terms, factors, strict=True))
    names = [" × ".join(effects.get(each, "seed") for each in effect.split(":")) for effect in squares.index]
    return dict(zip(names, squares / squares.sum(), strict=True))


def image_error(accuracy, images):
    """Return the standard error of an accuracy from so many images: half of Wilson's interval at one."""
    low, high = proportion_confint(accuracy * images, images, 2 * stats.norm.sf(1), method="wilson")
    return (high - low) / 2
