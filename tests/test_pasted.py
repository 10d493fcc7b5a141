"""Law 13: every printed command works when pasted, and does what the text says.

A sweep and its report print commands on the terminal, on the page, in Markdown and in MLflow's description.
A shell reads each command, in a folder whose own store has another experiment of the same name. Commands run
as processes with the default store. In the other settings, where only the store differs, they run in this
process.
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
PRINTED = {
    "terminal": rf"(?:: |:\n|; write |`)({COMMAND}[^`\n]*)",
    "page": rf"<(?:pre|code)>({COMMAND}[^<]*)<",
    "markdown": rf"(?:^    |`)({COMMAND}[^`\n]*)",
}


@dataclass
class Setting:
    """A store, with the words of the sweep, the options of the report and the variables that select it."""

    folder: Path
    store: str
    words: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self, **variables):
        """Return the variables of a shell in which `fnnexp` is this version."""
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "40"}
        environment["PATH"] = os.pathsep.join((str(self.folder.parent / "bin"), environment["PATH"]))
        return {**environment, **self.variables, **variables}

    def run(self, command, **variables):
        """Run a command in a shell."""
        environment = self.environment(**variables)
        return subprocess.run(
            command, shell=True, cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def run_here(self, command, invoke, **variables):
        """Run a command in this process, with the words that a shell reads; this saves a start of Python."""
        words_read = self.run(f"printf '%s\\0' {command}", **variables)
        if words_read.returncode:  # a variable that the command needs is not set
            return words_read
        program, *words = words_read.stdout.split("\0")[:-1]
        assert program == "fnnexp"
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            for variable, value in self.environment(**variables).items():
                patch.setenv(variable, value)
            ran = invoke(*words, cwd=self.folder)
        return subprocess.CompletedProcess(command, ran.status, ran.out, ran.err)


def install_script(folder):
    """Write the script `fnnexp` into a folder, as pip would."""
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


SETTINGS = ("default store", "another folder", "variable", "server", "server with a password")


@pytest.fixture(params=SETTINGS)
def setting(request, own_folder):
    install_script(own_folder / "bin")
    folder = own_folder / "project"
    folder.mkdir()
    if request.param == "default store":
        return Setting(folder, f"sqlite:///{folder / 'mlflow.db'}")
    store = f"sqlite:///{own_folder / 'o the r' / 'mlflow.db'}"
    if "server" in request.param:
        store = request.getfixturevalue("server").uri
    if request.param == "variable":
        return Setting(folder, store, variables={"MLFLOW_TRACKING_URI": store})
    named = store.replace("//", "//ann:secret@") if "password" in request.param else store
    return Setting(folder, store, [f"tracking.uri='{named}'"], ["--uri", named])


def commands_in(text, kind):
    """Return the distinct commands in a text; fail if one is not printed in a form that can be pasted."""
    commands = re.findall(PRINTED[kind], text, re.MULTILINE)
    assert len(commands) == len(re.findall(COMMAND, text)), text
    return {html.unescape(command) if kind == "page" else command for command in commands}


def trials_of(page):
    return set(pd.read_csv(page.with_name("runs.csv"), dtype=str)["trial"])


def page_of(ran):
    (page,) = re.findall("^Report: (.*)$", ran.stdout, re.MULTILINE)
    return Path(page)


def test_every_printed_command_works_when_pasted(setting, request, invoke):
    is_default = request.node.callspec.id == "default store"
    run = setting.run if is_default else partial(setting.run_here, invoke=invoke)
    if not is_default:
        request.getfixturevalue("blank_figures")
    words = [
        "-m",
        *GRID,
        "execution.n_jobs=1",
        f"tracking.experiment={quoted_for_hydra(NAME)}",
        *setting.words,
    ]
    if not is_default:
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
    commands = set()
    for kind, texts in printed.items():
        in_texts = set().union(*(commands_in(text, kind) for text in texts))
        assert in_texts, kind
        commands |= in_texts
    assert any("--folder" in command for command in commands)
    everything = [*printed.values(), [str(run.data.tags) for run in runs], [str(experiment.tags)]]
    assert "secret" not in str(everything)
    hidden = {"MLFLOW_TRACKING_URI": setting.options[1]} if "password" in request.node.name else {}
    for command in sorted(commands):
        if command.startswith("fnnexp ui"):
            assert_ui_shows(setting, command, **hidden)
            continue
        if hidden and " report " in command:
            without_variable = run(command)
            assert without_variable.returncode != 0
            assert "set it to the address of" in without_variable.stderr
        ran = run(command, **hidden)
        assert ran.returncode == 0, (command, ran.stderr)
        if command.startswith("fnnexp report"):
            reported_trials = trials_of(setting.folder / page_of(ran))
            is_part = any("=" in word for word in shlex.split(command)[3:])
            assert reported_trials < trials if is_part else reported_trials == trials, command
            assert reported_trials, command
        else:
            assert re.search(r"0 trials finished in [\d.]+ s; 8 were done before", ran.stdout), command
    pages = re.findall("look at them: (http.*)", swept.stdout)
    assert [page.startswith(f"{setting.store}/#/experiments/") for page in pages] == [True] * len(pages)
    assert bool(pages) == ("server" in request.node.name)


def quoted_for_hydra(text):
    return "'" + text.replace("'", "\\'") + "'"


def assert_ui_shows(setting, command, **variables):
    """Run `fnnexp ui` until it prints its link, check the link, and kill it."""
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
        lines = [process.stdout.readline() for _ in range(2)]
        assert lines[1].startswith(f"  {NAME}: http://127.0.0.1:"), lines
        (experiment_id,) = re.findall(r"/experiments/(\d+)/", lines[1])
        assert MlflowClient(setting.store).get_experiment(experiment_id).name == NAME
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


def test_commands_printed_by_make_demo_work_in_the_shell_of_make(own_folder):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, own_folder)
    install_script(own_folder / ".venv" / "bin")
    (own_folder / ".venv" / "bin" / "activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n')
    (own_folder / ".venv" / "installed").touch()
    setting = Setting(own_folder, f"sqlite:///{own_folder / 'demo' / 'mlflow.db'}")
    path = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if not shutil.which("fnnexp", path=folder)
    )
    ran = setting.run("make --no-print-directory demo", PATH=path)  # the suite may be run by make
    assert ran.returncode == 0, ran.stderr
    assert "360 trials finished" in ran.stdout
    assert (own_folder / page_of(ran)).parent == own_folder / "demo" / "reports" / "demo"
    (command,) = re.findall(r"compare them: (.*)", ran.stdout)
    pasted = setting.run(command, PATH=path)
    assert pasted.returncode == 0, pasted.stderr
    assert trials_of(own_folder / page_of(pasted)) == trials_of(own_folder / page_of(ran))
    assert sorted(path.name for path in own_folder.iterdir() if path.name.startswith("mlflow")) == []
    title, activate, sweep, report, ui, own_data = ran.stdout.splitlines()[-6:]
    assert "demo/reports/demo/report.html" in title
    assert "data=files data.path=" in own_data
    pasted = setting.run(f"{activate}\n{sweep} epochs=1\n{report}\n", PATH=path)
    assert pasted.returncode == 0, pasted.stderr
    assert "40 trials finished" in pasted.stdout
    assert page_of(pasted) == Path("reports/init_grid/report.html")
    assert ui.split() == ["fnnexp", "ui", "--uri", "sqlite:///demo/mlflow.db"]
    assert (own_folder / "demo" / "mlflow.db").is_file()


@pytest.mark.parametrize("ready", [False, True])
def test_make_demo_installs_no_development_tools_and_prints_its_own_paths(ready, own_folder):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, own_folder)
    if ready:  # after `make test`
        (own_folder / "env").mkdir()
        (own_folder / "env" / "installed").touch()
    command = ["make", "--dry-run", "demo", "DEMO=elsewhere", "VENV=env"]
    printed = subprocess.run(command, cwd=own_folder, capture_output=True, text=True, check=True).stdout
    assert ("pip install" in printed) != ready
    assert "[dev]" not in printed
    assert {"  . env/bin/activate", "  fnnexp ui --uri sqlite:///elsewhere/mlflow.db"} <= set(
        printed.splitlines()
    )
