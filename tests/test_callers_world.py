"""Law 11: a public call leaves the state of the calling process unchanged, in any thread.

All libraries are imported first, because a first import changes state that fnnexp does not control: MLflow
configures loggers, and SciPy, urllib3 and others add warning filters. MLflow's telemetry is off; it would
start a thread and set a variable.
"""

from __future__ import annotations

import contextlib
import decimal
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
import pytest
from hydra import initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer
from threadpoolctl import threadpool_info, threadpool_limits

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.mapping.arrays import Map
from fnnexp.mapping.lr.results import RangeTest
from fnnexp.sweeping.executor import Executor

for name in dir(fnnexp):
    getattr(fnnexp, name)

LIBRARY_THREADS = (
    "ExecutorManagerThread",
    "QueueFeederThread",
    "MlflowLocalArtifactRepository",
    "MLflowTelemetry",
)
"""Threads of loky's pool, which the next call of joblib reuses, and of MLflow's client."""

OPTIONS = ("display.max_rows", "display.precision", "display.float_format", "plotting.backend")


def loggers():
    """Return the settings of each logger, without pytest's handlers, which come and go."""
    return {
        name: (logger.level, handlers, tuple(logger.filters), logger.propagate, logger.disabled)
        for name, logger in [("", logging.root), *logging.root.manager.loggerDict.items()]
        if isinstance(logger, logging.Logger)
        for handlers in [tuple(h for h in logger.handlers if "_pytest" not in type(h).__module__)]
    }


def threads():
    """Return the names of fnnexp's and the caller's threads, once the threads of segments have ended."""
    for thread in threading.enumerate():
        if "_serve" in thread.name:
            thread.join(60)
    return sorted(
        thread.name for thread in threading.enumerate() if not thread.name.startswith(LIBRARY_THREADS)
    )


def process_state():
    """Return the settings of this process that a program may have changed, by name."""
    handled = [number for number in signal.valid_signals() if number not in (9, 19)]
    hydra, job, config = GlobalHydra.instance(), JobRuntime.instance(), HydraConfig.instance()
    mask = getattr(signal, "pthread_sigmask", None)
    return {
        "threads": threads(),
        "working directory": os.getcwd(),  # noqa: PTH109
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "imports": (list(sys.path), list(sys.argv), list(sys.meta_path)),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.unraisablehook, sys.gettrace()),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()),
        "signals": {number: signal.getsignal(number) for number in handled},
        "blocked signals": mask and mask(signal.SIG_BLOCK, []),
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 0, list(gc.callbacks)),
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "logging": loggers(),
        "all of logging": (logging.root.manager.disable, logging.getLoggerClass(), logging.raiseExceptions),
        "random": (random.getstate(), str(np.random.get_state()), repr(decimal.getcontext())),  # noqa: NPY002
        "numpy": (np.geterr(), np.geterrcall(), repr(np.get_printoptions())),
        "blas": {library["filepath"]: library["num_threads"] for library in threadpool_info()},
        "start method": multiprocessing.get_start_method(allow_none=True),
        "pandas": {option: pd.get_option(option) for option in OPTIONS},
        "matplotlib": {key: dict.__getitem__(mpl.rcParams, key) for key in mpl.rcParams},
        "figures": plt.get_fignums(),
        "mlflow": (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()),
        "hydra": (hydra, hydra.hydra, version.getbase(), OmegaConf.to_container(job.conf), config.cfg),
        "resolvers": dict(BaseContainer._resolvers),
    }


