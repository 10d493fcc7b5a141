"""Where the best trial is wrong: which classes it takes for which, its worst errors, and its first weights.

The best trial is that of the leading configuration with the highest ranking metric. Its weights and its
configuration are artifacts of its run, and its data is looked for on this machine. Its predictions are
computed again from them, and must be as good as what was logged.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.config import jobs, resolve
from fnnexp.data import datasets as data
from fnnexp.data import npz
from fnnexp.errors import FnnexpError
from fnnexp.nn.arrays import Array, DType
from fnnexp.nn.evaluation import Predictions, parameters_from, predict
from fnnexp.reporting.document.blocks import Section, Text
from fnnexp.reporting.document.wording import percent, plural
from fnnexp.reporting.plots import images as plots
from fnnexp.reporting.plots import picture
from fnnexp.results import comparisons
from fnnexp.results.factors import as_text
from fnnexp.tracking import artifacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fnnexp.config.trial import Trial
    from fnnexp.nn.network import Architecture
    from fnnexp.reporting.document.blocks import Figure
    from fnnexp.results.comparisons import Findings

CONFIG_BYTES = 1 << 16
"""A run's config.yaml has about 1,000."""

OVERHEAD = 1 << 10
"""Bytes that an array in an .npz has beside its numbers, at most: the zip's entries and NumPy's header."""


class Evaluation(NamedTuple):
    """The best trial, and its predictions for n images of one split.

    Attributes
    ----------
    trial, split, first
        Its name; `validation` or `test`; the number of the first row in its file.
    images, real, predictions
        (n, D) uint8, (n,) labels, and the predictions for them.
    classes, W1
        C, and the first layer's weights (D, H).
    logged
        The accuracy that its run has for the split.
    """

    trial: str
    split: str
    first: int
    images: NDArray[np.uint8]
    real: NDArray[np.intp]
    predictions: Predictions
    classes: int
    W1: Array
    logged: float

    @property
    def wrong(self) -> NDArray[np.intp]:
        """The places of the mistakes, the highest loss first."""
        places = np.flatnonzero(self.predictions.predicted != self.real)
        return places[np.argsort(-self.predictions.loss[places], kind="stable")]


TITLE = "Mistakes"


def section(runs: pd.DataFrame, findings: Findings, uri: str | None = None) -> Section:
    """Return the section of a frame of runs in a store; where nothing can be evaluated, it says why."""
    best = best_trial(runs, findings)
    if best is None:
        return Section(TITLE, [Text("No trial has finished, so there are no mistakes to look at.")])
    try:
        evaluation = evaluate(best, uri)
        drawn, not_drawn = figures(evaluation)
        data = {"confusion": confusion(evaluation).reset_index(), "mistakes": mistakes(evaluation)}
    except FnnexpError as error:
        reason = str(error)
    except MemoryError as error:
        reason = f"the memory here is too little for them ({str(error) or 'none is left'})"
    else:
        return Section(TITLE, [Text(sentence(evaluation)), *map(Text, not_drawn), *drawn], data)
    name = as_text(best["name"])
    text = f"The mistakes of the best trial, {name}, are not shown: {reason.rstrip('.')}."
    return Section(TITLE, [Text(text)])


def best_trial(runs: pd.DataFrame, findings: Findings) -> pd.Series | None:
    """Return the row of the leading configuration's best trial by the ranking metric, or None."""
    if not findings.configurations:
        return None
    mine = comparisons.finished_trials(runs, findings.configurations[0]).dropna(subset=findings.metric)
    goodness = findings.ranking.goodness(mine[findings.metric]).to_numpy()
    return None if mine.empty else mine.iloc[int(goodness.argmax())]


