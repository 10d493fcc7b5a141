"""The importance of factors where a grid is not full, on frames with known effects."""

import sys

import numpy as np
import optuna
import pandas as pd
import pytest

from fnnexp.reporting.sections import overview
from fnnexp.reporting.sections.by_factor import importance, shares
from fnnexp.results import comparisons, frames
from fnnexp.results.ranking import Ranking
from fnnexp.tracking.run_format import METRICS

ACCURACY = Ranking("val_accuracy")


def drawn(n=60, seeds=2):
    """Return random configurations, in which the learning rate matters most, `init` less and the gain not."""
    chance = np.random.default_rng(0)
    rows = []
    for i in range(n):
        rate, gain, init = 10 ** chance.uniform(-3, 0), chance.uniform(0.5, 2), chance.choice(["he", "max"])
        value = 0.9 - 0.1 * abs(np.log10(rate) + 1.5) - 0.02 * (init == "max")
        rows += [
            {
                "trial": f"{i}-{seed}", "name": f"{i}-s{seed}", "status": "finished", "arch": "relu_100",
                "init": init, "init.gain": gain, "batching": "mini", "optimizer": "sgd", "optimizer.lr": rate,
                "seed": seed, "identical_to": None, "seconds_per_epoch": 1.0, **dict.fromkeys(METRICS, 0.5),
                "val_accuracy": value + chance.normal(0, 1e-3),
            }
            for seed in range(seeds)
        ]  # fmt: skip
    options = ["arch", "init", "batching", "optimizer"]
    return frames.in_order(pd.DataFrame(rows).astype(dict.fromkeys(options, "category")))


def section_of(runs):
    return shares.section(runs, comparisons.findings(runs))


def by_factor(table):
    return dict(zip(table["factor"], table["importance"], strict=True))


def test_importance_ranks_factors_with_known_effects():
    section = section_of(drawn())
    table = section.data["importance"]
    assert [*table["factor"]] == ["optimizer.lr", "init", "init.gain"]
    assert table["importance"].sum() == pytest.approx(1)
    assert table["importance"][0] > 0.6
    assert any("PED-ANOVA (Optuna 5" in text and "among the best 6." in text for text in section.sentences)


def test_importance_is_that_of_optuna_for_the_same_study():
    runs = drawn()
    by = runs.groupby(["init", "init.gain", "optimizer.lr"], observed=True)
    means = by["val_accuracy"].mean().reset_index()
    space = {
        "init": optuna.distributions.CategoricalDistribution(["he", "max"]),
        "init.gain": optuna.distributions.FloatDistribution(runs["init.gain"].min(), runs["init.gain"].max()),
        "optimizer.lr": optuna.distributions.FloatDistribution(
            runs["optimizer.lr"].min(), runs["optimizer.lr"].max(), log=True
        ),
    }
    study = optuna.create_study(direction="maximize")
    for row in means.to_dict("records"):
        value = row.pop("val_accuracy")
        study.add_trial(optuna.trial.create_trial(value=value, params=row, distributions=space))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.1)
    expected = optuna.importance.get_param_importances(study, evaluator=evaluator)
    table, _ = importance.of(runs, ACCURACY)
    assert by_factor(table) == pytest.approx(expected)
    shuffled, _ = importance.of(runs.sample(frac=1, random_state=0), ACCURACY)
    assert by_factor(shuffled) == pytest.approx(expected)


def test_a_diverged_trial_counts_as_the_worst():
    runs = drawn(seeds=1)
    low = runs["val_accuracy"] < runs["val_accuracy"].quantile(0.3)
    worst = runs.assign(val_accuracy=runs["val_accuracy"].mask(low, runs["val_accuracy"][~low].min()))
    diverged = runs.assign(status=runs["status"].mask(low, "diverged"))
    assert by_factor(importance.of(diverged, ACCURACY)[0]) == by_factor(importance.of(worst, ACCURACY)[0])


def test_small_searches_and_equal_results_have_no_importance(recwarn):
    runs = drawn()
    for part in (drawn(15), runs.assign(val_accuracy=0.5), runs.assign(status="failed"), runs[:0]):
        table, about = importance.of(part, ACCURACY)
        assert (len(table), about) == (0, "")
    assert not recwarn.list


def test_without_optuna_the_report_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    section = section_of(drawn())
    assert "importance" not in section.data
    assert any('run pip install "fnnexp[optuna]"' in text for text in section.sentences)


def test_drawn_numbers_do_not_vary_together_and_paired_ones_do():
    runs = drawn(6)
    assert overview.together(runs) == []
    assert overview.has_drawn_numbers(runs)
    order = runs["optimizer.lr"].rank(method="dense")
    paired = runs.assign(**{"init.gain": order})
    (options,) = overview.together(paired)
    assert [*options.columns] == ["init.gain", "optimizer.lr"]
    assert not overview.has_drawn_numbers(paired)
