"""The command line: what it says, what it refuses, and that a refusal leaves nothing behind."""

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

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from mlflow import MlflowClient

import fnnexp
from fnnexp import api, cli
from fnnexp.cli import COMMANDS
from fnnexp.config.commands import quoted
from fnnexp.config.schema import conf_folder, sweeps_folder
from fnnexp.data import datasets as data
from fnnexp.data import download
from fnnexp.reporting.sections import overview
from fnnexp.sweeping.loop import Outcome
from fnnexp.tracking import ui

OPTIONS = {
    group.name: sorted(file.stem for file in group.glob("*.yaml"))
    for group in conf_folder().iterdir()
    if group.is_dir()
}
DIGITS = ["data=digits", "epochs=1", "execution.n_jobs=1"]


def python(*words, **more):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, **more)


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


# --- help ---


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_names_every_command_group_and_option(word, invoke):
    ran = invoke(word)
    assert (ran.status, ran.err) == (0, "")
    words = set(re.findall(r"[\w.]+", ran.out))
    assert [f"fnnexp {name}" for name in COMMANDS if f"fnnexp {name}" not in ran.out] == []
    lonely = {"execution", "tracking"}
    for group in set(OPTIONS) - lonely:
        assert {group, *OPTIONS[group]} <= words, group
    assert {f"execution.{key}" for key in ("n_jobs", "backend", "max_lanes", "segment_seconds")} <= words
    assert {"tracking.experiment", "tracking.uri", "dry_run", "epochs", "seed", "dtype"} <= words


def test_help_shows_each_thing_with_an_example(invoke):
    examples = re.findall(r"^  (fnnexp.*?)(?:  .*)?$", invoke("--help").out, re.MULTILINE)
    assert len(examples) >= 11
    assert any(" -m " in one for one in examples)
    assert any(" -cn card_grid" in one for one in examples)


def test_the_examples_of_help_are_taken(invoke, monkeypatch):
    """Each example that trains is planned instead, on made-up data."""
    monkeypatch.setattr(data, "prepare", lambda *_: prepared)
    prepared = data.Prepared("digits", "nowhere", "a" * 64, 60000, 10000, 784, 10)
    examples = re.findall(r"^  fnnexp(.*?)(?:   .*)?$", invoke("--help").out, re.MULTILINE)
    planned = [one.replace("'", "").split() for one in examples if one.split()[:1] != []]
    planned = [words for words in planned if words[0] not in COMMANDS]
    assert len(planned) >= 6
    for words in planned:
        ran = invoke(*words, "dry_run=true")
        assert ran.status == 0, (words, ran.err)
        assert "to run" in ran.out


def test_help_and_version_are_shown_wherever_they_stand(invoke):
    assert invoke("data=digits", "--help").out == invoke("--help").out
    assert invoke("data=digits", "--version").out == f"fnnexp {fnnexp.__version__}\n"


def test_the_grid_of_the_command_line_itself_runs(invoke, swept):
    assert invoke("data=digits", "-m", "+hydra.sweeper.params.seed='1,2'").status == 0
    assert len(swept) == 2


def test_help_is_fast_because_it_imports_nothing_heavy():
    heavy = "hydra numpy mlflow pandas joblib rich omegaconf sklearn scipy matplotlib"
    code = (
        "import sys; from fnnexp.cli import main; status = main(['--help']); "
        f"print(status, [name for name in {heavy.split()} if name in sys.modules], file=sys.stderr)"
    )
    assert python("-c", code).stderr.strip() == "0 []"


