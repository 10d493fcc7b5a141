"""What ``diagnostics=true`` costs: seconds for a lane's epoch without and with it, in turns, on one core.

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
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.training import DataArrays, Lane, Recipe, advance, start

MODES = {"full": Batching("full"), "mini": Batching("mini", 128, True), "sample": Batching("sample")}
LANES = (1, 12)
SEGMENT = 0.5  # seconds; a sweep's have five


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", action="append", choices=["mnist", "digits"])
    given = parser.parse_args()
    rows = []
    for name in given.data or ["mnist", "digits"]:
        arrays = data.load(data.prepare(name))
        for mode in MODES:
            for lanes in LANES:
                with threadpool_limits(1, "blas"):
                    without, asked = measured(mode, lanes, arrays, given.rounds)
                seconds = {"without": without, "with": asked, "overhead_percent": 100 * (asked / without - 1)}
                rows.append({"data": name, "mode": mode, "lanes": lanes, **seconds})
                Console().print(f"{name} {mode} {lanes} lanes: {rows[-1]['overhead_percent']:+.1f}%")
    RESULTS.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(RESULTS / "diagnostics.csv", index=False)


def measured(mode: str, lanes: int, arrays: DataArrays, rounds: int) -> tuple[float, float]:
    """Return the median seconds of a lane's epoch and evaluation, without and with them, in a segment."""
    recipe = Recipe(Architecture(784, (100,), 10, "relu"), MODES[mode], "sgd", epochs=10_000)
    stack, _ = advance(recipe, start(recipe, lanes_of(lanes)), arrays, seconds=0)
    spent: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for asked in spent:
            began = time.perf_counter()
            end, _ = advance(recipe, stack, arrays, SEGMENT, diagnostics=asked)
            epochs = end.epoch - stack.epoch
            spent[asked].append((time.perf_counter() - began) / (lanes * epochs))
    return statistics.median(spent[False]), statistics.median(spent[True])


def lanes_of(count: int) -> list[Lane]:
    return [Lane(f"{k}", 0, (0.05, 0.14), (("lr", 0.01),)) for k in range(count)]


if __name__ == "__main__":
    main()
