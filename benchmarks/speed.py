"""Seconds for one lane's epoch on MNIST with all cores busy: ours, each peer, and the machine's floor.

python -m benchmarks.speed [--rounds 5] [--mode full] [--quick]
"""

from __future__ import annotations

import argparse
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
OURS = {"ours": "ours", "ours, numba": "numba"}
"""Our contenders, one an engine, and how the table's ratios to them are called."""


@dataclass
class Contender:
    """One line of the table: some processes of some threads each, measured together."""

    mode: str
    name: str
    lanes: int
    dtype: str
    rows: int
    processes: int
    threads: int
    seconds: list[float] = field(default_factory=list)

    def open(self) -> None:
        """Start its processes and wait until they are ready."""
        words = (self.name, self.mode, self.lanes, self.dtype, self.rows, self.threads)
        command = [sys.executable, "-m", "benchmarks.measure", *map(str, words)]
        pipe = subprocess.PIPE
        self.running = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
            for _ in range(self.processes)
        ]
        for process in self.running:
            if process.stdout is None or process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{' '.join(command)} did not get ready")

    def measure(self) -> None:
        """Let all its processes train at once; the slowest counts."""
        for process in self.running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        slowest = max(float(process.stdout.readline()) for process in self.running if process.stdout)
        self.seconds.append(slowest / (self.lanes * self.processes) * ALL_ROWS / self.rows)

    def close(self) -> None:
        """End its processes."""
        for process in self.running:
            process.communicate()

    @property
    def median(self) -> float:
        """Seconds for one lane's epoch."""
        return statistics.median(self.seconds)


def contenders(mode: str, quick: bool) -> Iterator[Contender]:
    """Yield the lines of a mode; who can use one core or all is measured both ways."""

    def ways(name: str, lanes: int, dtype: str, rows: int) -> Iterator[Contender]:
        yield Contender(mode, name, lanes, dtype, rows, CORES, 1)
        yield Contender(mode, name, lanes, dtype, rows, 1, CORES)

    part = ALL_ROWS // 10 if mode == "sample" else ALL_ROWS
    for dtype in ("float32", "float64"):
        for lanes in (12,) if quick else LANES:
            rows = ALL_ROWS // (5 if mode == "sample" and lanes > 4 else 1)
            for name in OURS:
                yield Contender(mode, name, lanes, dtype, rows, CORES, 1)
    yield Contender(mode, "floor", 1, "float32", ALL_ROWS, CORES, 1)
    yield Contender(mode, "floor", 1, "float64", ALL_ROWS, CORES, 1)
    yield Contender(mode, "plain loop", 1, "float64", part, CORES, 1)
    yield from ways("PyTorch", 1, "float32", part // 3 if mode == "sample" else part)
    yield from ways("JAX", 1, "float32", ALL_ROWS)
    if mode != "full":
        yield Contender(mode, "scikit-learn", 1, "float32", part, CORES, 1)
        for lanes in {"mini": (12,), "sample": (12, 48)}[mode]:
            yield from ways("JAX", lanes, "float32", ALL_ROWS if mode == "mini" else ALL_ROWS // 5)


def better_ways(measured: list[Contender]) -> list[Contender]:
    """Keep the faster way of each contender that was measured in more than one."""
    best: dict[tuple[str, str, int, str], Contender] = {}
    for each in measured:
        key = (each.mode, each.name, each.lanes, each.dtype)
        if key not in best or each.median < best[key].median:
            best[key] = each
    return list(best.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", action="append", choices=["full", "mini", "sample"])
    parser.add_argument("--quick", action="store_true", help="ours at 12 lanes only")
    given = parser.parse_args()
    console, kept = Console(width=None if sys.stdout.isatty() else 160), []
    for mode in given.mode or ["full", "mini", "sample"]:
        lines = list(contenders(mode, given.quick))
        for each in lines:
            each.open()
        for i in range(given.rounds):
            console.print(f"{mode}: round {i + 1} of {given.rounds}")
            for each in lines:
                each.measure()
        for each in lines:
            each.close()
        kept += better_ways(lines)
    frame = as_frame(kept)
    RESULTS.mkdir(exist_ok=True)
    frame.to_csv(RESULTS / "speed.csv", index=False)
    show(frame, console)
    from benchmarks.picture import draw

    draw(frame, RESULTS / "speed.png")


def as_frame(kept: list[Contender]) -> pd.DataFrame:
    """Return one row a contender, with its ratios to ours in float32, by engine and number of lanes."""
    frame = pd.DataFrame(
        {
            "mode": each.mode,
            "contender": each.name,
            "lanes": each.lanes,
            "dtype": each.dtype,
            "seconds": each.median,
            "least": min(each.seconds),
            "most": max(each.seconds),
            "rows": each.rows,
            "processes": each.processes,
            "threads": each.threads,
        }
        for each in kept
    )
    for name, short in OURS.items():
        for lanes in LANES:
            is_it = (frame["contender"] == name) & (frame["lanes"] == lanes) & (frame["dtype"] == "float32")
            same = frame[is_it]
            own = frame["mode"].map(same.set_index("mode")["seconds"])
            frame[f"times_{short}_{lanes}"] = frame["seconds"] / own
    return frame


def show(frame: pd.DataFrame, console: Console) -> None:
    """Print the table."""
    against = {f"÷ {short} {k}": f"times_{short}_{k}" for short in OURS.values() for k in LANES}
    table = Table("mode", "contender", "lanes", "dtype", "s / lane epoch", *against)
    for row in frame.sort_values(["mode", "seconds"]).to_dict("records"):
        ratios = [f"{row[column]:.2f}" for column in against.values()]
        cells = (row["mode"], row["contender"], str(row["lanes"]), row["dtype"], f"{row['seconds']:.4f}")
        table.add_row(*cells, *ratios)
    console.print(table)


if __name__ == "__main__":
    main()
