"""Run a map: find the cells that are finished, train the others, and log all of them as one MLflow run."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from fnnexp.config.commands import Command
from fnnexp.config.compose import Sweep, compose
from fnnexp.config.jobs import key_of
from fnnexp.config.trial import Trial
from fnnexp.console import print_plain
from fnnexp.data import datasets
from fnnexp.data.cache import cache_folder
from fnnexp.errors import ConfigError, plural
from fnnexp.mapping import arrays
from fnnexp.mapping.arrays import Map
from fnnexp.mapping.cells import engine_of
from fnnexp.mapping.kept import find, write_picture
from fnnexp.mapping.request import Request, experiment_of, trials_of
from fnnexp.nn import rows
from fnnexp.sweeping.resources.leftovers import HERE
from fnnexp.sweeping.resources.locks import in_use
from fnnexp.tracking.experiment import MapLog
from fnnexp.tracking.retry import mlflow_settings, shown
from fnnexp.tracking.run_format import as_param

CLEAR = 3.0
"""A network is better than guessing if its accuracy is this many standard errors above that of guessing."""


def of_cell(request: Request) -> Command:
    """Return the command that trains the cell ``cell=I,J`` of a map as an ordinary trial.

    It has the engine that has finished the cell, if any. Engines differ in the last bits, and for a
    single trial ``auto`` may choose another one than for a map.
    """
    assert request.cell is not None
    command = request.command_of(*request.cell)
    (trial,) = compose(command).trials
    engine = engine_of(trial.id)
    if engine is None or any(key_of(word) == "execution.engine" for word in command.overrides):
        return command
    return replace(command, overrides=(*command.overrides, f"execution.engine={engine}"))


def run(request: Request, sweep: Sweep, console: Console, *, since: float | None = None) -> Map | None:
    """Train the new cells of a map, log the map to MLflow and print a summary; return the map.

    With ``dry_run=true``, only print how many cells are new and what they take, and return None. `since` is
    when the command began, by ``time.monotonic``; None means now.

    Raises
    ------
    FnnexpError
        If the input is bad, before anything trains; after Ctrl-C; or if cells failed.
    """
    began = time.monotonic()

    say = partial(print_plain, console)
    trials = trials_of(request, sweep)
    kept = find(trials, sweep.execution, say)
    rows_, columns = request.shape
    say(
        f"{request.x.key} × {request.y.key}: {columns} × {rows_} = {plural(len(trials), 'cell')}, "
        f"{kept.done_before} finished before"
    )
    if sweep.dry_run:
        kept.print_plan(console, began=began if since is None else since, uri=sweep.tracking_uri)
        return None
    with mlflow_settings(), in_use(HERE, cache_folder()):
        log = MapLog(experiment_of(sweep, trials), sweep.tracking_uri)
        log.check()
        table, failed = kept.train("map", console, lambda: _prepare_end(log))
        m = _described(
            arrays.made_of(
                table,
                kept.ids.reshape(request.shape),
                (request.x.key, request.y.key),
                (request.x.values, request.y.values),
            ),
            request,
            trials[0],
        )
        picture = _picture(m)
        folder = log.write(
            _identity(kept.ids, request),
            name=f"{request.x.key} × {request.y.key}",
            params=_params(request, trials),
            metrics=_metrics(m),
            tags=kept.tags(request.words(), table),
            files=lambda: {arrays.FILE: arrays.as_bytes(m), PICTURE: picture},
            result="map.npz",
            complete=not failed,
        )
    if len(table.computed_by) > 1:
        by = ", ".join(table.computed_by)
        say(f"cells were computed by {by}: their results agree to rounding, not bit by bit")
    say(_summary(m, len(kept.new), time.monotonic() - began))
    say(f"picture: {write_picture(log.experiment, PICTURE, picture) or f'{folder}/{PICTURE}'}")
    uri = "" if sweep.tracking_uri is None else f", tracking_uri={shown(sweep.tracking_uri)!r}"
    say(f"arrays: fnnexp.read_map({log.experiment!r}{uri})")
    if zoom := _zoom(request, m):
        say(f"zoom in: {zoom}")
    kept.refuse(failed, "cell")
    return m


def _prepare_end(log: MapLog) -> None:
    """Open the store and import Matplotlib, which takes seconds, while the workers train."""
    import fnnexp.mapping.picture  # noqa: F401

    log.open()


PICTURE = "map.png"


def _picture(m: Map) -> bytes:
    """Return the map drawn, as a PNG."""
    from fnnexp.mapping.picture import plot_map
    from fnnexp.reporting.plots.picture import png

    return png(plot_map(m), dpi=200)


def _described(m: Map, request: Request, trial: Trial) -> Map:
    """Return a map with the metric that ranks its cells, the accuracy of guessing, and its command."""
    recipe, labels = trial.recipe, datasets.load(trial.data)
    _, held_out = rows.numbers(recipe, trial.data.n_train)
    split = labels.y_train[held_out] if recipe.validation else labels.y_test
    share = float(np.bincount(split).max() / len(split))  # the accuracy of always guessing the same class
    guessing = share + CLEAR * math.sqrt(share * (1 - share) / len(split))
    about = {
        "x": str(request.x), "y": str(request.y), "first_x": request.x.first, "first_y": request.y.first,
        "command": request.words(),
    }  # fmt: skip
    metric = "val_accuracy" if recipe.validation else "test_accuracy"
    if metric not in m.columns:  # no cell has ended
        m = replace(m, columns={**m.columns, metric: np.full(m.trials.shape, np.nan)})
    return replace(m, metric=metric, guessing=min(guessing, 1.0), about=about)


def _identity(ids: NDArray[Any], request: Request) -> str:
    """Return a hash of which trial is in which cell, by which the run of the same map is found."""
    content = f"{request.x} {request.y} {request.shape} ".encode() + ids.tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def _params(request: Request, trials: Sequence[Trial]) -> dict[str, str]:
    """Return the params of a map's run: those that all cells share, and the axes."""
    corners = [dict(trials[i].params.items()) for i in (0, request.shape[1] - 1, -request.shape[1], -1)]
    axes = {"x": str(request.x), "y": str(request.y)}
    if not (request.x.is_whole and request.y.is_whole):
        axes["zoom"] = request.zoom
    shared = {
        key: as_param(value)
        for key, value in corners[0].items()
        if key not in (request.x.key, request.y.key) and all(each.get(key) == value for each in corners)
    }
    return {**axes, **shared}


