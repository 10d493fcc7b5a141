"""Sweeps: real grids on digits, whose numbers are compared with each trial trained alone in this process."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from files import in_first_format
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console
from stores import curve_in, points, runs_in, weights_in
from threadpoolctl import threadpool_info, threadpool_limits

from fnnexp.config import resolve
from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.data import datasets as data
from fnnexp.data.datasets import Prepared
from fnnexp.errors import FnnexpError
from fnnexp.nn import layer_stats
from fnnexp.nn.network import Architecture, Parameters
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.training import Recipe, Record, Stack, advance, start
from fnnexp.reporting.sections import overview
from fnnexp.results import frames
from fnnexp.sweeping import executor as executor_module
from fnnexp.sweeping.backends import loky
from fnnexp.sweeping.checkpoints import CHECKPOINTS, Checkpoints
from fnnexp.sweeping.executor import Executor, worker_count, workers_starting
from fnnexp.sweeping.loop import run as run_sweep
from fnnexp.sweeping.plan import USUAL_LANES, PlannedStack, identical, plan, spread
from fnnexp.sweeping.resources import disk
from fnnexp.sweeping.runs import DELETED
from fnnexp.sweeping.terminal.progress import SweepProgress
from fnnexp.sweeping.terminal.time_left import TimeLeft
from fnnexp.sweeping.waiting import Suspicion, Waiting
from fnnexp.sweeping.worker import Broken, WorkerDied, train_segment
from fnnexp.tracking.retry import StoreError
from fnnexp.tracking.run_format import BEST, METRICS
from fnnexp.tracking.sql import SqlRuns
from fnnexp.tracking.writer import Tracker

GRID = [
    "data=digits", "data.validation=237", "arch=relu_98,tanh_128", "init=sqrtmax,xavier,he",
    "batching=mini,full", "epochs=2",
]  # fmt: skip
WORKERS = "execution.n_jobs=2"
LONG = ["data=digits", "arch=relu_98", "init=sqrtmax,xavier,he", "seed=0,1", "epochs=120"]
ONE = ["execution.n_jobs=1"]
CUT = "execution.segment_seconds=0.2"


@pytest.fixture(scope="module", autouse=True)
def no_workers_are_left():
    yield
    if loky.pool() is not None:
        loky.pool().shutdown(wait=True, kill_workers=True)


# --- a grid on loky ---


@pytest.fixture(scope="module")
def grid(invoke, empty_store, tmp_path_factory):
    """Return the folder in which GRID has run once, and the command's output."""
    folder = tmp_path_factory.mktemp("grid")
    empty_store(folder)
    return folder, invoke("-m", *GRID, WORKERS, "tracking.experiment=grid", cwd=folder)


def test_a_grid_runs_to_its_end(grid, trials_of):
    folder, ran = grid
    assert ran.status == 0, ran.err
    assert ran.err == ""
    assert "12 trials finished" in ran.out
    runs = runs_in(folder, "grid")
    assert set(runs) == {trial.id for trial in trials_of(*GRID)}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {run.data.tags["fnnexp.status"] for run in runs.values()} == {"finished"}


def test_each_trial_of_a_grid_has_bitwise_the_curves_and_weights_it_has_alone(grid, trials_of, agrees):
    agrees(grid[0], trials_of(*GRID), "grid")


def test_a_run_records_its_trial_and_software(grid, trials_of):
    runs = runs_in(grid[0], "grid")
    for trial in trials_of(*GRID):
        run = runs[trial.id]
        assert run.info.run_name == trial.name
        assert run.data.params == {key: str(value) for key, value in trial.params.items()}
        tags = run.data.tags
        assert tags["fnnexp.numbers"] == trial.numbers_id
        assert tags["fnnexp.data_checksum"] == trial.data.checksum
        assert float(tags["fnnexp.seconds_per_epoch"]) > 0
        assert tags["fnnexp.numpy"] == np.__version__
        assert tags["fnnexp.blas"] != "unknown"
        assert set(run.data.metrics) == {*METRICS, *BEST}
        curve = curve_in(grid[0], run.info.run_id)
        accuracies = {epoch: value for name, epoch, value in curve if name == "val_accuracy"}
        best = max(accuracies.values())
        first = min(epoch for epoch, value in accuracies.items() if value == best)
        assert [run.data.metrics[name] for name in BEST] == [best, first]


def test_weights_are_float32_and_have_the_shapes_of_the_network(grid, trials_of):
    folder, _ = grid
    for trial in trials_of(*GRID):
        weights = weights_in(folder, runs_in(folder, "grid")[trial.id].info.run_id)
        (hidden,) = trial.recipe.architecture.hidden
        shapes = {name: array.shape for name, array in weights.items()}
        assert shapes == {"W1": (784, hidden), "b1": (hidden,), "W2": (hidden, 10), "b2": (10,)}
        assert {array.dtype for array in weights.values()} == {np.dtype("float32")}


def test_the_config_artifact_is_the_resolved_config(grid, trials_of):
    folder, _ = grid
    for trial in trials_of(*GRID)[:3]:
        run_id = runs_in(folder, "grid")[trial.id].info.run_id
        text = next((folder / "mlruns").glob(f"*/{run_id}/artifacts/config.yaml")).read_text("utf-8")
        written = yaml.safe_load(text)
        assert {key: value for key, value in written.items() if key != "tracking"} == {
            key: value for key, value in trial.config.items() if key != "tracking"
        } | {"execution": written["execution"]}
        assert written["execution"]["n_jobs"] == 2


def test_identical_trials_train_once_and_are_each_recorded_and_reported(grid, trials_of):
    folder, ran = grid
    assert "numerically identical: 4 trials coincide with another (sqrtmax = xavier)" in ran.out
    runs = runs_in(folder, "grid")
    groups = [group for group in identical(trials_of(*GRID)).values() if len(group) > 1]
    assert len(groups) == 4
    for group in groups:
        first, second = (runs[trial.id] for trial in group)
        tagged = [run.data.tags.get("fnnexp.identical_to") for run in (first, second)]
        assert tagged == [None, group[0].id]
        assert second.data.tags["fnnexp.identical_to_name"] == group[0].name
        assert curve_in(folder, first.info.run_id) == curve_in(folder, second.info.run_id) != []


def test_an_identical_trial_trains_in_the_same_lane(trials_of):
    trials = trials_of(*GRID)
    lanes = [lane for stack in plan(identical(trials), max_lanes=None, n_jobs=2) for lane in stack.lanes]
    assert len(lanes) == len({lane.key for lane in lanes}) == 8


def test_a_finished_sweep_leaves_no_checkpoints(grid):
    assert list((grid[0] / ".fnnexp" / "checkpoints").glob("*")) == []


@pytest.mark.usefixtures("blank_figures")
def test_every_number_is_the_same_in_mlflow_in_the_frames_and_in_the_report(grid, invoke):
    folder, _ = grid
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    ran = invoke("report", "grid", "--folder", "report", cwd=folder)
    assert ran.status == 0, ran.err
    runs = frames.runs("grid", tracking_uri=uri).set_index("trial")
    curves = frames.curves("grid", tracking_uri=uri)
    written = {name: rows_of(folder / "report" / f"{name}.csv") for name in ("runs", "curves")}
    for trial, run in runs_in(folder, "grid").items():
        stored = curve_in(folder, run.info.run_id)
        rows = curves[curves["trial"] == trial]
        framed = zip(rows["metric"].astype(str), rows["epoch"].astype(int), rows["value"], strict=True)
        assert sorted(framed) == stored
        rows = [row for row in written["curves"] if row["trial"] == trial]
        assert sorted((row["metric"], int(row["epoch"]), float(row["value"])) for row in rows) == stored
        last = {name: value for name, epoch, value in stored if epoch == 2}
        assert runs.loc[trial, list(METRICS)].to_dict() == last
        (row,) = (row for row in written["runs"] if row["trial"] == trial)
        assert {name: float(row[name]) for name in METRICS} == last


def rows_of(file):
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_repeating_the_command_trains_nothing_and_creates_no_run(grid, invoke):
    folder, _ = grid
    before = {trial: run.to_dictionary() for trial, run in runs_in(folder, "grid").items()}
    repeated = invoke("-m", *GRID, WORKERS, "tracking.experiment=grid", cwd=folder)
    assert repeated.status == 0
    assert re.search(r"0 trials finished in [\d.]+ s; 12 were done before", repeated.out)
    assert {trial: run.to_dictionary() for trial, run in runs_in(folder, "grid").items()} == before


def test_a_value_added_to_a_grid_trains_only_the_new_trials(invoke, store, tmp_path, trials_of, agrees):
    first = ["data=digits", "epochs=1", "init=he,max"]
    assert invoke("-m", *first, "execution.n_jobs=1").status == 0
    before = {trial: run.to_dictionary() for trial, run in runs_in(tmp_path).items()}
    ran = invoke("-m", *first, "seed=0,1", "execution.n_jobs=1")
    assert re.search(r"2 trials finished in [\d.]+ s; 2 were done before", ran.out)
    after = {trial: run.to_dictionary() for trial, run in runs_in(tmp_path).items()}
    assert {trial: after[trial] for trial in before} == before
    agrees(tmp_path, trials_of(*first, "seed=0,1"))


