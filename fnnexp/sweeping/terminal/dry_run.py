"""Print the plan of a sweep: its trials, their states, its stacks, and what it takes.

No trial is trained, and nothing is written.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.console import print_plain, while_doing
from fnnexp.errors import plural
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.table import short
from fnnexp.nn.training import Stack
from fnnexp.sweeping.backends.cluster import connected
from fnnexp.sweeping.checkpoints import CHECKPOINTS, Checkpoints, resume
from fnnexp.sweeping.executor import too_many_workers, worker_count
from fnnexp.sweeping.plan import PlannedStack, identical, plan
from fnnexp.sweeping.resources import disk, estimates, memory
from fnnexp.sweeping.resources.engine import with_engine
from fnnexp.sweeping.resources.estimates import WHOLE, Ahead
from fnnexp.sweeping.resources.states import STATES, States, begun_with
from fnnexp.sweeping.runs import print_undiagnosed
from fnnexp.sweeping.terminal.progress import cores_used
from fnnexp.tracking import store
from fnnexp.tracking.reader import Known, known_trials, runs_of

MOST_ROWS = 40
"""The largest number of rows in each table of the plan."""


def show(
    trials: Sequence[Trial],
    experiment: str,
    uri: str | None,
    execution: Execution,
    console: Console,
    *,
    ahead: Ahead = WHOLE,
    began: float | None = None,
) -> None:
    """Print which trials a sweep trains first, with their state and stacks, and how long the sweep takes.

    Parameters
    ----------
    trials, experiment, uri, execution, console
        The trials; the experiment and the address of its store; the settings; where to print.
    ahead
        What the sweep trains after these trials.
    began
        When the command began, by ``time.monotonic``; None means now. The time since then is part of the
        estimate, since a sweep needs it too.
    """
    entered = time.monotonic()

    def say(line: str) -> None:
        print_plain(console, line)

    known = known_trials(experiment, uri)
    asking = time.monotonic() - entered
    done, wanted = runs_of(known, trials)
    console.print(
        f"[bold]{escape(experiment)}[/]: {plural(len(trials), 'trial')}, {len(done)} done, "
        f"{len(wanted)} to run",
        highlight=False,
    )
    if started := sum(trial.id in known for trial in wanted):
        say(f"{started} of the trials to run {'was' if started == 1 else 'were'} started before")
    print_undiagnosed(known, done, execution.diagnostics, console)
    _show_trials(trials, known, {trial.id for trial in done}, console)
    states = States(STATES)
    states.say = partial(print_plain, console)
    shorter = states.ends_of(wanted, dry=True)
    if wanted:
        n_jobs = worker_count(execution.n_jobs)
        execution, about_engines = with_engine(
            execution, trials, known, n_jobs=n_jobs, shorter=begun_with(shorter, wanted, execution)
        )
        for line in about_engines:
            say(line)
    with connected(execution) as cluster:
        n_jobs = worker_count(execution.n_jobs, cluster)
        if note := too_many_workers(n_jobs, cluster):
            say(note)
    groups = identical(wanted)
    begun: Mapping[str, Stack] = {}
    if wanted:
        begun, _ = resume(Checkpoints(CHECKPOINTS, execution.engine), groups, execution, say, set_aside=False)
    begun = {**begun, **states.go_on(shorter, groups, execution, begun)}
    planned = plan(groups, max_lanes=execution.max_lanes, n_jobs=n_jobs, begun=begun)
    if stacks := memory.fitting(planned, groups, execution, n_jobs):
        _show_stacks(stacks, console)
        lanes = sum(len(stack.lanes) for stack in stacks)
        cores = "" if cluster else cores_used(stacks, execution.engine, n_jobs)
        say(
            f"{plural(lanes, 'network')} in {plural(len(stacks), 'stack')} on {plural(n_jobs, 'worker')} "
            f"({execution.backend}){cores}; {_epochs(stacks, ahead.epochs)}"
        )
        say(memory.summary(stacks, len(trials), execution, n_jobs))
        address = store.address_or_default(uri)
        results = disk.needed(wanted, diagnostics=execution.diagnostics)
        if about_disk := disk.summary(results, address, experiment):
            say(about_disk)
        disk.check(results, address, experiment)
    print_identical(trials, console)
    if stacks and cluster is None:
        before = time.monotonic() - (entered if began is None else began)
        logging = estimates.logging(wanted, opens=not known, creates=not store.has_store(uri))
        parent = estimates.Parent(before if known else before - asking, logging)
        with while_doing("measuring how fast the workers train", console):
            about_time = estimates.summary(stacks, wanted, parent, execution, n_jobs, ahead)
        for line in about_time:
            say(line)


def _epochs(stacks: Sequence[PlannedStack], most: int | None) -> str:
    """Return how many epochs these stacks of networks will train, as in "up to 1,200 epochs in all".

    `most` is the largest number that a search may train; None if all epochs are trained.
    """
    count = sum(len(stack.lanes) * (stack.recipe.epochs - stack.stack.epoch) for stack in stacks)
    up_to = "up to " if most is not None or any(stack.recipe.stopping for stack in stacks) else ""
    count = count if most is None else min(count, most)
    return f"{up_to}{plural(count, 'epoch')} in all"


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
    table = Table("stacks", "lanes", "network", "batching", box=None, pad_edge=False, header_style="bold")
    counts = Counter(
        (len(stack.lanes), _network(stack.recipe.architecture), stack.recipe.batching.mode)
        for stack in stacks
    )
    for (lanes, network, batching), count in [*counts.items()][:MOST_ROWS]:
        each = " each" if count > 1 else ""
        table.add_row(str(count), f"{lanes}{each}", network, batching)
    console.print(table)
    if (more := sum([*counts.values()][MOST_ROWS:])) > 0:
        console.print(f"… and {more} more", highlight=False)


def _network(architecture: Architecture) -> str:
    """Return a network in a few words, as in "784-100-10 relu"."""
    widths = "-".join(map(str, (architecture.inputs, *architecture.hidden, architecture.classes)))
    names = architecture.activation
    activations = [names] if isinstance(names, str) else names
    return f"{widths} {'+'.join(map(short, activations))}"


def print_identical(trials: Sequence[Trial], console: Console) -> None:
    """Print how many trials train to the same numbers as another, and which initializers coincide."""
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
