"""What would run: trials, stacks, what is done already, what coincides. Trains nothing, writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from fnnexp.sweeping.backends.cluster import workers
from fnnexp.sweeping.executor import resolved
from fnnexp.sweeping.plan import identical, plan
from fnnexp.tracking.writer import known_trials, runs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from fnnexp.config.execution import Execution
    from fnnexp.config.trial import Trial
    from fnnexp.tracking.writer import Known

MOST_ROWS = 40


def show(
    trials: Sequence[Trial], experiment: str, uri: str | None, execution: Execution, console: Console
) -> None:
    """Print the plan of a sweep."""
    known = known_trials(experiment, uri)
    done, wanted = runs_of(known, trials)
    begun = sum(1 for trial in wanted if trial.id in known)
    console.print(
        f"[bold]{experiment}[/]: {len(trials)} trials, {len(done)} done, {len(wanted)} to run",
        highlight=False,
    )
    if begun:
        console.print(f"{begun} of them were begun before", highlight=False)
    if execution.diagnostics:
        say_undiagnosed(known, done, console)
    finished = {trial.id for trial in done}
    table = Table("trial", "id", "epochs", "state", box=None, pad_edge=False, header_style="bold")
    for trial in trials[:MOST_ROWS]:
        state = "done" if trial.id in finished else known[trial.id].status if trial.id in known else "to run"
        table.add_row(trial.name, trial.id, str(trial.recipe.epochs), state)
    console.print(table)
    if len(trials) > MOST_ROWS:
        console.print(f"… and {len(trials) - MOST_ROWS} more")
    with workers(execution.backend, execution.address, execution.engine) as backend:
        n_jobs = resolved(execution.n_jobs, backend)
    stacks = plan(wanted, max_lanes=execution.max_lanes, n_jobs=n_jobs)
    if stacks:
        table = Table("stack", "lanes", "network", "batching", box=None, pad_edge=False, header_style="bold")
        for i, stack in enumerate(stacks[:MOST_ROWS], start=1):
            shape = stack.recipe.architecture
            widths = "-".join(map(str, (shape.inputs, *shape.hidden, shape.classes)))
            table.add_row(
                str(i), str(len(stack.lanes)), f"{widths} {shape.activation}", stack.recipe.batching.mode
            )
        console.print(table)
        lanes = sum(len(stack.lanes) for stack in stacks)
        console.print(
            f"{lanes} lanes in {len(stacks)} stacks on {n_jobs} workers ({execution.backend})",
            highlight=False,
        )
    say_identical(trials, console)


def say_identical(trials: Sequence[Trial], console: Console) -> None:
    """Say which trials are numerically one, by what tells them apart where that is the initializer alone."""
    groups = [group for group in identical(trials).values() if len(group) > 1]
    if not groups:
        return
    extra = sum(len(group) - 1 for group in groups)
    methods = sorted({" = ".join(dict.fromkeys(trial.method for trial in group)) for group in groups})
    console.print(
        f"numerically identical: {extra} trials coincide with another ({'; '.join(methods)}); "
        "each is trained once and recorded for each",
        highlight=False,
    )


def say_undiagnosed(known: Mapping[str, Known], done: Sequence[Trial], console: Console) -> None:
    """Say how many of the trials that are done have no diagnostics, now that they are asked for."""
    without = sum(not known[trial.id].diagnosed for trial in done)
    if without:
        console.print(
            f"{without} of the {len(done)} trials that are done were trained without diagnostics and are not "
            "trained again for them; write tracking.experiment=NAME for an experiment in which they are",
            highlight=False,
            soft_wrap=True,
        )
