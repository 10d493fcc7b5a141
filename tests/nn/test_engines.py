"""Test engines: they compute the same up to rounding, runs record them, and no trial mixes two of them.

test_against_reference compares each engine with the op-by-op reference, and test_law_stacking tests that
stacking is invisible with each.
"""

import importlib.util
import io
import signal
import sys
from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import fnnexp
from fnnexp.config.execution import Execution
from fnnexp.data import datasets as data
from fnnexp.nn.engines import numba_engine as compiled
from fnnexp.nn.engines.base import ENGINES, engine_named
from fnnexp.nn.engines.numpy_engine import DenseRows, Examples, Scaling
from fnnexp.nn.engines.threads import Team
from fnnexp.nn.epoch import EpochTrainer
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.rows import splits_of
from fnnexp.nn.training import Lane, Recipe, advance, start
from fnnexp.reporting.sections import provenance
from fnnexp.sweeping import executor as executor_module
from fnnexp.sweeping.backends.cluster import ClusterError, own_versions, refuse_other_versions
from fnnexp.sweeping.checkpoints import CHECKPOINTS, Checkpoints
from fnnexp.sweeping.loop import run
from fnnexp.sweeping.plan import identical, plan
from fnnexp.sweeping.resources import engine as choosing
from fnnexp.sweeping.terminal import dry_run
from fnnexp.sweeping.worker import train_segment
from fnnexp.tracking.writer import Tracker

SPARSE = ["data=files", "data.path=sparse.npz", "data.validation=20", "arch.hidden=[17]"]


def pixels(rng, n, inputs, share):
    return (rng.integers(1, 256, (n, inputs)) * (rng.random((n, inputs)) < share)).astype(np.uint8)


@pytest.fixture
def sparse_file(own_folder):
    """Write a data set in which, as in MNIST, four of five pixels are 0. Its width is not a multiple of 8."""
    rng = np.random.default_rng(5)
    arrays = {}
    for split, n in (("train", 170), ("test", 40)):
        arrays[f"x_{split}"] = pixels(rng, n, 49, 0.2).reshape(n, 7, 7)
        arrays[f"y_{split}"] = (np.arange(n) % 10).astype(np.uint8)
    np.savez(own_folder / "sparse.npz", **arrays)


def test_each_compiled_activation_has_its_own_number():
    numbers = [compiled.number_of(activation) for activation in ACTIVATIONS.values()]
    assert sorted(numbers) == sorted(compiled.COMPILED.values()) == list(range(len(numbers)))
    needs_z = [compiled.number_of(activation) for activation in ACTIVATIONS.values() if activation.needs_z]
    assert sorted(needs_z) == sorted(compiled.NEED_Z)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 61), st.integers(1, 150)),
    share=st.sampled_from((0.0, 0.05, 0.3, 1.0)),
    dtype=st.sampled_from(("float32", "float64")),
    scale=st.sampled_from(("unit", "raw")),
    sliced=st.booleans(),
    order=st.sampled_from("CF"),
    seed=st.integers(0, 9),
)
def test_both_products_with_lists_of_pixels_equal_dense_products(
    shape, share, dtype, scale, sliced, order, seed
):
    """Compare with NumPy in float64: a sum of n terms has an error of at most n ε Σ |term|."""
    B, D, H = shape
    rng = np.random.default_rng(seed)
    images, dtype = pixels(rng, 100, D, share), np.dtype(dtype)
    where = slice(3, 3 + B) if sliced else rng.permutation(100)[:B]
    X = images[where] / (255.0 if scale == "unit" else 1.0)
    W = rng.standard_normal((1, D, H)).astype(dtype)
    dZ = rng.standard_normal((B, H)).astype(dtype, order=order)
    scaling = Scaling(255.0 if scale == "unit" else None)
    examples = compiled.SparseRows(images, scaling, B, dtype).take(where)
    for forward_first in (False, True):  # after forward, gradients are added to a padded copy of W
        W_after = W.copy()
        layer = compiled.SparseFirstLayer(W_after)
        if forward_first:
            Z = np.empty((B, H), dtype, order=order)
            layer.forward(range(1), examples, Z[None])
            size = np.abs(X) @ np.abs(W[0].astype(float))
            assert (np.abs(Z - X @ W[0].astype(float)) <= (D + 1) * np.finfo(dtype).eps * size).all()
        layer.add_gradient(range(1), examples, dZ[None])
        layer.write_back()
        change, size = X.T @ dZ.astype(float), np.abs(X.T) @ np.abs(dZ.astype(float)) + np.abs(W[0])
        assert (np.abs(W_after[0] - (W[0] + change)) <= (B + 2) * np.finfo(dtype).eps * size).all()


