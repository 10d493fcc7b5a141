"""Tables of images and of published numbers, and the functions of the Python API on frames."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import fnnexp
from fnnexp import console as notebook
from fnnexp.config.schema import conf_folder
from fnnexp.reporting.replication import published
from fnnexp.results import arguments, comparisons

SMALL = {"data": "digits", "epochs": 1, "execution.n_jobs": 1}


def test_the_table_has_scikit_learns_images_with_a_label_and_a_column_per_pixel():
    table, digits = fnnexp.images("digits"), load_digits()
    assert list(table.columns[:3]) == ["label", "1x1", "1x2"]
    assert list(table.columns[28:30]) == ["1x28", "2x1"]
    assert table.columns[-1] == "28x28"
    assert set(map(str, table.dtypes)) == {"uint8"}
    assert table["label"].tolist() == digits.target[:1437].tolist()
    # Each 8x8 pixel is a block of 3x3 inside a margin of two: pixel (3, 4) starts at row 12, column 15.
    assert table["12x15"].tolist() == np.round(digits.images[:1437, 3, 4] * 255 / 16).tolist()
    assert table.isna().sum().sum() == 0
    test = fnnexp.images("digits", "test")
    assert test["label"].tolist() == digits.target[1437:].tolist()
    pd.testing.assert_frame_equal(fnnexp.images("digits", rows=3), table.head(3))


def test_the_table_of_mnist_has_one_byte_per_value(mnist):
    table = fnnexp.images("mnist", path=mnist)
    assert table.shape == (60_000, 785)
    assert table.memory_usage(index=False).sum() == 60_000 * 785
    with np.load(mnist) as arrays:
        assert (table["label"].to_numpy() == arrays["y_train"]).all()
        assert (table.drop(columns="label").to_numpy() == arrays["x_train"].reshape(60_000, 784)).all()


def test_changing_the_table_of_images_does_not_change_the_data(own_folder):
    table = fnnexp.images("digits", rows=2)
    table.loc[0, "1x1"] = 7
    assert fnnexp.images("digits", rows=2).loc[0, "1x1"] == 0


def test_images_that_are_not_square_have_numbered_pixels(own_folder):
    rng = np.random.default_rng(0)
    arrays = {f"x_{s}": rng.integers(0, 255, (12, 2, 3), dtype=np.uint8) for s in ("train", "test")}
    np.savez(
        "wide.npz", **arrays, y_train=np.arange(12, dtype=np.uint8), y_test=np.arange(12, dtype=np.uint8)
    )
    table = fnnexp.images("files", path=Path("wide.npz"))
    assert list(table.columns) == ["label", "1", "2", "3", "4", "5", "6"]
    assert table.loc[3, "5"] == arrays["x_train"][3, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "digit"}, "Did you mean 'digits'?"),
        ({"data": "digits", "split": "val"}, "it can be train or test"),
        ({"data": "digits", "rows": -1}, "must be 0 or more"),
    ],
)
def test_invalid_arguments_of_images_are_refused(arguments, message):
    with pytest.raises(fnnexp.FnnexpError, match=message):
        fnnexp.images(**arguments)


def test_the_published_table_has_the_numbers_of_the_file_and_types():
    table = fnnexp.published()
    with (Path(published.__file__).parent / "published.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(table) == len(rows) + len(published.classics())
    for record, row in zip(table[: len(rows)].to_dict("records"), rows, strict=True):
        assert (record["experiment"], record["run"], record["split"]) == (
            row["experiment"],
            row["run"],
            row["split"],
        )
        assert record["epoch"] == int(row["epoch"])
        for number in ("loss", "accuracy"):
            assert record[number] == float(row[number]) if row[number] else np.isnan(record[number])
    assert all(table[column].cat.ordered for column in ("experiment", "run", "split"))
    assert [str(table[column].dtype) for column in ("epoch", "loss", "accuracy")] == [
        "Int64",
        "float64",
        "float64",
    ]
    presets = {file.stem for file in (conf_folder() / "experiment").glob("*.yaml")}
    assert set(table["experiment"]) <= presets


@pytest.fixture(scope="module")
def swept(empty_store, tmp_path_factory):
    """Return a folder with the store of a sweep, and the trials of the sweep."""
    folder = tmp_path_factory.mktemp("swept")
    empty_store(folder)
    with contextlib.chdir(folder):
        return folder, fnnexp.sweep(init=["max", "he"], batching=["full", "mini"], seed=range(2), **SMALL)


@pytest.fixture
def runs(swept, monkeypatch):
    monkeypatch.chdir(swept[0])
    return swept[1].copy()


def test_functions_of_the_api_accept_any_part_of_a_frame(runs):
    assert fnnexp.leaderboard(runs)["val_accuracy"].is_monotonic_decreasing
    pairs = fnnexp.compare(runs, "init")
    means = runs.groupby("init", observed=True)["val_accuracy"].mean()
    assert pairs["a"].tolist() == [means.idxmax()]
    assert pairs["difference"].item() == pytest.approx(means.max() - means.min())
    assert pairs["cells"].item() == 2
    pd.testing.assert_frame_equal(fnnexp.compare(runs), comparisons.with_leader(runs))
    assert fnnexp.shares(runs)["share"].sum() == pytest.approx(1)
    mini = runs[runs["batching"] == "mini"]
    assert fnnexp.compare(mini, "init")["cells"].item() == 1
    assert set(fnnexp.shares(mini)["effect"]) == {"init", "seed"}
    assert fnnexp.shares(runs[1:2]).attrs["about"].startswith("No factor varies")
    with pytest.raises(
        fnnexp.FnnexpError,
        match=r"is not a factor of these .*; the factors that vary are init, batching\. Did you mean 'init'",
    ):
        fnnexp.compare(runs, "inti")


def test_an_answer_is_text_with_paragraphs_in_a_notebook(runs):
    answer = fnnexp.answer(runs)
    assert f"\n{fnnexp.compare(runs)['a'].iloc[0]} leads with " in answer
    assert answer._repr_markdown_().count("\n\n") == answer.count("\n")
    assert fnnexp.answer(runs[:0]) == "No trial has finished, so there is no answer yet."


def test_a_notebook_shows_figures_enlarged_and_on_white(runs, monkeypatch):
    shown = []
    monkeypatch.setattr(notebook, "picture", lambda *args: shown.append(args))
    curves = fnnexp.curves("digits")
    for figure in (fnnexp.plot_curves(runs[:1], curves), fnnexp.plot_curves(runs, curves, "train_loss")):
        figure._ipython_display_()
    fnnexp.plot_heat_map(runs)._ipython_display_()
    for png, width, height in shown:
        image = Image.open(io.BytesIO(png)).convert("RGBA")
        assert image.getpixel((0, 0)) == (255, 255, 255, 255)
        assert image.width == pytest.approx(2 * width, abs=4)
        assert image.height == pytest.approx(2 * height, abs=4)
        assert 600 <= width <= 1000
    assert len(shown) == 3


def test_trials_that_one_figure_cannot_show_are_refused(runs):
    curves = fnnexp.curves("digits")
    aside = SMALL | {"tracking.experiment": "aside"}
    rates = fnnexp.sweep("init=max", **aside, **{"optimizer.lr": [0.2, 0.3]})
    with pytest.raises(
        fnnexp.FnnexpError, match=r"differ in optimizer.lr.*runs\[runs\['optimizer.lr'\] == 0.2\]"
    ):
        fnnexp.plot_curves(rates, curves)
    with pytest.raises(fnnexp.FnnexpError, match="must be one of train_loss, "):
        fnnexp.plot_curves(runs, curves, "accuracy")
    with pytest.raises(fnnexp.FnnexpError, match="must be an accuracy"):
        fnnexp.plot_heat_map(runs, "val_loss")
    without = fnnexp.sweep("init=max", **aside, **{"data.validation": 0})
    with pytest.raises(fnnexp.FnnexpError, match="none of these finished trials has val_accuracy"):
        fnnexp.plot_curves(without, fnnexp.curves("aside"), "val_accuracy")


FUNCTIONS_OF_RUNS = ("answer", "leaderboard", "compare", "shares", "plot_heat_map", "plot_curves")


def call(name, runs, curves):
    return getattr(fnnexp, name)(*((runs, curves) if name == "plot_curves" else (runs,)))


@pytest.mark.parametrize("name", FUNCTIONS_OF_RUNS)
@pytest.mark.parametrize("argument", ["demo", 3, None, ["demo"], {"arch": "he"}])
def test_arguments_that_are_not_frames_are_refused_with_the_right_call(name, argument, runs):
    curves = fnnexp.curves("digits")
    with pytest.raises(fnnexp.FnnexpError) as error:
        call(name, argument, curves)
    message = str(error.value)
    assert message.startswith(
        f"{name}: runs must be the frame that fnnexp.runs returns, or some of its rows, not "
    )
    shown = repr(argument) if isinstance(argument, str | int) else f"a {type(argument).__name__}"
    assert shown in message
    assert 'fnnexp.runs("demo")' in message


@pytest.mark.parametrize("name", FUNCTIONS_OF_RUNS)
def test_the_suggested_call_works(name, runs):
    curves = fnnexp.curves("digits")
    with pytest.raises(fnnexp.FnnexpError) as error:
        call(name, "digits", curves)
    made = eval(str(error.value).partition("; write ")[2], {"fnnexp": fnnexp})
    assert type(made) is type(call(name, runs, curves))


@pytest.mark.parametrize("name", FUNCTIONS_OF_RUNS)
def test_each_required_column_is_named_and_no_other_is_needed(name, runs):
    curves = fnnexp.curves("digits")
    for column in arguments.NEEDED["runs"]:
        with pytest.raises(fnnexp.FnnexpError, match=rf"not a frame without {column}; write"):
            call(name, runs.drop(columns=column), curves)
    call(name, runs[list(arguments.NEEDED["runs"])], curves)
    with pytest.raises(fnnexp.FnnexpError, match="not a frame without status, train_loss, "):
        call(name, curves, runs)  # swapped


def test_invalid_curves_are_refused_like_invalid_runs(runs):
    curves = fnnexp.curves("digits")
    with pytest.raises(fnnexp.FnnexpError, match="not a frame without epoch, metric, value; write"):
        fnnexp.plot_curves(runs, runs)
    for column in arguments.NEEDED["curves"]:
        with pytest.raises(fnnexp.FnnexpError, match=f"not a frame without {column}; write"):
            fnnexp.plot_curves(runs, curves.drop(columns=column))
    fnnexp.plot_curves(runs, curves[list(arguments.NEEDED["curves"])])
    with pytest.raises(fnnexp.FnnexpError, match="factor=3 is not a factor of"):
        fnnexp.compare(runs, 3)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'curves'"):
        fnnexp.plot_curves(runs)
