"""Searches: which trials to train next, decided by the results so far.

- ``budgets``: the trials that a budget allows, and what it leaves untrained.
- ``settled``: ``until=settled``, rounds of seeds for the options that are still in question.
- ``race``: which questions are settled, after each round.
- ``tuning``: ``tune``, which tunes options and then compares them.
"""
