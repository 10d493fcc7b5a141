"""The data sets: named, found, checked once, and kept as memory-mapped bytes that all workers share."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import numpy as np
import platformdirs

from fnnexp import console as notebook
from fnnexp.data import readers as formats
from fnnexp.data.readers import ARRAYS, Bytes
from fnnexp.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

MNIST_ARRAY_SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
MNIST_FILE_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
MNIST_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "https://s3.amazonaws.com/img-datasets/mnist.npz",
)
DIGITS_TRAIN = 1437
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Prepared:
    """A data set on disk, ready to be mapped: small, picklable, what the parent hands to workers.

    `checksum` is its scientific identity: SHA-256 over the names, shapes and bytes of the four arrays, the
    same whatever format they came in.
    """

    name: str
    directory: str
    checksum: str
    n_train: int
    n_test: int
    input_size: int
    classes: int


@dataclass(frozen=True)
class Arrays:
    """The four arrays, read-only: images (n, D) and labels (n,), uint8."""

    x_train: Bytes
    y_train: Bytes
    x_test: Bytes
    y_test: Bytes


def prepare(name: str, path: str | None = None, test_path: str | None = None) -> Prepared:
    """Find a data set, decode and check it if that has not been done yet, and say where it lies.

    Parameters
    ----------
    name
        `mnist` (from `path`, `$FNNEXP_MNIST`, the cache or a download), `digits` (comes with scikit-learn) or
        `files` (from `path`).
    path
        An `.npz`, a folder with IDX or CSV files, or a training CSV.
    test_path
        The test CSV that belongs to a training CSV.

    Raises
    ------
    DataError
        The name is unknown, the data is missing or broken, or `mnist` is not MNIST.

    Examples
    --------
    >>> digits = prepare("digits")
    >>> digits.n_train, digits.n_test, digits.input_size, digits.classes
    (1437, 360, 784, 10)
    """
    if name not in DATASETS:
        raise DataError(
            f"data={name} is unknown; it can be {', '.join(DATASETS)}.{did_you_mean(name, DATASETS)}"
        )
    if test_path and not path:
        raise DataError(
            f"data.test_path={test_path} without data.path; write the training CSV as data.path=…."
        )
    train, test = (Path(given).expanduser() if given else None for given in (path, test_path))
    try:
        return DATASETS[name](train, test)
    except OSError as error:
        raise DataError(
            f"data={name} cannot be read or kept ({error}); give a file that can be read, and room in "
            f"{cache_folder()} or in another folder that FNNEXP_CACHE names."
        ) from error


def is_at_hand(name: str, path: str | None = None) -> bool:
    """Whether :func:`prepare` would look for a data set on this machine alone, and download nothing."""
    return name != "mnist" or bool(path or os.environ.get("FNNEXP_MNIST")) or _cached_mnist() is not None


def load(prepared: Prepared) -> Arrays:
    """Map the arrays of a prepared data set into memory, read-only; nothing is copied.

    Returns
    -------
    Arrays
        `x_train` (n, D), `y_train` (n,), `x_test` (m, D), `y_test` (m,), all uint8.

    Raises
    ------
    DataError
        The files are gone, damaged, or not those that were prepared.
    """
    folder = Path(prepared.directory)
    shapes = {
        "x_train": (prepared.n_train, prepared.input_size),
        "y_train": (prepared.n_train,),
        "x_test": (prepared.n_test, prepared.input_size),
        "y_test": (prepared.n_test,),
    }
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        arrays = {key: np.load(folder / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in ARRAYS}
        wrong = [key for key in ARRAYS if arrays[key].shape != shapes[key] or arrays[key].dtype != np.uint8]
        if wrong or meta["checksum"] != prepared.checksum:
            raise ValueError(f"{' '.join(wrong) or 'checksum'} not as prepared")
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise DataError(
            f"the prepared data in {folder} is missing or damaged ({error}); delete it and run again."
        ) from error
    return Arrays(**arrays)


# --- the data sets ------------------------------------------------------------------------------------------


def _prepare_mnist(path: Path | None, test_path: Path | None) -> Prepared:
    from_variable = os.environ.get("FNNEXP_MNIST")
    if path:
        origin = f"data.path={path}"
    elif from_variable:
        path, origin = Path(from_variable).expanduser(), f"FNNEXP_MNIST={from_variable}"
    else:
        path = _cached_or_downloaded_mnist()
        origin = f"the cached {path} (delete it to have it downloaded again)"
    try:
        source = formats.find(path, test_path)
        directory, meta = _stored(source.digest(), lambda: formats.read(source))
    except DataError as error:
        raise DataError(f"{origin}: {error}") from error
    differing = [key for key in ARRAYS if meta["sha256"][key] != MNIST_ARRAY_SHA256[key]]
    if differing:
        raise DataError(
            f"{origin} is not MNIST: the SHA-256 of {' '.join(differing)} differs from that of MNIST in its "
            f"original order. To train on other data write data=files data.path={path}."
        )
    return _prepared("mnist", directory, meta)


def _prepare_digits(path: Path | None, test_path: Path | None) -> Prepared:
    if path or test_path:
        raise DataError(f"data=digits takes no path, and data.path={path} was given; write data=files.")
    digest = hashlib.sha256(f"{formats.READER_VERSION} digits".encode()).hexdigest()
    return _prepared("digits", *_stored(digest, _read_digits))


def _prepare_files(path: Path | None, test_path: Path | None) -> Prepared:
    if not path:
        raise DataError(f"data=files needs data.path=…; {formats.EXPECTED}.")
    source = formats.find(path, test_path)
    return _prepared("files", *_stored(source.digest(), lambda: formats.read(source)))


def _read_digits() -> dict[str, Bytes]:
    """Return scikit-learn's digits, 8×8 with values 0..16, as 28×28 bytes: enlarged 3× and padded by 2."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    enlarged = digits.images.repeat(3, axis=1).repeat(3, axis=2)
    x = np.round(np.pad(enlarged, ((0, 0), (2, 2), (2, 2))) * 255 / 16).astype(np.uint8).reshape(-1, 28 * 28)
    y = digits.target.astype(np.uint8)
    train, test = slice(None, DIGITS_TRAIN), slice(DIGITS_TRAIN, None)
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}


