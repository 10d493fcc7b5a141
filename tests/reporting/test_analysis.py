"""Frames, tables and the page, for a store with known numbers."""

import csv
import hashlib
import io
import json
import math
import re
import statistics as plain
import subprocess
import sys
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from boxes import assert_legible
from rich.console import Console

from fnnexp.config import commands
from fnnexp.config.schema import CHOICES
from fnnexp.errors import FnnexpError
from fnnexp.reporting import averages
from fnnexp.reporting import write as report
from fnnexp.reporting.document import html
from fnnexp.reporting.plots import curves, layout, style
from fnnexp.reporting.sections import leaderboard, overview
from fnnexp.reporting.sections.by_factor import architecture as by_architecture
from fnnexp.results import arguments, filters, frames, statistics
from fnnexp.results.factors import LONGEST, as_text, factors_of, labels_of, others
from fnnexp.tracking.run_format import METRICS

TEXT = str(pd.Series(["text"]).dtype)  # "str" since pandas 3, "object" before
SPLITS = ("train", "val", "test")
EVIL = "<script>alert('x')</script> $1 [red]"
EPOCHS, SEEDS = 4, (0, 1, 2)
IDENTICAL = {"xavier": "sqrtmax"}


def accuracy(arch, init, batching, seed, epoch, split):
    """Return an invented accuracy that depends on every argument but is equal for identical initializers."""
    init = IDENTICAL.get(init, init)
    quality = 0.05 * ["max", "sqrtmax", "he"].index(init) + 0.02 * len(arch) / 10 + 0.1 * (batching == "mini")
    return 0.3 + quality + 0.07 * epoch + 0.003 * seed**2 + 0.001 * SPLITS.index(split)


def metrics_at(epoch, accuracies):
    """Return the metrics of a step from {split: accuracy}; the loss is −log(accuracy)."""
    return {f"{split}_accuracy": a for split, a in accuracies.items()} | {
        f"{split}_loss": -math.log(a) for split, a in accuracies.items()
    }


class Store:
    """A SQLite store with runs in the format of fnnexp.tracking."""

    def __init__(self, uri):
        from mlflow import MlflowClient

        self.uri, self.client, self.experiments = uri, MlflowClient(uri), {}
        self.clock = 1_700_000_000_000

    def add(self, experiment, name, params, curve, *, ended="FINISHED", **tags):
        from mlflow.entities import Metric, Param

        if experiment not in self.experiments:
            # MLflow's default would be the working directory of pytest.
            folder = Path(self.uri.removeprefix("sqlite:///")).parent / "artifacts"
            self.experiments[experiment] = self.client.create_experiment(experiment, folder.as_uri())
        self.clock += 1000
        tags = {f"fnnexp.{key}": str(value) for key, value in tags.items()}
        run = self.client.create_run(self.experiments[experiment], self.clock, tags, name).info.run_id
        metrics = [Metric(k, v, self.clock + e, e) for e, values in curve.items() for k, v in values.items()]
        self.client.log_batch(run, metrics, [Param(k, str(v)) for k, v in params.items()])
        if ended:
            self.client.set_terminated(run, ended, self.clock + 2500)
        return run


def params(arch="relu_100", init="he", batching="mini", seed=0, **others):
    below = {"batching.size": 128} if batching == "mini" else {}
    return {
        "arch": arch, "init": init, "batching": batching, "optimizer": "sgd", "data": "digits",
        "arch.hidden": "[32, 32]" if arch == "sigmoid_32_32" else "[100]",
        "batching.shuffle": batching == "mini",
        "optimizer.lr": 0.1, "data.validation": 200, "epochs": EPOCHS, "seed": seed, **below, **others,
    }  # fmt: skip


