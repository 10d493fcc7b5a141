"""Read the network of a finished trial from its run: from ``config.yaml`` and the weights.

Nothing is unpickled. The data is read only when it is needed: for rows of it, or for means over its rows.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from fnnexp.config import jobs, resolve
from fnnexp.config.jobs import Job
from fnnexp.config.resolve import MOST_PARAMETERS
from fnnexp.config.trial import Trial
from fnnexp.data import datasets as data
from fnnexp.data import npz
from fnnexp.data.datasets import Prepared
from fnnexp.data.labelled import DIVIDED, REAL, is_real
from fnnexp.data.toys import TOYS
from fnnexp.errors import ConfigError, FnnexpError
from fnnexp.nn.arrays import Array, DType
from fnnexp.nn.network import Architecture
from fnnexp.nn.rows import numbers, scaling
from fnnexp.nn.stack import Recipe
from fnnexp.results.frames import PIECES
from fnnexp.results.networks.finding import find
from fnnexp.results.networks.inputs import Inputs
from fnnexp.results.networks.network import Network, TrainingData
from fnnexp.tracking import artifacts, reader
from fnnexp.tracking.reader import StoredRun
from fnnexp.tracking.run_format import (
    CLASS_NAMES,
    DIVERGED,
    ENGINE,
    FAILED,
    FINISHED,
    INTERRUPTED,
    PRUNED,
    class_names_of,
    engine_name,
)

CONFIG_BYTES = 1 << 16
"""The largest config.yaml that is read, in bytes; it usually has about 1,000."""

OVERHEAD = 1 << 10
"""The largest size in bytes of the headers (of zip and NumPy) of an array in an .npz file."""

MOST_LAYERS = 1000
"""The largest number of layers of weights that are read."""

FILES = {"final": artifacts.WEIGHTS, "best": artifacts.BEST_WEIGHTS}
"""The files of weights, by the values of the argument `weights` of :func:`load`."""


class OtherPiecesError(FnnexpError):
    """The user's own functions (pieces) with which a trial was trained are not loaded."""


def load(
    trial: str | pd.Series,
    *,
    experiment: str | None = None,
    weights: str = "final",
    tracking_uri: str | None = None,
) -> Network:
    """Return the network of a finished trial: `fnnexp.load("relu_100-he-mini-s0").predict(X)`.

    Parameters
    ----------
    trial
        The name or the id of a trial, the id of its MLflow run, or a row of :func:`fnnexp.runs`, such as
        `fnnexp.best(runs)`.
    experiment
        The experiment to search for the trial. Default: all experiments of the store.
    weights
        `final`, the weights after the last epoch; or `best`, those after the best epoch of a trial with
        early stopping (`stopping.patience`).
    tracking_uri
        The MLflow store to read. Default: MLflow's own (`MLFLOW_TRACKING_URI`, else `./mlflow.db`).

    Returns
    -------
    Network
        With `predict(X)`, `predict_proba(X)` and `accuracy(X, y)`; `weights`, arrays by name, `W1` of shape
        (inputs, units) and so on; `classes`, the names of the classes; `config`, nested dictionaries; and
        `rows("test")`, the inputs and labels of a split. See
        :class:`fnnexp.results.networks.network.Network`.

        X has the values of the training file, and is scaled as the trial scaled it. If the scale is `center`
        or `standardize`, the training data must be on this machine.

    Raises
    ------
    FnnexpError
        If there is no such trial, or several with this name; if it has not finished, or has no such weights;
        if pieces of your own that it was trained with are not loaded; or if a file is damaged.

    Examples
    --------
    >>> network = fnnexp.load(fnnexp.best(runs))  # doctest: +SKIP
    >>> X, y = network.rows("test")  # doctest: +SKIP
    >>> network.accuracy(X, y), network.weights["W1"].shape  # doctest: +SKIP
    """
    if weights not in FILES:
        raise FnnexpError(f"weights={weights!r} is unknown; it can be {' or '.join(FILES)}")
    run = find(trial, experiment, tracking_uri)
    _refuse_unfinished(run)
    if weights == "best" and "fnnexp.weights_best_epoch" not in run.tags:
        raise FnnexpError(
            f"{run.name} has no best weights, because it was trained without stopping.patience; write "
            "weights='final'"
        )
    try:
        return network_of(Recorded.of_run(run), tracking_uri, FILES[weights])
    except FnnexpError as error:
        raise FnnexpError(f"{run.name} (run {run.run_id}) cannot be loaded: {error}") from error


