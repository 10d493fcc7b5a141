"""Convert a figure to a picture in a notebook, to SVG for the page, and to PNG and SVG files."""

from __future__ import annotations

import base64
import io
import math
import re
import threading
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from fnnexp import console as notebook
from fnnexp.reporting.document import blocks
from fnnexp.reporting.plots.style import DARKEST, INK, LIGHTEST, SHADES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

NOTEBOOK_WIDTH, MOST_ZOOM = 900, 1.7  # pixels of a notebook column; the largest zoom of a small figure

MARK, NAME = "mark-", "name-"
"""The prefixes of the ids of elements that stand for options, and of texts that name an option."""

SVG_DPI = 72  # Matplotlib writes SVG in points

_LOCK = threading.Lock()
"""Held while Matplotlib's settings are changed, because all threads share them."""


class Drawn(NamedTuple):
    """What :func:`mark` records: points or a cell on some axes, in data coordinates, and what they show."""

    ax: Axes
    artists: Sequence[Artist]
    options: Mapping[str, str]
    quantity: str
    x: Sequence[float]
    y: Sequence[float]
    values: Mapping[str, Sequence[Any]]
    size: tuple[float, float] | None
    single: str
    names: Sequence[Artist]


class Picture(Figure):
    """A figure that a notebook shows enlarged, to be readable on a projector, and on white in any theme.

    Attributes
    ----------
    drawn
        What :func:`mark` recorded.
    notes
        Sentences for its caption on what only some figures of the kind show.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.drawn: list[Drawn] = []
        self.notes: list[str] = []

    def _ipython_display_(self) -> None:
        """Show the figure. IPython calls this method instead of using the formats that pyplot registers."""
        zoom = min(max(NOTEBOOK_WIDTH / (96 * self.get_figwidth()), 1.0), MOST_ZOOM)
        width, height = (round(96 * zoom * inches) for inches in self.get_size_inches())
        notebook.picture(png(self, dpi=round(2 * 96 * zoom)), width, height)


def block(
    figure: Figure,
    name: str,
    caption: str,
    heading: str = "",
    *,
    number: int | None = None,
    label: str = "",
    media: blocks.Medium = blocks.FILES,
    about: Mapping[str, str] = MappingProxyType({}),
) -> blocks.Figure:
    """Return the figure as a block of a document.

    Parameters
    ----------
    name, number
        The name of the files, and a number to tell figures with the same name apart.
    caption, heading, media
        As for :class:`fnnexp.reporting.document.blocks.Figure`; the notes of the figure follow the caption.
    label
        The text for screen readers; by default the heading and the first sentence of the caption.
    about
        The options, by factor, that all trials in the figure share.
    """
    first = re.split(r"(?<=\.) (?=[A-Z])", caption)[0]
    label = label or ": ".join(filter(None, [heading, first])) or name.replace("_", " ")
    file = name if number is None else f"{name}_{number}"
    drawn = getattr(figure, "drawn", [])
    options = _tagged(figure, drawn)
    text, image = svg(figure, label), png(figure)
    marks = [_placed(figure, each, options.index({**each.options})) for each in drawn]
    options = [{**about, **each} for each in options]
    caption = " ".join([caption, *getattr(figure, "notes", [])])
    return blocks.Figure(file, caption, text, image, heading, media, options, marks)


def mark(
    ax: Axes,
    artists: Sequence[Artist],
    options: Mapping[str, str],
    quantity: str,
    x: Sequence[float],
    y: Sequence[float],
    values: Mapping[str, Sequence[Any]],
    *,
    size: tuple[float, float] | None = None,
    single: str = "",
    names: Sequence[Artist] = (),
) -> None:
    """Record what some artists show: options of factors, and the exact values of points.

    With these, the page highlights an option in all figures, and shows values under the mouse pointer.

    Parameters
    ----------
    x, y, size
        The data coordinates of the points, and the size of the cell if the mark is a cell.
    names
        Further texts that name the options. Titles, labels and legends that are the name of an option are
        found without this.
    options, quantity, values, single
        As for :class:`fnnexp.reporting.document.blocks.Mark`.
    """
    figure = ax.figure
    if isinstance(figure, Picture):
        figure.drawn.append(Drawn(ax, artists, options, quantity, x, y, values, size, single, names))


def _tagged(figure: Figure, drawn: Sequence[Drawn]) -> list[dict[str, str]]:
    """Return the different options of all marks, and number the artists and texts that show them.

    The number, in an artist's id, is an index of the returned list. Titles, labels and legends that are names
    of options get a number too.
    """
    options: list[dict[str, str]] = []
    for each in drawn:
        if each.options not in options:
            options.append({**each.options})
        number = options.index({**each.options})
        for prefix, artists in ((MARK, each.artists), (NAME, each.names)):
            for artist in artists:
                artist.set_gid(f"{prefix}{number}")
    factors = {label: factor for each in options for factor, label in each.items()}
    for text, handle in _texts(figure):
        parts = text.get_text().split(" · ")
        if not text.get_gid() and all(part in factors for part in parts):
            named = {factors[part]: part for part in parts}
            options += [] if named in options else [named]
            text.set_gid(f"{NAME}{options.index(named)}")
            if handle is not None:
                handle.set_gid(f"{MARK}{options.index(named)}")
    return options


def _texts(figure: Figure) -> Iterator[tuple[Text, Artist | None]]:
    """Yield each text of a figure with the symbol beside it, if it is in a legend, or else with None."""
    for legend in figure.legends:
        yield from zip(legend.get_texts(), legend.legend_handles, strict=True)
    for ax in figure.axes:
        for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):  # these calls also set the texts
            yield label, None
        yield from ((text, None) for text in ax.get_children() if isinstance(text, Text))
    yield from ((text, None) for text in figure.texts)


def _placed(figure: Figure, each: Drawn, option: int) -> blocks.Mark:
    """Return a mark for the page, with its data coordinates converted to those of the SVG.

    These count from the top left corner. Points beyond the axes are moved to the edge of the axes. `option`
    is the index of the mark's options.
    """
    each.ax.get_xlim(), each.ax.get_ylim()  # Matplotlib computes the limits only in these calls
    unit = SVG_DPI / figure.dpi
    high = SVG_DPI * figure.get_figheight()
    box = np.array(each.ax.bbox.extents) * unit
    points = np.column_stack([each.x, each.y]).astype(np.float64)
    places = np.clip(each.ax.transData.transform(points) * unit, box[:2], box[2:]).round(1)
    size = None
    if each.size is not None:
        corners = each.ax.transData.transform([(0, 0), each.size]) * unit
        size = (round(abs(corners[1, 0] - corners[0, 0]), 1), round(abs(corners[1, 1] - corners[0, 1]), 1))
    x, y = places[:, 0].tolist(), (high - places[:, 1]).round(1).tolist()
    return blocks.Mark(option, each.quantity, x, y, each.values, size, each.single)


def is_figure(value: object) -> bool:
    """Return whether a value is a figure of Matplotlib."""
    return isinstance(value, Figure)


def png(figure: Figure, dpi: int = 150) -> bytes:
    """Return the figure as a PNG on white, for programs that do not read SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg_file(svg: str) -> str:
    """Return the page's SVG element as the text of an SVG file, dark on white in light and dark viewers."""
    style = "<style>:root { color: #1c2127; background: #fff }</style>"
    svg = re.sub(r"<style data-shades.*?</style>", "", svg)
    svg = re.sub(r"var\(--\w+, (#[0-9a-f]{6})\)", r"\1", re.sub(r' data-\w+="\d*"', "", svg))
    return '<?xml version="1.0" encoding="utf-8"?>\n' + re.sub(r"(<svg[^>]*>)", rf"\1{style}", svg, count=1)


