"""Find the files of a data set: an ``.npz``, four IDX files, one or two CSV files, or folders of images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fnnexp.errors import DataError, FnnexpError, did_you_mean_path, plural, to_write

IDX_STEMS = {
    "x_train": "train-images",
    "y_train": "train-labels",
    "x_test": "t10k-images",
    "y_test": "t10k-labels",
}
IDX_NAME = re.compile(
    r"(?P<prefix>(?:.*[-_.])?)(?P<split>train|t10k|test)[-_](?P<content>images[-_.]idx3|labels[-_.]idx1)"
    r"[-_.]ubyte(?P<packed>\.gz)?"
)
"""Matches the name of an IDX file, such as ``train-images-idx3-ubyte`` or ``t10k-labels.idx1-ubyte.gz``."""

HEADERS = ("auto", "true", "false")
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm")
TRAIN, TEST = ("train", "training"), ("test", "testing")
"""Names of the folders with the classes of training images and of test images."""
MOST_CLASSES = 256
"""The largest number of classes: a label is a byte."""
LONG = 20
"""The names of classes with this many digits or more are words."""
EXPECTED = (
    "expected an .npz with x_train y_train x_test y_test; or a folder with the four IDX files "
    "(train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, "
    "optionally .gz); or a folder with one *train*.csv and one *test*.csv; or a training .csv with "
    "data.test_path=TEST.csv; or a single .csv, of which the fraction data.test_fraction becomes test rows; "
    "or a folder with a folder of images (.png, .jpg, .bmp, .pgm) for each class, as in cat/1.png, or as in "
    "train/cat/1.png and test/cat/2.png"
)


def place(written: str | Path) -> Path:
    """Return a path as the user means it: ``~`` at its start is replaced by the home folder.

    Raises
    ------
    FnnexpError
        If the home folder is unknown: the user does not exist, or this process runs as an unknown user.
    """
    try:
        return Path(written).expanduser()
    except RuntimeError as error:
        raise FnnexpError(
            f"{written}: the home folder of {Path(written).parts[0]} is unknown (is HOME set, does the user "
            f"exist?); write the full path, or ./{written} for a name that starts with ~"
        ) from error


@dataclass(frozen=True)
class Reading:
    """How to read files: the keys ``data.label``, ``data.header`` and so on.

    `label` is the CSV column with the classes: `first`, `last`, a name, or None to find it. `header` says
    whether a CSV's first line has the column names: `auto`, `true` or `false`. `test_fraction` is the share
    of rows that become test rows if a file has none. `transpose` is for images stored column by column.
    `drop` has the CSV columns that are not read, sorted, each once; `first` and `last` count the others.
    """

    label: str | None = None
    header: str = "auto"
    test_fraction: float = 0.2
    transpose: bool = False
    drop: tuple[str, ...] = field(default=(), repr=False)  # no part of old keys in the cache, see Source

    def __post_init__(self) -> None:
        """Raise `DataError` for an unknown `header`, an impossible `test_fraction`, or a dropped label."""
        if self.header not in HEADERS:
            raise DataError(f"data.header={self.header}: must be one of {', '.join(HEADERS)}")
        if not 0 < self.test_fraction < 1:
            raise DataError(
                f"data.test_fraction={self.test_fraction:g}: must be between 0 and 1; "
                "write data.test_fraction=0.2"
            )
        if self.label in self.drop and self.label not in ("first", "last"):
            raise DataError(
                f"data.label={self.label} and {to_write('data.drop', self.drop)} name the same "
                "column; omit one of them."
            )


def columns_named(given: Any) -> tuple[str, ...]:
    """Return the names of columns that ``data.drop`` gives, sorted: a name, a list or an array, or None.

    A column may be called by a number.

    >>> columns_named("id"), columns_named(["row", "id", 3]), columns_named(None)
    (('id',), ('3', 'id', 'row'), ())
    """
    given = given.tolist() if hasattr(given, "tolist") else given  # of NumPy or pandas
    names = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    if wrong := [name for name in names if isinstance(name, bool) or not isinstance(name, str | int)]:
        raise DataError(
            f"data.drop={given}: {wrong[0]!r} is not the name of a column; write data.drop=NAME, or "
            "data.drop=[NAME,NAME] for several columns, with quotes around a name such as '1.5' or 'true'."
        )
    return tuple(sorted({str(name).strip() for name in names}))


DEFAULT_READING = Reading()
"""How to read files if the command says nothing about it."""


@dataclass(frozen=True)
class Source:
    """The files of a data set, and how to read them.

    What `files` contains depends on `format`:

    - `npz`: one file.
    - `idx`: four files, in the order training images, training labels, test images, test labels.
    - `csv`: a training and a test file, or one file of all rows.
    - `images`: all images, class by class: first the training images, and then the test images, if any.

    For `images`, `folders` has the folder of each class with its number of images, and `notes` tell the user
    which folders and files are not read.
    """

    format: str
    files: tuple[Path, ...]
    folders: tuple[tuple[Path, int], ...] = ()
    notes: tuple[str, ...] = ()
    reading: Reading = DEFAULT_READING

    @property
    def where(self) -> str:
        """How messages name the data set: by its files, or by the folder of its images."""
        if not self.folders:
            return " ".join(str(path) for path in self.files)
        first, last = (self.folders[i][0].parent for i in (0, -1))
        return str(first if first == last else first.parent)

    @property
    def content(self) -> str:
        """The format, the settings and the folders as a text, for the key in the cache.

        With other settings, the same files give other arrays, and so need a place of their own in the cache.
        """
        folders = [(folder.parent.name, folder.name, count) for folder, count in self.folders]
        # The words at the end change the key. At first, the names of classes and inputs were not read, and
        # the numbers of the rows were not kept.
        more = f" {folders} {self.notes}" if folders else ""
        drop = f" without {self.reading.drop}" if self.reading.drop else ""
        return f"{self.format} {self.reading}{more}" + " named, numbered" * (self.format != "idx") + drop


def find(path: Path, test_path: Path | None = None, reading: Reading = DEFAULT_READING) -> Source:
    """Return the files of the data set at `path` and, for a training CSV, `test_path`.

    Raises
    ------
    DataError
        If a file or folder is missing, a folder lacks files or has too many, a suffix is unknown, or
        `reading` sets an option that this format does not have.
    """
    source = replace(_files(path, test_path), reading=reading)
    for key, value in (("label", reading.label), ("header", reading.header), ("drop", reading.drop)):
        if source.format != "csv" and value not in (None, "auto", ()):
            given = f"data.{key}={value}" if key != "drop" else to_write("data.drop", reading.drop)
            raise DataError(f"{given}: this key is for .csv files, and {path} is not one; omit data.{key}.")
    return source


def _files(path: Path, test_path: Path | None) -> Source:
    """Return the files of a data set, and its format."""
    for file in (path, test_path):
        if file is not None and not file.exists():
            hint = did_you_mean_path(file)
            advice = f".{hint}" if hint else f"; {EXPECTED}."
            raise DataError(f"{file} does not exist (searched at {file.absolute()}){advice}")
    if test_path is not None:
        if not (_is_table(path) and _is_table(test_path)):
            raise DataError(
                f"data.test_path={test_path} with data.path={path}: data.test_path is the test .csv for a "
                "training .csv; omit it for every other format."
            )
        return Source("csv", (path, test_path))
    if path.is_dir():
        return _files_in(path)
    if not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder; {EXPECTED}.")
    if path.suffix.lower() == ".npz":
        return Source("npz", (path,))
    if _is_table(path):
        return Source("csv", (path,))
    raise DataError(
        f"{path}: the suffix '{path.suffix}' is unknown (to read a text table of numbers, name it "
        f".csv); {EXPECTED}."
    )


def _files_in(folder: Path) -> Source:
    """Find the data set in a folder: IDX files, CSV files or folders of images.

    Raise if there is none, or more than one. IDX files may also be in a subfolder ``raw``, where torchvision
    puts them.
    """
    if idx := _idx_in(folder):
        return Source("idx", _all_four(folder, idx))
    tables = [path for path in _files_directly_in(folder) if _is_table(path)]
    train, test = ([path for path in tables if word in path.name.lower()] for word in ("train", "test"))
    if len(train) == len(test) == 1 and train != test:
        return Source("csv", (train[0], test[0]))
    subfolders = {
        subfolder: idx
        for subfolder in (folder / "raw", *sorted(folder.glob("*/raw")))
        if (idx := _idx_in(subfolder))
    }
    if len(subfolders) > 1:
        names = listed([subfolder.relative_to(folder).as_posix() for subfolder in subfolders])
        raise DataError(
            f"{folder} contains several data sets ({names}); write data.path={next(iter(subfolders))}."
        )
    for subfolder, idx in subfolders.items():
        return Source("idx", _all_four(subfolder, idx))
    if images := _images_in(folder, beside=tables):
        return images
    if len(tables) == 1:
        return Source("csv", (tables[0],))
    names = listed([path.name + "/" * path.is_dir() for path in sorted(folder.iterdir())])
    raise DataError(f"{folder} does not contain exactly one data set (it contains {names}); {EXPECTED}.")


def _idx_in(folder: Path) -> dict[str, Path]:
    """Return the IDX files in a folder by the name of their array, such as ``x_train``.

    There may be fewer than four. If a file is there unpacked and as .gz, return the unpacked one. Raise if
    there are several data sets.
    """
    data_sets: dict[str, dict[str, Path]] = {}
    by_preference = sorted(
        _files_directly_in(folder), key=lambda path: (path.name.lower().endswith(".gz"), path.name)
    )
    for path in by_preference:
        if name := IDX_NAME.fullmatch(path.name.lower()):
            split = "train" if name["split"] == "train" else "test"
            array = f"{'x' if name['content'].startswith('images') else 'y'}_{split}"
            data_sets.setdefault(name["prefix"], {}).setdefault(array, path)
    complete = [idx for idx in data_sets.values() if len(idx) == len(IDX_STEMS)]
    if len(complete) == 1:
        return complete[0]
    if len(data_sets) > 1:
        prefixes = listed([f"{prefix}*" for prefix in data_sets])
        raise DataError(
            f"{folder} contains the IDX files of several data sets ({prefixes}); write the data.path of a "
            "folder with one data set."
        )
    return next(iter(data_sets.values()), {})


def _all_four(folder: Path, idx: dict[str, Path]) -> tuple[Path, ...]:
    if len(idx) < len(IDX_STEMS):
        absent = " ".join(stem for name, stem in IDX_STEMS.items() if name not in idx)
        names = listed([path.name for path in _files_directly_in(folder)])
        raise DataError(f"{folder} lacks the IDX files {absent} (it contains {names}); {EXPECTED}.")
    return tuple(idx[name] for name in IDX_STEMS)


def _images_in(folder: Path, beside: list[Path]) -> Source | None:
    """Return the images in a folder that has a folder for each class, or folders train and test that do.

    Return None if there are no images. If there are also tables (`beside`), the images might be only
    illustrations. Then return None unless there are several folders, all with images; in that case raise.
    """
    train, test = (
        [each for each in _folders_in(folder) if each.name.lower() in names] for names in (TRAIN, TEST)
    )
    roots = [*train, *test] if train else [folder]  # without a folder train, a folder test is a class
    classes = [_in_order(_folders_in(root)) for root in roots]
    folders = [each for of_split in classes for each in of_split]
    images, others = {}, {}
    for each in (*roots, *folders):
        images[each], others[each] = _names_in(each)
    if not any(images[each] for each in folders):
        if loose := next((root / images[root][0] for root in roots if images[root] and not beside), None):
            raise DataError(
                f"{loose.parent} contains images, but no folders of images; make a folder for each class, "
                f"and move the images there, as in {loose.parent / 'CLASS' / loose.name}."
            )
        return None
    if beside and (len(classes[0]) < 2 or not all(images[each] for each in folders)):
        return None
    if beside:
        raise DataError(
            f"{folder} contains folders of images and the table {beside[0].name}; write "
            f"data.path={beside[0]} to read the table, or move it elsewhere to read the images."
        )
    _check_classes(folder, roots, classes)
    for each in folders:
        _check_class(each, images[each], others[each])
    return Source(
        "images",
        tuple(each / name for each in folders for name in images[each]),
        tuple((each, len(images[each])) for each in folders),
        tuple(
            _unread(
                [each.name for each in _folders_in(folder) if roots != [folder] and each not in roots],
                [root / name for root in roots for name in (*images[root], *others[root])]
                + [each / name for each in folders for name in others[each]],
            )
        ),
    )


def _check_classes(folder: Path, roots: list[Path], classes: list[list[Path]]) -> None:
    """Raise unless there are one training and at most one test folder, with folders of 2 to 256 classes.

    Every class of the test folder must also be in the training folder.

    Parameters
    ----------
    folder, roots
        The folder of the data set; the folders with the folders of classes: train and test, or ``folder``
        itself.
    classes
        For each of ``roots``, the folders of its classes.
    """
    train, test = ([each.name for each in folders] for folders in (*classes, [])[:2])
    if len(roots) > 2 or (len(roots) == 2 and roots[1].name.lower() in TRAIN):
        raise DataError(
            f"{folder} contains the folders {listed([root.name for root in roots])}; keep one with training "
            "images and one with test images."
        )
    if not 1 < len(train) <= MOST_CLASSES:
        raise DataError(
            f"{roots[0]} contains {plural(len(train), 'folder')} ({listed(train)}); expected a folder of "
            f"images for each class, 2 to {MOST_CLASSES} of them."
        )
    if unknown := [name for name in test if name not in train]:
        raise DataError(
            f"{roots[1]} contains the folder {unknown[0]}, and {roots[0]} does not; expected training images "
            "of every class: remove it, or move some of its images to a training folder of this name."
        )


def _check_class(folder: Path, images: list[str], others: list[str]) -> None:
    """Raise if the folder of a class contains no images, further folders, or links to missing images."""
    if deeper := _folders_in(folder):
        raise DataError(
            f"{folder} is the folder of a class, but contains the folder {deeper[0].name}; move the images "
            f"of this class to {folder} itself."
        )
    if not images:
        raise DataError(
            f"{folder} contains no images (it contains {listed(others)}), as the folders beside it do; "
            "convert its files to .png, or move it elsewhere."
        )
    if missing := next((name for name in images if not (folder / name).exists()), None):
        raise DataError(
            f"{folder / missing} is a link to a file that is missing; restore that file, or remove the link."
        )


def _unread(folders: list[str], files: list[Path]) -> Iterator[str]:
    """Yield notes that tell the user which folders and files beside the images are not read."""
    if folders:
        verb = "is" if len(folders) == 1 else "are"
        why = "validation images are held out of the training images"
        yield f"{listed(folders)} {verb} not read, because {why}"
    if files:
        verb = "is" if len(files) == 1 else "are"
        names = listed([f"{path.parent.name}/{path.name}" for path in files], most=3)
        yield f"{plural(len(files), 'file')} beside its images {verb} not read: {names}"


def _in_order(folders: list[Path]) -> list[Path]:
    """Return the folders of classes by their names: numbers by value, and then words.

    >>> [path.name for path in _in_order([Path("b"), Path("10"), Path("9"), Path("a")])]
    ['9', '10', 'a', 'b']
    """
    return sorted(folders, key=lambda folder: class_order(folder.name))


def class_order(name: str) -> tuple[bool, int, str]:
    """Return a key to sort the names of classes by: numbers by their value, and then words.

    >>> sorted(["b", "10", "9", "a"], key=class_order)
    ['9', '10', 'a', 'b']
    """
    is_number = name.isdecimal() and len(name) < LONG
    return not is_number, int(name) if is_number else 0, name


def _names_in(folder: Path) -> tuple[list[str], list[str]]:
    """Return two lists for a folder: the names of its images, and the names of its other files.

    Hidden files are left out. A link to a missing file counts as a file, so that it is not skipped in
    silence.
    """
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.name[0] != "." and (entry.is_file() or not Path(entry).exists())
        )
    images = [name for name in names if name.lower().endswith(IMAGES)]
    return images, [name for name in names if not name.lower().endswith(IMAGES)]


def _folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())


def _files_directly_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(TABLES)


def listed(names: list[str], most: int = 8) -> str:
    """Return the first names, joined by commas, and how many more there are.

    >>> listed(["a", "b", "c", "d"], most=2)
    'a, b and 2 more'
    """
    return (
        ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"
    )
