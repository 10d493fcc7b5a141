"""Pieces of one's own: what the guide says, what is refused, and that they obey the laws."""

from __future__ import annotations

import html
import itertools
import linecache
import os
import random
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fnnexp
from fnnexp import pieces
from fnnexp.config.commands import Command
from fnnexp.config.compose import compose
from fnnexp.errors import ConfigError, FnnexpError
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.initializers import DISTRIBUTIONS, INITIALIZERS
from fnnexp.nn.pieces.losses import LOSSES
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.schedules import Schedule
from fnnexp.nn.training import Lane, Recipe, advance, start
from fnnexp.pieces import files, registry
from fnnexp.reporting.sections import overview
from fnnexp.results.factors import by_version, factors_of

GUIDE = Path(__file__).parent.parent / "docs" / "pieces.md"
CODE = "\n\n".join(re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE))
CELL = "from fnnexp import pieces\nimport numpy as np\n"


@pytest.fixture(autouse=True)
def nothing_announced():
    yield
    for piece in list(registry.ANNOUNCED.values()):
        registry.withdraw(piece.source.name)


@pytest.fixture
def guide(own_folder):
    """Write the guide's file, and return its path."""
    file = own_folder / "my_pieces.py"
    file.write_text(CODE, "utf-8")
    return file


def written(name, text):
    Path(name).write_text(CELL + text, "utf-8")
    return name


def trials(*overrides, **command):
    return {
        trial.name: trial for trial in compose(Command(overrides=overrides, multirun=True, **command)).trials
    }


# --- the guide ----------------------------------------------------------------------------------------------

EVERYTHING = [
    "data=stripes", "data.validation=100", "init=mine,sparse,he", "arch.activation=[bent,cosine]",
    "arch.hidden=[8,6]", "optimizer=heavy", "optimizer.momentum=0.5", "loss=hinge", "schedule=sawtooth",
    "epochs=2",
]  # fmt: skip


def test_the_guides_pieces_train_in_workers_and_the_report_shows_them(guide, invoke):
    command = ["--pieces", "my_pieces.py", "-m", *EVERYTHING, "execution.n_jobs=2"]
    ran = invoke(*command)
    assert ran.status == 0, ran.err
    assert "3 trials finished" in ran.out
    assert "report stripes --pieces my_pieces.py" in ran.out
    runs = fnnexp.runs("stripes")
    assert set(runs["init"]) == {"mine", "sparse", "he"}
    assert runs["test_confidence"].between(0, 5).all()
    assert runs["optimizer.momentum"].eq(0.5).all()
    checksum = next(registry.announced("loss")).source.sha256
    assert set(runs["pieces"]) == {f"my_pieces.py@{checksum[:12]}"}
    (recorded,) = set(runs["command"])
    assert f"my_pieces.py#sha256={checksum[:16]}" in recorded
    assert "0 trials finished" in invoke(*command).out

    registry.withdraw(str(guide))
    without = invoke("report", "stripes")
    assert without.status == 0, without.err
    page = Path("reports/stripes/report.html").read_text("utf-8")
    assert "not shown: the trial was trained with your own pieces from my_pieces.py@" in page
    assert "which are not loaded; add --pieces FILE" in page
    with_pieces = invoke("report", "stripes", "--pieces", "my_pieces.py")
    assert with_pieces.status == 0, with_pieces.err
    page = Path("reports/stripes/report.html").read_text("utf-8")
    assert "The five slowest trials" in page
    assert Path("reports/stripes/own_1_the_five_slowest_trials.csv").is_file()  # no other section's file
    assert "not shown" not in page  # the mistakes of the best trial are
    assert "learning rate" in page  # of the schedule
    assert f"fnnexp report stripes --pieces 'my_pieces.py#sha256={checksum[:16]}'" in html.unescape(page)


def test_a_sweep_in_python_uses_a_file_or_a_function(guide, store):
    settings = {"data": "digits", "epochs": 1, "execution.n_jobs": 1, "batching": "full"}
    frame = fnnexp.sweep(pieces=guide, init=["mine", "xavier"], **settings)
    assert set(frame["init"]) == {"mine", "xavier"}
    pieces.initializer("twice", lambda n_in, n_out: 2 / n_in**0.5)
    again = fnnexp.sweep(init=["twice", "he"], **settings)
    assert len(set(again["test_loss"])) == 1  # the formula is that of `he`
    assert again["identical_to"].notna().sum() == 1


