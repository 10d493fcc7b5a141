"""The Tracker writes a sweep to MLflow, one run for each trial, into one experiment."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ParamSpec

from fnnexp.errors import FnnexpError
from fnnexp.tracking import artifacts, reader, saved_views, sql, store
from fnnexp.tracking.environment import environment
from fnnexp.tracking.experiment import About, find_or_make
from fnnexp.tracking.reader import FoundRun, Known
from fnnexp.tracking.retry import Answer, StoreError, is_remote, patiently, shown
from fnnexp.tracking.run_format import (
    CLASS_NAMES,
    COMMAND,
    DONE,
    ENGINE,
    FAILED,
    GONE,
    HISTOGRAMS,
    INTERRUPTED,
    LONGEST_TAG,
    METRICS,
    PRUNED,
    PRUNED_EPOCH,
    RUNNING,
    STATUS,
    TRIAL,
    TUNING,
    Curve,
    as_param,
    batches_of,
    class_names_tag,
    engine_name,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

    from fnnexp.config.trial import Trial
    from fnnexp.nn.arrays import Array

P = ParamSpec("P")


class ExperimentGoneError(StoreError):
    """Raised if the experiment was deleted during the sweep: nothing more can be logged."""


class Tracker:
    """Writes the runs of one sweep to MLflow, from the sweep's main process.

    Parameters
    ----------
    experiment
        The experiment's name. The experiment is created if it does not exist.
    uri
        The store; None: MLFLOW_TRACKING_URI or MLflow's default.
    about
        The experiment's page in MLflow's UI.

    MLflow takes seconds to open the store. So only :meth:`open`, or the first method that needs the store,
    opens it.

    Attributes
    ----------
    gone
        The runs that were deleted during the sweep. Nothing more is written to them.
    tuning
        The tuned comparison that new runs tune, as the value of their tag :data:`TUNING`; None for ordinary
        runs.
    """

    def __init__(self, experiment: str, uri: str | None, about: About | None = None) -> None:
        self.experiment = experiment
        self.about = about
        self.say: Callable[[str], None] = store.on_stderr
        self._given_uri = uri
        self._opened: tuple[MlflowClient, str] | None = None
        self._described = False
        self._artifact_uris: dict[str, str] = {}
        self._undescribed: dict[str, dict[str, str]] = {}
        self._sql: sql.SqlRuns | None = None
        self._batch: sql.Batch | None = None
        self.gone: set[str] = set()
        self.tuning: str | None = None

    # The store and the experiment

    @property
    def uri(self) -> str:
        """The store's address."""
        return store.address_or_default(self._given_uri)

    @property
    def is_remote(self) -> bool:
        """Whether the store is a server, which several machines may share."""
        return is_remote(self.uri)

    @property
    def is_new(self) -> bool:
        """Whether the experiment certainly does not exist yet, so that none of its trials can be done."""
        file = store.store_file(self.uri)
        lacks = file is not None and sql.lacks_experiment(file, self.experiment)
        return (lacks and store.is_up_to_date(self.uri)) or not store.has_store(self._given_uri)

    @property
    def is_open(self) -> bool:
        """Whether the store is open."""
        return self._opened is not None

    @property
    def page(self) -> str | None:
        """The address of the experiment's page for a browser, if the store is a server."""
        is_server = self.uri.startswith(("http://", "https://"))
        return saved_views.link(self._id, server=shown(self.uri)) if is_server else None

    def check(self) -> None:
        """Raise if the store can't be written, without opening it."""
        store.refuse_read_only(self.uri)

    def open(self, *, describe: bool = True) -> None:
        """Open the store and the experiment, and create them if they do not exist.

        It also sets the experiment's views and description, unless `describe` is false: this takes
        seconds if the store has many trials. On a server :meth:`known` sets them.

        Raises
        ------
        FnnexpError
            If the store does not answer, or the experiment was deleted.
        """
        if not self._opened:
            self._open()
        if describe and not self._described and not self.is_remote:
            self._described = True
            self._describe(reader.trial_params(self._client, self._id))

    def _open(self) -> None:
        with store.asked_first(self._given_uri):
            open_client = partial(store.client, self._given_uri, writing=True, say=self.say)
            client = patiently(open_client, uri=self.uri, say=self.say, at_start=True)
            address = store.address_of(self._given_uri)
            if line := artifacts.correct_addresses(address):
                self.say(line)
            find = partial(find_or_make, client, self.experiment, self.about)
            experiment = patiently(find, uri=self.uri, say=self.say, at_start=True)
            if (file := store.store_file(str(client.tracking_uri))) is not None:
                sql.write_ahead(file)
        if experiment.lifecycle_stage == "deleted":
            message = store.deleted(self.experiment, experiment.experiment_id, self.uri)
            raise FnnexpError(f"{message}, tracking.experiment=NAME uses another experiment")
        if line := artifacts.location_note(self.experiment, experiment.artifact_location, address):
            self.say(line)
        self._opened = client, experiment.experiment_id
        self._sql = sql.SqlRuns.of(client)
        if self._sql is None and not self.is_remote and (changed := sql.changed()):
            self.say(changed)

    def tidy(self) -> None:
        """Let a SQLite store note how many rows it has, and empty its write-ahead log.

        See :func:`fnnexp.tracking.sql.note_sizes` and :func:`fnnexp.tracking.sql.empty_log`.
        """
        if (file := store.store_file(self.uri)) is not None:
            sql.note_sizes(file)
            sql.empty_log(file)

    def _describe(self, stored: Iterable[Mapping[str, str]]) -> None:
        """Set the experiment's views and description. `stored` are the params of the trials in the store."""
        if self.about:
            about = replace(self.about, stored=stored)
            for key, value in about.changed_tags(self._id, self._experiment().tags).items():
                self.tag_experiment(key, value)

    def describe_again(self, trials: Iterable[Mapping[str, str]]) -> None:
        """Set the views and description anew for a sweep that chose its trials itself, such as a search.

        `trials` are the params of these trials.
        """
        if self.about and self.is_open:
            self.about = replace(self.about, params=trials)
            self._describe(reader.trial_params(self._client, self._id))

    def experiment_tags(self) -> Mapping[str, str]:
        """Return the experiment's current tags."""
        return dict(self._experiment().tags)

    def _experiment(self) -> Experiment:
        """Return the experiment as it is in the store now.

        Raises
        ------
        ExperimentGoneError
            If it was deleted.
        """
        from mlflow.exceptions import MlflowException

        experiment, remedy = None, "the same command creates it again"
        with contextlib.suppress(MlflowException):
            experiment = self._ask(self._client.get_experiment, self._id)
        if experiment is not None and experiment.lifecycle_stage == "active":
            return experiment
        if experiment is not None:
            remedy = f"`mlflow experiments restore --experiment-id {self._id}` restores it"
        raise ExperimentGoneError(
            f"the experiment '{self.experiment}' was deleted in MLflow during the sweep; {remedy}, and "
            "running trials resume; tracking.experiment=NAME uses another experiment"
        )

    def tag_experiment(self, key: str, value: str) -> None:
        """Set a tag of the experiment."""
        from mlflow.exceptions import MlflowException

        try:
            self._ask(self._client.set_experiment_tag, self._id, key, value)
        except MlflowException:  # if two sweeps insert a new tag at once, the second insert fails
            self._experiment()
            self._ask(self._client.set_experiment_tag, self._id, key, value)

    def untag_experiment(self, key: str) -> None:
        """Remove a tag of the experiment if it exists. Wait only briefly for a server that is away."""
        from mlflow.exceptions import MlflowException

        def remove() -> None:
            if key in self._experiment().tags:
                self._client.delete_experiment_tag(self._id, key)

        try:
            patiently(remove, uri=self.uri, say=self.say, at_start=True)
        except MlflowException as error:  # another sweep may have removed it meanwhile
            if error.error_code not in GONE:
                raise

    @property
    def _client(self) -> MlflowClient:
        """MLflow's client. Calls that may have to wait for the store go through :meth:`_ask`."""
        return self._store()[0]

    @property
    def _id(self) -> str:
        return self._store()[1]

    def _store(self) -> tuple[MlflowClient, str]:
        """Return the client and the experiment's id. Open the store if necessary."""
        self.open(describe=False)
        assert self._opened
        return self._opened

    def _ask(self, call: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """Return the result of a call to the store, and repeat the call while the store is away."""
        return patiently(partial(call, *args, **kwargs), uri=self.uri, say=self.say)

    # Runs

    def known(self) -> dict[str, Known]:
        """Return the run that counts for each trial id in the experiment: a run that is done if there is one.

        Also close runs of finished trials that a killed sweep left open, and on a server set the
        experiment's views and description.
        """
        runs: Iterable[FoundRun] = reader.trial_runs(self._client, self._id)
        if self.is_remote:
            runs = list(runs)
            self._describe([run.params for run in runs])
        left_open: list[str] = []

        def looked_at() -> Iterator[FoundRun]:
            for run in runs:
                if run.mlflow_status == "RUNNING" and run.status in DONE:
                    left_open.append(run.run_id)
                yield run

        known = reader.known(looked_at())
        for run_id in left_open:
            self._ask(self._client.set_terminated, run_id, "FINISHED")
        return known

    @contextlib.contextmanager
    def together(self) -> Iterator[sql.Batch | None]:
        """Collect what the block logs, and write all of it at the end in one transaction, or nothing.

        This yields the batch if the store is SQLite. With a server, calls write at once, run by run.
        """
        self.open()
        if self._sql is None or self._batch is not None:
            yield self._batch
            return
        batch = self._batch = sql.Batch()
        try:
            yield batch
            self._note_gone(self._ask(self._sql.write, batch))
        finally:
            self._batch = None

    def _note_gone(self, runs: set[str]) -> None:
        """Record that these runs were deleted, so that nothing more is written to them.

        Raise if the whole experiment was deleted.
        """
        if runs:
            self._experiment()
            self.gone |= runs

    @contextlib.contextmanager
    def _if_there(self, run_id: str) -> Iterator[None]:
        """Suppress the client's error if a run was deleted, and record that run."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if error.error_code not in GONE or not self._is_gone(run_id):
                raise
            self._note_gone({run_id})

    def _is_gone(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return str(self._ask(self._client.get_run, run_id).info.lifecycle_stage) != "active"
        except MlflowException as error:
            return error.error_code in GONE

    def begin(
        self,
        trial: Trial,
        identical_to: Trial | None = None,
        *,
        engine: str = "numpy",
        went_on_from: int | None = None,
    ) -> str:
        """Create the run of a trial with its tags, and return the run's id.

        `identical_to` is a trial with the same numbers, if the sweep has one. If the trial goes on
        from the final state of a trial with fewer epochs, `went_on_from` is their number. On a
        server, the params follow with :meth:`describe` or with the first write to the run.
        """
        tags = {
            TRIAL: trial.id,
            "fnnexp.numbers": trial.numbers_id,
            STATUS: RUNNING,
            "fnnexp.data_checksum": trial.data.checksum,
            "fnnexp.train_images": str(trial.recipe.rows_to_train(trial.data.n_train)),
            "fnnexp.test_images": str(trial.data.n_test),
            "fnnexp.classes": str(trial.recipe.architecture.classes),
            "fnnexp.parameters": str(trial.recipe.architecture.parameter_count),
            ENGINE: engine,
            **environment(),
        }
        if self.about and self.about.command and len(self.about.command) <= LONGEST_TAG:
            tags[COMMAND] = self.about.command
        if self.tuning is not None:
            tags[TUNING] = self.tuning
        if went_on_from is not None:
            tags["fnnexp.went_on_from_epoch"] = str(went_on_from)
        if trial.data.class_names:
            tags[CLASS_NAMES] = class_names_tag(trial.data.class_names)
        if trial.data.notes:
            tags["fnnexp.data_notes"] = "; ".join(trial.data.notes)
        if identical_to is not None:
            tags["fnnexp.identical_to"] = identical_to.id
            tags["fnnexp.identical_to_name"] = identical_to.name
        params = {key: as_param(value) for key, value in trial.params.items()}
        with self.together() as batch:
            if self._sql is not None and batch is not None and self._sql.has_example:
                run_id, artifact_uri = self._sql.begin(batch, trial.name, tags)
            else:
                run = self._create(trial.name, tags)
                run_id, artifact_uri = str(run.info.run_id), str(run.info.artifact_uri)
                if self._sql is not None:
                    self._ask(self._sql.follow, run_id, tags)
            if batch is not None:
                batch.add(run_id, params=params)
            else:
                self._undescribed[run_id] = params
        self._artifact_uris[run_id] = artifact_uri
        return run_id

    def _create(self, name: str, tags: dict[str, str]) -> Run:
        """Create exactly one run. If the store's answer was lost, find the run by its tag."""
        from mlflow.exceptions import MlflowException

        tags["fnnexp.attempt"] = attempt = uuid.uuid4().hex
        requested = False

        def create() -> Run:
            nonlocal requested
            if requested:
                created = self._client.search_runs([self._id], f"tags.`fnnexp.attempt` = '{attempt}'")
                if created:
                    return created[0]
            requested = True
            return self._client.create_run(self._id, run_name=name, tags=tags)

        try:
            return patiently(create, uri=self.uri, say=self.say)
        except MlflowException as error:
            if error.error_code in GONE:
                self._experiment()
            raise

    def describe(self) -> bool:
        """Log the params of one run that still lacks them, and return whether such a run existed."""
        if not self._undescribed:
            return False
        self._write(next(iter(self._undescribed)))
        return True

    def engine_of(self, run_id: str) -> str | None:
        """Return the name of the engine that computes a run, or None if the run was deleted meanwhile.

        If the run has no tag that names the engine, it is an old run, which NumPy computed.
        """
        if self._is_gone(run_id):
            return None
        tags = self._ask(self._client.get_run, run_id).data.tags
        return engine_name(tags.get(ENGINE))

    def resume(self, run_id: str) -> int:
        """Set a run to running again, and return its last epoch with metrics, or −1 if there is none."""
        self._ask(self._client.update_run, run_id, status="RUNNING")
        self._write(run_id, tags={STATUS: RUNNING})
        history = self._client.get_metric_history
        points = [point for name in METRICS for point in self._ask(history, run_id, name)]
        return max((point.step for point in points), default=-1)

    def tag(self, run_id: str, key: str, value: str) -> None:
        """Set a tag of a run."""
        self._write(run_id, tags={key: value})

    def log(self, run_id: str, curve: Curve) -> None:
        """Log metrics by epoch. Only finite values are logged, since MLflow would change the others."""
        self._write(run_id, curve)

    def pause(self, run_id: str, curve: Curve) -> None:
        """Log metrics by epoch, and close a run as interrupted. A later sweep resumes it."""
        self._write(run_id, curve, {STATUS: INTERRUPTED}, end="KILLED")

    def prune(self, epochs: Mapping[str, int]) -> None:
        """Close runs as pruned, each at its epoch in `epochs`. A sweep of the whole grid resumes them."""
        with self.together():
            for run_id, epoch in epochs.items():
                self._write(run_id, tags={STATUS: PRUNED, PRUNED_EPOCH: str(epoch)}, end="KILLED")

    def finish(
        self,
        run_id: str,
        trial: Trial,
        weights: Mapping[str, Mapping[str, Array]],
        *,
        seconds_per_epoch: float,
        blas: str,
        engine: str,
        how: Mapping[str, str],
        curve: Curve = (),
        best: Mapping[str, float] | None = None,
        histograms: Mapping[str, Array] | None = None,
    ) -> None:
        """Log a run's artifacts and the rest of its curve, and close it as finished or diverged.

        `weights` are the arrays of each file. `how` is the result of :func:`tags_of_end`, and `best` that of
        :func:`best_of` for the whole curve. `histograms` are the arrays of their file, if there are any.
        """
        files = {**weights, artifacts.HISTOGRAMS: histograms} if histograms else weights
        with self._if_there(run_id):
            self._ask(self._files_of(run_id).write, trial.config, files)
        tags = {
            **how,
            "fnnexp.seconds_per_epoch": f"{seconds_per_epoch:.6g}",
            "fnnexp.blas": blas,
            ENGINE: engine,
        }
        if histograms:
            tags[HISTOGRAMS] = str(len(histograms["epoch"]))
        self._write(run_id, [*curve, (0, best or {})], tags, end="FINISHED")

    def fail(self, run_id: str, reason: str, traceback: str) -> None:
        """Close a run as failed, with the reason as a tag and the whole traceback as an artifact."""
        self._write(run_id, tags={STATUS: FAILED, "fnnexp.error": reason[:4000]})
        with self._if_there(run_id):
            self._ask(self._files_of(run_id).write_text, "traceback.txt", traceback)
            self._ask(self._client.set_terminated, run_id, "FAILED")

    def _files_of(self, run_id: str) -> artifacts.RunFiles:
        """Return the writer of a run's artifacts. Its address is asked for once, when the run ends."""
        address = self._artifact_uris.pop(run_id, None)
        if address is None:
            address = str(self._ask(self._client.get_run, run_id).info.artifact_uri)
        return artifacts.RunFiles(run_id, address, self.uri)

    def interrupt(self, run_id: str) -> None:
        """Close a run, if it exists and is open, as interrupted. The same command resumes it."""
        from mlflow.exceptions import MlflowException

        try:
            if self._ask(self._client.get_run, run_id).info.status == "RUNNING":
                self._write(run_id, tags={STATUS: INTERRUPTED}, end="KILLED")
        except MlflowException as error:
            if error.error_code not in GONE:
                raise

    def discard(self, run_id: str) -> None:
        """Delete a run that can't resume, because a new run of its trial replaces it."""
        self._undescribed.pop(run_id, None)
        with self._if_there(run_id):
            self._ask(self._client.delete_run, run_id)

    def _write(
        self, run_id: str, curve: Curve = (), tags: Mapping[str, str] | None = None, end: str | None = None
    ) -> None:
        """Log metrics, then tags, then MLflow's status if the run ends."""
        if run_id in self.gone:
            self._undescribed.pop(run_id, None)
            return
        with self.together() as batch:
            if batch is not None:
                batch.add(run_id, curve=curve, tags=tags, end=end)
                return
        with self._if_there(run_id):
            self._write_by_client(run_id, curve, tags, end)

    def _write_by_client(
        self, run_id: str, curve: Curve, tags: Mapping[str, str] | None, end: str | None
    ) -> None:
        """Log to a run by MLflow's client in as few requests as possible."""
        from mlflow.entities import Param, RunTag

        *batches, last = batches_of(curve)
        for metrics in batches:
            self._ask(self._client.log_batch, run_id, metrics=metrics)
        params = [Param(key, value) for key, value in self._undescribed.pop(run_id, {}).items()]
        if last or params or tags:
            run_tags = [RunTag(key, value) for key, value in (tags or {}).items()]
            self._ask(self._client.log_batch, run_id, metrics=last, params=params, tags=run_tags)
        if end is not None:
            self._ask(self._client.set_terminated, run_id, end)
