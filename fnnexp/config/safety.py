"""Configs are data: files are looked at before Hydra reads them, and Hydra's own node after it composed.

Hydra by itself imports what ``hydra.callbacks``, logging handlers and ``pkg://`` name, makes the folders that
``hydra.run.dir`` names, and expands YAML's aliases. A config that a stranger wrote may do none of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, lru_cache
from pathlib import Path, PurePath
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from omegaconf import Container, DictConfig, ListConfig, OmegaConf

from fnnexp.config.jobs import count_references
from fnnexp.config.messages import INSTEAD
from fnnexp.config.schema import NODES, Config, conf_folder, keys_of
from fnnexp.errors import ConfigError

SCHEME = "fnnexp"
"""The scheme of a folder that Hydra reads through :func:`load`; ``hydra_plugins/fnnexp`` tells it so."""

LARGEST_FILE = 1 << 20
LONGEST_SCALAR = 3000
"""Characters; less than the 4300 digits that Python converts, also when they are hexadecimal."""
DEEPEST = 32

GLOBAL = "@package _global_"
"""The header of a file whose keys are those of the whole config."""

REFERENCE = re.compile(r"\$\{\s*(oc\.select\s*:)?[^${}:]*\}")
"""A reference to a key of the config: what a file may hold of what OmegaConf resolves."""

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

FREE = (
    "mode",
    "searchpath",
    "sweeper",
    "launcher",
    "job",
    "overrides",
    "runtime",
    "verbose",
    "help",
    "hydra_help",
)
"""What else of it may have another value than Hydra's: it is looked at here, or nothing acts on it."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_ours = False


@contextmanager
def configs_are_ours() -> Iterator[None]:
    """Have Hydra read fnnexp's folders through :func:`load` while the context is open, and not otherwise."""
    global _ours
    _ours = True
    try:
        yield
    finally:
        _ours = False


def are_ours() -> bool:
    """Whether Hydra composes for fnnexp now."""
    return _ours


# After composing


def refuse_more_than_data(config: DictConfig) -> None:
    """Refuse a composed config that names code or a place to write, or is not fnnexp's.

    Raises
    ------
    ConfigError
        With the key, its value and what to do about it.
    """
    if not issubclass(OmegaConf.get_type(config) or dict, Config):
        raise ConfigError(
            "the config lacks fnnexp's keys; one of your own starts with 'defaults: [config, _self_]'"
        )
    count_references(OmegaConf.to_container(config, resolve=False))
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
    hydras: Any = OmegaConf.to_container(ConfigStore.instance().load("hydra/config.yaml").node)
    known = {*FREE, *(key.partition(".")[0] for key in FIXED)}
    for name, value in hydra.items():
        if name not in known and value not in (None, {}, hydras.get(name)):
            raise ConfigError(f"hydra.{name!s}={_short(value)}: fnnexp takes no such thing; leave it out")
    for folder in hydra["searchpath"] or []:
        address(str(folder))
    for name in ("launcher", "sweeper"):
        node = hydra[name]
        if not isinstance(node, dict) or {**node, "params": None} != {**_hydras_own(name), "params": None}:
            raise ConfigError(f"hydra.{name}={_short(node)}: no config names code to run; {INSTEAD[name]}")


@cache
def _hydras_own(plugin: str) -> dict[Any, Any]:
    """Return the node of Hydra's default launcher or sweeper: neither is used, no other may be named."""
    node: Any = OmegaConf.to_container(ConfigStore.instance().load(f"hydra/{plugin}/basic.yaml").node)
    return dict(node)


def address(folder: str) -> str:
    """Return a folder of configs as the address that Hydra reads through :func:`load`.

    Raises
    ------
    ConfigError
        When it is a package, which Hydra would import to look for configs, or anything but a folder.
    """
    scheme, found, path = folder.partition("://")
    if not found:
        scheme, path = "file", folder
    if scheme not in ("file", SCHEME):
        raise ConfigError(f"{folder}: configs are read from folders and not from packages; write -cd FOLDER")
    return f"{SCHEME}://{Path(path).absolute().as_posix()}"


def path_of(address: str) -> str:
    """Return the folder of an :func:`address`."""
    return address.partition("://")[2]


# Lists where one option is wanted


@cache
def _groups() -> frozenset[str]:
    return frozenset(folder.name for folder in conf_folder().iterdir() if folder.is_dir())


def refuse_what_is_no_option(overrides: Iterable[str]) -> None:
    """Refuse overrides that choose a list or a number, and no option.

    Of a list Hydra would merge the options, and the last would win unseen.

    Raises
    ------
    ConfigError
        With what was given, and how a grid of the options, or a value of the group, is written.
    """
    of_groups = [each for each in overrides if _group_of(each.partition("=")[0]) in _groups()]
    for override in OverridesParser.create().parse_overrides(of_groups):
        value: Any = override.value()
        for each in value.list if isinstance(value, ChoiceSweep) else [value]:
            options = (
                [getattr(option, "text", option) for option in each] if isinstance(each, list) else [each]
            )
            if any(type(option) in (int, float) for option in options):
                raise ConfigError(_no_number(override.key_or_group, override.value()))
            if isinstance(each, list):
                raise ConfigError(_takes_one(override.key_or_group, options))


