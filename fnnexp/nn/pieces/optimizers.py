"""Optimizers: update rules that change the parameters of K lanes in place.

The parameters θ, their gradient g and the slots (the optimizer's state) have shape (K, P), with P the number
of parameters of a lane. Hyperparameters may differ between lanes and have shape (K, 1). To add an optimizer,
write its update rule and enter it in :data:`OPTIMIZERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fnnexp.nn.arrays import Array

Update = Callable[[Array, Array, tuple[Array, ...], int, Mapping[str, Array]], None]


@dataclass(frozen=True)
class Optimizer:
    """An update rule with its hyperparameters and state.

    Attributes
    ----------
    hyperparameters
        The names of its hyperparameters, in the order of :attr:`fnnexp.nn.stack.Lane.hyper`.
    slots
        How many arrays in the shape of θ the rule keeps between steps. All start at zero.
    update
        ``update(theta, grad, slots, step, hyper)`` changes theta and slots in place and may overwrite grad.
        ``step`` counts from 1.
    """

    hyperparameters: tuple[str, ...]
    slots: int
    update: Update


def sgd(theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]) -> None:
    """Apply θ ← θ − η g."""
    np.multiply(grad, hyper["lr"], out=grad)
    np.subtract(theta, grad, out=theta)


def momentum(
    theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]
) -> None:
    """Apply v ← μ v + g, θ ← θ − η v (Polyak 1964; the form of Sutskever et al. 2013 without lookahead)."""
    (v,) = slots
    np.multiply(v, hyper["momentum"], out=v)
    np.add(v, grad, out=v)
    np.multiply(v, hyper["lr"], out=grad)
    np.subtract(theta, grad, out=theta)


def adam(theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]) -> None:
    """Apply a step of Adam, with bias-corrected moments (Kingma & Ba 2015, algorithm 1).

    m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², θ ← θ − η m̂ / (√v̂ + ε).
    """
    m, v = slots
    beta1, beta2 = hyper["beta1"], hyper["beta2"]
    np.subtract(m, grad, out=m)
    np.multiply(m, beta1, out=m)
    np.add(m, grad, out=m)  # β₁ (m − g) + g
    np.multiply(grad, grad, out=grad)
    np.subtract(v, grad, out=v)
    np.multiply(v, beta2, out=v)
    np.add(v, grad, out=v)
    dtype = theta.dtype.type
    corrected1 = (1 - beta1.astype(np.float64) ** step).astype(dtype)
    corrected2 = (1 - beta2.astype(np.float64) ** step).astype(dtype)
    np.divide(v, corrected2, out=grad)
    np.sqrt(grad, out=grad)
    np.add(grad, hyper["epsilon"], out=grad)
    np.divide(m, grad, out=grad)
    np.multiply(grad, hyper["lr"] / corrected1, out=grad)
    np.subtract(theta, grad, out=theta)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(("lr",), 0, sgd),
    "momentum": Optimizer(("lr", "momentum"), 1, momentum),
    "adam": Optimizer(("lr", "beta1", "beta2", "epsilon"), 2, adam),
}
"""The optimizers. The keys are the allowed values of ``optimizer.name``."""
