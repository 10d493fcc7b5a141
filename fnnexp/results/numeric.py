"""Numeric factors as axes: learning rates, widths and batch sizes, and the best value of each option on them.

A numeric factor is a setting that varies and has at least three values, all of them numbers. A *cell* is a
combination of the categorical factors: its trials agree in everything but numeric factors and the seed. A
cell has a curve along each axis.

The best values of a cell are picked by the results of the same seeds that their means are computed from. So
these means are slightly too high ("winner's curse"), and more so with more values and fewer seeds. With
validation rows, this does not affect test accuracy, because the test images are not used to pick values.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from fnnexp.config.schema import CHOICES
from fnnexp.results import comparisons, filters, frames, statistics
from fnnexp.results.factors import (
    AXES,
    as_text,
    as_texts,
    factors_of,
    group_numbers,
    labels_of,
    others,
    varies_within,
)
from fnnexp.results.ranking import MARGIN, Ranking, ranking_of
from fnnexp.tracking.run_format import DONE, PRUNED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

FEWEST = 3
"""The least number of values that make a factor an axis."""

WIDTH = "hidden units"
"""The name of the axis along which networks differ only in the width of their hidden layers."""

BELOW_ONE = (
    "arch.slope", "data.label_noise", "data.test_fraction", "loss.label_smoothing", "optimizer.beta1",
    "optimizer.beta2", "optimizer.momentum", "optimizer.rho", "regularization.dropout", "schedule.rise",
)  # fmt: skip
"""Factors whose values must be below 1: for these, no larger value is suggested."""

NEAR = 0.15
"""Maximum relative change when a suggested value is rounded."""

DECIMALS = 12
"""Two means that agree to so many decimals count as equal."""


class Layout(NamedTuple):
    """The trials of a frame of runs, with the values of numeric factors (the axes) in a frame of their own.

    Attributes
    ----------
    rows
        A frame of runs without the params that are axes, so only categorical factors distinguish its
        configurations. Networks that differ only in width share one `arch`, such as `relu` or `relu 2
        layers`.
    coordinates
        The value of each trial on each axis, in one float64 column per axis; NaN where the axis does not
        apply, such as the batch size of a full batch.
    """

    rows: pd.DataFrame
    coordinates: pd.DataFrame

    @property
    def axes(self) -> list[str]:
        """The names of the numeric factors, which are the columns of `coordinates`."""
        return [str(name) for name in self.coordinates.columns]


@frames.remembered
def layout(runs: pd.DataFrame) -> Layout:
    """Separate the numeric factors of trials, such as `optimizer.lr`, from their other settings.

    A numeric factor is a setting with at least three values among the trials, all of them numbers.
    """
    runs = filters.once(runs)
    rows, values = _without_widths(runs)
    for factor in _numeric_params(rows):
        values[factor] = rows[factor].astype("float64")
    return Layout(rows.drop(columns=values.columns.intersection(rows.columns)), values)


def axes_of(runs: pd.DataFrame) -> list[str]:
    """Return the names of the numeric factors of a frame: params such as `optimizer.lr`, or `hidden units`.

    A param that the architecture, initializer or batching mode determines is not among them, because its
    effect cannot be separated from theirs. A param of one of these options, e.g. `batching.size`, can be one.
    """
    return layout(runs).axes


def _numeric_params(runs: pd.DataFrame) -> list[str]:
    independent = others(runs)
    names = []
    for factor in factors_of(runs):
        option = factor.partition(".")[0]
        numbers = is_numeric_dtype(runs[factor]) and not is_bool_dtype(runs[factor])
        if not numbers or factor in frames.SEEDS or (factor not in independent and option not in AXES):
            continue
        by = list(dict.fromkeys([*AXES, *([option] if option in CHOICES else [])]))
        within = [option] if option in AXES else by
        groups = runs.groupby(within, observed=True, dropna=False)[factor]
        with_missing = runs.assign(missing=runs[factor].isna())
        if int(groups.nunique().max()) >= FEWEST and not varies_within(with_missing, by, "missing"):
            names.append(factor)
    return names


def _without_widths(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give networks that differ only in width one name, and return the trials and their widths.

    Networks with fewer than three different widths keep their names.
    """
    values = pd.DataFrame(index=runs.index)
    if not {"arch.hidden", "arch.activation"} <= {*runs.columns}:
        return runs, values
    shapes = runs[["arch.hidden", "arch.activation"]].astype("str")
    number = group_numbers(shapes, [*shapes.columns])
    distinct = shapes.loc[number.drop_duplicates().sort_values().index].itertuples(index=False, name=None)
    families = [_family(hidden, activation) for hidden, activation in distinct]
    family = pd.Series(pd.array([name for name, _ in families], "str").take(number.to_numpy()), runs.index)
    width = pd.Series(np.array([width for _, width in families], "float64")[number], runs.index)
    wide = width.groupby(family).transform("nunique") >= FEWEST
    if not wide.any():
        return runs, values
    names = runs["arch"].astype("str")
    names = names.mask(wide, family)
    order = dict.fromkeys(names[runs["arch"].sort_values(kind="stable").index])
    arch = names.astype(pd.CategoricalDtype(list(order), ordered=True))
    values[WIDTH] = width.where(wide)
    # `values` has the widths of merged networks, and the names of other networks include theirs.
    return runs.assign(arch=arch).drop(columns="arch.hidden"), values


