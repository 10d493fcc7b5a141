"""Networks of finished trials: predictions agree with plain NumPy, and accuracies with the store."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import confusion_matrix

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.pieces import registry
from fnnexp.reporting.sections import mistakes as mistakes_section
from fnnexp.tracking import artifacts

SMALL = {"execution.n_jobs": 1, "data.validation": 200, "execution.engine": "numpy"}


@pytest.fixture(scope="module")
def swept(empty_store, tmp_path_factory):
    """Return a store with trials of several kinds on digits, and their frame."""
    folder = tmp_path_factory.mktemp("networks")
    store = empty_store(folder)
    with contextlib.chdir(folder):
        fnnexp.sweep(data="digits", epochs=2, seed=[0, 1], diagnostics=True, **SMALL)
        fnnexp.sweep(
            data="digits", epochs=6, arch="sigmoid_32_32", **{"data.scale": "standardize"}, seed_split=7,
            **{"stopping.patience": 1, "stopping.min_delta": 9.0, "optimizer.lr": 0.5}, **SMALL,
        )  # fmt: skip
        fnnexp.sweep(
            data="digits", epochs=1, loss="mse", **{"data.scale": "center", "arch.output_bias": "none"},
            **{"data.subset": 500, "optimizer.lr": 1.0}, **SMALL,
        )  # fmt: skip
        fnnexp.sweep(data="digits", epochs=1, arch="tanh_128", **{**SMALL, "loss.label_smoothing": 0.1})
        runs = fnnexp.runs("digits")
    return store, runs


def plain(network, X):
    """Return the logits of a network, computed layer by layer in float64 from its weights and config."""
    functions = {
        "relu": lambda Z: np.maximum(Z, 0),
        "tanh": np.tanh,
        "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
    }
    layers, A = sum(name.startswith("W") for name in network.weights), X
    for layer in range(1, layers + 1):
        A = A @ network.weights[f"W{layer}"].astype(float)
        A = A + network.weights.get(f"b{layer}", 0.0)
        if layer < layers:
            A = functions[network.config["arch"]["activation"]](A)
    return A


def softmax(Z):
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def scaled(network, X):
    """Return the rows X as the network's trial scaled them, by the formulas of the documentation."""
    train = network.rows("train").X.astype(float)
    X, scale = X.astype(float), network.config["data"]["scale"]
    if scale == "unit":
        return X / 255
    if scale == "center":
        return (X - train.mean(axis=0)) / 255
    deviation = train.std(axis=0)
    return (X - train.mean(axis=0)) / np.where(deviation > 0, deviation, 255)


def test_accuracies_equal_the_logged_ones_and_outputs_agree_with_plain_numpy(swept):
    store, runs = swept
    assert len(runs) == 5
    for _, row in runs.iterrows():
        network = fnnexp.load(row, tracking_uri=store)
        for split in ("val", "test"):
            X, y = network.rows(split)
            assert network.accuracy(X, y) == row[f"{split}_accuracy"], network
        Z = plain(network, scaled(network, X))
        assert (network.predict(X) == Z.argmax(axis=1)).mean() > 0.995
        if row["loss"] == "mse":  # the output is sigmoid
            assert network.predict_proba(X) == pytest.approx(1 / (1 + np.exp(-Z)), abs=1e-5)
        else:
            assert network.predict_proba(X) == pytest.approx(softmax(Z), abs=1e-4)
        assert (network.predict(X.reshape(-1, 28, 28)) == network.predict(X)).all()
        assert network.accuracy(X.astype(np.int64), list(y)) == network.accuracy(X.astype(float), y)


def test_a_network_has_the_weights_of_its_file_and_the_config_of_its_trial(swept):
    store, runs = swept
    row = runs.iloc[0]
    network = fnnexp.load(row["name"], experiment="digits", tracking_uri=store)
    content = artifacts.read(row["run_id"], "weights.npz", store, most=1 << 30)
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        assert list(network.weights) == list(stored)
        assert all((network.weights[name] == stored[name]).all() for name in stored)
    assert {name: array.shape for name, array in network.weights.items()} == {
        "W1": (784, 100), "b1": (100,), "W2": (100, 10), "b2": (10,),
    }  # fmt: skip
    assert not network.weights["W1"].flags.writeable
    assert network.config["optimizer"]["lr"] == 0.1
    assert network.config["data"]["validation"] == 200
    assert repr(network) == f"<Network {row['name']}: 784-100-10 relu, 79,510 parameters>"
    copy = pickle.loads(pickle.dumps(network))
    X, y = network.rows("test")
    assert copy.accuracy(X, y) == network.accuracy(X, y)


