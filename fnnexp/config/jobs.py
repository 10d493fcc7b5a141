"""A job: one composed config, read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fnnexp.config.checks import check
from fnnexp.config.messages import no_such_key
from fnnexp.config.schema import CHOICES, NODES, Config, conf_folder, keys_of
from fnnexp.errors import ConfigError

MOST_REFERENCES = 32
"""Maximum number of references ``${…}`` in a config: strings of references grow exponentially."""


MOST_KEPT = 256
"""Maximum number of entries in a cache of compositions, or of parts of configs that jobs share."""


@dataclass(frozen=True, slots=True)
class Job:
    """One composed config.

    The jobs of a grid share the nodes of their configs that are equal. So nothing may change a config.

    Attributes
    ----------
    config
        The values of the config.
    choices
        The chosen options, by group.
    overrides
        The overrides from which the config was composed.
    changed
        The groups in which a value differs from that in the file of the chosen option.
    """

    config: Config
    choices: Mapping[str, str]
    overrides: tuple[str, ...]
    changed: frozenset[str] = frozenset()


def read(composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> Job:
    """Return a composed config as a checked Job.

    Raises
    ------
    ConfigError
        If a value is missing or not allowed, with what was given, what is allowed and what to write.
    """
    job = read_unchecked(composed, choices, overrides)
    check(job.config)
    return job


def read_unchecked(composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> Job:
    """Return a composed config as a Job with every value, but without the checks of its values.

    Unknown keys and wrong types were refused before, while Hydra composed the config by the schema.

    Raises
    ------
    ConfigError
        If a value is missing.
    """
    values = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(values, dict)
    missing = _first_missing(values)
    if missing:
        group = missing.partition(".")[0]
        if group in CHOICES and any(
            key_of(override) == group and override[0] == "~" for override in overrides
        ):
            raise ConfigError(
                f"~{group} removes a group that every trial needs, so {missing} has no value; omit ~{group}, "
                f"or write another option, as in {group}={default_options()[group]}"
            )
        raise ConfigError(f"{missing} has no value; write {missing}=…")
    if count_references(values):
        resolved = OmegaConf.to_container(composed, resolve=True)
        assert isinstance(resolved, dict)
        values = resolved
    _known_keys("", values, Config)
    for key, node in NODES.items():
        if not isinstance(values.get(key), dict):
            raise ConfigError(
                f"the config lacks the keys of {key}, such as {key}.{keys_of(node)[0]}; start your own "
                "config with 'defaults: [config, _self_]'"
            )
        _known_keys(f"{key}.", values[key], node)
    config = Config(**{str(key): NODES[key](**v) if key in NODES else v for key, v in values.items()})
    options = {key: str(value).removesuffix(".yaml") for key, value in choices.items() if value}
    return Job(config, options, tuple(overrides))


def make_room(kept: dict[Any, Any]) -> None:
    """Remove the oldest entry of a cache that has :data:`MOST_KEPT` entries."""
    if len(kept) >= MOST_KEPT:
        del kept[next(iter(kept))]


class Template:
    """Makes configs from the config of a job by replacing plain values, which is faster than composing.

    A value is plain if :func:`is_plain` holds for it and no reference depends on its key. So replacing it
    changes no other value.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._nodes: dict[tuple[str, str], Any] = {}

    def config(self, values: Mapping[str, Any]) -> Config:
        """Return the job's config with these values in place of its own, by key. It is not checked."""
        replaced: dict[str, Any] = {}
        in_nodes: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            node, dot, name = key.rpartition(".")
            if dot:
                in_nodes.setdefault(node, {})[name] = value
            else:
                replaced[key] = value
        for node, inner in in_nodes.items():
            replaced[node] = self._node(node, inner)
        return replace(self.job.config, **replaced)

    def _node(self, name: str, values: Mapping[str, Any]) -> Any:
        """Return a node of the config with these values; the same values give the same object."""
        key = name, repr(values)
        if key not in self._nodes:
            make_room(self._nodes)
            self._nodes[key] = replace(getattr(self.job.config, name), **values)
        return self._nodes[key]


