"""The answer in sentences, with evidence from the same comparisons as the tables further down the report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from fnnexp.config.schema import CHOICES
from fnnexp.data import datasets
from fnnexp.errors import plural
from fnnexp.reporting import at_equal
from fnnexp.reporting import tuned as tunings
from fnnexp.reporting.document.blocks import EVERYWHERE, FILES, TERMINAL, Section, Text
from fnnexp.reporting.document.markdown import escaped
from fnnexp.reporting.document.wording import between, listed, number, percent, points, rows_of, value
from fnnexp.reporting.plots import picture
from fnnexp.reporting.plots.from_leader import from_leader
from fnnexp.reporting.sections import overview
from fnnexp.reporting.sections.by_factor.asked import ALL, REST
from fnnexp.reporting.sections.by_factor.numeric_factors import wider_ranges
from fnnexp.reporting.sections.pairs import weaker_pairs
from fnnexp.results import comparisons, filters, frames, numeric, questions, statistics
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import as_text, by_version, groups, tuples_of, varies_within
from fnnexp.results.ranking import different_losses_note, ranking_of
from fnnexp.tracking.run_format import BEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fnnexp.reporting.document.blocks import Block
    from fnnexp.reporting.sections.by_factor.asked import Answers
    from fnnexp.reporting.tuned import Comparison
    from fnnexp.results.comparisons import Configuration, Findings
    from fnnexp.results.ranking import Ranking

METHODS = {
    "bca": "by a BCa bootstrap over seeds",
    "t": "by Student's t, because fewer than six seeds cannot be resampled",
    "t of many": "by Student's t, because the mean of so many seeds is as good as normal",
    "equal": "all seeds gave the same value",
}
"""How the interval of a configuration's mean was computed, in words."""

KINDS = {
    "init": "initializer", "arch": "architecture", "batching": "batching mode", "optimizer": "optimizer",
    "data": "data set",
}  # fmt: skip
"""The noun for an option, by factor; the options of all other factors are called values."""

BATCHES = {"full": "full batches", "mini": "mini-batches", "sample": "one row at a time"}

CLOSE = 4
"""If there are more configurations than this, the first are named and the rest are counted."""

GROUPED = 12
"""The largest number of configurations that a sentence groups by their best values; the rest are counted."""

MOST_SEEDS = 10
"""If there are more seeds than this, only the first and the last are listed."""

TITLE = "The answer"


