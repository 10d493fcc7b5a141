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
"""As many ``${…}`` as a config may hold: references to strings of references grow exponentially."""


@dataclass(frozen=True)
class Job:
    """One composed config.

    Attributes
    ----------
    config
        Its values.
    choices
        The options chosen, by group.
    overrides
        What led to it.
    changed
        The groups whose option does not say what the config has: a value of the option was changed.
    """

    config: Config
    choices: Mapping[str, str]
    overrides: tuple[str, ...]
    changed: frozenset[str] = frozenset()


def read(composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> Job:
    """Return a composed config as a checked Job.

    The schema has refused unknown keys and wrong types already, while Hydra composed it.

    Raises
    ------
    ConfigError
        With what was given, what is allowed and what to write, when a value is missing or not allowed.
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
                f"~{group} takes away what every trial needs, and {missing} has no value; leave "
                f"~{group} out, or write another option, as in {group}={default_options()[group]}"
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
                f"{key} has no keys below it; a config of your own starts with 'defaults: [config, _self_]'"
            )
        _known_keys(f"{key}.", values[key], node)
    config = Config(**{str(key): NODES[key](**v) if key in NODES else v for key, v in values.items()})
    check(config)
    options = {key: str(value).removesuffix(".yaml") for key, value in choices.items() if value}
    return Job(config, options, tuple(overrides))


def from_artifact(content: bytes) -> Job:
    """Return the checked Job of a run's ``config.yaml``: plain values, all of them given, nothing composed.

    Raises
    ------
    ConfigError
        When it is no such file.
    """
    try:
        text = content.decode("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)) or "${" in text:
            raise ConfigError("it holds references; a run's config.yaml holds values")
        merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(yaml.safe_load(text)))
        return read(merged, {}, ())  # type: ignore[arg-type]
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"it is not the config of a run: {str(error).partition(chr(10))[0]}") from error


def _known_keys(prefix: str, values: Mapping[Any, Any], node: Any) -> None:
    """Refuse a key that the schema lacks: ``+foo=1``, ``+data._target_=…``."""
    known = [prefix + name for name in keys_of(node)]
    for key in (f"{prefix}{key}" for key in values):
        if key not in known:
            raise ConfigError(no_such_key(key, known))


def _first_missing(values: Any, key: str = "") -> str | None:
    """Return the key of the first value that is still to be given, or None."""
    if isinstance(values, dict):
        inner = [(f"{key}.{name}" if key else str(name), value) for name, value in values.items()]
    elif isinstance(values, list):
        inner = [(f"{key}[{i}]", value) for i, value in enumerate(values)]
    else:
        return key if values == "???" else None
    return next((missing for name, value in inner if (missing := _first_missing(value, name))), None)


def count_references(values: Any) -> int:
    """Count the references in a config's values; refuse more than any experiment needs, still unresolved."""

    def count(value: Any) -> int:
        if isinstance(value, str):
            return value.count("${")
        if isinstance(value, (dict, list)):
            return sum(map(count, value.values() if isinstance(value, dict) else value))
        return 0

    found = count(values)
    if found > MOST_REFERENCES:
        raise ConfigError(
            f"the config holds {found} references (${{…}}); there may be {MOST_REFERENCES}: write values"
        )
    return found


def key_of(override: str) -> str:
    """Return the key of an override, without Hydra's marks before it."""
    return override.lstrip("+~").split("=", 1)[0]


@cache
def default_options() -> Mapping[str, str]:
    """Return the option of each group that nobody has chosen."""
    content = OmegaConf.to_container(OmegaConf.load(conf_folder() / "config.yaml"), resolve=False)
    assert isinstance(content, dict)
    chosen = [default for default in content["defaults"] if isinstance(default, dict)]
    return {group: str(default[group]) for group in CHOICES for default in chosen if group in default}
