"""Which published experiments are run at which seeds."""

from __future__ import annotations

from typing import NamedTuple

EXPERIMENT = "reproduce"
"""The MLflow experiment of the runs."""


class Share(NamedTuple):
    """Some seeds of a preset, with what is changed of it."""

    preset: str
    seeds: range
    changed: tuple[str, ...] = ()


FULL = (
    Share("tanh_mini_batch_as_published", range(6)),
    Share("tanh_mini_batch", range(6)),
    Share("relu98_full_batch", range(4)),
    Share("relu98_full_batch_as_listed", range(2)),
    Share("relu_full_batch", range(8)),
    Share("sigmoid_per_sample", range(12)),
    Share("sigmoid_per_sample", range(12), ("epochs=0",)),
)

QUICK = (
    Share("tanh_mini_batch_as_published", range(3), ("dtype=float32",)),
    Share("tanh_mini_batch", range(3), ("dtype=float32",)),
    Share("relu98_full_batch", range(1), ("epochs=100",)),
    Share("relu98_full_batch_as_listed", range(1), ("epochs=100",)),
    Share("relu98_full_batch", range(1, 3), ("epochs=25",)),
    Share("relu98_full_batch_as_listed", range(1, 3), ("epochs=25",)),
    Share("relu_full_batch", range(3), ("dtype=float32",)),
    Share("sigmoid_per_sample", range(6)),
    Share("sigmoid_per_sample", range(6), ("epochs=0",)),
)

LEFT_OUT = (
    "This is the quick run: fewer seeds, so that less is told apart; tanh_mini_batch and relu_full_batch in"
    " float32 where they were published in float64; and of relu98_full_batch 100 of 500 epochs for one seed"
    " and 25 for two, so that four of its five rows are not run."
)
