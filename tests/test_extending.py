"""A new choice is one function, one table entry and one YAML file, and nothing else has to know of it.

A toy of each kind is added at run time and trained by both engines in every batching mode, with diagnostics,
through an interruption, and into a report.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stores import curve_in, runs_in, weights_in

import fnnexp
from fnnexp.data import datasets
from fnnexp.errors import FnnexpError
from fnnexp.nn.engines.base import ENGINES, engine_named
from fnnexp.nn.pieces.activations import ACTIVATIONS, Activation
from fnnexp.nn.pieces.initializers import INITIALIZERS
from fnnexp.nn.pieces.metrics import METRICS
from fnnexp.nn.pieces.optimizers import OPTIMIZERS, Optimizer
from fnnexp.nn.testing import gradcheck
from fnnexp.nn.testing.reference import Network

# --- one function each --------------------------------------------------------------------------------------


def softplus_forward(Z):
    np.logaddexp(0, Z, out=Z)


def softplus_slope(A, out):
    np.negative(A, out=out)
    np.expm1(out, out=out)
    np.negative(out, out=out)


def by_fan_out(n_in, n_out):
    return n_out**-0.5


def nesterov(theta, grad, slots, step, hyper):
    (v,) = slots
    v *= hyper["momentum"]
    v += grad
    theta -= hyper["lr"] * (grad + hyper["momentum"] * v)


def brier(P, labels):
    return ((P - np.eye(P.shape[1])[labels]) ** 2).sum(axis=1)


def prepare_stripes(request):
    """Images of 6×6 pixels, one column of them bright: which one is the label."""
    rng, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 150), ("test", 40)):
        y = (np.arange(n) % 6).astype(np.uint8)
        x = rng.integers(0, 40, (n, 6, 6)) * (rng.random((n, 6, 6)) < 0.3)
        x[np.arange(n), :, y] += 120
        arrays |= {f"x_{split}": x.astype(np.uint8), f"y_{split}": y}
    np.savez("stripes.npz", **arrays)
    return replace(datasets.prepare("files", path="stripes.npz"), name="stripes")


# --- one file each ------------------------------------------------------------------------------------------

FILES = {
    "arch/softplus_9.yaml": "hidden: [9]\nactivation: softplus\n",
    "init/fan_out.yaml": "method: fan_out\n",
    "optimizer/nesterov.yaml": "name: nesterov\nlr: 0.05\nmomentum: 0.5\n",
    "data/stripes.yaml": "name: stripes\n",
}
ALL_NEW = {"arch": "softplus_9", "init": "fan_out", "optimizer": "nesterov", "data": "stripes"}
HOW = {
    "batching": ["full", "mini", "sample"],
    "batching.shuffle": False,
    "data.validation": 30,
    "epochs": 4,
    "diagnostics": True,
    "execution.n_jobs": 1,
    "execution.backend": "threading",
}


@pytest.fixture
def added(monkeypatch, own_folder):
    """Enter a toy of each kind in its table, and write its file; return the folder of the files."""
    monkeypatch.setitem(ACTIVATIONS, "softplus", Activation(softplus_forward, softplus_slope))
    monkeypatch.setitem(INITIALIZERS, "fan_out", by_fan_out)
    monkeypatch.setitem(OPTIMIZERS, "nesterov", Optimizer(("lr", "momentum"), 1, nesterov))
    monkeypatch.setitem(datasets.DATASETS, "stripes", prepare_stripes)
    monkeypatch.setitem(METRICS, "brier", brier)
    for name, text in FILES.items():
        file = own_folder / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return own_folder / "mine"


def swept(added, engine, **choices):
    """Sweep over the toys with an engine; return the runs by trial id, and the frame."""
    how = {**HOW, "execution.engine": engine, "tracking.experiment": engine, **choices}
    frame = fnnexp.sweep(config_dir=added, **how)
    return runs_in(Path.cwd(), how["tracking.experiment"]), frame


def interrupting(function, call):
    """Return the function; when it is called for that time, it first presses Ctrl-C."""
    calls = []

    def pressing(*arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*arguments)

    return pressing


def content(runs):
    """Every run's curve and weights, to the bit."""
    here = Path.cwd()
    return {
        trial: (
            curve_in(here, run.info.run_id),
            {name: array.tobytes() for name, array in weights_in(here, run.info.run_id).items()},
        )
        for trial, run in runs.items()
    }


