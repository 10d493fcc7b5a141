"""Turn a user's functions into entries of fnnexp's tables.

A user's function gets the arrays of one lane, never those of a stack. So what it computes for a lane cannot
depend on the lanes beside it. Arrays that it must not change are read-only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.pieces.activations import Activation
from fnnexp.nn.pieces.initializers import Initializer
from fnnexp.nn.pieces.losses import Loss, as_written, identity, sigmoid, softmax
from fnnexp.nn.pieces.optimizers import Optimizer
from fnnexp.nn.pieces.schedules import Rule

Function = Callable[..., Any]

OUTPUTS = {"softmax": softmax, "sigmoid": sigmoid, "identity": identity}
"""The output functions that a loss can name."""


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
    """Return whether an initializer has the keyword ``rng`` and returns the weights themselves."""
    return "rng" in parameters_of(function)


def initializer(function: Function, exact: str) -> Initializer:
    """Return the method of an initializer's function."""
    if draws_array(function):
        return Initializer(unit, exact)
    return Initializer(function)


def unit(n_in: int, n_out: int) -> float:
    """Return 1: the weights are multiplied by ``init.gain`` only."""
    return 1.0


def weights(function: Function, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return the weights (n_in, n_out) that an initializer draws."""
    return np.asarray(function(*shape, rng=rng), np.float64)


# --- activations --------------------------------------------------------------------------------------------


def activation(forward: Function, derivative: Function) -> Activation:
    """Return the activation of two functions: A = forward(Z), and f′ = derivative(Z) or derivative(Z, A)."""
    uses_a = len(parameters_of(derivative)) > 1
    return Activation(partial(activate, forward), partial(differentiate, derivative, uses_a), needs_z=True)


def activate(forward: Function, Z: Array) -> None:
    """Write A = forward(Z) over Z (K, B, H), lane by lane."""
    for z in lanes_of(Z):
        z[...] = forward(read_only(z))


def differentiate(derivative: Function, uses_a: bool, Z: Array, A: Array, out: Array) -> None:
    """Write f′(Z) to ``out``, lane by lane."""
    for z, a, slope in zip(lanes_of(Z), lanes_of(A), lanes_of(out), strict=True):
        slope[...] = derivative(read_only(z), read_only(a)) if uses_a else derivative(read_only(z))


def lanes_of(array: Array) -> list[Array]:
    """Return the lanes (B, H) of an array (K, B, H); an array without lanes is a single one."""
    return list(array) if array.ndim > 2 else [array]


# --- optimizers ---------------------------------------------------------------------------------------------


def optimizer(function: Function, slots: int, hyperparameters: tuple[str, ...]) -> Optimizer:
    """Return the optimizer of an update function."""
    return Optimizer(hyperparameters, slots, partial(update, function))


def update(
    function: Function,
    theta: Array,
    grad: Array,
    slots: tuple[Array, ...],
    step: int,
    hyper: Mapping[str, Array],
) -> None:
    """Let a user's optimizer change the parameters (P,) and slots of each lane."""
    for k in range(len(theta)):
        numbers = {name: float(values[k, 0]) for name, values in hyper.items()}
        function(theta[k], grad[k], tuple(slot[k] for slot in slots), step, numbers)


# --- losses -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnLoss:
    """A user's loss: ``value(Z, T)`` and ``gradient(Z, T)`` of the logits and targets (B, C) of one lane."""

    value: Function
    gradient: Function
    output: str

    def losses_and_hits(self, Z: Array, T: Array, epsilon: float, row: Array) -> tuple[Array, Array]:
        """Return each row's loss (K, B) and whether the largest logit is its label's; Z is kept."""
        losses = np.empty(Z.shape[:2])
        for k in range(len(Z)):
            losses[k] = self.value(*self._of_lane(Z, T, k))
        hits: Array = Z.argmax(axis=-1) == T.argmax(axis=-1)
        return losses, hits

    def write_gradient(self, Z: Array, T: Array, epsilon: float, row: Array) -> None:
        """Overwrite the logits Z with dZ."""
        for k in range(len(Z)):
            Z[k] = self.gradient(*self._of_lane(Z, T, k))

    def outputs(self, Z: Array, row: Array, out: Array | None = None) -> Array:
        """Return the outputs of the network, in ``out`` if given."""
        outputs = as_written(Z, row, out=out)
        OUTPUTS[self.output](outputs, np.empty_like(row))
        return outputs

    @staticmethod
    def _of_lane(Z: Array, T: Array, k: int) -> tuple[Array, Array]:
        """Return copies of a lane's logits and targets, with the classes of a row side by side."""
        return np.array(Z[k], order="C"), np.array(T[k], order="C")


def loss(value: Function, gradient: Function, output: str) -> dict[str, Loss]:
    """Return the loss of two functions, as the table of losses has it."""
    own = OwnLoss(value, gradient, output)
    return {output: Loss(own.losses_and_hits, own.write_gradient, own.outputs)}


# --- schedules ----------------------------------------------------------------------------------------------


def schedule(function: Function) -> Rule:
    """Return the schedule of a function of the step and the number of steps."""
    return Rule((), partial(factors, function))


def factors(
    function: Function, t: Array, count: int, steps_per_epoch: int, parameters: Mapping[str, float]
) -> Array:
    """Return a user's factors (n,) at the steps t (n,)."""
    return np.array([function(int(step), count) for step in t], np.float64)