def _family(hidden: str, activation: str) -> tuple[str | None, float]:
    """Return the name for all networks that differ from this one only in width, and its width.

    The name is None if the layers have different widths.

    >>> _family("[30]", "relu"), _family("[8, 8]", "['relu', 'tanh']"), _family("[8, 4]", "tanh")
    (('relu', 30.0), ('relu+tanh 2 layers', 8.0), (None, nan))
    """
    widths = re.findall(r"\d+", hidden) if isinstance(hidden, str) else []
    if len({*widths}) != 1:
        return None, float("nan")
    names = "+".join(re.findall(r"\w+", activation))
    return names + (f" {len(widths)} layers" if len(widths) > 1 else ""), float(widths[0])


@frames.remembered
def at_best(runs: pd.DataFrame, ranking: Ranking | None = None) -> pd.DataFrame:
    """Return the trials that have the best numeric values, such as the best learning rate, of their cell.

    A cell is a combination of the categorical factors. So `he` at its best learning rate is compared with
    `max` at the best learning rate of `max`. The best value is that with the best mean of the ranking metric
    over its finished seeds; this mean is slightly too high (see the module's docstring). A value with a
    diverged trial is chosen only if every value has a diverged trial. If several values have the same mean,
    the smallest is chosen.

    Returns
    -------
    DataFrame
        Rows of `runs` without the numeric params, so each cell is one configuration in every comparison. Each
        axis has a column `best AXIS` (float64), e.g. `best optimizer.lr`, which is not a param. If there are
        no numeric factors, `runs` itself.

    Examples
    --------
    >>> comparisons.findings(at_best(fnnexp.runs("rates")))  # doctest: +SKIP
    """
    rows, values = separated = layout(runs)
    if not separated.axes:
        return runs
    best = _best(separated, ranking)
    chosen = (values.eq(best) | (values.isna() & best.isna())).all(axis=1)
    return filters.part(rows.assign(**{f"best {axis}": values[axis] for axis in values}), chosen)


def axes_at_best(rows: pd.DataFrame) -> list[str]:
    """Return the numeric factors whose best values a frame from :func:`at_best` has; [] for other frames.

    >>> axes_at_best(pd.DataFrame(columns=["trial", "best optimizer.lr", "best_val_accuracy"]))
    ['optimizer.lr']
    """
    columns = map(str, rows.columns)
    return [column.removeprefix("best ") for column in columns if column.startswith("best ")]


def _cells(rows: pd.DataFrame) -> pd.Series:
    """Return a number for each trial that identifies its cell (its combination of categorical factors)."""
    return group_numbers(rows, factors_of(rows))


