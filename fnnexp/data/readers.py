"""The files that hold labelled images (`.npz`, IDX, CSV), each read into the same four arrays of bytes.

Nothing is believed before it is checked: no array is unpickled, no header decides how much memory is taken.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from fnnexp.data import npz
from fnnexp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

Bytes = NDArray[np.uint8]
Opener = Callable[[], IO[bytes]]

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
READER_VERSION = 2
"""Raise it when a reader comes to read the same file differently: what was prepared before is then unused."""

IDX_STEMS = {
    "x_train": "train-images",
    "y_train": "train-labels",
    "x_test": "t10k-images",
    "y_test": "t10k-labels",
}
EXPECTED = (
    "expected an .npz with x_train y_train x_test y_test; or a folder with the four IDX files "
    "(train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each "
    "perhaps .gz) or with one *train*.csv and one *test*.csv; or a training .csv with data.test_path=TEST.csv"
)
CHUNK = 1 << 20
LARGEST = 1 << 33
"""Bytes, of a file and of an array: 8 GB, over a hundred times MNIST."""
UNPACKED = 1032
"""As many times larger as deflate can make a file: no packed file holds more."""
CSV_ROWS, CSV_CELLS, CSV_CELL = 4096, 1 << 20, 32
"""A block has at most so many rows and about so many cells; a row has at most so many characters a cell."""
BROKEN = (
    OSError, EOFError, ValueError, OverflowError, RuntimeError, MemoryError,
    struct.error, tokenize.TokenError, csv.Error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What the standard library, NumPy and pandas raise on damaged bytes."""


@dataclass(frozen=True)
class Source:
    """One data set's files: one `npz`, four `idx` in the order of `ARRAYS`, or two `csv`, train and test."""

    format: str
    files: tuple[Path, ...]

    def digest(self) -> str:
        """Return the SHA-256 of the files' contents, the format and the version of the readers.

        Raises
        ------
        DataError
            A file is larger than any data set that is read.
        """
        total = hashlib.sha256(f"{READER_VERSION} {self.format}".encode())
        for path in self.files:
            _not_too_large(path.stat().st_size, str(path))
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()


def find(path: Path, test_path: Path | None = None) -> Source:
    """Return the files that `path` (and, for a training CSV, `test_path`) stands for.

    Raises
    ------
    DataError
        A file or folder is missing, a folder lacks the right files or has too many, a suffix is not known.
    """
    for given in (path, test_path):
        if given is not None and not given.exists():
            raise DataError(f"{given} does not exist (looked for at {given.absolute()}); {EXPECTED}.")
    if test_path is not None:
        if not (_is_csv(path) and _is_csv(test_path)):
            raise DataError(
                f"data.test_path={test_path} beside data.path={path}: data.test_path is the test .csv that "
                "belongs to a training .csv; leave it out for every other format."
            )
        return Source("csv", (path, test_path))
    if path.is_dir():
        return _find_in(path)
    if not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder; {EXPECTED}.")
    if path.suffix.lower() == ".npz":
        return Source("npz", (path,))
    if _is_csv(path):
        raise DataError(
            f"{path} is a training .csv, and there is no test .csv: write data.test_path=TEST.csv."
        )
    raise DataError(f"{path}: the suffix '{path.suffix}' is none that is read; {EXPECTED}.")


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
    return _checked(arrays, " ".join(str(path) for path in source.files))


def _checked(arrays: dict[str, Bytes], where: str) -> dict[str, Bytes]:
    x_train, y_train, x_test, y_test = (arrays[name] for name in ARRAYS)
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.ndim > 3:
            raise DataError(
                f"{where}: x_{part} has shape {x.shape}; expected (n, height, width) or (n, D) for images: "
                "an axis more, such as colours, is flattened before it is saved, by x.reshape(len(x), -1)."
            )
        if x.ndim < 2 or y.ndim != 1:
            raise DataError(
                f"{where}: x_{part} has shape {x.shape} and y_{part} {y.shape}; expected (n, height, width) "
                "or (n, D) for images and (n,) for labels (class numbers, not one-hot)."
            )
        if x.size == 0 or y.size == 0:
            raise DataError(
                f"{where}: x_{part} has shape {x.shape} and y_{part} {y.shape}: zero rows or pixels."
            )
        if len(x) != len(y):
            raise DataError(
                f"{where}: {len(x)} images in x_{part} and {len(y)} labels in y_{part}; "
                "expected one label an image."
            )
    flat = {"x_train": x_train.reshape(len(x_train), -1), "x_test": x_test.reshape(len(x_test), -1)}
    if flat["x_train"].shape[1] != flat["x_test"].shape[1]:
        raise DataError(
            f"{where}: training images have {flat['x_train'].shape[1]} pixels and test images "
            f"{flat['x_test'].shape[1]}; expected the same number."
        )
    if y_test.max() > max(1, y_train.max()):
        raise DataError(
            f"{where}: the test labels go to {y_test.max()}, the training labels only to {y_train.max()}; "
            "a class to be tested must be there to be learnt."
        )
    return {name: np.ascontiguousarray(flat.get(name, arrays[name])) for name in ARRAYS}


