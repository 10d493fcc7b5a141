"""Tracking: what is written to MLflow, read back with SQL or with MLflow's own client."""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import INTERNAL_ERROR, MlflowException
from mlflow.tracking import _tracking_service

import fnnexp
from fnnexp.config.trial import Trial
from fnnexp.data.datasets import Prepared
from fnnexp.errors import FnnexpError
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.training import Recipe
from fnnexp.results import frames
from fnnexp.tracking import artifacts, reader, saved_views
from fnnexp.tracking.environment import environment
from fnnexp.tracking.experiment import About
from fnnexp.tracking.reader import Known, known_trials, runs_of
from fnnexp.tracking.run_format import METRICS, best_of
from fnnexp.tracking.saved_views import CURVES, PARALLEL, RUNS
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
    """Let MLflow's client write all, as it does to a server."""
    monkeypatch.setattr(SqlRuns, "of", lambda client: None)


@pytest.fixture(params=["together", "by the client"])
def tracker(uri, request):
    """Return the tracker of an experiment of the test's own, for each way of writing."""
    if request.param == "by the client":
        request.getfixturevalue("by_client")
    opened = Tracker(request.node.name, uri)
    opened.open()
    return opened


@pytest.fixture
def run(uri):
    """Return ``run(run_id)``: the run as MLflow's own client gives it."""
    return MlflowClient(uri).get_run


def points(uri, run_id):
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        query = "select key, step, value from metrics where run_uuid = ? order by key, step"
        return database.execute(query, (run_id,)).fetchall()


def finish(tracker, run_id, trial, **more):
    tracker.finish(
        run_id, trial, WEIGHTS, seconds_per_epoch=0.25, blas="openblas 0.3 Zen", engine="numpy 2", **more
    )


# --- one run a trial ---


def test_a_run_begins_with_its_name_params_and_tags(tracker, run):
    trial = trial_of(3)
    tracker.begin(trial_of(2))  # which others are made like
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


@pytest.mark.parametrize("way", ["together", "by the client"])
def test_a_run_says_which_command_made_it_if_there_was_one_that_fits_a_tag(uri, run, way, request):
    if way == "by the client":
        request.getfixturevalue("by_client")
    for command, told in (("fnnexp -m 'seed=0,1'", True), (None, False), ("fnnexp " + 5000 * "x", False)):
        experiment = f"{way} {str(command)[:9]}"
        tracker = Tracker(experiment, uri, About(experiment, [{"seed": "0"}], True, command))
        ids = [tracker.begin(trial_of(seed)) for seed in range(2)]
        expected = command if told else None
        assert [run(run_id).data.tags.get("fnnexp.command") for run_id in ids] == [expected] * 2
        column = frames.runs(experiment, tracking_uri=uri)["command"]
        assert column.isna().all() if expected is None else column.tolist() == [expected] * 2


def test_on_a_server_params_wait_until_there_is_time(by_client, uri, run):
    tracker = Tracker("params wait", uri)
    run_id = tracker.begin(trial_of(3))
    assert run(run_id).data.params == {}
    assert tracker.describe()
    assert not tracker.describe()
    assert run(run_id).data.params["seed"] == "3"


def test_what_is_written_first_brings_the_params_along(tracker, run):
    first, second = tracker.begin(trial_of(0)), tracker.begin(trial_of(1))
    tracker.log(second, [(1, {"test_loss": 0.5})])
    assert run(second).data.params["seed"] == "1"
    tracker.interrupt(first)
    assert run(first).data.params["seed"] == "0"
    assert not tracker.describe()


# --- many runs in one transaction ---