def test_the_version_is_the_packages(invoke):
    ran = invoke("--version")
    assert (ran.status, ran.out) == (0, f"fnnexp {fnnexp.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_own_help(command, invoke):
    ran = invoke(command, "--help")
    assert ran.status == 0
    assert f"usage: fnnexp {command}" in ran.out


def test_the_command_line_is_installed_as_a_module_too():
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
    "trian": ["no command 'trian'", "report, reproduce, gradcheck, ui", "--help"],
    "reprot card_grid": ["no command 'reprot'", "Did you mean 'report'?"],
    "optimizer.lrr=0.1": ["optimizer.lrr", "optimizer.lr,", "Did you mean 'optimizer.lr'?"],
    "arch.hidden=5": ["arch.hidden=5", "a list", "arch.hidden=[5]"],
    "epochs=null": ["epochs=null", "a value"],
    "+depth=3": ["depth", "no such key"],
    "dry_run=maybe": ["dry_run=maybe", "true or false"],
    "diagnostics=maybe": ["diagnostics=maybe", "true or false"],
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
    "report": ["usage: fnnexp report", "required: experiment\n"],
    "report card_grid": ["MLflow store"],
    "report card_grid demo": ["'demo': one experiment is reported at a time", "arch=tanh_128"],
    "report card_grid seed=0 seed=1": ["seed is given twice, as 0 and 1", "fnnexp report card_grid seed=0,1"],
    "gradcheck nonsense": ["nonsense", "tanh"],
    "ui": ["no sweep has been recorded here"],
    "ui --port many": ["--port", "many"],
    "--multirun=3": ["--multirun", "3"],
    "--nonsense": ["--nonsense"],
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_clear_message_and_leaves_nothing_behind(words, invoke, own_folder, monkeypatch):
    monkeypatch.delenv("FNNEXP_MNIST", raising=False)
    monkeypatch.setattr(download, "MNIST_MIRRORS", ())
    ran = invoke(*words.split())
    assert ran.status == 2, ran
    assert [part for part in BAD[words] if part not in ran.err] == [], ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert len(re.findall(r"^fnnexp.*?: ", ran.err, re.MULTILINE)) == 1
    assert left_behind(own_folder) == []


def test_bad_input_has_the_same_end_in_a_process_of_its_own(own_folder):
    ran = python("-m", "fnnexp.cli", "arch=relu_10O")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("fnnexp: arch=relu_10O: must be one of relu_100")
    assert len(ran.stderr.splitlines()) == 1
    assert left_behind(own_folder) == []


def test_bad_input_among_good_jobs_trains_none_of_them(invoke, own_folder):
    ran = invoke("-m", *DIGITS, "batching.size=64,0")
    assert ran.status == 2
    assert "batching.size=0" in ran.err
    assert left_behind(own_folder) == []


def test_absent_mnist_names_the_ways_out(invoke, own_folder, monkeypatch):
    monkeypatch.delenv("FNNEXP_MNIST", raising=False)
    monkeypatch.setenv("FNNEXP_CACHE", str(own_folder / "cache"))
    monkeypatch.setattr(download, "MNIST_MIRRORS", ())
    ran = invoke()
    assert ran.status == 2
    for way in ("data.path=", "FNNEXP_MNIST=", "data=digits"):
        assert way in ran.err


def test_who_asks_hydra_for_traces_gets_them():
    ran = python("-m", "fnnexp.cli", "arch=relu_10O", env=os.environ | {"HYDRA_FULL_ERROR": "1"})
    assert ran.returncode != 0
    assert "Traceback" in ran.stderr


def test_a_cache_that_cannot_be_written_is_told_in_one_line_and_the_trial_goes_on(
    invoke, swept, own_folder, monkeypatch
):
    (own_folder / "file").write_text("in the way")
    monkeypatch.setenv("FNNEXP_CACHE", str(own_folder / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(own_folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ran = invoke(*DIGITS)
    assert (ran.status, len(swept)) == (0, 1)
    (line,) = ran.err.splitlines()
    assert re.match(r"fnnexp: the cache .*/file/cache cannot be written \(", line)


# --- Hydra's own ---


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
def test_overrides_and_flags_come_in_any_order(words, ordered, own_folder):
    (own_folder / "here").mkdir()
    assert str(cli._asked(cli._parser().parse_intermixed_args(words.split()))) == ordered


def test_cfg_job_shows_the_composed_config(invoke, own_folder):
    ran = invoke("init=normal", "init.std=0.3", "--cfg", "job", "epochs=7")
    assert ran.status == 0, ran.err
    assert "method: normal\n  std: 0.3\n" in ran.out
    assert "epochs: 7\n" in ran.out
    assert left_behind(own_folder) == []


def test_info_shows_where_configs_come_from(invoke, own_folder):
    ran = invoke("--info", "searchpath")
    assert ran.status == 0, ran.err
    assert conf_folder().as_posix() in ran.out
    assert sweeps_folder().as_posix() in ran.out
    assert left_behind(own_folder) == []


def test_completion_prints_a_script(invoke, own_folder):
    ran = invoke("-sc", "install=bash")
    assert ran.status == 0, ran.err
    assert "hydra_bash_completion" in ran.out
    assert left_behind(own_folder) == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("init=he", {"init=he", "init=he2", "init=he_normal"}),
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


def test_a_dry_run_shows_trials_stacks_and_coincidences_and_makes_no_file(invoke, own_folder):
    ran = invoke("dry_run=true", "-cn", "card_grid", "data=digits", "epochs=3")
    assert ran.status == 0, ran.err
    assert "card_grid: 36 trials, 0 done, 36 to run" in ran.out
    assert len(re.findall(r"^\S+-s0\S* +[0-9a-f]{16}  3 +to run", ran.out, re.MULTILINE)) == 36
    assert "numerically identical: 9 trials coincide with another (sqrtmax = xavier)" in ran.out
    assert re.search(r"^27 lanes in \d+ stacks on \d+ workers \(loky\)", ran.out, re.MULTILINE)
    assert left_behind(own_folder) == []


NONE_HELD_OUT = "chosen by the test images, which is optimistic"


@pytest.mark.parametrize("words", ["", "-m seed=0,1", "-cn init_grid seed=0"])
def test_who_says_nothing_gets_validation_rows_and_who_says_none_is_told_once(words, invoke, store):
    plain = invoke(*words.split(), "data=digits", "dry_run=true")
    assert (plain.status, NONE_HELD_OUT in plain.out) == (0, False)
    none = invoke(*words.split(), "data=digits", "data.validation=0", "dry_run=true")
    n = len(re.findall(r"to run$", none.out, re.MULTILINE)) - 1  # the first line counts them
    assert n == {"": 1, "-m seed=0,1": 2, "-cn init_grid seed=0": 8}[words]
    (told,) = (line for line in none.out.splitlines() if NONE_HELD_OUT in line)
    assert none.out.startswith(f"data.validation=0 in {n} of {n} trials: they train on all rows")
    assert "data.validation=237 holds out rows of digits to choose by" in told
    ids = [set(re.findall(r"\b[0-9a-f]{16}\b", ran.out)) for ran in (plain, none)]
    assert len(ids[0]) == len(ids[1]) == n
    assert not ids[0] & ids[1]


def test_what_is_held_out_is_on_the_run_and_what_the_ranking_stands_on(invoke, store):
    """Trials that hold out rows stack as before, and beside those that hold out none are ranked by test."""
    assert invoke("-m", "init=he,max", "seed=0,1", *DIGITS).status == 0
    runs = fnnexp.runs("digits")
    assert set(runs["data.validation"]) == {237}
    assert overview.basis(runs).startswith("Ranked by val_accuracy, on rows held out of training")
    plan = invoke("-m", "init=he,max", "seed=2,3", *DIGITS, "dry_run=true").out
    assert "4 lanes in 1 stacks" in plan
    ran = invoke("-m", "init=he,max", "data.validation=0", *DIGITS)
    assert ran.out.index(NONE_HELD_OUT) < ran.out.index("trials finished")
    both = overview.basis(fnnexp.runs("digits"))
    assert both.startswith("Ranked by test_accuracy, because not all trials held out validation rows")


def test_a_published_experiment_is_as_published_and_needs_no_word(invoke, store):
    ran = invoke("experiment=relu_full_batch", "data=digits", "dry_run=true")
    assert (ran.status, NONE_HELD_OUT in ran.out) == (0, False)


def test_a_dry_run_of_many_trials_shows_the_first_and_counts_the_others(invoke, own_folder):
    ran = invoke("-cn", "demo", "dry_run=true")
    assert "demo: 108 trials, 0 done, 108 to run" in ran.out
    assert "… and 68 more" in ran.out


def test_a_dry_run_knows_what_is_done(invoke, store, own_folder):
    grid = ["-m", *DIGITS, "init=he,max"]
    assert invoke(*grid).status == 0
    before = {path: path.stat().st_mtime_ns for path in own_folder.rglob("*")}
    ran = invoke(*grid, "seed=0,1", "dry_run=true")
    assert "digits: 4 trials, 2 done, 2 to run" in ran.out
    assert len(re.findall(r" done *$", ran.out, re.MULTILINE)) == 2
    assert "2 lanes in" in ran.out
    assert {path: path.stat().st_mtime_ns for path in own_folder.rglob("*")} == before


# --- lists where one is wanted ---

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
    "batching.shuffle=[true,false]": ("batching.shuffle", {"True", "False"}),
    "arch.hidden=[[32],[64,8]]": ("arch.hidden", {"[32]", "[64, 8]"}),
    "arch.hidden=[[32]]": ("arch.hidden", {"[32]"}),
}  # fmt: skip


@pytest.fixture
def swept(monkeypatch):
    """Collect the trials that would be trained, and train none."""
    trials = []

    def train(asked, *_, **__):
        trials.extend(asked.trials)
        return Outcome()

    monkeypatch.setattr(api, "train", train)
    return trials


def values(trials, key):
    return {str(trial.params[key]) for trial in trials}


@pytest.mark.parametrize("words", LISTS)
def test_a_list_for_one_value_is_refused_and_what_is_to_be_written_makes_a_trial_of_each(
    words, invoke, swept
):
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
SAID = {
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
    assert SAID[case.split()[1]] in ran.err


def test_a_group_of_ones_own_may_have_several_options(invoke, swept, own_folder):
    """Hydra merges them in their order; of our groups a trial has one option, and its name says which."""
    (own_folder / "step").mkdir()
    (own_folder / "step" / "long.yaml").write_text("# @package _global_\nepochs: 3\nseed: 1\n")
    (own_folder / "step" / "wide.yaml").write_text("# @package _global_\nseed: 2\n")
    (own_folder / "mine.yaml").write_text(
        "defaults: [config, step: [long, wide], override data: digits, _self_]\n"
    )
    assert invoke("-cd", ".", "-cn", "mine").status == 0
    assert [(trial.params["epochs"], trial.params["seed"]) for trial in swept] == [(3, 2)]


# --- defaults, references and what is taken away ---

ODD = {
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


@pytest.mark.parametrize("case", ODD)
def test_what_leads_nowhere_in_a_file_is_are_among_its_key(case, invoke, swept, own_folder):
    text, said = ODD[case]
    (own_folder / "mine.yaml").write_text(text if text.startswith("defaults") else f"{HEAD}{text}\n")
    ran = invoke("-cd", ".", "-cn", "mine")
    assert (ran.status, ran.out, swept) == (2, "", [])
    assert len(ran.err.splitlines()) == 1
    assert all(part in ran.err for part in said.split(" .* ")), ran.err


@pytest.mark.parametrize("group", ["arch", "init", "batching", "optimizer", "data"])
def test_a_group_that_no_trial_can_lack_is_told_with_an_option_to_write(group, invoke, swept):
    ran = invoke("data=digits", f"~{group}") if group != "data" else invoke("~data")
    assert (ran.status, swept) == (2, [])
    assert f"omit ~{group}, or write another option" in ran.err
    to_write = re.search(rf"as in ({group}=\w+)", ran.err)[1]
    assert invoke("data=digits", to_write, "data=digits").status == 0
    assert len(swept) == 1


def test_null_in_the_list_of_an_override_is_are_among_its_key(invoke):
    assert "arch.hidden: its list contains null" in invoke("data=digits", "arch.hidden=[32,null]").err


@pytest.mark.parametrize("ending", ["]", ", override data: digits]", ", _self_]"])
def test_a_files_own_values_count_wherever_its_defaults_list_leaves_them(ending, invoke, swept, own_folder):
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
def test_a_trial_that_is_run_instead_of_a_grid_is_told_with_what_the_grid_would_be(
    params, words, invoke, swept, own_grid
):
    command = [*own_grid(params), *words.split()]
    ran = invoke(*command)
    assert (ran.status, len(swept)) == (0, 1), ran.err
    swept.clear()
    assert invoke("-m", *command).status == 0
    told = "ignoring hydra.sweeper.params: running a single trial; -m, or hydra.mode: MULTIRUN in mine.yaml, "
    assert ran.out.splitlines()[0] == f"{told}runs the grid of {len(swept)}"


@pytest.mark.parametrize("words", ["-m", "seed=3", "--cfg job", "--info searchpath", "-sc query=bash"])
def test_nothing_is_said_of_a_grid_that_runs_or_that_nothing_is_run_instead_of(
    words, invoke, swept, own_grid, monkeypatch
):
    grid = own_grid("seed: '0,1'")
    monkeypatch.setenv("COMP_LINE", "fnnexp -cd . -cn mine init=h")
    monkeypatch.setenv("COMP_POINT", "28")
    ran = invoke(*(() if "-sc" in words else grid), *words.split())
    assert ran.status == 0, ran.err
    assert "ignoring hydra.sweeper.params" not in ran.out + ran.err


def test_a_grid_that_is_passed_over_and_is_none_is_refused(invoke, swept, own_grid):
    ran = invoke(*own_grid("seed: '0,,1'"))
    assert (ran.status, ran.out, swept) == (2, "", [])
    assert "seed=0,,1: is not an override" in ran.err


@pytest.mark.parametrize(
    "uri", ["sqlite:///~/x.db", "sqlite:///a.db?timeout=5", "sqlite:///it's here.db", "~me/x"]
)
def test_a_value_that_hydra_can_not_read_is_written_as_it_can(uri, invoke):
    ran = invoke(f"tracking.uri={uri}", "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, "")
    (word,) = shlex.split(ran.err.partition("; write ")[2])
    ((key, value),) = [
        (each.key_or_group, each.value()) for each in OverridesParser.create().parse_overrides([word])
    ]
    assert (key, str(getattr(value, "text", value))) == ("tracking.uri", uri)


def test_a_grid_named_with_its_extension_is_the_same_experiment(invoke, store, own_grid):
    grid = own_grid("init: 'he,max'", "good")
    assert invoke("-m", *grid, *DIGITS).status == 0
    ran = invoke("-m", "-cd", ".", "-cn", "good.yaml", *DIGITS, "dry_run=true")
    assert "good: 2 trials, 2 done, 0 to run" in ran.out
    assert "digits: 1 trials" in invoke("-cn", "config.yaml", *DIGITS, "dry_run=true").out


# --- a user's own configs ---


def test_a_users_own_folder_adds_options_and_sweeps(invoke, own_folder):
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


def test_a_users_config_without_our_defaults_is_told_to_start_with_them(invoke, own_folder):
    (own_folder / "bare.yaml").write_text("arch: {hidden: [5]}\n")
    ran = invoke("-cd", ".", "-cn", "bare")
    assert ran.status == 2
    assert "Traceback" not in ran.err
    assert not {"mlflow.db", ".fnnexp"} & set(left_behind(own_folder))


# --- report, gradcheck ---


def test_a_report_on_an_unknown_experiment_names_those_there_are(invoke, store):
    assert invoke(*DIGITS).status == 0
    ran = invoke("report", "digitss")
    assert ran.status == 2
    assert "'digitss'" in ran.err
    assert "Did you mean 'digits'?" in ran.err


@pytest.mark.parametrize("name", ["-x", "[red]'s <x>;y $(z)"])
def test_the_commands_that_are_printed_can_be_pasted(name, invoke, store, own_folder):
    grid = ["data=digits", "epochs=1", "arch.hidden=[4]", "init=he,max", "batching=full,mini", "seed=0,1"]
    ran = invoke("-m", *grid, "execution.n_jobs=1", f"tracking.experiment={quoted(name)}")
    assert ran.status == 0, ran.err
    commands = [line.partition("compare them: ")[2] for line in ran.out.splitlines()]
    (command,) = filter(None, commands)
    start, *words = shlex.split(command)
    assert start == "fnnexp"
    assert invoke(*words).status == 0
    (whole,) = (own_folder / "reports").iterdir()
    (again,) = re.findall("^    (fnnexp report .*)", (whole / "report.md").read_text("utf-8"), re.MULTILINE)
    words = shlex.split(again)
    assert words[-1] == name
    assert invoke(*words[1:]).status == 0


@pytest.mark.parametrize("folder", ["", "  "])
def test_a_report_into_a_folder_without_a_name_is_refused(folder, invoke, store, own_folder):
    before = sorted(own_folder.iterdir())
    ran = invoke("report", "Default", "--folder", folder)
    assert (ran.status, ran.out) == (2, "")
    assert "is no name; name one" in ran.err
    assert sorted(own_folder.iterdir()) == before


def test_gradcheck_is_0_when_only_what_is_known_to_be_wrong_fails(invoke):
    ran = invoke("gradcheck", "tanh")
    assert (ran.status, ran.err) == (0, "")
    assert "ok" in ran.out


def test_gradcheck_of_the_published_derivative_fails_by_name(invoke):
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


def test_ui_is_mlflows_on_loopback(invoke, store, port, started):
    ran = invoke("ui", "--port", str(port))
    assert ran.status == 7
    (command,) = started
    where = ["--host", "127.0.0.1", "--port", str(port)]
    shown = ["--workers", "1", "--backend-store-uri", store]
    assert command == [sys.executable, "-m", "mlflow", "ui", *where, *shown]
    assert f"http://127.0.0.1:{port}" in ran.out


def test_ui_says_where_each_experiment_is_the_last_that_ran_first(invoke, store, port, started):
    client = MlflowClient(store)
    for start, name in enumerate(["first", "second", "empty"]):
        experiment = client.create_experiment(name)
        if name != "empty":
            client.create_run(experiment, start_time=start + 1)
    said = invoke("ui", "--port", str(port)).out.splitlines()[1:]
    assert [line.split(":")[0] for line in said] == ["  second", "  first"]
    assert f"http://127.0.0.1:{port}/#/experiments/2/runs?" in said[0]


@pytest.mark.parametrize("how", ["--uri", "MLFLOW_TRACKING_URI"])
def test_ui_shows_the_store_that_is_named(how, invoke, empty_store, own_folder, port, started, monkeypatch):
    uri = empty_store(own_folder / "elsewhere")
    words = ["--uri", uri] if how == "--uri" else []
    if not words:
        monkeypatch.setenv(how, uri)
    assert invoke("ui", "--port", str(port), *words).status == 7
    assert started[0][-2:] == ["--backend-store-uri", uri]


def test_ui_refuses_a_taken_port(invoke, store, started):
    with socket.socket() as taken:
        taken.bind((ui.HOST, 0))
        taken.listen()
        number = taken.getsockname()[1]
        ran = invoke("ui", "--port", str(number))
    assert ran.status == 2
    assert f"port {number} is taken; write --port {number + 1}" in ran.err
    assert started == []


@pytest.mark.parametrize("number", ["0", "-1", "65536"])
def test_ui_refuses_a_port_that_is_none(number, invoke, store, started):
    ran = invoke("ui", "--port", number)
    assert ran.status == 2
    assert "1 to 65535" in ran.err
    assert started == []


def test_ui_of_a_store_that_is_a_server_says_where_to_look(invoke, started):
    ran = invoke("ui", "--uri", "http://127.0.0.1:1")
    assert ran.status == 2
    assert "open http://127.0.0.1:1" in ran.err
    assert started == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ui_answers_and_ends_with_a_signal_to_it_alone_server_and_all(stop, store, port):
    process = subprocess.Popen(
        [sys.executable, "-m", "fnnexp.cli", "ui", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert _page(f"http://127.0.0.1:{port}/", process) == 200
        os.kill(process.pid, stop)
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


def test_the_installed_command_is_this_one():
    command = shutil.which("fnnexp", path=os.path.dirname(sys.executable))  # noqa: PTH120
    if command is None:
        pytest.skip("fnnexp is not installed beside this Python")
    ran = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == f"fnnexp {fnnexp.__version__}\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes break otherwise there")
@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job", "data=digits"]])
def test_a_reader_that_goes_away_is_no_error(words):
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
    assert ran.stderr == ""


def test_a_warning_that_is_made_an_error_is_one_line(invoke, monkeypatch):
    def warn(*_):
        raise DeprecationWarning("old")

    monkeypatch.setattr("fnnexp.cli._train", warn)
    ran = invoke("data=digits")
    assert (ran.status, ran.err) == (1, "fnnexp: a warning is an error here: DeprecationWarning: old\n")
