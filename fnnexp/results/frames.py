"""The tidy, typed data frames of an experiment, read from MLflow.

A row is a trial, or a point of a curve. The frames have no format of their own: any pandas code for tidy
tables works on them.
"""

from __future__ import annotations

import re
import weakref
from bisect import bisect_left
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import fields
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar, overload

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype

from fnnexp.config.resolve import label_in_full, label_now, later_defaults
from fnnexp.config.schema import CHOICES, NODES, UNSCIENTIFIC, Config, keys_of
from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.nn.layer_stats import NAME, QUANTITIES
from fnnexp.nn.pieces.batching import MODES
from fnnexp.nn.pieces.initializers import INITIALIZERS
from fnnexp.tracking import reader
from fnnexp.tracking.environment import LIBRARIES
from fnnexp.tracking.run_format import BEST, DONE, METRICS, PRUNED, STATUSES, as_param

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fnnexp.tracking.reader import TrialRuns

ARCHS = ("relu_100", "tanh_128", "sigmoid_32_32", "relu_98")
"""The shipped architectures, in the order of the documentation."""

ORDER = {"arch": ARCHS, "init": tuple(INITIALIZERS), "batching": MODES}
"""The order of the shipped options of a group in tables. Other options follow, sorted by name."""

COUNTS = ("train_images", "test_images", "classes", "parameters")
"""The tags with the sizes of a trial's data and of its network."""

END = ("diverged_epoch", "stopped_epoch", "weights_best_epoch", "pruned_epoch")
"""The tags that say at which epoch a trial diverged, stopped early or was pruned, and which epoch gave its
best weights."""

TAGS = (
    *END, "identical_to", "seconds_per_epoch", *COUNTS, "tuning", "error", "data_checksum", "blas", "engine",
    "command",
)  # fmt: skip
"""The tags that become columns with the same names."""

MOST_UPDATES = 1 << 53
"""From this number on, no number of updates is given, since no trial can make so many."""

HEAD = ("run_id", "trial", "name", "status")
TAIL = (
    *END, "identical_to", "seconds_per_epoch", "started", "seconds", "look", *COUNTS, "updates",
    "tuning", "error", "data_checksum", "git_commit", "versions", "blas", "engine", "command",
)  # fmt: skip


def result_columns() -> tuple[str, ...]:
    """Return the columns of :func:`runs` that describe a trial's identity, results and environment.

    All other columns are params.
    """
    return (*HEAD, *METRICS, *BEST, *TAIL)


PIECES = "pieces"
"""The column with the files of the user's pieces that a trial used, with their checksums."""

CHECKSUM = "data_checksum"
"""The column with the checksum of the data's content.

It is not a param but belongs to the configuration, because the file at a path can change.
"""

KEYS = frozenset(
    f"{name}.{key}" for name, node in NODES.items() if name not in UNSCIENTIFIC for key in keys_of(node)
)
SCALARS = tuple(field.name for field in fields(Config) if field.name not in (*NODES, *UNSCIENTIFIC, "seed"))
"""The config keys that are params: `KEYS` of a section (`optimizer.lr`), and `SCALARS` (`epochs`)."""

SEEDS = tuple(name for name in SCALARS if name.startswith("seed_"))
"""The seeds of one purpose, such as `seed_init`. They are factors; `seed` repeats a configuration."""


def params_of(runs: pd.DataFrame) -> list[str]:
    """Return the columns of params: those that define a trial's configuration, in the order of :func:`runs`.

    These are the chosen options and the config keys, except `seed`. Other columns of the frame, such as those
    that a user added or a saved index, do not define a configuration. Options are names, so a column `loss`
    of floats is a user's measurement.

    >>> params_of(pd.DataFrame(columns=["gap", "optimizer.lr", "seed", "init", "epochs", "width", 0]))
    ['init', 'epochs', 'optimizer.lr']
    >>> params_of(pd.DataFrame({"init": ["he", "max"], "loss": [0.25, 0.5]}))
    ['init']
    """
    params = [
        str(column)
        for column in runs.columns
        if _is_param(str(column)) and not (column in CHOICES and is_float_dtype(runs[column]))
    ]
    return [*(choice for choice in CHOICES if choice in params), *sorted({*params} - {*CHOICES})]


