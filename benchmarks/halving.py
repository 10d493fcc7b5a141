"""Measure how often `search=halving` finds the best configuration of a grid, and how many epochs it takes.

python -m benchmarks.halving train [BUDGET]    train the whole grid and write halving_curves.csv
python -m benchmarks.halving                   simulate searches and write halving.csv

The grid is the card grid with six learning rates each, on MNIST, for nine epochs, with five seeds. `train`
goes on where it was stopped; with a BUDGET such as 3m it stops by itself. `halving_curves.csv` has a row for
each trial that differs numerically, with the number of correct predictions for the 10,000 validation images
after each epoch; it is 0 after a trial has diverged.

Each seed is one repetition: the winner is the configuration with the best validation accuracy at the end of
the full grid of this seed. A search with the same seed sees the same curves. *Among the best three* means the
best three overall of the configurations that the search trained to the end; *in its mode* compares the winner
of each batching mode with the best three of this mode.

- *halving* takes its decisions with the product's own function, within each batching mode.
- *Optuna's pruners* get the trials one after another, in 20 random orders. They compare all batching modes
  with each other. Their figures are means over the orders.
- *random search* trains as many random configurations to the end as the epochs of halving pay for. Its
  figures are exact: the winner is found if it is drawn.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from fnnexp.sweeping.search.halving import rungs_of, survivors

RESULTS = Path(__file__).parent / "results"
CURVES = RESULTS / "halving_curves.csv"
RATES, SEEDS, EPOCHS, IMAGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), 5, 9, 10_000
ETA, MIN_EPOCHS, BEST, ORDERS = 3, 1, 3, 20
KEYS = ["arch", "init", "batching", "optimizer.lr"]


def train(budget: str | None) -> None:
    """Train the grid with all seeds, and write the curves when all trials have ended."""
    import fnnexp

    runs = fnnexp.sweep(
        "card_grid",
        "tracking.experiment=halving",
        epochs=EPOCHS,
        seed=range(SEEDS),
        budget=budget,
        **{"optimizer.lr": RATES, "execution.n_jobs": 1, "execution.engine": "numba"},
    )
    if len(runs) < 36 * len(RATES) * SEEDS or not runs["status"].isin(["finished", "diverged"]).all():
        print("not all trials have ended; the same command goes on")
        return
    runs = runs[runs["identical_to"].isna()].set_index("trial")
    curves = fnnexp.curves("halving", metrics="val_accuracy")
    correct = (curves.assign(trial=curves["trial"].astype("str")).pivot_table(
        index="trial", columns="epoch", values="value", observed=True
    ) * IMAGES).reindex(index=runs.index, columns=range(1, EPOCHS + 1))  # fmt: skip
    after = np.arange(1, EPOCHS + 1) >= runs["diverged_epoch"].astype("float64").to_numpy()[:, None]
    table = correct.mask(after, 0).round().astype("int64")
    table = pd.concat([runs[[*KEYS, "seed"]], table], axis=1).sort_values([*KEYS, "seed"])
    table.to_csv(CURVES, index=False, lineterminator="\n")


class Search(NamedTuple):
    """What a search did: the configurations that it trained to the end, and the epochs that it took."""

    ended: Sequence[int]
    epochs: float


class Grid(NamedTuple):
    """The curves of one seed, (configurations, epochs), and the mode and name of each configuration."""

    accuracy: np.ndarray
    modes: Sequence[str]
    names: Sequence[str]

    def best(self, places: Sequence[int], count: int = 1) -> list[int]:
        """Return the best of some configurations at the end, and those as good as the last of them."""
        final = self.accuracy[list(places), -1]
        least = np.sort(final)[::-1][min(count, len(final)) - 1] if len(final) else math.inf
        return [place for place in places if self.accuracy[place, -1] >= least]


def halve(grid: Grid) -> Search:
    """Return what halving does with a grid."""
    left, since, epochs = list(range(len(grid.modes))), 0, 0
    for rung in rungs_of(EPOCHS, ETA, MIN_EPOCHS):
        epochs, since = epochs + len(left) * (rung - since), rung
        modes, names = ([each[i] for i in left] for each in (grid.modes, grid.names))
        kept = survivors(modes, grid.accuracy[left, rung - 1].tolist(), names, ETA)
        left = [left[i] for i in kept]
    return Search(left, epochs + len(left) * (EPOCHS - since))


def prune(grid: Grid, pruner: Callable[[], object], rng: np.random.Generator) -> Search:
    """Return what one of Optuna's pruners does with a grid whose trials come in a random order."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, ended, epochs = optuna.create_study(direction="maximize", pruner=pruner()), [], 0
    for place in rng.permutation(len(grid.modes)).tolist():
        trial, state = study.ask(), optuna.trial.TrialState.COMPLETE
        for epoch, value in enumerate(grid.accuracy[place].tolist(), 1):
            epochs += 1
            trial.report(value, epoch)
            if epoch < EPOCHS and trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        complete = state == optuna.trial.TrialState.COMPLETE
        study.tell(trial, value if complete else None, state=state)
        ended += [place] * complete
    return Search(ended, epochs)


