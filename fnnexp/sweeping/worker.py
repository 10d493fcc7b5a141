"""The work of one worker call: train some epochs of a stack. A worker reads data and writes nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import threading
import time
import traceback
from dataclasses import dataclass, replace

import numpy as np

from fnnexp.config.execution import Execution
from fnnexp.data import datasets as data
from fnnexp.data.datasets import Arrays, Prepared
from fnnexp.errors import DataError
from fnnexp.nn.training import End, Recipe, Record, Stack, advance, engine_version
from fnnexp.pieces.registry import receive as receive_pieces
from fnnexp.results.networks.one_thread import ONE_THREAD, blas_kernel
from fnnexp.sweeping.plan import PlannedStack


@dataclass(frozen=True)
class Trained:
    """The result of training some epochs: the stack's new state, the records, the BLAS kernel, the engine."""

    stack: Stack
    records: list[Record]
    blas: str
    engine: str


@dataclass(frozen=True)
class Broken:
    """A segment (some epochs of a stack) that raised an exception: the reason and the traceback."""

    reason: str
    traceback: str

    @classmethod
    def by(cls, error: BaseException) -> Broken:
        """Return what broke, from an exception of a segment. Call this while the exception is handled."""
        return cls(f"{type(error).__name__}: {error}", traceback.format_exc())


class WorkerDied(Broken):
    """A segment (some epochs of a stack) whose worker process died, for example because memory ran out."""


def train_segment(planned: PlannedStack, execution: Execution) -> Trained | Broken:
    """Train whole epochs of a stack of networks for about ``segment_seconds``, with BLAS on one thread."""
    try:
        receive_pieces(planned.pieces)
        with ONE_THREAD:
            stack, records = advance(
                planned.recipe,
                planned.stack,
                _RECEIVED.get(planned.data.checksum) or data.load(planned.data),
                execution.segment_seconds,
                diagnostics=execution.diagnostics,
                engine=execution.engine,
                threads=planned.threads,
                around_threads=ONE_THREAD,
                upto=planned.upto,
            )
        if not planned.keeps_weights:
            stack, records = _without_weights(planned.recipe, stack, records)
        return Trained(stack, records, blas_kernel(), engine_version(planned.recipe, execution.engine))
    except Exception as error:
        return Broken.by(error)


MOST_TIMED = 1000
"""The largest number of epochs that :func:`time_epoch` trains."""


def time_epoch(planned: PlannedStack, execution: Execution, rows: int, seconds: float) -> float | None:
    """Measure how many seconds an epoch of a stack of networks takes; None if training fails.

    Parameters
    ----------
    planned, execution
        The stack, and the settings.
    rows
        How many rows to train on. The rows to evaluate are reduced in proportion, and the result is scaled up
        to all rows.
    seconds
        About how long to train, after a first epoch that is not measured.
    """

    def train(stack: Stack, seconds: float) -> tuple[Stack, list[Record]]:
        return advance(
            recipe,
            stack,
            part,
            seconds,
            engine=execution.engine,
            threads=planned.threads,
            around_threads=ONE_THREAD,
        )

    try:
        receive_pieces(planned.pieces)
        recipe, part, times_as_many = _part(planned.recipe, data.load(planned.data), rows)
        with ONE_THREAD:
            stack, records = train(planned.stack, 0.0)  # the first epoch also loads code
            if stack.lanes:
                _, records = train(stack, seconds)
    except Exception:  # the sweep will raise it again and report it
        return None
    a_lane = statistics.median(record.seconds for record in records)
    return times_as_many * len(planned.lanes) * a_lane


def _part(recipe: Recipe, arrays: Arrays, rows: int) -> tuple[Recipe, Arrays, float]:
    """Reduce a recipe and its data to the first `rows` training rows.

    Return both, and by which factor the number of rows became smaller.
    """
    n = recipe.rows_to_train(len(arrays.x_train))
    rows = min(rows, n)
    held_out, tested = (-(-count * rows // n) for count in (recipe.validation, len(arrays.x_test)))
    part = Arrays(
        arrays.x_train[: rows + held_out],
        arrays.y_train[: rows + held_out],
        arrays.x_test[:tested],
        arrays.y_test[:tested],
    )
    epochs = MOST_TIMED if recipe.epochs else 0
    return replace(recipe, epochs=epochs, validation=held_out, subset=None, stopping=None), part, n / rows


def _without_weights(recipe: Recipe, stack: Stack, records: list[Record]) -> tuple[Stack, list[Record]]:
    """Return a stack and its records without the weights of networks that ended, to send fewer bytes."""
    if stack.epoch >= recipe.epochs:
        stack = Stack(stack.lanes, np.empty((len(stack.lanes), 0)), (), stack.epoch)
    nothing = np.empty(0)
    ended = [
        record if record.end is None else replace(record, end=End(record.end.how, record.end.epoch, nothing))
        for record in records
    ]
    return stack, ended


_RECEIVED: dict[str, Arrays] = {}
"""The data sets that this process received from a cluster, by checksum."""


def receive(prepared: Prepared, arrays: Arrays) -> None:
    """Keep a data set that was sent to this worker in memory, unless its machine has it in the cache."""
    try:
        data.load(prepared)
    except DataError:
        for array in vars(arrays).values():
            array.flags.writeable = False
        _RECEIVED[prepared.checksum] = arrays


def initialize_worker() -> None:
    """Initialize a worker process: import what training needs, and exit when the parent dies.

    The process starts before the engine is known, so numba is not imported here, but by the first segment
    (some epochs of a stack) that uses numba.
    """
    depend_on_the_parent()
    blas_kernel()


def depend_on_the_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and exit when the parent dies.

    A terminal sends Ctrl-C to every process of the group, but only the parent should react to it. When the
    parent is killed, loky's workers would wait five more minutes for their next task.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        threading.Thread(target=_exit_with, args=(parent.pid,), daemon=True).start()


def _exit_with(parent: int | None) -> None:
    """Exit when the parent dies (``getppid`` changes)."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
