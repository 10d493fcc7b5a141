"""Merged stores have each finished trial once, with the numbers of the store that it comes from."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from stores import assert_same_results, results

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.sweeping.resources import merging
from fnnexp.tracking import experiment as experiments

SMALL = {"data": "digits", "epochs": 1, "batching": "sample", "execution.n_jobs": 1}


def address(folder):
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture(scope="module")
def laptops(empty_store, tmp_path_factory):
    """Return the folders of three stores: seeds 0 and 1, seeds 1 and 2, and seed 1 computed by numba."""
    folders = []
    for name, seeds, engine in (("a", [0, 1], "numpy"), ("b", [1, 2], "numpy"), ("c", [1], "numba")):
        folder = tmp_path_factory.mktemp(name)
        empty_store(folder)
        with contextlib.chdir(folder):
            fnnexp.sweep(seed=seeds, **SMALL, **{"execution.engine": engine})
        folders.append(folder)
    experiments.record_look("digits", address(folders[0]), 4_000_000_000_000)
    return folders


def hashes(folder):
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith("mlflow.db-")
    ]
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_each_trial_is_there_once_with_its_own_numbers(laptops, tmp_path, same_bits):
    a, b, c = laptops
    before = [hashes(folder) for folder in laptops]
    target = tmp_path / "merged" / "all.db"
    target.parent.mkdir()
    merged = fnnexp.merge(a / "mlflow.db", b / "mlflow.db", address(c), into=target)
    assert merged["result"].tolist() == ["copied", "copied", "known", "copied", "differs"]
    assert "by numba" in merged["note"].iloc[-1]
    assert re.search(r"the one by numpy.* is kept", merged["note"].iloc[-1])
    assert [hashes(folder) for folder in laptops] == before
    expected = results(address(b), "digits") | results(address(a), "digits")
    assert_same_results(results(f"sqlite:///{target}", "digits"), expected, same_bits)
    runs = fnnexp.runs("digits", tracking_uri=f"sqlite:///{target}")
    originals = pd.concat([fnnexp.runs("digits", tracking_uri=address(each)) for each in (a, b)])
    columns = ["run_id", "trial", "started", "seconds", "test_accuracy", "engine", "blas"]
    rows = originals.drop_duplicates("trial")[columns].sort_values("trial").reset_index(drop=True)
    pd.testing.assert_frame_equal(runs[columns].sort_values("trial").reset_index(drop=True), rows)
    assert runs["look"].tolist() == [1, 1, 1]  # a report of the first store is kept
    network = fnnexp.load(runs.iloc[2], tracking_uri=f"sqlite:///{target}")
    assert network.accuracy(*network.rows("test")) == runs["test_accuracy"][2]
    again = fnnexp.merge(a / "mlflow.db", b / "mlflow.db", into=target)
    assert set(again["result"]) == {"known"}
    assert len(fnnexp.runs("digits", tracking_uri=f"sqlite:///{target}")) == 3


def test_missing_files_are_said_and_copied_later(laptops, tmp_path):
    a, _, _ = laptops
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in a.glob("mlflow.db*"):
        shutil.copy(file, bare)
    target = tmp_path / "all.db"
    assert [*fnnexp.merge(bare / "mlflow.db", into=target)["note"]] == [merging.NO_FILES] * 2
    merged = fnnexp.merge(a / "mlflow.db", into=target)
    assert [*zip(merged["result"], merged["note"], strict=True)] == [("known", merging.FILES_COPIED)] * 2
    network = fnnexp.load(
        fnnexp.runs("digits", tracking_uri=f"sqlite:///{target}").iloc[0], tracking_uri=f"sqlite:///{target}"
    )
    assert network.weights["W1"].shape[0] == 784
    assert [*fnnexp.merge(a / "mlflow.db", into=target)["note"]] == [""] * 2


def test_a_full_disk_stops_a_copy_with_one_sentence_and_leaves_no_part_of_it(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "runs" / "there"
    here.mkdir()
    for name in ("config.yaml", "weights.npz"):
        (here / name).write_text(name)
    copyfile = shutil.copyfile

    def until_full(source, *where, **how):
        if Path(source).name == "weights.npz":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        return copyfile(source, *where, **how)

    with monkeypatch.context() as full:
        full.setattr(shutil, "copyfile", until_full)
        with pytest.raises(FnnexpError) as raised:
            merging._copy_folder(here, there)
    message = str(raised.value)
    assert message.startswith(f"{here} can't be copied to {there}: [Errno 28] No space left on device: ")
    assert message.endswith("start the same command again to go on")
    assert raised.value.exit_status == 1
    assert [*there.parent.iterdir()] == []
    merging._copy_folder(here, there)
    assert {file.name: file.read_text() for file in there.iterdir()} == {
        file.name: file.read_text() for file in here.iterdir()
    }


@pytest.mark.long
def test_the_command_says_what_became_of_the_trials(laptops, tmp_path, invoke):
    a, _, c = (str(folder / "mlflow.db") for folder in laptops)
    with contextlib.closing(sqlite3.connect(a)) as store:
        query = "SELECT run_uuid FROM tags WHERE key = 'fnnexp.trial' LIMIT 1"
        (run_id,) = store.execute(query).fetchone()
    copy = tmp_path / "unfinished"
    shutil.copytree(Path(a).parent, copy)
    with contextlib.closing(sqlite3.connect(copy / "mlflow.db")) as store, store:
        store.execute(
            "UPDATE tags SET value = 'interrupted' WHERE key = 'fnnexp.status' AND run_uuid = ?", (run_id,)
        )
    ran = invoke("merge", str(copy), c, "--into", "all.db", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert f"{copy}: 1 copied, 1 not finished" in ran.out
    assert "fnnexp report digits --uri" in ran.out


@pytest.mark.parametrize(
    ("stores", "into", "message"),
    [
        ([], "all.db", "needs stores"),
        (["none.db"], "all.db", "there is no store at .*none.db"),
        (["a.db", "./a.db"], "all.db", "is named twice"),
        (["a.db"], "a.db", "is named twice"),
        (["http://127.0.0.1:5000"], "all.db", "is not the file of a SQLite store"),
        (["mlruns"], "all.db", r"mlruns is not the file of .* as in mlruns.mlflow\.db"),
        (["sqlite:///mlruns/"], "all.db", r" as in sqlite:///mlruns/mlflow\.db"),
        (["a.db", "laptop", "laptop/mlflow.db"], "all.db", "laptop/mlflow.db is named twice"),
    ],
)
def test_what_is_no_store_is_refused(stores, into, message, store, own_folder):
    (own_folder / "laptop").mkdir()
    shutil.copy(own_folder / "mlflow.db", own_folder / "laptop")
    (own_folder / "mlflow.db").rename("a.db")
    (own_folder / "mlruns").mkdir(exist_ok=True)
    with pytest.raises(FnnexpError, match=message):
        fnnexp.merge(*stores, into=into)
