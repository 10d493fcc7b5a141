"""Turn a user's functions into entries of fnnexp's tables.

A user's function gets the arrays of one network, never those of a stack of networks. So what it computes for
a network cannot depend on the networks beside it. Arrays that it must not change are read-only. If it raises,
or returns an array of another shape than in the checks, the trial fails with a message that names the piece.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fnnexp.errors import FnnexpError, raised
from fnnexp.nn.arrays import Array
from fnnexp.nn.pieces.activations import Activation
from fnnexp.nn.pieces.initializers import Initializer
from fnnexp.nn.pieces.losses import Loss, as_written, identity, sigmoid, softmax
from fnnexp.nn.pieces.optimizers import Optimizer
from fnnexp.nn.pieces.schedules import Rule

Function = Callable[..., Any]

OUTPUTS = {"softmax": softmax, "sigmoid": sigmoid, "identity": identity}
"""The output functions that a loss can name."""


class PieceError(FnnexpError):
    """A user's function raised an exception, or returned a value of another type or shape than it must."""


@dataclass(frozen=True)
class Own:
    """A user's function, called with checks. ``what`` names it in messages, such as "initializer 'mine'"."""

    what: str
    function: Function

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the function without NumPy's warnings, as everywhere in training; return what it returns.

        If it raises an exception, raise PieceError.
        """
        try:
            with np.errstate(all="ignore"):
                return self.function(*arguments, **keywords)
        except (Exception, SystemExit) as error:
            numbers = ", ".join(str(each) for each in arguments if isinstance(each, int))
            call = f"{self.what}: ({numbers})" if numbers else self.what
            raise PieceError(f"{call} raised {raised(error)}") from error

    def array(self, shape: tuple[int, ...], *arguments: Any, **keywords: Any) -> Array:
        """Return the array that the function returns; raise PieceError if it has another shape.

        Without this check, NumPy would broadcast a smaller array.
        """
        returned: Array = self(*arguments, **keywords)
        if getattr(returned, "shape", None) != shape:
            given = getattr(returned, "shape", None)
            given = f"a {type(returned).__name__}" if given is None else f"an array of shape {given}"
            raise PieceError(f"{self.what}: returned {given}; it must return an array of shape {shape}")
        return returned

    def number(self, *arguments: int) -> float:
        """Call the function with whole numbers; return its result, a finite number of at least 0."""
        value = self(*arguments)
        if not is_number(value) or not 0 <= value < math.inf:
            raise PieceError(
                f"{self.what}: returned {value!r} for {arguments}; it must return a finite number of at "
                "least 0"
            )
        return float(value)


def is_number(value: Any) -> bool:
    """Return whether a value is a number of Python or NumPy."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def read_only(array: Array) -> Array:
    """Return a view of an array through which it cannot be changed."""
    view = array.view()
    view.flags.writeable = False
    return view


def parameters_of(function: Function) -> list[str]:
    """Return the names of a function's parameters."""
    return list(inspect.signature(function).parameters)


# --- initializers -------------------------------------------------------------------------------------------


def draws_array(function: Function) -> bool:
    """Return whether an initializer returns the weights themselves, because it has the keyword ``rng``.

    Otherwise it returns their standard deviation.
    """
    return "rng" in parameters_of(function)


def initializer(own: Own, exact: str) -> Initializer:
    """Return the entry for a user's initializer in :data:`fnnexp.nn.pieces.initializers.INITIALIZERS`.

    ``exact`` is its exact name (``name@checksum``).
    """
    if draws_array(own.function):
        return Initializer(unit, exact)
    return Initializer(own.number)


def unit(n_in: int, n_out: int) -> float:
    """Return 1, the standard deviation by which the weights that a user's function draws are multiplied.

    So only ``init.gain`` scales them.
    """
    return 1.0


