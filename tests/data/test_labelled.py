"""Impossible data is refused in every format, and decisions made while reading are printed and recorded."""

from __future__ import annotations

import re
import struct
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from files import IDX_NAMES, NAMES

import fnnexp
from fnnexp.data import cache as cache_module
from fnnexp.data.datasets import load, prepare, row_numbers
from fnnexp.data.labelled import ARRAYS, checked
from fnnexp.data.sources import Reading
from fnnexp.errors import DataError

LABELS = np.arange(60) % 3


@pytest.fixture
def arrays():
    """Forty training and twenty test images of 5×5 pixels, with a dark border, in three classes."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 256, (60, 5, 5), dtype=np.uint8), rng.permutation(LABELS).astype(np.uint8)
    x[:, [0, -1], :] = x[:, :, [0, -1]] = 0
    return {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}


def write_npz(folder, arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def write_idx(folder, arrays):
    for name, file in IDX_NAMES.items():
        array = arrays[name]
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / file).write_bytes(header + array.tobytes())
    return folder


def csv_text(x, y, label="first", header=False):
    pixels = x.reshape(len(x), -1)
    table = np.c_[y, pixels] if label == "first" else np.c_[pixels, y]
    names = [f"p{i}" for i in range(pixels.shape[1])]
    names.insert(0 if label == "first" else len(names), "label")
    return "".join(",".join(map(str, row)) + "\n" for row in [names] * header + table.tolist())


def write_csv(folder, arrays, **how):
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text(csv_text(arrays[f"x_{split}"], arrays[f"y_{split}"], **how))
    return folder


WRITERS = {
    "npz": write_npz,
    "idx": write_idx,
    "csv": write_csv,
    "csv with header": lambda folder, arrays: write_csv(folder, arrays, header=True),
}


def refusal(path, test_path=None, **reading):
    with pytest.raises(DataError) as refused:
        prepare("files", str(path), test_path and str(test_path), Reading(**reading))
    return str(refused.value)


# --- impossible data ----------------------------------------------------------------------------------------


def put(x, values):
    x = x.copy()
    x[:, 2, 2] = values
    return x


IMPOSSIBLE = {
    "a constant label": (lambda a: {k: a[k] * 0 for k in ("y_train", "y_test")}, "every training label is 0"),
    "the training images": (
        lambda a: {"x_test": a["x_train"], "y_test": a["y_train"]},
        "every test image is also a training image",
    ),
    "some training images": (
        lambda a: {"x_test": a["x_train"][7:27]},
        "every test image is also a training image",
    ),
    "more than the training images": (
        lambda a: {f"{k}_test": np.concatenate([a[f"{k}_train"], a[f"{k}_test"]]) for k in "xy"},
        "every training image is also a test image",
    ),
    "a class without training rows": (lambda a: {"y_train": a["y_train"] % 2}, "have the class 2"),
    "classes from 1, tested from 0": (lambda a: {"y_train": a["y_train"] + 1}, "have the class 0"),
    "test images on another scale": (lambda a: {"x_test": a["x_test"] // 16}, "store both on the same scale"),
    "the label as a pixel": (
        lambda a: {f"x_{p}": put(a[f"x_{p}"], a[f"y_{p}"]) for p in ("train", "test")},
        "pixel 13 looks like a label",
    ),
    "a finer label as a pixel": (
        lambda a: {
            f"x_{p}": put(a[f"x_{p}"], 2 * a[f"y_{p}"] + np.arange(len(a[f"y_{p}"])) % 2)
            for p in ("train", "test")
        },
        "pixel 13 looks like a label",
    ),
    "an index as a pixel": (
        lambda a: {x: put(a[x], np.arange(len(a[x]))[::-1] + 7) for x in ("x_train", "x_test")},
        "numbers the rows",
    ),
}


@pytest.mark.parametrize("format_", WRITERS)
@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_impossible_data_is_refused_in_every_format(what, format_, arrays, tmp_path):
    change, words = IMPOSSIBLE[what]
    if what == "a constant label" and format_ == "csv":
        words = "neither its first nor its last column has the values of a label"
    message = refusal(WRITERS[format_](tmp_path, arrays | change(arrays)))
    assert str(tmp_path) in message
    if what == "an index as a pixel" and not format_.startswith("csv"):
        words = "x_train: pixel 13 numbers the rows"
    if format_ == "csv with header":
        words = words.replace("pixel 13", "pixel 'p12'")
    assert words in message


def test_a_users_own_data_set_goes_through_the_same_checks(arrays):
    for change, words in IMPOSSIBLE.values():
        with pytest.raises(DataError, match=r"^mine: ") as refused:
            checked(arrays | change(arrays), "mine")
        assert words in str(refused.value)
    assert list(checked(arrays, "mine").arrays) == list(ARRAYS) == list(NAMES)


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_shipped_data_sets_pass_the_checks(name, request):
    if name == "mnist":
        request.getfixturevalue("mnist")
    arrays = load(prepare(name))
    assert checked({name_: getattr(arrays, name_) for name_ in NAMES}, name).notes == ()


# --- the label column ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["first", "last"])
def test_a_label_without_a_name_is_found_by_its_values_with_a_note(label, arrays, tmp_path):
    prepared = prepare("files", str(write_csv(tmp_path, arrays, label=label)))
    assert load(prepared).y_train.tolist() == arrays["y_train"].tolist()
    assert load(prepared).x_test.tobytes() == arrays["x_test"].tobytes()
    assert prepared.notes == (f"its {label} column is the label, judging by its values (data.label={label})",)
    with_key = prepare("files", str(tmp_path), None, Reading(label=label))
    assert (with_key.checksum, with_key.notes) == (prepared.checksum, ())


def test_scikit_learns_own_file_of_digits_is_read_as_scikit_learn_reads_it():
    import sklearn.datasets

    file = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
    prepared = prepare("files", str(file))
    loaded, digits = load(prepared), sklearn.datasets.load_digits()
    rows = {
        (image.tobytes(), int(label))
        for split in ("train", "test")
        for image, label in zip(getattr(loaded, f"x_{split}"), getattr(loaded, f"y_{split}"), strict=True)
    }
    real = zip(digits.data.astype(np.uint8), digits.target.tolist(), strict=True)
    assert rows == {(image.tobytes(), label) for image, label in real}
    assert (prepared.n_train + prepared.n_test, prepared.input_size, prepared.classes) == (1797, 64, 10)


@pytest.mark.parametrize("label", ["first", "last"])
def test_data_label_is_needed_if_the_first_and_the_last_column_can_be_the_label(label, arrays, tmp_path):
    other = np.random.default_rng(8).permutation(arrays["y_train"])
    lines = csv_text(arrays["x_train"], arrays["y_train"]).splitlines()
    file = tmp_path / "a.csv"
    file.write_text("".join(f"{line},{y}\n" for line, y in zip(lines, other.tolist(), strict=True)))
    assert "both its first and its last column have the values of a label" in refusal(file)
    loaded = load(prepare("files", str(file), None, Reading(label=label)))
    counts = np.bincount(arrays["y_train"] if label == "first" else other)
    assert np.bincount(np.concatenate([loaded.y_train, loaded.y_test])).tolist() == counts.tolist()


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        ({"label": "lable"}, ["data.label=lable", "no such column", "Did you mean 'label'?"]),
        (
            {"label": "p3"},
            [
                "data.label=p3 makes column 'p3' the label",
                "write data.label=label, or data.drop=label to leave",
            ],
        ),
        ({"header": "false"}, ["column 1, row 1", "'label'", "data.header=true"]),
        ({"test_fraction": 0.3}, ["data.test_fraction=0.3", "omit data.test_fraction"]),
    ],
)
def test_a_wrong_key_for_a_csv_is_refused(reading, words, arrays, tmp_path):
    message = refusal(write_csv(tmp_path, arrays, header=True), **reading)
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        ({"label": "last"}, "data.label=last: this key is for .csv files"),
        ({"header": "true"}, "data.header=true: this key is for .csv files"),
        ({"test_fraction": 0.3}, "has test rows already; omit data.test_fraction"),
    ],
)
@pytest.mark.parametrize("format_", ["npz", "idx"])
def test_a_key_for_csv_files_is_refused_for_other_formats(format_, reading, words, arrays, tmp_path):
    assert words in refusal(WRITERS[format_](tmp_path, arrays), **reading)


def test_flat_images_that_are_not_square_cannot_be_transposed(arrays, tmp_path):
    flat = {k: a.reshape(len(a), -1)[:, :24] if k[0] == "x" else a for k, a in arrays.items()}
    assert "24 pixels, which do not make a square" in refusal(write_npz(tmp_path, flat), transpose=True)


# --- a single file, and files with validation rows ----------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_a_single_file_is_split_class_by_class_and_always_in_the_same_way(fraction, arrays, tmp_path):
    x, y = (np.concatenate([arrays[f"{kind}_train"], arrays[f"{kind}_test"]]) for kind in "xy")
    y[:2] = [3, 4]  # a class with a single row is only trained on
    y[2:5] = 4
    (tmp_path / "train.csv").write_text(csv_text(x, y, header=True))
    prepared = prepare("files", str(tmp_path / "train.csv"), None, Reading(test_fraction=fraction))
    loaded = load(prepared)
    for label, count in enumerate(np.bincount(y).tolist()):
        wanted = min(max(round(fraction * count), 1), count - 1)
        assert (loaded.y_test == label).sum() == wanted, label
    both = np.concatenate([loaded.x_train, loaded.x_test])
    assert sorted(map(bytes, both)) == sorted(map(bytes, x.reshape(60, -1)))
    assert prepared.notes == (
        f"it has no test rows, so {prepared.n_test} of its 60 rows, drawn class by class, are used for "
        f"testing (data.test_fraction={fraction:g})",
    )


def test_the_split_has_the_same_test_rows_in_every_version(tmp_path):
    x = np.zeros((20, 4), np.uint8)
    x[:, 0] = 11 * np.arange(20)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2)
    loaded = load(prepare("files", str(tmp_path / "a.npz")))
    assert (loaded.x_test[:, 0] // 11).tolist() == TESTED
    assert sorted((loaded.x_train[:, 0] // 11).tolist()) == sorted(set(range(20)) - set(TESTED))


TESTED = [11, 3, 2, 18]
"""Test rows by PCG64's raw output, which never changes. Trial ids depend on them."""


