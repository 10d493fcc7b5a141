"""Waiting for a store that is slow, busy or away for a while, and saying so when one is out of order."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from fnnexp.errors import FnnexpError

AT_START = 10.0
"""Seconds in which a store must answer its first question."""

PATIENCE = 900.0
"""Seconds that a sweep under way waits for its store."""

SLOW = 10.0
"""Seconds after which a call that has not come back is worth a line."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0

SYSTEM = (OSError, sqlite3.Error)
"""What the system or SQLite raises: a file or a connection is at fault, and not what was asked."""

LONGEST_REASON = 2000
"""Characters of a reason; a server may answer with a page."""

VARIABLES = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""What :func:`mlflow_settings` sets. MLflow's own retries last minutes, are silent, and make runs twice; it
prints a server's address with the password."""

LOGGERS = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "mlflow.store.db.utils": logging.CRITICAL}
"""The least that :func:`quiet_mlflow` lets through. What fails in the last of these is raised too."""

Answer = TypeVar("Answer")


class StoreError(FnnexpError):
    """The store can't be written any more: the same command goes on from the last checkpoints."""

    exit_status = 1


class StoreAwayError(StoreError):
    """A store over the network did not come back."""


_LOCK = threading.Lock()
_BEFORE: list[dict[str, str | None]] = []
"""What the variables were at the start of each :func:`mlflow_settings` that is open, in any thread."""
_LEVELS: dict[str, int] = {}
"""What the loggers' levels were, while they are others."""


@contextlib.contextmanager
def mlflow_settings() -> Iterator[None]:
    """Keep MLflow from retrying and from drawing bars; the last thread to leave puts back what was.

    Whatever makes or asks a client does it within this context. Contexts may be nested.
    """
    with _LOCK:
        _BEFORE.append({name: os.environ.get(name) for name in VARIABLES})
        os.environ.update(VARIABLES)
    try:
        yield
    finally:
        with _LOCK:
            before = _BEFORE.pop()
            if not _BEFORE:
                for name, value in before.items():
                    os.environ.pop(name, None) if value is None else os.environ.update({name: value})
                for name, level in _LEVELS.items():
                    logging.getLogger(name).setLevel(level)
                _LEVELS.clear()


def quiet_mlflow() -> None:
    """Have MLflow, which is imported, log only what matters until :func:`mlflow_settings` ends."""
    with _LOCK:
        for name, least in LOGGERS.items():
            logger = logging.getLogger(name)
            _LEVELS.setdefault(name, logger.level)
            logger.setLevel(max(least, logger.level))


def is_remote(uri: str) -> bool:
    """Whether a store is a server, which can be away. What is wrong with a file stays wrong."""
    scheme, found, _ = uri.partition("://")
    return bool(found) and not scheme.startswith(("sqlite", "file"))


def patiently(
    call: Callable[[], Answer], *, uri: str, say: Callable[[str], None], at_start: bool = False
) -> Answer:
    """Return what a call to a store returns; while the store is away, call again with growing waits.

    A server is away when it can't be reached, a SQLite file when another program holds it.

    Parameters
    ----------
    call
        It must be safe to make twice: when an answer is lost on its way, the store has done what was asked.
    uri
        The store.
    say
        Where to say that we wait.
    at_start
        Whether nothing has begun yet: then the wait is :data:`AT_START`, not :data:`PATIENCE`.

    Raises
    ------
    StoreAwayError
        When the store is still away in the end.
    StoreError
        At once, when a local store is out of order: the disk is full, the file is gone or read-only. Whatever
        else the call raises is raised as it is.
    """
    name, remote = f"MLflow at {shown(uri)}", is_remote(uri)
    patience = AT_START if at_start else PATIENCE
    began, wait = time.monotonic(), FIRST_WAIT
    waited = False
    while True:
        try:
            with _slowness_said(name, say) if remote else contextlib.nullcontext():
                answer = call()
        except FnnexpError:
            raise
        except Exception as error:
            if not is_away(error, remote):
                if remote or not is_out_of_order(error):
                    raise
                raise StoreError(
                    f"MLflow's store {uri} can't be written: {reason(error)}. What was finished is there; "
                    "mend that (is the disk full, the file gone or read-only?) and start the same command "
                    "again: it goes on where it was"
                ) from error
            if time.monotonic() - began + wait > patience:
                raise StoreAwayError(
                    f"{name} has not answered for {time.monotonic() - began:.0f} s ({reason(error)}); "
                    "start the same command again when it does, and it goes on where it was"
                ) from error
            if not waited:
                say(f"{name} does not answer ({reason(error)}); waiting for it")
            waited = True
        else:
            if waited:
                say(f"{name} answers again after {time.monotonic() - began:.0f} s")
            return answer
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


@contextlib.contextmanager
def _slowness_said(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Say so when an answer takes longer than :data:`SLOW`."""
    slow = threading.Timer(SLOW, say, [f"{name} is slow to answer; waiting for it"])
    slow.daemon = True
    slow.start()
    try:
        yield
    finally:
        slow.cancel()


def is_away(error: BaseException, remote: bool) -> bool:
    """Whether an error says that the store could not be asked, rather than that it refused."""
    from mlflow.exceptions import MlflowException
    from requests import exceptions

    if not remote:
        return any(
            isinstance(each, sqlite3.OperationalError) and "locked" in str(each) for each in _chain(error)
        )
    away = (exceptions.ConnectionError, exceptions.Timeout, exceptions.RetryError)
    return any(
        isinstance(each, away)
        or (isinstance(each, MlflowException) and each.error_code == "TEMPORARILY_UNAVAILABLE")
        for each in _chain(error)
    )


def is_out_of_order(error: BaseException) -> bool:
    """Whether the disk or the database failed, rather than what was asked."""
    return any(isinstance(each, SYSTEM) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def shown(uri: str) -> str:
    """Return a store's address without the user and password in it.

    >>> shown("postgresql://ann:secret@db/runs")
    'postgresql://db/runs'
    """
    return re.sub(r"//[^/@]*@", "//", uri)


def reason(error: BaseException) -> str:
    r"""Return why something failed, in one line.

    What the system or SQLite said is inside of what others made of it. What a library says comes whole: it
    may end with the remedy.

    >>> reason(ValueError("the schema is old.\nRun `mlflow db upgrade`"))
    'ValueError: the schema is old. Run `mlflow db upgrade`'
    """
    if isinstance(error, FnnexpError):
        return str(error)
    inside = [each for each in _chain(error) if isinstance(each, SYSTEM)]
    failed = inside[-1] if inside else error
    said = shown(" ".join(str(failed).split()))
    return f"{type(failed).__name__}: {said if len(said) <= LONGEST_REASON else said[:LONGEST_REASON] + ' …'}"
