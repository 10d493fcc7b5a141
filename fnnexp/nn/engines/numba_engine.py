"""The numba engine: compiled products that visit only the pixels that are not 0, and descent row by row.

80.9% of MNIST's pixels are 0. Leaving out the columns that are empty in a whole batch, as NumPy's engine
does, saves a third of a product. Leaving out every zero saves four fifths, and no BLAS does it. Here a batch
is a list of its nonzero pixels, row by row and column by column (CSR and CSC), and both products are sums of
few rows of a matrix,

    (X W)_b = Σ_d x_bd W_d        (Xᵀ dZ)_d = Σ_b x_bd dZ_b

whose running sums stay in the processor's vector registers. Numba's own vectorizer would load and store them
at each term, so the few operations on a vector that this needs are written out for LLVM.

The results are those of the NumPy engine, summed in another order: equal up to rounding, not bitwise. A lane
is computed by itself, so it is bitwise the same in any stack here too.

Compiled code calls no Python, so the activations and the softmax of the descent row by row are written out
here again. An activation that is not among :data:`COMPILED` trains by row with NumPy.

All compiled functions stand in this one file: Numba's cache looks at the age of the file that a function is
in, not of the files that it calls into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from fnnexp.nn.engines.numpy_engine import BlasFirstLayer, DenseRows, Examples, Inputs
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.activations import (
    ACTIVATIONS,
    SIGMOID_CLIP,
    Activation,
    relu_forward,
    relu_slope,
    sigmoid_forward,
    sigmoid_slope,
    tanh_as_published_slope,
    tanh_forward,
    tanh_slope,
)
from fnnexp.nn.pieces.losses import exponentiate, probabilities, subtract_largest
from fnnexp.nn.pieces.metrics import METRICS

Function = TypeVar("Function", bound=Callable[..., Any])

DENSE = 0.35
"""From this share of nonzero pixels on, BLAS is faster, as measured. MNIST has 0.19."""

SAMPLED_ROWS = 1000
"""How many rows of a split, evenly spread, its share of nonzero pixels is taken from."""

VECTOR = 16
"""The length of a matrix's rows is padded to a multiple of this. They also start at a cache line, or every
load would touch two."""

CACHE_LINE = 64

TILE = 64
"""Columns of a matrix that lie together, its rows one after another. Tiles of 128 rows fit the first cache,
and the next cache gives no more than 32 to 64 bytes a cycle. The number changes no result."""

ROWS_AT_ONCE = 256
"""Rows that one call of :meth:`RowDescent.descend` takes a step for. The number changes no result."""

RELU, TANH, TANH_AS_PUBLISHED, SIGMOID = range(4)
COMPILED: dict[tuple[Callable[..., None], Callable[..., None]], int] = {
    (relu_forward, relu_slope): RELU,
    (tanh_forward, tanh_slope): TANH,
    (tanh_forward, tanh_as_published_slope): TANH_AS_PUBLISHED,
    (sigmoid_forward, sigmoid_slope): SIGMOID,
}
"""The activations, as their forward and slope, by the number that compiled code knows them by."""


def is_compiled(activation: Activation) -> bool:
    """Whether :class:`RowDescent` knows an activation."""
    return (activation.forward, activation.slope) in COMPILED


def version() -> str:
    """Return what computes, for the record: other versions and processors round differently."""
    return f"numba {numba.__version__}, llvmlite {llvmlite.__version__}, {get_host_cpu_name()}"


def compiled(function: Function) -> Function:
    """Compile a function when it is first called, and keep the machine code where Numba has a cache."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    fast: Function
    try:
        fast = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that Numba could write to
        fast = numba.njit(**options)(function)
    return fast


def inlined(function: Function) -> Function:
    """Compile a function into those that call it."""
    fast: Function = numba.njit(nogil=True, error_model="numpy", forceinline=True)(function)
    return fast


# --- vectors ------------------------------------------------------------------------------------------------


class _Vector(types.Type):  # type: ignore[misc]
    """Some floats that are computed with as one; LLVM puts them into as many registers as they need."""

    def __init__(self, dtype: Any, width: int) -> None:
        self.dtype, self.width = dtype, width
        super().__init__(name=f"vector({dtype}, {width})")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: _Vector) -> None:
        super().__init__(
            manager, kind, ir.VectorType(manager.lookup(kind.dtype).get_value_type(), kind.width)
        )


def _row_sum(width: int) -> Any:
    """Return the compiled sum over ``width`` columns, see :func:`row_sum`, and one that is added to out[at:].

    The latter is of matrices that are ``width`` columns wide.
    """

    def place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
        """Return the address of array[at] as that of a vector."""
        data = context.make_array(kind)(context, builder, array).data
        vector = context.get_value_type(_Vector(kind.dtype, width))
        return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())

    @intrinsic  # type: ignore[untyped-decorator]
    def item(_: Any, array: Any, i: Any) -> Any:
        """Return array[i] of a flat array, for i ≥ 0."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(array)(context, builder, arguments[0]).data
            return builder.load(builder.gep(data, [arguments[1]]))

        return array.dtype(array, types.intp), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def zeros(_: Any, array: Any) -> Any:
        """Return a vector of zeros of the array's dtype."""
        made = _Vector(array.dtype, width)
        return made(array), lambda context, *_: ir.Constant(context.get_value_type(made), None)

    @intrinsic  # type: ignore[untyped-decorator]
    def load(_: Any, array: Any, at: Any) -> Any:
        """Return array[at : at + width] of a flat array."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            where = place(context, builder, signature.args[0], *arguments)
            return builder.load(where, align=array.dtype.bitwidth // 8)

        return _Vector(array.dtype, width)(array, types.intp), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def store(_: Any, vector: Any, array: Any, at: Any) -> Any:
        """Write the vector to array[at : at + width] of a flat array."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            where = place(context, builder, signature.args[1], *arguments[1:])
            builder.store(arguments[0], where, align=array.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(vector, array, types.intp), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def multiply_add(_: Any, x: Any, vector: Any, total: Any) -> Any:
        """Return x · vector + total, rounded once where the processor can."""

        def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            kind = context.get_value_type(vector)
            undefined, lanes = ir.Constant(kind, ir.Undefined), ir.VectorType(ir.IntType(32), width)
            first = builder.insert_element(undefined, arguments[0], ir.Constant(ir.IntType(32), 0))
            everywhere = builder.shuffle_vector(first, undefined, ir.Constant(lanes, None))
            name = f"llvm.fmuladd.v{width}f{vector.dtype.bitwidth}"
            fused = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(kind, [kind] * 3))
            return builder.call(fused, [everywhere, *arguments[1:]])

        return total(vector.dtype, vector, total), generate

    @inlined
    def total_of(indices: Array, values: Array, first: int, stop: int, M: Array, H: int, out: Array) -> None:
        for column in range(0, H, width):
            at = min(column, H - width)  # what two of them overlap in is the same from both
            total = zeros(M)
            for i in range(first, stop):
                total = multiply_add(item(values, i), load(M, np.intp(item(indices, i)) * H + at), total)
            store(total, out, at)

    @inlined
    def add_total_of(
        indices: Array, values: Array, first: int, stop: int, M: Array, out: Array, at: int
    ) -> None:
        total = zeros(M)
        for i in range(first, stop):
            total = multiply_add(item(values, i), load(M, np.intp(item(indices, i)) * width), total)
        store(multiply_add(M.dtype.type(1), load(out, at), total), out, at)

    return total_of, add_total_of


_sum_by_64, _add_sum_by_64 = _row_sum(64)
_sum_by_32, _ = _row_sum(32)
_sum_by_16, _ = _row_sum(16)


@inlined
def row_sum(indices: Array, values: Array, first: int, stop: int, M: Array, H: int, out: Array) -> None:
    """Write Σ values[i] M[indices[i]] for i in first … stop − 1.

    Parameters
    ----------
    indices, values
        Which rows of M, and what each counts.
    M, H
        A flat C-ordered matrix and the length of its rows, a multiple of :data:`VECTOR`.
    out
        (H,).
    """
    if H >= 64:
        _sum_by_64(indices, values, first, stop, M, H, out)
    elif H >= 32:
        _sum_by_32(indices, values, first, stop, M, H, out)
    else:
        _sum_by_16(indices, values, first, stop, M, H, out)


