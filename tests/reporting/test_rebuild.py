"""The command of a sweep, rebuilt from its store's params: pasted, it leads to the same trials."""

import doctest
import re
import shlex
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from fnnexp import api
from fnnexp.config import schema as config
from fnnexp.config.schema import CHOICES, conf_folder, default_options, default_params
from fnnexp.reporting.sections import provenance as rebuild
from fnnexp.results import frames
from fnnexp.tracking.writer import as_param


def frame_of(trials):
    """Return the frame of trials as a store would have them, where every param is a text."""
    runs = []
    for i, trial in enumerate(trials):
        tags = {
            "fnnexp.trial": trial.id,
            "fnnexp.status": "finished",
            "fnnexp.data_checksum": trial.data.checksum,
        }
        params = {key: as_param(value) for key, value in trial.params.items()}
        info = SimpleNamespace(
            run_id=str(i), run_name=trial.name, start_time=i, end_time=i, status="FINISHED"
        )
        runs.append(SimpleNamespace(info=info, data=SimpleNamespace(params=params, tags=tags, metrics={})))
    history = pd.DataFrame(columns=["run_id", "metric", "epoch", "value"]).astype({"value": "float64"})
    return frames._runs_frame(runs, history)


@pytest.fixture(scope="module")
def pasted(trials_of):
    """Return the ids of the trials that a command makes."""

    def ids(command):
        start, *words = shlex.split(command)
        assert start == "fnnexp"
        words = [word for word in words if word != "-m"]
        assert any(word.startswith("tracking.experiment=") for word in words)
        return {trial.id for trial in trials_of(*words)}

    return ids


