"""Read arrays from an ``.npz`` safely: without pickle, and without trusting the sizes in its headers."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

DEFLATE = 1032
"""The largest ratio of the unpacked size of a deflated stream to its packed size."""

HEADER_BYTES = 1 << 16
"""Bytes read of an array's header; NumPy itself accepts 10,000 characters."""

END_RECORD, ZIP64 = struct.Struct("<4s4H2LH"), 0xFFFF
"""The record at the end of a zip file, whose fifth field is the number of entries (APPNOTE.TXT, 4.3.16), and
the value of this field if another record, of version ZIP64, has the number."""

LIBRARY_ERRORS = (
    OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, OverflowError, RuntimeError,
    struct.error, tokenize.TokenError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""The errors that zipfile and NumPy raise on damaged bytes."""


class DamagedError(ValueError):
    """A file is damaged: its bytes are not valid in their format, or not what the caller expects."""


class Header(NamedTuple):
    """The header of an array in an .npz, and the size of its values in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


class Archive:
    """An open .npz, whose arrays are read one at a time.

    Every method raises :class:`DamagedError`, and no other error, if the file is damaged.

    Parameters
    ----------
    file
        The open file, or its content in an :class:`io.BytesIO`.

    Attributes
    ----------
    names
        The arrays' names, in the file's order.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> np.savez(file, b=np.zeros(3, np.float32))
    >>> archive = Archive(file)
    >>> archive.names, archive.header("b").shape
    (['b'], (3,))
    >>> archive.array("b", np.float32, (3,))
    array([0., 0., 0.], dtype=float32)
    """

    def __init__(self, file: IO[bytes]) -> None:
        with _damage():
            self._zip = zipfile.ZipFile(file)
            entries = self._zip.infolist()
            self._file_size = file.seek(0, io.SEEK_END)
            file.seek(self._file_size - END_RECORD.size - len(self._zip.comment))
            count = END_RECORD.unpack(file.read(END_RECORD.size))[4]
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in entries}
        self.names = list(self._entries)
        if len(self.names) < len(entries):
            raise DamagedError("several arrays in the file have the same name")
        if count not in (len(entries), ZIP64):  # with a damaged length, zipfile skips entries
            raise DamagedError(f"the file lists {len(entries)} arrays, but was written with {count}")

    def header(self, name: str) -> Header:
        """Return an array's header, after checking that the file has as many bytes as the header says."""
        entry, npy = self._entry(name), np.lib.format
        # For a deeply nested header, Python's parser raises MemoryError.
        with _damage(MemoryError), self._zip.open(entry) as stream:
            head = io.BytesIO(stream.read(HEADER_BYTES))
            first = npy.read_magic(head) == (1, 0)
            shape, _, dtype = npy.read_array_header_1_0(head) if first else npy.read_array_header_2_0(head)
        if min(shape, default=0) < 0:
            raise DamagedError(f"{name} has the shape {shape}")
        stored = entry.file_size - head.tell()
        # An array of objects is never read, so its size need not be right.
        size = stored if dtype.hasobject else math.prod(shape) * dtype.itemsize
        if stored > size:
            raise DamagedError(f"{name} has more than the {size} bytes that its header promises")
        if stored < size:
            raise DamagedError(f"{name} is truncated: its header promises {size} bytes, and it has {stored}")
        return Header(shape, dtype, size)

    def array(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the array with this name; raise before reading its values if its dtype or shape differs."""
        header, dtype = self.header(name), np.dtype(dtype)
        if (header.shape, header.dtype) != (shape, dtype):
            raise DamagedError(
                f"{name} has shape {header.shape} and dtype {header.dtype}, not {shape} and {dtype}"
            )
        with _damage(), self._zip.open(self._entry(name)) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise DamagedError(f"the file has no array {name}")
        entry = self._entries[name]
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DamagedError(
                f"{name} is compressed in a way that NumPy never writes; use np.savez_compressed"
            )
        most = self._file_size * (1 if entry.compress_type == zipfile.ZIP_STORED else DEFLATE)
        if entry.file_size > most:
            raise DamagedError(f"{name} is truncated: the file is too small for its {entry.file_size} bytes")
        return entry


@contextlib.contextmanager
def _damage(*more: type[Exception]) -> Iterator[None]:
    """Raise :class:`DamagedError` in place of the errors that zipfile and NumPy raise for damaged bytes.

    These are :data:`LIBRARY_ERRORS`, and those in `more`. The ``with`` block must contain only calls of
    zipfile and NumPy, so that an error in our own code never counts as damage.
    """
    try:
        yield
    except LIBRARY_ERRORS + more as error:
        raise DamagedError(str(error) or type(error).__name__) from error
