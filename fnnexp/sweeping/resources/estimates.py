"""How long a sweep will take on this machine: from what earlier sweeps kept, or measured within a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from fnnexp.config.execution import Budget, Execution
from fnnexp.config.trial import Trial
from fnnexp.errors import plural
from fnnexp.nn.epoch import CHUNK
from fnnexp.nn.training import Stack
from fnnexp.sweeping.executor import cores_here, threads_each, timed_epochs
from fnnexp.sweeping.plan import PlannedStack
from fnnexp.sweeping.resources.engine import NAMES, must_compile
from fnnexp.sweeping.resources.makespan import Job, seconds_left
from fnnexp.sweeping.resources.speeds import Speeds, recalled

MEASURED = 0.4
"""For how many seconds all workers train to measure their speed."""

MOST_KINDS = 24
"""How many kinds of stacks are measured at most. The others are estimated from these."""

MOST_ROWS = 10_000
"""On how many rows an epoch is measured at most."""

START = 0.9
"""The seconds until worker processes have started, unless they start while the trials are composed."""

LOAD = {"numpy": 0.1, "numba": 0.4}
"""The seconds until a worker has loaded an engine's code."""

COMPILE = 5.0
"""The seconds until an engine has compiled its code, once on a machine."""

OPEN, CREATE = 2.5, 0.8
"""The seconds of work to import MLflow and open a store, and further ones to create a new store."""

A_TRIAL, AN_EPOCH = 4e-3, 1e-4
"""The seconds of work to log a trial, and to log one of its epochs."""

AROUND = 0.4
"""The seconds to start Python, before a command measures its time, and to end it."""


# --- the whole ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parent:
    """How long this process, the parent of the workers, works in a sweep, in seconds.

    Attributes
    ----------
    before
        From the command's start until it hands out the first stacks.
    beside
        While the workers train, mostly to log their results.
    """

    before: float
    beside: float

    def until_the_end(self, training: float, *, cores: int, n_jobs: int) -> float:
        """Return the seconds that the command takes, when its workers train for `training` seconds.

        If the workers use all cores, this process takes time from them. And the sweep does not end before its
        results are logged.

        >>> parent = Parent(before=1.0, beside=4.0)
        >>> [parent.until_the_end(training, cores=4, n_jobs=4) for training in (10.0, 2.0)]
        [12.0, 5.0]
        >>> parent.until_the_end(10.0, cores=4, n_jobs=2)
        11.0
        """
        taken = self.beside / cores if n_jobs >= cores else 0.0
        return self.before + max(training + taken, self.beside)


def logging(trials: Sequence[Trial], *, opens: bool, creates: bool) -> float:
    """Return the estimated seconds to log these trials, and to open or create the store if need be."""
    epochs = sum(trial.recipe.epochs for trial in trials)
    return OPEN * opens + CREATE * creates + A_TRIAL * len(trials) + AN_EPOCH * epochs


@dataclass(frozen=True)
class Later:
    """Trials that a sweep trains after the first ones, depending on the results of these.

    Attributes
    ----------
    name
        What they are for, such as "to check".
    trials, epochs
        How many they are, and their epochs in all.
    is_sure
        Whether the number of trials is certain; otherwise it is the largest possible number.
    """

    name: str
    trials: int
    epochs: int
    is_sure: bool = True


@dataclass(frozen=True)
class Ahead:
    """What a sweep does beyond the trials that a dry run shows, as far as it is known.

    Attributes
    ----------
    first
        What the shown trials are for, such as "to tune"; empty if no others follow.
    epochs
        How many epochs the shown trials train at most, if a search may prune some; None: all of theirs.
    later
        The trials that follow.
    budget
        The budget, if it limits the time.
    """

    first: str = ""
    epochs: int | None = None
    later: tuple[Later, ...] = ()
    budget: Budget | None = None

    @property
    def is_open(self) -> bool:
        """Whether the sweep may be shorter than planned, depending on its results."""
        return self.epochs is not None or not all(part.is_sure for part in self.later)


WHOLE = Ahead()
"""For a dry run that shows all trials of the sweep: nothing follows them."""


