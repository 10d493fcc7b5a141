"""Sweeps: real grids on digits, each number compared with the same trial trained alone, in this process."""

from __future__ import annotations

import csv
import io
import os
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
from fnnexp.nn.training import Recipe, Stack, advance, start
from fnnexp.reporting.sections import overview
from fnnexp.results import frames
from fnnexp.sweeping import executor as executor_module
from fnnexp.sweeping.backends import loky
from fnnexp.sweeping.checkpoints import CHECKPOINTS, Checkpoints
from fnnexp.sweeping.executor import Executor, worker_count, workers_starting
from fnnexp.sweeping.loop import run
from fnnexp.sweeping.plan import USUAL_LANES, PlannedStack, identical, plan, spread
from fnnexp.sweeping.progress import SweepProgress
from fnnexp.sweeping.runs import DELETED
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
    """Return the folder in which GRID has run once, and what was said."""
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
    assert {one.info.status for one in runs.values()} == {"FINISHED"}
    assert {one.data.tags["fnnexp.status"] for one in runs.values()} == {"finished"}


def test_every_curve_and_weight_of_a_grid_is_bitwise_what_the_trial_gives_alone(grid, trials_of, agrees):
    agrees(grid[0], trials_of(*GRID), "grid")


def test_a_run_says_what_it_ran(grid, trials_of):
    runs = runs_in(grid[0], "grid")
    for trial in trials_of(*GRID):
        one = runs[trial.id]
        assert one.info.run_name == trial.name
        assert one.data.params == {key: str(value) for key, value in trial.params.items()}
        tags = one.data.tags
        assert tags["fnnexp.numbers"] == trial.numbers_id
        assert tags["fnnexp.data_checksum"] == trial.data.checksum
        assert float(tags["fnnexp.seconds_per_epoch"]) > 0
        assert tags["fnnexp.numpy"] == np.__version__
        assert tags["fnnexp.blas"] != "unknown"
        assert set(one.data.metrics) == {*METRICS, *BEST}
        curve = curve_in(grid[0], one.info.run_id)
        accuracies = {epoch: value for name, epoch, value in curve if name == "val_accuracy"}
        best = max(accuracies.values())
        first = min(epoch for epoch, value in accuracies.items() if value == best)
        assert [one.data.metrics[name] for name in BEST] == [best, first]


def test_weights_are_float32_and_shaped_as_the_network(grid, trials_of):
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


def test_identical_trials_are_trained_once_recorded_for_each_and_said(grid, trials_of):
    folder, ran = grid
    assert "numerically identical: 4 trials coincide with another (sqrtmax = xavier)" in ran.out
    runs = runs_in(folder, "grid")
    groups = [group for group in identical(trials_of(*GRID)).values() if len(group) > 1]
    assert len(groups) == 4
    for group in groups:
        first, second = (runs[trial.id] for trial in group)
        tagged = [one.data.tags.get("fnnexp.identical_to") for one in (first, second)]
        assert tagged == [None, group[0].id]
        assert second.data.tags["fnnexp.identical_to_name"] == group[0].name
        assert curve_in(folder, first.info.run_id) == curve_in(folder, second.info.run_id) != []


def test_an_identical_trial_trains_in_the_same_lane(trials_of):
    trials = trials_of(*GRID)
    lanes = [lane for stack in plan(identical(trials), max_lanes=None, n_jobs=2) for lane in stack.lanes]
    assert len(lanes) == len({lane.key for lane in lanes}) == 8


def test_nothing_of_a_finished_sweep_is_left_to_resume(grid):
    assert list((grid[0] / ".fnnexp").rglob("*.npz")) == []


def test_every_number_is_the_same_in_mlflow_in_the_frames_and_in_the_report(grid, invoke):
    folder, _ = grid
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    ran = invoke("report", "grid", "--folder", "report", cwd=folder)
    assert ran.status == 0, ran.err
    runs = frames.runs("grid", tracking_uri=uri).set_index("trial")
    curves = frames.curves("grid", tracking_uri=uri)
    written = {name: rows_of(folder / "report" / f"{name}.csv") for name in ("runs", "curves")}
    for trial, one in runs_in(folder, "grid").items():
        stored = curve_in(folder, one.info.run_id)
        rows = curves[curves["trial"] == trial]
        told = zip(rows["metric"].astype(str), rows["epoch"].astype(int), rows["value"], strict=True)
        assert sorted(told) == stored
        rows = [row for row in written["curves"] if row["trial"] == trial]
        assert sorted((row["metric"], int(row["epoch"]), float(row["value"])) for row in rows) == stored
        last = {name: value for name, epoch, value in stored if epoch == 2}
        assert runs.loc[trial, list(METRICS)].to_dict() == last
        (row,) = (row for row in written["runs"] if row["trial"] == trial)
        assert {name: float(row[name]) for name in METRICS} == last


def rows_of(file):
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_same_command_again_trains_nothing_and_makes_no_run(grid, invoke):
    folder, _ = grid
    before = {trial: one.to_dictionary() for trial, one in runs_in(folder, "grid").items()}
    again = invoke("-m", *GRID, WORKERS, "tracking.experiment=grid", cwd=folder)
    assert again.status == 0
    assert "0 trials finished, 12 were done before" in again.out
    assert {trial: one.to_dictionary() for trial, one in runs_in(folder, "grid").items()} == before


