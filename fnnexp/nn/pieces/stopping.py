"""Early stopping: the rule that ends a network's training when a metric no longer improves.

The rule is that of Prechelt (1998), "Early stopping - but when?", in the form of Keras' ``EarlyStopping``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

METRICS = ("val_loss", "val_accuracy", "train_loss", "train_accuracy")
"""The metrics that can decide when to stop. Those of the test images can not."""


@dataclass(frozen=True)
class Stopping:
    """Stop the training of a network after ``patience`` epochs in which a metric did not improve.

    The metric of an epoch is better than the best before it if

        value + min_delta < best  (a loss),    value − min_delta > best  (an accuracy).

    Training stops at the end of the first epoch e with e − (the best epoch) ≥ patience. The first epoch is
    always an improvement.

    Attributes
    ----------
    patience
        How many epochs may pass without an improvement, at least 1.
    min_delta
        An improvement by this much or less does not count.
    metric
        One of :data:`METRICS`.
    """

    patience: int
    min_delta: float = 0.0
    metric: str = "val_loss"

    @property
    def worst(self) -> float:
        """The worst value of the metric: ∞ for a loss, −∞ for an accuracy."""
        return -math.inf if self.metric.endswith("accuracy") else math.inf

    def improves(self, value: float, best: float) -> bool:
        """Return whether a value is better than the best so far by more than ``min_delta``.

        >>> Stopping(1).improves(0.5, 0.6), Stopping(1, 0.25).improves(0.5, 0.6)
        (True, False)
        """
        if self.metric.endswith("accuracy"):
            return value - self.min_delta > best
        return value + self.min_delta < best

    def best_of(self, curve: Iterable[tuple[int, Mapping[str, float]]]) -> tuple[float, int]:
        """Return the best value of a metric's curve, and the epoch with this value (0 for an empty curve).

        >>> Stopping(3).best_of((e, {"val_loss": loss}) for e, loss in [(1, 0.5), (2, 0.25), (3, 0.25)])
        (0.25, 2)
        """
        best, best_epoch = self.worst, 0
        for epoch, metrics in curve:
            if epoch > 0 and self.improves(metrics[self.metric], best):
                best, best_epoch = metrics[self.metric], epoch
        return best, best_epoch

    def is_due(self, epoch: int, best_epoch: int) -> bool:
        """Return whether training stops at the end of an epoch, given the best epoch so far."""
        return epoch - best_epoch >= self.patience
