"""What an engine is, and which there are.

An engine multiplies the first layer's weights with images and trains one row at a time; everything else is
NumPy's in any case. The engine changes the last bits of a number and how long it takes, nothing else. With
each engine a lane is bitwise the same in any stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array, DType
from fnnexp.nn.engines.numpy_engine import BlasFirstLayer, DenseRows, FirstLayer, Inputs, RowSource
from fnnexp.nn.engines.per_sample import BlockDescent
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.activations import ACTIVATIONS, Activation

MakeRows = Callable[[NDArray[np.uint8], str, int, DType], RowSource]


class Descent(Protocol):
    """Plain gradient descent with a step for each row, as in :mod:`fnnexp.nn.engines.per_sample`."""

    max_rows: int
    """The most rows that one call takes."""

    @property
    def make_rows(self) -> MakeRows:
        """What makes the source of its rows."""

    def descend(self, inputs: Inputs, labels: Array) -> tuple[Array, Array]:
        """Take one step for each row; return the losses (K, B) and hits (K, B), each before its step."""

    def probabilities(self, rows: int) -> Array:
        """Return the softmax (K, B, C) of the last call's B rows, each before its step.

        Only where a metric needs them: :data:`fnnexp.nn.pieces.metrics.METRICS` is not empty.
        """

    def write_back(self) -> None:
        """Write what was learned to the parameters."""


MakeDescent = Callable[[Architecture, Parameters, Array, float, Sequence[range]], Descent]


@dataclass(frozen=True)
class Engine:
    """One way to compute.

    Attributes
    ----------
    version
        What computes, for the record.
    make_rows, first_layer
        The source of a split's rows, and the first layer that multiplies with them.
    per_sample
        Plain gradient descent with a step for each row.
    can_descend
        Whether ``per_sample`` knows an activation.
    """

    version: str
    make_rows: MakeRows
    first_layer: Callable[[Array], FirstLayer]
    per_sample: MakeDescent
    can_descend: Callable[[Activation], bool] = lambda activation: True


def numpy_engine() -> Engine:
    """Return NumPy and its BLAS."""
    return Engine(f"numpy {np.__version__}", DenseRows, BlasFirstLayer, BlockDescent)


def numba_engine() -> Engine:
    """Return compiled loops that visit only the pixels that are not 0.

    Raises
    ------
    ImportError
        When Numba, which is the extra ``numba``, is not installed.
    """
    from fnnexp.nn.engines import numba_engine as compiled

    return Engine(
        compiled.version(),
        compiled.make_rows,
        compiled.SparseFirstLayer,
        compiled.RowDescent,
        compiled.is_compiled,
    )


ENGINES: dict[str, Callable[[], Engine]] = {"numpy": numpy_engine, "numba": numba_engine}
"""The engines by the name that ``execution.engine`` gives."""


@cache
def engine_named(name: str) -> Engine:
    """Return an engine by its key of :data:`ENGINES`.

    >>> engine_named("numpy").make_rows.__name__
    'DenseRows'
    """
    return ENGINES[name]()


def per_sample_engine(name: str, activation: str) -> Engine:
    """Return the engine that trains one row at a time with an activation.

    That is the one named, except that NumPy descends where the engine does not know the activation; then its
    version says so.
    """
    engine = engine_named(name)
    if engine.can_descend(ACTIVATIONS[activation]):
        return engine
    numpy = engine_named("numpy")
    said = f"{engine.version} (per-sample descent by {numpy.version}: {activation} is not compiled)"
    return replace(engine, version=said, per_sample=numpy.per_sample)
