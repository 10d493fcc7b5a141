"""The handout: the answer of a report, a figure, one table and how it was run, on one printed page.

It consists of parts of the report and computes nothing. The lines of text are counted, so that they leave
room for the figure, or for two if the layers were measured. What does not fit is only in the report. The page
names no files, which nobody can open on paper.
"""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import TERMINAL, Code, Document, Items, Section, Table, Text
from fnnexp.reporting.sections import curves, layers, leaderboard, overview, provenance, summary
from fnnexp.reporting.sections.by_factor import tuned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from fnnexp.reporting.document.blocks import Block, Figure

LETTERS, IN_A_ROW = 105, 120
"""The number of characters that fit on a line of text, and in a row of a table."""

ANSWER, COMMANDS, FACT = 12, 5, 2
"""The largest numbers of lines of the answer, of the commands, and of one fact about how it was run."""

LEAST_ANSWER = 10
"""The largest number of lines of the answer if its figure has no room otherwise."""

ROWS, TEXT = 8, 26
"""The largest numbers of lines of the table, and of the answer, the table and the facts together."""

LEAST_ROWS = 3
"""The table shows this many rows (or all, if it has fewer) even if the other texts are long."""

WIDTH, PAGE, LINE, TABLE_LINE = 7.4, 8.6, 0.165, 0.205
"""Inches: the width of the page, its height without headings, the height of a line, and that of a row."""

CAPTION = 3
"""The largest number of lines of a caption."""

LEAST_SCALE = 0.9
"""Figures may shrink to this scale to fit. Before they shrink more, table and answer are shortened."""

QUESTIONS, HOW = "The questions", "How it was run"


def of_report(document: Document, runs: pd.DataFrame) -> Document:
    """Return the handout of a report: its answer, one or two figures, a table, and how the trials were run.

    `runs` are the trials of the report. The answer and the table are those that the terminal shows. The
    figure is that of the answer. If the answer has no figure, it is the first of the curves, or else the
    first of the report. If the layers were measured, the figure of the untrained networks is added; if only
    one figure fits, this is the one.
    """
    headlines = [
        Text(block.text)
        for title in (summary.TITLE, tuned.TITLE)
        for block in document.section(title).shown_in(TERMINAL)
        if isinstance(block, Text)
    ]
    facts = _facts(document, runs)
    for longest in (ANSWER, LEAST_ANSWER):
        answer = _first(headlines, longest, "more sentence", " of the answer")
        lines = sum(_lines(text) for block in (*answer, *facts) for text in _texts(block))
        tables = [_table(document, most) for most in (max(LEAST_ROWS, min(ROWS, TEXT - lines)), LEAST_ROWS)]
        figures, table, fit = _that_fit(document, tables, PAGE - LINE * lines)
        if fit:
            break
    return Document(
        document.title,
        [
            Section(summary.TITLE, [*answer, *figures]),
            Section(_title_of_table(document), table),
            Section(HOW, facts),
        ],
    )


class _Fitting(NamedTuple):
    """Figures and a table, and whether they fit."""

    figures: Sequence[Figure]
    table: Sequence[Block]
    fit: bool


def _that_fit(document: Document, tables: Sequence[Sequence[Block]], room: float) -> _Fitting:
    """Return one or two figures (see :func:`of_report`) and a table that fit together into `room` inches.

    `tables` are versions of the same table, the longest first.
    """
    drawings = [*document.section(summary.TITLE).figures, *document.section(curves.TITLE).figures]
    usual = [_brief(figure) for figure in [*drawings, *document.figures][:1]]
    of_layers = [_brief(figure) for figure in document.section(layers.TITLE).figures[:1]]
    for figures in ([*usual, *of_layers], of_layers, usual) if of_layers else (usual,):
        for table in tables:
            rows = sum(len(each.rows) + 1 for each in table if isinstance(each, Table))
            texts = sum(_lines(text) for each in table for text in _texts(each))
            if LEAST_SCALE * sum(map(_height, figures)) <= room - LINE * texts - TABLE_LINE * rows:
                return _Fitting(figures, table, fit=True)
    return _Fitting(usual, tables[-1], fit=False)


def _brief(figure: Figure) -> Figure:
    """Return a figure with a caption of :data:`CAPTION` lines at most, without sentences that name a file.

    The sentences at the end are left out, but never the first.
    """
    sentences = re.split(r"(?<=\.) (?=[A-Z])", figure.caption)
    kept = [sentence for sentence in sentences if ".csv" not in sentence]
    ends = accumulate(len(sentence) + 1 for sentence in kept)
    count = max(1, sum(end <= CAPTION * LETTERS for end in ends))
    return figure._replace(caption=" ".join(kept[:count]))