def test_a_trial_named_twice_runs_once(invoke, store, tmp_path):
    ran = invoke("-m", "data=digits", "epochs=1", "optimizer.lr=0.1,1e-1", "execution.n_jobs=1")
    assert ran.status == 0
    assert "1 of 2 jobs duplicates another job" in ran.out
    assert len(runs_in(tmp_path)) == 1


def test_epochs_0_records_the_untrained_network(invoke, store, tmp_path, trials_of, same_bits):
    command = ["data=digits", "epochs=0", "seed=5"]
    assert invoke(*command, "execution.n_jobs=1").status == 0
    (trial,) = trials_of(*command)
    run = runs_in(tmp_path)[trial.id]
    assert run.info.status == "FINISHED"
    assert {(epoch) for _, epoch, _ in curve_in(tmp_path, run.info.run_id)} == {0}
    theta = start(trial.recipe, [trial.lane()]).theta
    expected = Parameters(trial.recipe.architecture, theta).named(0)
    assert same_bits(weights_in(tmp_path, run.info.run_id), expected)


@pytest.mark.parametrize(
    "execution",
    [
        ["execution.backend=threading", WORKERS],
        ["execution.backend=sequential", "execution.n_jobs=1"],
        ["execution.max_lanes=1", WORKERS],
        ["execution.n_jobs=1", "execution.max_lanes=5", "execution.segment_seconds=0"],
    ],
    ids=" ".join,
)
def test_execution_settings_change_no_bit(execution, invoke, store, tmp_path, trials_of, agrees):
    command = ["data=digits", "epochs=3", "init=he,max", "seed=0,1,2", "batching=mini"]
    ran = invoke("-m", *command, *execution)
    assert ran.status == 0, ran.err
    agrees(tmp_path, trials_of(*command))


# --- trials that diverge or fail ---


@pytest.mark.usefixtures("blank_figures")
def test_a_test_accuracy_of_1_at_the_first_epoch_is_printed_and_in_the_report(invoke, store, own_folder):
    """One pixel marks each class; half of the trials learn nothing."""
    y = np.arange(120, dtype=np.uint8) % 3
    x = np.zeros((120, 28, 28), np.uint8)
    x[np.arange(120), 10 + y, 10] = 255
    x[np.arange(120), 20, :] = np.random.default_rng(0).integers(0, 256, (120, 28))  # no two images are equal
    np.savez("leak.npz", x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])
    words = ["-m", "data=files", "data.path=leak.npz", "batching=sample", "epochs=2", "seed=0,1", *ONE]
    ran = invoke(*words, "optimizer.lr=0.1,0")
    curves = frames.curves("leak")
    first = curves[(curves["metric"] == "test_accuracy") & (curves["epoch"] == 1)]
    assert (len(first), (first["value"] == 1).sum()) == (4, 2)
    assert ran.out.count("test accuracy is 1.0 at the first epoch. Networks hardly ever learn this fast") == 1
    assert "the label in a column among the inputs" in ran.out
    assert "4 trials finished, 2 had a test accuracy of 1.0 at the first epoch" in ran.out
    sentence = "In 2 trials, test accuracy is 1.0 at the first epoch."
    assert sentence in " ".join(invoke("report", "leak").out.split())
    for file in ("report.html", "report.md"):
        assert sentence in (own_folder / "reports" / "leak" / file).read_text("utf-8")
    assert overview.too_good(curves[~curves["trial"].isin(first.loc[first["value"] == 1, "trial"])]) == []


def test_a_diverging_trial_is_recorded_and_its_stack_continues(invoke, store, tmp_path, trials_of, agrees):
    command = ["data=digits", "epochs=3", "seed=0,1", "optimizer.lr=0.1,1e30"]
    ran = invoke("-m", *command, "execution.n_jobs=1")
    assert ran.status == 0, ran.err
    assert "2 trials finished, 2 diverged" in ran.out
    runs = runs_in(tmp_path)
    for trial in trials_of(*command):
        run = runs[trial.id]
        assert run.info.status == "FINISHED"
        if dict(trial.hyper)["lr"] == 0.1:
            assert run.data.tags["fnnexp.status"] == "finished"
            assert "fnnexp.diverged_epoch" not in run.data.tags
        else:
            assert run.data.tags["fnnexp.status"] == "diverged"
            assert run.data.tags["fnnexp.diverged_epoch"] == "1"
            assert f"{trial.name} diverged at epoch 1" in ran.out
    agrees(tmp_path, trials_of(*command))
    repeated = invoke("-m", *command, "execution.n_jobs=1")
    assert "4 were done before" in repeated.out


@pytest.mark.usefixtures("blank_figures")
def test_a_trial_that_stops_early_is_finished_and_its_stack_continues(
    invoke, store, tmp_path, trials_of, agrees
):
    """One trial resumes after its best epoch; each segment has one epoch, so its stack is cut and saved."""
    command = [
        "data=digits",
        "epochs=9",
        "seed=0,1",
        "init=he,xavier",
        "optimizer.lr=0.5",
        "stopping.patience=2",
    ]
    trials = trials_of(*command)
    last = {trial.id: _last_epoch(trial) for trial in trials}
    assert sorted(last.values()) == [3, 4, 8, 9]  # the last trial would stop at epoch 10
    resumed = next(trial for trial in trials if last[trial.id] == 8)
    Checkpoints(CHECKPOINTS).save(*_with_curve(half_trained(resumed, epochs=7)))
    ran = invoke("-m", *command, "execution.n_jobs=1", "execution.segment_seconds=0")
    assert ran.status == 0, ran.err
    assert "resuming 1 trial from" in ran.out
    assert "epochs 36/36 · trials 4/4" in ran.out
    assert "4 trials finished (3 stopped early, at epochs 3 to 8) in" in ran.out
    agrees(tmp_path, trials)
    runs = frames.runs("digits", tracking_uri=store).set_index("trial")
    for trial in trials:
        tags = runs_in(tmp_path)[trial.id].data.tags
        stopped = last[trial.id] if last[trial.id] < 9 else None
        best = last[trial.id] - 2 if stopped else 8
        because = f"val_loss did not improve in 2 epochs; epoch {best} was the best" if stopped else None
        assert tags.get("fnnexp.stopped_because") == because
        assert runs.loc[trial.id, "status"] == "finished"
        assert runs.loc[trial.id, ["stopped_epoch", "weights_best_epoch"]].to_list() == [
            stopped or pd.NA,
            best,
        ]
    assert not list(CHECKPOINTS.glob("*"))
    assert "0 trials finished in" in (repeated := invoke("-m", *command, "execution.n_jobs=1").out)
    assert "4 were done before" in repeated
    reported = " ".join(invoke("report", "digits").out.split())
    assert "4 finished (3 stopped early), 0 diverged" in reported
    for file in ("report.md", "report.html"):
        text = (tmp_path / "reports" / "digits" / file).read_text("utf-8")
        assert (
            "3 trials stopped early, at epochs 3 to 8, because val_loss did not improve in 2 epochs." in text
        )
    assert "A trial that stopped early keeps its last value" in text  # in a caption of the page


def _last_epoch(trial):
    """Return the epoch at which a trial ends, from the curve of the same trial without early stopping."""
    whole = replace(trial, recipe=replace(trial.recipe, stopping=None))
    losses = [record.metrics["val_loss"] for record in half_trained(whole, trial.recipe.epochs)[1]]
    for epoch in range(3, len(losses) + 1):
        if min(losses[: epoch - 2]) <= min(losses[epoch - 2 : epoch]):
            return epoch
    return len(losses)


def test_a_failing_trial_affects_no_other_and_is_listed_with_its_reason(
    invoke, store, tmp_path, trials_of, train_alone, monkeypatch
):
    monkeypatch.setattr(resolve, "MOST_PARAMETERS", 10**18)  # so that a trial can run out of memory
    monkeypatch.setattr(disk, "check", lambda *_: None)  # its weights would not fit on any disk
    command = ["data=digits", "epochs=1", "arch.hidden=[20],[1000000000000],[30]"]
    ran = invoke("-m", *command, WORKERS, "execution.memory=999999999TB")
    assert ran.status == 1
    assert "1 of 3 trials failed" in ran.err
    assert "relu_1000000000000-he_normal-mini-s0" in ran.err
    assert "MemoryError" in ran.err
    assert "Traceback" not in ran.err
    assert "2 trials finished" in ran.out
    runs = runs_in(tmp_path)
    for trial in trials_of(*command):
        run = runs[trial.id]
        if trial.recipe.architecture.hidden == (1000000000000,):
            assert run.info.status == "FAILED"
            assert run.data.tags["fnnexp.status"] == "failed"
            assert "MemoryError" in run.data.tags["fnnexp.error"]
            (trace,) = (tmp_path / "mlruns").glob(f"*/{run.info.run_id}/artifacts/traceback.txt")
            assert "Traceback (most recent call last)" in trace.read_text("utf-8")
        else:
            assert run.info.status == "FINISHED"
            assert curve_in(tmp_path, run.info.run_id) == points(train_alone(trial)[0])


