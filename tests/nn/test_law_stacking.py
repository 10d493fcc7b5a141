"""Test law 2, stacking is invisible: each lane of a stack equals, byte by byte, the same lane trained alone.

BLAS uses one thread, as in the workers. With more threads, OpenBLAS splits a product according to its size,
and different splits are not bitwise equal. Chunks and blocks are made small, so that few rows suffice to fill
them.
"""

from __future__ import annotations

import os
import struct
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnnexp.config.execution import Execution
from fnnexp.config.trial import Trial
from fnnexp.data import datasets as data
from fnnexp.data.datasets import Arrays
from fnnexp.nn import epoch
from fnnexp.nn.engines import per_sample
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.network import BIASES, Architecture
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.initializers import INITIALIZERS, Biases, distribution_of, standard_deviation
from fnnexp.nn.pieces.losses import LOSSES
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.schedules import SCHEDULES, Schedule
from fnnexp.nn.pieces.stopping import METRICS, Stopping
from fnnexp.nn.training import Lane, Recipe, Record, Stack, advance, start
from fnnexp.sweeping.executor import Executor
from fnnexp.sweeping.plan import PlannedStack, identical, plan
from fnnexp.sweeping.worker import Trained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

EXAMPLES = int(os.environ.get("FNNEXP_EXAMPLES", "200"))
"""The number of random stacks. A run with 3,000 has passed."""

RATES = {  # from rates that learn to rates that diverge
    "sgd": (1e-3, 0.05, 0.5, 20.0, 1e30),
    "momentum": (1e-3, 0.05, 0.5, 20.0, 1e30),
    "adam": (1e-4, 1e-3, 0.05, 1.0, 1e30),
    "nesterov": (1e-3, 0.05, 0.5, 20.0, 1e30),
    "adagrad": (1e-4, 1e-3, 0.05, 1.0, 1e30),
    "rmsprop": (1e-4, 1e-3, 0.05, 1.0, 1e30),
    "adamw": (1e-4, 1e-3, 0.05, 1.0, 1e30),
}


pytestmark = pytest.mark.usefixtures("one_blas_thread")


def images(seed: int, n_train: int, n_test: int, inputs: int, classes: int) -> Arrays:
    """Return images and labels. As in MNIST, four of five bytes are 0, and some columns are 0 in all rows."""
    rng = np.random.default_rng(seed)
    likely = 0.25 * (rng.random(inputs) < 0.8)

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        X = rng.integers(0, 256, (n, inputs)) * (rng.random((n, inputs)) < likely)
        return X.astype(np.uint8), rng.integers(0, classes, n).astype(np.uint8)

    return Arrays(*split(n_train), *split(n_test))


def real_valued(arrays: Arrays) -> Arrays:
    """Return the arrays with inputs that are real numbers."""
    x_train, x_test = ((x / np.float32(99) - 1).astype(np.float32) for x in (arrays.x_train, arrays.x_test))
    return replace(arrays, x_train=x_train, x_test=x_test)


@contextmanager
def chunk_and_block_sizes(chunk: int, block: int) -> Iterator[None]:
    with (
        mock.patch.object(epoch, "CHUNK", chunk),
        mock.patch.object(per_sample, "BLOCK", block),
    ):
        yield


# The outcome of a lane: the metrics of each epoch, how it ended, and its last and best parameters, as bytes.
Outcome = tuple[list[tuple[int, bytes]], tuple[str, int, bytes, int | None, bytes | None]]


def outcomes(records: Sequence[Record], stacks: Sequence[Stack]) -> dict[str, Outcome]:
    ends = {lane.key: stack.end(k) for stack in stacks for k, lane in enumerate(stack.lanes)}
    ends |= {record.key: record.end for record in records if record.end is not None}
    last = {
        key: (
            end.how,
            end.epoch,
            end.theta.tobytes(),
            end.best_epoch,
            None if end.best_theta is None else end.best_theta.tobytes(),
        )
        for key, end in ends.items()
    }
    curves: dict[str, list[tuple[int, bytes]]] = {}
    for record in records:
        packed = struct.pack(f"{len(record.metrics)}d", *record.metrics.values())
        curves.setdefault(record.key, []).append((record.epoch, packed + (record.histograms or b"")))
    return {key: (curves[key], last[key]) for key in curves}


