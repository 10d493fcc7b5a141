"""Configs: every option composes, bad values are refused, and a trial's id is made from what it computes."""

from __future__ import annotations

import itertools
import re
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import pytest
from formulas import STDS
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fnnexp.config import compose, resolve
from fnnexp.config.commands import Command
from fnnexp.config.composition import UNUSED, hydra_state_restored
from fnnexp.config.composition import composing as composing_command
from fnnexp.config.jobs import read
from fnnexp.config.messages import explain
from fnnexp.config.schema import CHOICES, Config, conf_folder, sweeps_folder
from fnnexp.config.trial import Trial
from fnnexp.data.datasets import Prepared
from fnnexp.errors import ConfigError, FnnexpError
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import MODES, Batching
from fnnexp.nn.pieces.initializers import Biases
from fnnexp.nn.pieces.schedules import Schedule
from fnnexp.nn.pieces.stopping import Stopping
from fnnexp.nn.training import Recipe
from fnnexp.results import frames

DATA = Prepared("made-up", "nowhere", "c" * 64, n_train=6000, n_test=1000, input_size=784, classes=10)
AS_MNIST = Prepared("made-up", "nowhere", "c" * 64, n_train=60000, n_test=10000, input_size=784, classes=10)
OPTIONS = sorted((file.parent.name, file.stem) for file in conf_folder().glob("*/*.yaml"))


@pytest.fixture(scope="module")
def shared_composition():
    """Return ``shared_composition()``: the context of one composition, the same for all tests.

    Hydra composes each option once, and fnnexp combines the options. Tests below show that combined jobs are
    equal to those that Hydra composes alone.
    """
    with composing() as composition:
        hydra = GlobalHydra.instance().hydra

    @contextmanager
    def again():
        with hydra_state_restored():
            GlobalHydra.instance().initialize(hydra)
            yield composition

    return again


@pytest.fixture(scope="module")
def job_of(shared_composition):
    """Return ``job_of(*overrides)``: the checked job of some overrides."""

    def job(*overrides):
        with shared_composition() as composition:
            return composition.job(overrides)

    return job


@pytest.fixture(scope="module")
def trial_of(job_of):
    """Return ``trial_of(*overrides)``: the trial of some overrides, on made-up data."""
    return lambda *overrides: resolve.trial(job_of(*overrides), DATA)


@pytest.fixture
def error_message(job_of):
    """Return ``error_message(*overrides)``: the error message for bad overrides."""

    def message(*overrides):
        try:
            job = job_of(*overrides)
        except ConfigError as error:
            return str(error)
        except (HydraException, OmegaConfBaseException) as error:
            return explain(error)
        raise AssertionError(f"{overrides} was accepted: {job}")

    return message


# --- the shipped configs ---


def test_the_required_options_are_shipped():
    assert {
        "arch": {"relu_100", "tanh_128", "sigmoid_32_32", "relu_98"},
        "init": {
            "max",
            "sqrtmax",
            "xavier",
            "he",
            "he2",
            "normal",
            "glorot_normal",
            "he_normal",
            "lecun_normal",
            "glorot_uniform",
            "he_uniform",
            "lecun_uniform",
            "uniform",
            "truncated_normal",
            "orthogonal",
            "zeros",
        },
        "batching": {"full", "mini", "sample"},
        "optimizer": {"sgd", "momentum", "adam", "nesterov", "adagrad", "rmsprop", "adamw"},
        "data": {"mnist", "fashion_mnist", "kmnist", "digits", "files", "moons", "circles", "spirals"},
        "loss": {"cross_entropy", "binary_cross_entropy", "mse"},
        "schedule": {"constant", "step", "exponential", "inverse_time", "linear", "cosine", "one_cycle"},
    } == {group: {name for folder, name in OPTIONS if folder == group} for group in CHOICES}


def test_frames_order_every_shipped_architecture():
    assert set(frames.ARCHS) == {name for folder, name in OPTIONS if folder == "arch"}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_composes_to_a_trial(group, option, job_of):
    job = job_of(f"{group}={option}")
    assert job.choices[group] == option
    trial = resolve.trial(job, AS_MNIST)
    assert trial.params.get(group, option) == option
    assert len(trial.id) == 16
    assert trial.recipe.architecture.inputs == 784
    assert all(std > 0 for std in trial.stds) or option == "zeros"


@pytest.mark.parametrize(
    ("sweep", "count"), [("card_grid", 3 * 4 * 3), ("demo", 3 * 4 * 3 * 10), ("init_grid", 8 * 5)]
)
def test_every_sweep_composes_to_its_number_of_trials(sweep, count, jobs_of):
    jobs = jobs_of(config=sweep)
    assert len(jobs) == count
    assert len({resolve.trial(job, DATA).id for job in jobs}) == count
    held_out = {"mnist": 5000, "digits": 237}
    assert all(job.config.data.validation == held_out[job.config.data.name] for job in jobs)


def test_every_shipped_sweep_is_tested():
    assert {file.stem for file in sweeps_folder().glob("*.yaml")} == {"card_grid", "demo", "init_grid"}


def test_card_grid_has_the_required_options(jobs_of):
    chosen = [job.choices for job in jobs_of(config="card_grid")]
    combinations = {(choices["arch"], choices["init"], choices["batching"]) for choices in chosen}
    assert combinations == {
        (arch, init, batching)
        for arch in ("relu_100", "tanh_128", "sigmoid_32_32")
        for init in ("max", "sqrtmax", "xavier", "he")
        for batching in ("full", "mini", "sample")
    }


def test_the_command_line_replaces_a_key_of_a_grid(jobs_of):
    jobs = jobs_of("epochs=1", "seed=range(5)", "init=max", config="card_grid")
    assert len(jobs) == 3 * 3 * 5
    assert {job.config.epochs for job in jobs} == {1}
    assert {job.config.seed for job in jobs} == {0, 1, 2, 3, 4}


def test_a_grid_omits_the_schedule_of_trials_that_do_not_train_and_keys_of_other_schedules(jobs_of):
    jobs = jobs_of("epochs=0,10", "schedule=cosine,linear", "schedule.end=0.5")
    assert [job.config.schedule.name for job in jobs] == ["constant", "constant", "cosine", "linear"]
    jobs = jobs_of("schedule=constant,cosine", "schedule.end=0.5")
    assert [job.config.schedule.end for job in jobs] == [None, 0.5]
    trials = [resolve.trial(job, DATA) for job in jobs]
    assert [trial.schedule and trial.schedule.parameters for trial in trials] == [None, (("end", 0.5),)]
    assert [trial.recipe.options for trial in trials] == [(), ("schedule",)]
    assert [trial.lane().schedule for trial in trials] == [trial.schedule for trial in trials]
    assert [trial.params.get("schedule.end") for trial in trials] == [None, 0.5]


@pytest.mark.parametrize("init", STDS)
@pytest.mark.parametrize("hidden", [[100], [32, 32], [1000]])
def test_an_initializer_has_its_closed_form_standard_deviation_in_every_layer(init, hidden, trial_of):
    widths = [784, *hidden, 10]
    expected = [STDS[init](n_in, n_out) for n_in, n_out in pairwise(widths)]
    assert trial_of(f"init={init}", f"arch.hidden={hidden}").stds == pytest.approx(expected, rel=1e-15)


ALIKE = {"data": "mnist", "data.validation": 0, "dtype": "float64", "arch.output_bias": "zeros"}
PRESETS = {
    "relu_full_batch": {
        "arch.hidden": [100],
        "arch.activation": "relu",
        "arch.hidden_bias": "normal",
        "arch.output_bias": "none",
        "init": "normal",
        "init.std": 1.0,
        "batching.mode": "full",
        "batching.shuffle": False,
        "optimizer": "sgd",
        "optimizer.lr": 1e-5,
        "loss.reduction": "sum",
        "loss.epsilon": 1e-12,
        "data.scale": "unit",
        "epochs": 50,
    },
    "tanh_mini_batch": {
        "arch.hidden": [128],
        "arch.activation": "tanh",
        "arch.hidden_bias": "zeros",
        "init": "normal",
        "init.std": 0.3,
        "batching.mode": "mini",
        "batching.size": 128,
        "batching.shuffle": True,
        "optimizer": "sgd",
        "optimizer.lr": 0.1,
        "loss.reduction": "mean",
        "loss.epsilon": 1e-10,
        "data.scale": "unit",
        "epochs": 50,
    },
    "sigmoid_per_sample": {
        "arch.hidden": [32, 32],
        "arch.activation": "sigmoid",
        "arch.hidden_bias": "zeros",
        "init": "sqrtmax",
        "batching.mode": "sample",
        "batching.shuffle": False,
        "optimizer": "sgd",
        "optimizer.lr": 0.003,
        "loss.reduction": "mean",
        "loss.epsilon": 0.0,
        "data.scale": "raw",
        "epochs": 3,
    },
    "relu98_full_batch": {
        "arch.hidden": [98],
        "arch.activation": "relu",
        "arch.hidden_bias": "zeros",
        "init": "normal",
        "init.std": 1.0,
        "batching.mode": "full",
        "batching.shuffle": False,
        "optimizer": "sgd",
        "optimizer.lr": 0.01,
        "loss.reduction": "mean",
        "loss.epsilon": 0.0,
        "data.scale": "unit",
        "epochs": 500,
        "dtype": "float32",
    },
}
PRESETS["tanh_mini_batch_as_published"] = PRESETS["tanh_mini_batch"] | {
    "arch.activation": "tanh_as_published"
}
PRESETS["relu98_full_batch_as_listed"] = PRESETS["relu98_full_batch"] | {
    "optimizer": "adam",
    "optimizer.lr": 0.001,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.epsilon": 1e-8,
}