def test_an_installed_package_announces_pieces(own_folder, monkeypatch):
    (own_folder / "of_a_package.py").write_text(f"{CELL}pieces.initializer('packed', lambda a, b: 1 / a)\n")
    info = own_folder / "of_a_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: of-a-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fnnexp.pieces]\na = of_a_package\nb = missing_module\n")
    monkeypatch.syspath_prepend(str(own_folder))
    files.load_installed.cache_clear()
    sweep = compose(Command(overrides=("init=packed", "data=digits")))
    assert sweep.trials[0].params["init"] == "packed"
    assert any("of-a-package are not available" in note and "missing_module" in note for note in sweep.notes)
    files.load_installed.cache_clear()
    sys.modules.pop("of_a_package")


# --- identity -----------------------------------------------------------------------------------------------


def test_an_edited_file_is_another_experiment_for_the_trials_that_use_it():
    words = ("data=digits", "init=mine,he")
    plain = trials("data=digits", "init=he")
    before = trials(*words, pieces=(written("a.py", "pieces.initializer('mine', lambda a, b: 1 / a)"),))
    after = trials(*words, pieces=(written("a.py", "pieces.initializer('mine', lambda a, b: 1 / a) #"),))
    (mine, he) = sorted(before, key=lambda name: "he" in name)
    assert before[mine].id != after[mine].id
    assert before[mine].params["pieces"] != after[mine].params["pieces"]
    assert before[mine].numbers_id == after[mine].numbers_id  # the standard deviations are the same
    assert before[he].id == after[he].id == plain[he].id
    assert "pieces" not in before[he].params


@pytest.mark.parametrize("group", ["init", "optimizer"])
def test_versions_of_a_piece_are_options_of_its_group(group):
    """`he` uses no piece, and the file of `mine` was edited; `mine` was trained in two other settings."""
    versions = ["a.py@ffffff000000"] * 2 + ["a.py@abcdef000000"] * 2
    shared = {"init": "he", "optimizer": "sgd", "arch": "relu_100", "batching": "full"}
    rows = [
        {"status": "finished", **shared, group: option, "epochs": epochs, "seed": 0, "pieces": version}
        for option, used in (("he", [None, None]), ("mine", versions))
        for epochs, version in zip(itertools.cycle([1, 2]), used, strict=False)
    ]
    runs = pd.DataFrame(rows)
    runs["started"] = pd.date_range("2026-01-01", periods=len(runs))
    assert factors_of(runs) == [group, "epochs", "pieces"]
    labelled = by_version(runs)
    assert list(labelled[group].cat.categories) == ["he", "mine@ffffff", "mine@abcdef"]  # as trained
    assert factors_of(labelled) == [group, "epochs"]
    assert labelled.drop(columns=group).equals(runs.drop(columns=group))
    assert overview.versions(labelled) == [
        "The file of mine was edited between these trials. Its versions are named by their checksums, the "
        "first trained first: mine@ffffff, mine@abcdef."
    ]
    assert overview.versions(runs) == []
    for known in (runs[:4], runs.assign(pieces=runs["pieces"].fillna("a.py@ffffff000000"))):
        assert by_version(known) is known  # one version, or a metric that belongs to every trial


def test_a_metric_belongs_to_every_trial():
    (plain,) = trials("data=digits").values()
    (measured,) = trials(
        "data=digits", pieces=(written("a.py", "pieces.metric('top', lambda P, labels: P.max(axis=1))"),)
    ).values()
    assert measured.id != plain.id
    assert measured.params["pieces"].startswith("a.py@")


# --- the same numbers ---------------------------------------------------------------------------------------


def momentum(theta, grad, slots, step, hyper):
    (v,) = slots
    v *= hyper["momentum"]
    v += grad
    grad[:] = v * hyper["lr"]
    theta -= grad


def arrays():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (60, 12)), rng.integers(0, 4, 60)
    X[:, 3] = 0
    X, y = X.astype(np.uint8), y.astype(np.uint8)
    return type("Arrays", (), {"x_train": X[:45], "y_train": y[:45], "x_test": X[45:], "y_test": y[45:]})


