"""What MLflow holds of a sweep, as tidy, typed data frames: one row a trial, or one row a point of a curve.

Nothing here is fnnexp's own format: any pandas code that works on a tidy table works on these.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.nn.layer_stats import NAME, QUANTITIES
from fnnexp.nn.pieces.batching import MODES
from fnnexp.nn.pieces.initializers import METHODS
from fnnexp.results import filters as asking
from fnnexp.tracking import collector
from fnnexp.tracking import store as stores
from fnnexp.tracking.writer import (
    DIVERGED,
    DONE,
    FAILED,
    FINISHED,
    INTERRUPTED,
    LIBRARIES,
    METRICS,
    RUNNING,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Run

OPTIONS = ("arch", "init", "batching", "optimizer", "data")
"""The params that name a chosen option of a config group; a category each."""

AXES = ("arch", "init", "batching")
"""The factors that the table lays out; each combination of the others has a table and a figure of its own."""

ARCHS = ("relu_100", "tanh_128", "sigmoid_32_32", "relu_98")
"""The shipped architectures, in the order of the documentation."""

ORDER = {"arch": ARCHS, "init": METHODS, "batching": MODES}
"""How the shipped options of a group stand in a table; others follow by first appearance."""

TAGS = (
    "diverged_epoch", "identical_to", "seconds_per_epoch", "test_images", "error", "data_checksum", "blas",
    "engine",
)  # fmt: skip
"""The tags that are columns by themselves."""

STATUSES = (FINISHED, DIVERGED, FAILED, RUNNING, INTERRUPTED)
"""What a trial can be. A run whose process was killed outright stays "running" until it is resumed."""

HEAD = ("run_id", "trial", "name", "status")
BEST = ("best_val_accuracy", "best_val_epoch")
TAIL = (
    "diverged_epoch", "identical_to", "seconds_per_epoch", "started", "seconds", "test_images", "error",
    "data_checksum", "git_commit", "versions", "blas", "engine",
)  # fmt: skip
RESULTS = (*HEAD, *METRICS, *BEST, *TAIL)
"""The columns of :func:`runs` that are no param; every other column but `seed` is part of a configuration."""

CHECKSUM = "data_checksum"
"""The content of the data, no param and yet part of a configuration: a file can change under its path."""

SOURCES = ("data", "data.name", "data.path", "data.test_path")
"""The params that say where the data is from."""

SHORT = 12
"""So many digits of a checksum are shown."""

RUNS_A_PAGE = 1000
RUNS_A_REQUEST, POINTS_A_REQUEST = 100, 25_000  # what mlflow.server.handlers allows


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

        - `run_id`, `trial` (the id of its scientific content), `name`; `status`, a category of `STATUSES`.
        - `arch init batching optimizer data`: categories; shipped architectures, initializers and batching
          modes in the order of the documentation, others by first appearance.
        - `seed` (Int64), then every other param in alphabetical order: Int64, float64 or boolean where the
          whole column is of that kind (a trial without the param does not count), else `str`.
        - the six metrics (float64), as MLflow shows them: the last value recorded. Non-finite values are not
          recorded, so a diverged trial's can be from before its end. Without validation `val_*` is NaN.
        - `best_val_accuracy` and `best_val_epoch` (Int64; the first such epoch), missing without validation.
        - `diverged_epoch` (Int64); `identical_to`, the trial whose training this one shares.
        - `seconds_per_epoch`; `started` (UTC); `seconds` from its start to its end, NaN while it runs.
        - `test_images` (Int64), how many images the test metrics are over; `error`, one line.
        - what it ran with: `data_checksum` (SHA-256; a factor where a file changed under its path),
          `git_commit` (with ` and changes` where some were not committed), `versions` of fnnexp, Python and
          the libraries, `blas` (library and kernel), `engine` (`numpy` or `numba`, once it has ended
          with its version).

    Raises
    ------
    FnnexpError
        If there is no such experiment or no such store.

    Examples
    --------
    >>> fnnexp.runs("card_grid").groupby("init", observed=True).test_accuracy.mean()  # doctest: +SKIP
    """
    client, trials = _trials(experiment, tracking_uri)
    return _runs_frame(trials, _history(client, trials, ["val_accuracy"]))


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
    client, trials = _trials(experiment, tracking_uri)
    history = _history(client, trials, METRICS)
    return _curves_frame(_runs_frame(trials, history[:0]), history)


