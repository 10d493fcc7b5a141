"""How often the tests of pairs err, and how much they see, on thousands of real seeds of small networks.

python -m benchmarks.significance train [SEEDS]    trains them on the digits: results/significance_seeds.csv
python -m benchmarks.significance                  simulates: results/significance.csv and significance.png

In `significance_seeds.csv` a row is a seed and a column an option: how many of 300 validation images it has
right. From each option its mean over all seeds is taken away. So all are equally good on average, and their
differences have the shapes that real ones have. A simulated experiment draws some of the seeds, without
replacement, and tests them. The share of experiments in which a test finds a difference is its level; where a
difference of some standard deviations is added, it is its power.
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
"""Activation, hidden units, initializer, learning rate, epochs.

Those of two hidden layers fail in 4 to 9% of their seeds: of three rectifiers, all can be 0 for every
image, and then the network never learns ("dying ReLU", Lu et al. 2020).
"""

FAILING = "relu_32_3 he_normal"
COLLAPSING = "tanh_16 he, collapsing"
"""`tanh_16 he`, but in the seeds in which :data:`FAILING` failed it has that one's accuracy."""

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
"""Where both are the same, the option is compared with itself in other seeds."""

QUESTIONS = [
    ("relu_16 he", "relu_16 sqrtmax", "relu_16 max"),
    ("relu_16 he", "tanh_16 he", "relu_16 sqrtmax"),
    (FAILING, FAILING, FAILING),
    ("tanh_16 sqrtmax", "relu_16 he", FAILING),
    ("tanh_16 sqrtmax", "relu_16 he", COLLAPSING),
]
SEEDS = (3, 5, 6, 10, 20)
EFFECTS = (0.0, 0.5, 1.0, 2.0)
MARGINS = (0.5, 1.0, 2.0)
LOOKS, TAU = np.arange(3, 41), statistics.PRIOR
EXPERIMENTS = 5000
ERRORS = 1 - statistics.LEVEL


def train(seeds: int) -> None:
    """Write how many validation images each option has right, a row a seed, when an option is trained."""
    from fnnexp.data.datasets import load, prepare
    from fnnexp.nn.network import Architecture
    from fnnexp.nn.pieces.batching import Batching
    from fnnexp.nn.pieces.initializers import standard_deviation
    from fnnexp.nn.training import Lane, Recipe, Stack, advance

    arrays, right = load(prepare("digits")), {}
    for name, (activation, hidden, init, lr, epochs) in OPTIONS.items():
        architecture = Architecture(784, hidden, CLASSES, activation)
        recipe = Recipe(architecture, Batching("mini", 32, shuffle=True), "sgd", epochs, validation=IMAGES)
        stds = tuple(standard_deviation(init, *shape) for shape in pairwise((784, *hidden, CLASSES)))
        last: dict[int, float] = {}
        for first in range(0, seeds, LANES):
            some = range(first, min(first + LANES, seeds))
            lanes = [Lane(str(seed), seed, stds, (("lr", lr),)) for seed in some]
            _, records = advance(recipe, Stack.without_parameters(lanes), arrays, engine="numba")
            last |= {int(record.key): record.metrics["val_accuracy"] for record in records}
        right[name] = np.rint([last[seed] * IMAGES for seed in range(seeds)]).astype(int)
        pd.DataFrame(right).to_csv(TRAINED, index=False, lineterminator="\n")
        print(f"{name}: {right[name].mean() / IMAGES:.4f}", flush=True)


class Experiments(NamedTuple):
    """Accuracies (options, experiments, seeds), each option's less its mean over all, and which failed."""

    accuracy: np.ndarray
    failed: np.ndarray

    def differences(self, i: int, j: int) -> np.ndarray:
        """Return the differences (experiments, seeds) of two options."""
        return self.accuracy[i] - self.accuracy[j]

    def mixed(self, *pair: int) -> np.ndarray:
        """Return in which experiments one of a pair failed in some seeds and not in others."""
        some = self.failed[list(pair)]
        return (some.any(axis=-1) & ~some.all(axis=-1)).any(axis=0)