def alone(recipe: Recipe, lanes: Sequence[Lane], arrays: Any, engine: str = "numpy") -> dict[str, Outcome]:
    expected: dict[str, Outcome] = {}
    for lane in lanes:
        stack, records = advance(recipe, start(recipe, [lane]), arrays, engine=engine)
        expected |= outcomes(records, [stack])
    return expected


@st.composite
def architectures(draw: Any, inputs: st.SearchStrategy[int]) -> Architecture:
    names = st.sampled_from(sorted(ACTIVATIONS))
    hidden = tuple(draw(st.lists(st.integers(1, 40), max_size=3)))
    each = st.tuples(*(names for _ in hidden))
    return Architecture(
        inputs=draw(inputs),
        hidden=hidden,
        classes=draw(st.integers(2, 10)),
        activation=draw(names | each if hidden else names),
        slope=draw(st.sampled_from((0.0, 0.01, 0.3))),
        hidden_bias=draw(st.sampled_from(BIASES)),
        output_bias=draw(st.sampled_from(BIASES)),
    )


@st.composite
def losses(draw: Any) -> dict[str, Any]:
    """Return the settings of a loss; every second time the plain cross-entropy, which has code of its own."""
    pairs = [(loss, output) for loss, outputs in LOSSES.items() for output in outputs]
    loss, output = draw(st.just(pairs[0]) | st.sampled_from(pairs))
    return {"loss": loss, "output": output if len(LOSSES[loss]) > 1 else None}


@st.composite
def hypers(draw: Any, optimizer: str, options: Sequence[str] = ()) -> tuple[tuple[str, float], ...]:
    values = {
        "lr": st.sampled_from(RATES[optimizer]),
        "momentum": st.sampled_from((0.0, 0.5, 0.9)),
        "beta1": st.sampled_from((0.0, 0.9)),
        "beta2": st.sampled_from((0.9, 0.999)),
        "epsilon": st.sampled_from((1e-8, 1e-3)),
        "l2": st.sampled_from((1e-4, 0.1)),
        "l1": st.sampled_from((1e-4, 0.1)),
        "max_norm": st.sampled_from((0.1, 3.0)),
        "clip_norm": st.sampled_from((1e-3, 1.0)),
        "label_smoothing": st.sampled_from((1e-9, 0.1, 0.5, 0.999999999)),
        **{name: st.sampled_from((0.2, 0.5, 0.9)) for name in options if name.startswith("dropout.")},
        "rho": st.sampled_from((0.0, 0.9)),
        "weight_decay": st.sampled_from((0.0, 0.01, 5.0)),
    }
    names = (*OPTIMIZERS[optimizer].hyperparameters, *options)
    return tuple((name, draw(values[name])) for name in names)


def _options(architecture: Architecture) -> list[str]:
    """Return the names of the options that a recipe may have."""
    rates = [f"dropout.{layer}" for layer in range(len(architecture.hidden) + 1)]
    return ["l2", "l1", "max_norm", "clip_norm", "label_smoothing", "schedule", *rates]


SEEDS = st.dictionaries(st.sampled_from(("init", "order", "noise")), st.integers(0, 3)).map(
    lambda seeds: tuple(sorted(seeds.items()))
)
STARTS_OF_BIASES = st.sampled_from(
    (None, None, Biases("constant", 0.1), Biases("normal", 0.3), Biases("uniform"))
)


@st.composite
def stoppings(draw: Any, validation: int) -> Stopping | None:
    """Return no rule of early stopping, or one that suits the few epochs of these tests."""
    metrics = [metric for metric in METRICS if validation or metric.startswith("train")]
    rule = st.builds(Stopping, st.integers(1, 2), st.sampled_from((0.0, 0.1, 10.0)), st.sampled_from(metrics))
    return draw(st.none() | rule)  # type: ignore[no-any-return]


def schedules() -> st.SearchStrategy[Schedule]:
    values = {"every": 1.0, "gamma": 0.5, "rate": 0.3, "peak": 3.0, "rise": 0.4, "end": 0.1}
    return st.builds(
        lambda name, warmup: Schedule(
            name, tuple((key, values[key]) for key in SCHEDULES[name].parameters), warmup
        ),
        st.sampled_from(sorted(SCHEDULES)),
        st.sampled_from((0.0, 0.5, 1.0)),
    )


