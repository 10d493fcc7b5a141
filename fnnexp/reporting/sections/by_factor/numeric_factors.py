"""Numeric factors as axes: the ranking metric over their values, and the best values of each option."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.config.schema import CHOICES
from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import TERMINAL, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, listed, mean_and_spread, plain
from fnnexp.reporting.figures import Drawing, for_each, of_the_best, shared_scale
from fnnexp.reporting.plots.heat_map import SHADES
from fnnexp.reporting.plots.over_values import dots, lines, of_plane, plane
from fnnexp.results import numeric
from fnnexp.results.factors import as_text, others
from fnnexp.results.frames import ranking
from fnnexp.results.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fnnexp.reporting.document.blocks import Block, Figure
    from fnnexp.results.numeric import Optimum

MOST_NAMED = 5
"""The largest number of combinations of factors whose best values sentences name."""

MOST_COMBINATIONS = 4
"""The largest number of combinations of other factors that are drawn; runs.csv has all trials."""

MOST_PAIRS = 3
"""The largest number of pairs of numeric factors that are drawn as a map."""

MOST_ROWS = 40
"""The largest number of rows of a table; optima.csv has all rows."""


def sections(runs: pd.DataFrame, *, tested: bool = True) -> list[Section]:
    """Return a section for each numeric factor of a frame of runs, and a section with maps of factor pairs.

    If not `tested`, as for tuning trials, no sentence says which values may be as good as the best. The first
    section has a CSV file with the best values of all factors.
    """
    axes, metric = numeric.axes_of(runs), ranking(runs)
    optima = {axis: numeric.optima(runs, axis) for axis in axes}
    if not tested:
        optima = {axis: [*map(_untested, of_axis)] for axis, of_axis in optima.items()}
    pairs = [*combinations(axes, 2)][:MOST_PAIRS]
    maps = {pair: _maps(runs, metric, *pair) for pair in pairs}
    made: list[Section] = []
    for axis, axis_optima in optima.items():
        figures = _lines(runs, metric, axis, alone=len(axes) == 1)
        table = _table(axis, metric, axis_optima)
        only = len(axes) == 1 and len(axis_optima) == 1  # then "The answer" compares the values already
        near = [] if only else [Text(text, TERMINAL) for text in _as_good(axis, axis_optima)]
        blocks: list[Block] = [*map(Text, sentences(axis, axis_optima)), *near, *figures, *table]
        data = {} if made else {"optima": _frame(optima)}
        if not blocks:
            mapped = any(axis in pair and figures for pair, figures in maps.items())
            blocks = [Text(_no_line(runs, alone=len(axes) == 1, mapped=mapped)), *_dots(runs, metric, axis)]
        made.append(Section(f"By {axis}", blocks, data))
    if drawn := [figure for figures in maps.values() for figure in figures]:
        best = _best_values(runs, axes)
        text = Text(_together(best, axes))
        made.append(Section(TWO, [text, *drawn], {"best_values": best}))
    return made


def _untested(optimum: Optimum) -> Optimum:
    """Return a best value without the values that may be as good."""
    return optimum._replace(near=[], inseparable=0, behind={})


TWO = "By two numeric factors"
"""The title of the section of maps."""


def _no_line(runs: pd.DataFrame, *, alone: bool, mapped: bool) -> str:
    """Return why the section of a factor has no line, and where its values are shown instead."""
    if not (runs["status"] == "finished").any():
        return "No line is drawn, because no trial has finished."
    where = "" if alone else " with every other numeric factor at its best value"
    elsewhere = f" Under '{TWO}' a map shows its other values." if mapped else ""
    return f"No line is drawn: no configuration has three values of this factor{where}.{elsewhere}"


def _lines(runs: pd.DataFrame, metric: str, axis: str, *, alone: bool) -> list[Figure]:
    rows, note = of_the_best(numeric.along(runs, axis), Ranking(metric))
    caption = f"{metric} over {axis}{LINES}" + ("" if alone else OTHERS_AT_BEST) + (note and f" {note}")
    if len(rows) and numeric.is_log_beside_zero(rows[f"at {axis}"].tolist()):
        caption += ZERO
    drawing = Drawing(_file(axis), caption, lambda trials: lines(trials, metric, axis))
    return [*for_each(rows, others(rows), [drawing], most=MOST_COMBINATIONS)]


def _dots(runs: pd.DataFrame, metric: str, axis: str) -> list[Figure]:
    """Return figures with a point for each configuration, for configurations that were drawn at random."""
    rows, note = of_the_best(numeric.at_all_values(runs), Ranking(metric))
    caption = f"{metric} over {axis}{DOTS}" + (note and f" {note}")
    drawing = Drawing(_file(axis), caption, lambda trials: dots(trials, metric, axis))
    return [*for_each(rows, others(rows), [drawing], most=MOST_COMBINATIONS)]


def _maps(runs: pd.DataFrame, metric: str, x: str, y: str) -> list[Figure]:
    rows, note = of_the_best(numeric.along(runs, x, y), Ranking(metric))
    caption = f"{metric} in percent by {x} and {y}{MAP}" + (note and f" {note}")
    scale = shared_scale(rows, others(rows), lambda trials: of_plane(trials, metric, x, y)["mean"])
    drawing = Drawing(_file(x, y), caption, lambda trials: plane(trials, metric, x, y, scale))
    return [*for_each(rows, others(rows), [drawing], most=MOST_COMBINATIONS)]


def _best_values(runs: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Return the best values of the numeric factors, with a row for each combination of the other factors."""
    best = numeric.at_best(runs)
    return numeric.options_of(best).assign(**{axis: best[f"best {axis}"] for axis in axes}).drop_duplicates()


