"""Show a data set as a table: one row per image or other row, one column per pixel or other input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.data import datasets
from fnnexp.data.sources import Reading
from fnnexp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

SPLITS = ("train", "test")


def images(
    data: str = "mnist",
    split: str = "train",
    *,
    rows: int | None = None,
    path: str | Path | None = None,
    test_path: str | Path | None = None,
    label: str | None = Reading.label,
    header: bool | str = Reading.header,
    test_fraction: float = Reading.test_fraction,
    transpose: bool = Reading.transpose,
) -> pd.DataFrame:
    """Return a data set's images as a table, in the order of a sweep: `images("mnist").head()`.

    Parameters
    ----------
    data, path, test_path, label, header, test_fraction, transpose
        Like the keys `data`, `data.path` and so on of a sweep. `data` is `mnist`, `digits`, `files`
        or another option of `data`; toys have their default size and noise.
    split
        `train` or `test`.
    rows
        Number of rows to return, from the first; None returns all.

    Returns
    -------
    DataFrame
        The column `label` and one column per pixel, named by row and column: `1x1`, `1x2`, …, `28x28`. All
        are uint8, so MNIST's 60,000 training images take 47 MB. If the images are not square, the pixels are
        named `1`, `2`, …. So are real-valued inputs, which are float32. The index has the number of each row
        in its file, from 0, as the column `row` of :func:`fnnexp.mistakes`.

    Raises
    ------
    DataError
        If the split or the data set is unknown, or the data set is missing or damaged.

    Examples
    --------
    >>> images("digits", rows=2)[["label", "1x1", "14x14"]].dtypes.unique()
    array([dtype('uint8')], dtype=object)
    """
    if not isinstance(data, str):
        given = type(data).__name__
        raise DataError(f'images reads a data set by its name, not a {given}; write images("mnist")')
    if split not in SPLITS:
        raise DataError(f"split={split!r} is unknown; it can be {' or '.join(SPLITS)}.")
    if rows is not None and rows < 0:
        raise DataError(f"rows={rows} must be 0 or more, or None for all rows.")
    train_file, test_file = (None if file is None else str(file) for file in (path, test_path))
    reading = Reading(label, str(header).lower(), test_fraction, transpose)
    prepared = datasets.prepare(data, train_file, test_file, reading)
    arrays = datasets.load(prepared)
    pixels, labels = getattr(arrays, f"x_{split}")[:rows], getattr(arrays, f"y_{split}")[:rows]
    numbers = datasets.row_numbers(prepared).get(split)
    index = None if numbers is None else numbers[:rows]
    # Copied, because the arrays are read-only.
    table = pd.DataFrame(pixels, index, _pixel_names(prepared.input_size, prepared.real), copy=True)
    table.insert(0, "label", labels)
    return table


def _pixel_names(pixels: int, real: bool) -> list[str]:
    side = math.isqrt(pixels)
    if real or side * side != pixels:
        return [str(i) for i in range(1, pixels + 1)]
    return [f"{row}x{column}" for row in range(1, side + 1) for column in range(1, side + 1)]