def test_repeating_the_command_retries_a_failed_trial(invoke, store, tmp_path, monkeypatch):
    command = ["data=digits", "epochs=1", "execution.n_jobs=1", "execution.backend=sequential"]
    broken = Broken("OSError: no data today", "Traceback …")
    monkeypatch.setattr(executor_module, "train_segment", lambda planned, execution: broken)
    assert invoke(*command).status == 1
    monkeypatch.undo()
    assert invoke(*command, cwd=tmp_path).status == 0
    (run,) = runs_in(tmp_path).values()
    assert run.data.tags["fnnexp.status"] == "finished"
    assert "fnnexp.error" not in run.data.tags


def swept(trials, store, **changed):
    """Run trials as one sweep in this process; return the outcome and the printed text."""
    console = Console(file=io.StringIO(), width=200)
    chosen = Execution(**{"n_jobs": 1, "backend": "threading"} | changed)
    return run_sweep(trials, Tracker("digits", store), chosen, console), console.file.getvalue()


def test_a_stack_with_a_failing_lane_is_halved_until_the_lane_is_alone(
    store, tmp_path, trials_of, train_alone, monkeypatch
):
    trials = trials_of("epochs=2", "seed=0,1,2,3,4")
    seen = []

    def train(planned, execution):
        seeds = {lane.seed for lane in planned.lanes}
        seen.append(len(seeds))
        return Broken("ValueError: seed 2", "…") if 2 in seeds else train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    outcome, output = swept(trials, store, max_lanes=5)
    assert sorted(seen) == [1, 1, 2, 2, 3, 5]  # {0…4}, {0, 1, 2}, {3, 4}, {0, 1}, {2}, and {2} again
    assert outcome.failed == [(trials[2].name, "ValueError: seed 2")]
    assert sorted(outcome.finished) == sorted(trial.name for trial in trials if trial.seed != 2)
    assert "a stack of 5 networks broke (ValueError: seed 2); retrying its halves" in output
    runs = runs_in(tmp_path)
    for trial in trials:
        if trial.seed == 2:
            assert runs[trial.id].info.status == "FAILED"
        else:
            assert curve_in(tmp_path, runs[trial.id].info.run_id) == points(train_alone(trial)[0])


# --- killed workers and interrupted sweeps ---


def checkpoints_in(folder):
    return list((folder / ".fnnexp" / "checkpoints").glob("*.npz"))


def until(happened, seconds=60):
    """Wait until ``happened()`` is true; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def test_a_sweep_finishes_after_a_worker_was_killed(store, tmp_path, trials_of, agrees):
    trials = trials_of(*LONG)
    killed = []

    def kill_one():
        until(lambda: checkpoints_in(tmp_path))
        pid = loky.processes()[0].pid
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    outcome, output = swept(trials, store, n_jobs=2, backend="loky", segment_seconds=0.2)
    killer.join()
    assert len(killed) == 1
    assert "a worker died" in output
    assert outcome.failed == []
    assert len(outcome.finished) == len(trials) == 6
    agrees(tmp_path, trials)


def test_a_worker_killed_while_it_sends_its_result_is_noticed(monkeypatch, tmp_path, trials_of):
    first_time = str(tmp_path / "first time")

    def train(planned, execution):
        import os
        import sys
        import time

        if not os.path.exists(first_time):  # noqa: PTH110
            open(first_time, "w").close()  # noqa: PTH123
            frame = sys._getframe()
            while "result_queue" not in frame.f_locals:
                frame = frame.f_back
            writer = frame.f_locals["result_queue"]._writer
            os.write(writer.fileno(), (1000).to_bytes(4, "big") + b"half of what was promised")
            os.kill(os.getpid(), 9)
        time.sleep(0.1)
        return planned.lanes[0].key

    monkeypatch.setattr(executor_module, "train_segment", train)
    executor = Executor(Execution(2, "loky", "numpy"))
    planned = plan(identical(trials_of("data=digits", "seed=0,1")), max_lanes=1, n_jobs=2)
    for stack in planned:
        executor.submit(stack)
    ended = [executor.result() for _ in planned]
    assert any(isinstance(answer, WorkerDied) for _, answer in ended)
    for stack, answer in ended:
        if isinstance(answer, WorkerDied):
            executor.submit(stack)
    retried = [executor.result() for _ in range(executor.under_way)]
    assert [answer for _, answer in retried] == [stack.lanes[0].key for stack, _ in retried]
    executor.close()


class Process:
    """The command line in its own process group, so that signals reach its workers too."""

    def __init__(self, *words):
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "fnnexp.cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for kill in (self.popen.kill, lambda: os.killpg(self.popen.pid, signal.SIGKILL)):
            try:
                kill()
            except ProcessLookupError:
                continue
        self.popen.communicate()


def curves_are_visible(folder):
    """Return whether the store has metrics of a run that is still running."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "select count(*) from metrics join runs using (run_uuid) where status = 'RUNNING'"
        return database.execute(query).fetchone()[0] > 0


def test_a_sweep_resumes_after_its_process_was_killed(invoke, store, tmp_path, trials_of, agrees):
    command = ["-m", *LONG, WORKERS, CUT]
    with Process(*command) as process:
        until(lambda: checkpoints_in(tmp_path))
        os.kill(process.popen.pid, signal.SIGKILL)
        process.popen.wait()
    assert process.popen.returncode == -signal.SIGKILL
    assert "RUNNING" in {run.info.status for run in runs_in(tmp_path).values()}
    groups = identical(trials_of(*LONG))
    begun = sum(len(groups[file.stem]) for file in checkpoints_in(tmp_path))
    ran = invoke(*command)
    assert ran.status == 0, ran.err
    assert f"resuming {begun} trials from the last checkpoint" in ran.out
    assert re.search(r"^epochs (\d+)/\1 ", ran.out, re.MULTILINE)  # those of the killed sweep count
    assert {run.info.status for run in runs_in(tmp_path).values()} == {"FINISHED"}
    agrees(tmp_path, trials_of(*LONG))


@pytest.mark.long
def test_curves_are_visible_during_training_and_kept_after_ctrl_c(invoke, store, tmp_path, trials_of, agrees):
    command = ["-m", *LONG, WORKERS, CUT]
    with Process(*command) as process:
        until(lambda: curves_are_visible(tmp_path))
        os.killpg(process.popen.pid, signal.SIGINT)
        out, err = process.popen.communicate(timeout=60)
    assert process.popen.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in out + err
    runs = runs_in(tmp_path)
    assert {run.info.status for run in runs.values()} <= {"KILLED", "FINISHED"}
    stopped = [run for run in runs.values() if run.info.status == "KILLED"]
    assert {run.data.tags["fnnexp.status"] for run in stopped} == {"interrupted"}
    kept = {run.info.run_id: curve_in(tmp_path, run.info.run_id) for run in stopped}
    assert max(map(len, kept.values())) > 0
    repeated = invoke(*command)
    assert re.search(r"^epochs (\d+)/\1 ", repeated.out, re.MULTILINE)
    assert repeated.status == 0, repeated.err
    agrees(tmp_path, trials_of(*LONG))
    for run_id, before in kept.items():
        assert set(before) <= set(curve_in(tmp_path, run_id))


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows can't suspend a process")
def test_a_suspended_sweep_continues(store, tmp_path, trials_of, agrees):
    with Process("-m", *LONG, WORKERS, CUT) as process:
        until(lambda: checkpoints_in(tmp_path))
        os.killpg(process.popen.pid, signal.SIGSTOP)
        time.sleep(4)  # longer than any timeout
        assert process.popen.poll() is None
        os.killpg(process.popen.pid, signal.SIGCONT)
        out, err = process.popen.communicate(timeout=120)
    assert process.popen.returncode == 0, out + err
    agrees(tmp_path, trials_of(*LONG))


@pytest.mark.long
def test_a_second_ctrl_c_stops_at_once_and_loses_no_finished_trial(
    invoke, store, tmp_path, trials_of, agrees
):
    grid = ["data=digits", "init=sqrtmax,xavier,he", "batching=sample", "arch=sigmoid_32_32"]
    quick, slow = "epochs=1", "epochs=400"
    assert invoke("-m", *grid, quick, WORKERS).status == 0
    command = ["-m", *grid, slow, WORKERS, "execution.segment_seconds=1000"]
    with Process(*command) as process:
        until(lambda: "RUNNING" in {run.info.status for run in runs_in(tmp_path).values()})
        time.sleep(1)
        os.kill(process.popen.pid, signal.SIGINT)
        time.sleep(0.5)
        assert process.popen.poll() is None
        began = time.monotonic()
        os.kill(process.popen.pid, signal.SIGINT)
        out, err = process.popen.communicate(timeout=60)
        waited = time.monotonic() - began
    assert process.popen.returncode == 130
    assert "Traceback" not in out + err
    assert waited < 10  # a segment would take minutes
    assert sorted({run.info.status for run in runs_in(tmp_path).values()}) == ["FINISHED", "KILLED"]
    finished = trials_of(*grid, quick)
    agrees(tmp_path, finished, only=True)


