"""Grids: which jobs a sweep has.

- ``axes``: the keys of a grid and their values; keys that are swept together (``zip``).
- ``conditions``: sentences about the jobs that a grid keeps (``where``).
- ``combinations``: compose many sets of options from a few compositions of Hydra.
- ``swept``: the values of each key, and how many jobs they make.
- ``spaces``: draw configurations instead of training all, as ``search=random`` and others do.
- ``tuned``: what a tuned comparison compares, tunes and draws (``compare`` with ``tune``).
"""
