"""Claims: two sweeps at once on one experiment never train the same trial.

Each sweep claims its trials when it starts, before it looks at what is done, and gives them up when it ends.
What another living sweep has claimed is left to it. A claim is worth as much as the life of who made it:
every sweep holds a lock on a file of its own, which the system takes from a process that is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fnnexp.tracking.store import store_file

TABLE = """
CREATE TABLE IF NOT EXISTS claims (
    experiment TEXT, trial TEXT, owner TEXT, pid INTEGER, since REAL, PRIMARY KEY (experiment, trial)
)
"""


class Claims:
    """The claims in a folder.

    Parameters
    ----------
    folder
        Beside the store, so that whoever writes there finds it. Where it can't be written, nothing is claimed
        and nothing is refused.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def on(self, experiment: str, trials: Iterable[str]) -> Iterator[dict[str, str]]:
        """Claim trials by id; yield those that another sweep has, each with who that is.

        The claims hold for as long as the context is open.
        """
        owner = uuid.uuid4().hex
        lock = FileLock(self._lock_of(owner))
        elsewhere: dict[str, str] = {}
        with contextlib.suppress(OSError, sqlite3.Error):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            elsewhere = self._claim(experiment, list(trials), owner)
        try:
            yield elsewhere
        finally:
            with contextlib.suppress(OSError, sqlite3.Error), self._open() as table:
                table.execute("DELETE FROM claims WHERE owner = ?", (owner,))
            with contextlib.suppress(OSError):
                lock.release()
                self._lock_of(owner).unlink(missing_ok=True)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn to do what two sweeps must not do at once, such as making the store."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(FileLock(self._folder / "turn.lock", timeout=120))
            yield

    def _claim(self, experiment: str, trials: list[str], owner: str) -> dict[str, str]:
        with self._open() as table:
            alive: dict[str, bool] = {}
            elsewhere: dict[str, str] = {}
            held = table.execute(
                "SELECT trial, owner, pid, since FROM claims WHERE experiment = ?", (experiment,)
            ).fetchall()
            wanted = set(trials)
            for trial, other, pid, since in held:
                if other not in alive:
                    alive[other] = self._is_alive(other)
                if alive[other] and trial in wanted:
                    began = time.strftime("%H:%M", time.localtime(since))
                    elsewhere[trial] = f"process {pid}, since {began}"
            dead = [(other,) for other, lives in alive.items() if not lives]
            table.executemany("DELETE FROM claims WHERE owner = ?", dead)
            mine = [trial for trial in dict.fromkeys(trials) if trial not in elsewhere]
            table.executemany(
                "INSERT INTO claims VALUES (?, ?, ?, ?, ?)",
                [(experiment, trial, owner, os.getpid(), time.time()) for trial in mine],
            )
            return elsewhere

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the table and hold it against all others until the end."""
        with contextlib.closing(
            sqlite3.connect(self._folder / "claims.db", timeout=30, isolation_level=None)
        ) as table:
            table.execute("BEGIN IMMEDIATE")
            table.execute(TABLE)
            yield table
            table.execute("COMMIT")

    def _is_alive(self, owner: str) -> bool:
        """Whether the sweep holds its lock; the file of one that does not is removed."""
        try:
            with FileLock(self._lock_of(owner), timeout=0):
                pass
        except Timeout:
            return True
        with contextlib.suppress(OSError):
            self._lock_of(owner).unlink(missing_ok=True)
        return False

    def _lock_of(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"


def folder_for(uri: str, elsewhere: Path) -> Path:
    """Return where the claims on a store are: beside a SQLite file, or for a server in a folder of its own.

    Parameters
    ----------
    uri
        The store.
    elsewhere
        A folder of this user's, for servers; sweeps on other machines do not see it.
    """
    if (file := store_file(uri)) is not None:
        return file.parent / ".fnnexp" / "claims"
    return elsewhere / "claims" / hashlib.sha256(uri.encode()).hexdigest()[:16]
