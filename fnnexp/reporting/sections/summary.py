"""The answer in a few plain sentences, made from the same comparisons as the tables below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.reporting.document.blocks import EVERYWHERE, Section, Text
from fnnexp.reporting.document.markdown import escaped
from fnnexp.reporting.document.wording import between, percent, plural, points
from fnnexp.results import comparisons, filters, frames, statistics
from fnnexp.results.arguments import takes_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fnnexp.results.comparisons import Configuration, Findings

METHODS = {
    "bca": "a BCa bootstrap over seeds",
    "t": "Student's t, for under six seeds can't be resampled",
    "equal": "all seeds gave the same",
}
"""How an interval was computed, in words."""

CLOSE = 5
"""The most configurations that are named as too close to the leader."""

MOST_SEEDS = 10
"""The most seeds that are written out."""

TITLE = "The answer"


class Answer(str):
    """Some sentences, one a line; a notebook shows them as paragraphs."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return "\n\n".join(map(escaped, self.splitlines()))

    def __repr__(self) -> str:
        return str(self)


@takes_frames
def answer(runs: pd.DataFrame) -> Answer:
    """Return what a frame of trials answers, in sentences: what leads and by how much, and what is open.

    Parameters
    ----------
    runs
        :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of their rows.

    Returns
    -------
    Answer
        Text, one sentence or two a line.

    Examples
    --------
    >>> print(fnnexp.answer(runs[runs["batching"] == "mini"]))  # doctest: +SKIP
    """
    return Answer("\n".join(sentences(runs, comparisons.findings(runs))))


def section(runs: pd.DataFrame, findings: Findings) -> Section:
    """Return the section of a frame of runs and what was found in it."""
    return Section(TITLE, [Text(sentence, EVERYWHERE) for sentence in sentences(runs, findings)])


def sentences(runs: pd.DataFrame, findings: Findings) -> list[str]:
    """Return what leads and by how much, what can't be told yet, and which factor matters most.

    `findings` is what :func:`fnnexp.results.comparisons.findings` returns of the same frame.
    """
    finished = [each for each in findings.configurations if len(each.metric)]
    if not finished:
        return ["No trial has finished, so there is no answer yet."]
    leader, pairs, chosen = finished[0], findings.with_leader, len(finished) > 1
    by_test = chosen and findings.metric == "test_accuracy"
    texts = [_leader(leader, findings.metric, chosen), _tested(runs, leader, by_test), *_measured(runs)]
    if chosen:
        texts += [_next(pairs.iloc[0], leader, finished[1]), _settled(pairs)]
    if len(findings.in_each_cell) > 1:
        texts.append(_by_cell(findings.in_each_cell))
    texts += _same(runs)
    if len(findings.shares) > 1:
        top = findings.shares.head(3).to_dict("records")
        first = ", ".join(f"{row['effect']} {100 * row['share']:.1f}%" for row in top)
        texts.append(
            f"What the results vary with, as shares of their variance: {first}. {findings.about_shares}"
        )
    return texts


def _leader(leader: Configuration, metric: str, chosen: bool) -> str:
    verb = "leads with" if chosen else "has"
    sentence = f"{leader.name} {verb} {percent(statistics.mean(leader.metric))} {metric}"
    n = len(leader.metric)
    interval = statistics.mean_interval(leader.metric, within=statistics.ACCURACY)
    if interval.method == "none":
        sentence += ", of one seed, which says nothing about other seeds"
    else:
        ends = between(interval.low, interval.high)
        sentence += f" (95% interval {ends} over {n} seeds: {METHODS[interval.method]})"
    if n < (tried := len(leader.tried)):
        sentence += f"; {tried - n} of its {tried} trials did not finish"
    return sentence + "."


def _tested(runs: pd.DataFrame, leader: Configuration, by_test: bool) -> str:
    """Return the leader's test accuracy, the only one shown, and its error from the number of images."""
    mine = comparisons.finished_trials(runs, leader)
    test = statistics.mean(mine["test_accuracy"])
    sentence = f"On the test images, which chose nothing, it has {percent(test)}."
    if by_test:
        sentence = f"It was chosen by the test images, so its {percent(test)} is optimistic."
    images = {
        "validation": mine["data.validation"] if "data.validation" in mine else mine["seed"][:0],
        "test": mine["test_images"] if "test_images" in mine else mine["seed"][:0],
    }
    values = {"validation": statistics.mean(mine["val_accuracy"]), "test": test}
    errors = []
    for split, counts in images.items():
        known = pd.to_numeric(counts, errors="coerce").dropna()
        count = int(known.min()) if len(known) else 0
        error = statistics.test_set_error(values[split], count)
        if not math.isnan(error):
            errors.append(f"{points(error)} for {count:,} {split} images")
    spread = statistics.standard_deviation(leader.metric)
    over = "" if math.isnan(spread) else f"; seeds spread by {points(spread)} (standard deviation)"
    if errors:
        sentence += f" The images alone leave a standard error of {' and '.join(errors)}{over}."
    return sentence


def _measured(runs: pd.DataFrame) -> list[str]:
    """Return sentences on results that come from different images, and on trials that are not counted."""
    counted = filters.once(runs)
    done = counted[counted["status"] == "finished"]
    sets = done[frames.CHECKSUM].nunique() if frames.CHECKSUM in done else 0
    texts = []
    if sets > 1:
        texts.append(
            f"The results were measured on the images of {sets} data sets: a difference between data sets is "
            "no difference between networks, and pairs across them have a seed in common but no images."
        )
    if passed := runs["trial"].nunique() - counted["trial"].nunique():
        texts.append(
            f"{plural(passed, 'trial')} not counted, for another of the same configuration and seed is done "
            "or was started later."
        )
    return texts


