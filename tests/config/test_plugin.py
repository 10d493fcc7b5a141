"""The Hydra plugin reads fnnexp's configs through our reader and does not affect other apps."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigSource
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper

from fnnexp.errors import ConfigError

APP = """\
import hydra

@hydra.main(version_base="1.3", config_path=None, config_name=None)
def app(cfg):
    return cfg.a * 10

app()
"""


def names_of(plugin_type):
    return {plugin.__name__ for plugin in Plugins.instance().discover(plugin_type)}


def test_hydra_finds_our_search_path_and_reader_and_no_launcher_or_sweeper_of_fnnexp():
    assert "FnnexpSearchPath" in names_of(SearchPathPlugin)
    assert "FnnexpSource" in names_of(ConfigSource)
    assert not [name for name in names_of(Launcher) | names_of(Sweeper) if name.startswith("Fnnexp")]


@pytest.fixture
def source(tmp_path):
    """Return our reader for a folder with a group and a config."""
    from hydra_plugins.fnnexp.plugin import FnnexpSource

    (tmp_path / "arch").mkdir()
    (tmp_path / "arch" / "deep.yaml").write_text("# @package _global_\nepochs: 3\n")
    (tmp_path / "mine.yaml").write_text("defaults: [config]\nseed: 1\n")
    return FnnexpSource("main", f"fnnexp://{tmp_path.as_posix()}")


def test_our_reader_lists_and_reads_a_folder_as_hydras_reader_does(source, tmp_path):
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    hydras = FileConfigSource("main", f"file://{tmp_path.as_posix()}")
    for path in ("", "arch"):
        assert source.list(path, None) == hydras.list(path, None)
    for path in ("arch", "arch/deep", "arch/deep.yaml", "mine", "none", "arch/none"):
        assert source.is_group(path) == hydras.is_group(path), path
        assert source.is_config(path) == hydras.is_config(path), path
        assert source.exists(path) == hydras.exists(path), path
    ours, theirs = source.load_config("arch/deep"), hydras.load_config("arch/deep")
    assert (ours.config, ours.header, ours.provider) == (theirs.config, theirs.header, theirs.provider)
    assert source.available()
    assert not type(source)("main", f"fnnexp://{tmp_path.as_posix()}/nowhere").available()


def test_our_reader_appends_self_to_a_defaults_list(source):
    assert list(source.load_config("mine").config.defaults) == ["config", "_self_"]


def test_our_reader_refuses_aliases_paths_outside_its_folder_and_missing_files(source, tmp_path):
    (tmp_path / "bad.yaml").write_text("a: &x [1]\nb: *x\n")
    with pytest.raises(ConfigError, match="aliases"):
        source.load_config("bad")
    with pytest.raises(ConfigError, match="outside"):
        source.load_config("../bad")
    with pytest.raises(ConfigLoadError):
        source.load_config("none")


def test_another_hydra_app_keeps_its_search_path_and_imports_nothing_of_fnnexp(own_folder):
    def run(code, *words):
        (own_folder / "app.py").write_text(code)
        return subprocess.run(
            [sys.executable, "app.py", *words], cwd=own_folder, capture_output=True, text=True, timeout=60
        )

    ran = run(APP, "--info", "searchpath")
    assert ran.returncode == 0, ran.stderr
    assert "fnnexp" not in ran.stdout.replace(str(own_folder), "")
    calls = "app(); import sys; print([m for m in sys.modules if m.startswith('fnnexp')])"
    ran = run(APP.replace("app()", calls), "-m", "+a=1")
    assert ran.stdout.splitlines()[-1:] == ["[]"], ran.stderr
