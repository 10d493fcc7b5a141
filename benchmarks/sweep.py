"""Measure whole sweeps: their time compared with plain scripts, the time of each part, and the memory.

python -m benchmarks.sweep [--without-plain]

Every command runs as a user would run it, in a new process and a new folder with a new SQLite store.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.plain_trial import ARCHITECTURES, INITS, STEP
from benchmarks.speed import CORES, RESULTS
from fnnexp.data import datasets as data
from tests.stores import copy_run

FNNEXP = (sys.executable, "-m", "fnnexp")
EMPTY_APP = (sys.executable, "-m", "benchmarks.empty_app", "-m", "hydra.sweep.dir=.", "hydra.sweep.subdir=.")
ROOT = Path(__file__).parent.parent
SEEDS = (0, 1, 2)
GRID = ["-cn", "card_grid", "epochs=1", "seed=0,1,2"]
WIDE = ["-cn", "card_grid", "epochs=1", "init=max,xavier,he,he2", "seed=range(12)", "execution.max_lanes=48"]
TINY = ["-m", "data=digits", "epochs=1", "init=xavier,he", "seed=range(500)"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--without-plain", action="store_true", help="skip the plain scripts, which take minutes"
    )
    arguments = parser.parse_args()
    console, rows = Console(), []

    def record(quantity: str, value: float, unit: str, target: str = "") -> None:
        rows.append({"quantity": quantity, "value": value, "unit": unit, "target": target})
        console.print(f"{quantity}: {value:.4g} {unit}" + (f"  (target {target})" if target else ""))

    with new_folder() as folder:
        warm(folder)
    with new_folder() as folder:
        sweep = profiled(folder, GRID)
        count = len(ARCHITECTURES) * len(INITS) * len(STEP) * len(SEEDS)
        record(f"card grid, {count} trials of one epoch on MNIST", sweep["wall"], "s")
        training = sweep["segments"]["training"] / sweep["workers"]
        trips = sweep["segments"]["round trips"] / sweep["workers"]
        record("  workers train", training / sweep["wall"], "of the wall clock", "0.95 or more")
        record("  workers load, send and wake up", (trips - training) / sweep["wall"], "of the wall clock")
        record("  workers idle", 1 - trips / sweep["wall"], "of the wall clock")
        empty_seconds = median(timed(folder, EMPTY_APP) for _ in range(5))
        record("  a Hydra app that starts joblib's workers and trains nothing", empty_seconds, "s")
        record("    as a share", empty_seconds / sweep["wall"], "of the wall clock")
        for part, seconds in sorted(sweep["parts"].items(), key=lambda item: -item[1]):
            record(f"  parent: {part}", seconds, "s")
    if not arguments.without_plain:
        with new_folder() as folder:
            plain = run_plain_scripts(folder)
        record(f"the same {count} trials with plain scripts", plain, "s")
        record("  ratio to fnnexp", plain / sweep["wall"], "", "12 or more")
    with new_folder() as folder:
        wide_sweep = profiled(folder, WIDE)
        record("memory at 48 lanes on MNIST: parent", wide_sweep["parent_mb"], "MB", "under 600")
        record("memory at 48 lanes on MNIST: a worker", wide_sweep["worker_mb"], "MB", "under 500")
        record("  of this the data, shared by all workers", wide_sweep["shared_mb"], "MB")
    with new_folder() as folder:
        record("1,000 tiny trials on digits, per trial", timed(folder, [*FNNEXP, *TINY]), "ms", "25 or less")
        for quantity, command, target in (
            ("fnnexp dry_run=true of 1,000 trials", ["dry_run=true", *TINY], "6 s"),
            ("fnnexp report of 1,000 trials", ["report", "digits"], "15 s"),
        ):
            record(quantity, timed(folder, [*FNNEXP, *command]), "s", target)
        for name, target in (("runs", "2 s"), ("curves", "5 s")):
            code = (
                "import time, fnnexp, mlflow; began = time.perf_counter(); "
                f"fnnexp.{name}('digits'); print(time.perf_counter() - began)"
            )
            completed = subprocess.run(
                [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, check=True
            )
            record(f"fnnexp.{name}() of 1,000 trials", float(completed.stdout), "s", target)
    with new_folder() as folder:
        timed(folder, [*FNNEXP, "data=digits", "epochs=1", "seed=999"])
        copy_run(folder, 10_000)
        milliseconds = timed(folder, [*FNNEXP, *TINY])
        record("the same in a store of 10,000 runs, per trial", milliseconds, "ms", "25 or less")
    frame = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    frame.to_csv(RESULTS / "sweep.csv", index=False)
    show(frame, console)


@contextmanager
def new_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def environment() -> dict[str, str]:
    """Return the environment of a user's command, where Python keeps bytecode."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def warm(folder: Path) -> None:
    """Prepare the cache of MNIST, as an earlier sweep would."""
    timed(folder, [*FNNEXP, *GRID])


