"""Render a document as one self-contained HTML page, to open offline, to work in, or to print.

Sorting, filtering and the values under the mouse pointer are added by `page.js`, which the page contains.
Without scripts the page shows the same content. It may run no other script and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fnnexp.reporting.document.blocks import Figure, Medium

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jinja2 import Template

    from fnnexp.reporting.document.blocks import Block, Cell, Document, Table

ROWS_OPEN = 12
"""A table with `folds` and more rows than this is collapsed."""

MOST_POINTS = 10_000
"""The largest number of points of a page that have exact values. If there are more, only every n-th has."""

MOST_OF_TRIALS = 10_000
"""The largest number of points of a page in curves of single trials. If there are more, they are thinned."""

MOST_THINNED = 20
"""If thinning would keep fewer than one in this many points of single trials, the page has no such curves."""


class Steps(NamedTuple):
    """How many points of figures have exact values on the page, which keeps the page small.

    Every `means`-th point of a mean has them, and every `trials`-th point of a single trial's curve; if
    `trials` is 0, there are no such curves.
    """

    means: int
    trials: int


def render(document: Document, template: str = "page.html") -> str:
    """Return the document as an HTML page. The template escapes all text and embeds figures as SVG."""
    sections = [(section.title, section.shown_in(Medium.PAGE)) for section in document.sections]
    shown = [(title, blocks) for title, blocks in sections if blocks]
    titles = [title for title, _ in shown]
    steps = _steps(block for _, blocks in shown for block in blocks)
    return _template(template).render(
        title=document.title,
        sections=[
            (anchor, title, [(type(block).__name__, block) for block in blocks])
            for anchor, (title, blocks) in zip(_anchors(titles), shown, strict=True)
        ],
        rows_open=ROWS_OPEN,
        letters=set(),
        styles={},
        steps=steps,
        script=Markup(_script()),
        checksum=base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode(),
    )


@cache
def _script() -> str:
    return Path(__file__).with_name("page.js").read_text(encoding="utf-8")


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "column_classes": _column_classes,
        "cell_html": _cell_html,
        "drawing": _drawing,
        "marks": _marks,
        "table_class": _table_class,
    }
    return environment.get_template(name)


def _anchors(titles: Sequence[str]) -> list[str]:
    """Return an anchor for each title, which depends on the title alone unless a title occurs twice.

    >>> _anchors(["The answer", "By init/arch", "The answer", "!"])
    ['the-answer', 'by-init-arch', 'the-answer-2', 'section']
    """
    anchors: list[str] = []
    for title in titles:
        base = re.sub(r"\W+", "-", title.lower()).strip("-") or "section"
        anchor, number = base, 1
        while anchor in anchors:
            number += 1
            anchor = f"{base}-{number}"
        anchors.append(anchor)
    return anchors


def _column_classes(table: Table) -> list[Markup]:
    """Return the HTML attribute for the cells of each column, as ` class='n'` for numbers."""
    return [
        Markup("") if not names else Markup(" class='{}'").format(names)
        for names in (_column_class(table, i) for i in range(len(table.head)))
    ]


MOST_ON_A_LINE = 24
"""Numbers with more characters than this, such as those of many layers, may be broken into lines."""


def _column_class(table: Table, column: int) -> str:
    """Return the names of the classes of a column's cells, "" if they are of no class."""
    if not table.is_number(column):
        return "verdict" if table.head[column] == "verdict" else ""
    longest = max((len(row[column].text) for row in table.rows), default=0)
    return "n long" if longest > MOST_ON_A_LINE else "n"


MOST_UNBROKEN, MOST_WIDE = 40, 112
"""If no text of a table is longer than this, and the table is not wider, its names are not broken into lines
on a screen. Both are in characters."""


def _table_class(table: Table) -> Markup:
    """Return the class attribute of a table: `whole` if its cells stay on one line."""
    lengths = [[len(row[i].text) for row in table.rows] for i in range(len(table.head))]
    longest = [
        max([*of_column, *map(len, name.split())], default=0)
        for name, of_column in zip(table.head, lengths, strict=True)
    ]
    is_short = max(map(max, filter(None, lengths)), default=0) <= MOST_UNBROKEN
    return Markup(" class='whole'" if is_short and sum(longest) + 2 * len(longest) <= MOST_WIDE else "")


def _cell_html(cell: Cell) -> Markup:
    """Return the content of a table cell as HTML.

    A number gets its exact value, by which the page sorts. A name with a long word may be broken into lines
    after each `_`, where a table would be wider than the page.
    """
    if cell.value is None or math.isnan(cell.value):
        text = Markup.escape(cell.text)
        is_long = max(map(len, cell.text.split()), default=0) > MOST_ON_A_LINE
        return text.replace("_", Markup("_<wbr>")) if is_long else text
    return Markup("<data value='{}'>{}</data>").format(repr(float(cell.value)), cell.text)


