"""The Hydra plugin: with a foreign task function it is Hydra's own launcher and sweeper."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hydra import version
from hydra.core.plugins import Plugins
from hydra.extra.pytest_plugin import (  # noqa: F401 - the suite's fixtures
    hydra_restore_singletons,
    hydra_sweep_runner,
)
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite

APP = """\
import json
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None, config_name=None)
def app(cfg):
    with open("ran.jsonl", "a") as file:
        file.write(json.dumps([cfg.a, HydraConfig.get().job.num]) + chr(10))
    return cfg.a * 10

app()
"""


def names_of(kind):
    return {plugin.__name__ for plugin in Plugins.instance().discover(kind)}


def test_hydra_finds_the_launcher_the_sweeper_and_the_search_path():
    assert "FnnexpLauncher" in names_of(Launcher)
    assert "FnnexpSweeper" in names_of(Sweeper)
    assert "FnnexpSearchPath" in names_of(SearchPathPlugin)


@pytest.fixture
def version_of_the_suite(hydra_restore_singletons):  # noqa: F811 - the fixture
    """Let Hydra behave as its suite expects, whatever another test's app has asked for."""
    version.setbase("1.1")


@pytest.mark.usefixtures("version_of_the_suite")
@pytest.mark.parametrize(("launcher_name", "overrides"), [("fnnexp", [])])
class TestHydrasOwnSuiteForLaunchers(LauncherTestSuite):
    pass


@pytest.mark.usefixtures("version_of_the_suite")
@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({"defaults": [{"override hydra/launcher": "fnnexp"}]}, ["-m"])],
)
class TestHydrasOwnIntegrationSuite(IntegrationTestSuite):
    pass


def app(folder, *words):
    (folder / "app.py").write_text(APP)
    return subprocess.run(
        [sys.executable, "app.py", *words], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_every_job_of_a_foreign_app_is_run_in_order(own_folder):
    ran = app(own_folder, "-m", "+a=1,2,3", "hydra/launcher=fnnexp", "hydra/sweeper=fnnexp")
    assert ran.returncode == 0, ran.stderr
    lines = (own_folder / "ran.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [[1, 0], [2, 1], [3, 2]]
    assert len(list(own_folder.glob("multirun/*/*/multirun.yaml"))) == 1


def test_a_foreign_app_keeps_its_search_path_and_imports_nothing_of_ours(own_folder):
    ran = app(own_folder, "--info", "searchpath")
    assert ran.returncode == 0, ran.stderr
    assert "fnnexp" not in ran.stdout.replace(str(own_folder), "")
    code = APP.replace(
        "app()", "app(); import sys; print([m for m in sys.modules if m.startswith('fnnexp')])"
    )
    (own_folder / "asking.py").write_text(code)
    asked = subprocess.run(
        [sys.executable, "asking.py", "-m", "+a=1"],
        cwd=own_folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert asked.stdout.splitlines()[-1:] == ["[]"], asked.stderr
