"""How many lanes are stacked: measured, remembered, and never part of a result."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fnnexp.data import datasets as data
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.training import Lane, Recipe
from fnnexp.sweeping import pace as pace_module
from fnnexp.sweeping.pace import Pace
from fnnexp.sweeping.plan import plan, usual_lanes

RECIPE = Recipe(Architecture(784, (32,), 10, "tanh"), Batching("mini", 16, shuffle=True), "sgd", epochs=500)


def lanes(count):
    return [Lane(f"{k}", k, (0.1, 0.1), (("lr", 0.1),)) for k in range(count)]


@pytest.fixture(scope="module")
def digits(shared_cache):
    return data.prepare("digits")


@pytest.fixture
def told(monkeypatch):
    """Let what is measured be told: ``told(seconds)`` with seconds a lane's row at each number of lanes."""
    asked = []

    def tell(seconds):
        def rehearsed(function, tasks, *, n_jobs, engine):
            asked.extend(task[3] for task in tasks)
            return [{k: seconds[k] for k in task[3]} for task in tasks]

        monkeypatch.setattr(pace_module, "at_once", rehearsed)
        return asked

    return tell


def test_the_fewest_lanes_that_are_nearly_as_fast_as_the_best_are_chosen(told, digits):
    told({1: 9.0, 4: 2.04, 12: 2.0, 48: 2.01})
    pace = Pace()
    assert pace.lanes(RECIPE) == usual_lanes(RECIPE) == 12
    assert pace.measure({RECIPE: (digits, lanes(50))}, n_jobs=2) == 1
    assert pace.lanes(RECIPE) == 4
    other = replace(RECIPE, optimizer="momentum")
    assert pace.lanes(other) == usual_lanes(other)


def test_what_was_measured_is_remembered_and_not_measured_again(told, digits, tmp_path):
    asked = told({1: 9.0, 4: 5.0, 12: 3.0, 48: 2.0})
    file = tmp_path / "folder" / "pace.json"
    assert Pace(file).measure({RECIPE: (digits, lanes(48))}, n_jobs=1) == 1
    assert asked == [[1, 4, 12, 48]]
    again = Pace(file)
    assert again.lanes(RECIPE) == 48
    assert again.measure({RECIPE: (digits, lanes(48))}, n_jobs=1) == 0


def test_what_another_machine_measured_is_kept_and_not_used(told, digits, tmp_path):
    told({1: 1.0, 4: 5.0, 12: 5.0, 48: 5.0})
    file = tmp_path / "pace.json"
    Pace(file).measure({RECIPE: (digits, lanes(48))}, n_jobs=1)
    table = json.loads(file.read_text())
    (mine,) = table
    file.write_text(json.dumps({"another machine": table[mine]}))
    assert Pace(file).lanes(RECIPE) == usual_lanes(RECIPE)
    Pace(file).measure({RECIPE: (digits, lanes(48))}, n_jobs=1)
    assert set(json.loads(file.read_text())) == {"another machine", mine}


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"a": 1}', "null", "\x00"])
def test_a_torn_table_is_as_good_as_none(torn, tmp_path):
    (tmp_path / "pace.json").write_text(torn)
    assert Pace(tmp_path / "pace.json").lanes(RECIPE) == usual_lanes(RECIPE)


def test_little_work_is_not_worth_measuring(told, digits):
    asked = told({})
    assert Pace().measure({replace(RECIPE, epochs=1): (digits, lanes(48))}, n_jobs=1) == 0
    assert Pace().measure({RECIPE: (digits, lanes(1))}, n_jobs=1) == 0
    assert asked == []


def test_a_rehearsal_runs_in_the_workers_and_gives_seconds(digits):
    pace = Pace()
    recipe = replace(RECIPE, epochs=10_000)
    assert pace.measure({recipe: (digits, lanes(5))}, n_jobs=1) == 1
    (measured,) = pace._seconds.values()
    assert set(measured) == {1, 4, 5}
    assert all(0 < seconds < 1 for seconds in measured.values())


def test_a_rehearsal_that_fails_leaves_the_usual_lanes(digits, monkeypatch):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr(pace_module, "rehearse", broken)
    pace = Pace()
    pace.measure({RECIPE: (digits, lanes(48))}, n_jobs=1)
    assert pace.lanes(RECIPE) == usual_lanes(RECIPE)


def test_the_planner_stacks_as_many_as_it_is_told(trials_of):
    trials = trials_of("data=digits", "seed=0,1,2,3,4,5", "batching=full,sample", "epochs=1")
    wished = {"full": 2, "sample": 3}
    stacks = plan(trials, max_lanes=None, n_jobs=1, lanes_of=lambda recipe: wished[recipe.batching.mode])
    found = sorted((stack.recipe.batching.mode, len(stack.lanes)) for stack in stacks)
    assert found == [("full", 2)] * 3 + [("sample", 3)] * 2
