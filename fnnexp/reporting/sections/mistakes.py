"""Where the best trial is wrong: which classes it takes for which, its worst errors, and its first weights.

The best trial is that of the leading configuration with the highest ranking metric. Its weights and its
configuration are artifacts of its run, its data is looked for on this machine; what it says of the images is
computed again from them, and must be what was logged.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.config.schema import from_artifact, trial
from fnnexp.data import datasets as data
from fnnexp.data import npz
from fnnexp.errors import FnnexpError
from fnnexp.nn.evaluation import Predictions, parameters_of, predict
from fnnexp.reporting.document.blocks import Section
from fnnexp.reporting.sections.summary import percent, plural
from fnnexp.results import comparisons, frames
from fnnexp.tracking import writer as tracking

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fnnexp.config.trial import Trial
    from fnnexp.nn.network import Architecture
    from fnnexp.results.comparisons import Findings

CONFIG_BYTES = 1 << 16
"""A run's config.yaml has about 1,000."""

OVERHEAD = 1 << 10
"""Bytes that an array in an .npz has beside its numbers, at most: the zip's entries and NumPy's header."""


class Looked(NamedTuple):
    """The best trial, and what it says of the images: n rows of one split.

    Attributes
    ----------
    trial, split, first
        Its name; `validation` or `test`; the number of the first row in its file.
    images, real, predictions
        (n, D) uint8, (n,) labels, and what it says of them.
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
    W1: NDArray[Any]
    logged: float

    @property
    def wrong(self) -> NDArray[np.intp]:
        """The places of the mistakes, the highest loss first."""
        places = np.flatnonzero(self.predictions.said != self.real)
        return places[np.argsort(-self.predictions.loss[places], kind="stable")]


TITLE = "Mistakes"


def section(runs: pd.DataFrame, found: Findings, uri: str | None = None) -> Section:
    """Return the section of a frame of runs in a store; where nothing can be looked at, it says why."""
    from fnnexp.reporting.plots.images import drawings

    best = best_trial(runs, found)
    if best is None:
        return Section(TITLE, ["No trial has finished, so there are no mistakes to look at."])
    try:
        looked = look(best, uri)
        drawn, missing = drawings(looked)
        tables = {"confusion": confusion(looked).reset_index(), "mistakes": mistakes(looked)}
    except FnnexpError as error:
        reason = str(error)
    except MemoryError as error:
        reason = f"the memory here is too little for them ({str(error) or 'none is left'})"
    else:
        return Section(TITLE, [*sentences(looked), *missing], drawn, tables=tables)
    name = frames.as_text(best["name"])
    return Section(TITLE, [f"The mistakes of the best trial, {name}, are not shown: {reason.rstrip('.')}."])


def best_trial(runs: pd.DataFrame, found: Findings) -> pd.Series | None:
    """Return the row of the leading configuration's best trial by the ranking metric, or None."""
    if not found.configurations:
        return None
    mine = comparisons.finished_trials(runs, found.configurations[0]).dropna(subset=found.metric)
    return None if mine.empty else mine.iloc[int(mine[found.metric].to_numpy().argmax())]


def look(best: pd.Series, uri: str | None = None) -> Looked:
    """Return what a finished trial, a row of :func:`fnnexp.runs`, says of the images it is ranked by.

    Those are the rows that it held out for validation, or the test images when it held out none.

    Raises
    ------
    FnnexpError
        When its artifacts or its data are not to be had, or are not what they must be.
    """
    config = tracking.artifact(best["run_id"], "config.yaml", uri, most=CONFIG_BYTES)
    try:
        again = _trial(config, best)
    except FnnexpError as error:
        raise FnnexpError(f"from its artifact config.yaml its data can't be had: {error}") from error
    recipe, arrays = again.recipe, data.load(again.data)
    shape, dtype = recipe.architecture, np.dtype(recipe.dtype)
    most = shape.parameter_count * dtype.itemsize + OVERHEAD * (2 * len(shape.shapes) + 1)
    found = weights(tracking.artifact(best["run_id"], "weights.npz", uri, most=most), shape, dtype)
    images, labels, first, split = arrays.x_test, arrays.y_test, 0, "test"
    if recipe.validation:
        first, split = again.data.n_train - recipe.validation, "validation"
        images, labels = arrays.x_train[first:], arrays.y_train[first:]
    said = predict(
        shape, parameters_of(shape, found), images, labels, scale=recipe.scale, epsilon=recipe.epsilon
    )
    logged = float(best["val_accuracy" if recipe.validation else "test_accuracy"])
    real = np.asarray(labels, np.intp)
    return Looked(best["name"], split, first, images, real, said, shape.classes, found["W1"], logged)


