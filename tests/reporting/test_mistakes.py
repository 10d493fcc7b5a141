"""The evaluation of the best trial: its predictions, and missing, damaged or manipulated artifacts."""

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
from fnnexp.nn.rows import Split, scaling
from fnnexp.nn.stack import Lane, Recipe
from fnnexp.nn.testing.reference import Network
from fnnexp.nn.training import End
from fnnexp.reporting import write as report
from fnnexp.reporting.plots.rows import images as pictures
from fnnexp.reporting.sections import mistakes
from fnnexp.results import comparisons, frames
from fnnexp.results.networks import network, stored
from fnnexp.tracking import artifacts
from fnnexp.tracking import store as stores
from fnnexp.tracking.run_format import tags_of_end
from fnnexp.tracking.writer import Tracker

GRID = ("arch=relu_100,sigmoid_32_32", "init=he,xavier", "epochs=1", "seed=0,1", "data.validation=300")


def record(trials, train_alone, experiment="digits", uri=None):
    """Train trials in this process, one by one, and record them like a sweep."""
    tracker = Tracker(experiment, uri)
    for trial in trials:
        records, weights = train_alone(trial)
        curve = [(record.epoch, record.metrics) for record in records]
        tracker.finish(
            tracker.begin(trial), trial, {"weights.npz": weights}, seconds_per_epoch=0.1, blas="here",
            engine="numpy", curve=curve,
            how=tags_of_end(records[-1].end or End("complete", records[-1].epoch, np.empty(0))),
        )  # fmt: skip


@pytest.fixture(scope="module")
def store(empty_store, tmp_path_factory):
    return empty_store(tmp_path_factory.mktemp("swept"))


@pytest.fixture(scope="module")
def swept(store, trials_of, train_alone):
    """Return the trials of a small sweep on digits that is in the store, and their frame."""
    trials = trials_of(*GRID)
    with contextlib.chdir(
        Path(stores.store_file(store)).parent
    ):  # MLflow writes artifacts to the working directory
        record(trials, train_alone, uri=store)
    return trials, frames.runs("digits", tracking_uri=store)


def best_trial(runs):
    return mistakes.best_trial(runs, comparisons.findings(runs))


def reference_probabilities(weights, images, activation):
    """Return the class probabilities of a network, computed by the op-by-op reference."""
    layers = range(1, len([name for name in weights if name[0] == "W"]) + 1)
    network = Network([weights[f"W{i}"] for i in layers], [weights.get(f"b{i}") for i in layers], activation)
    return network.forward(np.asarray(images) / 255)


def test_real_valued_inputs_are_called_rows_and_are_not_drawn(store_of_moons, moons, train_alone):
    store, runs = store_of_moons
    best = best_trial(runs)
    evaluation = mistakes.evaluate(best, store)
    trial = next(each for each in moons if each.id == best["trial"])
    x = data.load(trial.data).x_train[-6:].astype(float)
    weights = train_alone(trial)[1]
    network = Network([weights["W1"], weights["W2"]], [weights["b1"], weights["b2"]], "relu")
    assert (evaluation.predictions.predicted == network.forward(x).argmax(axis=1)).all()
    section = mistakes.section(runs, comparisons.findings(runs), store)
    text = " ".join(block.text for block in section.blocks if hasattr(block, "text"))
    assert "On its 6 validation rows it gets" in text
    assert "are not drawn" in text
    assert "image" not in text


@pytest.fixture(scope="module")
def moons(trials_of):
    return trials_of("data=moons", "data.n=40", "arch.hidden=[4]", "epochs=1", "seed=0,1")


@pytest.fixture(scope="module")
def store_of_moons(empty_store, tmp_path_factory, moons, train_alone):
    """Return a store with a sweep on moons, and its frame."""
    folder = tmp_path_factory.mktemp("moons")
    store = empty_store(folder)
    with contextlib.chdir(folder):
        record(moons, train_alone, "moons", store)
    return store, frames.runs("moons", tracking_uri=store)


