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

    from fnnexp.reporting.document.blocks import Document


def show(document: Document, console: Console) -> None:
    """Print what a terminal shows of the document: its texts, and the first rows of its tables."""
    console.print(RichText(in_a_line(document.title), style="bold"))
    for section in document.sections:
        blocks = section.shown_in(Medium.TERMINAL)
        if blocks:
            console.print(RichText(f"\n{in_a_line(section.title)}", style="bold"))
        for block in blocks:
            if isinstance(block, Table):
                _show_table(console, block.without(*block.wide))
            elif isinstance(block, Text):
                text = in_a_line(f"{block.text} {block.code}".strip())
                console.print(RichText(text, style="dim" if block.quiet else ""))
            elif isinstance(block, Code):  # the terminal breaks it for the eye, not for who copies it
                console.print(RichText(in_a_line(block.text)), soft_wrap=True)


def _show_table(console: Console, table: Table) -> None:
    """Print a table's first rows. Notes stand below it, where they leave the width to the numbers."""
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
    for row in table.rows[: table.most]:
        texts = [in_a_line(cell.text) for cell in row]
        if table.head[-1] == "note":
            texts[-1] = marks.setdefault(texts[-1], f"[{len(marks)}]")
        shown.add_row(*map(RichText, texts))
    console.print(shown)
    for note, mark in list(marks.items())[1:]:
        console.print(RichText(f"{mark} {note}"))
    if len(table.rows) > table.most:
        more = f"… and {len(table.rows) - table.most} more rows in {table.file}"
        console.print(RichText(more, style="dim"))


def in_a_line(text: str) -> str:
    """Return the text printable, and in one line."""
    return printable(" ".join(text.splitlines()).replace("\t", " "))
