"""Diagnostics of whole sweeps: in the store, through checkpoints, in the frames and in the report."""

from __future__ import annotations

import csv
import doctest
import io
import json
import os
import re
import signal

import numpy as np
import pandas as pd
import pytest
from boxes import assert_legible
from files import in_first_format
from rich.console import Console
from stores import curve_in, points, runs_in, weights_in
from threadpoolctl import threadpool_limits

import fnnexp
from fnnexp.config.execution import Execution
from fnnexp.data import datasets as data
from fnnexp.nn import layer_stats as diagnostics
from fnnexp.nn.layer_stats import has_diagnostics
from fnnexp.nn.training import advance, start
from fnnexp.reporting.plots import layers as diagnosis_plots
from fnnexp.reporting.plots import style
from fnnexp.reporting.sections import layers as diagnosis
from fnnexp.results import frames
from fnnexp.sweeping import executor as executor_module
from fnnexp.sweeping.checkpoints import Checkpoints
from fnnexp.sweeping.loop import run
from fnnexp.sweeping.worker import train_segment
from fnnexp.tracking.run_format import METRICS, MOST_METRICS, batches_of
from fnnexp.tracking.writer import Tracker

GRID = [
    "data=digits", "data.validation=237", "arch=relu_98,sigmoid_32_32", "init=max,he", "batching=full,mini",
    "seed=0,1", "epochs=2",
]  # fmt: skip
HERE = ["execution.n_jobs=2", "execution.backend=threading", "execution.segment_seconds=0.01"]


@pytest.fixture(scope="module")
def swept(invoke, empty_store, tmp_path_factory):
    """Return the folder in which GRID has run with diagnostics and, in another experiment, without."""
    folder = tmp_path_factory.mktemp("why")
    empty_store(folder)
    for name, asked in (("why", "true"), ("plain", "false")):
        told = [f"tracking.experiment={name}", f"diagnostics={asked}"]
        ran = invoke("-m", *GRID, *HERE, *told, cwd=folder)
        assert (ran.status, ran.err) == (0, "")
    return folder


@pytest.fixture(scope="module")
def diagnosed():
    """Return ``diagnosed(trial)``: its records with diagnostics when it is trained here, alone, in one go."""

    def train(trial):
        with threadpool_limits(1, "blas"):
            begin = start(trial.recipe, [trial.lane()])
            return advance(trial.recipe, begin, data.load(trial.data), diagnostics=True)[1]

    return train


def test_a_sweep_with_diagnostics_has_the_trials_curves_and_weights_of_one_without(
    swept, same_bits, trials_of
):
    looked, plain = (runs_in(swept, name) for name in ("why", "plain"))
    assert set(looked) == set(plain) == {trial.id for trial in trials_of(*GRID)}
    for trial, one in plain.items():
        ids = one.info.run_id, looked[trial].info.run_id
        without, with_them = (curve_in(swept, run_id) for run_id in ids)
        assert [point for point in with_them if not has_diagnostics([point[0]])] == without
        assert same_bits(*(weights_in(swept, run_id) for run_id in ids))
        assert looked[trial].data.params == one.data.params
        assert looked[trial].info.run_name == one.info.run_name


def test_a_runs_diagnostics_are_those_of_the_trial_alone(swept, trials_of, diagnosed):
    there = runs_in(swept, "why")
    for trial in trials_of(*GRID)[::3]:
        assert curve_in(swept, there[trial.id].info.run_id) == points(diagnosed(trial))


def test_the_time_of_an_epoch_is_a_mean_over_epochs_and_not_over_the_start(store, trials_of, own_folder):
    trials = trials_of("epochs=1", "batching=full")
    sweep(trials, store, diagnostics=True)
    (one,) = runs_in(own_folder).values()
    assert float(one.data.tags["fnnexp.seconds_per_epoch"]) > 0
    assert max(step for _, step, _ in curve_in(own_folder, one.info.run_id)) == 1