def _together(best: pd.DataFrame, axes: Sequence[str]) -> str:
    """Return sentences on the values of the numeric factors at which a few combinations of others are best.

    Each of the first few rows of `best` (see :func:`_best_values`) gets a sentence.
    """
    texts = []
    for cell in best.head(MOST_NAMED).to_dict("records"):
        name = _name({str(key): text for key, text in cell.items() if key not in axes})
        values = " and ".join(
            numeric.setting(axis, cell[axis]) for axis in axes if not math.isnan(cell[axis])
        )
        texts.append(f"{name} is best at {values}." if name else f"The best values are {values}.")
    more = len(best) - len(texts)
    return " ".join([*texts, *([f"best_values.csv lists {more} more."] if more else [])])


def _file(*axes: str) -> str:
    return "_".join(["by", *axes]).replace(" ", "_")


def sentences(axis: str, optima: Sequence[Optimum]) -> list[str]:
    """Return sentences on the best values of a factor in each combination of the other factors.

    They say which values may be as good, where the best one is at the end of the tried range, so that a value
    beyond it may be better, and at which values trials diverged.
    """
    if not optima:
        return []
    texts = [" ".join(_best(axis, each) for each in optima)]
    if len(optima) > MOST_NAMED:
        counted = Counter(each.best for each in optima if each.learned)
        values = [f"{as_text(value)} in {n}" for value, n in counted.most_common(MOST_NAMED)]
        values += [f"nothing learned in {n}"] if (n := len(optima) - counted.total()) else []
        texts = [f"The best {axis} in {len(optima)} combinations of the other factors: {', '.join(values)}."]
    if all(each.seeds == 1 and len(each.tried) > 1 for each in optima):
        texts.append("With one seed there is no interval, so it is unknown which other values are as good.")
    texts += _too_few_seeds(axis, optima) if len(optima) <= MOST_NAMED else []
    texts += _at_ends(axis, optima)
    diverged = sum((Counter(each.diverged) for each in optima), Counter())
    if diverged:
        texts.append(
            f"{plural(diverged.total(), 'trial')} diverged, at {axis} "
            f"{_range(min(diverged), max(diverged))}; the figure marks them, and no mean includes them."
        )
    return texts


def wider_ranges(runs: pd.DataFrame) -> list[str]:
    """Return sentences on the numeric factors whose best values are at an end of the tried values."""
    return [text for axis in numeric.axes_of(runs) for text in _at_ends(axis, numeric.optima(runs, axis))]


def _at_ends(axis: str, optima: Sequence[Optimum]) -> list[str]:
    """Return a sentence on the combinations that are best at an end of the tried values, with what to try.

    It says whether they surely are, because no other value may be as good.
    """
    ends: dict[tuple[float, bool], list[str]] = {}
    for each in optima:
        if each.at_end and each.learned:
            sure = each.near == [each.best] and not each.behind
            ends.setdefault((each.beyond, sure), []).append(_name(each.options))
    texts = []
    for (beyond, sure), names in ends.items():
        subject = (
            " and ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} of them"
        ) or "The network"
        best = "has its best mean" if len(names) == 1 else "have their best means"
        if sure:
            best = "is best" if len(names) == 1 else "are best"
        where = f"at the end of the tried range of {axis}"
        advice = "" if math.isnan(beyond) else f": try {numeric.setting(axis, beyond)}"
        texts.append(f"{subject} {best} {where}{advice}.")
    return texts