def trained(recipe, lanes, engine, cut=False):
    """Return each lane's parameters and losses, trained in one segment or in segments of an epoch."""
    stack, records = start(recipe, lanes), []
    while stack.epoch < recipe.epochs:
        stack, more = advance(recipe, stack, arrays(), 0.0 if cut else float("inf"), engine=engine)
        records += more
    curves = {
        lane.key: [list(record.metrics.values()) for record in records if record.key == lane.key]
        for lane in stack.lanes
    }
    return {
        lane.key: (theta.tobytes(), curves[lane.key])
        for lane, theta in zip(stack.lanes, stack.theta, strict=True)
    }


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("mode", ["full", "mini", "sample"])
def test_a_lane_with_own_pieces_is_the_same_alone_in_a_stack_and_in_segments(engine, mode, guide):
    files.load(guide)
    exact = {kind: table.own for kind, table in registry.TABLES.items()}
    recipe = Recipe(
        Architecture(12, (7, 5), 4, (exact["activation"]["bent"], exact["activation"]["cosine"])),
        Batching(mode, 8 if mode == "mini" else None, shuffle=mode != "full"),
        exact["optimizer"]["heavy"],
        epochs=3,
        loss=exact["loss"]["hinge"],
        options=("schedule",),
        metrics=tuple(exact["metric"].values()),
    )
    distribution = f"sparse@{recipe.optimizer.partition('@')[2]}"
    schedule = Schedule(exact["schedule"]["sawtooth"])
    lanes = [
        Lane(str(k), k % 2, (0.3,) * 3, (("lr", 0.01 * (k + 1)), ("momentum", 0.5)), schedule=schedule)
        for k in range(3)
    ]
    lanes[1] = replace(lanes[1], distribution=distribution)
    together = trained(recipe, lanes, engine)
    assert together == trained(recipe, lanes, engine, cut=True)
    for lane in lanes:
        assert trained(recipe, [lane], engine)[lane.key] == together[lane.key]


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_an_own_copy_of_a_piece_gives_the_numbers_of_fnnexps(engine):
    pieces.optimizer("copied", momentum, slots=1, lr=0.1, momentum=0.9)
    pieces.activation("curved", lambda Z: np.tanh(Z), lambda Z, A: 1 - A * A)
    pieces.loss(
        "squared", lambda Z, T: 0.5 * ((Z - T) ** 2).sum(axis=1), lambda Z, T: Z - T, output="identity"
    )
    recipe = Recipe(
        Architecture(12, (7,), 4, "tanh"), Batching("mini", 8), "momentum", 3, loss="mse", output="identity"
    )
    own = replace(
        recipe,
        architecture=replace(recipe.architecture, activation=registry.TABLES["activation"].exact("curved")),
        optimizer=OPTIMIZERS.exact("copied"),
        loss=LOSSES.exact("squared"),
        output=None,
    )
    lanes = [Lane(str(k), k, (0.3, 0.3), (("lr", 0.05), ("momentum", 0.9))) for k in range(2)]
    for key, (theta, curve) in trained(recipe, lanes, engine).items():
        same_theta, same_curve = trained(own, lanes, engine)[key]
        np.testing.assert_allclose(np.array(same_curve), np.array(curve), rtol=1e-6)
        np.testing.assert_allclose(
            *(np.frombuffer(each, np.float32) for each in (same_theta, theta)), rtol=1e-5
        )