DATASETS: dict[str, Callable[[Path | None, Path | None], Prepared]] = {
    "mnist": _prepare_mnist,
    "digits": _prepare_digits,
    "files": _prepare_files,
}


# --- the cache ----------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Return the cache folder that is wished for, which may not exist."""
    given = os.environ.get("FNNEXP_CACHE")
    return Path(given).expanduser().absolute() if given else platformdirs.user_cache_path("fnnexp")


def _writable_cache() -> Path:
    """Return the cache folder, or one a user in the temporary folder if that cannot be written."""
    try:
        return _tried(cache_folder())
    except OSError as error:
        user = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
        fallback = Path(tempfile.gettempdir()) / f"fnnexp-{user}"
        _tell_once(
            f"the cache {cache_folder()} cannot be written ({error.strerror or error}); {fallback} is used. "
            "FNNEXP_CACHE names another."
        )
    fallback.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and fallback.stat().st_uid != os.getuid():
        raise PermissionError(f"{fallback} belongs to someone else")
    return _tried(fallback)


def _tell(message: str) -> None:
    """Say in one line what is done otherwise than was wished; Python's warnings show a line of source too."""
    print(f"fnnexp: {' '.join(message.split())}", file=sys.stderr)


_tell_once = cache(_tell)
"""The same; what is asked for again and again is said the first time."""