class Whole(NamedTuple):
    """The three frames of an experiment: :func:`runs`, :func:`curves` and :func:`diagnostics`."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    diagnostics: pd.DataFrame


def whole(experiment: str, *, tracking_uri: str | None = None) -> Whole:
    """Return the three frames as they stood at one moment, for less than the three calls cost."""
    client, trials = _trials(experiment, tracking_uri)
    history = _history(client, trials, METRICS)
    table = _runs_frame(trials, history[history["metric"] == "val_accuracy"])
    of_layers = _history(client, trials, _diagnostics_of(trials))
    return Whole(table, _curves_frame(table, history), _diagnostics_frame(table, of_layers))


def part(runs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Return the chosen rows, their categories without the options that none of them has."""
    rows = runs[chosen].reset_index(drop=True)
    options = rows.select_dtypes("category").columns.difference(["status"])
    return rows.assign(**{option: rows[option].cat.remove_unused_categories() for option in options})


def where(runs: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows with these options, as :func:`part` does: `{"arch": "tanh_128", "seed": "0,1"}`.

    Parameters
    ----------
    wanted
        For each of some columns what a sweep takes behind `KEY=`, in Hydra's grammar: a value, several with
        commas, `range(3)`, `[64,32]`, `glob(he*)`, `null`; or a value as :func:`as_text` writes it.

    Raises
    ------
    FnnexpError
        If there is no such column to choose by, no such value in it, or no row with all of them.

    Examples
    --------
    >>> trials = pd.DataFrame({"optimizer.lr": [0.1, 0.01, 0.1], "seed": [0, 1, 2]})
    >>> where(trials, {"optimizer.lr": "1e-1", "seed": "range(2)"})
       optimizer.lr  seed
    0           0.1     0
    """
    chosen = pd.Series(True, runs.index)
    columns = [str(column) for column in runs.columns if column not in RESULTS or column == CHECKSUM]
    for key, values in wanted.items():
        if key not in columns:
            raise FnnexpError(
                f"{key}={values}: trials have no '{key}' to choose by; they have {', '.join(columns)}."
                f"{did_you_mean(key, columns)}"
            )
        chosen &= asking.having(runs[key], runs[key].map(as_text, na_action=None).astype("str"), values)
    if not chosen.any():
        raise FnnexpError(
            f"No trial has {' '.join(f'{k}={v}' for k, v in wanted.items())}; ask for fewer options at once."
        )
    return part(runs, chosen)


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
    client, trials = _trials(experiment, tracking_uri)
    history = _history(client, trials, _diagnostics_of(trials))
    return _diagnostics_frame(_runs_frame(trials, history[:0]), history)


def once(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that count, with a new index: one a configuration and seed, in their order.

    There are several where a frame holds a trial twice, or trials that other numerics trained. Of them that
    one counts which is done, and of those the one that was started last.
    """
    runs = runs.reset_index(drop=True)
    content = [column for column in runs.columns if column not in RESULTS or column == CHECKSUM]
    order = runs[[column for column in ("started",) if column in runs]].assign(done=runs["status"].isin(DONE))
    order = order.sort_values(["done", *order.columns.drop("done")], kind="stable")
    again = runs.loc[order.index].duplicated(content, keep="last")
    return runs[~again.sort_index()].reset_index(drop=True)


def factors(runs: pd.DataFrame) -> list[str]:
    """Return the columns that tell this frame's configurations apart: params, but never `seed`.

    A param below an option (`optimizer.lr` below `optimizer`) counts only where it differs among trials of
    the same option: otherwise the option says it already. `data_checksum` is one where it differs among
    trials whose data is from the same place.
    """
    params = [str(column) for column in runs.columns if column not in (*RESULTS, "seed")]
    found = [param for param in params if _varies(runs, param, params)]
    sources = [source for source in SOURCES if source in params]
    return [*found, CHECKSUM] if CHECKSUM in runs and varies_within(runs, sources, CHECKSUM) else found


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


def groups(runs: pd.DataFrame, factors: Sequence[str]) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    """Yield each combination of the factors with its trials, in the order of the factors' values."""
    if factors:
        yield from runs.groupby(list(factors), observed=True, dropna=False, sort=True)
    elif len(runs):
        yield (), runs


def others(runs: pd.DataFrame) -> list[str]:
    """Return the factors beside the axes that split the table: those that an axis does not settle."""
    beside = [factor for factor in factors(runs) if factor.partition(".")[0] not in AXES]
    return [factor for factor in beside if varies_within(runs, list(AXES), factor)]


def varies_within(runs: pd.DataFrame, by: list[str], factor: str) -> bool:
    """Whether the factor has several values among trials that agree in these columns, if any are given."""
    if not by:
        return int(runs[factor].nunique(dropna=False)) > 1
    values = runs.groupby(by, observed=True, dropna=False)[factor].nunique(dropna=False)
    return bool(values.gt(1).any())


def labels(runs: pd.DataFrame, option: str) -> pd.Series:
    """Return each trial's option with those of its params that vary below it: `normal`, or `normal std=0.3`.

    The result is a category, ordered by the option and then by the params' values.
    """
    below = [param for param in factors(runs) if param.startswith(f"{option}.")]
    text = runs[option].astype("str").fillna("–").map(as_text)
    for param in below:
        values = _values_within(runs, option, param)
        varies = runs[option].map(values.to_dict()).astype("Int64").fillna(1) > 1
        addition = " " + param.removeprefix(f"{option}.") + "=" + runs[param].map(as_text)
        text = text.where(~varies | runs[param].isna(), text + addition)
    order = runs[[option, *below]].assign(text=text).sort_values([option, *below], kind="stable")["text"]
    return text.astype(pd.CategoricalDtype(order.drop_duplicates().to_list(), ordered=True))


def as_text(value: Any) -> str:
    """Return a param's value as a person writes it; what is too long to read, as a checksum, is shortened.

    >>> as_text(0.1), as_text(128), as_text(True), as_text(None), as_text(64 * "a")
    ('0.1', '128', 'True', '–', 'aaaaaaaaaaaa')
    >>> as_text("relu" + 64 * "_128"), as_text(str([784] + 3000 * [8]))
    ('relu_128×64', '[784, 8×3000]')
    """
    if pd.isna(value):
        return "–"
    return f"{value:g}" if isinstance(value, float) else _shortened(str(value))


LONGEST = 100
"""Characters of a value in a table, a figure or a sentence."""


def _shortened(text: str) -> str:
    """Return a text that is too long with its equal widths counted, or cut; different ones stay different."""
    if re.fullmatch("[0-9a-f]{64}", text):
        return text[:SHORT]
    if len(text) <= LONGEST:
        return text
    short = re.sub(EQUALS, lambda m: f"{m[1]}×{len(re.findall('[0-9]+', m[0]))}", text)
    if len(short) <= LONGEST:
        return short
    return f"{short[:60]}…{short[-20:]} ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


EQUALS = r"(?<![0-9])([0-9]+)(?:(?:_|, )\1(?![0-9])){2,}"
"""Three equal widths or more, as an architecture's name or a list has them."""


def _varies(runs: pd.DataFrame, param: str, params: Sequence[str]) -> bool:
    option = param.partition(".")[0]
    if option == param or option not in params:
        return int(runs[param].nunique(dropna=False)) > 1
    return bool((_values_within(runs, option, param) > 1).any())


def _values_within(runs: pd.DataFrame, option: str, param: str) -> pd.Series:
    """Return how many values the param has (none given is one) among the trials of each option."""
    return runs.groupby(option, observed=True, dropna=False)[param].nunique(dropna=False)


# From MLflow


def _trials(experiment: str, tracking_uri: str | None) -> tuple[MlflowClient, list[Run]]:
    """Return a client, and the run that stands for each trial of the experiment, in order of their start."""
    with stores.asked_first(tracking_uri):
        client = _client(tracking_uri)
        found = stores.find_experiment(client, experiment)
    if found is None or found.lifecycle_stage != "active":
        names = sorted(each.name for each in client.search_experiments())
        there = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        hint = did_you_mean(experiment, names)
        raise FnnexpError(f"There is no experiment '{experiment}' in the store.{hint} There are: {there}.")
    with collector.paused():
        every = [run for run in _pages(client, found.experiment_id) if "fnnexp.trial" in run.data.tags]
    chosen: dict[str, Run] = {}
    for run in sorted(every, key=lambda run: (_status(run) in DONE, run.info.start_time)):
        chosen[run.data.tags["fnnexp.trial"]] = run
    return client, sorted(chosen.values(), key=lambda run: (run.info.start_time, run.info.run_name or ""))


def _client(tracking_uri: str | None) -> MlflowClient:
    """Return a client of the store; looking for an absent SQLite file must not create it."""
    from fnnexp import console as notebook

    notebook.quiet_about_widgets()
    with collector.paused():
        import mlflow

    uri = stores.plain(tracking_uri or mlflow.get_tracking_uri())
    if not stores.has_store(uri):
        raise FnnexpError(
            f"No sweep has been recorded here: there is no MLflow store at {stores.store_file(uri)}. "
            "Run one first, go to its directory, or set MLFLOW_TRACKING_URI."
        )
    stores.refuse_unreadable(uri)
    return stores.client(uri)


def _pages(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    """Yield every run of the experiment; a filter on our tag would cost more than it saves."""
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=RUNS_A_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _history(client: MlflowClient, trials: Sequence[Run], metrics: Iterable[str]) -> pd.DataFrame:
    """Return every recorded point of the trials' metrics as rows of `run_id metric epoch value`.

    The one place that reads curves. MLflow's documented call gives one run's one metric at a time, 1 to 8 ms
    each. What its own UI uses is faster, so that is tried first: for a database
    `SqlAlchemyStore.get_metric_history_bulk`, for a server the request `get-history-bulk`.
    """
    from mlflow.exceptions import MlflowException

    points: list[tuple[str, str, int, int, float]] = []
    for metric in metrics:
        ids = [run.info.run_id for run in trials if metric in run.data.metrics]
        for read in (_points_of_database, _points_of_server):
            try:
                with collector.paused():
                    points += read(client, ids, metric)
                break
            except (AttributeError, TypeError, ValueError, KeyError, MlflowException):
                continue
        else:
            points += _points_one_by_one(client, ids, metric)
    frame = pd.DataFrame(points, columns=["run_id", "metric", "epoch", "timestamp", "value"])
    frame = frame.astype({"epoch": "Int64", "value": "float64"}).sort_values("timestamp", kind="stable")
    # An epoch that was recorded again after an interruption counts as it was recorded last.
    return frame.drop_duplicates(["run_id", "metric", "epoch"], keep="last").drop(columns="timestamp")


def _points_of_database(client: MlflowClient, ids: Sequence[str], metric: str) -> list[Any]:
    read = client._tracking_client.store.get_metric_history_bulk
    return [
        (point.run_id, metric, point.step, point.timestamp, point.value)
        for part in _parts(ids, RUNS_A_PAGE)
        for point in read(part, metric, max_results=2**31 - 1)
    ]


def _points_of_server(client: MlflowClient, ids: Sequence[str], metric: str) -> list[Any]:
    from mlflow.utils.rest_utils import http_request_safe

    host = client._tracking_client.store.get_host_creds()
    points: list[Any] = []
    for part in _parts(ids, RUNS_A_REQUEST):
        answer = http_request_safe(  # type: ignore[no-untyped-call]
            host,
            "/ajax-api/2.0/mlflow/metrics/get-history-bulk",
            "GET",
            params={"run_id": part, "metric_key": metric, "max_results": POINTS_A_REQUEST},
        ).json()["metrics"]
        if len(answer) < POINTS_A_REQUEST:
            points += [(p["run_id"], metric, int(p["step"]), int(p["timestamp"]), p["value"]) for p in answer]
        elif len(part) == 1:  # as much as one answer holds, so perhaps not all
            points += _points_one_by_one(client, part, metric)
        else:
            half = len(part) // 2
            points += _points_of_server(client, part[:half], metric)
            points += _points_of_server(client, part[half:], metric)
    return points


def _points_one_by_one(client: MlflowClient, ids: Sequence[str], metric: str) -> list[Any]:
    return [
        (run_id, metric, point.step, point.timestamp, point.value)
        for run_id in ids
        for point in client.get_metric_history(run_id, metric)
    ]


def _parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])