def test_the_evaluation_of_the_best_trial_agrees_with_the_reference(swept, store, train_alone):
    trials, runs = swept
    best = best_trial(runs)
    means = runs.groupby(["arch", "init"], observed=True)["val_accuracy"].mean()
    leading = runs[(runs["arch"] == means.idxmax()[0]) & (runs["init"] == means.idxmax()[1])]
    assert best["val_accuracy"] == leading["val_accuracy"].max()
    evaluation = mistakes.evaluate(best, store)
    trial = next(each for each in trials if each.id == best["trial"])
    arrays, (_, weights) = data.load(trial.data), train_alone(trial)
    images, labels = arrays.x_train[-300:], arrays.y_train[-300:].astype(int)
    P = reference_probabilities(weights, images, trial.recipe.architecture.activation)
    predicted = P.argmax(axis=1)
    assert evaluation.split == "validation"
    assert evaluation.rows.tolist() == list(range(trial.data.n_train - 300, trial.data.n_train))
    predictions = evaluation.predictions
    assert predictions.predicted.tolist() == predicted.tolist()
    assert predictions.output == pytest.approx(P.max(axis=1), rel=1e-4)
    assert predictions.loss == pytest.approx(-np.log(P[np.arange(300), labels]), rel=1e-3, abs=1e-5)
    assert mistakes.confusion(evaluation).to_numpy().tolist() == confusion_matrix(labels, predicted).tolist()
    assert (predicted == labels).mean() == pytest.approx(best["val_accuracy"])
    worst = mistakes.mistakes(evaluation)
    assert sorted(worst["row"]) == sorted(evaluation.rows[predicted != labels])
    assert (arrays.y_train[worst["row"]] == worst["real"]).all()
    assert worst["loss"].is_monotonic_decreasing
    sentence = mistakes.sentence(evaluation)
    assert f"its 300 validation images it gets {len(worst)} wrong ({100 * len(worst) / 300:.2f}%)" in sentence
    assert "It was chosen on these images" in sentence
    assert "but its run logged" not in sentence  # the accuracy agrees with the logged one
    pairs = worst.groupby(["real", "predicted"]).size()
    predicted, real, times = re.search(r"predict (\d) for class (\d) \((\d+) time", sentence).groups()
    assert pairs[int(real), int(predicted)] == int(times) == pairs.max()
    assert "logged 7 right" in mistakes.sentence(evaluation._replace(logged=7 / 300))


def test_the_evaluation_on_mnist_has_the_logged_accuracy(mnist, store, trials_of, train_alone):
    small = ("arch.hidden=[16]", "epochs=1", "data.validation=0")
    record(trials_of("data=mnist", f"data.path={mnist}", *small), train_alone, "mnist", store)
    best = best_trial(frames.runs("mnist", tracking_uri=store))
    evaluation = mistakes.evaluate(best, store)
    assert (evaluation.split, len(evaluation.real), evaluation.images.shape) == (
        "test",
        10_000,
        (10_000, 784),
    )
    assert np.count_nonzero(evaluation.predictions.predicted == evaluation.real) == round(
        10_000 * best["test_accuracy"]
    )
    assert "It held out no validation rows." in mistakes.sentence(evaluation)


def test_the_mistakes_are_on_the_page_in_files_and_in_mlflow(swept, store, tmp_path):
    console = Console(file=io.StringIO(), width=80)
    page = report.write("digits", tmp_path / "r", tracking_uri=store, console=console).read_text("utf-8")
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
        "real_name",
        "predicted_name",
    }
    counts = pd.read_csv(folder / "confusion.csv").set_index("real")
    assert counts.to_numpy().sum() == 300
    shown = pd.read_csv(folder / "figures.csv").query("figure == 'confusion'")
    assert (shown.pivot_table("count", "real", "predicted").to_numpy() == counts.to_numpy()).all()
    assert "(worst_errors.png)" in (folder / "report.md").read_text("utf-8")
    client = stores.client(store)
    experiment = client.get_experiment_by_name("digits").experiment_id
    (run,) = client.search_runs([experiment], "tags.`fnnexp.report` = 'true'")
    assert {"mistakes.csv", "worst_errors.png"} <= {
        file.path for file in client.list_artifacts(run.info.run_id)
    }


def explanation(runs, store):
    section = mistakes.section(runs, comparisons.findings(runs), store)
    assert not section.figures
    assert not section.data
    return " ".join(section.sentences)