def begun(process):
    """Return whether the process has children, which are joblib's before anything trains."""
    try:
        return bool(psutil.Process(process.popen.pid).children())
    except psutil.Error:
        return process.popen.poll() is not None


def all_processes_ended(process):
    """Return whether all processes of a command's session have ended."""
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == process.popen.pid and psutil.pid_exists(pid):
                return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups for signals")
@pytest.mark.parametrize("wait", [0.0, 0.05, 0.1, 0.2, 0.3])
def test_ctrl_c_while_workers_start_prints_one_line_and_leaves_no_worker(store, wait):
    with Process("-m", *LONG, WORKERS, CUT) as process:
        until(lambda: begun(process))
        time.sleep(wait)
        os.killpg(process.popen.pid, signal.SIGINT)
        out, err = process.popen.communicate(timeout=60)
    # A signal during an import kills Python directly; a shell reports 130 in both cases.
    assert process.popen.returncode in (130, -signal.SIGINT)
    assert err.startswith("fnnexp: interrupted"), err
    assert "Traceback" not in out + err
    until(lambda: all_processes_ended(process))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no sessions")
def test_an_error_in_a_later_job_prints_one_line_and_leaves_no_worker(store):
    with Process("-m", "data=digits", "init=he,nope", "seed=range(300)", WORKERS) as process:
        out, err = process.popen.communicate(timeout=60)
    assert process.popen.returncode == 2
    assert out == ""
    assert err.startswith("fnnexp: init=nope: must be one of "), err
    assert len(err.splitlines()) == 1
    until(lambda: all_processes_ended(process))


def processes():
    return [process for process in loky.processes() if process.is_alive()]


@pytest.fixture
def no_workers(monkeypatch):
    """Start without joblib's processes, as a command does, on a machine with at least two cores."""
    if loky.pool() is not None:
        loky.pool().shutdown(wait=True, kill_workers=True)
    monkeypatch.setattr(executor_module, "cpu_count", lambda: 2)


def test_workers_start_while_the_block_runs(no_workers, trials_of):
    with workers_starting(Execution(2)):
        until(lambda: len(processes()) == 2)
        begun = {worker.pid for worker in processes()}
    assert {worker.pid for worker in processes()} == begun
    with closing(Executor(Execution(2, "loky", "numpy"))) as executor:
        for stack in plan(identical(trials_of("epochs=1", "seed=0,1")), max_lanes=1, n_jobs=2):
            executor.submit(stack)
        while executor.under_way:
            executor.result()
    assert {worker.pid for worker in processes()} == begun


def test_started_workers_end_if_the_block_fails(no_workers):
    with pytest.raises(ValueError, match="so"), workers_starting(Execution(2)):
        raise ValueError("so")
    until(lambda: not processes())


@pytest.mark.parametrize(("n_jobs", "backend"), [(1, "loky"), (3, "loky"), (2, "threading")])
def test_no_worker_starts_early_if_the_sweep_does_not_need_it(n_jobs, backend, no_workers):
    with workers_starting(Execution(n_jobs, backend)):
        assert not processes()


# --- checkpoints ---


def half_trained(trial, epochs=1):
    recipe = replace(trial.recipe, epochs=epochs)
    with threadpool_limits(1, "blas"):
        return advance(recipe, start(recipe, [trial.lane()]), data.load(trial.data))


@pytest.mark.parametrize(
    "words", [["optimizer=sgd"], ["optimizer=momentum"], ["optimizer=adam", "stopping.patience=2"]]
)
def test_a_checkpoint_restores_what_was_saved(words, tmp_path, trials_of):
    (trial,) = trials_of(*words, "epochs=3")
    stack, records = half_trained(trial)
    if stack.best is not None:
        stack.best.theta[:] += 1  # other parameters than the last
    kept = Checkpoints(tmp_path / "new" / "folder")
    kept.save(stack, {trial.numbers_id: records})
    loaded, curve = kept.load(trial.lane(), trial.recipe)
    assert loaded.lanes == stack.lanes
    assert loaded.epoch == 1
    assert loaded.theta.tobytes() == stack.theta.tobytes()
    assert [slot.tobytes() for slot in loaded.slots] == [slot.tobytes() for slot in stack.slots]
    assert (loaded.best is None) == (len(words) == 1)
    if loaded.best is not None:
        assert (loaded.best.values, loaded.best.epochs) == ((records[0].metrics["val_loss"],), (1,))  # noqa: PD011
        assert loaded.best.theta.tobytes() == stack.best.theta.tobytes()
    assert [(record.epoch, record.metrics) for record in curve] == [
        (record.epoch, record.metrics) for record in records
    ]
    kept.remove([trial.numbers_id])
    assert not list(kept.folder.iterdir())
    assert kept.load(trial.lane(), trial.recipe) is None


def test_an_interrupted_save_keeps_the_previous_checkpoint(tmp_path, trials_of, monkeypatch):
    (trial,) = trials_of("epochs=3")
    kept = Checkpoints(tmp_path)
    kept.save(*_with_curve(half_trained(trial)))

    def torn(file, **arrays):
        file.write(b"PK half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", torn)
    with pytest.raises(OSError, match="no space left"):
        kept.save(*_with_curve(half_trained(trial, epochs=2)))
    monkeypatch.undo()
    assert kept.load(trial.lane(), trial.recipe)[0].epoch == 1


def test_the_bytes_written_to_checkpoints_are_linear_in_the_epochs(tmp_path, trials_of):
    (trial,) = trials_of("epochs=200", "arch.hidden=[1]")
    stack, records = half_trained(trial)
    kept, curve, file_sizes = Checkpoints(tmp_path), [], set()
    for epoch in range(1, 201):
        curve.append(replace(records[0], epoch=epoch))
        kept.save(replace(stack, epoch=epoch), {trial.numbers_id: curve})
        (file,) = tmp_path.glob("*.npz")
        file_sizes.add(file.stat().st_size)
    assert max(file_sizes) - min(file_sizes) < 20  # larger numbers have more digits
    (log,) = tmp_path.glob("*.curve")
    assert len(log.read_text().splitlines()) == 200
    assert kept.load(trial.lane(), trial.recipe)[1] == curve


def test_records_appended_by_a_killed_process_are_ignored(tmp_path, trials_of, monkeypatch):
    (trial,) = trials_of("epochs=4")
    stack, curve = half_trained(trial, epochs=3)
    kept = Checkpoints(tmp_path)

    def save(epochs):
        kept.save(replace(stack, epoch=epochs), {trial.numbers_id: curve[:epochs]})

    def killed(file, **arrays):
        raise OSError("killed after writing the curve and before writing the state")

    save(1)
    for epochs in (3, 2):  # the second save overwrites what the first left
        monkeypatch.setattr(np, "savez", killed)
        with pytest.raises(OSError, match="killed"):
            save(epochs)
        monkeypatch.undo()
        assert Checkpoints(tmp_path).load(trial.lane(), trial.recipe)[1] == curve[:1]
    save(2)
    assert Checkpoints(tmp_path).load(trial.lane(), trial.recipe)[1] == curve[:2]


def test_two_processes_on_one_lane_leave_a_valid_checkpoint_in_any_order(tmp_path, trials_of):
    (trial,) = trials_of("epochs=5")
    stack, curve = half_trained(trial, epochs=4)
    first, second = Checkpoints(tmp_path), Checkpoints(tmp_path)
    for saving, epochs in [(first, 1), (second, 1), (first, 2), (second, 3), (first, 3)]:
        saving.save(replace(stack, epoch=epochs), {trial.numbers_id: curve[:epochs]})
        assert first.load(trial.lane(), trial.recipe)[1] == curve[:epochs]
    second.remove([trial.numbers_id])
    assert list(tmp_path.iterdir()) == []
    first.save(stack, {trial.numbers_id: curve})
    assert second.load(trial.lane(), trial.recipe)[1] == curve


def _with_curve(trained):
    stack, records = trained
    return stack, {stack.lanes[0].key: records}


@pytest.mark.parametrize(
    "harm",
    [
        "torn",
        "emptied",
        "foreign",
        "misshapen",
        "of another precision",
        "pickled",
        "its curve lost",
        "its curve torn",
        "another curve",
    ],
)
def test_a_damaged_checkpoint_is_set_aside_with_a_message_and_the_trial_starts_over(
    harm, store, tmp_path, trials_of, agrees
):
    trials = trials_of("epochs=2")
    folder = tmp_path / ".fnnexp" / "checkpoints"
    kept, (trial,) = Checkpoints(folder), trials
    stack, records = half_trained(trial)
    if harm == "misshapen":
        stack = replace(stack, theta=stack.theta[:, :-1])
    if harm == "of another precision":
        stack = replace(stack, theta=stack.theta.astype(np.float64))
    kept.save(stack, {trial.numbers_id: records})
    (file,), (curve,) = folder.glob("*.npz"), folder.glob("*.curve")
    if harm == "its curve lost":
        curve.unlink()
    if harm == "its curve torn":
        curve.write_bytes(curve.read_bytes()[:-1])
    if harm == "another curve":
        curve.write_bytes(curve.read_bytes().replace(b"1", b"2"))
    if harm == "torn":
        file.write_bytes(file.read_bytes()[:1000])
    if harm == "emptied":
        file.write_bytes(b"")
    if harm == "foreign":
        (other,) = trials_of("epochs=2", "seed=9")
        kept.save(*_with_curve(half_trained(other)))
        (folder / f"{other.numbers_id}.npz").replace(file)
    if harm == "pickled":
        np.savez(file, meta=np.array([{"key": 1}], dtype=object))
    outcome, output = swept(trials, store)
    assert f"{trial.name} starts over" in output
    assert "set aside" in output
    assert [file.suffix for file in folder.glob(f"{trial.numbers_id}*")] == [".broken"]
    assert outcome.finished == [trial.name]
    agrees(tmp_path, trials)


