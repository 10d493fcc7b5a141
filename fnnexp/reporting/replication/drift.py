"""How fast two correct programs drift apart, and how many images have a vanishing gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fnnexp.data.datasets import Arrays
from fnnexp.nn.network import Parameters
from fnnexp.nn.rows import scaling
from fnnexp.nn.testing import reference
from fnnexp.nn.training import advance, start

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fnnexp.config.trial import Trial

SAMPLES = (1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 500, 1000, 2000)
CHUNK = 5000  # rows per forward pass, to limit memory


def drift(trial: Trial, arrays: Arrays) -> pd.DataFrame:
    """Return how far apart two correct programs are, which round differently, after 1, 2, 5, … samples.

    Parameters
    ----------
    trial
        A trial with plain SGD on one row at a time, in the order of the file, in float64.
    arrays
        The data of the trial.

    Returns
    -------
    DataFrame
        - `samples`: the number of samples.
        - `programs`: the distance between the op-by-op reference and the code that trains sweeps.
        - `last_bit`: the distance between the reference and a second run of it, whose weights of the
          first layer are larger by a factor of 1 + 2⁻⁵².
        - `moved`: the distance between the reference and its initial parameters.

        A distance of two networks is the largest absolute difference of a parameter, divided by the largest
        absolute parameter.
    """
    begin = start(trial.recipe, [trial.lane()])
    marks = [n for n in SAMPLES if n <= len(arrays.x_train)]
    X, y = _scaled(trial, arrays.x_train[: marks[-1]]), arrays.y_train[: marks[-1]]
    at_start = _network(trial, begin.theta)
    networks = [_network(trial, begin.theta), _network(trial, begin.theta, 1 + 2.0**-52)]
    steps = [
        reference.train(
            network, reference.Sgd(dict(trial.hyper)["lr"]), X, y, (np.array([i]) for i in range(marks[-1]))
        )
        for network in networks
    ]
    rows, done = [], 0
    for n in marks:
        for _ in range(n - done):
            for step in steps:
                next(step)
        done = n
        once = replace(trial.recipe, epochs=1)
        few = Arrays(arrays.x_train[:n], arrays.y_train[:n], arrays.x_test[:1], arrays.y_test[:1])
        core = _network(trial, advance(once, begin, few)[0].theta)
        rows.append({
            "samples": n,
            "programs": _distance(networks[0], core),
            "last_bit": _distance(networks[0], networks[1]),
            "moved": _distance(networks[0], at_start),
        })  # fmt: skip
    return pd.DataFrame(rows)


def vanished(trial: Trial, arrays: Arrays) -> float:
    """Return the share of training images with a vanishing gradient in the untrained network.

    The loss is −log(p_y + ε), with p_y the probability of an image's own class. If p_y < ε, the factor
    p_y / (p_y + ε) of the image's gradient is below one half.
    """
    network = _network(trial, start(trial.recipe, [trial.lane()]).theta)
    count = 0
    for i in range(0, len(arrays.y_train), CHUNK):
        y = arrays.y_train[i : i + CHUNK]
        P = network.forward(_scaled(trial, arrays.x_train[i : i + CHUNK]))
        count += int((P[np.arange(len(y)), y] < trial.recipe.epsilon).sum())
    return count / len(arrays.y_train)


def _scaled(trial: Trial, X: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return inputs X scaled as for the trial: by `unit` or `raw`, which do not depend on other rows."""
    return scaling(trial.recipe.scale, X).scaled(X, np.empty(X.shape))


def _network(trial: Trial, theta: NDArray[np.float64], first: float = 1.0) -> reference.Network:
    """Return the op-by-op reference network of a trial, with parameters θ (1, P).

    The weights of its first layer are multiplied by `first`.
    """
    recipe = trial.recipe
    parameters = Parameters(recipe.architecture, theta)
    W = [np.array(W_i[0], dtype=np.float64) for W_i in parameters.W]
    b = [None if b_i is None else np.array(b_i[0, 0], dtype=np.float64) for b_i in parameters.b]
    W[0] *= first
    network = recipe.architecture
    return reference.Network(W, b, network.activation, recipe.epsilon, recipe.reduction)


def _distance(a: reference.Network, b: reference.Network) -> float:
    pairs = list(zip(a.parameters, b.parameters, strict=True))
    return float(max(np.abs(x - z).max() for x, z in pairs) / max(np.abs(x).max() for x, _ in pairs))