def sweep(trials, store, **changed):
    console = Console(file=io.StringIO(), width=200)
    settings = Execution(**{"n_jobs": 1, "backend": "threading"} | changed)
    return run(trials, Tracker("fnnexp", store), settings, console), console.file.getvalue()


def test_progress_counts_epochs_of_training_only(store, trials_of):
    _, said = sweep(trials_of("epochs=3", "batching=full"), store, diagnostics=True)
    assert "epochs 3/3 · trials 1/1" in said


# --- one after the other with and without ---


@pytest.mark.parametrize("dry", [False, True])
def test_what_is_done_without_diagnostics_is_counted_and_said(swept, invoke, dry):
    command = ["-m", *GRID, *HERE, "tracking.experiment=plain", "diagnostics=true", f"dry_run={dry}"]
    before = {trial: one.to_dictionary() for trial, one in runs_in(swept, "plain").items()}
    ran = invoke(*command, cwd=swept)
    assert ran.status == 0
    assert "16 of the 16 trials that are done were trained without diagnostics" in ran.out
    assert "write tracking.experiment=NAME" in ran.out
    assert {trial: one.to_dictionary() for trial, one in runs_in(swept, "plain").items()} == before
    told = [word.replace("plain", "why") for word in command]
    assert "without diagnostics" not in invoke(*told, cwd=swept).out


@pytest.mark.parametrize(("first", "then"), [(True, True), (False, True), (True, False)])
def test_a_trial_goes_on_from_its_checkpoint_with_or_without(
    first, then, store, own_folder, trials_of, diagnosed, monkeypatch
):
    """Ctrl-C comes in the first of three epochs, each a segment; then the same trials are asked for again."""
    trials = trials_of("epochs=3", "seed=0,1", "batching=full")

    def interrupted(planned, execution):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", interrupted)
    outcome, _ = sweep(trials, store, diagnostics=first, segment_seconds=0.0)
    assert outcome.interrupted
    outcome, said = sweep(trials, store, diagnostics=then, segment_seconds=0.0)
    assert len(outcome.finished) == 2
    assert "2 begun before: they go on where they were" in said
    unlike = {
        (False, True): "2 of them have diagnostics from here on; so far they were trained with ",
        (True, False): "2 of them have no diagnostics from here on; so far they were trained with ",
    }
    assert (unlike.get((first, then), "from here on") in said) == (first != then)
    for trial in trials:
        expected = [
            point
            for point in points(diagnosed(trial))
            if not has_diagnostics([point[0]]) or (first if point[1] <= 1 else then)
        ]
        assert curve_in(own_folder, runs_in(own_folder)[trial.id].info.run_id) == expected
    told = fnnexp.diagnostics("fnnexp", tracking_uri=store)
    assert set(told["epoch"]) == ({0, 1} if first else set()) | ({2, 3} if then else set())


@pytest.mark.parametrize(
    "harm",
    [
        lambda meta: meta["curve"][0][1].update(test_loss=0.5),  # at epoch 0 there is nothing else
        lambda meta: meta["curve"][1][1].pop("test_loss"),
        lambda meta: meta["curve"][1][1].update({"layer9/z_std": 1.0}),  # it has two layers
        lambda meta: meta["curve"][1][1].update({"layer2/dead": 0.5}),  # of the logits
        lambda meta: meta["curve"][1][1].update({"layer1/z_std": "1"}),
        lambda meta: meta["curve"].pop(1),
        lambda meta: meta["curve"].pop(2),
        lambda meta: meta.update(epoch=3),
        lambda meta: meta.update(note="x" * 20_000),
    ],
)
def test_a_checkpoint_with_diagnostics_is_read_as_it_was_written_and_refused_when_changed(
    harm, trials_of, own_folder
):
    (trial,) = trials_of("epochs=5")
    begin, arrays = start(trial.recipe, [trial.lane()]), data.load(trial.data)
    first, records = advance(trial.recipe, begin, arrays, seconds=0, diagnostics=True)
    stack, more = advance(trial.recipe, first, arrays, seconds=0, diagnostics=True)
    kept, curve = Checkpoints(own_folder), [*records, *more]
    kept.save(stack, {trial.numbers_id: curve})
    assert kept.load(trial.lane(), trial.recipe)[1] == curve
    file = own_folder / f"{trial.numbers_id}.npz"
    arrays = in_first_format(file)
    meta = json.loads(arrays["meta"].tobytes())
    harm(meta)
    np.savez(file, **arrays | {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)})
    with pytest.raises(ValueError, match="set aside"):
        kept.load(trial.lane(), trial.recipe)


