"""The figures of a report once more, from its `runs.csv` alone: by SciPy, by statsmodels, and by counting.

It imports nothing of fnnexp, so it and a report share no mistake. Its caller says which factors vary. All
trials must have finished, each configuration and seed once.
"""

import itertools
import math

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

MARGIN = 0.2 / 100
METRIC = "val_accuracy"


def read(file, factors):
    """Return the finished trials, with the names of options, and how many validation images are right."""
    runs = pd.read_csv(file)
    assert (runs["status"] == "finished").all()
    assert not runs.duplicated([*factors, "seed"]).any()
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


def pair(runs, column, a, b, places):
    """Return what a report says of two of a column's options, before it corrects for others.

    Seeds are down and the combinations of `places` are across; a seed's accuracy is the mean over them.
    """
    x, y = (
        runs[runs[column] == option].pivot_table(METRIC, "seed", places or "data", observed=True)
        for option in (a, b)
    )
    if x.to_numpy().mean() < y.to_numpy().mean():
        a, b, x, y = b, a, y, x
    images = int(runs["data.validation"].iloc[0])
    counts = (x * images).round().sum(axis=1) - (y * images).round().sum(axis=1)
    bad = [table < 2 / runs["classes"].iloc[0] for table in (x, y)]
    mixed = any((each.any() & ~each.all()).any() for each in bad)
    failed = (bad[0].any(axis=1) | bad[1].any(axis=1)).sum()
    x, y = x.mean(axis=1), y.mean(axis=1)
    signs = sign_flips(counts.to_numpy())
    found = {"a": a, "b": b, "seeds": len(x), "difference": (x - y).mean(), "ahead": (counts > 0).sum(),
             "failed": failed, "test": "sign flip" if mixed else "t", "p_sign_flip": signs,
             "d": x - y, "low": math.nan, "high": math.nan, "probability": math.nan,
             "p": signs if mixed else math.nan, "p_equivalent": math.nan}  # fmt: skip
    if len(x) < 2:
        return found
    found["probability"] = stats.mannwhitneyu(x, y).statistic / len(x) ** 2
    if mixed:
        return found
    student = stats.ttest_rel(x, y)
    low, high = np.clip(student.confidence_interval(0.95), -1, 1)
    equivalent = ttost_paired(x.to_numpy(), y.to_numpy(), -MARGIN, MARGIN)[0]
    return {**found, "low": low, "high": high, "p": student.pvalue, "p_equivalent": equivalent}


def sign_flips(counts):
    """Return the share of all sign patterns that lie as far from 0, in whole images."""
    patterns = np.array(list(itertools.product((1, -1), repeat=len(counts))))
    return (abs(patterns @ counts) >= abs(counts.sum())).mean()


def holm(p, family):
    """Return Holm's p values in a family, of which those not given count as larger than all that are."""
    if np.isnan(p).all():
        return p
    known = np.nan_to_num(p, nan=1.0)
    return multipletests([*known, *[1.0] * (family - len(p))], method="holm")[1][: len(p)]


def question(pairs, family):
    """Return the pairs of one question with what depends on its size."""
    table = pd.DataFrame(pairs).assign(family=family)
    table["p_corrected"] = holm(table["p"].to_numpy(), family)
    same = holm(table["p_equivalent"].to_numpy(), family)
    table["p_equivalent"] = np.where(table["p_equivalent"].isna(), math.nan, same)
    inside = (table["low"] >= -MARGIN) & (table["high"] <= MARGIN) & (table["p_equivalent"] <= 0.05)
    table["verdict"] = np.where(
        inside, "equivalent", np.where(table["p_corrected"] <= 0.05, "better", "open")
    )
    needed = [seeds_needed(row["d"], family, row["test"]) for row in pairs]
    table["seeds_needed"] = pd.Series(needed, dtype="float64").where(table["verdict"] == "open")
    return table.drop(columns="d")


def seeds_needed(d, family, test):
    """Return the least number of seeds with a power of 80%, NaN if it is unknown or more than 1,000."""
    if len(d) < 2:
        return math.nan
    n, effect = np.arange(2, 1001), abs(d.mean()) / d.std()
    power = TTestPower().power(effect, n, 0.05 / family / 2, alternative="larger")
    far = stats.norm.cdf(effect * np.sqrt(n) - stats.t.isf(0.05 / family / 2, n - 1))
    enough = np.where(np.isnan(power), far, power) >= 0.8  # far out the noncentral t underflows
    if test == "sign flip":
        enough &= family * 2.0 ** (1 - np.minimum(n, 32)) <= 0.05
    return n[enough].min() if enough.any() else math.nan


def options(runs, factors):
    """Return every two options of each factor: all pairs of one factor are a family."""
    runs = joined(runs, factors)
    for factor in factors:
        places = [each for each in factors if each != factor]
        names = sorted(runs[factor].unique())
        if len(names) > 1:
            pairs = [pair(runs, factor, a, b, places) for a, b in itertools.combinations(names, 2)]
            yield question(pairs, len(pairs)).assign(factor=factor)


def cells(runs, factors):
    """Return the best initializer in each combination of the others, and the next; a cell is a family."""
    runs = joined(runs, factors)
    places = [each for each in factors if each != "init"]
    for key, cell in runs.groupby(places) if places else []:
        ranked = cell.groupby("init")[METRIC].mean().sort_values(ascending=False).index
        pairs = [pair(cell, "init", a, b, []) for a, b in itertools.combinations(ranked, 2)]
        yield question(pairs, len(pairs)).head(1).assign(**dict(zip(places, key, strict=True)))


def leader(runs, factors):
    """Return the best configuration against every other; all pairs of configurations are the family."""
    runs = joined(runs, factors)
    runs = runs.assign(configuration=named(runs, factors))
    first, *rest = runs.groupby("configuration")[METRIC].mean().sort_values(ascending=False).index
    return question(
        [pair(runs, "configuration", first, other, []) for other in rest], math.comb(1 + len(rest), 2)
    )


def board(runs, factors):
    """Return mean and standard deviation of each configuration, also of those that are another's same."""
    by = runs.groupby(factors)
    means = by[[METRIC, "test_accuracy"]].mean()
    spreads = by[[METRIC, "test_accuracy"]].std().add_suffix("_sd")
    return means.join(spreads).assign(seeds=by.size(), values=by[METRIC].apply(np.array)).reset_index()


def bca(values):
    """Return bounds for both ends of the BCa interval of a mean, from all n^n resamples.

    A report draws 4,999 of them, so its ends are quantiles at levels that are off by chance: the bounds are
    four standard errors wide on either side. The level is raised as Hesterberg (2015, §3.4) has it.
    """
    x, n, resamples = np.asarray(values), len(values), 4999
    means = np.sort(x[np.array(list(itertools.product(range(n), repeat=n)))].mean(axis=1).round(12))
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
