"""How to reproduce the trials of a report: the commands, the data and the software versions."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import Code, Items, Links, Section, Text
from fnnexp.results import frames
from fnnexp.results.factors import as_text, factors_of
from fnnexp.tracking.run_format import DONE, engine_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fnnexp.reporting.document.blocks import Block

TITLE = "How to reproduce this report"

MOST_COMMANDS = 8
"""The largest number of commands that the report shows."""

VALIDATION = "data.validation"

BY_FILE = (
    Text(
        "To run one trial, save its run's artifact config.yaml as config_of_mine.yaml in a folder, insert as"
        " its first line",
        code="defaults: [config, _self_]",
    ),
    Text("and run", code="fnnexp -cd FOLDER -cn config_of_mine"),
)
"""How to train a trial of which no command is recorded."""

NOT_RECORDED = {"git_commit": "none; it ran outside a git repository"}


def section(
    command: Callable[..., str],
    where: Sequence[str],
    runs: pd.DataFrame,
    files: Sequence[str],
    folder: Path | None = None,
) -> Section:
    """Return the section on how to reproduce the report and its trials.

    Parameters
    ----------
    command
        A function that returns the command of a report on some trials of this experiment, as
        :func:`fnnexp.config.commands.report_command` does.
    where
        The options that select the reported trials.
    runs
        The reported trials.
    files
        The names of the files with the numbers, next to the page.
    folder
        The folder of the page, if not the default.
    """
    return Section(
        TITLE,
        [
            *_training(command, where, runs),
            Text(_data_and_software(runs)),
            Items(ran_with(runs)),
            Text("To write this page and its files again:"),
            Code(command(where, folder=folder)),
            Links("Files with the numbers:", files),
        ],
    )


def _data_and_software(runs: pd.DataFrame) -> str:
    """Return the sentence before the list of data and software: whether results can be bitwise the same."""
    engines = runs["engine"].dropna().map(engine_name).value_counts() if "engine" in runs else pd.Series()
    if len(engines) < 2:
        return "Data and software. On the same kind of processor they give bitwise the same results:"
    counted = " and ".join(f"{count} by {name}" for name, count in engines.items())
    return (
        f"Data and software. The engines differ: {counted}. In an empty store, one engine computes a whole "
        "sweep, so results may agree only up to rounding:"
    )


def _training(command: Callable[..., str], where: Sequence[str], runs: pd.DataFrame) -> list[Block]:
    """Return the part of the page with the commands that train its trials again, and what to know about them.

    Parameters
    ----------
    command
        Writes the command of a report on some of the trials; needed if the data changed between trials.
    where
        The options that selected the trials of the report, as `KEY=VALUE`. If there are any, the commands
        also train the rest of their sweep, and the text says so.
    runs
        The trials of the report.
    """
    if frames.CHECKSUM in factors_of(runs):
        return _data_changed(command, runs)
    by_trial = commands(runs)
    distinct = list(dict.fromkeys(by_trial.dropna()))
    blocks: list[Block] = []
    if distinct:
        verb = "this command trains" if len(distinct) == 1 else "these commands train"
        trials = plural(int(by_trial.notna().sum()), "trial")
        others = " and the rest of their sweep" if where else ""
        sentence = f"In an empty store, {verb} the {trials} of this report{others}, with the same ids."
        blocks.append(Text(f"{sentence} In the present store, finished trials are not trained again."))
        blocks += map(Code, distinct[:MOST_COMMANDS])
    if (more := len(distinct) - MOST_COMMANDS) > 0:
        blocks.append(Text(f"{plural(more, 'more command')} trained the rest."))
    if without := int(by_trial.isna().sum()):
        blocks += [Text(f"No command is recorded for {plural(without, 'trial')}."), *BY_FILE]
    return blocks


def _data_changed(command: Callable[..., str], runs: pd.DataFrame) -> list[Block]:
    checksum = as_text(runs[frames.CHECKSUM].dropna().iloc[0])
    report = command([f"{frames.CHECKSUM}={checksum}"])
    return [
        Text(
            "The data file changed between these trials, so no command trains all of them again. A report on"
            " the trials with one version of the data has a command that trains them where that version is"
            " available. For example:"
        ),
        Code(report),
    ]


def commands(runs: pd.DataFrame) -> pd.Series:
    """Return the command that trained each trial, missing if no valid command is recorded.

    Early versions of fnnexp held out no validation rows by default. So commands from these versions now need
    `data.validation=0`, except commands with presets, because presets set it.
    """
    trials = runs.drop_duplicates("trial")
    recorded = trials["command"] if "command" in trials else pd.Series(None, trials.index, dtype="object")
    texts = {command: _quoted(command) for command in recorded.dropna().unique()}
    quoted = recorded.map(texts)
    if VALIDATION not in trials:
        return quoted
    none_held_out = (trials[VALIDATION] == 0).fillna(False)
    if "experiment" in trials:
        none_held_out &= trials["experiment"].isna()
    with_none = {text: _with_no_validation(text) for text in quoted.dropna().unique()}
    return quoted.mask(none_held_out, quoted.map(with_none))


def _with_no_validation(command: str) -> str:
    return command if VALIDATION in command else f"{command} {VALIDATION}=0"


def _quoted(command: str) -> str | None:
    """Return a recorded command with its words quoted for a shell, because a store can contain any text.

    Return None if the text is not a command of fnnexp.

    >>> _quoted("fnnexp -m init=max,he"), _quoted("fnnexp a; reboot"), _quoted("reboot")
    ('fnnexp -m init=max,he', "fnnexp 'a;' reboot", None)
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    return shlex.join(words) if words[:1] == ["fnnexp"] and command.isprintable() else None


def ran_with(runs: pd.DataFrame) -> list[str]:
    """Return the data, commit, versions, BLAS, engine and date of the trials, with counts if they differ."""
    names = {
        "data_checksum": "data (SHA-256)", "git_commit": "commit", "versions": "versions",
        "blas": "BLAS and its kernel", "engine": "engine",
    }  # fmt: skip
    facts = []
    for column, name in names.items():
        if column not in runs:
            continue
        rows = runs
        if column == "engine" and "status" in runs and (ended := runs["status"].isin(DONE)).any():
            rows = runs[ended]  # a run records its engine's version when it ends; until then only the name
        counts = rows[column].dropna().value_counts()
        values = [
            str(value) if len(counts) == 1 else f"{value} ({plural(n, 'trial')})"
            for value, n in counts.items()
        ]
        facts.append(f"{name}: {'; '.join(values) or NOT_RECORDED.get(column, 'not recorded')}")
    return [*facts, *_when(runs)]


def _when(runs: pd.DataFrame) -> list[str]:
    """Return the date on which the trials started, or the first and the last date (UTC)."""
    if "started" not in runs or runs["started"].isna().all():
        return []
    first, last = (f"{day:%Y-%m-%d}" for day in (runs["started"].min(), runs["started"].max()))
    return [f"date: {first}" if first == last else f"dates: {first} to {last}"]
