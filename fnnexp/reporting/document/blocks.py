"""The parts of a document as data: sections of text, code, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any, NamedTuple

import pandas as pd
from pandas.api.types import is_numeric_dtype


class Medium(Flag):
    """Where a block is shown: on the HTML page, in the Markdown file, or in the terminal."""

    PAGE = auto()
    MARKDOWN = auto()
    TERMINAL = auto()


PAGE, TERMINAL = Medium.PAGE, Medium.TERMINAL
FILES = Medium.PAGE | Medium.MARKDOWN
EVERYWHERE = FILES | Medium.TERMINAL


class Text(NamedTuple):
    """A paragraph, with `code` appended in code style. A `quiet` paragraph is a remark, shown in grey.

    If `under` is a heading, the page folds the paragraph under it, and shows each line on its own.
    """

    text: str
    media: Medium = FILES
    quiet: bool = False
    code: str = ""
    under: str = ""


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
        The title, the headings of the columns, and the rows of cells.
    names
        The number of leading columns that contain names; they are left-aligned.
    folds
        Whether the page collapses the table if it is long.
    file
        The name of the file that has all rows.
    wide
        The names of columns for which the terminal has no room.
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
        """A sentence that only the first rows are shown, and which file has all; "" if all are shown."""
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


class Mark(NamedTuple):
    """Points or a cell of a figure, with the values that the page shows under the mouse pointer.

    Attributes
    ----------
    option
        Which options of factors the mark stands for, as an index of :attr:`Figure.options`.
    quantity
        The name of the quantity, such as `val_accuracy`.
    x, y
        Where the points are in the SVG, in its units.
    numbers
        The exact values of the points by name, such as `epoch`, `mean`, `low` and `high`.
    size
        The width and height of a cell, in units of the SVG; None for points.
    single
        The seed, if this is the curve of a single trial. The page draws it on demand.
    """

    option: int
    quantity: str
    x: Sequence[float]
    y: Sequence[float]
    numbers: Mapping[str, Sequence[Any]]
    size: tuple[float, float] | None = None
    single: str = ""


class Figure(NamedTuple):
    """A figure: the name of its files, its caption, its content and the heading above it.

    `options` are options by factor, such as ``{"arch": "relu_100", "init": "he"}``. The page can highlight
    the parts of a figure that show them: in `svg`, the attribute `data-o` of an element is the index of its
    options, and `data-name` marks texts that name an option.
    """

    name: str
    caption: str
    svg: str
    png: bytes
    heading: str = ""
    media: Medium = FILES
    options: Sequence[Mapping[str, str]] = ()
    marks: Sequence[Mark] = ()

    @property
    def data(self) -> pd.DataFrame:
        """The values of all marks, a row for each point, without the curves of single trials."""
        parts = [
            pd.DataFrame({**mark.numbers}).assign(**self.options[mark.option], quantity=mark.quantity)
            for mark in self.marks
            if not mark.single
        ]
        return pd.concat(parts, ignore_index=True).assign(figure=self.name) if parts else pd.DataFrame()


Block = Text | Code | Items | Links | Table | Figure


@dataclass(frozen=True)
class Section:
    """A section: its title, its blocks, and the data that they show, as {name of the CSV file: frame}."""

    title: str
    blocks: Sequence[Block]
    data: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def shown_in(self, medium: Medium) -> list[Block]:
        """Return the blocks that a medium shows."""
        return [block for block in self.blocks if medium in block.media]

    @property
    def sentences(self) -> list[str]:
        """The section's paragraphs on the page, without the remarks in grey."""
        return [block.text for block in self.shown_in(PAGE) if isinstance(block, Text) and not block.quiet]

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
        """The data of all sections as {name of the CSV file: frame}, and the values that the figures show."""
        data = {name: frame for section in self.sections for name, frame in section.data.items()}
        parts = [part for figure in self.figures if len(part := figure.data)]
        return data | ({VALUES: _values(parts)} if parts else {})


VALUES = "figures"
"""The name of the CSV file with the values that the page shows under the mouse pointer."""


def _values(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the values of all figures as one frame.

    Its first columns are the figure, the options and the quantity. `parts` are the values of each figure.
    """
    values = pd.concat(parts, ignore_index=True)
    numbers = [column for column in values.columns if is_numeric_dtype(values[column].dtype)]
    names = [column for column in values.columns if column not in ("figure", "quantity", *numbers)]
    return values[["figure", *names, "quantity", *numbers]]
