"""Compare configurations and options in pairs, and divide the variance among the factors.

Trials are paired by seed. Of several trials with the same configuration and seed, one counts
(:func:`fnnexp.results.filters.once`). Numerically identical
options or configurations are joined: `sqrtmax = xavier`. Every pair belongs to a question: which option of a
factor is best overall, which option is best in one cell, or which of all configurations is best. The pairs of
a question are its family, and p is corrected only for them.

The test is fixed before looking: Student's paired t test. With three or more options and at most five seeds,
the pairs of a question share their variance in it (:func:`statistics.shared`). If an option failed to learn
in some of its seeds but not in others (:func:`failed_to_learn`), differences are far from normal, and a
sign-flip test replaces the t test, unless so few seeds have too few patterns of signs for so many pairs
(:func:`statistics.signs_can_settle`). These tests are valid for seeds that are looked at once. If a report
showed some of a pair's seeds before its other seeds existed, :func:`statistics.safe_t_test` or
:func:`statistics.safe_sign_test`, which are valid at every look, replace them.
"""

from __future__ import annotations

import math
from itertools import combinations, pairwise, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.config.schema import CHOICES
from fnnexp.results import filters, statistics
from fnnexp.results.factors import (
    AXES,
    as_text,
    as_texts,
    factors_of,
    group_numbers,
    groups,
    labels_of,
    others,
    tuples_of,
    varies_within,
)
from fnnexp.results.frames import SEEDS, params_of, remembered
from fnnexp.results.ranking import Ranking, matching_accuracy, ranking_of
from fnnexp.results.seeds import spread
from fnnexp.tracking.run_format import DIVERGED, PRUNED

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

WITH = " with "
"""Joins the names of factors that vary together."""

MOST_OPTIONS = 10
"""For a factor (a setting that varies) with more options (values) than this, only the pairs with its best
option have rows."""

MOST_TESTED = 40
"""For a question with more options than this, only the pairs with its best option are tested."""

MOST_CELLS = 200
"""With more combinations of the other factors than this, the best option of each is not computed."""

CLASSES = 10
"""The number of classes, as in MNIST, that is assumed for runs that do not record it."""

ERROR_RATE = 1 - statistics.LEVEL
"""The largest corrected p value that settles a pair."""

ONLY = "the one configuration"
"""The name of a configuration from which nothing differs."""

NOTHING_VARIES = "No factor varies, so the variance has no shares."

SIGNS = ("sign flip", "safe signs")
"""The tests by signs, for pairs in which an option failed to learn in some seeds but not in others."""

PAIR = (
    "seeds", "looks", "difference", "low", "high", "interval", "ahead", "probability", "failed", "test", "p",
    "p_sign_flip", "family", "p_corrected", "p_equivalent", "seeds_needed", "verdict",
)  # fmt: skip
"""The columns that describe a pair: see :func:`fnnexp.compare`."""


class Configuration(NamedTuple):
    """A configuration and the results of its trials by seed.

    Attributes
    ----------
    levels
        Its option of each factor, as in `{"init": "he"}`.
    name
        The configuration's name.
    metric
        The value of the ranking metric for each finished trial, by seed.
    tried
        The seeds of all trials, finished or not.
    failed
        Whether each finished trial failed to learn (:func:`failed_to_learn`), in the order of `metric`.
    look
        The number of the first report that showed each finished trial, in the same order; 0 if none did.
    pruned, diverged
        How many of the trials a search stopped, because others were better; and how many diverged.
    """

    levels: Mapping[str, str]
    name: str
    metric: pd.Series
    tried: frozenset[Any]
    failed: NDArray[np.bool_]
    look: NDArray[np.int64]
    pruned: int = 0
    diverged: int = 0


