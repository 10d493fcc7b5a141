"""Output works on terminals of any encoding, and no text can control the terminal."""

from __future__ import annotations

import ast
import io
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

import fnnexp
from fnnexp import console, errors

ROOT = Path(fnnexp.__file__).parent

EVIL = "a\x1b[2J\x1b]0;title\x07\x9b31m\r\u202egpj\u2028\ud800b"
ESCAPED = r"a\x1b[2J\x1b]0;title\x07\x9b31m\r\u202egpj\u2028\ud800b"


def test_characters_that_control_a_terminal_are_escaped_and_no_others():
    assert errors.printable(EVIL) == ESCAPED
    for harmless in ("a\n\tb", "größe × −0.5 …", "می\u200cخواهم", "👨\u200d👩", "a\u00a0b", "文字"):
        assert errors.printable(harmless) == harmless


@pytest.mark.parametrize("printed", [EVIL, Text(EVIL), Text(EVIL, style="bold")])
def test_no_text_controls_the_console(printed, capsys):
    terminal = console.terminal(width=300)
    table = Table("name", title=printed, caption=printed)
    table.add_row(printed)
    terminal.print(printed, markup=False, soft_wrap=True)
    terminal.print(table)
    out = capsys.readouterr().out
    assert errors.printable(out) == out
    assert out.count(r"\x1b[2J") == 4


def test_a_terminal_shows_what_is_being_done_and_then_removes_it(capsys, monkeypatch):
    terminal = console.terminal(
        force_terminal=True, force_interactive=True, color_system=None, legacy_windows=False
    )
    with pytest.raises(ValueError, match="damaged"), console.while_doing("reading", terminal):
        raise ValueError("damaged")
    assert capsys.readouterr().out == "reading …\r\r         \r"
    narrow = console.terminal(
        force_terminal=True, force_interactive=True, color_system=None, legacy_windows=False, width=6
    )
    with console.while_doing("reading", narrow):
        pass
    assert capsys.readouterr().out == "readi\r\r     \r"
    with console.while_doing("reading", console.terminal(force_terminal=False)):
        pass
    monkeypatch.setenv("TERM", "dumb")
    with console.while_doing("reading", console.terminal(force_terminal=True)):
        pass
    assert capsys.readouterr().out == ""


def test_a_long_wait_shows_how_far_it_is(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("fnnexp.console.time.monotonic", lambda: now)
    terminal = console.terminal(
        force_terminal=True, force_interactive=True, color_system=None, legacy_windows=False
    )
    with console.while_doing("reading it all", terminal) as tell:
        now = 1.0
        tell("reading 9")
        tell("reading 10")
    assert capsys.readouterr().out == "reading it all …\rreading 9 …     \r\r           \r"
    with console.while_doing("reading", console.terminal(force_terminal=False)) as tell:
        for now in (2.0, 9.0, 12.0, 15.0, 23.0):
            tell(f"reading [{now:.0f}]")
    assert capsys.readouterr().out == "reading [12]\nreading [23]\n"


TEXTS = ("", "ant", "größe × −0.5 …", "文字", "ｗｉｄｅ", "ｶﾅ", "한국어", "e\u0301a\u0300", "การ", "━╌", "🐜")


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_takes_as_many_columns_as_rich_counts(text):
    assert console.columns(text) == cell_len(text)
    for width in range(12):
        assert cell_len(console.padded(text, width)) == max(width, cell_len(text))
        fitted = console.fitted(text, width)
        assert cell_len(fitted) <= width
        assert text.startswith(fitted)
        assert fitted == text or cell_len(text[: len(fitted) + 1]) > width


def test_styles_still_reach_a_terminal(capsys):
    terminal = console.terminal(force_terminal=True, color_system="standard", legacy_windows=False)
    terminal.print("[bold]a[/] \x1b[31m", highlight=False)
    out = capsys.readouterr().out
    assert out.startswith("\x1b[1ma\x1b[0m")
    assert r"\x1b[31m" in out


def test_the_message_of_an_error_is_escaped():
    assert str(errors.FnnexpError(f"no '{EVIL}'")) == f"no '{ESCAPED}'"


def constants(file):
    """Yield the strings of a source file that are not docstrings."""
    tree = ast.parse(file.read_text("utf-8"))
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.value


def test_every_printed_non_ascii_character_has_a_lookalike():
    printed = {c for file in ROOT.rglob("*.py") for text in constants(file) for c in text if not c.isascii()}
    never_printed = set("‖₀¹³\u00ad\u200c\u200d")  # in captions of figures, and in tables of characters
    assert printed - never_printed <= console.LOOKALIKES.keys()
    assert all(text.isascii() for text in console.LOOKALIKES.values())


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_a_stream_accepts_any_text(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    text = "−0.5 ± 1 × größe … 文\ud800\n"
    assert console.AnyText(stream).write(text)
    stream.flush()
    written = stream.buffer.getvalue().decode(encoding)
    assert ("−0.5 ±" if encoding == "utf-8" else "-0.5 +- " if encoding == "ascii" else "-0.5 ±") in written
    assert ("größe" if encoding != "ascii" else r"gr\xf6\xdfe") in written
    assert r"\ud800" in written
    assert stream.errors == "strict"  # the stream of the caller is unchanged


def test_a_stream_without_an_encoding_accepts_any_text():
    stream = io.StringIO()
    console.AnyText(stream).write("−×…")
    assert stream.getvalue() == "−×…"


def test_names_from_a_store_are_escaped(store, own_folder, invoke, request):
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
            request.getfixturevalue("started")  # from here on no process can start, not even git
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


@pytest.mark.long
def test_commands_run_in_encodings_that_lack_characters(store):
    """The numbers in the report contain a minus sign, a ± and box-drawing characters."""
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


class Full(io.TextIOWrapper):
    """A standard output that goes to a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_full_disk_behind_standard_output_does_not_stop_the_work(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full(io.BytesIO(), "utf-8"))
    terminal = console.terminal()
    terminal.print("epochs 1/2")
    terminal.print("epochs 2/2")


def test_a_terminal_of_width_zero_prints_eighty_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "0")
    console.terminal().print("seen")
    assert capsys.readouterr().out == "seen\n"
