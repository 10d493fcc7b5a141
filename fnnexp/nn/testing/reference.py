"""The network op by op in plain float64 NumPy: a readable reference to test the stacked core with.

The core is `fnnexp.nn.network` with its engines. Each op here has a `forward` and a `backward`. The latter
maps the gradient of the loss with respect to the op's output to the gradients with respect to its inputs
(Rumelhart, Hinton & Williams, 1986). A gradient is named after its value: `dW` for `W`. Axes are B examples
and C classes; n_in and n_out are D, H or C.

The ops share no code with the core. The exception is `FromTable`, for activations that only the core defines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.pieces.activations import ACTIVATIONS as TABLE
from fnnexp.nn.pieces.activations import Activation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Array: TypeAlias = NDArray[np.float64]
Bias: TypeAlias = Array | None
Indices: TypeAlias = NDArray[np.integer]


class Matmul:
    """Z = X W, with X (B, n_in) and W (n_in, n_out); dX = dZ Wᵀ and dW = Xᵀ dZ (Rumelhart et al., 1986)."""

    def forward(self, X: Array, W: Array) -> Array:
        """Return Z = X W, (B, n_out)."""
        self.X, self.W = X, W
        return X @ W

    def backward(self, dZ: Array) -> tuple[Array, Array]:
        """Return the gradients dX (B, n_in) and dW (n_in, n_out), given dZ."""
        return dZ @ self.W.T, self.X.T @ dZ


class Add:
    """Y = Z + b, with Z (B, n_out) and b (n_out,); dZ = dY and db = Σ_B dY (Rumelhart et al., 1986)."""

    def forward(self, Z: Array, b: Array) -> Array:
        """Return Y = Z + b, (B, n_out)."""
        return Z + b

    def backward(self, dY: Array) -> tuple[Array, Array]:
        """Return the gradients dZ (B, n_out) and db (n_out,), given dY."""
        return dY, dY.sum(axis=0)


class Relu:
    """A = max(Z, 0), elementwise; dZ = dA where Z > 0, else 0 (Glorot, Bordes & Bengio, 2011)."""

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.Z = Z
        return np.maximum(Z, 0.0)

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return np.where(self.Z > 0.0, dA, 0.0)


class Tanh:
    """A = tanh(Z), elementwise; dZ = (1 − A²) dA (LeCun, Bottou, Orr & Müller, 1998)."""

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.A = np.tanh(Z)
        return self.A

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return (1.0 - self.A**2) * dA


class TanhAsPublished:
    """A = tanh(Z), with the mistake of the published program `tanh_mini_batch`: dZ = (1 − tanh(A)²) dA.

    The derivative 1 − tanh(·)² must be computed from Z, but the program passes the activation A. This op
    reproduces the numbers of that program. It fails the gradient check (`gradcheck.KNOWN_WRONG`).
    """

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.A = np.tanh(Z)
        return self.A

    def backward(self, dA: Array) -> Array:
        """Return the wrong dZ of the published program, in the shape of Z."""
        return (1.0 - np.tanh(self.A) ** 2) * dA


class Sigmoid:
    """A = 1 / (1 + exp(−Z)), Z clipped to ±500 to keep exp finite; dZ = A (1 − A) dA (Rumelhart et al.)."""

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.A = 1.0 / (1.0 + np.exp(-np.clip(Z, -500.0, 500.0)))
        return self.A

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return self.A * (1.0 - self.A) * dA


def _sigmoid(Z: Array) -> Array:
    """Return 1 / (1 + exp(−Z)) = (1 + tanh(Z / 2)) / 2, which cannot overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * Z)