class Answer(str):
    """A string with one or two sentences per line; a notebook shows each line as a paragraph."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return "\n\n".join(map(escaped, self.splitlines()))

    def __repr__(self) -> str:
        return str(self)


@validate_frames
def answer(runs: pd.DataFrame, *, metric: str | None = None, margin: float | None = None) -> Answer:
    """Return the answer that trials give, in sentences: the leader, its lead and what is still open.

    Parameters
    ----------
    runs
        The frame of :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of its rows.
    metric, margin
        As for :func:`fnnexp.compare`.

    Returns
    -------
    Answer
        A string with one or two sentences per line.

    Examples
    --------
    >>> print(fnnexp.answer(runs[runs["batching"] == "mini"]))  # doctest: +SKIP
    """
    kept = filters.longest(runs)  # frames with tuned comparisons stay as they are
    rows = by_version(kept)
    ranking = ranking_of(rows, metric, margin)
    apart = tunings.all_of(rows, ranking)
    compared, over_values = tunings.parts(rows, apart)
    keys = tunings.keys(apart) if over_values is not compared else []
    rows, findings = questions.rows_and_findings(compared.drop(columns=keys), ranking)
    ranks_values = over_values is compared and ranking.metric == frames.ranking(compared)
    notes = wider_ranges(compared) if ranks_values else []
    texts = sentences(rows, tunings.checked(findings, apart, rows), notes, tuned=keys, apart=apart)
    if kept is not runs:
        compares = 'fnnexp.compare(runs, "epochs") compares both'
        texts.append(f"{filters.about_longest(runs, kept).rstrip('.')}; {compares}.")
    return Answer("\n".join(texts))


def section(
    runs: pd.DataFrame,
    findings: Findings,
    asked: Answers | None = None,
    notes: Sequence[str] = (),
    *,
    tuned: Sequence[str] = (),
    apart: Sequence[Comparison] = (),
) -> Section:
    """Return the first section of a report: which configuration is best, and how sure that is.

    The page also has the evidence, in sentences and a figure, which the terminal leaves out.

    Parameters
    ----------
    runs, findings
        The trials and the results of their comparisons, from :func:`questions.rows_and_findings`.
    asked
        The answers to what a command asked by `compare` or `until`; they come first. None if none did.
    notes
        Sentences on what is compared, and on values to try next.
    tuned
        The keys that were tuned for each option, such as `optimizer.lr`, if only tuned options are compared;
        `runs` has no columns for them.
    apart
        The comparisons of tuned options, which are answered first.
    """
    answered = asked is not None and asked.covers(findings.configurations)
    drawn = None if _only_seeds(findings.configurations) else from_leader(findings)
    figures = [picture.block(drawn.figure, "answer", drawn.caption)] if drawn else []
    factors = {} if asked is not None or tuned else _by_factor(runs, findings)
    shared = [Text(text, EVERYWHERE) for text in _shared(runs, findings)]
    answers = _answers_of_all(runs, findings, factors, answered=answered, tuned=tuned, apart=apart)
    doubts = [Text(text, EVERYWHERE) for text in (*caveats(runs, findings), *notes)]
    whole = answered or _is_whole(tuned, apart)
    evidence = map(Text, details(runs, findings, answered=whole, brief=bool(factors)))
    if asked is None:
        return Section(TITLE, [*answers, *shared, *doubts, *figures, *evidence])
    rest = Text(ALL if answered else REST, EVERYWHERE)
    first = [Text(text, EVERYWHERE) for text in nothing_learned(runs, findings)]
    answers = [] if first else answers
    blocks: list[Block] = [*first, *asked.blocks, *shared, rest, *answers, *doubts, *figures, *evidence]
    return Section(TITLE, blocks, {"asked": asked.frame})


def sentences(
    runs: pd.DataFrame,
    findings: Findings,
    notes: Sequence[str] = (),
    *,
    tuned: Sequence[str] = (),
    apart: Sequence[Comparison] = (),
) -> list[str]:
    """Return sentences on which configuration is best and how sure that is: the answer, then the evidence.

    `findings` are the results of comparing the trials of `runs`
    (:func:`fnnexp.results.comparisons.findings`). :func:`section` explains `notes`, `tuned` and `apart`.
    """
    factors = {} if tuned else _by_factor(runs, findings)
    answers = _answers_of_all(runs, findings, factors, tuned=tuned, apart=apart)
    texts = [text.text for text in answers if FILES & text.media]
    texts += [*_shared(runs, findings), *caveats(runs, findings), *notes]
    return [*texts, *details(runs, findings, answered=_is_whole(tuned, apart), brief=bool(factors))]


# The answer


def _answers_of_all(
    runs: pd.DataFrame,
    findings: Findings,
    factors: Mapping[str, OfFactor],
    *,
    answered: bool = False,
    tuned: Sequence[str] = (),
    apart: Sequence[Comparison] = (),
) -> list[Text]:
    """Return the answers of tuned comparisons, then those of :func:`headlines` on all compared trials.

    If both are about the same trials, the latter would say the same again, so they are left out except what
    they say of each combination. Otherwise they follow the question that they answer.
    """
    is_whole = _is_whole(tuned, apart)
    others = headlines(runs, findings, factors, answered=answered, tuned=tuned, only_cells=is_whole)
    if apart and others and not is_whole:
        these = "these comparisons together" if tuned else "all trials except those that tuned"
        others = [Text(f"Which configuration is best in {these}?", EVERYWHERE), *others]
    return [*(Text(text, EVERYWHERE) for text in tunings.answers(apart)), *others]


def _is_whole(tuned: Sequence[str], apart: Sequence[Comparison]) -> bool:
    """Return whether nothing but the options of one tuned comparison is compared, so its answer is whole.

    :func:`section` explains the arguments.
    """
    return bool(tuned) and len(apart) == 1


def headlines(
    runs: pd.DataFrame,
    findings: Findings,
    factors: Mapping[str, OfFactor],
    *,
    answered: bool = False,
    tuned: Sequence[str] = (),
    only_cells: bool = False,
) -> list[Text]:
    """Return the answer on each factor, and the overall answer on all configurations.

    `factors` has the answers on factors that :func:`_by_factor` returns. If it is empty, the overall answer
    comes first, and the best initializer in each combination follows. The terminal shows only the answer on
    the first factor in full, to leave room for the leaderboard. Nothing is returned if the questions that
    were asked have `answered` all of this, and only the best initializer in each combination with
    `only_cells`. `tuned` is as for :func:`section`.
    """
    finished = [configuration for configuration in findings.configurations if len(configuration.metric)]
    if only_cells and all(each.failed.all() for each in finished):
        return []
    if not finished:
        return [Text("No trial has finished, so there is no answer yet.", EVERYWHERE)]
    if all(each.failed.all() for each in finished):
        return [] if answered else [Text(text, EVERYWHERE) for text in nothing_learned(runs, findings)]
    if _only_seeds(finished) and (spread := _spread(findings)):
        return [Text(text, EVERYWHERE) for text in spread]
    if answered:
        return []
    cells = []
    if len(findings.in_each_cell) > 1 and not findings.ranking.is_time:
        cells = _by_cell(findings.in_each_cell, finished, findings.configurations)
    if only_cells:
        return [Text(text, EVERYWHERE) for text in cells]
    best = [_best(runs, finished, findings, tuned=tuned, brief=bool(factors)), *_at_best(runs, finished)]
    if not factors:
        return [Text(text, EVERYWHERE) for text in (*best, *cells)]
    first, *rest = factors.values()
    # Initializers that are alike on average may differ in each combination.
    hidden = first.is_open and findings.in_each_cell["verdict"].eq("better").any()
    return [
        Text(first.sentences, EVERYWHERE),
        *(Text(text, EVERYWHERE if hidden else FILES) for text in cells),
        *(Text(*shown) for of in rest for shown in ((of.sentences, FILES), (of.brief, TERMINAL))),
        *(Text(text, EVERYWHERE) for text in best),
    ]


def caveats(runs: pd.DataFrame, findings: Findings) -> list[str]:
    """Return sentences on what limits the answer, such as seeds that did not learn or trials that failed."""
    finished = [configuration for configuration in findings.configurations if len(configuration.metric)]
    if not finished:
        return []
    if _only_seeds(finished) and _spread(findings):
        return [*_not_finished(findings), *_not_learned(runs, finished, findings)]
    doubts = [
        *_together(runs),
        *filter(None, [different_losses_note(runs, findings.ranking)]),
        *_data_sets(runs),
        *_equal_epochs(runs),
        *_pruned(findings),
        *_not_finished(findings),
        *_not_learned(runs, finished, findings),
        *_looked_at(findings),
    ]
    if len(finished) > 1 and findings.metric.startswith("test_"):
        doubts.append(
            f"The leader was chosen on the test {rows_of(runs)}, so its result is optimistic: expect worse "
            "on new ones."
        )
    return doubts


RATE = "optimizer.lr"

RATED = {*CHOICES} - {"data"}
"""The choices whose comparison may have another result at another learning rate."""


def _shared(runs: pd.DataFrame, findings: Findings) -> list[str]:
    """Return a sentence on the learning rate and the number of epochs of all compared options.

    If the rate depends on the batching mode or the optimizer, as the default rates do, each rate is named.
    There is no sentence if the rate varies otherwise, if it was tuned, or if only data sets are compared.
    """
    factors = [factor for each in findings.configurations[:1] for factor in each.levels]
    kinds = {name.partition(".")[0] for factor in factors for name in factor.split(comparisons.WITH)}
    finished = sum(len(configuration.metric) > 0 for configuration in findings.configurations)
    if RATE not in runs or finished < 2 or not kinds & RATED:
        return []
    by = [[], ["batching"], ["optimizer"], ["batching", "optimizer"]]
    decides = next((names for names in by if not varies_within(runs, names, RATE)), None)
    if decides is None or runs[RATE].isna().any():
        return []
    rates = [(as_text(rows[RATE].iloc[0]), " ".join(map(str, key))) for key, rows in groups(runs, decides)]
    each = listed([f"{rate} ({names})" if names else rate for rate, names in rates])
    epochs = {*runs["epochs"].dropna()} if "epochs" in runs else set()
    most = "up to " if "stopping.patience" in runs and runs["stopping.patience"].notna().any() else ""
    long = f" for {most}{plural(int(epochs.pop()), 'epoch')}" if len(epochs) == 1 else ""
    return [f"All trained{long} at {RATE}={each}; other rates may change the answer."]


def _at_best(runs: pd.DataFrame, finished: Sequence[Configuration]) -> list[str]:
    """Return a sentence with the values of the numeric factors at which the first configurations are best."""
    axes = numeric.axes_at_best(runs)
    if not axes:
        return []
    names: dict[str, list[str]] = {}  # by value
    for configuration in finished[:GROUPED]:
        values = comparisons.finished_trials(runs, configuration).iloc[0]
        if values[[f"best {axis}" for axis in axes]].isna().all():
            continue
        at = {axis: values[f"best {axis}"] for axis in axes if not pd.isna(values[f"best {axis}"])}
        if len(axes) == 1:
            names.setdefault(as_text(values[f"best {axes[0]}"]), []).append(configuration.name)
        elif at:
            each = " and ".join(numeric.setting(axis, value) for axis, value in at.items())
            names.setdefault(each, []).append(configuration.name)
    shown = dict([*names.items()][:CLOSE])
    more = [f"{rest} more"] if (rest := len(finished) - sum(map(len, shown.values()))) else []
    if len(axes) > 1:
        return [f"Best values: {'; '.join([*(f'{_few(shown[each])} at {each}' for each in shown), *more])}."]
    if len(shown) == 1 < len(finished) and not more:
        (each,) = shown
        return [f"The best {axes[0]} is {each} for {'both' if len(finished) == 2 else 'all'}."]
    texts = [*(f"{each} for {_few(shown[each])}" for each in shown), *more]
    is_list = any(len(named) > 1 for named in shown.values())
    return [f"The best {axes[0]} is {'; '.join(texts) if is_list else listed(texts)}."]


FACTORS = ("init", "batching", "arch")
"""The order in which the answers of the factors follow each other; then those of other factors."""


class OfFactor(NamedTuple):
    """The answer on one factor: in sentences with evidence, and in a brief sentence.

    `is_open` says whether no option is settled to be worse than the best, or equivalent to it.
    """

    sentences: str
    brief: str
    is_open: bool


def _by_factor(runs: pd.DataFrame, findings: Findings) -> dict[str, OfFactor]:
    """Return which option of each factor is best, averaged over the combinations of the other factors.

    Only a grid of several factors and seeds has such answers, and only if all of its combinations were run,
    because averages over different combinations cannot be compared. Three kinds of factors are left out:
    those of the data, which are not chosen; numeric ones, which have a section of their own; and those with
    more than :data:`comparisons.MOST_OPTIONS` options.
    """
    runs = filters.once(runs)
    options = comparisons.levels(runs)
    counts = {str(name): options[name].nunique() for name in options}
    every = math.prod(counts.values())
    full = len(counts) > 1 and len(options.drop_duplicates()) == every
    if not full or findings.ranking.is_time or not counts.keys().isdisjoint(frames.SEEDS):
        return {}
    answers = {}
    for factor in sorted(counts, key=lambda name: [*FACTORS, name].index(name)):
        is_axis = factor in runs and is_numeric_dtype(runs[factor]) and counts[factor] >= numeric.FEWEST
        is_choice = factor.partition(".")[0] not in ("data", frames.CHECKSUM) and not is_axis
        ranked = _options_of(factor, runs, options[factor], findings)
        if not is_choice or len(ranked) < counts[factor] or len(ranked) > comparisons.MOST_OPTIONS:
            continue
        pairs = _pairs_of(factor, ranked, findings)
        if pairs["seeds"].min() < 2:
            continue
        number = every // counts[factor]
        where = "On average, "
        if not (pairs["cells"] == number).all():
            where = "On average over the combinations that both finished, "
        text = _best(runs, ranked, findings._replace(with_leader=pairs), where=where, brief=True)
        if factor != "init":  # init has an answer for each combination, made by _by_cell
            wins = _wins(ranked[0], runs, options, findings)
            count = "each" if wins == number else str(wins)
            text += f" {ranked[0].name} has the best mean in {count} of {number:,} combinations."
        is_open = bool((_verdict(pairs, ranked[0]) == "open").all())
        answers[factor] = OfFactor(text, _in_brief(ranked, pairs, findings.ranking), is_open)
    return answers


def _options_of(
    factor: str, runs: pd.DataFrame, options: pd.Series, findings: Findings
) -> list[Configuration]:
    """Return the options of a factor that have a result, the best first, each as one configuration.

    `options` has each trial's option. An option's configuration has the results of all of its trials.
    """
    done = (runs["status"] == "finished") & runs[findings.metric].notna()
    failed, look = comparisons.failed_to_learn(runs, findings.ranking), np.zeros(0, np.int64)
    named = []
    for name in options.cat.categories:
        if (rows := done & (options == name)).any():
            levels, values = {factor: str(name)}, runs.loc[rows, findings.metric].astype("float64")
            text, learned = comparisons.name_of(levels), failed[rows].to_numpy()
            named.append(comparisons.Configuration(levels, text, values, frozenset(), learned, look))
    return sorted(named, key=lambda each: -statistics.mean(findings.ranking.goodness(each.metric)))


def _pairs_of(factor: str, ranked: Sequence[Configuration], findings: Findings) -> pd.DataFrame:
    """Return the pairs of a factor's best option with each of the others, in the order of `ranked`.

    `ranked` are the factor's options, the best first (:func:`_options_of`).
    """
    names = {each.levels[factor]: each.name for each in ranked}
    pairs = findings.of_options[findings.of_options["factor"] == factor]
    pairs = pairs.assign(a=pairs["a"].map(names), b=pairs["b"].map(names))
    leader = ranked[0].name
    pairs = pairs[(pairs["a"] == leader) | (pairs["b"] == leader)]
    order = [*names.values()]
    return pairs.iloc[np.argsort([order.index(name) for name in _against(pairs, ranked[0])])]


def _wins(option: Configuration, runs: pd.DataFrame, options: pd.DataFrame, findings: Findings) -> int:
    """Return in how many combinations of the other factors this option has the best mean of its factor."""
    ((factor, name),) = option.levels.items()
    values = runs[findings.metric].where(runs["status"] == "finished").astype("float64")
    goodness = findings.ranking.goodness(values)
    means = goodness.groupby([options[each] for each in options], observed=True).mean().dropna()
    others = [each for each in options if each != factor]
    best = means[means == means.groupby(others, observed=True).transform("max")]
    return int((best.index.get_level_values(factor).astype("str") == name).sum())


def _best(
    runs: pd.DataFrame,
    finished: Sequence[Configuration],
    findings: Findings,
    *,
    tuned: Sequence[str] = (),
    where: str = "",
    brief: bool = False,
) -> str:
    """Return which configuration is best and by how much, or which configurations cannot be told apart.

    Parameters
    ----------
    tuned
        As for :func:`section`.
    where
        The introduction of the sentence; by default what all trials share.
    brief
        Whether one sentence must do if the best cannot be told apart from others. Then :func:`_nearest`
        returns the sentence that is left out.
    """
    leader, pairs = finished[0], findings.with_leader
    where = where or ("" if len(leader.levels) > 1 else _where(runs))
    if axes := numeric.axes_at_best(runs):
        where = _begin(where, f"each at its own best {' and '.join(axes)}, ")
    if own := [*_own_settings(runs, leader), *tuned]:
        where = _begin(where, f"each with its own {' and '.join(own)}, ")
    if pairs.empty:
        mean = value(statistics.mean(leader.metric), findings.ranking)
        return f"{where}{leader.name} has {mean} {findings.metric}."
    kind, among = f"{_kind(leader)}s", len(pairs) + 1
    if not pairs["seeds"].any():
        return f"{where}{leader.name} leads. {_unpaired(leader, finished[1])}"
    if findings.ranking.is_time:
        first = _first(pairs.iloc[0], leader, f"is the fastest of {among} {kind}:", findings.ranking)
        return f"{where}{first}. Times are not tested, because trials that train in one stack share a clock."
    if pairs["seeds"].max() == 1:
        first = _first(pairs.iloc[0], leader, "leads and is", findings.ranking)
        return f"{_begin(where, 'one seed settles nothing')}: of {among} {kind}, {first}."
    verdict = _answers(pairs, finished)
    worse, equivalent, undecided, behind, guessing = (
        _against(pairs[verdict == name], leader) for name in ("better", "equivalent", "open", BEHIND, GUESS)
    )
    equal = f"{_few([leader.name, *equivalent])} are equivalent (within {_margin(findings.ranking)})"
    if undecided:
        candidates = _candidates(leader, undecided, f"{among} {kind}", where)
        if len(undecided) == len(pairs):
            candidates = _begin(where, f"the {among} {kind} cannot be told apart")
        rest = f"; {equal}" * bool(equivalent) + _are_behind(behind, pairs)
        rest += _are_worse(worse) + _did_not_learn(guessing)
        nearest = pairs[(verdict == "open") & (pairs["seeds"] > 0)]
        if nearest.empty:
            return f"{candidates}{rest}."
        if brief:
            gap = f" ({_gap(nearest.iloc[0], leader, findings.ranking)})" * (len(undecided) < CLOSE)
            return f"{candidates}{gap}{rest}."
        return f"{candidates}{_too_few_seeds(pairs)}{rest}. {_lead(nearest.iloc[0], leader, findings)}"
    if not equivalent and not worse:
        some = " in some seeds" * bool(leader.failed.any())
        return f"{_begin(where, f'{leader.name} is the only one of {among} {kind} that learns{some}')}."
    if not equivalent:
        closest = pairs[verdict != GUESS].sort_values("difference", kind="stable").iloc[0]
        first = _first(closest, leader, f"is the best of {among} {kind}:", findings.ranking)
        return f"{where}{first}{_did_not_learn(guessing)}."
    if not worse and not guessing:
        return f"{where}{equal}."
    best = f"the best of {among} {kind} are {equal.replace(' are ', ', which are ')}"
    return f"{_begin(where, best)}{_are_worse(worse)}{_did_not_learn(guessing)}."


def _in_brief(options: Sequence[Configuration], pairs: pd.DataFrame, ranking: Ranking) -> str:
    """Return which option of a factor is best on average, or which ones may be, on a line without evidence.

    `options` are those of :func:`_options_of`, and `pairs` those of :func:`_pairs_of`.
    """
    leader, verdict = options[0], _answers(pairs, options)
    worse, equivalent, undecided, behind, guessing = (
        _against(pairs[verdict == name], leader) for name in ("better", "equivalent", "open", BEHIND, GUESS)
    )
    rest = f"{_are_behind(behind, pairs)}{_are_worse(worse)}{_did_not_learn(guessing)}"
    candidates = [*equivalent, *undecided]
    if len(candidates) >= CLOSE:
        best = f"{leader.name} or one of {len(candidates)} others"
    elif undecided:
        best = f"{', '.join([leader.name, *candidates[:-1]])} or {candidates[-1]}"
    elif equivalent:
        best = f"{listed([leader.name, *equivalent])}, which are equivalent"
    else:
        best, rest = leader.name, _did_not_learn(guessing)
        if worse:
            closest = pairs[verdict == "better"].sort_values("difference", kind="stable").iloc[0]
            best += f", {points(closest.difference, ranking)} ahead of {closest.b}"
    return f"Best {_kind(leader)} on average: {best}{rest}."


def _lead(pair: pd.Series, leader: Configuration, findings: Findings) -> str:
    """Return a sentence on an open pair: the leader's lead, and how many seeds would settle it."""
    return f"{_first(pair, leader, 'is', findings.ranking)}{_needed(pair)}."


