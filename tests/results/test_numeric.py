"""Numeric factors as axes, on frames made from closed forms whose optima are known."""

import doctest
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fnnexp.results import comparisons, numeric, statistics
from fnnexp.tracking.run_format import METRICS

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
PEAKS = {"max": 0.3, "he": 0.1}
"""The best learning rate of each initializer; the accuracy falls with the square of the decades from it."""


def trials(rows):
    """Return a frame of runs: what each trial has beside what all have."""
    plain = {"arch": "relu_100", "init": "he", "batching": "mini", "optimizer": "sgd", "data": "digits",
             "status": "finished", "identical_to": None, "seconds_per_epoch": 0.1, "classes": 10, "seed": 0,
             "data.validation": 500, **dict.fromkeys(METRICS, 0.5)}  # fmt: skip
    frame = pd.DataFrame([plain | row | {"trial": str(i), "name": str(i)} for i, row in enumerate(rows)])
    choices = dict.fromkeys(("arch", "init", "batching", "optimizer", "data"), "category")
    return frame.astype({**choices, "seed": "Int64", "identical_to": "str"})


def accuracy(init, rate, seed=0, noise=0.0):
    """Return 0.9 less 0.1 for each squared decade from the peak, what the seed adds, and noise."""
    rng = np.random.default_rng([seed, round(1e6 * rate), len(init)])
    return 0.9 - 0.1 * math.log10(rate / PEAKS[init]) ** 2 + 0.002 * seed + noise * rng.normal()


def rates(seeds=4, noise=0.001, values=RATES, inits=tuple(PEAKS), **more):
    return trials([
        {"init": i, "optimizer.lr": v, "seed": s, "val_accuracy": accuracy(i, v, s, noise), **more}
        for i, v, s in itertools.product(inits, values, range(seeds))
    ])  # fmt: skip


# What an axis is


def test_a_factor_is_an_axis_from_three_numbers_on():
    assert numeric.axes_of(rates()) == ["optimizer.lr"]
    assert numeric.axes_of(rates(values=RATES[:2])) == []
    assert numeric.axes_of(rates(values=RATES[:1])) == []
    assert numeric.axes_of(rates()[:0]) == []


def test_a_factor_that_follows_an_option_or_is_no_number_is_no_axis():
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


def test_a_param_below_an_option_is_an_axis_of_that_option_alone():
    sizes = [{"batching": "mini", "batching.size": size} for size in (16, 32, 64)]
    runs = trials([*sizes, {"batching": "full"}])
    laid_out = numeric.layout(runs)
    assert laid_out.axes == ["batching.size"]
    assert "batching.size" not in laid_out.rows
    assert sorted(laid_out.places["batching.size"].dropna()) == [16, 32, 64]
    assert numeric.along(runs, "batching.size")["batching"].unique().tolist() == ["mini"]
    # A value that some trials of one option lack can't be placed.
    assert numeric.axes_of(trials([*sizes, {"batching": "mini"}])) == []


def networks(*shapes, activation="relu"):
    return [
        {"arch": "_".join(map(str, (activation, *hidden))), "arch.hidden": str([*hidden]),
         "arch.activation": activation, "val_accuracy": 0.9 - 1 / sum(hidden)}
        for hidden in shapes
    ]  # fmt: skip


def test_networks_that_differ_in_width_alone_are_one_architecture_on_an_axis():
    one, two = networks((10,), (30,), (100,)), networks((8, 8), (16, 16), (32, 32), activation="tanh")
    others = [*networks((10, 20)), *networks((64,), (32,), activation="sigmoid")]
    laid_out = numeric.layout(trials([*one, *two, *others]))
    assert laid_out.axes == [numeric.WIDTH]
    where = zip(laid_out.rows["arch"].astype("str"), laid_out.places[numeric.WIDTH], strict=True)
    placed = {(arch, width) for arch, width in where if not math.isnan(width)}
    assert placed == {
        *(("relu", width) for width in (10, 30, 100)),
        *(("tanh 2 layers", width) for width in (8, 16, 32)),
    }
    alone = laid_out.rows.loc[laid_out.places[numeric.WIDTH].isna(), "arch"].astype("str")
    assert set(alone) == {"relu_10_20", "sigmoid_64", "sigmoid_32"}
    assert numeric.axes_of(trials(networks((10, 20), (20, 30), (30, 40)))) == []
    assert numeric.axes_of(trials(one).assign(**{"arch.hidden": None})) == []
    best = numeric.at_best(trials(one))
    assert best["best hidden units"].tolist() == [100]


