"""Engines: who multiplies with the images, and who descends one row at a time.

An engine changes the last bits of a number and how long it takes, nothing else. A lane is bitwise the same
in any stack with each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.engines.numpy_engine import BlasFirstLayer, FirstLayer, Inputs, Rows, RowsOfImages
from fnnexp.nn.engines.per_sample import PerSampleDescent
from fnnexp.nn.network import Architecture, Parameters

Array = NDArray[Any]
MakeRows = Callable[[NDArray[np.uint8], str, int, np.dtype[Any]], RowsOfImages]


class Descent(Protocol):
    """Plain gradient descent one row at a time, as in :mod:`fnnexp.nn.engines.per_sample`."""

    rows: int
    """How many rows one call takes at the most."""

    @property
    def takes(self) -> MakeRows:
        """What gives it its rows."""

    def descend(self, inputs: Inputs, labels: Array) -> tuple[Array, Array]:
        """Take one step for each row; return the losses (K, B) and hits (K, B)."""

    def store(self) -> None:
        """Write what was learned back to the parameters."""


MakeDescent = Callable[[Architecture, Parameters, Array, float, Sequence[range]], Descent]


@dataclass(frozen=True)
class Engine:
    """One way to compute.

    Attributes
    ----------
    version
        What it is, for the record.
    rows, first_layer
        The rows of a split, and the first layer that multiplies with them.
    per_sample
        Descent one row at a time.
    """

    version: str
    rows: MakeRows
    first_layer: Callable[[Array], FirstLayer]
    per_sample: MakeDescent


def numpy_engine() -> Engine:
    """Return NumPy and its BLAS."""
    return Engine(f"numpy {np.__version__}", Rows, BlasFirstLayer, PerSampleDescent)


def numba_engine() -> Engine:
    """Return compiled loops that visit only the pixels that are not 0.

    Raises
    ------
    ImportError
        When Numba, which is the extra ``numba``, is not installed.
    """
    from fnnexp.nn.engines import numba_engine as compiled

    return Engine(compiled.version(), compiled.rows_of, compiled.SparseFirstLayer, compiled.RowByRow)


ENGINES: dict[str, Callable[[], Engine]] = {"numpy": numpy_engine, "numba": numba_engine}


@cache
def engine_named(name: str) -> Engine:
    """Return an engine by its key of :data:`ENGINES`.

    >>> engine_named("numpy").rows.__name__
    'Rows'
    """
    return ENGINES[name]()