@pytest.mark.parametrize(
    "bug", [KeyError("softplus"), ValueError("a bug"), TypeError("a bug"), MemoryError()]
)
def test_a_bug_is_raised_and_keeps_the_checkpoint(bug, store, trials_of, monkeypatch):
    trials = trials_of("epochs=3")
    kept = Checkpoints(CHECKPOINTS)
    kept.save(*_with_curve(half_trained(trials[0])))
    (file,) = CHECKPOINTS.glob("*.npz")
    before = file.read_bytes()

    def broken(architecture):
        raise bug

    monkeypatch.setattr(layer_stats, "names", broken)
    with pytest.raises(type(bug)) as raised:
        swept(trials, store)
    assert raised.value is bug
    assert list(CHECKPOINTS.glob("*.npz")) == [file]
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "form", ["its curve in its own file", "its curve in the same file, as in older versions"]
)
@pytest.mark.parametrize("epochs", [2, 3])
def test_a_valid_checkpoint_is_resumed_and_its_epochs_are_not_repeated(
    epochs, form, store, tmp_path, trials_of, monkeypatch, agrees
):
    trials = trials_of("epochs=3")
    Checkpoints(CHECKPOINTS).save(*_with_curve(half_trained(trials[0], epochs)))
    if "older versions" in form:
        (file,), (curve,) = CHECKPOINTS.glob("*.npz"), CHECKPOINTS.glob("*.curve")
        np.savez(file, **in_first_format(file))
        curve.unlink()
    began_at = []

    def train(planned, execution):
        began_at.append(planned.stack.epoch)
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    outcome, output = swept(trials, store)
    assert began_at == [epochs]
    assert "resuming 1 trial from" in output
    assert outcome.finished == [trials[0].name]
    agrees(tmp_path, trials)


# --- progress ---


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_progress_in_a_file_is_an_occasional_plain_line():
    clock, console = Clock(), Console(file=io.StringIO(), width=200)
    with SweepProgress(console, epochs=30, trials=3, clock=clock) as progress:
        progress.start("starting 2 workers", stacks=1)
        progress.epoch(5)
        clock.now = 11.0
        progress.epoch(5)
        clock.now = 12.0
        progress.latest("he", {"val_accuracy": 0.25, "val_loss": 2.0}, "val_accuracy")
        progress.latest("max", {"val_accuracy": 0.125, "val_loss": 1.0}, "val_accuracy")
        progress.epoch(5)
        progress.done()
        progress.done()
        clock.now = 30.0
        progress.failure()
    first, second, last = console.file.getvalue().splitlines()
    assert first == "starting 2 workers: 3 trials in 1 stack"
    assert second == "epochs 10/30 · trials 0/3"
    assert last == (
        "epochs 15/30 · trials 2/3, 1 failed · leading with val_accuracy 0.2500, val_loss 2.0000: he · 30 s"
    )
    assert "\x1b" not in console.file.getvalue()


def test_progress_on_a_dumb_terminal_is_plain_lines():
    console = Console(file=io.StringIO(), force_terminal=True, width=160, _environ={"TERM": "dumb"})
    with SweepProgress(console, epochs=1, trials=1) as progress:
        progress.start("starting", stacks=1)
        progress.epoch()
        progress.done()
    first, last = console.file.getvalue().splitlines()
    assert first == "starting: 1 trial in 1 stack"
    assert last.startswith("epochs 1/1 · trials 1/1")


def test_progress_on_a_terminal_is_one_bar():
    console = Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=160)
    with SweepProgress(console, epochs=4, trials=2) as progress:
        progress.stage("starting 2 workers")
        progress.say("a line above")
        progress.latest("he", {"test_accuracy": 0.5, "test_loss": 1.5}, "test_accuracy")
        progress.epoch(4)
        progress.done()
        progress.done()
    written = console.file.getvalue()
    assert "\x1b[" in written
    assert "━" in written
    assert "4/4" in written
    assert "trials 0/2 · starting 2 workers" in written
    assert "trials 2/2 · leading with test_accuracy 0.5000, test_loss 1.5000: he" in written
    assert "a line above" in written


@pytest.mark.parametrize("quiet", [False, True])
def test_the_line_in_a_notebook_ends_as_the_round_did(quiet, monkeypatch):
    """Also that of a later round, in which no trial ends, as at the rungs of a search."""
    shown = []
    monkeypatch.setattr("fnnexp.console.line", lambda: shown.append)
    clock = Clock()
    with SweepProgress(Console(file=io.StringIO()), epochs=4, trials=2, quiet=quiet, clock=clock) as progress:
        clock.now = 0.1
        progress.epoch(4)
    assert shown[-1] == "━" * 30 + " epochs 4/4 · 0 s\ntrials 0/2"


def test_the_best_trial_has_the_best_latest_epoch_and_has_not_diverged():
    progress = SweepProgress(Console(file=io.StringIO()), epochs=9, trials=3)

    def best_after(name, accuracy):
        progress.latest(name, {"val_accuracy": accuracy}, "val_accuracy")
        return progress.best()

    assert progress.best() == ""
    assert best_after("he", 0.5) == "leading with val_accuracy 0.5000: he"
    assert best_after("max", 0.75) == "leading with val_accuracy 0.7500: max"
    assert best_after("xavier", 0.625) == "leading with val_accuracy 0.7500: max"
    assert best_after("max", 0.25) == "leading with val_accuracy 0.6250: xavier"
    progress.drop("xavier")
    assert progress.best() == "leading with val_accuracy 0.5000: he"


def segment(stack, seconds, epochs=1):
    """Return the records of a segment in which each epoch of the stack takes this time in seconds."""
    share = seconds / len(stack.lanes)
    return [Record(lane.key, epoch + 1, {}, share) for lane in stack.lanes for epoch in range(epochs)]


def after(stack, epochs=1):
    """Return a stack some epochs later."""
    return replace(stack, stack=replace(stack.stack, epoch=stack.stack.epoch + epochs))


def stacks_of(*modes):
    """Return a stack of two lanes and nine epochs for each batching mode."""
    trials = [small_trial(2, mode, True, seed, "he") for mode in modes for seed in range(2)]
    return plan(identical(trials), max_lanes=2, n_jobs=1)


def test_no_time_left_is_shown_before_each_worker_has_returned_a_segment():
    clock = Clock()
    first, second = stacks_of("mini", "sample")
    left = TimeLeft([first, second], 2, clock)
    left.submitted(first)
    left.submitted(second)
    clock.now = 100.0
    assert left.seconds() is None
    left.returned(first, after(first), segment(first, 10.0))
    assert left.seconds() is None
    left.returned(second, after(second), segment(second, 10.0))
    assert left.seconds() == pytest.approx(80.0)


def test_the_time_left_is_measured_for_each_kind_of_stack():
    """The start of the workers takes 100 s, an epoch 1 s one row at a time and 4 s in batches."""
    clock = Clock()
    slow, quick = sorted(stacks_of("mini", "sample"), key=lambda stack: stack.recipe.batching.mode)
    left = TimeLeft([slow, quick], 1, clock)
    left.submitted(slow)
    clock.now = 104.0
    left.returned(slow, after(slow), segment(slow, 4.0))
    left.submitted(quick)
    clock.now = 105.0
    left.returned(quick, after(quick), segment(quick, 1.0))
    assert left.seconds() == pytest.approx(8 * 4.0 + 8 * 1.0)


def test_the_time_left_falls_while_a_segment_runs_and_stays_above_0():
    clock = Clock()
    (stack,) = stacks_of("mini")
    left = TimeLeft([stack], 1, clock)
    left.submitted(stack)
    left.returned(stack, rest := after(stack), segment(stack, 10.0))
    left.submitted(rest)
    seen = []
    for clock.now in (0.0, 10.0, 70.0, 1000.0):
        seen.append(left.seconds())
    assert seen == pytest.approx([80.0, 70.0, 10.0, 0.0])


def test_one_long_epoch_is_not_shared_by_two_workers():
    """Two stacks of one epoch take 1 s and 10 s: the second worker can't help with the last."""
    stacks = [replace(stack, recipe=replace(stack.recipe, epochs=1)) for stack in stacks_of("mini", "full")]
    clock = Clock()
    left = TimeLeft([*stacks, *stacks], 2, clock)
    for stack, seconds in zip(stacks, (1.0, 10.0), strict=True):
        left.submitted(stack)
        left.returned(stack, None, segment(stack, seconds))
    left.submitted(stacks[0])
    left.submitted(stacks[1])
    assert left.seconds() == pytest.approx(10.0)


