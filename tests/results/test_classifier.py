"""The estimator trains the same numbers as a sweep, and scikit-learn accepts it."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fnnexp
from fnnexp import Classifier
from fnnexp.errors import FnnexpError


def test_scikit_learn_accepts_the_estimator():
    check_estimator(Classifier())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": "unit", "seed": 3}, {"seed": 3}),
        (
            {"hidden": (32, 16), "activation": ["tanh", "relu"], "init": "xavier", "optimizer": "adam",
             "l2": 1e-3, "batch_size": 50, "dropout": 0.2, "schedule": "cosine",
             "settings": {"optimizer.beta1": 0.8}},
            {"data.scale": "standardize", "arch.hidden": [[32, 16]], "arch.activation": [["tanh", "relu"]],
             "init": "xavier", "optimizer": "adam", "regularization.l2": 1e-3, "batching.size": 50,
             "regularization.dropout": 0.2, "schedule": "cosine", "optimizer.beta1": 0.8},
        ),
        ({"scale": "center", "batching": "sample", "loss": "mse", "lr": 0.05, "engine": "numba"},
         {"data.scale": "center", "batching": "sample", "loss": "mse", "optimizer.lr": 0.05,
          "execution.engine": "numba"}),
        ({"scale": "raw", "patience": 1, "validation": 300, "lr": 0.001,
          "settings": {"stopping.min_delta": 9.0}},
         {"data.scale": "raw", "stopping.patience": 1, "data.validation": 300, "optimizer.lr": 0.001,
          "stopping.min_delta": 9.0}),
    ],
)  # fmt: skip
def test_weights_are_bitwise_those_of_the_trial_of_a_sweep(arguments, words, store, same_bits):
    images = fnnexp.images("digits")
    X, y = images.drop(columns="label").to_numpy(), images["label"]
    classifier = Classifier(epochs=2, **arguments).fit(X, y)
    common = {"data": "digits", "epochs": 2, "execution.n_jobs": 1, "data.validation": 0}
    runs = fnnexp.sweep(**{**common, "execution.engine": "numpy", **words})
    stopped = "stopping.patience" in words
    network = fnnexp.load(runs.iloc[0], weights="best" if stopped else "final")
    assert same_bits(dict(classifier.network_.weights), dict(network.weights))
    final = fnnexp.load(runs.iloc[0])
    assert final.accuracy(*final.rows("test")) == runs["test_accuracy"][0]  # with numba too
    test = fnnexp.images("digits", "test").drop(columns="label").to_numpy()
    assert (classifier.predict(test) == network.predict(test)).all()
    curve = fnnexp.curves("digits").query("metric == 'train_loss'")["value"]
    assert classifier.history_["train_loss"] == curve.to_list()
    if "loss" in words:
        assert not hasattr(classifier, "predict_proba")
    else:
        assert (classifier.predict_proba(test) == network.predict_proba(test)).all()


def test_real_numbers_train_as_those_of_a_file_do(store, own_folder, same_bits):
    X, y = load_iris(return_X_y=True)
    pd.DataFrame(X[::2], columns=list("abcd")).assign(label=y[::2]).to_csv("train.csv", index=False)
    pd.DataFrame(X[1::2], columns=list("abcd")).assign(label=y[1::2]).to_csv("test.csv", index=False)
    files = {"data.path": "train.csv", "data.test_path": "test.csv", "data.scale": "standardize"}
    runs = fnnexp.sweep(data="files", epochs=3, **files, **{"data.validation": 0, "execution.n_jobs": 1})
    classifier = Classifier(epochs=3).fit(X[::2], np.array(["setosa", "versicolor", "virginica"])[y[::2]])
    assert same_bits(dict(classifier.network_.weights), dict(fnnexp.load(runs.iloc[0]).weights))
    assert (classifier.classes_[y[1::2]] == classifier.predict(X[1::2])).mean() == runs["test_accuracy"][0]


def test_a_grid_search_over_a_pipeline_knows_its_arguments_and_writes_nothing(own_folder):
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), Classifier(batch_size=16, epochs=15, scale="raw"))
    grid = {"classifier__lr": np.array([1e-9, 0.1]), "classifier__hidden": [(8,), (8, 8)]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_params_["classifier__lr"] == 0.1
    assert search.best_score_ > 0.8
    copy = pickle.loads(pickle.dumps(search))
    assert (copy.predict(X) == search.predict(X)).all()
    assert not list(own_folder.iterdir())
    settings = {"optimizer.momentum": 0.5}
    assert clone(Classifier(optimizer="momentum", settings=settings)).settings == settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": "hee"}, r"init=hee: must be one of .* Did you mean 'he'\?"),
        ({"init": "he,max"}, "init='he,max': must be the name of an option"),
        ({"lr": -1.0}, r"^lr=-1\.0: "),
        ({"hidden": (0,)}, r"^hidden=0|^hidden=\[0\]"),
        ({"hidden": 100}, r"^hidden=100: must be a sequence of widths; write hidden=\(100,\)"),
        ({"batching": "full", "batch_size": 8}, "batch_size=8"),
        ({"patience": 2}, "patience=2 .* needs validation rows, but validation=0; write validation="),
        ({"validation": 50}, "validation=50 holds out the last rows of X, and all rows of a class are among"),
        ({"validation": 999}, "validation=999: X has 150 training rows"),
        ({"engine": "torch"}, "engine='torch': must be one of numpy, numba"),
        ({"scale": "unit"}, "scale='unit' divides bytes by 255, and X is of dtype float64"),
        ({"settings": {"optimizer.lr": 1}}, "optimizer.lr, which is an argument of its own; write lr="),
        ({"settings": {"init.method": "he"}}, "init.method, which is an argument of its own; write init="),
        ({"settings": {"execution.n_jobs": 2}}, "settings has execution.n_jobs, which has no meaning"),
        ({"settings": {"init.gian": 2}}, r"has init\.gian, which is not a key.* Did you mean 'init\.gain'\?"),
        ({"settings": {"init.gain": "much"}}, "init.gain"),
        ({"lr": 1e30}, r"training diverged in epoch 1: .* write a smaller lr than 1e\+30"),
    ],
)  # fmt: skip
def test_arguments_that_are_not_valid_are_refused(arguments, message):
    with pytest.raises(FnnexpError, match=message):
        Classifier(**arguments).fit(*load_iris(return_X_y=True))


def test_what_training_would_lose_is_said():
    X, y = load_iris(return_X_y=True)
    small = Classifier(hidden=(2,), epochs=1)
    with pytest.warns(
        UserWarning, match=r"input 1 differ by at most 3\.6, .* steps of 64; the same is true of 3 more"
    ):
        small.fit(X + 1e9, y)
    with pytest.warns(UserWarning, match=r"steps of 1\.4e-45"):
        small.fit(X * 1e-300, y)
    with pytest.raises(ValueError, match=r"X has .* values that training cannot use, such as 5\.1e"):
        small.fit(X * 1e300, y)
    with pytest.warns(UserWarning, match=r"validation=20 .* no row of a class is among"):
        Classifier(hidden=(2,), epochs=1, validation=20).fit(X, y)
