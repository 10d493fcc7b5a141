"""The engine of a sweep. ``execution.engine=auto`` chooses one of :data:`fnnexp.nn.engines.base.ENGINES`.

The choice depends on all trials of the sweep, also on those that are done. So the same command, started
again, chooses the same engine. It follows the engine that began trials of the sweep, if there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec

import numpy as np

from fnnexp.config.execution import AUTO, Execution
from fnnexp.config.trial import Trial
from fnnexp.data import datasets
from fnnexp.data.datasets import Prepared
from fnnexp.errors import DataError, plural
from fnnexp.nn.engines.base import ENGINES, engine_named
from fnnexp.nn.engines.numpy_engine import Scaling, mostly_zero
from fnnexp.nn.epoch import CHUNK, NOT_IN_PLACE, descends_by_row, is_plain
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.regularizers import DROPOUT
from fnnexp.nn.pieces.table import short
from fnnexp.nn.training import Recipe, engine_version
from fnnexp.sweeping.backends.cluster import CLUSTERS
from fnnexp.sweeping.checkpoints import CHECKPOINTS, begun_by
from fnnexp.sweeping.plan import USUAL_LANES, PlannedStack
from fnnexp.tracking.reader import Known, runs_of
from fnnexp.tracking.run_format import engine_name

WORTH = 1.0
"""``auto`` chooses Numba if it saves each worker more than this many seconds. To import it and to load its
compiled code takes a worker 0.5 s (measured). The rest is a margin for compiling, which takes 2 to 6 s, once
on a machine."""

SAVED = {"full": (0.8e-12, 5e-12), "mini": (4e-12, 10e-12)}
"""The seconds that numba saves for each row and each weight of the first layer, by the mode of batching, in
float32 and in float64 (``benchmarks/results/speed.csv``). Batches of one row save at least as much as
mini-batches."""

SAVED_A_ROW, SAVED_A_CALL = 5e-7, 8e-6
"""The seconds that numba saves for each row if a network descends row by row, and for each call of NumPy that
it avoids. All lanes of a stack share such a call."""

NAMES = {"numpy": "NumPy", "numba": "numba"}

AGREE = "results of two engines agree only up to rounding"


def with_engine(
    execution: Execution,
    trials: Sequence[Trial],
    known: Mapping[str, Known],
    *,
    n_jobs: int,
    shorter: Mapping[str, int],
) -> tuple[Execution, list[str]]:
    """Choose the engine of a sweep: return the settings with its name instead of ``auto``, and messages.

    One message names the engine that ``auto`` chose, another says that some trials of the sweep were computed
    by another engine. If the settings name an engine, it stays.

    Parameters
    ----------
    execution
        The settings.
    trials
        All trials of the sweep.
    known
        The runs in the store, by trial id.
    n_jobs
        The number of workers.
    shorter
        How many trials can go on from the final states of shorter trials (the same with fewer epochs), by the
        name of the engine that trained these.
    """
    if execution.engine != AUTO:
        return execution, _mixed(execution, trials, known, n_jobs, shorter)
    name, why = _choice(execution, trials, known, n_jobs, shorter)
    chosen = replace(execution, engine=name)
    return chosen, [
        f"computing with {NAMES[name]}{why}",
        *_mixed(execution, trials, known, n_jobs, shorter, name),
    ]


def done_by_others(done: Iterable[Trial], known: Mapping[str, Known], engine: str) -> Counter[str]:
    """Count the finished trials that another engine than `engine` computed, by the name of that engine.

    If `engine` can't train a trial, NumPy trains it instead. Then NumPy is not another engine.
    """
    return Counter(
        name
        for trial in done
        if (name := known[trial.id].engine) not in (engine, engine_name(engine_version(trial.recipe, engine)))
    )


def _mixed(
    execution: Execution,
    trials: Sequence[Trial],
    known: Mapping[str, Known],
    n_jobs: int,
    shorter: Mapping[str, int],
    chosen: str | None = None,
) -> list[str]:
    """Return a message if some trials of the sweep were computed by another engine; else an empty list.

    If the settings (and not `auto`) chose the engine, the message may name the engine with which to go on.
    `chosen` is the engine that `auto` chose; the other parameters are those of :func:`with_engine`.
    """
    done, _ = runs_of(known, trials)
    others = done_by_others(done, known, chosen or execution.engine)
    if not others:
        return []
    counted = ", ".join(f"{count} with {name}" for name, count in others.items())
    number, engines = counted.split(" ", 1)
    verb = "was" if number == "1" else "were"
    text = f"{number} of these trials {verb} computed {engines}; {AGREE}"
    (name, count), *more = others.items()
    if chosen is None and not more and count == len(done) and find_spec(name) is not None:
        auto = " (or auto)" if _choice(execution, trials, known, n_jobs, shorter)[0] == name else ""
        text += f"; execution.engine={name}{auto} goes on with one engine"
    return [text]


def _choice(
    execution: Execution,
    trials: Sequence[Trial],
    known: Mapping[str, Known],
    n_jobs: int,
    shorter: Mapping[str, int],
) -> tuple[str, str]:
    """Choose an engine for a sweep; return its name, and the reason as the end of a sentence."""
    _, wanted = runs_of(known, trials)
    saved = Counter(begun_by(CHECKPOINTS, {trial.numbers_id for trial in wanted}))
    recorded = Counter(known[trial.id].engine for trial in trials if trial.id in known)
    for counts in (saved, recorded):
        begun = max(ENGINES, key=lambda name: counts[name])
        if counts[begun]:
            return _if_importable(begun, f", which began {plural(counts[begun], 'trial')} of this sweep")
    for name, count in shorter.items():
        if 2 * count > len(wanted):
            return _if_importable(name, f", which computed the first epochs of {plural(count, 'trial')}")
    if execution.backend in CLUSTERS:
        return "numpy", "; for numba, which the workers must have too, write execution.engine=numba"
    if seconds_saved(trials) <= WORTH * min(n_jobs, len(trials)):
        return "numpy", ", since numba would save too little time"
    return _if_importable("numba", "")


def _if_importable(name: str, why: str) -> tuple[str, str]:
    """Return this engine and `why` it is chosen; if it can't be imported, NumPy and the reason for that."""
    if name != "numpy" and find_spec(name) is None:
        return "numpy", f', since {name} is not installed; it is faster here: pip install "fnnexp[{name}]"'
    try:
        engine_named(name)
    except ImportError as error:
        return "numpy", f", since {name} can't be imported ({error})"
    return name, why


