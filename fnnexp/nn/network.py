"""The network: its architecture, its parameters, and forward and backward for K lanes at once.

A layer computes A = f(X W + b). The parameters of a lane are one row of a flat array θ (K, P), in the order
W1 b1 W2 b2 …. The W and b of each layer are views of θ.

A lane's numbers are bitwise the same in any stack. Each matrix product is computed lane by lane, with the
same shapes as for a lane alone: ``np.matmul`` over a leading K axis calls BLAS once for each lane. All other
operations are elementwise or reduce within a lane. The first layer is by far the largest, so it is computed
in a loop over lanes: a lane's weights are then still in cache when they are needed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fnnexp.nn.arrays import Array, DType
from fnnexp.nn.engines.numpy_engine import BlasFirstLayer, FirstLayer, Inputs
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.initializers import Biases, draw

BIASES = ("zeros", "normal", "none")
"""How a bias starts: at zero (or as ``init.bias`` says), or with normal draws that have the standard
deviation of the layer's weights. ``none`` means no bias."""


@dataclass(frozen=True)
class Architecture:
    """The architecture of a fully-connected network.

    Attributes
    ----------
    inputs, hidden, classes
        The number of inputs D, of units H of each hidden layer, and of classes C.
    activation
        The activation of every hidden layer, a key of :data:`fnnexp.nn.pieces.activations.ACTIVATIONS`.
    hidden_bias, output_bias
        One of :data:`BIASES`.
    """

    inputs: int
    hidden: tuple[int, ...]
    classes: int
    activation: str
    hidden_bias: str = "zeros"
    output_bias: str = "zeros"

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shape (n_in, n_out) of each layer."""
        return list(pairwise((self.inputs, *self.hidden, self.classes)))

    @property
    def biases(self) -> list[str]:
        """One of :data:`BIASES` for each layer."""
        return [self.hidden_bias] * len(self.hidden) + [self.output_bias]

    @property
    def parameter_count(self) -> int:
        """P, the number of parameters of one lane."""
        return sum(
            n_in * n_out + (n_out if bias != "none" else 0)
            for (n_in, n_out), bias in zip(self.shapes, self.biases, strict=True)
        )


class Parameters:
    """Views of a flat θ (K, P): ``W[l]`` (K, n_in, n_out) and ``b[l]`` (K, 1, n_out), or None without a bias.

    ``first`` computes the products with ``W[0]``. The engine supplies it as ``first_layer``.
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
        """Return copies of one lane's arrays as ``W1 b1 W2 b2 …``; a layer without bias has no ``b``."""
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
) -> Array:
    """Return the initial parameters θ (P,) of one lane.

    Parameters
    ----------
    stds
        The standard deviation of each layer's weights, and of its bias if it is drawn.
    distribution, mean
        The distribution of the weights, a key of :data:`fnnexp.nn.pieces.initializers.DISTRIBUTIONS`, and
        their mean.
    biases
        How the biases start that are otherwise zero.
    """
    theta = np.zeros((1, architecture.parameter_count), dtype)
    parameters = Parameters(architecture, theta)
    for layer, (std, bias) in enumerate(zip(stds, architecture.biases, strict=True)):
        W, b = parameters.W[layer], parameters.b[layer]
        W[0] = draw(seed, "weights", layer, W.shape[1:], std, distribution, mean)
        if b is not None and bias == "normal":
            b[0] = draw(seed, "biases", layer, b.shape[1:], std)
        elif b is not None and biases is not None:
            b[0] = biases.draw(seed, layer, *architecture.shapes[layer])
    initial: Array = theta[0]
    return initial


class Workspace:
    """Buffers for forward and backward, allocated once for K lanes of B rows."""

    def __init__(self, architecture: Architecture, lanes: int, rows: int, dtype: DType) -> None:
        self.activation = ACTIVATIONS[architecture.activation]
        self.A = [np.empty((lanes, rows, width), dtype) for width in architecture.hidden]
        self.dA = [np.empty_like(a) for a in self.A]
        self.slope = [np.empty_like(a) for a in self.A]
        # In memory the rows of one class are adjacent: reductions over the few classes then use whole
        # vectors.
        by_class = (lanes, architecture.classes, rows)
        self.logits = np.empty(by_class, dtype).transpose(0, 2, 1)
        self.onehot = np.empty(by_class, dtype).transpose(0, 2, 1)
        self.row = np.empty((lanes, rows, 1), dtype)
        self.classes = np.arange(architecture.classes, dtype=np.uint8)
        self.dW = [np.empty((lanes, *shape), dtype) for shape in architecture.shapes[1:]]
        self.db = [np.empty((lanes, 1, n_out), dtype) for _, n_out in architecture.shapes]

    def set_labels(self, labels: Array) -> None:
        """Write the labels to ``onehot``: (K, B), or (B,) if all lanes have the same labels."""
        np.copyto(self.onehot, labels[..., None] == self.classes)


def forward(parameters: Parameters, inputs: Inputs, work: Workspace) -> Array:
    """Write the activations to ``work``; return its logits (K, B, C)."""
    last = len(parameters.W) - 1
    for layer, (W, b) in enumerate(zip(parameters.W, parameters.b, strict=True)):
        Z = work.logits if layer == last else work.A[layer]
        if layer == 0:
            for lanes, examples in inputs:
                for k in lanes:
                    parameters.first.forward(k, examples, Z[k])
        else:
            np.matmul(work.A[layer - 1], W, out=Z)
        if b is not None:
            np.add(Z, b, out=Z)
        if layer != last:
            work.activation.forward(Z)
    return work.logits


def backward(parameters: Parameters, inputs: Inputs, work: Workspace, gradients: Parameters) -> None:
    """Add the gradients, summed over the B rows, to ``gradients``.

    On entry, ``work`` contains the last layer's dZ in ``logits``, and the activations from :func:`forward`.
    The gradient with respect to the inputs X is not computed. A layer's dA is computed before its gradient is
    added, so ``gradients`` may be the parameters themselves: if dZ is multiplied by −η, that is a step.
    """
    dZ = work.logits
    for layer in reversed(range(len(parameters.W))):
        W, db = gradients.W[layer], gradients.b[layer]
        if layer > 0:
            A, dA, dW = work.A[layer - 1], work.dA[layer - 1], work.dW[layer - 1]
            np.matmul(A.transpose(0, 2, 1), dZ, out=dW)
            np.matmul(dZ, parameters.W[layer].transpose(0, 2, 1), out=dA)
            work.activation.slope(A, work.slope[layer - 1])
            np.multiply(dA, work.slope[layer - 1], out=dA)
            np.add(W, dW, out=W)
        else:
            for lanes, examples in inputs:
                for k in lanes:
                    gradients.first.add_gradient(k, examples, dZ[k])
        if db is not None:
            np.add(db, np.add.reduce(dZ, axis=1, keepdims=True, out=work.db[layer]), out=db)
        if layer > 0:
            dZ = dA
