"""Batching: which training rows, in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.randomness import generator

MODES = ("full", "mini", "sample")


@dataclass(frozen=True)
class Batching:
    """How an epoch's rows are cut into batches.

    Attributes
    ----------
    mode
        ``full``: one batch of all rows; ``mini``: batches of ``size``, the last one short where it has to
        be; ``sample``: batches of one.
    size
        Rows a batch of ``mini``; None for the other modes.
    shuffle
        Whether each epoch has an order of its own, drawn from (seed, epoch); else the file's order.
    """

    mode: str
    size: int | None = None
    shuffle: bool = False

    def batch_size(self, n: int) -> int:
        """Return the rows of a batch when there are n in all."""
        return {"full": n, "mini": min(self.size or n, n), "sample": 1}[self.mode]

    def order(self, n: int, seed: int, epoch: int) -> NDArray[np.intp] | None:
        """Return the order of n rows in an epoch (counted from 1), or None for the file's order."""
        return generator(seed, "order", epoch).permutation(n) if self.shuffle else None


def pieces(n: int, size: int) -> Iterator[slice]:
    """Cut n rows into slices of size, the last one short where it has to be.

    >>> list(pieces(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


MOSTLY = 0.9
"""Share of the columns in use from which they are all taken: picking out fewer would save nothing."""


@dataclass(frozen=True)
class Examples:
    """Some rows of the input, without the columns that are zero in every one of them.

    80.9% of MNIST's pixels are 0, and 128 images use some 530 of the 784 columns between them: a product with
    the columns in use, and the same rows of the weights, is the whole product.

    Attributes
    ----------
    X
        (B, U) floats.
    used
        Which columns of the input these are (U,), ascending, or None for all D.
    """

    X: NDArray[Any]
    used: NDArray[np.intp] | None = None


class Rows:
    """Rows of a split as floating-point inputs: gathered, converted and scaled into a buffer used again.

    Parameters
    ----------
    images
        (N, D) uint8.
    scale
        ``unit``: bytes / 255; ``raw``: the bytes 0…255 as they are.
    size
        The most rows asked for at once.
    """

    def __init__(self, images: NDArray[np.uint8], scale: str, size: int, dtype: np.dtype[Any]) -> None:
        self._images = np.asarray(images)
        self._divisor = dtype.type(255) if scale == "unit" else None
        self._bytes = np.empty((size, images.shape[1]), np.uint8)
        self._compact = np.empty(self._bytes.size, np.uint8)
        self._inputs = np.empty(self._bytes.size, dtype)

    def take(self, where: slice | NDArray[np.intp]) -> Examples:
        """Return the rows in the buffer; the next call overwrites them."""
        if isinstance(where, slice):
            gathered = self._images[where]
        else:
            gathered = self._bytes[: len(where)]
            np.take(self._images, where, axis=0, out=gathered, mode="clip")
        rows, columns = gathered.shape
        used = np.flatnonzero(np.bitwise_or.reduce(gathered, axis=0))
        if len(used) >= MOSTLY * columns:
            return Examples(self._scaled(gathered))
        compact = self._compact[: rows * len(used)].reshape(rows, len(used))
        return Examples(self._scaled(np.take(gathered, used, axis=1, out=compact, mode="clip")), used)

    def _scaled(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        inputs = self._inputs[: images.size].reshape(images.shape)
        np.copyto(inputs, images)
        if self._divisor is not None:
            np.divide(inputs, self._divisor, out=inputs)
        return inputs
