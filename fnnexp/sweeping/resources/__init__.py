"""What a sweep uses while it runs.

- ``engine``: NumPy or numba, chosen for the whole sweep.
- ``memory``: what a worker needs, and stacks that fit.
- ``locks``: the trials that it claims, so that two sweeps do not train one trial.
"""