def test_rows_are_those_that_the_trial_used(swept):
    store, runs = swept
    digits = fnnexp.images("digits").drop(columns="label").to_numpy()
    network = fnnexp.load(runs["run_id"][0], tracking_uri=store)
    assert (digits[-200:] == network.rows("val").X).all()
    assert (digits[:-200] == network.rows("train").X).all()
    split = fnnexp.load(runs[runs["arch"] == "sigmoid_32_32"].iloc[0], tracking_uri=store)
    assert not (digits[-200:] == split.rows("val").X).all()
    assert len(split.rows("val").X) == 200
    numbers = fnnexp.mistakes(split)["row"]
    wrong = split.predict(digits) != fnnexp.images("digits")["label"]
    assert wrong[numbers].all()


def test_the_best_weights_are_those_of_the_best_epoch(swept):
    store, runs = swept
    row = runs[runs["weights_best_epoch"].notna()].iloc[0]
    assert row["weights_best_epoch"] < row["stopped_epoch"]
    best, final = (fnnexp.load(row, weights=which, tracking_uri=store) for which in ("best", "final"))
    curves = fnnexp.curves("digits", metrics="val_accuracy", tracking_uri=store)
    curve = curves[curves["trial"] == row["trial"]].set_index("epoch")["value"]
    assert best.accuracy(*best.rows("val")) == curve[row["weights_best_epoch"]]
    assert final.accuracy(*final.rows("val")) == curve[row["stopped_epoch"]]


@pytest.mark.parametrize("column", ["run_id", "trial", "name"])
def test_a_trial_is_found_by_each_of_its_names(column, swept):
    store, runs = swept
    row = runs.iloc[2]
    network = fnnexp.load(row[column], tracking_uri=store)
    assert (network.run_id, network.trial, network.name) == (row["run_id"], row["trial"], row["name"])


# --- data of one's own --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(empty_store, tmp_path_factory):
    """Return a store with trials on a CSV of real numbers and on an .npz of fractions, and its folder."""
    folder = tmp_path_factory.mktemp("own")
    store = empty_store(folder)
    X, y = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    table = pd.DataFrame(X[order], columns=["p1", "p2", "p3", "p4"]).assign(label=y[order])
    digits = load_digits()
    fractions = np.round(digits.data * 255 / 16) / 255
    with contextlib.chdir(folder):
        table[:100].to_csv("train.csv", index=False)
        table[100:].to_csv("test.csv", index=False)
        np.savez("fractions.npz", x_train=fractions[:1500], y_train=digits.target[:1500],
                 x_test=fractions[1500:], y_test=digits.target[1500:])  # fmt: skip
        common = {"execution.n_jobs": 1, "tracking.experiment": "own", "epochs": 3, "arch.hidden": [[8]]}
        files = {"data.path": str(folder / "train.csv"), "data.test_path": str(folder / "test.csv")}
        fnnexp.sweep(data="files", **files, **{"data.scale": "standardize", "data.validation": 20}, **common)
        fnnexp.sweep(data="files", **{"data.path": str(folder / "fractions.npz")}, **common)
    return store, folder


def test_columns_of_a_csv_are_standardized_as_in_training(own):
    store, folder = own
    runs = fnnexp.runs("own", tracking_uri=store)
    row = runs[runs["data.scale"] == "standardize"].iloc[0]
    network = fnnexp.load(row, tracking_uri=store)
    train, test = (pd.read_csv(folder / f"{name}.csv") for name in ("train", "test"))
    held_out = train[-20:]
    assert network.accuracy(test.drop(columns="label"), test["label"]) == row["test_accuracy"]
    assert network.accuracy(held_out.drop(columns="label"), held_out["label"]) == row["val_accuracy"]
    rows = train[:-20].drop(columns="label").to_numpy().astype(np.float32).astype(float)
    X = test.drop(columns="label").to_numpy()
    Z = plain(network, (X - rows.mean(axis=0)) / rows.std(axis=0))
    assert network.predict_proba(X) == pytest.approx(softmax(Z), abs=1e-5)


