"""The same scientific content has the same trial id, in every version."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields, make_dataclass, replace
from pathlib import Path

import pytest

from fnnexp.config.commands import Command
from fnnexp.config.compose import jobs_of
from fnnexp.config.resolve import _as_dict, trial
from fnnexp.config.trial import ALWAYS, scientific
from fnnexp.data.datasets import Prepared
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.training import Recipe

GOLDEN = json.loads(Path(__file__).with_name("trial_ids.json").read_text("utf-8"))
"""Ids recorded by the first version with fixed ids: of the grids, the presets, and some unusual trials."""

DATA = Prepared("stand-in", "", "c0ffee" * 10 + "c0de", 60_000, 10_000, 784, 10)
RECIPE = Recipe(Architecture(784, (30,), 10, "tanh"), Batching("mini", 10, True), "sgd", 3)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: " ".join([case["config"], *case["overrides"]]))
def test_trials_have_the_ids_recorded_by_the_first_version(case):
    command = Command(case["config"], tuple(case["overrides"]), multirun=True)
    trials = [trial(job, DATA) for job in jobs_of(command)]
    assert [trial.id for trial in trials] == case["ids"]
    assert [trial.numbers_id for trial in trials] == case["numbers"]


def test_the_recorded_ids_include_all_grids_all_presets_and_ten_unusual_trials():
    assert {case["config"] for case in GOLDEN} == {"config", "card_grid", "init_grid", "demo"}
    named = [override for case in GOLDEN for override in case["overrides"] if "experiment=" in override]
    assert len(named) == 6
    assert len(GOLDEN) - 3 - 6 >= 10


def later(cls, name, default):
    """Return a class of recipes with one more field, as a later version may have."""
    return make_dataclass(f"Later{cls.__name__}", [(name, object, default)], bases=(cls,), frozen=True)


@pytest.mark.parametrize("default", [0.0, None, "constant", (), False])
def test_a_field_added_later_changes_an_id_only_if_its_value_is_not_the_default(default):
    later_recipe = later(Recipe, "added", default)
    values = {field.name: getattr(RECIPE, field.name) for field in fields(RECIPE)}
    assert scientific(later_recipe(**values)) == scientific(RECIPE)
    assert scientific(later_recipe(**values, added="set")) == {**scientific(RECIPE), "added": "set"}


def test_a_field_added_to_the_architecture_changes_an_id_only_if_not_the_default():
    later_architecture = later(Architecture, "dropout", 0.0)
    architecture = RECIPE.architecture
    values = {field.name: getattr(architecture, field.name) for field in fields(architecture)}
    assert scientific(replace(RECIPE, architecture=later_architecture(**values))) == scientific(RECIPE)
    changed = scientific(replace(RECIPE, architecture=later_architecture(**values, dropout=0.5)))
    assert changed["architecture"] == {**scientific(RECIPE)["architecture"], "dropout": 0.5}


def test_a_nested_dataclass_added_later_enters_the_id_with_all_its_fields_or_none():
    @dataclass(frozen=True)
    class Schedule:
        name: str = "constant"
        warmup: int = 0

    later_recipe = later(Recipe, "schedule", Schedule())
    values = {field.name: getattr(RECIPE, field.name) for field in fields(RECIPE)}
    assert scientific(later_recipe(**values)) == scientific(RECIPE)
    content = scientific(later_recipe(**values, schedule=Schedule("cosine")))["schedule"]
    assert content == {"name": "cosine", "warmup": 0}


def test_a_field_added_without_a_default_is_refused_as_it_would_change_every_id():
    later_recipe = make_dataclass("Later", [("added", int)], frozen=True)
    with pytest.raises(TypeError, match="added was added later and has no default"):
        scientific(later_recipe(3))


def test_the_first_fields_are_part_of_every_id_and_later_fields_have_defaults():
    every = {field.name: field for cls in (Recipe, Architecture, Batching) for field in fields(cls)}
    assert set(every) > ALWAYS
    assert all(field.default is not MISSING for name, field in every.items() if name not in ALWAYS)


def test_a_config_is_copied_as_asdict_copies_it():
    words = ["arch.hidden=[9,9]", "arch.activation=[tanh,relu]", "regularization.dropout=[0,0.5,0.5]"]
    (job,) = jobs_of(Command(overrides=("data=digits", *words), multirun=True))
    copied = _as_dict(job.config)
    assert repr(copied) == repr(asdict(job.config))
    copied["arch"]["hidden"].append(9)
    assert job.config.arch.hidden == [9, 9]
