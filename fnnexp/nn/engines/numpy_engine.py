"""The first layer with NumPy: rows of images as floats, and the two products with them.

The first layer is by far the largest, and most of its input is zero. So each engine has its own code for it
(:mod:`fnnexp.nn.engines.base`). The NumPy engine omits the columns that are zero in all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array, DType

Inputs = Sequence[tuple[range, Any]]
"""For each group of lanes with the same rows: the lanes, and their rows in the engine's own format."""

ALL_COLUMNS = 0.9
"""If at least this share of the columns is nonzero, use all columns: omitting a few would not save time."""

DENSE = 0.35
"""If at least this share of the pixels is nonzero, BLAS is faster than products that omit every zero
(measured). MNIST has 0.19."""

SAMPLED_ROWS = 1000
"""How many evenly spaced rows of a split are used to estimate its share of nonzero pixels."""

UPDATE_BYTES = 96 * 1024
"""The size in bytes of the part of a lane's first weights that is updated at a time. Changing the number
changes results in the last bits, because it determines the shapes of the products."""


@dataclass(frozen=True)
class Examples:
    """Rows of the input, without the columns that are zero in all of them.

    80.9% of MNIST's pixels are 0, and a batch of 128 images uses some 530 of the 784 columns. The product of
    these columns with the corresponding rows of the weights equals the full product.

    Attributes
    ----------
    X
        (B, U) floats.
    used
        The indices of the U columns in the input (U,), ascending, or None if X has all D columns.
    """

    X: Array
    used: NDArray[np.intp] | None = None


SCALES = ("unit", "raw", "center", "standardize")
"""How inputs can be scaled. The values are the allowed values of ``data.scale``."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """How inputs become floats: (x − shift) / divisor.

    Attributes
    ----------
    divisor
        A number, or one for each input (D,); None for 1.
    shift
        A number for each input (D,); None for 0. Without a shift, zeros stay 0 and need not be computed.
    """

    divisor: float | NDArray[np.float64] | None = None
    shift: NDArray[np.float64] | None = None

    def scaled(self, X: Array, out: Array) -> Array:
        """Write the scaled rows of X (n, D), uint8 or float32, to ``out`` (n, D), and return it.

        The shift is subtracted in float64, because x is often close to it.
        """
        if self.shift is None:
            np.copyto(out, X, casting="same_kind")
        else:
            np.subtract(X, self.shift, out=out, casting="same_kind")
        if self.divisor is not None:
            np.divide(out, np.asarray(self.divisor, out.dtype), out=out)
        return out

    def skips_zeros(self, X: Array) -> bool:
        """Return whether products with X may omit its zeros: X has bytes, and scaling leaves a 0 at 0."""
        return self.shift is None and X.dtype == np.uint8


def mostly_zero(images: Array, scaling: Scaling) -> bool:
    """Return whether products may omit the zero pixels of these images and would then be faster."""
    sample = images[:: max(len(images) // SAMPLED_ROWS, 1)]
    return scaling.skips_zeros(images) and bool(np.count_nonzero(sample) < DENSE * sample.size)


class RowSource(Protocol):
    """The rows of a split, in the format that an engine's first layer reads."""

    def take(self, where: slice | NDArray[np.intp]) -> Any:
        """Return the rows at these indices; the next call may overwrite them."""


class DenseRows:
    """The rows of a split as floats, gathered, converted and scaled into one buffer.

    Parameters
    ----------
    images
        (N, D) uint8 or float32.
    scaling
        How the images are scaled.
    size
        The largest number of rows in one call of :meth:`take`.
    """

    def __init__(self, images: Array, scaling: Scaling, size: int, dtype: DType) -> None:
        self._images, self._scaling = np.asarray(images), scaling
        self._skips_zeros = scaling.skips_zeros(self._images)
        self._gathered = np.empty((size, images.shape[1]), images.dtype)
        self._compact = np.empty(self._gathered.size if self._skips_zeros else 0, np.uint8)
        self._inputs = np.empty(self._gathered.size, dtype)

    def take(self, where: slice | NDArray[np.intp]) -> Examples:
        """Return the rows at these indices, in the buffer that the next call overwrites."""
        if isinstance(where, slice):
            gathered = self._images[where]
        else:
            gathered = self._gathered[: len(where)]
            np.take(self._images, where, axis=0, out=gathered, mode="clip")
        if not self._skips_zeros:
            return Examples(self._scaled(gathered))
        rows, columns = gathered.shape
        used = np.flatnonzero(np.bitwise_or.reduce(gathered, axis=0))
        if len(used) >= ALL_COLUMNS * columns:
            return Examples(self._scaled(gathered))
        compact = self._compact[: rows * len(used)].reshape(rows, len(used))
        return Examples(self._scaled(np.take(gathered, used, axis=1, out=compact, mode="clip")), used)

    def _scaled(self, images: Array) -> Array:
        return self._scaling.scaled(images, self._inputs[: images.size].reshape(images.shape))