def timed(folder: Path, command: Sequence[str]) -> float:
    """Run a command and return its wall-clock seconds."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def profiled(folder: Path, command: Sequence[str]) -> dict:
    """Run ``fnnexp``; return the time of each part and the peak memory."""
    out = folder / "parts.json"
    profile_command = [sys.executable, "-m", "benchmarks.profile_sweep", str(out), *command]
    began = time.perf_counter()
    running = subprocess.Popen(profile_command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
    peaks = {"parent_mb": 0.0, "worker_mb": 0.0, "shared_mb": 0.0}
    watcher = threading.Thread(target=watch, args=(psutil.Process(running.pid), peaks))
    watcher.start()
    status, wall = running.wait(), time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"{' '.join(profile_command)} exited with status {status}")
    watcher.join()
    return {**json.loads(out.read_text()), **peaks, "wall": wall}


def watch(parent: psutil.Process, peaks: dict[str, float]) -> None:
    """Update the peak resident memory of a process and of its largest child, until the process exits."""
    while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
        try:
            info = parent.memory_info()
            peaks["parent_mb"] = max(peaks["parent_mb"], info.rss / 1e6)
            for child in parent.children(recursive=True):
                info = child.memory_info()
                if info.rss / 1e6 > peaks["worker_mb"]:
                    peaks["worker_mb"] = info.rss / 1e6
                    peaks["shared_mb"] = getattr(info, "shared", 0) / 1e6
        except psutil.Error:
            continue
        time.sleep(0.05)


def run_plain_scripts(folder: Path) -> float:
    """Return the seconds for the grid with a process for each trial, and one process on each core."""
    file = folder / "mnist.npz"
    arrays = data.load(data.prepare("mnist"))
    np.savez(file, **{name: getattr(arrays, name) for name in ("x_train", "y_train", "x_test", "y_test")})
    uri = f"sqlite:///{folder / 'plain.db'}"
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    one_thread_environment = {**environment(), **dict.fromkeys(threads, "1")}
    began = time.perf_counter()

    def trial(arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.plain_trial", *arguments, str(file), uri]
        devnull = subprocess.DEVNULL
        subprocess.run(
            command, cwd=folder, env=one_thread_environment, check=True, stdout=devnull, stderr=devnull
        )

    grid = list(itertools.product(ARCHITECTURES, INITS, STEP, map(str, SEEDS)))
    trial(grid[0])  # alone, because two processes cannot create the store at the same time
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(trial, grid[1:]))
    return time.perf_counter() - began


def show(frame: pd.DataFrame, console: Console) -> None:
    """Print the results as a table."""
    table = Table("quantity", "value", "unit", "target")
    for row in frame.to_dict("records"):
        table.add_row(row["quantity"], f"{row['value']:.4g}", row["unit"], row["target"])
    console.print(table)


if __name__ == "__main__":
    main()
