"""Tests that stores are never upgraded in place: a kill or a full disk leaves the old or the new store.

The independent truth: MLflow's own migrations make the old stores, and SQLite reads the results.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from contextlib import closing, suppress
from types import SimpleNamespace

import mlflow
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_latest_schema_revision, _upgrade_db, create_sqlalchemy_engine
from stores import OLD, make_old_store, revision_of, rows_of_runs

import fnnexp
from fnnexp.tracking import schema
from fnnexp.tracking.writer import Tracker
from servers.processes import free_port

KILLS = max(int(os.environ.get("FNNEXP_KILLS", "30")) // 10, 3)
NOW = _get_latest_schema_revision()
ONE = ["data=digits", "epochs=1", "arch.hidden=[4]", "execution.n_jobs=1"]

unix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGKILL nor such limits")


@pytest.fixture(scope="module")
def trained(empty_store, tmp_path_factory, invoke):
    """Return the file of a store with one finished run."""
    folder = tmp_path_factory.mktemp("trained")
    empty_store(folder)
    ran = invoke(*ONE, cwd=folder)
    assert ran.status == 0, ran.err
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def before(trained, tmp_path_factory):
    """Return an old store with that run, for the tests to copy."""
    file = tmp_path_factory.mktemp("old") / "mlflow.db"
    make_old_store(file, trained)
    return file


@pytest.fixture
def old(before, own_folder):
    file = own_folder / "mlflow.db"
    file.write_bytes(before.read_bytes())
    return file


@pytest.fixture
def upgraded_here(monkeypatch):
    """Upgrade a copy in this process, as `mlflow db upgrade` does; its start takes seconds.

    The tests without this fixture run the command.
    """

    def run(command, **_):
        *start, uri = command
        assert start == [sys.executable, "-m", "mlflow", "db", "upgrade"]
        engine, error = create_sqlalchemy_engine(uri), ""
        try:
            _upgrade_db(engine)
        except Exception:
            error = traceback.format_exc()
        engine.dispose()
        return subprocess.CompletedProcess(command, bool(error), "", error)

    monkeypatch.setattr(schema, "subprocess", SimpleNamespace(run=run))


def break_half_way(file, filled=True):
    """Make the store of a killed migration: its next step has created a table without recording it."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE logged_models (model_id VARCHAR(50) NOT NULL)")
        database.executemany("INSERT INTO logged_models VALUES (?)", [("a model",)] * filled)
        database.commit()


def names_in(folder):
    """Return a store's files and leftovers of its creation, without SQLite's side files."""
    names = sorted(path.name for path in folder.iterdir() if "mlflow.db" in path.name)
    return [name for name in names if not name.endswith(schema.SIDES)]


def answers(file):
    """Assert that a store is complete and at the newest revision; return its experiments."""
    assert revision_of(file) == NOW
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return MlflowClient(f"sqlite:///{file}").search_experiments()


# --- new stores ---


def test_revisions_agree_with_mlflow():
    known, last = schema.migrations()
    assert last == {NOW}, (
        f"MLflow {mlflow.__version__}: its migrations have moved; fnnexp.tracking.schema reads them; MLflow "
        "changes stores in place until it is adapted"
    )
    assert {OLD, NOW} <= known


def test_a_new_store_leaves_no_other_file_beside_it(own_folder):
    messages = []
    schema.ready(own_folder / "mlflow.db", messages.append)
    assert names_in(own_folder) == ["mlflow.db"]
    assert [experiment.name for experiment in answers(own_folder / "mlflow.db")] == ["Default"]
    assert messages == []


def test_an_up_to_date_store_is_unchanged(store, own_folder, monkeypatch):
    monkeypatch.setattr(schema, "_locked", None)
    content = (own_folder / "mlflow.db").read_bytes()
    schema.ready(own_folder / "mlflow.db", None)
    assert schema.readable(own_folder / "mlflow.db", None) == own_folder / "mlflow.db"
    assert (own_folder / "mlflow.db").read_bytes() == content


def test_a_store_created_meanwhile_by_another_process_is_kept(own_folder, empty_store, monkeypatch):
    make = schema._make
    file = own_folder / "mlflow.db"

    def slowly(made):
        make(made)
        empty_store(own_folder)
        MlflowClient(f"sqlite:///{file}").create_experiment("theirs")

    monkeypatch.setattr(schema, "_make", slowly)
    schema.ready(file, None)
    assert "theirs" in [experiment.name for experiment in answers(file)]


