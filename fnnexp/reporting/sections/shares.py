"""Which factor matters how much: shares of the variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnnexp.reporting.document.blocks import Cell, Section, Table, Text

if TYPE_CHECKING:
    from fnnexp.results.comparisons import Findings


def section(findings: Findings) -> Section:
    """Return the section of what was found in a frame."""
    shares = table(findings)
    return Section(
        "Which factor matters how much",
        [Text(findings.about_shares), *([shares] if shares.rows else [])],
        {"shares": findings.shares},
    )


def table(findings: Findings) -> Table:
    """Return the shares of variance as shown."""
    rows = [
        [Cell(row["effect"]), Cell(f"{100 * row['share']:.1f}", row["share"])]
        for row in findings.shares.to_dict("records")
    ]
    return Table("", ["factor or interaction", "share of variance %"], rows, 1)
