"""The answer in a plain sentence, and what it stands on, from the same comparisons as the tables below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.reporting.document.blocks import EVERYWHERE, Section, Text
from fnnexp.reporting.document.markdown import escaped
from fnnexp.reporting.document.wording import between, percent, plural, points, value
from fnnexp.reporting.plots import from_leader, picture
from fnnexp.results import budgets, comparisons, filters, frames, numeric, questions, statistics
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import as_text
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fnnexp.results.comparisons import Configuration, Findings
    from fnnexp.results.ranking import Ranking

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

CLOSE = 4
"""Up to so many configurations are named; of more, the first are, and how many more there are."""

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


@validate_frames
def answer(runs: pd.DataFrame, *, metric: str | None = None, margin: float | None = None) -> Answer:
    """Return what a frame of trials answers, in sentences: what leads and by how much, and what is open.

    Parameters
    ----------
    runs
        :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of their rows.
    metric, margin
        As for :func:`fnnexp.compare`.

    Returns
    -------
    Answer
        Text, one sentence or two a line.

    Examples
    --------
    >>> print(fnnexp.answer(runs[runs["batching"] == "mini"]))  # doctest: +SKIP
    """
    return Answer("\n".join(sentences(*questions.rows_and_findings(runs, ranking_of(runs, metric, margin)))))


def section(runs: pd.DataFrame, findings: Findings) -> Section:
    """Return the section of rows and what is found in them, as :func:`questions.asked` has both.

    A terminal shows the answer alone.
    """
    drawn = from_leader.from_leader(findings)
    figures = [picture.block(drawn, "answer", from_leader.caption(findings.with_leader))] if drawn else []
    answers = [Text(each, EVERYWHERE) for each in headlines(runs, findings)]
    return Section(TITLE, [*answers, *figures, *map(Text, details(runs, findings))])


def sentences(runs: pd.DataFrame, findings: Findings) -> list[str]:
    """Return the answer, and what it stands on.

    `findings` is what :func:`fnnexp.results.comparisons.findings` returns of the same rows.
    """
    return [*headlines(runs, findings), *details(runs, findings)]


# The answer


def headlines(runs: pd.DataFrame, findings: Findings) -> list[str]:
    """Return the answer in a sentence, that for each part of a grid, and what casts doubt on them."""
    finished = [each for each in findings.configurations if len(each.metric)]
    if not finished:
        return ["No trial has finished, so there is no answer yet."]
    texts = [_best(runs, finished, findings), *_at_best(runs, finished)]
    if len(findings.in_each_cell) > 1 and not findings.ranking.is_time:
        texts += _by_cell(findings.in_each_cell, finished)
    doubts = [
        *_equal_epochs(runs),
        *_not_finished(findings),
        *_not_learned(runs, finished, findings),
        *_looked_at(findings),
    ]
    if len(finished) > 1 and findings.metric.startswith("test_"):
        doubts.append(
            "It was chosen by the test images, so what it shows is optimistic: expect worse on new ones."
        )
    return [*texts, *doubts]


def _at_best(runs: pd.DataFrame, finished: Sequence[Configuration]) -> list[str]:
    """Return at which values of the numeric factors the options are best."""
    axes, places = numeric.axes_at_best(runs), []
    if not axes:
        return []
    for each in finished[:CLOSE]:  # the others are counted
        mine = comparisons.finished_trials(runs, each)
        values = ", ".join(as_text(mine[f"best {axis}"].iloc[0]) for axis in axes)
        places.append(f"{values} for {each.name}")
    places += [each.name for each in finished[CLOSE:]]
    return [f"The best {' and '.join(axes)}: {_few(places)}."]


def _best(runs: pd.DataFrame, finished: Sequence[Configuration], findings: Findings) -> str:
    """Return which is best, by how much, in how many seeds; or between which it is open."""
    leader, pairs = finished[0], findings.with_leader
    where = "" if len(leader.levels) > 1 else _where(runs)
    if axes := numeric.axes_at_best(runs):
        each = f"each at its own best {' and '.join(axes)}, "
        where = f"{where}{each}" if where else each[0].upper() + each[1:]
    if pairs.empty:
        mean = value(statistics.mean(leader.metric), findings.ranking)
        return f"{where}{leader.name} has {mean} {findings.metric}."
    kind, among = f"{_kind(leader)}s", len(pairs) + 1
    if not pairs["seeds"].any():
        return f"{where}{leader.name} leads. {_unpaired(leader, finished[1])}"
    if findings.ranking.is_time:
        first = _first(pairs.iloc[0], leader, f"is the fastest of {among} {kind}:", findings.ranking)
        return f"{where}{first}. Trials of one stack share a clock, so no test is made of times."
    if pairs["seeds"].max() == 1:
        first = _first(pairs.iloc[0], leader, "leads and is", findings.ranking)
        return f"{_begin(where, 'one seed settles nothing')}; of {among} {kind} {first}."
    verdict = _verdict(pairs, leader)
    worse, same, near = (
        _against(pairs[verdict == each], leader) for each in ("better", "equivalent", "open")
    )
    alike = f"{_few([leader.name, *same])} are the same within {_margin(findings.ranking)}"
    if near:
        apart = _not_apart(leader, near, f"{among} {kind}", where)
        if len(near) == len(pairs):
            apart = _begin(where, f"the {among} {kind} are not told apart")
        rest = f"; {alike}" * bool(same) + _are_worse(worse)
        nearest = pairs[(verdict == "open") & (pairs["seeds"] > 0)]
        if nearest.empty:
            return f"{apart}{rest}."
        first = _first(nearest.iloc[0], leader, "is", findings.ranking)
        return f"{apart}{rest}. {first}{_needed(nearest.iloc[0])}."
    if not same:
        closest = pairs.sort_values("difference", kind="stable").iloc[0]
        first = _first(closest, leader, f"is the best of {among} {kind}:", findings.ranking)
        return f"{where}{first}."
    if not worse:
        return f"{where}{alike}."
    best = f"the best of {among} {kind} are {alike.replace(' are ', ', ')}"
    return f"{_begin(where, best)}{_are_worse(worse)}."


def _margin(ranking: Ranking) -> str:
    """Return within what options are equivalent; "" where none are."""
    unit = "point" if ranking.margin == 1 and ranking.unit == "points" else ranking.unit
    return "" if ranking.margin is None else f"±{ranking.margin:g} {unit}".rstrip()


def _begin(where: str, text: str) -> str:
    """Return a sentence that begins with where it holds, or else with a capital."""
    return f"{where}{text}" if where else text[0].upper() + text[1:]


def _not_apart(leader: Configuration, near: Sequence[str], among: str, where: str) -> str:
    """Return which could be the best: the leader, and those that are not told apart from it."""
    best = f"{leader.name}, or one of {len(near)} that are not told apart from it"
    if len(near) < CLOSE:
        *first, last = [leader.name, *near]
        best = f"{', '.join(first)} or {last}, which are not told apart"
    return _begin(where, f"the best of {among} is {best}")


def _verdict(pairs: pd.DataFrame, leader: Configuration) -> pd.Series:
    """Return each pair's verdict on the leader; one that is behind where it is paired is not the best."""
    return pairs["verdict"].where((pairs["a"] == leader.name) | (pairs["verdict"] != "better"), "open")


