"""Histograms of layers, from training to the report: `diagnostics=full`."""

from __future__ import annotations

import io
import os
import re
import signal

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from stores import curve_in, runs_in, weights_in
from threadpoolctl import threadpool_limits

import fnnexp
from fnnexp.config.execution import Execution
from fnnexp.data import datasets as data
from fnnexp.errors import FnnexpError
from fnnexp.nn import layer_stats
from fnnexp.nn.training import advance, start
from fnnexp.reporting.plots import layers as plots
from fnnexp.results.networks.histograms import Shares, averaged, of_runs
from fnnexp.sweeping import executor as executor_module
from fnnexp.sweeping.checkpoints import Checkpoints, DamagedError, as_row, records_from
from fnnexp.sweeping.loop import run
from fnnexp.sweeping.worker import train_segment
from fnnexp.tracking.writer import Tracker

GRID = ["data=digits", "arch.hidden=[9,8]", "arch.activation=tanh", "init=max,he", "seed=0,1", "epochs=3"]
IN_PROCESS = ["execution.n_jobs=2", "execution.backend=threading", "execution.segment_seconds=0.01"]


@pytest.fixture(scope="module")
def swept(invoke, empty_store, tmp_path_factory):
    """Return a folder in which GRID ran with histograms (experiment `full`) and only statistics (`stats`)."""
    folder = tmp_path_factory.mktemp("histograms")
    empty_store(folder)
    for name, level in (("full", "full"), ("stats", "true")):
        options = [f"tracking.experiment={name}", f"diagnostics={level}"]
        ran = invoke("-m", *GRID, *IN_PROCESS, *options, cwd=folder)
        assert (ran.status, ran.err) == (0, "")
    return folder


@pytest.fixture
def here(swept, monkeypatch):
    monkeypatch.chdir(swept)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return swept


def alone(trial):
    """Return the counts (epochs, layers, quantities, bins) of a trial that trains alone, in one segment."""
    with threadpool_limits(1, "blas"):
        begin = start(trial.recipe, [trial.lane()])
        _, records = advance(trial.recipe, begin, data.load(trial.data), diagnostics="full")
    return layer_stats.histogram_arrays(trial.recipe.architecture, records)["counts"]


def counts_of(frame, epochs=4):
    return frame["count"].to_numpy(np.int64).reshape(epochs, -1, 2, len(layer_stats.LOW))


def test_a_trial_has_the_same_histograms_in_a_sweep_and_alone(here, trials_of):
    frame = fnnexp.histograms(fnnexp.runs("full"))
    for trial in trials_of(*GRID):
        part = frame[frame["trial"] == trial.id]
        assert (counts_of(part) == alone(trial)).all()
        name = part["name"].iloc[0]
        same = fnnexp.histograms(trial.id, experiment="full")
        assert same.astype(str).equals(part.reset_index(drop=True).astype(str))
        assert fnnexp.histograms(name, experiment="full")["count"].equals(same["count"])
    assert frame.columns.to_list() == ["trial", "name", "epoch", "layer", "quantity", "low", "high", "count"]
    one = same[(same["epoch"] == 3) & (same["layer"] == 2) & (same["quantity"] == "dz")]
    assert (one["low"].to_list(), one["high"].to_list()) == (
        layer_stats.LOW.tolist(),
        layer_stats.HIGH.tolist(),
    )
    assert one["count"].sum() == 75 * 8  # one in 16 of 1,200 rows


def test_histograms_are_no_metrics_and_change_nothing_else(swept, same_bits):
    full, true = (runs_in(swept, name) for name in ("full", "stats"))
    assert full.keys() == true.keys()
    for trial, each in full.items():
        ids = each.info.run_id, true[trial].info.run_id
        assert curve_in(swept, ids[0]) == curve_in(swept, ids[1])
        assert same_bits(*(weights_in(swept, run_id) for run_id in ids))
        assert each.data.params == true[trial].data.params
        assert each.data.tags["fnnexp.histograms"] == "4"
        assert "fnnexp.histograms" not in true[trial].data.tags
    (file,) = (swept / "mlruns").rglob(f"{ids[0]}/artifacts/histograms.npz")
    with np.load(file) as arrays:
        assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == {
            "counts": ((4, 3, 2, 179), "int32"),
            "epoch": ((4,), "int32"),
            "quantity": ((2,), "<U2"),
            "low": ((179,), "float64"),
            "high": ((179,), "float64"),
        }
        assert arrays["epoch"].tolist() == [0, 1, 2, 3]