def test_a_value_added_to_a_grid_runs_only_what_is_new(invoke, store, tmp_path, trials_of, agrees):
    first = ["data=digits", "epochs=1", "init=he,max"]
    assert invoke("-m", *first, "execution.n_jobs=1").status == 0
    before = {trial: one.to_dictionary() for trial, one in runs_in(tmp_path).items()}
    ran = invoke("-m", *first, "seed=0,1", "execution.n_jobs=1")
    assert "2 trials finished, 2 were done before" in ran.out
    after = {trial: one.to_dictionary() for trial, one in runs_in(tmp_path).items()}
    assert {trial: after[trial] for trial in before} == before
    agrees(tmp_path, trials_of(*first, "seed=0,1"))


def test_a_trial_named_twice_runs_once(invoke, store, tmp_path):
    ran = invoke("-m", "data=digits", "epochs=1", "optimizer.lr=0.1,1e-1", "execution.n_jobs=1")
    assert ran.status == 0
    assert "1 of 2 jobs are duplicates of other jobs" in ran.out
    assert len(runs_in(tmp_path)) == 1


def test_epochs_0_records_the_untrained_network_and_its_start(invoke, store, tmp_path, trials_of, same_bits):
    command = ["data=digits", "epochs=0", "seed=5"]
    assert invoke(*command, "execution.n_jobs=1").status == 0
    (trial,) = trials_of(*command)
    one = runs_in(tmp_path)[trial.id]
    assert one.info.status == "FINISHED"
    assert {(epoch) for _, epoch, _ in curve_in(tmp_path, one.info.run_id)} == {0}
    theta = start(trial.recipe, [trial.lane()]).theta
    expected = Parameters(trial.recipe.architecture, theta).named(0)
    assert same_bits(weights_in(tmp_path, one.info.run_id), expected)


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
def test_how_a_sweep_is_executed_changes_no_bit(execution, invoke, store, tmp_path, trials_of, agrees):
    command = ["data=digits", "epochs=3", "init=he,max", "seed=0,1,2", "batching=mini"]
    ran = invoke("-m", *command, *execution)
    assert ran.status == 0, ran.err
    agrees(tmp_path, trials_of(*command))


# --- trials that go wrong ---


def test_a_test_accuracy_of_1_at_the_first_epoch_is_said_at_once_and_in_the_report(invoke, store, own_folder):
    """Each class has one pixel that is lit for it alone; half of the trials learn nothing."""
    y = np.arange(120, dtype=np.uint8) % 3
    x = np.zeros((120, 28, 28), np.uint8)
    x[np.arange(120), 10 + y, 10] = 255
    x[np.arange(120), 20, :] = np.random.default_rng(0).integers(0, 256, (120, 28))  # no two images are one
    np.savez("leak.npz", x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])
    words = ["-m", "data=files", "data.path=leak.npz", "batching=sample", "epochs=2", "seed=0,1", *ONE]
    ran = invoke(*words, "optimizer.lr=0.1,0")
    curves = frames.curves("leak")
    first = curves[(curves["metric"] == "test_accuracy") & (curves["epoch"] == 1)]
    assert (len(first), (first["value"] == 1).sum()) == (4, 2)
    assert ran.out.count("test accuracy is 1.0 at the first epoch. That is hardly ever learned") == 1
    assert "a column among the pixels that holds the label" in ran.out
    assert "4 trials finished, 2 had a test accuracy of 1.0 at the first epoch" in ran.out
    told = "In 2 trials test accuracy is 1.0 at the first epoch."
    assert told in " ".join(invoke("report", "leak").out.split())
    for file in ("report.html", "report.md"):
        assert told in (own_folder / "reports" / "leak" / file).read_text("utf-8")
    assert overview.too_good(curves[~curves["trial"].isin(first.loc[first["value"] == 1, "trial"])]) == []


def test_a_diverging_trial_is_recorded_as_diverged_and_its_neighbours_go_on(
    invoke, store, tmp_path, trials_of, agrees
):
    command = ["data=digits", "epochs=3", "seed=0,1", "optimizer.lr=0.1,1e30"]
    ran = invoke("-m", *command, "execution.n_jobs=1")
    assert ran.status == 0, ran.err
    assert "2 trials finished, 2 diverged" in ran.out
    runs = runs_in(tmp_path)
    for trial in trials_of(*command):
        one = runs[trial.id]
        assert one.info.status == "FINISHED"
        if dict(trial.hyper)["lr"] == 0.1:
            assert one.data.tags["fnnexp.status"] == "finished"
            assert "fnnexp.diverged_epoch" not in one.data.tags
        else:
            assert one.data.tags["fnnexp.status"] == "diverged"
            assert one.data.tags["fnnexp.diverged_epoch"] == "1"
            assert f"{trial.name} diverged at epoch 1" in ran.out
    agrees(tmp_path, trials_of(*command))
    again = invoke("-m", *command, "execution.n_jobs=1")
    assert "4 were done before" in again.out


def test_a_failing_trial_costs_no_other_and_is_listed_with_its_reason(
    invoke, store, tmp_path, trials_of, train_alone, monkeypatch
):
    monkeypatch.setattr(
        resolve, "MOST_PARAMETERS", 10**18
    )  # so that one gets as far as running out of memory
    command = ["data=digits", "epochs=1", "arch.hidden=[20],[1000000000000],[30]"]
    ran = invoke("-m", *command, WORKERS)
    assert ran.status == 1
    assert "1 of 3 trials failed" in ran.err
    assert "relu_1000000000000-he_normal-mini-s0" in ran.err
    assert "MemoryError" in ran.err
    assert "Traceback" not in ran.err
    assert "2 trials finished" in ran.out
    runs = runs_in(tmp_path)
    for trial in trials_of(*command):
        one = runs[trial.id]
        if trial.recipe.architecture.hidden == (1000000000000,):
            assert one.info.status == "FAILED"
            assert one.data.tags["fnnexp.status"] == "failed"
            assert "MemoryError" in one.data.tags["fnnexp.error"]
            (trace,) = (tmp_path / "mlruns").glob(f"*/{one.info.run_id}/artifacts/traceback.txt")
            assert "Traceback (most recent call last)" in trace.read_text("utf-8")
        else:
            assert one.info.status == "FINISHED"
            assert curve_in(tmp_path, one.info.run_id) == points(train_alone(trial)[0])