def loaded(network: Network | str | pd.Series, experiment: str | None, uri: str | None) -> Network:
    """Return a network that a user gave; if it is given by a name, an id or a row, load it."""
    return network if isinstance(network, Network) else load(network, experiment=experiment, tracking_uri=uri)


def _refuse_unfinished(run: StoredRun) -> None:
    """Raise if a trial has not finished; the message says why, and what to do."""
    if run.status == FINISHED:
        return
    reasons = {
        DIVERGED: f"it diverged at epoch {run.tags.get('fnnexp.diverged_epoch')}, so that its weights or its "
        "loss are not finite; a smaller learning rate may help",
        FAILED: f"it failed ({run.tags.get('fnnexp.error', 'no reason is recorded')})",
        PRUNED: "search=halving left it out; the same sweep without search=halving trains it to its end",
        INTERRUPTED: "it was interrupted; the same sweep again finishes it",
    }
    reason = reasons.get(
        run.status, f"it is {run.status}; wait until it has finished, or run the same sweep again"
    )
    raise FnnexpError(f"{run.name} (run {run.run_id}) has no network to load: {reason}")


@dataclass(frozen=True)
class Recorded:
    """What the store's database records about a trial, which is needed to read its files.

    Attributes
    ----------
    run_id, trial, name
        The ids of its run and of the trial, and the trial's name.
    checksum
        The checksum of its data.
    pieces
        The files of the user's own functions (pieces) that it used, each as NAME@CHECKSUM; None if none.
    train_rows
        How many rows an epoch trained on; 0 if that is not recorded.
    engine
        The name of the engine that trained it.
    notes
        Notes on how its data was read, such as that bytes were divided by 255.
    class_names
        The tag with the names of its classes, "" if it has none; None if it was not read from the store yet.
    """

    run_id: str
    trial: str
    name: str
    checksum: str | None
    pieces: str | None
    train_rows: int = 0
    engine: str = "numpy"
    notes: str = ""
    class_names: str | None = None

    @classmethod
    def of_run(cls, run: StoredRun) -> Recorded:
        """Return what the tags and params of a run record."""
        tags = run.tags
        rows = tags.get("fnnexp.train_images", "")
        return cls(
            run.run_id, run.trial, run.name, tags.get("fnnexp.data_checksum"), run.params.get(PIECES),
            int(rows) if rows.isdecimal() else 0, engine_name(tags.get(ENGINE)),
            tags.get("fnnexp.data_notes", ""), tags.get(CLASS_NAMES, ""),
        )  # fmt: skip

    @classmethod
    def of_row(cls, row: pd.Series) -> Recorded:
        """Return what a row of :func:`fnnexp.runs` records."""
        present = {key: value for key, value in row.items() if pd.notna(value)}
        return cls(
            present["run_id"], present["trial"], present["name"], present.get("data_checksum"),
            present.get(PIECES), int(present.get("train_images", 0)), engine_name(present.get("engine")),
        )  # fmt: skip


