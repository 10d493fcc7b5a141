"""The simulation of docs/statistics.md uses the tests that fnnexp ships, and the page shows its results."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_comparisons import grid

import fnnexp
from benchmarks import significance

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
TABLE = pd.read_csv(significance.RESULTS / "significance.csv")
ACCURACY = significance.accuracies(pd.read_csv(significance.TRAINED))


@pytest.mark.parametrize(
    "names",
    [
        ("relu_16 he", "relu_16 max"),
        ("tanh_16 sqrtmax", significance.COLLAPSING),
        (significance.FAILING,) * 2,
    ],
)
@pytest.mark.parametrize("seeds", [3, 8])
def test_simulated_rule_agrees_with_compare(names, seeds, monkeypatch):
    monkeypatch.setattr(significance, "EXPERIMENTS", 8)
    two = significance.draw(ACCURACY, names, seeds)
    means = ACCURACY[list(names)].mean().to_numpy()[:, None, None]
    raw = two.accuracy + means  # frames contain accuracies, which are not centred
    mixed, p = two.mixed(0, 1), significance.p_values(raw[0] - raw[1], two.mixed(0, 1))["rule"]
    runs = grid(seeds).query("arch == 'relu_100' and batching == 'full' and init != 'xavier'")
    for i, (a, b) in enumerate(raw.transpose(1, 0, 2)):
        values = runs["init"].map({"he": 0, "sqrtmax": 1}).astype(int)
        accuracy = np.stack([a, b])[values, runs["seed"].astype(int)].round(12)
        row = fnnexp.compare(runs.assign(val_accuracy=accuracy, identical_to=None), "init").iloc[0]
        assert (row["test"] == "sign flip") == (mixed[i] and seeds > 5)
        assert row["p"] == pytest.approx(p[i], rel=1e-6)
        assert (row["verdict"] == "better") == (p[i] <= 0.05)


def test_e_value_is_the_likelihood_ratio_of_t():
    """With a N(0, τ²) prior on the effect, t is √(1 + nτ²) times a Student's t."""
    n, t = np.array([3, 10, 40]), np.array([0.3, -2.5, 6.0])
    scale = np.sqrt(1 + n * significance.TAU**2)
    ratio = stats.t.pdf(t / scale, n - 1) / scale / stats.t.pdf(t, n - 1)
    assert significance.e_values(t, n) == pytest.approx(ratio)


def test_simulated_options_have_equal_means_and_an_option_against_itself_has_other_seeds(monkeypatch):
    monkeypatch.setattr(significance, "EXPERIMENTS", 50)
    two = significance.draw(ACCURACY, ("relu_16 he", "tanh_16 he"), len(ACCURACY))
    assert two.accuracy.mean(axis=2) == pytest.approx(0, abs=1e-12)
    same = significance.draw(ACCURACY, ("tanh_16 he", "tanh_16 he"), 20)
    assert (same.accuracy[0] != same.accuracy[1]).mean() > 0.9


def rows(head):
    """Return the rows of the page's table whose head starts with this text, each as a list of cells."""
    table = re.search(rf"^\| {head}.*\n\|.*\n((?:\|.*\n)+)", PAGE.read_text("utf-8"), flags=re.M)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def share(options, test, seeds, effect=0.0):
    selected = (TABLE["about"] == "pair") & (TABLE["test"] == test) & (TABLE["effect"] == effect)
    selected &= (TABLE["options"] == options) & (TABLE["seeds"] == seeds)
    return 100 * TABLE.loc[selected, "share"].item()


def test_page_shows_the_simulated_levels():
    table = rows("two options of equal means")
    assert len(table) == len(significance.PAIRS)
    for names, (_, _, *cells) in zip(significance.PAIRS, table, strict=True):
        options = " / ".join(names)
        expected = [share(options, "rule", n) for n in (3, 5, 6, 10, 20)]
        expected += [share(options, "sign flip", n) for n in (6, 10, 20)]
        assert [float(cell) for cell in cells] == pytest.approx(expected, abs=0.0501)
        assert max(share(options, "sign flip", n) for n in (3, 5)) == 0


def test_page_shows_the_simulated_powers():
    learn = TABLE[(TABLE["about"] == "pair") & (TABLE["failed"] < 0.001)]["options"].unique()
    assert len(learn) == 7
    for effect, test, *cells in rows("difference"):
        for seeds, cell in zip(significance.SEEDS, cells, strict=True):
            powers = [share(options, test, seeds, float(effect.partition(" ")[0])) for options in learn]
            expected = [np.mean(powers), min(powers), max(powers)]
            shown = [float(number) for number in re.findall(r"\d+", cell)]
            assert (shown if len(shown) == 3 else shown * 3) == pytest.approx(expected, abs=0.5001)


def test_monte_carlo_errors_are_at_most_the_documented_ones():
    assert TABLE["error"].max() <= 0.0080
    assert math.sqrt(0.05 * 0.95 / significance.EXPERIMENTS) == pytest.approx(0.003, abs=2e-4)
