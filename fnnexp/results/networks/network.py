"""A trained network: its weights, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fnnexp.data.datasets import Arrays
from fnnexp.data.labelled import Numbers, RowNumbers
from fnnexp.errors import FnnexpError
from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.base import Engine, engine_named
from fnnexp.nn.epoch import engine_for
from fnnexp.nn.evaluation import Predictions, outputs_for, parameters_from, predict
from fnnexp.nn.pieces.losses import output_of
from fnnexp.nn.pieces.table import short
from fnnexp.nn.rows import Split, numbers, splits_of
from fnnexp.nn.stack import Lane, Recipe
from fnnexp.results.networks.inputs import Inputs, labels_of
from fnnexp.results.networks.one_thread import ONE_THREAD

SPLITS = {"train": "training", "val": "validation", "test": "test"}
"""The splits of a data set, and what messages call them."""


class Rows(NamedTuple):
    """Rows of a trial's data: inputs X (n, D), uint8 or float32, and labels y (n,), uint8."""

    X: Numbers
    y: NDArray[np.uint8]


class TrainingData(NamedTuple):
    """The data that a trial was trained on, and the recipe, which says which of its rows train.

    `rows` has the numbers of the rows in their file (:func:`fnnexp.data.datasets.row_numbers`).
    """

    arrays: Arrays
    recipe: Recipe
    rows: RowNumbers


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network, from :func:`fnnexp.load`.

    Its predictions are computed as in training: with the engine that trained it, if that is installed here,
    and with BLAS on one thread. So its accuracy on the test and validation rows of its trial, in their order,
    equals the logged accuracy exactly. Another kind of processor rounds differently, which can change one or
    two predictions.

    Attributes
    ----------
    name, trial, run_id
        The name of the trial, such as ``relu_100-he-mini-s3``; its id; the id of its MLflow run.
    weights
        The arrays by name, read-only, in the dtype of training: ``W1`` (D, H1), ``b1`` (H1,), ``W2`` (H1, H2)
        and so on, up to ``W`` (H, C) and ``b`` (C,) of the last layer, for D inputs and C classes. A layer
        computes f(X W + b); the last one has no f. A layer without biases has no ``b``.
    config
        The resolved config of the trial, as nested dictionaries: ``config["optimizer"]["lr"]``.
    """

    name: str
    trial: str
    run_id: str
    weights: Mapping[str, Array] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    recipe: Recipe = field(repr=False)
    lane: Lane = field(repr=False)
    engine: str = field(repr=False)
    make_inputs: Callable[[], Inputs] = field(repr=False)
    load_data: Callable[[], TrainingData] = field(repr=False)
    read_class_names: Callable[[], tuple[str, ...]] = field(repr=False)

    def __post_init__(self) -> None:
        for array in self.weights.values():
            array.flags.writeable = False

    def __repr__(self) -> str:
        architecture = self.recipe.architecture
        widths = "-".join(map(str, (architecture.inputs, *architecture.hidden, architecture.classes)))
        activations = ", ".join(dict.fromkeys(map(short, architecture.activations)))
        about = f"{widths} {activations}".strip()
        return f"<Network {self.name}: {about}, {architecture.parameter_count:,} parameters>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes (C,); their numbers as texts if the data has no names.

        Examples
        --------
        >>> [network.classes[k] for k in network.predict(X)]  # doctest: +SKIP
        """
        return self.class_names or tuple(map(str, range(self.recipe.architecture.classes)))

    def predict(self, X: Any) -> NDArray[np.intp]:
        """Return the predicted class of each row (n,): the number of the class with the largest output.

        Parameters
        ----------
        X
            The rows as they are before any scaling, with the values that the training file has: images
            (n, height, width) or (n, D) of bytes 0 to 255; or real numbers (n, D) if the training file has
            these. An array or a data frame. The network scales them as its trial did, with the means and
            deviations of its training rows if ``data.scale`` is ``center`` or ``standardize``.

        Raises
        ------
        FnnexpError
            If X has another shape, or values that the training rows cannot have; or if scaling needs the
            training rows and they are not on this machine.
        """
        return self.outputs(X)[0]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class (n, C), computed in the dtype of training.

        They are the network's outputs. Those of softmax sum to 1. Those of sigmoid are the probabilities of
        each class against all others, and do not.

        Parameters
        ----------
        X
            As for :meth:`predict`.

        Raises
        ------
        FnnexpError
            As for :meth:`predict`; also if the outputs are not probabilities (``loss.output=identity``).
        """
        if not self.has_probabilities:
            raise FnnexpError(
                f"the outputs of {self.name} are not probabilities, because it was trained with "
                "loss.output=identity; write predict(X) for the classes"
            )
        return self.outputs(X)[1]

    def accuracy(self, X: Any, y: Any) -> float:
        """Return the share of rows whose predicted class is their label, from 0 to 1.

        Parameters
        ----------
        X
            As for :meth:`predict`.
        y
            The class number of each row (n,), 0 to C - 1.

        Raises
        ------
        FnnexpError
            As for :meth:`predict`, and if y does not have one class number for each row.

        Examples
        --------
        >>> network.accuracy(*network.rows("test"))  # doctest: +SKIP
        """
        rows = self._inputs.read(X)
        labels = labels_of(y, len(rows), self.recipe.architecture.classes)
        return int(np.count_nonzero(self._outputs_of(rows)[0] == labels)) / len(rows)

    def rows(self, split: str = "test") -> Rows:
        """Return the inputs X and labels y of a split of the trial's data, in the order of training.

        This is the order of the file, unless the file has no test rows, or is a folder of images: these are
        shuffled, always in the same way.

        Parameters
        ----------
        split
            ``train``, the rows that an epoch trains on; ``val``, those held out; or ``test``.

        Raises
        ------
        FnnexpError
            If the trial has no such rows, or its data is not on this machine or has changed.
        """
        chosen = self.split(split)
        return Rows(np.asarray(chosen.images), np.asarray(chosen.labels))

    # Members that confusion(), mistakes() and reports use

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes (C,); () if they are only numbers, or if the names were not recorded."""
        return self.read_class_names()

    @property
    def has_probabilities(self) -> bool:
        """Whether the outputs are probabilities of the classes, as those of softmax and sigmoid are."""
        return output_of(self.recipe) != "identity"

    @property
    def best_split(self) -> str:
        """The split to look for mistakes in: ``val`` if rows were held out, else ``test``."""
        return "val" if self.recipe.validation else "test"

    def split(self, name: str) -> Split:
        """Return the rows of a split with their labels, as they are evaluated; see :meth:`rows`."""
        if name not in SPLITS:
            raise FnnexpError(f"split={name!r} is unknown; it can be {', '.join(SPLITS)}")
        data = self.data
        splits = splits_of(data.recipe, data.arrays)
        if name not in splits:
            raise FnnexpError(f"{self.name} held out no validation rows; write split='test'")
        return splits[name]

    def row_numbers(self, split: str) -> NDArray[np.intp]:
        """Return the numbers, from 0, that the rows of a split have in the file that they are from.

        This is the training file, or the test file, or the one file that has both.
        """
        arrays, recipe, rows = self.data
        if split == "test":
            return rows.get("test", np.arange(len(arrays.x_test)))
        n = len(arrays.x_train)
        train, held_out = numbers(recipe, n)
        return rows.get("train", np.arange(n))[train if split == "train" else held_out]

    def outputs(self, X: Any) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the predicted class (n,) of each row of X, and the network's outputs (n, C)."""
        return self._outputs_of(self._inputs.read(X))

    def predictions(self, split: Split) -> Predictions:
        """Return the network's predictions for a split of its trial's data, with the loss of each row."""
        with ONE_THREAD:
            engine = self._engine
            parameters = parameters_from(self.recipe.architecture, self.weights, engine.first_layer)
            return predict(self.recipe, self.lane, parameters, split, engine.make_rows)

    @cached_property
    def data(self) -> TrainingData:
        """The data that the trial was trained on. Raises FnnexpError if it is not here or has changed."""
        return self.load_data()

    @property
    def engine_here(self) -> str:
        """The name of the engine that trained the network, or `numpy` if that engine is not installed."""
        try:
            engine_named(self.engine)
        except (ImportError, KeyError):  # Numba is not installed, or the stored name is unknown
            return "numpy"
        return self.engine

    # How outputs are computed

    @cached_property
    def _inputs(self) -> Inputs:
        return self.make_inputs()

    @property
    def _engine(self) -> Engine:
        return engine_for(self.recipe, self.engine_here)

    def _outputs_of(self, rows: Numbers) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        with ONE_THREAD:
            engine = self._engine
            parameters = parameters_from(self.recipe.architecture, self.weights, engine.first_layer)
            return outputs_for(self.recipe, parameters, rows, self._inputs.scaling, engine.make_rows)
