"""Train small fully-connected networks in NumPy, many trials at once.

A stack is K trials whose arrays share a leading axis and train in one pass. A lane is one trial's place in a
stack. The modules, from the inside out:

- ``pieces/``: tables of choices, such as activations, initializers, losses and optimizers.
- ``network``: the architecture, its parameters, and forward and backward for K lanes.
- ``engines/``: how to multiply with images and to train one row at a time, with NumPy or with Numba.
- ``stack``: what training reads and returns: Recipe, Lane, Stack, Record.
- ``epoch``: one epoch, as a loop over batches: forward, loss, gradient, backward, step.
- ``evaluation``: metrics of a split, and one network's predictions.
- ``layer_stats``: diagnostics of each layer.
- ``training``: ``start`` and ``advance``, which the other packages call.
- ``rng``, ``arrays``: generators of random numbers; the types of arrays.
- ``testing/``: the op-by-op reference and the gradient check.

To add an activation, initializer, optimizer or metric, write a function and enter it in its table in
``pieces/``.
"""