def _best(separated: Layout, ranking: Ranking | None = None) -> pd.DataFrame:
    """Return a row for each trial, with the best values of the numeric factors in its cell.

    A cell is a combination of the categorical factors. The values are chosen as :func:`at_best` describes.
    """
    rows, values = separated
    ranking, cell = ranking or ranking_of(rows), _cells(rows).rename("cell")
    scores = values.assign(
        cell=cell,
        score=ranking.goodness(rows[ranking.metric].where(rows["status"] == "finished")),
        diverged=rows["status"] == "diverged",
    )
    by = ["cell", *separated.axes]
    points = scores.groupby(by, dropna=False).agg(score=("score", "mean"), diverged=("diverged", "any"))
    points = points.reset_index()
    points["score"] = -points["score"].round(DECIMALS)
    points["unfinished"] = points["score"].isna()
    points = points.sort_values(["cell", "unfinished", "diverged", "score", *separated.axes], kind="stable")
    best = points.drop_duplicates("cell").set_index("cell")[separated.axes]
    return best.loc[cell].set_axis(rows.index)


def along(runs: pd.DataFrame, *axes: str) -> pd.DataFrame:
    """Return the trials for a curve over the numeric factors `axes`: the other ones have their best values.

    Parameters
    ----------
    axes
        The names of some numeric factors, from :func:`axes_of`.

    Returns
    -------
    DataFrame
        Rows as in :attr:`Layout.rows`. For each of `axes`, a column `at AXIS` has the trial's value. For
        every axis of the frame, a column `best AXIS` has the best value of the trial's cell (combination of
        categorical factors). Trials without a value on one of `axes` are omitted. Empty if no cell has three
        values on each of `axes`, e.g. if the values of all factors were drawn at random.
    """
    rows, values = separated = layout(runs)
    best = _best(separated)
    matches_best = values.eq(best) | (values.isna() & best.isna())
    chosen = matches_best.drop(columns=[*axes]).all(axis=1) & values[[*axes]].notna().all(axis=1)
    counts = values.loc[chosen, [*axes]].groupby(_cells(rows)).nunique()
    chosen &= bool((counts >= FEWEST).all(axis=1).any())
    at = {f"at {axis}": values[axis] for axis in axes} | {f"best {axis}": best[axis] for axis in values}
    return filters.part(rows.assign(**at), chosen)


def at_all_values(runs: pd.DataFrame) -> pd.DataFrame:
    """Return all trials, with their values of the numeric factors in columns `at AXIS`.

    Rows are as in :attr:`Layout.rows`. For every axis (numeric factor), `best AXIS` has the best value of the
    trial's cell (combination of categorical factors).
    """
    rows, values = separated = layout(runs)
    best = _best(separated)
    at = {f"at {axis}": values[axis] for axis in values} | {f"best {axis}": best[axis] for axis in values}
    return rows.assign(**at)


