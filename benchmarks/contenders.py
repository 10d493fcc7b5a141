"""The contenders of the speed benchmark: functions that prepare a network and return a function to train it.

A contender is ``prepare(mode, lanes, dtype, rows, threads) → train``. ``train()`` trains each of its lanes
for one epoch of ``rows`` training rows, without evaluation. All contenders train the same network with plain
gradient descent, on the same data, from the same distribution of initial weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fnnexp.data import datasets as data
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.training import Lane, Recipe, advance, start

Train = Callable[[], Any]

SHAPES = {"full": (784, 100, 10), "mini": (784, 128, 10), "sample": (784, 32, 32, 10)}
ACTIVATION = {"full": "relu", "mini": "tanh", "sample": "sigmoid"}
STEP = {"full": 0.1, "mini": 0.1, "sample": 0.01}
BATCH = 128


@dataclass(frozen=True)
class Rows:
    """The first training rows of MNIST, and one test row, because only training is measured."""

    x_train: Any
    y_train: Any
    x_test: Any
    y_test: Any


@functools.cache
def mnist(rows: int) -> Rows:
    arrays = data.load(data.prepare("mnist"))
    return Rows(arrays.x_train[:rows], arrays.y_train[:rows], arrays.x_test[:1], arrays.y_test[:1])


def weights(mode: str, seed: int, dtype: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return W and b of each layer. W is drawn from N(0, 1/n_in), and b is zero."""
    rng, shape = np.random.default_rng(seed), SHAPES[mode]
    return [
        ((rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)).astype(dtype), np.zeros(n_out, dtype))
        for n_in, n_out in pairwise(shape)
    ]


def fnnexp_stack(
    mode: str, lanes: int, dtype: str, rows: int, threads: int, *, engine: str = "numpy"
) -> Train:
    arrays = mnist(rows)
    shape = SHAPES[mode]
    architecture = Architecture(shape[0], shape[1:-1], shape[-1], ACTIVATION[mode])
    batching = {
        "full": Batching("full"),
        "mini": Batching("mini", BATCH, True),
        "sample": Batching("sample"),
    }[mode]
    stds = tuple(1 / np.sqrt(n_in) for n_in, _ in architecture.shapes)
    recipe = Recipe(architecture, batching, "sgd", 1, dtype=dtype)
    stack = start(recipe, [Lane(str(k), 0, stds, (("lr", STEP[mode]),)) for k in range(lanes)])
    return lambda: advance(recipe, stack, arrays, engine=engine)


