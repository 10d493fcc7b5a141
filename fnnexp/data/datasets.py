"""The named data sets: find a data set, prepare it once, and map its arrays into memory.

To add a data set, write a function from a :class:`Request` to a :class:`Prepared`, enter it in
:data:`DATASETS`, and add ``conf/data/NAME.yaml``.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fnnexp.data import cache, download, readers, sources, toys
from fnnexp.data.labelled import ARRAYS, Bytes, Labelled, Numbers, Raw, RowNumbers, checked, is_real, labelled
from fnnexp.data.npz import DamagedError
from fnnexp.data.sources import DEFAULT_READING, Reading, Source
from fnnexp.data.toys import DEFAULT_TOY, Toy
from fnnexp.errors import DataError, did_you_mean, raised

MNIST_ARRAY_SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
DIGITS_TRAIN = 1437

IMAGES = ("mnist", "digits", *download.IDX_SETS)
"""The data sets that are always images. The rows of other data sets may be images, tables or points."""

SHIFTED = {"digits": "the test images are by other people than the training images"}
"""The data sets whose test rows have another source than their training rows, each with a text on it.

In scikit-learn's digits the rows of one writer follow each other: the last 382 are by three of the 13 writers
(scikit-learn MOOC, "Sample grouping"), and of these three only 22 rows are before the test rows.
"""


@dataclass(frozen=True)
class Request:
    """What a user asks for with ``data=NAME`` and the keys ``data.path``, ``data.label`` and so on.

    `path` and `test_path` are the user's files, if any. `may_download` says whether the data set may be
    downloaded. `reading` says how to read files, and `toy` has the size and noise of a toy data set.
    """

    path: Path | None = None
    test_path: Path | None = None
    may_download: bool = True
    reading: Reading = DEFAULT_READING
    toy: Toy = DEFAULT_TOY


@dataclass(frozen=True)
class Prepared:
    """A description of a data set whose arrays are in the cache, in the folder `directory`.

    It is small. The parent process sends it to the workers, which map the arrays into memory (:func:`load`).

    `checksum` is the SHA-256 over the names, shapes and bytes of the four arrays, which identifies the data
    set in a trial's id. It does not depend on the file format. `brightest` is the largest pixel. The first
    `all_classes` training rows have every class, and so have the last `last_classes`. `real` says whether
    inputs are real numbers instead of bytes. `notes` tell the user what was decided while reading.
    `class_names` has the name of each class; it is empty if classes are only numbers, and not part of the
    checksum. The same is true of `input_names`.
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
    class_names: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arrays:
    """The four arrays of a data set, read-only: inputs (n, D), uint8 or float32; labels (n,), uint8."""

    x_train: Numbers
    y_train: Bytes
    x_test: Numbers
    y_test: Bytes


