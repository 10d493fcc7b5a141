"""What a store holds, read by means that know nothing of ours: MLflow's client, SQLite, NumPy."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing

import numpy as np
from mlflow import MlflowClient


def runs_in(folder, experiment="digits"):
    """Return MLflow's runs of an experiment's trials by id; a trial with two of them fails."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    there = client.get_experiment_by_name(experiment)
    found = client.search_runs([there.experiment_id], max_results=1000) if there else []
    found = [one for one in found if "fnnexp.report" not in one.data.tags]
    by_trial = {one.data.tags["fnnexp.trial"]: one for one in found}
    assert len(by_trial) == len(found), "a trial has more than one run"
    return by_trial


def curve_in(folder, run_id):
    """Return (metric, epoch, value) of a run as rows of the database, which knows nothing of our reading.

    What is one value a run, and no curve, is left out.
    """
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        rows = database.execute(
            "select key, step, value from metrics where run_uuid = ? and key not like 'best_%' "
            "order by key, step",
            (run_id,),
        )
        return rows.fetchall()


def points(records):
    """Return (metric, epoch, value) of records, as MLflow is to hold them."""
    return sorted(
        (name, record.epoch, value)
        for record in records
        for name, value in record.metrics.items()
        if math.isfinite(value)
    )


def weights_in(folder, run_id):
    file = next((folder / "mlruns").glob(f"*/{run_id}/artifacts/weights.npz"))
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def results(uri, experiment):
    """Return each trial's status, params, curve and weights as MLflow's own client gives them."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    found = {}
    for one in runs:
        curve = {
            (name, point.step): point.value
            for name in one.data.metrics
            for point in client.get_metric_history(one.info.run_id, name)
        }
        with np.load(client.download_artifacts(one.info.run_id, "weights.npz"), allow_pickle=False) as arrays:
            found[one.data.tags["fnnexp.trial"]] = one.info.status, one.data.params, curve, dict(arrays)
    assert len(found) == len(runs), "a trial has more than one run"
    return found


def assert_same_results(found, expected, same_bits):
    """Compare two answers of :func:`results`."""
    assert found.keys() == expected.keys()
    for trial, (*facts, weights) in expected.items():
        assert list(found[trial][:3]) == facts
        assert same_bits(found[trial][3], weights)


def copy_run(folder, count, experiment="digits"):
    """Copy the one finished run of a store ``count`` times, each as the run of a trial of its own."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        (experiment_id,) = database.execute(
            "SELECT experiment_id FROM experiments WHERE name = ?", (experiment,)
        ).fetchone()
        (model,) = database.execute(
            "SELECT run_uuid FROM runs WHERE experiment_id = ?", (experiment_id,)
        ).fetchone()
        database.execute("CREATE TEMP TABLE copies (id TEXT)")
        database.executemany("INSERT INTO copies VALUES (?)", [(f"{k:032x}",) for k in range(count)])
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            taken = ", ".join("copies.id" if name == "run_uuid" else f"{table}.{name}" for name in columns)
            database.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {taken} FROM {table}, copies "
                "WHERE run_uuid = ?",
                (model,),
            )
        for tag in ("fnnexp.trial", "fnnexp.numbers"):
            database.execute(
                "UPDATE tags SET value = 'copy ' || run_uuid WHERE key = ? AND run_uuid IN copies", (tag,)
            )
        database.commit()


OLD = "0584bdc529eb"
"""The revision of MLflow 2.20's tables; the next one makes the table `logged_models`."""


def make_old_store(file, like=None, revision=OLD):
    """Make a store as an older MLflow did; its runs are those of another file.

    MLflow's own steps make the tables, up to a revision, as they did in that version.
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
        for table in HELD if like else ():
            there = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            database.execute("ATTACH ? AS new", (str(like),))
            here = {row[1] for row in database.execute(f"PRAGMA new.table_info({table})")}
            names = ", ".join(name for name in there if name in here)
            database.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
            database.commit()
            database.execute("DETACH new")


HELD = ("experiments", "experiment_tags", "runs", "tags", "params", "metrics", "latest_metrics")


def rows_of_runs(file):
    """Return the rows that an older MLflow has of a file's runs, read by SQLite."""
    columns = {"metrics": "run_uuid, key, step, value", "runs": "run_uuid, name, status, artifact_uri"}
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        return {
            table: sorted(database.execute(f"SELECT {columns.get(table, '*')} FROM {table}").fetchall())
            for table in ("runs", "params", "metrics")
        }


def revision_of(file):
    """Return the revision that a file says it has."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]