def test_a_failed_trial_is_tried_again_by_the_same_command(invoke, store, tmp_path, monkeypatch):
    command = ["data=digits", "epochs=1", "execution.n_jobs=1", "execution.backend=sequential"]
    broken = Broken("OSError: no data today", "Traceback …")
    monkeypatch.setattr(executor_module, "train_segment", lambda planned, execution: broken)
    assert invoke(*command).status == 1
    monkeypatch.undo()
    assert invoke(*command, cwd=tmp_path).status == 0
    (one,) = runs_in(tmp_path).values()
    assert one.data.tags["fnnexp.status"] == "finished"
    assert "fnnexp.error" not in one.data.tags


def swept(trials, store, **changed):
    """Run trials as one sweep in this process; return what became of them and what was said."""
    console = Console(file=io.StringIO(), width=200)
    chosen = Execution(**{"n_jobs": 1, "backend": "threading"} | changed)
    return run(trials, Tracker("digits", store), chosen, console), console.file.getvalue()


def test_a_stack_in_which_one_lane_fails_is_halved_until_that_lane_stands_alone(
    store, tmp_path, trials_of, train_alone, monkeypatch
):
    trials = trials_of("epochs=2", "seed=0,1,2,3,4")
    seen = []

    def train(planned, execution):
        seeds = {lane.seed for lane in planned.lanes}
        seen.append(len(seeds))
        return Broken("ValueError: seed 2", "…") if 2 in seeds else train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    outcome, said = swept(trials, store, max_lanes=5)
    assert sorted(seen) == [1, 1, 2, 2, 3, 5]  # seeds 0–4; 0–2 and 3, 4; 0, 1 and 2; 2 again
    assert outcome.failed == [(trials[2].name, "ValueError: seed 2")]
    assert sorted(outcome.finished) == sorted(trial.name for trial in trials if trial.seed != 2)
    assert "a stack of 5 broke (ValueError: seed 2); trying its halves" in said
    runs = runs_in(tmp_path)
    for trial in trials:
        if trial.seed == 2:
            assert runs[trial.id].info.status == "FAILED"
        else:
            assert curve_in(tmp_path, runs[trial.id].info.run_id) == points(train_alone(trial)[0])


# --- what is killed ---


def checkpoints_in(folder):
    return list((folder / ".fnnexp" / "checkpoints").glob("*.npz"))


def until(happened, seconds=60):
    """Wait until something has happened; fail when it does not."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
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
    outcome, said = swept(trials, store, n_jobs=2, backend="loky", segment_seconds=0.2)
    killer.join()
    assert len(killed) == 1
    assert "a worker died" in said
    assert outcome.failed == []
    assert len(outcome.finished) == len(trials) == 6
    agrees(tmp_path, trials)


def test_a_worker_killed_in_the_middle_of_its_answer_is_noticed(monkeypatch, tmp_path, trials_of):
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
    executor = Executor(Execution(2, "loky"))
    planned = plan(identical(trials_of("data=digits", "seed=0,1")), max_lanes=1, n_jobs=2)
    for each in planned:
        executor.submit(each)
    ended = [executor.result() for _ in planned]
    assert any(isinstance(answer, WorkerDied) for _, answer in ended)
    for each, answer in ended:
        if isinstance(answer, WorkerDied):
            executor.submit(each)
    again = [executor.result() for _ in range(executor.under_way)]
    assert [answer for _, answer in again] == [each.lanes[0].key for each, _ in again]
    executor.close()


class Process:
    """The command line in a process group of its own, so that signals reach its workers too."""

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
    """Whether the store holds metrics of a run that is still running."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "select count(*) from metrics join runs using (run_uuid) where status = 'RUNNING'"
        return database.execute(query).fetchone()[0] > 0


def test_a_sweep_goes_on_where_it_was_after_its_process_was_killed(
    invoke, store, tmp_path, trials_of, agrees
):
    command = ["-m", *LONG, WORKERS, CUT]
    with Process(*command) as process:
        until(lambda: checkpoints_in(tmp_path))
        os.kill(process.popen.pid, signal.SIGKILL)
        process.popen.wait()
    assert process.popen.returncode == -signal.SIGKILL
    assert "RUNNING" in {one.info.status for one in runs_in(tmp_path).values()}
    begun = len(checkpoints_in(tmp_path))
    ran = invoke(*command)
    assert ran.status == 0, ran.err
    assert f"{begun} begun before: they go on where they were" in ran.out
    assert {one.info.status for one in runs_in(tmp_path).values()} == {"FINISHED"}
    agrees(tmp_path, trials_of(*LONG))


def test_curves_show_while_training_and_ctrl_c_keeps_what_was_trained(
    invoke, store, tmp_path, trials_of, agrees
):
    command = ["-m", *LONG, WORKERS, CUT]
    with Process(*command) as process:
        until(lambda: curves_are_visible(tmp_path))
        os.killpg(process.popen.pid, signal.SIGINT)
        out, err = process.popen.communicate(timeout=60)
    assert process.popen.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in out + err
    runs = runs_in(tmp_path)
    assert {one.info.status for one in runs.values()} <= {"KILLED", "FINISHED"}
    stopped = [one for one in runs.values() if one.info.status == "KILLED"]
    assert {one.data.tags["fnnexp.status"] for one in stopped} == {"interrupted"}
    kept = {one.info.run_id: curve_in(tmp_path, one.info.run_id) for one in stopped}
    assert max(map(len, kept.values())) > 0
    again = invoke(*command)
    assert again.status == 0, again.err
    agrees(tmp_path, trials_of(*LONG))
    for run_id, before in kept.items():
        assert set(before) <= set(curve_in(tmp_path, run_id))


