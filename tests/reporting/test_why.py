"""Diagnostics of sweeps in the store, in checkpoints, in frames and in the report."""

from __future__ import annotations

import csv
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
from fnnexp.nn import layer_stats
from fnnexp.nn.layer_stats import has_diagnostics
from fnnexp.nn.training import advance, start
from fnnexp.reporting.plots import layers as plots
from fnnexp.reporting.plots import style
from fnnexp.reporting.sections import layers
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
IN_PROCESS = ["execution.n_jobs=2", "execution.backend=threading", "execution.segment_seconds=0.01"]


@pytest.fixture(scope="module")
def swept(invoke, empty_store, tmp_path_factory):
    """Return a folder in which GRID ran with diagnostics (experiment `why`) and without (`plain`)."""
    folder = tmp_path_factory.mktemp("why")
    empty_store(folder)
    for name, diagnostics in (("why", "true"), ("plain", "false")):
        overrides = [f"tracking.experiment={name}", f"diagnostics={diagnostics}"]
        ran = invoke("-m", *GRID, *IN_PROCESS, *overrides, cwd=folder)
        assert (ran.status, ran.err) == (0, "")
    return folder


@pytest.fixture(scope="module")
def diagnosed():
    """Return a function that trains a trial alone, in one segment, and returns its records."""

    def train(trial):
        with threadpool_limits(1, "blas"):
            begin = start(trial.recipe, [trial.lane()])
            return advance(trial.recipe, begin, data.load(trial.data), diagnostics=True)[1]

    return train


def test_diagnostics_do_not_change_curves_and_weights(swept, same_bits, trials_of):
    diagnosed, plain = (runs_in(swept, name) for name in ("why", "plain"))
    assert set(diagnosed) == set(plain) == {trial.id for trial in trials_of(*GRID)}
    for trial, plain_run in plain.items():
        ids = plain_run.info.run_id, diagnosed[trial].info.run_id
        without, with_diagnostics = (curve_in(swept, run_id) for run_id in ids)
        assert [point for point in with_diagnostics if not has_diagnostics([point[0]])] == without
        assert same_bits(*(weights_in(swept, run_id) for run_id in ids))
        assert diagnosed[trial].data.params == plain_run.data.params
        assert diagnosed[trial].info.run_name == plain_run.info.run_name


def test_a_trial_has_the_same_diagnostics_in_a_sweep_and_alone(swept, trials_of, diagnosed):
    runs = runs_in(swept, "why")
    for trial in trials_of(*GRID)[::3]:
        assert curve_in(swept, runs[trial.id].info.run_id) == points(diagnosed(trial))


def test_the_time_per_epoch_does_not_count_epoch_zero(store, trials_of, own_folder):
    trials = trials_of("epochs=1", "batching=full")
    sweep(trials, store, diagnostics=True)
    (trained,) = runs_in(own_folder).values()
    assert float(trained.data.tags["fnnexp.seconds_per_epoch"]) > 0
    assert max(step for _, step, _ in curve_in(own_folder, trained.info.run_id)) == 1


def sweep(trials, store, **settings):
    console = Console(file=io.StringIO(), width=200)
    execution = Execution(**{"n_jobs": 1, "backend": "threading"} | settings)
    return run(trials, Tracker("digits", store), execution, console), console.file.getvalue()


def test_progress_counts_only_training_epochs(store, trials_of):
    _, shown = sweep(trials_of("epochs=3", "batching=full"), store, diagnostics=True)
    assert "epochs 3/3 · trials 1/1" in shown


# --- the same trials with and without diagnostics ---


@pytest.mark.parametrize("dry", [False, True])
def test_finished_trials_without_diagnostics_are_counted_in_a_note(swept, invoke, dry):
    command = ["-m", *GRID, *IN_PROCESS, "tracking.experiment=plain", "diagnostics=true", f"dry_run={dry}"]
    before = {trial: each.to_dictionary() for trial, each in runs_in(swept, "plain").items()}
    ran = invoke(*command, cwd=swept)
    assert ran.status == 0
    assert "16 of 16 trials done before have no diagnostics" in ran.out
    assert "write tracking.experiment=NAME" in ran.out
    assert {trial: one.to_dictionary() for trial, one in runs_in(swept, "plain").items()} == before
    words = [word.replace("plain", "why") for word in command]
    assert "no diagnostics" not in invoke(*words, cwd=swept).out


