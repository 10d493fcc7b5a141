"""Run sweeps from Python, through the same code as the command line, and return their data frame."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnnexp import console as notebook
from fnnexp.config.commands import Command, quoted
from fnnexp.config.compose import Sweep, compose
from fnnexp.config.execution import AUTO
from fnnexp.config.jobs import number_type
from fnnexp.config.schema import LISTS, LISTS_OR_VALUES, OF_GRIDS, WHOLE, Config
from fnnexp.console import print_plain
from fnnexp.data import sources
from fnnexp.data.datasets import DATASETS, is_path
from fnnexp.errors import ConfigError, FnnexpError, plural
from fnnexp.tracking import store
from fnnexp.tracking.retry import shown
from fnnexp.tracking.run_format import at_epochs

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

    from fnnexp.config.trial import Trial
    from fnnexp.mapping.arrays import Map
    from fnnexp.mapping.lr.results import RangeTest
    from fnnexp.nn.layer_stats import Level
    from fnnexp.reporting.data_set.shown import DataSet
    from fnnexp.sweeping.loop import Outcome
    from fnnexp.sweeping.search.rounds import Rounds

TOP_LEVEL_KEYS = frozenset(field.name for field in fields(Config)) | {"experiment"}

LONGEST_LIST = 100
"""A Python range with more values than this is written for Hydra as ``range(…)`` and not as a list."""

MOST_VALUES = 1_000_000
"""The most values that a key may be given as a list or another iterable; a range may have more."""

GRAMMAR = re.compile(r"(tag|interval|range|choice|glob|shuffle|sort|int|float)\(.*\)", re.DOTALL)
"""A call in Hydra's grammar, such as `range(5)`."""

INTERRUPTED = "interrupted, and what was trained is saved; run the same sweep again to resume"


class TrialsFailedError(FnnexpError):
    """Raised after a sweep in which trials failed."""

    exit_status = 1


class InterruptedSweepError(FnnexpError):
    """Raised after Ctrl-C stopped a sweep. What was trained is saved."""

    exit_status = 130


def sweep(
    grid: str | None = None,
    /,
    *overrides: str,
    config_dir: str | Path | None = None,
    pieces: str | Path | Sequence[str | Path] = (),
    **choices: Any,
) -> DataFrame:
    """Run a sweep with a progress bar and return its trials: `sweep("card_grid", epochs=2, seed=range(5))`.

    As on the command line, finished trials are not run again, interrupted trials resume, and MLflow stores
    curves and weights. A trial that fails is printed, gets the status `failed`, and does
    not stop the others.

    Parameters
    ----------
    grid
        The name of a grid, as after `-cn`; None runs one trial with the defaults.
    overrides
        Overrides in Hydra's grammar, as on the command line: `"optimizer.lr=0.1,0.01"`. An interval that a
        search draws from is such an override: `"optimizer.lr=tag(log,interval(1e-4,1))"`.
    config_dir
        A folder with your own configs, as after `-cd`.
    pieces
        A file with your own pieces, as after `--pieces`, or a list of files; see :mod:`fnnexp.pieces`.
    choices
        Values by key. A list, tuple, range or array is swept over: `init=["max", "he"]`. Pass a key with a
        dot as `**{"optimizer.lr": 0.1}`, and widths as a list of lists: `**{"arch.hidden": [[64, 32], [9]]}`.
        `**{"arch.activation": ["relu", "tanh"]}` sweeps over two names. `[["relu", "tanh"], "gelu"]` sweeps
        over two values too: a list with a name for each layer, and one name for all layers. `zip` and `where`
        are not swept over: `zip=[["init", "optimizer.lr"]]` sweeps over these keys together, and
        `where="init=he -> epochs=5"`, or a list of such sentences, leaves out the other combinations.

    Returns
    -------
    DataFrame
        One row for each trial of this sweep, with the columns of :func:`fnnexp.runs`.

    Raises
    ------
    FnnexpError
        If an input is bad, before anything trains. Also after Ctrl-C (in a notebook: Interrupt); then what
        was trained is saved, and the same call resumes.
    """
    from fnnexp.results import filters, frames

    command = _command(grid, overrides, config_dir, pieces, choices)
    console, began = new_console(), time.monotonic()
    with composed(command, console, may_be_dry=False) as requested:
        print_notes(requested, console)
        outcome = train(requested, console, began=began)
    for name, reason in outcome.failed:
        print_plain(console, f"{name} failed: {reason}")
    runs = frames.runs(requested.experiment, tracking_uri=requested.tracking_uri)
    return filters.part(runs, runs["trial"].isin(outcome.ids))


