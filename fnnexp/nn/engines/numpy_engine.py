"""The input of the first layer: rows of images as floats, and the two products with them.

The first layer is by far the largest, and its input is mostly zeros, so what multiplies it is an engine's own
(:mod:`fnnexp.nn.engines.base`). This is NumPy's: columns that are zero in all rows are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Inputs = Sequence[tuple[range, Any]]
"""For each group of lanes that see the same rows: which lanes, and their rows as the engine has them."""

MOSTLY = 0.9
"""Share of the columns in use from which they are all taken: picking out fewer would save nothing."""

PART_BYTES = 96 * 1024
"""How much of a lane's first weights is changed at a time. A fixed number: the products' shapes follow it."""


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


class RowsOfImages(Protocol):
    """What gives the rows of a split to an engine's first layer."""

    def take(self, where: slice | NDArray[np.intp]) -> Any:
        """Return the rows; the next call may overwrite them."""


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


class FirstLayer(Protocol):
    """The first weights W (K, D, H) of some lanes, as an engine multiplies with them."""

    def times(self, lane: int, examples: Any, out: Array) -> None:
        """Write X W of a lane to out (B, H)."""

    def add_transposed_times(self, lane: int, examples: Any, dZ: Array) -> None:
        """Add Xᵀ dZ to a lane's W, for dZ (B, H)."""

    def changed(self) -> None:
        """Take note that W was changed by others."""

    def store(self) -> None:
        """Write what was added back to W, where it was kept elsewhere."""


class BlasFirstLayer:
    """The first layer by BLAS: the rows of W that belong to columns in use are picked out and multiplied."""

    def __init__(self, W: Array) -> None:
        self.W = W
        self._picked: Array | None = None
        self._change: Array | None = None

    def times(self, lane: int, examples: Examples, out: Array) -> None:
        """Write X W of a lane to out (B, H)."""
        W = self.W[lane]
        if examples.used is not None:
            picked = self._buffers(W)[0][: len(examples.used)]
            W = np.take(W, examples.used, axis=0, out=picked, mode="clip")
        np.matmul(examples.X, W, out=out)

    def add_transposed_times(self, lane: int, examples: Examples, dZ: Array) -> None:
        """Add Xᵀ dZ to a lane's W, for dZ (B, H): only the rows of columns in use change.

        It is done for as many rows of W at a time as fit the cache beside X.
        """
        W, X, used = self.W[lane], examples.X, examples.used
        picked, changes = self._buffers(W)
        step = max(PART_BYTES // (W.shape[1] * W.itemsize), 1)
        for start in range(0, X.shape[1], step):
            part = slice(start, min(start + step, X.shape[1]))
            change = np.matmul(X[:, part].T, dZ, out=changes[: part.stop - start])
            if used is None:
                np.add(W[part], change, out=W[part])
            else:
                rows = np.take(W, used[part], axis=0, out=picked[: part.stop - start], mode="clip")
                np.add(rows, change, out=rows)
                W[used[part]] = rows

    def changed(self) -> None:
        """Do nothing: W itself is multiplied with."""

    def store(self) -> None:
        """Do nothing: W itself was added to."""

    def _buffers(self, W: Array) -> tuple[Array, Array]:
        if self._picked is None or self._change is None:
            self._picked, self._change = np.empty_like(W), np.empty_like(W)
        return self._picked, self._change
