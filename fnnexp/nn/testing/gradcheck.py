"""Compare gradients with central finite differences in float64, for every op and every architecture.

An architecture is checked three times: op by op (`reference`), in the stacked core that sweeps use
(`network`, with two lanes that have different weights and images), and in the per-sample step (`per_sample`).
If Numba is installed, the last two are also checked with the engine `numba`. Activations that are added to
the core's table are checked in the same ways.

The step is h = ε^(1/3) max(1, |x|) ≈ 6e-6, where ε is the machine epsilon of float64. It balances the
truncation error h² f‴ / 6 and the rounding error ε |f| / h. Both are about 4e-11, relative to the scale of
the function (Press, Teukolsky, Vetterling & Flannery, 2007, §5.7).

The relative error of an entry is |analytic − numeric| / max(|analytic|, |numeric|, floor), as in the notes of
Stanford's CS231n (Karpathy, 2015, "Gradient checks"), with floor = 1e-3 max(array's largest |numeric|, |f|).
Without the floor, the rounding error of f would dominate the relative error of entries near 0. With the
floor, the errors above amount to some 4e-8, and the check detects an error of 1e-9 of the array's largest
entry, or of f. `TOLERANCE` is 1e-6: this allows for curvature, and is far below the 1e-2 or more of a wrong
formula.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from fnnexp.nn import network as core
from fnnexp.nn.engines.base import engine_named
from fnnexp.nn.engines.numpy_engine import Examples, Scaling
from fnnexp.nn.engines.per_sample import can_descend
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.losses import LOSSES, loss_for, target_values
from fnnexp.nn.pieces.regularizers import add_l1_gradient, add_l2_gradient
from fnnexp.nn.testing import reference
from fnnexp.nn.testing.reference import (
    Add,
    Array,
    BinaryCrossEntropy,
    CrossEntropy,
    Elu,
    FromTable,
    LeakyRelu,
    Log,
    Matmul,
    Network,
    Relu,
    Selu,
    Softmax,
    SquaredError,
    interleaved,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Draw: TypeAlias = Callable[[np.random.Generator], list[Array]]

TOLERANCE: Final = 1e-6
STEP: Final = float(np.finfo(np.float64).eps) ** (1 / 3)
FLOOR: Final = 1e-3
ENTRIES: Final = 200

KNOWN_WRONG: Final = (
    "tanh_as_published",
    "tanh_128_as_published",
    "stacked tanh_128_as_published",
    "per_sample tanh_128_as_published",
    "numba stacked tanh_128_as_published",
    "numba per_sample tanh_128_as_published",
)


@dataclass(frozen=True)
class GradientCheck:
    """The result of comparing a gradient with finite differences.

    Attributes
    ----------
    name : the name of the check
    max_relative_error : the largest relative error of the compared entries; see this module's docstring
    tolerance : the largest allowed error
    """

    name: str
    max_relative_error: float
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance. A NaN is not."""
        return self.max_relative_error <= self.tolerance


def check_gradients(
    name: str, loss: Callable[[], float], parameters: Sequence[Array], gradients: Sequence[Array]
) -> GradientCheck:
    """Compare analytic gradients with finite differences of a loss.

    If an array has more than `ENTRIES` entries, a random sample of `ENTRIES` is compared. A sample is
    enough because one formula computes the whole array.

    Parameters
    ----------
    name : the name of the result
    loss : a deterministic function that reads `parameters` and returns a number
    parameters : float64 arrays of any shape, changed in place during the check and restored
    gradients : the analytic ∂loss/∂parameter in the shape of each parameter; copied before loss is called

    Raises
    ------
    ValueError : if parameters are not float64, or if gradients differ from them in number or shape

    >>> x = np.array([3.0])
    >>> check_gradients("square", lambda: float(x[0] ** 2), [x], [2 * x]).passed
    True
    >>> check_gradients("square", lambda: float(x[0] ** 2), [x], [3 * x]).passed
    False
    """
    shapes, gradient_shapes = [p.shape for p in parameters], [g.shape for g in gradients]
    if shapes != gradient_shapes:
        raise ValueError(
            f"{name}: gradients have shapes {gradient_shapes}; must be those of the parameters, {shapes}"
        )
    if wrong_dtypes := {str(p.dtype) for p in parameters if p.dtype != np.float64}:
        raise ValueError(f"{name}: parameters are {', '.join(sorted(wrong_dtypes))}; must be float64")
    gradients = [np.array(g) for g in gradients]
    rng, f, error = np.random.default_rng(0), abs(loss()), 0.0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        entries = rng.permutation(parameter.size)[:ENTRIES]
        analytic, numeric = gradient.ravel()[entries], _central_differences(loss, parameter, entries)
        floor = max(FLOOR * max(np.abs(numeric).max(initial=0.0), f), float(np.finfo(np.float64).tiny))
        scale = np.maximum(np.maximum(np.abs(analytic), np.abs(numeric)), floor)
        with np.errstate(invalid="ignore"):
            error = float(np.max(np.abs(analytic - numeric) / scale, initial=error))
    return GradientCheck(name, error)


