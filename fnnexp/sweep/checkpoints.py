"""Checkpoints: a lane's state and its curve so far, one file each, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fnnexp.nn.optimizers import OPTIMIZERS
from fnnexp.nn.training import Lane, Recipe, Record, Stack


class Checkpoints:
    """The folder of checkpoints, one file a lane, named by its key.

    A key is a hash of all that a lane computes, so a checkpoint is right for whoever asks for that key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        ValueError
            When the file is torn or foreign; it is set aside first.
        """
        file = self._file(lane.key)
        if not file.exists():
            return None
        shape, dtype = (recipe.architecture.parameter_count,), np.dtype(recipe.dtype)
        count = OPTIMIZERS[recipe.optimizer].slots
        try:
            with np.load(file, allow_pickle=False) as arrays:
                meta = json.loads(arrays["meta"].tobytes())
                theta, slots = arrays["theta"], [arrays[f"slot{i}"] for i in range(count)]
            if meta["key"] != lane.key or any(
                array.shape != shape or array.dtype != dtype for array in (theta, *slots)
            ):
                raise ValueError("it holds another trial")
            records = [
                Record(lane.key, int(epoch), metrics, seconds) for epoch, metrics, seconds in meta["curve"]
            ]
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
            aside = file.with_suffix(".broken")
            file.replace(aside)
            raise ValueError(f"{file} can't be read ({error}); it was set aside as {aside.name}") from error
        return Stack((lane,), theta[None], tuple(slot[None] for slot in slots), int(meta["epoch"])), records

    def remove(self, key: str) -> None:
        """Forget a lane; a file that can't be removed does no harm, for its trials are done."""
        with contextlib.suppress(OSError):
            self._file(key).unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.npz"
