"""Concurrent sweeps of one experiment: no trial is trained twice; claims of dead or silent sweeps expire."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from fnnexp.config.execution import Execution
from fnnexp.sweeping import executor
from fnnexp.sweeping.loop import run
from fnnexp.sweeping.resources.locks import BEAT, PREFIX, SILENT, Claim, folder_for
from fnnexp.sweeping.worker import train_segment
from fnnexp.tracking.retry import StoreError
from fnnexp.tracking.writer import Tracker

# --- sweeps on one machine ---


def test_a_sweep_skips_the_trials_that_another_sweep_has_claimed(tmp_path):
    with Claim(tmp_path, "here", ["a", "b", "b"]) as first:
        assert first.elsewhere == {}
        assert first.trials == ["a", "b"]
        with Claim(tmp_path, "here", ["b", "c"]) as second:
            assert set(second.elsewhere) == {"b"}
            assert f"process {os.getpid()}" in second.elsewhere["b"]
            assert second.trials == ["c"]
            with Claim(tmp_path, "here", ["a", "b", "c", "d"]) as third:
                assert set(third.elsewhere) == {"a", "b", "c"}
        with Claim(tmp_path, "there", ["a"]) as another_experiment:
            assert another_experiment.elsewhere == {}
    with Claim(tmp_path, "here", ["a", "b", "c", "d"]) as later:
        assert later.elsewhere == {}
    assert {file.name for file in tmp_path.iterdir()} <= {"turn"}


def test_an_error_releases_the_claims(tmp_path):
    with pytest.raises(RuntimeError), Claim(tmp_path, "here", ["a"]):
        raise RuntimeError
    with Claim(tmp_path, "here", ["a"]) as claim:
        assert claim.elsewhere == {}


def test_the_claim_of_a_killed_sweep_is_not_valid(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from fnnexp.sweeping.resources.locks import Claim\n"
        "with Claim(Path(sys.argv[1]), 'here', ['a']): print('claimed', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"claimed\n"
        with Claim(tmp_path, "here", ["a"]) as claim:
            assert list(claim.elsewhere) == ["a"]
        other.kill()
    with Claim(tmp_path, "here", ["a"]) as claim:
        assert claim.elsewhere == {}
    assert {file.name for file in tmp_path.iterdir()} <= {"turn"}


def test_a_truncated_claim_is_ignored_and_removed(tmp_path):
    for name, text in (("a", ""), ("b", "{"), ("c", "[]"), ("d", '{"experiment": "here"}')):
        (tmp_path / f"{name}.json").write_text(text)
    with Claim(tmp_path, "here", ["a"]) as claim:
        assert claim.elsewhere == {}
    assert {file.name for file in tmp_path.iterdir()} <= {"turn"}


def test_no_trial_is_refused_when_claims_cannot_be_written(tmp_path):
    (tmp_path / "no").write_text("a file")
    with Claim(tmp_path / "no", "here", ["a"]) as claim:
        assert claim.elsewhere == {}


def test_claims_are_stored_beside_their_sqlite_file_or_per_server(tmp_path):
    beside = folder_for(f"sqlite:///{tmp_path / 'a' / 'mlflow.db'}", tmp_path)
    assert beside == tmp_path / "a" / ".fnnexp" / "claims"
    one, other = (folder_for(f"http://127.0.0.1:{port}", tmp_path) for port in (1, 2))
    assert one != other
    assert {one.parent, other.parent} == {tmp_path / "claims"}


# --- machines that share a server ---


class Tags(dict):
    """The tags of an experiment; ``after_read`` is called once after the tags were read."""

    after_read = None

    def experiment_tags(self):
        tags = dict(self)
        if self.after_read:
            callback, self.after_read = self.after_read, None
            callback()
        return tags

    def tag_experiment(self, key, value):
        assert len(value) <= 5000
        self[key] = value

    def untag_experiment(self, key):
        self.pop(key, None)


class Clock:
    """A clock that the test moves."""

    time = 1.7e9

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def machine(tmp_path, clock):
    """Return ``machine(name)``, whose ``(tags, trials)`` claims trials on that machine and in the tags."""

    def named(name):
        @contextmanager
        def shared(tags, trials):
            with Claim(tmp_path / name, "here", trials, clock) as claim:
                claim.share(tags)
                yield claim

        return shared

    return named


def ids(count, first=0):
    return [hashlib.sha256(str(i).encode()).hexdigest()[:16] for i in range(first, first + count)]


def test_trials_of_another_machine_are_skipped_until_its_sweep_ends(machine):
    tags, a, b, c = Tags(unrelated="tag"), machine("a"), machine("b"), machine("c")
    with a(tags, ids(3)) as claim:
        assert claim.elsewhere == {}
        with b(tags, ids(3, 2)) as other:
            assert list(other.elsewhere) == ids(1, 2)
            assert "process" in other.elsewhere[ids(1, 2)[0]]
            with c(tags, ids(6)) as third:
                assert set(third.elsewhere) == set(ids(5))
        with b(tags, ids(5)) as repeated:
            assert set(repeated.elsewhere) == set(ids(3))
    assert tags == {"unrelated": "tag"}
    with b(tags, ids(3)) as later:
        assert later.elsewhere == {}


def test_sweeps_on_one_machine_that_share_a_server_use_files(machine):
    tags = Tags()
    with machine("a")(tags, ids(2)) as first, machine("a")(tags, ids(3)) as second:
        assert first.trials == ids(2)
        assert second.trials == ids(1, 2)
        with machine("b")(tags, ids(4)) as other:
            assert other.trials == ids(1, 3)


def test_the_tags_of_a_killed_sweep_are_not_valid_on_its_machine(machine, tmp_path, clock):
    tags = Tags()
    with machine("a")(tags, ids(2)):
        (lock,) = (tmp_path / "a").glob("*.lock")
        (file,) = (tmp_path / "a").glob("*.json")
        claim, old_tags = file.read_text(), dict(tags)
    lock.touch()  # the files and tags that a killed process leaves
    file.write_text(claim)
    tags.update(old_tags)
    with machine("a")(tags, ids(2)) as restarted:
        assert restarted.elsewhere == {}
        assert len(tags) == 1


def test_the_claim_of_a_thousand_trials_fits_into_tags(machine, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "a.host.of.a.long.name." * 20)
    tags = Tags()
    with machine("a")(tags, ids(1000)), machine("b")(tags, ids(2000)) as other:
        assert set(other.elsewhere) == set(ids(1000))
        with machine("c")(tags, ids(2001)) as third:
            assert len(third.elsewhere) == 2000
    assert tags == {}


def test_each_trial_is_claimed_once_when_two_sweeps_start_at_once(machine, clock):
    """The second sweep writes and reads after the first has read and before the first settles its claim."""
    tags, inner = Tags(), []

    def second():
        clock.time += 0.001
        inner.append(opened := machine("b")(tags, ids(2)))
        inner.append(opened.__enter__())

    tags.after_read = second
    with machine("a")(tags, ids(2)) as first:
        assert first.elsewhere == {}
        assert set(inner[1].elsewhere) == set(ids(2))
        inner[0].__exit__(None, None, None)


def test_a_claim_expires_without_heartbeats(machine, clock):
    tags = Tags()
    with machine("a")(tags, ids(2)) as claim:
        for _ in range(20):
            clock.time += BEAT
            claim.beat()
        clock.time += SILENT
        with machine("b")(tags, ids(2)) as other:
            assert len(other.elsewhere) == 2
        clock.time += 1
        with machine("b")(tags, ids(2)) as other:
            assert other.elsewhere == {}
            assert len([key for key in tags if key.startswith(PREFIX)]) == 1  # the expired tag was removed


def test_a_sweep_that_was_suspended_continues_unless_its_trials_were_taken_over(machine, clock):
    tags = Tags()
    with machine("a")(tags, ids(2)) as claim:
        clock.time += 10 * SILENT
        claim.beat()
        with machine("b")(tags, ids(2)) as other:
            assert len(other.elsewhere) == 2
        clock.time += 10 * SILENT
        with machine("b")(tags, ids(1)):
            message = r"900 s, and another sweep \(process .*\) took over 1 of its trials"
            with pytest.raises(StoreError, match=message):
                claim.beat()
            claim.beat()  # the error is raised once; running segments are then saved


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"who": 1}', "null", '{"who":0,"beat":"x"}', '{"beat": 2e9, "trials": 3}']
)
def test_malformed_tags_are_not_claims(machine, text):
    tags = Tags({f"{PREFIX}abc": text, f"{PREFIX}abc.0": "?" * 16})
    with machine("a")(tags, ids(2)) as claim:
        assert claim.elsewhere == {}


def test_a_machine_without_a_claims_folder_still_claims_by_tags(tmp_path, machine):
    (tmp_path / "file").write_text("")
    tags = Tags()
    with machine("file")(tags, ids(1)) as claim:
        assert claim.elsewhere == {}
        assert json.loads(next(iter(tags.values())))["trials"] == ids(1)[0][:10]


def test_a_sweep_whose_trials_were_taken_over_saves_its_segments_and_stops(
    store, tmp_path, trials_of, agrees, monkeypatch
):
    trials = trials_of("epochs=3", "seed=0,1")
    output, started, lost = io.StringIO(), threading.Event(), []

    def train(*segment):
        started.set()
        return train_segment(*segment)

    def taken(claim):
        if not lost:
            assert started.wait(60)
            lost.append(claim)
            raise StoreError("another sweep took over 1 of its trials")

    def swept():
        settings = Execution(n_jobs=1, backend="threading", max_lanes=1, segment_seconds=0)
        return run(trials, Tracker("digits", store), settings, Console(file=output, width=200))

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "is_remote", True)
        patch.setattr(Claim, "beat", taken)
        patch.setattr(executor, "train_segment", train)
        patch.setattr(executor, "CHECK_SECONDS", 0.001)
        with pytest.raises(StoreError, match="took over 1 of its trials"):
            swept()
    assert "saving the epochs in training" in output.getvalue()
    assert list((tmp_path / ".fnnexp" / "checkpoints").glob("*.npz"))
    assert len(swept().finished) == 2
    assert re.search(r"resuming (1 trial|2 trials) from the last checkpoint", output.getvalue())
    agrees(tmp_path, trials)


# --- commands ---


COMMAND = [sys.executable, "-m", "fnnexp", "-m", "data=digits", "init=he,max", "batching=sample"]


@pytest.mark.long
def test_two_sweeps_started_at_once_train_each_trial_once(tmp_path):
    """The two sweeps share one seed; each trains the trials that the other has not claimed."""
    # Long enough that the second sweep opens the store, which takes seconds, before the first one ends.
    words = ["execution.n_jobs=1", "execution.segment_seconds=0.2", "epochs=150"]
    pipes = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen([*COMMAND, *words, f"seed={seeds}"], **pipes) for seeds in ("0,1", "1,2")]
    outputs = [sweep.communicate(timeout=240)[0] for sweep in both]
    assert [sweep.returncode for sweep in both] == [0, 0], outputs
    assert any("2 are left to another sweep" in output for output in outputs), outputs
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == len({run.data.tags["fnnexp.trial"] for run in runs}) == 6
    for run_ in runs:
        assert run_.info.status == "FINISHED"
        steps = [metric.step for metric in client.get_metric_history(run_.info.run_id, "train_loss")]
        assert steps == list(range(1, 151))


@pytest.mark.long
def test_the_same_command_is_refused_while_it_is_running(tmp_path):
    words = ["execution.n_jobs=1", "epochs=3000", "execution.segment_seconds=0.2"]
    pipes = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*COMMAND, *words], **pipes) as first:
        try:
            deadline = time.monotonic() + 60
            while not list(Path(tmp_path).glob(".fnnexp/claims/*.json")):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            second = subprocess.run([*COMMAND, *words], **pipes, timeout=120, check=False)
        finally:
            first.send_signal(signal.SIGTERM)
            output = first.communicate(timeout=60)[0]
    assert second.returncode == 2, second.stdout
    message = rf"another sweep \(process {first.pid}, since .*\) is training 2 of these"
    assert re.search(message, second.stdout)
    assert first.returncode == 130, output  # SIGTERM is like Ctrl-C
    assert "run the same sweep again to resume" in output
