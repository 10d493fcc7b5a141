"""Tests with a real MLflow server on PostgreSQL: the same numbers as SQLite, and no loss while it is away."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from rich.console import Console
from stores import assert_same_results, results

import fnnexp
from fnnexp.config.execution import Execution
from fnnexp.errors import FnnexpError
from fnnexp.sweeping.loop import run
from fnnexp.sweeping.resources.locks import PREFIX
from fnnexp.tracking import retry
from fnnexp.tracking.retry import StoreAwayError, StoreError, is_remote, mlflow_settings, patiently
from fnnexp.tracking.writer import Tracker
from servers.mlflow_server import MlflowServer
from servers.postgres import NoPostgresError, Postgres
from servers.processes import free_port

GRID = ["arch=relu_98", "init=sqrtmax,xavier,he", "batching=mini,full", "epochs=3"]
LONG = ["arch=relu_98", "init=he", "seed=0,1", "epochs=150"]


@pytest.fixture(scope="module")
def postgres():
    try:
        with pytest.MonkeyPatch.context() as patch:
            # As root, PostgreSQL runs as another user, who cannot enter the temporary folder of the tests.
            for variable in ("TMPDIR", "TEMP", "TMP"):
                patch.delenv(variable, raising=False)
            patch.setattr(tempfile, "tempdir", None)
            server = Postgres()
    except NoPostgresError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    started = MlflowServer(postgres.uri, tmp_path_factory.mktemp("mlflow"))
    yield started
    started.stop()


def until(happened, seconds=60):
    """Wait until a condition holds; fail if it does not."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def swept(trials, uri, experiment, *, file=None, **changed):
    """Run trials as one sweep in this process, and return the outcome and the printed text."""
    console = Console(file=file or io.StringIO(), width=250)
    chosen = Execution(**{"n_jobs": 1, "backend": "threading"} | changed)
    return run(trials, Tracker(experiment, uri), chosen, console), console.file.getvalue()


@pytest.mark.usefixtures("blank_figures")
def test_a_sweep_over_http_into_postgresql_has_bitwise_the_results_of_sqlite(
    server, store, trials_of, invoke, same_bits
):
    trials = trials_of(*GRID)
    swept(trials, store, "grid")
    words = ["-m", "data=digits", *GRID, "execution.backend=threading", "execution.n_jobs=1"]
    here = ["tracking.experiment=grid", f"tracking.uri={server.uri}"]
    ran = invoke(*words, *here)
    assert ran.status == 0, ran.err
    assert "6 trials finished" in ran.out
    assert_same_results(results(server.uri, "grid"), results(store, "grid"), same_bits)

    where = {"tracking_uri": server.uri}
    by = ["trial", "metric", "epoch"]
    from_server, from_file = fnnexp.curves("grid", **where), fnnexp.curves("grid", tracking_uri=store)
    assert from_server[[*by, "value"]].sort_values(by).astype(str).to_numpy().tolist() == (
        from_file[[*by, "value"]].sort_values(by).astype(str).to_numpy().tolist()
    )
    columns = ["trial", "arch", "init", "batching", "test_accuracy", "train_loss"]
    runs = [
        frame[columns].sort_values("trial").astype(str).to_numpy().tolist()
        for frame in (fnnexp.runs("grid", **where), fnnexp.runs("grid", tracking_uri=store))
    ]
    assert runs[0] == runs[1]

    again = invoke(*words, *here)
    assert re.search(r"0 trials finished in [\d.]+ s; 6 were done before", again.out)
    dry = invoke("dry_run=true", *words, *here)
    assert "6 trials, 6 done, 0 to run" in dry.out
    report = invoke("report", "grid", "--uri", server.uri)
    assert report.status == 0, report.err


