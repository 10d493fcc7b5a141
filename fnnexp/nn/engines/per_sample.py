"""Gradient descent one row at a time with NumPy, for K networks; the first layer changes once for each block.

A step for each row is slow in Python, because every step reads and writes the first layer's W (D, H). But
within a block of rows x_1 … x_m the pre-activation can be computed without changing W:

    x_t W_t = x_t W_1 + Σ_{s<t} (x_t · x_s) (−η dZ_s)

because plain descent only adds terms −η x_sᵀ dZ_s to W. So a block needs one product X W_1 before its steps,
one Gram matrix X Xᵀ for all networks with the same rows, one short product in each step, and one product
Xᵀ dZ after its steps. A bias is the weight of an input that is always 1. The result equals the result of
row-by-row descent, summed in another order. The later layers are small. Each step updates copies of them,
which ``write_back`` copies to the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.numpy_engine import DenseRows, Inputs
from fnnexp.nn.network import Architecture, Parameters, Workspace, activations_of
from fnnexp.nn.pieces.activations import activation_named
from fnnexp.nn.pieces.losses import (
    exponentiate,
    gradient_in_place,
    losses_and_hits,
    probabilities,
    subtract_largest,
)

BLOCK = 64
"""Rows in a block. A longer block makes the sum in each step longer, and the products before and after
cheaper. Changing the number changes results in the last bits, because it determines the order of
summation."""


def can_descend(architecture: Architecture) -> bool:
    """Return whether :class:`BlockDescent` can train this architecture.

    It can if all hidden layers have the same activation, with a derivative that is computed from A, not from
    Z.
    """
    is_one = isinstance(architecture.activation, str)
    return is_one and not any(activation.needs_z for activation in activations_of(architecture))


class BlockDescent:
    """Gradient descent with a step for each row, for a stack of K networks and a block of rows at a time.

    All arrays that a step reads or writes are allocated once, including the views of each row of a block.

    Parameters
    ----------
    architecture, parameters
        The architecture, for which :func:`can_descend` is true; the parameters, which change in place.
    lr
        Step sizes (K, 1).
    epsilon
        The ε of the loss.
    groups
        The groups of networks that get the same rows in the same order.
    """

    make_rows = DenseRows

    def __init__(
        self,
        architecture: Architecture,
        parameters: Parameters,
        lr: Array,
        epsilon: float,
        groups: Sequence[range],
    ) -> None:
        lanes, dtype = parameters.theta.shape[0], parameters.theta.dtype
        widths, classes = [n_out for _, n_out in architecture.shapes], architecture.classes
        self.parameters, self.epsilon, self.max_rows = parameters, epsilon, BLOCK
        assert isinstance(architecture.activation, str)  # `can_descend` is false for a tuple
        self.activation = activation_named(architecture.activation, architecture.slope)
        self.block = Workspace(architecture, lanes, BLOCK, dtype)
        # Before step t, row t of `first` is x_t W_1. After step t, row t is −η dZ_t of the first layer. With
        # 1 on the diagonal of the Gram matrix, x_t W_t = x_t W_1 + Σ_{s<t} (x_t · x_s) (−η dZ_s) is one
        # product: row t of the Gram matrix times rows 1 to t of `first`.
        self.first = np.empty((lanes, BLOCK, widths[0]), dtype)
        self.logits = np.empty((lanes, BLOCK, classes), dtype)
        self.onehot = np.empty((lanes, BLOCK, classes), dtype)
        self.grams = [np.empty((BLOCK, BLOCK), dtype) for _ in groups]

        self.row = np.empty((lanes, 1, 1), dtype)
        self.dZ_last = np.empty((lanes, 1, classes), dtype)
        self.minus_eta = np.broadcast_to(-lr.reshape(lanes, 1, 1), self.dZ_last.shape).copy()
        self.later = _LaterLayers(parameters, self.dZ_last)
        self.row_views = [
            (
                self.first[:, t : t + 1],
                self.logits[:, t : t + 1],
                self.onehot[:, t : t + 1],
                [
                    (gram[t : t + 1, : t + 1], self.first[group, : t + 1], self._first_output(t)[group])
                    for group, gram in zip((slice(g.start, g.stop) for g in groups), self.grams, strict=True)
                ],
            )
            for t in range(BLOCK)
        ]

    def descend(self, inputs: Inputs, labels: Array) -> tuple[Array, Array]:
        """Take one step for each row of a block.

        Parameters
        ----------
        inputs
            The B rows of each group of networks, B ≤ :data:`BLOCK`.
        labels
            (K, B) integers from 0 to C − 1.

        Returns
        -------
        The loss of each row (K, B), and whether its prediction was right (K, B), both before its step.
        """
        rows, block = labels.shape[1], self.block
        b1 = self.parameters.b[0]
        first, onehot = self.first[:, :rows], self.onehot[:, :rows]
        np.copyto(onehot, labels[..., None] == block.classes)
        for (lanes, examples), gram_buffer in zip(inputs, self.grams, strict=True):
            X, gram = examples.X, gram_buffer[:rows, :rows]
            self.parameters.first.forward(lanes, examples, first)
            np.matmul(X, X.T, out=gram)
            if b1 is not None:
                np.add(gram, 1, out=gram)
            np.fill_diagonal(gram, 1)
        if b1 is not None:
            np.add(first, b1, out=first)
        for t in range(rows):
            self._step(t)
        for lanes, examples in inputs:
            self.parameters.first.add_gradient(lanes, examples, first)
        if b1 is not None:
            np.add(b1, np.add.reduce(first, axis=1, keepdims=True), out=b1)
        logits, onehot_buffer = block.logits[:, :rows], block.targets[:, :rows]
        np.copyto(logits, self.logits[:, :rows])
        np.copyto(onehot_buffer, onehot)
        return losses_and_hits(logits, onehot_buffer, self.epsilon, block.row[:, :rows])

    def probabilities(self, rows: int) -> Array:
        """Return the softmax (K, B, C) for the B rows of the last :meth:`descend`, each before its step."""
        return probabilities(self.block.logits[:, :rows], self.block.row[:, :rows])

    def _first_output(self, t: int) -> Array:
        """Return the array (K, 1, H) that receives the first layer's pre-activations Z for row t."""
        return self.later.layers[0].A if self.later.layers else self.logits[:, t : t + 1]

    def write_back(self) -> None:
        """Copy the layers after the first back to the parameters: the steps have changed copies of them."""
        self.later.write_back()

    def _step(self, t: int) -> None:
        """Take one step for row t of the block.

        The output layer's dZ is multiplied by −η before the backward pass, so each gradient is a step.
        """
        step, logits, onehot, groups = self.row_views[t]
        dZ, row, later, activation = self.dZ_last, self.row, self.later, self.activation

        for gram, rows, Z in groups:
            np.matmul(gram, rows, out=Z)
        for layer in later.layers:
            activation.forward(layer.A)
            np.matmul(layer.inputs, layer.VT, out=logits if layer.Z is None else layer.Z)

        subtract_largest(logits, row, out=dZ)
        exponentiate(dZ, row)
        gradient_in_place(dZ, onehot, self.epsilon, row)
        if not later.layers:
            np.multiply(dZ, self.minus_eta, out=step)
            return
        np.multiply(dZ, self.minus_eta, out=dZ)
        activation.derivative(later.inputs, later.inputs, later.derivatives)
        for layer in later.backwards:
            np.multiply(layer.dZT, layer.inputs, out=layer.dV)
            dA = step if layer.dA is None else layer.dA
            np.matmul(dZ, layer.W, out=dA)
            np.multiply(dA, layer.derivative, out=dA)
            dZ = dA
        np.add(later.V, later.dV, out=later.V)


