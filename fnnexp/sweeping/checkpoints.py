"""Checkpoints: each lane (a network in training) has a file with its state and a file with its curve so far.

The file with the state is replaced atomically.

A curve only grows, so records are appended to its file. The state stores how many bytes of the file are
valid; bytes that a killed process appended after them are ignored. Each process writes its own curve file: a
process that resumes a lane starts a new file.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import os
import re
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.data.npz import Archive, DamagedError
from fnnexp.errors import plural
from fnnexp.nn import layer_stats
from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.layer_stats import Level
from fnnexp.nn.pieces import metrics as measured
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.training import Best, Lane, Recipe, Record, Stack
from fnnexp.tracking.run_format import at_epochs

CHECKPOINTS = Path(".fnnexp/checkpoints")
"""The folder of checkpoints, relative to the folder in which the sweep was started."""

CELLS = Path(".fnnexp/cells")
"""The folder of the finished cells of maps, relative to the folder in which a map was started."""

META, META_AN_EPOCH, META_A_METRIC = 1024, 1024, 128
"""Limits in bytes for the JSON in a checkpoint: a fixed part, a part for each epoch, and a part for each
diagnostic of an epoch. fnnexp writes about 300 bytes for an epoch and 45 for a diagnostic. Histograms have a
limit of their own, see :func:`largest_curve`."""


class _Written(NamedTuple):
    """The valid part of a curve's file: its number of records, its size in bytes, and its checksum."""

    records: int = 0
    size: int = 0
    checksum: int = 0