def _tried(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def _stored(digest: str, read: Callable[[], dict[str, Bytes]]) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the description of what `read` reads; it is read and written only once."""
    name = Path("prepared") / digest[:24]
    if meta := _found(cache_folder() / name):
        return cache_folder() / name, meta
    folder = _writable_cache() / name
    if meta := _found(folder):
        return folder, meta
    _write(folder, read())
    if meta := _found(folder):
        return folder, meta
    raise DataError(f"{folder} vanished while it was written; run again.")


def _found(folder: Path) -> dict[str, Any] | None:
    """Return the description of a prepared folder, or None; a damaged one is removed, to be made again."""
    if not folder.is_dir():
        return None
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text("utf-8"))
        load(_prepared("", folder, meta))
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        reason = error.__cause__ or error
        _tell(f"the prepared data in {folder} is damaged and is made again ({reason})")
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return meta


def _write(folder: Path, arrays: dict[str, Bytes]) -> None:
    """Write a prepared folder under another name and rename it; who comes second keeps what is there."""
    staging = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        staging.mkdir(parents=True)
        for key in ARRAYS:
            np.save(staging / f"{key}.npy", arrays[key], allow_pickle=False)
        (staging / "meta.json").write_text(json.dumps(_described(arrays), indent=2) + "\n", "utf-8")
        try:
            staging.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _described(arrays: dict[str, Bytes]) -> dict[str, Any]:
    whole = hashlib.sha256()
    for key in ARRAYS:
        whole.update(f"{key} {arrays[key].shape}\n".encode())
        whole.update(arrays[key].data)
    return {
        "checksum": whole.hexdigest(),
        "sha256": {key: hashlib.sha256(arrays[key].data).hexdigest() for key in ARRAYS},
        "n_train": len(arrays["x_train"]),
        "n_test": len(arrays["x_test"]),
        "input_size": arrays["x_train"].shape[1],
        "classes": max(2, int(arrays["y_train"].max()) + 1),
    }


def _prepared(name: str, directory: Path, meta: dict[str, Any]) -> Prepared:
    return Prepared(name, str(directory), **{field.name: meta[field.name] for field in fields(Prepared)[2:]})


# --- the download -------------------------------------------------------------------------------------------


def _cached_mnist() -> Path | None:
    wished = cache_folder() / "mnist.npz"
    if wished.is_file():
        return wished
    file = _writable_cache() / "mnist.npz"
    return file if file.is_file() else None


def _cached_or_downloaded_mnist() -> Path:
    if cached := _cached_mnist():
        return cached
    wished, file = cache_folder() / "mnist.npz", _writable_cache() / "mnist.npz"
    failures: list[str] = []
    for mirror in MNIST_MIRRORS:
        try:
            _download(mirror, file)
        except (OSError, ValueError) as error:
            failures.append(f"{mirror}: {error}")
        else:
            for failure in failures:
                _tell(f"MNIST came from {mirror} and not from {failure}")
            return file
    tried = "\n".join(f"  {failure}" for failure in failures)
    raise DataError(
        "MNIST is not on this machine and could not be downloaded. Any one of these helps:\n"
        "  data.path=…/mnist.npz     the file, or a folder with its IDX or CSV files, on the command line\n"
        "  FNNEXP_MNIST=…/mnist.npz  the same in the environment\n"
        f"  {wished}  connect once, or put the file there\n"
        "Without MNIST, data=digits is real data that comes with the installation.\n"
        f"Tried:\n{tried}"
    )


def _download(mirror: str, file: Path) -> None:
    """Fetch a mirror's file; it appears under its name only when whole and of the right SHA-256.

    Raises
    ------
    OSError, ValueError
        The connection failed; the address or the checksum is wrong.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    _trust(mirror)
    if show := notebook.line():
        _fetch(mirror, file, _Line(show))
        return
    columns = TextColumn("MNIST"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        _fetch(mirror, file, _Bar(progress))


def _fetch(mirror: str, file: Path, bar: _Bar | _Line) -> None:
    import pooch

    downloader = pooch.HTTPDownloader(
        progressbar=bar, chunk_size=1 << 16, timeout=(10, 30), hooks={"response": _trust_redirect}
    )
    pooch.retrieve(mirror, MNIST_FILE_SHA256, file.name, file.parent, downloader=downloader)


def _trust(address: str, came_from: str = "") -> None:
    """Refuse an address that is not https; this machine itself is trusted without, but not by a redirect."""
    parts = urlsplit(address)
    plain = parts.scheme == "http" and parts.hostname in LOOPBACK and not came_from.startswith("https:")
    if parts.scheme != "https" and not plain:
        raise ValueError(f"only https is trusted with a download, not {parts.scheme}://{parts.netloc}")


def _trust_redirect(response: Any, **_: Any) -> None:
    """Look at where an answer sends to, before anyone goes there."""
    if "location" in response.headers:
        _trust(urljoin(response.url, response.headers["location"]), response.url)


class _Bar:
    """What pooch asks of a progress bar (`total`, `update`, `reset`, `close`), drawn by rich."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task("MNIST", total=None)

    @property
    def total(self) -> int:
        return int(self._progress.tasks[0].total or 0)

    @total.setter
    def total(self, total: int) -> None:
        self._progress.update(self._task, total=total or None)

    def update(self, size: int) -> None:
        self._progress.advance(self._task, size)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        self._progress.refresh()


class _Line:
    """The same, as a line in a notebook."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self.total = self._done = 0

    def update(self, size: int) -> None:
        self._done += size
        part = self._done / max(self.total, self._done, 1)
        self._show(f"{notebook.bar(part)} MNIST {self._done / 1e6:.1f} of {self.total / 1e6:.1f} MB")

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Leave the line as it is."""
