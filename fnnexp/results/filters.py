"""Select rows of a frame of runs: a subset, matches of KEY=VALUE, or each configuration and seed once."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from fnnexp.config.resolve import label_in_full, label_now
from fnnexp.errors import FnnexpError, did_you_mean, plural
from fnnexp.results.factors import as_text, by_version, group_numbers
from fnnexp.results.frames import (
    CHECKSUM,
    PIECES,
    in_order,
    numbered,
    params_of,
    remembered,
    result_columns,
)
from fnnexp.tracking.run_format import DONE, METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST = 10_000
"""Maximum number of values that one KEY=VALUE may name, the same as the maximum number of jobs in a sweep."""

SEVERAL_EPOCHS = r"\bepochs=[^\s']*[,(]"
"""Matches a command that sweeps over the number of epochs."""

TRUTHS = {
    "true": True, "yes": True, "y": True, "on": True, "1": True,
    "false": False, "no": False, "n": False, "off": False, "0": False,
}  # fmt: skip
"""What may be written for true and for false in a config, as in YAML."""


def part(runs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Return the rows where `chosen` is true. Their categories keep only the options that still occur."""
    rows = runs[chosen].reset_index(drop=True)
    options = rows.select_dtypes("category").columns.difference(["status"])
    return rows.assign(**{option: rows[option].cat.remove_unused_categories() for option in options})


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without trials that were trained to tune options, which enter no comparison.

    If all trials were trained to tune options, the result is `runs` itself.
    """
    tuning = runs["tuning"].notna() if "tuning" in runs else pd.Series(False, runs.index)
    return part(runs, ~tuning) if tuning.any() and not tuning.all() else runs


def longest(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without trials that a later command repeated with more epochs.

    All trials of a number of epochs are left out if each of them has a longer trial, with everything else
    equal, that is done and began after the shorter one had ended. None are left out if one command trained
    several numbers of epochs, since it asked to compare them, nor in frames with trials that tuned options.
    If none are left out, the result is `runs` itself.
    """
    commands = runs.get("command", pd.Series(dtype="str"))
    columns = {"epochs", "seed", "status", "started", "seconds"}
    if not columns <= {*runs.columns} or runs["epochs"].nunique() < 2 or commands.nunique() < 2:
        return runs
    if "tuning" in runs and runs["tuning"].notna().any():
        return runs
    asking = commands.str.contains(SEVERAL_EPOCHS, na=True)
    asking |= runs.groupby("command", dropna=False)["epochs"].transform("nunique").gt(1)
    content = [*params_of(runs), *(column for column in ("seed", CHECKSUM, PIECES) if column in runs)]
    trials = pd.DataFrame({
        "same": group_numbers(runs, [column for column in content if column != "epochs"]),
        "epochs": runs["epochs"],
        "started": runs["started"],
        "ended": runs["started"] + pd.to_timedelta(runs["seconds"].fillna(0.0), unit="s"),
    })  # fmt: skip
    later = trials[runs["status"].isin(DONE) & ~asking]
    pairs = trials.reset_index(names="row").merge(later, on="same", suffixes=("", "_later"))
    longer = (pairs["epochs_later"] > pairs["epochs"]) & (pairs["started_later"] >= pairs["ended"])
    has_longer = pd.Series(runs.index.isin(pairs.loc[longer, "row"]), runs.index)
    left_out = has_longer.groupby(runs["epochs"]).transform("all").astype("bool")
    return part(runs, ~left_out) if left_out.any() else runs


