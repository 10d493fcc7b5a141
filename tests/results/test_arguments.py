"""Frames from other sources: read back from a file, concatenated, in percent, or with own columns."""

import io
import warnings
from pathlib import Path

import pandas as pd
import pytest
from test_comparisons import grid

import fnnexp
from fnnexp.results import arguments, frames

FUNCTIONS_OF_RUNS = ("leaderboard", "answer", "compare", "shares")


@pytest.fixture(scope="module")
def reported(tmp_path_factory, invoke, empty_store, undrawn):
    """Run a sweep and a report without figures; return the folder, the frames and the results of the runs."""
    folder = tmp_path_factory.mktemp("reported")
    empty_store(folder)
    settings = (
        "init=he,max",
        "batching=full,mini",
        "seed=range(3)",
        "optimizer.lr=0.1,0.5",
        "data.validation=200",
    )
    assert invoke("-m", "data=digits", "epochs=2", "execution.n_jobs=1", *settings, cwd=folder).status == 0
    with undrawn():
        assert invoke("report", "digits", cwd=folder).status == 0
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    runs, curves = (read("digits", tracking_uri=uri) for read in (fnnexp.runs, fnnexp.curves))
    return folder, runs, curves, all_results(runs)


def all_results(runs):
    """Return what the public functions compute from a frame of runs."""
    results = [getattr(fnnexp, name)(runs) for name in ("leaderboard", "answer", "compare", "shares")]
    return results + [fnnexp.compare(runs, factor) for factor in ("init", "optimizer.lr")]


READERS = {
    "pandas' own types": {},
    "nullable types": {"dtype_backend": "numpy_nullable"},
    "Arrow's types": {"dtype_backend": "pyarrow"},
    "with an index of its own": {"index_col": "run_id"},
}


@pytest.mark.long
@pytest.mark.parametrize("reader", READERS)
def test_frames_read_back_from_report_files_give_the_results_of_the_store(reader, reported):
    if reader == "Arrow's types":
        pytest.importorskip("pyarrow")
    folder, runs, curves, expected = reported
    files = folder / "reports" / "digits"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = pd.read_csv(files / "runs.csv", **READERS[reader])
        read_curves = pd.read_csv(files / "curves.csv", **{**READERS[reader], "index_col": None})
        results = all_results(read)
        selected = read["optimizer.lr"].astype("float64") == 0.1
        figures = fnnexp.plot_curves(read[selected], read_curves), fnnexp.plot_heat_map(read[selected])
    for actual, wanted in zip(results, expected, strict=True):
        if isinstance(wanted, str):
            assert actual == wanted
        else:
            pd.testing.assert_frame_equal(actual, wanted, check_dtype=False, check_categorical=False)
    same = runs["optimizer.lr"] == 0.1
    for actual, wanted in zip(
        figures, (fnnexp.plot_curves(runs[same], curves), fnnexp.plot_heat_map(runs[same])), strict=True
    ):
        for ax, other in zip(actual.axes, wanted.axes, strict=True):
            assert [text.get_text() for text in ax.texts] == [text.get_text() for text in other.texts]
            lines = [[line.get_xydata() for line in axes.lines] for axes in (ax, other)]
            assert [line.tolist() for line in lines[0]] == [pytest.approx(line) for line in lines[1]]


def test_frames_with_the_right_types_are_not_changed(reported):
    _, runs, curves, _ = reported
    for name, frame in (("runs", runs), ("curves", curves)):
        for part in (frame, frame[:1], frame[frame["init"] == "he"].reset_index(drop=True), frame[:0]):
            pd.testing.assert_frame_equal(arguments.restore_types(part, name), part)


def test_the_advised_call_concatenates_two_experiments(reported, invoke, monkeypatch):
    folder, runs, _, (alone, *_) = reported
    grid = ("init=he,xavier", "batching=mini", "seed=range(3)", "optimizer.lr=0.1", "data.validation=200")
    settings = ("data=digits", "epochs=2", "execution.n_jobs=1", "tracking.experiment=more")
    assert invoke("-m", *settings, *grid, cwd=folder).status == 0
    monkeypatch.chdir(folder)
    with pytest.raises(fnnexp.FnnexpError) as error:
        fnnexp.runs(["digits", "more"])
    assert "fnnexp.runs reads one experiment, not ['digits', 'more']; pd.concat(" in str(error.value)
    advised = str(error.value).partition("; ")[2].removesuffix(" joins several")
    both = eval(advised, {"fnnexp": fnnexp, "pd": pd})
    assert len(both) == len(runs) + 6
    board = fnnexp.leaderboard(both)
    assert board["seeds"].tolist() == [3] * 9  # three of the six trials are in both, and count once
    assert board["init"].cat.categories.to_list() == ["max", "xavier", "he"]  # as documented
    by = ["init", "batching", "optimizer.lr"]
    numbers = [frame.astype({"init": "str"}).set_index(by)["val_accuracy"] for frame in (alone, board)]
    assert numbers[1][numbers[0].index].tolist() == numbers[0].tolist()


@pytest.mark.parametrize("experiment", [None, 3, Path("digits"), ["a"], []])
@pytest.mark.parametrize("function", ["runs", "curves", "diagnostics"])
def test_anything_but_one_name_of_an_experiment_is_refused(function, experiment):
    with pytest.raises(fnnexp.FnnexpError, match=rf"fnnexp\.{function} reads one experiment, not") as error:
        getattr(fnnexp, function)(experiment)
    assert repr(experiment) in str(error.value)