def _same(runs: pd.DataFrame) -> list[str]:
    """Return a sentence for each set of options whose trials are all numerically identical."""
    table = comparisons.levels(runs)
    joined = [str(option) for name in table for option in table[name].cat.categories if " = " in str(option)]
    return [
        f"{' and '.join(option.split(' = '))} are the same experiment here, numerically identical wherever "
        "they were run; they count once."
        for option in joined
    ]


def _next(pair: pd.Series, leader: Configuration, other: Configuration) -> str:
    if not pair.seeds:
        return _unpaired(leader, other)
    ends, where = between(pair.low, pair.high), "in"
    sentence = f"It is {points(pair.difference)} ahead of {pair.b}"
    if pair.difference == 0:
        sentence, where = f"It is level with {pair.b}", "ahead in"
    elif pair.difference < 0:  # what it leads by is of seeds that the other lacks
        sentence = f"Where they are paired it is {points(-pair.difference)} behind {pair.b}"
        ends, where = between(-pair.high, -pair.low), "ahead in"
    if math.isnan(pair.low):
        return f"{sentence}, in the one seed that both finished."
    return f"{sentence} (95% interval {ends}), {where} {pair.ahead} of {pair.seeds} paired seeds."


def _unpaired(leader: Configuration, other: Configuration) -> str:
    """Return that two configurations have no seed in common, and which seeds would pair them."""
    mine, its = sorted(leader.metric.index), sorted(other.metric.index)
    sentence = (
        f"It and {other.name}, the next, have no finished seed in common ({_seeds(mine)} and {_seeds(its)}), "
        "so they can't be paired"
    )
    lacks = [
        f"{name} with {_seeds(untried)}"
        for name, tried, theirs in (("it", leader.tried, its), ("the next", other.tried, mine))
        if (untried := [seed for seed in theirs if seed not in tried])
    ]
    if lacks:
        sentence += f"; {', or '.join(lacks)}{',' * (len(lacks) > 1)} would pair them"
    return f"{sentence}."


def _seeds(seeds: Sequence[int]) -> str:
    """Return seeds as an override, the first and the last if they are many.

    >>> _seeds([3, 4]), _seeds(range(12))
    ('seed=3,4', 'seed=0,…,11')
    """
    few = [*map(str, seeds)] if len(seeds) <= MOST_SEEDS else [str(seeds[0]), "…", str(seeds[-1])]
    return f"seed={','.join(few)}"


def _settled(pairs: pd.DataFrame) -> str:
    n, among = len(pairs), pairs.attrs["pairs"]
    settled = pairs["verdict"] == "settled"
    seeds = int(pairs["seeds"].max())
    if (pairs["verdict"] == "too few seeds").all():
        few = ", and under 6 seeds none reaches 5%" if seeds < 6 else ""
        alike = (pairs["seeds"] == seeds).all()
        over = plural(seeds, "seed") if alike else f"at most {plural(seeds, 'seed')} in common"
        least = f"with {over} the least p value of a sign-flip test is {statistics.least_p(seeds):.3g}{few}"
        if not seeds:
            least = "it has no finished seed in common with any other, so no test can be made"
        return (
            f"No order is settled: {least}; "
            f"corrected for {plural(among, 'pair')} of configurations it takes "
            f"{statistics.seeds_to_test(among)} seeds.{_needed(pairs.iloc[0])}"
        )
    near = pairs.loc[~settled, "b"].tolist()
    sentence = f"It is settled (corrected p ≤ 5%) to be better than {int(settled.sum())} of {n} others"
    if near:
        more = f" and {len(near) - CLOSE} more" if len(near) > CLOSE else ""
        sentence += f"; not told apart from it are {', '.join(near[:CLOSE])}{more}.{_needed(pairs.iloc[0])}"
    return sentence if near else f"{sentence}."


def _by_cell(cells: pd.DataFrame) -> str:
    """Return which initializer leads in how many combinations of the other factors."""
    others = [str(name) for name in cells.columns[: list(cells.columns).index("a")]]
    settled = cells.loc[cells["verdict"] == "settled", "a"].value_counts()
    parts = [
        f"{name} in {n} (settled in {settled.get(name, 0)})" for name, n in cells["a"].value_counts().items()
    ]
    return (
        f"Of the {len(cells)} combinations of {' and '.join(others)}, each a question of its own, "
        f"the best initializer is {', '.join(parts)}."
    )


def _needed(pair: pd.Series) -> str:
    """Return how many seeds would settle the nearest pair, as a further sentence; "" if there is no pair."""
    if not pair.seeds:
        return ""
    if pair.verdict == "settled":
        return f" The nearest, {pair.b}, is settled."
    if pair.seeds < 2:
        return f" How many would settle it against {pair.b} can't be said from one seed."
    if pair.difference == 0:
        return f" The two are level so far, so how many would settle it against {pair.b} can't be said."
    needed = pair.seeds_needed
    many = "more than 1,000 seeds" if pd.isna(needed) else f"about {int(needed)} seeds"
    return f" At the difference and spread seen so far, {many} would settle it against {pair.b}."
