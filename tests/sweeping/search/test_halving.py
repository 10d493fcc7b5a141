"""search=halving on the digits: which trials leave at a rung, and what the others are."""

from __future__ import annotations

import re

import pytest
from stores import curve_in, points, runs_in

import fnnexp
from fnnexp.config.commands import Command
from fnnexp.config.compose import compose
from fnnexp.reporting.sections import overview, summary
from fnnexp.results import comparisons
from fnnexp.sweeping.search.ahead import planned_first
from fnnexp.sweeping.search.halving import Recorded, configurations_of
from fnnexp.tracking.retry import StoreError
from fnnexp.tracking.writer import Tracker

RATES = "optimizer.lr=0.001,0.01,0.03,0.1,0.3,1e30"
GRID = ["data=digits", "arch.hidden=[8]", "batching=mini,full", RATES, "seed=0,1", "epochs=9"]
HALVING = ["-m", *GRID, "search=halving", "execution.engine=numpy"]
ALONE, TOGETHER = "execution.n_jobs=1", "execution.n_jobs=2"
RUNGS = [1, 3]


def with_words(*words):
    """Return the command with some of its words replaced."""
    keys = {word.partition("=")[0] for word in words}
    return [*(word for word in HALVING if word.partition("=")[0] not in keys), *words]


def ended(folder):
    """Return the status of each trial, and the epoch at which it was pruned."""
    tags = {trial: run.data.tags for trial, run in runs_in(folder).items()}
    return {trial: (own["fnnexp.status"], own.get("fnnexp.pruned_epoch")) for trial, own in tags.items()}