def _nearest(finished: Sequence[Configuration], findings: Findings) -> list[str]:
    """Return a sentence on the closest configuration that cannot be told apart from the leader, if any."""
    pairs = findings.with_leader
    is_open = (_answers(pairs, finished) == "open") & (pairs["seeds"] > 0)
    return [_lead(pairs[is_open].iloc[0], finished[0], findings)] if is_open.any() else []


GUESS = "guess"
"""The answer on a pair that is open, but in which only the leader learned: no seed of the other did."""


BEHIND = "behind"
"""The answer on a pair that is open, but whose own interval shows that the leader is ahead. The others that
are open cannot be told apart from the leader."""


def _answers(pairs: pd.DataFrame, finished: Sequence[Configuration]) -> pd.Series:
    """Return what to say on each pair of the leader and another configuration: its verdict, or more.

    An open pair (one that the tests do not settle) may get one of two words in place of "open":

    - :data:`GUESS` if the leader learned in most seeds, and the other configuration had two seeds or more and
      learned in none: it ended as bad as guessing, or diverged. This is plain without a test.
    - :data:`BEHIND` if the 95% interval of the pair shows that the leader is ahead, but its corrected p does
      not. If this holds for every pair that is still open, they all stay open.
    """
    leader, verdict = finished[0], _verdict(pairs, finished[0])
    if leader.failed.sum() < len(leader.failed) / 2:
        never = [each.name for each in finished if each.failed.all() and len(each.failed) + each.diverged > 1]
        names = pd.Series(_against(pairs, leader), pairs.index, dtype="str")
        verdict = verdict.mask((verdict == "open") & names.isin(never), GUESS)
    is_open = (verdict == "open") & (pairs["seeds"] > 0)
    behind = is_open & (pairs["a"] == leader.name) & (pairs["low"] > 0)
    behind &= pairs["p_corrected"] > comparisons.ERROR_RATE  # else the check of tuned options is lacking
    return verdict.mask(behind, BEHIND) if (is_open & ~behind).any() else verdict