def _metrics(m: Map) -> dict[str, float]:
    """Return the metrics of a map's run: the best accuracy, and the shares of cells that learn or diverge."""
    ended = ~m.missing
    values = m[m.metric][ended & ~m.diverged]
    best = {f"best_{m.metric}": float(values.max())} if values.size else {}
    shares = {"learns": m.learns, "diverged": m.diverged} if ended.any() else {}
    return {**best, **{f"share_{name}": float(mask[ended].mean()) for name, mask in shares.items()}}


def _summary(m: Map, new: int, seconds: float) -> str:
    learns, diverged = int(m.learns.sum()), int(m.diverged.sum())
    missing = int(m.missing.sum())
    guess = m.trials.size - learns - diverged - missing
    failed = f", {missing} failed" if missing else ""
    return (
        f"{plural(m.trials.size, 'cell')}: {learns} better than guessing, {guess} not, {diverged} "
        f"diverged{failed}; {new} trained in {seconds:.1f} s"
    )


def _can_be_finer(request: Request, factor: int) -> bool:
    try:
        request.x.finer(factor), request.y.finer(factor)
    except ConfigError:
        return False
    return True


def _zoom(request: Request, m: Map) -> str | None:
    """Return the command for a finer map of the part with the longest boundary, or None.

    The part is a quarter as wide and as high as the map. It gets four times as many values on each axis,
    or twice as many if that is impossible. If both are impossible, or there is no boundary, return None.
    """
    learns = m.learns
    edges = np.zeros(learns.shape)
    edges[:, 1:] += learns[:, 1:] != learns[:, :-1]
    edges[1:] += learns[1:] != learns[:-1]
    finer = next((factor for factor in (4, 2) if _can_be_finer(request, factor)), None)
    if finer is None or not edges.any():
        return None
    high, wide = (max(n // 4, 2) for n in learns.shape)
    sums = np.pad(edges.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    totals = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    j, i = np.unravel_index(int(totals.argmax()), totals.shape)
    first_x, first_y = request.x.first + int(i), request.y.first + int(j)
    part = f"{first_x}..{first_x + wide},{first_y}..{first_y + high}"
    return request.given(zoom=part, finer=str(finer)).pasted("map")
