"""How often the tests of pairs err, and how much they see, on thousands of real seeds of small networks.

python -m benchmarks.significance train [SEEDS]    trains them on digits, and writes results/seeds.csv
python -m benchmarks.significance                  simulates, and writes results/significance.csv and .png

Each row of `seeds.csv` is a seed, each column an option: how many of the 300 validation images it has right.
The differences of two options over all seeds, less their mean, are those of two options that are equally good,
with the shape that real ones have. A simulated experiment draws n of the seeds and tests them. The share of
experiments that find a difference is the test's level; with a shift of so many standard deviations, its power.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from fnnexp.results import statistics

RESULTS = Path(__file__).parent / "results"
IMAGES, CLASSES, LANES = 300, 10, 48
OPTIONS = {
    "relu_16 he": ("relu", (16,), "he", 0.1),
    "relu_16 sqrtmax": ("relu", (16,), "sqrtmax", 0.1),
    "relu_16 max": ("relu", (16,), "max", 0.1),
    "relu_16 he_normal": ("relu", (16,), "he_normal", 0.1),
    "relu_8_8 he_normal": ("relu", (8, 8), "he_normal", 0.1),
    "relu_8_8 he slow": ("relu", (8, 8), "he", 0.05),
    "tanh_16 he": ("tanh", (16,), "he", 0.1),
    "tanh_16 sqrtmax": ("tanh", (16,), "sqrtmax", 0.1),
}
"""Activation, hidden units, initializer, learning rate. Those of two hidden layers fail in a tenth of seeds."""

PAIRS = [
    ("relu_16 he", "relu_16 max"),
    ("relu_16 he", "relu_16 sqrtmax"),
    ("relu_16 sqrtmax", "relu_16 he_normal"),
    ("tanh_16 he", "tanh_16 sqrtmax"),
    ("relu_16 sqrtmax", "tanh_16 sqrtmax"),
    ("relu_16 sqrtmax", "relu_8_8 he_normal"),
    ("relu_8_8 he slow", "relu_8_8 he_normal"),
]
SEEDS = (2, 3, 5, 6, 10, 20)
EFFECTS = (0.0, 0.5, 1.0, 2.0)
EXPERIMENTS = 4000


def train(seeds: int) -> pd.DataFrame:
    """Return how many validation images each option has right after five epochs, a row a seed."""
    from fnnexp.data.datasets import load, prepare
    from fnnexp.nn.network import Architecture
    from fnnexp.nn.pieces.batching import Batching
    from fnnexp.nn.pieces.initializers import standard_deviation
    from fnnexp.nn.training import Lane, Recipe, Stack, advance

    arrays, right = load(prepare("digits")), {}
    for name, (activation, hidden, init, lr) in OPTIONS.items():
        architecture = Architecture(784, hidden, CLASSES, activation)
        recipe = Recipe(architecture, Batching("mini", 32, shuffle=True), "sgd", 5, validation=IMAGES)
        stds = tuple(standard_deviation(init, *shape) for shape in pairwise((784, *hidden, CLASSES)))
        last: dict[int, float] = {}
        for first in range(0, seeds, LANES):
            some = range(first, min(first + LANES, seeds))
            lanes = [Lane(str(seed), seed, stds, (("lr", lr),)) for seed in some]
            _, records = advance(recipe, Stack.not_begun(lanes), arrays)
            last |= {int(record.key): record.metrics["val_accuracy"] for record in records}
        right[name] = np.rint([last[seed] * IMAGES for seed in range(seeds)]).astype(int)
        print(f"{name}: {right[name].mean() / IMAGES:.4f}", flush=True)
    return pd.DataFrame(right).rename_axis("seed")


def t_tests(d: np.ndarray) -> np.ndarray:
    """Return the p value of Student's paired t for each row (experiments, seeds)."""
    return np.array([statistics.paired_t_test(each) for each in d])


def sign_flips(d: np.ndarray) -> np.ndarray:
    """Return the p value of the sign-flip test for each row."""
    return np.array([statistics.sign_flip_test(each) for each in d])


def simulate(seeds: pd.DataFrame) -> pd.DataFrame:
    """Return the share of experiments that find a difference: by the rule, by t, and by sign flips alone."""
    accuracy, rows = seeds / IMAGES, []
    for a, b in PAIRS:
        x, y = accuracy[a].to_numpy(), accuracy[b].to_numpy()
        centred = (x - y) - (x - y).mean()
        failed = np.stack([x, y]) < 2 / CLASSES
        for n in SEEDS:
            rng = np.random.default_rng(n)
            drawn = np.array([rng.choice(len(x), n, replace=False) for _ in range(EXPERIMENTS)])
            some = failed[:, drawn]
            mixed = (some.any(axis=2) & ~some.all(axis=2)).any(axis=0)
            for effect in EFFECTS:
                d = centred[drawn] + effect * centred.std()
                by_t, by_signs = (p <= 1 - statistics.LEVEL for p in (t_tests(d), sign_flips(d)))
                found = {"rule": np.where(mixed, by_signs, by_t), "t": by_t, "sign flip": by_signs}
                shares = {test: each.mean() for test, each in found.items()}
                failing = failed.any(axis=0).mean()
                rows.append({"a": a, "b": b, "failed": failing, "seeds": n, "effect": effect, **shares})
        print(f"{a}, {b}", flush=True)
    return pd.DataFrame(rows).round(4)


def main() -> None:
    if sys.argv[1:2] == ["train"]:
        train(int((*sys.argv[2:], 3000)[0])).to_csv(RESULTS / "seeds.csv")
        return
    table = simulate(pd.read_csv(RESULTS / "seeds.csv", index_col="seed"))
    table.to_csv(RESULTS / "significance.csv", index=False)


if __name__ == "__main__":
    main()
