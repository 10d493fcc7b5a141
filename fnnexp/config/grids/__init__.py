"""Grids: the sets of options and values that one command trains.

- ``combinations``: compose many sets of options from a few compositions of Hydra.
- ``spaces``: draw configurations instead of training all: ``search=random`` and ``search=sobol``.
"""