def test_the_halves_of_a_divided_stack_count_as_the_stack_did():
    """Each half has the speed of the whole stack, by the rough figure for its width."""
    (stack,) = stacks_of("mini")
    left = TimeLeft([stack], 2, Clock())
    left.submitted(stack)
    left.returned(stack, rest := after(stack), segment(stack, 10.0))
    kind = left.speeds.kind(stack)
    halved = left.speeds.epoch(kind, 1, 1)
    assert left.speeds.epoch(kind, 2, 1) == pytest.approx(10.0)
    for half in rest.split():
        left.submitted(half)
        assert left.seconds() == pytest.approx(8 * halved)


def test_a_slow_first_epoch_counts_little_once_others_are_measured():
    """The first epoch of a worker, which loads code and waits for the store, takes 7 s instead of 1 s."""
    (stack,) = stacks_of("mini")
    left = TimeLeft([stack], 1, Clock())
    first, *others = (segment(stack, seconds) for seconds in (7.0, 1.0, 1.0))
    records = first + [replace(each, epoch=2 + i) for i, part in enumerate(others) for each in part]
    left.submitted(stack)
    left.returned(stack, after(stack, 3), records)
    assert left.seconds() == pytest.approx(6 * 1.0)


def test_a_failed_stack_adds_no_time():
    first, second = stacks_of("mini", "full")
    left = TimeLeft([first, second], 1, Clock())
    left.submitted(first)
    left.returned(first, after(first), segment(first, 10.0))
    left.submitted(second)
    left.returned(second)
    assert left.seconds() == pytest.approx(80.0)


def test_a_sweep_first_prints_how_it_starts(trials_of, store):
    _, output = swept(trials_of("epochs=1", "seed=0"), store)
    engine = "computing with NumPy, since numba would save too little time"
    assert output.startswith(f"{engine}\nstarting: 1 trial in 1 stack\n")
    _, output = swept(trials_of("epochs=1", "seed=1,2,3"), store, n_jobs=2)
    assert output.startswith(f"{engine}\nstarting 2 workers: 3 trials in 2 stacks\n")


def test_all_epochs_are_counted_whatever_becomes_of_the_trials(store, trials_of, monkeypatch):
    """One trial fails, one diverges, one stops early, two are identical, and one resumes."""
    trials = trials_of("epochs=4", "init=sqrtmax,xavier,he,max", "optimizer.lr=0.1")
    trials += trials_of("epochs=4", "optimizer.lr=1e30")
    trials += trials_of("epochs=4", "optimizer.lr=0.5", "init=he", "seed=1", "stopping.patience=1")
    half = next(trial for trial in trials if trial.method == "max")
    Checkpoints(CHECKPOINTS).save(*_with_curve(half_trained(half, epochs=2)))
    bad = next(trial for trial in trials if trial.method == "he").numbers_id

    def train(planned, execution):
        if bad in {lane.key for lane in planned.lanes}:
            return Broken("ValueError: he", "…")
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    outcome, output = swept(trials, store)
    assert (len(outcome.finished), len(outcome.diverged), len(outcome.failed)) == (4, 1, 1)
    assert outcome.stopped_early == [(trials[-1].name, 2)]
    assert "epochs 24/24 · trials 5/6, 1 failed" in output


# --- retries ---


@pytest.mark.parametrize(
    ("retries", "breaks", "fails"), [(0, 1, True), (1, 1, False), (2, 2, False), (2, 3, True)]
)
def test_a_broken_trial_is_retried_as_often_as_configured(
    retries, breaks, fails, trials_of, store, tmp_path, monkeypatch, agrees
):
    (trial,) = trials = trials_of("epochs=2")
    left = [Broken("MemoryError: for now", "Traceback …")] * breaks
    monkeypatch.setattr(
        executor_module, "train_segment", lambda *task: left.pop() if left else train_segment(*task)
    )
    outcome, output = swept(trials, store, retries=retries)
    assert bool(outcome.failed) == fails
    assert output.count("retrying") == min(retries, breaks)
    (run,) = runs_in(tmp_path).values()
    assert run.info.status == ("FAILED" if fails else "FINISHED")
    if not fails:
        agrees(tmp_path, [trial])


def test_a_worker_death_counts_only_against_a_trial_that_ran_alone(
    trials_of, store, tmp_path, monkeypatch, agrees
):
    """Seed 2 kills its worker each time, and with it the segment of the other worker."""
    trials = trials_of("epochs=2", "seed=0,1,2,3")
    under_way, most_beside_it = set(), []

    def train(planned, execution):
        seed = planned.lanes[0].seed
        under_way.add(seed)
        time.sleep(0.3)
        beside = under_way - {seed}
        under_way.discard(seed)
        if seed == 2:
            most_beside_it.append(len(beside))
            return WorkerDied("the worker process died", "")
        if 2 in beside:
            return WorkerDied("the worker process died", "")
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    outcome, _ = swept(trials, store, n_jobs=2, max_lanes=1, retries=1)
    assert [reason for _, reason in outcome.failed] == ["the worker process died"]
    assert len(outcome.finished) == 3
    assert most_beside_it[-2:] == [0, 0]
    agrees(tmp_path, [trial for trial in trials if trial.seed != 2], only=True)


def test_in_a_cluster_a_stack_is_halved_after_its_second_death():
    (stack,) = plan(
        identical([small_trial(2, "mini", True, seed, "he") for seed in range(2)]), max_lanes=None, n_jobs=1
    )
    waiting, died = Waiting([], n_jobs=4), WorkerDied("the worker died", "")
    suspicion = Suspicion(waiting, retries=0, die_together=False)
    assert suspicion.retry(stack, died, name="he") == "a worker died; retrying a stack of 2 networks"
    assert waiting.next(under_way=3) is stack
    assert "retrying its halves" in suspicion.retry(stack, died, name="he")
    halves = [waiting.next(under_way) for under_way in range(2)]
    assert sorted(half.lanes[0].seed for half in halves) == [0, 1]
    assert "a worker died" in suspicion.retry(halves[0], died, name="he")
    assert suspicion.retry(halves[0], died, name="he") is None


def test_a_suspected_stack_runs_alone():
    first, second = plan(
        identical([small_trial(2, "mini", True, seed, "he") for seed in range(2)]), max_lanes=1, n_jobs=2
    )
    waiting = Waiting([first], n_jobs=2)
    suspicion = Suspicion(waiting, retries=0, die_together=True)
    suspicion.retry(second, WorkerDied("the worker died", ""), name="he")
    assert waiting.next(under_way=1) is None
    assert waiting.next(under_way=0) is second
    assert waiting.next(under_way=1) is None
    assert waiting.ended(second)
    assert waiting.next(under_way=0) is first
    assert not waiting.ended(first)


def test_fail_fast_stops_at_the_first_failure_and_the_command_can_be_repeated(
    trials_of, store, tmp_path, monkeypatch, agrees
):
    trials = trials_of("epochs=2", "seed=0,1,2,3")
    fails = [True]

    def train(planned, execution):
        return Broken("ValueError: no", "…") if fails[0] else train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    Tracker("digits", store).open()  # with a new store, more stacks would be submitted at first
    outcome, output = swept(trials, store, max_lanes=1, retries=0, fail_fast=True)
    assert len(outcome.failed) == 1
    assert outcome.stopped
    assert "execution.fail_fast=true" in output
    assert "RUNNING" not in {run.info.status for run in runs_in(tmp_path).values()}
    fails[0] = False
    outcome, _ = swept(trials, store, max_lanes=1, fail_fast=True)
    assert len(outcome.finished) == 4
    agrees(tmp_path, trials)


def test_a_sweep_that_cannot_save_checkpoints_warns_once_and_continues(trials_of, store, tmp_path, agrees):
    trials = trials_of("epochs=3", "seed=0,1")
    CHECKPOINTS.parent.mkdir(exist_ok=True)
    CHECKPOINTS.write_text("a file in place of the folder")
    outcome, output = swept(trials, store, segment_seconds=0.0)
    assert len(outcome.finished) == 2
    assert output.count("checkpoints can't be written") == 1
    agrees(tmp_path, trials)


# --- runs and experiments that are deleted during a sweep ---

DELETIONS = pytest.mark.parametrize(
    ("how", "by"),
    [
        ("deleted", "written in one transaction"),
        ("collected", "written in one transaction"),
        ("deleted", "written by MLflow's client, as to a server"),
    ],
)


@pytest.fixture
def deleting(store, monkeypatch):
    """Return ``deleting(by, how, delete)``, which calls ``delete(client)`` once after the second segment."""

    def prepare(by, how, delete):
        if "client" in by:
            monkeypatch.setattr(SqlRuns, "of", classmethod(lambda *_: None))
        client, done = MlflowClient(store), []

        def train(planned, execution):
            ended = train_segment(planned, execution)
            if planned.stack.epoch == 1 and not done:
                done.append(delete(client))
                if how == "collected":
                    from mlflow.cli import gc as collect_deleted_runs

                    with monkeypatch.context() as patch:
                        patch.setenv("MLFLOW_TRACKING_URI", store)
                        collect_deleted_runs(["--backend-store-uri", store], standalone_mode=False)
            return ended

        monkeypatch.setattr(executor_module, "train_segment", train)
        return client

    return prepare


