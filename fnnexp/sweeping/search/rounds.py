"""What searches share: they train some trials, look at the results, and train others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from rich.console import Console

from fnnexp.config.compose import Sweep
from fnnexp.config.trial import Trial
from fnnexp.console import print_plain
from fnnexp.sweeping.runs import Outcome
from fnnexp.sweeping.search.budgets import Purse
from fnnexp.tracking.writer import Tracker

Train = Callable[[Sequence[Trial], bool, int | None], Outcome]
"""A function that trains some trials, except those that are done, and returns what became of them. The second
argument is whether the sweep has trained before; the third is the epoch at which to stop, None for the last.
"""


class Rounds(ABC):
    """A sweep whose results decide what is trained next.

    Parameters
    ----------
    requested
        The sweep. Its trials are those of the first round, or all that may be trained.
    train
        Trains trials; see :data:`Train`.
    tracker
        Writes the runs.
    purse
        What is left of the budget.
    console
        Where to print.

    Attributes
    ----------
    trials
        The trials of the sweep so far, trained now or earlier.
    outcome
        What became of these trials.
    """

    def __init__(
        self, requested: Sweep, train: Train, tracker: Tracker, purse: Purse, console: Console
    ) -> None:
        self.requested, self.train, self.tracker = requested, train, tracker
        self.purse, self.console = purse, console
        self.trials: list[Trial] = []
        self.outcome = Outcome()

    @abstractmethod
    def run(self) -> Outcome:
        """Train round after round, as far as the budget reaches, and print the answer."""

    def _trained(self, wanted: Sequence[Trial]) -> bool:
        """Train the trials of a round; return False if the budget ran out before all of them had ended."""
        payable, is_later = self.purse.take(wanted), bool(self.trials)
        self.trials += payable
        if payable:
            self.outcome.add(self.train(payable, is_later, None))
        self.outcome.not_run += len(wanted) - len(payable)
        return len(payable) == len(wanted) and not self._is_stopped

    def _is_late(self, left: int) -> bool:
        """Return whether the time of the budget is over; if so, count `left` more trials as not run."""
        if self.purse.is_late:
            self.outcome.out_of_time = True
            self.outcome.not_run += left
        return self.purse.is_late

    @property
    def _is_stopped(self) -> bool:
        """Whether no round can follow: the sweep was stopped, or another sweep trains some of its trials."""
        outcome = self.outcome
        return bool(outcome.interrupted or outcome.stopped or outcome.out_of_time or outcome.elsewhere)

    def _say(self, line: str) -> None:
        print_plain(self.console, line)
