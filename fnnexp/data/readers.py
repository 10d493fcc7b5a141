"""Read files of labelled rows (``.npz``, IDX, CSV, images) into arrays of numbers.

Files are not trusted: no array is unpickled, and no header decides how much memory is used.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import itertools
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

from fnnexp.data import npz
from fnnexp.data.columns import LABEL, Layout, check_dropped, is_header, is_number, label_of, layout_of
from fnnexp.data.labelled import (
    ARRAYS,
    LARGEST_VALUE,
    MISSING,
    Bytes,
    Labelled,
    Numbers,
    Raw,
    check_shapes,
    checked,
    in_bytes,
    labelled,
)
from fnnexp.data.sources import Reading, Source, listed
from fnnexp.errors import DataError, plural, to_write

READER_VERSION = 2
"""Raise this number if a reader starts to read the same file differently. Older caches are then ignored."""

LARGEST = 1 << 33
"""Maximum bytes of a file or an array: 8 GB, more than a hundred times MNIST."""
CSV_ROWS, CSV_CELLS, CSV_CELL = 4096, 1 << 20, 32
"""The limits of one block of a CSV: its rows, its cells (about), and the characters of a cell."""
CSV_FIRST_LINE = 1 << 20
"""Maximum length of the first line of a CSV."""
CSV_WORDS = 1 << 14
"""Further characters that a line may have, for a label in words and for columns that are not read."""
SEPARATORS = ",;\t"
DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+")
"""Matches a number with a comma, as spreadsheets write it in many languages."""


def content_key(kind: str, files: tuple[Path, ...] = ()) -> str:
    """Return the key of a data set in the cache: a hash of everything that decides what its arrays are.

    Parameters
    ----------
    kind
        A text that says what is read, and how.
    files
        The files, whose content enters the hash.

    Raises
    ------
    DataError
        If a file is too large.
    """
    digest = hashlib.sha256(f"{READER_VERSION} {kind}".encode())
    for path in files:
        _check_size(path.stat().st_size, str(path))
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read(source: Source) -> Labelled:
    """Read the files of a data set, check the arrays, and return them as a data set in memory.

    Raises
    ------
    DataError
        If a file is damaged, or its arrays are not labelled images.
    """
    raw = READERS[source.format](source)
    unchecked = labelled(raw, source.reading, source.where)
    without = None if source.reading.transpose else raw.without
    data = checked(unchecked.arrays, source.where, unchecked.input_names, without)
    return replace(unchecked, arrays=data.arrays, notes=(*unchecked.notes, *data.notes))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file for the ``with`` block, unpacked if it is packed with gzip.

    Yield the stream, and the largest number of bytes that it can have. Raise DataError if the file is
    damaged.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if file.peek(2)[:2] == b"\x1f\x8b":
                yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)), npz.DEFLATE * size
            else:
                yield file, size
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged ({error}); download the file again.") from error


def _check_size(size: int, what: str) -> None:
    if size > LARGEST:
        raise DataError(f"{what} has {size} bytes; the largest size is {LARGEST}: use fewer rows.")


# --- npz ----------------------------------------------------------------------------------------------------

WHOLE = {"x": "x_train", "images": "x_train", "data": "x_train",
         "y": "y_train", "labels": "y_train", "target": "y_train"}  # fmt: skip
"""Names that a file may give an array of all its rows, and fnnexp's name for that array."""
SPLIT = {
    name: f"{array[0]}_{split}"
    for stem, array in WHOLE.items()
    for split in ("train", "val", "test")
    for name in (f"{stem}_{split}", f"{split}_{stem}")
}
"""Names for an array of one split: `x_train`, `train_images`, …; arrays of `val` are not read."""
CLASS_NAMES = ("class_names", "label_names", "target_names", "classes")
"""Names that a file may give an array of texts with the names of its classes."""
MOST_NAME_BYTES = 1 << 20
"""The largest array of names of classes that is read."""


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
                _check_header(header, f"{names[array]} of {path}", "iufU" if array[0] == "y" else "iuf")
            check_shapes({array: header.shape for array, header in headers.items()}, str(path))
            arrays = {
                array: archive.array(names[array], header.dtype, header.shape)
                for array, header in headers.items()
            }
            class_names, notes = _class_names_in(archive)
    except npz.DamagedError as error:
        raise DataError(
            f"{path} is truncated or not an .npz ({error}); expected an archive written by np.savez: "
            "download the file again."
        ) from error
    unused = (
        f"its {validation} is not used; to validate on these rows, save them after the training rows and "
        "write their number as data.validation=…"
    )
    return Raw(
        arrays,
        lambda array, index: _npz_fault(arrays[array], names[array], path, index, array),
        (*([unused] if validation else []), *notes),
        class_names,
    )


