"""Create and upgrade the tables of a SQLite store, never in place.

MLflow creates and upgrades its tables step by step in the given file. If a kill or a full disk stops it
half-way, no version of MLflow can open the file. Here MLflow works on another file instead, in a temporary
folder beside the store, and then that file is renamed to the store in one step (:func:`ready`). To read an
old store without changing it, use an upgraded copy (:func:`readable`).

This module uses two private parts of MLflow: its table ``alembic_version`` and the files of its migrations.
From them, fnnexp knows without importing MLflow whether an upgrade is needed. If they are not found, MLflow
opens every store itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from fnnexp.errors import FnnexpError
from fnnexp.tracking import sql

MLFLOWS = {"experiments", "runs"}
"""Tables that identify a store of any MLflow version."""

KEPT = ("experiments", "runs", "params", "metrics")
"""Tables whose rows an upgrade must keep."""

HALF_WAY = re.compile("already exists|duplicate column|no such (table|column|index)")
"""SQLite's messages if a step of an earlier upgrade was stopped half-way."""

SIDES = ("-wal", "-shm", "-journal")
"""The suffixes of the files that SQLite writes beside a database."""

_copies: dict[tuple[Path, int], tempfile.TemporaryDirectory[str]] = {}
"""The folders of upgraded copies, by file and modification time. They are removed when the process ends."""


class NoStoreError(FnnexpError):
    """Raised if there is no store to read."""


class HalfWayError(Exception):
    """Raised if an earlier upgrade was stopped within a step and the store can't be upgraded now."""


