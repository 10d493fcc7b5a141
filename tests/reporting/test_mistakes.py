"""The best trial evaluated: its predictions against plain NumPy, and what is missing or tampered with."""

import contextlib
import io
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from boxes import apart
from rich.console import Console
from sklearn.metrics import confusion_matrix

from fnnexp.data import datasets as data
from fnnexp.data import download
from fnnexp.errors import FnnexpError
from fnnexp.nn.evaluation import Predictions, parameters_from, predict
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.stack import Recipe
from fnnexp.nn.testing.reference import Network
from fnnexp.reporting import write as report
from fnnexp.reporting.plots import images as pictures
from fnnexp.reporting.sections import mistakes
from fnnexp.results import comparisons, frames
from fnnexp.tracking import artifacts
from fnnexp.tracking import store as stores
from fnnexp.tracking.writer import Tracker

GRID = ("arch=relu_100,sigmoid_32_32", "init=he,xavier", "epochs=1", "seed=0,1", "data.validation=300")


def record(trials, train_alone, experiment="fnnexp", uri=None):
    """Train trials here, one by one, and track them as a sweep does."""
    tracker = Tracker(experiment, uri)
    for trial in trials:
        records, weights = train_alone(trial)
        curve = [(record.epoch, record.metrics) for record in records]
        tracker.finish(
            tracker.begin(trial), trial, weights, seconds_per_epoch=0.1, blas="here", engine="numpy",
            curve=curve,
            diverged_at=next((each.epoch for each in records if each.diverged), None),
        )  # fmt: skip


@pytest.fixture(scope="module")
def store(empty_store, tmp_path_factory):
    return empty_store(tmp_path_factory.mktemp("swept"))


@pytest.fixture(scope="module")
def swept(store, trials_of, train_alone):
    """Return the trials of a small sweep on digits that stands in the store, and its frame."""
    trials = trials_of(*GRID)
    with contextlib.chdir(Path(stores.store_file(store)).parent):  # where MLflow puts the artifacts
        record(trials, train_alone, uri=store)
    return trials, frames.runs("fnnexp", tracking_uri=store)


def best_of(runs):
    return mistakes.best_trial(runs, comparisons.findings(runs))


def truth(weights, images, activation):
    """Return the probabilities of a network by the op-by-op reference."""
    layers = range(1, len([name for name in weights if name[0] == "W"]) + 1)
    network = Network([weights[f"W{i}"] for i in layers], [weights.get(f"b{i}") for i in layers], activation)
    return network.forward(np.asarray(images) / 255)


def test_the_best_trial_is_that_of_the_leading_configuration_and_what_it_says_is_right(
    swept, store, train_alone
):
    trials, runs = swept
    best = best_of(runs)
    means = runs.groupby(["arch", "init"], observed=True)["val_accuracy"].mean()
    mine = runs[(runs["arch"] == means.idxmax()[0]) & (runs["init"] == means.idxmax()[1])]
    assert best["val_accuracy"] == mine["val_accuracy"].max()
    evaluation = mistakes.evaluate(best, store)
    trial = next(each for each in trials if each.id == best["trial"])
    arrays, (_, weights) = data.load(trial.data), train_alone(trial)
    images, labels = arrays.x_train[-300:], arrays.y_train[-300:].astype(int)
    P = truth(weights, images, trial.recipe.architecture.activation)
    said = P.argmax(axis=1)
    assert (evaluation.split, evaluation.first) == ("validation", trial.data.n_train - 300)
    predictions = evaluation.predictions
    assert predictions.predicted.tolist() == said.tolist()
    assert predictions.probability == pytest.approx(P.max(axis=1), rel=1e-4)
    assert predictions.loss == pytest.approx(-np.log(P[np.arange(300), labels]), rel=1e-3, abs=1e-5)
    assert mistakes.confusion(evaluation).to_numpy().tolist() == confusion_matrix(labels, said).tolist()
    assert (said == labels).mean() == pytest.approx(best["val_accuracy"])
    worst = mistakes.mistakes(evaluation)
    assert sorted(worst["row"]) == sorted(np.flatnonzero(said != labels) + evaluation.first)
    assert (arrays.y_train[worst["row"]] == worst["real"]).all()
    assert worst["loss"].is_monotonic_decreasing
    sentence = mistakes.sentence(evaluation)
    assert "its 300 validation images, those that it was chosen by" in sentence
    assert f"It gets {len(worst)} of them wrong ({100 * len(worst) / 300:.2f}%)" in sentence
    assert "Computed again" not in sentence  # as it was logged
    pairs = worst.groupby(["real", "predicted"]).size()
    real, taken, times = re.search(r"a real (\d) is taken for a (\d) \((\d+) time", sentence).groups()
    assert pairs[int(real), int(taken)] == int(times) == pairs.max()
    assert "logged 7 right" in mistakes.sentence(evaluation._replace(logged=7 / 300))


