"""Tuned comparisons, `compare=init tune=optimizer.lr`, on the digits: what is trained, chosen and said."""

from __future__ import annotations

import csv
import re
import statistics
from collections import defaultdict

import pytest
from stores import runs_in

import fnnexp
from fnnexp.config.commands import Command
from fnnexp.config.compose import compose
from fnnexp.sweeping.search.ahead import planned_first

SMALL = ["-m", "data=digits", "arch.hidden=[16]", "execution.n_jobs=1"]
WORDS = [
    *SMALL, "compare=init", "tune=optimizer.lr", "init=max,he,zeros", "optimizer.lr=0.01,0.1,1", "epochs=2",
    "seed=3,4,5,6",
]  # fmt: skip
TUNING, FRESH = {1_000_000, 1_000_001}, {3, 4, 5, 6}
NAME = "digits_init_tuned"


def trained(folder):
    """Return what MLflow has of each trial: initializer, learning rate, seed, result, and the tag."""
    rows = []
    for run in runs_in(folder, NAME).values():
        params, tags = run.data.params, run.data.tags
        setting = params["init"], float(params["optimizer.lr"]), int(params["seed"])
        rows.append((*setting, run.data.metrics["val_accuracy"], tags.get("fnnexp.tuning")))
    return sorted(rows)


def choices(rows):
    """Return the learning rates of each initializer, the best in tuning first; of ties, the smaller."""
    results = defaultdict(lambda: defaultdict(list))
    for init, lr, seed, accuracy, _ in rows:
        if seed in TUNING:
            results[init][lr].append(accuracy)
    return {
        init: sorted(by_lr, key=lambda lr: (-statistics.mean(by_lr[lr]), lr))
        for init, by_lr in results.items()
    }


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, empty_store, invoke):
    """Run a tuned comparison; return its folder and its output."""
    folder = tmp_path_factory.mktemp("tuned")
    empty_store(folder)
    ran = invoke(*WORDS, cwd=folder)
    assert ran.status == 0, ran.err
    return folder, ran.out


def test_each_option_is_tuned_and_its_best_is_trained_with_fresh_seeds(tuned):
    folder, out = tuned
    rows = trained(folder)
    tuning = {(init, lr, seed) for init, lr, seed, _, _ in rows if seed in TUNING}
    assert tuning == {
        (init, lr, seed) for init in ("max", "he", "zeros") for lr in (0.01, 0.1, 1.0) for seed in TUNING
    }
    fresh = {(init, lr, seed) for init, lr, seed, _, _ in rows if seed not in TUNING}
    best = choices(rows)
    chosen = {(init, best[init][0], seed) for init in best for seed in FRESH}
    others = {(init, lr, seed) for init in best for lr in best[init][1:] for seed in FRESH}
    assert chosen <= fresh <= chosen | others
    assert ("zeros", best["zeros"][1], 3) in fresh  # it loses, so its other values are checked
    for init, lr, seed, _, tag in rows:
        assert tag == (None if (init, lr, seed) in chosen else "compare=init tune=optimizer.lr")
    assert f"he {best['he'][0]:g}" in re.sub(" +", " ", out)
    assert re.search(r"With optimizer.lr tuned for each option, \w+ leads on 4 fresh seeds: ", out)
    assert "with seeds 1000000 and 1000001; the best of each is then compared on seeds 3 to 6" in out


def test_the_same_command_decides_the_same_and_trains_nothing(tuned, invoke):
    folder, out = tuned
    before = trained(folder)
    again = invoke(*WORDS, cwd=folder)
    assert again.status == 0
    assert trained(folder) == before
    assert re.search(rf"0 trials finished in .* s; {len(before)} were done before", again.out)
    answer = next(line for line in out.splitlines() if " tuned for each option, " in line)
    assert answer in again.out


def test_in_parts_and_with_two_workers_the_decisions_are_the_same(tuned, invoke, empty_store, tmp_path):
    folder, _ = tuned
    empty_store(tmp_path)
    stopped = invoke(*WORDS, "budget=7trials", cwd=tmp_path)
    assert stopped.status == 0
    assert "tuning is not complete, so nothing is compared yet" in stopped.out
    assert {seed for _, _, seed, _, _ in trained(tmp_path)} <= TUNING
    stopped = invoke(*WORDS, "budget=21trials", cwd=tmp_path)
    assert "the values of each option are chosen, but some trials with fresh seeds" in stopped.out
    assert "budget=21trials is used up" in stopped.out
    assert len(trained(tmp_path)) == 21
    assert invoke(*WORDS, "execution.n_jobs=2", cwd=tmp_path).status == 0
    assert trained(tmp_path) == trained(folder)