def written(uri, experiment):
    """Return all that a store has of an experiment's runs, by name; no ids, and of times only the order."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        database.row_factory = sqlite3.Row
        query = (
            "select r.*, e.artifact_location from runs r join experiments e using (experiment_id)"
            " where e.name = ?"
        )
        runs = {row["run_uuid"]: dict(row) for row in database.execute(query, (experiment,))}
        found = {}
        for run_id, row in runs.items():
            assert row["artifact_uri"] == f"{row.pop('artifact_location')}/{run_id}/artifacts"
            assert row["start_time"] <= (row["end_time"] or math.inf)
            own = {"run_uuid", "artifact_uri", "experiment_id", "start_time", "end_time"}
            mine = {"runs": [{key: value for key, value in row.items() if key not in own}]}
            mine["runs"][0]["ended"] = row["end_time"] is not None
            for table in ("tags", "params", "metrics", "latest_metrics"):
                query = f"select * from {table} where run_uuid = ?"
                rows = [dict(each) for each in database.execute(query, (run_id,))]
                for each in rows:
                    assert row["start_time"] <= each.pop("timestamp", math.inf)
                    del each["run_uuid"]
                rows = [each for each in rows if each["key"] != "fnnexp.attempt"]
                mine[table] = sorted(rows, key=lambda each: (each["key"], each.get("step", 0)))
            assert row["name"] not in found
            found[row["name"]] = mine
    return found


def lived(tracker):
    """Let runs have all that can happen to one."""
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


def test_what_is_written_together_is_what_mlflows_client_would_write(uri, monkeypatch):
    together = Tracker("together", uri)
    lived(together)
    ours = written(uri, "together")
    monkeypatch.setattr(SqlRuns, "of", lambda client: None)
    theirs = Tracker("by the client", uri)
    lived(theirs)
    while theirs.describe():
        pass
    assert ours == written(uri, "by the client")
    assert len(ours) == 6


def test_runs_begun_together_keep_their_order(uri):
    tracker = Tracker("order", uri)
    for first in (0, 40):
        with tracker.together():
            ids = [tracker.begin(trial_of(seed)) for seed in range(first, first + 40)]
    tracker.interrupt(ids[-1])
    found = MlflowClient(uri).search_runs([tracker._id], order_by=["start_time ASC"])
    assert [run.info.run_name for run in found] == [trial_of(seed).name for seed in range(80)]
    assert found[-1].info.start_time <= found[-1].info.end_time <= time.time() * 1000 + 80


def test_what_is_finished_is_not_interrupted_though_nobody_counted_it_yet(tracker, run):
    trial = trial_of(0)
    run_id = tracker.begin(trial)
    finish(tracker, run_id, trial)
    tracker.interrupt(run_id)
    assert run(run_id).info.status == "FINISHED"
    assert tracker.known()[trial.id].status == "finished"


def test_what_two_machines_make_at_once_is_made_once_and_costs_neither_its_sweep(uri, monkeypatch):
    """Each looks before the other has written: the later one is refused what it is about to make."""
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
    tracker = Tracker("at once", uri, about("at once"))
    tracker.open()
    tracker.tag_experiment("a", "b")
    assert tracker.experiment_tags()["a"] == "b"
    tracker.untag_experiment("a")
    assert "a" not in tracker.experiment_tags()
    assert refused == ["create_experiment", "set_experiment_tag", "delete_experiment_tag"]


def test_of_what_fails_together_nothing_is_written(uri):
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


def test_a_trial_that_is_identical_to_another_says_so(tracker, run):
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


def test_what_is_not_finite_is_not_logged(tracker, uri):
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
    assert {one.path for one in client.list_artifacts(run_id)} == {"config.yaml", "weights.npz"}
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


def test_a_failed_run_has_its_reason_and_traceback(tracker, uri, run):
    run_id = tracker.begin(trial_of(0))
    tracker.fail(run_id, "MemoryError: " + "x" * 9000, "Traceback …\nMemoryError")
    ended = run(run_id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["fnnexp.status"] == "failed"
    assert ended.data.tags["fnnexp.error"].startswith("MemoryError: xxx")
    with open(MlflowClient(uri).download_artifacts(run_id, "traceback.txt"), encoding="utf-8") as file:  # noqa: PTH123
        assert file.read() == "Traceback …\nMemoryError"


def test_an_interrupted_run_is_killed_and_resumes_behind_its_last_epoch(tracker, run):
    run_id = tracker.begin(trial_of(0))
    tracker.log(run_id, [(1, {"train_loss": 0.5}), (2, {"train_loss": math.nan, "test_loss": 0.25})])
    tracker.interrupt(run_id)
    assert run(run_id).info.status == "KILLED"
    assert run(run_id).data.tags["fnnexp.status"] == "interrupted"
    assert tracker.resume(run_id) == 2
    assert run(run_id).info.status == "RUNNING"
    assert run(run_id).data.tags["fnnexp.status"] == "running"


def test_a_run_without_metrics_resumes_from_nothing(tracker):
    assert tracker.resume(tracker.begin(trial_of(0))) == -1


def test_known_tells_each_trials_run_and_what_became_of_it(tracker):
    trials = [trial_of(seed) for seed in range(5)]
    run_ids = [tracker.begin(trial) for trial in trials]
    finish(tracker, run_ids[0], trials[0])
    finish(tracker, run_ids[1], trials[1], diverged_at=1)
    tracker.fail(run_ids[2], "OSError", "…")
    tracker.interrupt(run_ids[3])
    statuses = ["finished", "diverged", "failed", "interrupted", "running"]
    expected = {
        trial.id: Known(*each)
        for trial, each in zip(trials, zip(run_ids, statuses, strict=True), strict=True)
    }
    assert tracker.known() == expected
    done, wanted = runs_of(expected, [*trials, trial_of(9)])
    assert [trial.seed for trial in done] == [0, 1]
    assert [trial.seed for trial in wanted] == [2, 3, 4, 9]


def test_a_discarded_run_is_known_no_more(tracker):
    trial = trial_of(0)
    tracker.discard(tracker.begin(trial))
    assert tracker.known() == {}


@pytest.mark.parametrize("finished_first", [True, False])
def test_of_two_runs_of_a_trial_the_finished_one_counts(finished_first, tracker):
    trial = trial_of(0)
    first, second = tracker.begin(trial), tracker.begin(trial)
    finish(tracker, first if finished_first else second, trial)
    assert tracker.known()[trial.id] == Known(first if finished_first else second, "finished")


def test_runs_of_other_programs_in_the_experiment_are_let_alone(tracker, uri):
    client = MlflowClient(uri)
    client.create_run(client.get_experiment_by_name(tracker.experiment).experiment_id, run_name="theirs")
    assert tracker.known() == {}


# --- the store ---


def test_the_file_read_by_itself_tells_what_mlflows_search_does(tracker, monkeypatch):
    trials = [trial_of(seed) for seed in range(5)]
    ids = [tracker.begin(trial) for trial in trials]
    finish(tracker, ids[0], trials[0])
    tracker.fail(ids[1], "no", "Traceback")
    tracker.log(ids[2], [(0, {"layer1/z_std": 1.0, "layer2/z_std": 1.0})])
    tracker.interrupt(ids[2])
    tracker.discard(ids[3])
    again = tracker.begin(trials[4])
    read = reader.trial_runs(tracker._client, tracker._id)
    assert len(read) == 5
    assert {run.run_id for run in read} == {*ids[:3], ids[4], again}
    by_client = reader.trial_runs_by_client(tracker._client, tracker._id)
    assert sorted(read, key=str) == sorted(by_client, key=str)
    assert [run.run_id for run in read if run.diagnosed] == [ids[2]]
    known = tracker.known()
    monkeypatch.setattr("fnnexp.tracking.sql.TRIALS", "SELECT of_another_version FROM runs WHERE ? = ?")
    assert tracker.known() == known


def test_the_default_store_is_mlflow_db_in_the_working_directory(store, own_folder):
    Tracker("here", None).begin(trial_of(0))
    assert MlflowClient(store).get_experiment_by_name("here") is not None


def test_the_variable_names_the_store_and_tracking_uri_goes_before_it(
    empty_store, own_folder, monkeypatch, invoke
):
    named, said = empty_store(own_folder / "named"), empty_store(own_folder / "said")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    command = ["data=digits", "epochs=0", "execution.n_jobs=1"]
    assert invoke(*command).status == 0
    assert invoke(*command, f"tracking.uri={said}", "tracking.experiment=elsewhere").status == 0
    assert not (own_folder / "mlflow.db").exists()
    for uri, experiment in ((named, "digits"), (said, "elsewhere")):
        names = {one.name for one in MlflowClient(uri).search_experiments()}
        assert names == {"Default", experiment}
        assert len(known_trials(experiment, uri)) == 1


def test_looking_for_a_store_makes_none(own_folder, monkeypatch):
    assert not has_store(None)
    assert not has_store("sqlite:///elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///named.db")
    assert not has_store(None)
    assert known_trials("card_grid", None) == {}
    assert list(own_folder.iterdir()) == []


def test_a_store_that_is_there_is_found(store, own_folder, monkeypatch):
    assert has_store(None)
    assert has_store(store)
    assert has_store("http://127.0.0.1:1")
    assert known_trials("no such experiment", None) == {}
    names = {one.name for one in MlflowClient(store).search_experiments()}
    assert names == {"Default"}


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


SMALL = ("data=digits", "epochs=1", "execution.n_jobs=1", "batching=full")


@pytest.mark.parametrize("name", ["Jose\u0301's caf\u00e9", "50% of a+b&c=d#e"])
def test_a_folder_of_any_name_has_its_store_in_it_and_nothing_beside_it(name, own_folder, invoke):
    """MLflow writes its default store's path encoded, and used to make a folder of that name too."""
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


