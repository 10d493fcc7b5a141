"""What is shown: any text in any terminal, also one that goes; in a notebook a changing line and pictures."""

from __future__ import annotations

import codecs
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from fnnexp.errors import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

LOOKALIKES = {
    "−": "-", "–": "-", "×": "x", "·": "|", "…": "...", "→": "->", "±": "+-", "≤": "<=", "≥": ">=", "²": "^2",
    "√": "sqrt ", "ε": "epsilon", "━": "=", "╌": "-", **{chr(dots): "*" for dots in range(0x2800, 0x2900)},
}  # fmt: skip
"""What stands for our own characters where an encoding lacks them; the last are a spinner's."""


def _lookalikes(error: UnicodeError) -> tuple[str, int]:
    """Handle what an encoding lacks, as `codecs.register_error` asks: any other character is written out."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    shown = (LOOKALIKES.get(each) or each.encode("ascii", "backslashreplace").decode() for each in lacking)
    return "".join(shown), error.end


LACKING = "fnnexp.lookalikes"
"""The name of the way to encode, as an argument `errors` takes it."""

codecs.register_error(LACKING, _lookalikes)


class AnyText:
    r"""A stream that is written to as another, but takes what the other's encoding lacks.

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
        """Write the text; what the encoding lacks is a lookalike or written out."""
        encoding = self._stream.encoding or "utf-8"
        self._unless_full(self._stream.write, text.encode(encoding, LACKING).decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._unless_full(self._stream.flush)

    def _unless_full(self, call: Callable[..., Any], *given: str) -> None:
        """Call, and let a full disk behind the stream pass: the work goes on. rich notices a closed pipe."""
        try:
            call(*given)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def terminal(**how: Any) -> Console:
    """Return a console on standard output; no text of a store steers it, and no encoding stops it.

    It turns silent when nobody reads it any more, as behind `| head`: the work goes on. `how` goes to
    `rich.console.Console`.
    """
    from rich.console import Console  # workers do without

    class Terminal(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for each in super().render(renderable, options):
                yield each if each.control else each._replace(text=printable(each.text))

        def on_broken_pipe(self) -> None:
            with suppress(SystemExit):  # turn silent, without rich's exit
                super().on_broken_pipe()

    there = cast("TextIO", AnyText(sys.stdout)) if sys.stdout else None
    console = Terminal(file=there, **how)
    if console.width < 1:  # COLUMNS=0
        console.width = 80
    return console


class _Shown:
    """Text that a notebook shows, and keeps, as it is: without quotes and without control characters."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, where a display can be replaced by another."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


def line() -> Callable[[str], None] | None:
    """Return a function that shows a line, and at its next call another in its place; elsewhere None.

    It needs no widgets: what a notebook is saved with is the last line.
    """
    if not in_notebook():
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
def without_widget_warnings() -> Iterator[None]:
    """Let no library that is imported meanwhile warn that there are no widgets: our bars need none."""
    if not in_notebook():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield
