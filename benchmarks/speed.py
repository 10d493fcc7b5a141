"""Measure the seconds for one lane's epoch on MNIST with all cores busy, for fnnexp and other libraries.

python -m benchmarks.speed [--rounds 5] [--mode full] [--quick]

A library that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ALL_ROWS = 60_000
LANES = (1, 4, 12, 48)
MODES = ("full", "mini", "sample", "full_alone", "mini_alone", "keras", "keras_without_dropout", "nielsen")
PEERS = {"PyTorch": "torch", "JAX": "jax", "scikit-learn": "sklearn"}
"""The libraries that may be missing, and their modules."""

FNNEXP = {"fnnexp": "fnnexp", "fnnexp, numba": "numba"}
"""The contenders that use fnnexp, one for each engine, and their names in the columns of ratios."""


@dataclass
class Contender:
    """A row of the table: one or more processes that are measured together."""

    mode: str
    name: str
    lanes: int
    dtype: str
    rows: int
    processes: int
    threads: int
    seconds: list[float] = field(default_factory=list)

    def open(self) -> None:
        """Start the processes and wait until they are ready."""
        arguments = (self.name, self.mode, self.lanes, self.dtype, self.rows, self.threads)
        command = [sys.executable, "-m", "benchmarks.measure", *map(str, arguments)]
        pipe = subprocess.PIPE
        self.running = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
            for _ in range(self.processes)
        ]
        for process in self.running:
            if process.stdout is None or process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{' '.join(command)} did not print 'ready'")

    def measure(self) -> None:
        """Train in all processes at once, and keep the time of the slowest."""
        for process in self.running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        slowest = max(float(process.stdout.readline()) for process in self.running if process.stdout)
        self.seconds.append(slowest / (self.lanes * self.processes) * ALL_ROWS / self.rows)

    def close(self) -> None:
        """Stop the processes."""
        for process in self.running:
            process.communicate()

    @property
    def median(self) -> float:
        """The median seconds for one lane's epoch."""
        return statistics.median(self.seconds)


def contenders(mode: str, quick: bool) -> Iterator[Contender]:
    """Yield the contenders of a mode whose library is installed."""
    named = {
        "keras": keras,
        "keras_without_dropout": keras,
        "nielsen": nielsen,
        "full_alone": alone,
        "mini_alone": alone,
    }.get(mode, three_batchings)
    for contender in named(mode, quick):
        if contender.name not in PEERS or importlib.util.find_spec(PEERS[contender.name]):
            yield contender


def variants(mode: str, name: str, lanes: int, dtype: str, rows: int) -> Iterator[Contender]:
    """Yield a contender that can use several cores, with one thread in each process, and with all cores."""
    yield Contender(mode, name, lanes, dtype, rows, CORES, 1)
    yield Contender(mode, name, lanes, dtype, rows, 1, CORES)


def alone(mode: str, quick: bool) -> Iterator[Contender]:
    """Yield the contenders for one network that is trained by itself: in one process, with all cores."""
    for name in (*FNNEXP, "PyTorch", "JAX"):
        for threads in (1, CORES):
            yield Contender(mode, name, 1, "float32", ALL_ROWS, 1, threads)


def keras(mode: str, quick: bool) -> Iterator[Contender]:
    """Yield the contenders for Keras's mnist_mlp. scikit-learn has no dropout."""
    rows = ALL_ROWS // 10
    for lanes in (4,) if quick else (1, 4, 12):
        for name in FNNEXP:
            yield Contender(mode, name, lanes, "float32", rows, CORES, 1)
    yield Contender(mode, "bare products", 1, "float32", rows, CORES, 1)
    yield from variants(mode, "PyTorch", 1, "float32", rows)
    for lanes in (1, 4, 12):
        yield from variants(mode, "JAX", lanes, "float32", rows)
    if mode == "keras_without_dropout":
        yield Contender(mode, "scikit-learn", 1, "float32", rows, CORES, 1)