# --- and nothing else ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_toys_train_in_every_mode_with_diagnostics_and_their_metric(engine, added, store):
    runs, frame = swept(added, engine, **ALL_NEW | {"optimizer": ["nesterov", "sgd"]})
    assert set(frame["status"]) == {"finished"}
    assert sorted(frame["batching"]) == ["full", "full", "mini", "mini", "sample", "sample"]
    assert (frame[frame["batching"] == "sample"]["test_accuracy"] > 0.5).all()
    told = fnnexp.diagnostics(engine)
    assert set(told["quantity"]) == {"z_std", "dz_std", "update_ratio"}
    assert set(told["epoch"]) == {0, 1, 2, 3, 4}
    arrays = datasets.load(datasets.prepare("files", path="stripes.npz"))
    X, y = arrays.x_test / 255, arrays.y_test
    for run in runs.values():
        curve = {(name, epoch): value for name, epoch, value in curve_in(Path.cwd(), run.info.run_id)}
        for epoch in (1, 4):
            assert {f"{split}_brier" for split in ("train", "val", "test")} <= {
                name for name, at in curve if at == epoch
            }
        weights = weights_in(Path.cwd(), run.info.run_id)
        network = Network([weights["W1"], weights["W2"]], [weights["b1"], weights["b2"]], "softplus")
        P = network.forward(X)
        expected = np.mean([np.sum((p - np.eye(6)[label]) ** 2) for p, label in zip(P, y, strict=True)])
        assert curve["test_brier", 4] == pytest.approx(expected, rel=1e-5)


def test_a_report_shows_toys(added, store, invoke):
    swept(added, "numba", **ALL_NEW | {"optimizer": "sgd"})
    written = invoke("report", "numba", "--folder", "page")
    assert written.status == 0, written.err
    page = "".join(file.read_text("utf-8") for file in Path.cwd().rglob("page/*.html"))
    assert "softplus_9" in page
    assert "fan_out" in page


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupted_sweep_of_toys_goes_on_to_the_same_bits(
    engine, added, store, monkeypatch, capsys, own_folder
):
    choices = ALL_NEW | {"optimizer": ["nesterov", "sgd"], "execution.segment_seconds": 0.0}
    whole, _ = swept(added, engine, **choices, **{"tracking.experiment": "whole"})
    monkeypatch.setitem(METRICS, "brier", interrupting(brier, 30))  # in the second epoch of some trial
    with pytest.raises(FnnexpError, match="interrupted"):
        swept(added, engine, **choices)
    assert list((own_folder / ".fnnexp").rglob("*.npz"))
    capsys.readouterr()
    runs, frame = swept(added, engine, **choices)
    said = capsys.readouterr().out
    assert "begun before: they go on where they were" in said
    assert "start over" not in said
    assert set(frame["status"]) == {"finished"}
    assert content(runs) == content(whole)
    assert not list((own_folder / ".fnnexp").rglob("*.npz"))


