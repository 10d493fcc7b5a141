"""Estimate level and power of the tests for pairs of options, from thousands of trained small networks.

python -m benchmarks.significance train [SEEDS]    train and write significance_seeds.csv
python -m benchmarks.significance                  simulate and write significance.csv and significance.png

Each row of `significance_seeds.csv` is a seed, and each column an option. The values are the numbers of
correct predictions for 300 validation images of the digits. The simulation subtracts the mean over all seeds
from each option. Then all options are equally good on average, and the distribution of their differences is
realistic. A simulated experiment draws seeds without replacement and tests the options. The level of a test
is the share of experiments in which it finds a difference. Its power is this share after a difference of some
standard deviations is added.
"""

from __future__ import annotations

import sys
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from fnnexp.results import statistics

RESULTS = Path(__file__).parent / "results"
TRAINED = RESULTS / "significance_seeds.csv"
IMAGES, CLASSES, LANES = 300, 10, 48
OPTIONS = {
    "relu_16 he": ("relu", (16,), "he", 0.1, 5),
    "relu_16 sqrtmax": ("relu", (16,), "sqrtmax", 0.1, 5),
    "relu_16 max": ("relu", (16,), "max", 0.1, 5),
    "relu_16 he_normal": ("relu", (16,), "he_normal", 0.1, 5),
    "tanh_16 he": ("tanh", (16,), "he", 0.1, 5),
    "tanh_16 sqrtmax": ("tanh", (16,), "sqrtmax", 0.1, 5),
    "tanh_32 he": ("tanh", (32,), "he", 0.1, 15),
    "tanh_32 sqrtmax": ("tanh", (32,), "sqrtmax", 0.1, 15),
    "relu_8_8 he_normal": ("relu", (8, 8), "he_normal", 0.1, 5),
    "relu_8_8 he": ("relu", (8, 8), "he", 0.05, 5),
    "relu_32_3 he_normal": ("relu", (32, 3), "he_normal", 0.05, 25),
}
"""Activation, hidden units, initializer, learning rate and epochs of each option.

The networks with two hidden layers fail in 4 to 9% of the seeds: all units of a small ReLU layer may be 0 for
every image, and then the network never learns ("dying ReLU", Lu et al. 2020).
"""

FAILING = "relu_32_3 he_normal"
COLLAPSING = "tanh_16 he, collapsing"
"""`tanh_16 he`, but with the accuracy of :data:`FAILING` in the seeds in which that option failed."""

PAIRS = [
    ("tanh_32 he", "tanh_32 sqrtmax"),
    ("relu_16 he", "relu_16 max"),
    ("relu_16 he", "relu_16 sqrtmax"),
    ("relu_16 sqrtmax", "relu_16 he_normal"),
    ("tanh_16 he", "tanh_16 sqrtmax"),
    ("relu_16 sqrtmax", "tanh_16 sqrtmax"),
    ("relu_16 he", "relu_16 he"),
    ("relu_8_8 he_normal", "relu_8_8 he_normal"),
    (FAILING, FAILING),
    (COLLAPSING, COLLAPSING),
    ("relu_8_8 he", "relu_8_8 he_normal"),
    ("relu_16 sqrtmax", FAILING),
    ("tanh_16 sqrtmax", FAILING),
    ("tanh_16 sqrtmax", COLLAPSING),
]
"""The compared options. If both are the same, the option is compared with itself in other seeds."""

QUESTIONS = [
    ("relu_16 he", "relu_16 sqrtmax", "relu_16 max"),
    ("relu_16 he", "tanh_16 he", "relu_16 sqrtmax"),
    (FAILING, FAILING, FAILING),
    ("tanh_16 sqrtmax", "relu_16 he", FAILING),
    ("tanh_16 sqrtmax", "relu_16 he", COLLAPSING),
    (FAILING,) * 12,
    ("relu_8_8 he_normal",) * 12,
]
SEEDS = (3, 5, 6, 10, 20)
EFFECTS = (0.0, 0.5, 1.0, 2.0)
MARGINS = (0.5, 1.0, 2.0)
LOOKS, TAU = np.arange(3, 41), statistics.PRIOR
EXPERIMENTS, OF_MANY = 5000, 1000
ERRORS = 1 - statistics.LEVEL


