"""Measure how near the suggestions of `fnnexp lr` are to the best rates of a grid, on MNIST.

python -m benchmarks.lr

Twelve combinations of an architecture and an initializer, with mini-batches. A grid of 13 learning rates from
0.001 to 10 is trained for three epochs with three seeds. The best rate has the best mean of the validation
accuracy, and a seed that diverged counts as 0. There are three range tests of one seed each, other seeds than
the grid's. `lr.csv` has a row for each combination and test; `ratio` is the suggested rate divided by the
best, and `points_lost` is how much lower the accuracy of the grid's rate next to the suggestion is. The rows
whose `rule` is `default` are about the optimizer's default rate instead.

The rule of the test, and the number and length of its epochs, were chosen on other architectures,
initializers and seeds, on the digits, and with other optimizers. docs/searching.md has the results there.

The same command goes on where it was stopped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import fnnexp

RESULTS = Path(__file__).parent / "results"
NETWORKS = {
    "arch": ["relu_100", "tanh_128", "sigmoid_32_32"],
    "init": ["max", "xavier", "he", "glorot_uniform"],
}
RATES = [float(f"{rate:.3g}") for rate in np.geomspace(1e-3, 10, 13)]
EPOCHS, SEEDS, OTHER_SEEDS = 3, range(3), range(100, 103)
DEFAULT = 0.1
"""The learning rate of `optimizer=sgd` for mini-batches."""

WITHIN = 3.0


def main() -> None:
    """Train the grid, run the range test, and write and print the table."""
    runs = fnnexp.sweep(
        epochs=EPOCHS, seed=SEEDS, **NETWORKS, **{"optimizer.lr": RATES, "tracking.experiment": "lr_grid"}
    )
    runs["accuracy"] = runs["val_accuracy"].mask(runs["status"] == "diverged", 0.0)
    assert runs["accuracy"].notna().all(), "not all trials have ended"
    grid = runs.pivot_table(index=["arch", "init"], columns="optimizer.lr", values="accuracy", observed=True)
    rules = {"default": dict.fromkeys(grid.index, DEFAULT)}
    for seed in OTHER_SEEDS:
        suggested = fnnexp.lr_range(seed=seed, **NETWORKS).to_frame().set_index(["arch", "init"])
        rules[f"range test, seed {seed}"] = suggested["suggested"].to_dict()
    rows = []
    for rule, rates in rules.items():
        for names, accuracies in grid.iterrows():
            rate, best = rates[names], accuracies.idxmax()
            near = min(accuracies.index, key=lambda other: abs(np.log(other / rate)))
            rows.append(
                {
                    "rule": rule, "arch": names[0], "init": names[1], "best": best, "rate": rate,
                    "ratio": rate / best, "points_lost": 100 * (accuracies[best] - accuracies[near]),
                }
            )  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "lr.csv", index=False, lineterminator="\n", float_format="%.4g")
    print(table.to_string(index=False, float_format="{:.3g}".format))
    within = table["ratio"].between(1 / WITHIN, WITHIN).groupby(table["rule"], sort=False)
    for rule, hits in within:
        print(f"{rule}: within {WITHIN:g} times the best in {hits.sum()} of {len(hits)} combinations")


if __name__ == "__main__":
    main()
