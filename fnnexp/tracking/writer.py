"""MLflow, written to from here and nowhere else: one run a trial, in an experiment named after the sweep."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import platform
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from fnnexp import __version__
from fnnexp.errors import FnnexpError
from fnnexp.nn import layer_stats as diagnostics
from fnnexp.tracking import collector
from fnnexp.tracking import store as stores
from fnnexp.tracking.retry import AT_START, is_remote, patiently
from fnnexp.tracking.sql import Batch, SqlRuns
from fnnexp.tracking.views import About, description, link

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from numpy.typing import NDArray

    from fnnexp.config.trial import Trial

METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
BEST = ("best_val_accuracy", "best_val_epoch")
"""What a finished run has beside its curves, one value each: its best, and the first epoch that had it."""

MOST_METRICS = 1000
"""As many as MLflow takes in one batch."""

_YAML = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

LIBRARIES = ("numpy", "scipy", "mlflow", "hydra-core", "joblib", "pandas")

FINISHED, DIVERGED, FAILED, RUNNING, INTERRUPTED = "finished", "diverged", "failed", "running", "interrupted"
DELETED = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
"""What MLflow says who writes to a run that somebody deleted."""

DONE = (FINISHED, DIVERGED)
"""The states of a trial that is not run again."""


@dataclass(frozen=True)
class Known:
    """A run that is in the store already, and whether it has diagnostics."""

    run_id: str
    status: str
    diagnosed: bool = False


class Tracker:
    """The runs of one sweep.

    A store over the network that is away is waited for; :attr:`say` tells so.

    Parameters
    ----------
    experiment
        The experiment's name; made when it is not there.
    uri
        The store; None: MLFLOW_TRACKING_URI or MLflow's default.
    about
        What MLflow's UI is to show of the experiment.
    opened
        Called when the store is open.

    Opening the store takes MLflow seconds, so it is done by :meth:`open`, or by what first needs it.
    """

    def __init__(
        self,
        experiment: str,
        uri: str | None,
        about: About | None = None,
        opened: Callable[[], None] | None = None,
    ) -> None:
        self.experiment = experiment
        self.about = about
        self._when_open = opened
        self.say: Callable[[str], None] = stores.on_stderr
        self._told = uri
        self._opened: tuple[MlflowClient, str] | None = None
        self._places: dict[str, str] = {}
        self._undescribed: dict[str, dict[str, str]] = {}
        self._bulk: SqlRuns | None = None
        self._batch: Batch | None = None
        self._unmade: set[str] = set()
        self._ended: set[str] = set()

    @property
    def uri(self) -> str:
        """The store."""
        return self._told or os.environ.get("MLFLOW_TRACKING_URI") or stores.DEFAULT_STORE

    @property
    def is_new(self) -> bool:
        """Whether the experiment is seen not to be there yet, so that none of its trials can be done."""
        return not stores.has_store(self._told) or stores.lacks(self.uri, self.experiment)

    def check(self) -> None:
        """Refuse a store that can't be written, without opening it."""
        stores.refuse_read_only(self.uri)

    def open(self) -> None:
        """Open the store, and the experiment, which is made when it is not there.

        Raises
        ------
        FnnexpError
            When the store does not answer, or the experiment was deleted.
        """
        if self._opened:
            return
        with collector.paused():
            self._open()
        if self._when_open is not None:
            self._when_open()

    def _open(self) -> None:
        with stores.asked_first(self._told):
            plain = stores.client(self._told)
            from mlflow.exceptions import MlflowException

            def find_or_make() -> tuple[Any, str]:
                found: Any = plain.get_experiment_by_name(self.experiment)
                tags = self.about.tags({}) if self.about else {}
                if found is None:
                    place = stores.place_of_artifacts(str(plain.tracking_uri), self.experiment)
                    try:
                        return None, plain.create_experiment(self.experiment, place, tags=tags)
                    except MlflowException as error:  # another machine has made it just now
                        if error.error_code != "RESOURCE_ALREADY_EXISTS":
                            raise
                    found = plain.get_experiment_by_name(self.experiment)
                return found, found.experiment_id

            found, experiment_id = patiently(find_or_make, uri=self.uri, say=self._tell, seconds=AT_START)
            stores.write_ahead(str(plain.tracking_uri))
        if found is not None and found.lifecycle_stage == "deleted":
            raise FnnexpError(
                f"the experiment '{self.experiment}' was deleted in MLflow; `mlflow experiments restore "
                f"--experiment-id {experiment_id}` brings it back, tracking.experiment=NAME takes another"
            )
        self._opened = plain, experiment_id
        self._bulk = SqlRuns.of(plain)
        if self.about:
            self._describe_experiment(self.about, dict(found.tags) if found else self.about.tags({}))

    def _describe_experiment(self, about: About, there: Mapping[str, str]) -> None:
        """Set the views of the experiment and its description, if nobody wrote another."""
        tags = about.tags(there)
        changed = {key: value for key, value in tags.items() if there.get(key) != value}
        if not there.get(REPORTED):
            changed |= _note(there, description(self.experiment, self._id, tags, about.text()))
        for key, value in changed.items():
            self.tag_experiment(key, value)

    def experiment_tags(self) -> Mapping[str, str]:
        """Return the experiment's tags as they are now."""
        return dict(self._client.get_experiment(self._id).tags)

    def tag_experiment(self, key: str, value: str | None) -> None:
        """Set a tag of the experiment, or remove it if it is there; for the latter one does not wait long."""
        from mlflow.exceptions import MlflowException

        if value is not None:
            try:
                self._client.set_experiment_tag(self._id, key, value)
            except MlflowException:  # two that set a new tag at once both insert it, and one is refused
                self._client.set_experiment_tag(self._id, key, value)
            return

        def remove() -> None:
            if key in self._plain.get_experiment(self._id).tags:
                self._plain.delete_experiment_tag(self._id, key)

        try:
            patiently(remove, uri=self.uri, say=self._tell, seconds=AT_START)
        except MlflowException as error:  # another has removed it just now
            if error.error_code not in DELETED:
                raise

    @property
    def is_remote(self) -> bool:
        """Whether the store is a server, which other machines may share."""
        return is_remote(self.uri)

    @property
    def page(self) -> str | None:
        """Where a browser sees the experiment, if the store is a server."""
        return link(self._id, server=self.uri) if self.uri.startswith(("http://", "https://")) else None

    @property
    def _plain(self) -> MlflowClient:
        return self._store()[0]

    @property
    def _client(self) -> _Patient:
        return _Patient(self._plain, self)

    @property
    def _id(self) -> str:
        return self._store()[1]

    def _store(self) -> tuple[MlflowClient, str]:
        """Return the client and the experiment's id, opened if need be."""
        self.open()
        assert self._opened
        return self._opened

    @property
    def is_open(self) -> bool:
        """Whether the store is open."""
        return self._opened is not None

    def known(self, *, mend: bool = False) -> dict[str, Known]:
        """Return the run of each trial id that is in the experiment; a finished one before any other.

        With ``mend`` a run is closed that was finished but for that: whoever did it was killed just then.
        """
        runs: dict[str, Known] = {}
        for run_id, status, trial, state, diagnosed in self._found():
            if mend and status == "RUNNING" and state in DONE:
                self._client.set_terminated(run_id, "FINISHED")
            seen = runs.get(trial)
            if seen is None or seen.status not in DONE:
                runs[trial] = Known(run_id, state, bool(diagnosed))
        return runs

    def _found(self) -> Iterable[tuple[str, str, str, str, bool]]:
        """Return (run id, MLflow's status, trial id, our status, diagnosed) of trials' runs, newest first."""
        file = stores.store_file(self.uri)
        if file is not None:
            told = {"running": RUNNING, "diagnosed": diagnostics.name(0, "z_std")}
            if (rows := stores.rows_of_trials(file, self._id, **told)) is not None:
                return rows
        return self._searched()

    def _searched(self) -> Iterator[tuple[str, str, str, str, bool]]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._id], filter_string="tags.`fnnexp.trial` LIKE '%'", max_results=5000, page_token=token
            )
            for run in page:
                tags = run.data.tags
                status = tags.get("fnnexp.status", RUNNING)
                diagnosed = diagnostics.told_by(run.data.metrics)
                yield run.info.run_id, run.info.status, tags["fnnexp.trial"], status, diagnosed
            token = page.token
            if not token:
                return

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Write what is said of runs meanwhile in one transaction at the end, or nothing of it if that fails.

        So it is with a SQLite store. A server is told at once, run by run.
        """
        self.open()
        if self._bulk is None or self._batch is not None:
            yield
            return
        batch = self._batch = Batch()
        try:
            yield
            patiently(partial(self._bulk.write, batch), uri=self.uri, say=self._tell)
            self._ended |= batch.ends.keys()
        except BaseException:
            self._unmade |= {row["run_uuid"] for row in batch.runs}
            raise
        finally:
            self._batch = None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[SqlRuns, Batch] | None]:
        """Give what writes to a SQLite store, and the batch to add to; None for any other store."""
        with self.together():
            yield None if self._bulk is None or self._batch is None else (self._bulk, self._batch)

    def begin(self, trial: Trial, identical_to: Trial | None = None, *, engine: str = "numpy") -> str:
        """Make the run of a trial that an engine computes, with its tags; return its run id.

        On a server its parameters follow with :meth:`describe`, or with whatever is first written to the run.
        """
        tags = {
            "fnnexp.trial": trial.id,
            "fnnexp.numbers": trial.numbers_id,
            "fnnexp.status": RUNNING,
            "fnnexp.data_checksum": trial.data.checksum,
            "fnnexp.test_images": str(trial.data.n_test),
            "fnnexp.engine": engine,
            **environment(),
        }
        if identical_to is not None:
            tags["fnnexp.identical_to"] = identical_to.id
            tags["fnnexp.identical_to_name"] = identical_to.name
        params = {key: as_param(value) for key, value in trial.params.items()}
        with self._writing() as sql:
            if sql and sql[0].has_example:
                run_id, place = sql[0].begin(sql[1], trial.name, tags)
            else:
                run = self._create(trial.name, tags)
                run_id, place = str(run.info.run_id), str(run.info.artifact_uri)
            if sql and not sql[0].has_example:
                follow = partial(sql[0].follow, run_id, tags)
                patiently(follow, uri=self.uri, say=self._tell)
            if sql:
                sql[1].add(run_id, params=params)
            else:
                self._undescribed[run_id] = params
        self._places[run_id] = place
        return run_id

    def _create(self, name: str, tags: dict[str, str]) -> Any:
        """Make a run, and only one: when the answer was lost, the run is found by its tag."""
        tags["fnnexp.attempt"] = attempt = uuid.uuid4().hex
        asked = False

        def create() -> Any:
            nonlocal asked
            if asked:
                made = self._plain.search_runs(
                    [self._id], filter_string=f"tags.`fnnexp.attempt` = '{attempt}'"
                )
                if made:
                    return made[0]
            asked = True
            return self._plain.create_run(self._id, run_name=name, tags=tags)

        return patiently(create, uri=self.uri, say=self._tell)

    def _tell(self, line: str) -> None:
        self.say(line)

    def describe(self) -> bool:
        """Log the parameters of the next run that waits for them; return whether there was one."""
        if not self._undescribed:
            return False
        self._tag(next(iter(self._undescribed)), {})
        return True

    def engine_of(self, run_id: str) -> str:
        """Return the name of the engine that computes a run; before there was a choice it was numpy."""
        tags = self._client.get_run(run_id).data.tags
        return str(tags.get("fnnexp.engine", "numpy").partition(" ")[0])

    def resume(self, run_id: str) -> int:
        """Set a run running again; return the last epoch whose metrics it holds, or −1."""
        self._ended.discard(run_id)
        self._client.update_run(run_id, status="RUNNING")
        self._tag(run_id, {"fnnexp.status": RUNNING})
        steps = [metric.step for name in METRICS for metric in self._client.get_metric_history(run_id, name)]
        return max(steps, default=-1)

    def log(self, run_id: str, curve: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Log epochs' metrics. What is not finite stays out: MLflow would store it as another number."""
        self._write(run_id, curve, {})

    def finish(
        self,
        run_id: str,
        trial: Trial,
        weights: Mapping[str, NDArray[Any]],
        *,
        seconds_per_epoch: float,
        blas: str,
        engine: str,
        diverged_at: int | None = None,
        curve: Iterable[tuple[int, Mapping[str, float]]] = (),
        best: Mapping[str, float] | None = None,
    ) -> None:
        """Close a run with its artifacts and the rest of its curve, as finished or diverged at an epoch.

        `best` is :func:`best_of` its whole curve.
        """

        def write(folder: Path) -> None:
            text = yaml.dump(dict(trial.config), Dumper=_YAML, sort_keys=False)
            Path(folder, "config.yaml").write_text(text, encoding="utf-8")
            np.savez(Path(folder, "weights.npz"), **weights)  # type: ignore[arg-type]

        place = self._artifacts(run_id)
        patiently(lambda: _file(place, write), uri=self.uri, say=self._tell)
        tags = {
            "fnnexp.status": FINISHED if diverged_at is None else DIVERGED,
            "fnnexp.seconds_per_epoch": f"{seconds_per_epoch:.6g}",
            "fnnexp.blas": blas,
            "fnnexp.engine": engine,
        }
        if diverged_at is not None:
            tags["fnnexp.diverged_epoch"] = str(diverged_at)
        self._write(run_id, [*curve, (0, best or {})], tags, end="FINISHED")

    def fail(self, run_id: str, reason: str, traceback: str) -> None:
        """Close a run as failed, with its reason as a tag and the whole traceback as an artifact."""
        self._tag(run_id, {"fnnexp.status": FAILED, "fnnexp.error": reason[:4000]})
        self._client.log_text(run_id, traceback, "traceback.txt")
        self._client.set_terminated(run_id, "FAILED")

    def interrupt(self, run_id: str) -> None:
        """Close a run that goes on when the same command is started again, if it is there and open."""
        from mlflow.exceptions import MlflowException

        if run_id in self._unmade or run_id in self._ended:
            return
        try:
            self._write(run_id, (), {"fnnexp.status": INTERRUPTED}, end="KILLED")
        except MlflowException as error:
            if error.error_code not in DELETED:
                raise

    def discard(self, run_id: str) -> None:
        """Delete a run that can't go on, so that its trial has one run only."""
        self._undescribed.pop(run_id, None)
        self._client.delete_run(run_id)

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._write(run_id, (), tags)

    def _write(
        self,
        run_id: str,
        curve: Iterable[tuple[int, Mapping[str, float]]],
        tags: Mapping[str, str],
        end: str | None = None,
    ) -> None:
        """Log metrics, tags with the last of them, and MLflow's status if the run ends."""
        with self._writing() as sql:
            if sql:
                sql[1].add(run_id, curve=curve, tags=tags, end=end)
                return
        from mlflow.entities import Param, RunTag

        *batches, last = _batches(curve)
        for batch in batches:
            self._client.log_batch(run_id, metrics=batch)
        params = [Param(key, value) for key, value in self._undescribed.pop(run_id, {}).items()]
        if last or params or tags:
            said = [RunTag(key, value) for key, value in tags.items()]
            self._client.log_batch(run_id, metrics=last, params=params, tags=said)
        if end is not None:
            self._client.set_terminated(run_id, end)
            self._ended.add(run_id)

    def _artifacts(self, run_id: str) -> Any:
        """Return where a run's artifacts go; MLflow's client would read the whole run to find out."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        if run_id not in self._places:
            self._places[run_id] = self._client.get_run(run_id).info.artifact_uri
        return get_artifact_repository(self._places.pop(run_id), tracking_uri=self.uri)


def _file(place: Any, write: Callable[[Path], None]) -> None:
    """Have files written where a run's artifacts go: into the folder itself where that is on this machine."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    if isinstance(place, LocalArtifactRepository):
        folder = Path(place.artifact_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary))
        place.log_artifacts(temporary)


