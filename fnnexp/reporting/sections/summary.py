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
"""How an interval of a configuration's mean was computed, in words."""

KINDS = {
    "init": "initializer", "arch": "architecture", "batching": "batching mode", "optimizer": "optimizer",
    "data": "data set",
}  # fmt: skip
"""What an option of a factor is; of any other factor it is its value."""

BATCHES = {"full": "full batches", "mini": "mini-batches", "sample": "one row at a time"}

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
    cells = findings.in_each_cell
    texts = [_best(runs, leader, pairs)] if chosen else []
    if len(cells) > 1:
        texts.append(_by_cell(cells))
    texts += [_leader(leader, findings.metric, chosen), _tested(runs, leader, by_test), *_measured(runs)]
    if chosen:
        texts += [_next(pairs.iloc[0], leader, finished[1]), _others(pairs, leader)]
    texts += _same(runs)
    if len(findings.shares) > 1:
        top = findings.shares.head(3).to_dict("records")
        first = ", ".join(f"{row['effect']} {100 * row['share']:.1f}%" for row in top)
        texts.append(
            f"What the results vary with, as shares of their variance: {first}. {findings.about_shares}"
        )
    return texts


def _best(runs: pd.DataFrame, leader: Configuration, pairs: pd.DataFrame) -> str:
    """Return the answer in one sentence: which is best, by how much, in how many seeds; or that is open."""
    among, (factor, *more) = len(pairs) + 1, leader.levels
    kind = "configuration" if more else KINDS.get(factor, f"value of {factor}")
    where = "" if more else _where(runs)
    verdict = pairs["verdict"].where(pairs["a"] == leader.name, "open")
    near = pairs[verdict != "better"]
    if near.empty:
        closest = pairs.sort_values("difference", kind="stable").iloc[0]
        return (
            f"{where}{leader.name} is the best {kind} of {among}: {points(closest['difference'])} ahead of "
            f"{closest['b']} (95% interval {between(closest['low'], closest['high'])}), in "
            f"{closest['ahead']} of {closest['seeds']} seeds."
        )
    names = _few(near["b"].where(near["a"] == leader.name, near["a"]).tolist())
    if (verdict[near.index] == "equivalent").all():
        margin = f"±{comparisons.MARGIN} points"
        return f"{where}{leader.name} is the best {kind} of {among}, and {names} as good within {margin}."
    beaten = pairs.index.size - near.index.size
    leads = f"it is better than {beaten}" if beaten else f"{leader.name} leads"
    return f"{where}Which {kind} of {among} is best is open: {leads}, and not told apart from {names}."


def _where(runs: pd.DataFrame) -> str:
    """Return on which architecture and in which batches all trials were, as the beginning of a sentence."""
    archs, modes = (runs[axis].astype("str").unique() for axis in ("arch", "batching"))
    if len(archs) != 1 or len(modes) != 1:
        return ""
    return f"On {archs[0]} with {BATCHES.get(modes[0], modes[0])}, "


def _few(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - CLOSE} more" if len(names) > CLOSE else ""
    return ", ".join(names[:CLOSE]) + more


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
    elif pair.a != leader.name:  # what it leads by is of seeds that the other lacks
        sentence, where = (
            f"Where they are paired it is {points(pair.difference)} behind {pair.a}",
            "behind in",
        )
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


def _others(pairs: pd.DataFrame, leader: Configuration) -> str:
    """Return how many of the others the leader is better than, which are as good, and which are open."""
    first, family = pairs.iloc[0], int(pairs["family"].iloc[0])
    if not pairs["seeds"].any():
        return f"{leader.name} has no finished seed in common with any other, so no test can be made."
    verdict = pairs["verdict"].where(pairs["a"] == leader.name, "open")
    better, same = (int((verdict == each).sum()) for each in ("better", "equivalent"))
    sentence = (
        f"Corrected for {plural(family, 'pair')} of configurations it is better than {better} of "
        f"{len(pairs)} others"
    )
    if same:
        sentence += f", equivalent to {same} (within ±{comparisons.MARGIN} points)"
    if near := pairs.loc[verdict == "open", "b"].tolist():
        sentence += f"; not told apart from it are {_few(near)}"
    sentence += f"{_failures(pairs)}."
    return sentence + (_needed(first) if near else "")


def _failures(pairs: pd.DataFrame) -> str:
    """Return in how many pairs a trial failed to learn, and how they were tested; "" for none."""
    failing = pairs[pairs["test"] == "sign flip"]
    if failing.empty:
        return ""
    most = int(failing["failed"].max())
    return (
        f". In {len(failing)} of these pairs some seeds failed to learn, up to {most}, so they "
        "are tested by sign flips"
    )


def _by_cell(cells: pd.DataFrame) -> str:
    """Return which initializer leads in how many combinations of the other factors."""
    others = [str(name) for name in cells.columns[: list(cells.columns).index("a")]]
    ahead = cells[cells["difference"] != 0]
    better = ahead.loc[ahead["verdict"] == "better", "a"].value_counts()
    parts = [
        f"{name} in {n} (by test in {better.get(name, 0)})" for name, n in ahead["a"].value_counts().items()
    ]
    if level := len(cells) - len(ahead):
        parts.append(f"level with the next in {level}")
    return (
        f"Of the {len(cells)} combinations of {' and '.join(others)}, each a question of its own, "
        f"the best initializer is {', '.join(parts)}."
    )


def _needed(pair: pd.Series) -> str:
    """Return how many seeds would settle the nearest pair, as a further sentence; "" if there is no pair."""
    if not pair.seeds:
        return ""
    if pair.verdict != "open":
        return f" The nearest, {pair.b}, is told apart."
    if pair.seeds < 2:
        return f" How many would settle it against {pair.b} can't be said from one seed."
    if pair.difference == 0:
        return f" The two are level so far, so how many would settle it against {pair.b} can't be said."
    needed = pair.seeds_needed
    many = "more than 1,000 seeds" if pd.isna(needed) else f"about {int(needed)} seeds"
    return f" At the difference and spread seen so far, {many} would settle it against {pair.b}."