@pytest.mark.parametrize(("first", "then"), [(True, True), (False, True), (True, False)])
def test_a_trial_resumes_from_its_checkpoint_with_or_without_diagnostics(
    first, then, store, own_folder, trials_of, diagnosed, monkeypatch
):
    """Ctrl-C interrupts the first of three one-epoch segments; then the same trials run again."""
    trials = trials_of("epochs=3", "seed=0,1", "batching=full")

    def interrupted(planned, execution):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", interrupted)
    outcome, _ = sweep(trials, store, diagnostics=first, segment_seconds=0.0)
    assert outcome.interrupted
    outcome, lines = sweep(trials, store, diagnostics=then, segment_seconds=0.0)
    assert len(outcome.finished) == 2
    assert "resuming 2 trials from the last checkpoint" in lines
    unlike = {
        (False, True): "diagnostics are recorded for 2 trials that started with diagnostics=false",
        (True, False): "diagnostics are no longer recorded for 2 trials that started with diagnostics=true",
    }
    assert (unlike.get((first, then), "that started with") in lines) == (first != then)
    for trial in trials:
        expected = [
            point
            for point in points(diagnosed(trial))
            if not has_diagnostics([point[0]]) or (first if point[1] <= 1 else then)
        ]
        assert curve_in(own_folder, runs_in(own_folder)[trial.id].info.run_id) == expected
    diagnostics = fnnexp.diagnostics("digits", tracking_uri=store)
    assert set(diagnostics["epoch"]) == ({0, 1} if first else set()) | ({2, 3} if then else set())


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta["curve"][0][1].update(test_loss=0.5),  # but epoch 0 may have diagnostics only
        lambda meta: meta["curve"][1][1].pop("test_loss"),
        lambda meta: meta["curve"][1][1].update({"layer9/z_std": 1.0}),  # the network has two layers
        lambda meta: meta["curve"][1][1].update({"layer2/dead": 0.5}),  # the logits have no dead units
        lambda meta: meta["curve"][1][1].update({"layer1/z_std": "1"}),
        lambda meta: meta["curve"].pop(1),
        lambda meta: meta["curve"].pop(2),
        lambda meta: meta.update(epoch=3),
        lambda meta: meta.update(note="x" * 200_000),
    ],
)
def test_a_checkpoint_with_diagnostics_round_trips_and_is_refused_if_changed(change, trials_of, own_folder):
    (trial,) = trials_of("epochs=5")
    begin, arrays = start(trial.recipe, [trial.lane()]), data.load(trial.data)
    stack, records = advance(trial.recipe, begin, arrays, seconds=0, diagnostics=True)
    stack, later = advance(trial.recipe, stack, arrays, seconds=0, diagnostics=True)
    checkpoints, curve = Checkpoints(own_folder), [*records, *later]
    checkpoints.save(stack, {trial.numbers_id: curve})
    assert checkpoints.load(trial.lane(), trial.recipe)[1] == curve
    file = own_folder / f"{trial.numbers_id}.npz"
    arrays = in_first_format(file)
    meta = json.loads(arrays["meta"].tobytes())
    change(meta)
    np.savez(file, **arrays | {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)})
    with pytest.raises(ValueError, match="set aside"):
        checkpoints.load(trial.lane(), trial.recipe)


def test_an_epoch_that_fits_into_one_batch_is_not_split():
    sizes = [3, 400, 400, 400, 999, 2, 1000, 2500, 1]
    curve = [(epoch, {f"m{i}": float(i) for i in range(size)}) for epoch, size in enumerate(sizes)]
    batches = batches_of(curve)
    assert all(0 < len(batch) <= MOST_METRICS for batch in batches)
    flat = [(point.step, point.key, point.value) for batch in batches for point in batch]
    assert flat == [(epoch, name, value) for epoch, values in curve for name, value in values.items()]
    for epoch, size in enumerate(sizes):
        parts = sum(any(point.step == epoch for point in batch) for batch in batches)
        assert parts == (1 if size <= MOST_METRICS else 3)
    assert batches_of([]) == [[]]