@pytest.mark.skipif(os.name == "nt", reason="Windows can't stop a process and let it go on")
def test_a_sweep_that_was_stopped_for_a_while_goes_on_where_it_was(store, tmp_path, trials_of, agrees):
    with Process("-m", *LONG, WORKERS, CUT) as process:
        until(lambda: checkpoints_in(tmp_path))
        os.killpg(process.popen.pid, signal.SIGSTOP)
        time.sleep(4)  # longer than any watchdog waits
        assert process.popen.poll() is None
        os.killpg(process.popen.pid, signal.SIGCONT)
        out, err = process.popen.communicate(timeout=120)
    assert process.popen.returncode == 0, out + err
    agrees(tmp_path, trials_of(*LONG))


def test_a_second_ctrl_c_leaves_at_once_and_loses_nothing_finished(
    invoke, store, tmp_path, trials_of, agrees
):
    grid = ["data=digits", "init=sqrtmax,xavier,he", "batching=sample", "arch=sigmoid_32_32"]
    quick, slow = "epochs=1", "epochs=400"
    assert invoke("-m", *grid, quick, WORKERS).status == 0
    command = ["-m", *grid, slow, WORKERS, "execution.segment_seconds=1000"]
    with Process(*command) as process:
        until(lambda: "RUNNING" in {one.info.status for one in runs_in(tmp_path).values()})
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
    assert sorted({one.info.status for one in runs_in(tmp_path).values()}) == ["FINISHED", "KILLED"]
    finished = trials_of(*grid, quick)
    agrees(tmp_path, finished, only=True)


def begun(process):
    """Whether the process has children: joblib's, before anything trains."""
    try:
        return bool(psutil.Process(process.popen.pid).children())
    except psutil.Error:
        return process.popen.poll() is not None


def nobody_left(process):
    """Whether all processes of a command's session are gone."""
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == process.popen.pid and psutil.pid_exists(pid):
                return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups for signals")
@pytest.mark.parametrize("wait", [0.0, 0.05, 0.1, 0.2, 0.3])
def test_ctrl_c_while_the_workers_start_is_said_in_a_line_and_leaves_none(store, wait):
    with Process("-m", *LONG, WORKERS, CUT) as process:
        until(lambda: begun(process))
        time.sleep(wait)
        os.killpg(process.popen.pid, signal.SIGINT)
        out, err = process.popen.communicate(timeout=60)
    # Python ends by the signal when it came within an exec(), which imports make: a shell says 130 to both.
    assert process.popen.returncode in (130, -signal.SIGINT)
    assert err.startswith("fnnexp: interrupted"), err
    assert "Traceback" not in out + err
    until(lambda: nobody_left(process))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no sessions to look through")
def test_what_is_wrong_with_a_later_job_is_said_in_a_line_and_leaves_no_worker(store):
    with Process("-m", "data=digits", "init=he,nope", "seed=range(300)", WORKERS) as process:
        out, err = process.popen.communicate(timeout=60)
    assert process.popen.returncode == 2
    assert out == ""
    assert err.startswith("fnnexp: init=nope: must be one of "), err
    assert len(err.splitlines()) == 1
    until(lambda: nobody_left(process))


def processes():
    return [process for process in loky.processes() if process.is_alive()]


@pytest.fixture
def no_workers(monkeypatch):
    """Begin without joblib's processes, as a command does, on a machine of two cores or more."""
    if loky.pool() is not None:
        loky.pool().shutdown(wait=True, kill_workers=True)
    monkeypatch.setattr(executor_module, "cpu_count", lambda: 2)


def test_workers_start_while_the_block_prepares_their_work(no_workers, trials_of):
    with workers_starting(Execution(2)):
        until(lambda: len(processes()) == 2)
        begun = {one.pid for one in processes()}
    assert {one.pid for one in processes()} == begun
    with closing(Executor(Execution(2, "loky"))) as executor:
        for each in plan(identical(trials_of("epochs=1", "seed=0,1")), max_lanes=1, n_jobs=2):
            executor.submit(each)
        while executor.under_way:
            executor.result()
    assert {one.pid for one in processes()} == begun


def test_workers_that_started_end_with_a_block_that_fails(no_workers):
    with pytest.raises(ValueError, match="so"), workers_starting(Execution(2)):
        raise ValueError("so")
    until(lambda: not processes())


@pytest.mark.parametrize(("n_jobs", "backend"), [(1, "loky"), (3, "loky"), (2, "threading")])
def test_no_worker_starts_early_that_a_sweep_would_not_have(n_jobs, backend, no_workers):
    with workers_starting(Execution(n_jobs, backend)):
        assert not processes()


# --- checkpoints ---


