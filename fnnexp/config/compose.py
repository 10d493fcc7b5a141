"""The one way in: from a config name, overrides and a folder to a sweep's trials and how they run.

The command line, ``fnnexp.sweep()`` and ``fnnexp reproduce`` compose here, and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf, open_dict

from fnnexp.config.commands import Command, grid_name
from fnnexp.config.composition import FULL_ERROR, SEARCH_PATH, as_it_was, composing
from fnnexp.config.execution import Execution
from fnnexp.config.jobs import Job, key_of
from fnnexp.config.messages import explain
from fnnexp.config.resolve import trial
from fnnexp.config.schema import Config, conf_folder, sweeps_folder
from fnnexp.config.trial import Trial
from fnnexp.data import datasets
from fnnexp.errors import ConfigError, FnnexpError
from fnnexp.nn.engines.base import engine_named

LONGEST_NAME = 200
"""Characters of an experiment's name; MLflow takes 500."""

PLACES = ("tracking.uri", "execution.address")
"""The keys that name where results go and who trains."""


@dataclass(frozen=True)
class Sweep:
    """A composed command: what to train, and how.

    Attributes
    ----------
    command
        What was asked for.
    experiment
        The MLflow experiment that holds the runs.
    trials
        Each once, in the grid's order.
    execution
        How they run.
    tracking_uri
        MLflow's store; None is MLflow's own default.
    dry_run
        Whether to show the plan and train nothing.
    notes
        Lines to show before anything else.
    named_by_files
        The keys of :data:`PLACES` whose value is a file's and not the command's.
    """

    command: Command
    experiment: str
    trials: tuple[Trial, ...]
    execution: Execution
    tracking_uri: str | None
    dry_run: bool
    notes: tuple[str, ...] = ()
    named_by_files: tuple[str, ...] = ()


def compose(command: Command, begin: Callable[[Config, int], None] | None = None) -> Sweep:
    """Return the sweep that a command names, with its data prepared.

    Parameters
    ----------
    command
        What to compose.
    begin
        Called with the first job's config and the number of jobs, as soon as that job is composed: workers
        can start while the others are.

    Raises
    ------
    FnnexpError
        When the command names no experiment, with what was given, what is allowed and what to write.
    """
    jobs: list[Job] = []
    with composing(command) as composition:
        for job in composition.jobs():
            jobs.append(job)
            if begin is not None and len(jobs) == 1:
                begin(job.config, composition.count)
        notes = [*_notes_of_own_files(command, composition.search_path), *composition.notes()]
    config = _shared_config(jobs)
    _refuse_absent_engine(config.execution.engine)
    experiment = experiment_name(jobs, command.config_name)
    trials, told = _trials(jobs)
    twice = [f"{len(jobs) - len(trials)} of {len(jobs)} jobs name a trial already named; each runs once"]
    return Sweep(
        command=command,
        experiment=experiment,
        trials=tuple(trials),
        execution=replace(config.execution, diagnostics=config.diagnostics),
        tracking_uri=config.tracking.uri,
        dry_run=config.dry_run,
        notes=(*(twice if len(trials) < len(jobs) else ()), *notes, *told),
        named_by_files=tuple(_named_by_files(config, command)),
    )


def jobs_of(command: Command) -> list[Job]:
    """Return the checked jobs of a command, their data not looked at; see :func:`compose`."""
    with composing(command) as composition:
        return list(composition.jobs())


def show(command: Command, part: str, *, package: str | None = None, resolve: bool = False) -> str:
    """Return a composed config as YAML: what ``--cfg job``, ``hydra`` or ``all`` prints.

    Raises
    ------
    FnnexpError
        When Hydra can't compose it, or it has no such package.
    """
    with composing(command) as composition:
        composition.refuse_several()
        config = composition.whole()
        with open_dict(config):
            for key in list(config):
                if part != "all" and (key == "hydra") != (part == "hydra"):
                    del config[key]
        selected = config if package in (None, "_global_") else OmegaConf.select(config, str(package))
        if selected is None:
            raise ConfigError(f"--package {package}: the config has no such key; write --package arch")
        if not OmegaConf.is_config(selected):
            return f"{selected}\n"
        if resolve:
            OmegaConf.resolve(selected)
        return ("" if selected is config else f"# @package {package}\n") + OmegaConf.to_yaml(selected)


def let_hydra_answer(command: Command) -> None:
    """Let Hydra answer the flags in ``sys.argv`` itself: ``--info``, ``--hydra-help``, shell completion.

    Raises
    ------
    FnnexpError
        When Hydra can't compose the command, or its config is more than data. Nothing of Hydra's ran then.
    """
    with composing(command) as composition:
        composition.refuse_several()
    if SEARCH_PATH in os.environ.get("COMP_LINE", ""):  # completing, Hydra imports the packages it names
        return
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"  # Hydra then raises what it would print
    try:
        with as_it_was():
            hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(print)()
    except Exception as error:
        if before == "1" or isinstance(error, FnnexpError):
            raise
        raise ConfigError(explain(error)) from error
    finally:
        os.environ.pop(FULL_ERROR) if before is None else os.environ.update({FULL_ERROR: before})


