"""The report as Markdown: the sentences and the tables of the page, to paste where people talk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fnnexp.analysis.answers import sentences
from fnnexp.analysis.report import (
    Grid,
    basis,
    common,
    counts,
    followers,
    is_number,
    leader_grid,
    leaderboard_grid,
    options_grid,
    shares_grid,
    table_grids,
    troubles,
)

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.analysis.comparisons import Findings


def markdown(
    experiment: str, runs: pd.DataFrame, board: pd.DataFrame, cells: pd.DataFrame, found: Findings
) -> str:
    """Return the report as text; whatever comes from the store is escaped."""
    grids = [
        leaderboard_grid(runs, board),
        *table_grids(runs, cells),
        shares_grid(found),
        options_grid(found),
        leader_grid(found),
        troubles(runs),
    ]
    asked = [counts(runs), basis(runs), *(f"{each}." for each in followers(runs)), f"In all: {common(runs)}"]
    parts = [
        f"# {escaped(experiment)}",
        *map(escaped, asked),
        "## The answer",
        *map(escaped, sentences(runs, found)),
        *(table(grid) for grid in grids if grid.rows),
    ]
    return "\n\n".join(parts) + "\n"


def table(grid: Grid) -> str:
    """Return a table, its title a heading."""
    rule = ["---:" if is_number(grid, i) else "---" for i in range(len(grid.head))]
    lines = [
        list(map(escaped, grid.head)),
        rule,
        *([escaped(cell.text) for cell in row] for row in grid.rows),
    ]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (f"## {escaped(grid.title)}\n\n" if grid.title else "") + text


def escaped(text: str) -> str:
    r"""Return the text so that Markdown shows it as it is.

    >>> escaped("a|b <b> relu_100 *")
    'a\\|b &lt;b> relu_100 \\*'
    """
    flat = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
    return re.sub(r"([\\`*\[\]|])", r"\\\1", flat)