PRESETS["nielsen_30"] = {
    "arch.hidden": [30], "arch.activation": "sigmoid", "init": "normal", "init.std": 1.0,
    "init.bias": "normal", "init.bias_scale": 1.0, "batching.mode": "mini", "batching.size": 10,
    "batching.shuffle": True, "optimizer": "sgd", "optimizer.lr": 3.0, "loss": "mse",
    "loss.output": "sigmoid",
    "data.scale": "unit", "data.validation": 10000, "dtype": "float32", "epochs": 30,
}  # fmt: skip
PRESETS["nielsen_100"] = PRESETS["nielsen_30"] | {"arch.hidden": [100]}
PRESETS["nielsen_100_ce_l2"] = PRESETS["nielsen_100"] | {
    "loss": "binary_cross_entropy", "loss.output": None, "regularization.l2": 5.0 / 50_000,
    "optimizer.lr": 0.5,
}  # fmt: skip
PRESETS["nielsen_100_ce_l2_60"] = PRESETS["nielsen_100_ce_l2"] | {"optimizer.lr": 0.1, "epochs": 60}
PRESETS["keras_mlp"] = {
    "arch.hidden": [512, 512], "arch.activation": "relu", "init": "glorot_uniform",
    "regularization.dropout": 0.2, "batching.mode": "mini", "batching.size": 128, "batching.shuffle": True,
    "optimizer": "rmsprop", "optimizer.lr": 0.001, "optimizer.rho": 0.9, "optimizer.epsilon": 1e-7,
    "dtype": "float32", "epochs": 20,
}  # fmt: skip
PRESETS["glorot_bengio_standard"] = {
    "arch.hidden": [100] * 5, "arch.activation": "tanh", "init": "lecun_uniform", "init.gain": 1 / 3**0.5,
    "batching.mode": "mini", "batching.size": 10, "batching.shuffle": True, "optimizer": "sgd",
    "optimizer.lr": 0.1, "data.validation": 10000, "dtype": "float32", "epochs": 5,
}  # fmt: skip
PRESETS["glorot_bengio_normalized"] = PRESETS["glorot_bengio_standard"] | {
    "init": "glorot_uniform",
    "init.gain": None,
}


@pytest.mark.parametrize("preset", [option for group, option in OPTIONS if group == "experiment"])
def test_a_preset_has_exactly_the_published_settings(preset, jobs_of):
    expected = ALIKE | PRESETS[preset]
    (job,) = jobs_of(f"experiment={preset}")
    trial = resolve.trial(job, AS_MNIST)
    assert {key: trial.params.get(key) for key in expected} == expected
    assert trial.params["experiment"] == preset


def test_any_depth_and_widths_are_accepted(trial_of):
    architecture = trial_of("arch.hidden=[64,32]", "arch.activation=tanh").recipe.architecture
    assert architecture.shapes == [(784, 64), (64, 32), (32, 10)]
    assert architecture.activation == "tanh"
    assert trial_of("arch.hidden=[]").recipe.architecture.shapes == [(784, 10)]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"])
def test_the_default_learning_rate_depends_on_the_batching_mode(optimizer, trial_of):
    trials = {mode: trial_of(f"optimizer={optimizer}", f"batching={mode}") for mode in MODES}
    steps = {mode: dict(trial.hyper)["lr"] for mode, trial in trials.items()}
    assert steps["full"] > steps["mini"] > steps["sample"] > 0
    assert dict(trial_of(f"optimizer={optimizer}", "optimizer.lr=0.25").hyper)["lr"] == 0.25


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("seed=3 seed_init=3 seed_order=3", "seed=3"),
        ("init.gain=1", ""),
        ("init.bias=constant init.bias_scale=0", ""),
    ],
)
def test_values_that_say_what_holds_anyway_do_not_change_the_id(words, same, trial_of):
    assert trial_of(*words.split()).id == trial_of(*same.split()).id
    assert trial_of(*words.split()).numbers_id == trial_of(*same.split()).numbers_id


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("init=lecun_normal", "init=xavier"),
        ("init=normal init.std=0.5 init.gain=2", "init=normal init.std=1"),
        ("init=he init.gain=0.5", "init=xavier"),
        ("seed=5 seed_init=3 seed_order=4", "seed=3 seed_order=4"),
        ("seed=5 seed_init=3 seed_order=3", "seed=3"),
        ("batching=full seed_init=3", "batching=full seed=3"),
        ("init=zeros seed_order=3", "init=zeros seed=3"),
    ],
)
def test_trials_that_draw_the_same_numbers_are_numerically_identical(words, same, trial_of):
    one, other = trial_of(*words.split()), trial_of(*same.split())
    assert one.numbers_id == other.numbers_id
    assert one.id != other.id


def test_uniform_weights_lie_between_the_bounds_times_the_gain(trial_of):
    lane = trial_of("init=uniform", "init.low=0", "init.high=0.2", "init.gain=3").lane()
    assert lane.distribution == "uniform"
    assert lane.mean == pytest.approx(0.3)
    assert lane.stds == pytest.approx((0.6 / 12**0.5,) * 2)


@pytest.mark.parametrize("words", ["init=uniform init.low=0", "schedule=cosine schedule.end=0"])
def test_minus_zero_is_zero(words, trial_of):
    group, value = words.split()
    assert trial_of(group, value.replace("=0", "=-0.0")).id == trial_of(group, value).id


# --- bad values ---

