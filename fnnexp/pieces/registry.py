"""The pieces that were announced in this process: where each is from, and how it enters fnnexp's tables."""

from __future__ import annotations

import hashlib
import linecache
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

import cloudpickle
import numpy as np

from fnnexp.data.datasets import DATASETS
from fnnexp.errors import ConfigError
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.initializers import DISTRIBUTIONS, INITIALIZERS
from fnnexp.nn.pieces.losses import LOSSES
from fnnexp.nn.pieces.metrics import LOSS_AND_ACCURACY, METRICS
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.schedules import SCHEDULES
from fnnexp.nn.pieces.table import Table
from fnnexp.pieces.outside import is_installed, used_by

TABLES: Mapping[str, Table[Any]] = {
    "initializer": INITIALIZERS,
    "distribution": DISTRIBUTIONS,
    "activation": ACTIVATIONS,
    "optimizer": OPTIMIZERS,
    "loss": LOSSES,
    "schedule": SCHEDULES,
    "metric": METRICS,
}
"""The tables that the pieces of each kind enter. A ``distribution`` belongs to an initializer that draws."""

GROUPS = {
    "initializer": "init",
    "optimizer": "optimizer",
    "loss": "loss",
    "schedule": "schedule",
    "dataset": "data",
}
"""The config group in which a piece of a kind becomes an option."""

DIGITS = 12
"""Hexadecimal digits of a checksum in an exact name."""


@dataclass(frozen=True)
class Source:
    """The file or notebook cell in which a user announced a piece, and the SHA-256 of its content."""

    name: str
    sha256: str
    is_file: bool = True

    @property
    def label(self) -> str:
        """The name without the folder, and the start of the checksum."""
        return f"{Path(self.name).name}@{self.sha256[:DIGITS]}"


@dataclass(frozen=True)
class Piece:
    """A piece: a function of the user's that fnnexp uses as an initializer, a loss, a data set and so on.

    Attributes
    ----------
    kind, name, source
        What it is, its name in configs, and where it is from.
    value
        Its entry in the table of its kind; for a data set or a section, the user's function.
    also
        Its entries in other tables, by their kind.
    option
        The values of the option that chooses it, for a kind in :data:`GROUPS`.
    """

    kind: str
    name: str
    source: Source
    value: Any
    also: Mapping[str, Any] = field(default_factory=dict)
    option: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exact(self) -> str:
        """Its name with the first digits of the checksum of its file, as in ``mine@1a2b3c4d5e6f``."""
        return f"{self.name}@{self.source.sha256[:DIGITS]}"

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


ANNOUNCED: dict[tuple[str, str], Piece] = {}
"""The announced pieces by kind and name."""

LOADING: ContextVar[Source | None] = ContextVar("LOADING", default=None)
"""The file that is being loaded; None outside of :func:`fnnexp.pieces.files.load`."""


def files_of(names: Mapping[str, Iterable[str]]) -> str | None:
    """Return the files of some pieces and of all metrics, with their checksums; None if there are none.

    Parameters
    ----------
    names
        The names of pieces by their kind; names of fnnexp's pieces are ignored.
    """
    used = [ANNOUNCED.get((kind, name)) for kind, each in names.items() for name in each]
    pieces = [*filter(None, used), *announced("metric")]
    return ", ".join(sorted({piece.source.label for piece in pieces})) or None


def announced(kind: str) -> Iterator[Piece]:
    """Yield the announced pieces of a kind, in the order in which they were announced."""
    return (piece for piece in ANNOUNCED.values() if piece.kind == kind)


def announce(piece: Piece) -> None:
    """Enter a piece in the tables. It replaces an earlier version of itself.

    Raises
    ------
    ConfigError
        If fnnexp, or another file, has a piece of this kind and name.
    """
    known = ANNOUNCED.get((piece.kind, piece.name))
    if known is not None and LOADING.get() == known.source:
        raise ConfigError(f"{piece}: the file announces it twice; give one of them another name")
    shipped = DATASETS if piece.kind == "dataset" else TABLES.get(piece.kind, {})
    taken = piece.name in shipped or (piece.kind == "metric" and piece.name in LOSS_AND_ACCURACY)
    if known is None and taken:
        raise ConfigError(f"{piece}: fnnexp has a piece of this name; give yours another name")
    both = known is not None and known.source.is_file and piece.source.is_file
    if known is not None and both and known.source.name != piece.source.name:
        raise ConfigError(
            f"{piece}: {known.source.name} and {piece.source.name} both announce it; "
            "give one of them another name"
        )
    ANNOUNCED[piece.kind, piece.name] = piece
    if piece.kind in TABLES:
        TABLES[piece.kind].add(piece.exact, piece.value)
    for kind, value in piece.also.items():
        TABLES[kind].keep(piece.exact, value)
    if piece.kind == "dataset":
        DATASETS[piece.name] = piece.value


