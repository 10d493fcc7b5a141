"""Labelled rows: convert numbers as people store them to four arrays, and check these.

Inputs are bytes, as of images, or real values. Every data set goes through :func:`checked`, whatever its file
format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.data.sources import MOST_CLASSES as MOST_NAMES
from fnnexp.data.sources import Reading, class_order, listed
from fnnexp.errors import DataError, plural, printable

Bytes = NDArray[np.uint8]
Numbers = NDArray[Any]
RowNumbers = Mapping[str, NDArray[np.intp]]
"""For `train` and `test`: the number, from 0, that each row has in its file; absent if it is 0, 1, 2, …."""

ARRAYS = ("x_train", "y_train", "x_test", "y_test")

BLOCK = 4096
"""Rows converted to bytes at a time."""
ROUNDING = 0.02
"""Largest distance of 255 times a pixel from a whole number, if the pixel is a byte divided by 255."""
SPLIT_SEED = 0
"""The seed of :func:`fixed_order`."""
BRIGHTNESS_RATIO = 8
"""The largest pixel values of the training images and of the test images may differ by at most this factor.

A larger ratio means that the two are on different scales, such as 0 to 1 and 0 to 255."""
NOTED_SHARE = 0.01
"""Smallest share of test images among the training images that is reported in a note."""
REAL = "its inputs are real-valued"
"""The start of the note on inputs that are not bytes."""
DIVIDED = "its pixels are bytes divided by 255"
"""The start of the note on bytes that a file has as fractions."""
FEWEST_STEPS = 8
"""An input whose values span fewer steps of float32 than this has lost its differences by rounding."""

LARGEST_VALUE = float(np.finfo(np.float32).max)
"""The largest absolute value of a real-valued input."""
FEWEST_ROWS = 8
"""With fewer rows, a pixel can number the rows by chance."""
ROWS_A_CLASS, ROWS = 4, 32
"""With fewer rows, for each class and in total, a pixel can determine the label by chance."""
MOST_CLASSES, LARGEST_SHARE = 100, 0.9
"""Maximum number of classes of a label column, and maximum share of its rows in one class.

