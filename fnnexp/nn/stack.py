"""What is trained and what comes out: a recipe, the lanes that share it, their state, and their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching


class DataArrays(Protocol):
    """The four arrays of a data set: images (n, D) and labels (n,), all uint8."""

    @property
    def x_train(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def y_train(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def x_test(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def y_test(self) -> NDArray[np.uint8]: ...  # noqa: D102


@dataclass(frozen=True)
class Recipe:
    """What all lanes of a stack share.

    Attributes
    ----------
    architecture, batching
        The network's shape; how an epoch is cut into batches.
    optimizer
        A key of :data:`fnnexp.nn.pieces.optimizers.OPTIMIZERS`.
    epochs
        Epochs to train; 0 records the untrained network.
    reduction
        ``mean`` or ``sum`` of the batch's gradients.
    epsilon
        ε of the loss −log(p_y + ε).
    scale
        ``unit`` or ``raw`` inputs.
    validation
        How many of the last training rows are held out.
    dtype
        ``float32`` or ``float64``.
    """

    architecture: Architecture
    batching: Batching
    optimizer: str
    epochs: int
    reduction: str = "mean"
    epsilon: float = 0.0
    scale: str = "unit"
    validation: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Lane:
    """What one lane has for itself.

    Attributes
    ----------
    key
        Its name, carried along and not interpreted.
    seed
        The address of its draws.
    stds
        The standard deviation of each layer's weights at the start.
    hyper
        The optimizer's hyperparameters as (name, value), in the optimizer's order.
    """

    key: str
    seed: int
    stds: tuple[float, ...]
    hyper: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Stack:
    """K lanes after some whole epochs: θ (K, P) and the optimizer's slots, each (K, P).

    A stack that has not begun has θ (K, 0) and no slots; :func:`fnnexp.nn.training.advance` draws its start.
    """

    lanes: tuple[Lane, ...]
    theta: Array
    slots: tuple[Array, ...]
    epoch: int = 0

    @classmethod
    def without_parameters(cls, lanes: Sequence[Lane]) -> Stack:
        """Return a stack whose start is not drawn yet."""
        return cls(tuple(lanes), np.empty((len(lanes), 0)), ())

    @property
    def has_parameters(self) -> bool:
        """Whether its start is drawn."""
        return bool(self.theta.shape[1])

    def select(self, which: Sequence[int]) -> Stack:
        """Return the stack of these lanes, in this order."""
        chosen = list(which)
        return replace(
            self,
            lanes=tuple(self.lanes[k] for k in chosen),
            theta=self.theta[chosen],
            slots=tuple(slot[chosen] for slot in self.slots),
        )


@dataclass(frozen=True)
class Record:
    """One lane's metrics for one epoch.

    Training metrics are means over the epoch's rows, each measured before the step that the row took part in;
    validation and test are measured after the epoch's last step. At epoch 0 all are measured on the untrained
    network. ``seconds`` is the stack's wall time for the epoch, divided by its lanes. A lane that diverged
    leaves with its last parameters, ``theta`` (P,).

    With diagnostics on (:mod:`fnnexp.nn.layer_stats`), each record also holds those of its epoch's end, and
    an extra record of epoch 0, before any training, holds nothing else. ``seconds`` does not count them.
    """

    key: str
    epoch: int
    metrics: dict[str, float]
    seconds: float
    theta: Array | None = None

    @property
    def diverged(self) -> bool:
        """Whether one of the lane's losses or parameters was no longer finite."""
        return self.theta is not None
