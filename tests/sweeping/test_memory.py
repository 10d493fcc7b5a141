"""Test memory: what a stack needs, and stacks that are cut so that they fit."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from fnnexp.config.execution import Execution
from fnnexp.data import datasets as data
from fnnexp.errors import FnnexpError
from fnnexp.nn.training import Stack, advance
from fnnexp.sweeping.plan import identical, plan
from fnnexp.sweeping.resources import memory

DIGITS = ["data=digits", "epochs=1"]


@pytest.mark.parametrize(
    ("words", "threads"),
    [
        (["arch.hidden=[1000]", "optimizer=momentum", "batching=mini", "data.subset=256"], 1),
        (["arch.hidden=[600,600]", "optimizer=adam", "batching=full", "stopping.patience=1"], 1),
        (["arch.hidden=[600,600]", "optimizer=adam", "batching=full", "stopping.patience=1"], 2),
        (["arch.hidden=[2000]", "batching=full", "seed=0,1"], 3),
        (["arch.hidden=[300]", "batching=mini", "seed=range(6)"], 1),
    ],
)
def test_the_estimate_is_near_what_numpy_allocates(words, threads, trials_of):
    """tracemalloc counts NumPy's arrays. It counts neither Python itself nor images mapped from files."""
    trials = trials_of(*DIGITS, *words)
    execution = Execution(engine="numpy")
    (planned,) = plan(identical(trials), max_lanes=None, n_jobs=1)
    planned = replace(planned, threads=threads)
    arrays = data.load(planned.data)
    untrained = Stack.without_parameters(planned.lanes)
    tracemalloc.start()
    try:
        advance(planned.recipe, untrained, arrays, threads=threads)
        measured = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    parts = memory.needed(planned, execution)
    counted = parts["parameters"] + parts["rows"] + parts["activations"] - memory._state(planned)
    assert counted == pytest.approx(measured, rel=0.35)


def test_a_stack_trains_in_as_many_threads_as_its_memory_allows(trials_of):
    (planned,) = plan(identical(trials_of(*DIGITS, "batching=full")), max_lanes=None, n_jobs=1)
    two, three = (
        sum(memory.needed(replace(planned, threads=count), Execution(engine="numpy")).values())
        for count in (2, 3)
    )
    assert three > two
    limited = Execution(engine="numpy", memory=f"{(two + three) / 2 / memory.MB:.6f}MB")
    assert memory.threads_that_fit(planned, 4, limited) == 2
    assert memory.threads_that_fit(planned, 4, replace(limited, memory="1MB")) == 1
    assert memory.threads_that_fit(planned, 4, replace(limited, memory=None)) == 4


def test_stacks_are_cut_until_each_fits(trials_of):
    trials = trials_of(*DIGITS, "init=max,he", "seed=range(5)", "batching=mini,full")
    groups = identical(trials)
    stacks = plan(groups, max_lanes=None, n_jobs=1)
    execution = Execution(engine="numpy", memory="75MB")
    cut = memory.fitting(stacks, groups, execution, 1)
    assert max(len(stack.lanes) for stack in cut) < max(len(stack.lanes) for stack in stacks)
    assert sorted(lane.key for stack in cut for lane in stack.lanes) == sorted(groups)
    assert all(sum(memory.needed(stack, execution).values()) <= 75 * memory.MB for stack in cut)
    assert memory.fitting(stacks, groups, Execution(engine="numpy", memory="1TB"), 1) == stacks


def test_a_sweep_whose_stacks_are_cut_has_the_same_bits(store, invoke, trials_of, agrees, own_folder):
    words = [*DIGITS, "arch=tanh_128", "seed=range(6)"]
    narrow = invoke("-m", *words, "execution.memory=66MB", "execution.n_jobs=1", "dry_run=true")
    assert re.search(r"^6 networks in [2-6] stacks", narrow.out, re.MULTILINE), narrow.out
    ran = invoke("-m", *words, "execution.memory=66MB", "execution.n_jobs=1")
    assert ran.status == 0, ran.err
    agrees(own_folder, trials_of(*words), "digits")


@pytest.mark.parametrize("word", ["dry_run=true", "dry_run=false"])
def test_a_trial_that_does_not_fit_is_refused_before_anything_trains(word, store, invoke):
    ran = invoke("-m", *DIGITS, "arch.hidden=[16],[3000,3000]", "execution.memory=200MB", word)
    assert ran.status == 2
    assert re.search(
        r"activations \d+ MB\), but a worker may take 200 MB \(execution.memory=200MB\)", ran.err
    )
    for part in ("relu_3000_3000", "needs about", "write execution.memory=2"):
        assert part in ran.err
    assert MlflowClient(store).get_experiment_by_name("digits") is None


def test_a_trial_that_fits_with_numpy_only_is_refused_with_numpy_as_the_remedy(trials_of):
    groups = identical(trials_of(*DIGITS, "batching=sample"))
    stacks = plan(groups, max_lanes=None, n_jobs=1)
    with pytest.raises(FnnexpError, match=r"write execution.engine=numpy, which needs \d\d MB, or write"):
        memory.fitting(stacks, groups, Execution(engine="numba", memory="120MB"), 1)
    assert memory.fitting(stacks, groups, Execution(engine="numpy", memory=" 120 mb"), 1) == stacks


def test_a_trial_that_fits_alone_is_refused_with_fewer_workers_as_the_remedy(trials_of, monkeypatch):
    groups = identical(trials_of(*DIGITS))
    stacks = plan(groups, max_lanes=None, n_jobs=4)
    monkeypatch.setattr("fnnexp.data.room.available_memory", lambda: 200 * memory.MB)
    with pytest.raises(FnnexpError, match=r"divided by 4 workers\); write execution.n_jobs=1, or write"):
        memory.fitting(stacks, groups, Execution(engine="numpy"), 4)
    assert memory.fitting(stacks, groups, Execution(engine="numpy"), 1) == stacks
