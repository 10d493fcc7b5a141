"""Data sets: every format gives the same bytes, damaged files are refused, and workers share one copy."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import json
import multiprocessing
import os
import pickle
import re
import struct
import sys
import threading
import tracemalloc
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pytest
from files import IDX_NAMES, NAMES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnnexp.data import cache as cache_module
from fnnexp.data import datasets, download, readers
from fnnexp.data.datasets import load, prepare
from fnnexp.data.sources import Reading
from fnnexp.errors import DataError

MNIST_FROM_DESIGN = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
needs_mnist = pytest.mark.skipif(not os.environ.get("FNNEXP_MNIST"), reason="FNNEXP_MNIST names no file")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FNNEXP_CACHE", str(folder))
    return folder


@pytest.fixture
def no_variable(monkeypatch):
    monkeypatch.delenv("FNNEXP_MNIST", raising=False)


@pytest.fixture
def arrays():
    """Seven training and five test images of 4×3 pixels in four classes, with pixels of 0 and 255."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (12, 4, 3), dtype=np.uint8)
    x[0, 0, 0], x[0, 0, 1] = 0, 255
    y = np.array([3, 0, 1, 2, 0, 1, 2, 1, 3, 0, 2, 2], np.uint8)
    return {"x_train": x[:7], "y_train": y[:7], "x_test": x[7:], "y_test": y[7:]}


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def csv_text(x, y, label="label", names=None):
    pixels = x.reshape(len(x), -1)
    names = names or [f"{row}x{column}" for row in range(1, 5) for column in range(1, 4)]
    lines = [",".join([label, *names])] if label else []
    lines += [",".join(str(int(value)) for value in (y[i], *pixels[i])) for i in range(len(x))]
    return "\n".join(lines) + "\n"


def write_npz(path, arrays, save=np.savez):
    save(path, **arrays)
    return path


def write_idx(folder, arrays, mark="-", packed=False):
    folder.mkdir()
    for name, array in arrays.items():
        content = idx_bytes(array)
        file = folder / IDX_NAMES[name].replace("-idx", f"{mark}idx")
        if packed:
            file.with_name(file.name + ".gz").write_bytes(gzip.compress(content))
        else:
            file.write_bytes(content)
    return folder


def write_csv(folder, arrays, packed=False, **how):
    folder.mkdir()
    for split in ("train", "test"):
        text = csv_text(arrays[f"x_{split}"], arrays[f"y_{split}"], **how).encode()
        file = folder / f"small_{split}.csv"
        if packed:
            file.with_name(file.name + ".gz").write_bytes(gzip.compress(text))
        else:
            file.write_bytes(text)
    return folder


def own_checksum(arrays):
    """Compute the checksum by hand, as its docstring says."""
    total = hashlib.sha256()
    for name in NAMES:
        array = arrays[name]
        flat = array if array.ndim == 1 else array.reshape(len(array), -1)
        total.update(f"{name} {flat.shape}\n".encode() + flat.tobytes())
    return total.hexdigest()


def leftovers(cache):
    """Return the entries of the cache that are not complete prepared folders."""
    entries = list(cache.iterdir()) + (
        list((cache / "prepared").iterdir()) if (cache / "prepared").exists() else []
    )
    return [
        entry.name
        for entry in entries
        if entry.name != "prepared"
        and not (
            entry.is_dir()
            and sorted(f.name for f in entry.iterdir()) == sorted([*(f"{n}.npy" for n in NAMES), "meta.json"])
        )
    ]


def refusal(*args, **kwargs):
    with pytest.raises(DataError) as caught:
        prepare(*args, **kwargs)
    return str(caught.value)


# --- the same data in every format --------------------------------------------------------------------------


WRITERS = {
    "npz": lambda folder, a: write_npz(folder / "a.npz", a),
    "npz compressed": lambda folder, a: write_npz(folder / "a.npz", a, np.savez_compressed),
    "npz flat": lambda folder, a: write_npz(
        folder / "a.npz", {k: v.reshape(len(v), -1) if k[0] == "x" else v for k, v in a.items()}
    ),
    "npz int64": lambda folder, a: write_npz(folder / "a.npz", {k: v.astype(np.int64) for k, v in a.items()}),
    "npz big-endian": lambda folder, a: write_npz(
        folder / "a.npz", {k: v.astype(">i4") for k, v in a.items()}
    ),
    "npz whole floats": lambda folder, a: write_npz(
        folder / "a.npz", {k: v.astype(np.float32) for k, v in a.items()}
    ),
    "npz fortran": lambda folder, a: write_npz(
        folder / "a.npz", {k: np.asfortranarray(v) for k, v in a.items()}
    ),
    "npz with more in it": lambda folder, a: write_npz(folder / "a.npz", {**a, "about": np.array("small")}),
    "idx": lambda folder, a: write_idx(folder / "idx", a),
    "idx dotted": lambda folder, a: write_idx(folder / "idx", a, mark="."),
    "idx gz": lambda folder, a: write_idx(folder / "idx", a, packed=True),
    "csv": lambda folder, a: write_csv(folder / "csv", a),
    "csv gz": lambda folder, a: write_csv(folder / "csv", a, packed=True),
    "csv Label": lambda folder, a: write_csv(folder / "csv", a, label="Label"),
    "csv class_id": lambda folder, a: write_csv(folder / "csv", a, label="class_id"),
    "csv with BOM": lambda folder, a: write_csv(folder / "csv", a, label="\ufefflabel"),
    "csv quoted": lambda folder, a: write_csv(folder / "csv", a, label='"label"'),
    "csv numbers as names": lambda folder, a: write_csv(folder / "csv", a, names=[str(i) for i in range(12)]),
    "csv without header": lambda folder, a: write_csv(folder / "csv", a, label=None),
}


@pytest.mark.parametrize("format_", WRITERS)
def test_every_format_gives_the_same_bytes_and_checksum(format_, tmp_path, arrays, cache):
    prepared = prepare("files", str(WRITERS[format_](tmp_path, arrays)))
    loaded = load(prepared)
    for name in NAMES:
        array = getattr(loaded, name)
        assert array.dtype == np.uint8
        assert array.tobytes() == arrays[name].tobytes()
    assert loaded.x_train.shape == (7, 12)
    assert loaded.x_test.shape == (5, 12)
    assert prepared.checksum == own_checksum(arrays)
    assert (prepared.name, prepared.n_train, prepared.n_test, prepared.input_size, prepared.classes) == (
        "files",
        7,
        5,
        12,
        4,
    )
    assert Path(prepared.directory).is_relative_to(cache)
    assert leftovers(cache) == []


