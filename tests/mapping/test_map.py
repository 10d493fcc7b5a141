"""A map is one run: each cell is the trial alone, finer maps keep their cells, and nothing trains twice."""

from __future__ import annotations

import ast
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import fnnexp
from fnnexp.config.commands import Command
from fnnexp.config.compose import compose
from fnnexp.mapping.axes import axis
from fnnexp.mapping.cells import CELLS, Cells, table_of
from fnnexp.mapping.request import parse

SHARED = ("data=digits", "arch.hidden=[4]", "epochs=2", "execution.n_jobs=1")
AXES = ("x=optimizer.lr:1e-2..1e30:4", "y=init.gain:0.1..10:3")


def new_cells(ran):
    assert ran.status == 0, ran.err
    total, before = re.search(r"= (\d+) cells?, (\d+) finished before", ran.out).groups()
    return int(total) - int(before)


# --- axes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["optimizer.lr:1e-3..10:64", "init.gain:0.1..0.7:7", "init.low:-3..-0.1:9"])
@pytest.mark.parametrize("factor", [2, 3, 7, 10])
def test_a_finer_axis_keeps_the_values_to_the_last_bit(text, factor):
    coarse = axis("x", text)
    fine = coarse.finer(factor)
    assert fine.values[::factor] == coarse.values
    assert axis("x", str(fine)).values == fine.values


def test_the_values_are_those_of_the_formulas():
    log, linear = axis("x", "optimizer.lr:1e-3..10:64"), axis("x", "regularization.dropout:0..1:8")
    np.testing.assert_allclose(log.values, np.geomspace(1e-3, 10, 65)[:-1], rtol=1e-14)
    assert linear.values == [i / 8 for i in range(8)]


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("init.gain:1..100:4", "log"),
        ("init.gain:1..99:4", "linear"),
        ("init.gain:1..99:4:log", "log"),
        ("init.gain:1..100:4:linear", "linear"),
        ("regularization.l2:0..1:4", "linear"),
    ],
)
def test_an_axis_is_logarithmic_if_its_ends_differ_by_a_factor_of_100(text, scale):
    assert axis("x", text).scale == scale


def test_keys_of_whole_numbers_get_whole_numbers():
    assert axis("x", "batching.size:10..110:100").values == list(range(10, 110))
    assert all(type(value) is int for value in axis("x", "seed:0..8:8").values)


# --- cells --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("mode", ["batching=mini", "batching=sample"])
def test_each_cell_is_bitwise_the_trial_alone(invoke, store, engine, mode):
    """The last cells of this map diverge."""
    shared = (*SHARED, mode, f"execution.engine={engine}", "data.subset=200")
    ran = invoke("map", *AXES, *shared, "tracking.experiment=the_map")
    assert new_cells(ran) == 12
    m = fnnexp.read_map("the_map")
    assert m.diverged.any()
    assert not m.diverged.all()
    for i, j in [(0, 0), (1, 2), (3, 1)]:
        one = invoke("map", *AXES, *shared, f"cell={i},{j}", "tracking.experiment=alone")
        assert one.status == 0, one.err
        trial = compose(Command(overrides=(*shared, f"optimizer.lr={m.x[i]}", f"init.gain={m.y[j]}"))).trials
        assert m.trials[j, i].decode() == trial[0].id
        run = fnnexp.runs("alone").set_index("trial").loc[trial[0].id]
        assert m.diverged[j, i] == (run["status"] == "diverged")
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_accuracy"):
            if not m.diverged[j, i]:  # MLflow keeps no value that is not finite
                assert m[name][j, i] == run[name]
        if not m.diverged[j, i]:
            assert m["best_val_accuracy"][j, i] == run["best_val_accuracy"]
            assert m["best_val_epoch"][j, i] == run["best_val_epoch"]
            assert m["epoch"][j, i] == 2