def _central_differences(loss: Callable[[], float], x: Array, entries: Iterable[int]) -> Array:
    """Return ∂loss/∂x at the flat indices `entries`. `loss` reads x, which is changed and restored."""
    differences = []
    for i in entries:
        original = x.flat[i]
        h = STEP * max(1.0, abs(original))
        x.flat[i] = above = original + h
        f_above = loss()
        x.flat[i] = below = original - h
        f_below = loss()
        x.flat[i] = original
        differences.append((f_above - f_below) / (above - below))
    return np.array(differences, dtype=np.float64)


class _Operation(Protocol):
    def forward(self, *inputs: Any) -> Array: ...

    def backward(self, d_out: Array, /) -> Array | tuple[Array, ...]: ...


def _normal(*shapes: tuple[int, ...]) -> Draw:
    return lambda rng: [rng.standard_normal(shape) for shape in shapes]


def _away_from_zero(rng: np.random.Generator) -> list[Array]:
    return [rng.choice([-1.0, 1.0], (4, 5)) * rng.uniform(0.1, 2.0, (4, 5))]


def _probabilities(rng: np.random.Generator) -> list[Array]:
    return [rng.uniform(0.05, 1.0, (4, 5))]


class _FixedDropout(reference.Dropout):
    """Dropout with a fixed mask, which keeps three of five values, so that the op has only one input."""

    def forward(self, A: Array) -> Array:  # type: ignore[override]
        return super().forward(A, np.where(np.arange(A.size).reshape(A.shape) % 5 < 3, 1 / 0.6, 0.0))


class _WithTargets:
    """The op of a loss with fixed smoothed targets, so that the op has only one input."""

    def __init__(self, op: CrossEntropy | BinaryCrossEntropy | SquaredError) -> None:
        self.op, self.backward = op, op.backward

    def forward(self, A: Array) -> Array:
        return self.op.forward(A, reference.targets(np.arange(len(A)), A.shape[1], 0.2, A.shape[1]))


KINKED = (Relu, LeakyRelu, Elu, Selu, FromTable)
"""The activations whose first or second derivative jumps at 0, or may do so. They are checked away from 0."""

# Each op, and a function that draws its inputs.
OPERATIONS: Final[dict[str, tuple[Callable[[], _Operation], Draw]]] = {
    "matmul": (Matmul, _normal((4, 3), (3, 5))),
    "add": (Add, _normal((4, 5), (5,))),
    **{
        name: (make, _away_from_zero if make in KINKED else _normal((4, 5)))
        for name, make in reference.ACTIVATIONS.items()
    },
    "dropout": (_FixedDropout, _normal((4, 5))),
    "softmax": (Softmax, _normal((4, 5))),
    "log": (partial(Log, 0.01), _probabilities),
    "cross_entropy": (lambda: _WithTargets(CrossEntropy(0.01)), _probabilities),
    "binary_cross_entropy": (lambda: _WithTargets(BinaryCrossEntropy()), _normal((4, 5))),
    "squared_error": (lambda: _WithTargets(SquaredError()), _normal((4, 5))),
}


def added_activations() -> list[str]:
    """Return the names of the activations that training has, but for which `reference` has no op.

    For example, these are activations that a user has added.
    """
    return [name for name in ACTIVATIONS if name not in reference.ACTIVATIONS]


def operations() -> dict[str, tuple[Callable[[], _Operation], Draw]]:
    """Return the ops to check by name: `OPERATIONS`, and one for each of the `added_activations`."""
    added = {name: partial(FromTable, ACTIVATIONS[name]) for name in added_activations()}
    return OPERATIONS | {name: (make, _away_from_zero) for name, make in added.items()}