def lr_range(
    grid: str | None = None,
    /,
    *overrides: str,
    config_dir: str | Path | None = None,
    pieces: str | Path | Sequence[str | Path] = (),
    **choices: Any,
) -> RangeTest:
    """Suggest a learning rate for each configuration: `lr_range(init=["he", "max"], data="digits")`.

    This is the range test of Smith (2017): each configuration trains once while its learning rate rises. It
    is kept as one run, and the same call again trains nothing.

    Parameters
    ----------
    grid, overrides, config_dir, pieces, choices
        As for :func:`sweep`, without a learning rate or a schedule. `range="0.001..10"` sets the rates to
        test; otherwise they lie around the default of the optimizer.

    Returns
    -------
    RangeTest
        `to_frame()` has a row for each configuration, `curves()` the losses by learning rate, and
        :func:`plot_lr` draws them.

    Raises
    ------
    FnnexpError
        If an input is bad, before anything trains. Also after Ctrl-C, with what was trained kept.
    """
    test = range_test(_command(grid, overrides, config_dir, pieces, choices), new_console(), may_be_dry=False)
    assert test is not None
    return test


def range_test(command: Command, console: Console, *, may_be_dry: bool = True) -> RangeTest | None:
    """Run a learning-rate range test, print the rates that it suggests, and return it; None for a dry run."""
    from fnnexp.mapping.lr import request

    wanted, began = request.parse(command), time.monotonic()
    with composed(wanted.command, console, may_be_dry=may_be_dry, dry_run_measures=True) as requested:
        from fnnexp.mapping.lr import command as lr  # not at the top: the workers start meanwhile

        print_notes(requested, console)
        return lr.run(wanted, requested, console, since=began)


def map(  # noqa: A001  # fnnexp.map; this module does not use Python's
    *overrides: str,
    config_dir: str | Path | None = None,
    pieces: str | Path | Sequence[str | Path] = (),
    **choices: Any,
) -> Map:
    """Train a trial for each cell of two axes: `map(x="optimizer.lr:1e-3..10:64", y="seed:0..8:8")`.

    The map is kept as one run. Cells that are finished do not train again, so the same call returns the map
    at once, and after Ctrl-C it goes on.

    Parameters
    ----------
    overrides, config_dir, pieces
        As for :func:`sweep`. All cells share the overrides.
    choices
        `x` and `y` are the axes, each `"KEY:LOW..HIGH:N"`, which `:log` or `:linear` may follow. All other
        values are shared by the cells, each one value: `data="digits", epochs=1`. `zoom="32..48,8..24"` is
        the part of the map with these columns and rows, and `finer=4` divides each cell into 4 × 4.

    Returns
    -------
    Map
        As :func:`read_map` returns it: the keys and values of the axes, and the arrays. `to_frame()` makes a
        data frame of it, and :func:`plot_map` draws it.

    Raises
    ------
    FnnexpError
        If an input is bad, before anything trains. Also after Ctrl-C, with the cells that ended kept, and if
        cells failed.
    """
    from fnnexp.mapping import request

    wanted = request.parse(_command(None, overrides, config_dir, pieces, choices))
    if wanted.cell is not None:
        i, j = wanted.cell
        call = wanted.command_of(i, j).pasted()
        raise ConfigError(f"cell={i},{j}: fnnexp.map trains many cells, not one; train this cell by {call}")
    console = new_console()
    with composed(wanted.command, console, may_be_dry=False) as requested:
        from fnnexp.mapping import command  # while the workers start

        print_notes(requested, console)
        trained = command.run(wanted, requested, console)
    assert trained is not None
    return trained


