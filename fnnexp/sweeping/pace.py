"""The pace of a stack at so many lanes: measured on this machine, remembered, and what the planner goes by.

Lanes of one row at a time share Python's overhead and want to be many; lanes of wide batches share little
more than the rows they read. Where the best number lies depends on the processor, so it is measured: a few
batches at each of some numbers of lanes, in the workers, once for each shape of network. No result depends
on it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnnexp.data.cache import cache_folder
from fnnexp.data.datasets import Prepared
from fnnexp.nn.training import Lane, Recipe, rehearsal_rows
from fnnexp.sweeping.executor import at_once
from fnnexp.sweeping.plan import usual_lanes
from fnnexp.sweeping.worker import blas_kernel, rehearse

CANDIDATES = (1, 4, 12, 48)
NEAR = 1.03
"""The fewest lanes win whose pace is within this factor of the best: more stacks keep more workers busy."""

WORTH = 50
"""What is to be trained must be this many times what measuring would train."""


class Pace:
    """Seconds that one lane takes for one row, by what is trained and the number of lanes beside it.

    Parameters
    ----------
    file
        Where it is kept.
    engine
        Who computes: each engine has a pace of its own.
    """

    def __init__(self, file: Path | None = None, engine: str = "numpy") -> None:
        self._file, self._engine = file, engine
        self._machine = f"{platform.node()}, {os.cpu_count()} cores, {blas_kernel()}, NumPy {np.__version__}"
        self._seconds: dict[str, dict[int, float]] = {}
        self._others: dict[str, Any] = {}
        if file is not None:
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                self._others = dict(json.loads(file.read_text(encoding="utf-8")))
                self._seconds = {
                    what: {int(K): float(seconds) for K, seconds in measured.items() if int(K) > 0}
                    for what, measured in self._others.pop(self._machine, {}).items()
                }

    @classmethod
    def remembered(cls, engine: str) -> Pace:
        """Return what was measured before on this machine."""
        return cls(cache_folder() / "pace.json", engine)

    def lanes(self, recipe: Recipe) -> int:
        """Return how many lanes to stack."""
        measured = self._seconds.get(self._what(recipe))
        if not measured:
            return usual_lanes(recipe)
        best = min(measured.values())
        return min(lanes for lanes, seconds in measured.items() if seconds <= NEAR * best)

    def measure(self, wanted: Mapping[Recipe, tuple[Prepared, Sequence[Lane]]], n_jobs: int) -> int:
        """Measure what is worth it and was not measured before; return how many recipes that were.

        What can't be measured, because there is no memory for so many lanes, is left at the usual.
        """
        tasks = []
        for recipe, (prepared, lanes) in wanted.items():
            rows = prepared.n_train - recipe.validation
            few = rehearsal_rows(recipe, rows)
            counts = [k for k in CANDIDATES if k < len(lanes)] + [min(len(lanes), CANDIDATES[-1])]
            known = self._seconds.get(self._what(recipe), {})
            missing = [k for k in counts if k not in known]
            to_train = len(lanes) * rows * max(recipe.epochs, 1)
            if len(counts) > 1 and missing and to_train >= WORTH * 3 * few * sum(missing):
                tasks.append((recipe, prepared, lanes[0], missing, self._engine))
        if not tasks:
            return 0
        try:
            measured = at_once(rehearse, tasks, n_jobs=n_jobs, engine=self._engine)
        except Exception:  # whatever it is, a sweep can do without
            return 0
        for (recipe, *_), seconds in zip(tasks, measured, strict=True):
            self._seconds.setdefault(self._what(recipe), {}).update(seconds)
        self._remember()
        return len(tasks)

    def _what(self, recipe: Recipe) -> str:
        """Return what the pace depends on, in words."""
        shape, batching = recipe.architecture, recipe.batching
        widths = "-".join(map(str, (shape.inputs, *shape.hidden, shape.classes)))
        size = f" {batching.size}" if batching.size else ""
        order = "shuffled" if batching.shuffle else "in order"
        what = [f"{widths} {shape.activation}", f"{batching.mode}{size} {order}"]
        what += [recipe.optimizer, recipe.dtype]
        return ", ".join(what if self._engine == "numpy" else [*what, self._engine])

    def _remember(self) -> None:
        """Write the table, or let it be where that can't be done: it will be measured again."""
        if self._file is None:
            return
        table = {**self._others, self._machine: self._seconds}
        partial = self._file.with_suffix(f".{os.getpid()}.partial")
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(table, indent=1), encoding="utf-8")
            partial.replace(self._file)