class _LaterLayers:
    """Copies of all layers after the first in common arrays, so that a step needs fewer calls of NumPy.

    Attributes
    ----------
    inputs, derivatives
        The inputs of all these layers (K, 1, Σ (n_in + 1)), and f′ at these inputs.
    V, dV
        The parameters of all these layers (K, Σ n_out (n_in + 1)), and their change in a step.
    layers, backwards
        For each layer, views of its parts of the arrays; in order, and in reverse order.
    """

    def __init__(self, parameters: Parameters, dZ_last: Array) -> None:
        self._pairs = list(zip(parameters.W[1:], parameters.b[1:], strict=True))
        lanes, dtype = len(dZ_last), dZ_last.dtype
        widths = [W.shape[1] + (b is not None) for W, b in self._pairs]
        sizes = [W.shape[2] * width for (W, _), width in zip(self._pairs, widths, strict=True)]
        self.inputs = np.ones((lanes, 1, sum(widths)), dtype)
        self.derivatives = np.empty_like(self.inputs)
        self.V = np.empty((lanes, sum(sizes)), dtype)
        self.dV = np.empty_like(self.V)
        self.layers: list[_Layer] = []
        dZ, input_offset, offset = dZ_last, sum(widths), sum(sizes)
        for i in reversed(range(len(widths))):
            input_offset, offset = input_offset - widths[i], offset - sizes[i]
            n_in, n_out = self._pairs[i][0].shape[1:]
            inputs = self.inputs[:, :, input_offset : input_offset + widths[i]]
            layer_slice = slice(offset, offset + sizes[i])
            V = self.V[:, layer_slice].reshape(lanes, n_out, widths[i])
            layer = _Layer(
                A=inputs[:, :, :n_in],
                inputs=inputs,
                derivative=self.derivatives[:, :, input_offset : input_offset + n_in],
                V=V,
                VT=V.transpose(0, 2, 1),
                W=V[:, :, :n_in],
                dV=self.dV[:, layer_slice].reshape(lanes, n_out, widths[i]),
                Z=self.layers[0].A if self.layers else None,
                dZT=dZ.transpose(0, 2, 1),
                dA=np.empty((lanes, 1, n_in), dtype) if i else None,
            )
            self.layers.insert(0, layer)
            if layer.dA is not None:
                dZ = layer.dA
        self.backwards = self.layers[::-1]
        for (W, b), layer in zip(self._pairs, self.layers, strict=True):
            layer.W[...] = W.transpose(0, 2, 1)
            if b is not None:
                layer.V[:, :, -1] = b[:, 0]

    def write_back(self) -> None:
        """Copy every layer's W and b from these arrays back to the parameters of the stack."""
        for (W, b), layer in zip(self._pairs, self.layers, strict=True):
            W[...] = layer.W.transpose(0, 2, 1)
            if b is not None:
                b[:, 0] = layer.V[:, :, -1]


@dataclass(frozen=True, slots=True)
class _Layer:
    """Views of one layer after the first, created once, because Python's calls take most of a step's time.

    Attributes
    ----------
    A, inputs, derivative
        The input activation (K, 1, n_in); the input activation followed by a 1 for the bias; f′ at A.
    V, VT, W, dV
        Wᵀ with b as its last column (K, n_out, n_in + 1); its transpose; its part Wᵀ; the change of V in a
        step. A layer without bias has neither the last column nor the 1.
    Z
        The output (K, 1, n_out), which is the next layer's A; None for the last, whose output is the logits.
    dZT, dA
        −η times the gradient with respect to Z, transposed; −η times the gradient with respect to A, or None
        for the first of the later layers, whose dA is the step of the first layer.
    """

    A: Array
    inputs: Array
    derivative: Array
    V: Array
    VT: Array
    W: Array
    dV: Array  # noqa: N815
    Z: Array | None
    dZT: Array  # noqa: N815
    dA: Array | None  # noqa: N815
