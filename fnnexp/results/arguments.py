"""Validate DataFrame arguments, suggest the right call, and restore the types that columns were made with."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pandas as pd

from fnnexp.config.schema import CHOICES
from fnnexp.errors import FnnexpError
from fnnexp.results.frames import COUNTS, RESULTS, as_options, params_of
from fnnexp.tracking.run_format import BEST, METRICS, STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
R = TypeVar("R")

NEEDED = {
    "runs": (
        "trial", "status", "arch", "init", "batching", "seed", *METRICS, "identical_to", "seconds_per_epoch",
    ),
    "curves": ("trial", "epoch", "metric", "value"),
}  # fmt: skip
"""The columns that a frame must have, by the name of the parameter and of the function that makes it."""


def validate_frames(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to get its `runs` and `curves` :func:`typed`, and to raise when it can't.

    >>> @takes_frames
    ... def count(runs):
    ...     return len(runs)
    >>> count(3)
    Traceback (most recent call last):
    fnnexp.errors.FnnexpError: count takes as runs the frame of fnnexp.runs or some of its rows, and not 3 \
(int); write fnnexp.count(fnnexp.runs("demo"))
    """
    signature = inspect.signature(function)
    frames = [name for name in signature.parameters if name in NEEDED]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # too few or too many: Python says it best
            return function(*args, **kwargs)
        given = bound.arguments
        for name in frames:
            if wrong := _wrong(given[name], NEEDED[name]):
                experiment = given[name] if isinstance(given[name], str) else "demo"
                calls = ", ".join(f'fnnexp.{each}("{experiment}")' for each in frames)
                raise FnnexpError(
                    f"{function.__name__} takes as {name} the frame of fnnexp.{name} or some of its rows, "
                    f"and not {wrong}; write fnnexp.{function.__name__}({calls})"
                )
            given[name] = restore_types(given[name], name)
        return function(*bound.args, **bound.kwargs)

    return checked


def _wrong(given: Any, needed: tuple[str, ...]) -> str:
    """Return what was given instead of a frame with these columns; empty if it is one."""
    kind = type(given).__name__
    if not isinstance(given, pd.DataFrame):
        return f"{given!r} ({kind})" if isinstance(given, str | int | float) else f"what is a {kind}"
    if missing := [column for column in needed if column not in given.columns]:
        return f"one without {', '.join(missing)}"
    twice = given.columns[given.columns.duplicated()].intersection([*RESULTS, *needed, *params_of(given)])
    return f"one with two columns {twice[0]}" if len(twice) else ""


TYPES: dict[str, dict[str, Any]] = {
    "runs": {
        **dict.fromkeys((*RESULTS, *CHOICES), "str"),
        **dict.fromkeys((*METRICS, BEST[0], "seconds_per_epoch", "seconds"), "float64"),
        **dict.fromkeys((BEST[1], "seed", "diverged_epoch", "look", *COUNTS), "Int64"),
    },
    "curves": {"trial": "str", "epoch": "Int64", "metric": "str", "value": "float64"},
}
"""How the columns that every frame has are read; what becomes a category, or a time, is text at first."""


def restore_types(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a frame with the types that it was made with, whatever a file made of them.

    Columns that fnnexp does not know are left as they are.

    Parameters
    ----------
    frame
        Of trials or of curves.
    name
        What the caller calls it, `runs` or `curves`.

    Raises
    ------
    FnnexpError
        When a column holds what it can't, as an accuracy in percent.

    >>> read = pd.DataFrame({"seed": [0.0, None], "init": ["he", "max"], "mine": [1, 2]})
    >>> typed(read, "runs").dtypes.astype("str").to_list()
    ['Int64', 'category', 'int64']
    """
    frame, types, made = frame.reset_index(drop=True), TYPES[name], {}
    params = params_of(frame) if name == "runs" else []
    for column in [*params, *frame.columns.intersection([*types])]:
        wanted = types.get(column)
        try:
            made[column] = _as_made(frame[column], column, wanted)
        except (ValueError, TypeError) as error:
            kind = KINDS.get(column) or KINDS.get(str(wanted), "text")
            raise FnnexpError(f"{name}[{column!r}] must hold {kind}: {error}") from error
    _refuse_percent(pd.DataFrame(made), name)
    return frame.assign(**made)


KINDS = {"Int64": "whole numbers", "float64": "numbers", "started": "times", "status": ", ".join(STATUSES)}
"""What a column, or one of a type, holds, in words."""


def _as_made(column: pd.Series, name: str, wanted: Any) -> pd.Series:
    """Return a column with the type that :func:`fnnexp.runs` or :func:`fnnexp.curves` makes it of."""
    kind = str(column.dtype)
    if kind == "category":
        return column
    if name == "started":
        return pd.to_datetime(column, utc=True, format="ISO8601")
    if kind not in ("str", "boolean", "Int64", "float64") or wanted not in (kind, None):
        column = _read(column, wanted)
    if name == "status" and (unknown := set(column.dropna()).difference(STATUSES)):
        raise ValueError(f"{unknown.pop()!r} is none of them")
    return as_options(column, name) if name in CHOICES else column


def _read(column: pd.Series, wanted: Any) -> pd.Series:
    """Return a column's values with a type; without one, with that of a param which has them."""
    values = [None if pd.isna(value) else value for value in column]
    wanted = wanted or _type_of([value for value in values if value is not None])
    if wanted == "str":
        values = [None if value is None else str(value) for value in values]
    elif wanted != "boolean":
        return pd.to_numeric(pd.Series(values, column.index, "object")).astype(wanted)
    return pd.Series(values, column.index, wanted)


def _type_of(given: Sequence[Any]) -> Any:
    """Return the type of a param's column with these values."""
    for kinds, wanted in (((bool,), "boolean"), ((int,), "Int64"), ((int, float), "float64")):
        if given and all(isinstance(value, kinds) for value in given):
            return wanted
    return "str"


def _refuse_percent(frame: pd.DataFrame, name: str) -> None:
    """Raise when an accuracy is no share of 1: whatever is told of it would be wrong."""
    for metric in (each for each in (*METRICS, BEST[0]) if each.endswith("accuracy")):
        if name == "curves":
            place = f"curves.loc[curves['metric'] == {metric!r}, 'value']"
            values = frame["value"][frame["metric"] == metric]
        else:
            place, values = f"runs[{metric!r}]", frame.get(metric, pd.Series(dtype="float64"))
        wrong = values[(values < 0) | (values > 1)]
        if len(wrong):
            raise FnnexpError(
                f"{metric} is {wrong.iloc[0]:g} in {name}, and an accuracy is a share, from 0 to 1; if it is "
                f"in percent, write {place} /= 100"
            )
