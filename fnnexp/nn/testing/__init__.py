"""Independent implementations that the numbers are tested against.

- ``reference``: the network op by op in plain float64 NumPy, written for readability.
- ``gradcheck``: comparison of every gradient with finite differences, for ``fnnexp gradcheck``.
"""
