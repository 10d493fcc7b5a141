"""Measure the cost of diagnostics: seconds for a lane's epoch without them, with them, and with histograms.

Training uses one core.

python -m benchmarks.diagnostics [--rounds 7] [--data mnist] [--data digits]
"""

from __future__ import annotations

import argparse
import statistics
import time

import pandas as pd
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.speed import RESULTS
from fnnexp.data import datasets as data
from fnnexp.nn.layer_stats import FULL, Level
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.training import DataArrays, Lane, Recipe, advance, start

MODES = {"full": Batching("full"), "mini": Batching("mini", 128, True), "sample": Batching("sample")}
LANES = (1, 12)
SEGMENT = 0.5  # seconds; a sweep uses segments of 5 s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", action="append", choices=["mnist", "digits"])
    arguments = parser.parse_args()
    rows = []
    for name in arguments.data or ["mnist", "digits"]:
        arrays = data.load(data.prepare(name))
        for mode in MODES:
            for lanes in LANES:
                with threadpool_limits(1, "blas"):
                    without, with_diagnostics, full = measure(mode, lanes, arrays, arguments.rounds)
                seconds = {
                    "without": without,
                    "with": with_diagnostics,
                    "full": full,
                    "overhead_percent": 100 * (with_diagnostics / without - 1),
                    "full_overhead_percent": 100 * (full / without - 1),
                }
                rows.append({"data": name, "mode": mode, "lanes": lanes, **seconds})
                Console().print(
                    f"{name} {mode} {lanes} lanes: {rows[-1]['overhead_percent']:+.1f}%, "
                    f"full {rows[-1]['full_overhead_percent']:+.1f}%"
                )
    RESULTS.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(RESULTS / "diagnostics.csv", index=False)


def measure(mode: str, lanes: int, arrays: DataArrays, rounds: int) -> tuple[float, float, float]:
    """Return the median seconds for a lane's epoch: without diagnostics, with them, and with histograms."""
    recipe = Recipe(Architecture(784, (100,), 10, "relu"), MODES[mode], "sgd", epochs=10_000)
    stack, _ = advance(recipe, start(recipe, lanes_of(lanes)), arrays, seconds=0)
    seconds: dict[Level, list[float]] = {False: [], True: [], FULL: []}
    for _ in range(rounds):
        for diagnostics in seconds:
            began = time.perf_counter()
            after, _ = advance(recipe, stack, arrays, SEGMENT, diagnostics=diagnostics)
            epochs = after.epoch - stack.epoch
            seconds[diagnostics].append((time.perf_counter() - began) / (lanes * epochs))
    without, with_diagnostics, full = map(statistics.median, seconds.values())
    return without, with_diagnostics, full


def lanes_of(count: int) -> list[Lane]:
    return [Lane(f"{k}", 0, (0.05, 0.14), (("lr", 0.01),)) for k in range(count)]


if __name__ == "__main__":
    main()
