"""The schema of a SQLite store: MLflow's tables, which are never changed in place.

MLflow makes and upgrades its tables step by step on the file that it is given. Stopped half-way, by a kill or
a full disk, it leaves a file that no version of MLflow opens. So MLflow is given another file, in a folder of
its own beside the store, and what it has made there takes the store's name in one step (:func:`ready`). Who
only reads looks at an upgraded copy (:func:`readable`).

Private of MLflow are its table ``alembic_version`` and the files of its migrations, which tell without an
import whether there is anything to do. Where they are not found, MLflow opens every store itself.
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
"""Tables by which a store of any version of MLflow is known."""

KEPT = ("experiments", "runs", "params", "metrics")
"""Tables of which an upgrade keeps every row."""

HALF_WAY = re.compile("already exists|duplicate column|no such (table|column|index)")
"""What SQLite says to a step of an upgrade that was done before, in part."""

SIDES = ("-wal", "-shm", "-journal")
"""Files of SQLite beside its file."""

_copies: dict[tuple[Path, int], tempfile.TemporaryDirectory[str]] = {}
"""The upgraded copies that this process reads, by file and its time of change; they end with the process."""


class NoStoreError(FnnexpError):
    """There is nothing to read."""


class HalfWayError(Exception):
    """A step of an upgrade was done before, in part."""


@dataclass(frozen=True)
class Schema:
    """What the tables of a file are.

    Attributes
    ----------
    tables
        Their names.
    revisions
        The steps of MLflow's upgrades that it has; one, or none in a file that MLflow did not finish.
    """

    tables: frozenset[str]
    revisions: frozenset[str]

    @property
    def is_current(self) -> bool:
        """Whether MLflow would leave the tables as they are."""
        known, last = migrations()
        return not known or self.revisions == last

    @classmethod
    def of(cls, store: sqlite3.Connection) -> Schema:
        """Return the schema of an open file."""
        tables = {
            str(name) for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        revisions = (
            store.execute("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
        )
        return cls(frozenset(tables), frozenset(str(one) for (one,) in revisions))


@cache
def migrations() -> tuple[frozenset[str], frozenset[str]]:
    """Return every revision that the installed MLflow knows, and the last; none where they are not found."""
    found = find_spec("mlflow")
    places = found.submodule_search_locations if found else None
    files = [
        file for place in places or () for file in Path(place, "store/db_migrations/versions").glob("*.py")
    ]
    text = "\n".join(file.read_text("utf-8", "replace") for file in files)
    known = frozenset(re.findall(r"""^revision\b[^=\n]*= *["'](\w+)""", text, re.MULTILINE))
    before = " ".join(re.findall(r"^down_revision\b.*", text, re.MULTILINE))
    return known, known - frozenset(re.findall(r"""["'](\w+)["']""", before))


def look(file: Path) -> Schema:
    """Return the schema of a file."""
    with sql.opened(file) as store:
        return Schema.of(store)


def refuse(file: Path, there: Schema) -> None:
    """Raise when a file is none that the installed MLflow can open, not even with an upgrade.

    Raises
    ------
    FnnexpError
        When it is a store of a newer MLflow, or a database of something else.
    """
    known, _ = migrations()
    if there.tables and not there.tables & MLFLOWS:
        raise FnnexpError(
            f"{file} is a database of something else: it has the tables "
            f"{', '.join(sorted(there.tables)[:5])}; write tracking.uri=sqlite:///FOLDER/mlflow.db for a "
            "store of its own"
        )
    if known and there.revisions - known:
        raise FnnexpError(newer(str(file), there.revisions))


