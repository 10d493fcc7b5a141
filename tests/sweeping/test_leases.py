"""Leases among machines that share a server: each trial is one machine's, and who is silent holds nothing."""

from __future__ import annotations

import hashlib
import io
from contextlib import nullcontext
from typing import ClassVar

import pytest
from rich.console import Console

from fnnexp.config.execution import Execution
from fnnexp.sweeping import leases
from fnnexp.sweeping.leases import BEAT, PREFIX, SILENT
from fnnexp.sweeping.loop import run
from fnnexp.tracking.retry import StoreError
from fnnexp.tracking.writer import Tracker


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
        assert value is None or len(value) <= 5000
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value


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
    """Return ``machine(name)``, whose ``(tags, trials)`` opens a lease from there."""

    def there(name):
        return lambda tags, trials: leases.on(tags, trials, tmp_path / name, now=clock)

    return there


def ids(count, first=0):
    return [hashlib.sha256(str(i).encode()).hexdigest()[:16] for i in range(first, first + count)]


def test_what_another_machine_trains_is_left_to_it_and_what_it_ended_is_free(machine):
    tags, a, b, c = Tags(somebody="else's"), machine("a"), machine("b"), machine("c")
    with a(tags, ids(3)) as held:
        assert held.elsewhere == {}
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


def test_a_machine_leaves_its_own_sweeps_to_claims(machine):
    tags = Tags()
    with machine("a")(tags, ids(2)), machine("a")(tags, ids(2)) as same:
        assert same.elsewhere == {}


def test_a_thousand_trials_are_held_in_tags_that_any_store_takes(machine):
    tags = Tags()
    with machine("a")(tags, ids(1000)), machine("b")(tags, ids(2000)) as other:
        assert set(other.elsewhere) == set(ids(1000))
        with machine("c")(tags, ids(2001)) as third:
            assert len(third.elsewhere) == 2000
    assert tags == {}


def test_of_two_that_begin_at_once_one_has_each_trial(machine, clock):
    """The second writes and looks after the first has looked and before it says that it holds them."""
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
    with machine("a")(tags, ids(2)) as held:
        for _ in range(20):
            clock.time += BEAT
            held.beat()
        clock.time += SILENT
        with machine("b")(tags, ids(2)) as other:
            assert len(other.elsewhere) == 2
        clock.time += 1
        with machine("b")(tags, ids(2)) as other:
            assert other.elsewhere == {}
            assert len([key for key in tags if key.startswith(PREFIX)]) == 2  # those of the silent are gone


def test_who_wakes_up_goes_on_unless_its_trials_were_taken_over(machine, clock):
    tags = Tags()
    with machine("a")(tags, ids(2)) as held:
        clock.time += 10 * SILENT
        held.beat()
        with machine("b")(tags, ids(2)) as other:
            assert len(other.elsewhere) == 2
        clock.time += 10 * SILENT
        with machine("b")(tags, ids(1)):
            with pytest.raises(StoreError, match=r"900 s, and another \(process .*\) took 1 of its trials"):
                held.beat()
            held.beat()  # it is said once, while what is under way is saved


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": 1}', "null", '{"machine":0,"beat":"x"}'])
def test_what_strangers_write_there_is_no_lease(machine, text):
    tags = Tags({f"{PREFIX}abc": text, f"{PREFIX}abc.0": "?" * 16})
    with machine("a")(tags, ids(2)) as held:
        assert held.elsewhere == {}


def test_a_folder_that_cannot_be_written_is_a_machine_too(tmp_path, clock):
    (tmp_path / "file").write_text("")
    with leases.on(Tags(), ids(1), tmp_path / "file", now=clock) as held:
        assert held.elsewhere == {}


def test_a_sweep_whose_trials_were_taken_over_saves_what_it_has_and_leaves(
    store, tmp_path, trials_of, agrees, monkeypatch
):
    trials = trials_of("epochs=60", "seed=0,1", "batching=sample")
    said = io.StringIO()

    class Taken:
        elsewhere: ClassVar = {}

        def beat(self):
            raise StoreError("another took 1 of its trials over")

    def swept():
        settings = Execution(n_jobs=1, backend="threading", max_lanes=1, segment_seconds=0.1)
        return run(trials, Tracker("fnnexp", store), settings, Console(file=said, width=200))

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "is_remote", True)
        patch.setattr(leases, "on", lambda *given: nullcontext(Taken()))
        with pytest.raises(StoreError, match="took 1 of its trials over"):
            swept()
    assert "saving what is under way" in said.getvalue()
    assert list((tmp_path / ".fnnexp" / "checkpoints").glob("*.npz"))
    assert len(swept().finished) == 2
    assert "they go on where they were" in said.getvalue()
    agrees(tmp_path, trials)