def test_no_epoch_is_cut_between_two_batches_that_fits_one():
    sizes = [3, 400, 400, 400, 999, 2, 1000, 2500, 1]
    curve = [(epoch, {f"m{i}": float(i) for i in range(size)}) for epoch, size in enumerate(sizes)]
    batches = batches_of(curve)
    assert all(0 < len(batch) <= MOST_METRICS for batch in batches)
    flat = [(point.step, point.key, point.value) for batch in batches for point in batch]
    assert flat == [(epoch, name, value) for epoch, values in curve for name, value in values.items()]
    for epoch, size in enumerate(sizes):
        held = sum(any(point.step == epoch for point in batch) for batch in batches)
        assert held == (1 if size <= MOST_METRICS else 3)
    assert batches_of([]) == [[]]


# --- the frames ---


def test_the_frame_holds_every_recorded_diagnostic_and_the_curves_none(swept):
    uri = f"sqlite:///{swept / 'mlflow.db'}"
    told = fnnexp.diagnostics("why", tracking_uri=uri)
    curves = fnnexp.curves("why", tracking_uri=uri)
    for trial, one in runs_in(swept, "why").items():
        stored = curve_in(swept, one.info.run_id)
        mine = told[told["trial"] == trial]
        names = "layer" + mine["layer"].astype(str) + "/" + mine["quantity"].astype(str)
        assert sorted(zip(names, mine["epoch"], mine["value"], strict=True)) == [
            point for point in stored if has_diagnostics([point[0]])
        ]
        mine = curves[curves["trial"] == trial]
        assert len(mine) == len(stored) - len(names) == 12
    order = ["epoch", "layer", "quantity"]
    for _, part in told.groupby("trial", observed=True, sort=False):
        assert part[order].equals(part[order].sort_values(order))
    assert list(curves["metric"].cat.categories) == list(METRICS)


def test_the_frame_has_the_same_columns_and_types_where_nothing_was_recorded(swept):
    uri = f"sqlite:///{swept / 'mlflow.db'}"
    told, none = (fnnexp.diagnostics(name, tracking_uri=uri) for name in ("why", "plain"))
    assert len(none) == 0
    assert list(told.columns) == list(none.columns)
    expected = {"trial": "category", "seed": "Int64", "epoch": "Int64", "layer": "Int64", "value": "float64"}
    for name, dtype in expected.items():
        assert (str(told[name].dtype), str(none[name].dtype)) == (dtype, dtype)
    assert list(told["quantity"].cat.categories) == list(diagnostics.QUANTITIES)


def test_the_frames_read_at_once_are_those_of_three_calls(swept):
    uri = f"sqlite:///{swept / 'mlflow.db'}"
    for experiment in ("why", "plain"):
        for name, frame in frames.whole(experiment, tracking_uri=uri)._asdict().items():
            pd.testing.assert_frame_equal(frame, getattr(fnnexp, name)(experiment, tracking_uri=uri))


# --- the report ---


