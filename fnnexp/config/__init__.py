"""Configs: turn a user's command into trials.

- ``schema``: the keys, their types and defaults; the folders of the shipped files.
- ``compose``: the only entry point: turn a command into a sweep.
- ``composition``: compose configs with Hydra; ``grids``: which jobs a sweep has.
- ``safety``: refuse configs that are more than data, before Hydra reads a file and after it composed one.
- ``jobs``, ``checks``: read a composed config, and refuse impossible values.
- ``resolve``, ``trial``: turn a job and its data into a trial; a trial's identity.
- ``execution``: where and how trials run.
- ``messages``: turn Hydra's errors into messages that say what to write.
- ``commands``: commands and values in the syntax of the shell and of Hydra.

A key of the schema is declared by :func:`key`. ``make reference`` makes the help, the README's table and
docs/reference.md from these declarations.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Key:
    """The description of a key of the config: its meaning, its unit and its allowed values.

    Attributes
    ----------
    meaning
        One sentence that says what the key does, for the help and the documentation.
    unit
        What a number counts or measures, such as ``epochs``.
    names
        The allowed names: a table, so that an entry added to it is allowed too.
    kind
        The type in words, where the annotation does not say it.
    least, above, most, below
        The bounds of a number: value ≥ least, value > above, value ≤ most, value < below.
    """

    meaning: str
    unit: str = ""
    names: Collection[str] = ()
    kind: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None


def key(default: Any, meaning: str, **about: Any) -> Any:
    """Declare a key of the config: return a dataclass field with the key's default and its description.

    Parameters
    ----------
    default
        The default, or a function without arguments that returns it.
    meaning, about
        The attributes of :class:`Key`.
    """
    metadata = {"key": Key(meaning, **about)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)
