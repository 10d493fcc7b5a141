"""NumPy's first layer: rows of images as floats, and the two products with them.

The first layer is by far the largest, and its input is mostly zeros, so each engine has its own way to
multiply with it (:mod:`fnnexp.nn.engines.base`). NumPy's way leaves out the columns that are zero in all
rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array, DType

Inputs = Sequence[tuple[range, Any]]
"""For each group of lanes that see the same rows: which lanes, and their rows in the engine's own form."""

ALL_COLUMNS = 0.9
"""From this share of nonzero columns on, all columns are taken: leaving a few out would save nothing."""

PART_BYTES = 96 * 1024
"""How much of a lane's first weights is changed at a time. The number is part of the result: the shapes of
the products follow from it."""


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

    X: Array
    used: NDArray[np.intp] | None = None


class RowSource(Protocol):
    """The rows of a split, in the form that an engine's first layer takes."""

    def take(self, where: slice | NDArray[np.intp]) -> Any:
        """Return the rows; the next call may overwrite them."""


class DenseRows:
    """Rows of a split as floats: gathered, converted and scaled into one buffer.

    Parameters
    ----------
    images
        (N, D) uint8.
    scale
        ``unit``: bytes / 255; ``raw``: the bytes 0…255 as they are.
    size
        The most rows asked for at once.
    """

    def __init__(self, images: NDArray[np.uint8], scale: str, size: int, dtype: DType) -> None:
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
        if len(used) >= ALL_COLUMNS * columns:
            return Examples(self._scaled(gathered))
        compact = self._compact[: rows * len(used)].reshape(rows, len(used))
        return Examples(self._scaled(np.take(gathered, used, axis=1, out=compact, mode="clip")), used)

    def _scaled(self, images: NDArray[np.uint8]) -> Array:
        inputs = self._inputs[: images.size].reshape(images.shape)
        np.copyto(inputs, images)
        if self._divisor is not None:
            np.divide(inputs, self._divisor, out=inputs)
        return inputs


class FirstLayer(Protocol):
    """The first weights W (K, D, H) of some lanes, and an engine's two products with them.

    An engine may work on a copy of W. ``weights_changed`` and ``write_back`` keep the two the same.
    """

    def forward(self, lane: int, examples: Any, out: Array) -> None:
        """Write X W of a lane to out (B, H)."""

    def add_gradient(self, lane: int, examples: Any, dZ: Array) -> None:
        """Add Xᵀ dZ to a lane's W, for dZ (B, H)."""

    def weights_changed(self) -> None:
        """Read W anew: something else has changed it."""

    def write_back(self) -> None:
        """Write what was added to W itself."""


class BlasFirstLayer:
    """The first layer by BLAS: the rows of W that belong to columns in use are picked out and multiplied."""

    def __init__(self, W: Array) -> None:
        self.W = W
        self._picked: Array | None = None
        self._change: Array | None = None

    def forward(self, lane: int, examples: Examples, out: Array) -> None:
        """Write X W of a lane to out (B, H)."""
        W = self.W[lane]
        if examples.used is not None:
            picked = self._buffers(W)[0][: len(examples.used)]
            W = np.take(W, examples.used, axis=0, out=picked, mode="clip")
        np.matmul(examples.X, W, out=out)

    def add_gradient(self, lane: int, examples: Examples, dZ: Array) -> None:
        """Add Xᵀ dZ to a lane's W, for dZ (B, H): only the rows of columns in use change.

        W is changed a part at a time, as many rows as fit the cache beside X.
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

    def weights_changed(self) -> None:
        """Do nothing: the products are with W itself."""

    def write_back(self) -> None:
        """Do nothing: gradients were added to W itself."""

    def _buffers(self, W: Array) -> tuple[Array, Array]:
        if self._picked is None or self._change is None:
            self._picked, self._change = np.empty_like(W), np.empty_like(W)
        return self._picked, self._change
