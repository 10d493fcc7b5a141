"""A map that is killed many times has the same cells as an undisturbed map, in one run.

FNNEXP_KILLS is the number of kills and FNNEXP_CHAOS_SEED the seed of their choice.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from processes import workers_of

import fnnexp
from fnnexp.sweeping.checkpoints import CELLS

KILLS = int(os.environ.get("FNNEXP_KILLS", "8"))
SEED = int(os.environ.get("FNNEXP_CHAOS_SEED", "0"))
EARLY = 0.1
"""The probability of a kill at each check before the map has workers."""

MAP = ["x=optimizer.lr:1e-2..1e30:5", "y=init.gain:0.1..10:4", "data=digits", "arch.hidden=[12]"]
MAP += [f"epochs={max(KILLS * 6, 24)}", f"stopping.patience={max(KILLS * 2, 8)}"]
MAP += ["execution.segment_seconds=0.1"]
COMMAND = [sys.executable, "-m", "fnnexp", "map", *MAP, "execution.max_lanes=3"]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"),
]


def test_a_map_that_is_killed_many_times_has_the_same_cells(own_folder, invoke, tmp_path):
    chance, left, before = random.Random(SEED), KILLS, 0
    output = tmp_path / "output"
    while True:
        with output.open("w") as log:
            running = subprocess.Popen(
                COMMAND, cwd=own_folder, stdout=log, stderr=log, start_new_session=True
            )
            try:
                while running.poll() is None:
                    if not left:
                        running.wait(timeout=600)
                        break
                    time.sleep(chance.uniform(0.05, 0.6))
                    workers = workers_of(running)
                    if not workers and chance.random() > EARLY:
                        continue
                    target = chance.choice(["worker", "worker", "workers", "parent"]) if workers else "parent"
                    process = [chance.choice(workers or [running])]
                    for victim in {"worker": process, "workers": workers, "parent": [running]}[target]:
                        try:
                            os.kill(victim.pid, signal.SIGKILL)
                        except ProcessLookupError:
                            continue
                    left -= 1
                    if target == "parent":
                        running.wait()
                        psutil.wait_procs(workers, timeout=30)
            finally:
                if running.poll() is None:
                    os.killpg(running.pid, signal.SIGKILL)
                    running.wait()
        if match := re.search(r"(\d+) finished before", output.read_text()):
            assert int(match[1]) >= before, "a finished cell was lost"
            before = int(match[1])
        if running.returncode != -signal.SIGKILL:
            break
    assert left == 0, f"the map ended before {left} of the kills: train more epochs"
    if running.returncode == 1:  # a cell whose worker was killed twice in a row has failed; retry it
        assert subprocess.run(COMMAND, cwd=own_folder, capture_output=True, check=False).returncode == 0
    else:
        assert running.returncode == 0, output.read_text()
    disturbed = fnnexp.read_map("digits_map")
    assert not list((own_folder / CELLS / "begun").glob("*.npz"))
    (own_folder / "undisturbed").mkdir()
    ran = invoke("map", *MAP, "execution.n_jobs=1", cwd=own_folder / "undisturbed")
    assert ran.status == 0, ran.err
    expected = fnnexp.read_map("digits_map", tracking_uri="sqlite:///undisturbed/mlflow.db")
    assert disturbed.columns.keys() == expected.columns.keys()
    for name, array in expected.columns.items():
        np.testing.assert_array_equal(disturbed[name], array)
    np.testing.assert_array_equal(disturbed.trials, expected.trials)
    assert 0 < disturbed.diverged.sum() < disturbed.diverged.size
