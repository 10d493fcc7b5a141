"""Run a range test: train the trials whose rates rise, log them as one run, and print what they suggest."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Printed

from fnnexp.config.compose import Sweep
from fnnexp.console import print_plain
from fnnexp.data.cache import cache_folder
from fnnexp.errors import plural
from fnnexp.mapping.cells import Table
from fnnexp.mapping.kept import find, write_picture
from fnnexp.mapping.lr.request import GREATEST, Configuration, Request, configurations
from fnnexp.mapping.lr.results import RangeTest, around, short
from fnnexp.mapping.lr.rule import FEWEST, PART
from fnnexp.mapping.request import experiment_of
from fnnexp.nn.training import Record
from fnnexp.sweeping.checkpoints import CELLS
from fnnexp.sweeping.resources.leftovers import HERE
from fnnexp.sweeping.resources.locks import in_use
from fnnexp.tracking.experiment import MapLog
from fnnexp.tracking.retry import mlflow_settings
from fnnexp.tracking.run_format import RANGE_TEST

LOSSES = ("train_loss", "val_loss")

FOLDER = CELLS / "lr"
"""The folder of finished trials, which keep their losses at each epoch."""

WHICH = (
    "take the suggested rate; the one where the loss falls fastest is usually lower, and the one where "
    "training diverges is too high"
)
"""Says which of the rates in the printed table to take."""


def run(request: Request, sweep: Sweep, console: Console, *, since: float | None = None) -> RangeTest | None:
    """Train the new trials of a range test, log it to MLflow and print what it suggests; return it.

    With ``dry_run=true``, only print how many trials are new and what they take, and return None. `since` is
    when the command began, by ``time.monotonic``; None means now.

    Raises
    ------
    FnnexpError
        If the input is bad, before anything trains; after Ctrl-C; or if trials failed.
    """
    began = time.monotonic()

    say = partial(print_plain, console)
    factors, wanted = configurations(request, sweep)
    trials = [trial for each in wanted for trial in each.trials]
    kept = find(trials, sweep.execution, say, FOLDER)
    say(
        f"range test of {plural(len(wanted), 'configuration')}: {plural(len(trials), 'trial')} with a rising "
        f"learning rate, {kept.done_before} finished before"
    )
    if sweep.dry_run:
        values = len(LOSSES) * max(trial.recipe.epochs for trial in trials)
        since = began if since is None else since
        kept.print_plan(console, values=values, began=since, uri=sweep.tracking_uri)
        return None
    with mlflow_settings(), in_use(HERE, cache_folder()):
        log = MapLog(experiment_of(sweep, trials, "lr"), sweep.tracking_uri, RANGE_TEST)
        log.check()
        table, failed = kept.train("range test", console, log.open, losses_of)
        test = _results(request, factors, wanted, table)
        picture = _picture(test)
        folder = log.write(
            hashlib.sha256(kept.ids.tobytes()).hexdigest()[:16],
            name=f"range test of {plural(len(wanted), 'configuration')}",
            params={"factors": ", ".join(factors)},
            metrics={},
            tags=kept.tags(request.words(), table),
            files=lambda: {
                "lr.csv": test.to_frame().to_csv(index=False).encode(),
                "lr_curves.csv": test.curves().to_csv(index=False).encode(),
                PICTURE: picture,
            },
            result="lr.csv",
            complete=not failed,
        )
    _show(test, console)
    say(f"{plural(len(kept.new), 'trial')} trained in {time.monotonic() - began:.1f} s")
    say(f"picture: {write_picture(log.experiment, PICTURE, picture) or f'{folder}/{PICTURE}'}")
    if test.command is not None:
        say(f"sweep around these rates: {test.command}")
    kept.refuse(failed, "trial")
    return test


def losses_of(curve: Sequence[Record]) -> dict[str, float]:
    """Return the losses of each epoch of a trial by name, as in ``train_loss_1`` for epoch 1."""
    return {
        f"{name}_{record.epoch}": record.metrics[name]
        for record in curve
        for name in LOSSES
        if name in record.metrics
    }


def _results(
    request: Request, factors: Sequence[str], wanted: Sequence[Configuration], table: Table
) -> RangeTest:
    """Return the results of a range test, with the losses of its trials from the table of finished trials.

    Trials that failed have no losses.
    """
    where = {name: i for i, name in enumerate(table.trials.tolist())}

    def curve(each: Configuration, name: str) -> NDArray[np.float64]:
        rows = [where[key] for trial in each.trials if (key := trial.id.encode()) in where]
        epochs = range(1, each.trials[0].recipe.epochs + 1)
        columns = [table.columns.get(f"{name}_{epoch}") for epoch in epochs]
        return _median(
            np.array([np.full(len(rows), np.nan) if column is None else column[rows] for column in columns])
        )

    test = RangeTest(
        tuple(factors),
        tuple(each.options for each in wanted),
        tuple(each.rates for each in wanted),
        tuple(curve(each, "train_loss") for each in wanted),
        tuple(curve(each, "val_loss") for each in wanted),
    )
    suggested = [reading.suggested for reading in test.readings if not math.isnan(reading.suggested)]
    if not suggested:
        return test
    has_seeds = len({trial.seed for each in wanted for trial in each.trials}) > 1
    return replace(test, command=request.sweep(around(suggested), has_seeds))


def _median(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median over seeds (n,) of the losses (n, S); NaN where most seeds have diverged."""
    if not curves.shape[1]:
        return np.full(len(curves), np.nan)
    filled = np.where(np.isfinite(curves), curves, np.inf)
    middle = np.median(filled, axis=1)
    return np.where(np.isfinite(middle), middle, np.nan)


PICTURE = "lr.png"


def _picture(test: RangeTest) -> bytes:
    """Return the range test drawn, as a PNG."""
    from fnnexp.mapping.lr.picture import plot_lr
    from fnnexp.reporting.plots.picture import png

    return png(plot_lr(test), dpi=200)


def _show(test: RangeTest, console: Console) -> None:
    """Print a table of the suggested rates, and a line for each configuration without a clear one."""
    table = Printed(box=None, pad_edge=False, header_style="bold")
    for factor in test.factors:
        table.add_column(factor, overflow="fold")
    for name in ("suggested", "loss falls fastest at", "diverges at"):
        table.add_column(name, justify="right")
    for options, reading in zip(test.options, test.readings, strict=True):
        shown = ["none" if math.isnan(rate) else short(rate) for rate in reading[:3]]
        table.add_row(*map(escape, options), *shown)
    console.print(table)
    if any(not math.isnan(reading.suggested) for reading in test.readings):
        print_plain(console, WHICH)
    for options, rates, reading in zip(test.options, test.rates, test.readings, strict=True):
        name, ends = (
            " ".join(filter(None, options)),
            f"{short(rates[0])}..{short(min(100 * rates[-1], GREATEST))}",
        )
        if math.isnan(reading.suggested):
            line = f"{name}: the loss hardly falls at any rate from {short(rates[0])} to {short(rates[-1])}"
        elif math.isnan(reading.diverges) and reading.suggested >= PART * rates[-FEWEST]:
            line = f"{name}: the loss still falls at the highest rate; write range={ends} to test higher ones"
        else:
            continue
        print_plain(console, line)