def _find_in(folder: Path) -> Source:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    idx = {name: _idx_file(files, stem) for name, stem in IDX_STEMS.items()}
    present = tuple(path for path in idx.values() if path)
    if len(present) == len(ARRAYS):
        return Source("idx", present)
    there = f"it holds {_listed([path.name for path in files])}"
    if present:
        absent = " ".join(IDX_STEMS[name] for name, path in idx.items() if path is None)
        raise DataError(f"{folder} lacks the IDX files {absent} ({there}); {EXPECTED}.")
    tables = [
        [path for path in files if _is_csv(path) and word in path.name.lower()] for word in ("train", "test")
    ]
    if not all(len(found) == 1 for found in tables) or tables[0] == tables[1]:
        raise DataError(f"{folder} is not a folder with data, or with one set only ({there}); {EXPECTED}.")
    return Source("csv", (tables[0][0], tables[1][0]))


def _idx_file(files: list[Path], stem: str) -> Path | None:
    """Return the IDX file of this name, the unpacked one where both are there."""
    kind = "idx3" if stem.endswith("images") else "idx1"
    names = [f"{stem}{mark}{kind}-ubyte{end}" for end in ("", ".gz") for mark in "-."]
    by_name = {path.name.lower(): path for path in files}
    return next((by_name[name] for name in names if name in by_name), None)


def _is_csv(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith((".csv", ".csv.gz"))


def _listed(names: list[str], most: int = 8) -> str:
    return (
        ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"
    )


def _to_bytes(values: NDArray[Any], what: str) -> Bytes:
    """Return the values as uint8 if none of them changes by it."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf":
        raise DataError(
            f"{what} has dtype {values.dtype}; expected whole numbers 0..255: save it .astype(np.uint8)."
        )
    if values.size and not (values.min() >= 0 and values.max() <= 255):
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


def _opener(path: Path) -> Opener:
    """Return a function that opens the file, unpacked if its first bytes, not its name, say gzip."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return lambda: cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def _not_too_large(size: int, what: str) -> None:
    if size > LARGEST:
        raise DataError(f"{what} is of {size} bytes; at most {LARGEST} are read: take fewer images.")


def _body(open_stream: Opener, size: int, what: str, *, skip: int, stored: int) -> Bytes:
    """Return the `size` bytes that follow `skip` bytes and end the stream, which is `stored` bytes on disk.

    What `stored` bytes cannot hold, packed as they may be, is not even looked for. The stream is measured
    before memory is taken, in chunks and no further than one byte too many, so that neither a header that
    promises too much nor a packed stream that goes on too long costs more than a chunk.
    """
    if size > UNPACKED * stored:
        raise DataError(
            f"{what} is truncated: its header promises {size} bytes, and its {stored} cannot hold them; "
            "fetch the file again."
        )
    _not_too_large(size, what)
    with open_stream() as stream:
        stream.read(skip)
        held = 0
        while held <= size and (chunk := stream.read(min(CHUNK, size + 1 - held))):
            held += len(chunk)
    if held < size:
        raise DataError(
            f"{what} is truncated: its header promises {size} bytes, {held} are there; fetch the file again."
        )
    if held > size:
        raise DataError(
            f"{what} goes on behind the {size} bytes that its header promises; fetch the file again."
        )
    body = np.empty(size, np.uint8)
    with open_stream() as stream:
        stream.read(skip)
        for start in range(0, size, CHUNK):
            part = stream.read(min(CHUNK, size - start))
            body[start : start + len(part)] = np.frombuffer(part, np.uint8)
    return body


# --- npz ----------------------------------------------------------------------------------------------------


def _read_npz(files: tuple[Path, ...]) -> dict[str, Bytes]:
    (path,) = files
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            members = {info.filename.removesuffix(".npy"): info for info in entries}
            if len(members) < len(entries):
                raise DataError(f"{path} holds arrays of the same name; expected each name once.")
            missing = [name for name in ARRAYS if name not in members]
            if missing:
                raise DataError(
                    f"{path} has no {' '.join(missing)}; it has {_listed(list(members))}. Write it by "
                    "np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)."
                )
            return {name: _read_npy(archive, members[name], f"{name} of {path}") for name in ARRAYS}
    except BROKEN as error:
        raise DataError(
            f"{path} is truncated or is no .npz ({error}); expected an archive written by np.savez: "
            "fetch the file again."
        ) from error


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> Bytes:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            f"{what} is packed in a way that NumPy does not write; write it by np.savez_compressed."
        )
    with archive.open(info) as packed:
        shape, dtype, by_columns, start = npz.header(packed)
    if dtype.hasobject:
        raise DataError(
            f"{what} is object-typed, that is, pickled, and is not read; save it .astype(np.uint8)."
        )
    if dtype.kind not in "iuf":
        raise DataError(
            f"{what} has dtype {dtype} and shape {shape}; expected whole numbers 0..255, as uint8."
        )
    raw = _body(
        lambda: archive.open(info),
        math.prod(shape) * dtype.itemsize,
        what,
        skip=start,
        stored=info.compress_size,
    )
    return _to_bytes(raw.view(dtype).reshape(shape, order="F" if by_columns else "C"), what)


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
    length = 4 + 4 * axes
    try:
        open_stream = _opener(path)
        with open_stream() as stream:
            header = stream.read(length)
        if len(header) < length:
            raise DataError(
                f"{path} is truncated: {len(header)} bytes, less than a header; fetch the file again."
            )
        magic, *shape = struct.unpack(f">{axes + 1}I", header)
        if magic != 0x0800 + axes:
            raise DataError(
                f"{path} starts with the magic number 0x{magic:08x}; expected 0x{0x0800 + axes:08x}, "
                f"IDX {'images' if axes == 3 else 'labels'} in unsigned bytes."
            )
        stored = path.stat().st_size
        return _body(open_stream, math.prod(shape), str(path), skip=length, stored=stored).reshape(shape)
    except BROKEN as error:
        raise DataError(f"{path} is truncated or damaged ({error}); fetch the file again.") from error


