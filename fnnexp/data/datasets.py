"""The named data sets: find one, prepare it once, and map its arrays into memory.

To add one, write a function from a :class:`Request` to a :class:`Prepared`, enter it in :data:`DATASETS`, and
add ``conf/data/NAME.yaml``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fnnexp.data import cache, download, readers, sources
from fnnexp.data.labelled import ARRAYS, Bytes, Labelled, checked
from fnnexp.data.npz import DamagedError
from fnnexp.data.sources import UNTOLD, Reading
from fnnexp.errors import DataError, did_you_mean

MNIST_ARRAY_SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
DIGITS_TRAIN = 1437


@dataclass(frozen=True)
class Request:
    """What is asked of a data set: paths, if any; whether it may be downloaded; how files are to be read."""

    path: Path | None = None
    test_path: Path | None = None
    may_download: bool = True
    reading: Reading = UNTOLD


@dataclass(frozen=True)
class Prepared:
    """A data set on disk, ready to be mapped: small, picklable, what the parent hands to workers.

    `checksum` is its scientific identity: SHA-256 over the names, shapes and bytes of the four arrays, the
    same whatever format they came in. `brightest` is the largest pixel; `all_classes` the number of training
    rows, from the first, that it takes to see every class, and `last_classes` the same from the last. `notes`
    say what was decided while it was read.
    """

    name: str
    directory: str
    checksum: str
    n_train: int
    n_test: int
    input_size: int
    classes: int
    brightest: int = 255
    all_classes: int = 1
    last_classes: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arrays:
    """The four arrays, read-only: images (n, D) and labels (n,), uint8."""

    x_train: Bytes
    y_train: Bytes
    x_test: Bytes
    y_test: Bytes


def prepare(
    name: str,
    path: str | None = None,
    test_path: str | None = None,
    reading: Reading = UNTOLD,
    *,
    may_download: bool = True,
) -> Prepared:
    """Find a data set, read and check it if that has not been done yet, and return where it lies.

    Parameters
    ----------
    name
        `mnist` (from `path`, `$FNNEXP_MNIST`, the cache or a download), `digits` (comes with scikit-learn) or
        `files` (from `path`).
    path
        An `.npz`, a folder with IDX or CSV files, or a CSV.
    test_path
        The test CSV that belongs to a training CSV.
    reading
        How files are read where they cannot tell.
    may_download
        If False, a data set that is not on this machine is an error.

    Raises
    ------
    DataError
        The name is unknown, the data is missing or broken, or `mnist` is not MNIST.

    Examples
    --------
    >>> digits = prepare("digits")
    >>> digits.n_train, digits.n_test, digits.input_size, digits.classes
    (1437, 360, 784, 10)
    """
    if name not in DATASETS:
        raise DataError(
            f"data={name} is unknown; it can be {', '.join(DATASETS)}.{did_you_mean(name, DATASETS)}"
        )
    if test_path and not path:
        raise DataError(
            f"data.test_path={test_path} without data.path; write the training CSV as data.path=…."
        )
    train, test = (sources.place(given) if given else None for given in (path, test_path))
    try:
        return DATASETS[name](Request(train, test, may_download, reading))
    except OSError as error:
        raise DataError(
            f"data={name} cannot be read or kept ({error}); give a file that can be read, and room in "
            f"{cache.cache_folder()} or in another folder that FNNEXP_CACHE names."
        ) from error
    except MemoryError as error:
        raise DataError(
            f"data={name} does not go into the memory here ({error}); take fewer images."
        ) from error


def load(prepared: Prepared) -> Arrays:
    """Map the arrays of a prepared data set into memory, read-only; nothing is copied.

    Their bytes were compared with the checksum by :func:`prepare`, once for all who map them.

    Returns
    -------
    Arrays
        `x_train` (n, D), `y_train` (n,), `x_test` (m, D), `y_test` (m,), all uint8.

    Raises
    ------
    DataError
        The files are gone, damaged, or not those that were prepared.
    """
    try:
        found, arrays = cache.open_arrays(Path(prepared.directory))
        if found.checksum != prepared.checksum:
            raise DamagedError(f"checksum {found.checksum} and not {prepared.checksum}")
    except DamagedError as error:
        raise DataError(
            f"the prepared data in {prepared.directory} is missing or damaged ({error}); "
            "delete it and run again."
        ) from error
    return Arrays(**arrays)


# --- the data sets ------------------------------------------------------------------------------------------


def _mnist(request: Request) -> Prepared:
    from_variable = os.environ.get("FNNEXP_MNIST")
    if request.path:
        path, origin = request.path, f"data.path={request.path}"
    elif from_variable:
        path, origin = sources.place(from_variable), f"FNNEXP_MNIST={from_variable}"
    else:
        path = download.mnist(may_download=request.may_download)
        origin = f"the cached {path} (delete it to have it downloaded again)"
    try:
        folder, found = _from_files(path, request)
    except DataError as error:
        raise DataError(f"{origin}: {error}") from error
    differing = [key for key in ARRAYS if found.sha256[key] != MNIST_ARRAY_SHA256[key]]
    if differing:
        raise DataError(
            f"{origin} is not MNIST: the SHA-256 of {' '.join(differing)} differs from that of MNIST in its "
            f"original order. To train on other data write data=files data.path={path}."
        )
    return _prepared("mnist", folder, found)


def _digits(request: Request) -> Prepared:
    if request.path:
        raise DataError(
            f"data=digits takes no path, and data.path={request.path} was given; write data=files."
        )
    if request.reading != UNTOLD:
        raise DataError(
            "data=digits comes with scikit-learn, so data.label, data.header, data.test_fraction and "
            "data.transpose have no meaning; leave them out, or write data=files data.path=…."
        )
    return _prepared("digits", *cache.keep(readers.content_key("digits"), _read_digits))


def _files(request: Request) -> Prepared:
    if not request.path:
        raise DataError(f"data=files needs data.path=…; {sources.EXPECTED}.")
    return _prepared("files", *_from_files(request.path, request))


DATASETS: dict[str, Callable[[Request], Prepared]] = {"mnist": _mnist, "digits": _digits, "files": _files}


def _from_files(path: Path, request: Request) -> tuple[Path, cache.Description]:
    """Return the prepared folder of a user's files, and its description."""
    source = sources.find(path, request.test_path, request.reading)
    key = readers.content_key(f"{source.format} {source.reading}", source.files)
    return cache.keep(key, lambda: readers.read(source))


def _read_digits() -> Labelled:
    """Return scikit-learn's digits, 8×8 with values 0..16, as 28×28 bytes: enlarged 3× and padded by 2."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    enlarged = digits.images.repeat(3, axis=1).repeat(3, axis=2)
    x = np.round(np.pad(enlarged, ((0, 0), (2, 2), (2, 2))) * 255 / 16).astype(np.uint8)
    y = digits.target.astype(np.uint8)
    train, test = slice(None, DIGITS_TRAIN), slice(DIGITS_TRAIN, None)
    arrays = {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
    return checked(arrays, "data=digits")


def _prepared(name: str, folder: Path, found: cache.Description) -> Prepared:
    arrays = cache.open_arrays(folder)[1]
    labels = arrays["y_train"]
    return Prepared(
        name,
        str(folder),
        found.checksum,
        found.n_train,
        found.n_test,
        found.input_size,
        found.classes,
        brightest=max(int(arrays["x_train"].max()), int(arrays["x_test"].max())),
        all_classes=int(np.unique(labels, return_index=True)[1].max()) + 1,
        last_classes=int(np.unique(labels[::-1], return_index=True)[1].max()) + 1,
        notes=tuple(found.notes),
    )
