"""What Hydra and OmegaConf complain about, in words that say what to write instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from fnnexp.config.commands import quoted
from fnnexp.config.schema import NODES, SCHEMA, conf_folder, every_key, keys_of, node_named, sweeps_folder
from fnnexp.errors import did_you_mean

LONGEST_CHAIN = 20

INSTEAD = {
    "launcher": "fnnexp runs a sweep itself; write execution.n_jobs=4 for four workers, and "
    "execution.backend for other than joblib's loky",
    "sweeper": "fnnexp runs a sweep itself; write -m and the values of each key, as in -m init=he,max",
}
"""What stands in the place of Hydra's plugins."""

VALUES = {"data": "data=files data.path", "tracking": "tracking.uri", "execution": "execution.backend"}
"""The key by which a group has a value that is no option's name."""


def explain(error: Exception) -> str:
    """Return a complaint of Hydra or OmegaConf as one of ours."""
    messages = _chain(error)
    for message in messages:
        for rule in RULES:
            if explained := rule(message, messages):
                return explained
    said = [line.strip() for message in messages[:2] for line in message.splitlines() if _is_ours(line)]
    told = "; ".join(dict.fromkeys(said)) or type(error).__name__
    if isinstance(error, OverrideParseException):
        if "=" not in str(error.override):
            return f"'{error.override}' is no override; {what_to_write(str(error.override))}"
        key, _, value = str(error.override).partition("=")
        if key and re.fullmatch(r"[^][(){},]+", value):  # a path, or an address
            as_text = shlex.quote(f"{key}={quoted(value)}")
            return f"{error.override}: has characters that Hydra's grammar does not know; write {as_text}"
        return f"{error.override}: is no override ({told}); write key=value, with quotes as in 'key=\"a b\"'"
    if isinstance(error, RecursionError):
        return "the overrides or configs are nested too deeply, or a config's defaults lead back to itself"
    if str(error).startswith("Config group override"):  # arch=3
        return f"{told}; write the name of an option, as in arch=tanh_128"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return told
    return f"Hydra cannot compose this: {told}; HYDRA_FULL_ERROR=1 shows where"


def _is_ours(line: str) -> bool:
    """Whether a line says something about the input, and not about Hydra's insides."""
    return bool(line.strip()) and not line.strip().startswith(
        ("full_key:", "object_type=", "reference_type=", "See https://hydra.cc", "^")
    )


def _chain(error: BaseException | None) -> list[str]:
    """Return the messages of an error and of those that led to it; a chain may be long and lead back."""
    messages: list[str] = []
    while error is not None and len(messages) < LONGEST_CHAIN:
        messages.append(str(error))
        error = error.__cause__ or error.__context__
    return messages


def _unknown_option(message: str, _: list[str]) -> str | None:
    """``arch=relu_10O``: there is such a group, but no such option."""
    found = re.search(r"Could not find '([^']*)'\s+Available options in '([^']*)':\n((?:\t\S+\n?)+)", message)
    if not found:
        return None
    config, group, listed = found.groups()
    given, plugin = config.removeprefix(f"{group}/"), group.removeprefix("hydra/")
    if plugin in INSTEAD:
        return f"{group}={given}: {INSTEAD[plugin]}"
    options = listed.split()
    value = f"; for a value write {VALUES[group]}={given}" if group in VALUES else ""
    return f"{group}={given}: must be one of {', '.join(options)}{value}.{did_you_mean(given, options)}"


def _unknown_config(message: str, _: list[str]) -> str | None:
    """``-cn card_gird``: there is no such config."""
    found = re.search(r"Cannot find primary config '([^']+)'", message)
    if not found:
        return None
    names, given = _configs(), found[1]
    return (
        f"there is no config '{given}'; there are {', '.join(names)} and what is in the folder given "
        f"with -cd.{did_you_mean(given, names)}"
    )


