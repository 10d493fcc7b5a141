"""The plan of a sweep: which trials are numerically one, which share a stack, and what comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fnnexp.config.trial import Trial
from fnnexp.data.datasets import Prepared
from fnnexp.nn.training import Lane, Recipe, Stack

USUAL_LANES = {"full": 12, "mini": 12, "sample": 48}
"""The most lanes in a stack, by batching mode: within 1.3% of the best number that was measured."""


@dataclass(frozen=True)
class Planned:
    """A stack to train: what its lanes share, and the lanes, or their state where they were trained before.

    Attributes
    ----------
    epoch
        Epochs already trained.
    state
        None before the first segment: the worker draws the start.
    diagnostics
        Whether they are recorded.
    engine
        Who computes, a key of :data:`fnnexp.nn.engines.base.ENGINES`.
    """

    recipe: Recipe
    data: Prepared
    lanes: tuple[Lane, ...]
    epoch: int = 0
    state: Stack | None = None
    diagnostics: bool = False
    engine: str = "numpy"

    @property
    def cost(self) -> float:
        """What is left to do, in relative units: products of the weights with rows, and Python's steps."""
        architecture, rows = self.recipe.architecture, self.data.n_train
        steps = -(-rows // self.recipe.batching.batch_size(rows))
        work = len(self.lanes) * (rows * architecture.parameter_count * 2e-11 + steps * 1e-6) + steps * 2e-5
        return max(self.recipe.epochs - self.epoch, 0.1) * work

    def split(self) -> list[Planned]:
        """Return its two halves."""
        half = (len(self.lanes) + 1) // 2
        return [self._part(range(half)), self._part(range(half, len(self.lanes)))]

    def _part(self, which: range) -> Planned:
        lanes = tuple(self.lanes[k] for k in which)
        state = self.state.select(which) if self.state else None
        return replace(self, lanes=lanes, state=state)


def identical(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Group trials by what is computed; each group trains once and is recorded for each."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.numbers_id, []).append(trial)
    return groups


def plan(
    trials: Sequence[Trial],
    *,
    max_lanes: int | None,
    n_jobs: int,
    states: Mapping[str, Stack] | None = None,
    diagnostics: bool = False,
    engine: str = "numpy",
) -> list[Planned]:
    """Return the stacks that train these trials, the most costly first.

    Parameters
    ----------
    trials
        Those not done yet.
    max_lanes
        The most lanes in a stack; None: :data:`USUAL_LANES`.
    n_jobs
        Workers to keep busy: stacks are halved until there are as many.
    states
        A checkpointed stack of one lane under each numbers_id that has one.
    diagnostics
        Whether the stacks record them.
    engine
        Who computes the stacks.
    """
    states = states or {}
    shared: dict[tuple[tuple[Recipe, str], int], list[Trial]] = {}
    for key, group in identical(trials).items():
        epoch = states[key].epoch if key in states else 0
        shared.setdefault((group[0].stack_key, epoch), []).append(group[0])
    stacks = []
    for ((recipe, _), epoch), members in shared.items():
        if recipe.batching.shuffle:
            members = sorted(members, key=lambda trial: trial.seed)
        most = max_lanes or USUAL_LANES[recipe.batching.mode]
        count = -(-len(members) // most)
        for i in range(count):
            part = members[i * len(members) // count : (i + 1) * len(members) // count]
            lanes = tuple(trial.lane() for trial in part)
            state = _joined([states[lane.key] for lane in lanes]) if epoch else None
            stacks.append(Planned(recipe, part[0].data, lanes, epoch, state, diagnostics, engine))
    return spread(stacks, n_jobs)


def spread(stacks: Sequence[Planned], n: int) -> list[Planned]:
    """Halve the most costly stacks until there are n, or nothing is left to halve; the most costly first."""
    stacks = list(stacks)
    while stacks and len(stacks) < n:
        widest = max(stacks, key=lambda stack: (len(stack.lanes) > 1, stack.cost))
        if len(widest.lanes) == 1:
            break
        stacks.remove(widest)
        stacks += widest.split()
    return sorted(stacks, key=lambda stack: -stack.cost)


def _joined(parts: Sequence[Stack]) -> Stack:
    """Return one stack of several at the same epoch."""
    import numpy as np

    return Stack(
        lanes=tuple(lane for part in parts for lane in part.lanes),
        theta=np.concatenate([part.theta for part in parts]),
        slots=tuple(np.concatenate(slot) for slot in zip(*(part.slots for part in parts), strict=True)),
        epoch=parts[0].epoch,
    )