A pixel in a corner of an image is nearly always 0. Because of the share, it is not taken for a label.
"""
MOST_SHOWN = 20
"""How many classes a note names."""
MISSING = ("", "nan")
"""Texts, in lower case, that are no label: empty cells, and what NumPy makes of them."""


@dataclass(frozen=True)
class Raw:
    """The arrays of a file as they were read: numbers of any dtype, in any of the usual shapes.

    `arrays` has `x_train` and `y_train`, and may have `x_test` and `y_test`. Labels may be words. `notes`
    tell the user what was decided while reading. `class_names` are the names of the classes 0, 1, …, if
    labels are numbers and the file has names for them. `input_names` are the names of the inputs (D), if the
    file has them. `rows` has the numbers of the rows in the file, if they are in another order here.
    `without(index)` is the override that leaves out an input; None if the file has no columns to leave out.

    `fault(name, index)` describes a value that is not a byte. For a label, it returns an error message. For
    an input, which may be a real value, it returns a few words that a note quotes.
    """

    arrays: dict[str, Numbers]
    fault: Callable[[str, tuple[int, ...]], str]
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()
    rows: RowNumbers = field(default_factory=dict)
    without: Callable[[int], str] | None = None


@dataclass(frozen=True)
class Labelled:
    """A data set in memory: the four arrays, notes for the user, and the names of the classes.

    Inputs are (n, D), uint8 or float32. Labels are (n,), uint8. All arrays are contiguous. `class_names` is
    empty if the classes are only numbers, and `input_names` if the inputs have no names. `rows` has the
    numbers of the rows in their file, if they are in another order here.
    """

    arrays: dict[str, Numbers]
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()
    rows: RowNumbers = field(default_factory=dict)


def labelled(raw: Raw, reading: Reading, where: str) -> Labelled:
    """Convert the arrays of a file to a data set: inputs to bytes or float32, labels to class numbers.

    Inputs become bytes if all of them are bytes, or bytes divided by 255; otherwise they become float32.
    Labels that are words become the numbers of their classes. If there are no test rows, some of the rows
    become test rows, as `reading` says. `where` names the file in messages.

    Raises
    ------
    DataError
        If the arrays are not a data set of labelled rows.
    """
    check_shapes({name: array.shape for name, array in raw.arrays.items()}, where)
    raw = _with_numbers(raw, where)
    notes = list(raw.notes)
    arrays, note = _converted(raw, where)
    notes += [note] if note else []
    inputs = () if reading.transpose else raw.input_names
    if is_real(arrays["x_train"]):
        notes += [note] if (note := rounded_away(raw.arrays["x_train"], inputs)) else []
    flat = {
        name: _flat(array, reading.transpose, where) if name[0] == "x" else array.reshape(-1)
        for name, array in arrays.items()
    }
    rows = raw.rows
    if "x_test" not in flat:
        rows = _split(flat["y_train"], reading.test_fraction, where)
        flat = {f"{key}_{split}": flat[f"{key}_train"][rows[split]] for split in rows for key in "xy"}
        notes.append(
            f"it has no test rows, so {len(flat['y_test'])} of its "
            f"{len(flat['y_train']) + len(flat['y_test'])} rows, drawn class by class, are used for testing "
            f"(data.test_fraction={reading.test_fraction:g})"
        )
    elif reading.test_fraction != Reading.test_fraction:
        raise DataError(
            f"data.test_fraction={reading.test_fraction:g}: {where} has test rows already; omit "
            "data.test_fraction."
        )
    names, note = _names_of(raw.class_names, int(flat["y_train"].max()) + 1)
    return Labelled(flat, (*notes, note) if note else tuple(notes), names, inputs, rows)


def checked(
    arrays: Mapping[str, Numbers],
    where: str,
    input_names: Sequence[str] = (),
    without: Callable[[int], str] | None = None,
) -> Labelled:
    """Check four arrays, and return them as a data set of contiguous arrays with inputs (n, D).

    Parameters
    ----------
    arrays
        `x_train` `y_train` `x_test` `y_test`; inputs (n, height, width) or (n, D), uint8 or float32; labels
        uint8.
    where
        The source of the arrays, which starts every error message.
    input_names
        The names of the inputs for messages, or none.
    without
        Returns the override that leaves out an input, given its index; None if there is none.

    Raises
    ------
    DataError
        If the arrays are not labelled rows, or a network could not learn or be tested on them.
    """
    check_shapes({name: arrays[name].shape for name in ARRAYS}, where)
    images = {name: arrays[name].reshape(len(arrays[name]), -1) for name in ("x_train", "x_test")}
    flat = {name: np.ascontiguousarray(images.get(name, arrays[name])) for name in ARRAYS}
    _check_classes(flat["y_train"], flat["y_test"], where)
    for split in ("train", "test"):
        _check_columns(flat[f"x_{split}"], flat[f"y_{split}"], f"{where}: x_{split}", input_names, without)
    common, row = _count_common_rows(flat["x_train"], flat["x_test"], where), row_name(flat["x_test"])
    notes = [*_check_ranges(flat["x_train"], flat["x_test"], where)]
    if common >= NOTED_SHARE * len(flat["x_test"]):
        share = f"{common} of {plural(len(flat['x_test']), f'test {row}')}"
        verb = f"is also a training {row}" if common == 1 else f"are also training {row}s"
        notes.append(f"{share} {verb}, so test accuracy partly measures memory")
    return Labelled(flat, tuple(notes))


def is_real(inputs: Numbers) -> bool:
    """Return whether inputs are real values, and not bytes."""
    return inputs.dtype != np.uint8


LEAST_SIDE = 4
"""The smallest side of an image in pixels. Rows with fewer inputs than such a square are not images."""


def image_side(inputs: Numbers) -> int | None:
    """Return the side in pixels if the inputs (n, D) are square images; otherwise None.

    They are images if they are bytes, and D is a square number of at least 4 × 4.
    """
    side = math.isqrt(inputs.shape[1])
    return side if not is_real(inputs) and side >= LEAST_SIDE and side**2 == inputs.shape[1] else None


def row_name(inputs: Numbers) -> str:
    """Return the word for a row of inputs in messages: "image" if the rows are square images, else "row"."""
    return "row" if image_side(inputs) is None else "image"


def column_name(inputs: Numbers) -> str:
    """Return the word for a column of inputs in messages: "pixel" if rows are square images, else "input"."""
    return "input" if image_side(inputs) is None else "pixel"


def column_title(names: Sequence[str] | None, index: int) -> str:
    """Return the name of a column for a message: its name in quotes, or its number from 1."""
    return f"'{names[index]}'" if names and names[index] else f"{index + 1}"


# --- shapes -------------------------------------------------------------------------------------------------


def check_shapes(shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise if arrays of these shapes cannot be inputs and labels, for training and perhaps also for test.

    Inputs must be (n, height, width) or (n, D), and labels (n,). Further axes of length 1 are allowed
    anywhere after the first axis.

    Parameters
    ----------
    shapes
        The shape of each array, by its name: ``x_train`` and so on.
    where
        The file of the arrays, for messages.

    Raises
    ------
    DataError
        If a shape is wrong, or if inputs and labels do not fit together.
    """
    splits = ("train", "test") if "x_test" in shapes else ("train",)
    for split in splits:
        x, y = shapes[f"x_{split}"], shapes[f"y_{split}"]
        both_shapes = f"{where}: x_{split} has shape {x} and y_{split} {y}"
        if len(_without_unit_axes(x)) > 3:
            raise DataError(
                f"{where}: x_{split} has shape {x}; expected (n, height, width) or (n, D) for images. "
                "Flatten a further axis, such as colours, before saving: x.reshape(len(x), -1)."
            )
        if len(x) < 2 or len(_without_unit_axes(y)) != 1:
            raise DataError(
                f"{both_shapes}; expected (n, height, width) or (n, D) for images and (n,) for labels "
                "(class numbers, not one-hot: y.argmax(axis=1))."
            )
        if 0 in x or 0 in y:
            raise DataError(f"{both_shapes}: zero rows or pixels; expected at least one of each.")
        if x[0] != y[0]:
            raise DataError(
                f"{where}: {plural(x[0], 'row')} in x_{split} and {plural(y[0], 'label')} in y_{split}; "
                "expected one label per row."
            )
    train, test = (math.prod(shapes[f"x_{split}"][1:]) for split in (splits[0], splits[-1]))
    if train != test:
        raise DataError(
            f"{where}: training rows have {plural(train, 'input')} and test rows {test}; expected the "
            "same number."
        )


