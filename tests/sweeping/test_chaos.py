"""A sweep that is killed many times has the same results as an undisturbed sweep.

FNNEXP_KILLS is the number of kills and FNNEXP_CHAOS_SEED the seed of their choice; `make chaos` runs many.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from processes import workers_of
from stores import curve_in, runs_in

from fnnexp.sweeping.executor import Executor, cores_here

KILLS = int(os.environ.get("FNNEXP_KILLS", "30"))
SEED = int(os.environ.get("FNNEXP_CHAOS_SEED", "0"))
GRID = ["data=digits", "arch.hidden=[12]", "init=sqrtmax,xavier,he", "batching=mini,full,sample", "seed=0,1"]
EARLY = 0.1
"""The probability of a kill at each check before the sweep has workers."""

EPOCHS = max(KILLS * 3, 12)
GRID += [f"epochs={EPOCHS}", f"stopping.patience={EPOCHS // 3}"]  # about half of the trials stop early
ALONE = ["data=digits", "arch.hidden=[300]", "init=he", "batching=full", f"epochs={max(KILLS * 8, 12)}"]
"""A trial that trains in two threads, since nothing else needs the second core."""

SETTINGS = ["execution.n_jobs=2", "execution.segment_seconds=0.1", "execution.engine=numpy"]
SWEEPS = {
    "many": (GRID, [*SETTINGS, "execution.max_lanes=3"], KILLS),
    "alone": (ALONE, [*SETTINGS, f"execution.retries={KILLS}"], -(-KILLS // 6)),
}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


def checkpointed(folder):
    """Return the epoch of each checkpoint by ``numbers_id``; every checkpoint is readable at any time."""
    epochs = {}
    for file in (folder / ".fnnexp" / "checkpoints").glob("*.npz"):
        with np.load(file, allow_pickle=False) as arrays:
            epochs[file.stem] = json.loads(arrays["meta"].tobytes())["epoch"]
    return epochs


def check_that_logged_epochs_are_saved(folder):
    saved = checkpointed(folder)
    for run in runs_in(folder).values() if (folder / "mlflow.db").exists() else ():
        if run.info.status != "FINISHED":
            logged = max((step for _, step, _ in curve_in(folder, run.info.run_id)), default=0)
            assert saved.get(run.data.tags["fnnexp.numbers"], 0) >= logged


def finished_in(folder):
    if not (folder / "mlflow.db").exists():
        return set()
    return {trial for trial, run in runs_in(folder).items() if run.info.status == "FINISHED"}


def test_the_trial_alone_trains_in_two_threads(invoke, monkeypatch):
    """So every kill of a worker that trains this trial hits two threads."""
    submitted, submit = [], Executor.submit

    def record(executor, planned, threads=1):
        submitted.append(threads)
        submit(executor, planned, threads)

    monkeypatch.setattr(Executor, "submit", record)
    grid, settings, _ = SWEEPS["alone"]
    assert invoke("-m", *grid, "++epochs=2", *settings).status == 0
    assert {*submitted} == {min(cores_here(), 2)}


@pytest.mark.parametrize("sweep_of", SWEEPS)
def test_a_sweep_that_is_killed_many_times_ends_with_the_same_results(sweep_of, tmp_path, trials_of, agrees):
    """Kills happen from the start of the process in a new folder, also while the store is created."""
    grid, settings, kills = SWEEPS[sweep_of]
    command = [sys.executable, "-m", "fnnexp", "-m", *grid, *settings]
    chance = random.Random(SEED)
    left, finished = kills, set()
    log = (tmp_path / "output").open("w")
    sweep = None
    try:
        while True:
            sweep = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
            while sweep.poll() is None:
                if not left:
                    sweep.wait(timeout=300)
                    break
                time.sleep(chance.uniform(0.05, 0.6))
                workers = workers_of(sweep)
                if not workers and chance.random() > EARLY:
                    continue  # the sweep has not started its workers yet
                target = chance.choice(["worker", "worker", "workers", "parent"]) if workers else "parent"
                process = [chance.choice(workers or [sweep])]
                victims = {"worker": process, "workers": workers, "parent": [sweep]}[target]
                for victim in victims:
                    try:
                        os.kill(victim.pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                left -= 1
                if target == "parent":
                    sweep.wait()
                    assert finished <= finished_in(tmp_path), "a finished trial was lost"
                    finished = finished_in(tmp_path)
                    check_that_logged_epochs_are_saved(tmp_path)
                    psutil.wait_procs(workers, timeout=30)
                    assert not [worker for worker in workers if worker.is_running()], (
                        "workers are still alive"
                    )
            if sweep.returncode != -signal.SIGKILL:
                break
    finally:
        if sweep is not None and sweep.poll() is None:
            os.killpg(sweep.pid, signal.SIGKILL)
            sweep.wait()
        log.close()
    assert left == 0, f"the sweep ended before {left} of the kills: train more epochs"
    if sweep.returncode == 1:  # a trial whose worker was killed twice in a row has failed; retry it
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    else:
        assert sweep.returncode == 0, (tmp_path / "output").read_text()
    assert {run.info.status for run in runs_in(tmp_path).values()} == {"FINISHED"}
    assert checkpointed(tmp_path) == {}
    agrees(tmp_path, trials_of(*grid))


RATES = ",".join(f"{0.001 * 1.5**i:.3g}" for i in range(18))
SEARCHES = {
    "until": (["init=max,sqrtmax,he", "epochs=30", "until=settled", "until.most_seeds=8"], "with  answer"),
    "halving": ([f"optimizer.lr={RATES}", "seed=0,1", "epochs=40", "search=halving"], "the best"),
}
"""Commands that decide what to train next, and the beginning of their answer."""


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_that_is_killed_many_times_takes_the_same_decisions(tmp_path, search, trials_of, agrees):
    """A search that ends before it is killed is compared, and starts again in a new folder."""
    varied, answer = SEARCHES[search]
    words = [sys.executable, "-m", "fnnexp", "-m", "data=digits", "arch.hidden=[12]", *varied, *SETTINGS]

    def run(folder, timeout=None):
        """Return the decisions and the answer of a search; None if it was killed after the timeout."""
        with (folder / "output").open("w+") as output:
            sweep = subprocess.Popen(words, cwd=folder, stdout=output, stderr=output, start_new_session=True)
            try:
                sweep.wait(timeout=timeout)
            except subprocess.TimeoutExpired:
                sweep.kill()
                sweep.wait()
                return None
            output.seek(0)
            text = output.read()
        assert sweep.returncode == 0, text
        runs = {trial: (run.data.tags, run.data.params) for trial, run in runs_in(folder).items()}
        decisions = {
            trial: (tags["fnnexp.status"], params["seed"], tags.get("fnnexp.pruned_epoch"))
            for trial, (tags, params) in runs.items()
        }
        return decisions, text[text.index(answer) :].partition("search=")[0].partition("until=")[0]

    def new_folder():
        return Path(tempfile.mkdtemp(dir=tmp_path))

    undisturbed = run(new_folder())
    chance, left = random.Random(SEED), KILLS if "FNNEXP_KILLS" in os.environ else 3
    folder, finished = new_folder(), set()
    while left:
        ended = run(folder, timeout=chance.uniform(1.5, 6.0))
        if ended is not None:
            assert ended == undisturbed
            folder, finished = new_folder(), set()
            continue
        left -= 1
        assert finished <= finished_in(folder), "a finished trial was lost"
        finished = finished_in(folder)
    assert run(folder) == undisturbed
    decisions, _ = undisturbed
    seeds = ",".join(sorted({seed for _, seed, _ in decisions.values()}, key=int))
    swept = [word for word in varied if not word.startswith(("until", "search", "seed"))]
    trials = trials_of("arch.hidden=[12]", *swept, f"seed={seeds}")
    agrees(folder, [t for t in trials if t.id in decisions and decisions[t.id][0] == "finished"], only=True)