def _are_behind(names: Sequence[str], pairs: pd.DataFrame) -> str:
    if not names:
        return ""
    which = f"{_few(names) if len(names) < CLOSE else f'{len(names)} others'} {_are(names)} behind"
    return f"; {which}, but {plural(int(pairs['seeds'].max()), 'seed')} are too few to be sure"


def _did_not_learn(names: Sequence[str]) -> str:
    if not names:
        return ""
    few = len(names) < CLOSE
    return f"; {_few(names) if few else f'{len(names)} others'} did not learn in any seed"


def _own_settings(runs: pd.DataFrame, leader: Configuration) -> list[str]:
    """Return the settings that depend on the compared option alone, such as a rate for each initializer.

    Settings that depend on the batching mode are left out, because these are defaults.
    """
    if not leader.levels:
        return []
    axis, *more = leader.levels
    followed = overview.followed(runs) if not more and axis != "batching" else {}
    return [factor for factor, by in followed.items() if by == axis]


def _together(runs: pd.DataFrame) -> list[str]:
    """Return a sentence on each set of factors that vary together."""
    texts = []
    for options in overview.together(runs):
        each = [" with ".join(map(as_text, row)) for row in tuples_of(options)]
        texts.append(
            f"{listed([str(name) for name in options])} vary together ({_few(each)}), so these trials cannot "
            "tell their effects apart."
        )
    return texts


