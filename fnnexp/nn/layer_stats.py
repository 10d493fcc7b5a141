"""Diagnostics: statistics of each layer of a network, forward and backward, on a fixed set of training rows.

Glorot & Bengio (2010) compare initializers by the spread of activations and of back-propagated gradients,
layer by layer, before and during training. Karpathy (CS231n, "Babysitting the learning process") compares the
size of an update with the size of the weights, and calls about 1e-3 for a step healthy. Here the update is
that of an epoch, not of a step.

``diagnostics=full`` also counts the values themselves, as in the figures 4, 6 and 7 of Glorot & Bengio. The
bins of these histograms are the same for every network, so histograms can be compared and added.

Diagnostics draw no random numbers and change no array of the training, so no result depends on them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.numpy_engine import DenseRows
from fnnexp.nn.network import Architecture, Parameters, Workspace, activations_of
from fnnexp.nn.pieces.losses import loss_for
from fnnexp.nn.rows import Split
from fnnexp.nn.stack import Lane, Recipe, Record, smoothed_targets

FULL: Literal["full"] = "full"
"""The value of ``diagnostics`` with which histograms are recorded too."""

Level = bool | Literal["full"]
"""What is recorded: nothing, the statistics, or the statistics and the histograms."""

MAX_ROWS, SPACING = 512, 16
"""Diagnostics are computed on 512 training rows, or on one row in 16 if that is fewer, so they take little
time compared with training. The rows are evenly spaced: the first rows of a file that is sorted by label
would all have one label."""

QUANTITIES = ("z_std", "dz_std", "dead", "saturated", "update_ratio")
"""The statistics of a layer:

- ``z_std``: standard deviation of the pre-activations Z over all rows and units. The Z of the last layer are
  the logits.
- ``dz_std``: standard deviation of dZ, the gradient of *each row's own* loss with respect to Z, over all rows
  and units. It is not divided by the number of rows, so it does not depend on the batch size.
- ``dead``: share of a hidden layer's units that are dead. A ReLU unit is dead if its output is 0 for every
  row, so that it passes no gradient on.
- ``saturated``: share of a hidden layer's outputs, over all rows and units, where the activation function is
  almost flat: beyond ±0.99 for tanh and softsign, below 0.01 or above 0.99 for sigmoid, and within 1% of the
  lower bound for elu and selu.
- ``update_ratio``: ‖W − W₀‖ / ‖W₀‖ (Frobenius norms), where W₀ are the weights before the epoch. Epoch 0 has
  none.

Hidden layers have ``dead`` and ``saturated`` only if :class:`fnnexp.nn.pieces.activations.Activation` does.
"""

HIDDEN_ONLY = ("dead", "saturated")
"""The :data:`QUANTITIES` that only hidden layers have, and only if the activation defines them."""

NAME = re.compile(rf"layer(\d+)/({'|'.join(QUANTITIES)})")
"""Matches the name of a diagnostic; its groups are the layer and the quantity."""

COUNTED = ("a", "dz")
"""The quantities of a layer that have histograms, over all rows and units:

- ``a``: the outputs A after the activation function. The outputs of the last layer are the logits.
- ``dz``: dZ, as for ``dz_std``.
"""

STEPS = (1, 1.8, 3.2, 5.6)
"""Four edges of a power of ten, about equally far apart on a logarithmic axis."""

MAGNITUDES = (
    *(float(f"{step}e{power}") for power in range(-12, -1) for step in STEPS if (power, step) != (-2, 5.6)),
    *(hundredths / 100 for hundredths in (*range(5, 100, 5), 99)),
    *(float(f"{step}e{power}") for power in range(6) for step in STEPS),
    1e6,
)
"""The edges of the bins, for both signs.

They are logarithmic below 0.05 and above 1, so that gradients that vanish or explode stay visible. Between
0.05 and 1 they are linear, with one at 0.99, so that the bin next to 1 has the saturated outputs.
"""

LOW = np.array([-np.inf, *(-edge for edge in MAGNITUDES[::-1]), 0, 0, *MAGNITUDES])
HIGH = np.array([*(-edge for edge in MAGNITUDES[::-1]), 0, 0, *MAGNITUDES, np.inf])
"""The ends of the bins, from −∞ to ∞. The bin in the middle counts exact zeros, and its ends are both 0.

