"""Error messages say what to write; what they advise is accepted and does what the user meant."""

from __future__ import annotations

import re
import shlex
import warnings
from dataclasses import dataclass

import joblib
import pytest
from hydra.core.config_store import ConfigStore

import fnnexp
from fnnexp.config.commands import Command
from fnnexp.config.compose import compose, jobs_of, show
from fnnexp.config.schema import CHOICES, Config, every_key
from fnnexp.errors import ConfigError, FnnexpError
from fnnexp.sweeping import executor

HEAD = "defaults: [config, override data: digits, _self_]\n"


@pytest.fixture
def own(tmp_path):
    """Return ``own(files)``: a folder of a user's configs with these files."""

    def write(files):
        for name, text in files.items():
            (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "c" / name).write_text(text)
        return tmp_path / "c"

    return write


def refusal(*words, config="config", folder=None, multirun=False):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError) as caught:
            jobs_of(Command(config, words, folder, multirun))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- in files ---

IN_FILES = {
    "a key with a dot": (
        "optimizer.lr: 0.5",
        "write optimizer: {lr: 0.5}",
        HEAD + "optimizer: {lr: 0.5}",
        lambda config: config.optimizer.lr == 0.5,
    ),
    "a key with a dot in a node": (
        "tracking: {a.b: 1}",
        "write tracking: {a: {b: 1}}",
        None,
        None,
    ),
    "a key of Hydra with dots": (
        "hydra.sweeper.params: {seed: '3'}",
        "write hydra: {sweeper: {params: {seed: '3'}}}",
        HEAD + "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '3'}}}",
        lambda config: config.seed == 3,
    ),
    "keys below keys in a grid": (
        "hydra: {mode: MULTIRUN, sweeper: {params: {arch: {hidden: '[8]'}}}}",
        "write arch.hidden:",
        HEAD + "hydra: {mode: MULTIRUN, sweeper: {params: {arch.hidden: '[8]'}}}",
        lambda config: config.arch.hidden == [8],
    ),
    "a preset": (
        "experiment: tanh_mini_batch",
        "write defaults: [config, override experiment: tanh_mini_batch, _self_]",
        "defaults: [config, override experiment: tanh_mini_batch, _self_]",
        lambda config: config.init.std == 0.3,
    ),
    "options for a grid": (
        "init: he,max",
        "write -m init=he,max, or init: he,max below hydra.sweeper.params",
        HEAD + "hydra: {mode: MULTIRUN, sweeper: {params: {init: 'he'}}}",
        lambda config: config.init.method == "he",
    ),
    "a value for a grid": ("seed: 0,1", "write seed=0,1 with -m, for one trial per value", None, None),
    "the same option again": (
        "defaults: [config, {init: he}, _self_]",
        "'override init: he'",
        "defaults: [config, override init: he, _self_]",
        lambda config: config.init.method == "he",
    ),
    "another launcher": (
        "defaults: [config, _self_, override hydra/launcher: joblib]",
        "write execution.n_jobs=4",
        HEAD + "execution: {n_jobs: 4}",
        lambda config: config.execution.n_jobs == 4,
    ),
    "a launcher's workers": ("hydra: {launcher: {n_jobs: 4}}", "write execution.n_jobs=4", None, None),
    "another sweeper": ("hydra: {sweeper: {n_trials: 4}}", "write -m and the values", None, None),
    "the last part of a key": ("lr: 0.5", "Did you mean 'optimizer.lr'?", None, None),
} | {
    f"an option of {group}": (
        f"{group}: {option}",
        f"write defaults: [config, override {group}: {option}, _self_]",
        f"defaults: [config, override {group}: {option}, _self_]",
        lambda config, group=group, name=name, value=value: getattr(getattr(config, group), name) == value,
    )
    for group, option, name, value in [
        ("arch", "tanh_128", "activation", "tanh"),
        ("init", "he", "method", "he"),
        ("batching", "full", "mode", "full"),
        ("optimizer", "adam", "name", "adam"),
        ("schedule", "cosine", "name", "cosine"),
        ("data", "digits", "name", "digits"),
        ("loss", "mse", "name", "mse"),
        ("schedule", "constant", "name", "constant"),
        ("execution", "local", "n_jobs", -1),
        ("tracking", "mlflow", "uri", None),
    ]
}  # fmt: skip


