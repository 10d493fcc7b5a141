"""A sweep's experiment in MLflow: found or made, its description, its views, and the run of its report."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fnnexp.config.commands import report_command
from fnnexp.errors import FnnexpError
from fnnexp.tracking import artifacts, saved_views, store
from fnnexp.tracking.environment import environment
from fnnexp.tracking.reader import find_experiment
from fnnexp.tracking.retry import mlflow_settings
from fnnexp.tracking.run_format import LONGEST_TAG, LOOKS, NOTE, REPORTED, looks_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

REPORT = "report"
"""The name of the run that holds an experiment's report; it is no trial."""

OURS, COMMANDS = "fnnexp.note", "fnnexp.commands"
"""Tags of an experiment: the hash of the last description that we wrote; the commands that made it."""

KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"

FIRST = ("arch", "init", "batching", "seed")
"""The params whose columns come first; others follow if they vary among trials that agree in their option."""

MOST_OTHERS = 6
"""As many columns of other params as a tag has room for."""

MOST = 2000
"""Characters of the commands and of what a report says; MLflow takes 5,000 a tag."""


@dataclass(frozen=True)
class About:
    """What a sweep says of itself on its experiment's page.

    Attributes
    ----------
    experiment
        Its name.
    params
        Of each trial.
    validated
        Whether all trials have validation metrics; they are ranked by test metrics otherwise.
    command
        The command line, as it was typed; None when the sweep was started from Python.
    store
        What names the store to a command, from :func:`fnnexp.tracking.store.option`.
    """

    experiment: str
    params: Sequence[Mapping[str, str]]
    validated: bool
    command: str | None = None
    store: str = ""

    def tags(self, there: Mapping[str, str]) -> dict[str, str]:
        """Return the experiment's tags, of which `there` are set, without its description."""
        before = [line for line in there.get(COMMANDS, "").splitlines() if line != self.command]
        commands = _last([*before, self.command] if self.command else before)
        made_by = {COMMANDS: "\n".join(commands)} if commands else {}
        views = saved_views.tags(self.params, self._columns, self.validated)
        return {KIND: TRAINING, **there, **views, **made_by}

    def text(self) -> str:
        """Return what the sweep is, in one sentence."""
        values = {key: len({each.get(key) for each in self.params}) for key in self._columns}
        varied = [f"{key} ({count})" for key, count in values.items() if count > 1]
        data = " and ".join(sorted({each["data"] for each in self.params if "data" in each}))
        if len(self.params) == 1:
            return f"One trial on {data}."
        return f"{len(self.params)} trials on {data}, one run each: {' × '.join(varied)}."

    def changed_tags(self, experiment_id: str, there: Mapping[str, str]) -> dict[str, str]:
        """Return the experiment's tags that differ from those `there`, with its description.

        A description that somebody wrote, or that comes from a report, stays.
        """
        tags = self.tags(there)
        changed = {key: value for key, value in tags.items() if there.get(key) != value}
        if there.get(REPORTED):
            return changed
        again = report_command(self.experiment, store=self.store)
        return changed | _note(there, description(experiment_id, tags, self.text(), again))

    @cached_property
    def _columns(self) -> list[str]:
        """The params that are worth a column of MLflow's table."""
        others = sorted({key for each in self.params for key in each} - {*FIRST})
        return [*FIRST, *[key for key in others if self._varies_beside(key)][:MOST_OTHERS]]

    def _varies_beside(self, key: str) -> bool:
        """Whether a param has several values among trials that agree in its option and the first columns."""
        agreed = {*FIRST, key.partition(".")[0]} - {key, "seed"}
        found = defaultdict(set)
        for each in self.params:
            found[tuple(each.get(name) for name in sorted(agreed))].add(each.get(key))
        return any(len(values) > 1 for values in found.values())