@st.composite
def stacks(draw: Any) -> tuple[Recipe, list[Lane], Arrays]:
    architecture = draw(architectures(st.integers(1, 40) | st.just(784)))
    n = draw(st.integers(1, 200) | st.sampled_from((63, 64, 65, 127, 128, 129)))
    held_out = draw(st.sampled_from((0, 0, 1, 7)))
    mode = draw(st.sampled_from(("full", "mini", "sample")))
    recipe = Recipe(
        architecture=architecture,
        batching=Batching(
            mode,
            draw(st.integers(1, 200) | st.sampled_from((1, 16, 32, 64, 128))) if mode == "mini" else None,
            mode != "full" and draw(st.booleans()),
        ),
        optimizer=draw(st.sampled_from(sorted(RATES))),
        epochs=draw(st.integers(0, 4 if mode == "full" else 3)),
        reduction=draw(st.sampled_from(("mean", "sum"))),
        epsilon=draw(st.sampled_from((0.0, 1e-12, 1e-2))),
        scale=draw(st.sampled_from(("unit", "unit", "raw", "center", "standardize"))),
        validation=held_out,
        dtype=draw(st.sampled_from(("float32", "float64"))),
        **draw(losses()),
        stopping=draw(stoppings(held_out)),
        seed_split=draw(st.sampled_from((None, None, 0, 3))),
        subset=draw(st.none() | st.integers(1, n)),
        label_noise=draw(st.sampled_from((0.0, 0.0, 0.3))),
    )
    options = draw(st.just([]) | st.lists(st.sampled_from(_options(architecture)), unique=True, max_size=3))
    recipe = replace(recipe, options=tuple(sorted(options)))
    lanes = []
    for k in range(draw(st.integers(1, 9))):
        method, std = draw(st.sampled_from(list(INITIALIZERS))), draw(st.sampled_from((0.3, 1.0)))
        schedule = draw(schedules()) if "schedule" in recipe.options else None
        numbers = [name for name in recipe.options if name != "schedule"]
        lanes.append(
            Lane(
                f"{k}",
                draw(st.integers(0, 3)),
                tuple(standard_deviation(method, *shape, std) for shape in architecture.shapes),
                draw(hypers(recipe.optimizer, numbers)),
                draw(SEEDS),
                distribution_of(method),
                draw(st.sampled_from((0.0, 0.0, 0.1))),
                draw(STARTS_OF_BIASES),
                schedule,
            )
        )
    arrays = images(
        draw(st.integers(0, 99)),
        n + held_out,
        draw(st.integers(1, 40)),
        architecture.inputs,
        architecture.classes,
    )
    if recipe.scale != "unit" and draw(st.booleans()):
        arrays = real_valued(arrays)
    return recipe, lanes, arrays


def train_in_segments(
    draw: Any, recipe: Recipe, lanes: Sequence[Lane], arrays: Any, **options: Any
) -> tuple[list[Record], list[Stack]]:
    """Train the lanes as a sweep might, in segments of random length between which stacks are split.

    Each segment uses one, two or three threads.
    """
    queue, done, records = [start(recipe, draw(st.permutations(lanes)))], [], []
    while queue:
        stack = queue.pop()
        seconds, threads = draw(st.integers(0, 9)), draw(st.sampled_from((1, 2, 3)))
        stack, new = advance(
            recipe, stack, arrays, seconds, clock=count().__next__, threads=threads, **options
        )  # the clock ticks at each call, so a segment has one epoch or a few
        records += new
        if not stack.lanes or stack.epoch == recipe.epochs:
            done.append(stack)
            continue
        order = draw(st.permutations(range(len(stack.lanes))))
        split_at = draw(st.integers(0, len(order) - 1))
        queue += [stack.select(part) for part in (order[:split_at], order[split_at:]) if part]
    return records, done


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    stacks(),
    st.sampled_from((8, 64, 512)),
    st.sampled_from((1, 5, 64)),
    st.sampled_from((1, 9999)),
    st.sampled_from(sorted(ENGINES)),
    st.data(),
)
def test_a_trial_is_bitwise_the_same_in_any_stack(
    case: tuple[Recipe, list[Lane], Arrays],
    chunk: int,
    block: int,
    slice_bytes: int,
    engine: str,
    random: st.DataObject,
) -> None:
    recipe, lanes, arrays = case
    with chunk_and_block_sizes(chunk, block), mock.patch.object(epoch, "SLICE_BYTES", slice_bytes):
        expected = alone(recipe, lanes, arrays, engine)
        records, done = train_in_segments(random.draw, recipe, lanes, arrays, engine=engine)
    assert outcomes(records, done) == expected


