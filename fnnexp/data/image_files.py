"""Read image files, which lie in a folder for each class, into arrays of grey bytes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fnnexp.data.labelled import Bytes, Raw, are_numbers, fixed_order, numbered
from fnnexp.data.sources import Source, listed
from fnnexp.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "PPM")
"""The formats that are decoded, by Pillow's names, whatever the name of a file says; PPM includes PGM."""

GREY, COLOUR = ("1", "L", "LA"), ("P", "RGB", "RGBA")
"""The kinds of images that are read, by Pillow's names of their modes."""

MOST_PIXELS = 1 << 24
"""The largest number of pixels of an image."""


def read(source: Source, most: int) -> Raw:
    """Read images as grey bytes (n, height, width), with their labels and the names of the classes.

    The classes are numbered in the order of their folders. Colours become grey by the luma of ITU-R BT.601,
    (299 red + 587 green + 114 blue) / 1000, as in Pillow's mode L. If there are test images, the training
    images are shuffled, always in the same way: the last of them are held out for validation, and should be
    of all classes. Without test images, they are shuffled later, when some of them become test images.

    Parameters
    ----------
    source
        The files.
    most
        The largest number of bytes that all images together may have.

    Raises
    ------
    DataError
        If a file is damaged or is not an image of bytes, or if the images have different sizes.
    """
    first, count = source.files[0], len(source.files)
    shape = _grey(first)[0].shape
    if (size := count * shape[0] * shape[1]) > most:
        raise DataError(
            f"{source.where} has {count:,} images of {shape[1]} x {shape[0]} pixels, {size:,} bytes; the "
            f"largest size is {most:,}: use smaller or fewer images."
        )
    images, coloured = np.empty((count, *shape), np.uint8), 0
    for k, file in enumerate(source.files):
        images[k], is_coloured = _grey(file, first, shape)
        coloured += is_coloured
    names, counts = [folder.name for folder, _ in source.folders], [n for _, n in source.folders]
    classes = list(dict.fromkeys(names))
    labels = np.repeat([classes.index(name) for name in names], counts).astype(np.uint8)
    arrays, n_train = {"x_train": images, "y_train": labels}, sum(counts[: len(classes)])
    rows = {}
    if n_train < count:
        rows["train"] = order = fixed_order(n_train)
        arrays = {"x_train": images[order], "y_train": labels[order]}
        arrays |= {"x_test": images[n_train:], "y_test": labels[n_train:]}
    # The function that describes values that are not bytes is never called: all values are bytes.
    notes = (*_notes(classes, coloured, count), *source.notes)
    return Raw(arrays, lambda *_: "", notes, tuple(classes), rows=rows)


def _notes(classes: list[str], coloured: int, count: int) -> Iterator[str]:
    """Yield notes for the user: how the classes are numbered, and how many images have colours.

    If the folders are called 0, 1, 2, …, there is no note on the numbers.
    """
    if not are_numbers(classes):
        yield f"its classes are numbered in the order of their folders: {numbered(classes)}"
    if coloured:
        which = f"{coloured:,} of its {count:,} images are" if coloured > 1 else "one of its images is"
        yield f"{which} stored in colour and read as grey: 0.299 red + 0.587 green + 0.114 blue"


def _grey(file: Path, first: Path | None = None, shape: tuple[int, ...] | None = None) -> tuple[Bytes, bool]:
    """Return an image as grey bytes (height, width), and whether the file has colours.

    Raises
    ------
    DataError
        If the file is damaged or is not an image of bytes, or if its shape differs from that of the first
        file.
    """
    with _damage(file), Image.open(file, formats=FORMATS) as stored:
        if math.prod(stored.size) > MOST_PIXELS:
            raise DataError(
                f"{file} has {_size(stored)} pixels, and each would be an input; make the images smaller "
                "with Pillow, as in Image.open(file).resize((28, 28)).save(copy)."
            )
        image = ImageOps.exif_transpose(stored) if stored.format == "JPEG" else stored  # turned upright
        if shape is not None and image.size != shape[::-1]:
            raise DataError(
                f"{file} has {_size(image)} pixels, and {first} {shape[1]} x {shape[0]}; expected one size: "
                f"resize them with Pillow, as in Image.open(file).resize({shape[::-1]}).save(copy)."
            )
        if image.mode not in (*GREY, *COLOUR):
            raise DataError(
                f"{file} has values that are no bytes of grey or of red, green and blue (Pillow's mode "
                f"{image.mode}); convert it with Pillow, as in Image.open(file).convert('RGB').save(copy), "
                "or 16 bits as in Image.fromarray((np.asarray(Image.open(file)) // 257).astype(np.uint8))."
            )
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise DataError(
                f"{file} is transparent in places; give the images a background with Pillow, as in "
                "Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA'))."
            )
        return np.asarray(image.convert("L")), image.mode in COLOUR


def _size(image: Image.Image) -> str:
    return f"{image.width} x {image.height}"


@contextlib.contextmanager
def _damage(file: Path) -> Iterator[None]:
    """Raise DataError in place of any exception that Pillow raises in the ``with`` block.

    The file is then damaged, or not an image in a format that is read.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{file} is damaged, or no image in the formats {listed(list(FORMATS))} (PPM includes PGM); "
            "convert it to .png, or move it elsewhere."
        ) from error
    except Exception as error:
        raise DataError(
            f"{file} is truncated or damaged ({error}); replace it, or move it elsewhere."
        ) from error
