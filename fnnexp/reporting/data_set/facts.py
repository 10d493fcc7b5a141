"""Facts about the rows of a data set: classes, ranges of inputs, duplicates, and rows to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fnnexp.data.labelled import Numbers
from fnnexp.nn.pieces.batching import slices
from fnnexp.nn.rows import Split
from fnnexp.results.networks.mistakes import class_index

ROWS_AT_ONCE = 4096
"""How many rows are converted to float64 at once."""


def class_counts(splits: Mapping[str, Split], classes: int, names: Sequence[str] = ()) -> pd.DataFrame:
    """Return how many rows each class has in each split (int64).

    The index has the names of the classes, or their numbers if they have no names. A column is a split.
    """
    counts = {
        name: np.bincount(np.asarray(split.labels), minlength=classes) for name, split in splits.items()
    }
    return pd.DataFrame(counts, class_index(classes, names, "class")).astype("int64")


def input_ranges(x: Numbers, names: Sequence[str] = ()) -> pd.DataFrame:
    """Return the smallest, mean and largest value of each input of a data set, and its standard deviation.

    Parameters
    ----------
    x
        The rows of the data set, of shape (n, D).
    names
        The names of the D inputs, for the index; by default they are numbered from 1.

    Returns
    -------
    DataFrame
        The columns `least`, `mean`, `deviation` (the standard deviation √(Σ (x − mean)² / n)) and `most`.
    """
    total, squares = np.zeros((2, x.shape[1]))
    for rows in slices(len(x), ROWS_AT_ONCE):
        total += x[rows].sum(axis=0, dtype=np.float64)
    mean = total / len(x)
    for rows in slices(len(x), ROWS_AT_ONCE):
        squares += ((x[rows] - mean) ** 2).sum(axis=0)
    columns = {
        "least": x.min(axis=0),
        "mean": mean,
        "deviation": np.sqrt(squares / len(x)),
        "most": x.max(axis=0),
    }
    index = pd.Index(names or range(1, x.shape[1] + 1), name="input")
    return pd.DataFrame(columns, index).astype("float64")


class Duplicates(NamedTuple):
    """How many rows occur more than once.

    Attributes
    ----------
    train
        The training rows that repeat an earlier training row.
    val, test
        The validation rows, and the test rows, that are also training rows.
    contradicting
        The training rows that equal a training row with another label.
    """

    train: int
    val: int
    test: int
    contradicting: int


def duplicates(splits: Mapping[str, Split]) -> Duplicates:
    """Return how many rows of these splits occur more than once."""
    keys = {name: [hash(row.tobytes()) for row in split.images] for name, split in splits.items()}
    labels: dict[int, set[int]] = defaultdict(set)
    for key, label in zip(keys["train"], splits["train"].labels.tolist(), strict=True):
        labels[key].add(label)
    also = {name: sum(key in labels for key in keys.get(name, [])) for name in ("val", "test")}
    contradicting = sum(len(labels[key]) > 1 for key in keys["train"])
    return Duplicates(len(keys["train"]) - len(labels), also["val"], also["test"], contradicting)


def rows_of_each_class(labels: NDArray[np.uint8], count: int) -> NDArray[np.intp]:
    """Return the indices of `count` rows to show: the first of each class, then the second, and so on.

    >>> rows_of_each_class(np.array([1, 1, 0, 1, 0], np.uint8), 3).tolist()
    [2, 0, 4]
    """
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    turn = np.empty(len(labels), np.intp)
    turn[by_class] = np.arange(len(labels)) - starts
    return np.lexsort((labels, turn))[:count]