def _without_unit_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the axes of length 1 after its first axis."""
    return shape[:1] + tuple(length for length in shape[1:] if length != 1)


def _flat(images: Numbers, transpose: bool, where: str) -> Numbers:
    """Return images (n, …) as (n, D), with their pixels row by row.

    With `transpose`, the images are stored column by column.
    """
    if transpose:
        shape = _without_unit_axes(images.shape)
        side = math.isqrt(math.prod(shape[1:]))
        if len(shape) < 3 and side**2 != math.prod(shape[1:]):
            raise DataError(
                f"data.transpose=true: the images of {where} have {math.prod(shape[1:])} pixels, which do "
                "not make a square; omit data.transpose."
            )
        images = images.reshape(shape if len(shape) == 3 else (len(images), side, side)).swapaxes(1, 2)
    return np.ascontiguousarray(images.reshape(len(images), -1))


# --- the names of classes -----------------------------------------------------------------------------------


def _with_numbers(raw: Raw, where: str) -> Raw:
    """Return the arrays of a file with class numbers as labels, where the file has words.

    The words are sorted, numbered from 0, and become the names of the classes.
    """
    labels = {name: array.reshape(-1) for name, array in raw.arrays.items() if name[0] == "y"}
    if all(array.dtype.kind != "U" for array in labels.values()):
        return raw
    words = {name: np.strings.strip(array.astype(str)) for name, array in labels.items()}
    for name, array in words.items():
        if len(missing := np.flatnonzero(np.isin(np.strings.lower(array), MISSING))):
            raise DataError(
                f"{where}: row {missing[0]} (from 0) of {name} has no label; remove this row from the inputs "
                "and the labels."
            )
    names = sorted({str(word) for word in words["y_train"]}, key=class_order)
    shown = listed([repr(name) for name in names], 3)
    if not 1 < len(names) <= MOST_NAMES:
        problem = "one word" if len(names) == 1 else f"{len(names)} different words"
        raise DataError(
            f"{where}: its training labels are {problem} ({shown}); expected 2 to {MOST_NAMES} classes. If "
            "another column of a .csv has the labels, write data.label=first, data.label=last or "
            "data.label=NAME."
        )
    number = {name: k for k, name in enumerate(names)}
    for name, array in words.items():
        if unknown := next((str(word) for word in array if word not in number), None):
            raise DataError(
                f"{where}: {name} has the class {unknown!r}, which no training row has; training labels are "
                f"{shown}. Remove these rows, or move some of them to the training rows."
            )
    arrays = {
        name: np.array([number[str(word)] for word in words[name]], np.uint8) if name in words else array
        for name, array in raw.arrays.items()
    }
    note = f"its labels are words, and classes are numbered in their order: {numbered(names)}"
    notes = raw.notes if are_numbers(names) else (*raw.notes, note)
    return replace(raw, arrays=arrays, notes=notes, class_names=tuple(names))


def numbered(names: Sequence[str]) -> str:
    """Return the names of classes with their numbers, for a note.

    >>> numbered(["ant", "bee"])
    '0 ant, 1 bee'
    """
    return listed([f"{number} {name}" for number, name in enumerate(names)], MOST_SHOWN)


def are_numbers(names: Sequence[str]) -> bool:
    """Return whether the names of classes are only the numbers of the classes: 0, 1, 2, …."""
    return list(names) == [str(number) for number in range(len(names))]


def _names_of(names: Sequence[str], classes: int) -> tuple[tuple[str, ...], str]:
    """Return the names of the classes, if they can be used; otherwise (), and a note for the user on why not.

    They cannot be used unless each of the classes has a name of its own. If the names are only the numbers of
    the classes, return () without a note.

    Parameters
    ----------
    names
        The names that the file has.
    classes
        The number of classes.
    """
    cleaned = [" ".join(printable(name).split()) for name in names[:classes]]
    if cleaned and (len(cleaned) < classes or len({*cleaned, ""}) <= classes):
        return (), (
            f"its names of classes are not used: expected {classes} different names, and it has "
            f"{len(names)}: {listed(list(names))}"
        )
    return () if are_numbers(cleaned) else tuple(cleaned), ""


# --- bytes and real values ----------------------------------------------------------------------------------


def _converted(raw: Raw, where: str) -> tuple[dict[str, Numbers], str]:
    """Return the arrays as bytes, with float32 inputs if some inputs are not bytes; and a note on this.

    Inputs that are bytes divided by 255 are converted to bytes too. Raise if a label is not a byte.
    """
    arrays: dict[str, Numbers] = {}
    divided = {}
    reason = ""
    for name, values in raw.arrays.items():
        factors = _factors(name, values)
        converted = in_bytes(values, factors)
        if converted is not None:
            arrays[name], divided[name] = converted[0], converted[1] == 255
            continue
        fault = raw.fault(name, _index_of_first_fault(values, factors))
        if name[0] == "y":
            raise DataError(fault)
        check_finite(values, f"{where}: {name}")
        reason = reason or fault
    if reason:
        real = {name: as_real(values) for name, values in raw.arrays.items() if name[0] == "x"}
        return arrays | real, f"{REAL}: {reason}"
    scaled = any(divided.values())
    for name in [name for name in arrays if scaled and name[0] == "x" and not divided[name]]:
        if arrays[name].max() > 1:
            other = next(name for name in divided if divided[name])
            raise DataError(
                f"{where}: {other} has fractions and {name} whole numbers up to {arrays[name].max()}; "
                f"store both as bytes 0..255, with np.round(255 * x).astype(np.uint8) for {other}."
            )
        arrays[name] = arrays[name] * np.uint8(255)
    return arrays, f"{DIVIDED}; they are stored as bytes" if scaled else ""


def _factors(name: str, values: Numbers) -> tuple[int, ...]:
    """Return the factors by which an array's values may become bytes: 1, and for float inputs also 255."""
    return (1, 255) if name[0] == "x" and values.dtype.kind == "f" else (1,)