class _Patient:
    """MLflow's client, whose calls wait for a store that is away. All but making a run can be made twice."""

    def __init__(self, plain: MlflowClient, tracker: Tracker) -> None:
        self._plain, self._tracker = plain, tracker

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._plain, name)

        def waiting(*given: Any, **named: Any) -> Any:
            return patiently(lambda: call(*given, **named), uri=self._tracker.uri, say=self._tracker._tell)

        return waiting


def _batches(curve: Iterable[tuple[int, Mapping[str, float]]]) -> list[list[Metric]]:
    """Return a curve's metrics in batches of at most :data:`MOST_METRICS`; the last may be empty.

    An epoch that fits one batch is not cut: whoever is killed between two leaves no epoch half logged.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    batches: list[list[Metric]] = [[]]
    for epoch, values in curve:
        points = [Metric(name, value, now, epoch) for name, value in values.items() if math.isfinite(value)]
        if batches[-1] and len(batches[-1]) + len(points) > MOST_METRICS:
            batches.append([])
        while len(points) > MOST_METRICS:
            batches.insert(-1, points[:MOST_METRICS])
            points = points[MOST_METRICS:]
        batches[-1] += points
    return batches


def best_of(curve: Iterable[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Return the two metrics :data:`BEST` of a curve; none without validation.

    >>> best_of([(1, {"val_accuracy": 0.5}), (2, {"val_accuracy": 0.75}), (3, {"val_accuracy": 0.75})])
    {'best_val_accuracy': 0.75, 'best_val_epoch': 2}
    """
    known = [(values["val_accuracy"], -epoch) for epoch, values in curve if "val_accuracy" in values]
    value, epoch = max((each for each in known if math.isfinite(each[0])), default=(math.nan, 0))
    return dict(zip(BEST, (value, -epoch), strict=True)) if math.isfinite(value) else {}