def test_a_training_csv_and_a_test_csv_may_be_in_different_folders(tmp_path, arrays):
    one, other = tmp_path / "one.csv", tmp_path / "other.CSV"
    one.write_text(csv_text(arrays["x_train"], arrays["y_train"]))
    other.write_text(csv_text(arrays["x_test"], arrays["y_test"]))
    assert prepare("files", str(one), str(other)).checksum == own_checksum(arrays)


def test_the_label_column_may_be_anywhere(tmp_path):
    (tmp_path / "train.csv").write_text("a,LABEL,b\n1,0,2\n3,1,4\n")
    (tmp_path / "test.csv").write_text("a,LABEL,b\n5,1,6\n")
    loaded = load(prepare("files", str(tmp_path)))
    assert loaded.x_train.tolist() == [[1, 2], [3, 4]]
    assert loaded.y_train.tolist() == [0, 1]
    assert loaded.x_test.tolist() == [[5, 6]]


def test_a_csv_longer_than_a_block_is_read_completely(tmp_path):
    count = 2 * readers.CSV_ROWS + 3
    (tmp_path / "train.csv").write_text("label,a\n" + "".join(f"{i % 10},{i % 255}\n" for i in range(count)))
    (tmp_path / "test.csv").write_text("label,a\n1,2\n3,255\n")
    loaded = load(prepare("files", str(tmp_path)))
    assert loaded.x_train[:, 0].tolist() == [i % 255 for i in range(count)]
    assert loaded.y_train.tolist() == [i % 10 for i in range(count)]


def test_an_unpacked_idx_file_is_preferred_to_its_packed_twin(tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"never opened")
    assert prepare("files", str(folder)).checksum == own_checksum(arrays)


def test_a_file_called_gz_that_a_browser_unpacked_is_read(tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays, packed=True)
    for file in folder.iterdir():
        file.write_bytes(gzip.decompress(file.read_bytes()))
    assert prepare("files", str(folder)).checksum == own_checksum(arrays)


def test_a_home_relative_path_is_expanded(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_npz(tmp_path / "a.npz", arrays)
    assert prepare("files", "~/a.npz").n_train == 7


# --- digits -------------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_enlarged_and_padded():
    from sklearn.datasets import load_digits

    prepared = prepare("digits")
    loaded, digits = load(prepared), load_digits()
    assert (prepared.n_train, prepared.n_test, prepared.input_size, prepared.classes) == (1437, 360, 784, 10)
    assert loaded.y_train[:10].tolist() == list(range(10))
    assert np.array_equal(np.concatenate([loaded.y_train, loaded.y_test]), digits.target)
    for shown, image in ((loaded.x_train[7], digits.images[7]), (loaded.x_test[-1], digits.images[-1])):
        expected = np.zeros((28, 28), int)
        expected[2:26, 2:26] = np.kron([[round(v * 255 / 16) for v in row] for row in image], np.ones((3, 3)))
        assert np.array_equal(shown.reshape(28, 28), expected)
    assert loaded.x_train.max() == 255


def test_the_key_and_the_checksum_of_digits_never_change():
    prepared = prepare("digits")
    assert Path(prepared.directory).name == "dc685e52ef99c5dbdf894210"
    assert prepared.checksum == "f63b02a11500ce329084cb9a7499896f8b79353beab6eebca54169708a3229a9"


def test_digits_does_not_accept_a_path(tmp_path):
    assert "does not accept data.path" in refusal("digits", str(tmp_path))


# --- adding a data set --------------------------------------------------------------------------------------


def test_a_data_set_is_added_by_a_function_an_entry_and_a_yaml(arrays, tmp_path, monkeypatch, invoke):
    def toy(request):
        assert request == datasets.Request(tmp_path / "toy", None, True)
        key = readers.content_key("toy 1")
        return datasets._prepared("toy", *cache_module.keep(key, lambda: readers.checked(arrays, "data=toy")))

    monkeypatch.setitem(datasets.DATASETS, "toy", toy)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "toy.yaml").write_text(f"name: toy\npath: {tmp_path}/toy\n")
    monkeypatch.chdir(tmp_path)
    ran = invoke("-cd", str(tmp_path / "mine"), "data=toy", "data.validation=2", "dry_run=true")
    assert (ran.status, ran.err) == (0, "")
    prepared = prepare("toy", str(tmp_path / "toy"))
    assert prepared.checksum == own_checksum(arrays)
    assert load(prepared).x_train.shape == (7, 12)


# --- real MNIST ---------------------------------------------------------------------------------------------


@needs_mnist
def test_mnist_from_the_variable_is_mnist():
    prepared = prepare("mnist")
    loaded = load(prepared)
    for name in NAMES:
        assert hashlib.sha256(getattr(loaded, name).tobytes()).hexdigest() == MNIST_FROM_DESIGN[name]
    assert (prepared.n_train, prepared.n_test, prepared.input_size, prepared.classes) == (
        60000,
        10000,
        784,
        10,
    )
    assert loaded.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert round(100 * float((loaded.x_train == 0).mean()), 1) == 80.9


@needs_mnist
def test_the_checksum_of_mnist_never_changes():
    checksum = "7fbfc0bb27c28fa3b094373ff44702e64b0ee04d0449695c971683120330778b"
    assert prepare("mnist").checksum == checksum


@needs_mnist
def test_mnist_rewritten_as_packed_idx_is_still_mnist(tmp_path):
    with np.load(os.environ["FNNEXP_MNIST"], allow_pickle=False) as archive:
        write_idx(tmp_path / "idx", {name: archive[name] for name in NAMES})
    assert prepare("mnist", str(tmp_path / "idx")).checksum == prepare("mnist").checksum


@needs_mnist
def test_shuffled_mnist_is_refused_as_mnist_and_accepted_as_files(tmp_path):
    with np.load(os.environ["FNNEXP_MNIST"], allow_pickle=False) as archive:
        content = {name: archive[name] for name in NAMES}
    content["x_test"] = content["x_test"][::-1]
    path = str(write_npz(tmp_path / "backwards.npz", content))
    message = refusal("mnist", path)
    assert "x_test" in message
    assert "x_train" not in message
    assert f"data=files data.path={path}" in message
    assert prepare("files", path).n_test == 10000


# --- the cache ----------------------------------------------------------------------------------------------


def test_a_second_call_does_not_decode(tmp_path, arrays, monkeypatch):
    path = str(write_npz(tmp_path / "a.npz", arrays))
    first = prepare("files", path)
    monkeypatch.setattr(readers, "read", lambda source: pytest.fail("decoded again"))
    assert prepare("files", path) == first


