"""What keeps configs data: Hydra reads and composes for fnnexp only what names no code and no place to write.

Hydra by itself imports what ``hydra.callbacks``, logging handlers and ``pkg://`` name, makes the folders that
``hydra.run.dir`` names, and expands YAML's aliases. A config that a stranger wrote may do none of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import Container, DictConfig, ListConfig, OmegaConf

from fnnexp.config.schema import Config, conf_folder, few_references
from fnnexp.errors import ConfigError

LARGEST_FILE = 1 << 20
LONGEST_SCALAR = 3000
"""Characters; less than the 4300 digits that Python converts, also when they are hexadecimal."""
DEEPEST = 32

PLUGINS = {
    "launcher": ("hydra_plugins.fnnexp.plugin.FnnexpLauncher", {"_target_"}),
    "sweeper": ("hydra_plugins.fnnexp.plugin.FnnexpSweeper", {"_target_", "max_batch_size", "params"}),
}
"""The one launcher and the one sweeper there are, and the keys of their nodes."""

NO_PACKAGE = "{}: configs are read from folders and not from packages; write -cd FOLDER"

QUIET = {"version": 1, "root": None, "disable_existing_loggers": False}
FIXED: dict[str, tuple[Any, ...]] = {
    "callbacks": (None, {}),
    "hydra_logging": (None, QUIET),
    "job_logging": (None, QUIET),
    "run": ({"dir": "."},),
    "sweep": ({"dir": ".", "subdir": "."},),
    "output_subdir": (None,),
    "job.chdir": (None, False),
    "job.env_copy": (None, []),
    "job.env_set": (None, {}),
}
"""What of Hydra's own node would run code, write a folder or change the environment, and what it must be."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@contextmanager
def guarded() -> Iterator[None]:
    """Let Hydra read and compose under guard, in this process, until the block ends."""
    Plugins.instance()  # has Hydra register its own sources
    types = SourcesRegistry.instance().types
    before, compose = dict(types), ConfigLoaderImpl.load_configuration

    asked: dict[tuple[Any, ...], DictConfig] = {}

    def composed(
        self: ConfigLoaderImpl,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose, once where Hydra would do it twice: to learn hydra.mode, and to go on.

        The second time it also refuses sweeps over its own keys, so those it composes itself.
        """
        key = (config_name, *overrides, run_mode)
        if validate_sweep_overrides and key in asked and not any("hydra" in word for word in overrides):
            return asked.pop(key)
        one_option_each(overrides)
        config = compose(self, config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        if config_name is not None or config.hydra.callbacks:  # None: --hydra-help, about Hydra alone
            check(config)
        if not validate_sweep_overrides:
            asked[key] = config
        return config

    types.update(file=ConfigFiles, pkg=HydrasConfigs)
    ConfigLoaderImpl.load_configuration = composed  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = compose  # type: ignore[method-assign]
        types.update(before)


def check(config: DictConfig) -> None:
    """Refuse a composed config that names code or a place to write, before Hydra acts on any of it.

    Raises
    ------
    ConfigError
        With the key, its value and what to do about it.
    """
    if not issubclass(OmegaConf.get_type(config) or dict, Config):
        raise ConfigError(
            "the config lacks fnnexp's keys; one of your own starts with 'defaults: [config, _self_]'"
        )
    few_references(OmegaConf.to_container(config, resolve=False))
    hydra = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(hydra, dict)
    for key, allowed in FIXED.items():
        value: Any = hydra
        for part in key.split("."):
            value = value[part]
        if value not in allowed:
            raise ConfigError(
                f"hydra.{key}={_short(value)}: fnnexp takes no such thing, as it could run code, write "
                "anywhere or change the environment; leave it out"
            )
    for folder in hydra["searchpath"] or []:
        if str(folder).startswith("pkg:"):
            raise ConfigError(NO_PACKAGE.format(folder))
    for name, (target, keys) in PLUGINS.items():
        node = hydra[name]
        if not isinstance(node, dict) or node.get("_target_") != target or not set(node) <= keys:
            raise ConfigError(
                f"hydra.{name}={_short(node)}: no config names code to run; leave it out, so that "
                f"hydra/{name} stays fnnexp"
            )
    size = hydra["sweeper"].get("max_batch_size")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ConfigError(f"hydra.sweeper.max_batch_size={size}: must be 1 or more; leave it out")


@cache
def _groups() -> frozenset[str]:
    return frozenset(folder.name for folder in conf_folder().iterdir() if folder.is_dir())


def one_option_each(words: Iterable[str]) -> None:
    """Refuse overrides that choose a list: Hydra would merge its options, and the last one would win unseen.

    Raises
    ------
    ConfigError
        With the list, and how a grid of its options is written.
    """
    listing = [word for word in words if "[" in word and _group_of(word.partition("=")[0]) in _groups()]
    for override in OverridesParser.create().parse_overrides(listing):
        value: Any = override.value()
        for each in value.list if isinstance(value, ChoiceSweep) else [value]:
            if isinstance(each, list):
                raise ConfigError(_takes_one(override.key_or_group, [getattr(o, "text", o) for o in each]))


def values_by_key(overrides: Iterable[Override]) -> dict[str, float]:
    """Return how many values each key of a grid has, by counting, before any list of them is made."""
    return {override.get_key_element(): _count(override) for override in overrides}  # the last one counts


def _count(override: Override) -> float:
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


def _group_of(key: str) -> str:
    """Return the group that an override's key, or a key of a defaults list, is about, without its package."""
    return key.split(" ")[-1].lstrip("+~").partition("@")[0]


def _takes_one(group: str, options: Sequence[Any]) -> str:
    listed = ",".join(map(str, options))
    said = f"{group}=[{listed}]: takes one option; "
    if len(options) < 2:
        return f"{said}write {group}={listed or 'NAME'}"
    every = "both" if len(options) == 2 else f"all {len(options)}"
    return (
        f"{said}for {every} write -m {group}={listed}, or {group}: {listed} below hydra.sweeper.params in a "
        "grid's file"
    )


class ConfigFiles(FileConfigSource):
    """Folders of YAML files; each is looked through before it is built."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file.

        Raises
        ------
        ConfigError
            It is outside its folder, too large or too deep, no YAML, or more than data.
        """
        self._inside(config_path)
        file = Path(self.path, self._normalize_file_name(config_path))
        look_through(file)
        try:
            read = super().load_config(config_path)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"{file} is no YAML that is read: {_problem(error)}") from error
        for group, options in _lists_in_defaults(read.config):
            absolute = (
                group if group.startswith("/") else (PurePath("/", config_path).parent / group).as_posix()
            )
            if absolute[1:] in _groups():
                raise ConfigError(f"{file}: {_takes_one(absolute[1:], options)}")
        _with_self(read.config)
        return read

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a file."""
        self._inside(config_path)
        return super().is_config(config_path)

    def is_group(self, config_path: str) -> bool:
        """Whether there is such a folder."""
        self._inside(config_path)
        return super().is_group(config_path)

    def _inside(self, config_path: str) -> None:
        if ".." in PurePath(config_path).parts or PurePath(config_path).is_absolute() or "\0" in config_path:
            raise ConfigError(
                f"'{config_path}' lies outside the folder of configs; write the name of a config in "
                f"{self.path}, or name another folder with -cd"
            )


def _lists_in_defaults(config: Container) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield each group of a file's defaults list that has a list of options, and these."""
    written: Any = OmegaConf.to_container(config, resolve=False)
    defaults = written.get("defaults") if isinstance(written, dict) else None
    for default in defaults if isinstance(defaults, list) else ():
        for key, value in default.items() if isinstance(default, dict) else ():
            if isinstance(value, list):
                yield _group_of(str(key)), value


