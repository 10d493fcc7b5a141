"""Ctrl-C and SIGTERM: the first asks the sweep to stop after its segments, the second leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(ask: Callable[[], None]) -> Iterator[None]:
    """Call ``ask`` at the first signal, and raise KeyboardInterrupt at each further one.

    So the first never cuts the logging of a segment short. Outside the main thread, which alone may handle
    signals, the context does nothing; nor where a handler is not Python's, which could not be put back.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        ask()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in SIGNALS if signal.getsignal(number) is not None]
    before = {number: signal.signal(number, handle) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