# Into frames


def _tag(run: Run, key: str) -> str | None:
    value: str | None = run.data.tags.get(f"fnnexp.{key}")
    return value


def _status(run: Run) -> str:
    status = _tag(run, "status")
    if status in STATUSES and not (status == "running" and run.info.status == "KILLED"):
        return str(status)
    return {"FAILED": "failed", "KILLED": "interrupted"}.get(run.info.status, "running")


def _runs_frame(trials: Sequence[Run], val_accuracy: pd.DataFrame) -> pd.DataFrame:
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
        "status": pd.Series([_status(run) for run in trials], dtype=status),
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
        "test_images": pd.to_numeric(tags["test_images"], errors="coerce").astype("Int64"),
        "error": tags["error"],
        "data_checksum": tags["data_checksum"],
        "git_commit": pd.Series([_commit(run) for run in trials], dtype="str"),
        "versions": pd.Series([_versions(run) for run in trials], dtype="str"),
        "blas": tags["blas"],
        "engine": tags["engine"],
    }
    return pd.DataFrame(columns)


def _commit(run: Run) -> str | None:
    commit = _tag(run, "git_commit")
    return f"{commit} and changes" if commit and _tag(run, "git_dirty") == "true" else commit


def _versions(run: Run) -> str | None:
    numbers = {"fnnexp": _tag(run, "version")} | {each: _tag(run, each) for each in ("python", *LIBRARIES)}
    return ", ".join(f"{each} {number}" for each, number in numbers.items() if number) or None