def _margin(ranking: Ranking) -> str:
    """Return the equivalence margin with its unit, "" if there is none."""
    unit = "point" if ranking.margin == 1 and ranking.unit == "points" else ranking.unit
    return "" if ranking.margin is None else f"±{ranking.margin:g} {unit}".rstrip()


def _begin(where: str, text: str) -> str:
    """Return a text with an introduction before it, or capitalized if the introduction is empty."""
    return f"{where}{text}" if where else text[0].upper() + text[1:]


def _too_few_seeds(pairs: pd.DataFrame) -> str:
    """Return the end of a sentence with the number of seeds that are needed to tell any pair apart.

    It is "" if there are enough seeds for some pair.
    """
    if not comparisons.inseparable(pairs).all():
        return ""
    needed = statistics.fewest_for_signs(int(pairs["family"].iloc[0]))
    return (
        f" by {plural(int(pairs['seeds'].max()), 'seed')}: where a network fails to learn in some seeds, at "
        f"least {needed} are needed"
    )


def _candidates(leader: Configuration, undecided: Sequence[str], among: str, where: str) -> str:
    """Return which configurations may be the best: the leader and those that cannot be told apart from it."""
    best = f"{leader.name} or one of {len(undecided)} others that cannot be told apart from it"
    if len(undecided) < CLOSE:
        *first, last = [leader.name, *undecided]
        best = f"{', '.join(first)} or {last}, which cannot be told apart"
    return _begin(where, f"the best of {among} is {best}")


def _verdict(pairs: pd.DataFrame, leader: Configuration) -> pd.Series:
    """Return the verdict on each pair, but "open" if the leader is worse on the seeds that both have."""
    return pairs["verdict"].where((pairs["a"] == leader.name) | (pairs["verdict"] != "better"), "open")


def _against(pairs: pd.DataFrame, leader: Configuration) -> list[str]:
    """Return, for each pair, the name of the configuration compared with the leader."""
    return [str(name) for name in pairs["b"].where(pairs["a"] == leader.name, pairs["a"])]


def _kind(leader: Configuration) -> str:
    """Return the noun for the compared options: an initializer, a value of a parameter, a configuration."""
    factor, *more = leader.levels
    return "configuration" if more or comparisons.WITH in factor else KINDS.get(factor, f"{factor} value")


def _where(runs: pd.DataFrame) -> str:
    """Return the common architecture and batching mode of all trials, as the introduction of a sentence."""
    archs, modes = (runs[axis].astype("str").unique() for axis in ("arch", "batching"))
    if len(archs) != 1 or len(modes) != 1:
        return ""
    return f"On {archs[0]} with {BATCHES.get(modes[0], modes[0])}, "


def _first(pair: pd.Series, leader: Configuration, verb: str, ranking: Ranking) -> str:
    """Return the leader's lead in a pair, with its interval and the number of seeds in which it is ahead."""
    name = pair.b if pair.a == leader.name else pair.a
    leads = pair.a == leader.name
    interval = f"95% interval {between(pair.low, pair.high, ranking)}{_unsettled(pair)}"
    about = [] if math.isnan(pair.low) else [interval]
    if pair.seeds > 1:
        ahead = f"{'ahead' if leads else 'behind'} in {pair.ahead:,} of {pair.seeds:,} seeds"
        about.append(f"over {pair.seeds:,} seeds" if pair.difference == 0 else ahead)
    details = f" ({'; '.join(about)})" if about else ""
    if pair.difference == 0:
        return f"{leader.name} and {name} are level{details}"
    gap = points(pair.difference, ranking)
    if not leads:  # the leader has the higher mean only thanks to seeds that the other lacks
        return f"{leader.name} {verb} {gap} behind {name} on the seeds that both have{details}"
    return f"{leader.name} {verb} {gap} ahead of {name}{details}"


def _gap(pair: pd.Series, leader: Configuration, ranking: Ranking) -> str:
    """Return by how much the leader is ahead in a pair, with the interval, in few words."""
    name, way = (pair.b, "ahead of") if pair.a == leader.name else (pair.a, "behind")
    gap = f"{leader.name} is {points(pair.difference, ranking)} {way} {name}"
    if pair.difference == 0:
        gap = f"{leader.name} and {name} are level"
    interval = "" if math.isnan(pair.low) else f", 95% interval {between(pair.low, pair.high, ranking)}"
    return f"{gap}{interval}{_unsettled(pair)}"


def _unsettled(pair: pd.Series) -> str:
    """Return why a pair is open although its interval excludes 0; "" for other pairs.

    The interval is of this pair alone, and the p value is corrected for all pairs.
    """
    if pair.verdict != "open" or pair.low <= 0 <= pair.high:
        return ""
    if text := _CHECKS.get(_check_of(pair), ("", ""))[0]:
        return text
    test = {"sign flip": " by a sign-flip test", "safe signs": " by a sign test"}.get(pair.test, "")
    corrected = f" after correction for {plural(pair.family, 'pair')}" if pair.family > 1 else ""
    return f", but p = {number(pair.p_corrected, '.3g')}{test}{corrected}"


_CHECKS = {
    tunings.FAILED: (
        ", but not clearly with other good values", "; luck in tuning may explain the difference"
    ),
    tunings.MISSING: (
        ", but the check is missing", "; the check needs other good values, trained with the same seeds"
    ),
}  # fmt: skip
"""What to say of an open pair of tuned options without a passed check: why it is open, and what is needed."""


