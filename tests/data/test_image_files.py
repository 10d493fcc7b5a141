"""Folders of images: each is read as the bytes that were written, in a fixed order, or refused by name."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fnnexp.data import readers
from fnnexp.data.datasets import load, prepare
from fnnexp.data.images import images
from fnnexp.data.sources import find
from fnnexp.errors import DataError

RNG = np.random.default_rng(0)
CLASSES = ("ant", "bee", "cat")


def drawn(count=12, side=(5, 4)):
    """Return different images."""
    return RNG.integers(0, 256, (count, *side), np.uint8)


def write(folder, names=CLASSES, count=12, suffix=".png", images=None):
    """Write images into a folder for each class; return them by class, as they should be read."""
    written = {}
    for name in names:
        (folder / name).mkdir(parents=True)
        written[name] = drawn(count) if images is None else images
        for k, image in enumerate(written[name]):
            Image.fromarray(image).save(folder / name / f"{k:02}{suffix}")
    return written


def rows(x, y):
    return sorted((image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))


def rows_of(written, names=CLASSES):
    return sorted((image.tobytes(), names.index(name)) for name in written for image in written[name])


def refusal(folder):
    with pytest.raises(DataError) as refused:
        prepare("files", str(folder))
    return str(refused.value)


@pytest.mark.parametrize("suffix", [".png", ".BMP", ".pgm"])
@pytest.mark.parametrize("names", [("train", "test"), ("Training", "testing")])
def test_every_image_is_read_as_it_was_written(suffix, names, tmp_path):
    train, test = (write(tmp_path / name, suffix=suffix) for name in names)
    prepared = prepare("files", str(tmp_path))
    arrays = load(prepared)
    assert (prepared.n_train, prepared.n_test, prepared.input_size, prepared.classes) == (36, 36, 20, 3)
    assert rows(arrays.x_train, arrays.y_train) == rows_of(train)
    assert rows(arrays.x_test, arrays.y_test) == rows_of(test)
    assert prepared.notes == ("its classes are numbered in the order of their folders: 0 ant, 1 bee, 2 cat",)
    assert set(arrays.y_train[-10:].tolist()) == {0, 1, 2}  # the rows to validate on


def test_without_folders_train_and_test_a_fifth_of_each_class_tests(tmp_path):
    written = write(tmp_path)
    arrays = load(prepare("files", str(tmp_path)))
    assert np.bincount(arrays.y_test).tolist() == [2, 2, 2]
    both = [
        np.concatenate(each) for each in ((arrays.x_train, arrays.x_test), (arrays.y_train, arrays.y_test))
    ]
    assert rows(*both) == rows_of(written)


@pytest.mark.parametrize("is_split", [True, False])
def test_images_are_numbered_class_by_class_and_by_name(is_split, tmp_path):
    written = write(tmp_path / ("train" if is_split else "."))
    if is_split:
        tested = np.concatenate(list(write(tmp_path / "test", count=4).values()))
    in_order = np.concatenate(list(written.values()))
    for split in ("train", "test"):
        table = images("files", split, path=tmp_path, rows=5)
        originals = tested if is_split and split == "test" else in_order
        assert len(set(table.index)) == 5
        assert (table.drop(columns="label").to_numpy() == originals[table.index].reshape(5, -1)).all()


def test_folders_called_by_numbers_are_numbered_by_value(tmp_path):
    names = tuple(map(str, range(11)))
    written = write(tmp_path / "train", names, count=3)
    write(tmp_path / "test", names, count=3)
    prepared = prepare("files", str(tmp_path))
    arrays = load(prepared)
    assert prepared.notes == ()
    assert rows(arrays.x_train, arrays.y_train) == rows_of(written, names)


def test_colours_are_read_as_the_luma_of_itu_r_601(tmp_path):
    colours = RNG.integers(0, 256, (12, 5, 4, 3), np.uint8)
    write(tmp_path / "train", ("ant", "bee"), images=None)
    for k, image in enumerate(colours):
        Image.fromarray(image).save(tmp_path / "train" / "bee" / f"{k:02}.png")
    write(tmp_path / "test", ("ant", "bee"))
    prepared = prepare("files", str(tmp_path))
    arrays = load(prepared)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    pixels = {x.tobytes() for x, y in zip(arrays.x_train, arrays.y_train, strict=True) if y == 1}
    read = np.array([np.frombuffer(x, np.uint8) for x in pixels])
    distance = np.abs(read[:, None] - luma.reshape(12, -1)).max(axis=2).min(axis=1)
    assert distance.max() < 0.51
    assert "12 of its 48 images are stored in colour and read as grey: 0.299 red" in prepared.notes[1]


def test_a_photo_is_read_as_the_camera_was_held(tmp_path):
    write(tmp_path, count=3)
    upright = Image.fromarray(np.repeat(np.repeat(drawn(1, (2, 2))[0], 8, 0), 8, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row of the file is the right side of the scene
    content = io.BytesIO()
    upright.rotate(90, expand=True).save(content, "JPEG", exif=exif, quality=100)
    for name in CLASSES:
        for k in range(3):
            (tmp_path / name / f"{k:02}.png").unlink()
            noisy = Image.fromarray(drawn(1, (16, 16))[0])
            noisy.save(tmp_path / name / f"{k:02}.jpg")
    (tmp_path / "ant" / "00.jpg").write_bytes(content.getvalue())
    raw = readers.READERS["images"](find(tmp_path))
    np.testing.assert_allclose(raw.arrays["x_train"][0], np.asarray(upright), atol=3)


def test_the_order_and_the_content_are_those_of_the_files_names(tmp_path):
    write(tmp_path / "a")
    copied = tmp_path / "b"
    for name in reversed(CLASSES):
        (copied / name).mkdir(parents=True)
        for file in sorted((tmp_path / "a" / name).iterdir(), reverse=True):
            (copied / name / file.name).write_bytes(file.read_bytes())
    first, again = (prepare("files", str(folder)) for folder in (tmp_path / "a", copied))
    assert first.checksum == again.checksum
    (copied / "ant").rename(copied / "dog")  # now the last class
    assert prepare("files", str(copied)).checksum != first.checksum


def test_what_is_not_read_is_said_except_hidden_files(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "test", count=4)
    write(tmp_path / "val", count=4)
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "train" / "ant" / ".DS_Store").write_bytes(b"")
    before = prepare("files", str(tmp_path))
    assert before.notes[1:] == (
        "val is not read, because validation images are held out of the training images",
    )
    (tmp_path / "train" / "ant" / "notes.txt").write_text("")
    after = prepare("files", str(tmp_path))
    assert after.notes[2:] == ("1 file beside its images is not read: ant/notes.txt",)
    assert after.checksum == before.checksum


def text(folder):
    (folder / "ant" / "0.txt").write_text("no image")
    for file in (folder / "ant").glob("*.png"):
        file.unlink()


def resized(folder):
    Image.fromarray(drawn(1, (6, 4))[0]).save(folder / "bee" / "05.png")


def cut(folder):
    file = folder / "cat" / "03.png"
    file.write_bytes(file.read_bytes()[:-30])


def transparent(folder):
    Image.fromarray(drawn(1, (5, 4, 4))[0]).save(folder / "ant" / "00.png")


def deep(folder):
    Image.fromarray(drawn(1)[0].astype(np.uint16) * 257).save(folder / "ant" / "01.png")


def without_folders(folder):
    for name in CLASSES:
        for file in (folder / name).iterdir():
            file.rename(folder / f"{name}{file.name}")
        (folder / name).rmdir()


def huge(folder):
    Image.new("L", (5000, 5000)).save(folder / "ant" / "00.png")


def linked(folder):
    (folder / "bee" / "01.png").unlink()
    (folder / "bee" / "01.png").symlink_to("nowhere.png")


REFUSED = {
    "a class without images": (text, ["ant contains no images (it contains 0.txt)", "convert its files"]),
    "another size": (resized, ["05.png has 4 x 6 pixels", "00.png 4 x 5", "resize((4, 5))"]),
    "a truncated file": (cut, ["03.png is truncated or damaged"]),
    "no image": (
        lambda folder: (folder / "bee" / "07.png").write_text("no image"),
        ["07.png is damaged, or no image in the formats PNG, JPEG, BMP, PPM"],
    ),
    "transparent places": (transparent, ["00.png is transparent in places", "'white'"]),
    "sixteen bits": (deep, ["01.png has values that are no bytes", "I;16", "// 257"]),
    "folders in a class": (lambda folder: write(folder / "ant"), ["contains the folder ant", "itself"]),
    "a class that is only tested": (
        lambda folder: (write(folder / "train", ("ant", "bee")), write(folder / "test")),
        ["test contains the folder cat, and", "training folder of this name"],
    ),
    "a single class": (lambda folder: write(folder / "train", ("ant",)), ["contains 1 folder (ant)"]),
    "a table beside": (
        lambda folder: (folder / "labels.csv").write_text("a,b\n1,2\n"),
        ["folders of images and the table labels.csv", "write data.path="],
    ),
    "images without folders": (without_folders, ["make a folder for each class", "CLASS"]),
    "a link to a missing file": (linked, ["01.png is a link to a file that is missing", "remove the link"]),
    "millions of pixels": (huge, ["00.png has 5000 x 5000 pixels", "resize((28, 28))"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_images_that_are_no_data_set_are_refused_with_the_remedy(what, tmp_path):
    change, words = REFUSED[what]
    write(tmp_path)
    change(tmp_path)
    message = refusal(tmp_path)
    assert [text for text in words if text not in message] == []
    assert str(tmp_path) in message
    assert "\n" not in message


def test_a_table_beside_a_folder_of_figures_is_read_as_a_table(tmp_path):
    write(tmp_path, ("figures",))
    lines = [f"{k % 2},{k * k / 7},{-k / 3}" for k in range(40)]
    (tmp_path / "all.csv").write_text("\n".join(["label,a,b", *lines]))
    assert prepare("files", str(tmp_path)).input_size == 2


def test_small_files_of_large_images_use_no_memory(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(readers, "LARGEST", 36 * 20 - 1)
    assert "36 images of 4 x 5 pixels, 720 bytes; the largest size is 719" in refusal(tmp_path)


def test_only_the_named_formats_are_decoded(tmp_path):
    write(tmp_path)
    Image.fromarray(drawn(1)[0]).save(tmp_path / "ant" / "00.png", "TIFF")
    assert "00.png is damaged, or no image in the formats" in refusal(tmp_path)


@pytest.mark.parametrize("at", [20, 30, 45, 60])
def test_damage_to_an_image_raises_only_a_data_error(at, tmp_path):
    write(tmp_path)
    file = tmp_path / "ant" / "00.png"
    content = bytearray(file.read_bytes())
    content[at] ^= 0xFF
    file.write_bytes(content)
    assert "00.png" in refusal(tmp_path)
