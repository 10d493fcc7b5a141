"""Find the files of a data set: an ``.npz``, four IDX files, or one or two CSV files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fnnexp.errors import DataError, FnnexpError

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
EXPECTED = (
    "expected an .npz with x_train y_train x_test y_test; or a folder with the four IDX files "
    "(train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, "
    "optionally .gz); or a folder with one *train*.csv and one *test*.csv; or a training .csv with "
    "data.test_path=TEST.csv; or a single .csv, of which the fraction data.test_fraction becomes test rows"
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
    """

    label: str | None = None
    header: str = "auto"
    test_fraction: float = 0.2
    transpose: bool = False

    def __post_init__(self) -> None:
        """Raise `DataError` for an unknown `header` or an impossible `test_fraction`."""
        if self.header not in HEADERS:
            raise DataError(f"data.header={self.header}: must be one of {', '.join(HEADERS)}")
        if not 0 < self.test_fraction < 1:
            raise DataError(
                f"data.test_fraction={self.test_fraction:g}: must be between 0 and 1; "
                "write data.test_fraction=0.2"
            )


DEFAULT_READING = Reading()
"""How to read files if the command says nothing about it."""


@dataclass(frozen=True)
class Source:
    """The files of a data set, and how to read them.

    The format is `npz` with one file; `idx` with four files, in the order training images, training labels,
    test images, test labels; or `csv` with a training and a test file, or with one file of all rows.
    """

    format: str
    files: tuple[Path, ...]
    reading: Reading = DEFAULT_READING


def find(path: Path, test_path: Path | None = None, reading: Reading = DEFAULT_READING) -> Source:
    """Return the files of the data set at `path` and, for a training CSV, `test_path`.

    Raises
    ------
    DataError
        If a file or folder is missing, a folder lacks files or has too many, a suffix is unknown, or
        `reading` sets an option that this format does not have.
    """
    source = Source(*_files(path, test_path), reading)
    for key, value in (("label", reading.label), ("header", reading.header)):
        if source.format != "csv" and value not in (None, "auto"):
            raise DataError(
                f"data.{key}={value}: this key is for .csv files, and {path} is not one; omit data.{key}."
            )
    return source


def _files(path: Path, test_path: Path | None) -> tuple[str, tuple[Path, ...]]:
    """Return the format of a data set (npz, idx or csv) and its files."""
    for file in (path, test_path):
        if file is not None and not file.exists():
            raise DataError(f"{file} does not exist (searched at {file.absolute()}); {EXPECTED}.")
    if test_path is not None:
        if not (_is_table(path) and _is_table(test_path)):
            raise DataError(
                f"data.test_path={test_path} with data.path={path}: data.test_path is the test .csv for a "
                "training .csv; omit it for every other format."
            )
        return "csv", (path, test_path)
    if path.is_dir():
        return _files_in(path)
    if not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder; {EXPECTED}.")
    if path.suffix.lower() == ".npz":
        return "npz", (path,)
    if _is_table(path):
        return "csv", (path,)
    raise DataError(
        f"{path}: the suffix '{path.suffix}' is unknown (to read a text table of numbers, name it "
        f".csv); {EXPECTED}."
    )


def _files_in(folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Return the format and files of the data set in a folder, or in the ``raw`` that torchvision makes."""
    if idx := _idx_in(folder):
        return "idx", _all_four(folder, idx)
    tables = [path for path in _files_directly_in(folder) if _is_table(path)]
    train, test = ([path for path in tables if word in path.name.lower()] for word in ("train", "test"))
    if len(train) == len(test) == 1 and train != test:
        return "csv", (train[0], test[0])
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
        return "idx", _all_four(subfolder, idx)
    if len(tables) == 1:
        return "csv", (tables[0],)
    names = listed([path.name for path in _files_directly_in(folder)])
    raise DataError(f"{folder} does not contain exactly one data set (it contains {names}); {EXPECTED}.")


def _idx_in(folder: Path) -> dict[str, Path]:
    """Return the IDX files in a folder by the name of their array; an unpacked file is preferred to a .gz."""
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


def _files_directly_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(TABLES)


def listed(names: list[str], most: int = 8) -> str:
    """Return the first names, joined by commas, and how many more there are."""
    return (
        ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"
    )