def accuracies(trained: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracies, a column an option, with that of :data:`COLLAPSING`."""
    accuracy = trained / IMAGES
    lost = accuracy[FAILING] < 2 / CLASSES
    return accuracy.assign(**{COLLAPSING: accuracy[FAILING].where(lost, accuracy["tanh_16 he"])})


def draw(accuracy: pd.DataFrame, names: tuple[str, ...], seeds: int) -> Experiments:
    """Return experiments on some options, paired by seed; if all are one option, it has seeds for each."""
    rng, options = np.random.default_rng(seeds), len(names)
    same = len(set(names)) == 1
    count = seeds * options if same else seeds
    drawn = np.array([rng.choice(len(accuracy), count, replace=False) for _ in range(EXPERIMENTS)])
    parts = np.split(drawn, options, axis=1) if same else [drawn] * options
    values = np.stack([accuracy[name].to_numpy()[part] for name, part in zip(names, parts, strict=True)])
    means = accuracy[list(names)].mean().to_numpy()[:, None, None]
    return Experiments(values - means, values < 2 / CLASSES)


class Population(NamedTuple):
    """Of all differences of two options: standard deviation, skewness, and the share in which one failed."""

    spread: float
    skewness: float
    failed: float


def population(accuracy: pd.DataFrame, names: tuple[str, ...]) -> Population:
    """Return what is true of two options; of one alone, of each seed against the one before."""
    x, y = (accuracy[name].to_numpy() for name in names)
    y = np.roll(y, 1) if names[0] == names[1] else y
    failed = (np.minimum(x, y) < 2 / CLASSES).mean()
    return Population(float((x - y).std()), float(stats.skew(x - y)), float(failed))


def p_values(d: np.ndarray, mixed: np.ndarray) -> dict[str, np.ndarray]:
    """Return the p of each experiment's differences (experiments, seeds) by each test."""
    by_t = np.array([statistics.paired_t_test(each) for each in d])
    by_signs = np.array([statistics.sign_flip_test(each) for each in d])
    return {"rule": np.where(mixed, by_signs, by_t), "t": by_t, "sign flip": by_signs}


def row(about: str, names: tuple[str, ...], **what: object) -> dict[str, object]:
    """Return a row of the table."""
    return {"about": about, "options": " / ".join(names), **what}


def pair_rows(accuracy: pd.DataFrame) -> list[dict[str, object]]:
    """Return in what share of experiments two options are told apart."""
    rows = []
    for names in PAIRS:
        true = population(accuracy, names)
        about = {"failed": true.failed, "skewness": true.skewness}
        for n in SEEDS:
            two = draw(accuracy, names, n)
            for effect in EFFECTS:
                p = p_values(two.differences(0, 1) + effect * true.spread, two.mixed(0, 1))
                for test, each in p.items():
                    share = (each <= ERRORS).mean()
                    rows.append(row("pair", names, **about, seeds=n, effect=effect, test=test, share=share))
        print(*names, sep=" / ", flush=True)
    return rows


def question_rows(accuracy: pd.DataFrame) -> list[dict[str, object]]:
    """Return in what share of experiments one or more of three pairs are told apart, after Holm."""
    rows = []
    for names in QUESTIONS:
        for n in SEEDS:
            three = draw(accuracy, names, n)
            pairs = combinations(range(len(names)), 2)
            found = [p_values(three.differences(*pair), three.mixed(*pair)) for pair in pairs]
            for test in found[0]:
                p = np.column_stack([each[test] for each in found])
                share = np.mean([statistics.holm(each).min() <= ERRORS for each in p])
                rows.append(row("question", names, seeds=n, effect=0.0, test=test, share=share))
    return rows


def margin_rows(accuracy: pd.DataFrame) -> list[dict[str, object]]:
    """Return in what share of experiments two options are called equivalent.

    Their difference is exactly the margin, either way, or 0. The whole 95% interval must be within the
    margin, and then both one-sided tests have p ≤ 2.5%. Where a failure is mixed there is no such verdict.
    """
    rows = []
    for names in PAIRS:
        spread = population(accuracy, names).spread
        for n in SEEDS:
            two = draw(accuracy, names, n)
            d = two.differences(0, 1)
            half = statistics.t_half_width(d.std(axis=1, ddof=1), np.full(EXPERIMENTS, n))
            for margin in MARGINS:
                for effect in (-margin, 0.0, margin):
                    inside = abs(d.mean(axis=1) + effect * spread) + half <= margin * spread
                    share = (inside & ~two.mixed(0, 1)).mean()
                    rows.append(row("equivalent", names, seeds=n, effect=effect, margin=margin, test="rule",
                                    share=share))  # fmt: skip
    return rows


def look_rows(accuracy: pd.DataFrame) -> list[dict[str, object]]:
    """Return in what share of races two options are ever told apart, with a look at each seed from 3 to 40.

    By Student's t at each look, and by the safe t test: an e-value with a N(0, τ²) prior on the effect
    (Gönen et al. 2005), which is valid at every look; it settles at 1/0.05.
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
            t = np.where(varied, t, 0)[:, LOOKS - 1]  # differences that do not vary yet settle nothing
            settled = {
                "t at each look": 2 * stats.t.sf(abs(t), LOOKS - 1) <= ERRORS,
                "safe t at each look": e_values(t, LOOKS) >= 1 / ERRORS,
            }
            for test, each in settled.items():
                ever = each.any(axis=1)
                when = LOOKS[each.argmax(axis=1)][ever]
                rows.append(row("looks", names, seeds=int(LOOKS[-1]), effect=effect, test=test,
                                share=ever.mean(), settled_at=when.mean() if len(when) else np.nan,
                                ))  # fmt: skip
    return rows


def e_values(t: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the Bayes factor of t over n differences against a mean of 0 (Gönen et al. 2005)."""
    v, wider = n - 1, 1 + n * TAU**2
    return wider**-0.5 * ((1 + t**2 / v) / (1 + t**2 / (v * wider))) ** ((v + 1) / 2)


LEARN, SAME, ONE = "both learn in every seed", "both fail in some seeds", "one of them fails in some seeds"
COLORS = {LEARN: "#1a5fb4", SAME: "#2a7b4f", ONE: "#c64600"}


def kind(names: str, failed: float) -> str:
    """Return of which kind a pair is, by its name in the table and in how many seeds one of them fails."""
    if failed < 0.001:
        return LEARN
    a, b = names.split(" / ")
    return SAME if a == b or a.startswith("relu_8_8") else ONE


def draw_picture(table: pd.DataFrame, file: Path) -> None:
    """Draw the level of the rule and of the sign-flip test over seeds, a line for a pair, and their power."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    pairs = table[table["about"] == "pair"]
    pairs = pairs.assign(kind=[kind(*each) for each in zip(pairs["options"], pairs["failed"], strict=True)])
    learn = pairs[pairs["kind"] == LEARN]
    tests = {"rule": "the rule (t; sign flips where a failure is mixed)", "sign flip": "the sign-flip test"}
    ticks = [0, 1, 2, 3, 4, 5, 10, 20, 50, 100]
    for (test, name), (level, power) in zip(tests.items(), panels.T, strict=True):
        mine = pairs[(pairs["test"] == test) & (pairs["effect"] == 0)]
        for _, part in mine.groupby("options", sort=False):
            color = COLORS[part["kind"].iloc[0]]
            level.plot(part["seeds"], 100 * part["share"], "o-", color=color, markersize=4, linewidth=1.2)
        level.axhline(5, color="#444444", linewidth=0.8, linestyle="--")
        level.set_yscale("symlog", linthresh=5, linscale=1.6)
        level.set_yticks(ticks, ticks)
        level.set_ylim(-0.2, 100)
        level.set_title(f"Level of {name}", loc="left", fontsize=10)
        for effect, shade in zip(EFFECTS[1:], ("#99c1f1", "#3584e4", "#1a3f7a"), strict=True):
            mine = learn[(learn["test"] == test) & (learn["effect"] == effect)]
            by = 100 * mine.groupby("seeds")["share"].agg(["min", "mean", "max"])
            power.fill_between(by.index, by["min"], by["max"], color=shade, alpha=0.25, linewidth=0)
            power.plot(by.index, by["mean"], "o-", color=shade, markersize=4, label=f"{effect:g} s")
        power.set_ylim(0, 101)
        power.set_xlabel("seeds")
        power.set_title("Its power at differences of 0.5, 1 and 2 s, both learn", loc="left", fontsize=10)
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
    """Train or simulate, as the command line says."""
    if sys.argv[1:2] == ["train"]:
        train(int((*sys.argv[2:], 4000)[0]))
        return
    trained = pd.read_csv(TRAINED)
    accuracy = accuracies(trained)
    rows = [each for part in (pair_rows, question_rows, margin_rows, look_rows) for each in part(accuracy)]
    table = pd.DataFrame(rows)
    table["error"] = np.sqrt(table["share"] * (1 - table["share"]) / EXPERIMENTS)
    table.round(4).to_csv(RESULTS / "significance.csv", index=False, lineterminator="\n")
    draw_picture(table, RESULTS / "significance.png")


if __name__ == "__main__":
    main()
