"""Merge stores: the finished trials of several SQLite stores in one, each once. `fnnexp merge`."""

from __future__ import annotations

import io
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.data import npz, sources
from fnnexp.errors import FnnexpError
from fnnexp.tracking import artifacts, reader, schema, sql, store
from fnnexp.tracking import experiment as experiments
from fnnexp.tracking.experiment import About
from fnnexp.tracking.reader import TrialRuns
from fnnexp.tracking.retry import StoreError, mlflow_settings
from fnnexp.tracking.run_format import DONE, ENGINE
from fnnexp.tracking.writer import Tracker

if TYPE_CHECKING:
    from numpy.typing import NDArray

COPIED, KNOWN, DIFFERS, UNFINISHED = "copied", "known", "differs", "not finished"

RESULTS = (COPIED, KNOWN, DIFFERS, UNFINISHED)
"""What became of a trial of a merged store, in the order of tables."""

NO_FILES = "without weights and config: the files of its run are not there"
FILES_COPIED = "its files (weights, config) were missing, and are copied"
"""Notes on trials whose files are missing in a store."""

MOST_SHOWN = 10
"""The largest number of trials that a command lists."""

COMPUTED_BY = (ENGINE, "fnnexp.blas")
"""The tags that say what computed a trial's numbers."""


class Row(NamedTuple):
    """What became of a trial: a row of the table that :func:`merge` returns."""

    store: str
    experiment: str
    trial: str
    name: str
    result: str
    note: str = ""


def merge(*stores: str | Path, into: str | Path) -> pd.DataFrame:
    """Copy the finished trials of several stores into one: `fnnexp.merge("a.db", "b.db", into="all.db")`.

    Trials are known by their ids, so each is copied once. Experiments of one name become one experiment.
    Copies have the curves, weights, times and tags of the original runs, and the times of reports are kept,
    so that comparisons account for them. Maps and reports are not copied. The merged stores do not change.

    Parameters
    ----------
    stores
        The SQLite stores: paths of files, or of the folders that have `mlflow.db`, or addresses such as
        `sqlite:///a.db`. Each has its artifacts in `mlruns` beside it.
    into
        The SQLite store to copy to. It is made if it is missing. Its own trials stay as they are.

    Returns
    -------
    DataFrame
        One row for each trial of the stores, in their order. All columns are `str` except `result`.

        - `store`, `experiment`, `trial` (the id) and `name`.
        - `result` (ordered category): `copied`; `known`, if a trial with bitwise the same curves and weights
          is there; `differs`, if the trial is there with other numbers, and these were kept; or
          `not finished`, if the trial can only be resumed where it was interrupted.
        - `note`: for `differs`, what computed both; whether the files of a run (weights, config) were not
          there, or were copied to a trial that lacked them; otherwise empty.

    Raises
    ------
    FnnexpError
        If a store is missing, is no SQLite file, or is named twice; or if `into` cannot be written. What was
        copied before stays, and the same call goes on.

    Examples
    --------
    >>> merged = fnnexp.merge("laptop1.db", "laptop2.db", into="all.db")  # doctest: +SKIP
    >>> merged["result"].value_counts()  # doctest: +SKIP
    """
    if not stores:
        raise FnnexpError('fnnexp.merge needs stores; write fnnexp.merge("a.db", "b.db", into="all.db")')
    target, addresses = address_of(into), [address_of(each) for each in stores]
    for position, address in enumerate(addresses):
        if address in (target, *addresses[:position]):
            raise FnnexpError(f"the store {stores[position]} is named twice; name each store once")
        if not store.has_store(address):
            raise FnnexpError(
                f"there is no store at {store.store_file(address)}; write the path of a file that exists"
            )
    store.refuse_read_only(target)
    rows: list[Row] = []
    with mlflow_settings():
        for given, address in zip(stores, addresses, strict=True):
            for summary in reversed(reader.experiment_summaries(address)):
                if summary.trials:
                    rows += _merge_experiment(summary.name, str(given), address, target)
    frame = pd.DataFrame(rows, columns=list(Row._fields)).astype("str")
    return frame.astype({"result": pd.CategoricalDtype(list(RESULTS), ordered=True)})


def address_of(written: str | Path) -> str:
    """Return the full address of a SQLite store: of an address, a file, or a folder that has `mlflow.db`."""
    text = str(written)
    address = text
    if "://" not in text and not text.startswith("sqlite:"):
        place = store.file_at(text) or sources.place(text)
        address = f"{store.SQLITE}{place.absolute().as_posix()}"
    file = store.store_file(address)
    if file is None or file.is_dir():
        example = f"{text.rstrip('/')}/mlflow.db" if file is not None else "results/mlflow.db"
        raise FnnexpError(
            f"{text} is not the file of a SQLite store, nor a folder with mlflow.db; write the path of the "
            f"file, as in {example}"
        )
    return store.full_address(address)


