"""The plan of a sweep: which trials are numerically identical, which share a stack, and what comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fnnexp.config.trial import Trial
from fnnexp.data.datasets import Prepared
from fnnexp.nn.training import Lane, Recipe, Stack

USUAL_LANES = {"full": 12, "mini": 12, "sample": 48}
"""The most lanes in a stack, by batching mode: within 1.3% of the best number that was measured."""


@dataclass(frozen=True)
class PlannedStack:
    """A stack, begun or not, with what its lanes share: the recipe and the data. A worker needs no more."""

    recipe: Recipe
    data: Prepared
    stack: Stack

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The stack's lanes."""
        return self.stack.lanes

    @property
    def cost(self) -> float:
        """The training that is left, in relative units: weights times rows, plus Python's work each step."""
        architecture, rows = self.recipe.architecture, self.data.n_train
        steps = -(-rows // self.recipe.batching.batch_size(rows))
        epoch = len(self.lanes) * (rows * architecture.parameter_count * 2e-11 + steps * 1e-6) + steps * 2e-5
        return max(self.recipe.epochs - self.stack.epoch, 0.1) * epoch

    def split(self) -> list[PlannedStack]:
        """Return its two halves."""
        half = (len(self.lanes) + 1) // 2
        parts = (range(half), range(half, len(self.lanes)))
        return [replace(self, stack=self.stack.select(part)) for part in parts]


def identical(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Group trials by ``numbers_id``. A group is one lane: it trains once, and each trial records it."""
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
) -> list[PlannedStack]:
    """Return the stacks that train these trials, the most costly first.

    Parameters
    ----------
    groups
        The trials that are not done, as :func:`identical` groups them.
    max_lanes
        The most lanes in a stack; None: :data:`USUAL_LANES`.
    n_jobs
        The number of workers to keep busy: stacks are halved until there are as many.
    begun
        The stack of one lane that a checkpoint holds, by ``numbers_id``.
    """
    begun = begun or {}
    alike: dict[tuple[tuple[Recipe, str], int], list[Trial]] = {}
    for key, (trial, *_) in groups.items():
        epoch = begun[key].epoch if key in begun else 0
        alike.setdefault((trial.stack_key, epoch), []).append(trial)
    stacks = []
    for ((recipe, _), epoch), trials in alike.items():
        if recipe.batching.shuffle:  # lanes of one seed see their rows in the same order
            trials = sorted(trials, key=lambda trial: trial.seed)
        count = -(-len(trials) // (max_lanes or USUAL_LANES[recipe.batching.mode]))
        for i in range(count):
            part = trials[i * len(trials) // count : (i + 1) * len(trials) // count]
            if epoch:
                stack = _joined([begun[trial.numbers_id] for trial in part])
            else:
                stack = Stack.without_parameters([trial.lane() for trial in part])
            stacks.append(PlannedStack(recipe, part[0].data, stack))
    return spread(stacks, n_jobs)


def spread(stacks: Sequence[PlannedStack], n: int) -> list[PlannedStack]:
    """Halve the most costly stacks until there are n, or no stack can be halved; the most costly first."""
    stacks = list(stacks)
    while stacks and len(stacks) < n:
        widest = max(stacks, key=lambda stack: (len(stack.lanes) > 1, stack.cost))
        if len(widest.lanes) == 1:
            break
        stacks = [stack for stack in stacks if stack is not widest] + widest.split()
    return sorted(stacks, key=lambda stack: -stack.cost)


def _joined(parts: Sequence[Stack]) -> Stack:
    """Return one stack of several at the same epoch."""
    return Stack(
        lanes=tuple(lane for part in parts for lane in part.lanes),
        theta=np.concatenate([part.theta for part in parts]),
        slots=tuple(np.concatenate(slot) for slot in zip(*(part.slots for part in parts), strict=True)),
        epoch=parts[0].epoch,
    )
