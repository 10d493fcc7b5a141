"""What a dry run shows of a sweep: the trials that it trains first, and what may follow them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from fnnexp.config.compose import Sweep
from fnnexp.config.execution import Budget
from fnnexp.config.grids.tuned import level_of
from fnnexp.config.resolve import ParamsOfTrials
from fnnexp.config.trial import Trial
from fnnexp.errors import plural
from fnnexp.sweeping.resources.estimates import Ahead, Later
from fnnexp.sweeping.search.budgets import Purse, by_seed


def planned_first(requested: Sweep) -> tuple[Sequence[Trial], list[str], Ahead]:
    """Return the trials that a sweep trains first, notes to print, and what the sweep trains after them.

    The trials are all those of the sweep, unless its budget or its results decide how many are trained.
    """
    trials: Sequence[Trial] = requested.trials
    notes: list[str] = []
    ahead = Ahead()
    if requested.until.name is not None:
        from fnnexp.sweeping.search.settled import first_round, refuse_impossible

        trials, configurations = first_round(trials, requested.until.most_seeds)
        refuse_impossible(configurations, requested.compare)
        most = requested.until.most_seeds
        notes.append(
            f"until=settled: this is the first round; later rounds add seeds, up to {most} an option"
        )
        seeds = len({trial.seed for trial in trials})
        more = len(configurations) * max(most - seeds, 0)
        if more:
            parts = (_later("for more seeds", more, trials, is_sure=False),)
            ahead = Ahead("for the first round", later=parts)
    if requested.drawn is not None:
        from fnnexp.sweeping.search.tpe import left_to_ask

        if left := left_to_ask(requested, len(requested.drawn.rows)):
            notes.append(
                f"search=tpe: this is the first batch; {plural(left, 'more configuration')} will be chosen "
                "by the results"
            )
            more = left * max(map(len, requested.drawn.trials))
            ahead = Ahead("for the first batch", later=(_later("for the others", more, trials),))
    if requested.search.name == "halving":
        from fnnexp.sweeping.search.halving import Plan

        plan = Plan(requested)
        notes += plan.notes()
        ahead = Ahead(epochs=round(epochs_of(trials) * plan.most / plan.full))
    if requested.tuned is not None:
        from fnnexp.reporting.tuned import CONTENDERS

        options = len({level_of(requested.tuned, params) for params in ParamsOfTrials(trials)})
        fresh = len(requested.tuned.fresh)
        compared, checked = options * fresh, (options - 1) * (CONTENDERS - 1) * fresh
        notes.append(
            f"these trials tune each option; then {plural(compared, 'trial')} with fresh seeds compare the "
            f"options, and up to {checked} more check that the winner also beats the next best values of the "
            "others"
        )
        fresh_seeds = _later("with fresh seeds", compared, trials)
        check = _later("to check", checked, trials, is_sure=False)
        ahead = Ahead("to tune", later=(fresh_seeds, check))
    if requested.budget is None:
        return trials, notes, ahead
    purse, first_rung = Purse(requested.budget, time.monotonic()), requested.search.min_epochs
    purse.refuse_too_little(trials, first_rung)
    affordable = purse.take(trials if requested.tuned is not None else by_seed(trials), upto=first_rung)
    if requested.budget.seconds is not None:
        return affordable, notes, replace(ahead, budget=requested.budget)
    note, ahead = _within(requested.budget, trials, affordable, ahead, first_rung)
    return affordable, [*notes, note], ahead


def _later(name: str, count: int, trials: Sequence[Trial], *, is_sure: bool = True) -> Later:
    """Return `count` trials to be trained later, which have on average as many epochs as these trials."""
    return Later(name, count, round(count * epochs_of(trials) / len(trials)), is_sure=is_sure)


def epochs_of(trials: Sequence[Trial], upto: int | None = None) -> int:
    """Return how many epochs of a budget these trials take, each trained up to `upto`; at least 1 a trial."""
    return sum(max(trial.recipe.epochs if upto is None else upto, 1) for trial in trials)


def _within(
    budget: Budget, trials: Sequence[Trial], affordable: Sequence[Trial], ahead: Ahead, first_rung: int | None
) -> tuple[str, Ahead]:
    """Return a note that says what a budget of trials or epochs allows, and `ahead` reduced to that.

    `affordable` are those of the trials that the budget allows. With ``search=halving``, all of these are
    first trained to the first rung.
    """
    paid = epochs_of(affordable, first_rung)
    if len(affordable) < len(trials):
        epochs = "" if budget.epochs is None else f", {paid:,} of {epochs_of(trials):,} epochs"
        note = f"budget={budget.text}: the first {len(affordable)} of {len(trials)} trials{epochs}"
        return note, Ahead(epochs=None if first_rung is None else paid)
    if budget.trials is not None:
        unit, given, first = "trial", budget.trials, len(trials)
        more = sum(part.trials for part in ahead.later)
    else:
        assert budget.epochs is not None
        unit, given, first = "epoch", budget.epochs, paid
        more = (ahead.epochs or paid) - paid + sum(part.epochs for part in ahead.later)
    at_most = "at most " if ahead.is_open else ""
    if given >= first + more:
        whole = f"the whole sweep, {at_most}{plural(first + more, unit)}"
        return f"budget={budget.text}: enough for {whole}", ahead
    note = f"budget={budget.text}: enough for these trials, and for {given - first:,} of {at_most}{more:,} "
    if ahead.epochs is not None:
        return f"{note}more epochs", replace(ahead, epochs=given)
    share = (given - first) / more
    cut = (
        replace(part, trials=int(share * part.trials), epochs=int(share * part.epochs))
        for part in ahead.later
    )
    return f"{note}{unit}s that follow", replace(ahead, later=tuple(cut))
