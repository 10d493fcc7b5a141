"""List the experiments of a store, for `fnnexp report` without a name."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from fnnexp.config.commands import program, quoted, report_command
from fnnexp.console import while_doing
from fnnexp.errors import FnnexpError
from fnnexp.tracking import reader, store
from fnnexp.tracking.retry import shown

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 40


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
        If there is no such store, or no trial in it.
    """
    if not store.has_store(tracking_uri):
        file = store.store_file(store.full_address(store.address_or_default(tracking_uri)))
        raise FnnexpError(
            f"no sweep has been recorded here: there is no file {file}; {_advice(tracking_uri)}"
        )
    # A server sends all runs, which may take seconds.
    with while_doing("reading the experiments", console):
        summaries = reader.experiment_summaries(tracking_uri)
    if not summaries:
        address = shown(store.full_address(store.address_or_default(tracking_uri)))
        raise FnnexpError(f"no sweep has been recorded in {address}; {_advice(tracking_uri)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("experiment", overflow="fold")
    table.add_column("done", no_wrap=True)
    table.add_column("last run", no_wrap=True)
    table.add_column("data", overflow="fold")
    for summary in summaries[:MOST_ROWS]:
        last = datetime.fromtimestamp(summary.last / 1000)  # in the time zone of the reader
        done = f"{summary.finished} of {summary.trials}"
        table.add_row(escape(summary.name), done, f"{last:%Y-%m-%d %H:%M}", escape(summary.data))
    console.print(table)
    if len(summaries) > MOST_ROWS:
        console.print(f"… and {len(summaries) - MOST_ROWS} more", highlight=False)
    command = report_command(summaries[0].name, store=store.option(tracking_uri), program=program())
    console.print(f"report on the first: {command}", highlight=False, soft_wrap=True, markup=False)


def _advice(uri: str | None) -> str:
    """Return the command that runs a sweep into this store."""
    command = f"{program()} -cn card_grid"
    if uri is not None:
        address = shown(uri)
        address = address if re.fullmatch(r"[\w./:-]+", address, re.ASCII) else quoted(address)
        command += f" {shlex.quote(f'tracking.uri={address}')}"
    return f"write {command} to run one, or name another store by --uri"
