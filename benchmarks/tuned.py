"""Estimate how often a tuned comparison is wrong, and how often it finds a difference, from real results.

python -m benchmarks.tuned train    train small networks on the digits and write tuned_seeds.csv
python -m benchmarks.tuned          simulate thousands of tuned comparisons and write tuned.csv

`tuned_seeds.csv` has a row for each of 100 seeds and a column for each of two initializers with each of 24
learning rates: the number of correct predictions for the 237 validation images. A simulated comparison draws
12 of the learning rates, and for each option its own seeds: two that tune, and fresh ones from the others,
with replacement. fnnexp's own code chooses and compares.

- *the same networks*: all options are the same initializer, each with its own seeds.
- *other best values*: the second option has the results of the first at the learning rates in reverse order,
  so both are equally good at their best values, which differ.
- *3 points worse*: as the first, and the results of the second option are lower by 3 points.

Where options are equally good, every `better` is false. Beside the comparison as it is (`found`), the table
has the one without the check against the other option's next best values (`unchecked`), and the naive one
(`naive`): each option at the values that are best on the very seeds that are compared.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from fnnexp.config.grids.tuned import DRAWS, TUNING_SEEDS, Tuned
from fnnexp.reporting import tuned
from fnnexp.results.ranking import Ranking

RESULTS = Path(__file__).parent / "results"
TRAINED = RESULTS / "tuned_seeds.csv"
SEEDS, IMAGES = 100, 237
RATES = [float(f"{rate:.3g}") for rate in np.geomspace(0.003, 3, 24)]
INITS = ("he_normal", "max")
COMPARISONS = 500
RANKING = Ranking("val_accuracy", 0.2)


class Scenario(NamedTuple):
    """What is simulated: the accuracies (draws, seeds) of each option, given those of both initializers."""

    about: str
    options: int
    fresh: int
    of_option: Callable[[np.ndarray, int], np.ndarray]


def same(accuracy: np.ndarray, option: int) -> np.ndarray:
    """Return the same results for every option."""
    return accuracy


def reversed_values(accuracy: np.ndarray, option: int) -> np.ndarray:
    """Return the results at the values in reverse order for every second option."""
    return accuracy[::-1] if option % 2 else accuracy


def three_points_worse(accuracy: np.ndarray, option: int) -> np.ndarray:
    """Return results that are worse by 3 points for every option but the first."""
    return accuracy - 0.03 * (option > 0)


SCENARIOS = [
    Scenario("the same networks", 2, 6, same),
    Scenario("the same networks", 2, 20, same),
    Scenario("the same networks", 5, 6, same),
    Scenario("other best values", 2, 6, reversed_values),
    Scenario("other best values", 2, 20, reversed_values),
    Scenario("3 points worse", 2, 6, three_points_worse),
    Scenario("3 points worse", 2, 20, three_points_worse),
]


def train() -> None:
    """Train both initializers with all learning rates and seeds; write their numbers of right answers."""
    import fnnexp

    runs = fnnexp.sweep(
        data="digits",
        epochs=3,
        init=INITS,
        seed=range(SEEDS),
        **{"arch.hidden": [[16]], "optimizer.lr": RATES, "tracking.experiment": "tuned"},
    )
    names = runs["init"].astype("str") + " " + runs["optimizer.lr"].map("{:g}".format)
    correct = (runs["val_accuracy"] * IMAGES).round().where(runs["status"] == "finished")
    table = pd.DataFrame({"seed": runs["seed"], "name": names, "correct": correct.astype("Int64")})
    columns = [f"{init} {rate:g}" for init in INITS for rate in RATES]
    table.pivot_table(index="seed", columns="name", values="correct", aggfunc="first")[columns].to_csv(
        TRAINED, index=False, lineterminator="\n"
    )


def comparison_of(values: Sequence[np.ndarray], tuning: int) -> tuned.Comparison:
    """Return the comparison of options, given their results (draws, seeds): the first seeds tune."""
    levels, places, results = [], [], []
    for number, of_option in enumerate(values):
        means = of_option[:, :tuning].mean(axis=1)
        draws = pd.DataFrame({"optimizer.lr": np.arange(len(means)), "mean": means})
        level = tuned.Level(f"option {number}", draws, int(means.argmax()))
        levels.append(level)
        for draw in level.contenders(RANKING):
            places += [(number, draw, seed) for seed in range(of_option.shape[1] - tuning)]
            results.append(of_option[draw, tuning:])
    rows = pd.DataFrame(places, columns=["level", "draw", "seed"])
    rows = rows.assign(
        val_accuracy=np.concatenate(results),
        status="finished",
        trial=rows.index.astype("str"),
        identical_to=pd.Series(pd.NA, rows.index, dtype="str"),
    )
    return tuned.Comparison(Tuned(("init",), ("optimizer.lr",)), RANKING, levels, rows)


def simulate(accuracy: np.ndarray, scenario: Scenario, rng: np.random.Generator) -> dict[str, bool]:
    """Simulate one comparison; return whether any option was called better than another, in each way."""
    drawn = rng.choice(len(accuracy), DRAWS, replace=False)
    tuning, fresh = len(TUNING_SEEDS), scenario.fresh
    values, naive = [], []
    for option in range(scenario.options):
        seeds = rng.permutation(accuracy.shape[1])
        seeds = np.append(seeds[:tuning], rng.choice(seeds[tuning:], fresh))
        results = scenario.of_option(accuracy[drawn], option)[:, seeds]
        values.append(results)
        naive.append(np.hstack([results[:, tuning:], results[:, tuning:]]))  # the same seeds for both
    pairs = tuned.pairs(comparison_of(values, tuning))
    on_the_same = tuned.pairs(comparison_of(naive, fresh))
    return {
        "found": (pairs["verdict"] == "better").any(),
        "unchecked": ((pairs["verdict"] == "better") | (pairs["check"] != "")).any(),
        "naive": ((on_the_same["verdict"] == "better") | (on_the_same["check"] != "")).any(),
    }


def main() -> None:
    """Train or simulate, depending on the command line."""
    if sys.argv[1:2] == ["train"]:
        train()
        return
    recorded = pd.read_csv(TRAINED)
    rows = []
    for i, init in enumerate(INITS):
        columns = [name for name in recorded if name.startswith(f"{init} ")]
        accuracy = recorded[columns].fillna(0).to_numpy(np.float64).T / IMAGES  # a diverged network is worst
        for j, scenario in enumerate(SCENARIOS):
            rng = np.random.default_rng([i, j])
            simulated = pd.DataFrame([simulate(accuracy, scenario, rng) for _ in range(COMPARISONS)])
            rows.append({
                "init": init, "scenario": scenario.about, "options": scenario.options,
                "fresh_seeds": scenario.fresh, **simulated.mean().to_dict(),
            })  # fmt: skip
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "tuned.csv", index=False, lineterminator="\n")
    shown = Table(*table.columns)
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    Console(width=120).print(shown)


if __name__ == "__main__":
    main()