def prepare(
    name: str,
    path: str | None = None,
    test_path: str | None = None,
    reading: Reading = DEFAULT_READING,
    toy: Toy = DEFAULT_TOY,
    *,
    may_download: bool = True,
) -> Prepared:
    """Find a data set, read and check it unless it is in the cache already, and return its description.

    Parameters
    ----------
    name
        `mnist` (from `path`, `$FNNEXP_MNIST`, the cache or a download), `fashion_mnist` or `kmnist` (from
        `path`, the cache or a download), `digits` (comes with scikit-learn), `files` (from `path`), or a toy:
        `moons`, `circles` or `spirals`.
    path
        An `.npz`, a CSV, or a folder with IDX files, CSV files or images.
    test_path
        A CSV of test rows, if `path` is a CSV of training rows.
    reading
        How to read the files.
    toy
        The size and noise of a toy.
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
        return DATASETS[name](Request(train, test, may_download, reading, toy))
    except OSError as error:
        raise DataError(
            f"data={name} cannot be read or stored ({error}); give a file that can be read, or make room in "
            f"{cache.cache_folder()}, or set FNNEXP_CACHE to another folder."
        ) from error
    except MemoryError as error:
        raise DataError(f"data={name} does not fit into memory ({error}); use fewer rows.") from error


def is_path(data: str) -> bool:
    """Return whether a user means a file or folder by `data`, and not the name of a data set.

    A file or folder with the name of a data set is `./mnist`.
    """
    is_here = sources.place(data).exists()
    is_name = (data in DATASETS and data != "files") or (not is_here and re.fullmatch(r"\w+", data))
    return not is_name


def load(prepared: Prepared) -> Arrays:
    """Map the arrays of a prepared data set into memory, read-only and without a copy.

    :func:`prepare` has compared their bytes with the checksum, so workers need not do so again.

    Returns
    -------
    Arrays
        `x_train` (n, D), `y_train` (n,), `x_test` (m, D), `y_test` (m,), all uint8, or real-valued inputs
        as float32.

    Raises
    ------
    DataError
        If the files are missing, damaged, or not the files that were prepared.
    """
    with _damage(prepared):
        return Arrays(**_opened(prepared)[1])


def row_numbers(prepared: Prepared) -> RowNumbers:
    """Return the numbers, from 0, that the rows of a prepared data set have in their file.

    They are numbers of rows of a CSV or of an array; for images, of the images, class by class in the order
    of the folders, and by name within a folder.

    Returns
    -------
    Mapping
        For `train` and for `test`, the number of each row (n,); absent if the rows are in the order of their
        file, so that the numbers are 0, 1, 2, …. A file without test rows is shuffled and split, so its
        numbers are in both.

    Raises
    ------
    DataError
        As :func:`load` does.
    """
    with _damage(prepared):
        return cache.row_numbers(Path(prepared.directory), _opened(prepared)[0])


def _opened(prepared: Prepared) -> tuple[cache.Description, dict[str, Numbers]]:
    """Open the arrays of a prepared data set; raise a DamagedError if they are not those prepared."""
    description, arrays = cache.open_arrays(Path(prepared.directory))
    if description.checksum != prepared.checksum:
        raise DamagedError(
            f"its checksum is {description.checksum}, and was {prepared.checksum} when it was prepared"
        )
    return description, arrays


@contextlib.contextmanager
def _damage(prepared: Prepared) -> Iterator[None]:
    """Raise DataError in place of a DamagedError in the ``with`` block, with what to do."""
    try:
        yield
    except DamagedError as error:
        raise DataError(
            f"the prepared data in {prepared.directory} is missing or damaged ({error}); "
            "delete it and run again."
        ) from error


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


def _idx_set(name: str, request: Request) -> Prepared:
    """Prepare a data set that is published as four IDX files, such as Fashion-MNIST.

    Raise if a file is missing, or if its SHA-256 is not that of the published file.
    """
    published = download.IDX_SETS[name]
    _refuse_reading(f"data={name} is read from {', '.join(published.files)}", request)
    if request.path:
        folder, origin = request.path, f"data.path={request.path}"
    else:
        folder = download.idx_files(name, may_download=request.may_download)
        origin = f"the cached {folder} (delete it to download it again)"
    other = f"To train on other files, write data=files data.path={folder}."
    files = tuple(folder / file for file in published.files)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(f"{origin} lacks {' '.join(missing)}, which data={name} needs. {other}")
    differing = [
        file.name
        for file, sha256 in zip(files, published.files.values(), strict=True)
        if readers.file_sha256(file) != sha256
    ]
    if differing:
        raise DataError(
            f"{origin} is not {published.title}: the SHA-256 of {' '.join(differing)} differs from the "
            f"published one. {other}"
        )
    return replace(_prepared(name, *_from_source(Source("idx", files))), class_names=published.class_names)


def _digits(request: Request) -> Prepared:
    _refuse_files("digits", "comes with scikit-learn", request)
    return _prepared("digits", *cache.keep(readers.content_key("digits"), _read_digits))


def _toy(name: str, request: Request) -> Prepared:
    _refuse_files(name, "is drawn by fnnexp", request)
    key = readers.content_key(f"{name} {request.toy}")
    kept = cache.keep(key, lambda: checked(toys.draw(name, request.toy), f"data={name}"))
    return replace(_prepared(name, *kept), class_names=toys.CLASS_NAMES.get(name, ()))


def _files(request: Request) -> Prepared:
    if not request.path:
        raise DataError(f"data=files needs data.path=…; {sources.EXPECTED}.")
    return _prepared("files", *_from_files(request.path, request))


DATASETS: dict[str, Callable[[Request], Prepared]] = {
    "mnist": _mnist,
    **{name: partial(_idx_set, name) for name in download.IDX_SETS},
    "digits": _digits,
    "files": _files,
    **{name: partial(_toy, name) for name in toys.TOYS},
}


def from_function(name: str, make: Callable[[], Any], version: str, request: Request) -> Prepared:
    """Prepare the data set that a user's function returns.

    Parameters
    ----------
    name
        The name of the data set.
    make
        Returns `x_train`, `y_train`, `x_test` and `y_test`, in this order; labels are class numbers or words.
        It is called twice, unless the data set is in the cache.
    version
        The checksum of the function's file; the cache keeps one data set for each version.

    Raises
    ------
    DataError
        If the function fails, does not return four arrays, or returns other arrays the second time.
    """
    _refuse_files(name, "is a piece of your own", request)
    key = readers.content_key(f"piece {name} {version}")
    return _prepared(name, *cache.keep(key, lambda: _made(name, make)))


def _made(name: str, make: Callable[[], Any]) -> Labelled:
    """Return the data set that a user's function makes.

    The function is called twice; raise if it returns other arrays the second time.
    """
    where = f"data={name}"
    first, second = (_four_arrays(name, make) for _ in range(2))
    if any(not np.array_equal(first[key], second[key]) for key in ARRAYS):
        raise DataError(
            f"{where}: its function returned other arrays when called again; draw random numbers from a "
            "generator with a seed, as in numpy.random.default_rng(0)"
        )

    def fault(array: str, index: tuple[int, ...]) -> str:
        value = first[array][index]
        if array[0] == "y":
            return f"{where}: {array} has the value {value}; expected class numbers 0, 1, 2, …"
        return f"{array} has the value {value}"

    unchecked = labelled(Raw(first, fault), DEFAULT_READING, where)
    data = checked(unchecked.arrays, where)
    return replace(unchecked, arrays=data.arrays, notes=(*unchecked.notes, *data.notes))


def _four_arrays(name: str, make: Callable[[], Any]) -> dict[str, Numbers]:
    """Call a user's function, and return its four arrays by name; raise if it returns anything else."""
    expected = f"data={name}: its function must return {', '.join(ARRAYS)}"
    try:
        returned = make()
    except (Exception, SystemExit) as error:
        raise DataError(f"data={name}: its function raised {raised(error)}") from error
    arrays = list(returned) if isinstance(returned, tuple | list) else []
    if len(arrays) != len(ARRAYS) or not all(isinstance(array, np.ndarray) for array in arrays):
        given = f"{len(arrays)} values" if arrays else f"a {type(returned).__name__}"
        raise DataError(f"{expected}, as NumPy arrays; it returned {given}")
    if wrong := [
        key
        for key, array in zip(ARRAYS, arrays, strict=True)
        if array.dtype.kind not in ("iuf" if key[0] == "x" else "iufU")
    ]:
        dtype = arrays[ARRAYS.index(wrong[0])].dtype
        kinds = "numbers" if wrong[0][0] == "x" else "numbers or words"
        raise DataError(f"{expected}, as arrays of {kinds}; {wrong[0]} has the dtype {dtype}")
    return dict(zip(ARRAYS, arrays, strict=True))