class PlainValues:
    """Converts values as OmegaConf does for a key: the 3 of ``data.label=3`` becomes the text ``"3"``."""

    _SAME: Mapping[type, tuple[str, ...]] = {int: ("int", "int | None"), float: ("float", "float | None")}
    """For an int and for a float, the types of keys that accept it without a conversion."""

    def __init__(self) -> None:
        self._config = OmegaConf.structured(Config)
        self._converted: dict[tuple[str, str], Any] = {}

    def converted(self, key: str, value: Any) -> Any:
        """Return a value as OmegaConf converts it for a key; raise its exception if the key can't have it."""
        if _types_of_values()[key] in self._SAME.get(type(value), ()):
            return value
        known = key, repr(value)
        if known not in self._converted:
            make_room(self._converted)
            OmegaConf.update(self._config, key, value, merge=True)
            node = OmegaConf.select(self._config, key)
            self._converted[known] = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
        return self._converted[known]


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, a text, null or a list of these, without a reference."""
    if isinstance(value, list):
        return all(is_plain(element) and not isinstance(element, list) for element in value)
    if isinstance(value, str):
        return "${" not in value and value != "???"
    return value is None or isinstance(value, (bool, int, float))


def has_values(key: str) -> bool:
    """Return whether a key is in the schema and holds a value. A node, such as ``optimizer``, does not."""
    return key in _types_of_values()


def number_type(key: str) -> type | None:
    """Return the type of a key's value if it is one number, or may be one; None for other keys.

    >>> number_type("batching.size"), number_type("optimizer.lr"), number_type("arch.hidden")
    (<class 'int'>, <class 'float'>, None)
    """
    kind = _types_of_values().get(key, "").removesuffix(" | None")
    return {"int": int, "float": float, "Any": float}.get(kind)


@cache
def _types_of_values() -> Mapping[str, str]:
    """Return the type of each key of the schema that is not a node."""
    nodes = [(f"{name}.", node) for name, node in NODES.items()]
    types = {
        prefix + attribute.name: str(attribute.type)
        for prefix, node in [("", Config), *nodes]
        for attribute in fields(node)
        if not attribute.metadata.get("omegaconf_ignore")
    }
    return {key: kind for key, kind in types.items() if key not in NODES}


def references(value: Any, key: str = "") -> Iterator[str]:
    """Yield the keys that the references ``${…}`` in a value read, given the value's own key.

    If a reference contains another, as below, which key it reads is not known; its node is yielded
    instead.

    >>> list(references({"lr": "${.lr_for.${batching.mode}}", "n": "${oc.select: seed, 3}"}, "optimizer"))
    ['optimizer.lr_for', 'batching.mode', 'seed']

    A yielded empty key stands for the whole config.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from references(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        yield from [""] * count_references(value)
    elif isinstance(value, str):
        for text in re.split(r"\$\{", value)[1:]:
            name = re.sub(r"^\s*(oc\.select\s*:)?\s*", "", text)
            path = re.match(r"[\w.]*", name)[0]  # type: ignore[index]
            whole = name[len(path) :].lstrip()[:1] in ("}", ",")
            dots = len(path) - len(path.lstrip("."))
            above = key.split(".")[:-dots] if dots else []
            inside = path.strip(".").split(".")
            yield ".".join([*above, *(inside if whole else path.lstrip(".").split(".")[:-1])])


def from_artifact(content: bytes) -> Job:
    """Return the checked Job of a run's ``config.yaml``, which has a plain value for every key.

    Raises
    ------
    ConfigError
        If the content is not the config of a run.
    """
    try:
        text = content.decode("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)) or "${" in text:
            raise ConfigError("it holds references (${…}), but a run's config.yaml has values only")
        merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(yaml.safe_load(text)))
        return read(merged, {}, ())  # type: ignore[arg-type]
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"it is not the config of a run: {str(error).partition(chr(10))[0]}") from error


def _known_keys(prefix: str, values: Mapping[Any, Any], node: Any) -> None:
    """Raise if a node of a config has a key that the schema lacks, as from ``+foo=1``.

    `prefix` is the node's name with a dot, as in ``data.``, and `node` is its class in the schema.
    """
    known = [prefix + name for name in keys_of(node)]
    for key in (f"{prefix}{key}" for key in values):
        if key not in known:
            raise ConfigError(no_such_key(key, known))


def _first_missing(values: Any, key: str = "") -> str | None:
    """Return the key of the first value that is still ``???``, or None."""
    if isinstance(values, dict):
        inner = [(f"{key}.{name}" if key else str(name), value) for name, value in values.items()]
    elif isinstance(values, list):
        inner = [(f"{key}[{i}]", value) for i, value in enumerate(values)]
    else:
        return key if values == "???" else None
    return next((missing for name, value in inner if (missing := _first_missing(value, name))), None)


def count_references(values: Any) -> int:
    """Return the number of unresolved references in a config's values; raise if there are too many."""

    def count(value: Any) -> int:
        if isinstance(value, str):
            return value.count("${")
        if isinstance(value, (dict, list)):
            return sum(map(count, value.values() if isinstance(value, dict) else value))
        return 0

    total = count(values)
    if total > MOST_REFERENCES:
        raise ConfigError(
            f"the config has {total} references (${{…}}); at most {MOST_REFERENCES} are allowed: write values"
        )
    return total


def key_of(override: str) -> str:
    """Return the key of an override, without Hydra's prefixes ``+`` and ``~``."""
    return override.lstrip("+~").split("=", 1)[0]


@cache
def default_options() -> Mapping[str, str]:
    """Return the default option of each group."""
    content = OmegaConf.to_container(OmegaConf.load(conf_folder() / "config.yaml"), resolve=False)
    assert isinstance(content, dict)
    chosen = [default for default in content["defaults"] if isinstance(default, dict)]
    return {group: str(default[group]) for group in CHOICES for default in chosen if group in default}
