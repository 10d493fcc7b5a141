"""A sweep, its report and the UI run in many environments, each command as a process.

No command ends with a traceback and no trial is lost. Where a command must refuse, it prints one line that
says what to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pytest
from stores import runs_in

resource = pytest.importorskip("resource", reason="these environments need POSIX")

GRID = ("-m", "data=digits", "epochs=1", "init=he,max", "execution.n_jobs=2", "tracking.experiment=e")
TRIALS = 2


@dataclass(frozen=True)
class Folders:
    """The working folder of a case, and its temporary folder."""

    folder: Path
    temporary: Path


@dataclass(frozen=True)
class Case:
    """An environment.

    Attributes
    ----------
    variables
        Environment variables; None removes a variable. `{folder}` and `{temporary}` are replaced by paths.
    folder
        The name of the working folder.
    new
        Whether MLflow creates the store in this environment, instead of a copy that exists before.
    ui
        Whether to start the UI too, in environments where it may behave differently.
    words
        More words for the command of the sweep.
    prepare
        A function that returns a context in which the case runs.
    limit
        A function called in each process before it executes the command.
    refused
        A part of the message, if the sweep must be refused.
    """

    variables: Mapping[str, str | None] = field(default_factory=dict)
    folder: str = "work"
    new: bool = False
    ui: bool = False
    words: tuple[str, ...] = ()
    prepare: Callable[[Folders], AbstractContextManager[object]] | None = None
    limit: Callable[[], object] | None = None
    refused: str | None = None


@contextlib.contextmanager
def mounted(folder, options):
    """Mount an empty file system with these options on a folder."""
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root mounts file systems")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def full(folder):
    with mounted(folder, "size=16k"):
        with contextlib.suppress(OSError):
            (folder / "all").write_bytes(b"x" * 100_000)
        yield


@contextlib.contextmanager
def read_only(folder):
    """Make a folder read-only. Root ignores permissions, so for root mount a read-only file system."""
    if os.getuid() != 0:
        folder.chmod(0o555)
    with mounted(folder, "ro") if os.getuid() == 0 else contextlib.nullcontext():
        yield


def closed(number):
    """Return a function that closes a stream before the command starts, as `>&-` does."""
    return lambda: os.close(number)


def break_pipe():
    """Make standard output a pipe without a reader, as after `| head`."""
    reads, writes = os.pipe()
    os.close(reads)
    os.dup2(writes, 1)


def open_files(count):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


NOWHERE = "/proc/none"
"""A folder that even root cannot create."""

CASES = {
    # homes, caches, temporary folders and languages
    "no HOME, LANG=C, and a path of 200 characters": Case(
        {"HOME": None, "LANG": "C", "LC_ALL": None, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        folder="/".join(["f" * 49] * 4),
        new=True,
        ui=True,
    ),
    "a missing HOME, no USER, no LOGNAME, no PATH": Case(
        {"HOME": NOWHERE, "FNNEXP_CACHE": None, "USER": None, "LOGNAME": None, "PATH": None},
        new=True,
        ui=True,
    ),
    "an empty HOME and FNNEXP_CACHE, PYTHONIOENCODING=latin-1, COLUMNS=0": Case(
        {
            "HOME": "",
            "FNNEXP_CACHE": "",
            "XDG_CACHE_HOME": "{temporary}",
            "PYTHONIOENCODING": "latin-1",
            "COLUMNS": "0",
            "LINES": "0",
        }
    ),
    "XDG_CACHE_HOME, MPLCONFIGDIR and JOBLIB_TEMP_FOLDER that cannot be created, ascii, COLUMNS=40": Case(
        {
            "XDG_CACHE_HOME": NOWHERE,
            "FNNEXP_CACHE": None,
            "MPLCONFIGDIR": NOWHERE,
            "JOBLIB_TEMP_FOLDER": NOWHERE,
            "PYTHONIOENCODING": "ascii",
            "COLUMNS": "40",
        }
    ),
    "a missing TMPDIR, 64 open files": Case(
        {"TMPDIR": NOWHERE, "FNNEXP_CACHE": NOWHERE}, new=True, limit=open_files(64)
    ),
    "a full TMPDIR": Case(
        {"TMPDIR": "{temporary}"}, new=True, ui=True, prepare=lambda folders: full(folders.temporary)
    ),
    "a full JOBLIB_TEMP_FOLDER, a missing MPLBACKEND, LOKY_MAX_CPU_COUNT=0": Case(
        {"JOBLIB_TEMP_FOLDER": "{temporary}", "MPLBACKEND": "none_such", "LOKY_MAX_CPU_COUNT": "0"},
        prepare=lambda folders: full(folders.temporary),
    ),
    "a read-only folder": Case(
        prepare=lambda folders: read_only(folders.folder), new=True, refused="read-only"
    ),
    "a full disk": Case(
        limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        new=True,
        refused="mlflow.db",
    ),
    # names of folders
    "umlauts, blanks, quotes, #, %, brackets, a backslash and a dash in the folder": Case(
        folder=" Größe  für Übung /it's `mine`/run#3 x=1&y/100%/[bold] {x} $HOME \\n/-x", new=True, ui=True
    ),
    "a ? in the folder": Case(folder="run?", new=True, refused="has % or ? in its path"),
    "a folder with a percent-encoded name": Case(folder="a%20b", new=True, refused="has % or ? in its path"),
    # streams; threads and workers
    "PYTHONIOENCODING=cp1252, TERM=dumb, standard error closed": Case(
        {"PYTHONIOENCODING": "cp1252", "TERM": "dumb", "NO_COLOR": "1"}, limit=closed(2)
    ),
    "PYTHONIOENCODING=utf-16, standard input closed": Case({"PYTHONIOENCODING": "utf-16"}, limit=closed(0)),
    "standard output closed, OMP_NUM_THREADS": Case(
        {"OMP_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"}, limit=closed(1)
    ),
    "standard output without a reader, OMP_NUM_THREADS not a number": Case(
        {"OMP_NUM_THREADS": "many", "OPENBLAS_NUM_THREADS": ""}, limit=break_pipe
    ),
    "all standard streams closed, LOKY_MAX_CPU_COUNT=1": Case(
        {"LOKY_MAX_CPU_COUNT": "1"}, limit=lambda: os.closerange(0, 3)
    ),
    "LOKY_MAX_CPU_COUNT not a number": Case({"LOKY_MAX_CPU_COUNT": "all"}, refused="LOKY_MAX_CPU_COUNT"),
    # settings of Python and of other programs
    "PYTHONWARNINGS=error": Case({"PYTHONWARNINGS": "error"}, new=True, refused="Warning"),
    "umask 077, MLflow's other variables, and a proxy": Case(
        {
            "MLFLOW_TRACKING_URI": "",
            "MLFLOW_EXPERIMENT_NAME": "another",
            "MLFLOW_EXPERIMENT_ID": "7",
            "MLFLOW_LOGGING_LEVEL": "DEBUG",
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        },
        new=True,
        ui=True,
        limit=lambda: os.umask(0o077),
    ),
}
"""Environments to test. Independent settings share a case, because each case takes seconds."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def assert_no_traceback(ran):
    assert "Traceback" not in ran.stdout + ran.stderr, ran.stdout + ran.stderr


