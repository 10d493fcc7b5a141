"""Tuned comparisons: what tuning chose for each option, and which option is best once each is tuned.

In this module, a level is an option that was tuned, and a draw is a combination of values that tuning tried.
Tuning chooses for each level the draw with the best mean of the ranking metric over the tuning seeds. The
levels are then compared with their chosen draws on fresh seeds, which chose nothing. These trials are paired
by seed and tested as in any comparison (:mod:`fnnexp.results.comparisons`).

Tuning has few seeds, so luck may choose a draw that is not a level's best. On fresh seeds another level would
look better, although both are equally good at their best draws. So a level is called better than another only
if it also passes a check: on the fresh seeds it must beat each of the other's :data:`CONTENDERS` best draws.
The other's truly best draw is almost surely among these. Against that draw, an equally good level passes no
more often than its error rate allows (`benchmarks/tuned.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from fnnexp.config.grids.tuned import TUNING_SEEDS, Tuned, is_of_level, parsed
from fnnexp.config.schema import CHOICES
from fnnexp.errors import plural
from fnnexp.reporting.document.wording import between, listed, points, value
from fnnexp.results import comparisons, filters, statistics
from fnnexp.results.comparisons import ERROR_RATE, PAIR, Findings
from fnnexp.results.factors import as_text, tuples_of
from fnnexp.results.frames import CHECKSUM, PIECES, in_order, params_of
from fnnexp.results.ranking import Ranking
from fnnexp.tracking.run_format import AND, DONE

FEW = 4
"""If there are more options than this, a sentence counts them instead of naming them."""

CONTENDERS = 3
"""A level that is called better than another beats so many of the other's draws, the best in tuning."""

PASSED, FAILED, MISSING = "passed", "failed", "not trained"
"""The results of a check: the winner beats all contenders of the other level, or does not; not all of their
trials are done."""

UNSURE = "unsure"
"""The answer where the interval of a difference excludes 0, but the corrected test finds no difference."""

TIMED = "timed"
"""The answer where the metric is a time."""

PHRASES = {
    "better": "it is better than {}",
    "equivalent": "it is equivalent to {}",
    FAILED: "with the values that tuning chose it is ahead of {}, but not clearly with other good "
    "values, so luck in tuning may explain the difference",
    MISSING: "with the values that tuning chose it is ahead of {}, but the check is missing: other "
    "good values are not trained yet with all fresh seeds",
    UNSURE: "it is ahead of {}, but not significantly",
    "open": "it is ahead of {}, but cannot be told apart",
    TIMED: "it is ahead of {}; times are not tested, because trials that train in one stack share a clock",
}
"""What the answer says of the best option and others, by the verdict or by a check that was not passed."""


TRY = "Try other learning rates (fnnexp lr --help says how to find them) or more epochs."
"""What to try if no network learned."""


@dataclass(frozen=True)
class Level:
    """An option that was tuned and is compared with others.

    Attributes
    ----------
    name
        The option's name.
    draws
        A row for each draw (a combination of values that tuning tried), sorted by the values. The columns are
        the tuned keys; `trials`, the ids of the draw's tuning trials; `epochs_trained`, the number of epochs
        of all these trials; `diverged`, how many of them diverged; `mean`, that of the ranking metric, NaN
        unless the trials of all tuning seeds finished.
    chosen
        The index of the best draw; of equally good ones, the first. None if no draw has a mean.
    """

    name: str
    draws: pd.DataFrame
    chosen: int | None

    def contenders(self, ranking: Ranking) -> list[int]:
        """Return the indices of the :data:`CONTENDERS` draws with the best means in tuning, in order."""
        goodness = ranking.goodness(self.draws["mean"]).dropna()
        return [int(row) for row in goodness.sort_values(ascending=False, kind="stable").index[:CONTENDERS]]


