"""The one way in: from a config name, overrides and a folder to a sweep's trials and how they run.

Hydra composes, through its public ``compose`` and its override parser, once for each distinct set of options
(``arch=tanh_128``). A job's values (``seed=3``) are applied to a copy of that composition, with the OmegaConf
function that Hydra itself uses. Nothing that Hydra does beyond composing happens here: no callbacks, no
folders, no logging. :mod:`fnnexp.config.safety` looks at every file before Hydra reads it.
"""

from __future__ import annotations

import itertools
import math
import os
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir, version
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, OverrideType, RangeSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fnnexp.config import safety
from fnnexp.config.commands import quoted
from fnnexp.config.execution import Execution
from fnnexp.config.jobs import Job, read
from fnnexp.config.messages import explain
from fnnexp.config.resolve import trial
from fnnexp.config.schema import Config, conf_folder, sweeps_folder
from fnnexp.config.trial import Trial
from fnnexp.data import datasets
from fnnexp.errors import ConfigError, FnnexpError
from fnnexp.nn.engines.base import engine_named

LONGEST_NAME = 200
"""Characters of an experiment's name; MLflow takes 500."""

MOST_JOBS = 10_000
"""As many jobs as a sweep may have; each is composed and kept until all are done."""

SEARCH_PATH = "hydra.searchpath"


@dataclass(frozen=True)
class Command:
    """What a user asks for: the words of the command line, or of a call from Python.

    Attributes
    ----------
    config_name
        The primary config: ``config`` for one trial, or the name of a grid.
    overrides
        In Hydra's grammar, in the user's order.
    config_dir
        A folder with configs of the user's own, which come before fnnexp's.
    multirun
        Whether to run every combination; a grid with ``hydra.mode: MULTIRUN`` does so anyway.
    """

    config_name: str = "config"
    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None
    multirun: bool = False

    def __str__(self) -> str:
        """Return it as a shell takes it.

        >>> str(Command("card_grid", ("seed=range(5)",)))
        "fnnexp -cn card_grid 'seed=range(5)'"
        """
        words = ["fnnexp", *(["-m"] if self.multirun else [])]
        words += [] if self.config_dir is None else ["-cd", str(self.config_dir)]
        words += [] if self.config_name == "config" else ["-cn", self.config_name]
        return shlex.join([*words, *self.overrides])


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
    """

    command: Command
    experiment: str
    trials: tuple[Trial, ...]
    execution: Execution
    tracking_uri: str | None
    dry_run: bool
    notes: tuple[str, ...] = ()


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
    with _composing(command) as composition:
        notes = [_note_of_own_files(command), composition.note_of_ignored_grid()]
        for job in composition.jobs():
            jobs.append(job)
            if begin is not None and len(jobs) == 1:
                begin(job.config, composition.count)
    config = _shared_config(jobs)
    _refuse_absent_engine(config.execution.engine)
    experiment = experiment_name(jobs, command.config_name)
    trials = _trials(jobs)
    twice = [f"{len(jobs) - len(trials)} of {len(jobs)} jobs name a trial already named; each runs once"]
    return Sweep(
        command=command,
        experiment=experiment,
        trials=tuple(trials),
        execution=replace(config.execution, diagnostics=config.diagnostics),
        tracking_uri=config.tracking.uri,
        dry_run=config.dry_run,
        notes=(*(twice if len(trials) < len(jobs) else ()), *filter(None, notes)),
    )


def jobs_of(command: Command) -> list[Job]:
    """Return the checked jobs of a command, their data not looked at; see :func:`compose`."""
    with _composing(command) as composition:
        return list(composition.jobs())


def show(command: Command, part: str, *, package: str | None = None, resolve: bool = False) -> str:
    """Return a composed config as YAML: what ``--cfg job``, ``hydra`` or ``all`` prints.

    Raises
    ------
    FnnexpError
        When Hydra can't compose it, or it has no such package.
    """
    with _composing(command) as composition:
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
    with _composing(command):
        pass
    hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(print)()


# With Hydra

_LOCK = threading.RLock()
"""Hydra's state is the process's, so one thread composes at a time."""


@contextmanager
def _composing(command: Command) -> Iterator[_Composition]:
    """Yield a command's composition; Hydra's state is afterwards what it was."""
    with _LOCK, _explained(HydraException, OmegaConfBaseException, RecursionError):
        base = version.VersionBase.instance()
        before = base.version_base
        try:
            folder = str((command.config_dir or conf_folder()).absolute())
            with initialize_config_dir(version_base="1.3", config_dir=folder, job_name="fnnexp"):
                with _explained(Exception):  # whatever Hydra fails with here, the input is the cause
                    composition = _Composition(command)
                yield composition
        finally:
            base.version_base = before


@contextmanager
def _explained(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into one of ours; HYDRA_FULL_ERROR=1 lets them pass."""
    try:
        yield
    except FnnexpError:
        raise
    except errors as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise ConfigError(explain(error)) from error