def evaluate(best: pd.Series, uri: str | None = None) -> Evaluation:
    """Return the predictions of a finished trial, a row of :func:`fnnexp.runs`, for the images that rank it.

    Those are the rows that it held out for validation, or the test images when it held out none.

    Raises
    ------
    FnnexpError
        When its artifacts or its data are not to be had, or are not what they must be.
    """
    config = artifacts.read(best["run_id"], "config.yaml", uri, most=CONFIG_BYTES)
    try:
        trial = _trial(config, best)
    except FnnexpError as error:
        raise FnnexpError(f"from its artifact config.yaml its data can't be had: {error}") from error
    recipe, arrays = trial.recipe, data.load(trial.data)
    shape, dtype = recipe.architecture, np.dtype(recipe.dtype)
    most = shape.parameter_count * dtype.itemsize + OVERHEAD * (2 * len(shape.shapes) + 1)
    trained = weights(artifacts.read(best["run_id"], "weights.npz", uri, most=most), shape, dtype)
    images, labels, first, split = arrays.x_test, arrays.y_test, 0, "test"
    if recipe.validation:
        first, split = trial.data.n_train - recipe.validation, "validation"
        images, labels = arrays.x_train[first:], arrays.y_train[first:]
    predictions = predict(recipe, parameters_from(shape, trained), images, labels)
    logged = float(best["val_accuracy" if recipe.validation else "test_accuracy"])
    real = np.asarray(labels, np.intp)
    return Evaluation(
        best["name"], split, first, images, real, predictions, shape.classes, trained["W1"], logged
    )


def _trial(config: bytes, best: pd.Series) -> Trial:
    """Return the trial of a config.yaml on its data, which must be on this machine and the run's own."""
    try:
        job = jobs.from_artifact(config)
    except (RecursionError, AttributeError) as error:  # YAML without end, or a tag on what has not its form
        raise FnnexpError(f"it is not the config of a run: {error}") from error
    asked = job.config.data
    prepared = data.prepare(asked.name, asked.path, asked.test_path, asked.reading, may_download=False)
    checksum = best.get("data_checksum")
    if prepared.checksum != checksum:
        raise FnnexpError(
            f"data={asked.name} on this machine is other data (checksum {prepared.checksum[:12]}…) "
            f"than it was trained on ({str(checksum)[:12]}…)"
        )
    return resolve.trial(job, prepared)


def weights(content: bytes, architecture: Architecture, dtype: DType) -> dict[str, Array]:
    """Return the arrays ``W1 b1 …`` of an .npz, nothing unpickled, each of the shape and type it must have.

    No header decides how much memory is taken: an entry holds what the architecture says, or is refused.

    Raises
    ------
    FnnexpError
        With what is wrong with it.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    layers = zip(architecture.shapes, architecture.biases, strict=True)
    for i, (W, bias) in enumerate(layers, start=1):
        shapes |= {f"W{i}": W} | ({f"b{i}": W[1:]} if bias != "none" else {})
    try:
        archive = npz.Archive(io.BytesIO(content))
        if sorted(archive.names) != sorted(shapes):
            raise FnnexpError(f"its weights.npz holds {', '.join(archive.names)} and not {', '.join(shapes)}")
        arrays = {name: archive.array(name, dtype, shape) for name, shape in shapes.items()}
    except MemoryError as error:
        raise FnnexpError("its weights.npz does not go into the memory here") from error
    except npz.DamagedError as error:
        raise FnnexpError(f"its weights.npz is damaged ({error})") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FnnexpError(f"{name} in its weights.npz holds what is no number")
    return arrays


# As data, as a sentence and as figures


def confusion(evaluation: Evaluation) -> pd.DataFrame:
    """Return how many images of each real class (rows) are predicted to be of each class (columns)."""
    counts = np.zeros((evaluation.classes, evaluation.classes), np.int64)
    np.add.at(counts, (evaluation.real, evaluation.predictions.predicted), 1)
    return pd.DataFrame(counts, index=pd.RangeIndex(evaluation.classes, name="real"))


def mistakes(evaluation: Evaluation) -> pd.DataFrame:
    """Return a row a mistake, the highest loss first.

    `row` counts from 0 in the training file for validation rows, else in the test file; `probability` is
    that of the predicted class; `loss` is −log(p + ε) of the real one.
    """
    wrong, predictions = evaluation.wrong, evaluation.predictions
    return pd.DataFrame({
        "row": evaluation.first + wrong, "real": evaluation.real[wrong],
        "predicted": predictions.predicted[wrong], "probability": predictions.probability[wrong],
        "loss": predictions.loss[wrong],
    })  # fmt: skip


def sentence(evaluation: Evaluation) -> str:
    """Return how many are wrong, what is taken for what, and whether as many were logged."""
    n, wrong = len(evaluation.real), len(evaluation.wrong)
    text = (
        f"These are the mistakes of {as_text(evaluation.trial)}, the best trial of the leading "
        f"configuration, on its {n:,} {evaluation.split} images{WHY[evaluation.split]}. "
    )
    if not wrong:
        text += "It gets none of them wrong."
    else:
        counts = confusion(evaluation).to_numpy(copy=True)
        np.fill_diagonal(counts, 0)
        real, taken = np.unravel_index(counts.argmax(), counts.shape)
        times = plural(int(counts.max()), "time")
        text += (
            f"It gets {wrong:,} of them wrong ({percent(wrong / n)}); "
            f"most often a real {real} is taken for a {taken} ({times})."
        )
    logged = round(evaluation.logged * n) if math.isfinite(evaluation.logged) else None
    if logged != n - wrong:
        was = "no accuracy" if logged is None else f"{logged:,} right"
        text += (
            f" Computed again here it gets {n - wrong:,} right, and its run has logged {was}: rounding on "
            "another kind of processor or by another engine moves an image or two; if it is more, these are "
            "other weights."
        )
    return text


WHY = {
    "validation": ", those that it was chosen by: on new images expect a few more",
    "test": ", for it held out no validation rows",
}

MOST_CLASSES = 30
"""Of more classes no confusion matrix is drawn: its counts could not be read."""

GALLERY = (4, 8)
"""Rows and columns of the worst errors."""

MOST_UNITS, UNITS_ACROSS = 100, 10
"""At most so many hidden units are drawn, so many beside each other."""


def figures(evaluation: Evaluation) -> tuple[list[Figure], list[str]]:
    """Return the figures of the mistakes and the weights, and a sentence for each that can't be drawn."""
    pixels = evaluation.images.shape[1]
    side = math.isqrt(pixels)
    drawn, not_drawn = [], []
    if evaluation.classes <= MOST_CLASSES:
        matrix = plots.confusion_matrix(confusion(evaluation).to_numpy())
        drawn.append(picture.block(matrix, "confusion", CONFUSION))
    else:
        not_drawn.append(
            f"A matrix of {evaluation.classes} classes can't be read as a figure: see confusion.csv."
        )
    if side * side != pixels:
        not_drawn.append(
            f"An input of {pixels} numbers is no square image, so neither mistakes nor weights are drawn."
        )
        return drawn, not_drawn
    if len(evaluation.wrong):
        drawn.append(picture.block(_gallery(evaluation, side), "worst_errors", _gallery_caption(evaluation)))
    weights = plots.first_weights(evaluation.W1, side, MOST_UNITS, UNITS_ACROSS)
    drawn.append(picture.block(weights, "first_weights", _weights_caption(evaluation)))
    return drawn, not_drawn


