"""Random generators by address: each draw uses a new generator, seeded with (seed, purpose, index).

So the order of any epoch and the weights of any layer can be drawn without making the earlier draws.
"""

from __future__ import annotations

import numpy as np

PURPOSES = {
    "weights": 1, "biases": 2, "order": 3, "dropout": 4, "split": 7, "subset": 8, "labels": 9,
    "search": 10,
}  # fmt: skip
"""The number that stands for each purpose in the seed. Never give a number to another purpose."""


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """Return a new random generator for (seed, purpose, index): the same three always give the same draws.

    Parameters
    ----------
    seed
        The trial's seed, at least 0; 0 for a search.
    purpose
        A key of :data:`PURPOSES`.
    index
        The layer, for weights and biases; the epoch, for an order; the step and the layer, for dropout; 0 for
        the choice of rows and labels; for a search, a hash of the key whose value it draws.

    >>> first = generator(0, "weights", 0).standard_normal(2)
    >>> second = generator(0, "weights", 0).standard_normal(2)
    >>> bool((first == second).all())
    True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, PURPOSES[purpose], *index))))
