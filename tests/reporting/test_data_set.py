"""`fnnexp data` and `fnnexp.show_data`: what they show agrees with NumPy on the raw file."""

from __future__ import annotations

import re

import numpy as np
import pytest
from boxes import assert_legible
from rich.cells import cell_len
from sklearn.datasets import load_breast_cancer, load_iris

import fnnexp
from fnnexp.config.commands import Command
from fnnexp.config.compose import compose
from fnnexp.console import ENCODE_ERRORS
from fnnexp.errors import FnnexpError
from fnnexp.reporting.data_set import characters, facts


@pytest.fixture
def images(own_folder):
    """Write an .npz of images in three classes with some rows twice; return its arrays."""
    rng = np.random.default_rng(5)
    x, y = (
        rng.integers(1, 256, (90, 6, 6), dtype=np.uint8),
        rng.permutation(np.arange(90) % 3).astype(np.uint8),
    )
    x[:, 0] = 0  # six constant pixels
    x[7], y[7] = x[3], y[3]  # in training twice
    x[9], y[9] = x[4], (y[4] + 1) % 3  # in training with two labels
    x[55] = x[5]  # in validation and training
    x[70] = x[71] = x[6]  # in test, twice, and training
    arrays = {"x_train": x[:60], "y_train": y[:60], "x_test": x[60:], "y_test": y[60:]}
    np.savez(own_folder / "a.npz", **arrays)
    return arrays


@pytest.fixture
def iris(own_folder):
    """Write a CSV of real numbers with a named label; return its inputs and labels."""
    X, y = load_iris(return_X_y=True)
    text = "".join(",".join(map(repr, row)) + "\n" for row in np.c_[X, y].tolist())
    (own_folder / "iris.csv").write_text("a,b,c,d,species\n" + text, "utf-8")
    return X, y


