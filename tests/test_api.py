"""A sweep from Python runs the same trials as the command line and returns their frame."""

from __future__ import annotations

import ast
import io
import itertools
import re
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

import fnnexp
from fnnexp import api
from fnnexp.config.commands import Command
from fnnexp.config.compose import compose, jobs_of
from fnnexp.errors import FnnexpError
from fnnexp.sweeping.loop import Outcome

SMALL = {"data": "digits", "epochs": 1, "execution.n_jobs": 1}


def test_a_sweep_returns_its_trials_and_a_second_call_trains_none_of_them(store, capsys):
    runs = fnnexp.sweep("init_grid", init=["max", "he"], seed=range(2), **SMALL)
    assert runs.groupby("init", observed=True)["seed"].agg(set).to_dict() == {"max": {0, 1}, "he": {0, 1}}
    assert set(runs["status"]) == {"finished"}
    assert runs["test_accuracy"].between(0.2, 1).all()
    assert "trials 4/4" in capsys.readouterr().out
    more = fnnexp.sweep("init_grid", init=["max", "he"], seed=np.arange(3), **SMALL)
    assert re.search(r"2 trials finished in [\d.]+ s; 4 were done before", capsys.readouterr().out)
    assert set(runs["run_id"]) < set(more["run_id"])


def test_a_sweep_from_python_trains_the_same_trials_as_the_command_line(
    store, own_folder, invoke, agrees, trials_of
):
    words = ["arch=tanh_128,relu_100", "init=he", "optimizer.lr=0.1,0.2", "data=digits", "epochs=1"]
    runs = fnnexp.sweep("arch=tanh_128,relu_100", init="he", **{"optimizer.lr": [0.1, 0.2]}, **SMALL)
    ran = invoke("-m", *words, "dry_run=true")
    assert ran.status == 0, ran.err
    assert "4 trials, 4 done, 0 to run" in ran.out
    agrees(own_folder, trials_of(*words))
    assert len(runs) == 4


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("", {"grid": "card_grid", "words": ["optimizer.lr=0.1,0.3", "seed=range(5)"]}),
        ("", {"words": ["arch.hidden=[64,32]", 'where="init=he -> epochs=5"', "data.path='it\\'s.csv'"]}),
        ("lr", {"words": ["init=he,max"], "config_dir": ".", "pieces": ["a b.py", "c.py"]}),
        ("map", {"words": ["x=seed:0..4:4", "y=init.gain:0.1..10:4", "zoom=0..2,0..2"], "pieces": ["a.py"]}),
    ],
)
def test_a_printed_call_asks_for_what_was_asked(name, call, own_folder, monkeypatch):
    grid, words, more = call.get("grid"), call["words"], {"config_dir": None, "pieces": ()}
    given = api._command(grid, words, **more | {key: call[key] for key in more if key in call}, choices={})
    for function in ("sweep", "lr_range"):
        monkeypatch.setattr(
            f"fnnexp.{function}",
            lambda grid=None, /, *words, **options: api._command(grid, words, **more | options, choices={}),
        )
    monkeypatch.setattr(
        "fnnexp.map", lambda *words, **options: api._command(None, words, **more | options, choices={})
    )
    assert eval(given.pasted(name)) == given


def test_validation_rows_are_held_out_by_default_from_python_too(store, capsys):
    runs = fnnexp.sweep("init_grid", init="he", seed=0, **SMALL)
    assert runs["data.validation"].tolist() == fnnexp.sweep(**SMALL)["data.validation"].tolist() == [237]
    assert runs["val_accuracy"].notna().all()
    assert "chosen by the test rows" not in capsys.readouterr().out
    runs = fnnexp.sweep(**SMALL, **{"data.validation": 0})
    assert runs["val_accuracy"].isna().all()
    assert capsys.readouterr().out.count("chosen by the test rows, and its accuracy is optimistic") == 1


def test_the_returned_frame_contains_only_the_trials_of_the_sweep(store):
    fnnexp.sweep(arch="tanh_128", init="he", **SMALL)
    runs = fnnexp.sweep(arch="relu_100", init=["max", "normal"], **SMALL)
    assert runs["arch"].cat.categories.tolist() == ["relu_100"]
    assert sorted(runs["init"]) == ["max", "normal"]
    assert len(fnnexp.runs("digits")) == 3


