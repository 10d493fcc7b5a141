"""Show a data set as a table: one row per image or other row, one column per pixel or other input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fnnexp.data import datasets
from fnnexp.data.datasets import Prepared
from fnnexp.data.labelled import Numbers, image_side
from fnnexp.data.sources import Reading, columns_named
from fnnexp.errors import DataError

SPLITS = ("train", "test")


def images(
    data: str | Path = "mnist",
    split: str = "train",
    *,
    rows: int | None = None,
    path: str | Path | None = None,
    test_path: str | Path | None = None,
    label: str | None = Reading.label,
    drop: str | Sequence[str] | None = None,
    header: bool | str = Reading.header,
    test_fraction: float = Reading.test_fraction,
    transpose: bool = Reading.transpose,
) -> pd.DataFrame:
    """Return a data set as a table, in the order of a sweep: `images("mnist").head()`, `images("my.csv")`.

    Parameters
    ----------
    data
        A data set such as `mnist`, `digits` or another option of `data`; toys have their default size and
        noise. Or the path of a file or folder, as for :func:`fnnexp.show_data`.
    path, test_path, label, drop, header, test_fraction, transpose
        Like the keys `data.path` and so on of a sweep.
    split
        `train` or `test`.
    rows
        Number of rows to return, from the first; None returns all.

    Returns
    -------
    DataFrame
        The column `label`, with class numbers, and one column per pixel, named by row and column: `1x1`,
        `1x2`, …, `28x28`. All are uint8, so MNIST's 60,000 training images take 47 MB. Inputs that are no
        pixels of square images have the names in the header of their CSV; without a header, they are named
        `1`, `2`, …. Real-valued inputs are float32. The index has the number of each row in its file, from 0,
        as the column `row` of :func:`fnnexp.mistakes`.

    Raises
    ------
    DataError
        If the split or the data set is unknown, or the data set is missing or damaged.

    Examples
    --------
    >>> images("digits", rows=2)[["label", "1x1", "14x14"]].dtypes.unique()
    array([dtype('uint8')], dtype=object)
    """
    if not isinstance(data, str | Path):
        given = type(data).__name__
        raise DataError(f'images reads a data set by its name or path, not a {given}; write images("mnist")')
    if split not in SPLITS:
        raise DataError(f"split={split!r} is unknown; it can be {' or '.join(SPLITS)}.")
    if rows is not None and rows < 0:
        raise DataError(f"rows={rows} must be 0 or more, or None for all rows.")
    name = str(data)
    if path is None and datasets.is_path(name):
        name, path = "files", data
    train_file, test_file = (None if file is None else str(file) for file in (path, test_path))
    reading = Reading(label, str(header).lower(), test_fraction, transpose, columns_named(drop))
    prepared = datasets.prepare(name, train_file, test_file, reading)
    arrays = datasets.load(prepared)
    pixels, labels = getattr(arrays, f"x_{split}")[:rows], getattr(arrays, f"y_{split}")[:rows]
    numbers = datasets.row_numbers(prepared).get(split)
    index = None if numbers is None else numbers[:rows]
    # Copied, because the arrays are read-only.
    table = pd.DataFrame(pixels, index, _column_names(prepared, pixels), copy=True)
    table.insert(0, "label", labels)
    return table


def _column_names(prepared: Prepared, inputs: Numbers) -> list[str]:
    if prepared.input_names and image_side(inputs) is None:
        return list(prepared.input_names)
    pixels = prepared.input_size
    side = math.isqrt(pixels)
    if prepared.real or side * side != pixels:
        return [str(i) for i in range(1, pixels + 1)]
    return [f"{row}x{column}" for row in range(1, side + 1) for column in range(1, side + 1)]
