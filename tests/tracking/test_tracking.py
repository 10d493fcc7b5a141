"""Tests of the data written to MLflow, read back with SQL or MLflow's own client."""

from __future__ import annotations

import math
import os
import re
import shutil
import sqlite3
import subprocess
import time
import uuid
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import INTERNAL_ERROR, MlflowException
from mlflow.tracking import _tracking_service
from stores import copy_run

import fnnexp
from fnnexp.config.trial import Trial
from fnnexp.data.datasets import Prepared
from fnnexp.errors import FnnexpError
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.stopping import Stopping
from fnnexp.nn.training import End, Recipe
from fnnexp.results import frames
from fnnexp.tracking import artifacts, reader, sql
from fnnexp.tracking.environment import environment
from fnnexp.tracking.experiment import About
from fnnexp.tracking.reader import FoundRun, Known, known_trials, runs_of
from fnnexp.tracking.run_format import METRICS, best_of, tags_of_end
from fnnexp.tracking.sql import SqlRuns
from fnnexp.tracking.store import has_store, refuse_unreadable
from fnnexp.tracking.writer import Tracker

DATA = Prepared("made-up", "nowhere", "c" * 64, n_train=6000, n_test=1000, input_size=784, classes=10)
WEIGHTS = {"W1": np.arange(6, dtype=np.float32).reshape(2, 3), "b1": np.float32([1e-30, -0.0, 3])}


def trial_of(seed, method="he"):
    shape, batching = Architecture(784, (100,), 10, "relu"), Batching("mini", 128, True)
    recipe = Recipe(shape, batching, "sgd", epochs=3, validation=1000)
    params = {"seed": seed, "arch.hidden": [64, 32], "optimizer.lr": 0.1, "batching.shuffle": True}
    name, config = f"relu_100-{method}-mini-s{seed}", {"seed": seed, "arch": {"hidden": [64, 32]}}
    return Trial(recipe, DATA, method, None, (("lr", 0.1),), seed, name, params, config)


@pytest.fixture(scope="module")
def uri(empty_store, tmp_path_factory):
    return empty_store(tmp_path_factory.mktemp("tracking"))


@pytest.fixture
def by_client(monkeypatch):
    """Write everything by MLflow's client, as to a server."""
    monkeypatch.setattr(SqlRuns, "of", lambda client: None)


@pytest.fixture(params=["together", "by the client"])
def tracker(uri, request):
    """Return the tracker of a new experiment, by SQL and by MLflow's client."""
    if request.param == "by the client":
        request.getfixturevalue("by_client")
    opened = Tracker(request.node.name, uri)
    opened.open()
    return opened


@pytest.fixture
def run(uri):
    """Return ``run(run_id)``: the run read by MLflow's own client."""
    return MlflowClient(uri).get_run


def points(uri, run_id):
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        query = "select key, step, value from metrics where run_uuid = ? order by key, step"
        return database.execute(query, (run_id,)).fetchall()


def finish(tracker, run_id, trial, *, end=None, diverged_at=None, **more):
    end = end or End("diverged" if diverged_at else "complete", diverged_at or 3, np.empty(0))
    more = {
        "weights": {"weights.npz": WEIGHTS}, "how": tags_of_end(end), "seconds_per_epoch": 0.25,
        "blas": "openblas 0.3 Zen", "engine": "numpy 2", **more,
    }  # fmt: skip
    tracker.finish(run_id, trial, **more)


# --- the run of a trial ---


def test_a_run_begins_with_its_name_params_and_tags(tracker, run):
    trial = trial_of(3)
    tracker.begin(trial_of(2))  # the example for later runs
    run_id = tracker.begin(trial)
    while tracker.describe():
        pass
    begun = run(run_id)
    assert begun.info.run_name == "relu_100-he-mini-s3"
    assert begun.info.status == "RUNNING"
    assert begun.data.params == {
        "seed": "3",
        "arch.hidden": "[64, 32]",
        "optimizer.lr": "0.1",
        "batching.shuffle": "True",
    }
    assert begun.data.tags["fnnexp.trial"] == trial.id
    assert begun.data.tags["fnnexp.numbers"] == trial.numbers_id
    assert begun.data.tags["fnnexp.status"] == "running"
    assert begun.data.tags["fnnexp.data_checksum"] == "c" * 64
    assert begun.data.tags["fnnexp.train_images"] == "5000"
    assert environment().items() <= begun.data.tags.items()
    assert "fnnexp.identical_to" not in begun.data.tags


