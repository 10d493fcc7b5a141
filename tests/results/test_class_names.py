"""The names of classes: read with the data, recorded with the run, and shown wherever a class is."""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from boxes import apart
from rich.console import Console
from sklearn.datasets import load_iris

import fnnexp
from fnnexp.data import datasets
from fnnexp.reporting import write as report
from fnnexp.reporting.plots.rows import images, regions, samples
from fnnexp.results.networks.regions import Regions

SMALL = {"batching": "mini", "execution.n_jobs": 1, "execution.engine": "numpy", "data.scale": "standardize"}
LONG = [f"{name} that has a very long name, longer than $any$ figure" for name in ("Stork", "Heron", "カモ")]
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
           "Ankle boot")  # fmt: skip


@pytest.fixture(scope="module")
def swept(empty_store, tmp_path_factory):
    """Return a folder with a store of trials on irises, labelled in words and in numbers; and the words."""
    folder = tmp_path_factory.mktemp("names")
    empty_store(folder)
    iris = load_iris(as_frame=True)
    order = np.random.default_rng(2).permutation(150)
    table = iris.data.iloc[order]
    words = np.array(["virginica", "setosa", "versicolor"])[iris.target.iloc[order]]  # not in their order
    for name, labels in {"words": words, "numbers": np.unique(words, return_inverse=True)[1]}.items():
        (folder / name).mkdir()
        for split, rows in (("train", slice(0, 110)), ("test", slice(110, None))):
            table[rows].assign(kind=labels[rows]).to_csv(folder / name / f"{split}.csv", index=False)
    with contextlib.chdir(folder):
        for name, label in (("words", {}), ("numbers", {"data.label": "kind"})):
            where = {"data.path": name, "tracking.experiment": name, "data.validation": 40, **label}
            fnnexp.sweep(data="files", epochs=2, **{"arch.hidden": [[3]]}, **where, **SMALL)
    return folder, words


def test_classes_are_called_by_their_words_and_trained_as_their_numbers(swept, same_bits):
    folder, words = swept
    with contextlib.chdir(folder):
        named, numbered = (fnnexp.load(fnnexp.runs(name).iloc[0]) for name in ("words", "numbers"))
        assert (named.classes, numbered.classes) == (("setosa", "versicolor", "virginica"), ("0", "1", "2"))
        assert fnnexp.runs("words")["data_checksum"][0] == fnnexp.runs("numbers")["data_checksum"][0]
        same_bits(named.weights, numbered.weights)
        predicted = np.array(named.classes)[named.predict(named.rows("val").X)]
        expected = pd.crosstab(words[70:110], predicted).reindex(columns=named.classes, fill_value=0)
        confusion = fnnexp.confusion(named)
        assert confusion.index.tolist() == confusion.columns.tolist() == list(named.classes)
        assert confusion.to_numpy().tolist() == expected.to_numpy().tolist()
        assert (confusion.to_numpy() == fnnexp.confusion(numbered).to_numpy()).all()
        assert fnnexp.confusion(numbered).index.tolist() == [0, 1, 2]
        mistakes = fnnexp.mistakes(named)
        assert len(mistakes) == (words[70:110] != predicted).sum() > 0
        assert mistakes["true_name"].tolist() == words[mistakes["row"]].tolist()
        assert mistakes["predicted_name"].tolist() == predicted[mistakes["row"] - 70].tolist()
        assert words[mistakes.iloc[0]["row"]] == mistakes.iloc[0]["true_name"]


def test_a_store_from_before_shows_numbers_and_a_merged_one_shows_names(swept, tmp_path):
    folder, _ = swept
    copy = shutil.copytree(folder, tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(copy / "mlflow.db")) as store, store:
        store.execute("DELETE FROM tags WHERE key = 'fnnexp.class_names'")
    with contextlib.chdir(folder):
        fnnexp.merge("mlflow.db", into=tmp_path / "all.db")
        for store, names in ((copy / "mlflow.db", "012"), (tmp_path / "all.db", None)):
            uri = f"sqlite:///{store}"
            network = fnnexp.load(fnnexp.runs("words", tracking_uri=uri).iloc[0], tracking_uri=uri)
            assert network.classes == tuple(names or ("setosa", "versicolor", "virginica"))
            assert len(fnnexp.confusion(network)) == 3