def test_a_missing_artifact_or_data_set_is_reported_in_a_sentence(swept, store, monkeypatch):
    _, runs = swept
    assert "is not the data that the trial was trained on (checksum" in explanation(
        runs.assign(data_checksum="0" * 64), store
    )
    assert "has no artifact" in explanation(runs.assign(run_id=_empty_run(store)), store)
    assert "are not shown" in explanation(runs.assign(run_id="f" * 32), store)
    assert (
        explanation(runs.assign(status="diverged"), store)
        == "No trial has finished, so there are no mistakes to show."
    )
    monkeypatch.delenv("FNNEXP_MNIST", raising=False)
    text = artifacts.read(best_trial(runs)["run_id"], "config.yaml", store, most=stored.CONFIG_BYTES).decode()
    read = artifacts.read

    def read_instead(config):
        def instead(run_id, name, *args, **limits):
            return config if name == "config.yaml" else read(run_id, name, *args, **limits)

        monkeypatch.setattr(artifacts, "read", instead)

    read_instead(text.replace("digits", "mnist").encode())
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("a report downloads nothing"))
    assert "data=mnist is not on this machine, and nothing is downloaded here" in explanation(runs, store)
    read_instead(text.replace("digits", "${oc.env:HOME}").encode())
    assert "it holds references" in explanation(runs, store)
    read_instead(b"- [\n")
    assert "is not the config of a run" in explanation(runs, store)


def too_large(*_, **__):
    return np.empty(1 << 60, np.uint8)  # raises NumPy's MemoryError


def out_of_memory(*_, **__):
    raise MemoryError


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize(
    ("name", "fails"),
    [
        ("predict", too_large),
        ("predict", out_of_memory),
        ("figures", out_of_memory),
        ("confusion", too_large),
    ],
)
def test_too_little_memory_is_reported_in_a_sentence(name, fails, swept, store, tmp_path, monkeypatch):
    reason = {too_large: "Unable to allocate", out_of_memory: "none is left"}[fails]
    monkeypatch.setattr(network if name == "predict" else mistakes, name, fails)
    console = Console(file=io.StringIO(), width=80)
    page = report.write("digits", tmp_path / "r", tracking_uri=store, console=console).read_text("utf-8")
    section = page.partition("<h2>Mistakes")[2].partition("<h2>")[0]
    assert f"are not shown: there is not enough memory ({reason}" in section
    assert section.count("<p>") == 1