@remembered
def levels(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a frame that names each trial's option (value) of each factor (a setting that varies).

    There is a column (an ordered category) for each factor that varies and is not determined by another:
    first arch, init and batching, whose labels include the params that vary, then the other factors. Options
    whose trials are all numerically identical share a name, as in `sqrtmax = xavier`. Factors that vary
    together, so that no trial can tell their effects apart, share a column such as `arch with init`.
    """
    other_factors = others(runs)
    sections = {factor: factor.partition(".")[0] for factor in factors_of(runs)}
    varied = [factor for factor, section in sections.items() if section in AXES or factor in other_factors]
    names = list(dict.fromkeys(sections[factor] if sections[factor] in AXES else factor for factor in varied))
    options = pd.DataFrame({name: _labels(runs, name) for name in names}, index=runs.index)
    training = runs["identical_to"].fillna(runs["trial"])
    for name in names:
        options[name] = _joined(options, name, runs["seed"], training)
    return _merged(options)


def _merged(options: pd.DataFrame) -> pd.DataFrame:
    """Give factors that always vary together one column, such as `arch with init`, in a frame of options.

    Columns of seeds are never merged.
    """
    alike: dict[Hashable, list[str]] = {}
    for name in map(str, options.columns):
        numbers, distinct = pd.factorize(options[name])
        alone = name in SEEDS or len(distinct) < 2
        alike.setdefault(name if alone else numbers.tobytes(), []).append(name)
    merged = {}
    for names in alike.values():
        first = merged[WITH.join(names)] = options[names[0]]
        if len(names) > 1:
            rows = options[names].loc[~first.duplicated()].sort_values(names[0])
            values = tuples_of(rows.astype("str"))
            texts = [name_of(dict(zip(names, row, strict=True))) for row in values]
            if len(set(texts)) < len(texts):  # options with spaces: `p` with `q r` reads as `p q` with `r`
                texts = list(map(repr, values))
            merged[WITH.join(names)] = first.cat.remove_unused_categories().cat.rename_categories(texts)
    return pd.DataFrame(merged, index=options.index)


def _labels(runs: pd.DataFrame, name: str) -> pd.Series:
    if name in AXES:
        return labels_of(runs, name)
    order = [as_text(value) for value in sorted(runs[name].dropna().unique())]
    text = as_texts(runs[name])
    return text.astype(pd.CategoricalDtype(list(dict.fromkeys([*order, *text.unique()])), ordered=True))


def _joined(options: pd.DataFrame, name: str, seed: pd.Series, training: pd.Series) -> pd.Series:
    """Return the column of a factor, in which options that train identically share one name, as `a = b`.

    They do if their trials are numerically identical in all combinations with the other columns of `options`.
    `training` identifies what each trial trained: its id, or that of the identical trial trained in its
    place.
    """
    if training.is_unique:
        return options[name].cat.remove_unused_categories()
    trials = options.drop(columns=name).astype("str").assign(seed=seed.astype("str"), training=training)
    codes, categories = options[name].cat.codes, options[name].cat.categories
    order = np.argsort(codes.to_numpy(), kind="stable")
    codes, rows = codes.iloc[order], tuples_of(trials.iloc[order])
    by_trainings: dict[frozenset[Any], list[str]] = {}
    for option, of_option in zip(categories, _slices(codes, len(categories)), strict=True):
        if trainings := frozenset(rows[of_option]):
            by_trainings.setdefault(trainings, []).append(str(option))
    joined = {option: " = ".join(identical) for identical in by_trainings.values() for option in identical}
    text = options[name].astype("str").map(joined)
    return text.astype(pd.CategoricalDtype(list(dict.fromkeys(joined.values())), ordered=True))


@remembered
def configurations(runs: pd.DataFrame, ranking: Ranking | None = None) -> list[Configuration]:
    """Return the configurations of a frame of runs with their results, the best first.

    Configurations that are numerically identical are one. Those without a result come last.
    """
    runs = filters.once(runs)
    if runs.empty:
        return []
    ranking = ranking or ranking_of(runs)
    metric, options_by_trial = ranking.metric, levels(runs)
    training = runs["identical_to"].fillna(runs["trial"])
    by_trainings: dict[frozenset[Any], list[Configuration]] = {}
    names = [str(name) for name in options_by_trial.columns]
    trials = pd.DataFrame({
        "group": group_numbers(options_by_trial, names),
        "seed": runs["seed"],
        "training": training,
        "metric": runs[metric].where(runs["status"] == "finished").astype("float64"),
        "failed": failed_to_learn(runs, ranking),
        "look": _looks(runs),
        "pruned": runs["status"] == PRUNED,
        "diverged": runs["status"] == DIVERGED,
    }).sort_values("group", kind="stable")  # fmt: skip
    # Options that train identically share a name, so one configuration may have two trials with one seed.
    finished = trials[trials["metric"].notna()].drop_duplicates(["group", "seed"])
    first = trials.drop_duplicates("group")
    texts = [
        dict(zip(names, map(str, row), strict=True))
        for row in tuples_of(options_by_trial.loc[first.index].astype("str"))
    ]
    of_trials, of_finished = (_slices(rows["group"], len(first)) for rows in (trials, finished))
    seeds, trained = list(trials["seed"]), list(trials["training"])
    pruned, diverged = (trials[status].to_numpy() for status in ("pruned", "diverged"))
    columns = {column: finished[column].to_numpy() for column in ("seed", "metric", "failed", "look")}
    for own_options, tried, done in zip(texts, of_trials, of_finished, strict=True):
        values, failed, look = (columns[column][done] for column in ("metric", "failed", "look"))
        by_trainings.setdefault(frozenset(zip(seeds[tried], trained[tried], strict=True)), []).append(
            Configuration(
                own_options,
                name_of(own_options) or ONLY,
                pd.Series(values, index=columns["seed"][done]),
                frozenset(seeds[tried]),
                failed,
                look,
                int(pruned[tried].sum()),
                int(diverged[tried].sum()),
            )
        )
    distinct = [
        identical[0]._replace(name=" = ".join(configuration.name for configuration in identical))
        for identical in by_trainings.values()
    ]
    return sorted(distinct, key=lambda configuration: _sort_key(configuration, ranking))


def _slices(numbers: pd.Series, groups: int) -> list[slice]:
    """Return the slice of the rows of each group 0, 1, …, when rows are sorted by group.

    `numbers` has the group of each row.
    """
    ends = np.searchsorted(numbers.to_numpy(), np.arange(groups + 1))
    return [slice(*pair) for pair in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]


def _sort_key(configuration: Configuration, ranking: Ranking) -> tuple[float, float]:
    """Return a key that sorts configurations from the best to the worst by the mean of their metric.

    If the metric is the time until an accuracy is reached, the fraction of seeds that reach it counts first.
    """
    if not len(configuration.metric):
        return math.inf, math.inf
    reached = len(configuration.metric) / len(configuration.tried) if ranking.is_time else 1.0
    return -reached, -statistics.mean(ranking.goodness(configuration.metric))


@remembered
def failed_to_learn(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.Series:
    """Return, for each trial, whether it ended below the accuracy that shows that a network learned.

    That accuracy is the :func:`learning_limit` of its number of classes. It is compared with the ranking
    metric or, for a loss or a time, with the accuracy that belongs to it (:func:`matching_accuracy`).
    """
    accuracy = runs[matching_accuracy(runs, ranking or ranking_of(runs))]
    classes = numbers_of_classes(runs)
    return accuracy < classes.map({number: learning_limit(number) for number in classes.unique()})


def learning_limit(classes: int) -> float:
    """Return the accuracy below which a trial with this number of classes counts as having failed to learn.

    With ten classes or more, it is twice the accuracy of guessing: 2/C for C classes. With two classes, this
    would be 100%. So with fewer than ten, it is a ninth of the way from guessing to 100%; with ten classes,
    both rules give 20%. It is not higher because noise may limit the accuracy that can be reached.

    >>> [round(learning_limit(classes), 3) for classes in (2, 5, 10, 100)]
    [0.556, 0.289, 0.2, 0.02]
    """
    guessing = 1 / max(classes, 2)
    return 2 * guessing if classes >= CLASSES else guessing + (1 - guessing) / 9


def numbers_of_classes(runs: pd.DataFrame) -> pd.Series:
    """Return the number of classes of each trial's data; ten for runs that did not record it."""
    classes = runs["classes"] if "classes" in runs else pd.Series(np.nan, runs.index)
    return classes.astype("float64").fillna(CLASSES).astype("int64")


def _looks(runs: pd.DataFrame) -> pd.Series:
    """Return the number of the first report that showed each trial's result, 0 if none did."""
    return runs["look"].fillna(0).astype("int64") if "look" in runs else pd.Series(0, runs.index)


def finished_trials(runs: pd.DataFrame, configuration: Configuration) -> pd.DataFrame:
    """Return the rows of the finished trials of a configuration, one for each seed.

    The configuration is one of the :func:`configurations` of this frame.
    """
    runs = filters.once(runs)
    selected, options = pd.Series(True, runs.index), levels(runs)
    for name, option in configuration.levels.items():
        selected &= options[name].astype("str") == option
    return runs[selected & (runs["status"] == "finished")].drop_duplicates("seed")


def name_of(options: Mapping[str, str]) -> str:
    """Return the name of a combination of options, given by factor, such as `he optimizer.lr=0.1`."""
    texts = [text if name in CHOICES or WITH in name else f"{name}={text}" for name, text in options.items()]
    return " ".join(texts)


def with_leader(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.DataFrame:
    """Compare the best configuration (the leader) with each other finished one, pairing trials by seed.

    The frame has a row for each pair. The columns are the same as in :func:`fnnexp.compare`.
    """
    ranking = ranking or ranking_of(runs)
    return _leader_against_others(configurations(runs, ranking), ranking)


class _Option(NamedTuple):
    """An option of a factor, with the results of its finished trials as arrays of seeds × cells.

    A cell is a combination of the other factors. `metric` has the metric that ranks, as a number of which
    more is better (:meth:`Ranking.goodness`), NaN where no trial finished; `mean` is its mean over all of the
    option's trials; `failed` and `look` are as in :class:`Configuration`. Options that are compared have
    arrays with the same seeds and cells.
    """

    name: str
    metric: NDArray[np.float64]
    failed: NDArray[np.bool_]
    look: NDArray[np.int64]
    mean: float


class _Pair(NamedTuple):
    """Two options of a factor and their results with the same seeds, for a test of which is better.

    Only trials that finished for both options count: the same seed in the same cell. A cell is a combination
    of options of the other factors.

    Attributes
    ----------
    a, b
        The names of the two options; `a` has the better mean.
    x, y
        The results of `a` and of `b`: for each seed the mean over the cells.
    cells, failed, looks
        The columns of these names in :func:`fnnexp.compare`.
    mixed
        Whether one of the options failed to learn in some seeds but not in others.
    """

    a: str
    b: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    cells: int
    failed: int
    looks: int
    mixed: bool

    @property
    def differences(self) -> NDArray[np.float64]:
        """By how much `a` is better in each seed; 0 where the difference is only rounding."""
        return _without_rounding(self.x - self.y)

    def test(self, family: int) -> str:
        """Return the test that the rule in the module's docstring selects, a key of `INTERVALS`.

        `family` is the number of pairs of the question.
        """
        if self.looks > 1:
            return "safe signs" if self.mixed else "safe t"
        return "sign flip" if self.mixed and statistics.signs_can_settle(len(self.x), family) else "t"


TESTS = {
    "safe t": statistics.safe_t_test,
    "safe signs": statistics.safe_sign_test,
}
"""The tests except `t`, for which pairs may share a variance, and `sign flip`, which is computed for all
pairs of a question at once."""

INTERVALS = {
    "t": statistics.student_interval,
    "safe t": statistics.safe_t_interval,
    "sign flip": statistics.mean_interval,
    "safe signs": statistics.mean_interval,
}
"""The interval that belongs to each test."""

NO_TEST = {
    **dict.fromkeys(("low", "high", "p", "p_sign_flip", "p_equivalent"), float("nan")),
    "interval": "none", "test": "none", "verdict": "open",
}  # fmt: skip
"""The values of these columns if the metric is a time, because times are not tested."""


def _leader_against_others(configurations: Sequence[Configuration], ranking: Ranking) -> pd.DataFrame:
    finished = [configuration for configuration in configurations if len(configuration.metric)]
    if len(finished) < 2:
        return _frame([], ["a", "b"])
    number = np.repeat(np.arange(len(finished)), [len(each.metric) for each in finished])
    seeds = pd.Index(np.concatenate([each.metric.index for each in finished]))
    metric, failed, look = (
        np.concatenate([getattr(each, column) for each in finished])
        for column in ("metric", "failed", "look")
    )
    results = Results(number, pd.factorize(seeds, sort=True)[0], ranking.goodness(metric), failed, look)
    return _frame(best_against_others([each.name for each in finished], results, ranking), ["a", "b"])


class Results(NamedTuple):
    """The results of trials of several options, as arrays with an element for each trial.

    Attributes
    ----------
    option, seed
        The option and the seed of the trial, as numbers from 0.
    metric
        The metric that ranks, as a number of which more is better (:meth:`Ranking.goodness`).
    failed, look
        As in :class:`Configuration`.
    """

    option: NDArray[np.intp]
    seed: NDArray[np.intp]
    metric: NDArray[np.float64]
    failed: NDArray[np.bool_]
    look: NDArray[np.int64]

    def at(self, places: NDArray[Any]) -> Results:
        """Return the results of the trials at these places, given as indices or as a mask."""
        return Results(*(array[places] for array in self))


def results_of(runs: pd.DataFrame, ranking: Ranking) -> Results:
    """Return the results of all trials of a frame, each with the option number 0.

    The metric of trials that have not finished is NaN.
    """
    metric = ranking.goodness(runs[ranking.metric].where(runs["status"] == "finished"))
    return Results(
        np.zeros(len(runs), dtype=np.intp),
        pd.factorize(runs["seed"], sort=True)[0],
        metric.to_numpy(np.float64),
        failed_to_learn(runs, ranking).to_numpy(),
        _looks(runs).to_numpy(),
    )


def best_against_others(
    names: Sequence[str], results: Results, ranking: Ranking, *, best_only: bool = True
) -> list[dict[str, Any]]:
    """Compare the best option with each of the others, paired by seed: a row for each comparison.

    Parameters
    ----------
    names
        The names of the options.
    results
        The results of their trials, sorted by option. Each option has some.
    ranking
        The metric that ranks, and the margin.
    best_only
        Whether to leave out the pairs without the best option. If False, they have rows too, if there are at
        most :data:`MOST_OPTIONS` options.

    Returns
    -------
    list of dict
        The rows of :func:`with_leader`, each by column name.
    """
    ends = np.searchsorted(results.option, np.arange(len(names) + 1)).tolist()
    means = [statistics.mean(results.metric[slice(*pair)]) for pair in pairwise(ends)]
    if len(names) > MOST_TESTED:  # only pairs with the best option are tested, on the seeds that it has
        best = max(range(len(names)), key=means.__getitem__)
        results = results.at(np.isin(results.seed, results.seed[slice(*ends[best : best + 2])]))
    distinct, seed = np.unique(results.seed, return_inverse=True)
    place, one_cell = (results.option, seed, np.zeros_like(seed)), (len(distinct), 1)
    options = _as_options(names, place, one_cell, results._asdict(), means)
    return _question(options, ranking, best_only=best_only)


def inseparable(pairs: pd.DataFrame) -> pd.Series:
    """Return, for each row of a frame of pairs, whether it has too few seeds for any result to settle it.

    This can happen where the test is a safe sign test, because an option failed to learn in some seeds and a
    report showed the pair before seeds were added: with n seeds, the p of this test is at least (n + 1)/2ⁿ.
    """
    n = pairs["seeds"].astype("float64")
    too_few = (n + 1) / np.exp2(n) * pairs["family"] > ERROR_RATE
    return (pairs["test"] == "safe signs") & (pairs["verdict"] == "open") & (n > 1) & too_few


def of_options(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.DataFrame:
    """Compare every two options (values) of each factor, and return a row for each pair.

    The columns are those of :func:`with_leader`; `a` is the better option. The difference in a seed is the
    mean over the `cells` (combinations of the other factors) in which both options finished for every
    compared seed. Each factor is a separate question.
    """
    ranking = ranking or ranking_of(runs)
    runs = filters.once(runs)
    names = ["factor", "a", "b", "cells"]
    if runs.empty:
        return _frame([], names)
    options, trials = levels(runs), _trials(runs, ranking)
    questions = [
        _frame(_question(_options(options, name, trials), ranking), names).assign(factor=name)
        for name in options.columns
    ]
    return pd.concat(questions, ignore_index=True) if questions else _frame([], names)


def of_key(runs: pd.DataFrame, key: str, ranking: Ranking | None = None) -> pd.DataFrame:
    """Compare every two values of one key of `arch`, `init` or `batching`, such as `batching.size`.

    The options of these factors are named by all their keys that vary, as in `mini size=64`. Here only one
    key distinguishes options, and everything else, also the factor's other keys, distinguishes cells. Trials
    without a value of the key, such as those of full batches, are left out.

    Returns
    -------
    DataFrame
        As :func:`of_options`. Empty unless some trials with equal values of everything else differ in the
        key.
    """
    ranking, runs = ranking or ranking_of(runs), filters.once(runs)
    runs = filters.part(runs, runs[key].notna())
    section = key.partition(".")[0]
    rest = [
        name for name in params_of(runs) if name.partition(".")[0] == section and name not in (section, key)
    ]
    if section not in AXES or not varies_within(runs, rest, key):
        return _frame([], ["factor", "a", "b", "cells"])
    options = levels(runs)
    own = next(name for name in options if section in str(name).split(WITH))
    if own != section:  # it varies together with another factor
        return _frame([], ["factor", "a", "b", "cells"])
    others = group_numbers(runs, rest).astype("str").astype("category")
    options = options.assign(**{key: _labels(runs, key), section: others})
    rows = _question(_options(options, key, _trials(runs, ranking)), ranking)
    return _frame(rows, ["factor", "a", "b", "cells"]).assign(factor=key)


def in_each_cell(runs: pd.DataFrame, factor: str = "init", ranking: Ranking | None = None) -> pd.DataFrame:
    """Compare the best option of a factor with the next best, in each combination of the other factors.

    Each row is a separate question: p is corrected for the pairs of options in that combination.

    Returns
    -------
    DataFrame
        The other factors; `a`, the best option; `b`, the next best option that differs numerically; then the
        columns of :func:`with_leader`. Empty if the factor does not vary, if no other factor does, or if
        there are more than :data:`MOST_CELLS` combinations.
    """
    ranking = ranking or ranking_of(runs)
    runs = filters.once(runs)
    options = levels(runs) if len(runs) else pd.DataFrame()
    names = [str(name) for name in options.columns if name != factor]
    if factor not in options or not names:
        return _frame([], [*names, "a", "b"])
    if len(options[names].drop_duplicates()) > MOST_CELLS:
        return _frame([], [*names, "a", "b"])
    rows = []
    for key, group in groups(options, names):
        pairs = _leader_against_others(configurations(runs.loc[group.index], ranking), ranking).head(1)
        rows.append(pairs.assign(**dict(zip(names, map(str, key), strict=True))))
    frame = pd.concat(rows or [_frame([], ["a", "b", *names])])
    return frame[[*names, "a", "b", *PAIR]].reset_index(drop=True)


def _trials(runs: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return each trial's seed, metric (more is better), failure to learn, and the first report of it."""
    return pd.DataFrame({
        "seed": runs["seed"],
        "metric": ranking.goodness(runs[ranking.metric].where(runs["status"] == "finished")),
        "failed": failed_to_learn(runs, ranking),
        "look": _looks(runs),
    })  # fmt: skip


def _options(table: pd.DataFrame, name: str, about: pd.DataFrame) -> list[_Option]:
    """Return the options of a factor that have a finished trial, with their results, in the factor's order.

    Parameters
    ----------
    table, name
        The options of each trial, from :func:`levels`, and the column of the factor.
    about
        What :func:`_trials` returns for the trials.
    """
    cell = _cells(table.drop(columns=name))
    long = about.assign(option=table[name].astype("str"), cell=cell, seed=about["seed"].astype("str"))
    long = long.dropna(subset="metric").drop_duplicates(["option", "cell", "seed"])
    means = long.groupby("option")["metric"].mean()
    names = [str(option) for option in table[name].cat.categories if option in means.index]
    if len(names) > MOST_TESTED:  # only pairs with the best option are tested, in the cells that it has
        best = long["option"] == max(names, key=means.__getitem__)
        long = long[long["cell"].isin(long.loc[best, "cell"])]
    (rows, seeds), (columns, cells) = (pd.factorize(long[key], sort=True) for key in ("seed", "cell"))
    place = pd.Index(names).get_indexer(pd.Index(long["option"])), rows, columns
    return _as_options(names, place, (len(seeds), len(cells)), long, means[names].tolist())


def _as_options(
    names: Sequence[str],
    place: tuple[NDArray[np.intp], ...],
    shape: tuple[int, int],
    results: pd.DataFrame | Mapping[str, NDArray[Any]],
    means: Sequence[float],
) -> list[_Option]:
    """Put the results of trials into arrays of seeds × cells, and return an option for each name.

    Parameters
    ----------
    names
        The names of the options.
    place
        The positions of each trial's option, seed and cell (combination of the other factors).
    shape
        The number of seeds and of cells.
    results
        The columns `metric`, `failed` and `look`, by trial.
    means
        The mean metric of each option.
    """
    metric = np.full((len(names), *shape), np.nan)
    failed, look = np.zeros(metric.shape, bool), np.zeros(metric.shape, np.int64)
    for column, array in (("metric", metric), ("failed", failed), ("look", look)):
        array[place] = np.asarray(results[column], array.dtype)
    return [_Option(*option) for option in zip(names, metric, failed, look, means, strict=True)]


def _cells(options: pd.DataFrame) -> pd.Series:
    """Return a text for each trial that identifies its combination of these options (its cell)."""
    number = group_numbers(options, [*options.columns])
    first = options[~number.duplicated()].astype("str")
    names = ["\0".join(row) for row in tuples_of(first)]
    return number.map(dict(zip(number[first.index], names, strict=True))).astype("str")


def _question(
    options: Sequence[_Option], ranking: Ranking, *, best_only: bool = False
) -> list[dict[str, Any]]:
    """Compare the options of a question, such as which initializer is best; return a row for each pair.

    p is corrected for all pairs that have a seed in common, even if they get no row, because the best option
    was picked by looking at all of them. Up to :data:`MOST_TESTED` options, all pairs are tested and enter
    Holm's procedure. With more options, the best is tested against each other option, and the remaining pairs
    count as if their p were larger.

    With `best_only`, or with more than :data:`MOST_OPTIONS` options, only the pairs with the best option have
    rows.
    """
    if not options:
        return []
    best = max(options, key=lambda option: option.mean)
    best_only = best_only or len(options) > MOST_OPTIONS
    if len(options) > MOST_TESTED:
        place = next(i for i, option in enumerate(options) if option is best)
        shown = [_paired(option, best) for option in options[:place]]
        shown += [_paired(best, option) for option in options[place + 1 :]]
        return _verdicts(shown, ranking, untested=math.comb(len(options), 2) - len(shown))
    shown, without_row = [], list[_Pair]()
    for a, b in combinations(options, 2):
        (shown if a is best or b is best or not best_only else without_row).append(_paired(a, b))
    return _verdicts(shown, ranking, without_row)


def _paired(a: _Option, b: _Option) -> _Pair:
    """Pair the results of two options by seed, the better option first.

    They are compared in the cells (combinations of the other factors) that both options finished for all
    seeds. If there are no such cells, they are compared on the seeds for which both options finished all
    cells.
    """
    both = ~(np.isnan(a.metric) | np.isnan(b.metric))
    if not both.all():
        seeds, cells = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
        both_finished = both[np.ix_(seeds, cells)]
        if both_finished.all(axis=0).any():
            cells = cells[both_finished.all(axis=0)]
        else:
            seeds = seeds[both_finished.all(axis=1)]
        compared = np.ix_(seeds, cells)
        a, b = (
            option._replace(
                metric=option.metric[compared], failed=option.failed[compared], look=option.look[compared]
            )
            for option in (a, b)
        )
    if len(a.metric) and (a.metric - b.metric).mean() < -statistics.ROUNDING:
        a, b = b, a
    failed = np.hstack([a.failed, b.failed])
    look = np.hstack([a.look, b.look])
    # A report can compare two trials once it shows both, so the later of the first reports that showed them
    # counts. 0 means that no earlier report showed the trial: the present report, the last one, is the first.
    last = np.where(look == 0, np.iinfo(np.int64).max, look).max(axis=1) if look.size else look
    return _Pair(
        a.name,
        b.name,
        a.metric.mean(axis=1) if a.metric.shape[1] else np.empty(0),
        b.metric.mean(axis=1) if b.metric.shape[1] else np.empty(0),
        cells=a.metric.shape[1],
        failed=int(failed.any(axis=1).sum()),
        looks=len(np.unique(last)),
        mixed=bool((failed.any(axis=0) & ~failed.all(axis=0)).any()),
    )


def _shared_variance(
    pairs: Sequence[_Pair], differences: Sequence[NDArray[np.float64]]
) -> statistics.SharedVariance | None:
    """Return a variance estimated from all pairs that Student's t tests, to use for pairs with few seeds.

    `differences` has the differences of each pair by seed. Return None if the pairs have too little in common
    for this, as :func:`statistics.shared` explains.
    """
    tested = [i for i, pair in enumerate(pairs) if _may_share(pair)]
    options = {name for i in tested for name in (pairs[i].a, pairs[i].b)}
    return statistics.shared([differences[i] for i in tested], len(options))


def _may_share(pair: _Pair) -> bool:
    """Return whether a pair lends its variance to the other pairs of its question, and borrows theirs."""
    return pair.looks < 2 and not pair.mixed


def _numbers(
    pair: _Pair,
    test: str,
    d: NDArray[np.float64],
    ranking: Ranking,
    pool: statistics.SharedVariance | None,
) -> dict[str, Any]:
    """Return a pair's difference, interval and counts: its row in the table, without p values and verdict.

    Parameters
    ----------
    pair, d
        The pair, and by how much its first option is better in each seed.
    test
        The name of the pair's test, which decides the kind of the interval.
    ranking
        The metric that ranks.
    pool
        The variance that is pooled over several pairs, for the interval; None if this pair has its own.
    """
    (difference,) = _without_rounding(np.array([statistics.mean(d)]))
    within = ranking.difference_bounds
    if pool is None:
        interval = INTERVALS[test](d, within=within)
    else:
        interval = statistics.shared_t_interval(d, pool, within=within)
    return {
        "a": pair.a, "b": pair.b, "cells": pair.cells, "seeds": len(d), "looks": pair.looks,
        "difference": float(difference), "low": interval.low, "high": interval.high,
        "interval": interval.method, "ahead": int((d > 0).sum()),
        "probability": statistics.superiority(pair.x, pair.y) if len(d) > 1 else float("nan"),
        "failed": pair.failed, "test": "shared t" if pool else test,
    }  # fmt: skip


def _p_equivalent(
    pair: _Pair, d: NDArray[np.float64], limit: float, pool: statistics.SharedVariance | None
) -> float:
    """Return the p value of the test that the mean difference of a pair is within ±limit.

    `d` has its differences by seed; `pool` is the variance that it shares with other pairs, or None. p is NaN
    if the limit is NaN or the pair is `mixed`.
    """
    if pair.mixed or math.isnan(limit):
        return float("nan")
    if pair.looks > 1:
        return statistics.safe_equivalence_test(d, limit)
    return statistics.equivalence_test(d, limit, pool)


def _without_rounding(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences; those so small that only rounding can have caused them become 0."""
    return np.where(np.abs(differences) <= statistics.ROUNDING, 0.0, differences)


def _verdicts(
    pairs: Sequence[_Pair], ranking: Ranking, without_row: Sequence[_Pair] = (), untested: int = 0
) -> list[dict[str, Any]]:
    """Test all pairs of one question, such as which initializer is best; return a row for each of `pairs`.

    A row has p, corrected for all pairs of the question, the verdict, and the seeds needed to settle it.

    Parameters
    ----------
    pairs, without_row
        The pairs that get a row, and further pairs of the question, which are tested but get none.
    ranking
        The metric that ranks, and the margin.
    untested
        How many more pairs the question has. They are not tested, but the correction counts them.
    """
    tested = [*pairs, *without_row]
    family = untested + sum(len(pair.x) > 0 for pair in tested)
    timed = ranking.is_time  # trials that train together share one measured time, so no test is valid
    differences = [pair.differences for pair in tested]
    tests = [pair.test(family) for pair in tested]
    flipped = [i for i, test in enumerate(tests) if not timed and (i < len(pairs) or test == "sign flip")]
    p_sign_flip = np.full(len(tested), np.nan)
    p_sign_flip[flipped] = statistics.sign_flip_tests([differences[i] for i in flipped])
    shared = _shared_variance(tested, differences)
    pools = [
        shared if _may_share(pair) and 1 < len(d) <= statistics.SHARED_UP_TO else None
        for pair, d in zip(tested, differences, strict=True)
    ]
    p_values = [
        math.nan if timed
        else statistics.paired_t_test(d, pool) if test == "t"
        else TESTS[test](d) if test in TESTS
        else float(p)
        for test, d, p, pool in zip(tests, differences, p_sign_flip, pools, strict=True)
    ]  # fmt: skip
    corrected = statistics.holm(p_values, family)
    p_equivalent = statistics.holm(
        [
            _p_equivalent(pair, d, ranking.limit, pool)
            for pair, d, pool in zip(tested, differences, pools, strict=True)
        ],
        family,
    )
    limit, rows = ranking.limit, []
    for i, pair in enumerate(pairs):
        row = _numbers(pair, tests[i], differences[i], ranking, pools[i]) | {
            "p": p_values[i],
            "p_sign_flip": float(p_sign_flip[i]),
            "family": family,
            "p_corrected": corrected[i],
            "p_equivalent": p_equivalent[i],
            "seeds_needed": None,
        }
        within = -limit <= row["low"] and row["high"] <= limit
        row["verdict"] = (
            "equivalent" if within and p_equivalent[i] <= ERROR_RATE
            else "better" if corrected[i] <= ERROR_RATE
            else "open"
        )  # fmt: skip
        rows.append(row | NO_TEST if timed else row)
    unsettled = [i for i, row in enumerate(rows) if row["verdict"] == "open" and not timed]
    needed = statistics.seeds_needed_by(
        [differences[i] for i in unsettled], [pairs[i].mixed for i in unsettled], pairs=family
    )
    for i, seeds in zip(unsettled, needed, strict=True):
        rows[i]["seeds_needed"] = seeds
    return rows


def _frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """Return rows of :func:`_verdicts` as a frame; its columns are `names`, then those of `PAIR`.

    The columns have the same types if there are no rows.
    """
    frame = pd.DataFrame(rows, columns=[*names, *PAIR])
    types = {
        **dict.fromkeys(("cells", "seeds", "looks", "ahead", "failed", "family"), "int64"),
        **dict.fromkeys(("difference", "low", "high", "probability"), "float64"),
        **dict.fromkeys(("p", "p_sign_flip", "p_corrected", "p_equivalent"), "float64"),
        **dict.fromkeys(("factor", "a", "b", "interval", "test", "verdict"), "str"),
        "seeds_needed": "Int64",
    }
    return frame.astype({name: dtype for name, dtype in types.items() if name in frame})


def shares_by(runs: pd.DataFrame, ranking: Ranking | None = None) -> tuple[pd.DataFrame, str]:
    """Return the frame of :func:`shares` for a ranking, and a sentence that says how it was made.

    If the frame is empty, the sentence says why.
    """
    ranking = ranking or ranking_of(runs)
    runs = filters.once(runs)
    no_shares = pd.DataFrame({"effect": pd.Series(dtype="str"), "share": pd.Series(dtype="float64")})
    options = levels(runs) if len(runs) else pd.DataFrame()
    names = [str(name) for name in options.columns]
    if not names:
        return no_shares, NOTHING_VARIES
    values = runs[ranking.metric].where(runs["status"] == "finished")
    finished = options[values.notna()].apply(lambda column: column.cat.codes)
    finished = finished.assign(seed=runs["seed"], value=values).drop_duplicates([*names, "seed"])
    shape = [len(options[name].cat.categories) for name in names]
    cells = finished[names].drop_duplicates()
    if missing := math.prod(shape) - len(cells):
        known = set(cells.itertuples(index=False, name=None))
        codes = next(codes for codes in product(*map(range, shape)) if codes not in known)
        first = name_of({name: options[name].cat.categories[i] for name, i in zip(names, codes, strict=True)})
        examples, verb = (f"({first}, …)", "have") if missing > 1 else (f"({first})", "has")
        return no_shares, (
            f"The grid is not full: {missing:,} of {math.prod(shape):,} combinations {verb} no finished "
            f"trial {examples}. So the factors' shares can't be separated."
        )
    everywhere = finished["seed"].value_counts() == len(cells)
    used = sorted(everywhere.index[everywhere])
    if not used:
        return no_shares, "No seed finished in all combinations, so the factors' shares can't be separated."
    full = finished[finished["seed"].isin(used)].sort_values([*names, "seed"])["value"].to_numpy(float)
    shares = statistics.variance_shares(full.reshape(*shape, len(used)), names)
    if not shares:
        return no_shares, "All trials have the same result, so there is no variance."
    rows = [{"effect": " × ".join(effect) or "seed", "share": share} for effect, share in shares.items()]
    unused = runs.loc[values.notna(), "seed"].nunique() - len(used)
    about = f"Over {len(used)} seed{'s' * (len(used) > 1)} that finished everywhere"
    about += f" ({unused} omitted)." if unused else "."
    if len(used) == 1:
        about += " One seed can't tell chance from interaction: the interactions include chance."
        rows = rows[:-1]
    return pd.DataFrame(rows).sort_values("share", ascending=False, ignore_index=True, kind="stable"), about


class Findings(NamedTuple):
    """All comparisons of a frame of runs, computed once for all tables and sentences of a report."""

    ranking: Ranking
    configurations: list[Configuration]
    with_leader: pd.DataFrame
    of_options: pd.DataFrame
    in_each_cell: pd.DataFrame
    shares: pd.DataFrame
    about_shares: str
    spread: pd.DataFrame

    @property
    def metric(self) -> str:
        """The ranking metric."""
        return self.ranking.metric


def findings(runs: pd.DataFrame, ranking: Ranking | None = None) -> Findings:
    """Make all comparisons of the trials in a frame of runs.

    They are those of the leader, those of each factor's options, and the shares of variance.
    """
    ranking = ranking or ranking_of(runs)
    ranked = configurations(runs, ranking)
    return Findings(
        ranking,
        ranked,
        _leader_against_others(ranked, ranking),
        of_options(runs, ranking),
        in_each_cell(runs, ranking=ranking),
        *shares_by(runs, ranking),
        spread(runs, ranking),
    )
