"""MLflow's store: its address, whether it can be read and written, and a client of it.

MLflow takes seconds to import, so SQLite files are inspected without it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shlex
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from fnnexp import console as notebook
from fnnexp.config.commands import program, quoted
from fnnexp.data import sources
from fnnexp.errors import FnnexpError, printable
from fnnexp.tracking import schema, sql
from fnnexp.tracking.retry import (
    Answer,
    StoreAwayError,
    StoreError,
    is_away,
    is_remote,
    mlflow_settings,
    patiently,
    quiet_mlflow,
    reason,
    shown,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")

DEFAULT_STORE = "sqlite:///mlflow.db"
"""MLflow's default store."""

SQLITE = "sqlite:///"

MLRUNS = "mlruns"
"""The name of the folder of artifacts, which is beside a SQLite file."""

LONGEST_FOLDER = 40
"""Maximum number of characters of an experiment's name that its folder's name contains."""


def address_or_default(uri: str | None) -> str:
    """Return the given address of a store, or else MLFLOW_TRACKING_URI, or else MLflow's default.

    An empty address counts as missing.
    """
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE


def file_at(path: str | Path) -> Path | None:
    """Return the file of a SQLite store at a path: the file itself, or ``mlflow.db`` in a folder, if any."""
    place = sources.place(path)
    file = place / "mlflow.db" if place.is_dir() else place
    return file if file.is_file() else None


def has_store(uri: str | None) -> bool:
    """Return whether a store may contain results, without importing MLflow or creating a database."""
    address = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not address and any(Path(MLRUNS).glob("*/meta.yaml")):  # the folder of runs of MLflow 2
        return True
    file = store_file(full_address(address_or_default(address)))
    return file is None or os.path.exists(file)  # noqa: PTH110 - Path.exists may raise PermissionError


def no_sweep(uri: str | None, where: str) -> str:
    """Return the message for a store without a sweep, with the command that runs a sweep into it."""
    command = f"{program()} -cn card_grid"
    if uri is not None:
        address = shown(uri)
        address = address if re.fullmatch(r"[\w./:-]+", address, re.ASCII) else quoted(address)
        command += f" {shlex.quote(f'tracking.uri={address}')}"
    return f"no sweep has been recorded {where}; write {command} to run one, or name another store by --uri"


def deleted(name: str, experiment_id: str, uri: str) -> str:
    """Return the message for a deleted experiment, with the command that restores it."""
    restore = f"{mlflow_command(uri)} experiments restore --experiment-id {experiment_id}"
    return f"the experiment '{name}' was deleted in MLflow; `{restore}` restores it"