def seconds_saved(trials: Iterable[Trial]) -> float:
    """Return a low estimate of the seconds that numba would save in all epochs of these trials."""
    kinds = Counter((trial.recipe, trial.data) for trial in trials)
    return sum(
        count * max(recipe.epochs, 1) * _saved_an_epoch(recipe, prepared, count)
        for (recipe, prepared), count in kinds.items()
    )


def _saved_an_epoch(recipe: Recipe, prepared: Prepared, lanes: int) -> float:
    """Return the seconds that numba saves in one epoch of a network, when `lanes` networks share a recipe."""
    rows, architecture = recipe.rows_to_train(prepared.n_train), recipe.architecture
    if descends_by_row(recipe):
        if any(short(name) != name for name in architecture.activations):
            return 0.0  # NumPy computes activations that a user defined
        return rows * (SAVED_A_ROW + SAVED_A_CALL / min(lanes, USUAL_LANES["sample"]))
    if not skips_pixels(recipe, prepared):
        return 0.0
    first_weights = architecture.shapes[0][0] * architecture.shapes[0][1]
    mode = "full" if recipe.batching.mode == "full" else "mini"
    return rows * first_weights * SAVED[mode][recipe.dtype == "float64"]


def skips_pixels(recipe: Recipe, prepared: Prepared) -> bool:
    """Return whether numba would skip the zero pixels of this data, instead of leaving the product to BLAS.

    It does so if most pixels are zero and stay zero in the network's inputs.
    """
    if prepared.real or recipe.scale not in ("unit", "raw") or f"{DROPOUT}0" in recipe.options:
        return False
    try:
        return _is_mostly_zero(prepared)
    except DataError:  # the data is gone, which training will report
        return False


@cache
def _is_mostly_zero(prepared: Prepared) -> bool:
    return mostly_zero(datasets.load(prepared).x_train, Scaling())


COMPILING = "{} compiles its code for this kind of training: some seconds, once on this machine"


def must_compile(trials: Iterable[Trial], engine: str) -> bool:
    """Return whether an engine has to compile code before it can train these trials, which takes seconds."""
    compiled = engine_named(engine).is_compiled
    if compiled is None:
        return False
    return not all(
        compiled(
            np.dtype(recipe.dtype),
            by_row=descends_by_row(recipe),
            skips_pixels=skips_pixels(recipe, prepared),
            update=OPTIMIZERS[recipe.optimizer].update,
        )
        for recipe, prepared in {(trial.recipe, trial.data) for trial in trials}
    )


def threads_used(planned: PlannedStack, engine: str, threads: int, lanes: int | None = None) -> int:
    """Return how many of the given threads train a stack of networks; the others would have nothing to do.

    With `lanes`, the answer is for a stack of the same kind with so many lanes (networks).
    """
    recipe, prepared = planned.recipe, planned.data
    if descends_by_row(recipe):
        return 1
    size = recipe.batching.batch_size(recipe.rows_to_train(prepared.n_train))
    if size > CHUNK:
        return min(threads, -(-size // CHUNK))
    computing, options = engine_named(engine), {*recipe.options}
    steps_at_once = OPTIMIZERS[recipe.optimizer].update in computing.updates and "l2" not in options
    assisted = (
        computing.assistant is not None
        and (lanes or len(planned.lanes)) == 1
        and bool(recipe.architecture.hidden)
        and not options & NOT_IN_PLACE
        and (is_plain(recipe) or (computing.first_step is not None and steps_at_once))
        and skips_pixels(recipe, prepared)
    )
    return min(threads, 2) if assisted else 1