class Optimum(NamedTuple):
    """The best value of one numeric factor, and how the other values compare with it.

    It is the best in one cell: with one option of each categorical factor, such as `init=he`.

    Attributes
    ----------
    options
        The option of each categorical factor in this cell, as tables show it. Factors that are the same in
        all cells are left out.
    tried
        The values that were tried, ascending.
    best, seeds, learned
        The best value, how many seeds finished with it, and whether the network learned with any of them
        (:func:`fnnexp.results.comparisons.failed_to_learn`).
    mean, low, high
        The ranking metric at the best value, and its 95% interval (Student's t; NaN with one seed).
    near
        The best value and the values that may be as good, ascending: no test can tell them apart from it.
        Values at which no seed learned are left out. Empty if no other value has two seeds in common with the
        best value, so that nothing can be tested.
    diverged
        The number of diverged trials at each value at which a trial diverged.
    beyond
        The next value to try, if the best value is the smallest or the largest; NaN if it is neither, or if
        the next value is unknown.
    at_end
        Whether the best value is the smallest or the largest of all that were tried in the cell, whatever the
        other numeric factors were. If configurations are drawn, `tried` may be a small part of these values.
    inseparable, seeds_needed
        How many values have so few seeds that no result could separate them from the best value
        (:func:`fnnexp.results.comparisons.inseparable`), and the smallest number of seeds that could.
    behind
        The values that are worse than the best, but not surely, and by how much: the 95% interval of the
        difference excludes 0, but p is too large after correction for all `pairs`.
    settled_by
        About how many seeds would settle the values of `behind`; 0 if that is unknown.
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
    at_end: bool
    inseparable: int = 0
    seeds_needed: int = 0
    behind: Mapping[float, float] = MappingProxyType({})
    settled_by: int = 0
    pairs: int = 0

    def ranges(self, values: Collection[float]) -> list[tuple[float, float]]:
        """Return the first and last value of each run of adjacent values among some of the tried values."""
        positions = [self.tried.index(value) for value in values]
        starts = [i for i in positions if i - 1 not in positions]
        ends = [i for i in positions if i + 1 not in positions]
        return [(self.tried[i], self.tried[j]) for i, j in zip(starts, ends, strict=True)]


@frames.remembered
def optima(runs: pd.DataFrame, axis: str) -> list[Optimum]:
    """Return the best value of a numeric factor in each cell (combination of categorical factors).

    The cells are in the order of their options, without those that have no result. The best value is compared
    with every other value of the cell, paired by seed, as :func:`fnnexp.results.comparisons.with_leader`
    compares configurations. The best value was picked by looking, so p is corrected for all pairs of the
    cell's values (Holm).
    """
    rows, ends = along(runs, axis), _ends(runs, axis)
    trial = rows["trial"].tolist()
    names, cell = options_of(rows), _cells(rows).to_numpy()
    trials = _Trials.of(rows, axis, frames.ranking(runs))
    order = np.argsort(cell, kind="stable")
    cells = np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)
    return [
        _optimum(trials.at(places), axis, names.iloc[places[0]].to_dict(), ends[trial[places[0]]])
        for places in cells
        if trials.has_result[places].any()
    ]


def _ends(runs: pd.DataFrame, axis: str) -> dict[str, tuple[float, float]]:
    """Return, by trial id, the least and the largest value of a numeric factor that the trial's cell tried.

    A cell is a combination of the categorical factors.
    """
    rows, values = layout(runs)
    tried = values[axis].where(rows["status"].isin((*DONE, PRUNED))).groupby(_cells(rows))
    return dict(
        zip(rows["trial"], zip(tried.transform("min"), tried.transform("max"), strict=True), strict=True)
    )


def options_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each trial's option of each categorical factor, as tables show it, in a column for each factor.

    `rows` come from :func:`at_best` or :func:`along`. Settings of an option, such as the momentum of an
    optimizer, have no column of their own; the option's label includes them.
    """
    varied = {factor.partition(".")[0] for factor in factors_of(rows)}
    labels = {axis: labels_of(rows, axis).astype("str") for axis in AXES if axis in varied}
    texts = {factor: as_texts(rows[factor]) for factor in others(rows)}
    return pd.DataFrame(labels | texts, index=rows.index)


