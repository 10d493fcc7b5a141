"""Final states: what a finished trial leaves, so that the same trial with more epochs goes on from there.

The lanes that end together share a file ``KIND-EPOCHS-HASH.npz``. KIND is the kind of their trials
(:attr:`fnnexp.config.trial.Trial.kind`), EPOCHS is how many they were to train, and HASH is of the text
``ends``, which says how each of the lanes ended, and what computed it. So a sweep opens only files of its own
kinds with fewer epochs. The file has the final states of those lanes that can go on.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fnnexp.config.execution import Execution, bytes_kept
from fnnexp.config.trial import Trial
from fnnexp.data.npz import DamagedError
from fnnexp.errors import plural, printable
from fnnexp.nn import layer_stats
from fnnexp.nn.arrays import Array
from fnnexp.nn.layer_stats import Level
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.schedules import SCHEDULES
from fnnexp.nn.pieces.table import short
from fnnexp.nn.training import Recipe, Record, Stack, engine_version
from fnnexp.results.networks.one_thread import blas_kernel
from fnnexp.sweeping.checkpoints import (
    as_row,
    as_text,
    best_from,
    contents,
    largest_curve,
    parsed,
    records_from,
    tidy,
    to_resume_with,
    write,
)
from fnnexp.sweeping.plan import PlannedStack, joined
from fnnexp.sweeping.resources import memory
from fnnexp.sweeping.worker import Trained
from fnnexp.tracking.run_format import engine_name

STATES = Path(".fnnexp/states")
"""The folder of final states, relative to the folder in which the sweep was started."""

NAME = re.compile(r"([0-9a-f]{16})-(\d{1,9})-[0-9a-f]{16}\.npz")

SPARE = 10**8
"""How many bytes of the disk states leave free, beside those that the results of the sweep need."""

MOST_ENDS = 1 << 24
"""The largest size in bytes of the text ``ends``; a lane takes about 60."""


@dataclass(frozen=True)
class End:
    """How a finished trial ended, as the file of its final state says.

    Attributes
    ----------
    file, row, rows
        Its file, its row in the file's arrays, and how many rows they have. The row is None if no trial can
        go on from this state, so that the file does not have it.
    epochs
        How many epochs it was to train.
    how
        The ``how`` of :class:`fnnexp.nn.training.End`, but ``stopped`` also if early stopping would have
        ended it in a longer run.
    engine, blas
        The version of its engine and its BLAS kernel.
    diagnosed
        Which diagnostics were recorded at every epoch: none, diagnostics, or histograms too.
    """

    file: Path
    row: int | None
    rows: int
    epochs: int
    how: str
    engine: str
    blas: str
    diagnosed: Level


Ends = Mapping[str, Sequence[End]]
"""How trials with fewer epochs ended, by :attr:`fnnexp.config.trial.Trial.trajectory_id`."""


class States:
    """A folder with the final states of trials, from which the same trials with more epochs go on.

    Parameters
    ----------
    folder
        The folder; it is made when the first state is kept.
    limit
        The value of ``execution.keep_states``, the largest size of the folder. The oldest files are removed
        first, but never a file that this sweep wrote or goes on from.

    Attributes
    ----------
    say
        Called with each message.
    results
        How many bytes of the folder's disk the results of the sweep need. States leave them free.
    """

    def __init__(self, folder: Path, limit: str | None = None) -> None:
        self.folder, self.limit = folder, limit
        self.say: Callable[[str], None] = print
        self.results = 0
        self.most = bytes_kept(limit)
        self._room = 0  # bytes of the disk that all states may take
        self._in_use: dict[str, End] = {}  # by a lane's key: the final state from which the lane goes on
        self._older: deque[tuple[Path, int]] | None = None
        self._staying = 0  # bytes of the states that this sweep uses or wrote
        self._leaving = 0  # bytes of all other states

    # --- going on -------------------------------------------------------------------------------------------

    def ends_of(self, trials: Iterable[Trial], *, dry: bool = False) -> Ends:
        """Find the final states of the same trials with fewer epochs, from which these trials may go on.

        Return how each of those trials ended, by their `trajectory_id`. Damaged files are removed, unless
        `dry` is true.
        """
        names = self._names()
        if not names:
            return {}
        most: dict[str, int] = {}
        for trial in trials:
            kind, epochs = trial.kind, trial.recipe.epochs
            most[kind] = max(epochs, most.get(kind, 0))
        ends: dict[str, list[End]] = {}
        for file, kind, epochs in names:
            if epochs < most.get(kind, 0):
                try:
                    with nullcontext() if dry else _removed_if_damaged(file):
                        for trajectory, end in _ends(file, epochs):
                            ends.setdefault(trajectory, []).append(end)
                except DamagedError as error:
                    self.say(f"the trials whose final states are in {file.name} start over: {error}")
        return ends

    def go_on(
        self,
        ends: Ends,
        groups: Mapping[str, Sequence[Trial]],
        execution: Execution,
        begun: Collection[str] = (),
    ) -> dict[str, Stack]:
        """Choose the trials that go on from a final state, and return a stack of one lane for each, by key.

        A stack begins at the epoch of its state. It has no parameters yet; :meth:`loaded` reads them later.
        Print how many trials go on, and why others start over although a trial with fewer epochs was trained.

        Parameters
        ----------
        ends
            What :meth:`ends_of` returned.
        groups
            The trials to train, by the key of their lane.
        execution
            The settings, with the name of an engine.
        begun
            The keys of lanes that resume from a checkpoint.
        """
        stacks: dict[str, Stack] = {}
        went_on: Counter[int] = Counter()
        start_over: Counter[tuple[int, str]] = Counter()
        for key, (trial, *others) in groups.items() if ends else ():
            shorter = [end for end in ends.get(trial.trajectory_id, ()) if end.epochs < trial.recipe.epochs]
            if not shorter or key in begun:
                continue
            obstacles = {end: _obstacle(end, trial, execution) for end in shorter}
            longest = max(shorter, key=lambda end: (not obstacles[end], end.epochs))
            if obstacle := obstacles[longest]:
                start_over[longest.epochs, obstacle] += 1 + len(others)
                continue
            self._in_use[key] = longest
            went_on[longest.epochs] += 1 + len(others)
            stacks[key] = replace(Stack.without_parameters([trial.lane()]), epoch=longest.epochs)
        for epochs, count in sorted(went_on.items()):
            self.say(f"{_go(count, 'goes', 'go')} on from {plural(epochs, 'epoch')}")
        for (epochs, obstacle), count in sorted(start_over.items()):
            starts = _go(count, "starts", "start")
            self.say(f"{starts} over instead of going on from {plural(epochs, 'epoch')}: {obstacle}")
        return stacks

    def loaded(self, planned: PlannedStack, *, diagnostics: Level) -> tuple[Stack, list[Record]]:
        """Read the final states from which a stack goes on; return them, and the records of their epochs.

        `diagnostics` says which diagnostics of these epochs are kept in the records.

        Raises
        ------
        DamagedError
            If a state is damaged, or was removed meanwhile.
        """
        ends = {lane.key: self._in_use[lane.key] for lane in planned.lanes}
        files = {end.file: end for end in ends.values()}
        read = {}
        for file, end in files.items():
            with _removed_if_damaged(file):
                read[file] = _content(file, end.rows, planned.recipe)
        stacks, records = [], []
        for lane in planned.lanes:
            end = ends[lane.key]
            curves, theta, best, slots = read[end.file]
            assert end.row is not None
            with _removed_if_damaged(end.file):
                curve = records_from(curves[end.row], lane, planned.recipe)
                if curve[-1].epoch != end.epochs:
                    raise DamagedError(f"the curve in it ends at epoch {curve[-1].epoch}, not {end.epochs}")
            if diagnostics != layer_stats.FULL:
                curve = [replace(record, histograms=None) for record in curve]
            if not diagnostics:
                curve = [_undiagnosed(record) for record in curve if record.epoch > 0]
            records += curve
            stacks.append(
                Stack(
                    (lane,),
                    theta[[end.row]],
                    tuple(slot[[end.row]] for slot in slots),
                    end.epochs,
                    None if best is None else best_from(planned.recipe, curve, best[end.row]),
                )
            )
        return joined(stacks), records

    def _names(self) -> list[tuple[Path, str, int]]:
        """Return the files of final states; with each, the kind and the number of epochs from its name."""
        try:
            names = [NAME.fullmatch(file.name) for file in self.folder.iterdir()]
        except OSError:
            return []
        return [(self.folder / name[0], name[1], int(name[2])) for name in names if name]

    # --- keeping --------------------------------------------------------------------------------------------

    def keep(
        self,
        ended: Trained,
        complete: bool,
        groups: Mapping[str, Sequence[Trial]],
        curves: Mapping[str, Sequence[Record]],
    ) -> None:
        """Save the final states of lanes (networks) that ended, for trials with more epochs to go on from.

        Parameters
        ----------
        ended
            The result of training the last epochs.
        complete
            Whether the lanes that are still in the stack have trained all their epochs, so that they end too.
        groups, curves
            The trials and the curves, by the key of their lane.
        """
        stack = ended.stack
        how = {record.key: record.end.how for record in ended.records if record.end is not None}
        if complete:
            how |= {lane.key: "complete" for lane in stack.lanes}
        if not how or not self.most:
            return
        (first, *_) = groups[next(iter(how))]
        if first.recipe.epochs == 0:
            return
        rows: list[int] = []
        for k, lane in enumerate(stack.lanes if complete else ()):
            if _would_stop(first.recipe, stack, k):
                how[lane.key] = "stopped"
            elif not _counts_epochs(groups[lane.key][0]):
                rows.append(k)
        numbers = {stack.lanes[k].key: i for i, k in enumerate(rows)}
        ends = [
            [groups[key][0].trajectory_id, ending, numbers.get(key), _diagnosed(curves[key])]
            for key, ending in how.items()
        ]
        text = as_text({"engine": ended.engine, "blas": ended.blas, "rows": len(rows), "ends": ends})
        arrays: dict[str, Array] = {"ends": text}
        if rows:
            arrays["curves"] = as_text(
                [[as_row(record) for record in curves[stack.lanes[k].key]] for k in rows]
            )
            part = stack if len(rows) == len(stack.lanes) else stack.select(rows)
            arrays["theta"] = part.theta
            arrays |= {f"slot{i}": slot for i, slot in enumerate(part.slots)}
            if part.best is not None:
                arrays["best"] = part.best.theta
        name = hashlib.sha256(text.tobytes()).hexdigest()[:16]
        self._write(self.folder / f"{first.kind}-{first.recipe.epochs}-{name}.npz", arrays)

    def _write(self, file: Path, arrays: Mapping[str, Array]) -> None:
        """Write a file of final states if there is room. Otherwise print why not, and keep no more states."""
        size = sum(array.nbytes for array in arrays.values())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            obstacle = self._make_room(size)
            if obstacle is None:
                write(file, **arrays)
                self._staying += size
        except OSError as error:
            obstacle = f"{self.folder} can't be written ({error})"
        if obstacle is not None:
            self.say(
                f"{obstacle}: no more final states of trials are kept; a trial without one starts over if "
                "you train it for more epochs"
            )
            self.most = 0

    def _make_room(self, size: int) -> str | None:
        """Remove the oldest files until a file of this size fits; return why it can't fit, else None."""
        free = shutil.disk_usage(self.folder).free
        if self._older is None:
            tidy(self.folder)
            self._older = self._removable()
            self._room = self._staying + self._leaving + free - SPARE - self.results
        if size > free - SPARE or self._staying + size > self._room:
            return f"the disk has {memory.size(free)} left, which results may need"
        if self._staying + size > self.most:
            return f"execution.keep_states={self.limit} is reached"
        while self._staying + self._leaving + size > min(self.most, self._room):
            file, freed = self._older.popleft()
            self._leaving -= freed
            file.unlink(missing_ok=True)
        return None

    def _removable(self) -> deque[tuple[Path, int]]:
        """Return the files of final states that this sweep does not use, oldest first, with their sizes."""
        in_use, files = {end.file for end in self._in_use.values()}, []
        for file, *_ in self._names():
            with suppress(FileNotFoundError):  # another sweep removed it
                stat = file.stat()
                if file in in_use:
                    self._staying += stat.st_size
                else:
                    self._leaving += stat.st_size
                    files.append((stat.st_mtime, file, stat.st_size))
        return deque((file, size) for _, file, size in sorted(files))


