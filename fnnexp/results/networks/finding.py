"""Find the run that a user means: by its id, by the id or name of its trial, or by a row of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.tracking import reader
from fnnexp.tracking.reader import StoredRun
from fnnexp.tracking.run_format import DONE, MAP, RANGE_TEST, REPORTED

MOST_LISTED = 10
"""The largest number of runs that a message lists."""

MOST_SEARCHED = 20
"""The largest number of experiments in which a message looks for similar names."""


def find(wanted: Any, experiment: str | None, uri: str | None, function: str = "load") -> StoredRun:
    """Find the run of a trial, given by its name, an id, or a row of a frame.

    If the trial has several runs, the newest that is done (finished or diverged) is returned, else the
    newest.

    Parameters
    ----------
    wanted
        The id of a run, the id or name of a trial, or a row of :func:`fnnexp.runs`.
    experiment
        The experiment to search; None searches all experiments of the store.
    uri
        The store.
    function
        The public function that messages name.

    Raises
    ------
    FnnexpError
        If there is no such trial, if several trials have this name, or if the store or the experiment does
        not exist.
    """
    text = _text(wanted, function)
    runs = reader.runs_called(text, experiment, uri)
    by_trial = {run.trial: run for run in sorted(runs, key=lambda run: (run.status in DONE, run.started))}
    if not by_trial:
        raise FnnexpError(_nothing_found(text, experiment, uri))
    if len(by_trial) > 1:
        raise FnnexpError(_ambiguous(text, list(by_trial.values())))
    (run,) = by_trial.values()
    if not run.trial:
        raise FnnexpError(f"the run {run.run_id} is {_kind(run)}")
    return run


def _text(wanted: Any, function: str) -> str:
    """Return the name or id that stands for a trial: the text that a user gave, or the run id of a row.

    Raise if it is neither; `function` is the public function that the message names.
    """
    if isinstance(wanted, pd.Series) and "run_id" in wanted:
        return str(wanted["run_id"])
    if isinstance(wanted, str) and wanted.strip():
        return wanted.strip()
    if isinstance(wanted, pd.DataFrame):
        given = f"a frame of {len(wanted)} rows"
    else:
        given = repr(wanted) if isinstance(wanted, str | int | None) else f"a {type(wanted).__name__}"
    raise FnnexpError(
        f"fnnexp.{function} reads one trial, not {given}; write its name, its id, the id of its run, or a "
        f"row, as in fnnexp.{function}(fnnexp.best(runs)) or fnnexp.{function}(runs.iloc[0])"
    )


def _kind(run: StoredRun) -> str:
    """Return what a run is, in words, if it is not that of a trial: a map, a range test or a report."""
    if MAP in run.tags:
        return "a map, which keeps no weights; `fnnexp map` with cell=I,J trains one of its cells as a trial"
    if RANGE_TEST in run.tags:
        return "a range test of learning rates, which keeps no weights"
    return "a report, not a trial" if REPORTED in run.tags else "not a trial of fnnexp"


def _nothing_found(text: str, experiment: str | None, uri: str | None) -> str:
    """Return the message that no trial has this id or name, with the most similar name."""
    names = [experiment] if experiment is not None else reader.experiment_names(uri)
    trials = [name for each in names[:MOST_SEARCHED] for name in reader.trials(each, uri).names if name]
    where = "the store" if experiment is None else f"the experiment '{experiment}'"
    advice = f"fnnexp.runs({(experiment or 'NAME')!r}) lists trials"
    if experiment is None:
        advice += ", and fnnexp.experiments() lists experiments"
    return f"{where} has no trial with the name or id '{text}'.{did_you_mean(text, trials)} {advice}"


def _ambiguous(text: str, runs: Sequence[StoredRun]) -> str:
    """Return the message that several trials have this name, with their runs."""
    lines = [f"  {run.run_id} (trial {run.trial} in '{run.experiment}')" for run in runs[:MOST_LISTED]]
    if len(runs) > MOST_LISTED:
        lines.append(f"  … and {len(runs) - MOST_LISTED} more")
    advice = "write the id of a run"
    if len({run.experiment for run in runs}) > 1:
        advice += ", or experiment=NAME"
    return "\n".join([f"{len(runs)} trials have the name '{text}'; {advice}:", *lines])
