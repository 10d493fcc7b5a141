"""Read files of labelled images (``.npz``, IDX, CSV) into the same four arrays of bytes.

Nothing is believed before it is checked: no array is unpickled, no header decides how much memory is taken.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import itertools
import math
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from fnnexp.data import npz
from fnnexp.data.sources import Source, listed
from fnnexp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

Bytes = NDArray[np.uint8]

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
READER_VERSION = 2
"""Raise it when a reader comes to read the same file differently: what was prepared before is then unused."""

LARGEST = 1 << 33
"""Bytes that a file and an array may have: 8 GB, over a hundred times MNIST."""
CSV_ROWS, CSV_CELLS, CSV_CELL = 4096, 1 << 20, 32
"""A block of a CSV has at most so many rows and about so many cells; a row, so many characters a cell."""
CSV_FIRST_LINE = 1 << 20
"""Characters that the first line of a CSV may have."""


def content_key(kind: str, files: tuple[Path, ...] = ()) -> str:
    """Return the key of a prepared data set: the SHA-256 of its kind, its files and the readers' version.

    Raises
    ------
    DataError
        A file is larger than any data set that is read.
    """
    total = hashlib.sha256(f"{READER_VERSION} {kind}".encode())
    for path in files:
        _not_too_large(path.stat().st_size, str(path))
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def read(source: Source) -> dict[str, Bytes]:
    """Read a source whole and check it.

    Returns
    -------
    dict
        `x_train` (n, D), `y_train` (n,), `x_test` (m, D), `y_test` (m,), all uint8 and contiguous.

    Raises
    ------
    DataError
        A file is damaged, or its arrays are not labelled images in bytes.
    """
    arrays = READERS[source.format](source.files)
    return checked(arrays, " ".join(str(path) for path in source.files))


def checked(arrays: Mapping[str, Bytes], where: str) -> dict[str, Bytes]:
    """Return four arrays as a data set: images flat, all contiguous.

    Parameters
    ----------
    arrays
        `x_train` `y_train` `x_test` `y_test`, uint8; images (n, height, width) or (n, D).
    where
        What the messages begin with.

    Raises
    ------
    DataError
        They are no labelled images.
    """
    _check_shapes({name: arrays[name].shape for name in ARRAYS}, where)
    y_train, y_test = arrays["y_train"], arrays["y_test"]
    if y_test.max() > max(1, y_train.max()):
        raise DataError(
            f"{where}: the test labels go to {y_test.max()}, the training labels only to {y_train.max()}; "
            "a class to be tested must be there to be learnt."
        )
    flat = {name: arrays[name].reshape(len(arrays[name]), -1) for name in ("x_train", "x_test")}
    return {name: np.ascontiguousarray(flat.get(name, arrays[name])) for name in ARRAYS}


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise unless these are the shapes of labelled images."""
    for part in ("train", "test"):
        x, y = shapes[f"x_{part}"], shapes[f"y_{part}"]
        found = f"{where}: x_{part} has shape {x} and y_{part} {y}"
        if len(x) > 3:
            raise DataError(
                f"{where}: x_{part} has shape {x}; expected (n, height, width) or (n, D) for images: "
                "an axis more, such as colours, is flattened before it is saved, by x.reshape(len(x), -1)."
            )
        if len(x) < 2 or len(y) != 1:
            raise DataError(
                f"{found}; expected (n, height, width) or (n, D) for images and (n,) for labels "
                "(class numbers, not one-hot)."
            )
        if 0 in x or 0 in y:
            raise DataError(f"{found}: zero rows or pixels.")
        if x[0] != y[0]:
            raise DataError(
                f"{where}: {x[0]} images in x_{part} and {y[0]} labels in y_{part}; "
                "expected one label an image."
            )
    train, test = (math.prod(shapes[name][1:]) for name in ("x_train", "x_test"))
    if train != test:
        raise DataError(
            f"{where}: training images have {train} pixels and test images {test}; expected the same number."
        )


def _to_bytes(values: NDArray[Any], what: str) -> Bytes:
    """Return numbers as uint8 if none of them changes by it."""
    if values.dtype == np.uint8:
        return values
    if not (values.min() >= 0 and values.max() <= 255):
        raise DataError(
            f"{what} holds values from {values.min()} to {values.max()}; expected whole numbers 0..255, "
            "saved .astype(np.uint8)."
        )
    result = values.astype(np.uint8)
    if values.dtype.kind == "f" and not np.array_equal(result, values):
        odd = values[result != values][0]
        if what.startswith("y_"):
            raise DataError(
                f"{what} holds fractions ({values.dtype}, such as {odd}); expected class numbers 0, 1, 2, …: "
                "store np.searchsorted(np.unique(y_train), y).astype(np.uint8) of both y_train and y_test."
            )
        raise DataError(
            f"{what} holds fractions ({values.dtype}, such as {odd}); expected bytes 0..255: store "
            "np.round(255 * x).astype(np.uint8) of images in 0..1. Scaling is data.scale's work."
        )
    return result


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file, unpacked if its first bytes, not its name, say gzip; yield it and the most it can hold."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if file.peek(2)[:2] == b"\x1f\x8b":
                yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)), npz.DEFLATE * size
            else:
                yield file, size
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged ({error}); fetch the file again.") from error