def test_a_sweep_over_activations_may_contain_lists_with_one_for_each_layer(own_folder):
    """A plain list is a sweep over names, as for every other key."""

    def activations(value):
        words = (
            api.override("arch.hidden", [[8, 4]]),
            api.override(*api._checked_depth("arch.activation", value)),
        )
        return [job.config.arch.activation for job in jobs_of(Command(overrides=words, multirun=True))]

    assert activations("gelu") == ["gelu"]
    assert activations(["relu", "tanh"]) == ["relu", "tanh"]
    assert activations([["relu", "tanh"]]) == [["relu", "tanh"]]
    assert activations([("relu", "tanh"), "gelu"]) == [["relu", "tanh"], "gelu"]


def test_a_user_defined_grid_is_found_in_config_dir(store, own_folder):
    (own_folder / "my grids").mkdir()
    (own_folder / "my grids" / "mine.yaml").write_text(
        "defaults: [config, _self_]\nhydra:\n  sweeper:\n    params:\n      arch.hidden: '[8],[6,4]'\n"
    )
    runs = fnnexp.sweep("mine", config_dir="my grids", **SMALL)
    assert set(runs["arch.hidden"]) == {"[8]", "[6, 4]"}
    assert set(fnnexp.runs("mine")["trial"]) == set(runs["trial"])


def test_a_failed_trial_is_printed_and_does_not_stop_the_others(store, monkeypatch, capsys):
    from fnnexp.nn.pieces.activations import ACTIVATIONS, Activation

    def broken(Z):
        raise MemoryError("no more")

    tanh = ACTIVATIONS["tanh"]
    monkeypatch.setitem(ACTIVATIONS, "tanh", Activation(broken, tanh.derivative))
    runs = fnnexp.sweep(arch=["relu_100", "tanh_128"], **SMALL, **{"execution.retries": 0})
    assert runs.set_index("arch")["status"].to_dict() == {"relu_100": "finished", "tanh_128": "failed"}
    assert "MemoryError: no more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("grid", "choices", "message"),
    [
        ("card_gird", {}, "Did you mean 'card_grid'?"),
        ("init_grid", {"init": "hee"}, "init=hee: must be one of .* Did you mean 'he'?"),
        ("init_grid", {"seed": []}, r"seed=\[\]: has no values"),
        ("init_grid", {"seed": object}, "seed=.*: must be a number"),
        ("init_grid", {"epoch": 1}, "epoch: there is no such key; .* Did you mean 'epochs'?"),
        ("init_grid", {"dry_run": True}, "dry_run=true works on the command line only"),
        ("init_grid", {"config_dir": "nowhere"}, "config_dir='nowhere': this folder does not exist"),
        (None, {"data": "files", "data.path": "C:\\a b'c\\"}, r"C:\\a b'c\\ does not exist"),
        (None, dict.fromkeys(("seed", "seed_init", "epochs"), range(5000)), "125,000,000,000 jobs, and each"),
        (3, {}, r"sweep\(3\): the grid must be a string"),
        (None, {"arch.hidden": []}, r"arch.hidden=\[\]: has no values"),
        (None, {"seed": range(10**10)}, "10,000,000,000 jobs, and each takes 3 KB of memory"),
        (None, {"seed": itertools.count()}, "seed: this count has more than 1,000,000 values; write fewer"),
        (
            None,
            {"execution": {"memory": "1GB", "n_jobs": 1}},
            r"a dict is not a value; write \*\*{\"execution.memory\": '1GB', \"execution.n_jobs\": 1}",
        ),
    ],
)
def test_bad_input_raises_before_anything_trains(grid, choices, message, own_folder):
    with pytest.raises(FnnexpError, match=message):
        fnnexp.sweep(grid, **choices)
    assert not list(own_folder.iterdir())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([8], [8]),
        ((64, 16), [64, 16]),
        (range(8, 10), [8, 9]),
        (8, [64, 32]),
        ("[8]", [64, 32]),
        ([8, [4]], [64, 32]),
        (None, [64, 32]),
    ],
)
def test_the_message_about_widths_that_are_not_lists_shows_a_call_that_works(value, expected, own_folder):
    with pytest.raises(FnnexpError, match="must be a list of lists") as caught:
        fnnexp.sweep("demo", **{"arch.hidden": value})
    assert not list(own_folder.iterdir())
    (choice,) = ast.literal_eval(str(caught.value).partition("write **")[2]).items()
    (job,) = jobs_of(Command(overrides=(api.override(*choice),), multirun=True))
    assert job.config.arch.hidden == expected


