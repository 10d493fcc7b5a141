"""Read files of labelled images (``.npz``, IDX, CSV) into arrays of numbers.

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

import numpy as np

from fnnexp.data import npz
from fnnexp.data.columns import called, is_header, is_number, label_of
from fnnexp.data.labelled import ARRAYS, Bytes, Labelled, Numbers, Raw, check_shapes, checked, labelled
from fnnexp.data.sources import Source, listed
from fnnexp.errors import DataError

READER_VERSION = 2
"""Raise it when a reader comes to read the same file differently: what was prepared before is then unused."""

LARGEST = 1 << 33
"""Bytes that a file and an array may have: 8 GB, over a hundred times MNIST."""
CSV_ROWS, CSV_CELLS, CSV_CELL = 4096, 1 << 20, 32
"""A block of a CSV has at most so many rows and about so many cells; a row, so many characters a cell."""
CSV_FIRST_LINE = 1 << 20
"""Characters that the first line of a CSV may have."""
SEPARATORS = ",;\t"
MOST = LARGEST
"""As large as a number in a CSV may be: an index's rows are numbers, and are no bytes."""


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


def read(source: Source) -> Labelled:
    """Read a source whole and check it.

    Raises
    ------
    DataError
        A file is damaged, or its arrays are not labelled images.
    """
    where = " ".join(str(path) for path in source.files)
    found = labelled(READERS[source.format](source), source.reading, where)
    done = checked(found.arrays, where)
    return replace(done, notes=(*found.notes, *done.notes))


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

WHOLE = {"x": "x_train", "images": "x_train", "data": "x_train",
         "y": "y_train", "labels": "y_train", "target": "y_train"}  # fmt: skip
"""The names of arrays that hold all rows, and what they are until some of these are set aside for testing."""
IN_PARTS = {
    name: f"{array[0]}_{part}"
    for kind, array in WHOLE.items()
    for part in ("train", "val", "test")
    for name in (f"{kind}_{part}", f"{part}_{kind}")
}
"""The names of arrays that hold a part of the rows: `x_train`, `train_images`, …; `val` is not read."""


def _read_npz(source: Source) -> Raw:
    (path,) = source.files
    try:
        with path.open("rb") as file:
            archive = npz.Archive(file)
            names = _names_in(archive, path)
            validation = names.pop("x_val", None)
            names.pop("y_val", None)
            headers = {array: archive.header(name) for array, name in names.items()}
            for array, header in headers.items():
                _check_header(header, f"{names[array]} of {path}")
            check_shapes({array: header.shape for array, header in headers.items()}, str(path))
            arrays = {
                array: archive.array(names[array], header.dtype, header.shape)
                for array, header in headers.items()
            }
    except npz.DamagedError as error:
        raise DataError(
            f"{path} is truncated or is no .npz ({error}); expected an archive written by np.savez: "
            "fetch the file again."
        ) from error
    unused = (
        f"its {validation} is not used; to validate on those rows, save them behind the training rows and "
        "write their number as data.validation=…"
    )
    return Raw(
        arrays,
        lambda array, at: _fault(arrays[array], f"{names[array]} of {path}", at, array),
        (unused,) if validation else (),
    )


def _names_in(archive: npz.Archive, path: Path) -> dict[str, str]:
    """Return the names in an archive by the arrays that they stand for, as `x_train`."""
    found = _known(archive.names, IN_PARTS, path) or _known(archive.names, WHOLE, path)
    missing = [array for array in ARRAYS if array not in found]
    if missing and found.keys() != {"x_train", "y_train"}:
        raise DataError(
            f"{path} has no {' '.join(missing)}; it has {listed(archive.names)}. Write it by "
            "np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)."
        )
    return found


