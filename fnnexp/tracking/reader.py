"""Everything that is read from MLflow: which trials are known, their runs, their curves."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.nn import layer_stats
from fnnexp.tracking import sql, store
from fnnexp.tracking.retry import mlflow_settings
from fnnexp.tracking.run_format import DONE, RUNNING, STATUS, STATUSES, TRIAL, looks_of
from fnnexp.tracking.schema import NoStoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run
    from mlflow.store.entities import PagedList

    from fnnexp.config.trial import Trial

RUNS_A_PAGE = 1000
NAMES_SHOWN = 20


@dataclass(frozen=True)
class Known:
    """A run that is in the store already, and whether it has diagnostics."""

    run_id: str
    status: str
    diagnosed: bool = False


@dataclass(frozen=True)
class FoundRun:
    """What a sweep needs to know of a trial's run: both statuses, MLflow's and ours."""

    run_id: str
    mlflow_status: str
    trial: str
    status: str
    diagnosed: bool


def known(runs: Iterable[FoundRun]) -> dict[str, Known]:
    """Return the run of each trial id; a finished run goes before any other, and then the newest."""
    found: dict[str, Known] = {}
    for run in runs:
        seen = found.get(run.trial)
        if seen is None or seen.status not in DONE:
            found[run.trial] = Known(run.run_id, run.status, run.diagnosed)
    return found


def known_trials(experiment: str, uri: str | None) -> dict[str, Known]:
    """Return the run of each trial id in an experiment, without making it, or a store."""
    if not store.has_store(uri):
        return {}
    with mlflow_settings(), store.asked_first(uri):
        try:
            client = store.client(uri)
        except NoStoreError:  # a file without a table, or artifacts alone
            return {}
        there = find_experiment(client, experiment)
        if there is None:
            return {}
        return known(trial_runs(client, there.experiment_id))


def trial_runs(client: MlflowClient, experiment_id: str) -> Iterable[FoundRun]:
    """Return what a sweep needs to know of each trial's run, the newest first."""
    file = store.store_file(str(client.tracking_uri))
    rows = None
    if file is not None:
        rows = sql.trials(file, experiment_id, diagnosed=layer_stats.name(0, "z_std"))
    if rows is None:
        return trial_runs_by_client(client, experiment_id)
    return [FoundRun(*row) for row in rows]


def trial_runs_by_client(client: MlflowClient, experiment_id: str) -> Iterator[FoundRun]:
    """Yield the same as :func:`trial_runs` from MLflow's own search, which also a server has."""
    for run in _pages(client, experiment_id, f"tags.`{TRIAL}` LIKE '%'"):
        tags, diagnosed = run.data.tags, layer_stats.has_diagnostics(run.data.metrics)
        yield FoundRun(run.info.run_id, run.info.status, tags[TRIAL], tags.get(STATUS, RUNNING), diagnosed)


