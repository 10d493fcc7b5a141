"""Randomness with an address: each draw comes from a new generator made from (seed, purpose, index).

So any epoch's order or layer's weights can be drawn without the draws before them.
"""

from __future__ import annotations

import numpy as np

PURPOSES = {"weights": 1, "biases": 2, "order": 3}
"""The number of each purpose in an address. A number is never given to another purpose."""


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
