"""Configurations and options compared in pairs, by seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.reporting.document.blocks import Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, number, plain
from fnnexp.results import comparisons, numeric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fnnexp.results.comparisons import Findings
    from fnnexp.results.ranking import Ranking

NOTE = (
    "Differences are paired by seed: by how much the better is better{unit}. P(better): the probability"
    " that a new seed of the one beats one of the other. p: Student's paired t test; where some seeds of an"
    " option failed to learn (below twice what guessing gets) and others did not, a sign-flip test, marked"
    " ±; where seeds were added after a report had been read, tests that hold at every look, marked *."
    " Signs: the p of the sign-flip test, which assumes nothing about shape; under six seeds it can't reach"
    " 5%. Pairs: how many pairs the question has, for which Holm p is corrected: all pairs of a factor's"
    " options, of configurations, or of the options in one row of the table of the best. A row of a factor's"
    " options is a mean over the combinations of the other factors; within one of them the order can be"
    " another. {margin} Seeds"
    " needed: to tell the two apart in four of five tries at this difference and spread, roughly, at one"
    " more look; ? is unknown or more than 1,000."
)

HEAD = (
    "95% interval", "ahead in", "P(better)", "p", "signs", "pairs", "Holm p", "seeds needed",
    "verdict",
)  # fmt: skip


def section(runs: pd.DataFrame, findings: Findings) -> Section:
    """Return the section of rows and what is found in them, as :func:`questions.asked` has both."""
    tables = [
        table for table in (best_in_each_cell(findings), options(findings), leader(findings)) if table.rows
    ]
    axes = numeric.axes_at_best(runs)
    at_best = [Text(f"Each option is at its own best {' and '.join(axes)}.")] if axes else []
    return Section(
        "Pairs",
        [*at_best, Text(note(findings.ranking), quiet=True), *tables],
        {"options": findings.of_options, "cells": findings.in_each_cell, "leader": findings.with_leader},
    )


def note(ranking: Ranking) -> str:
    """Return what the columns are."""
    unit = {"points": ", in percentage points", "s": ", in seconds"}.get(ranking.unit, "")
    margin = "No pair is called equivalent, for no margin was given."
    if ranking.margin is not None:
        within = f"±{ranking.margin:g} {ranking.unit}".rstrip()
        margin = f"Equivalent: the interval, and two one-sided tests, put the difference within {within}."
    return NOTE.format(unit=unit, margin=margin)


def leader(findings: Findings) -> Table:
    """Return the leader against every other configuration, as shown."""
    return Table(
        "The leader against every other",
        ["against", *_head(findings)],
        _rows(findings.with_leader, ["b"], findings.ranking),
        names=1,
    )


def options(findings: Findings) -> Table:
    """Return every two options of each factor compared, as shown."""
    rows = _rows(findings.of_options, ["factor", "a", "b"], findings.ranking)
    head = ["factor", "better", "than", *_head(findings)]
    return Table("Every two options of a factor", head, rows, names=3)


def best_in_each_cell(findings: Findings) -> Table:
    """Return the best initializer of each combination of the other factors, as shown."""
    names = [name for name in findings.in_each_cell.columns if name not in comparisons.PAIR]
    return Table(
        "The best initializer for each, and how far ahead of the next",
        [*names[:-2], "best init", "than the next", *_head(findings)],
        _rows(findings.in_each_cell, names, findings.ranking),
        len(names),
    ).without("P(better)")


def _head(findings: Findings) -> list[str]:
    """Return the head of the columns about a pair; the first is its difference."""
    unit = findings.ranking.unit
    return [unit if unit == "points" else f"ahead by {unit}".rstrip(), *HEAD]


def _rows(pairs: pd.DataFrame, names: Sequence[str], ranking: Ranking) -> list[list[Cell]]:
    rows = []
    for pair in pairs.to_dict("records"):
        unknown = "?" if pair["verdict"] == "open" else ""
        marked = "±" * (pair["test"] in comparisons.SIGNS) + "*" * (pair["looks"] > 1)
        needed = unknown if pd.isna(pair["seeds_needed"]) else str(int(pair["seeds_needed"]))
        rows.append([
            *(Cell(str(pair[name])) for name in names),
            Cell(plain(pair["difference"], ranking), pair["difference"]),
            Cell(between(pair["low"], pair["high"], ranking)),
            Cell(f"{pair['ahead']} of {pair['seeds']}", float(pair["ahead"])),
            Cell(number(pair["probability"], ".2f"), pair["probability"]),
            Cell(number(pair["p"], ".3g") + marked, pair["p"]),
            Cell(number(pair["p_sign_flip"], ".3g"), pair["p_sign_flip"]),
            Cell(str(pair["family"]), float(pair["family"])),
            Cell(number(pair["p_corrected"], ".3g"), pair["p_corrected"]),
            Cell(needed),
            Cell(pair["verdict"]),
        ])  # fmt: skip
    return rows
