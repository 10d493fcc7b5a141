"""Download MNIST and the like once into the cache, and accept only files with the right SHA-256."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fnnexp import console
from fnnexp.data import cache
from fnnexp.errors import DataError

MNIST_FILE_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
MNIST_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "https://s3.amazonaws.com/img-datasets/mnist.npz",
)


@dataclass(frozen=True)
class Published:
    """A data set that is published as four IDX files: its title, the SHA-256 of each file, and its mirrors.

    The files are in the order training images, training labels, test images, test labels. A mirror is the
    start of an address, to which the name of a file is added. `class_names` are its classes, as published.
    """

    title: str
    files: Mapping[str, str]
    mirrors: tuple[str, ...]
    class_names: tuple[str, ...] = ()


IDX_SETS = {
    # Zalando SE, MIT licence. The checksums are those of Keras and TensorFlow Datasets.
    "fashion_mnist": Published(
        "Fashion-MNIST",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    # "KMNIST Dataset" (created by CODH), adapted from "Kuzushiji Dataset" (created by NIJL and others),
    # doi:10.20676/00000341, CC BY-SA 4.0. The checksums are those of TensorFlow Datasets.
    "kmnist": Published(
        "KMNIST",
        {
            "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
        (
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),  # the characters, in Latin letters
    ),
}
"""The data sets that are downloaded as four IDX files."""


def mnist(*, may_download: bool = True) -> Path:
    """Return the path of MNIST in the cache; download it if it is missing.

    Raises
    ------
    DataError
        If it is not in the cache, and may not or cannot be downloaded.
    """
    cached = cache.cache_folder() / "mnist.npz"
    if cached.is_file():
        return cached
    file = cache.writable_folder() / "mnist.npz"
    if file.is_file():
        return file
    if not may_download:
        raise DataError(
            "data=mnist is not on this machine, and nothing is downloaded here; to download it, run fnnexp "
            "data mnist."
        )
    failures: list[str] = []
    for mirror in MNIST_MIRRORS:
        try:
            fetch(mirror, file, MNIST_FILE_SHA256, "MNIST")
        except (OSError, ValueError) as error:
            failures.append(f"{mirror}: {error}")
        else:
            for failure in failures:
                cache.warn(f"MNIST was downloaded from {mirror}, because another mirror failed: {failure}")
            return file
    tried = "\n".join(f"  {failure}" for failure in failures)
    raise DataError(
        "MNIST is not on this machine and could not be downloaded. Do one of the following:\n"
        "  data.path=…/mnist.npz     name the file, or a folder with its IDX or CSV files\n"
        "  FNNEXP_MNIST=…/mnist.npz  name it in the environment\n"
        f"  {cached}  connect to the internet once, or put the file there\n"
        "Without MNIST, write data=digits: real data that comes with the installation.\n"
        f"Tried:\n{tried}"
    )


def idx_files(name: str, *, may_download: bool = True) -> Path:
    """Return the folder in the cache with the four files of Fashion-MNIST or KMNIST; download missing ones.

    They are downloaded from the first mirror. If it fails, the next mirror is asked for the remaining files.

    Raises
    ------
    DataError
        If they are not in the cache, and may not or cannot be downloaded.
    """
    published = IDX_SETS[name]
    cached = cache.cache_folder() / name
    if all((cached / file).is_file() for file in published.files):
        return cached
    folder = cache.writable_folder() / name
    missing = [file for file in published.files if not (folder / file).is_file()]
    if missing and not may_download:
        raise DataError(
            f"data={name} is not on this machine, and nothing is downloaded here; to download it, run fnnexp "
            f"data {name}."
        )
    failures: list[str] = []
    for mirror in published.mirrors:
        try:
            while missing:
                fetch(mirror + missing[0], folder / missing[0], published.files[missing[0]], published.title)
                del missing[0]
        except (OSError, ValueError) as error:
            failures.append(f"{mirror + missing[0]}: {error}")
        else:
            for failure in failures:
                cache.warn(
                    f"{published.title} was downloaded from {mirror}, because a mirror failed: {failure}"
                )
            return folder
    with contextlib.suppress(OSError):  # remove the folder if it is empty; it may have some of the files
        folder.rmdir()
    tried = "\n".join(f"  {failure}" for failure in failures)
    raise DataError(
        f"{published.title} is not on this machine and could not be downloaded. Its files are\n"
        + "".join(f"  {published.mirrors[0]}{file}\n" for file in published.files)
        + "Do one of the following:\n"
        "  data.path=…  name a folder with these four files\n"
        f"  {cached}  connect to the internet once, or put the files there\n"
        f"Without {published.title}, write data=digits: real data that comes with the installation.\n"
        f"Tried:\n{tried}"
    )


def fetch(address: str, file: Path, sha256: str, title: str) -> None:
    """Download a file; write it under its name only if it is complete and has the right SHA-256.

    Raises
    ------
    OSError, ValueError
        If the connection fails, or the address or the checksum is wrong.
    """
    import pooch

    show = console.line() or (_in_terminal if sys.stderr.isatty() else None)
    downloader = pooch.HTTPDownloader(
        progressbar=Progress(show, title) if show else False, chunk_size=1 << 16, timeout=(10, 30)
    )
    try:
        pooch.retrieve(address, sha256, file.name, file.parent, downloader=downloader)
    finally:
        if show is _in_terminal:
            print(file=sys.stderr)


class Progress:
    """A progress bar for a download, shown as one line that is overwritten.

    The library pooch, which downloads, sets `total` and calls the methods.
    """

    def __init__(self, show: Callable[[str], None], title: str) -> None:
        self._show, self._title = show, title
        self.total = self._done = 0

    def update(self, size: int) -> None:
        """Add the bytes of a chunk, and show the total so far."""
        self._done += size
        fraction = self._done / max(self.total, self._done, 1)
        self._show(
            f"{console.bar(fraction)} {self._title} {self._done / 1e6:.1f} of {self.total / 1e6:.1f} MB"
        )

    def reset(self) -> None:
        """Set the count to 0.

        At the end, pooch calls this method, and then `update` with the size of the whole file.
        """
        self._done = 0

    def close(self) -> None:
        """Do nothing: the last line stays visible."""


def _in_terminal(text: str) -> None:
    print(f"\r{text}", end="", file=sys.stderr, flush=True)