def test_weights_changed_marks_the_copy_as_outdated():
    images, W = np.full((1, 3), 2, np.uint8), np.ones((1, 3, 4))
    layer, Z = compiled.SparseFirstLayer(W), np.empty((1, 4))
    examples = compiled.SparseRows(images, Scaling(), 1, W.dtype).take(slice(0, 1))
    layer.forward(range(1), examples, Z[None])
    assert (Z == 6).all()
    W *= 10
    layer.weights_changed()
    layer.forward(range(1), examples, Z[None])
    assert (Z == 60).all()


@pytest.mark.parametrize("optimizer", [name for name, rule in OPTIMIZERS.items() if rule.slots])
def test_steps_of_the_first_weights_have_the_same_bits_as_the_rule_applied_to_their_gradient(optimizer):
    rng = np.random.default_rng(1)
    images = pixels(rng, 50, 70, 0.2)
    images[:, 3] = 0  # a column without pixels
    labels = rng.integers(0, 10, 50).astype(np.uint8)
    arrays = data.Arrays(images, labels, images, labels)
    numbers = {"lr": 0.1, "momentum": 0.9, "beta1": 0.9, "beta2": 0.99, "rho": 0.8, "epsilon": 1e-7}
    numbers["weight_decay"] = 0.1
    at_once = engine_named("numba")
    by_gradient = replace(at_once, first_step=None, updates={})
    for hidden in ((64,), (100, 9), (17,)):  # whole tiles, a narrower last tile, padding
        architecture = Architecture(70, hidden, 10, "tanh")
        recipe = Recipe(architecture, Batching("mini", 16, True), optimizer, 2)
        of = OPTIMIZERS[optimizer].hyperparameters
        lanes = [
            Lane(
                f"{k}",
                k % 2,
                (0.1,) * (len(hidden) + 1),
                tuple((name, numbers[name] * (1 - 0.1 * k)) for name in of),
            )
            for k in range(3)
        ]
        stacks = []
        for engine in (at_once, by_gradient):
            stack = start(recipe, lanes)
            trainer = EpochTrainer(recipe, stack, splits_of(recipe, arrays)["train"], engine)
            assert trainer.first_steps == (engine is at_once)
            for epoch in (1, 2):
                trainer.train(epoch)
            stacks.append([array.tobytes() for array in (stack.theta, *stack.slots)])
        assert stacks[0] == stacks[1], hidden


@pytest.mark.parametrize("mode", ["full", "mini"])
def test_with_few_zero_pixels_both_engines_use_blas(mode):
    rng = np.random.default_rng(0)
    dense, sparse, single = pixels(rng, 90, 30, 0.9), pixels(rng, 90, 30, 0.2), np.dtype("f")
    assert isinstance(compiled.make_rows(dense, Scaling(255.0), 9, single), DenseRows)
    assert isinstance(compiled.make_rows(sparse, Scaling(255.0), 9, single), compiled.SparseRows)
    assert isinstance(compiled.make_rows(sparse, Scaling(255.0, np.ones(30)), 9, single), DenseRows)
    assert isinstance(compiled.make_rows(sparse.astype(single), Scaling(), 9, single), DenseRows)
    labels = rng.integers(0, 10, 90).astype(np.uint8)
    arrays = data.Arrays(dense, labels, dense, labels)
    recipe = Recipe(
        Architecture(30, (9,), 10, "tanh"), Batching(mode, 16 if mode == "mini" else None), "sgd", 3
    )
    stack = start(recipe, [Lane("a", 0, (0.1, 0.1), (("lr", 0.1),))])
    final_weights = [advance(recipe, stack, arrays, engine=engine)[0].theta.tobytes() for engine in ENGINES]
    assert final_weights[0] == final_weights[1]


def test_the_compiled_first_layer_also_accepts_dense_rows():
    W, X = np.arange(6.0).reshape(1, 3, 2), np.array([[1.0, 2.0]])
    layer, Z = compiled.SparseFirstLayer(W.copy()), np.empty((1, 2))
    layer.forward(range(1), Examples(X, np.array([0, 2])), Z[None])
    np.testing.assert_array_equal(Z, X @ W[0, [0, 2]])
    layer.add_gradient(range(1), Examples(X, np.array([0, 2])), np.ones((1, 1, 2)))
    layer.write_back()
    np.testing.assert_array_equal(layer.W[0], W[0] + [[1, 1], [0, 0], [2, 2]])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("mode", ["full", "mini", "sample"])
