"""Leases: among machines that share an MLflow server, what :mod:`claims` are among the processes of one.

A sweep writes among the experiment's tags which trials it trains, and the time, again and again for as long
as it lives. What another machine's sweep holds is left to it; one that is silent for a while holds nothing.
The machines' clocks must agree to a minute or so, as they do wherever they are set over the network.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from fnnexp.tracking.retry import StoreError

BEAT = 20.0
"""Seconds between two signs of life."""

SILENT = 90.0
"""Seconds after the last one from which a sweep counts as gone."""

PREFIX = "fnnexp.lease."

DIGITS, A_TAG = 10, 480
"""How many of a trial id's 16 digits are written, and of how many trials in one tag of 5,000 characters."""


class Notes(Protocol):
    """The tags of an experiment, on a server."""

    def experiment_tags(self) -> Mapping[str, str]:
        """Return the tags as they are now."""

    def tag_experiment(self, key: str, value: str | None) -> None:
        """Set a tag, or remove it."""


@dataclass(frozen=True)
class Lease:
    """A sweep's head tag; beside it are the tags with its trials.

    ``machine`` tells machines apart, ``name`` and ``process`` tell a person which it is. Times are in seconds
    since 1970; ``holds`` is whether it has looked at what others hold.
    """

    machine: str
    name: str
    process: int
    since: float
    beat: float
    holds: bool = False

    def __str__(self) -> str:
        began = time.strftime("%H:%M", time.localtime(self.since))
        return f"process {self.process} on {self.name}, since {began}"


class Held:
    """What a sweep holds, until it falls silent: :meth:`beat` is to be called again and again.

    Attributes
    ----------
    elsewhere
        The trials that a sweep on another machine has, each with who that is.
    """

    def __init__(self, notes: Notes, trials: Sequence[str], folder: Path, now: Callable[[], float]) -> None:
        self._notes, self._now, self._owner = notes, now, uuid.uuid4().hex[:12]
        self._lost = False
        began = now()
        name = platform.node() or "another machine"
        self._lease = Lease(_machine(folder), name, os.getpid(), began, began)
        self._trials = list(trials)
        _write(notes, self._owner, self._lease, self._trials)
        # First said, then looked: of two that begin at once, one at least sees the other.
        self.elsewhere = self._with_others()
        self._trials = [trial for trial in trials if trial not in self.elsewhere]
        self._lease = replace(self._lease, holds=True, beat=now())
        _write(notes, self._owner, self._lease, self._trials, before=len(trials))

    def _with_others(self) -> dict[str, str]:
        ours = self._lease.since, self._owner
        return {
            trial: str(lease)
            for owner, (lease, held) in _leases(self._notes, self._now(), self._owner).items()
            if lease.machine != self._lease.machine and (lease.holds or (lease.since, owner) < ours)
            for trial in self._trials
            if trial[:DIGITS] in held
        }

    def beat(self) -> None:
        """Give a sign of life, if the last was a while ago.

        Raises
        ------
        StoreError
            When it was so long ago that another machine has taken trials over.
        """
        silence = self._now() - self._lease.beat
        if silence < BEAT or self._lost:
            return
        if silence > SILENT and (lost := self._with_others()):
            self._lost = True
            raise StoreError(
                f"nothing was heard of this sweep for {silence:.0f} s, and another "
                f"({next(iter(lost.values()))}) took {len(lost)} of its trials over; start the same command "
                "again, and it leaves those to it"
            )
        self._lease = replace(self._lease, beat=self._now())
        kept = len(self._trials) if silence <= SILENT else 0  # else others may have cleared its tags away
        _write(self._notes, self._owner, self._lease, self._trials, before=kept)

    def give_up(self) -> None:
        """Remove it from the tags."""
        for key in [PREFIX + self._owner, *_parts(self._owner, len(self._trials))]:
            self._notes.tag_experiment(key, None)


@contextmanager
def on(
    notes: Notes, trials: Sequence[str], folder: Path, *, now: Callable[[], float] = time.time
) -> Iterator[Held]:
    """Take the lease of trials that no other machine has, for as long as the context is open.

    Parameters
    ----------
    notes
        The experiment's tags.
    trials
        Ids.
    folder
        Where this machine keeps its name for others; sweeps that share it know of each other by claims.
    now
        The clock.
    """
    held = Held(notes, trials, folder, now)
    try:
        yield held
    finally:
        with contextlib.suppress(StoreError):  # a server that is away: then it falls silent
            held.give_up()


def _write(notes: Notes, owner: str, lease: Lease, trials: Sequence[str], before: int = 0) -> None:
    """Write a lease over one of `before` trials: its trials first, for the head makes it count."""
    keys = _parts(owner, len(trials))
    if len(trials) != before:
        for i, key in enumerate(keys):
            part = trials[i * A_TAG : (i + 1) * A_TAG]
            notes.tag_experiment(key, "".join(trial[:DIGITS] for trial in part))
        for key in _parts(owner, before)[len(keys) :]:
            notes.tag_experiment(key, None)
    notes.tag_experiment(PREFIX + owner, _said(lease))


def _parts(owner: str, trials: int) -> list[str]:
    return [f"{PREFIX}{owner}.{i}" for i in range(-(-trials // A_TAG))]


def _said(lease: Lease) -> str:
    return json.dumps(asdict(lease))


def _leases(notes: Notes, now: float, me: str) -> dict[str, tuple[Lease, set[str]]]:
    """Return others' leases that live, with their trials, by owner; remove those that do not."""
    heads: dict[str, Lease] = {}
    held: dict[str, set[str]] = {}
    silent: list[str] = []
    tags = {key: value for key, value in notes.experiment_tags().items() if key.startswith(PREFIX)}
    for key, value in tags.items():
        owner, _, part = key.removeprefix(PREFIX).partition(".")
        if owner == me:
            continue
        if part:
            held.setdefault(owner, set()).update(textwrap.wrap(value, DIGITS))
            continue
        with contextlib.suppress(ValueError, TypeError):  # whatever stands there, it is no lease of ours
            lease = Lease(**json.loads(value))
            if now - lease.beat <= SILENT:
                heads[owner] = lease
            else:
                silent.append(owner)
    for key in tags:
        if key.removeprefix(PREFIX).partition(".")[0] in silent:
            notes.tag_experiment(key, None)
    return {owner: (lease, held.get(owner, set())) for owner, lease in heads.items()}


def _machine(folder: Path) -> str:
    """Return what tells this machine from others: its name, and what is drawn once and kept in a file."""
    drawn = ""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "machine"
        with FileLock(folder / "machine.lock", timeout=10):
            if not file.exists():
                file.write_text(uuid.uuid4().hex, encoding="utf-8")
            drawn = file.read_text(encoding="utf-8")
    return f"{platform.node()} {drawn}"