def test_the_printed_command_of_a_cell_trains_it(invoke, store, monkeypatch):
    assert new_cells(invoke("map", *AXES, *SHARED)) == 12
    monkeypatch.setattr("fnnexp.config.commands.program", lambda: "'my env'/fnnexp")
    one = invoke("map", *AXES, *SHARED, "cell=1,2")
    words = shlex.split(re.search(r"this cell: (.*)", one.out)[1])
    assert words[0] == "my env/fnnexp"
    assert "execution.engine=numpy" in words  # the engine of the map
    again = invoke(*words[1:])
    assert "1 was done before" in again.out


def test_finer_maps_and_zooms_train_only_new_cells(invoke, store):
    assert new_cells(invoke("map", *AXES, *SHARED)) == 12
    coarse = fnnexp.read_map("digits_map")
    assert new_cells(invoke("map", *AXES, *SHARED)) == 0
    zoomed = invoke("map", *AXES, *SHARED, "zoom=0..2,1..3", "finer=2")
    assert new_cells(zoomed) == 16 - 4
    part = fnnexp.read_map("digits_map")
    assert part["val_loss"].shape == (4, 4)
    np.testing.assert_array_equal(part["val_loss"][::2, ::2], coarse["val_loss"][1:3, :2])
    np.testing.assert_array_equal(part.x[::2], coarse.x[:2])
    fine = ("x=optimizer.lr:1e-2..1e30:8", "y=init.gain:0.1..10:6")
    assert new_cells(invoke("map", *fine, *SHARED)) == 48 - 12 - 12
    whole = fnnexp.read_map("digits_map")
    np.testing.assert_array_equal(whole.trials[2:6, 0:4], part.trials)
    for name in ("val_loss", "best_val_accuracy", "epoch", "diverged"):
        np.testing.assert_array_equal(whole[name][::2, ::2], coarse[name])
        np.testing.assert_array_equal(whole[name][2:6, 0:4], part[name])


def test_the_cells_of_an_engine_are_not_read_for_another(invoke, store):
    assert new_cells(invoke("map", *AXES, *SHARED, "execution.engine=numpy")) == 12
    assert new_cells(invoke("map", *AXES, *SHARED, "execution.engine=numba")) == 12
    assert len(runs_in_experiment("digits_map")) == 2


def runs_in_experiment(name):
    from fnnexp.tracking.reader import map_runs

    return map_runs(name, None)


def test_a_map_says_if_its_cells_were_computed_in_several_ways(invoke, store, monkeypatch):
    assert "bit by bit" not in invoke("map", *AXES, *SHARED).out
    monkeypatch.setattr("fnnexp.sweeping.worker.blas_kernel", lambda: "another kernel")
    ran = invoke("map", *AXES, *SHARED, "finer=2")
    assert "another kernel: their results agree to rounding, not bit by bit" in ran.out


def test_a_map_is_one_run_whose_arrays_numpy_reads(invoke, store, own_folder):
    from mlflow import MlflowClient

    ran = invoke("map", *AXES, *SHARED)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("digits_map")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["x"] == "optimizer.lr:0.01..1e+30:4"
    assert run.data.params["arch.hidden"] == "[4]"
    assert "optimizer.lr" not in run.data.params
    assert 0 < run.data.metrics["share_diverged"] < 1
    (folder,) = own_folder.glob("mlruns/*/*/artifacts")
    assert {file.name for file in folder.iterdir()} == {"map.npz", "map.png"}
    assert (folder / "map.png").read_bytes().startswith(b"\x89PNG")
    picture = Path("reports", "digits_map", "map.png")
    assert f"picture: {picture}" in ran.out
    assert picture.read_bytes() == (folder / "map.png").read_bytes()
    with np.load(folder / "map.npz", allow_pickle=False) as arrays:
        assert arrays["val_accuracy"].shape == (3, 4)
    (folder / "map.npz").write_bytes((folder / "map.npz").read_bytes()[:-99])
    assert invoke("map", *AXES, *SHARED).status == 0  # a damaged file is written again
    frame = fnnexp.read_map("digits_map").to_frame()
    assert len(frame) == 12
    assert {"optimizer.lr", "init.gain", "val_accuracy", "train_loss", "diverged", "trial"} <= {
        *frame.columns
    }
    assert invoke("map", *AXES, *SHARED).status == 0  # the same map again is the same run
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_failed_cells_are_reported_and_trained_by_the_same_command(invoke, store, monkeypatch):
    from mlflow import MlflowClient

    from fnnexp.sweeping import executor
    from fnnexp.sweeping.worker import Broken, train_segment

    def breaks(planned, execution):
        if any(dict(lane.hyper)["lr"] == 0.01 for lane in planned.lanes):
            return Broken("ValueError: no", "")
        return train_segment(planned, execution)

    words = ("map", *AXES, *SHARED, "execution.retries=0")
    with monkeypatch.context() as patch:
        patch.setattr(executor, "train_segment", breaks)
        ran = invoke(*words)
    assert ran.status == 1
    assert "3 of 12 new cells failed" in ran.err
    assert "ValueError: no" in ran.err
    assert new_cells(invoke(*words)) == 3
    m = fnnexp.read_map("digits_map")
    assert not m.missing.any()
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("digits_map")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FINISHED"]