# From jobs to trials


def _notes_of_own_files(command: Command, search_path: Sequence[Path]) -> Iterator[str]:
    """Yield what to say of the user's files that have the names of shipped ones.

    As in any Hydra app, a folder of `-cd` comes before the shipped ones, and `hydra.searchpath` after them.
    """
    if command.config_dir is not None and (own := _named_as_shipped(command.config_dir)):
        yield f"{command.config_dir} has files that stand in for fnnexp's of the same name: {', '.join(own)}"
    for folder in search_path:
        if passed_over := _named_as_shipped(folder):
            yield (
                f"{folder} has files that fnnexp's of the same name come before: {', '.join(passed_over)}; "
                f"write -cd {folder}"
            )


def _named_as_shipped(folder: Path) -> list[str]:
    """Return the files of a folder of configs that have the names of shipped ones."""
    shipped = [
        path.relative_to(there)
        for there in (conf_folder(), sweeps_folder())
        for path in sorted(there.rglob("*.yaml"))
    ]
    return [path.as_posix() for path in shipped if (folder / path).is_file()]


def _named_by_files(config: Config, command: Command) -> Iterator[str]:
    """Yield the keys of :data:`PLACES` that have a value which the command does not give."""
    for key in PLACES:
        node, _, name = key.partition(".")
        given = any(
            key_of(override) == key or (key_of(override) == node and f"{name}:" in override)
            for override in command.overrides
        )
        if not given and getattr(getattr(config, node), name) is not None:
            yield key


def _shared_config(jobs: Sequence[Job]) -> Config:
    """Return the first job's config; what is not scientific must be the same in all."""
    first = jobs[0].config
    for job in jobs:
        for key in ("execution", "tracking", "diagnostics", "dry_run"):
            if getattr(job.config, key) != getattr(first, key):
                raise ConfigError(
                    f"{key} differs within the sweep; it is one for all trials: write one value"
                )
    return first


def _refuse_absent_engine(name: str) -> None:
    try:
        engine_named(name)
    except ImportError as error:
        raise ConfigError(
            f"execution.engine={name} needs a package that can't be imported here ({error}); write: "
            f'pip install "fnnexp[{name}]", or execution.engine=numpy'
        ) from error


def _trials(jobs: Sequence[Job]) -> tuple[list[Trial], list[str]]:
    """Return the jobs' trials, each once, their data prepared; and what was decided about the data."""
    prepared: dict[tuple[Any, ...], datasets.Prepared] = {}
    trials: dict[str, Trial] = {}
    for job in jobs:
        asked = job.config.data
        source = (asked.name, asked.path, asked.test_path, asked.reading)
        if source not in prepared:
            prepared[source] = datasets.prepare(*source)
        one = trial(job, prepared[source])
        trials.setdefault(one.id, one)
    notes = [
        f"{path or f'data={name}'}: {note}"
        for (name, path, *_), data in prepared.items()
        for note in data.notes
    ]
    return list(trials.values()), [*notes, *_notes_of_validation([*trials.values()])]


def _notes_of_validation(trials: Sequence[Trial]) -> Iterator[str]:
    """Yield what is doubtful about the rows to choose by: that there are none, or of some class none.

    A preset is as published and chooses nothing.
    """
    none = [one for one in trials if not one.recipe.validation and "experiment" not in one.params]
    if none:
        data = none[0].data
        some = none[0].config["data"]["holdout"] or max(data.n_train // 6, 1)
        yield (
            f"data.validation=0 in {len(none)} of {len(trials)} trials: they train on all rows, so whatever "
            "is chosen among them is chosen by the test images, which is optimistic: expect it to do worse "
            f"on new images; data.validation={some} holds rows of {data.name} out to choose by"
        )
    for data, rows in dict.fromkeys((one.data, one.recipe.validation) for one in trials):
        if 0 < rows < data.last_classes:
            yield (
                f"data.validation={rows}: of some class no row is among the last {rows} training rows of "
                f"{data.name}, which are held out, so they can't tell how well it is learned; shuffle the "
                "file's rows"
            )


def experiment_name(jobs: Sequence[Job], config_name: str) -> str:
    """Return the MLflow experiment of a sweep: as given, or the grid's name, or the preset's, or ``fnnexp``.

    Raises
    ------
    ConfigError
        When it is no name that MLflow takes and a terminal shows.
    """
    presets = {job.choices.get("experiment") for job in jobs}
    preset = presets.pop() if len(presets) == 1 else None
    given = jobs[0].config.tracking.experiment
    name = grid_name(config_name) or preset or "fnnexp" if given is None else given
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ConfigError(
            f"tracking.experiment={name!r}: must be 1 to {LONGEST_NAME} characters that can be seen; "
            "write tracking.experiment=my_sweep"
        )
    return name
