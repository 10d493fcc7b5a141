"""Ctrl-C and SIGTERM: the first stops a sweep after the epochs in training, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(request_stop: Callable[[], None]) -> Iterator[None]:
    """Call ``request_stop`` at the first Ctrl-C or SIGTERM, and raise KeyboardInterrupt at every later one.

    So the first signal never interrupts the logging of results. The context does nothing outside the main
    thread, since Python handles signals only there. It does not change a handler that was installed outside
    of Python, since such a handler could not be restored.
    """
    requested = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True
        request_stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaceable = [number for number in SIGNALS if signal.getsignal(number) is not None]
    previous = {number: signal.signal(number, handle) for number in replaceable}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
