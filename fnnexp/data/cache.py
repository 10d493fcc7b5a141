"""Keep prepared data sets in the cache folder. A data set is written once; every worker maps it into memory.

A prepared data set is a folder with the four arrays as ``.npy`` files and their description in ``meta.json``.
If the rows are in another order than in their file, the folder also has the numbers that they have there.
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
from numpy.typing import NDArray

from fnnexp.data import sources
from fnnexp.data.labelled import ARRAYS, Labelled, Numbers
from fnnexp.data.npz import DamagedError
from fnnexp.errors import DataError, printable


@dataclass(frozen=True)
class Description:
    """The content of ``meta.json``, which describes the arrays in its folder.

    `checksum` is the SHA-256 over the names, shapes, dtypes (uint8 is omitted) and bytes of the four arrays.
    `sha256` maps an array's name to the SHA-256 of its bytes. It also has `rows_train` and `rows_test`, if
    the folder does. `notes` tell the user what was decided while reading, such as which column has the
    labels; they do not name the files, which may be called otherwise the next time. `inputs` is the dtype of
    the inputs: uint8, or float32 for real values. `class_names` are the names of the classes; none if they
    are numbers. `input_names` are those of the inputs, if they have names.
    """

    checksum: str
    sha256: dict[str, str]
    n_train: int
    n_test: int
    input_size: int
    classes: int
    notes: tuple[str, ...] = ()
    inputs: str = "uint8"
    class_names: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()


def cache_folder() -> Path:
    """Return the folder of fnnexp's cache: `$FNNEXP_CACHE` if it is set, else a folder in the user's cache.

    The folder may not exist yet. If the user's home folder is unknown, return a private folder in the
    system's temporary folder.
    """
    if from_variable := os.environ.get("FNNEXP_CACHE"):
        return sources.place(from_variable).absolute()
    with contextlib.suppress(RuntimeError):
        if (folder := platformdirs.user_cache_path("fnnexp")).is_absolute():
            return folder
    return _temporary_folder("the home folder, where the cache belongs, is unknown")


def writable_folder() -> Path:
    """Return the cache folder or, if it cannot be written, a private folder in the temporary folder."""
    try:
        return _writable(cache_folder())
    except OSError as error:
        reason = f"the cache {cache_folder()} cannot be written ({error.strerror or error})"
    return _writable(_temporary_folder(reason))


def _temporary_folder(reason: str) -> Path:
    """Return this user's own folder in the temporary folder, and print once why it is used."""
    user = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"fnnexp-{user}"
    _warn_once(f"{reason}; using {folder}. Set FNNEXP_CACHE to use another folder.")
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise DataError(f"{folder} belongs to another user; write FNNEXP_CACHE=FOLDER with a folder of yours")
    return folder


def warn(message: str) -> None:
    """Print a warning as one line, without the source line that Python's warnings show."""
    print(f"fnnexp: {printable(' '.join(message.split()))}", file=sys.stderr)


_warn_once = functools.cache(warn)


def keep(key: str, read: Callable[[], Labelled]) -> tuple[Path, Description]:
    """Return the folder in the cache that has a data set's arrays, and its description.

    The description has the shapes of the arrays and a hash of their bytes. If there is no such folder, or its
    bytes do not match the hash, this calls `read` and writes the folder.

    Parameters
    ----------
    key
        A hash of everything that decides what is read (:func:`fnnexp.data.readers.content_key`).
    read
        Returns the checked arrays: inputs and labels, for training and for test.
    """
    name = Path("prepared") / key[:24]
    if description := _find(cache_folder() / name):
        return cache_folder() / name, description
    folder = writable_folder() / name
    if description := _find(folder):
        return folder, description
    _write(folder, read())
    if description := _find(folder):
        return folder, description
    raise DataError(f"{folder} is damaged or was removed while it was written; delete it and run again.")


