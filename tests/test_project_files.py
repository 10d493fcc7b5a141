"""CI, versions and documents agree with each other, and name only what exists."""

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
CI = (ROOT / ".ci" / "run").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PHONY = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()
RULES = {target: re.search(rf"^{target}:(.*)$", MAKEFILE, re.MULTILINE)[1].split() for target in PHONY}
"""The prerequisites of each target in the Makefile that makes no file."""
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "feature", "question")]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").glob("*.md")])


def loaded(path):
    return yaml.safe_load(path.read_text("utf-8"))


def code_in(page):
    """Return the code blocks and the inline code of a Markdown page, on lines of their own."""
    blocks = re.findall(r"```.*?```|`[^`\n]+`", page.read_text("utf-8"), re.DOTALL)
    return "\n".join(block.strip("`") for block in blocks)


def targets_in(commands):
    """Return the targets of the make commands that begin a line."""
    commands = re.findall(r"^ *make ([^#\n]+)", commands, re.MULTILINE)
    words = [word for command in commands for word in command.split()]
    return {word for word in words if not word.startswith("-") and "=" not in word and "/" not in word}


def combinations(job):
    """Return the combinations of a job's matrix, as GitHub makes them."""
    axes = dict(job["strategy"]["matrix"])
    extra = axes.pop("include", [])
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values()) if axes] + extra


def filled(text, values):
    """Replace each `${{ matrix.NAME }}` by its value."""
    return re.sub(r"\$\{\{ matrix\.(\w+) }}", lambda match: values[match[1]], text)


def runs():
    """Return (system, Python version, targets) of each job that the workflows start."""
    jobs = [job for workflow in WORKFLOWS for job in loaded(workflow)["jobs"].values()]
    return [
        (
            filled(job["runs-on"], values).removesuffix("-latest"),
            values["python"],
            targets_in(filled("\n".join(step.get("run", "") for step in job["steps"]), values)),
        )
        for job in jobs
        for values in combinations(job)
    ]


def with_prerequisites(targets):
    return targets | {inner for target in targets for inner in RULES[target] if inner in RULES}


def hooks():
    """Return the repository and the command of each hook of pre-commit."""
    repos = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    return [(repo["repo"], hook.get("entry")) for repo in repos for hook in repo["hooks"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_make_target_that_a_page_names_exists(page):
    assert targets_in(code_in(page)) <= RULES.keys()


def test_every_make_target_that_ci_and_pre_commit_run_exists():
    in_workflows = set().union(*(targets for _, _, targets in runs()))
    in_hooks = targets_in("\n".join(entry for _, entry in hooks()))
    assert in_workflows | in_hooks | targets_in(CI) <= RULES.keys()


def test_the_workflows_run_every_target_of_ci_on_linux_and_the_tests_everywhere():
    started = runs()
    on_linux = set().union(*(targets for system, _, targets in started if system == "ubuntu"))
    assert targets_in(CI) <= with_prerequisites(on_linux)
    tested = {(system, python) for system, python, targets in started if "test" in targets}
    assert tested == set(product(("ubuntu", "macos", "windows"), pythons_in_classifiers()))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_pins_its_actions(path):
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


def test_the_citation_and_the_changelog_name_the_version():
    citation = loaded(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert str(citation["version"]) == fnnexp.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    heading = f"## [{fnnexp.__version__}] - {citation['date-released']}"
    assert heading in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()


def test_pre_commit_pins_no_version_that_constraints_pin():
    assert hooks() == [("local", "make lint")]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_between_files_leads_somewhere(page):
    for path, anchor in re.findall(r"\]\(([^):#\s]*)(?:#([\w-]+))?\)", page.read_text("utf-8")):
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), path
        assert not anchor or anchor in anchors(linked), f"{path}#{anchor}"
