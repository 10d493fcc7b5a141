"""Regularization: penalties on the weights, dropout, and bounds on the norms of gradients and weights.

Biases are exempt from the penalties and from the bound on weights. A norm is computed for one network after
another, with the shapes of a network alone, so that a network's numbers do not depend on the other networks
of its stack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fnnexp.nn.arrays import Array, DType
from fnnexp.nn.rng import generator

DROPOUT = "dropout."
"""The start of the name of a dropout rate. ``dropout.0`` is the rate of the inputs, ``dropout.1`` that of the
first hidden layer."""

Draws = Mapping[tuple[int, int], Array]
"""Uniform draws (B, H) for some rows, by layer and seed."""


def add_l2_gradient(gradient: Array, W: Array, l2: Array, buffer: Array) -> None:
    """Add l2 · W, the gradient of (l2/2) · ΣW², to a gradient (weight decay; Krogh & Hertz 1991).

    Parameters
    ----------
    gradient, W, buffer
        The gradient, changed in place; the weights; an array to overwrite. Each has shape (K, n_in, n_out).
    l2
        The coefficients (K, 1, 1).
    """
    np.multiply(W, l2, out=buffer)
    np.add(gradient, buffer, out=gradient)


def add_l1_gradient(gradient: Array, W: Array, l1: Array, buffer: Array) -> None:
    """Add l1 · sign(W), the gradient of l1 · Σ|W|, to a gradient (lasso; Tibshirani 1996). At W = 0 it is 0.

    For the parameters see :func:`add_l2_gradient`.
    """
    np.sign(W, out=buffer)
    np.multiply(buffer, l1, out=buffer)
    np.add(gradient, buffer, out=gradient)


def clip_norms(gradients: Array, limits: Array) -> None:
    """Scale each network's gradient to a norm of at most its limit (Pascanu et al. 2013, algorithm 1).

    Parameters
    ----------
    gradients
        (K, P), changed in place. A gradient that is not finite stays as it is, so its network diverges.
    limits
        (K, 1).
    """
    for gradient, limit in zip(gradients, limits[:, 0], strict=True):
        norm = math.sqrt(np.dot(gradient, gradient))
        if norm == math.inf:  # the sum of squares may overflow in float32 although the gradient is finite
            norm = float(np.linalg.norm(gradient.astype(np.float64)))
        if limit < norm < math.inf:
            np.multiply(gradient, gradient.dtype.type(limit / norm), out=gradient)


def bound_norms(W: Array, limits: Array) -> None:
    """Scale the incoming weights of each unit to a norm of at most the limit (Srivastava et al. 2014, §5.1).

    Parameters
    ----------
    W
        (K, n_in, n_out), changed in place.
    limits
        (K, 1).
    """
    for weights, limit in zip(W, limits[:, 0], strict=True):
        norms = np.sqrt(np.add.reduce(weights * weights, axis=0))
        if (norms > limit).any():
            np.multiply(weights, limit / np.maximum(norms, limit), out=weights)


class Dropout:
    """The dropout masks of a stack of networks: inverted dropout (Srivastava et al. 2014, §10).

    In a training step, each value of a layer is kept with probability 1 − p and divided by 1 − p, or set to
    0. So the expected value equals the value in the full network, which is used for evaluation. The draws for
    a mask depend on (seed for noise, step, layer) alone. Networks with the same seed share the uniform draws:
    a value that is kept at one rate is also kept at every lower rate.

    Parameters
    ----------
    hyper
        The hyperparameters of each network by name, with the dropout rate p of each layer; see
        :data:`DROPOUT`.
    seeds
        The seed for noise of each network.
    widths
        The widths of the layers: D, then H of each hidden layer.
    """

    def __init__(
        self,
        hyper: Sequence[Mapping[str, float]],
        seeds: Sequence[int],
        widths: Sequence[int],
        dtype: DType,
    ) -> None:
        self._dtype, self._seeds, self._widths = dtype, seeds, widths
        self._rates: dict[int, list[float]] = {}
        for numbers in hyper:
            for name, rate in numbers.items():
                if name.startswith(DROPOUT):
                    self._rates.setdefault(int(name.removeprefix(DROPOUT)), []).append(rate)
        self._generators: dict[tuple[int, int], np.random.Generator] = {}

    @property
    def hidden(self) -> frozenset[int]:
        """The hidden layers with dropout, counted from 0."""
        return frozenset(layer - 1 for layer in self._rates if layer > 0)

    @property
    def of_inputs(self) -> bool:
        """Whether inputs are dropped."""
        return 0 in self._rates

    def begin(self, step: int) -> None:
        """Prepare the random generators for the step with this number, counted from 1 over all epochs."""
        self._generators = {
            (layer, seed): generator(seed, "dropout", step, layer)
            for layer in self._rates
            for seed in set(self._seeds)
        }

    def draw(self, rows: int) -> Draws:
        """Return uniform random draws for the next rows of the step, which :meth:`mask` turns into masks."""
        return {
            (layer, seed): drawn.random((rows, self._widths[layer]), dtype=np.float32)
            for (layer, seed), drawn in self._generators.items()
        }

    def mask(self, draws: Draws, layer: int, lane: int, out: Array) -> None:
        """Write the mask of one network for the drawn rows to ``out`` (B, H): 0, or 1 / (1 − p).

        ``layer`` is 0 for the inputs, and ``lane`` the position of the network in the stack.
        """
        rate = self._rates[layer][lane]
        np.multiply(draws[layer, self._seeds[lane]] >= rate, self._dtype.type(1 / (1 - rate)), out=out)
