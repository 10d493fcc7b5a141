"""The values from outside of a function that it uses, such as global variables, as text for a checksum.

A file of pieces determines everything that its pieces compute. A notebook cell or a script does not: there a
function may use values that other cells or arguments have set. Such values are part of the piece's checksum.
"""

from __future__ import annotations

import contextlib
import dis
import hashlib
import inspect
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle
import numpy as np

PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)

INSTALLED = (*sysconfig.get_paths().values(), str(Path(__file__).parents[1]))
"""The folders of Python, of installed packages, and of fnnexp. A function there counts by its name."""


def is_installed(file: str) -> bool:
    """Return whether a file of code belongs to Python, to an installed package, or to fnnexp."""
    return file.startswith(INSTALLED)


def used_by(functions: Iterable[Callable[..., Any]]) -> str:
    """Return a text that describes functions and the values they use from outside, such as globals.

    If such a value changes, the text changes, and so does the checksum of the piece.

    >>> scale = 2
    >>> before = used_by([lambda Z: scale * Z])
    >>> scale = 3
    >>> before == used_by([lambda Z: scale * Z])
    False
    """
    seen: set[int] = set()
    return "\n".join(line for function in functions for line in _lines(function, seen))


def _lines(value: Any, seen: set[int]) -> Iterator[str]:
    """Yield lines that describe a value: for a function, its name, its source, and the values it uses.

    ``seen`` has the ids of the objects described so far, which are not described again.
    """
    if isinstance(value, PLAIN):
        yield repr(value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, ModuleType):
        yield value.__name__
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    elif isinstance(value, list | tuple):
        yield f"{type(value).__name__} of {len(value)}"
        for each in value:
            yield from _lines(each, seen)
    elif isinstance(value, dict):
        yield from _lines([*value.items()], seen)
    elif isinstance(value, partial):
        yield from _lines((value.func, value.args, value.keywords), seen)
    # A function that Numba compiled has the original function as `py_func`.
    elif isinstance(function := getattr(value, "py_func", value), FunctionType):
        yield from _of_function(function, seen)
    elif isinstance(value, type) and value.__module__ != "__main__":
        yield f"{value.__module__}.{value.__qualname__}"
    elif callable(value) and hasattr(value, "__name__") and not isinstance(value, type):  # such as `len`
        yield value.__name__
    else:  # an object with another pickle is another piece, and trials that use it run again
        with contextlib.suppress(Exception):  # a check reports an object that can't be pickled for workers
            yield hashlib.sha256(cloudpickle.dumps(value)).hexdigest()


def _of_function(function: FunctionType, seen: set[int]) -> Iterator[str]:
    code = function.__code__
    if is_installed(code.co_filename):
        yield f"{function.__module__}.{function.__qualname__}"
        return
    yield f"{function.__qualname__} in line {code.co_firstlineno}"
    try:
        yield inspect.getsource(function)
    except (OSError, TypeError):
        yield code.co_code.hex()
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    used = {name: cell.cell_contents for name, cell in cells if cell != CellType()}
    for name in _globals_of(code):
        if name in function.__globals__:
            used[name] = function.__globals__[name]
    for name in sorted(used):
        yield f"{name} is"
        yield from _lines(used[name], seen)
    yield from _lines((function.__defaults__, function.__kwdefaults__), seen)


def _globals_of(code: CodeType) -> set[str]:
    """Return the names of the global variables that a function's code reads, also in functions within it."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return names.union(*map(_globals_of, inner))
