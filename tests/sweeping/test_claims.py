"""Two sweeps at once on one experiment: no trial is trained twice, and who dies holds nothing."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fnnexp.sweeping.locks import Claims, folder_for


def test_what_one_sweep_has_claimed_another_leaves_to_it(tmp_path):
    with Claims(tmp_path).on("here", ["a", "b", "b"]) as elsewhere:
        assert elsewhere == {}
        with Claims(tmp_path).on("here", ["b", "c"]) as others:
            assert set(others) == {"b"}
            assert f"process {os.getpid()}" in others["b"]
            with Claims(tmp_path).on("here", ["a", "b", "c", "d"]) as third:
                assert set(third) == {"a", "b", "c"}
        with Claims(tmp_path).on("there", ["a"]) as another_experiment:
            assert another_experiment == {}
    with Claims(tmp_path).on("here", ["a", "b", "c", "d"]) as later:
        assert later == {}
    assert list(tmp_path.glob("*.lock")) == []


def test_an_error_gives_the_claims_up(tmp_path):
    with pytest.raises(RuntimeError), Claims(tmp_path).on("here", ["a"]):
        raise RuntimeError
    with Claims(tmp_path).on("here", ["a"]) as elsewhere:
        assert elsewhere == {}


def test_a_killed_sweep_holds_no_claim(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from fnnexp.sweeping.locks import Claims\n"
        "with Claims(Path(sys.argv[1])).on('here', ['a']): print('claimed', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"claimed\n"
        with Claims(tmp_path).on("here", ["a"]) as elsewhere:
            assert list(elsewhere) == ["a"]
        other.kill()
    with Claims(tmp_path).on("here", ["a"]) as elsewhere:
        assert elsewhere == {}
    with closing(sqlite3.connect(tmp_path / "claims.db")) as table:
        assert table.execute("SELECT * FROM claims").fetchall() == []


def test_a_file_where_the_folder_should_be_claims_nothing_and_refuses_nothing(tmp_path):
    (tmp_path / "no").write_text("a file")
    with Claims(tmp_path / "no").on("here", ["a"]) as elsewhere:
        assert elsewhere == {}


def test_claims_are_beside_the_store_that_they_are_about(tmp_path):
    beside = folder_for(f"sqlite:///{tmp_path / 'a' / 'mlflow.db'}", tmp_path)
    assert beside == tmp_path / "a" / ".fnnexp" / "claims"
    one, other = (folder_for(f"http://127.0.0.1:{port}", tmp_path) for port in (1, 2))
    assert one != other
    assert {one.parent, other.parent} == {tmp_path / "claims"}


COMMAND = [sys.executable, "-m", "fnnexp", "-m", "data=digits", "init=he,max", "epochs=30", "batching=sample"]


def test_two_sweeps_started_at_once_train_each_trial_once(tmp_path):
    """Each is told other seeds, of which some are the same; each trains what the other has not claimed."""
    words = ["execution.n_jobs=1", "execution.segment_seconds=0.2"]
    pipes = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen([*COMMAND, *words, f"seed={seeds}"], **pipes) for seeds in ("0,1", "1,2")]
    said = [one.communicate(timeout=240)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert any("2 are left to another sweep" in text for text in said), said
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "fnnexp"]
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == len({run.data.tags["fnnexp.trial"] for run in runs}) == 6
    for run in runs:
        assert run.info.status == "FINISHED"
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train_loss")]
        assert steps == list(range(1, 31))


def test_the_same_command_beside_itself_is_refused_clearly(tmp_path):
    words = ["execution.n_jobs=1", "epochs=3000", "execution.segment_seconds=0.2"]
    pipes = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*COMMAND, *words], **pipes) as first:
        try:
            deadline = time.monotonic() + 60
            while not list(Path(tmp_path).glob(".fnnexp/claims/*.lock")):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            second = subprocess.run([*COMMAND, *words], **pipes, timeout=120, check=False)
        finally:
            first.send_signal(signal.SIGTERM)
            said = first.communicate(timeout=60)[0]
    assert second.returncode == 2, second.stdout
    told = rf"another sweep \(process {first.pid}, since .*\) is training 2 of these"
    assert re.search(told, second.stdout)
    assert first.returncode == 130, said  # SIGTERM is like Ctrl-C
    assert "start the same command again" in said