def withdraw(source_name: str) -> None:
    """Remove the pieces that a file announced, before it is loaded again."""
    for key, piece in list(ANNOUNCED.items()):
        if piece.source.name == source_name:
            del ANNOUNCED[key]
            if piece.kind in TABLES:
                TABLES[piece.kind].remove(piece.name)
            if piece.kind == "dataset":
                del DATASETS[piece.name]


@contextmanager
def world_as_it_was() -> Iterator[None]:
    """Run a user's code in the ``with`` block; then restore the folder, environment, generators and so on."""
    folder, words, paths, environment = Path.cwd(), list(sys.argv), list(sys.path), dict(os.environ)
    generators = random.getstate(), np.random.get_state()  # noqa: NPY002
    with warnings.catch_warnings(), np.errstate():
        try:
            yield
        finally:
            os.chdir(folder)
            sys.argv[:], sys.path[:] = words, paths
            if os.environ != environment:
                os.environ.clear()
                os.environ.update(environment)
            random.setstate(generators[0])
            np.random.set_state(generators[1])  # noqa: NPY002


def source_of(what: str, *functions: Callable[..., Any]) -> Source:
    """Return the file or notebook cell that defines the functions of a piece.

    Outside of a file of pieces, the checksum includes what the functions use from other cells or modules.

    Raises
    ------
    ConfigError
        If the source text of the first function is not available, so that an edited piece could not be told
        from this one.
    """
    loading = LOADING.get()
    if loading is not None:
        return loading
    function = functions[0]
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    if file is None:
        raise ConfigError(
            f"{what}: {function!r} is not a function written in Python; write one that calls it, as in "
            "lambda Z: np.cos(Z)"
        )
    path = Path(file)
    text = "".join(linecache.getlines(file, getattr(function, "__globals__", None)))
    if not text and not path.is_file():
        raise ConfigError(f"{what}: its source text is not available; write the piece in a file")
    content = path.read_bytes() if path.is_file() else text.encode()
    sha256 = hashlib.sha256(content + used_by(functions).encode()).hexdigest()
    return Source(str(path), sha256) if path.is_file() else Source("cell", sha256, is_file=False)


# --- workers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shipped:
    """The user's pieces, as bytes that workers can load; `digest` identifies them."""

    digest: str
    content: bytes


def shipped() -> Shipped | None:
    """Return the pieces that workers need; None if there are none."""
    entries = [
        (kind, piece.exact, value)
        for piece in ANNOUNCED.values()
        for kind, value in ({piece.kind: piece.value} | dict(piece.also)).items()
        if kind in TABLES
    ]
    if not entries:
        return None
    digest = hashlib.sha256(" ".join(f"{kind} {exact}" for kind, exact, _ in entries).encode()).hexdigest()
    _RECEIVED.add(digest)
    return Shipped(digest, pickled(entries))


def pickled(entries: Any) -> bytes:
    """Return objects as bytes that contain the code of the user's functions.

    So a worker needs neither the user's file nor its folder.
    """
    with _hidden_modules():
        content: bytes = cloudpickle.dumps(entries)
    return content


def unpickled(content: bytes) -> Any:
    """Return the objects in bytes of :func:`pickled`, loaded as in a worker, without the user's modules."""
    with _hidden_modules():
        return cloudpickle.loads(content)


MODULES: list[ModuleType] = []
"""The modules of pieces, which workers lack. Their functions are pickled as code, not by name."""


def remember_module(function: Callable[..., Any]) -> None:
    """Note a user's module, which workers lack, so that they get the code of its functions.

    Installed modules are not noted, as workers can import them.
    """
    while isinstance(function, partial):
        function = function.func
    module = sys.modules.get(getattr(function, "__module__", None) or "__main__")
    file = getattr(module, "__file__", None)
    if module is None or file is None or is_installed(file) or module.__name__ == "__main__":
        return
    if module not in MODULES:
        MODULES.append(module)


@contextmanager
def _hidden_modules() -> Iterator[None]:
    """Take the user's modules out of ``sys.modules`` for the ``with`` block.

    So nothing in them is pickled by the name of its module. Otherwise pickle may even refer to a function of
    SciPy by a user's module that imports it.
    """
    with _HIDING:
        own = set(map(id, MODULES))
        hidden = {name: module for name, module in sys.modules.items() if id(module) in own}
        for name in hidden:
            del sys.modules[name]
        try:
            yield
        finally:
            sys.modules.update(hidden)


_HIDING = RLock()

_RECEIVED: set[str] = set()


def receive(content: Shipped | None) -> None:
    """Enter the user's pieces in the tables of this worker, under their exact names (``name@checksum``)."""
    if content is None or content.digest in _RECEIVED:
        return
    for kind, exact, value in cloudpickle.loads(content.content):
        TABLES[kind].keep(exact, value)
    _RECEIVED.add(content.digest)
