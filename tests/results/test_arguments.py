"""Frames that came another way: read back from a file, joined, in percent, with columns of one's own."""

import doctest
import io
import warnings
from pathlib import Path

import pandas as pd
import pytest
from test_comparisons import grid

import fnnexp
from fnnexp.results import arguments
from fnnexp.results import frames as made

OF_RUNS = ("leaderboard", "answer", "compare", "shares")


@pytest.fixture(scope="module")
def reported(tmp_path_factory, invoke, shared_cache):
    """Sweep and report; return the folder, the frames, and what is said of them."""
    folder = tmp_path_factory.mktemp("reported")
    grid = (
        "init=he,max",
        "batching=full,mini",
        "seed=range(3)",
        "optimizer.lr=0.1,0.5",
        "data.validation=200",
    )
    assert invoke("-m", "data=digits", "epochs=2", "execution.n_jobs=1", *grid, cwd=folder).status == 0
    assert invoke("report", "fnnexp", cwd=folder).status == 0
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    runs, curves = (each("fnnexp", tracking_uri=uri) for each in (fnnexp.runs, fnnexp.curves))
    return folder, runs, curves, said(runs)


def said(runs):
    """Return what the public functions say of a frame."""
    told = [getattr(fnnexp, name)(runs) for name in ("leaderboard", "answer", "compare", "shares")]
    return told + [fnnexp.compare(runs, factor) for factor in ("init", "optimizer.lr")]


BACKENDS = {
    "pandas' own types": {},
    "nullable types": {"dtype_backend": "numpy_nullable"},
    "Arrow's types": {"dtype_backend": "pyarrow"},
    "with an index of its own": {"index_col": "run_id"},
}


@pytest.mark.parametrize("how", BACKENDS)
def test_the_reports_own_files_read_back_say_what_the_store_says(how, reported):
    if how == "Arrow's types":
        pytest.importorskip("pyarrow")
    folder, runs, curves, expected = reported
    files = folder / "reports" / "fnnexp"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = pd.read_csv(files / "runs.csv", **BACKENDS[how])
        of_curves = pd.read_csv(files / "curves.csv", **{**BACKENDS[how], "index_col": None})
        told = said(read)
        one = read["optimizer.lr"].astype("float64") == 0.1
        pictures = fnnexp.plot_curves(read[one], of_curves), fnnexp.plot_heat_map(read[one])
    for mine, its in zip(told, expected, strict=True):
        if isinstance(its, str):
            assert mine == its
        else:
            pd.testing.assert_frame_equal(mine, its, check_dtype=False, check_categorical=False)
    same = runs["optimizer.lr"] == 0.1
    for mine, its in zip(
        pictures, (fnnexp.plot_curves(runs[same], curves), fnnexp.plot_heat_map(runs[same])), strict=True
    ):
        for ax, other in zip(mine.axes, its.axes, strict=True):
            assert [text.get_text() for text in ax.texts] == [text.get_text() for text in other.texts]
            lines = [[line.get_xydata() for line in each.lines] for each in (ax, other)]
            assert [line.tolist() for line in lines[0]] == [pytest.approx(line) for line in lines[1]]


def test_frames_as_they_were_made_are_left_as_they_are(reported):
    _, runs, curves, _ = reported
    for name, frame in (("runs", runs), ("curves", curves)):
        for part in (frame, frame[:1], frame[frame["init"] == "he"].reset_index(drop=True), frame[:0]):
            pd.testing.assert_frame_equal(arguments.restore_types(part, name), part)


def test_the_frames_of_two_experiments_are_joined_by_the_call_that_is_advised(reported, invoke, monkeypatch):
    folder, runs, _, (alone, *_) = reported
    more = ("init=he,xavier", "batching=mini", "seed=range(3)", "optimizer.lr=0.1", "data.validation=200")
    how = ("data=digits", "epochs=2", "execution.n_jobs=1", "tracking.experiment=more")
    assert invoke("-m", *how, *more, cwd=folder).status == 0
    monkeypatch.chdir(folder)
    with pytest.raises(fnnexp.FnnexpError) as error:
        fnnexp.runs(["fnnexp", "more"])
    assert "fnnexp.runs reads one experiment, and not ['fnnexp', 'more']; pd.concat(" in str(error.value)
    advised = str(error.value).partition("; ")[2].removesuffix(" joins several")
    both = eval(advised, {"fnnexp": fnnexp, "pd": pd})
    assert len(both) == len(runs) + 6
    board = fnnexp.leaderboard(both)
    assert board["seeds"].tolist() == [3] * 9  # three of the six were trained in both, and count once
    assert board["init"].cat.categories.to_list() == ["max", "xavier", "he"]  # as documented
    by = ["init", "batching", "optimizer.lr"]
    numbers = [each.astype({"init": "str"}).set_index(by)["val_accuracy"] for each in (alone, board)]
    assert numbers[1][numbers[0].index].tolist() == numbers[0].tolist()