@pytest.fixture(scope="module")
def expected(trials_of, train_alone):
    """Return how each trial of the grid must end, decided from the curves of the trials trained alone."""
    trials, ends = trials_of(*GRID), {}
    configurations = {}
    for trial in trials:
        configurations.setdefault((trial.recipe.batching.mode, trial.params["optimizer.lr"]), []).append(
            trial
        )

    def value(of, rung):
        accuracies = []
        for trial in configurations[of]:
            record = next((r for r in train_alone(trial)[0] if r.epoch == rung), None)
            accuracies.append(record.metrics["val_accuracy"] if record and record.end is None else 0.0)
        return sum(accuracies) / 2

    for mode in ("mini", "full"):
        left = [key for key in configurations if key[0] == mode]
        for rung in RUNGS:
            ranked = sorted(
                left, key=lambda key, rung=rung: (-value(key, rung), min(t.id for t in configurations[key]))
            )
            left = ranked[: -(-len(ranked) // 3)]
            ends |= {
                t.id: ("pruned", str(rung)) for key in ranked if key not in left for t in configurations[key]
            }
        ends |= {trial.id: ("finished", None) for key in left for trial in configurations[key]}
    for trial in trials:
        if train_alone(trial)[0][-1].end is not None:
            ends[trial.id] = ("diverged", None)
    return ends


@pytest.fixture(scope="module")
def halved(tmp_path_factory, empty_store, invoke):
    """Run a sweep; return its folder and its output."""
    folder = tmp_path_factory.mktemp("halved")
    empty_store(folder)
    ran = invoke(*HALVING, ALONE, cwd=folder)
    assert ran.status == 0, ran.err
    return folder, ran.out


def agrees_up_to_its_end(folder, trials, train_alone):
    """Assert that each trial has the curve of the trial trained alone, as far as it was trained."""
    runs = runs_in(folder)
    for trial in trials:
        tags, records = runs[trial.id].data.tags, train_alone(trial)[0]
        last = int(tags.get("fnnexp.pruned_epoch", 9)) if tags["fnnexp.status"] == "pruned" else 9
        curve = points(record for record in records if record.epoch <= last)
        assert curve_in(folder, runs[trial.id].info.run_id) == curve, trial.name


def test_each_rung_keeps_the_best_third_of_each_batching_mode(halved, expected):
    folder, out = halved
    assert ended(folder) == expected
    assert "search=halving: 12 configurations to epoch 1, 4 to epoch 3, 2 to epoch 9: at most 64 of" in out
    assert "after 1 epoch: 4 of 12 configurations go on\nafter 3 epochs: 2 of 4 configurations go on\n" in out
    assert re.search(
        r"^4 trials finished, \d+ pruned \(at epochs 1 to 3\), \d diverged in", out, re.MULTILINE
    )
    assert re.search(r"^batching=\w+ optimizer.lr=[\d.]+ +0\.\d{4} *$", out, re.MULTILINE)
    assert "2 configurations came to the end; the search took 64 of the full grid's 216 epochs" in out


def test_all_trials_are_bitwise_what_they_are_alone(halved, trials_of, train_alone, agrees):
    folder, _ = halved
    trials = trials_of(*GRID)
    agrees_up_to_its_end(folder, trials, train_alone)
    agrees(folder, [trial for trial in trials if ended(folder)[trial.id][0] == "finished"], only=True)


def test_the_same_command_takes_the_same_decisions_and_trains_nothing(halved, invoke, expected):
    folder, out = halved
    again = invoke(*HALVING, ALONE, cwd=folder)
    assert again.status == 0
    assert ended(folder) == expected
    assert "0 trials finished, " in again.out
    best = "the best "
    assert again.out[again.out.index(best) :].splitlines()[:3] == out[out.index(best) :].splitlines()[:3]


def test_a_report_counts_and_marks_pruned_trials(halved, monkeypatch):
    folder, _ = halved
    monkeypatch.chdir(folder)
    runs = fnnexp.runs("digits")
    pruned = runs["status"] == "pruned"
    assert (runs["pruned_epoch"].notna() == pruned).all()
    counts = runs["pruned_epoch"].value_counts()
    assert f"{pruned.sum()} pruned" in overview.counts(runs)
    assert f"{counts[1]} at epoch 1, {counts[3]} at epoch 3. No mean" in overview.pruned(runs)[0]
    board = fnnexp.leaderboard(runs)
    assert board["pruned"].sum() == pruned.sum()
    assert board.loc[board["pruned"] > 0, "val_accuracy"].isna().all()
    findings = comparisons.findings(runs)
    assert len(findings.with_leader) == 1  # the two that finished
    (sentence,) = [line for line in summary.caveats(runs, findings) if "pruned" in line]
    assert re.fullmatch(r"A search pruned \d+ of 12 configurations early, so they have no result.", sentence)


def test_stops_and_two_workers_change_nothing_and_a_grid_goes_on(
    expected, trials_of, train_alone, agrees, empty_store, invoke, tmp_path
):
    empty_store(tmp_path)
    for budget, more in (("7trials", 17), ("41epochs", 4), ("2s", 0)):
        stopped = invoke(*HALVING, TOGETHER, f"budget={budget}", "execution.segment_seconds=0", cwd=tmp_path)
        assert stopped.status == 0, stopped.err
        if more:
            assert f"{more} trials of the sweep are left" in stopped.out
    assert invoke(*HALVING, TOGETHER, cwd=tmp_path).status == 0
    assert ended(tmp_path) == expected
    whole = invoke("-m", *GRID, ALONE, cwd=tmp_path)
    assert whole.status == 0
    assert "resuming " in whole.out
    trials = [trial for trial in trials_of(*GRID) if expected[trial.id][0] != "diverged"]
    assert {status for status, _ in ended(tmp_path).values()} == {"finished", "diverged"}
    agrees(tmp_path, trials, only=True)
    assert (
        fnnexp.runs("digits", tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")["pruned_epoch"].isna().all()
    )


def test_a_rung_that_was_saved_but_not_logged_is_logged(
    expected, trials_of, train_alone, empty_store, invoke, tmp_path, monkeypatch
):
    empty_store(tmp_path)

    def fail(*_):
        raise StoreError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "pause", fail)
        assert invoke(*HALVING, ALONE, cwd=tmp_path).status != 0
    checkpoints = tmp_path / ".fnnexp" / "checkpoints"
    assert list(checkpoints.glob("*.npz"))
    for trial in trials_of(*GRID):
        if trial.seed == 0:
            (checkpoints / f"{trial.numbers_id}.npz").unlink(missing_ok=True)
    # The final states of trials with fewer epochs are beyond the first rung.
    shorter = [*GRID[:-2], "seed=0", "epochs=3", "execution.engine=numpy"]
    assert invoke("-m", *shorter, "tracking.experiment=shorter", ALONE, cwd=tmp_path).status == 0
    ran = invoke(*HALVING, ALONE, cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert "go on from 3 epochs" in ran.out
    assert ended(tmp_path) == expected


def test_configurations_that_train_identically_count_once(trials_of):
    trials = trials_of("arch.hidden=[12]", "init=xavier,sqrtmax,he", "seed=0,1", "seed_order=3,4")
    same, he = configurations_of(trials)
    assert (same.name, he.name) == ("init=xavier = init=sqrtmax", "init=he")
    assert len(same.trials) == len(same.copies) == len(he.trials) == 4


def test_names_say_values_that_are_defaults(trials_of):
    trials = trials_of("optimizer.lr=0.1,0.2", "data.label_noise=0,0.3")
    names = {name for each in configurations_of(trials) for name in each.name.split()}
    assert names == {"optimizer.lr=0.1", "optimizer.lr=0.2", "data.label_noise=0.0", "data.label_noise=0.3"}


def test_the_value_of_a_trial_that_ended_early():
    values = {1: 0.5, 2: 0.75}
    assert Recorded("", "running", values).at(2) == 0.75
    assert Recorded("", "running", values).at(3) is None
    assert Recorded("", "finished", values).at(3) == 0.75
    assert Recorded("", "diverged", values, diverged_epoch=2).at(1) == 0.5
    assert Recorded("", "diverged", values, diverged_epoch=2).at(2) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search.eta=1"], "search.eta=1: must be 2 or more; write search.eta=3"),
        (["search.eta=2.5"], "search.eta=2.5: must be a whole number"),
        (
            ["batching=mini", "zip=[[optimizer.lr,seed]]", "optimizer.lr=0.1,0.2", "seed=0,1"],
            "have different seeds, so luck could decide which goes on; sweep the seeds of all configurations",
        ),
        (["search.min_epochs=0"], "search.min_epochs=0: must be 1 or more"),
        (
            ["search.min_epochs=9"],
            "search.min_epochs=9: must be below epochs=9; write search.min_epochs=1, or more",
        ),
        (["epochs=9,18"], "and these have 9 and 18; write one value, as in epochs=18"),
        (["epochs=1"], "trials of 1 epoch have no earlier epoch"),
        (["optimizer.lr=0.1"], "each batching mode and data set has only one configuration"),
        (["optimizer.lr=0.1", "batching=mini"], "there is only one configuration"),
        (
            ["until=settled", "seed=0"],
            "until=settled: adds seeds to options, but search=halving drops options",
        ),
        (["search=random", "search.trials=9", "search.eta=2"], "search.eta=2 has no meaning here"),
        (["budget=1epochs", "search.min_epochs=2"], "budget=1epochs: a trial is first trained for 2 epochs"),
    ],
)
def test_impossible_searches_are_refused_before_anything_trains(invoke, store, words, message):
    ran = invoke(*with_words(*words))
    assert ran.status == 2
    assert message in ran.err
    assert "digits" not in invoke("report").out


def test_a_dry_run_says_the_rungs_of_configurations_that_are_drawn(invoke, store):
    words = ["-m", "data=digits", "batching=mini", "search=halving", "optimizer.lr=tag(log,interval(1e-4,1))"]
    ran = invoke(*words, "epochs=27", "search.trials=10", "dry_run=true")
    assert ran.status == 0, ran.err
    assert "search=halving: 10 configurations drawn from optimizer.lr" in ran.out
    plan = "10 configurations to epoch 1, 4 to epoch 3, 2 to epoch 9, 1 to epoch 27: at most 48 of the full"
    assert plan in ran.out
    assert "; up to 48 epochs in all\n" in ran.out  # not the 270 of the full grid
    assert "time: at most about " in ran.out
    for budget, text in {
        "12epochs": "enough for these trials, and for 2 of at most 38 more epochs",
        "48epochs": "enough for the whole sweep, at most 48 epochs",
        "9trials": "the first 9 of 10 trials",
    }.items():
        given = (*words[1:], "epochs=27", "search.trials=10", f"budget={budget}")
        _, notes, _ = planned_first(compose(Command(overrides=given, multirun=True)))
        assert notes[-1] == f"budget={budget}: {text}"
    drawn = invoke(*words, "search.eta=2", "dry_run=true").out
    assert "20 configurations to epoch 1, 10 to epoch 2, 5 to epoch 4, 3 to epoch 10" in drawn


def test_sweep_returns_pruned_trials_too(store):
    runs = fnnexp.sweep(
        data="digits", search="halving", epochs=3, batching="mini",
        **{"arch.hidden": [[8]], "optimizer.lr": [0.01, 0.1, 0.3, 0.5], "execution.n_jobs": 1},
    )  # fmt: skip
    assert runs["status"].value_counts()[["finished", "pruned"]].to_list() == [2, 2]
