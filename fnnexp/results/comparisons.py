"""Compare configurations and options in pairs, and share the variance out among the factors.

Trials are paired by seed, and each counts once (:func:`fnnexp.results.frames.once`). Numerically identical
options and configurations count as one: an option whose trials are all another's is joined with it
(`sqrtmax = xavier`), and so is a configuration. All comparisons are by what ranks
(:mod:`fnnexp.results.ranking`); where a function is given no ranking, by validation or else test accuracy.

Every pair belongs to a question: which option of a factor, which in one cell, which configuration of all. Its
p is corrected for the pairs of that question (its family), and for nothing else that is in the frame.

The test is fixed before looking. It is Student's paired t. Where an option failed to learn in some of its
seeds and not in others (:func:`failed_to_learn`), differences are nothing like normal, and a sign-flip test
takes its place. Both hold for seeds that are looked at once. Where a report has shown some of a pair's seeds
before the others were there, tests that hold at every look take theirs (:func:`statistics.safe_t_test`).
"""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.config.schema import CHOICES
from fnnexp.results import filters, statistics
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import AXES, as_text, factors_of, groups, labels_of, others
from fnnexp.results.ranking import Ranking, matching_accuracy, ranking_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MOST_OPTIONS = 10
"""Up to so many options of a factor have a row for every pair; of more, the best has one with every other."""

MOST_TESTED = 40
"""Up to so many options of a question are tested in all pairs; of more, the best with every other."""

CLASSES = 10
"""How many classes runs have that do not say so: MNIST's."""

ERROR_RATE = 1 - statistics.LEVEL
"""The corrected p value up to which a pair is settled."""

SIGNS = ("sign flip", "safe signs")
"""The tests of pairs in which an option failed to learn in some seeds and not in others."""

PAIR = (
    "seeds", "looks", "difference", "low", "high", "interval", "ahead", "probability", "failed", "test", "p",
    "p_sign_flip", "family", "p_corrected", "p_equivalent", "seeds_needed", "verdict",
)  # fmt: skip
"""The columns about a pair: see :func:`with_leader`."""


class Configuration(NamedTuple):
    """One configuration: its option of each factor, its name, and the metric of its finished trials by seed.

    `tried` are the seeds of all its trials, finished or not; `failed` says by seed which of the finished
    failed to learn, and `look` which report saw them first, 0 for none.
    """

    levels: Mapping[str, str]
    name: str
    metric: pd.Series
    tried: frozenset[Any]
    failed: pd.Series
    look: pd.Series


def levels(runs: pd.DataFrame) -> pd.DataFrame:
    """Return each trial's option of each factor, as a person reads it.

    There is a column for each factor that varies and follows no other: first the axes, with the params below
    them in their labels, then the others. An option whose trials are all numerically another's is joined with
    it: `sqrtmax = xavier`. The columns are categories in the options' order.
    """
    beside = others(runs)
    options = {factor: factor.partition(".")[0] for factor in factors_of(runs)}
    varied = [f for f, option in options.items() if option in AXES or f in beside]
    names = list(dict.fromkeys(options[f] if options[f] in AXES else f for f in varied))
    table = pd.DataFrame({name: _labels(runs, name) for name in names}, index=runs.index)
    training = runs["identical_to"].fillna(runs["trial"])
    for name in names:
        table[name] = _joined(table, name, runs["seed"], training)
    return table


def _labels(runs: pd.DataFrame, name: str) -> pd.Series:
    if name in AXES:
        return labels_of(runs, name)
    order = [as_text(value) for value in sorted(runs[name].dropna().unique())]
    text = runs[name].map(as_text, na_action=None)
    return text.astype(pd.CategoricalDtype(list(dict.fromkeys([*order, *text])), ordered=True))


