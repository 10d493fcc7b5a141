"""Print a document in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text as RichText

from fnnexp.errors import printable
from fnnexp.reporting.document.blocks import Code, Medium, Table, Text

if TYPE_CHECKING:
    from rich.console import Console

    from fnnexp.reporting.document.blocks import Block, Document


LINES = 21
"""As many lines are printed: a terminal has 24, and some follow."""

LEAST_ROWS = 3
"""A table that has room for fewer rows is left to the page."""


def show(document: Document, console: Console, lines: int = LINES) -> None:
    """Print what a terminal shows of the document on one screen: its texts, and as many rows as fit.

    Texts are printed whole. A table has the lines that are left, and says how many of its rows it has not.
    """
    shown = [block for section in document.sections for block in section.shown_in(Medium.TERMINAL)]
    title = RichText(in_a_line(document.title), style="bold")
    texts = {i: text for i, block in enumerate(shown) if (text := _text(block)) is not None}
    left = lines - sum(_height(console, text) for text in (title, *texts.values()))
    console.print(title)
    for i, block in enumerate(shown):
        if isinstance(block, Table):
            left -= _show_table(console, block.without(*block.wide), left)
        elif i in texts:  # the terminal breaks a command for the eye, not for who copies it
            console.print(texts[i], soft_wrap=isinstance(block, Code))


def _text(block: Block) -> RichText | None:
    """Return the text of a paragraph or a command; None of any other block."""
    if isinstance(block, Text):
        return RichText(in_a_line(f"{block.text} {block.code}".strip()), style="dim" if block.quiet else "")
    return RichText(in_a_line(block.text)) if isinstance(block, Code) else None


def _height(console: Console, text: RichText) -> int:
    return len(console.render_lines(text, pad=False))


def _show_table(console: Console, table: Table, lines: int) -> int:
    """Print as many of a table's rows as fit into so many lines; return how many lines were printed.

    Notes stand below it, where they leave the width to the numbers.
    """
    for rows in range(len(table.rows), min(LEAST_ROWS, len(table.rows)) - 1, -1):
        parts = _with_notes(table, rows)
        height = sum(len(console.render_lines(part, pad=False)) for part in parts)
        if rows and height <= lines:
            for part in parts:
                console.print(part)
            return height
    return 0


def _with_notes(table: Table, rows: int) -> list[RichTable | RichText]:
    """Return a table's first rows, the notes on them, and a line on how many rows are left out."""
    title = RichText(in_a_line(table.title)) if table.title else None
    shown = RichTable(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    marks: dict[str, str] = {"": ""}
    for i, name in enumerate(table.head):
        number = table.is_number(i)
        head = "" if name == "note" else in_a_line(name)
        shown.add_column(
            RichText(head), justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    for row in table.rows[:rows]:
        texts = [in_a_line(cell.text) for cell in row]
        if table.head[-1] == "note":
            texts[-1] = marks.setdefault(texts[-1], f"[{len(marks)}]")
        shown.add_row(*map(RichText, texts))
    notes = [RichText(f"{mark} {note}") for note, mark in list(marks.items())[1:]]
    if len(table.rows) > rows:
        notes.append(RichText(f"… and {len(table.rows) - rows} more rows in {table.file}", style="dim"))
    return [shown, *notes]


def in_a_line(text: str) -> str:
    """Return the text printable, and in one line."""
    return printable(" ".join(text.splitlines()).replace("\t", " "))