def store_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, or None for any other store.

    >>> store_file("sqlite:////a/b%20c.db?timeout=5").as_posix(), store_file("http://127.0.0.1:5000")
    ('/a/b c.db', None)
    """
    path = unquote(uri.removeprefix(SQLITE).partition("?")[0])
    if not uri.startswith(SQLITE) or path in ("", ":memory:") or path.startswith("file:"):
        return None
    return sources.place(path).absolute()


def full_address(uri: str) -> str:
    """Return the address of a SQLite store with the full, decoded path, and other addresses unchanged.

    MLflow encodes the path of its default store. If the path contains a space or an umlaut, MLflow creates a
    folder with the encoded name before it decodes the path.

    Raises
    ------
    FnnexpError
        If SQLite would keep the store in memory, or MLflow would misread the path and write to another file.

    Examples
    --------
    >>> full_address("sqlite:////a/b%20c.db?timeout=5"), full_address("http://127.0.0.1:5000")
    ('sqlite:////a/b c.db?timeout=5', 'http://127.0.0.1:5000')
    """
    file = store_file(uri)
    _, mark, options = uri.partition("?")
    if (
        file is None
        and re.match(r"sqlite(\+\w+)?:///[^:?]", uri, re.IGNORECASE)
        and not uri.startswith(SQLITE)
    ):
        problem = f"must begin with {SQLITE}"
    elif file is None and uri.lower().startswith("sqlite"):
        problem = "names no file after three slashes, so all results would be lost at the end"
    elif file is None:
        return uri
    elif unquote(file.as_posix()) != file.as_posix() or "?" in file.as_posix():
        misread = unquote(file.as_posix()).partition("?")[0]
        problem = f"has % or ? in its path, which MLflow would read as {misread}"
    elif mark and not re.fullmatch(OPTIONS, options):
        problem = f"has ?{options} after its file; only SQLite's options may follow it, as in ?timeout=30"
    else:
        return f"{SQLITE}{file.as_posix()}{mark}{options}"
    raise FnnexpError(
        f"MLflow's store {uri} {problem}; write tracking.uri={SQLITE}FOLDER/mlflow.db for a store in another "
        "folder (for a command, --uri)"
    )


OPTIONS = r"(?!(.*&)?(uri|mode)=)\w+=[^&/?]*(&\w+=[^&/?]*)*"
"""Matches options of SQLite that do not change which file is opened."""


def root(uri: str) -> Path:
    """Return the folder outside of which no artifacts of a store are read or written on this machine.

    For a SQLite store it is the folder of the file; for a server or another database, the working
    directory.
    """
    file = store_file(uri)
    return Path.cwd() if file is None else file.parent


def place_of_artifacts(uri: str, experiment: str) -> str | None:
    """Return the address for the artifacts of a new experiment, or None if the server chooses it.

    The artifacts of a SQLite store go beside its file, so that both can be moved together. MLflow would put
    artifacts into the working directory.
    """
    if store_file(uri) is None:
        return None
    name = re.sub(r"[^\w-]", "_", experiment)[:LONGEST_FOLDER]
    return (root(uri) / MLRUNS / f"{name}-{uuid.uuid4().hex[:8]}").as_uri()


def option(uri: str | None) -> str:
    """Return the command-line option for a store, `` --uri …``, quoted for a shell; "" if none is needed."""
    return f" --uri {address}" if (address := _shell_address(uri)) else ""


def mlflow_command(uri: str | None) -> str:
    """Return the beginning of an `mlflow` command for a store, quoted for a shell."""
    return f"MLFLOW_TRACKING_URI={address} mlflow" if (address := _shell_address(uri)) else "mlflow"


def _shell_address(uri: str | None) -> str:
    """Return a store's address quoted for a shell, or "" if commands find the store without it.

    If the address has a password, the command refers to MLFLOW_TRACKING_URI instead of showing the address.
    The shell reports an error if the variable is not set.
    """
    address = full_address(address_or_default(uri))
    if store_file(address) == store_file(DEFAULT_STORE) and not os.environ.get("MLFLOW_TRACKING_URI"):
        return ""
    if shown(address) == address:
        return shlex.quote(address)
    safe = re.sub(r"[^\w.:/-]+", "_", shown(address))
    return f'"${{MLFLOW_TRACKING_URI:?set it to the address of {safe}}}"'


def refuse_read_only(uri: str) -> None:
    """Raise if a SQLite store can't be written. Without this check, MLflow would retry for minutes.

    Raises
    ------
    FnnexpError
        With the problem and what to write instead.
    """
    file = store_file(full_address(uri))
    if file is None:
        return
    problem: object = None
    try:
        folder = next(parent for parent in file.parents if parent.exists())
        if not folder.is_dir():
            problem = f"{folder} is not a folder"
        elif not os.access(folder, os.W_OK):
            problem = f"the folder {folder} is read-only"
        elif file.exists():
            problem = sql.unwritable(file)
            if problem is None:
                with contextlib.suppress(sqlite3.Error):  # another program has it locked for a moment
                    schema.refuse(file, schema.look(file))
    except OSError as error:
        problem = error
    if problem:
        raise FnnexpError(
            f"MLflow's store {uri} can't be written: {problem}; write "
            "tracking.uri=sqlite:///FOLDER/mlflow.db for a store in another folder, or start in that folder"
        )


def refuse_unreadable(uri: str | None) -> None:
    """Raise if a store can't be read. Without this check, MLflow would retry for minutes.

    A file that another program has locked is accepted, since the next call waits for it.

    Raises
    ------
    FnnexpError
        With the problem and what to write instead.
    """
    address, file = uri or os.environ.get("MLFLOW_TRACKING_URI"), store_file(address_or_default(uri))
    with mlflow_settings(), asked_first(uri):
        # If the default SQLite file does not exist, MLflow may open the folder mlruns as a store.
        if file is None or not (address or file.exists()):
            client(uri)
        elif file.exists() and (problem := sql.unreadable(file)):
            raise problem


def address_of(uri: str | None) -> str:
    """Return a store's address in the form for MLflow (None: MLFLOW_TRACKING_URI or MLflow's default)."""
    with notebook.without_widget_warnings():
        import mlflow

    return full_address(uri or mlflow.get_tracking_uri() or DEFAULT_STORE)


def client(
    uri: str | None, *, writing: bool = False, say: Callable[[str], None] | None = None
) -> MlflowClient:
    """Return MLflow's client of a store. Create and use it within :func:`mlflow_settings`.

    Parameters
    ----------
    uri
        The store; None: MLFLOW_TRACKING_URI or MLflow's default.
    writing
        Whether to create a missing SQLite store and to upgrade an old store. If false, the client reads an
        upgraded copy of an old store.
    say
        Prints a message about an upgrade; None prints to standard error.
    """
    address = address_of(uri)
    import mlflow

    quiet_mlflow()
    if (file := store_file(address)) is not None:
        if writing:
            schema.ready(file, say or on_stderr)
        elif (copy := schema.readable(file, say or on_stderr)) != file:
            address = f"{SQLITE}{copy.as_posix()}"
    client = mlflow.MlflowClient(tracking_uri=address)
    if file is not None and address not in _CLOSED_AT_EXIT:
        # Else the connections stay open until the process is gone, and SQLite leaves its log beside the file.
        atexit.register(sql.disconnect, client)
        _CLOSED_AT_EXIT.add(address)
    return client


_CLOSED_AT_EXIT: set[str] = set()
"""The addresses of the SQLite stores whose connections are closed when this process exits."""


@contextlib.contextmanager
def asked_first(uri: str | None) -> Iterator[None]:
    """Turn an exception of a store that is called for the first time into an FnnexpError with advice.

    Other exceptions, such as a warning that was turned into an error, are raised unchanged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, FnnexpError) and not isinstance(error, StoreError):
            raise
        if (problem := _problem(error, uri or os.environ.get("MLFLOW_TRACKING_URI"))) is None:
            raise
        raise FnnexpError(problem) from error


