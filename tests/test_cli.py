"""The command line: its help, commands and messages, and that a refused command leaves no file behind."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from mlflow import MlflowClient
from stores import copy_run

import fnnexp
from fnnexp import api, cli
from fnnexp.cli import COMMANDS
from fnnexp.config.commands import quoted
from fnnexp.config.schema import conf_folder, sweeps_folder
from fnnexp.data import datasets as data
from fnnexp.data import download
from fnnexp.pieces import registry
from fnnexp.reporting.sections import overview
from fnnexp.sweeping.loop import Outcome
from fnnexp.tracking import reader, ui

OPTIONS = {
    group.name: sorted(file.stem for file in group.glob("*.yaml"))
    for group in conf_folder().iterdir()
    if group.is_dir()
}
DIGITS = ["data=digits", "epochs=1", "execution.n_jobs=1"]


def python(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, **options)


def file_names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- help ---


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_names_every_command_group_and_option(word, invoke):
    ran = invoke(word)
    assert (ran.status, ran.err) == (0, "")
    words = set(re.findall(r"[\w.]+", ran.out))
    assert [f"fnnexp {name}" for name in COMMANDS if f"fnnexp {name}" not in ran.out] == []
    single_option = {"execution", "tracking"}
    for group in set(OPTIONS) - single_option:
        assert {group, *OPTIONS[group]} <= words, group
    assert {f"execution.{key}" for key in ("n_jobs", "backend", "max_lanes", "segment_seconds")} <= words
    assert {"tracking.experiment", "tracking.uri", "dry_run", "epochs", "seed", "dtype"} <= words


def test_help_shows_each_thing_with_an_example(invoke):
    examples = re.findall(r"^  (fnnexp.*?)(?:  .*)?$", invoke("--help").out, re.MULTILINE)
    assert len(examples) >= 11
    assert any(" -m " in example for example in examples)
    assert any(" -cn card_grid" in example for example in examples)


def test_the_examples_of_help_run(invoke, monkeypatch):
    """Run each example that trains as a dry run on generated data."""
    monkeypatch.setattr(data, "prepare", lambda *_: prepared)
    prepared = data.Prepared("digits", "nowhere", "a" * 64, 60000, 10000, 784, 10)
    text = "from fnnexp import pieces\n\npieces.initializer('mine', lambda n_in, n_out: n_in**-0.5)\n"
    Path("my_pieces.py").write_text(text, "utf-8")
    examples = re.findall(r"^  fnnexp(.*?)(?:   .*)?$", invoke("--help").out, re.MULTILINE)
    commands = [example.replace("'", "").split() for example in examples if example.strip()]
    commands = [words for words in commands if words[0] not in COMMANDS]
    assert len(commands) >= 6
    for words in commands:
        ran = invoke(*words, "dry_run=true")
        assert ran.status == 0, (words, ran.err)
        assert "to run" in ran.out
    registry.withdraw(str(Path("my_pieces.py").resolve()))


def test_help_and_version_are_shown_at_any_position(invoke):
    assert invoke("data=digits", "--help").out == invoke("--help").out
    assert invoke("data=digits", "--version").out == f"fnnexp {fnnexp.__version__}\n"


def test_a_grid_in_an_override_of_the_sweeper_runs(invoke, swept):
    assert invoke("data=digits", "-m", "+hydra.sweeper.params.seed='1,2'").status == 0
    assert len(swept) == 2


def test_help_imports_no_large_library():
    heavy = "hydra numpy mlflow pandas joblib rich omegaconf sklearn scipy matplotlib"
    code = (
        "import sys; from fnnexp.cli import main; status = main(['--help']); "
        f"print(status, [name for name in {heavy.split()} if name in sys.modules], file=sys.stderr)"
    )
    assert python("-c", code).stderr.strip() == "0 []"


def test_version_prints_the_version_of_the_package(invoke):
    ran = invoke("--version")
    assert (ran.status, ran.out) == (0, f"fnnexp {fnnexp.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, invoke):
    ran = invoke(command, "--help")
    assert ran.status == 0
    assert f"usage: fnnexp {command}" in ran.out


def test_the_command_line_runs_as_a_module():
    ran = python("-m", "fnnexp.cli", "--version")
    assert (ran.returncode, ran.stdout) == (0, f"fnnexp {fnnexp.__version__}\n")


# --- bad input ---

BAD = {
    "arch=relu_10O": ["arch=relu_10O", "relu_100, relu_98, sigmoid_32_32, tanh_128", "'relu_100'"],
    "init=hee": ["init=hee", ", ".join(OPTIONS["init"]), "Did you mean 'he'?"],
    "batching.size=0": ["batching.size=0", "1 or more", "batching.size=128"],
    "epochs=-1": ["epochs=-1", "0 or more"],
    "optimizer.lr=abc": ["optimizer.lr=abc", "a number"],
    "seed=1.5": ["seed=1.5", "a whole number"],
    "data=files data.path=nowhere.npz": ["nowhere.npz", "does not exist", "expected an .npz"],
    "data=files": ["data=files", "data.path=…"],
    "data=digits data.path=x.npz": ["data=digits does not accept data.path"],
    "data.path=nowhere.npz": ["data.path=nowhere.npz", "does not exist"],
    "trian": ["no command 'trian'", "report, map, reproduce, gradcheck, ui", "--help"],
    "reprot card_grid": ["no command 'reprot'", "Did you mean 'report'?"],
    "optimizer.lrr=0.1": ["optimizer.lrr", "optimizer.lr,", "Did you mean 'optimizer.lr'?"],
    "arch.hidden=5": ["arch.hidden=5", "a list", "arch.hidden=[5]"],
    "epochs=null": ["epochs=null", "a value"],
    "+depth=3": ["depth", "no such key"],
    "dry_run=maybe": ["dry_run=maybe", "true or false"],
    "diagnostics=maybe": ["diagnostics=maybe", "true, false or full"],
    "data=digits data.validation=1437": ["data.validation=1437", "1437 training rows"],
    "data=digits execution.backend=celery": ["execution.backend=celery", "loky"],
    "-cn card_gird": ["no config 'card_gird'", "card_grid, config, demo, init_grid", "'card_grid'"],
    "-cd nowhere": ["nowhere"],
    "seed=0,1": ["seed=0,1", "for one trial per value add -m"],
    "arch=": ["arch=", "relu_100"],
    "arch=3": ["arch=3: an option is a name, not a number; write arch=NAME", "arch.hidden=…"],
    "arch=[64,32]": ["arch=[64,32]: an option is a name", "arch.hidden=…"],
    "batching=full,32": ["batching=full,32: an option is a name", "batching.size=…"],
    "optimizer.learning_rate=0.1": ["Did you mean 'optimizer.lr'?"],
    "n_epochs=3": ["Did you mean 'epochs'?"],
    "init=HE": ["Did you mean 'he'?"],
    "a=b=c": ["="],
    "=3": ["Config group override"],
    "-m data=digits epochs=1,-2": ["epochs=-2", "0 or more"],
    "-m data=digits init=he,hee": ["init=hee", "Did you mean 'he'?"],
    "-m data=digits seed=0,1 seed=x": ["seed=x", "whole number"],
    "-m data=digits execution.n_jobs=1,2": ["execution differs between jobs", "one value"],
    "-cn card_grid data=digits batching.size=0": ["batching.size=0"],
    "report": ["no sweep has been recorded here: there", "mlflow.db; write fnnexp -cn card_grid to run"],
    "report card_grid": ["there is no MLflow store at", "mlflow.db; write fnnexp -cn card_grid to run one"],
    "report arch=tanh_128 card_grid": ["the experiment comes first; write fnnexp report card_grid a"],
    "report --uri sqlite:///its/a.db": [
        "a.db; write fnnexp -cn card_grid tracking.uri=sqlite:///its/a.db to"
    ],
    "report --metric val_loss": ["--metric: needs an experiment", "write fnnexp report NAME --metric …"],
    "report card_grid demo": ["'demo': after the name of one experiment, only KEY=VALUE", "arch=tanh_128"],
    "report card_grid seed=0 seed=1": ["seed is given twice, as 0 and 1", "fnnexp report card_grid seed=0,1"],
    "gradcheck nonsense": ["nonsense", "tanh"],
    "ui": ["no sweep has been recorded here"],
    "ui --port many": ["--port", "many"],
    "--multirun=3": ["--multirun", "3"],
    "--nonsense": ["--nonsense"],
    "report a --handuot": [
        "--handuot: `fnnexp report` has no such option",
        "--metric, --margin",
        "'--handout'?",
    ],
    "report --titel=x a": ["--titel: `fnnexp report`", "Did you mean '--title'?"],
    "merge a.db --itno b.db": ["--itno: `fnnexp merge`", "Did you mean '--into'?"],
    "--multrun seed=0,1": ["--multrun: `fnnexp` has", "Did you mean '--multirun'?"],
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_prints_one_message_and_leaves_no_file_behind(words, invoke, own_folder, monkeypatch):
    monkeypatch.delenv("FNNEXP_MNIST", raising=False)
    monkeypatch.setattr(download, "MNIST_MIRRORS", ())
    ran = invoke(*words.split())
    assert ran.status == 2, ran
    assert [part for part in BAD[words] if part not in ran.err] == [], ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert len(re.findall(r"^fnnexp.*?: ", ran.err, re.MULTILINE)) == 1
    assert file_names(own_folder) == []


def test_bad_input_prints_one_message_in_a_new_process_too(own_folder):
    ran = python("-m", "fnnexp.cli", "arch=relu_10O")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("fnnexp: arch=relu_10O: must be one of relu_100")
    assert len(ran.stderr.splitlines()) == 1
    assert file_names(own_folder) == []


def test_one_bad_value_in_a_sweep_stops_all_its_trials(invoke, own_folder):
    ran = invoke("-m", *DIGITS, "batching.size=64,0")
    assert ran.status == 2
    assert "batching.size=0" in ran.err
    assert file_names(own_folder) == []


def test_missing_mnist_is_refused_with_ways_to_provide_it(invoke, own_folder, monkeypatch):
    monkeypatch.delenv("FNNEXP_MNIST", raising=False)
    monkeypatch.setenv("FNNEXP_CACHE", str(own_folder / "cache"))
    monkeypatch.setattr(download, "MNIST_MIRRORS", ())
    ran = invoke()
    assert ran.status == 2
    for way in ("data.path=", "FNNEXP_MNIST=", "data=digits"):
        assert way in ran.err


def test_hydra_full_error_shows_the_traceback():
    ran = python("-m", "fnnexp.cli", "arch=relu_10O", env=os.environ | {"HYDRA_FULL_ERROR": "1"})
    assert ran.returncode != 0
    assert "Traceback" in ran.stderr


def test_an_unwritable_cache_prints_one_warning_and_the_trial_runs(invoke, swept, own_folder, monkeypatch):
    (own_folder / "file").write_text("in the way")
    monkeypatch.setenv("FNNEXP_CACHE", str(own_folder / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(own_folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ran = invoke(*DIGITS)
    assert (ran.status, len(swept)) == (0, 1)
    (line,) = ran.err.splitlines()
    assert re.match(r"fnnexp: the cache .*/file/cache cannot be written \(", line)


# --- Hydra's flags ---


@pytest.mark.parametrize(
    ("words", "ordered"),
    [
        ("dry_run=true -cn card_grid seed=1", "fnnexp -cn card_grid dry_run=true seed=1"),
        ("a=1 -m b=2", "fnnexp -m a=1 b=2"),
        ("a=1 --config-name grid -cd here b=2", "fnnexp -cd here -cn grid a=1 b=2"),
        ("a=1 --config-name=grid b=2 --multirun", "fnnexp -m -cn grid a=1 b=2"),
        ("a=1 --cfg job --resolve b=2", "fnnexp a=1 b=2"),
        ("", "fnnexp"),
    ],
)
def test_overrides_and_flags_are_accepted_in_any_order(words, ordered, own_folder):
    (own_folder / "here").mkdir()
    assert str(cli._training_command(cli._parser().parse_intermixed_args(words.split()))) == ordered


def test_cfg_job_shows_the_composed_config(invoke, own_folder):
    ran = invoke("init=normal", "init.std=0.3", "--cfg", "job", "epochs=7")
    assert ran.status == 0, ran.err
    assert "method: normal\n  std: 0.3\n" in ran.out
    assert "epochs: 7\n" in ran.out
    assert file_names(own_folder) == []


def test_info_shows_where_configs_come_from(invoke, own_folder):
    ran = invoke("--info", "searchpath")
    assert ran.status == 0, ran.err
    assert conf_folder().as_posix() in ran.out
    assert sweeps_folder().as_posix() in ran.out
    assert file_names(own_folder) == []


def test_completion_prints_a_script(invoke, own_folder):
    ran = invoke("-sc", "install=bash")
    assert ran.status == 0, ran.err
    assert "hydra_bash_completion" in ran.out
    assert file_names(own_folder) == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("init=he", {"init=he", "init=he2", "init=he_normal", "init=he_uniform"}),
        ("optimizer.l", {"optimizer.lr=", "optimizer.lr_for."}),
    ],
)
def test_completion_offers_options_and_keys(typed, offered, invoke, monkeypatch):
    monkeypatch.setenv("COMP_LINE", f"fnnexp {typed}")
    monkeypatch.setenv("COMP_POINT", str(len(f"fnnexp {typed}")))
    ran = invoke("-sc", "query=bash")
    assert ran.status == 0, ran.err
    assert set(ran.out.split()) == offered


# --- a dry run ---


def test_a_dry_run_shows_trials_stacks_and_identical_trials_and_writes_no_file(invoke, own_folder):
    ran = invoke("dry_run=true", "-cn", "card_grid", "data=digits", "epochs=3")
    assert ran.status == 0, ran.err
    assert "card_grid: 36 trials, 0 done, 36 to run" in ran.out
    assert len(re.findall(r"^\S+-s0\S* +[0-9a-f]{16}  3 +to run", ran.out, re.MULTILINE)) == 36
    assert "numerically identical: 9 trials coincide with another (sqrtmax = xavier)" in ran.out
    assert re.search(
        r"^27 networks in \d+ stacks on \d+ workers \(loky\); 81 epochs in all$", ran.out, re.MULTILINE
    )
    table = re.findall(r"^(\d+) +(\d+)(?: each)? +784-\S+ +(\w+) +(\w+) *$", ran.out, re.MULTILINE)
    assert len(table) == len(set(table))  # equal stacks share a row
    assert sum(int(stacks) * int(lanes) for stacks, lanes, *_ in table) == 27
    memory = r"up to \d+ MB in (each of \d+ workers|the worker), and \d+ MB in this process; a worker may "
    assert re.search(f"^memory: {memory}", ran.out, re.MULTILINE)
    assert file_names(own_folder) == []


NONE_HELD_OUT = "chosen by the test rows, and its accuracy is optimistic"


@pytest.mark.parametrize("words", ["", "-m seed=0,1", "-cn init_grid seed=0"])
def test_validation_rows_are_held_out_by_default_and_their_absence_prints_one_warning(words, invoke, store):
    plain = invoke(*words.split(), "data=digits", "dry_run=true")
    assert (plain.status, NONE_HELD_OUT in plain.out) == (0, False)
    none = invoke(*words.split(), "data=digits", "data.validation=0", "dry_run=true")
    n = len(re.findall(r"to run$", none.out, re.MULTILINE)) - 1  # the first line counts them
    assert n == {"": 1, "-m seed=0,1": 2, "-cn init_grid seed=0": 8}[words]
    (warning,) = (line for line in none.out.splitlines() if NONE_HELD_OUT in line)
    trained = "1 of 1 trial: it trains" if n == 1 else f"{n} of {n} trials: they train"
    assert none.out.startswith(f"data.validation=0 in {trained} on all rows")
    assert "To choose by held-out rows of digits, write data.validation=237" in warning
    ids = [set(re.findall(r"\b[0-9a-f]{16}\b", ran.out)) for ran in (plain, none)]
    assert len(ids[0]) == len(ids[1]) == n
    assert not ids[0] & ids[1]


def test_the_number_of_validation_rows_is_a_param_and_decides_what_ranks(invoke, store):
    """Trials with validation rows share stacks; beside trials without, test accuracy ranks."""
    assert invoke("-m", "init=he,max", "seed=0,1", *DIGITS).status == 0
    runs = fnnexp.runs("digits")
    assert set(runs["data.validation"]) == {237}
    assert overview.basis(runs).startswith("Ranked by val_accuracy, on rows held out of training")
    plan = invoke("-m", "init=he,max", "seed=2,3", *DIGITS, "dry_run=true").out
    assert "4 networks in 1 stack on 1 worker (loky)" in plan
    ran = invoke("-m", "init=he,max", "data.validation=0", *DIGITS)
    assert ran.out.index(NONE_HELD_OUT) < ran.out.index("trials finished")
    both = overview.basis(fnnexp.runs("digits"))
    assert both.startswith("Ranked by test_accuracy, because not all trials held out validation rows")


def test_a_published_experiment_without_validation_prints_no_warning(invoke, store):
    ran = invoke("experiment=relu_full_batch", "data=digits", "dry_run=true")
    assert (ran.status, NONE_HELD_OUT in ran.out) == (0, False)


def test_a_dry_run_of_many_trials_shows_the_first_and_counts_the_rest(invoke, own_folder):
    ran = invoke("-cn", "demo", "dry_run=true")
    assert "demo: 360 trials, 0 done, 360 to run" in ran.out
    assert "… and 320 more" in ran.out


def test_a_dry_run_shows_which_trials_have_finished(invoke, store, own_folder):
    grid = ["-m", *DIGITS, "init=he,max"]
    assert invoke(*grid).status == 0
    before = {path: path.stat().st_mtime_ns for path in own_folder.rglob("*")}
    ran = invoke(*grid, "seed=0,1", "dry_run=true")
    assert "digits: 4 trials, 2 done, 2 to run" in ran.out
    assert len(re.findall(r" done *$", ran.out, re.MULTILINE)) == 2
    assert "2 networks in" in ran.out
    assert {path: path.stat().st_mtime_ns for path in own_folder.rglob("*")} == before


# --- lists where one value is required ---

HEAD = "defaults: [config, override data: digits, _self_]\n"
LISTS = {
    "init=[he,max]": ("init", {"he", "max"}),
    "-m init=[he,max]": ("init", {"he", "max"}),
    "-m init=[he,max],xavier": ("init", {"he", "max"}),
    "-m seed=0,1 +init=[he,max]": ("init", {"he", "max"}),
    "arch=[relu_100,tanh_128,relu_98]": ("arch", {"relu_100", "tanh_128", "relu_98"}),
    "experiment=[relu98_full_batch,tanh_mini_batch]": (
        "experiment", {"relu98_full_batch", "tanh_mini_batch"}
    ),
    "init=[he]": ("init", {"he"}),
    "seed=[0,1]": ("seed", {"0", "1"}),
    "-m seed=[0,1],2": ("seed", {"0", "1"}),
    "optimizer.lr=[0.1,0.25]": ("optimizer.lr", {"0.1", "0.25"}),
    "dtype=[float32,float64]": ("dtype", {"float32", "float64"}),
    "arch.activation=[elu,gelu]": ("arch.activation", {"elu", "gelu"}),
    "batching.shuffle=[true,false]": ("batching.shuffle", {"True", "False"}),
    "arch.hidden=[[32],[64,8]]": ("arch.hidden", {"[32]", "[64, 8]"}),
    "arch.hidden=[[32]]": ("arch.hidden", {"[32]"}),
}  # fmt: skip


@pytest.fixture
def swept(monkeypatch):
    """Return the trials that would be trained, and train none."""
    trials = []

    def train(requested, *_, **__):
        trials.extend(requested.trials)
        return Outcome()

    monkeypatch.setattr(api, "train", train)
    return trials


def values(trials, key):
    return {str(trial.params[key]) for trial in trials}


@pytest.mark.parametrize("words", LISTS)
def test_a_list_for_one_value_is_refused_with_a_sweep_over_its_elements(words, invoke, swept):
    key, wanted = LISTS[words]
    ran = invoke("data=digits", *words.split())
    assert (ran.status, ran.out, swept) == (2, "", [])
    to_write = re.search(rf"write (?:-m )?({re.escape(key)}=[^ \n]*[^ \n,;])", ran.err)[1]
    again = invoke(*["-m"] * (len(wanted) > 1), "data=digits", to_write)
    assert again.status == 0, (to_write, again.err)
    assert len(swept) == len(wanted)
    assert values(swept, key) == wanted


LISTS_IN_FILES = {
    "of options in a grid": "hydra: {mode: MULTIRUN, sweeper: {params: {init: [he, max], seed: '0,1'}}}",
    "of values in a grid": "hydra: {mode: MULTIRUN, sweeper: {params: {seed: [0, 1], init: 'he,max'}}}",
    "of lists in a grid": "hydra: {mode: MULTIRUN, sweeper: {params: {arch.hidden: [[32], [64]]}}}",
    "of values": "seed: [0, 1]",
    "of lists": "arch: {hidden: [[32], [64]]}",
    "of options in defaults": "defaults: [config, override init: [he, max], _self_]",
    "of presets in defaults": "defaults: [config, {experiment: [tanh_mini_batch, relu_full_batch]}, _self_]",
    "of options in a preset": "defaults: [config, {experiment: mine}, _self_]",
}
MESSAGES = {
    "options": "must be a single option; for both write -m ",
    "presets": "must be a single option; for both write -m ",
    "values": "write seed=0,1 with -m",
    "lists": "write arch.hidden=[32],[64] with -m",
}


@pytest.mark.parametrize("case", LISTS_IN_FILES)
def test_a_list_for_one_value_in_a_file_is_refused(case, invoke, swept, own_folder):
    text = LISTS_IN_FILES[case]
    (own_folder / "mine.yaml").write_text(text if text.startswith("defaults") else f"{HEAD}{text}\n")
    (own_folder / "experiment").mkdir()
    (own_folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /init: [he, max]]\n"
    )
    ran = invoke("-cd", ".", "-cn", "mine")
    assert (ran.status, ran.out, swept) == (2, "", [])
    assert MESSAGES[case.split()[1]] in ran.err


def test_a_user_defined_group_may_have_several_options(invoke, swept, own_folder):
    """Hydra merges the options in their order. In fnnexp's groups a trial has exactly one option."""
    (own_folder / "step").mkdir()
    (own_folder / "step" / "long.yaml").write_text("# @package _global_\nepochs: 3\nseed: 1\n")
    (own_folder / "step" / "wide.yaml").write_text("# @package _global_\nseed: 2\n")
    (own_folder / "mine.yaml").write_text(
        "defaults: [config, step: [long, wide], override data: digits, _self_]\n"
    )
    assert invoke("-cd", ".", "-cn", "mine").status == 0
    assert [(trial.params["epochs"], trial.params["seed"]) for trial in swept] == [(3, 2)]


