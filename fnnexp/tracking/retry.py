"""Wait for a store that is slow, busy or unreachable, and report a store that has failed."""

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
"""Seconds within which a store must answer the first call."""

PATIENCE = 900.0
"""Seconds that a running sweep waits for its store."""

SLOW = 10.0
"""If a call takes more seconds than this, a message says so."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
"""Seconds before the first retry, and the most seconds between two retries."""

SYSTEM = (OSError, sqlite3.Error)
"""Errors of the system or of SQLite: a file or a connection failed, but the call was valid."""

LONGEST_REASON = 2000
"""Maximum number of characters of an error that are shown; a server may answer with a whole page."""

VARIABLES = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""The variables that :func:`mlflow_settings` sets. Without them, MLflow retries silently for minutes, may
create a run twice, and prints a server's address with the password."""

LOGGERS = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "mlflow.store.db.utils": logging.CRITICAL}
"""The lowest level that is shown of each logger. The last logger only repeats exceptions that are raised."""

Answer = TypeVar("Answer")


class StoreError(FnnexpError):
    """Raised when the store can't be written any more; the same command resumes from the checkpoints."""

    exit_status = 1


class StoreAwayError(StoreError):
    """Raised when a store over the network stays unreachable."""


_LOCK = threading.Lock()
_BEFORE: list[dict[str, str | None]] = []
"""The former values of the variables, for each open :func:`mlflow_settings` in any thread."""
_LEVELS: dict[str, int] = {}
"""The former levels of the loggers, while :func:`quiet_mlflow` has changed these levels."""


@contextlib.contextmanager
def mlflow_settings() -> Iterator[None]:
    """Keep MLflow from retrying and from drawing progress bars while this context is open.

    Create and call clients only within it. Contexts may be nested and used in several threads; the last
    one to end restores the settings.
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
    """Raise the log levels of MLflow until :func:`mlflow_settings` ends. Call this after importing MLflow."""
    with _LOCK:
        for name, least in LOGGERS.items():
            logger = logging.getLogger(name)
            _LEVELS.setdefault(name, logger.level)
            logger.setLevel(max(least, logger.level))


def is_remote(uri: str) -> bool:
    """Return whether a store is a server, which may be unreachable for a while, rather than a file."""
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and not scheme.startswith(("sqlite", "file"))


def patiently(
    call: Callable[[], Answer], *, uri: str, say: Callable[[str], None], at_start: bool = False
) -> Answer:
    """Return the result of a call to a store; while the store does not answer, retry with growing waits.

    A server is away while it is unreachable. A SQLite file is away while another program locks it.

    Parameters
    ----------
    call
        The call. It must be safe to repeat, since the store may have acted although its answer was lost.
    uri
        The store's address.
    say
        Prints a message about the wait.
    at_start
        Whether no trial has begun. The limit is then :data:`AT_START` instead of :data:`PATIENCE`.

    Raises
    ------
    StoreAwayError
        If the store is still away after the limit.
    StoreError
        If a local store has failed: the disk is full, or the file is missing or read-only. This is not
        retried. Any other exception of the call is raised unchanged.
    """
    name, remote = f"MLflow at {shown(uri)}", is_remote(uri)
    patience = AT_START if at_start else PATIENCE
    began, wait = time.monotonic(), FIRST_WAIT
    waited = False
    while True:
        try:
            with _reporting_slowness(name, say) if remote else contextlib.nullcontext():
                answer = call()
        except FnnexpError:
            raise
        except Exception as error:
            if not is_away(error, remote):
                if remote or not has_failed(error):
                    raise
                raise StoreError(
                    f"MLflow's store {uri} can't be written: {reason(error)}. Finished trials are saved; "
                    "fix the cause (is the disk full, the file missing or read-only?) and start the same "
                    "command again to resume"
                ) from error
            if time.monotonic() - began + wait > patience:
                raise StoreAwayError(
                    f"{name} has not answered for {time.monotonic() - began:.0f} s ({reason(error)}); "
                    "start the same command again when it does, to resume"
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
def _reporting_slowness(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Print a message if the block takes longer than :data:`SLOW` seconds."""
    slow = threading.Timer(SLOW, say, [f"{name} is slow to answer; waiting for it"])
    slow.daemon = True
    slow.start()
    try:
        yield
    finally:
        slow.cancel()


def is_away(error: BaseException, remote: bool) -> bool:
    """Return whether an error means that the store was not reached, rather than that the store refused."""
    from mlflow.exceptions import MlflowException
    from requests import exceptions

    if not remote:
        return any(
            isinstance(cause, sqlite3.OperationalError) and "locked" in str(cause) for cause in _causes(error)
        )
    away = (exceptions.ConnectionError, exceptions.Timeout, exceptions.RetryError)
    return any(
        isinstance(cause, away)
        or (isinstance(cause, MlflowException) and cause.error_code == "TEMPORARILY_UNAVAILABLE")
        for cause in _causes(error)
    )


def has_failed(error: BaseException) -> bool:
    """Return whether an error means that the disk or the database failed, not that the call was invalid."""
    return any(isinstance(cause, SYSTEM) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then the error that caused it, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def shown(uri: str) -> str:
    """Return a store's address without its user and password.

    >>> shown("postgresql://ann:secret@db/runs")
    'postgresql://db/runs'
    """
    return re.sub(r"//[^/@]*@", "//", uri)


def reason(error: BaseException) -> str:
    r"""Return the cause of an error in one line, to be printed.

    If a library's exception was caused by an error of the system or of SQLite, that error is described.
    Otherwise it is the library's whole message, since it may end with the remedy.

    >>> reason(ValueError("the schema is old.\nRun `mlflow db upgrade`"))
    'ValueError: the schema is old. Run `mlflow db upgrade`'
    """
    if isinstance(error, FnnexpError):
        return str(error)
    system = [failed for failed in _causes(error) if isinstance(failed, SYSTEM)]
    cause = system[-1] if system else error
    text = shown(" ".join(str(cause).split()))
    return f"{type(cause).__name__}: {text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + ' …'}"