def _with_self(config: Container) -> None:
    """Say in a file's defaults list where its own values stand, if it doesn't: last, so that they count.

    Hydra puts them there too, and then warns of it.
    """
    defaults: Any = config.get("defaults") if isinstance(config, DictConfig) else None
    if not isinstance(defaults, ListConfig):
        return
    written: Any = OmegaConf.to_container(defaults, resolve=False)
    if any(isinstance(default, str) and default.partition("@")[0] == "_self_" for default in written):
        return
    if not all(
        isinstance(default, dict) and str(next(iter(default), "")).startswith("override ")
        for default in written
    ):
        defaults.append("_self_")


class HydrasConfigs(ImportlibResourcesConfigSource):
    """Hydra's own configs; no other package is imported to look for some."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        if self.path != "hydra.conf":
            raise ConfigError(NO_PACKAGE.format(f"pkg://{self.path}"))


def look_through(file: Path) -> None:
    """Refuse a YAML file that is more than data, or larger than any config, without building any of it.

    Tags name types to build, and an alias can stand for a billion values.
    """
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= LARGEST_FILE else b""
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if size > LARGEST_FILE:
        raise ConfigError(f"{file} has {size} bytes; a config has at most {LARGEST_FILE}")
    depth = 0
    try:
        for event in yaml.parse(content.decode("utf-8"), Loader=_Loader):
            at = f"{file}, line {event.start_mark.line + 1 if event.start_mark else '?'}"
            tag = getattr(event, "tag", None)
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(
                    f"{at}: aliases (*{event.anchor}) are not read; write ${{key}} or the value"
                )
            if tag is not None:
                raise ConfigError(f"{at}: tags ({tag}) are not read; write plain values")
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_SCALAR:
                raise ConfigError(
                    f"{at}: a value of {len(event.value)} characters; there may be {LONGEST_SCALAR}"
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError(f"{at}: more than {DEEPEST} levels deep; no config is")
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file} is no YAML: {_problem(error)}") from error


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _problem(error: Exception) -> str:
    """Return a YAML complaint in one line."""
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or str(error).replace(os.linesep, " ")
    return f"{said} (line {mark.line + 1})" if mark else said
