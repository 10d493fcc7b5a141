"""The report as Markdown: the sentences and the tables of the page, to paste where people talk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fnnexp.reporting.sections.provenance import provenance, rebuilt
from fnnexp.reporting.sections.summary import sentences
from fnnexp.reporting.write import (
    basis,
    cells_grid,
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
from fnnexp.tracking.views import report_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from fnnexp.reporting.document.blocks import Drawing, Grid, Section
    from fnnexp.results.comparisons import Findings


def markdown(
    experiment: str,
    runs: pd.DataFrame,
    board: pd.DataFrame,
    cells: pd.DataFrame,
    found: Findings,
    sections: Sequence[Section] = (),
    where: Sequence[str] = (),
) -> str:
    """Return the report as text; whatever comes from the store is escaped."""
    grids = [
        leaderboard_grid(runs, board),
        *table_grids(runs, cells),
        shares_grid(found),
        cells_grid(found),
        options_grid(found),
        leader_grid(found),
        troubles(runs),
    ]
    asked = [counts(runs), basis(runs), *(f"{each}." for each in followers(runs)), f"In all: {common(runs)}"]
    parts = [
        f"# {escaped(' '.join([experiment, *where]))}",
        *map(escaped, asked),
        "## The answer",
        *map(escaped, sentences(runs, found)),
        *(table(grid) for grid in grids if grid.rows),
        *(text for section in sections for text in part(section)),
        *_how_to_reproduce(experiment, where, runs),
    ]
    return "\n\n".join(parts) + "\n"


def part(section: Section) -> list[str]:
    """Return a section as paragraphs."""
    images = map(_image, section.drawings)
    return [f"## {escaped(section.title)}", *map(escaped, section.said), *images, *map(table, section.grids)]


def _how_to_reproduce(experiment: str, where: Sequence[str], runs: pd.DataFrame) -> list[str]:
    again = rebuilt(experiment, runs)
    ran_with = "\n".join(f"- {escaped(each)}" for each in provenance(runs))
    commands = [_code(command) for command in again.commands]
    page = _code(report_command(experiment, where))
    return ["## How to reproduce it", escaped(again.said), *commands, ran_with, page]


def _code(text: str) -> str:
    """Return a line as code; indented, it shows any character as it is."""
    return f"    {' '.join(text.splitlines())}"


def _image(drawing: Drawing) -> str:
    return f"![{escaped(drawing.caption)}]({drawing.name}.png)"


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