@DELETIONS
def test_a_run_deleted_during_a_sweep_is_reported_and_affects_no_other_trial(
    by, how, store, tmp_path, trials_of, agrees, deleting
):
    trials = trials_of("epochs=3", "seed=0,1,2")
    deleting(by, how, lambda client: client.delete_run(runs_in(tmp_path)[trials[1].id].info.run_id))
    outcome, output = swept(trials, store, segment_seconds=0.0)
    assert outcome.failed == [(trials[1].name, DELETED)]
    assert outcome.finished == [trials[0].name, trials[2].name]
    assert f"{trials[1].name} failed: its run was deleted in MLflow during the sweep" in output
    assert "trials 2/3, 1 failed" in output
    agrees(tmp_path, [trials[0], trials[2]], only=True)
    repeated, _ = swept(trials, store)
    assert (repeated.finished, repeated.done_before) == ([trials[1].name], 2)
    agrees(tmp_path, trials)


@DELETIONS
def test_an_experiment_deleted_during_a_sweep_is_reported_and_the_sweep_resumes(
    by, how, store, tmp_path, trials_of, agrees, deleting
):
    trials = trials_of("epochs=3", "seed=0,1,2")
    client = deleting(
        by,
        how,
        lambda client: client.delete_experiment(client.get_experiment_by_name("digits").experiment_id),
    )
    with pytest.raises(StoreError, match="the experiment 'digits' was deleted in MLflow during the sweep"):
        swept(trials, store, segment_seconds=0.0)
    if how == "deleted":
        client.restore_experiment(client.get_experiment_by_name("digits").experiment_id)
    outcome, output = swept(trials, store)
    assert "resuming 3 trials from the last checkpoint" in output
    assert len(outcome.finished) == 3
    agrees(tmp_path, trials)


# --- a store that fails ---


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on file sizes")
def test_a_full_disk_stops_the_sweep_cleanly_and_the_command_resumes(
    invoke, store, tmp_path, trials_of, agrees
):
    """A limit on file sizes has the same effect on SQLite as a full disk."""
    grid = ["data=digits", "init=sqrtmax,xavier,he", "seed=0,1,2", "epochs=40"]
    data.prepare("digits")
    room = (tmp_path / "mlflow.db").stat().st_size + 60_000
    limited = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}));"
        "from fnnexp.cli import main; sys.exit(main())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", limited, "-m", *grid, WORKERS, CUT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "can't be written" in ran.stderr
    assert "start the same command again" in ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert invoke("-m", *grid, WORKERS).status == 0
    assert {run.info.status for run in runs_in(tmp_path).values()} == {"FINISHED"}
    agrees(tmp_path, trials_of(*grid))


@pytest.mark.parametrize(
    ("writer", "call", "taken"),
    [
        (MlflowClient, "create_run", 1),
        (MlflowClient, "log_batch", 1),
        (MlflowClient, "set_terminated", 1),
        *((SqlRuns, "write", taken) for taken in range(5)),
    ],
)
def test_segments_that_a_failing_store_rejects_are_saved_and_logged_later(
    writer, call, taken, trials_of, store, tmp_path, monkeypatch, agrees
):
    if writer is MlflowClient:
        monkeypatch.setattr(SqlRuns, "of", lambda client: None)
    trials = trials_of("epochs=4", "seed=0,1,2,3")
    once = [OSError(28, "No space left on device")]
    through = getattr(writer, call)
    left = [taken]

    def full(client, *given, **named):
        left[0] -= 1
        if left[0] < 0:
            raise MlflowException("the store failed") from once[0]
        return through(client, *given, **named)

    monkeypatch.setattr(writer, call, full)
    with pytest.raises(StoreError, match=r"No space left on device.*start the same command again"):
        swept(trials, store, n_jobs=2, max_lanes=2, segment_seconds=0.0)
    monkeypatch.setattr(writer, call, through)
    trained = []

    def noted(planned, execution):
        trained.append((planned.stack.epoch, len(planned.lanes)))
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", noted)
    swept(trials, store, n_jobs=2, max_lanes=2, segment_seconds=0.0)
    assert {run.info.status for run in runs_in(tmp_path).values()} == {"FINISHED"}
    assert any(epoch > 0 for epoch, _ in trained)
    agrees(tmp_path, trials)
    assert checkpoints_in(tmp_path) == []


@pytest.mark.long
def test_a_sweep_waits_for_a_locked_store(trials_of, store, tmp_path, agrees):
    trials = trials_of("epochs=2", "seed=0,1")
    held = threading.Event()

    def hold():
        with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            held.set()
            time.sleep(6)
            other.execute("COMMIT")

    Tracker("digits", store).open()
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    outcome, _ = swept(trials, store)
    holder.join()
    assert len(outcome.finished) == 2
    agrees(tmp_path, trials)


# --- the executor ---


def test_an_executor_returns_each_result_with_its_submitted_stack(trials_of):
    stacks = plan(identical(trials_of("epochs=1", "seed=0,1,2")), max_lanes=1, n_jobs=1)
    executor = Executor(Execution(2, "threading", "numpy"))
    for stack in stacks:
        executor.submit(stack)
    assert executor.under_way == 3
    ended = [executor.result() for _ in stacks]
    executor.close()
    assert executor.under_way == 0
    assert sorted(planned.lanes[0].seed for planned, _ in ended) == [0, 1, 2]
    for planned, trained in ended:
        assert [record.key for record in trained.records] == [lane.key for lane in planned.lanes]


def test_stacks_that_no_worker_has_started_can_be_withdrawn(trials_of, monkeypatch):
    going, go = threading.Event(), threading.Event()

    def held(planned, execution):
        going.set()
        assert go.wait(30)
        return Broken("held", "")

    monkeypatch.setattr(executor_module, "train_segment", held)
    executor = Executor(Execution(1, "threading", "numpy"))
    for stack in plan(identical(trials_of("epochs=1", "seed=0,1,2")), max_lanes=1, n_jobs=1):
        executor.submit(stack)
    assert going.wait(30)
    executor.forget()
    assert executor.under_way == 1
    go.set()
    executor.result()
    executor.close()
    assert executor.under_way == 0


def test_workers_train_before_a_new_store_is_open(trials_of, tmp_path, monkeypatch):
    began, opened = threading.Event(), Tracker.open

    def noted(planned, execution):
        began.set()
        return train_segment(planned, execution)

    def late(tracker, **options):
        assert began.wait(30), "the store was opened first"
        opened(tracker, **options)

    monkeypatch.setattr(executor_module, "train_segment", noted)
    monkeypatch.setattr(Tracker, "open", late)
    outcome, _ = swept(trials_of("epochs=1", "seed=0,1"), f"sqlite:///{tmp_path / 'new.db'}")
    assert len(outcome.finished) == 2


def test_a_store_that_cannot_be_opened_ends_the_sweep_with_its_error(trials_of, tmp_path, monkeypatch):
    def closed(tracker):
        raise FnnexpError("no store today")

    monkeypatch.setattr(Tracker, "open", closed)
    with pytest.raises(FnnexpError, match="no store today"):
        swept(trials_of("epochs=1", "seed=0,1"), f"sqlite:///{tmp_path / 'new.db'}", backend="loky", n_jobs=2)


def test_the_last_trial_uses_the_cores_of_idle_workers(trials_of, store, tmp_path, monkeypatch, agrees):
    seen = []

    def noted(planned, execution):
        seen.append((planned.recipe.epochs, planned.threads))
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", noted)
    monkeypatch.setattr(executor_module, "cores_here", lambda: 4)
    trials = [
        trial for epochs in (1, 6) for trial in trials_of(f"epochs={epochs}", "batching=full", "init=he")
    ]
    outcome, _ = swept(trials, store, n_jobs=4, segment_seconds=0.0)
    assert len(outcome.finished) == 2
    assert (1, 2) in seen
    assert [threads for epochs, threads in seen if epochs == 6][::5] == [2, 4]
    agrees(tmp_path, trials)


def test_the_last_stack_is_split_for_an_idle_worker(trials_of, store, tmp_path, train_alone, monkeypatch):
    sizes = []

    def noted(planned, execution):
        sizes.append((planned.recipe.epochs, planned.stack.epoch, len(planned.lanes)))
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", noted)
    trials = trials_of("epochs=6", "init=he", "seed=0,1,2,3") + trials_of("epochs=1", "init=he", "seed=9")
    outcome, _ = swept(trials, store, n_jobs=2, segment_seconds=0.0)
    assert len(outcome.finished) == 5
    of_the_long = [(epoch, lanes) for epochs, epoch, lanes in sizes if epochs == 6]
    assert of_the_long[0] == (0, 4)
    epoch, lanes = of_the_long[-1]
    assert epoch == 5
    assert lanes <= 2  # a half is split again if it is far behind the other
    run_ids = {run.info.run_name: run.info.run_id for run in runs_in(tmp_path).values()}
    for trial in trials:
        assert curve_in(tmp_path, run_ids[trial.name]) == points(train_alone(trial)[0])


