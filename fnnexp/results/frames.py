"""The data frames of a sweep: what MLflow holds of it, tidy and typed; a row a trial, or a point of a curve.

Nothing here is fnnexp's own format: any pandas code that works on a tidy table works on these.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from fnnexp.config.schema import CHOICES, NODES, UNSCIENTIFIC, Config, keys_of
from fnnexp.errors import FnnexpError
from fnnexp.nn.layer_stats import NAME, QUANTITIES
from fnnexp.nn.pieces.batching import MODES
from fnnexp.nn.pieces.initializers import INITIALIZERS
from fnnexp.tracking import reader
from fnnexp.tracking.environment import LIBRARIES
from fnnexp.tracking.reader import status_of
from fnnexp.tracking.run_format import BEST, METRICS, STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Run

ARCHS = ("relu_100", "tanh_128", "sigmoid_32_32", "relu_98")
"""The shipped architectures, in the order of the documentation."""

ORDER = {"arch": ARCHS, "init": tuple(INITIALIZERS), "batching": MODES}
"""How the shipped options of a group stand in a table; others follow by name."""

COUNTS = ("train_images", "test_images", "classes")
"""The tags that say how much data a trial has."""

TAGS = (
    "diverged_epoch", "identical_to", "seconds_per_epoch", *COUNTS, "error", "data_checksum", "blas",
    "engine", "command",
)  # fmt: skip
"""The tags that are columns by themselves."""


HEAD = ("run_id", "trial", "name", "status")
TAIL = (
    "diverged_epoch", "identical_to", "seconds_per_epoch", "started", "seconds", "look", *COUNTS, "error",
    "data_checksum", "git_commit", "versions", "blas", "engine", "command",
)  # fmt: skip
RESULTS = (*HEAD, *METRICS, *BEST, *TAIL)
"""The columns of :func:`runs` that are no param."""

CHECKSUM = "data_checksum"
"""The content of the data, no param and yet part of a configuration: a file can change under its path."""


KEYS = frozenset(
    f"{name}.{key}" for name, node in NODES.items() if name not in UNSCIENTIFIC for key in keys_of(node)
)
SCALARS = tuple(each.name for each in fields(Config) if each.name not in (*NODES, *UNSCIENTIFIC, "seed"))
"""The keys of a config that are params: those in a section, as `optimizer.lr`, and those outside of any."""


def params_of(runs: pd.DataFrame) -> list[str]:
    """Return the columns that make a trial's configuration, in the order of :func:`runs`.

    They are the chosen options and the keys of a config, but never `seed`. Any other column, as one that its
    owner has added or an index that was read back, is carried along and says nothing about a trial.

    >>> params_of(pd.DataFrame(columns=["gap", "optimizer.lr", "seed", "init", "epochs", "loss", 0]))
    ['init', 'epochs', 'optimizer.lr']
    """
    found = [str(column) for column in runs.columns if _is_param(str(column))]
    return [*(choice for choice in CHOICES if choice in found), *sorted({*found} - {*CHOICES})]


def _is_param(column: str) -> bool:
    return column in KEYS or column in (*CHOICES, *SCALARS, "experiment")


def in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the one order that depends on the trials alone, with a new index.

    A configuration's trials stand in the order of their seeds: what is drawn or summed over them is the same
    whatever order a frame came in.
    """
    by = [column for column in (*CHOICES, "seed", "name", "trial") if column in runs]
    return runs.sort_values(by, kind="stable", ignore_index=True)


