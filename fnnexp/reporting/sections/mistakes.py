"""The mistakes of the best trial: its confusion matrix, its surest wrong answers, its first layer's weights.

The best trial is the trial of the leading configuration with the best ranking metric. Its weights and config
are artifacts of its run, and its data must be on this machine. The predictions are computed again from these
files, and their accuracy is compared with the logged accuracy.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.data.labelled import is_real, row_name
from fnnexp.errors import FnnexpError, plural
from fnnexp.nn.arrays import Array
from fnnexp.nn.evaluation import Predictions
from fnnexp.nn.pieces.losses import output_of
from fnnexp.reporting.document.blocks import Section, Text
from fnnexp.reporting.document.wording import class_title, listed, percent
from fnnexp.reporting.plots import picture
from fnnexp.reporting.plots.rows import classes
from fnnexp.reporting.plots.rows import images as plots
from fnnexp.results import comparisons
from fnnexp.results.factors import as_text
from fnnexp.results.networks.mistakes import counts
from fnnexp.results.networks.network import SPLITS
from fnnexp.results.networks.stored import Recorded, network_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fnnexp.reporting.document.blocks import Figure
    from fnnexp.results.comparisons import Findings


class Evaluation(NamedTuple):
    """The best trial and its predictions for n images of one split.

    Attributes
    ----------
    trial, split, rows
        The trial's name; `validation` or `test`; the number of each image's row in its file (n,).
    images, real, predictions
        The images (n, D) as uint8 or float32, their labels (n,), and the predictions.
    classes, W1
        The number of classes C, and the weights of the first layer (D, H).
    logged
        The accuracy on the split that the run has logged.
    is_probability
        Whether the network's outputs are probabilities of the classes, as those of softmax are.
    class_names
        The names of the classes; () if they are only numbers.
    """

    trial: str
    split: str
    rows: NDArray[np.intp]
    images: Array
    real: NDArray[np.intp]
    predictions: Predictions
    classes: int
    W1: Array
    logged: float
    is_probability: bool
    class_names: tuple[str, ...] = ()

    @property
    def things(self) -> str:
        """The noun for the inputs in sentences: images, or rows if they are not square images."""
        return f"{row_name(self.images)}s"

    @property
    def wrong(self) -> NDArray[np.intp]:
        """The indices of the misclassified images, the highest loss first."""
        indices = np.flatnonzero(self.predictions.predicted != self.real)
        return indices[np.argsort(-self.predictions.loss[indices], kind="stable")]


TITLE = "Mistakes"


def section(runs: pd.DataFrame, findings: Findings, uri: str | None = None) -> Section:
    """Return the section on the mistakes of the best trial, or one that says why they cannot be shown."""
    best = best_trial(runs, findings)
    if best is None:
        return Section(TITLE, [Text("No trial has finished, so there are no mistakes to show.")])
    try:
        evaluation = evaluate(best, uri)
        drawn, notes = figures(evaluation)
        data = {"confusion": _as_table(confusion(evaluation)), "mistakes": mistakes(evaluation)}
    except FnnexpError as error:
        reason = str(error)
    except MemoryError as error:
        reason = f"there is not enough memory ({str(error) or 'none is left'})"
    else:
        return Section(TITLE, [Text(sentence(evaluation)), *map(Text, notes), *drawn], data)
    name = as_text(best["name"])
    text = f"The mistakes of the best trial, {name}, are not shown: {reason.rstrip('.')}."
    return Section(TITLE, [Text(text)])


def best_trial(runs: pd.DataFrame, findings: Findings) -> pd.Series | None:
    """Return the row of the best trial of the leading configuration, or None if no trial has finished."""
    if not findings.configurations:
        return None
    trials = comparisons.finished_trials(runs, findings.configurations[0]).dropna(subset=findings.metric)
    goodness = findings.ranking.goodness(trials[findings.metric]).to_numpy()
    return None if trials.empty else trials.iloc[int(goodness.argmax())]


def evaluate(best: pd.Series, uri: str | None = None) -> Evaluation:
    """Return the predictions of a finished trial for its validation images, or else for its test images.

    `best` is the trial's row of :func:`fnnexp.runs`.

    Raises
    ------
    FnnexpError
        If the trial's artifacts or data are missing, damaged, or not those that it was trained with.
    """
    # The NumPy engine, because importing Numba for one trial would take longer than the rest of this.
    network = network_of(replace(Recorded.of_row(best), engine="numpy"), uri)
    name = network.best_split
    split = network.split(name)
    return Evaluation(
        best["name"], SPLITS[name], network.row_numbers(name), split.images,
        np.asarray(split.labels, np.intp), network.predictions(split), network.recipe.architecture.classes,
        network.weights["W1"], float(best[f"{name}_accuracy"]), output_of(network.recipe) == "softmax",
        network.class_names,
    )  # fmt: skip


# Data, sentence and figures


def confusion(evaluation: Evaluation) -> pd.DataFrame:
    """Return the number of images by real class (rows) and predicted class (columns)."""
    predicted = evaluation.predictions.predicted
    matrix = counts(evaluation.real, predicted, evaluation.classes, evaluation.class_names)
    return matrix.rename_axis(index="real", columns=None)


def _as_table(matrix: pd.DataFrame) -> pd.DataFrame:
    """Return a confusion matrix with its index as the column `real`."""
    if "real" in matrix:  # the name of a class
        matrix = matrix.set_axis([f"{i} {name}" for i, name in enumerate(matrix)], axis="columns")
    return matrix.reset_index()


def mistakes(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row per mistake, the highest loss first.

    `row` is the row number, from 0, in the file of the images, such as the training file for validation rows.
    `probability` is that of the predicted class. Without softmax the column is `output`, the
    network's value. `loss` is the loss that the trial was trained with. `real_name` and `predicted_name` are
    the names of the classes, or their numbers if they have no names.
    """
    value = "probability" if evaluation.is_probability else "output"
    wrong, predictions = evaluation.wrong, evaluation.predictions
    real, predicted = evaluation.real[wrong], predictions.predicted[wrong]
    names = np.array(evaluation.class_names or range(evaluation.classes)).astype(str)
    return pd.DataFrame({
        "row": evaluation.rows[wrong], "real": real, "predicted": predicted,
        value: predictions.output[wrong], "loss": predictions.loss[wrong],
        "real_name": pd.Series(names[real], dtype="str"),
        "predicted_name": pd.Series(names[predicted], dtype="str"),
    })  # fmt: skip


