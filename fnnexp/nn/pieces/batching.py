"""Batching: the size of the batches of an epoch, and the order of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.rng import generator

MODES = ("full", "mini", "sample")


@dataclass(frozen=True)
class Batching:
    """How the rows of an epoch are split into batches.

    Attributes
    ----------
    mode
        ``full``: one batch of all rows; ``mini``: batches of ``size`` rows, the last possibly shorter;
        ``sample``: batches of one row.
    size
        Rows in a batch of ``mini``; None for the other modes.
    shuffle
        Whether to draw a new order for each epoch, from (seed, epoch). Otherwise rows keep the file's order.
    """

    mode: str
    size: int | None = None
    shuffle: bool = False

    def batch_size(self, n: int) -> int:
        """Return the number of rows in a batch, if an epoch has n rows."""
        return {"full": n, "mini": min(self.size or n, n), "sample": 1}[self.mode]

    def order(self, n: int, seed: int, epoch: int) -> NDArray[np.intp] | None:
        """Return the order in which an epoch takes n rows, as row numbers; None for the order of the file.

        Epochs are counted from 1.
        """
        return generator(seed, "order", epoch).permutation(n) if self.shuffle else None


def slices(n: int, size: int) -> Iterator[slice]:
    """Yield slices of ``size`` rows that cover n rows; the last may be shorter.

    >>> list(slices(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