def nielsen(mode: str, quick: bool) -> Iterator[Contender]:
    """Yield the contenders for Nielsen's batches of 10."""
    for lanes in (12,) if quick else (1, 4, 12):
        for name in FNNEXP:
            yield Contender(mode, name, lanes, "float32", ALL_ROWS // 5, CORES, 1)
    yield Contender(mode, "bare products", 1, "float32", ALL_ROWS, CORES, 1)
    yield Contender(mode, "row-by-row loop", 1, "float64", ALL_ROWS // 20, CORES, 1)
    yield from variants(mode, "PyTorch", 1, "float32", ALL_ROWS // 10)
    for lanes in (1, 12):
        yield from variants(mode, "JAX", lanes, "float32", ALL_ROWS // 5)


def three_batchings(mode: str, quick: bool) -> Iterator[Contender]:
    """Yield the contenders for plain steps on full batches, mini-batches and single rows."""
    slow_rows = ALL_ROWS // 10 if mode == "sample" else ALL_ROWS
    for dtype in ("float32", "float64"):
        for lanes in (12,) if quick else LANES:
            rows = ALL_ROWS // (5 if mode == "sample" and lanes > 4 else 1)
            for name in FNNEXP:
                yield Contender(mode, name, lanes, dtype, rows, CORES, 1)
    yield Contender(mode, "bare products", 1, "float32", ALL_ROWS, CORES, 1)
    yield Contender(mode, "bare products", 1, "float64", ALL_ROWS, CORES, 1)
    yield Contender(mode, "plain loop", 1, "float64", slow_rows, CORES, 1)
    yield from variants(mode, "PyTorch", 1, "float32", slow_rows // 3 if mode == "sample" else slow_rows)
    yield from variants(mode, "JAX", 1, "float32", ALL_ROWS)
    if mode != "full":
        yield Contender(mode, "scikit-learn", 1, "float32", slow_rows, CORES, 1)
        for lanes in {"mini": (12,), "sample": (12, 48)}[mode]:
            yield from variants(mode, "JAX", lanes, "float32", ALL_ROWS if mode == "mini" else ALL_ROWS // 5)


def faster_variants(measured: list[Contender]) -> list[Contender]:
    """Return the faster variant of each contender that was measured with different numbers of threads."""
    best: dict[tuple[str, str, int, str], Contender] = {}
    for contender in measured:
        key = (contender.mode, contender.name, contender.lanes, contender.dtype)
        if key not in best or contender.median < best[key].median:
            best[key] = contender
    return list(best.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", action="append", choices=MODES)
    parser.add_argument("--quick", action="store_true", help="measure fnnexp with one number of lanes")
    arguments = parser.parse_args()
    console, measured = Console(width=None if sys.stdout.isatty() else 160), []
    for mode in arguments.mode or MODES:
        mode_contenders = list(contenders(mode, arguments.quick))
        for contender in mode_contenders:
            contender.open()
        for i in range(arguments.rounds):
            console.print(f"{mode}: round {i + 1} of {arguments.rounds}")
            for contender in mode_contenders:
                contender.measure()
        for contender in mode_contenders:
            contender.close()
        measured += faster_variants(mode_contenders)
    frame = as_frame(measured)
    show(frame, console)
    RESULTS.mkdir(exist_ok=True)
    if arguments.mode and (RESULTS / "speed.csv").exists():  # keep the modes that were not measured
        before = pd.read_csv(RESULTS / "speed.csv")
        frame = pd.concat([before[~before["mode"].isin(arguments.mode)], frame], ignore_index=True)
    frame.to_csv(RESULTS / "speed.csv", index=False)
    from benchmarks.picture import draw

    draw(frame, RESULTS / "speed.png")


def as_frame(measured: list[Contender]) -> pd.DataFrame:
    """Return a row for each contender, with ratios to fnnexp in float32, by engine and number of lanes."""
    frame = pd.DataFrame(
        {
            "mode": contender.mode,
            "contender": contender.name,
            "lanes": contender.lanes,
            "dtype": contender.dtype,
            "seconds": contender.median,
            "least": min(contender.seconds),
            "most": max(contender.seconds),
            "rows": contender.rows,
            "processes": contender.processes,
            "threads": contender.threads,
        }
        for contender in measured
    )
    for name, column_name in FNNEXP.items():
        for lanes in LANES:
            matches = (frame["contender"] == name) & (frame["lanes"] == lanes) & (frame["dtype"] == "float32")
            fnnexp_rows = frame[matches]
            fnnexp_seconds = frame["mode"].map(fnnexp_rows.set_index("mode")["seconds"])
            frame[f"times_{column_name}_{lanes}"] = frame["seconds"] / fnnexp_seconds
    return frame


def show(frame: pd.DataFrame, console: Console) -> None:
    """Print the results as a table."""
    ratio_columns = {f"÷ {name} {k}": f"times_{name}_{k}" for name in FNNEXP.values() for k in LANES}
    table = Table("mode", "contender", "lanes", "dtype", "s / lane epoch", *ratio_columns)
    for row in frame.sort_values(["mode", "seconds"]).to_dict("records"):
        ratios = ["" if pd.isna(row[column]) else f"{row[column]:.2f}" for column in ratio_columns.values()]
        cells = (row["mode"], row["contender"], str(row["lanes"]), row["dtype"], f"{row['seconds']:.4f}")
        table.add_row(*cells, *ratios)
    console.print(table)


if __name__ == "__main__":
    main()
