"""Find the files of a data set: one ``.npz``, four IDX files, or two CSV files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fnnexp.errors import DataError, FnnexpError

IDX_STEMS = {
    "x_train": "train-images",
    "y_train": "train-labels",
    "x_test": "t10k-images",
    "y_test": "t10k-labels",
}
EXPECTED = (
    "expected an .npz with x_train y_train x_test y_test; or a folder with the four IDX files "
    "(train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each "
    "perhaps .gz) or with one *train*.csv and one *test*.csv; or a training .csv with data.test_path=TEST.csv"
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
class Source:
    """One data set's files.

    One `npz`; or four `idx`: training images and labels, test images and labels; or two `csv`: train, test.
    """

    format: str
    files: tuple[Path, ...]


def find(path: Path, test_path: Path | None = None) -> Source:
    """Return the files that `path` (and, for a training CSV, `test_path`) stands for.

    Raises
    ------
    DataError
        A file or folder is missing, a folder lacks the right files or has too many, a suffix is not known.
    """
    for given in (path, test_path):
        if given is not None and not given.exists():
            raise DataError(f"{given} does not exist (looked for at {given.absolute()}); {EXPECTED}.")
    if test_path is not None:
        if not (_is_csv(path) and _is_csv(test_path)):
            raise DataError(
                f"data.test_path={test_path} beside data.path={path}: data.test_path is the test .csv that "
                "belongs to a training .csv; leave it out for every other format."
            )
        return Source("csv", (path, test_path))
    if path.is_dir():
        return _find_in(path)
    if not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder; {EXPECTED}.")
    if path.suffix.lower() == ".npz":
        return Source("npz", (path,))
    if _is_csv(path):
        raise DataError(
            f"{path} is a training .csv, and there is no test .csv: write data.test_path=TEST.csv."
        )
    raise DataError(f"{path}: the suffix '{path.suffix}' is none that is read; {EXPECTED}.")


def _find_in(folder: Path) -> Source:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    idx = {name: _idx_file(files, stem) for name, stem in IDX_STEMS.items()}
    present = tuple(path for path in idx.values() if path)
    if len(present) == len(IDX_STEMS):
        return Source("idx", present)
    there = f"it holds {listed([path.name for path in files])}"
    if present:
        absent = " ".join(IDX_STEMS[name] for name, path in idx.items() if path is None)
        raise DataError(f"{folder} lacks the IDX files {absent} ({there}); {EXPECTED}.")
    tables = [
        [path for path in files if _is_csv(path) and word in path.name.lower()] for word in ("train", "test")
    ]
    if not all(len(found) == 1 for found in tables) or tables[0] == tables[1]:
        raise DataError(f"{folder} is not a folder with data, or with one set only ({there}); {EXPECTED}.")
    return Source("csv", (tables[0][0], tables[1][0]))


def _idx_file(files: list[Path], stem: str) -> Path | None:
    """Return the IDX file of this name, the unpacked one where both are there."""
    kind = "idx3" if stem.endswith("images") else "idx1"
    names = [f"{stem}{mark}{kind}-ubyte{end}" for end in ("", ".gz") for mark in "-."]
    by_name = {path.name.lower(): path for path in files}
    return next((by_name[name] for name in names if name in by_name), None)


def _is_csv(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith((".csv", ".csv.gz"))


def listed(names: list[str], most: int = 8) -> str:
    """Return the first names in one line, and how many more there are."""
    return (
        ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"
    )
