"""A job: one composed config, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Job:
    """One composed config.

    Attributes
    ----------
    config
        The values of the config.
    choices
        The chosen options, by group.
    overrides
        The overrides from which the config was composed.
    changed
        The groups in which a value differs from the chosen option's.
    """

    config: Config
    choices: Mapping[str, str]
    overrides: tuple[str, ...]
    changed: frozenset[str] = frozenset()


def read(composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> Job:
    """Return a composed config as a checked Job.

    Unknown keys and wrong types were refused before, while Hydra composed the config by the schema.

    Raises
    ------
    ConfigError
        If a value is missing or not allowed, with what was given, what is allowed and what to write.
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
            raise ConfigError(f"{key} has no keys; start your own config with 'defaults: [config, _self_]'")
        _known_keys(f"{key}.", values[key], node)
    config = Config(**{str(key): NODES[key](**v) if key in NODES else v for key, v in values.items()})
    check(config)
    options = {key: str(value).removesuffix(".yaml") for key, value in choices.items() if value}
    return Job(config, options, tuple(overrides))


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
            raise ConfigError("it holds references; a run's config.yaml has values only")
        merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(yaml.safe_load(text)))
        return read(merged, {}, ())  # type: ignore[arg-type]
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"it is not the config of a run: {str(error).partition(chr(10))[0]}") from error


def _known_keys(prefix: str, values: Mapping[Any, Any], node: Any) -> None:
    """Raise for a key that the schema lacks, as from ``+foo=1`` or ``+data._target_=…``."""
    known = [prefix + name for name in keys_of(node)]
    for key in (f"{prefix}{key}" for key in values):
        if key not in known:
            raise ConfigError(no_such_key(key, known))


def _first_missing(values: Any, key: str = "") -> str | None:
    """Return the key of the first value that is missing, or None."""
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