@pytest.fixture(scope="module")
def written(swept, invoke):
    """Return the folder of the report with diagnostics, for which the store's trials are read once."""
    read, times = frames.reader.trials, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames.reader, "trials", lambda *given: (times.append(given), read(*given))[1])
        assert invoke("report", "why", "--folder", "report", cwd=swept).status == 0
    assert len(times) == 1
    return swept / "report"


def test_why_stands_behind_the_answer_with_its_figures_and_files(written):
    """That it stands in no report without diagnostics is held where such a report's headings are listed."""
    page = (written / "report.html").read_text("utf-8")
    heads = re.findall("<h2>(.*?)</h2>", page)
    at = heads.index("Why")
    assert heads[at - 1] == "The answer"
    assert "## Why" in (written / "report.md").read_text("utf-8")
    files = {f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")} | {"why.csv", "diagnostics.csv"}
    assert files <= {file.name for file in written.iterdir()}
    assert {"why.csv", "diagnostics.csv"} <= set(re.findall("href='(.*?)'", page))


FIGURES = ("at_start", "idle_by_epoch", "update_ratio_by_epoch")


def test_a_report_of_a_part_has_its_diagnostics_only(swept, written, invoke):
    assert invoke("report", "why", "init=he", "--folder", "part", cwd=swept).status == 0
    tables = [(folder / "diagnostics.csv").read_text("utf-8") for folder in (written, swept / "part")]
    everything, part = (list(csv.DictReader(io.StringIO(table))) for table in tables)
    assert part
    assert part == [row for row in everything if row["init"] == "he"]


def test_the_tables_are_means_over_seeds_of_what_was_recorded(written, swept):
    told = frames.diagnostics("why", tracking_uri=f"sqlite:///{swept / 'mlflow.db'}")
    with (written / "why.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["when"] for row in rows} == {"start", "end"}
    for row in rows:
        mine = told[
            (told["arch"] == row["arch"])
            & (told["init"] == row["init"])
            & (told["layer"] == int(row["layer"]))
            & (told["quantity"] == row["quantity"])
            & (told["epoch"] == (0 if row["when"] == "start" else 2))
            & ((told["batching"] == row["batching"]) | (row["when"] == "start"))
        ].drop_duplicates(["seed"])
        values = mine["value"]
        assert (int(row["seeds"]), float(row["low"]), float(row["high"])) == (2, values.min(), values.max())
        assert float(row["mean"]) == pytest.approx(values.mean(), rel=1e-12)
    text = (written / "report.md").read_text("utf-8")
    (shown,) = re.findall(r"\| relu_98 \| he \| 2 \| (.*?) \|", text)
    expected = [
        float(row["mean"])
        for row in rows
        if (row["arch"], row["init"], row["quantity"], row["when"]) == ("relu_98", "he", "z_std", "start")
    ]
    assert shown == " → ".join(f"{value:.3g}" for value in expected)


def made(spreads, backs=(), arch="tanh_3"):
    """Return a start frame of made-up spreads, {init: a spread a layer}."""
    rows = [
        {"arch": arch, "init": init, "layer": layer, "quantity": quantity, "mean": value}
        for quantity, table in (("z_std", spreads), ("dz_std", dict(backs)))
        for init, values in table.items()
        for layer, value in enumerate(values, start=1)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(init=frame["init"].astype(pd.CategoricalDtype(list(spreads))))


def test_the_sentences_say_whose_spread_shrinks_grows_and_stays():
    spreads = {"max": [1.0, 0.3, 0.1], "he": [1.0, 9.0, 1.9], "normal": [2.0, 4.0, 8.0]}
    backs = {"max": [0.02, 0.1, 0.2], "he": [0.3, 0.1, 0.2], "normal": [0.0, 0.0, 0.2]}
    (said,) = diagnosis.start_sentences(made(spreads, backs))
    assert said == (
        "tanh_3 at the start: from the first layer to the last the spread of pre-activations shrinks with "
        "max (×0.1), grows with normal (×4), stays within a factor of 2 with he. From the last back to the "
        "first the spread of gradients shrinks with max (×0.1), normal (×0), stays within a factor of 2 "
        "with he."
    )


def test_a_network_of_one_layer_has_no_first_and_last():
    assert diagnosis.start_sentences(made({"he": [1.0]})) == []


def test_only_trials_of_which_the_end_was_seen_count_at_the_end(swept, monkeypatch):
    monkeypatch.setattr(diagnosis, "figures", lambda *_: [])  # which take seconds
    uri = f"sqlite:///{swept / 'mlflow.db'}"
    runs, told = frames.runs("why", tracking_uri=uri), frames.diagnostics("why", tracking_uri=uri)
    some = told[(told["seed"] == 0) | (told["epoch"] < 2)]
    points = diagnosis._points(runs, some)
    assert set(diagnosis.at_start(runs, points)["seeds"]) == {2}
    assert set(diagnosis.at_end(runs, points)["seeds"]) == {1}
    section = diagnosis.section(runs, told[told["seed"] == 0])
    assert "8 of 16 trials have diagnostics; the others were trained without." in section.sentences
    assert diagnosis.section(runs, told[:0]).blocks == []


@pytest.mark.parametrize("layers", [1, 3])
def test_no_label_of_the_figures_overlaps_another_panel_or_the_legend(layers):
    inits = [*style.KNOWN, "normal std=0.3"]
    rows = [
        {"arch": f"an_architecture_{a}", "init": init, "layer": layer, "quantity": quantity,
         "batching": batching, "epoch": epoch, "mean": value / 10**layer, "low": 0.0,
         "high": 2 * value / 10**layer}
        for a in range(2) for i, init in enumerate(inits) for layer in range(1, layers + 1)
        for quantity, value in (("z_std", 3.0), ("dz_std", 1e-5), ("idle", 10.0 * i))
        for batching in ("full", "mini") for epoch in range(3)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    for column in ("arch", "init", "batching"):
        frame[column] = frame[column].astype(pd.CategoricalDtype(list(frame[column].unique())))
    first = frame[(frame["epoch"] == 0) & (frame["batching"] == "full")]
    for figure in (
        diagnosis_plots.at_start(first),
        diagnosis_plots.by_epoch(frame[frame["quantity"] == "z_std"], "update ratio", log=True),
        diagnosis_plots.by_epoch(frame[frame["quantity"] == "idle"], "dead or saturated %", log=False),
    ):
        assert_legible(figure)
    assert diagnosis_plots.at_start(first[:0]) is None
    assert diagnosis_plots.by_epoch(first[:0], "", log=True) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("zeros", ["layer", "quantity"])
def test_what_is_zero_throughout_is_drawn_without_a_warning(zeros):
    """Images of zeros move no weight of the first layer; a network of that layer alone has no other ratio."""
    rows = [
        {"arch": "a", "init": "he", "layer": layer, "quantity": quantity, "batching": "mini", "epoch": epoch,
         **dict.fromkeys(("mean", "low", "high"), 0.0 if zeros == "quantity" or layer == 1 else 0.5)}
        for layer in (1, 2) for quantity in ("z_std", "dz_std") for epoch in (1, 2)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).astype(dict.fromkeys(("arch", "init", "batching"), "category"))
    start = diagnosis_plots.at_start(frame[frame["epoch"] == 1])
    ratio = diagnosis_plots.by_epoch(frame[frame["quantity"] == "z_std"], "update ratio", log=True)
    for figure in (start, ratio):
        figure.draw_without_rendering()
        assert {ax.get_yscale() for ax in figure.axes} == {"linear" if zeros == "quantity" else "log"}
        if zeros == "layer":
            assert {ax.get_ylim() for ax in figure.axes} == {(0.5 / 1.5, 0.5 * 1.5)}


@pytest.mark.parametrize("module", [diagnosis, diagnostics])
def test_the_examples_run(module):
    assert doctest.testmod(module).failed == 0
