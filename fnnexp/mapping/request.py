"""The words of a map's command: two axes, a part of them, and the settings that all cells share."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fnnexp.config.commands import Command
from fnnexp.config.compose import Sweep
from fnnexp.config.grids.swept import BYTES_A_TRIAL
from fnnexp.config.jobs import key_of, number_type
from fnnexp.config.schema import LISTS, OF_SWEEPS
from fnnexp.config.trial import Trial
from fnnexp.data import room
from fnnexp.errors import ConfigError
from fnnexp.mapping.axes import Axis, axis, window

EXAMPLE = ("x=optimizer.lr:1e-3..10:64", "y=init.gain:0.1..10:64", "data=digits", "epochs=1")

OWN = ("x", "y", "zoom", "finer", "cell")
"""The words of ``fnnexp map`` that no other command has."""

MOST_FINER = 1024


@dataclass(frozen=True)
class Request:
    """The map that a command asks for: its two axes, and the settings that all its cells share.

    Attributes
    ----------
    x, y
        The axes, and which part of them to show. Columns of cells have the values of ``x``, rows of ``y``.
    shared
        The command with the overrides that all cells share, without the axes.
    cell
        The indices of the only cell to train, on the whole axes; None to train all that the map shows.
    """

    x: Axis
    y: Axis
    shared: Command
    cell: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and of columns of cells."""
        return len(self.y.indices), len(self.x.indices)

    @property
    def command(self) -> Command:
        """The command of the sweep that has the same trials as the map, cell by cell and row by row."""
        axes = (self._override(each, *each.indices) for each in (self.y, self.x))
        return replace(self.shared, overrides=(*self.shared.overrides, *axes), multirun=True)

    def command_of(self, i: int, j: int) -> Command:
        """Return the command that trains one cell as a trial: column i and row j of the whole axes."""
        values = (self._override(self.x, i), self._override(self.y, j))
        return replace(self.shared, overrides=(*self.shared.overrides, *values))

    @property
    def zoom(self) -> str:
        """The columns and rows that the map shows, as they stand after ``zoom=``: ``32..48,8..24``."""
        return ",".join(f"{each.first}..{each.stop}" for each in (self.x, self.y))

    def given(self, **added: str) -> Command:
        """Return the ``fnnexp map`` command for this map, with words such as ``zoom="0..8,0..8"`` added."""
        is_whole = self.x.is_whole and self.y.is_whole
        added = added if is_whole else {"zoom": self.zoom, **added}
        own = (f"{name}={text}" for name, text in added.items())
        return replace(self.shared, overrides=(f"x={self.x}", f"y={self.y}", *self.shared.overrides, *own))

    def words(self) -> str:
        """Return the line for a shell that makes this map, such as ``fnnexp map x=… y=… data=digits``."""
        return self.given().line("fnnexp map")

    @staticmethod
    def _override(each: Axis, *indices: int) -> str:
        return f"{each.key}={','.join(repr(each.value(i)) for i in indices)}"


def parse(command: Command) -> Request:
    """Return the map that the words of a command ask for.

    Raises
    ------
    ConfigError
        With what was given, what is allowed and what to write.
    """
    given: dict[str, str] = {}
    shared: list[str] = []
    for word in command.overrides:
        key, equals, text = word.partition("=")
        text = text.strip("'")  # quotes from Python
        if key not in OWN or not equals:
            shared.append(word)
        elif given.setdefault(key, text) != text:
            raise ConfigError(f"{key} is given twice, as {given[key]} and {text}; write it once")
    for name in "xy":
        if name not in given:
            example = Command(overrides=EXAMPLE, is_call=command.is_call).pasted("map")
            raise ConfigError(f"a map needs {name}=KEY:LOW..HIGH:N; write {example}")
    x, y = axis("x", given["x"]), axis("y", given["y"])
    if x.key == y.key:
        raise ConfigError(f"x={given['x']} and y={given['y']} have the same key; write two different keys")
    _refuse_values(shared, x, y)
    x, y = _part(given, x, y)
    cell = None if "cell" not in given else _cell(given["cell"], x, y)
    request = Request(x, y, replace(command, overrides=tuple(shared), multirun=False), cell)
    if cell is None:
        _refuse_too_many(request)
    return request


