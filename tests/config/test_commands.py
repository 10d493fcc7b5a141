"""Printed commands call fnnexp in the way that the shell can find it."""

from __future__ import annotations

import os
import sys

import pytest

from fnnexp.config.commands import program


@pytest.fixture
def script(own_folder):
    """Return ``script(folder)``, which writes a program named fnnexp into a folder and returns its path."""

    def make(folder):
        file = own_folder / folder / "fnnexp"
        file.parent.mkdir()
        file.touch(0o755)
        return str(file)

    return make


@pytest.mark.skipif(os.name == "nt", reason="a program without a suffix")
def test_printed_commands_name_the_path_if_the_shell_finds_another_fnnexp_or_none(
    script, own_folder, monkeypatch
):
    mine, _ = script("my env"), script("other")
    main = str(own_folder / "fnnexp" / "__main__.py")
    for called, path, command in [
        (mine, "my env", "fnnexp"),
        (mine, "", f"'{mine}'"),
        (mine, "other", f"'{mine}'"),
        ("my env/fnnexp", "other", "'my env/fnnexp'"),
        (main, "other", "fnnexp"),
        (main, "", f"{sys.executable} -m fnnexp"),
        ("a_notebook.py", "", "fnnexp"),
    ]:
        monkeypatch.setattr("sys.argv", [called])
        monkeypatch.setenv("PATH", str(own_folder / path) if path else "")
        assert program() == command
