"""More epochs of trained trials: they go on from their final states, bitwise as if trained from the start."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from stores import runs_in

from fnnexp.sweeping.checkpoints import CHECKPOINTS
from fnnexp.sweeping.resources import disk, states
from fnnexp.sweeping.resources.states import STATES

HERE = "execution.n_jobs=1"
SMALL = ["data=digits", "arch.hidden=[7]"]
WENT_ON = "fnnexp.went_on_from_epoch"


def went_on(folder, trials):
    """Return the epoch from which each trial went on, as its run records it; None if it started over."""
    runs = runs_in(folder)
    epochs = [runs[trial.id].data.tags.get(WENT_ON) for trial in trials]
    return [None if epoch is None else int(epoch) for epoch in epochs]


MIXED = [
    "optimizer=sgd,adam", "batching=mini,full,sample", "init=he,max", "regularization.dropout=0,0.3",
    "data.subset=300",
]  # fmt: skip


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_more_epochs_are_bitwise_those_of_a_longer_training(
    engine, invoke, store, tmp_path, trials_of, agrees
):
    """The stacks have lanes with several initializers, and the longer sweep cuts them otherwise."""
    if engine == "numba":
        pytest.importorskip("numba")
    command = [*SMALL, *MIXED, "regularization.l2=1e-4", f"execution.engine={engine}"]
    first = invoke("-m", *command, "epochs=2", HERE)
    assert first.status == 0, first.err
    assert "go on from" not in first.out
    more = invoke("-m", *command, "epochs=4", HERE, "execution.max_lanes=5", "execution.segment_seconds=0")
    assert more.status == 0, more.err
    trials = trials_of(*command, "epochs=4")
    assert f"{len(trials)} trials go on from 2 epochs\n" in more.out
    assert f"epochs {4 * len(trials)}/{4 * len(trials)} · trials" in more.out
    assert went_on(tmp_path, trials) == [2] * len(trials)
    agrees(tmp_path, trials, only=True, engine=engine)


def test_each_optimizer_and_other_schedule_goes_on(invoke, store, tmp_path, trials_of, agrees):
    grids = [
        ["optimizer=momentum,nesterov,adagrad,rmsprop,adamw", "optimizer.clip_norm=1"],
        ["schedule=exponential,inverse_time", "schedule.warmup=1.5", "seed_order=4", "init.bias=uniform"],
        ["stopping.patience=2", "optimizer.lr=0.1", "batching.shuffle=false"],
    ]
    for grid in grids:
        for epochs in (2, 3):
            ran = invoke("-m", *SMALL, *grid, f"epochs={epochs}", HERE)
            assert ran.status == 0, ran.err
        trials = trials_of(*SMALL, *grid, "epochs=3")
        assert went_on(tmp_path, trials) == [2] * len(trials)
        agrees(tmp_path, trials, only=True)


def test_the_longest_shorter_trial_counts_and_a_longer_one_cannot_be_used(
    invoke, store, tmp_path, trials_of, agrees
):
    command = [*SMALL, "schedule=step", "schedule.every=0.5"]
    for epochs in (2, 6, 3, 4):
        assert invoke(*command, f"epochs={epochs}", HERE).status == 0
    trials = [trial for epochs in (4, 3) for trial in trials_of(*command, f"epochs={epochs}")]
    assert went_on(tmp_path, trials) == [3, 2]
    agrees(tmp_path, trials, only=True)


def test_a_schedule_that_depends_on_the_epochs_starts_over_and_says_why(
    invoke, store, tmp_path, trials_of, agrees
):
    for name in ("linear", "cosine"):
        command = [*SMALL, f"schedule={name}", "seed=0,1"]
        invoke("-m", *command, "epochs=2", HERE)
        ran = invoke("-m", *command, "epochs=3", HERE)
        reason = f"schedule={name} depends on the number of epochs"
        assert f"2 trials start over instead of going on from 2 epochs: {reason}\n" in ran.out
        agrees(tmp_path, trials_of(*command, "epochs=3"), only=True)
    assert all("theta" not in np.load(file).files for file in STATES.glob("*.npz"))


def test_trials_that_stopped_early_or_diverged_start_over_and_end_as_before(
    invoke, store, tmp_path, trials_of, agrees
):
    """With 9 epochs, one of the trials is complete at the epoch at which it would stop in a longer run."""
    command = ["data=digits", "seed=0,1", "init=he,xavier", "optimizer.lr=0.5", "stopping.patience=2"]
    invoke("-m", *command, "epochs=8", HERE)
    ran = invoke("-m", *command, "epochs=12", HERE)
    ends = sorted(
        runs_in(tmp_path)[t.id].data.tags["fnnexp.stopped_epoch"] for t in trials_of(*command, "epochs=12")
    )
    assert ends == ["10", "3", "4", "8"]
    assert "1 trial goes on from 8 epochs\n" in ran.out
    assert "3 trials start over instead of going on from 8 epochs: early stopping ended training\n" in ran.out
    agrees(tmp_path, trials_of(*command, "epochs=12"), only=True)
    diverging = ["data=digits", "arch=relu_98", "init=normal", "optimizer.lr=1e30"]
    invoke(*diverging, "epochs=2", HERE)
    assert "from 2 epochs: training diverged" in invoke(*diverging, "epochs=4", HERE).out


def test_diagnostics_are_those_of_a_longer_training(invoke, store, tmp_path, trials_of, agrees):
    command = [*SMALL, "init=he,max"]
    invoke("-m", *command, "epochs=1", HERE)
    ran = invoke("-m", *command, "epochs=2", "diagnostics=true", HERE)
    assert (
        "2 trials start over instead of going on from 1 epoch: no diagnostics were recorded for these; "
        "write diagnostics=false to go on\n"
    ) in ran.out
    assert "2 trials go on from 2 epochs" in invoke("-m", *command, "epochs=3", HERE).out
    agrees(tmp_path, trials_of(*command, "epochs=3"), only=True)
    # The state after three epochs has no diagnostics, but that after two epochs has.
    assert "2 trials go on from 2 epochs" in invoke("-m", *command, "epochs=4", "diagnostics=true", HERE).out
    assert "2 trials go on from 4 epochs" in invoke("-m", *command, "epochs=5", "diagnostics=true", HERE).out
    runs = runs_in(tmp_path)
    assert all("layer1/z_std" in runs[trial.id].data.metrics for trial in trials_of(*command, "epochs=5"))


def test_only_the_engine_and_kernel_that_computed_a_state_go_on(
    invoke, store, tmp_path, trials_of, agrees, monkeypatch
):
    command = [*SMALL, "seed=0,1"]
    invoke("-m", *command, "epochs=1", "execution.engine=numpy", HERE)
    with monkeypatch.context() as patch:
        patch.setattr(states, "blas_kernel", lambda: "openblas 0.3 Other")
        ran = invoke("-m", *command, "epochs=2", "execution.engine=numpy", HERE)
    assert "2 trials start over instead of going on from 1 epoch: numpy" in ran.out
    assert "computed these, and this is numpy" in ran.out
    assert "with openblas 0.3 Other\n" in ran.out
    pytest.importorskip("numba")
    ran = invoke("-m", *command, "epochs=3", "execution.engine=numba", HERE)
    assert "computed these; write execution.engine=numpy to resume them\n" in ran.out
    agrees(tmp_path, trials_of(*command, "epochs=3"), only=True, engine="numba")
    ran = invoke("-m", *command, "epochs=4", HERE)
    assert "computing with numba, which computed the first epochs of 2 trials\n" in ran.out
    agrees(tmp_path, trials_of(*command, "epochs=4"), only=True, engine="numba")


def test_identical_trials_and_a_dry_run_go_on_too(invoke, store, tmp_path, trials_of, agrees):
    command = [*SMALL, "init=sqrtmax,xavier"]
    invoke("-m", *command, "epochs=1", HERE)
    dry = invoke("dry_run=true", "-m", *command, "epochs=2", HERE)
    assert "2 trials go on from 1 epoch\n" in dry.out
    ran = invoke("-m", *command, "epochs=2", HERE)
    assert "2 trials go on from 1 epoch\n" in ran.out
    assert went_on(tmp_path, trials_of(*command, "epochs=2")) == [1, 1]
    agrees(tmp_path, trials_of(*command, "epochs=2"), only=True)


def test_the_oldest_states_leave_first_and_a_full_room_is_said_once(
    invoke, store, tmp_path, trials_of, monkeypatch
):
    small = [*SMALL, "execution.max_lanes=1", HERE]  # a file of 22 KB for each trial
    invoke(*small, "epochs=1", "seed=0")
    (first,) = STATES.glob("*.npz")
    os.utime(first, (1, 1))
    monkeypatch.setattr(states, "bytes_kept", lambda limit: {"60KB": 60_000, None: 0}[limit])
    monkeypatch.setattr("fnnexp.config.checks._size", lambda *_: None)
    ran = invoke("-m", *small, "epochs=1", "seed=range(1,5)", "execution.keep_states=60KB")
    assert ran.out.count("execution.keep_states=60KB is reached: no more final states") == 1
    assert not first.exists()
    assert len(list(STATES.glob("*"))) == 2
    assert invoke(*small, "epochs=1", "seed=6", "execution.keep_states=null").status == 0
    assert len(list(STATES.glob("*"))) == 2


@pytest.mark.parametrize("room", [0, 30_000])
def test_states_leave_the_disk_to_results(room, invoke, store, trials_of, monkeypatch):
    words = [*SMALL, "epochs=1", "seed=0,1,2"]
    results = disk.needed(trials_of(*words), diagnostics=False)
    free = results.store + results.files + states.SPARE + room
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    ran = invoke("-m", *words, "execution.max_lanes=1", HERE)  # a file of 22 KB for each trial
    assert ran.status == 0
    said = "the disk has 100 MB left, which results may need: no more final states of trials are kept"
    assert ran.out.count(said) == 1
    assert len(list(STATES.glob("*"))) == (room > 0)


def test_states_leave_100_mb_of_a_disk_that_others_fill(invoke, store, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(free=10**8 if list(STATES.glob("*.npz")) else 10**9)
    )
    ran = invoke("-m", *SMALL, "epochs=1", "seed=0,1", "execution.max_lanes=1", HERE)
    assert "the disk has 100 MB left, which results may need: no more final states" in ran.out
    assert len(list(STATES.glob("*"))) == 1


@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
def test_trials_whose_states_are_damaged_start_over(
    damage, invoke, store, tmp_path, trials_of, agrees, monkeypatch
):
    command = [*SMALL, "seed=0,1,2", "optimizer=adam"]
    invoke("-m", *command, "epochs=2", HERE)
    (file,) = STATES.glob("*.npz")
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        go_on = states.States.go_on
        monkeypatch.setattr(states.States, "go_on", lambda *a: (go_on(*a), file.unlink())[0])
    ran = invoke("-m", *command, "epochs=3", HERE)
    assert ran.status == 0, ran.err
    assert f"{file} was removed meanwhile" in ran.out or f"{file} could not be read" in ran.out
    assert "start over" in ran.out
    assert not file.exists()
    assert went_on(tmp_path, trials_of(*command, "epochs=3")) == [None] * 3
    agrees(tmp_path, trials_of(*command, "epochs=3"), only=True)


def test_a_trajectory_is_what_is_computed_without_the_number_of_epochs(trials_of):
    grid = ["seed=0,1", "init=he,max,sqrtmax,xavier", "optimizer=sgd,adam", "schedule=constant,exponential"]
    short, long = (trials_of(*SMALL, *grid, f"epochs={epochs}") for epochs in (2, 3))
    assert [a.trajectory_id for a in short] == [b.trajectory_id for b in long]
    assert [a.kind for a in short] == [b.kind for b in long]
    for a in short:
        for b in short:
            assert (a.trajectory_id == b.trajectory_id) == (a.numbers_id == b.numbers_id)
            assert (a.kind == b.kind) == (a.stack_key == b.stack_key)


def test_a_bad_size_is_refused(invoke, store):
    ran = invoke(*SMALL, "execution.keep_states=1kg")
    assert (ran.status, ran.out) == (2, "")
    assert "execution.keep_states=1kg: kg is not a unit" in ran.err
    assert "write execution.keep_states=4GB, or execution.keep_states=0 to keep none" in ran.err


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_kills_while_sweeps_grow_lose_and_change_nothing(tmp_path, trials_of, agrees):
    """Sweeps of 3 and 6 epochs are killed at random moments, also while states are read and written."""
    chance = random.Random(int(os.environ.get("FNNEXP_CHAOS_SEED", "0")))
    grid = [
        *SMALL,
        "init=he,max",
        "optimizer=adam",
        "batching=mini,sample",
        "seed=0,1",
        "stopping.patience=30",
    ]
    words = ["execution.n_jobs=2", "execution.segment_seconds=0", "execution.max_lanes=2"]
    finished = set()
    for epochs, kills in ((3, 1), (6, 2)):
        command = [sys.executable, "-m", "fnnexp", "-m", *grid, *words, f"epochs={epochs}"]
        for kill in [True] * kills + [False]:
            sweep = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
            try:
                written = set((tmp_path / ".fnnexp").glob("[cs]*/*"))
                while (
                    kill and sweep.poll() is None and set((tmp_path / ".fnnexp").glob("[cs]*/*")) <= written
                ):
                    time.sleep(0.002)
                if kill:
                    time.sleep(chance.uniform(0, 0.3))
                    sweep.kill()
                status = sweep.wait(300)
            finally:
                sweep.kill()
            done = {trial for trial, run in runs_in(tmp_path).items() if run.info.status == "FINISHED"}
            assert finished <= done, "a finished trial was lost"
            finished = done
        assert status == 0
        agrees(tmp_path, trials_of(*grid, f"epochs={epochs}"), only=True)
    assert not list((tmp_path / CHECKPOINTS).glob("*"))