def find_or_make(client: MlflowClient, name: str, about: About | None) -> Experiment:
    """Return the experiment of a sweep, which is made when it is not there."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        place = store.place_of_artifacts(str(client.tracking_uri), name)
        try:
            client.create_experiment(name, place, tags=about.tags({}) if about else {})
        except MlflowException as error:  # another machine has made it just now
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
    assert found is not None
    return found


def description(
    experiment_id: str, tags: Mapping[str, str], said: str, again: str, report: str | None = None
) -> str:
    """Return an experiment's description in Markdown.

    Parameters
    ----------
    experiment_id, tags
        The experiment; its tags tell the views there are and the commands that made it.
    said
        What comes first, for MLflow shows one line until it is opened.
    again
        The command that makes the report.
    report
        Where the report is, `RUN/artifacts/PAGE`, if there is one.
    """
    parts = [_cut(said)]
    if report is not None:
        page = saved_views.page(experiment_id, below=f"/{report}")[1:]
        parts.append(f"[The whole report]({page}). `{again}` writes it again, with what was trained since.")
    if links := saved_views.links(experiment_id, tags):
        parts.append(f"Views: {' · '.join(links)}. MLflow loads 100 runs; *Load more* is below them.")
    if tags.get(COMMANDS):
        lines = "\n".join(f"    {line}" for line in tags[COMMANDS].splitlines())
        parts.append(f"Made by\n\n{lines}")
    if report is None:
        parts.append(f"`{again}` compares the trials and answers.")
    return "\n\n".join(parts)


def record_look(experiment: str, uri: str | None, when: int) -> None:
    """Record that a report has shown the experiment's trials, as they were at a time in milliseconds.

    A test holds for seeds that are looked at once: what is trained later is seen at another look.

    Raises
    ------
    FnnexpError
        If the store is of an older MLflow, and only read, or the experiment is gone.
    """
    address = store.address_of(uri)
    _refuse_older(address)
    with mlflow_settings():
        client = store.client(uri)
        found = _there(client, experiment)
        looks = sorted({*looks_of(found.tags), when})[-LONGEST_TAG // 20 :]
        text = " ".join(map(str, looks))
        store.ask(client, client.set_experiment_tag, found.experiment_id, LOOKS, text)


def _refuse_older(address: str) -> None:
    if not store.is_up_to_date(address):
        raise FnnexpError(
            "it is of an older MLflow, and was only read; a sweep into it or `fnnexp ui` upgrades it"
        )


def _there(client: MlflowClient, experiment: str) -> Experiment:
    found = find_experiment(client, experiment)
    if found is None:
        raise FnnexpError(f"There is no experiment '{experiment}' in the store any more.")
    return found


def log_report(experiment: str, uri: str | None, files: Sequence[Path], said: str, again: str) -> str:
    """Log files, a page first, as the artifacts of the experiment's one report run; return its run id.

    The run has no trial's tag, so no frame and no sweep takes it for one. Logged again, files of the same
    names are replaced. `said`, Markdown, becomes the description of that run and the beginning of the
    experiment's, unless somebody wrote another: MLflow's UI shows it above the runs. `again` is the command
    that makes the files again.
    """
    address = store.address_of(uri)
    _refuse_older(address)
    with mlflow_settings():
        client = store.client(uri)
        if line := artifacts.settle(address):
            store.on_stderr(line)
        found = _there(client, experiment)
        artifacts.local(found.artifact_location, address)
        ours = store.ask(client, client.search_runs, [found.experiment_id], f"tags.`{REPORTED}` = 'true'")
        tags = {REPORTED: "true", **environment()}
        run = ours[0] if ours else client.create_run(found.experiment_id, run_name=REPORT, tags=tags)
        run_id = str(run.info.run_id)
        place = artifacts.repository(run_id, str(run.info.artifact_uri), address)
        if line := artifacts.elsewhere(experiment, str(run.info.artifact_uri), address):
            store.on_stderr(line)
        for file in files:
            store.ask(client, place.log_artifact, str(file))
        store.ask(client, client.set_tag, run_id, NOTE, said)
        page = f"{run_id}/artifacts/{files[0].name}"
        text = description(found.experiment_id, found.tags, said, again, page)
        for key, value in {REPORTED: run_id, **_note(found.tags, text)}.items():
            store.ask(client, client.set_experiment_tag, found.experiment_id, key, value)
        if run.info.status != "FINISHED":
            store.ask(client, client.set_terminated, run_id, "FINISHED")
    return run_id


def _note(tags: Mapping[str, str], text: str) -> dict[str, str]:
    """Return the tags that make a text the experiment's description; none where somebody wrote another."""
    now = tags.get(NOTE, "")
    if now and _hash(now) != tags.get(OURS):
        return {}
    return {key: value for key, value in ((OURS, _hash(text)), (NOTE, text)) if tags.get(key) != value}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cut(text: str) -> str:
    return text if len(text) <= MOST else text[: MOST - 2] + " …"


def _last(lines: Sequence[str]) -> list[str]:
    """Return the last lines that MOST characters hold: at least one, cut if need be."""
    kept: list[str] = []
    for line in reversed(lines):
        if kept and len(line) + sum(len(each) + 5 for each in kept) > MOST:
            break
        kept.insert(0, _cut(line))
    return kept