CONFUSION = (
    "How many images of each real class (rows) are said to be of each class (columns). The shades are of the"
    " mistakes alone; at the right, how many percent of the class are right."
)


def _gallery(evaluation: Evaluation, side: int) -> picture.Picture:
    rows, columns = GALLERY
    worst, predictions = evaluation.wrong[: rows * columns], evaluation.predictions
    images = np.asarray(evaluation.images[worst], np.uint8).reshape(len(worst), side, side)
    titles = [
        f"real {evaluation.real[i]}, said {predictions.predicted[i]} "
        f"({100 * predictions.probability[i]:.0f}%)"
        for i in worst
    ]
    return plots.gallery(images, titles, columns)


def _gallery_caption(evaluation: Evaluation) -> str:
    n = min(len(evaluation.wrong), math.prod(GALLERY))
    every = n == len(evaluation.wrong)
    which = "All of its mistakes" if every else f"Its {n} mistakes of the highest loss"
    file = "training" if evaluation.split == "validation" else "test"
    return (
        f"{which} on {evaluation.split} images, the worst first, with the class that is right, the class "
        "that it says, and that one's probability. mistakes.csv has all, with their rows in the "
        f"{file} file."
    )


def _weights_caption(evaluation: Evaluation) -> str:
    n = evaluation.W1.shape[1]
    which = f"the {n} hidden units" if n <= MOST_UNITS else f"{MOST_UNITS} of the {n} hidden units"
    return (
        f"The weights into {which} of the first layer, a unit an image, the largest norm first; dark is "
        f"negative, light positive, on one scale that ends at the {plots.CLIP}th percentile of their size. A "
        "pixel that is 0 in all training images gives no gradient: there each weight is as it was drawn."
    )
