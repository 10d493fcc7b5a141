"""The help, the README and docs/reference.md say what the schema says, and so do the checks."""

from __future__ import annotations

import re

import pytest
import yaml
from omegaconf import OmegaConf

import docs
from fnnexp.config import checks
from fnnexp.config.schema import LISTS, NODES, Config
from fnnexp.errors import ConfigError

KEYS = {
    f"{group}.{name}".removeprefix("."): (field, about)
    for group, node in {**NODES, "": Config}.items()
    for name, (field, about) in docs.declared(node).items()
}
MEANINGFUL = {
    "arch.slope": {"arch.activation": "leaky_relu"},
    "seed_noise": {"regularization.dropout": 0.5},
    "stopping.metric": {"stopping.patience": 3},
    "stopping.min_delta": {"stopping.patience": 3},
    "margin": {"until.name": "settled"},
}
"""The values with which a key has a meaning, if no option of its group has a value for it."""


def test_the_help_the_readme_and_the_reference_are_made_from_the_schema():
    stale = [file.relative_to(docs.ROOT).as_posix() for file in docs.out_of_date()]
    assert not stale, f"{', '.join(stale)}: run `make reference`, and commit what it writes"


@pytest.fixture(scope="module")
def default(jobs_of):
    (job,) = jobs_of()
    return OmegaConf.structured(job.config)


@pytest.fixture
def problem_with(default):
    """Return ``problem_with(key, value)``: the error of the checks, if an option has the key; or ""."""

    def problem(key, value):
        config = default.copy()
        group, _, name = key.rpartition(".")
        for file in docs.files_of(group) if group else []:
            option = yaml.safe_load(file.read_text("utf-8"))
            if option.get(name) is not None:
                config[group] = OmegaConf.merge(NODES[group], option)
                break
        if group == "optimizer":
            config.optimizer.lr = 0.1
        for given, its_value in {**MEANINGFUL.get(key, {}), key: value}.items():
            OmegaConf.update(config, given, [its_value] if given in LISTS else its_value)
        try:
            checks.check(OmegaConf.to_object(config))
        except ConfigError as error:
            return str(error)
        return ""

    return problem


def test_the_checks_allow_the_names_of_the_schema(problem_with):
    named = {key: about.names for key, (_, about) in KEYS.items() if about.names}
    del named["data.name"]  # not checked before the data is prepared
    for key, names in named.items():
        listed = re.match(rf"{key}=nonsense: must be one of ([\w, ]+)", problem_with(key, "nonsense"))
        assert listed is not None, key
        assert listed[1].split(", ") == list(names), key


@pytest.mark.parametrize("bound", ["least", "above", "most", "below"])
def test_the_checks_allow_the_bounds_of_the_schema(bound, problem_with):
    for key, (field, about) in KEYS.items():
        if (limit := getattr(about, bound)) is not None:
            step = 1 if "int" in str(field.type) else 1e-9
            outwards = step if bound in ("most", "below") else -step
            strict = bound in ("above", "below")
            inside, outside = (limit - outwards, limit) if strict else (limit, limit + outwards)
            assert problem_with(key, inside) == "", key
            assert problem_with(key, outside).startswith(f"{key}="), key
