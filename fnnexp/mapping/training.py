"""Train the new cells of a map in large stacks, and keep each cell as soon as it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console

from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.console import while_doing
from fnnexp.errors import plural
from fnnexp.mapping.cells import ID, Cells, Table, table_of
from fnnexp.nn.pieces import metrics
from fnnexp.nn.training import Record, Stack
from fnnexp.sweeping.backends.cluster import connected
from fnnexp.sweeping.checkpoints import CELLS, Checkpoints, resume
from fnnexp.sweeping.executor import Executor, worker_count
from fnnexp.sweeping.plan import PlannedStack, identical, plan
from fnnexp.sweeping.resources import estimates, memory
from fnnexp.sweeping.resources.engine import COMPILING, must_compile
from fnnexp.sweeping.terminal.progress import SweepProgress
from fnnexp.sweeping.terminal.stopping import stopping
from fnnexp.sweeping.work import FAILED, INTERRUPTED, Work
from fnnexp.sweeping.worker import Broken, Trained
from fnnexp.tracking import store
from fnnexp.tracking.run_format import BEST, best_of

EPOCH, DIVERGED = "epoch", "diverged"
"""Two values of a cell besides its metrics: its last epoch, and 1 if it diverged, else 0."""

BEGUN = CELLS / "begun"
"""The folder with the checkpoints of cells in training."""

LANES, FEWEST = 96, 12
"""The largest number of cells in a stack, and the number in the stacks of a small map. On small data a stack
then trains for some tenths of a second: long enough to hide the cost of handing it over, and short enough to
lose little to a kill."""

STACKS = 8
"""The least number of stacks for each worker of a larger map, so that all workers end at the same time."""

DRAW = 1.5
"""The seconds to draw a map and to write its run, once its cells are trained."""


@dataclass
class Outcome:
    """The results of the new cells that ended, the failed cells by name, and whether Ctrl-C came."""

    tables: list[Table] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    interrupted: bool = False


def train(
    trials: Sequence[Trial],
    cells: Cells,
    execution: Execution,
    console: Console,
    begin: Callable[[], None],
    values: Callable[[Sequence[Record]], dict[str, float]] | None = None,
) -> Outcome:
    """Train these trials in stacks, and write the results of each to ``cells`` as soon as it ends.

    Parameters
    ----------
    trials
        The trials of the new cells.
    cells
        Where results are kept.
    execution
        How to train, with the name of an engine.
    console
        Where to show the progress.
    begin
        Called once while the first stacks train.
    values
        Returns the numbers to keep of a cell, given its records; None is :func:`values_of`.
    """
    outcome = Outcome()
    groups = identical(trials)
    with connected(execution) as cluster:
        n_jobs = worker_count(execution.n_jobs, cluster)
        epochs = sum(max(trial.recipe.epochs, 1) for trial in trials)
        progress = SweepProgress(console, epochs=epochs, trials=len(trials))
        if cluster is None and must_compile(trials, execution.engine):
            progress.say(COMPILING.format(execution.engine))
        checkpoints = Checkpoints(BEGUN, execution.engine)
        checkpoints.tidy()
        begun, curves = resume(checkpoints, groups, execution, progress.say)
        stacks = _stacks(groups, execution, n_jobs, begun)
        executor = Executor(execution, cluster, say=progress.say)
        kept = values or values_of
        _Training(stacks, groups, curves, executor, cells, checkpoints, progress, outcome, kept).run(begin)
    return outcome


def planned(
    trials: Sequence[Trial],
    cells: int,
    execution: Execution,
    console: Console,
    *,
    values: int | None = None,
    began: float,
    uri: str | None,
) -> list[str]:
    """Return sentences on the work, memory, disk and time that the new cells of a map take.

    Parameters
    ----------
    trials
        The trials of the new cells.
    cells
        The number of cells in all.
    execution
        How to train, with the name of an engine.
    console
        Where to show that the speed of the workers is measured.
    values
        How many numbers are kept of a cell; None for those of :func:`values_of`.
    began
        When the command began, by ``time.monotonic``.
    uri
        The address of the store.
    """
    with connected(execution) as cluster:
        n_jobs = worker_count(execution.n_jobs, cluster)
    stacks = _stacks(identical(trials), execution, n_jobs)
    lanes = sum(len(stack.lanes) for stack in stacks)
    epochs = sum(len(stack.lanes) * stack.recipe.epochs for stack in stacks)
    validated = any(trial.recipe.validation for trial in trials)
    if values is None:
        values = len([*metrics.names(validated), *(BEST if validated else ()), EPOCH, DIVERGED])
    a_cell = ID.itemsize + 8 * values  # a value is a float64 of 8 bytes
    lines = [
        f"{plural(lanes, 'network')} in {plural(len(stacks), 'stack')} on {plural(n_jobs, 'worker')} "
        f"({execution.backend}); {plural(epochs, 'epoch')} in all",
        memory.summary(stacks, cells, execution, n_jobs),
        f"disk: about {memory.size(len(trials) * a_cell)} in {CELLS}, and "
        f"{memory.size(cells * a_cell)} for the arrays of the run",
    ]
    if cluster is None:
        opening = estimates.logging((), opens=True, creates=not store.has_store(uri))
        parent = estimates.Parent(time.monotonic() - began + DRAW, opening)
        with while_doing("measuring how fast the workers train", console):
            lines += estimates.summary(stacks, trials, parent, execution, n_jobs)
    return lines


def _stacks(
    groups: Mapping[str, Sequence[Trial]],
    execution: Execution,
    n_jobs: int,
    begun: Mapping[str, Stack] | None = None,
) -> list[PlannedStack]:
    """Return the stacks that train these cells, each of which fits into a worker's memory.

    `groups` has the trials of each lane. `begun` has stacks that an interrupted map left half-trained.
    """
    even = -(-len(groups) // (STACKS * n_jobs))
    widest = execution.max_lanes or min(max(even, FEWEST), LANES)
    stacks = plan(groups, max_lanes=widest, n_jobs=n_jobs, begun=begun)
    fitting = memory.fitting(stacks, groups, execution, n_jobs)
    return [replace(stack, keeps_weights=False) for stack in fitting]


class _Training:
    """Hands stacks to the workers and takes in their results, until all cells have ended."""

    def __init__(
        self,
        stacks: Sequence[PlannedStack],
        groups: Mapping[str, Sequence[Trial]],
        curves: dict[str, list[Record]],
        executor: Executor,
        cells: Cells,
        checkpoints: Checkpoints,
        progress: SweepProgress,
        outcome: Outcome,
        values: Callable[[Sequence[Record]], dict[str, float]],
    ) -> None:
        self.groups, self.curves, self.executor, self.cells = groups, curves, executor, cells
        self.checkpoints, self.progress, self.outcome = checkpoints, progress, outcome
        self.values = values
        self.work = Work(stacks, executor, progress)
        self.cannot_save = False
        progress.epoch(sum(curve[-1].epoch * len(groups[key]) for key, curve in curves.items()))

    def run(self, begin: Callable[[], None]) -> None:
        """Submit stacks and keep the results that come back, until no stack is left."""
        executor = self.executor
        try:
            with stopping(self._interrupt), self.progress:
                self.progress.start(f"starting {plural(executor.n_jobs, 'worker')}", len(self.work.waiting))
                self._hand_out()
                begin()
                while self.work.is_left:
                    self._hand_out()
                    if self.work.is_stopping:
                        executor.forget()
                    if executor.under_way:
                        self._take_in(*executor.result())
        except BaseException as error:
            executor.abandon(at_once=isinstance(error, KeyboardInterrupt))
            raise
        finally:
            self.work.close()

    def _hand_out(self) -> None:
        """Submit stacks until every worker is busy."""
        while planned := self.work.next():
            self.work.submit(planned)

    def _take_in(self, planned: PlannedStack, ended: Trained | Broken) -> None:
        """Take in what a worker returns: keep the cells that ended, and queue the stack with the other cells.

        If the worker broke, queue the whole stack once more.
        """
        if isinstance(ended, Broken):
            self._retry(planned, ended)
            return
        for record in ended.records:
            self.curves.setdefault(record.key, []).append(record)
        rest = self.work.take_back(planned, ended)
        self._hand_out()  # the worker trains while this process writes
        going_on = {lane.key for lane in rest.lanes} if rest else set()
        self._count(ended.records)
        self._save(rest, [lane.key for lane in planned.lanes if lane.key not in going_on], ended)

    def _save(self, rest: PlannedStack | None, ended_keys: Sequence[str], ended: Trained) -> None:
        """Write the cells that ended, and a checkpoint of the others, to disk; warn once if that fails."""
        rows = {trial.id: self.values(self.curves[key]) for key in ended_keys for trial in self.groups[key]}
        new = table_of(rows, [f"{ended.engine}; {ended.blas}"])
        self.outcome.tables.append(new)
        try:
            if rest:
                self.checkpoints.save(rest.stack, self.curves)
            if rows:
                self.cells.add(new)
            self.checkpoints.remove(ended_keys)
        except OSError as error:
            if not self.cannot_save:
                self.progress.say(
                    f"cells can't be written to {self.cells.folder} ({error}); the map continues, but if it "
                    "is stopped they start over"
                )
            self.cannot_save = True
        for key in ended_keys:
            del self.curves[key]
            for _ in self.groups[key]:
                self.progress.done()

    def _count(self, records: Iterable[Record]) -> None:
        """Count epochs for the progress bar. A cell that ends early counts as if all its epochs had run."""
        for record in records:
            for trial in self.groups[record.key]:
                left = 0 if record.end is None else trial.recipe.epochs - max(record.epoch, 1)
                self.progress.epoch(1 + max(left, 0))

    def _retry(self, planned: PlannedStack, broken: Broken) -> None:
        """Queue a broken stack again, whole or in halves; fail a single cell that broke too often."""
        (first, *_) = self.groups[planned.lanes[0].key]
        if self.work.retry(planned, broken, name=first.name):
            return
        for lane in planned.lanes:
            for trial in self.groups[lane.key]:
                self.outcome.failed.append((trial.name, broken.reason))
                self.progress.failure()
        if self.executor.execution.fail_fast and not self.work.is_stopping:
            self.work.stop(FAILED)

    def _interrupt(self) -> None:
        self.outcome.interrupted = True
        self.work.stop(INTERRUPTED)


def values_of(curve: Sequence[Record]) -> dict[str, float]:
    """Return the numbers to keep of a cell: last and best metrics, the last epoch, whether it diverged.

    A loss that is infinite is kept as it is.
    """
    last = curve[-1]
    best = best_of((record.epoch, record.metrics) for record in curve)
    return {**last.metrics, **best, EPOCH: last.epoch, DIVERGED: float(last.diverged)}