def network_of(recorded: Recorded, uri: str | None, file: str = artifacts.WEIGHTS) -> Network:
    """Read the files of a finished trial, and return its network; `file` is that of the weights.

    Raises
    ------
    FnnexpError
        If its files are missing or damaged, or if it was trained with pieces of the user that are not loaded.
    """
    content = artifacts.read(recorded.run_id, "config.yaml", uri, most=CONFIG_BYTES)
    try:
        job = _job(content, recorded)
    except OtherPiecesError:
        raise
    except FnnexpError as error:
        raise FnnexpError(
            f"the run's config cannot be read from its artifact config.yaml: {error}"
        ) from error
    dtype = np.dtype(job.config.dtype)
    stored = artifacts.read(recorded.run_id, file, uri, most=MOST_PARAMETERS * dtype.itemsize)
    inputs, classes = _ends(stored, file)
    trial = resolve.trial(job, _stand_in(job, recorded, inputs, classes))
    _refuse_other_pieces(trial, recorded)
    recipe = replace(trial.recipe, metrics=())
    load_data = partial(_training_data, job, recorded, recipe.architecture)
    return Network(
        recorded.name,
        recorded.trial,
        recorded.run_id,
        weights(stored, recipe.architecture, dtype, file),
        dict(trial.config.items()),
        recipe,
        trial.lane(),
        recorded.engine,
        partial(_inputs, recipe, recorded, job.config.data.name, load_data),
        load_data,
        partial(_class_names, recorded, recipe.architecture.classes, uri),
    )


def _class_names(recorded: Recorded, classes: int, uri: str | None) -> tuple[str, ...]:
    """Return the names of a trial's classes that its run recorded; () if it recorded none."""
    tag = recorded.class_names
    if tag is None:
        tag = reader.tags_of(recorded.run_id, uri).get(CLASS_NAMES)
    return class_names_of(tag, classes)


def _job(content: bytes, recorded: Recorded) -> Job:
    """Read the config of a trial from the content of its run's config.yaml, as a job (a composed config).

    Raise an OtherPiecesError if it needs pieces of the user that are not loaded.
    """
    # The first part of a config is often a config too, of another trial. A whole file ends with a newline.
    if not content.endswith(b"\n"):
        raise FnnexpError("the file is incomplete")
    try:
        return jobs.from_artifact(content)
    except ConfigError as error:
        if recorded.pieces is None:
            raise
        raise OtherPiecesError(
            f"the trial was trained with your own pieces from {recorded.pieces}, which are not loaded; add "
            f"--pieces FILE, or in Python write fnnexp.pieces.load('FILE') first ({error})"
        ) from error
    except (RecursionError, AttributeError) as error:  # deeply nested YAML, or a tag on a wrong value
        raise FnnexpError(f"the file is not the config of a run: {error}") from error


def _refuse_other_pieces(trial: Trial, recorded: Recorded) -> None:
    """Raise if the trial was trained with another version of the user's pieces than is loaded."""
    wanted, here = (set(filter(None, (text or "").split(", "))) for text in (recorded.pieces, _pieces(trial)))
    if wanted - here:
        raise OtherPiecesError(
            f"the trial was trained with your own pieces from {recorded.pieces}, but those loaded now are "
            f"from {_pieces(trial) or 'no file'}; add --pieces FILE with that version of the file, or in "
            "Python write fnnexp.pieces.load('FILE') first"
        )


def _pieces(trial: Trial) -> str | None:
    pieces: str | None = trial.params.get(PIECES)
    return pieces


def _stand_in(job: Job, recorded: Recorded, inputs: int, classes: int) -> Prepared:
    """Return a description to use in place of the trial's data, so that the data need not be read.

    It has what the architecture and the settings of training depend on, such as the number of inputs.
    """
    held_out = job.config.data.validation or 0
    n = held_out + max(recorded.train_rows, job.config.data.subset or 1, classes)
    return Prepared(
        job.config.data.name, "", recorded.checksum or "", n, 1, inputs, classes,
        real=job.config.data.scale != "unit",
    )  # fmt: skip


def _training_data(job: Job, recorded: Recorded, architecture: Architecture) -> TrainingData:
    """Read the data that a trial was trained on, which must be on this machine.

    Raises
    ------
    FnnexpError
        If the data is missing or has changed, or does not fit the network.
    """
    wanted = job.config.data
    prepared = data.prepare(
        wanted.name, wanted.path, wanted.test_path, wanted.reading, wanted.toy, may_download=False
    )
    if prepared.checksum != recorded.checksum:
        raise FnnexpError(
            f"data={wanted.name} on this machine is not the data that the trial was trained on (checksum "
            f"{prepared.checksum[:12]}… instead of {str(recorded.checksum)[:12]}…)"
        )
    recipe = resolve.trial(job, prepared).recipe
    if recipe.architecture != architecture:
        raise FnnexpError(
            f"the run's weights are those of a network with {architecture.inputs} inputs and "
            f"{architecture.classes} classes, but data={wanted.name} has {prepared.input_size} inputs and "
            f"{prepared.classes} classes"
        )
    return TrainingData(data.load(prepared), recipe, data.row_numbers(prepared))


