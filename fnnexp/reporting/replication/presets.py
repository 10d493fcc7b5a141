"""The published experiments that `fnnexp reproduce` runs, with their seeds."""

from __future__ import annotations

from typing import NamedTuple

EXPERIMENT = "reproduce"
"""The MLflow experiment in which the runs are recorded."""


class Share(NamedTuple):
    """Some seeds of a preset, with the overrides in `changed`."""

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
    "This is the quick run. It has fewer seeds, so it can tell less apart. It runs tanh_mini_batch and"
    " relu_full_batch in float32, although they were published in float64. Of the 500 epochs of"
    " relu98_full_batch it runs 100 for one seed and 25 for two, so four of its five rows are not run."
)
