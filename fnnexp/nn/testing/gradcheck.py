"""Gradients held against central finite differences in float64: every op, and every architecture as a whole.

An architecture is checked three times: op by op (`reference`), in the stacked core that a sweep trains with
(`network`, two lanes with weights and images of their own), and in the per-sample step (`per_sample`). The
last two are checked with the products and steps of the engine `numba` too, where that is installed. An
activation that is added to the core's table is checked in the same ways.

The step is h = ε^(1/3) max(1, |x|) ≈ 6e-6, where ε is float64's machine epsilon. It balances the truncation
error h² f‴ / 6 with the rounding error ε |f| / h: both come to about 4e-11 of the function's own scale
(Press, Teukolsky, Vetterling & Flannery, 2007, §5.7).

The relative error of an entry is |analytic − numeric| / max(|analytic|, |numeric|, floor), as in the notes of
Stanford's CS231n (Karpathy, 2015, "Gradient checks"), with floor = 1e-3 max(array's largest |numeric|, |f|).
Without the floor an entry that is nearly 0 would be judged on the rounding error of f alone. With it the
errors above come to some 4e-8, and an entry wrong by 1e-9 of the array's largest, or of f, is found.
`TOLERANCE` is 1e-6: room for curvature, and far below the 1e-2 and more that a wrong formula makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from fnnexp.nn import network as core
from fnnexp.nn.engines.base import engine_named
from fnnexp.nn.engines.numpy_engine import Examples
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.losses import gradient_in_place, losses_and_hits
from fnnexp.nn.testing import reference
from fnnexp.nn.testing.reference import (
    Add,
    Array,
    FromTable,
    Log,
    Matmul,
    Network,
    Relu,
    Sigmoid,
    Softmax,
    Tanh,
    TanhAsPublished,
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
    """How far a gradient is from finite differences.

    Attributes
    ----------
    name : what was checked
    max_relative_error : the largest relative error of any entry looked at, as this module defines it
    tolerance : what it may be
    """

    name: str
    max_relative_error: float
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; one that is not a number is not."""
        return self.max_relative_error <= self.tolerance


def check_gradients(
    name: str, loss: Callable[[], float], parameters: Sequence[Array], gradients: Sequence[Array]
) -> GradientCheck:
    """Compare analytic gradients with finite differences of any loss.

    Of an array with more than `ENTRIES` entries, that many are compared, drawn from a seeded generator: one
    formula fills the whole array, so a sample shows where it is wrong.

    Parameters
    ----------
    name : the name of the result
    loss : reads `parameters` and returns a number, the same each time that they are the same
    parameters : float64 arrays of any shape, changed in place during the check and restored
    gradients : for each of them the analytic ∂loss/∂parameter, in its shape; copied before loss is called

    Raises
    ------
    ValueError : for parameters that are not float64, or gradients that are not of their number and shapes

    >>> x = np.array([3.0])
    >>> check_gradients("square", lambda: float(x[0] ** 2), [x], [2 * x]).passed
    True
    >>> check_gradients("square", lambda: float(x[0] ** 2), [x], [3 * x]).passed
    False
    """
    shapes, gradient_shapes = [p.shape for p in parameters], [g.shape for g in gradients]
    if shapes != gradient_shapes:
        raise ValueError(f"{name}: gradients have shapes {gradient_shapes}; their parameters have {shapes}")
    if wrong := {str(p.dtype) for p in parameters if p.dtype != np.float64}:
        raise ValueError(
            f"{name}: parameters are {', '.join(sorted(wrong))}; finite differences need float64"
        )
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
    """Return ∂loss/∂x at the flat indices `entries`, where loss reads x, which is changed and restored."""
    differences = []
    for i in entries:
        before = x.flat[i]
        h = STEP * max(1.0, abs(before))
        x.flat[i] = above = before + h
        f_above = loss()
        x.flat[i] = below = before - h
        f_below = loss()
        x.flat[i] = before
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


# Each op with its inputs. ReLU's keep 0.1 from the kink, where there is no derivative to compare with.
OPERATIONS: Final[dict[str, tuple[Callable[[], _Operation], Draw]]] = {
    "matmul": (Matmul, _normal((4, 3), (3, 5))),
    "add": (Add, _normal((4, 5), (5,))),
    "relu": (Relu, _away_from_zero),
    "tanh": (Tanh, _normal((4, 5))),
    "tanh_as_published": (TanhAsPublished, _normal((4, 5))),
    "sigmoid": (Sigmoid, _normal((4, 5))),
    "softmax": (Softmax, _normal((4, 5))),
    "log": (partial(Log, 0.01), _probabilities),
}


def added_activations() -> list[str]:
    """Return the activations of the core's table that have no op in `reference`."""
    return [name for name in ACTIVATIONS if name not in reference.ACTIVATIONS]


def operations() -> dict[str, tuple[Callable[[], _Operation], Draw]]:
    """Return `OPERATIONS` and an op for each added activation."""
    added = {name: partial(FromTable, ACTIVATIONS[name]) for name in added_activations()}
    return OPERATIONS | {name: (make, _away_from_zero) for name, make in added.items()}