def show_data(
    data: str | Path | None = None,
    /,
    *overrides: str,
    config_dir: str | Path | None = None,
    pieces: str | Path | Sequence[str | Path] = (),
    **choices: Any,
) -> DataSet:
    """Show a data set as a trial would have it: `show_data("my.npz")`, `show_data("digits")`.

    Nothing trains, and no store is made. The rows are divided and scaled as those of a sweep with the same
    overrides.

    Parameters
    ----------
    data
        The path of an `.npz`, of a CSV, or of a folder with IDX files, CSV files or images; or the name of a
        data set, such as `mnist` or `moons`. A file or folder with the name of a data set is `./mnist`.
    overrides, config_dir, pieces, choices
        As for :func:`sweep`, each with one value: `show_data("my.csv", "data.label=species")`, or
        `show_data("my.csv", **{"data.label": "species"})`.

    Returns
    -------
    DataSet
        Printed, it is a text of 80 columns; a notebook shows a table and a picture, which `.figure` has. Its
        attributes are data: `classes`, the number of rows by class and split; `inputs`, the range of each
        input; `X` and `y`, the training rows; `duplicates`; `notes`. See
        :class:`fnnexp.reporting.data_set.shown.DataSet`.

    Raises
    ------
    FnnexpError
        As :func:`sweep` does: if there is no such data, if it cannot be read, or if an override is wrong.

    Examples
    --------
    >>> show_data("digits").classes.sum().to_dict()
    {'train': 1200, 'val': 237, 'test': 360}
    """
    if data is not None and not isinstance(data, str | Path):
        given = type(data).__name__
        raise ConfigError(
            f'show_data shows a data set by its path or name, not a {given}; write show_data("my.npz")'
        )
    command = _command(None, overrides, config_dir, pieces, choices)
    return data_set(None if data is None else str(data), command)


def data_set(data: str | None, command: Command) -> DataSet:
    """Return the data set with a path or a name or, if it is None, that of the command.

    The command's overrides say how its rows are read, divided and scaled.
    """
    from fnnexp.reporting.data_set.shown import show

    first, notes = ([], []) if data is None else _data_words(data)
    try:
        return show(replace(command, overrides=(*first, *command.overrides)), notes)
    except ConfigError as error:
        if first and first == [f"data={data}"] and data not in DATASETS:
            raise ConfigError(f"there is no file or folder '{data}' here; {error}") from error
        raise


def _data_words(data: str) -> tuple[list[str], list[str]]:
    """Return the overrides that choose a data set by its path or name, and notes to print."""
    is_here = sources.place(data).exists()
    if "=" in data and not is_here:
        return [data], []
    if not is_path(data):
        note = f"data={data}: shows the data set of this name; for the file or folder of this name write"
        return [f"data={data}"], [f"{note} ./{data}"] if is_here else []
    return ["data=files", f"data.path={quoted(data)}"], []


def reproduce(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    engine: str = AUTO,
    folder: str | None = None,
    uri: str | None = None,
) -> Path:
    """Train the published experiments as a sweep, write the page that compares them, and return its path.

    Parameters
    ----------
    names
        The names of published experiments; without names, all of them.
    quick
        Whether to use fewer seeds and epochs.
    engine
        The engine for trials that have not finished, or `auto`. Finished trials are not run again.
    folder
        Where to write the page and its files; None is `reports/reproduce`.
    uri
        MLflow's store; None is MLflow's default.

    Raises
    ------
    FnnexpError
        If an input is bad, before anything trains. Also after Ctrl-C, with what was trained saved.
    """
    from fnnexp.reporting.replication import page, presets

    if folder is not None and not folder.strip():
        raise FnnexpError(f"--folder {folder!r}: must be a name; write --folder NAME, or omit it")
    shares = presets.chosen(names, quick=quick)
    target = Path("reports", presets.EXPERIMENT) if folder is None else sources.place(folder)
    console = new_console()
    shared = {"execution.engine": engine, "tracking.experiment": presets.EXPERIMENT}
    shared |= {} if uri is None else {"tracking.uri": uri}
    trials: dict[str, list[Trial]] = {}
    sweeps: dict[Level, Sweep] = {}  # one sweep trains all its trials with diagnostics, or none
    for share in shares:
        words = [f"experiment={share.preset}", override("seed", share.seeds), *share.changed]
        words += [override(key, value) for key, value in shared.items()]
        requested = compose(Command(overrides=tuple(words), multirun=True))
        print_notes(requested, console)
        trials.setdefault(share.name, []).extend(requested.trials)
        others = sweeps.get(requested.execution.diagnostics)
        before = others.trials if others else ()
        sweeps[requested.execution.diagnostics] = replace(requested, trials=before + requested.trials)
    page.make_folder(target)
    options = [] if engine == AUTO else ["--engine", engine]
    options += [] if folder is None else ["--folder", folder]
    full, command = (
        shlex.join(["fnnexp", "reproduce", *dict.fromkeys(names), *length, *options])
        for length in ([], ["--quick"] if quick else [])
    )
    recorded = command + ("" if uri is None else f" --uri {shlex.quote(shown(uri))}")
    failed = [failure for whole in sweeps.values() for failure in train(whole, console, recorded).failed]
    path = page.write(
        trials,
        target,
        console,
        experiment=presets.EXPERIMENT,
        tracking_uri=uri,
        left_out=presets.left_out(shares) if quick else "",
        command=command + store.option(uri),
        full=full + store.option(uri),
    )
    if failed:
        raise TrialsFailedError(f"{plural(len(failed), 'trial')} failed; the page shows the others")
    return path


