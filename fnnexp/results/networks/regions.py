"""What a network with two inputs predicts in each place of the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnnexp.data.labelled import Numbers
from fnnexp.errors import FnnexpError, plural
from fnnexp.nn.rows import Split
from fnnexp.results.networks.network import Network

PLACES = 150
"""How many points the grid has along each axis."""

ROOM = 0.08
"""How far the pictured part of the plane goes beyond the training rows, as a share of their range."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The predictions of a network on a grid of n by n places.

    Attributes
    ----------
    x, y
        The values of the first and of the second input (n,), as the data has them before any scaling.
    predicted
        The predicted class (n, n), with a row for each y.
    output
        The network's output for this class (n, n); with softmax, its probability.
    points, labels
        The training rows (m, 2) and their classes (m,).
    classes
        The number of classes.
    is_probability
        Whether the outputs are probabilities.
    class_names
        The names of the classes; () if they are only numbers.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    predicted: NDArray[np.intp]
    output: NDArray[np.float64]
    points: Numbers
    labels: NDArray[np.uint8]
    classes: int
    is_probability: bool
    class_names: tuple[str, ...] = ()


def regions(network: Network, places: int = PLACES) -> Regions:
    """Predict the class at the points of a grid around a network's training rows, for a picture of the plane.

    `places` is the number of points along each input.

    Raises
    ------
    FnnexpError
        If the network does not have two inputs, or if its data is not on this machine or has changed.
    """
    architecture = network.recipe.architecture
    if architecture.inputs != 2:
        raise FnnexpError(
            f"{network.name} has {plural(architecture.inputs, 'input')}; boundaries are drawn in the plane, "
            "for networks with two inputs, as after data=moons"
        )
    train = network.split("train")
    points = np.asarray(train.images)
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    room = ROOM * np.where(high > low, high - low, 1.0)
    x, y = (np.linspace(*ends, places) for ends in zip(low - room, high + room, strict=True))
    plane = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
    predictions = network.predictions(Split(plane, np.zeros(len(plane), np.uint8), train.scaling))
    shape = places, places
    return Regions(
        x, y, predictions.predicted.reshape(shape), predictions.output.reshape(shape), points,
        np.asarray(train.labels), architecture.classes, network.has_probabilities, network.class_names,
    )  # fmt: skip
