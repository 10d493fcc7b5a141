"""A sweep from Python: the same path as the command line's, and its frame."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fnnexp import app
from fnnexp.errors import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame

PLAIN = re.compile(r"[A-Za-z_][\w-]*")
"""A string that Hydra reads as itself without quotes, unless it is one of these values."""

VALUES = ("true", "false", "null", "nan", "inf")


def sweep(
    grid: str | None, overrides: Sequence[str], choices: dict[str, Any], config_dir: str | Path | None
) -> DataFrame:
    """Run a sweep and return its trials; see :func:`fnnexp.sweep`."""
    from fnnexp.analysis import frames

    first_word = [grid] if grid is not None and "=" in grid else []
    if first_word:
        grid = None
    words = [*first_word, *overrides, *(override(key, value) for key, value in choices.items())]
    name = "config" if grid is None else grid
    jobs = app.jobs_of(name, words, None if config_dir is None else _folder(config_dir))
    first = app.alike(jobs)
    if first.dry_run:
        raise ConfigError(
            "dry_run=true shows on the command line what would run: fnnexp dry_run=true …; leave it out here"
        )
    experiment = app.experiment_name(jobs, name)
    console = Console(width=None if sys.stdout.isatty() else 120)
    trials = app.trials_of(jobs, console)
    outcome = app.sweep(trials, experiment, first, console)
    for failed, reason in outcome.failed:
        console.print(f"{failed} failed: {reason}", markup=False, highlight=False, soft_wrap=True)
    runs = frames.runs(experiment, tracking_uri=first.tracking.uri)
    return frames.part(runs, runs["trial"].isin([trial.id for trial in trials]))


def override(key: str, value: Any) -> str:
    """Return a choice in Hydra's grammar; a list, tuple, range or array is a list of values to sweep over.

    >>> override("init", ["max", "he"]), override("seed", range(3)), override("data.path", "a b.npz")
    ('init=max,he', 'seed=0,1,2', "data.path='a b.npz'")
    >>> override("arch.hidden", [[64, 32], [10]]), override("batching.shuffle", False)
    ('arch.hidden=[64,32],[10]', 'batching.shuffle=false')
    """
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict)):
        values = list(value)
        if not values:
            raise ConfigError(f"{key}={value!r}: has no values; write one value or more")
        return f"{key}={','.join(_text(key, each) for each in values)}"
    return f"{key}={_text(key, value)}"


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return str(bool(value)).lower()
    if value is None:
        return "null"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, (str, Path)):
        return _quoted(str(value))
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_text(key, each) for each in value)}]"
    raise ConfigError(
        f"{key}={value!r}: must be a number, a string, True or False, None, or a list of them to sweep over"
    )


def _quoted(text: str) -> str:
    if PLAIN.fullmatch(text) and text.lower() not in VALUES:
        return text
    # Hydra's grammar: a backslash escapes a quote, and itself only before one or at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def _folder(folder: str | Path) -> Path:
    there = Path(folder).absolute()
    if not there.is_dir():
        raise ConfigError(f"config_dir={str(folder)!r}: there is no such folder")
    return there
