"""What figures draw and what their captions say, for frames of made-up results."""

import numpy as np
import pandas as pd
import pytest

from fnnexp.reporting.plots.from_leader import from_leader
from fnnexp.results import comparisons
from fnnexp.results.ranking import ranking_of
from fnnexp.tracking.run_format import METRICS

OPTIONS = {"arch": "relu_100", "init": "he", "batching": "mini", "optimizer": "sgd", "data": "digits"}


def trials(*configurations, seeds=3, noise=0.002, **shared):
    """Return the frame of the trials of some configurations; each has its options and a `val_accuracy`."""
    rng, rows = np.random.default_rng(0), []
    for configuration in configurations:
        for seed in range(seeds):
            row = {"status": "finished", "identical_to": None, "stopped_epoch": None, **OPTIONS,
                   "optimizer.lr": 0.1, "seed": seed, "epochs": 2, "data.validation": 500,
                   "diverged_epoch": None, "error": None, "look": 1, "seconds_per_epoch": 0.1,
                   **dict.fromkeys(METRICS, 0.5), **shared, **configuration}  # fmt: skip
            row["val_accuracy"] += noise * rng.normal()
            name = f"{configuration}-{seed}"
            rows.append({"trial": name, "name": name, **row})
    return pd.DataFrame(rows).astype({"seed": "Int64", **dict.fromkeys(OPTIONS, "category")})


def leader_figure(*configurations, **options):
    runs = trials(*configurations, **options)
    return from_leader(comparisons.findings(runs, ranking_of(runs)))


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_a_configuration_that_did_not_learn_is_at_the_edge_with_its_difference():
    learned = [{"init": "he", "val_accuracy": 0.95}, {"init": "max", "val_accuracy": 0.94}]
    failed = {"init": "zeros", "val_accuracy": 0.1}
    diverged = {"init": "normal", "val_accuracy": np.nan, "status": "diverged"}
    figure, caption = leader_figure(*learned, failed, diverged)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["he", "max", "zeros", "normal"]
    written, without = texts(figure)
    number = written.removesuffix(" points: did not learn").replace("−", "-")
    assert float(number) == pytest.approx(10 - 95, abs=0.5)
    assert without == "no trial finished"
    assert ax.get_xlim()[0] > -5  # the others can be told apart
    assert "beyond the edge, where its difference is written" in caption
    assert ax.get_title("left") == ax.get_title("right") == ""  # nothing is "not drawn"
    marks = [mark for mark in figure.drawn if mark.options == {"init": "zeros"}]
    assert [mark.x[0] for mark in marks] == [pytest.approx(-85, abs=0.5)]


def test_the_caption_of_the_answer_explains_only_what_is_drawn():
    options = [{"init": init, "val_accuracy": 0.9} for init in ("he", "max")]
    for seeds, arrows in ((6, False), (2, True)):  # two seeds give wide intervals
        figure, caption = leader_figure(*options, seeds=seeds, noise=0.02)
        assert (len(figure.axes[0].collections) > 0) == arrows
        assert ("An arrow marks an interval that is cut." in caption) == arrows
        assert "edge" not in caption
        assert "shaded band" in caption
