"""Ctrl-C and SIGTERM: the first is a wish that the sweep's loop looks at, the second leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """A context in which the first signal calls ``wish`` and each further one raises KeyboardInterrupt.

    The books are so never cut short by the first: nothing is raised in the middle of them. Outside the main
    thread, which alone may handle signals, it does nothing.
    """

    def __init__(self, wish: Callable[[], None]) -> None:
        self._wish = wish
        self._wished = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._wished:
            raise KeyboardInterrupt
        self._wished = True
        self._wish()
