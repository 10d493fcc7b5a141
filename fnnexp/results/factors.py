"""The factors of an experiment: the columns that distinguish, group and label its configurations."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fnnexp.config.schema import CHOICES
from fnnexp.results.frames import CHECKSUM, PIECES, params_of, remembered

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

AXES = ("arch", "init", "batching")
"""The factors of a table's rows and columns; each combination of other factors has a separate table."""

SOURCES = ("data", "data.name", "data.path", "data.test_path",
           "data.label", "data.drop", "data.header", "data.test_fraction", "data.transpose")  # fmt: skip
"""The params that say where the data comes from and how its files are read."""

SHORT = 12
"""The number of digits of a checksum that are shown."""

LONGEST = 100
"""Maximum number of characters of a value in a table, a figure or a sentence."""

EQUALS = r"(?<![0-9])([0-9]+)(?:(?:_|, )\1(?![0-9])){2,}"
"""Matches three or more equal widths in an architecture's name or in a list."""


@remembered
def factors_of(runs: pd.DataFrame) -> list[str]:
    """Return the names of the params that vary in this frame, so that they tell configurations apart.

    The key `seed` is never among them. A param of an option (`optimizer.lr` of `optimizer`) is included only
    if it differs among trials with the same option; otherwise the option already implies it. `data_checksum`
    is included if it differs among trials whose data has the same source, and `pieces` if it differs among
    trials with the same params.
    """
    params = params_of(runs)
    factors = [param for param in params if _varies(runs, param, params)]
    sources = [source for source in SOURCES if source in params]
    versions = ((CHECKSUM, sources), (PIECES, params))
    return factors + [name for name, by in versions if name in runs and varies_within(runs, by, name)]


def by_version(runs: pd.DataFrame) -> pd.DataFrame:
    """Name the versions of an option whose file the user edited between trials, as in `mine@96e63b`.

    The digits are the start of the file's checksum. Without these names, the column `pieces`, which names the
    user's files, would be a factor, although only some options use such files. The versions take the place of
    their option, the first trained first.

    Returns
    -------
    DataFrame
        The trials with these options; `runs` itself if `pieces` is not a factor, or if it is unknown which
        options are the user's: all trials use files of the user, or every group has an option of which only
        some trials use them.
    """
    if PIECES not in runs or not varies_within(runs, params := params_of(runs), PIECES):
        return runs
    uses = runs[PIECES].notna()
    for choice in (name for name in CHOICES if name in params and name != "data"):
        by_option = uses.groupby(runs[choice].astype("str"))
        if uses.all() or not by_option.nunique().eq(1).all():
            continue
        options = runs[choice].astype("str").mask(uses, runs[choice].astype("str") + _versions(runs, choice))
        by = [choice, *runs.columns.intersection(["started"])]
        names = list(dict.fromkeys(options[runs.sort_values(by, kind="stable").index].dropna()))
        labelled = runs.assign(**{choice: options.astype(pd.CategoricalDtype(names, ordered=True))})
        return runs if varies_within(labelled, params, PIECES) else labelled
    return runs


def _versions(runs: pd.DataFrame, choice: str) -> pd.Series:
    """Return what to append to each trial's option: `@` and the first digits of its file's checksum.

    It is "" for options of which there is one version.
    """
    several = _values_within(runs, choice, PIECES) > 1
    checksums = runs[PIECES].astype("str").str.findall("@([0-9a-f]+)").str.join("+")
    short = checksums.str.replace(r"([0-9a-f]{6})[0-9a-f]*", r"\1", regex=True)
    shown = short if short.nunique() == checksums.nunique() else checksums
    return ("@" + shown).where(runs[choice].map(several.to_dict()).astype("bool"), "")


def groups(runs: pd.DataFrame, factors: Sequence[str]) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    """Group trials by these factors: yield each combination of options with its trials, in sorted order."""
    if factors:
        yield from runs.groupby(list(factors), observed=True, dropna=False, sort=True)
    elif len(runs):
        yield (), runs


def group_numbers(runs: pd.DataFrame, factors: Sequence[str]) -> pd.Series:
    """Return for each trial the number, from 0, of its group: its place in the order of :func:`groups`."""
    if not factors:
        return pd.Series(0, runs.index)
    return runs.groupby(list(factors), observed=True, dropna=False, sort=True).ngroup()


