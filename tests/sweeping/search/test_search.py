"""Sweeps that decide what to train next, on the digits: until=settled, and budgets."""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest
from stores import experiment_in, runs_in

import fnnexp
from fnnexp.config.execution import Execution, budget_of
from fnnexp.reporting.sections.by_factor import asked
from fnnexp.results import frames
from fnnexp.sweeping.executor import Executor
from fnnexp.sweeping.plan import identical, plan
from fnnexp.sweeping.search.budgets import Purse, by_seed
from fnnexp.tracking import reader

UNTIL = ["-m", "data=digits", "arch.hidden=[16]", "epochs=2", "init=max,sqrtmax,he", "until=settled"]
QUICK = ["until.most_seeds=9", "execution.n_jobs=1"]


def answers(out):
    """Return the lines with an answer, without their widths."""
    return [re.sub(r" +", " ", line).strip() for line in out.splitlines() if " is better than " in line]


def trained(folder):
    """Return the initializer and seed of each trial in a store."""
    params = [run.data.params for run in runs_in(folder).values()]
    return sorted((each["init"], int(each["seed"])) for each in params)


@pytest.fixture(scope="module")
def settled(tmp_path_factory, empty_store, invoke):
    """Settle a sweep; return its folder and its output."""
    folder = tmp_path_factory.mktemp("settled")
    empty_store(folder)
    ran = invoke(*UNTIL, *QUICK, cwd=folder)
    assert ran.status == 0, ran.err
    return folder, ran.out


def test_until_settled_adds_seeds_while_a_question_is_open(settled):
    folder, out = settled
    seeds = Counter(init for init, _ in trained(folder))
    assert set(seeds) == {"max", "sqrtmax", "he"}
    assert all(3 <= count <= 9 for count in seeds.values())
    for init, count in seeds.items():
        assert [seed for name, seed in trained(folder) if name == init] == list(range(count))
    assert "round 1: " in out
    assert re.search(r"until=settled: \d of 3 questions settled after \d+ rounds", out)
    assert any("sqrtmax is better than max" in line for line in answers(out))
    description = experiment_in(folder).tags["mlflow.note.content"]
    assert f"{sum(seeds.values())} trials on digits" in description  # of all rounds


def test_the_same_command_takes_the_same_decisions_and_trains_nothing(settled, invoke):
    folder, out = settled
    before = trained(folder)
    again = invoke(*UNTIL, *QUICK, cwd=folder)
    assert again.status == 0
    assert trained(folder) == before
    assert answers(again.out) == answers(out)
    assert "more seed" in out
    assert "more seed" not in again.out
    assert re.search(rf"0 trials finished in .* s; {len(before)} were done before", again.out)


def test_with_two_workers_and_after_a_stop_the_decisions_are_the_same(settled, empty_store, invoke, tmp_path):
    folder, out = settled
    empty_store(tmp_path)
    words = [*UNTIL, "until.most_seeds=9", "execution.n_jobs=2"]
    for budget in ("4trials", "13trials"):
        stopped = invoke(*words, f"budget={budget}", cwd=tmp_path)
        assert stopped.status == 0, stopped.err
        assert f"budget={budget} is used up" in stopped.out
        assert len(trained(tmp_path)) == int(budget.removesuffix("trials"))
    assert invoke(*words, cwd=tmp_path).status == 0
    assert trained(tmp_path) == trained(folder)
    assert answers(invoke(*words, cwd=tmp_path).out) == answers(out)


