"""What fnnexp left behind on this machine, and its removal: ``fnnexp clean``.

Stores, their artifacts and reports are results, which are never removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import fnnexp.nn.engines
from fnnexp.data.cache import cache_folder
from fnnexp.data.download import IDX_SETS
from fnnexp.nn.engines.base import engine_named
from fnnexp.sweeping.checkpoints import CELLS, CHECKPOINTS
from fnnexp.sweeping.resources.locks import folder_for, is_held
from fnnexp.sweeping.resources.states import STATES
from fnnexp.tracking.schema import left_beside
from fnnexp.tracking.store import address_or_default, full_address, store_file

HERE = STATES.parent
"""The folder of checkpoints, final states and cells. A sweep or a map that runs here holds a lock in it."""


@dataclass(frozen=True)
class Leftover:
    """Files of one kind that `fnnexp clean` can remove.

    Attributes
    ----------
    kind
        A key of :data:`KINDS`.
    place
        The folder that has the files.
    files
        The files, or folders to remove as a whole.
    size
        Their size in bytes.
    in_use
        Whether a running sweep may use them. Then they stay.
    """

    kind: str
    place: Path
    files: tuple[Path, ...]
    size: int
    in_use: bool = False


def find(kinds: Iterable[str], uri: str | None) -> list[Leftover]:
    """Find the leftover files of these kinds; `uri` is the address of the store (None: the default store)."""
    address = full_address(address_or_default(uri))
    leftovers = []
    for kind in kinds:
        _, places, user = KINDS[kind]
        in_use = _is_in_use(user()) if user else False
        for place, files in places(address):
            if files:
                size = sum(_size(file) for file in files)
                leftovers.append(Leftover(kind, place, tuple(files), size, in_use))
    return leftovers


def remove(leftovers: Iterable[Leftover]) -> list[str]:
    """Remove the leftover files that no sweep uses, and folders that are empty then; return the errors."""
    errors = []
    for leftover in leftovers:
        for file in () if leftover.in_use else leftover.files:
            try:
                if file.is_dir() and not file.is_symlink():
                    shutil.rmtree(file)
                else:
                    file.unlink(missing_ok=True)
            except OSError as error:
                errors.append(f"{file} can't be removed: {error.strerror or error}")
        for folder in (leftover.place, leftover.place.parent):
            if folder.name in OWN_FOLDERS or folder.parent.name == "claims":
                with suppress(OSError):  # it is not empty
                    folder.rmdir()
    return errors


def _is_in_use(folder: Path) -> bool:
    """Return whether a sweep holds a lock in a folder."""
    return any(is_held(lock) for lock in folder.glob("*.lock"))


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            return path.lstat().st_size
        return 0
    return sum(_size(each) for each in _entries(path))


def _entries(folder: Path, pattern: str = "*") -> list[Path]:
    with suppress(OSError):
        return sorted(folder.glob(pattern))
    return []


# --- the kinds ----------------------------------------------------------------------------------------------

Places = list[tuple[Path, list[Path]]]
"""Folders, each with the leftover files in it."""


def _states(_: str) -> Places:
    return [(STATES, _entries(STATES))]


def _checkpoints(_: str) -> Places:
    return [(CHECKPOINTS, _entries(CHECKPOINTS))]


def _cells(_: str) -> Places:
    return [(CELLS, _entries(CELLS))]


def _claims(address: str) -> Places:
    """Find what sweeps that ended left behind: their claims on trials, and their lock files.

    The claims are those on trials of this store, and of all servers.
    """
    servers = cache_folder() / "claims"
    folders = {folder_for(address, cache_folder()), *_entries(servers), HERE, cache_folder()}
    return [(folder, _dead(folder)) for folder in sorted(folders)]


def _dead(folder: Path) -> list[Path]:
    """Return the claims on trials and the lock files in a folder that belong to processes that have ended."""
    locks = [lock for lock in _entries(folder, "*.lock") if not is_held(lock)]
    alive = {lock.stem for lock in _entries(folder, "*.lock") if lock not in locks}
    if folder in (HERE, cache_folder()):
        return locks
    claims = [claim for claim in _entries(folder, "*.json") if claim.stem not in alive]
    turn = [] if alive else _entries(folder, "turn")
    return [*locks, *claims, *turn]


def _data(_: str) -> Places:
    return [(cache_folder() / "prepared", [*_entries(cache_folder() / "prepared")])]


def _speeds(_: str) -> Places:
    return [(cache_folder() / "speeds", _entries(cache_folder() / "speeds"))]


def _downloads(_: str) -> Places:
    names = ("mnist.npz", *IDX_SETS)
    return [(cache_folder(), [file for name in names for file in _entries(cache_folder(), name)])]


def _compiled(_: str) -> Places:
    folder = _folder_of_compiled_code()
    return [(folder, _entries(folder, "numba_engine.*.nb[ci]"))]


def _folder_of_compiled_code() -> Path:
    """Return the folder in which Numba keeps the code that it compiled for this installation of fnnexp."""
    beside = Path(next(iter(fnnexp.nn.engines.__path__))) / "__pycache__"
    try:
        return Path(engine_named("numba").code_folder or beside)
    except ImportError:  # Numba was removed
        return beside


def _temporary(address: str) -> Places:
    """Find the temporary folders of processes that were killed while they created or upgraded the store."""
    file = store_file(address)
    return [] if file is None else [(file.parent, left_beside(file))]


KINDS: dict[str, tuple[str, Callable[[str], Places], Callable[[], Path] | None]] = {
    "states": ("trials with more epochs start over", _states, lambda: HERE),
    "checkpoints": ("unfinished trials start over", _checkpoints, lambda: HERE),
    "cells": ("maps train them again", _cells, lambda: HERE),
    "claims": ("of sweeps that have ended", _claims, None),
    "data": ("prepared again from its files", _data, cache_folder),
    "downloads": ("downloaded again", _downloads, cache_folder),
    "speeds": ("dry runs measure again", _speeds, cache_folder),
    "compiled": ("compiled again in some seconds", _compiled, cache_folder),
    "temporary": ("of commands that were killed", _temporary, None),
}
"""The kinds of leftover files. For each: what follows if they are removed; a function that returns the
folders and files, given the store's address; and a function that returns the folder in which sweeps that use
them hold a lock, if there is one."""

OWN_FOLDERS = (".fnnexp", "states", "checkpoints", "cells", "claims", "prepared", "speeds")
"""The names of folders that are removed when they are empty."""
