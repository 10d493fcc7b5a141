"""Configurations and options compared in pairs, by seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.reporting.document.blocks import Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, number
from fnnexp.results import comparisons
from fnnexp.results.ranking import MARGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fnnexp.results.comparisons import Findings

NOTE = (
    "Differences are paired by seed, in percentage points. P(better): the probability that a new seed of the"
    " one beats one of the other. p: Student's paired t test; where some seeds of an option failed to learn"
    " (below twice what guessing gets) and others did not, a sign-flip test, marked ±; where seeds were added"
    " after a report had been read, tests that hold at every look, marked *. Signs: the p of the sign-flip"
    " test, which assumes nothing about shape; under six seeds it can't reach 5%. Pairs: how many pairs the"
    " question has, for which Holm p is corrected: all pairs of a factor's options, of configurations, or of"
    " the options in one row of the table of the best. Equivalent: the interval, and two one-sided tests, put"
    f" the difference within ±{MARGIN} points. Seeds needed: to tell the two apart in four of"
    " five tries at this difference and spread, roughly, at one more look; ? is unknown or more than 1,000."
)

HEAD = (
    "points", "95% interval", "ahead in", "P(better)", "p", "signs", "pairs", "Holm p", "seeds needed",
    "verdict",
)  # fmt: skip


def section(findings: Findings) -> Section:
    """Return the section of what was found in a frame."""
    tables = [
        table for table in (best_in_each_cell(findings), options(findings), leader(findings)) if table.rows
    ]
    return Section(
        "Pairs",
        [Text(NOTE, quiet=True), *tables],
        {"options": findings.of_options, "cells": findings.in_each_cell, "leader": findings.with_leader},
    )


def leader(findings: Findings) -> Table:
    """Return the leader against every other configuration, as shown."""
    return Table(
        "The leader against every other", ["against", *HEAD], _rows(findings.with_leader, ["b"]), names=1
    )


def options(findings: Findings) -> Table:
    """Return every two options of each factor compared, as shown."""
    rows = _rows(findings.of_options, ["factor", "a", "b"])
    return Table("Every two options of a factor", ["factor", "better", "than", *HEAD], rows, names=3)


def best_in_each_cell(findings: Findings) -> Table:
    """Return the best initializer of each combination of the other factors, as shown."""
    names = [name for name in findings.in_each_cell.columns if name not in comparisons.PAIR]
    return Table(
        "The best initializer for each, and how far ahead of the next",
        [*names[:-2], "best init", "than the next", *HEAD],
        _rows(findings.in_each_cell, names),
        len(names),
    ).without("P(better)")


def _rows(pairs: pd.DataFrame, names: Sequence[str]) -> list[list[Cell]]:
    rows = []
    for pair in pairs.to_dict("records"):
        unknown = "?" if pair["verdict"] == "open" else ""
        marked = "±" * (pair["test"] in comparisons.SIGNS) + "*" * (pair["looks"] > 1)
        needed = unknown if pd.isna(pair["seeds_needed"]) else str(int(pair["seeds_needed"]))
        rows.append([
            *(Cell(str(pair[name])) for name in names),
            Cell(number(100 * pair["difference"], ".2f"), pair["difference"]),
            Cell(between(pair["low"], pair["high"])),
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