BAD = [
    (["arch=relu_10O"], ["arch=relu_10O", "relu_100, relu_98, sigmoid_32_32, tanh_128", "mean 'relu_100'?"]),
    (["init=hee"], ["init=hee", "glorot_normal", "xavier", "Did you mean 'he'?"]),
    (["batching=minni"], ["batching=minni", "full, mini, sample", "'mini'"]),
    (["optimizer=sdg"], ["optimizer=sdg", "adagrad, adam, adamw, momentum, nesterov, rmsprop, sgd", "'sgd'"]),
    (["data=mnits"], ["data=mnits", "files, kmnist, mnist, moons", "'mnist'"]),
    (["experiment=tanh_mini_bach"], ["experiment=tanh_mini_bach", "'tanh_mini_batch'"]),
    (["optimizer.lrr=1"], ["optimizer.lrr", "no such key", "optimizer.lr,", "'optimizer.lr'"]),
    (["epoch=1"], ["epoch", "no such key", "'epochs'"]),
    (["+epoch=1"], ["epoch", "no such key", "'epochs'"]),
    (["arch.activation=rellu"], ["arch.activation=rellu", "relu, ", "tanh_as_published", "'relu'"]),
    (["arch.activation=[relu,tanhh]", "arch.hidden=[3,2]"], ["arch.activation=tanhh", "'tanh'"]),
    (["arch.activation=[elu,tanh]"], ["2 names", "arch.hidden=[100] has 1 layer", "=elu,tanh with -m"]),
    (["arch.activation=[elu]", "arch.hidden=[3,2]"], ["1 name,", "2 layers", "write arch.activation=elu"]),
    (["arch.activation=[]"], ["arch.activation=[]", "one for each hidden layer", "arch.activation=relu"]),
    (["arch.activation=5"], ["arch.activation=5", "must be one name"]),
    (["arch.activation=null"], ["arch.activation=null", "must be one name"]),
    (["arch.activation=[relu,null]"], ["arch.activation=[relu,null]", "must be one name"]),
    (["arch.activation=[[elu,tanh],[relu]]"], ["write arch.activation=[elu,tanh],[relu] with -m"]),
    (["arch.slope=0.1"], ["arch.slope=0.1", "no meaning", "arch.activation=leaky_relu arch.slope=0.1"]),
    (["arch.hidden=[]", "arch.activation=leaky_relu", "arch.slope=0.1"], ["no meaning", "arch.hidden=[64]"]),
    (["arch.activation=leaky_relu", "arch.slope=1"], ["arch.slope=1.0", "from 0 to below 1"]),
    (["arch.activation=leaky_relu", "arch.slope=nan"], ["arch.slope=nan", "arch.slope=0.1"]),
    (["arch.activation=leaky_relu", "arch.slope=-0.1"], ["arch.slope=-0.1", "arch.slope=0.1"]),
    (["arch.activation=leaky_relu", "arch.slope=[0.1]"], ["arch.slope=[0.1]", "a number"]),
    (["arch.hidden_bias=ones"], ["arch.hidden_bias=ones", "zeros, normal, none"]),
    (["arch.output_bias=ones"], ["arch.output_bias=ones", "zeros, normal, none"]),
    (["arch.hidden=[64,0]"], ["arch.hidden", "0", "1 or more", "arch.hidden=[64,32]"]),
    (["arch.hidden=[a]"], ["arch.hidden", "a", "whole number"]),
    (["arch.hidden=64"], ["arch.hidden", "64", "list"]),
    (["init.method=magic"], ["init.method=magic", "he_normal"]),
    (["init.std=0.5"], ["init.std=0.5", "no meaning", "init=normal init.std="]),
    (["init=normal", "init.std=-1"], ["init.std=-1", "≥ 0"]),
    (["init=normal", "init.std=null"], ["init.std has no value", "init.std=0.3"]),
    (["init=truncated_normal", "init.std=null"], ["init.std has no value", "init.std=0.3"]),
    (["init.low=0"], ["init.low=0", "no meaning", "init=uniform init.low=-0.05"]),
    (["init=uniform", "init.high=null"], ["init.high has no value", "init.high=0.05"]),
    (["init=uniform", "init.low=1", "init.high=1"], ["init.low=1", "init.high=1", "low must be below high"]),
    (["init=uniform", "init.low=1e308", "init.high=1.7e308"], ["init.high=1.7e+308", "too large"]),
    (["init=normal", "init.std=10", "init.gain=1e308"], ["init.gain=1e+308", "infinite", "init.gain=2"]),
    (["init=uniform", "init.low=-inf"], ["init.low=-inf", "finite", "init.low=-0.05"]),
    (["init=uniform", "init.low=-1e308", "init.high=1e308"], ["init.low=-1e+308", "too large"]),
    (["init.gain=0"], ["init.gain=0", "above 0", "init.gain=2"]),
    (["init.gain=inf"], ["init.gain=inf", "finite"]),
    (["init=zeros", "init.gain=2"], ["init.gain=2", "no meaning with init=zeros"]),
    (["init.bias=ones"], ["init.bias=ones", "constant, normal, uniform"]),
    (["init.bias=normal"], ["init.bias_scale has no value", "init.bias=normal init.bias_scale=0.1"]),
    (["init.bias=normal", "init.bias_scale=0"], ["init.bias_scale=0", "above 0"]),
    (["init.bias=constant", "init.bias_scale=nan"], ["init.bias_scale=nan", "finite"]),
    (["init.bias_scale=1"], ["init.bias_scale=1", "no meaning", "init.bias=constant"]),
    (
        ["init.bias=uniform", "arch.hidden_bias=normal", "arch.output_bias=none"],
        ["init.bias=uniform", "no meaning", "arch.hidden_bias=zeros"],
    ),
    (["seed_init=-1"], ["seed_init=-1", "0 or more"]),
    (["seed_order=9223372036854775808"], ["seed_order=9223372036854775808", "below 2**63"]),
    (["seed_split=1.5"], ["seed_split=1.5", "whole number"]),
    (["batching=full", "seed_order=1"], ["seed_order=1", "no meaning", "batching.shuffle=true"]),
    (["seed_noise=1"], ["seed_noise=1", "no meaning", "regularization.dropout="]),
    (["init=zeros", "seed_init=1"], ["seed_init=1", "no meaning", "init=he"]),
    (["batching.size=0"], ["batching.size=0", "1 or more", "batching.size=128"]),
    (["batching.size=1.5"], ["batching.size=1.5", "whole number"]),
    (["batching=full", "batching.size=10"], ["batching.size=10", "no meaning", "batching=mini"]),
    (["batching=full", "batching.shuffle=true"], ["batching.shuffle=true", "omit batching.shuffle"]),
    (["batching.shuffle=maybe"], ["batching.shuffle", "maybe", "true or false"]),
    (["optimizer.lr=abc"], ["optimizer.lr=abc", "a number"]),
    (["optimizer.lr=nan"], ["optimizer.lr=nan", "finite"]),
    (["optimizer.lr=inf"], ["optimizer.lr=inf", "finite"]),
    (["optimizer.lr=-0.1"], ["optimizer.lr=-0.1", "≥ 0"]),
    (["optimizer.momentum=0.9"], ["optimizer.momentum=0.9", "no meaning", "optimizer=momentum"]),
    (["optimizer=momentum", "optimizer.momentum=1"], ["optimizer.momentum=1", "below 1"]),
    (["optimizer=adam", "optimizer.beta2=1"], ["optimizer.beta2=1", "below 1"]),
    (["optimizer=adam", "optimizer.epsilon=-1"], ["optimizer.epsilon=-1", "≥ 0"]),
    (["optimizer.clip_norm=0"], ["optimizer.clip_norm=0", "> 0", "omit it"]),
    (["regularization.l2=-1"], ["regularization.l2=-1", "≥ 0"]),
    (["regularization.l1=nan"], ["regularization.l1=nan", "finite"]),
    (["regularization.max_norm=inf"], ["regularization.max_norm=inf", "finite"]),
    (["regularization.dropout=1.0"], ["regularization.dropout=1.0", "below 1", "regularization.dropout=0.5"]),
    (["regularization.dropout='0.5'"], ["regularization.dropout='0.5': must be one number"]),
    (["regularization.dropout=[0.5,null]"], ["regularization.dropout=[0.5,null]"]),
    (["regularization.dropout=true"], ["regularization.dropout=True", "one number, or a list"]),
    (["regularization.dropout=[0.5,a]"], ["regularization.dropout=[0.5,'a']", "one number, or a list"]),
    (["regularization.dropout=[0.5]"], ["1 rate", "2 are needed", "regularization.dropout=[0.2,0.5]"]),
    (
        ["arch.hidden=[]", "regularization.dropout=0.5"],
        ["regularization.dropout=0.5", "no hidden layer", "regularization.dropout=[0.5]"],
    ),
    (["optimizer=rmsprop", "optimizer.rho=1"], ["optimizer.rho=1", "below 1", "optimizer.rho=0.9"]),
    (["optimizer=adamw", "optimizer.weight_decay=-1"], ["optimizer.weight_decay=-1", "≥ 0"]),
    (["optimizer.weight_decay=0.1"], ["no meaning", "optimizer=adamw optimizer.weight_decay="]),
    (["optimizer=nesterov", "optimizer.rho=0.5"], ["no meaning", "optimizer=rmsprop optimizer.rho="]),
    (["schedule=cosin"], ["schedule=cosin", "one_cycle", "'cosine'"]),
    (["schedule.name=cosin"], ["schedule.name=cosin", "one_cycle", "'cosine'"]),
    (["schedule.warmup=10"], ["schedule.warmup=10", "below epochs=10", "schedule.warmup=1"]),
    (["schedule.warmup=-1"], ["schedule.warmup=-1", "≥ 0"]),
    (["schedule.warmup=nan"], ["schedule.warmup=nan", "finite"]),
    (["schedule=step", "schedule.every=10"], ["schedule.every=10", "below 10", "schedule.every=5"]),
    (["schedule=step", "schedule.every=0"], ["schedule.every=0", "above 0"]),
    (
        ["schedule=step", "schedule.warmup=8"],
        ["schedule.every=3", "below 2, the epochs after the warmup", "schedule.every=1"],
    ),
    (["schedule=step", "schedule.gamma=1"], ["schedule.gamma=1", "changes nothing", "schedule=constant"]),
    (["schedule=exponential", "schedule.gamma=-1"], ["schedule.gamma=-1", "above 0"]),
    (["schedule=exponential", "schedule.gamma=[0.5]"], ["schedule.gamma=[0.5]", "a number"]),
    (["schedule=inverse_time", "schedule.rate=0"], ["schedule.rate=0", "changes nothing"]),
    (["schedule=inverse_time", "schedule.rate=-1"], ["schedule.rate=-1", "finite"]),
    (["schedule=cosine", "schedule.end=-0.1"], ["schedule.end=-0.1", "≥ 0"]),
    (["schedule=linear", "schedule.end=1"], ["schedule.end=1", "changes nothing"]),
    (["schedule=one_cycle", "schedule.peak=1"], ["schedule.peak=1", "above 1", "schedule.peak=10"]),
    (["schedule=one_cycle", "schedule.rise=1"], ["schedule.rise=1", "between 0 and 1"]),
    (["schedule=one_cycle", "schedule.end=5"], ["schedule.end=5", "below schedule.peak=5"]),
    (["schedule=cosine", "schedule.gamma=0.5"], ["no meaning", "schedule=step schedule.gamma="]),
    (["schedule=step", "schedule.gamma=null"], ["schedule.gamma has no value", "schedule=step"]),
    (["schedule.name=cosine"], ["schedule.end has no value", "schedule=cosine schedule.end="]),
    (["optimizer=nesterov", "optimizer.momentum=null"], ["optimizer=nesterov optimizer.momentum="]),
    (["schedule=cosine", "epochs=0"], ["schedule=cosine", "epochs=0", "trains nothing"]),
    (["loss.reduction=median"], ["loss.reduction=median", "mean, sum"]),
    (["loss.epsilon=-1"], ["loss.epsilon=-1", "≥ 0"]),
    (["loss=mse", "loss.epsilon=1e-7"], ["loss.epsilon=1e-07", "no meaning", "loss=cross_entropy"]),
    (["experiment=tanh_mini_batch", "loss=mse"], ["loss.epsilon=1e-10", "write loss.epsilon=0"]),
    (["loss=msee"], ["loss", "msee", "cross_entropy, mse", "'mse'"]),
    (["loss.name=msee"], ["loss.name=msee", "binary_cross_entropy, mse", "'mse'"]),
    (["loss.name=mse"], ["loss.output has no value", "loss=mse loss.output=sigmoid, or softmax or identity"]),
    (["loss.output=sigmoid"], ["loss.output=sigmoid", "no meaning", "loss=mse"]),
    (["loss=binary_cross_entropy", "loss.output=softmax"], ["loss.output=softmax", "no meaning", "loss=mse"]),
    (["loss=mse", "loss.output=softmx"], ["loss.output=softmx", "sigmoid, softmax, identity", "'softmax'"]),
    (["loss.label_smoothing=1"], ["loss.label_smoothing=1", "below 1", "loss.label_smoothing=0.1"]),
    (["loss.label_smoothing=-0.1"], ["loss.label_smoothing=-0.1", "≥ 0"]),
    (["loss.label_smoothing=nan"], ["loss.label_smoothing=nan", "finite"]),
    (["loss.label_smoothing=[0.1]"], ["loss.label_smoothing", "0.1"]),
    (["stopping.patience=0"], ["stopping.patience=0", "1 or more", "stopping.patience=5"]),
    (["stopping.patience=2.5"], ["stopping.patience=2.5", "whole number"]),
    (["stopping.patience=3.0"], ["stopping.patience=3.0", "whole number", "write stopping.patience=3"]),
    (["stopping.patience=3", "epochs=0"], ["no meaning with epochs=0", "stopping.patience=null"]),
    (["stopping.patience=3", "stopping.min_delta=-1"], ["stopping.min_delta=-1", "≥ 0"]),
    (["stopping.patience=3", "stopping.min_delta=nan"], ["stopping.min_delta=nan", "finite"]),
    (["stopping.min_delta=0.1"], ["stopping.min_delta=0.1", "no meaning", "stopping.patience=5"]),
    (["stopping.metric=train_loss"], ["stopping.metric=train_loss", "no meaning", "stopping.patience=5"]),
    (["stopping.metric=val_los"], ["stopping.metric=val_los", "train_accuracy", "'val_loss'"]),
    (["stopping.metric=test_loss"], ["test rows must not decide", "write stopping.metric=val_loss"]),
    (["data.scale=bits"], ["data.scale=bits", "unit, raw, center, standardize"]),
    (["data.validation=-1"], ["data.validation=-1", "0 or more"]),
    (["data.subset=0"], ["data.subset=0", "1 or more", "data.subset=1000"]),
    (["data.subset=0.5"], ["data.subset=0.5", "whole number"]),
    (["data.label_noise=1"], ["data.label_noise=1", "from 0 to below 1", "data.label_noise=0.1"]),
    (["data.label_noise=-0.1"], ["data.label_noise=-0.1", "from 0 to below 1"]),
    (["data.label_noise=nan"], ["data.label_noise=nan", "from 0 to below 1"]),
    (["data.label_noise=[0.1]"], ["data.label_noise", "[0.1]"]),
    (["data.label_noise=null"], ["data.label_noise=null", "must have a value"]),
    (["seed_split=-1"], ["seed_split=-1", "0 or more"]),
    (["seed_split=x"], ["seed_split=x", "whole number"]),
    (["dtype=float16"], ["dtype=float16", "float32, float64"]),
    (["epochs=-1"], ["epochs=-1", "0 or more", "epochs=10"]),
    (["epochs=1.5"], ["epochs=1.5", "whole number"]),
    (["epochs=null"], ["epochs=null", "must have a value", "write epochs=VALUE"]),
    (["seed=1.5"], ["seed=1.5", "whole number"]),
    (["seed=-1"], ["seed=-1", "0 or more"]),
    (["seed=100000000000000000000"], ["seed=100000000000000000000", "below 2**63"]),
    (["execution.n_jobs=0"], ["execution.n_jobs=0", "-1 for one per core"]),
    (["execution.backend=celery"], ["execution.backend=celery", "loky"]),
    (["execution.max_lanes=0"], ["execution.max_lanes=0", "1 or more"]),
    (["execution.memory=4"], ["memory=4: the size has no unit", "MB, GB, TB", "execution.memory=4GB"]),
    (["execution.memory=-1"], ["execution.memory=-1: must be above 0", "execution.memory=4GB"]),
    (["execution.memory=0"], ["execution.memory=0: must be above 0", "execution.memory=4GB"]),
    (["execution.memory=4kb"], ["execution.memory=4kb: kb is not a unit", "MB, GB, TB"]),
    (["execution.segment_seconds=-1"], ["execution.segment_seconds=-1", "≥ 0"]),
    (["execution.retries=-1"], ["execution.retries=-1", "0 or more"]),
    (["execution.fail_fast=perhaps"], ["execution.fail_fast=perhaps"]),
    (["~arch.activation"], ["arch.activation", "does not support deletion"]),
    (["arch.hidden=???"], ["arch.hidden has no value", "arch.hidden=…"]),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "fragments"), BAD, ids=[" ".join(overrides) for overrides, _ in BAD])