def sentence(evaluation: Evaluation) -> str:
    """Return the number of mistakes, the most frequent mistake, and a note if the logged accuracy differs."""
    n, wrong = len(evaluation.real), len(evaluation.wrong)
    text = (
        f"The best trial of the leading configuration is {as_text(evaluation.trial)}. On its {n:,} "
        f"{evaluation.split} {evaluation.things} it gets "
    )
    remark = REMARKS[evaluation.split].format(evaluation.things)
    if not wrong:
        text += f"none wrong. {remark}"
    else:
        text += f"{wrong:,} wrong ({percent(wrong / n)}). {remark} {_most_frequent(evaluation)}"
    logged = round(evaluation.logged * n) if math.isfinite(evaluation.logged) else None
    if logged != n - wrong:
        logged_text = "no accuracy" if logged is None else f"{logged:,} right"
        text += (
            f" On this machine it gets {n - wrong:,} right, but its run logged {logged_text}. Another "
            "processor or engine rounds differently, which can change one or two predictions. If more "
            "changed, these are not the weights of the run."
        )
    return text


MOST_NAMED = 4
"""If more mistakes than this are about as frequent as the first, the first are named and the rest counted."""


def _most_frequent(evaluation: Evaluation) -> str:
    """Return the most frequent mistake, or several if the first two are about as frequent.

    If both were equally likely, their difference would exceed twice the square root of their sum in 5 of 100
    samples. The several are the first two and all others that are as frequent as the second.
    """
    matrix = confusion(evaluation).to_numpy(copy=True)
    np.fill_diagonal(matrix, 0)
    names = evaluation.class_names or tuple(map(str, range(evaluation.classes)))
    places = np.argsort(-matrix, axis=None, kind="stable")
    first, second = (int(matrix.flat[place]) for place in places[:2])
    several = int((matrix >= second).sum()) if first - second < 2 * math.sqrt(first + second) else 1
    texts = []
    for place in places[: several if several <= MOST_NAMED else MOST_NAMED - 1]:
        real, predicted = np.unravel_index(place, matrix.shape)
        for_ = class_title(evaluation.class_names, int(real))
        texts.append(f"{names[predicted]} for {for_} ({plural(int(matrix[real, predicted]), 'time')})")
    if not second:
        return f"All its mistakes are to predict {texts[0]}."
    if first == 1:
        return "No mistake occurs twice."
    if several == 1:
        return f"Its most frequent mistake is to predict {texts[0]}."
    if more := several - len(texts):
        texts.append(f"{plural(more, 'other mistake')} as often as the last")
    return f"No mistake is clearly the most frequent; most often it predicts {listed(texts)}."


