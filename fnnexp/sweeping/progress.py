"""One progress bar over the whole sweep on a terminal or in a notebook; elsewhere plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fnnexp import console as notebook

SECONDS_BETWEEN_LINES = 10.0
"""Between two plain lines."""

SECONDS_IN_A_NOTEBOOK = 0.2
"""Between two states of a notebook's line."""


class SweepProgress:
    """Shows the epochs and trials that are done, the failures, the best trial so far, and the time left.

    Parameters
    ----------
    console
        Where to write.
    epochs, trials
        How many there are in all.
    clock
        Returns the seconds since some moment.
    """

    def __init__(
        self, console: Console, *, epochs: int, trials: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console, self.clock = console, clock
        self.epochs, self.trials = epochs, trials
        self.epochs_done = self.trials_done = self.failed = 0
        self.best = ""
        self._best_value = float("-inf")
        self._began = self._said = clock()
        self._bar: _Bar | None = None
        self._line = None if console.is_terminal else notebook.line()
        if console.is_terminal:
            self._bar = _Bar(
                TextColumn("[bold]epochs"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
                expand=True,
            )
            self._bar.note = self._trials()
            self._task = self._bar.add_task("epochs", total=epochs)

    def __enter__(self) -> SweepProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def epoch(self, count: int = 1) -> None:
        """Count epochs of trials."""
        self.epochs_done += count
        self._show()

    def done(self, name: str, value: float, metric: str) -> None:
        """Count a trial that ended, with the metric that ranks it."""
        self.trials_done += 1
        if value > self._best_value:
            self._best_value = value
            self.best = f"best {metric} {value:.4f} {name}"
        self._show()

    def failure(self) -> None:
        """Count a trial that failed."""
        self.failed += 1
        self._show()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _trials(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        best = f" · {self.best}" if self.best else ""
        return f"trials {self.trials_done}/{self.trials}{failed}{best}"

    def _show(self) -> None:
        if self._bar:
            self._bar.note = self._trials()
            self._bar.update(self._task, completed=self.epochs_done)
            return
        now, finished = self.clock(), self.trials_done + self.failed == self.trials
        if finished or now - self._said >= (SECONDS_IN_A_NOTEBOOK if self._line else SECONDS_BETWEEN_LINES):
            self._said = now
            epochs, left = f"epochs {self.epochs_done}/{self.epochs}", self._left(now)
            if self._line:
                self._line(f"{notebook.bar(self.epochs_done / self.epochs)} {epochs}{left}\n{self._trials()}")
            else:
                self.say(f"{epochs} · {self._trials()}{left}")

    def _left(self, now: float) -> str:
        if not self.epochs_done:
            return ""
        seconds = (now - self._began) * (self.epochs - self.epochs_done) / self.epochs_done
        return f" · {seconds:.0f} s left" if seconds else f" · {now - self._began:.0f} s"


class _Bar(Progress):
    """A bar with a line of its own below it, so that a long name does not squeeze the bar."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bar and the line."""
        yield from super().get_renderables()
        yield Text(self.note, no_wrap=True, overflow="ellipsis")
