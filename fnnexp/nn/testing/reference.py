"""The network op by op in plain float64 NumPy: a readable reference to test the stacked core with.

The core is `fnnexp.nn.network` with its engines. Each op here has a `forward` and a `backward`. The latter
maps the gradient of the loss with respect to the op's output to the gradients with respect to its inputs
(Rumelhart, Hinton & Williams, 1986). A gradient is named after its value: `dW` for `W`. Axes are B examples
and C classes; n_in and n_out are D, H or C.

The ops share no code with the core. The exception is `FromTable`, for activations that only the core defines.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.pieces.activations import ACTIVATIONS as TABLE
from fnnexp.nn.pieces.activations import Activation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Array: TypeAlias = NDArray[np.float64]
Bias: TypeAlias = Array | None
Indices: TypeAlias = NDArray[np.integer]


class Matmul:
    """Z = X W, with X (B, n_in) and W (n_in, n_out); dX = dZ Wᵀ and dW = Xᵀ dZ (Rumelhart et al., 1986)."""

    def forward(self, X: Array, W: Array) -> Array:
        """Return Z (B, n_out)."""
        self.X, self.W = X, W
        return X @ W

    def backward(self, dZ: Array) -> tuple[Array, Array]:
        """Return dX (B, n_in) and dW (n_in, n_out)."""
        return dZ @ self.W.T, self.X.T @ dZ


class Add:
    """Y = Z + b, with Z (B, n_out) and b (n_out,); dZ = dY and db = Σ_B dY (Rumelhart et al., 1986)."""

    def forward(self, Z: Array, b: Array) -> Array:
        """Return Y (B, n_out)."""
        return Z + b

    def backward(self, dY: Array) -> tuple[Array, Array]:
        """Return dZ (B, n_out) and db (n_out,)."""
        return dY, dY.sum(axis=0)


class Relu:
    """A = max(Z, 0), elementwise; dZ = dA where Z > 0, else 0 (Glorot, Bordes & Bengio, 2011)."""

    def forward(self, Z: Array) -> Array:
        """Return A in the shape of Z."""
        self.Z = Z
        return np.maximum(Z, 0.0)

    def backward(self, dA: Array) -> Array:
        """Return dZ in the shape of Z."""
        return np.where(self.Z > 0.0, dA, 0.0)


class Tanh:
    """A = tanh(Z), elementwise; dZ = (1 − A²) dA (LeCun, Bottou, Orr & Müller, 1998)."""

    def forward(self, Z: Array) -> Array:
        """Return A in the shape of Z."""
        self.A = np.tanh(Z)
        return self.A

    def backward(self, dA: Array) -> Array:
        """Return dZ in the shape of Z."""
        return (1.0 - self.A**2) * dA


class TanhAsPublished:
    """A = tanh(Z), with the mistake of the published program `tanh_mini_batch`: dZ = (1 − tanh(A)²) dA.

    The derivative 1 − tanh(·)² must be computed from Z, but the program passes the activation A. This op
    reproduces the numbers of that program. It fails the gradient check (`gradcheck.KNOWN_WRONG`).
    """

    def forward(self, Z: Array) -> Array:
        """Return A in the shape of Z."""
        self.A = np.tanh(Z)
        return self.A

    def backward(self, dA: Array) -> Array:
        """Return the wrong dZ of the published program, in the shape of Z."""
        return (1.0 - np.tanh(self.A) ** 2) * dA


class Sigmoid:
    """A = 1 / (1 + exp(−Z)), Z clipped to ±500 to keep exp finite; dZ = A (1 − A) dA (Rumelhart et al.)."""

    def forward(self, Z: Array) -> Array:
        """Return A in the shape of Z."""
        self.A = 1.0 / (1.0 + np.exp(-np.clip(Z, -500.0, 500.0)))
        return self.A

    def backward(self, dA: Array) -> Array:
        """Return dZ in the shape of Z."""
        return self.A * (1.0 - self.A) * dA


class FromTable:
    """A = f(Z) and dZ = f′ dA, elementwise, with the two functions from the core's table.

    It is for activations without an op in this module. Finite differences still test their slopes.
    """

    def __init__(self, activation: Activation) -> None:
        self.activation = activation

    def forward(self, Z: Array) -> Array:
        """Return A in the shape of Z."""
        self.Z, self.A = Z, Z.copy()
        self.activation.forward(self.A)
        return self.A

    def backward(self, dA: Array) -> Array:
        """Return dZ in the shape of Z."""
        slope = np.empty_like(self.A)
        self.activation.slope(self.A, slope)
        return slope * dA


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
        """Return dZ (B, C)."""
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
        """Return L in the shape of P."""
        self.P_plus_epsilon = P + self.epsilon
        with np.errstate(divide="ignore"):
            return np.log(self.P_plus_epsilon)

    def backward(self, dL: Array) -> Array:
        """Return dP in the shape of P."""
        return dL / np.maximum(self.P_plus_epsilon, np.finfo(np.float64).tiny)


ActivationOp: TypeAlias = Relu | Tanh | TanhAsPublished | Sigmoid | FromTable

ACTIVATIONS: Final[dict[str, type[Relu | Tanh | TanhAsPublished | Sigmoid]]] = {
    "relu": Relu,
    "tanh": Tanh,
    "tanh_as_published": TanhAsPublished,
    "sigmoid": Sigmoid,
}


def activation_op(name: str) -> Callable[[], ActivationOp]:
    """Return the constructor of an activation's op, from `ACTIVATIONS` or else from the core's table.

    Raises
    ------
    ValueError
        If neither contains the name.
    """
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    if name in TABLE:
        return partial(FromTable, TABLE[name])
    allowed = ", ".join(dict.fromkeys((*ACTIVATIONS, *TABLE)))
    raise ValueError(f"activation '{name}': must be one of {allowed}")


class Network:
    """A fully-connected network: a = f(x W + b) in each hidden layer, softmax(x W + b) in the last.

    The loss of an image is −log(p_y + epsilon). The gradient is the exact gradient of the mean or sum of the
    losses of a batch. With respect to the logits it is p_y / (p_y + epsilon) · (p − onehot(y)), divided by B
    for the mean.

    Parameters
    ----------
    W, b : the weights (n_in, n_out) and biases (n_out,) of each layer, copied; None for a layer without bias
    activation : the name of f, as for `activation_op`
    epsilon : added to p_y inside the logarithm, 0 or more
    reduction : "mean" or "sum"

    Raises
    ------
    ValueError : for another activation or reduction
    """

    def __init__(
        self,
        W: Sequence[Array],
        b: Sequence[Bias],
        activation: str,
        epsilon: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        new_activation = activation_op(activation)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction '{reduction}': must be one of mean, sum")
        self.W = [np.array(W_i, dtype=np.float64) for W_i in W]
        self.b = [None if b_i is None else np.array(b_i, dtype=np.float64) for b_i in b]
        self.parameters = interleaved(self.W, self.b)
        self.matmuls = [Matmul() for _ in self.W]
        self.adds = [Add() for _ in self.b]
        self.activations = [new_activation() for _ in self.W[:-1]]
        self.softmax, self.log, self.reduction = Softmax(), Log(epsilon), reduction

    def forward(self, X: Array) -> Array:
        """Return the probabilities P (B, C) of the images X (B, D)."""
        A = np.asarray(X, dtype=np.float64)
        for i, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            A = self.matmuls[i].forward(A, W)
            A = A if b is None else self.adds[i].forward(A, b)
            if i < len(self.activations):
                A = self.activations[i].forward(A)
        return self.softmax.forward(A)

    def loss(self, P: Array, y: Indices) -> Array:
        """Return the loss −log(p_y + epsilon) of each image (B,)."""
        return -self.log.forward(P)[np.arange(len(y)), y]

    def gradient(self, y: Indices) -> Array:
        """Return dP (B, C), the gradient of the mean or sum of the losses that `loss` returned last."""
        dL = np.zeros_like(self.log.P_plus_epsilon)
        dL[np.arange(len(y)), y] = -1.0 / len(y) if self.reduction == "mean" else -1.0
        return self.log.backward(dL)

    def backward(self, dP: Array) -> tuple[list[Array], list[Bias]]:
        """Return the gradients dWs and dbs in the shapes of W and b; a db is None where b is None."""
        dWs, dbs, dA = list[Array](), list[Bias](), self.softmax.backward(dP)
        for i in reversed(range(len(self.W))):
            if i < len(self.activations):
                dA = self.activations[i].backward(dA)
            dA, db = (dA, None) if self.b[i] is None else self.adds[i].backward(dA)
            dA, dW = self.matmuls[i].backward(dA)
            dWs.insert(0, dW)
            dbs.insert(0, db)
        return dWs, dbs

    def loss_and_gradients(self, X: Array, y: Indices) -> tuple[Array, Array, list[Array], list[Bias]]:
        """Return the loss of each image (B,), the probabilities (B, C), dWs and dbs."""
        P = self.forward(X)
        losses = self.loss(P, y)
        dWs, dbs = self.backward(self.gradient(y))
        return losses, P, dWs, dbs


def interleaved(W: Sequence[Array], b: Sequence[Bias]) -> list[Array]:
    """Return parameters or gradients in the order W1, b1, W2, b2, …, without None."""
    return [array for pair in zip(W, b, strict=True) for array in pair if array is not None]


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
    """Algorithm 2 of Loshchilov & Hutter (2019): θ ← θ − lr λ θ for weights, two-dimensional, before Adam."""

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
    """Return the factor of the learning rate at a step, counted from 0, of a run of so many steps.

    In a warmup of W steps, it is (t + 1)/(W + 1) (Goyal et al., 2017). The schedule takes the other steps;
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
    rates: Iterator[float] | None = None,
) -> Iterator[tuple[float, float]]:
    """Take one step in place for each batch; yield its mean loss and accuracy before the step.

    X is (N, D) and y (N,). A batch is an array of row numbers (B,). Each iteration of the result takes a
    step. ``rates`` are the learning rates of the steps, if they are not the optimizer's.

    >>> network = Network([np.zeros((1, 2))], [None], "relu")
    >>> steps = train(network, Sgd(1.0), np.array([[1.0]]), np.array([0]), [np.array([0])] * 2)
    >>> [round(loss, 3) for loss, accuracy in steps]
    [0.693, 0.313]
    """
    for rows in batches:
        P = network.forward(X[rows])
        losses = network.loss(P, y[rows])
        dP = network.gradient(y[rows])
        dWs, dbs = network.backward(dP)
        if rates is not None:
            optimizer.lr = next(rates)
        optimizer.step(network.parameters, interleaved(dWs, dbs))
        yield float(losses.mean()), float((P.argmax(axis=1) == y[rows]).mean())