@pytest.mark.parametrize("choice", [{"seed": [[0, 1]]}, {"init": [["he", "max"], "xavier"]}, {"dtype": [()]}])
def test_lists_within_the_list_of_a_sweep_are_refused(choice, own_folder):
    with pytest.raises(FnnexpError, match="must be one value, or one list of values to sweep over"):
        fnnexp.sweep(**choice)
    assert not list(own_folder.iterdir())


def test_an_override_that_is_not_a_string_is_refused(own_folder):
    with pytest.raises(FnnexpError, match=r"sweep\(…, 3\): an override must be a string"):
        fnnexp.sweep("demo", 3)
    assert not list(own_folder.iterdir())


def test_values_of_an_iterator_are_all_swept_over(store):
    runs = fnnexp.sweep(arch="tanh_128", batching="full", seed=iter([3, 4]), **SMALL)
    assert set(runs["seed"]) == {3, 4}


TEXTS = ["he", "a b", "true", "it's", "C:\\x\\", "a,b", "${x}", "", ".5", "~/x", "café", "./a.npz", "a b\\\n"]


@pytest.mark.parametrize("value", [0, -3, 2.5, 1e-5, True, None, *TEXTS, [1, 2], TEXTS, [[1, "a'"], [None]]])
def test_hydra_parses_an_override_to_the_original_value(value, loader):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (parsed,) = OverridesParser.create(loader).parse_overrides([api.override("key", value)])
    is_sweep = parsed.is_sweep_override()
    parsed_value = [parsed._convert_value(v) for v in parsed.value().list] if is_sweep else parsed.value()
    assert parsed_value == value
    assert type(parsed_value) is type(value)


APP = """
import hydra
import fnnexp
from hydra.core.global_hydra import GlobalHydra

@hydra.main(version_base="1.2", config_path=None)
def app(config):
    before = GlobalHydra.instance().hydra
    runs = fnnexp.sweep(data="digits", epochs=1, seed=[0, 1], **{"execution.n_jobs": 1})
    assert GlobalHydra.instance().hydra is before
    print("trained", len(runs))

app()
"""


def test_a_sweep_runs_within_a_hydra_app(own_folder):
    (own_folder / "app.py").write_text(APP)
    ran = subprocess.run([sys.executable, "app.py"], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "trained 2" in ran.stdout


def test_a_sweep_leaves_hydra_usable_for_the_caller(store, own_folder):
    from hydra import compose, initialize_config_dir, version
    from hydra.core.global_hydra import GlobalHydra

    (own_folder / "mine.yaml").write_text("a: &x 3\nb: *x\n")
    before = version.getbase()
    fnnexp.sweep(arch="tanh_128", **SMALL)
    with pytest.raises(FnnexpError):
        fnnexp.sweep(arch="none", **SMALL)
    assert not GlobalHydra.instance().is_initialized()
    assert version.getbase() is before
    with initialize_config_dir(version_base="1.3", config_dir=str(own_folder)):
        assert compose("mine").b == 3


@pytest.mark.parametrize("ended", [[], ["a"]])
def test_ctrl_c_asks_to_resume_only_if_a_trial_is_left(ended, monkeypatch, store):
    outcome = Outcome(done_before=1, finished=ended, interrupted=True)
    monkeypatch.setattr("fnnexp.sweeping.loop.run", lambda *_, **__: outcome)
    command = Command(overrides=("data=digits", "seed=0,1"), multirun=True)
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(api.InterruptedSweepError) as error:
        api.train(compose(command), console)
    assert ("; 1 of 2 is not finished\n" in console.file.getvalue()) is (not ended)
    assert ("resume" in str(error.value)) is (not ended)