def _check_of(pair: pd.Series) -> str:
    """Return the result of the check of two tuned options; "" if these options were not tuned."""
    return str(pair.get("check", ""))


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
    """Return the end of a sentence on how many seeds would settle an open pair."""
    if pair.verdict == "better":
        return ", which is significant; it leads only by seeds that the other lacks"
    if text := _CHECKS.get(_check_of(pair), ("", ""))[1]:
        return text
    if pair.seeds < 2 or pair.difference == 0:
        return "; how many seeds would settle it cannot be estimated yet"
    if pd.isna(pair.seeds_needed):
        return "; it would take more than 1,000 seeds to settle it"
    return f"; about {int(pair.seeds_needed):,} seeds would settle it"


def _few(names: Sequence[str]) -> str:
    """Return names as a list. If there are more than four, return the first three and the number of the rest.

    >>> _few(["max"]), _few(["max", "he"]), _few(["a", "b", "c", "d", "e", "f"])
    ('max', 'max and he', 'a, b, c and 3 more')
    """
    if len(names) > CLOSE:
        names = [*names[: CLOSE - 1], f"{len(names) - CLOSE + 1} more"]
    return listed(names)


def _by_cell(
    cells: pd.DataFrame, finished: Sequence[Configuration], tried: Sequence[Configuration]
) -> list[str]:
    """Return a sentence that counts the combinations of the other factors in which each initializer is best.

    It also counts those in which its lead is significant. Combinations do not count if nothing learned or if
    no two initializers share a seed.
    """
    cells = cells[cells["seeds"] > 0]
    others = [str(name) for name in cells.columns[: list(cells.columns).index("a")]]
    never_learned = [set(each.levels.items()) for each in finished if each.failed.all()]
    best = [{*row[others].items(), ("init", row["a"])} for _, row in cells.iterrows()]
    learned = [levels not in never_learned for levels in best]
    if some_failed := any(learned) and not all(learned):
        cells = cells[learned]
    if len(cells) < 2:
        return []
    kind = KINDS.get(others[0], f"{others[0]} value") + "s" if len(others) == 1 else ""
    among = f"{len(cells)} {kind or 'combinations of ' + ' and '.join(others)}{' that learn' * some_failed}"
    few = _tried_in_few(cells[others], tried)
    unchecked = int(cells["check"].eq(tunings.MISSING).sum()) if "check" in cells else 0
    lacking = f"; the check of {plural(unchecked, 'lead')} is missing" if unchecked else ""
    decided = cells[cells["difference"] != 0]
    leads = decided["a"].value_counts()
    significant = decided.loc[decided["verdict"] == "better", "a"].value_counts()
    if len(leads) == 1 and len(decided) == len(cells):
        n = int(significant.sum())
        count = "each" if n == len(cells) else str(n) if n else "none"
        best_init = f"{leads.index[0]} is the best initializer in each of the {among}"
        return [f"{best_init}; its lead is significant in {count}{lacking}.{few}"]
    counts = [f"{name} in {n}" for name, n in leads.items()]
    if level := len(cells) - len(decided):
        counts.append(f"level in {level}")
    surely = "no lead is significant"
    if len(significant):
        surely = f"significant leads: {', '.join(f'{name} in {n}' for name, n in significant.items())}"
    return [f"Best initializer in each of {among}: {', '.join(counts)}; {surely}{lacking}.{few}"]


def _tried_in_few(cells: pd.DataFrame, configurations: Sequence[Configuration]) -> str:
    """Return a sentence on the initializers that were tried in only some combinations, "" without any."""
    shown = set(tuples_of(cells.astype("str")))
    tried: dict[str, set[tuple[str, ...]]] = {}
    for each in configurations:
        tried.setdefault(each.levels["init"], set()).add(tuple(each.levels[name] for name in cells.columns))
    few = [f"{name} only in {n}" for name, where in tried.items() if (n := len(where & shown)) < len(shown)]
    return f" Not every initializer was tried in each: {_few(few)}." if few else ""


def _equal_epochs(runs: pd.DataFrame) -> list[str]:
    """Return a note, if batching varies, that the report has a section which compares modes at equal cost."""
    if at_equal.SPENT in runs or not at_equal.batching_varies(runs):
        return []
    return ["Batching modes are compared as trained, and in the report at equal cost."]


def _pruned(findings: Findings) -> list[str]:
    """Return a sentence on the configurations that a search stopped, if there are any."""
    count = sum(each.pruned > 0 and not len(each.metric) for each in findings.configurations)
    if not count:
        return []
    among = plural(len(findings.configurations), "configuration")
    return [
        f"A search pruned {count:,} of {among} early, so {'it has' if count == 1 else 'they have'} no result."
    ]


def _not_finished(findings: Findings) -> list[str]:
    """Return a sentence on the configurations without a result that were not pruned, if there are any."""
    without = [each.name for each in findings.configurations if not (len(each.metric) or each.pruned)]
    if not without:
        return []
    among = plural(len(findings.configurations), "configuration")
    done = "reached the level" if findings.ranking.is_time else "finished"
    return [f"{len(without):,} of {among} never {done}: {_few(without)}."]


def _not_learned(runs: pd.DataFrame, finished: Sequence[Configuration], findings: Findings) -> list[str]:
    """Return sentences on configurations that learned in no seed, and on those that learned in some only."""
    never = [each.name for each in finished if each.failed.all()]
    partly = [each for each in finished if each.failed.any() and not each.failed.all()]
    some = [
        f"{each.name} ({int(each.failed.sum())} of {plural(len(each.failed), 'seed')})" for each in partly
    ]
    limit, texts = _below(runs, findings.ranking) if never or some else "", []
    if never and len(never) < len(finished):
        among = plural(len(findings.configurations), "configuration")
        texts.append(f"{len(never):,} of {among} did not learn ({limit}): {_few(never)}.")
    if some:
        rule = "" if never else f" ({limit})"
        tables = (findings.with_leader, findings.of_options, findings.in_each_cell)
        by_sign = any(table["test"].isin(comparisons.SIGNS).any() for table in tables)
        # Fewer pairs need fewer seeds, so the pairs of one question may be tested by sign, others by t.
        names, pairs = {each.name for each in partly}, findings.with_leader
        of_these = pairs[(pairs["a"].isin(names) | pairs["b"].isin(names)) & (pairs["seeds"] > 0)]
        where = "" if of_these["test"].isin(comparisons.SIGNS).all() else " where the seeds are enough for it"
        tested = f"; their pairs are tested by sign only{where}" if by_sign else ""
        texts.append(f"Some seeds did not learn{rule}: {_few(some)}{tested}.")
    return texts


