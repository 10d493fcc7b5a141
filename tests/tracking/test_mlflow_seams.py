"""Seams: what is used of MLflow that MLflow does not promise.

A new version that changes it fails here, with a sentence, and nowhere else: with each door closed the product
works through MLflow's public client, and says so where that is slower.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from fnnexp.results import frames
from fnnexp.tracking import reader, saved_views, sql
from fnnexp.tracking.sql import SqlRuns
from fnnexp.tracking.writer import Tracker

SWEEP = ["-m", "data=digits", "epochs=3", "init=he,max", "batching=full", "execution.n_jobs=1"]
SWEEP += ["data.validation=100", "tracking.experiment=seams"]
SAYS = f"MLflow {mlflow.__version__}:"


@pytest.fixture(scope="module")
def swept(empty_store, tmp_path_factory, invoke):
    """Return the store of a small sweep that went through every private door."""
    folder = tmp_path_factory.mktemp("seams")
    uri = empty_store(folder)
    ran = invoke(*SWEEP, cwd=folder)
    assert ran.status == 0, ran.err
    return uri


def file_of(uri):
    return Path(uri.removeprefix("sqlite:///"))


# --- the doors are there ---


def test_mlflow_declares_the_tables_that_are_written():
    assert sql.changed() is None, sql.changed()


def test_mlflows_client_has_the_store_and_session_that_write_them(swept):
    assert SqlRuns.of(MlflowClient(swept)) is not None, (
        f"{SAYS} MlflowClient._tracking_client.store has no ManagedSessionMaker or db_type; "
        "fnnexp.tracking.sql.SqlRuns writes by them; runs are written by MLflow's client until it is adapted"
    )


def test_mlflows_file_has_the_tables_that_are_read(swept):
    file = file_of(swept)
    experiment = MlflowClient(swept).get_experiment_by_name("seams").experiment_id
    adapt = f"{SAYS} a table of its SQLite file has changed; fnnexp.tracking.sql.{{}} can't read it; {{}}"
    trials = sql.trials(file, experiment, diagnosed="layer1/z_std")
    assert trials, adapt.format("TRIALS", "MLflow's client searches for the runs until it is adapted")
    assert len(trials) == 2
    latest = sql.latest_experiments(file, 5)
    assert latest == [(experiment, "seams")], adapt.format("LATEST", "fnnexp ui prints no links until then")
    lacks = [sql.lacks_experiment(file, name) for name in ("seams", "seam")]
    assert lacks == [False, True], adapt.format(
        "EXPERIMENT", "MLflow is imported to look until it is adapted"
    )


def test_mlflows_file_has_the_addresses_of_files_that_are_changed_when_a_store_was_moved(swept):
    client, runs = reader.trials("seams", swept)
    seen: list[str] = []
    sql.move_artifacts(file_of(swept), dict.fromkeys(sql.ARTIFACTS, seen.append))
    there = [client.get_experiment_by_name("seams").artifact_location]
    assert sorted(seen) == sorted([*there, *(run.info.artifact_uri for run in runs)]), (
        f"{SAYS} a table of its SQLite file has changed; fnnexp.tracking.sql.ARTIFACTS can't read it; the UI "
        "of a store that was moved looks for files in its old place until it is adapted"
    )


def test_a_database_gives_curves_in_bulk_as_the_client_gives_them_one_by_one(swept):
    client, runs = reader.trials("seams", swept)
    ids = [run.info.run_id for run in runs]
    try:
        fast = sql.points_of_database(client, ids, "val_loss")
    except (AttributeError, TypeError) as error:
        pytest.fail(
            f"{SAYS} get_metric_history_bulk of its SQL store has changed ({error}); "
            "fnnexp.tracking.sql.points_of_database reads curves by it; MLflow's client reads them until then"
        )
    assert len(fast) == 6
    assert sorted(fast) == sorted(sql.points_by_client(client, ids, "val_loss"))


SERVER = """
import sys
from werkzeug.serving import make_server
from mlflow.server import app
server = make_server("127.0.0.1", 0, app)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def server(swept):
    """Return the address of MLflow's server on the store."""
    environment = os.environ | {"_MLFLOW_SERVER_FILE_STORE": swept}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], env=environment, stdout=-1, stderr=-3, text=True
    ) as process:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def test_a_server_gives_curves_in_bulk_and_the_same_frames_as_its_database(swept, server, monkeypatch):
    direct = frames.curves("seams", tracking_uri=swept)
    client, runs = reader.trials("seams", server)
    ids = [run.info.run_id for run in runs]
    with monkeypatch.context() as without_fallback:
        without_fallback.setattr(sql, "points_by_client", None)
        try:
            fast = sql.points_of_server(client, ids, "val_loss")
        except Exception as error:  # whatever it is, the request is not what it was
            pytest.fail(
                f"{SAYS} a server's request get-history-bulk has changed ({error}); "
                "fnnexp.tracking.sql.points_of_server reads curves by it; MLflow's client does until then"
            )
        pd.testing.assert_frame_equal(frames.curves("seams", tracking_uri=server), direct)
    assert sorted(fast) == sorted(sql.points_by_client(client, ids, "val_loss"))
    monkeypatch.setattr(sql, "POINTS_A_REQUEST", 3)  # every answer is full: halves, and at last one by one
    assert sorted(sql.points_of_server(client, ids, "val_loss")) == sorted(fast)
    monkeypatch.setattr(sql, "points_of_server", lambda *given: client.no_such_thing)
    pd.testing.assert_frame_equal(frames.curves("seams", tracking_uri=server), direct)


