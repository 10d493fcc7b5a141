"""Numeric factors as axes, on frames from closed forms with known optima."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fnnexp.results import comparisons, numeric, statistics
from fnnexp.tracking.run_format import METRICS

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
PEAKS = {"max": 0.3, "he": 0.1}
"""The best learning rate of each initializer. The accuracy falls with the squared distance in decades."""


def trials(rows):
    """Return a frame of runs with these values and defaults for the other columns."""
    defaults = {"arch": "relu_100", "init": "he", "batching": "mini", "optimizer": "sgd", "data": "digits",
             "status": "finished", "identical_to": None, "seconds_per_epoch": 0.1, "classes": 10, "seed": 0,
             "data.validation": 500, **dict.fromkeys(METRICS, 0.5)}  # fmt: skip
    frame = pd.DataFrame([defaults | row | {"trial": str(i), "name": str(i)} for i, row in enumerate(rows)])
    choices = dict.fromkeys(("arch", "init", "batching", "optimizer", "data"), "category")
    return frame.astype({**choices, "seed": "Int64", "identical_to": "str"})


def accuracy(init, rate, seed=0, noise=0.0):
    """Return 0.9, minus 0.1 per squared decade from the peak, plus an effect of the seed and noise."""
    rng = np.random.default_rng([seed, round(1e6 * rate), len(init)])
    return 0.9 - 0.1 * math.log10(rate / PEAKS[init]) ** 2 + 0.002 * seed + noise * rng.normal()


def rates(seeds=4, noise=0.001, values=RATES, inits=tuple(PEAKS), **more):
    return trials([
        {"init": i, "optimizer.lr": v, "seed": s, "val_accuracy": accuracy(i, v, s, noise), **more}
        for i, v, s in itertools.product(inits, values, range(seeds))
    ])  # fmt: skip


# What an axis is


def test_a_factor_with_three_or_more_numeric_values_is_an_axis():
    assert numeric.axes_of(rates()) == ["optimizer.lr"]
    assert numeric.axes_of(rates(values=RATES[:2])) == []
    assert numeric.axes_of(rates(values=RATES[:1])) == []
    assert numeric.axes_of(rates()[:0]) == []


def test_a_factor_that_is_determined_by_an_option_or_not_numeric_is_not_an_axis():
    rows = [
        {"batching": b, "optimizer.lr": lr} for b, lr in (("full", 0.5), ("mini", 0.1), ("sample", 0.003))
    ]
    assert numeric.axes_of(trials(rows)) == []
    texts = trials([{"data.scale": scale} for scale in ("unit", "raw", "1")])
    assert numeric.axes_of(texts) == []
    flags = trials([{"batching.shuffle": flag} for flag in (True, False, None)]).astype(
        {"batching.shuffle": "boolean"}
    )
    assert numeric.axes_of(flags) == []


def test_a_param_of_an_option_is_an_axis_of_that_option_alone():
    sizes = [{"batching": "mini", "batching.size": size} for size in (16, 32, 64)]
    runs = trials([*sizes, {"batching": "full"}])
    laid_out = numeric.layout(runs)
    assert laid_out.axes == ["batching.size"]
    assert "batching.size" not in laid_out.rows
    assert sorted(laid_out.coordinates["batching.size"].dropna()) == [16, 32, 64]
    assert numeric.along(runs, "batching.size")["batching"].unique().tolist() == ["mini"]
    # An option's param that is missing in some of its trials is not an axis.
    assert numeric.axes_of(trials([*sizes, {"batching": "mini"}])) == []


def networks(*shapes, activation="relu"):
    return [
        {"arch": "_".join(map(str, (activation, *hidden))), "arch.hidden": str([*hidden]),
         "arch.activation": activation, "val_accuracy": 0.9 - 1 / sum(hidden)}
        for hidden in shapes
    ]  # fmt: skip


def test_networks_that_differ_only_in_width_are_one_architecture_on_an_axis():
    one_layer, two_layers = (
        networks((10,), (30,), (100,)),
        networks((8, 8), (16, 16), (32, 32), activation="tanh"),
    )
    unequal = [*networks((10, 20)), *networks((64,), (32,), activation="sigmoid")]
    laid_out = numeric.layout(trials([*one_layer, *two_layers, *unequal]))
    assert laid_out.axes == [numeric.WIDTH]
    pairs = zip(laid_out.rows["arch"].astype("str"), laid_out.coordinates[numeric.WIDTH], strict=True)
    placed = {(arch, width) for arch, width in pairs if not math.isnan(width)}
    assert placed == {
        *(("relu", width) for width in (10, 30, 100)),
        *(("tanh 2 layers", width) for width in (8, 16, 32)),
    }
    alone = laid_out.rows.loc[laid_out.coordinates[numeric.WIDTH].isna(), "arch"].astype("str")
    assert set(alone) == {"relu_10_20", "sigmoid_64", "sigmoid_32"}
    assert numeric.axes_of(trials(networks((10, 20), (20, 30), (30, 40)))) == []
    assert numeric.axes_of(trials(one_layer).assign(**{"arch.hidden": None})) == []
    best = numeric.at_best(trials(one_layer))
    assert best["best hidden units"].tolist() == [100]


# Each option at its own best values


def test_each_option_has_its_own_known_optimum():
    runs = rates()
    best = numeric.at_best(runs)
    assert best.groupby("init", observed=True)["best optimizer.lr"].unique().map(list).to_dict() == {
        init: [peak] for init, peak in PEAKS.items()
    }
    expected = runs[runs["optimizer.lr"] == runs["init"].astype("str").map(PEAKS)]
    assert set(best["trial"]) == set(expected["trial"])
    assert "optimizer.lr" not in best


def test_at_their_best_values_options_are_compared_as_without_numeric_factors():
    runs = rates(seeds=6)
    findings = comparisons.findings(numeric.at_best(runs))
    assert {configuration.name for configuration in findings.configurations} == {"max", "he"}
    values = runs.set_index(["init", "optimizer.lr", "seed"])["val_accuracy"].sort_index()
    pair = findings.with_leader.iloc[0]
    d = values["he", 0.1] - values["max", 0.3]
    assert pair["difference"] == pytest.approx(abs(d.mean()))
    assert pair["p"] == pytest.approx(stats.ttest_rel(values["he", 0.1], values["max", 0.3]).pvalue)
    assert pair["family"] == 1  # not one pair per learning rate


def test_every_cell_has_its_own_best_values():
    archs = [rates(seeds=2, arch=arch, batching=b) for arch, b in itertools.product("ab", ("full", "mini"))]
    runs = pd.concat(archs, ignore_index=True)
    runs["trial"] = runs["name"] = runs.index.astype("str")
    for axis in ("arch", "batching"):
        runs[axis] = runs[axis].astype("str").astype("category")
    moved_peak = (runs["arch"] == "b") & (runs["init"] == "he") & (runs["optimizer.lr"] == 1.0)
    runs.loc[moved_peak, "val_accuracy"] = 0.95
    best = numeric.at_best(runs)
    at = best.groupby(["arch", "batching", "init"], observed=True)["best optimizer.lr"].agg(["min", "max"])
    for (arch, _, init), row in at.iterrows():
        expected = 1.0 if (arch, init) == ("b", "he") else PEAKS[init]
        assert row.tolist() == [expected, expected]


def test_the_smallest_of_equally_good_values_is_the_best_in_any_row_order():
    runs = rates(seeds=2, noise=0.0, inits=("he",))
    for rate, rounding in ((0.03, 0), (0.1, 1e-14), (0.3, 2e-14)):
        runs.loc[runs["optimizer.lr"] == rate, "val_accuracy"] = 0.9 + rounding
    for seed in range(4):
        best = numeric.at_best(runs.sample(frac=1, random_state=seed))
        assert best["best optimizer.lr"].unique().tolist() == [0.03]


def test_a_value_that_diverged_is_the_best_only_if_all_values_did():
    runs = rates(seeds=3, inits=("he",))
    diverged = (runs["optimizer.lr"] == 0.1) & (runs["seed"] == 0)
    runs.loc[diverged, "status"] = "diverged"
    near = 0.03 if accuracy("he", 0.03) > accuracy("he", 0.3) else 0.3
    assert numeric.at_best(runs)["best optimizer.lr"].unique().tolist() == [near]
    runs.loc[runs["seed"] == 0, "status"] = "diverged"
    assert numeric.at_best(runs)["best optimizer.lr"].unique().tolist() == [0.1]
    (optimum,) = numeric.optima(runs, "optimizer.lr")
    assert optimum.diverged == dict.fromkeys(RATES, 1)
    assert (optimum.best, optimum.seeds) == (0.1, 2)


def test_values_without_a_result_are_ignored():
    runs = rates(seeds=2, inits=("he",))
    runs.loc[runs["optimizer.lr"] == 0.1, "status"] = "running"
    assert numeric.at_best(runs)["best optimizer.lr"].unique().tolist() != [0.1]
    runs["status"] = "failed"
    assert set(numeric.at_best(runs)["status"]) == {"failed"}
    assert numeric.optima(runs, "optimizer.lr") == []


def test_a_frame_without_numeric_factors_is_not_changed():
    runs = rates(values=RATES[:2])
    assert numeric.at_best(runs) is runs


# The optimum


def distinguished(table, best):
    """Return the values that differ from the best by SciPy's t tests and Holm's procedure.

    `table` has seeds down and values across. The first result steps through all pairs of values. The second
    steps through the pairs with the best, and the others count as larger. They are the most and the least
    that can differ.
    """
    all_pairs = list(itertools.combinations(table.columns, 2))
    p = {pair: stats.ttest_rel(*(table[value] for value in pair)).pvalue for pair in all_pairs}
    results = []
    for pairs in (all_pairs, [pair for pair in all_pairs if best in pair]):
        rejected = set()
        for i, pair in enumerate(sorted(pairs, key=p.get)):
            if p[pair] * (len(all_pairs) - i) > 0.05:
                break
            rejected.add(pair)
        results.append({value for pair in rejected if best in pair for value in pair} - {best})
    return results


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.03])
def test_the_optimum_and_the_values_near_it_agree_with_scipy(noise):
    runs = rates(seeds=6, noise=noise, values=tuple(np.geomspace(0.01, 1, 13)))
    optima = numeric.optima(runs, "optimizer.lr")
    assert [optimum.options for optimum in optima] == [{"init": "he"}, {"init": "max"}]
    for optimum in optima:
        selected = runs[runs["init"] == optimum.options["init"]]
        table = selected.pivot_table(index="seed", columns="optimizer.lr", values="val_accuracy")
        best = table.mean().idxmax()
        assert optimum.best == best
        assert optimum.tried == list(table.columns)
        most, least = distinguished(table, best)
        assert least <= {*table.columns} - {*optimum.near, *optimum.behind} <= most
        p = {value: stats.ttest_rel(table[best], table[value]).pvalue for value in table if value != best}
        assert all(p[value] <= 0.05 for value in optimum.behind)
        assert all(p[value] > 0.05 for value in {*optimum.near} - {best})
        at_best = table[best]
        interval = stats.t.interval(0.95, 5, at_best.mean(), stats.sem(at_best))
        assert (optimum.seeds, optimum.mean) == (6, pytest.approx(at_best.mean()))
        assert (optimum.low, optimum.high) == pytest.approx((interval[0], min(interval[1], 1)))


def test_adjacent_values_near_the_best_form_ranges():
    tried = [1, 2, 3, 4, 5, 6]
    optimum = numeric.Optimum({}, tried, 2, 3, True, 0.9, 0.8, 1.0, [1, 2, 4, 5], {}, math.nan, False)
    assert optimum.ranges(optimum.near) == [(1, 2), (4, 5)]


def test_one_seed_has_a_best_value_and_no_interval():
    for optimum in numeric.optima(rates(seeds=1, noise=0.0), "optimizer.lr"):
        assert optimum.best == PEAKS[optimum.options["init"]]
        assert optimum.near == []
        assert math.isnan(optimum.low)


@pytest.mark.parametrize(
    ("key", "values", "beyond"),
    [
        ("optimizer.lr", (0.01, 0.03, 0.1), 0.3),
        ("optimizer.lr", (0.001, 0.01, 0.1), 1.0),
        ("batching.size", (16, 32, 64), 128.0),
        ("epochs", (1, 3, 10), 30.0),
        ("epochs", (10, 20, 30), math.nan),  # not spaced by ratios
        ("optimizer.momentum", (0.1, 0.3, 0.9), math.nan),  # would be above 1
        ("regularization.dropout", (0.1, 0.2, 0.4), 0.8),
        ("regularization.dropout", (0.2, 0.4, 0.8), math.nan),
    ],
)
def test_the_next_value_is_suggested_if_the_best_is_the_last_value(key, values, beyond):
    runs = trials([{key: v, "val_accuracy": 0.5 + 0.1 * i} for i, v in enumerate(values)])
    (optimum,) = numeric.optima(runs, key)
    assert (optimum.best, optimum.at_end) == (values[-1], True)
    assert optimum.beyond == pytest.approx(beyond, nan_ok=True)
    (inner,) = numeric.optima(runs.assign(val_accuracy=[0.5, 0.9, 0.5]), key)
    assert not inner.at_end
    assert math.isnan(inner.beyond)


def test_the_values_that_must_be_below_1_are_those_of_the_reference():
    text = Path(__file__).parents[2].joinpath("docs", "reference.md").read_text("utf-8")
    assert {*numeric.BELOW_ONE} == {*re.findall(r"^\| `([\w.]+)` \|.* and < 1 \|", text, re.MULTILINE)}


def test_smaller_values_are_suggested_too_but_never_0():
    falling = [{"batching.size": size, "val_accuracy": 0.9 - 0.1 * i} for i, size in enumerate((16, 32, 64))]
    assert numeric.optima(trials(falling), "batching.size")[0].beyond == 8
    falling = [{"batching.size": size, "val_accuracy": 0.9 - 0.1 * i} for i, size in enumerate((1, 2, 4))]
    assert math.isnan(numeric.optima(trials(falling), "batching.size")[0].beyond)


def test_the_best_value_is_not_at_the_end_if_the_last_value_diverged():
    runs = rates(seeds=2, values=(0.01, 0.03, 0.1, 10.0), inits=("he",))
    runs.loc[runs["optimizer.lr"] == 10.0, "status"] = "diverged"
    (optimum,) = numeric.optima(runs, "optimizer.lr")
    assert (optimum.best, optimum.at_end, optimum.diverged) == (0.1, False, {10.0: 2})


def test_an_optimum_says_whether_its_networks_learned():
    runs = rates(seeds=3).assign(val_accuracy=0.1)
    assert not any(optimum.learned for optimum in numeric.optima(runs, "optimizer.lr"))
    assert all(optimum.learned for optimum in numeric.optima(rates(), "optimizer.lr"))


# Two axes


def lr_momentum_grid(seeds=2):
    """Return a full grid of learning rates and momenta with its peak at 0.1 and 0.5."""
    return trials([
        {"optimizer.lr": a, "optimizer.momentum": m, "seed": s,
         "val_accuracy": accuracy("he", a, s) - (m - 0.5 - 0.2 * math.log10(a / 0.1)) ** 2}
        for a, m, s in itertools.product(RATES, (0.0, 0.25, 0.5, 0.75), range(seeds))
    ])  # fmt: skip


def test_the_best_values_of_two_factors_are_chosen_jointly():
    best = numeric.at_best(lr_momentum_grid())
    assert best[["best optimizer.lr", "best optimizer.momentum"]].drop_duplicates().to_numpy().tolist() == [
        [0.1, 0.5]
    ]
    rows = numeric.along(lr_momentum_grid(), "optimizer.lr")
    runs = lr_momentum_grid().set_index("trial")
    assert set(runs.loc[rows["trial"], "optimizer.momentum"]) == {0.5}
    assert sorted(rows["at optimizer.lr"].unique()) == sorted(RATES)
    assert len(numeric.along(lr_momentum_grid(), "optimizer.lr", "optimizer.momentum")) == len(
        lr_momentum_grid()
    )


def test_values_drawn_at_random_have_a_best_value_but_no_curve():
    rng = np.random.default_rng(0)
    drawn = zip(10 ** rng.uniform(-2, 0, 30), rng.uniform(0, 1, 30), strict=True)
    runs = trials([
        {"optimizer.lr": a, "optimizer.momentum": m, "val_accuracy": accuracy("he", a) - (m - 0.5) ** 2}
        for a, m in drawn
    ])  # fmt: skip
    top = runs.loc[runs["val_accuracy"].idxmax()]
    best = numeric.at_best(runs)
    assert best["trial"].tolist() == [top["trial"]]
    assert numeric.along(runs, "optimizer.lr").empty
    assert numeric.optima(runs, "optimizer.lr") == []
    assert len(numeric.along(runs, "optimizer.lr", "optimizer.momentum")) == 30


# Other behaviour


def test_each_value_is_compared_once_with_the_best(monkeypatch):
    compared = []
    real = statistics.superiority
    monkeypatch.setattr(statistics, "superiority", lambda a, b: compared.append(len(a)) or real(a, b))
    for many in (10, 40):
        compared.clear()
        numeric.optima(rates(seeds=3, values=tuple(np.geomspace(0.01, 1, many))), "optimizer.lr")
        assert len(compared) == len(PEAKS) * (many - 1)


def test_values_with_the_same_training_are_equally_good():
    """For example, batches of 2,000 and of 4,000 rows out of 1,500 are the same training, which runs once."""
    rng = np.random.default_rng(0)
    values = {16: 0.8, 64: 0.9, 256: 0.7, 1024: 0.9}
    runs = trials([
        {"batching.size": size, "seed": s, "val_accuracy": value + 0.001 * rng.normal()}
        for size, value in values.items()
        for s in range(5)
    ])  # fmt: skip
    for s in range(5):
        first, copy = (
            runs.index[(runs["batching.size"] == size) & (runs["seed"] == s)] for size in (64, 1024)
        )
        runs.loc[copy, "val_accuracy"] = runs.loc[first, "val_accuracy"].to_numpy()
        runs.loc[copy, "identical_to"] = runs.loc[first, "trial"].to_numpy()
    (optimum,) = numeric.optima(runs, "batching.size")
    assert (optimum.best, optimum.near) == (64, [64, 1024])


def test_values_near_the_best_are_those_that_comparing_configurations_does_not_distinguish():
    """With failures, divergences, seeds that a value lacks, and results that a report has shown."""
    rng = np.random.default_rng(1)
    runs = rates(seeds=9, noise=0.004, values=tuple(np.geomspace(0.01, 1, 7)))
    runs.loc[rng.random(len(runs)) < 0.1, ["status", "val_accuracy"]] = ["failed", math.nan]
    runs.loc[rng.random(len(runs)) < 0.03, "status"] = "diverged"
    runs.loc[rng.random(len(runs)) < 0.05, "val_accuracy"] = 0.1
    for shown in (runs, runs.assign(look=(runs["seed"] // 5 + 1).astype("Int64"))):
        for optimum in numeric.optima(shown, "optimizer.lr"):
            cell = shown[shown["init"].astype("str") == optimum.options["init"]]
            lr = cell["optimizer.lr"]
            assert not optimum.diverged.keys() & {optimum.best}
            pairs = comparisons.with_leader(cell[~lr.isin([*optimum.diverged])])
            worse = pairs.loc[pairs["verdict"] == "better", "b"].str.removeprefix("optimizer.lr=").tolist()
            named = {value: f"{value:g}" for value in optimum.tried if value not in optimum.diverged}
            ahead = pairs[(pairs["verdict"] == "open") & (pairs["low"] > 0)].set_index("b")["difference"]
            behind = {value: ahead[f"optimizer.lr={name}"] for value, name in named.items()
                      if f"optimizer.lr={name}" in ahead}  # fmt: skip
            assert optimum.behind == pytest.approx(behind)
            assert optimum.near == [value for value, name in named.items()
                                    if name not in worse and value not in behind]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "log"),
    [
        (np.geomspace(1e-4, 10, 90), True),
        (np.linspace(1, 90, 90), False),
        ((0.01, 0.03, 0.1, 0.3, 1), True),
        ((0, 0.5, 0.9, 0.99), False),
        ((-1, 1, 10), False),
        ((5, 5, 5), False),
    ],
)
def test_an_axis_is_logarithmic_if_its_values_are_spaced_by_ratios(values, log):
    assert numeric.is_log(values) is log


def test_among_drawn_configurations_an_end_is_that_of_all_values_of_the_cell():
    rng = np.random.default_rng(0)
    drawn = [
        {"optimizer.lr": float(f"{10 ** rng.uniform(-4, 0):.3e}"), "batching.size": int(size), "seed": seed}
        for size in rng.integers(1, 4, 60)
        for seed in (0,)
    ]
    peak = [{**row, "val_accuracy": 0.9 - abs(math.log10(row["optimizer.lr"]) + 1) / 10} for row in drawn]
    best = max(peak, key=lambda row: row["val_accuracy"])
    same = [row for row in peak if row["batching.size"] == best["batching.size"]]
    below = [row for row in peak if row not in same or row["optimizer.lr"] <= best["optimizer.lr"]]
    (optimum,) = numeric.optima(trials(below), "optimizer.lr")
    assert optimum.best == best["optimizer.lr"] == optimum.tried[-1]
    assert not optimum.at_end
    assert math.isnan(optimum.beyond)
    (alone,) = numeric.optima(trials([row for row in same if row in below]), "optimizer.lr")
    assert alone.at_end
    assert not math.isnan(alone.beyond)