def test_the_report_names_classes_in_sentences_tables_and_under_the_pointer(swept, tmp_path):
    folder, words = swept
    with contextlib.chdir(folder):
        console = Console(file=io.StringIO(), width=80)
        page = report.write("words", tmp_path / "r", console=console).read_text("utf-8")
    counts = pd.read_csv(tmp_path / "r" / "confusion.csv").set_index("real")
    assert counts.sum(axis=1).to_dict() == pd.Series(words[70:110]).value_counts().to_dict()
    times = {(real, predicted): row[predicted] for real, row in counts.iterrows() for predicted in counts}
    (real, predicted), most = max(
        (each for each in times.items() if each[0][0] != each[0][1]), key=lambda each: each[1]
    )
    assert f"{predicted} for {real} ({most} time" in page
    shown = pd.read_csv(tmp_path / "r" / "figures.csv").query("figure == 'confusion'")
    assert shown.set_index(["real", "predicted"])["count"].to_dict() == times
    mistakes = pd.read_csv(tmp_path / "r" / "mistakes.csv")
    assert mistakes["real_name"].tolist() == words[mistakes["row"]].tolist()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [LONG, FASHION, ("a", "b")], ids=["long", "fashion", "short"])
def test_names_of_any_length_fit_in_figures(names):
    n = len(names)
    counts = np.arange(n * n).reshape(n, n) * 7
    matrix = images.confusion_matrix(counts, "rows", names)
    matrix.draw_without_rendering()
    (ax,) = matrix.axes
    texts = [*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts, ax.xaxis.label, ax.yaxis.label]
    boxes = [text.get_window_extent() for text in texts if text.get_text() not in ("", "·")]
    assert apart(boxes)
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.y1 for box in boxes) <= matrix.bbox.height
    assert max(box.x1 for box in boxes) <= matrix.bbox.width
    table = pd.DataFrame({"train": range(n), "test": range(n)}, pd.Index(names))
    figure = samples.of_images(table, np.zeros((n, 5, 5), np.uint8), range(n), names)
    figure.draw_without_rendering()
    labels = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert min(box.y0 for box in labels) >= figure.legends[0].get_window_extent().y0
    plane = Regions(
        *2 * [np.arange(3.0)], np.zeros((3, 3), int), np.ones((3, 3)), np.zeros((n, 2)),
        np.arange(n, dtype=np.uint8), n, True, tuple(names),
    )  # fmt: skip
    drawn = regions.boundaries([("one", "", plane)] * 3)
    drawn.draw_without_rendering()
    legend = drawn.legends[0]
    assert legend.get_window_extent().width <= drawn.bbox.width
    shown = [text.get_text() for text in legend.get_texts()]
    assert len(set(shown)) == n
    allowed = [{name, f"{name[:13]}…", "class 2"} for name in names]
    assert all(text in texts for text, texts in zip(shown, allowed, strict=True))


def test_what_a_data_set_shows_has_the_names(swept):
    folder, words = swept
    with contextlib.chdir(folder):
        shown = fnnexp.show_data("words", **{"data.validation": 40, "data.scale": "standardize"})
    assert shown.classes["train"].to_dict() == pd.Series(words[:70]).value_counts().to_dict()
    assert "\n2 virginica " in str(shown)
    assert datasets.prepare("moons").class_names == ("upper moon", "lower moon")
    moons = datasets.load(datasets.prepare("moons"))
    assert [moons.x_train[moons.y_train == label, 1].mean() > 0.25 for label in (0, 1)] == [True, False]


def test_a_classifier_fits_words_and_its_network_has_their_names():
    X, y = load_iris(return_X_y=True)
    words = np.array(["virginica", "setosa", "versicolor"])[y]
    estimator = fnnexp.Classifier(hidden=(8,), batch_size=16, epochs=20).fit(X, words)
    assert estimator.network_.classes == tuple(estimator.classes_) == ("setosa", "versicolor", "virginica")
    assert np.mean(estimator.predict(X) == words) > 0.9
    assert fnnexp.Classifier(hidden=(2,), epochs=1).fit(X, y).network_.classes == ("0", "1", "2")
