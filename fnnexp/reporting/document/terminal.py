"""Print a document in the terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text as RichText

from fnnexp.console import columns
from fnnexp.errors import plural, printable
from fnnexp.reporting.document.blocks import Code, Medium, Table, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from fnnexp.reporting.document.blocks import Block, Document


LINES = 22
"""Maximum number of lines of a document: a terminal has 24, and two more lines follow the document."""

LEAST_ROWS = 3
"""The first table has at least this many rows (or all, if it has fewer), because texts make room for it. Any
other table is omitted if fewer rows fit."""


class _Paragraph(NamedTuple):
    """A text or command: the number of its part, its place among all blocks, and what is printed.

    A part is what stands between two tables of a section, or before the first or after the last.
    """

    part: int
    place: int
    text: RichText
    is_command: bool


def show(document: Document, console: Console, lines: int = LINES) -> None:
    """Print the document on one screen: its texts, and as many table rows as fit.

    A table that is cut ends with the number of omitted rows. If the texts leave no room for the first table,
    some are left out, and a line says how many (:func:`_that_fit`).
    """
    shown: list[tuple[int, Block]] = []
    part = 0
    for section in document.sections:
        part += 1
        for block in section.shown_in(Medium.TERMINAL):
            shown.append((part, block))
            part += isinstance(block, Table)
    title = RichText(in_a_line(document.title), style="bold")
    paragraphs = [
        _Paragraph(part, place, text, isinstance(block, Code))
        for place, (part, block) in enumerate(shown)
        if (text := _text(block)) is not None
    ]
    tables = [place for place, (_, block) in enumerate(shown) if isinstance(block, Table)]
    room = lines - _height(console, title)
    kept = paragraphs
    if tables:
        kept = _that_fit(console, paragraphs, room - _least_height(console, shown[tables[0]][1]))
    left_out = len(paragraphs) - len(kept)
    texts = {each.place: each.text for each in kept}
    lines_left = room - sum(_height(console, text) for text in texts.values()) - (left_out > 0)
    console.print(title)
    for place, (_, block) in enumerate(shown):
        if left_out and place == tables[0]:
            console.print(RichText(f"… and {plural(left_out, 'more remark')} on the page", style="dim"))
        if isinstance(block, Table):
            lines_left -= _show_table(console, block.without(*block.wide), lines_left)
        elif place in texts:  # hard line breaks would break a command that is copied
            console.print(texts[place], soft_wrap=isinstance(block, Code))


def _that_fit(console: Console, paragraphs: Sequence[_Paragraph], room: int) -> list[_Paragraph]:
    """Return the paragraphs that fit into `room` lines, one of which counts those that are left out.

    The part with the most lines loses its last paragraph until the others fit. Commands and the first
    paragraph of each part are kept; if these do not fit, the longest is cut, and then the next. The very
    first, which begins the answer, is cut last.
    """
    kept = [*paragraphs]

    def height(own: Iterable[_Paragraph]) -> int:
        return sum(_height(console, each.text) for each in own)

    def excess() -> int:
        return height(kept) + (len(kept) < len(paragraphs)) - room

    firsts = {each.part: each.place for each in reversed(paragraphs)}.values()
    while excess() > 0:
        spare = [each for each in kept if each.place not in firsts and not each.is_command]
        if not spare:
            break
        longest = max(
            (each.part for each in spare),
            key=lambda part: height(each for each in kept if each.part == part),
        )
        kept.remove([each for each in spare if each.part == longest][-1])
    texts = [i for i, each in enumerate(kept) if not each.is_command]
    for i in [*sorted(texts[1:], key=lambda i: -height([kept[i]])), *texts[:1]]:
        if (more := excess()) > 0:
            most = max(height([kept[i]]) - more, 1)
            kept[i] = kept[i]._replace(text=_cut(console, kept[i].text, most))
    return kept


def _cut(console: Console, text: RichText, most: int) -> RichText:
    """Return the first `most` lines of a text, with an ellipsis at the end."""
    first = textwrap.wrap(text.plain, console.width - 2)[:most]
    return RichText("\n".join([*first[:-1], f"{first[-1]} …"]), style=text.style)


def _least_height(console: Console, block: Block) -> int:
    """Return how many lines the least rows of a table take."""
    if not isinstance(block, Table):
        return 0
    table, broken = _fitted(console, block.without(*block.wide))
    shown = _with_notes(table, min(LEAST_ROWS, len(table.rows)), broken)
    return sum(len(console.render_lines(each, pad=False)) for each in shown)


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
    """Return the least width that a table needs, in columns of the terminal.

    Names can be broken at spaces, and headings too if `broken`; numbers cannot.
    """
    widths = []
    for i, name in enumerate(table.head):
        texts = [in_a_line(row[i].text) for row in table.rows]
        if name == "note":
            widths.append(len("[9]"))
        elif table.is_number(i):
            head = _broken(in_a_line(name), texts) if broken else in_a_line(name)
            widths.append(max(map(columns, [*head.splitlines(), *texts])))
        else:
            widths.append(
                max(columns(word) for text in [in_a_line(name), *texts] for word in [*text.split(), ""])
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
        where = f"in {table.file}" if table.file else "on the page"
        notes.append("  " * bool(notes)).append(f"… and {more} {where}", style="dim")
    return [shown, *([notes] if notes else [])]


def in_a_line(text: str) -> str:
    """Return the text on one line, without control characters."""
    return printable(" ".join(text.splitlines()).replace("\t", " "))
