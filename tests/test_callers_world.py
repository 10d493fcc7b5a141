"""Law 11: after any public call the caller's world is as it was, in any thread.

What a library sets when it is first imported is not ours, so all are imported first. MLflow then configures
its own loggers, and SciPy, urllib3 and others add warning filters. MLflow's telemetry, a thread and a
variable, is off.
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
from fnnexp.reporting import write as report
from fnnexp.sweeping.executor import Executor

for name in fnnexp.__all__:
    getattr(fnnexp, name)

THEIRS = ("ExecutorManagerThread", "QueueFeederThread", "MlflowLocalArtifactRepository", "MLflowTelemetry")
"""Threads of loky's pool, which the next call of joblib takes over, and of MLflow's client."""

OPTIONS = ("display.max_rows", "display.precision", "display.float_format", "plotting.backend")


def loggers():
    """Return what is set of each logger, without the handlers of pytest, which come and go."""
    there = logging.root.manager.loggerDict
    return {
        name: (each.level, handlers, tuple(each.filters), each.propagate, each.disabled)
        for name, each in [("", logging.root), *there.items()]
        if isinstance(each, logging.Logger)
        for handlers in [tuple(one for one in each.handlers if "_pytest" not in type(one).__module__)]
    }


def threads():
    """Return the threads that are ours or the caller's; those that hand out segments end with them."""
    for each in threading.enumerate():
        if "_serve" in each.name:
            each.join(60)
    return sorted(each.name for each in threading.enumerate() if not each.name.startswith(THEIRS))


def world():
    """Return what a program may have set, by name."""
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
        "blas": {each["filepath"]: each["num_threads"] for each in threadpool_info()},
        "start method": multiprocessing.get_start_method(allow_none=True),
        "pandas": {option: pd.get_option(option) for option in OPTIONS},
        "matplotlib": {key: dict.__getitem__(mpl.rcParams, key) for key in mpl.rcParams},
        "figures": plt.get_fignums(),
        "mlflow": (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()),
        "hydra": (hydra, hydra.hydra, version.getbase(), OmegaConf.to_container(job.conf), config.cfg),
        "resolvers": dict(BaseContainer._resolvers),
    }


def changes(before, after):
    """Return what differs, of what was there before: what is imported meanwhile makes loggers of its own."""
    found = {}
    for name, was in before.items():
        parts = was if isinstance(was, dict) else {"": was}
        now = after[name] if isinstance(was, dict) else {"": after[name]}
        keys = parts if name == "logging" else parts.keys() | now.keys()
        found |= {
            (name, key): (parts.get(key), now.get(key)) for key in keys if parts.get(key) != now.get(key)
        }
    return found


@pytest.fixture(scope="module")
def place(empty_store, tmp_path_factory):
    """Return a folder with a store and a sweep in it, and the frames of that sweep."""
    folder = tmp_path_factory.mktemp("caller")
    empty_store(folder)
    with contextlib.chdir(folder):
        runs = fnnexp.sweep(init=["he", "max"], seed=[0, 1], **SMALL)
        return folder, runs, fnnexp.curves("digits")


@pytest.fixture
def odd_world(place, tmp_path, monkeypatch):
    """Stand in a program that has set whatever can be set to what nobody else would, and return its world."""
    folder, *_ = place
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)
    monkeypatch.setattr(logging.root.manager, "disable", 3)
    for number, name in enumerate(["mlflow", "alembic", "mlflow.store.db.utils", "hydra", "matplotlib"]):
        monkeypatch.setattr(logging.getLogger(name), "level", 41 + number)
    own = [signal.SIGINT, signal.SIGTERM]
    handlers = [signal.signal(number, lambda *_: None) for number in own]
    collecting, threshold = gc.isenabled(), gc.get_threshold()
    settled = multiprocessing.get_start_method(allow_none=True)
    with contextlib.ExitStack() as held:
        held.enter_context(
            initialize_config_dir(version_base="1.2", config_dir=str(tmp_path), job_name="mine")
        )
        held.callback(BaseContainer._resolvers.update, dict(BaseContainer._resolvers))
        OmegaConf.register_new_resolver("now", lambda: "never", replace=True)
        held.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("default", message="nothing at all")
        held.enter_context(np.errstate(under="ignore", over="ignore", divide="ignore", invalid="ignore"))
        held.enter_context(threadpool_limits(2, "blas"))
        held.enter_context(pd.option_context("display.max_rows", 7, "display.precision", 3))
        held.enter_context(mpl.rc_context({"svg.fonttype": "none", "lines.linewidth": 7.5}))
        held.callback(plt.close, plt.figure())
        held.enter_context(mlflow.start_run(run_name="theirs"))
        multiprocessing.set_start_method(None, force=True)
        gc.disable()
        gc.set_threshold(701, 11, 9)
        try:
            yield world()
        finally:
            (gc.enable if collecting else gc.disable)()
            gc.set_threshold(*threshold)
            multiprocessing.set_start_method(settled, force=True)
            for number, handler in zip(own, handlers, strict=True):
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