def nothing_learned(runs: pd.DataFrame, findings: Findings) -> list[str]:
    """Return a sentence, and what to try, if no seed of any configuration learned; else no sentence."""
    finished = [configuration for configuration in findings.configurations if len(configuration.metric)]
    if not finished or not all(each.failed.all() for each in finished):
        return []
    chance = " Their differences say nothing about which is best." if len(finished) > 1 else ""
    return [f"No network learned: all end {_below(runs, findings.ranking)}.{chance} {tunings.TRY}"]


def _below(runs: pd.DataFrame, ranking: Ranking) -> str:
    """Return, in words, the accuracy below which a trial did not learn, for each number of classes."""
    counted = filters.once(runs)
    finished = counted[(counted["status"] == "finished") & counted[ranking.metric].notna()]
    failed = finished[comparisons.failed_to_learn(finished, ranking)]
    limits = {
        classes: f"{100 * comparisons.learning_limit(classes):.3g}%"
        for classes in sorted({*comparisons.numbers_of_classes(failed)})
    }
    if len(limits) == 1:
        ((classes, limit),) = limits.items()
        few = classes < comparisons.CLASSES
        rule = "a ninth of the way from guessing to 100%" if few else "twice the accuracy of guessing"
        return f"below {limit}, {rule}"
    return "below " + listed([f"{limit} with {classes} classes" for classes, limit in limits.items()])


def _looked_at(findings: Findings) -> list[str]:
    """Return a note if seeds were added after a report had been read."""
    tables = (findings.with_leader, findings.of_options, findings.in_each_cell)
    most = max((int(table["looks"].max()) for table in tables if len(table)), default=0)
    if most < 2 or findings.ranking.is_time:
        return []
    return [
        f"Reports looked at these seeds {most} times while seeds were added; pairs that were seen before are "
        "tested so that the result is valid at every look."
    ]


# The evidence


def details(
    runs: pd.DataFrame, findings: Findings, *, answered: bool = False, brief: bool = False
) -> list[str]:
    """Return the evidence in sentences: the leader's accuracy, its comparisons, and how factors matter.

    The comparisons are left out if the questions that were asked have `answered` them. They begin with the
    closest configuration that cannot be told apart from the leader if the overall answer was too `brief` to
    name it.
    """
    finished = [configuration for configuration in findings.configurations if len(configuration.metric)]
    if not finished:
        return []
    if _only_seeds(finished):
        return [*_uncounted(runs), *_same(runs), *_shares(findings)]
    leader, pairs, chosen = finished[0], findings.with_leader, len(finished) > 1
    by_test = chosen and findings.metric.startswith("test_")
    learned = not nothing_learned(runs, findings)
    texts = [
        _leader(leader, findings.ranking, chosen and learned),
        *_tested(runs, leader, by_test, findings),
        *_diverged(finished),
        *_uncounted(runs),
    ]
    if chosen and learned and not findings.ranking.is_time and not answered:
        texts += _nearest(finished, findings) if brief else []
        texts.append(_others(pairs, finished, findings.ranking))
    texts += _same(runs)
    return [*texts, *weaker_pairs(runs), *_spread(findings), *_averaged(findings), *_shares(findings)]


def _shares(findings: Findings) -> list[str]:
    """Return a sentence on the factors that matter most."""
    if len(findings.shares) < 2:
        return []
    top = findings.shares.head(3).to_dict("records")
    largest = ", ".join(f"{row['effect']} {100 * row['share']:.1f}%" for row in top)
    return [f"The largest shares of the variance: {largest}. {findings.about_shares}"]


def _leader(leader: Configuration, ranking: Ranking, chosen: bool) -> str:
    verb = "leads with" if chosen else "has"
    name = leader.name.capitalize() if leader.name == comparisons.ONLY else leader.name
    sentence = f"{name} {verb} {value(statistics.mean(leader.metric), ranking)} {ranking.metric}"
    n = len(leader.metric)
    interval = statistics.mean_interval(leader.metric, within=ranking.bounds)
    if n == 1:
        sentence += " with one seed, which says nothing about other seeds"
    elif interval.method == "none":
        sentence += f", the same in all {n:,} seeds"
    elif ranking.is_time:
        sentence += f", the mean of {n:,} seeds"
    else:
        ends = between(interval.low, interval.high, ranking)
        many = " of many" if interval.method == "t" and n > statistics.BOOTSTRAP_UP_TO else ""
        sentence += f" (95% interval {ends} over {n:,} seeds, {METHODS[interval.method + many]})"
    if n < (tried := len(leader.tried)):
        never = " or never reached it" if ranking.is_time else ""
        sentence += f"; {tried - n:,} of its {tried:,} trials did not finish{never}"
    return sentence + "."


def _tested(runs: pd.DataFrame, leader: Configuration, by_test: bool, findings: Findings) -> list[str]:
    """Return sentences on the leader's test accuracy, and on its error because the test set is finite.

    No other test accuracy is reported. `by_test` says whether the leader was chosen by it.
    """
    trials = comparisons.finished_trials(runs, leader)
    test = statistics.mean(trials["test_accuracy"])
    things = rows_of(runs)
    sentence = f"On the test {things}, which were not used to choose it, it has {percent(test)}."
    if by_test:
        sentence = f"It was chosen on the test {things}, so its {percent(test)} is optimistic."
    images = {
        "validation": trials["data.validation"] if "data.validation" in trials else trials["seed"][:0],
        "test": trials["test_images"] if "test_images" in trials else trials["seed"][:0],
    }
    shown = findings.metric if findings.metric == BEST[0] else "val_accuracy"
    values = {"validation": statistics.mean(trials[shown]), "test": test}
    errors, variance = [], 0.0
    for split, counts in images.items():
        known = pd.to_numeric(counts, errors="coerce").dropna()
        count = int(known.min()) if len(known) else 0
        error = statistics.test_set_error(values[split], count)
        variance += error**2
        if not math.isnan(error):
            errors.append(f"{points(error)} for {count:,} {split} {things}")
    spread = statistics.standard_deviation(leader.metric)
    over = (
        ""
        if math.isnan(spread)
        else f"; the standard deviation over seeds is {points(spread, findings.ranking)}"
    )
    if errors:
        sentence += (
            f" The finite number of {things} alone gives a standard error of {' and '.join(errors)}{over}."
        )
    chose = findings.metric == BEST[0] or len(findings.configurations) > CLOSE
    return [sentence, *_apart(trials, values["validation"] - test, math.sqrt(variance), chose=chose)]


APART = "Validation accuracy is"
"""The beginning of the sentence which says that validation and test accuracy differ."""

EXPLAINED = 1.96
"""So many standard errors explain a difference of two accuracies, in 95 of 100 pairs of finite sets."""


