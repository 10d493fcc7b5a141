"""What training reads and returns: a recipe, the lanes that share it, their state, and their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.schedules import Schedule


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
    """The settings that all lanes of a stack share.

    Attributes
    ----------
    architecture, batching
        The network's architecture; how an epoch is split into batches.
    optimizer
        A key of :data:`fnnexp.nn.pieces.optimizers.OPTIMIZERS`.
    epochs
        Epochs to train. With 0, only the untrained network is evaluated.
    reduction
        Whether a step uses the ``mean`` or the ``sum`` of the gradients of a batch.
    epsilon
        The ε in the loss −log(p_y + ε).
    scale
        ``unit``: pixels divided by 255; ``raw``: pixels from 0 to 255.
    validation
        How many rows to hold out for validation, from the end of the training rows.
    dtype
        ``float32`` or ``float64``.
    loss, output
        A key of the table of losses, and the output function of ``mse``.
    options
        The names of the lanes' numbers beyond the optimizer's, such as ``l2``: which parts a step has.
    seed_split
        The seed that chooses the validation rows, a subset and noisy labels; None for the file's order.
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
    loss: str = "cross_entropy"
    output: str | None = None
    options: tuple[str, ...] = ()
    seed_split: int | None = None


@dataclass(frozen=True)
class Lane:
    """One trial's place in a stack, with the settings that may differ between lanes.

    Attributes
    ----------
    key
        The name of the lane, copied to its records.
    seed
        The seed of its weights and of its order of rows.
    stds
        The standard deviation of each layer's initial weights.
    hyper
        The hyperparameters as pairs (name, value): the optimizer's in its order, then those of
        :attr:`Recipe.options`.
    seeds
        The seeds that differ from ``seed``, as pairs (purpose, seed); the purposes are init, order and noise.
    schedule
        How its learning rate changes; None: not at all. If a lane of a stack has a schedule, ``schedule`` is
        in :attr:`Recipe.options`.
    """

    key: str
    seed: int
    stds: tuple[float, ...]
    hyper: tuple[tuple[str, float], ...]
    seeds: tuple[tuple[str, int], ...] = ()
    schedule: Schedule | None = None

    def seed_for(self, purpose: str) -> int:
        """Return the seed for init, order or noise."""
        return dict(self.seeds).get(purpose, self.seed)


@dataclass(frozen=True)
class Stack:
    """K lanes after some whole epochs: their parameters θ (K, P), and the optimizer's slots (K, P).

    A stack without parameters has θ (K, 0) and no slots; :func:`fnnexp.nn.training.advance` draws them.
    """

    lanes: tuple[Lane, ...]
    theta: Array
    slots: tuple[Array, ...]
    epoch: int = 0

    @classmethod
    def without_parameters(cls, lanes: Sequence[Lane]) -> Stack:
        """Return a stack whose initial parameters are not drawn yet."""
        return cls(tuple(lanes), np.empty((len(lanes), 0)), ())

    @property
    def has_parameters(self) -> bool:
        """Whether the initial parameters have been drawn."""
        return bool(self.theta.shape[1])

    def select(self, which: Sequence[int]) -> Stack:
        """Return a stack of these lanes only, in this order."""
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

    A training metric is a mean over the rows of the epoch, where each row is evaluated just before the step
    that uses it. Validation and test metrics are computed after the last step of the epoch. At epoch 0 all
    splits are evaluated with the untrained network. ``seconds`` is the stack's wall time for the epoch
    divided by its number of lanes. ``theta`` (P,) is None, or the last parameters of a lane that diverged.

    With diagnostics on (:mod:`fnnexp.nn.layer_stats`), every record includes end-of-epoch diagnostics, and an
    extra record of epoch 0 contains only diagnostics. ``seconds`` does not include the time for diagnostics.
    """

    key: str
    epoch: int
    metrics: dict[str, float]
    seconds: float
    theta: Array | None = None

    @property
    def diverged(self) -> bool:
        """Whether a loss or a parameter of the lane is not finite."""
        return self.theta is not None
