"""Compose a command with Hydra: its master config, and from it the config of each job.

Hydra composes once for each distinct set of options (``arch=tanh_128``), through its public ``compose`` and
its override parser. A job's values (``seed=3``) are applied to a copy of that composition, with the OmegaConf
function that Hydra itself uses. Hydra does nothing but compose here: no callbacks, no folders, no logging.
:mod:`fnnexp.config.safety` checks every file before Hydra reads it.

This module uses a private part of OmegaConf: the table of its resolvers, from which it removes those that
Hydra has added.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
)
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException

from fnnexp.config import safety
from fnnexp.config.checks import MeaninglessError, check, check_search
from fnnexp.config.commands import Command, grid_name, quoted
from fnnexp.config.grids import axes, conditions, spaces, tuned
from fnnexp.config.grids.axes import Axis, Grid, Setting
from fnnexp.config.grids.combinations import Combinations, Composed
from fnnexp.config.grids.swept import (
    is_continuous,
    line_of,
    refuse_continuous,
    refuse_nested,
    refuse_split,
    refuse_too_many,
    refuse_without_memory,
    value_count,
    value_counts,
    values_of,
)
from fnnexp.config.jobs import (
    Job,
    PlainValues,
    Template,
    has_values,
    is_plain,
    key_of,
    make_room,
    read,
    read_unchecked,
    references,
)
from fnnexp.config.messages import explain, no_such_key
from fnnexp.config.resolve import is_label_from_values, labels_from_values
from fnnexp.config.schema import (
    CHOICES,
    NODES,
    OF_GRIDS,
    SCHEMA,
    SEEDS,
    UNSCIENTIFIC,
    Config,
    SearchConfig,
    conf_folder,
    keys_of,
    sweeps_folder,
)
from fnnexp.errors import ConfigError, FnnexpError, plural
from fnnexp.pieces import files
from fnnexp.pieces.registry import GROUPS, announced

SEARCH_PATH = "hydra.searchpath"

FULL_ERROR = "HYDRA_FULL_ERROR"
"""The environment variable that makes Hydra show tracebacks."""

UNUSED = ("~hydra/help", "~hydra/hydra_help", "~hydra/output", "~hydra/env")
"""Hydra's own groups that no job needs. Without them Hydra composes in two thirds of the time."""


_LOCK = threading.RLock()
"""Hydra's state is global to the process, so only one thread composes at a time."""

_RESOLVERS: dict[str, Any] = getattr(BaseContainer, "_resolvers", {})


@contextmanager
def composing(command: Command, rows: Sequence[tuple[Any, ...]] | None = None) -> Iterator[Composition]:
    """Yield the composition of a command; afterwards restore the state of the caller's Hydra app, if any.

    `rows` are the configurations of a search's later batch: see :class:`Composition`.
    """
    files.load_installed()
    for file in command.pieces:
        files.load(file)
    with hydra_state_restored(), explained(HydraException, OmegaConfBaseException, RecursionError):
        folder = str((command.config_dir or conf_folder()).absolute())
        with initialize_config_dir(version_base="1.3", config_dir=folder, job_name="fnnexp"):
            with explained(Exception):  # every error of Hydra here is caused by the input
                composition = Composition(command, rows)
            yield composition


@contextmanager
def hydra_state_restored() -> Iterator[None]:
    """Keep Hydra for this thread and for fnnexp; afterwards restore the state of the caller's Hydra app.

    Meanwhile Hydra's store has only the schemas of Hydra and fnnexp. Otherwise Hydra would use another
    app's schema named ``config`` for fnnexp's file of that name.
    """
    with _LOCK, safety.composing_for_fnnexp():
        app, job, store = GlobalHydra.instance(), JobRuntime.instance(), ConfigStore.instance()
        singletons = (app, job, store, HydraConfig.instance(), version.VersionBase.instance())
        before, resolvers = [dict(vars(singleton)) for singleton in singletons], dict(_RESOLVERS)
        app.clear()
        job.conf = job.conf.copy()  # a copy, because Hydra writes the job's name into it
        store.repo = {name: schema for name, schema in store.repo.items() if _is_known(name, schema)}
        for kind, group in GROUPS.items():
            for piece in announced(kind):
                store.store(piece.name, dict(piece.option), group, provider="fnnexp")
        try:
            yield
        finally:
            GlobalHydra.set_instance(app)  # the caller's object; Hydra's context manager would leave a copy
            for singleton, attributes in zip(singletons, before, strict=True):
                vars(singleton).update(attributes)
            _RESOLVERS.clear()
            _RESOLVERS.update(resolvers)


def _is_known(name: str, schema: Any) -> bool:
    """Return whether an entry of Hydra's store, a group or a schema, belongs to Hydra or fnnexp."""
    return name in ("hydra", f"{SCHEMA}.yaml") or getattr(schema, "provider", None) == "hydra"


@contextmanager
def explained(*errors: type[Exception]) -> Iterator[None]:
    """Turn these errors into a :class:`ConfigError`; with HYDRA_FULL_ERROR=1, let them pass."""
    try:
        yield
    except FnnexpError:
        raise
    except errors as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        raise ConfigError(explain(error)) from error