# --- CSV ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    """A CSV's column names (`None`: it has none), how many columns it has and which one is the label."""

    names: list[str] | None
    width: int
    label: int


def _read_csv(files: tuple[Path, ...]) -> dict[str, Bytes]:
    (train, x_train, y_train), (test, x_test, y_test) = (_read_csv_file(path) for path in files)
    if train.names and test.names and train.width == test.width and train.names != test.names:
        mine, other = next(pair for pair in zip(train.names, test.names, strict=True) if pair[0] != pair[1])
        raise DataError(
            f"{files[1]} has column '{other}' where {files[0]} has '{mine}'; "
            "expected the same columns in the same order."
        )
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _read_csv_file(path: Path) -> tuple[_Header, Bytes, Bytes]:
    import pandas as pd

    blocks: list[Bytes] = []
    rows = size = line = 0
    try:
        with _opener(path)() as packed, io.TextIOWrapper(packed, "utf-8-sig") as stream:
            header, first = _csv_header(stream, path)
            line += not first
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
                for lines in _csv_lines(stream, first, header, path):
                    frame = pd.read_csv(
                        io.StringIO("".join(lines)),
                        names=list(range(header.width)),
                        header=None,
                        index_col=False,
                        low_memory=False,
                    )
                    blocks.append(_csv_bytes(frame, header, rows, path))
                    rows, size, line = rows + len(frame), size + frame.size, line + len(lines)
                    _not_too_large(size, str(path))
    except pd.errors.ParserWarning as error:
        raise DataError(
            f"{path} has rows of different lengths: some are longer than the first line."
        ) from error
    except pd.errors.ParserError as error:
        said = re.sub(r"(?<= line )\d+", lambda found: str(int(found[0]) + line), str(error).strip())
        raise DataError(f"{path} has rows of different lengths or an open quote ({said}).") from error
    except BROKEN as error:
        raise DataError(
            f"{path} is truncated or is no CSV in UTF-8 ({error}); fetch the file again."
        ) from error
    table = np.concatenate(blocks) if blocks else np.empty((0, header.width), np.uint8)
    return header, np.delete(table, header.label, axis=1), table[:, header.label].copy()


