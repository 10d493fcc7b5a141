"""A command within Hydra: its master config, and from it the config of each job.

Hydra composes, through its public ``compose`` and its override parser, once for each distinct set of options
(``arch=tanh_128``). A job's values (``seed=3``) are applied to a copy of that composition, with the OmegaConf
function that Hydra itself uses. Nothing that Hydra does beyond composing happens here: no callbacks, no
folders, no logging. :mod:`fnnexp.config.safety` looks at every file before Hydra reads it.

Private ground of OmegaConf: the table of its resolvers, which Hydra adds to, and which is put back.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir, version
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, OverrideType, RangeSweep
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException

from fnnexp.config import safety
from fnnexp.config.combinations import Combinations, Composed
from fnnexp.config.commands import Command, grid_name, quoted
from fnnexp.config.jobs import Job, read
from fnnexp.config.messages import explain
from fnnexp.config.resolve import is_kind
from fnnexp.config.schema import CHOICES, conf_folder, sweeps_folder
from fnnexp.errors import ConfigError, FnnexpError

MOST_JOBS = 10_000
"""As many jobs as a sweep may have; each is composed and kept until all are done."""

SEARCH_PATH = "hydra.searchpath"

FULL_ERROR = "HYDRA_FULL_ERROR"
"""The variable with which Hydra's users ask for tracebacks."""

UNUSED = ("~hydra/help", "~hydra/hydra_help", "~hydra/output", "~hydra/env")
"""Groups of Hydra's own that no job needs: without them it composes in two thirds of the time."""


_LOCK = threading.RLock()
"""Hydra's state is the process's, so one thread composes at a time."""

_RESOLVERS: dict[str, Any] = getattr(BaseContainer, "_resolvers", {})


@contextmanager
def composing(command: Command) -> Iterator[Composition]:
    """Yield a command's composition; Hydra's state is afterwards what it was, also within a Hydra app."""
    with as_it_was(), explained(HydraException, OmegaConfBaseException, RecursionError):
        folder = str((command.config_dir or conf_folder()).absolute())
        with initialize_config_dir(version_base="1.3", config_dir=folder, job_name="fnnexp"):
            with explained(Exception):  # whatever Hydra fails with here, the input is the cause
                composition = Composition(command)
            yield composition


@contextmanager
def as_it_was() -> Iterator[None]:
    """Let this thread alone use Hydra for fnnexp; put back afterwards whatever app Hydra belonged to."""
    with _LOCK, safety.configs_are_ours():
        app, job = GlobalHydra.instance(), JobRuntime.instance()
        parts = (app, job, HydraConfig.instance(), version.VersionBase.instance())
        before, resolvers = [dict(vars(part)) for part in parts], dict(_RESOLVERS)
        app.clear()
        job.conf = job.conf.copy()  # Hydra writes the job's name into it
        try:
            yield
        finally:
            GlobalHydra.set_instance(app)  # Hydra's own context leaves a copy of it
            for part, attributes in zip(parts, before, strict=True):
                vars(part).update(attributes)
            _RESOLVERS.clear()
            _RESOLVERS.update(resolvers)


@contextmanager
def explained(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into one of ours; HYDRA_FULL_ERROR=1 lets them pass."""
    try:
        yield
    except FnnexpError:
        raise
    except errors as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        raise ConfigError(explain(error)) from error


class Composition:
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
        self._own = cache(self._values_of)
        safety.refuse_lists_of_options(command.overrides)
        parsed = self._parse_all(list(command.overrides))
        folders = _search_path(command, parsed)
        own = [] if command.config_dir is None else [command.config_dir]
        named = [Path(safety.path_of(folder)) for folder in folders]
        places = [*own, conf_folder(), sweeps_folder(), *named]
        self._combinations = Combinations(self._compose, self._parse, places, self._name, self._is_group)
        parsed = [override for override in parsed if override.get_key_element() != SEARCH_PATH]
        self._hydras = [_line(override) for override in parsed if override.is_hydra_override()]
        if folders:
            self._hydras.append(f"{SEARCH_PATH}=[{','.join(map(quoted, folders))}]")
        self._unused = [each for each in UNUSED if each.lstrip("~") not in " ".join(self._hydras)]
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
        self._combinations.expect(tuple(self._parted_overrides(job)[0]) for job in self._grid or ())

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
        with explained(Exception):
            return hydra_compose(self._name, [*self._hydras, *self._tasks], return_hydra_config=True)

    def jobs(self) -> Iterator[Job]:
        """Yield each job, composed and checked."""
        if self._grid is None:
            yield self._read(_parted(self.whole()), self._tasks)
            return
        for overrides in self._grid:
            yield self.job(overrides)

    def job(self, overrides: Sequence[str]) -> Job:
        """Return the checked job of some overrides, each a single value."""
        return self._read(self.composed(overrides), overrides)

    def _read(self, composed: Composed, overrides: Sequence[str]) -> Job:
        job = read(composed.config, composed.choices, overrides)
        changed = [
            group
            for group in CHOICES
            if (option := job.choices.get(group)) and not is_kind(group, option)
            if not self._holds(group, option, composed.config)
        ]
        return replace(job, changed=frozenset(changed))

    def _holds(self, group: str, option: str, config: DictConfig) -> bool:
        """Whether a group has the values that an option gives it: with them once more it is the same."""
        values = self._own(f"{group}/{option}")
        if values is None:
            return False
        again = config.copy()
        again.merge_with(values)
        there: Any = OmegaConf.to_container(config, resolve=False)
        with_them: Any = OmegaConf.to_container(again, resolve=False)
        return bool(with_them[group] == there[group])

    def _values_of(self, name: str) -> DictConfig | None:
        """Return what an option gives by itself; None where it takes other configs to compose it."""
        try:
            whole = self._loader.load_configuration(name, self._hydras, RunMode.RUN)
        except HydraException:
            return None
        return _parted(whole).config

    def composed(self, overrides: Sequence[str]) -> Composed:
        """Return what Hydra composes of some overrides, each a single value."""
        options, values = self._parted_overrides(overrides)
        composed = self._combinations.of(tuple(options))
        config = composed.config.copy()
        try:
            for override in values:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # refused: Hydra says it in words that we know
            composed = self._compose(tuple(overrides))
            config = composed.config.copy()
        return Composed(config, composed.choices)

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

    def _compose(self, overrides: tuple[str, ...]) -> Composed:
        with explained(Exception):
            whole = hydra_compose(
                self._name, [*self._hydras, *self._unused, *overrides], return_hydra_config=True
            )
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
        others = [
            each.key_or_group
            for each in options
            if not (self._is_group(each.key_or_group) and isinstance(each.value(), str))
        ]
        if any(_overlap(key, override.key_or_group) for key in others for override in values):
            return list(overrides), []  # their order decides, so Hydra applies them all
        return [_line(override) for override in options], values


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
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _parted(whole: DictConfig) -> Composed:
    """Return what is ours of a composed config, and the options chosen."""
    choices: Any = OmegaConf.to_container(whole.hydra.runtime.choices, resolve=False)
    choices = {group: option for group, option in choices.items() if not group.startswith("hydra/")}
    with open_dict(whole):
        del whole["hydra"]
    return Composed(whole, choices)


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