def runs_of(known: Mapping[str, Known], trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """Split trials into those that are done and those to run."""
    done = [trial for trial in trials if trial.id in known and known[trial.id].status in DONE]
    finished = {trial.id for trial in done}
    return done, [trial for trial in trials if trial.id not in finished]


def find_experiment(client: MlflowClient, name: str) -> Experiment | None:
    """Return an experiment, or None; a server that is away is waited for as at a start."""
    found: Experiment | None = store.ask(client, client.get_experiment_by_name, name)
    return found


def trials(experiment: str, uri: str | None) -> tuple[MlflowClient, list[Run]]:
    """Return a client, and the run that stands for each trial of the experiment, in order of their start.

    Of several runs of a trial the last one counts that is done, or else the last one.

    Raises
    ------
    FnnexpError
        If there is no such experiment or no such store.
    """
    with mlflow_settings(), without_collector():
        with store.asked_first(uri):
            client = _client_of_what_is_there(uri)
            found = find_experiment(client, experiment)
        if found is None or found.lifecycle_stage != "active":
            names = sorted(each.name for each in client.search_experiments())
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            raise FnnexpError(
                f"There is no experiment '{experiment}' in the store.{did_you_mean(experiment, names)} "
                f"There are: {', '.join(names[:NAMES_SHOWN])}{more}."
            )
        # A filter on our tag would cost more than it saves.
        every = [run for run in _pages(client, found.experiment_id) if TRIAL in run.data.tags]
    chosen: dict[str, Run] = {}
    for run in sorted(every, key=lambda run: (status_of(run) in DONE, run.info.start_time)):
        chosen[run.data.tags[TRIAL]] = run
    return client, sorted(chosen.values(), key=lambda run: (run.info.start_time, run.info.run_name or ""))


def looks(client: MlflowClient, runs: Sequence[Run]) -> list[int]:
    """Return when reports looked at the experiment of some runs: see :data:`LOOKS`."""
    if not runs:
        return []
    with mlflow_settings():
        return looks_of(client.get_experiment(runs[0].info.experiment_id).tags)


def status_of(run: Run) -> str:
    """Return what became of a run's trial, one of :data:`STATUSES`."""
    status = run.data.tags.get(STATUS)
    if status in STATUSES and not (status == RUNNING and run.info.status == "KILLED"):
        return str(status)
    return {"FAILED": "failed", "KILLED": "interrupted"}.get(run.info.status, RUNNING)


def curves(client: MlflowClient, runs: Sequence[Run], metrics: Iterable[str]) -> list[sql.Point]:
    """Return every recorded point of some metrics of some runs."""
    points: list[sql.Point] = []
    with mlflow_settings(), without_collector():
        for metric in metrics:
            having = [run.info.run_id for run in runs if metric in run.data.metrics]
            points += sql.points(client, having, metric)
    return points


def _client_of_what_is_there(uri: str | None) -> MlflowClient:
    """Return a client of a store; looking for an absent SQLite file must not create it."""
    address = store.address_of(uri)
    if not store.has_store(address):
        raise FnnexpError(
            f"No sweep has been recorded here: there is no MLflow store at {store.store_file(address)}. "
            "Run one first, go to its directory, or set MLFLOW_TRACKING_URI."
        )
    store.refuse_unreadable(address)
    return store.client(address)


def _pages(client: MlflowClient, experiment_id: str, filter_string: str = "") -> Iterator[Run]:
    """Yield the runs of an experiment, page by page; a server that is away is waited for as at a start."""
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
    """Keep Python's cycle collector out of a block that makes a million objects that live on.

    It would look through all of them again and again: 1,000 runs are read in 1.0 s instead of 2.0 s.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class ExperimentSummary(NamedTuple):
    """An experiment with trials: how many there are and have finished, the last run's time, and the data.

    `last` is in milliseconds since 1970: the latest end of a run, or start of one that has not ended.
    """

    name: str
    trials: int
    finished: int
    last: int
    data: str


def experiment_summaries(uri: str | None) -> list[ExperimentSummary]:
    """Return a summary of each experiment with trials, the most recent first.

    Raises
    ------
    FnnexpError
        If there is no such store, or it does not answer.
    """
    with mlflow_settings(), without_collector(), store.asked_first(uri):
        file = store.store_file(store.plain(store.given(uri)))
        rows = None if file is None else sql.summaries(file)
        if rows is None:
            summaries = _summaries_by_client(_client_of_what_is_there(uri))
        else:
            summaries = [ExperimentSummary(*row) for row in rows]
    return sorted(summaries, key=lambda summary: (-summary.last, summary.name))


def _summaries_by_client(client: MlflowClient) -> list[ExperimentSummary]:
    """Return the same as :func:`sql.summaries`, in any order, through MLflow's own search."""
    summaries = []
    for experiment in store.ask(client, client.search_experiments):
        runs = list(_pages(client, experiment.experiment_id, f"tags.`{TRIAL}` LIKE '%'"))
        if runs:
            trials = {run.data.tags[TRIAL] for run in runs}
            finished = {run.data.tags[TRIAL] for run in runs if run.data.tags.get(STATUS) in DONE}
            last = max(run.info.end_time or run.info.start_time for run in runs)
            data = dict.fromkeys(run.data.params["data"] for run in runs if "data" in run.data.params)
            summary = ExperimentSummary(experiment.name, len(trials), len(finished), last, ",".join(data))
            summaries.append(summary)
    return summaries
