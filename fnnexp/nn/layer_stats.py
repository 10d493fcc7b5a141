"""Diagnostics: what passes through each layer of a lane, forward and backward, on a fixed probe of rows.

Glorot & Bengio (2010) look at the spread of activations and of back-propagated gradients layer by layer,
before and during training, to see what an initializer does; Karpathy (CS231n, "Babysitting the learning
process") watches how far an update moves the weights relative to their size, and holds about 1e-3 a step for
sound. Here that is told of an epoch, not of a step.

Nothing is drawn and nothing of the training is written to: no result depends on whether it is looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.engines.numpy_engine import Rows
from fnnexp.nn.network import Architecture, Parameters, Workspace
from fnnexp.nn.pieces.losses import gradient_in_place, losses_and_hits

Array = NDArray[Any]

ROWS, PART = 512, 16
"""Training rows in the probe, or one in so many where that is fewer, lest looking take long beside training.

They are evenly spaced: the first rows of a file that is sorted by its labels would show one class only."""

QUANTITIES = ("z_std", "dz_std", "dead", "saturated", "update_ratio")
"""What is told of a layer, each where it is defined:

- ``z_std``: standard deviation of the pre-activations Z over all rows and units.
- ``dz_std``: standard deviation of dZ, the gradient of *each row's own* loss with respect to Z, over all rows
  and units. It is not divided by the number of rows, so it does not depend on how an epoch is cut.
- ``dead``: share of a hidden layer's ReLUs that are 0 for every row of the probe.
- ``saturated``: share of a hidden layer's activations, over rows and units, at which tanh or sigmoid is flat:
  |a| > 0.99, or a < 0.01 or a > 0.99.
- ``update_ratio``: ‖W − W₀‖ / ‖W₀‖ (Frobenius), where W₀ are the weights before the epoch; not at epoch 0.
"""


def dead(A: Array) -> float:
    """Return the share of units of A (B, H) that are 0 in all rows."""
    return float((~(A > 0).any(axis=0)).mean())


def tanh_saturated(A: Array) -> float:
    """Return the share of A (B, H) beyond ±0.99."""
    return float((np.abs(A) > 0.99).mean())


def sigmoid_saturated(A: Array) -> float:
    """Return the share of A (B, H) below 0.01 or above 0.99."""
    return float(((A < 0.01) | (A > 0.99)).mean())


IDLE: dict[str, tuple[str, Callable[[Array], float]]] = {
    "relu": ("dead", dead),
    "tanh": ("saturated", tanh_saturated),
    "tanh_as_published": ("saturated", tanh_saturated),
    "sigmoid": ("saturated", sigmoid_saturated),
}
"""By activation, the share of a hidden layer through which no gradient passes, and which of
:data:`QUANTITIES` it is."""


NAME = re.compile(rf"layer(\d+)/({'|'.join(QUANTITIES)})")
"""The form of a metric's name, with the layer and the quantity."""


def name(layer: int, quantity: str) -> str:
    """Return a metric's name; layers count from 0 here and from 1 in names, the last one makes the logits.

    >>> name(0, "z_std")
    'layer1/z_std'
    """
    return f"layer{layer + 1}/{quantity}"


def told_by(metrics: Iterable[str]) -> bool:
    """Whether there are diagnostics among metrics of these names.

    >>> told_by(["test_loss", "layer2/dz_std"])
    True
    """
    return any(NAME.fullmatch(metric) for metric in metrics)


def names(architecture: Architecture) -> Iterator[str]:
    """Yield the name of every metric that a network may have, in their order."""
    idle = IDLE[architecture.activation][0]
    for layer in range(len(architecture.shapes)):
        for quantity in QUANTITIES:
            if quantity in ("z_std", "dz_std", "update_ratio") or (
                quantity == idle and layer < len(architecture.hidden)
            ):
                yield name(layer, quantity)


class Probe:
    """Some training rows, the same for every lane and epoch, and the buffers for one lane.

    Parameters
    ----------
    architecture
        The network.
    images, labels
        The training rows (n, D) and (n,), uint8.
    scale, epsilon, dtype
        Those of the training: ``unit`` or ``raw`` inputs, ε of the loss, of what type it computes.
    """

    def __init__(
        self,
        architecture: Architecture,
        images: Array,
        labels: Array,
        *,
        scale: str,
        epsilon: float,
        dtype: np.dtype[Any],
    ) -> None:
        count = min(ROWS, -(-len(images) // PART))
        rows = np.arange(count) * len(images) // count
        self.architecture, self.epsilon = architecture, epsilon
        self.examples = Rows(images, scale, count, dtype).take(rows)
        self.work = Workspace(architecture, 1, count, dtype)
        self.work.expect(np.asarray(labels)[rows])

    def measure(self, theta: Array, before: Array | None = None) -> dict[str, float]:
        """Return what passes through a lane's layers at θ (P,), under the names of :func:`names`.

        Parameters
        ----------
        before
            θ (P,) before the epoch, for the update ratio.

        Returns
        -------
        What is defined and finite of it: a spread that overflows is left out.
        """
        parameters = Parameters(self.architecture, theta[None])
        found = self._forward(parameters) | self._backward(parameters)
        if before is not None:
            W_before = Parameters(self.architecture, before[None]).W
            for layer, (W, W0) in enumerate(zip(parameters.W, W_before, strict=True)):
                norm = _norm(W0)
                found[name(layer, "update_ratio")] = _norm(W - W0) / norm if norm else math.nan
        finite = {key for key, value in found.items() if math.isfinite(value)}
        return {key: found[key] for key in names(self.architecture) if key in finite}

    def _forward(self, parameters: Parameters) -> dict[str, float]:
        """Return the spread of each Z and the idle share of each A; ``work`` is left with A and logits."""
        work, found = self.work, {}
        idle, share = IDLE[self.architecture.activation]
        last = len(parameters.W) - 1
        for layer, (W, b) in enumerate(zip(parameters.W, parameters.b, strict=True)):
            Z = work.logits if layer == last else work.A[layer]
            if layer == 0:
                parameters.first.times(0, self.examples, Z[0])
            else:
                np.matmul(work.A[layer - 1], W, out=Z)
            if b is not None:
                np.add(Z, b, out=Z)
            found[name(layer, "z_std")] = _spread(Z)
            if layer != last:
                work.activation.forward(Z)
                found[name(layer, idle)] = share(Z[0])
        return found

    def _backward(self, parameters: Parameters) -> dict[str, float]:
        """Return the spread of each dZ, from what :meth:`_forward` left; no dW is needed."""
        work, found = self.work, {}
        losses_and_hits(work.logits, work.onehot, self.epsilon, work.row)
        gradient_in_place(work.logits, work.onehot, self.epsilon, work.row)
        dZ = work.logits
        for layer in reversed(range(len(parameters.W))):
            found[name(layer, "dz_std")] = _spread(dZ)
            if layer > 0:
                dA, slope = work.dA[layer - 1], work.slope[layer - 1]
                np.matmul(dZ, parameters.W[layer].transpose(0, 2, 1), out=dA)
                work.activation.slope(work.A[layer - 1], slope)
                np.multiply(dA, slope, out=dA)
                dZ = dA
        return found


def _spread(values: Array) -> float:
    """Return the standard deviation of all values, summed in float64."""
    return float(np.std(values, dtype=np.float64))


def _norm(values: Array) -> float:
    """Return the root of the sum of all squares."""
    flat = values.reshape(-1)
    return math.sqrt(np.dot(flat, flat))