@dataclass(frozen=True)
class Comparison:
    """A comparison of options (the levels), each of which was tuned first.

    Attributes
    ----------
    asked
        What is compared and tuned.
    ranking
        The ranking metric and the margin.
    levels
        The levels that were tuned.
    rows
        The trials with fresh seeds and the values of some draw. Their column `level` is the index of the
        level in `levels`, and `draw` the index of the draw in the level's `draws`.
    where
        The settings, such as `epochs=4`, in which this comparison differs from other tuned comparisons of the
        same experiment; "" if there is only this one.
    """

    asked: Tuned
    ranking: Ranking
    levels: Sequence[Level]
    rows: pd.DataFrame
    where: str = ""

    @property
    def keys(self) -> list[str]:
        """The keys that were tuned, such as `optimizer.lr`, if the trials have params of these names."""
        return [key for key in self.asked.tune if key in self.levels[0].draws]

    @property
    def factors(self) -> str:
        """The compared factors as the heading of a column with the names of the levels: `arch init`."""
        return " ".join(_compared_keys(self.rows, self.asked))

    def values(self, level: int) -> dict[str, Any]:
        """Return the values that tuning chose for a level, by tuned key; {} if it chose none."""
        chosen = self.levels[level].chosen
        draws = self.levels[level].draws
        return {} if chosen is None else {key: draws[key].iloc[chosen] for key in self.keys}

    def at(self, level: int, draw: int | None) -> pd.DataFrame:
        """Return a level's trials with fresh seeds and the values of one draw; none if `draw` is None."""
        of_level = self.rows["level"] == level
        return self.rows[of_level & (self.rows["draw"] == (-1 if draw is None else draw))]

    def own(self, level: int) -> pd.DataFrame:
        """Return a level's trials with fresh seeds and the values that tuning chose for this level."""
        return self.at(level, self.levels[level].chosen)


class Check(NamedTuple):
    """The result of a check: whether an option that beats another also beats the other's next-best draws.

    Attributes
    ----------
    result
        One of :data:`PASSED`, :data:`FAILED` and :data:`MISSING`, or "" if there was no check.
    p
        The largest p value of the tests against these draws (combinations of values that tuning tried).
    """

    result: str
    p: float


# Reading trials


def all_of(runs: pd.DataFrame, ranking: Ranking) -> list[Comparison]:
    """Return the comparisons of tuned options that a frame of runs contains."""
    texts = sorted(runs["tuning"].dropna().unique()) if "tuning" in runs else []
    names = dict.fromkeys(name for text in texts for name in str(text).split(AND))
    return [each for asked in filter(None, map(parsed, names)) for each in of(runs, asked, ranking)]


def of(runs: pd.DataFrame, asked: Tuned, ranking: Ranking) -> list[Comparison]:
    """Return the comparisons with the compared and tuned keys of `asked` that a frame of runs contains.

    There is one for each combination of the settings that were neither compared nor tuned, such as `epochs`.
    """
    runs = filters.once(in_order(runs))
    params = params_of(runs)
    by_level = [*(key for key in params if is_of_level(asked, key)), PIECES]
    by_draw = [key for key in asked.tune if key in params]
    by_level += [CHECKSUM] if "data" in asked.sections else []
    others = [key for key in (*params, CHECKSUM) if key not in (*by_level, *by_draw, *CHOICES)]
    fixed = [key for key in others if key in runs]
    level, draw, rest = (_texts(runs, keys) for keys in (by_level, by_draw, fixed))
    is_tuning = runs["tuning"].map(lambda text: str(asked) in str(text).split(AND)).astype("bool")
    is_tuning &= runs["seed"].isin(TUNING_SEEDS)
    tunings, first = [], []
    for combination in dict.fromkeys(rest[is_tuning]):
        here = rest == combination
        names = [*dict.fromkeys(level[here & is_tuning])]
        if len(names) < 2:
            continue
        tried = [runs[here & is_tuning & (level == name)] for name in names]
        levels = [_level(rows, asked, by_draw, ranking) for rows in tried]
        parts = []
        for number, (name, each) in enumerate(zip(names, levels, strict=True)):
            numbers = dict(zip(_texts(each.draws, by_draw), each.draws.index, strict=True))
            rows = runs[here & (level == name) & ~runs["seed"].isin(TUNING_SEEDS) & draw.isin([*numbers])]
            parts.append(rows.assign(level=number, draw=draw[rows.index].map(numbers).astype("int64")))
        tunings.append(Comparison(asked, ranking, _distinct(levels), pd.concat(parts, ignore_index=True)))
        first.append(tried[0].iloc[0])
    differs = [key for key in fixed if len({str(row[key]) for row in first}) > 1]
    where = [" ".join(f"{key}={as_text(row[key])}" for key in differs) for row in first]
    return [replace(each, where=text) for each, text in zip(tunings, where, strict=True)]


