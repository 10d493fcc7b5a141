"""Every test stands in a folder of its own; the data cache and an empty MLflow store are made once."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

VARIABLES = ("MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR")


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """Keep prepared data where no test of another session, and no user, has put anything."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("FNNEXP_CACHE", str(folder))
        for variable in VARIABLES:
            patch.delenv(variable, raising=False)
        yield folder


@pytest.fixture(autouse=True)
def own_folder(shared_cache, tmp_path, monkeypatch):
    """Give the test a working directory of its own, and MLflow's defaults."""
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def own_logging():
    """Take back what Hydra does to the root logger.

    ``--info`` leaves it at DEBUG, where Hydra composes every config twice more to print it.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in set(root.handlers).difference(handlers):
        root.removeHandler(handler)


@pytest.fixture(scope="module")
def one_blas_thread():
    """Compute in this process as a worker does."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="session")
def mnist():
    """Return the path of real MNIST; a machine that has none skips the test."""
    path = os.environ.get("FNNEXP_MNIST")
    if not path:
        pytest.skip("FNNEXP_MNIST is not set, so there is no real MNIST here")
    return path


LONG = ("test_chaos", "test_cluster", "test_environments", "test_file_forms", "test_notebooks", "test_pasted",
        "test_pressure", "test_servers", "test_ui_walk")  # fmt: skip
"""The files whose tests `make test` leaves to `make test-long`."""


def pytest_collection_modifyitems(items):
    """Mark the tests of the files in :data:`LONG`."""
    for item in items:
        if item.path.stem in LONG:
            item.add_marker(pytest.mark.long)


def pytest_make_parametrize_id(val, argname):
    """Call bytes by their argument's name: what was packed tells the time, and processes that share the suite
    must find tests of the same names."""
    return argname if isinstance(val, bytes) else None


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit status and what it wrote."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def invoke(shared_cache):
    """Return ``invoke(*words, cwd=None)``, which runs the command line in this process."""
    from fnnexp.cli import main

    def run(*words, cwd=None):
        out, err = io.StringIO(), io.StringIO()
        collecting, argv, environment = gc.isenabled(), sys.argv, dict(os.environ)
        threshold = gc.get_threshold()
        sys.argv = ["fnnexp", *words]
        try:
            with (
                contextlib.chdir(cwd or Path.cwd()),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                try:
                    status = main(words)
                except SystemExit as left:  # argparse's way out
                    status = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
        finally:
            sys.argv = argv
            os.environ.clear()
            os.environ.update(environment)
            (gc.enable if collecting else gc.disable)()
            gc.set_threshold(*threshold)
        return Ran(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """Return ``empty_store(folder)``, which puts an empty mlflow.db there and returns its URI.

    Making one takes MLflow seconds, copying one nothing.
    """
    from mlflow import MlflowClient

    template = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{template}").search_experiments()

    def copy(folder):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(template, folder / "mlflow.db")
        return f"sqlite:///{folder / 'mlflow.db'}"

    return copy


@pytest.fixture
def store(empty_store, own_folder):
    """Put an empty store where the test stands; return its URI."""
    return empty_store(own_folder)


@pytest.fixture
def started(monkeypatch):
    """Collect the commands that `fnnexp ui` would run, and run none; each would end with status 7."""
    from fnnexp.tracking import ui

    commands = []

    class Server:
        def __init__(self, command, **_):
            commands.append(command)

        def wait(self):
            return 7

    monkeypatch.setattr(ui, "subprocess", SimpleNamespace(Popen=Server))
    return commands


@pytest.fixture(scope="session")
def loader(shared_cache):
    """Return Hydra's loader of our configs, which outlives the Hydra that it came from."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from fnnexp.config.schema import conf_folder

    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        return GlobalHydra.instance().config_loader()


@pytest.fixture(scope="session")
def jobs_of(shared_cache):
    """Return ``jobs_of(*overrides, config="config")``: the checked jobs of a command line."""
    from fnnexp.config import compose
    from fnnexp.config.commands import Command

    @cache
    def jobs(*overrides, config="config"):
        return compose.jobs_of(Command(config, overrides, multirun=True))

    return jobs


@pytest.fixture(scope="session")
def trials_of(jobs_of):
    """Return ``trials_of(*overrides)``: the trials of a command line, on digits unless it says otherwise."""
    from fnnexp.config.resolve import trial
    from fnnexp.data import datasets as data

    def trials(*overrides, config="config"):
        usual = () if any(each.startswith("data=") for each in overrides) else ("data=digits",)
        jobs = jobs_of(*usual, *overrides, config=config)
        return [trial(job, data.prepare(job.config.data.name, job.config.data.path)) for job in jobs]

    return trials


@pytest.fixture(scope="session")
def train_alone():
    """Return ``alone(trial, engine)``: its records and weights when trained here, by itself, in one go."""
    from threadpoolctl import threadpool_limits

    from fnnexp.data import datasets as data
    from fnnexp.nn.network import Parameters
    from fnnexp.nn.training import advance, start

    done = {}

    def train(trial, engine="numpy"):
        key = trial.numbers_id, engine
        if key not in done:
            done[key] = trained(trial, engine)
        return done[key]

    def trained(trial, engine):
        with threadpool_limits(1, "blas"):
            untrained, arrays = start(trial.recipe, [trial.lane()]), data.load(trial.data)
            stack, records = advance(trial.recipe, untrained, arrays, engine=engine)
        theta = stack.theta[0] if stack.lanes else records[-1].theta
        return records, Parameters(trial.recipe.architecture, theta[None]).named(0)

    return train


@pytest.fixture(scope="session")
def same_bits():
    """Return ``same_bits(a, b)``: whether two sets of named arrays are the same to the bit."""

    def same(a, b):
        return list(a) == list(b) and all(
            np.asarray(a[name]).dtype == np.asarray(b[name]).dtype
            and np.asarray(a[name]).shape == np.asarray(b[name]).shape
            and np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes()
            for name in a
        )

    return same


@pytest.fixture(scope="session")
def agrees(train_alone, same_bits):
    """Return a check that every trial's curve and weights in the store are those it has when alone."""

    from stores import curve_in, points, runs_in, weights_in

    def check(folder, trials, experiment="digits", only=False, engine="numpy"):
        runs = runs_in(folder, experiment)
        assert only or set(runs) == {trial.id for trial in trials}
        for trial in trials:
            records, weights = train_alone(trial, engine)
            assert curve_in(folder, runs[trial.id].info.run_id) == points(records), trial.name
            assert same_bits(weights_in(folder, runs[trial.id].info.run_id), weights), trial.name

    return check
