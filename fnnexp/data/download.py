"""Download MNIST once into the cache, and accept only a file with the right SHA-256."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fnnexp import console
from fnnexp.data import cache
from fnnexp.errors import DataError

MNIST_FILE_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
MNIST_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "https://s3.amazonaws.com/img-datasets/mnist.npz",
)


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
        raise DataError("data=mnist is not on this machine, and nothing is downloaded here.")
    failures: list[str] = []
    for mirror in MNIST_MIRRORS:
        try:
            fetch(mirror, file)
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


def fetch(mirror: str, file: Path) -> None:
    """Download a mirror's file; write it under its name only if it is complete and has the right SHA-256.

    Raises
    ------
    OSError, ValueError
        If the connection fails, or the address or the checksum is wrong.
    """
    import pooch

    show = console.line() or (_in_terminal if sys.stderr.isatty() else None)
    downloader = pooch.HTTPDownloader(
        progressbar=Progress(show) if show else False, chunk_size=1 << 16, timeout=(10, 30)
    )
    try:
        pooch.retrieve(mirror, MNIST_FILE_SHA256, file.name, file.parent, downloader=downloader)
    finally:
        if show is _in_terminal:
            print(file=sys.stderr)


class Progress:
    """A progress bar for pooch (`total`, `update`, `reset`, `close`), shown as a line that changes."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self.total = self._done = 0

    def update(self, size: int) -> None:
        """Add the bytes of a chunk, and show the total so far."""
        self._done += size
        fraction = self._done / max(self.total, self._done, 1)
        self._show(f"{console.bar(fraction)} MNIST {self._done / 1e6:.1f} of {self.total / 1e6:.1f} MB")

    def reset(self) -> None:
        """Set the count to 0: pooch does so at the end, and then calls `update` with the file's size."""
        self._done = 0

    def close(self) -> None:
        """Do nothing: the last line stays visible."""


def _in_terminal(text: str) -> None:
    print(f"\r{text}", end="", file=sys.stderr, flush=True)
