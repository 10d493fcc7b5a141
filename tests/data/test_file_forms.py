"""A data set in the many formats that people use is read as the same arrays, or refused with a remedy."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from files import IDX_NAMES, NAMES

from fnnexp.data.datasets import Request, from_function, load, prepare
from fnnexp.data.sources import Reading
from fnnexp.errors import DataError

PIXELS = [f"pixel{i}" for i in range(784)]


@pytest.fixture(scope="module")
def truth():
    """A hundred training and forty test images of 28×28, each with a label."""
    digits = load(prepare("digits"))
    return {
        "x_train": np.array(digits.x_train[:100]),
        "y_train": np.array(digits.y_train[:100]),
        "x_test": np.array(digits.x_test[-40:]),
        "y_test": np.array(digits.y_test[-40:]),
    }


# --- writers ------------------------------------------------------------------------------------------------


def table(
    x, y, label="first", name="label", pixels=PIXELS, header=True, cell=str, pixel=None, sep=",", quote=""
):
    """Return the text of a CSV."""
    lines = [[name, *pixels]] if header else []
    lines += [
        [cell(value), *map(pixel or cell, image)] for value, image in zip(y.tolist(), x.tolist(), strict=True)
    ]
    for cells in lines:
        cells.insert({"first": 0, "middle": 400, "last": 784}[label], cells.pop(0))
    return "".join(sep.join(f"{quote}{cell}{quote}" for cell in cells) + "\n" for cells in lines)


def each_line(change):
    """Return a function that changes each line of a text and encodes it."""
    return lambda text: "".join(f"{change(line)}\n" for line in text.splitlines()).encode()


def csv(suffix=".csv", encode=str.encode, test=None, **how):
    """Return a writer of a folder with a training and a test CSV; `test` has what differs in the test CSV."""

    def write(folder, arrays):
        for split, differing in (("train", {}), ("test", test or {})):
            options = {"encode": encode, **how, **differing}
            encoded = options.pop("encode")(table(arrays[f"x_{split}"], arrays[f"y_{split}"], **options))
            (folder / f"{split}{suffix}").write_bytes(encoded)
        return folder

    return write


def csv_with(column):
    """Return a writer of CSVs with a first column added: `column(None)` is its name, `column(i)` a cell."""

    def write(folder, arrays, header=True):
        for split in ("train", "test"):
            lines = table(arrays[f"x_{split}"], arrays[f"y_{split}"], header=header).splitlines()
            cells = [column(None)] * header + [column(i) for i in range(len(lines) - header)]
            text = "".join(f"{cell},{line}\n" for cell, line in zip(cells, lines, strict=True))
            (folder / f"{split}.csv").write_text(text)
        return folder

    return write


def without_first(line):
    return line.partition(",")[2]


def without_header(write):
    return lambda folder, arrays: write(folder, arrays, header=False)


def npz(change=lambda name, array: array, names=NAMES, save=np.savez):
    """Return a writer of an .npz with changed and renamed arrays."""

    def write(folder, arrays):
        named = dict(zip(names, (*NAMES, "class_names"), strict=False))
        save(folder / "data.npz", **{new: change(old, arrays[old]) for new, old in named.items()})
        return folder / "data.npz"

    return write


def images(change):
    return npz(lambda name, array: change(array) if name[0] == "x" else array)


def labels(change):
    return npz(lambda name, array: change(array) if name[0] == "y" else array)


def square(x):
    return x.reshape(-1, 28, 28)


def by_columns(x):
    return square(x).swapaxes(1, 2)


def packed(content):
    return gzip.compress(content)


def idx_bytes(array, code=8):
    array = square(array) if array.ndim == 2 else array
    body = array.astype({8: ">u1", 12: ">i4"}[code]).tobytes()
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + body


def idx(rename=str, pack=lambda content: content, change=lambda x: x, code=8, below=".", into="."):
    """Return a writer of the four IDX files in the folder `below`; `data.path` is the folder `into`."""

    def write(folder, arrays):
        (folder / below).mkdir(parents=True, exist_ok=True)
        for name, file in IDX_NAMES.items():
            array = change(arrays[name]) if name[0] == "x" else arrays[name]
            (folder / below / rename(file)).write_bytes(pack(idx_bytes(array, code)))
        return folder / into

    return write


def both(*writers):
    """Return a writer that calls several writers; `data.path` is what the last returns."""
    return lambda folder, arrays: [write(folder, arrays) for write in writers][-1]


def rest(folder, arrays):
    """Write another data set without two of its files."""
    for file in folder.glob("my-t10k*"):
        file.unlink()


def beside(folder, arrays):
    """Write an .npz with the plain names, and further arrays under other names."""
    others = dict.fromkeys(("X_train", "train_images", "x_val", "images"), 255 - arrays["x_train"])
    np.savez(folder / "data.npz", **others, **arrays)
    return folder / "data.npz"


def medmnist(folder, arrays):
    """Write an .npz with the names and shapes of MedMNIST; its validation images are different images."""
    splits = arrays | {"x_val": 255 - arrays["x_train"], "y_val": arrays["y_train"]}
    images = {f"{split}_images": square(splits[f"x_{split}"]) for split in ("train", "val", "test")}
    labels = {f"{split}_labels": splits[f"y_{split}"][:, None] for split in ("train", "val", "test")}
    np.savez_compressed(folder / "pathmnist.npz", **images, **labels)
    return folder / "pathmnist.npz"


def unit(value):
    return repr(value / 255)


# --- formats that are read as the same arrays ---------------------------------------------------------------

READ = {
    "csv, label first": csv(),
    "csv, label last": csv(label="last"),
    "csv, label in the middle": csv(label="middle"),
    "csv, called Label": csv(name="Label"),
    "csv, called class, last": csv(name="class", label="last"),
    "csv, called target, last": csv(name="target", label="last"),
    "csv, called y, last": csv(name="y", label="last"),
    "csv, called class_id": csv(name="class_id"),
    "csv, pixels 1x1": csv(pixels=[f"{r}x{c}" for r in range(1, 29) for c in range(1, 29)]),
    "csv, pixels pixel_0_0": csv(
        name="target", pixels=[f"pixel_{r}_{c}" for r in range(28) for c in range(28)]
    ),
    "csv, pixels 0 to 783": csv(pixels=range(784)),
    "csv, no header, label first": csv(header=False),
    "csv, no header, label last": csv(header=False, label="last"),
    "csv, all columns numbered, label first": csv(name="0", pixels=range(1, 785)),
    "csv, all columns numbered, label last": csv(name="784", pixels=range(784), label="last"),
    "csv, all columns called V1 to V785": csv(name="V1", pixels=[f"V{i}" for i in range(2, 786)]),
    "csv, semicolons": csv(sep=";"),
    "csv, tabs": csv(sep="\t"),
    "tsv": csv(".tsv", sep="\t"),
    "csv, semicolons, no header, label last": csv(sep=";", header=False, label="last"),
    "csv, everything in quotes": csv(quote='"'),
    "csv, quotes and semicolons": csv(quote='"', sep=";"),
    "csv, a blank behind each comma": csv(sep=", "),
    "csv, UTF-8 with a mark": csv(encode=lambda text: text.encode("utf-8-sig")),
    "csv, UTF-16": csv(encode=lambda text: text.encode("utf-16")),
    "csv, UTF-16, tabs": csv(encode=lambda text: text.encode("utf-16"), sep="\t"),
    "csv, umlauts in UTF-8": csv(pixels=[f"Größe{i}" for i in range(784)]),
    "csv, lines end as on Windows": csv(encode=lambda text: text.replace("\n", "\r\n").encode()),
    "csv, lines end as on old Macs": csv(encode=lambda text: text.replace("\n", "\r").encode()),
    "csv, no end of the last line": csv(encode=lambda text: text.rstrip("\n").encode()),
    "csv, blank lines": csv(encode=lambda text: text.replace("\n", "\n\n").encode()),
    "csv, header as np.savetxt writes it": csv(name="# label"),
    "csv.gz": csv(".csv.gz", lambda text: packed(text.encode())),
    "csv, packed but not called so": csv(encode=lambda text: packed(text.encode())),
    "csv, called CSV": csv(".CSV"),
    "csv, 5.0": csv(cell=lambda value: f"{value:.1f}"),
    "csv, 5.000000000000000000e+00": csv(cell=lambda value: f"{value:.18e}", header=False),
    "csv, divided by 255": csv(pixel=unit),
    "csv, divided by 255, six decimals": csv(pixel=lambda value: f"{value / 255:.6f}"),
    "csv, divided by 255, four decimals": csv(pixel=lambda value: f"{value / 255:.4f}"),
    "csv, divided by 255, no header, label last": csv(pixel=unit, header=False, label="last"),
    "csv, test file without header": csv(test={"header": False}),
    "npz": npz(),
    "npz, compressed": npz(save=np.savez_compressed),
    "npz, X_train": npz(names=("X_train", "Y_train", "X_test", "Y_test")),
    "npz, train_x": npz(names=("train_x", "train_y", "test_x", "test_y")),
    "npz, train_images": npz(names=("train_images", "train_labels", "test_images", "test_labels")),
    "npz, images_train": npz(names=("images_train", "labels_train", "images_test", "labels_test")),
    "npz, MedMNIST's": medmnist,
    "npz, further arrays of other images": beside,
    "npz, int64": npz(lambda _, array: array.astype(np.int64)),
    "npz, big-endian int32": npz(lambda _, array: array.astype(">i4")),
    "npz, uint16": npz(lambda _, array: array.astype(np.uint16)),
    "npz, whole float16": npz(lambda _, array: array.astype(np.float16)),
    "npz, whole float32": npz(lambda _, array: array.astype(np.float32)),
    "npz, whole float64": npz(lambda _, array: array.astype(np.float64)),
    "npz, float64 divided by 255": images(lambda x: x / 255),
    "npz, float32 divided by 255": images(lambda x: x / np.float32(255)),
    "npz, float16 divided by 255": images(lambda x: (x / 255).astype(np.float16)),
    "npz, float32 divided by 255 as float64": images(lambda x: (x / np.float32(255)).astype(float)),
    "npz, by columns of memory": images(np.asfortranarray),
    "npz, images (n, 28, 28)": images(square),
    "npz, images (n, 28, 28, 1)": images(lambda x: square(x)[..., None]),
    "npz, images (n, 1, 28, 28)": images(lambda x: square(x)[:, None]),
    "npz, images (n, 784, 1)": images(lambda x: x[..., None]),
    "npz, labels (n, 1)": labels(lambda y: y[:, None]),
    "npz, labels as floats": labels(lambda y: y.astype(np.float64)),
    "idx, dashes": idx(),
    "idx, dots": idx(lambda name: name.replace("-idx", ".idx")),
    "idx, underscores": idx(lambda name: name.replace("-", "_")),
    "idx.gz": idx(lambda name: f"{name}.gz", packed),
    "idx, dots, gz": idx(lambda name: name.replace("-idx", ".idx") + ".gz", packed),
    "idx, called gz, but unpacked": idx(lambda name: f"{name}.gz"),
    "idx, capitals": idx(str.upper),
    "idx, EMNIST's names": idx(lambda name: "emnist-letters-" + name.replace("t10k", "test")),
    "idx, torchvision's folder raw": idx(below="MNIST/raw", into="MNIST/raw"),
    "idx, torchvision's folder MNIST": idx(below="MNIST/raw", into="MNIST"),
    "idx, torchvision's root": idx(below="MNIST/raw"),
    "idx, a rest of another data set beside": both(idx(lambda name: f"my-{name}"), rest, idx()),
    "idx, two CSV files above the folder raw": both(idx(below="raw", change=lambda x: 255 - x), csv()),
    "idx, packed and unpacked": both(idx(lambda name: f"{name}.gz", lambda _: b"never opened"), idx()),
}

WITH_KEYS = {
    "csv, no header, label first": (csv(header=False), {"label": "first"}),
    "csv, no header, label last": (csv(header=False, label="last"), {"label": "last"}),
    "csv, label called digit": (csv(name="digit", label="middle"), {"label": "digit"}),
    "csv, label named like the pixels": (csv(name="pixel784", label="last"), {"label": "pixel784"}),
    "csv, header true": (csv(), {"header": "true"}),
    "csv, header false": (csv(header=False), {"header": "false"}),
    "csv, a header of numbers": (
        csv(name="0", pixels=["0.0", *(f"0.{i}" for i in range(1, 784))]),
        {"header": "true", "label": "first"},
    ),
    "csv, by columns": (csv(), {"transpose": True}),
    "npz, by columns": (images(by_columns), {"transpose": True}),
    "npz, by columns, flat": (images(lambda x: by_columns(x).reshape(-1, 784)), {"transpose": True}),
    "idx, by columns, EMNIST's": (
        idx(lambda name: "emnist-digits-" + name.replace("t10k", "test"), change=by_columns),
        {"transpose": True},
    ),
}


WORDS = ("Ankle boot", "Bag", "Coat", "Dress", "Sandal", "T-shirt, top", "Été", "ß", "ボート", "靴")
"""Names of classes in the order of their code points."""


def words(**how):
    """Return a writer of CSVs with the classes in words."""
    return csv(cell=lambda y: f'"{WORDS[y]}"' if "," in WORDS[y] and "quote" not in how else WORDS[y],
               pixel=str, **how)  # fmt: skip


IN_WORDS = {
    "csv, label first": words(),
    "csv, called kind, last": words(name="kind", label="last"),
    "csv, called kind, pixels 0 to 783": words(name="kind", pixels=range(784)),
    "csv, no header": words(header=False),
    "csv, no header, label in the middle": words(header=False, label="middle"),
    "csv, everything in quotes, semicolons": words(quote='"', sep=";"),
    "npz": labels(lambda y: np.array(WORDS)[y]),
    "npz, names beside numbers": lambda folder, arrays: npz(names=(*NAMES, "class_names"))(
        folder, arrays | {"class_names": np.array(WORDS)}
    ),
}


@pytest.mark.parametrize("format_", IN_WORDS)
def test_classes_in_words_are_numbered_in_their_order_and_named(format_, truth, tmp_path):
    prepared = prepare("files", str(IN_WORDS[format_](tmp_path, truth)))
    same(load(prepared), truth)
    assert prepared.class_names == WORDS
    numbering = "its labels are words, and classes are numbered in their order: 0 Ankle boot, 1 Bag, 2 Coat"
    assert any(note.startswith(numbering) for note in prepared.notes) == ("beside" not in format_)


def test_a_function_of_ones_own_may_return_words(truth):
    arrays = [np.array(WORDS)[truth[name]] if name[0] == "y" else truth[name] for name in NAMES]
    prepared = from_function("mine", lambda: arrays, "1", Request())
    same(load(prepared), truth)
    assert prepared.class_names == WORDS


def test_classes_that_are_called_by_their_numbers_have_no_names(truth, tmp_path):
    prepared = prepare("files", str(labels(lambda y: y.astype(str))(tmp_path, truth)))
    same(load(prepared), truth)
    assert (prepared.class_names, prepared.notes) == ((), ())


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (list("abc"), "expected 10 different names, and it has 3: a, b, c"),
        (["a", *"abcdefghi"], "expected 10 different names, and it has 10: a, a, b"),
        (np.array(WORDS, object), "its class_names needs pickle and is not read"),
    ],
    ids=["too few", "twice", "pickled"],
)
def test_names_of_classes_that_do_not_fit_are_not_used_and_noted(names, note, truth, tmp_path):
    np.savez(tmp_path / "data.npz", **truth, class_names=names)
    prepared = prepare("files", str(tmp_path / "data.npz"))
    same(load(prepared), truth)
    assert prepared.class_names == ()
    assert note in prepared.notes[0]


def same(loaded, truth):
    for name in NAMES:
        array = getattr(loaded, name)
        assert (array.dtype, array.shape) == (np.uint8, truth[name].shape)
        assert array.tobytes() == truth[name].tobytes()


@pytest.mark.parametrize("format_", READ)
def test_a_format_is_read_as_the_same_arrays_as_the_plain_format(format_, truth, tmp_path):
    same(load(prepare("files", str(READ[format_](tmp_path, truth)))), truth)


@pytest.mark.parametrize("format_", WITH_KEYS)
def test_a_format_that_needs_a_key_is_read_as_the_same_arrays_as_the_plain_format(format_, truth, tmp_path):
    write, reading = WITH_KEYS[format_]
    stored = truth
    if format_ == "csv, by columns":
        stored = {k: by_columns(a).reshape(-1, 784) if k[0] == "x" else a for k, a in truth.items()}
    same(load(prepare("files", str(write(tmp_path, stored)), None, Reading(**reading))), truth)


# --- a single file, which is split --------------------------------------------------------------------------


def alone(write):
    """Return a writer of a single CSV with the training rows."""

    def one(folder, arrays):
        write(folder, arrays)
        (folder / "test.csv").unlink()
        return folder / "train.csv"

    return one


def pair(names):
    def write(folder, arrays):
        np.savez(folder / "data.npz", **dict(zip(names, (arrays["x_train"], arrays["y_train"]), strict=True)))
        return folder / "data.npz"

    return write


ONE = {
    "csv, Kaggle's": alone(csv()),
    "csv, OpenML's": alone(csv(name="class", label="last")),
    "csv, no header, label last": alone(csv(header=False, label="last")),
    "csv, a folder with it": lambda folder, arrays: alone(csv())(folder, arrays).parent,
    "npz, x and y": pair(("x", "y")),
    "npz, images and labels": pair(("images", "labels")),
    "npz, data and target": pair(("data", "target")),
    "npz, x_train and y_train": pair(("x_train", "y_train")),
}


@pytest.mark.parametrize("format_", ONE)
def test_a_single_file_is_split_into_the_same_rows_in_every_format(format_, truth, tmp_path):
    loaded = load(prepare("files", str(ONE[format_](tmp_path, truth))))
    splits = [(loaded.x_train, loaded.y_train), (loaded.x_test, loaded.y_test)]
    rows = [(image.tobytes(), label) for x, y in splits for image, label in zip(x, y.tolist(), strict=True)]
    images = (image.tobytes() for image in truth["x_train"])
    expected = zip(images, truth["y_train"].tolist(), strict=True)
    assert sorted(rows) == sorted(expected)
    for label, count in enumerate(np.bincount(truth["y_train"])):
        assert (loaded.y_test == label).sum() == round(0.2 * count)
    plain = tmp_path / "plain"
    plain.mkdir()
    other = load(prepare("files", str(ONE["npz, x and y"](plain, truth))))
    same(loaded, {name: np.array(getattr(other, name)) for name in NAMES})


# --- formats that are refused with a remedy -----------------------------------------------------------------

REFUSED = {
    "csv, an index without a name": (csv_with(lambda i: "" if i is None else i), "data.drop=1"),
    "csv, a column without a name": (
        csv_with(lambda i: "" if i is None else 7 * i % 251),
        "data.drop=1",
    ),
    "csv, an index, no header": (without_header(csv_with(lambda i: i)), "data.drop=1"),
    "csv, a shuffled id": (csv_with(lambda i: "id" if i is None else 7 * i % 251), "data.drop=id"),
    "csv, an id of millions": (
        csv_with(lambda i: "id" if i is None else 9**7 + 7 * i),
        "data.drop=id",
    ),
    "csv, who wrote it": (csv_with(lambda i: "writer" if i is None else i % 3), "data.drop=writer"),
    "csv, two labels": (csv_with(lambda i: "class" if i is None else i % 2), "data.drop=label"),
    "csv, two labels, no header": (
        csv(header=False, encode=each_line(lambda line: f"{line},{line[0]}")),
        "write data.label=first or data.label=last",
    ),
    "csv, label called digit": (csv(name="digit"), "write data.label=digit"),
    "csv, words and numbers as labels": (
        csv(cell=lambda y: "cat" if y == 3 else str(y), pixel=str),
        "with words, such as 'cat' in row 4 (row 1 is the first with data); expected only numbers or only",
    ),
    "csv, words in two columns": (
        csv(cell=lambda y: f"digit {y}", pixel=str, encode=each_line(lambda line: f"{line},{line[:4]}")),
        "row 1 (row 1 is the first with data) is 'digi'; expected a class number or pixel 0..255",
    ),
    "csv, words beside labels in numbers": (
        csv_with(lambda i: "writer" if i is None else "AB"[i % 2]),
        "write data.label=writer; else write data.drop=writer",
    ),
    "csv, missing labels": (
        csv(cell=lambda y: "" if y == 3 else f"digit {y}", pixel=str),
        "the label in column 'label', row 4 (row 1 is the first with data) is missing",
    ),
    "csv, a test class in words that is not trained": (
        csv(cell=lambda y: f"digit {y}", pixel=str, test={"cell": lambda y: f"Digit {y}"}),
        "which no training row has; training labels are 'digit 0', 'digit 1', 'digit 2' and 7 more",
    ),
    "csv, words that may name the column": (
        csv(cell=lambda y: f"digit {y}", name="kind", pixel=str, pixels=[f"{5 * i}" for i in range(784)]),
        "if it has the column names, write data.header=true, otherwise data.header=false",
    ),
    "csv, no labels at all": (
        csv(encode=each_line(without_first)),
        "write data.label=first or data.label=last",
    ),
    "csv, test file without labels": (
        csv(test={"encode": each_line(without_first)}),
        "write data.path=",
    ),
    "csv, a gap in the classes, no header": (
        lambda folder, a: csv(header=False)(folder, a | {k: a[k] + 90 for k in a if k[0] == "y"}),
        "write data.label=first or data.label=last",
    ),
    "csv, a header of numbers": (
        csv(name="0", pixels=["0.0", *(f"0.{i}" for i in range(1, 784))]),
        "write data.header=true",
    ),
    "csv, a name in Latin-1": (
        csv(pixels=[f"Größe{i}" for i in range(784)], encode=lambda text: text.encode("latin-1")),
        "is not a CSV in UTF-8",
    ),
    "csv, a comma in the numbers": (
        csv(sep=";", pixel=lambda value: unit(value).replace(".", ",")),
        "or a real value",
    ),
    "csv, split by blanks": (csv(sep=" "), "separated by commas, semicolons or tabs"),
    "csv, called data": (
        lambda folder, arrays: (csv()(folder, arrays) / "train.csv").rename(folder / "optdigits.tra"),
        "name it .csv",
    ),
    "csv, the training file as test file": (
        lambda folder, a: csv()(folder, a | {"x_test": a["x_train"], "y_test": a["y_train"]}),
        "test on images that are not trained on",
    ),
    "npz, one-hot labels": (labels(lambda y: np.eye(10, dtype=np.uint8)[y]), "y.argmax(axis=1)"),
    "npz, missing labels": (
        labels(lambda y: np.array([*"012", "", *"456789"])[y]),
        "row 3 (from 0) of y_train has no label",
    ),
    "npz, a name for each row": (
        lambda folder, a: npz()(
            folder,
            {k: np.repeat(a[k], 3, 0) if k[2:] == "train" else a[k] for k in a}
            | {"y_train": np.arange(300).astype(str)},
        ),
        "its training labels are 300 different words ('0', '1', '2' and 297 more); expected 2 to 256 classes",
    ),
    "npz, pickled labels": (labels(lambda y: y.astype(object)), "save it with .astype(np.uint8)"),
    "npz, true and false": (images(lambda x: x > 99), "expected whole numbers 0..255, as uint8"),
    "npz, colours": (images(lambda x: np.stack([square(x)] * 3, -1)), "x.reshape(len(x), -1)"),
    "npz, other names": (npz(names=("a", "b", "c", "d")), "np.savez(path, x_train=…, y_train=…"),
    "npz, no y_train": (npz(names=("x_train", "b", "x_test", "y_test")), "np.savez(path, x_train=…"),
    "npz, the training images as test images": (
        lambda folder, a: npz()(folder, a | {"x_test": a["x_train"][:40]}),
        "test on images that are not trained on",
    ),
    "csv, two labels after the pixels, no header": (
        csv(
            header=False,
            label="last",
            encode=each_line(lambda line: f"{line},{int(line.rpartition(',')[2]) // 3}"),
        ),
        "write data.drop=785",
    ),
    "npz, the label among the pixels": (
        lambda folder, a: npz()(
            folder, a | {f"x_{p}": np.c_[a[f"y_{p}"], a[f"x_{p}"]] for p in ("train", "test")}
        ),
        "save the rows without it",
    ),
    "npz, a class without training rows": (
        lambda folder, a: npz()(folder, a | {"y_train": a["y_train"] % 9}),
        "move some of them to the training rows",
    ),
    "npz, training 0 to 255, testing 0 to 1": (
        lambda folder, a: npz()(folder, a | {"x_test": a["x_test"] // 128}),
        "store both on the same scale, 0..255",
    ),
    "idx, integers of four bytes": (idx(code=12), "IDX images in unsigned bytes"),
    "idx, two data sets": (
        both(idx(lambda name: f"kmnist-{name}"), idx(lambda name: f"qmnist-{name}")),
        "write the data.path of a folder with one",
    ),
    "idx, two of torchvision's": (
        both(idx(below="MNIST/raw"), idx(below="KMNIST/raw")),
        "write data.path=",
    ),
    "a picture": (
        lambda folder, _: (folder / "a.png").write_bytes(b"\x89PNG") and folder / "a.png",
        "expected an .npz",
    ),
}


REAL = {
    "csv, mean 0 and deviation 1": (
        csv(pixel=lambda value: f"{(value / 255 - 0.1307) / 0.3081:.4f}"),
        "-0.4242 in column 'pixel0', row 1 of the training file",
    ),
    "npz, -1 to 1": (images(lambda x: x / 127.5 - 1), "x_train has values from -1.0 to 1.0"),
    "npz, fractions of 7": (images(lambda x: x / 7), "x_train has fractions (float64, such as "),
    "npz, whole numbers beyond 255": (
        images(lambda x: x.astype(np.int32) * 257),
        "x_train has values from 0 to 65535",
    ),
}


@pytest.mark.parametrize("format_", REAL)
def test_a_format_of_real_values_is_read_as_float32_with_a_note(format_, truth, tmp_path):
    write, reason = REAL[format_]
    prepared = prepare("files", str(write(tmp_path, truth)))
    loaded = load(prepared)
    assert (prepared.real, loaded.x_train.dtype, loaded.x_test.dtype) == (True, "f4", "f4")
    assert loaded.y_train.tolist() == truth["y_train"].tolist()
    assert np.corrcoef(loaded.x_train.ravel(), truth["x_train"].ravel())[0, 1] > 0.9999
    assert prepared.notes[0].startswith(f"its inputs are real-valued: {reason}")


@pytest.mark.parametrize("format_", REFUSED)
def test_a_format_is_refused_in_one_or_two_sentences_with_the_remedy(format_, truth, tmp_path):
    write, remedy = REFUSED[format_]
    path = write(tmp_path, truth)
    with pytest.raises(DataError) as refused:
        prepare("files", str(path))
    message = str(refused.value)
    assert remedy in message
    assert str(tmp_path) in message
    assert "\n" not in message


def test_sixty_formats_are_tested():
    assert len(READ) + len(WITH_KEYS) + len(ONE) + len(REFUSED) + len(REAL) >= 60