def test_a_sweep_waits_for_a_restarting_server_and_loses_nothing(
    server, store, tmp_path, trials_of, same_bits
):
    trials = trials_of(*LONG)
    swept(trials, store, "long")
    output = io.StringIO()

    def restart():
        until(lambda: list((tmp_path / ".fnnexp" / "checkpoints").glob("*.npz")))
        server.stop()
        until(lambda: "does not answer" in output.getvalue())
        server.start()

    restarter = threading.Thread(target=restart)
    restarter.start()
    outcome, _ = swept(trials, server.uri, "long", file=output, segment_seconds=0.1, max_lanes=1)
    restarter.join()
    assert outcome.failed == []
    assert output.getvalue().count(f"MLflow at {server.uri} does not answer") >= 1
    assert f"MLflow at {server.uri} answers again" in output.getvalue()
    assert_same_results(results(server.uri, "long"), results(store, "long"), same_bits)


def test_two_machines_at_once_train_every_trial_once(server, tmp_path):
    """Processes with different cache folders act as two machines. Their sweeps share some seeds."""
    words = ["-m", "data=digits", "init=he,max", "epochs=100", "batching=sample", "execution.n_jobs=1"]
    words += ["execution.segment_seconds=0.2", "tracking.experiment=machines", f"tracking.uri={server.uri}"]
    machines = []
    for name, seeds in (("one", "0,1"), ("other", "1,2")):
        (tmp_path / name).mkdir()
        machines.append(
            subprocess.Popen(
                [sys.executable, "-m", "fnnexp", *words, f"seed={seeds}"],
                cwd=tmp_path / name,
                env={**os.environ, "FNNEXP_CACHE": str(tmp_path / name / "cache")},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=240)[0] for process in machines]
    assert [process.returncode for process in machines] == [0, 0], outputs
    assert any("2 are left to another sweep (process" in text for text in outputs), outputs
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("machines")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == len({run.data.tags["fnnexp.trial"] for run in runs}) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not [key for key in experiment.tags if key.startswith(PREFIX)]


def test_interrupting_a_deleted_run_is_silent(server, trials_of):
    tracker = Tracker("deleted", server.uri)
    run_id = tracker.begin(trials_of(*GRID)[0])
    MlflowClient(server.uri).delete_run(run_id)
    tracker.interrupt(run_id)


class LosesAnswers(http.server.BaseHTTPRequestHandler):
    """Forwards requests to the server, and loses its first answer to every kind of write."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        onward = http.client.HTTPConnection(urlsplit(self.server.onward).netloc)
        headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
        onward.request(self.command, self.path, body, headers)
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        kind = self.path.partition("?")[0].rpartition("/")[2]
        if self.command != "GET" and "search" not in kind and kind not in self.server.lost:
            self.server.lost.append(kind)
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type") or "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def losing(server):
    """Return a proxy of the server that loses answers; `lost` lists the requests."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), LosesAnswers) as proxy:
        proxy.onward, proxy.lost = server.uri, []
        proxy.uri = f"http://127.0.0.1:{proxy.server_port}"
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


def test_a_lost_answer_creates_no_second_run_or_point(losing, server, store, trials_of, same_bits):
    trials = trials_of("arch=relu_98", "init=he", "seed=0,1", "epochs=2")
    swept(trials, store, "lost")
    outcome, output = swept(trials, losing.uri, "lost")
    assert {"create", "log-batch", "update", "weights.npz", "config.yaml"} <= set(losing.lost)
    assert outcome.failed == []
    assert "does not answer" in output
    assert_same_results(results(server.uri, "lost"), results(store, "lost"), same_bits)


def test_an_absent_server_is_reported_in_seconds_before_training(invoke, monkeypatch):
    monkeypatch.setattr(retry, "AT_START", 1.0)
    address = f"http://127.0.0.1:{free_port()}"
    for words in (
        ["data=digits", f"tracking.uri={address}"],
        ["data=digits", f"tracking.uri={address}", "dry_run=true"],
        ["report", "grid", "--uri", address],
    ):
        ran = invoke(*words)
        assert ran.status != 0
        assert f"MLflow at {address} has not answered" in ran.err
        assert "Traceback" not in ran.err
    assert not Path(".fnnexp").exists()