def test_each_round_is_a_look_for_the_tests_of_a_report(settled):
    folder, out = settled
    rounds = int(re.search(r"after (\d+) rounds", out)[1])
    runs = frames.runs("digits", tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    by_seed = runs.groupby("seed")["look"].max()
    assert by_seed[0] == 1
    assert by_seed.max() == rounds
    pairs = fnnexp.compare(runs, "init")
    assert (pairs[pairs["looks"] > 1]["test"] == "safe t").all()


@pytest.mark.usefixtures("blank_figures")
def test_the_report_begins_with_what_was_asked(settled, invoke):
    folder, out = settled
    count, n = re.search(r"until=settled: (\d) of (\d) questions settled", out).groups()
    ran = invoke("report", "digits", cwd=folder)
    assert ran.status == 0, ran.err
    title, first = ran.out.splitlines()[:2]
    assert title == "digits"
    assert first.startswith(
        "All 3 questions that were asked" if count == n else f"{count} of the 3 questions"
    )
    assert "cannot be told apart" not in ran.out  # the questions are all pairs, and are answered
    text = (folder / "reports" / "digits" / "report.md").read_text("utf-8")
    assert "cannot be told apart" not in text
    rows = [row.strip("| ").split(" | ") for row in text.splitlines() if row.startswith("|")]
    rows = [row for row in rows if " is better than " in row[0]]
    lines = [line.rsplit(" ", 1) for line in answers(out)]
    assert rows == lines
    ran = invoke("report", "digits", "--compare", "arch", cwd=folder)
    assert ran.status == 2
    assert "--compare arch: does not vary in these trials, or follows" in ran.err


def test_the_options_of_a_report_take_the_place_of_what_was_asked(settled):
    folder, _ = settled
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    runs, known = frames.runs("digits", tracking_uri=uri), reader.asked("digits", uri)
    assert (known.compare, known.margin, known.seeds, known.most_seeds) == ((), None, (0, 1, 2), 9)
    assert len(known.trials) == known.questions == 3
    sentences = asked.answers(runs, known, None, None)
    assert sentences.margin is None
    assert asked.answers(runs, replace(known, margin=0.5), None, None).margin == 0.5
    assert asked.answers(runs, replace(known, margin=0.5), "val_loss", None).margin is None
    wide = asked.answers(runs, known, None, 60.0)
    assert set(wide.frame["verdict"]) <= {"better", "equivalent"}
    assert (wide.frame["verdict"] == "equivalent").any()
    by_loss = asked.answers(runs, known, "val_loss", None)
    assert not by_loss.frame["difference"].equals(sentences.frame["difference"])
    compared = asked.answers(runs, asked.by_compare(runs, ["init"]), None, None)
    assert set(compared.frame["factor"]) == {"init"}


def test_sweep_returns_the_trials_of_all_rounds(settled, monkeypatch):
    folder, _ = settled
    monkeypatch.chdir(folder)
    runs = fnnexp.sweep(
        data="digits", until="settled", compare="init", epochs=2, init=["max", "sqrtmax", "he"],
        **{"arch.hidden": [[16]], "until.most_seeds": 9, "execution.n_jobs": 1},
    )  # fmt: skip
    assert sorted(zip(runs["init"].astype(str), runs["seed"], strict=True)) == trained(folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=0,1"], "seed=0,1: until=settled adds seeds itself"),
        (["seed_init=0,1"], "seed_init must not be swept over"),
        (["compare=arch"], "compare=arch: does not vary in this sweep; what varies is init"),
        (["compare=int"], "Did you mean 'init'?"),
        (["margin=0"], "margin=0.0: must be a finite number above 0"),
        (["until.most_seeds=1"], "until.most_seeds=1: must be 2 or more"),
        (["budget=5"], "budget=5: must be a number above 0 and a unit; write 5m"),
        (["budget=0m"], "budget=0m: must be a number above 0"),
        (["budget=1epochs"], "budget=1epochs: a trial has 2 epochs; write budget=2epochs or more"),
        (["budget=1.5trials"], "must be a whole number of trials"),
        (["budget=1m,2m"], "budget differs between jobs"),
    ],
)
def test_impossible_searches_are_refused_before_anything_trains(invoke, store, words, message):
    ran = invoke(*UNTIL, *words)
    assert ran.status == 2
    assert message in ran.err
    assert "digits" not in invoke("report").out


def test_keys_of_until_need_it(invoke, store):
    for words in (["compare=init"], ["margin=1"], ["until.most_seeds=9"]):
        ran = invoke("-m", "data=digits", "init=max,he", *words)
        assert ran.status == 2
        assert "until=settled" in ran.err
    ran = invoke("-m", "data=digits", "until=settled")
    assert ran.status == 2
    assert "nothing varies in this sweep except the seed" in ran.err


def test_no_option_gets_more_seeds_than_the_most(invoke, store, tmp_path):
    grid = ["-m", "data=digits", "arch.hidden=[8]", "epochs=1", "optimizer.lr=0.1,0.3", QUICK[1]]
    ran = invoke(*grid, "until=settled", "until.most_seeds=2")
    assert ran.status == 0
    assert len(trained(tmp_path)) == 2 * 2
    assert "optimizer.lr=0.3" in ran.out


def test_an_option_that_diverges_gets_few_seeds_and_this_is_said(invoke, store, tmp_path):
    grid = ["-m", "data=digits", "arch.hidden=[16]", "epochs=1", "until=settled", *QUICK]
    ran = invoke(*grid, "optimizer.lr=1e30,0.1")
    assert ran.status == 0
    assert "no seed finished for both" in ran.out
    assert len(trained(tmp_path)) == 2 * 4
    assert "4.0 seeds an option" in ran.out
    assert "no trial finished, so there is nothing" in invoke(*grid, "optimizer.lr=1e30,1e31").out
    assert "the options train identically" in invoke(*grid, "init=xavier,sqrtmax").out