def begun_with(ends: Ends, trials: Iterable[Trial], execution: Execution) -> Counter[str]:
    """Count the trials that can skip at least half of their epochs by going on from a final state.

    They are counted by the engine that trained the state. If a trial has several such states, the one with
    the most epochs counts.
    """
    counts: Counter[str] = Counter()
    for trial in trials if ends else ():
        usable = [
            (end.epochs, engine_name(end.engine))
            for end in ends.get(trial.trajectory_id, ())
            if end.row is not None
            and end.epochs < trial.recipe.epochs <= 2 * end.epochs
            and layer_stats.includes(end.diagnosed, execution.diagnostics)
        ]
        if usable:
            counts[max(usable)[1]] += 1
    return counts


def _counts_epochs(trial: Trial) -> bool:
    """Return whether a trial's learning rate at an epoch depends on how many epochs it trains in all."""
    return trial.schedule is not None and SCHEDULES[trial.schedule.name].needs_count


def _would_stop(recipe: Recipe, stack: Stack, k: int) -> bool:
    """Return whether early stopping would stop lane k now, if it were to train more epochs than it has."""
    if recipe.stopping is None or stack.best is None:
        return False
    return recipe.stopping.is_due(stack.epoch, stack.best.epochs[k])


def _obstacle(end: End, trial: Trial, execution: Execution) -> str:
    """Return why a trial can't go on from the final state of a trial with fewer epochs; "" if it can."""
    if _counts_epochs(trial):
        assert trial.schedule is not None
        return f"schedule={short(trial.schedule.name)} depends on the number of epochs"
    if end.how != "complete":
        return "training diverged" if end.how == "diverged" else "early stopping ended training"
    engine, blas = engine_version(trial.recipe, execution.engine), blas_kernel()
    if (before := engine_name(end.engine)) != engine_name(engine):
        return f"{end.engine} computed these; {to_resume_with(before)}"
    if (end.engine, end.blas) != (engine, blas):
        return f"{end.engine} with {end.blas} computed these, and this is {engine} with {blas}"
    if execution.diagnostics and not end.diagnosed:
        return "no diagnostics were recorded for these; write diagnostics=false to go on"
    if not layer_stats.includes(end.diagnosed, execution.diagnostics):
        return "no histograms were recorded for these; write diagnostics=true to go on"
    return "" if end.row is not None else "the state was not kept"


