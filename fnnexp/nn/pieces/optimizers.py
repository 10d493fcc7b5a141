"""Optimizers: update rules that change the parameters of K networks in place.

The parameters θ, their gradient g and the slots (the optimizer's state) have shape (K, P), with P the number
of parameters of a network. Hyperparameters may differ between networks and have shape (K, 1). To add an
optimizer, write its update rule and enter it in :data:`OPTIMIZERS`.

In the formulas g is the gradient, η ``lr``, μ ``momentum``, ρ ``rho``, ε ``epsilon`` and λ ``weight_decay``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.pieces.batching import slices
from fnnexp.nn.pieces.table import Table

BLOCK = 1 << 17
"""How many elements an update rule computes at once. They are few enough to stay in cache, and so many that
the calls of NumPy take little of the time (measured). The number changes no result."""

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


def in_blocks(update: Update) -> Update:
    """Return an elementwise update rule in a form that computes at most :data:`BLOCK` elements at a time.

    So the elements stay in cache, which is faster.
    """

    @wraps(update)
    def update_in_blocks(
        theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]
    ) -> None:
        K, P = theta.shape
        if K * P <= BLOCK:
            update(theta, grad, slots, step, hyper)
            return
        for lanes in slices(K, max(BLOCK // P, 1)):
            numbers = {name: values[lanes] for name, values in hyper.items()}
            for columns in slices(P, BLOCK):
                at = (lanes, columns)
                update(theta[at], grad[at], tuple(slot[at] for slot in slots), step, numbers)

    return update_in_blocks


def sgd(theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]) -> None:
    """Apply θ ← θ − η g, where g is the gradient and η the learning rate."""
    np.multiply(grad, hyper["lr"], out=grad)
    np.subtract(theta, grad, out=theta)


@in_blocks
def momentum(
    theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]
) -> None:
    """Apply v ← μ v + g, θ ← θ − η v (Polyak 1964; the form of Sutskever et al. 2013 without lookahead)."""
    (v,) = slots
    np.multiply(v, hyper["momentum"], out=v)
    np.add(v, grad, out=v)
    np.multiply(v, hyper["lr"], out=grad)
    np.subtract(theta, grad, out=theta)


@in_blocks
def nesterov(
    theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]
) -> None:
    """Apply v ← μ v + g, θ ← θ − η (g + μ v).

    This is Nesterov's accelerated gradient (Sutskever et al. 2013) in PyTorch's form: θ is the point one
    momentum step ahead, where the gradient is computed.
    """
    (v,) = slots
    np.multiply(v, hyper["momentum"], out=v)
    np.add(v, grad, out=v)
    np.add(grad, hyper["momentum"] * v, out=grad)
    np.multiply(grad, hyper["lr"], out=grad)
    np.subtract(theta, grad, out=theta)


@in_blocks
def adagrad(
    theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]
) -> None:
    """Apply s ← s + g², θ ← θ − η g / (√s + ε)  (Duchi, Hazan & Singer 2011)."""
    (s,) = slots
    square = grad * grad
    np.add(s, square, out=s)
    _descend_scaled(theta, grad, np.sqrt(s, out=square), hyper)


@in_blocks
def rmsprop(
    theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]
) -> None:
    """Apply s ← ρ s + (1 − ρ) g², θ ← θ − η g / (√s + ε)  (Tieleman & Hinton 2012, lecture 6.5)."""
    (s,) = slots
    square = grad * grad
    np.subtract(s, square, out=s)
    np.multiply(s, hyper["rho"], out=s)
    np.add(s, square, out=s)  # s is now ρ (s − g²) + g²
    _descend_scaled(theta, grad, np.sqrt(s, out=square), hyper)


def _descend_scaled(theta: Array, grad: Array, root: Array, hyper: Mapping[str, Array]) -> None:
    """Apply θ ← θ − η g / (r + ε), where r is the root of the sum or mean of g². This overwrites r."""
    np.add(root, hyper["epsilon"], out=root)
    np.divide(grad, root, out=grad)
    np.multiply(grad, hyper["lr"], out=grad)
    np.subtract(theta, grad, out=theta)


@in_blocks
def adam(theta: Array, grad: Array, slots: tuple[Array, ...], step: int, hyper: Mapping[str, Array]) -> None:
    """Apply a step of Adam, with bias-corrected moments (Kingma & Ba 2015, algorithm 1).

    m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², θ ← θ − η m̂ / (√v̂ + ε).
    """
    m, v = slots
    beta1, beta2 = hyper["beta1"], hyper["beta2"]
    corrected1, corrected2 = bias_corrections(hyper, step)
    np.subtract(m, grad, out=m)
    np.multiply(m, beta1, out=m)
    np.add(m, grad, out=m)  # m is now β₁ (m − g) + g
    np.multiply(grad, grad, out=grad)
    np.subtract(v, grad, out=v)
    np.multiply(v, beta2, out=v)
    np.add(v, grad, out=v)
    np.divide(v, corrected2, out=grad)
    np.sqrt(grad, out=grad)
    np.add(grad, hyper["epsilon"], out=grad)
    np.divide(m, grad, out=grad)
    np.multiply(grad, hyper["lr"] / corrected1, out=grad)
    np.subtract(theta, grad, out=theta)


def bias_corrections(hyper: Mapping[str, Array], step: int) -> tuple[Array, Array]:
    """Return 1 − β₁ᵗ and 1 − β₂ᵗ (K, 1) of :func:`adam` at step t."""
    beta1, beta2 = hyper["beta1"], hyper["beta2"]
    corrected1, corrected2 = 1 - beta1.astype(np.float64) ** step, 1 - beta2.astype(np.float64) ** step
    return corrected1.astype(beta1.dtype), corrected2.astype(beta2.dtype)


def decay_weights(weights: Sequence[Array], hyper: Mapping[str, Array]) -> None:
    """Apply W ← (1 − η λ) W to the weights (K, n_in, n_out) of each layer, with ``lr`` η, ``weight_decay`` λ.

    This is decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), in PyTorch's form. Optimizers with
    the hyperparameter ``weight_decay`` do this before their update. Biases do not decay.
    """
    for W in weights:
        # One network at a time is faster than all at once.
        for lane, factor in zip(W, decay_factors(hyper).astype(W.dtype), strict=True):
            np.multiply(lane, factor, out=lane)


def decay_factors(hyper: Mapping[str, Array]) -> Array:
    """Return 1 − η λ (K,) in float64, with the learning rate η and the weight decay λ of each network."""
    factors: Array = 1 - hyper["lr"].astype(np.float64) * hyper["weight_decay"]
    return factors[:, 0]


OPTIMIZERS: Table[Optimizer] = Table(
    {
        "sgd": Optimizer(("lr",), 0, sgd),
        "momentum": Optimizer(("lr", "momentum"), 1, momentum),
        "adam": Optimizer(("lr", "beta1", "beta2", "epsilon"), 2, adam),
        "nesterov": Optimizer(("lr", "momentum"), 1, nesterov),
        "adagrad": Optimizer(("lr", "epsilon"), 1, adagrad),
        "rmsprop": Optimizer(("lr", "rho", "epsilon"), 1, rmsprop),
        "adamw": Optimizer(("lr", "beta1", "beta2", "epsilon", "weight_decay"), 2, adam),
    }
)
"""The optimizers. The keys are the allowed values of ``optimizer.name``."""
