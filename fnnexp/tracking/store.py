"""MLflow's store: where it is, what can be seen of it without MLflow, and a client of it.

MLflow takes seconds to import, so what a sweep asks before it trains is read from SQLite itself. Where that
can't be told, in a store of another kind or version, MLflow is asked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fnnexp import console as notebook
from fnnexp.errors import FnnexpError
from fnnexp.tracking import collector
from fnnexp.tracking.retry import AT_START, StoreError, patiently, short, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_STORE = "sqlite:///mlflow.db"
"""MLflow's own default."""

SQLITE = "sqlite:///"

LONGEST_FOLDER = 40
"""Characters of an experiment's name in a folder's."""


def has_store(uri: str | None) -> bool:
    """Whether there can be results to read, found out without importing MLflow or making a database."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        return Path("mlflow.db").exists() or Path("mlruns").exists()
    file = store_file(uri)
    return file is None or os.path.exists(file)  # noqa: PTH110 - a folder that can't be entered has none


def store_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, or None for a store of another kind.

    >>> store_file("sqlite:////a/b%20c.db?timeout=5").as_posix(), store_file("http://127.0.0.1:5000")
    ('/a/b c.db', None)
    """
    path = unquote(uri.removeprefix(SQLITE).partition("?")[0])
    return Path(path).absolute() if uri.startswith(SQLITE) and path not in ("", ":memory:") else None


def plain(uri: str) -> str:
    """Return a SQLite store's address with its file's path in full and not encoded, which MLflow reads right.

    MLflow writes the path of its default store encoded, and where there is a blank or an umlaut in it, it
    makes a folder of the encoded name before it decodes it.

    Raises
    ------
    FnnexpError
        When the path itself looks encoded, and MLflow would write to another.

    Examples
    --------
    >>> plain("sqlite:////a/b%20c.db?timeout=5"), plain("http://127.0.0.1:5000")
    ('sqlite:////a/b c.db?timeout=5', 'http://127.0.0.1:5000')
    """
    file = store_file(uri)
    if file is None:
        return uri
    path = file.as_posix()
    if unquote(path) != path:
        raise FnnexpError(
            f"MLflow's store {path}: MLflow would read this path as {unquote(path)}; write "
            "tracking.uri=sqlite:///FOLDER/mlflow.db for one in a folder without % in its name"
        )
    _, mark, options = uri.partition("?")
    return f"{SQLITE}{path}{mark}{options}"


def place_of_artifacts(uri: str, experiment: str) -> str | None:
    """Return where the artifacts of a new experiment go, or None where MLflow's default is right.

    MLflow puts them into the folder one stands in, wherever the store is. A store in another folder keeps
    them beside it, so that the two are moved, and can be written, together.
    """
    file = store_file(uri)
    if file is None or file.parent == Path.cwd():
        return None
    name = re.sub(r"[^\w-]", "_", experiment)[:LONGEST_FOLDER]
    return (file.parent / "mlruns" / f"{name}-{uuid.uuid4().hex[:8]}").as_uri()


def lacks(uri: str, experiment: str) -> bool:
    """Whether a SQLite store has no such experiment, found out without MLflow, which takes seconds to import.

    Where that can't be told, in a store of another kind or version, the answer is no.
    """
    file = store_file(uri)
    if file is None:
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as store:
            return not store.execute("SELECT 1 FROM experiments WHERE name = ?", (experiment,)).fetchall()
    except sqlite3.Error:
        return False


TRIALS = """
SELECT runs.run_uuid, runs.status, trial.value, coalesce(ours.value, ?), layer.key IS NOT NULL
FROM runs JOIN tags AS trial ON trial.run_uuid = runs.run_uuid AND trial.key = 'fnnexp.trial'
LEFT JOIN tags AS ours ON ours.run_uuid = runs.run_uuid AND ours.key = 'fnnexp.status'
LEFT JOIN latest_metrics AS layer ON layer.run_uuid = runs.run_uuid AND layer.key = ?
WHERE runs.experiment_id = ? AND runs.lifecycle_stage = 'active' ORDER BY runs.start_time DESC, runs.run_uuid
"""