def half_trained(trial, epochs=1):
    recipe = replace(trial.recipe, epochs=epochs)
    with threadpool_limits(1, "blas"):
        return advance(recipe, start(recipe, [trial.lane()]), data.load(trial.data))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_checkpoint_is_read_as_it_was_written(optimizer, tmp_path, trials_of):
    (trial,) = trials_of(f"optimizer={optimizer}", "epochs=3")
    stack, records = half_trained(trial)
    kept = Checkpoints(tmp_path / "new" / "folder")
    kept.save(stack, {trial.numbers_id: records})
    loaded, curve = kept.load(trial.lane(), trial.recipe)
    assert loaded.lanes == stack.lanes
    assert loaded.epoch == 1
    assert loaded.theta.tobytes() == stack.theta.tobytes()
    assert [slot.tobytes() for slot in loaded.slots] == [slot.tobytes() for slot in stack.slots]
    assert [(one.epoch, one.metrics) for one in curve] == [(one.epoch, one.metrics) for one in records]
    kept.remove([trial.numbers_id])
    assert not list(kept.folder.iterdir())
    assert kept.load(trial.lane(), trial.recipe) is None


def test_an_interrupted_save_leaves_the_checkpoint_that_was_there(tmp_path, trials_of, monkeypatch):
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


def test_what_checkpoints_write_grows_with_the_epochs_and_not_with_their_square(tmp_path, trials_of):
    (trial,) = trials_of("epochs=200", "arch.hidden=[1]")
    stack, records = half_trained(trial)
    kept, curve, file_sizes = Checkpoints(tmp_path), [], set()
    for epoch in range(1, 201):
        curve.append(replace(records[0], epoch=epoch))
        kept.save(replace(stack, epoch=epoch), {trial.numbers_id: curve})
        (file,) = tmp_path.glob("*.npz")
        file_sizes.add(file.stat().st_size)
    assert max(file_sizes) - min(file_sizes) < 20  # the digits of larger numbers
    (log,) = tmp_path.glob("*.curve")
    assert len(log.read_text().splitlines()) == 200
    assert kept.load(trial.lane(), trial.recipe)[1] == curve


def test_what_a_killed_process_added_to_a_curve_counts_no_more(tmp_path, trials_of, monkeypatch):
    (trial,) = trials_of("epochs=4")
    stack, curve = half_trained(trial, epochs=3)
    kept = Checkpoints(tmp_path)

    def save(epochs):
        kept.save(replace(stack, epoch=epochs), {trial.numbers_id: curve[:epochs]})

    def killed(file, **arrays):
        raise OSError("killed when the curve was there and the state was not")

    save(1)
    for epochs in (3, 2):  # the second time over what the first has left
        monkeypatch.setattr(np, "savez", killed)
        with pytest.raises(OSError, match="killed"):
            save(epochs)
        monkeypatch.undo()
        assert Checkpoints(tmp_path).load(trial.lane(), trial.recipe)[1] == curve[:1]
    save(2)
    assert Checkpoints(tmp_path).load(trial.lane(), trial.recipe)[1] == curve[:2]