def weights(own: Own, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return the weights (n_in, n_out) that a user's initializer draws from a generator."""
    return own.array(shape, *shape, rng=rng).astype(np.float64)


# --- activations --------------------------------------------------------------------------------------------


def activation(forward: Own, derivative: Own) -> Activation:
    """Return the entry for a user's activation in :data:`fnnexp.nn.pieces.activations.ACTIVATIONS`.

    The user's derivative has the parameters (Z) or (Z, A).
    """
    uses_a = len(parameters_of(derivative.function)) > 1
    return Activation(partial(activate, forward), partial(differentiate, derivative, uses_a), needs_z=True)


def activate(forward: Own, Z: Array) -> None:
    """Overwrite Z (K, B, H) with A = forward(Z). The user's function gets one of the K networks at a time."""
    for z in lanes_of(Z):
        z[...] = forward.array(z.shape, read_only(z))


def differentiate(derivative: Own, uses_a: bool, Z: Array, A: Array, out: Array) -> None:
    """Write f′(Z) to ``out`` (K, B, H). The user's function gets one of the K networks at a time.

    ``uses_a`` says whether it is called with (Z, A) or with (Z).
    """
    for z, a, slope in zip(lanes_of(Z), lanes_of(A), lanes_of(out), strict=True):
        returned = derivative(read_only(z), read_only(a)) if uses_a else derivative(read_only(z))
        shape = np.shape(returned)
        if shape not in ((), slope.shape):  # a single number is the derivative at every element
            raise PieceError(
                f"{derivative.what}: returned an array of shape {shape}; it must return one of shape "
                f"{slope.shape}"
            )
        slope[...] = returned


def lanes_of(array: Array) -> list[Array]:
    """Return the arrays (B, H) of the K networks in an array (K, B, H); an array (B, H) has one network."""
    return list(array) if array.ndim > 2 else [array]


# --- optimizers ---------------------------------------------------------------------------------------------


def optimizer(own: Own, slots: int, hyperparameters: tuple[str, ...]) -> Optimizer:
    """Return the entry for a user's optimizer in :data:`fnnexp.nn.pieces.optimizers.OPTIMIZERS`."""
    return Optimizer(hyperparameters, slots, partial(update, own))


def update(
    own: Own,
    theta: Array,
    grad: Array,
    slots: tuple[Array, ...],
    step: int,
    hyper: Mapping[str, Array],
) -> None:
    """Take a step of K networks with a user's optimizer, which gets the parameters (P,) of one at a time.

    The arrays are (K, P). The optimizer changes the parameters and its slots in place.
    """
    for k in range(len(theta)):
        numbers = {name: float(values[k, 0]) for name, values in hyper.items()}
        own(theta[k], grad[k], tuple(slot[k] for slot in slots), step, numbers)


# --- losses -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnLoss:
    """A user's loss. Its functions ``value(Z, T)`` and ``gradient(Z, T)`` get one network at a time.

    Z are the logits and T the targets, both (B, C). ``output`` is the name of an output function.
    """

    value: Own
    gradient: Own
    output: str

    def losses_and_hits(self, Z: Array, T: Array, epsilon: float, row: Array) -> tuple[Array, Array]:
        """Return each row's loss (K, B), and whether the row's prediction is right (K, B). Z is not changed.

        The prediction is the class with the largest logit.
        """
        losses = np.empty(Z.shape[:2])
        for k in range(len(Z)):
            losses[k] = self.value.array(Z.shape[1:2], *self._of_lane(Z, T, k))
        hits: Array = Z.argmax(axis=-1) == T.argmax(axis=-1)
        return losses, hits

    def write_gradient(self, Z: Array, T: Array, epsilon: float, row: Array) -> None:
        """Overwrite the logits Z with dZ, the gradient of each row's loss."""
        for k in range(len(Z)):
            Z[k] = self.gradient.array(Z.shape[1:], *self._of_lane(Z, T, k))

    def outputs(self, Z: Array, row: Array, out: Array | None = None) -> Array:
        """Return the outputs of the networks for their logits Z, in the array ``out`` if it is given."""
        outputs = as_written(Z, row, out=out)
        OUTPUTS[self.output](outputs, np.empty_like(row))
        return outputs

    @staticmethod
    def _of_lane(Z: Array, T: Array, k: int) -> tuple[Array, Array]:
        """Return copies of the logits and the targets of network k, both (B, C) and C-ordered."""
        return np.array(Z[k], order="C"), np.array(T[k], order="C")


def loss(value: Own, gradient: Own, output: str) -> dict[str, Loss]:
    """Return the entry for a user's loss in :data:`fnnexp.nn.pieces.losses.LOSSES`.

    The key is the name of its only output function.
    """
    both = OwnLoss(value, gradient, output)
    return {output: Loss(both.losses_and_hits, both.write_gradient, both.outputs)}


# --- schedules ----------------------------------------------------------------------------------------------


def schedule(own: Own) -> Rule:
    """Return the entry for a user's schedule in :data:`fnnexp.nn.pieces.schedules.SCHEDULES`."""
    return Rule((), partial(factors, own))


def factors(own: Own, t: Array, count: int, steps_per_epoch: int, parameters: Mapping[str, float]) -> Array:
    """Return the factors (n,) of the learning rate that a user's schedule gives for the steps t (n,).

    ``count`` is the number of steps of the whole schedule.
    """
    return np.array([own.number(int(step), count) for step in t], np.float64)


# --- metrics ------------------------------------------------------------------------------------------------


def measure(own: Own, P: Array, labels: Array) -> Array:
    """Return a user's metric for each row, given the outputs P (B, C) and labels (B,) of one network."""
    return own.array(labels.shape, read_only(P), read_only(labels))