def changes(before, after):
    """Return the settings that differ, each with its old and new value.

    New loggers do not count: modules that are imported in between create them.
    """
    changed = {}
    for name, value in before.items():
        old = value if isinstance(value, dict) else {"": value}
        new = after[name] if isinstance(value, dict) else {"": after[name]}
        keys = old if name == "logging" else old.keys() | new.keys()
        changed |= {(name, key): (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}
    return changed


@pytest.fixture(scope="module")
def recorded_sweep(empty_store, tmp_path_factory):
    """Return a folder whose store contains a sweep, and the frames of that sweep."""
    folder = tmp_path_factory.mktemp("caller")
    empty_store(folder)
    with contextlib.chdir(folder):
        runs = fnnexp.sweep(init=["he", "max"], seed=[0, 1], **SMALL)
        fnnexp.sweep(**{**SMALL, "data": "moons", "data.n": 60})
        return folder, runs, fnnexp.curves("digits")


@pytest.fixture
def unusual_state(recorded_sweep, tmp_path, monkeypatch):
    """Change every setting that a program may change to an unusual value, and return the state."""
    folder, *_ = recorded_sweep
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)
    monkeypatch.setattr(logging.root.manager, "disable", 3)
    for number, name in enumerate(["mlflow", "alembic", "mlflow.store.db.utils", "hydra", "matplotlib"]):
        monkeypatch.setattr(logging.getLogger(name), "level", 41 + number)
    numbers = [signal.SIGINT, signal.SIGTERM]
    handlers = [signal.signal(number, lambda *_: None) for number in numbers]
    collecting, threshold = gc.isenabled(), gc.get_threshold()
    start_method = multiprocessing.get_start_method(allow_none=True)
    with contextlib.ExitStack() as settings:
        settings.enter_context(
            initialize_config_dir(version_base="1.2", config_dir=str(tmp_path), job_name="mine")
        )
        settings.callback(BaseContainer._resolvers.update, dict(BaseContainer._resolvers))
        OmegaConf.register_new_resolver("now", lambda: "never", replace=True)
        settings.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("default", message="nothing at all")
        settings.enter_context(np.errstate(under="ignore", over="ignore", divide="ignore", invalid="ignore"))
        settings.enter_context(threadpool_limits(2, "blas"))
        settings.enter_context(pd.option_context("display.max_rows", 7, "display.precision", 3))
        settings.enter_context(mpl.rc_context({"svg.fonttype": "none", "lines.linewidth": 7.5}))
        settings.callback(plt.close, plt.figure())
        settings.enter_context(mlflow.start_run(run_name="the caller's"))
        multiprocessing.set_start_method(None, force=True)
        gc.unfreeze()  # the suite has frozen its objects; a call must not
        gc.disable()
        gc.set_threshold(701, 11, 9)
        try:
            yield process_state()
        finally:
            (gc.enable if collecting else gc.disable)()
            gc.set_threshold(*threshold)
            gc.freeze()
            multiprocessing.set_start_method(start_method, force=True)
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)


SMALL = {"data": "digits", "epochs": 1, "execution.n_jobs": 1}


def interrupted(*_):
    raise KeyboardInterrupt


def sweep_that_is_interrupted(runs, curves):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Executor, "result", interrupted)
        fnnexp.sweep(seed=[8, 9], **SMALL)


def sweep_into_a_store_that_fails(runs, curves):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fnnexp.tracking.store.client", lambda *_, **__: Path("none").read_text())
        fnnexp.sweep(**SMALL, **{"tracking.experiment": "new"})


def small_map():
    """Return a map of two by two cells."""
    trials, accuracy = np.array([["a", "b"], ["c", "d"]]), np.array([[0.1, 0.5], [0.1, 0.9]])
    columns = {"val_accuracy": accuracy, "diverged": np.zeros((2, 2))}
    values = np.array([0.1, 1.0])
    return Map("optimizer.lr", "init.gain", values, values, columns, trials, "val_accuracy", 0.1)


def small_range_test():
    """Return a range test of one configuration."""
    rates, losses = np.array([0.01, 0.1, 1.0, 10.0]), np.array([2.0, 1.0, 1.5, np.nan])
    return RangeTest((), ((),), (rates,), (losses,), (losses,))


