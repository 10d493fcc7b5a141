"""List the experiments of a store, for `fnnexp report` without a name."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from fnnexp.config.commands import program, report_command
from fnnexp.console import print_plain, while_doing
from fnnexp.errors import FnnexpError, plural
from fnnexp.tracking import reader, store
from fnnexp.tracking.retry import shown

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 40
"""The largest number of experiments in the list."""


def show(tracking_uri: str | None, console: Console) -> None:
    """Print the experiments of a store, the most recent first, and how to look at them.

    Parameters
    ----------
    tracking_uri
        The store; None is `MLFLOW_TRACKING_URI` or MLflow's default.
    console
        Where to print.

    Raises
    ------
    FnnexpError
        If the store does not exist, or nothing in it was written by fnnexp.
    """
    # A server sends all runs, which may take seconds.
    with while_doing("reading the experiments", console):
        summaries = reader.experiment_summaries(tracking_uri)
    if not summaries:
        address = shown(store.full_address(store.address_or_default(tracking_uri)))
        raise FnnexpError(store.no_sweep(tracking_uri, f"in {address}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("experiment", overflow="fold")
    table.add_column("content", overflow="fold")
    table.add_column("last run", no_wrap=True)
    table.add_column("data", overflow="fold")
    for summary in summaries[:MOST_ROWS]:
        last = datetime.fromtimestamp(summary.last / 1000)  # in the local time zone
        content = content_of(summary)
        table.add_row(escape(summary.name), content, f"{last:%Y-%m-%d %H:%M}", escape(summary.data))
    console.print(table)
    if len(summaries) > MOST_ROWS:
        console.print(f"… and {len(summaries) - MOST_ROWS} more", highlight=False)
    say = partial(print_plain, console)
    option = store.option(tracking_uri)
    if swept := next((summary for summary in summaries if summary.trials), None):
        first = "the first" if swept is summaries[0] else "the first with trials"
        say(f"report on {first}: {report_command(swept.name, store=option, program=program())}")
    if mapped := next((summary for summary in summaries if summary.maps), None):
        uri = "" if tracking_uri is None else f", tracking_uri={shown(tracking_uri)!r}"
        say(f"draw the newest map of {mapped.name}: fnnexp.plot_map(fnnexp.read_map({mapped.name!r}{uri}))")
    if any(summary.maps or summary.range_tests for summary in summaries):
        say(f"pictures of maps and range tests: reports/EXPERIMENT, or {program()} ui{option}")


def content_of(summary: reader.ExperimentSummary) -> str:
    """Return how many trials, maps and range tests an experiment has, in words.

    >>> content_of(reader.ExperimentSummary("halved", 60, 3, 57, 0, 0, 0, "digits"))
    '60 trials: 3 done, 57 pruned'
    >>> content_of(reader.ExperimentSummary("swept", 36, 36, 0, 2, 1, 0, "digits"))
    '36 trials: all done; 2 maps; 1 range test'
    >>> content_of(reader.ExperimentSummary("begun", 3, 1, 1, 0, 0, 0, "digits"))
    '3 trials: 1 done, 1 pruned, 1 unfinished'
    """
    parts = []
    if summary.trials:
        unfinished = summary.trials - summary.done - summary.pruned
        done = "all" if summary.done == summary.trials else summary.done
        counts = [f"{done} done"]
        counts += [f"{summary.pruned} pruned"] if summary.pruned else []
        counts += [f"{unfinished} unfinished"] if unfinished else []
        parts.append(f"{plural(summary.trials, 'trial')}: {', '.join(counts)}")
    parts += [plural(summary.maps, "map")] if summary.maps else []
    parts += [plural(summary.range_tests, "range test")] if summary.range_tests else []
    return "; ".join(parts)
