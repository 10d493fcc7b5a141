"""The choices that a network is made of, one file each.

- ``activations``: ``ACTIVATIONS``, each with forward and slope.
- ``initializers``: ``INITIALIZERS``, each a standard deviation by a layer's shape.
- ``losses``: softmax cross-entropy and its gradient.
- ``metrics``: ``METRICS``, what is recorded beside loss and accuracy.
- ``optimizers``: ``OPTIMIZERS``, each an update rule with its hyperparameters.
- ``batching``: how an epoch is cut into batches, and in which order.
"""
