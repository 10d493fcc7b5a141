"""Sweeps from Python: the same path as the command line's, and its frame."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnnexp import console as notebook
from fnnexp.config.commands import Command, quoted
from fnnexp.config.compose import Sweep, compose
from fnnexp.config.execution import Execution
from fnnexp.config.schema import LISTS, Config
from fnnexp.data import sources
from fnnexp.errors import ConfigError, FnnexpError
from fnnexp.tracking import store
from fnnexp.tracking.retry import shown

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

    from fnnexp.config.trial import Trial
    from fnnexp.sweeping.loop import Outcome

_TOP = frozenset(field.name for field in fields(Config)) | {"experiment"}

AGAIN = "interrupted, and what was trained is saved; make the same call again and it goes on where it was"


class TrialsFailedError(FnnexpError):
    """Some trials failed; the others are done."""

    exit_status = 1


class InterruptedSweepError(FnnexpError):
    """Ctrl-C: what was trained is saved."""

    exit_status = 130


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
    from fnnexp.results import filters, frames

    _refuse_others_than_texts(grid, overrides)
    first_word = [grid] if grid is not None and "=" in grid else []
    words = [*first_word, *overrides, *(override(*_one_level(*choice)) for choice in choices.items())]
    name = "config" if grid is None or first_word else grid
    command = Command(name, tuple(words), None if config_dir is None else _folder(config_dir), multirun=True)
    console = new_console()
    with composed(command, may_be_dry=False) as asked:
        print_notes(asked, console)
        try:
            outcome = train(asked, console)
        except InterruptedSweepError as error:
            raise InterruptedSweepError(AGAIN) from error
    for failed, reason in outcome.failed:
        console.print(f"{failed} failed: {reason}", markup=False, highlight=False, soft_wrap=True)
    runs = frames.runs(asked.experiment, tracking_uri=asked.tracking_uri)
    return filters.part(runs, runs["trial"].isin([trial.id for trial in asked.trials]))


def reproduce(
    *, quick: bool = False, engine: str = "numpy", folder: str | None = None, uri: str | None = None
) -> Path:
    """Train what is not done of the published experiments as one sweep, and write the page; return its path.

    Parameters
    ----------
    quick
        Whether fewer seeds and epochs will do.
    engine
        Which engine computes what is not done; what is done stays as it is.
    folder
        Where the page and its files go; None is `reports/reproduce`.
    uri
        MLflow's store; None is its default.

    Raises
    ------
    FnnexpError
        Before anything trains, when an input is bad; after Ctrl-C, with what was trained saved.
    """
    from fnnexp.reporting.replication import page, presets

    if folder is not None and not folder.strip():
        raise FnnexpError(f"--folder {folder!r}: is no name; write --folder NAME, or leave it out")
    place = Path("reports", presets.EXPERIMENT) if folder is None else sources.place(folder)
    console = new_console()
    shared = {"execution.engine": engine, "tracking.experiment": presets.EXPERIMENT}
    shared |= {} if uri is None else {"tracking.uri": uri}
    trials: dict[str, list[Trial]] = {}
    for share in presets.QUICK if quick else presets.FULL:
        words = [f"experiment={share.preset}", override("seed", share.seeds), *share.changed]
        words += [override(key, value) for key, value in shared.items()]
        asked = compose(Command(overrides=tuple(words), multirun=True))
        print_notes(asked, console)
        trials.setdefault(share.preset, []).extend(asked.trials)
    page.make_folder(place)
    how = [] if engine == Execution.engine else ["--engine", engine]
    how += [] if folder is None else ["--folder", folder]
    full, command = (
        shlex.join(["fnnexp", "reproduce", *length, *how]) for length in ([], ["--quick"] if quick else [])
    )
    whole = replace(asked, trials=tuple(trial for group in trials.values() for trial in group))
    outcome = train(whole, console, command + ("" if uri is None else f" --uri {shlex.quote(shown(uri))}"))
    written = page.write(
        trials,
        place,
        console,
        experiment=presets.EXPERIMENT,
        tracking_uri=uri,
        left_out=f"{presets.LEFT_OUT} `{full}{store.option(uri)}` runs all." if quick else "",
        command=command + store.option(uri),
    )
    if outcome.failed:
        raise TrialsFailedError(f"{len(outcome.failed)} trials failed; the page is of the others")
    return written


# What the command line and Python share


def new_console() -> Console:
    """Return a console on the terminal; in a notebook and in a file it writes plain lines.

    rich would make a display of each line in a notebook, and Jupyter asks for colours.
    """
    plain: dict[str, Any] = (
        {"force_jupyter": False, "force_terminal": False} if notebook.in_notebook() else {}
    )
    return notebook.terminal(width=None if sys.stdout and sys.stdout.isatty() else 120, **plain)


@contextmanager
def composed(command: Command, *, may_be_dry: bool = True) -> Iterator[Sweep]:
    """Yield a command's sweep; worker processes start while a grid is composed, and end if that fails."""
    with ExitStack() as stack:

        def begin(config: Config, jobs: int) -> None:
            if config.dry_run and not may_be_dry:
                raise ConfigError(
                    "dry_run=true shows on the command line what would run: fnnexp dry_run=true …; leave it "
                    "out here"
                )
            from fnnexp.sweeping.executor import cores_here, workers_starting

            cores_here()
            if jobs > 1 and not config.dry_run:
                stack.enter_context(workers_starting(config.execution))

        yield compose(command, begin)