class FirstLayer(Protocol):
    """The first layer's weights W (K, D, H) of K networks, and an engine's products with them: X W and Xᵀ dZ.

    An engine may use a copy of W; ``weights_changed`` and ``write_back`` synchronize it with W.
    """

    def forward(self, lanes: range, examples: Any, out: Array) -> None:
        """Write X W, the product of rows and weights, to ``out`` (K, B, H), for some of the K networks."""

    def add_gradient(self, lanes: range, examples: Any, dZ: Array, *, empty: float | None = None) -> None:
        """Add Xᵀ dZ to W for some of the K networks, with dZ (K, B, H).

        If ``empty`` is given, overwrite W with Xᵀ dZ instead. A row of W whose input is 0 in all B examples
        then gets ``empty``, which is 0 or −0.
        """

    def scale(self, lane: int, factor: float) -> None:
        """Multiply the W of one network by a factor."""

    def weights_changed(self) -> None:
        """Discard any copy of W, because other code has changed W."""

    def write_back(self) -> None:
        """Copy the weights back to W, if gradients were added to a copy of W."""


class BlasFirstLayer:
    """The first layer with BLAS, which leaves out the rows of W whose inputs are 0 in a whole batch."""

    def __init__(self, W: Array) -> None:
        self.W = W
        self._selected_rows: Array | None = None
        self._gradient: Array | None = None

    def forward(self, lanes: range, examples: Examples, out: Array) -> None:
        """Write X W, the product of rows and weights, to ``out`` (K, B, H), for some of the K networks."""
        for lane in lanes:
            W = self.W[lane]
            if examples.used is not None:
                selected = self._buffers(W)[0][: len(examples.used)]
                W = np.take(W, examples.used, axis=0, out=selected, mode="clip")
            np.matmul(examples.X, W, out=out[lane])

    def add_gradient(
        self, lanes: range, examples: Examples, dZ: Array, *, empty: float | None = None
    ) -> None:
        """Add Xᵀ dZ to W for some of the K networks; if ``empty`` is given, overwrite W with Xᵀ dZ."""
        for lane in lanes:
            self._add_gradient(self.W[lane], examples, dZ[lane], empty)

    def _add_gradient(self, W: Array, examples: Examples, dZ: Array, empty: float | None) -> None:
        """Add Xᵀ dZ to W (D, H) for dZ (B, H); if ``empty`` is given, overwrite W with Xᵀ dZ.

        W is updated a few rows at a time, so that they fit in the cache together with X. A row of W is
        computed only if its input is not 0 in all examples; otherwise its gradient is 0.
        """
        X, used = examples.X, examples.used
        selected, gradients = self._buffers(W)
        if empty is not None and used is not None:
            W.fill(empty)
        step = max(UPDATE_BYTES // (W.shape[1] * W.itemsize), 1)
        for start in range(0, X.shape[1], step):
            columns = slice(start, min(start + step, X.shape[1]))
            gradient = np.matmul(X[:, columns].T, dZ, out=gradients[: columns.stop - start])
            if empty is not None:
                W[columns if used is None else used[columns]] = gradient
            elif used is None:
                np.add(W[columns], gradient, out=W[columns])
            else:
                rows = np.take(W, used[columns], axis=0, out=selected[: columns.stop - start], mode="clip")
                np.add(rows, gradient, out=rows)
                W[used[columns]] = rows

    def scale(self, lane: int, factor: float) -> None:
        """Multiply the W of one network by a factor."""
        np.multiply(self.W[lane], factor, out=self.W[lane])

    def weights_changed(self) -> None:
        """Do nothing: this engine keeps no copy of W that could be out of date."""

    def write_back(self) -> None:
        """Do nothing: this engine keeps no copy of W, and :meth:`add_gradient` has changed W itself."""

    def _buffers(self, W: Array) -> tuple[Array, Array]:
        if self._selected_rows is None or self._gradient is None:
            self._selected_rows, self._gradient = np.empty_like(W), np.empty_like(W)
        return self._selected_rows, self._gradient
