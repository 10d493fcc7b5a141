"""Optimizers: update rules, in place, for K lanes at once; each lane has its own hyperparameters.

θ, its gradient g and the slots (an optimizer's memory) are (K, P); a hyperparameter is (K, 1). To add an
optimizer, write its update rule and enter it in :data:`OPTIMIZERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fnnexp.nn.arrays import Array

Update = Callable[[Array, Array, tuple[Array, ...], int, Mapping[str, Array]], None]


@dataclass(frozen=True)
class Optimizer:
    """One update rule.

    Attributes
    ----------
    hyperparameters
        The names of the values that each lane gives, in their order.
    slots
        How many arrays of θ's shape the rule remembers, all zero at the start.
    update
        ``update(theta, grad, slots, step, hyper)`` changes theta and slots in place and may overwrite grad;
        step counts from 1.
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
    """Adam with both moments bias-corrected (Kingma & Ba 2015, algorithm 1).

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
    kind = theta.dtype.type
    corrected1 = (1 - beta1.astype(np.float64) ** step).astype(kind)
    corrected2 = (1 - beta2.astype(np.float64) ** step).astype(kind)
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
"""The optimizers by the name that ``optimizer.name`` gives."""
