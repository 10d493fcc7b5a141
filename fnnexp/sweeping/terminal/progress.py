"""The progress of a sweep: a bar on a terminal, a line in a notebook, or plain lines; and the time left."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from fnnexp.errors import plural
from fnnexp.nn.training import Record
from fnnexp.sweeping.executor import threads_each
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.resources.engine import threads_used

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between two plain lines."""

SECONDS_IN_A_NOTEBOOK = 0.2
"""Seconds between two updates of the line in a notebook."""

ENOUGH_SHARE, ENOUGH_SECONDS = 0.05, 20.0
"""The time left is shown once the workers have trained for 5% of the sweep, or for 20 s each."""

IN_BATCHES = 1.5
"""Seconds per unit of cost with batches, relative to one row at a time, as measured on MNIST."""


@dataclass
class _Running:
    """A submitted stack. `since` is when a worker started to train it; None while no worker is free."""

    stack: PlannedStack
    since: float | None


class TimeLeft:
    """Estimates the time left from the planned cost of the stacks and the seconds that their epochs took.

    The estimate divides the remaining work among the workers, but is at least the time of the longest running
    epoch. The seconds per unit of cost are measured for each kind of stack (:attr:`PlannedStack.kind`). A
    kind that was not measured yet is assumed to be like the measured kinds with the same batching mode, or
    else like all measured kinds. Recent segments count most, since other programs may slow the machine down
    for a while.

    Parameters
    ----------
    stacks
        All stacks of the sweep.
    n_jobs
        The number of workers.
    clock
        Returns the seconds since some moment.
    """

    def __init__(
        self, stacks: Sequence[PlannedStack], n_jobs: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.n_jobs, self.clock = n_jobs, clock
        self._cost_left: defaultdict[object, float] = defaultdict(float)
        self._lanes_left = 0
        self._modes: dict[object, str] = {}
        for stack in stacks:
            self._cost_left[stack.kind] += stack.cost
            self._modes[stack.kind] = stack.recipe.batching.mode
            self._lanes_left += len(stack.lanes)
        self._measured = 0.0
        self._seconds: dict[object, float] = {}  # by kind, by batching mode, and for all with the key None
        self._costs: dict[object, float] = {}
        self._running: list[_Running] = []
        self._segments = 0

    def submitted(self, stack: PlannedStack) -> None:
        """Note that a stack was handed to the workers."""
        is_free = len(self._running) < self.n_jobs
        self._running.append(_Running(stack, self.clock() if is_free else None))

    def returned(
        self, stack: PlannedStack, rest: PlannedStack | None = None, records: Iterable[Record] = ()
    ) -> None:
        """Note that a worker has returned a stack.

        Parameters
        ----------
        stack
            The stack as it was submitted.
        rest
            The stack with its remaining epochs; None if the stack is done or has failed.
        records
            The records of the segment.
        """
        self._running = [running for running in self._running if running.stack is not stack]
        for running in self._running[: self.n_jobs]:
            if running.since is None:
                running.since = self.clock()
        self._cost_left[stack.kind] -= stack.cost - (rest.cost if rest else 0.0)
        self._lanes_left -= len(stack.lanes) - (len(rest.lanes) if rest else 0)
        trained = [record.seconds for record in records if record.epoch > 0 or stack.recipe.epochs == 0]
        if trained:
            self._segments += 1
            epochs = max(stack.last_epoch - stack.stack.epoch, 1)
            cost = len(trained) * stack.cost / (len(stack.lanes) * epochs)
            cost *= self._weight(stack.kind)
            self._measured += sum(trained)
            for group in (stack.kind, self._modes[stack.kind], None):
                self._seconds[group] = self._seconds.get(group, 0.0) / 2 + sum(trained)
                self._costs[group] = self._costs.get(group, 0.0) / 2 + cost

    def seconds(self) -> float | None:
        """Return the estimated seconds left, or None until enough is measured for an estimate."""
        if self._segments < self.n_jobs or None not in self._costs:
            return None
        left = sum(max(cost, 0.0) * self._rate(kind) for kind, cost in self._cost_left.items())
        enough = min(ENOUGH_SHARE * (self._measured + left), ENOUGH_SECONDS * self.n_jobs)
        if self._measured < enough:
            return None
        now, longest = self.clock(), 0.0
        for running in self._running:
            rate, stack = self._rate(running.stack.kind), running.stack
            passed = 0.0 if running.since is None else now - running.since
            left -= min(passed, rate * stack.cost)
            longest = max(longest, rate * stack.epoch_cost - passed)
        return max(left / max(min(self.n_jobs, self._lanes_left), 1), longest, 0.0)

    def _rate(self, kind: object) -> float:
        """Return the measured seconds of a worker per unit of cost."""
        groups = (kind, self._modes[kind], None)
        group = next(group for group in groups if group in self._costs)
        return self._weight(kind) * self._seconds[group] / self._costs[group]

    def _weight(self, kind: object) -> float:
        return 1.0 if self._modes[kind] == "sample" else IN_BATCHES


def in_words(seconds: float) -> str:
    """Return an estimated time in words, rounded more the longer it is.

    >>> in_words(3.2), in_words(43), in_words(400), in_words(7000)
    ('a few seconds left', 'about 45 s left', 'about 7 min left', 'about 1 h 55 min left')
    """
    if seconds <= 5:
        return "a few seconds left"
    if seconds < 90:
        return f"about {5 * math.ceil(seconds / 5)} s left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min left"
    hours, minutes = divmod(5 * round(minutes / 5), 60)
    return f"about {hours} h {minutes} min left" if hours < 10 and minutes else f"about {hours} h left"


def cores_used(stacks: Sequence[PlannedStack], engine: str, n_jobs: int) -> str:
    """Return how many cores train each stack, as ", with 2 threads", if workers are idle; else ""."""
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
        The estimate to show; None shows no estimate.
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
        """Count epochs of trials."""
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
        """Note that a trial's metrics are final. Of the finished trials, only the best is remembered."""
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
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def best(self) -> str:
        """Return the latest metrics and the name of the trial that leads, or "" before there is one."""
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
        now, finished = self.clock(), self.trials_done + self.failed == self.trials
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