SWEEPS = {
    "grid": (["init=max,he", "batching=full,sample", "seed=range(2)", "epochs=2"], "card_grid"),
    "one": (["arch=tanh_128", "seed=4"], "config"),
    "hand": (["arch.hidden=[64],[64,32]", "arch.activation=relu,tanh", "seed=3,5"], "config"),
    "deep": ([f"arch.hidden=[16],{[8] * 200}".replace(" ", "")], "config"),
    "rates": (["optimizer.lr=0.1,0.01,1e-05", "batching=full,mini"], "config"),
    "preset": (["experiment=relu_full_batch", "seed=0,1"], "config"),
    "presets": (
        ["experiment=tanh_mini_batch,sigmoid_per_sample", "epochs=1", "arch.output_bias=none"],
        "config",
    ),
    "rules": (["optimizer=sgd,adam", "dtype=float64", "data.scale=raw", "loss.epsilon=1e-12"], "config"),
    "std": (
        ["init=normal", "init.std=1,0.3", "batching=mini", "batching.size=64,32", "data.validation=7"],
        "config",
    ),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_the_command_leads_to_the_same_trial_ids(name, trials_of, pasted):
    overrides, config = SWEEPS[name]
    trials = trials_of(*overrides, config=config)
    runs = frame_of(trials)
    for rows in (runs, runs.iloc[::-1, ::-1]):
        (command,) = rebuild.rebuilt("a b'c", rows).commands
        assert pasted(command) == {trial.id for trial in trials}
    assert "data=digits" in command
    assert ("-m" in command.split()) == (len(trials) > 1)


@pytest.mark.parametrize(
    ("told", "written"),
    [
        (["numba 0.68.1, llvmlite 0.50.0, zen4"] * 2, ["execution.engine=numba"]),
        (
            ["numba 0.68.1, llvmlite 0.50.0, zen4", "numba 0.61.0, llvmlite 0.44.0, zen4"],
            ["execution.engine=numba"],
        ),
        (["numba 0.68.1, llvmlite 0.50.0, zen4", None], ["execution.engine=numba"]),
        (["numpy 2.4.6"] * 2, []),
        (["numpy 2.4.6", "numba 0.68.1, llvmlite 0.50.0, zen4"], []),
        (["$(reboot)"] * 2, []),
        ([None, None], []),
    ],
)
def test_the_engine_that_computed_all_of_them_is_asked_for_again(told, written, trials_of, pasted):
    trials = trials_of("seed=0,1")
    (command,) = rebuild.rebuilt("e", frame_of(trials).assign(engine=told)).commands
    assert [word for word in shlex.split(command) if word.startswith("execution.")] == written
    assert pasted(command) == {trial.id for trial in trials}


def test_a_grid_that_is_two_grids_is_two_commands(trials_of, pasted):
    trials = [*trials_of("init=he", "seed=0,1"), *trials_of("init=normal", "init.std=0.3,1.0", "seed=0,1")]
    again = rebuild.rebuilt("two", frame_of(trials))
    assert len(again.commands) == 2
    assert "no single grid has them, these 2 train" in again.said
    ids = [pasted(command) for command in again.commands]
    assert set.union(*ids) == {trial.id for trial in trials}
    assert sum(map(len, ids)) == len(trials)


def test_a_grid_with_holes_is_said_to_be_no_full_grid(trials_of, pasted):
    trials = trials_of("init=he,max", "batching=full,mini", "seed=range(5)")
    part = [trial for i, trial in enumerate(trials) if i not in (0, 7, 11, 16)]
    again = rebuild.rebuilt("holes", frame_of(part))
    assert "and 4 more: they are no full grid" in again.said
    assert pasted(again.commands[0]) == {trial.id for trial in trials}
    mixed = [*trials_of("init=he"), *trials_of("init=normal", "init.std=0.3,1", "seed=1")]
    part = [*mixed, *trials_of("init=normal", "init.std=2", "seed=2,3", "batching=full")]
    again = rebuild.rebuilt("mixed", frame_of(part))
    assert again.commands == [] or set.union(*map(pasted, again.commands)) == {trial.id for trial in part}


def test_of_data_that_changed_under_its_path_the_report_of_a_part_has_a_command(trials_of, pasted):
    before = trials_of("init=max,he")
    after = [replace(trial, data=replace(trial.data, checksum="f" * 64)) for trial in before]
    runs = frame_of([*before, *after])
    assert runs["trial"].nunique() == 4
    rebuilt = rebuild.rebuilt("a b", runs)
    assert rebuilt.commands == []
    (part,) = re.findall("`fnnexp report (.*)`", rebuilt.said)
    name, asked = shlex.split(part)
    assert name == "a b"
    rows = frames.where(runs, dict([asked.split("=")]))
    (command,) = rebuild.rebuilt(name, rows).commands
    assert pasted(command) == {trial.id for trial in before} == set(rows["trial"])


def test_what_a_store_holds_can_do_no_harm_when_pasted(trials_of):
    runs = frame_of(trials_of("seed=0,1"))
    evil = "x'; rm -rf $(HOME) `y` \\"
    for hostile in (runs.assign(**{"data.path": evil}), runs.assign(**{"$(reboot)": "1"})):
        (command,) = rebuild.rebuilt(evil, hostile).commands
        words = shlex.split(command)
        assert "rm" not in words
        assert "reboot" not in command
    for unwritable in ("a\nb", "${oc.env:HOME}"):
        assert rebuild.rebuilt("e", runs.assign(**{"data.path": unwritable})).commands == []


@pytest.mark.parametrize(
    "text",
    ["a b", "it's", "c:\\d\\", "a\\'b", "null", "1e5", "[1,", "x,y", "a=b", "ü", "007", ".5", "~/x.npz"],
)
def test_a_text_comes_back_from_hydra_as_it_was(text, jobs_of):
    (job,) = jobs_of(f"data.path={rebuild._value(text)}")
    assert job.config.data.path == text


def test_the_defaults_are_what_hydra_composes(jobs_of):
    presets = [None, *(file.stem for file in sorted((conf_folder() / "experiment").glob("*.yaml")))]
    for preset in presets:
        words = [f"experiment={preset}"] if preset else []
        (job,) = jobs_of(*words)
        options = default_options(preset)
        assert options == {group: job.choices[group] for group in CHOICES}
        assert default_params(options, preset) == _scientific(job)
    for group in CHOICES:
        for file in (conf_folder() / group).glob("*.yaml"):
            (job,) = jobs_of(f"{group}={file.stem}", *(["data.path=x"] if file.stem == "files" else []))
            expected = _scientific(job) | ({"data.path": None} if file.stem == "files" else {})
            assert default_params({**default_options(), group: file.stem}) == expected


def _scientific(job):
    from fnnexp.config import schema as config

    return config._flat(config.asdict(job.config))


def test_what_it_ran_with_is_told_with_how_many_where_it_differs(trials_of):
    runs = frame_of(trials_of("seed=0,1,2")).assign(
        versions="numpy 2", git_commit=["a", "a", "b and changes"], engine=["numpy 2", "numba 0", "numpy 2"]
    )
    told = rebuild.provenance(runs)
    assert told[0].startswith("data (SHA-256): ")
    assert told[1] == "commit: a (2 trials); b and changes (1 trial)"
    assert told[2:4] == ["versions: numpy 2", "BLAS and its kernel: not recorded"]
    assert told[4:] == ["engine: numpy 2 (2 trials); numba 0 (1 trial)"]
    assert rebuild.provenance(runs[["trial"]]) == []


@pytest.mark.parametrize("module", [api, config, rebuild])
def test_the_examples_run(module):
    assert doctest.testmod(module).failed == 0
