"""Choose rows of a frame of trials: a part, those with the values of KEY=VALUE, each configuration once."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.results.factors import as_text
from fnnexp.results.frames import CHECKSUM, RESULTS, in_order, params_of
from fnnexp.tracking.run_format import DONE, METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST = 10_000
"""The most values that one KEY=VALUE may have; a sweep may have as many jobs."""

TRUTHS = {
    "true": True, "yes": True, "y": True, "on": True, "1": True,
    "false": False, "no": False, "n": False, "off": False, "0": False,
}  # fmt: skip
"""How a config writes true and false."""


def part(runs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Return the chosen rows, their categories without the options that none of them has."""
    rows = runs[chosen].reset_index(drop=True)
    options = rows.select_dtypes("category").columns.difference(["status"])
    return rows.assign(**{option: rows[option].cat.remove_unused_categories() for option in options})


def where(runs: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows with these options, as :func:`part` does: `{"arch": "tanh_128", "seed": "0,1"}`.

    Parameters
    ----------
    wanted
        For each of some columns what a sweep takes behind `KEY=`, in Hydra's grammar: a value, several with
        commas, `range(3)`, `[64,32]`, `glob(he*)`, `null`; or a value as :func:`as_text` writes it.

    Raises
    ------
    FnnexpError
        If there is no such column to choose by, no such value in it, or no row with all of them.

    Examples
    --------
    >>> trials = pd.DataFrame({"optimizer.lr": [0.1, 0.01, 0.1], "seed": [0, 1, 2]})
    >>> where(trials, {"optimizer.lr": "1e-1", "seed": "range(2)"})
       optimizer.lr  seed
    0           0.1     0
    """
    chosen = pd.Series(True, runs.index)
    columns = [str(column) for column in runs.columns if column not in RESULTS or column == CHECKSUM]
    for key, values in wanted.items():
        if key not in columns:
            raise FnnexpError(
                f"{key}={values}: trials have no '{key}' to choose by; they have {', '.join(columns)}."
                f"{did_you_mean(key, columns)}"
            )
        chosen &= _having(runs[key], runs[key].map(as_text, na_action=None).astype("str"), values)
    if not chosen.any():
        raise FnnexpError(
            f"No trial has {' '.join(f'{k}={v}' for k, v in wanted.items())}; ask for fewer options at once."
        )
    return part(runs, chosen)


def once(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a configuration and seed, in the order of :func:`fnnexp.results.frames.in_order`.

    There are several where a frame holds a trial twice, or trials of another version of our numerics. Then a
    trial that is done counts, and of these the one that started last.
    """
    runs = runs.reset_index(drop=True)
    content = [*params_of(runs), *(column for column in ("seed", CHECKSUM) if column in runs)]
    rank = [column for column in ("started", "trial", "run_id", *METRICS) if column in runs]
    ranked = runs[rank].assign(done=runs["status"].isin(DONE)).sort_values(["done", *rank])
    return in_order(runs.loc[ranked.index].drop_duplicates(content, keep="last"))


def _having(column: pd.Series, shown: pd.Series, asked: str) -> pd.Series:
    """Return which rows of a column have one of the values in what stands behind `KEY=`.

    `shown` is the column as tables show it; a text that stands there is found by these very words.
    """
    rows = shown == asked
    if rows.any():
        return rows
    for value in _values(column, shown, asked) or [asked]:
        same = _same(column, shown, value)
        if not same.any():
            raise FnnexpError(f"{column.name}={_text(value)}: no trial has it; {_there(shown, _text(value))}")
        rows |= same
    return rows


def _values(column: pd.Series, shown: pd.Series, asked: str) -> Sequence[Any]:
    """Return the values that a text names in Hydra's grammar, or else the words that are shown."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"key={asked}"])
        value = parsed.value()
        if isinstance(value, Glob):
            return value.filter(list(column.dropna().astype("str").unique()))
        if not parsed.is_sweep_override():
            return [value]
        values = [_unquoted(each) for each in islice(parsed.sweep_iterator(), MOST + 1)]
    except (HydraException, ValueError, RecursionError) as error:
        if set(words := asked.split(",")) <= set(shown):
            return words
        raise FnnexpError(
            f"{column.name}={asked}: is no value and no choice of values; {_there(shown, asked)} "
            f"Write one of them, several with commas, range(3), 'glob(he*)', null or \"'a b'\"."
        ) from error
    if len(values) > MOST:
        raise FnnexpError(f"{column.name}={asked}: are more than {MOST:,} values; {_there(shown, asked)}")
    return values


def _unquoted(value: Any) -> Any:
    """Return an element of a sweep with its quoted strings as strings."""
    if isinstance(value, list):
        return [_unquoted(each) for each in value]
    return getattr(value, "text", value)


def _same(column: pd.Series, shown: pd.Series, value: Any) -> pd.Series:
    """Return which rows have this value, read as the column's type."""
    if value is None:
        return column.isna()
    text = str(value)  # a list, as in [64, 32], is held as such a text
    same = (shown == text) | (column.notna() & (column.astype("str") == text))
    wanted: bool | float | None = None
    if is_bool_dtype(column):
        wanted = TRUTHS.get(text.lower())
    elif is_numeric_dtype(column):
        wanted = _number(text)
    if wanted is None:
        return same
    return pd.Series([not pd.isna(one) and one == wanted for one in column], column.index)


def _number(text: str) -> float | None:
    """Return a number, an integer exactly; None if a text is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _text(value: Any) -> str:
    """Return a value as a config writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _there(shown: pd.Series, given: str) -> str:
    there = list(dict.fromkeys(shown))
    return f"there are {', '.join(there)}.{did_you_mean(given, there)}"