def _drawing(figure: Figure, letters: set[str], styles: dict[str, str]) -> Markup:
    """Return the SVG of a figure for the page, shortened to about half of its characters.

    Numbers are rounded. The ids of groups are removed, because nothing uses them. `style` attributes become
    classes, which are added to `styles`. The shapes of letters that an earlier figure of the page has defined
    are omitted; those of this figure are added to `letters`.
    """
    svg = re.sub(r"<g id=\"[A-Za-z]+[\w.]*_\d+\">", "<g>", re.sub(r">\s+<", "><", figure.svg))
    svg = re.sub(r'(?<= d=")[^"]*', _short_path, svg)
    svg = re.sub(r' [xy]="[^"]*"', lambda place: re.sub(NUMBER, _short, place[0]), svg)

    def as_class(style: re.Match[str]) -> str:
        return f' class="{styles.setdefault(style[1], f"f{len(styles)}")}"'

    root, rest = svg[: (end := svg.find(">") + 1)], svg[end:]
    svg = root + re.sub(r' style="([^"]*)"', as_class, rest)

    def once(shape: re.Match[str]) -> str:
        seen = shape[0] in letters
        letters.add(shape[0])
        return "" if seen else shape[0]

    return Markup(re.sub(r'<path id="[\w.-]+" d="[^"]*" transform="scale\([\d.]+\)"/>', once, svg))


NUMBER = r"-?\d+\.\d{2,}"
"""A number with more decimals than a page needs; a unit of an SVG is more than a pixel."""


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _short_path(path: re.Match[str]) -> str:
    """Return the `d` attribute of an SVG path, rounded and without the L commands that SVG implies."""
    digits = 1 if len(path[0]) > LONG_PATH else 2
    text = re.sub(NUMBER, lambda number: f"{float(number[0]):.{digits}f}".rstrip("0").rstrip("."), path[0])
    parts, before = [], ""
    for command, numbers in re.findall(r"([MLHVCSQTAZz])([^MLHVCSQTAZz]*)", text):
        follows = command == "L" and before in ("M", "L")
        parts.append(("" if follows else command) + " ".join(numbers.split()))
        before = command
    return " ".join(parts).replace(" -", "-")


LONG_PATH = 300
"""Paths with more characters than this are lines and bands, not markers."""


# The values that figures show under the mouse pointer


def _steps(blocks: Iterable[Block]) -> Steps:
    means = trials = 0
    for mark in (mark for block in blocks if isinstance(block, Figure) for mark in block.marks):
        means += len(mark.x) if not mark.single else 0
        trials += len(mark.x) if mark.single else 0
    of_trials = math.ceil(trials / MOST_OF_TRIALS)
    return Steps(math.ceil(means / MOST_POINTS), of_trials if of_trials <= MOST_THINNED else 0)


def _marks(figure: Figure, steps: Steps) -> Markup:
    """Return the marks of a figure as JSON for a script element, which an unescaped `<` could end.

    A mark is a list of the index of its kind (its quantity, the names of its numbers and its size), the index
    of its options, one index each for its x, its y and each of its numbers, and its seed if it is a single
    trial. x, y and numbers are indices of lists of values, because many marks have the same list, such as
    that of the epochs.
    """
    lists: dict[str, int] = {}

    def listed(values: Sequence[Any]) -> int:
        return lists.setdefault(json.dumps([*map(_json_value, values)], separators=(",", ":")), len(lists))

    kinds: list[dict[str, Any]] = []
    marks: list[list[Any]] = []
    for mark in figure.marks:
        if not (step := steps.trials if mark.single else steps.means):
            continue
        step = 1 if mark.size else step  # each cell has its value
        kept = range((len(mark.x) - 1) % step, len(mark.x), step)  # the last point is kept
        kind = {"quantity": mark.quantity, "names": [*mark.numbers], "size": mark.size}
        kinds += [] if kind in kinds else [kind]
        places, *numbers = (
            listed([values[i] for i in kept]) for values in (mark.x, mark.y, *mark.numbers.values())
        )
        single = [mark.single] if mark.single else []
        marks.append([kinds.index(kind), mark.option, places, *numbers, *single])
    data = {"options": [*map(dict, figure.options)], "kinds": kinds, "marks": marks, "step": steps.trials}
    text = f'{json.dumps(data, separators=(",", ":"))[:-1]},"lists":[{",".join(lists)}]}}'
    return Markup(text.replace("<", r"\u003c"))


def _json_value(value: Any) -> Any:
    """Return a value as JSON can have it: None for NaN and for the infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
