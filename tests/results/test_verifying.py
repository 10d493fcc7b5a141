"""Trials that are trained again have the numbers that the store has, or the comparison says what differs."""

from __future__ import annotations

import contextlib
import sqlite3

import numpy as np
import pytest

import fnnexp
from fnnexp.errors import FnnexpError


@pytest.fixture
def swept(store, own_folder):
    """Return the folder of a store with three trials on digits."""
    fnnexp.sweep(
        data="digits", epochs=2, seed=[0, 1, 2], **{"execution.n_jobs": 1, "execution.engine": "numpy"},
        **{"regularization.dropout": 0.2},
    )  # fmt: skip
    return own_folder


def changed(folder, run_id, key, value):
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
        store.execute("UPDATE tags SET value = ? WHERE key = ? AND run_uuid = ?", (value, key, run_id))


def test_what_differs_is_found_and_named(swept, invoke, monkeypatch):
    assert fnnexp.verify("digits", sample=9)["result"].tolist() == ["bitwise"] * 3
    samples = [fnnexp.verify("digits", sample=1, seed=seed)["trial"].item() for seed in range(2)]
    assert samples == [fnnexp.verify("digits", sample=1, seed=seed)["trial"].item() for seed in range(2)]
    assert invoke("verify", "digits", "--sample", "1").status == 0
    one, other, third = fnnexp.runs("digits").sort_values("trial")["run_id"]
    for run_id in (one, other):
        (file,) = (swept / "mlruns").glob(f"*/{run_id}/artifacts/weights.npz")
        with np.load(file) as stored:
            weights = dict(stored)
        weights["W1"][300, 0] += np.float32(1e-6)
        np.savez(file, **weights)
    changed(swept, other, "fnnexp.blas", "openblas 0.3 Other")
    changed(swept, third, "fnnexp.data_checksum", "0" * 64)
    verified = fnnexp.verify("digits")
    assert verified["result"].tolist() == ["differs", "other rounding", "not verified"]
    assert verified["difference"].tolist()[:2] == [0.0, 0.0]  # only a weight was changed
    assert "openblas 0.3 Other; here by numpy" in verified["note"][1]
    assert "is not the data that the trial was trained on" in verified["note"][2]
    ran = invoke("verify", "digits")
    assert ran.status == 1
    assert "1 other rounding, 1 differs, 1 not verified" in ran.out
    with pytest.raises(FnnexpError, match="sample=0 must be a number of trials"):
        fnnexp.verify("digits", sample=0)
