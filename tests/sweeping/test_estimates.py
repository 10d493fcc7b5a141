"""Estimates of time: of all stacks on all workers, of epochs as measured, and what a dry run says."""

from __future__ import annotations

import heapq
import json
import math
import re
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from fnnexp.config.execution import Execution, budget_of
from fnnexp.data import datasets as data
from fnnexp.nn.rows import splits_of
from fnnexp.sweeping import worker
from fnnexp.sweeping.plan import identical, plan
from fnnexp.sweeping.resources import estimates, kept_speeds
from fnnexp.sweeping.resources.estimates import Parent
from fnnexp.sweeping.resources.kept_speeds import keep, kept
from fnnexp.sweeping.resources.makespan import Busy, Job, seconds_left
from fnnexp.sweeping.resources.speeds import Speeds
from fnnexp.sweeping.waiting import Waiting

ALONE = ["data=digits", "arch.hidden=[3]", "execution.n_jobs=1"]


# --- all stacks on all workers ------------------------------------------------------------------------------


def a_second_a_lane(kind, lanes, threads):
    return lanes / threads


def test_a_free_worker_takes_the_next_stack():
    waiting = [Job(0, 3, 1), Job(0, 2, 1), Job(0, 2, 1)]
    assert seconds_left(waiting, 1, a_second_a_lane) == 7.0
    assert seconds_left(waiting, 2, a_second_a_lane) == 4.0
    assert seconds_left([], 2, a_second_a_lane) == 0.0


def test_stacks_in_training_count_by_what_is_left_of_them():
    busy = [Busy(Job(0, 1, 10), began=-4.0), Busy(Job(0, 1, 3), began=-30.0)]
    assert seconds_left([Job(0, 1, 5)], 2, a_second_a_lane, busy=busy) == 6.0


def test_the_last_stack_is_divided_at_the_end_of_its_segment():
    """An epoch takes 4 s, and a segment of 5 s two epochs. From 8 s on, the halves train 8 epochs of 2 s."""
    waiting = [Job(0, 4, 10), Job(0, 1, 1)]
    assert seconds_left(waiting, 2, a_second_a_lane, segment=5.0) == 8.0 + 16.0


