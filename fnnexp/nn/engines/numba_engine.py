"""The numba engine: compiled products that use only the nonzero pixels, and compiled descent row by row.

80.9% of MNIST's pixels are 0. The NumPy engine omits the columns that are zero in a whole batch, which saves
a third of the time of a product. Omitting every zero saves four fifths of the multiplications, but BLAS
cannot do that. Here a batch is a list of its nonzero pixels, row by row and column by column (CSR and CSC).
Both products are sums over a few rows of a matrix:

    (X W)_b = Σ_d x_bd W_d        (Xᵀ dZ)_d = Σ_b x_bd dZ_b

The running sums stay in the vector registers of the processor. Numba's vectorizer would load and store the
sums for each term, so this module defines the necessary vector operations in LLVM.

The results equal the NumPy engine's up to rounding, not bitwise, because they are summed in another order.
The networks of a stack are computed one by one, so a network is bitwise the same in any stack.

Compiled code cannot call Python, so this module has its own definitions of the activations and the softmax
for descent row by row. It does not train networks row by row if an activation is not in :data:`COMPILED`.

All compiled functions are in this file, because Numba's cache checks the age of the file that contains a
function, but not of the files it imports from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_name
from numba import types
from numba.extending import intrinsic, models, register_model
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array, DType
from fnnexp.nn.engines.numpy_engine import (
    BlasFirstLayer,
    DenseRows,
    Examples,
    Inputs,
    Scaling,
    mostly_zero,
)
from fnnexp.nn.network import Architecture, Parameters, activations_of
from fnnexp.nn.pieces import activations as pieces
from fnnexp.nn.pieces.activations import (
    GELU_CLIP,
    GELU_CUBIC,
    GELU_SCALE,
    SELU_ALPHA,
    SELU_SCALE,
    SIGMOID_CLIP,
    Activation,
)
from fnnexp.nn.pieces.losses import exponentiate, probabilities, subtract_largest
from fnnexp.nn.pieces.metrics import METRICS
from fnnexp.nn.pieces.optimizers import (
    Update,
    adagrad,
    adam,
    bias_corrections,
    decay_factors,
    momentum,
    nesterov,
    rmsprop,
)

Function = TypeVar("Function", bound=Callable[..., Any])

VECTOR = 16
"""Rows of a matrix are padded to a multiple of this length. Each row starts at a cache line. Otherwise every
load would touch two cache lines."""

CACHE_LINE = 64
"""The size of a cache line in bytes."""

TILE = 64
"""The number of columns in a tile, which is stored contiguously, row by row. A tile of 128 rows fits in the
first-level cache, and the second-level cache delivers only 32 to 64 bytes a cycle. The number changes no
result."""

ROWS_OF_A_STEP = 32
"""The number of rows of the first weights in a tile that are changed at once. Their gradient stays in the
first-level cache. The number changes no result."""

ROWS_AT_ONCE = 256
"""The largest number of rows in one call of :meth:`RowDescent.descend`. The number changes no result."""

RELU, TANH, TANH_AS_PUBLISHED, SIGMOID, LEAKY_RELU, ELU, SELU, SOFTPLUS, SOFTSIGN, IDENTITY = range(10)
GELU, SILU = NEED_Z = (10, 11)
COMPILED: dict[tuple[Callable[..., None], Callable[..., None]], int] = {
    (pieces.relu_forward, pieces.relu_derivative): RELU,
    (pieces.tanh_forward, pieces.tanh_derivative): TANH,
    (pieces.tanh_forward, pieces.tanh_as_published_derivative): TANH_AS_PUBLISHED,
    (pieces.sigmoid_forward, pieces.sigmoid_derivative): SIGMOID,
    (pieces.leaky_relu_forward, pieces.leaky_relu_derivative): LEAKY_RELU,
    (pieces.elu_forward, pieces.elu_derivative): ELU,
    (pieces.selu_forward, pieces.selu_derivative): SELU,
    (pieces.softplus_forward, pieces.softplus_derivative): SOFTPLUS,
    (pieces.softsign_forward, pieces.softsign_derivative): SOFTSIGN,
    (pieces.identity_forward, pieces.identity_derivative): IDENTITY,
    (pieces.gelu_forward, pieces.gelu_derivative): GELU,
    (pieces.silu_forward, pieces.silu_derivative): SILU,
}
"""The number that stands for each activation in compiled code. Keys are its forward and derivative."""


def number_of(activation: Activation) -> int | None:
    """Return the number that stands for an activation in compiled code, or None if it is not compiled.

    Leaky ReLUs of all slopes have the same number.
    """
    forward, derivative = (
        function.func if isinstance(function, partial) else function
        for function in (activation.forward, activation.derivative)
    )
    return COMPILED.get((forward, derivative))


def can_descend(architecture: Architecture) -> bool:
    """Return whether :class:`RowDescent` supports the activation of each hidden layer."""
    return all(number_of(activation) is not None for activation in activations_of(architecture))


def version() -> str:
    """Return the versions of Numba and LLVM, and the processor, which determine how results are rounded."""
    return f"numba {numba.__version__}, llvmlite {llvmlite.__version__}, {get_host_cpu_name()}"


def compiled(function: Function) -> Function:
    """Compile a function at its first call, and cache the machine code if Numba has a cache folder."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    compiled_function: Function
    try:
        compiled_function = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba found no folder it can write to
        compiled_function = numba.njit(**options)(function)
    return compiled_function


def inlined(function: Function) -> Function:
    """Compile a function so that its code is copied into each compiled function that calls it."""
    compiled_function: Function = numba.njit(nogil=True, error_model="numpy", forceinline=True)(function)
    return compiled_function


# --- vectors ------------------------------------------------------------------------------------------------


class _Vector(types.Type):  # type: ignore[misc]
    """Numba's type of a SIMD vector of floats. LLVM keeps the vector in as many registers as it needs."""

    def __init__(self, dtype: Any, width: int) -> None:
        self.dtype, self.width = dtype, width
        super().__init__(name=f"vector({dtype}, {width})")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector_type: _Vector) -> None:
        super().__init__(
            manager,
            vector_type,
            ir.VectorType(manager.lookup(vector_type.dtype).get_value_type(), vector_type.width),
        )