def test_the_numbers_are_those_of_the_raw_file_divided_as_by_a_trial(images, own_folder):
    shown = fnnexp.show_data("a.npz", **{"data.validation": 12})
    x, y = images["x_train"], images["y_train"]
    parts = {"train": y[:48], "val": y[48:], "test": images["y_test"]}
    assert {name: shown.classes[name].tolist() for name in shown.classes} == {
        name: [int((labels == c).sum()) for c in range(3)] for name, labels in parts.items()
    }
    flat = x[:48].reshape(48, 36).astype(float)
    for name, expected in {
        "least": flat.min(0), "mean": flat.mean(0), "deviation": flat.std(0), "most": flat.max(0)
    }.items():  # fmt: skip
        assert shown.inputs[name].to_numpy() == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(shown.X, x[:48].reshape(48, 36))
    assert np.array_equal(shown.y, y[:48])
    everything = np.concatenate([x, images["x_test"]])
    assert (shown.least, shown.most) == (everything.min(), everything.max())
    assert shown.duplicates == facts.Duplicates(train=2, val=1, test=2, contradicting=2)
    assert str(shown).startswith("a.npz: 90 images of 6 × 6 pixels in 3 classes\n")
    text = " ".join(str(shown).split())
    assert "constant 6 of 36 pixels (1, 2, 3, 4, 5, 6) have one value in all training rows" in text
    assert "2 training images repeat an earlier one; 1 validation image is also a" in text
    assert shown.scale == "unit"
    # The first image of each class, then the second, and so on.
    of_class = [np.flatnonzero(y[:48] == c) for c in range(3)]
    assert shown.samples.tolist() == [of_class[i % 3][i // 3] for i in range(16)]
    assert not list(own_folder.glob("mlruns")) + list(own_folder.glob("*.db"))


def test_rows_that_a_trial_does_not_train_on_are_not_counted(images):
    shown = fnnexp.show_data("a.npz", "data.validation=0", "data.subset=20", "data.label_noise=0.5")
    assert list(shown.classes) == ["train", "test"]
    assert shown.classes["train"].sum() == len(shown.X) == 20
    in_file = {row.tobytes(): label for row, label in zip(images["x_train"], images["y_train"], strict=True)}
    changed = np.mean([in_file[row.tobytes()] != label for row, label in zip(shown.X, shown.y, strict=True)])
    assert 0.2 < changed < 0.8


def test_real_numbers_are_shown_with_a_scale_that_fits_and_the_command_trains_with_it(iris, invoke):
    shown = fnnexp.show_data("iris.csv", **{"data.label": "species"})
    X, _ = iris
    assert shown.scale == "standardize"
    words = ("data=files", "data.path=iris.csv", "data.label=species", "data.scale=standardize")
    assert shown.command == f"fnnexp.sweep{words}"
    assert f"\ntrain on it: fnnexp {' '.join(words)}\n" in invoke("data", "iris.csv", words[2]).out
    trial = compose(Command(overrides=words)).trials[0]
    assert trial.recipe.scale == "standardize"
    assert shown.classes.sum(axis=1).tolist() == [50, 50, 50]
    assert {tuple(row) for row in shown.X.tolist()} <= {tuple(row) for row in X.astype(np.float32).tolist()}
    text = str(shown)
    assert "150 rows of 4 inputs in 3 classes" in text
    assert "a sweep needs data.scale=standardize, as here, or data.scale=raw" in " ".join(text.split())
    titles = [ax.get_title() for ax in shown.figure.axes[1:]]
    assert list(shown.inputs.index) == titles == ["a", "b", "c", "d"]
    least, mean = shown.inputs.loc["b", ["least", "mean"]]
    assert re.search(rf"^b +{least:.4g} +{mean:.4g} ", text, re.MULTILINE)
    # What the command says is not changed, and is refused as a sweep refuses it.
    words = ("data=files", "data.path=iris.csv", "data.label=species", "data.scale=unit")
    assert invoke("data", *words).err == invoke(*words).err != ""


def test_inputs_are_shown_with_their_names_and_a_constant_one_is_named(own_folder):
    rows = "".join(f"{k % 2},{k * k / 7},{-k / 3}\n" for k in range(1, 41))
    (own_folder / "a.csv").write_text("kind,the length ($m$),depth\n" + rows, "utf-8")
    shown = fnnexp.show_data("a.csv", **{"data.label": "kind"})
    assert "across: the length ($m$), up: depth" in str(shown).splitlines()
    ax = shown.figure.axes[1]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("the length ($m$)", "depth")
    load_breast_cancer(as_frame=True).frame.to_csv(own_folder / "cells.csv", index=False)
    cells = fnnexp.show_data("cells.csv").figure
    assert_legible(cells)
    assert cells.axes[1].get_title() == "mean radius"
    (own_folder / "b.csv").write_text("kind,x,same\n" + re.sub(",-.*", ",3", rows), "utf-8")
    assert fnnexp.show_data("b.csv", **{"data.label": "kind"}).facts["constant"] == (
        "1 of 2 inputs (same) has one value in all training rows"
    )


def test_wide_characters_and_combining_marks_do_not_move_the_numbers(own_folder):
    kinds = ("e\u0301le\u0301phant", "猫", "とても長い名前のクラスだから切る")
    rows = "".join(f"{kinds[k % 3]},{k * k / 7},{-k / 3},{k % 7}.5\n" for k in range(1, 61))
    (own_folder / "a.csv").write_text("kind,体重 (kg),a\u0300ge,x\n" + rows, "utf-8")
    lines = str(fnnexp.show_data("a.csv", **{"data.label": "kind"})).splitlines()
    tables = [lines[lines.index(head) :] for head in lines if re.match(" +train|input ", head)]
    counts, ranges = (table[: table.index("")] for table in tables)
    assert (len(counts), len(ranges)) == (5, 4)
    ends = [cell_len(re.match(r".* +\d+ +\d+ +\d+(?=  |$)", line)[0]) for line in counts[1:]]
    assert {*ends} == {len(counts[0])}
    assert {*map(cell_len, ranges)} == {len(ranges[0])}
    assert all(cell_len(line) <= 80 for line in counts)


@pytest.mark.parametrize(
    "words",
    [
        ["data=files", "data.path=none.npz"],
        ["data=files", "data.path=bad.npz"],
        ["data=files", "data.path=iris.csv"],
        ["data=digits", "data.nois=3"],
        ["data=moons", "data.n=2"],
    ],
    ids=" ".join,
)
def test_what_a_sweep_refuses_is_refused_with_the_same_message(words, iris, own_folder, invoke):
    (own_folder / "bad.npz").write_bytes(b"PK\x03\x04")
    ran = invoke("data", *words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == invoke(*words).err
    assert len(ran.err) > 20


def test_a_word_is_a_name_or_a_path(images, own_folder, invoke):
    (own_folder / "moons").mkdir()
    (own_folder / "digit").mkdir()
    (own_folder / "digit" / "data.csv").write_text("label,a,b\n" + "0,1,2\n1,3,4\n" * 20, "utf-8")
    ran = invoke("data", "moons", "data.n=40")
    assert ran.status == 0
    assert "for the file or folder of this name write ./moons" in " ".join(ran.out.split())
    with pytest.raises(FnnexpError, match=r"moons does not contain exactly one data set"):
        fnnexp.show_data("./moons")
    with pytest.raises(
        FnnexpError, match=r"no file or folder 'moon' here; data=moon: .*Did you mean 'moons'\?"
    ):
        fnnexp.show_data("moon")
    with pytest.raises(FnnexpError, match=r"^digit.*every test row is also a training row"):
        fnnexp.show_data("digit")
    with pytest.raises(FnnexpError, match="2 data sets, or ways to divide or scale one; write one value"):
        fnnexp.show_data("digits", **{"data.validation": [100, 200]})
    assert "'b.npz': after a data set, only KEY=VALUE" in invoke("data", "a.npz", "b.npz").err


@pytest.mark.parametrize("name", ["digits", "moons", "iris.csv"])
def test_the_text_has_80_columns_also_in_ascii_and_a_notebook_shows_a_picture(name, iris):
    shown = fnnexp.show_data(name, *["data.label=species"] * (name == "iris.csv"))
    text = str(shown)
    for written in (text, text.encode("ascii", ENCODE_ERRORS).decode("ascii")):
        assert max(map(len, written.splitlines()[:-1])) <= 80  # the last line is a command to paste
    html = shown._repr_html_()
    assert "<img " in html
    assert "data:image/png;base64,iVBOR" in html
    assert_legible(shown.figure)
    assert len(shown.figure.axes) == {"digits": 17, "moons": 2, "iris.csv": 5}[name]


def test_an_image_is_drawn_by_the_means_of_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (36, 36))
    drawn = characters.images(image[None].astype(np.uint8), ["seven"])
    means = image.reshape(9, 4, 18, 2).mean(axis=(1, 3))
    levels = np.rint(means / means.max() * 9).astype(int)
    assert drawn == ["seven", *("".join(" .:-=+*#%@"[level] for level in row).rstrip() for row in levels)]
    # 28 pixels are divided into 18 parts; a bright left half stays one.
    half = np.zeros((1, 28, 28), np.uint8)
    half[:, :, :14] = 200
    assert characters.images(half, [""])[1:] == ["@" * 9] * 9


def test_points_are_drawn_where_they_are():
    x = np.array([[0, 0], [1, 0], [0, 2], [1, 2], [1, 2], [1, 2]], np.float32)
    drawn = characters.points(x, np.array([0, 1, 2, 3, 11, 11], np.uint8))
    columns, lines = characters.CANVAS
    rows = [line.partition("|")[2].ljust(columns) for line in drawn[:lines]]
    assert (rows[-1][0], rows[-1][-1], rows[0][0], rows[0][-1]) == ("0", "1", "2", "b")
    assert sum(len(row.replace(" ", "")) for row in rows) == 4