def test_a_store_elsewhere_has_its_artifacts_beside_it(own_folder, invoke):
    here, there = own_folder / "here", own_folder / "there is"
    here.mkdir()
    there.mkdir()
    uri = f"sqlite:///{there.as_posix()}/runs.db"
    ran = invoke(*SMALL, f"tracking.uri='{uri}'", "tracking.experiment=a/b", cwd=here)
    assert ran.status == 0, ran.err
    assert not (here / "mlruns").exists()
    (weights,) = [path for path in files_in(there) if path.endswith("weights.npz")]
    assert re.fullmatch(r"mlruns/a_b-[0-9a-f]{8}/[0-9a-f]{32}/artifacts/weights\.npz", weights)
    encoded = uri.replace(" ", "%20")
    (run_id,) = frames.runs("a/b", tracking_uri=encoded)["run_id"]
    assert artifacts.read(run_id, "weights.npz", uri, most=10**6) == (there / weights).read_bytes()
    again = invoke(*SMALL, f"tracking.uri='{encoded}'", "tracking.experiment=a/b", cwd=here)
    assert "1 was done before" in again.out
    assert invoke("report", "a/b", "--uri", uri, cwd=here).status == 0
    assert not (here / "mlruns").exists()


def test_a_store_that_another_program_holds_is_not_refused_for_that(store, own_folder):
    with closing(sqlite3.connect(own_folder / "mlflow.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        refuse_unreadable(store)


def test_the_store_that_mlflow_was_told_has_its_artifacts_beside_it(own_folder, monkeypatch):
    there = own_folder / "there"
    there.mkdir()
    monkeypatch.setattr(_tracking_service.utils, "_tracking_uri", f"sqlite:///{there.as_posix()}/mlflow.db")
    tracker = Tracker("told", None)
    tracker.open()
    place = (
        MlflowClient(f"sqlite:///{there.as_posix()}/mlflow.db")
        .get_experiment_by_name("told")
        .artifact_location
    )
    assert place.startswith(f"{there.as_uri()}/mlruns/told-")


def no_database(folder):
    (folder / "mlflow.db").write_text("junk\n" * 300)
    return


def a_folder(folder):
    (folder / "mlflow.db").mkdir()
    return


@pytest.mark.parametrize(
    ("store_of", "said"),
    [
        (no_database, r"sqlite:///\S*mlflow\.db can't be opened: DatabaseError: file is not a database"),
        (a_folder, r"sqlite:///\S*mlflow\.db can't be opened: OperationalError: "),
        (lambda _: "foo://x", "foo://x can't be opened: Un"),
        (lambda _: "sqlite://nope.db", "sqlite://nope.db names no file"),
        (lambda _: "mysql://ann:secret@h/y", "mysql://h/y can't be opened: ModuleNotFoundError: No module"),
    ],
)
def test_commands_that_read_say_in_a_line_what_is_wrong_with_a_store(
    store_of, said, own_folder, invoke, started
):
    uri = store_of(own_folder)
    named = [] if uri is None else ["--uri", uri]
    before = files_in(own_folder)
    for command in (["report", "digits", *named], ["ui", *named]):
        ran = invoke(*command)
        assert ran.status == 2
        assert re.match(f"fnnexp: MLflow's store {said}", ran.err), ran.err
        assert ran.err.count("\n") == 1
        assert "secret" not in ran.err
    assert started == []
    assert files_in(own_folder) == before


def test_a_deleted_experiment_is_an_error_that_says_how_to_get_it_back(tracker, uri):
    client = MlflowClient(uri)
    number = client.get_experiment_by_name(tracker.experiment).experiment_id
    client.delete_experiment(number)
    with pytest.raises(FnnexpError, match=rf"was deleted.*--experiment-id {number}.*tracking\.experiment="):
        Tracker(tracker.experiment, uri).open()


@pytest.mark.parametrize("uri", ["sqlite:///a_file/mlflow.db", "nonsense://x"])
def test_a_store_that_cannot_be_opened_is_an_error_that_says_what_to_write(uri, own_folder):
    (own_folder / "a_file").touch()
    with pytest.raises(FnnexpError, match=r"can't be opened.*tracking\.uri=sqlite:///mlflow\.db"):
        Tracker("grid", uri).open()


def test_a_server_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("fnnexp.tracking.retry.AT_START", 1.0)
    with pytest.raises(FnnexpError, match=r"http://127\.0\.0\.1:9 does not answer"):
        Tracker("grid", "http://127.0.0.1:9").open()


# --- what ran and where ---


@pytest.fixture
def fresh_environment(monkeypatch):
    """Return environment() as a new process would; git looks no further up than the test's folder."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.path.dirname(os.getcwd()))  # noqa: PTH109, PTH120
    return environment.__wrapped__


def git(*words):
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_run_says_which_versions_and_which_machine(fresh_environment):
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


def test_in_a_repository_the_commit_and_whether_it_was_changed_are_told(fresh_environment, own_folder):
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


def test_a_store_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "a file").write_text("x")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "foreign.db").write_text("this is no database" * 100)
    for name, reason in {
        "a file/mlflow.db": "is no folder",
        "folder.db": "unable to open",
        "foreign.db": "not a database",
    }.items():
        with pytest.raises(FnnexpError, match=rf"can't be written: .*{reason}.*tracking\.uri="):
            Tracker("here", f"sqlite:///{tmp_path / name}").check()
    Tracker("here", f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}").check()
    Tracker("here", "http://127.0.0.1:9").check()


@contextmanager
def nobody():
    """Be a user without rights, if root runs the tests: root may write everywhere."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.skipif(not hasattr(os, "setresuid"), reason="where users can't be changed")
def test_a_read_only_folder_is_refused_at_once():
    with TemporaryDirectory() as folder:  # pytest's own can't be entered by others
        Path(folder).chmod(0o555)
        with nobody(), pytest.raises(FnnexpError, match="read-only"):
            Tracker("here", f"sqlite:///{folder}/mlflow.db").check()


# --- what MLflow's UI shows ---

GRID = [
    {"arch": arch, "init": init, "batching": "mini", "seed": str(seed), "optimizer.lr": lr, "data": "mnist"}
    for arch in ("relu_100", "tanh_128")
    for init, lr in (("max", "0.1"), ("he", "0.2"))
    for seed in range(3)
]


def about(experiment, command="fnnexp -cn grid", params=GRID, validated=True):
    return About(experiment, params, validated, command)


def tags_of(tracker, uri):
    return MlflowClient(uri).get_experiment_by_name(tracker.experiment).tags


@pytest.fixture
def described(uri, request):
    """Return ``described(**more)``: a sweep begins, and says what it is; its tracker."""

    def begin(**more):
        begun = Tracker(request.node.name, uri, about(request.node.name, **more))
        begun.open()
        return begun

    return begin


def test_an_experiment_says_what_it_is_and_which_commands_made_it(described, uri):
    described()
    note = tags_of(described(command="fnnexp -cn grid 'seed=range(9)'"), uri)["mlflow.note.content"]
    assert note.startswith("12 trials on mnist, one run each: arch (2) × init (2) × seed (3).")
    assert "    fnnexp -cn grid\n    fnnexp -cn grid 'seed=range(9)'" in note
    again = tags_of(described(), uri)["mlflow.note.content"]  # it is the last now, and stands there once
    assert "    fnnexp -cn grid 'seed=range(9)'\n    fnnexp -cn grid\n\n" in again


def test_a_description_that_somebody_wrote_is_left_alone(described, uri):
    begun = described()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(begun.experiment).experiment_id
    client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    tags = tags_of(described(command="fnnexp another"), uri)
    assert tags["mlflow.note.content"] == "mine"
    assert "fnnexp another" in tags["fnnexp.commands"]


def test_a_view_is_the_same_to_every_version_of_mlflow(described, uri):
    tags = tags_of(described(), uri)
    for view in (RUNS, CURVES, PARALLEL):
        kept = json.loads(tags[f"mlflow.sharedViewState.{view}"])
        state = json.loads(kept.pop("state"))
        assert {key: kept[key] for key in state} == state
        assert set(kept) - set(state) == {"name", "createdAt", *saved_views.WHOLE} - set(state)


def test_a_param_has_a_column_where_nothing_else_says_it(described, uri):
    def columns(**more):
        view = tags_of(described(**more), uri)[f"mlflow.sharedViewState.{RUNS}"]
        return json.loads(view)["selectedColumns"]

    assert "params.`optimizer.lr`" not in columns()  # it follows init
    freely = [{**each, "optimizer.lr": lr} for each in GRID for lr in ("0.1", "0.2")]
    assert columns(params=freely)[3:6] == [
        "params.`seed`",
        "params.`optimizer.lr`",
        "metrics.`best_val_accuracy`",
    ]
    assert "metrics.`test_accuracy`" in columns(validated=False)


def test_whatever_a_sweep_says_of_itself_fits_mlflows_tags(described, uri):
    many = [{f"optimizer.{k}": str(i) for k in range(99)} | {"init": f"{i:040}"} for i in range(300)]
    tags = tags_of(described(command="x" * 9000, params=many), uri)
    assert max(map(len, tags.values())) <= 5000
    assert tags["mlflow.note.content"].count("x" * 1000)


def test_a_trial_without_validation_has_no_best_and_one_that_diverged_has_its_last():
    assert best_of([(1, {"test_accuracy": 0.5})]) == {}
    assert best_of([(1, {"val_accuracy": 0.5}), (2, {"val_accuracy": math.nan})])["best_val_epoch"] == 1
