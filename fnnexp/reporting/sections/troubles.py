"""The trials that diverged or failed, and those that are numerically identical."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import MOST_ROWS, PAGE, TERMINAL, Cell, Section, Table, Text
from fnnexp.results.factors import as_text

if TYPE_CHECKING:
    from fnnexp.reporting.document.blocks import Block


def section(runs: pd.DataFrame) -> Section:
    """Return the section on diverged, failed and identical trials; the terminal shows only one failure."""
    failures = diverged_and_failed(runs)
    blocks: list[Block] = [table for table in (failures, identical(runs)) if table.rows]
    if failures.rows:
        trial, status, why = (cell.text for cell in failures.rows[0])
        where = "runs.csv" if failures.rest else "report.html"
        more = f" ({failures.size - 1} more in {where})" if failures.size > 1 else ""
        blocks.append(Text(f"{trial} {status}: {why}{more}", TERMINAL))
    if copies := int(runs["identical_to"].notna().sum()):
        sentence = f"{plural(copies, 'trial')} shared the training of a numerically identical trial."
        blocks.append(Text(sentence, TERMINAL))
    return Section("Diverged, failed and identical trials", blocks)


def diverged_and_failed(runs: pd.DataFrame) -> Table:
    """Return the table of diverged and failed trials with their reasons."""
    rows = []
    trials = runs[runs["status"].isin(["diverged", "failed"])]
    for trial in trials.head(MOST_ROWS).to_dict("records"):
        error = "" if pd.isna(trial["error"]) else str(trial["error"])
        epoch = "" if pd.isna(trial["diverged_epoch"]) else f"at epoch {trial['diverged_epoch']}"
        parts = [error] if "epoch" in error else [epoch, error]
        reason = ": ".join(filter(None, parts)) or "no reason was recorded"
        rows.append([Cell(as_text(trial["name"])), Cell(trial["status"]), Cell(reason)])
    head = ["trial", "status", "reason"]
    title = "Diverged and failed trials"
    return Table(title, head, rows, 3, folds=True, file="runs.csv", total=len(trials))


def identical(runs: pd.DataFrame) -> Table:
    """Return the table of trials that were not trained, because a numerically identical trial was."""
    copies = runs[runs["identical_to"].notna()]
    shown = copies.head(MOST_ROWS)
    originals = runs[runs["trial"].isin(shown["identical_to"])]
    names = dict(zip(originals["trial"], originals["name"].map(as_text), strict=True))
    pairs = zip(shown["name"].map(as_text), shown["identical_to"], strict=True)
    rows = [[Cell(name), Cell(names.get(other, f"trial {other}"))] for name, other in pairs]
    return Table(
        "Numerically identical trials",
        ["trial", "was trained as"],
        rows,
        2,
        PAGE,
        folds=True,
        file="runs.csv",
        total=len(copies),
    )
