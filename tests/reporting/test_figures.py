"""What figures draw and what their captions say, for frames of made-up results."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from fnnexp.reporting.plots import layers
from fnnexp.reporting.plots.curves import curves as draw_curves
from fnnexp.reporting.plots.from_leader import from_leader
from fnnexp.reporting.plots.picture import Picture
from fnnexp.reporting.plots.scales import share_value_axis, share_y_axis
from fnnexp.reporting.sections.layers import best_archs
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


def by_epoch(runs):
    """Return curves that end at the results of the runs."""
    rows = [
        {"trial": trial, "metric": "val_accuracy", "epoch": epoch, "value": value - 0.1 * (3 - epoch)}
        for trial, value in zip(runs["trial"], runs["val_accuracy"], strict=True)
        for epoch in (1, 2, 3)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_two_seeds_are_drawn_as_lines_and_more_have_intervals(seeds):
    runs = trials({"val_accuracy": 0.6}, seeds=seeds, noise=0.02)
    curves = by_epoch(runs)
    figure = draw_curves(runs, curves, "val_accuracy")
    (ax,) = figure.axes
    drawn = {tuple(np.round(line.get_ydata(), 12)) for line in ax.lines}
    own = {tuple(np.round(part.sort_values("epoch")["value"], 12)) for _, part in curves.groupby("trial")}
    assert len(ax.collections) == (seeds == 3)  # a band
    assert (own <= drawn) == (seeds < 3)
    notes = " ".join(figure.notes)
    assert ("the results of both seeds" in notes) == (seeds == 2)
    assert ("95% interval" in notes) == (seeds == 3)


@pytest.mark.parametrize("values", [[*range(2, 66, 4)], [0.3121, 0.3122, 0.31234567], [*range(100, 230, 10)]])
def test_an_axis_of_values_has_no_ticks_beyond_the_values(values):
    ax = Picture().subplots()
    share_value_axis([ax], values)
    ticks = ax.get_xticks()
    assert len(ticks)
    assert min(values) <= min(ticks) <= max(ticks) <= max(values)


def test_a_band_on_a_logarithmic_axis_ends_above_zero_and_a_line_at_zero():
    rows = [
        {"arch": "a", "layer": 1, "batching": "mini", "init": "he", "quantity": "update_ratio",
         "epoch": epoch, "mean": mean, "low": 0.0, "high": 2 * mean}
        for epoch, mean in enumerate([0.2, 0.1, 0.0, 0.0], start=1)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).astype(dict.fromkeys(("arch", "batching", "init"), "category"))
    figure = layers.by_epoch(frame, "update ratio", log=True)
    (ax,) = figure.axes
    assert np.nanmin(ax.lines[0].get_ydata()) == 0.1
    (band,) = (path.vertices[:, 1] for path in ax.collections[0].get_paths())
    assert (band.min(), band.max()) == (0.1, 0.4)
    (shown,) = figure.drawn
    assert shown.y == [0.2, 0.1]


def test_the_layers_of_many_architectures_are_drawn_for_those_with_the_best_trials():
    archs = [f"relu_{2**i}" for i in range(6)]
    runs = trials(*({"arch": arch, "val_accuracy": 0.5 + 0.05 * i} for i, arch in enumerate(archs)))
    drawn, (sentence,) = best_archs(runs, ranking_of(runs))
    assert drawn == archs[:1:-1]
    assert sentence.startswith("The figures show the 4 of 6 architectures with the best trials.")
    few = runs[runs["arch"].isin(archs[:4])]
    assert best_archs(few, ranking_of(few)) == (archs[:4], [])


@pytest.mark.parametrize("seeds", [2, 3])
def test_wide_intervals_of_accuracies_are_cut_but_results_are_not(seeds):
    """The interval of three seeds ends at three times the odds of the best mean; two seeds are results."""
    points = pd.DataFrame({"mean": [0.5, 0.9], "low": [0.01, 0.88], "high": [0.99, 0.92], "count": seeds})
    ax = Figure().subplots()
    notes = share_y_axis([ax], points)
    low, high = ax.get_ylim()
    if seeds == 2:
        assert (low < 0.01, high > 0.99, notes) == (True, True, [])
        return
    assert 0.2 < low < 0.25  # odds of 1 / 3
    assert 27 / 28 < high < 0.98  # odds of 27
    assert notes == ["Wide intervals are cut."]
