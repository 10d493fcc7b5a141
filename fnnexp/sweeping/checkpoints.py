"""Checkpoints: a file with each lane's state, written whole or not at all, and one with its curve so far.

A curve only grows, so its file is added to. The state says how much of the file counts; what a killed process
has added behind that is passed over. A curve's file belongs to one process. Another process that goes on with
the lane begins a file of its own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.data.npz import Archive, DamagedError
from fnnexp.nn import layer_stats
from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.pieces import metrics as measured
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.training import Lane, Recipe, Record, Stack

CHECKPOINTS = Path(".fnnexp/checkpoints")
"""Where a sweep keeps its checkpoints, from where it was started."""

META, META_AN_EPOCH, META_A_METRIC = 1024, 1024, 128
"""The most bytes of a description, for each epoch, and for each diagnostic in it; about 300 an epoch and 45 a
diagnostic are written."""


class _Written(NamedTuple):
    """How much of a curve's file counts: so many records, in bytes with this checksum."""

    records: int = 0
    size: int = 0
    checksum: int = 0


class Checkpoints:
    """A folder with the checkpoint of each lane that is under way.

    A file is named by its lane's key, which is a hash of all that the lane computes, and by the engine: a
    lane's last bits depend on it, so a lane is trained by one engine from beginning to end.
    """

    def __init__(self, folder: Path, engine: str = "numpy") -> None:
        self.folder, self.engine = folder, engine
        self._own = uuid.uuid4().hex[:8]
        self._written: dict[str, _Written] = {}

    def save(self, stack: Stack, curves: Mapping[str, Sequence[Record]]) -> None:
        """Write each lane of a stack with its records so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for k, lane in enumerate(stack.lanes):
            written = self._add(lane.key, curves[lane.key])
            curve = {"file": self._own, "size": written.size, "checksum": written.checksum}
            arrays = {f"slot{i}": slot[k] for i, slot in enumerate(stack.slots)}
            meta = np.frombuffer(
                json.dumps({"key": lane.key, "epoch": stack.epoch, "curve": curve}).encode(), np.uint8
            )
            partial = self._file(lane.key).with_suffix(f".{os.getpid()}.partial")
            try:
                with partial.open("wb") as file:
                    np.savez(file, meta=meta, theta=stack.theta[k], **arrays)
                partial.replace(self._file(lane.key))
            except OSError:
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise
            self._written[lane.key] = written

    def _add(self, key: str, curve: Sequence[Record]) -> _Written:
        """Add to a curve's file the records that the state does not count yet; return what is then there."""
        file, written = self._curve(key, self._own), self._written.get(key, _Written())
        if not file.is_file() or file.stat().st_size < written.size:
            written = _Written()  # nothing yet, or another process has removed it
        points = [[record.epoch, record.metrics, record.seconds] for record in curve[written.records :]]
        added = "".join(f"{json.dumps(point)}\n" for point in points).encode()
        with file.open("r+b" if written.size else "wb") as stream:
            stream.seek(written.size)
            stream.truncate()
            stream.write(added)
        return _Written(len(curve), written.size + len(added), zlib.crc32(added, written.checksum))

    def tidy(self) -> None:
        """Remove files that a killed process left half written, but no fresh one: another may be writing."""
        for partial in self.folder.glob("*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - partial.stat().st_mtime > 3600:
                    partial.unlink()

    def load(self, lane: Lane, recipe: Recipe) -> tuple[Stack, list[Record]] | None:
        """Return a lane's state as a stack of one, and its records; None when there is none.

        Parameters
        ----------
        lane
            Whose checkpoint.
        recipe
            What it trains, and so the shapes and dtype that its arrays must have.

        Raises
        ------
        DamagedError
            When the file is damaged, or another trial's. It is renamed first; no other error touches it.
        """
        file = self._file(lane.key)
        if not file.exists():
            return None
        try:
            return self._read(file, lane, recipe)
        except DamagedError as error:
            aside = file.with_suffix(".broken")
            file.replace(aside)
            raise DamagedError(f"{file} can't be read ({error}); it was set aside as {aside.name}") from error

    def remove(self, keys: Collection[str]) -> None:
        """Remove lanes' files. A file that can't be removed does no harm, for the lane's trials are done."""
        for file in list(self.folder.glob("*")) if keys else ():
            if file.suffix in (".npz", ".curve") and file.name.partition(".")[0] in keys:
                with contextlib.suppress(OSError):
                    file.unlink()

    def begun_by_others(self, key: str) -> list[str]:
        """Return the other engines that have begun a lane."""
        return [each for each in ENGINES if each != self.engine and self._file(key, each).exists()]

    def _file(self, key: str, engine: str | None = None) -> Path:
        engine = engine or self.engine
        return self.folder / (f"{key}.npz" if engine == "numpy" else f"{key}.{engine}.npz")

    def _curve(self, key: str, name: str) -> Path:
        return self.folder / f"{key}.{name}.curve"

    def _read(self, file: Path, lane: Lane, recipe: Recipe) -> tuple[Stack, list[Record]]:
        """Read a checkpoint; what is not this lane's after so many epochs is damaged."""
        slots = [f"slot{i}" for i in range(OPTIMIZERS[recipe.optimizer].slots)]
        optional = [*layer_stats.names(recipe.architecture), *measured.names()]
        most = META + (META_AN_EPOCH + META_A_METRIC * len(optional)) * (1 + recipe.epochs)
        shape, dtype = (recipe.architecture.parameter_count,), np.dtype(recipe.dtype)
        text, arrays = _contents(file, most, ["theta", *slots], dtype, shape)
        meta = _parsed(text)
        if not isinstance(meta, dict) or meta.get("key") != lane.key:
            raise DamagedError("it holds another trial")
        theta, *values = arrays
        if not np.isfinite(theta).all():
            raise DamagedError("its parameters are not finite")
        curve = meta.get("curve")  # the curve itself, where it was written before curves had their own files
        if isinstance(curve, dict):
            curve = self._points(curve, lane, most)
        records = _records(curve, lane, recipe)
        epoch = meta.get("epoch")
        if type(epoch) is not int or epoch != records[-1].epoch:
            raise DamagedError(f"it is of epoch {epoch!r} and has records up to {records[-1].epoch}")
        return Stack((lane,), theta[None], tuple(slot[None] for slot in values), epoch), records

    def _points(self, curve: Mapping[str, Any], lane: Lane, most: int) -> list[Any]:
        """Return what a curve's file holds, as far as the state counts it."""
        name, size, checksum = (curve.get(key) for key in ("file", "size", "checksum"))
        if type(name) is not str or not re.fullmatch("[0-9a-f]{8}", name):
            raise DamagedError(f"its curve is in {name!r}, which is no file's name")
        if type(size) is not int or not 0 <= size <= most:
            raise DamagedError(f"its curve has {size!r} bytes")
        try:
            with self._curve(lane.key, name).open("rb") as stream:
                text = stream.read(size)
        except OSError as error:
            raise DamagedError(f"its curve can't be read: {error}") from error
        if len(text) < size or zlib.crc32(text) != checksum:
            raise DamagedError("its curve is another than was saved")
        return [_parsed(line) for line in text.splitlines()]


def resume(
    checkpoints: Checkpoints,
    groups: Mapping[str, Sequence[Trial]],
    execution: Execution,
    say: Callable[[str], None],
) -> tuple[dict[str, Stack], dict[str, list[Record]]]:
    """Return the state and the curve of each lane that was begun before, by key; say how many they are."""
    begun: dict[str, Stack] = {}
    curves: dict[str, list[Record]] = {}
    others: Counter[str] = Counter()
    for key, (trial, *_) in groups.items():
        try:
            found = checkpoints.load(trial.lane(), trial.recipe)
        except DamagedError as error:
            say(f"{trial.name} starts over: {error}")
            continue
        if found is not None:
            begun[key], curves[key] = found
        else:
            others.update(checkpoints.begun_by_others(key))
    if begun:
        say(f"{len(begun)} begun before: they go on where they were")
    for engine, count in others.items():
        say(
            f"{count} begun before with execution.engine={engine} start over, for a trial is one engine's"
            f" from beginning to end; with execution.engine={engine} they go on where they were"
        )
    wanted = execution.diagnostics
    if unlike := sum(layer_stats.has_diagnostics(curve[-1].metrics) != wanted for curve in curves.values()):
        have = "have diagnostics from here on" if wanted else "have no diagnostics from here on"
        other = "diagnostics=false" if wanted else "diagnostics=true"
        say(f"{unlike} of them {have}; so far they were trained with {other}")
    return begun, curves


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"its description is no JSON: {error}") from error


