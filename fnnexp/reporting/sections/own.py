"""The user's own sections of a report, which :func:`fnnexp.pieces.section` announces."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from fnnexp.errors import printable, raised
from fnnexp.pieces.registry import announced
from fnnexp.reporting.document.blocks import MOST_ROWS, Block, Cell, Section, Table, Text
from fnnexp.reporting.plots import picture
from fnnexp.results.factors import as_text

EXPECTED = "a text, a pandas frame, a Matplotlib figure, or a list of these"


def sections(runs: pd.DataFrame) -> list[Section]:
    """Return the report sections that the user's own functions make of a frame of runs.

    A function that fails gets a sentence with its exception, so that the rest of the report is written.
    """
    return [_section(i, piece.name, piece.value, runs) for i, piece in enumerate(announced("section"), 1)]


def _section(i: int, title: str, function: Any, runs: pd.DataFrame) -> Section:
    """Return the section that a user's function makes of a frame of runs.

    The number `i` gives its files other names than those of any other section.
    """
    blocks: list[Block] = []
    data: dict[str, pd.DataFrame] = {}
    name = f"own_{i}_{re.sub(r'[^a-z0-9]+', '_', title.lower()).strip('_')}".rstrip("_")
    try:
        returned = function(runs.copy())
        for number, part in enumerate(returned if isinstance(returned, list | tuple) else [returned]):
            file = name if number == 0 else f"{name}_{number + 1}"
            if isinstance(part, pd.DataFrame):
                blocks.append(_table(part, f"{file}.csv"))
                data[file] = part
            else:
                blocks += _blocks(part, file)
    except (Exception, SystemExit) as error:
        return Section(title, [Text(f"This section failed: {printable(raised(error))}")])
    return Section(title, blocks, data)


def _blocks(part: Any, file: str) -> list[Block]:
    """Return the blocks of a text (a paragraph each) or of a figure; raise for anything else."""
    if isinstance(part, str):
        paragraphs = re.split(r"\n\s*\n", part.strip())
        return [Text(" ".join(paragraph.split())) for paragraph in paragraphs]
    if picture.is_figure(part):
        return [picture.block(part, file, "")]
    raise TypeError(f"the function returned a {type(part).__name__}; it must return {EXPECTED}")


def _table(frame: pd.DataFrame, file: str) -> Table:
    """Return a frame as a table; its index is shown if it has a name."""
    shown = frame.reset_index() if frame.index.name or frame.index.nlevels > 1 else frame
    texts = [not pd.api.types.is_numeric_dtype(dtype) for dtype in shown.dtypes]
    names = texts.index(False) if False in texts else len(texts)
    first = shown.head(MOST_ROWS).itertuples(index=False)
    rows = [[Cell(as_text(value)) for value in row] for row in first]
    head = [str(column) for column in shown.columns]
    return Table("", head, rows, names, folds=True, file=file, total=len(shown))