class _Side:
    """The trials that an experiment has in one of the two stores, between which :func:`merge` copies."""

    def __init__(self, name: str, address: str) -> None:
        self.address, self.runs = address, reader.trials(name, address)
        file = store.store_file(address)
        assert file is not None
        self.file = schema.readable(file, store.on_stderr)
        self.row_of = {str(trial): row for row, trial in enumerate(_tags(self.runs, "fnnexp.trial"))}

    def is_done(self, trial: str) -> bool:
        """Return whether this store has a finished or diverged run of a trial."""
        return trial in self.row_of and self.runs.statuses[self.row_of[trial]] in DONE

    def run_id(self, trial: str) -> str:
        return self.runs.run_ids[self.row_of[trial]]

    def files(self, trial: str) -> Path | None:
        """Return the folder of the files of a trial's run; None if this store does not have it."""
        run_id = self.run_id(trial)
        folder = artifacts.local(sql.artifact_addresses(self.file, [run_id])[run_id], self.address)
        return folder if folder is not None and folder.is_dir() else None

    def weights(self, trial: str) -> Mapping[str, bytes] | None:
        """Return the bytes of a trial's final weights, by name; None if this store does not have them."""
        run_id = self.run_id(trial)
        try:
            content = artifacts.read(run_id, artifacts.WEIGHTS, self.address, most=1 << 33)
            return {name: array.tobytes() for name, array in _arrays(content)}
        except FnnexpError:
            return None

    def computed_by(self, trial: str) -> str:
        """Return the engine and the BLAS kernel that computed a trial's numbers, as text."""
        row = self.row_of[trial]
        texts = [_tags(self.runs, tag)[row] for tag in COMPUTED_BY]
        return ", ".join(text for text in texts if text) or "unknown"


def _tags(runs: TrialRuns, key: str) -> list[str | None]:
    return list(runs.tags.get(key) or [None] * len(runs))


def _arrays(content: bytes) -> Iterator[tuple[str, NDArray[np.generic]]]:
    try:
        archive = npz.Archive(io.BytesIO(content))
        for name in archive.names:
            header = archive.header(name)
            yield name, archive.array(name, header.dtype, header.shape)
    except npz.DamagedError as error:
        raise FnnexpError(str(error)) from error


def _merge_experiment(name: str, given: str, source_address: str, target_address: str) -> list[Row]:
    """Copy an experiment's finished trials from one store into another, and return what became of each."""
    source, tracker = _Side(name, source_address), Tracker(name, target_address)
    tracker.open(describe=False)
    target = _Side(name, target_address)
    rows, to_copy = [], []
    for trial, row in source.row_of.items():
        result, note = UNFINISHED, ""
        if source.is_done(trial) and not target.is_done(trial):
            result, note = COPIED, "" if source.files(trial) else NO_FILES
            to_copy.append(trial)
        elif source.is_done(trial):
            result = KNOWN if _are_equal(source, target, trial) else DIFFERS
            if result == DIFFERS:
                note = f"by {source.computed_by(trial)}; the one by {target.computed_by(trial)} is kept"
            elif (files := source.files(trial)) and target.files(trial) is None:
                note = FILES_COPIED
                _copy_folder(files, _folder(target) / target.run_id(trial) / "artifacts")
        rows.append(Row(given, name, trial, str(source.runs.names[row]), result, note))
    if to_copy:
        _copy(source, target, to_copy)
        for when in reader.looks(source.runs):
            experiments.record_look(name, target_address, when)
        Tracker(name, target_address, About(name, (), None, store.option(target_address))).open()
    return rows


def _are_equal(one: _Side, other: _Side, trial: str) -> bool:
    """Return whether a trial has bitwise the same curves and weights in both stores.

    Diagnostics that only one of them recorded, or weights that only one of them has, do not count.
    """
    curves = [sql.last_points(side.file, side.run_id(trial)) for side in (one, other)]
    common = curves[0].keys() & curves[1].keys()
    if not common or any(curves[0][point] != curves[1][point] for point in common):
        return False
    weights = [side.weights(trial) for side in (one, other)]
    return None in weights or weights[0] == weights[1]


def _copy(source: _Side, target: _Side, trials: list[str]) -> None:
    """Copy some trials to the other store: first the files of their runs, then the rows of the database."""
    folder, new = _folder(target), {}
    for trial in trials:
        run_id = source.run_id(trial)
        new[run_id] = (folder / run_id / "artifacts").as_uri()
        if (files := source.files(trial)) is not None:
            _copy_folder(files, folder / run_id / "artifacts")
    file = store.store_file(target.address)
    assert file is not None
    sql.copy_runs(source.file, file, new, target.runs.experiment_id)


def _folder(side: _Side) -> Path:
    """Return the folder of the files of an experiment's runs."""
    experiment = side.runs.client.get_experiment(side.runs.experiment_id)
    folder = artifacts.local(str(experiment.artifact_location), side.address)
    assert folder is not None
    return folder


def _copy_folder(here: Path, there: Path) -> None:
    """Copy a folder under a temporary name and rename it; replace what a stopped merge left there.

    Raises
    ------
    StoreError
        If a file can't be read or written.
    """
    staging = there.with_name(f".{uuid.uuid4().hex}")
    try:
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(here, staging)
        if there.exists():
            shutil.rmtree(there)
        staging.rename(there)
    except OSError as error:
        # shutil.Error has a tuple (source, target, reason) for each file that could not be copied.
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise StoreError(
            f"{here} can't be copied to {there}: {why}. What was copied before stays; fix the cause (is the "
            "disk full, or a folder read-only?) and start the same command again to go on"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
