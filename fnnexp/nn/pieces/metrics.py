"""Metrics: what an epoch records of each split, each a mean over the split's rows.

Every record has the loss and the accuracy, which come with the gradient (:mod:`fnnexp.nn.pieces.losses`). To
add a metric, enter its function in :data:`METRICS`: from then on every trial records it for every split.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fnnexp.nn.arrays import Array

Metric = Callable[[Array, Array], Array]

METRICS: dict[str, Metric] = {}
"""The metrics beside loss and accuracy, by name.

``metric(P, labels)`` takes the softmax probabilities P (B, C) and the labels (B,) of some rows of one lane,
and returns each row's value (B,). A row's value must depend on that row alone, for rows are cut differently
while training and while evaluating. A mean that is not finite is left out of the record.

>>> METRICS["confidence"] = lambda P, labels: P.max(axis=1)  # how sure the network is of what it predicts
>>> names(validation=False)[:3]
['train_loss', 'train_accuracy', 'train_confidence']
>>> del METRICS["confidence"]
"""

LOSS_AND_ACCURACY = ("loss", "accuracy")


def names(validation: bool = True) -> list[str]:
    """Return the names of the metrics of a record, in their order.

    Parameters
    ----------
    validation
        Whether rows are held out for validation.

    >>> names()
    ['train_loss', 'train_accuracy', 'val_loss', 'val_accuracy', 'test_loss', 'test_accuracy']
    """
    return [f"{split}_{metric}" for split in splits(validation) for metric in (*LOSS_AND_ACCURACY, *METRICS)]


def required_names(validation: bool = True) -> list[str]:
    """Return the names that every record has, whichever metrics were in :data:`METRICS` when it was made."""
    return [f"{split}_{metric}" for split in splits(validation) for metric in LOSS_AND_ACCURACY]


def splits(validation: bool = True) -> tuple[str, ...]:
    """Return the names of the splits that are measured, in their order."""
    return ("train", "val", "test") if validation else ("train", "test")


class Totals:
    """Running sums of the metrics over the rows of a split, for K lanes."""

    def __init__(self, lanes: int) -> None:
        self._loss, self._hits = np.zeros(lanes), np.zeros(lanes)
        self._others = {name: np.zeros(lanes) for name in METRICS}

    @property
    def needs_probabilities(self) -> bool:
        """Whether :meth:`add_others` has anything to add."""
        return bool(self._others)

    def add(self, lanes: slice, losses: Array, hits: Array) -> None:
        """Add the losses (k, B) and hits (k, B) of some rows, for these k lanes."""
        self._loss[lanes] += np.add.reduce(losses, axis=1)
        self._hits[lanes] += np.count_nonzero(hits, axis=1)

    def add_others(self, lanes: slice, P: Array, labels: Array) -> None:
        """Add the metrics of :data:`METRICS` for these k lanes.

        Parameters
        ----------
        P
            Probabilities (k, B, C).
        labels
            (k, B), or (B,) for all lanes.

        Raises
        ------
        ValueError
            When a metric returns anything but a value for each row.
        """
        labels = np.broadcast_to(labels, P.shape[:2])
        for name, total in self._others.items():
            for k, lane in enumerate(range(*lanes.indices(len(total)))):
                values = np.asarray(METRICS[name](P[k], labels[k]))
                if values.shape != labels[k].shape:
                    raise ValueError(
                        f"the metric '{name}' returned an array of shape {values.shape} for {len(labels[k])} "
                        "rows; return a value for each row, not their mean"
                    )
                total[lane] += np.sum(values, dtype=np.float64)

    def means(self, rows: int) -> dict[str, Array]:
        """Return each metric's mean (K,) over so many rows, loss and accuracy first."""
        sums = dict(zip(LOSS_AND_ACCURACY, (self._loss, self._hits), strict=True)) | self._others
        return {name: total / rows for name, total in sums.items()}