def _joined(table: pd.DataFrame, name: str, seed: pd.Series, training: pd.Series) -> pd.Series:
    """Return a column in which options share a name if they have the same trainings in the same places."""
    rest = table.drop(columns=name).astype("str").assign(seed=seed.astype("str"), training=training)
    by_trainings: dict[frozenset[Any], list[str]] = {}
    for option in table[name].cat.categories:
        trainings = frozenset(rest[table[name] == option].itertuples(index=False, name=None))
        if trainings:
            by_trainings.setdefault(trainings, []).append(str(option))
    joined = {option: " = ".join(same) for same in by_trainings.values() for option in same}
    text = table[name].astype("str").map(joined)
    return text.astype(pd.CategoricalDtype(list(dict.fromkeys(joined.values())), ordered=True))


def configurations(runs: pd.DataFrame, ranking: Ranking | None = None) -> list[Configuration]:
    """Return the configurations that differ numerically, the best first and those without a result last."""
    runs = filters.once(runs)
    if runs.empty:
        return []
    ranking = ranking or ranking_of(runs)
    metric, table = ranking.metric, levels(runs)
    training = runs["identical_to"].fillna(runs["trial"])
    by_trainings: dict[frozenset[Any], list[Configuration]] = {}
    for _, part in groups(table.assign(row=runs.index), list(table.columns)):
        rows = runs.loc[part.index]
        done = rows[(rows["status"] == "finished") & rows[metric].notna()].drop_duplicates("seed")
        values = pd.Series(done[metric].to_numpy(float), index=done["seed"].to_numpy())
        options = {name: str(part[name].iloc[0]) for name in table.columns}
        name = _name(options) or "the one configuration"
        tried = frozenset(rows["seed"])  # of options joined into one, each seed counts once
        failed = pd.Series(failed_to_learn(done, ranking).to_numpy(), index=values.index)
        look = pd.Series(_looks(done).to_numpy(), index=values.index)
        trainings = frozenset(zip(rows["seed"], training[rows.index], strict=True))
        by_trainings.setdefault(trainings, []).append(
            Configuration(options, name, values, tried, failed, look)
        )
    distinct = [
        same[0]._replace(name=" = ".join(each.name for each in same)) for same in by_trainings.values()
    ]
    return sorted(distinct, key=lambda each: _place(each, ranking))


def _place(configuration: Configuration, ranking: Ranking) -> tuple[float, float]:
    """Return what configurations are sorted by: the mean; of times first in how many seeds there is one."""
    if not len(configuration.metric):
        return math.inf, math.inf
    reached = len(configuration.metric) / len(configuration.tried) if ranking.is_time else 1.0
    return -reached, -statistics.mean(ranking.goodness(configuration.metric))