def test_the_cache_key_depends_on_the_content_and_not_on_the_name(tmp_path, arrays, monkeypatch):
    first = prepare("files", str(write_npz(tmp_path / "a.npz", arrays)))
    (tmp_path / "a.npz").rename(tmp_path / "b.npz")
    assert prepare("files", str(tmp_path / "b.npz")).directory == first.directory
    changed = prepare(
        "files", str(write_npz(tmp_path / "b.npz", {**arrays, "y_test": arrays["y_test"][::-1]}))
    )
    assert changed.directory != first.directory
    assert changed.checksum != first.checksum
    monkeypatch.setattr(readers, "READER_VERSION", readers.READER_VERSION + 1)
    assert prepare("files", str(tmp_path / "b.npz")).directory != changed.directory


def test_prepared_digits_are_found_without_scikit_learn(monkeypatch):
    first = prepare("digits")
    monkeypatch.setattr(datasets, "_read_digits", lambda: pytest.fail("decoded again"))
    assert prepare("digits") == first


def test_arrays_are_mapped_and_read_only(tmp_path, arrays):
    prepared = prepare("files", str(write_npz(tmp_path / "a.npz", arrays)))
    loaded = load(pickle.loads(pickle.dumps(prepared)))
    for name in NAMES:
        array = getattr(loaded, name)
        assert isinstance(array, np.memmap)
        assert array.mode == "r"
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_process_that_loses_a_race_uses_the_winners_folder(tmp_path, arrays, cache, monkeypatch):
    path = str(write_npz(tmp_path / "a.npz", arrays))
    both_have_decoded, read = threading.Barrier(2, timeout=30), readers.read

    def read_together(source):
        result = read(source)
        both_have_decoded.wait()
        return result

    monkeypatch.setattr(readers, "read", read_together)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: prepare("files", path), range(2))
    assert one == other
    assert load(one).y_train.tolist() == arrays["y_train"].tolist()
    assert len(list((cache / "prepared").iterdir())) == 1
    assert leftovers(cache) == []


def test_processes_that_race_share_one_folder(tmp_path, arrays, cache):
    path = str(write_npz(tmp_path / "a.npz", arrays))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(prepare, ["files"] * 4, [path] * 4))
    assert len(set(results)) == 1
    assert leftovers(cache) == []


def test_an_interrupted_write_leaves_nothing(tmp_path, arrays, cache, monkeypatch):
    path = str(write_npz(tmp_path / "a.npz", arrays))

    def full(file, array, **kwargs):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        message = refusal("files", path)
    assert "No space left" in message
    assert "FNNEXP_CACHE" in message
    assert list((cache / "prepared").iterdir()) == []
    assert prepare("files", path).n_train == 7


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "x_train.npy").write_bytes((folder / "x_train.npy").read_bytes()[:-1]),
        lambda folder: (folder / "x_test.npy").write_bytes(b""),
        lambda folder: (folder / "y_test.npy").unlink(),
        lambda folder: np.save(folder / "y_train.npy", np.zeros(3, np.uint8)),
        lambda folder: np.save(folder / "y_train.npy", np.zeros(7, np.int64)),
        lambda folder: (folder / "meta.json").write_text("{"),
        lambda folder: (folder / "meta.json").write_text("[]"),
    ],
)
def test_load_refuses_a_damaged_folder_and_prepare_makes_it_again(damage, tmp_path, arrays, capsys):
    path = str(write_npz(tmp_path / "a.npz", arrays))
    first = prepare("files", path)
    damage(Path(first.directory))
    with pytest.raises(DataError, match="missing or damaged"):
        load(first)
    assert prepare("files", path) == first
    assert re.fullmatch(
        r"fnnexp: the prepared data in .* is damaged; preparing it again \(.*\)\n", capsys.readouterr().err
    )
    assert load(first).x_train.tobytes() == arrays["x_train"].tobytes()


def test_load_refuses_another_data_set_of_the_same_sizes(tmp_path, arrays):
    prepared = prepare("files", str(write_npz(tmp_path / "a.npz", arrays)))
    meta = Path(prepared.directory) / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "checksum": "0" * 64}))
    with pytest.raises(DataError, match="checksum"):
        load(prepared)


def test_a_temporary_folder_replaces_a_cache_that_cannot_be_written_with_a_warning(
    tmp_path, arrays, monkeypatch, capsys
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FNNEXP_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = str(write_npz(tmp_path / "a.npz", arrays))
    prepared = prepare("files", path)
    assert capsys.readouterr().err == (
        f"fnnexp: the cache {tmp_path / 'file' / 'cache'} cannot be written ({os.strerror(errno.ENOTDIR)}); "
        f"using {Path(prepared.directory).parent.parent}. Set FNNEXP_CACHE to use another folder.\n"
    )
    assert Path(prepared.directory).is_relative_to(tmp_path)
    assert load(prepared).x_train.shape == (7, 12)
    assert prepare("files", path) == prepared
    assert capsys.readouterr().err == ""  # the warning is printed once


def test_another_users_temporary_folder_is_not_used(tmp_path, arrays, monkeypatch, capsys):
    if not hasattr(os, "getuid"):
        pytest.skip("no owners here")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FNNEXP_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    another = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: another)
    assert "another user" in refusal("files", str(write_npz(tmp_path / "a.npz", arrays)))
    assert "cannot be written" in capsys.readouterr().err


# --- invalid input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnst", "Did you mean 'mnist'?"),
        ("digit", "Did you mean 'digits'?"),
        ("moon", "Did you mean 'moons'?"),
        ("", "mnist,"),
    ],
)
def test_an_unknown_name_is_refused(name, words):
    message = refusal(name)
    assert f"data={name} is unknown" in message
    assert words in message


def test_files_without_a_path_are_refused():
    assert "data=files needs data.path=" in refusal("files")


def test_a_test_path_without_a_path_is_refused():
    assert "without data.path" in refusal("files", None, "test.csv")


def test_a_missing_file_is_refused(tmp_path):
    message = refusal("files", str(tmp_path / "gone.npz"))
    assert str(tmp_path / "gone.npz") in message
    assert "does not exist" in message
    assert "expected an .npz" in message


def test_a_missing_file_is_refused_with_the_most_similar_name_of_its_folder(tmp_path):
    for name in ("pets.csv", "cars.csv", "cars.csv.gz", "pets.npz"):
        (tmp_path / name).touch()
    for written, meant in {
        "pest.csv": "pets.csv",
        "Pets.nzp": "pets.npz",
        "pet": "pets.csv|pets.npz",
    }.items():
        message = refusal("files", str(tmp_path / written))
        assert any(message.endswith(f"Did you mean '{tmp_path / name}'?") for name in meant.split("|"))
    (tmp_path / "lost.csv").symlink_to("nowhere")
    for written in ("birds.csv", "birds.csv.gz", "lost.csv"):
        assert "Did you mean" not in refusal("files", str(tmp_path / written))


def test_a_missing_test_file_is_refused(tmp_path, arrays):
    train = tmp_path / "train.csv"
    train.write_text(csv_text(arrays["x_train"], arrays["y_train"]))
    assert "gone.csv does not exist" in refusal("files", str(train), str(tmp_path / "gone.csv"))


