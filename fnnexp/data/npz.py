"""The arrays of an .npz as np.savez writes them: nothing is unpickled, no header decides how much is read."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, SyntaxError, OverflowError, RuntimeError, MemoryError,
    struct.error, tokenize.TokenError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What the standard library and NumPy raise on damaged bytes."""

HEADER = 1 << 16
"""Bytes that are read of a header; one that says it is longer is cut short."""


class Header(NamedTuple):
    """What an array says of itself, and the byte at which its numbers begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool
    start: int


class OtherArrayError(ValueError):
    """An array of another shape or dtype than the one that is asked for."""

    def __init__(self, name: str, found: Header) -> None:
        super().__init__(f"{name} is {found.dtype} {found.shape}")
        self.name, self.found = name, found


def header(stream: IO[bytes]) -> Header:
    """Read the header of an array; of the formats that NumPy writes, 1.0 counts its bytes in two bytes."""
    head = io.BytesIO(stream.read(HEADER))
    version = np.lib.format.read_magic(head)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(head)
    return Header(shape, dtype, by_columns, head.tell())


def array(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...] | None
) -> NDArray[Any]:
    """Return one array that is of this dtype and shape, read-only.

    Parameters
    ----------
    archive, name
        Where it is; an entry that is packed is refused, since how much it unpacks to is not told.
    dtype, shape
        What it must be; None is one axis, as long as its entry is.

    Raises
    ------
    OtherArrayError
        When it is another array.
    DAMAGED
        Any of these, when it is none.
    """
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is packed")
    with archive.open(info) as stream:
        found = header(stream)
    if found.dtype != dtype or (len(found.shape) != 1 if shape is None else found.shape != shape):
        raise OtherArrayError(name, found)
    size = math.prod(found.shape) * dtype.itemsize
    if not 0 <= size <= info.file_size:
        raise ValueError(f"{name} is cut short")
    end = found.start + size
    with archive.open(info) as stream:
        content = stream.read(end + 1)  # one more than there is: then its CRC is compared
    if len(content) != end:
        raise ValueError(f"{name} has {len(content) - found.start} bytes and promises {size}")
    numbers = np.frombuffer(content, dtype, offset=found.start)
    return numbers.reshape(found.shape, order="F" if found.by_columns else "C")