@pytest.mark.parametrize("name", ["x_val", "val_images"])
def test_a_files_validation_rows_are_ignored_with_a_note(name, arrays, tmp_path):
    plain = prepare("files", str(write_npz(tmp_path, arrays)))
    prepared = prepare("files", str(write_npz(tmp_path, arrays | {name: arrays["x_test"] // 2})))
    assert prepared.checksum == plain.checksum
    assert [note.partition(";")[0] for note in prepared.notes] == [f"its {name} is not used"]
    assert plain.notes == ()


# --- pixels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_byte_divided_by_255_is_read_as_that_byte(dtype, tmp_path):
    x = np.random.default_rng(0).permutation(np.arange(256 * 4) % 256).reshape(64, 16).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=(x / 255).astype(dtype), y=np.arange(64) % 4)
    prepared = prepare("files", str(tmp_path / "a.npz"))
    loaded = load(prepared)
    assert sorted(map(bytes, np.concatenate([loaded.x_train, loaded.x_test]))) == sorted(map(bytes, x))
    assert prepared.notes[0] == "its pixels are bytes divided by 255; they are stored as bytes"


def test_test_images_of_zeros_and_ones_are_scaled_like_the_training_images(arrays, tmp_path):
    ones = (arrays["x_test"] > 99).astype(np.float32)
    divided = {"x_train": arrays["x_train"] / np.float32(255), "x_test": ones}
    loaded = load(prepare("files", str(write_npz(tmp_path, arrays | divided))))
    assert loaded.x_train.tobytes() == arrays["x_train"].tobytes()
    assert loaded.x_test.tobytes() == (255 * (arrays["x_test"] > 99).astype(np.uint8)).tobytes()


def test_whole_numbers_are_not_scaled(arrays, tmp_path):
    """Trials on zeros and ones keep their ids if the values are saved as floats."""
    binary = {name: (arrays[name] > 99).astype(float) for name in ("x_train", "x_test")}
    prepared = prepare("files", str(write_npz(tmp_path, arrays | binary)))
    assert (prepared.brightest, load(prepared).x_train.max()) == (1, 1)


# --- what a sweep prints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 16, 100])
def test_dividing_pixels_below_128_by_255_is_refused(most, arrays, tmp_path, invoke):
    dims = {1: lambda x: x // 128, 16: lambda x: x // 16 + 1, 100: lambda x: (x // 2 % 101).astype(np.uint8)}
    dim = {k: dims[most](a) for k, a in arrays.items()}
    dim |= {k: a for k, a in arrays.items() if k[0] == "y"}
    path = f"data.path={write_npz(tmp_path, dim).name}"
    ran = invoke("data=files", path, "dry_run=true")
    assert ran.status == 2
    assert f"the largest pixel of files is {most}; write data.scale=raw" in ran.err
    assert invoke("data=files", path, "dry_run=true", "data.scale=raw").status == 0


def test_a_class_without_training_rows_is_refused_when_rows_are_held_out(arrays, tmp_path, invoke):
    order = np.argsort(arrays["y_train"], kind="stable")
    by_class = {name: arrays[name][order] for name in ("x_train", "y_train")}
    path = f"data.path={write_npz(tmp_path, arrays | by_class).name}"
    last = int((arrays["y_train"] == 2).sum())
    ran = invoke("data=files", path, "dry_run=true", f"data.validation={last}")
    assert ran.status == 2
    assert f"write at most data.validation={last - 1}" in ran.err
    assert invoke("data=files", path, "dry_run=true", f"data.validation={last - 1}").status == 0


def test_a_warning_is_printed_only_if_the_held_out_rows_lack_a_class(arrays, tmp_path, invoke):
    """In a sorted file, the six rows that are held out by default all have the last class."""
    order = np.argsort(arrays["y_train"], kind="stable")
    by_class = {name: arrays[name][order] for name in ("x_train", "y_train")}
    path = f"data.path={write_npz(tmp_path, arrays | by_class).name}"
    ran = invoke("data=files", path, "dry_run=true")
    warning = "validation rows are the last 6 training rows of files. They lack a class"
    assert (ran.status, ran.out.count(warning)) == (0, 1)
    first_of_the_last_two = int((arrays["y_train"] == 0).sum())
    held = 40 - first_of_the_last_two
    assert "lack a class" in invoke("data=files", path, "dry_run=true", f"data.validation={held // 2}").out
    mixed = f"data.path={write_npz(tmp_path, arrays).name}"
    all_there = next(n for n in range(40) if len(set(arrays["y_train"][-n:])) == 3 and n)
    for rows, count in ((all_there - 1, 1), (all_there, 0)):
        ran = invoke("data=files", mixed, "dry_run=true", f"data.validation={rows}")
        assert (ran.status, ran.out.count("lack a class")) == (0, count)


def test_a_warning_is_printed_if_the_drawn_rows_lack_a_class(invoke):
    few = ["data=digits", "dry_run=true", "-m", "data.subset=9,1000", "data.validation=237"]
    for words, counts in ((few, (1, 0)), ([*few, "seed_split=0,1"], (1, 0))):
        output = " ".join(invoke(*words).out.split())
        assert output.count("data.subset=9: 9 training rows drawn from digits lack a class") == counts[0]
        assert output.count("lack a class") == sum(counts)
    output = " ".join(invoke("data=digits", "dry_run=true", "data.validation=9", "seed_split=0").out.split())
    assert "data.validation=9: 9 validation rows drawn from digits lack a class" in output
    ran = invoke("data=digits", "dry_run=true", "data.subset=1201", "data.validation=237")
    assert ran.status == 2
    assert (
        "1437 training rows, and data.validation=237 holds out some; write at most data.subset=1200"
        in ran.err
    )


def test_notes_on_the_data_are_printed_each_time_and_are_not_params(arrays, tmp_path, invoke):
    x, y = (np.concatenate([arrays[f"{kind}_train"], arrays[f"{kind}_test"]]) for kind in "xy")
    (tmp_path / "all.csv").write_text(csv_text(x, y, label="last"))
    words = ["data=files", "data.path=all.csv", "dry_run=true"]
    for _ in range(2):
        output = " ".join(invoke(*words).out.split())
        assert "all.csv: its last column is the label" in output
        assert "all.csv: it has no test rows, so 12 of its 60 rows, drawn class by class" in output
    output = " ".join(invoke(*words, "data.label=last", "data.test_fraction=0.5").out.split())
    assert "column is the label" not in output
    assert "so 30 of its 60" in output


def test_differences_that_float32_rounds_away_are_said(arrays, tmp_path, invoke):
    rng = np.random.default_rng(0)
    x = np.stack([rng.permutation(80) + 1e8, rng.permutation(80) + 1e9, rng.normal(size=80)], axis=1)
    arrays |= {"x_train": x[:40], "x_test": x[40:50], "y_test": arrays["y_train"][:10]}
    path = f"data.path={write_npz(tmp_path, arrays).name}"
    ran = invoke("data=files", path, "data.scale=standardize", "dry_run=true")
    step = 2 ** (int(np.log2(1e9)) - 23)  # of float32 at 1e9
    match = re.search(r"input (\d) differ by at most (\d+), .* to steps of (\d+)", ran.out)
    assert match, ran.err
    assert (int(match[1]), int(match[2])) == (2, np.ptp(x[:40, 1]))
    assert int(match[3]) == step


def test_notes_on_the_data_are_tags_of_the_run(arrays, tmp_path, store, invoke):
    from mlflow import MlflowClient

    (tmp_path / "all.csv").write_text(csv_text(arrays["x_train"], arrays["y_train"], label="last"))
    words = ["data=files", "data.path=all.csv", "execution.backend=sequential"]
    ran = invoke(*words, "epochs=0", "arch.hidden=[1]", "tracking.experiment=one")
    assert ran.status == 0, ran.err
    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("one").experiment_id])
    assert run.data.tags["fnnexp.data_notes"].startswith("its last column is the label")


def test_reading_options_are_params_only_if_they_are_set(arrays, tmp_path, trials_of):
    file = f"data.path={write_npz(tmp_path, arrays).name}"
    (default,) = trials_of("data=files", file)
    (transposed,) = trials_of("data=files", file, "data.transpose=true")
    assert transposed.params == default.params | {"data.transpose": True}
    assert not {f"data.{field.name}" for field in fields(Reading)} & default.params.keys()


def test_images_accepts_the_reading_options(arrays, tmp_path):
    (tmp_path / "all.csv").write_text(csv_text(arrays["x_train"], arrays["y_train"], header=True))
    table = fnnexp.images(
        "files", path=tmp_path / "all.csv", label="label", header=True, test_fraction=0.5, transpose=True
    )
    rows = {bytes(row) for row in arrays["x_train"].swapaxes(1, 2).reshape(40, -1)}
    assert {bytes(row) for row in table.drop(columns="label").to_numpy()} < rows
    with pytest.raises(DataError, match="must be one of auto, true, false"):
        fnnexp.images("files", path=tmp_path / "all.csv", header="maybe")


# --- the cache ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_in_the_cache_is_found_and_the_data_prepared_again(
    name, arrays, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("FNNEXP_CACHE", str(tmp_path / "cache"))
    first = prepare("files", str(write_npz(tmp_path, arrays)))
    assert (prepare("files", str(tmp_path / "a.npz")), capsys.readouterr().err) == (first, "")
    file = Path(first.directory) / f"{name}.npy"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert prepare("files", str(tmp_path / "a.npz")) == first
    output = capsys.readouterr().err
    assert output.startswith(f"fnnexp: the prepared data in {first.directory} is damaged; preparing it again")
    assert output.count("\n") == 1
    assert getattr(load(first), name).tobytes() == arrays[name].tobytes()


def test_a_changed_row_number_in_the_cache_is_found(arrays, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FNNEXP_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "a.npz", x=arrays["x_train"], y=arrays["y_train"])
    first = prepare("files", str(tmp_path / "a.npz"))
    file = Path(first.directory) / "rows_test.npy"
    np.save(file, np.load(file)[::-1])
    with pytest.raises(DataError, match="missing or damaged"):
        row_numbers(first)
    assert prepare("files", str(tmp_path / "a.npz")) == first
    assert "preparing it again" in capsys.readouterr().err
    rows, x = row_numbers(first), arrays["x_train"].reshape(40, -1)
    assert sorted(np.concatenate([rows["train"], rows["test"]])) == list(range(40))
    assert (load(first).x_train == x[rows["train"]]).all()
    assert (load(first).x_test == x[rows["test"]]).all()


def test_a_changed_checksum_in_the_cache_is_found(arrays, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FNNEXP_CACHE", str(tmp_path / "cache"))
    first = prepare("files", str(write_npz(tmp_path, arrays)))
    meta = Path(first.directory) / "meta.json"
    meta.write_text(meta.read_text().replace(first.checksum, "0" * 64))
    assert prepare("files", str(tmp_path / "a.npz")) == first
    assert "preparing it again" in capsys.readouterr().err


def test_a_sweep_checks_its_data_against_the_checksum_once(arrays, tmp_path, invoke, monkeypatch):
    monkeypatch.setenv("FNNEXP_CACHE", str(tmp_path / "cache"))
    path = write_npz(tmp_path, arrays)
    first = prepare("files", str(path))
    file = Path(first.directory) / "x_train.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    hashed, checksum = [], cache_module._checksum
    monkeypatch.setattr(cache_module, "_checksum", lambda arrays: hashed.append(1) or checksum(arrays))
    ran = invoke("-m", "data=files", f"data.path={path.name}", "seed=range(6)", "dry_run=true")
    assert ran.status == 0
    assert "preparing it again" in ran.err
    assert load(first).x_train.tobytes() == arrays["x_train"].tobytes()
    hashed.clear()
    ran = invoke("-m", "data=files", f"data.path={path.name}", "seed=range(6)", "dry_run=true")
    assert (ran.status, ran.err, len(hashed)) == (0, "", 1)


def test_test_images_that_are_also_training_images_are_counted(arrays, tmp_path, invoke):
    common = len(arrays["x_test"]) // 2
    mixed = {k: a.copy() for k, a in arrays.items()}
    for kind in "xy":
        mixed[f"{kind}_test"][:common] = mixed[f"{kind}_train"][:common]
    path = f"data.path={write_npz(tmp_path, mixed).name}"
    ran = invoke("data=files", path, "data.scale=raw", "dry_run=true")
    assert ran.status == 0, ran.err
    note = f"{common} of {len(arrays['x_test'])} test images are also training images"
    assert note in " ".join((ran.out + ran.err).split())


def test_the_advice_for_values_that_are_not_bytes_gives_readable_data(arrays, tmp_path):
    """The advice in the message is followed, and gives the same arrays as the plain format."""
    far = {**arrays, **{k: a.astype(int) * 128 for k, a in arrays.items() if k[0] == "y"}}
    message = refusal(write_npz(tmp_path, far))
    y_train = far["y_train"]
    advised = eval(
        message.partition("store ")[2].partition(" for both")[0], {"np": np, "y_train": y_train, "y": y_train}
    )
    assert (advised == arrays["y_train"]).all()
