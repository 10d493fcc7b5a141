"""``fnnexp clean`` removes what is left behind, never results, and nothing that a running sweep uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stores import runs_in

from fnnexp.sweeping.checkpoints import CELLS, CHECKPOINTS
from fnnexp.sweeping.resources import leftovers
from fnnexp.sweeping.resources.states import STATES

ONE = ["data=digits", "arch.hidden=[3]", "execution.n_jobs=1"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return a cache folder for this test alone, and no compiled code."""
    monkeypatch.setenv("FNNEXP_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "compiled"
    folder.mkdir()
    (folder / "numba_engine.multiply-1.py311.nbi").write_bytes(b"index")
    (folder / "others.nbi").write_bytes(b"of another program")
    monkeypatch.setattr(leftovers, "_folder_of_compiled_code", lambda: folder)
    return tmp_path / "cache"


@pytest.fixture
def left_behind(cache, invoke, store, tmp_path):
    """Run a sweep, and leave behind something of every kind."""
    assert invoke(*ONE, "epochs=1").status == 0
    CHECKPOINTS.mkdir()
    for name in ("0123.npz", "0123.12345678.curve", "45.broken", "67.99.partial"):
        (CHECKPOINTS / name).write_bytes(b"unfinished")
    CELLS.mkdir()
    (CELLS / "0123.numpy.npz").write_bytes(b"finished cells")
    claims = Path(".fnnexp/claims")
    (claims / "dead.json").write_text(json.dumps({"experiment": "digits", "who": "x", "trials": []}))
    (claims / "dead.lock").touch()
    (cache / "dead.lock").touch()
    (cache / "mnist.npz").write_bytes(b"images")
    (cache / "speeds").mkdir()
    (cache / "speeds" / "0123.json").write_text("{}")
    (cache / "notes.txt").write_text("the user's own file")
    (tmp_path / ".mlflow.db.abc").mkdir()
    (tmp_path / ".mlflow.db.abc" / "lock").touch()
    invoke("report", "digits")
    return tmp_path


def files_in(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_clean_shows_everything_and_removes_nothing_until_yes(left_behind, invoke):
    before = files_in(left_behind)
    ran = invoke("clean")
    assert ran.status == 0
    assert files_in(left_behind) == before
    for kind in leftovers.KINDS:
        assert f"\n{kind} " in ran.out
    assert "nothing was removed; to remove" in ran.out
    assert ran.out.rstrip().endswith("fnnexp clean --yes")


def test_clean_removes_all_but_results_and_others_files(left_behind, invoke, cache):
    before = files_in(left_behind)
    ran = invoke("clean", "--yes")
    assert ran.status == 0, ran.err
    assert "removed " in ran.out
    after = files_in(left_behind)
    assert after.items() <= before.items()
    names = {str(file.relative_to(left_behind)) for file in after}
    results = {name for name in names if name.startswith(("mlruns", "reports", "mlflow.db"))}
    assert names - results == {"cache/notes.txt", "compiled/others.nbi"}
    kept = {file for file in before if {"mlruns", "reports"} & set(file.parts) or file.name == "mlflow.db"}
    assert kept <= after.keys()
    assert not Path(".fnnexp").exists()
    assert "nothing to remove" in invoke("clean").out
    assert len(runs_in(left_behind)) == 1
    assert "1 was done before" in invoke(*ONE, "epochs=1").out


def test_clean_removes_the_named_kinds_only(left_behind, invoke, cache):
    ran = invoke("clean", "states", "claims")
    assert ran.out.rstrip().endswith("fnnexp clean states claims --yes")
    invoke("clean", "states", "--yes")
    assert not STATES.exists()
    assert list(CHECKPOINTS.iterdir())
    assert (cache / "mnist.npz").exists()
    wrong = invoke("clean", "state")
    assert wrong.status == 2
    assert "there is no kind 'state' to clean" in wrong.err
    assert "Did you mean 'states'?" in wrong.err


def test_clean_leaves_what_a_running_sweep_uses(left_behind, invoke, cache, monkeypatch):
    """The sweep is real: it calls clean while it trains."""
    from fnnexp.sweeping import loop

    shown, submit = [], loop._Sweep._submit

    def cleaning(sweep, planned):
        before = files_in(left_behind)
        shown.append(invoke("clean", "--yes").out)
        shown.append(before.keys() - files_in(left_behind).keys())
        return submit(sweep, planned)

    monkeypatch.setattr(loop._Sweep, "_submit", cleaning)
    ran = invoke(*ONE, "epochs=2")
    assert ran.status == 0, ran.err
    assert "1 trial goes on from 1 epoch" in ran.out
    out, removed = shown
    assert {file.name for file in removed} == {"dead.lock"}  # the sweep itself removed the other claims
    for kind in ("states", "checkpoints", "data", "downloads", "compiled"):
        line = next(line for line in out.splitlines() if line.startswith(kind))
        assert "stays: a sweep is running" in line
    assert "stays" not in invoke("clean", "--yes").out
    assert not list(left_behind.rglob("*.lock"))


def test_a_file_that_cannot_be_removed_is_named(left_behind, invoke, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    ran = invoke("clean", "states", "--yes")
    assert ran.status == 1
    assert "can't be removed: Permission denied" in ran.out