def test_a_bad_value_is_refused_with_the_value_and_the_allowed_values(overrides, fragments, error_message):
    message = error_message(*overrides)
    assert [text for text in fragments if text not in message] == [], message
    assert "Traceback" not in message
    assert "object_type" not in message


@pytest.mark.parametrize(
    "words",
    ["init=hee", "epochs=1.5", "seed=-1", "init.std=0.5", "batching=full batching.size=10", "epoch=1"],
)
def test_a_command_is_refused_with_the_message_of_its_job(words, error_message, jobs_of):
    with pytest.raises(ConfigError) as refused:
        jobs_of(*words.split())
    assert str(refused.value) == error_message(*words.split())


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ("", 5000),
        ("data=digits", 237),
        ("data=files data.path=mine.npz", 1000),
        ("data=mnist,digits seed=0,1", 5000),
        ("data.holdout=70", 70),
        ("data=digits data.holdout=null", 1000),
        ("data.validation=null", 1000),
        ("data.validation=0", 0),
        ("data.validation=7 data.holdout=70", 7),
    ],
)
def test_the_default_holds_out_the_rows_of_the_data_option_or_a_sixth(words, rows, jobs_of):
    first = resolve.trial(jobs_of(*words.split())[0], DATA)
    assert first.recipe.validation == first.params["data.validation"] == rows
    assert first.config["data"]["validation"] == rows


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy"])
def test_early_stopping_by_validation_rows_is_refused_without_any(metric, jobs_of):
    patience, without = "stopping.patience=3", "data.validation=0"
    by_training = f"stopping.metric={metric.replace('val', 'train')}"
    message = (
        f"stopping.patience=3 with stopping.metric={metric} needs validation rows, but data.validation=0; "
        f"write data.validation=5000, or {by_training}"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        resolve.trial(jobs_of(patience, f"stopping.metric={metric}", without)[0], DATA)
    trial = resolve.trial(jobs_of(patience, by_training, without)[0], DATA)
    assert trial.recipe.stopping == Stopping(3, 0.0, metric.replace("val", "train"))


def test_a_value_of_early_stopping_that_means_the_same_gives_the_same_trial(trial_of):
    trial = trial_of("stopping.patience=3")
    assert trial.params["stopping.patience"] == 3
    for same in ("stopping.min_delta=-0.0", "stopping.min_delta=0", "stopping.metric=val_loss"):
        assert trial_of("stopping.patience=3", same).id == trial.id
    assert trial_of("stopping.patience=null").id == trial_of().id
    assert not [key for key in trial_of().params if key.startswith("stopping")]


def test_the_default_hold_out_gives_the_same_trial_as_the_same_number_written_out(trial_of):
    assert (
        trial_of().id == trial_of("data.validation=${data.holdout}").id == trial_of("data.validation=5000").id
    )
    assert trial_of().id != trial_of("data.validation=0").id


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_holds_out_only_the_rows_that_its_publication_does(preset, jobs_of):
    (job,) = jobs_of(f"experiment={preset}")
    held_out = PRESETS[preset].get("data.validation", 0)
    assert resolve.trial(job, AS_MNIST).recipe.validation == held_out


def test_a_users_data_option_may_set_the_held_out_rows(own_trials):
    """The file of `data=held` sets `holdout`, and the file of `data=mine` does not."""
    assert own_trials("data=mine")[0].recipe.validation == DATA.n_train // 6
    assert own_trials("data=held")[0].recipe.validation == 40
    assert own_trials("data=held", "data.validation=0")[0].recipe.validation == 0


def test_a_subset_must_fit_into_the_rows_that_are_not_held_out(jobs_of):
    for words in (["data.subset=1001"], ["data.subset=1000", "data.label_noise=0.1"], ["data.subset=1"]):
        (job,) = jobs_of("data.validation=5000", *words)
        if words != ["data.subset=1001"]:
            assert resolve.trial(job, DATA).recipe.rows_to_train(6000) == int(words[0].partition("=")[2])
            continue
        with pytest.raises(ConfigError, match=r"data\.subset=1001: made-up has 6000 .* data\.subset=1000"):
            resolve.trial(job, DATA)


@pytest.mark.parametrize(
    ("same", "as_this"),
    [
        ("data.subset=1000 seed_split=3 data.validation=5000", "data.validation=5000 seed_split=3"),
        ("data.subset=6000 data.validation=0", "data.validation=0"),
        ("data.label_noise=0 data.subset=null", ""),
        ("data.validation=0 seed_split=3", "data.validation=0"),
        ("data.validation=0 data.subset=6000 seed_split=3", "data.validation=0"),
        ("data.validation=0 data.subset=9 seed_split=0", "data.validation=0 data.subset=9"),
    ],
)
def test_values_that_choose_the_same_rows_give_the_same_trial(same, as_this, trial_of):
    assert trial_of(*same.split()).id == trial_of(*as_this.split()).id


def test_each_choice_of_rows_and_labels_is_another_trial_with_its_own_name(trial_of):
    words = ["", "seed_split=0", "seed_split=1", "data.subset=9", "data.label_noise=0.1",
             "data.validation=0 data.label_noise=0.1 seed_split=1", "data.scale=center", "data.scale=raw",
             "data.scale=standardize"]  # fmt: skip
    trials = [trial_of(*word.split()) for word in words]
    assert len({trial.id for trial in trials}) == len({trial.name for trial in trials}) == len(words)
    assert trials[1].params["seed_split"] == 0
    without_use = trial_of("data.validation=0", "seed_split=3")
    assert "seed_split" not in without_use.params
    assert "seed_split" not in without_use.name


@pytest.mark.parametrize("rows", [1, 2, 5, 6])
def test_a_sixth_of_fewer_than_six_rows_is_none(rows, jobs_of):
    few = replace(DATA, n_train=rows)
    (job,) = jobs_of("data=files", "data.path=mine.npz")
    assert resolve.trial(job, few).recipe.validation == rows // 6


def test_holding_out_all_rows_is_refused(jobs_of):
    (job,) = jobs_of("data.validation=6000")
    with pytest.raises(ConfigError, match=r"data\.validation=6000: made-up has 6000 training rows"):
        resolve.trial(job, DATA)


# --- our fast composition equals Hydra's ---

VALUES = [
    "epochs=3",
    "seed=7",
    "dtype=float64",
    "optimizer.lr=0.125",
    "batching.size=32",
    "arch.hidden=[64,32]",
    "arch.activation=tanh",
    "loss={reduction:sum,epsilon:1e-7}",
    "data.validation=${data.holdout}",
    "optimizer.lr_for.mini=0.5",
    "init.std=${seed}",
    "tracking.experiment='a b'",
    "execution.max_lanes=null",
    "optimizer.lr_for={full:1,mini:2}",
]
ADDITIONS = ["+optimizer.momentum=0.5", "++epochs=4", "+init.std=0.25", "++arch.hidden=[5]", "~tracking.uri"]
CHANGES = ["~optimizer.lr_for", "~batching.shuffle", "batching.shuffle=false", "~experiment"]
GROUPS = ["arch=tanh_128", "init=normal", "batching=sample", "batching=full", "optimizer=adam", "data=digits"]
EXPERIMENTS = [f"experiment={option}" for group, option in OPTIONS if group == "experiment"]
EVERYTHING = VALUES + ADDITIONS + CHANGES + GROUPS + EXPERIMENTS


def key_of(override):
    return override.lstrip("+~").split("=")[0]


def loader_with(files, folder):
    """Write a user's configs; return Hydra's own loader of these and of fnnexp's, as with `-cd`."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    search_path = create_config_search_path(str(folder))
    for shipped in (conf_folder(), sweeps_folder()):
        search_path.prepend("fnnexp", f"file://{shipped.as_posix()}", anchor="schema")
    return ConfigLoaderImpl(search_path)


def swept(loader, config_name, words):
    """Return the config that Hydra composes for a command line, and the overrides of each of its jobs."""
    master = loader.load_configuration(config_name, [*UNUSED, *words], RunMode.MULTIRUN)
    overrides = OmegaConf.to_container(master.hydra.overrides.task)
    parsed = OverridesParser.create(loader).parse_overrides(overrides)
    return master, BasicSweeper.split_arguments(parsed, None)[0]


def our_choices(composed):
    """Return the options of fnnexp's and the user's groups that Hydra chose, without Hydra's own groups."""
    choices = dict(composed.hydra.runtime.choices)
    return {group: option for group, option in choices.items() if not group.startswith("hydra/")}


def read_by_hydra(loader, master, overrides):
    """Return a job, read from Hydra's composition of this job alone."""
    composed = loader.load_sweep_config(master, list(overrides))
    choices = our_choices(composed)
    without_hydra = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    return read(without_hydra, choices, overrides)


def composed_by_hydra(loader, master, overrides):
    """Return Hydra's config, resolved and unresolved, and the choices; or the message for its error."""
    try:
        composed = loader.load_sweep_config(master, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        return explain(error)
    choices = our_choices(composed)
    return container({key: composed._get_node(key) for key in composed if key != "hydra"}), choices


def composed_by_fnnexp(overrides, composition):
    try:
        composed = composition.composed(list(overrides))
    except ConfigError as error:
        return str(error)
    config = composed.config
    return container({key: config._get_node(key) for key in config}), dict(composed.choices)


def composing(config_name="config", words=(), folder=None):
    """Return the context in which fnnexp composes a command."""
    return composing_command(Command(config_name, tuple(words), folder, multirun=True))


def forget_combinations(composition):
    """Let fnnexp combine the options anew; it keeps only what Hydra composed for a whole set of options."""
    composition._combinations._known.clear()
    for family in composition._combinations._families.values():
        family.first = None
        family.nodes.clear()


@pytest.mark.parametrize("words", [("loss=mse", "~loss"), ("~schedule",), ("schedule=cosine", "~schedule")])
def test_a_grid_of_one_job_with_a_deletion_is_that_job(words):
    (alone,), (job,) = (
        compose.jobs_of(Command(overrides=words, multirun=multirun)) for multirun in (False, True)
    )
    assert (job.choices, job.overrides) == (alone.choices, alone.overrides)
    assert resolve.trial(job, DATA) == resolve.trial(alone, DATA)


def assert_jobs_equal_hydras(loader, master, jobs, command):
    """Compare in both orders: fnnexp makes later jobs from the first, and Hydra composes each anew."""
    hydra_job = cache(partial(read_by_hydra, loader, master))
    for ordered in (jobs, jobs[::-1]):
        by_hydra = until_error(hydra_job(tuple(job)) for job in ordered)
        with command() as composition:
            forget_combinations(composition)
            assert until_error(map(composition.job, ordered)) == by_hydra


def container(nodes):
    return {
        str(key): repr(OmegaConf.to_container(node) if OmegaConf.is_config(node) else node._value())
        for key, node in nodes.items()
    }


@pytest.fixture(scope="module")
def master(loader):
    """Return the config that Hydra composes before it expands a grid."""
    return loader.load_configuration("config", [], RunMode.MULTIRUN)


@pytest.fixture(scope="module")
def master_without_help(loader):
    """Return this config without Hydra's own groups that no job needs; Hydra then composes jobs faster.

    The tests with ``master`` show that the jobs are the same.
    """
    return loader.load_configuration("config", list(UNUSED), RunMode.MULTIRUN)


@pytest.mark.parametrize("override", EVERYTHING)
def test_a_single_override_composes_as_in_hydra(override, loader, master, shared_composition):
    with shared_composition() as composition:
        composed = composed_by_fnnexp([override], composition)
    assert composed == composed_by_hydra(loader, master, [override])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overrides=st.lists(st.sampled_from(EVERYTHING), min_size=2, max_size=6, unique_by=key_of))
def test_any_overrides_compose_as_in_hydra(overrides, loader, master, shared_composition):
    with shared_composition() as composition:
        forget_combinations(composition)
        assert composed_by_fnnexp(overrides, composition) == composed_by_hydra(loader, master, overrides)


def test_jobs_composed_together_do_not_share_state(loader):
    many = [["seed=1"], ["optimizer.lr_for.mini=9"], ["seed=2", "optimizer=adam"], [], ["arch.hidden=[3]"]]
    with composing("card_grid") as composition:
        together = [composed_by_fnnexp(overrides, composition) for overrides in many]
    apart = []
    for overrides in many:
        with composing("card_grid") as composition:
            apart.append(composed_by_fnnexp(overrides, composition))
    assert together == apart


GRIDS = {
    "all options": {
        "arch": "relu_100,tanh_128",
        "init": "max,sqrtmax,he",
        "batching": "full,sample",
    },
    "presets, which choose options of other groups": {
        "experiment": "relu_full_batch,tanh_mini_batch",
        "init": "he,xavier",
        "batching": "full,mini",
    },
    "values between the choices": {"optimizer": "sgd,adam", "optimizer.lr": "0.5,0.25", "init": "he,max"},
    "an addition": {"optimizer": "momentum,adam", "+optimizer.nesterov": "null", "init": "he,max"},
    "a preset for all": {"experiment": "tanh_mini_batch", "init": "he,normal", "optimizer": "adam,sgd"},
    "a group that is deleted": {"~batching": "mini,mini", "optimizer": "sgd,adam", "init": "he,max"},
    "a deleted option": {"loss": "mse,cross_entropy", "~loss": "null,null", "init": "he,max"},
}


def jobs_in(grid):
    axes = [[f"{key}={value}" for value in values.split(",")] for key, values in grid.items()]
    return [list(job) for job in itertools.product(*axes)]


def assert_compositions_equal_hydras(loader, master, jobs, command):
    """Compare in both orders: fnnexp combines earlier compositions, and Hydra composes each job anew."""
    by_hydra = {tuple(job): composed_by_hydra(loader, master, job) for job in jobs}
    with command as composition:
        for ordered in (jobs, jobs[::-1]):
            forget_combinations(composition)
            for overrides in ordered:
                assert composed_by_fnnexp(overrides, composition) == by_hydra[tuple(overrides)], overrides


@pytest.mark.parametrize("grid", GRIDS)
def test_each_job_of_a_grid_composes_as_in_hydra(grid, loader, master_without_help, shared_composition):
    assert_compositions_equal_hydras(loader, master_without_help, jobs_in(GRIDS[grid]), shared_composition())


DEPENDENT = {
    "a default that depends on another choice": {
        "mine.yaml": "defaults: [config, {override arch: 'by_${batching}'}, _self_]",
        "arch/by_full.yaml": "{hidden: [3], activation: relu}",
        "arch/by_mini.yaml": "{hidden: [4], activation: tanh}",
    },
    "an option composed of others": {
        "mine.yaml": "defaults: [config, _self_]",
        "batching/mini.yaml": "defaults: [sample]\nmode: mini\nsize: 9",
    },
    "an option that writes into another node": {
        "mine.yaml": "defaults: [config, _self_]",
        "batching/mini.yaml": "# @package _global_\nbatching: {mode: mini, size: 9}\ninit: {std: 0.125}",
    },
    "a config with values for the nodes of groups": {
        "mine.yaml": "defaults: [config, more, _self_]\nbatching: {shuffle: false}\noptimizer: {lr: 0.5}",
        "more.yaml": "# @package optimizer.lr_for\nmini: 7",
    },
    "a list of options that name another choice": {
        "mine.yaml": "defaults: [config, {extra: [a]}, _self_]",
        "extra/a.yaml": "# @package _global_\ndefaults: [{override /init: 'by_${batching}'}]",
        "init/by_full.yaml": "method: he",
        "init/by_mini.yaml": "method: max",
    },
    "an optional config that names another choice": {
        "mine.yaml": "defaults: [config, {optional extra: a}, _self_]",
        "extra/a.yaml": "# @package _global_\ndefaults: [{override /init: 'by_${batching}'}]",
        "init/by_full.yaml": "method: he",
        "init/by_mini.yaml": "method: max",
    },
    "a config in a package that names another choice": {
        "mine.yaml": "defaults: [config, {extra@_global_: a}, _self_]",
        "extra/a.yaml": "defaults: [{override /init: 'by_${batching}'}]",
        "init/by_full.yaml": "method: he",
        "init/by_mini.yaml": "method: max",
    },
    "a node given whole to a group": {
        "mine.yaml": "defaults: [config, {override batching: full}, _self_]",
        "batching/mini.yaml": "{mode: mini, size: 7}",
    },
    "an option of another type": {
        "mine.yaml": "defaults: [config, override batching: full, _self_]",
        "batching/mini.yaml": "{mode: mini, size: nine}",
    },
    "a config of two groups": {
        "mine.yaml": "defaults: [config, {override init: 'from_${batching}_${optimizer}'}, _self_]",
        **{f"init/from_{b}_{o}.yaml": f"{{method: normal, std: 0.{i}}}" for i, (b, o) in enumerate(
            itertools.product(("full", "mini"), ("sgd", "adam")), start=1)},
    },
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("case", DEPENDENT)
def test_options_that_depend_on_each_other_are_left_to_hydra(case, tmp_path):
    loader = loader_with(DEPENDENT[case], tmp_path)
    master = loader.load_configuration("mine", list(UNUSED), RunMode.MULTIRUN)
    grid = {"batching": "full,mini", "optimizer": "sgd,adam"}
    assert_compositions_equal_hydras(loader, master, jobs_in(grid), composing("mine", folder=tmp_path))


SETTINGS = {
    "seeds": {"arch": "relu_100,tanh_128", "batching": "full,mini", "seed": "0,1,2"},
    "several top-level keys": {
        "seed": "3,1",
        "epochs": "2,5",
        "dtype": "float64,float32",
        "optimizer.lr": "1,.5",
    },
    "a value that others refer to": {"seed": "3,4", "epochs": "1,2", "init.std": "${seed}", "init": "normal"},
    "a value that refers": {"seed": "1,${epochs},2", "epochs": "5,6"},
    "a value given twice": {"seed": "1,2", "epochs": "3,4", "++seed": "7"},
    "values shared by all jobs": {
        "epochs": "3",
        "optimizer": "sgd,adam",
        "optimizer.lr": ".5",
        "seed": "1,2",
    },
    "a value set and deleted": {"optimizer.lr_for.mini": "1,2", "~optimizer.lr_for": "null,null"},
    "values of other types": {"seed": "1,2", "epochs": "3.0,4", "dtype": "float32,'float64'"},
    "a node and a value in it": {"loss": "{reduction:sum},{epsilon:1e-3}", "loss.epsilon": "0.5,0.25"},
}


@pytest.mark.parametrize("grid", SETTINGS)
def test_each_job_of_a_grid_equals_the_job_read_from_hydras_composition(
    grid, loader, master_without_help, shared_composition
):
    assert_jobs_equal_hydras(loader, master_without_help, jobs_in(SETTINGS[grid]), shared_composition)


OWN = {
    "a default that another choice names": (
        {
            "mine.yaml": "defaults: [config, _self_]",
            "init/from_full.yaml": "{method: normal, std: 0.5}",
            "init/from_mini.yaml": "{method: normal, std: 0.25}",
        },
        ["batching=full,mini", "init='from_${batching}'", "seed=1,2"],
    ),
    "a choice that only the sweep makes": (
        {"mine.yaml": "defaults: [config, {override init: '???'}, _self_]"},
        ["init=he,max", "seed=1,2"],
    ),
    "a choice that is missing, also in the sweep": (
        {"mine.yaml": "defaults: [config, {override init: '???'}, _self_]"},
        ["optimizer=sgd,adam", "seed=1,2"],
    ),
    "a choice of a user's group that only the sweep makes": (
        {
            "mine.yaml": "defaults: [config, step: '???', _self_]",
            "step/long.yaml": "# @package optimizer\nlr: 1",
            "step/short.yaml": "# @package optimizer\nlr: 0.5",
        },
        ["step=long,short", "optimizer=sgd,adam", "seed=1,2"],
    ),
    "a reference whose name is a value": (
        {
            "mine.yaml": "defaults: [config, {override init: normal}, _self_]\n"
            "init: {std: '${${tracking.experiment}}'}\ntracking: {experiment: epochs}"
        },
        ["epochs=1,2", "seed=3,4"],
    ),
    "a reference that a resolver builds from a value": (
        {
            "mine.yaml": "defaults: [config, {override init: normal}, _self_]\n"
            "init: {std: '${oc.select:${tracking.experiment}}'}\ntracking: {experiment: seed}"
        },
        ["epochs=1,2", "seed=3,4"],
    ),
    "a file named twice": (
        {"mine.yaml": "defaults: [config, fnnexp_schema, _self_]"},
        ["init=he,normal", "seed=1,2"],
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("case", OWN)
def test_each_job_of_a_users_configs_composes_as_in_hydra(case, tmp_path):
    files, words = OWN[case]
    loader = loader_with(files, tmp_path)
    command = partial(composing, "mine", words, tmp_path)
    assert_jobs_equal_hydras(loader, *swept(loader, "mine", words), command)
    with command() as composition:
        assert_jobs_made_from_templates_are_as_composed(composition)


def assert_jobs_made_from_templates_are_as_composed(composition):
    """Compare a grid's jobs with those composed one by one, which other tests compare with Hydra's."""
    one_by_one = until_error(
        composition._composed_job([setting.line for setting in job], {}) for job in composition._grid or ()
    )
    made = until_error(composition.jobs())
    assert [repr(job) for job in made[: len(one_by_one)]] == [repr(job) for job in one_by_one]


TEMPLATES = {
    "numbers, texts and lists": "data.label=3,first arch.hidden=[4],[],[2,3] optimizer.lr=0.1,-0.0,0,'1'",
    "null and lists for one key": "regularization.dropout=0,[0.1,0.2],0.5 seed_noise=null,1 seed=range(2)",
    "values that references read": "data.holdout=10,20 batching.mode=sample,full seed=0,1 data.subset=null,9",
    "values without a meaning": "batching=full,mini batching.size=32,64 seed_order=null,1 seed=0,1",
    "values of an option": "optimizer=sgd,momentum,adam optimizer.momentum=0.5,0.9 optimizer.lr=0.1 seed=0,1",
    "a node and its keys": "regularization={l2:0.1},{l1:0.2} regularization.l2=0,0.3 seed=0,1",
    "a key inside of a value": "optimizer.lr_for.mini=0.1,0.2 optimizer.lr_for.full=1 seed=0,1",
    "references in values": "seed=${epochs},3 epochs=1,2 seed_order=${.seed},null",
    "a preset": "experiment=nielsen_30,keras_mlp seed=0,1 optimizer.lr=0.1,0.2 epochs=1,0",
    "a wrong type in a later job": "seed=0,1,x epochs=1,2",
    "an impossible value in a later job": "epochs=1 seed=0,1,-1",
    "an unknown key": "seed=0,1 optimizer.foo=1,2",
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_jobs_that_differ_in_values_are_made_as_they_compose(case):
    with composing("config", TEMPLATES[case].split()) as composition:
        assert_jobs_made_from_templates_are_as_composed(composition)


COMMANDS = [
    ["arch=tanh_128,relu_100", "init=he", "epochs=1", "seed=0,1"],
    ["experiment=tanh_mini_batch", "init=he,normal", "optimizer.lr=0.5"],
    ["experiment=relu_full_batch,tanh_mini_batch", "batching=full,mini", "epochs=2"],
    ["optimizer=sgd,adam", "optimizer.lr=0.5", "loss={reduction:sum}", "seed=1,2"],
    ["optimizer=momentum", "optimizer.momentum=0.5", "init=max,he"],
    ["++init.std=0.25", "init=normal,he", "seed=1,2"],
    ["~init", "optimizer=sgd,adam", "optimizer.lr=.1"],
    ["seed=3", "epochs=2", "seed=4,5"],
    ["optimizer=adam,momentum", "seed=1,2", "optimizer=sgd"],
    ["arch.hidden=[64,32],[10]", "arch.activation=tanh", "batching=mini,sample"],
    ["data=digits", "data.validation=${data.holdout}", "data=mnist,digits", "seed=5,6"],
    ["data=digits", "seed=1,2", "data.validation=${.holdout}"],
    ["optimizer=adam,sgd", "optimizer.lr=${.lr_for.full}"],
    ["init=glob(h*)", "seed=range(3)"],
    ["arch.hidden=[1],[2,3]", "arch={hidden:[3]}"],
]


@pytest.mark.long
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_job_of_a_command_line_composes_as_in_hydra(words, loader):
    master, jobs = swept(loader, "config", words)
    with composing("config", words) as composition:
        # Hydra's sweeper writes ~key=null for ~key, which fnnexp keeps as in a single run.
        written = [[re.sub(r"^(~[^=]+)=null$", r"\1", line) for line in job] for job in jobs]
        assert [[setting.line for setting in job] for job in composition._grid or ()] == written
        assert_compositions_equal_hydras(loader, master, jobs, nullcontext(composition))


def until_error(jobs):
    """Return the jobs before the first error, and its message."""
    taken = []
    try:
        for job in jobs:
            taken.append(job)
    except (FnnexpError, HydraException, OmegaConfBaseException) as error:
        taken.append(str(error) if isinstance(error, FnnexpError) else explain(error))
    return taken


# --- identity ---

FIXED = Trial(
    recipe=Recipe(
        architecture=Architecture(784, (100,), 10, "relu"),
        batching=Batching("mini", 128, True),
        optimizer="sgd",
        epochs=10,
    ),
    data=DATA,
    method="he",
    std=None,
    hyper=(("lr", 0.1),),
    seed=3,
    name="relu_100-he-mini-s3",
    params={},
    config={},
)


def test_an_id_is_the_same_in_every_process_and_on_every_machine():
    assert FIXED.id == "ed317cba44219f36"
    assert FIXED.numbers_id == "0ba583f08ebe0523"


OTHER = {
    Architecture: {
        "inputs": 785,
        "hidden": (101,),
        "classes": 11,
        "activation": "tanh",
        "hidden_bias": "normal",
        "output_bias": "none",
    },
    Batching: {"mode": "sample", "size": 64, "shuffle": False},
    Recipe: {
        "optimizer": "adam",
        "epochs": 11,
        "reduction": "sum",
        "epsilon": 1e-12,
        "scale": "raw",
        "validation": 5000,
        "dtype": "float64",
        "loss": "mse",
        "output": "softmax",
        "options": ("label_smoothing",),
        "seed_split": 1,
        "subset": 900,
        "label_noise": 0.1,
        "metrics": ("mine@1a2b",),
        "stopping": Stopping(3),
    },
    Trial: {
        "data": replace(DATA, checksum="d" * 64),
        "method": "max",
        "std": 0.5,
        "hyper": (("lr", 0.1000000000000001),),
        "schedule": Schedule("cosine", (("end", 0.0),)),
        "seed": 4,
        "gain": 2.0,
        "bounds": (-0.1, 0.1),
        "biases": Biases("uniform"),
        "seeds": (("init", 4),),
    },
}


def changed(kind, field, value):
    """Return FIXED with one field changed: its own, or its recipe's, architecture's or batching's."""
    recipe = FIXED.recipe
    if kind is Trial:
        return replace(FIXED, **{field: value})
    if kind is Recipe:
        return replace(FIXED, recipe=replace(recipe, **{field: value}))
    if kind is Architecture:
        return replace(
            FIXED, recipe=replace(recipe, architecture=replace(recipe.architecture, **{field: value}))
        )
    return replace(FIXED, recipe=replace(recipe, batching=replace(recipe.batching, **{field: value})))


def test_every_field_is_listed_as_scientific_or_not():
    # The slope is part of an id only with leaky_relu; `CHANGING` has a test of it.
    not_scientific = {Trial: {"name", "params", "config"}, Architecture: {"slope"}}
    nested = {Trial: {"recipe"}, Recipe: {"architecture", "batching"}}
    for kind, values in OTHER.items():
        every = {field.name for field in fields(kind)}
        assert every == set(values) | not_scientific.get(kind, set()) | nested.get(kind, set()), kind


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind, values in OTHER.items() for field in values],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_scientific_field_is_part_of_the_id(kind, field):
    assert changed(kind, field, OTHER[kind][field]).id != FIXED.id


@pytest.mark.parametrize(
    "same",
    [
        replace(FIXED, name="another", params={"a": 1}, config={"b": 2}),
        replace(FIXED, data=replace(DATA, name="renamed", directory="elsewhere")),
    ],
)
def test_the_name_and_the_data_folder_are_not_part_of_the_id(same):
    assert same.id == FIXED.id
    assert same.numbers_id == FIXED.numbers_id


CHANGING = {
    "arch.slope": "0.1",
    "data.subset": "900",
    "data.label_noise": "0.1",
    "stopping.patience": "3",
    "stopping.min_delta": "0.1",
    "stopping.metric": "train_loss",
    "arch.hidden": "[99]",
    "arch.activation": "tanh",
    "arch.hidden_bias": "none",
    "arch.output_bias": "none",
    "init.method": "max",
    "init.std": "0.5",
    "init.low": "-0.1",
    "init.high": "0.1",
    "init.gain": "2",
    "init.bias": "uniform",
    "init.bias_scale": "0.2",
    "batching.mode": "sample",
    "batching.size": "64",
    "batching.shuffle": "false",
    "optimizer.name": "adam",
    "optimizer.lr": "0.2",
    "optimizer.momentum": "0.5",
    "optimizer.beta1": "0.5",
    "optimizer.beta2": "0.5",
    "optimizer.epsilon": "0.5",
    "optimizer.clip_norm": "1.0",
    "loss.name": "binary_cross_entropy",
    "loss.output": "softmax",
    "loss.label_smoothing": "0.1",
    "optimizer.rho": "0.5",
    "optimizer.weight_decay": "0.5",
    "schedule.name": "linear",
    "schedule.warmup": "0.5",
    "schedule.every": "1",
    "schedule.gamma": "0.25",
    "schedule.rate": "0.5",
    "schedule.peak": "2",
    "schedule.rise": "0.5",
    "schedule.end": "0.5",
    "loss.reduction": "sum",
    "loss.epsilon": "1e-9",
    "regularization.l2": "1e-4",
    "regularization.l1": "1e-4",
    "regularization.dropout": "0.5",
    "regularization.max_norm": "3.0",
    "data.scale": "raw",
    "data.validation": "100",
    "data.holdout": "7",
    "dtype": "float64",
    "epochs": "3",
    "seed": "3",
    "seed_init": "3",
    "seed_order": "3",
    "seed_noise": "3",
    "seed_split": "3",
}
UNCHANGING = {
    "data.n": "300",
    "data.noise": "0.2",
    "data.classes": "3",
    "data.name": "files",
    "data.path": "elsewhere.npz",
    "data.test_path": "elsewhere.csv",
    "data.label": "last",
    "data.drop": "[id,row]",
    "data.header": "true",
    "data.test_fraction": "0.3",
    "data.transpose": "true",
    "optimizer.lr_for": "{full: 3.0}",
    "execution.n_jobs": "1",
    "execution.backend": "threading",
    "execution.engine": "numba",
    "execution.max_lanes": "3",
    "execution.memory": "4GB",
    "execution.segment_seconds": "0.5",
    "execution.retries": "7",
    "execution.fail_fast": "true",
    "execution.address": "tcp://h:1",
    "tracking.experiment": "mine",
    "tracking.uri": "sqlite:///elsewhere.db",
    "execution.keep_states": "0",
    "diagnostics": "true",
    "dry_run": "true",
    "until.name": "settled",
    "until.most_seeds": "9",
    "budget": "5m",
    "compare": "init",
    "tune": "optimizer.lr",
    "margin": "0.5",
    "zip": "[[init,seed]]",
    "where": "'seed=0'",
}
NEEDS = {
    "data.n": ["data=moons"],
    "data.noise": ["data=moons"],
    "data.classes": ["data=spirals"],
    "arch.slope": ["arch.activation=leaky_relu"],
    "stopping.min_delta": ["stopping.patience=3"],
    "stopping.metric": ["stopping.patience=3"],
    "execution.address": ["execution.backend=dask", "execution.address=tcp://g:2"],
    "init.method": ["init=he"],
    "init.std": ["init=normal"],
    "init.low": ["init=uniform"],
    "init.high": ["init=uniform"],
    "init.bias_scale": ["init.bias=uniform"],
    "seed_noise": ["regularization.dropout=0.5"],
    "batching.mode": ["batching.size=null", "optimizer.lr=0.1"],
    "optimizer.name": ["optimizer.beta1=0.9", "optimizer.beta2=0.9", "optimizer.epsilon=1e-8"],
    "optimizer.momentum": ["optimizer=momentum"],
    "optimizer.beta1": ["optimizer=adam"],
    "optimizer.beta2": ["optimizer=adam"],
    "optimizer.epsilon": ["optimizer=adam"],
    "loss.output": ["loss=mse"],
    "optimizer.rho": ["optimizer=rmsprop"],
    "optimizer.weight_decay": ["optimizer=adamw"],
    "schedule.name": ["schedule=cosine"],
    "schedule.every": ["schedule=step"],
    "schedule.gamma": ["schedule=exponential"],
    "schedule.rate": ["schedule=inverse_time"],
    "schedule.peak": ["schedule=one_cycle"],
    "schedule.rise": ["schedule=one_cycle"],
    "schedule.end": ["schedule=cosine"],
    "optimizer.lr_for": ["optimizer.lr=0.1"],
    "until.most_seeds": ["until.name=settled"],
    "compare": ["until.name=settled"],
    "tune": ["until.name=settled", "compare=init"],
    "margin": ["until.name=settled"],
}


def leaves(node, prefix=""):
    """Yield the dotted keys of a schema."""
    for field in fields(node):
        if field.metadata.get("omegaconf_ignore"):
            continue
        value = getattr(node, field.name)
        yield from leaves(value, f"{prefix}{field.name}.") if is_dataclass(value) else [prefix + field.name]


def test_every_key_of_the_schema_is_listed_as_scientific_or_not():
    only_in_sweeps = {f"search.{key}" for key in ("name", "trials", "eta", "min_epochs")}
    assert set(leaves(Config())) == {*CHANGING, *UNCHANGING, *only_in_sweeps}


@pytest.mark.parametrize("key", CHANGING)
def test_every_scientific_key_changes_the_id(key, trial_of):
    needs = NEEDS.get(key, [])
    alone = [] if key in ("batching.mode", "optimizer.name") else needs
    assert trial_of(*needs, f"{key}={CHANGING[key]}").id != trial_of(*alone).id


@pytest.mark.parametrize("key", UNCHANGING)
def test_where_when_and_how_fast_a_trial_runs_does_not_change_the_id(key, trial_of):
    needs = NEEDS.get(key, [])
    assert trial_of(*needs, f"{key}={UNCHANGING[key]}").id == trial_of(*needs).id


def test_the_order_of_overrides_and_the_spelling_of_a_value_do_not_change_the_id(trial_of):
    overrides = ["arch=tanh_128", "init=he", "epochs=3", "optimizer.lr=0.1"]
    assert len({trial_of(*overrides).id, trial_of(*reversed(overrides)).id}) == 1
    by_hand = ["arch.hidden=[128]", "arch.activation=tanh", "init=he", "epochs=3", "optimizer.lr=1e-1"]
    assert trial_of(*by_hand).id == trial_of(*overrides).id


def test_a_preset_and_its_values_written_out_are_the_same_trial(trial_of):
    by_hand = [
        "arch=tanh_128", "init=normal", "init.std=0.3", "batching.size=128", "optimizer.lr=0.1",
        "loss.epsilon=1e-10", "epochs=50", "dtype=float64", "data.validation=0",
    ]  # fmt: skip
    assert trial_of("experiment=tanh_mini_batch").id == trial_of(*by_hand).id


@pytest.mark.parametrize(
    "arch", ["arch=relu_100", "arch=sigmoid_32_32", "arch.hidden=[784]", "arch.hidden=[]"]
)
def test_sqrtmax_and_xavier_are_numerically_identical_on_a_narrowing_network(arch, trial_of):
    sqrtmax, xavier = trial_of(arch, "init=sqrtmax"), trial_of(arch, "init=xavier")
    assert sqrtmax.numbers_id == xavier.numbers_id
    assert sqrtmax.id != xavier.id


@pytest.mark.parametrize("arch", ["arch.hidden=[1000]", "arch.hidden=[32,64]", "arch.hidden=[5]"])
def test_sqrtmax_and_xavier_differ_on_a_widening_network(arch, trial_of):
    sqrtmax, xavier = trial_of(arch, "init=sqrtmax"), trial_of(arch, "init=xavier")
    assert sqrtmax.numbers_id != xavier.numbers_id


@pytest.mark.parametrize("init", ["max", "he", "he2", "glorot_normal", "he_normal", "normal"])
def test_no_other_method_is_identical_to_xavier(init, trial_of):
    assert trial_of(f"init={init}").numbers_id != trial_of("init=xavier").numbers_id


# --- names and params ---


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "relu_100-he_normal-mini-s0"),
        (["arch=relu_100", "init=he", "batching=mini", "seed=3"], "relu_100-he-mini-s3"),
        (["init=he", "optimizer.lr=0.1", "epochs=5"], "relu_100-he-mini-s0-optimizer.lr=0.1-epochs=5"),
        (["optimizer=adam"], "relu_100-he_normal-mini-s0-optimizer=adam"),
        (["arch.hidden=[64,32]", "arch.activation=tanh"], "tanh_64_32-he_normal-mini-s0"),
        (["arch=tanh_128", "arch.hidden=[64]"], "tanh_64-he_normal-mini-s0"),
        (["arch.hidden=[6,3]", "arch.activation=[relu,elu]"], "relu+elu_6_3-he_normal-mini-s0"),
        (["arch.hidden=[8,8]"], "relu_8_8-he_normal-mini-s0"),
        (["arch.hidden=[8,8,8,8,8,8,8,8]"], "relu_8x8-he_normal-mini-s0"),
        (["arch.hidden=[9,5,5,5,8]"], "relu_9_3x5_8-he_normal-mini-s0"),
        (["arch.hidden=[6,6,6,6]", "arch.activation=[elu,elu,elu,tanh]"], "3xelu+tanh_4x6-he_normal-mini-s0"),
        (["arch.activation=leaky_relu", "arch.slope=0.2"], "leaky_relu_100-he_normal-mini-s0-arch.slope=0.2"),
        (["experiment=tanh_mini_batch", "seed=1"], "tanh_128-normal-mini-s1-experiment=tanh_mini_batch"),
        (["execution.n_jobs=1", "tracking.experiment=x", "dry_run=true"], "relu_100-he_normal-mini-s0"),
        (["arch.hidden_bias=none"], "relu_100-he_normal-mini-s0-arch.hidden_bias=none"),
    ],
)  # fmt: skip
def test_a_trial_is_named_by_its_choices_followed_by_other_overrides(overrides, name, trial_of):
    assert trial_of(*overrides).name == name


EQUAL_NETWORKS = [
    (["arch.hidden=[6,3]", "arch.activation=[elu,elu]"], ["arch.hidden=[6,3]", "arch.activation=elu"]),
    (["arch.activation=[leaky_relu]", "arch.slope=0.01"], ["arch.activation=leaky_relu"]),
]


@pytest.mark.parametrize(("given", "simple"), EQUAL_NETWORKS)
def test_networks_with_the_same_activations_are_the_same_trial(given, simple, trial_of):
    given, simple = trial_of(*given), trial_of(*simple)
    assert given.id == simple.id
    assert given.params == simple.params
    assert given.config == simple.config


def test_a_trial_depends_on_the_slope_and_on_the_order_of_activations(trial_of):
    leaky = [trial_of("arch.activation=leaky_relu", f"arch.slope={slope}") for slope in (0, 0.01, 0.2)]
    lists = [
        trial_of("arch.hidden=[6,3]", f"arch.activation=[{names}]") for names in ("relu,elu", "elu,relu")
    ]
    assert len({trial.id for trial in [*leaky, *lists]}) == 5
    assert [trial.params["arch.slope"] for trial in leaky] == [0.0, 0.01, 0.2]
    assert [trial.params["arch.activation"] for trial in lists] == [["relu", "elu"], ["elu", "relu"]]
    assert lists[0].recipe.architecture.activations == ["relu", "elu"]
    assert "arch.slope" not in lists[0].params


# --- labels ---

OWN_OPTIONS = {
    "data/held.yaml": "{name: digits, holdout: 40}",
    "arch/deep.yaml": "{hidden: [8, 4], activation: tanh, hidden_bias: normal}",
    "init/wide.yaml": "{method: normal, std: 3}",
    "batching/quick.yaml": "defaults: [sample]\nmode: mini\nsize: 9",
    "optimizer/fast.yaml": "{name: sgd, lr_for: {mini: 0.3, sample: 0.2}, lr: '${.lr_for.${batching.mode}}'}",
    "data/mine.yaml": "{name: files, path: mine.npz, scale: raw}",
    "data/needs.yaml": "# @package _global_\ndefaults: [override /batching: full]\ndata: {name: digits}",
    "init/xavier.yaml": "{method: normal, std: 0.5}",
    "inline.yaml": "defaults: [config, _self_]\ninit: {method: normal, std: 0.1}\noptimizer: {lr: 0.5}",
}


@pytest.fixture
def own_trials(tmp_path):
    """Return ``own_trials(*words)``: the trials of a command line with options from a user's folder."""
    for name, text in OWN_OPTIONS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def trials(*words):
        config, words = ("config", words) if "=" in words[0] else (words[0], words[1:])
        jobs = compose.jobs_of(Command(config, words, tmp_path, multirun=True))
        return [resolve.trial(job, DATA) for job in jobs]

    return trials


def labels(trial):
    return " ".join(trial.params[group] for group in CHOICES if group in trial.params)


ADAM = "optimizer.beta1=0.9 optimizer.beta2=0.9 optimizer.epsilon=1e-8"
LABELS = {
    "init.method=normal init.std=0.3": "relu_100 normal mini sgd mnist",
    f"optimizer.name=adam {ADAM}": "relu_100 he_normal mini adam mnist",
    "batching=full batching.mode=mini batching.size=64": "relu_100 he_normal mini sgd mnist",
    "batching.mode=sample batching.size=null": "relu_100 he_normal sample sgd mnist",
    "data.name=files data.path=x.npz": "relu_100 he_normal mini sgd files",
    "arch.activation=tanh": "tanh_100 he_normal mini sgd mnist",
    "arch=deep arch.activation=[relu,elu]": "relu+elu_8_4 he_normal mini sgd mnist",
    "init={method:normal,std:0.3}": "relu_100 normal mini sgd mnist",
    "++init.method=he": "relu_100 he mini sgd mnist",
    "arch=relu_98.yaml init=he.yaml": "relu_98 he mini sgd mnist",
    "inline": "relu_100 normal mini sgd mnist",
    "inline init.method=he init.std=null": "relu_100 he mini sgd mnist",
    "arch=deep init=wide batching=quick optimizer=fast data=mine": "deep wide quick fast mine",
    "init=wide init.std=3.0 batching=quick batching.size=9": "relu_100 wide quick sgd mnist",
    "arch=deep arch.hidden_bias=zeros": "tanh_8_4 he_normal mini sgd mnist",
    "arch=deep arch.output_bias=none": "deep he_normal mini sgd mnist",
    "init=wide init.std=0.1": "relu_100 normal mini sgd mnist",
    "batching=quick batching.shuffle=false": "relu_100 he_normal mini sgd mnist",
    "optimizer=fast optimizer.lr=0.3": "relu_100 he_normal mini sgd mnist",
    "optimizer=fast optimizer.lr_for.sample=1": "relu_100 he_normal mini sgd mnist",
    "data=mine data.validation=10": "relu_100 he_normal mini sgd mine",
    "data=mine data.path=other.npz": "relu_100 he_normal mini sgd files",
    "inline init=wide": "relu_100 normal mini sgd mnist",
    "data=needs": "relu_100 he_normal full sgd digits",
    "init=xavier": "relu_100 normal mini sgd mnist",
}


@pytest.mark.parametrize("words", LABELS)
def test_a_label_is_the_options_name_only_while_the_options_values_are_unchanged(words, own_trials):
    (trial,) = own_trials(*words.split())
    assert labels(trial) == LABELS[words]
    arch, init, batching, *_ = LABELS[words].split()
    assert trial.name.startswith(f"{arch}-{init}-{batching}-s0")
    assert {"wide": "normal"}.get(init, init) == trial.method


@pytest.mark.parametrize(
    "words",
    [
        "init=wide,normal init.std=0.1,0.2",
        "init={method:normal,std:0.3},{method:normal,std:0.4},he",
        "batching=quick,mini,sample batching.shuffle=false,true",
        "optimizer=fast,sgd optimizer.lr=0.3,0.2 batching=mini,sample",
        "arch=deep,tanh_128 arch.hidden_bias=zeros,normal",
    ],
)
def test_different_trials_have_different_names_and_params(words, own_trials):
    trials = {trial.id: trial for trial in own_trials(*words.split())}.values()
    assert len({trial.name for trial in trials}) == len(trials) > 1
    assert len({repr(sorted(trial.params.items())) for trial in trials}) == len(trials)


def test_a_label_is_not_part_of_the_id(own_trials):
    (changed,) = own_trials("init=wide", "init.std=0.5")
    (plain,) = own_trials("init=normal", "init.std=0.5")
    assert (changed.id, labels(changed)) == (plain.id, labels(plain))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("init.method=normal init.std=0.3", "relu_100-normal-mini-s0-init.std=0.3"),
        ("optimizer.lr=0.1 ++optimizer.lr=0.2", "relu_100-he_normal-mini-s0-++optimizer.lr=0.2"),
        ("init=he init.method=max", "relu_100-max-mini-s0"),
        ("init={method:normal,std:0.3}", "relu_100-normal-mini-s0-init={method:normal,std:0.3}"),
    ],
)
def test_a_name_omits_overrides_that_have_no_effect(overrides, name, trial_of):
    assert trial_of(*overrides.split()).name == name