CALLS = {
    "sweep": lambda runs, curves: fnnexp.sweep(init=["he", "max"], seed=2, **SMALL),
    "sweep by two workers": lambda runs, curves: fnnexp.sweep(
        "init_grid", init="he", seed=[3, 4], **{**SMALL, "execution.n_jobs": 2}
    ),
    "sweep by Optuna": lambda runs, curves: fnnexp.sweep(
        search="tpe", **SMALL, **{"optimizer.lr": np.linspace(0.1, 0.2, 14), "search.trials": 13}
    ),
    "sweep that is refused": lambda runs, curves: fnnexp.sweep(arch="none", **SMALL),
    "sweep that is refused by its data": lambda runs, curves: fnnexp.sweep(data="files", epochs=1),
    "sweep that is interrupted": sweep_that_is_interrupted,
    "sweep into a store that fails after workers have started": sweep_into_a_store_that_fails,
    "runs": lambda runs, curves: fnnexp.runs("digits"),
    "runs that do not exist": lambda runs, curves: fnnexp.runs("none"),
    "curves": lambda runs, curves: fnnexp.curves("digits"),
    "diagnostics": lambda runs, curves: fnnexp.diagnostics("digits"),
    "histograms that are not recorded": lambda runs, curves: fnnexp.histograms(runs.iloc[0]),
    "leaderboard": lambda runs, curves: fnnexp.leaderboard(runs),
    "leaderboard of an argument that is not a frame": lambda runs, curves: fnnexp.leaderboard("digits"),
    "compare": lambda runs, curves: fnnexp.compare(runs),
    "shares": lambda runs, curves: fnnexp.shares(runs),
    "seconds_to": lambda runs, curves: fnnexp.seconds_to(runs, curves, 0.5),
    "at_equal with no second batching mode": lambda runs, curves: fnnexp.at_equal(runs, curves, "updates"),
    "answer": lambda runs, curves: fnnexp.answer(runs),
    "plot_curves": lambda runs, curves: fnnexp.plot_curves(runs, curves).savefig("curves.svg"),
    "plot_curves with a metric that is not recorded": lambda runs, curves: fnnexp.plot_curves(
        runs, curves, "none"
    ),
    "plot_heat_map": lambda runs, curves: fnnexp.plot_heat_map(runs),
    "plot_histograms that has no histograms": lambda runs, curves: fnnexp.plot_histograms(runs),
    "images": lambda runs, curves: fnnexp.images("digits"),
    "images that do not exist": lambda runs, curves: fnnexp.images("none"),
    "show_data": lambda runs, curves: fnnexp.show_data("moons", **{"data.n": 60})._repr_html_(),
    "show_data that does not exist": lambda runs, curves: fnnexp.show_data("none"),
    "map": lambda runs, curves: fnnexp.map(x="optimizer.lr:0.1..1:2", y="init.gain:1..2:2", **SMALL),
    "map that is refused": lambda runs, curves: fnnexp.map(x="optimizer.lr:0.1..1:2", **SMALL),
    "read_map that does not exist": lambda runs, curves: fnnexp.read_map("none"),
    "plot_map": lambda runs, curves: fnnexp.plot_map(small_map()).savefig("map.svg"),
    "plot_boundary": lambda runs, curves: fnnexp.plot_boundary(fnnexp.runs("moons")).savefig("plane.svg"),
    "plot_boundary of images that are no points": lambda runs, curves: fnnexp.plot_boundary(runs.iloc[0]),
    "lr_range": lambda runs, curves: fnnexp.lr_range(**{**SMALL, "data.subset": 100}),
    "lr_range that is refused": lambda runs, curves: fnnexp.lr_range("optimizer.lr=1", **SMALL),
    "plot_lr": lambda runs, curves: fnnexp.plot_lr(small_range_test()).savefig("lr.svg"),
    "published": lambda runs, curves: fnnexp.published(),
    "report": lambda runs, curves: fnnexp.report("digits"),
    "report with a handout": lambda runs, curves: fnnexp.report("digits", handout=True),
    "report that has no experiment": lambda runs, curves: fnnexp.report("none"),
    "best": lambda runs, curves: fnnexp.best(runs),
    "experiments": lambda runs, curves: fnnexp.experiments(),
    "load": lambda runs, curves: fnnexp.load(runs.iloc[0]).predict(np.zeros((2, 784), np.uint8)),
    "load that does not exist": lambda runs, curves: fnnexp.load("none"),
    "confusion": lambda runs, curves: fnnexp.confusion(runs.iloc[0]),
    "mistakes": lambda runs, curves: fnnexp.mistakes(runs.iloc[0]),
    "merge": lambda runs, curves: fnnexp.merge("mlflow.db", into="merged.db"),
    "merge that has no stores": lambda runs, curves: fnnexp.merge(into="merged.db"),
    "verify": lambda runs, curves: fnnexp.verify("digits", sample=1),
    "Classifier": lambda runs, curves: fnnexp.Classifier(epochs=1).fit(np.eye(4), [0, 1, 0, 1]),
    "Classifier that has no such initializer": lambda runs, curves: fnnexp.Classifier(init="none").fit(
        np.eye(4), [0, 1, 0, 1]
    ),
}
RAISING = {name for name in CALLS if any(word in name for word in (" that ", " no ", " not "))}


