"""Configurations and options, compared in pairs with the same seeds: `fnnexp.compare`, and the section."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.reporting import tuned
from fnnexp.reporting.document.blocks import MOST_ROWS, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, listed, number, plain
from fnnexp.results import comparisons, filters, frames, numeric, questions, seeds
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import as_text, by_version
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fnnexp.reporting.tuned import Comparison
    from fnnexp.results.comparisons import Findings
    from fnnexp.results.ranking import Ranking

HOW_TO_READ = "How to read these tables"

NOTE = {
    "row": "Each row is the mean difference between two options with the same seeds{unit}.",
    "interval": (
        "95% interval: of its pair alone, so a pair can be open although its interval excludes 0."
    ),
    "probability": (
        "P(better): the probability that a new seed of the better option beats a new seed of the other."
    ),
    "p": "p: Student's paired t test{shared}.",
    "signs of failed": (
        "±: a sign-flip test instead, because an option failed to learn in some seeds only (less than twice"
        " the accuracy of guessing; with fewer than ten classes, less than a ninth of the way from guessing"
        " to 100%)."
    ),
    "looks": (
        "*: a test that stays valid at repeated looks, because seeds were added after a report had been read."
    ),
    "signs": (
        "Signs: p of the sign-flip test, which assumes nothing about the shape of the distribution{few}."
    ),
    "family": (
        "Pairs: the number of pairs that Holm p is corrected for: all pairs of a factor's options, of"
        " configurations, or of the initializers in one combination."
    ),
    "margin": "{margin}",
    "average": (
        "The rows of a factor average over the combinations of the other factors; within one combination, the"
        " order can differ."
    ),
    "checks": (
        "Open with the seeds needed –: the better option was tuned, and its check is failed or not trained;"
        " 'Each option tuned' has the checks."
    ),
    "unchecked": (
        "Averages over combinations, and pairs of different tuned comparisons, are tested, but not checked"
        " against luck in tuning."
    ),
    "needed": (
        "Seeds needed: roughly the number of seeds that tell the two apart in four of five experiments, at"
        " this difference and spread and with one more look{unknown}."
    ),
}  # fmt: skip
"""What the columns and marks of the tables of pairs mean; see :func:`note`."""

HEAD = (
    "verdict", "95% interval", "ahead in", "P(better)", "p", "signs", "pairs", "Holm p",
    "seeds needed",
)  # fmt: skip


@validate_frames
def compare(
    runs: pd.DataFrame, factor: str | None = None, *, metric: str | None = None, margin: float | None = None
) -> pd.DataFrame:
    """Compare trials in pairs by seed: the best configuration with every other, or the options of one factor.

    Parameters
    ----------
    runs
        The frame of :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of its rows. Trials that a later
        command trained for more epochs are left out, unless `factor` is `epochs`.
    factor
        What varies, e.g. `init`, `batching`, `batching.size` or `optimizer.lr`: every two of its options are
        compared, averaged over the combinations of the other factors; trials without a value of it, such as
        a batch size with full batches, are left out. Default: the best configuration is compared with
        every other. If numeric factors vary too, each option has its own best values of them
        (:func:`at_best`).
    metric
        The column to rank by: one of :data:`fnnexp.results.ranking.NAMES`, e.g. `val_loss`, or a column added
        by :func:`fnnexp.seconds_to`. For a loss or a time less is better. Default: validation accuracy if
        every trial held out rows, else test accuracy.
    margin
        Options are equivalent if their difference is surely smaller than this: in percentage points for an
        accuracy (default 0.2), else in the metric's unit (default: no options are equivalent).

    Returns
    -------
    DataFrame
        One row per pair; accuracies are fractions. With more than ten options, only the pairs with the best
        option have rows.

        - `a` (str), the better option or configuration; `b` (str), the other; with `factor` also `cells`
          (int64), the number of combinations of the other factors that both finished.
        - `seeds` (int64), the number of seeds that both finished; `looks` (int64), how often their results
          were looked at while seeds were added, including now.
        - `difference` (float64): by how much `a` is better, averaged over seeds: a − b, for a loss or a time
          b − a. `low` and `high`: its 95% interval, if any; `interval`: the method
          (:mod:`fnnexp.results.statistics`).
        - `ahead` (int64), in how many seeds `a` is better; `probability` (float64), that a new seed of `a`
          beats a new seed of `b`, missing with one seed.
        - `failed` (int64): in how many seeds a trial failed to learn (:func:`failed_to_learn`).
        - `test`: `t`, Student's paired t test; `shared t` with three or more options and at most five seeds,
          whose pairs share their variance; or `sign flip` if an option failed to learn in some seeds but
          not in others, unless n seeds have too few signs for so many pairs (2/2ⁿ × `family` > 5%);
          from the second look on `safe t` and `safe signs`. For times it is `none` and all verdicts are open:
          trials that train together share one measured time, so times are not independent.
        - `p`, the p value of `test`; `p_sign_flip`, that of the sign-flip test for one look, which assumes
          only symmetric differences.
        - `family` (int64): the number of all pairs of options or configurations, also of pairs without a row,
          because the best was picked by looking; `p_corrected`: p corrected for the family (Holm).
        - `p_equivalent`: p of two one-sided tests for a mean difference within ±`margin`, also corrected;
          missing without a margin, and if an option failed to learn in some seeds but not in others.
        - `seeds_needed` (Int64): about how many seeds would settle an open pair at a second look, given this
          difference and spread; missing if unknown or above 1,000.
        - `verdict`: `equivalent` if the interval is within ±`margin` and `p_equivalent` ≤ 5%; else `better`
          if `p_corrected` ≤ 5%; else `open`. Options that were tuned (`compare=init tune=optimizer.lr`) are
          compared as in the report: with the values that tuning chose, and one is `better` than another only
          if it also beats the other's good values. This needs the rows of the trials that tuned.
        - `check` (str), only for options that were tuned: the result of that second test, `passed`, `failed`
          or `not trained` (its trials are missing); "" if there is none.

    Raises
    ------
    FnnexpError
        If the factor does not vary in these trials, the metric cannot rank them, or the margin is not above
        0.

    Examples
    --------
    >>> pairs = fnnexp.compare(runs, "init")  # doctest: +SKIP
    >>> pairs[["a", "b", "difference", "p_corrected", "verdict"]]  # doctest: +SKIP
    """
    runs = by_version(runs if factor == "epochs" else filters.longest(runs))
    ranking = ranking_of(runs, metric, margin)
    runs, tunings = _tuned_apart(runs, ranking, factor)
    rows = questions.rows_to_compare(runs, ranking)
    if factor is None:
        return tuned.with_checks(comparisons.with_leader(rows, ranking), tunings, rows)
    factors = [list(comparisons.levels(frame.reset_index(drop=True)).columns) for frame in (rows, runs)]
    # Factors that vary together are compared as one factor; the name of any of them selects it.
    varied = list(dict.fromkeys([*factors[0], *factors[1]]))
    factor = next((name for name in varied if factor in name.split(comparisons.WITH)), factor)
    if factor not in varied and factor in frames.params_of(runs):
        of_key = comparisons.of_key(runs, factor, ranking)
        if len(of_key) and not tunings:
            return of_key.drop(columns="factor")
        factor = factor.partition(".")[0] if len(of_key) else factor  # tuned options have checks
    compared = rows if factor in factors[0] else runs
    if factor not in varied:
        problem = _problem(runs, factor)
        these = "this trial" if len(runs) == 1 else f"these {len(runs):,} trials"
        raise FnnexpError(
            f"factor={factor!r} {problem} {these}; the factors that vary are "
            f"{', '.join(varied) or 'none'}.{did_you_mean(str(factor), varied)}"
        )
    pairs = tuned.with_checks(comparisons.of_options(compared, ranking), tunings, compared)
    return pairs[pairs["factor"] == factor].drop(columns="factor").reset_index(drop=True)


def _problem(runs: pd.DataFrame, factor: str) -> str:
    """Return why a factor cannot be compared in these trials, for an error that goes on with their number."""
    if factor not in frames.params_of(runs):
        return "is not a factor of"
    values = runs[factor].dropna().unique()
    if len(values) > 1:
        return "varies only together with other settings in"
    if len(values) and runs[factor].isna().any():
        return f"has one value, {as_text(values[0])}, or none in"
    return "does not vary in"


def _tuned_apart(
    runs: pd.DataFrame, ranking: Ranking, factor: str | None
) -> tuple[pd.DataFrame, list[Comparison]]:
    """Return the trials to compare, and the comparisons of tuned options to which they belong.

    If options were tuned, the trials are those with the values that tuning chose, as in a report. But if
    `factor` is itself a tuned key, all trials with fresh seeds are compared, as if nothing had been tuned.
    """
    tunings = tuned.all_of(runs, ranking)
    compared, over_values = tuned.parts(runs, tunings)
    if over_values is compared:
        return compared, tunings
    keys = tuned.keys(tunings)
    if factor in keys:
        return filters.compared(runs), []
    return compared.drop(columns=keys), tunings


def section(runs: pd.DataFrame, findings: Findings) -> Section:
    """Return the section on configurations and options compared in pairs, by seed.

    The arguments are those that :func:`questions.rows_and_findings` returns.
    """
    tables = [
        table for table in (best_in_each_cell(findings), options(findings), leader(findings)) if table.rows
    ]
    axes = numeric.axes_at_best(runs)
    at_best = [Text(f"Each option is compared at its own best {' and '.join(axes)}.")] if axes else []
    weaker = map(Text, weaker_pairs(runs))
    cells = map(Text, too_many_cells(runs, findings))
    how_to_read = [Text(note(findings), quiet=True, under=HOW_TO_READ)] if tables else []
    return Section(
        "Pairs",
        [*at_best, *weaker, *cells, *how_to_read, *tables],
        {"options": findings.of_options, "cells": findings.in_each_cell, "leader": findings.with_leader},
    )


def weaker_pairs(runs: pd.DataFrame) -> list[str]:
    """Return a note if some initializers draw from different distributions, which a seed pairs less well."""
    kinds = seeds.unpaired_draws(runs)
    if not kinds:
        return []
    shuffled = "batching.shuffle" in runs and bool(runs["batching.shuffle"].fillna(False).any())
    paired = "pairs only the order of rows" if shuffled else "pairs nothing"
    return [
        f"The initial weights are draws of {len(kinds)} kinds ({listed(kinds)}). Between initializers of "
        f"different kinds, a seed {paired}, so intervals may be wider."
    ]


def too_many_cells(runs: pd.DataFrame, findings: Findings) -> list[str]:
    """Return a sentence if there are too many combinations to show the best initializer of each."""
    initializers = findings.of_options["factor"] == "init"
    if len(findings.in_each_cell) or not initializers.any() or not len(findings.configurations):
        return []
    levels = [dict(each.levels) for each in findings.configurations]
    cells = len({tuple(text for name, text in each.items() if name != "init") for each in levels})
    if cells <= comparisons.MOST_CELLS:
        return []
    return [
        f"The other factors have {cells:,} combinations. The best initializer in each of them is shown "
        f"for at most {comparisons.MOST_CELLS}; a report on some options (KEY=VALUE) has fewer."
    ]


def note(findings: Findings) -> str:
    """Return what the columns of the tables of pairs mean, and those of the marks that they have."""
    ranking = findings.ranking
    pairs = pd.concat([findings.of_options, findings.with_leader, findings.in_each_cell])
    open_pairs = pairs[pairs["verdict"] == "open"]
    margin = "No pair is called equivalent, because no margin was given."
    if ranking.margin is not None:
        within = f"±{ranking.margin:g} {ranking.unit}".rstrip()
        margin = f"Equivalent: both the interval and two one-sided tests put the difference within {within}."
    texts = {
        "unit": {"points": ", in percentage points", "s": ", in seconds"}.get(ranking.unit, ""),
        "shared": (
            ", whose pairs share their spread (three or more options and at most five seeds)"
            if pairs["test"].eq("shared t").any()
            else ""
        ),
        "few": "; with fewer than six seeds it cannot reach 5%"
        if (pairs["seeds"] < SIGNS_FROM).any()
        else "",
        "margin": margin,
        "unknown": (
            "; ? means unknown or more than 1,000" if open_pairs["seeds_needed"].isna().any() else ""
        ),
    }
    absent = {
        "signs of failed": not pairs["test"].isin(comparisons.SIGNS).any(),
        "looks": not (pairs["looks"] > 1).any(),
        "checks": "check" not in open_pairs or not open_pairs["check"].any(),
        "unchecked": "check" not in pairs
        or not ((pairs["verdict"] == "better") & pairs["check"].eq("")).any(),
        "needed": open_pairs.empty,
        "average": all(len(each.levels) < 2 for each in findings.configurations),
    }
    return "\n".join(text.format(**texts) for name, text in NOTE.items() if not absent.get(name, False))


SIGNS_FROM = 6
"""With fewer seeds than this, no sign-flip test has a p of 5% or less: its least p is 2 / 2 ** seeds."""


def leader(findings: Findings) -> Table:
    """Return the table of comparisons between the leading configuration and every other."""
    return Table(
        "The leader against every other configuration",
        ["against", *_head(findings)],
        _rows(findings.with_leader, ["b"], findings.ranking),
        names=1,
        file="leader.csv",
        total=len(findings.with_leader),
    )


def options(findings: Findings) -> Table:
    """Return the table of comparisons between the options (values) of each factor, in pairs."""
    rows = _rows(findings.of_options, ["factor", "a", "b"], findings.ranking)
    head = ["factor", "better", "than", *_head(findings)]
    return Table(
        "The options of each factor, in pairs",
        head,
        rows,
        names=3,
        file="options.csv",
        total=len(findings.of_options),
    )


def best_in_each_cell(findings: Findings) -> Table:
    """Return the table of the best initializer in each combination of the other factors."""
    columns = [str(name) for name in findings.in_each_cell.columns]
    names = columns[: columns.index("b") + 1]
    return Table(
        "The best initializer in each combination, against the next best",
        [*names[:-2], "best init", "next best", *_head(findings)],
        _rows(findings.in_each_cell, names, findings.ranking),
        len(names),
    ).without("P(better)")


def _head(findings: Findings) -> list[str]:
    """Return the headings of the columns that describe a pair; the first column is the difference."""
    unit = findings.ranking.unit
    return [unit if unit == "points" else f"ahead by {unit}".rstrip(), *HEAD]


def _rows(pairs: pd.DataFrame, names: Sequence[str], ranking: Ranking) -> list[list[Cell]]:
    rows = []
    for pair in pairs.head(MOST_ROWS).to_dict("records"):
        unknown = "?" if pair["verdict"] == "open" else ""
        marks = "±" * (pair["test"] in comparisons.SIGNS) + "*" * (pair["looks"] > 1)
        needed = unknown if pd.isna(pair["seeds_needed"]) else str(int(pair["seeds_needed"]))
        if pair["verdict"] == "open" and pair.get("check"):
            needed = "–"
        rows.append([
            *(Cell(str(pair[name])) for name in names),
            Cell(plain(pair["difference"], ranking), pair["difference"]),
            Cell(pair["verdict"]),
            Cell(between(pair["low"], pair["high"], ranking)),
            Cell(f"{pair['ahead']} of {pair['seeds']}", float(pair["ahead"])),
            Cell(number(pair["probability"], ".2f"), pair["probability"]),
            Cell(number(pair["p"], ".3g") + marks, pair["p"]),
            Cell(number(pair["p_sign_flip"], ".3g"), pair["p_sign_flip"]),
            Cell(str(pair["family"]), float(pair["family"])),
            Cell(number(pair["p_corrected"], ".3g"), pair["p_corrected"]),
            Cell(needed),
        ])  # fmt: skip
    return rows