# Each at its own best


def test_each_option_is_at_its_own_known_optimum():
    runs = rates()
    best = numeric.at_best(runs)
    assert best.groupby("init", observed=True)["best optimizer.lr"].unique().map(list).to_dict() == {
        init: [peak] for init, peak in PEAKS.items()
    }
    expected = runs[runs["optimizer.lr"] == runs["init"].astype("str").map(PEAKS)]
    assert set(best["trial"]) == set(expected["trial"])
    assert "optimizer.lr" not in best


def test_a_comparison_of_each_at_its_best_is_one_of_the_options_alone():
    runs = rates(seeds=6)
    found = comparisons.findings(numeric.at_best(runs))
    assert {each.name for each in found.configurations} == {"max", "he"}
    values = runs.set_index(["init", "optimizer.lr", "seed"])["val_accuracy"].sort_index()
    pair = found.with_leader.iloc[0]
    d = values["he", 0.1] - values["max", 0.3]
    assert pair["difference"] == pytest.approx(abs(d.mean()))
    assert pair["p"] == pytest.approx(stats.ttest_rel(values["he", 0.1], values["max", 0.3]).pvalue)
    assert pair["family"] == 1  # and not a pair for each learning rate


def test_options_are_compared_at_their_best_in_every_cell():
    archs = [rates(seeds=2, arch=arch, batching=b) for arch, b in itertools.product("ab", ("full", "mini"))]
    runs = pd.concat(archs, ignore_index=True)
    runs["trial"] = runs["name"] = runs.index.astype("str")
    for axis in ("arch", "batching"):
        runs[axis] = runs[axis].astype("str").astype("category")
    late = (runs["arch"] == "b") & (runs["init"] == "he") & (runs["optimizer.lr"] == 1.0)
    runs.loc[late, "val_accuracy"] = 0.95
    best = numeric.at_best(runs)
    at = best.groupby(["arch", "batching", "init"], observed=True)["best optimizer.lr"].agg(["min", "max"])
    for (arch, _, init), row in at.iterrows():
        expected = 1.0 if (arch, init) == ("b", "he") else PEAKS[init]
        assert row.tolist() == [expected, expected]


def test_of_equal_values_the_smallest_is_the_best_in_any_order_of_rows():
    runs = rates(seeds=2, noise=0.0, inits=("he",))
    for rate, rounding in ((0.03, 0), (0.1, 1e-14), (0.3, 2e-14)):
        runs.loc[runs["optimizer.lr"] == rate, "val_accuracy"] = 0.9 + rounding
    for seed in range(4):
        best = numeric.at_best(runs.sample(frac=1, random_state=seed))
        assert best["best optimizer.lr"].unique().tolist() == [0.03]


def test_a_value_that_diverged_is_the_best_only_where_all_did():
    runs = rates(seeds=3, inits=("he",))
    lost = (runs["optimizer.lr"] == 0.1) & (runs["seed"] == 0)
    runs.loc[lost, "status"] = "diverged"
    near = 0.03 if accuracy("he", 0.03) > accuracy("he", 0.3) else 0.3
    assert numeric.at_best(runs)["best optimizer.lr"].unique().tolist() == [near]
    runs.loc[runs["seed"] == 0, "status"] = "diverged"
    assert numeric.at_best(runs)["best optimizer.lr"].unique().tolist() == [0.1]
    (optimum,) = numeric.optima(runs, "optimizer.lr")
    assert optimum.diverged == dict.fromkeys(RATES, 1)
    assert (optimum.best, optimum.seeds) == (0.1, 2)


