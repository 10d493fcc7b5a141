"""Read arrays from an ``.npz``: nothing is unpickled, and no header decides how much memory is taken."""

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
"""How many times its size a deflated stream can unpack to, at most."""

HEADER_BYTES = 1 << 16
"""How much is read of an array's header; NumPy itself accepts 10,000 characters."""

LIBRARY_ERRORS = (
    OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, OverflowError, RuntimeError,
    struct.error, tokenize.TokenError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What zipfile and NumPy raise on damaged bytes."""


class DamagedError(ValueError):
    """Bytes that are not what their format promises, or not what the caller expects."""


class Header(NamedTuple):
    """What an array in an .npz says of itself, and the bytes that its values take."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


class Archive:
    """An open .npz, whose arrays are read one by one.

    Every method raises :class:`DamagedError`, and no other error, when the file is at fault.

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
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in entries}
        self.names = list(self._entries)
        if len(self.names) < len(entries):
            raise DamagedError("it holds arrays of the same name")

    def header(self, name: str) -> Header:
        """Return an array's header, once it agrees with the bytes that are there."""
        entry, npy = self._entry(name), np.lib.format
        with _damage(MemoryError), self._zip.open(entry) as stream:  # so Python's parser calls deep nesting
            head = io.BytesIO(stream.read(HEADER_BYTES))
            first = npy.read_magic(head) == (1, 0)
            shape, _, dtype = npy.read_array_header_1_0(head) if first else npy.read_array_header_2_0(head)
        if min(shape, default=0) < 0:
            raise DamagedError(f"{name} has the shape {shape}")
        there = entry.file_size - head.tell()
        size = there if dtype.hasobject else math.prod(shape) * dtype.itemsize  # objects are never read
        if there > size:
            raise DamagedError(f"{name} goes on behind the {size} bytes that its header promises")
        if there < size:
            raise DamagedError(f"{name} is truncated: its header promises {size} bytes, {there} are there")
        return Header(shape, dtype, size)

    def array(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return an array of this dtype and shape; no memory is taken for any other."""
        header, dtype = self.header(name), np.dtype(dtype)
        if (header.shape, header.dtype) != (shape, dtype):
            raise DamagedError(
                f"{name} in the file is {header.shape} of {header.dtype} and not {shape} of {dtype}"
            )
        with _damage(), self._zip.open(self._entry(name)) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise DamagedError(f"it has no array {name}")
        entry = self._entries[name]
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DamagedError(
                f"{name} is packed in a way that NumPy does not write; use np.savez_compressed"
            )
        most = self._file_size * (1 if entry.compress_type == zipfile.ZIP_STORED else DEFLATE)
        if entry.file_size > most:
            raise DamagedError(f"{name} is truncated: {entry.file_size} bytes do not fit into the file")
        return entry


@contextlib.contextmanager
def _damage(*more: type[Exception]) -> Iterator[None]:
    """Raise what zipfile and NumPy raise on damaged bytes, and some more, as :class:`DamagedError`.

    It stands around their calls alone, so that an error in our own code is never taken for damage.
    """
    try:
        yield
    except LIBRARY_ERRORS + more as error:
        raise DamagedError(str(error) or type(error).__name__) from error
