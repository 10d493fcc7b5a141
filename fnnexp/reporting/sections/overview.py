"""What was run: the number of trials, their ranking, and the parameters that they share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd
from pandas.api.types import is_numeric_dtype

from fnnexp.config.schema import CHOICES
from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import EVERYWHERE, Section, Text
from fnnexp.reporting.document.wording import rows_of
from fnnexp.results import frames, numeric
from fnnexp.results.factors import (
    AXES,
    as_text,
    factors_of,
    group_numbers,
    labels_of,
    others,
    varies_within,
)
from fnnexp.results.ranking import missing_values_note, ranking_of
from fnnexp.results.seeds import averaged
from fnnexp.tracking.run_format import METRICS, STATUSES, TOO_GOOD, at_epochs

if TYPE_CHECKING:
    from fnnexp.results.ranking import Ranking

TITLE = "What was run"

ALWAYS_COUNTED = ("finished", "diverged", "failed")
"""The statuses that are listed even if no trial has them."""

MOST_SEEDS = 10
"""If there are more seeds than this, the text gives the first, the last and the number of seeds."""


MOST_NETWORKS = 12
"""If there are more networks than this, a sentence gives the range of their sizes."""

MOST_POINTS = 1_000_000
"""Curves with more points than this are not written as CSV, because this would take minutes."""

TOO_MANY = "There is no curves.csv, because the curves have {:,} points. fnnexp.curves returns them."


def section(runs: pd.DataFrame, curves: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section on what was run: numbers of trials, the ranking metric, and the shared parameters.

    Its CSV files are the runs and the curves of the whole report. The curves are left out if they have more
    than :data:`MOST_POINTS` points.
    """
    omitted = [Text(TOO_MANY.format(len(curves)))] if len(curves) > MOST_POINTS else []
    sentences = [
        basis(runs, ranking),
        *stopped_early(runs),
        *(f"{text}." for text in followers(runs)),
        *namesakes(runs),
        *versions(runs),
        *noisy(runs),
        *sizes(runs),
    ]
    return Section(
        TITLE,
        [
            *(Text(sentence, EVERYWHERE) for sentence in [*too_good(curves), counts(runs), *pruned(runs)]),
            *map(Text, sentences),
            *omitted,
            Text("Common to all trials:", quiet=True, code=common(runs)),
        ],
        {"runs": runs} | ({} if omitted else {"curves": curves}),
    )


def counts(runs: pd.DataFrame) -> str:
    """Return a sentence with the total number of trials and their number by status."""
    number = {status: int((runs["status"] == status).sum()) for status in STATUSES}
    repeated = averaged(runs)
    configurations = group_numbers(repeated, factors_of(repeated)).nunique()
    early = int(_stopped(runs).sum())
    patient = runs["stopping.patience"].notna() if "stopping.patience" in runs else _stopped(runs)
    is_patient = bool((patient & (runs["status"] == "finished")).any())
    note = {"finished": f" ({early or 'none'} stopped early)" if is_patient else ""}
    counted = ", ".join(
        f"{n:,} {status}{note.get(status, '')}"
        for status, n in number.items()
        if n or status in ALWAYS_COUNTED
    )
    return f"{plural(len(runs), 'trial')} of {plural(configurations, 'configuration')}: {counted}."


def _stopped(runs: pd.DataFrame) -> pd.Series:
    """Return whether each trial stopped early.

    Frames that an older version made have no column `stopped_epoch`; in these, no trial stopped early.
    """
    column = runs.get("stopped_epoch")
    return runs["status"].isna() if column is None else column.notna()


def stopped_early(runs: pd.DataFrame) -> list[str]:
    """Return a sentence on the trials that stopped early: how many, when, why, and which epoch counts."""
    stopped = runs[_stopped(runs)]
    if stopped.empty:
        return []
    metrics = {*stopped.get("stopping.metric", pd.Series("val_loss", stopped.index)).fillna("val_loss")}
    patience = {*stopped["stopping.patience"].dropna()} if "stopping.patience" in stopped else set()
    metric = metrics.pop() if len(metrics) == 1 else "the metric of stopping.metric"
    waited = plural(int(patience.pop()), "epoch") if len(patience) == 1 else "stopping.patience epochs"
    when = at_epochs(stopped["stopped_epoch"])
    return [
        f"{plural(len(stopped), 'trial')} stopped early, {when}, because {metric} did not improve in "
        f"{waited}. Values of the last epoch are those of the epoch at which a trial stopped, which is not "
        "its best epoch. The artifact weights_best.npz has the weights of the best epoch."
    ]


