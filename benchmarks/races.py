"""Estimate how many seeds `until=settled` needs, and how often it is wrong, from real seeds.

python -m benchmarks.races train    train 40 seeds of nine configurations and write races_seeds.csv
python -m benchmarks.races          simulate thousands of sweeps and write races.csv

The nine are the card grid's mini-batches, trained for 3 epochs. `races_seeds.csv` has a row for each seed
and a column for each configuration: the number of correct predictions for MNIST's 10,000 validation images.
`significance_seeds.csv` has 4,000 seeds of small networks on the digits. A simulated sweep draws seeds
without replacement and settles its questions with them, round by round.

- *as it is*: the results as they are. A verdict is wrong if the worse option is called better, or if options
  are called equivalent that differ by the margin or more.
- *no difference*: the mean over all seeds is subtracted from each option. Every `better` is wrong.
- *at the margin*: the means of the options differ by exactly the margin. Every `equivalent` is wrong.
- *mixed*: each option's mean is 0, the margin, or three times the margin, at random.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from fnnexp.results import race as races
from fnnexp.sweeping.search.settled import FIRST_SEEDS

RESULTS = Path(__file__).parent / "results"
TRAINED, SMALL = RESULTS / "races_seeds.csv", RESULTS / "significance_seeds.csv"
SEEDS, IMAGES, SMALL_IMAGES, CLASSES = 40, 10_000, 300, 10
SWEEPS = 1000
MOST_SEEDS = 30
FAILING = "relu_32_3 he_normal"


def train() -> None:
    """Train the nine configurations with all seeds and write their numbers of correct predictions."""
    import fnnexp

    runs = fnnexp.sweep(
        "card_grid",
        "tracking.experiment=races",
        batching="mini",
        epochs=3,
        init=["max", "sqrtmax", "he"],
        seed=range(SEEDS),
    )
    names = runs["arch"].astype("str") + " " + runs["init"].astype("str")
    correct = (runs["val_accuracy"] * IMAGES).round().astype(int)
    table = pd.DataFrame({"seed": runs["seed"], "name": names, "correct": correct})
    table.pivot_table(index="seed", columns="name", values="correct").to_csv(
        TRAINED, index=False, lineterminator="\n"
    )


def settle(accuracy: np.ndarray, failed: np.ndarray, options: list[dict[str, str]], limit: float) -> tuple:
    """Settle the questions about the options' initializers; return the race and the seeds of each option."""
    race = races.Race(races.questions_of(options, ["init"]), limit, accuracy.shape[1])
    results = np.full(accuracy.shape, np.nan)
    used, more = 0, FIRST_SEEDS
    rows = list(range(len(accuracy)))
    while rows and used < accuracy.shape[1]:
        new = slice(used, min(used + more, accuracy.shape[1]))
        results[rows, new] = accuracy[rows, new]
        used = new.stop
        race.look(races.Results(options, results[:, :used], failed[:, :used]))
        rows, more = race.rows, races.more_seeds(used)
    return race, np.isfinite(results).sum(axis=1)


def is_wrong(question: races.Question, mean: np.ndarray, limit: float) -> bool:
    """Return whether a verdict is wrong, given the true mean of each option."""
    a, b = (mean[row] for row in question.rows)
    if question.verdict == races.BETTER:
        return bool(a - b <= 1e-9)
    return question.verdict == races.EQUIVALENT and bool(abs(a - b) >= limit - 1e-9)


def centred(accuracy: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return the accuracies of all seeds, moved so that each option has this mean."""
    return accuracy - accuracy.mean(axis=1, keepdims=True) + means[:, None]


def scenarios(
    accuracy: np.ndarray, options: list[dict[str, str]], margin: float
) -> dict[str, Callable[[np.random.Generator], np.ndarray]]:
    """Return the true means of the options in each scenario, drawn for each simulated sweep."""
    place = {option: i for i, option in enumerate(dict.fromkeys(each["init"] for each in options))}
    order = np.array([place[each["init"]] for each in options])
    return {
        "as it is": lambda rng: accuracy.mean(axis=1),
        "no difference": lambda rng: np.zeros(len(options)),
        "at the margin": lambda rng: order * margin,
        "mixed": lambda rng: rng.choice([0.0, margin, 3 * margin], len(options)),
    }


def simulate(about: str, accuracy: pd.DataFrame, classes: int, margin: float) -> list[dict[str, object]]:
    """Return a row for each scenario."""
    options = [dict(zip(("arch", "init"), name.split(), strict=True)) for name in accuracy.columns]
    values, rows = accuracy.to_numpy().T, []
    failed = values < 2 / classes
    for name, draw_means in scenarios(values, options, margin).items():
        rng, outcomes = np.random.default_rng(len(rows)), []
        for _ in range(SWEEPS):
            means = draw_means(rng)
            drawn = rng.choice(values.shape[1], MOST_SEEDS, replace=False)
            race, seeds = settle(centred(values, means)[:, drawn], failed[:, drawn], options, margin)
            outcomes.append({
                "wrong": any(is_wrong(question, means, margin) for question in race.questions),
                "settled": np.mean([question.is_settled for question in race.questions]),
                "all_settled": all(question.is_settled for question in race.questions),
                "seeds_per_option": seeds.mean(),
                "rounds": race.rounds,
            })  # fmt: skip
        count = len(race.questions)
        rows.append({"trials": about, "scenario": name, "margin": margin, "questions": count}
                    | pd.DataFrame(outcomes).mean().to_dict())  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Train or simulate, depending on the command line."""
    if sys.argv[1:2] == ["train"]:
        train()
        return
    mnist, digits = pd.read_csv(TRAINED) / IMAGES, pd.read_csv(SMALL) / SMALL_IMAGES
    learn = digits.drop(columns=[FAILING, *(name for name in digits if name.startswith("relu_8_8"))])
    rows = simulate("card grid, mini-batches, 3 epochs (40 seeds)", mnist, CLASSES, 0.002)
    rows += simulate("small networks on digits (4,000 seeds)", learn, CLASSES, 0.02)
    rows += simulate("the same, with networks that fail in 4 to 9% of the seeds", digits, CLASSES, 0.02)
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "races.csv", index=False, lineterminator="\n")
    shown = Table(*table.columns)
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    Console(width=160).print(shown)


if __name__ == "__main__":
    main()
