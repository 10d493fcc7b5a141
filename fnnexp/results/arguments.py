"""Validate DataFrame arguments and suggest the right call."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pandas as pd

from fnnexp.errors import FnnexpError
from fnnexp.tracking.run_format import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

NEEDED = {
    "runs": (
        "trial", "status", "arch", "init", "batching", "seed", *METRICS, "identical_to", "seconds_per_epoch",
    ),
    "curves": ("trial", "epoch", "metric", "value"),
}  # fmt: skip
"""The columns that a frame must have, by the name of the parameter and of the function that makes it."""


def takes_frames(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to raise when its `runs` or `curves` is not such a frame.

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
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # too few or too many: Python says it best
            return function(*args, **kwargs)
        for name in frames:
            if wrong := _wrong(given[name], NEEDED[name]):
                experiment = given[name] if isinstance(given[name], str) else "demo"
                calls = ", ".join(f'fnnexp.{each}("{experiment}")' for each in frames)
                raise FnnexpError(
                    f"{function.__name__} takes as {name} the frame of fnnexp.{name} or some of its rows, "
                    f"and not {wrong}; write fnnexp.{function.__name__}({calls})"
                )
        return function(*args, **kwargs)

    return checked


def _wrong(given: Any, needed: tuple[str, ...]) -> str:
    """Return what was given instead of a frame with these columns; empty if it is one."""
    kind = type(given).__name__
    if not isinstance(given, pd.DataFrame):
        return f"{given!r} ({kind})" if isinstance(given, str | int | float) else f"what is a {kind}"
    missing = [column for column in needed if column not in given.columns]
    return f"one without {', '.join(missing)}" if missing else ""
