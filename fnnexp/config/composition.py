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
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, reduce
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir, version
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
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
from fnnexp.config.checks import MeaninglessError
from fnnexp.config.combinations import Combinations, Composed
from fnnexp.config.commands import Command, grid_name, quoted
from fnnexp.config.jobs import Job, key_of, read
from fnnexp.config.messages import explain
from fnnexp.config.resolve import is_kind
from fnnexp.config.schema import CHOICES, NODES, SCHEMA, UNSCIENTIFIC, conf_folder, sweeps_folder
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
    """Let this thread alone use Hydra for fnnexp; put back afterwards whatever app Hydra belonged to.

    Of the schemas in its store only Hydra's and ours are there: another app's, called ``config``, would be
    matched with our file of that name.
    """
    with _LOCK, safety.configs_are_ours():
        app, job, store = GlobalHydra.instance(), JobRuntime.instance(), ConfigStore.instance()
        parts = (app, job, store, HydraConfig.instance(), version.VersionBase.instance())
        before, resolvers = [dict(vars(part)) for part in parts], dict(_RESOLVERS)
        app.clear()
        job.conf = job.conf.copy()  # Hydra writes the job's name into it
        store.repo = {name: schema for name, schema in store.repo.items() if _is_known(name, schema)}
        try:
            yield
        finally:
            GlobalHydra.set_instance(app)  # Hydra's own context leaves a copy of it
            for part, attributes in zip(parts, before, strict=True):
                vars(part).update(attributes)
            _RESOLVERS.clear()
            _RESOLVERS.update(resolvers)


def _is_known(name: str, schema: Any) -> bool:
    """Whether an entry of Hydra's store, a group or a schema, is Hydra's own or fnnexp's."""
    return name in ("hydra", f"{SCHEMA}.yaml") or getattr(schema, "provider", None) == "hydra"


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
        safety.refuse_what_is_no_option(command.overrides)
        parsed = self._parse_all(list(command.overrides))
        folders = _search_path(command, parsed)
        own = [] if command.config_dir is None else [command.config_dir]
        self.search_path = [Path(safety.path_of(folder)) for folder in folders]
        places = [*own, conf_folder(), sweeps_folder(), *self.search_path]
        self._combinations = Combinations(self._compose, self._parse, places, self._name, self._is_group)
        parsed = [override for override in parsed if override.get_key_element() != SEARCH_PATH]
        self._hydras = [_line(override) for override in parsed if override.is_hydra_override()]
        if folders:
            self._hydras.append(f"{SEARCH_PATH}=[{','.join(map(quoted, folders))}]")
        self._unused = [each for each in UNUSED if each.lstrip("~") not in " ".join(self._hydras)]
        self._tasks = [_line(override) for override in parsed if not override.is_hydra_override()]
        self._combinations.refuse_endless([self._name])
        self._refuse_endless(self._tasks)
        self._repeats = _repeats(override for override in parsed if not override.is_hydra_override())
        self._left_out: Counter[str] = Counter()
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

    def refuse_several(self) -> None:
        """Refuse a grid where one job is to be shown."""
        swept = [line for line in self._tasks if self._parse(line).is_sweep_override()]
        if swept and self._grid is not None:
            raise ConfigError(f"{swept[0]}: --cfg and --info show one job; write one value")

    def jobs(self) -> Iterator[Job]:
        """Yield each job, composed and checked.

        A value that has no meaning in some jobs of a grid, as the size of batches where they are full, is
        left out of these.
        """
        if self._grid is None:
            yield self._read(_parted(self.whole()), self._tasks)
            return
        taken: list[Job] = []
        refused: dict[str, MeaninglessError] = {}
        for overrides in self._grid:
            taken.append(self._with_meaning(overrides, refused))
            yield taken[-1]
        for key, error in refused.items():
            if all(_value(job.config, key) == _default(key) for job in taken):
                raise error

    def _with_meaning(self, overrides: Sequence[str], refused: dict[str, MeaninglessError]) -> Job:
        """Return the job of some overrides without its values that have no meaning; note these by key."""
        composed, left_out = self.composed(overrides), set[str]()
        while True:
            try:
                told = [line for line in overrides if key_of(line) not in left_out]
                return self._read(composed, told)
            except MeaninglessError as error:
                if error.key in left_out:
                    raise
                left_out.add(error.key)
                refused[error.key] = error
                self._left_out[error.key] += 1
                OmegaConf.update(composed.config, error.key, _default(error.key))

    def job(self, overrides: Sequence[str]) -> Job:
        """Return the checked job of some overrides, each a single value, with every value of theirs."""
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
        except (HydraException, OmegaConfBaseException, FnnexpError, ValueError):
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

    def notes(self) -> list[str]:
        """Return what there is to say once the jobs are composed."""
        left_out = [
            f"{key} is left out of {count} of {self.count} jobs, in which it has no meaning"
            for key, count in self._left_out.items()
        ]
        return [*filter(None, [self._note_of_ignored_grid()]), *self._notes_of_repeats(), *left_out]

    def _notes_of_repeats(self) -> Iterator[str]:
        for key, overrides in self._repeats.items():
            told = f"{key} is given {len(overrides)} times, and the last counts: {_line(overrides[-1])}"
            may_differ = self._grid is None and _is_scientific(key)
            yield told + (f"; for a trial each write -m {_as_one(key, overrides)}" if may_differ else "")

    def _refuse_repeats(self) -> None:
        """Refuse single values of one key in a grid: a shell makes that of ``seed={0..4}``."""
        for key, overrides in self._repeats.items():
            if any(override.is_sweep_override() for override in overrides) or not _is_scientific(key):
                continue
            last = _line(overrides[-1])
            raise ConfigError(
                f"{key} is given {len(overrides)} times, which a shell makes of {key}={{…}}, and one trial "
                f"would run; write {_as_one(key, overrides)}, or for the last alone "
                f"{last if self._is_group(key) else f'++{last}'}"
            )

    def _note_of_ignored_grid(self) -> str | None:
        """Return what to say when a single trial runs instead of a grid, or None."""
        params = self._master.hydra.sweeper.params
        if self._grid is not None or not params:
            return None
        written: Any = OmegaConf.to_container(params, resolve=False)
        grid = self._parse_all(_lines_of(written))
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
        self._refuse_repeats()
        lines = [*self._params(), *self._tasks]
        safety.refuse_what_is_no_option(lines)
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

    def _params(self) -> list[str]:
        """Return ``hydra.sweeper.params`` as overrides, resolved where there is nothing but the config."""
        config = self._master.copy()
        written: Any = OmegaConf.to_container(
            config.hydra.sweeper.params or OmegaConf.create(), resolve=False
        )
        with open_dict(config):
            del config["hydra"]
            config["hydra"] = {"sweeper": {"params": written}}
        params: Any = OmegaConf.to_container(config.hydra.sweeper.params, resolve=True)
        lines = _lines_of(params)
        for line in lines:
            safety.refuse_resolvers(re.sub(r"\\(.)", r"\1", line), "hydra.sweeper.params")
        self._refuse_endless(lines)
        return lines

    def _refuse_endless(self, lines: Iterable[str]) -> None:
        """Refuse options that lead to more configs than there can be, before Hydra follows their defaults."""
        for override in map(self._parse, lines):
            if override.is_delete() or not self._is_group(override.key_or_group):
                continue
            value: Any = override.value()
            options: Any = value.list if isinstance(value, ChoiceSweep) else [value]
            if isinstance(value, Glob):
                options = self._loader.get_group_options(override.key_or_group)
            self._combinations.refuse_endless(f"{override.key_or_group}/{option}" for option in options)

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
    addresses = [safety.address(folder) for folder in given]
    for folder, found in zip(given, addresses, strict=True):
        if not Path(safety.path_of(found)).is_dir():
            raise ConfigError(f"{SEARCH_PATH}: there is no folder {folder}; write one that is there")
    return addresses


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