@pytest.mark.parametrize("writer", ["together", "by the client"])
def test_a_run_records_its_command_if_it_fits_a_tag(uri, run, writer, request):
    if writer == "by the client":
        request.getfixturevalue("by_client")
    for command, recorded in (
        ("fnnexp -m 'seed=0,1'", True),
        (None, False),
        ("fnnexp " + 5000 * "x", False),
    ):
        experiment = f"{writer} {str(command)[:9]}"
        tracker = Tracker(experiment, uri, About(experiment, [{"seed": "0"}], command))
        ids = [tracker.begin(trial_of(seed)) for seed in range(2)]
        expected = command if recorded else None
        assert [run(run_id).data.tags.get("fnnexp.command") for run_id in ids] == [expected] * 2
        column = frames.runs(experiment, tracking_uri=uri)["command"]
        assert column.isna().all() if expected is None else column.tolist() == [expected] * 2


def test_on_a_server_params_are_logged_later(by_client, uri, run):
    tracker = Tracker("params wait", uri)
    run_id = tracker.begin(trial_of(3))
    assert run(run_id).data.params == {}
    assert tracker.describe()
    assert not tracker.describe()
    assert run(run_id).data.params["seed"] == "3"


def test_the_first_write_logs_the_params_too(tracker, run):
    first, second = tracker.begin(trial_of(0)), tracker.begin(trial_of(1))
    tracker.log(second, [(1, {"test_loss": 0.5})])
    assert run(second).data.params["seed"] == "1"
    tracker.interrupt(first)
    assert run(first).data.params["seed"] == "0"
    assert not tracker.describe()


# --- many runs in one transaction ---


