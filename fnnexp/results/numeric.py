"""Numeric factors as axes: learning rates, widths and batch sizes, and the best value of each option on them.

A numeric factor has three values or more, and all are numbers. Trials that agree in everything but numeric
factors and the seed are a *cell*: an option of each categorical factor. On an axis a cell has a curve.

The best values of a cell were picked by looking at the same seeds that then show how good they are, so their
means are a little too high ("winner's curse"): the more values were tried and the fewer the seeds, the more.
With validation rows the test images, which chose nothing, show it without that.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from fnnexp.config.schema import CHOICES
from fnnexp.results import comparisons, filters, frames, statistics
from fnnexp.results.factors import AXES, as_text, factors_of, labels_of, others, varies_within
from fnnexp.results.ranking import Ranking, ranking_of
from fnnexp.tracking.run_format import DONE

if TYPE_CHECKING:
    from collections.abc import Sequence

FEWEST = 3
"""The least number of values that make an axis."""

WIDTH = "hidden units"
"""The axis of networks that differ in the width of their hidden layers alone."""

BELOW_ONE = ("optimizer.momentum", "optimizer.beta1", "optimizer.beta2", "data.test_fraction")
"""Factors whose values are below 1, so that no step beyond the last value is advised."""

NEAR = 0.15
"""An advised value is rounded by at most this share."""

DECIMALS = 12
"""Means that agree in so many are equal."""


class Layout(NamedTuple):
    """Trials with their numeric factors taken out.

    Attributes
    ----------
    rows
        A frame of runs without the params that are axes: what tells its configurations apart is categorical.
        Networks that differ in width alone have one `arch`, as `relu` or `relu 2 layers`.
    places
        The trials' place on each axis, float64, a column an axis; NaN where the axis means nothing, as the
        batch size of a full batch.
    """

    rows: pd.DataFrame
    places: pd.DataFrame

    @property
    def axes(self) -> list[str]:
        """The names of the axes."""
        return [str(name) for name in self.places.columns]


def layout(runs: pd.DataFrame) -> Layout:
    """Return the trials of a frame, each once, with their numeric factors as axes."""
    runs = filters.once(runs)
    rows, values = _without_widths(runs)
    for factor in _numeric_params(rows):
        values[factor] = rows[factor].astype("float64")
    return Layout(rows.drop(columns=values.columns.intersection(rows.columns)), values)


def axes_of(runs: pd.DataFrame) -> list[str]:
    """Return the names of the numeric factors: params, as `optimizer.lr`, or `hidden units`.

    A param that follows an architecture, initializer or batching mode is none: it has nothing of its own to
    tell. A param below one of them, as `batching.size`, is one.
    """
    return layout(runs).axes


def _numeric_params(runs: pd.DataFrame) -> list[str]:
    beside = others(runs)
    found = []
    for factor in factors_of(runs):
        option = factor.partition(".")[0]
        numbers = is_numeric_dtype(runs[factor]) and not is_bool_dtype(runs[factor])
        if not numbers or (factor not in beside and option not in AXES):
            continue
        by = list(dict.fromkeys([*AXES, *([option] if option in CHOICES else [])]))
        within = [option] if option in AXES else by
        groups = runs.groupby(within, observed=True, dropna=False)[factor]
        missing = runs.assign(missing=runs[factor].isna())
        if int(groups.nunique().max()) >= FEWEST and not varies_within(missing, by, "missing"):
            found.append(factor)
    return found


def _without_widths(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the trials with architectures of three widths or more as one, and the axis of the widths."""
    values = pd.DataFrame(index=runs.index)
    if not {"arch.hidden", "arch.activation"} <= {*runs.columns}:
        return runs, values
    shapes = zip(runs["arch.hidden"].astype("str"), runs["arch.activation"].astype("str"), strict=True)
    found = [_family(hidden, activation) for hidden, activation in shapes]
    family = pd.Series([name for name, _ in found], runs.index, "str")
    width = pd.Series([width for _, width in found], runs.index, "float64")
    wide = width.groupby(family).transform("nunique") >= FEWEST
    if not wide.any():
        return runs, values
    names = runs["arch"].astype("str")
    names = names.mask(wide, family)
    order = dict.fromkeys(names[runs["arch"].sort_values(kind="stable").index])
    arch = names.astype(pd.CategoricalDtype(list(order), ordered=True))
    values[WIDTH] = width.where(wide)
    # Of the other networks the name says how wide they are.
    return runs.assign(arch=arch).drop(columns="arch.hidden"), values


def _family(hidden: str, activation: str) -> tuple[str | None, float]:
    """Return the name of networks that differ from one in width alone, and its width; none of unequal layers.

    >>> _family("[30]", "relu"), _family("[8, 8]", "tanh"), _family("[8, 4]", "tanh")
    (('relu', 30.0), ('tanh 2 layers', 8.0), (None, nan))
    """
    widths = re.findall(r"\d+", hidden) if isinstance(hidden, str) else []
    if len({*widths}) != 1:
        return None, float("nan")
    return activation + (f" {len(widths)} layers" if len(widths) > 1 else ""), float(widths[0])


