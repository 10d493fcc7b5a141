"""The interface of an engine, and the table of engines.

An engine multiplies images with the weights of the first layer, and trains one row at a time. NumPy computes
everything else. Engines differ in speed and in the last bits of their results. With a given engine, a network
is bitwise the same whichever other networks train in its stack.
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
    """Trains K networks by plain gradient descent, with a step for each row.

    :mod:`fnnexp.nn.engines.per_sample` does so with NumPy, :mod:`fnnexp.nn.engines.numba_engine` in compiled
    code.
    """

    max_rows: int
    """The largest number of rows in one call of :meth:`descend`."""

    @property
    def make_rows(self) -> MakeRows:
        """The function that prepares the rows of a split for :meth:`descend`."""

    def descend(self, inputs: Inputs, labels: Array) -> tuple[Array, Array]:
        """Take one step for each of B rows, in each of K networks.

        Return the loss of each row (K, B), and whether its prediction was right (K, B), both before its step.
        """

    def probabilities(self, rows: int) -> Array:
        """Return the softmax (K, B, C) for the B rows of the last :meth:`descend`, each before its step.

        It is available only if :data:`fnnexp.nn.pieces.metrics.METRICS` has a metric, which may need it.
        """

    def write_back(self) -> None:
        """Copy the trained weights to the parameters of the stack, if the engine trained a copy of them."""


class FirstStep(Protocol):
    """Updates the first layer's weights by a compiled update rule while it computes their gradient.

    This gradient is by far the largest of a network, and so it is never written to memory as a whole.
    """

    def begin(self, step: int, hyper: Mapping[str, Array]) -> None:
        """Begin the step with this number, counted from 1, and with these hyperparameters (K, 1), by name."""

    def __call__(self, lanes: range, examples: Any, dZ: Array) -> None:
        """Update the first layer's weights of these networks, by the gradient Xᵀ dZ of a batch.

        ``examples`` are the rows X, and dZ is (K, B, H).
        """

    def finish(self, theta: Array, gradients: Array) -> None:
        """Finish the step: update all other parameters in θ (K, P) by their ``gradients`` (K, P)."""

    def write_back(self) -> None:
        """Copy the weights and the optimizer's state to the stack. Steps change copies of them."""


class IsCompiled(Protocol):
    """A function that returns whether an engine has compiled its code for a kind of training already.

    If not, the first epoch takes some seconds longer.
    """

    def __call__(  # noqa: D102
        self, dtype: DType, *, by_row: bool, skips_pixels: bool, update: Update
    ) -> bool: ...


class Assistant(Protocol):
    """Lets a second thread help with the mini-batches of a single network. It changes no bit of a result.

    Between :meth:`begin` and :meth:`end`, the caller's thread and the second thread share the work of the
    first layer: to read the rows, to multiply them with the weights, and to update the weights.
    """

    def begin(self, order: Array, size: int, works: Mapping[int, tuple[Array, Array]]) -> Callable[[], None]:
        """Begin an epoch; return the function that the second thread must run.

        Parameters
        ----------
        order
            The rows (n,) in the order in which they train.
        size
            The number of rows in a batch.
        works
            For each number of rows B that a batch can have, the buffers for Z and dZ (1, B, H) of the first
            layer.
        """

    def end(self) -> None:
        """End the epoch, so that the second thread stops, also if an exception has cut the epoch short."""


MakeDescent = Callable[[Architecture, Parameters, Array, float, Sequence[range]], Descent]


@dataclass(frozen=True)
class Engine:
    """A way to compute the first layer, and descent with a step for each row: with NumPy, or compiled.

    Attributes
    ----------
    version
        The name and version of the software, recorded with each run.
    make_rows
        Prepares the rows of a split in the format that the engine's first layer reads.
    first_layer
        Creates the first layer of K networks, given their weights (K, D, H).
    per_sample
        Creates a :class:`Descent`.
    can_descend
        Returns whether ``per_sample`` supports the activations of an architecture.
    updates
        Compiled forms of update rules, bitwise equal to those in the table of optimizers.
    first_step
        Creates a :class:`FirstStep`, given a first layer, the optimizer's slots (K, P) and a rule in
        ``updates``. It reads the rows from ``make_rows``, unless they are :class:`DenseRows`. None if the
        engine has no such code.
    is_compiled
        Returns whether the code for a kind of training is compiled already; None if nothing is compiled.
    assistant
        Creates an :class:`Assistant`, given rows as for ``first_step``, a first layer, and a
        :class:`FirstStep` or None. None if the engine has no such code.
    code_folder
        The folder in which the engine's compiled code is kept; None if none is kept.
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
    """Return the engine that trains an architecture with a step for each row.

    If the engine with this name does not support the architecture's activations, and NumPy does, then NumPy
    takes the steps, and the version of the returned engine says so. If neither supports them, ``can_descend``
    of the returned engine is false, and training computes each row as a batch of its own.
    """
    engine, numpy = engine_named(name), engine_named("numpy")
    if engine.can_descend(architecture) or not numpy.can_descend(architecture):
        return engine
    version = (
        f"{engine.version} (per-sample descent by {numpy.version}: {architecture.activation} is not compiled)"
    )
    return replace(engine, version=version, per_sample=numpy.per_sample, can_descend=numpy.can_descend)