def damaged(content, how):
    """Return the damaged content of an artifact."""
    if how == "other weights":
        return npz_bytes(**ARRAYS)
    if how == "cut":
        return content[: len(content) // 2]
    return how.encode() if isinstance(how, str) else how


@pytest.mark.parametrize(
    ("name", "how", "reason"),
    [
        ("weights.npz", "other weights", "weights.npz has the arrays W1, b1, W2 instead of W1"),
        ("weights.npz", "cut", "weights.npz is damaged"),
        ("weights.npz", "", "weights.npz is damaged"),
        ("config.yaml", "cut", "the run's config cannot be read from its artifact config.yaml"),
        ("config.yaml", "", "the run's config cannot be read from its artifact config.yaml"),
        ("config.yaml", b"\xff\xfe\x00\n", "is not the config of a run"),
        ("config.yaml", "seed: !!timestamp x\n", "is not the config of a run"),
        pytest.param("config.yaml", "- " * 30_000 + "\n", "is not the config of a run", id="without end"),
    ],
)
def test_a_damaged_artifact_is_reported_in_a_sentence(name, how, reason, swept, store, monkeypatch):
    original = artifacts.read

    def read(run_id, artifact, *args, **limits):
        content = original(run_id, artifact, *args, **limits)
        return damaged(content, how) if artifact == name else content

    monkeypatch.setattr(artifacts, "read", read)
    assert re.search(reason, explanation(swept[1], store))


@pytest.mark.parametrize("damage", ["missing", "other", "directory"])
def test_damaged_prepared_data_is_reported_in_a_sentence(damage, swept, store, monkeypatch, tmp_path):
    original = data.prepare

    def prepare_and_damage(*args, **options):
        prepared = original(*args, **options)
        copy = shutil.copytree(prepared.directory, tmp_path / "copy")
        (copy / "x_test.npy").unlink()
        if damage == "other":
            np.save(copy / "x_test.npy", np.zeros((2, 2)))
        elif damage == "directory":
            (copy / "x_test.npy").mkdir()
        return replace(prepared, directory=str(copy))

    monkeypatch.setattr(data, "prepare", prepare_and_damage)
    assert "is missing or damaged" in explanation(swept[1], store)


def _empty_run(store):
    client = stores.client(store)
    return client.create_run(client.get_experiment_by_name("digits").experiment_id).info.run_id


SHAPE = Architecture(4, (3,), 2, "relu", output_bias="none")
ARRAYS = {"W1": np.ones((4, 3), np.float32), "b1": np.zeros(3, np.float32), "W2": np.ones((3, 2), np.float32)}


def npz_bytes(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def compressed_npz_bytes(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npz_with_false_header():
    """Return an .npz whose header of W1 claims a petabyte."""
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
    ("content", "message"),
    [
        (npz_bytes(**ARRAYS | {"W1": np.ones((3, 4), np.float32)}), r"W1 .*\(3, 4\) and dtype float32, not"),
        (npz_bytes(**ARRAYS | {"b1": np.zeros(3)}), "b1 has shape .* and dtype float64, not"),
        (npz_bytes(**ARRAYS | {"b1": np.array([None] * 3)}), "b1 has shape .* and dtype object, not"),
        (npz_bytes(**ARRAYS | {"W2": np.full((3, 2), np.nan, np.float32)}), "W2 .* NaN or infinite"),
        (npz_bytes(**ARRAYS | {"W1": np.ones((400, 300), np.float32)}), r"W1 .*\(400, 300\) and dtype "),
        (npz_bytes(**ARRAYS | {"W3": np.ones(1)}), "has the arrays W1, b1, W2, W3 instead of W1, b1, W2"),
        (npz_with_false_header(), "is damaged .*W1 is truncated: its header promises 1125899906842624 bytes"),
        (npz_bytes(**ARRAYS)[:-30], "is damaged"),
        (b"PK", "is damaged"),
        (npz_bytes(**ARRAYS).replace(b"\0\0\x80\x3f", b"\0\0\x90\x3f"), "is damaged .*Bad CRC-32"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_the_network_are_refused(content, message):
    with pytest.raises(FnnexpError, match=message):
        stored.weights(content, SHAPE, np.dtype(np.float32))


@pytest.mark.parametrize("write", [npz_bytes, compressed_npz_bytes])
def test_weights_round_trip_through_the_file(write):
    fortran_order = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3))
    arrays = ARRAYS | {"W1": fortran_order}
    weights = stored.weights(write(**arrays), SHAPE, np.dtype(np.float32))
    assert {name: array.tolist() for name, array in weights.items()} == {
        n: a.tolist() for n, a in arrays.items()
    }


def test_an_artifact_that_is_too_large_is_not_fetched(swept, store):
    with pytest.raises(FnnexpError, match=r"config\.yaml is larger than the 10 bytes"):
        artifacts.read(swept[1]["run_id"].iloc[0], "config.yaml", store, most=10)


def random_evaluation(inputs=784, classes=10, units=5, wrong=40, n=60):
    rng = np.random.default_rng(0)
    real = rng.integers(0, classes, n)
    predicted = np.where(np.arange(n) < wrong, (real + 1) % classes, real)
    predictions = Predictions(predicted, rng.uniform(0.5, 1, n), rng.uniform(0, 9, n))
    images = rng.integers(0, 256, (n, inputs)).astype(np.uint8)
    W1 = rng.normal(size=(inputs, units)).astype(np.float32)
    rows, logged = np.arange(n), (n - wrong) / n
    return mistakes.Evaluation("t", "test", rows, images, real, predictions, classes, W1, logged, True)


def test_inputs_that_are_not_square_and_too_many_classes_are_reported_and_not_drawn():
    drawn, notes = mistakes.figures(random_evaluation(inputs=7))
    assert [each.name for each in drawn] == ["confusion"]
    assert "7 values are not square images" in notes[0]
    drawn, notes = mistakes.figures(random_evaluation(inputs=4, classes=100))
    assert [each.name for each in drawn] == ["worst_errors", "first_weights"]
    assert "confusion.csv" in notes[0]
    assert [each.name for each in mistakes.figures(random_evaluation(inputs=4, wrong=0))[0]] == [
        "confusion",
        "first_weights",
    ]
    assert "it gets none wrong." in mistakes.sentence(random_evaluation(wrong=0))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(1, 9)] * 9 + [(8, 3)], "Its most frequent mistake is to predict 9 for class 1 (9 times)."),
        ([(1, 9)] * 5 + [(8, 3)] * 4, "No mistake is clearly the most frequent; most often it predicts 9 for "
                                      "class 1 (5 times) and 3 for class 8 (4 times)."),
        ([(1, 9)] * 5 + [(8, 3)] * 5 + [(4, 9)] * 5, "No mistake is clearly the most frequent; most often it "
         "predicts 9 for class 1 (5 times), 9 for class 4 (5 times) and 3 for class 8 (5 times)."),
        ([(1, 9)] * 5 + [(i, 0) for i in range(1, 7) for _ in range(4)], "No mistake is clearly the most "
         "frequent; most often it predicts 9 for class 1 (5 times), 0 for class 1 (4 times), 0 for class 2 "
         "(4 times) and 4 other mistakes as often as the last."),
        ([(1, 9), (8, 3)], "No mistake occurs twice."),
        ([(1, 9)] * 2, "All its mistakes are to predict 9 for class 1 (2 times)."),
    ],
)  # fmt: skip
def test_the_most_frequent_mistake_is_named_if_it_stands_out(pairs, expected):
    real, predicted = np.array([*pairs, *((0, 0),) * 20]).T
    evaluation = random_evaluation(inputs=4, n=len(real))._replace(real=real)
    evaluation = evaluation._replace(predictions=replace(evaluation.predictions, predicted=predicted))
    assert f" {expected}" in mistakes.sentence(evaluation)


