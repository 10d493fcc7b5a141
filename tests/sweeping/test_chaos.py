"""A sweep that is killed again and again ends as if nobody had touched it.

FNNEXP_KILLS and FNNEXP_CHAOS_SEED say how often and which kills; `make chaos` is the long one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from stores import curve_in, runs_in

KILLS = int(os.environ.get("FNNEXP_KILLS", "30"))
SEED = int(os.environ.get("FNNEXP_CHAOS_SEED", "0"))
GRID = ["data=digits", "arch.hidden=[12]", "init=sqrtmax,xavier,he", "batching=mini,full,sample", "seed=0,1"]
EARLY = 0.1
"""How likely a sweep is killed each time that it is looked at before it has workers."""

EPOCHS = max(KILLS * 2, 10)
COMMAND = [
    *(sys.executable, "-m", "fnnexp", "-m", *GRID, f"epochs={EPOCHS}"),
    *("execution.n_jobs=2", "execution.segment_seconds=0.1", "execution.max_lanes=3"),
]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


def workers_of(parent):
    """Return the processes that loky trains in: children that are not its resource tracker."""
    try:
        children = psutil.Process(parent.pid).children()
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def checkpointed(folder):
    """Return the epoch of each checkpoint by the numbers' id; each can be read, whenever it is looked at."""
    epochs = {}
    for file in (folder / ".fnnexp" / "checkpoints").glob("*.npz"):
        with np.load(file, allow_pickle=False) as arrays:
            epochs[file.stem] = json.loads(arrays["meta"].tobytes())["epoch"]
    return epochs


def nothing_logged_would_be_trained_again(folder):
    saved = checkpointed(folder)
    for run in runs_in(folder).values() if (folder / "mlflow.db").exists() else ():
        if run.info.status != "FINISHED":
            logged = max((step for _, step, _ in curve_in(folder, run.info.run_id)), default=0)
            assert saved.get(run.data.tags["fnnexp.numbers"], 0) >= logged


def finished_in(folder):
    if not (folder / "mlflow.db").exists():
        return set()
    return {trial for trial, run in runs_in(folder).items() if run.info.status == "FINISHED"}


def test_a_sweep_that_is_killed_again_and_again_ends_as_if_nothing_was(tmp_path, trials_of, agrees):
    """From the start of the process on, in a new folder: also while the store is made."""
    chance = random.Random(SEED)
    left, finished = KILLS, set()
    log = (tmp_path / "said").open("w")
    sweep = None
    try:
        while True:
            sweep = subprocess.Popen(COMMAND, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
            while sweep.poll() is None:
                if not left:
                    sweep.wait(timeout=300)
                    break
                time.sleep(chance.uniform(0.05, 0.6))
                workers = workers_of(sweep)
                if not workers and chance.random() > EARLY:
                    continue  # it has not got that far
                kind = chance.choice(["worker", "worker", "workers", "parent"]) if workers else "parent"
                one = [chance.choice(workers or [sweep])]
                victims = {"worker": one, "workers": workers, "parent": [sweep]}[kind]
                for victim in victims:
                    try:
                        os.kill(victim.pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                left -= 1
                if kind == "parent":
                    sweep.wait()
                    assert finished <= finished_in(tmp_path), "something finished was lost"
                    finished = finished_in(tmp_path)
                    nothing_logged_would_be_trained_again(tmp_path)
                    psutil.wait_procs(workers, timeout=30)
                    assert not [worker for worker in workers if worker.is_running()], "workers outlive it"
            if sweep.returncode != -signal.SIGKILL:
                break
    finally:
        if sweep is not None and sweep.poll() is None:
            os.killpg(sweep.pid, signal.SIGKILL)
            sweep.wait()
        log.close()
    assert left == 0, f"the sweep ended {left} kills too early: make it longer"
    if sweep.returncode == 1:  # a trial that met two kills in a row counts as failed, and is tried again
        assert subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    else:
        assert sweep.returncode == 0, (tmp_path / "said").read_text()
    assert {run.info.status for run in runs_in(tmp_path).values()} == {"FINISHED"}
    assert checkpointed(tmp_path) == {}
    agrees(tmp_path, trials_of(*GRID, f"epochs={EPOCHS}"))
