"""The building blocks of a network and its training, each a table of choices in a module.

- ``activations``: ``ACTIVATIONS``, pairs of a function and its derivative.
- ``initializers``: ``INITIALIZERS``, formulas from a layer's shape to a standard deviation.
- ``losses``: softmax cross-entropy and its gradient.
- ``metrics``: ``METRICS``, which are recorded in addition to loss and accuracy.
- ``optimizers``: ``OPTIMIZERS``, update rules with the names of their hyperparameters.
- ``batching``: the size of the batches of an epoch, and the order of its rows.
"""