def test_a_checkpoint_from_before_a_metric_was_added_goes_on(added, store, monkeypatch, capsys):
    choices = ALL_NEW | {"batching": "full", "execution.segment_seconds": 0.0}
    pressing = Activation(interrupting(softplus_forward, 8), softplus_slope)  # in the second epoch of four
    monkeypatch.setitem(ACTIVATIONS, "softplus", pressing)
    with pytest.MonkeyPatch.context() as before:
        before.delitem(METRICS, "brier")
        with pytest.raises(FnnexpError, match="interrupted"):
            swept(added, "numpy", **choices)
    runs, frame = swept(added, "numpy", **choices)
    assert "start over" not in capsys.readouterr().out
    assert set(frame["status"]) == {"finished"}
    (run,) = runs.values()
    curve = curve_in(Path.cwd(), run.info.run_id)
    assert {epoch for name, epoch, _ in curve if name == "test_loss"} == {1, 2, 3, 4}
    assert {4} <= {epoch for name, epoch, _ in curve if name == "test_brier"} < {1, 2, 3, 4}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_added_metric_changes_no_bit_of_the_others(engine, added, store):
    choices = ALL_NEW | {"optimizer": ["nesterov", "sgd"]}
    with_it, _ = swept(added, engine, **choices)
    with pytest.MonkeyPatch.context() as without:
        without.delitem(METRICS, "brier")
        plain, _ = swept(added, engine, **choices, **{"tracking.experiment": "plain"})
    found = {
        trial: ([point for point in curve if "brier" not in point[0]], weights)
        for trial, (curve, weights) in content(with_it).items()
    }
    assert found == content(plain)


WRITTEN_INTO_THE_TABLE = """
from fnnexp.nn.pieces.metrics import METRICS
METRICS["confidence"] = lambda P, labels: P.max(axis=1)
import fnnexp
runs = fnnexp.sweep(data="digits", epochs=1, **{"execution.n_jobs": 1, "execution.backend": "threading"})
curves = fnnexp.curves("digits")
(at_end,) = curves.query("metric == 'test_confidence'")["value"]
assert 0.1 < at_end < 1, at_end
assert runs["test_confidence"].item() == at_end
assert set(curves["quantity"]) == {"loss", "accuracy", "confidence"}
assert "test_confidence" not in fnnexp.leaderboard(runs).columns  # it is no factor
"""


def test_a_metric_written_into_the_table_is_in_the_frames(store):
    ran = subprocess.run([sys.executable, "-c", WRITTEN_INTO_THE_TABLE], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_the_record_says_where_numpy_descends_for_the_compiled_engine(activation, added, store, capsys):
    choices = ALL_NEW | {"optimizer": ["nesterov", "sgd"], "arch.activation": activation}
    _, frame = swept(added, "numba", **choices)
    by_row = (frame["batching"] == "sample") & (frame["optimizer"] == "sgd")
    compiled = engine_named("numba").version
    assert set(frame[~by_row]["engine"]) == {compiled}
    (said,) = frame[by_row]["engine"]
    if activation == "relu":
        assert said == compiled
    else:
        assert said.startswith(compiled)
        assert f"per-sample descent by {engine_named('numpy').version}" in said
        assert "softplus is not compiled" in said
    assert "equal up to rounding only" not in capsys.readouterr().out  # that is said of unlike machines


def test_the_gradient_check_takes_an_added_activation(added, monkeypatch):
    mine = [name for name in gradcheck.checks() if "softplus" in name]
    assert mine == [
        "softplus",
        *(f"{how}softplus_32_32" for how in ("", "stacked ", "per_sample ", "numba stacked ")),
    ]
    assert all(check.passed for check in gradcheck.run(mine))
    wrong = Activation(softplus_forward, lambda A, out: np.copyto(out, 1.001 * (1 - np.exp(-A))))
    monkeypatch.setitem(ACTIVATIONS, "softplus", wrong)
    assert not any(check.passed for check in gradcheck.run(mine))


@pytest.mark.parametrize(
    ("shares", "quantities"),
    [
        ({}, set()),
        ({"dead": lambda A: 0.25}, {"dead"}),
        ({"dead": lambda A: 0.25, "saturated": lambda A: 0.5}, {"dead", "saturated"}),
    ],
)
def test_an_added_activation_says_which_of_its_units_are_counted(shares, quantities, added, store):
    ACTIVATIONS["softplus"] = Activation(softplus_forward, softplus_slope, **shares)
    swept(added, "numpy", **ALL_NEW, batching="full")
    told = fnnexp.diagnostics("numpy")
    shown = told[told["quantity"].isin(["dead", "saturated"])]
    assert set(shown["quantity"]) == quantities
    assert set(shown["layer"]) <= {1}
    for quantity, share in shares.items():
        assert set(shown[shown["quantity"] == quantity]["value"]) == {share(None)}