def pruned(runs: pd.DataFrame) -> list[str]:
    """Return sentences on the trials that a search pruned: how many, when, and what this means."""
    if "pruned_epoch" not in runs or runs["pruned_epoch"].isna().all():
        return []
    counts = runs["pruned_epoch"].value_counts().sort_index()
    at = ", ".join(f"{count} at epoch {epoch}" for epoch, count in counts.items())
    return [
        f"A search pruned {plural(int(counts.sum()), 'trial')} that did worse than others: {at}. No mean, "
        "test or rank includes them. The others were chosen by their results, so options are compared only "
        "where they did well: to confirm a difference, train the best few with new seeds."
    ]


def namesakes(runs: pd.DataFrame) -> list[str]:
    """Return a note, if the initializer `he` was run, that textbooks define it differently."""
    if "he" not in set(runs["init"].astype("str")):
        return []
    return [
        "The initializer he has a standard deviation of 2/√n for n inputs, √2 times that of He et al. and of "
        "textbooks. Their initializer is called he_normal here."
    ]


def versions(runs: pd.DataFrame) -> list[str]:
    """Return a sentence for each option whose file was edited between trials, with its versions in order."""
    if frames.PIECES not in runs:
        return []
    texts = []
    own = runs[runs[frames.PIECES].notna()]
    for choice in (choice for choice in CHOICES if choice in own):
        named = dict.fromkeys(map(str, own[choice].sort_values().dropna()))
        edited: dict[str, list[str]] = {}
        for name in named:
            if match := re.fullmatch(r"(.+)@[0-9a-f]{6,}(\+[0-9a-f]{6,})*", name):
                edited.setdefault(match[1], []).append(name)
        texts += [
            f"The file of {option} was edited between these trials. Its versions are named by their "
            f"checksums, the first trained first: {', '.join(names)}."
            for option, names in edited.items()
        ]
    return texts


def noisy(runs: pd.DataFrame) -> list[str]:
    """Return a note, if labels are noisy, that training metrics are measured against the noisy labels."""
    if "data.label_noise" not in runs or not (runs["data.label_noise"] > 0).any():
        return []
    return [
        "With data.label_noise, some labels of the training rows are replaced by another class. Training "
        "metrics are measured against these labels; validation and test labels are those of the data."
    ]


def sizes(runs: pd.DataFrame) -> list[str]:
    """Return a sentence on the number of parameters of each network, or the range of many networks."""
    if "parameters" not in runs or runs["parameters"].isna().all():
        return []
    known = runs[runs["parameters"].notna()]
    counts = known.groupby(labels_of(known, "arch"), observed=True)["parameters"].agg(["min", "max"])
    least, most = int(counts["min"].min()), int(counts["max"].max())
    if len(counts) > MOST_NETWORKS:
        return [f"The {len(counts):,} networks have {least:,} to {most:,} parameters (weights and biases)."]
    each = [
        f"{arch} {low:,}" + (f" to {high:,}" if low < high else "")
        for arch, low, high in zip(counts.index, counts["min"], counts["max"], strict=True)
    ]
    return [f"Parameters (weights and biases) of the networks: {', '.join(each)}."]


def too_good(curves: pd.DataFrame) -> list[str]:
    """Return a warning if trials had a test accuracy of 1.0 by the first epoch."""
    at_first = curves[(curves["metric"] == "test_accuracy") & (curves["epoch"] <= 1) & (curves["value"] == 1)]
    if at_first.empty:
        return []
    trials = plural(at_first["trial"].nunique(), "trial")
    return [f"In {trials}, test accuracy is 1.0 at the first epoch. {TOO_GOOD}."]


def basis(runs: pd.DataFrame, ranking: Ranking | None = None) -> str:
    """Return a sentence on the ranking metric, followed by its caveats."""
    ranking = ranking or ranking_of(runs)
    metric, default = ranking.metric, frames.ranking(runs)
    why = ""
    if metric != default:
        why = ", as requested" + ("" if ranking.is_accuracy else " (lower is better)")
    elif metric == "test_accuracy":
        some_held_out = frames.held_out(runs).any()
        why = ", because " + ("not all trials" if some_held_out else "no trial") + " held out validation rows"
    elif metric == "val_accuracy":
        why = ", on rows held out of training"
    last = "at the last epoch of" if metric in METRICS else "of"
    spread = ". ± is the standard deviation" if len({*runs["seed"]}) > 1 else ""
    mean = f"the mean over seeds {last} finished trials{spread}"
    numbers = ""
    if metric != default and numeric.axes_of(runs):
        numbers = f"Only a report by {default} has the sections on numeric factors."
    doubt = DOUBTS.get(metric.partition("_")[0], "").format(rows_of(runs))
    doubts = [doubt, missing_values_note(runs, ranking), numbers]
    return " ".join(filter(None, [f"Ranked by {metric}{why}: {mean}.", *doubts]))


