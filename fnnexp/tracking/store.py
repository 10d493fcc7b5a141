"""MLflow's store: where it is, whether it can be read and written, and a client of it.

MLflow takes seconds to import, so a SQLite file is looked at without it.
"""

from __future__ import annotations

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
"""MLflow's own default."""

SQLITE = "sqlite:///"

MLRUNS = "mlruns"
"""The folder of artifacts, beside a SQLite file."""

LONGEST_FOLDER = 40
"""Characters of an experiment's name in a folder's."""


def given(uri: str | None) -> str:
    """Return a store's address: as given, else MLFLOW_TRACKING_URI's, else MLflow's default.

    An empty address is none.
    """
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE


def has_store(uri: str | None) -> bool:
    """Whether there can be results to read, found out without importing MLflow or making a database."""
    named = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not named and any(Path(MLRUNS).glob("*/meta.yaml")):  # MLflow 2 kept its runs there
        return True
    file = store_file(plain(given(named)))
    return file is None or os.path.exists(file)  # noqa: PTH110 - a folder that can't be entered has none


def store_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, or None for a store of another kind.

    >>> store_file("sqlite:////a/b%20c.db?timeout=5").as_posix(), store_file("http://127.0.0.1:5000")
    ('/a/b c.db', None)
    """
    path = unquote(uri.removeprefix(SQLITE).partition("?")[0])
    if not uri.startswith(SQLITE) or path in ("", ":memory:") or path.startswith("file:"):
        return None
    return sources.place(path).absolute()


def plain(uri: str) -> str:
    """Return a SQLite store's address with its file's path in full and not encoded, which MLflow reads right.

    MLflow encodes the path of its default store. Where there is a blank or an umlaut in the path, it makes a
    folder of the encoded name before it decodes the path.

    Raises
    ------
    FnnexpError
        When SQLite would keep the store in memory, or MLflow would take a part of the path for something
        else and write to another.

    Examples
    --------
    >>> plain("sqlite:////a/b%20c.db?timeout=5"), plain("http://127.0.0.1:5000")
    ('sqlite:////a/b c.db?timeout=5', 'http://127.0.0.1:5000')
    """
    file = store_file(uri)
    _, mark, options = uri.partition("?")
    if (
        file is None
        and re.match(r"sqlite(\+\w+)?:///[^:?]", uri, re.IGNORECASE)
        and not uri.startswith(SQLITE)
    ):
        problem = f"is spelled as fnnexp spells none: before a file stands {SQLITE}"
    elif file is None and uri.lower().startswith("sqlite"):
        problem = "names no file (three slashes stand before one), so all results would be gone at the end"
    elif file is None:
        return uri
    elif unquote(file.as_posix()) != file.as_posix() or "?" in file.as_posix():
        read = unquote(file.as_posix()).partition("?")[0]
        problem = f"has % or ? in its path, which MLflow would read as {read}"
    elif mark and not re.fullmatch(OPTIONS, options):
        problem = f"has ?{options} behind its file, where SQLite's options go, such as ?timeout=30"
    else:
        return f"{SQLITE}{file.as_posix()}{mark}{options}"
    raise FnnexpError(
        f"MLflow's store {uri} {problem}; write tracking.uri={SQLITE}FOLDER/mlflow.db for one in another "
        "folder (a command takes --uri)"
    )


OPTIONS = r"(?!(.*&)?(uri|mode)=)\w+=[^&/?]*(&\w+=[^&/?]*)*"
"""Options of SQLite that leave the file where it is."""


def root(uri: str) -> Path:
    """Return the folder that a store's files on this machine must lie in.

    A SQLite file's is its own. A server and a database have none here, so that it is the working directory.
    """
    file = store_file(uri)
    return Path.cwd() if file is None else file.parent


def place_of_artifacts(uri: str, experiment: str) -> str | None:
    """Return where the artifacts of a new experiment go: beside a SQLite file; None: where the server says.

    MLflow would put them into the working directory, wherever the store is. So the two can be moved, and
    written, together.
    """
    if store_file(uri) is None:
        return None
    name = re.sub(r"[^\w-]", "_", experiment)[:LONGEST_FOLDER]
    return (root(uri) / MLRUNS / f"{name}-{uuid.uuid4().hex[:8]}").as_uri()


def option(uri: str | None) -> str:
    """Return what a command needs to look in a store, as a shell takes it: `` --uri …``, or nothing."""
    return f" --uri {address}" if (address := _to_name(uri)) else ""


def mlflow_command(uri: str | None) -> str:
    """Return the beginning of a command of MLflow's own that is about a store, as a shell takes it."""
    return f"MLFLOW_TRACKING_URI={address} mlflow" if (address := _to_name(uri)) else "mlflow"