def written(uri, experiment):
    """Return all rows of an experiment's runs by name, without ids, and with only the order of times."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        database.row_factory = sqlite3.Row
        query = (
            "select r.*, e.artifact_location from runs r join experiments e using (experiment_id)"
            " where e.name = ?"
        )
        runs = {row["run_uuid"]: dict(row) for row in database.execute(query, (experiment,))}
        content = {}
        for run_id, row in runs.items():
            assert row["artifact_uri"] == f"{row.pop('artifact_location')}/{run_id}/artifacts"
            assert row["start_time"] <= (row["end_time"] or math.inf)
            own = {"run_uuid", "artifact_uri", "experiment_id", "start_time", "end_time"}
            run = {"runs": [{key: value for key, value in row.items() if key not in own}]}
            run["runs"][0]["ended"] = row["end_time"] is not None
            for table in ("tags", "params", "metrics", "latest_metrics"):
                query = f"select * from {table} where run_uuid = ?"
                rows = [dict(entry) for entry in database.execute(query, (run_id,))]
                for entry in rows:
                    assert row["start_time"] <= entry.pop("timestamp", math.inf)
                    del entry["run_uuid"]
                rows = [entry for entry in rows if entry["key"] != "fnnexp.attempt"]
                run[table] = sorted(rows, key=lambda entry: (entry["key"], entry.get("step", 0)))
            assert row["name"] not in content
            content[row["name"]] = run
    return content


def run_through_all_states(tracker):
    """Take runs through every state."""
    trials = [trial_of(seed) for seed in range(6)]
    curve = [(epoch, {"val_accuracy": 1 / epoch, "test_loss": epoch / 7}) for epoch in range(1, 6)]
    best = best_of(curve)
    with tracker.together():
        ids = [tracker.begin(trial, trials[0] if trial is trials[1] else None) for trial in trials]
    with tracker.together():
        for run_id, trial in zip(ids[:2], trials[:2], strict=True):
            finish(tracker, run_id, trial, curve=[(0, {"layer1/z_std": 2.5}), *curve], best=best)
        tracker.log(ids[2], curve[:2])
    with tracker.together():
        tracker.log(ids[2], curve[2:4])
        finish(tracker, ids[3], trials[3], curve=[(1, {"test_loss": math.inf, "val_loss": 3})], diverged_at=1)
    tracker.interrupt(ids[2])
    assert tracker.resume(ids[2]) == 4
    finish(tracker, ids[2], trials[2], curve=curve[4:], best=best)
    tracker.fail(ids[4], "MemoryError", "Traceback")


def test_a_transaction_writes_the_same_rows_as_mlflows_client(uri, monkeypatch):
    run_through_all_states(Tracker("together", uri))
    together = written(uri, "together")
    monkeypatch.setattr(SqlRuns, "of", lambda client: None)
    by_client = Tracker("by the client", uri)
    run_through_all_states(by_client)
    while by_client.describe():
        pass
    assert together == written(uri, "by the client")
    assert len(together) == 6


def test_runs_begun_together_keep_their_order(uri):
    tracker = Tracker("order", uri)
    for first in (0, 40):
        with tracker.together():
            ids = [tracker.begin(trial_of(seed)) for seed in range(first, first + 40)]
    tracker.interrupt(ids[-1])
    runs = MlflowClient(uri).search_runs([tracker._id], order_by=["start_time ASC"])
    assert [run.info.run_name for run in runs] == [trial_of(seed).name for seed in range(80)]
    assert runs[-1].info.start_time <= runs[-1].info.end_time <= time.time() * 1000 + 80


def test_a_finished_run_is_not_interrupted(tracker, run):
    trial = trial_of(0)
    run_id = tracker.begin(trial)
    finish(tracker, run_id, trial)
    tracker.interrupt(run_id)
    assert run(run_id).info.status == "FINISHED"
    assert tracker.known()[trial.id].status == "finished"


def test_two_machines_may_create_an_experiment_or_tag_at_once(uri, monkeypatch):
    """Both machines look before either has written, so the store refuses the later write."""
    refused = []

    def too_late(name, first):
        through = getattr(MlflowClient, name)

        def call(client, *given, **named):
            if name not in refused:
                refused.append(name)
                return first(through, client, *given, **named)
            return through(client, *given, **named)

        monkeypatch.setattr(MlflowClient, name, call)

    def made_by_another(through, client, *given, **named):
        through(client, *given, **named)
        return through(client, *given, **named)

    def inserted_by_another(through, client, *given, **named):
        raise MlflowException("duplicate key value violates unique constraint", error_code=INTERNAL_ERROR)

    too_late("create_experiment", made_by_another)
    too_late("set_experiment_tag", inserted_by_another)
    too_late("delete_experiment_tag", made_by_another)
    tracker = Tracker("at once", uri, About("at once", [{"seed": "0"}]))
    tracker.open()
    tracker.tag_experiment("a", "b")
    assert tracker.experiment_tags()["a"] == "b"
    tracker.untag_experiment("a")
    assert "a" not in tracker.experiment_tags()
    assert refused == ["create_experiment", "set_experiment_tag", "delete_experiment_tag"]


def test_a_failed_transaction_writes_nothing(uri):
    tracker = Tracker("nothing", uri)
    first = tracker.begin(trial_of(0))
    made = []

    def fails():
        with tracker.together():
            made.append(tracker.begin(trial_of(1)))
            tracker.log(first, [(1, {"test_loss": 0.5})])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    tracker.interrupt(made[0])
    tracker.interrupt(first)
    assert points(uri, first) == []
    assert list(written(uri, "nothing")) == [trial_of(0).name]
    assert tracker.known() == {trial_of(0).id: Known(first, "interrupted")}


def test_a_run_records_the_trial_it_is_identical_to(tracker, run):
    first, second = trial_of(0, "sqrtmax"), trial_of(0, "xavier")
    assert first.numbers_id == second.numbers_id
    tags = run(tracker.begin(second, identical_to=first)).data.tags
    assert tags["fnnexp.identical_to"] == first.id
    assert tags["fnnexp.identical_to_name"] == first.name


def test_curves_are_logged_by_epoch_to_the_last_bit(tracker, uri):
    run_id = tracker.begin(trial_of(0))
    curve = [(epoch, {"train_loss": 1 / (epoch + 3), "test_accuracy": epoch / 7}) for epoch in range(1, 4)]
    tracker.log(run_id, curve[:2])
    tracker.log(run_id, curve[2:])
    tracker.log(run_id, [])
    expected = [(name, epoch, values[name]) for epoch, values in curve for name in values]
    assert points(uri, run_id) == sorted(expected)


def test_more_metrics_than_a_batch_holds_are_all_logged(tracker, uri):
    run_id = tracker.begin(trial_of(0))
    curve = [(epoch, dict.fromkeys(METRICS, float(epoch))) for epoch in range(1, 401)]
    tracker.log(run_id, curve)
    assert len(points(uri, run_id)) == 2400


def test_values_that_are_not_finite_are_not_logged(tracker, uri):
    run_id = tracker.begin(trial_of(0))
    bad = {"train_loss": math.nan, "val_loss": math.inf, "test_loss": -math.inf, "test_accuracy": 0.1}
    tracker.log(run_id, [(1, bad)])
    assert points(uri, run_id) == [("test_accuracy", 1, 0.1)]


def test_a_finished_run_has_its_weights_and_config(tracker, uri, run, same_bits):
    trial = trial_of(0)
    run_id = tracker.begin(trial)
    finish(tracker, run_id, trial)
    ended = run(run_id)
    assert ended.info.status == "FINISHED"
    assert ended.info.end_time >= ended.info.start_time
    assert ended.data.tags["fnnexp.status"] == "finished"
    assert ended.data.tags["fnnexp.seconds_per_epoch"] == "0.25"
    assert ended.data.tags["fnnexp.blas"] == "openblas 0.3 Zen"
    assert ended.data.tags["fnnexp.engine"] == "numpy 2"
    assert "fnnexp.diverged_epoch" not in ended.data.tags
    client = MlflowClient(uri)
    assert {file.path for file in client.list_artifacts(run_id)} == {"config.yaml", "weights.npz"}
    with np.load(client.download_artifacts(run_id, "weights.npz"), allow_pickle=False) as arrays:
        assert same_bits(dict(arrays), WEIGHTS)
    with open(client.download_artifacts(run_id, "config.yaml"), encoding="utf-8") as file:  # noqa: PTH123
        assert yaml.safe_load(file) == trial.config


def test_a_diverged_run_is_finished_and_tagged_with_its_epoch(tracker, run):
    trial = trial_of(0)
    run_id = tracker.begin(trial)
    finish(tracker, run_id, trial, diverged_at=7)
    ended = run(run_id)
    assert ended.info.status == "FINISHED"
    assert ended.data.tags["fnnexp.status"] == "diverged"
    assert ended.data.tags["fnnexp.diverged_epoch"] == "7"


def test_a_run_that_stopped_early_is_finished_and_says_when_and_why(tracker, uri, run, same_bits):
    trial = trial_of(0)
    run_id = tracker.begin(trial)
    end = End("stopped", 9, np.empty(0), 6, np.empty(0))
    how = tags_of_end(end, Stopping(3, 0.125, "train_accuracy"))
    best = {name: array + 1 for name, array in WEIGHTS.items()}
    finish(tracker, run_id, trial, how=how, weights={"weights.npz": WEIGHTS, "weights_best.npz": best})
    tags = run(run_id).data.tags
    assert (tags["fnnexp.status"], tags["fnnexp.stopped_epoch"]) == ("finished", "9")
    assert tags["fnnexp.weights_best_epoch"] == "6"
    assert tags["fnnexp.stopped_because"] == (
        "train_accuracy did not improve by more than 0.125 in 3 epochs; epoch 6 was the best"
    )
    for name, weights in (("weights.npz", WEIGHTS), ("weights_best.npz", best)):
        with np.load(MlflowClient(uri).download_artifacts(run_id, name), allow_pickle=False) as arrays:
            assert same_bits(dict(arrays), weights)


def test_a_failed_run_has_its_reason_and_traceback(tracker, uri, run):
    run_id = tracker.begin(trial_of(0))
    tracker.fail(run_id, "MemoryError: " + "x" * 9000, "Traceback …\nMemoryError")
    ended = run(run_id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["fnnexp.status"] == "failed"
    assert ended.data.tags["fnnexp.error"].startswith("MemoryError: xxx")
    with open(MlflowClient(uri).download_artifacts(run_id, "traceback.txt"), encoding="utf-8") as file:  # noqa: PTH123
        assert file.read() == "Traceback …\nMemoryError"


def test_an_interrupted_run_resumes_after_its_last_epoch(tracker, run):
    run_id = tracker.begin(trial_of(0))
    tracker.log(run_id, [(1, {"train_loss": 0.5}), (2, {"train_loss": math.nan, "test_loss": 0.25})])
    tracker.interrupt(run_id)
    assert run(run_id).info.status == "KILLED"
    assert run(run_id).data.tags["fnnexp.status"] == "interrupted"
    assert tracker.resume(run_id) == 2
    assert run(run_id).info.status == "RUNNING"
    assert run(run_id).data.tags["fnnexp.status"] == "running"


def test_a_run_without_metrics_resumes_from_the_start(tracker):
    assert tracker.resume(tracker.begin(trial_of(0))) == -1


def test_known_returns_the_run_and_status_of_every_trial(tracker):
    trials = [trial_of(seed) for seed in range(6)]
    run_ids = [tracker.begin(trial) for trial in trials]
    finish(tracker, run_ids[0], trials[0])
    finish(tracker, run_ids[1], trials[1], diverged_at=1)
    tracker.fail(run_ids[2], "OSError", "…")
    tracker.interrupt(run_ids[3])
    tracker.prune({run_ids[5]: 1})
    statuses = ["finished", "diverged", "failed", "interrupted", "running", "pruned"]
    expected = {
        trial.id: Known(*known)
        for trial, known in zip(trials, zip(run_ids, statuses, strict=True), strict=True)
    }
    assert tracker.known() == expected
    done, wanted = runs_of(expected, [*trials, trial_of(9)])
    assert [trial.seed for trial in done] == [0, 1]
    assert [trial.seed for trial in wanted] == [2, 3, 4, 5, 9]


def test_a_discarded_run_is_not_known(tracker):
    trial = trial_of(0)
    tracker.discard(tracker.begin(trial))
    assert tracker.known() == {}


def test_of_two_unfinished_runs_of_a_trial_a_sweep_resumes_the_run_that_reports_read():
    runs = [FoundRun(name, "KILLED", "a trial", "interrupted", False) for name in ("newer", "older")]
    assert reader.known(runs)["a trial"].run_id == "newer"


@pytest.mark.parametrize("finished_first", [True, False])
def test_of_two_runs_of_a_trial_the_finished_run_counts(finished_first, tracker):
    trial = trial_of(0)
    first, second = tracker.begin(trial), tracker.begin(trial)
    finish(tracker, first if finished_first else second, trial)
    assert tracker.known()[trial.id] == Known(first if finished_first else second, "finished")


def test_runs_of_other_programs_are_ignored(tracker, uri):
    client = MlflowClient(uri)
    client.create_run(client.get_experiment_by_name(tracker.experiment).experiment_id, run_name="theirs")
    assert tracker.known() == {}


# --- the store ---


def test_sql_finds_the_same_runs_as_mlflows_search(tracker, monkeypatch):
    trials = [trial_of(seed) for seed in range(5)]
    ids = [tracker.begin(trial) for trial in trials]
    finish(tracker, ids[0], trials[0])
    tracker.fail(ids[1], "no", "Traceback")
    tracker.log(ids[2], [(0, {"layer1/z_std": 1.0, "layer2/z_std": 1.0})])
    tracker.interrupt(ids[2])
    tracker.discard(ids[3])
    again = tracker.begin(trials[4])
    read = list(reader.trial_runs(tracker._client, tracker._id))
    assert len(read) == 5
    assert {run.run_id for run in read} == {*ids[:3], ids[4], again}
    by_client = reader.trial_runs_by_client(tracker._client, tracker._id)
    assert sorted(read, key=str) == sorted(by_client, key=str)
    assert [run.run_id for run in read if run.diagnosed] == [ids[2]]
    known = tracker.known()
    monkeypatch.setattr("fnnexp.tracking.sql.TRIALS", "SELECT of_another_version FROM runs WHERE ? = ?")
    assert tracker.known() == known


def test_no_table_is_read_again_for_each_run_however_a_store_grows(store, own_folder):
    """SQLite plans with the sizes of an early store, in which a whole table is as small as a run."""
    tracker = Tracker("digits", store)
    tracker.begin(trial_of(0))
    while tracker.describe():
        pass

    def check_plans():
        with closing(sqlite3.connect(own_folder / "mlflow.db")) as database:
            for query, values in ((sql.PARAMS, (1,)), (sql.TRIALS, ("layer1/z_std", 1))):
                plan = [step for *_, step in database.execute(f"EXPLAIN QUERY PLAN {query}", values)]
                assert not [step for step in plan[1:] if step.startswith("SCAN")], plan
            sizes = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'sqlite_stat1'")
            return bool(sizes.fetchone()[0])

    tracker.tidy()
    copy_run(own_folder, sql.MANY_RUNS)
    assert not check_plans()
    tracker.tidy()
    assert check_plans()


def test_a_copy_of_the_file_has_the_runs_of_a_finished_sweep(store, own_folder):
    """A write-ahead log beside the file may hold all of them, as long as a program has the store open."""
    tracker = Tracker("digits", store)
    run = tracker.begin(trial_of(0))
    tracker.tidy()
    shutil.copy("mlflow.db", "copy.db")
    with closing(sqlite3.connect("copy.db")) as copy:
        assert copy.execute("SELECT run_uuid FROM runs").fetchall() == [(run,)]


def test_the_default_store_is_mlflow_db_in_the_working_directory(store, own_folder):
    Tracker("here", None).begin(trial_of(0))
    assert MlflowClient(store).get_experiment_by_name("here") is not None


def test_tracking_uri_takes_precedence_over_the_variable(empty_store, own_folder, monkeypatch, invoke):
    named, given = empty_store(own_folder / "named"), empty_store(own_folder / "given")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    command = ["data=digits", "epochs=0", "execution.n_jobs=1"]
    assert invoke(*command).status == 0
    assert invoke(*command, f"tracking.uri={given}", "tracking.experiment=elsewhere").status == 0
    assert not (own_folder / "mlflow.db").exists()
    for uri, experiment in ((named, "digits"), (given, "elsewhere")):
        names = {experiment.name for experiment in MlflowClient(uri).search_experiments()}
        assert names == {"Default", experiment}
        assert len(known_trials(experiment, uri)) == 1


def test_looking_for_a_store_creates_none(own_folder, monkeypatch):
    assert not has_store(None)
    assert not has_store("sqlite:///elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///named.db")
    assert not has_store(None)
    assert known_trials("card_grid", None) == {}
    assert list(own_folder.iterdir()) == []


def test_an_existing_store_is_found(store, own_folder, monkeypatch):
    assert has_store(None)
    assert has_store(store)
    assert has_store("http://127.0.0.1:1")
    assert known_trials("no such experiment", None) == {}
    names = {experiment.name for experiment in MlflowClient(store).search_experiments()}
    assert names == {"Default"}


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


SMALL = ("data=digits", "epochs=1", "execution.n_jobs=1", "batching=full")


@pytest.mark.parametrize("name", ["Jose\u0301's caf\u00e9", "50% of a+b&c=d#e"])
@pytest.mark.usefixtures("blank_figures")
def test_a_folder_of_any_name_contains_its_store(name, own_folder, invoke):
    """MLflow encodes the path of its default store, and used to create a folder with the encoded name."""
    folder = own_folder / name
    folder.mkdir()
    ran = invoke(*SMALL, cwd=folder)
    assert ran.status == 0, ran.err
    reported = invoke("report", "digits", cwd=folder)
    assert reported.status == 0, reported.err
    assert (folder / "reports" / "digits" / "report.html").exists()
    assert [path.name for path in own_folder.iterdir()] == [name]
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    runs = [path for path in files_in(folder) if path.endswith("artifacts/weights.npz")]
    assert len(runs) == 1


def test_a_folder_whose_name_mlflow_would_decode_is_refused(own_folder, invoke):
    folder = own_folder / "a%20b"
    folder.mkdir()
    ran = invoke(*SMALL, cwd=folder)
    assert ran.status == 2
    assert "a b/mlflow.db" in ran.err
    assert "write tracking.uri=sqlite:///FOLDER/mlflow.db" in ran.err
    assert files_in(own_folder) == set()
    assert [path.name for path in own_folder.iterdir()] == ["a%20b"]


@pytest.mark.usefixtures("blank_figures")
def test_artifacts_are_beside_a_store_in_another_folder(own_folder, invoke):
    here, elsewhere = own_folder / "here", own_folder / "else where"
    here.mkdir()
    elsewhere.mkdir()
    uri = f"sqlite:///{elsewhere.as_posix()}/runs.db"
    ran = invoke(*SMALL, f"tracking.uri='{uri}'", "tracking.experiment=a/b", cwd=here)
    assert ran.status == 0, ran.err
    assert not (here / "mlruns").exists()
    (weights,) = [path for path in files_in(elsewhere) if path.endswith("weights.npz")]
    assert re.fullmatch(r"mlruns/a_b-[0-9a-f]{8}/[0-9a-f]{32}/artifacts/weights\.npz", weights)
    encoded = uri.replace(" ", "%20")
    (run_id,) = frames.runs("a/b", tracking_uri=encoded)["run_id"]
    assert artifacts.read(run_id, "weights.npz", uri, most=10**6) == (elsewhere / weights).read_bytes()
    again = invoke(*SMALL, f"tracking.uri='{encoded}'", "tracking.experiment=a/b", cwd=here)
    assert "1 was done before" in again.out
    assert invoke("report", "a/b", "--uri", uri, cwd=here).status == 0
    assert not (here / "mlruns").exists()


def test_a_store_locked_by_another_program_is_accepted(store, own_folder):
    with closing(sqlite3.connect(own_folder / "mlflow.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        refuse_unreadable(store)


def test_artifacts_are_beside_the_store_set_in_mlflow(own_folder, monkeypatch):
    elsewhere = own_folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(
        _tracking_service.utils, "_tracking_uri", f"sqlite:///{elsewhere.as_posix()}/mlflow.db"
    )
    tracker = Tracker("told", None)
    tracker.open()
    address = (
        MlflowClient(f"sqlite:///{elsewhere.as_posix()}/mlflow.db")
        .get_experiment_by_name("told")
        .artifact_location
    )
    assert address.startswith(f"{elsewhere.as_uri()}/mlruns/told-")


def no_database(folder):
    (folder / "mlflow.db").write_text("junk\n" * 300)
    return


def a_folder(folder):
    (folder / "mlflow.db").mkdir()
    return


@pytest.mark.parametrize(
    ("store_of", "problem"),
    [
        (no_database, r"sqlite:///\S*mlflow\.db can't be opened: DatabaseError: file is not a database"),
        (a_folder, r"sqlite:///\S*mlflow\.db can't be opened: OperationalError: "),
        (lambda _: "foo://x", "foo://x can't be opened: Un"),
        (lambda _: "sqlite://nope.db", "sqlite://nope.db names no file"),
        (lambda _: "mysql://ann:secret@h/y", "mysql://h/y can't be opened: ModuleNotFoundError: No module"),
    ],
)
def test_reading_commands_explain_a_broken_store_in_one_line(store_of, problem, own_folder, invoke, started):
    uri = store_of(own_folder)
    named = [] if uri is None else ["--uri", uri]
    before = files_in(own_folder)
    for command in (["report", "digits", *named], ["ui", *named]):
        ran = invoke(*command)
        assert ran.status == 2
        assert re.match(f"fnnexp: MLflow's store {problem}", ran.err), ran.err
        assert ran.err.count("\n") == 1
        assert "secret" not in ran.err
    assert started == []
    assert files_in(own_folder) == before


def test_a_deleted_experiment_is_refused_with_the_command_that_restores_it(tracker, uri):
    client = MlflowClient(uri)
    number = client.get_experiment_by_name(tracker.experiment).experiment_id
    client.delete_experiment(number)
    with pytest.raises(FnnexpError, match=rf"was deleted.*-id {number}` re.*tracking\.experiment="):
        Tracker(tracker.experiment, uri).open()
    with pytest.raises(FnnexpError, match=rf"was deleted.*--experiment-id {number}` restores it"):
        reader.trials(tracker.experiment, uri)


@pytest.mark.parametrize("uri", ["sqlite:///a_file/mlflow.db", "nonsense://x"])
def test_a_store_that_cannot_be_opened_is_refused_with_advice(uri, own_folder):
    (own_folder / "a_file").touch()
    with pytest.raises(FnnexpError, match=r"can't be opened.*tracking\.uri=sqlite:///mlflow\.db"):
        Tracker("grid", uri).open()


def test_an_absent_server_is_an_error(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("fnnexp.tracking.retry.AT_START", 1.0)
    with pytest.raises(FnnexpError, match=r"http://127\.0\.0\.1:9 does not answer"):
        Tracker("grid", "http://127.0.0.1:9").open()


# --- the environment of a run ---


@pytest.fixture
def fresh_environment(monkeypatch):
    """Return environment() without its cache; git searches only the test's folder."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.path.dirname(os.getcwd()))  # noqa: PTH109, PTH120
    return environment.__wrapped__


