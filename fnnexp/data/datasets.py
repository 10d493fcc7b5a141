"""The named data sets: find a data set, prepare it once, and map its arrays into memory.

To add a data set, write a function from a :class:`Request` to a :class:`Prepared`, enter it in
:data:`DATASETS`, and add ``conf/data/NAME.yaml``.
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
from fnnexp.data.sources import DEFAULT_READING, Reading
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
    """A request for a data set: its paths, if any; whether it may be downloaded; how to read its files."""

    path: Path | None = None
    test_path: Path | None = None
    may_download: bool = True
    reading: Reading = DEFAULT_READING


@dataclass(frozen=True)
class Prepared:
    """A data set on disk, ready to be mapped. It is small and picklable: the parent sends it to the workers.

    `checksum` is its scientific identity: the SHA-256 over the names, shapes and bytes of the four arrays. It
    does not depend on the file format. `brightest` is the largest pixel. The first `all_classes` training
    rows have a row of every class, and so do the last `last_classes`. `real` says whether inputs are real
    numbers instead of bytes. `notes` are the decisions made while reading.
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
    real: bool = False
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
    reading: Reading = DEFAULT_READING,
    *,
    may_download: bool = True,
) -> Prepared:
    """Find a data set, read and check it unless it is in the cache already, and return its description.

    Parameters
    ----------
    name
        `mnist` (from `path`, `$FNNEXP_MNIST`, the cache or a download), `digits` (comes with scikit-learn) or
        `files` (from `path`).
    path
        An `.npz`, a folder with IDX or CSV files, or a CSV.
    test_path
        The test CSV for a training CSV.
    reading
        How to read files that do not say it themselves.
    may_download
        If False, raise if the data set is not on this machine.

    Raises
    ------
    DataError
        If the name is unknown, the data is missing or damaged, or `mnist` is not MNIST.

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
    train, test = (sources.place(file) if file else None for file in (path, test_path))
    try:
        return DATASETS[name](Request(train, test, may_download, reading))
    except OSError as error:
        raise DataError(
            f"data={name} cannot be read or stored ({error}); give a file that can be read, and make room in "
            f"{cache.cache_folder()} or set FNNEXP_CACHE to another folder."
        ) from error
    except MemoryError as error:
        raise DataError(f"data={name} does not fit into memory ({error}); use fewer images.") from error


def load(prepared: Prepared) -> Arrays:
    """Map the arrays of a prepared data set into memory, read-only and without a copy.

    :func:`prepare` has compared their bytes with the checksum, so no worker does.

    Returns
    -------
    Arrays
        `x_train` (n, D), `y_train` (n,), `x_test` (m, D), `y_test` (m,), all uint8.

    Raises
    ------
    DataError
        If the files are missing, damaged, or not the files that were prepared.
    """
    try:
        description, arrays = cache.open_arrays(Path(prepared.directory))
        if description.checksum != prepared.checksum:
            raise DamagedError(f"its checksum is {description.checksum} and not {prepared.checksum}")
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
        origin = f"the cached {path} (delete it to download it again)"
    try:
        folder, description = _from_files(path, request)
    except DataError as error:
        raise DataError(f"{origin}: {error}") from error
    differing = [key for key in ARRAYS if description.sha256[key] != MNIST_ARRAY_SHA256[key]]
    if differing:
        raise DataError(
            f"{origin} is not MNIST: the SHA-256 of {' '.join(differing)} differs from MNIST in its original "
            f"order. To train on other data, write data=files data.path={path}."
        )
    return _prepared("mnist", folder, description)


def _digits(request: Request) -> Prepared:
    if request.path:
        raise DataError(f"data=digits does not accept data.path={request.path}; write data=files.")
    if request.reading != DEFAULT_READING:
        raise DataError(
            "data=digits comes with scikit-learn, so data.label, data.header, data.test_fraction and "
            "data.transpose have no meaning; omit them, or write data=files data.path=…."
        )
    return _prepared("digits", *cache.keep(readers.content_key("digits"), _read_digits))


def _files(request: Request) -> Prepared:
    if not request.path:
        raise DataError(f"data=files needs data.path=…; {sources.EXPECTED}.")
    return _prepared("files", *_from_files(request.path, request))


DATASETS: dict[str, Callable[[Request], Prepared]] = {"mnist": _mnist, "digits": _digits, "files": _files}


def _from_files(path: Path, request: Request) -> tuple[Path, cache.Description]:
    """Return the prepared folder for a user's files, and its description."""
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


def _prepared(name: str, folder: Path, description: cache.Description) -> Prepared:
    arrays = cache.open_arrays(folder)[1]
    labels = arrays["y_train"]
    return Prepared(
        name,
        str(folder),
        description.checksum,
        description.n_train,
        description.n_test,
        description.input_size,
        description.classes,
        brightest=max(int(arrays["x_train"].max()), int(arrays["x_test"].max())),
        all_classes=int(np.unique(labels, return_index=True)[1].max()) + 1,
        last_classes=int(np.unique(labels[::-1], return_index=True)[1].max()) + 1,
        real=arrays["x_train"].dtype != np.uint8,
        notes=tuple(description.notes),
    )
