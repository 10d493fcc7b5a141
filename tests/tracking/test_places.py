"""Places: where a store and its files are, whatever a folder is called, moved to, or a database says."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

import fnnexp
from fnnexp.config.commands import quoted
from fnnexp.data import cache
from fnnexp.errors import FnnexpError
from fnnexp.results import frames
from fnnexp.tracking import artifacts
from fnnexp.tracking.experiment import About
from fnnexp.tracking.store import given, mlflow_command, option, store_file
from fnnexp.tracking.writer import Tracker

SMALL = ["-m", "data=digits", "epochs=1", "arch.hidden=[4]", "batching=full", "execution.n_jobs=1"]
NOBODY = "~nosuchuser"


def files_in(folder):
    """Return the bytes of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def places(folder):
    """Return the path of everything below a folder but SQLite's own."""
    return {path for path in folder.rglob("*") if not path.name.startswith("mlflow.db")}


def execute(folder, statement, *values):
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        return database.execute(statement, values).fetchall()


# --- what names a store ---


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///:memory:?cache=shared",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///x.db?mode=memory&uri=true",
        "sqlite+pysqlite:///:memory:",
        "SQLite://",
        "SQLITE:///x.db",
        "sqlite+pysqlite:///x.db",
    ],
)
def test_a_store_that_would_be_gone_at_the_end_is_refused_before_anything_trains(
    uri, own_folder, invoke, started, monkeypatch
):
    named = f"tracking.uri={quoted(uri)}"
    for words in ([*SMALL, named], [*SMALL, named, "dry_run=true"], ["report", "x", "--uri", uri], ["ui"]):
        if words == ["ui"]:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        ran = invoke(*words)
        assert ran.status == 2, words
        assert ran.err.startswith(f"fnnexp: MLflow's store {uri} ")
        assert "write tracking.uri=sqlite:///FOLDER/mlflow.db" in ran.err
    assert started == []
    assert list(own_folder.iterdir()) == []


def test_an_empty_variable_names_no_store(own_folder, invoke, monkeypatch, request):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    (own_folder / "mlruns").mkdir()  # a folder of files is no store
    for words in (["ui"], ["report", "digits"]):
        ran = invoke(*words)
        assert ran.status == 2
        assert "o sweep has been recorded here" in ran.err
    assert files_in(own_folder) == {}
    assert invoke(*SMALL, "++epochs=0").status == 0
    assert list(frames.runs("digits", tracking_uri="sqlite:///mlflow.db")["status"]) == ["finished"]
    started = request.getfixturevalue("started")
    assert invoke("ui").status == 7
    assert started[0][-1] == f"sqlite:///{own_folder / 'mlflow.db'}"


def test_a_home_folder_is_that_of_the_user(own_folder, invoke, monkeypatch, empty_store):
    (own_folder / "here").mkdir()
    monkeypatch.setenv("HOME", str(own_folder / "home"))
    monkeypatch.setenv("USERPROFILE", str(own_folder / "home"))
    empty_store(own_folder / "home")
    uri = "sqlite:///~/mlflow.db"
    ran = invoke(*SMALL, "++epochs=0", f"tracking.uri='{uri}'", cwd=own_folder / "here")
    assert ran.status == 0, ran.err
    assert invoke("report", "digits", "--uri", uri, "--folder", "~/page", cwd=own_folder / "here").status == 0
    assert (own_folder / "home" / "page" / "report.html").exists()
    assert execute(own_folder / "home", "SELECT count(*) FROM runs") == [(2,)]
    assert not (own_folder / "here" / "~").exists()


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (None, ["data=files", f"data.path='{NOBODY}/a.npz'"]),
        (None, ["data=files", "data.path=a.csv", f"data.test_path='{NOBODY}/a.csv'"]),
        ("FNNEXP_MNIST", ["data=mnist"]),
        ("FNNEXP_CACHE", ["data=digits"]),
        (None, ["data=digits", f"tracking.uri='sqlite:///{NOBODY}/mlflow.db'"]),
        (None, ["data=digits", f"tracking.uri='sqlite:///{NOBODY}/mlflow.db'", "dry_run=true"]),
        (None, ["report", "digits", "--uri", f"sqlite:///{NOBODY}/mlflow.db"]),
        (None, ["report", "digits", "--folder", NOBODY]),
        (None, ["reproduce", "--folder", NOBODY]),
        (None, ["ui", "--uri", f"sqlite:///{NOBODY}/mlflow.db"]),
    ],
)
def test_a_home_folder_that_is_not_known_is_one_line(
    variable, words, own_folder, invoke, monkeypatch, started
):
    if variable:
        monkeypatch.setenv(variable, f"{NOBODY}/x")
    ran = invoke(*words)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert f"the home folder of {NOBODY} is unknown " in ran.err
    assert "write the full path" in ran.err
    assert started == []
    assert list(own_folder.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="users as POSIX has them")
