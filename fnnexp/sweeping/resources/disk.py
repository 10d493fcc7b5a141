"""Disk: how much space the results of trials take on this machine, and whether so much is free.

A local store is a SQLite file. Beside it is the folder of the runs' files: the config and the weights of each
trial. The disk of a server is the server's concern.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fnnexp.config.commands import program
from fnnexp.config.trial import Trial
from fnnexp.errors import FnnexpError, plural
from fnnexp.nn import layer_stats
from fnnexp.nn.layer_stats import Level
from fnnexp.nn.pieces import metrics
from fnnexp.nn.training import Recipe
from fnnexp.sweeping.resources.memory import size
from fnnexp.tracking import artifacts, sql, store
from fnnexp.tracking.run_format import BEST

BLOCK = 4096
"""The size of a disk's blocks in bytes. A file takes whole blocks, and each of the two folders of a run takes
one."""

A_RUN, A_POINT, A_METRIC = 9_000, 265, 250
"""The bytes that SQLite takes (measured): for a run with its params and tags, for the value of a metric at an
epoch, and for the last value of a metric."""

AN_ARRAY = 260
"""The bytes that a file of arrays takes for the name and the shape of an array."""

HISTOGRAMS, A_HISTOGRAM = 1_500, 110
"""The bytes of the compressed file of histograms without any, and of each histogram in it (measured on
digits; with the rows of MNIST, a histogram takes a third more)."""


@dataclass(frozen=True)
class Needed:
    """How many bytes the results of some trials take: in the store's database, and in files beside it."""

    trials: int
    store: int
    files: int


def needed(trials: Iterable[Trial], *, diagnostics: Level) -> Needed:
    """Return how many bytes the results of trials take on disk."""
    counts = Counter(trial.recipe for trial in trials)
    in_store = sum(count * _in_store(recipe, diagnostics) for recipe, count in counts.items())
    in_files = sum(count * _in_files(recipe, diagnostics) for recipe, count in counts.items())
    return Needed(counts.total(), in_store, in_files)


def _in_store(recipe: Recipe, diagnostics: Level) -> int:
    names = len(metrics.names(recipe.validation > 0))
    points = names * max(recipe.epochs, 1)
    if recipe.validation:
        names, points = names + len(BEST), points + len(BEST)
    if diagnostics:
        quantities = sum(1 for _ in layer_stats.names(recipe.architecture))
        names, points = names + quantities, points + quantities * (recipe.epochs + 1)
    return A_RUN + points * A_POINT + names * A_METRIC


def _in_files(recipe: Recipe, diagnostics: Level) -> int:
    architecture = recipe.architecture
    weights = architecture.parameter_count * np.dtype(recipe.dtype).itemsize
    weights += 2 * len(architecture.shapes) * AN_ARRAY
    config_and_folders = 3 * BLOCK
    histograms = 0
    if diagnostics == layer_stats.FULL:
        layers, quantities, _ = layer_stats.counts_shape(architecture)
        histograms = HISTOGRAMS + A_HISTOGRAM * layers * quantities * (recipe.epochs + 1)
    files = [weights] * (1 + (recipe.stopping is not None)) + [histograms]
    return config_and_folders + sum(-(-size // BLOCK) * BLOCK for size in files)


def check(results: Needed, uri: str, experiment: str) -> None:
    """Raise if the disks of a local store have too little space left for these results.

    Raises
    ------
    FnnexpError
        With the sizes, and what to write instead.
    """
    for part in _parts(results, uri, experiment):
        if part.left is not None and part.needed > part.left:
            raise FnnexpError(
                f"the results of {plural(results.trials, 'trial')} need about {size(part.needed)} of disk "
                f"({size(part.needed / results.trials)} a trial), but the disk of {part.folder} has "
                f"{size(part.left)} left; free some of it ({program()} clean lists what can go), "
                f"train fewer trials, or {part.elsewhere}"
            )


def needed_beside(folder: Path, results: Needed, uri: str, experiment: str) -> int:
    """Return how many bytes of these results go to the disk of a folder."""
    disk = _existing(folder.absolute()).stat().st_dev
    parts = _parts(results, uri, experiment)
    return sum(part.needed for part in parts if part.folder.stat().st_dev == disk)


def summary(results: Needed, uri: str, experiment: str) -> str | None:
    """Return a sentence about the disk that results will take; None if the store is a server."""
    parts = _parts(results, uri, experiment)
    if not parts:
        return None
    places = " and ".join(
        f"{size(part.needed)} in {part.folder}" + ("" if part.left is None else f" ({size(part.left)} left)")
        for part in parts
    )
    total = sum(part.needed for part in parts)
    return f"disk: about {places}, {size(total / results.trials)} a trial"


class _Part(NamedTuple):
    """The results that go to one disk: a folder on it, and how many bytes they need and are left there.

    `elsewhere` says, for messages, how to put them on another disk.
    """

    folder: Path
    needed: int
    left: int | None
    elsewhere: str


def _parts(results: Needed, uri: str, experiment: str) -> list[_Part]:
    """Return what goes to each disk of a local store; none if the store is a server."""
    file = store.store_file(store.address_or_default(uri))
    if file is None:
        return []
    another = f"write tracking.uri={store.SQLITE}FOLDER/{file.name} for a store on another disk"
    folder, files = _existing(file.parent), _folder_of_files(file, uri, experiment)
    if files is None:
        return [_Part(folder, results.store, _left(folder), another)]
    if files.stat().st_dev == folder.stat().st_dev:
        return [_Part(folder, results.store + results.files, _left(folder), another)]
    link = f"make {file.parent / store.MLRUNS} a link to a folder on another disk"
    return [
        _Part(folder, results.store, _left(folder), another),
        _Part(files, results.files, _left(files), link),
    ]


def _folder_of_files(file: Path, uri: str, experiment: str) -> Path | None:
    """Return an existing folder on the disk that gets the runs' files; None if they go to another machine."""
    address = sql.location(file, experiment) if file.exists() else None
    folder = file.parent / store.MLRUNS if address is None else artifacts.local(address, uri)
    return None if folder is None else _existing(folder)


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _left(folder: Path) -> int | None:
    """Return the bytes that are left on the disk of a folder; None if they are unknown."""
    with suppress(OSError):
        return shutil.disk_usage(folder).free
    return None