def ready(file: Path, say: Callable[[str], None]) -> None:
    """Make a store, or upgrade an old one, so that MLflow opens it without a change to its tables.

    Stopped at any moment, it leaves under this name what was there before, or the new store. An old file is
    kept beside it.

    Parameters
    ----------
    file
        The store.
    say
        Where to say what is done to an old one, before it is done.

    Raises
    ------
    FnnexpError
        When the file is no store for this MLflow, another program has it open, or it can't be upgraded.
    """
    file = file.resolve()
    _tidy(file)
    if not file.exists():
        _make_new(file)
    there = look(file)
    refuse(file, there)
    if there.is_current:
        return
    if there.tables:
        say(
            f"MLflow's store {file} is of an older MLflow: MLflow {version('mlflow')} upgrades a copy, which "
            "takes its place, and the old file is kept beside it"
        )
    with _alone(file) as source, _folder_beside(file) as folder:
        there = Schema.of(source)
        if there.is_current:  # another process was faster
            return
        made, what = folder / "new.db", f"before-{'-'.join(migrations()[1])}"
        if there.tables:
            try:
                _upgrade(source, made)
            except HalfWayError as error:
                if _rows(source).get("runs"):
                    raise FnnexpError(_half_way(file, error)) from error
                made, what = folder / "another.db", "half-made"
        if not made.exists():
            _make(made)
        if there.tables:
            say(f"the old file is {_keep(file, what, source, folder)}")
        shutil.copymode(file, made)
        if os.name == "nt":  # where no open file can be replaced
            source.close()
        made.replace(file)


def readable(file: Path, say: Callable[[str], None]) -> Path:
    """Return the file to read a store from: itself, or an upgraded copy that ends with this process.

    Parameters
    ----------
    file
        The store.
    say
        Where to say that a copy is read.

    Raises
    ------
    NoStoreError
        When there is no file, or an empty one.
    FnnexpError
        When the file is no store for this MLflow, or its copy can't be upgraded.
    """
    there = look(file) if file.exists() else None
    if there is None or not there.tables:
        raise NoStoreError(
            f"No sweep has been recorded here: there is no MLflow store at {file}. Run one first, go to its "
            "directory, or set MLFLOW_TRACKING_URI."
        )
    refuse(file, there)
    if there.is_current:
        return file
    beside = [Path(f"{file}{side}") for side in ("", *SIDES)]
    key = file, max(each.stat().st_mtime_ns for each in beside if each.exists())
    if key not in _copies:
        say(
            f"MLflow's store {file} is of an older MLflow: a copy is upgraded and read, and the store stays "
            "as it is; a sweep into it or `fnnexp ui` upgrades it"
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
    """Return what to say of a store of a newer MLflow."""
    return (
        f"MLflow's store {store} was written by a newer MLflow than {version('mlflow')}, which is installed "
        f"here and does not know its revision {', '.join(sorted(revisions))}; write pip install -U mlflow, "
        "or tracking.uri=sqlite:///FOLDER/mlflow.db for another store"
    )


def _half_way(file: Path, error: Exception) -> str:
    return (
        f"MLflow's store {file} is half-way between two versions of MLflow: an upgrade of it was stopped "
        f"and can't go on ({error}). Nothing was changed now. Put a copy from before the upgrade in its "
        f"place, or move it away, and a sweep makes a new store: mv {shlex.quote(str(file))} "
        f"{shlex.quote(f'{file}.half-way')}"
    )


# New files


@contextlib.contextmanager
def _folder_beside(file: Path) -> Iterator[Path]:
    """Make a folder beside a file, on the same disk; in the end, or at the start after a kill, it is gone."""
    folder = Path(tempfile.mkdtemp(prefix=f".{file.name}.", dir=file.parent))
    lock = FileLock(folder / "lock")
    try:
        with contextlib.suppress(OSError, NotImplementedError):  # a network drive may have no locks
            lock.acquire(timeout=0)
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _tidy(file: Path) -> None:
    """Remove the folders beside a file whose process was killed."""
    for held in file.parent.glob(f".{file.name}.*/lock"):
        with contextlib.suppress(OSError, Timeout):
            with FileLock(held, timeout=0):
                pass
            shutil.rmtree(held.parent, ignore_errors=True)


def _make(file: Path) -> None:
    """Let MLflow make an empty store, and let go of it."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{file.as_posix()}")
    client.search_experiments(max_results=1)
    sql.disconnect(client)


def _make_new(file: Path) -> None:
    """Make a store where there is none; where another process makes one meanwhile, that one stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _folder_beside(file) as folder:
        made = folder / "new.db"
        _make(made)
        sql.write_ahead(made)
        if not file.exists():
            for side in SIDES:  # of a file that somebody removed: SQLite would take them for the new one's
                Path(f"{file}{side}").unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):
            _link(made, file)


def _link(there: Path, new: Path) -> None:
    """Give a file a second name, or where a disk knows no such thing, another; none is overwritten."""
    try:
        os.link(there, new)
    except FileExistsError:
        raise
    except OSError:
        if new.exists():
            raise FileExistsError(str(new)) from None
        there.rename(new)


