"""The results of finished cells on disk. Maps find them by trial id, so only new cells are trained.

A folder has files of a few cells each. A file is written beside its place and renamed, and never changed. So
a map that is killed loses no finished cell. What one engine computed is not read for another, since their
results differ in the last bits.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.data.npz import Archive, DamagedError
from fnnexp.nn.engines.base import ENGINES
from fnnexp.sweeping.checkpoints import CELLS, as_text, tidy, write

MOST_FILES = 64
"""If the folder has more files of an engine, they are joined at the end of a map."""

ID = np.dtype("S16")

MOST_CELLS, MOST_COLUMNS, MOST_META = 1 << 26, 1000, 1 << 20
"""The largest file that is read: its cells, its columns and the size of its description in bytes."""


@dataclass(frozen=True)
class Table:
    """The results of some cells of a map. A cell is the training of one network.

    Attributes
    ----------
    trials
        The trial ids (n,), each of 16 characters.
    columns
        The values (n,) by name; NaN where a cell has none.
    computed_by
        What computed them: versions of engines and BLAS kernels.
    """

    trials: NDArray[Any]
    columns: Mapping[str, NDArray[np.float64]]
    computed_by: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.trials)

    def select(self, which: NDArray[Any]) -> Table:
        """Return the cells with these indices, or where a mask is true."""
        return Table(self.trials[which], {key: v[which] for key, v in self.columns.items()}, self.computed_by)


def table_of(rows: Mapping[str, Mapping[str, float]], computed_by: Sequence[str] = ()) -> Table:
    """Return a table of the results in `rows`, which has each cell's values by trial id, and then by name."""
    names = list(dict.fromkeys(name for values in rows.values() for name in values))
    columns = {
        name: np.array([values.get(name, np.nan) for values in rows.values()], np.float64) for name in names
    }
    return Table(np.array(list(rows), ID), columns, tuple(computed_by))


def joined(tables: Sequence[Table]) -> Table:
    """Join several tables into one. A cell that several tables have counts once."""
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    trials = np.concatenate([np.array([], ID), *(table.trials for table in tables)])
    _, first = np.unique(trials, return_index=True)
    columns = {
        name: np.concatenate([table.columns.get(name, np.full(len(table), np.nan)) for table in tables])[
            first
        ]
        for name in names
    }
    computed_by = dict.fromkeys(by for table in tables for by in table.computed_by)
    return Table(trials[first], columns, tuple(computed_by))


def engine_of(trial: str, folder: Path = CELLS) -> str | None:
    """Return the name of an engine that has finished this trial as a cell of a map; None if no engine has."""
    wanted = np.array([trial], ID)
    return next((name for name in ENGINES if len(Cells(folder, name).find(wanted))), None)


class Cells:
    """The results of the map cells that one engine has finished, in the files of a folder.

    Parameters
    ----------
    folder
        The folder; it is made when the first cells are written.
    engine
        The name of the engine.
    say
        Prints a message about a file that can't be read.
    """

    def __init__(self, folder: Path, engine: str, say: Callable[[str], None] = print) -> None:
        self.folder, self.engine, self.say = folder, engine, say

    def find(self, trials: NDArray[Any]) -> Table:
        """Return the results of the finished cells among these trials, with one row for each cell."""
        tables = []
        for file in self._files():
            table = self._read(file)
            if table is not None and (mask := np.isin(table.trials, trials)).any():
                tables.append(table.select(mask))
        return joined(tables)

    def add(self, table: Table) -> None:
        """Write the results of finished cells. Raises OSError if the folder can't be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = list(table.columns)
        values = np.array([table.columns[name] for name in names], np.float64).reshape(len(names), -1)
        meta = as_text({"columns": names, "computed_by": table.computed_by})
        file = self.folder / f"{uuid.uuid4().hex}.{self.engine}.npz"
        write(file, meta=meta, trials=table.trials, values=values)

    def tidy(self) -> None:
        """Join the files of cells if there are many, and remove temporary files that a killed process left.

        Only files of an hour or more are removed, since others may still be written.
        """
        with contextlib.suppress(OSError):
            tidy(self.folder)
            files = list(self._files())
            if len(files) > MOST_FILES:
                tables = [(file, table) for file in files if (table := self._read(file)) is not None]
                self.add(joined([table for _, table in tables]))
                for file, _ in tables:
                    file.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        return iter(sorted(self.folder.glob(f"*.{self.engine}.npz")))

    def _read(self, file: Path) -> Table | None:
        """Return the table in a file. If the file is damaged, say so, rename it, and return None."""
        try:
            with file.open("rb") as stream:
                return read_table(Archive(stream))
        except FileNotFoundError:  # another map has joined the files meanwhile
            return None
        except (DamagedError, OSError) as error:
            with contextlib.suppress(OSError):
                file.replace(file.with_suffix(".broken"))
            self.say(f"{file} can't be read ({error}); its cells start over")
            return None


def read_table(archive: Archive) -> Table:
    """Return the table that :meth:`Cells.add` has written; raise DamagedError if the file has none."""
    size = archive.header("meta").size
    if size > MOST_META:
        raise DamagedError(f"its description has {size} bytes, but at most {MOST_META} are allowed")
    try:
        meta = json.loads(archive.array("meta", np.uint8, (size,)).tobytes())
        names, computed_by = meta["columns"], meta["computed_by"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise DamagedError(f"its description is not the expected JSON: {error}") from error
    if not _are_texts(names) or not _are_texts(computed_by) or len(names) > MOST_COLUMNS:
        raise DamagedError("its description does not name its columns")
    shape = archive.header("trials").shape
    if len(shape) != 1 or shape[0] > MOST_CELLS:
        raise DamagedError(f"its trials have the shape {shape}")
    trials = archive.array("trials", ID, shape)
    values = archive.array("values", np.float64, (len(names), *shape))
    return Table(trials, dict(zip(names, values, strict=True)), tuple(computed_by))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
