"""Read from MLflow: the trials of an experiment, their runs and their curves."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.nn import layer_stats
from fnnexp.nn.layer_stats import FULL, Level
from fnnexp.tracking import sql, store
from fnnexp.tracking.retry import mlflow_settings
from fnnexp.tracking.run_format import (
    DONE,
    ENGINE,
    GONE,
    HISTOGRAMS,
    MAP,
    PRUNED,
    RANGE_TEST,
    RUNNING,
    STATUS,
    STATUSES,
    TRIAL,
    Asked,
    asked_of,
    engine_name,
    looks_of,
)
from fnnexp.tracking.schema import NoStoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run
    from mlflow.store.entities import PagedList
    from numpy.typing import NDArray

    from fnnexp.config.trial import Trial

RUNS_A_PAGE = 1000
"""The number of runs in one answer of MLflow's search."""

NAMES_SHOWN = 20
"""The largest number of experiments that a message lists."""


@dataclass(frozen=True, slots=True)
class Known:
    """A run in the store: its id and its trial's status, what diagnostics it has, and its engine's name."""

    run_id: str
    status: str
    diagnosed: Level = False
    engine: str = "numpy"


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A trial's run, with only the parts that a sweep needs.

    `status` is the status of the trial, `mlflow_status` that of MLflow. `params` is empty if the run was
    read by SQL; :func:`trial_params` reads the params.
    """

    run_id: str
    mlflow_status: str
    trial: str
    status: str
    diagnosed: Level
    engine: str = "numpy"
    params: Mapping[str, str] = field(default_factory=dict, compare=False)


def known(runs: Iterable[FoundRun]) -> dict[str, Known]:
    """Return the run that counts for each trial id, given all runs with the newest first.

    It is the newest run that is done (finished or diverged) or, if none is done, the newest run.
    """
    chosen: dict[str, Known] = {}
    for run in runs:
        former = chosen.get(run.trial)
        if former is None or (former.status not in DONE and run.status in DONE):
            chosen[run.trial] = Known(run.run_id, run.status, run.diagnosed, run.engine)
    return chosen


def known_trials(experiment: str, uri: str | None) -> dict[str, Known]:
    """Return the run that counts for each trial id of an experiment, as :func:`known` chooses it.

    Neither the experiment nor the store is created if it does not exist.
    """
    if not store.has_store(uri):
        return {}
    with mlflow_settings(), store.asked_first(uri):
        try:
            client = store.client(uri)
        except NoStoreError:  # there is a file without tables, or there are only artifacts
            return {}
        existing = find_experiment(client, experiment)
        if existing is None:
            return {}
        return known(trial_runs(client, existing.experiment_id))


def trial_runs(client: MlflowClient, experiment_id: str) -> Iterator[FoundRun]:
    """Return the runs of an experiment's trials, one by one, the newest first."""
    file = _file(client)
    rows = None
    if file is not None:
        rows = sql.trials(file, experiment_id, diagnosed=layer_stats.name(0, "z_std"))
    if rows is None:
        return trial_runs_by_client(client, experiment_id)
    return (FoundRun(*row) for row in rows)


def trial_runs_by_client(client: MlflowClient, experiment_id: str) -> Iterator[FoundRun]:
    """Yield the same runs as :func:`trial_runs`, from MLflow's own search, which servers support too."""
    for run in _pages(client, experiment_id, f"tags.`{TRIAL}` LIKE '%'"):
        tags = run.data.tags
        diagnosed = FULL if HISTOGRAMS in tags else layer_stats.has_diagnostics(run.data.metrics)
        status = tags.get(STATUS, RUNNING)
        engine = engine_name(tags.get(ENGINE))
        yield FoundRun(
            run.info.run_id, run.info.status, tags[TRIAL], status, diagnosed, engine, run.data.params
        )


def trial_params(client: MlflowClient, experiment_id: str) -> Iterator[Mapping[str, str]]:
    """Return the params of each trial's run in an experiment, one by one. A server sends the whole runs."""
    file = _file(client)
    params = None if file is None else sql.trial_params(file, experiment_id)
    if params is None:
        return (run.params for run in trial_runs_by_client(client, experiment_id))
    return params