# Shared by the command line and Python


def new_console() -> Console:
    """Return a console on the terminal; in a notebook or a file it writes plain lines.

    In a notebook, rich would show each line as a separate display, with the colours that Jupyter requests.
    """
    plain: dict[str, Any] = (
        {"force_jupyter": False, "force_terminal": False} if notebook.in_notebook() else {}
    )
    return notebook.terminal(width=None if sys.stdout and sys.stdout.isatty() else 120, **plain)


@contextmanager
def composed(
    command: Command, console: Console, *, may_be_dry: bool = True, dry_run_measures: bool = False
) -> Iterator[Sweep]:
    """Yield the sweep of a command, and start the workers while it is composed.

    They end if composing fails. In a dry run, workers start only with `dry_run_measures`, to measure how
    fast they train.
    """
    with ExitStack() as stack:

        def start_workers(config: Config, jobs: int) -> None:
            if config.dry_run and not may_be_dry:
                raise ConfigError(
                    "dry_run=true works on the command line only; add it to the command in a shell, or omit "
                    "it here"
                )
            from fnnexp.sweeping.executor import cores_here, workers_starting

            cores_here()
            measures = config.dry_run and dry_run_measures
            if measures or (jobs > 1 and not config.dry_run):
                stack.enter_context(workers_starting(config.execution))

        with notebook.while_doing("preparing the trials and the data", console) as tell:
            requested = compose(command, start_workers, tell)
        yield requested


def print_notes(requested: Sweep, console: Console) -> None:
    """Print the notes of a sweep, and the addresses in its files, before it trains or connects anywhere."""
    for line in [*requested.notes, *_addresses_in_files(requested)]:
        print_plain(console, line)


def _addresses_in_files(requested: Sweep) -> Iterator[str]:
    """Yield a note for each address of a store or a cluster that a config file sets."""
    if "tracking.uri" in requested.named_by_files:
        yield f"a config file sets where results go: tracking.uri={shown(str(requested.tracking_uri))}"
    if "execution.address" in requested.named_by_files:
        yield f"a config file sets the cluster: execution.address={requested.execution.address}"


