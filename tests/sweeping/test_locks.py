"""Two sweeps at once on one experiment: no trial is trained twice; who dies or falls silent holds nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from fnnexp.config.execution import Execution
from fnnexp.sweeping.locks import BEAT, PREFIX, SILENT, Claim, folder_for
from fnnexp.sweeping.loop import run
from fnnexp.tracking.retry import StoreError
from fnnexp.tracking.writer import Tracker

# --- sweeps on one machine ---


def test_what_one_sweep_has_claimed_another_leaves_to_it(tmp_path):
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


def test_an_error_gives_the_claims_up(tmp_path):
    with pytest.raises(RuntimeError), Claim(tmp_path, "here", ["a"]):
        raise RuntimeError
    with Claim(tmp_path, "here", ["a"]) as claim:
        assert claim.elsewhere == {}


def test_a_killed_sweep_holds_no_claim(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from fnnexp.sweeping.locks import Claim\n"
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


def test_a_claim_that_was_cut_short_claims_nothing_and_is_cleared_away(tmp_path):
    for name, text in (("a", ""), ("b", "{"), ("c", "[]"), ("d", '{"experiment": "here"}')):
        (tmp_path / f"{name}.json").write_text(text)
    with Claim(tmp_path, "here", ["a"]) as claim:
        assert claim.elsewhere == {}
    assert {file.name for file in tmp_path.iterdir()} <= {"turn"}


def test_a_file_where_the_folder_should_be_claims_nothing_and_refuses_nothing(tmp_path):
    (tmp_path / "no").write_text("a file")
    with Claim(tmp_path / "no", "here", ["a"]) as claim:
        assert claim.elsewhere == {}


def test_claims_are_beside_the_store_that_they_are_about(tmp_path):
    beside = folder_for(f"sqlite:///{tmp_path / 'a' / 'mlflow.db'}", tmp_path)
    assert beside == tmp_path / "a" / ".fnnexp" / "claims"
    one, other = (folder_for(f"http://127.0.0.1:{port}", tmp_path) for port in (1, 2))
    assert one != other
    assert {one.parent, other.parent} == {tmp_path / "claims"}


# --- machines that share a server ---


class Tags(dict):
    """The tags of an experiment, and what happens when somebody has looked at them."""

    looked = None

    def experiment_tags(self):
        seen = dict(self)
        if self.looked:
            then, self.looked = self.looked, None
            then()
        return seen

    def tag_experiment(self, key, value):
        assert len(value) <= 5000
        self[key] = value

    def untag_experiment(self, key):
        self.pop(key, None)


class Clock:
    """Seconds that pass when they are told to."""

    time = 1.7e9

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def machine(tmp_path, clock):
    """Return ``machine(name)``, whose ``(tags, trials)`` claims there and among all machines."""

    def there(name):
        @contextmanager
        def shared(tags, trials):
            with Claim(tmp_path / name, "here", trials, clock) as claim:
                claim.share(tags)
                yield claim

        return shared

    return there


def ids(count, first=0):
    return [hashlib.sha256(str(i).encode()).hexdigest()[:16] for i in range(first, first + count)]


def test_what_another_machine_trains_is_left_to_it_and_what_it_ended_is_free(machine):
    tags, a, b, c = Tags(somebody="else's"), machine("a"), machine("b"), machine("c")
    with a(tags, ids(3)) as claim:
        assert claim.elsewhere == {}
        with b(tags, ids(3, 2)) as other:
            assert list(other.elsewhere) == ids(1, 2)
            assert "process" in other.elsewhere[ids(1, 2)[0]]
            with c(tags, ids(6)) as third:
                assert set(third.elsewhere) == set(ids(5))
        with b(tags, ids(5)) as again:
            assert set(again.elsewhere) == set(ids(3))
    assert tags == {"somebody": "else's"}
    with b(tags, ids(3)) as later:
        assert later.elsewhere == {}


def test_sweeps_on_one_machine_share_a_server_by_their_files(machine):
    tags = Tags()
    with machine("a")(tags, ids(2)) as first, machine("a")(tags, ids(3)) as second:
        assert first.trials == ids(2)
        assert second.trials == ids(1, 2)
        with machine("b")(tags, ids(4)) as other:
            assert other.trials == ids(1, 3)


def test_a_killed_sweep_holds_nothing_on_its_own_machine_also_in_the_tags(machine, tmp_path, clock):
    tags = Tags()
    with machine("a")(tags, ids(2)):
        (lock,) = (tmp_path / "a").glob("*.lock")
        (file,) = (tmp_path / "a").glob("*.json")
        said, left = file.read_text(), dict(tags)
    lock.touch()  # as the system leaves it of a process that was killed
    file.write_text(said)
    tags.update(left)
    with machine("a")(tags, ids(2)) as again:
        assert again.elsewhere == {}
        assert len(tags) == 1


def test_a_thousand_trials_are_claimed_in_tags_that_any_store_takes(machine, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "a.host.of.a.long.name." * 20)
    tags = Tags()
    with machine("a")(tags, ids(1000)), machine("b")(tags, ids(2000)) as other:
        assert set(other.elsewhere) == set(ids(1000))
        with machine("c")(tags, ids(2001)) as third:
            assert len(third.elsewhere) == 2000
    assert tags == {}


def test_of_two_that_begin_at_once_one_has_each_trial(machine, clock):
    """The second writes and looks after the first has looked and before it says so."""
    tags, inner = Tags(), []

    def second():
        clock.time += 0.001
        inner.append(opened := machine("b")(tags, ids(2)))
        inner.append(opened.__enter__())

    tags.looked = second
    with machine("a")(tags, ids(2)) as first:
        assert first.elsewhere == {}
        assert set(inner[1].elsewhere) == set(ids(2))
        inner[0].__exit__(None, None, None)


def test_who_is_silent_for_a_while_holds_nothing_and_who_beats_does(machine, clock):
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
            assert len([key for key in tags if key.startswith(PREFIX)]) == 1  # that of the silent is gone


def test_who_wakes_up_goes_on_unless_its_trials_were_taken_over(machine, clock):
    tags = Tags()
    with machine("a")(tags, ids(2)) as claim:
        clock.time += 10 * SILENT
        claim.beat()
        with machine("b")(tags, ids(2)) as other:
            assert len(other.elsewhere) == 2
        clock.time += 10 * SILENT
        with machine("b")(tags, ids(1)):
            with pytest.raises(StoreError, match=r"900 s, and another \(process .*\) took 1 of its trials"):
                claim.beat()
            claim.beat()  # it is said once, while what is under way is saved


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"who": 1}', "null", '{"who":0,"beat":"x"}', '{"beat": 2e9, "trials": 3}']
)
def test_what_strangers_write_there_is_no_claim(machine, text):
    tags = Tags({f"{PREFIX}abc": text, f"{PREFIX}abc.0": "?" * 16})
    with machine("a")(tags, ids(2)) as claim:
        assert claim.elsewhere == {}


def test_a_folder_that_cannot_be_written_is_a_machine_too(tmp_path, machine):
    (tmp_path / "file").write_text("")
    tags = Tags()
    with machine("file")(tags, ids(1)) as claim:
        assert claim.elsewhere == {}
        assert json.loads(next(iter(tags.values())))["trials"] == ids(1)[0][:10]


def test_a_sweep_whose_trials_were_taken_over_saves_what_it_has_and_leaves(
    store, tmp_path, trials_of, agrees, monkeypatch
):
    trials = trials_of("epochs=60", "seed=0,1", "batching=sample")
    said = io.StringIO()

    def taken(claim):
        raise StoreError("another took 1 of its trials over")

    def swept():
        settings = Execution(n_jobs=1, backend="threading", max_lanes=1, segment_seconds=0.1)
        return run(trials, Tracker("digits", store), settings, Console(file=said, width=200))

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "is_remote", True)
        patch.setattr(Claim, "beat", taken)
        with pytest.raises(StoreError, match="took 1 of its trials over"):
            swept()
    assert "saving what is under way" in said.getvalue()
    assert list((tmp_path / ".fnnexp" / "checkpoints").glob("*.npz"))
    assert len(swept().finished) == 2
    assert "they go on where they were" in said.getvalue()
    agrees(tmp_path, trials)


# --- commands ---


COMMAND = [sys.executable, "-m", "fnnexp", "-m", "data=digits", "init=he,max", "batching=sample"]


def test_two_sweeps_started_at_once_train_each_trial_once(tmp_path):
    """Each is told other seeds, of which some are the same; each trains what the other has not claimed."""
    # Long enough for the second to look at the store, which takes MLflow seconds, before the first has ended.
    words = ["execution.n_jobs=1", "execution.segment_seconds=0.2", "epochs=150"]
    pipes = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen([*COMMAND, *words, f"seed={seeds}"], **pipes) for seeds in ("0,1", "1,2")]
    said = [one.communicate(timeout=240)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert any("2 are left to another sweep" in text for text in said), said
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "digits"]
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == len({one.data.tags["fnnexp.trial"] for one in runs}) == 6
    for one in runs:
        assert one.info.status == "FINISHED"
        steps = [metric.step for metric in client.get_metric_history(one.info.run_id, "train_loss")]
        assert steps == list(range(1, 151))


def test_the_same_command_beside_itself_is_refused_clearly(tmp_path):
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
            said = first.communicate(timeout=60)[0]
    assert second.returncode == 2, second.stdout
    told = rf"another sweep \(process {first.pid}, since .*\) is training 2 of these"
    assert re.search(told, second.stdout)
    assert first.returncode == 130, said  # SIGTERM is like Ctrl-C
    assert "start the same command again" in said
