"""Labelled images: from numbers as people store them to four arrays of bytes, and what those must be.

Every data set goes through :func:`checked`, whatever it came in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.data.sources import Reading, listed
from fnnexp.errors import DataError

Bytes = NDArray[np.uint8]
Numbers = NDArray[Any]

ARRAYS = ("x_train", "y_train", "x_test", "y_test")

BLOCK = 4096
"""Rows that are turned into bytes at a time."""
ROUNDING = 0.02
"""How far 255 times a pixel may be from a whole number for the pixel to be a byte divided by 255."""
SPLIT_SEED = 0
"""What the order comes from in which a file's rows are taken for testing."""
DARKER = 8
"""So many times brighter the training images may be than the test images, or the other way around."""
WORTH_A_WORD = 0.01
"""The share of test images that are training images from which a line says so."""
FEWEST_ROWS = 8
"""In fewer rows a pixel can count the rows by chance."""
ROWS_A_CLASS, ROWS = 4, 32
"""In fewer rows, a class and altogether, a pixel can tell the label by chance."""
MOST_CLASSES, LARGEST_SHARE = 100, 0.9
"""A column with the values of a label has no more classes, and no class more of the rows: a pixel in a corner
is nearly always 0."""


@dataclass(frozen=True)
class Raw:
    """Arrays as they were read: any numbers, in any of the usual shapes.

    `arrays` has `x_train` and `y_train`, and perhaps `x_test` and `y_test`. `fault` returns the message about
    the value at a place in one of them that is no byte. `notes` says what was decided while reading.
    """

    arrays: dict[str, Numbers]
    fault: Callable[[str, tuple[int, ...]], str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labelled:
    """A data set in memory: images (n, D) and labels (n,), uint8, contiguous; and what to say of it."""

    arrays: dict[str, Bytes]
    notes: tuple[str, ...] = ()


def labelled(raw: Raw, reading: Reading, where: str) -> Labelled:
    """Return what was read as a data set: in bytes, and with test rows.

    Raises
    ------
    DataError
        It is no data set of labelled images.
    """
    check_shapes({name: array.shape for name, array in raw.arrays.items()}, where)
    notes = list(raw.notes)
    arrays, scaled = _in_bytes(raw, where)
    if scaled:
        notes.append("its pixels are bytes divided by 255, and are kept as bytes")
    flat = {
        name: _flat(array, reading.transpose, where) if name[0] == "x" else array.reshape(-1)
        for name, array in arrays.items()
    }
    if "x_test" not in flat:
        flat |= _split(flat["x_train"], flat["y_train"], reading.test_fraction, where)
        notes.append(
            f"it has no test rows, so {len(flat['y_test'])} of its "
            f"{len(flat['y_train']) + len(flat['y_test'])}, drawn class by class, are for testing "
            f"(data.test_fraction={reading.test_fraction:g})"
        )
    elif reading.test_fraction != Reading.test_fraction:
        raise DataError(
            f"data.test_fraction={reading.test_fraction:g} is for a file without test rows, and {where} has "
            "some; leave it out."
        )
    return Labelled(flat, tuple(notes))


def checked(arrays: Mapping[str, Bytes], where: str) -> Labelled:
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
        They are no labelled images, or can't be those that they seem.
    """
    check_shapes({name: arrays[name].shape for name in ARRAYS}, where)
    images = {name: arrays[name].reshape(len(arrays[name]), -1) for name in ("x_train", "x_test")}
    flat = {name: np.ascontiguousarray(images.get(name, arrays[name])) for name in ARRAYS}
    _check_classes(flat["y_train"], flat["y_test"], where)
    for part in ("train", "test"):
        _check_pixels(flat[f"x_{part}"], flat[f"y_{part}"], f"{where}: x_{part}")
    common = _check_that_they_differ(flat["x_train"], flat["x_test"], where)
    if common < WORTH_A_WORD * len(flat["x_test"]):
        return Labelled(flat)
    share = f"{common} of {len(flat['x_test'])} test images"
    return Labelled(flat, (f"{share} are training images too, so that a part of what is measured is memory",))


# --- shapes -------------------------------------------------------------------------------------------------


def check_shapes(shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise unless these are the shapes of labelled images, whether there are test images or not.

    Images are (n, height, width) or (n, D) and labels (n,), with axes of length 1 anywhere behind the first.

    Raises
    ------
    DataError
        With the shape that is at fault.
    """
    parts = ("train", "test") if "x_test" in shapes else ("train",)
    for part in parts:
        x, y = shapes[f"x_{part}"], shapes[f"y_{part}"]
        found = f"{where}: x_{part} has shape {x} and y_{part} {y}"
        if len(_long(x)) > 3:
            raise DataError(
                f"{where}: x_{part} has shape {x}; expected (n, height, width) or (n, D) for images: "
                "an axis more, such as colours, is flattened before it is saved, by x.reshape(len(x), -1)."
            )
        if len(x) < 2 or len(_long(y)) != 1:
            raise DataError(
                f"{found}; expected (n, height, width) or (n, D) for images and (n,) for labels "
                "(class numbers, not one-hot: y.argmax(axis=1))."
            )
        if 0 in x or 0 in y:
            raise DataError(f"{found}: zero rows or pixels.")
        if x[0] != y[0]:
            raise DataError(
                f"{where}: {x[0]} images in x_{part} and {y[0]} labels in y_{part}; "
                "expected one label an image."
            )
    train, test = (math.prod(shapes[f"x_{part}"][1:]) for part in (parts[0], parts[-1]))
    if train != test:
        raise DataError(
            f"{where}: training images have {train} pixels and test images {test}; expected the same number."
        )


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the axes of length 1 behind its first."""
    return shape[:1] + tuple(length for length in shape[1:] if length != 1)


def _flat(images: Bytes, transpose: bool, where: str) -> Bytes:
    """Return images (n, …) as (n, D), their pixels row by row."""
    if transpose:
        shape = _long(images.shape)
        side = math.isqrt(math.prod(shape[1:]))
        if len(shape) < 3 and side**2 != math.prod(shape[1:]):
            raise DataError(
                f"data.transpose=true, and the images of {where} have {math.prod(shape[1:])} pixels, which "
                "make no square; leave it out."
            )
        images = images.reshape(shape if len(shape) == 3 else (len(images), side, side)).swapaxes(1, 2)
    return np.ascontiguousarray(images.reshape(len(images), -1))


# --- bytes --------------------------------------------------------------------------------------------------


def _in_bytes(raw: Raw, where: str) -> tuple[dict[str, Bytes], bool]:
    """Return the arrays as bytes, and whether their pixels were divided by 255."""
    arrays: dict[str, Bytes] = {}
    divided = {}
    for name, values in raw.arrays.items():
        factors = (1, 255) if name[0] == "x" and values.dtype.kind == "f" else (1,)
        for factor in factors:
            if (found := _times(values, factor)) is not None:
                arrays[name], divided[name] = found, factor == 255
                break
        else:
            raise DataError(raw.fault(name, _first_odd(values, factors)))
    scaled = any(divided.values())
    for name in [name for name in arrays if scaled and name[0] == "x" and not divided[name]]:
        if arrays[name].max() > 1:
            other = next(name for name in divided if divided[name])
            raise DataError(
                f"{where}: {other} holds fractions and {name} whole numbers to {arrays[name].max()}; "
                f"store both as bytes 0..255, np.round(255 * x).astype(np.uint8) of {other}."
            )
        arrays[name] = arrays[name] * np.uint8(255)
    return arrays, scaled


def _times(values: Numbers, factor: int) -> Bytes | None:
    """Return numbers times a factor as bytes, or None where these are no bytes."""
    if values.dtype == np.uint8:
        return values
    result = np.empty(values.shape, np.uint8)
    for at in range(0, len(values), BLOCK):
        block = values[at : at + BLOCK]
        if not _are_bytes(block, factor).all():
            return None
        result[at : at + BLOCK] = np.rint(block * np.float64(factor))
    return result


def _are_bytes(values: Numbers, factor: int) -> NDArray[np.bool_]:
    """Tell of each number whether it is a byte when multiplied; by 255, up to the rounding of the numbers."""
    near = max(ROUNDING, 128 * float(np.finfo(values.dtype).eps)) if factor > 1 else 0
    with np.errstate(invalid="ignore", over="ignore"):
        multiplied = values * np.float64(factor)
        near_bytes: NDArray[np.bool_] = np.abs(multiplied - np.rint(multiplied)) <= near
        return near_bytes & (values >= 0) & (multiplied <= 255 + near)


def _first_odd(values: Numbers, factors: Sequence[int]) -> tuple[int, ...]:
    """Return where the first value is that is no byte, by the factor that makes bytes of the most."""
    odd = min((~_are_bytes(values, factor) for factor in factors), key=np.count_nonzero)
    return tuple(int(axis[0]) for axis in np.nonzero(odd))


# --- one file's test rows -----------------------------------------------------------------------------------


def _split(x: Bytes, y: Bytes, fraction: float, where: str) -> dict[str, Bytes]:
    """Return the four arrays of a file that is all training: of each class, a fraction is for testing.

    All rows are shuffled first, always alike: by the raw output of PCG64, which NumPy promises not to change.
    """
    order = np.argsort(np.random.PCG64(SPLIT_SEED).random_raw(len(y)), kind="stable")
    x, y = x[order], y[order]
    testing = np.zeros(len(y), bool)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        testing[rows[: min(max(round(fraction * len(rows)), 1), len(rows) - 1)]] = True
    if not testing.any():
        raise DataError(f"{where}: no class has two rows, one to train on and one to test on; add rows.")
    return {"x_train": x[~testing], "y_train": y[~testing], "x_test": x[testing], "y_test": y[testing]}


# --- what they can be ---------------------------------------------------------------------------------------


def _check_classes(train: Bytes, test: Bytes, where: str) -> None:
    """Raise unless there are classes to be told apart, and each that is tested can be learnt."""
    if train.min() == train.max():
        raise DataError(
            f"{where}: every training label is {train[0]}; expected two classes or more. If the labels are "
            "in another column of a .csv, write data.label=first, data.label=last or data.label=NAME."
        )
    unknown = [str(label) for label in np.setdiff1d(test, train)]
    if unknown:
        raise DataError(
            f"{where}: test rows have the class {listed(unknown)}, which no training row has; the training "
            f"labels go from {train.min()} to {train.max()}. Leave those test rows out, or put some of the "
            "class into training."
        )


def _check_pixels(x: Bytes, y: Bytes, what: str) -> None:
    """Raise when a pixel is a label, or counts the rows."""
    for pixel in _labels_among(x, y):
        raise DataError(
            f"{what}: pixel {pixel + 1} has the values of a label and tells the label of every row; save the "
            "images without any labels."
        )
    for pixel in counting(x):
        raise DataError(f"{what}: pixel {pixel + 1} counts the rows and is none; save the images without it.")


def _labels_among(x: Bytes, y: Bytes) -> Iterator[int]:
    """Yield the pixels that have the values of a label and tell the label of every row.

    Of two classes a real pixel can tell as much, if it is on or off, or has more values than these two.
    """
    most, classes, brightest = len(y) // ROWS_A_CLASS, len(np.unique(y)), x.max(axis=0)
    if len(y) < ROWS or classes > most or (classes == 2 and brightest.max() == 1):
        return
    for pixel in np.flatnonzero((brightest > 0) & (brightest <= MOST_CLASSES)).tolist():
        column = x[:, pixel] * np.intp(256)
        values, pairs = (np.count_nonzero(np.bincount(column + more)) for more in (0, y))
        if values == pairs <= (2 if classes == 2 else most) and is_label(x[:, pixel]):
            yield pixel


def is_label(column: Numbers) -> bool:
    """Whether a column has the values of a label: whole numbers from 0 or 1 without a gap, often repeated."""
    classes, counts = np.unique(column, return_counts=True)
    return bool(
        1 < len(classes) <= min(MOST_CLASSES, len(column) - 1)
        and classes[0] in (0, 1)
        and np.array_equal(classes, classes[0] + np.arange(len(classes)))
        and counts.max() <= LARGEST_SHARE * len(column)
    )


def counting(table: Numbers) -> Iterator[int]:
    """Yield the columns that number the rows, in any order, as an index does."""
    rows = len(table)
    if rows < FEWEST_ROWS:
        return
    for column in np.flatnonzero(table.max(axis=0) - table.min(axis=0) == rows - 1).tolist():
        if np.array_equal(np.sort(table[:, column]), table[:, column].min() + np.arange(rows)):
            yield column


def _check_that_they_differ(train: Bytes, test: Bytes, where: str) -> int:
    """Return how many test images are training images too.

    Raises
    ------
    DataError
        When test images tell nothing that training images do not tell, or are of another kind.
    """
    rows = [{hash(image.tobytes()) for image in images} for images in (train, test)]
    for one, other, mine, its in ((1, 0, "test", "training"), (0, 1, "training", "test")):
        if rows[one] <= rows[other]:
            raise DataError(
                f"{where}: every {mine} image is among the {its} images, so that what is measured is memory; "
                "test on other images than those that are trained on."
            )
    brightest = sorted((int(train.max()), int(test.max())))
    if brightest[0] * DARKER < brightest[1]:
        raise DataError(
            f"{where}: the pixels go to {train.max()} in training and to {test.max()} in testing; "
            "store both on one scale, 0..255."
        )
    return sum(hash(image.tobytes()) in rows[0] for image in test)