@dataclass(frozen=True)
class _Trials:
    """Trials with several values of a numeric factor (an axis), as arrays with an element for each trial.

    Arrays are used because a frame for each of thousands of cells (combinations of the categorical factors)
    would take minutes.

    Attributes
    ----------
    value, best
        The trials' values on the axis, and the best value of their cell.
    done, diverged
        Whether the trial is finished or diverged, and whether it is diverged.
    metric, has_result
        The ranking metric, NaN for trials that have not finished; and whether the trial has it.
    learned, held_out
        Whether the trial learned, and whether it held out validation rows.
    training
        A number for the trial's training; numerically identical trials have the same number.
    by_metric
        The trials' results for each metric that may rank a cell.
    """

    value: NDArray[np.float64]
    best: NDArray[np.float64]
    done: NDArray[np.bool_]
    diverged: NDArray[np.bool_]
    metric: NDArray[np.float64]
    has_result: NDArray[np.bool_]
    learned: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    training: NDArray[np.intp]
    by_metric: Mapping[str, comparisons.Results]

    @classmethod
    def of(cls, rows: pd.DataFrame, axis: str, metric: str) -> _Trials:
        """Return the trials of a frame from :func:`along` with the numeric factor `axis`.

        `metric` is the column that ranks.
        """
        finished = rows["status"] == "finished"
        values = rows[metric].where(finished).to_numpy(np.float64)
        return cls(
            rows[f"at {axis}"].to_numpy(np.float64),
            rows[f"best {axis}"].to_numpy(np.float64),
            rows["status"].isin(DONE).to_numpy(),
            (rows["status"] == "diverged").to_numpy(),
            values,
            ~np.isnan(values),
            ~comparisons.failed_to_learn(rows).to_numpy(),
            frames.held_out(rows).to_numpy(),
            pd.factorize(rows["identical_to"].fillna(rows["trial"]))[0],
            {name: comparisons.results_of(rows, Ranking(name)) for name in ("val_accuracy", "test_accuracy")},
        )

    def at(self, places: NDArray[Any]) -> _Trials:
        """Return the trials at these places, given as indices or as a mask."""
        arrays = {
            field.name: getattr(self, field.name)[places]
            for field in fields(self)
            if field.name != "by_metric"
        }
        return _Trials(**arrays, by_metric={name: part.at(places) for name, part in self.by_metric.items()})


def _optimum(cell: _Trials, axis: str, options: dict[str, str], ends: tuple[float, float]) -> Optimum:
    """Return the best value of the numeric factor `axis` in one cell, and how other values compare with it.

    `options` are the options of the categorical factors in this cell. `ends` are the smallest and the largest
    value that were tried in it.
    """
    best, tried = float(cell.best[0]), np.unique(cell.value[cell.done]).tolist()
    diverged = Counter(cell.value[cell.diverged].tolist())
    of_best = (cell.value == best) & cell.has_result
    interval = statistics.student_interval(cell.metric[of_best], within=statistics.ACCURACY)
    # A value at which a trial diverged ranks below the best, whatever its mean. So its mean is not compared.
    compared = cell if best in diverged else cell.at(~np.isin(cell.value, [*diverged]))
    others = _against_others(compared, best)
    return Optimum(
        options,
        tried,
        best,
        int(of_best.sum()),
        bool(cell.learned[of_best].any()),
        statistics.mean(cell.metric[of_best]),
        interval.low,
        interval.high,
        others.pop("near"),
        dict(diverged),
        _beyond(tried, best, axis) if best in ends else float("nan"),
        best in ends,
        **others,
    )


def _against_others(cell: _Trials, best: float) -> dict[str, Any]:
    """Compare the best value of a numeric factor with the other values that were tried in one cell.

    Returns
    -------
    dict
        The fields `near`, `inseparable`, `seeds_needed`, `behind` and `settled_by` of :class:`Optimum`; only
        `near` if no other value has two seeds in common with the best.
    """
    metric = "val_accuracy" if len(cell.held_out) and cell.held_out.all() else "test_accuracy"
    results, values = cell.by_metric[metric], np.unique(cell.value[cell.has_result])
    joined: dict[frozenset[tuple[int, int]], list[float]] = {}  # values that train identically
    for value in values.tolist():
        at = cell.value == value
        trainings = frozenset(zip(results.seed[at].tolist(), cell.training[at].tolist(), strict=True))
        joined.setdefault(trainings, []).append(value)
    option = pd.Index([equal[0] for equal in joined.values()]).get_indexer(pd.Index(cell.value))
    chosen = np.flatnonzero((option >= 0) & ~np.isnan(results.metric))
    chosen = chosen[np.argsort(option[chosen], kind="stable")]
    results = results.at(chosen)._replace(option=option[chosen])
    names = [str(i) for i in range(len(joined))]
    pairs = comparisons.best_against_others(names, results, Ranking(metric, MARGIN)) if len(names) > 1 else []
    if not any(pair["seeds"] > 1 for pair in pairs):
        return {"near": []}
    equals = [*joined.values()]
    worse = [value for pair in pairs if pair["verdict"] == "better" for value in equals[int(pair["b"])]]
    worse += _guessing(cell, values, best)
    ahead = [pair for pair in pairs if pair["verdict"] == "open" and pair["low"] > 0]
    behind = {
        value: float(pair["difference"])
        for pair in ahead
        if best in equals[int(pair["a"])]
        for value in equals[int(pair["b"])]
        if value not in worse
    }
    needed = [pair["seeds_needed"] for pair in ahead if not behind.keys().isdisjoint(equals[int(pair["b"])])]
    family = int(pairs[0]["family"])
    return {
        "near": [value for value in values.tolist() if value == best or value not in {*worse, *behind}],
        "inseparable": int(comparisons.inseparable(pd.DataFrame(pairs)).sum()),
        "seeds_needed": statistics.fewest_for_signs(family),
        "behind": {value: behind[value] for value in sorted(behind)},
        "settled_by": 0 if None in needed else max(needed, default=0),
        "pairs": family,
    }