def in_bytes(values: Numbers, factors: Sequence[int] = (1, 255)) -> tuple[Bytes, int] | None:
    """Return the values times a factor as bytes, and the first of the factors that makes all of them bytes.

    Return None if none of the factors does.

    >>> in_bytes(np.array([0.0, 0.2, 1.0]))
    (array([  0,  51, 255], dtype=uint8), 255)
    """
    for factor in factors:
        if (multiplied := _multiplied_bytes(values, factor)) is not None:
            return multiplied, factor
    return None


def _multiplied_bytes(values: Numbers, factor: int) -> Bytes | None:
    """Return the values times a factor as bytes, or None if the products are not bytes."""
    if values.dtype == np.uint8:
        return values
    result = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        if not _are_bytes(block, factor).all():
            return None
        result[start : start + BLOCK] = np.rint(block * np.float64(factor))
    return result


def _are_bytes(values: Numbers, factor: int) -> NDArray[np.bool_]:
    """Return for each value whether its product with the factor is a byte.

    For the factor 255, the product may differ from a whole number by the rounding of the values.
    """
    tolerance = max(ROUNDING, 128 * float(np.finfo(values.dtype).eps)) if factor > 1 else 0
    with np.errstate(invalid="ignore", over="ignore"):
        multiplied = values * np.float64(factor)
        near_bytes: NDArray[np.bool_] = np.abs(multiplied - np.rint(multiplied)) <= tolerance
        return near_bytes & (values >= 0) & (multiplied <= 255 + tolerance)