def _texts(frame: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    """Return a text for each row, equal for rows with the same values in these columns."""
    present = frame[[key for key in keys if key in frame]].astype("str")
    return pd.Series(["\0".join(map(str, row)) for row in tuples_of(present)], frame.index, dtype="str")


def _level(rows: pd.DataFrame, asked: Tuned, keys: Sequence[str], ranking: Ranking) -> Level:
    """Return what tuning tried and chose for one option, given its tuning trials and the tuned keys."""
    rows = rows.sort_values([*keys, "seed"], kind="stable")
    finished, metric = rows["status"] == "finished", rows[ranking.metric].astype("float64")
    rows = rows.assign(epochs_trained=_epochs(rows), value=metric.where(finished))
    draws = []
    for _, trials in rows.groupby(_texts(rows, keys), sort=False):
        is_complete = set(TUNING_SEEDS) <= set(trials.loc[trials["value"].notna(), "seed"])
        draws.append({
            **{key: trials[key].iloc[0] for key in keys},
            "trials": tuple(trials["trial"]),
            "epochs_trained": int(trials["epochs_trained"].sum()),
            "diverged": int((trials["status"] == "diverged").sum()),
            "mean": statistics.mean(trials["value"]) if is_complete else math.nan,
        })  # fmt: skip
    table = pd.DataFrame(draws).astype({key: rows[key].dtype for key in keys})
    goodness = ranking.goodness(table["mean"]).to_numpy(np.float64)
    name = comparisons.name_of({key: as_text(rows[key].iloc[0]) for key in _compared_keys(rows, asked)})
    return Level(name, table, None if np.isnan(goodness).all() else int(np.nanargmax(goodness)))


def _compared_keys(rows: pd.DataFrame, asked: Tuned) -> list[str]:
    """Return the compared factors in the order in which they make up the names of configurations."""
    return [key for key in params_of(rows) if key in asked.compare]


def _epochs(rows: pd.DataFrame) -> pd.Series:
    """Return how many epochs each finished or diverged trial has trained; 0 for other trials."""
    epochs = pd.Series(math.nan, rows.index)
    for column in ("diverged_epoch", "stopped_epoch", "epochs"):
        if column in rows:
            epochs = epochs.fillna(rows[column].astype("float64"))
    return epochs.where(rows["status"].isin(DONE)).fillna(0)


def _distinct(levels: Sequence[Level]) -> list[Level]:
    """Return the levels with different names: levels with the same name get numbers, as in `he (2)`."""
    names = [level.name for level in levels]
    return [
        level if names.count(level.name) == 1 else Level(f"{level.name} ({i})", level.draws, level.chosen)
        for i, level in enumerate(levels, start=1)
    ]


def parts(runs: pd.DataFrame, tunings: Sequence[Comparison]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the trials that a report compares, and those that it shows over the values of numeric factors.

    Tuning trials are never compared. If all other trials belong to comparisons of tuned options, those with
    the chosen values are compared, and the tuning trials are shown over the values. Otherwise both frames are
    the same: all trials that did not tune.
    """
    compared = filters.compared(runs)
    rows = [comparison.rows["trial"] for comparison in tunings]
    if compared is runs or not rows or not compared["trial"].isin(pd.concat(rows)).all():
        return compared, compared
    own = [each.own(level)["trial"] for each in tunings for level in range(len(each.levels))]
    tuning = runs["tuning"].notna() & runs["seed"].isin(TUNING_SEEDS)
    return filters.part(compared, compared["trial"].isin(pd.concat(own))), filters.part(runs, tuning)


def reported(runs: pd.DataFrame, ranking: Ranking) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows that a report on some trials compares, and the tuned keys, which are no factors there.

    The rows are those of :func:`parts`. There are no such keys if the report does not compare tuned options.
    """
    tunings = all_of(runs, ranking)
    compared, over_values = parts(runs, tunings)
    return compared, keys(tunings) if over_values is not compared else []


def keys(tunings: Sequence[Comparison]) -> list[str]:
    """Return the keys that were tuned in any of these comparisons.

    Among the trials with the chosen values they are no factors, because each option determines its values.
    """
    return list(dict.fromkeys(key for comparison in tunings for key in comparison.keys))


def answers(tunings: Sequence[Comparison]) -> list[str]:
    """Return the answers of all comparisons in sentences; if there are several, each after its name."""
    texts = []
    for comparison in tunings:
        texts += [name_of(comparison)] if len(tunings) > 1 else []
        texts += [*sentences(comparison, pairs(comparison)), *at_ends(comparison)]
    return texts


def name_of(comparison: Comparison) -> str:
    """Return the name of a comparison, such as `compare=init tune=optimizer.lr epochs=4`.

    It ends with the settings in which the comparison differs from others of the experiment.
    """
    return f"{comparison.asked} {comparison.where}".strip()


# Comparing the tuned options


def pairs(comparison: Comparison) -> pd.DataFrame:
    """Compare tuned options in pairs, each with the values that tuning chose for it; a row for each pair.

    The pairs with the best option come first. With more than :data:`comparisons.MOST_OPTIONS` options, the
    other pairs are left out.

    Returns
    -------
    DataFrame
        The columns of :func:`fnnexp.compare`, and `check`. Where the results on fresh seeds say that one
        option is better, a second test checks this against the other good values of the worse option, and
        `check` is its result (:class:`Check`); for other pairs it is "". The verdict is `better` only if both
        tests are significant: the larger of their p values, corrected for all pairs, is at most 5%.
        `p_corrected` belongs to the first test alone, as in every other table of the same pairs.
    """
    ranking, groups = comparison.ranking, _groups(comparison)
    if len(groups) < 2:
        return pd.DataFrame(columns=["a", "b", *PAIR, "check"])
    own = {name: comparison.own(level) for name, level in groups.items()}
    rows, leader = _compared(own, ranking, best_only=False), best(comparison)
    rows.sort(key=lambda row: leader not in (row["a"], row["b"]))
    checks = [
        _check(comparison, groups[row["a"]], groups[row["b"]])
        if row["verdict"] == "better"
        else Check("", row["p"])
        for row in rows
    ]
    family = rows[0]["family"]
    larger = [max(row["p"], check.p) for row, check in zip(rows, checks, strict=True)]
    for row, check, corrected in zip(rows, checks, statistics.holm(larger, family), strict=True):
        row["check"] = check.result
        if row["verdict"] == "better":
            is_sure = check.result == PASSED and corrected <= ERROR_RATE
            row["check"] = FAILED if check.result == PASSED and not is_sure else check.result
            row["verdict"] = "better" if is_sure else "open"
    return pd.DataFrame(rows, columns=["a", "b", *PAIR, "check"])


def checked(findings: Findings, tunings: Sequence[Comparison], rows: pd.DataFrame) -> Findings:
    """Return the findings, with the verdict `better` on two tuned options made `open` if it fails a check.

    The better one must also beat the other's next-best values, not only those that tuning chose
    (:class:`Check`). All other findings stay as they are. `rows` are the trials that were compared.
    """
    return findings._replace(
        with_leader=with_checks(findings.with_leader, tunings, rows),
        of_options=with_checks(findings.of_options, tunings, rows),
        in_each_cell=with_checks(findings.in_each_cell, tunings, rows),
    )


def with_checks(table: pd.DataFrame, tunings: Sequence[Comparison], rows: pd.DataFrame) -> pd.DataFrame:
    """Return a table of pairs with the checks of tuned options, and `open` where a check does not confirm.

    `check` is a column as in :func:`pairs`; it is "" for pairs that are not two options of one comparison.
    A table of :func:`pairs` has no row for some pairs of many options. If such a pair is `better`, it is
    checked here, with the p value of the check corrected for the pairs of its own question (Bonferroni).
    """
    if not tunings:
        return table
    records, verdict = table.to_dict("records"), table["verdict"].tolist()
    check = [""] * len(records)
    words = [[*_words_of_pair(row)] for row in records]
    for comparison in tunings:
        names, groups = _names_by_words(comparison, rows), _groups(comparison)
        known = {
            frozenset((row["a"], row["b"])): (row["check"], row["verdict"])
            for row in pairs(comparison).to_dict("records")
        }
        for i, (row, of_pair) in enumerate(zip(records, words, strict=True)):
            a, b = (names.get(each) for each in of_pair)
            if a is None or b is None or row["verdict"] != "better":
                continue
            if (pair := frozenset((a, b))) in known:
                check[i], verdict[i] = known[pair]
            else:
                result, p = _check(comparison, groups[a], groups[b])
                is_sure = result == PASSED and p * row["family"] <= ERROR_RATE
                check[i] = FAILED if result == PASSED and not is_sure else result
                verdict[i] = "better" if is_sure else "open"
    return table.assign(
        verdict=pd.Series(verdict, table.index, dtype=table["verdict"].dtype),
        check=pd.Series(check, table.index, dtype="str"),
    )


def _names_by_words(comparison: Comparison, rows: pd.DataFrame) -> dict[frozenset[str], str]:
    """Return the names of the options, by the words of their names in tables of pairs (:mod:`comparisons`).

    The options are named by what is compared. The tables name them by all that varies among the trials that
    they compare, `rows`: `mini size=64` for `batching.size=64`. Only the words are the same in all tables,
    because some have columns of their own for a part of the name.
    """
    options = comparisons.levels(rows).astype("str").set_axis(rows["trial"].astype("str"))
    names = {}
    for name, alike in _alike(comparison).items():
        own = pd.concat([comparison.own(level)["trial"].astype("str") for level in alike])
        found = options[options.index.isin(own)].drop_duplicates().to_dict("records")
        names[frozenset().union(*(_words({str(k): v for k, v in each.items()}) for each in found))] = name
    return names


def _words_of_pair(row: Mapping[Any, Any]) -> Iterator[frozenset[str]]:
    """Yield the words of the names of both options of a pair, a row of a table of :mod:`comparisons`.

    In a table of one factor's options, and in one with a row for each combination of other factors, the names
    lack the factor or the combination, which have columns of their own.
    """
    cell = {name: row[name] for name in row if name not in (*PAIR, "a", "b", "factor", "cells", "check")}
    for side in (row["a"], row["b"]):
        yield _words({row["factor"]: side}) if "factor" in row else _words({**cell, "init": side})


def _words(options: Mapping[str, str]) -> frozenset[str]:
    """Return the words of the name of a combination of options, given by factor."""
    return frozenset(comparisons.name_of(options).replace(" = ", " ").split(" "))


def needed(comparison: Comparison) -> list[tuple[int, int]]:
    """Return the draws whose trials the checks need, as pairs of the indices of a level and of its draw.

    Of a level that the best level seems to beat, these are the contenders (the best draws in tuning) without
    the chosen one, which is compared anyway.
    """
    groups = _groups(comparison)
    if len(groups) < 2:
        return []
    own = {name: comparison.own(level) for name, level in groups.items()}
    losers = [groups[row["b"]] for row in _compared(own, comparison.ranking) if row["verdict"] == "better"]
    return [
        (loser, draw)
        for loser in losers
        for draw in comparison.levels[loser].contenders(comparison.ranking)[1:]
    ]


def best(comparison: Comparison) -> str | None:
    """Return the name of the tuned option with the best mean on fresh seeds, None if there are no results."""
    means = {
        name: statistics.mean(comparison.ranking.goodness(_values(comparison, comparison.own(level))))
        for name, level in _groups(comparison).items()
    }
    return max(means, key=means.__getitem__) if means else None


def _groups(comparison: Comparison) -> dict[str, int]:
    """Return the index of each level that has results on fresh seeds, by the level's name.

    Numerically identical levels have one entry, with a name such as `sqrtmax = xavier` and the first index.
    """
    return {name: alike[0] for name, alike in _alike(comparison).items()}


def _alike(comparison: Comparison) -> dict[str, list[int]]:
    """Return the indices of the levels that have results on fresh seeds, by the name of identical ones."""
    by_training: dict[frozenset[tuple[Any, Any]], list[int]] = {}
    for level in range(len(comparison.levels)):
        rows = comparison.own(level)
        if _values(comparison, rows).size:
            trainings = rows["identical_to"].fillna(rows["trial"])
            by_training.setdefault(frozenset(zip(rows["seed"], trainings, strict=True)), []).append(level)
    return {
        " = ".join(comparison.levels[level].name for level in alike): alike for alike in by_training.values()
    }


def _values(comparison: Comparison, rows: pd.DataFrame) -> np.ndarray:
    """Return the ranking metric of the finished trials among these rows."""
    return rows.loc[rows["status"] == "finished", comparison.ranking.metric].dropna().to_numpy(np.float64)


def _compared(
    by_name: Mapping[str, pd.DataFrame], ranking: Ranking, *, best_only: bool = True
) -> list[dict[str, Any]]:
    """Compare the best of some named options, each with its trials, with every other, or all in pairs."""
    finished = [
        rows[(rows["status"] == "finished") & rows[ranking.metric].notna()] for rows in by_name.values()
    ]
    option = np.repeat(np.arange(len(finished)), [len(rows) for rows in finished])
    results = comparisons.results_of(pd.concat(finished, ignore_index=True), ranking)._replace(option=option)
    return comparisons.best_against_others([*by_name], results, ranking, best_only=best_only)


def _check(comparison: Comparison, winner: int, loser: int) -> Check:
    """Return whether the level `winner` also beats the contenders of `loser` that tuning did not choose."""
    own, p_values = comparison.own(winner), [0.0]
    own = own[own["status"] == "finished"]
    for draw in comparison.levels[loser].contenders(comparison.ranking)[1:]:
        rows = comparison.at(loser, draw)
        rows = rows[rows["seed"].isin(own["seed"]) & rows["status"].isin(DONE)]
        if len(rows) < len(own):
            return Check(MISSING, 1.0)
        if (rows["status"] == "finished").sum() > 1:  # a draw that diverges on fresh seeds needs no test
            (pair,) = _compared({"winner": own, "loser": rows}, comparison.ranking)
            p_values.append(float(pair["p"]) if pair["a"] == "winner" and pair["difference"] > 0 else 1.0)
    return Check(PASSED if max(p_values) <= ERROR_RATE else FAILED, max(p_values))


# Tables and sentences


def best_found(comparison: Comparison) -> pd.DataFrame:
    """Return how good a result tuning would have found with fewer trials, for each option.

    Returns
    -------
    DataFrame
        `level`, the name of the option; `trials`, the number of tuning trials; `best`, the best mean that so
        many trials are expected to find, if the draws are tried in random order. A draw without a mean counts
        as the worst that has one.
    """
    rows = []
    for level in comparison.levels:
        goodness = comparison.ranking.goodness(level.draws["mean"])
        values = np.sort(goodness.fillna(goodness.min()).to_numpy(np.float64))
        if np.isnan(values).any():
            continue
        for count in range(1, len(values) + 1):
            best_of_count = comparison.ranking.goodness(np.array([expected_best(values, count)]))[0]
            rows.append((level.name, count * len(TUNING_SEEDS), best_of_count))
    return pd.DataFrame(rows, columns=["level", "trials", "best"])


def expected_best(values: Sequence[float] | np.ndarray, count: int) -> float:
    r"""Return the expected largest of `count` values, drawn without replacement from ascending `values`.

    The i-th of n values is the largest of k drawn values with the probability C(i − 1, k − 1) / C(n, k).

    >>> expected_best([1.0, 2.0, 6.0], 1), expected_best([1.0, 2.0, 6.0], 3)
    (3.0, 6.0)
    """
    n = len(values)
    ways = [math.comb(i, count - 1) for i in range(n)]
    return float(sum(value * (way / math.comb(n, count)) for value, way in zip(values, ways, strict=True)))


def end_of_range(level: Level, key: str) -> str:
    """Return "lowest tried" or "highest tried" if tuning chose this value of the key, else "".

    In that case, a value beyond those that were tried may be better.
    """
    tried = level.draws[key]
    if level.chosen is None or is_bool_dtype(tried) or not is_numeric_dtype(tried) or tried.nunique() < 3:
        return ""
    value = tried.iloc[level.chosen]
    return "lowest tried" if value == tried.min() else "highest tried" if value == tried.max() else ""


def marks(level: Level, keys: Sequence[str]) -> str:
    """Return a note on the keys for which tuning chose the lowest or the highest value that it tried."""
    ends = {key: mark for key in keys if (mark := end_of_range(level, key))}
    return ", ".join(ends.values() if len(keys) == 1 else (f"{key}: {mark}" for key, mark in ends.items()))


def sentences(comparison: Comparison, table: pd.DataFrame) -> list[str]:
    """Return the answer of a comparison in sentences; `table` is the result of :func:`pairs`."""
    ranking, leader = comparison.ranking, best(comparison)
    place = f"{comparison.where} and " if comparison.where else ""
    tuned_for = f"With {place}{listed(comparison.asked.tune)} tuned for each option"
    untuned = [level.name for level in comparison.levels if level.chosen is None]
    notes = [f"No configuration of {listed(untuned)} finished on all tuning seeds."] if untuned else []
    notes += _unequal(comparison)
    if leader is None or table.empty:
        return [f"{tuned_for}, no two options have results on fresh seeds yet.", *notes]
    own = pd.concat([comparison.own(level) for level in _groups(comparison).values()])
    own = own[(own["status"] == "finished") & own[ranking.metric].notna()]
    if comparisons.failed_to_learn(own, ranking).all():
        return [f"{tuned_for}, no network learned on fresh seeds. {TRY}", *notes]
    behind = table[table["a"] == leader]
    # If a verdict is open only because its check was not passed, the answer says so.
    answers = behind["verdict"].mask((behind["verdict"] == "open") & (behind["low"] > 0), UNSURE)
    answers = answers.mask(behind["check"].isin([FAILED, MISSING]), behind["check"])
    if ranking.is_time:
        answers = pd.Series(TIMED, behind.index)
    texts = [
        phrase.format(_others(part, ranking))
        for answer, phrase in PHRASES.items()
        if len(part := behind[answers == answer])
    ]
    ahead = [str(name) for name in table.loc[table["b"] == leader, "a"]]
    texts += [f"on the seeds that both finished, {name} is ahead of it" for name in ahead]
    seeds = plural(int(table["seeds"].max()), "fresh seed")
    answer = f"{tuned_for}, {leader} leads on {seeds}: {'; '.join(texts)}."
    return [answer, *_other_values(comparison, behind), *notes]


def at_ends(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence on each key for which tuning chose the lowest or the highest value that it tried.

    If there are more than :data:`FEW` such options, they are counted instead of named.
    """
    for key in comparison.keys:
        ends: dict[str, list[str]] = {}
        for level in comparison.levels:
            if mark := end_of_range(level, key):
                ends.setdefault(mark, []).append(level.name)
        for mark, names in ends.items():
            verb = "has" if len(names) == 1 else "have"
            few = len(names) <= FEW
            these = listed(names) if few else f"{len(names)} of {len(comparison.levels)} options"
            yield (
                f"{these} {verb} the {mark.removesuffix(' tried')} {key} that was tried, so values beyond it "
                "may be better; write a wider space of it."
            )


def _other_values(comparison: Comparison, behind: pd.DataFrame) -> Iterator[str]:
    """Yield what made checks fail: the best fresh result of each loser with values that were not chosen.

    `behind` are the pairs with the leader. If more than :data:`FEW` checks failed, yield nothing.
    """
    losers = [str(name) for name in behind.loc[behind["check"] == FAILED, "b"]]
    for name in losers if len(losers) <= FEW else ():
        number = _groups(comparison)[name]
        level = comparison.levels[number]
        fresh = {
            i: _values(comparison, comparison.at(number, i)) for i in level.contenders(comparison.ranking)[1:]
        }
        means = {i: statistics.mean(values) for i, values in fresh.items() if values.size}
        if not means:  # all diverged, and only the correction for several pairs made the check fail
            continue
        best_other = [*means][int(np.argmax(comparison.ranking.goodness(np.array([*means.values()]))))]
        at = " ".join(f"{key}={as_text(level.draws[key].iloc[best_other])}" for key in comparison.keys)
        result = value(means[best_other], comparison.ranking)
        yield f"On the same seeds {name} has {result} with {at}, which was nearly as good in tuning."


def _unequal(comparison: Comparison) -> list[str]:
    """Return a sentence if tuning did not try the same configurations for all options."""
    tried = [frozenset(_texts(level.draws, comparison.keys)) for level in comparison.levels]
    if len({*tried}) == 1:
        return []
    by_count: dict[int, list[str]] = {}
    for level, draws in zip(comparison.levels, tried, strict=True):
        by_count.setdefault(len(draws), []).append(level.name)
    counts = [f"{count} of {listed(names)}" for count, names in sorted(by_count.items())]
    return [
        f"Tuning was not equal: the options tried different configurations ({', '.join(counts)}), and who "
        "tries more finds better values."
    ]


def _others(part: pd.DataFrame, ranking: Ranking) -> str:
    """Return, in words, the other options of some pairs and by how much the leader is ahead of them.

    If there are more than :data:`FEW`, they are counted instead of named.
    """
    if len(part) > FEW:
        low, high = (points(end, ranking) for end in (part["difference"].min(), part["difference"].max()))
        return f"{len(part)} others (by {low} to {high})"
    return listed([_other(row, ranking) for row in part.to_dict("records")])


def _other(row: Mapping[Any, Any], ranking: Ranking) -> str:
    """Return the name of the other option of a pair, and by how much it is behind the leader."""
    interval = between(row["low"], row["high"], ranking)
    if ranking.is_time:
        return f"{row['b']} (by {points(row['difference'], ranking)})"
    seeds = f"95% interval {interval}" if row["seeds"] > 1 else "in one seed"
    unsure = row["verdict"] == "open" and row["low"] > 0 and not row["check"]
    p = f", Holm p {row['p_corrected']:.2g}" if unsure else ""
    return f"{row['b']} (by {points(row['difference'], ranking)}, {seeds}{p})"
