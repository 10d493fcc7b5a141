"""Means over seeds of trials that stopped early, compared with means computed by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fnnexp.reporting import averages
from fnnexp.tracking.run_format import METRICS

LAST = {("he", 0): 5, ("he", 1): 2, ("he", 2): 3, ("max", 0): 4, ("max", 1): 3}
"""The last epoch by initializer and seed; epochs=5, so one trial ran to the end."""


def value(init, seed, epoch):
    return 0.5 + 0.05 * epoch + 0.01 * seed + 0.1 * (init == "he")


@pytest.fixture
def runs():
    rows = [
        {
            "trial": f"{init}{seed}", "name": f"{init}{seed}", "status": "finished", "arch": "relu_100",
            "init": init, "batching": "mini", "optimizer": "sgd", "data": "digits", "seed": seed, "epochs": 5,
            "seconds_per_epoch": 2.0, "identical_to": None, "stopped_epoch": None if last == 5 else last,
            **dict.fromkeys(METRICS, value(init, seed, last)),
        }
        for (init, seed), last in LAST.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"stopped_epoch": "Int64", "epochs": "Int64"})


@pytest.fixture
def curves():
    rows = [
        {
            "trial": f"{init}{seed}",
            "epoch": epoch,
            "metric": "val_accuracy",
            "value": value(init, seed, epoch),
        }
        for (init, seed), last in LAST.items()
        for epoch in range(1, last + 1)
    ]
    return pd.DataFrame(rows).astype({"epoch": "Int64"})


def test_a_trial_that_stopped_early_keeps_its_last_value_to_the_end_of_its_line(runs, curves):
    points = averages.of_curves(runs, curves.sample(frac=1, random_state=0), "val_accuracy")
    for init, seeds, ends in (("he", 3, 5), ("max", 2, 4)):
        line = points[points["init"].astype("str") == init]
        assert line["epoch"].to_list() == list(range(1, ends + 1))
        assert line["count"].to_list() == [seeds] * ends
        expected = [
            np.mean([value(init, seed, min(epoch, LAST[init, seed])) for seed in range(seeds)])
            for epoch in range(1, ends + 1)
        ]
        np.testing.assert_allclose(line["mean"], expected)
        # A line ends at the mean of the values that rank.
        ranked = runs.loc[runs["init"] == init, "val_accuracy"].mean()
        assert line["mean"].iloc[-1] == pytest.approx(ranked)


def test_trials_that_did_not_stop_early_are_not_continued(runs, curves):
    """As in a frame that an older version wrote, or of trials that still run."""
    for frame in (runs.drop(columns="stopped_epoch"), runs.assign(stopped_epoch=pd.NA)):
        points = averages.of_curves(frame, curves, "val_accuracy")
        assert points.loc[points["init"].astype("str") == "he", "count"].to_list() == [3, 3, 2, 1, 1]


def test_the_time_of_a_trial_that_stopped_early_ends_where_it_stopped(runs):
    ends = averages.of_ends(runs, "val_accuracy").set_index("init")
    assert ends.loc["he", "time"] == pytest.approx(2.0 * (5 + 2 + 3) / 3)
    assert ends.loc["max", "time"] == pytest.approx(2.0 * (4 + 3) / 2)