def _go(count: int, one: str, several: str) -> str:
    return f"{plural(count, 'trial')} {one if count == 1 else several}"


def _diagnosed(curve: Sequence[Record]) -> Level:
    """Return which diagnostics every record of a curve has: none, diagnostics, or histograms too.

    A curve with diagnostics begins at epoch 0; without that epoch, the answer is none.
    """
    levels = {layer_stats.level_of(record) for record in curve} if curve[0].epoch == 0 else {False}
    return next(level for level in (False, True, layer_stats.FULL) if level in levels)


def _level(value: object) -> Level:
    return layer_stats.FULL if value == layer_stats.FULL else bool(value)


def _undiagnosed(record: Record) -> Record:
    """Return a record without diagnostics."""
    metrics = {
        name: value for name, value in record.metrics.items() if not layer_stats.has_diagnostics([name])
    }
    return replace(record, metrics=metrics)


def _ends(file: Path, epochs: int) -> Iterator[tuple[str, End]]:
    """Read from a file of final states how each trial ended, and yield it after the trial's `trajectory_id`.

    Raise DamagedError if the file can't be read.
    """
    (text,), _ = contents(file, {"ends": MOST_ENDS})
    try:
        content = parsed(text)
        engine, blas = (printable(str(content[key])) for key in ("engine", "blas"))
        rows = int(content["rows"])
        for trajectory, how, row, diagnosed in content["ends"]:
            row = None if row is None else range(rows)[row]
            yield str(trajectory), End(file, row, rows, epochs, str(how), engine, blas, _level(diagnosed))
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DamagedError(f"the file does not say how its trials ended: {error!r}") from error


