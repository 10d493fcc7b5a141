"""Metrics: quantities that every epoch records for each split, as means over the rows of the split.

Every record has the loss and the accuracy (:mod:`fnnexp.nn.pieces.losses`). To add a metric, enter its
function in :data:`METRICS`. From then on every trial records it for every split. A user's own metrics are in
:attr:`fnnexp.nn.stack.Recipe.metrics` too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.pieces.table import Table, short

Metric = Callable[[Array, Array], Array]

METRICS: Table[Metric] = Table({})
"""The added metrics by name, that is all except loss and accuracy.

``metric(P, labels)`` gets the network's outputs P (B, C) and the labels (B,) of some rows of one lane, and
returns a value for each row (B,). With cross-entropy the outputs are the softmax probabilities. The value of
a row must depend on that row alone, because training and evaluation split the rows differently. The record
omits a mean that is not finite.

>>> METRICS["confidence"] = lambda P, labels: P.max(axis=1)  # the probability of the predicted class
>>> names(validation=False)[:3]
['train_loss', 'train_accuracy', 'train_confidence']
>>> del METRICS["confidence"]
"""

LOSS_AND_ACCURACY = ("loss", "accuracy")


def names(validation: bool = True) -> list[str]:
    """Return the names of the metrics in a record, in order.

    Parameters
    ----------
    validation
        Whether rows are held out for validation.

    >>> names()
    ['train_loss', 'train_accuracy', 'val_loss', 'val_accuracy', 'test_loss', 'test_accuracy']
    """
    return [f"{split}_{metric}" for split in splits(validation) for metric in (*LOSS_AND_ACCURACY, *METRICS)]


def required_names(validation: bool = True) -> list[str]:
    """Return the names of the metrics that every record has: the loss and the accuracy of each split."""
    return [f"{split}_{metric}" for split in splits(validation) for metric in LOSS_AND_ACCURACY]


def splits(validation: bool = True) -> tuple[str, ...]:
    """Return the names of the evaluated splits, in order."""
    return ("train", "val", "test") if validation else ("train", "test")


class Names(Sequence[str]):
    """The names of the metrics in a record, looked up at each access, because users may add metrics."""

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return names()[index]

    def __len__(self) -> int:
        return len(names())

    def __iter__(self) -> Iterator[str]:
        return iter(names())


class Totals:
    """Sums of the metrics over the rows of a split, for each of K networks.

    ``own`` are the exact names (``name@checksum``) of the user's metrics.
    """

    def __init__(self, lanes: int, own: Sequence[str] = ()) -> None:
        self._loss, self._hits = np.zeros(lanes), np.zeros(lanes)
        self._metrics = {name: METRICS[name] for name in METRICS if name not in METRICS.own}
        self._metrics |= {short(name): METRICS[name] for name in own}
        self._extra = {name: np.zeros(lanes) for name in self._metrics}

    @property
    def needs_outputs(self) -> bool:
        """Whether there are added metrics, so that :meth:`add_extra` must be called."""
        return bool(self._extra)

    def add(self, lanes: slice, losses: Array, hits: Array) -> None:
        """Add the losses (k, B) and hits (k, B) of B rows to the sums of k networks.

        A hit is a row whose prediction is right.
        """
        self._loss[lanes] += np.add.reduce(losses, axis=1)
        self._hits[lanes] += np.count_nonzero(hits, axis=1)

    def add_extra(self, lanes: slice, P: Array, labels: Array) -> None:
        """Compute the metrics other than loss and accuracy, and add them to the sums of k networks.

        Parameters
        ----------
        P
            Outputs (k, B, C).
        labels
            (k, B), or (B,) for all networks.

        Raises
        ------
        ValueError
            If a metric does not return one value for each row.
        """
        labels = np.broadcast_to(labels, P.shape[:2])
        for name, total in self._extra.items():
            for k, lane in enumerate(range(*lanes.indices(len(total)))):
                values = np.asarray(self._metrics[name](P[k], labels[k]))
                if values.shape != labels[k].shape:
                    raise ValueError(
                        f"the metric '{name}' returned an array of shape {values.shape} for {len(labels[k])} "
                        "rows; return one value for each row, not their mean"
                    )
                total[lane] += np.sum(values, dtype=np.float64)

    def means(self, rows: int) -> dict[str, Array]:
        """Return the mean (K,) of each metric over this number of rows, loss and accuracy first."""
        sums = dict(zip(LOSS_AND_ACCURACY, (self._loss, self._hits), strict=True)) | self._extra
        return {name: total / rows for name, total in sums.items()}
