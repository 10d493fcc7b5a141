"""Output on terminals of any encoding, and in notebooks: plain lines, a line that is replaced, and images."""

from __future__ import annotations

import codecs
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TextIO, cast

from fnnexp.errors import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

LOOKALIKES = {
    "−": "-", "–": "-", "×": "x", "·": "|", "…": "...", "→": "->", "±": "+-", "≤": "<=", "≥": ">=", "²": "^2",
    "√": "sqrt ", "ε": "epsilon", "β": "beta", "γ": "gamma", "η": "eta", "λ": "lambda", "μ": "mu", "ρ": "rho",
    "Σ": "sum ", "₁": "1", "₂": "2", "′": "'", "━": "=", "╌": "-",
    **{chr(dots): "*" for dots in range(0x2800, 0x2900)},
}  # fmt: skip
"""ASCII replacements for the characters that fnnexp prints, in encodings that lack them. The last ones are
the dots of rich's spinner."""


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks: by entries of LOOKALIKES, or else by escape sequences.

    This is an error handler for `codecs.register_error`.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    replaced = (LOOKALIKES.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters)
    return "".join(replaced), error.end


ENCODE_ERRORS = "fnnexp.lookalikes"
"""The name of this error handler, for the argument `errors` of streams and `str.encode`."""

codecs.register_error(ENCODE_ERRORS, _replace)


class AnyText:
    r"""A stream that writes to another stream, and replaces characters that the other's encoding lacks.

    >>> import io
    >>> ascii = io.TextIOWrapper(io.BytesIO(), "ascii")
    >>> _ = AnyText(ascii).write("−1 × Zoë")
    >>> _ = ascii.seek(0)
    >>> ascii.read()
    '-1 x Zo\\xeb'
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, with characters that the encoding lacks replaced."""
        encoding = self._stream.encoding or "utf-8"
        self._ignore_full_disk(self._stream.write, text.encode(encoding, ENCODE_ERRORS).decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._ignore_full_disk(self._stream.flush)

    def _ignore_full_disk(self, call: Callable[..., Any], *arguments: str) -> None:
        """Call a function and ignore a full disk, so that the work continues."""
        try:
            call(*arguments)
        except OSError as error:
            if isinstance(error, BrokenPipeError):  # rich handles a closed pipe
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def terminal(**options: Any) -> Console:
    """Return a console on standard output that prints any text safely, in any encoding.

    Control characters in the text are escaped. If the reader of the output ends, as after `| head`, the
    console turns silent and the work continues. `options` are passed to `rich.console.Console`.
    """
    from rich.console import Console  # not at the top: workers do not need it

    class Terminal(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

        def on_broken_pipe(self) -> None:
            with suppress(SystemExit):  # rich would end the program if nobody reads the output
                super().on_broken_pipe()

    stream = cast("TextIO", AnyText(sys.stdout)) if sys.stdout else None
    console = Terminal(file=stream, **options)
    if console.width < 1:  # the environment has COLUMNS=0
        console.width = 80
    return console


def columns(text: str) -> int:
    r"""Return how many columns of a terminal a text takes: a wide character two, and a combining one none.

    >>> columns("ant"), columns("\u732b"), columns("e\u0301")
    (3, 2, 1)
    """
    from rich.cells import cell_len

    return cell_len(text)


def padded(text: str, width: int) -> str:
    r"""Return the text, with spaces at its end if it takes fewer columns than `width`.

    >>> padded("ant", 5), padded("\u732b", 4) == "\u732b  "
    ('ant  ', True)
    """
    return text + " " * (width - columns(text))


def fitted(text: str, width: int) -> str:
    r"""Return as many of the text's first characters as fit into `width` columns.

    >>> fitted("anthill", 3), fitted("\u732b\u732b", 3) == "\u732b"
    ('ant', True)
    """
    ends = accumulate(map(columns, text))
    return text[: sum(end <= width for end in ends)]


def print_plain(console: Console, text: str) -> None:
    """Print a text as it is: without markup or colours, and with lines of any length."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class _PlainText:
    """Text that a notebook displays and saves without quotes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, where a display can be replaced."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


def line() -> Callable[[str], None] | None:
    """Return a function that shows a text in a notebook's output, in place of its text before.

    The function needs no widgets. The notebook is saved with the last text. Return None outside of a
    notebook.
    """
    if not in_notebook():
        return None
    from IPython.display import display

    handle = display(_PlainText(""), display_id=True)

    def show(text: str) -> None:
        handle.update(_PlainText(text))

    return show


def picture(png: bytes, width: int, height: int) -> None:
    """Show a PNG with a width and height in CSS pixels; a PNG with more pixels is sharper on fine screens."""
    from IPython.display import Image, display

    display(Image(png, width=width, height=height))


BETWEEN_LINES, BETWEEN_UPDATES = 10.0, 0.2
"""Seconds between two plain lines and between two updates of a terminal, in :func:`while_doing`."""


@contextmanager
def while_doing(what: str, console: Console) -> Iterator[Callable[[str], None]]:
    """Show the text `what` on a terminal while the block runs, and remove it at the end.

    Yield a function that shows another text. In a file or a notebook, which show nothing at first, it
    prints a plain line at most every :data:`BETWEEN_LINES` seconds.
    """
    shown_at = time.monotonic()
    if not console.is_interactive:

        def say(text: str) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at >= BETWEEN_LINES:
                print_plain(console, text)
                shown_at = time.monotonic()

        yield say
        return
    from rich.control import Control
    from rich.segment import ControlType

    to_the_left = Control(ControlType.CARRIAGE_RETURN)
    width = 0

    def show(text: str) -> None:
        nonlocal width
        line = fitted(f"{text} …", console.width - 1)  # a line that wraps could not be removed
        console.print(padded(line, width), style="dim", markup=False, highlight=False, end="")
        console.control(to_the_left)
        width = columns(line)

    def update(text: str) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= BETWEEN_UPDATES:
            show(text)
            shown_at = time.monotonic()

    try:
        show(what)
        yield update
    finally:
        console.control(to_the_left)
        console.print(" " * width, end="")
        console.control(to_the_left)


def bar(fraction: float, width: int = 30) -> str:
    """Return a progress bar of which this fraction is full, clipped to 0 and 1.

    >>> bar(0.5, 6), bar(0, 2), bar(1, 2)
    ('━━━╌╌╌', '╌╌', '━━')
    """
    full = int(width * min(max(fraction, 0.0), 1.0))
    return "━" * full + "╌" * (width - full)


@contextmanager
def without_widget_warnings() -> Iterator[None]:
    """Suppress the warnings of imported libraries about missing widgets, which fnnexp does not use."""
    if not in_notebook():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield


@contextmanager
def without_messages(*loggers: str) -> Iterator[None]:
    """Suppress warnings, and all but critical messages of the loggers with these names."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in loggers:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
