"""The plan of a sweep: which trials are numerically identical, which share a stack, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fnnexp.config.trial import Trial
from fnnexp.data.datasets import Prepared
from fnnexp.nn.training import Best, Lane, Recipe, Stack
from fnnexp.pieces.registry import Shipped, shipped

USUAL_LANES = {"full": 12, "mini": 12, "sample": 48}
"""The largest number of lanes in a stack, by batching mode. No other number was more than 1.3% faster."""


@dataclass(frozen=True)
class PlannedStack:
    """A stack of networks with everything that a worker needs to train it.

    ``recipe`` and ``data`` are shared by all its networks, and ``pieces`` are the user's own. ``threads`` is
    the number of threads that may train the stack. It changes no result. Without ``keeps_weights``, the
    weights of networks that end are not returned. ``upto`` is the epoch at which training stops for now; None
    trains all epochs of the recipe.
    """

    recipe: Recipe
    data: Prepared
    stack: Stack
    pieces: Shipped | None = None
    threads: int = 1
    keeps_weights: bool = True
    upto: int | None = None

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The stack's lanes, one for each network that it trains."""
        return self.stack.lanes

    @property
    def last_epoch(self) -> int:
        """The epoch at which training stops."""
        return last_epoch(self.recipe, self.upto)

    @property
    def is_there(self) -> bool:
        """Whether the stack has already reached `upto`, and would need a later `upto` to train further."""
        return 0 < self.last_epoch <= self.stack.epoch < self.recipe.epochs

    @property
    def kind(self) -> tuple[Recipe, str]:
        """What decides how long an epoch of one network takes: the recipe, and the data (by its checksum)."""
        return self.recipe, self.data.checksum

    @property
    def epoch_cost(self) -> float:
        """The cost of an epoch, in relative units: weights times rows, plus Python's overhead per step."""
        architecture, rows = self.recipe.architecture, self.recipe.rows_to_train(self.data.n_train)
        steps = -(-rows // self.recipe.batching.batch_size(rows))
        return len(self.lanes) * (rows * architecture.parameter_count * 2e-11 + steps * 1e-6) + steps * 2e-5

    @property
    def cost(self) -> float:
        """The cost of the remaining epochs. With ``epochs=0``, the evaluation costs a tenth of an epoch."""
        return max(self.last_epoch - self.stack.epoch, 0.1) * self.epoch_cost

    def split(self) -> list[PlannedStack]:
        """Return two stacks, each with half of the networks."""
        middle = (len(self.lanes) + 1) // 2
        halves = (range(middle), range(middle, len(self.lanes)))
        return [replace(self, stack=self.stack.select(half)) for half in halves]


def last_epoch(recipe: Recipe, upto: int | None) -> int:
    """Return the epoch at which training stops: the recipe's last, or `upto` if that comes before it."""
    return recipe.epochs if upto is None else min(upto, recipe.epochs)


def identical(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Return the trials grouped by ``numbers_id``.

    The trials of a group are numerically identical. One network is trained for all of them, and the run of
    each trial records the results.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.numbers_id, []).append(trial)
    return groups


def plan(
    groups: Mapping[str, Sequence[Trial]],
    *,
    max_lanes: int | None,
    n_jobs: int,
    begun: Mapping[str, Stack] | None = None,
    upto: int | None = None,
) -> list[PlannedStack]:
    """Return the stacks of networks that train these trials, the most expensive first.

    Parameters
    ----------
    groups
        The trials to train, as :func:`identical` groups them.
    max_lanes
        The largest number of lanes in a stack; None means :data:`USUAL_LANES`.
    n_jobs
        The number of workers. Stacks are halved until there is a stack for every worker.
    begun
        Stacks of a single lane that do not start at epoch 0, by ``numbers_id``. Stacks without parameters are
        not joined with stacks that have parameters.
    upto
        The epoch at which the stacks stop; None is the last of their recipe.
    """
    begun = begun or {}
    stackable: dict[tuple[tuple[Recipe, str], int, bool], list[Trial]] = {}
    for key, (trial, *_) in groups.items():
        epoch, restored = (begun[key].epoch, begun[key].has_parameters) if key in begun else (0, False)
        stackable.setdefault((trial.stack_key, epoch, restored), []).append(trial)
    stacks, pieces = [], shipped()
    for ((recipe, _), epoch, _), trials in stackable.items():
        if recipe.batching.shuffle:  # keep lanes with the same order of rows together
            trials = sorted(trials, key=lambda trial: trial.seed_for("order"))
        count = -(-len(trials) // (max_lanes or USUAL_LANES[recipe.batching.mode]))
        for i in range(count):
            members = trials[i * len(trials) // count : (i + 1) * len(trials) // count]
            if epoch:
                stack = joined([begun[trial.numbers_id] for trial in members])
            else:
                stack = Stack.without_parameters([trial.lane() for trial in members])
            stacks.append(PlannedStack(recipe, members[0].data, stack, pieces, upto=upto))
    return spread(stacks, n_jobs)


def spread(stacks: Sequence[PlannedStack], n: int) -> list[PlannedStack]:
    """Return at least ``n`` stacks, the most expensive first, by halving the most expensive ones.

    Fewer stacks are returned only if each of them has a single lane (network).
    """
    stacks = list(stacks)
    while stacks and len(stacks) < n:
        widest = max(stacks, key=lambda stack: (len(stack.lanes) > 1, stack.cost))
        if len(widest.lanes) == 1:
            break
        stacks = [stack for stack in stacks if stack is not widest] + widest.split()
    return sorted(stacks, key=lambda stack: -stack.cost)


def in_order(stacks: Iterable[PlannedStack], groups: Mapping[str, Sequence[Trial]]) -> list[PlannedStack]:
    """Return the stacks in the order of their first trial; stacks that have trained before come first."""
    position = {key: i for i, key in enumerate(groups)}

    def place(planned: PlannedStack) -> tuple[bool, int]:
        return planned.stack.epoch == 0, min(position[lane.key] for lane in planned.lanes)

    return sorted(stacks, key=place)


def joined(stacks: Sequence[Stack]) -> Stack:
    """Return one stack with the lanes (networks) of several stacks that are at the same epoch."""
    bests = [stack.best for stack in stacks if stack.best is not None]
    return Stack(
        lanes=tuple(lane for stack in stacks for lane in stack.lanes),
        theta=np.concatenate([stack.theta for stack in stacks]),
        slots=tuple(np.concatenate(slot) for slot in zip(*(stack.slots for stack in stacks), strict=True)),
        epoch=stacks[0].epoch,
        best=Best.joined(bests) if bests else None,
    )