def bare_products(mode: str, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    """Prepare the bare matrix products of all layers, forward and backward, and nothing else."""
    shape, rng = SHAPES[mode], np.random.default_rng(0)
    batch = {"full": 512, "mini": BATCH, "sample": 64}[mode]
    layers = []
    for i, (n_in, n_out) in enumerate(pairwise(shape)):
        A = rng.random((batch, n_in)).astype(dtype)
        W = rng.random((n_in, n_out)).astype(dtype)
        dZ, dW, dA = np.empty((batch, n_out), dtype), np.empty_like(W), np.empty_like(A)
        layers.append((i, A, W, dZ, dW, dA))
    count = rows * lanes // batch

    def train() -> None:
        for _ in range(count):
            for i, A, W, dZ, dW, dA in layers:
                np.matmul(A, W, out=dZ)
                np.matmul(A.T, dZ, out=dW)
                if i:
                    np.matmul(dZ, W.T, out=dA)

    return train


def plain_loop(mode: str, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    """Prepare the loop of a typical notebook: one network, float64, new arrays in every step."""
    arrays = mnist(rows)
    X, Y = arrays.x_train / 255.0, np.eye(10)[arrays.y_train]
    layers = [[W, b] for W, b in weights(mode, 0, np.float64)]
    rng = np.random.default_rng(0)
    lr, name = STEP[mode], ACTIVATION[mode]
    f = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}[name]
    df = {"relu": lambda a: a > 0, "tanh": lambda a: 1 - a**2, "sigmoid": lambda a: a * (1 - a)}[name]

    def step(x: np.ndarray, y: np.ndarray) -> None:
        activations = [x]
        for W, b in layers[:-1]:
            activations.append(f(activations[-1] @ W + b))
        z = activations[-1] @ layers[-1][0] + layers[-1][1]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        dz = (e / e.sum(axis=1, keepdims=True) - y) / len(x)
        for i in reversed(range(len(layers))):
            W, b = layers[i]
            dW, db = activations[i].T @ dz, dz.sum(axis=0)
            if i:
                dz = (dz @ W.T) * df(activations[i])
            layers[i] = [W - lr * dW, b - lr * db]

    def train() -> None:
        n = len(X)
        if mode == "full":
            step(X, Y)
            return
        order = rng.permutation(n) if mode == "mini" else np.arange(n)
        size = BATCH if mode == "mini" else 1
        for i in range(0, n, size):
            batch = order[i : i + size]
            step(X[batch], Y[batch])

    return train


def torch_eager(mode: str, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    import torch

    torch.set_num_threads(threads)
    torch_dtype = getattr(torch, dtype)
    arrays = mnist(rows)
    X = torch.tensor(np.asarray(arrays.x_train)).to(torch_dtype) / 255
    y = torch.tensor(np.asarray(arrays.y_train)).long()
    hidden = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}[ACTIVATION[mode]]
    modules: list[Any] = []
    for W, b in weights(mode, 0, dtype):
        linear = torch.nn.Linear(*W.shape, dtype=torch_dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(W.T))
            linear.bias.copy_(torch.tensor(b))
        modules += [linear, hidden()]
    net = torch.nn.Sequential(*modules[:-1])
    loss_of, optimizer = torch.nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), lr=STEP[mode])

    def step(xb: Any, yb: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(net(xb), yb).backward()
        optimizer.step()

    def train() -> None:
        if mode == "full":
            step(X, y)
            return
        n, size = len(X), BATCH if mode == "mini" else 1
        order = torch.randperm(n) if mode == "mini" else None
        for i in range(0, n, size):
            batch = slice(i, i + size) if order is None else order[i : i + size]
            step(X[batch], y[batch])

    return train


def jax_compiled(mode: str, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    """Prepare a compiled epoch: a jitted step, or a scan over batches; several lanes with vmap."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", dtype == "float64")
    arrays = mnist(rows)
    X = jnp.asarray(np.asarray(arrays.x_train), dtype) / 255
    y = jnp.asarray(np.asarray(arrays.y_train), jnp.int32)
    f = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[ACTIVATION[mode]]

    def loss_of(layers: Any, xb: Any, yb: Any) -> Any:
        a = xb
        for W, b in layers[:-1]:
            a = f(a @ W + b)
        logits = a @ layers[-1][0] + layers[-1][1]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), yb[:, None], axis=1).mean()

    def step(layers: Any, xb: Any, yb: Any) -> Any:
        grads = jax.grad(loss_of)(layers, xb, yb)
        return jax.tree.map(lambda p, g: p - STEP[mode] * g, layers, grads)

    size = {"full": len(X), "mini": BATCH, "sample": 1}[mode]

    def epoch(layers: Any, order: Any) -> Any:
        if mode == "full":
            return step(layers, X, y)
        batches = order[: len(X) // size * size].reshape(-1, size)
        return jax.lax.scan(lambda p, batch: (step(p, X[batch], y[batch]), None), layers, batches)[0]

    network = [tuple(map(jnp.asarray, pair)) for pair in weights(mode, 0, dtype)]
    if lanes > 1:
        layers = jax.tree.map(lambda p: jnp.stack([p] * lanes), network)
        compiled = jax.jit(jax.vmap(epoch, in_axes=(0, None)))
    else:
        layers, compiled = network, jax.jit(epoch)
    order = (
        jnp.arange(len(X)) if mode == "sample" else jnp.asarray(np.random.default_rng(0).permutation(len(X)))
    )

    def train() -> None:
        jax.block_until_ready(compiled(layers, order))

    return train


def scikit_learn(mode: str, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    import warnings

    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore")
    arrays = mnist(rows)
    X = (np.asarray(arrays.x_train) / 255).astype(dtype)
    size = {"mini": BATCH, "sample": 1}[mode]
    activation = {"tanh": "tanh", "sigmoid": "logistic"}[ACTIVATION[mode]]

    def train() -> None:
        MLPClassifier(
            SHAPES[mode][1:-1], activation=activation, solver="sgd", alpha=0, batch_size=size, momentum=0,
            learning_rate_init=STEP[mode], max_iter=1, shuffle=mode == "mini",
        ).fit(X, arrays.y_train)  # fmt: skip

    return train


CONTENDERS: dict[str, Callable[[str, int, str, int, int], Train]] = {
    "fnnexp": fnnexp_stack,
    "fnnexp, numba": functools.partial(fnnexp_stack, engine="numba"),
    "bare products": bare_products,
    "plain loop": plain_loop,
    "PyTorch": torch_eager,
    "JAX": jax_compiled,
    "scikit-learn": scikit_learn,
}