@dataclass(frozen=True)
class _Freedom:
    """The axes whose values can be replaced in a composed config, so that Hydra need not compose it again.

    Attributes
    ----------
    axes
        The indices of these axes.
    read
        The keys that references such as ``${optimizer.lr}`` read. Their values must not be replaced, because
        other values depend on them.
    """

    axes: frozenset[int] = frozenset()
    read: frozenset[str] = frozenset()

    def allows(self, key: str) -> bool:
        """Return whether the value of this key may be replaced."""
        return has_values(key) and not any(not other or _overlap(key, other) for other in self.read)


@dataclass(frozen=True)
class _Made:
    """A composed job that serves as a template: other jobs are made from it by replacing values.

    `config` is its composed config. `own` are the chosen options with names of their own, such as
    ``mine``, as pairs of group and option; a name such as ``relu_100`` is made from the option's values.
    `given` has the keys that each of these options sets, by group: see :meth:`Composition._given_by`.
    """

    template: Template
    config: DictConfig
    own: Sequence[tuple[str, str]]
    given: dict[str, Mapping[str, tuple[Any, Any]] | None] = field(default_factory=dict)


class Composition:
    """A command composed with Hydra: the master config, and from it the jobs.

    The master is the config that Hydra composes before it expands a grid. It omits sweep overrides, and its
    groups may lack a choice.

    Parameters
    ----------
    command
        The command.
    rows
        For a later batch of a search: its configurations, each a tuple with the values of the drawn keys.
        Otherwise None: a search draws its first configurations itself.
    """

    def __init__(self, command: Command, rows: Sequence[tuple[Any, ...]] | None = None) -> None:
        self._name, self._rows = command.config_name, rows
        self._configurations: spaces.Drawn | None = None
        self._loader: ConfigLoader = GlobalHydra.instance().config_loader()
        self._parse_all = OverridesParser.create(config_loader=self._loader).parse_overrides
        self._parse = cache(lambda override: self._parse_all([override])[0])
        self._is_group = cache(lambda key: bool(self._loader.get_group_options(key)))
        self._values_of_option = cache(self._values_of)
        safety.refuse_lists_and_numbers(command.overrides)
        parsed = self._parse_all(list(map(conditions.as_override, command.overrides)))
        refuse_nested(parsed)
        refuse_split(parsed)
        folders = _search_path(command, parsed)
        own = [] if command.config_dir is None else [command.config_dir]
        self.search_path = [Path(safety.path_of(folder)) for folder in folders]
        all_folders = [*own, conf_folder(), sweeps_folder(), *self.search_path]
        self._combinations = Combinations(self._compose, self._parse, all_folders, self._name, self._is_group)
        parsed = [override for override in parsed if override.get_key_element() != SEARCH_PATH]
        self._hydras = [line_of(override) for override in parsed if override.is_hydra_override()]
        if folders:
            self._hydras.append(f"{SEARCH_PATH}=[{','.join(map(quoted, folders))}]")
        self._unused = [group for group in UNUSED if group.lstrip("~") not in " ".join(self._hydras)]
        self._tasks = [line_of(override) for override in parsed if not override.is_hydra_override()]
        self._combinations.refuse_endless([self._name])
        self._refuse_endless(self._tasks)
        self._repeats = _repeats(override for override in parsed if not override.is_hydra_override())
        self._omitted: Counter[str] = Counter()
        self._master = self._loader.load_configuration(
            self._name,
            [*self._hydras, *self._tasks],
            RunMode.MULTIRUN,
            from_shell=False,
            validate_sweep_overrides=False,
        )
        safety.refuse_more_than_data(self._master)
        self._plain = PlainValues()
        self._freedoms: dict[tuple[str, ...], _Freedom] = {}
        self._templates: dict[tuple[str, ...], _Made] = {}
        self._grid: Grid | None = None
        self._notes_of_grid: list[str] = []
        self.tuned: tuned.Tuned | None = None
        if command.multirun or self._master.hydra.mode is RunMode.MULTIRUN:
            self._grid = self._expanded()
            self._combinations.expect(self._grid.sets_of_options())
            self._leave_out()

    @property
    def count(self) -> int:
        """The number of jobs."""
        return 1 if self._grid is None else self._grid.count

    @property
    def swept(self) -> tuple[tuple[str, ...], ...]:
        """The keys with several values, in groups: keys joined by ``zip`` are a group and change together."""
        if self._grid is None:
            return ()
        groups = ([self._axes[i] for i in group] for group in self._grid.together)
        return tuple(
            tuple(axis.key for axis in group)
            for group in groups
            if len(group) > 1 or len(group[0].settings) > 1
        )

    def drawn(self, trials: Sequence[str]) -> spaces.Drawn | None:
        """Return the configurations that ``search=tpe`` has drawn for this batch; None for other sweeps.

        Parameters
        ----------
        trials
            The id of each job's trial.
        """
        if self._configurations is None or self._grid is None:
            return None
        jobs = range(self._grid.combinations) if self._grid.kept is None else self._grid.kept.tolist()
        of_rows: list[list[str]] = [[] for _ in self._configurations.rows]
        jobs_a_row = self._grid.combinations // len(of_rows)
        for number, trial in zip(jobs, trials, strict=True):
            of_rows[number // jobs_a_row].append(trial)
        given = self._of_grid("where")
        where = sorted(map(str, given if isinstance(given, list) else [given] if given else []))
        return replace(self._configurations, trials=of_rows, where=where)

    @property
    def _axes(self) -> Sequence[Axis]:
        """The axes of the grid; none for a single trial."""
        return () if self._grid is None else self._grid.axes

    def whole(self) -> DictConfig:
        """Return the config of a single job, with Hydra's node.

        This is the master config itself. If a key has several values, or a group no choice, Hydra raises.
        """
        choices: Any = OmegaConf.to_container(self._master.hydra.runtime.choices, resolve=False)
        swept = any(self._parse(line).is_sweep_override() for line in [*self._hydras, *self._tasks])
        if not swept and "???" not in choices.values():
            return self._master.copy()
        with explained(Exception):
            return hydra_compose(self._name, [*self._hydras, *self._tasks], return_hydra_config=True)

    def refuse_several(self) -> None:
        """Raise if the command is a grid: ``--cfg`` and ``--info`` show the config of a single job."""
        swept = [line for line in self._tasks if self._parse(line).is_sweep_override()]
        if swept and self._grid is not None:
            raise ConfigError(f"{swept[0]}: --cfg and --info show a single job; write one value")

    def jobs(self) -> Iterator[Job]:
        """Yield each job, composed and checked.

        In a grid, a job omits a value that has no meaning in it, such as the batch size of full batches.
        """
        if self._grid is None:
            self._refuse_search_without_sweep()
            yield self._read(_without_hydra(self.whole()), self._tasks)
            return
        jobs: list[Job] = []
        errors: dict[str, MeaninglessError] = {}
        for settings in self._grid:
            jobs.append(self._meaningful_job(settings, errors))
            yield jobs[-1]
        if self._rows is not None:  # in another batch of the search the key may have a meaning
            return
        for key, error in errors.items():
            if all(_value(job.config, key) == _default(key) for job in jobs):
                raise error

    def _meaningful_job(self, settings: Sequence[Setting], errors: dict[str, MeaninglessError]) -> Job:
        """Return the job with these settings, without the values that have no meaning in it.

        Such a key has its default instead, and its error is added to `errors`.
        """
        omitted: dict[str, MeaninglessError] = {}
        job = self._made_from_template(settings, omitted)
        if job is None:
            omitted.clear()
            job = self._composed_job([setting.line for setting in settings], omitted)
        errors.update(omitted)
        self._omitted.update(omitted.keys())
        return job

    def _composed_job(self, overrides: Sequence[str], omitted: dict[str, MeaninglessError]) -> Job:
        composed = self.composed(overrides)
        while True:
            try:
                kept = [line for line in overrides if key_of(line) not in omitted]
                return self._read(composed, kept)
            except MeaninglessError as error:
                if error.key in omitted:
                    raise
                omitted[error.key] = error
                OmegaConf.update(composed.config, error.key, _default(error.key))

    def _made_from_template(
        self, settings: Sequence[Setting], omitted: dict[str, MeaninglessError]
    ) -> Job | None:
        """Return the same job as :meth:`_composed_job` in a hundredth of the time.

        Only the first job with the same options is composed. Any other job is a copy of it with its
        own plain values, such as numbers. Return None if the jobs differ in more than that.
        """
        options = tuple(
            setting.line for setting, axis in zip(settings, self._axes, strict=True) if not axis.is_plain
        )
        freedom = self._freedom(options)
        if not freedom.axes:
            return None
        try:
            values = {
                self._axes[i].key: self._plain.converted(self._axes[i].key, settings[i].value)
                for i in freedom.axes
            }
        except OmegaConfBaseException:  # composing the job gives the message
            return None
        shared = tuple(setting.line for i, setting in enumerate(settings) if i not in freedom.axes)
        lines = tuple(setting.line for setting in settings)
        if shared not in self._templates:
            make_room(self._templates)
            composed = self.composed(lines)
            job = read_unchecked(composed.config, composed.choices, lines)
            self._templates[shared] = _Made(Template(job), composed.config, _own_options(job.choices))
        made = self._templates[shared]
        while True:
            config = made.template.config(values)
            try:
                check(config)
                break
            except MeaninglessError as error:
                if error.key in omitted:
                    raise
                default = _default(error.key)
                if not freedom.allows(error.key) or not is_plain(default):
                    return None
                omitted[error.key], values[error.key] = error, default
        if omitted:
            lines = tuple(line for line in lines if key_of(line) not in omitted)
        return replace(made.template.job, config=config, overrides=lines, changed=self._changed(made, values))

    def _freedom(self, options: tuple[str, ...]) -> _Freedom:
        """Return the axes whose values can simply be replaced in a composed job with these options."""
        if options not in self._freedoms:
            make_room(self._freedoms)
            self._freedoms[options] = self._new_freedom(options)
        return self._freedoms[options]

    def _new_freedom(self, options: tuple[str, ...]) -> _Freedom:
        plain = [axis for axis in self._axes if axis.is_plain]
        lines = [*options, *(axis.settings[0].line for axis in plain)]
        if not plain or not self._options_and_values(lines)[1]:
            return _Freedom()
        config = self._combinations.of(options).config
        read = [*references(OmegaConf.to_container(config, resolve=False))]
        for axis in plain:
            read += [key for setting in axis.settings for key in references(setting.value, axis.key)]
        freedom = _Freedom(read=frozenset(read))
        free = [
            i
            for i, axis in enumerate(self._axes)
            if axis.is_plain
            and freedom.allows(axis.key)
            and all(is_plain(setting.value) for setting in axis.settings)
            and not any(_overlap(axis.key, other.key) for other in plain if other is not axis)
        ]
        return replace(freedom, axes=frozenset(free))

    def job(self, overrides: Sequence[str]) -> Job:
        """Compose and check the job with these overrides, which have a single value each.

        Raise if one of them has no meaning beside the others.
        """
        return self._read(self.composed(overrides), overrides)

    def _read(self, composed: Composed, overrides: Sequence[str]) -> Job:
        job = read(composed.config, composed.choices, overrides)
        own = _own_options(job.choices)
        return replace(job, changed=self._changed(_Made(Template(job), composed.config, own), {}))

    def _changed(self, made: _Made, values: Mapping[str, Any]) -> frozenset[str]:
        """Return the groups whose config differs from the file of their option.

        An example is the group ``init`` after ``init=mine init.gain=2``. `values` are the plain
        values, by key, that replace those of the composed config.
        """
        for group, option in made.own:
            if group not in made.given:
                made.given[group] = self._given_by(group, option, made.config)

        def differs(given: Mapping[str, tuple[Any, Any]] | None) -> bool:
            return given is None or any(values.get(key, now) != own for key, (now, own) in given.items())

        return frozenset(group for group, _ in made.own if differs(made.given[group]))

    def _given_by(self, group: str, option: str, config: DictConfig) -> dict[str, tuple[Any, Any]] | None:
        """Return the keys that an option sets, each with its value in `config` and that in the option's file.

        Return None if the option can't be composed by itself.
        """
        values = self._values_of_option(f"{group}/{option}")
        if values is None:
            return None
        merged = config.copy()
        merged.merge_with(values)
        containers: list[Any] = [
            OmegaConf.to_container(each, resolve=False) for each in (config, merged, values)
        ]
        now, after, own = (container[group] for container in containers)
        return {f"{group}.{name}": (now[name], after[name]) for name, value in own.items() if value != "???"}

    def _values_of(self, name: str) -> DictConfig | None:
        """Return the values that an option sets; None if it can't be composed by itself."""
        try:
            whole = self._loader.load_configuration(name, self._hydras, RunMode.RUN)
        except (HydraException, OmegaConfBaseException, FnnexpError, ValueError):
            return None
        return _without_hydra(whole).config

    def composed(self, overrides: Sequence[str]) -> Composed:
        """Compose the config with these overrides, which have a single value each. It is not checked."""
        options, values = self._options_and_values(overrides)
        composed = self._combinations.of(tuple(options))
        config = composed.config.copy()
        try:
            for override in values:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # composing again gives Hydra's message, which `explain` knows
            composed = self._compose(tuple(overrides))
            config = composed.config.copy()
        return Composed(config, composed.choices)

    def notes(self) -> list[str]:
        """Return the notes on the command, once its jobs are composed."""
        omitted = [
            f"{key} is omitted in {count} of {plural(self.count, 'job')}, where it has no meaning"
            for key, count in self._omitted.items()
        ]
        ignored = filter(None, [self._note_of_ignored_grid()])
        return [*ignored, *self._notes_of_grid, *self._notes_of_repeats(), *omitted]

    def _notes_of_repeats(self) -> Iterator[str]:
        for key, overrides in self._repeats.items():
            note = f"{key} is given {len(overrides)} times, and the last counts: {line_of(overrides[-1])}"
            may_differ = self._grid is None and _is_scientific(key)
            yield note + (
                f"; for one trial per value write -m {_as_sweep(key, overrides)}" if may_differ else ""
            )

    def _refuse_repeats(self) -> None:
        """Raise if a grid's command gives a key several times with single values, as in ``seed=0 seed=1``.

        A shell makes this of ``seed={0..4}``, and only the last value would run.
        """
        for key, overrides in self._repeats.items():
            if any(override.is_sweep_override() for override in overrides) or not _is_scientific(key):
                continue
            last = line_of(overrides[-1])
            raise ConfigError(
                f"{key} is given {len(overrides)} times, as when a shell expands {key}={{…}}, and only the "
                f"last would run; write {_as_sweep(key, overrides)}, or, for just the last value, "
                f"{last if self._is_group(key) else f'++{last}'}"
            )

    def _note_of_ignored_grid(self) -> str | None:
        """Return the note that a single trial runs although the config has a grid, or None."""
        if self._grid is not None:
            return None
        given = [key for key in OF_GRIDS if self._of_grid(key)]
        if in_command := [line for line in self._tasks if key_of(line) in given]:
            raise ConfigError(f"{in_command[0]}: is for sweeps, and this command runs a single trial; add -m")
        unresolved: Any = OmegaConf.to_container(
            self._master.hydra.sweeper.params or OmegaConf.create(), resolve=False
        )
        grid = self._parse_all(_lines_of(unresolved))
        overridden = {self._parse(line).get_key_element() for line in self._tasks}
        counts = value_counts(override for override in grid if override.get_key_element() not in overridden)
        if not counts:
            ignored = " and ".join(given)
            return f"ignoring {ignored}: running a single trial; -m runs a sweep" if given else None
        name = grid_name(self._name)
        in_file = "" if name is None else f", or hydra.mode: MULTIRUN in {name}.yaml,"
        size = "" if given else f" of {math.prod(counts.values())}"
        return f"ignoring hydra.sweeper.params: running a single trial; -m{in_file} runs the grid{size}"

    def _of_grid(self, key: str) -> Any:
        """Return the value of a key of the whole sweep, such as ``zip`` or ``compare``."""
        value = OmegaConf.select(self._master, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    def _expanded(self) -> Grid:
        """Return the grid with all combinations of its axes."""
        swept = [line for line in self._hydras if self._parse(line).is_sweep_override()]
        if swept:
            raise ConfigError(f"{swept[0]}: Hydra's own keys must have a single value; write one value")
        self._refuse_repeats()
        lines = [*self._params(), *self._tasks]
        safety.refuse_lists_and_numbers(lines)
        overrides = self._parse_all(lines)
        if hydras := [override for override in overrides if override.is_hydra_override()]:
            raise ConfigError(
                f"{line_of(hydras[0])}: Hydra's own keys cannot be swept; remove this line "
                "from hydra.sweeper.params"
            )
        of_grid = [override for override in overrides if key_of(override.key_or_group) in OF_GRIDS]
        if swept := [line_of(override) for override in of_grid if override.is_sweep_override()]:
            raise ConfigError(f"{swept[0]}: must be a single list; write {key_of(swept[0])}=[…,…]")
        # A later override of a key takes the place of an earlier one.
        last = {o.get_key_element(): o for o in overrides if o not in of_grid}
        last = self._with_levels(last)
        refuse_nested(last.values())
        refuse_split(last.values())
        self._search = self._search_of([*last.values()])
        trials = self._search.trials
        if trials is None and self._search.name == "halving" and any(map(is_continuous, last.values())):
            trials = spaces.DRAWN
        if trials is not None or self.tuned is not None:
            return self._drawn([*last.values()], trials)
        counts = value_counts(last.values())
        groups = axes.together(self._of_grid("zip"), counts)
        refuse_too_many({group[0]: counts[group[0]] for group in groups}, bool(self._of_grid("where")))
        for override in last.values():
            if override.is_sweep_override() and not override.is_discrete_sweep():
                self._refuse_unknown(override.key_or_group)
            refuse_continuous(override)
        if not all(counts.values()):
            raise ConfigError(
                f"{' '.join(lines)}: the sweep has no jobs, because a key has no values; write one or more"
            )
        index = {key: i for i, key in enumerate(last)}
        return Grid(
            [self._axis(override) for override in last.values()],
            [[index[key] for key in group] for group in groups],
        )

    def _with_levels(self, last: dict[str, Override]) -> dict[str, Override]:
        """Add the overrides that ``compare`` and ``tune`` imply; without ``tune``, add none.

        For example, ``compare=init`` adds an override with all initializers. `last` has the last
        override of each key. The jobs of a tuned comparison have one seed, from which the trials of
        all its seeds are made.
        """
        for key in ("compare", "tune"):
            if key in last and last[key].is_sweep_override():
                raise ConfigError(f"{line_of(last[key])}: must be a single list; write {key}=[…,…]")
        self.tuned = tuned.named(self._of_grid("compare"), self._of_grid("tune"), self._is_group)
        if self.tuned is None:
            return last
        swept = {key: override.is_sweep_override() for key, override in last.items()}
        given = {key: line_of(override) for key, override in last.items()}
        added = tuned.lines_of_values(self.tuned, swept, given, self._loader.get_group_options)
        last = {**last, **{key_of(line): self._parse(line) for line in added}}
        for name in self.tuned.compare:
            refuse_continuous(last[name])
        if not swept.get("seed") or not last["seed"].is_discrete_sweep():
            return last
        refuse_without_memory(value_count(last["seed"]), "seed")
        values = [*last["seed"].sweep_iterator()]
        seeds = [value for value in values if type(value) is int]
        if len(seeds) == len(values) > 0:  # else seeds are wrong, and composing the jobs gives the message
            self.tuned = replace(self.tuned, fresh=tuple(seeds))
            last["seed"] = self._parse(f"seed={min(seeds)}")
        return last

    def _drawn(self, overrides: Sequence[Override], trials: int | None) -> Grid:
        """Return the grid of the configurations that a search draws, each with a value of every drawn key.

        `trials` is the number of configurations. None draws all of a finite space, or else
        :data:`tuned.DRAWS`.
        """
        if self._of_grid("zip"):
            key = f"search={self._search.name}" if self.tuned is None else f"tune={self.tuned.tune[0]}"
            instead = ", or search=grid" if self.tuned is None else ""
            raise ConfigError(
                f"{key}: draws each key by itself, so zip has no meaning; write zip=null{instead}"
            )
        dimensions = self._spaces(overrides)
        others = [i for i in range(len(overrides)) if i not in dimensions]
        counts = value_counts(overrides[i] for i in others)
        size = spaces.size_of(dimensions.values())
        if trials is None:
            trials = int(size) if math.isfinite(size) else tuned.DRAWS
        refuse_too_many(counts | {"search.trials": min(size, trials)}, bool(self._of_grid("where")))
        if not (size and all(counts.values())):
            raise ConfigError(
                f"{' '.join(map(line_of, overrides))}: the sweep has no jobs, because a key has no values; "
                "write one or more"
            )
        keyed = [(key_of(overrides[i].key_or_group), space) for i, space in dimensions.items()]
        rows = self._rows
        if rows is None:
            first = trials if size <= trials or self._search.name != "tpe" else min(trials, spaces.BATCH)
            rows = spaces.drawn(keyed, first, self._search.name)
        if self._search.name == "tpe":
            self._configurations = spaces.Drawn(keyed, rows)
        columns = dict(zip(dimensions, zip(*rows, strict=True), strict=True))
        drawn = [self._axis(override, columns.get(i)) for i, override in enumerate(overrides)]
        seeds = math.prod(len(drawn[i].settings) for i in others)
        keys = [drawn[i].key for i in dimensions]
        in_batches = self._search.name == "tpe" and size > trials
        n = trials if in_batches else len(rows)
        if self.tuned is None:
            self._notes_of_grid.append(self._note_of_search(trials, n, keys, seeds))
        return Grid(drawn, [[*dimensions], *([i] for i in others)])

    def _search_of(self, overrides: Sequence[Override]) -> SearchConfig:
        """Return the values of the group ``search``, checked. Raise if the command sweeps over searches."""
        given = [override for override in overrides if _is_of("search", override)]
        for override in given:
            if override.is_sweep_override():
                raise ConfigError(f"{line_of(override)}: a sweep has one search; write one value")
        master = self._master
        if in_file := [line for line in map(line_of, given) if line not in self._tasks]:
            master = self._loader.load_configuration(
                self._name,
                [*self._hydras, *in_file, *self._tasks],
                RunMode.MULTIRUN,
                from_shell=False,
                validate_sweep_overrides=False,
            )
        values: Any = OmegaConf.to_container(master.get("search") or OmegaConf.create(), resolve=True)
        search = SearchConfig(**values)
        check_search(search, tuned=self.tuned is not None)
        return search if self.tuned is None else tuned.search_of(search)

    def _spaces(self, overrides: Sequence[Override]) -> dict[int, spaces.Space]:
        """Return the space of each key to draw, by the index of its override in `overrides`.

        All keys with several values are drawn except seeds; with ``tune``, only the tuned keys.
        """
        swept = {i: override for i, override in enumerate(overrides) if override.is_sweep_override()}
        for override in swept.values():
            self._refuse_unknown(override.key_or_group)
        seeds = {i for i, override in swept.items() if override.key_or_group in SEEDS}
        for i in seeds:
            if not swept[i].is_discrete_sweep():
                key = swept[i].get_key_element()
                raise ConfigError(
                    f"{line_of(swept[i])}: seeds are not drawn at random, since each configuration is "
                    f"trained with all seeds; list them, as in {key}=range(3)"
                )
        if not swept.keys() - seeds:
            raise ConfigError(
                f"search={self._search.name}: there is nothing to draw, because no key has several values "
                "except seeds; write an interval or a list, as in 'optimizer.lr=tag(log,interval(1e-4,1))'"
            )
        return {
            i: spaces.space_of(override, self._is_group(override.key_or_group))
            for i, override in swept.items()
            if i not in seeds and (self.tuned is None or override.key_or_group in self.tuned.tune)
        }

    def _refuse_unknown(self, key: str) -> None:
        """Raise if the schema has no such key. Keys inside a value (``optimizer.lr_for.mini``) may be new."""
        parts = key.split(".")
        starts = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        if self._is_group(key) or key in NODES or any(map(has_values, starts)):
            return
        node = next((start for start in reversed(starts) if start in NODES), "")
        known = [f"{node}.{name}" for name in keys_of(NODES[node])] if node else keys_of(Config)
        raise ConfigError(no_such_key(key, known))

    def _refuse_search_without_sweep(self) -> None:
        """Raise if the command runs a single trial, but names a search, which chooses among several."""
        name = OmegaConf.select(self._master, "search.name", default="grid")
        if name not in ("grid", None):
            raise ConfigError(
                f"search={name}: chooses the configurations of a sweep; write -m and the values to choose "
                f"from, as in fnnexp -m search={name} 'optimizer.lr=tag(log,interval(1e-4,1))', or omit it"
            )

    def _note_of_search(self, trials: int, n: int, keys: Sequence[str], seeds: int) -> str:
        """Return the note on a search, which draws `n` configurations of `keys`; `trials` were asked for."""
        listed, count = ", ".join(keys), n * seeds
        seeded = f"; with {plural(seeds, 'seed')} each, {plural(count, 'trial')}" if seeds > 1 else ""
        if n < trials:
            return (
                f"search.trials={trials}: there are only {plural(n, 'different configuration')} of "
                f"{listed}, and all are trained{seeded}"
            )
        batches = f", in batches of {spaces.BATCH}" if self._search.name == "tpe" else ""
        return (
            f"search={self._search.name}: {plural(n, 'configuration')} drawn from {listed}{batches}{seeded}"
        )

    def _leave_out(self) -> None:
        """Leave out the jobs of the grid in which a sentence of ``where`` does not hold."""
        sentences = conditions.sentences(self._of_grid("where"), self._named)
        if self._grid is None or not sentences:
            return
        values = self._values_of_keys({each.key for sentence in sentences for each in sentence.comparisons})
        in_command = {key_of(line) for line in self._tasks}
        is_batch = self._configurations is not None  # a value that it lacks may occur in another batch
        for key, message in () if is_batch else conditions.never(sentences, values):
            if "where" in in_command or not any(_overlap(key, other) for other in in_command):
                raise ConfigError(message)
            # No error: the `where` is in a file, and the command changed the grid of that file.
            self._notes_of_grid.append(message)
        count = self._grid.combinations
        self._grid = replace(self._grid, kept=conditions.kept(sentences, self._grid.shape, values))
        if not self._grid.count and self._rows is None:
            raise ConfigError(
                f"where: leaves out {'the only job' if count == 1 else f'all {count} jobs'}; write "
                "conditions that some jobs meet, or where=null"
            )
        refuse_without_memory(self._grid.count, max(self._axes, key=lambda axis: len(axis.settings)).key)
        left_out = count - self._grid.count
        self._notes_of_grid.append(f"where: leaves out {left_out or 'none'} of {plural(count, 'job')}")

    def _named(self, key: str, text: str) -> Any:
        """Convert a text in a sentence of ``where`` to a value of its key: the ``3`` of ``seed=3`` to 3."""
        if key in NODES and not self._is_group(key):
            raise ConfigError(f"where: {key} has keys; write {key}.{keys_of(NODES[key])[0]}=…")
        if not self._is_group(key) and not has_values(key):
            raise ConfigError(f"where: {no_such_key(key, keys_of(Config))}")
        no_value = ConfigError(
            f"where: {key}={text}: is not a value; write a name, a number or a list; a text with other "
            f"characters needs quotes, as in {key}='a;b'"
        )
        try:
            override = self._parse(f"{key}={text}")
        except HydraException as error:
            raise no_value from error
        value = override.value()
        if override.is_sweep_override() or not is_plain(value):
            raise no_value
        return _option(override) if self._is_group(key) else self._plain.converted(key, value)

    def _values_of_keys(self, keys: Iterable[str]) -> dict[str, conditions.Values]:
        """Return the values of these keys in the grid's combinations, to find where a sentence holds."""
        assert self._grid is not None
        values: dict[str, conditions.Values] = {}
        for number, group in enumerate(self._grid.together):
            for axis in (self._axes[i] for i in group):
                if axis.key in keys and self._is_group(axis.key):
                    options = [_option(self._parse(setting.line)) for setting in axis.settings]
                    values[axis.key] = conditions.Values((number,), options)
                elif axis.key in keys and axis.is_plain:
                    given = [setting.value for setting in axis.settings]
                    if all(map(is_plain, given)):
                        plain = [self._plain.converted(axis.key, value) for value in given]
                        values[axis.key] = conditions.Values((number,), plain)
        others = [key for key in keys if key not in values]
        return values | self._values_in_jobs(others) if others else values

    def _values_in_jobs(self, keys: Sequence[str]) -> dict[str, conditions.Values]:
        """Return the values of keys that are not axes of the grid, by composing its jobs.

        An example is ``init.method`` in a grid over ``init``. Such values depend on the options, and
        on the values that references read.
        """
        assert self._grid is not None
        free = frozenset(range(len(self._axes)))
        for options in dict.fromkeys(self._grid.sets_of_options()):
            free &= self._freedom(options).axes
        groups = [i for i, group in enumerate(self._grid.together) if not free.issuperset(group)]
        jobs = []
        for settings in self._grid.varying(groups):
            lines = [setting.line for setting in settings]
            composed = self.composed(lines)
            jobs.append(read_unchecked(composed.config, composed.choices, lines))
        return {
            key: conditions.Values(
                tuple(groups),
                [_label(job, key) if self._is_group(key) else _value(job.config, key) for job in jobs],
            )
            for key in keys
        }

    def _axis(self, override: Override, drawn: Sequence[Any] | None = None) -> Axis:
        """Return the axis of an override, with a setting for each of its values or, if given, of `drawn`."""
        key = override.key_or_group
        sets_value = override.type is OverrideType.CHANGE and override.package is None
        is_plain = sets_value and not self._is_group(key)
        settings = [
            Setting(line, self._value_in(line, element) if is_plain else None)
            for line, element in values_of(override, drawn)
        ]
        return Axis(key, settings, is_plain)

    def _value_in(self, line: str, element: Any) -> Any:
        """Return the value that the override `line` sets.

        `element` is this value as it stands in Hydra's list of values. If it is a number, `line` need
        not be parsed.
        """
        return element if type(element) in (int, float) else self._parse(line).value()

    def _params(self) -> list[str]:
        """Return ``hydra.sweeper.params`` as overrides, with their references ``${key}`` replaced by values.

        A reference may name a key of the config, but no resolver.
        """
        config = self._master.copy()
        unresolved: Any = OmegaConf.to_container(
            config.hydra.sweeper.params or OmegaConf.create(), resolve=False
        )
        with open_dict(config):
            del config["hydra"]
            config["hydra"] = {"sweeper": {"params": unresolved}}
        params: Any = OmegaConf.to_container(config.hydra.sweeper.params, resolve=True)
        lines = _lines_of(params)
        for line in lines:
            safety.refuse_resolvers(re.sub(r"\\(.)", r"\1", line), "hydra.sweeper.params")
        self._refuse_endless(lines)
        return lines

    def _refuse_endless(self, lines: Iterable[str]) -> None:
        """Raise if the defaults of an option lead to too many configs, before Hydra follows them."""
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
        return _without_hydra(whole)

    def _options_and_values(self, overrides: Sequence[str]) -> tuple[list[str], list[Override]]:
        """Split overrides into lines that Hydra must compose, and parsed overrides with plain values.

        Hydra must compose the overrides that choose options, delete or add keys, or name a package.
        """
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
        keys = [
            override.key_or_group
            for override in options
            if not (self._is_group(override.key_or_group) and isinstance(override.value(), str))
        ]
        if any(_overlap(key, override.key_or_group) for key in keys for override in values):
            return list(overrides), []  # their order matters, so Hydra applies them all
        return [line_of(override) for override in options], values


def _search_path(command: Command, parsed: Sequence[Override]) -> list[str]:
    """Return the folders of ``hydra.searchpath`` as addresses that fnnexp's reader accepts.

    As in Hydra, the command line overrides the primary config, and no other config may set it.
    """
    in_command = [override.value() for override in parsed if override.get_key_element() == SEARCH_PATH]
    folders = in_command[-1] if in_command else _search_path_in_file(command)
    if folders is None:
        return []
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise ConfigError(
            f"{SEARCH_PATH}={folders}: must be a list of folders; write -cd FOLDER, or {SEARCH_PATH}=[FOLDER]"
        )
    addresses = [safety.address(folder) for folder in folders]
    for folder, address in zip(folders, addresses, strict=True):
        if not Path(safety.path_of(address)).is_dir():
            raise ConfigError(f"{SEARCH_PATH}: there is no folder {folder}; write a folder that exists")
    return addresses


def _search_path_in_file(command: Command) -> Any:
    """Return ``hydra.searchpath`` of the user's primary config, or None."""
    if command.config_dir is None:
        return None
    safety.refuse_outside(command.config_name, command.config_dir)
    file = command.config_dir / f"{command.config_name.removesuffix('.yaml')}.yaml"
    config = safety.load(file) if file.is_file() else None
    value = OmegaConf.select(config, SEARCH_PATH) if isinstance(config, DictConfig) else None
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _without_hydra(whole: DictConfig) -> Composed:
    """Return the options chosen, and the composed config without its ``hydra`` node.

    ``zip`` and ``where``, which only say which jobs a grid has, become None.
    """
    choices: Any = OmegaConf.to_container(whole.hydra.runtime.choices, resolve=False)
    choices = {group: option for group, option in choices.items() if not group.startswith("hydra/")}
    with open_dict(whole):
        del whole["hydra"]
        for key in OF_GRIDS:
            if key in whole:
                whole[key] = None
    return Composed(whole, choices)


def _own_options(choices: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return pairs of a group and its chosen option, if the option has a name of its own, such as ``mine``.

    A name such as ``relu_100`` is not the option's own: it is made from the option's values.
    """
    chosen = ((group, choices.get(group)) for group in CHOICES)
    return [(group, option) for group, option in chosen if option and not is_label_from_values(group, option)]


def _lines_of(params: Mapping[str, Any]) -> list[str]:
    """Return the entries of ``hydra.sweeper.params`` as overrides, such as ``init=he,max``."""
    for key, value in params.items():
        if key in OF_GRIDS:
            raise ConfigError(
                f"hydra.sweeper.params.{key}: is not swept over; write {key}: at the top level of the file, "
                "beside hydra:"
            )
        if isinstance(value, dict):
            inner = next(iter(value), "KEY")
            raise ConfigError(
                f"hydra.sweeper.params.{key}: contains keys, but each key must be written in full; write "
                f"{key}.{inner}: followed by its values"
            )
    return [f"{key}={value}" for key, value in params.items()]


def _is_of(group: str, override: Override) -> bool:
    """Return whether an override chooses an option of a group or sets one of its keys."""
    return str(override.key_or_group).partition(".")[0] == group


def _repeats(overrides: Iterable[Override]) -> dict[str, list[Override]]:
    """Return the keys that are given several times with different values, each with all its overrides."""
    by_key: dict[str, list[Override]] = {}
    for override in overrides:
        by_key.setdefault(override.get_key_element(), []).append(override)
    return {key: lines for key, lines in by_key.items() if len(set(map(line_of, lines))) > 1}


def _option(override: Override) -> str | None:
    """Return the option that an override chooses; None if it chooses none."""
    return None if override.is_delete() else str(override.value()).removesuffix(".yaml")


def _label(job: Job, group: str) -> str | None:
    """Return the name of a job's option of a group; None if no option of the group is chosen.

    A name that is made from values, such as ``relu_100``, is made anew from the values of this job.
    """
    option = job.choices.get(group)
    if option is None or group not in CHOICES or not is_label_from_values(group, option):
        return option
    return labels_from_values(job.config)[group]


def _is_scientific(key: str) -> bool:
    return key_of(key).partition(".")[0] not in UNSCIENTIFIC


def _as_sweep(key: str, overrides: Sequence[Override]) -> str:
    """Return one override with the values of several: ``init=he,max`` for ``init=he`` and ``init=max``."""
    values = [override.value() for override in overrides]
    first = values[0]
    if len(values) > 2 and type(first) is int and values == list(range(first, first + len(values))):
        return f"'{key}=range({first},{first + len(values)})'".replace("(0,", "(")
    texts = (str(override.get_value_element_as_str()) for override in overrides)
    return f"{key}={','.join(dict.fromkeys(texts))}"


def _value(config: Any, key: str) -> Any:
    return reduce(getattr, key.split("."), config)


def _default(key: str) -> Any:
    """Return the schema's default for a key such as ``batching.size`` or ``seed_order``."""
    return _value(Config(), key)


def _overlap(key: str, other: str) -> bool:
    """Return whether two keys are the same, or one is a node that contains the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
