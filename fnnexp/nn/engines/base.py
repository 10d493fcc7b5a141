"""The interface of an engine, and the table of engines.

An engine multiplies images with the weights of the first layer, and trains one row at a time. NumPy computes
everything else. Engines differ in speed and in the last bits of their results. With a given engine, a lane is
bitwise the same in any stack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import numpy as np

from fnnexp.nn.arrays import Array, DType
from fnnexp.nn.engines.numpy_engine import BlasFirstLayer, DenseRows, FirstLayer, Inputs, RowSource, Scaling
from fnnexp.nn.engines.per_sample import BlockDescent, can_descend
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.optimizers import Update

MakeRows = Callable[[Array, Scaling, int, DType], RowSource]


class Descent(Protocol):
    """Trains by plain descent with one step for each row; see :mod:`fnnexp.nn.engines.per_sample`."""

    max_rows: int
    """The largest number of rows in one call of :meth:`descend`."""

    @property
    def make_rows(self) -> MakeRows:
        """The function that prepares the rows of a split for :meth:`descend`."""

    def descend(self, inputs: Inputs, labels: Array) -> tuple[Array, Array]:
        """Take one step for each row; return the losses (K, B), and whether each row was right (K, B).

        Both are computed before the step of their row.
        """

    def probabilities(self, rows: int) -> Array:
        """Return the softmax (K, B, C) of the B rows of the last call, each before its step.

        The softmax is available only if :data:`fnnexp.nn.pieces.metrics.METRICS` has a metric of the user's.
        """

    def write_back(self) -> None:
        """Copy the trained weights to the parameters of the stack, if the engine trained a copy of them."""


class FirstStep(Protocol):
    """Takes a step of the first weights while it computes their gradient, with a compiled update rule.

    The gradient of the first weights is by far the largest, and is then never written to memory.
    """

    def begin(self, step: int, hyper: Mapping[str, Array]) -> None:
        """Begin a step, counted from 1, with these hyperparameters (K, 1)."""

    def __call__(self, lanes: range, examples: Any, dZ: Array) -> None:
        """Take the step of some lanes' first weights, whose gradient is Xᵀ dZ for dZ (K, B, H)."""

    def finish(self, theta: Array, gradients: Array) -> None:
        """Take the step of all other parameters of θ (K, P)."""

    def write_back(self) -> None:
        """Copy the weights and the slots to the arrays of the stack."""


class IsCompiled(Protocol):
    """Returns whether an engine's code for a kind of training is compiled already."""

    def __call__(  # noqa: D102
        self, dtype: DType, *, by_row: bool, skips_pixels: bool, update: Update
    ) -> bool: ...


class Assistant(Protocol):
    """A second thread for the mini-batches of one lane, which changes no bit of a result.

    Between :meth:`begin` and :meth:`end` the rows, the first layer and the first step of this lane divide
    their work between the caller and the assistant.
    """

    def begin(self, order: Array, size: int, works: Mapping[int, tuple[Array, Array]]) -> Callable[[], None]:
        """Begin an epoch; return the task of the assistant's thread.

        Parameters
        ----------
        order
            The rows (n,) in the order in which they train.
        size
            The number of rows in a batch.
        works
            Z and dZ (1, B, H) of the first layer for each number of rows B.
        """

    def end(self) -> None:
        """End the epoch, also one that an exception has ended early."""


MakeDescent = Callable[[Architecture, Parameters, Array, float, Sequence[range]], Descent]


@dataclass(frozen=True)
class Engine:
    """A way to compute the first layer and per-sample descent.

    Attributes
    ----------
    version
        The name and version of the software, recorded with each run.
    make_rows
        Prepares the rows of a split.
    first_layer
        Creates the first layer, which multiplies with such rows.
    per_sample
        Creates a :class:`Descent`.
    can_descend
        Returns whether ``per_sample`` supports the activations of an architecture.
    updates
        Compiled forms of update rules, bitwise equal to those in the table of optimizers.
    first_step
        Creates a :class:`FirstStep` for a first layer, its slots (K, P) and one of ``updates``. It reads
        rows from ``make_rows`` that are not :class:`DenseRows`.
    is_compiled
        Whether its code for a kind of training is compiled already; None if it compiles nothing.
    assistant
        Creates an :class:`Assistant` for such rows, a first layer, and its first step or None.
    code_folder
        The folder in which its compiled code is kept; None if none is kept.
    """

    version: str
    make_rows: MakeRows
    first_layer: Callable[[Array], FirstLayer]
    per_sample: MakeDescent
    can_descend: Callable[[Architecture], bool]
    updates: Mapping[Update, Update] = field(default_factory=dict)
    first_step: Callable[[Any, Sequence[Array], Update], FirstStep] | None = None
    is_compiled: IsCompiled | None = None
    assistant: Callable[[Any, Any, Any], Assistant] | None = None
    code_folder: str | None = None


def numpy_engine() -> Engine:
    """Return the engine that uses NumPy and its BLAS."""
    return Engine(f"numpy {np.__version__}", DenseRows, BlasFirstLayer, BlockDescent, can_descend)


def numba_engine() -> Engine:
    """Return the engine with compiled loops over the nonzero pixels.

    Raises
    ------
    ImportError
        If Numba is not installed; the extra ``numba`` installs it.
    """
    from fnnexp.nn.engines import numba_engine as compiled

    return Engine(
        compiled.version(),
        compiled.make_rows,
        compiled.SparseFirstLayer,
        compiled.RowDescent,
        compiled.can_descend,
        compiled.UPDATES,
        compiled.FirstStep,
        is_compiled=compiled.is_compiled,
        assistant=compiled.Assistant,
        code_folder=compiled.code_folder(),
    )


ENGINES: dict[str, Callable[[], Engine]] = {"numpy": numpy_engine, "numba": numba_engine}
"""The engines. The keys are the allowed values of ``execution.engine``."""


@cache
def engine_named(name: str) -> Engine:
    """Return the engine with this key in :data:`ENGINES`.

    >>> engine_named("numpy").make_rows.__name__
    'DenseRows'
    """
    return ENGINES[name]()


def per_sample_engine(name: str, architecture: Architecture) -> Engine:
    """Return the engine that trains an architecture one row at a time.

    If the named engine does not support the activations and NumPy does, NumPy computes the descent, and the
    engine's version says so. If neither does, ``can_descend`` is false, and each row is a batch of its own.
    """
    engine, numpy = engine_named(name), engine_named("numpy")
    if engine.can_descend(architecture) or not numpy.can_descend(architecture):
        return engine
    version = (
        f"{engine.version} (per-sample descent by {numpy.version}: {architecture.activation} is not compiled)"
    )
    return replace(engine, version=version, per_sample=numpy.per_sample, can_descend=numpy.can_descend)
