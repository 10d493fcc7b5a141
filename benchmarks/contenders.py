"""The contenders of the speed benchmark: functions that prepare a network and return a function to train it.

A contender is ``prepare(setting, lanes, dtype, rows, threads) → train``. ``train()`` trains each of its lanes
for one epoch of ``rows`` training rows, without evaluation. All contenders of a setting train the same
network in the same way, on the same data, from the same distribution of initial weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fnnexp.data import datasets as data
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.schedules import Schedule
from fnnexp.nn.training import Lane, Recipe, advance, start

Train = Callable[[], Any]


@dataclass(frozen=True)
class Setting:
    """What is trained, and how.

    Attributes
    ----------
    batch
        Rows in a batch, which are shuffled; None for one batch of all rows, 1 for one row at a time in order.
    std
        The standard deviation of the initial weights; None for 1/√n_in.
    dropout
        The rate after each hidden layer.
    options
        Other numbers of fnnexp's lanes, such as ``l2``, as pairs.
    schedule
        How fnnexp changes the learning rate.
    """

    shape: tuple[int, ...]
    activation: str
    batch: int | None
    lr: float
    optimizer: str = "sgd"
    hyper: tuple[tuple[str, float], ...] = ()
    std: float | None = None
    loss: str = "cross_entropy"
    dropout: float = 0.0
    options: tuple[tuple[str, float], ...] = ()
    schedule: Schedule | None = None

    def stds(self) -> tuple[float, ...]:
        """Return the standard deviation of each layer's weights."""
        return tuple(self.std or n_in**-0.5 for n_in in self.shape[:-1])


KERAS_MLP = Setting(
    (784, 512, 512, 10),
    "relu",
    batch=128,
    lr=0.001,
    optimizer="rmsprop",
    hyper=(("rho", 0.9), ("epsilon", 1e-7)),
    dropout=0.2,
)
SETTINGS = {
    "full": Setting((784, 100, 10), "relu", batch=None, lr=0.1),
    "mini": Setting((784, 128, 10), "tanh", batch=128, lr=0.1),
    "sample": Setting((784, 32, 32, 10), "sigmoid", batch=1, lr=0.01),
    "keras": KERAS_MLP,
    "keras_without_dropout": replace(KERAS_MLP, dropout=0.0),
    "full_alone": Setting((784, 100, 10), "relu", batch=None, lr=0.1),
    "mini_alone": Setting((784, 128, 10), "tanh", batch=128, lr=0.1),
    "nielsen": Setting((784, 30, 10), "sigmoid", batch=10, lr=3.0, std=1.0, loss="mse"),
}
"""The settings of the speed benchmark, by mode.

In ``full_alone`` and ``mini_alone`` one network trains by itself. ``keras`` is ``mnist_mlp`` of Keras's
examples. ``nielsen`` is the network of chapter 1 of Nielsen's "Neural Networks and Deep Learning" (2015),
with sigmoid outputs and the quadratic cost.
"""


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


