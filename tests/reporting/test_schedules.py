"""The report draws the learning rates of trials with a schedule, from their params."""

import numpy as np
import pandas as pd
import pytest

from fnnexp.nn.pieces.schedules import Schedule
from fnnexp.reporting.sections import schedules

CONSTANT = {"schedule": None, "optimizer.lr": 0.1, "epochs": 4}
COSINE = CONSTANT | {
    "schedule": "cosine",
    "schedule.name": "cosine",
    "schedule.end": 0.0,
    "schedule.warmup": 1.0,
}


def test_constant_learning_rates_are_not_drawn():
    assert schedules.sections(pd.DataFrame([CONSTANT])) == []
    assert schedules.sections(pd.DataFrame([CONSTANT | {"epochs": 0}])) == []


def test_each_distinct_learning_rate_is_drawn_once():
    runs = pd.DataFrame([CONSTANT, COSINE, COSINE, COSINE | {"optimizer.lr": 0.2}])
    cosine = Schedule("cosine", (("end", 0.0),), 1.0)
    assert schedules.learning_rates_of(runs) == {
        "constant lr=0.1": (0.1, Schedule("constant"), 4),
        "cosine end=0 warmup=1 lr=0.1": (0.1, cosine, 4),
        "cosine end=0 warmup=1 lr=0.2": (0.2, cosine, 4),
    }
    (section,) = schedules.sections(runs)
    assert [figure.name for figure in section.figures] == ["learning_rate"]
    values = section.figures[0].data
    own = values[(values["schedule"] == "cosine end=0 warmup=1 lr=0.2") & (values["epoch"] >= 1)]
    passed = (own["epoch"] - 1) / 3  # the share of the time between the warm-up and the end
    assert own["lr"].tolist() == pytest.approx(0.1 * (1 + np.cos(np.pi * passed)), abs=0.002)
