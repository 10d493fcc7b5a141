"""Train one trial with a plain NumPy loop and log it to MLflow, as a notebook would, without fnnexp.

python -m benchmarks.plain_trial ARCH INIT BATCHING SEED MNIST.npz TRACKING_URI
"""

from __future__ import annotations

import sys
from itertools import pairwise

import mlflow
import numpy as np

ARCHITECTURES = {
    "relu_100": ([784, 100, 10], "relu"),
    "tanh_128": ([784, 128, 10], "tanh"),
    "sigmoid_32_32": ([784, 32, 32, 10], "sigmoid"),
}
INITS = {
    "max": lambda n_in, n_out: 1 / max(n_in, n_out),
    "sqrtmax": lambda n_in, n_out: 1 / np.sqrt(max(n_in, n_out)),
    "xavier": lambda n_in, n_out: 1 / np.sqrt(n_in),
    "he": lambda n_in, n_out: 2 / np.sqrt(n_in),
}
F = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}
DF = {"relu": lambda a: a > 0, "tanh": lambda a: 1 - a**2, "sigmoid": lambda a: a * (1 - a)}
STEP = {"full": 0.2, "mini": 0.1, "sample": 0.01}
HOLDOUT = 5000


def main() -> None:
    arch, init, batching, seed, file, uri = sys.argv[1:]
    with np.load(file) as arrays:
        X, y = arrays["x_train"].reshape(-1, 784) / 255.0, arrays["y_train"]
        X_test, y_test = arrays["x_test"].reshape(-1, 784) / 255.0, arrays["y_test"]
    X, y, X_val, y_val = X[:-HOLDOUT], y[:-HOLDOUT], X[-HOLDOUT:], y[-HOLDOUT:]
    Y = np.eye(10)[y]
    widths, activation = ARCHITECTURES[arch]
    f, df, lr = F[activation], DF[activation], STEP[batching]
    rng = np.random.default_rng(int(seed))
    layers = [
        (rng.normal(0, INITS[init](n_in, n_out), (n_in, n_out)), np.zeros(n_out))
        for n_in, n_out in pairwise(widths)
    ]

    def forward(x):
        activations = [x]
        for W, b in layers[:-1]:
            activations.append(f(activations[-1] @ W + b))
        z = activations[-1] @ layers[-1][0] + layers[-1][1]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return activations, e / e.sum(axis=1, keepdims=True)

    def measure(x, labels):
        _, p = forward(x)
        loss = -np.log(p[np.arange(len(labels)), labels] + 1e-12).mean()
        return float(loss), float((p.argmax(axis=1) == labels).mean())

    size = {"full": len(X), "mini": 128, "sample": 1}[batching]
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("plain")
    with mlflow.start_run(run_name=f"{arch}-{init}-{batching}-s{seed}"):
        mlflow.log_params({"arch": arch, "init": init, "batching": batching, "seed": seed, "lr": lr})
        for epoch in range(1, 2):
            order = rng.permutation(len(X)) if batching == "mini" else np.arange(len(X))
            for i in range(0, len(X), size):
                rows = order[i : i + size]
                activations, p = forward(X[rows])
                dz = (p - Y[rows]) / len(rows)
                for layer in reversed(range(len(layers))):
                    W, b = layers[layer]
                    dW, db = activations[layer].T @ dz, dz.sum(axis=0)
                    if layer:
                        dz = (dz @ W.T) * df(activations[layer])
                    layers[layer] = (W - lr * dW, b - lr * db)
            metrics = {}
            for split, x, labels in (("train", X, y), ("val", X_val, y_val), ("test", X_test, y_test)):
                metrics[f"{split}_loss"], metrics[f"{split}_accuracy"] = measure(x, labels)
            mlflow.log_metrics(metrics, step=epoch)


if __name__ == "__main__":
    main()