@dataclass(frozen=True)
class Schema:
    """The tables of a database file, and how far MLflow's migrations have brought it.

    Attributes
    ----------
    tables
        The names of the tables.
    revisions
        The revision of MLflow's migrations; empty if MLflow was stopped before it finished the file.
    """

    tables: frozenset[str]
    revisions: frozenset[str]

    @property
    def is_current(self) -> bool:
        """Whether MLflow can open the tables without an upgrade."""
        known, last = migrations()
        return not known or self.revisions == last

    @classmethod
    def of(cls, store: sqlite3.Connection) -> Schema:
        """Return the tables and the migrations that an open database contains."""
        tables = {
            str(name) for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        revisions = (
            store.execute("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
        )
        return cls(frozenset(tables), frozenset(str(revision) for (revision,) in revisions))


@cache
def migrations() -> tuple[frozenset[str], frozenset[str]]:
    """Return two sets for this MLflow: the revisions of all its migrations, and that of the last one.

    Both are empty if the migrations are not found.
    """
    package = find_spec("mlflow")
    folders = package.submodule_search_locations if package else None
    files = [
        file for folder in folders or () for file in Path(folder, "store/db_migrations/versions").glob("*.py")
    ]
    text = "\n".join(file.read_text("utf-8", "replace") for file in files)
    known = frozenset(re.findall(r"""^revision\b[^=\n]*= *["'](\w+)""", text, re.MULTILINE))
    before = " ".join(re.findall(r"^down_revision\b.*", text, re.MULTILINE))
    return known, known - frozenset(re.findall(r"""["'](\w+)["']""", before))


def look(file: Path) -> Schema:
    """Return the tables of a SQLite file, and the revision up to which MLflow has migrated them."""
    with sql.opened(file) as store:
        return Schema.of(store)


def refuse(file: Path, existing: Schema) -> None:
    """Raise if the installed MLflow can't open a file even after an upgrade.

    Raises
    ------
    FnnexpError
        If a newer MLflow version or another program wrote the file.
    """
    known, _ = migrations()
    if existing.tables and not existing.tables & MLFLOWS:
        raise FnnexpError(
            f"{file} is the database of another program: it has the tables "
            f"{', '.join(sorted(existing.tables)[:5])}; write tracking.uri=sqlite:///FOLDER/mlflow.db for a "
            "separate store"
        )
    if known and existing.revisions - known:
        raise FnnexpError(newer(str(file), existing.revisions))


def ready(file: Path, say: Callable[[str], None]) -> None:
    """Create a store, or upgrade an old store, so that MLflow opens it without changing its tables.

    If the process is stopped at any moment, the file is either the old store or the complete new store. The
    file of an old store is kept in the same folder.

    Parameters
    ----------
    file
        The store.
    say
        Prints a message before an upgrade.

    Raises
    ------
    FnnexpError
        If the file is not a store for this MLflow version, another program has it open, or the upgrade fails.
    """
    file = file.resolve()
    _tidy(file)
    if not file.exists():
        _make_new(file)
    existing = look(file)
    refuse(file, existing)
    if existing.is_current:
        return
    if existing.tables:
        say(
            f"MLflow's store {file} was written by an older MLflow version: MLflow {version('mlflow')} "
            "upgrades a copy, the copy replaces the store, and the old file is kept in the same folder"
        )
    with _locked(file) as source, _folder_beside(file) as folder:
        existing = Schema.of(source)
        if existing.is_current:  # another process was faster
            return
        new, suffix = folder / "new.db", f"before-{'-'.join(migrations()[1])}"
        if existing.tables:
            try:
                _upgrade(source, new)
            except HalfWayError as error:
                if _rows(source).get("runs"):
                    raise FnnexpError(_half_way(file, error)) from error
                new, suffix = folder / "another.db", "half-made"
        if not new.exists():
            _make(new)
        if existing.tables:
            say(f"the old file is {_keep(file, suffix, source, folder)}")
        shutil.copymode(file, new)
        if os.name == "nt":  # Windows can't replace an open file
            source.close()
        new.replace(file)


def readable(file: Path, say: Callable[[str], None]) -> Path:
    """Return the file from which to read a store: the store itself, or an upgraded temporary copy.

    The copy is removed when this process ends.

    Parameters
    ----------
    file
        The store.
    say
        Prints a message if a copy is read.

    Raises
    ------
    NoStoreError
        If the file is missing or empty.
    FnnexpError
        If the file is not a store for this MLflow version, or its copy can't be upgraded.
    """
    existing = look(file) if file.exists() else None
    if existing is None or not existing.tables:
        raise NoStoreError(
            f"no sweep has been recorded here: there is no MLflow store at {file}; run a sweep first, or set "
            "MLFLOW_TRACKING_URI"
        )
    refuse(file, existing)
    if existing.is_current:
        return file
    files = [Path(f"{file}{side}") for side in ("", *SIDES)]
    key = file, max(part.stat().st_mtime_ns for part in files if part.exists())
    if key not in _copies:
        say(
            f"MLflow's store {file} was written by an older MLflow version: an upgraded copy is read, and "
            "the store stays unchanged; a sweep into it or `fnnexp ui` upgrades it"
        )
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        try:
            with sql.opened(file) as source:
                _upgrade(source, Path(folder.name, file.name))
        except HalfWayError as error:
            raise FnnexpError(_half_way(file, error)) from error
        _copies[key] = folder
    return Path(_copies[key].name, file.name)


def newer(store: str, revisions: Iterable[str]) -> str:
    """Return the message about a store that a newer MLflow version wrote."""
    return (
        f"MLflow's store {store} was written by a newer MLflow than {version('mlflow')}, which is installed "
        f"here and can't read its revision {', '.join(sorted(revisions))}; run pip install -U mlflow, "
        "or write tracking.uri=sqlite:///FOLDER/mlflow.db for another store"
    )


def _half_way(file: Path, error: Exception) -> str:
    return (
        f"MLflow's store {file} is half-way between two versions of MLflow: its upgrade was stopped and "
        f"can't continue ({error}). Nothing was changed now. Replace it by a copy from before the upgrade, "
        f"or move it away so that a sweep creates a new store: mv {shlex.quote(str(file))} "
        f"{shlex.quote(f'{file}.half-way')}"
    )


# New files


@contextlib.contextmanager
def _folder_beside(file: Path) -> Iterator[Path]:
    """Create a temporary folder beside a file, on the same disk. After a kill, :func:`_tidy` removes it."""
    folder = Path(tempfile.mkdtemp(prefix=f".{file.name}.", dir=file.parent))
    lock = FileLock(folder / "lock")
    try:
        with contextlib.suppress(OSError, NotImplementedError):  # a network drive may not support locks
            lock.acquire(timeout=0)
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def left_beside(file: Path) -> list[Path]:
    """Return the temporary folders of killed processes beside a file."""
    folders = []
    for lock in file.parent.glob(f".{file.name}.*/lock"):
        with contextlib.suppress(OSError, Timeout), FileLock(lock, timeout=0):
            folders.append(lock.parent)
    return folders


def _tidy(file: Path) -> None:
    """Remove the temporary folders of killed processes beside a file."""
    for folder in left_beside(file):
        shutil.rmtree(folder, ignore_errors=True)


def _make(file: Path) -> None:
    """Let MLflow create an empty store in this file, and close it."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{file.as_posix()}")
    client.search_experiments(max_results=1)
    sql.disconnect(client)


def _make_new(file: Path) -> None:
    """Create a missing store, unless another process creates it meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _folder_beside(file) as folder:
        new = folder / "new.db"
        _make(new)
        sql.write_ahead(new)
        if not file.exists():
            for side in SIDES:  # otherwise SQLite applies the logs of a removed store to the new one
                Path(f"{file}{side}").unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):
            _link(new, file)


def _link(file: Path, name: Path) -> None:
    """Give a file a second name or, if the disk has no links, rename it. Never overwrite a file."""
    try:
        os.link(file, name)
    except FileExistsError:
        raise
    except OSError:
        if name.exists():
            raise FileExistsError(str(name)) from None
        file.rename(name)


# Old files


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[sqlite3.Connection]:
    """Open and lock a file. Raise if another program has it open, and turn off its write-ahead log.

    Meanwhile, no other code of this process may open and close the file: on Unix that would release the
    lock.
    """
    with sql.opened(file, mode="rw", timeout=0) as source:
        source.isolation_level = None
        try:
            source.execute("PRAGMA journal_mode = DELETE")  # fails if another program has the log open
            source.execute("PRAGMA locking_mode = EXCLUSIVE")
            source.execute("BEGIN EXCLUSIVE")
            source.execute("COMMIT")  # the lock remains; SQLite can't copy within a transaction
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise _open_elsewhere(file, "another program") from error
        if others := _processes_with(file):
            raise _open_elsewhere(file, f"process {', '.join(others)}")
        yield source


def _open_elsewhere(file: Path, who: str) -> FnnexpError:
    return FnnexpError(
        f"MLflow's store {file} was written by an older MLflow version and can't be upgraded while {who} has "
        "it open; stop that program (`mlflow ui`, a sweep, a notebook) and start the same command again"
    )


def _processes_with(file: Path) -> list[str]:
    """Return the ids of other processes that have a file open, if the system lists open files (Linux).

    Without a write-ahead log, SQLite does not detect a process that has the file open but is idle.
    """
    process_ids = set()
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if handle.readlink() == file:
                process_ids.add(handle.parts[2])
    return sorted(process_ids - {str(os.getpid())})


def _upgrade(source: sqlite3.Connection, copy: Path) -> None:
    """Copy an old store and upgrade the copy.

    Raises
    ------
    HalfWayError
        If an earlier upgrade was stopped within a step, and what it did can't be undone.
    FnnexpError
        If the upgrade fails for any other reason.
    """
    half_made: set[str] = set()
    while reason := _failure_of_upgrade(source, copy, half_made):
        if not HALF_WAY.search(reason):
            raise FnnexpError(
                f"MLflow's store can't be upgraded and was not changed: `mlflow db upgrade` reports {reason}"
            )
        existing = re.fullmatch(r"(table|index) (\w+) already exists", reason)
        if existing is None or " ".join(existing.groups()) in half_made:
            raise HalfWayError(reason)
        half_made.add(" ".join(existing.groups()))
    with sql.opened(copy) as upgraded:
        before, after, is_current = _rows(source), _rows(upgraded), Schema.of(upgraded).is_current
    if not is_current or after != before:
        raise FnnexpError(
            f"MLflow's store can't be upgraded and was not changed: it has {before} rows, but the upgraded "
            f"copy has {after}"
        )


def _failure_of_upgrade(source: sqlite3.Connection, copy: Path, half_made: Iterable[str]) -> str:
    """Copy an old store and let MLflow upgrade the copy; return why this failed, or "" if it did not.

    The copy omits `half_made`, the tables and indices that a stopped upgrade created but did not fill.
    """
    for side in ("", *SIDES):
        Path(f"{copy}{side}").unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        for entry in half_made:
            kind, name = entry.split()
            if kind == "table" and target.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone():
                return f"{entry} already exists"
            target.execute(f"DROP {entry}")
        target.commit()
    completed = subprocess.run(
        [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{copy.as_posix()}"],
        cwd=copy.parent,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if not completed.returncode:
        return ""
    reasons = re.findall(r"\(sqlite3\.\w+\) (.*)", completed.stderr) or completed.stderr.splitlines()
    lines = (line.strip() for line in reversed(reasons))
    return next((line for line in lines if line), f"status {completed.returncode}")


def _rows(store: sqlite3.Connection) -> dict[str, int]:
    """Return the number of rows of every table in :data:`KEPT`."""
    kept = [name for name in KEPT if name in Schema.of(store).tables]
    return {name: store.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in kept}


def _keep(file: Path, suffix: str, source: sqlite3.Connection, folder: Path) -> Path:
    """Keep the file of an old store under a second name, which ends in `suffix`, and return this name.

    `source` is a connection to the store.
    """
    for number in count(1):
        kept = file.with_name(f"{file.name}.{suffix}" if number == 1 else f"{file.name}.{suffix}-{number}")
        if kept.exists() and kept.samefile(file):  # linked by an earlier upgrade that was killed
            return kept
        if not kept.exists():
            break
    try:
        os.link(file, kept)
    except OSError:  # a disk without hard links
        with contextlib.closing(sqlite3.connect(folder / "kept.db")) as target:
            source.backup(target)
        (folder / "kept.db").rename(kept)
    return kept