@pytest.mark.parametrize(
    ("lanes", "n", "expected"), [(5, 2, [3, 2]), (5, 9, [1] * 5), (5, 1, [5]), (1, 2, [1])]
)
def test_a_stack_is_split_among_workers_until_each_part_has_one_lane(trials_of, lanes, n, expected):
    (stack,) = plan(identical(trials_of("epochs=1", f"seed=range({lanes})")), max_lanes=None, n_jobs=1)
    assert sorted((len(part.lanes) for part in spread([stack], n)), reverse=True) == expected


def test_blas_uses_one_thread_whichever_thread_trains_a_segment(trials_of):
    """The first thread that trained is still alive, and threadpoolctl would ignore the other threads."""
    (planned,) = plan(identical(trials_of("data=digits", "epochs=1")), max_lanes=1, n_jobs=1)
    with threadpool_limits(1, "blas"):
        expected = train_segment(planned, Execution(engine="numpy")).stack.theta.tobytes()
    assert train_segment(planned, Execution(engine="numpy")).stack.theta.tobytes() == expected
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        for thread, threads in ((first, 1), (second, 2), (first, 2)):
            segment = replace(planned, threads=threads)
            trained = thread.submit(train_segment, segment, Execution(engine="numpy")).result()
            assert trained.stack.theta.tobytes() == expected


def test_the_callers_blas_limit_applies_after_a_segment(trials_of):
    (planned,) = plan(identical(trials_of("data=digits", "epochs=1")), max_lanes=1, n_jobs=1)
    with ThreadPoolExecutor(1) as other:
        for threads in (1, 2):
            segment = replace(planned, threads=threads)
            assert other.submit(train_segment, segment, Execution(engine="numpy")).result().stack.epoch == 1
        for count in (1, 2):
            with threadpool_limits(count, "blas"):
                threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
            assert all(number == count for number in threads)


def test_n_jobs_means_the_same_as_in_joblib(monkeypatch):
    from joblib import cpu_count

    monkeypatch.setattr(executor_module, "cpu_count", cpu_count)
    assert worker_count(3) == 3
    assert worker_count(-1) == cpu_count()
    assert worker_count(-2) == max(cpu_count() - 1, 1)
    assert worker_count(-1000) == 1


# --- the plan ---

SMALL = Prepared("small", "nowhere", "e" * 64, n_train=100, n_test=10, input_size=4, classes=3)


def small_trial(hidden, mode, shuffle, seed, method):
    architecture = Architecture(4, (hidden,), 3, "relu")
    batching = Batching(mode, 16 if mode == "mini" else None, shuffle and mode != "full")
    recipe = Recipe(architecture, batching, "momentum", epochs=9)
    hyper = (("lr", 0.1), ("momentum", 0.5))
    return Trial(recipe, SMALL, method, None, hyper, seed, f"{hidden}-{mode}-{seed}-{method}", {}, {})


TRIALS = st.lists(
    st.builds(
        small_trial,
        st.sampled_from([2, 3]),
        st.sampled_from(["full", "mini", "sample"]),
        st.booleans(),
        st.integers(0, 8),
        st.sampled_from(["sqrtmax", "xavier", "he", "max"]),
    ),
    max_size=60,
    unique_by=lambda trial: trial.id,
)


def state_of(trial, epoch):
    """Return a state whose numbers identify the trial."""
    theta = np.full((1, trial.recipe.architecture.parameter_count), hash(trial.numbers_id) % 997, np.float32)
    return Stack((trial.lane(),), theta, (theta + 1,), epoch)


@settings(max_examples=150, deadline=None)
@given(
    trials=TRIALS,
    max_lanes=st.none() | st.integers(1, 7),
    n_jobs=st.integers(1, 9),
    epochs=st.lists(st.integers(0, 3), min_size=60, max_size=60),
)
def test_a_plan_puts_every_unfinished_lane_in_exactly_one_stack(trials, max_lanes, n_jobs, epochs):
    firsts = {key: group[0] for key, group in identical(trials).items()}
    begun = {key: epoch for key, epoch in zip(firsts, epochs, strict=False) if epoch}
    states = {key: state_of(firsts[key], epoch) for key, epoch in begun.items()}
    stacks = plan(identical(trials), max_lanes=max_lanes, n_jobs=n_jobs, begun=states)
    lanes = [lane.key for stack in stacks for lane in stack.lanes]
    assert sorted(lanes) == sorted(firsts)
    assert {trial.numbers_id for trial in trials} == set(lanes)
    for stack in stacks:
        assert 1 <= len(stack.lanes) <= (max_lanes or USUAL_LANES[stack.recipe.batching.mode])
        assert {firsts[lane.key].stack_key for lane in stack.lanes} == {(stack.recipe, SMALL.checksum)}
        assert {begun.get(lane.key, 0) for lane in stack.lanes} == {stack.stack.epoch}
        assert stack.stack.has_parameters == (stack.stack.epoch > 0)
        if not stack.stack.has_parameters:
            continue
        for k, lane in enumerate(stack.lanes):
            assert (stack.stack.theta[k] == states[lane.key].theta[0]).all()
            assert (stack.stack.slots[0][k] == states[lane.key].slots[0][0]).all()
    costs = [stack.cost for stack in stacks]
    assert costs == sorted(costs, reverse=True)
    assert len(stacks) >= min(n_jobs, len(lanes))


@pytest.mark.parametrize("epochs", [0, 2])
def test_an_unstarted_stack_trains_like_a_started_one(epochs, trials_of, one_blas_thread):
    trials = trials_of(f"epochs={epochs}", "seed=0,1", "init=he,max")
    (planned,) = plan(identical(trials), max_lanes=None, n_jobs=1)
    assert not planned.stack.has_parameters
    drawn, arrays = start(planned.recipe, planned.lanes), data.load(planned.data)
    assert drawn.has_parameters
    ends = [advance(planned.recipe, stack, arrays)[0] for stack in (planned.stack, drawn)]
    assert ends[0].lanes == ends[1].lanes
    assert ends[0].theta.tobytes() == ends[1].theta.tobytes()


@pytest.mark.parametrize(("mode", "lanes"), [("full", [10] * 5), ("mini", [10] * 5), ("sample", [25, 25])])
def test_fifty_trials_share_five_stacks_in_batches_and_two_by_sample(mode, lanes):
    """At most 12, 12 and 48 lanes share a stack, and stacks are about equally large."""
    trials = [small_trial(2, mode, True, seed, "he") for seed in range(50)]
    stacks = plan(identical(trials), max_lanes=None, n_jobs=1)
    assert [len(stack.lanes) for stack in stacks] == lanes


@given(trials=TRIALS.filter(len))
def test_the_halves_of_a_stack_contain_its_lanes(trials):
    for stack in plan(identical(trials), max_lanes=None, n_jobs=1):
        if len(stack.lanes) > 1:
            first, second = stack.split()
            assert first.lanes + second.lanes == stack.lanes
            assert 0 <= len(first.lanes) - len(second.lanes) <= 1


def test_lanes_with_the_same_seed_share_a_stack():
    trials = [small_trial(2, "mini", True, seed, method) for method in ("he", "max") for seed in range(6)]
    first, second = plan(identical(trials), max_lanes=6, n_jobs=2)
    assert sorted(lane.seed for lane in first.lanes + second.lanes) == sorted([*range(6)] * 2)
    assert not {lane.seed for lane in first.lanes} & {lane.seed for lane in second.lanes}


def test_the_cost_of_a_stack_counts_only_its_remaining_epochs():
    (stack,) = plan(identical([small_trial(2, "mini", True, 0, "he")]), max_lanes=None, n_jobs=1)
    assert isinstance(stack, PlannedStack)
    assert stack.cost == pytest.approx(9 * replace(stack, stack=replace(stack.stack, epoch=8)).cost)


# --- real MNIST ---


def test_a_grid_with_all_batching_modes_finishes_on_real_mnist(mnist, invoke, store, tmp_path):
    command = ["-cn", "card_grid", "arch=sigmoid_32_32", "init=sqrtmax,xavier", "epochs=1"]
    ran = invoke(*command, f"data.path={mnist}", WORKERS)
    assert ran.status == 0, ran.err
    runs = runs_in(tmp_path, "card_grid")
    assert len(runs) == 6
    assert {run.data.tags["fnnexp.status"] for run in runs.values()} == {"finished"}
    mini = [run for run in runs.values() if run.data.params["batching"] == "mini"]
    assert all(run.data.metrics["test_accuracy"] > 0.1 for run in mini)


def test_only_old_partial_files_are_removed(tmp_path):
    old, fresh, whole = (tmp_path / name for name in ("a.1.partial", "b.2.partial", "c.npz"))
    for file in (old, fresh, whole):
        file.write_bytes(b"x")
    os.utime(old, (1, 1))
    os.utime(whole, (1, 1))
    Checkpoints(tmp_path).tidy()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.2.partial", "c.npz"]
