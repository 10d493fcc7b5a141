"""A trial's id: the same for ever, for the same scientific content."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, make_dataclass, replace
from pathlib import Path

import pytest

from fnnexp.config.commands import Command
from fnnexp.config.compose import jobs_of
from fnnexp.config.resolve import trial
from fnnexp.config.trial import ALWAYS, scientific
from fnnexp.data.datasets import Prepared
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.training import Recipe

GOLDEN = json.loads(Path(__file__).with_name("trial_ids.json").read_text("utf-8"))
"""Ids of the first version that promised to keep them: the grids, the presets, and some odd trials."""

DATA = Prepared("stand-in", "", "c0ffee" * 10 + "c0de", 60_000, 10_000, 784, 10)
RECIPE = Recipe(Architecture(784, (30,), 10, "tanh"), Batching("mini", 10, True), "sgd", 3)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: " ".join([case["config"], *case["overrides"]]))
def test_trials_have_the_ids_that_they_have_always_had(case):
    command = Command(case["config"], tuple(case["overrides"]), multirun=True)
    trials = [trial(job, DATA) for job in jobs_of(command)]
    assert [one.id for one in trials] == case["ids"]
    assert [one.numbers_id for one in trials] == case["numbers"]


def test_the_golden_ids_are_of_all_grids_all_presets_and_ten_odd_trials():
    assert {case["config"] for case in GOLDEN} == {"config", "card_grid", "init_grid", "demo"}
    named = [override for case in GOLDEN for override in case["overrides"] if "experiment=" in override]
    assert len(named) == 6
    assert len(GOLDEN) - 3 - 6 >= 10


def later(kind, name, default):
    """Return a kind of recipe with a field more, as a later version has it."""
    return make_dataclass(f"Later{kind.__name__}", [(name, object, default)], bases=(kind,), frozen=True)


@pytest.mark.parametrize("default", [0.0, None, "constant", (), False])
def test_a_field_that_is_added_later_changes_an_id_only_where_it_is_not_at_its_default(default):
    kind = later(Recipe, "added", default)
    values = {each.name: getattr(RECIPE, each.name) for each in fields(RECIPE)}
    assert scientific(kind(**values)) == scientific(RECIPE)
    assert scientific(kind(**values, added="set")) == {**scientific(RECIPE), "added": "set"}


def test_so_it_is_in_the_parts_of_a_recipe():
    kind = later(Architecture, "dropout", 0.0)
    values = {each.name: getattr(RECIPE.architecture, each.name) for each in fields(RECIPE.architecture)}
    assert scientific(replace(RECIPE, architecture=kind(**values))) == scientific(RECIPE)
    changed = scientific(replace(RECIPE, architecture=kind(**values, dropout=0.5)))
    assert changed["architecture"] == {**scientific(RECIPE)["architecture"], "dropout": 0.5}


def test_a_part_that_is_added_later_is_there_whole_or_not_at_all():
    @dataclass(frozen=True)
    class Schedule:
        name: str = "constant"
        warmup: int = 0

    kind = later(Recipe, "schedule", Schedule())
    values = {each.name: getattr(RECIPE, each.name) for each in fields(RECIPE)}
    assert scientific(kind(**values)) == scientific(RECIPE)
    told = scientific(kind(**values, schedule=Schedule("cosine")))["schedule"]
    assert told == {"name": "cosine", "warmup": 0}


def test_a_field_without_a_default_cannot_be_added_for_it_would_change_every_id():
    kind = make_dataclass("Later", [("added", int)], frozen=True)
    with pytest.raises(TypeError, match="added was added later and has no default"):
        scientific(kind(3))


def test_every_field_of_today_is_part_of_every_id():
    names = {each.name for kind in (Recipe, Architecture, Batching) for each in fields(kind)}
    assert names == ALWAYS
