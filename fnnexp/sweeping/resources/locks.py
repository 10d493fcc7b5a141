"""Claims: two concurrent sweeps of one experiment never train the same trial.

A sweep claims its trials when it starts, and skips the trials that another sweep has claimed. On one machine
a claim is a file. It is valid while its sweep holds the lock file beside it; the operating system releases
the lock when the process dies. Machines that share an MLflow server claim trials by tags of the experiment. A
tag is valid until 90 seconds after its last heartbeat, so the machines' clocks must agree to about a minute.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from fnnexp.tracking.retry import StoreError
from fnnexp.tracking.store import store_file

if TYPE_CHECKING:
    from fnnexp.tracking.writer import Tracker

BEAT = 20.0
"""Seconds between two heartbeats."""

SILENT = 90.0
"""Seconds after the last heartbeat at which a claim in a tag expires."""

PREFIX = "fnnexp.claim."

DIGITS, A_TAG = 10, 450
"""How many of the 16 digits of a trial id a tag stores, and how many trials fit in the tag."""


class Claim:
    """Claims the trials of a sweep while a ``with`` block runs, so that no other sweep trains them too.

    Parameters
    ----------
    folder
        The folder from :func:`folder_for`. If it is not writable, the sweeps on this machine do not see each
        other's claims.
    experiment, trials
        The experiment and the trial ids that the sweep wants to train.
    now
        Returns the time in seconds since 1970.

    Attributes
    ----------
    elsewhere
        The trials that another sweep has claimed before, with a description of that sweep.
    """

    def __init__(
        self, folder: Path, experiment: str, trials: Sequence[str], now: Callable[[], float] = time.time
    ) -> None:
        self.elsewhere: dict[str, str] = {}
        self._folder, self._experiment, self._wanted = folder, experiment, list(dict.fromkeys(trials))
        self._now, self._since, self._beat = now, now(), 0.0
        owner = uuid.uuid4().hex
        self._lock, self._file = FileLock(folder / f"{owner}.lock"), folder / f"{owner}.json"
        self._prefix = f"{PREFIX}{owner}."
        self._neighbours: dict[str, bool] = {}  # whether each other sweep on this machine is alive
        self._tracker: Tracker | None = None
        self._lost = False

    def __enter__(self) -> Claim:
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            with self.turn():
                self._read_claims()
                who = f"process {os.getpid()}, since {time.strftime('%H:%M')}"
                claim = {"experiment": self._experiment, "who": who, "trials": self.trials}
                self._file.write_text(json.dumps(claim), encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._tracker is not None:
            with contextlib.suppress(StoreError):  # if the server is away, the claim on it expires later
                for key in self._tracker.experiment_tags():
                    if key.startswith(self._prefix):
                        self._tracker.untag_experiment(key)
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)
        _remove(self._lock)

    @property
    def trials(self) -> list[str]:
        """The trials that this sweep has claimed."""
        return [trial for trial in self._wanted if trial not in self.elsewhere]

    # On this machine

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a lock during steps that two sweeps must not take at once, such as creating the store."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(FileLock(self._folder / "turn", timeout=120))
            yield

    def _read_claims(self) -> None:
        """Read which trials other sweeps on this machine claim; remove the files of dead sweeps."""
        for file in self._folder.glob("*.json"):
            try:
                claim = json.loads(file.read_text("utf-8"))
                if claim["experiment"] != self._experiment:
                    continue
                claimed = dict.fromkeys(set(self._wanted).intersection(claim["trials"]), str(claim["who"]))
            except (ValueError, TypeError, KeyError):  # a full disk may have truncated the file
                claimed = {}
            alive = self._neighbours[file.stem] = self._is_alive(file.stem)
            if alive:
                self.elsewhere |= claimed
            else:
                file.unlink(missing_ok=True)

    def _is_alive(self, owner: str) -> bool:
        """Return whether a sweep still holds its lock; if not, remove the lock file."""
        lock = self._folder / f"{owner}.lock"
        alive = is_held(lock)
        if not alive:
            lock.unlink(missing_ok=True)
        return alive

    # Claims among machines that share an MLflow server

    def share(self, tracker: Tracker) -> None:
        """Claim the trials on a server that machines share; add those that others claim to `elsewhere`.

        The claim is written before other claims are read, so of two sweeps that start at once at least one
        sees the other. After this sweep has read the other claims, it writes its claim again, as settled. A
        sweep leaves a trial to another sweep whose claim on it is settled, or which began earlier.
        """
        self._tracker = tracker
        self._write(tracker, settled=False)
        self.elsewhere |= self._on_other_machines(tracker)
        self._write(tracker, settled=True)

    def beat(self) -> None:
        """Renew a claim on a server if it is older than :data:`BEAT`, to show that the sweep is alive.

        Raises
        ------
        StoreError
            If the claim had expired and another machine has claimed some of the trials.
        """
        silence = self._now() - self._beat
        if self._tracker is None or self._lost or silence < BEAT:
            return
        if silence > SILENT and (lost := self._on_other_machines(self._tracker)):
            self._lost = True
            raise StoreError(
                f"this sweep sent no heartbeat for {silence:.0f} s, and another sweep "
                f"({next(iter(lost.values()))}) took over {len(lost)} of its trials; start the same command "
                "again to train the rest"
            )
        self._write(self._tracker, settled=True)

    def _write(self, tracker: Tracker, *, settled: bool) -> None:
        """Write the claim on the trials to as many tags ``fnnexp.claim.OWNER.NUMBER`` as they need."""
        self._beat = self._now()
        began = time.strftime("%H:%M", time.localtime(self._since))
        who = f"process {os.getpid()} on {platform.node()[:40] or 'another machine'}, since {began}"
        claim = {"who": who, "since": self._since, "beat": self._beat, "settled": settled}
        for number, start in enumerate(range(0, len(self._wanted), A_TAG)):
            ids = [t[:DIGITS] for t in self._wanted[start : start + A_TAG] if t not in self.elsewhere]
            tracker.tag_experiment(f"{self._prefix}{number}", json.dumps({**claim, "trials": "".join(ids)}))

    def _on_other_machines(self, tracker: Tracker) -> dict[str, str]:
        """Return the trials of this sweep that other machines claim, each with a description of that sweep.

        Remove the tags of sweeps that ended.
        """
        claimed: dict[str, str] = {}
        for key, value in tracker.experiment_tags().items():
            owner = key.removeprefix(PREFIX).partition(".")[0]
            if not key.startswith(PREFIX) or key.startswith(self._prefix) or self._neighbours.get(owner):
                continue
            try:
                claim = json.loads(value)
                expired = self._now() - claim["beat"] > SILENT
                goes_first = claim["settled"] or (claim["since"], key) < (self._since, self._prefix)
                ids = {claim["trials"][i : i + DIGITS] for i in range(0, len(claim["trials"]), DIGITS)}
                who = str(claim["who"])
            except (ValueError, TypeError, KeyError):  # not a tag that fnnexp wrote
                continue
            if expired or owner in self._neighbours:
                tracker.untag_experiment(key)
            elif goes_first:
                claimed |= {trial: who for trial in self.trials if trial[:DIGITS] in ids}
        return claimed


def is_held(lock: Path) -> bool:
    """Return whether a process holds a lock file."""
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


@contextlib.contextmanager
def in_use(*folders: Path) -> Iterator[None]:
    """Mark folders as used while the block runs, so that ``fnnexp clean`` removes nothing from them.

    Each folder gets a lock file, unless it can't be written. A folder that did not exist is removed again if
    it stays empty, as when the store does not answer.
    """
    with contextlib.ExitStack() as stack:
        for folder in folders:
            lock = FileLock(folder.absolute() / f"{uuid.uuid4().hex}.lock")
            is_new = not folder.exists()
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=0)
                if is_new:
                    stack.callback(_remove_if_empty, folder)
                stack.callback(_remove, lock)
        yield


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove(lock: FileLock) -> None:
    with contextlib.suppress(OSError):
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def folder_for(uri: str, elsewhere: Path) -> Path:
    """Return the folder for claims on the trials of a store: beside a SQLite file, or one folder per server.

    Parameters
    ----------
    uri
        The address of the store.
    elsewhere
        The parent of the folders for servers. It belongs to this user, and sweeps on other machines do not
        see it.
    """
    if (file := store_file(uri)) is not None:
        return file.parent / ".fnnexp" / "claims"
    return elsewhere / "claims" / hashlib.sha256(uri.encode()).hexdigest()[:16]