def test_every_public_name_is_called_below():
    called = {name.split(" ")[0] for name in CALLS}
    assert called == set(dir(fnnexp)) - {"FnnexpError", "__version__"}


@pytest.mark.parametrize("thread", ["main thread", "thread"])
@pytest.mark.parametrize("call", CALLS)
def test_a_public_call_leaves_the_process_state_unchanged(call, thread, recorded_sweep, unusual_state):
    _, *frames = recorded_sweep
    raised = []

    def run():
        try:
            CALLS[call](*frames)
        except FnnexpError as error:
            raised.append(error)
        except KeyboardInterrupt:
            raised.append(None)

    if thread == "main thread":
        run()
    else:
        started = threading.Thread(target=run)
        started.start()
        started.join()
    assert bool(raised) == (call in RAISING)
    assert changes(unusual_state, process_state()) == {}


APP = """
import os, hydra, fnnexp
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime

@hydra.main(version_base={base!r}, config_path=None, config_name=None)
def caller(config):
    def state():
        job = HydraConfig.get().job
        return (
            os.getcwd(), hydra.utils.get_original_cwd(), version.getbase(), JobRuntime.instance().get("name"),
            job.name, job.chdir, HydraConfig.get().runtime.output_dir, job.override_dirname, sorted(config),
            id(GlobalHydra.instance()), id(GlobalHydra.instance().hydra),
        )
    before = state()
    if "SWEEP" in os.environ:
        fnnexp.sweep(data="digits", epochs=1, **{{"execution.n_jobs": 1}})
        try:
            fnnexp.sweep(arch="none")
        except fnnexp.FnnexpError:
            pass
    assert state() == before
    print("job", *before[:-2])

caller()
"""

RUN = ["hydra.run.dir=out", "hydra/job_logging=disabled"]
MULTIRUN = ["-m", "hydra.sweep.dir=out", "hydra.sweeper.max_batch_size=1", "hydra/job_logging=disabled"]


@pytest.mark.long
@pytest.mark.parametrize(("base", "words"), [("1.3", RUN), ("1.1", MULTIRUN)], ids=["run", "multirun"])
def test_a_sweep_within_a_hydra_app_does_not_change_its_jobs(base, words, store, own_folder):
    (own_folder / "app.py").write_text(APP.format(base=base))
    seeds = "1,2" if "-m" in words else "1"

    def run(**variables):
        command = [sys.executable, "app.py", *words, f"+seed={seeds}"]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": store, **variables}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        return [line for line in ran.stdout.splitlines() if line.startswith("job ")]

    without_sweep = run()
    assert len(without_sweep) == len(seeds.split(","))
    assert run(SWEEP="1") == without_sweep