def train(
    requested: Sweep,
    console: Console,
    command: str | None = None,
    began: float | None = None,
) -> Outcome:
    """Train the trials of a sweep that have not finished, print a summary, and return the outcome.

    Parameters
    ----------
    requested
        The composed sweep.
    console
        Where to print.
    command
        The shell command that repeats the sweep; None means the command in `requested`.
    began
        When the command began, by ``time.monotonic``; None means now. The time of a budget counts from there.

    Raises
    ------
    FnnexpError
        If another sweep is training all the remaining trials.
    InterruptedSweepError
        After Ctrl-C.
    """
    from fnnexp.config.resolve import ParamsOfTrials
    from fnnexp.sweeping.loop import run
    from fnnexp.sweeping.search.budgets import Purse, by_seed
    from fnnexp.sweeping.terminal.dry_run import print_identical
    from fnnexp.tracking.experiment import About
    from fnnexp.tracking.writer import Tracker

    trials = requested.trials
    print_identical(trials, console)
    store_option = store.option(requested.tracking_uri)
    command = command or _without_password(requested.command)
    about = About(requested.experiment, ParamsOfTrials(trials), command, store_option)
    tracker = Tracker(requested.experiment, requested.tracking_uri, about)
    purse = Purse(requested.budget, time.monotonic() if began is None else began)
    purse.refuse_too_little(trials, requested.search.min_epochs)

    def train_now(chosen: Sequence[Trial], is_later: bool = False, upto: int | None = None) -> Outcome:
        return run(
            chosen,
            tracker,
            requested.execution,
            console,
            deadline=purse.deadline,
            keep_order=requested.budget is not None,
            quiet=is_later,
            upto=upto,
        )

    if (search := _search_of(requested)) is not None:
        rounds = search(requested, train_now, tracker, purse, console)
        outcome = rounds.run()
        trials = tuple(rounds.trials)
        if len(trials) > len(requested.trials) and not outcome.interrupted:
            tracker.describe_again(ParamsOfTrials(trials))
    elif requested.budget is not None:
        payable = purse.take(by_seed(trials))
        outcome = train_now(payable)
        outcome.not_run += len(trials) - len(payable)
    else:
        outcome = train_now(trials)
    outcome.page, outcome.ids = tracker.page, [trial.id for trial in trials]
    wanted = len(trials) + (outcome.not_run if requested.drawn is not None else 0)
    print_plain(console, _summary(outcome, wanted))
    if line := _about_budget(outcome, requested, wanted):
        print_plain(console, line)
    if outcome.elsewhere and len(outcome.elsewhere) + outcome.done_before == len(trials):
        raise FnnexpError(
            f"another sweep ({outcome.elsewhere[0][1]}) is training {len(outcome.elsewhere)} of these trials "
            "in this experiment, and there is nothing else to do; wait until it ends, or write "
            "tracking.experiment=NAME to use another experiment"
        )
    if outcome.interrupted:
        ended = outcome.ended + len(outcome.elsewhere) == len(trials)
        in_rounds = requested.until.name or requested.drawn is not None or requested.tuned is not None
        is_complete = ended and not in_rounds  # else only a round has ended
        raise InterruptedSweepError("interrupted, but no trial was left" if is_complete else INTERRUPTED)
    return outcome


def _search_of(requested: Sweep) -> type[Rounds] | None:
    """Return the class that runs a sweep in rounds, if the results decide which trials train next; else None.

    Only the module of this class is imported: statistics and pandas take a third of a second.
    """
    if requested.until.name is not None:
        from fnnexp.sweeping.search.settled import Settling

        return Settling
    if requested.tuned is not None:
        from fnnexp.sweeping.search.tuning import Tuning

        return Tuning
    if requested.drawn is not None:
        from fnnexp.sweeping.search.tpe import Asking

        return Asking
    if requested.search.name == "halving":
        from fnnexp.sweeping.search.halving import Halving

        return Halving
    return None


def _without_password(command: Command) -> str:
    """Return a command for a shell, without the user and password in the address of its store."""
    words = [shown(word) if word.lstrip("+").startswith("tracking") else word for word in command.overrides]
    return str(replace(command, overrides=tuple(words)))


def _summary(outcome: Outcome, trials: int) -> str:
    """Return a sentence on how many trials finished, diverged or failed and, after a stop, are left."""
    parts = [f"{plural(len(outcome.finished), 'trial')} finished"]
    if early := [epoch for _, epoch in outcome.stopped_early]:
        parts[0] += f" ({len(early)} stopped early, {at_epochs(early)})"
    if outcome.elsewhere:
        verb = "is" if len(outcome.elsewhere) == 1 else "are"
        parts.append(f"{len(outcome.elsewhere)} {verb} left to another sweep ({outcome.elsewhere[0][1]})")
    if outcome.pruned:
        parts.append(f"{len(outcome.pruned)} pruned ({at_epochs([epoch for _, epoch in outcome.pruned])})")
    if outcome.diverged:
        parts.append(f"{len(outcome.diverged)} diverged")
    if outcome.failed:
        parts.append(f"{len(outcome.failed)} failed")
    if outcome.too_good:
        parts.append(f"{len(outcome.too_good)} had a test accuracy of 1.0 at the first epoch")
    ends = [f"{', '.join(parts)} in {outcome.seconds:.1f} s"]
    if before := outcome.done_before:
        ends.append(f"{before} {'was' if before == 1 else 'were'} done before{_by_engines(outcome)}")
    left = trials - outcome.not_run - outcome.ended - len(outcome.elsewhere)
    if (outcome.interrupted or outcome.stopped) and left > 0:
        ends.append(f"{left} of {trials} {'is' if left == 1 else 'are'} not finished")
    return "; ".join(ends)