def of_optuna() -> dict[str, Callable[[], object]]:
    """Return Optuna's pruners by name; none if Optuna is not installed."""
    try:
        from optuna import pruners
    except ImportError:
        return {}
    return {
        "Optuna's SuccessiveHalvingPruner": lambda: pruners.SuccessiveHalvingPruner(
            min_resource=MIN_EPOCHS, reduction_factor=ETA
        ),
        "Optuna's HyperbandPruner": lambda: pruners.HyperbandPruner(
            min_resource=MIN_EPOCHS, max_resource=EPOCHS, reduction_factor=ETA
        ),
    }


def judged(grid: Grid, search: Search) -> dict[str, float]:
    """Return how a search of a grid did, as shares from 0 to 1, and its regret in points."""
    everything = range(len(grid.modes))
    chosen = set(grid.best(search.ended, BEST))
    in_modes = []
    for mode in dict.fromkeys(grid.modes):
        winners = grid.best([place for place in everything if grid.modes[place] == mode])
        best = grid.best([place for place in search.ended if grid.modes[place] == mode], BEST)
        in_modes.append(bool({*winners} & {*best}))
    final = grid.accuracy[:, -1]
    return {
        "winner_among_best_three": bool({*grid.best(everything)} & chosen),
        "winner_in_its_mode": np.mean(in_modes),
        "share_of_epochs": search.epochs / grid.accuracy.size,
        "regret": 100 * (final.max() - final[list(search.ended)].max()),
    }


def at_random(grid: Grid, epochs: float) -> dict[str, float]:
    """Return the exact expectation for random configurations trained to the end, with these epochs."""
    count, size = int(epochs // EPOCHS), len(grid.modes)
    final = np.sort(grid.accuracy[:, -1])
    # The probability that the best of `count` draws without replacement is the i-th smallest.
    chance = np.array([math.comb(i, count - 1) / math.comb(size, count) for i in range(size)])
    in_mode = [
        1 - math.comb(size - ties, count) / math.comb(size, count)
        for mode in dict.fromkeys(grid.modes)
        for ties in [len(grid.best([place for place in range(size) if grid.modes[place] == mode]))]
    ]
    ties = len(grid.best(range(size)))
    return {
        "winner_among_best_three": 1 - math.comb(size - ties, count) / math.comb(size, count),
        "winner_in_its_mode": np.mean(in_mode),
        "share_of_epochs": count * EPOCHS / grid.accuracy.size,
        "regret": 100 * float(final.max() - chance @ final),
    }


def grids(table: pd.DataFrame) -> Iterator[Grid]:
    """Yield the grid of each seed."""
    epochs = [str(epoch) for epoch in range(1, EPOCHS + 1)]
    for _, rows in table.groupby("seed"):
        names = rows[KEYS].astype("str").agg(" ".join, axis=1)
        yield Grid(rows[epochs].to_numpy() / IMAGES, rows["batching"].tolist(), names.tolist())


def main() -> None:
    """Train or simulate, depending on the command line."""
    if sys.argv[1:2] == ["train"]:
        train(sys.argv[2] if len(sys.argv) > 2 else None)
        return
    measured: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number, grid in enumerate(grids(pd.read_csv(CURVES))):
        halved = halve(grid)
        measured["search=halving"].append(judged(grid, halved))
        for name, pruner in of_optuna().items():
            rng = np.random.default_rng(number)
            orders = pd.DataFrame([judged(grid, prune(grid, pruner, rng)) for _ in range(ORDERS)])
            measured[name].append(orders.mean().to_dict())
        measured["random search, same epochs"].append(at_random(grid, halved.epochs))
    rows = [{"search": name, "repetitions": len(each)} | pd.DataFrame(each).mean().to_dict()
            for name, each in measured.items()]  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "halving.csv", index=False, lineterminator="\n")
    shown = Table(*table.columns)
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    Console(width=160).print(shown)


if __name__ == "__main__":
    main()