A bin of negative values has low ≤ value < high, and a bin of positive values low < value ≤ high.
"""

COUNTS = np.dtype("<i4")
"""The type of counts."""


def name(layer: int, quantity: str) -> str:
    """Return the name of a diagnostic. ``layer`` counts from 0, but the name from 1.

    >>> name(0, "z_std")
    'layer1/z_std'
    """
    return f"layer{layer + 1}/{quantity}"


def has_diagnostics(metrics: Iterable[str]) -> bool:
    """Return whether any of these metric names is the name of a diagnostic.

    >>> has_diagnostics(["test_loss", "layer2/dz_std"])
    True
    """
    return any(NAME.fullmatch(metric) for metric in metrics)


def names(architecture: Architecture) -> Iterator[str]:
    """Yield the names of all diagnostics that a network can have, in order."""
    for layer, activation in enumerate([*activations_of(architecture), None]):
        for quantity in QUANTITIES:
            if quantity not in HIDDEN_ONLY or getattr(activation, quantity, None):
                yield name(layer, quantity)


def level_of(record: Record) -> Level:
    """Return which diagnostics a record has: False for none, True for statistics, FULL for histograms too."""
    return FULL if record.histograms is not None else has_diagnostics(record.metrics)


def includes(recorded: Level, wanted: Level) -> bool:
    """Return whether a record with the diagnostics ``recorded`` has everything that ``wanted`` asks for.

    Both are False, True or FULL: no diagnostics, statistics, or statistics and histograms.

    >>> includes(FULL, True), includes(True, FULL)
    (True, False)
    """
    levels = (False, True, FULL)
    return levels.index(recorded) >= levels.index(wanted)


def histogram(values: Array) -> NDArray[np.int32]:
    """Return how many of the values are in each bin, from :data:`LOW` to :data:`HIGH`. A NaN is in no bin.

    >>> counts = histogram(np.array([-2.0, 0.0, 0.0, 0.995, 1.0]))
    >>> [(float(LOW[i]), float(HIGH[i]), int(counts[i])) for i in np.flatnonzero(counts)]
    [(-3.2, -1.8, 1), (0.0, 0.0, 2), (0.99, 1.0, 2)]
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    middle = len(LOW) // 2
    below = np.searchsorted(ordered, HIGH[:middle], side="left")
    up_to = np.searchsorted(ordered, HIGH[middle:], side="right")
    return np.diff(np.concatenate([below, up_to]), prepend=0).astype(COUNTS)


def counts_shape(architecture: Architecture) -> tuple[int, int, int]:
    """Return the shape of one epoch's histograms: layers, quantities (:data:`COUNTED`), bins."""
    return len(architecture.shapes), len(COUNTED), len(LOW)


def histogram_arrays(architecture: Architecture, records: Sequence[Record]) -> dict[str, Array]:
    """Return the histograms in a network's records as named arrays for a file; empty if there are none.

    Returns
    -------
    ``counts`` (epochs, layers, quantities, bins), ``epoch`` with the number of each epoch, ``quantity`` with
    the names of :data:`COUNTED`, and ``low`` and ``high`` with the ends of the bins.
    """
    counted = [record for record in records if record.histograms is not None]
    if not counted:
        return {}
    shape = (len(counted), *counts_shape(architecture))
    content = b"".join(record.histograms or b"" for record in counted)
    return {
        "counts": np.frombuffer(content, COUNTS).reshape(shape),
        "epoch": np.array([record.epoch for record in counted], COUNTS),
        "quantity": np.array(COUNTED, "<U2"),
        "low": LOW,
        "high": HIGH,
    }