class Checkpoints:
    """A folder with a checkpoint of each lane (network of a stack) in training.

    The name of a file consists of the key of the lane (a hash of everything that decides its numbers) and the
    name of the engine. The last bits of the results depend on the engine, so one engine trains a lane from
    beginning to end.
    """

    def __init__(self, folder: Path, engine: str = "numpy") -> None:
        self.folder, self.engine = folder, engine
        self._own = uuid.uuid4().hex[:8]
        self._written: dict[str, _Written] = {}

    def save(self, stack: Stack, curves: Mapping[str, Sequence[Record]]) -> None:
        """Write the state of each lane (network) of a stack, and the records of its epochs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for k, lane in enumerate(stack.lanes):
            written = self._add(lane.key, curves[lane.key])
            curve = {"file": self._own, "size": written.size, "checksum": written.checksum}
            arrays = {f"slot{i}": slot[k] for i, slot in enumerate(stack.slots)}
            if stack.best is not None:
                arrays["best"] = stack.best.theta[k]
            meta = as_text({"key": lane.key, "epoch": stack.epoch, "curve": curve})
            write(self._file(lane.key), meta=meta, theta=stack.theta[k], **arrays)
            self._written[lane.key] = written

    def _add(self, key: str, curve: Sequence[Record]) -> _Written:
        """Append new records to a curve's file, and return the size and checksum of its complete records.

        Bytes that a failed call left after the complete records are overwritten.
        """
        file, written = self._curve(key, self._own), self._written.get(key, _Written())
        if not file.is_file() or file.stat().st_size < written.size:
            written = _Written()  # there is no file yet, or another process removed it
        added = "".join(f"{json.dumps(as_row(record))}\n" for record in curve[written.records :]).encode()
        with file.open("r+b" if written.size else "wb") as stream:
            stream.seek(written.size)
            stream.truncate()
            stream.write(added)
        return _Written(len(curve), written.size + len(added), zlib.crc32(added, written.checksum))

    def tidy(self) -> None:
        """Remove unfinished files of processes that were killed."""
        tidy(self.folder)

    def load(
        self, lane: Lane, recipe: Recipe, *, set_aside: bool = True
    ) -> tuple[Stack, list[Record]] | None:
        """Return the state of a lane (network), as a stack of one lane, and its records; None if not saved.

        Parameters
        ----------
        lane
            The lane.
        recipe
            The lane's recipe, which decides the expected shapes and dtype of the arrays.
        set_aside
            Whether a damaged file is renamed to end in ``.broken``.

        Raises
        ------
        DamagedError
            If the file is damaged or belongs to another trial.
        """
        file = self._file(lane.key)
        if not file.exists():
            return None
        try:
            return self._read(file, lane, recipe)
        except DamagedError as error:
            if not set_aside:
                raise DamagedError(f"{file} can't be read ({error})") from error
            broken = file.with_suffix(".broken")
            file.replace(broken)
            raise DamagedError(
                f"{file} can't be read ({error}); it was set aside as {broken.name}"
            ) from error

    def remove(self, keys: Collection[str]) -> None:
        """Remove the files of finished lanes (networks), by key. Ignore errors: leftover files do no harm."""
        for file in list(self.folder.glob("*")) if keys else ():
            if file.suffix in (".npz", ".curve") and file.name.partition(".")[0] in keys:
                with contextlib.suppress(OSError):
                    file.unlink()

    def engines_with_checkpoint(self, key: str) -> list[str]:
        """Return the names of the other engines from which there is a checkpoint of a lane (network)."""
        others = [engine for engine in ENGINES if engine != self.engine]
        return [engine for engine in others if self._file(key, engine).exists()]

    def _file(self, key: str, engine: str | None = None) -> Path:
        engine = engine or self.engine
        return self.folder / (f"{key}.npz" if engine == "numpy" else f"{key}.{engine}.npz")

    def _curve(self, key: str, name: str) -> Path:
        return self.folder / f"{key}.{name}.curve"

    def _read(self, file: Path, lane: Lane, recipe: Recipe) -> tuple[Stack, list[Record]]:
        """Return a checkpoint's content; raise DamagedError unless it is a valid state of this lane."""
        slots = [f"slot{i}" for i in range(OPTIMIZERS[recipe.optimizer].slots)]
        best_theta = ["best"] if recipe.stopping is not None else []
        largest = largest_curve(recipe)
        shape, dtype = (recipe.architecture.parameter_count,), np.dtype(recipe.dtype)
        (text,), arrays = contents(file, {"meta": largest}, ["theta", *best_theta, *slots], dtype, shape)
        meta = parsed(text)
        if not isinstance(meta, dict) or meta.get("key") != lane.key:
            raise DamagedError("the file belongs to another trial")
        parameters, values = arrays[: 1 + len(best_theta)], arrays[1 + len(best_theta) :]
        if not np.isfinite(parameters).all():
            raise DamagedError("the parameters in the file are not finite")
        curve = meta.get("curve")  # checkpoints written by older versions contain the curve itself
        if isinstance(curve, dict):
            curve = self._rows(curve, lane, largest)
        records = records_from(curve, lane, recipe)
        epoch = meta.get("epoch")
        if type(epoch) is not int or epoch != records[-1].epoch:
            raise DamagedError(
                f"the state in the file has epoch {epoch!r}, but its last record has {records[-1].epoch}"
            )
        best = best_from(recipe, records, parameters[1]) if best_theta else None
        return Stack((lane,), parameters[0][None], tuple(slot[None] for slot in values), epoch, best), records

    def _rows(self, curve: Mapping[str, Any], lane: Lane, largest: int) -> list[Any]:
        """Read the file that has the records of a lane's epochs, and return them as lists.

        `curve` is what the checkpoint says of that file: its name, size and checksum. Raise DamagedError if
        the file does not agree with it, or has more than `largest` bytes.
        """
        name, size, checksum = (curve.get(key) for key in ("file", "size", "checksum"))
        if type(name) is not str or not re.fullmatch("[0-9a-f]{8}", name):
            raise DamagedError(
                f"the checkpoint says that its curve is in the file {name!r}, which is no name of such a file"
            )
        if type(size) is not int or not 0 <= size <= largest:
            raise DamagedError(f"the file says that its curve has {size!r} bytes")
        try:
            with self._curve(lane.key, name).open("rb") as stream:
                text = stream.read(size)
        except OSError as error:
            raise DamagedError(f"the file of the curve can't be read: {error}") from error
        if len(text) < size or zlib.crc32(text) != checksum:
            raise DamagedError("the curve has changed since it was saved")
        return [parsed(line) for line in text.splitlines()]


def begun_by(folder: Path, keys: Container[str]) -> Counter[str]:
    """Count the checkpoints of these lanes (networks) in a folder, by the engine that trained them.

    `keys` are the keys of the lanes.
    """
    counts: Counter[str] = Counter()
    for file in folder.glob("*.npz"):
        key, _, engine = file.stem.partition(".")
        if key in keys:
            counts[engine or "numpy"] += 1
    return counts