def test_a_test_path_with_an_npz_is_refused(tmp_path, arrays):
    path = str(write_npz(tmp_path / "a.npz", arrays))
    assert "omit it for every other format" in refusal("files", path, path)


def test_an_unknown_suffix_is_refused(tmp_path):
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    message = refusal("files", str(tmp_path / "data.parquet"))
    assert "'.parquet'" in message
    assert "expected an .npz" in message


def test_a_folder_without_data_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    message = refusal("files", str(tmp_path))
    assert "readme.txt" in message
    assert "train-images-idx3-ubyte" in message


def test_a_folder_that_lacks_an_idx_file_is_refused(tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    message = refusal("files", str(folder))
    assert "lacks the IDX files t10k-labels" in message


@pytest.mark.parametrize("extra", ["other_train.csv", "test_2.csv"])
def test_a_folder_with_two_training_files_is_refused(extra, tmp_path, arrays):
    folder = write_csv(tmp_path / "csv", arrays)
    (folder / extra).write_text("label,a\n1,2\n")
    assert extra in refusal("files", str(folder))


def test_a_folder_with_a_csv_named_both_train_and_test_is_refused(tmp_path):
    (tmp_path / "train_and_test.csv").write_text("label,a\n1,2\n")
    assert "train_and_test.csv" in refusal("files", str(tmp_path))


# npz


@pytest.mark.parametrize("kept", [0, 1, 30, 0.5, 0.99, -1])
def test_a_truncated_npz_is_refused(kept, tmp_path, arrays):
    path = write_npz(tmp_path / "a.npz", arrays)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    message = refusal("files", str(path))
    assert str(path) in message
    assert "truncated" in message


def test_an_npz_with_a_flipped_byte_is_refused(tmp_path, arrays):
    path = write_npz(tmp_path / "a.npz", arrays)
    content = bytearray(path.read_bytes())
    at = bytes(content).index(arrays["x_train"].tobytes())
    content[at + 5] ^= 1
    path.write_bytes(content)
    assert "CRC" in refusal("files", str(path))


def test_an_npz_that_lacks_an_array_is_refused(tmp_path, arrays):
    path = write_npz(tmp_path / "a.npz", {"x_train": arrays["x_train"], "images": arrays["x_test"]})
    message = refusal("files", str(path))
    assert "has no y_train x_test y_test" in message
    assert "it has x_train, images" in message


def test_object_arrays_are_not_unpickled(tmp_path, arrays):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    objects = np.array([Trap()] * 7, dtype=object)
    message = refusal("files", str(write_npz(tmp_path / "a.npz", {**arrays, "y_train": objects})))
    assert "y_train" in message
    assert "has dtype object" in message
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda a: {"x_train": a["x_train"] / np.float32(255)},
            ["x_train", "fractions", "np.round(255 * x)"],
        ),
        (lambda a: {"x_test": a["x_test"] + np.nan}, ["x_test", "60 values", "nan in row 0", "finite"]),
        (lambda a: {"x_train": a["x_train"] + np.float16(np.inf)}, ["x_train", "inf", "finite"]),
        (lambda a: {"x_train": a["x_train"] * 1e37}, ["x_train", "e+39", "float32"]),
        (lambda a: {"x_train": a["x_train"] > 3}, ["x_train", "bool", "0..255"]),
        (lambda a: {"x_train": a["x_train"].astype("S3")}, ["x_train", "|S3"]),
        (lambda a: {"x_train": a["x_train"][:6]}, ["6 rows in x_train", "7 labels in y_train"]),
        (lambda a: {"y_test": a["y_test"][:4]}, ["5 rows in x_test", "4 labels in y_test"]),
        (lambda a: {"x_train": a["x_train"][:0], "y_train": a["y_train"][:0]}, ["x_train", "zero rows"]),
        (lambda a: {"x_test": a["x_test"][:0], "y_test": a["y_test"][:0]}, ["x_test", "zero rows"]),
        (
            lambda a: {"x_train": a["x_train"][:, :0], "x_test": a["x_test"][:, :0]},
            ["x_train", "zero rows or pixels"],
        ),
        (lambda a: {"x_test": a["x_test"][:, :3]}, ["12 inputs", "9"]),
        (lambda a: {"x_train": a["x_train"].ravel()}, ["x_train has shape (84,)", "(n, D)"]),
        (lambda a: {"y_train": np.eye(4, dtype=np.uint8)[a["y_train"]]}, ["y_train (7, 4)", "one-hot"]),
        (lambda a: {"y_train": np.uint8(3)}, ["y_train ()"]),
        (lambda a: {"y_train": a["y_train"] + 0.5}, ["y_train", "fractions", "np.unique(y_train)"]),
        (lambda a: {"x_test": np.stack([a["x_test"]] * 3, -1)}, ["x_test has shape (5, 4, 3, 3)"]),
        (lambda a: {"y_train": a["y_train"] - 1.0}, ["y_train", "from -1"]),
        (lambda a: {"y_train": a["y_train"] + 254}, ["y_train", "to 257"]),
        (lambda a: {"y_test": a["y_test"] + 1}, ["test rows have the class 4", "range from 0 to 3"]),
        (lambda a: {"y_train": a["y_train"] * 0 + 1}, ["every training label is 1", "data.label=last"]),
    ],
)
def test_arrays_that_are_not_labelled_images_are_refused(change, words, tmp_path, arrays):
    arrays = {name: array.astype(np.int64) if name == "y_train" else array for name, array in arrays.items()}
    message = refusal("files", str(write_npz(tmp_path / "a.npz", {**arrays, **change(arrays)})))
    for word in words:
        assert word in message


def test_the_message_about_fractional_labels_has_no_advice_for_images(tmp_path, arrays):
    """The message's advice converts them to labels of the same number of classes."""
    halves = {name: a / 2 if name[0] == "y" else a for name, a in arrays.items()}
    halves["y_test"] = halves["y_train"][:5][::-1]
    message = refusal("files", str(write_npz(tmp_path / "a.npz", halves)))
    assert "255 * x" not in message
    assert "data.scale" not in message
    (how,) = re.findall(r"store (np\.searchsorted.*?) for both", message)
    for name in ("y_train", "y_test"):
        halves[name] = eval(how, {"np": np, "y_train": arrays["y_train"] / 2, "y": halves[name]})
    prepared = load(prepare("files", str(write_npz(tmp_path / "b.npz", halves))))
    assert prepared.y_train.tolist() == arrays["y_train"].tolist()
    assert prepared.y_test.tolist() == arrays["y_train"][:5][::-1].tolist()