@dataclass(frozen=True)
class _Composed:
    """What Hydra composed of a set of options: the config without Hydra's node, and the options chosen."""

    config: DictConfig
    choices: Mapping[str, Any]


class _Composition:
    """One command within Hydra: the master config, and from it the jobs.

    The master is the config that Hydra composes before it expands a grid: sweep overrides are left out, and
    a group without a choice may stay open.
    """

    def __init__(self, command: Command) -> None:
        self._name = command.config_name
        self._loader: ConfigLoader = GlobalHydra.instance().config_loader()
        self._parse_all = OverridesParser.create(config_loader=self._loader).parse_overrides
        self._parse = cache(lambda override: self._parse_all([override])[0])
        self._is_group = cache(lambda key: bool(self._loader.get_group_options(key)))
        self._by_hydra = cache(self._compose)
        self._by_options = cache(self._of_options)
        self._has_fixed_defaults = cache(self._looks_fixed)
        self._first: tuple[str, ...] | None = None
        safety.refuse_lists_of_options(command.overrides)
        parsed = self._parse_all(list(command.overrides))
        folders = _search_path(command, parsed)
        own = [] if command.config_dir is None else [command.config_dir]
        named = [Path(safety.path_of(folder)) for folder in folders]
        self._folders = [*own, conf_folder(), sweeps_folder(), *named]
        parsed = [override for override in parsed if override.get_key_element() != SEARCH_PATH]
        self._hydras = [_line(override) for override in parsed if override.is_hydra_override()]
        if folders:
            self._hydras.append(f"{SEARCH_PATH}=[{','.join(map(quoted, folders))}]")
        self._tasks = [_line(override) for override in parsed if not override.is_hydra_override()]
        self._master = self._loader.load_configuration(
            self._name,
            [*self._hydras, *self._tasks],
            RunMode.MULTIRUN,
            from_shell=False,
            validate_sweep_overrides=False,
        )
        safety.refuse_more_than_data(self._master)
        self._grid = self._expanded(command.multirun)

    @property
    def count(self) -> int:
        """How many jobs there are."""
        return 1 if self._grid is None else len(self._grid)

    def whole(self) -> DictConfig:
        """Return the config of a single job, with Hydra's node.

        It is the master itself, unless Hydra has something to refuse: a sweep, or a group without a choice.
        """
        choices: Any = OmegaConf.to_container(self._master.hydra.runtime.choices, resolve=False)
        swept = any(self._parse(line).is_sweep_override() for line in [*self._hydras, *self._tasks])
        if not swept and "???" not in choices.values():
            return self._master.copy()
        with _explained(Exception):
            return hydra_compose(self._name, [*self._hydras, *self._tasks], return_hydra_config=True)

    def jobs(self) -> Iterator[Job]:
        """Yield each job, composed and checked."""
        if self._grid is None:
            composed = _parted(self.whole())
            yield read(composed.config, composed.choices, self._tasks)
            return
        for overrides in self._grid:
            yield self.job(overrides)

    def job(self, overrides: Sequence[str]) -> Job:
        """Return the checked job of some overrides, each a single value."""
        composed = self.composed(overrides)
        return read(composed.config, composed.choices, overrides)

    def composed(self, overrides: Sequence[str]) -> _Composed:
        """Return what Hydra composes of some overrides, each a single value."""
        options, values = self._parted_overrides(overrides)
        composed = self._by_options(tuple(options))
        config = composed.config.copy()
        try:
            for override in values:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # refused: Hydra says it in words that we know
            composed = self._compose(tuple(overrides))
            config = composed.config.copy()
        return _Composed(config, composed.choices)

    def note_of_ignored_grid(self) -> str | None:
        """Return what to say when a single trial runs instead of a grid, or None."""
        params = self._master.hydra.sweeper.params
        if self._grid is not None or not params:
            return None
        written: Any = OmegaConf.to_container(params, resolve=False)
        grid = self._parse_all([f"{key}={value}" for key, value in written.items()])
        given = {self._parse(line).get_key_element() for line in self._tasks}
        counts = _value_counts(override for override in grid if override.get_key_element() not in given)
        if not counts:
            return None
        name = grid_name(self._name)
        for_good = "" if name is None else f", or hydra.mode: MULTIRUN in {name}.yaml,"
        return (
            f"hydra.sweeper.params is passed over: one trial runs; -m{for_good} runs the grid of "
            f"{math.prod(counts.values())}"
        )

    def _expanded(self, multirun: bool) -> list[list[str]] | None:
        """Return the overrides of each job of a grid; None where the command names a single trial."""
        if not multirun and self._master.hydra.mode is not RunMode.MULTIRUN:
            return None
        swept = [line for line in self._hydras if self._parse(line).is_sweep_override()]
        if swept:
            raise ConfigError(f"{swept[0]}: Hydra's own keys take one value; write one")
        params = OmegaConf.to_container(self._master.hydra.sweeper.params or OmegaConf.create(), resolve=True)
        assert isinstance(params, dict)
        lines = [*(f"{key!s}={value}" for key, value in params.items()), *self._tasks]
        safety.refuse_lists_of_options(lines)
        overrides = self._parse_all(lines)
        if hydras := [override for override in overrides if override.is_hydra_override()]:
            raise ConfigError(
                f"{_line(hydras[0])}: Hydra's own keys are no parameters of a sweep; leave it out of "
                "hydra.sweeper.params"
            )
        counts = _value_counts(overrides)
        if math.prod(counts.values()) > MOST_JOBS:
            largest = max(counts, key=lambda key: counts[key])
            raise ConfigError(
                f"the sweep has more than {MOST_JOBS} jobs, most of them by {largest}; write fewer values"
            )
        axes: dict[str, list[str]] = {}
        for override in overrides:  # of two for one key the later counts, in the place of the first
            axes[override.get_key_element()] = _values(override)
        grid = [list(combination) for combination in itertools.product(*axes.values())]
        if not grid:
            raise ConfigError(f"the sweep has no jobs, as a key has no values: {' '.join(lines)}")
        return grid

    def _of_options(self, options: tuple[str, ...]) -> _Composed:
        """Return the composition of a set of options, put together from others where that is the same.

        Where an option changes the node of its own group alone, whatever the others are, a set that differs
        from the first in several groups is the first with those nodes. So a full grid costs a composition for
        each option of each group, and not for each combination.
        """
        if self._first is None:
            composed = self._by_hydra(options)
            self._first = options
            return composed
        changed = [place for place, line in enumerate(options) if self._first[place : place + 1] != (line,)]
        if len(changed) < 2 or len(options) != len(self._first) or not self._has_fixed_defaults():
            return self._by_hydra(options)
        first = self._by_hydra(self._first)
        config, choices = first.config.copy(), dict(first.choices)
        for place in changed:
            group, option = self._group_and_option(options[place])
            if group is None or (group, option)[0] != self._group_and_option(self._first[place])[0]:
                return self._by_hydra(options)
            one = self._by_hydra((*self._first[:place], options[place], *self._first[place + 1 :]))
            if not _differ_in(group, first, one):
                return self._by_hydra(options)
            config[group] = one.config[group]
            choices[group] = option
        return _Composed(config, choices)

    def _group_and_option(self, line: str) -> tuple[str | None, str]:
        """Return the group and the option of a plain choice among a group's files; else None."""
        override = self._parse(line)
        group, option = override.key_or_group, override.value()
        plain = override.type is OverrideType.CHANGE and override.package is None and "/" not in group
        if not plain or not isinstance(option, str) or "${" in option:
            return None, ""
        return (None, "") if self._defaults_of(f"{group}/{option}") else (group, option)

    def _looks_fixed(self) -> bool:
        """Whether no choice of an option follows from another choice, as in ``init: from_${batching}``."""
        found: Any = self._loader.compute_defaults_list(self._name, self._hydras, RunMode.MULTIRUN)
        files = [each.config_path for each in found.defaults if each.config_path is not None]
        return not any("${" in str(self._defaults_of(file)) for file in files)

    def _defaults_of(self, config_path: str) -> Any:
        """Return the defaults list of a config as it is written; None if it has none."""
        for folder in self._folders:
            file = folder / f"{config_path.removesuffix('.yaml')}.yaml"
            if file.is_file():
                written: Any = OmegaConf.to_container(safety.load(file), resolve=False)
                return written.get("defaults") if isinstance(written, dict) else None
        return None

    def _compose(self, overrides: tuple[str, ...]) -> _Composed:
        with _explained(Exception):
            whole = hydra_compose(self._name, [*self._hydras, *overrides], return_hydra_config=True)
        safety.refuse_more_than_data(whole)
        return _parted(whole)

    def _parted_overrides(self, overrides: Sequence[str]) -> tuple[list[str], list[Override]]:
        """Return what chooses options, or is no plain value, as lines; and what gives values, parsed."""
        parsed = [self._parse(line) for line in overrides]
        values = [
            override
            for override in parsed
            if override.type is OverrideType.CHANGE
            and override.package is None
            and not self._is_group(override.key_or_group)
        ]
        plain = {id(override) for override in values}
        options = [override for override in parsed if id(override) not in plain]
        others = [each.key_or_group for each in options if not self._is_group(each.key_or_group)]
        if any(_overlap(key, override.key_or_group) for key in others for override in values):
            return list(overrides), []  # their order decides, so Hydra applies them all
        return [_line(override) for override in options], values