def _class_names_in(archive: npz.Archive) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes that an .npz contains, if any, and a note if they cannot be read."""
    for name in archive.names:
        if name.lower() not in CLASS_NAMES:
            continue
        header = archive.header(name)
        if header.dtype.hasobject:
            return (), (f"its {name} needs pickle and is not read; save it as np.array({name}, dtype=str)",)
        if header.dtype.kind == "U" and len(header.shape) == 1 and header.size <= MOST_NAME_BYTES:
            return tuple(archive.array(name, header.dtype, header.shape).tolist()), ()
    return (), ()


def _names_in(archive: npz.Archive, path: Path) -> dict[str, str]:
    """Return what each of fnnexp's arrays is called in a file, such as `images` for `x_train`.

    Raise if the file lacks some of the arrays, unless it has all rows in `x_train` and `y_train`.
    """
    names = _known_names(archive.names, SPLIT, path) or _known_names(archive.names, WHOLE, path)
    missing = [array for array in ARRAYS if array not in names]
    if missing and names.keys() != {"x_train", "y_train"}:
        raise DataError(
            f"{path} has no {' '.join(missing)}; it has {listed(archive.names)}. Write it with "
            "np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)."
        )
    return names


def _known_names(names: list[str], arrays: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return what a file calls the arrays that fnnexp knows, such as {"x_train": "images"}.

    If the file has an array `x_train`, this one is used, and other names that mean the same are ignored. If
    two other names mean the same, raise.

    Parameters
    ----------
    names
        The names of the arrays in the file.
    arrays
        The known names, each with fnnexp's name for the array.
    path
        The file, for messages.
    """
    known: dict[str, str] = {}
    for name in names:
        array = arrays.get(name.lower())
        if array is None or (array in names and array != name):
            continue
        if array in known:
            raise DataError(
                f"{path} has the arrays {known[array]} and {name}, which mean the same; save it with only "
                "one of them."
            )
        known[array] = name
    return known


AS_CLASSES = "store np.searchsorted(np.unique(y_train), y).astype(np.uint8) for both y_train and y_test."
"""How to convert labels of any kind to class numbers."""


def _npz_fault(values: Numbers, name: str, path: Path, index: tuple[int, ...], array: str) -> str:
    """Describe a value of an .npz that is not a byte: an error message for a label, a few words for an input.

    Parameters
    ----------
    values, index
        The array with the value, and where it is there.
    name, array
        The name of the array in the file, and fnnexp's name for it.
    path
        The file.
    """
    if values.min() >= 0 and values.max() <= 255:
        problem = f"fractions ({values.dtype}, such as {values[index]})"
    else:
        problem = f"values from {values.min()} to {values.max()}"
    if array[0] == "y":
        return f"{name} of {path} has {problem}; expected class numbers 0, 1, 2, …: {AS_CLASSES}"
    return f"{name} has {problem}"


def _check_header(header: npz.Header, what: str, kinds: str) -> None:
    """Raise if the kind of an array's dtype is not in `kinds`, such as "iuf", or if the array is too large.

    `what` names the array in messages.
    """
    if header.dtype.hasobject:
        raise DataError(
            f"{what} has dtype object, which needs pickle and is not read; save it with .astype(np.uint8)"
            + (", or words with .astype(str)." if "U" in kinds else ".")
        )
    if header.dtype.kind not in kinds:
        raise DataError(
            f"{what} has dtype {header.dtype} and shape {header.shape}; "
            "expected whole numbers 0..255, as uint8, or real values, as float32."
        )
    _check_size(header.size, what)


# --- IDX ----------------------------------------------------------------------------------------------------


def _read_idx(source: Source) -> Raw:
    arrays = {
        name: _read_idx_file(path, axes=3 if name[0] == "x" else 1)
        for name, path in zip(ARRAYS, source.files, strict=True)
    }
    return Raw(arrays, lambda *_: "")  # never called: it describes values that are not bytes