def runs_of(known: Mapping[str, Known], trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """Split trials into those that are done (finished or diverged) and those that a sweep must run."""
    done = [trial for trial in trials if trial.id in known and known[trial.id].status in DONE]
    finished = {trial.id for trial in done}
    return done, [trial for trial in trials if trial.id not in finished]


def find_experiment(client: MlflowClient, name: str) -> Experiment | None:
    """Return an experiment, or None if it does not exist. Wait briefly for a server that is away."""
    experiment: Experiment | None = store.ask(client, client.get_experiment_by_name, name)
    return experiment


@dataclass(frozen=True)
class TrialRuns:
    """One run for each trial of an experiment, ordered by start time, as columns.

    Attributes
    ----------
    client, experiment_id
        A client of the store, and the experiment.
    run_ids, names
        The runs' ids and names.
    statuses
        The trials' statuses, some of :data:`STATUSES`.
    started, ended
        The times in milliseconds since 1970; the end is None while a run is open.
    tags, params, metrics
        The values by key, None where a run has none. Tags are those of fnnexp, and metrics the last values.
    """

    client: MlflowClient
    experiment_id: str
    run_ids: Sequence[str]
    names: Sequence[str | None]
    statuses: Sequence[str]
    started: Sequence[int]
    ended: Sequence[int | None]
    tags: Mapping[str, Sequence[str | None]]
    params: Mapping[str, Sequence[str | None]]
    metrics: Mapping[str, Sequence[float | None]]

    def __len__(self) -> int:
        return len(self.run_ids)


def trials(experiment: str, uri: str | None) -> TrialRuns:
    """Return one run for each trial of an experiment.

    Of several runs of a trial, the last run that is done counts. If none is done, the last run counts.

    Raises
    ------
    FnnexpError
        If the experiment or the store does not exist.
    """
    with mlflow_settings(), without_collector():
        with store.asked_first(uri):
            client = _client_of_existing_store(uri)
            existing = _existing_experiment(client, experiment, uri)
        file, experiment_id = _file(client), existing.experiment_id
        table = None if file is None else sql.run_table(file, experiment_id)
        return _one_each(client, experiment_id, table or _run_table_by_client(client, experiment_id))


def _existing_experiment(client: MlflowClient, name: str, uri: str | None) -> Experiment:
    """Return an experiment; raise if it does not exist or was deleted."""
    existing = find_experiment(client, name)
    if existing is not None and existing.lifecycle_stage == "deleted":
        raise FnnexpError(store.deleted(name, existing.experiment_id, store.address_of(uri)))
    if existing is None:
        names = sorted(active.name for active in client.search_experiments())
        name_first = " The name comes first, as in NAME KEY=VALUE." if "=" in name else ""
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        raise FnnexpError(
            f"There is no experiment '{name}' in the store.{did_you_mean(name, names)} "
            f"There are: {', '.join(names[:NAMES_SHOWN])}{more}.{name_first}"
        )
    return existing


def _run_table_by_client(client: MlflowClient, experiment_id: str) -> sql.RunTable:
    """Return the runs of an experiment's trials like :func:`sql.run_table`, but from MLflow's own search."""
    table = sql.RunTable()
    for run in _pages(client, experiment_id):  # letting MLflow filter by the trial's tag would take longer
        if TRIAL not in run.data.tags:
            continue
        info, row = run.info, len(table.heads)
        table.heads.append((info.run_id, info.run_name, info.status, info.start_time, info.end_time))
        for columns, values in (
            (table.tags, run.data.tags),
            (table.params, run.data.params),
            (table.metrics, run.data.metrics),
        ):
            for key, value in values.items():
                columns.add(row, key, value)
    return table


def _one_each(client: MlflowClient, experiment_id: str, table: sql.RunTable) -> TrialRuns:
    """Return the run that counts for each trial: the last that is done or, if none is done, the last."""
    every = range(len(table.heads))
    tags = table.tags.take(every)
    own = tags.get(STATUS, [None] * len(every))
    statuses = [status_of(own[row], table.heads[row][2]) for row in every]
    start = [head[3] for head in table.heads]
    chosen = {
        tags[TRIAL][row]: row for row in sorted(every, key=lambda row: (statuses[row] in DONE, start[row]))
    }
    rows = sorted(chosen.values(), key=lambda row: (start[row], table.heads[row][1] or ""))
    ids, names, _, started, ended = (
        zip(*(table.heads[row] for row in rows), strict=True) if rows else [()] * 5
    )
    return TrialRuns(
        client,
        experiment_id,
        ids,
        names,
        [statuses[row] for row in rows],
        started,
        ended,
        tags if rows == list(every) else table.tags.take(rows),
        table.params.take(rows),
        table.metrics.take(rows),
    )


def _file(client: MlflowClient) -> Path | None:
    """Return the SQLite file that a client reads, or None if the store is not a file."""
    return store.store_file(str(client.tracking_uri))


def looks(runs: TrialRuns) -> list[int]:
    """Return the times, in milliseconds since 1970, when reports read the experiment of these runs."""
    if not len(runs):
        return []
    with mlflow_settings():
        return looks_of(runs.client.get_experiment(runs.experiment_id).tags)


def asked(experiment: str, uri: str | None) -> Asked | None:
    """Return what the last sweep with ``until=settled`` in an experiment compared; None if none ran."""
    with mlflow_settings():
        existing = find_experiment(_client_of_existing_store(uri), experiment)
    return None if existing is None else asked_of(existing.tags)


def status_of(own: str | None, mlflows: str) -> str:
    """Return the status of a run's trial, one of :data:`STATUSES`.

    `own` is the tag with this status, or None; `mlflows` is MLflow's status of the run.
    """
    if own in STATUSES and not (own == RUNNING and mlflows == "KILLED"):
        return str(own)
    return {"FAILED": "failed", "KILLED": "interrupted"}.get(mlflows, RUNNING)


class Points(NamedTuple):
    """Points of curves, as arrays: the row of the run, the number of the metric, the epoch, and the value.

    They are sorted in this order, and each point is unique.
    """

    row: NDArray[np.int64]
    metric: NDArray[np.int64]
    epoch: NDArray[np.int64]
    value: NDArray[np.float64]


def points(runs: TrialRuns, metrics: Sequence[str], rows: range | None = None) -> Points:
    """Return the points of the curves of some metrics, for the runs in these rows (None: for all runs)."""
    everything = range(len(runs)) if rows is None else rows
    pieces = [Points(*(np.array([], dtype) for dtype in ("int64", "int64", "int64", "float64")))]
    with mlflow_settings(), without_collector():
        for first in range(everything.start, everything.stop, sql.RUNS_A_QUERY):
            pieces.append(
                _points(runs, metrics, range(first, min(first + sql.RUNS_A_QUERY, everything.stop)))
            )
    return Points(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))


