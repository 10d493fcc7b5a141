"""Compare activations with PyTorch: values, derivatives, and networks that are trained for 20 steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_against_reference import images

from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.activations import activation_named
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.training import Lane, Recipe, advance, start

torch = pytest.importorskip("torch")

F: Any = torch.nn.functional
SLOPE = 0.2
THEIRS: dict[str, Any] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": lambda Z: F.leaky_relu(Z, SLOPE),
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "gelu": lambda Z: F.gelu(Z, approximate="tanh"),
    "silu": F.silu,
    "identity": lambda Z: Z * 1,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", THEIRS)
def test_values_and_derivatives_equal_those_of_pytorch_at_0_and_far_from_it(name: str, dtype: str) -> None:
    Z = np.array([0, 1e-3, -1e-3, 1, -1, 4, -4, 15, -15, 90, -90, 1000, -1000], dtype)
    theirs = torch.tensor(Z, requires_grad=True)
    value = THEIRS[name](theirs)
    value.sum().backward()
    A, derivative, f = Z.copy(), np.empty_like(Z), activation_named(name, SLOPE)
    with np.errstate(over="ignore"):
        f.forward(A)
        f.derivative(Z if f.needs_z else A, A, derivative)
    eps = np.finfo(dtype).eps
    # PyTorch replaces softplus by z beyond 20, which is off by exp(−20).
    tolerance = 5e-9 if name == "softplus" else 0
    np.testing.assert_allclose(A, value.detach().numpy(), rtol=20 * eps, atol=20 * eps + tolerance)
    np.testing.assert_allclose(derivative, theirs.grad.numpy(), rtol=20 * eps, atol=20 * eps + tolerance)


@pytest.mark.parametrize("mode", ["mini", "sample"])
@pytest.mark.parametrize("names", [*THEIRS, ("gelu", "leaky_relu"), ("softplus", "silu")])
def test_twenty_steps_equal_those_of_pytorch(names: Any, mode: str) -> None:
    architecture = Architecture(784, (9, 7), 10, names, slope=SLOPE)
    size = 32 if mode == "mini" else 1
    arrays = images(20 * size)
    recipe = Recipe(architecture, Batching(mode, 32 if mode == "mini" else None), "sgd", 1, dtype="float64")
    untrained = start(recipe, [Lane("a", 1, (0.05, 0.3, 0.3), (("lr", 0.1),))])
    parameters = Parameters(architecture, untrained.theta)
    W = [torch.tensor(array[0], requires_grad=True) for array in parameters.W]
    b = [torch.tensor(array[0, 0], requires_grad=True) for array in parameters.b if array is not None]
    sgd = torch.optim.SGD([*W, *b], lr=0.1)
    X, y = torch.tensor(arrays.x_train / 255), torch.tensor(arrays.y_train.astype(np.int64))
    for first in range(0, len(X), size):
        A = X[first : first + size]
        for layer, name in enumerate(architecture.activations):
            A = THEIRS[name](A @ W[layer] + b[layer])
        sgd.zero_grad()
        F.cross_entropy(A @ W[-1] + b[-1], y[first : first + size]).backward()
        sgd.step()
    expected = np.concatenate([p.detach().numpy().ravel() for pair in zip(W, b, strict=True) for p in pair])
    for engine in ("numpy", "numba"):
        trained, _ = advance(recipe, untrained, arrays, engine=engine)
        np.testing.assert_allclose(trained.theta[0], expected, rtol=0, atol=1e-10)