def _against(pairs: pd.DataFrame, leader: Configuration) -> list[str]:
    """Return whom the leader is compared with in each pair."""
    return [str(name) for name in pairs["b"].where(pairs["a"] == leader.name, pairs["a"])]


def _kind(leader: Configuration) -> str:
    """Return what the options are that are compared: initializers, values of a param, or configurations."""
    factor, *more = leader.levels
    return "configuration" if more else KINDS.get(factor, f"{factor} value")


def _where(runs: pd.DataFrame) -> str:
    """Return on which architecture and in which batches all trials were, as the beginning of a sentence."""
    archs, modes = (runs[axis].astype("str").unique() for axis in ("arch", "batching"))
    if len(archs) != 1 or len(modes) != 1:
        return ""
    return f"On {archs[0]} with {BATCHES.get(modes[0], modes[0])}, "


def _first(pair: pd.Series, leader: Configuration, verb: str, ranking: Ranking) -> str:
    """Return how far the leader is ahead in a pair, with its interval and in how many seeds."""
    name = pair.b if pair.a == leader.name else pair.a
    about = [] if math.isnan(pair.low) else [f"95% interval {between(pair.low, pair.high, ranking)}"]
    if pair.seeds > 1:
        level = pair.difference == 0
        about.append(f"over {pair.seeds} seeds" if level else f"in {pair.ahead} of {pair.seeds} seeds")
    behind = f" ({'; '.join(about)})" if about else ""
    if pair.difference == 0:
        return f"{leader.name} and {name} are level{behind}"
    gap = points(pair.difference, ranking)
    if pair.a != leader.name:  # what it leads by is of seeds that the other lacks
        return f"{leader.name} {verb} {gap} behind {name} where they are paired{behind}"
    return f"{leader.name} {verb} {gap} ahead of {name}{behind}"