@pytest.fixture
def folders(tmp_path, request, empty_store):
    case = CASES[request.getfixturevalue("name")]
    folders = Folders(tmp_path / case.folder, tmp_path / "temporary")
    folders.folder.mkdir(parents=True)
    folders.temporary.mkdir()
    if not case.new:
        empty_store(folders.folder)
    with case.prepare(folders) if case.prepare else contextlib.nullcontext():
        yield folders


@pytest.mark.parametrize("name", CASES)
def test_a_sweep_its_report_and_the_ui_work_in_an_environment(name, folders):
    case = CASES[name]
    environment = dict(os.environ)
    for variable, value in case.variables.items():
        if value is None:
            environment.pop(variable, None)
        else:
            environment[variable] = value.format(folder=folders.folder, temporary=folders.temporary)
    settings = {"cwd": folders.folder, "env": environment, "preexec_fn": case.limit}

    def run(*words):
        ran = subprocess.run(
            [sys.executable, "-m", "fnnexp", *words],
            capture_output=True,
            timeout=300,
            check=False,
            **settings,
        )
        ran.stdout, ran.stderr = (text.decode(errors="replace") for text in (ran.stdout, ran.stderr))
        assert_no_traceback(ran)
        return ran

    swept = run(*GRID, *case.words)
    if case.refused is not None:
        assert swept.returncode in (1, 2), swept
        messages = [line for line in swept.stderr.splitlines() if line.startswith("fnnexp: ")]
        assert len(messages) == 1, swept.stderr
        assert case.refused in messages[0]
        return
    assert swept.returncode == 0, (swept.stdout, swept.stderr)
    runs = runs_in(folders.folder, "e")
    assert [run.info.status for run in runs.values()] == ["FINISHED"] * TRIALS
    for mlflow_run in runs.values():
        assert (folders.folder / "mlruns").is_dir()
        assert list((folders.folder / "mlruns").glob(f"*/{mlflow_run.info.run_id}/artifacts/weights.npz"))
    reported = run("report", "e")
    assert reported.returncode == 0, (reported.stdout, reported.stderr)
    page = (folders.folder / "reports" / "e" / "report.html").read_text(encoding="utf-8")
    assert "2 trials" in page
    if case.ui:
        show_ui(settings)


def show_ui(settings):
    """Start the UI, wait until it serves its page, and stop it with Ctrl-C."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "fnnexp", "ui", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **settings,
    ) as ui:
        try:
            for _ in range(600):
                with (
                    contextlib.suppress(OSError),
                    urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer,
                ):
                    assert answer.status == 200
                    break
                assert ui.poll() is None, ui.communicate()
                time.sleep(0.1)
            else:
                pytest.fail("the UI did not answer")
            ui.send_signal(signal.SIGINT)
            out, err = ui.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ui.pid, signal.SIGKILL)
    assert ui.returncode == 0, (out, err)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server still runs"
    assert b"Traceback" not in out + err, err.decode(errors="replace")
