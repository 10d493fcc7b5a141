"""A sweep's experiment in MLflow: its creation, description and views, and the run of its report."""

from __future__ import annotations

import hashlib
import itertools
import math
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from fnnexp.config.commands import report_command
from fnnexp.errors import FnnexpError
from fnnexp.tracking import artifacts, saved_views, store
from fnnexp.tracking.environment import environment
from fnnexp.tracking.reader import find_experiment
from fnnexp.tracking.retry import mlflow_settings
from fnnexp.tracking.run_format import (
    ASKED,
    ENGINE,
    LONGEST_TAG,
    LOOKS,
    MAP,
    NOTE,
    RANGE_TEST,
    REPORTED,
    Asked,
    looks_of,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

REPORT = "report"
"""The name of the run that contains an experiment's report. This run is not a trial."""

NOTE_HASH, COMMANDS = "fnnexp.note", "fnnexp.commands"
"""Tags of an experiment: the hash of the last description that fnnexp wrote; the commands of its sweeps."""

KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"

FIRST = ("arch", "init", "batching", "seed")
"""The params in the first columns of MLflow's table. Other params follow if :meth:`About._varies_beside`."""

LABELS = ("experiment",)
"""Params that only name the values of other params, as a preset does."""

MOST_OTHERS = 6
"""Maximum number of columns for other params; a tag has no room for more columns."""

LONGEST_PART = 2000
"""Maximum number of characters of the commands, and of a description's summary. A tag may have 5,000."""


@dataclass(frozen=True)
class About:
    """What MLflow's UI shows of an experiment: a description and saved views, made from its trials.

    The trials are those of a sweep and those that the store has from earlier sweeps.

    Attributes
    ----------
    experiment
        The experiment's name.
    params
        The params of each of the sweep's trials.
    command
        The command line as typed; None if the sweep was started from Python.
    store
        The command-line option that selects the store, from :func:`fnnexp.tracking.store.option`.
    stored
        The params of each trial in the store, from earlier sweeps into the experiment.
    """

    experiment: str
    params: Iterable[Mapping[str, str]]
    command: str | None = None
    store: str = ""
    stored: Iterable[Mapping[str, str]] = ()

    def tags(self, existing: Mapping[str, str]) -> dict[str, str]:
        """Return the experiment's tags without its description, given the existing tags."""
        before = [line for line in existing.get(COMMANDS, "").splitlines() if line != self.command]
        commands = _last([*before, self.command] if self.command else before)
        made_by = {COMMANDS: "\n".join(commands)} if commands else {}
        trials = saved_views.Trials(self._count, self._trials.rows, self._values)
        views = saved_views.tags(trials, self._columns, self.configuration_keys, self._splits)
        return {KIND: TRAINING, **existing, **views, **made_by}

    def text(self) -> str:
        """Return one sentence that describes the experiment's trials."""
        counts = {key: len(self._values(key)) for key in self._columns}
        varied = [f"{key} ({count})" for key, count in counts.items() if count > 1]
        data = " and ".join(sorted(filter(None, self._values("data"))))
        if self._count == 1:
            return f"One trial on {data}."
        is_grid = math.prod(counts.values()) == self._count
        by = f": {(' × ' if is_grid else ', ').join(varied)}" if varied else ""
        return f"{self._count} trials on {data}, one run each{by}."

    def changed_tags(self, experiment_id: str, existing: Mapping[str, str]) -> dict[str, str]:
        """Return the experiment's tags that differ from the existing tags, with its description.

        A description that a user wrote, or that comes from a report, stays.
        """
        tags = self.tags(existing)
        changed = {key: value for key, value in tags.items() if existing.get(key) != value}
        if existing.get(REPORTED):
            return changed
        command = report_command(self.experiment, store=self.store)
        return changed | _note(existing, description(experiment_id, tags, self.text(), command))

    @cached_property
    def _trials(self) -> _Configurations:
        """The configurations of the trials in the sweep or the store. Trials are read once."""
        return _Configurations(itertools.chain(self.stored, self.params))

    @property
    def _count(self) -> int:
        """The number of trials."""
        return sum(len(seeds) for seeds in self._trials.seeds.values())

    def _values(self, key: str) -> set[str | None]:
        """Return the values of a param; None stands for trials without it."""
        return self._trials.values(key)

    @cached_property
    def configuration_keys(self) -> list[str]:
        """The params that distinguish configurations: trials that agree in all of them differ only in seed.

        A param is skipped if the params before it determine its value, as ``init`` determines
        ``init.method``.
        """
        others = set(self._trials.keys) - {*FIRST, *LABELS}
        options_first = sorted(others, key=lambda key: ("." in key, key))
        chosen: list[str] = []
        groups = [[*self._trials.seeds]]
        for key in (*[key for key in FIRST if key != "seed"], *options_first, *LABELS):
            split = [part for group in groups for part in self._trials.by_value(group, key)]
            if len(split) > len(groups):
                chosen.append(key)
                groups = split
        return chosen

    @property
    def _splits(self) -> list[str]:
        """The splits whose metrics the views show. The first split ranks the trials.

        Validation metrics rank only if every trial has them, as in the report.
        """
        validated = {(value or "0") != "0" for value in self._values("data.validation")}
        if len(validated) == 1:
            return ["val" if validated.pop() else "test"]
        return ["test", "val"]

    @cached_property
    def _columns(self) -> list[str]:
        """The params to show as columns of MLflow's table."""
        others = sorted(set(self._trials.keys) - {*FIRST})
        return [*FIRST, *[key for key in others if self._varies_beside(key)][:MOST_OTHERS]]

    def _varies_beside(self, key: str) -> bool:
        """Return whether a param has several values among trials that otherwise look alike.

        They look alike if they have the same option of its group and the same params :data:`FIRST`.
        So the params that an option sets, such as ``init.method``, do not count as varying.
        """
        agreed = sorted({*FIRST, key.partition(".")[0]} - {key, "seed"})
        values = defaultdict(set)
        for *others, value in self._trials.rows([*agreed, key]):
            values[tuple(others)].add(value)
        return any(len(distinct) > 1 for distinct in values.values())


Row = tuple[str | None, ...]


class _Configurations:
    """The different configurations among trials, each with its seeds.

    A configuration is a row of values of params, without the seed. A trial that is given twice counts
    once. A sweep of 100,000 learning rates has as many configurations, so a row is a tuple and equal
    texts are kept once.

    Attributes
    ----------
    keys
        The position of each param in a row. If a trial lacks a param, the row has None there, or is shorter.
    seeds
        The seeds of each row.
    """

    def __init__(self, trials: Iterable[Mapping[str, str]]) -> None:
        self.keys: dict[str, int] = {}
        self.seeds: dict[Row, set[str | None]] = {}
        texts: dict[str, str] = {}
        for params in trials:
            row: list[str | None] = [None] * len(self.keys)
            for key, text in params.items():
                if key == "seed":
                    continue
                if self.keys.setdefault(key, len(self.keys)) == len(row):
                    row.append(None)
                row[self.keys[key]] = texts.setdefault(text, text)
            while row and row[-1] is None:
                row.pop()
            self.seeds.setdefault(tuple(row), set()).add(params.get("seed"))

    def values(self, key: str) -> set[str | None]:
        """Return the values of a param."""
        if key == "seed":
            return set().union(*self.seeds.values())
        return {value for (value,) in self.rows([key])}

    def rows(self, keys: Sequence[str]) -> Iterator[Row]:
        """Yield the values of these params, which do not include the seed, in each configuration."""
        places = [self.keys.get(key, len(self.keys)) for key in keys]
        for row in self.seeds:
            yield tuple(row[place] if place < len(row) else None for place in places)

    def by_value(self, rows: Iterable[Row], key: str) -> list[list[Row]]:
        """Split rows into lists with the same value of a param each."""
        place = self.keys.get(key, len(self.keys))
        groups = defaultdict(list)
        for row in rows:
            groups[row[place] if place < len(row) else None].append(row)
        return list(groups.values())


def find_or_make(client: MlflowClient, name: str, about: About | None) -> Experiment:
    """Return the experiment of a sweep, and create it with its tags if it does not exist."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        address = store.place_of_artifacts(str(client.tracking_uri), name)
        try:
            # A copy of `about`, since `about` would keep what it read of each trial during the sweep.
            client.create_experiment(name, address, tags=replace(about).tags({}) if about else {})
        except MlflowException as error:  # another machine may have created it meanwhile
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return experiment


def description(
    experiment_id: str, tags: Mapping[str, str], summary: str, command: str, report: str | None = None
) -> str:
    """Return an experiment's description in Markdown.

    Parameters
    ----------
    experiment_id, tags
        The experiment's id and tags. The tags contain its views and the commands that made it.
    summary
        The first part. MLflow shows only its first line until a user expands the description.
    command
        The command that makes the report.
    report
        The address of the report below the experiment's page, `RUN/artifacts/PAGE`, if it exists.
    """
    parts = [_cut(summary)]
    if report is not None:
        page = saved_views.page(experiment_id, below=f"/{report}")[1:]
        parts.append(f"[The whole report]({page}). `{command}` updates it with the trials trained since.")
    if links := saved_views.links(experiment_id, tags):
        parts.append(f"Views: {' · '.join(links)}. MLflow loads 100 runs; click *Load more* for others.")
    if tags.get(COMMANDS):
        lines = "\n".join(f"    {line}" for line in tags[COMMANDS].splitlines())
        parts.append(f"Made by\n\n{lines}")
    if report is None:
        parts.append(f"`{command}` compares the trials.")
    return "\n\n".join(parts)


def record_look(experiment: str, uri: str | None, when: int) -> None:
    """Record that a report read the experiment's trials at a time in milliseconds.

    Statistical tests depend on this: most are valid only if the results of all seeds are seen together, for
    the first time. Seeds that are trained after this time are first seen by a later report.

    Raises
    ------
    FnnexpError
        If the store was written by an older MLflow version and is only read, or the experiment was deleted.
    """
    address = store.address_of(uri)
    _refuse_older(address)
    with mlflow_settings():
        client = store.client(uri)
        existing = _existing_experiment(client, experiment)
        looks = sorted({*looks_of(existing.tags), when})[-LONGEST_TAG // 20 :]
        text = " ".join(map(str, looks))
        store.ask(client, client.set_experiment_tag, existing.experiment_id, LOOKS, text)


def record_asked(experiment: str, uri: str | None, asked: Asked) -> None:
    """Record in the experiment what a sweep with ``until=settled`` compares; reports answer this first.

    Raises
    ------
    FnnexpError
        If the experiment was deleted.
    """
    text = asked.as_tag()
    with mlflow_settings():
        client = store.client(uri)
        existing = _existing_experiment(client, experiment)
        if text is not None and existing.tags.get(ASKED) != text:
            store.ask(client, client.set_experiment_tag, existing.experiment_id, ASKED, text)


def _refuse_older(address: str) -> None:
    if not store.is_up_to_date(address):
        raise FnnexpError(
            "the store was written by an older MLflow version and was only read; a sweep into it or "
            "`fnnexp ui` upgrades it"
        )


def _existing_experiment(client: MlflowClient, name: str) -> Experiment:
    """Return an experiment; raise if it was deleted."""
    experiment = find_experiment(client, name)
    if experiment is None:
        raise FnnexpError(f"There is no experiment '{name}' in the store any more.")
    return experiment


def log_report(experiment: str, uri: str | None, files: Sequence[Path], summary: str, command: str) -> str:
    """Log a report's files to the MLflow run for reports of this experiment, and return the run's id.

    The run lacks the tag of a trial, so frames and sweeps ignore it. Existing files of the same names are
    replaced.

    Parameters
    ----------
    experiment, uri
        The experiment and its store.
    files
        The report's files, the page first.
    summary
        The description of the run in Markdown. It also begins the experiment's description, which MLflow's
        UI shows above the runs, unless a user wrote another description.
    command
        The command that makes the report.
    """
    address = store.address_of(uri)
    _refuse_older(address)
    with mlflow_settings():
        client = store.client(uri)
        if line := artifacts.correct_addresses(address):
            store.on_stderr(line)
        existing = _existing_experiment(client, experiment)
        experiment_id = existing.experiment_id
        artifacts.local(existing.artifact_location, address)
        reports = store.ask(client, client.search_runs, [experiment_id], f"tags.`{REPORTED}` = 'true'")
        tags = {REPORTED: "true", **environment()}
        run = reports[0] if reports else client.create_run(experiment_id, run_name=REPORT, tags=tags)
        run_id = str(run.info.run_id)
        repository = artifacts.repository(run_id, str(run.info.artifact_uri), address)
        if line := artifacts.location_note(experiment, str(run.info.artifact_uri), address):
            store.on_stderr(line)
        for file in files:
            store.ask(client, repository.log_artifact, str(file))
        store.ask(client, client.set_tag, run_id, NOTE, summary)
        page = f"{run_id}/artifacts/{files[0].name}"
        text = description(experiment_id, existing.tags, summary, command, page)
        for key, value in {REPORTED: run_id, **_note(existing.tags, text)}.items():
            store.ask(client, client.set_experiment_tag, experiment_id, key, value)
        if run.info.status != "FINISHED":
            store.ask(client, client.set_terminated, run_id, "FINISHED")
    return run_id


FILES_OF = {
    MAP: "Maps of two numeric axes, one run each: `map.npz` has the arrays, `map.png` is the picture.",
    RANGE_TEST: "Learning-rate range tests, one run each: `lr.csv` has the suggested rates, `lr_curves.csv` "
    "the losses, and `lr.png` is the picture.",
}
"""For each kind of run, the description of an experiment that has only such runs."""


class MapLog:
    """Writes the run of a map (trials for all pairs of values on two axes) or of a learning-rate range test.

    Use it within :func:`fnnexp.tracking.retry.mlflow_settings`.

    Parameters
    ----------
    experiment, uri
        The experiment, which is made if it does not exist, and its store.
    kind
        :data:`MAP` or :data:`RANGE_TEST`: the name of the tag that has the hash of the run's trials.
    """

    def __init__(self, experiment: str, uri: str | None, kind: str = MAP) -> None:
        self.experiment, self._uri, self._kind = experiment, uri, kind
        self._opened: tuple[MlflowClient, Experiment] | None = None

    def check(self) -> None:
        """Raise if the store can't be written, without opening it."""
        store.refuse_read_only(store.address_or_default(self._uri))

    def open(self) -> None:
        """Open the store and the experiment, and create them if they do not exist; this takes seconds.

        Raises
        ------
        FnnexpError
            If the store does not answer, or the experiment was deleted.
        """
        if self._opened is not None:
            return
        with store.asked_first(self._uri):
            client = store.client(self._uri, writing=True)
            address = store.address_of(self._uri)
            if line := artifacts.correct_addresses(address):
                store.on_stderr(line)
            existing = store.ask(client, find_or_make, client, self.experiment, None)
        if existing.lifecycle_stage == "deleted":
            raise FnnexpError(
                f"{store.deleted(self.experiment, existing.experiment_id, address)}, "
                "tracking.experiment=NAME uses another experiment"
            )
        artifacts.local(existing.artifact_location, address)
        self._opened = client, existing

    def write(
        self,
        identity: str,
        *,
        name: str,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        files: Callable[[], Mapping[str, bytes]],
        result: str,
        complete: bool,
    ) -> str:
        """Write the run of a map, unless the store has a complete run of it; return the address of its files.

        Parameters
        ----------
        identity
            The hash of the map's cells.
        name, params, metrics, tags
            The name, params, metrics and tags of the run.
        files
            Returns the contents of its files, by name.
        result
            The name of the file with the results. If it is missing or damaged, all files are written again.
        complete
            Whether all cells have ended. Otherwise the run has the status FAILED, and the same map, run
            again, replaces its content.
        """
        from mlflow.entities import Metric, Param, RunTag

        self.open()
        assert self._opened is not None
        client, existing = self._opened
        own = {self._kind: identity, ENGINE: tags[ENGINE]}
        same = " and ".join(f"tags.`{key}` = '{value}'" for key, value in own.items())
        runs = store.ask(client, client.search_runs, [existing.experiment_id], same)
        run = next((run for run in runs if run.info.status == "FINISHED"), runs[0] if runs else None)
        address = store.address_of(self._uri)
        if run is None:
            run = store.ask(
                client,
                client.create_run,
                existing.experiment_id,
                run_name=name,
                tags={**own, **environment()},
            )
        run_id, place = str(run.info.run_id), str(run.info.artifact_uri)
        local = artifacts.local(place, address)
        if run.info.status != "FINISHED" or (local is not None and not _is_whole(local / result)):
            store.ask(client, artifacts.RunFiles(run_id, place, address).write_contents, files())
            now = int(time.time() * 1000)
            store.ask(
                client,
                client.log_batch,
                run_id,
                metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
                params=[Param(key, value) for key, value in params.items()],
                tags=[RunTag(key, value[:LONGEST_TAG]) for key, value in tags.items()],
            )
            store.ask(client, client.set_terminated, run_id, "FINISHED" if complete else "FAILED")
            self._describe(client, existing)
        return place if local is None else str(local)

    def _describe(self, client: MlflowClient, existing: Experiment) -> None:
        """Set the experiment's description if it has none, as when no sweep of trials has written one."""
        from mlflow.exceptions import MlflowException

        if not existing.tags.get(NOTE):
            text = FILES_OF[self._kind]
            for key, value in {KIND: TRAINING, **_note(existing.tags, text)}.items():
                set_tag = partial(client.set_experiment_tag, existing.experiment_id, key, value)
                try:
                    store.ask(client, set_tag)
                except (
                    FnnexpError,
                    MlflowException,
                ):  # if two maps insert a new tag at once, the second insert fails
                    store.ask(client, set_tag)


def _is_whole(file: Path) -> bool:
    """Return whether a file is there, and undamaged if it is an `.npz`."""
    if file.suffix != ".npz":
        return file.is_file()
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _note(tags: Mapping[str, str], text: str) -> dict[str, str]:
    """Return the tags that set the experiment's description, or none if a user wrote another description."""
    current = tags.get(NOTE, "")
    if current and _hash(current) != tags.get(NOTE_HASH):
        return {}
    return {key: value for key, value in ((NOTE_HASH, _hash(text)), (NOTE, text)) if tags.get(key) != value}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_PART else text[: LONGEST_PART - 2] + " …"


def _last(lines: Sequence[str]) -> list[str]:
    """Return as many of the last lines as fit in LONGEST_PART characters; longer lines are cut."""
    kept: list[str] = []
    for line in reversed(lines):
        if kept and len(line) + sum(len(later) + 5 for later in kept) > LONGEST_PART:
            break
        kept.insert(0, _cut(line))
    return kept
