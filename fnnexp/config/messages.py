"""Turn the errors of Hydra and OmegaConf into messages that say what to write instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from fnnexp.config.commands import quoted
from fnnexp.config.schema import (
    LISTS_OR_VALUES,
    NODES,
    SCHEMA,
    conf_folder,
    every_key,
    keys_of,
    node_named,
    sweeps_folder,
)
from fnnexp.errors import did_you_mean
from fnnexp.pieces.registry import GROUPS

LONGEST_CHAIN = 20

OWN_PIECE = " For a piece of your own, add --pieces FILE."

INSTEAD = {
    "launcher": "fnnexp runs a sweep itself; write execution.n_jobs=4 for four workers, and "
    "execution.backend for another backend than joblib's loky",
    "sweeper": "fnnexp runs a sweep itself; write -m and the values of each key, as in -m init=he,max",
}
"""What to write instead, if a config chooses a launcher or sweeper of Hydra."""

VALUES = {"data": "data=files data.path", "tracking": "tracking.uri", "execution": "execution.backend"}
"""The key of a value that users often give to the group itself, as in ``data=my.npz``."""


def explain(error: Exception) -> str:
    """Return an error of Hydra or OmegaConf as a message that says what to write."""
    messages = _chain(error)
    for message in messages:
        for rule in RULES:
            if explained := rule(message, messages):
                return explained
    lines = [
        line.strip() for message in messages[:2] for line in message.splitlines() if _is_about_input(line)
    ]
    summary = "; ".join(dict.fromkeys(lines)) or type(error).__name__
    if isinstance(error, OverrideParseException):
        if "=" not in str(error.override):
            return f"'{error.override}' is not an override; {what_to_write(str(error.override))}"
        key, _, value = str(error.override).partition("=")
        if key == "where":
            example = shlex.quote('where=["init=he -> epochs=3","seed<5"]')
            return f"{error.override}: each sentence of a list needs quotes; write {example}"
        if key and re.fullmatch(r"[^][(){},]+", value):  # a single value, as a path, can be quoted as a whole
            as_text = shlex.quote(f"{key}={quoted(value)}")
            return f"{error.override}: has characters that need quotes in Hydra's grammar; write {as_text}"
        if value.endswith(","):  # the shell splits a list after a blank
            whole = "[…,…]" if value.startswith("[") else "A,B"
            return (
                f"{error.override}: ends with a comma; write the whole list without blanks, as {key}={whole}"
            )
        if match := re.fullmatch(r"(range|interval|choice|glob)\[(.*)\]", value):
            return f"{error.override}: needs round brackets; write '{key}={match[1]}({match[2]})'"
        return (
            f"{error.override}: is not an override ({summary}); write key=value, with quotes as in "
            "'key=\"a b\"'"
        )
    if isinstance(error, RecursionError):
        return "the overrides or configs are nested too deeply, or a config's defaults lead back to itself"
    if str(error).startswith("Config group override"):  # as for arch=3
        return f"{summary}; write the name of an option, as in arch=tanh_128"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return summary
    return f"Hydra cannot compose this: {summary}; HYDRA_FULL_ERROR=1 shows where"


def _is_about_input(line: str) -> bool:
    """Return whether a line of a message is about the input, and not about Hydra's internals."""
    return bool(line.strip()) and not line.strip().startswith(
        ("full_key:", "object_type=", "reference_type=", "See https://hydra.cc", "^")
    )


def _chain(error: BaseException | None) -> list[str]:
    """Return the messages of an error and of its causes; a chain of causes may be long or cyclic."""
    messages: list[str] = []
    while error is not None and len(messages) < LONGEST_CHAIN:
        messages.append(str(error))
        error = error.__cause__ or error.__context__
    return messages


def _unknown_option(message: str, _: list[str]) -> str | None:
    """Explain ``arch=relu_10O``: the group exists, but not the option."""
    match = re.search(r"Could not find '([^']*)'\s+Available options in '([^']*)':\n((?:\t\S+\n?)+)", message)
    if not match:
        return None
    config, group, listed = match.groups()
    option, plugin = config.removeprefix(f"{group}/"), group.removeprefix("hydra/")
    if plugin in INSTEAD:
        return f"{group}={option}: {INSTEAD[plugin]}"
    options = listed.split()
    value = f"; for a value write {VALUES[group]}={option}" if group in VALUES else ""
    own = OWN_PIECE if group in GROUPS.values() else ""
    hint = did_you_mean(option, options) or own
    return f"{group}={option}: must be one of {', '.join(options)}{value}.{hint}"