def _problem(error: Exception, uri: str | None) -> str | None:
    """Return a message on what is wrong with a store, and what to write; None if the cause is another."""
    from mlflow.exceptions import MlflowException

    name = f"MLflow's store {shown(uri or DEFAULT_STORE)}"
    advice = (
        f"write tracking.uri={_another(uri)} for a local store (for a command, --uri; the default is "
        "MLFLOW_TRACKING_URI)"
    )
    if isinstance(error, StoreAwayError) or is_away(error, is_remote(uri or DEFAULT_STORE)):
        return f"{name} does not answer: {reason(error)}; {advice}"
    if isinstance(error, StoreError):
        return f"{name} can't be opened: {reason(error.__cause__ or error)}; fix that, or {advice}"
    if not isinstance(error, MlflowException):
        problem = f"{name} can't be opened: {reason(error)}; fix that, or {advice}"
        return problem if sql.is_failure(error) else None
    if error.error_code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return (
            f"{name} refuses access: {reason(error)}; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to the values from its owner"
        )
    if "migrate-filestore" in str(error) and not any(Path(_folder_of(address_of(uri))).glob("*/meta.yaml")):
        if (file := file_at(_folder_of(address_of(uri)))) is not None:
            address = f"{SQLITE}{file.as_posix()}"
            return f"{name} is a path, not an address; write tracking.uri={address} (for a command, --uri)"
        return f"{name} is neither a store nor a folder of runs that MLflow 2 wrote; {advice}"
    if "migrate-filestore" in str(error):
        target = DEFAULT_STORE if not Path("mlflow.db").exists() else _another(None)
        folder = shlex.quote(_folder_of(address_of(uri)))
        return (
            f"{folder} is a store written by MLflow 2, a folder of files. MLflow {version('mlflow')} can't "
            "open it. To keep its runs, copy them: run mlflow migrate-filestore "
            f"--source {folder} --target {target}. From then on write tracking.uri={target} (fnnexp report "
            f"and fnnexp ui: --uri {target}). To start with an empty store, only write tracking.uri={target}"
        )
    revision = re.search(r"found version (\w+)", str(error))
    if revision and schema.migrations()[0] and revision[1] not in schema.migrations()[0]:
        return schema.newer(shown(uri or DEFAULT_STORE), [revision[1]])
    return f"{name} can't be opened: {reason(error)}; fix that, or {advice}"


def _another(uri: str | None) -> str:
    """Return the address of another local store, for an error message to suggest."""
    same = store_file(uri or DEFAULT_STORE) == store_file(DEFAULT_STORE)
    return f"{SQLITE}another.db" if same else DEFAULT_STORE


def _folder_of(address: str) -> str:
    return url2pathname(urlsplit(address).path) if address.startswith("file:") else address


def is_up_to_date(uri: str) -> bool:
    """Return whether a store needs neither creation nor an upgrade before MLflow can open it."""
    file = store_file(uri)
    try:
        return file is None or schema.look(file).is_current
    except sqlite3.Error:
        return False


def ask(client: MlflowClient, call: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
    """Return the result of a call to a client's store. Wait briefly for a store that is away."""
    uri = str(client.tracking_uri)
    return patiently(partial(call, *args, **kwargs), uri=uri, say=on_stderr, at_start=True)


def on_stderr(line: str) -> None:
    """Print a line to standard error."""
    print(printable(line), file=sys.stderr, flush=True)