def _is_param(column: str) -> bool:
    return column in KEYS or column in (*CHOICES, *SCALARS, "experiment")


P = ParamSpec("P")
R = TypeVar("R")

_remembered: ContextVar[dict[int, tuple[weakref.ref[pd.DataFrame], dict[Any, Any]]] | None] = ContextVar(
    "remembered", default=None
)


@contextmanager
def remembering() -> Iterator[None]:
    """In the block, compute the results of functions decorated with :func:`remembered` once per frame.

    No frame may change in place in the block. A result lives no longer than its frame.
    """
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


def remembered(
    function: Callable[Concatenate[pd.DataFrame, P], R],
) -> Callable[Concatenate[pd.DataFrame, P], R]:
    """Decorate a function of a frame, so that a :func:`remembering` block computes its result only once."""

    @wraps(function)
    def wrapper(runs: pd.DataFrame, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        frames = _remembered.get()
        if frames is None:
            return function(runs, *args, **kwargs)
        if (key := id(runs)) not in frames:
            frames[key] = weakref.ref(runs, lambda _: frames.pop(key)), {}
        results, call = frames[key][1], (function, args, *kwargs.items())
        if call not in results:
            result: Any = function(runs, *args, **kwargs)
            results[call] = None if result is runs else result  # a frame must not keep itself alive
        result = runs if results[call] is None else results[call]
        return copy(result) if isinstance(result, list) else result

    return wrapper


def in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows by options, seed, name and trial, with a new index; return `runs` itself if sorted.

    The order depends only on the trials. So random draws and sums over seeds give the same result for any
    order of the input rows.
    """
    by = [column for column in (*CHOICES, "seed", "name", "trial") if column in runs]
    runs = numbered(runs)
    order = runs[by].sort_values(by, kind="stable").index
    return runs if order.is_monotonic_increasing else runs.loc[order].reset_index(drop=True)


def numbered(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the index 0, 1, …; `runs` itself if it has this index."""
    is_numbered = isinstance(runs.index, pd.RangeIndex) and runs.index.equals(pd.RangeIndex(len(runs)))
    return runs if is_numbered and runs.index.name is None else runs.reset_index(drop=True)


def experiments(*, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return one row per experiment of a store, the most recent first.

    Parameters
    ----------
    tracking_uri
        The MLflow store to read. Default: MLflow's own (`MLFLOW_TRACKING_URI`, else `./mlflow.db`).

    Returns
    -------
    DataFrame
        - `name` (str), for :func:`runs` and the others.
        - `trials` (int64), how many of them are `done` (int64): finished or diverged, and how many are
          `pruned` (int64): stopped by a search because others were better. The others are unfinished.
        - `maps` and `range_tests` (int64), of :func:`fnnexp.read_map` and :func:`fnnexp.lr_range`: how many
          complete ones the experiment has. They have no trials.
        - `changed` (datetime, UTC): the last time at which a run ended, or started if it has not ended.
        - `data` (str), the names of the data sets, joined by commas.

        Experiments without trials, maps or range tests of fnnexp have no row.

    Raises
    ------
    FnnexpError
        If the store does not exist.

    Examples
    --------
    >>> fnnexp.experiments().query("done + pruned < trials")  # doctest: +SKIP
    """
    summaries = reader.experiment_summaries(tracking_uri)
    names, *counts, changed, data = zip(*summaries, strict=True) if summaries else [()] * 8
    counted = zip(("trials", "done", "pruned", "maps", "range_tests"), counts, strict=True)
    return pd.DataFrame({
        "name": pd.Series(names, dtype="str"),
        **{column: pd.Series(count, dtype="int64") for column, count in counted},
        "changed": pd.to_datetime(pd.Series(changed, dtype="Int64"), unit="ms", utc=True),
        "data": pd.Series(data, dtype="str"),
    })  # fmt: skip


def runs(experiment: str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return one row per trial of an experiment, ordered by start time.

    Parameters
    ----------
    experiment
        Name of the sweep, which is also the name of the MLflow experiment.
    tracking_uri
        The MLflow store to read. Default: MLflow's own (`MLFLOW_TRACKING_URI`, else `./mlflow.db`).

    Returns
    -------
    DataFrame
        The columns and their types are the same for every experiment, even one without trials; only the
        params with a dot, such as `optimizer.lr`, differ. Columns are `str` where no type is given.
        Categories are ordered.

        - `run_id`; `trial`, the trial's id: a hash of all settings that can change its results; `name`.
        - `status` (category): finished, diverged, failed, running, interrupted or pruned.
        - `arch`, `init`, `batching`, `optimizer`, `data`, `loss`, `schedule` (category). Shipped
          architectures, initializers and batching modes come first, in the order of the documentation; other
          options follow by name.
        - `seed` (Int64), then every other param in alphabetical order: Int64, float64 or boolean if all
          values in the column have that type (missing values are ignored), else `str`.
        - `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`, `test_loss`, `test_accuracy` (float64):
          the last recorded value. Non-finite values are not recorded, so the values of a diverged trial can
          be those of an epoch before the last. `val_*` is NaN without validation rows.
        - `best_val_accuracy` (float64) and `best_val_epoch` (Int64), the first epoch with this accuracy;
          missing without validation rows.
        - `diverged_epoch` (Int64); `stopped_epoch` (Int64), the last epoch of a trial that stopped early,
          missing for others; `weights_best_epoch` (Int64), the epoch of the artifact `weights_best.npz`,
          missing without `stopping.patience`; `pruned_epoch` (Int64), the last epoch of a trial that a search
          stopped because others were better, missing for others.
        - `identical_to`, the id of the numerically identical trial that was trained in place of this trial.
        - `seconds_per_epoch` (float64); `started` (datetime, UTC); `seconds` (float64) from start to end, NaN
          while the trial runs.
        - `look` (Int64): the number of the first report that showed the trial's result, missing if none did.
          If seeds were added after a report had shown results, :func:`fnnexp.compare` uses tests that are
          valid at every look (each report that shows the results).
        - `train_images` (Int64), the number of rows that an epoch trains on, without held-out rows;
          `test_images` (Int64), the number of rows of the test metrics; `classes` (Int64).
        - `parameters` (Int64): the number of weights and biases. A layer of n units with m inputs has m · n
          weights, and n biases unless it has none: 784-100-10 has 78,400 + 100 + 1,000 + 10 = 79,510.
        - `updates` (Int64): the number of optimizer steps, epochs · ⌈`train_images` / batch size⌉. The
          epochs of a trial that stopped early, diverged or was pruned are those until then. Missing for other
          trials that have not finished.
        - `train_images`, `classes`, `parameters` and `updates` are missing in older runs.
        - `tuning`: for which comparison the trial was trained to tune its options, as in
          `compare=init tune=optimizer.lr`. It enters no comparison. Missing for other trials.
        - `error`, one line.
        - `data_checksum`, the SHA-256 of the data. Trials that read different data from one source count as
          different configurations. `git_commit`, which ends in "and changes" if there were uncommitted
          changes; `versions` of fnnexp, Python and the libraries; `blas`, the library of the matrix products
          and its kernel (its code for one kind of processor); `engine`, `numpy` or `numba`, with its version
          once the trial has ended; `command`, the command line that created the run, missing for sweeps from
          Python.

    Raises
    ------
    FnnexpError
        If the experiment or the store does not exist.

    See Also
    --------
    fnnexp.curves : one row per epoch and metric.

    Examples
    --------
    >>> fnnexp.runs("card_grid").groupby("init", observed=True).test_accuracy.mean()  # doctest: +SKIP
    """
    trials = _trials(experiment, tracking_uri, "runs")
    return _runs_frame(trials, reader.points(trials, ["val_accuracy"]), reader.looks(trials))


@overload
def curves(
    experiment: str,
    *,
    metrics: str | Sequence[str] | None = None,
    chunksize: None = None,
    tracking_uri: str | None = None,
) -> pd.DataFrame: ...


@overload
def curves(
    experiment: str,
    *,
    metrics: str | Sequence[str] | None = None,
    chunksize: int,
    tracking_uri: str | None = None,
) -> Iterator[pd.DataFrame]: ...


def curves(
    experiment: str,
    *,
    metrics: str | Sequence[str] | None = None,
    chunksize: int | None = None,
    tracking_uri: str | None = None,
) -> pd.DataFrame | Iterator[pd.DataFrame]:
    """Return one row per trial, epoch and metric of an experiment, in that order.

    Parameters
    ----------
    experiment, tracking_uri
        As for :func:`runs`.
    metrics
        The metrics to read, such as `val_loss`. Default: all.
    chunksize
        The number of trials in each part. With it, the result is an iterator of frames, as in
        :func:`pandas.read_sql`; a part has whole trials and is read when the iterator reaches it. All parts
        have the same types, so :func:`pandas.concat` makes the whole frame of them. A million rows take
        about 50 MB.

    Returns
    -------
    DataFrame, or an iterator of DataFrames
        - `trial`, `name`, `arch`, `init`, `batching`, `optimizer`, `data` (ordered category), as in
          :func:`runs`.
        - `seed` (Int64); `epoch` (Int64), 0 only for trials of zero epochs.
        - `metric` (ordered category): `train_loss` to `test_accuracy`.
        - `split` (train, val, test) and `quantity` (loss, accuracy), the two halves of `metric` (ordered
          category).
        - `value` (float64); accuracies are fractions.

        Merge with :func:`runs` on `trial` for other columns.

    Raises
    ------
    FnnexpError
        If the experiment or the store does not exist, or `metrics` or `chunksize` is not valid.

    Examples
    --------
    >>> fnnexp.curves("card_grid").query("metric == 'val_loss'")  # doctest: +SKIP
    >>> last = [
    ...     part.groupby("trial", observed=True)["value"].last()
    ...     for part in fnnexp.curves("card_grid", metrics="val_loss", chunksize=10_000)
    ... ]  # doctest: +SKIP
    """
    names = _metric_names(metrics)
    if chunksize is not None and (not isinstance(chunksize, int) or chunksize < 1):
        raise FnnexpError(
            f"fnnexp.curves: chunksize={chunksize!r} must be a number of trials, 1 or more; write "
            "chunksize=10_000"
        )
    trials = _trials(experiment, tracking_uri, "curves")
    identity = _identity(_runs_frame(trials))
    if chunksize is None:
        return _curves_frame(identity, reader.points(trials, names), names)
    parts = (range(first, min(first + chunksize, len(trials))) for first in range(0, len(trials), chunksize))
    return (_curves_frame(identity, reader.points(trials, names, part), names) for part in parts)


def _metric_names(metrics: str | Sequence[str] | None) -> list[str]:
    """Return the names of the metrics that a user asks for, in the order of :data:`METRICS`."""
    asked = [*METRICS] if metrics is None else [metrics] if isinstance(metrics, str) else [*metrics]
    for name in asked:
        if name not in METRICS:
            raise FnnexpError(
                f"fnnexp.curves: there is no metric {name!r}.{did_you_mean(str(name), METRICS)} "
                f"There are: {', '.join(METRICS)}"
            )
    return [name for name in METRICS if name in asked]


class ExperimentFrames(NamedTuple):
    """The three frames of an experiment: :func:`runs`, :func:`curves` and :func:`diagnostics`."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    diagnostics: pd.DataFrame


def whole(experiment: str, *, tracking_uri: str | None = None) -> ExperimentFrames:
    """Read the three frames of an experiment as of one moment; this is faster than three calls."""
    trials = reader.trials(experiment, tracking_uri)
    points = reader.points(trials, METRICS)
    is_val_accuracy = points.metric == list(METRICS).index("val_accuracy")
    val_accuracy = reader.Points(*(array[is_val_accuracy] for array in points))
    runs = _runs_frame(trials, val_accuracy, reader.looks(trials))
    identity, names = _identity(runs), _diagnostics_of(trials)
    layers = _diagnostics_frame(identity, reader.points(trials, names), names)
    return ExperimentFrames(runs, _curves_frame(identity, points, METRICS), layers)


def diagnostics(experiment: str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return one row per trial, epoch, layer and quantity, as recorded with `diagnostics=true`.

    Parameters
    ----------
    experiment, tracking_uri
        As for :func:`runs`.

    Returns
    -------
    DataFrame
        Sorted by trial, epoch, layer and quantity. Empty if nothing was recorded.

        - `trial`, `name`, `arch`, `init`, `batching`, `optimizer`, `data` (category) and `seed` (Int64), as
          in :func:`curves`.
        - `epoch` (Int64): 0 is the untrained network, other epochs are measured at their end. A trial that
          started without diagnostics and resumed with them has rows only from that epoch on.
        - `layer` (Int64), from 1; the last layer computes the logits.
        - `quantity` (category), as described in `fnnexp.nn.layer_stats.QUANTITIES`: `z_std` and `dz_std` for
          every layer; `dead` (ReLU) or `saturated` (tanh, sigmoid), a fraction, for hidden layers;
          `update_ratio` from epoch 1 on.
        - `value` (float64). Non-finite values are not recorded.

    Raises
    ------
    FnnexpError
        If the experiment or the store does not exist.

    Examples
    --------
    >>> fnnexp.diagnostics("card_grid").query("epoch == 0 and quantity == 'z_std'")  # doctest: +SKIP
    """
    trials = _trials(experiment, tracking_uri, "diagnostics")
    names = _diagnostics_of(trials)
    return _diagnostics_frame(_identity(_runs_frame(trials)), reader.points(trials, names), names)


def ranking(runs: pd.DataFrame) -> str:
    """Return the metric that ranks by default: `val_accuracy` if all held out rows, else `test_accuracy`."""
    return "val_accuracy" if len(runs) and held_out(runs).all() else "test_accuracy"


def held_out(runs: pd.DataFrame) -> pd.Series:
    """Return, for each trial, whether it held out validation rows.

    A finished trial did if it has a `val_accuracy`. Other trials did if their param `data.validation` is
    above 0; or, in a frame without this column, if they have a `val_accuracy`.
    """
    measured = runs["val_accuracy"].notna()
    if "data.validation" not in runs:
        return measured
    return measured.where(runs["status"] == "finished", runs["data.validation"].fillna(0) > 0).astype(bool)


def _trials(experiment: str, uri: str | None, function: str) -> TrialRuns:
    """Read the runs of an experiment; raise if its name is not a string.

    `function` is the public function that messages name.
    """
    refuse_other_than_a_name(experiment, function)
    return reader.trials(experiment, uri)


def refuse_other_than_a_name(experiment: Any, function: str) -> None:
    """Raise if an experiment was not given by its name, which is a string.

    `function` is the public function that the message names.
    """
    if isinstance(experiment, pd.DataFrame):
        raise FnnexpError(
            f"fnnexp.{function} reads an experiment by its name, and was given a frame; write "
            f'frame = fnnexp.{function}("NAME"), and for some of its trials frame[frame["trial"].isin(…)]'
        )
    if not isinstance(experiment, str):
        names = [*experiment] if isinstance(experiment, list | tuple) else []
        calls = ", ".join(f'fnnexp.{function}("{name}")' for name in names)
        advice = f"pd.concat([{calls}]) joins several" if names else "write the experiment's name as a string"
        raise FnnexpError(f"fnnexp.{function} reads one experiment, not {experiment!r}; {advice}")


def _runs_frame(
    trials: TrialRuns, val_accuracy: reader.Points | None = None, looks: Sequence[int] = ()
) -> pd.DataFrame:
    """Return the frame of :func:`runs`, made from what was read from the store.

    Parameters
    ----------
    trials
        The runs with their tags, params and last metrics.
    val_accuracy
        The validation accuracy of all epochs; None leaves `best_val_accuracy` empty.
    looks
        The times of the reports on the experiment.
    """
    started, ended = (pd.Series([*times], dtype="Int64") for times in (trials.started, trials.ended))
    tags = {key: pd.Series([*_tag(trials, key)], dtype="str") for key in ("trial", *TAGS)}
    best = _best(val_accuracy, len(trials))
    status = pd.CategoricalDtype(list(STATUSES), ordered=True)
    names = [name or run_id for name, run_id in zip(trials.names, trials.run_ids, strict=True)]
    columns: dict[str, pd.Series] = {
        "run_id": pd.Series(trials.run_ids, dtype="str"),
        "trial": tags["trial"],
        "name": pd.Series(names, dtype="str"),
        "status": pd.Series(trials.statuses, dtype=status),
        **_params(trials.params, len(trials)),
        **{
            metric: pd.Series(trials.metrics.get(metric, [None] * len(trials)), dtype="float64")
            for metric in METRICS
        },
        "best_val_accuracy": best["value"],
        "best_val_epoch": best["epoch"],
        **{key: pd.to_numeric(tags[key], errors="coerce").astype("Int64") for key in END},
        "identical_to": tags["identical_to"],
        "seconds_per_epoch": pd.to_numeric(tags["seconds_per_epoch"], errors="coerce").astype("float64"),
        "started": pd.to_datetime(started, unit="ms", utc=True),
        "seconds": ((ended - started) / 1000).astype("float64"),
        "look": _first_looks(ended, looks),
        **{count: pd.to_numeric(tags[count], errors="coerce").astype("Int64") for count in COUNTS},
        "tuning": tags["tuning"].where(tags["tuning"] != ""),
        "error": tags["error"],
        "data_checksum": tags["data_checksum"],
        "git_commit": pd.Series(_joined(trials, _commit, ("git_commit", "git_dirty")), dtype="str"),
        "versions": pd.Series(_joined(trials, _versions, ("version", "python", *LIBRARIES)), dtype="str"),
        "blas": tags["blas"],
        "engine": tags["engine"],
        "command": tags["command"],
    }
    # A trial that was pruned by one sweep may have been finished by another.
    columns["pruned_epoch"] = columns["pruned_epoch"].where(columns["status"] == PRUNED)
    frame = pd.DataFrame(columns)
    frame.insert([*frame.columns].index("tuning"), "updates", _updates(frame))
    return frame


def _updates(runs: pd.DataFrame) -> pd.Series:
    """Return how many optimizer steps each trial made: the column `updates` of :func:`runs`."""
    epochs = _numbers(runs, "epochs")
    for column in ("stopped_epoch", "pruned_epoch", "diverged_epoch"):
        epochs = _numbers(runs, column).fillna(epochs)
    updates = epochs * updates_of_an_epoch(runs)
    has_ended = runs["status"].isin([*DONE, PRUNED])
    return updates.where(has_ended & (updates < MOST_UPDATES)).astype("Int64")


def updates_of_an_epoch(runs: pd.DataFrame) -> pd.Series:
    """Return the number of optimizer steps in an epoch of each trial (float64), NaN if it is unknown.

    >>> runs = pd.DataFrame({"batching.mode": ["full", "mini", "sample"], "batching.size": [None, 128, None]})
    >>> updates_of_an_epoch(runs.assign(train_images=55_000)).tolist()
    [1.0, 430.0, 55000.0]
    """
    mode = runs["batching.mode" if "batching.mode" in runs else "batching"].astype("str")
    size = _numbers(runs, "batching.size").where(mode == "mini", 1.0)
    steps: pd.Series = np.ceil(_numbers(runs, "train_images") / size.where(size >= 1))  # type: ignore[assignment]
    return steps.where(mode.isin(["mini", "sample"])).mask(mode == "full", 1.0)


def _numbers(runs: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as float64; NaN where a value is not a number, or if there is no such column."""
    unknown = pd.Series(np.nan, runs.index)
    return pd.to_numeric(runs.get(column, unknown), errors="coerce").astype("float64")


def _tag(trials: TrialRuns, key: str) -> Sequence[str | None]:
    return trials.tags.get(f"fnnexp.{key}") or [None] * len(trials)


def _best(val_accuracy: reader.Points | None, count: int) -> pd.DataFrame:
    """Return, for each of `count` trials, its best `value` of an accuracy, and the first `epoch` with it."""
    points = () if val_accuracy is None else (val_accuracy.row, val_accuracy.value, val_accuracy.epoch)
    frame = pd.DataFrame(
        dict(zip(("row", "value", "epoch"), points, strict=False)), columns=["row", "value", "epoch"]
    )
    frame = frame.astype({"row": "int64", "value": "float64", "epoch": "Int64"})
    best = frame.sort_values(["value", "epoch"], ascending=[False, True]).drop_duplicates("row")
    return best.set_index("row").reindex(range(count)).reset_index()


def _first_looks(ended: pd.Series, looks: Sequence[int]) -> pd.Series:
    """Return the number, from 1, of the first report that came after each trial ended; missing if none did.

    `looks` has the times of the reports, in order.
    """
    first = pd.Series([bisect_left(looks, end) + 1 for end in ended.fillna(0)], dtype="Int64")
    return first.where(ended.notna() & (first <= len(looks)))


def _joined(trials: TrialRuns, text: Callable[..., str | None], keys: Sequence[str]) -> list[str | None]:
    """Return a text for each trial, which `text` makes from the trial's tags with these keys.

    Trials with equal tags share one call of `text`.
    """
    made = cache(text)
    return [made(*values) for values in zip(*(_tag(trials, key) for key in keys), strict=True)]


def _commit(commit: str | None, has_changes: str | None) -> str | None:
    return f"{commit} and changes" if commit and has_changes == "true" else commit


def _versions(*numbers: str | None) -> str | None:
    names = ("fnnexp", "python", *LIBRARIES)
    return (
        ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True) if number) or None
    )


def _params(columns: Mapping[str, Sequence[str | None]], count: int) -> dict[str, pd.Series]:
    """Return the columns of params of `count` runs, with their types: options, then `seed`, then others.

    A run lacks the param of a key that was added to fnnexp after the run, and where a value is the default.
    If other runs have such a param, the runs that lack it get the default in its column.
    """
    recorded = {key for key, column in columns.items() if _is_recorded(column)}
    names = recorded - {*CHOICES, *result_columns(), "seed"}
    defaults = {name: as_param(value) for name, value in later_defaults().items() if value is not None}
    texts = {
        name: _filled(columns.get(name, [None] * count), defaults.get(name))
        for name in (*CHOICES, "seed", *sorted(names))
    }
    options = {name: as_options(texts[name], name) for name in CHOICES}
    seed = pd.to_numeric(texts["seed"], errors="coerce").astype("Int64")
    if int(seed.nunique()) == 1:  # a trial without seed_init used `seed` for it
        for name in names & {*SEEDS} - {"seed_split"}:
            texts[name] = texts[name].fillna(texts["seed"])
    return {**options, "seed": seed, **{name: _typed(texts[name]) for name in sorted(names)}}


def _is_recorded(column: Sequence[object]) -> bool:
    return any(value is not None for value in column)


def _filled(column: Sequence[str | None], default: str | None) -> pd.Series:
    return pd.Series([default if text is None else text for text in column], dtype="str")


def as_options(texts: pd.Series, group: str) -> pd.Series:
    """Return a column of options as an ordered category: documented options first, others by name.

    The order of documented options is :data:`ORDER`. Names of networks (`arch`) that an earlier version
    recorded become the names that this version gives.
    """
    if group == "arch":
        labels = {text: label_now(text) for text in texts.dropna().unique()}
        if any(text != label for text, label in labels.items()):
            texts = texts.map(labels)
    present, documented = set(texts.dropna()), ORDER.get(group, ())
    names = [
        *(name for name in documented if name in present),
        *sorted(present.difference(documented), key=lambda text: (_by_number(label_in_full(text)), text)),
    ]
    return texts.astype(pd.CategoricalDtype(names, ordered=True))


def _by_number(text: str) -> list[tuple[int, str, str]]:
    """Return a sort key that compares numbers in texts by value: `relu_98` comes before `relu_100`."""
    return [(len(number), number, rest) for number, rest in re.findall(r"(\d*)(\D*)", text)]


def _by_appearance(texts: pd.Series) -> pd.CategoricalDtype:
    return pd.CategoricalDtype(texts.dropna().drop_duplicates().to_list(), ordered=True)


def _typed(texts: pd.Series) -> pd.Series:
    """Convert a column of texts to boolean, Int64 or float64 if all its values allow it; else return it."""
    present = texts.dropna()
    if present.empty:
        return texts
    if present.isin(["True", "False", "true", "false"]).all():
        return texts.str.lower().map({"true": True, "false": False}).astype("boolean")
    for convert in (int, float):
        try:
            values: dict[str, Any] = {text: convert(text) for text in present.unique()}
            return pd.Series(
                [values.get(text) for text in texts], dtype="Int64" if convert is int else "float64"
            )
        except (ValueError, OverflowError):  # not a number, or an integer beyond 64 bits
            continue
    return texts


def _identity(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that identify trials in :func:`curves`: the id, name, options and seed."""
    identity = runs[["trial", "name", *CHOICES, "seed"]].copy()
    for column in ("trial", "name"):
        identity[column] = identity[column].astype(_by_appearance(runs[column]))
    return identity


def _about_trials(identity: pd.DataFrame, points: reader.Points) -> pd.DataFrame:
    """Return a row for each point of a metric: the columns that identify its trial, and `epoch`."""
    frame = identity.take(points.row).reset_index(drop=True)
    return frame.assign(epoch=pd.array(points.epoch, dtype="Int64"))


def _curves_frame(identity: pd.DataFrame, points: reader.Points, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the frame of :func:`curves`.

    `identity` has the columns that identify trials, and `points` the values of the `metrics`.
    """
    frame = _about_trials(identity, points)
    every = list(METRICS)
    number = np.array([every.index(metric) for metric in metrics], "int64")[points.metric]
    for column, texts in (
        ("metric", every),
        ("split", [metric.split("_", 1)[0] for metric in every]),
        ("quantity", [metric.split("_", 1)[1] for metric in every]),
    ):
        names = list(dict.fromkeys(texts))
        codes = np.array([names.index(text) for text in texts], "int64")
        frame[column] = _category(codes[number], names, ordered=True)
    return frame.assign(value=points.value)


def _category(codes: NDArray[np.int64], names: Sequence[str], *, ordered: bool = False) -> Any:
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(names), ordered=ordered))


def _diagnostics_of(trials: TrialRuns) -> list[str]:
    """Return the names of the diagnostics that any trial recorded, sorted by layer and quantity.

    Diagnostics are measurements of a layer, such as the share of dead units.
    """
    named = (NAME.fullmatch(name) for name, column in trials.metrics.items() if _is_recorded(column))
    matches = sorted((match for match in named if match), key=lambda match: _layer_and_quantity(match[0]))
    return [match[0] for match in matches]


def _layer_and_quantity(name: str) -> tuple[int, int]:
    """Parse the name of a diagnostic: return its layer, and the index of its quantity in `QUANTITIES`."""
    match = NAME.fullmatch(name)
    assert match
    return int(match[1]), QUANTITIES.index(match[2])


def _diagnostics_frame(identity: pd.DataFrame, points: reader.Points, names: Sequence[str]) -> pd.DataFrame:
    """Return the frame of :func:`diagnostics`.

    `identity` has the columns that identify trials, and `points` the values of the diagnostics `names`.
    """
    frame = _about_trials(identity, points)
    layers, quantities = np.array([_layer_and_quantity(name) for name in names], "int64").reshape(-1, 2).T
    frame["layer"] = pd.array(layers[points.metric], dtype="Int64")
    frame["quantity"] = _category(quantities[points.metric], QUANTITIES)
    return frame.assign(value=points.value)