def git(*words):
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_run_records_versions_and_machine(fresh_environment):
    tags = fresh_environment()
    assert tags["fnnexp.version"] == fnnexp.__version__
    assert tags["fnnexp.numpy"] == np.__version__
    libraries = ("python", "mlflow", "hydra-core", "joblib", "pandas", "scipy")
    assert {f"fnnexp.{name}" for name in libraries} <= set(tags)
    assert f"{os.cpu_count()} cores" in tags["fnnexp.machine"]


def test_outside_a_repository_there_is_no_commit(fresh_environment):
    assert [key for key in fresh_environment() if "git" in key] == []


def test_without_git_there_is_no_commit(fresh_environment, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert [key for key in fresh_environment() if "git" in key] == []


def test_in_a_repository_the_commit_and_its_state_are_recorded(fresh_environment, own_folder):
    git("init", "-q")
    file = own_folder / "a.txt"
    file.write_text("one")
    git("add", "a.txt")
    git("commit", "-q", "-m", "first")
    tags = fresh_environment()
    assert tags["fnnexp.git_commit"] == tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD")
    assert tags["fnnexp.git_dirty"] == "false"
    (own_folder / "untracked.txt").write_text("results")
    assert fresh_environment()["fnnexp.git_dirty"] == "false"
    file.write_text("two")
    assert fresh_environment()["fnnexp.git_dirty"] == "true"


def test_ids_of_new_runs_begin_with_the_time(tracker, run):
    """So runs of one sweep are neighbours in every index of the store."""
    before = time.time_ns() // 10**6
    ids = [tracker.begin(trial_of(seed)) for seed in range(3)]
    after = time.time_ns() // 10**6
    assert [run(each).info.run_id for each in ids] == ids
    if tracker._sql is not None:
        for each in map(uuid.UUID, ids[1:]):  # MLflow makes the first run
            assert (each.version, each.variant) == (7, uuid.RFC_4122)
            assert before <= each.int >> 80 <= after


def test_a_config_is_written_as_yaml_would_write_it_whole(tracker, own_folder):
    config = {"seed": 3, "name": "yes", "arch": {"hidden": [64, 32], "slope": 1e-5}, "other": None, "e": {}}
    for change in ({}, {"seed": 4}, {"seed": 4.0}, {"seed": True}, {"seed": 1}):
        run_id = tracker.begin(trial := replace(trial_of(0), config=config | change))
        tracker.finish(run_id, trial, {}, seconds_per_epoch=1.0, blas="", engine="numpy", how={})
        text = artifacts.read(run_id, "config.yaml", tracker.uri, most=10**6).decode()
        assert text == yaml.safe_dump(config | change, sort_keys=False)