def _not_too_large(size: int, what: str) -> None:
    if size > LARGEST:
        raise DataError(f"{what} is of {size} bytes; at most {LARGEST} are read: take fewer images.")


# --- npz ----------------------------------------------------------------------------------------------------


def _read_npz(files: tuple[Path, ...]) -> dict[str, Bytes]:
    (path,) = files
    try:
        with path.open("rb") as file:
            archive = npz.Archive(file)
            missing = [name for name in ARRAYS if name not in archive.names]
            if missing:
                raise DataError(
                    f"{path} has no {' '.join(missing)}; it has {listed(archive.names)}. Write it by "
                    "np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)."
                )
            headers = {name: archive.header(name) for name in ARRAYS}
            for name, header in headers.items():
                _check_header(header, f"{name} of {path}")
            _check_shapes({name: header.shape for name, header in headers.items()}, str(path))
            return {
                name: _to_bytes(archive.array(name, header.dtype, header.shape), f"{name} of {path}")
                for name, header in headers.items()
            }
    except npz.DamagedError as error:
        raise DataError(
            f"{path} is truncated or is no .npz ({error}); expected an archive written by np.savez: "
            "fetch the file again."
        ) from error


def _check_header(header: npz.Header, what: str) -> None:
    """Raise unless an array is of numbers, and not too large."""
    if header.dtype.hasobject:
        raise DataError(
            f"{what} is object-typed, that is, pickled, and is not read; save it .astype(np.uint8)."
        )
    if header.dtype.kind not in "iuf":
        raise DataError(
            f"{what} has dtype {header.dtype} and shape {header.shape}; "
            "expected whole numbers 0..255, as uint8."
        )
    _not_too_large(header.size, what)


# --- IDX ----------------------------------------------------------------------------------------------------


def _read_idx(files: tuple[Path, ...]) -> dict[str, Bytes]:
    return {
        name: _read_idx_file(path, axes=3 if name[0] == "x" else 1)
        for name, path in zip(ARRAYS, files, strict=True)
    }


def _read_idx_file(path: Path, axes: int) -> Bytes:
    """Read an IDX file: 0, 0, 8 for uint8, the number of axes, their lengths (big-endian uint32), the bytes.

    Described by Y. LeCun, C. Cortes and C. Burges, "The MNIST database".
    """
    with _opened(path) as (stream, most):
        magic, *shape = struct.unpack(f">{axes + 1}I", stream.read(4 * (axes + 1)))
        if magic != 0x0800 + axes:
            raise DataError(
                f"{path} starts with the magic number 0x{magic:08x}; expected 0x{0x0800 + axes:08x}, "
                f"IDX {'images' if axes == 3 else 'labels'} in unsigned bytes."
            )
        size = math.prod(shape)
        _not_too_large(min(size, most), str(path))
        # A byte more, so that the end is reached and the CRC of a gzip is compared.
        body = stream.read(size + 1) if size <= most else b""
    if len(body) < size:
        raise DataError(
            f"{path} is truncated: its header promises {size} bytes, which are not there; fetch it again."
        )
    if len(body) > size:
        raise DataError(f"{path} goes on behind the {size} bytes that its header promises; fetch it again.")
    return np.frombuffer(body, np.uint8).reshape(shape)


# --- CSV ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """A CSV's column names (`None`: it has none), how many columns it has and which one is the label."""

    names: list[str] | None
    count: int
    label: int