class LeakyRelu:
    """A = Z where Z > 0, else slope · Z; dZ = dA where Z > 0, else slope · dA (Maas, Hannun & Ng, 2013)."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = slope

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.Z = Z
        return np.where(Z > 0.0, Z, self.slope * Z)

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return np.where(self.Z > 0.0, dA, self.slope * dA)


class Elu:
    """A = Z where Z > 0, else exp(Z) − 1; dZ = dA or exp(Z) dA (Clevert, Unterthiner & Hochreiter, 2016)."""

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.Z = Z
        return np.where(Z > 0.0, Z, np.exp(np.minimum(Z, 0.0)) - 1.0)

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return np.where(self.Z > 0.0, 1.0, np.exp(np.minimum(self.Z, 0.0))) * dA


class Selu:
    """A = λ Z where Z > 0, else λ α (exp(Z) − 1); dZ = λ dA or λ α exp(Z) dA (Klambauer et al., 2017).

    λ and α are those of equation (14) there. With Z ~ N(0, 1), A then has mean 0 and variance 1.
    """

    e, p, q = math.e, math.erfc(math.sqrt(0.5)), math.erfc(math.sqrt(2.0))
    alpha = -math.sqrt(2.0 / math.pi) / (p * math.exp(0.5) - 1.0)
    scale = (1.0 - p * math.sqrt(e)) * math.sqrt(2.0 * math.pi)
    scale /= math.sqrt(
        2.0 * q * e**2 + math.pi * p**2 * e - 2.0 * (2.0 + math.pi) * p * math.sqrt(e) + math.pi + 2.0
    )

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.Z = Z
        return self.scale * np.where(Z > 0.0, Z, self.alpha * (np.exp(np.minimum(Z, 0.0)) - 1.0))

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return self.scale * np.where(self.Z > 0.0, 1.0, self.alpha * np.exp(np.minimum(self.Z, 0.0))) * dA


class Softplus:
    """A = log(1 + exp(Z)), elementwise; dZ = dA / (1 + exp(−Z)) (Dugas et al., 2001)."""

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.Z = Z
        return np.logaddexp(0.0, Z)

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return _sigmoid(self.Z) * dA


class Softsign:
    """A = Z / (1 + |Z|), elementwise; dZ = dA / (1 + |Z|)² (Bergstra et al., 2009)."""

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.Z = Z
        return Z / (1.0 + np.abs(Z))

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return dA / (1.0 + np.abs(self.Z)) ** 2


class Gelu:
    """A = Z S with S = σ(2 U) and U = √(2/π) (Z + 0.044715 Z³), the tanh form of Hendrycks & Gimpel (2016).

    This equals the authors' Z (1 + tanh U) / 2, because (1 + tanh U) / 2 = σ(2 U). dZ = (S + 2 Z S (1 − S)
    U′) dA.
    """

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.Z = Z
        self.S = _sigmoid(math.sqrt(8.0 / math.pi) * (Z + 0.044715 * Z**3))
        return Z * self.S

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        dU = math.sqrt(2.0 / math.pi) * (1.0 + 0.134145 * self.Z**2)
        return (self.S + 2.0 * self.Z * self.S * (1.0 - self.S) * dU) * dA


class Silu:
    """A = Z S with S = σ(Z), elementwise; dZ = S (1 + Z (1 − S)) dA (Hendrycks & Gimpel, 2016)."""

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.Z, self.S = Z, _sigmoid(Z)
        return Z * self.S

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return self.S * (1.0 + self.Z * (1.0 - self.S)) * dA


class Identity:
    """A = Z; dZ = dA. If all layers have this activation, a network is linear up to the softmax."""

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        return Z

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        return dA


class FromTable:
    """The op of an activation that only the table for training has: A = f(Z) and dZ = f′ dA, elementwise.

    It uses the table's f and f′, because this module has no others. Finite differences still test f′.
    """

    def __init__(self, activation: Activation) -> None:
        self.activation = activation

    def forward(self, Z: Array) -> Array:
        """Return A = f(Z), elementwise, where f is the activation of this class."""
        self.Z, self.A = Z, Z.copy()
        self.activation.forward(self.A)
        return self.A

    def backward(self, dA: Array) -> Array:
        """Return dZ, the gradient of the loss with respect to Z, given dA, the one with respect to A."""
        derivative = np.empty_like(self.A)
        Z = self.Z if self.activation.needs_z else self.A
        self.activation.derivative(Z, self.A, derivative)
        return derivative * dA


class Dropout:
    """Y = A ∘ M with a mask M in the shape of A, 0 or 1 / (1 − p); dA = dY ∘ M (Srivastava et al., 2014)."""

    def forward(self, A: Array, M: Array) -> Array:
        """Return Y = A ∘ M: the values A times the mask M, elementwise."""
        self.M = M
        return A * M

    def backward(self, dY: Array) -> Array:
        """Return the gradient dA, given dY."""
        return dY * self.M


class Softmax:
    """p_c = exp(z_c) / Σ_k exp(z_k) for each row of Z (B, C) (Bridle, 1990).

    From ∂p_c/∂z_k = p_c (δ_ck − p_k) follows dz_c = p_c (dp_c − Σ_k dp_k p_k). Softmax does not change when a
    constant is added to a row. The row's maximum is subtracted, so that exp cannot overflow.
    """

    def forward(self, Z: Array) -> Array:
        """Return P (B, C), each row a probability distribution."""
        largest: Array = Z.max(axis=1, keepdims=True)
        E = np.exp(Z - largest)
        total: Array = E.sum(axis=1, keepdims=True)
        self.P = E / total
        return self.P

    def backward(self, dP: Array) -> Array:
        """Return dZ (B, C), the gradient with respect to the logits, given dP, the one with respect to P."""
        mean: Array = (dP * self.P).sum(axis=1, keepdims=True)
        return self.P * (dP - mean)


class Log:
    """L = log(P + epsilon), elementwise; dP = dL / (P + epsilon).

    With epsilon 0, a p that underflows to 0 has L = −∞. For p below the smallest normal number, `backward`
    divides by that number instead, so that dP is finite.
    """

    def __init__(self, epsilon: float = 0.0) -> None:
        self.epsilon = epsilon

    def forward(self, P: Array) -> Array:
        """Return L = log(P + epsilon), elementwise."""
        self.P_plus_epsilon = P + self.epsilon
        with np.errstate(divide="ignore"):
            return np.log(self.P_plus_epsilon)

    def backward(self, dL: Array) -> Array:
        """Return the gradient dP, given dL."""
        return dL / np.maximum(self.P_plus_epsilon, np.finfo(np.float64).tiny)


class CrossEntropy:
    """L = −Σ_c t_c log(p_c + epsilon) for each row of P (B, C) with targets T (B, C), by the op `Log`."""

    def __init__(self, epsilon: float = 0.0) -> None:
        self.log = Log(epsilon)

    def forward(self, P: Array, T: Array) -> Array:
        """Return the loss of each row (B,). A class with the target 0 adds nothing, even if its p is 0."""
        self.T, terms = T, np.zeros_like(P)
        np.multiply(T, self.log.forward(P), out=terms, where=T > 0)
        losses: Array = -terms.sum(axis=1)
        return losses

    def backward(self, d_losses: Array) -> Array:
        """Return dP (B, C), the gradient with respect to the probabilities.

        ``d_losses`` (B,) is the gradient with respect to the loss of each row.
        """
        return self.log.backward(-self.T * d_losses[:, None])


class BinaryCrossEntropy:
    """L = Σ_c softplus(z_c) − t_c z_c for each row of logits Z (B, C) (Nielsen, 2015, eq. 63).

    With a = σ(z) it equals −Σ_c t_c log a_c + (1 − t_c) log(1 − a_c). The op reads the logits, because 1 − a
    loses digits if a is near 1. dz_c = (σ(z_c) − t_c) dL.
    """

    def forward(self, Z: Array, T: Array) -> Array:
        """Return the loss of each row (B,), given logits Z (B, C) and targets T (B, C)."""
        self.Z, self.T = Z, T
        losses: Array = (np.logaddexp(0.0, Z) - T * Z).sum(axis=1)
        return losses

    def backward(self, d_losses: Array) -> Array:
        """Return dZ (B, C), the gradient with respect to the logits.

        ``d_losses`` (B,) is the gradient with respect to the loss of each row.
        """
        return (Sigmoid().forward(self.Z) - self.T) * d_losses[:, None]


class SquaredError:
    """L = ½ Σ_c (a_c − t_c)² for each row of A (B, C); da_c = (a_c − t_c) dL (Nielsen, 2015, eq. 6)."""

    def forward(self, A: Array, T: Array) -> Array:
        """Return the loss of each row (B,), given outputs A (B, C) and targets T (B, C)."""
        self.difference = A - T
        losses: Array = (self.difference**2).sum(axis=1) / 2.0
        return losses

    def backward(self, d_losses: Array) -> Array:
        """Return dA (B, C), the gradient with respect to the outputs.

        ``d_losses`` (B,) is the gradient with respect to the loss of each row.
        """
        return self.difference * d_losses[:, None]


OUTPUTS: Final[dict[str, type[Softmax | Sigmoid | Identity]]] = {
    "softmax": Softmax,
    "sigmoid": Sigmoid,
    "identity": Identity,
}

LOSSES: Final[dict[str, str]] = {
    "cross_entropy": "softmax",
    "binary_cross_entropy": "sigmoid",
    "mse": "sigmoid",
}
"""The losses, each with its default output."""


def targets(y: Indices, classes: int, smoothing: float, answers: int) -> Array:
    """Return the targets (B, C) of rows with labels y: (1 − s) onehot(y) + s / answers.

    This is label smoothing (Szegedy et al., 2016, §7). s is `smoothing`. `answers` is C, or 2 for a loss that
    separates each class from all others.
    """
    return (1.0 - smoothing) * np.eye(classes)[y] + smoothing / answers


class ActivationOp(Protocol):
    """An op that computes A from Z, elementwise."""

    def forward(self, Z: Array, /) -> Array: ...  # noqa: D102

    def backward(self, dA: Array, /) -> Array: ...  # noqa: D102


ACTIVATIONS: Final[dict[str, Callable[[], ActivationOp]]] = {
    "relu": Relu,
    "tanh": Tanh,
    "tanh_as_published": TanhAsPublished,
    "sigmoid": Sigmoid,
    "leaky_relu": LeakyRelu,
    "elu": Elu,
    "selu": Selu,
    "softplus": Softplus,
    "softsign": Softsign,
    "gelu": Gelu,
    "silu": Silu,
    "identity": Identity,
}


def activation_op(name: str, slope: float = 0.01) -> ActivationOp:
    """Return a new op of an activation. If this module has none, it is a :class:`FromTable`.

    Raises
    ------
    ValueError
        If the table of activations for training does not have the name either.
    """
    if name == "leaky_relu":
        return LeakyRelu(slope)
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]()
    if name in TABLE:
        return FromTable(TABLE[name])
    allowed = ", ".join(dict.fromkeys((*ACTIVATIONS, *TABLE)))
    raise ValueError(f"activation '{name}': must be one of {allowed}")


class Network:
    """A fully-connected network: a = f(x W + b) in each hidden layer, softmax(x W + b) in the last.

    The loss of an image is −log(p_y + epsilon). The gradient is the exact gradient of the mean or sum of the
    losses of a batch. With respect to the logits it is p_y / (p_y + epsilon) · (p − onehot(y)), divided by B
    for the mean. Another loss or output replaces these, and smoothing replaces onehot(y) by `targets`.

    Parameters
    ----------
    W, b : the weights (n_in, n_out) and biases (n_out,) of each layer, copied; None for a layer without bias
    activation : the name of f, as for `activation_op`, or a sequence with one for each hidden layer
    epsilon : added to p_y inside the logarithm, 0 or more
    reduction : "mean" or "sum"
    loss, output : names in `LOSSES` and `OUTPUTS`; None for the loss's default output
    smoothing : the label smoothing s
    slope : the slope of a leaky ReLU

    Raises
    ------
    ValueError : for another activation or reduction
    """

    def __init__(
        self,
        W: Sequence[Array],
        b: Sequence[Bias],
        activation: str | Sequence[str],
        epsilon: float = 0.0,
        reduction: str = "mean",
        loss: str = "cross_entropy",
        output: str | None = None,
        smoothing: float = 0.0,
        slope: float = 0.01,
    ) -> None:
        names = [activation] * (len(W) - 1) if isinstance(activation, str) else activation
        self.activations = [activation_op(name, slope) for name, _ in zip(names, W[:-1], strict=True)]
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction '{reduction}': must be one of mean, sum")
        self.W = [np.array(W_i, dtype=np.float64) for W_i in W]
        self.b = [None if b_i is None else np.array(b_i, dtype=np.float64) for b_i in b]
        self.parameters = interleaved(self.W, self.b)
        self.matmuls = [Matmul() for _ in self.W]
        self.adds = [Add() for _ in self.b]
        self.dropouts = [Dropout() for _ in self.W]
        self.output, self.reduction = OUTPUTS[output or LOSSES[loss]](), reduction
        self.loss_op: CrossEntropy | BinaryCrossEntropy | SquaredError = CrossEntropy(epsilon)
        if loss != "cross_entropy":
            self.loss_op = SquaredError() if loss == "mse" else BinaryCrossEntropy()
        self.smoothing = smoothing

    def forward(self, X: Array, masks: Sequence[Array] | None = None) -> Array:
        """Return the outputs P (B, C) for the images X (B, D): with softmax, the probabilities.

        With dropout, the masks are one for the inputs (B, D) and one for each hidden layer (B, H).
        """
        A = np.asarray(X, dtype=np.float64)
        self.has_masks = masks is not None
        for i, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            if masks is not None:
                A = self.dropouts[i].forward(A, masks[i])
            A = self.matmuls[i].forward(A, W)
            A = A if b is None else self.adds[i].forward(A, b)
            if i < len(self.activations):
                A = self.activations[i].forward(A)
        self.Z = A
        return self.output.forward(A)

    def loss(self, P: Array, y: Indices) -> Array:
        """Return the loss of each image (B,), given the outputs P that `forward` returned last."""
        reads_logits = isinstance(self.loss_op, BinaryCrossEntropy)
        T = targets(y, P.shape[1], self.smoothing, 2 if reads_logits else P.shape[1])
        return self.loss_op.forward(self.Z if reads_logits else P, T)

    def gradient(self, y: Indices) -> Array:
        """Return dP (B, C), the gradient of the mean or sum of the losses that `loss` returned last.

        The binary cross-entropy reads logits, so its gradient is dZ.
        """
        return self.loss_op.backward(np.full(len(y), 1.0 / len(y) if self.reduction == "mean" else 1.0))

    def backward(self, dP: Array) -> tuple[list[Array], list[Bias]]:
        """Return the gradients dWs and dbs in the shapes of W and b; a db is None where b is None."""
        dA = dP if isinstance(self.loss_op, BinaryCrossEntropy) else self.output.backward(dP)
        dWs, dbs = list[Array](), list[Bias]()
        for i in reversed(range(len(self.W))):
            if i < len(self.activations):
                dA = self.activations[i].backward(dA)
            dA, db = (dA, None) if self.b[i] is None else self.adds[i].backward(dA)
            dA, dW = self.matmuls[i].backward(dA)
            if self.has_masks:
                dA = self.dropouts[i].backward(dA)
            dWs.insert(0, dW)
            dbs.insert(0, db)
        return dWs, dbs

    def loss_and_gradients(self, X: Array, y: Indices) -> tuple[Array, Array, list[Array], list[Bias]]:
        """Return the loss of each row (B,), the outputs (B, C), and the gradients of each W and b."""
        P = self.forward(X)
        losses = self.loss(P, y)
        dWs, dbs = self.backward(self.gradient(y))
        return losses, P, dWs, dbs


def interleaved(W: Sequence[Array], b: Sequence[Bias]) -> list[Array]:
    """Return parameters or gradients in the order W1, b1, W2, b2, …, without None."""
    return [array for pair in zip(W, b, strict=True) for array in pair if array is not None]


@dataclass(frozen=True)
class Regularization:
    """Penalties, limits of norms and dropout in a training step; see `train`.

    Attributes
    ----------
    l2, l1 : the penalty (l2 / 2) ΣW² + l1 Σ|W| on all weights, added to the mean loss
    clip_norm : the largest norm of the gradient; a longer one is scaled (Pascanu et al., 2013)
    max_norm : the largest norm of a column of W after a step (Srivastava et al., 2014)
    masks : masks(step, rows) returns the masks of `Network.forward`; steps are counted from 1
    """

    l2: float = 0.0
    l1: float = 0.0
    clip_norm: float = math.inf
    max_norm: float = math.inf
    masks: Callable[[int, int], list[Array]] | None = None

    def penalty(self, network: Network) -> float:
        """Return the penalty on the weights of a network."""
        return sum(self.l2 / 2 * float((W**2).sum()) + self.l1 * float(abs(W).sum()) for W in network.W)

    def penalized(self, network: Network, dWs: Sequence[Array], rows: int) -> list[Array]:
        """Return the gradients dWs plus the gradients of the penalty.

        If a step uses the sum of the gradients of the `rows` of a batch, the penalty is multiplied by `rows`.
        """
        factor = rows if network.reduction == "sum" else 1
        return [
            dW + factor * (self.l2 * W + self.l1 * np.sign(W)) for W, dW in zip(network.W, dWs, strict=True)
        ]

    def clip(self, gradients: Sequence[Array]) -> None:
        """Scale the gradients in place, so that their common norm is at most `clip_norm`."""
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        for g in gradients:
            g *= min(1.0, self.clip_norm / norm) if norm else 1.0

    def bound(self, network: Network) -> None:
        """Scale the columns of each W in place, so that their norms are at most `max_norm`."""
        for W in network.W:
            for column in W.T:
                norm = math.sqrt(float(column @ column))
                if norm > self.max_norm:
                    column *= self.max_norm / norm


NO_REGULARIZATION: Final = Regularization()


class Sgd:
    """θ ← θ − lr g (Robbins & Monro, 1951)."""

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Update the parameters in place by one step."""
        for theta, g in zip(parameters, gradients, strict=True):
            theta -= self.lr * g


