"""Find the files of a data set: one ``.npz``, four IDX files, or one or two CSV files."""

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
    r"(?P<prefix>(?:.*[-_.])?)(?P<part>train|t10k|test)[-_](?P<kind>images[-_.]idx3|labels[-_.]idx1)"
    r"[-_.]ubyte(?P<packed>\.gz)?"
)
"""``train-images-idx3-ubyte``, ``t10k-labels.idx1-ubyte.gz``, ``emnist-letters-test-images-idx3-ubyte``."""

HEADERS = ("auto", "true", "false")
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
EXPECTED = (
    "expected an .npz with x_train y_train x_test y_test; or a folder with the four IDX files "
    "(train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each "
    "perhaps .gz) or with one *train*.csv and one *test*.csv; or a training .csv with "
    "data.test_path=TEST.csv; or one .csv with labels, of which data.test_fraction are tested on"
)


def place(written: str | Path) -> Path:
    """Return the path that a user wrote, where ``~`` at its beginning is a home folder.

    Raises
    ------
    FnnexpError
        When that home folder is not known: there is no such user, or none that this process runs as.
    """
    try:
        return Path(written).expanduser()
    except RuntimeError as error:
        raise FnnexpError(
            f"{written}: no home folder is known for {Path(written).parts[0]} (is HOME set, is there such a "
            f"user?); write the path in full, or ./{written} for a name that begins with ~"
        ) from error


@dataclass(frozen=True)
class Reading:
    """How files are read where they cannot tell: the keys ``data.label``, ``data.header`` and so on.

    `label` is the CSV column with the classes: `first`, `last`, a name, or None to find it. `header` says
    whether a CSV's first line has the names: `auto`, `true` or `false`. `test_fraction` of a file without
    test rows become its test rows. `transpose` is for images that are stored column by column.
    """

    label: str | None = None
    header: str = "auto"
    test_fraction: float = 0.2
    transpose: bool = False

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.header not in HEADERS:
            raise DataError(f"data.header={self.header}: must be one of {', '.join(HEADERS)}")
        if not 0 < self.test_fraction < 1:
            raise DataError(
                f"data.test_fraction={self.test_fraction:g}: must be between 0 and 1; "
                "write data.test_fraction=0.2"
            )


UNTOLD = Reading()
"""How files are read of which nothing is told."""


@dataclass(frozen=True)
class Source:
    """One data set's files, and how to read them.

    One `npz`; or four `idx`: training images and labels, test images and labels; or `csv`: train and test,
    or one with all rows.
    """

    format: str
    files: tuple[Path, ...]
    reading: Reading = UNTOLD


def find(path: Path, test_path: Path | None = None, reading: Reading = UNTOLD) -> Source:
    """Return the files that `path` (and, for a training CSV, `test_path`) stands for.

    Raises
    ------
    DataError
        A file or folder is missing, a folder lacks the right files or has too many, a suffix is not known,
        or the files have no use for what `reading` says.
    """
    source = Source(*_files(path, test_path), reading)
    for key, value in (("label", reading.label), ("header", reading.header)):
        if source.format != "csv" and value not in (None, "auto"):
            raise DataError(f"data.{key}={value} is for a .csv, and {path} is none; leave it out.")
    return source


def _files(path: Path, test_path: Path | None) -> tuple[str, tuple[Path, ...]]:
    """Return the format and the files."""
    for given in (path, test_path):
        if given is not None and not given.exists():
            raise DataError(f"{given} does not exist (looked for at {given.absolute()}); {EXPECTED}.")
    if test_path is not None:
        if not (_is_table(path) and _is_table(test_path)):
            raise DataError(
                f"data.test_path={test_path} beside data.path={path}: data.test_path is the test .csv that "
                "belongs to a training .csv; leave it out for every other format."
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
        f"{path}: the suffix '{path.suffix}' is none that is read (a table of numbers in text is, once it is "
        f"called .csv); {EXPECTED}."
    )


def _files_in(folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Return the format and the files in a folder, or in the ``raw`` that torchvision makes below it."""
    if idx := _idx_in(folder):
        return "idx", _all_four(folder, idx)
    tables = [path for path in _inside(folder) if _is_table(path)]
    train, test = ([path for path in tables if word in path.name.lower()] for word in ("train", "test"))
    if len(train) == len(test) == 1 and train != test:
        return "csv", (train[0], test[0])
    below = {
        place: idx for place in (folder / "raw", *sorted(folder.glob("*/raw"))) if (idx := _idx_in(place))
    }
    if len(below) > 1:
        names = listed([place.relative_to(folder).as_posix() for place in below])
        raise DataError(f"{folder} holds several data sets ({names}); write data.path={next(iter(below))}.")
    for place, idx in below.items():
        return "idx", _all_four(place, idx)
    if len(tables) == 1:
        return "csv", (tables[0],)
    there = listed([path.name for path in _inside(folder)])
    raise DataError(
        f"{folder} is not a folder with data, or with one set only (it holds {there}); {EXPECTED}."
    )


def _idx_in(folder: Path) -> dict[str, Path]:
    """Return the IDX files in a folder by the array they hold, the unpacked one where both are there."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(_inside(folder), key=lambda path: (path.name.lower().endswith(".gz"), path.name)):
        if name := IDX_NAME.fullmatch(path.name.lower()):
            part = "train" if name["part"] == "train" else "test"
            array = f"{'x' if name['kind'].startswith('images') else 'y'}_{part}"
            found.setdefault(name["prefix"], {}).setdefault(array, path)
    whole = [idx for idx in found.values() if len(idx) == len(IDX_STEMS)]
    if len(whole) == 1:
        return whole[0]
    if len(found) > 1:
        raise DataError(
            f"{folder} holds the IDX files of several data sets ({listed([f'{each}*' for each in found])}); "
            "write the data.path of a folder with one."
        )
    return next(iter(found.values()), {})


def _all_four(folder: Path, idx: dict[str, Path]) -> tuple[Path, ...]:
    if len(idx) < len(IDX_STEMS):
        absent = " ".join(stem for name, stem in IDX_STEMS.items() if name not in idx)
        names = listed([path.name for path in _inside(folder)])
        raise DataError(f"{folder} lacks the IDX files {absent} (it holds {names}); {EXPECTED}.")
    return tuple(idx[name] for name in IDX_STEMS)


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(TABLES)


def listed(names: list[str], most: int = 8) -> str:
    """Return the first names in one line, and how many more there are."""
    return (
        ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"
    )