def test_sqlite_files_of_a_removed_store_are_not_applied_to_a_new_store(own_folder):
    (own_folder / "mlflow.db-wal").write_bytes(b"old")
    (own_folder / "mlflow.db-journal").write_bytes(b"old")
    schema.ready(own_folder / "mlflow.db", None)
    assert names_in(own_folder) == ["mlflow.db"]
    answers(own_folder / "mlflow.db")


@pytest.mark.parametrize("links", [True, False])
def test_an_empty_file_becomes_a_store(links, own_folder, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    (own_folder / "mlflow.db").touch()
    schema.ready(own_folder / "mlflow.db", None)
    assert names_in(own_folder) == ["mlflow.db"]
    answers(own_folder / "mlflow.db")


def no_links(*_):
    raise PermissionError(1, "Operation not permitted")


# --- an old store ---


@pytest.mark.parametrize(("mode", "links"), [("delete", True), ("wal", False)])
def test_a_sweep_announces_an_upgrade_and_keeps_the_old_file(
    mode, links, old, trained, invoke, own_folder, monkeypatch
):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with closing(sqlite3.connect(old)) as database:
        database.execute(f"PRAGMA journal_mode={mode}")
    runs = rows_of_runs(old)
    assert runs == rows_of_runs(trained)
    assert len(runs["runs"]) == 1
    ran = invoke(*ONE)
    assert ran.status == 0, ran.err
    kept = own_folder / f"mlflow.db.before-{NOW}"
    announced = ran.err.index("upgrades a copy")
    assert announced < ran.err.index(str(kept))
    assert re.search(r"0 trials finished in [\d.]+ s; 1 was done before", ran.out)
    assert names_in(own_folder) == ["mlflow.db", kept.name]
    answers(old)
    assert rows_of_runs(old) == runs
    assert (revision_of(kept), rows_of_runs(kept)) == (OLD, runs)


@pytest.mark.long
@pytest.mark.usefixtures("upgraded_here", "blank_figures")
def test_reading_commands_read_an_upgraded_copy_and_print_a_note(old, invoke, own_folder):
    content = old.read_bytes()
    ran = invoke("report", "digits")
    assert ran.status == 0, ran.err
    assert "1 trial of 1 configuration: 1 finished" in ran.out
    assert ran.err.count("an upgraded copy is read") == 1
    assert "The report is not in MLflow" in ran.out
    assert "1 trial, 1 done, 0 to run" in invoke(*ONE, "dry_run=true").out
    assert len(fnnexp.runs("digits")) == 1
    assert len(fnnexp.curves("digits")) > 0
    assert old.read_bytes() == content
    assert names_in(own_folder) == ["mlflow.db"]


@pytest.mark.long
@pytest.mark.usefixtures("upgraded_here")
def test_the_copy_is_renewed_if_the_store_changes(old):
    assert len(fnnexp.runs("digits")) == 1
    with closing(sqlite3.connect(old)) as database:
        database.execute("UPDATE runs SET lifecycle_stage = 'deleted'")
        database.commit()
    assert len(fnnexp.runs("digits")) == 0


@pytest.mark.long
@pytest.mark.usefixtures("upgraded_here")
def test_the_ui_upgrades_an_old_store_before_the_server_starts(old, invoke, started):
    runs = rows_of_runs(old)
    ran = invoke("ui", "--port", str(free_port()))
    assert "upgrades a copy" in ran.err
    assert len(started) == 1
    assert (revision_of(old), rows_of_runs(old)) == (NOW, runs)


IDLE = """
import sqlite3, sys
store = sqlite3.connect("mlflow.db")
store.execute(sys.argv[1]).fetchall()
store.execute("SELECT count(*) FROM runs").fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "how",
    [
        "PRAGMA journal_mode=WAL",
        "BEGIN IMMEDIATE",
        pytest.param(
            "SELECT 1",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists idle processes"),
        ),
    ],
)
@pytest.mark.usefixtures("upgraded_here")
def test_an_old_store_open_in_another_program_is_not_upgraded(how, old, invoke, own_folder):
    command = [sys.executable, "-c", IDLE, how]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        ran = invoke(*ONE)
        other.stdin.close()
    assert ran.status == 2
    assert "has it open; stop that" in ran.err
    assert revision_of(old) == OLD
    assert names_in(own_folder) == ["mlflow.db"]
    assert invoke(*ONE).status == 0


STOPPED = """
import os, sys
from mlflow.store.db.utils import _upgrade_db, create_sqlalchemy_engine
from sqlalchemy import event
engine, steps = create_sqlalchemy_engine("sqlite:///mlflow.db"), 0

@event.listens_for(engine, "before_cursor_execute")
def count(connection, cursor, statement, *_):
    global steps
    steps += not statement.lstrip().upper().startswith(("PRAGMA", "SELECT"))
    if steps > int(sys.argv[1]):
        os._exit(9)

_upgrade_db(engine)
"""


@pytest.mark.long
@pytest.mark.parametrize("statements", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (4, 5))])
@pytest.mark.usefixtures("upgraded_here")
def test_a_stopped_upgrade_is_completed_without_losing_runs(statements, old, trained, invoke):
    """MLflow is stopped in the first step of its own upgrade in place."""
    assert subprocess.run([sys.executable, "-c", STOPPED, str(statements)], check=False).returncode == 9
    assert revision_of(old) == OLD
    with closing(sqlite3.connect(old)) as database:
        assert database.execute("SELECT name FROM sqlite_master WHERE name = 'logged_models'").fetchall()
    ran = invoke(*ONE)
    assert ran.status == 0, ran.err
    assert "1 was done before" in ran.out
    answers(old)
    assert rows_of_runs(old) == rows_of_runs(trained)


@pytest.mark.usefixtures("upgraded_here")
def test_files_left_by_a_killed_upgrade_are_removed(old, own_folder):
    (own_folder / f"mlflow.db.before-{NOW}").hardlink_to(old)
    for name in ("killed", "alive"):
        folder = own_folder / f".mlflow.db.{name}"
        folder.mkdir()
        (folder / "lock").touch()
        (folder / "new.db-wal").touch()
    with FileLock(own_folder / ".mlflow.db.alive" / "lock"):
        schema.ready(old, lambda line: None)
    assert names_in(own_folder) == [".mlflow.db.alive", "mlflow.db", f"mlflow.db.before-{NOW}"]
    answers(old)
    assert rows_of_runs(own_folder / f"mlflow.db.before-{NOW}") == rows_of_runs(old)


# --- stores that can't be upgraded ---


@pytest.mark.long
def test_a_half_upgraded_store_with_runs_is_refused_unchanged(old, invoke, own_folder, request):
    break_half_way(old)
    content = old.read_bytes()
    for words in (ONE, ["report", "digits"], ["ui"]):
        ran = invoke(*words)
        assert ran.status == 2, words
        assert "is half-way between two versions of MLflow" in ran.err
        assert "table logged_models already exists" in ran.err
        assert f"mv {old} {old}.half-way" in ran.err
        assert (old.read_bytes(), names_in(own_folder)) == (content, ["mlflow.db"])
        request.getfixturevalue("upgraded_here")  # the first time, the command itself has run
    old.rename(own_folder / "mlflow.db.half-way")
    assert invoke(*ONE).status == 0


def test_a_half_made_store_without_runs_is_replaced(own_folder, invoke):
    file = own_folder / "mlflow.db"
    make_old_store(file)
    break_half_way(file)
    ran = invoke(*ONE)
    assert ran.status == 0, ran.err
    assert f"the old file is {file}.half-made" in ran.err
    answers(file)
    assert revision_of(own_folder / "mlflow.db.half-made") == OLD


@pytest.mark.parametrize("words", [ONE, ["report", "digits"], ["ui"], [*ONE, "dry_run=true"]])
def test_a_store_of_a_newer_mlflow_is_refused_with_advice(words, store, invoke, own_folder, started):
    with closing(sqlite3.connect(own_folder / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'feedbeef0000'")
        database.commit()
    ran = invoke(*words, *(["--port", str(free_port())] if words == ["ui"] else []))
    assert ran.status == 2
    assert "written by a newer MLflow" in ran.err
    assert "feedbeef0000; run pip install -U mlflow" in ran.err
    assert "sqlite:///mlflow.db" not in ran.err
    assert started == []


def test_the_database_of_another_program_is_refused_unchanged(own_folder, invoke):
    file = own_folder / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE accounts (id INTEGER)")
    content = file.read_bytes()
    for words in (ONE, ["report", "digits"]):
        ran = invoke(*words)
        assert ran.status == 2
        assert "the database of another program: it has the tables accounts" in ran.err
    assert file.read_bytes() == content


def test_without_known_migrations_mlflow_opens_the_store(monkeypatch, store, own_folder, invoke):
    monkeypatch.setattr(schema, "migrations", lambda: (frozenset(), frozenset()))
    assert invoke(*ONE).status == 0


# --- kills and full disks ---


def open_store(folder):
    """Open the store in a folder as a sweep does, which creates or upgrades it; show no messages."""
    os.setsid()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    Tracker("digits", None).open()


@pytest.fixture(scope="module")
def opening():
    """Return ``opening(folder)``: a started process that opens the store there.

    It has imported MLflow when it starts, so a kill hits the work and not the imports.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["fnnexp.tracking.writer", "mlflow.store.tracking.sqlalchemy_store", "pytest"]
    )

    def start(folder):
        process = processes.Process(target=open_store, args=(folder,))
        process.start()
        return process

    first = processes.Process(target=abs, args=(0,))  # starts the server that the others are forked from
    first.start()
    first.join()
    return start