def test_the_last_lane_gets_the_threads_of_idle_workers_at_the_end_of_its_segment():
    waiting = [Job(0, 1, 10), Job(0, 1, 2)]
    left = seconds_left(waiting, 2, a_second_a_lane, segment=5.0, threads=lambda stacks: 2 // stacks)
    assert left == 5.0 + 2.5


def test_the_first_of_very_many_stacks_are_divided_evenly():
    assert seconds_left([Job(0, 2, 3)] * 1000, 4, a_second_a_lane) == pytest.approx(6000 / 4, rel=0.01)


def by_the_queue_itself(stacks, n_jobs, cores, segment, epoch):
    """Return when all stacks are trained, with the queue of a real sweep and a clock that jumps."""
    waiting, under_way, order, now = Waiting(stacks, n_jobs), [], count(), 0.0
    while waiting or under_way:
        while planned := waiting.next(len(under_way)):
            threads = max(cores // (len(under_way) + 1 + len(waiting)), 1)
            seconds = epoch(0, len(planned.lanes), threads)
            epochs = min(math.ceil(segment / seconds), planned.recipe.epochs - planned.stack.epoch)
            heapq.heappush(under_way, (now + epochs * seconds, next(order), planned, epochs))
        now, _, planned, epochs = heapq.heappop(under_way)
        stack = replace(planned.stack, epoch=planned.stack.epoch + epochs)
        if stack.epoch < planned.recipe.epochs:
            waiting.put_back(replace(planned, stack=stack), len(under_way))
    return now


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("lanes", "epochs", "segment"), [(9, 7, 2.9), (5, 20, 7.3), (13, 2, 0.1), (1, 30, 4.1)]
)
def test_the_simulation_is_that_of_the_queue_itself(n_jobs, lanes, epochs, segment, trials_of):
    """The seconds of an epoch are such that no two stacks end at the same time."""

    def epoch(kind, lanes, threads):
        return (0.3 + 0.71 * lanes) / (1 + 0.9 * (threads - 1))

    trials = trials_of(f"seed={','.join(map(str, range(lanes)))}", f"epochs={epochs}")
    stacks = plan(identical(trials), max_lanes=4, n_jobs=n_jobs)
    jobs = [Job(0, len(stack.lanes), epochs) for stack in stacks]
    left = seconds_left(jobs, n_jobs, epoch, segment=segment, threads=lambda stacks: max(n_jobs // stacks, 1))
    assert left == pytest.approx(by_the_queue_itself(stacks, n_jobs, n_jobs, segment, epoch))


# --- the seconds of an epoch --------------------------------------------------------------------------------


def stacks_of(trials_of, *words, max_lanes=4):
    return plan(identical(trials_of(*words)), max_lanes=max_lanes, n_jobs=1)


def test_a_kind_takes_what_was_measured_and_others_are_in_proportion(trials_of):
    wide, narrow = stacks_of(trials_of, "epochs=3", "arch.hidden=[64],[8]", "batching=mini")
    (rows,) = stacks_of(trials_of, "epochs=3", "batching=sample")
    known = Speeds()
    kinds = [known.kind(stack) for stack in (wide, narrow, rows)]
    rough = [known.rough(kind, 1, 1) for kind in kinds]
    assert [known.epoch(kind, 1, 1) for kind in kinds] == rough
    known.note(kinds[0], 1, 1, 6 * rough[0], epochs=2)
    assert [known.epoch(kind, 1, 1) for kind in kinds] == pytest.approx([3 * each for each in rough])
    known.note(kinds[1], 4, 1, 5.0)
    assert known.epoch(kinds[1], 4, 1) == pytest.approx(5.0)
    assert known.epoch(kinds[0], 1, 1) == pytest.approx(3 * rough[0])


def test_recent_measurements_count_most(trials_of):
    (stack,) = stacks_of(trials_of, "epochs=3")
    known = Speeds()
    kind = known.kind(stack)
    for seconds in (8.0, 5.0):  # after 5 s, the first counts half
        known.note(kind, 1, 1, seconds)
    assert known.epoch(kind, 1, 1) == pytest.approx((8.0 / 2 + 5.0) / 1.5)


def test_what_is_measured_corrects_what_was_supposed(trials_of):
    """Two kinds were known. One now takes twice as long, so the other should, until it is measured."""
    wide, narrow = stacks_of(trials_of, "epochs=3", "arch.hidden=[64],[8]", "batching=mini")
    known = Speeds()
    kinds = [known.kind(stack) for stack in (wide, narrow)]
    for kind, seconds in zip(kinds, (3.0, 0.25), strict=True):
        known.suppose(kind, 2, 1, seconds)
    assert [known.epoch(kind, 2, 1) for kind in kinds] == pytest.approx([3.0, 0.25])
    known.note(kinds[0], 2, 1, 6.0)
    assert [known.epoch(kind, 2, 1) for kind in kinds] == pytest.approx([6.0, 0.5])
    known.note(kinds[1], 2, 1, 0.25)
    assert [known.epoch(kind, 2, 1) for kind in kinds] == pytest.approx([6.0, 0.25])


def test_an_epoch_is_timed_on_some_rows_and_as_many_fewer_to_evaluate(trials_of):
    (trial,) = trials_of("data.validation=240", "stopping.patience=1")
    arrays = data.load(trial.data)
    recipe, part, times = worker._part(trial.recipe, arrays, 399)
    whole, some = splits_of(trial.recipe, arrays), splits_of(recipe, part)
    assert times == len(whole["train"].images) / 399 == 3.0
    assert {name: len(split.images) for name, split in some.items()} == {"train": 399, "val": 80, "test": 120}
    np.testing.assert_array_equal(some["train"].images, whole["train"].images[:399])
    assert recipe.stopping is None


# --- what sweeps keep ---------------------------------------------------------------------------------------


def test_the_median_of_epochs_is_kept_by_kind_and_lanes(trials_of, tmp_path):
    short, long = (stacks_of(trials_of, f"epochs={epochs}", "seed=0,1,2")[0] for epochs in (2, 9))
    measured = Speeds("numpy")
    kind = measured.kind(short)
    assert measured.kind(long) == kind
    measured.remember(kind, 3, 1, [0.4, 9.0], trials=3)
    measured.remember(kind, 3, 1, [0.5], trials=3)
    keep(tmp_path, measured.remembered(2))
    other = Speeds("numpy")
    other.remember(other.kind(long), 1, 1, [0.25], trials=1)
    keep(tmp_path, other.remembered(2))
    read, known = kept(tmp_path), Speeds("numpy")
    kind = known.kind(long)
    assert known.recall(read, kind, 4, 1, workers=1) == known.recall(read, kind, 12, 1, workers=2) == 0
    assert known.epoch(kind, 4, 1) == known.rough(kind, 4, 1)
    assert known.recall(read, kind, 4, 1, workers=2) == 6
    assert known.epoch(kind, 3, 1) == pytest.approx(0.5)
    assert known.epoch(kind, 4, 1) == pytest.approx(0.5 * known.rough(kind, 4, 1) / known.rough(kind, 3, 1))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"version": "0"}', '{"version": "%", "speeds": {"a": {"1": [1]}}}']
)
def test_a_file_that_is_damaged_or_of_another_version_counts_as_none(text, tmp_path):
    keep(tmp_path, {"a": {"4": (0.5, 4)}})
    assert kept(tmp_path) == {"a": {"4": (0.5, 4)}}
    file = kept_speeds.file_in(tmp_path)
    file.write_text(text.replace("%", json.loads(file.read_text())["version"]))
    assert kept(tmp_path) == {}
    keep(tmp_path, {"b": {"1": (0.25, 1)}})
    assert kept(tmp_path) == {"b": {"1": (0.25, 1)}}


def test_the_oldest_speeds_leave(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_speeds, "MOST_KEPT", 2)
    for key in ("a", "b", "a", "c"):
        keep(tmp_path, {key: {"1": (1.0, 1)}})
    assert list(kept(tmp_path)) == ["a", "c"]


# --- the dry run --------------------------------------------------------------------------------------------


def time_in(ran):
    assert ran.status == 0, ran.err
    (line,) = (line for line in ran.out.splitlines() if line.startswith("time: "))
    return line


def test_a_dry_run_measures_what_no_earlier_sweep_measured(invoke, store, tmp_path, monkeypatch):
    monkeypatch.setenv("FNNEXP_CACHE", str(tmp_path / "cache"))
    measured = r"time: about (a second|\d+ s) on 1 worker with NumPy \(measured in \d\.\d s\)"
    assert re.fullmatch(measured, time_in(invoke(*ALONE, "epochs=3", "dry_run=true")))
    assert invoke("-m", *ALONE, "epochs=3", "seed=0,1").status == 0
    again = time_in(invoke("-m", *ALONE, "epochs=50", "seed=7,8", "dry_run=true"))
    assert re.fullmatch(r"time: about .* on 1 worker with NumPy \(from 2 earlier trials\)", again)
    more = time_in(invoke("-m", *ALONE, "batching=mini,full", "epochs=50", "seed=7,8", "dry_run=true"))
    assert re.search(r"\(from 2 earlier trials, and measured in \d\.\d s\)$", more)
    up_to = time_in(invoke(*ALONE, "stopping.patience=3", "dry_run=true"))
    assert up_to.startswith("time: at most about ")


def test_a_dry_run_says_how_long_later_rounds_take(invoke, store):
    ran = invoke("-m", *ALONE, "init=max,he", "epochs=3", "until=settled", "dry_run=true")
    parts = r"(a second|\d+ s) for the first round, up to (a second|\d+ s) for more seeds"
    assert re.fullmatch(rf"time: at most about (a second|\d+ s) on 1 worker .*: {parts}", time_in(ran))


def test_a_dry_run_of_finished_trials_says_no_time(invoke, store):
    assert invoke(*ALONE, "epochs=1").status == 0
    assert "time: " not in invoke(*ALONE, "epochs=1", "dry_run=true").out


def test_the_whole_is_the_start_the_training_and_the_logging(trials_of):
    """Twelve trials of 100 epochs in three stacks, each of which takes 2 s an epoch, on two workers."""
    trials = trials_of("epochs=100", f"seed={','.join(map(str, range(12)))}")
    stacks = plan(identical(trials), max_lanes=4, n_jobs=2)
    known = Speeds()
    for stack in stacks:
        known.suppose(known.kind(stack), 4, 1, 2.0)
    execution = Execution(n_jobs=2, segment_seconds=math.inf)
    assert estimates.seconds_to_train(known, stacks, execution, 2) == pytest.approx(400.0)
    logging = estimates.logging(trials, opens=True, creates=False)
    assert logging == estimates.OPEN + 12 * estimates.A_TRIAL + 1200 * estimates.AN_EPOCH
    assert len(estimates.evenly(stacks, 2)) == 2


def test_what_follows_is_supposed_to_take_as_long_an_epoch(trials_of, monkeypatch):
    """The stacks of the test above train 1,200 epochs in 400 s, and the start takes 10 s.

    What follows has half of these epochs, and what may follow as many.
    """
    trials = trials_of("epochs=100", f"seed={','.join(map(str, range(12)))}")
    stacks = plan(identical(trials), max_lanes=4, n_jobs=2)

    def learn(speeds, *_):
        for stack in stacks:
            speeds.suppose(speeds.kind(stack), 4, 1, 2.0)
        return estimates.Source(12)

    monkeypatch.setattr(estimates, "learn", learn)
    later = estimates.Later("to compare", 6, 600), estimates.Later("to check", 12, 1200, is_sure=False)
    ahead = estimates.Ahead("to tune", later=later, budget=budget_of("260s"))
    execution, parent = Execution(n_jobs=2, engine="numpy", segment_seconds=math.inf), Parent(10.0, 0.0)
    assert estimates.summary(stacks, trials, parent, execution, 2, ahead) == [
        "time: at most about 17 min on 2 workers with NumPy (from 12 earlier trials): 7 min to tune, "
        "3 min 20 s to compare, up to 7 min to check",
        "budget=260s: reaches about 750 of at most 3,000 epochs (25%)",
    ]
    pruned = estimates.Ahead(epochs=600, budget=budget_of("5m"))
    assert estimates.summary(stacks, trials, parent, execution, 2, pruned) == [
        "time: at most about 3 min 30 s on 2 workers with NumPy (from 12 earlier trials)",
        "budget=5m: enough for the whole sweep",
    ]
