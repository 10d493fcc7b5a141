"""Print a document in the terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text as RichText

from fnnexp.errors import plural, printable
from fnnexp.reporting.document.blocks import Code, Medium, Table, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from fnnexp.reporting.document.blocks import Block, Document


LINES = 22
"""Maximum number of lines of a document: a terminal has 24, and two more lines follow the document."""

LEAST_ROWS = 3
"""A table is omitted if fewer of its rows than this fit, unless it has fewer and all fit."""


def show(document: Document, console: Console, lines: int = LINES) -> None:
    """Print the document on one screen: all texts in full, and as many table rows as fit.

    A table that is cut ends with the number of omitted rows.
    """
    shown = [block for section in document.sections for block in section.shown_in(Medium.TERMINAL)]
    title = RichText(in_a_line(document.title), style="bold")
    texts = {i: text for i, block in enumerate(shown) if (text := _text(block)) is not None}
    lines_left = lines - sum(_height(console, text) for text in (title, *texts.values()))
    console.print(title)
    for i, block in enumerate(shown):
        if isinstance(block, Table):
            lines_left -= _show_table(console, block.without(*block.wide), lines_left)
        elif i in texts:  # hard line breaks would break a command that is copied
            console.print(texts[i], soft_wrap=isinstance(block, Code))


def _text(block: Block) -> RichText | None:
    """Return the text of a paragraph or a command, None for any other block."""
    if isinstance(block, Text):
        return RichText(in_a_line(f"{block.text} {block.code}".strip()), style="dim" if block.quiet else "")
    return RichText(in_a_line(block.text)) if isinstance(block, Code) else None


def _height(console: Console, text: RichText) -> int:
    return len(console.render_lines(text, pad=False))


def _show_table(console: Console, table: Table, lines: int) -> int:
    """Print as many table rows as fit into `lines` lines, and return the number of printed lines.

    Notes are printed below the table, so that the numbers have the full width.
    """
    table, broken = _fitted(console, table)
    most = min(len(table.rows), max(lines, 0))
    for rows in range(most, min(LEAST_ROWS, len(table.rows)) - 1, -1):
        renderables = _with_notes(table, rows, broken)
        height = sum(len(console.render_lines(renderable, pad=False)) for renderable in renderables)
        if rows and height <= lines:
            for renderable in renderables:
                console.print(renderable)
            return height
    return 0


def _fitted(console: Console, table: Table) -> tuple[Table, bool]:
    """Return a table that fits the width of the terminal, and whether its headings need several lines.

    If several lines are not enough, columns of numbers are left out from the right. Names, verdicts and notes
    stay.
    """
    for broken in (False, True):
        if _width(table, broken) <= console.width:
            return table, broken
    while _width(table, broken=True) > console.width:
        numbers = [i for i in range(len(table.head)) if table.is_number(i)]
        if len(numbers) < 2:
            break
        table = table.without(table.head[numbers[-1]])
    return table, True


def _width(table: Table, broken: bool) -> int:
    """Return the least width that a table needs, in characters.

    Names can be broken at spaces, and headings too if `broken`; numbers cannot.
    """
    widths = []
    for i, name in enumerate(table.head):
        texts = [in_a_line(row[i].text) for row in table.rows]
        if name == "note":
            widths.append(len("[9]"))
        elif table.is_number(i):
            head = _broken(in_a_line(name), texts) if broken else in_a_line(name)
            widths.append(max(map(len, [*head.splitlines(), *texts])))
        else:
            widths.append(
                max(len(word) for text in [in_a_line(name), *texts] for word in [*text.split(), ""])
            )
    return sum(widths) + 2 * len(widths)  # two spaces between columns, and one at each edge


def _broken(head: str, texts: Sequence[str]) -> str:
    r"""Return the heading of a column, broken into several lines if it is wider than the texts below it.

    >>> _broken("tuning trials", ["12"]), _broken("95% interval", ["97.1 to 98.2"])
    ('tuning\ntrials', '95% interval')
    """
    width = max(map(len, [*texts, *head.split()]), default=0)
    return "\n".join(textwrap.wrap(head, width, break_on_hyphens=False)) if head else head


def _with_notes(table: Table, rows: int, broken: bool) -> list[RichTable | RichText]:
    """Return what to print of a table: its first rows, then their notes and the number of omitted rows."""
    title = RichText(in_a_line(table.title)) if table.title else None
    shown = RichTable(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    marks: dict[str, str] = {"": ""}
    for i, name in enumerate(table.head):
        number = table.is_number(i)
        head = "" if name == "note" else in_a_line(name)
        if broken and number:
            head = _broken(head, [in_a_line(row[i].text) for row in table.rows[:rows]])
        shown.add_column(
            RichText(head), justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    for row in table.rows[:rows]:
        texts = [in_a_line(cell.text) for cell in row]
        if table.head[-1] == "note":
            texts[-1] = marks.setdefault(texts[-1], f"[{len(marks)}]")
        shown.add_row(*map(RichText, texts))
    notes = RichText("  ".join(f"{mark} {note}" for note, mark in list(marks.items())[1:]))
    if table.size > rows:
        more = plural(table.size - rows, "more row")
        notes.append("  " * bool(notes)).append(f"… and {more} in {table.file}", style="dim")
    return [shown, *([notes] if notes else [])]


def in_a_line(text: str) -> str:
    """Return the text on one line, without control characters."""
    return printable(" ".join(text.splitlines()).replace("\t", " "))