def test_values_without_a_result_are_passed_over():
    runs = rates(seeds=2, inits=("he",))
    runs.loc[runs["optimizer.lr"] == 0.1, "status"] = "running"
    assert numeric.at_best(runs)["best optimizer.lr"].unique().tolist() != [0.1]
    runs["status"] = "failed"
    assert set(numeric.at_best(runs)["status"]) == {"failed"}
    assert numeric.optima(runs, "optimizer.lr") == []


def test_without_numeric_factors_a_frame_stays_as_it_is():
    runs = rates(values=RATES[:2])
    assert numeric.at_best(runs) is runs


# The optimum


def told_apart(table, best):
    """Return which columns of seeds × values differ from the best, by SciPy's t tests and Holm's procedure.

    The procedure goes through all pairs of values, or through those with the best alone while the others
    count as larger. The first is what differs at most, the second at least.
    """
    every = list(itertools.combinations(table.columns, 2))
    p = {pair: stats.ttest_rel(*(table[value] for value in pair)).pvalue for pair in every}
    found = []
    for pairs in (every, [pair for pair in every if best in pair]):
        rejected = set()
        for i, pair in enumerate(sorted(pairs, key=p.get)):
            if p[pair] * (len(every) - i) > 0.05:
                break
            rejected.add(pair)
        found.append({value for pair in rejected if best in pair for value in pair} - {best})
    return found


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.03])
def test_the_optimum_and_what_is_not_told_apart_from_it_are_those_of_scipy(noise):
    runs = rates(seeds=6, noise=noise, values=tuple(np.geomspace(0.01, 1, 13)))
    found = numeric.optima(runs, "optimizer.lr")
    assert [each.options for each in found] == [{"init": "he"}, {"init": "max"}]
    for each in found:
        mine = runs[runs["init"] == each.options["init"]]
        table = mine.pivot_table(index="seed", columns="optimizer.lr", values="val_accuracy")
        best = table.mean().idxmax()
        assert each.best == best
        assert each.tried == list(table.columns)
        most, least = told_apart(table, best)
        assert least <= {*table.columns} - {*each.near} <= most
        here = table[best]
        interval = stats.t.interval(0.95, 5, here.mean(), stats.sem(here))
        assert (each.seeds, each.mean) == (6, pytest.approx(here.mean()))
        assert (each.low, each.high) == pytest.approx((interval[0], min(interval[1], 1)))


def test_neighbours_that_are_not_told_apart_are_ranges():
    optimum = numeric.Optimum({}, [1, 2, 3, 4, 5, 6], 2, 3, True, 0.9, 0.8, 1.0, [1, 2, 4, 5], {}, math.nan)
    assert optimum.ranges == [(1, 2), (4, 5)]
    assert not optimum.at_end
    assert optimum._replace(best=6).at_end


def test_one_seed_has_a_best_value_and_no_interval():
    for each in numeric.optima(rates(seeds=1, noise=0.0), "optimizer.lr"):
        assert each.best == PEAKS[each.options["init"]]
        assert each.near == each.ranges == []
        assert math.isnan(each.low)


@pytest.mark.parametrize(
    ("key", "values", "beyond"),
    [
        ("optimizer.lr", (0.01, 0.03, 0.1), 0.3),
        ("optimizer.lr", (0.001, 0.01, 0.1), 1.0),
        ("batching.size", (16, 32, 64), 128.0),
        ("epochs", (1, 3, 10), 30.0),
        ("epochs", (10, 20, 30), math.nan),  # not spaced by ratios
        ("optimizer.momentum", (0.1, 0.3, 0.9), math.nan),  # would be above 1
    ],
)
def test_at_the_end_of_what_was_tried_the_next_step_is_named(key, values, beyond):
    runs = trials([{key: v, "val_accuracy": 0.5 + 0.1 * i} for i, v in enumerate(values)])
    (optimum,) = numeric.optima(runs, key)
    assert (optimum.best, optimum.at_end) == (values[-1], True)
    assert optimum.beyond == pytest.approx(beyond, nan_ok=True)
    (inner,) = numeric.optima(runs.assign(val_accuracy=[0.5, 0.9, 0.5]), key)
    assert not inner.at_end
    assert math.isnan(inner.beyond)


