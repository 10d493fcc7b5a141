"""Gradient descent one row at a time, for K lanes, with the first layer's updates delayed by a block.

One step a row is Python's worst case: the first layer's W (D, H) is read and written for every row. But
within a block of rows x_1 … x_m its pre-activation can be had without touching it:

    x_t W_t = x_t W_1 − Σ_{s<t} (x_t · x_s) η dZ_s

because plain descent only ever subtracts η x_s dZ_s from W. So each block takes one product X W_1 before
it, one Gram matrix X Xᵀ shared by all lanes that see these rows, a short sum in each step, and one product
Xᵀ dZ after it; a bias is an input that is always 1. The arithmetic is that of row-by-row descent in
another order of summation. Later layers are small and are updated in each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.activations import ACTIVATIONS
from fnnexp.nn.loss import gradient_in_place
from fnnexp.nn.network import Architecture, Inputs, Parameters

Array = NDArray[Any]

BLOCK = 64
"""Rows in a block: the sum in a step grows with it, the products around it get cheaper. A fixed number,
because the order of summation is part of the result."""


class PerSampleDescent:
    """The buffers of one stack's blocks, and :meth:`descend`, which changes its parameters in place.

    Parameters
    ----------
    architecture, parameters
        The network and its K lanes.
    lr
        Step sizes (K, 1).
    epsilon
        ε of the loss.
    groups
        How many groups of lanes see rows of their own.
    """

    block = BLOCK

    def __init__(
        self, architecture: Architecture, parameters: Parameters, lr: Array, epsilon: float, groups: int
    ) -> None:
        lanes, dtype = parameters.theta.shape[0], parameters.theta.dtype
        self.parameters, self.epsilon = parameters, epsilon
        self.lr = lr.reshape(lanes, 1, 1)
        self.activation = ACTIVATIONS[architecture.activation]
        widths = [n_out for _, n_out in architecture.shapes]
        self.Z = [np.empty((lanes, 1, width), dtype) for width in widths]
        self.dZ = [np.empty((lanes, 1, width), dtype) for width in widths]
        self.scratch = [np.empty((lanes, 1, width), dtype) for width in widths]
        self.dW = [np.empty(W.shape, dtype) for W in parameters.W]
        self.row = np.empty((lanes, 1, 1), dtype)
        self.Z1 = np.empty((lanes, BLOCK, widths[0]), dtype)
        self.step1 = np.empty((lanes, BLOCK, widths[0]), dtype)
        self.logits = np.empty((lanes, BLOCK, architecture.classes), dtype)
        self.gram = [np.empty((BLOCK, BLOCK), dtype) for _ in range(groups)]

    def descend(self, inputs: Inputs, onehot: Array) -> Array:
        """Take one step for each row of a block.

        Parameters
        ----------
        inputs
            For each group of lanes its rows (B, D), B ≤ :data:`BLOCK`.
        onehot
            (K, B, C): 1 at each row's label.

        Returns
        -------
        The logits (K, B, C) of each row, each before the step that it took part in.
        """
        rows = onehot.shape[1]
        W1, b1 = self.parameters.W[0], self.parameters.b[0]
        for (lanes, X), gram in zip(inputs, self.gram, strict=True):
            np.matmul(X, W1[lanes], out=self.Z1[lanes, :rows])
            np.matmul(X, X.T, out=gram[:rows, :rows])
        if b1 is not None:
            np.add(self.Z1[:, :rows], b1, out=self.Z1[:, :rows])
            for gram in self.gram:
                np.add(gram[:rows, :rows], 1, out=gram[:rows, :rows])
        for t in range(rows):
            self._step(t, [lanes for lanes, _ in inputs], onehot[:, t : t + 1])
        steps = self.step1[:, :rows]
        for lanes, X in inputs:
            np.matmul(X.T, steps[lanes], out=self.dW[0][lanes])
        np.subtract(W1, self.dW[0], out=W1)
        if b1 is not None:
            np.subtract(b1, np.add.reduce(steps, axis=1, keepdims=True), out=b1)
        return self.logits[:, :rows]

    def _step(self, t: int, groups: Sequence[slice], onehot: Array) -> None:
        """Row t of the block: forward, gradient, backward, update."""
        W, b, Z, dZ, activation = self.parameters.W, self.parameters.b, self.Z, self.dZ, self.activation
        last = len(W) - 1

        for lanes, gram in zip(groups, self.gram, strict=True):
            np.matmul(gram[t : t + 1, :t], self.step1[lanes, :t], out=Z[0][lanes])
        np.subtract(self.Z1[:, t : t + 1], Z[0], out=Z[0])
        for layer in range(1, last + 1):
            activation.forward(Z[layer - 1])
            np.matmul(Z[layer - 1], W[layer], out=Z[layer])
            if (bias := b[layer]) is not None:
                np.add(Z[layer], bias, out=Z[layer])

        self.logits[:, t : t + 1] = Z[last]
        dZ[last][...] = Z[last]
        gradient_in_place(dZ[last], onehot, self.epsilon, self.row)

        for layer in range(last, 0, -1):
            A, dA = Z[layer - 1], dZ[layer - 1]
            np.matmul(dZ[layer], W[layer].transpose(0, 2, 1), out=dA)
            activation.backward(A, dA, self.scratch[layer - 1])
            np.multiply(dZ[layer], self.lr, out=dZ[layer])
            np.multiply(A.transpose(0, 2, 1), dZ[layer], out=self.dW[layer])
            np.subtract(W[layer], self.dW[layer], out=W[layer])
            if (bias := b[layer]) is not None:
                np.subtract(bias, dZ[layer], out=bias)
        np.multiply(dZ[0], self.lr, out=self.step1[:, t : t + 1])