# --- defaults, references and removed groups ---

INVALID_REFERENCES = {
    "a reference to itself": ("epochs: ${epochs}", "epochs refers to a value that refers back to it"),
    "two that refer to each other": ("epochs: ${seed}\nseed: ${epochs}", "refers back to it; write a value"),
    "a reference to nothing": ("epochs: ${nix.da}", "epochs refers to 'nix.da', and there is no such key"),
    "a relative one": ("optimizer: {lr: '${.nope}'}", "optimizer.lr refers to 'nope'"),
    "one in a list": ("arch: {hidden: [8, '${nope}']}", "arch.hidden[1] refers to 'nope'"),
    "a list for a list's value": ("arch: {hidden: '${seed}'}", "arch.hidden=0: must be one list"),
    "no value in a list": ("arch: {hidden: [32, null]}", "arch.hidden: its list contains null"),
    "a default that is misspelt": ("defaults: [confg, _self_]", "name 'confg', .* Did you mean 'config'?"),
    "an option as a default": (
        "defaults: [config, inti/he, _self_]", "name 'inti/he', .* Did you mean 'init/he'?"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID_REFERENCES)
def test_an_invalid_reference_in_a_file_is_refused_with_its_key(case, invoke, swept, own_folder):
    text, message = INVALID_REFERENCES[case]
    (own_folder / "mine.yaml").write_text(text if text.startswith("defaults") else f"{HEAD}{text}\n")
    ran = invoke("-cd", ".", "-cn", "mine")
    assert (ran.status, ran.out, swept) == (2, "", [])
    assert len(ran.err.splitlines()) == 1
    assert all(part in ran.err for part in message.split(" .* ")), ran.err


@pytest.mark.parametrize("group", ["arch", "init", "batching", "optimizer", "data"])
def test_removing_a_required_group_is_refused_with_an_option(group, invoke, swept):
    ran = invoke("data=digits", f"~{group}") if group != "data" else invoke("~data")
    assert (ran.status, swept) == (2, [])
    assert f"omit ~{group}, or write another option" in ran.err
    to_write = re.search(rf"as in ({group}=\w+)", ran.err)[1]
    assert invoke("data=digits", to_write, "data=digits").status == 0
    assert len(swept) == 1


def test_null_in_the_list_of_an_override_is_refused_with_its_key(invoke):
    assert "arch.hidden: its list contains null" in invoke("data=digits", "arch.hidden=[32,null]").err


@pytest.mark.parametrize("ending", ["]", ", override data: digits]", ", _self_]"])
def test_values_of_a_file_apply_wherever_its_defaults_list_puts_them(ending, invoke, swept, own_folder):
    (own_folder / "mine.yaml").write_text(f"defaults: [config, override init: he{ending}\nepochs: 3\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ran = invoke("-cd", ".", "-cn", "mine", "data=digits")
        assert (ran.status, ran.err) == (0, "")
        assert invoke("-m", "-cd", ".", "-cn", "mine", "data=digits", "seed=1,2").status == 0
    assert [(trial.recipe.epochs, trial.method) for trial in swept] == [(3, "he")] * 3


# --- a grid that is ignored ---


@pytest.fixture
def own_grid(own_folder):
    """Return ``own_grid(params, name="mine")``, which writes a grid's file that lacks hydra.mode."""

    def write(params, name="mine"):
        (own_folder / f"{name}.yaml").write_text(f"{HEAD}hydra: {{sweeper: {{params: {{{params}}}}}}}\n")
        return ["-cd", ".", "-cn", name]

    return write


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("seed: '0,1'", ""),
        ("seed: '0,1', init: 'he,max,xavier'", ""),
        ("seed: 'range(1,9,2)', init: glob(he*)", ""),
        ("seed: '0,1', init: 'he,max,xavier'", "seed=7 tracking.experiment=${dtype}"),
        ("seed: 5", ""),
        ("optimizer.lr: '${optimizer.lr_for.full},0.25'", ""),
    ],
)
def test_a_grid_without_multirun_runs_one_trial_and_prints_the_size_of_the_grid(
    params, words, invoke, swept, own_grid
):
    command = [*own_grid(params), *words.split()]
    ran = invoke(*command)
    assert (ran.status, len(swept)) == (0, 1), ran.err
    swept.clear()
    assert invoke("-m", *command).status == 0
    note = (
        "ignoring hydra.sweeper.params: running a single trial; "
        "-m, or hydra.mode: MULTIRUN in mine.yaml, runs "
    )
    assert ran.out.splitlines()[0] == f"{note}the grid of {len(swept)}"