def _read_idx_file(path: Path, axes: int) -> Bytes:
    """Read an IDX file of bytes, and return its array; raise if it does not have this number of axes.

    The file begins with the bytes 0, 0, 8 (for uint8) and the number of axes. The lengths of the axes follow
    (big-endian uint32), and then the values. Described by Y. LeCun, C. Cortes and C. Burges, "The MNIST
    database".
    """
    with _opened(path) as (stream, most):
        magic, *shape = struct.unpack(f">{axes + 1}I", stream.read(4 * (axes + 1)))
        if magic != 0x0800 + axes:
            raise DataError(
                f"{path} starts with the magic number 0x{magic:08x}; expected 0x{0x0800 + axes:08x}, "
                f"IDX {'images' if axes == 3 else 'labels'} in unsigned bytes."
            )
        size = math.prod(shape)
        _check_size(min(size, most), str(path))
        # The extra byte takes gzip to the end of the stream, where it checks the CRC.
        body = stream.read(size + 1) if size <= most else b""
    if len(body) < size:
        raise DataError(
            f"{path} is truncated: it has fewer than the {size} bytes that its header promises; download it "
            "again."
        )
    if len(body) > size:
        raise DataError(f"{path} has more than the {size} bytes that its header promises; download it again.")
    return np.frombuffer(body, np.uint8).reshape(shape)