def tuples_of(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return the rows of a frame as tuples.

    Unlike `itertuples`, this returns () for each row of a frame without columns.
    """
    columns = [rows[name].tolist() for name in rows.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * len(rows)


@remembered
def others(runs: pd.DataFrame) -> list[str]:
    """Return the factors that vary independently of `arch`, `init` and `batching`, which tables have as axes.

    These are factors with several values among trials that agree in these three. Each combination of their
    options has a separate table.
    """
    candidates = [factor for factor in factors_of(runs) if factor.partition(".")[0] not in AXES]
    return [factor for factor in candidates if varies_within(runs, list(AXES), factor)]


def varies_within(runs: pd.DataFrame, by: list[str], factor: str) -> bool:
    """Return whether a factor has several values among trials that are equal in the columns `by`."""
    if not by:
        return int(runs[factor].nunique(dropna=False)) > 1
    values = runs.groupby(by, observed=True, dropna=False)[factor].nunique(dropna=False)
    return bool(values.gt(1).any())


@remembered
def labels_of(runs: pd.DataFrame, option: str) -> pd.Series:
    """Return a label of each trial's option in a group, with its params that vary: `normal std=0.3`.

    The labels are a category, ordered by option and then by the params' values. `option` names the group,
    such as `init`.
    """
    params = [param for param in factors_of(runs) if param.startswith(f"{option}.")]
    text = as_texts(runs[option].astype("str").fillna("–"))
    for param in params:
        values = _values_within(runs, option, param)
        varies = runs[option].map(values.to_dict()).astype("Int64").fillna(1) > 1
        addition = " " + param.removeprefix(f"{option}.") + "=" + as_texts(runs[param])
        text = text.where(~varies | runs[param].isna(), text + addition)
    distinct = runs[[option, *params]].assign(text=text).drop_duplicates()
    order = distinct.sort_values([option, *params], kind="stable")["text"]
    return text.astype(pd.CategoricalDtype(order.drop_duplicates().to_list(), ordered=True))


def as_texts(values: pd.Series) -> pd.Series:
    """Return a column with each value as text, as :func:`as_text` writes it."""
    codes, distinct = pd.factorize(values, use_na_sentinel=False)
    texts = np.array([as_text(value) for value in distinct], dtype=object)
    return pd.Series(texts[codes] if len(texts) else [], values.index, dtype="str")


def as_text(value: Any) -> str:
    """Return a param's value as tables show it; checksums and long values are shortened.

    >>> as_text(0.1), as_text(128), as_text(True), as_text(None), as_text(64 * "a")
    ('0.1', '128', 'True', '–', 'aaaaaaaaaaaa')
    >>> as_text("relu" + 64 * "_128"), as_text(str([784] + 3000 * [8]))
    ('relu_64x128', '[784, 3000x8]')
    """
    if pd.isna(value):
        return "–"
    return f"{value:g}" if isinstance(value, float) else _shortened(str(value))


def _shortened(text: str) -> str:
    """Shorten a checksum or a long text: count repeated widths of layers, or cut the middle.

    Long texts that differ stay different: the cut text ends with a hash.
    """
    if re.fullmatch("[0-9a-f]{64}", text):
        return text[:SHORT]
    if len(text) <= LONGEST:
        return text
    short = re.sub(EQUALS, lambda m: f"{len(re.findall('[0-9]+', m[0]))}x{m[1]}", text)
    if len(short) <= LONGEST:
        return short
    return f"{short[:60]}…{short[-20:]} ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _varies(runs: pd.DataFrame, param: str, params: Sequence[str]) -> bool:
    option = param.partition(".")[0]
    if option == param or option not in params:
        return int(runs[param].nunique(dropna=False)) > 1
    if int(runs[param].nunique(dropna=False)) < 2:
        return False
    return bool((_values_within(runs, option, param) > 1).any())


def _values_within(runs: pd.DataFrame, option: str, param: str) -> pd.Series:
    """Return, for each option, how many values a param has among its trials; missing counts as a value."""
    return runs.groupby(option, observed=True, dropna=False)[param].nunique(dropna=False)