def reported(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the trials that the tables and figures of a report show.

    Left out are trials that tuned options (:func:`compared`) and those that a later command trained for more
    epochs (:func:`longest`). Options of edited files are named by version (:func:`by_version`).
    """
    return by_version(longest(compared(runs)))


def about_longest(runs: pd.DataFrame, kept: pd.DataFrame) -> str:
    """Return a sentence about the trials that :func:`longest` left out of `runs`; "" if there are none.

    `kept` are the rows that it returned.
    """
    if kept is runs:
        return ""
    left_out = runs[~runs["trial"].isin(kept["trial"])]
    values = sorted(int(epochs) for epochs in left_out["epochs"].unique())
    longer = sorted(int(epochs) for epochs in kept["epochs"].dropna().unique() if epochs > values[0])
    several = len(left_out) > 1
    return (
        f"{plural(len(left_out), 'trial')} of {' and '.join(map(str, values))} "
        f"{'epoch' if values == [1] else 'epochs'} {'were' if several else 'was'} later trained for "
        f"{' and '.join(map(str, longer))}: only the {'longer ones are' if several else 'longer one is'} "
        "compared."
    )


def where(runs: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows that have these options, e.g. `{"arch": "tanh_128", "seed": "0,1"}`.

    Values are in Hydra's grammar for sweeps: one value, several with commas, `range(3)`, `[64,32]`,
    `glob(he*)` or `null`. A value as :func:`as_text` shows it also works. A network's label may also have all
    its layers: `arch=relu_8_8_8` is `arch=relu_3x8`.

    Raises
    ------
    FnnexpError
        If a column does not exist or is not selectable, a value does not occur in it, or no row matches all.

    Examples
    --------
    >>> trials = pd.DataFrame({"optimizer.lr": [0.1, 0.01, 0.1], "seed": [0, 1, 2]})
    >>> where(trials, {"optimizer.lr": "1e-1", "seed": "range(2)"})
       optimizer.lr  seed
    0           0.1     0
    """
    chosen = pd.Series(True, runs.index)
    results = set(result_columns()) - {CHECKSUM}
    columns = [str(column) for column in runs.columns if column not in results]
    for key, values in wanted.items():
        if key not in columns:
            raise FnnexpError(
                f"{key}={values}: trials have no '{key}' to select by; they have {', '.join(columns)}."
                f"{did_you_mean(key, columns)}"
            )
        chosen &= _having(runs[key], runs[key].map(as_text, na_action=None).astype("str"), values)
    if not chosen.any():
        raise FnnexpError(
            f"No trial has {' '.join(f'{k}={v}' for k, v in wanted.items())}; name fewer options."
        )
    return part(runs, chosen)


@remembered
def once(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each configuration and seed, sorted by :func:`fnnexp.results.frames.in_order`.

    There are several trials of one configuration and seed if, for example, the numerics changed between
    versions. Of these, a finished or diverged trial is preferred, and then the latest. If no rows are left
    out and they are in order, the result is `runs` itself.
    """
    runs = numbered(runs)
    content = [*params_of(runs), *(column for column in ("seed", CHECKSUM, PIECES) if column in runs)]
    if runs["trial"].is_unique and not runs.duplicated(content).any():
        return in_order(runs)
    rank = [column for column in ("started", "trial", "run_id", *METRICS) if column in runs]
    ranked = runs[rank].assign(done=runs["status"].isin(DONE)).sort_values(["done", *rank])
    return in_order(runs.loc[ranked.index].drop_duplicates(content, keep="last"))


def _having(column: pd.Series, shown: pd.Series, requested: str) -> pd.Series:
    """Return which rows of a column have a value that the user asked for, as in `seed=0,1`.

    `requested` is the text after `=`, and `shown` is the column as tables show it. If the text is one of the
    shown values, the rows with this value match. Otherwise it is parsed.
    """
    rows = shown == requested
    if rows.any():
        return rows
    for value in _values(column, shown, requested) or [requested]:
        matches = _same(column, shown, value)
        if not matches.any():
            raise FnnexpError(
                f"{column.name}={_text(value)}: no trial has it; {_known_values(shown, _text(value))}"
            )
        rows |= matches
    return rows


def _values(column: pd.Series, shown: pd.Series, requested: str) -> Sequence[Any]:
    """Parse a text in Hydra's grammar, such as `0,1` or `range(3)`, and return the values.

    A text that does not parse is split at commas if every part is a value of the column as tables show it.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"key={requested}"])
        value = parsed.value()
        if isinstance(value, Glob):
            names = [str(name) for name in column.dropna().unique()]
            if column.name == "arch":
                names += [full for name in names if label_now(full := label_in_full(name)) == name != full]
            return value.filter(names)
        if not parsed.is_sweep_override():
            return [value]
        values = [_unquoted(element) for element in islice(parsed.sweep_iterator(), MOST + 1)]
    except (HydraException, ValueError, RecursionError) as error:
        if set(words := requested.split(",")) <= set(shown):
            return words
        raise FnnexpError(
            f"{column.name}={requested}: not a value or list of values; {_known_values(shown, requested)} "
            f"Write one of them, several with commas, range(3), 'glob(he*)', null or \"'a b'\"."
        ) from error
    if len(values) > MOST:
        raise FnnexpError(
            f"{column.name}={requested}: more than {MOST:,} values; {_known_values(shown, requested)}"
        )
    return values


def _unquoted(value: Any) -> Any:
    """Return a value that Hydra parsed; a quoted string, as in `init='max',he`, becomes a plain string."""
    if isinstance(value, list):
        return [_unquoted(element) for element in value]
    return getattr(value, "text", value)


def _same(column: pd.Series, shown: pd.Series, value: Any) -> pd.Series:
    """Return which rows of a column have this value.

    They have it as text; or in a column of numbers or booleans, as a number or boolean.
    """
    if value is None:
        return column.isna()
    text = str(value)  # frames keep a list such as [64, 32] as text
    if column.name == "arch":
        text = label_now(text)
    same = (shown == text) | (column.notna() & (column.astype("str") == text))
    wanted: bool | float | None = None
    if is_bool_dtype(column):
        wanted = TRUTHS.get(text.lower())
    elif is_numeric_dtype(column):
        wanted = _number(text)
    if wanted is None:
        return same
    return pd.Series([not pd.isna(cell) and cell == wanted for cell in column], column.index)


def _number(text: str) -> float | None:
    """Return the number that a text has: an integer if it is one, else a float; None if it is no number."""
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return None


def _text(value: Any) -> str:
    """Return a value as it is written in a config: `null` for None, `true` for True."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _known_values(shown: pd.Series, requested: str) -> str:
    """Return the end of a message: the values that trials have, and the most similar of them, if any."""
    values = list(dict.fromkeys(shown))
    return f"trials have {', '.join(values)}.{did_you_mean(requested, values)}"