# --- what is refused ----------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)
BAD = {
    "initializer('he', lambda a, b: 1.0)": "fnnexp has a piece of this name",
    "initializer('My init', lambda a, b: 1.0)": "small letters",
    "initializer('null', lambda a, b: 1.0)": "null has another meaning in commands",
    "initializer(lambda a, b: 1.0)": r"write pieces.initializer\('mine'",
    "initializer('a', lambda a: 1.0)": r"must be a function of \(n_in, n_out\)",
    "initializer('a', lambda a, b: -1.0)": "returned -1.0 for n_in=784, n_out=100; it must return a standard",
    "initializer('a', lambda a, b: 1 / 0)": "raised ZeroDivisionError",
    "initializer('a', lambda a, b: RANDOM.random())": "must depend on its arguments alone",
    "initializer('a', lambda a, b, *, rng: RANDOM.random((a, b)))": "must depend on rng alone",
    "initializer('a', lambda a, b, *, rng: rng.random((b, a)))": r"an array of floats of shape \(784, 100\)",
    "initializer(3, 4)": "must be called with a name and a function",
    "activation('a', lambda Z: np.cos(Z))": "has no derivative",
    "activation('a', lambda Z: np.cos(Z), lambda Z: np.sin(Z))": "where finite differences give",
    "activation('a', lambda Z: Z / Z.sum(), lambda Z: 1 / Z.sum())": "must act on each element alone",
    "activation('a', lambda Z: np.tanh(Z, out=Z), lambda Z: Z)": "must return a new array",
    "activation('a', lambda Z: Z * np.float64(2), lambda Z: 2)": "write constants as Python numbers",
    "activation('a_2', lambda Z: Z * 2, lambda Z: 2)": "not end like _3 or _3x8",
    "activation('a_3x2', lambda Z: Z * 2, lambda Z: 2)": "not end like _3 or _3x8",
    "optimizer('a', lambda theta, grad, slots, step, hyper: theta - grad, lr=1)": "change theta in place",
    "optimizer('a', lambda theta, grad, slots, step, hyper: None, lr=1)": "theta is unchanged",
    "optimizer('a', momentum)": "has no lr",
    "optimizer('a', momentum, lr=1, alpha=2)": "alpha is not a known hyperparameter",
    "optimizer('a', momentum, lr='fast')": "lr='fast': must be a finite number",
    "optimizer('a', momentum, lr=1, momentum=0.9)": "not enough values to unpack",
    "optimizer('a', momentum, slots=-1, lr=1)": "must be a whole number from 0 to 8",
    "loss('a', lambda Z, T: ((Z - T) ** 2).mean(), lambda Z, T: Z - T)": r"floats of shape \(6,\)",
    "loss('a', lambda Z, T: ((Z - T) ** 2).sum(axis=1), lambda Z, T: Z - T)": "where finite differences give",
    "loss('a', lambda Z, T: Z.sum(axis=1))": "has no gradient",
    "loss('a', lambda Z, T: Z[:, 0], lambda Z, T: Z, output='tanh')": "output='tanh': must be one of",
    "schedule('a', lambda step: 1)": r"must be a function of \(step, steps\)",
    "schedule('a', lambda step, steps: -1)": "a finite number of at least 0",
    "schedule('a', lambda step, steps: RANDOM.random())": "when it was called again",
    "dataset('a', lambda n: n)": r"must be a function of \(\)",
    "dataset('a', lambda: 1, scale='huge')": "scale='huge': must be one of unit",
    "metric('loss', lambda P, labels: P[:, 0])": "fnnexp has a piece of this name",
    "metric('a', lambda P, labels: P.max())": "and not their mean",
    "metric('a', lambda P, labels: P.max(axis=1) - P.max())": "must depend on this row alone",
    "section('a', lambda: 1)": r"must be a function of \(runs\)",
}


@pytest.mark.parametrize("call", BAD)
def test_a_piece_that_does_not_do_its_part_is_refused(call):
    file = written("a.py", f"from test_pieces import RANDOM, momentum\n\npieces.{call}\n")
    with pytest.raises(ConfigError, match=BAD[call]):
        files.load(file)
    assert not registry.ANNOUNCED


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("1 / 0", "raised ZeroDivisionError"),
        (
            "np.zeros(3)",
            "must return x_train, y_train, x_test, y_test, as NumPy arrays; it returned a ndarray",
        ),
        ("(np.zeros((9, 2)), np.zeros(9)) * 2", "data=a"),
        ("(r := np.random.default_rng()) and (r.random((9, 2)), np.arange(9) % 2) * 2", "called again"),
    ],
)
def test_a_data_set_that_is_none_is_refused(returned, problem):
    file = written("a.py", f"@pieces.dataset(scale='raw')\ndef a():\n    return {returned}\n")
    with pytest.raises(FnnexpError, match=problem):
        compose(Command(overrides=("data=a",), pieces=(file,)))


