"""A sweep from Python: the same path as the command line's, and its frame."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fnnexp import app
from fnnexp import console as notebook
from fnnexp.config.schema import LISTS, Config, quoted
from fnnexp.errors import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame

_TOP = frozenset(field.name for field in fields(Config)) | {"experiment"}

AGAIN = "interrupted, and what was trained is saved; make the same call again and it goes on where it was"


def sweep(
    grid: str | None = None, /, *overrides: str, config_dir: str | Path | None = None, **choices: Any
) -> DataFrame:
    """Run a sweep, with a progress bar, and return its trials: `sweep("card_grid", epochs=2, seed=range(5))`.

    It is the command line's sweep: what is finished is not run again, what was interrupted goes on, curves
    and weights are in MLflow. A trial that fails is told, costs no other, and has the status `failed`.

    Parameters
    ----------
    grid
        A grid's name, as after `-cn`; without it there is one trial with the defaults.
    overrides
        In Hydra's grammar, as on the command line: `"optimizer.lr=0.1,0.01"`.
    config_dir
        A folder of configs of your own, as after `-cd`.
    choices
        Values by key; a list, tuple, range or array is swept over: `init=["max", "he"]`. A key with a dot
        goes into `**{"optimizer.lr": 0.1}`; widths are lists in a list: `**{"arch.hidden": [[64, 32], [9]]}`.

    Returns
    -------
    DataFrame
        One row a trial of this sweep; its columns are those of :func:`fnnexp.runs`.

    Raises
    ------
    FnnexpError
        Before anything trains, when an input is bad; after Ctrl-C (in a notebook: Interrupt), with what was
        trained saved: the same call goes on.
    """
    from fnnexp.results import frames

    _refuse_others_than_texts(grid, overrides)
    first_word = [grid] if grid is not None and "=" in grid else []
    if first_word:
        grid = None
    words = [*first_word, *overrides, *(override(*_one_level(*choice)) for choice in choices.items())]
    name = "config" if grid is None else grid
    jobs = app.jobs_of(name, words, None if config_dir is None else _folder(config_dir))
    first = app.alike(jobs)
    if first.dry_run:
        raise ConfigError(
            "dry_run=true shows on the command line what would run: fnnexp dry_run=true …; leave it out here"
        )
    experiment = app.experiment_name(jobs, name)
    # A notebook takes plain lines: rich would make a display of each, and Jupyter asks for colours.
    plain: dict[str, Any] = {"force_jupyter": False, "force_terminal": False} if notebook.is_here() else {}
    console = Console(width=None if sys.stdout.isatty() else 120, **plain)
    trials = app.trials_of(jobs, console)
    try:
        outcome = app.sweep(trials, experiment, first, console)
    except app.InterruptedSweepError as error:
        raise app.InterruptedSweepError(AGAIN) from error
    for failed, reason in outcome.failed:
        console.print(f"{failed} failed: {reason}", markup=False, highlight=False, soft_wrap=True)
    runs = frames.runs(experiment, tracking_uri=first.tracking.uri)
    return frames.part(runs, runs["trial"].isin([trial.id for trial in trials]))


def _refuse_others_than_texts(grid: Any, overrides: Sequence[Any]) -> None:
    if grid is not None and not isinstance(grid, str):
        raise ConfigError(f'sweep({grid!r}): a grid is named by a string; write sweep("card_grid")')
    for given in overrides:
        if not isinstance(given, str):
            raise ConfigError(f'sweep(…, {given!r}): an override is a string; write "seed=3" or seed=3')


def _one_level(key: str, value: Any) -> tuple[str, Any]:
    """Return a choice whose values are no lists, or all are lists where the key's value is one.

    A list is swept over in Python, so what the command line's messages say to write would be no help here.
    """
    values = list(value) if _has_values(value) else None
    lists = [_has_values(each) for each in values or ()]
    if key in LISTS and values != [] and not (lists and all(lists)):
        one = [64, 32] if values is None or any(lists) else values
        raise ConfigError(
            f"{key}={value!r}: must be a list of lists, for one list is swept over; write "
            f'**{{"{key}": [{one}]}}'
        )
    if key not in LISTS and key.split(".")[0] in _TOP and any(lists):
        raise ConfigError(
            f"{key}={value!r}: must be one value, or one list of values to sweep over; write it without the "
            "inner brackets"
        )
    return key, value if values is None else values


def _has_values(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict))


def override(key: str, value: Any) -> str:
    """Return a choice in Hydra's grammar; a list, tuple, range or array is a list of values to sweep over.

    >>> override("init", ["max", "he"]), override("seed", range(3)), override("data.path", "a b.npz")
    ('init=max,he', 'seed=0,1,2', "data.path='a b.npz'")
    >>> override("arch.hidden", [[64, 32], [10]]), override("batching.shuffle", False)
    ('arch.hidden=[64,32],[10]', 'batching.shuffle=false')
    """
    if _has_values(value):
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
        return quoted(str(value))
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_text(key, each) for each in value)}]"
    raise ConfigError(
        f"{key}={value!r}: must be a number, a string, True or False, None, or a list of them to sweep over"
    )


def _folder(folder: str | Path) -> Path:
    there = Path(folder).absolute()
    if not there.is_dir():
        raise ConfigError(f"config_dir={str(folder)!r}: there is no such folder")
    return there
