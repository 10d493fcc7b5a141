"""From a sweep's overrides to its jobs, composed by Hydra as seldom as can be.

Composing costs Hydra tens of milliseconds, and a grid has thousands of jobs. Hydra has composed one config
before it hands the jobs over; what a job changes of it is put in its place: values with the function of
OmegaConf that Hydra uses for them, options of a group with the function of Hydra that merges their files.
Whatever is not plain (``+key``, ``~key``, packages, options made of others) is composed by Hydra as usual,
and so is what either refuses, so that the refusal comes in Hydra's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fnnexp.config.schema import Job, check, read

COMPUTED = re.compile(r"\$\{(?!\s*\.\w+\.)[^{}]*\$\{")
"""A reference whose name another gives, but for those in their own node: ``${.lr_for.${batching.mode}}``."""

Composed = tuple[DictConfig, Mapping[str, Any]]
"""A config without Hydra's node, and the options chosen."""


def jobs(loader: Any, master: DictConfig, job_overrides: Sequence[Sequence[str]]) -> Iterator[Job]:
    """Yield each job of a sweep, composed and checked.

    Raises
    ------
    FnnexpError
        When a value is missing or not allowed.
    HydraException, OmegaConfBaseException
        When Hydra can't compose a job.
    """
    with _files_read_once(loader):
        composer = _Composer(loader, master)
        for overrides in job_overrides:
            yield composer.job(overrides)


@dataclass
class _Family:
    """Jobs that give values to the same keys of the same options.

    ``config`` is the last one's, ``job`` the first one's, as are ``told``, its overrides by key, and
    ``names``, all words in its config's references.
    """

    config: DictConfig
    job: Job
    told: Mapping[str, str]
    names: frozenset[str]