def test_flattened_colour_images_are_read(tmp_path, arrays):
    colours = {name: np.stack([a] * 3, -1) if name[0] == "x" else a for name, a in arrays.items()}
    assert "x.reshape(len(x), -1)" in refusal("files", str(write_npz(tmp_path / "a.npz", colours)))
    flat = {name: a.reshape(len(a), -1) if name[0] == "x" else a for name, a in colours.items()}
    prepared = prepare("files", str(write_npz(tmp_path / "b.npz", flat)))
    assert load(prepared).x_train.reshape(7, 4, 3, 3).tobytes() == colours["x_train"].tobytes()


def npy_promising(shape, body):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue() + body


@pytest.mark.parametrize("shape", [(10**12, 28, 28), (10**30,), (8, 4, 3)])
def test_an_npy_header_that_promises_too_much_uses_no_memory(shape, tmp_path, arrays):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x_train.npy", npy_promising(shape, arrays["x_train"].tobytes()))
        for name in NAMES[1:]:
            archive.writestr(f"{name}.npy", npy_promising(arrays[name].shape, arrays[name].tobytes()))
    message, peak = refusal_and_peak(tmp_path / "a.npz")
    assert "x_train" in message
    assert "truncated" in message
    assert peak < 20e6


@pytest.mark.parametrize("shape", [(-7, 4, 3), (-7, -4, 3)])
def test_an_npy_header_with_a_negative_length_is_refused(shape, tmp_path, arrays):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x_train.npy", npy_promising(shape, arrays["x_train"].tobytes()))
        for name in NAMES[1:]:
            archive.writestr(f"{name}.npy", npy_promising(arrays[name].shape, arrays[name].tobytes()))
    assert "a.npz" in refusal("files", str(tmp_path / "a.npz"))


def test_an_npz_packed_in_a_way_that_numpy_never_writes_is_refused(tmp_path, arrays):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        for name in NAMES:
            archive.writestr(f"{name}.npy", npy_promising(arrays[name].shape, arrays[name].tobytes()))
    assert "np.savez_compressed" in refusal("files", str(tmp_path / "a.npz"))


def test_an_npz_bomb_uses_no_memory(tmp_path, arrays):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x_train.npy", npy_promising((7, 4, 3), bytes(200_000_000)))
        for name in NAMES[1:]:
            archive.writestr(f"{name}.npy", npy_promising(arrays[name].shape, arrays[name].tobytes()))
    message, peak = refusal_and_peak(tmp_path / "a.npz")
    assert "has more than the 84 bytes" in message
    assert peak < 20e6


def refusal_and_peak(path):
    """Return the message, and the peak of bytes allocated by Python and NumPy."""
    tracemalloc.start()
    try:
        return refusal("files", str(path)), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_damage_to_an_npz_raises_only_a_data_error(at, value, cut, tmp_path, arrays):
    content = bytearray(write_npz(tmp_path / "a.npz", arrays).read_bytes())
    at %= len(content)
    content[at] = value
    (tmp_path / "damaged.npz").write_bytes(content[:at] if cut else content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of a damaged header
        with contextlib.suppress(DataError):
            prepare("files", str(tmp_path / "damaged.npz"))


# IDX


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kept", [0, 3, 15, 16, 40, -1])
def test_a_truncated_idx_file_is_refused(kept, packed, tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays)
    file = folder / "train-images-idx3-ubyte"
    content = file.read_bytes()[:kept]
    file.write_bytes(gzip.compress(content) if packed else content)
    message = refusal("files", str(folder))
    assert "train-images-idx3-ubyte" in message
    assert "truncated" in message


def test_a_truncated_gz_is_refused(tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays, packed=True)
    file = folder / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-12])
    message = refusal("files", str(folder))
    assert "t10k-images-idx3-ubyte.gz" in message
    assert "truncated or damaged" in message


def test_a_gz_with_a_wrong_checksum_is_refused(tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays, packed=True)
    file = folder / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(content)
    assert "CRC" in refusal("files", str(folder))


@pytest.mark.parametrize(
    ("file", "magic", "expected"),
    [
        ("train-images-idx3-ubyte", b"\0\0\x08\x01", "0x00000803"),
        ("train-images-idx3-ubyte", b"\0\0\x0d\x03", "0x00000803"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x03", "0x00000801"),
        ("train-labels-idx1-ubyte", b"\x7fELF", "0x00000801"),
    ],
)
def test_a_wrong_magic_number_is_refused(file, magic, expected, tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays)
    (folder / file).write_bytes(magic + (folder / file).read_bytes()[4:])
    message = refusal("files", str(folder))
    assert f"0x{magic.hex()}" in message
    assert f"expected {expected}" in message


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(4_000_000_000, 28, 28), (2**32 - 1,) * 3, (8, 4, 3)])
def test_an_idx_header_that_promises_too_much_uses_no_memory(shape, packed, tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays)
    content = struct.pack(">4I", 0x803, *shape) + arrays["x_train"].tobytes()
    (folder / "train-images-idx3-ubyte").write_bytes(gzip.compress(content) if packed else content)
    message, peak = refusal_and_peak(folder)
    assert "truncated" in message
    assert str(shape[0] * shape[1] * shape[2]) in message
    assert peak < 20e6


def test_a_gz_bomb_uses_no_memory(tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays)
    with gzip.open(folder / "train-images-idx3-ubyte", "wb", compresslevel=1) as stream:
        stream.write(struct.pack(">4I", 0x803, 7, 4, 3))
        for _ in range(200):
            stream.write(bytes(1_000_000))
    message, peak = refusal_and_peak(folder)
    assert "has more than the 84 bytes" in message
    assert peak < 20e6


def test_an_idx_file_longer_than_its_header_is_refused(tmp_path, arrays):
    folder = write_idx(tmp_path / "idx", arrays)
    with (folder / "t10k-labels-idx1-ubyte").open("ab") as stream:
        stream.write(b"\0")
    assert "has more than the 5 bytes" in refusal("files", str(folder))


# CSV


