"""In a Jupyter notebook: a line that changes in place while long work goes on, and pictures."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Shown:
    """Text that a notebook shows, and keeps, as it is: without quotes and without control characters."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def is_here() -> bool:
    """Whether this process is a notebook's kernel, where a display can be replaced by another."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


def line() -> Callable[[str], None] | None:
    """Return a function that shows a line, and at its next call another in its place; elsewhere None.

    It needs no widgets: what a notebook is saved with is the last line.
    """
    if not is_here():
        return None
    from IPython.display import display

    handle = display(_Shown(""), display_id=True)

    def show(text: str) -> None:
        handle.update(_Shown(text))

    return show


def picture(png: bytes, width: int, height: int) -> None:
    """Show a PNG so many pixels wide and high; a finer one is sharp also where a screen is."""
    from IPython.display import Image, display

    display(Image(png, width=width, height=height))


def bar(part: float, width: int = 30) -> str:
    """Return a bar of which so large a part is full.

    >>> bar(0.5, 6), bar(0, 2), bar(1, 2)
    ('━━━╌╌╌', '╌╌', '━━')
    """
    full = int(width * min(max(part, 0.0), 1.0))
    return "━" * full + "╌" * (width - full)


@contextmanager
def no_word_of_widgets() -> Iterator[None]:
    """Let no library that is imported meanwhile warn that there are no widgets: our bars need none."""
    if not is_here():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield
