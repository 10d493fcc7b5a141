"""Grids that are no products: keys that are swept together, and jobs that a sentence leaves out.

The jobs are compared with a product made by itertools, and the sentences with Python's own comparisons.
"""

import itertools
import operator
import random
import shlex

import pytest

import fnnexp
from fnnexp import api, cli
from fnnexp.config.commands import Command
from fnnexp.config.compose import compose, jobs_of
from fnnexp.config.grids.swept import BYTES_A_TRIAL
from fnnexp.errors import ConfigError

GRID = {
    "init": ["max", "he", "xavier"],
    "optimizer.lr": [0.1, 0.3, 1.0],
    "arch.hidden": [[8], [8, 4], []],
    "seed": [0, 1],
}
WORDS = ("init=max,he,xavier", "optimizer.lr=0.1,3e-1,1", "arch.hidden=[8],[8,4],[]", "seed=0,1")


def command(*words, name="config", folder=None, multirun=True):
    return Command(name, words, folder, multirun)


def settings(job):
    """Return the values of a job in the keys of GRID."""
    config = job.config
    return {
        "init": job.choices["init"],
        "optimizer.lr": config.optimizer.lr,
        "arch.hidden": config.arch.hidden,
        "seed": config.seed,
    }


def product(together=(), keep=lambda job: True):
    """Return the jobs of GRID: keys that vary together have the same index."""
    keys = list(GRID)
    for index in itertools.product(*(range(len(values)) for values in GRID.values())):
        at = dict(zip(keys, index, strict=True))
        job = {key: GRID[key][at[key]] for key in keys}
        if all(len({at[key] for key in group}) == 1 for group in together) and keep(job):
            yield job


TOGETHER = [
    [["init", "optimizer.lr"]],
    [["optimizer.lr", "init"]],
    [["init", "arch.hidden"]],
    [["init", "optimizer.lr", "arch.hidden"]],
]


@pytest.mark.parametrize("together", TOGETHER)
def test_keys_that_are_swept_together_advance_together(together):
    text = str(together).replace("'", "").replace(" ", "")
    assert list(map(settings, jobs_of(command(*WORDS, f"zip={text}")))) == list(product(together))


def test_a_range_of_floats_has_as_many_values_as_hydra_makes():
    """In binary digits 0.1 + 3 · 0.3 is below 1.0, so the range has four values, not (1.0 − 0.1) / 0.3."""
    words = ("init=max,he,he2,xavier", "init.gain=range(0.1,1.0,0.3)", "zip=[[init,init.gain]]")
    assert [job.config.init.gain for job in jobs_of(command(*words))] == [0.1, 0.4, 0.7, 1.0]


def test_a_grid_may_have_several_groups_of_keys():
    words = ("init=max,he", "seed=0,1,2", "optimizer.lr=0.1,0.3", "epochs=1,2,3")
    jobs = jobs_of(command(*words, "zip=[[init,optimizer.lr],[seed,epochs]]"))
    options = [
        (job.choices["init"], job.config.optimizer.lr, job.config.seed, job.config.epochs) for job in jobs
    ]
    pairs = [("max", 0.1), ("he", 0.3)]
    assert options == [(*pair, seed, seed + 1) for pair in pairs for seed in range(3)]


SENTENCES = {
    "init=he -> optimizer.lr=0.1": lambda job: job["init"] != "he" or job["optimizer.lr"] == 0.1,
    "seed=0": lambda job: job["seed"] == 0,
    "init=he,max, seed=1 -> optimizer.lr<=0.3": lambda job: (
        not (job["init"] in ("he", "max") and job["seed"] == 1) or job["optimizer.lr"] <= 0.3
    ),
    "arch.hidden=[8,4],[] -> init!=he,max, optimizer.lr>0.1": lambda job: (
        job["arch.hidden"] == [8] or (job["init"] == "xavier" and job["optimizer.lr"] > 0.1)
    ),
    " optimizer.lr >= 1->seed = 1 ": lambda job: job["optimizer.lr"] < 1 or job["seed"] == 1,
    'init="he" -> seed<1': lambda job: job["init"] != "he" or job["seed"] < 1,
    # keys that are not swept: the default of all jobs, and null
    "batching=mini, init=max -> seed=1": lambda job: job["init"] != "max" or job["seed"] == 1,
    "seed_init=null -> init!=max": lambda job: job["init"] != "max",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_leaves_out_the_jobs_in_which_it_does_not_hold(sentence):
    wanted = list(product(keep=SENTENCES[sentence]))
    given = command(*WORDS, f"where={sentence}")
    assert list(map(settings, jobs_of(given))) == wanted
    assert 0 < len(wanted) < 54


def test_random_sentences_leave_out_what_python_would():
    signs = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
    values = {"seed": list(range(6)), "epochs": [1, 2, 5], "batching.size": [8, 16, 32]}
    words = [f"{key}={','.join(map(str, listed))}" for key, listed in values.items()]
    draw = random.Random(3)

    def side():
        return [
            (key, sign, draw.choice(values[key]))
            for key, sign in zip(
                draw.choices(list(values), k=draw.randint(1, 2)), draw.choices(list(signs), k=2), strict=False
            )
        ]

    def holds(comparisons, job):
        return all(getattr(operator, signs[sign])(job[key], value) for key, sign, value in comparisons)

    for _ in range(12):
        rules = [(side(), side()) for _ in range(draw.randint(1, 2))]
        texts = [
            " -> ".join(", ".join(f"{key}{sign}{value}" for key, sign, value in part) for part in rule)
            for rule in rules
        ]
        wanted = [
            job
            for numbers in itertools.product(*values.values())
            for job in [dict(zip(values, numbers, strict=True))]
            if all(not holds(condition, job) or holds(consequence, job) for condition, consequence in rules)
        ]
        given = command(*words, api.override("where", texts))
        if not wanted:
            with pytest.raises(ConfigError, match="leaves out all 54 jobs"):
                jobs_of(given)
            continue
        configs = [job.config for job in jobs_of(given)]
        assert [(c.seed, c.epochs, c.batching.size) for c in configs] == [tuple(j.values()) for j in wanted]


def test_a_sentence_may_be_about_a_value_that_an_option_or_a_reference_sets():
    words = ("arch=relu_100,tanh_128", "init=he,max", "batching=full,mini", "seed=0,1")
    kept = jobs_of(command(*words, "where=init=he -> arch.activation=relu, optimizer.lr<0.2"))
    options = [tuple(job.choices[key] for key in ("arch", "init", "batching")) for job in kept]
    wanted = [
        each
        for each in itertools.product(("relu_100", "tanh_128"), ("he", "max"), ("full", "mini"))
        if each[1] == "max" or (each[0] == "relu_100" and each[2] == "mini")  # full batches have lr=0.5
    ]
    assert options == [each for each in wanted for _ in range(2)]


def test_a_job_that_is_left_out_need_not_be_possible():
    words = ("arch.hidden=[4],[4,4]", "arch.activation=relu,[relu,tanh]")
    with pytest.raises(ConfigError, match="it has 2 names"):
        jobs_of(command(*words))
    kept = jobs_of(command(*words, "where=arch.activation=[relu,tanh] -> arch.hidden=[4,4]"))
    assert [(job.config.arch.hidden, job.config.arch.activation) for job in kept] == [
        ([4], "relu"),
        ([4, 4], "relu"),
        ([4, 4], ["relu", "tanh"]),
    ]


def test_zip_and_where_change_no_id_and_are_no_params():
    words = ("data=digits", "init=max,he", "optimizer.lr=0.1,0.3", "seed=0,1")
    whole = {trial.id: trial for trial in compose(command(*words)).trials}
    part = compose(command(*words, "zip=[[init,optimizer.lr]]", "where=seed=0"))
    assert len(part.trials) == 2
    for trial in part.trials:
        same = whole[trial.id]
        assert (trial.name, dict(trial.params)) == (same.name, dict(same.params))
        assert dict(trial.config) == dict(same.config)
        assert not {"zip", "where"} & {*trial.params, *trial.config}
    assert "where: leaves out 2 of 4 jobs" in part.notes


@pytest.mark.parametrize("where", ["init=he -> seed=0", ["init=he -> seed=0", "init=max -> seed<2"]])
def test_a_printed_command_makes_the_same_sweep(where):
    choices = {"init": ["he", "max"], "seed": range(3), "epochs": [1, 2], "where": where}
    choices["zip"] = (("init", "epochs"),)
    words = [api.override(*api._checked_depth(*choice)) for choice in choices.items()]
    printed = shlex.split(str(command(*words)))[1:]
    again = cli._training_command(cli._parser().parse_intermixed_args(printed))
    wanted = [("he", 1, 0)] + [("max", 2, seed) for seed in range(3 if isinstance(where, str) else 2)]
    for each in (command(*words), again):
        jobs = jobs_of(each)
        assert [(job.choices["init"], job.config.epochs, job.config.seed) for job in jobs] == wanted


# --- in files ---

FILE = """\
defaults: [config, _self_]
zip: [[init, optimizer.lr]]
where: init=he -> seed<1
hydra: {mode: MULTIRUN, sweeper: {params: {init: "max,he", optimizer.lr: "0.1,0.3", seed: range(2)}}}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.yaml").write_text(FILE)
    return tmp_path


def found(folder, *words):
    jobs = jobs_of(command(*words, name="mine", folder=folder, multirun=False))
    return [(job.choices["init"], job.config.optimizer.lr, job.config.seed) for job in jobs]


def test_a_grids_file_may_have_zip_and_where_and_the_command_replaces_them(folder):
    assert found(folder) == [("max", 0.1, 0), ("max", 0.1, 1), ("he", 0.3, 0)]
    assert found(folder, "where=seed=1") == [("max", 0.1, 1), ("he", 0.3, 1)]
    assert len(found(folder, "zip=null", "where=null")) == 8
    assert len(found(folder, "zip=[]", "where=[]")) == 8
    with pytest.raises(ConfigError, match=r"init has 3 values, optimizer.lr has 2 values; .* zip=null"):
        found(folder, "init=max,he,xavier")


def test_a_command_may_narrow_a_grids_file(folder):
    given = command("data=digits", "init=max,xavier", name="mine", folder=folder, multirun=False)
    notes = compose(given).notes
    assert "where: leaves out none of 4 jobs" in notes
    assert sum("init=he never occurs; in this grid init is max or xavier" in note for note in notes) == 1
    (folder / "mine.yaml").write_text(FILE.replace("init=he", "init=hee"))
    with pytest.raises(ConfigError, match=r"init=hee never occurs.* Did you mean 'he'"):
        found(folder, "epochs=2")


def test_zip_and_where_stand_beside_the_grid_in_a_file_and_not_inside_it(folder):
    (folder / "mine.yaml").write_text(FILE.replace("params: {", "params: {where: init=he, "))
    with pytest.raises(ConfigError, match=r"params\.where: is not swept over; write where: at the top level"):
        found(folder)


def test_a_single_trial_has_no_zip_and_no_where(folder):
    with pytest.raises(ConfigError, match="for sweeps, and this command runs a single trial; add -m"):
        compose(command("data=digits", "where=seed=0", multirun=False))
    (folder / "mine.yaml").write_text(FILE.replace("mode: MULTIRUN, ", ""))
    sweep = compose(command("data=digits", name="mine", folder=folder, multirun=False))
    assert len(sweep.trials) == 1
    assert any("running a single trial; -m" in note for note in sweep.notes)


# --- refusals ---

REFUSED = {
    "zip=init": "zip=init: must be a list of lists .* write zip=.*init,optimizer.lr",
    "zip=[init,seed]": r"write zip=\[\[init,seed\]\]",
    "zip=[[init]]": "two keys or more",
    "zip=[[init,seed]]": "init has 3 values, seed has 2 values",
    "zip=[[init,epochs]]": "epochs has no values in this grid; write epochs=VALUE,VALUE",
    "zip=[[init,optimizer.lrr]]": "optimizer.lrr: there is no such key; .* Did you mean 'optimizer.lr'",
    "zip=[[init,optimizer.lr],[init,arch.hidden]]": "init is named twice",
    "zip=[[init,seed]],[[init,seed]]": "must be a single list",
    "where=init": "'init' is not a comparison; write KEY=VALUE",
    "where=init=he ->": "'' is not a comparison",
    "where=init=he -> seed=0 -> seed=1": "has 2 arrows",
    "where=init=he or seed=0": "`or` is not allowed.* write init=he,max.*init!=he -> seed<5",
    "where=init=he and seed=0 -> epochs=1": 'a comma means "and"; write where="init=he, seed=0 -> epochs=1"',
    "where=init==he": "there is no sign ==; write init=he",
    "where=init<3": "< compares numbers",
    "where=init.std<3": "needs numbers, but in this grid init.std is null",
    "where=init=[he": "has no partner",
    "where=init=hee -> seed=0": "init=hee never occurs; in this grid init is max, he or xavier. Did you mean",
    "where=optimizer.lr=0.2": "never occurs; in this grid optimizer.lr is 0.1, 0.3 or 1.0",
    "where=optimizer.lr=abc": "optimizer.lr=abc: must be a number",
    "where=arch.hiden=[8]": "arch.hiden: there is no such key; .* Did you mean 'arch.hidden'",
    "where=regularization=1": "regularization has keys; write regularization.l2=",
    "where=seed=range(2)": "is not a value",
    "where=init=he;import os": "is not a value",
    "where=seed>7": "leaves out all 54 jobs",
    "where=3": "'3' is not a comparison",
    "where=[3]": "must be a sentence, or a list of sentences",
    "where=[init=he -> seed=0]": "each sentence of a list needs quotes; write",
    "where='seed=0','seed=1'": "must be a single list",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_zip_and_where_can_not_mean_is_refused(word):
    with pytest.raises(ConfigError, match=REFUSED[word]):
        jobs_of(command(*WORDS, word))


def test_python_refuses_keys_that_are_not_in_a_list_of_lists():
    with pytest.raises(ConfigError, match=r"write zip=\[\['init', 'seed'\]\]"):
        fnnexp.sweep(init=["he", "max"], seed=[0, 1], zip=["init", "seed"])


def test_memory_must_hold_the_jobs_that_are_kept(monkeypatch):
    monkeypatch.setattr("fnnexp.data.room.available_memory", lambda: BYTES_A_TRIAL * 300)
    words = ("seed=range(300)", "epochs=range(1,301)")
    assert len(jobs_of(command(*words, "zip=[[seed,epochs]]"))) == 300
    assert len(jobs_of(command(*words, "where=seed<3, epochs<=100"))) == 300
    with pytest.raises(ConfigError, match=r"the sweep has 303 jobs, .* enough for 300"):
        jobs_of(command(*words, "where=seed<3, epochs<=101"))
    with pytest.raises(ConfigError, match="the sweep has 301 jobs"):
        jobs_of(command("seed=range(301)", "epochs=range(1,302)", "zip=[[seed,epochs]]"))
    many = [f"{key}=range(1,300)" for key in ("seed", "epochs", "seed_init", "data.validation")]
    with pytest.raises(
        ConfigError, match="7,992,538,801 jobs before where=… leaves any out, and where=… can filter at most"
    ):
        jobs_of(command(*many, "where=seed=1"))