TRAIN = "label,1x1,1x2\n0,1,2\n1,3,4\n2,5,6\n"
TEST = "label,1x1,1x2\n2,7,8\n"


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (TRAIN.replace("3", "x"), TEST, ["train.csv", "column '1x1'", "row 2", "'x'", "0..255"]),
        (TRAIN.replace("3", ""), TEST, ["column '1x1'", "row 2", "missing"]),
        (TRAIN.replace("6", "inf"), TEST, ["column '1x2'", "row 3", "inf"]),
        (TRAIN.replace("6", "9" * 39), TEST, ["column '1x2'", "row 3", "'999"]),
        ("label,a\n1,True\n0,False\n", "label,a\n1,True\n", ["column 'a'", "row 1", "'True'"]),
        (TRAIN, TEST.replace("7", "seven"), ["test.csv", "column '1x1'", "row 1", "'seven'"]),
        (TRAIN.replace("\n1,", "\n1.5,"), TEST, ["label", "row 2", "'1.5'"]),
        (TRAIN.replace("\n1,", "\ncat,"), TEST, ["label", "row 2", "'cat'"]),
        (TRAIN.replace("\n1,", "\n-1,"), TEST, ["label", "row 2", "'-1'"]),
        (TRAIN.replace("\n1,", "\n256,"), TEST, ["label", "row 2", "'256'"]),
        ("0,1,2\n1,3,x\n", TEST, ["column 3", "row 2", "'x'"]),
        (TRAIN, TEST.replace("2,7", "3,7"), ["test rows have the class 3"]),
        (TRAIN.replace("label", "digit"), TEST, ["no label column", "digit, 1x1, 1x2", "'label'"]),
        (TRAIN.replace("1x2", "1x1"), TEST, ["duplicate columns (1x1)"]),
        (TRAIN.replace("1x2", "LABEL"), TEST, ["duplicate columns (LABEL)"]),
        (TRAIN.replace("5,6", "5,6,7"), TEST, ["different lengths", "row 3", "4 cells"]),
        (
            TRAIN.replace("1,2\n", "1,2,3\n", 1).replace("3,4", "3,4,5").replace("5,6", "5,6,7"),
            TEST,
            ["different lengths"],
        ),
        (TRAIN.replace("5,6", "5"), TEST, ["different lengths", "row 3", "2 cells"]),
        (TRAIN.replace("6", '"6'), TEST, ["open quote"]),
        (TRAIN, "label,a,b,c\n1,1,2,3\n", ["2 inputs", "3"]),
        (TRAIN, "label,1x2,1x1\n1,1,2\n", ["test.csv has column '1x2'", "'1x1'", "same order"]),
        ("label,1x1,1x2\n", TEST, ["zero rows"]),
        ("", TEST, ["0 columns"]),
        (TRAIN.replace(",", "|"), TEST, ["1 column;", "commas"]),
        ("label,a\n" + "1,1\n" * 5000 + "1,oops\n", "label,a\n1,1\n", ["column 'a'", "row 5001", "'oops'"]),
    ],
)
def test_an_invalid_csv_is_refused(train, test, words, tmp_path):
    (tmp_path / "train.csv").write_text(train)
    (tmp_path / "test.csv").write_text(test)
    message = refusal("files", str(tmp_path))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"label,a\xff\xfe\n1,2\n", "UTF-8"),
        (gzip.compress(TRAIN.encode() * 1000)[:-9], "truncated"),
        (b"x" * 3_000_000, "first line"),
        (gzip.compress(b"1," * 100_000_000, 1), "first line"),
    ],
)
def test_a_file_that_is_not_a_csv_is_refused(content, words, tmp_path):
    (tmp_path / "train.csv").write_bytes(content)
    (tmp_path / "test.csv").write_text(TEST)
    message, peak = refusal_and_peak(tmp_path)
    assert "train.csv" in message
    assert words in message
    assert peak < 20e6


# --- MNIST: where it is searched, and the download ----------------------------------------------------------


class Mirror:
    """A local web server that answers each path with given bytes, or with 404."""

    def __init__(self):
        self.files, self.requested = {}, []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.requested.append(self.path)
                content = mirror.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"


@pytest.fixture
def mirror(monkeypatch, no_variable):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mirror = Mirror()
    monkeypatch.setattr(download, "MNIST_MIRRORS", (mirror.url("/one.npz"), mirror.url("/two.npz")))
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()


@pytest.fixture
def published(tmp_path, arrays, monkeypatch):
    """Make a small file count as MNIST, by its own hashes; return its bytes."""
    content = write_npz(tmp_path / "published.npz", arrays).read_bytes()
    monkeypatch.setattr(download, "MNIST_FILE_SHA256", hashlib.sha256(content).hexdigest())
    hashes = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(datasets, "MNIST_ARRAY_SHA256", hashes)
    return content


def test_the_hashes_and_mirrors_are_the_published_ones():
    assert datasets.MNIST_ARRAY_SHA256 == MNIST_FROM_DESIGN
    assert download.MNIST_FILE_SHA256 == "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
    assert [mirror.partition("//")[0] for mirror in download.MNIST_MIRRORS] == ["https:", "https:"]


def test_a_download_happens_once(mirror, published, arrays, cache, capsys, monkeypatch):
    # The logger writes to the stderr of its import, which may have been that of an earlier test.
    monkeypatch.setattr(pooch.get_logger().handlers[0], "stream", sys.stderr)
    mirror.files["/one.npz"] = published
    first = prepare("mnist")
    assert prepare("mnist") == first
    assert mirror.requested == ["/one.npz"]
    assert first.name == "mnist"
    assert first.checksum == own_checksum(arrays)
    assert (cache / "mnist.npz").read_bytes() == published
    assert leftovers(cache) == ["mnist.npz"]
    assert "mnist.npz" in capsys.readouterr().err


@pytest.mark.parametrize("first", [None, b"<html>not found</html>", b""])
def test_the_second_mirror_is_used_if_the_first_fails(first, mirror, published, cache, capsys):
    if first is not None:
        mirror.files["/one.npz"] = first
    mirror.files["/two.npz"] = published
    assert prepare("mnist").n_train == 7
    assert re.search(
        r"^fnnexp: MNIST was downloaded from .* another mirror failed: .*/one\.npz",
        capsys.readouterr().err,
        re.M,
    )
    assert mirror.requested == ["/one.npz", "/two.npz"]
    assert leftovers(cache) == ["mnist.npz"]


def test_wrong_checksums_from_both_mirrors_raise_and_leave_no_file(mirror, published, cache):
    mirror.files["/one.npz"] = mirror.files["/two.npz"] = published + b"\0"
    message = refusal("mnist")
    assert message.count("does not match") == 2
    assert mirror.requested == ["/one.npz", "/two.npz"]
    assert list(cache.iterdir()) == []


def test_a_broken_connection_raises_and_leaves_no_file(mirror, published, cache, monkeypatch):
    cut = published[:100]

    class Short(bytes):
        def __len__(self):
            return len(published)

    mirror.files["/one.npz"] = mirror.files["/two.npz"] = Short(cut)
    assert "could not be downloaded" in refusal("mnist")
    assert list(cache.iterdir()) == []


def test_the_message_for_mnist_missing_offline_names_three_remedies_and_digits(mirror, cache, monkeypatch):
    mirror.server.shutdown()
    mirror.server.server_close()
    message = refusal("mnist")
    ways_out = ("data.path=", "FNNEXP_MNIST=", str(cache / "mnist.npz"), "connect to the internet")
    for words in (*ways_out, "data=digits"):
        assert words in message
    assert "/one.npz" in message
    assert "/two.npz" in message