def test_two_processes_on_one_lane_leave_a_checkpoint_that_is_whole_whoever_saves_or_ends_first(
    tmp_path, trials_of
):
    (trial,) = trials_of("epochs=5")
    stack, curve = half_trained(trial, epochs=4)
    one, other = Checkpoints(tmp_path), Checkpoints(tmp_path)
    for saving, epochs in [(one, 1), (other, 1), (one, 2), (other, 3), (one, 3)]:
        saving.save(replace(stack, epoch=epochs), {trial.numbers_id: curve[:epochs]})
        assert one.load(trial.lane(), trial.recipe)[1] == curve[:epochs]
    other.remove([trial.numbers_id])
    assert list(tmp_path.iterdir()) == []
    one.save(stack, {trial.numbers_id: curve})
    assert other.load(trial.lane(), trial.recipe)[1] == curve


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
def test_a_harmed_checkpoint_is_set_aside_and_said_and_the_trial_starts_over(
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
    outcome, said = swept(trials, store)
    assert f"{trial.name} starts over" in said
    assert "set aside" in said
    assert [one.suffix for one in folder.glob(f"{trial.numbers_id}*")] == [".broken"]
    assert outcome.finished == [trial.name]
    agrees(tmp_path, trials)


@pytest.mark.parametrize(
    "bug", [KeyError("softplus"), ValueError("a bug"), TypeError("a bug"), MemoryError()]
)
def test_a_bug_of_ours_is_raised_and_costs_no_checkpoint(bug, store, trials_of, monkeypatch):
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


@pytest.mark.parametrize("form", ["its curve beside it", "its curve in it, as it was at first"])
@pytest.mark.parametrize("epochs", [2, 3])
def test_a_whole_checkpoint_is_gone_on_from_and_not_trained_again(
    epochs, form, store, tmp_path, trials_of, monkeypatch, agrees
):
    trials = trials_of("epochs=3")
    Checkpoints(CHECKPOINTS).save(*_with_curve(half_trained(trials[0], epochs)))
    if "at first" in form:
        (file,), (curve,) = CHECKPOINTS.glob("*.npz"), CHECKPOINTS.glob("*.curve")
        np.savez(file, **in_first_format(file))
        curve.unlink()
    began_at = []

    def train(planned, execution):
        began_at.append(planned.stack.epoch)
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    outcome, said = swept(trials, store)
    assert began_at == [epochs]
    assert "1 begun before" in said
    assert outcome.finished == [trials[0].name]
    agrees(tmp_path, trials)


# --- progress ---


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_where_nobody_watches_progress_is_a_plain_line_now_and_then():
    clock, console = Clock(), Console(file=io.StringIO(), width=200)
    with SweepProgress(console, epochs=30, trials=3, clock=clock) as progress:
        progress.epoch(5)
        clock.now = 11.0
        progress.epoch(5)
        clock.now = 12.0
        progress.epoch(5)
        progress.done("he", 0.25, "val_accuracy")
        progress.done("max", 0.125, "val_accuracy")
        clock.now = 30.0
        progress.failure()
    first, last = console.file.getvalue().splitlines()
    assert first == "epochs 10/30 · trials 0/3 · 22 s left"
    assert last == "epochs 15/30 · trials 2/3, 1 failed · best val_accuracy 0.2500 he · 30 s left"
    assert "\x1b" not in console.file.getvalue()


def test_on_a_terminal_progress_is_one_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with SweepProgress(console, epochs=4, trials=2) as progress:
        progress.epoch(4)
        progress.done("he", 0.5, "test_accuracy")
        progress.say("a line above")
        progress.done("max", 0.25, "test_accuracy")
    written = console.file.getvalue()
    assert "\x1b[" in written
    assert "━" in written
    assert "4/4" in written
    assert "trials 2/2 · best test_accuracy 0.5000 he" in written
    assert "a line above" in written


def test_the_count_of_epochs_is_right_whatever_becomes_of_the_trials(store, trials_of, monkeypatch):
    """One trial fails, one diverges, two are identical, one was half done before: all epochs are counted."""
    trials = trials_of("epochs=4", "init=sqrtmax,xavier,he,max", "optimizer.lr=0.1")
    trials += trials_of("epochs=4", "optimizer.lr=1e30")
    half = next(trial for trial in trials if trial.method == "max")
    Checkpoints(CHECKPOINTS).save(*_with_curve(half_trained(half, epochs=2)))
    bad = next(trial for trial in trials if trial.method == "he").numbers_id

    def train(planned, execution):
        if bad in {lane.key for lane in planned.lanes}:
            return Broken("ValueError: he", "…")
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    outcome, said = swept(trials, store)
    assert (len(outcome.finished), len(outcome.diverged), len(outcome.failed)) == (3, 1, 1)
    assert "epochs 20/20 · trials 4/5, 1 failed" in said


# --- retries ---


@pytest.mark.parametrize(
    ("retries", "breaks", "fails"), [(0, 1, True), (1, 1, False), (2, 2, False), (2, 3, True)]
)
def test_a_trial_that_breaks_is_tried_again_as_often_as_it_is_said(
    retries, breaks, fails, trials_of, store, tmp_path, monkeypatch, agrees
):
    (trial,) = trials = trials_of("epochs=2")
    left = [Broken("MemoryError: for now", "Traceback …")] * breaks
    monkeypatch.setattr(
        executor_module, "train_segment", lambda *task: left.pop() if left else train_segment(*task)
    )
    outcome, said = swept(trials, store, retries=retries)
    assert bool(outcome.failed) == fails
    assert said.count("tried again") == min(retries, breaks)
    (one,) = runs_in(tmp_path).values()
    assert one.info.status == ("FAILED" if fails else "FINISHED")
    if not fails:
        agrees(tmp_path, [trial])


def test_a_death_counts_only_against_a_trial_that_ran_by_itself(
    trials_of, store, tmp_path, monkeypatch, agrees
):
    """Seed 2 brings its worker down each time, and with it whatever the other worker does."""
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


def test_in_a_cluster_a_stack_is_halved_from_its_second_death_on():
    (stack,) = plan(
        identical([small_trial(2, "mini", True, seed, "he") for seed in range(2)]), max_lanes=None, n_jobs=1
    )
    waiting, died = Waiting([], n_jobs=4), WorkerDied("the worker died", "")
    suspicion = Suspicion(waiting, retries=0, die_together=False)
    assert suspicion.again(stack, died, name="he") == "a worker died; a stack of 2 is tried again"
    assert waiting.next(under_way=3) is stack
    assert "trying its halves" in suspicion.again(stack, died, name="he")
    halves = [waiting.next(under_way) for under_way in range(2)]
    assert sorted(half.lanes[0].seed for half in halves) == [0, 1]
    assert "tried again" in suspicion.again(halves[0], died, name="he")
    assert suspicion.again(halves[0], died, name="he") is None


def test_a_suspect_waits_for_the_others_to_end_and_they_wait_for_it():
    first, second = plan(
        identical([small_trial(2, "mini", True, seed, "he") for seed in range(2)]), max_lanes=1, n_jobs=2
    )
    waiting = Waiting([first], n_jobs=2)
    suspicion = Suspicion(waiting, retries=0, die_together=True)
    suspicion.again(second, WorkerDied("the worker died", ""), name="he")
    assert waiting.next(under_way=1) is None
    assert waiting.next(under_way=0) is second
    assert waiting.next(under_way=1) is None
    assert waiting.ended(second)
    assert waiting.next(under_way=0) is first
    assert not waiting.ended(first)


def test_fail_fast_stops_at_the_first_failure_and_the_same_command_goes_on(
    trials_of, store, tmp_path, monkeypatch, agrees
):
    trials = trials_of("epochs=2", "seed=0,1,2,3")
    fails = [True]

    def train(planned, execution):
        return Broken("ValueError: no", "…") if fails[0] else train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    Tracker("digits", store).open()  # into a new store more is handed out at first
    outcome, said = swept(trials, store, max_lanes=1, retries=0, fail_fast=True)
    assert len(outcome.failed) == 1
    assert outcome.stopped
    assert "execution.fail_fast=true" in said
    assert "RUNNING" not in {one.info.status for one in runs_in(tmp_path).values()}
    fails[0] = False
    outcome, _ = swept(trials, store, max_lanes=1, fail_fast=True)
    assert len(outcome.finished) == 4
    agrees(tmp_path, trials)


def test_a_sweep_that_cannot_save_goes_on_and_says_so_once(trials_of, store, tmp_path, agrees):
    trials = trials_of("epochs=3", "seed=0,1")
    CHECKPOINTS.parent.mkdir(exist_ok=True)
    CHECKPOINTS.write_text("a file where the folder should be")
    outcome, said = swept(trials, store, segment_seconds=0.0)
    assert len(outcome.finished) == 2
    assert said.count("checkpoints can't be written") == 1
    agrees(tmp_path, trials)


# --- a run, or all of them, that somebody deletes ---

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
    """Return ``deleting(by, how, delete)``: segments whose second has ``delete(client)`` called, once."""

    def prepare(by, how, delete):
        if "client" in by:
            monkeypatch.setattr(SqlRuns, "of", classmethod(lambda *_: None))
        client, done = MlflowClient(store), []

        def train(planned, execution):
            ended = train_segment(planned, execution)
            if planned.stack.epoch == 1 and not done:
                done.append(delete(client))
                if how == "collected":
                    at = ["--backend-store-uri", store, "--tracking-uri", store]
                    subprocess.run([sys.executable, "-m", "mlflow", "gc", *at], check=True)
            return ended

        monkeypatch.setattr(executor_module, "train_segment", train)
        return client

    return prepare


@DELETIONS
def test_a_run_that_is_deleted_during_a_sweep_is_said_and_costs_no_other_trial(
    by, how, store, tmp_path, trials_of, agrees, deleting
):
    trials = trials_of("epochs=3", "seed=0,1,2")
    deleting(by, how, lambda client: client.delete_run(runs_in(tmp_path)[trials[1].id].info.run_id))
    outcome, said = swept(trials, store, segment_seconds=0.0)
    assert outcome.failed == [(trials[1].name, DELETED)]
    assert outcome.finished == [trials[0].name, trials[2].name]
    assert f"{trials[1].name} failed: its run was deleted in MLflow during the sweep" in said
    assert "trials 2/3, 1 failed" in said
    agrees(tmp_path, [trials[0], trials[2]], only=True)
    again, _ = swept(trials, store)
    assert (again.finished, again.done_before) == ([trials[1].name], 2)
    agrees(tmp_path, trials)


@DELETIONS
def test_an_experiment_that_is_deleted_during_a_sweep_is_said_and_the_sweep_goes_on_in_a_new_one(
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
    outcome, said = swept(trials, store)
    assert "3 begun before: they go on where they were" in said
    assert len(outcome.finished) == 3
    agrees(tmp_path, trials)


# --- a store that fails ---


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits of this kind")
def test_a_full_disk_ends_the_sweep_in_order_and_the_same_command_goes_on(
    invoke, store, tmp_path, trials_of, agrees
):
    """No file may grow far beyond what the database has: SQLite meets that as it meets a full disk."""
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
    assert {one.info.status for one in runs_in(tmp_path).values()} == {"FINISHED"}
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
def test_what_a_failing_store_did_not_take_is_saved_and_logged_later(
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
    assert {one.info.status for one in runs_in(tmp_path).values()} == {"FINISHED"}
    assert any(epoch > 0 for epoch, _ in trained)
    agrees(tmp_path, trials)
    assert checkpoints_in(tmp_path) == []


def test_a_store_that_another_program_holds_is_waited_for(trials_of, store, tmp_path, agrees):
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


def test_an_executor_gives_back_each_segment_with_what_was_handed_out(trials_of):
    stacks = plan(identical(trials_of("epochs=1", "seed=0,1,2")), max_lanes=1, n_jobs=1)
    executor = Executor(Execution(2, "threading"))
    for stack in stacks:
        executor.submit(stack)
    assert executor.under_way == 3
    ended = [executor.result() for _ in stacks]
    executor.close()
    assert executor.under_way == 0
    assert sorted(planned.lanes[0].seed for planned, _ in ended) == [0, 1, 2]
    for planned, trained in ended:
        assert [record.key for record in trained.records] == [lane.key for lane in planned.lanes]


def test_what_no_worker_has_begun_can_be_forgotten(trials_of, monkeypatch):
    going, go = threading.Event(), threading.Event()

    def held(planned, execution):
        going.set()
        assert go.wait(30)
        return Broken("held", "")

    monkeypatch.setattr(executor_module, "train_segment", held)
    executor = Executor(Execution(1, "threading"))
    for stack in plan(identical(trials_of("epochs=1", "seed=0,1,2")), max_lanes=1, n_jobs=1):
        executor.submit(stack)
    assert going.wait(30)
    executor.forget()
    assert executor.under_way == 1
    go.set()
    executor.result()
    executor.close()
    assert executor.under_way == 0


def test_workers_begin_before_a_new_store_is_open(trials_of, tmp_path, monkeypatch):
    began, opened = threading.Event(), Tracker.open

    def noted(planned, execution):
        began.set()
        return train_segment(planned, execution)

    def late(tracker):
        assert began.wait(30), "the store was opened first"
        opened(tracker)

    monkeypatch.setattr(executor_module, "train_segment", noted)
    monkeypatch.setattr(Tracker, "open", late)
    outcome, _ = swept(trials_of("epochs=1", "seed=0,1"), f"sqlite:///{tmp_path / 'new.db'}")
    assert len(outcome.finished) == 2


def test_a_store_that_does_not_open_ends_the_sweep_with_its_error(trials_of, tmp_path, monkeypatch):
    def closed(tracker):
        raise FnnexpError("no store today")

    monkeypatch.setattr(Tracker, "open", closed)
    with pytest.raises(FnnexpError, match="no store today"):
        swept(trials_of("epochs=1", "seed=0,1"), f"sqlite:///{tmp_path / 'new.db'}", backend="loky", n_jobs=2)


def test_the_last_stack_is_split_when_a_worker_has_nothing_else_to_do(
    trials_of, store, tmp_path, train_alone, monkeypatch
):
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
    assert lanes <= 2  # one by one, where a half was far ahead of the other
    found = {one.info.run_name: one.info.run_id for one in runs_in(tmp_path).values()}
    for trial in trials:
        assert curve_in(tmp_path, found[trial.name]) == points(train_alone(trial)[0])


@pytest.mark.parametrize(
    ("lanes", "n", "expected"), [(5, 2, [3, 2]), (5, 9, [1] * 5), (5, 1, [5]), (1, 2, [1])]
)
def test_a_stack_is_spread_over_workers_as_far_as_its_lanes_go(trials_of, lanes, n, expected):
    (stack,) = plan(identical(trials_of("epochs=1", f"seed=range({lanes})")), max_lanes=None, n_jobs=1)
    assert sorted((len(part.lanes) for part in spread([stack], n)), reverse=True) == expected


def test_blas_is_on_one_thread_in_whatever_thread_a_segment_is_trained(trials_of):
    """The thread that trained first lives on, and would keep threadpoolctl to itself."""
    (planned,) = plan(identical(trials_of("data=digits", "epochs=1")), max_lanes=1, n_jobs=1)
    with threadpool_limits(1, "blas"):
        expected = train_segment(planned, Execution()).stack.theta.tobytes()
    assert train_segment(planned, Execution()).stack.theta.tobytes() == expected
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread in (one, other, one):
            assert (
                thread.submit(train_segment, planned, Execution()).result().stack.theta.tobytes() == expected
            )


def test_who_limits_blas_after_a_segment_is_obeyed_while_its_thread_lives_on(trials_of):
    (planned,) = plan(identical(trials_of("data=digits", "epochs=1")), max_lanes=1, n_jobs=1)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(train_segment, planned, Execution()).result().stack.epoch == 1
        for count in (1, 2):
            with threadpool_limits(count, "blas"):
                told = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
            assert all(number == count for number in told)


def test_a_number_of_jobs_means_what_joblib_means():
    from joblib import cpu_count

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
    """Return a state in which every number tells whose it is."""
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
def test_a_stack_that_has_not_begun_trains_as_one_whose_start_is_drawn(epochs, trials_of, one_blas_thread):
    trials = trials_of(f"epochs={epochs}", "seed=0,1", "init=he,max")
    (planned,) = plan(identical(trials), max_lanes=None, n_jobs=1)
    assert not planned.stack.has_parameters
    drawn, arrays = start(planned.recipe, planned.lanes), data.load(planned.data)
    assert drawn.has_parameters
    ends = [advance(planned.recipe, stack, arrays)[0] for stack in (planned.stack, drawn)]
    assert ends[0].lanes == ends[1].lanes
    assert ends[0].theta.tobytes() == ends[1].theta.tobytes()


@pytest.mark.parametrize(("mode", "lanes"), [("full", [10] * 5), ("mini", [10] * 5), ("sample", [25, 25])])
def test_fifty_trials_share_five_stacks_in_batches_and_two_one_row_at_a_time(mode, lanes):
    """12, 12 and 48 lanes at most, in stacks of about one size."""
    trials = [small_trial(2, mode, True, seed, "he") for seed in range(50)]
    stacks = plan(identical(trials), max_lanes=None, n_jobs=1)
    assert [len(stack.lanes) for stack in stacks] == lanes


@given(trials=TRIALS.filter(len))
def test_the_halves_of_a_stack_are_the_stack(trials):
    for stack in plan(identical(trials), max_lanes=None, n_jobs=1):
        if len(stack.lanes) > 1:
            first, second = stack.split()
            assert first.lanes + second.lanes == stack.lanes
            assert 0 <= len(first.lanes) - len(second.lanes) <= 1


def test_lanes_that_see_the_same_rows_are_put_together():
    trials = [small_trial(2, "mini", True, seed, method) for method in ("he", "max") for seed in range(6)]
    first, second = plan(identical(trials), max_lanes=6, n_jobs=2)
    assert sorted(lane.seed for lane in first.lanes + second.lanes) == sorted([*range(6)] * 2)
    assert not {lane.seed for lane in first.lanes} & {lane.seed for lane in second.lanes}


def test_what_is_left_of_a_trial_is_what_it_costs():
    (stack,) = plan(identical([small_trial(2, "mini", True, 0, "he")]), max_lanes=None, n_jobs=1)
    assert isinstance(stack, PlannedStack)
    assert stack.cost == pytest.approx(9 * replace(stack, stack=replace(stack.stack, epoch=8)).cost)


# --- real MNIST ---


def test_a_grid_on_real_mnist_of_all_three_modes_runs_without_a_failed_trial(mnist, invoke, store, tmp_path):
    command = ["-cn", "card_grid", "arch=sigmoid_32_32", "init=sqrtmax,xavier", "epochs=1"]
    ran = invoke(*command, f"data.path={mnist}", WORKERS)
    assert ran.status == 0, ran.err
    runs = runs_in(tmp_path, "card_grid")
    assert len(runs) == 6
    assert {one.data.tags["fnnexp.status"] for one in runs.values()} == {"finished"}
    mini = [one for one in runs.values() if one.data.params["batching"] == "mini"]
    assert all(one.data.metrics["test_accuracy"] > 0.1 for one in mini)


def test_only_what_was_left_half_written_long_ago_is_removed(tmp_path):
    old, fresh, whole = (tmp_path / name for name in ("a.1.partial", "b.2.partial", "c.npz"))
    for file in (old, fresh, whole):
        file.write_bytes(b"x")
    os.utime(old, (1, 1))
    os.utime(whole, (1, 1))
    Checkpoints(tmp_path).tidy()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.2.partial", "c.npz"]