ALARMS_FROM = 3.0
"""So many standard errors are a reason to doubt, where nothing is known against the test rows. Of 1,000
reports on rows from one source, 3 would alarm for nothing."""


def _apart(trials: pd.DataFrame, gap: float, error: float, *, chose: bool) -> list[str]:
    """Return a sentence if validation and test accuracy differ by more than chance in the rows explains.

    `trials` are those of one configuration, `gap` is the difference, and `error` its standard error, which
    comes from the finite numbers of rows. `chose` says whether the validation rows chose among more than a
    few configurations, or the best epoch.
    """
    data = trials["data"].iloc[0] if "data" in trials else ""
    is_shifted = data in datasets.SHIFTED
    if math.isnan(error) or abs(gap) <= (EXPLAINED if is_shifted else ALARMS_FROM) * error:
        return []
    why = "the test rows may come from another source than the training rows"
    if chose and gap > 0:
        why += (
            ", or the validation rows chose what is reported, such as the best of many configurations or "
            "epochs"
        )
    if is_shifted:
        why = datasets.SHIFTED[data]
    side = "above" if gap > 0 else "below"
    return [
        f"{APART} {points(abs(gap))} {side} test accuracy, but sets of these sizes explain only "
        f"{points(EXPLAINED * error)} (95%): {why}."
    ]


def _diverged(finished: Sequence[Configuration]) -> list[str]:
    """Return a sentence on the configurations with results that diverged in some seeds, if there are any."""
    some = [f"{each.name} ({each.diverged} of {len(each.tried)})" for each in finished if each.diverged]
    return [f"Some trials diverged, and no mean includes them: {_few(some)}."] if some else []


def _uncounted(runs: pd.DataFrame) -> list[str]:
    """Return a sentence on trials that do not count, because another has the same configuration and seed."""
    counted = filters.once(runs)
    uncounted = runs["trial"].nunique() - counted["trial"].nunique()
    if not uncounted:
        return []
    return [
        f"{plural(uncounted, 'trial')} {'is' if uncounted == 1 else 'are'} not counted, because another "
        "trial of the same configuration and seed has finished or was started later."
    ]


def _only_seeds(finished: Sequence[Configuration]) -> bool:
    """Return whether configurations differ only in seeds such as `seed_init`, so that none is the best."""
    return len(finished) > 1 and {*finished[0].levels} <= {*frames.SEEDS}


def _averaged(findings: Findings) -> list[str]:
    """Return a sentence that no comparison chooses a `seed_init` or similar seed; [] if no such seed varies.

    :func:`fnnexp.results.seeds.averaged` says how the results for different seeds are averaged.
    """
    if findings.spread.empty:
        return []
    return ["No comparison chooses a seed: results are means over these seeds, or are paired by one of them."]


def _spread(findings: Findings) -> list[str]:
    """Return a sentence on how much the metric varies if only one seed changes, such as `seed_init`."""
    rows = findings.spread
    if rows.empty or findings.ranking.is_time:
        return []
    each = [
        f"{points(row['deviation'], findings.ranking)} over {row['seed']} ({row['values']} values)"
        for row in rows.to_dict("records")
    ]
    return [
        f"The standard deviation of {findings.metric} is {listed(each)}, each among trials that agree in "
        "everything else."
    ]


def _data_sets(runs: pd.DataFrame) -> list[str]:
    """Return a caveat about comparisons if the results come from several data sets."""
    counted = filters.once(runs)
    done = counted[counted["status"] == "finished"]
    sets = done[frames.CHECKSUM].nunique() if frames.CHECKSUM in done else 0
    if sets < 2:
        return []
    return [
        f"The results come from {sets} data sets. A difference between data sets is not a difference "
        f"between networks: pairs across data sets share a seed but no {rows_of(runs)}."
    ]


def _same(runs: pd.DataFrame) -> list[str]:
    """Return a sentence for each set of options that are numerically identical."""
    table = comparisons.levels(runs)
    joined = [str(option) for name in table for option in table[name].cat.categories if " = " in str(option)]
    return [
        f"{' and '.join(option.split(' = '))} are numerically identical in these trials and count as one."
        for option in joined
    ]


def _unpaired(leader: Configuration, other: Configuration) -> str:
    """Return a sentence on two configurations that share no seed, with the seeds to run to pair them."""
    leader_seeds, other_seeds = sorted(leader.metric.index), sorted(other.metric.index)
    sentence = (
        f"It has no finished seed in common with {other.name}, the next best ({_seeds(leader_seeds)} and "
        f"{_seeds(other_seeds)}), so they cannot be paired"
    )
    missing = [
        f"{name} with {_seeds(untried)}"
        for name, tried, wanted in (
            (leader.name, leader.tried, other_seeds),
            (other.name, other.tried, leader_seeds),
        )
        if (untried := [seed for seed in wanted if seed not in tried])
    ]
    if missing:
        sentence += f"; run {', or '.join(missing)}{',' * (len(missing) > 1)} to pair them"
    return f"{sentence}."


def _seeds(seeds: Sequence[int]) -> str:
    """Return seeds as an override; if there are many, only the first and the last are listed.

    >>> _seeds([3, 4]), _seeds(range(12))
    ('seed=3,4', 'seed=0,…,11')
    """
    shown = [*map(str, seeds)] if len(seeds) <= MOST_SEEDS else [str(seeds[0]), "…", str(seeds[-1])]
    return f"seed={','.join(shown)}"


def _others(pairs: pd.DataFrame, finished: Sequence[Configuration], ranking: Ranking) -> str:
    """Return a sentence on the tests of the leader against the others.

    It says how many are worse, how many are equivalent, and names those that cannot be told apart from it,
    are behind, or did not learn.
    """
    family, leader = int(pairs["family"].iloc[0]), finished[0]
    if not pairs["seeds"].any():
        return f"{leader.name} has no finished seed in common with the others, so nothing can be tested."
    verdict = _answers(pairs, finished)
    better, equivalent = (int((verdict == name).sum()) for name in ("better", "equivalent"))
    sentence = (
        f"After correction for {plural(family, 'pair')} of {_kind(leader)}s, {leader.name} is better than "
        f"{better} of {plural(len(pairs), 'other')}"
    )
    if equivalent:
        sentence += f", and equivalent to {equivalent} (within {_margin(ranking)})"
    if undecided := _against(pairs[verdict == "open"], leader):
        sentence += f"; {_few(undecided)} cannot be told apart from it"
    sentence += _are_behind(_against(pairs[verdict == BEHIND], leader), pairs)
    return f"{sentence}{_did_not_learn(_against(pairs[verdict == GUESS], leader))}."