def _index_of_first_fault(values: Numbers, factors: Sequence[int]) -> tuple[int, ...]:
    """Return the index of the first value that is not a byte when it is multiplied by a factor.

    The factor is the one of `factors` that makes the most values bytes.
    """
    faults = min((~_are_bytes(values, factor) for factor in factors), key=np.count_nonzero)
    return tuple(int(axis[0]) for axis in np.nonzero(faults))


def check_finite(values: Numbers, what: str) -> None:
    """Raise if a value is NaN, infinite or too large for float32; `what` names the array in the message."""
    with np.errstate(invalid="ignore"):
        faults = np.nonzero(~(np.abs(values) <= np.float64(LARGEST_VALUE)))
    if len(faults[0]):
        index = tuple(int(axis[0]) for axis in faults)
        raise DataError(
            f"{what} has {plural(len(faults[0]), 'value')} that training cannot use, such as {values[index]} "
            f"in row {index[0]} (from 0); expected finite numbers up to {LARGEST_VALUE:.1e}, as float32 has: "
            "remove these rows, or replace the values."
        )


def rounded_away(values: Numbers, names: Sequence[str] = ()) -> str:
    """Return a note for the user if an input loses its differences as float32, else "".

    For example, times in seconds since 1970 that differ by a minute may be equal in float32. The note is
    about the first such input, by its name if `names` are given.
    """
    columns = values.reshape(len(values), -1)
    low, high = (end.astype(np.float64) for end in (columns.min(axis=0), columns.max(axis=0)))
    steps = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(np.float32)).astype(np.float64)
    coarse = np.nonzero((high > low) & (high - low < FEWEST_STEPS * steps))[0]
    if not len(coarse):
        return ""
    i, others = int(coarse[0]), len(coarse) - 1
    more = f"; the same is true of {plural(others, 'more input')}" if others else ""
    return (
        f"the values of input {column_title(names, i)} differ by at most {high[i] - low[i]:.3g}, and float32 "
        f"rounds them to steps of {steps[i]:.3g}{more}: subtract the mean of such an input, or rescale it"
    )


