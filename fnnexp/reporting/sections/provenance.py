"""How to reproduce the trials of a report: the commands that train them, and what they ran with."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.reporting.document.blocks import Code, Items, Links, Section, Text
from fnnexp.reporting.document.wording import plural
from fnnexp.results import frames
from fnnexp.results.factors import as_text, factors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fnnexp.reporting.document.blocks import Block

MOST_COMMANDS = 8
"""As many commands as anyone would paste."""

VALIDATION = "data.validation"

BY_FILE = (
    "One trial alone: put its run's artifact config.yaml into a folder, write `defaults: [config, _self_]` as"
    " its first line, and `fnnexp -cd FOLDER -cn config_of_mine` if it is named config_of_mine.yaml."
)

NOT_RECORDED = {"git_commit": "none, it ran outside a git repository"}


def section(
    command: Callable[..., str],
    where: Sequence[str],
    runs: pd.DataFrame,
    files: Sequence[str],
    folder: Path | None = None,
) -> Section:
    """Return the section of a report.

    Parameters
    ----------
    command
        :func:`fnnexp.config.commands.report_command` of this experiment in its store.
    where
        The options of the part that is reported.
    runs
        Its trials.
    files
        What stands beside its page, with the numbers.
    folder
        Where that is, if not in the usual place.
    """
    return Section(
        "How to reproduce it",
        [
            *_training(command, where, runs),
            Text("It ran with these; the same trials come to the same bits on one kind of processor:"),
            Items(ran_with(runs)),
            Text("This page and its files again:"),
            Code(command(where, folder=folder)),
            Links("The numbers as files:", files),
        ],
    )


def _training(command: Callable[..., str], where: Sequence[str], runs: pd.DataFrame) -> list[Block]:
    """Return the commands that train these trials, and what they train beside them."""
    if frames.CHECKSUM in factors_of(runs):
        return [Text(_data_changed(command, runs))]
    by_trial = commands(runs)
    distinct = list(dict.fromkeys(by_trial.dropna()))
    blocks: list[Block] = []
    if distinct:
        verb = "this trains" if len(distinct) == 1 else "these train"
        trials = plural(int(by_trial.notna().sum()), "trial")
        others = ", and the others of their sweep" if where else ""
        sentence = f"In an empty store {verb} the {trials} of this report{others}, with the same ids;"
        blocks.append(Text(f"{sentence} in this one what is finished is not trained again."))
        blocks += map(Code, distinct[:MOST_COMMANDS])
    if (more := len(distinct) - MOST_COMMANDS) > 0:
        blocks.append(Text(f"{plural(more, 'more command')} trained the others."))
    if without := int(by_trial.isna().sum()):
        blocks.append(Text(f"No command is recorded of {plural(without, 'trial')}. {BY_FILE}"))
    return blocks


def _data_changed(command: Callable[..., str], runs: pd.DataFrame) -> str:
    checksum = as_text(runs[frames.CHECKSUM].dropna().iloc[0])
    part = command([f"{frames.CHECKSUM}={checksum}"])
    return (
        "The data changed under its path between these trials, so no command trains all of them again. A"
        f" report of those on one data set, as in `{part}`, has the command that trains them where that data"
        " is."
    )


def commands(runs: pd.DataFrame) -> pd.Series:
    """Return the command that trained each trial; missing where none is recorded that can be pasted.

    Who said nothing once held out no rows, so a command of then has to say it now; a preset says it itself.
    """
    trials = runs.drop_duplicates("trial")
    recorded = trials["command"] if "command" in trials else pd.Series(None, trials.index, dtype="object")
    pasted = recorded.map(_pasted, na_action="ignore")
    if VALIDATION not in trials:
        return pasted
    none = (trials[VALIDATION] == 0).fillna(False)
    if "experiment" in trials:
        none &= trials["experiment"].isna()
    return pasted.mask(none, pasted.map(_none_held_out, na_action="ignore"))


def _none_held_out(command: str) -> str:
    return command if VALIDATION in command else f"{command} {VALIDATION}=0"


def _pasted(command: str) -> str | None:
    """Return the command as a shell takes it, its words quoted anew: a store could hold anything.

    >>> _pasted("fnnexp -m init=max,he"), _pasted("fnnexp a; reboot"), _pasted("reboot")
    ('fnnexp -m init=max,he', "fnnexp 'a;' reboot", None)
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    return shlex.join(words) if words[:1] == ["fnnexp"] and command.isprintable() else None


def ran_with(runs: pd.DataFrame) -> list[str]:
    """Return what the trials ran with: data, commit, versions, BLAS, each with how many where they differ."""
    names = {
        "data_checksum": "data (SHA-256)", "git_commit": "commit", "versions": "versions",
        "blas": "BLAS and its kernel", "engine": "engine",
    }  # fmt: skip
    facts = []
    for column, name in names.items():
        if column not in runs:
            continue
        counts = runs[column].dropna().value_counts()
        values = [
            str(value) if len(counts) == 1 else f"{value} ({plural(n, 'trial')})"
            for value, n in counts.items()
        ]
        facts.append(f"{name}: {'; '.join(values) or NOT_RECORDED.get(column, 'not recorded')}")
    return facts
