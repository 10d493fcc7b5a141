"""Convert a figure to a picture in a notebook, to SVG for the page, and to PNG and SVG files."""

from __future__ import annotations

import io
import math
import re
import threading
from html import escape

from matplotlib.figure import Figure

from fnnexp import console as notebook
from fnnexp.reporting.document import blocks
from fnnexp.reporting.plots.style import INK

NOTEBOOK_WIDTH, MOST_ZOOM = 900, 1.7  # pixels of a notebook column; the largest zoom of a small figure

_LOCK = threading.Lock()
"""Held while Matplotlib's settings are changed, because all threads share them."""


class Picture(Figure):
    """A figure that a notebook shows enlarged, to be readable on a projector, and on white in any theme."""

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
) -> blocks.Figure:
    """Return the figure as a block of a document.

    Parameters
    ----------
    name, number
        The name of the files, and a number to tell figures with the same name apart.
    caption, heading, media
        As for :class:`fnnexp.reporting.document.blocks.Figure`.
    label
        The text for screen readers; by default the name and the heading.
    """
    label = label or f"{name} {heading}".replace("_", " ").strip()
    file = name if number is None else f"{name}_{number}"
    return blocks.Figure(file, caption, svg(figure, label), png(figure), heading, media)


def is_figure(value: object) -> bool:
    """Return whether a value is a figure of Matplotlib."""
    return isinstance(value, Figure)


def png(figure: Figure, dpi: int = 150) -> bytes:
    """Return the figure as a PNG on white, for programs that do not read SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg_file(svg: str) -> str:
    """Return the text of an SVG file from an inline SVG, with dark lines on white in any viewer."""
    style = "<style>:root { color: #1c2127; background: #fff }</style>"
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
    text = text.replace(
        "<svg ", f'<svg role="img" aria-label="{escape(label)}" style="max-width:{width}px" ', 1
    )
    return text.replace(INK, "currentColor")
