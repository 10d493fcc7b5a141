"""Test disk: what the results of sweeps take, and grids whose results do not fit."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from fnnexp.sweeping.resources import disk

MOONS = ["data=moons", "arch.hidden=[8]"]
SHAPES = {
    "weights": ["data=digits", "arch.hidden=[100,30]", "epochs=1", "dtype=float64", "stopping.patience=1"],
    "curves": [*MOONS, "epochs=40", "data.validation=0"],
    "diagnostics": [*MOONS, "epochs=5", "diagnostics=true", "optimizer=adam"],
    "histograms": ["data=digits", "arch.hidden=[20,20]", "epochs=20", "diagnostics=full"],
}


def in_store(folder):
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        (pages,), (size,) = (store.execute(f"PRAGMA {of}").fetchone() for of in ("page_count", "page_size"))
    return pages * size


def in_files(folder):
    """Return the size of all files and folders in whole blocks, as the file system stores them."""
    paths = [path.stat() for path in (folder / "mlruns").rglob("*")]
    return sum(-(-max(path.st_size, 1) // disk.BLOCK) * disk.BLOCK for path in paths)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimate_is_near_what_a_sweep_takes(shape, store, invoke, trials_of, own_folder):
    words = [*SHAPES[shape], "seed=range(30)"]
    assert invoke("data=moons", "epochs=0", "tracking.experiment=before").status == 0
    before = in_store(own_folder), in_files(own_folder)
    ran = invoke("-m", *words, "tracking.experiment=now")
    assert ran.status == 0, ran.err
    level = "full" if "diagnostics=full" in words else "diagnostics=true" in words
    expected = disk.needed(trials_of(*words), diagnostics=level)
    assert in_store(own_folder) - before[0] == pytest.approx(expected.store, rel=0.25)
    assert in_files(own_folder) - before[1] == pytest.approx(expected.files, rel=0.25)


def with_left(monkeypatch, left):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=left))


GRID = ["-m", "data=digits", "arch.hidden=[100]", "epochs=1", "seed=0,1,2,3"]


@pytest.mark.parametrize("word", ["dry_run=true", "dry_run=false"])
def test_a_grid_whose_results_do_not_fit_is_refused_before_anything_trains(
    word, store, invoke, own_folder, monkeypatch
):
    with_left(monkeypatch, 10**6)
    ran = invoke(*GRID, word)
    assert ran.status == 2
    assert re.search(
        r"the results of 4 trials need about 1 MB of disk \(34\d KB a trial\), but the disk of .+ has 1 MB "
        r"left; free some of it \(.* clean lists what can go\), "
        r"train fewer trials, or write tracking.uri=sqlite:///FOLDER/mlflow.db",
        ran.err,
    ), ran.err
    assert MlflowClient(store).get_experiment_by_name("digits") is None


def test_only_the_trials_to_run_count(store, invoke, monkeypatch):
    assert invoke(*GRID[:-1], "seed=0,1,2").status == 0
    with_left(monkeypatch, 10**6)
    assert invoke(*GRID).status == 0


def test_a_dry_run_says_what_the_results_take_and_what_is_left(store, invoke, monkeypatch, own_folder):
    with_left(monkeypatch, 5 * 10**9)
    ran = invoke(*GRID, "dry_run=true")
    assert re.search(r"^disk: about 1 MB in .+ \(5.0 GB left\), 34\d KB a trial$", ran.out, re.MULTILINE)


def test_files_on_another_disk_are_counted_apart(trials_of, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path.as_posix()}/mlflow.db"
    (tmp_path / "mlruns").mkdir()
    real = type(tmp_path).stat

    def stat(path, **options):
        there = real(path, **options)
        return SimpleNamespace(st_dev=7, st_mode=there.st_mode) if path.name == "mlruns" else there

    monkeypatch.setattr(type(tmp_path), "stat", stat)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda of: SimpleNamespace(free=10**6 if of.name == "mlruns" else 10**5)
    )
    two, four = (
        disk.needed(trials_of("data=digits", "epochs=1", f"seed=range({n})"), diagnostics=False)
        for n in (2, 4)
    )
    disk.check(two, uri, "digits")
    with pytest.raises(disk.FnnexpError, match=f"the disk of {tmp_path}/mlruns has 1 MB left.* a link"):
        disk.check(four, uri, "digits")
    disk.check(four, "http://127.0.0.1:5000", "digits")
