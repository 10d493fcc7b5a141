"""Render a document as one self-contained HTML page, to open offline or to print."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fnnexp.reporting.document.blocks import Medium

if TYPE_CHECKING:
    from jinja2 import Template

    from fnnexp.reporting.document.blocks import Cell, Document, Table

ROWS_OPEN = 12
"""A table with `folds` and more rows than this is collapsed."""


def render(document: Document, template: str = "page.html") -> str:
    """Return the document as an HTML page. The template escapes all text and embeds figures as SVG."""
    sections = [
        (section.title, [(type(block).__name__, block) for block in section.shown_in(Medium.PAGE)])
        for section in document.sections
    ]
    shown = [(title, blocks) for title, blocks in sections if blocks]
    return _template(template).render(title=document.title, sections=shown, rows_open=ROWS_OPEN)


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"column_classes": _column_classes, "cell_html": _cell_html}
    return environment.get_template(name)


def _column_classes(table: Table) -> list[Markup]:
    """Return the class attribute of the cells of each column."""
    number, verdict, neither = Markup(" class='n'"), Markup(" class='verdict'"), Markup("")
    return [
        number if table.is_number(i) else verdict if name == "verdict" else neither
        for i, name in enumerate(table.head)
    ]


def _cell_html(cell: Cell) -> Markup:
    """Return the content of a cell, with its exact value as a data attribute."""
    if cell.value is None or math.isnan(cell.value):
        return Markup.escape(cell.text)
    return Markup("<data value='{}'>{}</data>").format(repr(float(cell.value)), cell.text)