def test_a_file_that_cannot_be_used_is_refused(monkeypatch):
    good = written("good.py", "pieces.initializer('mine', lambda a, b: 1 / a)")
    checksum = files.load(good)
    assert re.fullmatch("good.py#sha256=[0-9a-f]{16}", checksum)
    assert files.load(checksum) == checksum
    bad = {
        "absent.py": "does not exist",
        "good.py#sha256=12345678": "the file has changed, and its checksum is now",
        "good.py#sha256=1": "at least 8 digits",
        written("empty.py", ""): "announces no piece",
        written("syntax.py", "def ("): "line 3: ",
        written(
            "raises.py", "pieces.initializer('b', lambda a, b: 1 / a)\n1 / 0"
        ): "line 4: ZeroDivisionError",
        written("exits.py", "exit(3)"): "SystemExit",
        written("twin.py", "pieces.initializer('mine', lambda a, b: 1 / b)"): "both announce it",
        written(
            "twice.py", "for k in (1, 2):\n    pieces.schedule('s', lambda step, n: k)"
        ): "announces it twice",
        written(
            "beside.py", "import of_mine\npieces.initializer('c', lambda a, b: 1 / a)"
        ): "from a file in the same",
        written("loads.py", "pieces.load('good.py')"): "cannot load another",
        written(
            "sweeps.py", "import fnnexp\nfnnexp.sweep(epochs=0)"
        ): "cannot run a sweep while it is loaded",
    }
    written("of_mine.py", "")
    monkeypatch.syspath_prepend(".")
    for file, problem in bad.items():
        with pytest.raises(ConfigError, match=problem):
            files.load(file)
    sys.modules.pop("of_mine")
    assert {name for _, name in registry.ANNOUNCED} == {"mine"}


LOADS = "import pickle, sys; assert len(pickle.loads(sys.stdin.buffer.read())) == 5"


def test_all_that_can_be_called_can_be_a_piece():
    file = written(
        "a.py",
        """
from functools import partial
from scipy.special import expit

class Scaled:
    def __init__(self, scale):
        self.scale = scale
    def __call__(self, n_in, n_out):
        return self.scale / n_in

pieces.initializer("scaled", Scaled(2.0))
pieces.initializer("part", partial(lambda scale, n_in, n_out: scale / n_in, 2.0))
pieces.activation("expit", expit, lambda Z, A: A * (1 - A))
pieces.activation("logistic", lambda Z: expit(Z), lambda Z, A: A * (1 - A))
pieces.activation("cosine", np.cos, lambda Z: -np.sin(Z))
""",
    )
    files.load(file)
    assert INITIALIZERS["scaled"].formula(4, 1) == INITIALIZERS["part"].formula(4, 1) == 0.5
    content = registry.shipped().content
    assert len(content) < 20_000  # NumPy is not part of it
    assert subprocess.run([sys.executable, "-c", LOADS], input=content, check=False).returncode == 0


SQUARES = "lambda Z, T: ((Z - T) ** 2).sum(axis=1)"
LARGE = np.ones((2, 60, 3), np.float32)
LATE = {
    "activation('a', lambda Z: Z[:, :1] if len(Z) > 50 else Z * 1, lambda Z: 1)": (
        lambda: registry.TABLES["activation"]["a"].forward(LARGE.copy()),
        r"activation 'a': returned an array of shape \(60, 1\); it must return an array of shape \(60, 3\)",
    ),
    "activation('a', lambda Z: Z * 1, lambda Z: Z[:1] * 0 + 1 if len(Z) > 50 else 1)": (
        lambda: registry.TABLES["activation"]["a"].derivative(LARGE, LARGE, LARGE.copy()),
        "activation 'a', its derivative: returned an array of shape",
    ),
    f"loss('a', {SQUARES}, lambda Z, T: 2 * (Z - T) if len(Z) < 50 else 1 / 0)": (
        lambda: LOSSES["a"]["softmax"].gradient(LARGE.copy(), LARGE, 0, LARGE),
        r"loss 'a', its gradient raised ZeroDivisionError: division by zero \(a.py, line 3\)",
    ),
    "schedule('a', lambda step, steps: 1 if steps < 50 else float('nan'))": (
        lambda: registry.TABLES["schedule"]["a"].factor(np.arange(2), 60, 1, {}),
        r"schedule 'a': returned nan for \(0, 60\); it must return a finite number of at least 0",
    ),
    "initializer('a', lambda a, b, *, rng: rng.random((1 if a == 64 else a, b)))": (
        lambda: DISTRIBUTIONS[INITIALIZERS["a"].distribution](RANDOM, (64, 3)),
        r"initializer 'a': returned an array of shape \(1, 3\)",
    ),
    "initializer('a', lambda a, b: 1.0 if (a, b) != (100, 11) else 1 / 0)": (
        lambda: compose(Command(overrides=("init=a", "arch.hidden=[100,11]", "data=digits"))).trials[0].stds,
        r"initializer 'a': \(100, 11\) raised ZeroDivisionError: division by zero \(a.py, line 3\)",
    ),
    "metric('a', lambda P, labels: P.max(axis=1) if len(P) < 50 else exit(3))": (
        lambda: registry.TABLES["metric"]["a"](LARGE[0], LARGE[0, :, 0]),
        r"metric 'a' raised SystemExit: 3 \(a.py, line 3\)",
    ),
    "metric('a', lambda P, labels: P.max(axis=1) if len(P) < 50 else P.sort())": (
        lambda: registry.TABLES["metric"]["a"](LARGE[0], LARGE[0, :, 0]),
        "metric 'a' raised ValueError: .*read-only",
    ),
}


