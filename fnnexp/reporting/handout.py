"""The handout: the answer of a report, one figure, one table and how it was run, on one printed page.

It consists of parts of the report and computes nothing. The lines of text are counted, so that they leave
room for the figure. What does not fit is only in the report.
"""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import TERMINAL, Code, Document, Items, Section, Table, Text
from fnnexp.reporting.sections import curves, leaderboard, overview, provenance, summary
from fnnexp.reporting.sections.by_factor import tuned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from fnnexp.reporting.document.blocks import Block

LETTERS, IN_A_ROW = 105, 120
"""The number of characters that fit on a line of text, and in a row of a table."""

ANSWER, COMMANDS, FACT = 12, 5, 2
"""The largest numbers of lines of the answer, of the commands, and of one fact about how it was run."""

ROWS, TEXT = 8, 26
"""The largest numbers of lines of the table, and of the answer, the table and the facts together."""

LEAST_ROWS = 3
"""The table shows this many rows (or all, if it has fewer) even if the other texts are long."""

HOW = "How it was run"


def of_report(document: Document, runs: pd.DataFrame) -> Document:
    """Return the handout of a report on some trials.

    The answer and the table are those that the terminal shows. The figure is that of the answer; if the
    answer has none, the first of the curves, or else the first of the report.
    """
    headlines = [
        Text(block.text)
        for title in (tuned.TITLE, summary.TITLE)
        for block in document.section(title).shown_in(TERMINAL)
        if isinstance(block, Text)
    ]
    answer = _first(headlines, ANSWER, "more sentence", "of the answer")
    facts = _facts(document, runs)
    lines = sum(_lines(text) for block in (*answer, *facts) for text in _texts(block))
    table = _table(document, max(LEAST_ROWS, min(ROWS, TEXT - lines)))
    figures = [*document.section(summary.TITLE).figures, *document.section(curves.TITLE).figures]
    figure = [*figures, *document.figures][:1]
    return Document(
        document.title,
        [
            Section(summary.TITLE, [*answer, *figure]),
            Section(leaderboard.TITLE, table),
            Section(HOW, facts),
        ],
    )


def _facts(document: Document, runs: pd.DataFrame) -> list[Block]:
    """Return how the trials were run: the commands, how many ended, the data, the seeds and the software."""
    reproduce, run = document.section(provenance.TITLE), document.section(overview.TITLE)
    *commands, again = [block for block in reproduce.blocks if isinstance(block, Code)]
    without = [] if commands else [Text(reproduce.sentences[0])]
    counts = [Text(block.text) for block in run.shown_in(TERMINAL) if isinstance(block, Text)]
    data = ", ".join(map(str, runs["data"].dropna().unique()))
    recorded = [text for block in reproduce.blocks if isinstance(block, Items) for text in block.texts]
    facts = [_cut(text) for text in (f"data: {data}", f"seeds: {overview.seeds(runs)}", *recorded)]
    shown = _first(commands, COMMANDS, "more command", "in the report")
    return [*shown, *without, *counts, Items(facts), Text("This page and the report:", code=again.text)]


def _table(document: Document, most: int) -> list[Block]:
    """Return the terminal's first table, cut to `most` lines, and the sentence on the ranking metric."""
    tables = [
        block
        for section in document.sections
        for block in section.shown_in(TERMINAL)
        if isinstance(block, Table)
    ]
    if not tables:
        return []
    whole = tables[0]
    narrower = [whole, whole.without(*whole.wide), whole.without(*whole.wide, "note")]
    table = next((each for each in narrower if _width(each) <= IN_A_ROW), narrower[-1])
    ends = accumulate(-(-_width(table._replace(rows=[row])) // IN_A_ROW) for row in table.rows)
    count = max(LEAST_ROWS, sum(end <= most for end in ends))
    total = max(whole.size, len(document.data.get(Path(whole.file).stem, ())))
    ranked = [text for text in document.section(overview.TITLE).sentences if text.startswith("Ranked by")]
    apart = [text for text in document.section(summary.TITLE).sentences if text.startswith(summary.APART)]
    return [
        table._replace(rows=table.rows[:count], total=total),
        *(Text(text, quiet=True) for text in [*ranked, *apart]),
    ]


def _width(table: Table) -> int:
    """Return the number of characters of the longest cells of all columns, with room between them."""
    rows = [[*table.head], *([cell.text for cell in row] for row in table.rows)]
    return sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True))


def _first(blocks: Sequence[Block], most: int, what: str, where: str) -> list[Block]:
    """Return as many of the first blocks as fit into `most` lines, and a remark on how many are left out."""
    ends = accumulate(sum(map(_lines, _texts(block))) for block in blocks)
    count = sum(end <= most for end in ends)
    if count == len(blocks):
        return [*blocks]
    return [
        *blocks[:count],
        Text(f"{plural(len(blocks) - count, what)} {where}: see report.html.", quiet=True),
    ]


def _texts(block: Block) -> Iterator[str]:
    """Yield the paragraphs of a block."""
    if isinstance(block, Items):
        yield " · ".join(block.texts)
    elif isinstance(block, Text | Code):
        yield f"{block.text} {getattr(block, 'code', '')}"


def _lines(text: str) -> int:
    """Return the number of lines that a paragraph takes on the page."""
    return -(-len(text) // LETTERS)


def _cut(text: str) -> str:
    """Return a fact, cut if it is too long."""
    longest = FACT * LETTERS
    return text if len(text) <= longest else f"{text[: longest - 20]} … (see report.html)"
