"""The commands and the code in the documentation work as they stand."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from fnnexp.cli import _parser, _training_command
from fnnexp.config.compose import jobs_of

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>run|file: (?P<file>\S+)) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
RUN = [page for page in PAGES if "<!-- run -->" in page.read_text("utf-8")]
COMMANDS = ("data", "report", "ui", "map", "lr", "reproduce", "gradcheck", "clean", "merge", "verify")
ELSEWHERE = re.compile(r"\b(FILE|HOST|FOLDER|NAME|KEY|GRID)\b|my_configs|my_pieces|--cfg|--help|<|…")
"""What a command needs that only its reader has."""


def blocks(page):
    """Return the blocks of code of a page as matches, without indentation and broken lines."""
    for block in BLOCK.finditer(page.read_text("utf-8")):
        text = re.sub(rf"^{block['indent']}", "", block["text"], flags=re.MULTILINE)
        yield block, re.sub(r"\\\n\s*", "", text)


def training_commands():
    """Yield every line of the pages that trains and that anybody can run, as its words."""
    for page in PAGES:
        for block, text in blocks(page):
            for line in text.splitlines() if block["language"] == "" else ():
                if not line.startswith("fnnexp ") or ELSEWHERE.search(line):
                    continue
                words = shlex.split(line, comments=True)[1:]
                if words and words[0] not in COMMANDS:
                    yield pytest.param(words, id=f"{page.stem}: {' '.join(words)}")


@pytest.mark.parametrize("words", [*training_commands()])
def test_a_command_of_the_documentation_composes(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert jobs_of(_training_command(_parser().parse_intermixed_args(words)))


@pytest.mark.long
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_top_to_bottom(page, invoke, empty_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    empty_store(tmp_path)
    names = {}
    for block, text in blocks(page):
        if block["file"]:
            file = tmp_path / block["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        elif block["mark"] == "run" and block["language"] == "python":
            with contextlib.redirect_stdout(None):
                exec(compile(text, str(page), "exec"), names)
        elif block["mark"] == "run":
            for line in text.splitlines():
                ran = invoke(*shlex.split(line)[1:])
                assert ran.status == 0, f"{line}\n{ran.out}\n{ran.err}"
