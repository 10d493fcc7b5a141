"""The network: its architecture, its parameters, and forward and backward for a stack of K networks (lanes).

A layer computes A = f(X W + b). The parameters of a lane are one row of a flat array θ (K, P), in the order
W1 b1 W2 b2 …. The W and b of each layer are views of θ.

A lane's numbers are bitwise the same in any stack. Each matrix product is computed lane by lane, with the
same shapes as for a lane alone: ``np.matmul`` over a leading K axis calls BLAS once for each lane. All other
operations are elementwise or reduce within a lane. The first layer is by far the largest, so it is computed
in a loop over lanes: a lane's weights are then still in cache when they are needed again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fnnexp.nn.arrays import Array, DType
from fnnexp.nn.engines.numpy_engine import BlasFirstLayer, FirstLayer, Inputs
from fnnexp.nn.pieces.activations import LEAKY_SLOPE, Activation, activation_named
from fnnexp.nn.pieces.initializers import Biases, UnitDraws, draw, unit_draws

BIASES = ("zeros", "normal", "none")
"""How a bias starts. ``zeros``: at zero, or as ``init.bias`` says. ``normal``: with normal draws that have
the standard deviation of the layer's weights. ``none``: the layer has no bias."""


@dataclass(frozen=True)
class Architecture:
    """The architecture of a fully-connected network.

    Attributes
    ----------
    inputs, hidden, classes
        The number of inputs D, of units H of each hidden layer, and of classes C.
    activation
        The activation of every hidden layer, a key of :data:`fnnexp.nn.pieces.activations.ACTIVATIONS`, or
        a tuple with one for each. A tuple of equal names becomes the name.
    hidden_bias, output_bias
        How the biases of the hidden layers and of the output layer start: ``zeros``, ``normal`` or ``none``;
        see :data:`BIASES`.
    slope
        The slope of ``leaky_relu`` for negative inputs. A network without ``leaky_relu`` gets the default.

    Architectures that compute the same are equal:

    >>> Architecture(784, (64, 32), 10, ("elu", "elu"), slope=0.5) == Architecture(784, (64, 32), 10, "elu")
    True
    """

    inputs: int
    hidden: tuple[int, ...]
    classes: int
    activation: str | tuple[str, ...]
    hidden_bias: str = "zeros"
    output_bias: str = "zeros"
    slope: float = LEAKY_SLOPE

    def __post_init__(self) -> None:
        names = set(self.activation) if isinstance(self.activation, tuple) else {self.activation}
        if len(names) == 1:
            object.__setattr__(self, "activation", *names)
        if "leaky_relu" not in names:
            object.__setattr__(self, "slope", LEAKY_SLOPE)

    @property
    def activations(self) -> list[str]:
        """The name of the activation of each hidden layer."""
        if isinstance(self.activation, tuple):
            return list(self.activation)
        return [self.activation] * len(self.hidden)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shape (n_in, n_out) of each layer."""
        return list(pairwise((self.inputs, *self.hidden, self.classes)))

    @property
    def biases(self) -> list[str]:
        """How the bias of each layer starts, the output layer last: ``zeros``, ``normal`` or ``none``."""
        return [self.hidden_bias] * len(self.hidden) + [self.output_bias]

    @property
    def parameter_count(self) -> int:
        """P, the number of weights and biases of the network."""
        return sum(
            n_in * n_out + (n_out if bias != "none" else 0)
            for (n_in, n_out), bias in zip(self.shapes, self.biases, strict=True)
        )


def activations_of(architecture: Architecture) -> list[Activation]:
    """Return the activation of each hidden layer."""
    return [activation_named(name, architecture.slope) for name in architecture.activations]


class Parameters:
    """The weights and biases of K networks with P parameters each, as views of one flat array θ (K, P).

    Layer l has the weights ``W[l]`` (K, n_in, n_out) and the biases ``b[l]`` (K, 1, n_out), or None without a
    bias. ``first`` multiplies rows of the input with ``W[0]``, by the code of an engine.
    """

    def __init__(
        self,
        architecture: Architecture,
        theta: Array,
        first_layer: Callable[[Array], FirstLayer] = BlasFirstLayer,
    ) -> None:
        self.theta = theta
        self.W: list[Array] = []
        self.b: list[Array | None] = []
        lanes, offset = theta.shape[0], 0
        for (n_in, n_out), bias in zip(architecture.shapes, architecture.biases, strict=True):
            self.W.append(theta[:, offset : offset + n_in * n_out].reshape(lanes, n_in, n_out))
            offset += n_in * n_out
            if bias == "none":
                self.b.append(None)
            else:
                self.b.append(theta[:, offset : offset + n_out].reshape(lanes, 1, n_out))
                offset += n_out
        self.first = first_layer(self.W[0])

    def named(self, lane: int) -> dict[str, Array]:
        """Return copies of the arrays of one of the K networks by name: ``W1 b1 W2 b2 …``.

        A layer without bias has no ``b``.
        """
        arrays: dict[str, Array] = {}
        for layer, (W, b) in enumerate(zip(self.W, self.b, strict=True), start=1):
            arrays[f"W{layer}"] = W[lane].copy()
            if b is not None:
                arrays[f"b{layer}"] = b[lane, 0].copy()
        return arrays


def initial_theta(
    architecture: Architecture,
    seed: int,
    stds: Sequence[float],
    dtype: DType,
    *,
    distribution: str = "normal",
    mean: float = 0.0,
    biases: Biases | None = None,
    unit: UnitDraws = unit_draws,
) -> Array:
    """Return the initial parameters θ (P,) of one network.

    Parameters
    ----------
    stds
        The standard deviation of each layer's weights, and of its bias if the bias is ``normal``.
    distribution, mean
        The distribution of the weights, a key of :data:`fnnexp.nn.pieces.initializers.DISTRIBUTIONS`, and
        their mean.
    biases
        How to draw the biases that would otherwise start at zero; None to leave them at zero.
    unit
        Returns the draws that are scaled to these standard deviations:
        :func:`fnnexp.nn.pieces.initializers.unit_draws`, or that function with a cache.
    """
    theta = np.zeros((1, architecture.parameter_count), dtype)
    parameters = Parameters(architecture, theta)
    for layer, (std, bias) in enumerate(zip(stds, architecture.biases, strict=True)):
        W, b = parameters.W[layer], parameters.b[layer]
        W[0] = draw(seed, "weights", layer, W.shape[1:], std, distribution, mean, unit)
        if b is not None and bias == "normal":
            b[0] = draw(seed, "biases", layer, b.shape[1:], std)
        elif b is not None and biases is not None:
            b[0] = biases.draw(seed, layer, *architecture.shapes[layer])
    initial: Array = theta[0]
    return initial


class Workspace:
    """Buffers for the forward and backward passes of K networks on B rows each, allocated once.

    ``activations``, ``A``, ``Z``, ``dA`` and ``derivative`` have one entry for each hidden layer. If the
    derivative of the activation needs Z, ``Z[l]`` is an array of its own. Otherwise ``Z[l]`` is the same
    array as ``A[l]``, in which A overwrites Z. ``outputs`` are the outputs of the hidden layers: A, or A
    times the dropout mask in the layers of ``dropout``.
    """

    def __init__(
        self,
        architecture: Architecture,
        lanes: int,
        rows: int,
        dtype: DType,
        dropout: Collection[int] = (),
    ) -> None:
        self.activations = activations_of(architecture)
        self.A = [np.empty((lanes, rows, width), dtype) for width in architecture.hidden]
        self.Z = [np.empty_like(a) if f.needs_z else a for f, a in zip(self.activations, self.A, strict=True)]
        self.dA = [np.empty_like(a) for a in self.A]
        self.derivative = [np.empty_like(a) for a in self.A]
        self.masks = {layer: np.empty_like(self.A[layer]) for layer in dropout}
        self.outputs = [np.empty_like(a) if layer in dropout else a for layer, a in enumerate(self.A)]
        # In memory, the values of all rows for one class are adjacent. So a sum or a maximum over the few
        # classes works on long vectors, one for each class.
        by_class = (lanes, architecture.classes, rows)
        self.logits = np.empty(by_class, dtype).transpose(0, 2, 1)
        self.targets = np.empty(by_class, dtype).transpose(0, 2, 1)
        self.row = np.empty((lanes, rows, 1), dtype)
        self.classes = np.arange(architecture.classes, dtype=np.uint8)
        self.dW = [np.empty((lanes, *shape), dtype) for shape in architecture.shapes[1:]]
        self.db = [np.empty((lanes, 1, n_out), dtype) for _, n_out in architecture.shapes]

    def set_labels(self, labels: Array, values: tuple[Array, Array] | None = None) -> None:
        """Write ``targets`` for labels (K, B), or (B,) if all K networks have the same labels.

        ``values`` are the target of the wrong classes and the target of the right class, each (K, 1, 1), as
        from :func:`fnnexp.nn.stack.smoothed_targets`. Without ``values``, they are 0 and 1.
        """
        is_label = labels[..., None] == self.classes
        if values is None:
            np.copyto(self.targets, is_label)
        else:
            other, label = values
            np.copyto(self.targets, other)
            np.copyto(self.targets, label, where=is_label)

    def activate(self, layer: int) -> None:
        """Overwrite Z in ``A[layer]`` with A = f(Z); with dropout, write A times the mask to ``outputs``."""
        activation, A = self.activations[layer], self.A[layer]
        if activation.needs_z:
            np.copyto(self.Z[layer], A)
        activation.forward(A)
        if layer in self.masks:
            np.multiply(A, self.masks[layer], out=self.outputs[layer])

    def times_derivative(self, layer: int) -> None:
        """Overwrite ``dA``, the gradient of a hidden layer's output, with dZ = dA · mask · f′(Z)."""
        dA, derivative = self.dA[layer], self.derivative[layer]
        if layer in self.masks:
            np.multiply(dA, self.masks[layer], out=dA)
        self.activations[layer].derivative(self.Z[layer], self.A[layer], derivative)
        np.multiply(dA, derivative, out=dA)


