"""The parts of a document as data: sections of text, code, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import NamedTuple

import pandas as pd


class Medium(Flag):
    """Where a block is shown: on the HTML page, in the Markdown file, or in the terminal."""

    PAGE = auto()
    MARKDOWN = auto()
    TERMINAL = auto()


PAGE, TERMINAL = Medium.PAGE, Medium.TERMINAL
FILES = Medium.PAGE | Medium.MARKDOWN
EVERYWHERE = FILES | Medium.TERMINAL


class Text(NamedTuple):
    """A paragraph, with `code` appended in code style. A `quiet` paragraph is a remark, shown in grey."""

    text: str
    media: Medium = FILES
    quiet: bool = False
    code: str = ""


class Code(NamedTuple):
    """A command to paste."""

    text: str
    media: Medium = FILES


class Items(NamedTuple):
    """A list of technical facts."""

    texts: Sequence[str]
    media: Medium = FILES


class Links(NamedTuple):
    """Links to files next to the page, after an introductory text."""

    text: str
    files: Sequence[str]
    media: Medium = PAGE


class Cell(NamedTuple):
    """A table cell: its text and, for a number, the exact value."""

    text: str
    value: float | None = None


MOST_ROWS = 400
"""The largest number of rows of a table in a document; a file has the rest."""


class Table(NamedTuple):
    """A table.

    Attributes
    ----------
    title, head, rows
        The content.
    names
        The number of leading columns that contain names; they are left-aligned.
    folds
        Whether the page collapses the table if it is long.
    file
        The name of the file that has all rows.
    wide
        The columns that the terminal omits.
    total
        The number of rows of the whole table, if `rows` are only the first of them.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    names: int
    media: Medium = FILES
    folds: bool = False
    file: str = ""
    wide: Sequence[str] = ()
    total: int = 0

    @property
    def size(self) -> int:
        """The number of rows of the whole table."""
        return max(self.total, len(self.rows))

    @property
    def rest(self) -> str:
        """A sentence on the rows that are not in `rows`, "" if all are."""
        if self.size == len(self.rows):
            return ""
        return f"The first {len(self.rows):,} of {self.size:,} rows are shown; {self.file} has all."

    def is_number(self, column: int) -> bool:
        """Return whether a column contains numbers rather than names or notes."""
        return column >= self.names and self.head[column] not in ("note", "verdict")

    def without(self, *columns: str) -> Table:
        """Return the table without the named columns."""
        keep = [i for i, name in enumerate(self.head) if name not in columns]
        return self._replace(
            head=[self.head[i] for i in keep],
            rows=[[row[i] for i in keep] for row in self.rows],
            names=sum(i < self.names for i in keep),
        )


class Figure(NamedTuple):
    """A figure: the name of its files, its caption, its content and the heading above it."""

    name: str
    caption: str
    svg: str
    png: bytes
    heading: str = ""
    media: Medium = FILES


Block = Text | Code | Items | Links | Table | Figure


@dataclass(frozen=True)
class Section:
    """A title, blocks, and the data that the blocks show, as {name of the CSV file: frame}."""

    title: str
    blocks: Sequence[Block]
    data: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def shown_in(self, medium: Medium) -> list[Block]:
        """Return the blocks that a medium shows."""
        return [block for block in self.blocks if medium in block.media]

    @property
    def sentences(self) -> list[str]:
        """The section's paragraphs, without the remarks in grey."""
        return [block.text for block in self.blocks if isinstance(block, Text) and not block.quiet]

    @property
    def figures(self) -> list[Figure]:
        """The section's figures, in order."""
        return [block for block in self.blocks if isinstance(block, Figure)]


@dataclass(frozen=True)
class Document:
    """A titled sequence of sections."""

    title: str
    sections: Sequence[Section]

    def section(self, title: str) -> Section:
        """Return the section with this title."""
        return next(section for section in self.sections if section.title == title)

    @property
    def figures(self) -> list[Figure]:
        """The figures of all sections of the document."""
        return [figure for section in self.sections for figure in section.figures]

    @property
    def data(self) -> dict[str, pd.DataFrame]:
        """The data of all sections as {name of the CSV file: frame}."""
        return {name: frame for section in self.sections for name, frame in section.data.items()}