def rows_of_trials(
    file: Path, experiment_id: str, *, running: str, diagnosed: str
) -> list[tuple[str, str, str, str, bool]] | None:
    """Return (run id, MLflow's status, trial id, our status, diagnosed) of trials' runs, newest first.

    MLflow makes objects of whole runs: of 10,000 that takes it ten seconds, and a tenth of a second here.
    None from a file of another kind or version.

    Parameters
    ----------
    running
        The status of a run that has none of ours.
    diagnosed
        A metric that runs with diagnostics have.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as store:
            told = (running, diagnosed, int(experiment_id))
            return store.execute(TRIALS, told).fetchall()
    except sqlite3.Error:
        return None


MOST_LATEST = 5


def latest_experiments(uri: str | None) -> list[tuple[str, str]]:
    """Return the id and name of the experiments that ran last, the last first, of a SQLite store.

    Found out without MLflow, which takes seconds to import; a store of another kind or version has none.
    """
    file = store_file(uri or DEFAULT_STORE)
    if file is None:
        return []
    query = (
        "SELECT e.experiment_id, e.name FROM experiments e JOIN runs r ON r.experiment_id = e.experiment_id "
        "WHERE e.lifecycle_stage = 'active' GROUP BY e.experiment_id ORDER BY max(r.start_time) DESC LIMIT ?"
    )
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as store:
            return [(str(key), str(name)) for key, name in store.execute(query, (MOST_LATEST,))]
    except sqlite3.Error:
        return []


def refuse_read_only(uri: str) -> None:
    """Refuse a SQLite store that can't be written. MLflow would try again for minutes before it said so.

    Raises
    ------
    FnnexpError
        With the file, and why.
    """
    file = store_file(plain(uri))
    if file is None:
        return
    problem = None
    try:
        folder = next(parent for parent in file.parents if parent.exists())
        if not folder.is_dir():
            problem = f"{folder} is no folder"
        elif not os.access(folder, os.W_OK):
            problem = f"the folder {folder} is read-only"
        elif file.exists():
            store = sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=0)
            with contextlib.closing(store):
                store.execute("BEGIN IMMEDIATE")
    except (OSError, sqlite3.Error) as error:
        problem = None if "locked" in str(error) else str(error)
    if problem:
        raise FnnexpError(
            f"MLflow's store {uri} can't be written: {problem}; write "
            "tracking.uri=sqlite:///FOLDER/mlflow.db for one in another folder, or start in one of your own"
        )


def client(uri: str | None) -> MlflowClient:
    """Return MLflow's client on a store (None: MLFLOW_TRACKING_URI or MLflow's default)."""
    notebook.quiet_about_widgets()
    with collector.paused():
        import mlflow

        address = plain(uri or mlflow.get_tracking_uri())
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        # What fails there is raised too.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        return mlflow.MlflowClient(tracking_uri=address)


@contextlib.contextmanager
def asked_first(uri: str | None) -> Iterator[None]:
    """Say it as one of our errors when a store does not answer the first question."""
    try:
        yield
    except Exception as error:
        if isinstance(error, FnnexpError) and not isinstance(error, StoreError):
            raise
        reason = str(error) if isinstance(error, FnnexpError) else short(error)
        raise FnnexpError(
            f"MLflow's store {shown(uri or os.environ.get('MLFLOW_TRACKING_URI') or DEFAULT_STORE)} does not "
            f"answer: {reason}; write tracking.uri={DEFAULT_STORE} for a local one (a command takes "
            "--uri; without either it is MLFLOW_TRACKING_URI's)"
        ) from error


def refuse_unreadable(uri: str | None) -> None:
    """Refuse a store that does not answer.

    A SQLite file that can't be opened is found out without MLflow, which would try again for minutes. One
    that another program holds is waited for by whoever asks it next.

    Raises
    ------
    FnnexpError
        With the store, and why.
    """
    file = store_file(uri or DEFAULT_STORE)
    with asked_first(uri):
        if file is None:
            client(uri)
        elif file.exists():
            try:
                store = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=0)
                with contextlib.closing(store):
                    store.execute("SELECT count(*) FROM sqlite_master")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise


def write_ahead(uri: str) -> None:
    """Let a SQLite store write ahead: those who read it never wait, and a commit costs one flush to disk.

    The file keeps the setting. Where SQLite can't (some network drives), it stays as it was.
    """
    if (file := store_file(uri)) is not None:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file)) as store:
            store.execute("PRAGMA journal_mode=WAL")


def find_experiment(client: MlflowClient, name: str) -> Any:
    """Return an experiment or None. A server that is away is waited for as long as one waits at a start."""
    ask = partial(client.get_experiment_by_name, name)
    return patiently(ask, uri=str(client.tracking_uri), say=on_stderr, seconds=AT_START)


def on_stderr(line: str) -> None:
    """Say a line where nobody has another place for it."""
    print(line, file=sys.stderr, flush=True)
