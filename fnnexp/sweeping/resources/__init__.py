"""What a sweep uses while it runs, and what it leaves behind.

- ``engine``: NumPy or numba, chosen for the whole sweep.
- ``memory``: what a worker needs, and stacks that fit.
- ``disk``: what the results take, and whether it is left.
- ``locks``: the trials that it claims, so that two sweeps do not train one trial.
- ``states``: the final states of its trials, from which the same trials with more epochs go on.
- ``leftovers``: all that ``fnnexp clean`` removes.
- ``estimates``: how long it takes, from ``speeds`` of epochs, which ``kept_speeds`` keeps here, and
  the ``makespan`` of all stacks on all workers.
"""
