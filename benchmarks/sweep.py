"""The sweep around the training: its time beside the plain way, where the time goes, what memory it takes.

python -m benchmarks.sweep [--without-plain]

Everything runs as a user would run it: a new folder, a new SQLite store, a process of its own.
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
from tests.stores import fill

FNNEXP = (sys.executable, "-m", "fnnexp")
NOTHING = (sys.executable, "-m", "benchmarks.empty_app", "-m", "hydra.sweep.dir=.", "hydra.sweep.subdir=.")
ROOT = Path(__file__).parent.parent
SEEDS = (0, 1, 2)
GRID = ["-cn", "card_grid", "epochs=1", "seed=0,1,2"]
WIDE = ["-cn", "card_grid", "epochs=1", "init=max,xavier,he,he2", "seed=range(12)", "execution.max_lanes=48"]
TINY = ["-m", "data=digits", "epochs=1", "init=xavier,he", "seed=range(500)"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-plain", action="store_true", help="leave out the plain way, minutes long")
    given = parser.parse_args()
    console, rows = Console(), []

    def note(what: str, value: float, unit: str, wanted: str = "") -> None:
        rows.append({"what": what, "value": value, "unit": unit, "wanted": wanted})
        console.print(f"{what}: {value:.4g} {unit}" + (f"  (wanted {wanted})" if wanted else ""))

    with new_folder() as folder:
        warm(folder)
    with new_folder() as folder:
        ours = profiled(folder, GRID)
        count = len(ARCHITECTURES) * len(INITS) * len(STEP) * len(SEEDS)
        note(f"card grid, {count} trials of one epoch on MNIST", ours["wall"], "s")
        training = ours["segments"]["training"] / ours["workers"]
        trips = ours["segments"]["round trips"] / ours["workers"]
        note("  workers train", training / ours["wall"], "of the wall clock", "0.95 or more")
        note("  workers fetch, send, wake up", (trips - training) / ours["wall"], "of the wall clock")
        note("  workers idle", 1 - trips / ours["wall"], "of the wall clock")
        floor = median(timed(folder, NOTHING) for _ in range(5))
        note("  a Hydra app with joblib's workers that trains nothing", floor, "s")
        note("    takes", floor / ours["wall"], "of the wall clock")
        for part, seconds in sorted(ours["parts"].items(), key=lambda item: -item[1]):
            note(f"  parent: {part}", seconds, "s")
    if not given.without_plain:
        with new_folder() as folder:
            plain = plain_way(folder)
        note(f"the same {count} trials the plain way", plain, "s")
        note("  times ours", plain / ours["wall"], "", "12 or more")
    with new_folder() as folder:
        wide = profiled(folder, WIDE)
        note("memory at 48 lanes on MNIST: parent", wide["parent_mb"], "MB", "under 600")
        note("memory at 48 lanes on MNIST: a worker", wide["worker_mb"], "MB", "under 500")
        note("  of it the data, mapped once for all workers", wide["shared_mb"], "MB")
    with new_folder() as folder:
        note("1,000 tiny trials on digits, each", timed(folder, [*FNNEXP, *TINY]), "ms", "25 or less")
        for what, command, wanted in (
            ("fnnexp dry_run=true of 1,000 trials", ["dry_run=true", *TINY], "6 s"),
            ("fnnexp report of 1,000 trials", ["report", "fnnexp"], "15 s"),
        ):
            note(what, timed(folder, [*FNNEXP, *command]), "s", wanted)
        for name, wanted in (("runs", "2 s"), ("curves", "5 s")):
            code = (
                "import time, fnnexp, mlflow; began = time.perf_counter(); "
                f"fnnexp.{name}('fnnexp'); print(time.perf_counter() - began)"
            )
            said = subprocess.run(
                [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, check=True
            )
            note(f"fnnexp.{name}() of 1,000 trials", float(said.stdout), "s", wanted)
    with new_folder() as folder:
        timed(folder, [*FNNEXP, "data=digits", "epochs=1", "seed=999"])
        fill(folder, 10_000)
        crowded = timed(folder, [*FNNEXP, *TINY])
        note("the same into a store of 10,000 runs, each", crowded, "ms", "25 or less")
    frame = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    frame.to_csv(RESULTS / "sweep.csv", index=False)
    show(frame, console)


@contextmanager
def new_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def warm(folder: Path) -> None:
    """Prepare MNIST, as any earlier sweep did."""
    timed(folder, [*FNNEXP, *GRID])


def timed(folder: Path, command: Sequence[str]) -> float:
    """Return a command's wall clock in seconds."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def profiled(folder: Path, command: Sequence[str]) -> dict:
    """Run ``fnnexp`` with a clock at each seam while its memory is watched."""
    out = folder / "parts.json"
    words = [sys.executable, "-m", "benchmarks.profile_sweep", str(out), *command]
    began = time.perf_counter()
    running = subprocess.Popen(words, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
    peaks = {"parent_mb": 0.0, "worker_mb": 0.0, "shared_mb": 0.0}
    watching = threading.Thread(target=watch, args=(psutil.Process(running.pid), peaks))
    watching.start()
    status, wall = running.wait(), time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"{' '.join(words)} ended with status {status}")
    watching.join()
    return {**json.loads(out.read_text()), **peaks, "wall": wall}


def watch(parent: psutil.Process, peaks: dict[str, float]) -> None:
    """Keep the largest resident memory of a process and of any of its children, until it ends."""
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


def plain_way(folder: Path) -> float:
    """Return the seconds of the grid as one process a trial, one at a time on each core."""
    file = folder / "mnist.npz"
    arrays = data.load(data.prepare("mnist"))
    np.savez(file, **{name: getattr(arrays, name) for name in ("x_train", "y_train", "x_test", "y_test")})
    uri = f"sqlite:///{folder / 'plain.db'}"
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    one_thread = {**environment(), **dict.fromkeys(threads, "1")}
    began = time.perf_counter()

    def trial(words: Sequence[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.plain_trial", *words, str(file), uri]
        quiet = subprocess.DEVNULL
        subprocess.run(command, cwd=folder, env=one_thread, check=True, stdout=quiet, stderr=quiet)

    grid = list(itertools.product(ARCHITECTURES, INITS, STEP, map(str, SEEDS)))
    trial(grid[0])  # alone: two processes that make the store at once trip over each other
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(trial, grid[1:]))
    return time.perf_counter() - began


def show(frame: pd.DataFrame, console: Console) -> None:
    """Print the table."""
    table = Table("what", "value", "unit", "wanted")
    for row in frame.to_dict("records"):
        table.add_row(row["what"], f"{row['value']:.4g}", row["unit"], row["wanted"])
    console.print(table)


if __name__ == "__main__":
    main()
