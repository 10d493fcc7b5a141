"""The command that makes a sweep again, from what the store knows of its trials, and what they ran with.

A command names the options that are not the defaults, and each value that its options do not bring. It is
given only where its grid is the very set of trials: then it leads to the same trial ids.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.config.execution import Execution
from fnnexp.config.schema import (
    CHOICES,
    default_options,
    default_params,
    is_shipped,
    quoted,
)
from fnnexp.nn.engines.base import ENGINES
from fnnexp.reporting.sections.summary import plural
from fnnexp.results import frames
from fnnexp.results.frames import AXES
from fnnexp.tracking.views import report_command
from fnnexp.tracking.writer import as_param

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST_COMMANDS = 8
"""As many commands as anyone would paste."""

MOST_TRIALS = 10_000
"""As many jobs as a sweep takes."""

NULL = "null"


@dataclass(frozen=True)
class Rebuilt:
    """The commands, none if there is no way to write them, and what is to be said before them."""

    said: str
    commands: list[str]


def rebuilt(experiment: str, runs: pd.DataFrame) -> Rebuilt:
    """Return what makes the trials of a frame again, all of them and no others, if that can be written."""
    if frames.CHECKSUM in frames.factors(runs):
        return Rebuilt(
            "The data changed under its path between these trials, so no command trains all of them again."
            f" A report of those on one data set, as in {_of_one(experiment, runs)}, has the command that"
            " trains them where that data is.",
            [],
        )
    whole = f"the {plural(runs['trial'].nunique(), 'trial')} of this report, with the same ids"
    ordered = runs.drop_duplicates("trial").sort_values([a for a in AXES if a in runs], kind="stable")
    trials = [_Written.of(record) for record in ordered.to_dict("records")]
    end = [f"tracking.experiment={_value(experiment)}", *_engine(runs)]
    texts = [experiment, *(value for each in trials for value in each.texts.values())]
    if not all(text.isprintable() and "${" not in text for text in texts):
        return Rebuilt(f"A value holds what a command line can't. {BY_FILE}", [])
    if grids := _grids(trials):
        them = "this trains" if len(grids) == 1 else f"no single grid has them, these {len(grids)} train"
        said = f"In an empty store {them} {whole}; in this one what is finished is not trained again."
        return Rebuilt(said, [_command([*words, *end]) for words in grids])
    options = _options(trials, _keys(trials))
    count = math.prod(map(len, options.values()))
    if count <= MOST_TRIALS and not any(NULL in values for values in options.values()):
        missing = count - len({each.values_of(options) for each in trials})
        said = f"This trains {whole}, and {missing:,} more: they are no full grid. {BY_FILE}"
        return Rebuilt(said, [_command([*_words(options), *end])])
    return Rebuilt(f"The trials are no full grid, nor a few of them. {BY_FILE}", [])


def _of_one(experiment: str, runs: pd.DataFrame) -> str:
    """Return the command of a report of the trials on the first of several data sets."""
    first = frames.as_text(runs[frames.CHECKSUM].dropna().iloc[0])
    return f"`{report_command(experiment, [f'{frames.CHECKSUM}={first}'])}`"


def _engine(runs: pd.DataFrame) -> list[str]:
    """Return the override for the engine that computed all trials, where it is not the default.

    It is no part of their ids, but of their last bits.
    """
    told = runs["engine"].dropna() if "engine" in runs else pd.Series(dtype=str)
    names = {str(version).partition(" ")[0] for version in told}
    alike = len(names) == 1 and names <= ENGINES.keys() - {Execution.engine}
    return [f"execution.engine={name}" for name in names] if alike else []


BY_FILE = (
    "One trial alone: put its run's artifact config.yaml into a folder, write `defaults: [config, _self_]` as"
    " its first line, and `fnnexp -cd FOLDER -cn config_of_mine` if it is named config_of_mine.yaml."
)


NOT_RECORDED = {"git_commit": "none, it ran outside a git repository"}


def provenance(runs: pd.DataFrame) -> list[str]:
    """Return what the trials ran with: data, commit, versions, BLAS, each with how many where they differ."""
    names = {
        "data_checksum": "data (SHA-256)", "git_commit": "commit", "versions": "versions",
        "blas": "BLAS and its kernel", "engine": "engine",
    }  # fmt: skip
    said = []
    for column, name in names.items():
        if column not in runs:
            continue
        counts = runs[column].dropna().value_counts()
        values = [
            str(value) if len(counts) == 1 else f"{value} ({plural(n, 'trial')})"
            for value, n in counts.items()
        ]
        said.append(f"{name}: {'; '.join(values) or NOT_RECORDED.get(column, 'not recorded')}")
    return said


@dataclass(frozen=True)
class _Written:
    """One trial as an override's right-hand sides: every option and value, and which have to be written."""

    texts: dict[str, str]
    needed: list[str]

    @classmethod
    def of(cls, record: Mapping[Any, Any]) -> _Written:
        preset = _option(record, "experiment", None)
        base = default_options(preset)
        options = {group: _option(record, group, base[group]) for group in CHOICES}
        texts = {"experiment": preset or NULL, **options}
        needed = [key for key, text in texts.items() if text != base.get(key, NULL)]
        for key, default in _defaults(tuple(options.items()), preset).items():
            if key not in record:
                continue
            given = None if _is_none(record[key]) else record[key]
            texts[key] = _value(given)
            if key == "seed" or texts[key] != _value(
                as_param(default) if isinstance(default, list) else default
            ):
                needed.append(key)
        return cls(texts, needed)

    def values_of(self, keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(self.texts.get(key, NULL) for key in keys)


@cache
def _defaults(options: tuple[tuple[str, str], ...], preset: str | None) -> dict[str, Any]:
    return default_params(dict(options), preset)


def _option(record: Mapping[Any, Any], group: str, otherwise: Any) -> Any:
    """Return the shipped option of a group; what is somebody's own is written by its values."""
    option = record.get(group)
    return str(option) if not _is_none(option) and is_shipped(group, str(option)) else otherwise


def _is_none(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _grids(trials: Sequence[_Written]) -> list[list[str]]:
    """Return the overrides of the one grid that is these trials, or of the fewest whose union is; or none."""
    if words := _grid(trials):
        return [words]
    found: list[list[str]] = []
    for key in _keys(trials):
        parts: dict[str, list[_Written]] = {}
        for each in trials:
            parts.setdefault(each.texts.get(key, NULL), []).append(each)
        if not 1 < len(parts) <= (len(found) - 1 if found else MOST_COMMANDS):
            continue
        grids = [_grid(part) for part in parts.values()]
        if all(grids):
            found = grids
    return found


def _grid(trials: Sequence[_Written]) -> list[str]:
    """Return the overrides of the grid that is these trials; none if they are no full grid."""
    options = _options(trials, _keys(trials))
    full = math.prod(map(len, options.values())) == len({each.values_of(options) for each in trials})
    return _words(options) if full else []


def _keys(trials: Sequence[_Written]) -> list[str]:
    """Return what must be written for any of them: then it is written for all."""
    return list(dict.fromkeys(key for key in ORDER for each in trials if key in each.needed)) + sorted(
        {key for each in trials for key in each.needed} - set(ORDER)
    )


ORDER = ("experiment", *CHOICES, "seed", "epochs")


def _options(trials: Sequence[_Written], keys: Sequence[str]) -> dict[str, list[str]]:
    return {key: list(dict.fromkeys(each.texts.get(key, NULL) for each in trials)) for key in keys}


def _words(options: dict[str, list[str]]) -> list[str]:
    joined = {key: _seeds(texts) if key == "seed" else ",".join(texts) for key, texts in options.items()}
    return [f"{key}={text}" for key, text in joined.items()]


def _seeds(values: Sequence[str]) -> str:
    """Return the seeds as a range where they are one.

    >>> _seeds(["2", "0", "1"]), _seeds(["3", "5"])
    ('range(3)', '3,5')
    """
    seeds = sorted(int(text) for text in values if text != NULL)
    if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"range({seeds[0]},{seeds[-1] + 1})" if seeds[0] else f"range({seeds[-1] + 1})"
    return ",".join(map(str, seeds))


@lru_cache(maxsize=4096, typed=True)  # a thousand trials have few values; 1, 1.0 and True are three
def _value(value: Any) -> str:
    r"""Return a value as Hydra's override grammar reads it back.

    >>> _value(True), _value("[64, 32]"), _value(0.1), _value("a b"), _value(None)
    ('true', '[64,32]', '0.1', "'a b'", 'null')
    """
    if value is None:
        return NULL
    if isinstance(value, str):
        if re.fullmatch(r"\[[\d, ]*\]", value):
            return value.replace(" ", "")
        return quoted(value)
    return str(bool(value)).lower() if as_param(value) in ("True", "False") else as_param(value)


def _command(words: Sequence[str]) -> str:
    several = any(re.search(r",(?![^\[]*\])|=range\(", word) for word in words)
    return " ".join(["fnnexp", *(["-m"] if several else []), *map(shlex.quote, words)])