def test_mistakes_have_the_row_numbers_of_a_file_without_test_rows(own, empty_store, tmp_path):
    folder, store = own[1], empty_store(tmp_path)
    table = pd.concat([pd.read_csv(folder / f"{name}.csv") for name in ("train", "test")], ignore_index=True)
    table.to_csv(tmp_path / "all.csv", index=False)
    data = {"data.path": str(tmp_path / "all.csv"), "data.scale": "standardize", "data.validation": 30}
    common = {"execution.n_jobs": 1, "tracking.experiment": "one_file", "tracking.uri": store}
    runs = fnnexp.sweep(data="files", epochs=1, seed_split=[None, 3], **data, **common, **{"data.subset": 80})
    X, y = table.drop(columns="label").to_numpy(np.float32), table["label"].to_numpy()
    assert len(runs) == 2
    for _, row in runs.iterrows():
        network = fnnexp.load(row, tracking_uri=store)
        used = []
        for split in ("train", "val", "test"):
            used.extend(numbers := network.row_numbers(split))
            assert (X[numbers] == network.rows(split).X).all()
            mistakes = fnnexp.mistakes(network, split=split)
            assert (y[mistakes["row"]] == mistakes["true"]).all()
            assert (network.predict(X[mistakes["row"]]) == mistakes["predicted"]).all()
        assert len(set(used)) == len(used) == 80 + 30 + 30
        evaluation = mistakes_section.evaluate(row, store)
        assert (X[evaluation.rows] == evaluation.images).all()
        of_file = fnnexp.images("files", "test", path=tmp_path / "all.csv").loc[mistakes["row"]]
        assert (of_file["label"].to_numpy() == mistakes["true"]).all()
    (tmp_path / "all.csv").unlink()
    with pytest.raises(FnnexpError, match="does not exist"):
        fnnexp.mistakes(fnnexp.load(row, tracking_uri=store))


def test_fractions_of_a_file_are_read_as_the_bytes_that_they_are(own):
    store, folder = own
    runs = fnnexp.runs("own", tracking_uri=store)
    row = runs[runs["data.scale"] == "unit"].iloc[0]
    network = fnnexp.load(row, tracking_uri=store)
    with np.load(folder / "fractions.npz") as arrays:
        X, y = arrays["x_test"], arrays["y_test"]
    assert network.accuracy(X, y) == row["test_accuracy"]
    assert network.accuracy(np.rint(X * 255).astype(np.uint8), y) == row["test_accuracy"]
    assert network.predict_proba(X) == pytest.approx(softmax(plain(network, X)), abs=1e-5)


def test_weights_load_without_the_data_and_scaling_says_what_it_needs(own, tmp_path, monkeypatch):
    _, folder = own
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.csv"))
    store = f"sqlite:///{copy / 'mlflow.db'}"
    runs = fnnexp.runs("own", tracking_uri=store)
    real, images = (
        fnnexp.load(runs[runs["data.scale"] == scale].iloc[0], tracking_uri=store)
        for scale in ("standardize", "unit")
    )
    monkeypatch.setattr("fnnexp.data.datasets.prepare", lost)
    assert real.weights["W1"].shape == (4, 8)
    assert images.predict(np.zeros((2, 64))).shape == (2,)
    with pytest.raises(
        FnnexpError, match=r"by data\.scale=standardize, for which its training data is needed: "
    ):
        real.predict(np.zeros((1, 4)))
    with pytest.raises(FnnexpError, match="the file is gone"):
        images.rows("test")


