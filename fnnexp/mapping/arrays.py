"""A map as arrays: made from the results of its cells, written to ``map.npz``, and read from its run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.data.npz import Archive, DamagedError
from fnnexp.errors import FnnexpError
from fnnexp.mapping.cells import ID, MOST_CELLS, MOST_COLUMNS, MOST_META, Table
from fnnexp.mapping.training import DIVERGED
from fnnexp.tracking import artifacts, reader

if TYPE_CHECKING:
    import pandas as pd

FILE = "map.npz"

BYTES_A_CELL = 8 * MOST_COLUMNS
"""Maximum number of bytes of a cell's values in a file."""


@dataclass(frozen=True, eq=False)
class Map:
    """The results of a map. An array has a row for each value of y and a column for each value of x.

    ``m["val_accuracy"][j, i]`` is the last validation accuracy of the cell with ``m.x[i]`` and ``m.y[j]``.

    Attributes
    ----------
    x_key, y_key
        The keys of the axes.
    x, y
        Their values (I,) and (J,).
    columns
        The arrays (J, I), by name: the last value of each metric, such as ``val_accuracy`` and
        ``train_loss``; ``best_val_accuracy`` and ``best_val_epoch``; ``epoch``, the last; and ``diverged``,
        1 or 0. NaN where a cell has no value.
    trials
        The trial ids (J, I).
    metric
        The accuracy that the picture shows.
    guessing
        The accuracy that a network must exceed to be better than guessing.
    about
        Texts by name: the axes as a command has them, which cell of them is the map's first, the command.
    """

    x_key: str
    y_key: str
    x: NDArray[Any]
    y: NDArray[Any]
    columns: Mapping[str, NDArray[np.float64]] = field(repr=False)
    trials: NDArray[Any] = field(repr=False)
    metric: str = "val_accuracy"
    guessing: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return an array (J, I) by its name in :attr:`columns`."""
        if name not in self.columns:
            raise FnnexpError(f"this map has no array {name!r}; it has {', '.join(self.columns)}")
        return self.columns[name]

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Whether each cell diverged (J, I)."""
        return np.asarray(self[DIVERGED] == 1)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Whether each cell failed, so that it has no results (J, I)."""
        return np.isnan(self[DIVERGED])

    @property
    def learns(self) -> NDArray[np.bool_]:
        """Whether each cell did not diverge and is better than guessing at its end (J, I)."""
        return ~self.diverged & (self[self.metric] > self.guessing)

    def to_frame(self) -> pd.DataFrame:
        """Return the map as a data frame with one row for each cell."""
        import pandas as pd

        x, y = np.meshgrid(self.x, self.y)
        cells = {self.x_key: x, self.y_key: y, **self.columns}
        frame = pd.DataFrame({name: np.asarray(array).ravel() for name, array in cells.items()})
        return frame.assign(trial=np.char.decode(self.trials.ravel(), "ascii"))


def made_of(
    table: Table, trials: NDArray[Any], keys: tuple[str, str], values: tuple[Sequence[float], Sequence[float]]
) -> Map:
    """Return a map with these results of cells. Its metric and its description are still missing.

    Parameters
    ----------
    table
        The results of the cells, in any order; some may be missing.
    trials
        The trial ids (J, I).
    keys, values
        The keys of x and y, and their values.
    """
    order = np.argsort(table.trials)
    places = np.searchsorted(table.trials, trials, sorter=order)
    places = order[np.minimum(places, len(order) - 1)] if len(order) else np.zeros(trials.shape, np.intp)
    is_finished = table.trials[places] == trials if len(order) else np.zeros(trials.shape, bool)
    empty = np.full(trials.shape, np.nan)
    columns = {
        name: np.where(is_finished, column[places] if len(order) else empty, np.nan)
        for name, column in {DIVERGED: np.zeros(len(table)), **table.columns}.items()
    }
    x, y = (np.array(each) for each in values)
    return Map(*keys, x, y, columns, trials)


def as_bytes(m: Map) -> bytes:
    """Return a map as the content of a ``map.npz``, which NumPy reads without pickle."""
    meta = {"x": m.x_key, "y": m.y_key, "metric": m.metric, "guessing": m.guessing, "about": m.about}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
        x=m.x,
        y=m.y,
        trial=m.trials,
        **m.columns,  # type: ignore[arg-type]
    )
    return buffer.getvalue()


def from_bytes(content: bytes) -> Map:
    """Read a map from the content of a ``map.npz``.

    Raises
    ------
    DamagedError
        If it is not the content of a ``map.npz``.
    """
    archive = Archive(io.BytesIO(content))
    size = archive.header("meta").size
    if size > MOST_META or len(archive.names) > MOST_COLUMNS:
        raise DamagedError("it is not a file that fnnexp map wrote")
    try:
        meta = json.loads(archive.array("meta", np.uint8, (size,)).tobytes())
        about, guessing = dict(meta["about"]), float(meta["guessing"])
        x_key, y_key, metric = (str(meta[name]) for name in ("x", "y", "metric"))
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise DamagedError(f"its description is not the expected JSON: {error}") from error
    x, y = (_axis(archive, name) for name in "xy")
    shape = (len(y), len(x))
    if len(x) * len(y) > MOST_CELLS:
        raise DamagedError(f"it has {len(x) * len(y):,} cells, but a map has at most {MOST_CELLS:,}")
    names = [name for name in archive.names if name not in ("meta", "x", "y", "trial")]
    columns = {name: archive.array(name, np.float64, shape) for name in names}
    if not {DIVERGED, metric} <= columns.keys():
        raise DamagedError(f"it has no arrays {DIVERGED} and {metric}")
    trials = archive.array("trial", ID, shape)
    return Map(x_key, y_key, x, y, columns, trials, metric, guessing, about)


def _axis(archive: Archive, name: str) -> NDArray[Any]:
    header = archive.header(name)
    if header.dtype not in (np.dtype(np.float64), np.dtype(np.int64)) or len(header.shape) != 1:
        raise DamagedError(f"{name} has shape {header.shape} and dtype {header.dtype}")
    return archive.array(name, header.dtype, header.shape)


def read_map(experiment: str, run_id: str | None = None, *, tracking_uri: str | None = None) -> Map:
    """Return a map of an experiment as arrays.

    Parameters
    ----------
    experiment
        The name that ``fnnexp map`` printed, such as ``digits_map``.
    run_id
        The run of the map; None is the newest map.
    tracking_uri
        The MLflow store to read. Default: MLflow's own (`MLFLOW_TRACKING_URI`, else `./mlflow.db`).

    Returns
    -------
    Map
        The keys and values of the axes, and the arrays. `to_frame()` makes a data frame of it, and
        :func:`fnnexp.plot_map` draws it.

    Raises
    ------
    FnnexpError
        If the experiment, or a map in it, does not exist.

    Examples
    --------
    >>> m = fnnexp.read_map("digits_map")  # doctest: +SKIP
    >>> m["val_accuracy"].max(), m.learns.mean()  # doctest: +SKIP
    """
    runs = reader.map_runs(experiment, tracking_uri)
    if not runs:
        raise FnnexpError(f"The experiment '{experiment}' has no map; fnnexp.map trains one.")
    if run_id is not None and run_id not in runs:
        raise FnnexpError(
            f"The experiment '{experiment}' has no map {run_id}; its maps are {', '.join(runs)}."
        )
    chosen = next(iter(runs)) if run_id is None else run_id
    try:
        return from_bytes(artifacts.read(chosen, FILE, tracking_uri, most=MOST_BYTES))
    except DamagedError as error:
        raise FnnexpError(
            f"The run {chosen} has the results of a map in its file {FILE}, which can't be read: {error}"
        ) from error


MOST_BYTES = 1 << 32
"""Maximum number of bytes of a file that is read."""
