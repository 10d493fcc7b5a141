"""Searches: which trials to train next, decided by the results so far.

- ``budgets``: the trials that a budget allows, and what it leaves untrained.
- ``rounds``: what the searches below share.
- ``settled``: ``until=settled``, rounds of seeds for the options that are still in question.
- ``halving``: ``search=halving``, which trains the best configurations for longer than the others.
- ``tuning``: ``tune``, which tunes options and then compares them.
- ``tpe``: ``search=tpe``, batches of configurations that Optuna asks for.
- ``study``: the file of such a search, which Optuna's dashboard opens.
"""
