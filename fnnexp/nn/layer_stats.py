"""Diagnostics: statistics of each layer of a lane, forward and backward, on a fixed probe of training rows.

Glorot & Bengio (2010) look at the spread of activations and of back-propagated gradients layer by layer,
before and during training, to see what an initializer does. Karpathy (CS231n, "Babysitting the learning
process") compares the size of an update with the size of the weights, and takes about 1e-3 a step for sound.
Here the update is that of an epoch, not of a step.

Measuring draws nothing and writes to nothing of the training, so no result depends on it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.numpy_engine import DenseRows
from fnnexp.nn.network import Architecture, Parameters, Workspace
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.losses import gradient_in_place, losses_and_hits
from fnnexp.nn.stack import Recipe

ROWS, PART = 512, 16
"""The probe has 512 training rows, or one in 16 where that is fewer, so that measuring takes little time
beside training. They are evenly spaced: the first rows of a file sorted by its labels would show one class
only."""

QUANTITIES = ("z_std", "dz_std", "dead", "saturated", "update_ratio")
"""What is measured of a layer, each quantity where it is defined:

- ``z_std``: standard deviation of the pre-activations Z over all rows and units.
- ``dz_std``: standard deviation of dZ, the gradient of *each row's own* loss with respect to Z, over all rows
  and units. It is not divided by the number of rows, so it does not depend on how an epoch is cut.
- ``dead``: share of a hidden layer's units that pass no gradient on for any row of the probe. The activation
  says how it is measured, see :class:`fnnexp.nn.pieces.activations.Activation`; a ReLU is dead where it is 0
  for every row.
- ``saturated``: share of a hidden layer's activations, over rows and units, at which the activation function
  is flat; the activation says so too: |a| > 0.99 for tanh, a < 0.01 or a > 0.99 for sigmoid.
- ``update_ratio``: ‖W − W₀‖ / ‖W₀‖ (Frobenius), where W₀ are the weights before the epoch; not at epoch 0.
"""

OF_UNITS = ("dead", "saturated")
"""Those of :data:`QUANTITIES` that a hidden layer has where its activation defines them."""

NAME = re.compile(rf"layer(\d+)/({'|'.join(QUANTITIES)})")
"""The form of a diagnostic's name, with the layer and the quantity."""


def name(layer: int, quantity: str) -> str:
    """Return a diagnostic's name. ``layer`` counts from 0, the name from 1; the last layer makes the logits.

    >>> name(0, "z_std")
    'layer1/z_std'
    """
    return f"layer{layer + 1}/{quantity}"


def has_diagnostics(metrics: Iterable[str]) -> bool:
    """Whether some of these names of metrics are those of diagnostics.

    >>> are_among(["test_loss", "layer2/dz_std"])
    True
    """
    return any(NAME.fullmatch(metric) for metric in metrics)


def names(architecture: Architecture) -> Iterator[str]:
    """Yield the name of every diagnostic that a network may have, in their order."""
    activation = ACTIVATIONS[architecture.activation]
    for layer in range(len(architecture.shapes)):
        for quantity in QUANTITIES:
            is_hidden = layer < len(architecture.hidden)
            if quantity not in OF_UNITS or (is_hidden and getattr(activation, quantity)):
                yield name(layer, quantity)


class Probe:
    """Some training rows, the same for every lane and epoch, and the buffers for one lane.

    Parameters
    ----------
    recipe
        What is trained.
    images, labels
        The training rows (n, D) and (n,), uint8.
    """

    def __init__(self, recipe: Recipe, images: Array, labels: Array) -> None:
        architecture, dtype = recipe.architecture, np.dtype(recipe.dtype)
        count = min(ROWS, -(-len(images) // PART))
        rows = np.arange(count) * len(images) // count
        self.architecture, self.epsilon = architecture, recipe.epsilon
        self.examples = DenseRows(images, recipe.scale, count, dtype).take(rows)
        self.work = Workspace(architecture, 1, count, dtype)
        self.work.set_labels(np.asarray(labels)[rows])

    def measure(self, theta: Array, before: Array | None = None) -> dict[str, float]:
        """Return the diagnostics of a lane at θ (P,), under the names of :func:`names`.

        Parameters
        ----------
        before
            θ (P,) before the epoch, for the update ratio.

        Returns
        -------
        Those that are defined and finite: a spread that overflows is left out.
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
        """Return the spread of each Z and the shares of each A; leave A and the logits in ``work``."""
        work, found = self.work, {}
        shares = {quantity: getattr(work.activation, quantity) for quantity in OF_UNITS}
        last = len(parameters.W) - 1
        for layer, (W, b) in enumerate(zip(parameters.W, parameters.b, strict=True)):
            Z = work.logits if layer == last else work.A[layer]
            if layer == 0:
                parameters.first.forward(0, self.examples, Z[0])
            else:
                np.matmul(work.A[layer - 1], W, out=Z)
            if b is not None:
                np.add(Z, b, out=Z)
            found[name(layer, "z_std")] = _spread(Z)
            if layer != last:
                work.activation.forward(Z)
                found |= {name(layer, quantity): share(Z[0]) for quantity, share in shares.items() if share}
        return found

    def _backward(self, parameters: Parameters) -> dict[str, float]:
        """Return the spread of each dZ, computed from what :meth:`_forward` left; no dW is needed."""
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
