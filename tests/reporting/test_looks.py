"""A report records that results were seen, and seeds that are added later are tested accordingly."""

import pytest
from mlflow import MlflowClient

import fnnexp
from fnnexp.results import frames
from fnnexp.tracking.run_format import LOOKS

SWEEP = ("-m", "data=digits", "epochs=1", "arch.hidden=[8]", "init=he,max", "execution.n_jobs=1")


def looks_in(store):
    """Return the recorded looks, read with MLflow's client."""
    tags = MlflowClient(store).get_experiment_by_name("digits").tags
    return tags.get(LOOKS, "").split()


@pytest.mark.usefixtures("blank_figures")
def test_seeds_added_after_a_report_are_tested_for_repeated_looks(invoke, store):
    assert invoke(*SWEEP, "seed=0,1,2").status == 0
    fresh = fnnexp.runs("digits")
    assert fresh["look"].isna().all()
    assert looks_in(store) == []
    for _ in range(2):  # a second report on the same results is not a new look
        assert invoke("report", "digits").status == 0
        assert len(looks_in(store)) == 1
        assert (fnnexp.runs("digits")["look"] == 1).all()
        assert set(fnnexp.compare(fnnexp.runs("digits"))["test"]) <= {"t", "sign flip"}
    assert invoke(*SWEEP, "seed=0,1,2,3,4").status == 0
    grown = fnnexp.runs("digits")
    assert grown["look"].isna().tolist() == (grown["seed"] > 2).tolist()
    (pair,) = fnnexp.compare(grown).to_dict("records")
    assert pair["looks"] == 2
    assert pair["test"] in ("safe t", "safe signs")
    ran = invoke("report", "digits", "seed=0,1,2,3,4")  # a report on a part is a look too
    assert "looked at these seeds 2 times" in " ".join(ran.out.split())
    assert len(looks_in(store)) == 2
    assert fnnexp.runs("digits")["look"].tolist() == [1 if seed < 3 else 2 for seed in grown["seed"]]
    written = frames.whole("digits").runs
    assert written["look"].tolist() == fnnexp.runs("digits")["look"].tolist()


@pytest.mark.usefixtures("blank_figures")
def test_a_look_that_cannot_be_recorded_is_reported_and_keeps_the_report(invoke, store, monkeypatch):
    assert invoke(*SWEEP, "seed=0").status == 0

    def refuse(*_):
        raise OSError("no room")

    monkeypatch.setattr("fnnexp.tracking.experiment.record_look", refuse)
    ran = invoke("report", "digits")
    assert ran.status == 0
    assert "Could not record that these results were seen: " in ran.out
    assert "no room" in ran.out
    assert looks_in(store) == []