def _unknown_default(message: str, _: list[str]) -> str | None:
    """``defaults: [confg, _self_]``: a defaults list names a config that is nowhere."""
    found = re.search(r"In '([^']+)': Could not load '([^']+)'", message)
    if not found:
        return None
    file, given = found.groups()
    folders = (conf_folder(), sweeps_folder())
    files = [path.relative_to(folder) for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    near = did_you_mean(given, [SCHEMA, *(path.with_suffix("").as_posix() for path in files)])
    return (
        f"the defaults of '{file}' name '{given}', and there is no such config; a config of your own starts "
        f"with 'defaults: [config, _self_]'.{near}"
    )


def _unresolved(message: str, _: list[str]) -> str | None:
    """``epochs: ${epoch}``: a reference leads nowhere, or back to itself."""
    key = re.search(r"full_key: (\S+)", message)
    missing = re.search(r"Interpolation key '([^']*)' not found", message)
    if not key:
        return None
    if missing:
        return (
            f"{key[1]} refers to '{missing[1]}', and there is no such key; write its whole name, or a value"
        )
    if "Recursive interpolation" in message:
        return f"{key[1]} refers to a value that refers back to it; write a value"
    return None


def _unknown_key(message: str, messages: list[str]) -> str | None:
    """``optimizer.lrr=1``: no such key in the schema."""
    found = re.search(r"Key '([^']+)' (?:is )?not in '(\w+)'", message)
    given = re.search(r"full_key: (\S+)", message)
    if not found:
        return None
    full = given[1] if given else found[1]
    plugin = re.match(r"hydra\.(\w+)", full)
    if plugin and plugin[1] in INSTEAD:
        return f"{full}: {INSTEAD[plugin[1]]}"
    prefix = full.rpartition(".")[0]
    node = node_named(found[2])
    allowed = keys_of(node) if node else []
    return no_such_key(full, [f"{prefix}.{name}" if prefix else name for name in allowed])


ELSEWHERE = {
    "learning_rate": "optimizer.lr", "batch_size": "batching.size", "random_state": "seed",
    "n_epochs": "epochs", "num_epochs": "epochs", "hidden_layer_sizes": "arch.hidden", "units": "arch.hidden",
}  # fmt: skip
"""Our key for what other libraries call otherwise."""


def no_such_key(key: str, known: Sequence[str]) -> str:
    """Return what to say of a key that the schema lacks.

    Parameters
    ----------
    key
        As it was given, in full: `lr`.
    known
        The keys there are in its place.
    """
    last = key.rpartition(".")[2]
    same = [each for each in every_key() if each.rpartition(".")[2] == last or each == ELSEWHERE.get(last)]
    meant = " or ".join(f"'{each}'" for each in same)
    hint = f" Did you mean {meant}?" if same else did_you_mean(key, every_key())
    return f"{key}: there is no such key; there are {', '.join(known)}.{hint}"


def what_to_write(word: str) -> str:
    """Return what to write for a word that is no command and no override: a config's name, an option's.

    >>> what_to_write("card_grid"), what_to_write("tanh_128")
    ('write fnnexp -cn card_grid', 'write arch=tanh_128')
    """
    name = re.split(r"[/\\]", word)[-1].removesuffix(".yaml")
    if name in _configs():
        return f"write fnnexp -cn {name}"
    groups = sorted(file.parent.name for file in conf_folder().glob("*/*.yaml") if file.stem == name)
    if groups:
        return " or ".join(f"write {group}={name}" for group in groups)
    if name in every_key():
        return f"write {name}=VALUE"
    return "write KEY=VALUE, as in arch=tanh_128 or 'key=\"a b\"', or -cn NAME for a grid's file"


def _configs() -> list[str]:
    return sorted(file.stem for folder in (conf_folder(), sweeps_folder()) for file in folder.glob("*.yaml"))


def _wrong_type(message: str, messages: list[str]) -> str | None:
    """``optimizer.lr=abc``: the schema wants another type."""
    found = re.search(
        r"Value '(.*?)' (?:of type '(\w+)' )?could not be converted to (\w+)", message
    ) or re.search(r"Value '(.*?)' (?:\((\w+)\) )?is not a valid (\w+)", message)
    key = re.search(r"full_key: (\S+)", message)
    if not found or not key:
        return None
    kinds = {
        "Integer": "a whole number",
        "Float": "a number",
        "Boolean": "true or false",
        "bool": "true or false",
    }
    return f"{key[1]}={found[1]}: must be {kinds.get(found[3], found[3])}{_one_each(key[1], found[1])}"


def _no_text(message: str, messages: list[str]) -> str | None:
    """``dtype=[float32,float64]``: the schema wants a text."""
    found = re.search(r"Cannot convert '\w+' to string: '(.*)'", message)
    key = re.search(r"full_key: (\S+)", message)
    return f"{key[1]}={found[1]}: must be a text{_one_each(key[1], found[1])}" if found and key else None


def _one_each(key: str, given: str) -> str:
    """Return how several values are written, where a list of some was given for one."""
    values = re.fullmatch(r"\[([^][{}]+)\]", given) or re.fullmatch(r"([\w.-]+(?:,[\w.-]+)+)", given)
    if not values or "[" in key:
        return ""
    listed = re.sub(r"'([\w./-]+)'", r"\1", values[1]).replace(", ", ",")
    return f"; write {key}={listed}{' with -m, for a trial each' if ',' in listed else ''}"


def _no_list(message: str, messages: list[str]) -> str | None:
    """``arch.hidden=5``: the schema wants a list."""
    override = re.search(r"Error merging override (.*)", messages[0])
    if not override or "is not a ListConfig" not in message:
        return None
    key, _, value = override[1].partition("=")
    return f"{override[1]}: must be a list; write {key}=[{value}]"


def _no_null(message: str, messages: list[str]) -> str | None:
    """``epochs=null``: the schema wants a value; ``arch.hidden=[32,null]``: and so in a list."""
    within = re.search(r"full_key: (\S+)\[\d+\]", message)
    if within and "NoneType is not a subclass of" in message:
        return f"{within[1]}: null is in its list, where every value must be a whole number; leave it out"
    override = re.search(r"Error merging override (.*)", messages[0])
    return f"{override[1]}: must have a value" if override and "is not Optional" in message else None


def _node_as_value(message: str, _: list[str]) -> str | None:
    """``loss=mean``: a node has keys and no value."""
    found = re.search(r"is not a subclass of (\w+)\. value: (.*)", message)
    node = node_named(found[1]) if found else None
    key = next((key for key, each in NODES.items() if each is node), None)
    if found is None or key is None:
        return None
    keys = " or ".join(f"{key}.{name}=…" for name in keys_of(node))
    return f"{key}={found[2]}: holds keys and is no value; write {keys}"


def _second_option(message: str, _: list[str]) -> str | None:
    """``+experiment=x``: the group is in the defaults list already."""
    found = re.search(
        r"Multiple values for ([\w/@.]+)\. To override a value use 'override \S+ (.*)'", message
    )
    added = re.search(r"force-add of config groups is not supported: '\++([^=]+)=(.*)'", message)
    if not (found or added):
        return None
    group, option = (found or added).groups()  # type: ignore[union-attr]
    return (
        f"{group} has an option already, which another replaces; write {group}={option} without +, or in a "
        f"file's defaults 'override {group}: {option}'"
    )


def _several_values(message: str, _: list[str]) -> str | None:
    """``seed=0,1`` without ``-m``."""
    found = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(([^=]+)=.*)'", message)
    if not found:
        return None
    return (
        f"{found[1]}: has several values; for a trial each add --multirun, or -m; for one text with a comma "
        f"write \"{found[2]}='…'\""
    )


RULES = (
    _unknown_option,
    _unknown_config,
    _unknown_default,
    _unresolved,
    _unknown_key,
    _wrong_type,
    _no_text,
    _no_list,
    _no_null,
    _node_as_value,
    _second_option,
    _several_values,
)
