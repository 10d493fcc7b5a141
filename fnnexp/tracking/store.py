"""MLflow's store: where it is, whether it can be read and written, and a client of it.

MLflow takes seconds to import, so a SQLite file is looked at without it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec
from urllib.parse import unquote

from fnnexp import console as notebook
from fnnexp.errors import FnnexpError, printable
from fnnexp.tracking import sql
from fnnexp.tracking.retry import Answer, StoreError, mlflow_settings, patiently, quiet_mlflow, short, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")

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

    MLflow encodes the path of its default store. Where there is a blank or an umlaut in the path, it makes a
    folder of the encoded name before it decodes the path.

    Raises
    ------
    FnnexpError
        When the path itself looks encoded, so that MLflow would write to another.

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

    MLflow puts them into the working directory, wherever the store is. A store in another folder keeps them
    beside it, so that the two can be moved, and written, together.
    """
    file = store_file(uri)
    if file is None or file.parent == Path.cwd():
        return None
    name = re.sub(r"[^\w-]", "_", experiment)[:LONGEST_FOLDER]
    return (file.parent / "mlruns" / f"{name}-{uuid.uuid4().hex[:8]}").as_uri()


def refuse_read_only(uri: str) -> None:
    """Raise when a SQLite store can't be written. MLflow would retry for minutes before it said so.

    Raises
    ------
    FnnexpError
        With the file, and why.
    """
    file = store_file(plain(uri))
    if file is None:
        return
    problem: object = None
    try:
        folder = next(parent for parent in file.parents if parent.exists())
        if not folder.is_dir():
            problem = f"{folder} is no folder"
        elif not os.access(folder, os.W_OK):
            problem = f"the folder {folder} is read-only"
        elif file.exists():
            problem = sql.unwritable(file)
    except OSError as error:
        problem = error
    if problem:
        raise FnnexpError(
            f"MLflow's store {uri} can't be written: {problem}; write "
            "tracking.uri=sqlite:///FOLDER/mlflow.db for one in another folder, or start in one of your own"
        )


def refuse_unreadable(uri: str | None) -> None:
    """Raise when a store does not answer. MLflow itself would retry for minutes to open a SQLite file.

    A file that another program holds passes: the next question waits for it.

    Raises
    ------
    FnnexpError
        With the store, and why.
    """
    file = store_file(uri or DEFAULT_STORE)
    with mlflow_settings(), asked_first(uri):
        if file is None:
            client(uri)
        elif file.exists() and (problem := sql.unreadable(file)):
            raise problem


def address_of(uri: str | None) -> str:
    """Return a store's address as MLflow is to have it (None: MLFLOW_TRACKING_URI or MLflow's default)."""
    with notebook.no_word_of_widgets():
        import mlflow

    return plain(uri or mlflow.get_tracking_uri())


def client(uri: str | None) -> MlflowClient:
    """Return MLflow's client on a store (None: MLFLOW_TRACKING_URI or MLflow's default).

    Make and use it within :func:`fnnexp.tracking.retry.mlflow_settings`.
    """
    address = address_of(uri)
    import mlflow

    quiet_mlflow()
    return mlflow.MlflowClient(tracking_uri=address)


@contextlib.contextmanager
def asked_first(uri: str | None) -> Iterator[None]:
    """Turn whatever is raised within, where a store is asked its first question, into one error of ours."""
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


def ask(client: MlflowClient, call: Callable[P, Answer], *given: P.args, **named: P.kwargs) -> Answer:
    """Return what a call to a client's store returns; a store that is away is waited for as at a start."""
    uri = str(client.tracking_uri)
    return patiently(partial(call, *given, **named), uri=uri, say=on_stderr, at_start=True)


def on_stderr(line: str) -> None:
    """Say a line where nobody has another place for it."""
    print(printable(line), file=sys.stderr, flush=True)