class Momentum:
    """v ← μ v + g and θ ← θ − lr v, from v = 0 (Polyak, 1964)."""

    def __init__(self, lr: float, momentum: float = 0.9) -> None:
        self.lr, self.momentum, self.v = lr, momentum, list[Array]()

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Update the parameters in place by one step."""
        self.v = self.v or [np.zeros_like(theta) for theta in parameters]
        for theta, g, v in zip(parameters, gradients, self.v, strict=True):
            v[...] = self.momentum * v + g
            theta -= self.lr * v


class Nesterov:
    """v ← μ v + g and θ ← θ − lr (g + μ v), from v = 0 (Sutskever et al., 2013, with θ at the lookahead)."""

    def __init__(self, lr: float, momentum: float = 0.9) -> None:
        self.lr, self.momentum, self.v = lr, momentum, list[Array]()

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Update the parameters in place by one step."""
        self.v = self.v or [np.zeros_like(theta) for theta in parameters]
        for theta, g, v in zip(parameters, gradients, self.v, strict=True):
            v[...] = self.momentum * v + g
            theta -= self.lr * (g + self.momentum * v)


class Adagrad:
    """s ← s + g² and θ ← θ − lr g / (√s + ε), from s = 0 (Duchi, Hazan & Singer, 2011)."""

    def __init__(self, lr: float, epsilon: float = 1e-10) -> None:
        self.lr, self.epsilon, self.s = lr, epsilon, list[Array]()

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Update the parameters in place by one step."""
        self.s = self.s or [np.zeros_like(theta) for theta in parameters]
        for theta, g, s in zip(parameters, gradients, self.s, strict=True):
            s += g**2
            theta -= self.lr * g / (np.sqrt(s) + self.epsilon)


class RmsProp:
    """s ← ρ s + (1 − ρ) g² and θ ← θ − lr g / (√s + ε), from s = 0 (Tieleman & Hinton, 2012)."""

    def __init__(self, lr: float, rho: float = 0.9, epsilon: float = 1e-7) -> None:
        self.lr, self.rho, self.epsilon, self.s = lr, rho, epsilon, list[Array]()

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Update the parameters in place by one step."""
        self.s = self.s or [np.zeros_like(theta) for theta in parameters]
        for theta, g, s in zip(parameters, gradients, self.s, strict=True):
            s[...] = self.rho * s + (1.0 - self.rho) * g**2
            theta -= self.lr * g / (np.sqrt(s) + self.epsilon)