def test_the_printed_zoom_works_for_whole_numbers(invoke, store, capsys):
    """Seeds have no fractions, so a map of 8 seeds in 4 cells can be twice as fine, and one of 4 can't be."""
    for seeds, finer in ((4, None), (8, "2")):
        words = (f"x=seed:0..{seeds}:4", "y=optimizer.lr:1e-2..1e30:3", *SHARED)
        match = re.search(r"zoom in: fnnexp map (.* finer=(\d))", invoke("map", *words).out)
        assert (match and match[2]) == finer
    fnnexp.map(*words)
    called = re.search(r"^zoom in: fnnexp\.map(\(.*\))$", capsys.readouterr().out, re.MULTILINE)
    assert list(ast.literal_eval(called[1])) == shlex.split(match[1])


def test_a_map_changes_nothing_for_sweeps(invoke, store):
    """Its run is in an experiment of its own, and is no trial where it shares one."""
    invoke("map", *AXES, *SHARED, "tracking.experiment=both")
    assert invoke(*SHARED, "tracking.experiment=both").status == 0
    assert len(fnnexp.runs("both")) == 1


# --- the folder of finished cells ---------------------------------------------------------------------------


def test_damaged_files_of_cells_are_set_aside(invoke, store, own_folder):
    invoke("map", *AXES, *SHARED)
    for file in (own_folder / CELLS).glob("*.npz"):
        file.write_bytes(file.read_bytes()[:-30])
    ran = invoke("map", *AXES, *SHARED)
    assert new_cells(ran) == 12
    assert "can't be read" in ran.out
    assert list((own_folder / CELLS).glob("*.broken"))


def test_many_files_of_cells_are_joined(own_folder):
    cells = Cells(CELLS, "numpy")
    ids = [f"{i:016x}" for i in range(70)]
    for i, name in enumerate(ids):
        cells.add(table_of({name: {"epoch": i, f"metric{i % 2}": 1.0}}))
    cells.tidy()
    assert len(list(CELLS.glob("*.npz"))) == 1
    table = cells.find(np.array(ids, "S16"))
    assert table.columns["epoch"].tolist() == list(range(70))
    assert np.isnan(table.columns["metric1"]).sum() == 35


# --- bad input ----------------------------------------------------------------------------------------------