class Probe:
    """Computes the diagnostics of the networks of a stack, on the same training rows at each call.

    Parameters
    ----------
    recipe
        The recipe of the stack.
    split
        The training rows.
    level
        What to record: True for the statistics, :data:`FULL` for the histograms too.
    """

    def __init__(self, recipe: Recipe, split: Split, level: Level = True) -> None:
        architecture, dtype = recipe.architecture, np.dtype(recipe.dtype)
        count = min(MAX_ROWS, -(-len(split.images) // SPACING))
        rows = np.arange(count) * len(split.images) // count
        self.recipe, self.architecture, self.loss = recipe, architecture, loss_for(recipe)
        self.examples = DenseRows(split.images, split.scaling, count, dtype).take(rows)
        self.work = Workspace(architecture, 1, count, dtype)
        self.labels = np.asarray(split.labels)[rows]
        self.counts = np.zeros(counts_shape(architecture), COUNTS) if level == FULL else None

    def measure(
        self, lane: Lane, theta: Array, before: Array | None = None
    ) -> tuple[dict[str, float], bytes | None]:
        """Return the diagnostics of a network with the parameters θ (P,), by name, and its histograms.

        Parameters
        ----------
        before
            θ (P,) before the epoch, for the update ratio; None to omit this ratio.

        Returns
        -------
        The diagnostics of :func:`names`, except those that are not finite; and the histograms as bytes, as in
        :class:`fnnexp.nn.stack.Record`, or None if they are not recorded.
        """
        parameters = Parameters(self.architecture, theta[None])
        self.work.set_labels(self.labels, smoothed_targets(self.recipe, [lane]))
        values = self._forward(parameters) | self._backward(parameters)
        if before is not None:
            W_before = Parameters(self.architecture, before[None]).W
            for layer, (W, W0) in enumerate(zip(parameters.W, W_before, strict=True)):
                norm = _norm(W0)
                values[name(layer, "update_ratio")] = _norm(W - W0) / norm if norm else math.nan
        finite = {key for key, value in values.items() if math.isfinite(value)}
        metrics = {key: values[key] for key in names(self.architecture) if key in finite}
        return metrics, None if self.counts is None else self.counts.tobytes()

    def _forward(self, parameters: Parameters) -> dict[str, float]:
        """Return the standard deviation of each layer's Z, and the shares of dead and saturated units.

        The activations and the logits are written to ``work``.
        """
        work, values = self.work, {}
        last = len(parameters.W) - 1
        for layer, (W, b) in enumerate(zip(parameters.W, parameters.b, strict=True)):
            Z = work.logits if layer == last else work.A[layer]
            if layer == 0:
                parameters.first.forward(range(1), self.examples, Z)
            else:
                np.matmul(work.A[layer - 1], W, out=Z)
            if b is not None:
                np.add(Z, b, out=Z)
            values[name(layer, "z_std")] = _spread(Z)
            if layer != last:
                work.activate(layer)
                shares = {quantity: getattr(work.activations[layer], quantity) for quantity in HIDDEN_ONLY}
                values |= {name(layer, quantity): share(Z[0]) for quantity, share in shares.items() if share}
            self._count(layer, "a", Z)
        return values

    def _backward(self, parameters: Parameters) -> dict[str, float]:
        """Return the standard deviation of each layer's dZ, given what :meth:`_forward` wrote to ``work``."""
        work, values = self.work, {}
        self.loss.losses_and_hits(work.logits, work.targets, self.recipe.epsilon, work.row)
        self.loss.gradient(work.logits, work.targets, self.recipe.epsilon, work.row)
        dZ = work.logits
        for layer in reversed(range(len(parameters.W))):
            values[name(layer, "dz_std")] = _spread(dZ)
            self._count(layer, "dz", dZ)
            if layer > 0:
                dA = work.dA[layer - 1]
                np.matmul(dZ, parameters.W[layer].transpose(0, 2, 1), out=dA)
                work.times_derivative(layer - 1)
                dZ = dA
        return values

    def _count(self, layer: int, quantity: str, values: Array) -> None:
        """Count the values of a quantity of a layer for its histogram, if histograms are recorded."""
        if self.counts is not None:
            self.counts[layer, COUNTED.index(quantity)] = histogram(values)


def _spread(values: Array) -> float:
    """Return the standard deviation of all values, summed in float64."""
    return float(np.std(values, dtype=np.float64))


def _norm(values: Array) -> float:
    """Return the square root of the sum of squares of all values."""
    flat = values.reshape(-1)
    return math.sqrt(np.dot(flat, flat))