def summary(
    stacks: Sequence[PlannedStack],
    trials: Sequence[Trial],
    parent: Parent,
    execution: Execution,
    n_jobs: int,
    ahead: Ahead = WHOLE,
) -> list[str]:
    """Return sentences about the time that a sweep will take; none if it can't be estimated.

    If no speed is known from earlier sweeps, some epochs are measured. Epochs of the trials that follow (see
    `ahead`) are supposed to take as long as epochs of these.
    """
    compiles = must_compile(trials, execution.engine)
    measuring = replace(execution, engine="numpy") if compiles else execution
    speeds = Speeds(measuring.engine)
    source = learn(speeds, stacks, measuring, n_jobs)
    if source is None:
        return []
    loading = LOAD[execution.engine] + (COMPILE if compiles else 0.0)
    loading += START if execution.backend == "loky" and n_jobs > 1 and len(trials) == 1 else 0.0
    training, epochs = seconds_to_train(speeds, stacks, execution, n_jobs), epochs_in(stacks)
    parts = [(ahead.first, share_of(ahead, trials) * epochs, True)]
    parts += [(part.name, part.epochs, part.is_sure) for part in ahead.later]
    ends, trained = [], 0.0  # when each part ends, and the epochs until then
    for part, later in zip(parts, (None, *ahead.later), strict=True):
        trained += part[1]
        if later is not None:
            parent = replace(parent, beside=parent.beside + A_TRIAL * later.trials + AN_EPOCH * later.epochs)
        seconds = loading + training * trained / epochs
        ends.append(parent.until_the_end(seconds, cores=cores_here(), n_jobs=n_jobs))
    is_open = ahead.is_open or compiles or any(stack.recipe.stopping for stack in stacks)
    engine = NAMES[execution.engine] + (", which compiles its code first" if compiles else "")
    by = " with NumPy" if compiles else ""
    line = f"time: {'at most ' if is_open else ''}about {in_words(AROUND + ends[-1])}"
    line += f" on {plural(n_jobs, 'worker')} with {engine} ({source}{by})"
    if ahead.later:
        spans = pairwise([-AROUND, *ends])
        texts = [
            f"{'' if is_sure else 'up to '}{in_words(end - begin)} {name}"
            for (name, _, is_sure), (begin, end) in zip(parts, spans, strict=True)
        ]
        line += f": {', '.join(texts)}"
    if ahead.budget is None:
        return [line]
    return [line, within(ahead.budget, parent.before + loading, ends[-1], trained, is_open=is_open)]


def epochs_in(stacks: Sequence[PlannedStack]) -> int:
    """Return how many epochs the networks of these stacks still train in all; with ``epochs=0``, one each."""
    return sum(len(stack.lanes) * max(stack.recipe.epochs - stack.stack.epoch, 1) for stack in stacks)


def share_of(ahead: Ahead, trials: Sequence[Trial]) -> float:
    """Return which share of the epochs of these trials is trained at most, since a search may prune some."""
    if ahead.epochs is None:
        return 1.0
    return min(ahead.epochs / sum(max(trial.recipe.epochs, 1) for trial in trials), 1.0)


def within(budget: Budget, begin: float, end: float, epochs: float, *, is_open: bool) -> str:
    """Return a sentence that says whether a budget of time is enough for a sweep, or how far it reaches.

    Parameters
    ----------
    budget
        The budget.
    begin, end
        After how many seconds the workers begin to train, and when the sweep has ended.
    epochs
        The number of epochs of the sweep.
    is_open
        Whether the sweep may turn out to have fewer epochs.

    Examples
    --------
    >>> minute = Budget("1m", seconds=60.0)
    >>> within(minute, 4.0, 50.0, 720, is_open=False), within(minute, 10.0, 210.0, 720, is_open=True)
    ('budget=1m: enough for the whole sweep', 'budget=1m: reaches about 180 of at most 720 epochs (25%)')
    """
    assert budget.seconds is not None
    if end <= budget.seconds:
        return f"budget={budget.text}: enough for the whole sweep"
    share = (budget.seconds - begin) / (end - begin)
    if share * epochs < 1:
        return f"budget={budget.text}: over before the first epochs are trained"
    of = "at most " if is_open else ""
    reached = f"{share * epochs:,.0f} of {of}{epochs:,.0f} epochs ({share:.0%})"
    return f"budget={budget.text}: reaches about {reached}"


