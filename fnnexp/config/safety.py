"""Make sure that configs are data: check files before Hydra reads them, and Hydra's node after composing.

Hydra imports what ``hydra.callbacks``, logging handlers and ``pkg://`` name, makes the folders that
``hydra.run.dir`` names, and expands YAML's aliases. A config from a stranger may do none of this.
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
"""The scheme of the folders that Hydra reads through :func:`load`; ``hydra_plugins/fnnexp`` registers it."""

LARGEST_FILE = 1 << 20
LONGEST_SCALAR = 3000
"""Maximum length of a value. Python reads no number of more than 4300 digits. Even a hexadecimal
number of this length has fewer."""
DEEPEST = 32

GLOBAL = "@package _global_"
"""The header of a file that sets keys of the whole config, not of one group."""

REFERENCE = re.compile(r"\$\{\s*(oc\.select\s*:)?[^${}:]*\}")
"""A reference to a key of the config: the only use of OmegaConf's resolvers that a file may contain."""

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
"""Keys of Hydra's node that run code, write folders or change the environment, and their allowed values."""

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
"""Keys of Hydra's node that may have any value: they are checked here, or have no effect."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_for_fnnexp = False


@contextmanager
def composing_for_fnnexp() -> Iterator[None]:
    """Have Hydra read fnnexp's folders through :func:`load` while this context lasts, and not otherwise."""
    global _for_fnnexp
    _for_fnnexp = True
    try:
        yield
    finally:
        _for_fnnexp = False


def is_composing_for_fnnexp() -> bool:
    """Return whether Hydra is composing for fnnexp now."""
    return _for_fnnexp


# Check a config after Hydra composed it


def refuse_more_than_data(config: DictConfig) -> None:
    """Raise if a composed config names code or a folder to write, or lacks fnnexp's keys.

    Raises
    ------
    ConfigError
        With the key, its value and the remedy.
    """
    if not issubclass(OmegaConf.get_type(config) or dict, Config):
        raise ConfigError(
            "the config lacks fnnexp's keys; start your own config with 'defaults: [config, _self_]'"
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
                f"hydra.{key}={_short(value)}: fnnexp does not allow this, as it could run code, write "
                "anywhere or change the environment; omit it"
            )
    defaults: Any = OmegaConf.to_container(ConfigStore.instance().load("hydra/config.yaml").node)
    known = {*FREE, *(key.partition(".")[0] for key in FIXED)}
    for name, value in hydra.items():
        if name not in known and value not in (None, {}, defaults.get(name)):
            raise ConfigError(f"hydra.{name!s}={_short(value)}: fnnexp does not allow this; omit it")
    for folder in hydra["searchpath"] or []:
        address(str(folder))
    for name in ("launcher", "sweeper"):
        node = hydra[name]
        if not isinstance(node, dict) or {**node, "params": None} != {**_default_node(name), "params": None}:
            raise ConfigError(f"hydra.{name}={_short(node)}: a config may not name code; {INSTEAD[name]}")


@cache
def _default_node(plugin: str) -> dict[Any, Any]:
    """Return the node of Hydra's default launcher or sweeper, the only ones that a config may have."""
    node: Any = OmegaConf.to_container(ConfigStore.instance().load(f"hydra/{plugin}/basic.yaml").node)
    return dict(node)


def address(folder: str) -> str:
    """Return a folder of configs as an address, so that Hydra reads it through :func:`load`.

    Raises
    ------
    ConfigError
        If the address names a package, which Hydra would import to search it for configs.
    """
    scheme, separator, path = folder.partition("://")
    if not separator:
        scheme, path = "file", folder
    if scheme not in ("file", SCHEME):
        raise ConfigError(f"{folder}: configs are read from folders and not from packages; write -cd FOLDER")
    return f"{SCHEME}://{Path(path).absolute().as_posix()}"


def path_of(address: str) -> str:
    """Return the path in an address that :func:`address` returned."""
    return address.partition("://")[2]


# Refuse lists where a single option is expected


@cache
def _groups() -> frozenset[str]:
    return frozenset(folder.name for folder in conf_folder().iterdir() if folder.is_dir())