def runs(experiment: str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return one row a trial of the experiment, in order of their start.

    Parameters
    ----------
    experiment
        The sweep's name, which is the MLflow experiment's.
    tracking_uri
        Where to read; MLflow's own default (`MLFLOW_TRACKING_URI`, `./mlflow.db`) without it.

    Returns
    -------
    DataFrame
        The same columns and types for every experiment, also for one without trials; only the dotted
        params differ. `str` unless said otherwise; categories are ordered:

        - `run_id`, `trial` (the id of its scientific content), `name`; `status`: finished, diverged,
          failed, running or interrupted, a category.
        - `arch init batching optimizer data`: categories; shipped architectures, initializers and batching
          modes in the order of the documentation, others by name.
        - `seed` (Int64), then every other param in alphabetical order: Int64, float64 or boolean where the
          whole column is of that kind (a trial without the param does not count), else `str`.
        - the six metrics (float64), as MLflow shows them: the last value recorded. Non-finite values are not
          recorded, so a diverged trial's can be from before its end. Without validation `val_*` is NaN.
        - `best_val_accuracy` and `best_val_epoch` (Int64; the first such epoch), missing without validation.
        - `diverged_epoch` (Int64); `identical_to`, the trial whose training this one shares.
        - `seconds_per_epoch`; `started` (UTC); `seconds` from its start to its end, NaN while it runs; `look`
          (Int64), the number of the first report that showed its result, missing for none: where more seeds
          came after a look, pairs are tested so that p holds at every look.
        - `train_images` (Int64), how many images an epoch trains on, without those held out; `test_images`
          (Int64), how many the test metrics are over; `classes` (Int64), how many there are to tell apart
          (the first and the last are missing in runs of before); `error`, one line.
        - what it ran with: `data_checksum` (SHA-256; a factor where a file changed under its path),
          `git_commit` (with ` and changes` where some were not committed), `versions` of fnnexp, Python and
          the libraries, `blas` (library and kernel), `engine` (`numpy` or `numba`, once it has ended
          with its version), `command` (the command line that made the run; missing from Python).

    Raises
    ------
    FnnexpError
        If there is no such experiment or no such store.

    Examples
    --------
    >>> fnnexp.runs("card_grid").groupby("init", observed=True).test_accuracy.mean()  # doctest: +SKIP
    """
    client, trials = _trials(experiment, tracking_uri, "runs")
    return _runs_frame(trials, _history(client, trials, ["val_accuracy"]), reader.looks(client, trials))


def curves(experiment: str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return one row a trial × epoch × metric of the experiment, in that order.

    Parameters
    ----------
    experiment, tracking_uri
        As for :func:`runs`.

    Returns
    -------
    DataFrame
        - `trial name arch init batching optimizer data`, as in :func:`runs`: ordered categories.
        - `seed`, `epoch` (Int64); epoch 0 is only in trials that trained for none.
        - `metric` (`train_loss` … `test_accuracy`) and its two halves `split` (train, val, test) and
          `quantity` (loss, accuracy): ordered categories.
        - `value` (float64): an accuracy is a fraction.

        Join it with :func:`runs` on `trial` for anything else.

    Examples
    --------
    >>> fnnexp.curves("card_grid").query("metric == 'val_loss'")  # doctest: +SKIP
    """
    client, trials = _trials(experiment, tracking_uri, "curves")
    history = _history(client, trials, METRICS)
    return _curves_frame(_runs_frame(trials, history[:0]), history)


class ExperimentFrames(NamedTuple):
    """The three frames of an experiment: :func:`runs`, :func:`curves` and :func:`diagnostics`."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    diagnostics: pd.DataFrame


def whole(experiment: str, *, tracking_uri: str | None = None) -> ExperimentFrames:
    """Return the three frames as they stood at one moment, for less than the three calls cost."""
    client, trials = reader.trials(experiment, tracking_uri)
    history = _history(client, trials, METRICS)
    of_accuracy = history[history["metric"] == "val_accuracy"]
    table = _runs_frame(trials, of_accuracy, reader.looks(client, trials))
    of_layers = _history(client, trials, _diagnostics_of(trials))
    return ExperimentFrames(table, _curves_frame(table, history), _diagnostics_frame(table, of_layers))


def diagnostics(experiment: str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return one row a trial × epoch × layer × quantity of what was recorded with `diagnostics=true`.

    Parameters
    ----------
    experiment, tracking_uri
        As for :func:`runs`.

    Returns
    -------
    DataFrame
        In the order of its columns; without rows where nothing was recorded:

        - `trial name arch init batching optimizer data` (categories), `seed`, as in :func:`curves`.
        - `epoch` (Int64): 0 is the untrained network, another the epoch's end. A trial that was begun without
          diagnostics has them from where it went on with them.
        - `layer` (Int64), from 1; the last one makes the logits.
        - `quantity`, a category of `fnnexp.nn.layer_stats.QUANTITIES`, which says what each is: `z_std` and
          `dz_std` of every layer; `dead` (ReLU) or `saturated` (tanh, sigmoid) of a hidden layer, a fraction;
          `update_ratio` from epoch 1 on.
        - `value` (float64). What was not finite was not recorded.

    Examples
    --------
    >>> fnnexp.diagnostics("card_grid").query("epoch == 0 and quantity == 'z_std'")  # doctest: +SKIP
    """
    client, trials = _trials(experiment, tracking_uri, "diagnostics")
    history = _history(client, trials, _diagnostics_of(trials))
    return _diagnostics_frame(_runs_frame(trials, history[:0]), history)


def ranking(runs: pd.DataFrame) -> str:
    """Return the metric to rank by: `val_accuracy` if every trial held out rows, else `test_accuracy`."""
    return "val_accuracy" if len(runs) and held_out(runs).all() else "test_accuracy"


def held_out(runs: pd.DataFrame) -> pd.Series:
    """Return which trials held validation rows out.

    Their param tells, from the beginning; of a finished trial, and in a frame without that param, it is told
    by what was measured.
    """
    measured = runs["val_accuracy"].notna()
    if "data.validation" not in runs:
        return measured
    return measured.where(runs["status"] == "finished", runs["data.validation"].fillna(0) > 0).astype(bool)


def _trials(experiment: str, uri: str | None, function: str) -> tuple[MlflowClient, list[Run]]:
    """Return what :func:`reader.trials` does; refuse what is no name of an experiment."""
    if not isinstance(experiment, str):
        names = [*experiment] if isinstance(experiment, list | tuple) else []
        calls = ", ".join(f'fnnexp.{function}("{name}")' for name in names)
        advice = f"pd.concat([{calls}]) joins several" if names else "write its name as a string"
        raise FnnexpError(f"fnnexp.{function} reads one experiment, and not {experiment!r}; {advice}")
    return reader.trials(experiment, uri)


def _history(client: MlflowClient, trials: Sequence[Run], metrics: Iterable[str]) -> pd.DataFrame:
    """Return every recorded point of the trials' metrics as rows of `run_id metric epoch value`."""
    points = reader.curves(client, trials, metrics)
    frame = pd.DataFrame(points, columns=["run_id", "metric", "epoch", "timestamp", "value"])
    frame = frame.astype({"epoch": "Int64", "value": "float64"}).sort_values("timestamp", kind="stable")
    # An epoch that was recorded again after an interruption counts as it was recorded last.
    return frame.drop_duplicates(["run_id", "metric", "epoch"], keep="last").drop(columns="timestamp")


def _tag(run: Run, key: str) -> str | None:
    value: str | None = run.data.tags.get(f"fnnexp.{key}")
    return value


def _runs_frame(trials: Sequence[Run], val_accuracy: pd.DataFrame, looks: Sequence[int] = ()) -> pd.DataFrame:
    started = pd.Series([run.info.start_time for run in trials], dtype="Int64")
    ended = pd.Series([run.info.end_time for run in trials], dtype="Int64")
    tags = {key: pd.Series([_tag(run, key) for run in trials], dtype="str") for key in ("trial", *TAGS)}
    best = val_accuracy.sort_values(["value", "epoch"], ascending=[False, True]).drop_duplicates("run_id")
    best = best.set_index("run_id").reindex([run.info.run_id for run in trials]).reset_index()
    status = pd.CategoricalDtype(list(STATUSES), ordered=True)
    columns: dict[str, pd.Series] = {
        "run_id": best["run_id"].astype("str"),
        "trial": tags["trial"],
        "name": pd.Series([run.info.run_name or run.info.run_id for run in trials], dtype="str"),
        "status": pd.Series([status_of(run) for run in trials], dtype=status),
        **_params(trials),
        **{
            metric: pd.Series([run.data.metrics.get(metric) for run in trials], dtype="float64")
            for metric in METRICS
        },
        "best_val_accuracy": best["value"].astype("float64"),
        "best_val_epoch": best["epoch"].astype("Int64"),
        "diverged_epoch": pd.to_numeric(tags["diverged_epoch"], errors="coerce").astype("Int64"),
        "identical_to": tags["identical_to"],
        "seconds_per_epoch": pd.to_numeric(tags["seconds_per_epoch"], errors="coerce").astype("float64"),
        "started": pd.to_datetime(started, unit="ms", utc=True),
        "seconds": ((ended - started) / 1000).astype("float64"),
        "look": _first_looks(ended, looks),
        **{count: pd.to_numeric(tags[count], errors="coerce").astype("Int64") for count in COUNTS},
        "error": tags["error"],
        "data_checksum": tags["data_checksum"],
        "git_commit": pd.Series([_commit(run) for run in trials], dtype="str"),
        "versions": pd.Series([_versions(run) for run in trials], dtype="str"),
        "blas": tags["blas"],
        "engine": tags["engine"],
        "command": tags["command"],
    }
    return pd.DataFrame(columns)


def _first_looks(ended: pd.Series, looks: Sequence[int]) -> pd.Series:
    """Return the number of the first look at each trial since it ended, from 1; missing for none."""
    first = pd.Series([bisect_left(looks, end) + 1 for end in ended.fillna(0)], dtype="Int64")
    return first.where(ended.notna() & (first <= len(looks)))


def _commit(run: Run) -> str | None:
    commit = _tag(run, "git_commit")
    return f"{commit} and changes" if commit and _tag(run, "git_dirty") == "true" else commit


def _versions(run: Run) -> str | None:
    numbers = {"fnnexp": _tag(run, "version")} | {each: _tag(run, each) for each in ("python", *LIBRARIES)}
    return ", ".join(f"{each} {number}" for each, number in numbers.items() if number) or None


def _params(trials: Sequence[Run]) -> dict[str, pd.Series]:
    """Return the typed columns of the params: the options, the seed, the others by name."""
    names = {key for run in trials for key in run.data.params} - {*CHOICES, *RESULTS, "seed"}
    texts = {
        name: pd.Series([run.data.params.get(name) for run in trials], dtype="str")
        for name in (*CHOICES, "seed", *sorted(names))
    }
    options = {name: as_options(texts[name], name) for name in CHOICES}
    seed = pd.to_numeric(texts["seed"], errors="coerce").astype("Int64")
    return {**options, "seed": seed, **{name: _typed(texts[name]) for name in sorted(names)}}


def as_options(texts: pd.Series, group: str) -> pd.Series:
    """Return the options of a group as a category, in the order of tables: see :data:`ORDER`."""
    there, first = set(texts.dropna()), ORDER.get(group, ())
    names = [*(each for each in first if each in there), *sorted(there.difference(first), key=_by_number)]
    return texts.astype(pd.CategoricalDtype(names, ordered=True))


def _by_number(text: str) -> list[tuple[int, str, str]]:
    """Return a key that sorts the numbers within a text as numbers: `relu_98` before `relu_100`."""
    return [(len(number), number, rest) for number, rest in re.findall(r"(\d*)(\D*)", text)]


def _by_appearance(texts: pd.Series) -> pd.CategoricalDtype:
    return pd.CategoricalDtype(texts.dropna().drop_duplicates().to_list(), ordered=True)


def _typed(texts: pd.Series) -> pd.Series:
    """Return the column as boolean, Int64 or float64 where every value given is such, else as it is."""
    given = texts.dropna()
    if given.empty:
        return texts
    if given.isin(["True", "False", "true", "false"]).all():
        return texts.str.lower().map({"true": True, "false": False}).astype("boolean")
    for kind in (int, float):
        try:
            values: list[Any] = [None if pd.isna(text) else kind(text) for text in texts]
            return pd.Series(values, dtype="Int64" if kind is int else "float64")
        except (ValueError, OverflowError):  # not a number, or an integer beyond 64 bits
            continue
    return texts


def _about_trials(history: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the points of curves with what tells their trials apart, and each trial's row as `row`."""
    about = runs[["run_id", "trial", "name", *CHOICES, "seed"]].reset_index(names="row")
    for column in ("trial", "name"):
        about[column] = about[column].astype(_by_appearance(runs[column]))
    return history.merge(about, on="run_id", how="inner")


def _curves_frame(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    frame = _about_trials(history, runs)
    frame["metric"] = frame["metric"].astype(pd.CategoricalDtype(list(METRICS), ordered=True))
    frame = frame.sort_values(["row", "epoch", "metric"], kind="stable", ignore_index=True)
    for half, column in enumerate(("split", "quantity")):
        halves = {metric: metric.split("_", 1)[half] for metric in METRICS}
        dtype = pd.CategoricalDtype(list(dict.fromkeys(halves.values())), ordered=True)
        frame[column] = frame["metric"].astype("str").map(halves).astype(dtype)
    order = ["trial", "name", *CHOICES, "seed", "epoch", "metric", "split", "quantity", "value"]
    return frame[order]


def _diagnostics_of(trials: Sequence[Run]) -> list[str]:
    """Return the names of the diagnostics that any of the trials has."""
    return sorted({name for run in trials for name in run.data.metrics if NAME.fullmatch(name)})


def _diagnostics_frame(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    frame = _about_trials(history, runs)
    parts = frame["metric"].str.extract(NAME.pattern)
    frame["layer"] = parts[0].astype("Int64")
    frame["quantity"] = parts[1].astype(pd.CategoricalDtype(list(QUANTITIES)))
    order = ["row", "epoch", "layer", "quantity"]
    frame = frame.sort_values(order, kind="stable", ignore_index=True)
    return frame[["trial", "name", *CHOICES, "seed", *order[1:], "value"]]
