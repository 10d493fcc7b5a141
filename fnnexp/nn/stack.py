"""What training reads and returns: a recipe, the networks (lanes) that share it, their state and records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fnnexp.nn.arrays import Array
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.initializers import Biases
from fnnexp.nn.pieces.losses import loss_for, target_values
from fnnexp.nn.pieces.schedules import Schedule
from fnnexp.nn.pieces.stopping import Stopping


class DataArrays(Protocol):
    """The four arrays of a data set: inputs (n, D), uint8 or float32, and labels (n,), uint8."""

    @property
    def x_train(self) -> Array: ...  # noqa: D102
    @property
    def y_train(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def x_test(self) -> Array: ...  # noqa: D102
    @property
    def y_test(self) -> NDArray[np.uint8]: ...  # noqa: D102


@dataclass(frozen=True)
class Recipe:
    """The settings that all networks of a stack share. A stack's networks train together.

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
        The ε in the cross-entropy −log(p_y + ε).
    scale
        A value of :data:`fnnexp.nn.engines.numpy_engine.SCALES`; :func:`fnnexp.nn.rows.scaling` describes it.
    validation
        How many rows to hold out for validation: the last training rows, or drawn with ``seed_split``.
    dtype
        ``float32`` or ``float64``.
    loss, output
        A key of :data:`fnnexp.nn.pieces.losses.LOSSES`, and the output function if that loss has several.
    options
        The names of the hyperparameters that are not the optimizer's, such as ``l2``. They determine which
        optional parts a step has.
    seed_split
        The seed that chooses the validation rows, the subset and the noisy labels. If it is None, the
        validation rows are the last ones, and the subset and the noise are drawn with seed 0.
    subset
        How many of the rows that are not held out are trained on; None for all.
    label_noise
        The probability with which a training label is replaced by another.
    metrics
        The exact names of the user's metrics, which every record has; see :mod:`fnnexp.nn.pieces.metrics`.
    stopping
        The rule of early stopping; None trains all epochs.
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
    stopping: Stopping | None = None
    subset: int | None = None
    label_noise: float = 0.0
    metrics: tuple[str, ...] = ()

    def rows_to_train(self, n: int) -> int:
        """Return how many of a data set's n training rows the networks are trained on."""
        return n - self.validation if self.subset is None else self.subset


@dataclass(frozen=True)
class Lane:
    """A lane: one network of a stack, with the settings in which it may differ from the others.

    Attributes
    ----------
    key
        The name of the network, copied to its records.
    seed
        The seed of its weights and of its order of rows.
    stds
        The standard deviation of each layer's initial weights; of truncated draws, before the truncation.
    hyper
        The hyperparameters as pairs (name, value): the optimizer's in its order, then those of
        :attr:`Recipe.options`.
    seeds
        The seeds that differ from ``seed``, as pairs (purpose, seed); the purposes are init, order and noise.
    distribution, mean
        The distribution of the weights, a key of :data:`fnnexp.nn.pieces.initializers.DISTRIBUTIONS`, and
        their mean.
    biases
        How to draw the biases that would otherwise start at zero; None to leave them at zero.
    schedule
        How its learning rate changes; None if it does not change. If a network of a stack has a schedule,
        ``schedule`` is in :attr:`Recipe.options`.
    """

    key: str
    seed: int
    stds: tuple[float, ...]
    hyper: tuple[tuple[str, float], ...]
    seeds: tuple[tuple[str, int], ...] = ()
    distribution: str = "normal"
    mean: float = 0.0
    biases: Biases | None = None
    schedule: Schedule | None = None

    def seed_for(self, purpose: str) -> int:
        """Return the seed of the initial weights (init), the order of rows (order) or dropout (noise)."""
        return dict(self.seeds).get(purpose, self.seed)


def smoothed_targets(recipe: Recipe, lanes: Sequence[Lane]) -> tuple[Array, Array] | None:
    """Return the target of the wrong classes and the target of the right class, with label smoothing.

    Both are (K, 1, 1), for K networks. Return None without label smoothing.
    """
    if "label_smoothing" not in recipe.options:
        return None
    smoothing = np.array([[[dict(lane.hyper)["label_smoothing"]]] for lane in lanes], recipe.dtype)
    return target_values(loss_for(recipe), smoothing, recipe.architecture.classes)


