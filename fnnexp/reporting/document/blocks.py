"""What a report is made of: tables, figures and sections, as data for the page and the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd


class Cell(NamedTuple):
    """What is shown, and the exact number behind it if it is one."""

    text: str
    value: float | None = None


class Grid(NamedTuple):
    """A table as it is shown, in the terminal as on the page; its first columns are names, to the left."""

    title: str
    head: list[str]
    rows: list[list[Cell]]
    names: int


class Drawing(NamedTuple):
    """A figure of the page, and its files' name."""

    section: str
    name: str
    heading: str
    caption: str
    svg: str
    png: bytes


class Section(NamedTuple):
    """A section: sentences, figures, tables as shown, and tables by the names of their files."""

    title: str
    said: Sequence[str]
    drawings: Sequence[Drawing] = ()
    grids: Sequence[Grid] = ()
    tables: Mapping[str, pd.DataFrame] = MappingProxyType({})