def as_real(values: Numbers) -> NDArray[np.float32]:
    """Return the values as float32, with 0 for −0, so that equal numbers have equal bytes."""
    return values.astype(np.float32) + np.float32(0)


# --- test rows for a file without any -----------------------------------------------------------------------


def fixed_order(rows: int) -> NDArray[np.intp]:
    """Return the numbers of the rows in a random order that is always the same.

    It comes from the raw output of PCG64, which NumPy promises never to change.
    """
    return np.argsort(np.random.PCG64(SPLIT_SEED).random_raw(rows), kind="stable")


def _split(labels: Bytes, fraction: float, where: str) -> RowNumbers:
    """Split a file's rows into training and test rows: a fraction of each class becomes test rows.

    The rows are shuffled first. Return the numbers of the rows of `train` and `test`, each in the new order.
    """
    order = fixed_order(len(labels))
    y = labels[order]
    testing = np.zeros(len(y), bool)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        testing[rows[: min(max(round(fraction * len(rows)), 1), len(rows) - 1)]] = True
    if not testing.any():
        raise DataError(f"{where}: no class has two rows, one for training and one for testing; add rows.")
    return {"train": order[~testing], "test": order[testing]}


# --- classes and pixels -------------------------------------------------------------------------------------


def _check_classes(train: Bytes, test: Bytes, where: str) -> None:
    """Raise if all training labels are the same, or if a test label is not among the training labels."""
    if train.min() == train.max():
        raise DataError(
            f"{where}: every training label is {train[0]}; expected two or more classes. If another column "
            "of a .csv has the labels, write data.label=first, data.label=last or data.label=NAME."
        )
    unknown = [str(label) for label in np.setdiff1d(test, train)]
    if unknown:
        raise DataError(
            f"{where}: test rows have the class {listed(unknown)}, which no training row has; the training "
            f"labels range from {train.min()} to {train.max()}. Remove those test rows, or move some of them "
            "to the training rows."
        )


def _check_columns(
    x: Numbers, y: Bytes, what: str, names: Sequence[str], without: Callable[[int], str] | None
) -> None:
    """Raise if a column of the inputs contains the labels or the numbers of the rows, and so is no input."""
    column, rows, article = column_name(x), f"{row_name(x)}s", "a" if image_side(x) else "an"

    def advice(index: int) -> str:
        return f"write {without(index)} to leave it out" if without else f"save the {rows} without it"

    of_bytes = _byte_columns(x) if is_real(x) else np.arange(x.shape[1])
    for index in _label_columns(x[:, of_bytes].astype(np.uint8) if is_real(x) else x, y):
        raise DataError(
            f"{what}: {column} {column_title(names, of_bytes[index])} looks like a label: it contains class "
            f"numbers, and they determine the label of every row; {advice(int(of_bytes[index]))}."
        )
    for index in row_number_columns(x):
        raise DataError(
            f"{what}: {column} {column_title(names, index)} numbers the rows, so it is not {article} "
            f"{column}; {advice(index)}."
        )