def lost(*_, **__):
    raise FnnexpError("the file is gone")


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 28, 27)), r"has the shape \(3, 28, 27\); this network has 784 inputs, so X must be "
                                r"\(n, 784\) or \(n, 28, 28\)$"),
        (np.zeros((28, 28)), r"for a single row write X\[None\]"),
        (np.zeros((3, 785)), "without the column of labels"),
        (np.zeros((0, 784)), "with at least one row"),
        (np.zeros(()), r"has the shape \(\)"),
        (np.full((2, 784), 0.3), r"has fractions from 0\.3 to 0\.3\. .* np\.rint\(255 \* X\)"),
        (np.full((2, 784), -1.0), r"values from -1 to -1\. .* values from 0 to 255"),
        (np.full((2, 784), 300), "values from 300 to 300"),
        (np.full((2, 784), np.nan), "NaN, infinite"),
        (np.full((2, 784), "a"), "is of dtype <U1"),
        ([[1, 2], [3]], "X cannot be converted to an array: .*inhomogeneous"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused(X, message, swept):
    store, runs = swept
    network = fnnexp.load(runs.iloc[0], tracking_uri=store)
    with pytest.raises(FnnexpError, match=message):
        network.predict(X)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 10], r"y has the label 10; it must have the class numbers 0 to 9 of the 2 rows of X"),
        ([0, -1], "y has the label -1"),
        ([0, 0.5], r"y has the label 0\.5"),
        ([0], r"y has the shape \(1,\); it must be \(2,\)"),
        (np.eye(10)[:2], r"write y\.argmax\(axis=1\)"),
        (["a", "b"], "y is of dtype <U1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(y, message, swept):
    store, runs = swept
    network = fnnexp.load(runs.iloc[0], tracking_uri=store)
    with pytest.raises(FnnexpError, match=message):
        network.accuracy(np.zeros((2, 784), np.uint8), y)


def test_what_is_no_finished_trial_is_refused(swept):
    store, runs = swept
    name, some_id = runs["name"][0], "0" * 32

    def refusal(*words, **options):
        with pytest.raises(FnnexpError) as raised:
            fnnexp.load(*words, tracking_uri=store, **options)
        return str(raised.value)

    assert refusal(f"{name}x") == (
        f"the store has no trial with the name or id '{name}x'. Did you mean '{name}'? "
        "fnnexp.runs('NAME') lists trials, and fnnexp.experiments() lists experiments"
    )
    assert "the experiment 'digits' has no trial" in refusal(some_id, experiment="digits")
    assert "There is no experiment 'digit' in the store. Did you mean 'digits'?" in refusal(
        name, experiment="digit"
    )
    assert "not a frame of 5 rows; write its name" in refusal(runs)
    assert "not 3;" in refusal(3)
    assert "weights='first' is unknown; it can be final or best" in refusal(name, weights="first")
    assert "has no best weights, because it was trained without stopping.patience" in refusal(
        name, weights="best"
    )
    assert "no trial with the name or id 'it's none'" in refusal("it's none")
    network = fnnexp.load(name, tracking_uri=store)
    with pytest.raises(FnnexpError, match="split='all' is unknown; it can be train, val, test"):
        network.rows("all")


def test_a_trial_that_has_not_finished_and_a_name_of_several_are_refused(store, own_folder):
    for name, epochs in (("a", 0), ("b", 1)):
        text = f"defaults: [config, override data: digits, _self_]\nepochs: {epochs}\n"
        (own_folder / f"{name}.yaml").write_text(text.replace("override data", "override /data"))
        fnnexp.sweep(name, config_dir=own_folder, **{"execution.n_jobs": 1})
    fnnexp.sweep("b", "arch=tanh_128", "optimizer.lr=1e38", "execution.n_jobs=1", config_dir=own_folder)
    (run_a,), (run_b, diverged) = (fnnexp.runs(name).itertuples() for name in "ab")
    assert run_a.name == run_b.name
    with pytest.raises(FnnexpError) as raised:
        fnnexp.load(run_a.name)
    assert str(raised.value) == (
        f"2 trials have the name '{run_a.name}'; write the id of a run, or experiment=NAME:\n"
        f"  {run_a.run_id} (trial {run_a.trial} in 'a')\n  {run_b.run_id} (trial {run_b.trial} in 'b')"
    )
    assert fnnexp.load(run_a.name, experiment="b").config["epochs"] == 1
    with pytest.raises(FnnexpError, match="has no network to load: it diverged at epoch 1, so that its"):
        fnnexp.load(diverged.name)


def test_a_network_with_an_activation_of_ones_own_needs_its_file(store, own_folder):
    file = own_folder / "mine.py"
    text = "from fnnexp import pieces\npieces.activation('twice', lambda Z: 2 * Z, lambda Z: 2.0)\n"
    file.write_text(text)
    runs = fnnexp.sweep(
        data="digits", epochs=1, pieces=file, **{"arch.activation": "twice", "execution.n_jobs": 1}
    )
    network = fnnexp.load(runs.iloc[0])
    X, y = network.rows("test")
    assert network.accuracy(X, y) == runs["test_accuracy"][0]
    registry.withdraw(str(file.resolve()))
    try:
        with pytest.raises(
            FnnexpError, match=r"pieces from mine\.py@\w+, which are not loaded; .*pieces\.load\('FILE'\)"
        ):
            fnnexp.load(runs.iloc[0])
        file.write_text(text.replace("2 *", "2.0 *"))
        fnnexp.pieces.load(file)
        loaded = r"pieces from mine\.py@\w+, but those loaded now are from mine\.py@"
        with pytest.raises(FnnexpError, match=loaded):
            fnnexp.load(runs.iloc[0])
    finally:
        registry.withdraw(str(file.resolve()))


# --- confusion and mistakes ---------------------------------------------------------------------------------


def test_confusion_and_mistakes_agree_with_predictions(swept):
    store, runs = swept
    network = fnnexp.load(fnnexp.best(runs), tracking_uri=store)
    X, y = network.rows("test")
    predicted, P = network.predict(X), network.predict_proba(X)
    frames = fnnexp.confusion(network, split="test"), fnnexp.confusion(network, X, y)
    for frame in frames:
        assert frame.to_numpy().tolist() == confusion_matrix(y, predicted).tolist()
        assert (frame.index.name, frame.columns.name) == ("true", "predicted")
    wrong = np.flatnonzero(predicted != y)
    for frame in (fnnexp.mistakes(network, split="test"), fnnexp.mistakes(network, X, y)):
        assert list(frame) == ["row", "true", "predicted", "probability", "true_name", "predicted_name"]
        assert frame["true_name"].tolist() == frame["true"].astype(str).tolist()
        assert X[frame.iloc[0]["row"]].tolist() == X[frame["row"].iloc[0]].tolist()
        assert sorted(frame["row"]) == wrong.tolist()
        assert (y[frame["row"]] == frame["true"]).all()
        assert (predicted[frame["row"]] == frame["predicted"]).all()
        assert (P.max(axis=1)[frame["row"]] == frame["probability"]).all()
        assert frame["probability"].is_monotonic_decreasing
    validation = fnnexp.confusion(runs["run_id"][0], tracking_uri=store).to_numpy()
    assert np.trace(validation) / 200 == runs["val_accuracy"][0]
    mse = runs[runs["loss"] == "mse"].iloc[0]
    assert list(fnnexp.mistakes(mse, tracking_uri=store))[3] == "output"
    with pytest.raises(FnnexpError, match="y is missing; write both X and y"):
        fnnexp.confusion(network, X)
    with pytest.raises(FnnexpError, match=r"split='val' chooses rows of .* and X and y were given too"):
        fnnexp.mistakes(network, X, y, split="val")


# --- best, experiments, report ------------------------------------------------------------------------------


def test_the_best_trial_is_the_first_of_the_tied_whatever_the_order_of_rows(swept):
    _, runs = swept
    best = fnnexp.best(runs)
    assert best["val_accuracy"] == runs["val_accuracy"].max()
    assert fnnexp.best(runs, metric="test_loss")["test_loss"] == runs["test_loss"].min()
    tied = runs.assign(val_accuracy=[0.5, 0.75, 0.75, math.nan, 0.75])
    shuffled = [tied.sample(frac=1, random_state=seed) for seed in range(5)]
    rows = [fnnexp.best(frame, metric="val_accuracy") for frame in (*shuffled, pd.concat([tied, tied]))]
    assert len({row["name"] for row in rows}) == 1
    assert {row["ties"] for row in rows} == {2}
    with pytest.raises(FnnexpError, match="none of these 5 trials has finished with a "):
        fnnexp.best(runs.assign(status="failed"))


def test_experiments_lists_what_the_store_has(swept, own, tmp_path):
    for (store, _), name in ((swept, "digits"), (own, "own")):
        frame, runs = fnnexp.experiments(tracking_uri=store), fnnexp.runs(name, tracking_uri=store)
        (row,) = frame.itertuples()
        assert (row.name, row.trials, row.done) == (name, len(runs), len(runs))
        ended = (runs["started"] + pd.to_timedelta(runs["seconds"], unit="s")).max()
        assert abs(row.changed - ended) < pd.Timedelta("2ms")
    with pytest.raises(FnnexpError, match="no sweep has been recorded here"):
        fnnexp.experiments(tracking_uri=f"sqlite:///{tmp_path / 'none.db'}")


@pytest.mark.usefixtures("blank_figures")
def test_the_report_is_that_of_the_command_and_a_notebook_shows_a_link(swept, tmp_path, invoke, capsys):
    store, _ = swept
    report = fnnexp.report("digits", "arch=relu_100", folder=tmp_path / "a b", tracking_uri=store)
    printed = capsys.readouterr().out
    ran = invoke("report", "digits", "arch=relu_100", "--folder", str(tmp_path / "b"), "--uri", store)
    assert ran.status == 0
    assert report.path == tmp_path / "a b" / "report.html"
    files = [{file.name for file in folder.iterdir()} for folder in (report.path.parent, tmp_path / "b")]
    assert files[0] == files[1]
    assert printed.splitlines()[0] == ran.out.splitlines()[0]
    assert 'href="a%20b/report.html"' in report._repr_html_()
    assert os.fspath(report) == str(report.path)
    with pytest.raises(FnnexpError, match="after the experiment's name follow options as KEY=VALUE"):
        fnnexp.report("digits", "relu_100", tracking_uri=store)
    with pytest.raises(FnnexpError, match=re.escape('write "arch=a,b"')):
        fnnexp.report("digits", "arch=a", "arch=b", tracking_uri=store)
    with pytest.raises(FnnexpError, match=r"fnnexp\.report reads an experiment by its name, and was given a"):
        fnnexp.report(fnnexp.runs("digits", tracking_uri=store))


# --- frames as files ----------------------------------------------------------------------------------------


def test_frames_have_the_same_types_after_parquet(swept, tmp_path):
    store, runs = swept
    same = runs[runs["arch"] == "relu_100"]
    network = fnnexp.load(runs["run_id"][0], tracking_uri=store)
    frames = {
        "runs": runs,
        "curves": fnnexp.curves("digits", tracking_uri=store),
        "diagnostics": fnnexp.diagnostics("digits", tracking_uri=store),
        "experiments": fnnexp.experiments(tracking_uri=store),
        "leaderboard": fnnexp.leaderboard(runs),
        "compare": fnnexp.compare(runs),
        "compare one": fnnexp.compare(runs, "arch"),
        "compare none": fnnexp.compare(same.assign(status="failed")),
        "compare one none": fnnexp.compare(runs.assign(status="failed"), "arch"),
        "leaderboard none": fnnexp.leaderboard(runs.assign(status="failed")),
        "shares": fnnexp.shares(runs),
        "seconds_to": fnnexp.seconds_to(runs, fnnexp.curves("digits", tracking_uri=store), 0.5),
        "confusion": fnnexp.confusion(network),
        "mistakes": fnnexp.mistakes(network),
        "published": fnnexp.published(),
        "images": fnnexp.images("digits", rows=3),
    }
    for name, frame in frames.items():
        assert not [column for column in frame if frame[column].dtype == object], name
        file = tmp_path / f"{name}.parquet"
        frame.to_parquet(file)
        pd.testing.assert_frame_equal(pd.read_parquet(file), frame, obj=name)
        assert pd.read_parquet(file).attrs == frame.attrs
