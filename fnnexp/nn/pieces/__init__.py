"""The building blocks of a network and its training, each a table of choices in a module.

- ``activations``: ``ACTIVATIONS``, pairs of a function and its derivative.
- ``initializers``: ``INITIALIZERS``, formulas from a layer's shape to a standard deviation.
- ``losses``: ``LOSSES``, each with its output function and its gradient.
- ``metrics``: ``METRICS``, which are recorded in addition to loss and accuracy.
- ``optimizers``: ``OPTIMIZERS``, update rules with the names of their hyperparameters.
- ``regularizers``: penalties on the weights, dropout, and bounds on norms.
- ``schedules``: ``SCHEDULES``, factors of the learning rate.
- ``batching``: the size of the batches of an epoch, and the order of its rows.
- ``stopping``: when training ends early.
"""
