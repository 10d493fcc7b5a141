"""`search=halving`: train all configurations for a few epochs, and only the best of them for longer.

All configurations are trained to the first rung, of ``search.min_epochs`` epochs. The best 1/η of each
batching mode go on to the next rung, of η times the epochs, and so on; those that are left after the last
rung are trained to the end. This is synchronous successive halving (Jamieson & Talwalkar, "Non-stochastic
best arm identification and hyperparameter optimization", 2016) within each batching mode, since an epoch of
full batches is one step and an epoch of mini-batches is hundreds, and within each data set.

A rung decides by the curves of its trials in the store, and by nothing else. So the same command, started
again after a kill or with another number of workers, takes the same decisions and goes on. Trials that are
not trained further are marked as pruned. Their checkpoints stay, so a sweep of the whole grid goes on with
them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table

from fnnexp.config.compose import Sweep
from fnnexp.config.resolve import ParamsOfTrials
from fnnexp.config.schema import CHOICES, SEEDS, SearchConfig
from fnnexp.config.trial import Trial
from fnnexp.errors import ConfigError, plural
from fnnexp.sweeping.runs import Outcome
from fnnexp.sweeping.search.budgets import Purse, by_seed
from fnnexp.sweeping.search.rounds import Rounds, Train
from fnnexp.tracking import reader
from fnnexp.tracking.retry import mlflow_settings
from fnnexp.tracking.run_format import (
    DIVERGED,
    DIVERGED_EPOCH,
    DONE,
    FAILED,
    PRUNED,
    PRUNED_EPOCH,
    TRIAL,
)
from fnnexp.tracking.writer import Tracker

WORST = 0.0
"""The accuracy of a trial that diverged or failed."""

SHOWN = 3
"""How many of the best configurations are shown at the end."""

# --- the decisions ------------------------------------------------------------------------------------------


def rungs_of(epochs: int, eta: int, min_epochs: int) -> list[int]:
    """Return the rungs: the epochs at which the worse configurations are left out.

    Only the first rung may lie beyond half of the epochs, since a later one there would save little.

    >>> rungs_of(27, 3, 1), rungs_of(10, 3, 1), rungs_of(8, 2, 3), rungs_of(5, 3, 4)
    ([1, 3, 9], [1, 3], [3], [4])
    """
    rungs = [min_epochs]
    while 2 * eta * rungs[-1] <= epochs:
        rungs.append(rungs[-1] * eta)
    return rungs


def survivors(groups: Sequence[str], values: Sequence[float], names: Sequence[str], eta: int) -> list[int]:
    """Return the indices of the configurations that go on: the best 1/η of each group, rounded up.

    Parameters
    ----------
    groups, values, names
        For each configuration: its group; its result (higher is better); and a name, by which equal results
        are ordered.
    eta
        The η of successive halving.

    Examples
    --------
    >>> survivors(["mini", "mini", "mini", "mini", "full"], [0.5, 0.9, 0.9, 0.2, 0.1], list("abcde"), eta=3)
    [1, 2, 4]
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place in sorted(range(len(groups)), key=lambda place: (-values[place], names[place])):
        places[groups[place]].append(place)
    return sorted(place for best in places.values() for place in best[: -(-len(best) // eta)])


@dataclass(frozen=True)
class Recorded:
    """What the store has recorded of a trial.

    Attributes
    ----------
    run_id, status
        The id of its MLflow run, and the status of the trial.
    values
        The metric by which configurations are ranked, by epoch.
    diverged_epoch, pruned_epoch
        The epochs at which the trial diverged and at which it was pruned.
    """

    run_id: str
    status: str
    values: Mapping[int, float]
    diverged_epoch: int | None = None
    pruned_epoch: int | None = None

    def at(self, epoch: int) -> float | None:
        """Return the metric that ranks trials at an epoch; None if the trial has not been trained that far.

        A trial that stopped early keeps its last value, and a diverged trial has the worst value.
        """
        if self.status == DIVERGED and self.diverged_epoch is not None and self.diverged_epoch <= epoch:
            return WORST
        if epoch in self.values:
            return self.values[epoch]
        return self.values.get(max(self.values, default=0), WORST) if self.status in DONE else None


@dataclass(frozen=True)
class Configuration:
    """Trials that differ only in their seeds.

    Attributes
    ----------
    name
        Its settings that vary in the sweep, as in ``init=he optimizer.lr=0.1``.
    trials
        The trials, one for each seed.
    copies
        The trials of other configurations that train to the same numbers, and so have the same results.
    """

    name: str
    trials: tuple[Trial, ...]
    copies: tuple[Trial, ...] = ()

    @property
    def group(self) -> str:
        """The batching mode and the data set, as text. Only configurations with the same group compete."""
        return f"{self.trials[0].recipe.batching.mode} {self.trials[0].data.checksum}"

    @property
    def id(self) -> str:
        """An id that depends on nothing but the trials, not even on their order: the smallest trial id."""
        return min(trial.id for trial in self.trials)

    def value(self, recorded: Mapping[str, Recorded], epoch: int) -> float:
        """Return the mean metric of all seeds at an epoch; a seed without a result counts as the worst."""
        values = [recorded[trial.id].at(epoch) if trial.id in recorded else None for trial in self.trials]
        return math.fsum(WORST if value is None else value for value in values) / len(values)


def configurations_of(trials: Sequence[Trial]) -> list[Configuration]:
    """Group the trials of a sweep into configurations. Those that train to the same numbers become one."""
    seeds: dict[frozenset[tuple[str, str]], list[Trial]] = {}
    for trial, params in zip(trials, ParamsOfTrials(trials), strict=True):
        seeds.setdefault(frozenset(item for item in params.items() if item[0] not in SEEDS), []).append(trial)
    identical: dict[tuple[str, frozenset[str]], list[Sequence[Trial]]] = {}
    for own in seeds.values():
        key = own[0].recipe.batching.mode, frozenset(trial.numbers_id for trial in own)
        identical.setdefault(key, []).append(own)
    names = _names([own[0] for own in seeds.values()])
    return [
        Configuration(
            " = ".join(names[own[0].id] for own in alike),
            tuple(alike[0]),
            tuple(trial for own in alike[1:] for trial in own),
        )
        for alike in identical.values()
    ]


def _names(trials: Sequence[Trial]) -> dict[str, str]:
    """Name each configuration by its settings that vary in the sweep; return the names by trial id.

    `trials` has one trial of each configuration. A setting that is determined by another one, as
    `init.method` is by `init`, is left out.
    """
    params = [*ParamsOfTrials(trials)]
    keys = [key for key in dict.fromkeys(key for each in params for key in each) if key not in SEEDS]
    varied = [key for key in keys if len({each.get(key) for each in params}) > 1]

    def follows(key: str) -> bool:
        group = key.partition(".")[0]
        if key in CHOICES or group not in varied:
            return False
        return len({(each.get(group), each.get(key)) for each in params}) == len(
            {each.get(group) for each in params}
        )

    shown = [key for key in varied if not follows(key)]
    return {
        trial.id: " ".join(
            f"{key}={value}" for key in shown if (value := _value(trial, each, key)) is not None
        )
        for trial, each in zip(trials, params, strict=True)
    }


def _value(trial: Trial, params: Mapping[str, str], key: str) -> Any:
    """Return a trial's value of a config key, also a default, which params omit; None if it has none."""
    if key in params:
        return params[key]
    group, _, name = key.partition(".")
    values = trial.config.get(group)
    return values.get(name) if name and isinstance(values, Mapping) else None


# --- what a sweep would do ----------------------------------------------------------------------------------


def refuse_impossible(
    search: SearchConfig, trials: Sequence[Trial], configurations: Sequence[Configuration]
) -> None:
    """Raise if halving can't choose among these configurations.

    All trials must have the same number of epochs, and it must be above ``search.min_epochs``. Some group
    must have several configurations. All configurations of a group must have the same seeds.
    """
    assert search.eta is not None
    assert search.min_epochs is not None
    epochs = sorted({trial.recipe.epochs for trial in trials})
    if len(epochs) > 1:
        raise ConfigError(
            f"search=halving compares trials after equal numbers of epochs, and these have "
            f"{', '.join(map(str, epochs[:-1]))} and {epochs[-1]}; write one value, as in epochs={epochs[-1]}"
        )
    if epochs[0] < 2:
        raise ConfigError(
            f"search=halving: trials of {plural(epochs[0], 'epoch')} have no earlier epoch at which to "
            "choose; write epochs=9, or search=grid"
        )
    if search.min_epochs >= epochs[0]:
        raise ConfigError(
            f"search.min_epochs={search.min_epochs}: must be below epochs={epochs[0]}; write "
            f"search.min_epochs={max(epochs[0] // search.eta**2, 1)}, or more epochs"
        )
    if len({each.group for each in configurations}) == len(configurations):
        few = "there is only one configuration"
        if len(configurations) > 1:
            few = "each batching mode and data set has only one configuration"
        raise ConfigError(
            f"search=halving: {few} (seeds do not count, nor do configurations that train identically), so "
            "there is nothing to choose; write several values of a key, as in optimizer.lr=0.01,0.1"
        )
    seeds: dict[str, Configuration] = {}
    for each in configurations:
        first = seeds.setdefault(each.group, each)
        if {(trial.seed, trial.seeds) for trial in each.trials} != {(t.seed, t.seeds) for t in first.trials}:
            raise ConfigError(
                f"search=halving: {first.name} and {each.name} have different seeds, so luck could decide "
                "which goes on; sweep the seeds of all configurations, as in seed=0,1, without zip or where"
            )


class Plan:
    """What successive halving will do with a sweep: its rungs, and how many epochs it trains at most.

    Parameters
    ----------
    requested
        The sweep.

    Raises
    ------
    ConfigError
        If halving is impossible, before anything trains.
    """

    def __init__(self, requested: Sweep) -> None:
        search, self.configurations = requested.search, configurations_of(requested.trials)
        refuse_impossible(search, requested.trials, self.configurations)
        assert search.eta is not None
        assert search.min_epochs is not None
        self.eta, self.epochs = search.eta, requested.trials[0].recipe.epochs
        self.rungs = rungs_of(self.epochs, self.eta, search.min_epochs)
        held_out = all(trial.recipe.validation for trial in requested.trials)
        self.metric = "val_accuracy" if held_out else "test_accuracy"  # as in fnnexp.results.frames.ranking

    @property
    def full(self) -> int:
        """The number of epochs that all configurations would train without halving."""
        return self.epochs * sum(len(each.trials) for each in self.configurations)

    @property
    def most(self) -> int:
        """The largest number of epochs that halving may train."""
        steps = pairwise((0, *self.rungs, self.epochs))
        return sum(
            (upto - since) * sum(len(each.trials) for each in left)
            for (since, upto), left in zip(steps, self._left(), strict=True)
        )

    def _left(self) -> list[list[Configuration]]:
        """Return the configurations that train to each rung, and to the end, in the most expensive case.

        In this case the configurations with the most seeds go on.
        """
        left = [list(self.configurations)]
        for _ in self.rungs:
            now = left[-1]
            seeds = [len(each.trials) for each in now]
            kept = survivors([each.group for each in now], seeds, [each.id for each in now], self.eta)
            left.append([now[i] for i in kept])
        return left

    def notes(self) -> list[str]:
        """Return what to print before training: how many configurations train to each rung, at most."""
        counts, spent = [len(left) for left in self._left()], self.most
        parts = [
            f"{count if i else plural(count, 'configuration')} to epoch {upto}"
            for i, (count, upto) in enumerate(zip(counts, (*self.rungs, self.epochs), strict=True))
        ]
        share = f"{spent:,} of the full grid's {self.full:,} epochs ({spent / self.full:.0%})"
        notes = [f"search=halving: {', '.join(parts)}: at most {share}"]
        if not self.metric.startswith("val"):
            notes.append(
                "search=halving: without validation rows it chooses by test accuracy, so the test accuracy "
                "of the best is too high; data.validation=N holds out N rows"
            )
        return notes


# --- the sweep ----------------------------------------------------------------------------------------------


class Halving(Rounds):
    """A sweep with ``search=halving``. The trials of `requested` are all that may be trained."""

    def __init__(
        self, requested: Sweep, train: Train, tracker: Tracker, purse: Purse, console: Console
    ) -> None:
        super().__init__(requested, train, tracker, purse, console)
        self.plan = Plan(requested)
        self.trials = [*requested.trials]
        self._exists = False  # whether the store has the experiment
        self._tried: set[str] = set()  # the trials that this command has trained
        self._ended: dict[str, int] = {}  # the epoch at which each configuration was left out

    def run(self) -> Outcome:
        """Train to one rung after another, at which the worse leave; then to the end. Print the best."""
        plan, left = self.plan, self.plan.configurations
        for note in plan.notes():
            self._say(note)
        recorded, since = self._recorded(), 0
        self.outcome.done_before = sum(own.status in DONE for own in recorded.values())
        for rung in plan.rungs:
            if not self._climbed(left, recorded, since, rung):
                return self.outcome
            recorded, before = self._recorded(), left
            values = [each.value(recorded, rung) for each in left]
            kept = survivors([each.group for each in left], values, [each.id for each in left], plan.eta)
            left = [before[i] for i in kept]
            losers = [each for i, each in enumerate(before) if i not in {*kept}]
            self._ended |= {each.id: rung for each in losers}
            self._prune(losers, recorded, rung)
            self._say(
                f"after {plural(rung, 'epoch')}: {len(left)} of {plural(len(before), 'configuration')} "
                f"{'goes' if len(left) == 1 else 'go'} on"
            )
            since = rung
        if self._climbed(left, recorded, since, None):
            self._show(left)
        return self.outcome

    def _climbed(
        self, left: Sequence[Configuration], recorded: Mapping[str, Recorded], since: int, upto: int | None
    ) -> bool:
        """Train configurations up to the epoch `upto` (None: their last); return whether all got there.

        The epochs up to `since` were paid from the budget before.
        """
        wanted = {trial.id for each in left for trial in (*each.trials, *each.copies)}
        trials = by_seed([trial for trial in self.requested.trials if trial.id in wanted])
        payable = self.purse.take(trials, since=since, upto=upto)
        lacking = [trial for trial in payable if not self._is_there(trial, recorded, upto)]
        if lacking and self._is_late(0):
            return False
        if lacking:
            self.outcome.add(self.train(lacking, bool(self._tried), upto))
            self._tried |= {trial.id for trial in lacking}
        self.outcome.not_run += len(trials) - len(payable)
        if self.outcome.elsewhere:
            self._say(
                "search=halving: another sweep is training some of these trials; when it has ended, run this "
                "command again"
            )
            return False
        return len(payable) == len(trials) and not self._is_stopped

    def _is_there(self, trial: Trial, recorded: Mapping[str, Recorded], upto: int | None) -> bool:
        """Return whether a trial need not train to the epoch `upto` (None: its last).

        It has been trained so far or has ended, or it has failed under this command.
        """
        own = recorded.get(trial.id)
        if own is None:
            return False
        has_failed = own.status == FAILED and trial.id in self._tried
        return has_failed or own.status in DONE or (upto is not None and own.at(upto) is not None)

    def _recorded(self) -> dict[str, Recorded]:
        """Read from the store what it has recorded of the sweep's trials; return it by trial id."""
        experiment, uri = self.requested.experiment, self.requested.tracking_uri
        self._exists = self._exists or (
            not self.tracker.is_new and bool(reader.known_trials(experiment, uri))
        )
        if not self._exists:
            return {}
        wanted = {trial.id for trial in self.requested.trials}
        runs = reader.trials(experiment, uri)
        values: dict[int, dict[int, float]] = defaultdict(dict)
        points = reader.points(runs, [self.plan.metric])
        for row, epoch, value in zip(
            points.row.tolist(), points.epoch.tolist(), points.value.tolist(), strict=True
        ):
            values[row][epoch] = value
        none = [None] * len(runs)
        diverged, pruned = (runs.tags.get(tag, none) for tag in (DIVERGED_EPOCH, PRUNED_EPOCH))
        return {
            str(trial): Recorded(
                runs.run_ids[row], runs.statuses[row], values[row], _whole(diverged[row]), _whole(pruned[row])
            )
            for row, trial in enumerate(runs.tags.get(TRIAL, none))
            if trial in wanted
        }

    def _prune(self, losers: Sequence[Configuration], recorded: Mapping[str, Recorded], rung: int) -> None:
        """Mark the trials of configurations that leave at a rung as pruned, except those that have ended."""
        epochs: dict[str, int] = {}
        for trial in (trial for each in losers for trial in (*each.trials, *each.copies)):
            own = recorded.get(trial.id)
            if own is None or own.status in (*DONE, FAILED):
                continue
            self.outcome.pruned.append((trial.name, rung))
            if (own.status, own.pruned_epoch) != (PRUNED, rung):
                epochs[own.run_id] = rung
        if epochs:
            with mlflow_settings():
                self.tracker.prune(epochs)

    # What is printed

    def _show(self, left: Sequence[Configuration]) -> None:
        """Print the best configurations, and which part of the full grid's epochs the search took."""
        recorded, metric = self._recorded(), self.plan.metric
        values = {each.id: each.value(recorded, self.plan.epochs) for each in left}
        best = sorted(left, key=lambda each: (-values[each.id], each.id))[:SHOWN]
        table = Table("the best", metric, box=None, pad_edge=False, header_style="bold")
        for each in best:
            table.add_row(each.name, f"{values[each.id]:.4f}")
        self.console.print(table)
        spent, full = self._spent(recorded), self.plan.full
        self._say(
            f"search=halving: {plural(len(left), 'configuration')} came to the end; the search took "
            f"{spent:,} of the full grid's {full:,} epochs ({spent / full:.0%})"
        )

    def _spent(self, recorded: Mapping[str, Recorded]) -> int:
        """Return how many epochs the search trained in all, including those that earlier commands trained."""
        spent = 0
        for each in self.plan.configurations:
            end = self._ended.get(each.id, self.plan.epochs)
            for trial in each.trials:
                last = max(recorded[trial.id].values, default=end) if trial.id in recorded else end
                spent += min(last, end)
        return spent


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