def trials_of(request: Request, sweep: Sweep) -> list[Trial]:
    """Return the trials of the cells, row by row.

    Raises
    ------
    ConfigError
        If the map can't be made of these trials.
    """
    rows, columns = request.shape
    count, trials = rows * columns, list(sweep.trials)
    if len(trials) != count:
        raise ConfigError(
            f"the {count:,} cells have only {len(trials):,} different trials: {request.x.key} or "
            f"{request.y.key} changes no result here; choose another key"
        )
    if sweep.execution.diagnostics:
        raise ConfigError(
            f"diagnostics={str(sweep.execution.diagnostics).lower()}: a map records no diagnostics; omit it"
            + ("" if request.shared.is_call else ", or add cell=0,0 to train one cell with them")
        )
    return trials


def experiment_of(sweep: Sweep, trials: Sequence[Trial], suffix: str = "map") -> str:
    """Return the name of a map's MLflow experiment: the user's choice, or its sweep's name and ``_map``."""
    chosen = trials[0].config["tracking"]["experiment"]
    return sweep.experiment if chosen is not None else f"{sweep.experiment}_{suffix}"


def _part(given: dict[str, str], x: Axis, y: Axis) -> tuple[Axis, Axis]:
    """Return the axes limited to the part that ``zoom=`` chooses, and divided as ``finer=`` says."""
    if "zoom" in given:
        word = f"zoom={given['zoom']}"
        match = re.fullmatch(r"(\d+)\.\.(\d+),(\d+)\.\.(\d+)", given["zoom"], re.ASCII)
        if match is None:
            raise ConfigError(
                f"{word}: must be two ranges of cells, FIRST..END of x and FIRST..END of y; write "
                f"zoom=0..{x.n // 2},0..{y.n // 2}"
            )
        a, b, c, d = map(int, match.groups())
        x, y = window(word, (x, y), (range(a, b), range(c, d)))
    if "finer" in given:
        text = given["finer"]
        if not re.fullmatch(r"\d{1,4}", text, re.ASCII) or not 1 <= int(text) <= MOST_FINER:
            raise ConfigError(
                f"finer={text}: must be a whole number from 1 to {MOST_FINER}, so that the finer map "
                "contains every network of this map; write finer=4"
            )
        x, y = x.finer(int(text)), y.finer(int(text))
    for name, each in (("x", x), ("y", y)):
        if len(each.indices) < 2:
            raise ConfigError(
                f"zoom={given['zoom']}: leaves one value of {name}; add finer=4, or write cell="
                f"{x.first},{y.first} for one cell"
            )
    return x, y


def _cell(text: str, x: Axis, y: Axis) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+),(\d+)", text, re.ASCII)
    i, j = map(int, match.groups()) if match else (-1, -1)
    if i not in x.indices or j not in y.indices:
        raise ConfigError(
            f"cell={text}: must be the number of a cell of x, {x.first} to {x.stop - 1}, and of y, "
            f"{y.first} to {y.stop - 1}; write cell={x.first},{y.first}"
        )
    return i, j


def _refuse_values(shared: Sequence[str], x: Axis, y: Axis) -> None:
    """Raise if an override sets the key of an axis, has several values, or is only for sweeps."""
    for word in shared:
        key = key_of(word)
        for name, each in (("x", x), ("y", y)):
            if key == each.key:
                raise ConfigError(f"{word}: {key} is the axis {name}; omit {word}")
        if key.partition(".")[0] in OF_SWEEPS:
            raise ConfigError(f"{word}: has no meaning for a map, which trains all its cells; omit {word}")
        outside = re.sub(r"'[^']*'|\"[^\"]*\"|\[[^]]*\]|\{[^}]*\}", "", word.partition("=")[2])
        if "," in outside or re.match(r"(range|choice|glob|interval)\(", outside):
            as_axis = f", or make {key} an axis" if number_type(key) else ""
            instead = f"one list, as in {key}=[64,32]" if key in LISTS else f"one value{as_axis}"
            raise ConfigError(
                f"{word}: has several values, but a map has one trial in each cell; write {instead}"
            )


def _refuse_too_many(request: Request) -> None:
    """Raise if a map has more cells than there is memory for, before any is made."""
    count, available = math.prod(request.shape), room.available_memory()
    if available is not None and count * BYTES_A_TRIAL > available:
        most = math.isqrt(available // BYTES_A_TRIAL)
        raise ConfigError(
            f"the map has {request.shape[1]:,} x {request.shape[0]:,} = {count:,} cells, and each takes "
            f"{BYTES_A_TRIAL // 1000} KB of memory, but only {available / 1e9:.3g} GB are left; "
            f"write at most {most:,} x {most:,}"
        )
