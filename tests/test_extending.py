"""A new choice needs one function, one table entry and one YAML file, and no other change.

These tests add a toy choice of each group at run time. Both engines train it in every batching mode, with
diagnostics and across an interruption, and a report shows it.
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
from fnnexp.nn.pieces.initializers import INITIALIZERS, Initializer
from fnnexp.nn.pieces.metrics import METRICS
from fnnexp.nn.pieces.optimizers import OPTIMIZERS, Optimizer
from fnnexp.nn.testing import gradcheck
from fnnexp.nn.testing.reference import Network

# --- one function for each choice ---------------------------------------------------------------------------


def algebraic_forward(Z):
    """Write A = Z / √(1 + Z²)."""
    Z /= np.sqrt(1 + Z * Z)


def algebraic_derivative(Z, A, out):
    """Write (1 − A²)^(3/2), from A alone."""
    np.power(1 - A * A, 1.5, out=out)


def bent_forward(Z):
    """Write A = Z + (√(1 + Z²) − 1) / 2."""
    Z += (np.sqrt(1 + Z * Z) - 1) / 2


def bent_derivative(Z, A, out):
    """Write 1 + Z / (2 √(1 + Z²)), from Z."""
    np.divide(Z, 2 * np.sqrt(1 + Z * Z), out=out)
    out += 1


def by_fan_out(n_in, n_out):
    return n_out**-0.5


def lookahead(theta, grad, slots, step, hyper):
    (v,) = slots
    v *= hyper["momentum"]
    v += grad
    theta -= hyper["lr"] * (grad + hyper["momentum"] * v)


def brier(P, labels):
    return ((P - np.eye(P.shape[1])[labels]) ** 2).sum(axis=1)


def prepare_stripes(request):
    """Prepare images of 6×6 pixels with one bright column, whose number is the label."""
    rng, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 150), ("test", 40)):
        y = (np.arange(n) % 6).astype(np.uint8)
        x = rng.integers(0, 40, (n, 6, 6)) * (rng.random((n, 6, 6)) < 0.3)
        x[np.arange(n), :, y] += 120
        arrays |= {f"x_{split}": x.astype(np.uint8), f"y_{split}": y}
    np.savez("stripes.npz", **arrays)
    return replace(datasets.prepare("files", path="stripes.npz"), name="stripes")


# --- one file for each choice -------------------------------------------------------------------------------

FILES = {
    "arch/algebraic_9.yaml": "hidden: [9]\nactivation: algebraic\n",
    "init/fan_out.yaml": "method: fan_out\n",
    "optimizer/lookahead.yaml": "name: lookahead\nlr: 0.05\nmomentum: 0.5\n",
    "data/stripes.yaml": "name: stripes\n",
}
ALL_TOYS = {"arch": "algebraic_9", "init": "fan_out", "optimizer": "lookahead", "data": "stripes"}
SETTINGS = {
    "batching": ["full", "mini", "sample"],
    "batching.shuffle": False,
    "data.validation": 30,
    "epochs": 4,
    "diagnostics": True,
    "execution.n_jobs": 1,
    "execution.backend": "threading",
}


@pytest.fixture
def toys(monkeypatch, own_folder):
    """Add a toy of each group to its table, write its config file, and return the folder of the files."""
    monkeypatch.setitem(ACTIVATIONS, "algebraic", Activation(algebraic_forward, algebraic_derivative))
    monkeypatch.setitem(ACTIVATIONS, "bent", Activation(bent_forward, bent_derivative, needs_z=True))
    monkeypatch.setitem(INITIALIZERS, "fan_out", Initializer(by_fan_out))
    monkeypatch.setitem(OPTIMIZERS, "lookahead", Optimizer(("lr", "momentum"), 1, lookahead))
    monkeypatch.setitem(datasets.DATASETS, "stripes", prepare_stripes)
    monkeypatch.setitem(METRICS, "brier", brier)
    for name, text in FILES.items():
        file = own_folder / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return own_folder / "mine"


def swept(toys, engine, **choices):
    """Sweep over toys with an engine; return the runs by trial id, and the frame."""
    settings = {**SETTINGS, "execution.engine": engine, "tracking.experiment": engine, **choices}
    frame = fnnexp.sweep(config_dir=toys, **settings)
    return runs_in(Path.cwd(), settings["tracking.experiment"]), frame


def interrupting(function, call):
    """Return a wrapper of the function that sends Ctrl-C before the given call."""
    calls = []

    def wrapper(*arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*arguments)

    return wrapper


def content(runs):
    """Return the curve and weights of every run, to compare them bitwise."""
    here = Path.cwd()
    return {
        trial: (
            curve_in(here, run.info.run_id),
            {name: array.tobytes() for name, array in weights_in(here, run.info.run_id).items()},
        )
        for trial, run in runs.items()
    }


# --- no other change ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_toys_train_in_every_batching_mode_with_diagnostics_and_a_new_metric(engine, toys, store):
    runs, frame = swept(toys, engine, **ALL_TOYS | {"optimizer": ["lookahead", "sgd"]})
    assert set(frame["status"]) == {"finished"}
    assert sorted(frame["batching"]) == ["full", "full", "mini", "mini", "sample", "sample"]
    assert (frame[frame["batching"] == "sample"]["test_accuracy"] > 0.5).all()
    diagnostics = fnnexp.diagnostics(engine)
    assert set(diagnostics["quantity"]) == {"z_std", "dz_std", "update_ratio"}
    assert set(diagnostics["epoch"]) == {0, 1, 2, 3, 4}
    arrays = datasets.load(datasets.prepare("files", path="stripes.npz"))
    X, y = arrays.x_test / 255, arrays.y_test
    for run in runs.values():
        curve = {(name, epoch): value for name, epoch, value in curve_in(Path.cwd(), run.info.run_id)}
        for epoch in (1, 4):
            assert {f"{split}_brier" for split in ("train", "val", "test")} <= {
                name for name, at in curve if at == epoch
            }
        weights = weights_in(Path.cwd(), run.info.run_id)
        network = Network([weights["W1"], weights["W2"]], [weights["b1"], weights["b2"]], "algebraic")
        P = network.forward(X)
        expected = np.mean([np.sum((p - np.eye(6)[label]) ** 2) for p, label in zip(P, y, strict=True)])
        assert curve["test_brier", 4] == pytest.approx(expected, rel=1e-5)


def test_a_report_shows_toys(toys, store, invoke):
    swept(toys, "numba", **ALL_TOYS | {"optimizer": "sgd"})
    ran = invoke("report", "numba", "--folder", "page")
    assert ran.status == 0, ran.err
    page = "".join(file.read_text("utf-8") for file in Path.cwd().rglob("page/*.html"))
    assert "algebraic_9" in page
    assert "fan_out" in page


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupted_sweep_of_toys_resumes_with_bitwise_the_same_results(
    engine, toys, store, monkeypatch, capsys, own_folder
):
    choices = ALL_TOYS | {"optimizer": ["lookahead", "sgd"], "execution.segment_seconds": 0.0}
    whole, _ = swept(toys, engine, **choices, **{"tracking.experiment": "whole"})
    monkeypatch.setitem(METRICS, "brier", interrupting(brier, 30))  # in the second epoch of some trial
    with pytest.raises(FnnexpError, match="interrupted"):
        swept(toys, engine, **choices)
    assert list((own_folder / ".fnnexp" / "checkpoints").glob("*.npz"))
    capsys.readouterr()
    runs, frame = swept(toys, engine, **choices)
    out = capsys.readouterr().out
    assert "from the last checkpoint" in out
    assert "start over" not in out
    assert set(frame["status"]) == {"finished"}
    assert content(runs) == content(whole)
    assert not list((own_folder / ".fnnexp" / "checkpoints").glob("*.npz"))


def test_a_checkpoint_written_before_a_metric_was_added_resumes(toys, store, monkeypatch, capsys):
    choices = ALL_TOYS | {"batching": "full", "execution.segment_seconds": 0.0}
    interrupted = Activation(
        interrupting(algebraic_forward, 8), algebraic_derivative
    )  # in the second epoch of four
    monkeypatch.setitem(ACTIVATIONS, "algebraic", interrupted)
    with pytest.MonkeyPatch.context() as before:
        before.delitem(METRICS, "brier")
        with pytest.raises(FnnexpError, match="interrupted"):
            swept(toys, "numpy", **choices)
    runs, frame = swept(toys, "numpy", **choices)
    assert "start over" not in capsys.readouterr().out
    assert set(frame["status"]) == {"finished"}
    (run,) = runs.values()
    curve = curve_in(Path.cwd(), run.info.run_id)
    assert {epoch for name, epoch, _ in curve if name == "test_loss"} == {1, 2, 3, 4}
    assert {4} <= {epoch for name, epoch, _ in curve if name == "test_brier"} < {1, 2, 3, 4}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_added_metric_leaves_the_other_metrics_bitwise_the_same(engine, toys, store):
    choices = ALL_TOYS | {"optimizer": ["lookahead", "sgd"]}
    with_brier, _ = swept(toys, engine, **choices)
    with pytest.MonkeyPatch.context() as without:
        without.delitem(METRICS, "brier")
        plain, _ = swept(toys, engine, **choices, **{"tracking.experiment": "plain"})
    others = {
        trial: ([point for point in curve if "brier" not in point[0]], weights)
        for trial, (curve, weights) in content(with_brier).items()
    }
    assert others == content(plain)


ADD_METRIC = """
from fnnexp.nn.pieces.metrics import METRICS
METRICS["confidence"] = lambda P, labels: P.max(axis=1)
import fnnexp
runs = fnnexp.sweep(data="digits", epochs=1, **{"execution.n_jobs": 1, "execution.backend": "threading"})
curves = fnnexp.curves("digits")
(last,) = curves.query("metric == 'test_confidence'")["value"]
assert 0.1 < last < 1, last
assert runs["test_confidence"].item() == last
assert set(curves["quantity"]) == {"loss", "accuracy", "confidence"}
assert "test_confidence" not in fnnexp.leaderboard(runs).columns  # it is not a factor
"""


@pytest.mark.long
def test_a_metric_added_to_the_table_is_in_the_frames(store):
    ran = subprocess.run([sys.executable, "-c", ADD_METRIC], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("activation", ["algebraic", "relu", "bent", ["bent", "relu"]])
def test_the_run_records_where_numpy_replaces_the_compiled_engine(activation, toys, store, capsys):
    choices = ALL_TOYS | {"optimizer": ["lookahead", "sgd"], "arch.activation": activation}
    choices |= (
        {"arch.hidden": [[9, 8]], "arch.activation": [activation]} if isinstance(activation, list) else {}
    )
    _, frame = swept(toys, "numba", **choices)
    by_row = (frame["batching"] == "sample") & (frame["optimizer"] == "sgd")
    compiled = engine_named("numba").version
    assert set(frame[~by_row]["engine"]) == {compiled}
    (engine,) = frame[by_row]["engine"]
    if activation == "algebraic":
        assert engine.startswith(compiled)
        assert f"per-sample descent by {engine_named('numpy').version}" in engine
        assert "algebraic is not compiled" in engine
    else:  # relu is compiled; neither engine has code of its own for the others, so a row is a batch
        assert engine == compiled
    assert "agree to rounding" not in capsys.readouterr().out  # only different machines print this note


@pytest.mark.parametrize("name", ["algebraic", "bent"])
def test_gradcheck_accepts_an_added_activation(name, toys, monkeypatch):
    names = [check for check in gradcheck.checks() if name in check]
    prefixes = ["", "stacked ", *(["per_sample "] if name == "algebraic" else []), "numba stacked "]
    assert names == [name, *(f"{prefix}{name}_32_32" for prefix in prefixes)]
    assert all(check.passed for check in gradcheck.run(names))

    def wrong(Z, A, out):
        right.derivative(Z, A, out)
        out *= 1.001

    right = ACTIVATIONS[name]
    monkeypatch.setitem(ACTIVATIONS, name, replace(right, derivative=wrong))
    assert not any(check.passed for check in gradcheck.run(names))


@pytest.mark.parametrize(
    ("shares", "quantities"),
    [
        ({}, set()),
        ({"dead": lambda A: 0.25}, {"dead"}),
        ({"dead": lambda A: 0.25, "saturated": lambda A: 0.5}, {"dead", "saturated"}),
    ],
)
def test_diagnostics_count_the_units_that_an_added_activation_defines(shares, quantities, toys, store):
    ACTIVATIONS["algebraic"] = Activation(algebraic_forward, algebraic_derivative, **shares)
    swept(toys, "numpy", **ALL_TOYS, batching="full")
    diagnostics = fnnexp.diagnostics("numpy")
    shown = diagnostics[diagnostics["quantity"].isin(["dead", "saturated"])]
    assert set(shown["quantity"]) == quantities
    assert set(shown["layer"]) <= {1}
    for quantity, share in shares.items():
        assert set(shown[shown["quantity"] == quantity]["value"]) == {share(None)}