def check_operation(name: str) -> GradientCheck:
    """Check the gradient of Σ R ∘ op(inputs) with respect to every input, where R is random.

    `name` is a key of `operations`; another name raises a ValueError. The random projection turns the op's
    output into a scalar, so one check covers the whole backward pass (Goodfellow, Bengio & Courville, 2016,
    §11.5).

    >>> check_operation("softmax").passed, check_operation("tanh_as_published").passed
    (True, False)
    """
    allowed = operations()
    _check_names([name], allowed)
    make, draw = allowed[name]
    op, rng = make(), np.random.default_rng(0)
    inputs = draw(rng)
    R = rng.standard_normal(op.forward(*inputs).shape)
    d_inputs = op.backward(R)
    gradients = d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)
    return check_gradients(name, lambda: float((R * op.forward(*inputs)).sum()), inputs, gradients)


@dataclass(frozen=True)
class Example:
    """A network to check, with 12 inputs instead of 784, and with 10 classes.

    Attributes
    ----------
    hidden : H of each hidden layer
    activation, epsilon, reduction, slope : as in `reference.Network`
    loss, output, smoothing : as in `reference.Network`
    biases : whether each layer, including the last, has a bias; None if all have
    std : the standard deviation of the weights; None for 1/√n_in. If large, p_y is small and epsilon matters
    dropout : the hidden layers with dropout, counted from 0
    l2, l1 : the coefficients of the penalties on the weights
    """

    hidden: tuple[int, ...]
    activation: str | tuple[str, ...]
    epsilon: float = 0.0
    reduction: str = "mean"
    biases: tuple[bool, ...] | None = None
    std: float | None = None
    dropout: tuple[int, ...] = ()
    l2: float = 0.0
    l1: float = 0.0
    slope: float = 0.01
    loss: str = "cross_entropy"
    output: str | None = None
    smoothing: float = 0.0

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options that a recipe with this loss has: label smoothing, or none."""
        return ("label_smoothing",) if self.smoothing else ()

    @property
    def has_bias(self) -> Sequence[bool]:
        """Whether each layer has a bias."""
        return self.biases or [True] * (len(self.hidden) + 1)

    @property
    def architecture(self) -> core.Architecture:
        """The architecture in the form that the stacked core, `fnnexp.nn.network`, has."""
        first, last = ("zeros" if self.has_bias[i] else "none" for i in (0, -1))
        return core.Architecture(12, self.hidden, 10, self.activation, first, last, self.slope)

    def reduced(self, losses: Array) -> float:
        """Return the sum or the mean of the losses of a batch, according to `reduction`."""
        return float(losses.sum() if self.reduction == "sum" else losses.mean())

    def draw(
        self, seed: int, images: int, draw_images: Callable[[np.random.Generator], Array] | None = None
    ) -> tuple[Network, Array, NDArray[np.integer]]:
        """Return the network with normal weights and biases, images X (B, 12) and labels y (B,).

        X is standard normal by default; `draw_images` returns other images (240, 12). For ReLU and the other
        activations of `KINKED`, X has the images, out of 240, whose pre-activations are furthest from 0,
        where the derivative jumps.
        """
        rng = np.random.default_rng(seed)
        sizes = [12, *self.hidden, 10]
        W = [rng.normal(0.0, self.std or n_in**-0.5, (n_in, n_out)) for n_in, n_out in pairwise(sizes)]
        b = [rng.normal(0.0, 0.5, n_out) for n_out in sizes[1:]]
        b_or_none = [b_i if keep else None for b_i, keep in zip(b, self.has_bias, strict=True)]
        network = Network(
            W,
            b_or_none,
            self.activation,
            self.epsilon,
            self.reduction,
            self.loss,
            self.output,
            self.smoothing,
            self.slope,
        )
        X = draw_images(rng) if draw_images else rng.standard_normal((240, 12))
        y = rng.integers(0, 10, images)
        network.forward(X)
        distances = [np.abs(f.Z).min(axis=1) for f in network.activations if isinstance(f, KINKED)]
        order = np.argsort(-np.min(distances, axis=0)) if distances else np.arange(240)
        return network, X[order[:images]], y


def _pixels(rng: np.random.Generator) -> Array:
    """Return 240 images (240, 12) of pixels n / 255 for whole n, of which four fifths are 0 as in MNIST.

    At most four pixels of an image are not 0, so the compiled engine uses its products of sparse rows.
    """
    is_set = rng.random((240, 12)) < 0.2
    return rng.integers(1, 256, (240, 12)) * (is_set & (is_set.cumsum(axis=1) <= 4)) / 255


class _Stacked:
    """Two networks of an example, with different weights, rows and labels, stacked as in a sweep.

    An engine other than NumPy's gets its rows in the same format as from a data set.
    """

    def __init__(self, example: Example, images: int, engine: str = "numpy") -> None:
        self.example, self.engine = example, engine_named(engine)
        lanes = [example.draw(seed, images, None if engine == "numpy" else _pixels) for seed in (0, 1)]
        self.inputs = [(range(k, k + 1), self._rows(X)) for k, (_, X, _) in enumerate(lanes)]
        self.labels = np.stack([y for _, _, y in lanes])
        self.architecture = example.architecture
        theta = np.stack([np.concatenate([p.ravel() for p in network.parameters]) for network, _, _ in lanes])
        self.parameters = core.Parameters(self.architecture, theta, self.engine.first_layer)
        self.work = core.Workspace(self.architecture, 2, images, theta.dtype, example.dropout)
        for mask in self.work.masks.values():
            mask[...] = np.where(np.arange(mask.size).reshape(mask.shape) % 5 < 3, 1 / 0.6, 0.0)
        self.loss_function = loss_for(example)
        smoothing = np.full((2, 1, 1), example.smoothing)
        smoothed = target_values(self.loss_function, smoothing, 10) if example.options else None
        self.work.set_labels(self.labels, smoothed)

    def _rows(self, X: Array) -> Any:
        if self.engine is engine_named("numpy"):
            return Examples(X)
        return self.engine.make_rows(np.rint(X * 255).astype(np.uint8), Scaling(255.0), len(X), X.dtype).take(
            slice(0, len(X))
        )

    def arrays(self, theta: Array) -> list[Array]:
        """Return views W1 b1 W2 b2 … of the two networks' parameters θ (2, P), or of their gradient."""
        parameters = core.Parameters(self.architecture, theta)
        return interleaved(parameters.W, parameters.b)

    def loss(self) -> float:
        """Return the losses of both networks with their penalties, summed to one number."""
        self.parameters.first.weights_changed()
        penalties = [
            self.example.l2 / 2 * float((W**2).sum()) + self.example.l1 * float(abs(W).sum())
            for W in self.parameters.W
        ]
        return sum([*(self.example.reduced(lane) for lane in self.losses()), *penalties])

    def losses(self) -> Array:
        """Return the losses (2, B) of both networks for each of their B images."""
        logits, work = core.forward(self.parameters, self.inputs, self.work), self.work
        losses, _ = self.loss_function.losses_and_hits(logits, work.targets, self.example.epsilon, work.row)
        return losses

    def check(self, name: str, gradient: Array) -> GradientCheck:
        """Compare the gradient (2, P) with finite differences of `loss`."""
        return check_gradients(name, self.loss, self.arrays(self.parameters.theta), self.arrays(gradient))


