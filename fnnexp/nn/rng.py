"""Randomness with an address: a draw comes from (seed, purpose, index), never from a generator going on."""

from __future__ import annotations

import numpy as np

PURPOSES = {"weights": 1, "biases": 2, "order": 3}
"""A number for each purpose; a number once given is never given to another."""


def generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """Return the generator of one address.

    Parameters
    ----------
    seed
        The trial's seed, at least 0.
    purpose
        A key of :data:`PURPOSES`.
    index
        The layer for weights and biases, the epoch for an order.

    >>> first = generator(0, "weights", 0).standard_normal(2)
    >>> again = generator(0, "weights", 0).standard_normal(2)
    >>> bool((first == again).all())
    True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, PURPOSES[purpose], index))))