def in_words(seconds: float) -> str:
    """Return an estimated time in words. The longer it is, the more coarsely it is rounded.

    >>> [in_words(seconds) for seconds in (0.7, 8.4, 43, 133, 780, 7000, 50_000)]
    ['a second', '8 s', '45 s', '2 min 10 s', '13 min', '1 h 55 min', '14 h']
    """
    if seconds < 30:
        return "a second" if seconds < 1.5 else f"{seconds:.0f} s"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 300:
        minutes, rest = divmod(10 * round(seconds / 10), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if (minutes := round(seconds / 60)) < 60:
        return f"{minutes} min"
    if seconds >= 36_000:
        return f"{seconds / 3600:.0f} h"
    hours, minutes = divmod(5 * round(seconds / 300), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def seconds_to_train(
    speeds: Speeds, stacks: Sequence[PlannedStack], execution: Execution, n_jobs: int
) -> float:
    """Return how long the workers train these stacks of networks."""
    jobs = [
        Job(speeds.kind(stack), len(stack.lanes), max(stack.recipe.epochs - stack.stack.epoch, 1))
        for stack in stacks
    ]
    return seconds_left(
        jobs,
        n_jobs,
        speeds.epoch,
        segment=execution.segment_seconds,
        threads=lambda count: threads_each(n_jobs, count),
    )


# --- how fast the workers are -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """How speeds became known: from so many earlier trials, or by measuring for so many seconds, or both.

    >>> [str(source) for source in (Source(36), Source(0, 0.84), Source(1, 0.61))]
    ['from 36 earlier trials', 'measured in 0.8 s', 'from 1 earlier trial, and measured in 0.6 s']
    """

    trials: int
    seconds: float | None = None

    def __str__(self) -> str:
        parts = [f"from {plural(self.trials, 'earlier trial')}"] if self.trials else []
        parts += [] if self.seconds is None else [f"measured in {self.seconds:.1f} s"]
        return ", and ".join(parts)


def learn(speeds: Speeds, stacks: Sequence[PlannedStack], execution: Execution, n_jobs: int) -> Source | None:
    """Find out how fast these stacks of networks train, and put the speeds into `speeds`.

    Use the speeds that earlier sweeps recorded, and measure the others now. Return how the speeds became
    known; None if no speed is known.
    """
    threads = threads_each(n_jobs, len(stacks))
    kinds = recalled(speeds, stacks, threads, n_jobs)
    earlier = sum(trials for _, trials in kinds.values())
    new = [stack for stack, trials in kinds.values() if not trials]
    if not new:
        return Source(earlier)
    began = time.monotonic()
    chosen = evenly(new, MOST_KINDS)
    busy = min(n_jobs, len(stacks))
    measured = chosen * -(-busy // len(chosen))  # so that all workers train at the same time, as in the sweep
    share = MEASURED * min(n_jobs, cores_here()) / len(measured)
    tasks = [task(speeds, stack, threads, share) for stack in measured]
    known = earlier > 0
    for stack, seconds in zip(measured, timed_epochs(tasks, execution, n_jobs), strict=True):
        if seconds is not None:
            speeds.suppose(speeds.kind(stack), len(stack.lanes), threads, seconds)
            known = True
    return Source(earlier, time.monotonic() - began) if known else None


def evenly(stacks: Sequence[PlannedStack], most: int) -> list[PlannedStack]:
    """Choose at most `most` of the stacks of networks, evenly spaced in their order."""
    count = min(most, len(stacks))
    return [stacks[i * len(stacks) // count] for i in range(count)]


def task(
    speeds: Speeds, stack: PlannedStack, threads: int, seconds: float
) -> tuple[PlannedStack, int, float]:
    """Return the arguments with which :func:`fnnexp.sweeping.worker.time_epoch` measures a stack of networks.

    They are the stack, the number of rows and the seconds to train. The number of rows is such that the whole
    measurement takes about `seconds`, and that each thread has at least a chunk of rows.
    """
    n = stack.recipe.rows_to_train(stack.data.n_train)
    a_row = speeds.rough(speeds.kind(stack), len(stack.lanes), threads) / n
    rows = min(max(seconds / 3 / a_row, CHUNK * threads), MOST_ROWS)
    batch = min(stack.recipe.batching.batch_size(n), CHUNK)
    fresh = Stack.without_parameters(stack.lanes)
    return replace(stack, stack=fresh, threads=threads), -(-int(rows) // batch) * batch, seconds / 2
