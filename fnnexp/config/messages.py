"""What Hydra and OmegaConf complain about, in words that say what to write instead."""

from __future__ import annotations

import re
from difflib import get_close_matches

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from fnnexp.errors import did_you_mean

LONGEST_CHAIN = 20


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
    found = re.search(
        r"Could not find '([\w/]+)/([^'/]*)'\s+Available options in '[^']*':\n((?:\t\S+\n?)+)", message
    )
    if not found:
        return None
    group, given, listed = found.groups()
    options = listed.split()
    return f"{group}={given}: must be one of {', '.join(options)}.{did_you_mean(given, options)}"


def _unknown_config(message: str, _: list[str]) -> str | None:
    """``-cn card_gird``: there is no such config."""
    found = re.search(r"Cannot find primary config '([^']+)'", message)
    if not found:
        return None
    from fnnexp.config.schema import conf_folder, sweeps_folder

    names = sorted(file.stem for folder in (conf_folder(), sweeps_folder()) for file in folder.glob("*.yaml"))
    given = found[1]
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
    from fnnexp.config.schema import conf_folder, sweeps_folder

    folders = (conf_folder(), sweeps_folder())
    files = [path.relative_to(folder) for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    near = did_you_mean(given, [path.with_suffix("").as_posix() for path in files])
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
    from dataclasses import fields

    from fnnexp.config import schema as config

    node = getattr(config, found[2], None)
    allowed = [field.name for field in fields(node)] if node else []
    full = given[1] if given else found[1]
    prefix = full.rpartition(".")[0]
    listed = [f"{prefix}.{name}" if prefix else name for name in allowed]
    near = get_close_matches(found[1], allowed, n=1)
    hint = f" Did you mean '{listed[allowed.index(near[0])]}'?" if near else ""
    return f"{full}: there is no such key; there are {', '.join(listed)}.{hint}"


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
    values = re.fullmatch(r"\[([^][{}]+)\]", given)
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
)
