"""Waiting for a store that is slow, busy or away for a while; and saying it when one is out of order."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from fnnexp.errors import FnnexpError

AT_START = 10.0
"""Seconds in which a store answers, or nothing is begun."""

PATIENCE = 900.0
"""Seconds that a sweep under way waits for its store."""

SLOW = 10.0
"""Seconds after which one call that has not come back is worth a line."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"

Answer = TypeVar("Answer")


class StoreError(FnnexpError):
    """The store can't be written any more: the same command goes on from the last checkpoints."""

    exit_status = 1


class StoreAwayError(StoreError):
    """A store over the network did not come back."""


def is_remote(uri: str) -> bool:
    """Whether a store is a server, which can be away; what is wrong with a file stays wrong."""
    scheme, found, _ = uri.partition("://")
    return bool(found) and not scheme.startswith(("sqlite", "file"))


def patiently(
    call: Callable[[], Answer], *, uri: str, say: Callable[[str], None], seconds: float = PATIENCE
) -> Answer:
    """Return what a call to a store returns; while the store is away, make it again with growing waits.

    A server is away when it can't be asked; a SQLite file when another program holds it.

    Parameters
    ----------
    call
        What may be done twice: when an answer is lost on its way, what was asked has been done.
    uri
        The store.
    say
        Where to tell that one waits.
    seconds
        How long to wait.

    Raises
    ------
    StoreAwayError
        When the store is still away in the end.
    StoreError
        At once, when a local store is out of order: the disk is full, the file is gone or read-only. Whatever
        else a call raises is raised as it is.
    """
    name = f"MLflow at {shown(uri)}"
    began, wait = time.monotonic(), FIRST_WAIT
    waited = False
    while True:
        try:
            with _asked_once(name, say) if is_remote(uri) else contextlib.nullcontext():
                answer = call()
        except Exception as error:
            if not _is_away(error, is_remote(uri)):
                if is_remote(uri) or not _is_out_of_order(error):
                    raise
                raise StoreError(
                    f"MLflow's store {uri} can't be written: {short(error)}. What was finished is there; "
                    "mend that (is the disk full, the file gone or read-only?) and start the same command "
                    "again: it goes on where it was"
                ) from error
            if time.monotonic() - began + wait > seconds:
                raise StoreAwayError(
                    f"{name} has not answered for {time.monotonic() - began:.0f} s ({short(error)}); "
                    "start the same command again when it does, and it goes on where it was"
                ) from error
            if not waited:
                say(f"{name} does not answer ({short(error)}); waiting for it")
            waited = True
        else:
            if waited:
                say(f"{name} answers again after {time.monotonic() - began:.0f} s")
            return answer
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


@contextlib.contextmanager
def _asked_once(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Keep MLflow from asking again by itself: it does so for minutes, in silence, and makes runs twice.

    An answer that takes long is told.
    """
    slow = threading.Timer(SLOW, say, [f"{name} is slow to answer; waiting for it"])
    slow.daemon = True
    slow.start()
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        slow.cancel()
        if before is None:
            del os.environ[RETRIES]
        else:
            os.environ[RETRIES] = before


def _is_away(error: BaseException, remote: bool) -> bool:
    """Whether an error says that the store could not be asked, and not that it refused."""
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


def _is_out_of_order(error: BaseException) -> bool:
    """Whether an error is the disk's or the database's, and not about what was asked."""
    return any(isinstance(each, (OSError, sqlite3.Error)) for each in _chain(error))


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


def short(error: BaseException) -> str:
    """Return the innermost reason in a line; that a table lacks a key is the reason of nothing."""
    *_, last = [error, *(each for each in _chain(error) if not isinstance(each, KeyError))]
    return f"{type(last).__name__}: {str(last).splitlines()[0] if str(last) else ''}"[:120]