def test_mnist_comes_from_the_path_else_the_variable_else_the_cache(
    tmp_path, arrays, published, cache, mirror, monkeypatch
):
    good, other = tmp_path / "published.npz", tmp_path / "other.npz"
    write_npz(other, {**arrays, "y_train": arrays["y_train"][::-1]})
    (cache / "mnist.npz").write_bytes(other.read_bytes())
    message = refusal("mnist")
    assert str(cache / "mnist.npz") in message
    assert "delete it" in message
    monkeypatch.setenv("FNNEXP_MNIST", str(good))
    assert prepare("mnist").n_train == 7
    message = refusal("mnist", str(other))
    assert "y_train" in message
    assert "x_train" not in message
    assert f"data=files data.path={other}" in message
    monkeypatch.setenv("FNNEXP_MNIST", str(other))
    assert f"FNNEXP_MNIST={other} is not MNIST" in refusal("mnist")
    assert prepare("mnist", str(good)).n_train == 7
    assert mirror.requested == []


def test_a_variable_that_names_no_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FNNEXP_MNIST", str(tmp_path / "gone.npz"))
    message = refusal("mnist")
    assert "FNNEXP_MNIST" in message
    assert "does not exist" in message


def test_the_message_for_a_truncated_file_in_the_cache_says_to_delete_it(published, cache, no_variable):
    (cache / "mnist.npz").write_bytes(published[:100])
    message = refusal("mnist")
    assert "truncated" in message
    assert "delete it" in message


def test_mnist_is_read_from_every_format(tmp_path, arrays, published):
    for name, write in WRITERS.items():
        folder = tmp_path / name
        folder.mkdir()
        assert prepare("mnist", str(write(folder, arrays))).checksum == own_checksum(arrays)


# --- Fashion-MNIST and KMNIST -------------------------------------------------------------------------------


def test_the_hashes_of_fashion_mnist_and_kmnist_are_the_published_ones():
    """They are in the sources of Keras and of TensorFlow Datasets."""
    published = {name: [*data.files.values()] for name, data in download.IDX_SETS.items()}
    assert {name: [sha256[:16] for sha256 in files] for name, files in published.items()} == {
        "fashion_mnist": ["3aede38d61863908", "a04f17134ac03560", "346e55b948d973a9", "67da17c76eaffca5"],
        "kmnist": ["51467d22d8cc7292", "e38f9ebcd0f3ebcd", "edd7a857845ad6bb", "20bb9a0ef54c7db3"],
    }
    assert {len(sha256) for files in published.values() for sha256 in files} == {64}


@pytest.fixture
def kmnist(tmp_path, arrays, mirror, monkeypatch):
    """Make small files count as KMNIST, with two local mirrors; return the folder with the files."""
    folder = write_idx(tmp_path / "kmnist", arrays, packed=True)
    files = {
        f"{IDX_NAMES[name]}.gz": hashlib.sha256((folder / f"{IDX_NAMES[name]}.gz").read_bytes()).hexdigest()
        for name in NAMES
    }
    small = download.Published("KMNIST", files, (mirror.url("/one/"), mirror.url("/two/")))
    monkeypatch.setitem(download.IDX_SETS, "kmnist", small)
    return folder


def test_kmnist_is_downloaded_once_and_then_found_in_the_cache(kmnist, mirror, arrays, cache, capsys):
    mirror.files = {f"/two/{file.name}": file.read_bytes() for file in kmnist.iterdir()}
    mirror.files["/one/train-images-idx3-ubyte.gz"] = b"<html>"
    prepared = prepare("kmnist")
    assert (prepared.name, prepared.checksum) == ("kmnist", own_checksum(arrays))
    assert "KMNIST was downloaded from" in capsys.readouterr().err
    assert len(mirror.requested) == 5
    assert prepare("kmnist", may_download=False) == prepared
    assert len(mirror.requested) == 5
    assert {file.name for file in (cache / "kmnist").iterdir()} == {file.name for file in kmnist.iterdir()}


def test_a_download_that_breaks_off_goes_on_with_the_missing_files(kmnist, mirror, cache):
    complete = {f"/one/{file.name}": file.read_bytes() for file in kmnist.iterdir()}
    mirror.files = complete | {"/one/t10k-labels-idx1-ubyte.gz": b""}
    message = refusal("kmnist")
    assert "KMNIST is not on this machine and could not be downloaded" in message
    for words in (str(cache / "kmnist"), "data.path=", "/one/t10k-labels", "/two/t10k-labels", "data=digits"):
        assert words in message
    assert len(list((cache / "kmnist").iterdir())) == 3
    mirror.requested.clear()
    mirror.files = complete
    assert prepare("kmnist").n_train == 7
    assert mirror.requested == ["/one/t10k-labels-idx1-ubyte.gz"]


def test_kmnist_without_network_leaves_no_folder_and_a_report_downloads_nothing(kmnist, mirror, cache):
    with pytest.raises(DataError, match="nothing is downloaded here"):
        prepare("kmnist", may_download=False)
    assert mirror.requested == []
    assert mirror.url("/one/train-images-idx3-ubyte.gz") in refusal("kmnist")
    assert list(cache.iterdir()) == []


def test_kmnist_from_a_folder_must_be_the_four_published_files(kmnist, mirror, arrays, tmp_path):
    assert prepare("kmnist", str(kmnist)).checksum == own_checksum(arrays)
    assert "data.label" in refusal("kmnist", str(kmnist), None, Reading("first"))
    content = gzip.compress(idx_bytes(arrays["y_test"][::-1]))
    (kmnist / "t10k-labels-idx1-ubyte.gz").write_bytes(content)
    message = refusal("kmnist", str(kmnist))
    assert f"data.path={kmnist} is not KMNIST: the SHA-256 of t10k-labels-idx1-ubyte.gz differs" in message
    assert f"data=files data.path={kmnist}" in message
    (kmnist / "t10k-labels-idx1-ubyte.gz").unlink()
    assert "lacks t10k-labels-idx1-ubyte.gz" in refusal("kmnist", str(kmnist))
    assert mirror.requested == []


# --- real values --------------------------------------------------------------------------------------------


@pytest.fixture
def real(arrays):
    """The arrays with real-valued inputs, as float64."""
    return {name: a / 127.5 - 1 if name[0] == "x" else a for name, a in arrays.items()}


def test_real_values_are_kept_as_float32_and_mapped_from_the_cache(tmp_path, real):
    path = str(write_npz(tmp_path / "a.npz", real))
    prepared = prepare("files", path)
    assert prepare("files", path) == prepared
    loaded = load(prepared)
    assert loaded.x_train.dtype == loaded.x_test.dtype == np.float32
    assert np.array_equal(loaded.x_train, real["x_train"].reshape(7, 12).astype("f4"))
    assert isinstance(loaded.x_train, np.memmap)
    assert prepared.real
    assert prepared.notes == ("its inputs are real-valued: x_train has values from -1.0 to 1.0",)