def test_the_steps_down_are_named_too_and_never_reach_zero():
    falling = [{"batching.size": size, "val_accuracy": 0.9 - 0.1 * i} for i, size in enumerate((16, 32, 64))]
    assert numeric.optima(trials(falling), "batching.size")[0].beyond == 8
    falling = [{"batching.size": size, "val_accuracy": 0.9 - 0.1 * i} for i, size in enumerate((1, 2, 4))]
    assert math.isnan(numeric.optima(trials(falling), "batching.size")[0].beyond)


def test_where_the_last_value_diverged_the_best_is_not_at_the_end():
    runs = rates(seeds=2, values=(0.01, 0.03, 0.1, 10.0), inits=("he",))
    runs.loc[runs["optimizer.lr"] == 10.0, "status"] = "diverged"
    (optimum,) = numeric.optima(runs, "optimizer.lr")
    assert (optimum.best, optimum.at_end, optimum.diverged) == (0.1, False, {10.0: 2})


def test_networks_that_did_not_learn_are_told():
    runs = rates(seeds=3).assign(val_accuracy=0.1)
    assert not any(each.learned for each in numeric.optima(runs, "optimizer.lr"))
    assert all(each.learned for each in numeric.optima(rates(), "optimizer.lr"))


# Two axes


def two(seeds=2):
    """Return a full grid of learning rates and momenta with its peak at 0.1 and 0.5."""
    return trials([
        {"optimizer.lr": a, "optimizer.momentum": m, "seed": s,
         "val_accuracy": accuracy("he", a, s) - (m - 0.5 - 0.2 * math.log10(a / 0.1)) ** 2}
        for a, m, s in itertools.product(RATES, (0.0, 0.25, 0.5, 0.75), range(seeds))
    ])  # fmt: skip


def test_of_two_factors_the_best_is_that_of_both_together():
    best = numeric.at_best(two())
    assert best[["best optimizer.lr", "best optimizer.momentum"]].drop_duplicates().to_numpy().tolist() == [
        [0.1, 0.5]
    ]
    rows = numeric.along(two(), "optimizer.lr")
    whole = two().set_index("trial")
    assert set(whole.loc[rows["trial"], "optimizer.momentum"]) == {0.5}
    assert sorted(rows["at optimizer.lr"].unique()) == sorted(RATES)
    assert len(numeric.along(two(), "optimizer.lr", "optimizer.momentum")) == len(two())


def test_values_drawn_at_random_have_a_best_and_no_line():
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


# The rest


def test_each_value_is_compared_once_with_the_best_however_many_there_are(monkeypatch):
    compared = []
    real = statistics.superiority
    monkeypatch.setattr(statistics, "superiority", lambda a, b: compared.append(len(a)) or real(a, b))
    for many in (10, 40):
        compared.clear()
        numeric.optima(rates(seeds=3, values=tuple(np.geomspace(0.01, 1, many))), "optimizer.lr")
        assert len(compared) == len(PEAKS) * (many - 1)


def test_values_that_are_the_same_training_are_as_good():
    """As batches of 2,000 and of 4,000 rows are, of 1,500: the one is not trained again."""
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
def test_an_axis_is_logarithmic_where_its_values_are_spaced_by_ratios(values, log):
    assert numeric.is_log(values) is log


def test_the_examples_run():
    assert doctest.testmod(numeric).failed == 0