def _points(runs: TrialRuns, metrics: Sequence[str], rows: range) -> Points:
    """Return the same as :func:`points`, for the few runs that one query may ask for."""
    row_of = {runs.run_ids[row]: row for row in rows}
    file = _file(runs.client)
    points = None if file is None else sql.points_of_file(file, list(row_of), metrics)
    if points is None:
        points = []
        for name in metrics:
            last = runs.metrics.get(name, [None] * len(runs))
            recorded = [run_id for run_id, row in row_of.items() if last[row] is not None]
            points += sql.points(runs.client, recorded, name)
    number = {metric: i for i, metric in enumerate(metrics)}
    run_ids, names, epochs, timestamps, values = zip(*points, strict=True) if points else [()] * 5
    row = np.array([row_of[run_id] for run_id in run_ids], "int64")
    metric = np.array([number[name] for name in names], "int64")
    epoch, timestamp = np.array(epochs, "int64"), np.array(timestamps, "int64")
    value = np.array(values, "float64")
    order = np.lexsort((value, timestamp, metric, epoch, row))
    row, metric, epoch, value = row[order], metric[order], epoch[order], value[order]
    # An epoch that was recorded again after an interruption has several values; the last counts.
    is_last = np.ones(len(row), "bool")
    is_last[:-1] = (row[1:] != row[:-1]) | (metric[1:] != metric[:-1]) | (epoch[1:] != epoch[:-1])
    return Points(row[is_last], metric[is_last], epoch[is_last], value[is_last])