def test_a_frame_in_place_of_a_name_is_not_printed():
    with pytest.raises(
        fnnexp.FnnexpError, match="reads an experiment by its name, and was given a frame"
    ) as error:
        fnnexp.curves(grid(2))
    assert len(str(error.value)) < 300


def test_parts_of_curves_in_place_of_the_frame_are_refused_with_the_reason():
    with pytest.raises(fnnexp.FnnexpError, match=r"as fnnexp\.curves returns with chunksize; omit"):
        fnnexp.plot_curves(grid(2), iter([]))


def of_curves(runs):
    return runs[["trial"]].assign(epoch=1, metric="test_accuracy", value=runs["test_accuracy"])


@pytest.mark.parametrize("name", [*FUNCTIONS_OF_RUNS, "plot_heat_map", "plot_curves"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test_accuracy": 97.3}, "test_accuracy is 97.3 in runs, but an accuracy is a fraction from 0 to 1"),
        ({"val_accuracy": -0.5}, "val_accuracy is -0.5 in runs"),
        ({"test_accuracy": "97.3%"}, r"runs\['test_accuracy'\] must contain numbers: .*97\.3%"),
        ({"status": "done"}, r"runs\['status'\] must contain finished, .*: 'done' is not a status"),
        ({"seed": 0.5}, r"runs\['seed'\] must contain whole numbers"),
        ({"started": "yesterday"}, r"runs\['started'\] must contain times: .*yesterday"),
    ],
)
def test_invalid_values_in_a_column_are_refused(name, changed, message):
    runs = grid(2).assign(**changed)
    with pytest.raises(fnnexp.FnnexpError, match=message):
        getattr(fnnexp, name)(*((runs, of_curves(grid(2))) if name == "plot_curves" else (runs,)))


def test_the_advised_statement_converts_percent():
    runs, curves = grid(2), of_curves(grid(2))
    in_percent, curves_in_percent = runs.assign(test_accuracy=100 * runs["test_accuracy"]), curves.copy()
    curves_in_percent["value"] *= 100
    for name, call, expected in (
        ("runs", lambda: fnnexp.answer(in_percent), runs["test_accuracy"]),
        ("curves", lambda: fnnexp.plot_curves(runs, curves_in_percent, "test_accuracy"), curves["value"]),
    ):
        with pytest.raises(fnnexp.FnnexpError, match="in percent, write ") as error:
            call()
        exec(
            str(error.value).partition("in percent, write ")[2],
            {"runs": in_percent, "curves": curves_in_percent},
        )
        converted = {"runs": in_percent["test_accuracy"], "curves": curves_in_percent["value"]}[name]
        assert converted.tolist() == pytest.approx(expected.tolist())
        call()


def test_a_duplicated_column_is_refused_unless_it_is_an_own_column():
    runs = grid(2)
    twice = pd.concat([runs, runs[["seed"]]], axis=1)
    with pytest.raises(fnnexp.FnnexpError, match="not a frame with two columns seed; write"):
        fnnexp.answer(twice)
    mine = pd.concat([runs, pd.DataFrame([[1, 2]] * len(runs), runs.index, ["mine", "mine"])], axis=1)
    assert fnnexp.answer(mine) == fnnexp.answer(runs)


def test_a_param_has_the_type_of_its_values_whatever_reader_was_used():
    texts = "size,shuffle,lr,hidden\n128,True,0.5,[8]\n,,1.0,\n"
    names = {name: f"{group}.{name}" for name, group in (
        ("size", "batching"), ("shuffle", "batching"), ("lr", "optimizer"), ("hidden", "arch"))}  # fmt: skip
    for backend in ("numpy_nullable", "pyarrow"):
        if backend == "pyarrow":
            pytest.importorskip("pyarrow")
        read = pd.read_csv(io.StringIO(texts), dtype_backend=backend).rename(columns=names)
        dtypes = arguments.restore_types(read, "runs").dtypes.astype("str").to_dict()
        assert [dtypes[name] for name in names.values()] == [
            "Int64",
            "boolean",
            "float64",
            str(pd.Series(dtype="str").dtype),
        ]
    read = pd.read_csv(io.StringIO(texts)).rename(columns=names)  # a missing value makes objects or floats
    assert str(arguments.restore_types(read, "runs")["batching.shuffle"].dtype) == "boolean"


def test_own_columns_named_like_a_config_section_do_not_define_configurations():
    runs = grid(3)
    mine = runs.assign(**{"arch.gap": range(len(runs)), "optimizer.lr_eff": 0.1})
    assert fnnexp.answer(mine) == fnnexp.answer(runs)
    pd.testing.assert_frame_equal(fnnexp.compare(mine), fnnexp.compare(runs))


def test_a_finished_trial_without_a_result_does_not_lead():
    runs = grid(3)
    metric = frames.ranking(runs)
    worst = runs[metric].idxmin()
    lost = runs.assign(**{metric: runs[metric].mask(runs.index == worst)})
    assert "nan" not in fnnexp.answer(lost)
    assert fnnexp.compare(lost)["a"].iloc[0] == fnnexp.compare(runs)["a"].iloc[0]