def svg(figure: Figure, label: str) -> str:
    """Return the figure as an SVG element for the page, with a label for screen readers."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with _LOCK, mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # The style below sets the size of the figure, so remove the size that matplotlib wrote in points.
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt" height="[\d.]+pt"', r"\1", text.replace("\n", " "), count=1)
    width = math.ceil(figure.get_figwidth() * 96)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" style="width:{width}px" ', 1)
    if any(artist.get_rasterized() for artist in figure.findobj()):
        text = re.sub(r"<svg ([^>]*>)", rf'<svg class="raster" \1{REVERSED}', text, count=1)
    text = re.sub(rf' id="{MARK}(\d+)"', r' data-o="\1"', text)
    text = re.sub(rf' id="{NAME}(\d+)"', r' data-o="\1" data-name=""', text)
    text = re.sub(r"(?<=data:image/png;base64,)\s*[\w+/=\s]+", _with_palette, text)
    return _with_shades(text.replace(INK, "currentColor"))


def _with_palette(match: re.Match[str]) -> str:
    """Return a PNG in base 64, made smaller by a palette if it has at most 256 colours.

    `match` is that of a pattern that finds the PNG in an SVG.
    """
    image = Image.open(io.BytesIO(base64.b64decode(match[0]))).convert("RGBA")
    colours, places = np.unique(np.asarray(image).reshape(-1, 4), axis=0, return_inverse=True)
    if len(colours) > 256:
        return match[0]
    indexed = Image.fromarray(places.reshape(image.height, image.width).astype(np.uint8), "P")
    indexed.putpalette(colours[:, :3].tobytes())
    buffer = io.BytesIO()
    indexed.save(buffer, "PNG", transparency=colours[:, 3].tobytes(), optimize=True)
    return min(base64.b64encode(buffer.getvalue()).decode(), match[0], key=len)


REVERSED = (
    '<filter id="reversed" color-interpolation-filters="sRGB"><feComponentTransfer>'
    + "".join(
        f'<feFunc{channel} type="linear" slope="-1" intercept="{light + dark:.3f}"/>'
        for channel, light, dark in zip("RGB", LIGHTEST, DARKEST, strict=True)
    )
    + "</feComponentTransfer></filter>"
)
"""A filter that exchanges light and dark shades in an image of cells, for a dark page."""


def _with_shades(text: str) -> str:
    """Return an SVG whose shades are reversed on a dark page, so that the best cells stand out there too.

    To this end, the colours in :data:`SHADES` become CSS variables.
    """
    used: dict[str, str] = {}

    def variable(match: re.Match[str]) -> str:
        colour = match[2]
        if colour not in SHADES:
            return match[0]
        name, used[name] = SHADES[colour]
        return f"{match[1]}: var(--{name}, {colour})"

    text = re.sub(r"(fill|stroke): (#[0-9a-f]{6})", variable, text)
    if not used:
        return text
    dark = "; ".join(f"--{name}: {colour}" for name, colour in sorted(used.items()))
    rules = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    return re.sub(r"(<svg[^>]*>)", rf"\1<style data-shades=''>{rules}</style>", text, count=1)
