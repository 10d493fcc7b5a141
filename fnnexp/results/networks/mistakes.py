"""What a network predicts wrongly: the confusion matrix, and one row for each mistake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fnnexp.errors import FnnexpError
from fnnexp.nn.pieces.losses import output_of
from fnnexp.results.networks.inputs import labels_of
from fnnexp.results.networks.network import Network
from fnnexp.results.networks.stored import loaded


class Answers(NamedTuple):
    """What a network answers for n rows, each array (n,).

    They are the rows' numbers, their labels, the predicted classes, and the network's outputs for these.
    """

    row: NDArray[np.intp]
    true: NDArray[np.intp]
    predicted: NDArray[np.intp]
    output: NDArray[np.float64]


def confusion(
    network: Network | str | pd.Series,
    X: Any = None,
    y: Any = None,
    *,
    split: str | None = None,
    experiment: str | None = None,
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """Return how often each class is predicted for the rows of each class: `fnnexp.confusion(network)`.

    Parameters
    ----------
    network
        A network from :func:`fnnexp.load`, or what `load` reads: a name or id, or a row of
        :func:`fnnexp.runs`.
    X, y
        Rows and their class numbers, as for the network's `accuracy`. Default: rows of the trial's own data.
    split
        Which of its own rows: `train`, `val` or `test`. Default: `val`, or `test` if the trial held out no
        validation rows.
    experiment, tracking_uri
        As for :func:`fnnexp.load`.

    Returns
    -------
    DataFrame
        The number of rows (int64) by true class (the index `true`) and predicted class (the columns,
        `predicted`); C by C. Classes are in the order of their numbers. If the data has names for them, the
        index and the columns are these names, else the numbers. The diagonal is what is right: its sum
        divided by the number of rows is the accuracy.

    Raises
    ------
    FnnexpError
        As :func:`fnnexp.load` and the network's `accuracy` and `rows` do, and if one of X and y is given
        without the other, or both with `split`.

    Examples
    --------
    >>> fnnexp.confusion(fnnexp.best(runs))  # doctest: +SKIP
    """
    network = loaded(network, experiment, tracking_uri)
    answers = _answers(network, X, y, split)
    classes = network.recipe.architecture.classes
    return counts(answers.true, answers.predicted, classes, network.class_names)


def counts(
    true: NDArray[np.intp], predicted: NDArray[np.intp], classes: int, names: Sequence[str] = ()
) -> pd.DataFrame:
    """Count rows by their true class (the index of the frame) and their predicted class (the columns)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (true, predicted), 1)
    return pd.DataFrame(matrix, class_index(classes, names, "true"), class_index(classes, names, "predicted"))


def class_index(classes: int, names: Sequence[str], name: str) -> pd.Index[Any]:
    """Return an index of the classes 0 to `classes` - 1: their names, or their numbers if they have none.

    `name` is the name of the index.
    """
    return pd.Index(list(names), dtype="str", name=name) if names else pd.RangeIndex(classes, name=name)


def mistakes(
    network: Network | str | pd.Series,
    X: Any = None,
    y: Any = None,
    *,
    split: str | None = None,
    experiment: str | None = None,
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """Return one row for each misclassified row, the surest mistake first: `fnnexp.mistakes(network)`.

    Parameters
    ----------
    network, X, y, split, experiment, tracking_uri
        As for :func:`fnnexp.confusion`.

    Returns
    -------
    DataFrame
        - `row` (int64): the number of the row from 0, in X; or in the file that the row is from, as in the
          index of :func:`fnnexp.images`.
        - `true`, `predicted` (int64): the label, and the predicted class.
        - `probability` (float64): that of the predicted class. If the outputs are not those of softmax, the
          column is `output`, the network's output for that class.
        - `true_name`, `predicted_name` (str): the names of the two classes; their numbers if the data has no
          names.

        Sorted by `probability`, or `output`, the largest first; then by `row`. Empty if all rows are right.

    Raises
    ------
    FnnexpError
        As :func:`fnnexp.confusion` does.

    Examples
    --------
    The rows of X that are misclassified, and the surest mistake:

    >>> network = fnnexp.load(fnnexp.best(runs))  # doctest: +SKIP
    >>> X, y = network.rows("test")  # doctest: +SKIP
    >>> mistakes = fnnexp.mistakes(network, X, y)  # doctest: +SKIP
    >>> X[mistakes["row"]], X[mistakes["row"].iloc[0]]  # doctest: +SKIP

    If the data is a table, ``fnnexp.mistakes(network, split="test").join(pd.read_csv("pets.csv"), on="row")``
    has the misclassified test rows with all columns of the file.
    """
    network = loaded(network, experiment, tracking_uri)
    answers = _answers(network, X, y, split)
    wrong = np.flatnonzero(answers.true != answers.predicted)
    wrong = wrong[np.lexsort((answers.row[wrong], -answers.output[wrong]))]
    name = "probability" if output_of(network.recipe) == "softmax" else "output"
    columns = dict(zip(("row", "true", "predicted", name), answers, strict=True))
    frame = pd.DataFrame({key: values[wrong] for key, values in columns.items()})
    names = np.array(network.classes)
    return frame.assign(**{
        f"{key}_name": pd.Series(names[frame[key]], dtype="str") for key in ("true", "predicted")
    })  # fmt: skip


def _answers(network: Network, X: Any, y: Any, split: str | None) -> Answers:
    """Return what a network answers for the rows X; or, without X and y, for a split of its trial's data."""
    if (X is None) != (y is None):
        missing = "y" if y is None else "X"
        raise FnnexpError(
            f"{missing} is missing; write both X and y, or neither for rows of the trial's own data"
        )
    if X is None:
        name = split or network.best_split
        rows = network.split(name)
        predictions = network.predictions(rows)
        labels = np.asarray(rows.labels, np.intp)
        return Answers(network.row_numbers(name), labels, predictions.predicted, predictions.output)
    if split is not None:
        raise FnnexpError(
            f"split={split!r} chooses rows of the trial's own data, and X and y were given too; omit split, "
            "or omit X and y"
        )
    predicted, outputs = network.outputs(X)
    labels = labels_of(y, len(predicted), network.recipe.architecture.classes)
    row = np.arange(len(predicted))
    return Answers(row, labels, predicted, outputs[row, predicted])