def train(seeds: int) -> None:
    """Train all options; write the number of correct predictions for each seed and option to `TRAINED`."""
    from fnnexp.data.datasets import load, prepare
    from fnnexp.nn.network import Architecture
    from fnnexp.nn.pieces.batching import Batching
    from fnnexp.nn.pieces.initializers import standard_deviation
    from fnnexp.nn.training import Lane, Recipe, Stack, advance

    arrays, correct = load(prepare("digits")), {}
    for name, (activation, hidden, init, lr, epochs) in OPTIONS.items():
        architecture = Architecture(784, hidden, CLASSES, activation)
        recipe = Recipe(architecture, Batching("mini", 32, shuffle=True), "sgd", epochs, validation=IMAGES)
        stds = tuple(standard_deviation(init, *shape) for shape in pairwise((784, *hidden, CLASSES)))
        accuracy_of_seed: dict[int, float] = {}
        for first_seed in range(0, seeds, LANES):
            chunk_seeds = range(first_seed, min(first_seed + LANES, seeds))
            lanes = [Lane(str(seed), seed, stds, (("lr", lr),)) for seed in chunk_seeds]
            _, records = advance(recipe, Stack.without_parameters(lanes), arrays, engine="numba")
            accuracy_of_seed |= {int(record.key): record.metrics["val_accuracy"] for record in records}
        correct[name] = np.rint([accuracy_of_seed[seed] * IMAGES for seed in range(seeds)]).astype(int)
        pd.DataFrame(correct).to_csv(TRAINED, index=False, lineterminator="\n")
        print(f"{name}: {correct[name].mean() / IMAGES:.4f}", flush=True)


class Experiments(NamedTuple):
    """Centred accuracies (options, experiments, seeds), and whether each network failed to learn."""

    accuracy: np.ndarray
    failed: np.ndarray

    def differences(self, i: int, j: int) -> np.ndarray:
        """Return the differences (experiments, seeds) of two options."""
        return self.accuracy[i] - self.accuracy[j]

    def mixed(self, *pair: int) -> np.ndarray:
        """Return in which experiments an option of the pair failed in some seeds but not in all."""
        failed = self.failed[list(pair)]
        return (failed.any(axis=-1) & ~failed.all(axis=-1)).any(axis=0)


