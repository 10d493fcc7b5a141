"""The progress of a sweep: a bar on a terminal, a line in a notebook, or plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from fnnexp import console as notebook
from fnnexp.console import print_plain
from fnnexp.errors import plural
from fnnexp.sweeping.executor import threads_each
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.resources import estimates
from fnnexp.sweeping.resources.engine import threads_used
from fnnexp.sweeping.terminal.time_left import TimeLeft

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between two plain lines."""

SECONDS_IN_A_NOTEBOOK = 0.2
"""Seconds between two updates of the line in a notebook."""


A_FEW = 5.0
"""The estimate is "a few seconds left" if it is so many seconds or fewer."""


def in_words(seconds: float) -> str:
    """Return an estimate of the time left in words. The longer it is, the more coarsely it is rounded.

    >>> in_words(3.2), in_words(8.4), in_words(43), in_words(7000)
    ('a few seconds left', 'about 8 s left', 'about 45 s left', 'about 1 h 55 min left')
    """
    if seconds <= A_FEW:
        return "a few seconds left"
    return f"about {estimates.in_words(seconds)} left"


def cores_used(stacks: Sequence[PlannedStack], engine: str, n_jobs: int) -> str:
    """Return how many threads train each stack, as ", with 2 threads", if workers are idle; else ""."""
    threads = threads_each(n_jobs, len(stacks))
    if not stacks or threads == 1:
        return ""
    used = {threads_used(stack, engine, threads) for stack in stacks}
    each = " each" if len(stacks) > 1 else ""
    if used == {1}:
        return f", on one core{each}"
    return f", with {' or '.join(map(str, sorted(used)))} threads{each}"


class SweepProgress:
    """Shows the epochs and trials done, the failures, the trial that leads, and the time left.

    Parameters
    ----------
    console
        Where to write.
    epochs, trials
        The total numbers of epochs and of trials.
    quiet
        Whether this is a later round of a sweep: it leaves no lines behind unless it takes long.
    clock
        Returns the seconds since some moment.

    Attributes
    ----------
    time_left
        Estimates the time left; None shows no estimate.
    """

    def __init__(
        self,
        console: Console,
        *,
        epochs: int,
        trials: int,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.clock, self.quiet = console, clock, quiet
        self.epochs, self.trials = epochs, trials
        self.epochs_done = self.trials_done = self.failed = 0
        self.time_left: TimeLeft | None = None
        self._latest: dict[str, Mapping[str, float]] = {}
        self._metric = ""
        self._best: str | None = None
        self._finished: str | None = None  # the best of the finished trials
        self._stage = ""
        self._has_ended = False
        self._began = self._shown_at = clock()
        self._bar: _Bar | None = None
        self._line = None if console.is_interactive else notebook.line()
        if console.is_interactive:
            self._bar = _Bar(
                TextColumn("[bold]epochs"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                _TimeLeftColumn(self._left),
                console=console,
                expand=True,
                transient=quiet,
            )
            self._bar.note = self._note()
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
        elif self._line:  # its last state stays in the notebook
            self._has_ended = True
            self._show(at_once=True)

    def start(self, workers: str, stacks: int, cores: str = "") -> None:
        """Print how the sweep starts, as in "starting 2 workers: 36 trials in 9 stacks".

        `cores` is what :func:`cores_used` returns.
        """
        trials, of = plural(self.trials, "trial"), plural(stacks, "stack")
        if self._bar or self._line:
            self.stage(workers)
        elif not self.quiet:
            self.say(f"{workers}: {trials} in {of}{cores}")

    def stage(self, stage: str) -> None:
        """Set the text that says what the sweep is doing; it is shown until an epoch is counted."""
        self._stage = stage
        if self._bar or self._line:
            self._show(at_once=True)

    def epoch(self, count: int = 1) -> None:
        """Count this many more epochs of trials as done."""
        self.epochs_done += count
        self._show()

    def latest(self, name: str, metrics: Mapping[str, float], metric: str) -> None:
        """Note a trial's metrics after its latest epoch.

        Parameters
        ----------
        name, metrics
            The trial's name; its metrics.
        metric
            The accuracy that ranks trials: on the validation images if every trial has some, else on the test
            images.
        """
        if metric not in metrics:
            return
        self._metric = metric
        self._latest[name] = metrics
        if self._best == name or self._best is None:
            self._find_best()
        elif metrics[metric] > self._latest[self._best][metric]:
            self._best = name

    def finished(self, name: str) -> None:
        """Note that a trial finished, so its metrics are final. Only the best such trial is remembered."""
        former, self._finished = self._finished, name
        if name not in self._latest or former not in self._latest or former == name:
            return
        better = max((former, name), key=lambda each: (self._latest[each][self._metric], each == self._best))
        self._finished = better
        del self._latest[former if better == name else name]

    def drop(self, name: str) -> None:
        """Forget the metrics of a trial that diverged or failed."""
        self._latest.pop(name, None)
        if self._best == name:
            self._find_best()

    def _find_best(self) -> None:
        self._best = max(self._latest, key=lambda name: self._latest[name][self._metric], default=None)

    def done(self) -> None:
        """Count a trial that ended."""
        self.trials_done += 1
        self._show()

    def failure(self) -> None:
        """Count a trial that failed."""
        self.failed += 1
        self._show()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        print_plain(self.console, line)

    def best(self) -> str:
        """Return the latest metrics and the name of the trial that leads; "" before any trial has metrics."""
        if self._best is None:
            return ""
        metrics = self._latest[self._best]
        loss = self._metric.replace("accuracy", "loss")
        losses = f", {loss} {metrics[loss]:.4f}" if loss in metrics else ""
        return f"leading with {self._metric} {metrics[self._metric]:.4f}{losses}: {self._best}"

    def _note(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        last = self.best() or ("" if self.epochs_done else self._stage)
        return f"trials {self.trials_done}/{self.trials}{failed}" + (f" · {last}" if last else "")

    def _show(self, *, at_once: bool = False) -> None:
        if self._bar:
            self._bar.note = self._note()
            self._bar.update(self._task, completed=self.epochs_done, refresh=at_once)
            return
        now = self.clock()
        finished = self._has_ended or self.trials_done + self.failed == self.trials
        pause = SECONDS_IN_A_NOTEBOOK if self._line else SECONDS_BETWEEN_LINES
        if at_once or (finished and not self.quiet) or now - self._shown_at >= pause:
            self._shown_at = now
            epochs = f"epochs {self.epochs_done}/{self.epochs}"
            left = f"{now - self._began:.0f} s" if finished else self._left()
            left = f" · {left}" if left else ""
            if self._line:
                self._line(f"{notebook.bar(self.epochs_done / self.epochs)} {epochs}{left}\n{self._note()}")
            else:
                self.say(f"{epochs} · {self._note()}{left}")

    def _left(self) -> str:
        seconds = self.time_left.seconds() if self.time_left and self.epochs_done < self.epochs else None
        return "" if seconds is None else in_words(seconds)


class _TimeLeftColumn(ProgressColumn):
    """The time left, which also counts down while no worker returns a result."""

    def __init__(self, text: Callable[[], str]) -> None:
        super().__init__()
        self._text = text

    def render(self, task: Task) -> Text:
        """Return the time left."""
        return Text(self._text(), no_wrap=True)


class _Bar(Progress):
    """A bar with a separate line below it, so that a long name does not shorten the bar."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bar and the line below it."""
        yield from super().get_renderables()
        yield Text(self.note, no_wrap=True, overflow="ellipsis")
