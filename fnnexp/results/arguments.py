"""Validate frames that users pass in, suggest the right call, and restore their columns' types."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pandas as pd

from fnnexp.config.schema import CHOICES
from fnnexp.errors import FnnexpError
from fnnexp.nn.pieces.metrics import required_names
from fnnexp.results.frames import COUNTS, END, as_options, params_of, result_columns
from fnnexp.tracking.run_format import BEST, METRICS, STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
R = TypeVar("R")

NEEDED = {
    "runs": (
        "trial", "status", "arch", "init", "batching", "seed", *required_names(), "identical_to",
        "seconds_per_epoch",
    ),
    "curves": ("trial", "epoch", "metric", "value"),
}  # fmt: skip
"""The columns that a frame must have, by the name of the parameter that gets it: `runs` or `curves`. fnnexp
has a public function of each name, which makes such frames."""


def validate_frames(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to check its arguments `runs` and `curves`, and to restore their column types.

    >>> @validate_frames
    ... def count(runs):
    ...     return len(runs)
    >>> count(3)
    Traceback (most recent call last):
    fnnexp.errors.FnnexpError: count: runs must be the frame that fnnexp.runs returns, or some of its rows, \
not 3 (int); write fnnexp.count(fnnexp.runs("demo"))
    """
    signature = inspect.signature(function)
    frames = [name for name in signature.parameters if name in NEEDED]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # let Python report a wrong number of arguments
            return function(*args, **kwargs)
        arguments = bound.arguments
        for name in frames:
            if problem := _problem(arguments[name], NEEDED[name]):
                experiment = arguments[name] if isinstance(arguments[name], str) else "demo"
                calls = ", ".join(f'fnnexp.{frame}("{experiment}")' for frame in frames)
                raise FnnexpError(
                    f"{function.__name__}: {name} must be the frame that fnnexp.{name} returns, or some of "
                    f"its rows, not {problem}; write fnnexp.{function.__name__}({calls})"
                )
            arguments[name] = restore_types(arguments[name], name)
        return function(*bound.args, **bound.kwargs)

    return checked


def _problem(argument: Any, required: tuple[str, ...]) -> str:
    """Return why an argument is not a frame with the required columns, for a message; "" if it is one."""
    type_name = type(argument).__name__
    if isinstance(argument, Iterator):
        return f"a {type_name}, as fnnexp.curves returns with chunksize; omit chunksize"
    if not isinstance(argument, pd.DataFrame):
        return f"{argument!r} ({type_name})" if isinstance(argument, str | int | float) else f"a {type_name}"
    if missing := [column for column in required if column not in argument.columns]:
        return f"a frame without {', '.join(missing)}"
    duplicated = argument.columns[argument.columns.duplicated()].intersection(
        [*result_columns(), *required, *params_of(argument)]
    )
    return f"a frame with two columns {duplicated[0]}" if len(duplicated) else ""


def column_types(name: str) -> dict[str, Any]:
    """Return the types of the columns of a frame, `runs` or `curves`, except those of params.

    Columns of categories and of times have `str` here, since they are first read as text.
    """
    if name == "curves":
        return {"trial": "str", "epoch": "Int64", "metric": "str", "value": "float64"}
    return {
        **dict.fromkeys((*result_columns(), *CHOICES), "str"),
        **dict.fromkeys((*METRICS, BEST[0], "seconds_per_epoch", "seconds"), "float64"),
        **dict.fromkeys((BEST[1], "seed", *END, "look", *COUNTS, "updates"), "Int64"),
    }


def restore_types(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a frame whose columns have the types that fnnexp gives them, e.g. after reading it from CSV.

    Columns unknown to fnnexp are not changed.

    Parameters
    ----------
    frame
        A frame of runs or of curves.
    name
        `runs` or `curves`.

    Raises
    ------
    FnnexpError
        If a column has invalid values, such as an accuracy in percent.

    Examples
    --------
    >>> read = pd.DataFrame({"seed": [0.0, None], "init": ["he", "max"], "mine": [1, 2]})
    >>> restore_types(read, "runs").dtypes.astype("str").to_list()
    ['Int64', 'category', 'int64']
    """
    frame, types, restored = frame.reset_index(drop=True), column_types(name), {}
    params = params_of(frame) if name == "runs" else []
    for column in [*params, *frame.columns.intersection([*types])]:
        dtype = types.get(column)
        try:
            restored[column] = _restored(frame[column], column, dtype)
        except (ValueError, TypeError) as error:
            expected = CONTENTS.get(column) or CONTENTS.get(str(dtype), "text")
            raise FnnexpError(f"{name}[{column!r}] must contain {expected}: {error}") from error
    _refuse_percent(pd.DataFrame(restored), name)
    return frame.assign(**restored)


CONTENTS = {"Int64": "whole numbers", "float64": "numbers", "started": "times", "status": ", ".join(STATUSES)}
"""What a column must contain, in words, by its name or else by its type."""


def _restored(column: pd.Series, name: str, wanted_dtype: Any) -> pd.Series:
    """Convert the column `name` to the type that it has in :func:`fnnexp.runs` or :func:`fnnexp.curves`.

    `wanted_dtype` is the type from :func:`column_types`; None for a param, whose type depends on its values.
    """
    dtype = str(column.dtype)
    if dtype == "category":
        return column
    if name == "started":
        return pd.to_datetime(column, utc=True, format="ISO8601")
    if dtype not in ("str", "boolean", "Int64", "float64") or wanted_dtype not in (dtype, None):
        column = _converted(column, wanted_dtype)
    if name == "status" and (unknown := set(column.dropna()).difference(STATUSES)):
        raise ValueError(f"{unknown.pop()!r} is not a status")
    return as_options(column, name) if name in CHOICES else column


def _converted(column: pd.Series, dtype: Any) -> pd.Series:
    """Return a column converted to `dtype`. None stands for the type of a param with these values."""
    values = [None if pd.isna(value) else value for value in column]
    dtype = dtype or _param_type([value for value in values if value is not None])
    if dtype == "str":
        values = [None if value is None else str(value) for value in values]
    elif dtype != "boolean":
        return pd.to_numeric(pd.Series(values, column.index, "object")).astype(dtype)
    return pd.Series(values, column.index, dtype)


def _param_type(values: Sequence[Any]) -> Any:
    """Return the type of a param's column, decided by its values: boolean, Int64, float64 or str."""
    for classes, dtype in (((bool,), "boolean"), ((int,), "Int64"), ((int, float), "float64")):
        if values and all(isinstance(value, classes) for value in values):
            return dtype
    return "str"


def _refuse_percent(frame: pd.DataFrame, name: str) -> None:
    """Raise if an accuracy is outside 0 to 1, because comparisons and margins would then be wrong."""
    for metric in (column for column in (*METRICS, BEST[0]) if column.endswith("accuracy")):
        if name == "curves":
            expression = f"curves.loc[curves['metric'] == {metric!r}, 'value']"
            values = frame["value"][frame["metric"] == metric]
        else:
            expression, values = f"runs[{metric!r}]", frame.get(metric, pd.Series(dtype="float64"))
        wrong = values[(values < 0) | (values > 1)]
        if len(wrong):
            raise FnnexpError(
                f"{metric} is {wrong.iloc[0]:g} in {name}, but an accuracy is a fraction from 0 to 1; if it "
                f"is in percent, write {expression} /= 100"
            )
