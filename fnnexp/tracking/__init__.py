"""MLflow: the store, the only writer to it, and its UI.

- ``store``, ``retry``: where the store is, and waiting for one that is away.
- ``schema``: a SQLite store is made, and an old one upgraded, beside its place and never in it.
- ``writer``: the Tracker, which writes a sweep's runs.
- ``run_format``, ``artifacts``, ``environment``: what a run holds.
- ``reader``: everything that is read.
- ``sql``: MLflow's tables and other private parts, each with a fall-back.
- ``experiment``, ``saved_views``: what MLflow's UI shows of an experiment.
- ``ui``: ``fnnexp ui``.
"""