def test_a_user_without_a_home_trains_with_a_cache_of_his_own(own_folder, invoke, monkeypatch, capsys):
    def unknown(_):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for variable in ("HOME", "XDG_CACHE_HOME", "FNNEXP_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    (own_folder / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(own_folder / "tmp"))
    cache._warn_once.cache_clear()
    ran = invoke(*SMALL, "++epochs=0")
    assert ran.status == 0, ran.err
    assert ran.err.count("the home folder, where the cache belongs, is unknown; ") == 1
    (folder,) = (own_folder / "tmp").glob("fnnexp-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.glob("prepared/*/x_train.npy"))
    assert not (own_folder / "~").exists()


@pytest.mark.parametrize("name", ["what?", "a%20b"])
def test_a_folder_whose_name_mlflow_would_read_as_another_is_refused(name, own_folder, invoke, started):
    folder = own_folder / name
    folder.mkdir()
    for words in (SMALL, ["report", "digits"], ["ui"]):
        ran = invoke(*words, cwd=folder)
        assert ran.status == 2
        assert "write tracking.uri=sqlite:///FOLDER/mlflow.db" in ran.err
    assert [path.name for path in own_folder.rglob("*")] == [name]
    away = own_folder / "away" / "mlflow.db"
    assert invoke(*SMALL, "++epochs=0", f"tracking.uri=sqlite:///{away}", cwd=folder).status == 0
    assert away.exists()


def test_an_address_that_is_a_bare_word_is_no_store_of_mlflow_2(own_folder, invoke):
    ran = invoke("report", "x", "--uri", "results")
    assert ran.status == 2
    assert "results is no address of a store" in ran.err
    assert "migrate" not in ran.err


# --- a project that was moved or copied ---


@pytest.fixture(scope="module")
def project(empty_store, tmp_path_factory, invoke):
    """Return the folder of a sweep of two trials and its report."""
    folder = tmp_path_factory.mktemp("a project") / "one"
    empty_store(folder)
    assert invoke(*SMALL, "init=he,max", cwd=folder).status == 0
    assert invoke("report", "digits", cwd=folder).status == 0
    return folder


@pytest.fixture
def moved(project, own_folder):
    """Return the project's folder after it was copied, and the copy moved."""
    shutil.copytree(project, own_folder / "one")
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
        execute(own_folder / "one", change, project.as_uri(), (own_folder / "one").as_uri())
    shutil.copytree(own_folder / "one", own_folder / "two")
    return own_folder / "two"


def downloaded(folder):
    """Return what MLflow's own client gives of every run: its file names, and its weights."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = {}
    for run in client.search_runs([client.get_experiment_by_name("digits").experiment_id]):
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        content = None
        if "weights.npz" in names:
            content = Path(client.download_artifacts(run.info.run_id, "weights.npz")).read_bytes()
        found[run.info.run_id] = names, content
    return found


@pytest.mark.parametrize("gone", [False, True], ids=["copied", "moved"])
@pytest.mark.parametrize("how", ["from within", "by its address"])
def test_what_a_moved_project_trains_is_in_it_and_nothing_is_written_where_it_was(moved, gone, how, invoke):
    one = moved.with_name("one")
    if gone:
        shutil.rmtree(one)
    before = files_in(one)
    known = downloaded(moved) if not gone else {}
    uri, cwd = f"sqlite:///{moved / 'mlflow.db'}", moved if how == "from within" else moved.parent
    named = ([], []) if how == "from within" else ([f"tracking.uri={uri}"], ["--uri", uri])
    ran = invoke(*SMALL, "init=he,max,xavier", *named[0], cwd=cwd)
    assert ran.status == 0, ran.err
    assert "2 were done before" in ran.out
    assert f"was moved or copied: its files were at {one}" in ran.out + ran.err
    reported = invoke("report", "digits", *named[1], cwd=cwd)
    assert reported.status == 0, reported.err
    assert "was moved" not in reported.out + reported.err  # it is told once
    assert files_in(one) == before
    assert one.exists() is not gone
    weights = {Path(name).parts[2]: data for name, data in files_in(moved).items() if "weights.npz" in name}
    assert len(weights) == 3
    found = downloaded(moved)
    assert {run: content for run, (_, content) in found.items() if content} == weights
    assert {run: content for run, content in found.items() if run in known} == {
        run: (names, content) if content else found[run] for run, (names, content) in known.items()
    }
    (page,) = [run for run, (names, content) in found.items() if not content]
    (html,) = moved.rglob(f"{page}/artifacts/report.html")
    assert "confusion" in html.read_text("utf-8")  # the best trial's weights were found
    assert str(one) not in html.read_text("utf-8")


def test_a_report_of_a_moved_project_reads_and_writes_what_came_with_it(moved, invoke, started):
    one = moved.with_name("one")
    shutil.rmtree(one)
    (run_id,) = frames.runs("digits", tracking_uri=f"sqlite:///{moved / 'mlflow.db'}")["run_id"][:1]
    (file,) = moved.rglob(f"{run_id}/artifacts/weights.npz")
    uri = f"sqlite:///{moved / 'mlflow.db'}"
    assert artifacts.read(run_id, "weights.npz", uri, most=10**6) == file.read_bytes()
    assert invoke("report", "digits", cwd=moved).status == 0
    assert not one.exists()


def test_the_ui_of_a_moved_project_shows_the_files_that_came_with_it(moved, invoke, started):
    before = {run: names for run, (names, _) in downloaded(moved).items()}
    shutil.rmtree(moved.with_name("one"))
    assert not any(names for names, _ in downloaded(moved).values())
    ran = invoke("ui", cwd=moved)
    assert "was moved or copied" in ran.err
    assert {run: names for run, (names, _) in downloaded(moved).items()} == before


def test_files_that_were_left_behind_keep_their_address_and_new_ones_are_beside_the_store(moved, invoke):
    shutil.rmtree(moved / "mlruns")
    one = moved.with_name("one")
    before, known = files_in(one), downloaded(moved)
    assert invoke(*SMALL, "init=he,max,xavier", cwd=moved).status == 0
    assert files_in(one) == before
    (new,) = moved.rglob("weights.npz")
    found = downloaded(moved)
    assert {run: found[run] for run in known} == known
    assert found[new.parts[-3]][1] == new.read_bytes()


def test_what_is_not_fnnexps_stays_as_it_is(moved, invoke):
    client = MlflowClient(f"sqlite:///{moved / 'mlflow.db'}")
    other = client.create_experiment("other", "file:///srv/mlruns/other")
    run = client.create_run(other).info
    assert invoke(*SMALL, "init=he,max", cwd=moved).status == 0
    assert client.get_experiment(other).artifact_location == "file:///srv/mlruns/other"
    assert client.get_run(run.run_id).info.artifact_uri == run.artifact_uri
    assert execute(moved, "SELECT artifact_location FROM experiments WHERE name = 'digits'") == [
        (next((moved / "mlruns").iterdir()).as_uri(),)
    ]


def test_an_experiment_that_was_moved_before_its_first_run_has_its_files_beside_the_store(store, own_folder):
    about = About("grid", [{"data": "digits"}], validated=False, command="fnnexp")
    Tracker("grid", store, about).open()
    execute(own_folder, "UPDATE experiments SET artifact_location = 'file:///x/mlruns/grid-1'")
    Tracker("grid", store, about).open()
    (address,) = execute(own_folder, "SELECT artifact_location FROM experiments WHERE name = 'grid'")
    assert address == ((own_folder / "mlruns" / "grid-1").as_uri(),)


# --- what a database may say of this machine's disk ---


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///here/mlruns/1/r/artifacts", "/here/mlruns/1/r/artifacts"),
        ("file://localhost/here/a%20b/r/artifacts", "/here/a b/r/artifacts"),
        ("/here/x/r/artifacts", "/here/x/r/artifacts"),
        ("/there/mlruns/1/r/artifacts", "/here/mlruns/1/r/artifacts"),
        ("/mlruns/mlruns/1", "/here/mlruns/1"),
        ("./mlruns/1/r/artifacts", "/here/mlruns/1/r/artifacts"),
        ("file:///C:/one/mlruns/1", "/here/mlruns/1"),
        ("s3://bucket/mlruns/1", None),
        ("mlflow-artifacts:/1", None),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="POSIX paths")
def test_an_address_of_files_means_a_folder_beside_the_store(address, path):
    found = artifacts.local(address, "sqlite:////here/mlflow.db")
    assert found == (path and Path(path))


@pytest.fixture
def outside(own_folder):
    """Return a folder beside that of the store, with a file that a report would overwrite."""
    folder = own_folder / "outside"
    folder.mkdir()
    (folder / "report.html").write_text("mine")
    return folder


HOSTILE = {
    "a file address": "{outside}",
    "a path": "{outside_path}",
    "a way around": "{store}/mlruns/../../outside",
    "a way around, encoded": "{store}/mlruns/%2e%2e/%2e%2e/outside",
    "with a host": "file://localhost{outside_path}",
    "of no run": "{store}/mlruns",
    "the store's folder": "{store}",
    "in a moved mlruns": "file:///x/mlruns/../../outside",
    "through a link": "{store}/link/{run}/artifacts",
    "another run's": "runs:/{run}/x",
}


@pytest.mark.parametrize("address", HOSTILE.values(), ids=HOSTILE)
def test_a_store_does_not_choose_where_a_report_is_written(address, project, own_folder, outside, invoke):
    folder = own_folder / "store"
    shutil.copytree(project, folder)
    (folder / "link").symlink_to(outside)
    (run,) = execute(folder, "SELECT run_uuid FROM runs WHERE name = 'report'")
    told = address.format(
        outside=outside.as_uri(), outside_path=outside.as_posix(), store=folder.as_uri(), run=run[0]
    )
    execute(folder, "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", told, run[0])
    before = places(folder), files_in(outside)
    ran = invoke("report", "digits", "--uri", f"sqlite:///{folder}/mlflow.db")
    assert ran.status == 0, ran.err
    assert "The report is not in MLflow: MLflow's store" in ran.out
    assert (own_folder / "reports" / "digits" / "report.html").exists()
    assert (places(folder), files_in(outside)) == before


def test_a_store_does_not_choose_where_weights_are_written_or_read(project, own_folder, outside, invoke):
    folder = own_folder / "store"
    shutil.copytree(project, folder)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    execute(folder, "UPDATE experiments SET artifact_location = ?", outside.as_uri())
    count, before = execute(folder, "SELECT count(*) FROM runs"), files_in(outside)
    ran = invoke(*SMALL, "init=he,max,xavier", cwd=folder)
    assert ran.status == 2
    assert f"has this experiment's files in {outside}" in ran.err
    assert f"write tracking.experiment=NAME for an experiment that has them in {folder / 'mlruns'}" in ran.err
    assert execute(folder, "SELECT count(*) FROM runs") == count
    assert invoke(*SMALL, "init=xavier", "tracking.experiment=mine", cwd=folder).status == 0
    (run_id,) = frames.runs("digits", tracking_uri=uri)["run_id"][:1]
    (outside / "weights.npz").write_bytes(b"secret")
    execute(folder, "UPDATE runs SET artifact_uri = ?", outside.as_uri())
    with pytest.raises(FnnexpError, match="a store does not choose"):
        artifacts.read(run_id, "weights.npz", uri, most=100)
    assert files_in(outside) == {**before, "weights.npz": b"secret"}


def test_a_link_among_the_files_of_a_run_is_not_written_through(outside, own_folder):
    uri, run = f"sqlite:///{own_folder}/mlflow.db", "a" * 32
    address = (own_folder / "mlruns" / "1" / run / "artifacts").as_uri()
    files = artifacts.repository(run, address, uri)
    (folder := Path(files.artifact_dir)).mkdir(parents=True)
    for name in ("config.yaml", "weights.npz", "traceback.txt"):
        (folder / name).symlink_to(outside / "report.html")
    artifacts.write(files, {"seed": 1}, {"W1": np.zeros(3)})
    with pytest.raises(MlflowException, match="outside the artifact directory"):
        artifacts.write_text(files, "traceback.txt", "why")
    assert files_in(outside) == {"report.html": b"mine"}
    assert sorted(files_in(folder)) == ["config.yaml", "traceback.txt", "weights.npz"]
    assert (folder / "config.yaml").read_text() == "seed: 1\n"


def test_a_server_that_names_a_folder_of_this_machine_is_followed_into_the_working_directory_alone(
    own_folder, outside
):
    here = own_folder / "here"
    here.mkdir()
    with contextlib.chdir(here):
        for uri in ("http://127.0.0.1:5000", "postgresql://ann:secret@db/runs"):
            assert artifacts.local(f"{here}/mlruns/1", uri) == here / "mlruns" / "1"
            with pytest.raises(FnnexpError, match="let the server keep them") as told:
                artifacts.local(outside.as_uri(), uri)
            assert "secret" not in str(told.value)
            assert str(here / "mlruns") in str(told.value)


def test_mlruns_may_be_a_link_to_another_disk_and_a_line_says_where_it_leads(
    store, own_folder, invoke, tmp_path_factory
):
    disk = tmp_path_factory.mktemp("disk")
    (own_folder / "mlruns").symlink_to(disk)
    ran = invoke(*SMALL, "init=he")
    assert ran.status == 0, ran.err
    assert f"the files of 'digits' go to {disk}/digits-" in ran.out
    assert list(disk.rglob("weights.npz"))


def test_files_that_somebody_keeps_elsewhere_are_said_to_go_there(store, own_folder):
    client = MlflowClient(store)
    client.create_experiment("away", "s3://bucket/key")
    tracker, said = Tracker("away", store), []
    tracker.say = said.append
    tracker.open()
    assert said == ["the files of 'away' go to s3://bucket/key, not beside its store"]


def test_a_command_names_its_store_unless_it_is_found_without(own_folder, monkeypatch):
    elsewhere = f"sqlite:///{own_folder / 'a b' / 'mlflow.db'}"
    assert option(None) == option("sqlite:///mlflow.db") == ""
    assert option(f"sqlite:///{own_folder}/mlflow.db") == ""
    assert option("sqlite:///my.db") == f" --uri sqlite:///{own_folder}/my.db"
    assert shlex.split(option(elsewhere.replace(" ", "%20"))) == ["--uri", elsewhere]
    assert option("http://h:1") == " --uri http://h:1"
    assert mlflow_command("http://h:1") == "MLFLOW_TRACKING_URI=http://h:1 mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://h:1")
    assert option("sqlite:///mlflow.db") == f" --uri sqlite:///{own_folder}/mlflow.db"
    assert option(None) == " --uri http://h:1"


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize(
    "uri", ["http://ann:secret@h:1/x", 'http://a:secret@h/$(touch x)`touch x`"}; touch x']
)
def test_a_password_is_not_printed_and_the_shell_asks_for_it(uri, own_folder):
    command = f"printf %s{option(uri)}"
    assert "secret" not in command
    variables = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    told = subprocess.run(
        command, shell=True, env={**variables, "MLFLOW_TRACKING_URI": uri}, capture_output=True, text=True
    )
    assert told.stdout == f"--uri{uri}"
    untold = subprocess.run(command, shell=True, env=variables, capture_output=True, text=True)
    assert untold.returncode != 0
    assert untold.stdout == ""
    assert "MLFLOW_TRACKING_URI: set it to the address of http://h" in untold.stderr
    assert list(own_folder.iterdir()) == []


def test_the_command_that_is_recorded_holds_no_password(store, monkeypatch, own_folder, invoke):
    recorded = []
    monkeypatch.setattr(Tracker, "check", lambda tracker: recorded.append(tracker.about.command) or exit(3))
    ran = invoke(*SMALL, "tracking.uri='http://ann:secret@127.0.0.1:1'")
    assert ran.status == 3
    assert recorded == [shlex.join(["fnnexp", *SMALL, "tracking.uri='http://127.0.0.1:1'"])]


def test_home_folders_are_found_in_one_place():
    sources = (Path(fnnexp.__file__).parent).rglob("*.py")
    users = {
        path.stem for path in sources if re.search(r"expanduser|Path\.home|\bHOME\"", path.read_text("utf-8"))
    }
    assert users == {"sources"}


def test_a_store_is_looked_for_by_one_rule(monkeypatch, own_folder):
    assert given(None) == given("") == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://h:1")
    assert (given(None), given("sqlite:///x.db")) == ("http://h:1", "sqlite:///x.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert given(None) == "sqlite:///mlflow.db"
    assert store_file("sqlite:///x.db") == own_folder / "x.db"