# --- waiting ---


class Store:
    """Raises the given errors in turn, and then answers."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def __call__(self):
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def away():
    from requests.exceptions import ConnectionError as Refused

    return Refused("refused")


@pytest.fixture
def waits(monkeypatch):
    """Return the list of requested waits in seconds, without waiting."""
    seconds = []
    monkeypatch.setattr(retry.time, "sleep", seconds.append)
    return seconds


def test_waits_grow_and_print_two_messages(waits):
    messages = []
    store = Store(*(away() for _ in range(8)))
    assert patiently(store, uri="http://u:secret@h:1", say=messages.append) == "answer"
    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert len(messages) == 2
    assert messages[0].startswith("MLflow at http://h:1 does not answer (ConnectionError: refused)")
    assert messages[1].startswith("MLflow at http://h:1 answers again")


def test_a_refusal_of_the_store_is_raised_at_once(waits):
    with pytest.raises(ValueError, match="no such"):
        patiently(Store(ValueError("no such")), uri="http://h:1", say=print)
    assert waits == []


def test_a_local_store_is_not_waited_for(waits):
    assert not is_remote("sqlite:///mlflow.db")
    assert not is_remote("file:///x")
    assert not is_remote("mlruns")
    assert is_remote("https://h")
    assert is_remote("postgresql+psycopg2://u:p@h/d")
    with pytest.raises(StoreError, match="refused"):
        patiently(Store(away()), uri="sqlite:///mlflow.db", say=print)


def test_waiting_ends_with_an_error(monkeypatch, waits):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(retry.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(StoreAwayError, match="start the same command again") as raised:
        patiently(Store(*(away() for _ in range(99))), uri="http://h:1", say=lambda line: None)
    assert isinstance(raised.value, FnnexpError)
    assert raised.value.exit_status == 1


def test_a_slow_call_is_reported(monkeypatch):
    monkeypatch.setattr(retry, "SLOW", 0.01)
    messages = []

    def slow():
        until(lambda: messages)
        return "answer"

    assert patiently(slow, uri="http://h:1", say=messages.append) == "answer"
    assert messages == ["MLflow at http://h:1 is slow to answer; waiting for it"]


RETRIES, BARS, _ = retry.VARIABLES


def test_mlflow_settings_turn_retries_and_bars_off_and_restore_the_environment(monkeypatch):
    monkeypatch.setenv(RETRIES, "5")
    monkeypatch.delenv(BARS, raising=False)
    with mlflow_settings():
        assert (os.environ[RETRIES], os.environ[BARS]) == ("0", "false")
        with contextlib.suppress(ValueError), mlflow_settings():
            raise ValueError
        assert (os.environ[RETRIES], os.environ[BARS]) == ("0", "false")
    assert os.environ[RETRIES] == "5"
    assert BARS not in os.environ


def test_the_last_thread_to_leave_restores_the_environment(monkeypatch):
    monkeypatch.setenv(RETRIES, "5")
    inside, leave = threading.Barrier(3), [threading.Event(), threading.Event()]

    def use(until_told):
        with mlflow_settings():
            inside.wait()
            until_told.wait()

    threads = [threading.Thread(target=use, args=[event]) for event in leave]
    for thread in threads:
        thread.start()
    inside.wait()
    for thread, event, expected in zip(threads, leave, ("0", "5"), strict=True):
        event.set()
        thread.join()
        assert os.environ[RETRIES] == expected


def environment():
    """Return the process's variables without the variables that importing MLflow sets."""
    return {key: value for key, value in os.environ.items() if not key.startswith("_MLFLOW")}


def test_public_calls_restore_the_environment(store, trials_of):
    before = environment()
    swept(trials_of("epochs=1"), store, "here")
    assert environment() == before
    fnnexp.runs("here", tracking_uri=store)
    with pytest.raises(FnnexpError):
        fnnexp.curves("nowhere", tracking_uri=store)
    assert environment() == before