def check_network(example: Example, name: str) -> GradientCheck:
    """Check the gradient of a `reference.Network` on 6 images.

    >>> check_network(Example((32, 32), "sigmoid"), "two layers").passed
    True
    """
    network, X, y = example.draw(seed=0, images=6)
    _, _, dWs, dbs = network.loss_and_gradients(X, y)
    loss = lambda: example.reduced(network.loss(network.forward(X), y))  # noqa: E731
    return check_gradients(name, loss, network.parameters, interleaved(dWs, dbs))


def check_stacked(example: Example, name: str, engine: str = "numpy") -> GradientCheck:
    """Check the gradient of two networks in a stack, as sweeps compute it with an engine, on 6 images each.

    >>> check_stacked(Example((32, 32), "sigmoid"), "two layers").passed
    True
    """
    images = 6
    stacked = _Stacked(example, images, engine)
    zeros = np.zeros_like(stacked.parameters.theta)
    gradients = core.Parameters(stacked.architecture, zeros, stacked.engine.first_layer)
    work = stacked.work
    stacked.losses()
    dZ = work.logits
    stacked.loss_function.gradient(dZ, work.targets, example.epsilon, work.row)
    if example.reduction == "mean":
        dZ /= images
    core.backward(stacked.parameters, stacked.inputs, stacked.work, gradients)
    for W, dW in zip(stacked.parameters.W, gradients.W, strict=True):
        add_l2_gradient(dW, W, np.array(example.l2), np.empty_like(W))
        add_l1_gradient(dW, W, np.array(example.l1), np.empty_like(W))
    return stacked.check(name, gradients.theta)


def check_per_sample(example: Example, name: str, engine: str = "numpy") -> GradientCheck:
    """Check an engine's step for a single row, on one image for each of two networks.

    The gradient is (θ before − θ after) / lr.

    >>> check_per_sample(Example((32, 32), "sigmoid"), "two layers").passed
    True
    """
    stacked = _Stacked(example, 1, engine)
    after = core.Parameters(stacked.architecture, stacked.parameters.theta.copy())
    lr = np.array([[1.0], [2.0]])
    groups = [range(1), range(1, 2)]
    descent = stacked.engine.per_sample(stacked.architecture, after, lr, example.epsilon, groups)
    descent.descend(stacked.inputs, stacked.labels)
    descent.write_back()
    return stacked.check(name, (stacked.parameters.theta - after.theta) / lr)


