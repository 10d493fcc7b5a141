"""Tests of the messages about a store that fails at the first call: the problem and what to write instead."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.tracking import store as stores
from fnnexp.tracking.retry import reason
from fnnexp.tracking.store import asked_first
from fnnexp.tracking.writer import Tracker

ONE = ["data=digits", "epochs=1", "arch.hidden=[4]", "execution.n_jobs=1"]

OUT_OF_DATE = (
    "Detected out-of-date database schema (found version {}, but expected 17e22815139b). Take a backup of "
    "your database, then run 'mlflow db upgrade <database_uri>' to migrate your database to the latest "
    "schema. NOTE: schema migration may result in database downtime - please consult your database's "
    "documentation for more detail."
)


def message_of(error, uri):
    """Return the message that replaces an error at the first call to a store."""
    with pytest.raises(FnnexpError) as raised, asked_first(uri):
        raise error
    return str(raised.value)


@pytest.fixture
def answering(monkeypatch):
    """Return ``answering(status, body)``: the address of a server that gives this answer to every request."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    def serve(status, body):
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b"You are not authenticated."),
        (403, b"Permission denied"),
        (403, json.dumps({"error_code": "PERMISSION_DENIED", "message": "no"}).encode()),
    ],
)
def test_a_server_that_requires_a_login_names_the_variables(status, body, answering, invoke):
    uri = answering(status, body)
    for words in ([*ONE, f"tracking.uri={uri}"], ["report", "digits", "--uri", uri]):
        ran = invoke(*words)
        assert ran.status == 2
        assert f"MLflow's store {uri} refuses access: " in ran.err
        for variable in ("USERNAME", "PASSWORD", "TOKEN"):
            assert f"MLFLOW_TRACKING_{variable}" in ran.err
        assert "does not answer" not in ran.err


def test_a_web_page_is_not_reported_as_an_unreachable_server(answering, invoke):
    ran = invoke("report", "digits", "--uri", answering(404, b"<html>nothing here</html>"))
    assert ran.status == 2
    assert "can't be opened" in ran.err
    assert "<html>nothing here</html>" in ran.err


def test_mlflows_remedy_for_an_old_database_is_shown_completely():
    text = OUT_OF_DATE.format("0584bdc529eb")
    message = message_of(MlflowException(text), "postgresql://ann:secret@db/runs")
    assert text in message
    assert "does not answer" not in message
    assert "secret" not in message


def test_no_upgrade_is_advised_for_a_newer_database():
    message = message_of(MlflowException(OUT_OF_DATE.format("feedbeef0000")), "postgresql://db/runs")
    assert "feedbeef0000; run pip install -U mlflow" in message
    assert "db upgrade" not in message


@pytest.mark.parametrize("error", [DeprecationWarning("old"), TypeError("a bug"), AssertionError("a bug")])
def test_errors_of_other_origin_are_raised_unchanged(error):
    with pytest.raises(type(error)) as raised, asked_first(None):
        raise error
    assert raised.value is error


def test_a_warning_raised_as_an_error_is_not_reported_as_a_store_failure(store, monkeypatch):
    monkeypatch.setattr(stores, "client", lambda *_, **__: warnings.warn("old", FutureWarning, stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FutureWarning, match="old"):
            Tracker("warned", store).open()


@pytest.mark.parametrize("uri", [None, "sqlite:///mlflow.db", "sqlite:///./mlflow.db", "sqlite:///other.db"])
def test_the_advice_never_names_the_store_that_failed(uri, own_folder):
    message = message_of(sqlite3.DatabaseError("file is not a database"), uri)
    (advised,) = re.findall(r"tracking\.uri=(\S+)", message)
    assert stores.store_file(advised) != stores.store_file(uri or "sqlite:///mlflow.db")


@pytest.mark.parametrize("path", ["results", "results/mlflow.db"])
def test_the_path_of_a_store_is_refused_with_its_address(path, own_folder, empty_store):
    empty_store(own_folder / "results")
    with pytest.raises(FnnexpError, match=rf"store {path} is a path, not an address") as raised:
        fnnexp.runs("one", tracking_uri=path)
    (address,) = re.findall(r"tracking\.uri=(\S+)", str(raised.value))
    assert fnnexp.experiments(tracking_uri=address).empty


def test_the_advice_names_another_store_if_the_default_store_is_broken(own_folder, invoke):
    (own_folder / "mlflow.db").write_text("junk\n" * 300)
    ran = invoke("report", "digits")
    assert "file is not a database" in ran.err
    assert "sqlite:///mlflow.db for" not in ran.err


def test_a_reason_is_the_system_error_or_the_whole_library_message():
    long = "the schema is old.\n" + "x" * 150 + "\nRun `mlflow db upgrade`"
    assert reason(ValueError(long)) == f"ValueError: the schema is old. {'x' * 150} Run `mlflow db upgrade`"
    outer = MlflowException("API request failed")
    outer.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert reason(outer) == "ConnectionRefusedError: [Errno 111] Connection refused"
    assert reason(ValueError("no such host in mysql://ann:secret@h/y")).endswith("mysql://h/y")
    assert reason(FnnexpError("whole. Write this")) == "whole. Write this"


# --- a folder of MLflow 2 ---

QUIET = {"PYTHONWARNINGS": "ignore"}

MAKE = """
from mlflow import MlflowClient
client = MlflowClient("mlruns")
run = client.create_run(client.create_experiment("before"))
client.log_metric(run.info.run_id, "loss", 0.5)
print(run.info.run_id)
"""


@pytest.fixture(scope="module")
def made_by_mlflow_2(tmp_path_factory, shared_cache):
    """Create a folder with one run by MLflow's file store, for the tests to copy; return it and the id."""
    folder = tmp_path_factory.mktemp("mlflow_2")
    environment = os.environ | QUIET | {"MLFLOW_ALLOW_FILE_STORE": "true"}
    made = subprocess.check_output([sys.executable, "-c", MAKE], cwd=folder, env=environment, text=True)
    return folder / "mlruns", made.strip()


@pytest.fixture
def files_of_mlflow_2(made_by_mlflow_2, own_folder):
    """Copy this folder into the working directory; return the run's id."""
    made, run_id = made_by_mlflow_2
    shutil.copytree(made, own_folder / "mlruns")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            MlflowClient((own_folder / "mlruns").as_uri())
    except MlflowException:
        return run_id
    pytest.skip("this MLflow version opens a folder of files")


@pytest.mark.long
@pytest.mark.parametrize("words", [ONE, ["report", "before"], ["ui"], [*ONE, "dry_run=true"]])
def test_a_folder_of_mlflow_2_is_refused_with_a_migration_command_that_works(
    words, files_of_mlflow_2, own_folder, invoke, started
):
    ran = invoke(*words)
    assert ran.status == 2
    assert f"{own_folder / 'mlruns'} is a store written by MLflow 2" in ran.err
    assert "does not answer" not in ran.err
    assert not (own_folder / "mlflow.db").exists()
    if words is not ONE:
        return
    (command,) = re.findall(r"run (mlflow migrate-filestore .*?)\. ", ran.err)
    (uri,) = set(re.findall(r"tracking\.uri=(\S+)", ran.err))
    done = subprocess.run([sys.executable, "-m", *shlex.split(command)], check=False, env=os.environ | QUIET)
    assert done.returncode == 0
    assert invoke(*ONE, f"tracking.uri={uri}").status == 0
    assert len(fnnexp.runs("digits", tracking_uri=uri)) == 1
    assert MlflowClient(uri).get_run(files_of_mlflow_2).data.metrics == {"loss": 0.5}