# --- CSV ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A CSV in memory, without the columns that are not read: its layout and its numbers (rows, columns).

    One column, with the index `worded`, may have words. Its numbers are then positions in `words`.
    """

    path: Path
    layout: Layout
    numbers: Numbers
    worded: int | None = None
    words: tuple[str, ...] = ()

    def labels(self, label: int, *, in_words: bool) -> Numbers:
        """Return the column with the index `label`: as texts if `in_words`, otherwise as numbers."""
        column = self.numbers[:, label]
        if not in_words:
            return column.copy()
        if self.worded is None:
            return np.array([f"{value:g}" for value in column.tolist()])
        return np.array(self.words)[column.astype(np.intp)]

    def row_of(self, word: str) -> int:
        """Return the number, counted from 1, of the first row that has this word."""
        return int((self.numbers[:, self.worded] == self.words.index(word)).argmax()) + 1


class _WordsError(DataError):
    """A row of a CSV with this layout has words where numbers are expected, in the columns `columns`."""

    def __init__(self, message: str, columns: tuple[int, ...], layout: Layout) -> None:
        super().__init__(message)
        self.columns, self.layout = columns, layout


def _read_csv(source: Source) -> Raw:
    reading = source.reading
    if reading.drop:
        _check_dropped(source)
    train = _read_words(source.files[0], reading, reading.label)
    label, note = label_of(train.layout, train.numbers, reading.label, train.path, train.worded)
    tables = [train, *(_read_words(path, reading, label) for path in source.files[1:])]
    splits = dict(zip(("train", "test"), tables, strict=False))
    if "test" in splits:
        _check_columns(train, splits["test"], label)
    arrays: dict[str, Numbers] = {}
    in_words = any(table.worded is not None for table in tables)
    for split, table in splits.items():
        arrays[f"x_{split}"] = np.delete(table.numbers, label, axis=1)
        arrays[f"y_{split}"] = table.labels(label, in_words=in_words)

    def fault(array: str, index: tuple[int, ...]) -> str:
        split, row = array[2:], index[0]
        table = splits[split]
        column = label if array[0] == "y" else index[1] + (index[1] >= label)
        cell = f"{float(table.numbers[row, column]):.15g}"
        if array[0] == "y":
            return f"{table.path}{_cell_fault(table.layout, column, row + 1, cell, 'label')}"
        place = f"column {table.layout.title(column)}, row {row + 1}"
        which = {"train": "training", "test": "test"}[split]
        file = f" of the {which} file" if len(splits) > 1 else ""
        return f"{cell} in {place}{file} (row 1 is the first with data)"

    for split, table in splits.items():
        if table.layout.names is None and reading.header == "auto":
            _check_first_line(arrays[f"x_{split}"], table.path)
    inputs = [name for column, name in enumerate(train.layout.names or ()) if column != label]
    return Raw(
        arrays,
        fault,
        (note,) if note else (),
        input_names=tuple(inputs),
        without=lambda index: train.layout.dropping([index + (index >= label)]),
    )


def _check_dropped(source: Source) -> None:
    """Raise if ``data.drop`` names a column that none of the files has."""
    heads = []
    for path in source.files:
        with _text_of(path) as stream:
            heads.append(_head(stream, source.reading.header, path))
    check_dropped(source.reading.drop, [(head.names, head.width) for head in heads], source.files[0])


def _read_words(path: Path, reading: Reading, label: str | int | None) -> _Table:
    """Read a CSV in which one column, the label, may have words.

    Parameters
    ----------
    path, reading
        The file, and how to read it.
    label
        ``data.label``, or the index of the label column if it is known already.
    """
    try:
        return _read_table(path, reading)
    except _WordsError as error:
        first = error
    layout = first.layout
    called = [column for column in range(len(layout.places)) if _is_called(layout, column, label)]
    worded = [column for column in first.columns if column in called or not called]
    if not worded or (len(worded) > 1 and not called):
        raise DataError(str(first)) from None
    table = _read_table(path, reading, worded[0])
    _check_words(table, reading.header, first, is_label=bool(called))
    return table


def _is_called(layout: Layout, column: int, label: str | int | None) -> bool:
    """Return whether a column is the label: by `label` or, if that is None, by the name of the column.

    `label` is ``data.label``, or the index of the label column.
    """
    name = layout.names[column] if layout.names else ""
    if label is None:
        return LABEL.fullmatch(name) is not None
    return label in (column, name) or (label, column) in (("first", 0), ("last", len(layout.places) - 1))


def _check_words(table: _Table, header: str, first: DataError, *, is_label: bool) -> None:
    """Raise if the column with words also has numbers, or if its first word can be the name of the column.

    Words among numbers are missing values or mistakes rather than classes.

    Parameters
    ----------
    table, header
        The table, and ``data.header``.
    first
        The error for the first cell with a word. It is raised if the column need not be the label.
    is_label
        Whether ``data.label`` or the name of the column says that it is the label.
    """
    assert table.worded is not None
    if numbers := [word for word in table.words if is_number(word)]:
        word = next(word for word in table.words if not is_number(word))
        if not is_label:
            raise DataError(str(first)) from None
        raise DataError(
            f"{table.path}: the labels in column {table.layout.title(table.worded)} mix numbers, such "
            f"as {numbers[0]!r}, with words, such as {word!r} in row {table.row_of(word)} (row 1 is the "
            "first with data); expected only numbers or only words."
        )
    if table.layout.names is None and header == "auto" and table.numbers[1:, table.worded].all():
        raise DataError(
            f"{table.path}: its first line has the label {table.words[0]!r}, which no other line has; if it "
            "has the column names, write data.header=true, otherwise data.header=false."
        )


def _check_first_line(x: Numbers, path: Path) -> None:
    """Raise if all inputs are bytes except in the first row, which may then be a header with numbers."""
    if len(x) > 1 and in_bytes(x) is None and in_bytes(x[1:]) is not None:
        raise DataError(
            f"{path}: all its rows are pixels 0..255 except the first line; if this line has the column "
            "names, write data.header=true, otherwise data.header=false."
        )


def _check_columns(train: _Table, test: _Table, label: int) -> None:
    """Raise if the columns of the test table differ from those of the training table."""
    difference = train.numbers.shape[1] - test.numbers.shape[1]
    train_names, test_names = train.layout.names or [], test.layout.names or []
    if difference == 1 and not (train_names and test_names and train_names[label] in test_names):
        raise DataError(
            f"{test.path} has no labels (one column fewer than {train.path}), so it cannot be tested on; "
            f"write data.path={train.path} alone: data.test_fraction=0.2 of its rows become test rows."
        )
    if difference:
        raise DataError(
            f"training rows have {plural(train.numbers.shape[1] - 1, 'input')} ({train.path}) and test "
            f"rows {test.numbers.shape[1] - 1} ({test.path}); expected the same number."
        )
    for of_train, of_test in zip(train_names, test_names, strict=False):
        if of_train != of_test:
            raise DataError(
                f"{test.path} has column '{of_test}' where {train.path} has '{of_train}'; "
                "expected the same columns in the same order."
            )


def _read_table(path: Path, reading: Reading, worded: int | None = None) -> _Table:
    """Read a CSV in blocks of lines, so that a small packed file cannot fill the memory.

    Parameters
    ----------
    path, reading
        The file, and how to read it.
    worded
        The index of a column that may have words.

    Raises
    ------
    _WordsError
        If another column has words.
    """
    words: dict[str, int] = {}
    with _text_of(path) as stream:
        head = _head(stream, reading.header, path)
        layout = layout_of(head.separator, head.width, head.names, reading.drop, path)
        lines = itertools.chain(head.data, _csv_lines(stream, head.width, path))
        blocks = [np.empty((0, len(layout.places)), np.uint8)]
        rows = 0
        block_rows = max(1, min(CSV_ROWS, CSV_CELLS // head.width))
        while block := list(itertools.islice(lines, block_rows)):
            blocks.append(_csv_numbers(block, layout, rows, path, worded, words))
            rows += len(block)
            _check_size(sum(numbers.nbytes for numbers in blocks), str(path))
    if not rows:
        raise DataError(f"{path} has zero rows; expected one line per image or other row.")
    return _Table(path, layout, np.concatenate(blocks), worded, tuple(words))


@contextlib.contextmanager
def _text_of(path: Path) -> Iterator[IO[str]]:
    """Open a CSV as text for the ``with`` block; raise DataError if it is not a CSV in UTF-8 or UTF-16."""
    try:
        with _opened(path) as (unpacked, _), io.TextIOWrapper(unpacked, _encoding(path)) as stream:
            yield stream
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV in UTF-8 ({error}); save it as CSV in UTF-8.") from error


def _encoding(path: Path) -> str:
    """Return the encoding of a CSV: UTF-16 if its first bytes say so, as Excel writes it; otherwise UTF-8."""
    with _opened(path) as (stream, _):
        return "utf-16" if stream.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


class _Head(NamedTuple):
    """What the first line of a CSV says: the separator, the number of columns, and their names or None.

    `data` are those lines that were read to find this and are data, not a header.
    """

    separator: str
    width: int
    names: list[str] | None
    data: list[str]


def _head(stream: IO[str], header: str, path: Path) -> _Head:
    """Read the first line of a CSV, and the second if it helps to tell whether the first is a header."""
    line = stream.readline(CSV_FIRST_LINE)
    if len(line) == CSV_FIRST_LINE:
        raise DataError(
            f"{path} has a first line of more than {CSV_FIRST_LINE} characters; expected a table with a line "
            "for each row."
        )
    separator = max(SEPARATORS, key=line.count)
    names = [field.strip() for field in next(csv.reader([line], delimiter=separator), [])]
    if len(names) < 2:
        raise DataError(
            f"{path} has {plural(len(names), 'column')}; expected a label and one column per pixel, "
            "separated by commas, semicolons or tabs."
        )
    ahead = list(itertools.islice(_csv_lines(stream, len(names), path), header == "auto"))
    second = [field.strip() for row in csv.reader(ahead, delimiter=separator) for field in row]
    if header == "false" or (header == "auto" and not is_header(names, second)):
        return _Head(separator, len(names), None, [line, *ahead])
    return _Head(separator, len(names), names, ahead)


def _csv_lines(stream: IO[str], columns: int, path: Path) -> Iterator[str]:
    """Yield the lines of a CSV that are not blank; raise if a line is too long for so many columns."""
    longest = CSV_CELL * (columns + 1) + CSV_WORDS
    while line := stream.readline(longest):
        if len(line) == longest:
            raise DataError(
                f"{path} has rows of different lengths: a line has more than {longest} characters, and the "
                f"first line has {columns} columns; save the table without long texts."
            )
        if not line.isspace():
            yield line


def _csv_numbers(
    lines: list[str],
    layout: Layout,
    rows_before: int,
    path: Path,
    worded: int | None,
    words: dict[str, int],
) -> Numbers:
    """Return the numbers in some lines of a CSV, as uint8 if all are bytes; raise if a cell is none.

    The words of the column `worded` are replaced by their numbers in `words`, to which new words are added.
    `rows_before` is the number of rows before these lines, for messages.
    """

    def number_of(cell: str) -> float:
        if not _is_word(cell):
            raise ValueError
        return words.setdefault(cell.strip(), len(words))

    dropped = {*range(layout.width)}.difference(layout.places)
    converters: dict[int | str, Callable[[str], float]] = {column: lambda _: 0.0 for column in dropped}
    if worded is not None:
        converters[layout.places[worded]] = number_of
    try:
        values = np.loadtxt(
            lines, np.float64, delimiter=layout.separator, quotechar='"', comments=None, ndmin=2,
            converters=converters or None, encoding=None,
        )  # fmt: skip
    except ValueError:
        values = np.empty((0, 0))
    valid = values.shape == (len(lines), layout.width) and bool((np.abs(values) <= LARGEST_VALUE).all())
    if not valid or any(line.count('"') % 2 for line in lines):
        fault, columns = _csv_fault(lines, layout, rows_before, worded)
        raise _WordsError(f"{path}{fault}", columns, layout) if columns else DataError(f"{path}{fault}")
    if dropped:
        values = values[:, list(layout.places)]
    with np.errstate(invalid="ignore"):
        table = values.astype(np.uint8)
    return table if np.array_equal(table, values) else values


def _csv_fault(
    lines: list[str], layout: Layout, rows_before: int, worded: int | None
) -> tuple[str, tuple[int, ...]]:
    """Return what is wrong with the first faulty line, for a message that begins with the file's name.

    If it is a word in place of a number, also return all columns in which that row has words; otherwise ().
    `rows_before` is the number of rows before these lines.
    """
    for row, line in enumerate(lines, start=rows_before + 1):
        try:
            cells = next(csv.reader([line], delimiter=layout.separator, strict=True))
        except csv.Error as error:
            return (
                f" has an open quote or is not CSV in row {row} ({error}; row 1 is the first with data).",
                (),
            )
        if len(cells) != layout.width:
            return (
                f" has rows of different lengths: row {row} (row 1 is the first with data) has "
                f"{plural(len(cells), 'cell')}, and the first line has {layout.width}."
            ), ()
        cells = [cells[place] for place in layout.places]
        faults = [
            column
            for column, cell in enumerate(cells)
            if not (_is_word(cell) if column == worded else _is_readable(cell))
        ]
        if faults:
            kind = "label" if faults[0] == worded else "cell"
            fault = _cell_fault(layout, faults[0], row, cells[faults[0]].strip(), kind)
            in_words = all(_is_word(cells[column]) and not is_number(cells[column]) for column in faults)
            return fault, tuple(faults) if in_words else ()
    return f" has a cell in rows {rows_before + 1} to {row} that NumPy cannot read; expected numbers.", ()


def _cell_fault(layout: Layout, column: int, row: int, cell: str, kind: str = "cell") -> str:
    """Return what is wrong with a cell of a CSV, for a message that begins with the file's name.

    The message calls the cell a cell or, if `kind` is "label", a label.
    """
    name = layout.names[column] if layout.names else ""
    shown = cell if len(cell) <= CSV_CELL else f"{cell[:CSV_CELL]}…"
    problem = f"is '{shown}'" if cell else "is missing"
    without, advice = layout.dropping([column]), ""
    if kind == "cell" and cell.lower() in MISSING:
        advice = f" Fill it, remove the row, or write {without} to leave out the column."
    elif DECIMAL_COMMA.fullmatch(cell):
        advice = (
            " Numbers need a decimal point: save the table with points, as in "
            "pd.read_csv(path, sep=';', decimal=',').to_csv(path, index=False)."
        )
    elif cell and not is_number(cell):
        is_label = f"if it is this column, write {to_write('data.label', [name])}; else " if name else ""
        advice = f" Only the label may be in words: {is_label}write {without} to leave it out."
    if row == 1 and not layout.names:
        advice = f" If this line has the column names, write data.header=true.{advice}"
    expected = (
        "a class number 0..255, or a word"
        if kind == "label"
        else "a class number or pixel 0..255, or a real value"
    )
    return (
        f": the {kind} in column {layout.title(column)}, row {row} (row 1 is the first with data) "
        f"{problem}; expected {expected}.{advice}"
    )


def _is_word(cell: str) -> bool:
    """Return whether a cell can be the name of a class: it is neither empty nor NaN."""
    return cell.strip().lower() not in MISSING


def _is_readable(text: str) -> bool:
    """Return whether NumPy reads the text as a number of allowed size.

    Python also reads `1_0` and the digits of other scripts, which NumPy does not.
    """
    return is_number(text) and text.isascii() and "_" not in text and abs(float(text)) <= LARGEST_VALUE


def _read_images(source: Source) -> Raw:
    from fnnexp.data import image_files  # here, since Pillow takes a while to import

    return image_files.read(source, LARGEST)


READERS: dict[str, Callable[[Source], Raw]] = {
    "npz": _read_npz,
    "idx": _read_idx,
    "csv": _read_csv,
    "images": _read_images,
}