class Adam:
    """Algorithm 1 of Kingma & Ba (2015), from m = v = 0 and t = 0.

    t ← t + 1, m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²,
    m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ), θ ← θ − lr m̂ / (√v̂ + ε).
    """

    def __init__(self, lr: float, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        self.lr, self.beta1, self.beta2, self.epsilon = lr, beta1, beta2, epsilon
        self.t, self.m, self.v = 0, list[Array](), list[Array]()

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Update the parameters in place by one step."""
        self.t += 1
        self.m = self.m or [np.zeros_like(theta) for theta in parameters]
        self.v = self.v or [np.zeros_like(theta) for theta in parameters]
        for theta, g, m, v in zip(parameters, gradients, self.m, self.v, strict=True):
            m[...] = self.beta1 * m + (1.0 - self.beta1) * g
            v[...] = self.beta2 * v + (1.0 - self.beta2) * g**2
            m_hat, v_hat = m / (1.0 - self.beta1**self.t), v / (1.0 - self.beta2**self.t)
            theta -= self.lr * m_hat / (np.sqrt(v_hat) + self.epsilon)


class AdamW(Adam):
    """Algorithm 2 of Loshchilov & Hutter (2019): θ ← θ − lr λ θ for weights, not biases, then Adam."""

    def __init__(self, lr: float, weight_decay: float = 0.01, **others: float) -> None:
        super().__init__(lr, **others)
        self.weight_decay = weight_decay

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        """Update the parameters in place by one step."""
        for theta in parameters:
            if theta.ndim == 2:
                theta -= self.lr * self.weight_decay * theta
        super().step(parameters, gradients)


Optimizer: TypeAlias = Sgd | Momentum | Nesterov | Adagrad | RmsProp | Adam


def schedule_factor(
    name: str, step: int, steps: int, steps_per_epoch: int, warmup: float = 0.0, **of: float
) -> float:
    """Return the factor of the learning rate at `step`, counted from 0, in a run of `steps` steps.

    In a warmup of W steps, the factor is (t + 1)/(W + 1) (Goyal et al., 2017). The schedule begins after it;
    the formulas are those of `fnnexp.nn.pieces.schedules`.
    """
    warmup_steps = round(warmup * steps_per_epoch)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    step, steps = step - warmup_steps, steps - warmup_steps
    if name == "step":
        return float(of["gamma"] ** (step // (of["every"] * steps_per_epoch)))
    if name == "exponential":
        return float(of["gamma"] ** (step / steps_per_epoch))
    if name == "inverse_time":
        return 1.0 / (1.0 + of["rate"] * step / steps_per_epoch)
    if name == "linear":
        return ((steps - step) + of["end"] * step) / steps
    if name == "cosine":
        return of["end"] + (1.0 - of["end"]) * math.cos(math.pi * step / steps / 2.0) ** 2
    if name == "one_cycle":
        top = of["rise"] * steps
        if step < top:
            return ((top - step) + of["peak"] * step) / top
        return ((steps - step) * of["peak"] + (step - top) * of["end"]) / (steps - top)
    assert name == "constant"
    return 1.0


def train(
    network: Network,
    optimizer: Optimizer,
    X: Array,
    y: Indices,
    batches: Iterable[Indices],
    regularization: Regularization = NO_REGULARIZATION,
    first_step: int = 1,
    rates: Iterator[float] | None = None,
) -> Iterator[tuple[float, float]]:
    """Take one step in place for each batch; yield its mean loss and accuracy before the step.

    X is (N, D) and y (N,). A batch is an array of row numbers (B,). Each iteration of the result takes a
    step. The loss includes dropout but no penalties. ``rates`` are the learning rates of the steps, if they
    are not the optimizer's.

    >>> network = Network([np.zeros((1, 2))], [None], "relu")
    >>> steps = train(network, Sgd(1.0), np.array([[1.0]]), np.array([0]), [np.array([0])] * 2)
    >>> [round(loss, 3) for loss, accuracy in steps]
    [0.693, 0.313]
    """
    for step, rows in enumerate(batches, start=first_step):
        P = network.forward(X[rows], regularization.masks and regularization.masks(step, len(rows)))
        losses = network.loss(P, y[rows])
        dP = network.gradient(y[rows])
        dWs, dbs = network.backward(dP)
        gradients = interleaved(regularization.penalized(network, dWs, len(rows)), dbs)
        regularization.clip(gradients)
        if rates is not None:
            optimizer.lr = next(rates)
        optimizer.step(network.parameters, gradients)
        regularization.bound(network)
        yield float(losses.mean()), float((P.argmax(axis=1) == y[rows]).mean())