def refuse_lists_and_numbers(overrides: Iterable[str]) -> None:
    """Raise if an override sets a group to a list or a number in place of an option.

    Hydra would merge the options of a list, and the last would win silently.

    Raises
    ------
    ConfigError
        With what was given, and how to write a grid of the options or a value of the group.
    """
    of_groups = [override for override in overrides if _group_of(override.partition("=")[0]) in _groups()]
    for override in OverridesParser.create().parse_overrides(of_groups):
        value: Any = override.value()
        for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
            options = (
                [getattr(option, "text", option) for option in choice]
                if isinstance(choice, list)
                else [choice]
            )
            if any(type(option) in (int, float) for option in options):
                raise ConfigError(_not_a_number(override.key_or_group, override.value()))
            if isinstance(choice, list):
                raise ConfigError(_not_a_list(override.key_or_group, options))


def _not_a_number(group: str, value: Any) -> str:
    listed = value.list if isinstance(value, ChoiceSweep) else value
    text = ",".join(map(str, listed)) if isinstance(listed, list) else str(listed)
    keys = ", ".join(f"{group}.{key}=…" for key in keys_of(NODES[group])) if group in NODES else ""
    return (
        f"{group}={f'[{text}]' if isinstance(value, list) else text}: an option is a name, not a number; "
        f"write {group}=NAME{f', or to set a value {keys}' if keys else ''}"
    )


def _group_of(key: str) -> str:
    """Return the group in a key such as ``+init`` or, in a defaults list, ``override init@PACKAGE``."""
    return key.split(" ")[-1].lstrip("+~").partition("@")[0]


def _not_a_list(group: str, options: Sequence[Any]) -> str:
    listed = ",".join(map(str, options))
    start = f"{group}=[{listed}]: must be a single option; "
    if len(options) < 2:
        return f"{start}write {group}={listed or 'NAME'}"
    every = "both" if len(options) == 2 else f"all {len(options)}"
    return (
        f"{start}for {every} write -m {group}={listed}, or {group}: {listed} below hydra.sweeper.params in a "
        "grid's file"
    )


# Check a file before Hydra reads it


def refuse_outside(config_path: str, folder: str | Path) -> None:
    """Raise if the name of a config leads out of the folder in which it is searched."""
    if ".." in PurePath(config_path).parts or PurePath(config_path).is_absolute() or "\0" in config_path:
        raise ConfigError(
            f"'{config_path}' is outside the folder of configs; write the name of a config in {folder}, or "
            "name another folder with -cd"
        )


