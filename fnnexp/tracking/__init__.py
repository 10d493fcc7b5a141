"""MLflow: the store, its only writer, and its UI.

- ``store``, ``retry``: find the store, and wait while it is away.
- ``schema``: create and upgrade a SQLite store through a copy, never in place.
- ``writer``: the Tracker, which writes a sweep's runs.
- ``run_format``, ``artifacts``, ``environment``: the contents of a run.
- ``reader``: all reading.
- ``sql``: MLflow's tables and other private parts, each with a fallback.
- ``experiment``, ``saved_views``: an experiment's page in MLflow's UI.
- ``ui``: ``fnnexp ui``.
"""