@pytest.mark.parametrize("call", LATE)
def test_a_piece_that_fails_after_its_checks_is_named(call):
    use, problem = LATE[call]
    files.load(written("a.py", f"pieces.{call}"))
    with pytest.raises(FnnexpError, match=problem):
        use()


def test_a_file_leaves_the_world_as_it_was():
    changes = """
        import os, random, sys, warnings
        def change():
            os.chdir("/")
            os.environ["CHANGED"] = "1"
            sys.argv[:], sys.path[:] = [], []
            warnings.simplefilter("error")
            np.seterr(all="raise")
            np.random.seed(1)
            random.seed(1)
        def changes(Z):
            change()
            return Z * 1
        change()
        pieces.activation("a", changes, lambda Z: 1)
    """
    changes = "\n".join(line[8:] for line in changes.splitlines())

    def world():
        numbers = np.random.get_state()[1].tobytes()  # noqa: NPY002
        state = numbers, random.getstate(), np.geterr(), list(warnings.filters)
        return Path.cwd(), dict(os.environ), list(sys.argv), list(sys.path), *state

    before = world()
    files.load(written("a.py", changes))
    assert world() == before


def announced_in_cells(*cells):
    """Run notebook cells, and return the exact name of the activation 'a' that they announce."""
    names = {}
    for number, text in enumerate(cells):
        file = f"<cell {number} of {hash(cells)}>"
        cell = CELL + text
        linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
        exec(compile(cell, file, "exec"), names)
    return registry.TABLES["activation"].exact("a")


def test_a_cell_counts_with_what_it_uses_from_other_cells():
    piece = "pieces.activation('a', lambda Z: scale * curve(Z), slope)"
    rest = "slope = lambda Z: scale * (1 - np.tanh(Z) ** 2)\ncurve = lambda Z: np.tanh(Z)"
    versions = [
        ("scale = 2", rest, piece),
        ("scale = 3", rest, piece),
        ("scale = 2", rest.replace("1 -", "1.0 -"), piece),
        ("scale = 2", rest.replace("= lambda Z: np.tanh", "= lambda Z: 1 * np.tanh"), piece),
    ]
    assert len({announced_in_cells(*cells) for cells in versions}) == 4
    assert announced_in_cells(*versions[0]) == announced_in_cells("unused = 1", "scale = 2", rest, piece)


def test_a_variable_that_changes_later_changes_no_piece():
    scale = 2

    def forward(Z):
        return scale * Z

    pieces.activation("a", forward, lambda Z: scale)
    scale, Z = 3, np.ones((1, 2, 2))
    registry.TABLES["activation"]["a"].forward(Z)
    assert (Z == 2).all()


def test_a_name_that_was_not_announced_is_refused_with_those_that_were():
    file = written("a.py", "pieces.initializer('mine', lambda a, b: 1 / a)")
    with pytest.raises(ConfigError, match="Did you mean 'mine'"):
        compose(Command(overrides=("init.method=mines", "init=mine", "data=digits"), pieces=(file,)))
