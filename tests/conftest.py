"""Fixtures of all tests: a working directory for each test, a shared data cache, and a shared empty store.

No test depends on the machine: on its free disk or memory, or on what is in its temporary folder.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

VARIABLES = ("MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR", "PYTHONUNBUFFERED", "PYTHONIOENCODING",
             "MPLBACKEND", "LOKY_MAX_CPU_COUNT", "JOBLIB_TEMP_FOLDER",
             "COLUMNS", "LINES", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR")  # fmt: skip
"""Environment variables of whoever runs the tests, which the tests and their processes do not have."""


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory, request):
    """Use a temporary folder of the session's own, since MLflow and killed processes leave files there.

    If all tests have passed, remove it with the folders of the tests. pytest would remove the folder of each
    test at its end, but workers that started there go on working for later tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("tmp"))
        for variable in ("TMPDIR", "TEMP", "TMP"):
            patch.setenv(variable, folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield
    if not request.session.testsfailed:
        shutil.rmtree(tmp_path_factory.getbasetemp(), ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def roomy_machine():
    """Say that the disk and the memory have room and that there are two cores, whatever this machine has.

    macOS allows 256 open files, but MLflow keeps the stores of many tests open.
    """
    with contextlib.suppress(ImportError, ValueError):  # Windows has no limit; some can't be raised
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 < soft < 4096:
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fnnexp.sweeping.executor.cpu_count", lambda: 2)
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
        patch.setattr("fnnexp.data.room.available_memory", lambda: 16 * 10**9)
        yield


@pytest.fixture(scope="session", autouse=True)
def shared_cache(temporary_folder, tmp_path_factory):
    """Use a new data cache for the session, shared with no user and no other session."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("FNNEXP_CACHE", str(folder))
        for variable in VARIABLES:
            patch.delenv(variable, raising=False)
        yield folder


@pytest.fixture(autouse=True)
def own_folder(shared_cache, tmp_path):
    """Run the test in its own working directory, also after ``monkeypatch.undo()``."""
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture(autouse=True)
def own_logging():
    """Restore the root logger after Hydra has changed it.

    ``--info`` leaves its level at DEBUG, where Hydra composes every config two more times to print it.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in set(root.handlers).difference(handlers):
        root.removeHandler(handler)


@pytest.fixture(scope="module")
def one_blas_thread():
    """Compute with one BLAS thread, as workers do."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="session")
def mnist():
    """Return the path of real MNIST; skip the test on machines without it."""
    path = os.environ.get("FNNEXP_MNIST")
    if not path:
        pytest.skip("FNNEXP_MNIST is not set, so this machine has no real MNIST")
    return path


LONG = ("test_chaos", "test_cluster", "test_environments", "test_file_forms", "test_notebooks", "test_page",
        "test_pasted", "test_pressure", "test_servers", "test_ui_walk")  # fmt: skip
"""Test files that `make test-long` runs and `make test` does not."""

LONGEST = ("test_chaos", "test_map_chaos", "test_pasted", "test_notebooks", "test_schema", "test_states",
           "test_locks", "test_environments", "test_servers")  # fmt: skip
"""Files with long tests. They come first, so that no process has one left when the other has ended."""


def pytest_collection_modifyitems(items):
    """Mark the tests of the files in :data:`LONG`, and sort those in :data:`LONGEST` to the front."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    for item in items:
        if item.path.stem in LONG:
            item.add_marker(pytest.mark.long)


def pytest_ignore_collect(collection_path, config):
    """Don't import files without a test of the wanted part: the imports take seconds in each process."""
    is_long, wanted = collection_path.stem in LONG, config.option.markexpr
    if wanted == "not long" and is_long:
        return True
    if wanted == "long" and not is_long and collection_path.match("test_*.py"):
        return True if "mark.long" not in collection_path.read_text("utf-8") else None
    return None


def pytest_collection_finish():
    """Collect garbage as the command does: libraries and tests are a million objects that stay alive."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def pytest_make_parametrize_id(val, argname):
    """Name bytes by their argument.

    Compressed bytes contain the time, and processes that share the suite must collect the same test names.
    """
    return argname if isinstance(val, bytes) else None


@dataclass(frozen=True)
class Ran:
    """The result of a command: its exit status and its output."""

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
                except SystemExit as error:  # raised by argparse
                    status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
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

    MLflow takes seconds to make a store; copying is immediate.
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
    """Put an empty store into the working directory; return its URI."""
    return empty_store(own_folder)


@pytest.fixture(scope="session")
def undrawn():
    """Return a context that makes figures without drawing them, which takes most of the time of a report."""

    @contextlib.contextmanager
    def blank():
        from fnnexp.reporting.plots import picture

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(picture, "svg", lambda figure, label: "<svg></svg>")
            patch.setattr(picture, "png", lambda figure, **_: b"")
            yield

    return blank


@pytest.fixture
def blank_figures(undrawn):
    """Make no drawing of figures in a test about something else."""
    with undrawn():
        yield


@pytest.fixture
def started(monkeypatch):
    """Return the commands that `fnnexp ui` would start; none is started, and each ends with status 7."""
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
    """Return Hydra's loader of fnnexp's configs."""
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
    """Return ``trials_of(*overrides)``: the trials of a command line, with digits as the default data."""
    from fnnexp.config.resolve import trial
    from fnnexp.data import datasets as data

    def trials(*overrides, config="config"):
        default = () if any(word.startswith("data=") for word in overrides) else ("data=digits",)
        jobs = jobs_of(*default, *overrides, config=config)
        wanted = [job.config.data for job in jobs]
        prepared = [data.prepare(each.name, each.path, reading=each.reading, toy=each.toy) for each in wanted]
        return [trial(job, its_data) for job, its_data in zip(jobs, prepared, strict=True)]

    return trials


@pytest.fixture(scope="session")
def train_alone():
    """Return a function of (trial, engine) that trains the trial alone, here and without interruption.

    It returns the records and the named weights, and trains each trial once in a session.
    """
    from threadpoolctl import threadpool_limits

    from fnnexp.data import datasets as data
    from fnnexp.nn.network import Parameters
    from fnnexp.nn.training import advance, start

    results = {}

    def train_once(trial, engine="numpy"):
        key = trial.numbers_id, engine
        if key not in results:
            results[key] = train(trial, engine)
        return results[key]

    def train(trial, engine):
        with threadpool_limits(1, "blas"):
            untrained, arrays = start(trial.recipe, [trial.lane()]), data.load(trial.data)
            stack, records = advance(trial.recipe, untrained, arrays, engine=engine)
        theta = stack.theta[0] if stack.lanes else records[-1].end.theta
        return records, Parameters(trial.recipe.architecture, theta[None]).named(0)

    return train_once


@pytest.fixture(scope="session")
def same_bits():
    """Return ``same_bits(a, b)``: whether two dicts of arrays are bitwise the same."""

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
    """Return a check that each trial in the store has the curve and weights of the trial trained alone.

    With early stopping, its best weights must be those of the trial trained for as many epochs.
    """

    from stores import curve_in, points, runs_in, weights_in

    def check(folder, trials, experiment="digits", only=False, engine="numpy"):
        runs = runs_in(folder, experiment)
        assert only or set(runs) == {trial.id for trial in trials}
        for trial in trials:
            records, weights = train_alone(trial, engine)
            assert curve_in(folder, runs[trial.id].info.run_id) == points(records), trial.name
            assert same_bits(weights_in(folder, runs[trial.id].info.run_id), weights), trial.name
            if (rule := trial.recipe.stopping) is not None:
                _, best_epoch = rule.best_of((record.epoch, record.metrics) for record in records)
                assert runs[trial.id].data.tags["fnnexp.weights_best_epoch"] == str(best_epoch)
                shorter = replace(trial, recipe=replace(trial.recipe, epochs=best_epoch, stopping=None))
                best = weights_in(folder, runs[trial.id].info.run_id, "weights_best.npz")
                assert same_bits(best, train_alone(shorter, engine)[1]), trial.name

    return check
