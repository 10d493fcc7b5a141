"""A test of SQLite under load: other programs read and write 10,000 runs while a sweep logs to the store."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from stores import copy_run

import fnnexp

MANY = 10_000

READER = """
import mlflow, time
client = mlflow.MlflowClient("sqlite:///mlflow.db")
experiment = client.get_experiment_by_name("digits").experiment_id
print("ready", flush=True)
while True:
    page = client.search_runs([experiment], max_results=100, order_by=["metrics.test_accuracy DESC"])
    for run in page[:5]:
        client.get_metric_history(run.info.run_id, "test_accuracy")
    client.search_runs([experiment], filter_string="params.`init.method` = 'he_normal'", max_results=100)
    time.sleep(0.2)
"""

WRITER = """
import mlflow, time
client = mlflow.MlflowClient("sqlite:///mlflow.db")
experiment = client.get_experiment_by_name("digits").experiment_id
some = client.search_runs([experiment], max_results=5)
print("ready", flush=True)
while True:
    for run in some:
        client.set_tag(run.info.run_id, "mlflow.note.content", str(time.time()))
        time.sleep(0.01)
"""


@pytest.fixture
def crowded(invoke, store, tmp_path):
    """Return the folder of a store with 10,001 runs that two other programs read and write."""
    assert invoke("data=digits", "epochs=1", "seed=99").status == 0
    copy_run(tmp_path, MANY)
    others = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for code in (READER, WRITER)
    ]
    try:
        for other in others:
            assert other.stdout.readline() == "ready\n"
        yield tmp_path
        assert [other.poll() for other in others] == [None, None], "another program was refused"
    finally:
        for other in others:
            other.kill()
            other.communicate()


def has_sizes(folder):
    """Return whether SQLite knows how many metrics the store has, for the plans of MLflow's queries."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
        query = "SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'latest_metrics'"
        return "sqlite_stat1" in tables and store.execute(query).fetchone() > (0,)


def test_a_sweep_logs_to_a_crowded_store_while_other_programs_read_and_write(crowded, invoke):
    assert not has_sizes(crowded)  # those of one run would be wrong by now
    grid = ["data=digits", "epochs=3", "init=he,xavier", "seed=range(15)"]
    ran = invoke("-m", *grid, "execution.n_jobs=2", "execution.segment_seconds=0.2")
    assert ran.status == 0, ran.err
    assert "30 trials finished" in ran.out
    assert "locked" not in ran.out + ran.err
    assert has_sizes(crowded)
    frame = fnnexp.runs("digits")
    assert len(frame) == MANY + 1 + 30
    assert (frame["status"] == "finished").all()
