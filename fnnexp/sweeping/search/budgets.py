"""Budgets: train the first trials of a sweep, or train until a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from fnnexp.config.execution import Budget
from fnnexp.config.trial import Trial
from fnnexp.errors import ConfigError, plural


class Purse:
    """A budget of trials, epochs or time, from which the trials of a sweep are paid one after another.

    Trials that were done before are paid too. So which trials are trained does not depend on the number of
    workers, nor on how often the command was started.

    Parameters
    ----------
    budget
        The budget; None has no limit.
    began
        When the command began, by `clock`.
    clock
        Returns the seconds since some moment.
    """

    def __init__(
        self, budget: Budget | None, began: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget = budget
        self.clock = clock
        seconds = None if budget is None else budget.seconds
        self.deadline = None if seconds is None else began + seconds
        self._trials = math.inf if budget is None or budget.trials is None else budget.trials
        self._epochs = math.inf if budget is None or budget.epochs is None else budget.epochs

    def take(self, trials: Sequence[Trial], *, since: int = 0, upto: int | None = None) -> list[Trial]:
        """Pay for as many of these trials, in their order, as the rest of the budget allows; return those.

        The epochs up to `since` were paid before. Each trial is trained up to the epoch `upto`; None is its
        last.
        """
        for count, trial in enumerate(trials):
            epochs = max(trial.recipe.epochs if upto is None else upto, 1) - since
            new = since == 0
            if self._trials < new or self._epochs < epochs:
                self._trials = self._epochs = 0  # a shorter trial that comes later gets nothing either
                return list(trials[:count])
            self._trials -= new
            self._epochs -= epochs
        return list(trials)

    @property
    def is_late(self) -> bool:
        """Whether the time of the budget is over."""
        return self.deadline is not None and self.clock() >= self.deadline

    def refuse_too_little(self, trials: Sequence[Trial], upto: int | None = None) -> None:
        """Raise if the budget is too small to train the first trial to its end, or to the epoch `upto`."""
        if trials and self._epochs < (epochs := max(trials[0].recipe.epochs if upto is None else upto, 1)):
            assert self.budget is not None
            has = "has" if upto is None else "is first trained for"
            raise ConfigError(
                f"budget={self.budget.text}: a trial {has} {plural(epochs, 'epoch')}; write "
                f"budget={epochs}epochs or more, or fewer epochs a trial"
            )


def by_seed(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials in the order of their seeds: all trials of the grid's first seed come first.

    If a budget ends the sweep, options can still be compared: all have the same seeds but for the last.
    """
    rank = {seed: i for i, seed in enumerate(dict.fromkeys(trial.seed for trial in trials))}
    return sorted(trials, key=lambda trial: rank[trial.seed])