def _differ_in(group: str, first: _Composed, other: _Composed) -> bool:
    """Whether two compositions differ in a group's node alone, references not resolved."""
    one, two = (OmegaConf.to_container(each.config, resolve=False) for each in (first, other))
    assert isinstance(one, dict)
    assert isinstance(two, dict)
    same = {**one, group: None} == {**two, group: None}
    return same and {**first.choices, group: None} == {**other.choices, group: None}


def _search_path(command: Command, parsed: Sequence[Override]) -> list[str]:
    """Return the folders of ``hydra.searchpath`` as our reader's addresses.

    Hydra takes them from the command line, or else from the primary config alone.
    """
    named = [override.value() for override in parsed if override.get_key_element() == SEARCH_PATH]
    given = named[-1] if named else _search_path_in_file(command)
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise ConfigError(
            f"{SEARCH_PATH}={given}: must be a list of folders; write -cd FOLDER, or {SEARCH_PATH}=[FOLDER]"
        )
    return [safety.address(folder) for folder in given]


def _search_path_in_file(command: Command) -> Any:
    """Return ``hydra.searchpath`` as a primary config of the user's own has it, or None."""
    if command.config_dir is None:
        return None
    safety.refuse_outside(command.config_name, command.config_dir)
    file = command.config_dir / f"{command.config_name.removesuffix('.yaml')}.yaml"
    config = safety.load(file) if file.is_file() else None
    value = OmegaConf.select(config, SEARCH_PATH) if isinstance(config, DictConfig) else None
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _note_of_own_files(command: Command) -> str | None:
    """Return what to say when the user's folder has files with the names of shipped ones, or None."""
    if command.config_dir is None:
        return None
    shipped = [
        path.relative_to(folder)
        for folder in (conf_folder(), sweeps_folder())
        for path in sorted(folder.rglob("*.yaml"))
    ]
    own = [path.as_posix() for path in shipped if (command.config_dir / path).is_file()]
    return f"of {command.config_dir}, and not fnnexp's: {', '.join(own)}" if own else None