def _params(trials: Sequence[Run]) -> dict[str, pd.Series]:
    """Return the typed columns of the params: the options, the seed, the others by name."""
    names = {key for run in trials for key in run.data.params} - {*OPTIONS, *RESULTS, "seed"}
    texts = {
        name: pd.Series([run.data.params.get(name) for run in trials], dtype="str")
        for name in (*OPTIONS, "seed", *sorted(names))
    }
    options = {name: texts[name].astype(_by_appearance(texts[name], ORDER.get(name, ()))) for name in OPTIONS}
    seed = pd.to_numeric(texts["seed"], errors="coerce").astype("Int64")
    return {**options, "seed": seed, **{name: _typed(texts[name]) for name in sorted(names)}}


def _by_appearance(texts: pd.Series, first: Sequence[str] = ()) -> pd.CategoricalDtype:
    there = texts.dropna().drop_duplicates().to_list()
    names = [*(each for each in first if each in there), *(t for t in there if t not in first)]
    return pd.CategoricalDtype(names, ordered=True)


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
    about = runs[["run_id", "trial", "name", *OPTIONS, "seed"]].reset_index(names="row")
    for column in ("trial", "name"):
        about[column] = about[column].astype(_by_appearance(runs[column]))
    return history.merge(about, on="run_id", how="inner")


def _curves_frame(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    frame = _about_trials(history, runs)
    frame["metric"] = frame["metric"].astype(pd.CategoricalDtype(list(METRICS), ordered=True))
    frame = frame.sort_values(["row", "epoch", "metric"], kind="stable", ignore_index=True)
    for half, column in enumerate(("split", "quantity")):
        halves = {metric: metric.split("_")[half] for metric in METRICS}
        dtype = pd.CategoricalDtype(list(dict.fromkeys(halves.values())), ordered=True)
        frame[column] = frame["metric"].astype("str").map(halves).astype(dtype)
    order = ["trial", "name", *OPTIONS, "seed", "epoch", "metric", "split", "quantity", "value"]
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
    return frame[["trial", "name", *OPTIONS, "seed", *order[1:], "value"]]