def open_arrays(folder: Path) -> tuple[Description, dict[str, Numbers]]:
    """Return a data set's description from the cache, and its arrays, mapped into memory read-only.

    Raises
    ------
    DamagedError
        If a file is missing or damaged, or an array's shape or dtype differs from the description.
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
    description = Description(**{name: meta[name] for name in names if name in meta})
    if description.inputs not in ("uint8", "float32"):
        raise DamagedError(f"meta.json has inputs of the dtype {description.inputs}, not uint8 or float32")
    shapes = {
        "x_train": (description.n_train, description.input_size),
        "y_train": (description.n_train,),
        "x_test": (description.n_test, description.input_size),
        "y_test": (description.n_test,),
    }
    for key, array in arrays.items():
        dtype = description.inputs if key[0] == "x" else "uint8"
        if array.shape != shapes[key] or array.dtype != dtype:
            raise DamagedError(
                f"{key} has shape {array.shape} and dtype {array.dtype}, not {shapes[key]} and {dtype} as "
                "meta.json says"
            )
    return description, arrays


def row_numbers(folder: Path, description: Description) -> dict[str, NDArray[np.intp]]:
    """Return the numbers, from 0, that rows in a folder of the cache have in their file.

    The keys are `train` and `test`. One is absent if its rows are in the order of their file.

    Raises
    ------
    DamagedError
        If a file of numbers is missing, or its bytes have changed since they were written.
    """
    rows = {}
    for split in ("train", "test"):
        if (sha256 := description.sha256.get(f"rows_{split}")) is None:
            continue
        try:
            mapped = np.load(folder / f"rows_{split}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DamagedError(str(error)) from error
        if hashlib.sha256(mapped.data).hexdigest() != sha256:
            raise DamagedError(f"the bytes of rows_{split} have changed since they were written")
        rows[split] = np.array(mapped, np.intp)
    return rows


def _writable(folder: Path) -> Path:
    """Make a folder if it is missing, and return it; raise `OSError` if it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def _find(folder: Path) -> Description | None:
    """Return the description of the data set in a folder of the cache; None if it is missing or damaged.

    A damaged folder is removed, so that it can be written again.
    """
    if not folder.is_dir():
        return None
    try:
        description, arrays = open_arrays(folder)
        if _checksum(arrays) != description.checksum:
            raise DamagedError("its bytes have changed since they were written")
        row_numbers(folder, description)
        return description
    except DamagedError as error:
        warn(f"the prepared data in {folder} is damaged; preparing it again ({error})")
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _write(folder: Path, data: Labelled) -> None:
    """Write a data set to a folder of the cache, which gets its name only when it is complete.

    If another process has written the folder in the meantime, that folder stays.
    """
    staging = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        staging.mkdir(parents=True)
        for key, array in _kept(data).items():
            np.save(staging / f"{key}.npy", array, allow_pickle=False)
        (staging / "meta.json").write_text(json.dumps(asdict(_describe(data)), indent=2) + "\n", "utf-8")
        try:
            staging.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _kept(data: Labelled) -> dict[str, Numbers]:
    """Return everything of a data set that is kept as an array, by the name of its file."""
    rows = {f"rows_{split}": numbers for split, numbers in data.rows.items()}
    return {key: data.arrays[key] for key in ARRAYS} | rows


def _describe(data: Labelled) -> Description:
    arrays = data.arrays
    return Description(
        checksum=_checksum(arrays),
        sha256={key: hashlib.sha256(array.data).hexdigest() for key, array in _kept(data).items()},
        n_train=len(arrays["x_train"]),
        n_test=len(arrays["x_test"]),
        input_size=arrays["x_train"].shape[1],
        classes=int(arrays["y_train"].max()) + 1,
        notes=data.notes,
        inputs=str(arrays["x_train"].dtype),
        class_names=data.class_names,
        input_names=data.input_names,
    )


def _checksum(arrays: Mapping[str, Numbers]) -> str:
    """Return the SHA-256 of the names, shapes, dtypes (uint8 is omitted) and bytes of the four arrays."""
    digest = hashlib.sha256()
    for key in ARRAYS:
        dtype = "" if arrays[key].dtype == np.uint8 else f" {arrays[key].dtype}"
        digest.update(f"{key} {arrays[key].shape}{dtype}\n".encode())
        digest.update(arrays[key].data)
    return digest.hexdigest()