# `relu_full_batch` is a published network: no output bias, N(0, 1) weights, log(p + ε), and a summed loss.
ARCHITECTURES: Final[dict[str, Example]] = {
    "relu_100": Example((100,), "relu"),
    "tanh_128": Example((128,), "tanh"),
    "sigmoid_32_32": Example((32, 32), "sigmoid"),
    "relu_98": Example((98,), "relu"),
    "tanh_64_32": Example((64, 32), "tanh"),
    "tanh_128_as_published": Example((128,), "tanh_as_published"),
    "relu_full_batch": Example((100,), "relu", 1e-12, "sum", (True, False), 1.0),
    "leaky_relu_8_4": Example((8, 4), "leaky_relu", slope=0.2),
    **{
        f"{name}_8_4": Example((8, 4), name)
        for name in ("elu", "selu", "softplus", "softsign", "gelu", "silu", "identity")
    },
    "relu+gelu_8_4": Example((8, 4), ("relu", "gelu")),
}


REGULARIZED: Final[dict[str, Example]] = {
    "dropout": Example((32, 32), "tanh", dropout=(0, 1)),
    "penalties": Example((32, 32), "tanh", l2=0.1, l1=0.01),
}
"""Networks with dropout and penalties, which the stacked core computes."""


def losses() -> dict[str, Example]:
    """Return networks that check the losses, by name: each loss and output, with and without smoothing."""
    examples = {}
    for loss, outputs in LOSSES.items():
        for output in outputs:
            chosen, name = (output, f"{loss}_{output}") if len(outputs) > 1 else (None, loss)
            plain = Example((8,), "tanh", std=1.0, loss=loss, output=chosen)
            examples[f"{name}_loss"] = plain
            examples[f"{name}_loss_smoothed"] = replace(plain, smoothing=0.2)
    smoothed = examples["cross_entropy_loss_smoothed"]
    return examples | {"cross_entropy_loss_smoothed_epsilon": replace(smoothed, epsilon=0.01)}


def architectures() -> dict[str, Example]:
    """Return networks that check the architectures, by name: also one for each of the `added_activations`."""
    return ARCHITECTURES | {f"{name}_32_32": Example((32, 32), name) for name in added_activations()}


def checks() -> dict[str, Callable[[str], GradientCheck]]:
    """Return the available checks by name. Checks of the engine `numba` are among them if Numba is installed.

    The per-sample checks of an engine leave out activations that its per-sample step does not support.
    """
    by_row = architectures()
    examples = by_row | losses()
    available: dict[str, Callable[[str], GradientCheck]] = dict.fromkeys(operations(), check_operation)
    available |= {name: partial(check_network, example) for name, example in examples.items()}
    available |= {f"stacked {name}": partial(check_stacked, example) for name, example in examples.items()}
    available |= {
        f"per_sample {name}": partial(check_per_sample, example)
        for name, example in by_row.items()
        if can_descend(example.architecture)
    }
    available |= {f"stacked {name}": partial(check_stacked, example) for name, example in REGULARIZED.items()}
    try:
        numba = engine_named("numba")
    except ImportError:
        return available
    for name, example in examples.items():
        available[f"numba stacked {name}"] = partial(check_stacked, example, engine="numba")
    for name, example in REGULARIZED.items():
        available[f"numba stacked {name}"] = partial(check_stacked, example, engine="numba")
    for name, example in by_row.items():
        if numba.can_descend(example.architecture):
            available[f"numba per_sample {name}"] = partial(check_per_sample, example, engine="numba")
    return available


def run(names: Sequence[str] | None = None) -> list[GradientCheck]:
    """Run the named checks, or all: each op; then each network op by op, in a stack, and row by row.

    All checks should pass except those of `KNOWN_WRONG`, which should fail. An unknown name raises a
    ValueError.

    >>> [(check.name, check.passed) for check in run(["log", "stacked tanh_128_as_published"])]
    [('log', True), ('stacked tanh_128_as_published', False)]
    """
    available = checks()
    names = list(available) if names is None else names
    _check_names(names, available)
    return [available[name](name) for name in names]


def _check_names(names: Iterable[str], allowed: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in allowed]:
        raise ValueError(f"gradient check {', '.join(unknown)}: must be one of {', '.join(allowed)}")
