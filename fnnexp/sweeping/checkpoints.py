"""Checkpoints: a lane's state and its curve so far, one file each, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fnnexp.data.npz import Archive, DamagedError
from fnnexp.nn import layer_stats as diagnostics
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.training import Lane, Recipe, Record, Stack

CHECKPOINTS = Path(".fnnexp/checkpoints")
"""Where a sweep keeps its checkpoints, from where it was started."""

META, META_AN_EPOCH, META_A_METRIC = 1024, 1024, 128
"""Bytes that a description may have, for each epoch, and for each diagnostic in it; about 300 an epoch and
45 a diagnostic are written."""


class Checkpoints:
    """The folder of checkpoints, one file a lane, named by its key.

    A key is a hash of all that a lane computes, so a checkpoint is right for whoever asks for that key with
    the same engine. Another engine, whose last bits are others, has files of its own.
    """

    def __init__(self, folder: Path, engine: str = "numpy") -> None:
        self.folder, self.engine = folder, engine

    def save(self, stack: Stack, curves: Mapping[str, Sequence[Record]]) -> None:
        """Write each lane of a stack with its records so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for k, lane in enumerate(stack.lanes):
            curve = [[record.epoch, record.metrics, record.seconds] for record in curves[lane.key]]
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

    def tidy(self) -> None:
        """Remove what a killed process left half-written, an hour ago or more: another may be writing now."""
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
            When the file is torn or foreign; it is set aside first.
        """
        file = self._file(lane.key)
        if not file.exists():
            return None
        try:
            return _read(file, lane, recipe)
        except (DamagedError, OSError) as error:
            aside = file.with_suffix(".broken")
            file.replace(aside)
            raise DamagedError(f"{file} can't be read ({error}); it was set aside as {aside.name}") from error

    def remove(self, key: str) -> None:
        """Forget a lane; a file that can't be removed does no harm, for its trials are done."""
        for engine in ENGINES:
            with contextlib.suppress(OSError):
                self._file(key, engine).unlink(missing_ok=True)

    def begun_by_others(self, key: str) -> list[str]:
        """Return the other engines that have begun a lane."""
        return [each for each in ENGINES if each != self.engine and self._file(key, each).exists()]

    def _file(self, key: str, engine: str | None = None) -> Path:
        engine = engine or self.engine
        return self.folder / (f"{key}.npz" if engine == "numpy" else f"{key}.{engine}.npz")


def _read(file: Path, lane: Lane, recipe: Recipe) -> tuple[Stack, list[Record]]:
    """Read a checkpoint. What the recipe says, and not what the file says, decides how much is read."""
    if not file.is_file():
        raise DamagedError("it is no file")
    shape, dtype = (recipe.architecture.parameter_count,), np.dtype(recipe.dtype)
    names = [f"slot{i}" for i in range(OPTIMIZERS[recipe.optimizer].slots)]
    with file.open("rb") as stream:
        archive = Archive(stream)
        length = archive.header("meta").size
        an_epoch = META_AN_EPOCH + META_A_METRIC * len(list(diagnostics.names(recipe.architecture)))
        if length > META + an_epoch * (1 + recipe.epochs):
            raise DamagedError(f"its description has {length} bytes")
        described = archive.array("meta", np.uint8, (length,)).tobytes()
        theta, *slots = (archive.array(name, dtype, shape) for name in ("theta", *names))
    try:
        meta = json.loads(described)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"its description is no JSON ({error})") from error
    if not isinstance(meta, dict) or meta.get("key") != lane.key:
        raise DamagedError("it holds another trial")
    if not np.isfinite(theta).all():
        raise DamagedError("its parameters are not finite")
    records = _records(meta.get("curve"), lane, recipe)
    if type(meta.get("epoch")) is not int or meta["epoch"] != records[-1].epoch:
        raise DamagedError(f"it is of epoch {meta.get('epoch')!r} and has records up to {records[-1].epoch}")
    return Stack((lane,), theta[None], tuple(slot[None] for slot in slots), meta["epoch"]), records


def _records(curve: object, lane: Lane, recipe: Recipe) -> list[Record]:
    """Return the records of a curve: epochs 1 to n, each with the metrics that this recipe measures.

    Diagnostics may stand beside them, and by themselves in a record of epoch 0.
    """
    splits = ("train", "val", "test") if recipe.validation else ("train", "test")
    names = {f"{split}_{quantity}" for split in splits for quantity in ("loss", "accuracy")}
    possible = set(diagnostics.names(recipe.architecture))
    if not isinstance(curve, list) or not curve:
        raise DamagedError("its curve is none")
    begins = 0 if isinstance(curve[0], list) and curve[0][:1] == [0] else 1
    if not 1 <= begins + len(curve) - 1 <= recipe.epochs:
        raise DamagedError("its curve is none")
    records = []
    for expected, point in enumerate(curve, start=begins):
        if not isinstance(point, list) or len(point) != 3:
            raise DamagedError(f"its record {expected} is none")
        epoch, metrics, seconds = point
        if type(epoch) is not int or epoch != expected:
            raise DamagedError(f"its record {expected} is of epoch {epoch!r}")
        if not isinstance(metrics, dict) or metrics.keys() - possible != (names if epoch else set()):
            raise DamagedError(f"its record {expected} has other metrics")
        if not all(type(value) is float and math.isfinite(value) for value in (seconds, *metrics.values())):
            raise DamagedError(f"its record {expected} holds what is no finite number")
        records.append(Record(lane.key, epoch, metrics, seconds))
    return records