def trial_id(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


GRID = [
    (arch, init, batching, seed)
    for arch in ("relu_100", "sigmoid_32_32")
    for init in ("sqrtmax", "xavier", "he", "max")
    for batching in ("full", "mini")
    for seed in SEEDS
]


def status_of(arch, init, batching, seed):
    if (arch, init, batching) == ("relu_100", "he", "full"):
        return "diverged" if seed else "finished"
    if (arch, init, batching) == ("relu_100", "max", "mini"):
        return "failed"
    return "finished"


@pytest.fixture(scope="module")
def store(empty_store, tmp_path_factory):
    made = Store(empty_store(tmp_path_factory.mktemp("store")))
    made.add("grid", "foreign run", {"seed": 7}, {})
    interrupted = params("relu_100", "sqrtmax", "full", 0)
    first = {"trial": trial_id("relu_100", "sqrtmax", "full", 0), "status": "running"}
    made.add("grid", "interrupted", interrupted, {1: {"test_accuracy": 0.01}}, ended="KILLED", **first)
    for arch, init, batching, seed in GRID:
        status = status_of(arch, init, batching, seed)
        last = {"finished": EPOCHS, "diverged": 2, "failed": 0}[status]
        curve = {
            e: metrics_at(e, {s: accuracy(arch, init, batching, seed, e, s) for s in SPLITS})
            for e in range(1, last + 1)
        }
        tags = {"trial": trial_id(arch, init, batching, seed), "status": status, "seconds_per_epoch": 0.25}
        tags |= {"train_images": 1237, "test_images": 360, "classes": 10, "parameters": 79_510}
        if init in IDENTICAL:
            tags["identical_to"] = trial_id(arch, IDENTICAL[init], batching, seed)
        if status == "diverged":
            tags |= {"diverged_epoch": 3}
        if status == "failed":
            tags |= {"error": f"MemoryError: {EVIL}"}
        name = f"{arch}-{init}-{batching}-s{seed}" + (EVIL if status == "failed" else "")
        made.add("grid", name, params(arch, init, batching, seed), curve, **tags)

    done = params("relu_100", "max", "full", 1)
    later = {"trial": trial_id("relu_100", "max", "full", 1), "status": "running"}
    made.add("grid", "restarted after it finished", done, {}, ended="KILLED", **later)

    start = {0: metrics_at(0, {"train": 0.1, "test": 0.125})}
    tags = {"trial": "00000000000000aa", "status": "finished"}
    made.add("untrained", "one", params(init=EVIL, epochs=0), start, **tags)
    for seed in (0, 1):
        tags = {"trial": trial_id("failed", seed), "status": "failed"}
        made.add("all_failed", f"f{seed}", params(seed=seed), {}, ended="FAILED", **tags)
    for lr in (0.1, 0.01):
        for init, std in (("he", None), ("normal", 1.0), ("normal", 0.3)):
            more = {"optimizer.lr": lr} | ({"init.std": std} if std else {})
            curve = {1: metrics_at(1, dict.fromkeys(SPLITS, lr + (std or 0.5) / 2))}
            tags = {"trial": trial_id("lr", lr, init, std), "status": "finished"}
            made.add("rates", f"{init}-{std}-{lr}", params(init=init, **more), curve, **tags)
    for seed, status in enumerate(("running", "interrupted")):
        tags = {"trial": trial_id("stopped", seed), "status": status}
        made.add("stopped", f"s{seed}", params(seed=seed), {}, ended="KILLED", **tags)
    start = {1: {"test_accuracy": 0.5}, 2: {"test_accuracy": 0.6}}
    run = made.add("again", "a", params(), start, ended="", trial="00000000000000ab", status="running")
    made.client.log_metric(run, "test_accuracy", 0.625, made.clock + 100, 2)
    made.experiments["empty"] = made.client.create_experiment("empty")
    return made


@pytest.fixture(scope="module")
def runs(store):
    return frames.runs("grid", tracking_uri=store.uri)


@pytest.fixture(scope="module")
def written(store, tmp_path_factory):
    """Return the folder of the grid's report, and the terminal output with 80 columns."""
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    console = Console(file=io.StringIO(), width=80)
    page = report.write("grid", folder, tracking_uri=store.uri, console=console)
    assert page == folder / "report.html"
    return folder, console.file.getvalue()


def write(store, experiment, folder):
    console = Console(file=io.StringIO(), width=80)
    page = report.write(experiment, folder, tracking_uri=store.uri, console=console)
    return page.read_text(encoding="utf-8"), console.file.getvalue()


# Frames


def test_runs_has_one_row_per_trial_in_order_of_start(runs):
    assert runs["trial"].tolist() == [trial_id(*each) for each in GRID]
    assert runs["status"].tolist() == [status_of(*each) for each in GRID]
    for row, (arch, init, batching, seed) in zip(runs.to_dict("records"), GRID, strict=True):
        assert (row["arch"], row["init"], row["batching"], row["seed"]) == (arch, init, batching, seed)


def test_final_metrics_are_from_the_last_epoch(runs):
    for row, (*key, seed) in zip(runs.to_dict("records"), GRID, strict=True):
        last = {"finished": EPOCHS, "diverged": 2, "failed": None}[row["status"]]
        for split in SPLITS:
            expected = accuracy(*key, seed, last, split) if last else math.nan
            assert row[f"{split}_accuracy"] == pytest.approx(expected, nan_ok=True)
            assert row[f"{split}_loss"] == pytest.approx(
                -math.log(expected) if last else math.nan, nan_ok=True
            )
        assert pd.isna(row["best_val_epoch"]) if not last else row["best_val_epoch"] == last
        assert row["best_val_accuracy"] == pytest.approx(row["val_accuracy"], nan_ok=True)


def test_columns_are_typed(runs):
    kinds = {column: str(dtype) for column, dtype in runs.dtypes.items()}
    for column in ("status", *CHOICES):
        assert kinds[column] == "category"
    for column in ("seed", "epochs", "batching.size", "data.validation", "best_val_epoch", *frames.END):
        assert kinds[column] == "Int64"
    for column, count in zip(frames.COUNTS, (1237, 360, 10, 79_510), strict=True):
        assert (kinds[column], set(runs[column])) == ("Int64", {count})
    for column in (*METRICS, "best_val_accuracy", "optimizer.lr", "seconds", "seconds_per_epoch"):
        assert kinds[column] == "float64"
    assert kinds["batching.shuffle"] == "boolean"
    assert kinds["arch.hidden"] == kinds["trial"] == kinds["error"] == TEXT
    assert isinstance(runs["started"].dtype, pd.DatetimeTZDtype)
    assert str(runs["started"].dtype.tz) == "UTC"
    assert runs["started"].iloc[0] == pd.Timestamp(1_700_000_003_000, unit="ms", tz="UTC")
    assert runs["seconds"].tolist() == [2.5] * len(GRID)
    assert list(runs["init"].cat.categories) == ["max", "sqrtmax", "xavier", "he"]  # the documented order
    assert set(runs.loc[runs["batching"] == "full", "batching.size"].isna()) == {True}


def test_updates_are_counted_up_to_the_last_epoch_and_unknown_for_trials_without_an_end(runs, store):
    """1,237 rows are 10 batches of 128, the last of them short."""
    for row in runs.to_dict("records"):
        last = {"finished": EPOCHS, "diverged": 3, "failed": None}[row["status"]]
        expected = last and last * {"full": 1, "mini": 10}[row["batching"]]
        assert row["updates"] == expected if last else pd.isna(row["updates"])
    untrained, odd = pd.Series({"epochs": 0}), pd.Series({"epochs": 10**18, "batching.size": -3})
    for change in (untrained, odd, pd.Series({"epochs": "many"})):
        frame = runs[runs["batching"] == "mini"].head(1).astype({"epochs": "object"}).assign(**change)
        assert frames._updates(frame).tolist() == ([0] if change is untrained else [pd.NA])


def test_labels_of_older_runs_are_those_of_new_runs(empty_store, tmp_path):
    mixed, name = Store(empty_store(tmp_path / "labels")), "relu_8_8_8_8"
    labels = (name, "relu_4x8", "mine_8_8_8", "relu_8_8", "relu_16", "3xelu+tanh_4x8")
    for i, label in enumerate(labels):
        mixed.add("labels", label, params(label, seed=i), {}, trial=trial_id(i), status="finished")
    runs = frames.runs("labels", tracking_uri=mixed.uri)
    assert runs["arch"].tolist() == ["relu_4x8", "relu_4x8", *labels[2:]]
    assert runs["name"].tolist() == [*labels]
    assert [*runs["arch"].cat.categories] == ["mine_8_8_8", "relu_8_8", "relu_4x8", "relu_16", labels[-1]]
    for words in (name, "relu_4x8", "glob(relu_4*)", "glob(relu_8_8_*)", f"{name},relu_4x8"):
        assert filters.where(runs, {"arch": words})["seed"].tolist() == [0, 1], words
    assert filters.where(runs, {"arch": "mine_8_8_8"})["seed"].tolist() == [2]
    old = pd.concat([runs.assign(arch=labels), runs])  # as from frames that were saved before
    assert set(arguments.restore_types(old, "runs")["arch"].dropna()) == {*runs["arch"]}


def test_a_factor_that_depends_on_an_axis_is_reported_but_does_not_split_the_table():
    steps = {"full": 0.5, "mini": 0.1}
    rows = [
        {"status": "finished", "arch": arch, "init": "he", "batching": batching, "optimizer": "sgd",
         "seed": 0, "optimizer.lr": lr, "val_accuracy": 0.9, "test_accuracy": 0.9}
        for arch in ("a", "b") for batching, lr in steps.items()
    ]  # fmt: skip
    runs = pd.DataFrame(rows).astype(dict.fromkeys(("arch", "init", "batching", "optimizer"), "category"))
    assert overview.followers(runs) == ["optimizer.lr varies only with batching: full 0.5, mini 0.1"]
    assert others(runs) == []
    swept = pd.concat([runs, runs.assign(**{"optimizer.lr": 1.0})], ignore_index=True)
    assert others(swept) == ["optimizer.lr"]
    assert overview.followers(swept) == []


def test_a_column_is_numeric_only_if_all_its_values_are():
    def typed(*texts):
        column = frames._typed(pd.Series(texts, dtype="str"))
        return str(column.dtype), [None if pd.isna(value) else value for value in column]

    assert typed("1", None, "3") == ("Int64", [1, None, 3])
    assert typed("1", "1e-05") == ("float64", [1.0, 1e-05])
    assert typed("true", "False", None) == ("boolean", [True, False, None])
    assert typed("1", "one") == (TEXT, ["1", "one"])
    assert typed("3", str(2**70)) == ("float64", [3.0, 2.0**70])
    assert typed(None, None) == (TEXT, [None, None])


def test_a_param_that_was_added_later_has_its_default_where_other_runs_have_it():
    def column(*values):
        params = {"seed": ["0"] * len(values)}
        params |= {
            key: [each.get(key) for each in values] for key in {key for each in values for key in each}
        }
        typed = frames._params(params, len(values))
        return {name: list(each) for name, each in typed.items() if name.startswith("data.")}

    noise = "data.label_noise"
    assert column({noise: "0.2"}, {}) == {noise: [0.2, 0.0]}
    assert column({}, {}) == {}
    assert overview.noisy(pd.DataFrame({noise: [0.0, 0.2]}))[0].startswith(f"With {noise}, some labels")
    assert overview.noisy(pd.DataFrame({noise: [0.0]})) == overview.noisy(pd.DataFrame()) == []


def test_curves_contain_every_recorded_value(store):
    curves = frames.curves("grid", tracking_uri=store.uri)
    expected = {}
    for arch, init, batching, seed in GRID:
        last = {"finished": EPOCHS, "diverged": 2, "failed": 0}[status_of(arch, init, batching, seed)]
        for epoch in range(1, last + 1):
            for split in SPLITS:
                value = accuracy(arch, init, batching, seed, epoch, split)
                key = (trial_id(arch, init, batching, seed), epoch)
                expected[*key, f"{split}_accuracy"] = value
                expected[*key, f"{split}_loss"] = -math.log(value)
    values = {(row.trial, row.epoch, row.metric): row.value for row in curves.itertuples()}
    assert len(curves) == len(values) == len(expected)
    assert values == pytest.approx(expected)
    assert (curves["split"].astype(str) + "_" + curves["quantity"].astype(str) == curves["metric"]).all()
    text = ["trial", "name", *CHOICES, "metric", "split", "quantity"]
    assert {str(curves[column].dtype) for column in text} == {"category"}
    assert [str(curves[column].dtype) for column in ("seed", "epoch", "value")] == [
        "Int64",
        "Int64",
        "float64",
    ]


def test_only_the_last_record_of_an_epoch_counts(store):
    table, curves, _ = frames.whole("again", tracking_uri=store.uri)
    assert curves["value"].tolist() == [0.5, 0.625]
    assert table["test_accuracy"].tolist() == [0.625]
    assert table["status"].tolist() == ["running"]
    assert table["seconds"].isna().all()


def test_a_killed_run_is_counted_as_interrupted(store):
    runs = frames.runs("stopped", tracking_uri=store.uri)
    assert runs["status"].tolist() == ["interrupted"] * 2
    assert leaderboard.leaderboard(runs)["interrupted"].tolist() == [2]
    assert (
        overview.counts(runs)
        == "2 trials of 1 configuration: 0 finished, 0 diverged, 0 failed, 2 interrupted."
    )
    assert by_architecture.table(runs).iloc[0, 0] == "interrupted"
    done = runs.assign(status="finished")
    assert "2 finished, 0 diverged" in overview.counts(done)
    assert "2 finished (none stopped early), 0 " in overview.counts(done.assign(**{"stopping.patience": 5}))


def test_reading_leaves_the_garbage_collector_enabled(store):
    import gc

    assert gc.isenabled()
    with pytest.raises(FnnexpError):
        frames.runs("absent", tracking_uri=store.uri)
    assert gc.isenabled()


@pytest.mark.parametrize("experiment", ["empty", "grid", "untrained"])
def test_every_experiment_has_the_same_columns_and_types(store, runs, experiment):
    table, curves, _ = frames.whole(experiment, tracking_uri=store.uri)
    fixed = [*frames.result_columns(), "seed"]
    assert table[fixed].dtypes.astype(str).equals(runs[fixed].dtypes.astype(str))
    assert set(CHOICES) < set(table.columns)
    assert str(curves["value"].dtype) == "float64"
    assert str(curves["split"].dtype) == "category"
    assert len(table) == {"empty": 0, "grid": len(GRID), "untrained": 1}[experiment]


def test_an_unknown_experiment_is_refused_with_the_existing_names(store):
    with pytest.raises(FnnexpError, match=r"'gird'.* Did you mean 'grid'\?.*again, all_failed, empty, grid"):
        frames.runs("gird", tracking_uri=store.uri)


def test_a_server_that_does_not_answer_is_reported(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("fnnexp.tracking.retry.AT_START", 1.0)
    with pytest.raises(FnnexpError, match=r"http://127.0.0.1:9 does not answer"):
        frames.runs("grid", tracking_uri="http://127.0.0.1:9")


def test_reading_a_missing_store_does_not_create_it(tmp_path):
    with pytest.raises(FnnexpError, match="there is no MLflow store at"):
        frames.runs("grid", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert not list(tmp_path.iterdir())


def test_importing_frames_does_not_import_mlflow():
    code = "import sys, fnnexp.results.frames, fnnexp.reporting.write; print('mlflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


# Statistics and tables


def test_statistics_agree_with_the_standard_library():
    x = [0.1, 0.4, 0.45, 0.99]
    assert statistics.mean(x) == pytest.approx(plain.fmean(x))
    assert statistics.standard_deviation(x) == pytest.approx(plain.stdev(x))
    assert math.isnan(statistics.standard_deviation([0.5]))
    assert math.isnan(statistics.mean([]))


def test_factors_are_the_columns_that_vary_independently_of_an_option(store, runs):
    assert factors_of(runs) == ["arch", "init", "batching"]  # arch.hidden follows from arch
    assert factors_of(runs[runs["arch"] == "relu_100"]) == ["init", "batching"]
    rates = frames.runs("rates", tracking_uri=store.uri)
    assert factors_of(rates) == ["init", "init.std", "optimizer.lr"]
    assert list(labels_of(rates, "init").cat.categories) == ["he", "normal std=0.3", "normal std=1"]


def expected_leaderboard():
    """Return {(arch, init, batching): {split: values}} of the finished trials, by plain loops."""
    expected = {}
    for arch, init, batching, seed in GRID:
        values = expected.setdefault((arch, init, batching), {"val": [], "test": []})
        if status_of(arch, init, batching, seed) == "finished":
            for split in values:
                values[split].append(accuracy(arch, init, batching, seed, EPOCHS, split))
    return expected


def test_the_leaderboard_agrees_with_plain_loops(runs):
    board = leaderboard.leaderboard(runs)
    expected = expected_leaderboard()
    assert len(board) == len(expected)
    best = board.iloc[0].to_dict()
    for row in board.to_dict("records"):
        values = expected[row["arch"], row["init"], row["batching"]]
        assert row["seeds"] == len(values["val"])
        for split in ("val", "test"):
            mean = plain.fmean(values[split]) if values[split] else math.nan
            sd = plain.stdev(values[split]) if len(values[split]) > 1 else math.nan
            if split == "test" and row != best:
                mean = sd = math.nan  # only the best configuration shows test accuracy
            assert row[f"{split}_accuracy"] == pytest.approx(mean, nan_ok=True)
            assert row[f"{split}_accuracy_sd"] == pytest.approx(sd, nan_ok=True)
        interval = statistics.mean_interval(values["val"])
        assert (row["low"], row["high"]) == pytest.approx(interval[:2], nan_ok=True)
        assert row["interval"] == interval.method
    ranked = board["val_accuracy"].tolist()[:-1]
    assert ranked == sorted(ranked, reverse=True)


def test_configurations_without_finished_trials_are_counted_and_come_last(runs):
    board = leaderboard.leaderboard(runs).set_index(["arch", "init", "batching"])
    assert board.loc[("relu_100", "he", "full"), ["seeds", "diverged", "failed"]].tolist() == [1, 2, 0]
    last = board.iloc[-1]
    assert last.name == ("relu_100", "max", "mini")
    assert last[["seeds", "failed"]].tolist() == [0, 3]
    assert math.isnan(last["val_accuracy"])


def test_identical_configurations_are_noted(runs):
    board = leaderboard.leaderboard(runs)
    for row in board.to_dict("records"):
        other = {"xavier": "sqrtmax", "sqrtmax": "xavier"}.get(row["init"])
        assert row["note"] == (f"same as {other}" if other else "")


def test_a_ranking_on_test_data_is_called_optimistic(store, runs):
    assert frames.ranking(runs) == "val_accuracy"
    untrained = frames.runs("untrained", tracking_uri=store.uri)
    assert frames.ranking(untrained) == "test_accuracy"
    assert "optimistic" in overview.basis(untrained)
    assert "optimistic" not in overview.basis(runs)
    mixed = pd.concat([runs, untrained], ignore_index=True)
    assert "not all trials" in overview.basis(mixed)


def test_the_ranking_metric_depends_on_held_out_rows_and_not_on_finished_trials(store, runs):
    for experiment in ("all_failed", "stopped"):
        unfinished = frames.runs(experiment, tracking_uri=store.uri)
        assert set(unfinished["data.validation"]) == {200}
        assert frames.ranking(unfinished) == "val_accuracy"
        assert overview.basis(unfinished).startswith("Ranked by val_accuracy, on rows held out of training")
        without = unfinished.assign(**{"data.validation": 0})
        assert "because no trial held out validation rows" in overview.basis(without)
        both = pd.concat([unfinished, without], ignore_index=True)
        assert "because not all trials held out validation rows" in overview.basis(both)
    finished = runs["status"] == "finished"
    partly = runs["data.validation"].where(finished)  # the other trials will have no val_accuracy
    assert frames.ranking(runs.assign(**{"data.validation": partly})) == "test_accuracy"
    assert frames.ranking(runs[finished].drop(columns="data.validation")) == "val_accuracy"


def test_the_table_agrees_with_plain_loops(runs):
    cells = by_architecture.table(runs)
    assert list(cells.columns) == ["full", "mini"]
    assert cells.index.names == ["arch", "init"]
    for (arch, init, batching), values in expected_leaderboard().items():
        val = values["val"]
        if not val:
            expected = "failed"
        elif len(val) == 1:
            expected = f"{100 * val[0]:.2f} (1/3)"
        else:
            expected = f"{100 * plain.fmean(val):.2f} ± {100 * plain.stdev(val):.2f}"
        assert cells.loc[(arch, init), batching] == expected


def test_each_value_of_another_factor_has_a_table(store, tmp_path):
    rates = frames.runs("rates", tracking_uri=store.uri)
    cells = by_architecture.table(rates)
    assert cells.index.names == ["optimizer.lr", "arch", "init"]
    assert cells.loc[("0.01", "relu_100", "normal std=0.3"), "mini"] == "16.00"
    assert [grid.title for grid in by_architecture.tables(rates, cells)] == [
        "optimizer.lr=0.01",
        "optimizer.lr=0.1",
    ]
    page, _ = write(store, "rates", tmp_path)
    assert page.count("<svg") == 1 + 2  # the answer; a heat map for each rate; one epoch is a table


def test_tables_accept_any_part_of_a_frame(runs):
    part = runs[(runs["init"] == "he") & (runs["arch"] == "sigmoid_32_32")].iloc[::-1]
    assert list(leaderboard.leaderboard(part).columns)[:2] == ["batching", "seeds"]
    assert by_architecture.table(part).shape == (1, 2)
    assert leaderboard.leaderboard(runs[:0]).empty
    assert by_architecture.table(runs[:0]).empty


# The report


class Page(HTMLParser):
    """The tables of a page as lists of rows of (text, exact value or None), its tags and its links."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.links, self.value, self.in_cell = [], [], [], None, False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", None))
            self.in_cell = True
        elif tag == "data":
            self.value = float(dict(attrs)["value"])

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.in_cell:
            text, value = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (text + data, self.value if self.value is not None else value)
            self.value = None


def alien_scripts(text):
    """Return the scripts of a page that are neither its own script nor data."""
    scripts = re.findall(r"<script(.*?)>(.*?)</script", text, flags=re.DOTALL)
    own = Path(html.__file__).with_name("page.js").read_text("utf-8")
    data = [json.loads(script) for kind, script in scripts if kind == " type='application/json'"]
    others = [script for kind, script in scripts if kind != " type='application/json'"]
    return others[:-1] if others[-1] == own and all(data) else others


def rows_of(file):
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_page_the_files_and_the_terminal_show_the_same_numbers(written, runs):
    folder, shown = written
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    board = rows_of(folder / "leaderboard.csv")
    head, *rows = page.tables[0]
    names = ["arch", "init", "batching", "seeds", "val %", "95% interval", "test %"]
    names += ["parameters", "updates", "train − val", "note"]
    assert [text for text, _ in head] == names
    assert len(rows) == len(board) == len(leaderboard.leaderboard(runs))
    for row, line in zip(rows, board, strict=True):
        assert [text for text, _ in row[:4]] == [line[key] for key in ("arch", "init", "batching", "seeds")]
        low, high = (f"{100 * float(line[end]):.2f}" if line[end] else "" for end in ("low", "high"))
        assert row[5][0] == (f"{low} to {high}" if low else "–")
        for (text, value), key in zip((row[4], row[6]), ("val_accuracy", "test_accuracy"), strict=True):
            if not line[key]:
                assert text == ("–" if key == "val_accuracy" else "")
                continue
            assert value == float(line[key])
            assert text.split()[0] == f"{100 * float(line[key]):.2f}"
            if line[f"{key}_sd"]:
                assert text.split()[-1] == f"{100 * float(line[f'{key}_sd']):.2f}"
        beside = zip(row[7:10], ("parameters", "updates", "gap"), (",.0f", ",.0f", ".2f"), strict=True)
        for (text, value), key, spec in beside:
            assert value == (float(line[key]) if line[key] else None)
            scaled = float(line[key] or 0) * (100 if key == "gap" else 1)
            assert text == (f"{scaled:{spec}}".replace("-", "−") if line[key] else "–")
    on_screen = [row for row in rows if row[4][0] in shown]
    assert on_screen == rows[: len(on_screen)] != []
    assert [row[6][0] != "" for row in rows] == [True] + [False] * (len(rows) - 1)
    means = {tuple(text for text, _ in row[:3]): row[4][0] for row in rows}
    for line in rows_of(folder / "table.csv"):  # the page has these means once, in the leaderboard
        for mode in ("full", "mini"):
            mean = line[mode].partition(" (")[0]
            assert means[line["arch"], line["init"], mode] == ("–" if mean == "failed" else mean)


def test_the_files_contain_the_frames(written, store, runs):
    folder, _ = written
    rows = rows_of(folder / "runs.csv")
    assert [row["trial"] for row in rows] == runs["trial"].tolist()
    assert [float(row["test_accuracy"] or "nan") for row in rows] == pytest.approx(
        runs["test_accuracy"].tolist(), abs=0, nan_ok=True
    )
    curves = frames.curves("grid", tracking_uri=store.uri)
    assert [float(row["value"]) for row in rows_of(folder / "curves.csv")] == curves["value"].tolist()


def test_the_page_is_self_contained_and_escapes_text(written):
    folder, _ = written
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert alien_scripts(text) == []
    assert "&lt;script&gt;alert(&#39;x&#39;)" in text
    assert page.links
    assert not [link for link in page.links if re.match(r"(https?:)?//", link)]
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text
    assert style.INK not in text


def test_the_terminal_output_fits_80_columns_and_reports_failures(written):
    _, shown = written
    lines = [line for line in shown.splitlines()[:-1] if " report " not in line]  # commands are not wrapped
    assert max(map(len, lines)) <= 80
    flat = " ".join(shown.split())
    assert "48 trials of 16 configurations: 43 finished, 2 diverged, 3 failed." in flat
    for text in (
        "failed: MemoryError",
        "[red]",
        "(4 more in report.html)",
        "1 of 12 configurations never finished: relu_100 max mini.",
        "[1] same as xavier",
    ):
        assert text in flat
    assert len(shown.splitlines()) <= 24
    assert "12 trials shared the training of a numerically identical trial." in flat


def test_a_report_on_an_untrained_network_has_one_point(store, tmp_path):
    page, shown = write(store, "untrained", tmp_path)
    assert page.count("<svg") == 1  # the heat map; no time was recorded, and one epoch is a table
    assert alien_scripts(page) == []  # the figures also show the hostile name of the initializer
    assert "12.50" in shown
    assert "optimistic" in page


def test_a_report_on_failed_trials_lists_them(store, tmp_path):
    page, shown = write(store, "all_failed", tmp_path)
    assert "<svg" not in page
    assert "No trial has finished" in page
    assert "no reason was recorded" in shown


@pytest.mark.usefixtures("blank_figures")
def test_a_report_can_cover_a_part_of_an_experiment(store, runs, tmp_path):
    wanted = {"init": "he,sqrtmax", "batching": "mini"}
    console = Console(file=io.StringIO(), width=80)
    before = len(store.client.search_runs([store.experiments["grid"]]))
    report.write("grid", tmp_path, where=wanted, tracking_uri=store.uri, console=console)
    trials = pd.read_csv(tmp_path / "runs.csv")["trial"].tolist()
    expected = [trial_id(*each) for each in GRID if each[1] in ("he", "sqrtmax") and each[2] == "mini"]
    assert trials == expected
    assert set(pd.read_csv(tmp_path / "curves.csv")["trial"]) <= set(expected)
    assert "<h1>grid init=he,sqrtmax batching=mini</h1>" in (tmp_path / "report.html").read_text("utf-8")
    assert len(store.client.search_runs([store.experiments["grid"]])) == before
    frame = filters.where(runs, wanted)
    assert frame["init"].cat.categories.tolist() == ["sqrtmax", "he"]
    pd.testing.assert_frame_equal(
        frame, runs[runs["trial"].isin(expected)].reset_index(drop=True), check_categorical=False
    )
    hidden = filters.where(runs, {"arch.hidden": "[32, 32]", "seed": "0"})
    assert set(hidden["arch"]) == {"sigmoid_32_32"}


TRIALS = pd.DataFrame({
    "init": pd.Categorical(["he", "he2", "max", "a,b", None]),
    "seed": pd.array([0, 1, 2, 2**62, None], dtype="Int64"),
    "lr": [0.1, 1e-5, 0.3, 1 / 3, math.nan],
    "shuffle": pd.array([True, False, True, None, False], dtype="boolean"),
    "hidden": ["[64, 32]", "[8]", "[]", "[64, 32]", None],
    "text": ["0.1", "a b", "it's", "$x(", "07"],
})  # fmt: skip


@pytest.mark.parametrize(
    ("key", "values", "rows"),
    [
        ("init", "he", [0]),
        ("init", "he, max", [0, 2]),
        ("init", "choice(he,max)", [0, 2]),
        ("init", "'he',\"max\"", [0, 2]),
        ("init", "glob(he*)", [0, 1]),
        ("init", "glob(*,exclude=he*)", [2, 3]),
        ("init", "a,b", [3]),
        ("init", "'a,b',he", [0, 3]),
        ("init", "null", [4]),
        ("init", "–,he", [0, 4]),
        ("seed", "range(2)", [0, 1]),
        ("seed", "range(0,3,2)", [0, 2]),
        ("seed", "+1,2e0", [1, 2]),
        ("seed", f"{2**62},'1'", [1, 3]),
        ("seed", "1.0", [1]),
        ("lr", "1e-1", [0]),
        ("lr", ".1,0.00001", [0, 1]),
        ("lr", "'1e-1',1e-5", [0, 1]),
        ("lr", "0.333333", [3]),
        ("lr", f"{1 / 3},0.3", [2, 3]),
        ("lr", "null", [4]),
        ("shuffle", "true", [0, 2]),
        ("shuffle", "False", [1, 4]),
        ("shuffle", "1,null", [0, 2, 3]),
        ("shuffle", "no", [1, 4]),
        ("hidden", "[64,32]", [0, 3]),
        ("hidden", "[64, 32]", [0, 3]),
        ("hidden", "[64,32],[8]", [0, 1, 3]),
        ("hidden", "[],null", [2, 4]),
        ("text", "a b", [1]),
        ("text", "0.1,'it\\'s'", [0, 2]),
        ("text", "$x(,a b", [1, 3]),
        ("text", "07", [4]),
    ],
)
def test_trials_are_selected_in_the_grammar_of_a_sweep_and_by_value(key, values, rows):
    assert filters.where(TRIALS.assign(row=range(5)), {key: values})["row"].tolist() == rows


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("seed", "true", "seed=true: no trial has it; trials have 0, 1, 2"),
        ("seed", "range(9)", "seed=3: no trial has it"),
        ("seed", "range(10000000000)", "more than 10,000 values"),
        ("seed", "interval(0,2)", "not a value or list of values; trials have 0, 1, 2"),
        ("seed", "range(0,1,0)", "not a value"),
        ("seed", "range(0,1,0.0)", "not a value"),
        pytest.param("seed", "9" * 5000, "not a value", id="digits without end"),
        pytest.param("seed", "1" + "0" * 400, "no trial has it", id="beyond a float"),
        ("seed", "nan", "seed=nan: no trial has it"),
        ("lr", "0.2", r"lr=0\.2: no trial has it; trials have 0\.1, 1e-05"),
        ("shuffle", "maybe", "shuffle=maybe: no trial has it; trials have True, False"),
        ("init", "glob(x*)", r"init=glob\(x\*\): no trial has it"),
        ("init", "he,mx", "init=mx: no trial has it; .* Did you mean 'max'?"),
        ("init", "he,", "init=he,: not a value"),
        ("init", "1", "init=1: no trial has it"),
        ("hidden", "[64", r"hidden=\[64: not a value or list of values; trials have \[64, 32\], \[8\]"),
        ("hidden", "[64,33]", r"hidden=\[64, 33\]: no trial has it; .* Did you mean '\[64, 32\]'?"),
        pytest.param("hidden", "[" * 5000, "not a value", id="brackets without end"),
        ("text", "{a:1}", "no trial has it"),
        ("text", "${seed}", "no trial has it"),
    ],
)
def test_selecting_a_value_that_no_trial_has_is_a_clear_error(key, values, message):
    with pytest.raises(FnnexpError, match=message):
        filters.where(TRIALS, {key: values})


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"innit": "he"}, "have no 'innit' to select by; they have arch, init, .* Did you mean 'init'?"),
        ({"init": "he,mx"}, "init=mx: no trial has it; trials have sqrtmax, .* Did you mean 'max'?"),
        ({"arch": "relu_100", "arch.hidden": "[32, 32]"}, "No trial has arch=relu_100 arch.hidden"),
        ({"status": "failed"}, "have no 'status' to select by"),
    ],
)
def test_selecting_trials_that_do_not_exist_is_a_clear_error(runs, wanted, message):
    with pytest.raises(FnnexpError, match=message):
        filters.where(runs, wanted)


def test_networks_with_hundreds_of_layers_have_distinct_short_names(empty_store, tmp_path):
    deep = Store(empty_store(tmp_path / "deep"))
    ups, downs = list(range(100, 200)), list(range(199, 99, -1))
    nets = {"8": [8] * 400, "16": [16] * 400, "up": ups, "other": [*ups[:50], 7, *ups[51:]], "down": downs}
    for (i, widths), init in product(enumerate(nets.values()), ("he", "max")):
        curve = {1: metrics_at(1, dict.fromkeys(SPLITS, 0.9 - i / 8 - 0.01 * (init == "max")))}
        name = "_".join(["relu", *map(str, widths)])
        options = params(name, init, **{"arch.hidden": str(widths)})
        status = "failed" if (i, init) == (4, "max") else "finished"
        deep.add("deep", f"{name}-{init}", options, curve, trial=trial_id(i, init), status=status)
    page, terminal = write(deep, "deep", tmp_path / "r")
    cells = [row[0][0] for row in Page(page).tables[0][1:]]
    assert cells[:2] == ["relu_400x8", "relu_400x8"]
    assert len(set(cells)) == 5
    assert max(map(len, cells)) <= LONGEST
    assert "relu_400x8 he leads and is 1.00 points ahead" in " ".join(terminal.split())
    assert "fnnexp report deep arch=" not in terminal  # a shortened name cannot select trials
    assert "_8_8_8" not in page
    assert set(pd.read_csv(tmp_path / "r" / "runs.csv")["arch.hidden"]) == set(map(str, nets.values()))


@pytest.mark.usefixtures("blank_figures")
def test_an_empty_experiment_and_an_unwritable_folder_are_clear_errors(store, tmp_path):
    with pytest.raises(FnnexpError, match="has no fnnexp trials"):
        report.write("empty", tmp_path, tracking_uri=store.uri)
    (tmp_path / "file").write_text("")
    with pytest.raises(FnnexpError, match="Name another folder"):
        report.write("grid", tmp_path / "file", tracking_uri=store.uri)


@pytest.mark.usefixtures("blank_figures")
def test_the_default_folder_is_reports_and_the_experiment(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = report.write("untrained", tracking_uri=store.uri, console=Console(file=io.StringIO()))
    assert page.resolve() == tmp_path / "reports" / "untrained" / "report.html"


@pytest.mark.usefixtures("blank_figures")
def test_reports_have_different_folders_and_a_plain_name_is_kept(store, tmp_path, monkeypatch):
    plain = ["card_grid", "v1.2-b", "ü", "experiment", "a_b", "x" * 100]
    changed = ["a b", "a/b", "a\\b", "a_b_", "..", ".", "*", "nul", "CON.x", "x" * 101, "x" * 102, "a b\0c=d"]
    folders = {name: commands.file_name(name) for name in plain + changed}
    assert [folders[name] for name in plain] == plain
    assert len({folder.lower() for folder in folders.values()}) == len(folders)
    monkeypatch.chdir(tmp_path)
    console = Console(file=io.StringIO())
    for where in ({"init": "he,max"}, {"init": "'he','max'"}, {}):
        report.write("grid", where=where, tracking_uri=store.uri, console=console)
    names = sorted(folder.name for folder in (tmp_path / "reports").iterdir())
    assert len(names) == 3
    assert names[0] == "grid"
    assert all(name.startswith("grid_init_he_max-") for name in names[1:])


@pytest.mark.usefixtures("blank_figures")
def test_the_report_is_in_mlflow_once_and_is_not_a_trial(store, tmp_path):
    before = frames.runs("untrained", tracking_uri=store.uri).drop(columns="look")  # a report records it
    experiment = store.experiments["untrained"]
    note = "mlflow.note.content"
    for _ in range(2):
        _, shown = write(store, "untrained", tmp_path)
        assert "In MLflow: the artifacts of run 'report'" in shown
    after = frames.runs("untrained", tracking_uri=store.uri).drop(columns="look")
    pd.testing.assert_frame_equal(after, before)
    (run,) = store.client.search_runs([experiment], "tags.`fnnexp.report` = 'true'")
    assert run.info.status == "FINISHED"
    logged = {file.path for file in store.client.list_artifacts(run.info.run_id)}
    assert logged == {file.name for file in tmp_path.iterdir()}
    assert {"report.html", "report.md", "leaderboard.csv", "heat_map.svg", "heat_map.png"} <= logged
    assert "The one configuration has 12.50%" in store.client.get_experiment(experiment).tags[note]
    # A note that a user wrote is kept.
    store.client.set_experiment_tag(experiment, note, "mine")
    write(store, "untrained", tmp_path)
    assert store.client.get_experiment(experiment).tags[note] == "mine"


def test_only_files_of_the_report_are_logged_and_a_failure_to_log_keeps_the_report(
    store, tmp_path, monkeypatch
):
    (tmp_path / "private.txt").write_text("mine")
    write(store, "all_failed", tmp_path)
    (run,) = store.client.search_runs([store.experiments["all_failed"]], "tags.`fnnexp.report` = 'true'")
    assert "private.txt" not in {file.path for file in store.client.list_artifacts(run.info.run_id)}

    def refuse(*_):
        raise PermissionError("read only")

    monkeypatch.setattr(report.experiments, "log_report", refuse)
    page, shown = write(store, "all_failed", tmp_path)
    assert "The report is not in MLflow: PermissionError: read only" in shown
    assert "No trial has finished" in page


def test_every_figure_is_a_self_contained_file(written):
    folder, _ = written
    names = ("val_accuracy", "val_loss", "heat_map", "accuracy_against_time")
    for name in names:
        svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
        assert svg.startswith("<?xml")
        assert "background: #fff" in svg
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text(encoding="utf-8")
    order = [
        "The answer", "What was run", "Leaderboard", "By architecture", "Pairs", "Batching modes",
        "How much each", "Curves", "Accuracy against", "Mistakes", "Diverged", "How to reproduce",
    ]  # fmt: skip
    heads = re.findall("<h2>(.*?)</h2>", page)
    assert [head for start, head in zip(order, heads, strict=True) if head.startswith(start)] == heads
    links = set(re.findall("href='(.*?)'", page))
    anchors = {f"#{anchor}" for anchor in re.findall("<section id='(.*?)'", page)}
    assert links <= {file.name for file in folder.iterdir()} | anchors


# The drawings


def test_each_initializer_has_a_fixed_and_unique_style():
    many = [*style.KNOWN, "normal std=0.3", "normal std=1", "mine"]
    styles = style.styles(many)
    assert style.styles(["he", "mine"])["he"] == styles["he"]
    assert len({each.marker for each in styles.values()}) == len(many)  # unique even without colour
    assert styles["normal std=0.3"].color == styles["normal"].color
    files = (Path(__file__).parents[2] / "conf" / "init").glob("*.yaml")
    assert {*style.KNOWN} == {file.stem for file in files}


# Machado, Oliveira & Fernandes (2009): linear RGB as seen with protanopia, deuteranopia and tritanopia.
SEEN = (
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
)  # fmt: skip
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def test_any_two_colours_of_initializers_are_told_apart_and_stand_out_from_the_page():
    def linear(colours):
        parts = np.array([[int(each[i : i + 2], 16) / 255 for i in (1, 3, 5)] for each in colours])
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)

    def distances(rgb):  # CIELAB 1976
        f = np.cbrt(np.clip(rgb, 1e-3, 1) @ np.transpose(XYZ) / np.sum(XYZ, axis=1))
        lab = np.stack([116 * f[:, 1], 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
        return np.linalg.norm(lab[:, None] - lab, axis=-1) + 1000 * np.eye(len(lab))

    rgb = linear(style.COLOURS)
    assert len(rgb) == len(style.KNOWN)
    assert distances(rgb).min() > 14
    assert distances(rgb[:8]).min() > 25
    for matrix in SEEN:
        assert distances(rgb @ np.transpose(matrix)).min() > 6
    light = rgb @ XYZ[1]
    for page in linear(["#ffffff", "#15181c"]) @ XYZ[1]:
        contrast = (np.maximum(light, page) + 0.05) / (np.minimum(light, page) + 0.05)
        assert contrast.min() >= 3


def test_numbers_in_cells_can_be_read_on_every_shade_in_light_and_dark():
    def light(colour):  # relative luminance (WCAG 2.2)
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ XYZ[1]

    for step in range(style.STEPS + 1):
        pair = style.shade(step / style.STEPS)
        for colours in (pair, [style.SHADES[colour][1] for colour in pair]):
            low, high = sorted(map(light, colours))
            assert (high + 0.05) / (low + 0.05) >= 4.5


def test_the_mean_and_band_of_curves_are_over_seeds(store, runs):
    points = averages.of_curves(runs, frames.curves("grid", tracking_uri=store.uri), "val_accuracy")
    for row in points[points["init"] != "he"].itertuples():
        values = [accuracy(row.arch, row.init, row.batching, seed, row.epoch, "val") for seed in SEEDS]
        interval = statistics.mean_interval(values)
        assert interval.method == "t"
        assert (row.mean, row.low, row.high) == pytest.approx((plain.fmean(values), *interval[:2]))


def test_panels_and_legend_do_not_overlap(store, runs):
    names = [f"initializer_{i}" for i in range(12)]
    places = [divmod(i, 3) for i in range(9)]
    headers = ["relu_100", "tanh_128", "sigmoid_32_32"]
    figure, _ = layout.panels(places, ["mini"] * 9, len(names), y_label="accuracy", headers=headers)
    layout.add_legend(figure, layout.legend_lines(style.styles(names)))
    assert_legible(figure)


def test_a_loss_that_would_flatten_the_rest_is_cut():
    points = pd.DataFrame({"arch": "a", "batching": "b", "init": ["x", "y", "z"], "epoch": 1.0})
    points = points.assign(mean=[0.3, 0.4, 900.0], high=[0.3, 0.4, 1000.0])
    assert curves.loss_limit(points) == pytest.approx(1.5 * math.log(10))
    assert curves.loss_limit(points.assign(mean=0.3, high=0.4)) == pytest.approx(0.42)


def test_numpy_scalars_are_written_like_plain_numbers():
    assert as_text(np.float64(1e-05)) == "1e-05"
    assert as_text(np.int64(3)) == "3"
