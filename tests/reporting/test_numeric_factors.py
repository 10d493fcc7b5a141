"""The report on numeric factors: its lines, maps and best values, compared with the frame."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from boxes import assert_legible
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Blank
from scipy import stats

from fnnexp.reporting import figures, write
from fnnexp.reporting.document.blocks import TERMINAL, Figure, Table, Text
from fnnexp.reporting.plots import over_values, scales, style
from fnnexp.reporting.sections import curves, leaderboard, summary
from fnnexp.reporting.sections.by_factor import architecture as by_architecture
from fnnexp.reporting.sections.by_factor import numeric_factors
from fnnexp.results import frames, numeric
from fnnexp.tracking.run_format import METRICS

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
PEAKS = {"max": 0.3, "he": 0.1}
"""The best learning rate of each initializer; accuracy falls with the squared distance in decades."""


def sweep(values=RATES, seeds=3, momenta=(None,), archs=("relu_100",), batchings=("mini",), noise=0.001):
    """Return a frame of runs over learning rates and, optionally, momenta."""
    rng = np.random.default_rng(0)
    rows = []
    for a, b, i, lr, m, s in itertools.product(archs, batchings, PEAKS, values, momenta, range(seeds)):
        value = 0.9 - 0.1 * math.log10(lr / PEAKS[i]) ** 2 - ((m or 0.5) - 0.5) ** 2 + noise * rng.normal()
        name = f"{a}-{i}-{b}-{lr}-{m}-s{s}"
        rows.append({
            "run_id": name, "trial": name, "name": name, "status": "finished", "identical_to": None,
            "arch": a, "init": i, "batching": b, "optimizer": "sgd", "data": "digits", "seed": s,
            "optimizer.lr": lr, **({} if m is None else {"optimizer.momentum": m}), "epochs": 2,
            "data.validation": 500, "test_images": 360, "classes": 10, "seconds_per_epoch": 0.1,
            "diverged_epoch": None, "error": None, **dict.fromkeys(METRICS, 0.5), "val_accuracy": value,
            "test_accuracy": value - 0.01,
        })  # fmt: skip
    runs = pd.DataFrame(rows)
    for axis in ("arch", "init", "batching", "optimizer", "data"):
        runs[axis] = runs[axis].astype(pd.CategoricalDtype(list(dict.fromkeys(runs[axis])), ordered=True))
    return runs.astype({"seed": "Int64", "identical_to": "str"})


def curves_of(runs):
    """Return curves of two epochs that end with the results of the trials."""
    parts = [
        runs[["trial"]].assign(epoch=epoch, metric=metric, value=runs[metric] * epoch / 2)
        for epoch in (1, 2)
        for metric in ("val_accuracy", "val_loss")
    ]
    return pd.concat(parts, ignore_index=True).astype({"epoch": "Int64"})


NO_DIAGNOSTICS = pd.DataFrame(columns=["trial", "epoch", "layer", "quantity", "value"])


def report(runs, tmp_path):
    """Return the report on a frame as a document, and its files."""
    whole = frames.ExperimentFrames(runs, curves_of(runs), NO_DIAGNOSTICS)
    document = write.make("rates", [], whole, f"sqlite:///{tmp_path}/none.db")
    return document, write.write_files(document, tmp_path / "report", "report")


def texts(section):
    return [block.text for block in section.blocks if isinstance(block, Text)]


# The page


def test_a_report_has_as_many_figures_for_ninety_values_as_for_three(tmp_path):
    few, _ = report(sweep(RATES[:3], seeds=2), tmp_path)
    many, files = report(sweep(np.geomspace(0.01, 1, 90).round(5), seeds=2), tmp_path)
    assert [figure.name for figure in many.figures] == [figure.name for figure in few.figures]
    assert len(files) <= 25
    assert sum(file.stat().st_size for file in files if file.name == "report.html") <= 5e6
    names = {file.name for file in files}
    assert {"by_optimizer.lr.svg", "by_optimizer.lr.png", "optima.csv"} <= names


def test_each_axis_has_a_section_and_pairs_of_axes_have_one_together():
    titles = [section.title for section in numeric_factors.sections(sweep(momenta=(0.25, 0.5, 0.75)))]
    assert titles == ["By optimizer.lr", "By optimizer.momentum", "By two numeric factors"]
    assert [section.title for section in numeric_factors.sections(sweep())] == ["By optimizer.lr"]
    assert numeric_factors.sections(sweep(RATES[:2])) == []


def test_other_figures_show_each_option_at_its_own_best_value_and_say_so():
    runs = sweep(batchings=("full", "mini"))
    drawn = []
    drawing = figures.Drawing("any", "", lambda trials: drawn.append(trials))
    figures.of_finished_trials(runs, [drawing])
    (trials,) = drawn  # a single figure instead of one per learning rate
    at_peak = runs[runs["optimizer.lr"] == runs["init"].astype("str").map(PEAKS)]
    assert set(trials["trial"]) == set(at_peak["trial"])
    section = curves.section(runs, curves_of(runs))
    assert texts(section) == ["Each option is shown at its own best optimizer.lr."]
    assert len(section.figures) == 2


def test_the_table_shows_the_best_values_and_the_file_all_values():
    runs = sweep()
    section = by_architecture.section(runs)
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    shown = {row[1].text: row[2].text for row in table.rows}
    for init, peak in PEAKS.items():
        values = runs.loc[(runs["init"] == init) & (runs["optimizer.lr"] == peak), "val_accuracy"]
        assert shown[init] == f"{100 * values.mean():.2f} ± {100 * values.std():.2f} at {peak}"
    assert len(section.data["table"]) == len(RATES) * len(PEAKS)


def test_there_are_no_tables_of_one_cell_where_only_other_factors_vary():
    runs = sweep(values=(0.1, 0.3), momenta=(0.5, 0.9))
    assert by_architecture.section(runs).blocks
    one = by_architecture.section(runs[runs["init"] == "he"])
    assert (one.blocks, len(one.data["table"])) == ([], 4)


def test_a_long_leaderboard_is_cut_and_names_the_file_with_all_rows():
    section = leaderboard.section(sweep(np.geomspace(0.01, 1, 30).round(5), seeds=2))
    table, *_ = section.blocks
    assert len(table.rows) == leaderboard.MOST_SHOWN == 40
    assert (
        table.rest == "The first 40 of 60 rows are shown; leaderboard.csv has all."
    )  # terminals count 60 too
    board = section.data["leaderboard"]
    assert len(board) == 60
    assert [row[1].text for row in table.rows] == [f"{lr:g}" for lr in board["optimizer.lr"][:40]]
    assert "leaderboard.csv" not in " ".join(texts(leaderboard.section(sweep())))


# The lines


def drawn_in(ax):
    """Return the lines of a panel, the markers of best values, and the crosses of diverged trials."""
    lines = [line for line in ax.lines if line.get_fillstyle() == "none" and line.get_color() != style.INK]
    plain = [line for line in lines if line.get_marker() != "x"]
    best = [line for line in ax.lines if line.get_fillstyle() == "full"]
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    return plain, best, crosses


def test_lines_bands_and_best_values_agree_with_the_frame():
    runs = sweep(noise=0.01)
    figure = over_values.lines(numeric.along(runs, "optimizer.lr"), "val_accuracy", "optimizer.lr")
    assert_legible(figure)
    (ax,) = figure.axes
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "optimizer.lr", "val accuracy %")
    plain, best, crosses = drawn_in(ax)
    bands = [each for each in ax.collections if isinstance(each, PolyCollection)]
    for init, line, mark, band in zip(PEAKS, plain, best, bands, strict=True):
        grouped = runs[runs["init"] == init].groupby("optimizer.lr")["val_accuracy"]
        assert line.get_xdata() == pytest.approx(RATES)
        assert line.get_ydata() == pytest.approx(grouped.mean())
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx(
            (grouped.mean().idxmax(), grouped.mean().max())
        )
        corners = band.get_paths()[0].vertices
        for rate, values in grouped:
            low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
            ends = corners[np.isclose(corners[:, 0], rate), 1]
            assert (ends.min(), ends.max()) == pytest.approx((low, high))
    assert [line.get_xdata().tolist() for line in crosses] == [[], []]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    entries = dict(zip(names, legend.legend_handles, strict=True))
    circles = [line for line in ax.lines if line.get_color() == style.INK]
    assert [line.get_xydata().tolist() for line in circles] == [line.get_xydata().tolist() for line in best]
    for circle in circles:  # the legend shows what is drawn
        for look in ("get_marker", "get_markersize", "get_fillstyle", "get_color"):
            assert getattr(circle, look)() == getattr(entries["best"], look)()


def test_the_line_of_one_seed_has_no_band():
    figure = over_values.lines(numeric.along(sweep(seeds=1), "optimizer.lr"), "val_accuracy", "optimizer.lr")
    assert not [each for each in figure.axes[0].collections if isinstance(each, PolyCollection)]
    assert len(drawn_in(figure.axes[0])[0]) == 2


def test_diverged_trials_are_marked_at_the_bottom_and_not_averaged():
    runs = sweep()
    diverged = (runs["optimizer.lr"] == 1.0) & ((runs["seed"] == 0) | (runs["init"] == "max"))
    runs.loc[diverged, "status"] = "diverged"
    runs.loc[diverged, "val_accuracy"] = 0.0  # a value recorded before the trial diverged
    figure = over_values.lines(numeric.along(runs, "optimizer.lr"), "val_accuracy", "optimizer.lr")
    plain, _, crosses = drawn_in(figure.axes[0])
    assert [line.get_xdata().tolist() for line in crosses] == [[1.0], [1.0]]
    assert all(0 < y < 0.2 for line in crosses for y in line.get_ydata())  # share of the panel height
    line_of_max, line_of_he = plain
    assert line_of_max.get_xdata() == pytest.approx(RATES[:-1])  # no seed finished at the last rate
    finished = runs[(runs["init"] == "he") & (runs["optimizer.lr"] == 1.0) & ~diverged]
    assert line_of_he.get_ydata()[-1] == pytest.approx(finished["val_accuracy"].mean())
    assert "diverged" in {text.get_text() for text in figure.legends[0].get_texts()}
    assert "4 trials diverged, at optimizer.lr 1; " in " ".join(texts(numeric_factors.sections(runs)[0]))


def test_panels_are_laid_out_as_in_the_other_figures():
    runs = sweep(archs=("relu_100", "tanh_128"), batchings=("full", "mini"))
    figure = over_values.lines(numeric.along(runs, "optimizer.lr"), "val_accuracy", "optimizer.lr")
    assert_legible(figure)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["full", "mini"] * 2
    assert [text.get_text() for text in figure.texts] == ["relu_100", "tanh_128"]


def test_nothing_is_drawn_if_no_trial_finished():
    runs = sweep().assign(status="failed")
    assert over_values.lines(numeric.along(runs, "optimizer.lr"), "val_accuracy", "optimizer.lr") is None
    (section,) = numeric_factors.sections(runs)
    assert texts(section) == ["No line is drawn, because no trial has finished."]


def test_a_factor_without_a_line_points_to_its_map():
    """Three momenta were tried, but only one of them at the best learning rate."""
    runs = sweep(values=(0.01, 0.03, 0.1), momenta=(0.25, 0.5, 0.75))
    best_rate_only = (runs["optimizer.lr"] == 0.1) & (runs["optimizer.momentum"] != 0.5)
    runs = runs[~best_rate_only].reset_index(drop=True)
    *_, of_momentum, of_both = numeric_factors.sections(runs)
    assert texts(of_momentum) == [
        "No line is drawn: no configuration has three values of this factor with every other numeric factor "
        f"at its best value. Under '{of_both.title}' a map shows its other values."
    ]


def test_a_factor_without_a_line_has_a_point_for_each_configuration():
    """As after search=random: no two configurations have a value in common."""
    runs = sweep(values=np.geomspace(0.01, 1, 7), momenta=np.linspace(0.1, 0.9, 7))
    drawn = [int(7 * math.log(rate / 0.01) / math.log(100.1)) for rate in runs["optimizer.lr"]]
    runs = runs[runs["optimizer.momentum"] == np.linspace(0.1, 0.9, 7)[drawn]].reset_index(drop=True)
    figure = over_values.dots(numeric.at_all_values(runs), "val_accuracy", "optimizer.lr")
    assert_legible(figure)
    points = {tuple(point) for line in figure.axes[0].lines for point in line.get_xydata()}
    cells = runs.groupby(["init", "optimizer.lr"], observed=True)["val_accuracy"].mean()
    expected = sorted((rate, mean) for (_, rate), mean in cells.items())
    assert np.array(sorted(points)) == pytest.approx(np.array(expected))
    failed = runs.assign(status="failed")
    assert over_values.dots(numeric.at_all_values(failed), "val_accuracy", "optimizer.lr") is None


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        ((0.01, 0.03, 0.1), "log", [0.01, 0.03, 0.1]),
        ((0.0, 0.25, 0.5, 1.0), "linear", [0.0, 0.25, 0.5, 1.0]),
        ((0.0, 1e-5, 1e-4, 1e-3, 1e-2), "function", [0.0, 1e-5, 1e-4, 1e-3, 1e-2]),
        (np.geomspace(1e-6, 1e-3, 50), "log", [1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3]),
    ],
)
def test_ticks_are_at_all_of_few_values_and_at_round_values_of_many(values, scale, ticks):
    ax = Blank().add_subplot()
    scales.share_value_axis([ax], list(values))
    assert ax.get_xscale() == scale
    assert list(ax.get_xticks()) == pytest.approx(ticks)
    if scale == "function":
        pixels = ax.transData.transform([(tick, 0.0) for tick in ticks])[:, 0]
        assert np.diff(pixels) == pytest.approx((pixels[-1] - pixels[0]) / 4)  # equal steps, also from 0


# The map


def test_a_map_of_few_values_shows_their_means_and_frames_the_best():
    runs = sweep(momenta=(0.25, 0.5, 0.75))
    rows = numeric.along(runs, "optimizer.lr", "optimizer.momentum")
    figure = over_values.plane(rows, "val_accuracy", "optimizer.lr", "optimizer.momentum")
    figure.draw_without_rendering()
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(PEAKS)
    for ax, (init, peak) in zip(figure.axes, PEAKS.items(), strict=True):
        means = (
            runs[runs["init"] == init].groupby(["optimizer.momentum", "optimizer.lr"])["val_accuracy"].mean()
        )
        cells = [f"{100 * means[m, lr]:.1f}" for m in (0.75, 0.5, 0.25) for lr in RATES]  # from top to bottom
        assert [text.get_text() for text in ax.texts] == cells
        frame = ax.patches[-1]
        assert (frame.get_x(), frame.get_y()) == (RATES.index(peak), 1)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [
        "0.01",
        "0.03",
        "0.1",
        "0.3",
        "1",
    ]


@pytest.mark.parametrize("many", [False, True])
def test_heat_maps_of_several_combinations_share_their_shades(many):
    rates = np.geomspace(0.01, 1, 20).round(5) if many else RATES
    better = sweep(rates, seeds=1, momenta=(0.25, 0.5, 0.75))
    worse = better.assign(optimizer="adam", val_accuracy=better["val_accuracy"] - 0.3)
    worse[["run_id", "trial", "name"]] += "-adam"
    runs = pd.concat([better.assign(optimizer="sgd"), worse], ignore_index=True)
    runs["optimizer"] = runs["optimizer"].astype(pd.CategoricalDtype(["sgd", "adam"], ordered=True))
    lightest, darkest = (to_hex(style.shade(depth)[0]) for depth in (0.0, 1.0))
    for section in (by_architecture.section(runs), numeric_factors.sections(runs)[-1]):
        sgd, adam = (_shades(block.svg) for block in section.blocks if isinstance(block, Figure))
        assert (darkest in sgd, lightest in sgd) == (True, False)
        assert (darkest in adam, lightest in adam) == (False, True)


def _shades(svg):
    """Return the colours that fill the shapes of a figure, without its legend."""
    return {*re.findall(r"fill: var\(--s\d+, (#[0-9a-f]{6})\)", svg.partition('id="legend')[0])}


def test_a_map_of_many_values_has_a_point_for_each_pair_of_values():
    runs = sweep(np.geomspace(0.01, 1, 20).round(5), seeds=1, momenta=(0.25, 0.5, 0.75))
    rows = numeric.along(runs, "optimizer.lr", "optimizer.momentum")
    figure = over_values.plane(rows, "val_accuracy", "optimizer.lr", "optimizer.momentum")
    assert_legible(figure)
    for ax, init in zip(figure.axes, PEAKS, strict=True):
        trials = runs[runs["init"] == init]
        points = {tuple(point) for point in ax.collections[0].get_offsets().tolist()}
        assert points == {*zip(trials["optimizer.lr"], trials["optimizer.momentum"], strict=True)}
        top = trials.loc[trials["val_accuracy"].idxmax()]
        ring = ax.lines[0]
        assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (top["optimizer.lr"], top["optimizer.momentum"])
    sentence = texts(numeric_factors.sections(runs)[-1])[0]
    assert sentence.startswith("max is best at optimizer.lr=")
    assert sentence.count("and optimizer.momentum=0.5.") == 2


# The sentences


def test_the_sentences_name_best_values_and_values_that_may_be_as_good():
    (section,) = numeric_factors.sections(sweep(seeds=6))
    assert texts(section)[0] == (
        "max is best at optimizer.lr=0.3 (significantly better than the 4 other values). "
        "he is best at optimizer.lr=0.1 (significantly better than the 4 other values)."
    )
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert [[cell.text for cell in row[:3]] for row in table.rows] == [
        ["max", "0.3", "0.3"],
        ["he", "0.1", "0.1"],
    ]
    noisy = sweep(seeds=3, noise=0.2)
    optima = numeric.optima(noisy, "optimizer.lr")
    assert all(len(each.near) > 1 for each in optima)
    (section,) = numeric_factors.sections(noisy)
    assert "cannot be told apart)" in texts(section)[0]
    (short,) = (block.text for block in section.blocks if isinstance(block, Text) and block.media == TERMINAL)
    ranges = [text.split("(")[1].split(" cannot")[0] for text in texts(section)[0].split(". ")]
    assert short == (
        "Values of optimizer.lr that cannot be told apart from the best: "
        f"{ranges[0]} for max; {ranges[1]} for he."
    )


def test_seeds_that_can_not_separate_any_values_are_said_to_be_too_few():
    """Of 20 values 190 pairs are tested, by signs at the second look, whose p is at least 11/2^10."""
    runs = sweep(np.geomspace(0.01, 1, 20).round(5), seeds=10)
    runs["look"] = (runs["seed"] < 5).map({True: 1, False: pd.NA}).astype("Int64")
    runs.loc[(runs["init"] == "max") & (runs["seed"] == 3), "val_accuracy"] = 0.1
    (section,) = numeric_factors.sections(runs)
    needed = next(n for n in itertools.count(1) if 190 * (n + 1) / 2**n <= 0.05)
    first, too_few = texts(section)[:2]
    assert "(10 seeds cannot separate the 20 values). he is best" in first
    assert too_few == (
        "10 seeds cannot separate the 20 values of optimizer.lr for max: where a network fails to learn in "
        f"some seeds, at least {needed} are needed."
    )
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert table.rows[0][2].text == "too few seeds"
    alone = summary.answer(runs[runs["init"] == "max"])
    assert f"by 10 seeds: where a network fails to learn in some seeds, at least {needed} are needed" in alone


def test_a_value_that_is_behind_is_not_among_those_that_cannot_be_told_apart():
    """At 0.3 no difference is seen; 0.03 and 1.0 are behind, at 1.0 because two seeds hardly learn."""
    noise = np.array([0.002, -0.001, 0.003, -0.002, 0.001, -0.003])
    results = {
        0.1: 0.93 + noise,
        0.3: 0.929 - noise,
        0.03: 0.93 + noise - np.array([0.01, 0.04, 0.02, 0.01, 0.05, 0.02]),
        1.0: np.array([0.7, 0.15, 0.6, 0.7, 0.15, 0.5]),
        0.01: 0.5 - 2 * noise,
        **{lr: 0.4 - noise**2 * lr for lr in (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)},
    }
    runs = sweep(tuple(results), seeds=6).query("init == 'he'").reset_index(drop=True)
    runs["val_accuracy"] = [results[lr][s] for lr, s in zip(runs["optimizer.lr"], runs["seed"], strict=True)]
    pairs = {lr: stats.ttest_rel(results[0.1], results[lr]).pvalue for lr in results if lr != 0.1}
    assert 0.05 / 66 < max(pairs[0.03], pairs[1.0]) < 0.05 < pairs[0.3]
    (optimum,) = numeric.optima(runs, "optimizer.lr")
    assert (optimum.near, [*optimum.behind]) == ([0.1, 0.3], [0.03, 1.0])
    gaps = [100 * (results[0.1] - results[lr]).mean() for lr in (0.03, 1.0)]
    behind = "6 seeds are too few to be sure"
    (text, *_) = numeric_factors.sentences("optimizer.lr", [optimum])
    assert (
        f"(0.1 to 0.3 cannot be told apart; 0.03 and 1 are {gaps[0]:.2f} and {gaps[1]:.2f} points behind"
        in text
    )
    assert f", but {behind} after correction for 66 pairs; about {optimum.settled_by} would do)." in text
    assert f"optimizer.lr=0.03 and optimizer.lr=1 are behind, but {behind}; " in summary.answer(runs)


def test_values_at_which_no_seed_learned_may_not_be_as_good():
    """Their three seeds are too few to reject them by a test, since the others vary so much."""
    runs = sweep().query("init == 'max'").reset_index(drop=True)
    varied = {
        0.3: (0.97, 0.3, 0.95),
        0.1: (0.9, 0.28, 0.99),
        0.03: (0.25, 0.9, 0.95),
        0.01: (0.1, 0.14, 0.05),
    }
    for rate, values in varied.items():
        runs.loc[runs["optimizer.lr"] == rate, "val_accuracy"] = values
    runs.loc[runs["optimizer.lr"] == 1, "val_accuracy"] = 0.1
    (optimum,) = numeric.optima(runs, "optimizer.lr")
    assert (optimum.best, optimum.near) == (0.3, [0.03, 0.1, 0.3])
    answer = summary.answer(runs)
    assert "; optimizer.lr=1 and optimizer.lr=0.01 did not learn in any seed" in answer.replace("=1.0", "=1")
    assert "the 5 optimizer.lr values cannot be told apart" not in answer
    (section,) = numeric_factors.sections(runs, tested=False)
    assert "cannot be told apart" not in " ".join(texts(section))


def test_the_answer_names_the_best_value_of_each_factor():
    runs = sweep(momenta=(0.25, 0.5, 0.75))
    (sentence,) = (line for line in summary.answer(runs).splitlines() if line.startswith("Best values: "))
    assert sorted(sentence.removeprefix("Best values: ").rstrip(".").split("; ")) == [
        "he at optimizer.lr=0.1 and optimizer.momentum=0.5",
        "max at optimizer.lr=0.3 and optimizer.momentum=0.5",
    ]


def test_configurations_with_the_same_best_value_are_named_together():
    runs = sweep()
    assert "The best optimizer.lr is 0.1 for he and 0.3 for max." in summary.answer(runs)
    third = runs[runs["init"] == "he"].assign(init="xavier")
    third["trial"] = "x" + third["trial"]
    third["val_accuracy"] -= 0.01
    three = pd.concat([runs, third], ignore_index=True).astype({"init": "category"})
    assert "The best optimizer.lr is 0.1 for he and xavier; 0.3 for max." in summary.answer(three)
    two = three[three["init"] != "max"].reset_index(drop=True)
    assert "The best optimizer.lr is 0.1 for both." in summary.answer(two)


def test_the_sentences_say_that_one_seed_gives_no_interval():
    best, note, *_ = texts(numeric_factors.sections(sweep(seeds=1))[0])
    assert best == "max is best at optimizer.lr=0.3. he is best at optimizer.lr=0.1."
    assert note == "With one seed there is no interval, so it is unknown which other values are as good."


def test_a_best_value_at_the_end_of_the_range_comes_with_the_next_value_to_try():
    runs = sweep(values=(0.001, 0.01, 0.1))
    sentences = texts(numeric_factors.sections(runs)[0])
    try_next = "at the end of the tried range of optimizer.lr: try optimizer.lr=1."
    assert f"max and he are best {try_next}" in sentences
    assert f"max and he are best {try_next}" in summary.answer(runs)
    one_init = runs[runs["init"] == "he"].reset_index(drop=True)
    (section,) = numeric_factors.sections(one_init)
    assert section.sentences[0].startswith("The best value is optimizer.lr=0.1")
    assert section.sentences[1] == f"The network is best {try_next}"
    noisy = one_init.assign(val_accuracy=[0.5, 0.8, 0.6, 0.9, 0.6, 0.7, 0.6, 0.9, 0.9])
    assert f"The network has its best mean {try_next}" in summary.answer(noisy)
    assert not [block for block in section.blocks if isinstance(block, Table)]  # the sentence is enough


def test_the_best_values_of_many_options_are_counted():
    runs = sweep(archs=("relu_100", "tanh_128"), batchings=("full", "mini"))
    assert texts(numeric_factors.sections(runs)[0])[0] == (
        "The best optimizer.lr in 8 combinations of the other factors: 0.3 in 4, 0.1 in 4."
    )


def test_an_option_that_did_not_learn_has_no_best_value():
    runs = sweep()
    runs.loc[runs["init"] == "max", "val_accuracy"] = 0.1
    sentences = texts(numeric_factors.sections(runs)[0])
    assert sentences[0].startswith("max did not learn at any optimizer.lr. he is best at optimizer.lr=0.1")
    assert not any("at the end" in sentence for sentence in sentences)


def test_the_best_values_are_written_to_a_file():
    optima = numeric_factors.sections(sweep(momenta=(0.25, 0.5, 0.75)))[0].data["optima"]
    assert optima[["axis", "init", "best"]].to_numpy().tolist() == [
        ["optimizer.lr", "max", 0.3],
        ["optimizer.lr", "he", 0.1],
        ["optimizer.momentum", "max", 0.5],
        ["optimizer.momentum", "he", 0.5],
    ]


def test_every_figure_has_a_caption_and_a_drawing():
    for section in numeric_factors.sections(sweep(momenta=(0.25, 0.5, 0.75))):
        for figure in (block for block in section.blocks if isinstance(block, Figure)):
            assert figure.caption.endswith(".")
            assert figure.svg.startswith("<svg")
