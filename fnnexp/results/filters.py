"""Which rows a KEY=VALUE asks for: Hydra's override grammar, as in a sweep, and compared as values."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from fnnexp.errors import FnnexpError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 10_000
"""As many values as a sweep has jobs."""

TRUTHS = {
    "true": True, "yes": True, "y": True, "on": True, "1": True,
    "false": False, "no": False, "n": False, "off": False, "0": False,
}  # fmt: skip
"""How a config writes true and false."""


def having(column: pd.Series, shown: pd.Series, asked: str) -> pd.Series:
    """Return which rows have one of the values that are asked for.

    Parameters
    ----------
    column
        A param of each trial; its name is the key.
    shown
        The same as tables show it: who asks for a value in these very words gets it.
    asked
        What stands behind `KEY=`: `he`, `0,1`, `range(3)`, `[64,32],[8]`, `glob(he*)`, `null`, `'a b'`.

    Raises
    ------
    FnnexpError
        When it is no value, or no row has one of them.
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
    """Return the values asked for; words that the grammar has not are values where they are there."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob, Override
    from hydra.errors import HydraException

    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"key={asked}"])
        if isinstance(parsed._value, Glob):
            return parsed._value.filter(list(column.dropna().astype("str").unique()))
        if not parsed.is_sweep_override():
            return [parsed.value()]
        values = [Override._convert_value(value) for value in islice(parsed.sweep_iterator(), MOST + 1)]
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


def _same(column: pd.Series, shown: pd.Series, value: Any) -> pd.Series:
    """Return which rows have this value, read as the column's type."""
    if value is None:
        return column.isna()
    text = str(value)  # [64, 32] is held as such
    same = (shown == text) | (column.notna() & (column.astype("str") == text))
    if is_bool_dtype(column):
        wanted: Any = TRUTHS.get(text.lower())
    else:
        wanted = _number(value) if is_numeric_dtype(column) else None
    if wanted is None:
        return same
    return pd.Series([not pd.isna(one) and one == wanted for one in column], column.index)


def _number(value: Any) -> int | float | None:
    for kind in (int, float):
        try:
            return value if isinstance(value, kind) and not isinstance(value, bool) else kind(str(value))
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