def status_of(process):
    process.join(60)
    return process.exitcode


def moments_of_writing(process, folder):
    """Return the seconds from now at which SQLite is writing in a folder, until the process has ended."""
    began, moments = time.monotonic(), []
    while process.is_alive():
        if any(folder.rglob("*-journal")):
            moments.append(time.monotonic() - began)
        time.sleep(0.002)
    return moments


@unix
@pytest.mark.long
@pytest.mark.parametrize("start", ["nothing", "old"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_store(start, before, own_folder, opening):
    """Kill the process at a random moment of its writing, every time in a new folder."""
    chance = random.Random(int(os.environ.get("FNNEXP_CHAOS_SEED", "0")))
    runs, moments, left = rows_of_runs(before), [], set()
    for kill in range(-1, KILLS):  # the first process is not killed
        folder = own_folder / str(kill)
        folder.mkdir()
        file = folder / "mlflow.db"
        if start == "old":
            file.write_bytes(before.read_bytes())
        process = opening(folder)
        if kill < 0:
            moments = moments_of_writing(process, folder)
            assert status_of(process) == 0
        else:
            process.join(chance.choice(moments))
            for end in (os.kill, os.killpg):  # the group has MLflow's own command too
                with suppress(ProcessLookupError):
                    end(process.pid, signal.SIGKILL)
            process.join()
        left.add(revision_of(file) if file.exists() else None)
        if file.exists() and start == "old":
            assert rows_of_runs(file) == runs
        assert status_of(opening(folder)) == 0
        answers(file)
        assert not [name for name in names_in(folder) if name.startswith(".")]
        if start == "old":
            assert rows_of_runs(file) == runs
            assert rows_of_runs(folder / f"mlflow.db.before-{NOW}") == runs
    assert left <= {None if start == "nothing" else OLD, NOW}


@unix
@pytest.mark.long
@pytest.mark.usefixtures("upgraded_here")  # in the command that resumes
@pytest.mark.parametrize(
    ("start", "kilobytes"),
    [("nothing", 0), ("nothing", 300), ("nothing", 900), ("old", 40), ("old", 300), ("old", 900)],
)
def test_a_full_disk_leaves_the_old_store_or_none(kilobytes, start, before, own_folder, invoke):
    """A limit on the size of files acts on SQLite like a full disk.

    An old store has 220 kilobytes, a new store 950. The limits leave room for no file, for no copy of the old
    store, for some of the new tables, and for all tables but the last.
    """
    file = own_folder / "mlflow.db"
    if start == "old":
        file.write_bytes(before.read_bytes())
    room = kilobytes * 1000
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}));"
    main = "from fnnexp.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", f"import sys; {limited}{main}", *ONE]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    if start == "old":
        assert file.read_bytes() == before.read_bytes()
    assert names_in(own_folder) == (["mlflow.db"] if start == "old" else [])
    assert invoke(*ONE).status == 0
    answers(file)
