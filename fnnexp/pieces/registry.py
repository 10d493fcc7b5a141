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
"""The table for each kind of piece. An initializer that draws the weights is also a ``distribution``."""

GROUPS = {
    "initializer": "init",
    "optimizer": "optimizer",
    "loss": "loss",
    "schedule": "schedule",
    "dataset": "data",
}
"""For each kind of piece that commands choose by an option: the config group of these options."""

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
        """The name without the folder, and the start of the checksum, as in ``mine.py@1a2b3c4d5e6f``."""
        return f"{Path(self.name).name}@{self.sha256[:DIGITS]}"


@dataclass(frozen=True)
class Piece:
    """A piece: a function of the user's that fnnexp uses as an initializer, a loss, a data set and so on.

    Attributes
    ----------
    kind, name, source
        The kind, such as "initializer"; the name in configs; and the file or notebook cell.
    value
        What the table of this kind has under the name; for a data set or a section, the user's function.
    also
        What other tables have under the name, by their kind: an initializer that draws is a distribution too.
    option
        For a kind in :data:`GROUPS`: the config of the option that chooses the piece.
    """

    kind: str
    name: str
    source: Source
    value: Any
    also: Mapping[str, Any] = field(default_factory=dict)
    option: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exact(self) -> str:
        """The name with the first digits of the checksum of the piece's file, as in ``mine@1a2b3c4d5e6f``."""
        return f"{self.name}@{self.source.sha256[:DIGITS]}"

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


ANNOUNCED: dict[tuple[str, str], Piece] = {}
"""The announced pieces by kind and name."""

LOADING: ContextVar[Source | None] = ContextVar("LOADING", default=None)
"""The file that is being loaded; None outside of :func:`fnnexp.pieces.files.load`."""


def files_of(names: Mapping[str, Iterable[str]]) -> str | None:
    """Return a text with the files of the user's pieces in a trial and their checksums; None without pieces.

    The user's metrics count as pieces of every trial, because every trial records them.

    Parameters
    ----------
    names
        For each kind of piece, the names that the trial's config has; names of fnnexp's pieces are ignored.
    """
    used = [ANNOUNCED.get((kind, name)) for kind, each in names.items() for name in each]
    pieces = [*filter(None, used), *announced("metric")]
    return ", ".join(sorted({piece.source.label for piece in pieces})) or None


def announced(kind: str) -> Iterator[Piece]:
    """Yield the announced pieces of a kind, in the order in which they were announced."""
    return (piece for piece in ANNOUNCED.values() if piece.kind == kind)


def announce(piece: Piece) -> None:
    """Enter a piece in fnnexp's tables. If its file or cell was edited, it replaces the earlier version.

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
    """Run a user's code in the ``with`` block, and then undo what it may have changed in this process.

    That is the working directory, ``sys.argv``, ``sys.path``, the environment, the states of the global
    random generators, the filters of warnings, and NumPy's handling of floating-point errors.
    """
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
    """Return the file or notebook cell that defines the functions of a piece, with its checksum.

    If the piece is not announced by a file of pieces, the checksum includes what the functions use from other
    cells or modules.

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
    """The user's pieces in the form in which workers get them.

    ``content`` is the pickled pieces. A worker that has loaded pieces with this ``digest`` does not load them
    again.
    """

    digest: str
    content: bytes


def shipped() -> Shipped | None:
    """Return the user's pieces in the form in which they are sent to workers; None if there are none."""
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
    """Pickle objects together with the code of the user's functions in them.

    So a worker needs neither the user's file nor its folder.
    """
    with _hidden_modules():
        content: bytes = cloudpickle.dumps(entries)
    return content


def unpickled(content: bytes) -> Any:
    """Load objects that :func:`pickled` has pickled, as a worker does: without the user's modules."""
    with _hidden_modules():
        return cloudpickle.loads(content)


MODULES: list[ModuleType] = []
"""The modules of pieces, which workers lack. Their functions are pickled as code, not by name."""


def remember_module(function: Callable[..., Any]) -> None:
    """Note the user's module that defines a function: its functions are sent to workers as code.

    Workers cannot import such a module. They can import installed modules, which are not noted.
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

    Pickle stores a function of a module in ``sys.modules`` only by its name. It may even store a function of
    SciPy by the name of a user's module that imports it. Workers lack the user's modules.
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
    """Enter pieces that were sent to this worker in its tables, by their exact names (``name@checksum``)."""
    if content is None or content.digest in _RECEIVED:
        return
    for kind, exact, value in cloudpickle.loads(content.content):
        TABLES[kind].keep(exact, value)
    _RECEIVED.add(content.digest)