def _read_csv(files: tuple[Path, ...]) -> dict[str, Bytes]:
    (train, x_train, y_train), (test, x_test, y_test) = (_read_csv_file(path) for path in files)
    if train.names and test.names and train.count == test.count and train.names != test.names:
        mine, other = next(pair for pair in zip(train.names, test.names, strict=True) if pair[0] != pair[1])
        raise DataError(
            f"{files[1]} has column '{other}' where {files[0]} has '{mine}'; "
            "expected the same columns in the same order."
        )
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _read_csv_file(path: Path) -> tuple[_Columns, Bytes, Bytes]:
    """Read a CSV by blocks of lines, which stay small however the file was packed."""
    try:
        with _opened(path) as (unpacked, _), io.TextIOWrapper(unpacked, "utf-8-sig") as stream:
            columns, first = _csv_columns(stream, path)
            lines = itertools.chain(first, _csv_lines(stream, columns, path))
            images = [np.empty((0, columns.count - 1), np.uint8)]
            labels = [np.empty(0, np.uint8)]
            rows = 0
            while block := list(itertools.islice(lines, max(1, min(CSV_ROWS, CSV_CELLS // columns.count)))):
                table = _csv_bytes(block, columns, rows, path)
                images.append(np.delete(table, columns.label, axis=1))
                labels.append(table[:, columns.label].copy())
                rows += len(block)
                _not_too_large(rows * columns.count, str(path))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8 ({error}); save it as such.") from error
    return columns, np.concatenate(images), np.concatenate(labels)


def _csv_columns(stream: IO[str], path: Path) -> tuple[_Columns, list[str]]:
    """Return what the first line says of the columns, and the line itself in a list if it is data."""
    line = stream.readline(CSV_FIRST_LINE)
    if len(line) == CSV_FIRST_LINE:
        raise DataError(
            f"{path} has a first line of more than {CSV_FIRST_LINE} characters and is no table of images."
        )
    names = [field.strip() for field in next(csv.reader([line]), [])]
    if len(names) < 2:
        raise DataError(
            f"{path} has {len(names)} columns; expected a label and one column a pixel, split by commas."
        )
    if all(_is_number(name) for name in names):
        return _Columns(None, len(names), 0), [line]
    labels = [place for place, name in enumerate(names) if name.lower() == "label"]
    times = Counter(names)
    repeated = sorted({name for name in names if times[name] > 1} | {names[at] for at in labels[1:]})
    if repeated:
        raise DataError(f"{path} has duplicate columns ({listed(repeated)}); expected each name once.")
    if not labels and ("label" in names[0].lower() or "class" in names[0].lower()):
        labels = [0]
    if not labels:
        raise DataError(
            f"{path} has no label column; it has {listed(names)}. "
            "Name the column with the class numbers 'label'."
        )
    return _Columns(names, len(names), labels[0]), []


def _csv_lines(stream: IO[str], columns: _Columns, path: Path) -> Iterator[str]:
    """Yield the lines that are not blank; a line that goes on too long is refused before it is read whole."""
    longest = CSV_CELL * (columns.count + 1)
    while line := stream.readline(longest):
        if len(line) == longest:
            raise DataError(
                f"{path} has rows of different lengths: one goes on for more than {longest} characters, and "
                f"the first line has {columns.count} columns."
            )
        if not line.isspace():
            yield line


def _csv_bytes(lines: list[str], columns: _Columns, rows_before: int, path: Path) -> Bytes:
    """Return the values of some lines as uint8, or name the first row or cell that is at fault."""
    try:
        values = np.loadtxt(lines, np.float64, delimiter=",", quotechar='"', comments=None, ndmin=2)
    except ValueError:
        values = np.empty((0, 0))
    with np.errstate(invalid="ignore"):
        table = values.astype(np.uint8)
    whole = values.shape == (len(lines), columns.count) and np.array_equal(table, values)
    if not whole or any(line.count('"') % 2 for line in lines):
        raise DataError(f"{path}{_csv_fault(lines, columns, rows_before)}")
    return table


def _csv_fault(lines: list[str], columns: _Columns, rows_before: int) -> str:
    """Return what is wrong with these lines, to be written behind the file's name."""
    for row, line in enumerate(lines, start=rows_before + 1):
        try:
            cells = next(csv.reader([line], strict=True))
        except csv.Error as error:
            return f" has an open quote or no CSV in row {row} ({error}; 1 is the first row with data)."
        if len(cells) != columns.count:
            return (
                f" has rows of different lengths: row {row} (1 is the first with data) has {len(cells)} "
                f"cells, and the first line {columns.count}."
            )
        for place, cell in enumerate(cells):
            if not _is_byte(cell):
                kind = "label" if place == columns.label else "pixel"
                column = f"'{columns.names[place]}'" if columns.names else f"{place + 1}"
                problem = f"is '{cell.strip()}'" if cell.strip() else "is missing"
                return (
                    f": the {kind} in column {column}, row {row} (1 is the first with data) {problem}; "
                    "expected a whole number 0..255."
                )
    return (
        f" has a cell in rows {rows_before + 1} to {row} that NumPy does not read; expected numbers 0..255."
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_byte(text: str) -> bool:
    """Whether NumPy too reads a whole number 0..255; Python also reads 1_0 and digits of any script."""
    return _is_number(text) and text.isascii() and "_" not in text and float(text) in range(256)


READERS: dict[str, Callable[[tuple[Path, ...]], dict[str, Bytes]]] = {
    "npz": _read_npz,
    "idx": _read_idx,
    "csv": _read_csv,
}