def forward(parameters: Parameters, inputs: Inputs, work: Workspace) -> Array:
    """Compute all layers of K networks: write activations to ``work``; return its ``logits`` (K, B, C)."""
    last = len(parameters.W) - 1
    for layer, (W, b) in enumerate(zip(parameters.W, parameters.b, strict=True)):
        Z = work.logits if layer == last else work.A[layer]
        if layer == 0:
            for lanes, examples in inputs:
                parameters.first.forward(lanes, examples, Z)
        else:
            np.matmul(work.outputs[layer - 1], W, out=Z)
        if b is not None:
            np.add(Z, b, out=Z)
        if layer != last:
            work.activate(layer)
    return work.logits


def backward(
    parameters: Parameters,
    inputs: Inputs,
    work: Workspace,
    gradients: Parameters,
    decay: Array | None = None,
    *,
    first_step: Callable[[range, Any, Array], None] | None = None,
    empty: float | None = None,
) -> None:
    """Compute the gradients, summed over the B rows, and add them to ``gradients``.

    If ``empty`` is given, they overwrite ``gradients`` instead. On entry, ``work`` contains the last layer's
    dZ in ``logits``, and the activations from :func:`forward`. The gradient with respect to the inputs X is
    not computed.

    ``gradients`` may be the parameters themselves, because a layer's weights are used before its gradient is
    added. If the caller has multiplied dZ by −η, adding the gradients is then a step.

    Parameters
    ----------
    decay
        Factors (K, 1, 1) by which each W of ``gradients`` is multiplied before its gradient is added.
    first_step
        Called with the dZ of the first layer, instead of computing the gradient of its weights.
    empty
        The gradient to write for first weights whose inputs are 0 in all rows: 0, or −0 if the gradients will
        be added to others, because x + (−0) is x for every x.
    """
    dZ, overwrite = work.logits, empty is not None
    for layer in reversed(range(len(parameters.W))):
        W, db = gradients.W[layer], gradients.b[layer]
        if layer > 0:
            dA, dW = work.dA[layer - 1], work.dW[layer - 1]
            np.matmul(work.outputs[layer - 1].transpose(0, 2, 1), dZ, out=W if overwrite else dW)
            np.matmul(dZ, parameters.W[layer].transpose(0, 2, 1), out=dA)
            work.times_derivative(layer - 1)
            if decay is not None:
                np.multiply(W, decay, out=W)
            if not overwrite:
                np.add(W, dW, out=W)
        else:
            for lanes, examples in inputs:
                if first_step is not None:
                    first_step(lanes, examples, dZ)
                elif decay is None:
                    gradients.first.add_gradient(lanes, examples, dZ, empty=empty)
                else:
                    for k in lanes:
                        gradients.first.scale(k, decay[k, 0, 0])
                        gradients.first.add_gradient(range(k, k + 1), examples, dZ)
        if db is not None:
            total = np.add.reduce(dZ, axis=1, keepdims=True, out=work.db[layer])
            np.add(0 if overwrite else db, total, out=db)
        if layer > 0:
            dZ = dA