def _row_sum(width: int) -> Any:
    """Return two compiled functions that sum weighted rows of a matrix M, ``width`` columns at a time.

    The first writes the sum to ``out``, as :func:`row_sum` does. The second is for an M of exactly ``width``
    columns. It adds the sum to ``out[at : at + width]``, or overwrites these elements with the sum.
    """

    def vector_address(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
        """Return the address of array[at] as a pointer to a vector."""
        data = context.make_array(array_type)(context, builder, array).data
        vector_type = context.get_value_type(_Vector(array_type.dtype, width))
        return builder.bitcast(builder.gep(data, [at]), vector_type.as_pointer())

    @intrinsic  # type: ignore[untyped-decorator]
    def item(_: Any, array: Any, i: Any) -> Any:
        """Return array[i] of a flat array, for i ≥ 0."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(array)(context, builder, arguments[0]).data
            return builder.load(builder.gep(data, [arguments[1]]))

        return array.dtype(array, types.intp), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def zeros(_: Any, array: Any) -> Any:
        """Return a SIMD vector of zeros with the array's dtype."""
        vector_type = _Vector(array.dtype, width)
        return vector_type(array), lambda context, *_: ir.Constant(context.get_value_type(vector_type), None)

    @intrinsic  # type: ignore[untyped-decorator]
    def load(_: Any, array: Any, at: Any) -> Any:
        """Return array[at : at + width] of a flat array."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = vector_address(context, builder, signature.args[0], *arguments)
            return builder.load(address, align=array.dtype.bitwidth // 8)

        return _Vector(array.dtype, width)(array, types.intp), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def store(_: Any, vector: Any, array: Any, at: Any) -> Any:
        """Write the vector to array[at : at + width] of a flat array."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = vector_address(context, builder, signature.args[1], *arguments[1:])
            builder.store(arguments[0], address, align=array.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(vector, array, types.intp), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def multiply_add(_: Any, x: Any, vector: Any, total: Any) -> Any:
        """Return x · vector + total, rounded only once if the processor supports it."""

        def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            vector_type = context.get_value_type(vector)
            undefined = ir.Constant(vector_type, ir.Undefined)
            mask_type = ir.VectorType(ir.IntType(32), width)
            first_element = builder.insert_element(undefined, arguments[0], ir.Constant(ir.IntType(32), 0))
            broadcast = builder.shuffle_vector(first_element, undefined, ir.Constant(mask_type, None))
            intrinsic_name = f"llvm.fmuladd.v{width}f{vector.dtype.bitwidth}"
            fused_multiply_add = builder.module.declare_intrinsic(
                intrinsic_name, fnty=ir.FunctionType(vector_type, [vector_type] * 3)
            )
            return builder.call(fused_multiply_add, [broadcast, *arguments[1:]])

        return total(vector.dtype, vector, total), generate

    @inlined
    def total_of(indices: Array, values: Array, first: int, stop: int, M: Array, H: int, out: Array) -> None:
        for column in range(0, H, width):
            at = min(column, H - width)  # overlapping columns get the same value twice
            total = zeros(M)
            for i in range(first, stop):
                total = multiply_add(item(values, i), load(M, np.intp(item(indices, i)) * H + at), total)
            store(total, out, at)

    @inlined
    def add_total_of(
        indices: Array, values: Array, first: int, stop: int, M: Array, out: Array, at: int, overwrite: bool
    ) -> None:
        total = zeros(M)
        for i in range(first, stop):
            total = multiply_add(item(values, i), load(M, np.intp(item(indices, i)) * width), total)
        before = zeros(M) if overwrite else load(out, at)
        store(multiply_add(M.dtype.type(1), before, total), out, at)

    return total_of, add_total_of


_sum_by_64, _add_sum_by_64 = _row_sum(64)
_sum_by_32, _add_sum_by_32 = _row_sum(32)
_sum_by_16, _add_sum_by_16 = _row_sum(16)


@inlined
def row_sum(indices: Array, values: Array, first: int, stop: int, M: Array, H: int, out: Array) -> None:
    """Write the weighted sum of rows of a matrix M: Σ values[i] M[indices[i]] for i in first … stop − 1.

    Parameters
    ----------
    indices, values
        The row numbers of M, and their weights.
    M
        A flat C-ordered matrix.
    H
        The length of its rows, a multiple of :data:`VECTOR`.
    out
        The sum (H,).
    """
    if H >= 64:
        _sum_by_64(indices, values, first, stop, M, H, out)
    elif H >= 32:
        _sum_by_32(indices, values, first, stop, M, H, out)
    else:
        _sum_by_16(indices, values, first, stop, M, H, out)


def padded(rows: int, width: int, dtype: DType) -> Array:
    """Return zeros (rows, H) that start at a cache line. H is ``width`` rounded up to :data:`VECTOR`.

    >>> padded(3, 10, np.dtype("f4")).shape
    (3, 16)
    """
    size = rows * -(-width // VECTOR) * VECTOR
    buffer = np.zeros(size * dtype.itemsize + CACHE_LINE, np.uint8)
    first = -buffer.ctypes.data % CACHE_LINE
    return buffer[first : first + size * dtype.itemsize].view(dtype).reshape(rows, -1)


# --- rows of images -----------------------------------------------------------------------------------------


@compiled
def compress(
    images: Array, where: Array, table: Array, pointers: Array, columns: Array, values: Array
) -> None:
    """List the nonzero pixels of images[where], row by row: write their columns and their input values.

    Parameters
    ----------
    images
        (N, D) uint8.
    where
        Row numbers (B,).
    table
        The input value for each byte (256,).
    pointers, columns, values
        Written to: row b has columns[pointers[b] : pointers[b + 1]], and the same part of values.
    """
    D = images.shape[1]
    words_end = D // 8 * 8
    n = 0
    for b in range(len(where)):
        pointers[b] = n
        row = images[where[b]]
        words = row[:words_end].view(np.uint64)
        for w in range(len(words)):
            if words[w] != 0:
                for d in range(8 * w, 8 * w + 8):
                    columns[n], values[n] = d, table[row[d]]
                    n += row[d] != 0  # faster than `if`: the next pixel overwrites a 0
        for d in range(words_end, D):
            columns[n], values[n] = d, table[row[d]]
            n += row[d] != 0
    pointers[len(where)] = n


@compiled
def transpose(
    pointers: Array, columns: Array, values: Array, starts: Array, rows: Array, by_column: Array
) -> None:
    """List the pixels column by column, given the lists that :func:`compress` has written row by row.

    Parameters
    ----------
    pointers, columns, values
        The lists of :func:`compress`.
    starts, rows, by_column
        Written to: column d has the row numbers rows[starts[d] : starts[d + 1]], and the same part of
        by_column has its values. ``starts`` is (D + 2,); its last element is used only while the lists are
        written.
    """
    starts[:] = 0
    for i in range(pointers[-1]):
        starts[np.intp(columns[i]) + 2] += 1
    for d in range(2, len(starts)):
        starts[d] += starts[d - 1]
    for b in range(len(pointers) - 1):
        for i in range(pointers[b], pointers[b + 1]):
            column = np.intp(columns[i]) + 1
            at = starts[column]
            rows[at], by_column[at] = b, values[i]
            starts[column] = at + 1


class Tiles:
    """K matrices (R, H) that are cut into tiles of :data:`TILE` columns. A tile is contiguous, row by row.

    Attributes
    ----------
    flat
        (K, R · width): for each matrix, one tile after another. The last tile may have fewer columns.
    width
        H, rounded up to a multiple of :data:`VECTOR`; the columns beyond H are padding.
    """

    def __init__(self, matrices: int, rows: int, columns: int, dtype: DType) -> None:
        padded_rows = padded(matrices * rows, columns, dtype)
        self.flat, self.width = padded_rows.reshape(matrices, -1), padded_rows.shape[1]
        bounds = [(at, min(at + TILE, self.width)) for at in range(0, self.width, TILE)]
        self._tiles = [
            [
                (slice(at, min(stop, columns)), flat[rows * at : rows * stop].reshape(rows, -1))
                for at, stop in bounds
            ]
            for flat in self.flat
        ]

    def copy_from(self, k: int, matrix: Array) -> None:
        """Copy a matrix (R, H) into the tiles of matrix k."""
        for columns, tile in self._tiles[k]:
            tile[:, : columns.stop - columns.start] = matrix[:, columns]

    def copy_to(self, k: int, matrix: Array) -> None:
        """Copy the tiles of matrix k to a matrix (R, H)."""
        for columns, tile in self._tiles[k]:
            matrix[:, columns] = tile[:, : columns.stop - columns.start]


@compiled
def multiply(
    pointers: Array,
    columns: Array,
    values: Array,
    W: Array,
    H: int,
    row: Array,
    out: Array,
    first: int,
    stop: int,
) -> None:
    """Write the columns ``first`` to ``stop`` − 1 of X W to ``out`` (K, B, H'), for each of K networks.

    Parameters
    ----------
    pointers, columns, values
        The rows X, as :func:`compress` writes them.
    W, H
        The flat array (K, D · H) of :class:`Tiles`, and H, which is H' with the padding.
    row
        A buffer (H,).
    out
        C-ordered.
    first, stop
        The bounds of whole tiles.
    """
    D, B, out_width = W.shape[1] // H, len(pointers) - 1, out.shape[2]
    for k in range(len(W)):
        flat = out[k].reshape(-1)
        for first_column in range(first, stop, TILE):
            width = min(TILE, H - first_column)
            tile = W[k, first_column * D : (first_column + width) * D]
            if first_column + TILE <= out_width:  # faster, because the compiler knows the width
                for b in range(B):
                    out_row = flat[b * out_width + first_column : b * out_width + first_column + TILE]
                    _sum_by_64(columns, values, pointers[b], pointers[b + 1], tile, TILE, out_row)
                continue
            for b in range(B):
                row_sum(columns, values, pointers[b], pointers[b + 1], tile, width, row)
                for h in range(out_width - first_column):
                    out[k, b, first_column + h] = row[h]


@inlined
def copy_to_tile(M: Array, columns: int, first: int, width: int, tile: Array) -> int:
    """Copy up to ``width`` columns of a matrix M (B, columns), starting at ``first``, to a tile (B, width).

    Both arrays are flat. Return how many columns were copied. The padding of the last tile is not changed.
    """
    used_width = min(width, columns - first)
    for b in range(len(tile) // width):
        tile_row = tile[b * width : b * width + used_width]
        row = M[b * columns + first : b * columns + first + used_width]
        for h in range(used_width):
            tile_row[h] = row[h]
    return used_width


@compiled
def add_transposed_product(
    starts: Array,
    rows: Array,
    by_column: Array,
    dZ: Array,
    tiles: Array,
    H: int,
    row: Array,
    W: Array,
    tiled: bool,
    overwrite: bool,
    first: int,
    stop: int,
) -> None:
    """Add Xᵀ dZ to the W of each of K networks, or overwrite W with it.

    Parameters
    ----------
    starts, rows, by_column
        X, as :func:`transpose` writes it.
    dZ
        (K, B, H'), C-ordered.
    tiles
        A buffer (1, B · H): the flat array of :class:`Tiles`, whose padding is 0.
    H
        The number of hidden units H' with the padding.
    row
        A buffer (H,).
    W
        The weights: (K, D · H), the flat array of :class:`Tiles`, or (K, D · H') row by row.
    tiled
        Whether W is the array of :class:`Tiles`.
    overwrite
        Whether W is overwritten.
    first, stop
        The bounds of the columns of W to change, those of whole tiles.
    """
    K, B, columns = dZ.shape
    D = len(starts) - 2
    for k in range(K):
        W_k, dZ_k = W[k], dZ[k].reshape(-1)
        for first_column in range(first, stop, TILE):
            width = min(TILE, H - first_column)
            tile = tiles[0, first_column * B : (first_column + width) * B]
            used_width = copy_to_tile(dZ_k, columns, first_column, width, tile)
            # With the padding, whose gradient is 0, a row of a tile is a whole number of vectors.
            by_vectors = width if tiled or used_width == width else 0
            for d in range(D):
                at = first_column * D + d * width if tiled else d * columns + first_column
                if starts[d] == starts[d + 1]:
                    if overwrite:
                        W_k[at : at + used_width] = 0
                elif by_vectors == 64:
                    _add_sum_by_64(rows, by_column, starts[d], starts[d + 1], tile, W_k, at, overwrite)
                elif by_vectors == 32:
                    _add_sum_by_32(rows, by_column, starts[d], starts[d + 1], tile, W_k, at, overwrite)
                elif by_vectors == 16:
                    _add_sum_by_16(rows, by_column, starts[d], starts[d + 1], tile, W_k, at, overwrite)
                else:
                    row_sum(rows, by_column, starts[d], starts[d + 1], tile, width, row)
                    for h in range(used_width):
                        W_k[at + h] = row[h] + (0 if overwrite else W_k[at + h])


class SparseExamples:
    """Rows of the input as lists of their nonzero pixels, in buffers that are reused.

    Parameters
    ----------
    max_pixels
        The largest number of nonzero pixels in all rows together.
    max_rows
        The largest number of rows.
    columns
        The number of pixels of a row, D.
    """

    def __init__(self, max_pixels: int, max_rows: int, columns: int, dtype: DType) -> None:
        self._pointers, self._starts = np.empty(max_rows + 1, np.intp), np.empty(columns + 2, np.intp)
        self._columns, self._values = np.empty(max_pixels + 1, np.uint32), np.empty(max_pixels + 1, dtype)
        self._rows, self._by_column = np.empty(max_pixels, np.uint32), np.empty(max_pixels, dtype)
        self.rows = 0
        self._transposed = False

    def fill(self, images: Array, where: Array, table: Array) -> None:
        """Replace the rows by images[where], whose nonzero pixels are listed by :func:`compress`."""
        self.are_filled(len(where))
        compress(images, where, table, *self.by_row)

    def are_filled(self, rows: int) -> None:
        """Note that other code has listed this number of new rows in the buffers, row by row.

        :attr:`by_column` must then list their pixels anew.
        """
        self.rows, self._transposed = rows, False

    @property
    def buffers(self) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
        """The arrays for the lists by row, and those for the lists by column, for code that fills them."""
        return (self._pointers, self._columns, self._values), (self._starts, self._rows, self._by_column)

    @property
    def by_row(self) -> tuple[Array, Array, Array]:
        """The pixels row by row, as :func:`compress` writes them."""
        return self._pointers[: self.rows + 1], self._columns, self._values

    @property
    def by_column(self) -> tuple[Array, Array, Array]:
        """The pixels column by column; they are listed by :func:`transpose` when they are first needed."""
        lists = self._starts, self._rows, self._by_column
        if not self._transposed:
            transpose(*self.by_row, *lists)
            self._transposed = True
        return lists


class SparseRows:
    """The rows of a split as lists of their nonzero pixels. For the parameters, see :class:`DenseRows`.

    The images must be bytes, and the scaling must leave a 0 at 0.
    """

    def __init__(self, images: NDArray[np.uint8], scaling: Scaling, size: int, dtype: DType) -> None:
        self.images = np.asarray(images)
        self.table = scaling.scaled(np.arange(256), np.empty(256, dtype))
        self._shape = size * images.shape[1], size, images.shape[1], dtype
        self._examples = self.new_examples()
        self.assistant: Assistant | None = None

    def new_examples(self) -> SparseExamples:
        """Return new buffers for the largest number of rows that :meth:`take` can return."""
        return SparseExamples(*self._shape)

    def take(self, where: slice | NDArray[np.intp]) -> SparseExamples:
        """Return the rows at these indices, in buffers that the next call overwrites."""
        row_numbers = np.arange(where.start, where.stop) if isinstance(where, slice) else where
        if self.assistant is not None:
            return self.assistant.take(len(row_numbers))
        self._examples.fill(self.images, row_numbers, self.table)
        return self._examples


@dataclass(frozen=True)
class ListedExamples:
    """Rows of the input as lists of all their values, in the format of :class:`SparseExamples`."""

    by_row: tuple[Array, Array, Array]


class ListedRows:
    """The rows of a split as lists of all their values, for descent row by row, whose code reads only lists.

    They are for inputs that are not bytes, or that the scaling shifts. For the parameters, see
    :class:`DenseRows`.
    """

    def __init__(self, images: Array, scaling: Scaling, size: int, dtype: DType) -> None:
        columns = images.shape[1]
        self._rows = DenseRows(images, scaling, size, dtype)
        self._pointers = np.arange(size + 1) * columns
        self._columns = np.tile(np.arange(columns, dtype=np.uint32), size)

    def take(self, where: slice | NDArray[np.intp]) -> ListedExamples:
        """Return the rows at these indices, in buffers that the next call overwrites."""
        X = self._rows.take(where).X
        return ListedExamples((self._pointers[: len(X) + 1], self._columns, X.reshape(-1)))


def make_rows(images: Array, scaling: Scaling, size: int, dtype: DType) -> DenseRows | SparseRows:
    """Prepare the rows of a split: as lists of nonzero pixels if most are 0, else as floats for BLAS."""
    return (SparseRows if mostly_zero(images, scaling) else DenseRows)(images, scaling, size, dtype)


def make_lists(images: Array, scaling: Scaling, size: int, dtype: DType) -> SparseRows | ListedRows:
    """Prepare the rows of a split for descent row by row: as lists of nonzero pixels, or of all values."""
    return (SparseRows if scaling.skips_zeros(images) else ListedRows)(images, scaling, size, dtype)


class SparseFirstLayer:
    """The first layer for rows that are lists of nonzero pixels. Rows of floats are multiplied with BLAS.

    The first call of :meth:`forward` copies W into tiles, and all calls multiply with this copy. From then on
    :meth:`add_gradient` adds to the copy, and :meth:`write_back` copies it to W. If :meth:`forward` is never
    called, because W is an array for gradients, there is no copy: then gradients are added to W itself.
    """

    def __init__(self, W: Array) -> None:
        self.W = W
        self._blas = BlasFirstLayer(W)
        self._copies: Tiles | None = None
        self._current: set[int] = set()
        self._row = padded(1, W.shape[2], W.dtype)[0]
        self._dZ: dict[int, Tiles] = {}
        self.assistant: Assistant | None = None

    def forward(self, lanes: range, examples: Examples | SparseExamples, out: Array) -> None:
        """Write X W, the product of rows and weights, to ``out`` (K, B, H), for some of the K networks."""
        if isinstance(examples, Examples):
            self._blas.forward(lanes, examples, out)
            return
        W, chosen = self.tiles(lanes), slice(lanes.start, lanes.stop)
        Z = np.ascontiguousarray(out[chosen])  # copies only the logits, which are not C-ordered
        if self.assistant is not None:
            self.assistant.multiply(examples, W, self._row, Z)
            return
        multiply(*examples.by_row, W.flat[chosen], W.width, self._row, Z, 0, W.width)
        if not out.flags.c_contiguous:
            out[chosen] = Z

    def tiles(self, lanes: range) -> Tiles:
        """Return the copies of W in tiles.

        For these networks, the copies are made first if they are missing or out of date.
        """
        if self._copies is None:
            lanes_in_all, D, H = self.W.shape
            self._copies = Tiles(lanes_in_all, D, H, self.W.dtype)
        for lane in lanes:
            if lane not in self._current:
                self._copies.copy_from(lane, self.W[lane])
                self._current.add(lane)
        return self._copies

    def buffer_for(self, dZ: Array) -> Tiles:
        """Return a buffer in tiles for the dZ of one network. It is the same for all dZ with as many rows."""
        _, B, H = dZ.shape
        if B not in self._dZ:
            self._dZ[B] = Tiles(1, B, H, dZ.dtype)
        return self._dZ[B]

    def add_gradient(
        self, lanes: range, examples: Examples | SparseExamples, dZ: Array, *, empty: float | None = None
    ) -> None:
        """Add Xᵀ dZ to W for some of the K networks; if ``empty`` is given, overwrite W with Xᵀ dZ."""
        if isinstance(examples, Examples):
            self._blas.add_gradient(lanes, examples, dZ, empty=empty)
            return
        # Overwriting writes 0 even if `empty` is −0. Adding it later changes nothing, as no sum here is −0.
        overwrite = empty is not None
        buffer = self.buffer_for(dZ)
        buffers, by_column = (buffer.flat, buffer.width, self._row), examples.by_column
        if self._copies is not None and self._current.issuperset(lanes):
            chosen = slice(lanes.start, lanes.stop)
            dZ_chosen = np.ascontiguousarray(dZ[chosen])
            if self.assistant is not None:
                self.assistant.add_transposed_product(by_column, dZ_chosen, buffers, self._copies)
                return
            add_transposed_product(
                *by_column, dZ_chosen, *buffers, self._copies.flat[chosen], True, overwrite, 0, buffer.width
            )
            return
        for k in lanes:
            dZ_k = np.ascontiguousarray(dZ[k : k + 1])
            W = self.W[k].reshape(1, -1)
            add_transposed_product(*by_column, dZ_k, *buffers, W, False, overwrite, 0, buffer.width)

    def scale(self, lane: int, factor: float) -> None:
        """Multiply the W of one network by a factor."""
        W = self.W[lane]
        if self._copies is not None and lane in self._current:
            W = self._copies.flat[lane]
        np.multiply(W, factor, out=W)

    def weights_changed(self) -> None:
        """Mark the copies of W as out of date, because other code has changed W."""
        self._current.clear()

    def write_back(self) -> None:
        """Copy the weights from the tiles back to W."""
        for lane in self._current:
            assert self._copies is not None
            self._copies.copy_to(lane, self.W[lane])


# --- update rules -------------------------------------------------------------------------------------------

MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM = range(5)
RULES: dict[Update, tuple[int, tuple[str, ...]]] = {
    momentum: (MOMENTUM, ("lr", "momentum")),
    nesterov: (NESTEROV, ("lr", "momentum")),
    adagrad: (ADAGRAD, ("lr", "epsilon")),
    rmsprop: (RMSPROP, ("lr", "epsilon", "rho")),
    adam: (ADAM, ("lr", "epsilon", "beta1", "beta2")),
}
"""The number of each update rule that is compiled, and the names of the numbers that it uses."""


@inlined
def apply(rule: int, theta: Array, grad: Array, a: Array, b: Array, numbers: Array) -> None:
    """Apply an update rule to some parameters (n,) of one network.

    ``grad`` is their gradient; ``a`` and ``b`` are the first and last array of the optimizer's state.
    ``numbers`` are the hyperparameters, as from :func:`numbers_of`. Each array is read and written once. An
    element is computed by the same operations in the same order as by the rule in
    :mod:`fnnexp.nn.pieces.optimizers`, so the results are bitwise equal.
    """
    lr = numbers[0]
    if rule == MOMENTUM:
        mu = numbers[1]
        for i in range(len(theta)):
            a[i] = a[i] * mu + grad[i]
            theta[i] -= a[i] * lr
    elif rule == NESTEROV:
        mu = numbers[1]
        for i in range(len(theta)):
            a[i] = a[i] * mu + grad[i]
            theta[i] -= (grad[i] + mu * a[i]) * lr
    elif rule == ADAGRAD:
        epsilon = numbers[1]
        for i in range(len(theta)):
            a[i] += grad[i] * grad[i]
            theta[i] -= grad[i] / (np.sqrt(a[i]) + epsilon) * lr
    elif rule == RMSPROP:
        epsilon, rho = numbers[1], numbers[2]
        for i in range(len(theta)):
            square = grad[i] * grad[i]
            a[i] = (a[i] - square) * rho + square
            theta[i] -= grad[i] / (np.sqrt(a[i]) + epsilon) * lr
    else:
        epsilon, beta1, beta2, corrected2 = numbers[1], numbers[2], numbers[3], numbers[4]
        for i in range(len(theta)):
            g = grad[i]
            square = g * g
            a[i] = (a[i] - g) * beta1 + g
            b[i] = (b[i] - square) * beta2 + square
            theta[i] -= a[i] / (np.sqrt(b[i] / corrected2) + epsilon) * lr


@compiled
def apply_from(first: int, rule: int, theta: Array, grad: Array, a: Array, b: Array, numbers: Array) -> None:
    """Apply an update rule to the parameters from index ``first`` on of each of K networks.

    ``numbers`` is (K, n), as from :func:`numbers_of`; the other arrays are (K, P).
    """
    for k in range(len(theta)):
        apply(rule, theta[k, first:], grad[k, first:], a[k, first:], b[k, first:], numbers[k])


def numbers_of(update: Update, step: int, hyper: Mapping[str, Array]) -> Array:
    """Return an update rule's hyperparameters at a step as an array (K, n), as :func:`apply` reads them.

    For Adam, the learning rate includes one of the bias corrections, and the other one is the last number.
    """
    numbers = np.concatenate([hyper[name] for name in RULES[update][1]], axis=1)
    if update is adam:
        corrected1, corrected2 = bias_corrections(hyper, step)
        numbers[:, :1] /= corrected1
        numbers = np.concatenate([numbers, corrected2], axis=1)
    return numbers


MOST_NUMBERS = 5
"""The largest number of numbers that :func:`apply` reads."""


def compiled_update(update: Update) -> Update:
    """Return a function that applies an update rule in compiled code, called like the rule itself."""
    rule, _ = RULES[update]

    def apply_compiled(
        theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]
    ) -> None:
        apply_from(0, rule, theta, grad, slots[0], slots[-1], numbers_of(update, step, hyper))

    return apply_compiled


UPDATES: dict[Update, Update] = {update: compiled_update(update) for update in RULES}
"""The compiled form of each update rule that has one."""


@compiled
def step_first_weights(
    X: tuple[Array, Array, Array],
    dZ: Array,
    tiles: Array,
    H: int,
    gradient: Array,
    W: Array,
    a: Array,
    b: Array,
    rule: int,
    numbers: Array,
    decay: Array,
    first: int,
    stop: int,
) -> None:
    """Update the first layer's weights of K networks by one step, a few rows of the weights at a time.

    Parameters
    ----------
    X, dZ, tiles, H, first, stop
        As for :func:`add_transposed_product`.
    gradient
        A buffer (n,): the gradient of the rows that are computed together.
    W, a, b
        The weights, and the first and last slot (K, D · H): flat arrays of :class:`Tiles`.
    rule, numbers
        As for :func:`apply`.
    decay
        The factor (K,) by which the weights are multiplied before their step.
    """
    starts, rows, by_column = X
    K, B, columns = dZ.shape
    D = len(starts) - 2
    for k in range(K):
        dZ_k = dZ[k].reshape(-1)
        for first_column in range(first, stop, TILE):
            width = min(TILE, H - first_column)
            tile = tiles[0, first_column * B : (first_column + width) * B]
            copy_to_tile(dZ_k, columns, first_column, width, tile)
            at_once = len(gradient) // width
            for first_row in range(0, D, at_once):
                last_row = min(first_row + at_once, D)
                for d in range(first_row, last_row):
                    at = (d - first_row) * width
                    if starts[d] == starts[d + 1]:
                        gradient[at : at + width] = 0
                    elif width == 64:
                        _add_sum_by_64(rows, by_column, starts[d], starts[d + 1], tile, gradient, at, True)
                    else:
                        total = gradient[at : at + width]
                        row_sum(rows, by_column, starts[d], starts[d + 1], tile, width, total)
                part = slice(first_column * D + first_row * width, first_column * D + last_row * width)
                W_part, count = W[k, part], (last_row - first_row) * width
                if decay[k] != 1:
                    for i in range(count):
                        W_part[i] *= decay[k]
                apply(rule, W_part, gradient[:count], a[k, part], b[k, part], numbers[k])


class FirstStep:
    """Updates the first layer's weights; see :class:`fnnexp.nn.engines.base.FirstStep`.

    Their gradient is never in memory as a whole. The weights and the optimizer's state are in tiles, until
    :meth:`write_back` copies them to the arrays of the stack.
    """

    def __init__(self, first: SparseFirstLayer, slots: Sequence[Array], update: Update) -> None:
        lanes, D, H = first.W.shape
        self._first, self._update, self._slots = first, update, slots
        self._copies = []
        for slot in slots:
            tiles = Tiles(lanes, D, H, slot.dtype)
            for k in range(lanes):
                tiles.copy_from(k, slot[:, : D * H].reshape(first.W.shape)[k])
            self._copies.append(tiles)
        self.slots, self.rule = self._copies, RULES[update][0]
        self._gradient = padded(ROWS_OF_A_STEP, TILE, first.W.dtype).reshape(-1)
        self._numbers, self._decay = np.empty((lanes, 0)), np.empty(lanes)

    def begin(self, step: int, hyper: Mapping[str, Array]) -> None:
        """Begin the step with this number, counted from 1, and with these hyperparameters (K, 1), by name."""
        self._numbers = numbers_of(self._update, step, hyper)
        dtype = self._numbers.dtype
        factors = decay_factors(hyper) if "weight_decay" in hyper else np.ones(len(self._numbers))
        self._decay = factors.astype(dtype)

    def __call__(self, lanes: range, examples: SparseExamples, dZ: Array) -> None:
        """Update the first layer's weights of these networks, by the gradient Xᵀ dZ of a batch."""
        chosen = slice(lanes.start, lanes.stop)
        W, tiles = self._first.tiles(lanes).flat, self._first.buffer_for(dZ)
        a, b = self._copies[0].flat, self._copies[-1].flat
        arguments = (
            examples.by_column,
            np.ascontiguousarray(dZ[chosen]),
            tiles.flat,
            tiles.width,
            self._gradient,
            W[chosen],
            a[chosen],
            b[chosen],
            RULES[self._update][0],
            self._numbers[chosen],
            self._decay[chosen],
        )
        if self._first.assistant is not None:
            self._first.assistant.step_first_weights(arguments)
            return
        step_first_weights(*arguments, 0, tiles.width)

    def finish(self, theta: Array, gradients: Array) -> None:
        """Finish the step: update all other parameters in θ (K, P) by their ``gradients`` (K, P)."""
        first, (rule, _) = self._first.W[0].size, RULES[self._update]
        apply_from(first, rule, theta, gradients, self._slots[0], self._slots[-1], self._numbers)

    def write_back(self) -> None:
        """Copy the weights and the optimizer's state to the stack. Steps change copies in tiles."""
        self._first.write_back()
        for tiles, slot in zip(self._copies, self._slots, strict=True):
            matrices = slot[:, : self._first.W[0].size].reshape(self._first.W.shape)
            for k, matrix in enumerate(matrices):
                tiles.copy_to(k, matrix)


# --- an assistant for mini-batches --------------------------------------------------------------------------

STARTED, DONE, FILLED = 0, CACHE_LINE // 8, 2 * CACHE_LINE // 8
"""The positions of the signals between a caller and its assistant, each in a cache line of its own.

STARTED and DONE count phases: a step has two, the product with the first weights and the step of the first
weights. FILLED counts the batches whose rows are ready.
"""

LONG_WAIT = 1_000_000
"""How often compiled code looks for a signal before it lets Python run: about a millisecond."""

TO_TILES = (True, False)
"""How the gradient is added to the tiles: ``tiled`` and ``overwrite`` of :func:`add_transposed_product`.

Compiled functions get these two, and the first column, as arguments. For constants in their code, Numba would
compile the functions that they call once more.
"""

PLAIN = -1
"""The number of plain descent, in the place of a rule of :data:`RULES`."""


@intrinsic  # type: ignore[untyped-decorator]
def received(_: Any, signals: Any, at: Any) -> Any:
    """Return signals[at], sent by the other thread. What it wrote before can be read from then on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signals)(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", 8)

    return types.int64(signals, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def send(_: Any, signals: Any, at: Any, value: Any) -> Any:
    """Write ``value`` to signals[at], after everything that this thread has written so far."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signals)(context, builder, arguments[0]).data
        builder.store_atomic(arguments[2], builder.gep(data, [arguments[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(signals, types.intp, types.int64), generate


@inlined
def arrives(signals: Array, at: int, value: int) -> bool:
    """Wait until signals[at] is at least ``value``; return False after about a millisecond."""
    looks = 0
    while received(signals, at) < value:
        looks += 1
        if looks == LONG_WAIT:
            return False
    return True


@compiled
def wait_for(signals: Array, at: int, value: int) -> bool:
    """Wait until signals[at] is at least ``value``, as :func:`arrives` does, when called from Python.

    Return False if that takes longer than about a millisecond. Compiled code calls :func:`arrives` instead.
    """
    return arrives(signals, at, value)


@compiled
def multiply_together(
    signals: Array,
    phase: int,
    rows: tuple[Array, Array, Array],
    W: Array,
    H: int,
    row: Array,
    out: Array,
    first: int,
    stop: int,
) -> bool:
    """Compute X W with two threads: signal the assistant to begin, compute the caller's columns, and wait.

    ``phase`` is the value of the signal. Return False if the assistant takes a millisecond longer.
    """
    send(signals, STARTED, phase)
    multiply(rows[0], rows[1], rows[2], W, H, row, out, first, stop)
    return arrives(signals, DONE, phase)


@compiled
def add_together(
    signals: Array,
    phase: int,
    X: tuple[Array, Array, Array],
    dZ: Array,
    tiles: Array,
    H: int,
    row: Array,
    W: Array,
    how: tuple[bool, bool],
    first: int,
    stop: int,
) -> bool:
    """Add Xᵀ dZ to W with two threads: signal the assistant to begin, add the caller's columns, and wait.

    ``phase`` is the value of the signal. Return False if the assistant takes a millisecond longer.
    """
    send(signals, STARTED, phase)
    add_transposed_product(X[0], X[1], X[2], dZ, tiles, H, row, W, how[0], how[1], first, stop)
    return arrives(signals, DONE, phase)


@compiled
def step_together(
    signals: Array,
    phase: int,
    arguments: Any,
    first: int,
    stop: int,
) -> bool:
    """Update W with two threads: signal the assistant to begin, update the caller's columns, and wait.

    ``arguments`` are those of :func:`step_first_weights`, and ``phase`` is the value of the signal. Return
    False if the assistant takes a millisecond longer.
    """
    X, dZ, tiles, H, gradient, W, a, b, rule, numbers, decay = arguments
    send(signals, STARTED, phase)
    step_first_weights(X, dZ, tiles, H, gradient, W, a, b, rule, numbers, decay, first, stop)
    return arrives(signals, DONE, phase)


@compiled
def assist(
    signals: Array,
    source: tuple[Array, Array, Array, int],
    even: tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]],
    odd: tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]],
    full: tuple[Array, Array, Array],
    last: tuple[Array, Array, Array],
    weights: tuple[Array, Array, Array, int, int],
    buffers: tuple[Array, Array],
    rule: int,
    numbers: Array,
    decay: Array,
    how: tuple[bool, bool],
) -> bool:
    """Do the second thread's part of an epoch. Return False if a signal of the caller takes long to arrive.

    Call the function again then: the signals say how far the epoch has come, and the call continues there.

    Parameters
    ----------
    source
        The images, the order of the rows, the input value for each byte, and the number of rows in a batch.
    even, odd
        :attr:`SparseExamples.buffers` of every other batch.
    full, last
        Z and dZ (1, B, H'), and a buffer for tiles of dZ, for full batches and for the last one.
    weights
        W, and the first and last slot (1, D · H); H; the first of the columns that the second thread
        computes.
    buffers
        A row (H,), and the gradient of some rows.
    rule, numbers, decay
        As for :func:`step_first_weights`; ``rule`` is :data:`PLAIN` for plain descent.
    how
        :data:`TO_TILES`.
    """
    images, order, table, size = source
    W, a, b, H, first = weights
    row, gradient = buffers
    steps = -(-len(order) // size)
    for step in range(received(signals, DONE) // 2, steps):
        is_last = (step + 1) * size > len(order)
        # Only the first batch is listed here. Each later batch was listed during the step before its own.
        for ready in range(received(signals, FILLED), step + 1):
            pointers, columns, values = even[0] if ready % 2 == 0 else odd[0]
            batch = order[ready * size : (ready + 1) * size]
            compress(images, batch, table, pointers[: len(batch) + 1], columns, values)
            send(signals, FILLED, ready + 1)
        rows, X = even if step % 2 == 0 else odd
        Z, dZ, tiles = last if is_last else full
        if received(signals, DONE) == 2 * step:
            if not arrives(signals, STARTED, 2 * step + 1):
                return False
            multiply(rows[0][: Z.shape[1] + 1], rows[1], rows[2], W, H, row, Z, first, H)
            send(signals, DONE, 2 * step + 1)
        if step + 1 < steps and received(signals, FILLED) == step + 1:
            pointers, columns, values = odd[0] if step % 2 == 0 else even[0]
            batch = order[(step + 1) * size : (step + 2) * size]
            compress(images, batch, table, pointers[: len(batch) + 1], columns, values)
            send(signals, FILLED, step + 2)
        if not arrives(signals, STARTED, 2 * step + 2):
            return False
        if rule == PLAIN:
            add_transposed_product(X[0], X[1], X[2], dZ, tiles, H, row, W, how[0], how[1], first, H)
        else:
            step_first_weights(X, dZ, tiles, H, gradient, W, a, b, rule, numbers, decay, first, H)
        send(signals, DONE, 2 * step + 2)
    return True


class Assistant:
    """Lets a second thread help to train one network; see :class:`fnnexp.nn.engines.base.Assistant`.

    The second thread lists the pixels of the next batch while the caller computes, and it computes the last
    columns of the first layer. A column is the same sum in every thread, so the results have the same bits.
    """

    def __init__(self, rows: SparseRows, first: SparseFirstLayer, step: FirstStep | None) -> None:
        self._rows, self._first, self._step_of_weights = rows, first, step
        self._examples = [rows.new_examples() for _ in range(2)]
        self._signals = padded(1, 3 * CACHE_LINE // 8, np.dtype(np.int64)).reshape(-1)
        H, dtype = padded(1, first.W.shape[2], first.W.dtype).shape[1], first.W.dtype
        self._middle = min((-(-H // TILE) + 1) // 2 * TILE, H)
        self._buffers = padded(1, H, dtype)[0], padded(ROWS_OF_A_STEP, TILE, dtype).reshape(-1)
        self._numbers, self._decay = np.zeros((1, MOST_NUMBERS), dtype), np.ones(1, dtype)
        self._phase = self._taken = 0
        self._stopped = False
        self._error: BaseException | None = None

    def begin(self, order: Array, size: int, works: Mapping[int, tuple[Array, Array]]) -> Callable[[], None]:
        """Begin an epoch; return the function that the second thread must run."""
        W = self._first.tiles(range(1))
        slots = [W, W] if self._step_of_weights is None else self._step_of_weights.slots
        tiles = {rows: Tiles(1, rows, dZ.shape[2], dZ.dtype).flat for rows, (_, dZ) in works.items()}
        parts = {rows: (*works[rows], tiles[rows]) for rows in works}
        self._signals[:] = 0
        self._phase = self._taken = 0
        self._stopped = False
        self._rows.assistant = self._first.assistant = self
        arguments: tuple[Any, ...] = (
            self._signals,
            (self._rows.images, order, self._rows.table, size),
            *(examples.buffers for examples in self._examples),
            parts[min(size, len(order))],
            parts[len(order) % size or size],
            (W.flat, slots[0].flat, slots[-1].flat, W.width, self._middle),
            self._buffers,
            PLAIN if self._step_of_weights is None else self._step_of_weights.rule,
            self._numbers,
            self._decay,
            TO_TILES,
        )

        def work() -> None:
            try:
                while not self._stopped and not assist(*arguments):
                    time.sleep(0)
            except BaseException as error:  # the caller raises it, and does not wait for ever
                self._error = error

        return work

    def end(self) -> None:
        """End the epoch, so that the second thread stops, also if an exception has cut the epoch short."""
        self._stopped = True
        self._rows.assistant = self._first.assistant = None

    def take(self, rows: int) -> SparseExamples:
        """Wait until the second thread has listed the pixels of the next batch, and return the batch.

        ``rows`` is the number of its rows.
        """
        examples = self._examples[self._taken % 2]
        self._taken += 1
        self._wait(FILLED, self._taken)
        examples.are_filled(rows)
        return examples

    def multiply(self, examples: SparseExamples, W: Tiles, row: Array, Z: Array) -> None:
        """Write X W, the product of a batch and the first weights, to Z (1, B, H), with both threads."""
        self._phase += 1
        if not multiply_together(
            self._signals, self._phase, examples.by_row, W.flat, W.width, row, Z, 0, self._middle
        ):
            self._wait(DONE, self._phase)

    def add_transposed_product(
        self, X: tuple[Array, Array, Array], dZ: Array, buffers: tuple[Array, int, Array], W: Tiles
    ) -> None:
        """Add Xᵀ dZ, the gradient of the first weights, to W, with both threads."""
        self._phase += 1
        if not add_together(self._signals, self._phase, X, dZ, *buffers, W.flat, TO_TILES, 0, self._middle):
            self._wait(DONE, self._phase)

    def step_first_weights(self, arguments: tuple[Any, ...]) -> None:
        """Call the function :func:`step_first_weights` with these arguments, in both threads."""
        *_, numbers, decay = arguments
        self._numbers[:, : numbers.shape[1]], self._decay[:] = numbers, decay
        self._phase += 1
        if not step_together(self._signals, self._phase, arguments, 0, self._middle):
            self._wait(DONE, self._phase)

    def _wait(self, signal: int, value: int) -> None:
        while not wait_for(self._signals, signal, value):
            if self._error is not None:
                raise self._error
            time.sleep(0)


# --- one row at a time --------------------------------------------------------------------------------------


def reassociated(function: Function) -> Function:
    """Compile a function as :func:`inlined` does, and let the compiler reorder its sums, which is faster."""
    compiled_function: Function = numba.njit(
        nogil=True, error_model="numpy", forceinline=True, fastmath={"reassoc"}
    )(function)
    return compiled_function


@reassociated
def inner(a: Array, b: Array) -> Any:
    """Return the inner product Σ a_i b_i."""
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@inlined
def activate(activation: int, slope: float, Z: Array) -> None:
    """Overwrite Z with A = f(Z), as in :mod:`fnnexp.nn.pieces.activations`. A NaN stays a NaN.

    ``activation`` is the number of f in :data:`COMPILED`, and ``slope`` is the slope of a leaky ReLU.
    """
    number = Z.dtype.type
    zero, half, one, minimum = number(0), number(0.5), number(1), number(-SIGMOID_CLIP)
    scale, scale_alpha = number(SELU_SCALE), number(SELU_SCALE * SELU_ALPHA)
    gelu_scale, gelu_cubic = number(GELU_SCALE), number(GELU_CUBIC)
    for h in range(len(Z)):
        z = Z[h]
        if activation == RELU:
            if z < 0:
                Z[h] = 0
        elif activation == SIGMOID:
            Z[h] = one / (one + np.exp(-(minimum if z < minimum else z)))
        elif activation == LEAKY_RELU:
            if z < 0:
                Z[h] = slope * z
        elif activation == ELU:
            if z < 0:
                Z[h] = np.expm1(z)
        elif activation == SELU:
            Z[h] = scale_alpha * np.expm1(z) if z < 0 else scale * z
        elif activation == SOFTPLUS:
            Z[h] = (zero if z < 0 else z) + np.log1p(np.exp(-abs(z)))
        elif activation == SOFTSIGN:
            Z[h] = z / (one + abs(z))
        elif activation == GELU:
            Z[h] = half * z * (one + np.tanh(gelu_scale * z * (one + gelu_cubic * z * z)))
        elif activation == SILU:
            Z[h] = z / (one + np.exp(-z))
        elif activation != IDENTITY:
            Z[h] = np.tanh(z)


@inlined
def times_derivative(activation: int, slope: float, Z: Array, A: Array, dA: Array) -> None:
    """Overwrite dA with dZ = dA · f′, where f′ is computed from A (and Z for activations in NEED_Z)."""
    number = A.dtype.type
    half, one = number(0.5), number(1)
    scale, scale_alpha = number(SELU_SCALE), number(SELU_SCALE * SELU_ALPHA)
    gelu_scale, gelu_cubic = number(GELU_SCALE), number(GELU_CUBIC)
    clip, three = number(GELU_CLIP), number(3)
    for h in range(len(A)):
        a = A[h]
        if activation == RELU:
            if a <= 0:
                dA[h] = 0
        elif activation == SIGMOID:
            dA[h] *= a * (one - a)
        elif activation == LEAKY_RELU:
            if a <= 0:
                dA[h] *= slope
        elif activation == ELU:
            if a < 0:
                dA[h] *= one + a
        elif activation == SELU:
            dA[h] *= scale if a > 0 else scale_alpha + a
        elif activation == SOFTPLUS:
            dA[h] *= -np.expm1(-a)
        elif activation == SOFTSIGN:
            dA[h] *= (one - abs(a)) * (one - abs(a))
        elif activation == GELU:
            z = clip if Z[h] > clip else (-clip if Z[h] < -clip else Z[h])
            square = gelu_cubic * z * z
            t = np.tanh(gelu_scale * z * (one + square))
            dA[h] *= half * (one + t) + a * (one - t) * gelu_scale * (one + three * square)
        elif activation == SILU:
            s = one / (one + np.exp(-Z[h]))
            dA[h] *= s + a * (one - s)
        elif activation != IDENTITY:
            if activation == TANH_AS_PUBLISHED:
                a = np.tanh(a)
            dA[h] *= one - a * a


@inlined
def softmax_gradient(Z: Array, label: int, epsilon: float) -> tuple[float, bool]:
    """Overwrite the logits Z (C,) of a row with dZ; return its loss and whether its prediction is right.

    The formulas are the same as in :mod:`fnnexp.nn.pieces.losses`.
    """
    largest = 0
    for c in range(1, len(Z)):
        if Z[c] > Z[largest]:
            largest = c
    z_y, largest_logit = Z[label] - Z[largest], Z[largest]
    total = Z.dtype.type(0)
    for c in range(len(Z)):
        Z[c] = np.exp(Z[c] - largest_logit)
        total += Z[c]
    log_total = np.log(total)
    p_y = Z[label] / total
    factor = p_y / (p_y + epsilon) if epsilon > 0 else Z.dtype.type(1)
    for c in range(len(Z)):
        Z[c] /= total
    Z[label] -= 1
    for c in range(len(Z)):
        Z[c] *= factor
    loss = log_total - z_y if epsilon == 0 else -np.log(np.exp(z_y - log_total) + epsilon)
    return loss, largest == label


@compiled
def descend(
    rows: tuple[Array, Array, Array],
    labels: Array,
    theta: Array,
    first_W: tuple[Array, int],
    network: tuple[Array, Array, Array, float],
    eta: float,
    epsilon: float,
    scratch: tuple[Array, Array, Array, Array],
    losses: Array,
    hits: Array,
    logits: Array,
) -> None:
    """Take one step of plain gradient descent for each row, with one network.

    Parameters
    ----------
    rows, labels
        The rows, as :func:`compress` writes them, and their labels (B,).
    theta
        The network's parameters (P,), changed in place, except for the first W.
    first_W
        The first W (D, H), flat and padded, changed in place; H.
    network
        n_out of each layer (L,); the offsets of its W and b in theta (L, 2), −1 for no bias; the number of
        each hidden layer's activation in :data:`COMPILED` (L − 1,); the slope of a leaky ReLU.
    eta, epsilon
        The step size η; the ε of the loss.
    scratch
        Buffers: the outputs of all layers (Σ n_out,); their gradients; a row (H,); the Z of hidden layers
        whose derivative needs it (Σ n_out,).
    losses, hits
        Written to: the loss and hit of each row before its step (B,).
    logits
        Written to: the logits of the first B' ≥ 0 rows before their steps (B', C).
    """
    pointers, columns, values = rows
    W1, H = first_W
    widths, offsets, activations, slope = network
    A, dA, row, kept_Z = scratch
    last = len(widths) - 1
    for t in range(len(labels)):
        first, stop = pointers[t], pointers[t + 1]
        start = 0
        for layer in range(last + 1):
            n_out, at_W, at_b = widths[layer], offsets[layer, 0], offsets[layer, 1]
            Z = A[start : start + n_out]
            if at_b >= 0:
                Z[:] = theta[at_b : at_b + n_out]
            else:
                Z[:] = 0
            if layer == 0:
                row_sum(columns, values, first, stop, W1, H, row)
                for h in range(n_out):
                    Z[h] += row[h]
            else:
                n_in = widths[layer - 1]
                for i in range(n_in):
                    a, W = A[start - n_in + i], theta[at_W + i * n_out : at_W + (i + 1) * n_out]
                    for h in range(n_out):
                        Z[h] += a * W[h]
            if layer < last:
                if activations[layer] in NEED_Z:
                    kept_Z[start : start + n_out] = Z
                activate(activations[layer], slope, Z)
            start += n_out
        start -= widths[last]
        if t < len(logits):
            logits[t] = A[start:]
        losses[t], hits[t] = softmax_gradient(A[start:], labels[t], epsilon)
        dA[start:] = A[start:]
        for layer in range(last, -1, -1):
            n_out, at_W, at_b = widths[layer], offsets[layer, 0], offsets[layer, 1]
            dZ = dA[start : start + n_out]
            if layer > 0:
                n_in = widths[layer - 1]
                for i in range(n_in):
                    W = theta[at_W + i * n_out : at_W + (i + 1) * n_out]
                    dA[start - n_in + i] = inner(W, dZ)
                    step = -eta * A[start - n_in + i]
                    for h in range(n_out):
                        W[h] += step * dZ[h]
                inputs = slice(start - n_in, start)
                times_derivative(activations[layer - 1], slope, kept_Z[inputs], A[inputs], dA[inputs])
            for h in range(n_out):
                dZ[h] *= -eta
            if at_b >= 0:
                for h in range(n_out):
                    theta[at_b + h] += dZ[h]
            if layer > 0:
                start -= n_in
            else:
                for i in range(first, stop):
                    x, W = values[i], W1[np.intp(columns[i]) * H : (np.intp(columns[i]) + 1) * H]
                    for h in range(n_out):
                        W[h] += x * dZ[h]


class RowDescent:
    """Trains K networks by plain gradient descent in compiled code, with a step for each row."""

    make_rows = staticmethod(make_lists)
    max_rows = ROWS_AT_ONCE

    def __init__(
        self,
        architecture: Architecture,
        parameters: Parameters,
        lr: Array,
        epsilon: float,
        groups: Sequence[range],
    ) -> None:
        self._theta, self._W = parameters.theta, parameters.W[0]
        dtype, (D, H) = self._theta.dtype, architecture.shapes[0]
        self._copies = [padded(D, H, dtype) for _ in self._theta]
        for copy, W in zip(self._copies, self._W, strict=True):
            copy[:, :H] = W
        self._eta, self._epsilon = lr.reshape(-1), dtype.type(epsilon)
        widths, offsets, offset = [], [], 0
        for (n_in, n_out), bias in zip(architecture.shapes, architecture.biases, strict=True):
            end = offset + n_in * n_out
            widths.append(n_out)
            offsets.append((offset, -1 if bias == "none" else end))
            offset = end if bias == "none" else end + n_out
        numbers = np.array([number_of(activation) for activation in activations_of(architecture)], np.int64)
        self._network = (np.array(widths), np.array(offsets), numbers, dtype.type(architecture.slope))
        outputs, gradients, kept_Z = (np.empty(sum(widths), dtype) for _ in range(3))
        self._scratch = (outputs, gradients, padded(1, H, dtype)[0], kept_Z)
        kept_rows = ROWS_AT_ONCE if METRICS.is_used else 0
        self._logits = np.empty((len(self._theta), kept_rows, architecture.classes), dtype)

    def descend(self, inputs: Inputs, labels: Array) -> tuple[Array, Array]:
        """Take one step for each of B rows in each of K networks.

        Return the loss of each row (K, B), and whether its prediction was right (K, B), both before its step.
        """
        losses, hits = np.empty(labels.shape), np.empty(labels.shape, bool)
        for lanes, examples in inputs:
            for k in lanes:
                W1 = self._copies[k]
                descend(
                    examples.by_row,
                    labels[k],
                    self._theta[k],
                    (W1.reshape(-1), W1.shape[1]),
                    self._network,
                    self._eta[k],
                    self._epsilon,
                    self._scratch,
                    losses[k],
                    hits[k],
                    self._logits[k],
                )
        return losses, hits

    def probabilities(self, rows: int) -> Array:
        """Return the softmax (K, B, C) for the B rows of the last :meth:`descend`, each before its step."""
        P = self._logits[:, :rows].copy()
        row = np.empty((*P.shape[:2], 1), P.dtype)
        subtract_largest(P, row, out=P)
        exponentiate(P, row)
        return probabilities(P, row, out=P)

    def write_back(self) -> None:
        """Copy the first layer's weights to the parameters. All others are changed there by each step."""
        for copy, W in zip(self._copies, self._W, strict=True):
            W[...] = copy[:, : W.shape[1]]


# --- the cache of compiled code -----------------------------------------------------------------------------


def is_compiled(dtype: DType, *, by_row: bool, skips_pixels: bool, update: Update) -> bool:
    """Return whether the code for a kind of training is compiled already, in this process or in the cache.

    If not, the first epoch takes some seconds longer.

    Parameters
    ----------
    dtype
        The dtype of the parameters.
    by_row, skips_pixels
        Whether each row is a step, as in :class:`RowDescent`; whether products omit the zero pixels.
    update
        The update rule.
    """
    if by_row:
        return _has_code(descend, dtype)
    functions = [*([multiply] if skips_pixels else []), *([apply_from] if update in RULES else [])]
    return all(_has_code(function, dtype) for function in functions)


def code_folder() -> str | None:
    """Return the folder in which Numba keeps the code of this module; None if it keeps none."""
    function: Any = multiply
    folder: str | None = function.stats.cache_path
    return folder


def _has_code(function: Any, dtype: DType) -> bool:
    """Return whether a function is compiled for a dtype, in this process or in Numba's cache, if readable."""
    try:
        kinds = [*function.signatures, *(key[0] for key in function._cache._cache_file._load_index())]
    except (AttributeError, OSError, TypeError, IndexError):
        kinds = function.signatures
    return any(dtype.name in str(kind) for kind in kinds)
