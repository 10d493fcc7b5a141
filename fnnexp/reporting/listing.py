"""List the experiments of a store, for `fnnexp report` without a name."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from fnnexp.config.commands import program, report_command
from fnnexp.console import while_doing
from fnnexp.errors import FnnexpError
from fnnexp.tracking import reader, store
from fnnexp.tracking.retry import shown

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 40
"""The largest number of experiments in the list."""


def show(tracking_uri: str | None, console: Console) -> None:
    """Print the experiments of a store, the most recent first, and the command that reports on the first.

    Parameters
    ----------
    tracking_uri
        The store; None is `MLFLOW_TRACKING_URI` or MLflow's default.
    console
        Where to print.

    Raises
    ------
    FnnexpError
        If the store does not exist, or it contains no trial.
    """
    # A server sends all runs, which may take seconds.
    with while_doing("reading the experiments", console):
        summaries = reader.experiment_summaries(tracking_uri)
    if not summaries:
        address = shown(store.full_address(store.address_or_default(tracking_uri)))
        raise FnnexpError(store.no_sweep(tracking_uri, f"in {address}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("experiment", overflow="fold")
    table.add_column("done", no_wrap=True)
    table.add_column("last run", no_wrap=True)
    table.add_column("data", overflow="fold")
    for summary in summaries[:MOST_ROWS]:
        last = datetime.fromtimestamp(summary.last / 1000)  # in the local time zone
        done = f"{summary.done} of {summary.trials}"
        table.add_row(escape(summary.name), done, f"{last:%Y-%m-%d %H:%M}", escape(summary.data))
    console.print(table)
    if len(summaries) > MOST_ROWS:
        console.print(f"… and {len(summaries) - MOST_ROWS} more", highlight=False)
    command = report_command(summaries[0].name, store=store.option(tracking_uri), program=program())
    console.print(f"report on the first: {command}", highlight=False, soft_wrap=True, markup=False)
