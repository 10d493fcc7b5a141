"""Arrays in an .npz are read as written, or refused as damaged; other errors are not taken for damage."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnnexp.data.npz import Archive, DamagedError

ARRAYS = {
    "W": np.arange(12, dtype=np.float32).reshape(4, 3),
    "by_columns": np.asfortranarray(np.arange(12, dtype=">i4").reshape(4, 3)),
    "none": np.zeros((0, 3)),
    "number": np.float64(7),
}


def saved(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def array_in(content, name="W", dtype=np.float32, shape=(4, 3)):
    return Archive(io.BytesIO(content)).array(name, dtype, shape)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_they_were_written(save):
    archive = Archive(io.BytesIO(saved(save, **ARRAYS)))
    assert archive.names == list(ARRAYS)
    for name, array in ARRAYS.items():
        header = archive.header(name)
        assert (header.shape, header.dtype, header.size) == (array.shape, array.dtype, array.nbytes)
        array_read = archive.array(name, array.dtype, array.shape)
        assert (array_read.dtype, array_read.tolist()) == (array.dtype, array.tolist())


@pytest.mark.parametrize(
    ("requested", "reason"),
    [
        ({"name": "b"}, "the file has no array b"),
        ({"dtype": np.float64}, r"W has shape \(4, 3\) and dtype float32, not \(4, 3\) and float64"),
        ({"dtype": ">f4"}, "not .* and >f4"),
        ({"shape": (3, 4)}, r"not \(3, 4\)"),
        ({"shape": (12,)}, r"not \(12,\)"),
    ],
)
def test_an_array_of_another_name_shape_or_dtype_is_refused(requested, reason):
    with pytest.raises(DamagedError, match=reason):
        array_in(saved(**ARRAYS), **requested)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans(), packed=st.booleans())
def test_damage_raises_only_a_damaged_error(at, value, cut, packed):
    content = bytearray(saved(np.savez_compressed if packed else np.savez, **ARRAYS))
    at %= len(content)
    content[at] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of a damaged header
        with contextlib.suppress(DamagedError):
            assert array_in(content[:at] if cut else content).tolist() == ARRAYS["W"].tolist()


def test_an_error_in_our_own_code_does_not_count_as_damage():
    with pytest.raises(TypeError):
        array_in(saved(**ARRAYS), dtype="no type")
    with pytest.raises(AttributeError):
        Archive(None)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_and_a_zip_entry_that_both_lie_use_no_memory(packing):
    """Both promise 1 GB, more than a file of a few bytes can unpack to."""
    member = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 28,)}
    np.lib.format.write_array_header_1_0(member, header)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        archive.writestr("W.npy", member.getvalue() + b"1234")
    content = bytearray(file.getvalue())
    claims = struct.pack("<II", (1 << 30) + len(member.getvalue()), (1 << 30) + len(member.getvalue()))
    at = content.index(b"PK\1\2")
    content[at + 20 : at + 28] = claims
    tracemalloc.start()
    try:
        with pytest.raises(
            DamagedError, match="W is truncated: the file is too small for its 1073741952 bytes"
        ):
            array_in(content, shape=(1 << 28,))
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header", ["-" * 9000, "(" * 9000, "[" * 20_000, "{'a': 1}", "{1: 1, 'a': 1}", ""])
def test_an_invalid_header_is_damage(header):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("W.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode())
    with pytest.raises(DamagedError):
        array_in(file.getvalue())


def test_too_little_memory_does_not_count_as_damage(monkeypatch):
    def none_left(*_, **__):
        raise MemoryError

    content = saved(**ARRAYS)
    monkeypatch.setattr(np.lib.format, "read_array", none_left)
    with pytest.raises(MemoryError):
        array_in(content)


def test_objects_are_not_unpickled():
    content = saved(W=np.array([None] * 3, object))
    with pytest.raises(DamagedError, match="allow_pickle=False"):
        array_in(content, dtype=object, shape=(3,))
    with pytest.raises(DamagedError, match="dtype object, not"):
        array_in(content)