def _csv_lines(stream: IO[str], first: list[str], header: _Header, path: Path) -> Iterator[list[str]]:
    """Yield the lines in blocks that stay small, however the file was packed.

    A block is parsed by itself: an open quote swallows no more of the file than that.
    """
    longest = CSV_CELL * header.width + CSV_CELL
    rows = max(1, min(CSV_ROWS, CSV_CELLS // header.width))
    lines, held, more = first, 0, True
    while more:
        line = stream.readline(longest)
        if len(line) == longest:
            raise DataError(
                f"{path} has rows of different lengths: one goes on for more than {longest} characters, and "
                f"the first line has {header.width} columns."
            )
        lines.append(line)
        held, more = held + len(line), bool(line)
        if len(lines) < rows and held <= CSV_CELLS and more:
            continue
        if any(not line.isspace() for line in lines if line):
            yield lines
        elif more:
            raise DataError(f"{path} has {len(lines)} blank lines one after another.")
        lines, held = [], 0


def _csv_header(stream: IO[str], path: Path) -> tuple[_Header, list[str]]:
    """Return what the first line says of the columns, and the line itself in a list if it is data."""
    line = stream.readline(CHUNK)
    if len(line) == CHUNK:
        raise DataError(f"{path} has a first line of more than {CHUNK} characters and is no table of images.")
    fields = next(csv.reader([line]), [])
    names = [field.strip() for field in fields]
    if len(names) < 2:
        raise DataError(
            f"{path} has {len(names)} columns; expected a label and one column a pixel, split by commas."
        )
    if all(_is_number(name) for name in names):
        return _Header(None, len(names), 0), [line]
    labels = [place for place, name in enumerate(names) if name.lower() == "label"]
    times = Counter(names)
    repeated = sorted({name for name in names if times[name] > 1} | {names[at] for at in labels[1:]})
    if repeated:
        raise DataError(f"{path} has duplicate columns ({_listed(repeated)}); expected each name once.")
    if not labels and ("label" in names[0].lower() or "class" in names[0].lower()):
        labels = [0]
    if not labels:
        raise DataError(
            f"{path} has no label column; it has {_listed(names)}. "
            "Name the column with the class numbers 'label'."
        )
    return _Header(names, len(names), labels[0]), []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_byte(cell: object) -> bool:
    """Whether pandas too reads a whole number 0..255; Python also reads 1_0 and digits of any script."""
    if isinstance(cell, str) and ("_" in cell or not cell.isascii()):
        return False
    try:
        number = float(cell)  # type: ignore[arg-type]
        return not isinstance(cell, (bool, np.bool_)) and 0 <= number <= 255 and number.is_integer()
    except (ValueError, TypeError):
        return False


def _csv_bytes(frame: pd.DataFrame, header: _Header, rows_before: int, path: Path) -> Bytes:
    """Return the block as uint8 or name the first cell that is no byte."""
    import pandas as pd

    if all(dtype.kind in "iu" for dtype in frame.dtypes):
        values = frame.to_numpy()
        if values.size == 0 or (values.min() >= 0 and values.max() <= 255):
            return np.asarray(values, np.uint8)
    if all(dtype.kind in "iuf" for dtype in frame.dtypes):
        numbers = frame.to_numpy(np.float64)
        wrong = ~((numbers >= 0) & (numbers <= 255) & (numbers == np.floor(numbers)))
        if not wrong.any():
            return np.asarray(numbers, np.uint8)
        row, place = (int(at) for at in np.argwhere(wrong)[0])
    else:  # pandas found no number in some cell
        cells = enumerate(frame.itertuples(index=False, name=None))
        row, place = next((i, k) for i, row in cells for k, cell in enumerate(row) if not _is_byte(cell))
    given: Any = frame.to_numpy(object)[row, place]
    column = f"'{header.names[place]}'" if header.names else f"{place + 1}"
    kind = "label" if place == header.label else "pixel"
    problem = "is missing" if pd.isna(given) else f"is '{given}'"
    raise DataError(
        f"{path}: the {kind} in column {column}, row {rows_before + row + 1} (1 is the first with data) "
        f"{problem}; expected a whole number 0..255."
    )


READERS: dict[str, Callable[[tuple[Path, ...]], dict[str, Bytes]]] = {
    "npz": _read_npz,
    "idx": _read_idx,
    "csv": _read_csv,
}
