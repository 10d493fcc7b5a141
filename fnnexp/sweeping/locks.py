"""Claims: two sweeps at once on one experiment never train the same trial.

A sweep claims its trials when it starts, and leaves to another sweep what that one has claimed. On a machine
a claim is a file, and it counts while its sweep holds the lock beside it, which the system takes from a
process that is killed. Machines that share an MLflow server tell each other by tags of the experiment; there
a claim counts until 90 seconds after its last heartbeat, by clocks that agree to a minute or so.
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
"""Seconds after its last heartbeat from which a claim in a tag counts no more."""

PREFIX = "fnnexp.claim."

DIGITS, A_TAG = 10, 450
"""How many of a trial id's 16 digits are written, and of how many trials in one tag of 5,000 characters."""


class Claim:
    """The trials of an experiment that no other sweep has, claimed for as long as the context is open.

    Parameters
    ----------
    folder
        From :func:`folder_for`. Where it can't be written, nothing is claimed on this machine, and nothing is
        refused.
    experiment, trials
        What the sweep would train.
    now
        The clock.

    Attributes
    ----------
    elsewhere
        The trials that another sweep has, each with who that is.
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
        self._neighbours: dict[str, bool] = {}  # the experiment's other sweeps on this machine: which live
        self._tracker: Tracker | None = None
        self._lost = False

    def __enter__(self) -> Claim:
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            with self.turn():
                self._look_around()
                who = f"process {os.getpid()}, since {time.strftime('%H:%M')}"
                said = {"experiment": self._experiment, "who": who, "trials": self.trials}
                self._file.write_text(json.dumps(said), encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._tracker is not None:
            with contextlib.suppress(StoreError):  # a server that is away: the claim falls silent there
                for key in self._tracker.experiment_tags():
                    if key.startswith(self._prefix):
                        self._tracker.untag_experiment(key)
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)

    @property
    def trials(self) -> list[str]:
        """The trials that this sweep has."""
        return [trial for trial in self._wanted if trial not in self.elsewhere]

    # On this machine

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn to do what two sweeps must not do at once, such as making the store."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(FileLock(self._folder / "turn", timeout=120))
            yield

    def _look_around(self) -> None:
        """Note what the experiment's other sweeps on this machine have; clear away after the dead."""
        for file in self._folder.glob("*.json"):
            try:
                said = json.loads(file.read_text("utf-8"))
                if said["experiment"] != self._experiment:
                    continue
                held = dict.fromkeys(set(self._wanted).intersection(said["trials"]), str(said["who"]))
            except (ValueError, TypeError, KeyError):  # a disk that was full cut it
                held = {}
            alive = self._neighbours[file.stem] = self._is_alive(file.stem)
            if alive:
                self.elsewhere |= held
            else:
                file.unlink(missing_ok=True)

    def _is_alive(self, owner: str) -> bool:
        """Whether a sweep holds its lock; the file of one that does not is removed."""
        lock = FileLock(self._folder / f"{owner}.lock", timeout=0)
        try:
            with lock:
                pass
        except Timeout:
            return True
        Path(lock.lock_file).unlink(missing_ok=True)
        return False

    # Among machines that share a server

    def share(self, tracker: Tracker) -> None:
        """Claim the trials among all machines that share a server, and add what others have to `elsewhere`.

        The claim is written before the others' are read: of two that begin at once at least one sees the
        other. The one that has not yet looked gives way, or else the one that began later.
        """
        self._tracker = tracker
        self._write(tracker, settled=False)
        self.elsewhere |= self._on_other_machines(tracker)
        self._write(tracker, settled=True)

    def beat(self) -> None:
        """Give a heartbeat, if the claim is shared and the last one was a while ago.

        Raises
        ------
        StoreError
            When the last was so long ago that another machine has taken trials over.
        """
        silence = self._now() - self._beat
        if self._tracker is None or self._lost or silence < BEAT:
            return
        if silence > SILENT and (lost := self._on_other_machines(self._tracker)):
            self._lost = True
            raise StoreError(
                f"nothing was heard of this sweep for {silence:.0f} s, and another "
                f"({next(iter(lost.values()))}) took {len(lost)} of its trials over; start the same command "
                "again, and it leaves those to it"
            )
        self._write(self._tracker, settled=True)

    def _write(self, tracker: Tracker, *, settled: bool) -> None:
        """Write the claim into as many tags ``fnnexp.claim.OWNER.NUMBER`` as its trials need."""
        self._beat = self._now()
        began = time.strftime("%H:%M", time.localtime(self._since))
        who = f"process {os.getpid()} on {platform.node()[:40] or 'another machine'}, since {began}"
        claim = {"who": who, "since": self._since, "beat": self._beat, "settled": settled}
        for number, start in enumerate(range(0, len(self._wanted), A_TAG)):
            part = [t[:DIGITS] for t in self._wanted[start : start + A_TAG] if t not in self.elsewhere]
            tracker.tag_experiment(f"{self._prefix}{number}", json.dumps({**claim, "trials": "".join(part)}))

    def _on_other_machines(self, tracker: Tracker) -> dict[str, str]:
        """Return which of our trials other machines have, each with who that is; remove tags of the dead."""
        found: dict[str, str] = {}
        for key, value in tracker.experiment_tags().items():
            owner = key.removeprefix(PREFIX).partition(".")[0]
            if not key.startswith(PREFIX) or key.startswith(self._prefix) or self._neighbours.get(owner):
                continue
            try:
                said = json.loads(value)
                silent = self._now() - said["beat"] > SILENT
                goes_first = said["settled"] or (said["since"], key) < (self._since, self._prefix)
                held = {said["trials"][i : i + DIGITS] for i in range(0, len(said["trials"]), DIGITS)}
                who = str(said["who"])
            except (ValueError, TypeError, KeyError):  # whatever stands there, we did not write it
                continue
            if silent or owner in self._neighbours:
                tracker.untag_experiment(key)
            elif goes_first:
                found |= {trial: who for trial in self.trials if trial[:DIGITS] in held}
        return found


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