def _lines_of(params: Mapping[str, Any]) -> list[str]:
    """Return a grid's parameters as overrides."""
    for key, value in params.items():
        if isinstance(value, dict):
            inner = next(iter(value), "KEY")
            raise ConfigError(
                f"hydra.sweeper.params.{key}: holds keys, and there a key stands in full; write "
                f"{key}.{inner}: with its values behind it"
            )
    return [f"{key}={value}" for key, value in params.items()]


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


def _repeats(overrides: Iterable[Override]) -> dict[str, list[Override]]:
    """Return the overrides of each key that is given several values one after the other, in one form."""
    by_key: dict[str, list[Override]] = {}
    for override in overrides:
        by_key.setdefault(override.get_key_element(), []).append(override)
    return {key: given for key, given in by_key.items() if len(set(map(_line, given))) > 1}


def _is_scientific(key: str) -> bool:
    return key_of(key).partition(".")[0] not in UNSCIENTIFIC


def _as_one(key: str, overrides: Sequence[Override]) -> str:
    """Return the override that sweeps over the values of others, which have one each."""
    values = [override.value() for override in overrides]
    first = values[0]
    if len(values) > 2 and type(first) is int and values == list(range(first, first + len(values))):
        return f"'{key}=range({first},{first + len(values)})'".replace("(0,", "(")
    texts = (str(override.get_value_element_as_str()) for override in overrides)
    return f"{key}={','.join(dict.fromkeys(texts))}"


def _value(config: Any, key: str) -> Any:
    return reduce(getattr, key.split("."), config)


def _default(key: str) -> Any:
    """Return the schema's default of a key with a dot."""
    node, _, name = key.partition(".")
    return getattr(NODES[node](), name)


def _overlap(key: str, other: str) -> bool:
    """Whether one key is the other, or a node that holds it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