def test_real_mnist_gets_the_accuracy_that_was_logged(mnist, store, trials_of, train_alone):
    small = ("arch.hidden=[16]", "epochs=1", "data.validation=0")
    record(trials_of("data=mnist", f"data.path={mnist}", *small), train_alone, "mnist", store)
    best = best_of(frames.runs("mnist", tracking_uri=store))
    evaluation = mistakes.evaluate(best, store)
    assert (evaluation.split, len(evaluation.real), evaluation.images.shape) == (
        "test",
        10_000,
        (10_000, 784),
    )
    assert np.count_nonzero(evaluation.predictions.predicted == evaluation.real) == round(
        10_000 * best["test_accuracy"]
    )
    assert "for it held out no validation rows" in mistakes.sentence(evaluation)


def test_the_section_is_in_the_page_the_files_and_mlflow(swept, store, tmp_path):
    console = Console(file=io.StringIO(), width=80)
    page = report.write("fnnexp", tmp_path / "r", tracking_uri=store, console=console).read_text("utf-8")
    section = page.partition("<h2>Mistakes")[2].partition("<h2>")[0]
    assert section.count("<svg") == section.count("<figcaption>") == 3
    assert "href='mistakes.csv'" in page
    folder = tmp_path / "r"
    names = {
        f"{name}.{kind}" for name in ("confusion", "worst_errors", "first_weights") for kind in ("svg", "png")
    }
    assert names | {"confusion.csv", "mistakes.csv"} <= {file.name for file in folder.iterdir()}
    assert set(pd.read_csv(folder / "mistakes.csv").columns) == {
        "row",
        "real",
        "predicted",
        "probability",
        "loss",
    }
    assert pd.read_csv(folder / "confusion.csv").drop(columns="real").to_numpy().sum() == 300
    assert "(worst_errors.png)" in (folder / "report.md").read_text("utf-8")
    client = stores.client(store)
    experiment = client.get_experiment_by_name("fnnexp").experiment_id
    (run,) = client.search_runs([experiment], "tags.`fnnexp.report` = 'true'")
    assert {"mistakes.csv", "worst_errors.png"} <= {
        file.path for file in client.list_artifacts(run.info.run_id)
    }


def said(runs, store):
    section = mistakes.section(runs, comparisons.findings(runs), store)
    assert not section.figures
    assert not section.data
    return " ".join(section.sentences)


def test_what_is_missing_is_said_and_costs_no_report(swept, store, monkeypatch):
    _, runs = swept
    assert "is other data (checksum" in said(runs.assign(data_checksum="0" * 64), store)
    assert "has no artifact" in said(runs.assign(run_id=_empty_run(store)), store)
    assert "are not shown" in said(runs.assign(run_id="f" * 32), store)
    assert (
        said(runs.assign(status="diverged"), store)
        == "No trial has finished, so there are no mistakes to look at."
    )
    monkeypatch.delenv("FNNEXP_MNIST", raising=False)
    text = artifacts.read(best_of(runs)["run_id"], "config.yaml", store, most=mistakes.CONFIG_BYTES).decode()
    monkeypatch.setattr(artifacts, "read", lambda *_, **__: text.replace("digits", "mnist").encode())
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("a report downloads nothing"))
    assert "data=mnist is not on this machine, and nothing is downloaded here" in said(runs, store)
    monkeypatch.setattr(artifacts, "read", lambda *_, **__: text.replace("digits", "${oc.env:HOME}").encode())
    assert "it holds references" in said(runs, store)
    monkeypatch.setattr(artifacts, "read", lambda *_, **__: b"- [")
    assert "it is not the config of a run" in said(runs, store)


def too_large(*_, **__):
    return np.empty(1 << 60, np.uint8)  # NumPy itself says that it can't


def none_left(*_, **__):
    raise MemoryError


@pytest.mark.parametrize("fails", [too_large, none_left])
@pytest.mark.parametrize("where", [(mistakes, "predict"), (mistakes, "figures"), (mistakes, "confusion")])
def test_too_little_memory_is_said_and_costs_no_page(fails, where, swept, store, tmp_path, monkeypatch):
    reason = {too_large: "Unable to allocate", none_left: "none is left"}[fails]
    monkeypatch.setattr(*where, fails)
    console = Console(file=io.StringIO(), width=80)
    page = report.write("fnnexp", tmp_path / "r", tracking_uri=store, console=console).read_text("utf-8")
    section = page.partition("<h2>Mistakes")[2].partition("<h2>")[0]
    assert f"are not shown: the memory here is too little for them ({reason}" in section
    assert section.count("<p>") == 1


