"""Law 13: every command that is printed works where it is printed, and means what it says.

A sweep and its report print them on the terminal, on the page, in Markdown and in MLflow's description.
Each is read by a shell, in a folder whose own store has another experiment of the same name. Where all is
here, and where a password is hidden, each is a process; where only the store differs, this process runs it.
"""

from __future__ import annotations

import html
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from servers.mlflow_server import MlflowServer
from servers.processes import free_port

ROOT = Path(__file__).parent.parent
NAME = "it's a grid"
GRID = ["data=digits", "epochs=1", "arch=tanh_128", "init=he,max", "batching=full,mini", "seed=0,1"]
COMMAND = r"\bfnnexp (?=report|ui|reproduce|-)"
WHOLE = {
    "terminal": rf"(?:: |:\n|; write |`)({COMMAND}[^`\n]*)",
    "page": rf"<(?:pre|code)>({COMMAND}[^<]*)<",
    "markdown": rf"(?:^    |`)({COMMAND}[^`\n]*)",
}


@dataclass
class Setting:
    """Where a sweep is recorded: what its words and the report's name, and what the shell's variables do."""

    folder: Path
    store: str
    words: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self, **variables):
        """Return the variables of a shell that finds this fnnexp as `fnnexp`."""
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "40"}
        environment["PATH"] = os.pathsep.join((str(self.folder.parent / "bin"), environment["PATH"]))
        return {**environment, **self.variables, **variables}

    def run(self, command, **variables):
        """Run a command by a shell."""
        environment = self.environment(**variables)
        return subprocess.run(
            command, shell=True, cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def run_here(self, command, invoke, **variables):
        """Run in this process the words that a shell reads in a command: that starts no Python."""
        read = self.run(f"printf '%s\\0' {command}", **variables)
        program, *words = read.stdout.split("\0")[:-1]
        assert program == "fnnexp"
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            for variable, value in self.environment(**variables).items():
                patch.setenv(variable, value)
            ran = invoke(*words, cwd=self.folder)
        return subprocess.CompletedProcess(command, ran.status, ran.out, ran.err)


def installed(folder):
    """Put an fnnexp into a folder, as pip would."""
    folder.mkdir(parents=True)
    script = folder / "fnnexp"
    script.write_text(f"#!{sys.executable}\nimport sys\n\nfrom fnnexp.cli import main\n\nsys.exit(main())\n")
    script.chmod(0o755)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    started = MlflowServer(f"sqlite:///{folder / 'mlflow.db'}", folder)
    yield started
    started.stop()


SETTINGS = ("here", "elsewhere", "by the variable", "a server", "a server with a password")


@pytest.fixture(params=SETTINGS)
def setting(request, own_folder):
    installed(own_folder / "bin")
    folder = own_folder / "project"
    folder.mkdir()
    if request.param == "here":
        return Setting(folder, f"sqlite:///{folder / 'mlflow.db'}")
    store = f"sqlite:///{own_folder / 'o the r' / 'mlflow.db'}"
    if "server" in request.param:
        store = request.getfixturevalue("server").uri
    if request.param == "by the variable":
        return Setting(folder, store, variables={"MLFLOW_TRACKING_URI": store})
    named = store.replace("//", "//ann:secret@") if "password" in request.param else store
    return Setting(folder, store, [f"tracking.uri='{named}'"], ["--uri", named])


def commands_in(text, kind):
    """Return the commands that a text prints, each once; a command that is not seen as one fails."""
    found = re.findall(WHOLE[kind], text, re.MULTILINE)
    assert len(found) == len(re.findall(COMMAND, text)), text
    return {html.unescape(command) if kind == "page" else command for command in found}


def trials_of(page):
    return set(pd.read_csv(page.with_name("runs.csv"), dtype=str)["trial"])


def page_of(ran):
    (page,) = re.findall("^Report: (.*)$", ran.stdout, re.MULTILINE)
    return Path(page)


def test_every_command_that_is_printed_works_where_it_is_printed(setting, request, invoke):
    here = request.node.callspec.id == "here"
    processes = here or "password" in request.node.name
    run = setting.run if processes else partial(setting.run_here, invoke=invoke)
    words = [
        "-m",
        *GRID,
        "execution.n_jobs=1",
        f"tracking.experiment={quoted_for_hydra(NAME)}",
        *setting.words,
    ]
    if not here:
        decoy = [
            "fnnexp",
            "data=digits",
            "epochs=0",
            "seed=9",
            f"tracking.experiment={quoted_for_hydra(NAME)}",
        ]
        assert run(shlex.join(decoy), MLFLOW_TRACKING_URI="").returncode == 0
    swept = setting.run(shlex.join(["fnnexp", *words]))
    assert swept.returncode == 0, swept.stderr
    reported = setting.run(shlex.join(["fnnexp", "report", NAME, *setting.options]))
    assert reported.returncode == 0, reported.stderr
    aside = run(shlex.join(["fnnexp", "report", NAME, *setting.options, "--folder", "a side"]))
    refused = run(shlex.join(["fnnexp", "report", NAME, "tanh_128", *setting.options]))
    assert refused.returncode == 2
    client = MlflowClient(setting.store)
    experiment = client.get_experiment_by_name(NAME)
    runs = client.search_runs([experiment.experiment_id])
    trials = {run.data.tags["fnnexp.trial"] for run in runs if "fnnexp.trial" in run.data.tags}
    page = setting.folder / page_of(reported)
    assert len(trials) == 8
    assert trials_of(page) == trials
    notes = [
        experiment.tags["mlflow.note.content"],
        *(run.data.tags.get("mlflow.note.content", "") for run in runs),
    ]
    printed = {
        "terminal": [swept.stdout, reported.stdout, refused.stderr],
        "page": [
            path.with_name("report.html").read_text("utf-8")
            for path in (page, setting.folder / page_of(aside))
        ],
        "markdown": [page.with_name("report.md").read_text("utf-8"), *notes],
    }
    every = set()
    for kind, texts in printed.items():
        found = set().union(*(commands_in(text, kind) for text in texts))
        assert found, kind
        every |= found
    assert any("--folder" in command for command in every)
    everything = [*printed.values(), [str(run.data.tags) for run in runs], [str(experiment.tags)]]
    assert "secret" not in str(everything)
    hidden = {"MLFLOW_TRACKING_URI": setting.options[1]} if "password" in request.node.name else {}
    for command in sorted(every):
        if command.startswith("fnnexp ui"):
            shows(setting, command, **hidden)
            continue
        if hidden and " report " in command:
            untold = run(command)
            assert untold.returncode != 0
            assert "set it to the address of" in untold.stderr
        ran = run(command, **hidden)
        assert ran.returncode == 0, (command, ran.stderr)
        if command.startswith("fnnexp report"):
            reports_on = trials_of(setting.folder / page_of(ran))
            part = any("=" in word for word in shlex.split(command)[3:])
            assert reports_on < trials if part else reports_on == trials, command
            assert reports_on, command
        else:
            assert "0 trials finished, 8 were done before" in ran.stdout, command
    pages = re.findall("look at them: (http.*)", swept.stdout)
    assert [page.startswith(f"{setting.store}/#/experiments/") for page in pages] == [True] * len(pages)
    assert bool(pages) == ("server" in request.node.name)


def quoted_for_hydra(text):
    return "'" + text.replace("'", "\\'") + "'"


def shows(setting, command, **variables):
    """Run `fnnexp ui` until it says what it shows, and kill it: how it ends is no matter here."""
    environment = {**os.environ, **setting.variables, **variables}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    environment["PATH"] = os.pathsep.join((str(setting.folder.parent / "bin"), environment["PATH"]))
    process = subprocess.Popen(
        f"exec {command} --port {free_port()}",
        shell=True,
        cwd=setting.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        said = [process.stdout.readline() for _ in range(2)]
        assert said[1].startswith(f"  {NAME}: http://127.0.0.1:"), said
        (experiment_id,) = re.findall(r"/experiments/(\d+)/", said[1])
        found = MlflowClient(setting.store).get_experiment(experiment_id)
        assert found.name == NAME
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


def test_what_make_demo_prints_works_in_the_shell_where_make_was_called(own_folder):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, own_folder)
    installed(own_folder / ".venv" / "bin")
    (own_folder / ".venv" / "ready").touch()
    setting = Setting(own_folder, f"sqlite:///{own_folder / 'demo' / 'mlflow.db'}")
    path = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if not shutil.which("fnnexp", path=folder)
    )
    ran = setting.run("make demo", PATH=path)
    assert ran.returncode == 0, ran.stderr
    assert "108 trials finished" in ran.stdout
    assert (own_folder / page_of(ran)).parent == own_folder / "demo" / "reports" / "demo"
    (command,) = re.findall(r"compare them: (.*)", ran.stdout)
    pasted = setting.run(command, PATH=path)
    assert pasted.returncode == 0, pasted.stderr
    assert trials_of(own_folder / page_of(pasted)) == trials_of(own_folder / page_of(ran))
    assert sorted(each.name for each in own_folder.iterdir() if each.name.startswith("mlflow")) == []