def resume(
    checkpoints: Checkpoints,
    groups: Mapping[str, Sequence[Trial]],
    execution: Execution,
    say: Callable[[str], None],
    *,
    set_aside: bool = True,
    is_told: bool = True,
) -> tuple[dict[str, Stack], dict[str, list[Record]]]:
    """Load the checkpoints of the trials to train, and print how many trials resume.

    Parameters
    ----------
    checkpoints
        The folder of checkpoints.
    groups
        The trials to train, by the key of the lane (network) that trains them.
    execution
        The settings of the sweep.
    say
        Called with each message.
    set_aside
        Whether damaged checkpoints are renamed; otherwise nothing is written.
    is_told
        Whether the number of trials is printed. The later rounds of a search always resume, and do not print
        it.

    Returns
    -------
    Two dicts by the key of each lane with a checkpoint: the state, as a stack of one lane; and the records.
    """
    begun: dict[str, Stack] = {}
    curves: dict[str, list[Record]] = {}
    others: Counter[str] = Counter()
    for key, (trial, *_) in groups.items():
        try:
            checkpoint = checkpoints.load(trial.lane(), trial.recipe, set_aside=set_aside)
        except DamagedError as error:
            say(f"{trial.name} starts over: {error}")
            continue
        if checkpoint is not None:
            begun[key], curves[key] = checkpoint
        else:
            others.update(dict.fromkeys(checkpoints.engines_with_checkpoint(key), len(groups[key])))
    if begun and is_told:
        resumed = sum(len(groups[key]) for key in begun)
        after = at_epochs([stack.epoch for stack in begun.values()])
        say(f"resuming {plural(resumed, 'trial')} from the last checkpoint, {after}")
    for engine, count in others.items():
        say(
            f"{plural(count, 'trial')} begun with execution.engine={engine} must start over, since one "
            f"engine trains a trial from beginning to end; {to_resume_with(engine)}"
        )
    _tell_changed_diagnostics(curves, groups, execution.diagnostics, say)
    return begun, curves


def _tell_changed_diagnostics(
    curves: Mapping[str, Sequence[Record]],
    groups: Mapping[str, Sequence[Trial]],
    wanted: Level,
    say: Callable[[str], None],
) -> None:
    """Print how many resumed trials begin or cease to record diagnostics or histograms.

    They do so if `wanted`, the level of diagnostics of this sweep, is not the level of their checkpoint.
    """
    changed: Counter[Level] = Counter()
    for key, curve in curves.items():
        before = layer_stats.level_of(curve[-1])
        if before != wanted:
            changed[before] += len(groups[key])
    for before, count in changed.items():
        what = "diagnostics" if not (before and wanted) else "histograms"
        recorded = "recorded" if layer_stats.includes(wanted, before) else "no longer recorded"
        say(
            f"{what} are {recorded} for {plural(count, 'trial')} that started with "
            f"diagnostics={str(before).lower()}"
        )


def to_resume_with(engine: str) -> str:
    """Return how to resume the trials that this engine began, as the end of a message.

    For example "write execution.engine=numba to resume them"; how to install it, if it is not installed.
    """
    if find_spec(engine) is None:
        return f'{engine} is not installed; to resume them, run pip install "fnnexp[{engine}]"'
    return f"write execution.engine={engine} to resume them"


# --- the content of files -----------------------------------------------------------------------------------


def largest_curve(recipe: Recipe) -> int:
    """Return the largest size in bytes that the JSON of a curve can have; a file with more is damaged."""
    optional = [*layer_stats.names(recipe.architecture), *measured.names()]
    an_epoch = META_AN_EPOCH + META_A_METRIC * len(optional) + 2 * _histograms_size(recipe)
    return META + an_epoch * (1 + recipe.epochs)


def write(file: Path, **arrays: Array) -> None:
    """Write an ``.npz`` of arrays under a temporary name and rename it; if that fails, leave nothing."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        partial.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def tidy(folder: Path) -> None:
    """Remove partial files older than an hour. Another process may still be writing newer files."""
    for partial in folder.glob("*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > 3600:
                partial.unlink()


def as_text(value: object) -> NDArray[np.uint8]:
    """Return a value as JSON in an array of bytes, so that :func:`write` can save it beside other arrays."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def as_row(record: Record) -> list[Any]:
    """Return an epoch's record as a list that can be saved as JSON, and that :func:`records_from` reads."""
    row: list[Any] = [record.epoch, record.metrics, record.seconds]
    if record.histograms is not None:
        row.append(base64.b64encode(zlib.compress(record.histograms, 1)).decode())
    return row


def _histograms_size(recipe: Recipe) -> int:
    """Return the size of the histograms of an epoch in bytes."""
    return math.prod(layer_stats.counts_shape(recipe.architecture)) * layer_stats.COUNTS.itemsize


