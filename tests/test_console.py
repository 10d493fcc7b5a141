"""What is shown reaches every terminal, whatever it can encode, and no text steers one."""

from __future__ import annotations

import ast
import doctest
import io
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import fnnexp
from fnnexp import console, errors

ROOT = Path(fnnexp.__file__).parent

EVIL = "a\x1b[2J\x1b]0;title\x07\x9b31m\r\u202egpj\u2028\ud800b"
SHOWN = r"a\x1b[2J\x1b]0;title\x07\x9b31m\r\u202egpj\u2028\ud800b"


def test_what_steers_a_terminal_is_written_out_and_nothing_else_is():
    assert errors.printable(EVIL) == SHOWN
    for harmless in ("a\n\tb", "größe × −0.5 …", "می\u200cخواهم", "👨\u200d👩", "a\u00a0b", "文字"):
        assert errors.printable(harmless) == harmless


@pytest.mark.parametrize("printed", [EVIL, Text(EVIL), Text(EVIL, style="bold")])
def test_no_name_steers_the_console(printed, capsys):
    shown = console.terminal(width=300)
    table = Table("name", title=printed, caption=printed)
    table.add_row(printed)
    shown.print(printed, markup=False, soft_wrap=True)
    shown.print(table)
    out = capsys.readouterr().out
    assert errors.printable(out) == out
    assert out.count(r"\x1b[2J") == 4


def test_styles_still_reach_a_terminal(capsys):
    shown = console.terminal(force_terminal=True, color_system="standard", legacy_windows=False)
    shown.print("[bold]a[/] \x1b[31m", highlight=False)
    out = capsys.readouterr().out
    assert out.startswith("\x1b[1ma\x1b[0m")
    assert r"\x1b[31m" in out


def test_an_error_says_its_names_written_out():
    assert str(errors.FnnexpError(f"no '{EVIL}'")) == f"no '{SHOWN}'"


def constants(file):
    """Yield the texts of a source that are no docstrings."""
    tree = ast.parse(file.read_text("utf-8"))
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.value


def test_each_of_our_own_characters_has_a_lookalike():
    there = {c for file in ROOT.rglob("*.py") for text in constants(file) for c in text if not c.isascii()}
    elsewhere = set("‖₀¹³\u00ad\u200c\u200d")  # in captions of figures, and in tables of characters
    assert there - elsewhere <= console.LOOKALIKES.keys()
    assert all(each.isascii() for each in console.LOOKALIKES.values())


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_a_stream_takes_any_text(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    text = "−0.5 ± 1 × größe … 文\ud800\n"
    assert console.AnyText(stream).write(text)
    stream.flush()
    written = stream.buffer.getvalue().decode(encoding)
    assert ("−0.5 ±" if encoding == "utf-8" else "-0.5 +- " if encoding == "ascii" else "-0.5 ±") in written
    assert ("größe" if encoding != "ascii" else r"gr\xf6\xdfe") in written
    assert r"\ud800" in written
    assert stream.errors == "strict"  # it is the caller's, and as it was


def test_a_stream_without_an_encoding_takes_any_text():
    stream = io.StringIO()
    console.AnyText(stream).write("−×…")
    assert stream.getvalue() == "−×…"


def test_no_name_in_a_store_reaches_the_terminal_as_it_is(store, own_folder, invoke, request):
    evil = "a\x1b[2J\u202e[/]"
    small = ("data=digits", "epochs=1", "execution.n_jobs=1", "tracking.experiment=mine")
    assert invoke(*small).status == 0
    with closing(sqlite3.connect(own_folder / "mlflow.db")) as database:
        database.execute("update experiments set name = ? where name = 'mine'", (evil,))
        database.execute("update tags set value = ? where key = 'mlflow.runName'", (evil,))
        database.execute("update runs set name = ?", (evil,))
        database.commit()
    for command, status in (["report", evil], 0), (["report", "mine"], 2), (["ui", "--port", "5999"], 7):
        if command[0] == "ui":
            request.getfixturevalue("started")  # from here on no process is started, also none of git's
        ran = invoke(*command)
        assert ran.status == status, ran.err
        out = ran.out + ran.err
        assert errors.printable(out) == out
        assert r"a\x1b[2J\u202e[/]" in out


def python(encoding, *words):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True)


FROM_PYTHON = """
import sys, fnnexp
runs = fnnexp.sweep("init=he", data="digits", epochs=1, seed=[0, 1], **{"execution.n_jobs": 1})
assert len(runs) == 2 and sys.stdout.errors == "strict"
from fnnexp.reporting import write
write.write("digits")
"""


def test_nothing_ends_in_a_traceback_where_a_character_can_not_be_encoded(store):
    """The second sweep finds its trials done; the report's numbers have a minus, a ± and a box."""
    grid = ("data=digits", "epochs=1", "init=max,he", "seed=range(3)", "tracking.experiment='größe−×'")
    commands = {
        "ascii": ["-m", "fnnexp", "-m", *grid, "execution.n_jobs=1"],
        "cp1252": ["-m", "fnnexp", "-m", *grid, "dry_run=true"],
        "latin-1": ["-m", "fnnexp", "report", "größe−×"],
    }
    for encoding, command in commands.items():
        ran = python(encoding, *command)
        assert ran.returncode == 0, ran.stderr
        assert b"Traceback" not in ran.stderr
        ran.stdout.decode(encoding)
    assert "größe-x" in ran.stdout.decode("latin-1").replace("×", "x")
    assert "größe−×" in Path("reports").rglob("report.md").__next__().read_text("utf-8")
    ran = python("ascii", "-c", FROM_PYTHON)
    assert (ran.returncode, b"Traceback" in ran.stderr) == (0, False), ran.stderr


@pytest.mark.parametrize(
    "command", [["--help"], ["gradcheck", "relu"], ["report", "größe"], ["--cfg", "job"]]
)
def test_every_command_prints_in_ascii(command, store):
    ran = python("ascii", "-m", "fnnexp", *command)
    assert b"Traceback" not in ran.stderr
    assert ran.returncode == (2 if command[-1] == "größe" else 0)
    assert (ran.stdout + ran.stderr).isascii()


@pytest.mark.parametrize("module", [console, errors])
def test_the_examples_run(module):
    assert doctest.testmod(module).failed == 0


class Full(io.TextIOWrapper):
    """Standard output into a file on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_full_disk_behind_standard_output_stops_no_work(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full(io.BytesIO(), "utf-8"))
    shown = console.terminal()
    shown.print("epochs 1/2")
    shown.print("epochs 2/2")


def test_a_terminal_of_no_width_is_one_of_eighty(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "0")
    console.terminal().print("seen")
    assert capsys.readouterr().out == "seen\n"