def test_what_has_no_histograms_is_said(here, invoke):
    words = ["-m", *GRID, *IN_PROCESS, "diagnostics=full"]
    ran = invoke(*words, "tracking.experiment=stats", "dry_run=true", cwd=here)
    assert "4 of 4 trials done before have no histograms; to record them, write" in ran.out
    assert "no histograms" not in invoke(*words, "tracking.experiment=full", cwd=here).out
    runs = fnnexp.runs("stats")
    with pytest.raises(FnnexpError, match="has no histograms; train with diagnostics=full"):
        fnnexp.histograms(runs.iloc[0])
    for call in (fnnexp.histograms, fnnexp.plot_histograms):
        with pytest.raises(FnnexpError, match=r"of these 4 trials.* diagnostics=full"):
            call(runs)
    with pytest.raises(FnnexpError, match=r"fnnexp.histograms reads one trial, not 3; .*fnnexp.histograms\("):
        fnnexp.histograms(3)
    with pytest.raises(FnnexpError, match="quantity='z': must be one of a, dz"):
        fnnexp.plot_histograms(runs, "z")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda arrays: {}, "has no array counts"),
        (lambda arrays: arrays | {"counts": arrays["counts"][0]}, r"counts has the shape \(3, 2, 179\)"),
        (lambda arrays: arrays | {"epoch": arrays["epoch"][:2]}, r"epoch has shape \(2,\)"),
        (lambda arrays: arrays | {"quantity": np.array(["a", "z"], "<U2")}, "its quantities are 'a', 'z'"),
        (None, "is damaged"),
    ],
)
def test_a_damaged_file_is_refused_and_a_report_says_so(change, reason, here, tmp_path, monkeypatch):
    run_id = fnnexp.runs("full")["run_id"].iloc[0]
    (file,) = (here / "mlruns").rglob(f"{run_id}/artifacts/histograms.npz")
    content = file.read_bytes()
    try:
        if change is None:
            file.write_bytes(content[:-9])
        else:
            with np.load(io.BytesIO(content)) as arrays:
                changed = change(dict(arrays))
            np.savez(file, **changed)
        with pytest.raises(FnnexpError, match=reason):
            fnnexp.histograms(run_id)
        if change is None:
            path = fnnexp.report("full", folder=tmp_path).path
            assert "The histograms of 1 trial can" in path.read_text("utf-8")
    finally:
        file.write_bytes(content)


def sweep(trials, store, **settings):
    console = Console(file=io.StringIO(), width=200)
    execution = Execution(**{"n_jobs": 1, "backend": "threading"} | settings)
    return run(trials, Tracker("digits", store), execution, console), console.file.getvalue()


@pytest.mark.parametrize(("first", "epochs"), [("full", [0, 1, 2, 3]), (True, [2, 3]), (False, [2, 3])])
def test_a_trial_resumes_from_its_checkpoint(first, epochs, store, own_folder, trials_of, monkeypatch):
    """Ctrl-C interrupts the first of three one-epoch segments; then the same trial runs again."""
    (trial,) = trials_of(*GRID, "init=he", "seed=0")

    def interrupted(planned, execution):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", interrupted)
    outcome, _ = sweep([trial], store, diagnostics=first, segment_seconds=0.0)
    assert outcome.interrupted
    _, lines = sweep([trial], store, diagnostics="full", segment_seconds=0.0)
    what = "histograms" if first else "diagnostics"
    note = f"{what} are recorded for 1 trial that started with diagnostics={str(first).lower()}"
    assert (note in lines) == (first != "full")
    frame = fnnexp.histograms(trial.id, tracking_uri=store)
    assert (counts_of(frame, len(epochs)) == alone(trial)[epochs]).all()
    assert sorted(set(frame["epoch"])) == epochs


def test_a_longer_training_goes_on_with_histograms(store, own_folder, trials_of):
    shorter, longer = (trials_of(*GRID, "init=he", "seed=0", f"++epochs={epochs}") for epochs in (2, 3))
    sweep(shorter, store, diagnostics=True)
    _, lines = sweep(longer, store, diagnostics="full")
    assert "no histograms were recorded for these; write diagnostics=true to go on" in lines
    (last,) = trials_of(*GRID, "init=he", "seed=0", "++epochs=4")
    _, lines = sweep([last], store, diagnostics="full")
    assert "1 trial goes on from 3 epochs" in lines
    assert (counts_of(fnnexp.histograms(last.id, tracking_uri=store), 5) == alone(last)).all()