def failed_to_learn(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.Series:
    """Return which trials ended below twice what guessing gets: 2/C of C classes, by an accuracy.

    Of two classes, where that is all, it is half-way from guessing to all right: three quarters. It is what
    ranks, or the accuracy beside it. Runs written before the number of classes was recorded count as having
    ten.
    """
    return runs[matching_accuracy(runs, ranking or ranking_of(runs))] < _limit(runs)


def learning_threshold(runs: pd.DataFrame) -> float:
    """Return the accuracy from which on a trial has learned; the greatest where data sets differ."""
    return float(_limit(runs).max())


def _limit(runs: pd.DataFrame) -> pd.Series:
    """Return the accuracy below which each trial failed to learn."""
    classes = runs["classes"] if "classes" in runs else pd.Series(np.nan, runs.index)
    guessing = 1 / classes.astype("float64").fillna(CLASSES).clip(lower=2)
    return (2 * guessing).clip(upper=(1 + guessing) / 2)


def _looks(runs: pd.DataFrame) -> pd.Series:
    """Return which report saw each trial first, 0 for none."""
    return runs["look"].fillna(0).astype("int64") if "look" in runs else pd.Series(0, runs.index)


def finished_trials(runs: pd.DataFrame, configuration: Configuration) -> pd.DataFrame:
    """Return the finished trials of one of the frame's :func:`configurations`, one a seed."""
    runs = filters.once(runs)
    mine = levels(runs).astype("str").eq(pd.Series(dict(configuration.levels), dtype="str")).all(axis=1)
    return runs[mine & (runs["status"] == "finished")].drop_duplicates("seed")


def _name(options: Mapping[str, str]) -> str:
    texts = [text if name in CHOICES else f"{name}={text}" for name, text in options.items()]
    return " ".join(texts)


def with_leader(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.DataFrame:
    """Return how the leading configuration compares with every other that finished, paired by seed.

    The columns are those of :func:`compare`.
    """
    ranking = ranking or ranking_of(runs)
    return _leader_against_others(configurations(runs, ranking), ranking)


class _Option(NamedTuple):
    """One option of a question: tables of its finished trials, seeds down and cells across.

    `metric` is :meth:`Ranking.goodness`, NaN where nothing finished; `failed` and `look` are as in
    :class:`Configuration`. All options of a question have the same seeds and cells.
    """

    name: str
    metric: NDArray[np.float64]
    failed: NDArray[np.bool_]
    look: NDArray[np.int64]


class _Pair(NamedTuple):
    """Two options on the seeds and cells that both finished, the better first.

    Attributes
    ----------
    a, b
        Their names.
    x, y
        Their metrics by seed, means over the cells.
    cells, failed, looks
        As in :func:`compare`.
    mixed
        Whether an option failed to learn in some seeds and not in others.
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
        """By how much a is ahead in each seed, without what is rounding alone."""
        return _level(self.x - self.y)

    @property
    def test(self) -> str:
        """Which test the rule names."""
        again = self.looks > 1
        if self.mixed:
            return "safe signs" if again else "sign flip"
        return "safe t" if again else "t"

    @property
    def p(self) -> float:
        """The p of that test, of this pair alone."""
        return TESTS[self.test](self.differences)


TESTS = {
    "t": statistics.paired_t_test,
    "safe t": statistics.safe_t_test,
    "sign flip": statistics.sign_flip_test,
    "safe signs": statistics.safe_sign_test,
}
INTERVALS = {
    "t": statistics.student_interval,
    "safe t": statistics.safe_t_interval,
    "sign flip": statistics.mean_interval,
    "safe signs": statistics.mean_interval,
}
"""The tests of the rule, and the interval that goes with each."""

NO_TEST = {
    **dict.fromkeys(("low", "high", "p", "p_sign_flip", "p_equivalent"), float("nan")),
    "interval": "none", "test": "none", "verdict": "open",
}  # fmt: skip
"""What is said of a pair of times."""


def _leader_against_others(configurations: Sequence[Configuration], ranking: Ranking) -> pd.DataFrame:
    finished = [each for each in configurations if len(each.metric)]
    if len(finished) < 2:
        return _verdicts([], ["a", "b"], ranking)
    values = {
        kind: pd.DataFrame({i: getattr(each, kind) for i, each in enumerate(finished)})
        for kind in ("metric", "failed", "look")
    }
    values["metric"] = values["metric"].apply(ranking.goodness)
    options = [
        _Option(each.name, *(_filled(table[[i]], kind) for kind, table in values.items()))
        for i, each in enumerate(finished)
    ]
    return _question(options, {}, ["a", "b"], ranking, best_only=True)


def _filled(table: pd.DataFrame, kind: str) -> NDArray[Any]:
    """Return a table as an array, without a trial NaN of the metric, and nothing of the others."""
    if kind == "metric":
        return table.to_numpy(np.float64, na_value=np.nan)
    return table.astype("float64").fillna(0).to_numpy().astype(bool if kind == "failed" else np.int64)


def of_options(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.DataFrame:
    """Return how every two options of each factor compare, the better first, as :func:`with_leader` does.

    A seed's difference is the mean over the `cells` (combinations of the other factors) in which both options
    finished for every seed that is compared. Each factor is a question of its own.
    """
    ranking = ranking or ranking_of(runs)
    runs = filters.once(runs)
    names = ["factor", "a", "b", "cells"]
    if runs.empty:
        return _verdicts([], names, ranking)
    table = levels(runs)
    about = pd.DataFrame({
        "seed": runs["seed"],
        "metric": ranking.goodness(runs[ranking.metric].where(runs["status"] == "finished")),
        "failed": failed_to_learn(runs, ranking),
        "look": _looks(runs),
    })  # fmt: skip
    questions = [
        _question(_options(table, name, about), {"factor": name}, names, ranking) for name in table.columns
    ]
    return pd.concat(questions, ignore_index=True) if questions else _verdicts([], names, ranking)


def in_each_cell(runs: pd.DataFrame, factor: str = "init", ranking: Ranking | None = None) -> pd.DataFrame:
    """Return for each combination of the other factors the best option of one, against the next best.

    Each row answers a question of its own: its family are the pairs of options in its own cell.

    Returns
    -------
    DataFrame
        The other factors; `a` (the best) and `b` (the next that differs from it numerically); then what
        :func:`with_leader` says of a pair. Empty where the factor or none beside it varies.
    """
    ranking = ranking or ranking_of(runs)
    runs = filters.once(runs)
    table = levels(runs) if len(runs) else pd.DataFrame()
    names = [str(name) for name in table.columns if name != factor]
    if factor not in table or not names:
        return _verdicts([], [*names, "a", "b"], ranking)
    rows = []
    for key, part in groups(table, names):
        pairs = _leader_against_others(configurations(runs.loc[part.index], ranking), ranking).head(1)
        rows.append(pairs.assign(**dict(zip(names, map(str, key), strict=True))))
    frame = pd.concat(rows or [_verdicts([], ["a", "b", *names], ranking)])
    return frame[[*names, "a", "b", *PAIR]].reset_index(drop=True)


def _options(table: pd.DataFrame, name: str, about: pd.DataFrame) -> list[_Option]:
    """Return the options of a factor that have a finished trial, in their order.

    `about` has each trial's seed, goodness, whether it failed to learn, and the look that it was seen at.
    """
    rest = table.drop(columns=name).astype("str")
    cell = rest.agg("\0".join, axis=1) if len(rest.columns) else pd.Series("", table.index)
    long = about.assign(option=table[name].astype("str"), cell=cell, seed=about["seed"].astype("str"))
    long = long.dropna(subset="metric").drop_duplicates(["option", "cell", "seed"])
    long = long.set_index(["seed", "cell", "option"]).sort_index()
    wide = {each: long[each].unstack("option") for each in ("metric", "failed", "look")}  # noqa: PD010
    there = set(wide["metric"].columns)
    return [
        _Option(
            str(option),
            *(_filled(table[option].unstack("cell"), kind) for kind, table in wide.items()),  # noqa: PD010
        )
        for option in table[name].cat.categories
        if option in there
    ]


def _question(
    options: Sequence[_Option],
    about: Mapping[str, str],
    names: list[str],
    ranking: Ranking,
    *,
    best_only: bool = False,
) -> pd.DataFrame:
    """Return the pairs of one question's options with their verdicts.

    Its family are all pairs that have a seed in common, also those without a row: the best was picked by
    looking. Up to :data:`MOST_TESTED` options all pairs are tested, and Holm's procedure steps through them;
    of more, the best is tested with every other, and the other pairs count as larger p.

    Parameters
    ----------
    options
        What is compared.
    about, names
        Further columns of each row, and the columns before those of a pair.
    ranking
        What ranks, and the margin.
    best_only
        Whether only the best has rows, with every other, as it always has of more than
        :data:`MOST_OPTIONS` options.
    """
    if not options:
        return _verdicts([], names, ranking)
    best = max(options, key=lambda option: float(np.nanmean(option.metric)))
    best_only = best_only or len(options) > MOST_OPTIONS
    shown, others, untested = [], [], 0
    for a, b in combinations(options, 2):
        if a is best or b is best or not best_only:
            shown.append(_paired(a, b))
        elif len(options) <= MOST_TESTED:
            others.append(_paired(a, b))
        else:
            untested += 1
    return _verdicts(shown, names, ranking, others, untested).assign(**about)


def _paired(a: _Option, b: _Option) -> _Pair:
    """Return two options where both finished: in the cells that all seeds have, else the seeds with all."""
    both = ~np.isnan(a.metric) & ~np.isnan(b.metric)
    seeds, cells = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
    everywhere = both[np.ix_(seeds, cells)]
    if everywhere.all(axis=0).any():
        cells = cells[everywhere.all(axis=0)]
    else:
        seeds = seeds[everywhere.all(axis=1)]
    here = np.ix_(seeds, cells)
    if len(seeds) and (a.metric[here] - b.metric[here]).mean() < -statistics.ROUNDING:
        a, b = b, a
    failed = np.hstack([each.failed[here] for each in (a, b)])
    seen = np.hstack([each.look[here] for each in (a, b)])
    last = np.where(seen == 0, np.iinfo(np.int64).max, seen).max(axis=1) if seen.size else seen
    return _Pair(
        a.name,
        b.name,
        a.metric[here].mean(axis=1) if len(cells) else np.empty(0),
        b.metric[here].mean(axis=1) if len(cells) else np.empty(0),
        cells=len(cells),
        failed=int(failed.any(axis=1).sum()),
        looks=len(np.unique(last)),
        mixed=bool((failed.any(axis=0) & ~failed.all(axis=0)).any()),
    )


def _numbers(pair: _Pair, p: float, ranking: Ranking) -> dict[str, Any]:
    """Return the numbers about a pair that depend on nothing else; `p` is that of its test."""
    d = pair.differences
    signs = p if pair.test == "sign flip" else statistics.sign_flip_test(d)
    (difference,) = _level(np.array([statistics.mean(d)]))
    interval = INTERVALS[pair.test](d, within=ranking.difference_bounds)
    return {
        "a": pair.a, "b": pair.b, "cells": pair.cells, "seeds": len(d), "looks": pair.looks,
        "difference": float(difference), "low": interval.low, "high": interval.high,
        "interval": interval.method, "ahead": int((d > 0).sum()),
        "probability": statistics.superiority(pair.x, pair.y) if len(d) > 1 else float("nan"),
        "failed": pair.failed, "test": pair.test, "p": p, "p_sign_flip": signs,
    }  # fmt: skip


def _p_equivalent(pair: _Pair, limit: float) -> float:
    """Return the p for a mean difference within ±limit; none without a limit, or where trials failed."""
    if pair.mixed or math.isnan(limit):
        return float("nan")
    test = statistics.safe_equivalence_test if pair.looks > 1 else statistics.equivalence_test
    return test(pair.differences, limit)


def _level(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences, those that are of rounding alone as 0."""
    return np.where(np.abs(differences) <= statistics.ROUNDING, 0.0, differences)


def _verdicts(
    pairs: Sequence[_Pair],
    names: list[str],
    ranking: Ranking,
    others: Sequence[_Pair] = (),
    untested: int = 0,
) -> pd.DataFrame:
    """Return the pairs of one question with corrected p, seeds needed and verdict.

    Parameters
    ----------
    pairs, names
        Those that have a row, and the columns before those of a pair.
    ranking
        What ranks, and the margin.
    others, untested
        The other pairs of the question, and how many more it has that are not tested.
    """
    tested = [*pairs, *others]
    family = untested + sum(len(pair.x) > 0 for pair in tested)
    timed = ranking.is_time  # trials of one stack share a clock: their seeds say nothing of chance
    alone = [float("nan") if timed else pair.p for pair in tested]
    corrected = statistics.holm(alone, family)
    same = statistics.holm([_p_equivalent(pair, ranking.limit) for pair in tested], family)
    limit, rows = ranking.limit, []
    for i, pair in enumerate(pairs):
        row = _numbers(pair, alone[i], ranking) | {
            "family": family,
            "p_corrected": corrected[i],
            "p_equivalent": same[i],
        }
        within = -limit <= row["low"] and row["high"] <= limit
        row["verdict"] = (
            "equivalent" if within and same[i] <= ERROR_RATE
            else "better" if corrected[i] <= ERROR_RATE
            else "open"
        )  # fmt: skip
        row["seeds_needed"] = None
        if timed:
            row |= NO_TEST
        elif row["verdict"] == "open":
            row["seeds_needed"] = statistics.seeds_needed(pair.differences, pairs=family, signs=pair.mixed)
        rows.append(row)
    counts = dict.fromkeys(("seeds", "looks", "ahead", "failed", "family"), "int64")
    return pd.DataFrame(rows, columns=[*names, *PAIR]).astype(
        {**counts, "seeds_needed": "Int64", "test": "str", "verdict": "str"}
    )


@validate_frames
def shares(runs: pd.DataFrame, *, metric: str | None = None) -> pd.DataFrame:
    """Return how much each factor matters: the shares of it and of its interactions in the metric's variance.

    Parameters
    ----------
    runs
        :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of their rows.
    metric
        As for :func:`compare`.

    Returns
    -------
    DataFrame
        `effect` (str: `init`, `arch × init`, …; `seed` is the variance over seeds within a configuration) and
        `share` (float64, a fraction; they add up to 1), the greatest first. On a grid that is not full,
        shares can't be told apart: then there are no rows, and `.attrs["about"]` says what is missing.
    """
    table, about = shares_by(runs, ranking_of(runs, metric))
    table.attrs["about"] = about
    return table


def shares_by(runs: pd.DataFrame, ranking: Ranking | None = None) -> tuple[pd.DataFrame, str]:
    """Return the shares of variance, and a sentence about them."""
    ranking = ranking or ranking_of(runs)
    runs = filters.once(runs)
    none = pd.DataFrame({"effect": pd.Series(dtype="str"), "share": pd.Series(dtype="float64")})
    table = levels(runs) if len(runs) else pd.DataFrame()
    names = [str(name) for name in table.columns]
    if not names:
        return none, "No factor varies, so there is nothing to share out."
    values = runs[ranking.metric].where(runs["status"] == "finished")
    cells = list(product(*(table[name].cat.categories for name in names)))
    keyed = table.astype("str").agg(tuple, axis=1)
    by_cell = {key: part.dropna() for key, part in values.groupby(keyed)}
    missing = [cell for cell in cells if by_cell.get(cell, values[:0]).empty]
    if missing:
        first = _name(dict(zip(names, missing[0], strict=True)))
        examples = f"({first}, …)" if len(missing) > 1 else f"({first})"
        return none, (
            f"The grid is not full: {len(missing)} of {len(cells)} combinations have no finished trial "
            f"{examples}. So the factors' shares can't be told apart."
        )
    seeds = set.intersection(*(set(runs.loc[by_cell[cell].index, "seed"]) for cell in cells))
    if not seeds:
        return none, "No seed finished in all combinations, so the factors' shares can't be told apart."
    used = sorted(seeds)
    full = [by_cell[cell].groupby(runs["seed"]).first()[used].to_numpy(float) for cell in cells]
    shape = [len(table[name].cat.categories) for name in names]
    shares = statistics.variance_shares(np.array(full).reshape(*shape, len(used)), names)
    if not shares:
        return none, "All trials have the same result, so there is no variance."
    rows = [{"effect": " × ".join(effect) or "seed", "share": share} for effect, share in shares.items()]
    left = runs.loc[values.notna(), "seed"].nunique() - len(used)
    about = f"Over {len(used)} seed{'s' * (len(used) > 1)} that finished everywhere"
    about += f" ({left} left out)." if left else "."
    if len(used) == 1:
        about += " One seed can't tell chance from interaction: what differs by seed is in the interactions."
        rows = rows[:-1]
    return pd.DataFrame(rows).sort_values("share", ascending=False, ignore_index=True, kind="stable"), about


class Findings(NamedTuple):
    """All comparisons of a frame, computed once; a report's tables and sentences are made from them."""

    ranking: Ranking
    configurations: list[Configuration]
    with_leader: pd.DataFrame
    of_options: pd.DataFrame
    in_each_cell: pd.DataFrame
    shares: pd.DataFrame
    about_shares: str

    @property
    def metric(self) -> str:
        """The metric that ranks."""
        return self.ranking.metric


def findings(runs: pd.DataFrame, ranking: Ranking | None = None) -> Findings:
    """Return all comparisons of a frame, or of any part of one, by what ranks."""
    ranking = ranking or ranking_of(runs)
    ranked = configurations(runs, ranking)
    return Findings(
        ranking,
        ranked,
        _leader_against_others(ranked, ranking),
        of_options(runs, ranking),
        in_each_cell(runs, ranking=ranking),
        *shares_by(runs, ranking),
    )
