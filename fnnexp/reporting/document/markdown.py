"""Render a document as Markdown, to paste into an issue or a chat."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fnnexp.reporting.document.blocks import Code, Figure, Items, Links, Medium, Table, Text

if TYPE_CHECKING:
    from fnnexp.reporting.document.blocks import Block, Document, Section


def render(document: Document) -> str:
    """Return the document as Markdown, with all text from the store escaped."""
    paragraphs = [f"# {escaped(document.title)}"]
    for section in document.sections:
        paragraphs += _section(section)
    return "\n\n".join(paragraphs) + "\n"


def _section(section: Section) -> list[str]:
    blocks = section.shown_in(Medium.MARKDOWN)
    return [f"## {escaped(section.title)}", *map(_block, blocks)] if blocks else []


def _block(block: Block) -> str:
    match block:
        case Text():
            return escaped(f"{block.text} {block.code}".strip())
        case Code():
            return f"    {' '.join(block.text.splitlines())}"  # an indented block needs no escaping
        case Items():
            return "\n".join(f"- {escaped(text)}" for text in block.texts)
        case Links():
            return escaped(f"{block.text} {', '.join(block.files)}.")
        case Figure():
            return f"![{escaped(block.caption)}]({block.name}.png)"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    rule = ["---:" if table.is_number(i) else "---" for i in range(len(table.head))]
    rows = [[escaped(cell.text) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in (map(escaped, table.head), rule, *rows)]
    title = f"### {escaped(table.title)}\n\n" if table.title else ""
    rest = f"\n\n{escaped(table.rest)}" if table.rest else ""
    return title + "\n".join(lines) + rest


def escaped(text: str) -> str:
    r"""Escape the characters of a text that Markdown would interpret.

    >>> escaped("a|b <b> relu_100 *")
    'a\\|b &lt;b> relu_100 \\*'
    """
    flat = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
    return re.sub(r"([\\`*\[\]|])", r"\\\1", flat)