def test_a_lane_diverges_at_the_same_epoch_with_every_engine(mode, activation):
    """One lane learns, the steps of two lanes overflow at once, and the logits of one lane are not finite."""
    rng = np.random.default_rng(3)
    X, y = pixels(rng, 60, 30, 0.2), rng.integers(0, 10, 60).astype(np.uint8)
    arrays = data.Arrays(X, y, X[:9], y[:9])
    recipe = Recipe(
        Architecture(30, (9, 7), 10, activation), Batching(mode, 8 if mode == "mini" else None), "sgd", 3
    )
    lanes = [
        Lane(f"{k}", 0, (std, std, std), (("lr", lr),))
        for k, (std, lr) in enumerate([(0.1, 0.01), (0.1, 3e38), (1.0, 3e38), (5e37, 0.01)])
    ]
    diverged_at = []
    for engine in ENGINES:
        _, records = advance(recipe, start(recipe, lanes), arrays, engine=engine)
        diverged_at.append({record.key: record.epoch for record in records if record.diverged})
    assert diverged_at[0] == diverged_at[1]
    assert "0" not in diverged_at[0]
    assert diverged_at[0], "no lane diverged, so nothing was tested"


def test_numba_compiles_without_a_cache_folder(monkeypatch):
    njit = numba.njit

    def without_a_folder(*function, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'double': no locator available for file")
        return njit(*function, **options)

    monkeypatch.setattr(numba, "njit", without_a_folder)
    assert compiled.compiled(lambda a: 2 * a)(21) == 42


# --- a sweep ------------------------------------------------------------------------------------------------


GRID = ["batching=full,mini,sample", "optimizer=sgd,momentum", "init=he,xavier", "epochs=3", "seed=0,1"]
COMMAND = ["-m", *SPARSE, *GRID, "execution.n_jobs=2", "execution.segment_seconds=0.0"]


def test_a_sweep_with_numba_records_the_engine_and_equals_its_trials_alone(
    sparse_file, store, invoke, trials_of, agrees, own_folder
):
    result = invoke(*COMMAND, "execution.engine=numba")
    assert result.status == 0, result.err
    agrees(own_folder, trials_of(*SPARSE, *GRID), "sparse", engine="numba")
    runs = fnnexp.runs("sparse")
    assert len(runs) == 24
    assert set(runs["engine"]) == {engine_named("numba").version}
    assert engine_named("numba").version.startswith("numba ")
    # The engine is not part of a trial's identity, so the other engine has nothing left to train.
    repeated = invoke(*COMMAND)
    assert "24 were done before" in repeated.out
    assert not list((own_folder / ".fnnexp" / "checkpoints").glob("*.npz"))


def test_curves_of_both_engines_are_equal_up_to_rounding(sparse_file, store, invoke):
    """Use float64 and small steps, so that rounding errors stay small and training is not chaotic."""
    curves = {}
    for engine in ENGINES:
        name = f"tracking.experiment={engine}"
        result = invoke(*COMMAND, "dtype=float64", f"execution.engine={engine}", name)
        assert result.status == 0, result.err
        engine_curves = fnnexp.curves(engine)
        engine_curves["trial"] = engine_curves["trial"].astype(str)
        curves[engine] = engine_curves.set_index(["trial", "metric", "epoch"])["value"].sort_index()
    assert curves["numpy"].index.equals(curves["numba"].index)
    np.testing.assert_allclose(curves["numba"], curves["numpy"], rtol=1e-9, atol=1e-12)
    assert set(fnnexp.runs("numpy")["engine"]) == {f"numpy {np.__version__}"}


def test_a_trial_begun_with_another_engine_starts_over(
    sparse_file, store, trials_of, own_folder, monkeypatch, agrees
):
    trials = trials_of(*SPARSE, "epochs=3")
    (trial,) = trials
    recipe, arrays = trial.recipe, data.load(trial.data)
    stack, records = advance(recipe, start(recipe, [trial.lane()]), arrays, seconds=0, engine="numba")
    by_numba = Checkpoints(CHECKPOINTS, "numba")
    by_numba.save(stack, {trial.numbers_id: records})
    assert Checkpoints(CHECKPOINTS).load(trial.lane(), recipe) is None
    assert by_numba.load(trial.lane(), recipe)[0].theta.tobytes() == stack.theta.tobytes()
    began_at = []

    def train(planned, execution):
        began_at.append((planned.stack.epoch, execution.engine))
        return train_segment(planned, execution)

    monkeypatch.setattr(executor_module, "train_segment", train)
    console = Console(file=io.StringIO(), width=300)
    settings = Execution(n_jobs=1, backend="threading", engine="numpy")
    planned = Console(file=io.StringIO(), width=300)
    dry_run.show(trials, "sparse", store, settings, planned)
    run(trials, Tracker("sparse", store), settings, console)
    output = console.file.getvalue()
    (line,) = (line for line in output.splitlines() if line.startswith("1 trial begun with"))
    assert "1 trial begun with execution.engine=numba must start over" in line
    assert line in planned.file.getvalue().splitlines()
    assert "write execution.engine=numba to resume them" in output
    assert began_at == [(0, "numpy")]
    agrees(own_folder, trials, "sparse")
    assert not list(CHECKPOINTS.glob("*.npz"))  # the checkpoint of the other engine is removed too


@pytest.mark.parametrize("engine", ["numba", "auto"])
def test_a_trial_resumes_with_the_engine_that_began_it(
    engine, sparse_file, store, trials_of, own_folder, agrees
):
    trials = trials_of(*SPARSE, "epochs=3", "batching=sample")
    (trial,) = trials
    recipe, arrays = trial.recipe, data.load(trial.data)
    stack, records = advance(recipe, start(recipe, [trial.lane()]), arrays, seconds=0, engine="numba")
    Checkpoints(CHECKPOINTS, "numba").save(stack, {trial.numbers_id: records})
    console = Console(file=io.StringIO(), width=300)
    settings = Execution(n_jobs=1, backend="threading", engine=engine)
    dry_run.show(trials, "sparse", store, settings, console)
    assert "; 2 epochs in all\n" in console.file.getvalue()
    run(trials, Tracker("sparse", store), settings, console)
    output = console.file.getvalue()
    assert output.count("resuming 1 trial from the last checkpoint, at epoch 1\n") == 2
    assert ("computing with numba, which began 1 trial of this sweep" in output) == (engine == "auto")
    agrees(own_folder, trials, "sparse", engine="numba")


def test_a_trial_interrupted_with_two_engines_resumes_with_one_of_them(
    sparse_file, store, trials_of, own_folder, agrees
):
    """Interrupt a trial with one engine, then with the other. The first engine resumes its own checkpoint."""
    trials = trials_of(*SPARSE, "epochs=4", "batching=sample")

    def sweep_interrupted_after(engine, epochs):
        console = Console(file=io.StringIO(), width=300)
        settings = Execution(n_jobs=1, backend="threading", engine=engine, segment_seconds=0.0, max_lanes=1)
        logged = []
        with pytest.MonkeyPatch.context() as patch:
            log = Tracker.log

            def interrupted(self, run_id, curve):
                log(self, run_id, curve)
                logged.append(run_id)
                if len(logged) == epochs:
                    signal.raise_signal(signal.SIGINT)

            patch.setattr(Tracker, "log", interrupted)
            outcome = run(trials, Tracker("sparse", store), settings, console)
        return outcome, console.file.getvalue()

    for engine, epochs in (("numba", 2), ("numpy", 1)):
        outcome, _ = sweep_interrupted_after(engine, epochs)
        assert outcome.interrupted
    outcome, output = sweep_interrupted_after("numba", 99)
    assert len(outcome.finished) == 1
    assert "resuming 1 trial from the last checkpoint" in output
    agrees(own_folder, trials, "sparse", engine="numba")


# --- execution.engine=auto ----------------------------------------------------------------------------------

CHEAP = ["-m", *SPARSE, "execution.n_jobs=1", "execution.backend=threading", "epochs=1"]


def test_auto_takes_numba_where_it_saves_time_and_goes_on_with_what_began_a_sweep(
    sparse_file, store, invoke, monkeypatch
):
    def swept(*words):
        """Return the printed line about the engine, and the names of the engines of all runs."""
        result = invoke(*CHEAP, *words)
        assert result.status == 0, result.err
        lines = [line for line in result.out.splitlines() if line.startswith("computing with")]
        runs = fnnexp.runs("sparse")["engine"] if "dry_run=true" not in words else ()
        return lines, {name.partition(" ")[0] for name in runs}

    monkeypatch.setattr(choosing, "WORTH", 0.0)
    assert swept("seed=0,1", "dry_run=true") == (["computing with numba"], set())
    assert swept("seed=0,1") == (["computing with numba"], {"numba"})
    monkeypatch.setattr(choosing, "WORTH", 1.0)  # by itself, the sweep would be too small
    began = "computing with numba, which began 2 trials of this sweep"
    assert swept("seed=0,1,2") == ([began], {"numba"})
    assert swept("seed=0,1,2") == ([], {"numba"})  # nothing is left to compute
    too_small = "computing with NumPy, since numba would save too little time"
    assert swept("seed=7") == ([too_small], {"numba", "numpy"})
    monkeypatch.setattr(choosing, "WORTH", 0.0)
    assert swept("seed=7,8") == (
        ["computing with NumPy, which began 1 trial of this sweep"],
        {"numba", "numpy"},
    )


def test_a_sweep_of_two_engines_says_so(sparse_file, store, invoke):
    assert invoke(*CHEAP, "seed=0,1", "execution.engine=numpy").status == 0
    mixed = "2 of these trials were computed with numpy; results of two engines agree only up to rounding"
    for word in ("dry_run=true", "dry_run=false"):
        ran = invoke(*CHEAP, "seed=0,1,2", "execution.engine=numba", word)
        assert ran.status == 0, ran.err
        advice = "execution.engine=numpy (or auto) goes on with one engine"
        assert [line for line in ran.out.splitlines() if "computed with" in line] == [f"{mixed}; {advice}"]
    again = invoke(*CHEAP, "seed=0,1,2", "execution.engine=numba").out
    assert mixed not in again  # nothing is computed
    assert "; 3 were done before, 2 of them with numpy" in again
    assert "; 2 were done before, with numpy" in invoke(*CHEAP, "seed=0,1", "execution.engine=numba").out
    auto = invoke(*CHEAP, "seed=0,1,2,3").out.splitlines()
    assert auto[:2] == [
        "computing with NumPy, which began 2 trials of this sweep",
        "1 of these trials was computed with numba; results of two engines agree only up to rounding",
    ]
    reproduction = provenance.section(lambda *_, **__: "", [], fnnexp.runs("sparse"), []).blocks
    (text,) = (each.text for each in reproduction if getattr(each, "text", "").startswith("Data and"))
    assert "3 by numpy and 1 by numba" in text
    assert "only up to rounding" in text


@pytest.mark.parametrize(
    ("words", "engine", "threads"),
    [
        (["data=digits", "batching=full"], "numpy", 3),
        ([*SPARSE, "batching=mini"], "numpy", 1),
        ([*SPARSE, "batching=mini"], "numba", 2),
        ([*SPARSE, "batching=mini", "optimizer=adam"], "numba", 2),
        ([*SPARSE, "batching=mini", "optimizer=adam", "regularization.l2=0.1"], "numba", 1),
        ([*SPARSE, "batching=mini", "regularization.l1=0.1"], "numba", 1),
        ([*SPARSE, "batching=mini", "regularization.dropout=[0.2,0]"], "numba", 1),
        (["data=digits", "batching=mini"], "numba", 1),
        ([*SPARSE, "batching=sample"], "numba", 1),
    ],
)
def test_as_many_threads_are_announced_as_train(words, engine, threads, sparse_file, trials_of):
    (trial,) = trials_of(*words)
    (planned,) = plan(identical([trial]), max_lanes=None, n_jobs=1)
    recipe, arrays = trial.recipe, data.load(trial.data)
    with Team(4) as team:
        stack, split = start(recipe, [trial.lane()]), splits_of(recipe, arrays)["train"]
        trainer = EpochTrainer(recipe, stack, split, engine_named(engine), team)
        assisted = trainer.descent is None and trainer.assistant is not None
        assert max(len(trainer.benches), 1 + assisted) == threads
    assert choosing.threads_used(planned, engine, 4) == threads


def test_numba_saves_no_time_where_numpy_computes_anyway(sparse_file, trials_of):
    def saved(*words):
        return choosing.seconds_saved(trials_of(*words))

    sparse = saved(*SPARSE, "epochs=3")
    assert 0 < sparse < saved(*SPARSE, "epochs=4") < saved(*SPARSE, "epochs=4", "seed=0,1")
    assert saved(*SPARSE, "epochs=3", "batching=sample") > 0
    assert saved(*SPARSE, "epochs=3", "regularization.dropout=[0.2,0]") == 0
    assert saved(*SPARSE, "epochs=3", "data.scale=standardize") == 0
    assert saved("data=digits", "epochs=3") == 0  # half of its pixels are not 0
    own = Recipe(Architecture(49, (9,), 10, "mine@1"), Batching("sample"), "sgd", 3)
    (trial,) = trials_of(*SPARSE, "batching=sample")
    assert choosing.seconds_saved([replace(trial, recipe=own)]) == 0


def test_numba_tells_what_it_has_to_compile(own_folder, monkeypatch):
    """A function is compiled for a dtype at its first call, once for all processes."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(own_folder / "cache"))
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(own_folder / "cache"))
    (own_folder / "twice.py").write_text("def twice(a):\n    return 2 * a\n")

    def new():
        """Return the function as a new process would load it."""
        spec = importlib.util.spec_from_file_location("twice", own_folder / "twice.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return compiled.compiled(module.twice)

    def has_code(function):
        return [compiled._has_code(function, np.dtype(name)) for name in ("float32", "float64")]

    first = new()
    assert has_code(first) == [False, False]
    first(np.ones(3, np.float32))
    assert has_code(first) == has_code(new()) == [True, False], (
        "Numba has changed: fnnexp.nn.engines.numba_engine._has_code can't read its cache; until it is "
        "adapted, every sweep prints that numba compiles"
    )


# --- errors -------------------------------------------------------------------------------------------------


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "fnnexp.nn.engines.numba_engine")
    monkeypatch.delattr("fnnexp.nn.engines.numba_engine")
    engine_named.cache_clear()
    yield
    engine_named.cache_clear()


def test_without_numba_auto_starts_over_with_numpy_what_numba_began(
    sparse_file, store, trials_of, own_folder, request, monkeypatch
):
    trials = trials_of(*SPARSE, "epochs=3", "seed=0,1")
    recipe, arrays = trials[0].recipe, data.load(trials[0].data)
    stack, records = advance(recipe, start(recipe, [trials[0].lane()]), arrays, seconds=0, engine="numba")
    Checkpoints(CHECKPOINTS, "numba").save(stack, {trials[0].numbers_id: records})
    request.getfixturevalue("without_numba")
    monkeypatch.setattr(choosing, "WORTH", 0.0)
    console = Console(file=io.StringIO(), width=300)
    run(trials, Tracker("sparse", store), Execution(n_jobs=1, backend="threading"), console)
    output = console.file.getvalue()
    assert "computing with NumPy, since numba is not installed" in output
    assert "1 trial begun with execution.engine=numba must start over" in output
    assert output.count('pip install "fnnexp[numba]"') == 2
    assert set(fnnexp.runs("sparse")["engine"]) == {f"numpy {np.__version__}"}


@pytest.mark.parametrize("word", ["dry_run=true", "dry_run=false"])
def test_an_engine_that_is_not_installed_is_refused_before_anything_trains(
    word, without_numba, store, invoke, own_folder
):
    before = set(own_folder.iterdir())
    result = invoke("data=digits", "epochs=1", "execution.engine=numba", word)
    assert result.status == 2
    for part in ("execution.engine=numba", 'pip install "fnnexp[numba]"', "execution.engine=auto"):
        assert part in result.err
    assert set(own_folder.iterdir()) == before


def test_a_mistyped_engine_is_refused_with_a_suggestion(invoke):
    result = invoke("data=digits", "execution.engine=numbra")
    assert result.status == 2
    assert "execution.engine=numbra: must be one of auto, numpy, numba" in result.err
    assert "Did you mean 'numba'?" in result.err


def test_cluster_workers_need_the_requested_engine_only():
    packages = ("numpy", "numba")
    own = own_versions(packages)
    assert own.keys() == {"python", "numpy", "numba"}
    without_numba_versions = {"python": own["python"], "numpy": own["numpy"], "numba": None}
    refuse_other_versions({"a": without_numba_versions}, ("numpy",))
    with pytest.raises(ClusterError, match=r"a: numba missing \(here "):
        refuse_other_versions({"a": without_numba_versions}, packages)