Y = "y=init.gain:0.1..10:4"
BAD = {
    (Y,): ["needs x=KEY:LOW..HIGH:N", "fnnexp map x="],
    ("x=optimizer.lr:1..2:4",): ["needs y="],
    ("x=optimizer.lr:1..10", Y): ["x=optimizer.lr:1..10", "KEY:LOW..HIGH:N"],
    ("x=optimizer.lr:0.1..10:1", Y): ["at least two values", "1", "optimizer.lr=0.1"],
    ("x=optimizer.lr:1..1:4", Y): ["must rise", "1 must be below 1"],
    ("x=optimizer.lr:10..1:4", Y): ["must rise", "x=optimizer.lr:1..10:4"],
    ("x=optimizer.lr:0..10:4:log", Y): ["begins above 0", ":linear"],
    ("x=optimizer.lr:1..10:4:cubic", Y): ["cubic", "log or linear"],
    ("x=optimizer.lr:a..10:4", Y): ["x=optimizer.lr:a..10:4", "a is not a finite number"],
    ("x=optimizer.lr:1..inf:4", Y): ["inf is not a finite number"],
    ("x=optimizer.lt:1..10:4", Y): ["optimizer.lt is not a numeric key", "Did you mean 'optimizer.lr'"],
    ("x=init.method:1..10:4", Y): ["init.method is not a numeric key"],
    ("x=execution.retries:1..10:9", Y): ["execution.retries is not a numeric key"],
    ("x=init.gain:1..10:4", Y): ["same key"],
    ("x=batching.size:1..10:4", Y): ["batching.size has whole numbers", "3.25", "x=batching.size:1..5:4"],
    ("x=optimizer.lr:1..10:100000", Y): ["at most 65,536 values"],
    ("x=optimizer.lr:1..10:60000", "y=init.gain:1..10:60000"): ["3,600,000,000 cells", "memory"],
    ("x=optimizer.lr:1..10:4", Y, "seed=0,1"): ["seed=0,1", "several values"],
    ("x=optimizer.lr:1..10:4", Y, "seed=range(3)"): ["seed=range(3)", "several values"],
    ("x=optimizer.lr:1..10:4", Y, "optimizer.lr=1"): ["optimizer.lr is the axis x"],
    ("x=optimizer.lr:1..10:4", Y, "x=seed:0..4:4"): ["x is given twice"],
    ("x=optimizer.lr:1..10:4", Y, "zoom=1..2"): ["zoom=1..2", "write zoom=0..2,0..2"],
    ("x=optimizer.lr:1..10:4", Y, "zoom=0..5,0..4"): ["cells of x are 0 to 3", "zoom=0..4,0..4"],
    ("x=optimizer.lr:1..10:4", Y, "zoom=2..2,0..4"): ["cells of x are 0 to 3"],
    ("x=optimizer.lr:1..10:4", Y, "zoom=2..3,0..4"): ["one value of x", "finer=4"],
    ("x=optimizer.lr:1..10:4", Y, "finer=1.5"): ["finer=1.5", "whole number"],
    ("x=optimizer.lr:1..10:400", Y, "finer=512"): ["204,800 values", "finer=163"],
    ("x=optimizer.lr:1..10:4", "y=seed:0..4:4", "finer=2"): ["seed has whole numbers", "0.5", "omit finer"],
    ("x=optimizer.lr:1..10:4", Y, "cell=4,0"): ["cell=4,0", "x, 0 to 3", "y, 0 to 3"],
    ("x=optimizer.lr:1..10:4", Y, "cell=a"): ["cell=a"],
    ("x=optimizer.lr:1..10:4", Y, "diagnostics=true"): ["diagnostics=true"],
    ("x=regularization.dropout:0..2:4", Y): ["dropout=1", "below 1"],
    ("x=optimizer.momentum:0.1..0.9:4", Y): ["optimizer.momentum", "no meaning"],
    ("x=init.gain:0.1..10:4", "y=init.std:0.1..1:4"): ["init.std", "no meaning"],
    ("x=seed_split:0..4:4", Y, "data.validation=0"): ["4 different trials", "changes no result here"],
    ("x=optimizer.lr:1..10:4", Y, "nonsense"): ["nonsense"],
    ("x=optimizer.lr:1..10:4", Y, "budget=3s"): ["budget=3s: has no meaning for a map"],
    ("x=optimizer.lr:1..10:4", Y, "search.trials=9"): ["search.trials=9: has no meaning for a map"],
    ("x=optimizer.lr:1..10:4", Y, "optimiser.lr=3"): ["optimiser"],
}


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_bad_input_is_refused_before_anything_trains(invoke, own_folder, words):
    ran = invoke("map", *words, *(("data=digits",) if len(words) > 1 else ()))
    assert ran.status == 2
    assert [text for text in BAD[words] if text not in ran.err] == []
    assert not (own_folder / ".fnnexp").exists()
    assert not (own_folder / "mlflow.db").exists()