def _by_engines(outcome: Outcome) -> str:
    """Return the end of a sentence: how many of the trials done before were computed by other engines."""
    others = outcome.by_other_engines
    if len(others) == 1 and others.total() == outcome.done_before:
        return f", with {next(iter(others))}"
    return "".join(f", {count} of them with {name}" for name, count in others.items())


def _about_budget(outcome: Outcome, requested: Sweep, trials: int) -> str | None:
    """Return a note on how many trials a budget left untrained, and how to train them; None if none."""
    if requested.budget is None or outcome.interrupted:
        return None
    text = f"budget={requested.budget.text} is used up"
    if requested.budget.seconds is None:
        more = (
            f"{plural(outcome.not_run, 'trial')} of the sweep {'is' if outcome.not_run == 1 else 'are'} left"
        )
        return f"{text}: {more}; the same command with a larger budget goes on" if outcome.not_run else None
    left = outcome.not_run
    if outcome.out_of_time:
        left += max(trials - outcome.not_run - outcome.ended - len(outcome.elsewhere), 0)
    verb = "is" if left == 1 else "are"
    return f"{text}: {plural(left, 'trial')} {verb} not finished; the same command goes on" if left else None


def refuse_failures(outcome: Outcome, trials: int) -> None:
    """Raise TrialsFailedError, with the name and reason of each failed trial, if any trial failed."""
    if not outcome.failed:
        return
    stopped = ", and execution.fail_fast=true stopped the sweep" if outcome.stopped else ""
    reasons = "\n".join(f"  {name}: {reason}" for name, reason in outcome.failed)
    raise TrialsFailedError(f"{len(outcome.failed)} of {plural(trials, 'trial')} failed{stopped}:\n{reasons}")


# Python values in Hydra's grammar


def _command(
    grid: str | None,
    overrides: Sequence[str],
    config_dir: str | Path | None,
    pieces: str | Path | Sequence[str | Path],
    choices: dict[str, Any],
) -> Command:
    """Return the command of a call from Python, as if it had been typed in a shell."""
    _require_strings(grid, overrides)
    first_word = [grid] if grid is not None and "=" in grid else []
    words = [*first_word, *overrides, *(override(*_checked_depth(*choice)) for choice in choices.items())]
    name = "config" if grid is None or first_word else grid
    folder = None if config_dir is None else _folder(config_dir)
    files = [pieces] if isinstance(pieces, str | Path) else pieces
    paths = tuple(str(file) for file in files)
    return Command(name, tuple(words), folder, multirun=True, pieces=paths, is_call=True)


def _require_strings(grid: Any, overrides: Sequence[Any]) -> None:
    if grid is not None and not isinstance(grid, str):
        raise ConfigError(f'sweep({grid!r}): the grid must be a string; write sweep("card_grid")')
    for override in overrides:
        if not isinstance(override, str):
            raise ConfigError(
                f'sweep(…, {override!r}): an override must be a string; write "seed=3" or seed=3'
            )