def padded(rows: int, width: int, dtype: DType) -> Array:
    """Return zeros (rows, H), H the next multiple of :data:`VECTOR`, that start at a cache line.

    >>> padded(3, 10, np.dtype("f4")).shape
    (3, 16)
    """
    size = rows * -(-width // VECTOR) * VECTOR
    room = np.zeros(size * dtype.itemsize + CACHE_LINE, np.uint8)
    first = -room.ctypes.data % CACHE_LINE
    return room[first : first + size * dtype.itemsize].view(dtype).reshape(rows, -1)


# --- rows of images -----------------------------------------------------------------------------------------


@compiled
def compress(
    images: Array, where: Array, table: Array, pointers: Array, columns: Array, values: Array
) -> None:
    """List the nonzero pixels of images[where], row by row.

    Parameters
    ----------
    images, where
        (N, D) uint8; which rows of them (B,).
    table
        The input that each byte stands for (256,).
    pointers, columns, values
        Written: row b has the columns and inputs from pointers[b] to pointers[b + 1].
    """
    D = images.shape[1]
    in_words = D // 8 * 8
    n = 0
    for b in range(len(where)):
        pointers[b] = n
        row = images[where[b]]
        eights = row[:in_words].view(np.uint64)
        for w in range(len(eights)):
            if eights[w] != 0:
                for d in range(8 * w, 8 * w + 8):
                    columns[n], values[n] = d, table[row[d]]
                    n += row[d] != 0  # without a branch: the next pixel takes the place of one that is 0
        for d in range(in_words, D):
            columns[n], values[n] = d, table[row[d]]
            n += row[d] != 0
    pointers[len(where)] = n


@compiled
def transpose(
    pointers: Array, columns: Array, values: Array, starts: Array, rows: Array, by_column: Array
) -> None:
    """List the same pixels column by column: column d has rows and inputs from starts[d] to starts[d + 1].

    ``starts`` is (D + 2,); its last element is of no use.
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
    """A matrix (R, H) in tiles of :data:`TILE` columns, each with its rows one after another, padded.

    Attributes
    ----------
    flat
        One tile after another; the last may be narrower.
    width
        H with its padding.
    """

    def __init__(self, rows: int, columns: int, dtype: DType) -> None:
        whole = padded(rows, columns, dtype)
        self.flat, self.width = whole.reshape(-1), whole.shape[1]
        bounds = [(at, min(at + TILE, self.width)) for at in range(0, self.width, TILE)]
        self._tiles = [
            (slice(at, min(stop, columns)), self.flat[rows * at : rows * stop].reshape(rows, -1))
            for at, stop in bounds
        ]

    def copy_from(self, matrix: Array) -> None:
        """Copy the matrix (R, H) into the tiles."""
        for columns, tile in self._tiles:
            tile[:, : columns.stop - columns.start] = matrix[:, columns]

    def copy_to(self, matrix: Array) -> None:
        """Copy the tiles to the matrix (R, H)."""
        for columns, tile in self._tiles:
            matrix[:, columns] = tile[:, : columns.stop - columns.start]


@compiled
def multiply(
    pointers: Array, columns: Array, values: Array, W: Array, H: int, row: Array, out: Array
) -> None:
    """Write X W to out (B, H'), C-ordered, for W (D, H ≥ H') in :class:`Tiles`, flat; also to row (H,)."""
    D, B, whole = len(W) // H, len(pointers) - 1, out.shape[1]
    flat = out.reshape(-1)
    for begin in range(0, H, TILE):
        width = min(TILE, H - begin)
        tile = W[begin * D : (begin + width) * D]
        if begin + TILE <= whole:  # a width that the compiler knows
            for b in range(B):
                there = flat[b * whole + begin : b * whole + begin + TILE]
                _sum_by_64(columns, values, pointers[b], pointers[b + 1], tile, TILE, there)
            continue
        for b in range(B):
            row_sum(columns, values, pointers[b], pointers[b + 1], tile, width, row)
            for h in range(whole - begin):
                out[b, begin + h] = row[h]


@compiled
def add_transposed_product(
    starts: Array,
    rows: Array,
    by_column: Array,
    dZ: Array,
    widths: tuple[int, int],
    row: Array,
    W: Array,
    tiled: bool,
) -> None:
    """Add Xᵀ dZ to W.

    Parameters
    ----------
    starts, rows, by_column
        X, as :func:`transpose` lists it.
    dZ, widths
        (B, H) in :class:`Tiles`, flat; H, and H' without the padding.
    row
        (H,), written to.
    W, tiled
        Flat: (D, H) in tiles, or (D, H') row by row.
    """
    H, columns = widths
    D, B = len(starts) - 2, len(dZ) // H
    for begin in range(0, H, TILE):
        width = min(TILE, H - begin)
        tile = dZ[begin * B : (begin + width) * B]
        for d in range(D):
            if starts[d] == starts[d + 1]:
                continue
            if tiled and width == TILE:
                _add_sum_by_64(rows, by_column, starts[d], starts[d + 1], tile, W, begin * D + d * TILE)
                continue
            row_sum(rows, by_column, starts[d], starts[d + 1], tile, width, row)
            at = begin * D + d * width if tiled else d * columns + begin
            for h in range(min(width, columns - begin)):
                W[at + h] += row[h]


class SparseExamples:
    """Some rows of the input as lists of their nonzero pixels, in buffers used again.

    Parameters
    ----------
    most, rows, columns
        How many pixels and rows there are at the most; D.
    """

    def __init__(self, most: int, rows: int, columns: int, dtype: DType) -> None:
        self._pointers, self._starts = np.empty(rows + 1, np.intp), np.empty(columns + 2, np.intp)
        self._columns, self._values = np.empty(most + 1, np.uint32), np.empty(most + 1, dtype)
        self._rows, self._by_column = np.empty(most, np.uint32), np.empty(most, dtype)
        self.rows = 0
        self._transposed = False

    def fill(self, images: Array, where: Array, table: Array) -> None:
        """Make these the rows images[where]; see :func:`compress`."""
        self.rows, self._transposed = len(where), False
        compress(images, where, table, *self.by_row)

    @property
    def by_row(self) -> tuple[Array, Array, Array]:
        """The pixels row by row, as :func:`compress` writes them."""
        return self._pointers[: self.rows + 1], self._columns, self._values

    @property
    def by_column(self) -> tuple[Array, Array, Array]:
        """The pixels column by column, as :func:`transpose` writes them, once they are asked for."""
        listed = self._starts, self._rows, self._by_column
        if not self._transposed:
            transpose(*self.by_row, *listed)
            self._transposed = True
        return listed


class SparseRows:
    """Rows of a split as lists of their nonzero pixels; its arguments are those of :class:`DenseRows`."""

    def __init__(self, images: NDArray[np.uint8], scale: str, size: int, dtype: DType) -> None:
        self._images = np.asarray(images)
        self._table = np.arange(256).astype(dtype)
        if scale == "unit":
            self._table /= dtype.type(255)
        self._examples = SparseExamples(size * images.shape[1], size, images.shape[1], dtype)

    def take(self, where: slice | NDArray[np.intp]) -> SparseExamples:
        """Return the rows in buffers; the next call overwrites them."""
        chosen = np.arange(where.start, where.stop) if isinstance(where, slice) else where
        self._examples.fill(self._images, chosen, self._table)
        return self._examples


def make_rows(images: NDArray[np.uint8], scale: str, size: int, dtype: DType) -> DenseRows | SparseRows:
    """Return the source of a split's rows: lists of pixels where most are 0, else floats for BLAS."""
    some = images[:: max(len(images) // SAMPLED_ROWS, 1)]
    dense = np.count_nonzero(some) >= DENSE * some.size
    return (DenseRows if dense else SparseRows)(images, scale, size, dtype)


class SparseFirstLayer:
    """The first layer on lists of nonzero pixels; where rows are dense, by BLAS.

    :meth:`forward` multiplies with a copy of W in tiles, made when it is first needed. From then on gradients
    are added to the copy, until :meth:`write_back`. Without a copy they are added to W itself: so it is where
    W holds a sum of gradients.
    """

    def __init__(self, W: Array) -> None:
        self.W = W
        self._blas = BlasFirstLayer(W)
        self._copies: dict[int, Tiles] = {}
        self._current: set[int] = set()
        self._row = padded(1, W.shape[2], W.dtype)[0]
        self._dZ: dict[int, Tiles] = {}

    def forward(self, lane: int, examples: Examples | SparseExamples, out: Array) -> None:
        """Write X W of a lane to out (B, H)."""
        if isinstance(examples, Examples):
            self._blas.forward(lane, examples, out)
            return
        if lane not in self._copies:
            _, D, H = self.W.shape
            self._copies[lane] = Tiles(D, H, self.W.dtype)
        W = self._copies[lane]
        if lane not in self._current:
            W.copy_from(self.W[lane])
            self._current.add(lane)
        Z = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        multiply(*examples.by_row, W.flat, W.width, self._row, Z)
        if Z is not out:  # a network without hidden layers, whose logits are laid out by class
            out[...] = Z

    def add_gradient(self, lane: int, examples: Examples | SparseExamples, dZ: Array) -> None:
        """Add Xᵀ dZ to a lane's W, for dZ (B, H)."""
        if isinstance(examples, Examples):
            self._blas.add_gradient(lane, examples, dZ)
            return
        B, H = dZ.shape
        if B not in self._dZ:
            self._dZ[B] = Tiles(B, H, dZ.dtype)
        copy = self._dZ[B]
        copy.copy_from(dZ)
        tiled = lane in self._current
        W = self._copies[lane].flat if tiled else self.W[lane].reshape(-1)
        add_transposed_product(*examples.by_column, copy.flat, (copy.width, H), self._row, W, tiled)

    def weights_changed(self) -> None:
        """Make the copies anew when they are next needed: something else has changed W."""
        self._current.clear()

    def write_back(self) -> None:
        """Write the copies to W."""
        for lane in self._current:
            self._copies[lane].copy_to(self.W[lane])


# --- one row at a time --------------------------------------------------------------------------------------


def reassociated(function: Function) -> Function:
    """Compile a function into those that call it, its sums in the order that suits the processor."""
    fast: Function = numba.njit(nogil=True, error_model="numpy", forceinline=True, fastmath={"reassoc"})(
        function
    )
    return fast


@reassociated
def inner(a: Array, b: Array) -> Any:
    """Return Σ a b."""
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@inlined
def activate(kind: int, Z: Array) -> None:
    """Write A = f(Z) over Z; see :mod:`fnnexp.nn.pieces.activations`. A NaN stays a NaN."""
    one, least = Z.dtype.type(1), Z.dtype.type(-SIGMOID_CLIP)
    for h in range(len(Z)):
        if kind == RELU:
            if Z[h] < 0:
                Z[h] = 0
        elif kind == SIGMOID:
            if Z[h] < least:
                Z[h] = least
            Z[h] = one / (one + np.exp(-Z[h]))
        else:
            Z[h] = np.tanh(Z[h])


@inlined
def times_slope(kind: int, A: Array, dA: Array) -> None:
    """Write dZ = dA f′ over dA, f′ as it follows from A."""
    one = A.dtype.type(1)
    for h in range(len(A)):
        a = A[h]
        if kind == RELU:
            if a <= 0:
                dA[h] = 0
        elif kind == SIGMOID:
            dA[h] *= a * (one - a)
        else:
            if kind == TANH_AS_PUBLISHED:
                a = np.tanh(a)
            dA[h] *= one - a * a


@inlined
def softmax_gradient(Z: Array, label: int, epsilon: float) -> tuple[float, bool]:
    """Write dZ over one row's logits Z (C,); return its loss, and whether the label is the prediction.

    The formulas are those of :mod:`fnnexp.nn.pieces.losses`.
    """
    largest = 0
    for c in range(1, len(Z)):
        if Z[c] > Z[largest]:
            largest = c
    z_y, top = Z[label] - Z[largest], Z[largest]
    total = Z.dtype.type(0)
    for c in range(len(Z)):
        Z[c] = np.exp(Z[c] - top)
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
    network: tuple[Array, Array, int],
    eta: float,
    epsilon: float,
    scratch: tuple[Array, Array, Array],
    losses: Array,
    hits: Array,
    logits: Array,
) -> None:
    """Take one step of plain descent for each row, for one lane.

    Parameters
    ----------
    rows, labels
        The rows, as :func:`compress` lists them, and their labels (B,).
    theta
        The lane's parameters (P,); all but the first W are changed.
    first_W
        The first W (D, H), flat and padded, which is changed; H.
    network
        n_out of each layer (L,); where in theta its W and b begin (L, 2), −1 for no bias; the activation's
        number in :data:`COMPILED`.
    eta, epsilon
        The step size η; ε of the loss.
    scratch
        Written to: what each layer puts out, one after another (Σ n_out,); its gradient; (H,).
    losses, hits
        Written: of each row, before its step (B,).
    logits
        Written: the logits of the first rows, before their steps (B' ≥ 0, C).
    """
    pointers, columns, values = rows
    W1, H = first_W
    widths, places, kind = network
    A, dA, row = scratch
    last = len(widths) - 1
    for t in range(len(labels)):
        first, stop = pointers[t], pointers[t + 1]
        begin = 0
        for layer in range(last + 1):
            n_out, at_W, at_b = widths[layer], places[layer, 0], places[layer, 1]
            Z = A[begin : begin + n_out]
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
                    a, W = A[begin - n_in + i], theta[at_W + i * n_out : at_W + (i + 1) * n_out]
                    for h in range(n_out):
                        Z[h] += a * W[h]
            if layer < last:
                activate(kind, Z)
            begin += n_out
        begin -= widths[last]
        if t < len(logits):
            logits[t] = A[begin:]
        losses[t], hits[t] = softmax_gradient(A[begin:], labels[t], epsilon)
        dA[begin:] = A[begin:]
        for layer in range(last, -1, -1):
            n_out, at_W, at_b = widths[layer], places[layer, 0], places[layer, 1]
            dZ = dA[begin : begin + n_out]
            if layer > 0:
                n_in = widths[layer - 1]
                for i in range(n_in):
                    W = theta[at_W + i * n_out : at_W + (i + 1) * n_out]
                    dA[begin - n_in + i] = inner(W, dZ)
                    step = -eta * A[begin - n_in + i]
                    for h in range(n_out):
                        W[h] += step * dZ[h]
                times_slope(kind, A[begin - n_in : begin], dA[begin - n_in : begin])
            for h in range(n_out):
                dZ[h] *= -eta
            if at_b >= 0:
                for h in range(n_out):
                    theta[at_b + h] += dZ[h]
            if layer > 0:
                begin -= n_in
            else:
                for i in range(first, stop):
                    x, W = values[i], W1[np.intp(columns[i]) * H : (np.intp(columns[i]) + 1) * H]
                    for h in range(n_out):
                        W[h] += x * dZ[h]


class RowDescent:
    """Plain descent one row at a time, as textbooks write it; see :class:`fnnexp.nn.engines.base.Descent`."""

    make_rows = SparseRows
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
        widths, places, at = [], [], 0
        for (n_in, n_out), bias in zip(architecture.shapes, architecture.biases, strict=True):
            end = at + n_in * n_out
            widths.append(n_out)
            places.append((at, -1 if bias == "none" else end))
            at = end if bias == "none" else end + n_out
        activation = ACTIVATIONS[architecture.activation]
        kind = COMPILED[activation.forward, activation.slope]
        self._network = (np.array(widths), np.array(places), kind)
        self._scratch = (np.empty(sum(widths), dtype), np.empty(sum(widths), dtype), padded(1, H, dtype)[0])
        kept = ROWS_AT_ONCE if METRICS else 0
        self._logits = np.empty((len(self._theta), kept, architecture.classes), dtype)

    def descend(self, inputs: Inputs, labels: Array) -> tuple[Array, Array]:
        """Take one step for each row; return the losses (K, B) and hits (K, B), each before its step."""
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
        """Return the softmax (K, B, C) of the last call's B rows, each before its step."""
        P = self._logits[:, :rows].copy()
        row = np.empty((*P.shape[:2], 1), P.dtype)
        subtract_largest(P, row, out=P)
        exponentiate(P, row)
        return probabilities(P, row, out=P)

    def write_back(self) -> None:
        """Write the first weights to the parameters; the others are changed where they are."""
        for copy, W in zip(self._copies, self._W, strict=True):
            W[...] = copy[:, : W.shape[1]]