@pytest.mark.parametrize("text", ["", "a", "eJw=", 7, None])
def test_a_checkpoint_keeps_histograms_and_a_damaged_one_is_refused(text, trials_of, own_folder):
    (trial,) = trials_of(*GRID, "init=he", "seed=0")
    begin = start(trial.recipe, [trial.lane()])
    stack, records = advance(trial.recipe, begin, data.load(trial.data), seconds=0, diagnostics="full")
    checkpoints = Checkpoints(own_folder)
    checkpoints.save(stack, {trial.numbers_id: records})
    _, read = checkpoints.load(trial.lane(), trial.recipe)
    assert read == records
    (file,) = own_folder.glob("*.curve")
    rows = file.read_text("utf-8")
    assert rows.count("\n") == 2
    curve = [as_row(record) for record in records]
    curve[1][3] = text
    with pytest.raises(DamagedError, match="histograms"):
        records_from(curve, trial.lane(), trial.recipe)


def test_the_report_draws_the_shares_that_its_table_has(here, tmp_path):
    folder = fnnexp.report("full", folder=tmp_path).path.parent
    table = pd.read_csv(folder / "histograms.csv")
    frame = fnnexp.histograms(fnnexp.runs("full")).merge(fnnexp.runs("full")[["trial", "init"]], on="trial")
    by = ["init", "layer", "quantity", "epoch", "low", "high"]
    each = frame.groupby(["trial", *by[:4]], observed=True)["count"].transform("sum")
    expected = (frame["count"] / each).groupby([frame[name] for name in by], observed=True).mean()
    shares = table.set_index(by)["share"]
    expected = expected[expected > 0]
    assert len(shares) == len(expected)
    for key, share in list(expected.items())[::97]:
        assert shares[key] == pytest.approx(share, rel=1e-12)
    page = (folder / "report.html").read_text("utf-8")
    for name in ("histograms_of_outputs", "histograms_of_gradients"):
        svg = (folder / f"{name}.svg").read_text("utf-8")
        assert "currentColor" in svg
        assert (folder / f"{name}.png").is_file()
        assert page.count("Compare figure") >= 2
    without = fnnexp.report("stats", folder=tmp_path / "stats").path.parent
    assert not [*without.glob("histograms*")]


def test_the_rows_of_a_figure_hold_every_value_once(here):
    """Each value of a panel is in one row: the heights times the drawn shares add up to 1."""
    runs = fnnexp.runs("full")
    shares_of, _ = of_runs(runs["run_id"])
    options = {"all": averaged(list(shares_of.values()))}
    for quantity, layers, is_log in (("a", [0, 1], False), ("dz", [0, 1, 2], True)):
        _, shares = plots._drawn_shares(options["all"], quantity, layers)
        axis = plots._axis_of([shares], options["all"], quantity)
        drawn = axis.rows_of(shares)
        heights = np.ones(drawn.shape[-1])
        if is_log:
            heights[axis.zeros :] = np.diff(np.log10(axis.edges)) / 0.25
            heights[: axis.zeros] = 1 / axis.zeros
        assert (drawn * heights).sum(axis=-1) == pytest.approx(1)
        assert len(axis.edges) > 4
        assert re.fullmatch(r"-?[\d.e-]+", axis.ticks()[1][-1])


def test_the_values_of_a_histogram_are_those_of_its_numbers():
    """The page's quantiles are those of the counted numbers, interpolated between the ends of bins."""
    rng = np.random.default_rng(2)
    low, high = layer_stats.LOW, layer_stats.HIGH
    values = np.where(rng.random((2, 4000)) < 0.3, 0.0, rng.normal(0.1, 1.5, (2, 4000)))
    v = values[..., None]
    inside = np.where(high <= 0, (low <= v) & (v < high), (low < v) & (v <= high))
    inside[..., (low == 0) & (high == 0)] = v == 0
    shares = inside.mean(axis=1)
    bins = Shares(np.array([0, 3], np.int32), shares, low, high)
    for signed, truth in ((True, values), (False, np.abs(values))):
        spreads = plots.spreads(bins.epochs, shares, bins, signed=signed)
        assert spreads["epoch"] == [0, 3]
        assert spreads["zeros"] == pytest.approx((values == 0).mean(axis=1))
        for name, part in (("p10", 0.1), ("median", 0.5), ("p90", 0.9)):
            for row, value in zip(truth, spreads[name], strict=True):
                ends = np.unique(high[np.isfinite(high)])
                below = [(row < end).mean() if end == 0 else (row <= end).mean() for end in ends]
                at = int(np.searchsorted(ends, 0))
                ends, below = np.insert(ends, at + 1, 0), np.insert(below, at + 1, (row <= 0).mean())
                assert value == pytest.approx(np.interp(part, below, ends), abs=1e-9)