@pytest.mark.parametrize("case", IN_FILES)
def test_command_line_syntax_in_a_file_is_refused_with_the_syntax_for_files(case, own):
    text, advice, correct, check = IN_FILES[case]
    folder = own({"mine.yaml": text if text.startswith("defaults") else HEAD + text})
    assert advice in refusal(config="mine", folder=folder)
    if correct is not None:
        own({"mine.yaml": correct})
        (job,) = jobs_of(Command("mine", (), folder))
        assert check(job.config)


def test_every_group_has_a_case_in_the_table():
    assert {f"an option of {group}" for group in CHOICES} <= set(IN_FILES)


def test_a_users_preset_that_chooses_an_option_wrongly_is_refused_with_the_remedy(own):
    folder = own({"experiment/mine.yaml": "# @package _global_\ninit: he\n"})
    assert "write defaults: [override /init: he, _self_]" in refusal("experiment=mine", folder=folder)
    own({"experiment/mine.yaml": "# @package _global_\ndefaults: [override /init: he, _self_]\n"})
    (job,) = jobs_of(Command("config", ("experiment=mine",), folder))
    assert job.config.init.method == "he"


# --- on the command line ---

ON_COMMAND_LINES = {
    "+experiment=tanh_mini_batch": "write experiment=tanh_mini_batch without +",
    "+init=he": "write init=he without +",
    "++init=he": "write init=he without +",
    "hydra/launcher=joblib": "write execution.n_jobs=4",
    "hydra.launcher.n_jobs=4": "write execution.n_jobs=4",
    "+hydra.launcher.n_jobs=4": "write execution.n_jobs=4",
    "hydra/sweeper=optuna": "write -m and the values",
    "hydra.sweeper.n_trials=4": "write -m and the values",
    "lr=0.1": "Did you mean 'optimizer.lr'?",
    "+lr=0.1": "Did you mean 'optimizer.lr'?",
    "n_jobs=4": "Did you mean 'execution.n_jobs'?",
    "batch_size=64": "Did you mean 'batching.size'?",
    "learningrate=1": "Did you mean 'optimizer.lr'?",
    "arch.Layers=[8]": "Did you mean 'arch.hidden'?",
    "dataset=moons": "Did you mean 'data'?",
    "arch.hidden=32,16": "write arch.hidden=[32,16] for one network with 2 hidden layers, or in a sweep arch",
    "arch.activation=relu,tanh": "with a value for each layer write arch.activation=[relu,tanh]",
    "arch.hidden=range(2,999)": "or in a sweep arch.hidden=[64],[32] for 2 networks",
    "optimizer.size=64": "Did you mean 'batching.size'?",
    "epsilon=1e-7": "Did you mean 'optimizer.epsilon' or 'loss.epsilon'?",
    "tracking.uri=localhost:5000": "write tracking.uri=http://localhost:5000",
    "tracking.uri=lab.example.org:5000/mlflow": "write tracking.uri=http://lab.example.org:5000/mlflow",
    "tracking.uri=/a/mlflow.db": "write tracking.uri=sqlite:////a/mlflow.db",
    "seed=0,1": "for one trial per value add -m",
    "seed=range(5)": "for one trial per value add -m",
    "loss=mean": "must be one of binary_cross_entropy, cross_entropy, mse",
    "loss.name=mse": "write loss=mse loss.output=sigmoid, or softmax or identity",
    "data=/a/mnist.npz": "write data=files data.path=/a/mnist.npz",
    "data=fashion": "moons, spirals; for a value write data=files data.path=fashion",
    "tracking=sqlite:///x.db": "write tracking.uri=sqlite:///x.db",
    "execution=dask": "write execution.backend=dask",
    "card_grid": "write fnnexp -cn card_grid",
    "sweeps/card_grid.yaml": "write fnnexp -cn card_grid",
    "tanh_128": "write arch=tanh_128",
    "epochs": "write epochs=VALUE",
    "hydra.searchpath=[nowhere]": "there is no folder nowhere",
}


@pytest.mark.parametrize("word", ON_COMMAND_LINES)
def test_the_syntax_of_other_tools_is_refused_with_the_syntax_of_fnnexp(word):
    assert ON_COMMAND_LINES[word] in refusal(word)


IN_NODES = [key for key in every_key() if "." in key and key != "tracking.experiment"]
"""The keys with a dot; `experiment=` without a prefix chooses a preset."""


@pytest.mark.parametrize("key", IN_NODES)
def test_the_last_part_of_a_key_is_refused_with_the_full_key(key):
    assert f"'{key}'" in refusal(f"{key.rpartition('.')[2]}=1").partition("Did you mean ")[2]


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("card_grid", "write fnnexp -cn card_grid"),
        ("relu_98", "write arch=relu_98"),
        ("seed", "write seed=VALUE"),
        ("tanh_mini_batch", "write experiment=tanh_mini_batch"),
    ],
)
def test_an_unknown_command_is_refused_with_what_to_write(word, advice, invoke):
    ran = invoke(word)
    assert (ran.status, ran.out) == (2, "")
    assert f"there is no command '{word}'" in ran.err
    assert advice in ran.err


@pytest.mark.parametrize("words", [["seed=1,2"], ["init=he,max"]])
def test_showing_the_config_of_a_grid_is_refused_without_advice_to_make_a_grid(words):
    message = rf"^{words[0]}: --cfg and --info show a single job; write one value$"
    with pytest.raises(ConfigError, match=message):
        show(Command(overrides=tuple(words), multirun=True), "job")


def test_info_on_a_grid_is_refused(invoke):
    ran = invoke("--info", "config", "-m", "seed=1,2")
    assert (ran.status, ran.out) == (2, "")
    assert "seed=1,2: --cfg and --info show a single job; write one value" in ran.err