def at_best(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.DataFrame:
    """Return the trials of each cell at its own best values of the numeric factors.

    So `he` at its best learning rate meets `max` at its own. The best has the best mean of what ranks over
    its finished seeds. A value at which a trial diverged is taken only where every value has
    such a trial; of equal values the smallest is taken. It was picked on the seeds that it is shown on, so
    its mean is a little too high: see the head of this module.

    Returns
    -------
    DataFrame
        Rows of `runs` without the numeric params, so that each cell is one configuration in every comparison.
        For each axis there is a column `best AXIS` (float64), as `best optimizer.lr`, which is no param.
        Without numeric factors, the frame as it is.

    Examples
    --------
    >>> comparisons.findings(at_best(fnnexp.runs("rates")))  # doctest: +SKIP
    """
    rows, values = laid_out = layout(runs)
    if not laid_out.axes:
        return runs
    best = _best(laid_out, ranking)
    chosen = (values.eq(best) | (values.isna() & best.isna())).all(axis=1)
    return filters.part(rows.assign(**{f"best {axis}": values[axis] for axis in values}), chosen)


def axes_at_best(rows: pd.DataFrame) -> list[str]:
    """Return the axes at whose best values the trials of :func:`at_best` are; none of any other frame.

    >>> axes_at_best(pd.DataFrame(columns=["trial", "best optimizer.lr", "best_val_accuracy"]))
    ['optimizer.lr']
    """
    columns = map(str, rows.columns)
    return [column.removeprefix("best ") for column in columns if column.startswith("best ")]


def _cells(rows: pd.DataFrame) -> pd.Series:
    """Return the number of each trial's cell."""
    factors = factors_of(rows)
    if not factors:
        return pd.Series(0, rows.index)
    return rows.groupby(factors, observed=True, dropna=False).ngroup()


def _best(laid_out: Layout, ranking: Ranking | None = None) -> pd.DataFrame:
    """Return the best values of each trial's cell, as :func:`at_best` says."""
    rows, values = laid_out
    ranking, cell = ranking or ranking_of(rows), _cells(rows).rename("cell")
    table = values.assign(
        cell=cell,
        score=ranking.goodness(rows[ranking.metric].where(rows["status"] == "finished")),
        diverged=rows["status"] == "diverged",
    )
    by = ["cell", *laid_out.axes]
    points = table.groupby(by, dropna=False).agg(score=("score", "mean"), diverged=("diverged", "any"))
    points = points.reset_index()
    points["score"] = -points["score"].round(DECIMALS)
    points["none"] = points["score"].isna()
    points = points.sort_values(["cell", "none", "diverged", "score", *laid_out.axes], kind="stable")
    best = points.drop_duplicates("cell").set_index("cell")[laid_out.axes]
    return best.loc[cell].set_axis(rows.index)


def along(runs: pd.DataFrame, *axes: str) -> pd.DataFrame:
    """Return the trials along some axes, on each other axis at the best value of their cell.

    Parameters
    ----------
    axes
        Names of :func:`axes_of`.

    Returns
    -------
    DataFrame
        Rows of `runs` as :attr:`Layout.rows` has them, with a column of values for each of the axes,
        `at AXIS`, and one `best AXIS` for the best of the trial's cell. Trials without a value are left out.
        There are no rows where no cell has three values on each of the axes, as where all factors were drawn
        at random.
    """
    rows, values = laid_out = layout(runs)
    best = _best(laid_out)
    same = values.eq(best) | (values.isna() & best.isna())
    chosen = same.drop(columns=[*axes]).all(axis=1) & values[[*axes]].notna().all(axis=1)
    counts = values.loc[chosen, [*axes]].groupby(_cells(rows)).nunique()
    chosen &= bool((counts >= FEWEST).all(axis=1).any())
    at = {f"at {axis}": values[axis] for axis in axes} | {f"best {axis}": best[axis] for axis in values}
    return filters.part(rows.assign(**at), chosen)


class Optimum(NamedTuple):
    """The best value of one cell on one axis.

    Attributes
    ----------
    options
        The cell's options of the factors that tell the axis's cells apart, as a person reads them.
    tried
        The values, ascending.
    best, seeds, learned
        The best, how many seeds finished there, and whether any of them learned
        (:func:`fnnexp.results.comparisons.failed_to_learn`).
    mean, low, high
        The ranking metric there, and its 95% interval (Student's t; NaN of one seed).
    near
        The values that are not told apart from the best, with it, ascending; empty where no two seeds allow a
        test.
    diverged
        How many trials of a value diverged, where any did.
    beyond
        The next value to try where the best is the first or the last; else, or where none is known, NaN.
    """

    options: dict[str, str]
    tried: list[float]
    best: float
    seeds: int
    learned: bool
    mean: float
    low: float
    high: float
    near: list[float]
    diverged: dict[float, int]
    beyond: float

    @property
    def at_end(self) -> bool:
        """Whether the best is the first or the last of the values."""
        return self.best in (self.tried[0], self.tried[-1])

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """The first and the last of each row of neighbours that are not told apart from the best."""
        places = [self.tried.index(value) for value in self.near]
        starts = [i for i in places if i - 1 not in places]
        ends = [i for i in places if i + 1 not in places]
        return [(self.tried[i], self.tried[j]) for i, j in zip(starts, ends, strict=True)]


def optima(runs: pd.DataFrame, axis: str) -> list[Optimum]:
    """Return the best value on an axis of each cell that has a result, in the order of their options.

    The best meets each other value of its curve, paired by seed, as a leader meets the others
    (:func:`fnnexp.results.comparisons.with_leader`). It was picked by looking, so p is corrected for all
    pairs of the curve's values (Holm), of which only these are computed.
    """
    rows = along(runs, axis)
    names = options_of(rows)
    metric = rows[frames.ranking(runs)].where(rows["status"] == "finished")
    rows = rows.assign(failed_to_learn=comparisons.failed_to_learn(rows), metric=metric)
    parts = [part for _, part in rows.groupby(_cells(rows)) if part["metric"].notna().any()]
    return [_optimum(part, axis, names.loc[part.index[0]].to_dict()) for part in parts]


def options_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the options of each trial's cell as a person reads them: a column a factor.

    `rows` are of :func:`at_best` or :func:`along`. A param below an axis is in the axis's labels.
    """
    varied = {factor.partition(".")[0] for factor in factors_of(rows)}
    labels = {axis: labels_of(rows, axis).astype("str") for axis in AXES if axis in varied}
    texts = {factor: rows[factor].map(as_text, na_action=None).astype("str") for factor in others(rows)}
    return pd.DataFrame(labels | texts, index=rows.index)


def _optimum(part: pd.DataFrame, axis: str, options: dict[str, str]) -> Optimum:
    """Return the best value of one cell's trials along an axis, as :func:`along` has them."""
    at, best = f"at {axis}", float(part[f"best {axis}"].iloc[0])
    tried = sorted({*map(float, part.loc[part["status"].isin(DONE), at])})
    diverged = Counter(map(float, part.loc[part["status"] == "diverged", at]))
    here = part[part[at] == best].dropna(subset="metric")
    interval = statistics.student_interval(here["metric"], within=statistics.ACCURACY)
    # What diverged is behind what did not, so the two are not compared.
    compared = part if best in diverged else part[~part[at].isin([*diverged])]
    return Optimum(
        options,
        tried,
        best,
        len(here),
        not here["failed_to_learn"].all(),
        statistics.mean(here["metric"]),
        interval.low,
        interval.high,
        _near(compared, axis, best),
        dict(diverged),
        _beyond(tried, best, axis),
    )


def _near(part: pd.DataFrame, axis: str, best: float) -> list[float]:
    """Return the values of one cell's trials that are not told apart from the best, with it, ascending."""
    values = sorted({*part.dropna(subset="metric")[f"at {axis}"]})
    # A place among the values stands for each: what a value is called may be that of its neighbour too.
    places = part[f"at {axis}"].map({value: i for i, value in enumerate(values)}).astype("Int64")
    pairs = comparisons.with_leader(part.assign(**{"arch.hidden" if axis == WIDTH else axis: places}))
    if not (pairs["seeds"] > 1).any():
        return []
    names = " ".join(pairs.loc[pairs["verdict"] == "better", "b"])
    beaten = {values[int(place)] for place in re.findall(r"=(\d+)(?= |$)", names)} - {best}
    return [float(value) for value in values if value not in beaten]


def is_log(values: Sequence[float]) -> bool:
    """Whether values are spaced by ratios rather than by differences, and so belong on a logarithmic axis.

    >>> is_log([0.01, 0.03, 0.1]), is_log([8, 16, 32]), is_log([1, 2, 3]), is_log([0, 0.5, 0.9])
    (True, True, False, False)
    """
    x = np.unique(np.asarray(values, dtype=np.float64))
    if len(x) < FEWEST or x[0] <= 0:
        return False
    by_ratio, by_difference = (np.diff(np.log(x)), np.diff(x))
    return bool(by_ratio.std() / by_ratio.mean() < by_difference.std() / by_difference.mean())


def _beyond(values: Sequence[float], best: float, axis: str) -> float:
    """Return the next value of a logarithmic axis beyond the best, if that is an end; NaN without.

    >>> _beyond([0.01, 0.03, 0.1], 0.1, "optimizer.lr"), _beyond([8, 16, 32], 8, "batching.size")
    (0.3, 4.0)
    """
    if best not in (values[0], values[-1]) or axis in BELOW_ONE or not is_log(values):
        return float("nan")
    exact = best * best / (values[1] if best == values[0] else values[-2])
    whole = all(float(value).is_integer() for value in values)
    if whole and (exact < 1 or exact.is_integer()):
        return exact if exact.is_integer() else float("nan")
    rounded = (float(f"{exact:.{digits}g}") for digits in range(1, 17))
    near = next(value for value in rounded if abs(value / exact - 1) <= NEAR)
    return float(round(near)) if whole else near