class _Composer:
    def __init__(self, loader: Any, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        parser = OverridesParser.create(config_loader=loader)
        self._parse = cache(lambda override: parser.parse_overrides(overrides=[override])[0])
        self._is_group = cache(lambda key: bool(loader.get_group_options(key)))
        told = [self._parse(line) for line in as_written(master.hydra.overrides.task)]
        self._fixed = {_as_swept(p) for p in told if not p.is_sweep_override()}
        self._combinations = _Combinations(loader, master)
        self._families: dict[tuple[Any, ...], _Family] = {}

    def composed(self, overrides: Sequence[str]) -> Composed:
        """Return the job's config and choices."""
        if not self._fixed <= {_as_swept(self._parse(line)) for line in overrides}:  # the master has more
            return _by_hydra(self._loader, self._master, overrides)
        options, values = self._parts(overrides)
        config, choices = self._combinations.of(options)
        config = config.copy()
        try:
            _put(values, config)
        except OmegaConfBaseException:
            return _by_hydra(self._loader, self._master, overrides)
        return config, choices

    def job(self, overrides: Sequence[str]) -> Job:
        """Return the job, read anew only where more than values of its own differ from one read before."""
        options, values = self._parts(overrides)
        key = (_lines(options), tuple(p.key_or_group for p in values))
        family = self._families.get(key)
        if family is not None and (like := self._like(family, values, overrides)):
            return like
        config, choices = self.composed(overrides)
        job = read(config, choices, overrides)
        references = " ".join(_references(OmegaConf.to_container(config, resolve=False)))
        if COMPUTED.search(references):
            return job
        names = re.findall(r"\w+", references)
        told = {p.key_or_group: p.input_line for p in values}
        self._families[key] = _Family(config, job, told, frozenset(names))
        return job

    def _like(self, family: _Family, values: Sequence[Any], overrides: Sequence[str]) -> Job | None:
        """Return a job that differs from its family's in values at the top that nothing refers to, or None.

        The family's config takes each job's values in turn: as all of them change the same keys, none of
        another job's is left.
        """
        given = {p.key_or_group: p.value() for p in values}
        others = [p.key_or_group for p in values if p.input_line != family.told[p.key_or_group]]
        if len(given) < len(values) or any("." in key or key in family.names for key in others):
            return None
        if not all(_is_plain(value) for value in given.values()):
            return None
        try:
            _put(values, family.config)
            own = {key: family.config[key] for key in others}
        except OmegaConfBaseException:
            return None
        config = replace(family.job.config, **own)
        check(config)
        return Job(config, family.job.choices, tuple(overrides))

    def _parts(self, overrides: Sequence[str]) -> tuple[list[Any], list[Any]]:
        """Return the parsed overrides in two: what chooses options or is not plain, and what gives values."""
        parsed = [self._parse(override) for override in overrides]
        values = [
            p
            for p in parsed
            if p.type is OverrideType.CHANGE and p.package is None and not self._is_group(p.key_or_group)
        ]
        chosen = [p for p in parsed if all(p is not value for value in values)]
        others = [p.key_or_group for p in chosen if not self._is_group(p.key_or_group)]
        if any(_meet(key, p.key_or_group) for key in others for p in values):
            return parsed, []  # the later one counts
        return chosen, values


class _Combinations:
    """The configs of a sweep by what chooses options, made from the master, which Hydra composed for it.

    Where options are plain files, each fills its own group's node whatever the others are. So a config with
    other options than the master's is the master but for those nodes.
    """

    def __init__(self, loader: Any, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._base = cache(lambda: _without_hydra(master.copy()))
        self._node = cache(self._merged)
        self._is_plain = cache(self._looks_plain)
        self._defaults = cache(self._looked_up)
        self._known: dict[tuple[str, ...], Composed] = {}

    def of(self, overrides: Sequence[Any]) -> Composed:
        """Return the config and chosen options of the parsed overrides."""
        key = _lines(overrides)
        if key not in self._known:
            self._known[key] = self._made(overrides) or _by_hydra(self._loader, self._master, key)
        return self._known[key]

    def _made(self, overrides: Sequence[Any]) -> Composed | None:
        """Return a combination made from the master, or None where that can't be."""
        chosen = {p.key_or_group: _option(p) for p in overrides}
        if len(chosen) < len(overrides) or None in chosen.values():  # an addition reaches into any node
            return None
        base, base_choices = self._base()
        config, choices = base.copy(), dict(base_choices)
        for group, option in chosen.items():
            if option != choices.get(group):
                node = self._node(group, option, choices.get(group))
                if node is None:
                    return None
                config[group] = node
                choices[group] = option
        if "???" in choices.values():  # the master may lack a choice; a job may not
            return None
        return config, choices

    def _merged(self, group: str, option: str, instead_of: str | None) -> Any:
        """Return a group's node with an option of it, or None where other nodes may depend on it."""
        if instead_of is None or "/" in group:
            return None
        file, replaced = f"{group}/{option}", f"{group}/{instead_of}"
        defaults = self._defaults()
        if [d.package for d in defaults if d.config_path == replaced] != [group]:
            return None
        if not self._is_plain(file) or not self._is_plain(replaced):
            return None
        now = [replace(d, config_path=file) if d.config_path == replaced else d for d in defaults]
        its_own = [d for d in now if self._tells(d, group)]
        try:
            repo = CachingConfigRepository(self._loader.repository)  # as Hydra: a file named twice is one
            return self._loader._compose_config_from_defaults_list(its_own, repo)[group]
        except (HydraException, OmegaConfBaseException):
            return None

    def _looked_up(self) -> Sequence[Any]:
        """Return the files of the master in their order; none where choices hang together."""
        hydra = self._master.hydra
        if hydra.searchpath:
            return ()
        words = [*as_written(hydra.overrides.hydra), *as_written(hydra.overrides.task)]
        found = self._loader.compute_defaults_list(hydra.job.config_name, words, RunMode.MULTIRUN).defaults
        ours = [d for d in found if d.config_path and not (d.package or "").startswith("hydra")]
        files = [self._file(d.config_path) for d in ours]
        return () if any(file is None or "${" in str(file.defaults_list) for file in files) else ours

    def _looks_plain(self, path: str) -> bool:
        """Whether a file is there, names no other files and is for the node of its group's name."""
        file = self._file(path)
        return (
            file is not None
            and not file.defaults_list
            and file.header.get("package") in (None, path.split("/")[0])
        )

    def _tells(self, default: Any, group: str) -> bool:
        """Whether a file of the defaults list has anything for a group's node."""
        package = default.package or ""
        if package:
            return bool(package.split(".")[0] == group)
        return group in self._file(default.config_path).config.keys()  # noqa: SIM118 - `in` it would resolve

    def _file(self, path: str) -> Any:
        return self._loader.repository.load_config(path)


def as_written(overrides: Any) -> list[str]:
    """Return overrides as they were written: what reads them one by one would resolve their ``${...}``."""
    words: Any = OmegaConf.to_container(overrides, resolve=False)
    return [str(word) for word in words]


def _by_hydra(loader: Any, master: DictConfig, lines: Sequence[str]) -> Composed:
    return _without_hydra(loader.load_sweep_config(master, list(lines)))


def _without_hydra(config: DictConfig) -> Composed:
    """Return what is ours of a composed config, and the options chosen."""
    choices: Any = OmegaConf.to_container(config.hydra.runtime.choices, resolve=False)
    with open_dict(config):
        del config["hydra"]
    return config, choices


def _put(values: Iterable[Any], config: DictConfig) -> None:
    """Give a config the values of plain overrides, as Hydra does."""
    for p in values:
        OmegaConf.update(config, p.key_or_group, p.value(), merge=True)


def _meet(key: str, other: str) -> bool:
    """Whether one key is the other, or a node that holds it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _is_plain(value: Any) -> bool:
    """Whether a value is one that is written as it is, and stands for no other."""
    return isinstance(value, int | float) or (isinstance(value, str) and value != "???" and "${" not in value)


def _lines(overrides: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(p.input_line) for p in overrides)


def _as_swept(override: Any) -> str:
    """Return an override as Hydra's sweeper writes it for a job, whatever its spaces and quotes were."""
    return f"{override.get_key_element()}={override.get_value_element_as_str()}"


def _option(override: Any) -> str | None:
    """Return the name that ``group=name`` chooses; None for any other override."""
    plain = override.type is OverrideType.CHANGE and override.package is None
    value = override.value()
    return value if plain and isinstance(value, str) and "${" not in value else None


def _references(values: Any) -> Iterator[str]:
    """Yield all strings of a container that refer to something."""
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _references(value)
    elif isinstance(values, str) and "${" in values:
        yield values


@contextmanager
def _files_read_once(loader: Any) -> Iterator[None]:
    """Let Hydra parse each YAML file once for a whole sweep, and not once a job."""

    class Shared(CachingConfigRepository):
        """Hydra copies its repository for each job; this one stays one."""

        def __deepcopy__(self, memo: Any) -> Shared:
            return self

        def load_config(self, config_path: str) -> Any:
            return deepcopy(super().load_config(config_path))

    plain = loader.repository
    loader.repository = Shared(plain)
    try:
        yield
    finally:
        loader.repository = plain
