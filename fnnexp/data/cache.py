"""Keep prepared data sets in the cache folder: each is written once, and mapped into memory by every worker.

A prepared data set is a folder with the four arrays as ``.npy`` files and their description in ``meta.json``.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

import numpy as np
import platformdirs

from fnnexp.data import sources
from fnnexp.data.labelled import ARRAYS, Bytes, Labelled
from fnnexp.data.npz import DamagedError
from fnnexp.errors import DataError, printable


@dataclass(frozen=True)
class Description:
    """What ``meta.json`` says of the arrays beside it.

    `checksum` is the SHA-256 over the names, shapes and bytes of the four arrays; `sha256` has that of each
    array's bytes; `notes` say what was decided while they were read.
    """

    checksum: str
    sha256: dict[str, str]
    n_train: int
    n_test: int
    input_size: int
    classes: int
    notes: tuple[str, ...] = ()


def cache_folder() -> Path:
    """Return the cache folder, which may not exist: `$FNNEXP_CACHE`, else the user's.

    A user whose home folder is not known has a private one in the temporary folder.
    """
    if given := os.environ.get("FNNEXP_CACHE"):
        return sources.place(given).absolute()
    with contextlib.suppress(RuntimeError):
        if (folder := platformdirs.user_cache_path("fnnexp")).is_absolute():
            return folder
    return _temporary_folder("no home folder is known here for the cache")


def writable_folder() -> Path:
    """Return the cache folder, or a private one in the temporary folder where that cannot be written."""
    try:
        return _writable(cache_folder())
    except OSError as error:
        why = f"the cache {cache_folder()} cannot be written ({error.strerror or error})"
    return _writable(_temporary_folder(why))


def _temporary_folder(why: str) -> Path:
    """Return this user's own folder in the temporary folder, and say once why it is used."""
    user = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"fnnexp-{user}"
    _warn_once(f"{why}; {folder} is used. FNNEXP_CACHE names another.")
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise DataError(f"{folder} belongs to someone else; write FNNEXP_CACHE=FOLDER for one of your own")
    return folder


def warn(message: str) -> None:
    """Print a warning in one line, without the line of source that Python's warnings show."""
    print(f"fnnexp: {printable(' '.join(message.split()))}", file=sys.stderr)


_warn_once = functools.cache(warn)


def keep(key: str, read: Callable[[], Labelled]) -> tuple[Path, Description]:
    """Return the prepared folder of a key and its description; `read` is called when there is none yet.

    What is there already is hashed, and made again where it is not what its description says.

    Parameters
    ----------
    key
        A hash of all that decides what is read (:func:`fnnexp.data.readers.content_key`).
    read
        Returns the four arrays, checked.
    """
    name = Path("prepared") / key[:24]
    if found := _find(cache_folder() / name):
        return cache_folder() / name, found
    folder = writable_folder() / name
    if found := _find(folder):
        return folder, found
    _write(folder, read())
    if found := _find(folder):
        return folder, found
    raise DataError(f"{folder} is damaged, or vanished while it was written; delete it and run again.")


def open_arrays(folder: Path) -> tuple[Description, dict[str, Bytes]]:
    """Return a prepared folder's description and its arrays, mapped into memory read-only, not yet read.

    Raises
    ------
    DamagedError
        A file is missing or damaged, or an array has not the shape and dtype of the description.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        arrays = {key: np.load(folder / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in ARRAYS}
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(str(error)) from error
    names = [field.name for field in fields(Description)]
    needed = [field.name for field in fields(Description) if field.default is MISSING]
    if not isinstance(meta, dict) or not meta.keys() >= set(needed):
        raise DamagedError(f"meta.json lacks some of {', '.join(needed)}")
    found = Description(**{name: meta[name] for name in names if name in meta})
    shapes = {
        "x_train": (found.n_train, found.input_size),
        "y_train": (found.n_train,),
        "x_test": (found.n_test, found.input_size),
        "y_test": (found.n_test,),
    }
    for key, array in arrays.items():
        if array.shape != shapes[key] or array.dtype != np.uint8:
            raise DamagedError(f"{key} is {array.shape} of {array.dtype} and not {shapes[key]} of uint8")
    return found, arrays


def _writable(folder: Path) -> Path:
    """Return a folder, which is made if it is not there; raise `OSError` if it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def _find(folder: Path) -> Description | None:
    """Return the description of a prepared folder, or None; a damaged folder is removed, to be made again."""
    if not folder.is_dir():
        return None
    try:
        found, arrays = open_arrays(folder)
        if _checksum(arrays) != found.checksum:
            raise DamagedError("its bytes are not those that were written")
        return found
    except DamagedError as error:
        warn(f"the prepared data in {folder} is damaged and is made again ({error})")
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _write(folder: Path, made: Labelled) -> None:
    """Write a prepared folder under another name and rename it; whoever comes second keeps what is there."""
    staging = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        staging.mkdir(parents=True)
        for key in ARRAYS:
            np.save(staging / f"{key}.npy", made.arrays[key], allow_pickle=False)
        (staging / "meta.json").write_text(json.dumps(asdict(_describe(made)), indent=2) + "\n", "utf-8")
        try:
            staging.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _describe(made: Labelled) -> Description:
    arrays = made.arrays
    return Description(
        checksum=_checksum(arrays),
        sha256={key: hashlib.sha256(arrays[key].data).hexdigest() for key in ARRAYS},
        n_train=len(arrays["x_train"]),
        n_test=len(arrays["x_test"]),
        input_size=arrays["x_train"].shape[1],
        classes=int(arrays["y_train"].max()) + 1,
        notes=made.notes,
    )


def _checksum(arrays: Mapping[str, Bytes]) -> str:
    whole = hashlib.sha256()
    for key in ARRAYS:
        whole.update(f"{key} {arrays[key].shape}\n".encode())
        whole.update(arrays[key].data)
    return whole.hexdigest()