def _contents(
    file: Path, most: int, names: Iterable[str], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> tuple[bytes, list[Array]]:
    """Return the description and these arrays. The caller, not the file, decides how much is read."""
    try:
        if not file.is_file():
            raise DamagedError("it is no file")
        with file.open("rb") as stream:
            archive = Archive(stream)
            size = archive.header("meta").size
            if size > most:
                raise DamagedError(f"its description has {size} bytes")
            meta = archive.array("meta", np.uint8, (size,))
            return meta.tobytes(), [archive.array(name, dtype, shape) for name in names]
    except OSError as error:
        raise DamagedError(str(error)) from error


def _metric_names(recipe: Recipe) -> tuple[tuple[set[str], set[str]], tuple[set[str], set[str]]]:
    """Return the metrics that a record must have, and may have: of epoch 0, and of each later one.

    A metric that was added to its table may be there or not. Diagnostics may stand beside the metrics, and
    by themselves at epoch 0.
    """
    required = set(measured.required_names(recipe.validation > 0))
    diagnostics = set(layer_stats.names(recipe.architecture))
    return (set(), diagnostics), (required, diagnostics | set(measured.names(recipe.validation > 0)))


def _records(curve: object, lane: Lane, recipe: Recipe) -> list[Record]:
    """Return the records of a curve: epochs 1 to n, with diagnostics also epoch 0."""
    at_start, at_end = _metric_names(recipe)
    if not isinstance(curve, list) or not curve:
        raise DamagedError("it has no curve")
    first = 0 if isinstance(curve[0], list) and curve[0][:1] == [0] else 1
    if not 1 <= first + len(curve) - 1 <= recipe.epochs:
        raise DamagedError(f"its curve has {len(curve)} records")
    records = []
    for expected, point in enumerate(curve, start=first):
        if not isinstance(point, list) or len(point) != 3:
            raise DamagedError(f"its record {expected} is no record")
        epoch, metrics, seconds = point
        if type(epoch) is not int or epoch != expected:
            raise DamagedError(f"its record {expected} is of epoch {epoch!r}")
        required, possible = at_end if epoch else at_start
        if not isinstance(metrics, dict) or not required <= metrics.keys() <= possible:
            raise DamagedError(f"its record {expected} has other metrics")
        if not all(type(value) is float and math.isfinite(value) for value in (seconds, *metrics.values())):
            raise DamagedError(f"its record {expected} holds a value that is no finite number")
        records.append(Record(lane.key, epoch, metrics, seconds))
    return records