def check_operation(name: str) -> GradientCheck:
    """Check one op of `operations`: the gradient of Σ R ∘ op(inputs), with R random, in every input.

    A random projection makes a number of the op's output, so that one backward pass is checked whole
    (Goodfellow, Bengio & Courville, 2016, §11.5). An unknown name is a ValueError.

    >>> check_operation("softmax").passed, check_operation("tanh_as_published").passed
    (True, False)
    """
    allowed = operations()
    _refuse_unknown([name], allowed)
    make, draw = allowed[name]
    op, rng = make(), np.random.default_rng(0)
    inputs = draw(rng)
    R = rng.standard_normal(op.forward(*inputs).shape)
    d_inputs = op.backward(R)
    gradients = d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)
    return check_gradients(name, lambda: float((R * op.forward(*inputs)).sum()), inputs, gradients)


@dataclass(frozen=True)
class Example:
    """A network to check, with 12 inputs in place of 784, 10 classes, and images at which to check it.

    Attributes
    ----------
    hidden : H of each hidden layer
    activation, epsilon, reduction : as in `reference.Network`
    biases : for each layer, the last included, whether it has one; all have by default
    std : of the weights; 1/√n_in by default. Large ones make p_y small, where epsilon matters
    """

    hidden: tuple[int, ...]
    activation: str
    epsilon: float = 0.0
    reduction: str = "mean"
    biases: tuple[bool, ...] | None = None
    std: float | None = None

    @property
    def kept(self) -> Sequence[bool]:
        """For each layer whether it has a bias."""
        return self.biases or [True] * (len(self.hidden) + 1)

    def total(self, losses: Array) -> float:
        """Return the sum or the mean of a batch's losses, whichever it is whose gradient is taken."""
        return float(losses.sum() if self.reduction == "sum" else losses.mean())

    def drawn(
        self, seed: int, images: int, of: Callable[[np.random.Generator], Array] | None = None
    ) -> tuple[Network, Array, NDArray[np.integer]]:
        """Return the network with normal weights and biases, images X (B, 12) and labels y (B,).

        X is normal, or what `of` draws. With ReLU, of 240 images those are taken whose hidden units stay
        furthest from the kink, where there is no derivative to compare with; likewise with an activation
        that was added, which may have a kink too.
        """
        rng = np.random.default_rng(seed)
        sizes = [12, *self.hidden, 10]
        W = [rng.normal(0.0, self.std or n_in**-0.5, (n_in, n_out)) for n_in, n_out in pairwise(sizes)]
        b = [rng.normal(0.0, 0.5, n_out) for n_out in sizes[1:]]
        b_or_none = [b_i if keep else None for b_i, keep in zip(b, self.kept, strict=True)]
        network = Network(W, b_or_none, self.activation, self.epsilon, self.reduction)
        X, y = of(rng) if of else rng.standard_normal((240, 12)), rng.integers(0, 10, images)
        network.forward(X)
        kinks = [np.abs(f.Z).min(axis=1) for f in network.activations if isinstance(f, Relu | FromTable)]
        nearest = np.argsort(-np.min(kinks, axis=0)) if kinks else np.arange(240)
        return network, X[nearest[:images]], y


def _pixels(rng: np.random.Generator) -> Array:
    """Return 240 images of bytes divided by 255, four fifths of them 0, as most pixels of digits are."""
    return rng.integers(1, 256, (240, 12)) * (rng.random((240, 12)) < 0.2) / 255


class _Stacked:
    """An example in the stacked core: two lanes, each with weights and images of its own.

    Every operation of `network` that may differ between lanes does: the rows, the labels and the weights.
    An engine other than NumPy's is given rows as it takes them from a data set.
    """

    def __init__(self, example: Example, images: int, engine: str = "numpy") -> None:
        self.example, self.engine = example, engine_named(engine)
        lanes = [example.drawn(seed, images, None if engine == "numpy" else _pixels) for seed in (0, 1)]
        self.inputs = [(range(k, k + 1), self._rows(X)) for k, (_, X, _) in enumerate(lanes)]
        self.labels = np.stack([y for _, _, y in lanes])
        bias = ["zeros" if keep else "none" for keep in example.kept]
        self.architecture = core.Architecture(12, example.hidden, 10, example.activation, bias[0], bias[-1])
        theta = np.stack([np.concatenate([p.ravel() for p in network.parameters]) for network, _, _ in lanes])
        self.parameters = core.Parameters(self.architecture, theta, self.engine.first_layer)
        self.work = core.Workspace(self.architecture, 2, images, theta.dtype)
        self.work.set_labels(self.labels)

    def _rows(self, X: Array) -> Any:
        if self.engine is engine_named("numpy"):
            return Examples(X)
        return self.engine.make_rows(np.rint(X * 255).astype(np.uint8), "unit", len(X), X.dtype).take(
            slice(0, len(X))
        )

    def arrays(self, theta: Array) -> list[Array]:
        """Return W1 b1 W2 b2 … of θ (K, P) or of a gradient of it: views with a leading axis of K lanes."""
        of = core.Parameters(self.architecture, theta)
        return interleaved(of.W, of.b)

    def loss(self) -> float:
        """Return the sum over the lanes of what is minimised."""
        self.parameters.first.weights_changed()
        logits = core.forward(self.parameters, self.inputs, self.work)
        losses, _ = losses_and_hits(logits, self.work.onehot, self.example.epsilon, self.work.row)
        return sum(self.example.total(lane) for lane in losses)

    def check(self, name: str, gradient: Array) -> GradientCheck:
        """Compare the gradient (2, P) with finite differences of `loss`."""
        return check_gradients(name, self.loss, self.arrays(self.parameters.theta), self.arrays(gradient))