def accuracies(trained: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracies with a column for each option, including :data:`COLLAPSING`."""
    accuracy = trained / IMAGES
    failed = accuracy[FAILING] < 2 / CLASSES
    return accuracy.assign(**{COLLAPSING: accuracy[FAILING].where(failed, accuracy["tanh_16 he"])})


def draw(accuracy: pd.DataFrame, names: tuple[str, ...], seeds: int) -> Experiments:
    """Return experiments with options paired by seed. If all are the same option, each gets its own seeds.

    There are :data:`EXPERIMENTS`, but :data:`OF_MANY` at most of more than three options.
    """
    rng, options = np.random.default_rng(seeds), len(names)
    same = len(set(names)) == 1
    count = seeds * options if same else seeds
    experiments = EXPERIMENTS if options < 4 else min(EXPERIMENTS, OF_MANY)
    drawn = np.array([rng.choice(len(accuracy), count, replace=False) for _ in range(experiments)])
    draws = np.split(drawn, options, axis=1) if same else [drawn] * options
    values = np.stack([accuracy[name].to_numpy()[seed] for name, seed in zip(names, draws, strict=True)])
    means = accuracy[list(names)].mean().to_numpy()[:, None, None]
    return Experiments(values - means, values < 2 / CLASSES)


class Population(NamedTuple):
    """Standard deviation and skewness of all differences of two options, and the share with a failure."""

    spread: float
    skewness: float
    failed: float


def population(accuracy: pd.DataFrame, names: tuple[str, ...]) -> Population:
    """Return the population of two options. The same option twice is compared at shifted seeds."""
    x, y = (accuracy[name].to_numpy() for name in names)
    y = np.roll(y, 1) if names[0] == names[1] else y
    failed = (np.minimum(x, y) < 2 / CLASSES).mean()
    return Population(float((x - y).std()), float(stats.skew(x - y)), float(failed))


def p_values(d: np.ndarray, mixed: np.ndarray, pairs: int = 1) -> dict[str, np.ndarray]:
    """Return the p value of each test for the differences (experiments, seeds) of each experiment.

    `pairs` is the number of pairs for which p will be corrected.
    """
    by_t = np.array([statistics.paired_t_test(differences) for differences in d])
    by_signs = np.array([statistics.sign_flip_test(differences) for differences in d])
    flipped = mixed & statistics.signs_can_settle(d.shape[1], pairs)
    return {"rule": np.where(flipped, by_signs, by_t), "t": by_t, "sign flip": by_signs}


def row(about: str, names: tuple[str, ...], **values: object) -> dict[str, object]:
    """Return a row of the table of results."""
    return {"about": about, "options": " / ".join(names), **values}


def pair_rows(accuracy: pd.DataFrame) -> list[dict[str, object]]:
    """Return the share of experiments in which each test finds a difference between two options."""
    rows = []
    for names in PAIRS:
        pair = population(accuracy, names)
        facts = {"failed": pair.failed, "skewness": pair.skewness}
        for n in SEEDS:
            drawn = draw(accuracy, names, n)
            for effect in EFFECTS:
                p = p_values(drawn.differences(0, 1) + effect * pair.spread, drawn.mixed(0, 1))
                for test, p_of_test in p.items():
                    share = (p_of_test <= ERRORS).mean()
                    rows.append(row("pair", names, **facts, seeds=n, effect=effect, test=test, share=share))
        print(*names, sep=" / ", flush=True)
    return rows


def question_rows(accuracy: pd.DataFrame) -> list[dict[str, object]]:
    """Return the share of experiments with a difference in any pair of options, after Holm's correction."""
    rows = []
    for names in QUESTIONS:
        for n in SEEDS:
            drawn = draw(accuracy, names, n)
            pairs = [*combinations(range(len(names)), 2)]
            p_by_pair = [p_values(drawn.differences(*pair), drawn.mixed(*pair), len(pairs)) for pair in pairs]
            for test in p_by_pair[0]:
                p = np.column_stack([p_by_test[test] for p_by_test in p_by_pair])
                share = np.mean([statistics.holm(p_family).min() <= ERRORS for p_family in p])
                rows.append(row("question", names, seeds=n, effect=0.0, test=test, share=share))
        print(*names, sep=" / ", flush=True)
    return rows


def margin_rows(accuracy: pd.DataFrame) -> list[dict[str, object]]:
    """Return the share of experiments in which two options are called equivalent.

    The true difference is 0 or exactly the margin, in either direction. The verdict requires that the whole
    95% interval is within the margin; then both one-sided tests have p ≤ 2.5%. There is no such verdict if an
    option failed in some seeds but not in all.
    """
    rows = []
    for names in PAIRS:
        spread = population(accuracy, names).spread
        for n in SEEDS:
            drawn = draw(accuracy, names, n)
            d = drawn.differences(0, 1)
            half = statistics.t_half_width(d.std(axis=1, ddof=1), np.full(EXPERIMENTS, n))
            for margin in MARGINS:
                for effect in (-margin, 0.0, margin):
                    inside = abs(d.mean(axis=1) + effect * spread) + half <= margin * spread
                    share = (inside & ~drawn.mixed(0, 1)).mean()
                    rows.append(row("equivalent", names, seeds=n, effect=effect, margin=margin, test="rule",
                                    share=share))  # fmt: skip
    return rows


def look_rows(accuracy: pd.DataFrame) -> list[dict[str, object]]:
    """Return the share of races in which a test finds a difference at any look.

    A race has a look after each seed from 3 to 40. The tests are Student's t at each look, and the safe t
    test: an e-value with a N(0, τ²) prior on the effect (Gönen et al. 2005), which is valid at every look. It
    finds a difference if the e-value is at least 1/0.05.
    """
    rows = []
    for names in PAIRS:
        spread = population(accuracy, names).spread
        races = draw(accuracy, names, int(LOOKS[-1])).differences(0, 1)
        n = np.arange(1, races.shape[1] + 1)
        for effect in (*EFFECTS, 4.0):
            x = races + effect * spread
            mean = x.cumsum(axis=1) / n
            with np.errstate(divide="ignore", invalid="ignore"):
                t = mean / np.sqrt(((x**2).cumsum(axis=1) / n - mean**2).clip(0) / (n - 1))
            varied = np.maximum.accumulate(x, axis=1) - np.minimum.accumulate(x, axis=1) > statistics.ROUNDING
            t = np.where(varied, t, 0)[:, LOOKS - 1]  # t is undefined while all differences are equal
            significant = {
                "t at each look": 2 * stats.t.sf(abs(t), LOOKS - 1) <= ERRORS,
                "safe t at each look": e_values(t, LOOKS) >= 1 / ERRORS,
            }
            for test, by_look in significant.items():
                ever = by_look.any(axis=1)
                first = LOOKS[by_look.argmax(axis=1)][ever]
                rows.append(row("looks", names, seeds=int(LOOKS[-1]), effect=effect, test=test,
                                share=ever.mean(), settled_at=first.mean() if len(first) else np.nan,
                                ))  # fmt: skip
    return rows


def e_values(t: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the Bayes factor against a mean of 0, given t of n differences (Gönen et al. 2005)."""
    v, wider = n - 1, 1 + n * TAU**2
    return wider**-0.5 * ((1 + t**2 / v) / (1 + t**2 / (v * wider))) ** ((v + 1) / 2)


BOTH_LEARN = "both learn in every seed"
BOTH_FAIL = "both fail in some seeds"
ONE_FAILS = "one fails in some seeds"
COLORS = {BOTH_LEARN: "#1a5fb4", BOTH_FAIL: "#2a7b4f", ONE_FAILS: "#c64600"}


def category(names: str, failed: float) -> str:
    """Return the category of a pair, from its name in the table and the share of seeds in which one fails."""
    if failed < 0.001:
        return BOTH_LEARN
    a, b = names.split(" / ")
    return BOTH_FAIL if a == b or a.startswith("relu_8_8") else ONE_FAILS


def draw_picture(table: pd.DataFrame, file: Path) -> None:
    """Plot level and power of the rule and of the sign-flip test against the number of seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    pairs = table[table["about"] == "pair"]
    categories = [category(*pair) for pair in zip(pairs["options"], pairs["failed"], strict=True)]
    pairs = pairs.assign(category=categories)
    learn = pairs[pairs["category"] == BOTH_LEARN]
    tests = {"rule": "the rule (t; sign flips if failures are mixed)", "sign flip": "the sign-flip test"}
    ticks = [0, 1, 2, 3, 4, 5, 10, 20, 50, 100]
    for (test, name), (level, power) in zip(tests.items(), panels.T, strict=True):
        results = pairs[(pairs["test"] == test) & (pairs["effect"] == 0)]
        for _, line in results.groupby("options", sort=False):
            color = COLORS[line["category"].iloc[0]]
            level.plot(line["seeds"], 100 * line["share"], "o-", color=color, markersize=4, linewidth=1.2)
        level.axhline(5, color="#444444", linewidth=0.8, linestyle="--")
        level.set_yscale("symlog", linthresh=5, linscale=1.6)
        level.set_yticks(ticks, ticks)
        level.set_ylim(-0.2, 100)
        level.set_title(f"Level of {name}", loc="left", fontsize=10)
        for effect, shade in zip(EFFECTS[1:], ("#99c1f1", "#3584e4", "#1a3f7a"), strict=True):
            results = learn[(learn["test"] == test) & (learn["effect"] == effect)]
            summary = 100 * results.groupby("seeds")["share"].agg(["min", "mean", "max"])
            low, high = summary["min"], summary["max"]
            power.fill_between(summary.index, low, high, color=shade, alpha=0.25, linewidth=0)
            power.plot(summary.index, summary["mean"], "o-", color=shade, markersize=4, label=f"{effect:g} s")
        power.set_ylim(0, 101)
        power.set_xlabel("seeds")
        power.set_title("Its power for differences of 0.5, 1 and 2 s, if both learn", loc="left", fontsize=10)
    handles = [panels[0, 1].plot([], [], "o-", color=color, label=name)[0] for name, color in COLORS.items()]
    panels[0, 1].legend(handles=handles, fontsize=8, frameon=False, loc="lower right")
    panels[1, 1].legend(fontsize=8, frameon=False, loc="lower right")
    for panel in panels.flat:
        panel.set_xticks(SEEDS)
        panel.grid(color="#e3e6ea")
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_ylabel("% of experiments", fontsize=8)
        panel.tick_params(labelsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Train or simulate, depending on the command line."""
    if sys.argv[1:2] == ["train"]:
        train(int((*sys.argv[2:], 4000)[0]))
        return
    trained = pd.read_csv(TRAINED)
    accuracy = accuracies(trained)
    parts = (pair_rows, question_rows, margin_rows, look_rows)
    rows = [result for simulate in parts for result in simulate(accuracy)]
    table = pd.DataFrame(rows)
    many = table["options"].str.count(" / ") > 2
    experiments = np.where(many, OF_MANY, EXPERIMENTS)
    table["error"] = np.sqrt(table["share"] * (1 - table["share"]) / experiments)
    table.round(4).to_csv(RESULTS / "significance.csv", index=False, lineterminator="\n")
    draw_picture(table, RESULTS / "significance.png")


if __name__ == "__main__":
    main()
