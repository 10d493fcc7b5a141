"""The axes of a grid, and the jobs that are made of them.

A job has one setting of each axis. Axes that are swept together advance together: the first value of one goes
with the first value of the others. All other combinations are jobs, unless the grid leaves them out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fnnexp.config.messages import no_such_key
from fnnexp.config.schema import every_key
from fnnexp.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLE = "zip=[[init,optimizer.lr]]"


class Setting(NamedTuple):
    """One value on an axis: an override such as ``seed=3`` and, if the axis is plain, the value itself."""

    line: str
    value: Any = None


class Axis(NamedTuple):
    """A key of a grid, and its settings. A plain axis, such as ``seed``, sets values and no options."""

    key: str
    settings: Sequence[Setting]
    is_plain: bool


@dataclass(frozen=True)
class Grid:
    """The jobs of a sweep.

    Attributes
    ----------
    axes
        The axes, in the order in which the overrides of a job are applied.
    together
        The indices of the axes in each group, whose values change together; an axis by itself is a group too.
        The last group changes fastest.
    kept
        Which combinations are jobs: their numbers, counted from 0 in the order of the grid; None if all are.
    """

    axes: Sequence[Axis]
    together: Sequence[Sequence[int]]
    kept: NDArray[np.int64] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values of each group of axes."""
        return tuple(len(self.axes[group[0]].settings) for group in self.together)

    @property
    def combinations(self) -> int:
        """The number of all combinations, including those that ``where`` leaves out."""
        return math.prod(self.shape)

    @property
    def count(self) -> int:
        """The number of jobs."""
        return self.combinations if self.kept is None else len(self.kept)

    def varying(self, groups: Collection[int]) -> Iterator[tuple[Setting, ...]]:
        """Yield the settings of each combination of these groups of axes; other axes keep their first."""
        sizes = (size if group in groups else 1 for group, size in enumerate(self.shape))
        yield from self._settings(itertools.product(*map(range, sizes)))

    def __iter__(self) -> Iterator[tuple[Setting, ...]]:
        """Yield the settings of each job, one for each axis."""
        if self.kept is None and [*map(list, self.together)] == [[i] for i in range(len(self.axes))]:
            yield from itertools.product(*(axis.settings for axis in self.axes))
            return
        yield from self._settings(self._positions())

    def _settings(self, positions: Iterable[Sequence[int]]) -> Iterator[tuple[Setting, ...]]:
        """Yield the settings of jobs, given the position of each job: an index into every group of axes."""
        group_of = {axis: number for number, group in enumerate(self.together) for axis in group}
        by_axis = [(axis.settings, group_of[i]) for i, axis in enumerate(self.axes)]
        for position in positions:
            yield tuple(settings[position[group]] for settings, group in by_axis)

    def _positions(self) -> Iterator[tuple[int, ...]]:
        """Yield the position of each job: for every group of axes, the index of the job's values."""
        if self.kept is None:
            yield from itertools.product(*map(range, self.shape))
            return
        numbers, columns = self.kept, []
        for size in reversed(self.shape):
            columns.append((numbers % size).tolist())
            numbers = numbers // size
        yield from zip(*reversed(columns), strict=True)

    def sets_of_options(self) -> Iterator[tuple[str, ...]]:
        """Yield each combination of options, as overrides: ``("arch=tanh_128", "init=he")``."""
        axes = [i for i, axis in enumerate(self.axes) if not axis.is_plain]
        chosen = (tuple(i for i in group if i in axes) for group in self.together)
        groups = [group for group in chosen if group]
        for position in itertools.product(*(range(len(self.axes[group[0]].settings)) for group in groups)):
            at = {i: number for group, number in zip(groups, position, strict=True) for i in group}
            yield tuple(self.axes[i].settings[at[i]].line for i in axes)


def together(given: Any, counts: Mapping[str, float]) -> list[list[str]]:
    """Return the groups of keys that change together in a sweep; a key by itself is a group too.

    Parameters
    ----------
    given
        The value of ``zip``: a list of lists of keys, or None.
    counts
        The number of values of each key of the grid.

    Raises
    ------
    ConfigError
        If `given` is something else, names a key that is not in the grid or is in several groups, or if the
        keys of a group have different numbers of values.
    """
    groups = _groups(given)
    seen: set[str] = set()
    for group in groups:
        for key in group:
            if key in seen:
                raise ConfigError(f"{_shown(groups)}: {key} is named twice; write each key once")
            seen.add(key)
            if key not in counts:
                _refuse_absent(key, groups)
        if len({counts[key] for key in group}) > 1:
            numbers = ", ".join(
                f"{key} has {counts[key]:,.0f} value{'' if counts[key] == 1 else 's'}" for key in group
            )
            raise ConfigError(
                f"{_shown([group])}: {numbers}; keys that are swept together need the same number of values: "
                f"the first value of {group[0]} goes with the first of {' and '.join(group[1:])}, and so on. "
                "Write as many values of each, or zip=null for every combination"
            )
    group_of = {key: group for group in groups for key in group}
    in_order = {id(group): group for key in counts for group in [group_of.get(key, [key])]}
    return list(in_order.values())


def _groups(given: Any) -> list[list[str]]:
    """Check the value of ``zip``, and return its lists of keys."""
    groups = given if given is not None else []
    if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
        keys = groups if isinstance(groups, list) else [groups]
        flat = isinstance(groups, list) and len(keys) > 1 and all(isinstance(key, str) for key in keys)
        raise ConfigError(
            f"zip={_text(groups)}: must be a list of lists of keys that are swept together; write "
            f"{_shown([keys]) if flat else EXAMPLE}"
        )
    for group in groups:
        if not all(isinstance(key, str) for key in group) or len(group) < 2:
            raise ConfigError(
                f"{_shown(groups)}: each inner list must have two keys or more, which are swept together; "
                f"write {EXAMPLE}"
            )
    return groups


def _refuse_absent(key: str, groups: Sequence[Sequence[str]]) -> None:
    known = every_key()
    if key not in known:
        raise ConfigError(f"{_shown(groups)}: {no_such_key(key, [k for k in known if '.' not in k])}")
    raise ConfigError(
        f"{_shown(groups)}: {key} has no values in this grid; write {key}=VALUE,VALUE, or omit it in zip"
    )


def _shown(groups: Sequence[Any]) -> str:
    return f"zip={_text(groups)}"


def _text(value: Any) -> str:
    return str(value).replace("'", "").replace(" ", "")