def _unknown_config(message: str, _: list[str]) -> str | None:
    """Explain ``-cn card_gird``: there is no such config."""
    match = re.search(r"Cannot find primary config '([^']+)'", message)
    if not match:
        return None
    names, name = _configs(), match[1]
    return (
        f"there is no config '{name}'; there are {', '.join(names)} and the configs in the folder of "
        f"-cd.{did_you_mean(name, names)}"
    )


def _unknown_default(message: str, _: list[str]) -> str | None:
    """Explain ``defaults: [confg, _self_]``: a defaults list names a config that does not exist."""
    match = re.search(r"In '([^']+)': Could not load '([^']+)'", message)
    if not match:
        return None
    file, name = match.groups()
    folders = (conf_folder(), sweeps_folder())
    files = [path.relative_to(folder) for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    suggestion = did_you_mean(name, [SCHEMA, *(path.with_suffix("").as_posix() for path in files)])
    return (
        f"the defaults of '{file}' name '{name}', and there is no such config; start your own config with "
        f"'defaults: [config, _self_]'.{suggestion}"
    )


def _unresolved(message: str, _: list[str]) -> str | None:
    """Explain ``epochs: ${epoch}``: a reference leads nowhere, or back to itself."""
    key = re.search(r"full_key: (\S+)", message)
    missing = re.search(r"Interpolation key '([^']*)' not found", message)
    if not key:
        return None
    if missing:
        return f"{key[1]} refers to '{missing[1]}', and there is no such key; write its full name, or a value"
    if "Recursive interpolation" in message:
        return f"{key[1]} refers to a value that refers back to it; write a value"
    return None


def _unknown_key(message: str, messages: list[str]) -> str | None:
    """Explain ``optimizer.lrr=1``: the schema has no such key."""
    match = re.search(r"Key '([^']+)' (?:is )?not in '(\w+)'", message)
    full_key = re.search(r"full_key: (\S+)", message)
    if not match:
        return None
    full = full_key[1] if full_key else match[1]
    plugin = re.match(r"hydra\.(\w+)", full)
    if plugin and plugin[1] in INSTEAD:
        return f"{full}: {INSTEAD[plugin[1]]}"
    prefix = full.rpartition(".")[0]
    node = node_named(match[2])
    allowed = keys_of(node) if node else []
    return no_such_key(full, [f"{prefix}.{name}" if prefix else name for name in allowed])


ELSEWHERE = {
    "learningrate": "optimizer.lr", "learningrateinit": "optimizer.lr", "eta": "optimizer.lr",
    "stepsize": "optimizer.lr", "solver": "optimizer", "batchsize": "batching.size", "batch": "batching",
    "minibatchsize": "batching.size", "randomstate": "seed", "randomseed": "seed", "nepochs": "epochs",
    "numepochs": "epochs", "maxiter": "epochs", "hiddenlayersizes": "arch.hidden",
    "hiddenlayers": "arch.hidden", "hiddensize": "arch.hidden", "layers": "arch.hidden",
    "units": "arch.hidden", "widths": "arch.hidden", "architecture": "arch", "network": "arch",
    "model": "arch", "activationfunction": "arch.activation", "nonlinearity": "arch.activation",
    "initializer": "init", "initialization": "init", "dataset": "data", "criterion": "loss",
    "lossfunction": "loss", "dropoutrate": "regularization.dropout", "earlystopping": "stopping.patience",
    "lrscheduler": "schedule", "workers": "execution.n_jobs", "numworkers": "execution.n_jobs",
}  # fmt: skip
"""fnnexp's key for each name that other libraries and books use, here in small letters without ``_``."""


def no_such_key(key: str, known: Sequence[str]) -> str:
    """Return the message for a key that the schema lacks.

    Parameters
    ----------
    key
        The key in full, as it was given.
    known
        The keys that exist in the same place, such as those of ``optimizer``.
    """
    every, last = every_key(), _last(key)
    same = [name for name in every if _last(name) == last or name == ELSEWHERE.get(last)]
    suggestions = " or ".join(f"'{name}'" for name in same)
    hint = f" Did you mean {suggestions}?" if same else did_you_mean(key, every)
    return f"{key}: there is no such key; there are {', '.join(known)}.{hint}"


def _last(key: str) -> str:
    """Return the last part of a key in small letters without ``_``.

    >>> _last("optimizer.Learning_Rate")
    'learningrate'
    """
    return re.sub("[_-]", "", key.rpartition(".")[2]).lower()


def what_to_write(word: str) -> str:
    """Return what to write instead of a word that is neither a command nor an override.

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
    """Explain ``optimizer.lr=abc``: the value has the wrong type."""
    match = re.search(
        r"Value '(.*?)' (?:of type '(\w+)' )?could not be converted to (\w+)", message
    ) or re.search(r"Value '(.*?)' (?:\((\w+)\) )?is not a valid (\w+)", message)
    key = re.search(r"full_key: (\S+)", message)
    if not match or not key:
        return None
    types = {
        "Integer": "a whole number",
        "Float": "a number",
        "Boolean": "true or false",
        "bool": "true or false",
    }
    instead = _as_sweep(key[1], match[1])
    if match[3] == "Integer" and (whole := re.fullmatch(r"(-?\d+)\.0", match[1])):
        instead = f"; write {key[1]}={whole[1]}"
    return f"{key[1]}={match[1]}: must be {types.get(match[3], match[3])}{instead}"


def _not_text(message: str, messages: list[str]) -> str | None:
    """Explain ``dtype=[float32,float64]``: the value must be a text."""
    match = re.search(r"Cannot convert '\w+' to string: '(.*)'", message)
    key = re.search(r"full_key: (\S+)", message)
    return f"{key[1]}={match[1]}: must be a text{_as_sweep(key[1], match[1])}" if match and key else None


def _as_sweep(key: str, value: str) -> str:
    """Return advice on how to sweep, if a list was given where a single value is allowed; otherwise ""."""
    values = re.fullmatch(r"\[([^][{}]+)\]", value) or re.fullmatch(r"([\w.-]+(?:,[\w.-]+)+)", value)
    if not values or "[" in key:
        return ""
    listed = re.sub(r"'([\w./-]+)'", r"\1", values[1]).replace(", ", ",")
    return f"; write {key}={listed}{' with -m, for one trial per value' if ',' in listed else ''}"


def _not_list(message: str, messages: list[str]) -> str | None:
    """Explain ``arch.hidden=5``: the value must be a list."""
    override = re.search(r"Error merging override (.*)", messages[0])
    if not override or "is not a ListConfig" not in message:
        return None
    key, _, value = override[1].partition("=")
    return f"{override[1]}: must be a list; write {key}=[{value}]"


def _null(message: str, messages: list[str]) -> str | None:
    """Explain ``epochs=null``, ``arch.hidden=[32,null]``: the value must not be null."""
    in_list = re.search(r"full_key: (\S+)\[\d+\]", message)
    if in_list and "NoneType is not a subclass of" in message:
        return f"{in_list[1]}: its list contains null, but every value must be a whole number; omit null"
    override = re.search(r"Error merging override (.*)", messages[0])
    if not override or "is not Optional" not in message:
        return None
    return f"{override[1]}: must have a value; omit it, or write {override[1].partition('=')[0]}=VALUE"


def _node_as_value(message: str, _: list[str]) -> str | None:
    """Explain ``loss=mean``: a node has keys and cannot be set to a value."""
    match = re.search(r"is not a subclass of (\w+)\. value: (.*)", message)
    node = node_named(match[1]) if match else None
    key = next((key for key, known in NODES.items() if known is node), None)
    if match is None or key is None:
        return None
    keys = " or ".join(f"{key}.{name}=…" for name in keys_of(node))
    return f"{key}={match[2]}: {key} has keys, so it cannot be set to a value; write {keys}"


def _second_option(message: str, _: list[str]) -> str | None:
    """Explain ``+experiment=x``: the group is in the defaults list already."""
    replaced = re.search(
        r"Multiple values for ([\w/@.]+)\. To override a value use 'override \S+ (.*)'", message
    )
    added = re.search(r"force-add of config groups is not supported: '\++([^=]+)=(.*)'", message)
    if not (replaced or added):
        return None
    group, option = (replaced or added).groups()  # type: ignore[union-attr]
    return (
        f"{group} has an option already; to replace it write {group}={option} without +, or in a file's "
        f"defaults 'override {group}: {option}'"
    )


def _several_values(message: str, _: list[str]) -> str | None:
    """Explain ``seed=0,1`` without ``-m``: several values are for sweeps."""
    match = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(([^=]+)=.*)'", message)
    if not match:
        return None
    instead = f"for a text with a comma write \"{match[2]}='…'\""
    if match[2] in LISTS_OR_VALUES:
        columns = match[2] == "data.drop"
        one = "data without all of them" if columns else "one network with a value for each layer"
        instead = f"for {one} write {match[2]}=[{match[1].partition('=')[2]}]"
    return f"{match[1]}: has several values; for one trial per value add -m; {instead}"


RULES = (
    _unknown_option,
    _unknown_config,
    _unknown_default,
    _unresolved,
    _unknown_key,
    _wrong_type,
    _not_text,
    _not_list,
    _null,
    _node_as_value,
    _second_option,
    _several_values,
)
