"""What was asked, and how much was run: the trials counted, what ranks them, and what all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnnexp.reporting.document.blocks import EVERYWHERE, Section, Text
from fnnexp.reporting.document.wording import plural
from fnnexp.results import frames, numeric
from fnnexp.results.factors import AXES, as_text, factors_of, groups, others, varies_within
from fnnexp.results.ranking import missing_values_note, ranking_of
from fnnexp.tracking.run_format import METRICS, STATUSES, TOO_GOOD

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.results.ranking import Ranking

ALWAYS_COUNTED = ("finished", "diverged", "failed")
"""The statuses that are counted also when no trial has them."""

MOST_SEEDS = 10
"""More seeds than these are written as a range."""


def section(runs: pd.DataFrame, curves: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section, with the frames behind the whole report as its data."""
    sentences = [basis(runs, ranking), *(f"{each}." for each in followers(runs)), *namesakes(runs)]
    return Section(
        "What was asked, and how much was run",
        [
            *(Text(sentence, EVERYWHERE) for sentence in [*too_good(curves), counts(runs)]),
            *map(Text, sentences),
            Text("In all trials:", quiet=True, code=common(runs)),
        ],
        {"runs": runs, "curves": curves},
    )


def counts(runs: pd.DataFrame) -> str:
    """Return how much was run, in a sentence."""
    number = {status: int((runs["status"] == status).sum()) for status in STATUSES}
    configurations = sum(1 for _ in groups(runs, factors_of(runs)))
    counted = ", ".join(f"{n} {status}" for status, n in number.items() if n or status in ALWAYS_COUNTED)
    return f"{plural(len(runs), 'trial')} of {plural(configurations, 'configuration')}: {counted}."


def namesakes(runs: pd.DataFrame) -> list[str]:
    """Return what `he` is here, which is not what textbooks call so."""
    if "he" not in set(runs["init"].astype("str")):
        return []
    return [
        "The initializer he draws with a standard deviation of 2/√n of n inputs, √2 times He's and the "
        "textbooks', which is he_normal here."
    ]


def too_good(curves: pd.DataFrame) -> list[str]:
    """Return a sentence on the trials that had every test image right at the first epoch; none for none."""
    at_first = curves[(curves["metric"] == "test_accuracy") & (curves["epoch"] <= 1) & (curves["value"] == 1)]
    if at_first.empty:
        return []
    trials = plural(at_first["trial"].nunique(), "trial")
    return [f"In {trials} test accuracy is 1.0 at the first epoch. {TOO_GOOD}."]


def basis(runs: pd.DataFrame, ranking: Ranking | None = None) -> str:
    """Return what the ranking stands on, and what is doubtful about it."""
    ranking = ranking or ranking_of(runs)
    metric, default = ranking.metric, frames.ranking(runs)
    why = ""
    if metric != default:
        why = ", as asked" + ("" if ranking.is_accuracy else " (less is better)")
    elif metric == "test_accuracy":
        some = frames.held_out(runs).any()
        why = ", because " + ("not all trials" if some else "no trial") + " held out validation rows"
    elif metric == "val_accuracy":
        why = ", on rows held out of training"
    last = "' last epoch" if metric in METRICS else ""
    mean = f"the mean over seeds of the finished trials{last}; ± is the standard deviation"
    numbers = ""
    if metric != default and numeric.axes_of(runs):
        numbers = f"The sections of numeric factors are in the report by {default} alone."
    doubts = [DOUBTS.get(metric.partition("_")[0], ""), missing_values_note(runs, ranking), numbers]
    return " ".join(filter(None, [f"Ranked by {metric}{why}: {mean}.", *doubts]))


DOUBTS = {
    "test": "Choosing on test data is optimistic: expect the chosen one to do worse on new images.",
    "best": "The best epoch was picked by looking, so it is optimistic: expect less of new images.",
    "train": "That is on the images it trained on, and says nothing about new ones.",
    "seconds": (
        "Seconds are those of one trial in its stack, as measured while the sweep ran. Trials of one stack "
        "share its time, so their spread does not tell how much that varies."
    ),
}
"""What is doubtful about a metric, by the first word of its name."""


def followers(runs: pd.DataFrame) -> list[str]:
    """Return what varies, but only with the axes: `optimizer.lr follows batching: full 0.5, mini 0.1`.

    Such a factor can't be told apart from what it follows.
    """
    split = others(runs)
    texts = []
    for factor in factors_of(runs):
        if factor.partition(".")[0] in AXES or factor in split:
            continue
        axis = next((axis for axis in AXES if not varies_within(runs, [axis], factor)), None)
        if axis is None:
            texts.append(f"{factor} follows {', '.join(AXES)}")
            continue
        values = runs.groupby(axis, observed=True)[factor].first()
        pairs = ", ".join(f"{option} {as_text(value)}" for option, value in values.items())
        texts.append(f"{factor} follows {axis}: {pairs}")
    return texts


def common(runs: pd.DataFrame) -> str:
    """Return the params that all trials share, and the seeds; a dash for no trials."""
    if runs.empty:
        return "–"
    same = [p for p in frames.params_of(runs) if runs[p].notna().all() and (runs[p] == runs[p].iloc[0]).all()]
    seeds = sorted(runs["seed"].dropna().unique())
    few = len(seeds) <= MOST_SEEDS
    text = ",".join(map(str, seeds)) if few else f"{seeds[0]}…{seeds[-1]} ({len(seeds)} seeds)"
    return " ".join([*(f"{p}={as_text(runs[p].iloc[0])}" for p in same), f"seed={text}"])