def test_dry_run_shows_what_is_new(invoke, own_folder):
    ran = invoke("map", *AXES, *SHARED, "dry_run=true")
    assert new_cells(ran) == 12
    assert "12 networks in 1 stack on 1 worker (loky); 24 epochs in all" in ran.out
    assert re.search(
        r"^memory: up to \d+ MB in the worker, and \d+ MB in this process", ran.out, re.MULTILINE
    )
    assert "disk: about 1 KB in .fnnexp/cells, and 1 KB for the arrays of the run" in ran.out
    assert re.search(r"^time: about (a second|\d+ s) on 1 worker with NumPy \(", ran.out, re.MULTILINE)
    assert not (own_folder / ".fnnexp").exists()


def test_the_command_of_a_request_is_that_request():
    words = ["x=optimizer.lr:1e-3..10:8", "y=init.std:0..9:9", "data=digits", "zoom=2..6,1..3", "finer=2"]
    request = parse(Command(overrides=tuple(words)))
    name, subcommand, *again = shlex.split(request.words())
    assert (name, subcommand) == ("fnnexp", "map")
    assert parse(Command(overrides=tuple(again))) == request


def test_a_strangers_map_is_refused_without_harm(invoke, store, own_folder):
    invoke("map", *AXES, *SHARED)
    (file,) = own_folder.glob("mlruns/*/*/artifacts/map.npz")
    content = file.read_bytes()
    evil = io.BytesIO()
    np.savez(evil, x=np.array([print], object))
    for bad in (content[:-100], evil.getvalue(), b""):
        file.write_bytes(bad)
        with pytest.raises(fnnexp.FnnexpError, match="can't be read"):
            fnnexp.read_map("digits_map")


# --- from Python --------------------------------------------------------------------------------------------


def test_python_trains_the_map_of_the_command_line(store, capsys):
    axes = {"x": AXES[0][2:], "y": AXES[1][2:]}
    shared = {"data": "digits", "arch.hidden": [[4]], "epochs": 2, "execution.n_jobs": 1}
    called, read = fnnexp.map(**axes, **shared), fnnexp.read_map("digits_map")
    trials = compose(parse(Command(overrides=(*AXES, *SHARED))).command).trials
    assert called.trials.ravel().tolist() == read.trials.ravel().tolist() == [t.id.encode() for t in trials]
    assert called.columns.keys() == read.columns.keys()
    for name, array in read.columns.items():
        np.testing.assert_array_equal(called[name], array)
    assert (called.metric, called.guessing, called.about) == (read.metric, read.guessing, read.about)
    part = fnnexp.map(*SHARED, **axes, zoom="1..3,0..2", finer=1)
    assert "4 cells, 4 finished before" in capsys.readouterr().out
    np.testing.assert_array_equal(part["val_accuracy"], read["val_accuracy"][:2, 1:3])


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"y": None}, ["a map needs y=KEY:LOW..HIGH:N; write fnnexp.map('x=optimizer.lr:1e-3..10:64', 'y="]),
        ({"diagnostics": True}, ["diagnostics=true: a map records no diagnostics; omit it"]),
        ({"x": "init.gain:0.1..10"}, ["x=init.gain:0.1..10: must be KEY:LOW..HIGH:N"]),
        ({"init": ["he", "max"]}, ["init=he,max: has several values"]),
        ({"dry_run": True}, ["dry_run=true works on the command line only"]),
        ({"cell": (1, 2)}, ["cell=1,2", "fnnexp.sweep('data=digits', 'optimizer.lr=", "'init.gain="]),
    ],
)
def test_bad_input_from_python_is_refused_before_anything_trains(own_folder, choices, words):
    axes = {"x": AXES[0][2:], "y": AXES[1][2:]}
    given = {name: value for name, value in {**axes, **choices}.items() if value is not None}
    with pytest.raises(fnnexp.FnnexpError) as refused:
        fnnexp.map("data=digits", **given)
    assert [text for text in words if text not in str(refused.value)] == []
    assert not (own_folder / ".fnnexp").exists()


def test_a_star_import_keeps_pythons_map():
    names = {}
    exec("from fnnexp import *", names)
    assert "map" not in names
    assert "sweep" in names
