"""constraints-lowest.txt installs the lowest versions that pyproject.toml allows."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return {canonicalize_name(line.partition("==")[0]): Version(line.partition("==")[2]) for line in lines}


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_the_lowest_allowed_version_is_tested(requirement):
    (bound,) = (Version(clause.version) for clause in requirement.specifier if clause.operator == ">=")
    lowest = pins("constraints-lowest.txt")[canonicalize_name(requirement.name)]
    assert lowest.release[: len(bound.release)] == bound.release
    assert requirement.specifier.contains(lowest)


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-lowest.txt"])
def test_the_constraints_satisfy_pyproject(name):
    fixed = pins(name)
    for requirement in requirements():
        assert requirement.specifier.contains(fixed[canonicalize_name(requirement.name)]), requirement
