"""What a sweep uses while it runs.

- ``locks``: the trials that it claims, so that two sweeps do not train one trial.
"""