def _height(figure: Figure) -> float:
    """Return how many inches a figure and its caption take; a figure wider than the page is shrunk to it."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', figure.svg)
    width, height = (float(points) / 72 for points in box.groups()) if box else (WIDTH, WIDTH)
    return height * min(1.0, WIDTH / width) + LINE * (_lines(figure.caption) + 1)


def _facts(document: Document, runs: pd.DataFrame) -> list[Block]:
    """Return how the trials were run: the commands, how many ended, the data, the seeds and the software."""
    reproduce, run = document.section(provenance.TITLE), document.section(overview.TITLE)
    *commands, again = [block for block in reproduce.blocks if isinstance(block, Code)]
    without = [] if commands else [Text(reproduce.sentences[0])]
    counts = [Text(block.text) for block in run.shown_in(TERMINAL) if isinstance(block, Text)]
    data = ", ".join(map(str, runs["data"].dropna().unique()))
    recorded = [text for block in reproduce.blocks if isinstance(block, Items) for text in block.texts]
    facts = [_cut(text) for text in (f"data: {data}", f"seeds: {overview.seeds(runs)}", *recorded)]
    shown = _first(commands, COMMANDS, "more command", "")
    return [*shown, *without, *counts, Items(facts), Text("This page and the report:", code=again.text)]


def _title_of_table(document: Document) -> str:
    """Return the title above the table: that of the section from which the table comes.

    A table from the answer lists the questions that were asked, so its title is :data:`QUESTIONS`.
    """
    within = (
        section.title
        for section in document.sections
        for block in section.shown_in(TERMINAL)
        if isinstance(block, Table)
    )
    title = next(within, leaderboard.TITLE)
    return QUESTIONS if title == summary.TITLE else title


def _table(document: Document, most: int) -> list[Block]:
    """Return the first table that the terminal shows, cut to `most` lines, and remarks below it.

    The remarks say by which metric the trials are ranked, why only the leader has a test accuracy, and if
    test and validation accuracy differ.
    Columns that would be empty are left out, and wide columns and notes if the table does not fit otherwise.
    """
    tables = [
        block
        for section in document.sections
        for block in section.shown_in(TERMINAL)
        if isinstance(block, Table)
    ]
    if not tables:
        return []
    whole = tables[0].without(*_empty(tables[0]._replace(rows=tables[0].rows[: max(LEAST_ROWS, most)])))
    narrower = [whole, whole.without(*whole.wide), whole.without(*whole.wide, "note")]
    table = next((each for each in narrower if _width(each) <= IN_A_ROW), narrower[-1])
    ends = accumulate(-(-_width(table._replace(rows=[row])) // IN_A_ROW) for row in table.rows)
    count = max(LEAST_ROWS, sum(end <= most for end in ends))
    total = max(whole.size, len(document.data.get(Path(whole.file).stem, ())))
    ranked = [text for text in document.section(overview.TITLE).sentences if text.startswith("Ranked by")]
    apart = [text for text in document.section(summary.TITLE).sentences if text.startswith(summary.APART)]
    test = [f"{text}." for text in leaderboard.about_test(table)]
    return [
        table._replace(rows=table.rows[:count], total=total, file="the report"),
        *(Text(text, quiet=True) for text in [*ranked, *test, *apart]),
    ]


def _empty(table: Table) -> list[str]:
    """Return the names of the columns without any text."""
    return [name for i, name in enumerate(table.head) if not any(row[i].text for row in table.rows)]


def _width(table: Table) -> int:
    """Return the width of a table in characters: the longest cell of each column, and the gaps."""
    rows = [[*table.head], *([cell.text for cell in row] for row in table.rows)]
    return sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True))


def _first(blocks: Sequence[Block], most: int, what: str, where: str) -> list[Block]:
    """Return as many of the first blocks as fit into `most` lines, and a remark on how many are left out.

    `what` and `where` are words of this remark: "The report has 2 more sentences of the answer."
    """
    ends = accumulate(sum(map(_lines, _texts(block))) for block in blocks)
    count = sum(end <= most for end in ends)
    if count == len(blocks):
        return [*blocks]
    return [
        *blocks[:count],
        Text(f"The report has {plural(len(blocks) - count, what)}{where}.", quiet=True),
    ]


def _texts(block: Block) -> Iterator[str]:
    """Yield the paragraphs of a block, to count their lines; a table or a figure has none."""
    if isinstance(block, Items):
        yield " · ".join(block.texts)
    elif isinstance(block, Text | Code):
        yield f"{block.text} {getattr(block, 'code', '')}"


def _lines(text: str) -> int:
    """Return the number of lines that a paragraph takes on the page."""
    return -(-len(text) // LETTERS)


def _cut(text: str) -> str:
    """Return a fact about how the trials were run, cut after :data:`FACT` lines."""
    longest = FACT * LETTERS
    return text if len(text) <= longest else f"{text[: longest - 22]} … (the report has all)"