def weights(setting: Setting, seed: int, dtype: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return W and b of each layer. W has normal draws, and b is zero."""
    rng = np.random.default_rng(seed)
    return [
        ((std * rng.standard_normal(shape)).astype(dtype), np.zeros(shape[1], dtype))
        for std, shape in zip(setting.stds(), pairwise(setting.shape), strict=True)
    ]


def fnnexp_stack(
    setting: Setting, lanes: int, dtype: str, rows: int, threads: int, *, engine: str = "numpy"
) -> Train:
    arrays = mnist(rows)
    shape = setting.shape
    architecture = Architecture(shape[0], shape[1:-1], shape[-1], setting.activation)
    batching = {None: Batching("full"), 1: Batching("sample")}.get(
        setting.batch, Batching("mini", setting.batch, True)
    )
    options = dict(setting.options)
    if setting.dropout:
        options |= {f"dropout.{layer}": setting.dropout for layer in range(1, len(shape) - 1)}
    names = (*options, "schedule") if setting.schedule else tuple(options)
    recipe = Recipe(
        architecture,
        batching,
        setting.optimizer,
        1,
        dtype=dtype,
        loss=setting.loss,
        output="sigmoid" if setting.loss == "mse" else None,
        options=names,
    )
    hyper = (("lr", setting.lr), *setting.hyper, *options.items())
    lane = Lane("", 0, setting.stds(), hyper, schedule=setting.schedule)
    stack = start(recipe, [replace(lane, key=str(k)) for k in range(lanes)])
    threadpool_limits(1, "blas")  # as in workers: fnnexp's own threads call BLAS
    return lambda: advance(recipe, stack, arrays, engine=engine, threads=threads)


def bare_products(setting: Setting, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    """Prepare the bare matrix products of all layers, forward and backward, and nothing else."""
    shape, rng = setting.shape, np.random.default_rng(0)
    batch = {None: 512, 1: 64}.get(setting.batch, setting.batch)
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


def plain_loop(setting: Setting, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    """Prepare the loop of a typical notebook: one network, float64, new arrays in every step."""
    arrays = mnist(rows)
    X, Y = arrays.x_train / 255.0, np.eye(10)[arrays.y_train]
    layers = [[W, b] for W, b in weights(setting, 0, np.float64)]
    rng = np.random.default_rng(0)
    lr, name = setting.lr, setting.activation
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
        if setting.batch is None:
            step(X, Y)
            return
        order = rng.permutation(n) if setting.batch > 1 else np.arange(n)
        for i in range(0, n, setting.batch):
            batch = order[i : i + setting.batch]
            step(X[batch], Y[batch])

    return train


def row_by_row_loop(setting: Setting, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    """Prepare the loop that Nielsen's chapter 1 describes: backpropagation row by row within each batch.

    Rows are columns of numbers, as in the book. The gradients of a batch are summed in new arrays, and only
    then is a step taken.
    """
    arrays = mnist(rows)
    inputs = [image.reshape(-1, 1) / 255.0 for image in np.asarray(arrays.x_train)]
    targets = [target.reshape(-1, 1) for target in np.eye(10)[arrays.y_train]]
    layers = [(W.T.copy(), b.reshape(-1, 1)) for W, b in weights(setting, 0, np.float64)]
    rng, lr, size = np.random.default_rng(0), setting.lr, setting.batch or 1

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-z))

    def sigmoid_derivative(z: np.ndarray) -> np.ndarray:
        return sigmoid(z) * (1 - sigmoid(z))

    def gradients(x: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the gradients of W and b of each layer for one row."""
        activations, sums = [x], []
        for W, b in layers:
            sums.append(W @ activations[-1] + b)
            activations.append(sigmoid(sums[-1]))
        delta = (activations[-1] - y) * sigmoid_derivative(sums[-1])
        pairs = [(delta @ activations[-2].T, delta)]
        for i in range(len(layers) - 2, -1, -1):
            delta = (layers[i + 1][0].T @ delta) * sigmoid_derivative(sums[i])
            pairs.insert(0, (delta @ activations[i].T, delta))
        return pairs

    def train() -> None:
        order = rng.permutation(rows)
        for i in range(0, rows, size):
            batch = order[i : i + size]
            totals = [(np.zeros(W.shape), np.zeros(b.shape)) for W, b in layers]
            for row in batch:
                pairs = gradients(inputs[row], targets[row])
                totals = [(W + dW, b + db) for (W, b), (dW, db) in zip(totals, pairs, strict=True)]
            step = lr / len(batch)
            layers[:] = [
                (W - step * dW, b - step * db) for (W, b), (dW, db) in zip(layers, totals, strict=True)
            ]

    return train


def torch_eager(setting: Setting, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    import torch

    torch.set_num_threads(threads)
    torch_dtype = getattr(torch, dtype)
    arrays = mnist(rows)
    X = torch.tensor(np.asarray(arrays.x_train)).to(torch_dtype) / 255
    y = torch.tensor(np.asarray(arrays.y_train)).long()
    hidden = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}[setting.activation]
    modules: list[Any] = []
    for W, b in weights(setting, 0, dtype):
        linear = torch.nn.Linear(*W.shape, dtype=torch_dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(W.T))
            linear.bias.copy_(torch.tensor(b))
        modules += [linear, hidden(), *([torch.nn.Dropout(setting.dropout)] if setting.dropout else [])]
    net = torch.nn.Sequential(*modules[: -2 if setting.dropout else -1])
    if setting.optimizer == "rmsprop":
        of = dict(setting.hyper)
        optimizer: Any = torch.optim.RMSprop(net.parameters(), setting.lr, of["rho"], of["epsilon"])
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=setting.lr)
    cross_entropy, onehot = torch.nn.CrossEntropyLoss(), torch.eye(10, dtype=torch_dtype)

    def loss_of(Z: Any, yb: Any) -> Any:
        if setting.loss == "mse":
            return ((torch.sigmoid(Z) - onehot[yb]) ** 2).sum() / (2 * len(yb))
        return cross_entropy(Z, yb)

    def step(xb: Any, yb: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(net(xb), yb).backward()
        optimizer.step()

    def train() -> None:
        if setting.batch is None:
            step(X, y)
            return
        n, size = len(X), setting.batch
        order = torch.randperm(n) if size > 1 else None
        for i in range(0, n, size):
            batch = slice(i, i + size) if order is None else order[i : i + size]
            step(X[batch], y[batch])

    return train


def jax_compiled(setting: Setting, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    """Prepare a compiled epoch: a jitted step, or a scan over batches; several lanes with vmap."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", dtype == "float64")
    arrays = mnist(rows)
    X = jnp.asarray(np.asarray(arrays.x_train), dtype) / 255
    y = jnp.asarray(np.asarray(arrays.y_train), jnp.int32)
    f = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[setting.activation]
    kept = 1 - setting.dropout

    def loss_of(layers: Any, xb: Any, yb: Any, key: Any) -> Any:
        a = xb
        for i, (W, b) in enumerate(layers[:-1]):
            a = f(a @ W + b)
            if setting.dropout:
                mask = jax.random.bernoulli(jax.random.fold_in(key, i), kept, a.shape)
                a = jnp.where(mask, a / kept, 0)
        logits = a @ layers[-1][0] + layers[-1][1]
        if setting.loss == "mse":
            return ((jax.nn.sigmoid(logits) - jax.nn.one_hot(yb, 10)) ** 2).sum(axis=1).mean() / 2
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), yb[:, None], axis=1).mean()

    def step(state: Any, xb: Any, yb: Any, key: Any) -> Any:
        layers, squares = state
        grads = jax.grad(loss_of)(layers, xb, yb, key)
        if setting.optimizer != "rmsprop":
            return jax.tree.map(lambda p, g: p - setting.lr * g, layers, grads), squares
        rho, epsilon = dict(setting.hyper)["rho"], dict(setting.hyper)["epsilon"]
        squares = jax.tree.map(lambda s, g: rho * s + (1 - rho) * g * g, squares, grads)
        update = lambda p, g, s: p - setting.lr * g / (jnp.sqrt(s) + epsilon)  # noqa: E731
        return jax.tree.map(update, layers, grads, squares), squares

    size = setting.batch or len(X)

    def epoch(state: Any, order: Any, key: Any) -> Any:
        if setting.batch is None:
            return step(state, X, y, key)
        batches = order[: len(X) // size * size].reshape(-1, size)
        numbers = jnp.arange(len(batches))

        def one(state: Any, at: Any) -> Any:
            number, batch = at
            return step(state, X[batch], y[batch], jax.random.fold_in(key, number)), None

        return jax.lax.scan(one, state, (numbers, batches))[0]

    network = [tuple(map(jnp.asarray, pair)) for pair in weights(setting, 0, dtype)]
    squares = jax.tree.map(jnp.zeros_like, network) if setting.optimizer == "rmsprop" else ()
    state, key = (network, squares), jax.random.key(0, impl="unsafe_rbg")  # the fastest on CPUs
    if lanes > 1:
        state = jax.tree.map(lambda p: jnp.stack([p] * lanes), state)
        key = jax.random.split(key, lanes)
        compiled = jax.jit(jax.vmap(epoch, in_axes=(0, None, 0)))
    else:
        compiled = jax.jit(epoch)
    n = len(X)
    order = jnp.arange(n) if setting.batch == 1 else jnp.asarray(np.random.default_rng(0).permutation(n))

    def train() -> None:
        jax.block_until_ready(compiled(state, order, key))

    return train


def scikit_learn(setting: Setting, lanes: int, dtype: str, rows: int, threads: int) -> Train:
    """Prepare an MLPClassifier. It has no RMSprop: Adam, which is closest, replaces it."""
    import warnings

    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore")
    arrays = mnist(rows)
    X = (np.asarray(arrays.x_train) / 255).astype(dtype)
    activation = {"sigmoid": "logistic"}.get(setting.activation, setting.activation)
    solver = {"rmsprop": "adam"}.get(setting.optimizer, setting.optimizer)

    def train() -> None:
        MLPClassifier(
            setting.shape[1:-1], activation=activation, solver=solver, alpha=0, batch_size=setting.batch,
            momentum=0, learning_rate_init=setting.lr, max_iter=1, shuffle=setting.batch != 1,
        ).fit(X, arrays.y_train)  # fmt: skip

    return train


CONTENDERS: dict[str, Callable[[Setting, int, str, int, int], Train]] = {
    "fnnexp": fnnexp_stack,
    "fnnexp, numba": functools.partial(fnnexp_stack, engine="numba"),
    "bare products": bare_products,
    "plain loop": plain_loop,
    "row-by-row loop": row_by_row_loop,
    "PyTorch": torch_eager,
    "JAX": jax_compiled,
    "scikit-learn": scikit_learn,
}
