"""Tests of where stores and their files are: unusual names, moved projects, and hostile addresses."""

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
from fnnexp.tracking.store import address_or_default, mlflow_command, option, store_file
from fnnexp.tracking.writer import Tracker

SMALL = ["-m", "data=digits", "epochs=1", "arch.hidden=[4]", "batching=full", "execution.n_jobs=1"]
NOBODY = "~nosuchuser"


def files_in(folder):
    """Return the bytes of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def places(folder):
    """Return all paths below a folder except SQLite's files."""
    return {path for path in folder.rglob("*") if not path.name.startswith("mlflow.db")}


def execute(folder, statement, *values):
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        return database.execute(statement, values).fetchall()


# --- addresses of stores ---


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
def test_a_store_in_memory_is_refused_before_training(uri, own_folder, invoke, started, monkeypatch):
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


def test_an_empty_variable_selects_the_default_store(own_folder, invoke, monkeypatch, request):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    (own_folder / "mlruns").mkdir()  # an empty folder is not a store
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


@pytest.mark.usefixtures("blank_figures")
def test_a_tilde_is_the_users_home_folder(own_folder, invoke, monkeypatch, empty_store):
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
def test_an_unknown_home_folder_is_refused_in_one_line(
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


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX users")
def test_a_user_without_a_home_folder_gets_a_private_cache(own_folder, invoke, monkeypatch, capsys):
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
def test_a_folder_name_that_mlflow_would_misread_is_refused(name, own_folder, invoke, started):
    folder = own_folder / name
    folder.mkdir()
    for words in (SMALL, ["report", "digits"], ["ui"]):
        ran = invoke(*words, cwd=folder)
        assert ran.status == 2
        assert "write tracking.uri=sqlite:///FOLDER/mlflow.db" in ran.err
    assert [path.name for path in own_folder.rglob("*")] == [name]
    away = own_folder / "away" / "mlflow.db"
    assert invoke(*SMALL, "++epochs=0", f"tracking.uri={quoted(f'sqlite:///{away}')}", cwd=folder).status == 0
    assert away.exists()


def test_a_bare_word_is_not_taken_for_a_store_of_mlflow_2(own_folder, invoke):
    ran = invoke("report", "x", "--uri", "results")
    assert ran.status == 2
    assert "results is neither a store" in ran.err
    assert "migrate" not in ran.err


# --- a project that was moved or copied ---


@pytest.fixture(scope="module")
def project(empty_store, tmp_path_factory, invoke, undrawn):
    """Return the folder of a sweep of two trials and its report."""
    folder = tmp_path_factory.mktemp("a project") / "one"
    empty_store(folder)
    assert invoke(*SMALL, "init=he,max", cwd=folder).status == 0
    with undrawn():
        assert invoke("report", "digits", cwd=folder).status == 0
    return folder


@pytest.fixture
def moved(project, own_folder):
    """Return the folder of a copy of the project that was then copied again under another name."""
    shutil.copytree(project, own_folder / "one")
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
        execute(own_folder / "one", change, project.as_uri(), (own_folder / "one").as_uri())
    shutil.copytree(own_folder / "one", own_folder / "two")
    return own_folder / "two"


def downloaded(folder):
    """Return the file names and the weights of every run, read by MLflow's own client."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    now = {}
    for run in client.search_runs([client.get_experiment_by_name("digits").experiment_id]):
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        content = None
        if "weights.npz" in names:
            content = Path(client.download_artifacts(run.info.run_id, "weights.npz")).read_bytes()
        now[run.info.run_id] = names, content
    return now


@pytest.mark.parametrize("gone", [False, True], ids=["copied", "moved"])
@pytest.mark.parametrize("how", ["from within", "by its address"])
@pytest.mark.usefixtures("blank_figures")
def test_a_moved_project_writes_only_to_its_new_folder(moved, gone, how, invoke):
    former = moved.with_name("one")
    if gone:
        shutil.rmtree(former)
    before = files_in(former)
    known = downloaded(moved) if not gone else {}
    uri, cwd = f"sqlite:///{moved / 'mlflow.db'}", moved if how == "from within" else moved.parent
    named = ([], []) if how == "from within" else ([f"tracking.uri={quoted(uri)}"], ["--uri", uri])
    ran = invoke(*SMALL, "init=he,max,xavier", *named[0], cwd=cwd)
    assert ran.status == 0, ran.err
    assert "2 were done before" in ran.out
    assert f"was moved or copied: its files were in {former}" in ran.out + ran.err
    reported = invoke("report", "digits", *named[1], cwd=cwd)
    assert reported.status == 0, reported.err
    assert "was moved" not in reported.out + reported.err  # the note is printed once
    assert files_in(former) == before
    assert former.exists() is not gone
    weights = {Path(name).parts[2]: data for name, data in files_in(moved).items() if "weights.npz" in name}
    assert len(weights) == 3
    now = downloaded(moved)
    assert {run: content for run, (_, content) in now.items() if content} == weights
    assert {run: content for run, content in now.items() if run in known} == {
        run: (names, content) if content else now[run] for run, (names, content) in known.items()
    }
    (page,) = [run for run, (names, content) in now.items() if not content]
    (html,) = moved.rglob(f"{page}/artifacts/report.html")
    assert "confusion" in html.read_text("utf-8")  # the best trial's weights were found
    assert str(former) not in html.read_text("utf-8")


@pytest.mark.usefixtures("blank_figures")
def test_a_report_of_a_moved_project_uses_the_moved_files(moved, invoke, started):
    former = moved.with_name("one")
    shutil.rmtree(former)
    (run_id,) = frames.runs("digits", tracking_uri=f"sqlite:///{moved / 'mlflow.db'}")["run_id"][:1]
    (file,) = moved.rglob(f"{run_id}/artifacts/weights.npz")
    uri = f"sqlite:///{moved / 'mlflow.db'}"
    assert artifacts.read(run_id, "weights.npz", uri, most=10**6) == file.read_bytes()
    assert invoke("report", "digits", cwd=moved).status == 0
    assert not former.exists()


def test_the_ui_of_a_moved_project_shows_the_moved_files(moved, invoke, started):
    before = {run: names for run, (names, _) in downloaded(moved).items()}
    shutil.rmtree(moved.with_name("one"))
    assert not any(names for names, _ in downloaded(moved).values())
    ran = invoke("ui", cwd=moved)
    assert "was moved or copied" in ran.err
    assert {run: names for run, (names, _) in downloaded(moved).items()} == before


def test_files_left_behind_keep_their_address(moved, invoke):
    shutil.rmtree(moved / "mlruns")
    former = moved.with_name("one")
    before, known = files_in(former), downloaded(moved)
    assert invoke(*SMALL, "init=he,max,xavier", cwd=moved).status == 0
    assert files_in(former) == before
    (new,) = moved.rglob("weights.npz")
    now = downloaded(moved)
    assert {run: now[run] for run in known} == known
    assert now[new.parts[-3]][1] == new.read_bytes()


def test_other_programs_experiments_are_unchanged(moved, invoke):
    client = MlflowClient(f"sqlite:///{moved / 'mlflow.db'}")
    other = client.create_experiment("other", "file:///srv/mlruns/other")
    run = client.create_run(other).info
    assert invoke(*SMALL, "init=he,max", cwd=moved).status == 0
    assert client.get_experiment(other).artifact_location == "file:///srv/mlruns/other"
    assert client.get_run(run.run_id).info.artifact_uri == run.artifact_uri
    assert execute(moved, "SELECT artifact_location FROM experiments WHERE name = 'digits'") == [
        (next((moved / "mlruns").iterdir()).as_uri(),)
    ]


def test_an_experiment_moved_before_its_first_run_gets_a_new_address(store, own_folder):
    about = About("grid", [{"data": "digits"}], command="fnnexp")
    Tracker("grid", store, about).open()
    execute(own_folder, "UPDATE experiments SET artifact_location = 'file:///x/mlruns/grid-1'")
    Tracker("grid", store, about).open()
    (address,) = execute(own_folder, "SELECT artifact_location FROM experiments WHERE name = 'grid'")
    assert address == ((own_folder / "mlruns" / "grid-1").as_uri(),)


# --- addresses on this machine's disk ---


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
def test_artifact_addresses_resolve_beside_the_store(address, path):
    folder = artifacts.local(address, "sqlite:////here/mlflow.db")
    assert folder == (path and Path(path))


@pytest.fixture
def outside(own_folder):
    """Return a folder beside the store's folder, with a file that a report would overwrite."""
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
@pytest.mark.usefixtures("blank_figures")
def test_a_report_is_never_written_outside_the_stores_folder(address, project, own_folder, outside, invoke):
    folder = own_folder / "store"
    shutil.copytree(project, folder)
    (folder / "link").symlink_to(outside)
    (run,) = execute(folder, "SELECT run_uuid FROM runs WHERE name = 'report'")
    recorded = address.format(
        outside=outside.as_uri(), outside_path=outside.as_posix(), store=folder.as_uri(), run=run[0]
    )
    execute(folder, "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", recorded, run[0])
    before = places(folder), files_in(outside)
    ran = invoke("report", "digits", "--uri", f"sqlite:///{folder}/mlflow.db")
    assert ran.status == 0, ran.err
    assert "The report is not in MLflow: MLflow's store" in ran.out
    assert (own_folder / "reports" / "digits" / "report.html").exists()
    assert (places(folder), files_in(outside)) == before


def test_weights_are_never_written_or_read_outside_the_stores_folder(project, own_folder, outside, invoke):
    folder = own_folder / "store"
    shutil.copytree(project, folder)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    execute(folder, "UPDATE experiments SET artifact_location = ?", outside.as_uri())
    count, before = execute(folder, "SELECT count(*) FROM runs"), files_in(outside)
    ran = invoke(*SMALL, "init=he,max,xavier", cwd=folder)
    assert ran.status == 2
    assert f"has this experiment's files in {outside}" in ran.err
    assert (
        f"write tracking.experiment=NAME for an experiment whose files are in {folder / 'mlruns'}" in ran.err
    )
    assert execute(folder, "SELECT count(*) FROM runs") == count
    assert invoke(*SMALL, "init=xavier", "tracking.experiment=mine", cwd=folder).status == 0
    (run_id,) = frames.runs("digits", tracking_uri=uri)["run_id"][:1]
    (outside / "weights.npz").write_bytes(b"secret")
    execute(folder, "UPDATE runs SET artifact_uri = ?", outside.as_uri())
    with pytest.raises(FnnexpError, match="reads and writes only inside"):
        artifacts.read(run_id, "weights.npz", uri, most=100)
    assert files_in(outside) == {**before, "weights.npz": b"secret"}


def test_links_among_a_runs_files_are_not_followed(outside, own_folder):
    uri, run = f"sqlite:///{own_folder}/mlflow.db", "a" * 32
    address = (own_folder / "mlruns" / "1" / run / "artifacts").as_uri()
    files = artifacts.RunFiles(run, address, uri)
    (folder := Path(artifacts.repository(run, address, uri).artifact_dir)).mkdir(parents=True)
    for name in ("config.yaml", "weights.npz", "traceback.txt"):
        (folder / name).symlink_to(outside / "report.html")
    files.write({"seed": 1}, {"weights.npz": {"W1": np.zeros(3)}})
    with pytest.raises(MlflowException, match="outside the artifact directory"):
        files.write_text("traceback.txt", "why")
    assert files_in(outside) == {"report.html": b"mine"}
    assert sorted(files_in(folder)) == ["config.yaml", "traceback.txt", "weights.npz"]
    assert (folder / "config.yaml").read_text() == "seed: 1\n"


def test_a_server_may_name_local_folders_only_in_the_working_directory(own_folder, outside):
    here = own_folder / "here"
    here.mkdir()
    with contextlib.chdir(here):
        for uri in ("http://127.0.0.1:5000", "postgresql://ann:secret@db/runs"):
            assert artifacts.local(f"{here}/mlruns/1", uri) == here / "mlruns" / "1"
            with pytest.raises(FnnexpError, match="let the server keep them") as raised:
                artifacts.local(outside.as_uri(), uri)
            assert "secret" not in str(raised.value)
            assert str(here / "mlruns") in str(raised.value)


def test_mlruns_may_be_a_link_and_its_target_is_printed(store, own_folder, invoke, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    (own_folder / "mlruns").symlink_to(disk)
    ran = invoke(*SMALL, "init=he")
    assert ran.status == 0, ran.err
    assert f"the files of 'digits' go to {disk}/digits-" in ran.out
    assert list(disk.rglob("weights.npz"))


def test_a_note_names_a_remote_artifact_location(store, own_folder):
    client = MlflowClient(store)
    client.create_experiment("away", "s3://bucket/key")
    tracker, messages = Tracker("away", store), []
    tracker.say = messages.append
    tracker.open()
    assert messages == ["the files of 'away' go to s3://bucket/key, not beside its store"]


def test_a_command_names_its_store_only_if_necessary(own_folder, monkeypatch):
    elsewhere = f"sqlite:///{own_folder / 'a b' / 'mlflow.db'}"
    assert option(None) == option("sqlite:///mlflow.db") == ""
    assert option(f"sqlite:///{own_folder}/mlflow.db") == ""
    assert shlex.split(option("sqlite:///my.db")) == ["--uri", f"sqlite:///{own_folder}/my.db"]
    assert shlex.split(option(elsewhere.replace(" ", "%20"))) == ["--uri", elsewhere]
    assert option("http://h:1") == " --uri http://h:1"
    assert mlflow_command("http://h:1") == "MLFLOW_TRACKING_URI=http://h:1 mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://h:1")
    assert shlex.split(option("sqlite:///mlflow.db")) == ["--uri", f"sqlite:///{own_folder}/mlflow.db"]
    assert option(None) == " --uri http://h:1"


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize(
    "uri", ["http://ann:secret@h:1/x", 'http://a:secret@h/$(touch x)`touch x`"}; touch x']
)
def test_a_password_is_not_printed_and_the_shell_asks_for_it(uri, own_folder):
    command = f"printf %s{option(uri)}"
    assert "secret" not in command
    variables = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    with_variable = subprocess.run(
        command, shell=True, env={**variables, "MLFLOW_TRACKING_URI": uri}, capture_output=True, text=True
    )
    assert with_variable.stdout == f"--uri{uri}"
    without_variable = subprocess.run(command, shell=True, env=variables, capture_output=True, text=True)
    assert without_variable.returncode != 0
    assert without_variable.stdout == ""
    assert "MLFLOW_TRACKING_URI: set it to the address of http://h" in without_variable.stderr
    assert list(own_folder.iterdir()) == []


def test_the_recorded_command_contains_no_password(store, monkeypatch, own_folder, invoke):
    recorded = []
    monkeypatch.setattr(Tracker, "check", lambda tracker: recorded.append(tracker.about.command) or exit(3))
    ran = invoke(*SMALL, "tracking.uri='http://ann:secret@127.0.0.1:1'")
    assert ran.status == 3
    assert recorded == [shlex.join(["fnnexp", *SMALL, "tracking.uri='http://127.0.0.1:1'"])]


def test_only_one_module_resolves_home_folders():
    sources = (Path(fnnexp.__file__).parent).rglob("*.py")
    users = {
        path.stem for path in sources if re.search(r"expanduser|Path\.home|\bHOME\"", path.read_text("utf-8"))
    }
    assert users == {"sources"}


def test_the_stores_address_is_resolved_in_order(monkeypatch, own_folder):
    assert address_or_default(None) == address_or_default("") == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://h:1")
    assert (address_or_default(None), address_or_default("sqlite:///x.db")) == (
        "http://h:1",
        "sqlite:///x.db",
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert address_or_default(None) == "sqlite:///mlflow.db"
    assert store_file("sqlite:///x.db") == own_folder / "x.db"