DOUBTS = {
    "test": "Choosing on test data is optimistic: expect worse results on new {0}.",
    "best": "The best epoch was chosen by its result, so it is optimistic: expect worse on new {0}.",
    "train": "It is measured on the training {0} and says nothing about new {0}.",
    "seconds": (
        "Seconds are the time of one trial in its stack (the trials that train together), measured while the "
        "sweep ran. Trials of one stack share its time, so ± does not show how much times vary."
    ),
}
"""Caveats about a metric, {0} being the noun for its rows. The key is the first word of the metric's name."""


def followers(runs: pd.DataFrame) -> list[str]:
    """Return texts about settings that arch, init or batching determines.

    An example is `optimizer.lr varies only with batching: full 0.5, …`. The effect of such a setting cannot
    be separated from the effect of `batching`.
    """
    texts = []
    for factor, axis in followed(runs).items():
        if axis is None:
            texts.append(f"{factor} varies only with {', '.join(AXES)}")
            continue
        values = runs.groupby(axis, observed=True)[factor].first()
        pairs = ", ".join(f"{option} {as_text(value)}" for option, value in values.items())
        texts.append(f"{factor} varies only with {axis}: {pairs}")
    return texts


def followed(runs: pd.DataFrame) -> dict[str, str | None]:
    """Return the settings that arch, init or batching determines, and which of the three it is.

    A setting that only several of them determine together has None.
    """
    independent = others(runs)
    return {
        factor: next((axis for axis in AXES if not varies_within(runs, [axis], factor)), None)
        for factor in factors_of(runs)
        if factor.partition(".")[0] not in AXES and factor not in independent
    }


def together(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """Return each set of factors that vary together, as a frame with a row for each combination that was run.

    Their effects cannot be told apart, as after ``zip=[[init,optimizer.lr]]``. Three cases are left out:
    presets, which stand for all their settings; the default learning rates of batching modes; and numbers
    that were drawn at random.
    """
    return [options for options in _alike(runs) if not _are_drawn(options)]


def has_drawn_numbers(runs: pd.DataFrame) -> bool:
    """Return whether several numeric factors look as if their values were drawn at random, by a search."""
    return any(map(_are_drawn, _alike(runs)))


def _alike(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """Return each set of factors in which the option of one determines those of all others.

    It is a frame with a column for each factor and a row for each combination that was run. Presets and the
    default learning rates of batching modes are left out.
    """
    alike: dict[bytes, list[str]] = {}
    for factor in factors_of(runs):
        if factor not in (*frames.SEEDS, frames.CHECKSUM, frames.PIECES):
            numbers = pd.factorize(runs[factor], use_na_sentinel=False)[0]
            alike.setdefault(numbers.tobytes(), []).append(factor)
    return [
        runs[names].drop_duplicates().sort_values(names[0])
        for names in alike.values()
        if len(names) > 1 and "experiment" not in names and names != ["batching", "optimizer.lr"]
    ]


def _are_drawn(options: pd.DataFrame) -> bool:
    """Return whether these factors are numbers that neither rise nor fall together, as in a random search.

    Numbers that were paired by hand usually rise or fall together. The rows are sorted by the first factor.
    """
    are_numbers = all(is_numeric_dtype(options[name]) and options[name].notna().all() for name in options)
    return are_numbers and not any(
        options[name].is_monotonic_increasing or options[name].is_monotonic_decreasing
        for name in options.columns[1:]
    )


def common(runs: pd.DataFrame) -> str:
    """Return the parameters that all trials share, and the seeds; a dash if there are no trials."""
    if runs.empty:
        return "–"
    shared = [
        p for p in frames.params_of(runs) if runs[p].notna().all() and (runs[p] == runs[p].iloc[0]).all()
    ]
    return " ".join([*(f"{p}={as_text(runs[p].iloc[0])}" for p in shared), f"seed={seeds(runs)}"])


def seeds(runs: pd.DataFrame) -> str:
    """Return the seeds of the trials; if there are many, the first, the last and their number."""
    each = sorted(runs["seed"].dropna().unique())
    if len(each) <= MOST_SEEDS:
        return ",".join(map(str, each))
    return f"{each[0]}…{each[-1]} ({len(each):,} seeds)"