def _byte_columns(x: Numbers) -> NDArray[np.intp]:
    """Return the indices of the columns in which every value is a byte."""
    columns = np.arange(x.shape[1])
    for start in range(0, len(x), BLOCK):
        columns = columns[_are_bytes(x[start : start + BLOCK][:, columns], 1).all(axis=0)]
    return columns


def _label_columns(x: Bytes, y: Bytes) -> Iterator[int]:
    """Yield the indices of pixels that must be labels: class numbers that determine the label of every row.

    With few rows, or with two classes, an ordinary pixel may do so by chance. So nothing is yielded with few
    rows. With two classes, nothing is yielded for images that are only black and white, nor for a pixel with
    more than two values.
    """
    most, classes, brightest = len(y) // ROWS_A_CLASS, len(np.unique(y)), x.max(axis=0)
    if len(y) < ROWS or classes > most or (classes == 2 and brightest.max(initial=0) <= 1):
        return
    for pixel in np.flatnonzero((brightest > 0) & (brightest <= MOST_CLASSES)).tolist():
        column = x[:, pixel] * np.intp(256)
        values, pairs = (np.count_nonzero(np.bincount(column + more)) for more in (0, y))
        if values == pairs <= (2 if classes == 2 else most) and is_label(x[:, pixel]):
            yield pixel


def is_label(column: Numbers) -> bool:
    """Return whether a column looks like labels: class numbers from 0 or 1 up, without a gap, that repeat.

    >>> is_label(np.array([1, 2, 2, 3])), is_label(np.array([1, 2, 2, 4]))
    (True, False)
    """
    classes, counts = np.unique(column, return_counts=True)
    return bool(
        1 < len(classes) <= min(MOST_CLASSES, len(column) - 1)
        and classes[0] in (0, 1)
        and np.array_equal(classes, classes[0] + np.arange(len(classes)))
        and counts.max() <= LARGEST_SHARE * len(column)
    )


def row_number_columns(table: Numbers) -> Iterator[int]:
    """Yield the indices of columns with the numbers of the rows, in any order, such as a saved index."""
    rows = len(table)
    if rows < FEWEST_ROWS:
        return
    for column in np.flatnonzero(table.max(axis=0) - table.min(axis=0) == rows - 1).tolist():
        if np.array_equal(np.sort(table[:, column]), table[:, column].min() + np.arange(rows)):
            yield column


def _check_ranges(train: Numbers, test: Numbers, where: str) -> Iterator[str]:
    """Raise if the pixels for training and for test are on different scales, such as 0 to 1 and 0 to 255.

    For real values, yield a note for the user instead of raising.
    """
    largest = [float(np.abs(x).max()) for x in (train, test)]
    if min(largest) * BRIGHTNESS_RATIO >= max(largest):
        return
    if is_real(train):
        yield (
            f"its largest absolute input is {largest[0]:.4g} in training and {largest[1]:.4g} in testing; "
            "check that both are on the same scale"
        )
    else:
        raise DataError(
            f"{where}: the largest pixel is {train.max()} in training and {test.max()} in testing; "
            "store both on the same scale, 0..255."
        )


def _count_common_rows(train: Numbers, test: Numbers, where: str) -> int:
    """Return how many test rows are also training rows.

    Raise if all test rows are also training rows, or all training rows are also test rows.
    """
    row = row_name(train)
    hashes = {
        name: {hash(image.tobytes()) for image in images}
        for name, images in (("training", train), ("test", test))
    }
    for inner, outer in (("test", "training"), ("training", "test")):
        if hashes[inner] <= hashes[outer]:
            raise DataError(
                f"{where}: every {inner} {row} is also a {outer} {row}, so test accuracy would only "
                f"measure memorization; test on {row}s that are not trained on."
            )
    return sum(hash(image.tobytes()) in hashes["training"] for image in test)
