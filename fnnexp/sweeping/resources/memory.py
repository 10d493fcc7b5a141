"""Memory: what a worker needs to train a stack, and stacks that fit into what it may take.

The estimates count the large arrays of :mod:`fnnexp.nn.training`, as far as they are written to: pages that
are never touched take no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fnnexp.config.execution import Execution, bytes_of
from fnnexp.config.grids.swept import BYTES_A_TRIAL
from fnnexp.config.trial import Trial
from fnnexp.data import room
from fnnexp.errors import FnnexpError, plural
from fnnexp.nn.epoch import CHUNK, NOT_IN_PLACE, SLICE_BYTES, descends_by_row, is_plain, same_order_groups
from fnnexp.nn.network import activations_of
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.regularizers import DROPOUT
from fnnexp.nn.training import Recipe
from fnnexp.sweeping.backends.cluster import CLUSTERS
from fnnexp.sweeping.plan import PlannedStack, spread
from fnnexp.sweeping.resources.engine import skips_pixels

MB, GB = 10**6, 10**9

PYTHON, NUMBA, COMPILED = 50 * MB, 60 * MB, 65 * MB
"""The bytes that a worker takes before it trains (measured): for Python with NumPy, for Numba, and for
compiled code."""

PARENT, A_TRIAL = 270 * MB, 3000
"""The bytes that the parent takes: for Python with Hydra and MLflow, and for each trial (measured at 1,000
and 10,000 trials)."""

SHARE = 0.9
"""The share of the available memory that the workers may take. The rest is for the parent and for others."""

AGAIN = 1.5
"""How many times its arrays an evaluation takes (measured): they are freed before the next evaluation, which
partly gets other memory."""

BY_ROW = {"numpy": 64, "numba": 256}
"""How many rows an engine takes at a time if a network descends row by row."""


# --- what a stack needs -------------------------------------------------------------------------------------


def needed(planned: PlannedStack, execution: Execution) -> dict[str, int]:
    """Estimate how many bytes a worker needs to train a stack of networks; return them by purpose.

    The purposes are words for messages, such as "data" and "parameters".
    """
    recipe, data = planned.recipe, planned.data
    count = recipe.rows_to_train(data.n_train)
    size = min(CHUNK, recipe.batching.batch_size(count))
    if descends_by_row(recipe):
        size = min(BY_ROW[execution.engine], count)
    sparse = execution.engine == "numba" and skips_pixels(recipe, data)
    compiles = execution.engine == "numba" and (sparse or descends_by_row(recipe))
    state, copies = _state(planned), _copies(planned, size, sparse=sparse)
    if execution.diagnostics:  # they need a copy of the parameters from before the epoch
        copies += _theta(planned)
    rows, activations = _rows(planned, size, sparse=sparse), _activations(planned, size)
    # The worker trains a copy of the state. Before it pickles this copy, it frees all other arrays.
    # So pickling takes more memory only if the pickled state is larger than they were.
    sending = max(state - copies - rows - activations, 0)
    return {
        "Python": PYTHON + NUMBA * (execution.engine == "numba") + COMPILED * compiles,
        "data": _data(planned),
        "parameters": 2 * state + copies + sending,
        "rows": rows,
        "activations": activations,
    }


def _theta(planned: PlannedStack) -> int:
    """Return the bytes of the parameters of all lanes (networks) of a stack."""
    count = planned.recipe.architecture.parameter_count
    return len(planned.lanes) * count * np.dtype(planned.recipe.dtype).itemsize


def _state(planned: PlannedStack) -> int:
    """Return the bytes of a stack's state: parameters, optimizer's arrays, and parameters of best epochs."""
    recipe = planned.recipe
    return _theta(planned) * (1 + OPTIMIZERS[recipe.optimizer].slots + (recipe.stopping is not None))


def _threads(planned: PlannedStack) -> tuple[int, int]:
    """Return how many threads compute a batch, and how many evaluate; each has arrays of its own."""
    recipe, data = planned.recipe, planned.data
    batch = recipe.batching.batch_size(recipe.rows_to_train(data.n_train))
    return min(planned.threads, -(-batch // CHUNK)), min(planned.threads, -(-data.n_test // CHUNK))


def _copies(planned: PlannedStack, size: int, *, sparse: bool) -> int:
    """Return the bytes of the gradients and of copies of weights, when chunks of `size` rows are computed.

    `sparse` is whether numba skips zero pixels.
    """
    training, measuring = _threads(planned)
    recipe, lanes, theta = planned.recipe, len(planned.lanes), _theta(planned)
    itemsize, architecture = np.dtype(recipe.dtype).itemsize, recipe.architecture
    inputs, outputs = architecture.shapes[0]
    one_first = inputs * outputs * itemsize
    first, slots = lanes * one_first, OPTIMIZERS[recipe.optimizer].slots
    later = theta - lanes * inputs * outputs * itemsize
    # Networks are evaluated in slices. For each, BLAS copies weights of the first layer to a buffer.
    evaluating = int(measuring * AGAIN * (first if sparse else one_first * _slices(recipe, lanes, CHUNK)))
    if descends_by_row(recipe):
        return evaluating + (first if sparse else one_first + 2 * later)
    count = recipe.rows_to_train(planned.data.n_train)
    size_of_batch = recipe.batching.batch_size(count)
    later_sums = training * later * (1 + (count % size > 0))
    whole_gradient = not is_plain(recipe) or size_of_batch > CHUNK or bool({*recipe.options} & NOT_IN_PLACE)
    gradients = theta * (1 + training if training > 1 else 1) if whole_gradient else 0
    penalties = theta if whole_gradient and {*recipe.options} & {"l1", "l2"} else 0
    if not sparse:
        buffers = training * one_first * _slices(recipe, lanes, size)
        return evaluating + later_sums + gradients + penalties + buffers
    if slots and size_of_batch <= CHUNK and not penalties:  # the gradient of the first weights is not stored
        return evaluating + later_sums + gradients + first * slots
    return evaluating + later_sums + gradients + penalties + training * first


def _slices(recipe: Recipe, lanes: int, rows: int) -> int:
    """Return into how many groups the networks of a stack are divided, to be computed one after another.

    `rows` is the number of rows that are computed at a time.
    """
    widest = max((*recipe.architecture.hidden, recipe.architecture.classes))
    width = max(SLICE_BYTES // (rows * widest * np.dtype(recipe.dtype).itemsize), 1)
    return -(-lanes // width)


def _rows(planned: PlannedStack, size: int, *, sparse: bool) -> int:
    """Return the bytes of the rows of data in chunks of `size` rows, and of the shuffled orders of all rows.

    `sparse` is whether numba skips zero pixels.
    """
    recipe, itemsize = planned.recipe, np.dtype(planned.recipe.dtype).itemsize
    columns, of_bytes = planned.data.input_size, 4 if planned.data.real else 2
    a_row = columns * (0.2 * 2 * (4 + itemsize) if sparse else of_bytes + itemsize)
    groups = len(same_order_groups(recipe, planned.stack))
    order = recipe.rows_to_train(planned.data.n_train) * 8 if recipe.batching.shuffle else 0
    training, measuring = _threads(planned)
    if sparse and training == 1 and planned.threads > 1 and len(planned.lanes) == 1:
        training = 3  # the thread that assists numba has two more batches of rows
    return int(
        groups * (training * size * a_row + order) + measuring * min(CHUNK, planned.data.n_test) * a_row
    )


def _activations(planned: PlannedStack, size: int) -> int:
    """Return the bytes of the arrays that forward and backward passes, and evaluations, fill.

    `size` is the number of rows of a chunk in training.
    """
    recipe, architecture = planned.recipe, planned.recipe.architecture
    lanes, itemsize = len(planned.lanes), np.dtype(recipe.dtype).itemsize
    dropped = any(option.startswith(DROPOUT) for option in recipe.options)
    arrays = [3 + activation.needs_z + 2 * dropped for activation in activations_of(architecture)]
    trained = sum(n * width for n, width in zip(arrays, architecture.hidden, strict=True))
    rest, shorter = recipe.rows_to_train(planned.data.n_train) % size, planned.data.n_test % CHUNK
    training, measuring = _threads(planned)
    evaluated = AGAIN * (measuring * CHUNK + shorter) * (sum(architecture.hidden) + 3 * architecture.classes)
    values = training * (size + rest) * (trained + 3 * architecture.classes) + evaluated
    return int(lanes * itemsize * values)


def _data(planned: PlannedStack) -> int:
    """Return the bytes of the data that a worker reads, and of the rows that it copies from it."""
    data, recipe = planned.data, planned.recipe
    a_row = data.input_size * (4 if data.real else 1)
    copied = recipe.rows_to_train(data.n_train) if recipe.subset is not None else 0
    if recipe.seed_split is not None and recipe.validation:
        copied = copied or data.n_train
    return (data.n_train + data.n_test + copied) * a_row


def of_parent(stacks: Sequence[PlannedStack], trials: int, n_jobs: int) -> int:
    """Return the bytes that the parent process needs: a little for each trial, and the stacks in training."""
    return PARENT + trials * BYTES_A_TRIAL + 3 * n_jobs * max((_state(stack) for stack in stacks), default=0)


# --- stacks that fit into memory ----------------------------------------------------------------------------


def limit(execution: Execution, n_jobs: int) -> int | None:
    """Return how many bytes a worker may take at most; None if that is unknown, as on a cluster."""
    if execution.memory is not None:
        return bytes_of(execution.memory)
    left = None if execution.backend in CLUSTERS else room.available_memory()
    return None if left is None else int(left * SHARE / n_jobs)


def fitting(
    stacks: Iterable[PlannedStack],
    groups: Mapping[str, Sequence[Trial]],
    execution: Execution,
    n_jobs: int,
) -> list[PlannedStack]:
    """Halve the stacks of networks until each fits into a worker's memory. This changes no result.

    Raises
    ------
    FnnexpError
        If even a single network does not fit, with the sizes.
    """
    most = limit(execution, n_jobs)
    if most is None:
        return list(stacks)
    parts: list[PlannedStack] = []
    waiting = [*stacks]
    while waiting:
        planned = waiting.pop(0)
        parts_needed = needed(planned, execution)
        if sum(parts_needed.values()) <= most:
            parts.append(planned)
        elif len(planned.lanes) > 1:
            waiting[:0] = planned.split()
        else:
            name = groups[planned.lanes[0].key][0].name
            by_numpy = needed(planned, replace(execution, engine="numpy"))
            raise FnnexpError(_refusal(name, parts_needed, by_numpy, most, execution, n_jobs))
    return spread(parts, n_jobs)


def threads_that_fit(planned: PlannedStack, most: int, execution: Execution) -> int:
    """Return the largest number of threads, up to `most`, whose arrays fit into ``execution.memory``.

    Without that setting, return `most`: the threads replace idle workers, which would take more memory.
    """
    if execution.memory is None:
        return most
    limit = bytes_of(execution.memory)
    counts = (
        count
        for count in range(most, 1, -1)
        if sum(needed(replace(planned, threads=count), execution).values()) <= limit
    )
    return next(counts, 1)


def _refusal(
    name: str,
    parts: Mapping[str, int],
    by_numpy: Mapping[str, int],
    most: int,
    execution: Execution,
    n_jobs: int,
) -> str:
    """Return the message that a trial does not fit into memory, with what it needs and what would fit.

    Parameters
    ----------
    name
        The name of the trial.
    parts, by_numpy
        The bytes that it needs with this engine, and with NumPy, by what they are for.
    most
        The bytes that a worker may take.
    execution, n_jobs
        The settings, and the number of workers.
    """
    total, with_numpy = sum(parts.values()), sum(by_numpy.values())
    enough = f"{-(-total // GB)}GB" if total > GB else f"{-(-total // (10 * MB))}0MB"
    sizes = ", ".join(f"{what} {size(count)}" for what, count in parts.items())
    if execution.memory is not None:
        why, larger = f"execution.memory={execution.memory}", f"write execution.memory={enough}"
    else:
        why = f"what is left here, divided by {plural(n_jobs, 'worker')}"
        fits_alone = n_jobs > 1 and total <= most * n_jobs
        larger = "write execution.n_jobs=1" if fits_alone else "free some memory"
        larger += f", or write execution.memory={enough} to try it all the same"
    if with_numpy <= most:
        larger = f"write execution.engine=numpy, which needs {size(with_numpy)}, or {larger}"
    return (
        f"{name} needs about {size(total)} of memory ({sizes}), but a worker may take {size(most)} ({why}); "
        f"{larger}, or train a smaller network"
    )


def size(count: float) -> str:
    """Return a number of bytes as text, in KB, MB or GB.

    >>> size(345_600), size(1_250_000), size(34_000_000_000)
    ('346 KB', '1 MB', '34.0 GB')
    """
    if count < MB:
        return f"{count / 1000:.0f} KB"
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / MB:.0f} MB"


def summary(stacks: Sequence[PlannedStack], trials: int, execution: Execution, n_jobs: int) -> str:
    """Return a sentence about the memory that a sweep of these stacks of networks will take."""
    largest = max(sum(needed(planned, execution).values()) for planned in stacks)
    most, used = limit(execution, n_jobs), min(n_jobs, len(stacks))
    workers = f"each of {used} workers" if used > 1 else "the worker"
    may = "" if most is None else f"; a worker may take {size(most)}"
    parent = size(of_parent(stacks, trials, n_jobs))
    return f"memory: up to {size(largest)} in {workers}, and {parent} in this process{may}"
