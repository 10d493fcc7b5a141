"""What the numbers are tested against.

- ``reference``: the network op by op in plain float64 NumPy, written to be read.
- ``gradcheck``: every gradient held against finite differences, ``fnnexp gradcheck``.
"""