@pytest.mark.parametrize("experiment", [None, 3, Path("fnnexp"), ["a"], []])
@pytest.mark.parametrize("function", ["runs", "curves", "diagnostics"])
def test_what_names_no_experiment_is_refused(function, experiment):
    with pytest.raises(
        fnnexp.FnnexpError, match=rf"fnnexp\.{function} reads one experiment, and not"
    ) as error:
        getattr(fnnexp, function)(experiment)
    assert repr(experiment) in str(error.value)


def of_curves(runs):
    return runs[["trial"]].assign(epoch=1, metric="test_accuracy", value=runs["test_accuracy"])


@pytest.mark.parametrize("name", [*OF_RUNS, "plot_heat_map", "plot_curves"])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test_accuracy": 97.3}, "test_accuracy is 97.3 in runs, and an accuracy is a share, from 0 to 1"),
        ({"val_accuracy": -0.5}, "val_accuracy is -0.5 in runs"),
        ({"test_accuracy": "97.3%"}, r"runs\['test_accuracy'\] must hold numbers: .*97\.3%"),
        ({"status": "done"}, r"runs\['status'\] must hold finished, diverged, .*: 'done' is none of them"),
        ({"seed": 0.5}, r"runs\['seed'\] must hold whole numbers"),
        ({"started": "yesterday"}, r"runs\['started'\] must hold times: .*yesterday"),
    ],
)
def test_what_a_column_can_not_hold_is_refused(name, changed, said):
    runs = grid(2).assign(**changed)
    with pytest.raises(fnnexp.FnnexpError, match=said):
        getattr(fnnexp, name)(*((runs, of_curves(grid(2))) if name == "plot_curves" else (runs,)))


def test_percent_is_mended_by_what_is_written_in_the_message():
    runs, curves = grid(2), of_curves(grid(2))
    in_percent, points = runs.assign(test_accuracy=100 * runs["test_accuracy"]), curves.copy()
    points["value"] *= 100
    for given, of, expected in (
        ("runs", lambda: fnnexp.answer(in_percent), runs["test_accuracy"]),
        ("curves", lambda: fnnexp.plot_curves(runs, points, "test_accuracy"), curves["value"]),
    ):
        with pytest.raises(fnnexp.FnnexpError, match="in percent, write ") as error:
            of()
        exec(str(error.value).partition("in percent, write ")[2], {"runs": in_percent, "curves": points})
        mended = {"runs": in_percent["test_accuracy"], "curves": points["value"]}[given]
        assert mended.tolist() == pytest.approx(expected.tolist())
        of()


def test_a_column_that_is_there_twice_is_refused_unless_it_is_ones_own():
    runs = grid(2)
    twice = pd.concat([runs, runs[["seed"]]], axis=1)
    with pytest.raises(fnnexp.FnnexpError, match="and not one with two columns seed; write"):
        fnnexp.answer(twice)
    mine = pd.concat([runs, pd.DataFrame([[1, 2]] * len(runs), runs.index, ["mine", "mine"])], axis=1)
    assert fnnexp.answer(mine) == fnnexp.answer(runs)


def test_a_param_has_the_type_of_its_values_whatever_read_them():
    texts = "size,shuffle,lr,hidden\n128,True,0.5,[8]\n,,1.0,\n"
    names = {name: f"{group}.{name}" for name, group in (
        ("size", "batching"), ("shuffle", "batching"), ("lr", "optimizer"), ("hidden", "arch"))}  # fmt: skip
    for backend in ("numpy_nullable", "pyarrow"):
        if backend == "pyarrow":
            pytest.importorskip("pyarrow")
        read = pd.read_csv(io.StringIO(texts), dtype_backend=backend).rename(columns=names)
        kinds = arguments.restore_types(read, "runs").dtypes.astype("str").to_dict()
        assert [kinds[name] for name in names.values()] == [
            "Int64",
            "boolean",
            "float64",
            str(pd.Series(dtype="str").dtype),
        ]
    read = pd.read_csv(io.StringIO(texts)).rename(columns=names)  # where a lack makes objects, and floats
    assert str(arguments.restore_types(read, "runs")["batching.shuffle"].dtype) == "boolean"


@pytest.mark.parametrize("module", [arguments, made])
def test_the_examples_are_right(module):
    assert doctest.testmod(module).failed == 0


def test_a_column_that_begins_like_a_key_makes_no_configuration():
    runs = grid(3)
    mine = runs.assign(**{"arch.gap": range(len(runs)), "optimizer.lr_eff": 0.1})
    assert fnnexp.answer(mine) == fnnexp.answer(runs)
    pd.testing.assert_frame_equal(fnnexp.compare(mine), fnnexp.compare(runs))


def test_a_finished_trial_without_a_result_is_no_leader():
    runs = grid(3)
    metric = made.ranking(runs)
    worst = runs[metric].idxmin()
    lost = runs.assign(**{metric: runs[metric].mask(runs.index == worst)})
    assert "nan" not in fnnexp.answer(lost)
    assert fnnexp.compare(lost)["a"].iloc[0] == fnnexp.compare(runs)["a"].iloc[0]
