"""Estimate what a shared variance does to questions with few seeds, from real seeds.

python -m benchmarks.shared train    train 60 seeds of thirty configurations and write shared_seeds.csv
python -m benchmarks.shared          simulate thousands of experiments and write shared.csv

A question is which of some options is best, such as the initializers on one architecture. With at most five
seeds, its pairs share their variance (:func:`fnnexp.results.statistics.shared`). Each simulated experiment
draws seeds without replacement and tests all pairs of a question by Holm's procedure: with each pair's own
variance, and with the shared one.

- *wrong*: the mean over all seeds is subtracted from each option. The percentage of experiments in which any
  option is called better.
- *found*: the results as they are. The percentage of true differences of at least one point that are found.

`shared_seeds.csv` is a grid like the demo's: the number of correct predictions for the digits' validation
images. `races_seeds.csv` has 40 seeds of nine configurations on MNIST, `significance_seeds.csv` has 4,000 of
small networks on the digits, which sometimes learn only half.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from fnnexp.results import statistics

RESULTS = Path(__file__).parent / "results"
TRAINED, RACES, SMALL = (RESULTS / f"{name}_seeds.csv" for name in ("shared", "races", "significance"))
IMAGES = {TRAINED: 237, RACES: 10_000, SMALL: 300}
INITS = ("he", "he_normal", "glorot_uniform", "max", "sqrtmax")
LEARN = ["relu_16 he", "relu_16 sqrtmax", "relu_16 max", "tanh_16 he", "tanh_16 sqrtmax", "tanh_32 he"]
SEEDS, LEAST_DIFFERENCE, EXPERIMENTS = (3, 4, 5), 0.01, 2000


def train() -> None:
    """Train the thirty configurations with all seeds and write their numbers of correct predictions."""
    import fnnexp

    runs = fnnexp.sweep(
        "demo", "tracking.experiment=shared", init=INITS, batching=["full", "mini"], epochs=10, seed=range(60)
    )
    names = runs[["arch", "batching", "init"]].astype("str").agg(" ".join, axis=1)
    correct = (runs["val_accuracy"] * IMAGES[TRAINED]).round().astype(int)
    table = pd.DataFrame({"seed": runs["seed"], "name": names, "correct": correct})
    table.pivot_table(index="seed", columns="name", values="correct").astype(int).to_csv(
        TRAINED, index=False, lineterminator="\n"
    )


def questions() -> Iterator[tuple[str, np.ndarray]]:
    """Yield each question's name and accuracies (seeds, options)."""
    demo, races, small = (pd.read_csv(file) / images for file, images in IMAGES.items())
    for cell in dict.fromkeys(name.rpartition(" ")[0] for name in demo):
        yield f"digits, {cell}", demo[[f"{cell} {init}" for init in INITS]].to_numpy()
    yield "digits, all 30 configurations", demo.to_numpy()
    for arch in dict.fromkeys(name.partition(" ")[0] for name in races):
        yield f"MNIST, {arch} mini", races[[name for name in races if name.startswith(arch)]].to_numpy()
    yield "small networks, long tails", small[LEARN].to_numpy()


def verdicts(accuracy: np.ndarray, *, own: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean difference of each pair of options, and whether it is settled, in one experiment."""
    d = [accuracy[:, a] - accuracy[:, b] for a, b in combinations(range(accuracy.shape[1]), 2)]
    pool = None if own else statistics.shared(d, accuracy.shape[1])
    p = [statistics.paired_t_test(differences, pool) for differences in d]
    return np.mean(d, axis=1), np.array(statistics.holm(p)) <= 1 - statistics.LEVEL


def rows(name: str, accuracy: np.ndarray) -> Iterator[dict[str, object]]:
    """Yield the results of a question for each number of seeds and each variance, in percent."""
    mean = accuracy.mean(axis=0)
    true = np.array([mean[a] - mean[b] for a, b in combinations(range(len(mean)), 2)])
    large = np.abs(true) >= LEAST_DIFFERENCE
    experiments = EXPERIMENTS if len(mean) < 10 else EXPERIMENTS // 10
    for n in SEEDS:
        rng = np.random.default_rng(n)
        wrong, share = {True: 0, False: 0}, {True: 0.0, False: 0.0}
        for _ in range(experiments):
            drawn = accuracy[rng.choice(len(accuracy), n, replace=False)]
            for own in (True, False):
                wrong[own] += verdicts(drawn - mean, own=own)[1].any()
                d, settled = verdicts(drawn, own=own)
                share[own] += (settled & (np.sign(d) == np.sign(true)))[large].mean()
        for own in (True, False):
            yield {
                "question": name, "options": len(mean), "seeds": n, "variance": "own" if own else "shared",
                "wrong": 100 * wrong[own] / experiments, "found": 100 * share[own] / experiments,
            }  # fmt: skip


def main() -> None:
    if sys.argv[1:] == ["train"]:
        train()
        return
    results = []
    for name, accuracy in questions():
        results += rows(name, accuracy)
        print(pd.DataFrame(results[-2 * len(SEEDS) :]).to_string(header=False, index=False), flush=True)
    pd.DataFrame(results).round(2).to_csv(RESULTS / "shared.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