@pytest.mark.parametrize("value", ["", "many", "1.5"])
@pytest.mark.parametrize("grid", [False, True])
def test_a_core_limit_variable_that_is_not_a_number_is_refused_by_name(value, grid, invoke, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", value)
    monkeypatch.setattr(executor, "cpu_count", joblib.cpu_count)  # tests have two cores otherwise
    ran = invoke(*["-m"][: int(grid)], "data=digits", f"seed=1{',2' * grid}", "dry_run=true")
    assert (ran.status, ran.out) == (2, "")
    assert f"LOKY_MAX_CPU_COUNT={value!r}" in ran.err
    assert "write LOKY_MAX_CPU_COUNT=2, or unset" in ran.err


@pytest.mark.parametrize("folder", [3, ["c"], b"c", True])
def test_a_folder_that_is_no_string_is_refused(folder):
    with pytest.raises(FnnexpError, match=r"config_dir=.*: must be a string or a Path"):
        fnnexp.sweep(config_dir=folder)


# --- a key given several times ---


@pytest.mark.parametrize(
    ("overrides", "advice", "values"),
    [
        (["seed=0", "seed=1", "seed=2", "seed=3", "seed=4"], "seed=range(5)", [0, 1, 2, 3, 4]),
        (["seed=3", "seed=4", "seed=5"], "seed=range(3,6)", [3, 4, 5]),
        (["seed=7", "seed=1"], "seed=7,1", [7, 1]),
        (["++seed=0", "++seed=1", "++seed=2"], "++seed=range(3)", [0, 1, 2]),
        (["seed=0", "epochs=3", "seed=5"], "seed=0,5", [0, 5]),
    ],
)
def test_repeated_keys_from_shell_braces_are_refused_with_one_override_for_all(overrides, advice, values):
    message = refusal(*overrides, multirun=True)
    times = sum("seed" in override for override in overrides)
    assert f"is given {times} times, as when a shell expands" in message
    pasted = shlex.quote(advice) if "(" in advice else advice
    assert f"write {pasted}, or" in message
    jobs = jobs_of(Command(overrides=(advice,), multirun=True))
    assert [job.config.seed for job in jobs] == values
    last = re.search(r"for just the last value, (\S+)$", message)[1]
    if not last.startswith("++++"):
        (job,) = jobs_of(Command(overrides=("seed=0", last), multirun=True))
        assert job.config.seed == values[-1]


@pytest.mark.parametrize("words", [["init=he", "init=max"], ["arch.hidden=[8]", "arch.hidden=[9]"]])
def test_repeated_options_lists_and_keys_of_a_grids_file_are_refused(words):
    key = words[0].partition("=")[0]
    advice = f"write {words[0]},{words[1].partition('=')[2]}, or"
    assert advice in refusal(*words, multirun=True)
    assert advice in refusal(*words, config="card_grid")
    assert len(jobs_of(Command("card_grid", (f"{words[0]},{words[1].partition('=')[2]}",)))) % 2 == 0, key


def test_the_last_value_counts_in_a_grid_for_keys_shared_by_all_trials():
    words = ("data=digits", "seed=1,2", "execution.n_jobs=2", "execution.n_jobs=1")
    sweep = compose(Command(overrides=words, multirun=True))
    assert (len(sweep.trials), sweep.execution.n_jobs) == (2, 1)
    assert sweep.notes == ("execution.n_jobs is given 2 times, and the last counts: execution.n_jobs=1",)


def test_a_single_trial_uses_the_last_value_as_in_hydra_and_prints_a_note():
    sweep = compose(Command(overrides=("data=digits", "seed=0", "seed=1", "seed=2")))
    assert [trial.seed for trial in sweep.trials] == [2]
    note = (
        "seed is given 3 times, and the last counts: seed=2; for one trial per value write -m 'seed=range(3)'"
    )
    assert sweep.notes == (note,)


@pytest.mark.parametrize(
    ("words", "seeds"),
    [(["seed=0", "++seed=7"], [7]), (["seed=3", "seed=3"], [3]), (["seed=0,1", "seed=5"], [5])],
)
def test_a_grid_with_a_value_replaced_on_purpose_runs(words, seeds):
    assert [job.config.seed for job in jobs_of(Command(overrides=tuple(words), multirun=True))] == seeds


# --- values without a meaning ---


@pytest.mark.parametrize(
    ("words", "key", "omitted"),
    [
        (["batching=full,mini", "batching.size=64"], "batching.size", [True, False]),
        (["batching=full,mini,sample", "batching.shuffle=true"], "batching.shuffle", [True, False, False]),
        (["init=he,normal,max", "init.std=0.3"], "init.std", [True, False, True]),
        (
            ["optimizer=sgd,momentum,adam", "optimizer.momentum=0.5"],
            "optimizer.momentum",
            [True, False, True],
        ),
        (["optimizer=sgd,adam", "optimizer.beta1=0.5"], "optimizer.beta1", [True, False]),
        (["stopping.patience=null,3", "stopping.min_delta=0.1"], "stopping.min_delta", [True, False]),
        (["epochs=0,2", "stopping.patience=3"], "stopping.patience", [True, False]),
        (["experiment=tanh_mini_batch", "init=he,normal"], "init.std", [True, False]),
    ],
)
def test_a_grid_omits_a_value_in_the_jobs_where_it_has_no_meaning(words, key, omitted, trials_of):
    """The trials, their names and ids equal those of commands without the value."""
    group, _, options = next(word for word in words if "," in word).partition("=")
    expected = [
        compose(Command(overrides=tuple(alone(words, group, option, key, out)))).trials[0]
        for option, out in zip(options.split(","), omitted, strict=True)
    ]
    sweep = compose(Command(overrides=("data=digits", *words), multirun=True))
    assert [trial.id for trial in sweep.trials] == [trial.id for trial in expected]
    assert [f"{key}=" in trial.name for trial in sweep.trials] == [
        not out and "experiment" not in words[0] for out in omitted
    ]
    note = f"{key} is omitted in {sum(omitted)} of {len(omitted)} jobs, where it has no meaning"
    assert note in sweep.notes


def alone(words, group, option, key, out):
    """Return the command for a single option of a group."""
    kept = [word for word in words if not word.startswith((f"{group}=", *([f"{key}="] if out else [])))]
    none = [f"{key}=null"] if out and "experiment" in words[0] else []
    return ["data=digits", *kept, f"{group}={option}", *none]


@pytest.mark.parametrize("words", [["batching=full", "batching.size=64"], ["init=he,max", "init.std=0.3"]])
def test_a_value_without_meaning_in_any_job_is_refused(words):
    assert "has no meaning here" in refusal(*words, multirun=True)


def test_jobs_that_differ_only_in_a_value_without_meaning_are_one_trial():
    words = ("data=digits", "batching=full,mini", "batching.size=64,32")
    sweep = compose(Command(overrides=words, multirun=True))
    assert [trial.params.get("batching.size") for trial in sweep.trials] == [None, 64, 32]
    assert "1 of 4 jobs duplicates another job; each trial runs once" in sweep.notes


# --- files with the names of shipped files ---

GRID = HEAD + "hydra: {mode: MULTIRUN, sweeper: {params: {init: 'he,max', seed: '4,5'}}}\n"


def test_a_users_grid_replaces_the_shipped_grid_of_the_same_name_with_a_note(own):
    folder = own({"card_grid.yaml": GRID})
    sweep = compose(Command("card_grid", (), folder))
    assert [(trial.method, trial.seed) for trial in sweep.trials] == [
        ("he", 4), ("he", 5), ("max", 4), ("max", 5),
    ]  # fmt: skip
    assert sweep.experiment == "card_grid"
    (note,) = sweep.notes
    assert note == f"{folder} has files that replace fnnexp's files of the same name: card_grid.yaml"


def test_a_users_option_and_config_replace_the_shipped_files_with_a_note(own):
    from fnnexp.config.schema import conf_folder

    copy = (conf_folder() / "config.yaml").read_text("utf-8")
    folder = own({"arch/relu_100.yaml": "hidden: [7]\nactivation: relu\n"})
    sweep = compose(Command("config", ("data=digits",), folder))
    assert [trial.recipe.architecture.hidden for trial in sweep.trials] == [(7,)]
    assert "relu_100" not in sweep.trials[0].name
    assert sweep.notes[0].endswith("same name: arch/relu_100.yaml")
    own({"config.yaml": copy.replace("epochs: 10", "epochs: 2")})
    sweep = compose(Command("config", ("data=digits",), folder))
    assert (sweep.trials[0].recipe.epochs, sweep.trials[0].recipe.architecture.hidden) == (2, (7,))
    assert sweep.notes[0].endswith("same name: arch/relu_100.yaml, config.yaml")


def test_the_note_is_printed_from_python_too(own, store, capsys):
    folder = own({"card_grid.yaml": GRID.replace("seed: '4,5'", "epochs: '0'")})
    runs = fnnexp.sweep("card_grid", config_dir=folder, **{"execution.n_jobs": 1})
    assert sorted(runs["init"].astype("str")) == ["he", "max"]
    assert "replace fnnexp's files of the same name: card_grid.yaml" in capsys.readouterr().out


def test_shipped_files_take_precedence_over_hydras_search_path_with_a_note(own):
    folder = own(
        {
            "arch/relu_100.yaml": "hidden: [7]\nactivation: relu\n",
            "arch/deep.yaml": "{hidden: [3, 2], activation: relu}",
        }
    )
    sweep = compose(Command("config", ("data=digits", f"hydra.searchpath=['{folder}']")))
    assert sweep.trials[0].recipe.architecture.hidden == (100,)
    (note,) = sweep.notes
    assert "fnnexp has by the same name: arch/relu_100.yaml; to use them write -cd" in note
    sweep = compose(Command("config", ("data=digits", "arch=deep", f"hydra.searchpath=['{folder}']")))
    assert sweep.trials[0].recipe.architecture.hidden == (3, 2)


@dataclass
class OtherAppsSchema:
    """The schema of another Hydra app in this process."""

    epochs: str = "mine"


def test_the_schemas_of_another_app_in_the_same_process_are_not_used(own, monkeypatch):
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", dict(store.repo))
    for name in ("schema", "config", "card_grid"):
        store.store(name=name, node=OtherAppsSchema)
    store.store(group="arch", name="relu_100", node=OtherAppsSchema)
    folder = own({"schema.yaml": "epochs: 5\n"})
    before = dict(store.repo)
    for command in (Command(), Command("card_grid"), Command("config", (), folder)):
        assert jobs_of(command)[0].config.epochs == Config().epochs
    assert store.repo == before
    assert "must be one of relu_100, relu_98" in refusal("arch=foreign")


# --- endless defaults ---


def doubling(levels):
    files = {f"x{i}.yaml": f"defaults: [x{i + 1}@a, x{i + 1}@b]\n" for i in range(levels)}
    return files | {f"x{levels}.yaml": "{}\n"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"mine.yaml": "defaults: [config, x0, _self_]\n"}, []),
        ({"mine.yaml": HEAD, "init/bad.yaml": "defaults: [/x0]\nmethod: he\n"}, ["init=bad"]),
        ({"mine.yaml": HEAD, "init/bad.yaml": "defaults: [/x0]\nmethod: he\n"}, ["-m", "init=he,bad"]),
        ({"mine.yaml": HEAD, "init/bad.yaml": "defaults: [/x0]\nmethod: he\n"}, ["-m", "init=glob(b*)"]),
        (
            {
                "mine.yaml": HEAD + "hydra: {mode: MULTIRUN, sweeper: {params: {init: 'he,bad'}}}",
                "init/bad.yaml": "defaults: [/x0]\nmethod: he\n",
            },
            [],
        ),
        ({"mine.yaml": "defaults: [config, {extra: [a]}, _self_]\n", "extra/a.yaml": "defaults: [/x0]"}, []),
        (
            {
                "mine.yaml": "defaults: [config, {extra: '${arch}'}, _self_]\n",
                "extra/relu_100.yaml": "defaults: [/x0]",
            },
            [],
        ),
    ],
)  # fmt: skip
def test_files_that_name_each_other_twice_are_refused_quickly(files, words, own):
    folder = own(files | doubling(60))
    message = refusal(
        *[word for word in words if word != "-m"], config="mine", folder=folder, multirun="-m" in words
    )
    assert "lead to more than 1000 configs" in message


def test_a_grid_is_refused_before_it_is_made_if_memory_can_not_hold_it(monkeypatch):
    monkeypatch.setattr("fnnexp.data.room.available_memory", lambda: 3000 * 400)
    words = ("seed=range(100)", "epochs=1,2,3,4")
    assert len(jobs_of(Command(overrides=words, multirun=True))) == 400
    message = "401 jobs, and each takes 3 KB of memory, but only 0.0012 GB are left, enough for 400; .* seed$"
    with pytest.raises(ConfigError, match=message):
        jobs_of(Command(overrides=("seed=range(401)",), multirun=True))