# Old files


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a file that no other program has open, without a write-ahead log, and keep others out.

    Nothing else may open and close the file meanwhile in this process: on Unix that would end the lock.
    """
    with sql.opened(file, mode="rw", timeout=0) as source:
        source.isolation_level = None
        try:
            source.execute("PRAGMA journal_mode = DELETE")  # it fails while anybody reads the write-ahead log
            source.execute("PRAGMA locking_mode = EXCLUSIVE")
            source.execute("BEGIN EXCLUSIVE")
            source.execute("COMMIT")  # the lock stays, and SQLite copies no file that it may be writing to
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise _open_elsewhere(file, "another program") from error
        if others := _processes_with(file):
            raise _open_elsewhere(file, f"process {', '.join(others)}")
        yield source


def _open_elsewhere(file: Path, who: str) -> FnnexpError:
    return FnnexpError(
        f"MLflow's store {file} is of an older MLflow, and can't be upgraded while {who} has it open; stop "
        "that (`mlflow ui`, a sweep, a notebook) and start the same command again"
    )


def _processes_with(file: Path) -> list[str]:
    """Return the ids of the other processes that have a file open, as far as the system tells (Linux).

    Without a write-ahead log SQLite itself does not see one that has the file open and is idle.
    """
    found = set()
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if handle.readlink() == file:
                found.add(handle.parts[2])
    return sorted(found - {str(os.getpid())})


def _upgrade(source: sqlite3.Connection, copy: Path) -> None:
    """Copy an old store, and upgrade the copy.

    Raises
    ------
    HalfWayError
        When a step of the upgrade was done before, in part, and can't be taken back.
    FnnexpError
        When it fails for any other reason.
    """
    half_made: set[str] = set()
    while reason := _failure_of_upgrade(source, copy, half_made):
        if not HALF_WAY.search(reason):
            raise FnnexpError(
                f"MLflow's store can't be upgraded, and is as it was: `mlflow db upgrade` says {reason}"
            )
        made = re.fullmatch(r"(table|index) (\w+) already exists", reason)
        if made is None or " ".join(made.groups()) in half_made:
            raise HalfWayError(reason)
        half_made.add(" ".join(made.groups()))
    with sql.opened(copy) as upgraded:
        before, after, is_current = _rows(source), _rows(upgraded), Schema.of(upgraded).is_current
    if not is_current or after != before:
        raise FnnexpError(
            f"MLflow's store can't be upgraded, and is as it was: it has {before}, the upgraded copy {after}"
        )


def _failure_of_upgrade(source: sqlite3.Connection, copy: Path, half_made: Iterable[str]) -> str:
    """Copy an old store and let MLflow upgrade the copy; return why that failed, or nothing.

    `half_made` are the tables and indices that a stopped upgrade has made and not filled: the copy has none.
    """
    for side in ("", *SIDES):
        Path(f"{copy}{side}").unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        for made in half_made:
            kind, name = made.split()
            if kind == "table" and target.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone():
                return f"{made} already exists"
            target.execute(f"DROP {made}")
        target.commit()
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{copy.as_posix()}"],
        cwd=copy.parent,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if not done.returncode:
        return ""
    reasons = re.findall(r"\(sqlite3\.\w+\) (.*)", done.stderr) or done.stderr.splitlines()
    said = (line.strip() for line in reversed(reasons))
    return next((line for line in said if line), f"status {done.returncode}")


def _rows(store: sqlite3.Connection) -> dict[str, int]:
    """Return the number of rows of each of :data:`KEPT`."""
    kept = [name for name in KEPT if name in Schema.of(store).tables]
    return {name: store.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in kept}


def _keep(file: Path, what: str, source: sqlite3.Connection, folder: Path) -> Path:
    """Give a store, which is open as `source`, a second name that says what it is, and return that."""
    for number in count(1):
        kept = file.with_name(f"{file.name}.{what}" if number == 1 else f"{file.name}.{what}-{number}")
        if kept.exists() and kept.samefile(file):  # of a start that was killed just then
            return kept
        if not kept.exists():
            break
    try:
        os.link(file, kept)
    except OSError:  # a disk that knows no second names
        with contextlib.closing(sqlite3.connect(folder / "kept.db")) as target:
            source.backup(target)
        (folder / "kept.db").rename(kept)
    return kept
