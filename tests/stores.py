"""Read and make stores without fnnexp's code, by MLflow's client, SQLite and NumPy alone."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing

import numpy as np
from mlflow import MlflowClient


def runs_in(folder, experiment="digits"):
    """Return the MLflow run of each trial of an experiment, by trial id; fail if a trial has two runs."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    existing = client.get_experiment_by_name(experiment)
    runs = client.search_runs([existing.experiment_id], max_results=1000) if existing else []
    runs = [run for run in runs if "fnnexp.report" not in run.data.tags]
    by_trial = {run.data.tags["fnnexp.trial"]: run for run in runs}
    assert len(by_trial) == len(runs), "a trial has more than one run"
    return by_trial


def experiment_in(folder, name="digits"):
    """Return an experiment of a store."""
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_experiment_by_name(name)


def curve_in(folder, run_id):
    """Return the curves of a run as (metric, epoch, value) rows of the database.

    Metrics with one value for each run are omitted.
    """
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        rows = database.execute(
            "select key, step, value from metrics where run_uuid = ? and key not like 'best_%' "
            "order by key, step",
            (run_id,),
        )
        return rows.fetchall()


def points(records):
    """Return records as the (metric, epoch, value) rows that MLflow must store."""
    return sorted(
        (name, record.epoch, value)
        for record in records
        for name, value in record.metrics.items()
        if math.isfinite(value)
    )


def weights_in(folder, run_id, name="weights.npz"):
    """Return the arrays of an artifact with the weights of a run."""
    file = next((folder / "mlruns").glob(f"*/{run_id}/artifacts/{name}"))
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def results(uri, experiment):
    """Return the status, params, curve and weights of each trial, read by MLflow's client."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    by_trial = {}
    for run in runs:
        curve = {
            (name, point.step): point.value
            for name in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, name)
        }
        with np.load(client.download_artifacts(run.info.run_id, "weights.npz"), allow_pickle=False) as arrays:
            by_trial[run.data.tags["fnnexp.trial"]] = run.info.status, run.data.params, curve, dict(arrays)
    assert len(by_trial) == len(runs), "a trial has more than one run"
    return by_trial


def assert_same_results(actual, expected, same_bits):
    """Assert that two values of :func:`results` are equal, with bitwise the same weights."""
    assert actual.keys() == expected.keys()
    for trial, (*facts, weights) in expected.items():
        assert list(actual[trial][:3]) == facts
        assert same_bits(actual[trial][3], weights)


def copy_run(folder, count, experiment="digits"):
    """Copy the only run of an experiment ``count`` times, each as the run of a new trial."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        (experiment_id,) = database.execute(
            "SELECT experiment_id FROM experiments WHERE name = ?", (experiment,)
        ).fetchone()
        (original,) = database.execute(
            "SELECT run_uuid FROM runs WHERE experiment_id = ?", (experiment_id,)
        ).fetchone()
        database.execute("CREATE TEMP TABLE copies (id TEXT)")
        database.executemany("INSERT INTO copies VALUES (?)", [(f"{k:032x}",) for k in range(count)])
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            values = ", ".join("copies.id" if name == "run_uuid" else f"{table}.{name}" for name in columns)
            database.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, copies "
                "WHERE run_uuid = ?",
                (original,),
            )
        for tag in ("fnnexp.trial", "fnnexp.numbers"):
            database.execute(
                "UPDATE tags SET value = 'copy ' || run_uuid WHERE key = ? AND run_uuid IN copies", (tag,)
            )
        database.commit()


OLD = "0584bdc529eb"
"""The revision of the tables of MLflow 2.20; the next revision adds the table `logged_models`."""


def make_old_store(file, like=None, revision=OLD):
    """Make a store as an older MLflow version made it, with the runs of the file `like`.

    MLflow's migrations make the tables up to a revision, as that version had them.
    """
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = create_sqlalchemy_engine(f"sqlite:///{file.as_posix()}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(file)) as database:
        for table in TABLES_OF_RUNS if like else ():
            old_columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            database.execute("ATTACH ? AS new", (str(like),))
            new_columns = {row[1] for row in database.execute(f"PRAGMA new.table_info({table})")}
            names = ", ".join(name for name in old_columns if name in new_columns)
            database.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
            database.commit()
            database.execute("DETACH new")


TABLES_OF_RUNS = ("experiments", "experiment_tags", "runs", "tags", "params", "metrics", "latest_metrics")


def rows_of_runs(file):
    """Return the rows of runs in a file, with the columns that older MLflow versions have too."""
    columns = {"metrics": "run_uuid, key, step, value", "runs": "run_uuid, name, status, artifact_uri"}
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        return {
            table: sorted(database.execute(f"SELECT {columns.get(table, '*')} FROM {table}").fetchall())
            for table in ("runs", "params", "metrics")
        }


def revision_of(file):
    """Return the revision of the tables that a file records."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]
