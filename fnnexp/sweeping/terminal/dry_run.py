"""Print the plan of a sweep: its trials, their states, and its stacks. Nothing is trained or written."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.errors import plural
from fnnexp.nn.pieces.table import short
from fnnexp.sweeping.backends.cluster import connected
from fnnexp.sweeping.executor import worker_count
from fnnexp.sweeping.plan import PlannedStack, identical, plan
from fnnexp.sweeping.resources import disk, memory
from fnnexp.sweeping.resources.engine import with_engine
from fnnexp.sweeping.resources.states import STATES, States, begun_with
from fnnexp.sweeping.runs import print_undiagnosed
from fnnexp.tracking import store
from fnnexp.tracking.reader import Known, known_trials, runs_of

MOST_ROWS = 40
"""The largest number of rows in each table of the plan."""


def show(
    trials: Sequence[Trial], experiment: str, uri: str | None, execution: Execution, console: Console
) -> None:
    """Print the plan of a sweep."""
    known = known_trials(experiment, uri)
    done, wanted = runs_of(known, trials)
    console.print(
        f"[bold]{escape(experiment)}[/]: {plural(len(trials), 'trial')}, {len(done)} done, "
        f"{len(wanted)} to run",
        highlight=False,
    )
    if begun := sum(trial.id in known for trial in wanted):
        console.print(f"{begun} of them {'was' if begun == 1 else 'were'} started before", highlight=False)
    if execution.diagnostics:
        print_undiagnosed(known, done, console)
    _show_trials(trials, known, {trial.id for trial in done}, console)
    states = States(STATES)
    states.say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    shorter = states.ends_of(wanted, dry=True)
    if wanted:
        n_jobs = worker_count(execution.n_jobs)
        execution, chosen = with_engine(
            execution, trials, known, n_jobs=n_jobs, shorter=begun_with(shorter, wanted, execution)
        )
        if chosen is not None:
            console.print(chosen, highlight=False, markup=False, soft_wrap=True)
    with connected(execution) as cluster:
        n_jobs = worker_count(execution.n_jobs, cluster)
    groups = identical(wanted)
    goes_on = states.go_on(shorter, groups, execution)
    planned = plan(groups, max_lanes=execution.max_lanes, n_jobs=n_jobs, begun=goes_on)
    if stacks := memory.fitting(planned, groups, execution, n_jobs):
        _show_stacks(stacks, console)
        lanes = sum(len(stack.lanes) for stack in stacks)
        console.print(
            f"{plural(lanes, 'lane')} in {plural(len(stacks), 'stack')} on {plural(n_jobs, 'worker')} "
            f"({execution.backend})",
            highlight=False,
        )
        console.print(memory.summary(stacks, len(trials), execution, n_jobs), highlight=False, soft_wrap=True)
        address = store.address_or_default(uri)
        results = disk.needed(wanted, diagnostics=execution.diagnostics)
        if line := disk.summary(results, address, experiment):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        disk.check(results, address, experiment)
    print_identical(trials, console)


def _show_trials(
    trials: Sequence[Trial], known: Mapping[str, Known], done: Container[str], console: Console
) -> None:
    table = Table("trial", "id", "epochs", "state", box=None, pad_edge=False, header_style="bold")
    for trial in trials[:MOST_ROWS]:
        state = "done" if trial.id in done else known[trial.id].status if trial.id in known else "to run"
        epochs = f"{'up to ' if trial.recipe.stopping else ''}{trial.recipe.epochs}"
        table.add_row(escape(trial.name), trial.id, epochs, state)
    console.print(table)
    if len(trials) > MOST_ROWS:
        console.print(f"… and {len(trials) - MOST_ROWS} more")


def _show_stacks(stacks: Sequence[PlannedStack], console: Console) -> None:
    table = Table("stack", "lanes", "network", "batching", box=None, pad_edge=False, header_style="bold")
    for i, stack in enumerate(stacks[:MOST_ROWS], start=1):
        shape = stack.recipe.architecture
        widths = "-".join(map(str, (shape.inputs, *shape.hidden, shape.classes)))
        activations = [shape.activation] if isinstance(shape.activation, str) else shape.activation
        network = f"{widths} {'+'.join(map(short, activations))}"
        table.add_row(str(i), str(len(stack.lanes)), network, stack.recipe.batching.mode)
    console.print(table)


def print_identical(trials: Sequence[Trial], console: Console) -> None:
    """Print how many trials are numerically identical to another trial, and which initializers coincide."""
    groups = [group for group in identical(trials).values() if len(group) > 1]
    if not groups:
        return
    extra = sum(len(group) - 1 for group in groups)
    methods = sorted({" = ".join(dict.fromkeys(short(trial.method) for trial in group)) for group in groups})
    verb = "coincides" if extra == 1 else "coincide"
    console.print(
        f"numerically identical: {plural(extra, 'trial')} {verb} with another ({'; '.join(methods)}); "
        "they train once, and each trial records the results",
        highlight=False,
    )