def test_the_names_of_a_grid_are_all_different(jobs_of):
    jobs = jobs_of("optimizer.lr=0.1,0.2", "arch=relu_100", config="card_grid")
    assert len({resolve.trial(job, DATA).name for job in jobs}) == len(jobs) == 12 * 2


def test_params_are_the_labels_and_every_other_value_by_dotted_key(trial_of):
    params = trial_of("arch=tanh_128", "init=he", "optimizer.lr=0.1", "epochs=3", "seed=4").params
    assert dict(params) == {
        "arch": "tanh_128",
        "init": "he",
        "batching": "mini",
        "optimizer": "sgd",
        "data": "mnist",
        "arch.hidden": [128],
        "arch.activation": "tanh",
        "arch.hidden_bias": "zeros",
        "arch.output_bias": "zeros",
        "init.method": "he",
        "batching.mode": "mini",
        "batching.size": 128,
        "batching.shuffle": True,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.1,
        "loss.reduction": "mean",
        "loss.epsilon": 0.0,
        "data.name": "mnist",
        "data.scale": "unit",
        "data.validation": 5000,
        "dtype": "float32",
        "epochs": 3,
        "seed": 4,
    }


def test_a_resolved_config_has_every_value_and_no_reference(trial_of):
    whole = trial_of("optimizer=adam").config
    assert whole["optimizer"]["lr"] == 0.001
    assert whole["data"]["validation"] == 5000
    assert "${" not in repr(whole)


def test_no_yaml_file_names_code():
    folders = (conf_folder(), sweeps_folder())
    texts = {file: file.read_text("utf-8") for folder in folders for file in Path(folder).rglob("*.yaml")}
    assert len(texts) == len(OPTIONS) + 4
    assert [file for file, text in texts.items() if "_target_" in text or "!!python" in text] == []