def _as_good(axis: str, optima: Sequence[Optimum]) -> list[str]:
    """Return sentences for the terminal: which values of a factor may be as good as its best value.

    More sentences name the values that are behind but not surely, and those with too few seeds to say. There
    are no sentences if more than :data:`MOST_NAMED` combinations of the other factors have a best value.
    """
    if len(optima) > MOST_NAMED:
        return []
    near = [each for each in optima if each.learned]
    known = [each for each in near if len(each.near) > 1 and not _none_separable(each)]
    texts = [" for ".join(filter(None, [_near(each), _name(each.options)])) for each in known]
    known_text = f"Values of {axis} that cannot be told apart from the best: {'; '.join(texts)}."
    unsure = [each for each in near if each.behind and not _none_separable(each)]
    behind = [
        f"{axis}: {_behind(each)}{' for ' * bool(each.options)}{_name(each.options)}." for each in unsure
    ]
    return [*([known_text] if known else []), *behind, *_too_few_seeds(axis, near)]


def _none_separable(optimum: Optimum) -> bool:
    """Return whether there are so few seeds that no test can tell any other value from the best one."""
    return 0 < len(optimum.near) + len(optimum.behind) - 1 == optimum.inseparable


def _behind(optimum: Optimum) -> str:
    """Return which values are behind the best but not significantly, and how many seeds would settle them."""
    if len(optimum.behind) < MOST_NAMED:
        values, gap = listed([*map(as_text, optimum.behind)]), listed([*map(plain, optimum.behind.values())])
    else:
        values = listed([_range(*ends) for ends in optimum.ranges(optimum.behind)])
        gap = f"{plain(min(optimum.behind.values()))} to {plain(max(optimum.behind.values()))}"
    are = "is" if len(optimum.behind) == 1 else "are"
    corrected = f" after correction for {optimum.pairs} pairs" if optimum.pairs > 1 else ""
    few = f"but {plural(optimum.seeds, 'seed')} are too few to be sure{corrected}"
    enough = f"; about {optimum.settled_by} would do" if optimum.settled_by else ""
    return f"{values} {are} {gap} points behind, {few}{enough}"


def _too_few_seeds(axis: str, optima: Sequence[Optimum]) -> list[str]:
    """Return a sentence for each combination in which the seeds cannot separate values from the best.

    Combinations with the same numbers share a sentence.
    """
    alike: dict[tuple[int, int, int, bool], list[str]] = {}
    for each in optima:
        if each.inseparable:
            key = (each.seeds, each.inseparable, each.seeds_needed, _none_separable(each))
            alike.setdefault(key, []).append(_name(each.options))
    texts = []
    for (seeds, count, needed, none), names in alike.items():
        values = f"the {count + 1} values of {axis}" if none else f"{count} of these values from the best"
        where = " for " + " or ".join(names) if any(names) else ""
        texts.append(
            f"{plural(seeds, 'seed')} cannot separate {values}{where}: where a network fails to learn in "
            f"some seeds, at least {needed} are needed."
        )
    return texts


def _best(axis: str, optimum: Optimum) -> str:
    name, where = _name(optimum.options), numeric.setting(axis, optimum.best)
    if not optimum.learned:
        return f"{name or 'The network'} did not learn at any {axis}."
    start = f"{name} is best at {where}" if name else f"The best value is {where}"
    others = len(optimum.tried) - 1
    if not optimum.near:
        return f"{start}."
    if optimum.near == [optimum.best] and not optimum.behind:
        return f"{start} (significantly better than the {plural(others, 'other value')})."
    if _none_separable(optimum):
        count = optimum.inseparable + 1
        return f"{start} ({plural(optimum.seeds, 'seed')} cannot separate the {count} values)."
    apart = [f"{_near(optimum)} cannot be told apart"] if len(optimum.near) > 1 else []
    return f"{start} ({'; '.join([*apart, *([_behind(optimum)] if optimum.behind else [])])})."


