"""The numbers: small fully-connected networks, trained K lanes at once, in NumPy and nothing else.

From the inside out:

- ``pieces/``: the tables of choices: activations, initializers, losses, metrics, optimizers, batching.
- ``network``: the architecture, its parameters, and forward and backward for K lanes.
- ``engines/``: the ways to multiply with images and to train one row at a time: NumPy's and Numba's.
- ``stack``: what is trained and what comes out: Recipe, Lane, Stack, Record.
- ``epoch``: one epoch: the loop over batches, which takes forward, loss, gradient, backward and step.
- ``evaluation``: metrics of a split, and one network's predictions.
- ``layer_stats``: the diagnostics of each layer.
- ``training``: ``start`` and ``advance``, the way in for everything outside.
- ``rng``, ``arrays``: where every random draw comes from; the types of arrays.
- ``testing/``: the op-by-op reference and the gradient check.

A new activation, initializer, optimizer or metric is a function and an entry in its table in ``pieces/``.
"""