def _checked_depth(key: str, value: Any) -> tuple[str, Any]:
    """Return a key with its value or values; raise if lists are nested too deep for the key, or not enough.

    Values of `arch.hidden`, itself a list, must all be lists, and so must several values of `data.drop`.
    Values of `arch.activation` may be lists; those of most other keys must not be. These checks are made here
    because the command line's messages advise in its own syntax, which does not help in Python.
    """
    if isinstance(value, range) and key not in WHOLE | LISTS:
        return key, value
    values = _listed(key, value) if _has_values(value) else None
    if key == "zip" and values and not all(_has_values(group) for group in values):
        groups = [values] if len(values) > 1 else [["init", "optimizer.lr"]]
        raise ConfigError(f"zip={value!r}: must be a list of lists of keys; write zip={groups}")
    are_lists = [_has_values(element) for element in values or ()]
    if key in WHOLE:
        return key, [values] if values is not None else value
    several_columns = key == "data.drop" and len(are_lists) > 1 and not any(are_lists)
    if several_columns or (key in LISTS and values != [] and not (are_lists and all(are_lists))):
        example = [64, 32] if values is None or any(are_lists) else values
        raise ConfigError(
            f"{key}={value!r}: must be a list of lists, because the outer list is swept over; write "
            f'**{{"{key}": [{example}]}}'
        )
    if isinstance(value, str) and GRAMMAR.fullmatch(value) and number_type(key) is not None:
        raise ConfigError(
            f"{key}={value!r}: the value of a keyword argument is not read as Hydra's grammar; write the "
            f'override as a string before the keyword arguments, as in fnnexp.sweep("{key}={value}", …)'
        )
    if (
        key not in (*LISTS, *LISTS_OR_VALUES, "zip")
        and key.split(".")[0] in TOP_LEVEL_KEYS
        and any(are_lists)
    ):
        raise ConfigError(
            f"{key}={value!r}: must be one value, or one list of values to sweep over; remove the inner "
            "brackets"
        )
    return key, value if values is None else values


def _listed(key: str, values: Iterable[Any]) -> list[Any]:
    """Return the values of a key as a list; raise if they are too many, as from an endless iterator."""
    listed = list(islice(values, MOST_VALUES + 1))
    if len(listed) > MOST_VALUES:
        raise ConfigError(
            f"{key}: this {type(values).__name__} has more than {MOST_VALUES:,} values; write fewer, or a "
            f"range, as in {key}=range(1000)"
        )
    return listed


def _has_values(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict))


def override(key: str, value: Any) -> str:
    """Return an override in Hydra's grammar; a list, tuple, range or array contains values to sweep over.

    >>> override("init", ["max", "he"]), override("seed", range(3)), override("data.path", "a b.npz")
    ('init=max,he', 'seed=0,1,2', "data.path='a b.npz'")
    >>> override("arch.hidden", [[64, 32], [10]]), override("seed", range(0, 100_000, 2))
    ('arch.hidden=[64,32],[10]', 'seed=range(0,100000,2)')
    >>> override("zip", [["init", "optimizer.lr"]]), override("where", "init=he -> epochs=5")
    ('zip=[[init,optimizer.lr]]', 'where=init=he -> epochs=5')
    """
    if key in OF_GRIDS:
        # The text of `where` gets its quotes from compose, not here: printed commands are then easy to read.
        return f"{key}={value if isinstance(value, str) else _text(key, _as_lists(value))}"
    if isinstance(value, dict):
        example = ", ".join(f'"{key}.{name}": {inner!r}' for name, inner in value.items())
        raise ConfigError(f"{key}={value!r}: a dict is not a value; write **{{{example}}}")
    if isinstance(value, range) and len(value) > LONGEST_LIST:
        step = "" if value.step == 1 else f",{value.step}"
        return f"{key}=range({value.start},{value.stop}{step})"
    if _has_values(value):
        values = _listed(key, value)
        if not values:
            raise ConfigError(f"{key}={value!r}: has no values; write at least one value")
        return f"{key}={','.join(_text(key, element) for element in values)}"
    return f"{key}={_text(key, value)}"


def _as_lists(value: Any) -> Any:
    """Return a value with every iterable in it, such as a tuple or an array, turned into a list."""
    return [_as_lists(element) for element in value] if _has_values(value) else value


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return str(bool(value)).lower()
    if value is None:
        return "null"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if key == "where" and isinstance(value, str) and not set('"\\') & set(value):
        return f'"{value}"'
    if isinstance(value, (str, Path)):
        return quoted(str(value))
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_text(key, element) for element in value)}]"
    raise ConfigError(
        f"{key}={value!r}: must be a number, a string, True or False, None, or a list of them to sweep over"
    )


def _folder(folder: Any) -> Path:
    if not isinstance(folder, (str, Path)):
        raise ConfigError(f'config_dir={folder!r}: must be a string or a Path; write config_dir="my_configs"')
    path = sources.place(folder).absolute()
    if not path.is_dir():
        raise ConfigError(
            f"config_dir={str(folder)!r}: this folder does not exist; write the path of an existing folder"
        )
    return path
