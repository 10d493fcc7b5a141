"""Toys: points on the curves of their formulas, always the same, and valid data sets of every size."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import fnnexp
from fnnexp.data.datasets import load, prepare
from fnnexp.data.toys import TOYS, Toy, draw
from fnnexp.errors import DataError


def distances(points, curve):
    """Return the distance of each point (n, 2) from the nearest point of a curve (m, 2)."""
    return np.hypot(*(points[:, None] - curve[None]).transpose(2, 0, 1)).min(axis=1)


def fine_curve(name, label, classes):
    u = np.linspace(0, 1, 20_001)
    return TOYS[name](u, np.full(len(u), label), classes)


@pytest.mark.parametrize(("name", "options"), [("moons", {}), ("circles", {"factor": 0.5})])
def test_without_noise_points_are_on_the_curves_of_scikit_learn(name, options):
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = getattr(datasets, f"make_{name}")(4000, noise=0, **options)
    ours = draw(name, Toy(n=300, noise=0))
    for label in (0, 1):
        points = ours["x_train"][ours["y_train"] == label]
        assert distances(points, X[y == label]).max() < 0.002
        assert distances(X[y == label], points).max() < 0.2  # they cover all of the curve


def test_without_noise_a_spirals_radius_tells_its_angle():
    arrays = draw("spirals", Toy(n=300, noise=0, classes=3))
    x, y = arrays["x_test"].astype(float), arrays["y_test"]
    t = np.hypot(*x.T) / 2
    expected = 3 * np.pi * t + 2 * np.pi * y / 3
    assert np.abs(np.exp(1j * expected) - (x[:, 0] + 1j * x[:, 1]) / (2 * t)).max() < 1e-5
    assert t.max() <= 1
    assert np.abs(np.sort(t**2) - np.linspace(0, 1, 300)).max() < 0.08  # uniform, by Kolmogorov's distance


@pytest.mark.parametrize("name", TOYS)
def test_the_noise_is_normal_with_the_given_standard_deviation(name):
    quiet, noisy = (draw(name, Toy(n=4000, noise=noise)) for noise in (0.0, 0.3))
    noise = (noisy["x_train"] - quiet["x_train"]).astype(float) / 0.3
    assert np.abs(noise.mean(axis=0)).max() < 0.05
    assert np.abs(noise.std(axis=0) - 1).max() < 0.04
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.05
    assert abs((noise**4).mean() - 3) < 0.3
    assert (noisy["y_train"] == quiet["y_train"]).all()


@pytest.mark.parametrize("name", TOYS)
def test_more_rows_continue_fewer_rows_and_no_test_row_is_a_training_row(name):
    few, many = (draw(name, Toy(n=n)) for n in (50, 80))
    for array in few:
        assert (many[array][:50] == few[array]).all()
    assert not {row.tobytes() for row in many["x_train"]} & {row.tobytes() for row in many["x_test"]}


@pytest.mark.parametrize(
    ("name", "toy", "classes"),
    [
        ("moons", Toy(), 2),
        ("circles", Toy(10, 0.0), 2),
        ("spirals", Toy(), 2),
        ("spirals", Toy(20, 9, 10), 10),
    ],
)
def test_a_toy_is_a_data_set_of_real_values_without_notes(name, toy, classes):
    prepared = prepare(name, toy=toy)
    loaded = load(prepared)
    assert (prepared.name, prepared.n_train, prepared.n_test) == (name, toy.n, toy.n)
    assert (prepared.input_size, prepared.classes, prepared.real, prepared.notes) == (2, classes, True, ())
    assert (loaded.x_train.dtype, loaded.y_train.dtype) == (np.float32, np.uint8)
    assert prepared.all_classes == prepared.last_classes == classes


def test_the_points_never_change():
    """Trial ids depend on them. They are rounded here, as a processor may round a logarithm differently."""
    rounded = {
        name: [draw(name, Toy(n=20))[split].round(4) for split in ("x_train", "x_test")] for name in TOYS
    }
    sums = {
        name: hashlib.sha256(np.r_[tuple(arrays)].tobytes()).hexdigest()[:12]
        for name, arrays in rounded.items()
    }
    assert sums == SUMS


SUMS = {"moons": "5c2a565dbc28", "circles": "48cef05ba788", "spirals": "9db94313af39"}


@pytest.mark.parametrize("other", [Toy(n=11), Toy(noise=0.2)])
def test_another_size_or_noise_is_another_data_set(other):
    assert prepare("moons", toy=other).checksum != prepare("moons").checksum


def test_a_toy_is_shown_as_a_table():
    table = fnnexp.images("moons", rows=3)
    assert table.columns.tolist() == ["label", "1", "2"]
    assert np.array_equal(table[["1", "2"]], draw("moons", Toy())["x_train"][:3])


def test_a_toy_accepts_no_path():
    with pytest.raises(DataError, match=r"data=moons does not accept data.path=a.npz; write data=files"):
        prepare("moons", "a.npz")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.n=9", "must be from 10 to 1e+06; write data.n=1000"),
        ("data.n=2000000", "must be from 10 to 1e+06"),
        ("data.noise=nan", "must be from 0 to 10; write data.noise=0.1"),
        ("data.noise=-0.1", "must be from 0 to 10"),
        ("data.classes=3", "data.classes=3 has no meaning here; it goes with data=spirals"),
        ("data.n=null", "data.n has no value; write data=moons data.n=1000"),
        ("data.scale=unit", "its inputs are real-valued; write data.scale=raw"),
    ],
)
def test_a_bad_value_for_a_toy_is_refused(override, words, invoke):
    ran = invoke("data=moons", override, "dry_run=true")
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.err
