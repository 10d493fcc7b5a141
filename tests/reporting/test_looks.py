"""A report records in the store that results were seen; seeds that come later are tested for that."""

from mlflow import MlflowClient

import fnnexp
from fnnexp.results import frames
from fnnexp.tracking.run_format import LOOKS

SWEEP = ("-m", "data=digits", "epochs=1", "arch.hidden=[8]", "init=he,max", "execution.n_jobs=1")


def looks_in(store):
    """Return the looks as MLflow's own client gives them."""
    tags = MlflowClient(store).get_experiment_by_name("fnnexp").tags
    return tags.get(LOOKS, "").split()


def test_seeds_that_come_after_a_report_are_tested_at_every_look(invoke, store):
    assert invoke(*SWEEP, "seed=0,1,2").status == 0
    fresh = fnnexp.runs("fnnexp")
    assert fresh["look"].isna().all()
    assert looks_in(store) == []
    for _ in range(2):  # the same results again are no other look
        assert invoke("report", "fnnexp").status == 0
        assert len(looks_in(store)) == 1
        assert (fnnexp.runs("fnnexp")["look"] == 1).all()
        assert set(fnnexp.compare(fnnexp.runs("fnnexp"))["test"]) <= {"t", "sign flip"}
    assert invoke(*SWEEP, "seed=0,1,2,3,4").status == 0
    grown = fnnexp.runs("fnnexp")
    assert grown["look"].isna().tolist() == (grown["seed"] > 2).tolist()
    (pair,) = fnnexp.compare(grown).to_dict("records")
    assert pair["looks"] == 2
    assert pair["test"] in ("safe t", "safe signs")
    ran = invoke("report", "fnnexp", "seed=0,1,2,3,4")  # of a part too
    assert "looked at these seeds 2 times" in " ".join(ran.out.split())
    assert len(looks_in(store)) == 2
    assert fnnexp.runs("fnnexp")["look"].tolist() == [1 if seed < 3 else 2 for seed in grown["seed"]]
    written = frames.whole("fnnexp").runs
    assert written["look"].tolist() == fnnexp.runs("fnnexp")["look"].tolist()


def test_a_look_that_cant_be_recorded_is_said_and_costs_no_report(invoke, store, monkeypatch):
    assert invoke(*SWEEP, "seed=0").status == 0

    def refuse(*_):
        raise OSError("no room")

    monkeypatch.setattr("fnnexp.tracking.experiment.record_look", refuse)
    ran = invoke("report", "fnnexp")
    assert ran.status == 0
    assert "That these results were looked at is not recorded: " in ran.out
    assert "no room" in ran.out
    assert looks_in(store) == []