def _are_worse(names: Sequence[str]) -> str:
    if not names:
        return ""
    return (
        f"; {_few(names)} {_are(names)} worse"
        if len(names) < CLOSE
        else f"; the other {len(names)} are worse"
    )


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _needed(pair: pd.Series) -> str:
    """Return how many seeds would settle a pair that is open."""
    if pair.verdict == "better":
        return ", which is beyond chance; what it leads by is of seeds that the other lacks"
    if pair.seeds < 2 or pair.difference == 0:
        return "; how many seeds would settle it can't be said yet"
    many = "more than 1,000" if pd.isna(pair.seeds_needed) else f"about {int(pair.seeds_needed)}"
    return f"; {many} seeds would settle it"


def _few(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are.

    >>> _few(["max"]), _few(["max", "he"]), _few(["a", "b", "c", "d", "e", "f"])
    ('max', 'max and he', 'a, b, c and 3 more')
    """
    if len(names) > CLOSE:
        names = [*names[: CLOSE - 1], f"{len(names) - CLOSE + 1} more"]
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _by_cell(cells: pd.DataFrame, finished: Sequence[Configuration]) -> list[str]:
    """Return which initializer leads in how many combinations of the other factors, and how surely.

    Of combinations in which nothing learned, or no two initializers have a seed in common, nothing is said.
    """
    cells = cells[cells["seeds"] > 0]
    others = [str(name) for name in cells.columns[: list(cells.columns).index("a")]]
    never = [set(each.levels.items()) for each in finished if each.failed.all()]
    best = [{*row[others].items(), ("init", row["a"])} for _, row in cells.iterrows()]
    learned = [each not in never for each in best]
    if some := any(learned) and not all(learned):
        cells = cells[learned]
    if len(cells) < 2:
        return []
    kind = KINDS.get(others[0], f"{others[0]} value") + "s" if len(others) == 1 else ""
    among = f"the {len(cells)} {kind or 'combinations of ' + ' and '.join(others)}{' that learn' * some}"
    won = cells[cells["difference"] != 0]
    leads = won["a"].value_counts()
    settled = won.loc[won["verdict"] == "better", "a"].value_counts()
    sure = [f"{name} in {n}" for name, n in settled.items()]
    if len(leads) == 1 and len(won) == len(cells):
        one = f"{leads.index[0]} is the best initializer on each of {among}"
        number = int(settled.sum())
        surely = "all" if number == len(cells) else str(number) if number else "none"
        return [f"{one}, beyond chance on {surely} of them."]
    parts = [f"{name} in {n}" for name, n in leads.items()]
    if level := len(cells) - len(won):
        parts.append(f"level in {level}")
    surely = f"; beyond chance: {', '.join(sure)}" if sure else "; beyond chance in none"
    return [f"Of {among}, the best initializer is {', '.join(parts)}{surely}."]


def _equal_epochs(runs: pd.DataFrame) -> list[str]:
    """Return that batching modes had other costs, and which section of the report compares them at equal."""
    if runs["batching"].astype("str").nunique() < 2 or budgets.SPENT in runs:
        return []
    return ["Batching modes are compared as trained: see 'Batching modes at equal cost'."]


def _not_finished(findings: Findings) -> list[str]:
    """Return which configurations have no result, where others have."""
    lost = [each.name for each in findings.configurations if not len(each.metric)]
    if not lost:
        return []
    among = plural(len(findings.configurations), "configuration")
    done = "reached the level" if findings.ranking.is_time else "finished"
    return [f"{len(lost)} of {among} {done} in no seed: {_few(lost)}."]


def _not_learned(runs: pd.DataFrame, finished: Sequence[Configuration], findings: Findings) -> list[str]:
    """Return how many configurations did not learn, in all seeds or in some."""
    never = [each.name for each in finished if each.failed.all()]
    partly = [each for each in finished if each.failed.any() and not each.failed.all()]
    some = [
        f"{each.name} ({int(each.failed.sum())} of {plural(len(each.failed), 'seed')})" for each in partly
    ]
    least = comparisons.learning_threshold(runs)
    guessing = "twice what guessing gets" if least < 0.75 else "half-way from guessing to all right"
    limit = f"below {100 * least:.3g}%, {guessing}"
    texts = []
    if len(never) == len(finished):
        texts.append(f"No network learned: all end {limit}.")
    elif never:
        among = plural(len(findings.configurations), "configuration")
        texts.append(f"{len(never)} of {among} did not learn ({limit}): {_few(never)}.")
    if some:
        rule = "" if never else f" ({limit})"
        tested = "" if findings.ranking.is_time else "; such pairs are tested by their signs"
        texts.append(f"Some seeds did not learn{rule}: {_few(some)}{tested}.")
    return texts


def _looked_at(findings: Findings) -> list[str]:
    """Return that seeds were added after a look, if they were."""
    tables = (findings.with_leader, findings.of_options, findings.in_each_cell)
    most = max((int(table["looks"].max()) for table in tables if len(table)), default=0)
    if most < 2 or findings.ranking.is_time:
        return []
    return [
        f"Reports have looked at these seeds {most} times while they grew: pairs that were seen before are "
        "tested in a way that holds at every look."
    ]


# What it stands on


def details(runs: pd.DataFrame, findings: Findings) -> list[str]:
    """Return the leader's accuracy and errors, what is not told apart from it, and what matters most."""
    finished = [each for each in findings.configurations if len(each.metric)]
    if not finished:
        return []
    leader, pairs, chosen = finished[0], findings.with_leader, len(finished) > 1
    by_test = chosen and findings.metric.startswith("test_")
    texts = [
        _leader(leader, findings.ranking, chosen),
        _tested(runs, leader, by_test, findings.ranking),
        *_measured(runs),
    ]
    if chosen and not findings.ranking.is_time:
        texts.append(_others(pairs, leader, findings.ranking))
    texts += _same(runs)
    if len(findings.shares) > 1:
        top = findings.shares.head(3).to_dict("records")
        first = ", ".join(f"{row['effect']} {100 * row['share']:.1f}%" for row in top)
        texts.append(
            f"What the results vary with, as shares of their variance: {first}. {findings.about_shares}"
        )
    return texts


def _leader(leader: Configuration, ranking: Ranking, chosen: bool) -> str:
    verb = "leads with" if chosen else "has"
    sentence = f"{leader.name} {verb} {value(statistics.mean(leader.metric), ranking)} {ranking.metric}"
    n = len(leader.metric)
    interval = statistics.mean_interval(leader.metric, within=ranking.bounds)
    if n == 1:
        sentence += ", of one seed, which says nothing about other seeds"
    elif interval.method == "none":
        sentence += f", the same in all {n} seeds"
    elif ranking.is_time:
        sentence += f", the mean of {n} seeds"
    else:
        ends = between(interval.low, interval.high, ranking)
        sentence += f" (95% interval {ends} over {n} seeds: {METHODS[interval.method]})"
    if n < (tried := len(leader.tried)):
        never = " or never reached it" if ranking.is_time else ""
        sentence += f"; {tried - n} of its {tried} trials did not finish{never}"
    return sentence + "."


def _tested(runs: pd.DataFrame, leader: Configuration, by_test: bool, ranking: Ranking) -> str:
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
    over = "" if math.isnan(spread) else f"; seeds spread by {points(spread, ranking)} (standard deviation)"
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


def _others(pairs: pd.DataFrame, leader: Configuration, ranking: Ranking) -> str:
    """Return how many of the others the leader is better than, which are as good, and which are open."""
    family = int(pairs["family"].iloc[0])
    if not pairs["seeds"].any():
        return f"{leader.name} has no finished seed in common with any other, so no test can be made."
    verdict = _verdict(pairs, leader)
    better, same = (int((verdict == each).sum()) for each in ("better", "equivalent"))
    sentence = (
        f"Corrected for {plural(family, 'pair')} of {_kind(leader)}s, {leader.name} is better than {better} "
        f"of {len(pairs)} others"
    )
    if same:
        sentence += f", and equivalent to {same} (within {_margin(ranking)})"
    if near := _against(pairs[verdict == "open"], leader):
        sentence += f"; not told apart from it {_are(near)} {_few(near)}"
    return f"{sentence}."