def hurt(content, how):
    """Return a run's artifact harmed."""
    if how == "other weights":
        return packed(**ARRAYS)
    if how == "cut":
        return content[: len(content) // 2]
    return how.encode() if isinstance(how, str) else how


@pytest.mark.parametrize(
    ("name", "how", "reason"),
    [
        ("weights.npz", "other weights", "weights.npz holds W1, b1, W2 and not W1"),
        ("weights.npz", "cut", "weights.npz is damaged"),
        ("weights.npz", "", "weights.npz is damaged"),
        ("config.yaml", "cut", "config.yaml its data can't be had"),
        ("config.yaml", "", "config.yaml its data can't be had"),
        ("config.yaml", b"\xff\xfe\x00", "it is not the config of a run"),
        ("config.yaml", "seed: !!timestamp x", "it is not the config of a run"),
        pytest.param("config.yaml", "- " * 30_000, "it is not the config of a run", id="without end"),
    ],
)
def test_an_artifact_that_was_harmed_is_a_sentence(name, how, reason, swept, store, monkeypatch):
    fetched = artifacts.read

    def harmed(run_id, asked, *args, **limits):
        content = fetched(run_id, asked, *args, **limits)
        return hurt(content, how) if asked == name else content

    monkeypatch.setattr(artifacts, "read", harmed)
    assert re.search(reason, said(swept[1], store))


@pytest.mark.parametrize("harm", ["gone", "other", "directory"])
def test_prepared_data_that_is_harmed_once_found_is_a_sentence(harm, swept, store, monkeypatch, tmp_path):
    found = data.prepare

    def and_harm(*asked, **how):
        prepared = found(*asked, **how)
        copy = shutil.copytree(prepared.directory, tmp_path / "copy")
        (copy / "x_test.npy").unlink()
        if harm == "other":
            np.save(copy / "x_test.npy", np.zeros((2, 2)))
        elif harm == "directory":
            (copy / "x_test.npy").mkdir()
        return replace(prepared, directory=str(copy))

    monkeypatch.setattr(data, "prepare", and_harm)
    assert "is missing or damaged" in said(swept[1], store)


def _empty_run(store):
    client = stores.client(store)
    return client.create_run(client.get_experiment_by_name("fnnexp").experiment_id).info.run_id


SHAPE = Architecture(4, (3,), 2, "relu", output_bias="none")
ARRAYS = {"W1": np.ones((4, 3), np.float32), "b1": np.zeros(3, np.float32), "W2": np.ones((3, 2), np.float32)}


def packed(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def deflated(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def lying():
    """Return an .npz whose W1 promises a petabyte."""
    stream, member = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(
        member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 25, 1 << 23)}
    )
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("W1.npy", member.getvalue())
        for name in ("b1", "W2"):
            archive.writestr(f"{name}.npy", member.getvalue())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (packed(**ARRAYS | {"W1": np.ones((3, 4), np.float32)}), r"W1 .* is \(3, 4\) of float32 and not"),
        (packed(**ARRAYS | {"b1": np.zeros(3)}), "b1 .* of float64 and not"),
        (packed(**ARRAYS | {"b1": np.array([None] * 3)}), "b1 .* of object and not"),
        (packed(**ARRAYS | {"W2": np.full((3, 2), np.nan, np.float32)}), "W2 .* what is no number"),
        (packed(**ARRAYS | {"W1": np.ones((400, 300), np.float32)}), r"W1 .* is \(400, 300\) of float32"),
        (packed(**ARRAYS | {"W3": np.ones(1)}), "holds W1, b1, W2, W3 and not W1, b1, W2"),
        (lying(), "is damaged .*W1 is truncated: its header promises 1125899906842624 bytes"),
        (packed(**ARRAYS)[:-30], "is damaged"),
        (b"PK", "is damaged"),
        (packed(**ARRAYS).replace(b"\0\0\x80\x3f", b"\0\0\x90\x3f"), "is damaged .*Bad CRC-32"),
    ],
)  # fmt: skip
def test_weights_that_are_not_the_networks_are_refused(content, complaint):
    with pytest.raises(FnnexpError, match=complaint):
        mistakes.weights(content, SHAPE, np.dtype(np.float32))


