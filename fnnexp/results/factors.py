"""The factors of an experiment: what tells its configurations apart, groups them and labels them."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.results.frames import CHECKSUM, params_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

AXES = ("arch", "init", "batching")
"""The factors that the table lays out; each combination of the others has a table and a figure of its own."""

SOURCES = ("data", "data.name", "data.path", "data.test_path",
           "data.label", "data.header", "data.test_fraction", "data.transpose")  # fmt: skip
"""The params that say where the data is from, and how it was read."""

SHORT = 12
"""So many digits of a checksum are shown."""

LONGEST = 100
"""Characters of a value in a table, a figure or a sentence."""

EQUALS = r"(?<![0-9])([0-9]+)(?:(?:_|, )\1(?![0-9])){2,}"
"""Three equal widths or more, as an architecture's name or a list has them."""


def factors_of(runs: pd.DataFrame) -> list[str]:
    """Return the columns that tell this frame's configurations apart: params, but never `seed`.

    A param below an option (`optimizer.lr` below `optimizer`) counts only where it differs among trials of
    the same option: otherwise the option says it already. `data_checksum` is one where it differs among
    trials whose data is from the same place.
    """
    params = params_of(runs)
    found = [param for param in params if _varies(runs, param, params)]
    sources = [source for source in SOURCES if source in params]
    return [*found, CHECKSUM] if CHECKSUM in runs and varies_within(runs, sources, CHECKSUM) else found


def groups(runs: pd.DataFrame, factors: Sequence[str]) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    """Yield each combination of the factors with its trials, in the order of the factors' values."""
    if factors:
        yield from runs.groupby(list(factors), observed=True, dropna=False, sort=True)
    elif len(runs):
        yield (), runs


def others(runs: pd.DataFrame) -> list[str]:
    """Return the factors beside the axes that split the table: those that an axis does not settle."""
    beside = [factor for factor in factors_of(runs) if factor.partition(".")[0] not in AXES]
    return [factor for factor in beside if varies_within(runs, list(AXES), factor)]


def varies_within(runs: pd.DataFrame, by: list[str], factor: str) -> bool:
    """Whether the factor has several values among trials that agree in these columns, if any are given."""
    if not by:
        return int(runs[factor].nunique(dropna=False)) > 1
    values = runs.groupby(by, observed=True, dropna=False)[factor].nunique(dropna=False)
    return bool(values.gt(1).any())


def labels_of(runs: pd.DataFrame, option: str) -> pd.Series:
    """Return each trial's option with those of its params that vary below it: `normal`, or `normal std=0.3`.

    The result is a category, ordered by the option and then by the params' values.
    """
    below = [param for param in factors_of(runs) if param.startswith(f"{option}.")]
    text = runs[option].astype("str").fillna("–").map(as_text)
    for param in below:
        values = _values_within(runs, option, param)
        varies = runs[option].map(values.to_dict()).astype("Int64").fillna(1) > 1
        addition = " " + param.removeprefix(f"{option}.") + "=" + runs[param].map(as_text)
        text = text.where(~varies | runs[param].isna(), text + addition)
    order = runs[[option, *below]].assign(text=text).sort_values([option, *below], kind="stable")["text"]
    return text.astype(pd.CategoricalDtype(order.drop_duplicates().to_list(), ordered=True))


def as_text(value: Any) -> str:
    """Return a param's value as a person writes it; what is too long to read, as a checksum, is shortened.

    >>> as_text(0.1), as_text(128), as_text(True), as_text(None), as_text(64 * "a")
    ('0.1', '128', 'True', '–', 'aaaaaaaaaaaa')
    >>> as_text("relu" + 64 * "_128"), as_text(str([784] + 3000 * [8]))
    ('relu_128×64', '[784, 8×3000]')
    """
    if pd.isna(value):
        return "–"
    return f"{value:g}" if isinstance(value, float) else _shortened(str(value))


def _shortened(text: str) -> str:
    """Return a text that is too long with its equal widths counted, or cut; different ones stay different."""
    if re.fullmatch("[0-9a-f]{64}", text):
        return text[:SHORT]
    if len(text) <= LONGEST:
        return text
    short = re.sub(EQUALS, lambda m: f"{m[1]}×{len(re.findall('[0-9]+', m[0]))}", text)
    if len(short) <= LONGEST:
        return short
    return f"{short[:60]}…{short[-20:]} ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _varies(runs: pd.DataFrame, param: str, params: Sequence[str]) -> bool:
    option = param.partition(".")[0]
    if option == param or option not in params:
        return int(runs[param].nunique(dropna=False)) > 1
    return bool((_values_within(runs, option, param) > 1).any())


def _values_within(runs: pd.DataFrame, option: str, param: str) -> pd.Series:
    """Return how many values the param has (none given is one) among the trials of each option."""
    return runs.groupby(option, observed=True, dropna=False)[param].nunique(dropna=False)
