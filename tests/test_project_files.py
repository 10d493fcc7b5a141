"""CI, the releases' versions and the documents name only what exists, and agree with each other."""

from __future__ import annotations

import re
import tomllib
from itertools import product
from pathlib import Path

import pytest
import yaml

import fnnexp

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
RULES = {
    target: prerequisites.split()
    for targets, prerequisites in re.findall(r"^([\w. -]+):(?!=)[ \t]*(.*)$", MAKEFILE, re.MULTILINE)
    for target in targets.split()
}
"""The prerequisites of each target in the Makefile, without the files that it makes."""
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(
    set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"}
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").glob("*.md")])


def loaded(path):
    return yaml.safe_load(path.read_text("utf-8"))


def targets_in(text):
    """Return the targets of the make commands at the beginning of lines and of inline code."""
    commands = re.findall(r"(?:^|`)make ([^`#\n]+)", text, re.MULTILINE)
    words = [word for command in commands for word in command.split()]
    return {word for word in words if not word.startswith("-") and "=" not in word and "/" not in word}


def combinations(job):
    """Return the combinations of a job's matrix, as GitHub makes them."""
    matrix = job["strategy"]["matrix"]
    axes = {name: values for name, values in matrix.items() if name != "include"}
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values()) if axes] + matrix.get(
        "include", []
    )


def runs():
    """Return (system, Python version, targets) of each job that the workflows start."""
    found = []
    for workflow in WORKFLOWS:
        for job in loaded(workflow)["jobs"].values():
            for values in combinations(job):
                system, commands = (
                    re.sub(r"\$\{\{ matrix\.(\w+) }}", lambda name: values[name[1]], text)  # noqa: B023
                    for text in (job["runs-on"], "\n".join(step.get("run", "") for step in job["steps"]))
                )
                found.append((system.partition("-")[0], values["python"], targets_in(commands)))
    return found


def with_prerequisites(targets):
    return targets | {inner for target in targets for inner in RULES[target] if inner in RULES}


@pytest.mark.parametrize(
    "file",
    [
        ".ci/run",
        ".pre-commit-config.yaml",
        ".github/workflows",
        *(str(page.relative_to(ROOT)) for page in PAGES),
    ],
)
def test_every_make_target_that_a_file_names_exists(file):
    if file == ".github/workflows":
        named = set().union(*(targets for _, _, targets in runs()))
    elif file == ".pre-commit-config.yaml":
        named = targets_in(
            "\n".join(hook["entry"] for repo in loaded(ROOT / file)["repos"] for hook in repo["hooks"])
        )
    else:
        named = targets_in((ROOT / file).read_text("utf-8"))
    assert named <= RULES.keys()
    assert named or file.endswith(".md")


def test_the_workflows_run_every_target_of_ci_on_linux_and_the_tests_everywhere():
    started = runs()
    on_linux = set().union(*(targets for system, _, targets in started if system == "ubuntu"))
    assert targets_in((ROOT / ".ci" / "run").read_text("utf-8")) <= with_prerequisites(on_linux)
    tested = {(system, python) for system, python, targets in started if "test" in targets}
    assert tested == set(product(("ubuntu", "macos", "windows"), pythons_in_classifiers()))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_trusts_no_unpinned_action(path):
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"]
    assert workflow["defaults"]["run"]["shell"] == "bash"
    for job in workflow["jobs"].values():
        assert job["strategy"]["fail-fast"] is False
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            assert "run" in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
    assert not re.search(r"\w\.(org|com|io)\b|https?:", path.read_text("utf-8"))


def pythons_in_classifiers():
    prefix = "Programming Language :: Python :: "
    versions = (
        line.removeprefix(prefix) for line in PROJECT["project"]["classifiers"] if line.startswith(prefix)
    )
    return [version for version in versions if "." in version]


def test_the_same_python_versions_are_declared_and_tested():
    declared = pythons_in_classifiers()
    (makefile,) = re.findall(r"^PYTHONS \?= (.*)$", MAKEFILE, re.MULTILINE)
    assert makefile.split() == [f"python{version}" for version in declared]
    assert PROJECT["project"]["requires-python"] == f">={declared[0]}"
    assert PROJECT["tool"]["mypy"]["python_version"] == declared[0]
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{declared[0].replace('.', '')}"


def test_the_citation_and_the_changelog_know_the_version():
    citation = loaded(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert str(citation["version"]) == fnnexp.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    heading = f"## [{fnnexp.__version__}] - {citation['date-released']}"
    assert heading in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()


def test_pre_commit_pins_no_version_that_constraints_pin():
    repos = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [(repo["repo"], [hook["entry"] for hook in repo["hooks"]]) for repo in repos] == [
        ("local", ["make lint"])
    ]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_the_keys_that_the_forge_requires(path):
    form = loaded(path)
    assert form["name"]
    assert form["description"]
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in form["body"])


def anchors(page):
    """Return the anchors that the forge gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_files_leads_somewhere(page):
    for path, anchor in re.findall(r"\]\(([^):#\s]*)(?:#([\w-]+))?\)", page.read_text("utf-8")):
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), path
        assert not anchor or anchor in anchors(linked), f"{path}#{anchor}"