def as_param(value: Any) -> str:
    """Return a value as MLflow holds it among a run's params."""
    return str(list(value)) if isinstance(value, (list, tuple)) else str(value)


@cache
def environment() -> dict[str, str]:
    """Return the tags that say what ran and where: versions, git commit, machine."""
    tags = {"fnnexp.version": __version__, "fnnexp.python": platform.python_version()}
    for library in LIBRARIES:
        try:
            tags[f"fnnexp.{library}"] = version(library)
        except PackageNotFoundError:  # pragma: no cover - all are dependencies
            continue
    tags["fnnexp.machine"] = (
        f"{platform.node()} ({platform.system()} {platform.machine()}, {os.cpu_count()} cores)"
    )
    commit = _git("rev-parse", "HEAD")
    if commit:
        dirty = _git("status", "--porcelain", "--untracked-files=no")
        tags["fnnexp.git_commit"] = tags["mlflow.source.git.commit"] = commit
        tags["fnnexp.git_dirty"] = str(bool(dirty)).lower()
    tags["mlflow.source.name"] = "fnnexp"
    tags["mlflow.source.type"] = "LOCAL"
    return tags


def _git(*words: str) -> str | None:
    """Return what git says of the working directory, or None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def known_trials(experiment: str, uri: str | None) -> dict[str, Known]:
    """Return :meth:`Tracker.known` of an experiment without making it, or a store."""
    if not stores.has_store(uri):
        return {}
    with stores.asked_first(uri):
        if stores.find_experiment(stores.client(uri), experiment) is None:
            return {}
    return Tracker(experiment, uri).known()


def runs_of(known: Mapping[str, Known], trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """Split trials into those that are done and those to run."""
    done = [trial for trial in trials if trial.id in known and known[trial.id].status in DONE]
    finished = {trial.id for trial in done}
    return done, [trial for trial in trials if trial.id not in finished]


def artifact(run_id: str, name: str, uri: str | None, *, most: int) -> bytes:
    """Return the content of one of a run's artifacts, of at most so many bytes.

    Raises
    ------
    FnnexpError
        When there is none, it is larger, or the store does not give it.
    """
    store = stores.client(uri)
    wait = partial(patiently, uri=str(store.tracking_uri), say=stores.on_stderr, seconds=AT_START)
    try:
        listed = wait(lambda: store.list_artifacts(run_id))
        sizes = {file.path: file.file_size or 0 for file in listed if not file.is_dir}
        if name not in sizes:
            raise FnnexpError(f"its run in MLflow has no artifact {name}")
        with tempfile.TemporaryDirectory() as folder:
            if sizes[name] <= most:
                with _no_bars():
                    wait(lambda: store.download_artifacts(run_id, name, folder))
                with Path(folder, name).open("rb") as stream:
                    content = stream.read(most + 1)
            if sizes[name] > most or len(content) > most:
                raise FnnexpError(f"its artifact {name} is larger than the {most:,} bytes that it can have")
            return content
    except FnnexpError:
        raise
    except Exception as error:  # a store's own exceptions are many
        raise FnnexpError(f"MLflow does not give its artifact {name}: {error}") from error


BARS = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep MLflow from drawing a progress bar for each small file."""
    before = os.environ.get(BARS)
    os.environ[BARS] = "false"
    try:
        yield
    finally:
        os.environ.pop(BARS) if before is None else os.environ.update({BARS: before})