@pytest.mark.parametrize("words", ["-m", "seed=3", "--cfg job", "--info searchpath", "-sc query=bash"])
def test_no_note_on_a_grid_is_printed_where_it_runs_or_nothing_runs(
    words, invoke, swept, own_grid, monkeypatch
):
    grid = own_grid("seed: '0,1'")
    monkeypatch.setenv("COMP_LINE", "fnnexp -cd . -cn mine init=h")
    monkeypatch.setenv("COMP_POINT", "28")
    ran = invoke(*(() if "-sc" in words else grid), *words.split())
    assert ran.status == 0, ran.err
    assert "ignoring hydra.sweeper.params" not in ran.out + ran.err


def test_an_invalid_grid_is_refused_without_multirun_too(invoke, swept, own_grid):
    ran = invoke(*own_grid("seed: '0,,1'"))
    assert (ran.status, ran.out, swept) == (2, "", [])
    assert "seed=0,,1: is not an override" in ran.err


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("seed=range[0,3]", "write 'seed=range(0,3)'"),
        ("init=he,", "write the whole list without blanks, as init=A,B"),
        ("arch.hidden=[24,", "write the whole list without blanks, as arch.hidden=[…,…]"),
    ],
)
def test_a_list_split_by_the_shell_and_square_brackets_are_refused_with_what_to_write(word, advice, invoke):
    ran = invoke("-m", word, "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, "")
    assert advice in ran.err


@pytest.mark.parametrize(
    "uri", ["sqlite:///~/x.db", "sqlite:///a.db?timeout=5", "sqlite:///it's here.db", "~me/x"]
)
def test_a_value_outside_of_hydras_grammar_is_refused_with_its_quoted_form(uri, invoke):
    ran = invoke(f"tracking.uri={uri}", "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, "")
    (word,) = shlex.split(ran.err.partition("; write ")[2])
    ((key, value),) = [
        (override.key_or_group, override.value())
        for override in OverridesParser.create().parse_overrides([word])
    ]
    assert (key, str(getattr(value, "text", value))) == ("tracking.uri", uri)


def test_a_grid_named_with_its_file_extension_is_the_same_experiment(invoke, store, own_grid):
    grid = own_grid("init: 'he,max'", "good")
    assert invoke("-m", *grid, *DIGITS).status == 0
    ran = invoke("-m", "-cd", ".", "-cn", "good.yaml", *DIGITS, "dry_run=true")
    assert "good: 2 trials, 2 done, 0 to run" in ran.out
    assert "digits: 1 trial," in invoke("-cn", "config.yaml", *DIGITS, "dry_run=true").out


# --- configs of users ---


def test_a_config_folder_adds_options_and_sweeps(invoke, own_folder):
    mine = own_folder / "mine"
    (mine / "arch").mkdir(parents=True)
    (mine / "arch" / "deep.yaml").write_text("hidden: [50, 40, 30]\nactivation: tanh\n")
    (mine / "my_grid.yaml").write_text(
        "defaults: [config, override arch: deep, override data: digits, _self_]\n"
        "epochs: 2\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {init: 'he,max', seed: 'range(3)'}}}\n"
    )
    ran = invoke("-cd", "mine", "-cn", "my_grid", "dry_run=true")
    assert ran.status == 0, ran.err
    assert "my_grid: 6 trials" in ran.out
    assert "784-50-40-30-10 tanh" in ran.out
    beside = invoke("-cd", "mine", "-cn", "card_grid", "arch=deep,relu_98", "data=digits", "dry_run=true")
    assert "card_grid: 24 trials" in beside.out
    misspelt = invoke("-cd", "mine", "arch=deeep")
    assert misspelt.status == 2
    assert "deep, relu_100" in misspelt.err


def test_a_config_without_fnnexps_defaults_is_refused(invoke, own_folder):
    (own_folder / "bare.yaml").write_text("arch: {hidden: [5]}\n")
    ran = invoke("-cd", ".", "-cn", "bare")
    assert ran.status == 2
    assert "Traceback" not in ran.err
    assert not {"mlflow.db", ".fnnexp"} & set(file_names(own_folder))


# --- report, gradcheck ---


def test_an_unknown_experiment_is_refused_with_a_suggestion(invoke, store):
    assert invoke(*DIGITS).status == 0
    ran = invoke("report", "digitss")
    assert ran.status == 2
    assert "'digitss'" in ran.err
    assert "Did you mean 'digits'?" in ran.err


def test_report_without_a_name_lists_the_experiments_most_recent_first(
    invoke, store, own_folder, monkeypatch
):
    small = ["-m", "data=digits", "epochs=0", "execution.n_jobs=1"]
    assert invoke(*small, "seed=0,1,2", "tracking.experiment=first").status == 0
    assert invoke(*small, "seed=0,1", "tracking.experiment=second").status == 0
    client = MlflowClient(store)
    first = client.get_experiment_by_name("first").experiment_id
    for run, status in zip(client.search_runs([first]), ("running", "pruned"), strict=False):
        client.set_tag(run.info.run_id, "fnnexp.status", status)
    with_map(client, first)
    with_map(client, client.create_experiment("mapped"))
    before = file_names(own_folder)
    monkeypatch.setattr("fnnexp.tracking.store.client", None)  # a SQLite file is read without MLflow
    ran = invoke("report")
    assert (ran.status, ran.err) == (0, "")
    head, *rows = (re.split("  +", line.strip()) for line in ran.out.splitlines())
    rows, commands = rows[:3], [" ".join(line) for line in rows[3:]]
    assert head == ["experiment", "content", "last run", "data"]
    assert {row[0]: row[1] for row in rows} == {
        "mapped": "1 map; 1 range test",
        "first": "3 trials: 1 done, 1 pruned, 1 unfinished; 1 map; 1 range test",
        "second": "2 trials: all done",
    }
    assert [row[0] for row in rows] == ["mapped", "first", "second"]
    ages = [datetime.now() - datetime.fromisoformat(row[2]) for row in rows]
    assert max(ages) < timedelta(hours=1)
    assert commands == [
        "report on the first with trials: fnnexp report first",
        "draw the newest map of mapped: fnnexp.plot_map(fnnexp.read_map('mapped'))",
        "pictures of maps and range tests: reports/EXPERIMENT, or fnnexp ui",
    ]
    assert file_names(own_folder) == before
    listed = fnnexp.experiments().set_index("name")
    assert listed.columns.tolist() == ["trials", "done", "pruned", "maps", "range_tests", "changed", "data"]
    assert listed.loc["first", :"range_tests"].tolist() == [3, 1, 1, 1, 1]
    assert listed.loc["mapped", :"range_tests"].tolist() == [0, 0, 0, 1, 1]


def with_map(client, experiment_id):
    """Add the runs of a map, of a map that failed and of a range test to an experiment."""
    for tag, status in (("map", "FINISHED"), ("map", "FAILED"), ("range_test", "FINISHED")):
        run = client.create_run(experiment_id, tags={f"fnnexp.{tag}": f"hash of {status}"})
        client.set_terminated(run.info.run_id, status)


@pytest.mark.usefixtures("blank_figures")
def test_the_list_of_experiments_is_the_same_through_mlflows_client(invoke, store, own_folder):
    assert invoke("-m", *DIGITS, "seed=0,1", "tracking.experiment=swept").status == 0
    assert invoke("report", "swept").status == 0  # its run of the report is not a trial
    client = MlflowClient(store)
    client.create_run(client.create_experiment("without trials"))
    client.delete_experiment(client.create_experiment("deleted"))
    swept = client.get_experiment_by_name("swept").experiment_id
    client.set_tag(
        client.search_runs([swept], "tags.`fnnexp.trial` LIKE '%'")[0].info.run_id, "fnnexp.status", "pruned"
    )
    with_map(client, client.create_experiment("mapped"))
    listed = reader.experiment_summaries(None)
    assert [(*each[:6], each.data) for each in listed] == [
        ("mapped", 0, 0, 0, 1, 1, ""),
        ("swept", 2, 1, 1, 0, 0, "digits"),
    ]
    assert reader._summaries_by_client(client) == listed


def test_the_report_lists_the_experiments_of_the_given_store(invoke, empty_store, own_folder):
    uri = empty_store(own_folder / "else where")
    assert invoke(*DIGITS, "tracking.experiment=there", f"tracking.uri={quoted(uri)}").status == 0
    ran = invoke("report", "--uri", uri)
    assert ran.status == 0
    command = ran.out.splitlines()[-1].partition(": ")[2]
    assert shlex.split(command) == ["fnnexp", "report", "there", "--uri", uri]


@pytest.mark.long
def test_a_command_leaves_the_store_whole_in_its_file(own_folder):
    for words in ([*DIGITS, "tracking.experiment=a"], ["report", "a"]):
        assert python("-m", "fnnexp", *words, env=os.environ | {"MLFLOW_TRACKING_URI": ""}).returncode == 0
        assert not list(own_folder.glob("mlflow.db-*"))


def test_a_store_without_trials_is_refused_with_a_sweep_to_run(invoke, store, own_folder):
    ran = invoke("report")
    assert (ran.status, ran.out) == (2, "")
    assert "no sweep has been recorded in sqlite:///" in ran.err
    assert "write fnnexp -cn card_grid to run one" in ran.err
    assert file_names(own_folder) == ["mlflow.db"]


def test_an_experiment_of_ten_thousand_runs_is_listed(invoke, store, own_folder):
    assert invoke(*DIGITS).status == 0
    copy_run(own_folder, 10_000)
    assert "10,001 trials: all done" in invoke("report").out


def test_long_lists_of_experiments_are_cut(invoke, store, monkeypatch):
    summaries = [reader.ExperimentSummary(f"[e]{i}", 1, 1, 0, 0, 0, 10**6 * i, "digits") for i in range(50)]
    monkeypatch.setattr(reader, "experiment_summaries", lambda uri: summaries)
    lines = invoke("report").out.splitlines()
    assert lines[1].startswith("[e]0 ")
    assert lines[-2:] == ["… and 10 more", "report on the first: fnnexp report '[e]0'"]


@pytest.mark.parametrize(
    "words",
    [
        "e init=he --folder out",
        "--folder out e init=he",
        "e --folder out init=he",
        "--folder out -- e init=he",
    ],
)
@pytest.mark.usefixtures("blank_figures")
def test_the_options_of_a_report_may_stand_anywhere(words, invoke, store, own_folder):
    assert invoke("-m", *DIGITS, "init=he,max", "tracking.experiment=e").status == 0
    assert invoke("report", *words.split()).status == 0
    assert "1 trial " in (own_folder / "out" / "report.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["-x", "[red]'s <x>;y $(z)"])
@pytest.mark.usefixtures("blank_figures")
def test_printed_commands_can_be_pasted(name, invoke, store, own_folder):
    grid = ["data=digits", "epochs=1", "arch.hidden=[4]", "init=he,max", "batching=full,mini", "seed=0,1"]
    ran = invoke("-m", *grid, "execution.n_jobs=1", f"tracking.experiment={quoted(name)}")
    assert ran.status == 0, ran.err
    commands = [line.partition("compare them: ")[2] for line in ran.out.splitlines()]
    (command,) = filter(None, commands)
    program, *words = shlex.split(command)
    assert program == "fnnexp"
    assert invoke(*words).status == 0
    listed = invoke("report").out.splitlines()[-1]
    assert shlex.split(listed.partition(": ")[2]) == [program, *words]
    (whole,) = (own_folder / "reports").iterdir()
    (again,) = re.findall("^    (fnnexp report .*)", (whole / "report.md").read_text("utf-8"), re.MULTILINE)
    words = shlex.split(again)
    assert words[-1] == name
    assert invoke(*words[1:]).status == 0


@pytest.mark.parametrize("folder", ["", "  "])
def test_a_blank_folder_for_a_report_is_refused(folder, invoke, store, own_folder):
    before = sorted(own_folder.iterdir())
    ran = invoke("report", "Default", "--folder", folder)
    assert (ran.status, ran.out) == (2, "")
    assert "must be a path" in ran.err
    assert sorted(own_folder.iterdir()) == before


def test_gradcheck_of_a_correct_gradient_passes(invoke):
    ran = invoke("gradcheck", "tanh")
    assert (ran.status, ran.err) == (0, "")
    assert "ok" in ran.out


def test_gradcheck_of_the_published_derivative_fails(invoke):
    from fnnexp.nn.testing.gradcheck import KNOWN_WRONG

    for name in KNOWN_WRONG:
        ran = invoke("gradcheck", name)
        assert ran.status == 1
        assert "FAILED" in ran.out


# --- ui ---


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind((ui.HOST, 0))
        return probe.getsockname()[1]


def test_ui_starts_mlflows_server_on_loopback(invoke, store, port, started):
    ran = invoke("ui", "--port", str(port))
    assert ran.status == 7
    (command,) = started
    where = ["--host", "127.0.0.1", "--port", str(port)]
    shown = ["--workers", "1", "--backend-store-uri", store]
    assert command == [sys.executable, "-m", "mlflow", "ui", *where, *shown]
    assert f"http://127.0.0.1:{port}" in ran.out


def test_ui_links_to_the_experiments_most_recent_first(invoke, store, port, started):
    client = MlflowClient(store)
    for start, name in enumerate(["first", "second", "empty"]):
        experiment = client.create_experiment(name)
        if name != "empty":
            client.create_run(experiment, start_time=start + 1)
    links = invoke("ui", "--port", str(port)).out.splitlines()[1:]
    assert [link.split(":")[0] for link in links] == ["  second", "  first"]
    assert f"http://127.0.0.1:{port}/#/experiments/2/runs?" in links[0]


@pytest.mark.parametrize("source", ["--uri", "MLFLOW_TRACKING_URI"])
def test_ui_shows_the_store_of_the_option_or_the_variable(
    source, invoke, empty_store, own_folder, port, started, monkeypatch
):
    uri = empty_store(own_folder / "elsewhere")
    words = ["--uri", uri] if source == "--uri" else []
    if not words:
        monkeypatch.setenv(source, uri)
    assert invoke("ui", "--port", str(port), *words).status == 7
    assert started[0][-2:] == ["--backend-store-uri", uri]


def test_ui_refuses_a_port_in_use(invoke, store, started):
    with socket.socket() as taken:
        taken.bind((ui.HOST, 0))
        taken.listen()
        number = taken.getsockname()[1]
        ran = invoke("ui", "--port", str(number))
    assert ran.status == 2
    assert f"port {number} is taken; write --port {number + 1}" in ran.err
    assert started == []


@pytest.mark.parametrize("number", ["0", "-1", "65536"])
def test_ui_refuses_an_invalid_port(number, invoke, store, started):
    ran = invoke("ui", "--port", number)
    assert ran.status == 2
    assert "1 to 65535" in ran.err
    assert started == []


def test_ui_of_a_server_is_refused_with_its_address(invoke, started):
    ran = invoke("ui", "--uri", "http://127.0.0.1:1")
    assert ran.status == 2
    assert "open http://127.0.0.1:1" in ran.err
    assert started == []


@pytest.mark.long
def test_sigterm_ends_ui_and_its_server(store, port):
    """tests/test_environments.py stops it by Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fnnexp.cli", "ui", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert _page(f"http://127.0.0.1:{port}/", process) == 200
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
        with socket.socket() as probe:
            assert probe.connect_ex((ui.HOST, port)) != 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def _page(url, process, seconds=60):
    """Return the status of a page as soon as the server answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            with opener.open(url, timeout=5) as answer:
                return answer.status
        except OSError:
            time.sleep(0.1)
    raise AssertionError("no answer")


def test_the_installed_command_has_the_version_of_the_package():
    command = shutil.which("fnnexp", path=os.path.dirname(sys.executable))  # noqa: PTH120
    if command is None:
        pytest.skip("fnnexp is not installed beside this Python")
    ran = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == f"fnnexp {fnnexp.__version__}\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes break differently on other systems")
@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job", "data=digits"]])
def test_a_closed_pipe_prints_no_error(words):
    reads, writes = os.pipe()
    os.close(reads)
    ran = subprocess.run(
        [sys.executable, "-m", "fnnexp", *words],
        stdout=writes,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    os.close(writes)
    assert (ran.returncode, ran.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_an_output_that_cannot_be_written_is_an_error(words, monkeypatch, capfd):
    with contextlib.suppress(OSError), Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(words) == 1
    assert capfd.readouterr().err == "fnnexp: the output can't be written: No space left on device\n"


def test_a_warning_raised_as_an_error_prints_one_line(invoke, monkeypatch):
    def warn(*_):
        raise DeprecationWarning("old")

    monkeypatch.setattr("fnnexp.cli._train", warn)
    ran = invoke("data=digits")
    assert (ran.status, ran.err) == (1, "fnnexp: a warning was raised as an error: DeprecationWarning: old\n")