def test_mlflows_ui_reads_saved_views_by_the_names_that_are_written():
    scripts = [
        file.read_text("utf-8", "ignore")
        for file in (Path(mlflow.__file__).parent / "server" / "js" / "build").rglob("*.js")
    ]
    for name in (saved_views.PREFIX, "viewStateShareKey"):
        assert any(name in script for script in scripts), (
            f"{SAYS} its UI does not know {name}; fnnexp.tracking.saved_views writes it; "
            "raise KNOWN_MAJOR when it is adapted, and experiments have their description alone until then"
        )
    assert saved_views.is_known(), f"{SAYS} fnnexp.tracking.saved_views knows {saved_views.KNOWN_MAJOR}.x"


# --- each door closed ---


def no_tables_to_write(patch):
    patch.setitem(sql.WRITTEN, "tags", sql.WRITTEN["tags"] | {"type"})


def no_models(patch):
    def gone():
        raise ImportError("there is no module dbmodels")

    patch.setattr(sql, "_tables", gone)


def no_tables_to_read(patch):
    for query in ("TRIALS", "LATEST", "EXPERIMENT"):
        patch.setattr(sql, query, "SELECT of_another_version FROM runs")


def no_curves_in_bulk(patch):
    patch.delattr(SqlAlchemyStore, "get_metric_history_bulk")


def no_saved_views(patch):
    patch.setattr(saved_views, "KNOWN_MAJOR", "2")


SAME = [
    column
    for column in frames.RESULTS
    if column not in ("run_id", "started", "seconds", "seconds_per_epoch", "look")
]


@pytest.mark.parametrize(
    "close", [no_tables_to_write, no_models, no_tables_to_read, no_curves_in_bulk, no_saved_views]
)
def test_with_a_door_closed_everything_works_through_the_client(close, swept, store, invoke, monkeypatch):
    close(monkeypatch)
    ran = invoke(*SWEEP)
    assert ran.status == 0, ran.err
    assert "2 trials finished" in ran.out
    assert "2 were done before" in invoke(*SWEEP).out
    assert "2 trials, 2 done, 0 to run" in invoke("dry_run=true", *SWEEP).out
    assert invoke("report", "seams").status == 0
    ours, theirs = frames.whole("seams", tracking_uri=store), frames.whole("seams", tracking_uri=swept)
    pd.testing.assert_frame_equal(ours.runs[SAME], theirs.runs[SAME])
    pd.testing.assert_frame_equal(ours.curves, theirs.curves)


@pytest.mark.parametrize("close", [no_tables_to_write, no_models])
def test_a_sweep_says_in_a_sentence_why_its_runs_are_written_slowly(close, store, invoke, monkeypatch):
    close(monkeypatch)
    assert sql.changed().startswith(SAYS)
    tracker, said = Tracker("slowly", store), []
    tracker.say = said.append
    tracker.open()
    assert said == [sql.changed()]
    if close is no_tables_to_write:
        assert said[0] == (
            f"{SAYS} table `tags` has columns key, run_uuid, value; "
            "fnnexp.tracking.sql writes key, run_uuid, type, value; "
            "runs are written by MLflow's client until it is adapted"
        )


def test_a_client_without_that_store_and_a_server_are_written_by_the_client():
    assert SqlRuns.of(SimpleNamespace()) is None
    assert SqlRuns.of(MlflowClient("http://127.0.0.1:9")) is None


def test_without_saved_views_an_experiment_has_its_description_alone(store, invoke, monkeypatch):
    no_saved_views(monkeypatch)
    assert invoke(*SWEEP).status == 0
    tags = MlflowClient(store).get_experiment_by_name("seams").tags
    assert not [key for key in tags if key.startswith(saved_views.PREFIX)]
    assert tags["mlflow.note.content"].startswith("2 trials on digits")
    assert "Views:" not in tags["mlflow.note.content"]
    assert "viewStateShareKey" not in saved_views.link("1")