ONE_OPTION = {
    "l2": 0.1, "l1": 0.01, "max_norm": 0.5, "clip_norm": 0.1, "label_smoothing": 0.2,
    "dropout.0": 0.2, "dropout.1": 0.5, "dropout.2": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("slice_bytes", [1, 9999])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("option", ONE_OPTION)
def test_each_option_alone_is_invisible_in_a_stack(
    option: str, optimizer: str, slice_bytes: int, engine: str
) -> None:
    recipe = Recipe(
        Architecture(30, (9, 8), 10, "tanh"),
        Batching("mini", 16, shuffle=True),
        optimizer,
        2,
        options=(option,),
    )
    hyper = {"lr": 0.05, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    names = OPTIMIZERS[optimizer].hyperparameters
    lanes = [
        Lane(f"{k}", k, (0.2, 0.3, 0.3), (*((name, hyper[name]) for name in names), (option, value)))
        for k, value in enumerate((ONE_OPTION[option], ONE_OPTION[option] / 2, ONE_OPTION[option]))
    ]
    arrays = images(0, 70, 20, 30, 10)
    with mock.patch.object(epoch, "SLICE_BYTES", slice_bytes):
        stack, records = advance(recipe, start(recipe, lanes), arrays, engine=engine)
        assert outcomes(records, [stack]) == alone(recipe, lanes, arrays, engine)


MODES = {
    "full": Batching("full"),
    "mini": Batching("mini", 128, shuffle=True),
    "sample": Batching("sample"),
    "sample shuffled": Batching("sample", None, shuffle=True),
}


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("hidden", "activation"), [((100,), "relu"), ((128,), "tanh"), ((32, 32), "sigmoid")]
)
def test_a_trial_of_realistic_size_is_bitwise_the_same_in_a_stack_of_nine(
    hidden: tuple[int, ...], activation: str, mode: str, dtype: str, engine: str
) -> None:
    architecture = Architecture(784, hidden, 10, activation)
    recipe = Recipe(architecture, MODES[mode], "sgd", epochs=2, dtype=dtype)
    arrays = images(0, 190 if mode.startswith("sample") else 1100, 600, 784, 10)
    lanes = [
        Lane(f"{k}", k % 3, tuple(2 / shape[0] ** 0.5 for shape in architecture.shapes), (("lr", 0.01 * k),))
        for k in range(9)
    ]
    stack, records = advance(recipe, start(recipe, lanes), arrays, engine=engine)
    assert outcomes(records, [stack]) == alone(recipe, lanes, arrays, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", MODES)
def test_lanes_that_diverge_do_not_affect_the_other_lanes(mode: str, engine: str) -> None:
    recipe = Recipe(Architecture(49, (25, 16), 6, "relu", "none"), MODES[mode], "sgd", epochs=4)
    arrays = images(2, 150, 40, 49, 6)
    # The last two lanes diverge. One row at a time, the rate 80 produces NaNs of both signs.
    rates = [0.05, 0.01, 0.001, 1e30, 80.0]
    lanes = [Lane(f"{k}", k % 2, (1 / 49, 1 / 25, 1 / 16), (("lr", lr),)) for k, lr in enumerate(rates)]
    stack, records = advance(recipe, start(recipe, lanes), arrays, engine=engine)
    assert {lane.key for lane in stack.lanes} >= {"0", "1", "2"}
    assert {record.key for record in records if record.diverged} >= {"3"}
    assert len(stack.lanes) + sum(record.diverged for record in records) == len(lanes)
    assert outcomes(records, [stack]) == alone(recipe, lanes, arrays, engine)


# --- through joblib -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[data.Prepared]:
    folder: Path = tmp_path_factory.mktemp("data")
    arrays = images(2, 150, 40, 49, 6)
    np.savez(
        folder / "images.npz",
        **{name: getattr(arrays, name).reshape(-1, 7, 7) for name in ("x_train", "x_test")},
        **{name: getattr(arrays, name) for name in ("y_train", "y_test")},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNNEXP_CACHE", str(folder / "cache"))
        yield data.prepare("files", path=str(folder / "images.npz"))


@pytest.fixture(scope="module")
def executors() -> Iterator[dict[int, Executor]]:
    started = {n_jobs: Executor(Execution(n_jobs)) for n_jobs in (1, 2)}
    yield started
    for executor in started.values():
        executor.close()


@st.composite
def trials(draw: Any, prepared: data.Prepared) -> list[Trial]:
    """Return trials with two recipes, which cannot share a stack."""
    mode = draw(st.sampled_from(sorted(MODES)))
    optimizer = draw(st.sampled_from(sorted(RATES)))
    validation = draw(st.sampled_from((0, 20)))
    shared = Recipe(
        architecture=replace(draw(architectures(st.just(49))), classes=6),
        batching=MODES[mode],
        optimizer=optimizer,
        epochs=draw(st.integers(1, 3)),
        validation=validation,
        dtype=draw(st.sampled_from(("float32", "float64"))),
        stopping=draw(stoppings(validation)),
    )
    drawn = [
        Trial(
            recipe=replace(shared, epsilon=draw(st.sampled_from((0.0, 1e-12)))),
            data=prepared,
            method=draw(st.sampled_from(list(INITIALIZERS))),
            std=0.3,
            hyper=draw(hypers(optimizer)),
            seed=draw(st.integers(0, 2)),
            name=f"{k}",
            params={},
            config={},
            gain=draw(st.sampled_from((1.0, 1.0, 0.5))),
            biases=draw(STARTS_OF_BIASES),
            seeds=draw(SEEDS),
        )
        for k in range(draw(st.integers(2, 9)))
    ]
    return list({trial.numbers_id: trial for trial in drawn}.values())


def run_sweep(
    executor: Executor, trials: Sequence[Trial], max_lanes: int, seconds: float, engine: str
) -> tuple[list[Record], list[Stack]]:
    """Run the loop of a sweep, interrupted after each segment, so that every lane resumes from its state."""
    records: list[Record] = []
    done: list[Stack] = []
    states: dict[str, Stack] = {}
    executor.execution = replace(executor.execution, segment_seconds=seconds, engine=engine)
    for planned in plan(identical(trials), max_lanes=max_lanes, n_jobs=executor.n_jobs):
        executor.submit(planned)
    while executor.under_way:
        planned, trained = executor.result()
        assert isinstance(trained, Trained), trained
        records += trained.records
        stack = trained.stack
        if not stack.lanes or stack.epoch == planned.recipe.epochs:
            done.append(stack)
        else:  # as if the sweep were interrupted: keep the state of each lane and plan again
            states |= {lane.key: stack.select([k]) for k, lane in enumerate(stack.lanes)}
        if states and not executor.under_way:
            unfinished = [trial for trial in trials if trial.numbers_id in states]
            for resumed in plan(
                identical(unfinished), max_lanes=max_lanes, n_jobs=executor.n_jobs, begun=states
            ):
                executor.submit(resumed)
            states = {}
    return records, done


@pytest.mark.parametrize("n_jobs", [1, 2])
@settings(max_examples=max(6, EXAMPLES // 40), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_trial_is_bitwise_the_same_at_any_number_of_workers(
    n_jobs: int, prepared: data.Prepared, executors: dict[int, Executor], random: st.DataObject
) -> None:
    drawn = random.draw(trials(prepared))
    max_lanes, seconds = random.draw(st.integers(1, 9)), random.draw(st.sampled_from((0.0, 60.0)))
    engine = random.draw(st.sampled_from(sorted(ENGINES)))
    records, done = run_sweep(executors[n_jobs], drawn, max_lanes, seconds, engine)
    expected: dict[str, Outcome] = {}
    for trial in drawn:
        expected |= alone(trial.recipe, [trial.lane()], data.load(prepared), engine)
    assert outcomes(records, done) == expected


def test_splitting_a_planned_stack_keeps_the_state_of_each_lane(prepared: data.Prepared) -> None:
    recipe = Recipe(Architecture(49, (5,), 6, "tanh"), MODES["mini"], "adam", epochs=2)
    hyper = (("lr", 0.01), ("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8))
    lanes = [Lane(f"{k}", k, (0.3, 0.3), hyper) for k in range(5)]
    whole, _ = advance(recipe, start(recipe, lanes), data.load(prepared), seconds=0)
    halves = PlannedStack(recipe, prepared, whole).split()
    assert [lane for half in halves for lane in half.lanes] == lanes
    results = [advance(recipe, half.stack, data.load(prepared)) for half in halves]
    end, records = advance(recipe, whole, data.load(prepared))
    assert outcomes(
        [record for _, new in results for record in new], [half for half, _ in results]
    ) == outcomes(records, [end])
