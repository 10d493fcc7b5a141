"""Measure sweeps of a thousand to a hundred thousand tiny trials, and reading their results.

python -m benchmarks.scale [--trials 1000 --trials 10000] [--keep FOLDER]

Every command runs as a user would run it, in a new process. Each number of trials has a new folder with a new
SQLite store. 100,000 trials need 35 GB of disk.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import psutil
from rich.console import Console

from benchmarks.sweep import FNNEXP, ROOT, environment, new_folder, watch

RESULTS = ROOT / "benchmarks" / "results"
TRIALS = (1_000, 10_000, 100_000)
EXPERIMENT = "scale"
INITS = ("he", "max", "sqrtmax", "xavier", "he2", "he_normal", "glorot_normal", "normal", "lecun_uniform")
INITS += ("he_uniform",)

TARGETS = {
    ("dry run", "s"): 60, ("dry run", "MB"): 1000,
    ("sweep, per trial", "ms"): 10,
    ("second start", "s"): 30,
    ("fnnexp.runs()", "s"): 20,
    ("fnnexp.curves(), by part", "s"): 60,
    ("report", "s"): 60, ("report, its page", "MB"): 5,
}  # fmt: skip
"""The largest values at 100,000 trials, by quantity and unit."""

READ = """
import time, fnnexp, mlflow
began = time.perf_counter()
{code}
print(time.perf_counter() - began)
"""
READERS = {
    "fnnexp.runs()": f'rows = len(fnnexp.runs("{EXPERIMENT}"))',
    "fnnexp.curves(), by part": f'rows = sum(map(len, fnnexp.curves("{EXPERIMENT}", chunksize=5_000)))',
    "fnnexp.curves(), whole": f'rows = len(fnnexp.curves("{EXPERIMENT}"))',
}
"""Code that reads the results, by the quantity that it measures. Imports do not count."""

SEARCH = f"""
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("{EXPERIMENT}").experiment_id
page = client.search_runs([experiment], max_results=1000)
"""
"""A page of 1,000 runs by MLflow's own client, which its UI's server calls too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, action="append", help="a number of trials, a multiple of 1,000")
    parser.add_argument("--keep", type=Path, help="a folder in which the stores stay, for more measurements")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder for scale.csv and scale.png")
    arguments = parser.parse_args()
    console, rows = Console(), []
    for count in arguments.trials or TRIALS:

        def record(quantity: str, value: float, unit: str, count: int = count) -> None:
            target = TARGETS.get((quantity, unit))
            rows.append({"trials": count, "quantity": quantity, "value": value, "unit": unit})
            text = f"  (at most {target} at 100,000)" if target else ""
            console.print(f"{count:,} trials: {quantity}: {value:.4g} {unit}{text}", highlight=False)

        with new_folder() if arguments.keep is None else nullcontext(arguments.keep / str(count)) as folder:
            folder.mkdir(parents=True, exist_ok=True)
            measure(count, folder, record)
        frame = pd.DataFrame(rows)
        arguments.out.mkdir(exist_ok=True)
        frame.to_csv(arguments.out / "scale.csv", index=False)
    draw(frame, arguments.out / "scale.png")
    wide = frame.pivot_table(index=["quantity", "unit"], columns="trials", values="value", sort=False)
    show_table(wide, console)


def grid(count: int) -> list[str]:
    """Return the overrides of a grid of `count` tiny trials: initializers, learning rates and seeds.

    >>> grid(1000)[-1]
    'seed=range(10)'
    """
    rates, seeds = next(
        (rates, count // 10 // rates)
        for rates in range(round((count / 10) ** 0.5), 0, -1)
        if count % (10 * rates) == 0
    )
    steps = ",".join(f"{0.002 * 250 ** (i / max(rates - 1, 1)):.4g}" for i in range(rates))
    options = ["data=digits", "epochs=5", f"tracking.experiment={EXPERIMENT}"]
    return ["-m", *options, f"init={','.join(INITS)}", f"optimizer.lr={steps}", f"seed=range({seeds})"]


def measure(count: int, folder: Path, record: Callable[[str, float, str], None]) -> None:
    """Run the commands and record what they take."""
    trials = grid(count)
    run([*FNNEXP, "data=digits", "epochs=1", "tracking.experiment=warm"], folder)  # the cache and the store
    for quantity, command in (
        ("dry run", ["dry_run=true", *trials]),
        ("sweep", trials),
        ("second start", trials),
        ("report", ["report", EXPERIMENT]),
    ):
        taken = run([*FNNEXP, *command], folder)
        record(quantity, taken["wall"], "s")
        record(quantity, taken["parent_mb"], "MB")
        if quantity == "sweep":
            record("sweep, per trial", 1000 * taken["wall"] / count, "ms")
            record("the store", (folder / "mlflow.db").stat().st_size / 1e6, "MB")
    record("report, its page", next(folder.glob("reports/*/report.html")).stat().st_size / 1e6, "MB")
    for quantity, code in (*READERS.items(), ("MLflow's search for 1,000 runs", SEARCH)):
        taken = run([sys.executable, "-c", READ.format(code=code)], folder)
        record(quantity, float(taken["out"]), "s")
        record(quantity, taken["parent_mb"], "MB")


def run(command: Sequence[str], folder: Path) -> dict:
    """Run a command; return its output, its wall-clock seconds, and the peak memory of the first process."""
    began = time.perf_counter()
    peaks = {"parent_mb": 0.0, "worker_mb": 0.0, "shared_mb": 0.0}
    with tempfile.TemporaryFile("w+") as out:
        running = subprocess.Popen(command, cwd=folder, env=environment(), stdout=out)
        watcher = threading.Thread(target=watch, args=(psutil.Process(running.pid), peaks))
        watcher.start()
        status, wall = running.wait(), time.perf_counter() - began
        watcher.join()
        if status != 0:
            raise SystemExit(f"{' '.join(command)} exited with status {status}")
        out.seek(0)
        return {**peaks, "wall": wall, "out": out.read()}


def show_table(wide: pd.DataFrame, console: Console) -> None:
    """Print a row for each quantity, with a column for each number of trials."""
    from rich.table import Table

    table = Table("quantity", "unit", *(f"{count:,}" for count in wide.columns), "at most, at 100,000")
    for (quantity, unit), values in wide.iterrows():
        target = TARGETS.get((quantity, unit), "")
        table.add_row(quantity, unit, *(f"{value:.4g}" for value in values), str(target))
    console.print(table)


def draw(frame: pd.DataFrame, file: Path) -> None:
    """Plot seconds and memory against the number of trials, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for panel, unit, title in zip(
        figure.subplots(1, 2),
        ("s", "MB"),
        ("wall-clock seconds", "peak memory of the parent, MB"),
        strict=True,
    ):
        part = frame[(frame["unit"] == unit) & ~frame["quantity"].isin(["the store", "report, its page"])]
        markers = itertools.cycle("osD^vPX")
        for quantity, line in part.groupby("quantity", sort=False):
            panel.plot(line["trials"], line["value"], marker=next(markers), markersize=5, label=quantity)
        panel.set(xscale="log", yscale="log", xlabel="trials")
        panel.set_title(title, loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e3e6ea", zorder=0)
    panel.legend(fontsize=8, frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