REPORT = "report"
"""The name of the run that holds an experiment's report; it is no trial."""

NOTE, OURS, REPORTED = "mlflow.note.content", "fnnexp.note", "fnnexp.report"
"""The description's tag; and of an experiment the last one's hash, if we wrote it, and its report's run."""


def _note(tags: Mapping[str, str], text: str) -> dict[str, str]:
    """Return the tags that make a text the experiment's description; none where somebody wrote another."""
    now = tags.get(NOTE, "")
    if now and _hash(now) != tags.get(OURS):
        return {}
    return {key: value for key, value in ((OURS, _hash(text)), (NOTE, text)) if tags.get(key) != value}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def log_report(experiment: str, uri: str | None, files: Iterable[Path], said: str) -> str:
    """Log files as the artifacts of the experiment's one report run; return its run id.

    The run has no trial's tag, so no frame and no sweep takes it for one. Logged again, files of the same
    names are replaced. `said`, Markdown, becomes the description of that run, and the first of that of the
    experiment unless somebody wrote another: MLflow's UI shows it above the runs.
    """
    store = stores.client(uri)
    found = stores.find_experiment(store, experiment)
    wait = partial(patiently, uri=str(store.tracking_uri), say=stores.on_stderr, seconds=AT_START)
    ours = wait(lambda: store.search_runs([found.experiment_id], "tags.`fnnexp.report` = 'true'"))
    tags = {REPORTED: "true", **environment()}
    run = ours[0] if ours else store.create_run(found.experiment_id, run_name=REPORT, tags=tags)
    for file in files:
        wait(partial(store.log_artifact, run.info.run_id, str(file)))
    wait(partial(store.set_tag, run.info.run_id, NOTE, said))
    text = description(experiment, found.experiment_id, found.tags, said, run.info.run_id)
    for key, value in {REPORTED: run.info.run_id, **_note(found.tags, text)}.items():
        wait(partial(store.set_experiment_tag, found.experiment_id, key, value))
    if run.info.status != "FINISHED":
        wait(partial(store.set_terminated, run.info.run_id, "FINISHED"))
    return str(run.info.run_id)