CALLS = {
    "sweep": lambda runs, curves: fnnexp.sweep(init=["he", "max"], seed=2, **SMALL),
    "sweep by two workers": lambda runs, curves: fnnexp.sweep(
        "init_grid", init="he", seed=[3, 4], **{**SMALL, "execution.n_jobs": 2}
    ),
    "sweep that is refused": lambda runs, curves: fnnexp.sweep(arch="none", **SMALL),
    "sweep that is refused by its data": lambda runs, curves: fnnexp.sweep(data="files", epochs=1),
    "sweep that is interrupted": sweep_that_is_interrupted,
    "sweep into a store that fails when workers have begun": sweep_into_a_store_that_fails,
    "runs": lambda runs, curves: fnnexp.runs("digits"),
    "runs that are not there": lambda runs, curves: fnnexp.runs("none"),
    "curves": lambda runs, curves: fnnexp.curves("digits"),
    "diagnostics": lambda runs, curves: fnnexp.diagnostics("digits"),
    "leaderboard": lambda runs, curves: fnnexp.leaderboard(runs),
    "leaderboard of what is no frame": lambda runs, curves: fnnexp.leaderboard("digits"),
    "compare": lambda runs, curves: fnnexp.compare(runs),
    "shares": lambda runs, curves: fnnexp.shares(runs),
    "seconds_to": lambda runs, curves: fnnexp.seconds_to(runs, curves, 0.5),
    "at_equal of no two batching modes": lambda runs, curves: fnnexp.at_equal(runs, curves, "updates"),
    "answer": lambda runs, curves: fnnexp.answer(runs),
    "plot_curves": lambda runs, curves: fnnexp.plot_curves(runs, curves).savefig("curves.svg"),
    "plot_curves of no metric": lambda runs, curves: fnnexp.plot_curves(runs, curves, "none"),
    "plot_heat_map": lambda runs, curves: fnnexp.plot_heat_map(runs),
    "images": lambda runs, curves: fnnexp.images("digits"),
    "images that are not there": lambda runs, curves: fnnexp.images("none"),
    "published": lambda runs, curves: fnnexp.published(),
    "report": lambda runs, curves: report.write("digits"),
    "report of what is not there": lambda runs, curves: report.write("none"),
}
RAISE = {name for name in CALLS if any(word in name for word in (" that ", " no ", " not "))}


def test_every_public_name_is_called_below():
    called = {name.split(" ")[0] for name in CALLS} - {"report"}
    assert called == set(fnnexp.__all__) - {"FnnexpError", "__version__"}


@pytest.mark.parametrize("thread", ["main thread", "thread"])
@pytest.mark.parametrize("call", CALLS)
def test_the_callers_world_is_as_it_was_after(call, thread, place, odd_world):
    _, *frames = place
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
    assert bool(raised) == (call in RAISE)
    assert changes(odd_world, world()) == {}


APP = """
import os, hydra, fnnexp
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime

@hydra.main(version_base={base!r}, config_path=None, config_name=None)
def theirs(config):
    def said():
        job = HydraConfig.get().job
        return (
            os.getcwd(), hydra.utils.get_original_cwd(), version.getbase(), JobRuntime.instance().get("name"),
            job.name, job.chdir, HydraConfig.get().runtime.output_dir, job.override_dirname, sorted(config),
            id(GlobalHydra.instance()), id(GlobalHydra.instance().hydra),
        )
    before = said()
    if "SWEEP" in os.environ:
        fnnexp.sweep(data="digits", epochs=1, **{{"execution.n_jobs": 1}})
        try:
            fnnexp.sweep(arch="none")
        except fnnexp.FnnexpError:
            pass
    assert said() == before
    print("job", *before[:-2])

theirs()
"""

RUN = ["hydra.run.dir=out", "hydra/job_logging=disabled"]
MULTIRUN = ["-m", "hydra.sweep.dir=out", "hydra.sweeper.max_batch_size=1", "hydra/job_logging=disabled"]


@pytest.mark.parametrize(("base", "words"), [("1.3", RUN), ("1.1", MULTIRUN)], ids=["run", "multirun"])
def test_the_jobs_of_an_app_of_hydras_are_with_a_sweep_in_it_what_they_are_without(
    base, words, store, own_folder
):
    (own_folder / "app.py").write_text(APP.format(base=base))
    seeds = "1,2" if "-m" in words else "1"

    def run(**variables):
        command = [sys.executable, "app.py", *words, f"+seed={seeds}"]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": store, **variables}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        return [line for line in ran.stdout.splitlines() if line.startswith("job ")]

    alone = run()
    assert len(alone) == len(seeds.split(","))
    assert run(SWEEP="1") == alone