def _refuse_files(name: str, origin: str, request: Request) -> None:
    """Raise if the user names a file, or says how to read files, for a data set that is not read from files.

    For example, ``data=digits data.path=FILE``. `origin` tells the user where the data comes from instead.
    """
    if request.path:
        raise DataError(
            f"data={name} does not accept data.path={request.path}; write data=files to train on that file, "
            "or omit data.path."
        )
    _refuse_reading(f"data={name} {origin}", request)


def _refuse_reading(why: str, request: Request) -> None:
    """Raise if the user says how to read files, or names a test file, for a data set that needs neither.

    `why` is the beginning of the message, such as "data=digits comes with scikit-learn".
    """
    if request.reading != DEFAULT_READING or request.test_path:
        raise DataError(
            f"{why}, so data.label, data.drop, data.header, data.test_fraction, data.transpose and "
            "data.test_path have no meaning; omit them, or write data=files data.path=…."
        )


def _from_files(path: Path, request: Request) -> tuple[Path, cache.Description]:
    """Return the folder in the cache with the arrays of a user's files, and the description of the arrays."""
    return _from_source(sources.find(path, request.test_path, request.reading))


def _from_source(source: Source) -> tuple[Path, cache.Description]:
    key = readers.content_key(source.content, source.files)
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
    labels, real = arrays["y_train"], is_real(arrays["x_train"])
    brightest = 255 if real else max(int(arrays["x_train"].max()), int(arrays["x_test"].max()))
    return Prepared(
        name,
        str(folder),
        description.checksum,
        description.n_train,
        description.n_test,
        description.input_size,
        description.classes,
        brightest=brightest,
        all_classes=int(np.unique(labels, return_index=True)[1].max()) + 1,
        last_classes=int(np.unique(labels[::-1], return_index=True)[1].max()) + 1,
        real=real,
        notes=tuple(description.notes),
        class_names=tuple(description.class_names),
        input_names=tuple(description.input_names),
    )