def test_the_gallery_shows_the_worst_errors_first_and_titles_do_not_overlap():
    evaluation = random_evaluation()
    figure = mistakes._gallery(evaluation, 28)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    i = int(
        np.argmax(
            np.where(evaluation.predictions.predicted != evaluation.real, evaluation.predictions.loss, -1)
        )
    )
    predictions = evaluation.predictions
    percent = f"{100 * predictions.output[i]:.0f}%"
    title = f"{evaluation.real[i]} predicted as {predictions.predicted[i]} ({percent})"
    assert ax.texts[0].get_text() == title
    assert len(ax.texts) == 28
    tile = ax.images[0].get_array()[:28, :28, 0]
    assert (tile == 255 - evaluation.images[i].reshape(28, 28)).all()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert apart(boxes)
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)


def test_outputs_that_are_no_probabilities_are_not_called_so():
    evaluation = random_evaluation(inputs=4)._replace(is_probability=False)
    assert list(mistakes.mistakes(evaluation))[:5] == ["row", "real", "predicted", "output", "loss"]
    assert "probability" not in mistakes._gallery_caption(evaluation)
    i = evaluation.wrong[0]
    title = mistakes._gallery(evaluation, 2).axes[0].texts[0].get_text()
    assert title.endswith(f"({evaluation.predictions.output[i]:.2f})")


def test_weights_are_sorted_by_norm_and_their_scale_is_monotonic_in_grey():
    W1 = random_evaluation(units=130).W1
    figure = pictures.first_weights(W1, 28, most=100, columns=10)
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.shape[0] > 10 * 28  # a hundred units in ten rows
    largest = W1[:, np.argmax(np.linalg.norm(W1, axis=0))].reshape(28, 28)
    limit = np.percentile(np.abs(W1), pictures.CLIP)
    assert (drawn[:28, :28, :3] == pictures._shades(largest, limit)).all()
    values = np.linspace(-2, 2, 2 * pictures.LEVELS + 1)
    grey = pictures._shades(values, 2.0) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(grey) > 0).all()


@pytest.mark.parametrize("scale", ["unit", "raw"])
def test_predictions_of_many_rows_agree_with_the_reference(scale):
    rng = np.random.default_rng(1)
    shape = Architecture(9, (4, 3), 5, "tanh", hidden_bias="none")
    W = [rng.normal(size=(9, 4)) / 50, rng.normal(size=(4, 3)), rng.normal(size=(3, 5))]
    arrays = {"W1": W[0], "W2": W[1], "W3": W[2], "b3": rng.normal(size=5)}
    images, labels = (
        rng.integers(0, 256, (1100, 9)).astype(np.uint8),
        rng.integers(0, 5, 1100).astype(np.uint8),
    )
    recipe = Recipe(shape, Batching("full"), "sgd", epochs=1, scale=scale, epsilon=1e-3)
    split = Split(images, labels, scaling(scale, images))
    predictions = predict(recipe, Lane("0", 0, (), ()), parameters_from(shape, arrays), split)
    network = Network(W, [None, None, arrays["b3"]], "tanh", epsilon=1e-3)
    P = network.forward(images / 255 if scale == "unit" else images)
    assert (predictions.predicted == P.argmax(axis=1)).all()
    assert predictions.output == pytest.approx(P.max(axis=1))
    assert predictions.loss == pytest.approx(network.loss(P, labels))