def _inputs(
    recipe: Recipe, recorded: Recorded, data_name: str, load_data: Callable[[], TrainingData]
) -> Inputs:
    """Return the object that reads rows for a trial's network.

    For this, scales other than `unit` and `raw` need the training data, which `load_data` reads.
    """
    size = recipe.architecture.inputs
    real, divided = REAL in recorded.notes or data_name in TOYS, DIVIDED in recorded.notes
    if recipe.scale in ("unit", "raw"):
        return Inputs(size, scaling(recipe.scale, np.empty((0, size), np.uint8)), real, divided)
    try:
        arrays, own, _ = load_data()
    except FnnexpError as error:
        raise FnnexpError(
            f"{recorded.name} scales its inputs by data.scale={recipe.scale}, for which its training data is "
            f"needed: {error}"
        ) from error
    train, _ = numbers(own, len(arrays.x_train))
    of_training = scaling(recipe.scale, arrays.x_train[train])
    return Inputs(size, of_training, is_real(arrays.x_train), divided)


# The weights


def weights_of(run_id: str, recipe: Recipe, uri: str | None = None) -> dict[str, Array]:
    """Read the final weights of a run.

    Raise if they are missing or damaged, or have other names, shapes or another dtype than the network that
    `recipe` (the settings of the training) describes.
    """
    architecture, dtype = recipe.architecture, np.dtype(recipe.dtype)
    most = architecture.parameter_count * dtype.itemsize + OVERHEAD * (2 * len(architecture.shapes) + 1)
    return weights(artifacts.read(run_id, artifacts.WEIGHTS, uri, most=most), architecture, dtype)


def weights(
    content: bytes, architecture: Architecture, dtype: DType, file: str = artifacts.WEIGHTS
) -> dict[str, Array]:
    """Read the weights ``W1``, ``b1`` and so on from the content of an .npz, without unpickling.

    The architecture says which arrays, shapes and types are expected, and so how much memory is taken. The
    headers in the file may be wrong.

    Raises
    ------
    FnnexpError
        If the file is damaged, or its arrays are not finite or do not fit the architecture.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    layers = zip(architecture.shapes, architecture.biases, strict=True)
    for i, (W, bias) in enumerate(layers, start=1):
        shapes |= {f"W{i}": W} | ({f"b{i}": W[1:]} if bias != "none" else {})
    try:
        archive = npz.Archive(io.BytesIO(content))
        if sorted(archive.names) != sorted(shapes):
            raise FnnexpError(
                f"the run's {file} has the arrays {', '.join(archive.names)} instead of {', '.join(shapes)}"
            )
        arrays = {name: archive.array(name, dtype, shape) for name, shape in shapes.items()}
    except MemoryError as error:
        raise FnnexpError(f"there is not enough memory for the run's {file}") from error
    except npz.DamagedError as error:
        raise FnnexpError(f"the run's {file} is damaged ({error})") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FnnexpError(f"{name} in the run's {file} has values that are NaN or infinite")
    return arrays


def _ends(content: bytes, file: str) -> tuple[int, int]:
    """Return a network's numbers of inputs and of classes, read from the headers of its weights."""
    try:
        archive = npz.Archive(io.BytesIO(content))
        layers = sum(name.startswith("W") for name in archive.names[: 2 * MOST_LAYERS])
        first, last = (archive.header(f"W{i}").shape for i in (1, layers))
    except npz.DamagedError as error:
        raise FnnexpError(f"the run's {file} is damaged ({error})") from error
    if len(first) != 2 or len(last) != 2 or min(*first, *last) < 1 or last[1] > 256:
        raise FnnexpError(
            f"the run's {file} has W1 of shape {first} and W{layers} of shape {last}, which are not the "
            "first and the last weights of a network"
        )
    return first[0], last[1]