# --- the frames ---


def test_the_diagnostics_frame_has_every_recorded_value_and_the_curves_have_none(swept):
    uri = f"sqlite:///{swept / 'mlflow.db'}"
    diagnostics = fnnexp.diagnostics("why", tracking_uri=uri)
    curves = fnnexp.curves("why", tracking_uri=uri)
    for trial, stored_run in runs_in(swept, "why").items():
        stored = curve_in(swept, stored_run.info.run_id)
        rows = diagnostics[diagnostics["trial"] == trial]
        names = "layer" + rows["layer"].astype(str) + "/" + rows["quantity"].astype(str)
        assert sorted(zip(names, rows["epoch"], rows["value"], strict=True)) == [
            point for point in stored if has_diagnostics([point[0]])
        ]
        assert (curves["trial"] == trial).sum() == len(stored) - len(names) == 12
    order = ["epoch", "layer", "quantity"]
    for _, part in diagnostics.groupby("trial", observed=True, sort=False):
        assert part[order].equals(part[order].sort_values(order))
    assert list(curves["metric"].cat.categories) == list(METRICS)


def test_an_empty_diagnostics_frame_has_the_same_columns_and_types(swept):
    uri = f"sqlite:///{swept / 'mlflow.db'}"
    filled, empty = (fnnexp.diagnostics(name, tracking_uri=uri) for name in ("why", "plain"))
    assert len(empty) == 0
    assert list(filled.columns) == list(empty.columns)
    expected = {"trial": "category", "seed": "Int64", "epoch": "Int64", "layer": "Int64", "value": "float64"}
    for name, dtype in expected.items():
        assert (str(filled[name].dtype), str(empty[name].dtype)) == (dtype, dtype)
    assert list(filled["quantity"].cat.categories) == list(layer_stats.QUANTITIES)


def test_the_frames_that_are_read_together_equal_those_of_single_calls(swept):
    uri = f"sqlite:///{swept / 'mlflow.db'}"
    for experiment in ("why", "plain"):
        for name, frame in frames.whole(experiment, tracking_uri=uri)._asdict().items():
            pd.testing.assert_frame_equal(frame, getattr(fnnexp, name)(experiment, tracking_uri=uri))