REMARKS = {
    "validation": "It was chosen on these {0}, so expect a few more mistakes on new {0}.",
    "test": "It held out no validation rows.",
}

MOST_CLASSES = 30
"""With more classes than this, the confusion matrix is not drawn, because it would not be readable."""

GALLERY = (4, 7)
"""The number of rows and columns in the figure of the worst errors."""

NAME, SHORT = 12, 3
"""Characters of the name of a class above an image; longer names than this need two lines."""

MOST_UNITS, UNITS_ACROSS = 40, 10
"""The largest number of hidden units that are drawn, and the number of units in a row."""


def figures(evaluation: Evaluation) -> tuple[list[Figure], list[str]]:
    """Return the figures of the mistakes and the weights, and a sentence for each omitted figure."""
    pixels = evaluation.images.shape[1]
    side = math.isqrt(pixels)
    drawn, notes = [], []
    if evaluation.classes <= MOST_CLASSES:
        matrix = plots.confusion_matrix(
            confusion(evaluation).to_numpy(),
            f"{evaluation.split} {evaluation.things}",
            evaluation.class_names,
        )
        drawn.append(picture.block(matrix, "confusion", CONFUSION.format(evaluation.things)))
    else:
        notes.append(
            f"The confusion matrix of {evaluation.classes} classes is too large to draw: see confusion.csv."
        )
    if is_real(evaluation.images):
        notes.append("Inputs that are real numbers are not pixels, so mistakes and weights are not drawn.")
        return drawn, notes
    if side * side != pixels:
        notes.append(
            f"Inputs of {pixels} values are not square images, so mistakes and weights are not drawn."
        )
        return drawn, notes
    if len(evaluation.wrong):
        drawn.append(picture.block(_gallery(evaluation, side), "worst_errors", _gallery_caption(evaluation)))
    weights = plots.first_weights(evaluation.W1, side, MOST_UNITS, UNITS_ACROSS)
    drawn.append(picture.block(weights, "first_weights", _weights_caption(evaluation)))
    return drawn, notes


CONFUSION = (
    "Number of {} by real class (rows) and predicted class (columns). Only mistakes are shaded. The last"
    " column is the percentage of each class that is predicted correctly."
)


def _gallery(evaluation: Evaluation, side: int) -> picture.Picture:
    rows, columns = GALLERY
    worst, predictions = evaluation.wrong[: rows * columns], evaluation.predictions
    images = np.asarray(evaluation.images[worst], np.uint8).reshape(len(worst), side, side)
    names = classes.titles(evaluation.class_names, evaluation.classes, NAME)
    form = "{}\nas {}" if max(map(len, names)) > SHORT else "{} predicted as {}"
    form += " ({:.0%})" if evaluation.is_probability else " ({:.2f})"
    titles = [
        form.format(names[evaluation.real[i]], names[predictions.predicted[i]], predictions.output[i])
        for i in worst
    ]
    value = "probability" if evaluation.is_probability else "output"
    table = mistakes(evaluation).head(len(worst))
    values = {name: table[name].tolist() for name in ("row", "real", "predicted", value, "loss")}
    return plots.gallery(images, titles, columns, values)


def _gallery_caption(evaluation: Evaluation) -> str:
    n = min(len(evaluation.wrong), math.prod(GALLERY))
    complete = n == len(evaluation.wrong)
    which = "All mistakes" if complete else f"The {n:,} mistakes with the highest loss"
    value = "probability" if evaluation.is_probability else "output"
    return (
        f"{which} on {evaluation.split} images, the worst first, with the real class, the predicted class "
        f"and its {value}. mistakes.csv lists all mistakes, with the row of each in its file."
    )


def _weights_caption(evaluation: Evaluation) -> str:
    n = evaluation.W1.shape[1]
    which, rest = f"the {plural(n, 'hidden unit')}", ""
    if n > MOST_UNITS:
        which = f"{MOST_UNITS} of the {n:,} hidden units"
        rest = " fnnexp.load returns the network with all of them."
    return (
        f"The weights of {which} in the first layer, one image per unit, the largest norm first. Dark is "
        f"negative, light positive; the common scale ends at the {plots.CLIP}th percentile of the absolute "
        "weights. Pixels that are 0 in all training images have no gradient, so their weights keep their "
        f"initial values.{rest}"
    )