@pytest.mark.parametrize(
    "words", [["init=max,he", "optimizer.lr=0.1,0.3", "zip=[[init,optimizer.lr]]"], ["batching=mini,full"]]
)
def test_a_factor_that_follows_from_another_is_refused_first(invoke, store, words):
    ran = invoke("-m", "data=digits", "epochs=1", *words, "compare=optimizer.lr", "until=settled")
    assert ran.status == 2
    assert "compare=optimizer.lr: changes only together with " in ran.err
    assert "digits" not in invoke("report").out


def test_too_many_questions_are_refused_before_anything_trains(invoke, store):
    rates = "optimizer.lr=range(0.001,0.065,0.001)"
    ran = invoke("-m", "data=digits", rates, "until=settled")
    assert ran.status == 2
    assert "this sweep has 2,080 pairs of options to compare, and at most 2,000 can be settled" in ran.err
    assert "digits" not in invoke("report").out
    assert invoke("-m", "data=digits", rates, "until=settled", "dry_run=true").status == 2


def test_a_zipped_factor_is_compared_with_what_goes_with_it(invoke, store):
    grid = ["-m", "data=digits", "arch.hidden=[8]", "epochs=1", "init=max,he", "optimizer.lr=0.1,0.3"]
    ran = invoke(*grid, "zip=[[init,optimizer.lr]]", "compare=init", "until=settled", *QUICK)
    assert ran.status == 0, ran.err
    assert re.search(r"until=settled: \d of 1 question settled", ran.out)


def test_a_budget_of_trials_has_the_same_seeds_of_all_options(invoke, store, tmp_path):
    grid = [
        "-m",
        "data=digits",
        "arch.hidden=[8]",
        "init=max,sqrtmax,he",
        "seed=3,1",
        "epochs=1",
        "execution.n_jobs=1",
    ]
    ran = invoke(*grid, "budget=4trials")
    assert ran.status == 0
    left = "2 trials of the sweep are left; the same command with a larger budget goes on"
    assert f"budget=4trials is used up: {left}\n" in ran.out
    assert trained(tmp_path) == [("he", 3), ("max", 1), ("max", 3), ("sqrtmax", 3)]
    assert "budget" not in invoke(*grid, "budget=9epochs").out
    assert len(trained(tmp_path)) == 6


def test_after_a_budget_of_time_the_same_command_goes_on(invoke, store, tmp_path, agrees, trials_of):
    grid = ["data=digits", "arch.hidden=[300]", "seed=0,1,2", "epochs=40"]
    words = ["-m", *grid, "execution.n_jobs=1", "execution.segment_seconds=0.1", "execution.max_lanes=1"]
    ran = invoke(*words, "budget=1s", "execution.engine=numpy")
    assert ran.status == 0
    assert "budget=1s is used up: " in ran.out
    assert "the same command goes on" in ran.out
    assert "compare them: " in ran.out
    assert invoke(*words).status == 0
    agrees(tmp_path, trials_of(*grid))


def test_a_segment_ends_when_the_time_is_over(trials_of):
    trials = trials_of("arch.hidden=[4]", "epochs=1000000")
    execution = Execution(1, "sequential", "numpy", segment_seconds=60)
    (stack,) = plan(identical(trials), max_lanes=1, n_jobs=1)
    for left, epochs in ((0.3, range(2, 1_000_000)), (-1.0, range(1, 2))):
        with closing(Executor(execution, deadline=time.monotonic() + left)) as executor:
            executor.submit(stack)
            _, ended = executor.result()
        assert ended.stack.epoch in epochs


def test_a_purse_counts_trials_from_the_first(trials_of):
    trials = by_seed(trials_of("init=max,he", "seed=5,2", "epochs=3"))
    assert [(trial.method, trial.seed) for trial in trials] == [("max", 5), ("he", 5), ("max", 2), ("he", 2)]
    purse = Purse(budget_of("7epochs"), 0.0)
    assert purse.take(trials[:1]) == trials[:1]
    assert purse.take(trials[1:]) == trials[1:2]
    assert purse.take(trials[2:]) == []
    late = Purse(budget_of("2m"), 100.0, clock=lambda: 219.0)
    assert (late.deadline, late.is_late) == (220.0, False)
    assert Purse(budget_of("2m"), 100.0, clock=lambda: 220.0).is_late


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("5m", 300.0),
        ("90s", 90.0),
        ("1.5h", 5400.0),
        ("200trials", 200),
        ("1 trial", 1),
        ("1000epochs", 1000),
    ],
)
def test_budgets(text, amount):
    budget = budget_of(text)
    assert {budget.seconds, budget.trials, budget.epochs} == {None, amount}