def print_notes(asked: Sweep, console: Console) -> None:
    """Print what composing has to say before anything trains, or a place that a file names is reached."""
    for line in [*asked.notes, *_places(asked)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _places(asked: Sweep) -> Iterator[str]:
    """Yield where a sweep goes because a config file says so."""
    if "tracking.uri" in asked.named_by_files:
        yield f"a config file says where results go: tracking.uri={shown(str(asked.tracking_uri))}"
    if "execution.address" in asked.named_by_files:
        yield f"a config file says which cluster trains: execution.address={asked.execution.address}"


def train(
    asked: Sweep,
    console: Console,
    command: str | None = None,
) -> Outcome:
    """Train what is not done of a sweep's trials and print what became of them.

    Parameters
    ----------
    asked
        The composed sweep.
    console
        Where to print.
    command
        What a shell takes to make the sweep again; None is the sweep's own command.

    Raises
    ------
    FnnexpError
        When nothing was left to do but what another sweep is doing; InterruptedSweepError after Ctrl-C.
    """
    from fnnexp.sweeping.dry_run import say_identical
    from fnnexp.sweeping.loop import run
    from fnnexp.tracking.experiment import About
    from fnnexp.tracking.writer import Tracker

    trials = asked.trials
    say_identical(trials, console)
    params = [{key: str(value) for key, value in trial.params.items()} for trial in trials]
    validated = all(trial.recipe.validation for trial in trials)
    named = store.option(asked.tracking_uri)
    about = About(asked.experiment, params, validated, command or _without_password(asked.command), named)
    tracker = Tracker(asked.experiment, asked.tracking_uri, about)
    outcome = run(trials, tracker, asked.execution, console)
    outcome.page = tracker.page
    console.print(_summary(outcome), markup=False, highlight=False)
    if outcome.elsewhere and len(outcome.elsewhere) + outcome.done_before == len(trials):
        raise FnnexpError(
            f"another sweep ({outcome.elsewhere[0][1]}) is training {len(outcome.elsewhere)} of these trials "
            "into this experiment, and nothing else is left to do; wait for it, or write "
            "tracking.experiment=NAME for an experiment of your own"
        )
    if outcome.interrupted:
        raise InterruptedSweepError("interrupted; start the same command again and it goes on where it was")
    return outcome


def _without_password(command: Command) -> str:
    """Return a command as a shell takes it, its store's address without user and password."""
    words = [shown(word) if word.lstrip("+").startswith("tracking") else word for word in command.overrides]
    return str(replace(command, overrides=tuple(words)))


def _summary(outcome: Outcome) -> str:
    parts = [f"{len(outcome.finished)} trials finished"]
    if outcome.done_before:
        parts.append(f"{outcome.done_before} were done before")
    if outcome.elsewhere:
        parts.append(f"{len(outcome.elsewhere)} are left to another sweep ({outcome.elsewhere[0][1]})")
    if outcome.diverged:
        parts.append(f"{len(outcome.diverged)} diverged")
    if outcome.failed:
        parts.append(f"{len(outcome.failed)} failed")
    if outcome.too_good:
        parts.append(f"{len(outcome.too_good)} had a test accuracy of 1.0 at the first epoch")
    return f"{', '.join(parts)} in {outcome.seconds:.1f} s"


def refuse_failures(outcome: Outcome, trials: int) -> None:
    """Raise TrialsFailedError with each failed trial and its reason, if there is one."""
    if not outcome.failed:
        return
    stopped = ", and execution.fail_fast=true stopped the sweep" if outcome.stopped else ""
    listed = "\n".join(f"  {name}: {reason}" for name, reason in outcome.failed)
    raise TrialsFailedError(f"{len(outcome.failed)} of {trials} trials failed{stopped}:\n{listed}")


# Python's values in Hydra's grammar


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


def _folder(folder: Any) -> Path:
    if not isinstance(folder, (str, Path)):
        raise ConfigError(
            f'config_dir={folder!r}: a folder is named by a string; write config_dir="my_configs"'
        )
    there = sources.place(folder).absolute()
    if not there.is_dir():
        raise ConfigError(f"config_dir={str(folder)!r}: there is no such folder")
    return there
