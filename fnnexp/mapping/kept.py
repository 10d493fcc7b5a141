"""What is kept of the trials of a map or a range test: those that finished before, and those trained now."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from fnnexp.config.commands import file_name
from fnnexp.config.execution import AUTO, Execution
from fnnexp.config.trial import Trial
from fnnexp.console import print_plain
from fnnexp.errors import FnnexpError, plural
from fnnexp.mapping.cells import ID, Cells, Table, joined
from fnnexp.mapping.training import Outcome, planned, train
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.training import Record
from fnnexp.sweeping.checkpoints import CELLS
from fnnexp.sweeping.executor import worker_count
from fnnexp.sweeping.resources.engine import with_engine
from fnnexp.tracking.reader import Known
from fnnexp.tracking.retry import shown
from fnnexp.tracking.run_format import COMMAND, ENGINE, FINISHED

MOST_REASONS = 20
"""Maximum number of failed trials that an error message lists with their reasons."""


class InterruptedMapError(FnnexpError):
    """Raised after Ctrl-C stopped a map or a range test. The trials that ended are kept."""

    exit_status = 130


class CellsFailedError(FnnexpError):
    """Raised if some trials of a map or a range test failed. All others have ended."""

    exit_status = 1


@dataclass(frozen=True)
class Kept:
    """The trials of a map or a range test, and which of them have finished before.

    Attributes
    ----------
    trials, ids
        All trials, and their ids (n,).
    new
        The trials that have not finished.
    finished
        The results of the trials that have finished before.
    cells
        Writes and finds results on disk.
    execution
        How the new trials train, with the name of the engine that has finished the others.
    """

    trials: Sequence[Trial]
    ids: NDArray[Any]
    new: Sequence[Trial]
    finished: Table
    cells: Cells
    execution: Execution

    @property
    def done_before(self) -> int:
        """How many trials finished before."""
        return len(self.trials) - len(self.new)

    def print_plan(
        self, console: Console, *, began: float, uri: str | None, values: int | None = None
    ) -> None:
        """Print how much work, memory, disk and time the new trials take.

        The arguments are those of :func:`fnnexp.mapping.training.planned`.
        """
        if not self.new:
            return
        for line in planned(
            self.new, len(self.trials), self.execution, console, values=values, began=began, uri=uri
        ):
            print_plain(console, line)

    def train(
        self,
        what: str,
        console: Console,
        begin: Callable[[], None],
        values: Callable[[Sequence[Record]], dict[str, float]] | None = None,
    ) -> tuple[Table, list[tuple[str, str]]]:
        """Train the new trials; return the results of all trials, and the names and reasons of failed ones.

        ``what`` is what they belong to, such as ``map``. The other arguments are those of
        :func:`fnnexp.mapping.training.train`.

        Raises
        ------
        InterruptedMapError
            After Ctrl-C.
        """
        outcome = Outcome()
        if self.new:
            outcome = train(self.new, self.cells, self.execution, console, begin, values)
        self.cells.tidy()
        if outcome.interrupted:
            raise InterruptedMapError(
                f"interrupted, and what was trained is saved; run the same {what} again to go on"
            )
        return joined([self.finished, *outcome.tables]), outcome.failed

    def tags(self, command: str, table: Table) -> Mapping[str, str]:
        """Return the tags of the run: its command, the engine, what computed the results, and the data.

        What computed the results are versions of engines and BLAS kernels.
        """
        return {
            COMMAND: shown(command),
            ENGINE: self.execution.engine,
            "fnnexp.computed_by": " | ".join(table.computed_by),
            "fnnexp.data_checksum": self.trials[0].data.checksum,
        }

    def refuse(self, failed: Sequence[tuple[str, str]], what: str) -> None:
        """Raise CellsFailedError if some new trials failed. `what` is the noun for a trial: ``cell``."""
        if failed:
            reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed[:MOST_REASONS])
            new = plural(len(self.new), f"new {what}")
            raise CellsFailedError(f"{len(failed)} of {new} failed:\n{reasons}")


def find(
    trials: Sequence[Trial], execution: Execution, say: Callable[[str], None], folder: Path = CELLS
) -> Kept:
    """Choose the engine for all these trials, and find the trials that it has finished before.

    With ``auto`` it is the engine that has finished the most; if none has finished any, it is chosen as
    for a sweep. The results are in `folder`.
    """
    ids = np.array([trial.id for trial in trials], ID)
    names = ENGINES if execution.engine == AUTO else [execution.engine]
    cells = {name: Cells(folder, name, say).find(ids) for name in names}
    known = {
        trial.decode(): Known("", FINISHED, engine=name)
        for name in sorted(cells, key=lambda name: len(cells[name]))
        for trial in cells[name].trials.tolist()
    }
    n_jobs = worker_count(execution.n_jobs)
    chosen, messages = with_engine(execution, trials, known, n_jobs=n_jobs, shorter={})
    for message in messages:
        say(message)
    finished = cells.get(chosen.engine) or joined([])
    done = set(finished.trials.tolist())
    new = [trial for trial, id_ in zip(trials, ids.tolist(), strict=True) if id_ not in done]
    return Kept(trials, ids, new, finished, Cells(folder, chosen.engine, say), chosen)


def write_picture(experiment: str, name: str, picture: bytes) -> Path | None:
    """Write a picture into the folder of the experiment's report; return its path, or None if that fails.

    An earlier picture stays until the new one is whole. The run keeps the picture too, but deep in a
    folder of MLflow or on a server.
    """
    file = Path("reports", file_name(experiment), name)
    staging = file.with_name(f".{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        staging.write_bytes(picture)
        staging.replace(file)
    except OSError:
        with suppress(OSError):
            staging.unlink(missing_ok=True)
        return None
    return file