def _name(options: Mapping[str, str]) -> str:
    """Return the name of a combination of factors from its options.

    >>> _name({"init": "he", "optimizer": "adam", "data.scale": "unit"})
    'he adam data.scale=unit'
    """
    return " ".join(text if name in CHOICES else f"{name}={text}" for name, text in options.items())


def _near(optimum: Optimum) -> str:
    return ", ".join(_range(*ends) for ends in optimum.ranges(optimum.near))


def _range(low: float, high: float) -> str:
    return as_text(low) if low == high else f"{as_text(low)} to {as_text(high)}"


def _table(axis: str, metric: str, optima: Sequence[Optimum]) -> list[Block]:
    """Return a table of the best values of a numeric factor: a row for each combination of the other factors.

    Return no table if there is only one combination, and a note if the table leaves out rows.
    """
    if len(optima) < 2:
        return []
    names = list(optima[0].options)
    unsure = [*HEAD[1:2]] if any(each.behind for each in optima) else []
    rows = [
        [
            *map(Cell, each.options.values()),
            Cell(as_text(each.best), each.best),
            Cell("too few seeds" if _none_separable(each) else _near(each) or "?"),
            *[Cell(", ".join(_range(*ends) for ends in each.ranges(each.behind)))] * len(unsure),
            Cell(mean_and_spread(each.mean, math.nan), each.mean),
            Cell(between(each.low, each.high)),
            Cell(str(each.seeds), float(each.seeds)),
            Cell(str(sum(each.diverged.values()))),
            Cell("did not learn" if not each.learned else "end of the tried range" if each.at_end else ""),
        ]
        for each in optima[:MOST_ROWS]
    ]
    head = [*names, f"best {axis}", *HEAD[:1], *unsure, f"{metric} %", *HEAD[2:]]
    more = len(optima) - MOST_ROWS
    rest = [Text(f"optima.csv lists {more} more.", quiet=True)] if more > 0 else []
    table = Table(f"The best {axis}", head, rows, len(names))
    noted = any(row[-1].text for row in rows)
    note = NOTE.format(
        diverged=DIVERGED if any(each.diverged for each in optima) else "", behind=BEHIND if unsure else ""
    )
    return [table if noted else table.without("note"), *rest, Text(note, quiet=True)]


def _frame(optima: dict[str, list[Optimum]]) -> pd.DataFrame:
    """Return the frame of `optima.csv`: the best values of all numeric factors, and how sure they are.

    There is a row for each numeric factor and each combination of the other factors.
    """
    rows: list[dict[str, Any]] = [
        {
            "axis": axis,
            **each.options,
            **{name: getattr(each, name) for name in ("best", "seeds", "mean", "low", "high")},
            "not_told_apart": _near(each),
            "behind_not_surely": ", ".join(_range(*ends) for ends in each.ranges(each.behind)),
            "values": len(each.tried),
            "diverged": sum(each.diverged.values()),
            "at_end": each.at_end,
            "try": each.beyond,
        }
        for axis, axis_optima in optima.items()
        for each in axis_optima
    ]
    return pd.DataFrame(rows)


HEAD = ("may be as good", "behind, not surely", "95% interval", "seeds", "diverged", "note")

LINES = (
    ": mean over the finished seeds. A circle is around the best value of a line. The accuracy axis is"
    " stretched towards 100% (logit)."
)
DOTS = (
    ": a point for each configuration, its mean over the finished seeds, with its own values of the other"
    " numeric factors. A circle is around the best configuration. The accuracy axis is stretched towards"
    " 100% (logit)."
)
OTHERS_AT_BEST = " The other numeric factors have the values that are best for each line."
ZERO = " The axis of the factor is logarithmic, with a linear part between 0 and the smallest value above it."
MAP = f": mean over the finished seeds. {SHADES} The best value of each panel is framed."
NOTE = (
    "The best value has the highest mean over its finished seeds.{diverged} May be as good: the values that a"
    " paired test over seeds cannot tell apart from the best, except those at which no seed learned. The test"
    " is corrected for all pairs of values (Holm) because the best was chosen by its result.{behind} For the"
    " same reason, the mean of the best value is a little too high. 95% interval: of this mean, by Student's"
    " t; from six seeds on the leaderboard has another, by a bootstrap."
)
BEHIND = (
    " Behind, not surely: the 95% interval of the difference excludes 0, but the corrected test is not"
    " significant."
)
DIVERGED = " A value at which a trial diverged is the best only if there is no other."