def _to_name(uri: str | None) -> str:
    """Return a store's address as a shell takes it, or nothing where it is found without.

    A password is not shown: it is taken from MLFLOW_TRACKING_URI, and the shell says so if that is not set.
    """
    address = plain(given(uri))
    if store_file(address) == store_file(DEFAULT_STORE) and not os.environ.get("MLFLOW_TRACKING_URI"):
        return ""
    if shown(address) == address:
        return shlex.quote(address)
    harmless = re.sub(r"[^\w.:/-]+", "_", shown(address))
    return f'"${{MLFLOW_TRACKING_URI:?set it to the address of {harmless}}}"'


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
            if problem is None:
                with contextlib.suppress(sqlite3.Error):  # another program holds it: that passes
                    schema.refuse(file, schema.look(file))
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
    named, file = uri or os.environ.get("MLFLOW_TRACKING_URI"), store_file(given(uri))
    with mlflow_settings(), asked_first(uri):
        # Without a file MLflow may take the folder mlruns for a store.
        if file is None or not (named or file.exists()):
            client(uri)
        elif file.exists() and (problem := sql.unreadable(file)):
            raise problem


def address_of(uri: str | None) -> str:
    """Return a store's address as MLflow is to have it (None: MLFLOW_TRACKING_URI or MLflow's default)."""
    with notebook.without_widget_warnings():
        import mlflow

    return plain(uri or mlflow.get_tracking_uri() or DEFAULT_STORE)


def client(
    uri: str | None, *, writing: bool = False, say: Callable[[str], None] | None = None
) -> MlflowClient:
    """Return MLflow's client on a store. Make and use it within :func:`mlflow_settings`.

    Parameters
    ----------
    uri
        The store; None: MLFLOW_TRACKING_URI or MLflow's default.
    writing
        Whether an absent SQLite store is made and an old one upgraded; otherwise an upgraded copy is read.
    say
        Where to say so; None is standard error.
    """
    address = address_of(uri)
    import mlflow

    quiet_mlflow()
    if (file := store_file(address)) is not None:
        if writing:
            schema.ready(file, say or on_stderr)
        elif (copy := schema.readable(file, say or on_stderr)) != file:
            address = f"{SQLITE}{copy.as_posix()}"
    return mlflow.MlflowClient(tracking_uri=address)


@contextlib.contextmanager
def asked_first(uri: str | None) -> Iterator[None]:
    """Turn what a store's failure raises within, where it is asked its first question, into an error of ours.

    What no store raises, such as a warning that was made an error, is raised as it is.
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
    """Return what is wrong with a store, and what to write; None where no store failed."""
    from mlflow.exceptions import MlflowException

    name = f"MLflow's store {shown(uri or DEFAULT_STORE)}"
    advice = (
        f"write tracking.uri={_another(uri)} for a local one (a command takes --uri; without either it is "
        "MLFLOW_TRACKING_URI's)"
    )
    if isinstance(error, StoreAwayError) or is_away(error, is_remote(uri or DEFAULT_STORE)):
        return f"{name} does not answer: {reason(error)}; {advice}"
    if isinstance(error, StoreError):
        return f"{name} can't be opened: {reason(error.__cause__ or error)}; mend that, or {advice}"
    if not isinstance(error, MlflowException):
        closed = f"{name} can't be opened: {reason(error)}; mend that, or {advice}"
        return closed if sql.is_failure(error) else None
    if error.error_code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return (
            f"{name} refuses: {reason(error)}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, to what its owner has given you"
        )
    if "migrate-filestore" in str(error) and not any(Path(_folder_of(address_of(uri))).glob("*/meta.yaml")):
        return f"{name} is no address of a store: there is no folder with runs of MLflow 2 either; {advice}"
    if "migrate-filestore" in str(error):
        target = DEFAULT_STORE if not Path("mlflow.db").exists() else _another(None)
        folder = shlex.quote(_folder_of(address_of(uri)))
        return (
            f"{folder} is a store as MLflow 2 made it, a folder of files, and MLflow {version('mlflow')} "
            f"opens none; write mlflow migrate-filestore --source {folder} --target {target}, which copies "
            f"its runs, and then tracking.uri={target} (a command takes --uri): without that, MLflow looks "
            "in the folder again. For a new store, that alone is enough"
        )
    found = re.search(r"found version (\w+)", str(error))
    if found and schema.migrations()[0] and found[1] not in schema.migrations()[0]:
        return schema.newer(shown(uri or DEFAULT_STORE), [found[1]])
    return f"{name} can't be opened: {reason(error)}; mend that, or {advice}"


def _another(uri: str | None) -> str:
    """Return the address of a local store that is not this one."""
    same = store_file(uri or DEFAULT_STORE) == store_file(DEFAULT_STORE)
    return f"{SQLITE}another.db" if same else DEFAULT_STORE


def _folder_of(address: str) -> str:
    return url2pathname(urlsplit(address).path) if address.startswith("file:") else address


def is_up_to_date(uri: str) -> bool:
    """Whether MLflow opens a store as it is: a SQLite file is there, and needs no upgrade."""
    file = store_file(uri)
    try:
        return file is None or schema.look(file).is_current
    except sqlite3.Error:
        return False


def ask(client: MlflowClient, call: Callable[P, Answer], *given: P.args, **named: P.kwargs) -> Answer:
    """Return what a call to a client's store returns; a store that is away is waited for as at a start."""
    uri = str(client.tracking_uri)
    return patiently(partial(call, *given, **named), uri=uri, say=on_stderr, at_start=True)


def on_stderr(line: str) -> None:
    """Say a line where nobody has another place for it."""
    print(printable(line), file=sys.stderr, flush=True)
