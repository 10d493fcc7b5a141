"""Numeric factors as axes: the ranking metric over their values, and the best value of each option."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.config.schema import CHOICES
from fnnexp.reporting.document.blocks import Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, mean_and_spread, plural
from fnnexp.reporting.figures import Drawing, for_each
from fnnexp.reporting.plots.over_values import MOST_MAPS, lines, plane
from fnnexp.results import numeric
from fnnexp.results.factors import as_text, others
from fnnexp.results.frames import ranking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fnnexp.reporting.document.blocks import Block, Figure
    from fnnexp.results.numeric import Optimum

MOST_SAID = 5
"""Up to so many best values have a sentence each."""

MOST_COMBINATIONS = 4
"""The most combinations of other factors that have a figure; runs.csv has the rest."""

MOST_PAIRS = 3
"""The most pairs of numeric factors that have a map."""

MOST_ROWS = 40
"""The most rows of a table; optima.csv has the rest."""


def sections(runs: pd.DataFrame) -> list[Section]:
    """Return a section for each numeric factor of a frame of runs, and one for the maps of every two.

    The first holds the best values on all of them as data.
    """
    axes, metric = numeric.axes_of(runs), ranking(runs)
    optima = {axis: numeric.optima(runs, axis) for axis in axes}
    made: list[Section] = []
    for axis, found in optima.items():
        figures = _lines(runs, metric, axis, alone=len(axes) == 1)
        blocks: list[Block] = [*map(Text, sentences(axis, found)), *figures, *_table(axis, metric, found)]
        data = {} if made else {"optima": _frame(optima)}
        made.append(Section(f"By {axis}", blocks or [Text(NO_LINE)], data))
    pairs = list(combinations(axes, 2))
    maps = [figure for x, y in pairs[:MOST_PAIRS] for figure in _maps(runs, metric, x, y)]
    if maps:
        best = _best_values(runs, axes)
        text = Text(_together(best, axes))
        made.append(Section("By two numeric factors", [text, *maps], {"best_values": best}))
    return made


NO_LINE = "No trials have three values of it at one of each other numeric factor: there is no line over it."


def _lines(runs: pd.DataFrame, metric: str, axis: str, *, alone: bool) -> list[Figure]:
    rows = numeric.along(runs, axis)
    caption = f"{metric} over {axis}{LINES}" + ("" if alone else OTHERS_AT_BEST)
    drawing = Drawing(_file(axis), caption, lambda part: lines(part, metric, axis))
    return [*for_each(rows, others(rows), [drawing], most=MOST_COMBINATIONS)]


def _maps(runs: pd.DataFrame, metric: str, x: str, y: str) -> list[Figure]:
    rows = numeric.along(runs, x, y)
    caption = f"{metric} in percent by {x} and {y}{MAP}"
    drawing = Drawing(_file(x, y), caption, lambda part: plane(part, metric, x, y))
    return [*for_each(rows, others(rows), [drawing], most=MOST_COMBINATIONS)]


def _best_values(runs: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Return the best values of all numeric factors together: a row a cell, a column an axis."""
    best = numeric.at_best(runs)
    return numeric.options_of(best).assign(**{axis: best[f"best {axis}"] for axis in axes}).drop_duplicates()


def _together(best: pd.DataFrame, axes: Sequence[str]) -> str:
    """Return the best values of the first cells in sentences."""
    texts = []
    for cell in best.head(MOST_SAID).to_dict("records"):
        name = _name({str(key): text for key, text in cell.items() if key not in axes})
        values = " and ".join(_at(axis, cell[axis]) for axis in axes if not math.isnan(cell[axis]))
        texts.append(f"{name} is best at {values}." if name else f"The best is {values}.")
    more = len(best) - len(texts)
    return " ".join([*texts, *([f"{more} more are in best_values.csv."] if more else [])])


def _file(*axes: str) -> str:
    return "_".join(["by", *axes]).replace(" ", "_")