def _parted(whole: DictConfig) -> _Composed:
    """Return what is ours of a composed config, and the options chosen."""
    choices: Any = OmegaConf.to_container(whole.hydra.runtime.choices, resolve=False)
    with open_dict(whole):
        del whole["hydra"]
    return _Composed(whole, choices)


def _line(override: Override) -> str:
    return str(override.input_line)


def _values(override: Override) -> list[str]:
    """Return an override for each of its values, in Hydra's grammar."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{_line(override)}: a sweep takes single values; write {key}=1,2 or {key}=range(3)"
        )
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _value_counts(overrides: Iterable[Override]) -> dict[str, float]:
    """Return how many values each key of a grid has, counted before any list of them is made."""
    return {override.get_key_element(): _value_count(override) for override in overrides}  # the last counts


def _value_count(override: Override) -> float:
    """Return how many values a discrete sweep has; Hydra refuses the other sweeps, and steps of 0."""
    value = override.value()
    if isinstance(value, RangeSweep) and value.step:
        assert value.start is not None
        assert value.stop is not None
        values = (value.stop - value.start) / value.step
        return max(0, math.ceil(values)) if math.isfinite(values) else math.inf
    if isinstance(value, Glob) and override.config_loader is not None:
        return len(list(override.sweep_iterator()))
    return len(value.list) if isinstance(value, ChoiceSweep) else 1


def _overlap(key: str, other: str) -> bool:
    """Whether one key is the other, or a node that holds it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


# From jobs to trials


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


def _trials(jobs: Sequence[Job]) -> list[Trial]:
    """Return the jobs' trials, each once, their data prepared."""
    prepared: dict[tuple[Any, ...], datasets.Prepared] = {}
    trials: dict[str, Trial] = {}
    for job in jobs:
        source = (job.config.data.name, job.config.data.path, job.config.data.test_path)
        if source not in prepared:
            prepared[source] = datasets.prepare(*source)
        one = trial(job, prepared[source])
        trials.setdefault(one.id, one)
    return list(trials.values())


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


def grid_name(config_name: str) -> str | None:
    """Return the name of a grid's file, which may be given with its extension; None where there is none.

    >>> grid_name("card_grid"), grid_name("mine/card_grid.yaml"), grid_name("config")
    ('card_grid', 'card_grid', None)
    """
    name = Path(config_name).name.removesuffix(".yaml")
    return None if name == "config" else name