def _no_number(group: str, given: Any) -> str:
    listed = given.list if isinstance(given, ChoiceSweep) else given
    text = ",".join(map(str, listed)) if isinstance(listed, list) else str(listed)
    keys = ", ".join(f"{group}.{key}=…" for key in keys_of(NODES[group])) if group in NODES else ""
    return (
        f"{group}={f'[{text}]' if isinstance(given, list) else text}: an option is a name, and no number; "
        f"write {group}=NAME{f', or for one of its values {keys}' if keys else ''}"
    )


def _group_of(key: str) -> str:
    """Return the group that an override's key, or a key of a defaults list, is about, without its package."""
    return key.split(" ")[-1].lstrip("+~").partition("@")[0]


def _takes_one(group: str, options: Sequence[Any]) -> str:
    listed = ",".join(map(str, options))
    start = f"{group}=[{listed}]: takes one option; "
    if len(options) < 2:
        return f"{start}write {group}={listed or 'NAME'}"
    every = "both" if len(options) == 2 else f"all {len(options)}"
    return (
        f"{start}for {every} write -m {group}={listed}, or {group}: {listed} below hydra.sweeper.params in a "
        "grid's file"
    )


# Before a file is read


def refuse_outside(config_path: str, folder: str | Path) -> None:
    """Refuse the name of a config that leads out of the folder it is looked for in."""
    if ".." in PurePath(config_path).parts or PurePath(config_path).is_absolute() or "\0" in config_path:
        raise ConfigError(
            f"'{config_path}' lies outside the folder of configs; write the name of a config in "
            f"{folder}, or name another folder with -cd"
        )


def load(file: Path, group: str = "") -> Container:
    """Return the content of a YAML file, looked through before any of it is built.

    Parameters
    ----------
    file
        The file.
    group
        The group it belongs to, to which the names in its defaults list are relative.

    Raises
    ------
    ConfigError
        It is too large or too deep, no YAML, more than data, or chooses a list where one option is wanted.
    """
    state = file.stat()
    return deepcopy(_loaded(file, group, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=256)
def _loaded(file: Path, group: str, changed: int, size: int) -> Container:
    check_file(file)
    try:
        config = OmegaConf.load(file)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file} is no YAML that is read: {_problem(error)}") from error
    for named, options in _lists_in_defaults(config):
        absolute = named if named.startswith("/") else PurePath("/", group, named).as_posix()
        if absolute[1:] in _groups():
            raise ConfigError(f"{file}: {_takes_one(absolute[1:], options)}")
    _refuse_misplaced(file, config, group)
    _with_self(config)
    return config


def _refuse_misplaced(file: Path, config: Container, group: str) -> None:
    """Refuse what a command line has, and a file has elsewhere: ``optimizer.lr: 0.5``, ``init: he``."""
    written: Any = OmegaConf.to_container(config, resolve=False)
    if dotted := _with_dots(written, ()):
        key, value = dotted
        raise ConfigError(
            f"{file}: {key}: {_short(value)} has a dot in its key, and a file has a level for each; write "
            f"{_short(_nested(key.split('.'), value))}"
        )
    if not isinstance(written, dict) or (group and GLOBAL not in file.read_text("utf-8")[:512]):
        return
    for key, value in written.items():
        if key not in _groups() or value is None or isinstance(value, dict):
            continue
        if isinstance(value, list) or "," in str(value):
            options = value if isinstance(value, list) else str(value).split(",")
            raise ConfigError(f"{file}: {_takes_one(str(key), options)}")
        override = f"override {'/' if group else ''}{key}: {value}"
        raise ConfigError(
            f"{file}: {key}: {_short(value)} chooses an option, which in a file stands in its defaults; "
            f"write defaults: [{'' if group else 'config, '}{override}, _self_]"
        )


def _with_dots(node: Any, above: tuple[str, ...]) -> tuple[str, Any] | None:
    """Return the first key with a dot in it, in full, and its value; a grid's parameters have such keys."""
    if not isinstance(node, dict) or above == ("hydra", "sweeper", "params"):
        return None
    for key, value in node.items():
        if "." in str(key):
            return ".".join([*above, str(key)]), value
        if (inner := _with_dots(value, (*above, str(key)))) is not None:
            return inner
    return None


def _nested(keys: Sequence[str], value: Any) -> str:
    """Return a value below its keys as YAML: ``optimizer: {lr: 0.5}``."""
    for key in reversed(keys):
        value = {key: value}
    flow: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    return flow.strip()[1:-1]


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


def check_file(file: Path) -> None:
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
            if isinstance(event, yaml.ScalarEvent):
                refuse_resolvers(event.value[: LONGEST_SCALAR + 1], at)
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_SCALAR:
                raise ConfigError(
                    f"{at}: a value of {len(event.value)} characters; there may be {LONGEST_SCALAR}"
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError(f"{at}: more than {DEEPEST} levels deep; no config is")
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file} is no YAML: {_problem(error)}") from error


def refuse_resolvers(text: str, where: str) -> None:
    """Refuse a text of a file that resolves to anything but values of the config.

    OmegaConf has resolvers that read the environment (``${oc.env:HOME}``), the time, the machine, and what a
    program adds; and some that build a reference from pieces.
    """
    plain = text
    while (shorter := REFERENCE.sub("x", plain)) != plain:
        plain = shorter
    if "${" in plain:
        raise ConfigError(
            f"{where}: {_short(text)} is more than a reference to a key, as ${{data.holdout}} is, and a file "
            "reads nothing else: write the value, or give it on the command line"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _problem(error: Exception) -> str:
    """Return a YAML complaint in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).replace(os.linesep, " ")
    return f"{problem} (line {mark.line + 1})" if mark else problem
