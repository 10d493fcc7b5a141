"""A sweep that is killed many times has the same results as an undisturbed sweep.

FNNEXP_KILLS is the number of kills and FNNEXP_CHAOS_SEED the seed of their choice; `make chaos` runs many.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import optuna
import psutil
import pytest
from processes import workers_of
from stores import curve_in, runs_in

from fnnexp.sweeping.executor import Executor, cores_here

KILLS = int(os.environ.get("FNNEXP_KILLS", "20"))
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

SEARCH_KILLS = KILLS if "FNNEXP_KILLS" in os.environ else 3
SEARCH_EPOCHS = max(SEARCH_KILLS * 15, 60)

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


def kill(sweep, chance):
    """Kill a worker, all workers or the parent of a sweep; return which, or None if it is too early.

    Also return the workers that there were.
    """
    workers = workers_of(sweep)
    if not workers and chance.random() > EARLY:
        return None, workers  # the sweep has not started its workers yet
    target = chance.choice(["worker", "worker", "workers", "parent"]) if workers else "parent"
    process = [chance.choice(workers or [sweep])]
    for victim in {"worker": process, "workers": workers, "parent": [sweep]}[target]:
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
    return target, workers


def finished_in(folder):
    if not (folder / "mlflow.db").exists():
        return set()
    return {trial for trial, run in runs_in(folder).items() if run.info.status == "FINISHED"}


def study_in(folder):
    """Return the trials of the study of a search; none if it has none."""
    file = folder / "studies" / "digits.db"
    if not file.exists():
        return []
    return optuna.load_study(study_name="digits", storage=f"sqlite:///{file}").trials


def decided(tags):
    """Return the tags of a run that say what became of its trial."""
    return tags["fnnexp.status"], tags.get("fnnexp.pruned_epoch"), tags.get("fnnexp.tuning")


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
                target, workers = kill(sweep, chance)
                left -= target is not None
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
    "until": (
        ["init=max,sqrtmax,he"],
        ["until=settled", "until.most_seeds=8"],
        ["seed"],
        "^with  answer.*?(?=^until)",
    ),
    "tpe": (
        ["init=max,sqrtmax,he"],
        ["optimizer.lr=tag(log,interval(1e-3,1))", "search=tpe", "search.trials=26"],
        ["optimizer.lr"],
        "^(?:batch|search=tpe: best).*?$",
    ),
    "halving": (
        [f"optimizer.lr={RATES}", "seed=0,1"],
        ["search=halving"],
        [],
        "^(?:rung|the best).*?$",
    ),
    "tune": (
        ["init=max,sqrtmax,he"],
        ["compare=init", "tune=optimizer.lr", "search.trials=2", "seed=0,1", "tracking.experiment=digits"],
        ["optimizer.lr", "seed"],
        "^init .*?(?=^[0-9]+ trials)",
    ),
}
"""Commands that decide what to train next: what is varied, the other options, the params that the command
chooses, and the decisions that it prints."""


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_that_is_killed_many_times_takes_the_same_decisions(tmp_path, search, trials_of, agrees):
    chance, finished = random.Random(SEED), set()
    varied, options, chosen, decisions = SEARCHES[search]
    grid = ["data=digits", "arch.hidden=[12]", f"epochs={SEARCH_EPOCHS}", *varied, *options, *SETTINGS]
    grid += [f"execution.retries={SEARCH_KILLS}"]  # a trial that failed would enter the decisions
    words = [sys.executable, "-m", "fnnexp", "-m", *grid]
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    for folder in (killed, undisturbed):
        folder.mkdir()
    left = SEARCH_KILLS
    while left:
        sweep = subprocess.Popen(
            words, cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            while left and sweep.poll() is None:
                time.sleep(chance.uniform(0.05, 0.6))
                target, workers = kill(sweep, chance)
                left -= target is not None
                if target == "parent":
                    sweep.wait()
                    psutil.wait_procs(workers, timeout=30)
            assert sweep.poll() != 0 or not left, f"it ended before {left} of the kills: train more epochs"
        finally:
            if sweep.poll() is None:
                os.killpg(sweep.pid, signal.SIGKILL)
                sweep.wait()
        assert finished <= finished_in(killed), "a finished trial was lost"
        finished = finished_in(killed)
    ended = [
        subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        for folder in (killed, undisturbed)
    ]
    assert [each.returncode for each in ended] == [0, 0], ended[0].stderr
    after_kills, expected = (
        {trial: (run.data.params, decided(run.data.tags)) for trial, run in runs_in(folder).items()}
        for folder in (killed, undisturbed)
    )
    assert after_kills == expected
    answers = [re.findall(decisions, each.stdout, re.DOTALL | re.MULTILINE) for each in ended]
    assert answers[0] == answers[1] != []
    studies = [[(t.params, t.value) for t in study_in(folder)] for folder in (killed, undisturbed)]
    assert studies[0] == studies[1]
    values = [f"{key}={','.join({params[key] for params, _ in after_kills.values()})}" for key in chosen]
    trials = trials_of("arch.hidden=[12]", f"epochs={SEARCH_EPOCHS}", *varied, *values)
    agrees(
        killed,
        [trial for trial in trials if trial.id in after_kills and "finished" in after_kills[trial.id][1]],
        only=True,
    )