def _known(names: list[str], known: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return the names that are known; the array's own goes before any other."""
    found: dict[str, str] = {}
    for name in names:
        array = known.get(name.lower())
        if array is None or (array in names and array != name):
            continue
        if array in found:
            raise DataError(f"{path} has {found[array]} and {name}, which are one; save it with one of them.")
        found[array] = name
    return found


AS_CLASSES = "store np.searchsorted(np.unique(y_train), y).astype(np.uint8) of both y_train and y_test."
"""What makes class numbers of labels of any kind."""


def _fault(values: Numbers, what: str, at: tuple[int, ...], array: str) -> str:
    """Return the message about a value of an .npz that is no byte."""
    found, kind = values[at], values.dtype
    if not (values.min() >= 0 and values.max() <= 255):
        beyond = f"{what} holds values from {values.min()} to {values.max()}; expected"
        if array[0] == "y":
            return f"{beyond} class numbers 0, 1, 2, …: {AS_CLASSES}"
        return (
            f"{beyond} bytes 0..255: store np.round(255 * (x - low) / (high - low)).astype(np.uint8) of all "
            f"images, with low={values.min()} and high={values.max()}, or what these are in both parts."
        )
    if array[0] == "y":
        fractions = f"{what} holds fractions ({kind}, such as {found})"
        return f"{fractions}; expected class numbers 0, 1, 2, …: {AS_CLASSES}"
    return (
        f"{what} holds fractions ({kind}, such as {found}) that are no bytes divided by 255; expected bytes "
        "0..255: store np.round(255 * x).astype(np.uint8) of images in 0..1. Scaling is data.scale's work."
    )


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


def _read_idx(source: Source) -> Raw:
    arrays = {
        name: _read_idx_file(path, axes=3 if name[0] == "x" else 1)
        for name, path in zip(ARRAYS, source.files, strict=True)
    }
    return Raw(arrays, lambda *_: "")  # all are bytes


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
class _Table:
    """A CSV: its columns' names (`None`: it has none) and its numbers (rows, columns)."""

    path: Path
    names: list[str] | None
    numbers: Numbers


def _read_csv(source: Source) -> Raw:
    tables = [_read_table(path, source.reading.header) for path in source.files]
    train = tables[0]
    label, how = label_of(train.names, train.numbers, source.reading.label, train.path)
    parts = dict(zip(("train", "test"), tables, strict=False))
    if "test" in parts:
        _check_columns(train, parts["test"], label)
    arrays: dict[str, Numbers] = {}
    for part, table in parts.items():
        arrays[f"x_{part}"] = np.delete(table.numbers, label, axis=1)
        arrays[f"y_{part}"] = table.numbers[:, label].copy()

    def fault(array: str, at: tuple[int, ...]) -> str:
        table, row = parts[array[2:]], at[0]
        place = label if array[0] == "y" else at[1] + (at[1] >= label)
        value = float(table.numbers[row, place])
        return f"{table.path}{_no_byte(table.names, place, row + 1, f'{value:.15g}', label)}"

    return Raw(arrays, fault, (how,) if how else ())


def _check_columns(train: _Table, test: _Table, label: int) -> None:
    """Raise unless the test table has the columns of the training table."""
    more = train.numbers.shape[1] - test.numbers.shape[1]
    if more == 1 and not (train.names and test.names and train.names[label] in test.names):
        raise DataError(
            f"{test.path} has no labels (one column less than {train.path}), so nothing can be tested on it; "
            f"write data.path={train.path}, of which data.test_fraction=0.2 are then tested on."
        )
    if more:
        raise DataError(
            f"training images have {train.numbers.shape[1] - 1} pixels ({train.path}) and test images "
            f"{test.numbers.shape[1] - 1} ({test.path}); expected the same number."
        )
    for mine, other in zip(train.names or (), test.names or (), strict=False):
        if mine != other:
            raise DataError(
                f"{test.path} has column '{other}' where {train.path} has '{mine}'; "
                "expected the same columns in the same order."
            )


def _read_table(path: Path, header: str) -> _Table:
    """Read a CSV by blocks of lines, which stay small however the file was packed."""
    try:
        with _opened(path) as (unpacked, _), io.TextIOWrapper(unpacked, _encoding(path)) as stream:
            form, first = _form(stream, header, path)
            lines = itertools.chain(first, _csv_lines(stream, form, path))
            blocks = [np.empty((0, form.columns), np.uint8)]
            rows = 0
            while block := list(itertools.islice(lines, max(1, min(CSV_ROWS, CSV_CELLS // form.columns)))):
                blocks.append(_csv_numbers(block, form, rows, path))
                rows += len(block)
                _not_too_large(sum(each.nbytes for each in blocks), str(path))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8 ({error}); save it as such.") from error
    if not rows:
        raise DataError(f"{path} has zero rows; expected a line an image.")
    return _Table(path, form.names, np.concatenate(blocks))


def _encoding(path: Path) -> str:
    """Return how a CSV is encoded: UTF-8, or UTF-16 where its first bytes say so, as Excel's Unicode text."""
    with _opened(path) as (stream, _):
        return "utf-16" if stream.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


@dataclass(frozen=True)
class _Form:
    """What a CSV's first line says: what separates its cells, how many there are, and their names, if any."""

    separator: str
    columns: int
    names: list[str] | None


def _form(stream: IO[str], header: str, path: Path) -> tuple[_Form, list[str]]:
    """Return what the first line says of the columns, and the line itself in a list if it is data."""
    line = stream.readline(CSV_FIRST_LINE)
    if len(line) == CSV_FIRST_LINE:
        raise DataError(
            f"{path} has a first line of more than {CSV_FIRST_LINE} characters and is no table of images."
        )
    separator = max(SEPARATORS, key=line.count)
    names = [field.strip() for field in next(csv.reader([line], delimiter=separator), [])]
    if len(names) < 2:
        raise DataError(
            f"{path} has {len(names)} columns; expected a label and one column a pixel, split by commas, "
            "semicolons or tabs."
        )
    if header == "false" or (header == "auto" and not is_header(names)):
        return _Form(separator, len(names), None), [line]
    first = {name.lower(): place for place, name in reversed(list(enumerate(names)))}
    repeated = [name for place, name in enumerate(names) if first[name.lower()] != place]
    if repeated:
        raise DataError(f"{path} has duplicate columns ({listed(repeated)}); expected each name once.")
    return _Form(separator, len(names), names), []


def _csv_lines(stream: IO[str], form: _Form, path: Path) -> Iterator[str]:
    """Yield the lines that are not blank; a line that goes on too long is refused before it is read whole."""
    longest = CSV_CELL * (form.columns + 1)
    while line := stream.readline(longest):
        if len(line) == longest:
            raise DataError(
                f"{path} has rows of different lengths: one goes on for more than {longest} characters, and "
                f"the first line has {form.columns} columns."
            )
        if not line.isspace():
            yield line


def _csv_numbers(lines: list[str], form: _Form, rows_before: int, path: Path) -> Numbers:
    """Return the numbers of some lines, as bytes where all are, or name the first cell that is none."""
    try:
        values = np.loadtxt(
            lines, np.float64, delimiter=form.separator, quotechar='"', comments=None, ndmin=2
        )
    except ValueError:
        values = np.empty((0, 0))
    read = values.shape == (len(lines), form.columns) and bool((np.abs(values) <= MOST).all())
    if not read or any(line.count('"') % 2 for line in lines):
        raise DataError(f"{path}{_csv_fault(lines, form, rows_before)}")
    with np.errstate(invalid="ignore"):
        table = values.astype(np.uint8)
    return table if np.array_equal(table, values) else values


def _csv_fault(lines: list[str], form: _Form, rows_before: int) -> str:
    """Return what is wrong with these lines, to be written behind the file's name."""
    for row, line in enumerate(lines, start=rows_before + 1):
        try:
            cells = next(csv.reader([line], delimiter=form.separator, strict=True))
        except csv.Error as error:
            return f" has an open quote or no CSV in row {row} ({error}; 1 is the first row with data)."
        if len(cells) != form.columns:
            return (
                f" has rows of different lengths: row {row} (1 is the first with data) has {len(cells)} "
                f"cells, and the first line {form.columns}."
            )
        for place, cell in enumerate(cells):
            if not _is_read(cell):
                return _no_byte(form.names, place, row, cell.strip())
    return (
        f" has a cell in rows {rows_before + 1} to {row} that NumPy does not read; expected numbers 0..255."
    )


def _no_byte(names: list[str] | None, place: int, row: int, cell: str, label: int | None = None) -> str:
    """Return what is wrong with a cell, to be written behind the file's name."""
    kind = "cell" if label is None else "label" if place == label else "pixel"
    problem = f"is '{cell}'" if cell else "is missing"
    first = " If the line has the columns' names, write data.header=true." if row == 1 and not names else ""
    return (
        f": the {kind} in column {called(names, place)}, row {row} (1 is the first with data) {problem}; "
        f"expected a whole number 0..255, or a pixel 0..255 divided by 255.{first}"
    )


def _is_read(text: str) -> bool:
    """Whether NumPy too reads a number, not too large; Python also reads 1_0 and digits of any script."""
    return is_number(text) and text.isascii() and "_" not in text and abs(float(text)) <= MOST


READERS: dict[str, Callable[[Source], Raw]] = {
    "npz": _read_npz,
    "idx": _read_idx,
    "csv": _read_csv,
}