def test_parts_of_curves_make_the_whole_and_metrics_can_be_chosen(swept):
    uri = f"sqlite:///{swept / 'mlflow.db'}"
    whole = fnnexp.curves("why", tracking_uri=uri)
    parts = list(fnnexp.curves("why", chunksize=3, tracking_uri=uri))
    assert [part["trial"].nunique() for part in parts[:-1]] == [3] * (len(parts) - 1)
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
    two = fnnexp.curves("why", metrics=["test_loss", "train_loss"], tracking_uri=uri)
    chosen = whole[whole["metric"].isin(["train_loss", "test_loss"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(two, chosen)
    with pytest.raises(fnnexp.FnnexpError, match=r"no metric 'val_los'\. Did you mean 'val_loss'"):
        fnnexp.curves("why", metrics="val_los", tracking_uri=uri)
    with pytest.raises(fnnexp.FnnexpError, match="chunksize=0 must be a number of trials"):
        fnnexp.curves("why", chunksize=0, tracking_uri=uri)


# --- the report ---


@pytest.fixture(scope="module")
def written(swept, invoke):
    """Return the folder of the report with diagnostics, after checking that trials are read only once."""
    read, calls = frames.reader.trials, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames.reader, "trials", lambda *args: (calls.append(args), read(*args))[1])
        assert invoke("report", "why", "--folder", "report", cwd=swept).status == 0
    assert len(calls) == 1
    return swept / "report"


def test_the_section_why_follows_the_answer_with_its_figures_and_files(written):
    """test_every_figure_is_a_self_contained_file checks that other reports lack this section."""
    page = (written / "report.html").read_text("utf-8")
    heads = re.findall("<h2>(.*?)</h2>", page)
    assert heads[heads.index("Why") - 1] == "The answer"
    assert "## Why" in (written / "report.md").read_text("utf-8")
    files = {f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")} | {"why.csv", "diagnostics.csv"}
    assert files <= {file.name for file in written.iterdir()}
    assert {"why.csv", "diagnostics.csv"} <= set(re.findall("href='(.*?)'", page))


FIGURES = ("at_start", "idle_by_epoch", "update_ratio_by_epoch")


@pytest.mark.usefixtures("blank_figures")
def test_a_report_on_a_part_has_only_its_diagnostics(swept, written, invoke):
    assert invoke("report", "why", "init=he", "--folder", "part", cwd=swept).status == 0
    tables = [(folder / "diagnostics.csv").read_text("utf-8") for folder in (written, swept / "part")]
    all_rows, part = (list(csv.DictReader(io.StringIO(table))) for table in tables)
    assert part
    assert part == [row for row in all_rows if row["init"] == "he"]


def test_the_tables_are_means_of_the_recorded_diagnostics_over_seeds(written, swept):
    diagnostics = frames.diagnostics("why", tracking_uri=f"sqlite:///{swept / 'mlflow.db'}")
    with (written / "why.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["when"] for row in rows} == {"start", "end"}
    for row in rows:
        values = diagnostics[
            (diagnostics["arch"] == row["arch"])
            & (diagnostics["init"] == row["init"])
            & (diagnostics["layer"] == int(row["layer"]))
            & (diagnostics["quantity"] == row["quantity"])
            & (diagnostics["epoch"] == (0 if row["when"] == "start" else 2))
            & ((diagnostics["batching"] == row["batching"]) | (row["when"] == "start"))
        ].drop_duplicates(["seed"])["value"]
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


def start_frame(deviations, gradients=(), arch="tanh_3"):
    """Return the statistics before training for given standard deviations, {init: one per layer}."""
    rows = [
        {"arch": arch, "init": init, "layer": layer, "quantity": quantity, "mean": value}
        for quantity, table in (("z_std", deviations), ("dz_std", dict(gradients)))
        for init, values in table.items()
        for layer, value in enumerate(values, start=1)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(init=frame["init"].astype(pd.CategoricalDtype(list(deviations))))


def test_the_sentences_say_with_which_initializers_deviations_shrink_grow_and_stay():
    deviations = {"max": [1.0, 0.3, 0.1], "he": [1.0, 9.0, 1.9], "normal": [2.0, 4.0, 8.0]}
    gradients = {"max": [0.02, 0.1, 0.2], "he": [0.3, 0.1, 0.2], "normal": [0.0, 0.0, 0.2]}
    (sentence,) = layers.start_sentences(start_frame(deviations, gradients))
    assert sentence == (
        "tanh_3 before training: from the first layer to the last, the standard deviation of pre-activations "
        "shrinks with max (×0.1), grows with normal (×4) and stays within a factor of 2 with he. From the "
        "last layer back to the first, that of gradients shrinks with max (×0.1) and normal (×0) and stays "
        "within a factor of 2 with he."
    )


def test_a_network_with_one_layer_has_no_sentence():
    assert layers.start_sentences(start_frame({"he": [1.0]})) == []


def test_only_trials_with_diagnostics_of_their_last_epoch_count_after_training(swept, monkeypatch):
    monkeypatch.setattr(layers, "figures", lambda *_: [])  # drawing them takes seconds
    uri = f"sqlite:///{swept / 'mlflow.db'}"
    runs, diagnostics = frames.runs("why", tracking_uri=uri), frames.diagnostics("why", tracking_uri=uri)
    incomplete = diagnostics[(diagnostics["seed"] == 0) | (diagnostics["epoch"] < 2)]
    points = layers._points(runs, incomplete)
    assert set(layers.at_start(runs, points)["seeds"]) == {2}
    assert set(layers.at_end(runs, points)["seeds"]) == {1}
    section = layers.section(runs, diagnostics[diagnostics["seed"] == 0])
    assert "Only 8 of 16 trials were trained with diagnostics." in section.sentences
    assert layers.section(runs, diagnostics[:0]).blocks == []


def test_captions_name_only_the_activations_that_occur():
    points = pd.DataFrame({"quantity": ["saturated"]})
    runs = pd.DataFrame({"arch.activation": pd.Categorical(["sigmoid", "[relu, elu]", None])})
    (text,) = layers._idle_units(points, layers._activations(runs))
    assert text.endswith("flat: below 0.01 or above 0.99 (sigmoid), within 1% of its lower bound (elu).")
    assert layers._idle_units(points, {"mine"}) == [
        "An output is saturated where its activation is almost flat."
    ]
    assert "at the ends: ±1 (tanh). " in layers._outputs_caption({"tanh"})
    assert "at the ends" not in layers._outputs_caption({"relu"})


@pytest.mark.parametrize("depth", [1, 3])
def test_labels_panels_and_legend_do_not_overlap(depth):
    inits = [*style.KNOWN, "normal std=0.3"]
    rows = [
        {"arch": f"an_architecture_{a}", "init": init, "layer": layer, "quantity": quantity,
         "batching": batching, "epoch": epoch, "mean": value / 10**layer, "low": 0.0,
         "high": 2 * value / 10**layer}
        for a in range(2) for i, init in enumerate(inits) for layer in range(1, depth + 1)
        for quantity, value in (("z_std", 3.0), ("dz_std", 1e-5), ("idle", 10.0 * i))
        for batching in ("full", "mini") for epoch in range(3)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    for column in ("arch", "init", "batching"):
        frame[column] = frame[column].astype(pd.CategoricalDtype(list(frame[column].unique())))
    first = frame[(frame["epoch"] == 0) & (frame["batching"] == "full")]
    for figure in (
        plots.at_start(first),
        plots.by_epoch(frame[frame["quantity"] == "z_std"], "update ratio", log=True),
        plots.by_epoch(frame[frame["quantity"] == "idle"], "dead or saturated %", log=False),
    ):
        assert_legible(figure)
    assert plots.at_start(first[:0]) is None
    assert plots.by_epoch(first[:0], "", log=True) is None


@pytest.mark.parametrize("arch", ["relu_8x100", "a_network_with_a_name_of_my_own_" * 3])
def test_titles_of_panels_name_the_layer_and_the_quantity_whatever_their_length(arch):
    rows = [
        {"arch": arch, "init": "he", "layer": layer, "quantity": quantity, "batching": "sample",
         "epoch": epoch, "mean": 0.5, "low": 0.5, "high": 0.5}
        for layer in (1, 5, 10) for quantity in ("z_std", "idle") for epoch in (1, 2)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).astype(dict.fromkeys(("arch", "init", "batching"), "category"))
    figure = plots.by_epoch(frame[frame["quantity"] == "idle"], "dead or saturated %", log=False)
    titles = [ax.get_title("left") for ax in figure.axes]
    lines = [f"layer {layer} · dead or saturated %" for layer in (1, 5, 10)]
    assert [title.splitlines()[1] for title in titles] == lines
    assert all(len(line) <= plots.TITLE for title in titles for line in title.splitlines())
    assert_legible(figure)
    start = plots.at_start(frame[frame["epoch"] == 1])
    shown = [ax.get_title("left") for ax in start.axes]
    assert [
        title.endswith(text) for title, text in zip(shown, ("pre-activations", "saturated %"), strict=True)
    ]
    assert_legible(start)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("zeros", ["layer", "quantity"])
def test_quantities_that_are_always_zero_are_drawn_without_a_warning(zeros):
    """Images of zeros give the first layer no gradient; a one-layer network then has only zeros."""
    rows = [
        {"arch": "a", "init": "he", "layer": layer, "quantity": quantity, "batching": "mini", "epoch": epoch,
         **dict.fromkeys(("mean", "low", "high"), 0.0 if zeros == "quantity" or layer == 1 else 0.5)}
        for layer in (1, 2) for quantity in ("z_std", "dz_std") for epoch in (1, 2)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).astype(dict.fromkeys(("arch", "init", "batching"), "category"))
    start = plots.at_start(frame[frame["epoch"] == 1])
    ratio = plots.by_epoch(frame[frame["quantity"] == "z_std"], "update ratio", log=True)
    for figure in (start, ratio):
        figure.draw_without_rendering()
        assert {ax.get_yscale() for ax in figure.axes} == {"linear" if zeros == "quantity" else "log"}
        if zeros == "layer":
            assert {ax.get_ylim() for ax in figure.axes} == {(0.5 / 1.5, 0.5 * 1.5)}
