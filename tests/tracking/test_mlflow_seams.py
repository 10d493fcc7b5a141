"""Tests of the private parts of MLflow that fnnexp uses.

If a new MLflow version changes a part, only a test here fails, with a message that explains it. Without any
of the parts, fnnexp works through MLflow's public client, and prints a note if that is slower.
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
    """Return the store of a small sweep that used every private part."""
    folder = tmp_path_factory.mktemp("seams")
    uri = empty_store(folder)
    ran = invoke(*SWEEP, cwd=folder)
    assert ran.status == 0, ran.err
    return uri


def file_of(uri):
    return Path(uri.removeprefix("sqlite:///"))


# --- every part exists ---


def test_mlflow_declares_the_written_tables():
    assert sql.changed() is None, sql.changed()


def test_mlflows_client_has_the_store_and_session_for_writing(swept):
    assert SqlRuns.of(MlflowClient(swept)) is not None, (
        f"{SAYS} MlflowClient._tracking_client.store has no ManagedSessionMaker or db_type; "
        "fnnexp.tracking.sql.SqlRuns writes by them; runs are written by MLflow's client until it is adapted"
    )


def test_mlflows_file_has_the_tables_that_fnnexp_reads(swept):
    file = file_of(swept)
    experiment = MlflowClient(swept).get_experiment_by_name("seams").experiment_id
    adapt = f"{SAYS} a table of its SQLite file has changed; fnnexp.tracking.sql.{{}} can't read it; {{}}"
    trials = sql.trials(file, experiment, diagnosed="layer1/z_std")
    assert trials is not None, adapt.format(
        "TRIALS", "MLflow's client searches for the runs until it is adapted"
    )
    assert len(list(trials)) == 2
    params = sql.trial_params(file, experiment)
    assert params is not None, adapt.format("PARAMS", "MLflow's client reads the params until it is adapted")
    by_client = [run.params for run in reader.trial_runs_by_client(MlflowClient(swept), experiment)]
    assert sorted(params, key=str) == sorted(by_client, key=str)
    latest = sql.latest_experiments(file, 5)
    assert latest == [(experiment, "seams")], adapt.format("LATEST", "fnnexp ui prints no links until then")
    lacks = [sql.lacks_experiment(file, name) for name in ("seams", "seam")]
    assert lacks == [False, True], adapt.format(
        "EXPERIMENT", "MLflow is imported to look until it is adapted"
    )


def test_mlflows_file_has_the_artifact_addresses(swept):
    client = MlflowClient(swept)
    runs = client.search_runs([client.get_experiment_by_name("seams").experiment_id])
    seen: list[str] = []
    sql.move_artifacts(file_of(swept), dict.fromkeys(sql.ARTIFACTS, seen.append))
    addresses = [client.get_experiment_by_name("seams").artifact_location]
    assert sorted(seen) == sorted([*addresses, *(run.info.artifact_uri for run in runs)]), (
        f"{SAYS} a table of its SQLite file has changed; fnnexp.tracking.sql.ARTIFACTS can't read it; the UI "
        "of a store that was moved looks for files in its old place until it is adapted"
    )


def test_a_database_returns_the_same_curves_in_bulk_as_run_by_run(swept):
    runs = reader.trials("seams", swept)
    client, ids = runs.client, runs.run_ids
    try:
        fast = sql.points_of_database(client, ids, "val_loss")
    except (AttributeError, TypeError) as error:
        pytest.fail(
            f"{SAYS} get_metric_history_bulk of its SQL store has changed ({error}); "
            "fnnexp.tracking.sql.points_of_database reads curves by it; MLflow's client reads them until then"
        )
    assert len(fast) == 6
    assert sorted(fast) == sorted(sql.points_by_client(client, ids, "val_loss"))
    from_file = sql.points_of_file(file_of(swept), ids, ["val_loss"])
    assert from_file, (
        f"{SAYS} a table of its SQLite file has changed; fnnexp.tracking.sql.POINTS can't read it"
    )
    assert sorted(from_file) == sorted(fast)


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


def test_a_server_returns_the_same_curves_as_its_database(swept, server, monkeypatch):
    direct = frames.curves("seams", tracking_uri=swept)
    runs = reader.trials("seams", server)
    client, ids = runs.client, runs.run_ids
    with monkeypatch.context() as without_fallback:
        without_fallback.setattr(sql, "points_by_client", None)
        try:
            fast = sql.points_of_server(client, ids, "val_loss")
        except Exception as error:  # any error means that the request has changed
            pytest.fail(
                f"{SAYS} a server's request get-history-bulk has changed ({error}); "
                "fnnexp.tracking.sql.points_of_server reads curves by it; MLflow's client does until then"
            )
        pd.testing.assert_frame_equal(frames.curves("seams", tracking_uri=server), direct)
    assert sorted(fast) == sorted(sql.points_by_client(client, ids, "val_loss"))
    monkeypatch.setattr(sql, "POINTS_A_REQUEST", 3)  # answers are full, so requests are split
    assert sorted(sql.points_of_server(client, ids, "val_loss")) == sorted(fast)
    monkeypatch.setattr(sql, "points_of_server", lambda *given: client.no_such_thing)
    pd.testing.assert_frame_equal(frames.curves("seams", tracking_uri=server), direct)


def test_mlflows_ui_knows_the_names_of_saved_views():
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


# --- without a part ---


def no_tables_to_write(patch):
    patch.setitem(sql.WRITTEN, "tags", sql.WRITTEN["tags"] | {"type"})


def no_models(patch):
    def gone():
        raise ImportError("there is no module dbmodels")

    patch.setattr(sql, "_tables", gone)


def no_tables_to_read(patch):
    for query in ("TRIALS", "LATEST", "EXPERIMENT", "HEADS", "POINTS"):
        patch.setattr(sql, query, "SELECT of_another_version FROM runs")


def no_curves_in_bulk(patch):
    patch.setattr(sql, "POINTS", "SELECT of_another_version FROM metrics")
    patch.delattr(SqlAlchemyStore, "get_metric_history_bulk")


def no_saved_views(patch):
    patch.setattr(saved_views, "KNOWN_MAJOR", "2")


SAME = [
    column
    for column in frames.result_columns()
    if column not in ("run_id", "started", "seconds", "seconds_per_epoch", "look")
]


@pytest.mark.parametrize(
    "close", [no_tables_to_write, no_models, no_tables_to_read, no_curves_in_bulk, no_saved_views]
)
@pytest.mark.usefixtures("blank_figures")
def test_without_a_private_part_everything_works_through_the_client(close, swept, store, invoke, monkeypatch):
    close(monkeypatch)
    ran = invoke(*SWEEP)
    assert ran.status == 0, ran.err
    assert "2 trials finished" in ran.out
    assert "2 were done before" in invoke(*SWEEP).out
    assert "2 trials, 2 done, 0 to run" in invoke("dry_run=true", *SWEEP).out
    assert invoke("report", "seams").status == 0
    written, expected = frames.whole("seams", tracking_uri=store), frames.whole("seams", tracking_uri=swept)
    pd.testing.assert_frame_equal(written.runs[SAME], expected.runs[SAME])
    pd.testing.assert_frame_equal(written.curves, expected.curves)


@pytest.mark.parametrize("close", [no_tables_to_write, no_models])
def test_a_sweep_explains_why_its_runs_are_written_slowly(close, store, invoke, monkeypatch):
    close(monkeypatch)
    assert sql.changed().startswith(SAYS)
    tracker, messages = Tracker("slowly", store), []
    tracker.say = messages.append
    tracker.open()
    assert messages == [sql.changed()]
    if close is no_tables_to_write:
        assert messages[0] == (
            f"{SAYS} table `tags` has columns key, run_uuid, value; "
            "fnnexp.tracking.sql writes key, run_uuid, type, value; "
            "MLflow's client writes the runs until fnnexp is adapted"
        )


def test_sql_is_not_used_for_a_server():
    assert SqlRuns.of(SimpleNamespace()) is None
    assert SqlRuns.of(MlflowClient("http://127.0.0.1:9")) is None


def test_without_saved_views_an_experiment_has_only_its_description(store, invoke, monkeypatch):
    no_saved_views(monkeypatch)
    assert invoke(*SWEEP).status == 0
    tags = MlflowClient(store).get_experiment_by_name("seams").tags
    assert not [key for key in tags if key.startswith(saved_views.PREFIX)]
    assert tags["mlflow.note.content"].startswith("2 trials on digits")
    assert "Views:" not in tags["mlflow.note.content"]
    assert "viewStateShareKey" not in saved_views.link("1")