def load(file: Path, group: str = "") -> Container:
    """Check a YAML file, and return its content if it is nothing but data.

    Parameters
    ----------
    file
        The file.
    group
        The group of the file. The names in its defaults list are relative to it.

    Raises
    ------
    ConfigError
        If the file is too large, too deep, not YAML, or more than data, or if its defaults choose a list in
        place of an option.
    """
    state = file.stat()
    return deepcopy(_loaded(file, group, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=256)
def _loaded(file: Path, group: str, changed: int, size: int) -> Container:
    check_file(file)
    try:
        config = OmegaConf.load(file)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {_problem(error)}") from error
    for name, options in _lists_in_defaults(config):
        absolute = name if name.startswith("/") else PurePath("/", group, name).as_posix()
        if absolute[1:] in _groups():
            raise ConfigError(f"{file}: {_not_a_list(absolute[1:], options)}")
    _refuse_misplaced(file, config, group)
    _add_self(config)
    return config


def _refuse_misplaced(file: Path, config: Container, group: str) -> None:
    """Raise for syntax of the command line in a file: ``optimizer.lr: 0.5``, ``init: he``."""
    content: Any = OmegaConf.to_container(config, resolve=False)
    if dotted := _first_dotted_key(content, ()):
        key, value = dotted
        raise ConfigError(
            f"{file}: {key}: {_short(value)} has a dot in its key, but in a file each part of a key has its "
            f"own level; write {_short(_nested(key.split('.'), value))}"
        )
    if not isinstance(content, dict) or (group and GLOBAL not in file.read_text("utf-8")[:512]):
        return
    for key, value in content.items():
        if key not in _groups() or value is None or isinstance(value, dict):
            continue
        if isinstance(value, list) or "," in str(value):
            options = value if isinstance(value, list) else str(value).split(",")
            raise ConfigError(f"{file}: {_not_a_list(str(key), options)}")
        override = f"override {'/' if group else ''}{key}: {value}"
        raise ConfigError(
            f"{file}: {key}: {_short(value)} chooses an option, but a file chooses options in its defaults; "
            f"write defaults: [{'' if group else 'config, '}{override}, _self_]"
        )


def _first_dotted_key(node: Any, above: tuple[str, ...]) -> tuple[str, Any] | None:
    """Return the first key with a dot, in full, and its value; ignore ``hydra.sweeper.params``."""
    if not isinstance(node, dict) or above == ("hydra", "sweeper", "params"):
        return None
    for key, value in node.items():
        if "." in str(key):
            return ".".join([*above, str(key)]), value
        if (inner := _first_dotted_key(value, (*above, str(key)))) is not None:
            return inner
    return None


def _nested(keys: Sequence[str], value: Any) -> str:
    """Return a value nested in its keys as YAML: ``optimizer: {lr: 0.5}``."""
    for key in reversed(keys):
        value = {key: value}
    flow: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    return flow.strip()[1:-1]


def _lists_in_defaults(config: Container) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield the groups for which a file's defaults list gives a list of options, each with that list."""
    content: Any = OmegaConf.to_container(config, resolve=False)
    defaults = content.get("defaults") if isinstance(content, dict) else None
    for default in defaults if isinstance(defaults, list) else ():
        for key, value in default.items() if isinstance(default, dict) else ():
            if isinstance(value, list):
                yield _group_of(str(key)), value


def _add_self(config: Container) -> None:
    """Append ``_self_`` to a file's defaults list if it is missing, so that its own values take precedence.

    Hydra does the same, but with a warning.
    """
    defaults: Any = config.get("defaults") if isinstance(config, DictConfig) else None
    if not isinstance(defaults, ListConfig):
        return
    entries: Any = OmegaConf.to_container(defaults, resolve=False)
    if any(isinstance(default, str) and default.partition("@")[0] == "_self_" for default in entries):
        return
    if not all(
        isinstance(default, dict) and str(next(iter(default), "")).startswith("override ")
        for default in entries
    ):
        defaults.append("_self_")


def check_file(file: Path) -> None:
    """Raise if a YAML file is more than data, or too large for a config, before objects are made of it.

    Tags name types of objects to make, and aliases can expand to a billion values.
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
                    f"{at}: aliases (*{event.anchor}) are not allowed; write ${{key}} or the value"
                )
            if tag is not None:
                raise ConfigError(f"{at}: tags ({tag}) are not allowed; write plain values")
            if isinstance(event, yaml.ScalarEvent):
                refuse_resolvers(event.value[: LONGEST_SCALAR + 1], at)
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_SCALAR:
                raise ConfigError(
                    f"{at}: a value has {len(event.value)} characters; at most {LONGEST_SCALAR} are allowed"
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError(f"{at}: more than {DEEPEST} levels deep; a config has at most {DEEPEST}")
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file} is not YAML: {_problem(error)}") from error


def refuse_resolvers(text: str, where: str) -> None:
    """Raise if a text in a file has references ``${…}`` to anything but keys of the config.

    OmegaConf's resolvers can read the environment (``${oc.env:HOME}``), the time or the machine, and
    build a reference from pieces. Programs can add more resolvers. `where` says where the text is, for
    the message.
    """
    plain = text
    while (shorter := REFERENCE.sub("x", plain)) != plain:
        plain = shorter
    if "${" in plain:
        raise ConfigError(
            f"{where}: {_short(text)} is more than a reference to a key such as ${{data.holdout}}, and a "
            "file may have no other references; write the value, or give it on the command line"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _problem(error: Exception) -> str:
    """Return the message of a YAML error as one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).replace(os.linesep, " ")
    return f"{problem} (line {mark.line + 1})" if mark else problem
