"""What a sweep uses while it runs.

- ``engine``: NumPy or numba, chosen for the whole sweep.
- ``memory``: what a worker needs, and stacks that fit.
- ``disk``: what the results take, and whether it is left.
- ``locks``: the trials that it claims, so that two sweeps do not train one trial.
"""
