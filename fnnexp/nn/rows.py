"""The rows of a data set that a recipe trains, validates and tests on, with their labels and their scaling.

All of this depends only on the data and the recipe, so it is the same for every network of a stack and every
epoch. The chosen rows keep the order of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.numpy_engine import Scaling
from fnnexp.nn.pieces.batching import slices
from fnnexp.nn.pieces.metrics import splits
from fnnexp.nn.rng import generator
from fnnexp.nn.stack import DataArrays, Recipe

ROWS_AT_ONCE = 256
"""How many rows are converted to float64 at once to compute their mean, so that they stay in cache."""

Chosen = slice | NDArray[np.intp]
"""Which rows: a slice, or ascending row numbers. Rows that a slice selects are not copied."""


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of a data set to train on, to validate on, or to test on.

    Attributes
    ----------
    images
        (n, D) uint8 or float32, as in the data set.
    labels
        (n,) uint8.
    scaling
        How the images are scaled, the same for all splits.
    """

    images: Array
    labels: Array
    scaling: Scaling


def splits_of(recipe: Recipe, arrays: DataArrays) -> dict[str, Split]:
    """Return the splits ``train``, ``val`` (if rows are held out) and ``test``.

    Raises
    ------
    ValueError
        If a label is not a class of the architecture, so that its targets would all be 0.
    """
    classes, largest = recipe.architecture.classes, max(arrays.y_train.max(), arrays.y_test.max())
    if largest >= classes:
        raise ValueError(
            f"the labels go up to {largest}, but the network has {classes} classes, 0 to {classes - 1}; "
            f"write classes={largest + 1}"
        )
    train, held_out = numbers(recipe, len(arrays.x_train))
    images, labels = arrays.x_train[train], noisy(recipe, arrays.y_train)[train]
    scale = scaling(recipe.scale, images)
    rows = {
        "train": Split(images, labels, scale),
        "val": Split(arrays.x_train[held_out], arrays.y_train[held_out], scale),
        "test": Split(arrays.x_test, arrays.y_test, scale),
    }
    return {split: rows[split] for split in splits(recipe.validation > 0)}


def numbers(recipe: Recipe, n: int) -> tuple[Chosen, Chosen]:
    """Return which of a data set's n training rows are trained on, and which are held out for validation.

    The held-out rows are the last ones of the file, or with a ``seed_split`` the last ones of a random order.
    A subset has the first rows of another random order of the remaining rows. So the held-out rows are the
    same for every subset, and a larger subset contains every smaller one.
    """
    seed, remaining = recipe.seed_split, n - recipe.validation
    train: Chosen = slice(0, remaining)
    held_out: Chosen = slice(remaining, n)
    if seed is not None and recipe.validation:
        order = generator(seed, "split", 0).permutation(n)
        train, held_out = np.sort(order[:remaining]), np.sort(order[remaining:])
    if recipe.subset is not None:
        order = generator(seed or 0, "subset", 0).permutation(remaining)
        train = np.arange(n)[train][np.sort(order[: recipe.subset])]
    return train, held_out


def noisy(recipe: Recipe, labels: Array) -> Array:
    """Return the labels (n,) of a data set's training rows, in which label noise has replaced some.

    Each label has a uniform draw. If the draw is below ``label_noise``, one of the other classes replaces the
    label, each with equal probability. So the wrong labels at one noise level are also there at every higher
    level.
    """
    if not recipe.label_noise:
        return labels
    rng, classes = generator(recipe.seed_split or 0, "labels", 0), recipe.architecture.classes
    replaced = rng.random(len(labels)) < recipe.label_noise
    others = (labels.astype(np.intp) + rng.integers(1, classes, len(labels))) % classes
    return np.where(replaced, others, labels).astype(labels.dtype)


def scaling(scale: str, images: Array) -> Scaling:
    """Return how inputs are scaled, given the training images (n, D) and a value of ``data.scale``.

    - ``unit``: bytes are divided by 255.
    - ``raw``: inputs stay as they are.
    - ``center``: as ``unit``, then each input minus its mean over the training rows. Inputs that are real
      numbers are not divided.
    - ``standardize``: each input minus its mean, divided by its standard deviation √(Σ (x − mean)² / n) over
      the training rows (LeCun et al. 1998, "Efficient BackProp", section 4.3). An input that is constant in
      the training rows is not divided.

    Raises
    ------
    ValueError
        If ``unit`` is asked for inputs that are not bytes.
    """
    is_bytes = images.dtype == np.uint8
    if scale == "raw":
        return Scaling()
    if scale == "unit":
        if not is_bytes:
            raise ValueError(
                f"scale=unit is for inputs that are bytes, but these are {images.dtype}; write scale=raw or "
                "scale=standardize"
            )
        return Scaling(255.0)
    images = np.asarray(images)
    mean = _mean(images, np.zeros(images.shape[1]), 1)
    if scale == "center":
        return Scaling(255.0 if is_bytes else None, mean)
    deviation = np.sqrt(_mean(images, mean, 2))
    return Scaling(np.where(deviation > 0, deviation, 255.0 if is_bytes else 1.0), mean)


def _mean(images: Array, origin: NDArray[np.float64], power: int) -> NDArray[np.float64]:
    """Return the mean over the rows (n, D) of (x − origin)^power, computed in float64."""
    total = np.zeros(images.shape[1])
    for rows in slices(len(images), ROWS_AT_ONCE):
        total += ((images[rows] - origin) ** power).sum(axis=0)
    return total / len(images)


def lacks_a_class(labels: Array, classes: int) -> bool:
    """Return whether one of the classes 0 to ``classes`` − 1 does not occur among these labels.

    >>> lacks_a_class(np.array([0, 1, 0]), 2), lacks_a_class(np.array([0, 1, 0]), 3)
    (False, True)
    """
    return len(np.unique(labels)) < classes
