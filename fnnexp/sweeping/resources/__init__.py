"""What a sweep uses while it runs, and what it leaves behind.

- ``engine``: NumPy or numba, chosen for the whole sweep.
- ``memory``: what a worker needs, and stacks that fit.
- ``disk``: how much space the results take, and whether so much is free.
- ``locks``: claims on trials, so that two sweeps do not train one trial.
- ``states``: the final states of its trials, from which the same trials with more epochs go on.
- ``leftovers``: all that ``fnnexp clean`` removes.
- ``estimates``: how long a sweep takes, from the ``speeds`` of epochs, which ``kept_speeds`` keeps on this
  machine, and from ``makespan``, the time of all stacks on all workers.
"""