def _content(file: Path, rows: int, recipe: Recipe) -> tuple[list[Any], Array, Array | None, list[Array]]:
    """Read and check a file of final states with this many rows, one a trial.

    Return the curves, the parameters (K, P), those of the best epochs with early stopping (else None), and
    the arrays of the optimizer.
    """
    best = ["best"] if recipe.stopping is not None else []
    names = ["theta", *best, *(f"slot{i}" for i in range(OPTIMIZERS[recipe.optimizer].slots))]
    shape = (rows, recipe.architecture.parameter_count)
    (text,), arrays = contents(file, {"curves": rows * largest_curve(recipe)}, names, recipe.dtype, shape)
    curves = parsed(text)
    if not isinstance(curves, list) or len(curves) != rows:
        raise DamagedError(f"the file does not have {rows} curves")
    parameters, slots = arrays[: 1 + len(best)], arrays[1 + len(best) :]
    if not np.isfinite(parameters).all():
        raise DamagedError("the parameters in the file are not finite")
    return curves, parameters[0], parameters[1] if best else None, slots


@contextmanager
def _removed_if_damaged(file: Path) -> Iterator[None]:
    """If the block raises a DamagedError, remove this file, and raise an error that names it."""
    try:
        yield
    except DamagedError as error:
        if not file.exists():
            raise DamagedError(f"{file} was removed meanwhile") from error
        with suppress(OSError):
            file.unlink()
        raise DamagedError(f"{file} could not be read ({error}), and was removed") from error