@pytest.mark.parametrize("write", [packed, deflated])
def test_weights_are_read_as_they_were_written(write):
    by_columns = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3))
    arrays = ARRAYS | {"W1": by_columns}
    found = mistakes.weights(write(**arrays), SHAPE, np.dtype(np.float32))
    assert {name: array.tolist() for name, array in found.items()} == {
        n: a.tolist() for n, a in arrays.items()
    }


def test_an_artifact_that_is_too_large_is_not_fetched(swept, store):
    with pytest.raises(FnnexpError, match=r"config\.yaml is larger than the 10 bytes"):
        artifacts.read(swept[1]["run_id"].iloc[0], "config.yaml", store, most=10)


def made_up(inputs=784, classes=10, units=5, wrong=40, n=60):
    rng = np.random.default_rng(0)
    real = rng.integers(0, classes, n)
    said = np.where(np.arange(n) < wrong, (real + 1) % classes, real)
    predictions = Predictions(said, rng.uniform(0.5, 1, n), rng.uniform(0, 9, n))
    images = rng.integers(0, 256, (n, inputs)).astype(np.uint8)
    W1 = rng.normal(size=(inputs, units)).astype(np.float32)
    return mistakes.Evaluation("t", "test", 0, images, real, predictions, classes, W1, (n - wrong) / n)


def test_what_is_no_square_image_or_has_too_many_classes_is_said_and_not_drawn():
    drawn, missing = mistakes.figures(made_up(inputs=7))
    assert [each.name for each in drawn] == ["confusion"]
    assert "7 numbers is no square image" in missing[0]
    drawn, missing = mistakes.figures(made_up(inputs=4, classes=100))
    assert [each.name for each in drawn] == ["worst_errors", "first_weights"]
    assert "confusion.csv" in missing[0]
    assert [each.name for each in mistakes.figures(made_up(inputs=4, wrong=0))[0]] == [
        "confusion",
        "first_weights",
    ]
    assert "gets none of them wrong" in mistakes.sentence(made_up(wrong=0))


def test_the_gallery_shows_the_worst_errors_first_and_no_title_overlaps():
    evaluation = made_up()
    figure = mistakes._gallery(evaluation, 28)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    i = int(
        np.argmax(
            np.where(evaluation.predictions.predicted != evaluation.real, evaluation.predictions.loss, -1)
        )
    )
    said = evaluation.predictions
    percent = f"{100 * said.probability[i]:.0f}%"
    assert ax.texts[0].get_text() == f"real {evaluation.real[i]}, said {said.predicted[i]} ({percent})"
    assert len(ax.texts) == 32
    tile = ax.images[0].get_array()[:28, :28, 0]
    assert (tile == 255 - evaluation.images[i].reshape(28, 28)).all()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert apart(boxes)
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)


def test_weights_are_shown_by_norm_on_a_scale_that_rises_in_grey_too():
    W1 = made_up(units=130).W1
    figure = pictures.first_weights(W1, 28, most=100, columns=10)
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.shape[0] > 10 * 28  # a hundred of them
    largest = W1[:, np.argmax(np.linalg.norm(W1, axis=0))].reshape(28, 28)
    limit = np.percentile(np.abs(W1), pictures.CLIP)
    assert (drawn[:28, :28, :3] == pictures._shades(largest, limit)).all()
    grey = pictures._shades(np.linspace(-2, 2, 101), 2.0) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(grey) > 0).all()


@pytest.mark.parametrize("scale", ["unit", "raw"])
def test_predictions_of_many_rows_are_those_of_the_reference(scale):
    rng = np.random.default_rng(1)
    shape = Architecture(9, (4, 3), 5, "tanh", hidden_bias="none")
    W = [rng.normal(size=(9, 4)) / 50, rng.normal(size=(4, 3)), rng.normal(size=(3, 5))]
    arrays = {"W1": W[0], "W2": W[1], "W3": W[2], "b3": rng.normal(size=5)}
    images, labels = (
        rng.integers(0, 256, (1100, 9)).astype(np.uint8),
        rng.integers(0, 5, 1100).astype(np.uint8),
    )
    recipe = Recipe(shape, Batching("full"), "sgd", epochs=1, scale=scale, epsilon=1e-3)
    found = predict(recipe, parameters_from(shape, arrays), images, labels)
    network = Network(W, [None, None, arrays["b3"]], "tanh", epsilon=1e-3)
    P = network.forward(images / 255 if scale == "unit" else images)
    assert (found.predicted == P.argmax(axis=1)).all()
    assert found.probability == pytest.approx(P.max(axis=1))
    assert found.loss == pytest.approx(network.loss(P, labels))
