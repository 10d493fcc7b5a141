"""A data set as a table: one row an image, one column a pixel."""

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
    """Return a data set's images as a table, in the file's order: `images("mnist").head()`.

    Parameters
    ----------
    data, path, test_path, label, header, test_fraction, transpose
        As `data`, `data.path` and so on of a sweep. `data` is `mnist`, `digits` or `files`.
    split
        `train` or `test`.
    rows
        How many of the first rows; all of them if None.

    Returns
    -------
    DataFrame
        `label` and one column a pixel, named row and column: `1x1`, `1x2`, …, `28x28`. All are uint8, so
        MNIST's 60,000 training images take 47 MB. Images that are not square have pixels `1`, `2`, ….

    Raises
    ------
    DataError
        The split or the data set is unknown, missing or broken.

    Examples
    --------
    >>> images("digits", rows=2)[["label", "1x1", "14x14"]].dtypes.unique()
    array([dtype('uint8')], dtype=object)
    """
    if split not in SPLITS:
        raise DataError(f"split={split!r} is unknown; it can be {' or '.join(SPLITS)}.")
    if rows is not None and rows < 0:
        raise DataError(f"rows={rows} must be 0 or more, or None for all rows.")
    given, test = (None if each is None else str(each) for each in (path, test_path))
    reading = Reading(label, str(header).lower(), test_fraction, transpose)
    prepared = datasets.prepare(data, given, test, reading)
    arrays = datasets.load(prepared)
    pixels, labels = getattr(arrays, f"x_{split}")[:rows], getattr(arrays, f"y_{split}")[:rows]
    table = pd.DataFrame(
        pixels, columns=_pixel_names(prepared.input_size), copy=True
    )  # the data is read-only
    table.insert(0, "label", labels)
    return table


def _pixel_names(pixels: int) -> list[str]:
    side = math.isqrt(pixels)
    if side * side != pixels:
        return [str(i) for i in range(1, pixels + 1)]
    return [f"{row}x{column}" for row in range(1, side + 1) for column in range(1, side + 1)]
