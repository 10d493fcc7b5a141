"""Measure what each piece adds to a step: the time of an epoch relative to that of plain steps, on one core.

python -m benchmarks.pieces [--rounds 8] [--rows 12000]

The network is 784-128-10 on MNIST, with batches of 128. Rounds alternate between a piece and plain
steps, and the least CPU time of each counts, because other programs can only add to it. Only these two are in
memory, because a worker trains one stack at a time: beside the arrays of twenty others, Adam takes 5% longer.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import pandas as pd
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.contenders import CONTENDERS, Setting
from benchmarks.speed import FNNEXP, RESULTS
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.schedules import Schedule

LANES = (1, 12)
OPTIMIZERS_LIMIT, OTHERS_LIMIT = 1.35, 1.25
PLAIN = Setting((784, 128, 10), "relu", batch=128, lr=0.1)
ADAM = (("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8))
OPTIMIZERS = {
    "momentum": (("momentum", 0.9),),
    "nesterov": (("momentum", 0.9),),
    "adagrad": (("epsilon", 1e-10),),
    "rmsprop": (("rho", 0.9), ("epsilon", 1e-7)),
    "adam": ADAM,
    "adamw": (*ADAM, ("weight_decay", 0.01)),
}
OTHERS = {
    "dropout": replace(PLAIN, dropout=0.2),
    "l2": replace(PLAIN, options=(("l2", 1e-4),)),
    "l1": replace(PLAIN, options=(("l1", 1e-5),)),
    "cosine schedule": replace(PLAIN, schedule=Schedule("cosine", (("end", 0.0),))),
    **{name: replace(PLAIN, activation=name) for name in ACTIVATIONS if name != PLAIN.activation},
}


def settings() -> dict[str, tuple[Setting, float]]:
    """Return each piece's setting, and the most time that it may take relative to plain steps."""
    optimizers = {
        name: (replace(PLAIN, optimizer=name, lr=0.001, hyper=hyper), OPTIMIZERS_LIMIT)
        for name, hyper in OPTIMIZERS.items()
    }
    others = {name: (setting, OTHERS_LIMIT) for name, setting in OTHERS.items()}
    return {"plain steps": (PLAIN, 1.0), **optimizers, **others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rows", type=int, default=12_000)
    arguments = parser.parse_args()
    rows = []
    for engine in FNNEXP:
        for lanes in LANES:
            with threadpool_limits(1, "blas"):
                rows += measure(engine, lanes, arguments.rounds, arguments.rows)
    frame = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    frame.to_csv(RESULTS / "pieces.csv", index=False)
    show(frame)


def measure(engine: str, lanes: int, rounds: int, rows: int) -> list[dict[str, object]]:
    """Return a row for each piece, with the microseconds for a step of one lane."""
    steps = lanes * -(-rows // 128)
    measured = []
    for name, (setting, target) in settings().items():
        trains = [CONTENDERS[engine](each, lanes, "float32", rows, 1) for each in (PLAIN, setting)]
        least = [float("inf")] * 2
        for i in range(rounds + 1):  # the first round compiles, and warms up the caches
            for which, train in enumerate(trains):
                began = time.process_time()
                train()
                if i:
                    least[which] = min(least[which], time.process_time() - began)
        plain, piece = least
        measured.append({
            "engine": engine,
            "lanes": lanes,
            "piece": name,
            "microseconds": 1e6 * piece / steps,
            "ratio": piece / plain,
            "target": target,
        })  # fmt: skip
    return measured


def show(frame: pd.DataFrame) -> None:
    """Print the ratios as a table, with a column for each engine and number of lanes."""
    columns = list(frame.groupby(["engine", "lanes"], sort=False))
    table = Table("piece", "target", *(f"{engine}, {lanes}" for (engine, lanes), _ in columns))
    for name, (_, target) in settings().items():
        ratios = [part.set_index("piece")["ratio"][name] for _, part in columns]
        cells = [f"{ratio:.2f}" + (" above" if round(ratio, 2) > target else "") for ratio in ratios]
        table.add_row(name, f"{target:.2f}", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
