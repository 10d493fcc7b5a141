"""Gradient descent one row at a time, for K lanes, with the first layer's updates delayed by a block.

One step a row is Python's worst case: the first layer's W (D, H) is read and written for every row. But
within a block of rows x_1 … x_m its pre-activation can be had without touching it:

    x_t W_t = x_t W_1 − Σ_{s<t} (x_t · x_s) η dZ_s

because plain descent only ever subtracts η x_s dZ_s from W. So each block takes one product X W_1 before
it, one Gram matrix X Xᵀ shared by all lanes that see these rows, a short sum in each step, and one product
Xᵀ dZ after it; a bias is an input that is always 1. The arithmetic is that of row-by-row descent in
another order of summation. Later layers are small and are updated in each step, in arrays of their own:
what they have learned is in the parameters after ``store``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.activations import ACTIVATIONS
from fnnexp.nn.loss import gradient_in_place, losses_and_hits
from fnnexp.nn.network import Architecture, Inputs, Parameters, Workspace

Array = NDArray[Any]

BLOCK = 64
"""Rows in a block: the sum in a step grows with it, the products around it get cheaper. A fixed number,
because the order of summation is part of the result."""


class PerSampleDescent:
    """The buffers of one stack's blocks, and :meth:`descend`, which changes its parameters in place.

    Python's share of a step is what a lane alone waits for, so whatever a step looks at is made here, once:
    the views of each row of a block among it.

    Parameters
    ----------
    architecture, parameters
        The network and its K lanes.
    lr
        Step sizes (K, 1).
    epsilon
        ε of the loss.
    groups
        The lanes that see the same rows, group by group.
    """

    def __init__(
        self,
        architecture: Architecture,
        parameters: Parameters,
        lr: Array,
        epsilon: float,
        groups: Sequence[slice],
    ) -> None:
        lanes, dtype = parameters.theta.shape[0], parameters.theta.dtype
        widths, classes = [n_out for _, n_out in architecture.shapes], architecture.classes
        self.parameters, self.epsilon, self.rows = parameters, epsilon, BLOCK
        self.activation = ACTIVATIONS[architecture.activation]
        self.block = Workspace(architecture, lanes, BLOCK, dtype)
        self.Z1 = np.empty((lanes, BLOCK, widths[0]), dtype)
        self.steps = np.empty((lanes, BLOCK, widths[0]), dtype)  # η dZ of the first layer, row by row
        self.logits = np.empty((lanes, BLOCK, classes), dtype)
        self.onehot = np.empty((lanes, BLOCK, classes), dtype)
        self.grams = [np.empty((BLOCK, BLOCK), dtype) for _ in groups]
        self.dW1 = np.empty(parameters.W[0].shape, dtype)

        self.row = np.empty((lanes, 1, 1), dtype)
        self.dZ_last = np.empty((lanes, 1, classes), dtype)
        self.eta = np.broadcast_to(lr.reshape(lanes, 1, 1), self.dZ_last.shape).copy()
        self.earlier = np.empty((lanes, 1, widths[0]), dtype)  # what the block's earlier rows change in Z
        self.later = [_Layer(W, b, dtype) for W, b in zip(parameters.W[1:], parameters.b[1:], strict=True)]
        dZ = [*(layer.dA for layer in self.later[1:]), self.dZ_last]
        self.dZT = [each.transpose(0, 2, 1) for each in dZ]
        self.at = [
            (
                self.Z1[:, t : t + 1],
                self.steps[:, t : t + 1],
                self.logits[:, t : t + 1],
                self.onehot[:, t : t + 1],
                [
                    (gram[t : t + 1, :t], self.steps[lanes, :t], self.earlier[lanes])
                    for lanes, gram in zip(groups, self.grams, strict=True)
                ],
            )
            for t in range(BLOCK)
        ]

    def descend(self, inputs: Inputs, labels: Array) -> tuple[Array, Array]:
        """Take one step for each row of a block.

        Parameters
        ----------
        inputs
            For each group of lanes its rows (B, D), B ≤ :data:`BLOCK`.
        labels
            (K, B) integers in 0…C − 1.

        Returns
        -------
        The losses (K, B) and hits (K, B) of each row, each before the step that it took part in.
        """
        rows, block = labels.shape[1], self.block
        W1, b1 = self.parameters.W[0], self.parameters.b[0]
        Z1, steps, onehot = self.Z1[:, :rows], self.steps[:, :rows], self.onehot[:, :rows]
        np.copyto(onehot, labels[..., None] == block.classes)
        for (lanes, X), gram in zip(inputs, self.grams, strict=True):
            np.matmul(X, W1[lanes], out=Z1[lanes])
            np.matmul(X, X.T, out=gram[:rows, :rows])
            if b1 is not None:
                np.add(gram[:rows, :rows], 1, out=gram[:rows, :rows])
        if b1 is not None:
            np.add(Z1, b1, out=Z1)
        for t in range(rows):
            self._step(t)
        for lanes, X in inputs:
            np.matmul(X.T, steps[lanes], out=self.dW1[lanes])
        np.subtract(W1, self.dW1, out=W1)
        if b1 is not None:
            np.subtract(b1, np.add.reduce(steps, axis=1, keepdims=True), out=b1)
        logits, expected = block.logits[:, :rows], block.onehot[:, :rows]
        np.copyto(logits, self.logits[:, :rows])
        np.copyto(expected, onehot)
        return losses_and_hits(logits, expected, self.epsilon, block.row[:, :rows])

    def store(self) -> None:
        """Write the later layers back to the parameters."""
        for layer in self.later:
            layer.store()

    def _step(self, t: int) -> None:
        """Row t of the block: forward, gradient, backward, update. Every dZ carries its η from the start."""
        Z1, step, logits, onehot, groups = self.at[t]
        dZ, row, forward, backward = self.dZ_last, self.row, self.activation.forward, self.activation.backward

        for gram, steps, earlier in groups:
            np.matmul(gram, steps, out=earlier)
        Z = self.later[0].A if self.later else logits
        np.subtract(Z1, self.earlier, out=Z)
        for i, layer in enumerate(self.later, start=1):
            forward(Z)
            Z = self.later[i].A if i < len(self.later) else logits
            np.matmul(layer.inputs, layer.VT, out=Z)

        np.maximum.reduce(logits, axis=-1, keepdims=True, out=row)
        np.subtract(logits, row, out=dZ)
        np.exp(dZ, out=dZ)
        np.add.reduce(dZ, axis=-1, keepdims=True, out=row)
        gradient_in_place(dZ, onehot, self.epsilon, row)
        np.multiply(dZ, self.eta, out=dZ if self.later else step)

        for i in range(len(self.later) - 1, -1, -1):
            layer, dZT = self.later[i], self.dZT[i]
            dA = layer.dA if i else step
            np.matmul(dZ, layer.W, out=dA)
            backward(layer.A, dA, layer.scratch)
            np.multiply(dZT, layer.inputs, out=layer.dV)
            np.subtract(layer.V, layer.dV, out=layer.V)
            dZ = dA


class _Layer:
    """A layer behind the first, in arrays of its own: a step goes over all of them.

    ``V`` (K, n_out, n_in + 1) holds Wᵀ and, as its last column, b; ``inputs`` (K, 1, n_in + 1) holds the
    activation A and, at its end, the 1 that b belongs to. A layer without bias has neither.
    """

    def __init__(self, W: Array, b: Array | None, dtype: np.dtype[Any]) -> None:
        lanes, n_in, n_out = W.shape
        self._W, self._b = W, b
        width = n_in if b is None else n_in + 1
        self.V = np.empty((lanes, n_out, width), dtype)
        self.W = self.V[:, :, :n_in]
        self.W[...] = W.transpose(0, 2, 1)
        if b is not None:
            self.V[:, :, n_in] = b[:, 0]
        self.VT, self.dV = self.V.transpose(0, 2, 1), np.empty_like(self.V)
        self.inputs = np.ones((lanes, 1, width), dtype)
        self.A = self.inputs[:, :, :n_in]
        self.dA, self.scratch = np.empty(self.A.shape, dtype), np.empty(self.A.shape, dtype)

    def store(self) -> None:
        """Write W and b back to where they came from."""
        self._W[...] = self.W.transpose(0, 2, 1)
        if self._b is not None:
            self._b[:, 0] = self.V[:, :, -1]