def check_network(example: Example, name: str) -> GradientCheck:
    """Check the whole of a `reference.Network`, on 6 images.

    >>> check_network(Example((32, 32), "sigmoid"), "two layers").passed
    True
    """
    network, X, y = example.drawn(seed=0, images=6)
    _, _, dWs, dbs = network.loss_and_gradients(X, y)
    loss = lambda: example.total(network.loss(network.forward(X), y))  # noqa: E731
    return check_gradients(name, loss, network.parameters, interleaved(dWs, dbs))


def check_stacked(example: Example, name: str, engine: str = "numpy") -> GradientCheck:
    """Check forward, gradient and backward of the stacked core with an engine's products, on 6 images a lane.

    >>> check_stacked(Example((32, 32), "sigmoid"), "two layers").passed
    True
    """
    images = 6
    stacked = _Stacked(example, images, engine)
    zeros = np.zeros_like(stacked.parameters.theta)
    gradients = core.Parameters(stacked.architecture, zeros, stacked.engine.first_layer)
    work = stacked.work
    dZ = core.forward(stacked.parameters, stacked.inputs, work)
    losses_and_hits(dZ, work.onehot, example.epsilon, work.row)
    gradient_in_place(dZ, work.onehot, example.epsilon, work.row)
    if example.reduction == "mean":
        dZ /= images
    core.backward(stacked.parameters, stacked.inputs, stacked.work, gradients)
    return stacked.check(name, gradients.theta)


def check_per_sample(example: Example, name: str, engine: str = "numpy") -> GradientCheck:
    """Check an engine's step a row, on one image a lane: (θ before − θ after) / lr is the gradient.

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


# `relu_full_batch` is the published network: no output bias, N(0, 1) weights, epsilon and the sum.
ARCHITECTURES: Final[dict[str, Example]] = {
    "relu_100": Example((100,), "relu"),
    "tanh_128": Example((128,), "tanh"),
    "sigmoid_32_32": Example((32, 32), "sigmoid"),
    "relu_98": Example((98,), "relu"),
    "tanh_64_32": Example((64, 32), "tanh"),
    "tanh_128_as_published": Example((128,), "tanh_as_published"),
    "relu_full_batch": Example((100,), "relu", 1e-12, "sum", (True, False), 1.0),
}


def architectures() -> dict[str, Example]:
    """Return `ARCHITECTURES` and one for each added activation."""
    return ARCHITECTURES | {f"{name}_32_32": Example((32, 32), name) for name in added_activations()}


def checks() -> dict[str, Callable[[str], GradientCheck]]:
    """Return the checks that can be made here, by name; those of the engine `numba` only if it is installed.

    An activation that Numba's per-sample step does not know trains with NumPy's, which is checked anyway.
    """
    examples = architectures()
    found: dict[str, Callable[[str], GradientCheck]] = dict.fromkeys(operations(), check_operation)
    found |= {name: partial(check_network, example) for name, example in examples.items()}
    found |= {f"stacked {name}": partial(check_stacked, example) for name, example in examples.items()}
    found |= {f"per_sample {name}": partial(check_per_sample, example) for name, example in examples.items()}
    try:
        numba = engine_named("numba")
    except ImportError:
        return found
    for name, example in examples.items():
        found[f"numba stacked {name}"] = partial(check_stacked, example, engine="numba")
    for name, example in examples.items():
        if numba.can_descend(ACTIVATIONS[example.activation]):
            found[f"numba per_sample {name}"] = partial(check_per_sample, example, engine="numba")
    return found


def run(names: Sequence[str] | None = None) -> list[GradientCheck]:
    """Check what is named, or everything: each op, then each network op by op, stacked, and a row at a time.

    All pass but those in `KNOWN_WRONG`, which have to fail. An unknown name is a ValueError.

    >>> [(check.name, check.passed) for check in run(["log", "stacked tanh_128_as_published"])]
    [('log', True), ('stacked tanh_128_as_published', False)]
    """
    available = checks()
    names = list(available) if names is None else names
    _refuse_unknown(names, available)
    return [available[name](name) for name in names]


def _refuse_unknown(names: Iterable[str], allowed: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in allowed]:
        raise ValueError(f"no gradient check is called {', '.join(unknown)}; there are {', '.join(allowed)}")