@dataclass(frozen=True)
class Best:
    """The best epoch so far of each network of a stack, by the rule of early stopping.

    Attributes
    ----------
    values, epochs
        The metric at each network's best epoch, and the number of that epoch; 0 if there is none yet.
    theta
        The parameters (K, P) at the end of these epochs.
    """

    values: tuple[float, ...]
    epochs: tuple[int, ...]
    theta: Array

    def select(self, which: Sequence[int]) -> Best:
        """Return the best epochs of only those networks that are at these positions, in this order."""
        chosen = list(which)
        return Best(
            tuple(self.values[k] for k in chosen), tuple(self.epochs[k] for k in chosen), self.theta[chosen]
        )

    @classmethod
    def joined(cls, parts: Sequence[Best]) -> Best:
        """Return the best epochs of the networks of several stacks, one stack after another."""
        return cls(
            tuple(value for part in parts for value in part.values),
            tuple(epoch for part in parts for epoch in part.epochs),
            np.concatenate([part.theta for part in parts]),
        )


@dataclass(frozen=True)
class Stack:
    """K networks that train together, after some whole epochs.

    ``theta`` (K, P) are their parameters, and ``slots`` the arrays (K, P) of the optimizer's state. With
    early stopping, ``best`` has each network's best epoch so far. Before the initial parameters are drawn, θ
    is (K, 0) and there are no slots; :func:`fnnexp.nn.training.advance` draws the parameters.
    """

    lanes: tuple[Lane, ...]
    theta: Array
    slots: tuple[Array, ...]
    epoch: int = 0
    best: Best | None = None

    @classmethod
    def without_parameters(cls, lanes: Sequence[Lane]) -> Stack:
        """Return a stack whose initial parameters are not drawn yet; a worker process draws them."""
        return cls(tuple(lanes), np.empty((len(lanes), 0)), ())

    @property
    def has_parameters(self) -> bool:
        """Whether the initial parameters have been drawn."""
        return bool(self.theta.shape[1])

    def copy(self) -> Stack:
        """Return the stack with copies of its arrays, so that training can change them in place."""
        best = self.best and replace(self.best, theta=self.best.theta.copy())
        slots = tuple(slot.copy() for slot in self.slots)
        return replace(self, theta=self.theta.copy(), slots=slots, best=best)

    def select(self, which: Sequence[int]) -> Stack:
        """Return a stack of only those networks that are at these positions, in this order."""
        chosen = list(which)
        return replace(
            self,
            lanes=tuple(self.lanes[k] for k in chosen),
            theta=self.theta[chosen],
            slots=tuple(slot[chosen] for slot in self.slots),
            best=self.best and self.best.select(chosen),
        )

    def end(self, k: int, how: str = "complete") -> End:
        """Return the :class:`End` of network k, whose training ends at this epoch; copy its parameters."""
        end = End(how, self.epoch, self.theta[k].copy())
        if self.best is None or self.best.epochs[k] == 0:
            return end
        return replace(end, best_epoch=self.best.epochs[k], best_theta=self.best.theta[k].copy())


@dataclass(frozen=True)
class End:
    """How and when the training of one network ended, and its parameters then.

    Attributes
    ----------
    how
        ``complete`` after all epochs; ``stopped`` by early stopping before that; ``diverged`` when a loss or
        a parameter was not finite.
    epoch, theta
        The last epoch, and the parameters (P,) at its end.
    best_epoch, best_theta
        With early stopping, the best epoch and the parameters (P,) at its end; None if there was none.
    """

    how: str
    epoch: int
    theta: Array
    best_epoch: int | None = None
    best_theta: Array | None = None


@dataclass(frozen=True)
class Record:
    """One network's metrics for one epoch.

    A training metric is a mean over the rows of the epoch, where each row is evaluated just before the step
    that uses it. Validation and test metrics are computed after the last step of the epoch. At epoch 0 all
    splits are evaluated with the untrained network. ``seconds`` is the wall time for the epoch of the stack,
    the networks that train together, divided by their number. ``end`` is None, or says how a network ended
    that left its stack at this epoch, because it diverged or stopped early.

    With diagnostics on (:mod:`fnnexp.nn.layer_stats`), every record includes end-of-epoch diagnostics, and an
    extra record of epoch 0 contains only diagnostics. ``seconds`` does not include the time for diagnostics.
    With ``diagnostics=full``, ``histograms`` has the counts of values as the bytes of an array (layers,
    quantities, bins) of the type :data:`fnnexp.nn.layer_stats.COUNTS`.
    """

    key: str
    epoch: int
    metrics: dict[str, float]
    seconds: float
    end: End | None = None
    histograms: bytes | None = field(default=None, repr=False)

    @property
    def diverged(self) -> bool:
        """Whether a loss or a parameter of the network is not finite."""
        return self.end is not None and self.end.how == "diverged"