def test_a_report_answers_from_the_fresh_seeds_alone(tuned, invoke, blank_figures):
    folder, _ = tuned
    ran = invoke("report", NAME, "--folder", "out", cwd=folder)
    assert ran.status == 0, ran.err
    assert re.search(r"With optimizer.lr tuned for each option, \w+ leads on 4 fresh seeds: ", ran.out)
    rows, page = trained(folder), (folder / "out" / "report.md").read_text("utf-8")
    assert "Tuning cost 6 trials and 12 epochs for each of the 3 options" in page
    best, by_option = choices(rows), defaultdict(dict)
    for init, lr, seed, accuracy, _ in rows:
        if seed in FRESH and lr == best[init][0]:
            by_option[init][seed] = accuracy
    with (folder / "out" / "tuned.csv").open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 3
    for pair in pairs:
        a, b = by_option[pair["a"]], by_option[pair["b"]]
        difference = statistics.mean(a[seed] - b[seed] for seed in FRESH)
        assert float(pair["difference"]) == pytest.approx(difference)
        assert pair["family"] == "3"
    with (folder / "out" / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        assert [row["seeds"] for row in csv.DictReader(file)] == ["4"] * 3
    with (folder / "out" / "tuning_curve.csv").open(encoding="utf-8", newline="") as file:
        curve = {(row["level"], row["trials"]): float(row["best"]) for row in csv.DictReader(file)}
    tuning = defaultdict(list)
    for init, lr, seed, accuracy, _ in rows:
        if seed in TUNING and init == "max":
            tuning[lr].append(accuracy)
    means = [statistics.mean(values) for values in tuning.values()]
    assert curve["max", "6"] == pytest.approx(max(means))
    assert curve["max", "2"] == pytest.approx(statistics.mean(means))


def test_from_python_tuning_trials_are_returned_and_enter_no_comparison(tuned, monkeypatch):
    folder, _ = tuned
    monkeypatch.chdir(folder)
    runs = fnnexp.sweep(
        data="digits", compare="init", tune="optimizer.lr", init=["max", "he", "zeros"], seed=[3, 4, 5, 6],
        epochs=2, **{"arch.hidden": [[16]], "optimizer.lr": [0.01, 0.1, 1.0], "execution.n_jobs": 1},
    )  # fmt: skip
    assert len(runs) == len(trained(folder))
    assert (runs.loc[runs["seed"].isin(TUNING), "tuning"] == "compare=init tune=optimizer.lr").all()
    assert (fnnexp.compare(runs, "init")["seeds"] == 4).all()
    assert "1000000" not in fnnexp.leaderboard(runs).to_csv()


def test_all_shipped_options_and_a_learning_rate_are_the_default():
    sweep = compose(Command(overrides=("data=digits", "compare=init", "tune=optimizer.lr"), multirun=True))
    by_init = defaultdict(set)
    for trial in sweep.trials:
        by_init[trial.params["init"]].add((trial.params["optimizer.lr"], trial.seed))
    assert len(by_init) == 16  # the files in conf/init
    (drawn,) = {frozenset(draws) for draws in by_init.values()}
    assert len(drawn) == 12 * 2
    assert all(1e-4 <= lr <= 1 for lr, _ in drawn)
    assert sweep.tuned.fresh == (0, 1, 2, 3, 4, 5)
    words = ("data=digits", "search=random", "search.trials=12", "optimizer.lr=tag(log,interval(1e-4,1))")
    random = compose(Command(overrides=words, multirun=True))
    assert {trial.params["optimizer.lr"] for trial in random.trials} == {lr for lr, _ in drawn}


def test_lists_of_keys_and_unequal_numbers_of_values(invoke, store):
    where = 'where="optimizer.lr=0.3 -> init=he"'
    words = ["tune=[optimizer.lr]", "compare=[init,arch]", "init=he,max", "arch=relu_100,tanh_128"]
    ran = invoke(
        "-m",
        "data=digits",
        *words,
        "optimizer.lr=0.1,0.3",
        "epochs=1",
        where,
        "seed=0,1",
        "execution.n_jobs=1",
    )
    assert ran.status == 0, ran.err
    assert "1–2 configurations of optimizer.lr for each of 4 options" in ran.out
    assert "Tuning was not equal: the options tried different configurations (1 of relu_100 max" in ran.out
    assert "2 of relu_100 he" in ran.out


def test_the_number_of_epochs_can_be_tuned(invoke, store):
    ran = invoke(
        "-m",
        "data=digits",
        "compare=init",
        "tune=epochs",
        "init=he,max",
        "epochs=1,2",
        "seed=0,1",
        "arch.hidden=[8]",
        "execution.n_jobs=1",
    )
    assert ran.status == 0, ran.err
    assert re.search(r"With epochs tuned for each option, \w+ leads on 2 fresh seeds: ", ran.out)


def test_other_keys_of_a_group_make_other_comparisons(invoke, store, blank_figures):
    words = [
        "-m",
        "data=digits",
        "compare=arch.hidden",
        "tune=optimizer.lr",
        "arch.hidden=[4],[16]",
        "optimizer.lr=0.1,0.3",
        "epochs=1",
        "seed=0,1",
        "execution.n_jobs=1",
    ]
    for activation in ("relu", "tanh"):
        assert invoke(*words, f"arch.activation={activation}").status == 0
    out = invoke("report", "digits_arch.hidden_tuned").out
    assert "With arch.activation=relu and optimizer.lr tuned" in out
    assert "With arch.activation=tanh and optimizer.lr tuned" in out


def test_a_dry_run_says_both_phases(invoke, store):
    ran = invoke(*WORDS, "dry_run=true", "budget=1h")
    assert ran.status == 0, ran.err
    assert "\nbudget=1h: enough for the whole sweep\n" in ran.out
    assert f"{NAME}: 18 trials, 0 done, 18 to run" in ran.out
    assert "then 12 trials with fresh seeds compare the options, and up to 16 more check" in ran.out
    parts = r"(a second|\d+ s) to tune, (a second|\d+ s) with fresh seeds, up to (a second|\d+ s) to check"
    assert re.search(
        rf"^time: at most about .* on 1 worker with NumPy \(.*\): {parts}$", ran.out, re.MULTILINE
    )
    assert "digits" not in invoke("report").out


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ("5trials", "the first 5 of 18 trials"),
        ("9epochs", "the first 4 of 18 trials, 8 of 36 epochs"),
        ("20trials", "enough for these trials, and for 2 of at most 28 trials that follow"),
        ("37epochs", "enough for these trials, and for 1 of at most 56 epochs that follow"),
        ("46trials", "enough for the whole sweep, at most 46 trials"),
    ],
)
def test_a_dry_run_says_how_far_a_budget_reaches(budget, text):
    requested = compose(Command(overrides=(*WORDS[1:], f"budget={budget}"), multirun=True))
    _, notes, _ = planned_first(requested)
    assert notes[-1] == f"budget={budget}: {text}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune=optimizer.lr"], "write the factor too, as in compare=init tune=optimizer.lr"),
        (["compare=optimizer.lr", "tune=optimizer.lr"], "tune=optimizer.lr: optimizer.lr is compared"),
        (["compare=init", "tune=optimizer.l"], "Did you mean 'optimizer.lr'?"),
        (["compare=init", "tune=optimizer"], "optimizer is a group of keys; write one of them, as in tune="),
        (["compare=init", "tune=seed"], "tune=seed: seeds repeat a trial"),
        (["compare=init", "tune=execution.n_jobs"], "changes no result"),
        (["compare=int", "tune=optimizer.lr"], "compare=int: there is no such key"),
        (["compare=init", "init=he", "tune=optimizer.lr"], "with init=he there is nothing to compare"),
        (["compare=init", "init=he,he", "tune=optimizer.lr"], "all trials of this sweep have the same init"),
        (["compare=batching.size", "tune=optimizer.lr"], "batching.size has no values to compare"),
        (["compare=init", "tune=optimizer.momentum"], "'optimizer.momentum=interval(A,B)'"),
        (["compare=init", "tune=optimizer.lr", "optimizer.lr=0.1"], "needs several values to try"),
        (["compare=init", "tune=optimizer.lr", "arch=relu_100,tanh_128"], "compare=[init,arch], which tunes"),
        (["compare=arch", "tune=optimizer.lr", "arch.hidden=[3],[4]"], "or compare=arch.hidden, which tunes"),
        (["compare=init", "tune=optimizer.lr", "seed_init=0,1"], "only `seed` may have several values"),
        (
            ["compare=init", "tune=optimizer.lr", "seed=999999,1000000"],
            "on seeds up to 1000000, but seeds from 1000000 on are for tuning",
        ),
        (["compare=init", "tune=optimizer.lr", "until=settled"], "until=settled: has no meaning with tune"),
        (["compare=init", "tune=optimizer.lr", "zip=[[init,seed]]"], "tune=optimizer.lr: draws each key by"),
        (["compare=init", "tune=optimizer.lr,epochs"], "must be a single list; write tune=[…,…]"),
        (["compare=init", "tune=optimizer.lr", "search.trials=0"], "search.trials=0: must be 1 or more"),
        (["compare=init", "tune=optimizer.lr", "optimizer.lr=interval(1,1)"], "must be below its end"),
    ],
)
def test_impossible_comparisons_are_refused_before_anything_trains(invoke, store, words, message):
    ran = invoke(*SMALL, *words)
    assert ran.status == 2
    assert message in ran.err
    assert "digits" not in invoke("report").out


def test_tune_is_for_sweeps(invoke, store):
    ran = invoke("data=digits", "compare=init", "tune=optimizer.lr")
    assert ran.status == 2
    assert "is for sweeps, and this command runs a single trial; add -m" in ran.err