def sentences(axis: str, optima: Sequence[Optimum]) -> list[str]:
    """Return where each option is best, which values are as good, and where the range was too short."""
    if not optima:
        return []
    texts = [" ".join(_best(axis, each) for each in optima)]
    if len(optima) > MOST_SAID:
        counted = Counter(each.best for each in optima if each.learned)
        values = [f"{as_text(value)} in {n}" for value, n in counted.most_common(MOST_SAID)]
        values += [f"none, for nothing learned, in {n}"] if (n := len(optima) - counted.total()) else []
        texts = [f"The best {axis} of {len(optima)} combinations of the other factors: {', '.join(values)}."]
    if not any(each.near for each in optima):
        texts.append("One seed has no interval, so which values are as good can't be said.")
    ends: dict[float, list[str]] = {}
    for each in optima:
        if each.at_end and each.learned:
            ends.setdefault(each.beyond, []).append(_name(each.options))
    for beyond, names in ends.items():
        advice = "" if math.isnan(beyond) else f": try {_at(axis, beyond)}"
        who = " and ".join(names) if len(names) <= MOST_SAID else f"{len(names)} of them"
        verb = "is" if len(names) == 1 else "are"
        texts.append(f"{who or 'It'} {verb} best at the end of what was tried{advice}.")
    lost = sum((Counter(each.diverged) for each in optima), Counter())
    if lost:
        texts.append(
            f"{plural(lost.total(), 'trial')} diverged, at {axis} {_range(min(lost), max(lost))}; "
            "they are marked in the figure and count in no mean."
        )
    return texts


def _best(axis: str, optimum: Optimum) -> str:
    name, where = _name(optimum.options), _at(axis, optimum.best)
    if not optimum.learned:
        return f"{name or 'The network'} did not learn at any {axis}."
    start = f"{name} is best at {where}" if name else f"The best is {where}"
    others = len(optimum.tried) - 1
    if not optimum.near:
        return f"{start}."
    if optimum.near == [optimum.best]:
        return f"{start} (told apart from the {others} others)."
    return f"{start} ({_near(optimum)} not told apart)."


def _name(options: Mapping[str, str]) -> str:
    """Return a cell's options in a line.

    >>> _name({"init": "he", "optimizer": "adam", "data.scale": "unit"})
    'he adam data.scale=unit'
    """
    return " ".join(text if name in CHOICES else f"{name}={text}" for name, text in options.items())


def _at(axis: str, value: float) -> str:
    return f"{as_text(value)} {axis}" if axis == numeric.WIDTH else f"{axis}={as_text(value)}"


def _near(optimum: Optimum) -> str:
    return ", ".join(_range(*ends) for ends in optimum.ranges)


def _range(low: float, high: float) -> str:
    return as_text(low) if low == high else f"{as_text(low)} to {as_text(high)}"


def _table(axis: str, metric: str, optima: Sequence[Optimum]) -> list[Block]:
    """Return the best values as shown: a row a cell; nothing of one cell, which its sentence says."""
    if len(optima) < 2:
        return []
    names = list(optima[0].options)
    rows = [
        [
            *map(Cell, each.options.values()),
            Cell(as_text(each.best), each.best),
            Cell(_near(each) or "?"),
            Cell(mean_and_spread(each.mean, math.nan), each.mean),
            Cell(between(each.low, each.high)),
            Cell(str(each.seeds), float(each.seeds)),
            Cell(str(sum(each.diverged.values()))),
            Cell("did not learn" if not each.learned else "the end of what was tried" if each.at_end else ""),
        ]
        for each in optima[:MOST_ROWS]
    ]
    head = [*names, f"best {axis}", *HEAD[:1], f"{metric} %", *HEAD[1:]]
    more = len(optima) - MOST_ROWS
    rest = [Text(f"{more} more are in optima.csv.", quiet=True)] if more > 0 else []
    return [Table(f"The best {axis}", head, rows, len(names)), *rest, Text(NOTE, quiet=True)]


def _frame(optima: dict[str, list[Optimum]]) -> pd.DataFrame:
    """Return the best values on all axes, a row a cell and axis."""
    rows: list[dict[str, Any]] = [
        {
            "axis": axis,
            **each.options,
            **{name: getattr(each, name) for name in ("best", "seeds", "mean", "low", "high")},
            "not_told_apart": _near(each),
            "values": len(each.tried),
            "diverged": sum(each.diverged.values()),
            "at_end": each.at_end,
            "try": each.beyond,
        }
        for axis, found in optima.items()
        for each in found
    ]
    return pd.DataFrame(rows)


HEAD = ("not told apart", "95% interval", "seeds", "diverged", "note")

LINES = (
    ": the mean over the finished seeds in its 95% interval (Student's t). The filled marker is a line's best"
    " value; a cross at the foot is a value at which trials diverged. The axis of accuracies is stretched"
    " towards 100% (by the logit)."
)
OTHERS_AT_BEST = " The other numeric factors are at the best value of each line."
MAP = (
    ", the mean over the finished seeds; darker is better, by the logit. The best of each panel is framed. At"
    f" most {MOST_MAPS} panels are drawn."
)
NOTE = (
    "The best value has the highest mean over its finished seeds; one at which a trial diverged is taken only"
    " where there is no other. Not told apart: those that a paired test over seeds does not settle against"
    " the best, corrected for all pairs of the values (Holm), because the best was picked by looking. It was"
    " picked on the seeds that are shown, so its mean is a little too high."
)