def test_the_checksum_of_real_values_is_of_their_content_and_dtype(tmp_path, real):
    first = prepare("files", str(write_npz(tmp_path / "a.npz", real)))
    total = hashlib.sha256()
    for name in NAMES:
        array = real[name].reshape(len(real[name]), -1).astype("f4") if name[0] == "x" else real[name]
        total.update(
            f"{name} {array.shape}{' float32' if name[0] == 'x' else ''}\n".encode() + array.tobytes()
        )
    assert first.checksum == total.hexdigest()
    single = {name: a.astype("f4") if name[0] == "x" else a for name, a in real.items()}
    assert prepare("files", str(write_npz(tmp_path / "b.npz", single))).checksum == first.checksum
    single["x_train"][0, 0, 0] = 0.123
    assert prepare("files", str(write_npz(tmp_path / "b.npz", single))).checksum != first.checksum


def test_minus_zero_is_stored_as_zero(tmp_path, real):
    real["x_train"][:2, 0, 0] = 0.0, -0.0
    loaded = load(prepare("files", str(write_npz(tmp_path / "a.npz", real))))
    assert np.signbit(loaded.x_train[:2, 0]).tolist() == [False, False]


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_csv_of_real_values_is_read(separator, tmp_path):
    text = "x1,x2,label\n0.25,-1e3,0\n1e-3,2,1\n.5,3,0\n7,256,1\n"
    (tmp_path / "train.csv").write_text(text.replace(",", separator))
    (tmp_path / "test.csv").write_text("x1,x2,label\n-1,2,1\n")
    prepared = prepare("files", str(tmp_path))
    loaded = load(prepared)
    assert np.array_equal(loaded.x_train, np.array([[0.25, -1e3], [1e-3, 2], [0.5, 3], [7, 256]], "f4"))
    assert loaded.y_train.tolist() == [0, 1, 0, 1]
    reason = "0.25 in column 'x1', row 1 of the training file (row 1 is the first with data)"
    assert prepared.notes == (
        f"its inputs are real-valued: {reason}",
        "its largest absolute input is 1000 in training and 2 in testing; check that both are on the same "
        "scale",
    )


def test_notes_do_not_have_the_name_that_a_file_had_before(tmp_path):
    first, renamed = tmp_path / "animals.csv", tmp_path / "pets.csv"
    first.write_text("x1,x2,label\n" + "".join(f"{3 * i}.25,{i * i},{i % 2}\n" for i in range(9)))
    notes = prepare("files", str(first)).notes
    assert prepare("files", str(first.rename(renamed))).notes == notes
    assert notes[0] == (
        "its inputs are real-valued: 0.25 in column 'x1', row 1 (row 1 is the first with data)"
    )
    assert not any("animals" in note for note in notes)


def test_a_header_of_numbers_is_not_a_row_of_real_values(tmp_path):
    rows = "".join(f"{i % 2},{i},{2 * i},{3 * i}\n" for i in range(9))
    (tmp_path / "a.csv").write_text("0,0.1,0.2,0.3\n" + rows.replace("8,", "5,"))
    message = refusal("files", str(tmp_path / "a.csv"))
    assert "write data.header=true, otherwise data.header=false" in message


@pytest.mark.parametrize(
    ("column", "words"),
    [(lambda y: y, "input 3 looks like a label"), (lambda y: np.arange(len(y)), "input 3 numbers the rows")],
)
def test_a_label_or_an_index_among_real_values_is_refused(column, words, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 60), ("test", 40)):
        y = rng.integers(0, 3, n)
        arrays |= {f"x_{split}": np.c_[rng.normal(size=(n, 2)), column(y)], f"y_{split}": y}
    assert words in refusal("files", str(write_npz(tmp_path / "a.npz", arrays)))
    table = pd.DataFrame(arrays["x_train"], columns=["left", "right", "third"])
    table.assign(label=arrays["y_train"]).to_csv(tmp_path / "a.csv", index=False)
    assert words.partition(" 3 ")[2] in (message := refusal("files", str(tmp_path / "a.csv")))
    assert "'third'" in message


def test_the_default_scale_is_refused_for_real_values_with_the_reason(tmp_path, real, invoke):
    command = ("data=files", f"data.path={write_npz(tmp_path / 'a.npz', real).name}", "dry_run=true")
    ran = invoke(*command)
    assert ran.status == 2
    assert "its inputs are real-valued: x_train has values from -1.0 to 1.0; write data.scale=raw" in ran.err
    ran = invoke(*command, "data.scale=raw")
    assert ran.status == 0
    assert "its inputs are real-valued" in ran.out


def test_a_prepared_folder_with_an_unknown_dtype_is_damaged(tmp_path, real, capsys):
    path = str(write_npz(tmp_path / "a.npz", real))
    first = prepare("files", path)
    meta = Path(first.directory) / "meta.json"
    for inputs in ("uint8", "float64", ["float32"]):
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "inputs": inputs}))
        with pytest.raises(DataError, match="missing or damaged"):
            load(first)
        assert prepare("files", path) == first
    assert capsys.readouterr().err.count("is damaged; preparing it again") == 3


def test_a_folder_of_an_earlier_version_without_a_dtype_is_read(tmp_path, arrays, capsys):
    path = str(write_npz(tmp_path / "a.npz", arrays))
    first = prepare("files", path)
    meta = Path(first.directory) / "meta.json"
    content = json.loads(meta.read_text())
    assert content.pop("inputs") == "uint8"
    meta.write_text(json.dumps(content))
    assert prepare("files", path) == first
    assert capsys.readouterr().err == ""


def test_a_complete_read_only_cache_is_used_without_a_warning(tmp_path, arrays, monkeypatch, capsys):
    path = str(write_npz(tmp_path / "a.npz", arrays))
    first = prepare("files", path)

    def refuse(folder):
        raise PermissionError(folder)

    monkeypatch.setattr(cache_module, "_writable", refuse)
    assert prepare("files", path) == first
    assert capsys.readouterr().err == ""


def test_a_download_in_a_notebook_updates_one_line():
    lines = []
    bar = download.Progress(lines.append, "MNIST")
    bar.total = 4_000_000
    for _ in range(4):
        bar.update(1_000_000)
    bar.reset()  # as pooch does at the end
    bar.update(4_000_000)
    bar.close()
    assert lines[0].endswith("MNIST 1.0 of 4.0 MB")
    assert [line.count("━") for line in lines] == [7, 15, 22, 30, 30]
    assert "\x1b" not in "".join(lines)