def _trial(config: bytes, best: pd.Series) -> Trial:
    """Return the trial of a config.yaml on its data, which must be on this machine and the run's own."""
    try:
        job = from_artifact(config)
    except (RecursionError, AttributeError) as error:  # YAML without end, or a tag on what has not its form
        raise FnnexpError(f"it is not the config of a run: {error}") from error
    asked = job.config.data
    prepared = data.prepare(asked.name, asked.path, asked.test_path, may_download=False)
    checksum = best.get("data_checksum")
    if prepared.checksum != checksum:
        raise FnnexpError(
            f"data={asked.name} on this machine is other data (checksum {prepared.checksum[:12]}…) "
            f"than it was trained on ({str(checksum)[:12]}…)"
        )
    return trial(job, prepared)


def weights(content: bytes, architecture: Architecture, dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
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


# What is seen


def confusion(looked: Looked) -> pd.DataFrame:
    """Return how many images of each real class (rows) are said to be of each class (columns)."""
    counts = np.zeros((looked.classes, looked.classes), np.int64)
    np.add.at(counts, (looked.real, looked.predictions.said), 1)
    return pd.DataFrame(counts, index=pd.RangeIndex(looked.classes, name="real"))


def mistakes(looked: Looked) -> pd.DataFrame:
    """Return a row a mistake, the highest loss first.

    `row` counts from 0 in the training file for validation rows, else in the test file; `probability` is
    that of the predicted class; `loss` is −log(p + ε) of the real one.
    """
    wrong, said = looked.wrong, looked.predictions
    return pd.DataFrame({
        "row": looked.first + wrong, "real": looked.real[wrong], "predicted": said.said[wrong],
        "probability": said.probability[wrong], "loss": said.loss[wrong],
    })  # fmt: skip


def sentences(looked: Looked) -> list[str]:
    """Return how many are wrong, what is taken for what, and whether as many were logged."""
    n, wrong = len(looked.real), len(looked.wrong)
    said = (
        f"These are the mistakes of {frames.as_text(looked.trial)}, the best trial of the leading "
        f"configuration, on its {n:,} {looked.split} images{WHY[looked.split]}. "
    )
    if not wrong:
        said += "It gets none of them wrong."
    else:
        counts = confusion(looked).to_numpy(copy=True)
        np.fill_diagonal(counts, 0)
        real, taken = np.unravel_index(counts.argmax(), counts.shape)
        times = plural(int(counts.max()), "time")
        said += (
            f"It gets {wrong:,} of them wrong ({percent(wrong / n)}); "
            f"most often a real {real} is taken for a {taken} ({times})."
        )
    logged = round(looked.logged * n) if math.isfinite(looked.logged) else None
    if logged != n - wrong:
        was = "no accuracy" if logged is None else f"{logged:,} right"
        said += (
            f" Computed again here it gets {n - wrong:,} right, and its run has logged {was}: rounding on "
            "another kind of processor or by another engine moves an image or two; if it is more, these are "
            "other weights."
        )
    return [said]


WHY = {
    "validation": ", those that it was chosen by: on new images expect a few more",
    "test": ", for it held out no validation rows",
}
