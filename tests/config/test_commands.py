"""Commands as they are printed: what the shell calls fnnexp."""

from __future__ import annotations

import os
import sys

import pytest

from fnnexp.config.commands import program


@pytest.fixture
def script(own_folder):
    """Return ``script(folder)``, which puts a program into a folder there and returns its path."""

    def make(folder):
        file = own_folder / folder / "fnnexp"
        file.parent.mkdir()
        file.touch(0o755)
        return str(file)

    return make


@pytest.mark.skipif(os.name == "nt", reason="a program without a suffix")
def test_a_shell_that_does_not_find_this_fnnexp_is_told_how_it_was_called(script, own_folder, monkeypatch):
    mine, _ = script("my env"), script("other")
    main = str(own_folder / "fnnexp" / "__main__.py")
    for called, path, said in [
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
        assert program() == said
