"""Load files of pieces, and the pieces of installed packages."""

from __future__ import annotations

import ast
import hashlib
import re
import shlex
import sys
import traceback
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from fnnexp.data.sources import place
from fnnexp.errors import ConfigError, FnnexpError, did_you_mean_path
from fnnexp.pieces.outside import is_installed
from fnnexp.pieces.registry import ANNOUNCED, LOADING, MODULES, Source, withdraw, world_as_it_was

ENTRY_POINTS = "fnnexp.pieces"
"""The group of the entry points by which installed packages announce pieces."""

CHECKSUM = "#sha256="
"""Stands between the name of a file and the start of the checksum that it must have."""

FEWEST_DIGITS = 8


def load(written: str | Path) -> str:
    """Run a file of the user's pieces, unless it has been run, and return its path with its checksum.

    Parameters
    ----------
    written
        The path of a Python file, which may end in ``#sha256=`` and the first digits of its checksum.

    Returns
    -------
    str
        The path, ``#sha256=``, and the first 16 digits of the checksum of the file.

    Raises
    ------
    ConfigError
        If the file is missing, has another checksum, fails, or announces nothing.
    """
    if LOADING.get() is not None:
        raise ConfigError(
            f"--pieces {written}: a file of pieces cannot load another; write --pieces for each file"
        )
    text, separator, wanted = str(written).partition(CHECKSUM)
    path = place(text)
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        hint = "" if path.exists() else did_you_mean_path(path)
        raise ConfigError(
            f"--pieces {text}: {problem} (searched at {path.absolute()})"
            + (f".{hint}" if hint else "; write --pieces FILE with the name of a Python file")
        )
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if separator and (len(wanted) < FEWEST_DIGITS or not re.fullmatch("[0-9a-f]+", wanted)):
        raise ConfigError(
            f"--pieces {written}: {CHECKSUM} must be followed by at least {FEWEST_DIGITS} digits (0-9, a-f), "
            f"the first of the file's checksum; write --pieces {text}"
        )
    if not sha256.startswith(wanted):
        raise ConfigError(
            f"--pieces {written}: the file has changed, and its checksum is now {sha256[:16]}; restore the "
            f"file, or write --pieces {text} to train with the file as it is"
        )
    source = Source(str(path.resolve()), sha256)
    if all(piece.source != source for piece in ANNOUNCED.values()):
        _run(source, content, text)
    LOADED[source.name] = f"{text}{CHECKSUM}{sha256[:16]}"
    return LOADED[source.name]


LOADED: dict[str, str] = {}
"""How :func:`load` named each file, with its checksum, by the file's whole path."""


def options() -> str:
    """Return the ``--pieces`` options that load the user's pieces, for a printed command that needs them.

    The text is empty if no file has announced a piece.
    """
    sources = {piece.source.name for piece in ANNOUNCED.values()}
    return "".join(f" --pieces {shlex.quote(LOADED[name])}" for name in LOADED if name in sources)


def refuse_within_a_file() -> None:
    """Raise if a sweep is started by a file of pieces while that file is loaded."""
    if LOADING.get() is not None:
        raise ConfigError(
            "a file of pieces cannot run a sweep while it is loaded; move the sweep to another file, or "
            'write it below if __name__ == "__main__":'
        )


def _run(source: Source, content: bytes, text: str) -> None:
    """Run a file of pieces, which announces them; if it fails, remove those it has announced, and raise.

    ``content`` is the file's code, and ``text`` the path as the user wrote it.
    """
    withdraw(source.name)
    module = ModuleType(f"fnnexp_pieces_{source.sha256[:16]}")
    module.__file__ = source.name
    sys.modules[module.__name__] = module  # dataclasses look for a class's module there
    MODULES.append(module)
    token = LOADING.set(source)
    try:
        with world_as_it_was():
            exec(compile(content, source.name, "exec"), module.__dict__)
        _refuse_files_beside(source.name, content, text)
    except BaseException as error:
        withdraw(source.name)
        del sys.modules[module.__name__]
        if isinstance(error, FnnexpError) or not isinstance(error, Exception | SystemExit):
            raise
        raise ConfigError(f"--pieces {text}: {_reason(error, source.name)}") from error
    finally:
        LOADING.reset(token)
    if all(piece.source != source for piece in ANNOUNCED.values()):
        raise ConfigError(
            f"--pieces {text}: announces no piece; write @fnnexp.pieces.initializer above a function, or "
            "another kind of piece"
        )


def _refuse_files_beside(file: str, content: bytes, text: str) -> None:
    """Raise if a file of pieces imports another file from its folder.

    The checksum would not change with that file.
    """
    for statement in ast.walk(ast.parse(content)):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            names = [statement.module or ""]
        else:
            continue
        for name in names:
            imported = getattr(sys.modules.get(name.partition(".")[0]), "__file__", None) or ""
            if Path(file).parent in Path(imported).resolve().parents[:2] and not is_installed(imported):
                raise ConfigError(
                    f"--pieces {text}: line {statement.lineno}: imports {name} from a file in the same "
                    f"folder, and fnnexp would not notice when that file changes; copy what is used into "
                    f"{text}, or install {name} as a package"
                )


def _reason(error: BaseException, file: str) -> str:
    """Return why a file of pieces failed, as a text: the exception, and the line of the file."""
    if isinstance(error, SyntaxError):
        return error.msg if error.lineno is None else f"line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}; a file of pieces must run by itself"


@cache
def load_installed() -> tuple[str, ...]:
    """Import the pieces of installed packages, which name them as entry points.

    Return a note for the user on each package whose import fails.
    """
    notes = []
    for entry in entry_points(group=ENTRY_POINTS):
        package = entry.dist.name if entry.dist is not None else entry.module
        try:
            entry.load()
        except Exception as error:
            notes.append(
                f"the pieces of the installed package {package} are not available: "
                f"{type(error).__name__}: {error}"
            )
    return tuple(notes)