def _guessing(cell: _Trials, values: NDArray[np.float64], best: float) -> list[float]:
    """Return the values of a numeric factor with which no network learned, in two or more finished seeds.

    If some seed of the best value did not learn either, return [].
    """
    learned = {value: cell.learned[(cell.value == value) & cell.has_result] for value in values.tolist()}
    if not learned[best].all():
        return []
    return [value for value, each in learned.items() if len(each) > 1 and not each.any()]


def setting(axis: str, value: float) -> str:
    """Return a value of a numeric factor as text, with the factor's name.

    >>> setting("optimizer.lr", 0.1), setting(WIDTH, 30.0)
    ('optimizer.lr=0.1', '30 hidden units')
    """
    return f"{as_text(value)} {axis}" if axis == WIDTH else f"{axis}={as_text(value)}"


def is_log(values: Sequence[float]) -> bool:
    """Return whether values are spaced by ratios rather than differences, as on a logarithmic axis.

    >>> is_log([0.01, 0.03, 0.1]), is_log([8, 16, 32]), is_log([1, 2, 3]), is_log([0, 0.5, 0.9])
    (True, True, False, False)
    """
    x = np.unique(np.asarray(values, dtype=np.float64))
    if len(x) < FEWEST or x[0] <= 0:
        return False
    by_ratio, by_difference = (np.diff(np.log(x)), np.diff(x))
    return bool(by_ratio.std() / by_ratio.mean() < by_difference.std() / by_difference.mean())


def is_log_beside_zero(values: Sequence[float]) -> bool:
    """Return whether the values are 0 and positive values that are spaced by ratios over a decade or more.

    >>> is_log_beside_zero([0, 1e-5, 1e-4, 1e-2]), is_log_beside_zero([0, 0.1, 0.2, 0.5])
    (True, False)
    """
    zero, *positive = np.unique(np.asarray(values, dtype=np.float64))
    if zero != 0 or len(positive) < 2 or positive[-1] / positive[0] < 10:
        return False
    return len(positive) == 2 or is_log(positive)


def _beyond(values: Sequence[float], best: float, axis: str) -> float:
    """Return the next value to try, if the best value is the smallest or the largest; NaN otherwise.

    The values must be spaced by ratios. The next value continues them, rounded.

    >>> _beyond([0.01, 0.03, 0.1], 0.1, "optimizer.lr"), _beyond([8, 16, 32], 8, "batching.size")
    (0.3, 4.0)
    >>> [_beyond([0.2, 0.4, 0.8], best, "regularization.dropout") for best in (0.2, 0.8)]
    [0.1, nan]
    """
    if best not in (values[0], values[-1]) or not is_log(values):
        return float("nan")
    exact = best * best / (values[1] if best == values[0] else values[-2])
    whole = all(float(value).is_integer() for value in values)
    if whole and (exact < 1 or exact.is_integer()):
        return exact if exact.is_integer() else float("nan")
    rounded = (float(f"{exact:.{digits}g}") for digits in range(1, 17))
    near = next(value for value in rounded if abs(value / exact - 1) <= NEAR)
    if axis in BELOW_ONE and near >= 1:
        return float("nan")
    return float(round(near)) if whole else near