def _client_of_existing_store(uri: str | None) -> MlflowClient:
    """Return a client of a store, without creating a missing SQLite file."""
    address = store.address_of(uri)
    if not store.has_store(address):
        raise FnnexpError(
            store.no_sweep(uri, f"here: there is no MLflow store at {store.store_file(address)}")
        )
    store.refuse_unreadable(address)
    return store.client(address)


def _pages(client: MlflowClient, experiment_id: str, filter_string: str = "") -> Iterator[Run]:
    """Yield the runs of an experiment, page by page. Wait briefly for a server that is away."""
    search: Callable[..., PagedList[Run]] = client.search_runs
    token = None
    while True:
        page = store.ask(
            client, search, [experiment_id], filter_string, max_results=RUNS_A_PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def without_collector() -> Iterator[None]:
    """Pause Python's cycle collector in a block that makes a million objects that stay alive.

    The collector would scan these objects repeatedly: without it, 1,000 runs load in 1.0 s instead of 2.0 s.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True)
class StoredRun:
    """A run as the store records it: its ids, its name, its experiment, its status and its tags.

    `trial` is the id of its trial, empty if the run is not that of a trial. `params` are texts.
    """

    run_id: str
    trial: str
    name: str
    experiment: str
    status: str
    started: int
    tags: Mapping[str, str] = field(repr=False)
    params: Mapping[str, str] = field(repr=False)


def runs_called(text: str, experiment: str | None, uri: str | None) -> list[StoredRun]:
    """Return the run with the id `text`, or the runs of trials with this id or name; empty if none has it.

    Parameters
    ----------
    text
        The id of a run, or the id or name of a trial.
    experiment
        The experiment to search; None searches all experiments of the store.
    uri
        The store.

    Raises
    ------
    FnnexpError
        If the store or the experiment does not exist.
    """
    with mlflow_settings(), store.asked_first(uri):
        client = _client_of_existing_store(uri)
        if experiment is None:
            among = list(store.ask(client, client.search_experiments))
        else:
            among = [_existing_experiment(client, experiment, uri)]
        names = {str(each.experiment_id): each.name for each in among}
        return [
            StoredRun(
                run.info.run_id,
                run.data.tags.get(TRIAL, ""),
                run.info.run_name or run.info.run_id,
                names[str(run.info.experiment_id)],
                status_of(run.data.tags.get(STATUS), run.info.status),
                run.info.start_time,
                run.data.tags,
                run.data.params,
            )
            for run in _runs_called(client, text, list(names))
            if str(run.info.experiment_id) in names
        ]


def _runs_called(client: MlflowClient, text: str, experiment_ids: Sequence[str]) -> Iterator[Run]:
    """Yield the run with the id `text`, or the runs of trials with this id or name in these experiments.

    A run with this id may also be in another experiment.
    """
    if re.fullmatch("[0-9a-f]{32}", text) and (run := _run_with_id(client, text)) is not None:
        yield run
        return
    condition = f"tags.`{TRIAL}` LIKE '%'"
    if re.fullmatch("[0-9a-f]{16}", text):
        condition = f"tags.`{TRIAL}` = '{text}'"
    elif "'" not in text:
        condition += f" AND attributes.run_name = '{text}'"  # a name with a quote is sought among all runs
    for experiment_id in experiment_ids:
        for run in _pages(client, experiment_id, condition):
            if text in (run.info.run_name, run.data.tags[TRIAL]):
                yield run


def _run_with_id(client: MlflowClient, run_id: str) -> Run | None:
    """Return the run with this id; None if there is none, or if it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = store.ask(client, client.get_run, run_id)
    except MlflowException as error:
        if error.error_code in GONE:
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def tags_of(run_id: str, uri: str | None) -> Mapping[str, str]:
    """Return the tags of a run; {} if there is no such run."""
    with mlflow_settings(), store.asked_first(uri):
        run = _run_with_id(_client_of_existing_store(uri), run_id)
        return {} if run is None else run.data.tags


def runs_with(tag: str, uri: str | None) -> set[str]:
    """Return the ids of all runs in a store that have a tag, without deleted runs."""
    with mlflow_settings(), store.asked_first(uri):
        client = _client_of_existing_store(uri)
        experiments = store.ask(client, client.search_experiments)
        return {
            run.info.run_id
            for each in experiments
            for run in _pages(client, each.experiment_id, f"tags.`{tag}` LIKE '%'")
        }


def experiment_names(uri: str | None) -> list[str]:
    """Return the names of a store's experiments, the newest first."""
    with mlflow_settings(), store.asked_first(uri):
        client = _client_of_existing_store(uri)
        return [each.name for each in store.ask(client, client.search_experiments)]


def map_runs(experiment: str, uri: str | None, kind: str = MAP) -> list[str]:
    """Return the ids of an experiment's runs with maps, the newest first.

    With ``kind=RANGE_TEST``, return its runs with learning-rate range tests instead.

    Raises
    ------
    FnnexpError
        If the experiment or the store does not exist.
    """
    with mlflow_settings(), store.asked_first(uri):
        client = _client_of_existing_store(uri)
        existing = _existing_experiment(client, experiment, uri)
        runs = list(_pages(client, existing.experiment_id, f"tags.`{kind}` LIKE '%'"))
    return [run.info.run_id for run in runs if run.info.status == "FINISHED"]


class ExperimentSummary(NamedTuple):
    """The numbers of an experiment's trials, maps and range tests, the time of its last run, and its data.

    `trials` is the number of trials, of which `done` are finished or diverged, and `pruned` were stopped
    by a search because others were better. `maps` and `range_tests` are the numbers of those that are
    complete. `last` is in milliseconds since 1970: the latest time at which a run ended, or started if it
    has not ended.
    """

    name: str
    trials: int
    done: int
    pruned: int
    maps: int
    range_tests: int
    last: int
    data: str


def experiment_summaries(uri: str | None) -> list[ExperimentSummary]:
    """Return a summary of each experiment with trials, maps or range tests, the most recent first.

    Raises
    ------
    FnnexpError
        If the store does not exist or does not answer.
    """
    with mlflow_settings(), without_collector(), store.asked_first(uri):
        file = store.store_file(store.full_address(store.address_or_default(uri)))
        rows = None if file is None else sql.summaries(file)
        if rows is None:
            summaries = _summaries_by_client(_client_of_existing_store(uri))
        else:
            summaries = [ExperimentSummary(*row) for row in rows]
    return sorted(summaries, key=lambda summary: (-summary.last, summary.name))


def _summaries_by_client(client: MlflowClient) -> list[ExperimentSummary]:
    """Return a summary of each experiment, in any order, through MLflow's own search."""
    summaries = []
    for experiment in store.ask(client, client.search_experiments):
        of_trials, of_maps, of_tests = (
            list(_pages(client, experiment.experiment_id, f"tags.`{kind}` LIKE '%'"))
            for kind in (TRIAL, MAP, RANGE_TEST)
        )
        whole = [run for run in (*of_maps, *of_tests) if run.info.status == "FINISHED"]
        if runs := [*of_trials, *whole]:
            status = [(run.data.tags[TRIAL], run.data.tags.get(STATUS)) for run in of_trials]
            done = {trial for trial, own in status if own in DONE}
            pruned = {trial for trial, own in status if own == PRUNED} - done
            maps, tests = (
                {run.data.tags[kind] for run in whole if kind in run.data.tags} for kind in (MAP, RANGE_TEST)
            )
            counts = [len(each) for each in (dict(status), done, pruned, maps, tests)]
            last = max(run.info.end_time or run.info.start_time for run in runs)
            data = dict.fromkeys(run.data.params["data"] for run in runs if "data" in run.data.params)
            row = experiment.name, *counts, last, ",".join(data)
            summaries.append(ExperimentSummary(*row))
    return summaries
