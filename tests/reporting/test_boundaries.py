"""Decision boundaries: predictions are those of the network, and the report draws the right trials."""

from __future__ import annotations

import contextlib
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from boxes import assert_legible
from recorded import recorded

import fnnexp
from fnnexp.errors import FnnexpError
from fnnexp.reporting.plots import picture
from fnnexp.reporting.sections.by_factor import boundaries
from fnnexp.results import questions
from fnnexp.results.networks.regions import regions

SMALL = {"epochs": 3, "batching": "mini", "execution.n_jobs": 1, "execution.engine": "numpy"}


@pytest.fixture(scope="module")
def swept(empty_store, tmp_path_factory):
    """Return a folder, its store, and the frame of a sweep on spirals of three arms."""
    folder = tmp_path_factory.mktemp("plane")
    store = empty_store(folder)
    with contextlib.chdir(folder):
        runs = fnnexp.sweep(
            data="spirals",
            **{"data.n": 90, "data.classes": 3, "arch.hidden": [[8], [3]]},
            seed=range(4),
            **SMALL,
        )
        rng = np.random.default_rng(1)
        x, y = rng.integers(0, 200, (80, 2), dtype=np.uint8), np.arange(80) % 2
        x[y == 1] += 55
        np.savez("bytes.npz", x=x, y=y)
        fnnexp.sweep(
            data="files", **{"data.path": "bytes.npz", "data.scale": "standardize"}, seed=0, **SMALL,
            **{"tracking.experiment": "bytes"},
        )  # fmt: skip
    return folder, store, runs


@pytest.mark.parametrize("experiment", ["spirals", "bytes"])
def test_the_regions_are_what_the_network_predicts(experiment, swept):
    folder, store, _ = swept
    with contextlib.chdir(folder):
        network = fnnexp.load(fnnexp.runs(experiment, tracking_uri=store).iloc[0], tracking_uri=store)
        drawn = regions(network, places=15)
        X, y = network.rows("train")
        plane = np.array([[a, b] for b in drawn.y for a in drawn.x], np.float32)
        # A network of bytes refuses other values, but the plane reaches beyond them.
        inside = ((plane >= 0) & (plane <= 255)).all(axis=1) | (experiment == "spirals")
        assert (drawn.predicted.ravel()[inside] == network.predict(plane[inside])).all()
        probability = network.predict_proba(plane[inside]).max(axis=1)
        assert drawn.output.ravel()[inside] == pytest.approx(probability, rel=1e-6)
    assert inside.mean() > 0.5
    train = X.astype(float)
    scaled = plane.astype(float)
    if experiment == "bytes":
        scaled = (scaled - train.mean(0)) / train.std(0)
    weights = {name: array.astype(float) for name, array in network.weights.items()}
    hidden = np.maximum(scaled @ weights["W1"] + weights["b1"], 0)
    logits = hidden @ weights["W2"] + weights["b2"]
    assert (drawn.predicted.ravel() == logits.argmax(axis=1)).mean() > 0.99
    assert len(np.unique(drawn.predicted)) > 1
    assert np.array_equal(drawn.points, X)
    assert np.array_equal(drawn.labels, y)
    assert drawn.x[0] < train[:, 0].min() < train[:, 0].max() < drawn.x[-1]


def test_the_report_draws_each_configuration_by_its_median_trial(swept, monkeypatch):
    folder, store, runs = swept
    drawn = []
    monkeypatch.setattr(boundaries, "boundaries", lambda panels: drawn.extend(panels) or picture.Picture())
    rows, findings = questions.rows_and_findings(runs)
    with contextlib.chdir(folder):
        (section,) = boundaries.sections(rows, findings, store)
    by_width = runs.groupby("arch.hidden")["val_accuracy"]
    best_first = by_width.mean().sort_values(ascending=False, kind="stable").index
    frame = section.data["boundaries"]
    assert len(drawn) == len(frame) == 2
    for (_, below, plane), (_, row), width in zip(drawn, frame.iterrows(), best_first, strict=True):
        trial = runs[runs["name"] == row["name"]].iloc[0]
        assert trial["arch.hidden"] == width
        assert row["val_accuracy"] == sorted(by_width.get_group(width))[1]  # the second of four
        assert below == f"seed {trial['seed']}: {100 * trial['val_accuracy']:.2f}%"
        assert len(plane.points) == len(fnnexp.show_data("spirals", "data.n=90", "data.classes=3").X)
    assert [figure.name for figure in section.figures] == ["boundaries"]


def test_mnist_has_no_boundaries_and_no_network_is_read(monkeypatch):
    monkeypatch.setattr(boundaries, "network_of", lambda *_: pytest.fail("a network was read"))
    assert boundaries.sections(*questions.rows_and_findings(recorded("card_grid_mini"))) == []


def test_a_configuration_without_weights_is_named(swept, tmp_path):
    folder, _, _ = swept
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    store = f"sqlite:///{copy / 'mlflow.db'}"
    with contextlib.chdir(copy):
        runs = fnnexp.runs("spirals", tracking_uri=store)
        for file in copy.glob("mlruns/**/weights.npz"):
            file.unlink()
        (section,) = boundaries.sections(*questions.rows_and_findings(runs), store)
    assert section.data == {}
    assert len(section.blocks) == 2
    assert "has no panel: " in section.blocks[0].text


def test_one_network_or_several_are_drawn_and_others_refused(swept):
    folder, store, runs = swept
    with contextlib.chdir(folder):
        several = fnnexp.plot_boundary(runs.iloc[:2], tracking_uri=store)
        one = fnnexp.plot_boundary(fnnexp.load(runs.iloc[0], tracking_uri=store))
        assert [len(figure.axes) for figure in (several, one)] == [2, 1]
        assert_legible(several)
        assert len(one.axes[0].images) == 1
        of_images = SimpleNamespace(
            name="a", recipe=SimpleNamespace(architecture=SimpleNamespace(inputs=784))
        )
        with pytest.raises(FnnexpError, match=r"a has 784 inputs; boundaries are drawn in the plane"):
            regions(of_images)
        with pytest.raises(FnnexpError, match="draws 1 to 12 networks, not 16"):
            fnnexp.plot_boundary(pd.concat([runs, runs]), tracking_uri=store)