def _histograms_from(text: object, size: int) -> bytes:
    """Unpack the histograms of an epoch from the text in a checkpoint (compressed, base64).

    Raise DamagedError unless they have `size` bytes.
    """
    if not isinstance(text, str):
        raise DamagedError("the histograms in the file are not a text")
    try:
        unpacked = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise DamagedError(f"the histograms in the file can't be read: {error}") from error
    if len(unpacked) != size:
        raise DamagedError(f"the histograms of an epoch have {len(unpacked)} bytes or more, not {size}")
    return unpacked


def parsed(text: bytes) -> Any:
    """Return the value of a JSON text; raise DamagedError if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"the text in the file is not JSON: {error}") from error


def contents(
    file: Path,
    texts: Mapping[str, int],
    names: Iterable[str] = (),
    dtype: DTypeLike = np.uint8,
    shape: tuple[int, ...] = (),
) -> tuple[list[bytes], list[Array]]:
    """Return the texts and the arrays in a file of checkpoints or final states.

    At most the sizes in the arguments are read, so a damaged file can't fill the memory.

    Parameters
    ----------
    file
        An ``.npz``.
    texts
        The largest size in bytes of each text, by its name.
    names, dtype, shape
        The names of the arrays, and the dtype and the shape that all of them must have.

    Raises
    ------
    DamagedError
        If the file can't be read, or its content is not as described.
    """
    try:
        if not file.is_file():
            raise DamagedError("this is not a regular file")
        with file.open("rb") as stream:
            archive = Archive(stream)
            trials = []
            for name, largest in texts.items():
                size = archive.header(name).size
                if size > largest:
                    raise DamagedError(f"{name} has {size} bytes; at most {largest} are allowed")
                trials.append(archive.array(name, np.uint8, (size,)).tobytes())
            return trials, [archive.array(name, dtype, shape) for name in names]
    except OSError as error:
        raise DamagedError(str(error)) from error


def _metric_names(recipe: Recipe) -> tuple[tuple[set[str], set[str]], tuple[set[str], set[str]]]:
    """Return which metrics a record in a checkpoint must have and may have: at epoch 0, and at later epochs.

    Each is a pair of sets of names, the required and the allowed ones. Metrics that were added to fnnexp
    later are optional, since a checkpoint may be older. Diagnostics are optional at every epoch, and a record
    of epoch 0 contains nothing else.
    """
    required = set(measured.required_names(recipe.validation > 0))
    diagnostics = set(layer_stats.names(recipe.architecture))
    return (set(), diagnostics), (required, diagnostics | set(measured.names(recipe.validation > 0)))


def best_from(recipe: Recipe, records: Iterable[Record], theta: Array) -> Best:
    """Return the best epoch of a lane (network) with early stopping, from the records of its epochs.

    `theta` are the parameters after that epoch.
    """
    assert recipe.stopping is not None
    value, best_epoch = recipe.stopping.best_of((each.epoch, each.metrics) for each in records)
    return Best((value,), (best_epoch,), theta[None])


def records_from(curve: object, lane: Lane, recipe: Recipe) -> list[Record]:
    """Return the records of a curve that was read from a file, after checking it.

    They are those of epochs 1 to n, and with diagnostics also that of epoch 0.

    Raises
    ------
    DamagedError
        If training by this recipe can't have given the curve.
    """
    at_start, at_end = _metric_names(recipe)
    if not isinstance(curve, list) or not curve:
        raise DamagedError("the file has no curve")
    first = 0 if isinstance(curve[0], list) and curve[0][:1] == [0] else 1
    if not 1 <= first + len(curve) - 1 <= recipe.epochs:
        raise DamagedError(f"the curve has {len(curve)} records, but the trial has {recipe.epochs} epochs")
    records, size = [], _histograms_size(recipe)
    for expected, row in enumerate(curve, start=first):
        if not isinstance(row, list) or len(row) not in (3, 4):
            raise DamagedError(f"the record of epoch {expected} is not a list of epoch, metrics and seconds")
        epoch, metrics, seconds, *rest = row
        if type(epoch) is not int or epoch != expected:
            raise DamagedError(f"the record of epoch {expected} says that it is of epoch {epoch!r}")
        required, possible = at_end if epoch else at_start
        if not isinstance(metrics, dict) or not required <= metrics.keys() <= possible:
            raise DamagedError(f"the record of epoch {expected} has missing or unknown metrics")
        if not all(type(value) is float and math.isfinite(value) for value in (seconds, *metrics.values())):
            raise DamagedError(f"the record of epoch {expected} has a value that is not a finite number")
        histograms = _histograms_from(rest[0], size) if rest else None
        records.append(Record(lane.key, epoch, metrics, seconds, histograms=histograms))
    return records
