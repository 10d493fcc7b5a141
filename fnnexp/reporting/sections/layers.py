"""Why: what initializers do to the layers, at the start and at the end, from `diagnostics=true`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.reporting.document.blocks import Cell, Section, Table, Text
from fnnexp.reporting.document.wording import plural
from fnnexp.reporting.figures import Drawing, for_each
from fnnexp.reporting.plots import layers as plots
from fnnexp.results import filters, numeric
from fnnexp.results.factors import AXES, as_text, labels_of, others

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from fnnexp.reporting.document.blocks import Figure
    from fnnexp.reporting.plots.picture import Picture
    from fnnexp.results.ranking import Ranking

AFTER_THE_START = ("optimizer", "epochs")
"""Factors that the untrained network does not depend on; it does not depend on batching either."""

FOLD = 2.0
"""A spread "stays" if it changes by less than this factor between the first layer and the last."""

NOTED = 0.05
"""The least share of dead or saturated units for a configuration to be named."""

NAMED = 5
"""The most configurations that are named."""

LAYERS = 3
"""The most layers that are all drawn by epoch; of more, the first, the middle and the last are."""

MOST_COMBINATIONS = 4
"""The most combinations of other factors that are drawn; diagnostics.csv has the rest."""

IDLE = ("dead", "saturated")


TITLE = "Why"


def section(runs: pd.DataFrame, diagnostics: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section about the layers of these trials; it is empty where nothing was recorded.

    Parameters
    ----------
    runs, diagnostics
        :func:`fnnexp.runs` or some of its rows, and :func:`fnnexp.diagnostics` of the experiment.
    """
    runs = numeric.at_best(filters.once(runs), ranking)
    points = _points(runs, diagnostics)
    if points.empty:
        return Section(TITLE, [])
    start, end = at_start(runs, points), at_end(runs, points)
    sentences = [*start_sentences(start), *end_sentences(runs, end)]
    if axes := numeric.axes_at_best(runs):
        sentences.insert(0, f"Each at its own best {' and '.join(axes)}.")
    with_diagnostics = points["trial"].nunique()
    if with_diagnostics < len(runs):
        sentences.append(
            f"{with_diagnostics} of {len(runs)} trials have diagnostics; the others were trained without."
        )
    tables = [
        _table("At the start, from the first layer to the last", start, SHOWN[:3]),
        _table("At the end, from the first layer to the last", end, SHOWN),
    ]
    start_and_end = pd.concat([start.assign(when="start"), end.assign(when="end")], ignore_index=True)
    return Section(
        TITLE,
        [*map(Text, sentences), *figures(runs, points, start), *(table for table in tables if table.rows)],
        {"diagnostics": diagnostics, "why": start_and_end},
    )


# The tables


def _points(runs: pd.DataFrame, diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Return the diagnostics with their trials' labels, factors, status and seed."""
    about = runs[["trial", "status", "seed", *others(runs)]].copy()
    about["epochs"] = runs.get("epochs", runs.get("best epochs", pd.NA))
    for axis in AXES:
        about[axis] = labels_of(runs, axis)
    points = diagnostics[["trial", "epoch", "layer", "quantity", "value"]]
    points = points.astype({"trial": "str", "quantity": "str"})
    return about.merge(points, on="trial", how="inner")


def at_start(runs: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Return statistics over seeds of the untrained networks' layers.

    Returns
    -------
    DataFrame
        One row a combination of the factors that a start depends on × arch × init × layer × quantity:
        `seeds`, and the `mean`, `low` and `high` over them, the last two the least and the greatest.
    """
    factors = [factor for factor in others(runs) if factor.partition(".")[0] not in AFTER_THE_START]
    by = [*factors, "arch", "init", "layer", "quantity"]
    once = points[points["epoch"] == 0].drop_duplicates([*by, "seed"])
    return _over_seeds(once, by)


def at_end(runs: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Return the same statistics after the last epoch of the finished trials, as :func:`at_start`.

    There is a row for each batching mode and each other factor too. A trial whose diagnostics end before its
    training does is left out.
    """
    ended = (points["status"] == "finished") & (points["epoch"] == points["epochs"])
    by = [*others(runs), "arch", "init", "batching", "layer", "quantity"]
    return _over_seeds(points[ended], by)


def _over_seeds(points: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    grouped = points.groupby(list(by), observed=True, dropna=False, sort=True)["value"]
    return grouped.agg(seeds="count", mean="mean", low="min", high="max").reset_index()


# In sentences


def start_sentences(start: pd.DataFrame) -> list[str]:
    """Return for each architecture with which initializers its spreads grow and shrink layer by layer."""
    sentences = []
    for arch, part in start.groupby("arch", observed=True):
        if part["layer"].nunique() < 2:
            continue
        forward, back = _folds(part, "z_std", 0, -1), _folds(part, "dz_std", -1, 0)
        sentences.append(
            f"{arch} at the start: from the first layer to the last the spread of pre-activations "
            f"{_trend(forward)}. From the last back to the first the spread of gradients {_trend(back)}."
        )
    return sentences


def _folds(part: pd.DataFrame, quantity: str, begin: int, end: int) -> dict[str, float]:
    """Return by initializer the factor from the spread of layer `begin` to that of layer `end`."""
    mine = part[part["quantity"] == quantity]
    table = mine.pivot_table(index="init", columns="layer", values="mean", observed=True)
    if table.shape[1] < 2:
        return {}
    folds = table.iloc[:, end] / table.iloc[:, begin]
    return {str(init): float(fold) for init, fold in folds.items() if math.isfinite(fold)}


def _trend(folds: Mapping[str, float]) -> str:
    """Return with which initializers a spread shrinks, grows and stays.

    >>> _trend({"max": 0.0812, "he": 1.5, "normal": 12.0})
    'shrinks with max (×0.081), grows with normal (×12), stays within a factor of 2 with he'
    """
    shrinks = [f"{init} (×{fold:.2g})" for init, fold in folds.items() if fold <= 1 / FOLD]
    grows = [f"{init} (×{fold:.2g})" for init, fold in folds.items() if fold >= FOLD]
    keeps = [init for init, fold in folds.items() if 1 / FOLD < fold < FOLD]
    verbs = {"shrinks": shrinks, "grows": grows, f"stays within a factor of {FOLD:g}": keeps}
    parts = [f"{verb} with {', '.join(names)}" for verb, names in verbs.items() if names]
    return ", ".join(parts) or "is not known"


def end_sentences(runs: pd.DataFrame, end: pd.DataFrame) -> list[str]:
    """Return which configurations end with units that are dead or saturated, and how many do not."""
    sentences = []
    for idle, units in (("dead", "dead ReLUs"), ("saturated", "saturated activations")):
        mine = end[end["quantity"] == idle]
        by = [*others(runs), "arch", "init", "batching"]
        worst = []
        for key, part in mine.groupby(by, observed=True, dropna=False):
            top = part.sort_values("mean", ascending=False, kind="stable").to_dict("records")[0]
            worst.append((float(top["mean"]), _name(by, key), int(top["layer"])))
        if not worst:
            continue
        noted = sorted((each for each in worst if each[0] >= NOTED), key=lambda each: -each[0])
        examples = [f"{name} ({100 * share:.0f}% of layer {layer})" for share, name, layer in noted[:NAMED]]
        more = f" and {len(noted) - NAMED} more" if len(noted) > NAMED else ""
        rest = len(worst) - len(noted)
        under = f"under {100 * NOTED:g}% in every layer of {plural(rest, 'configuration')}"
        if examples:
            sentences.append(
                f"At the end the largest shares of {units} are those of {', '.join(examples)}{more}"
                + (f"; it is {under}." if rest else ".")
            )
        else:
            sentences.append(f"At the end the share of {units} is {under}.")
    return sentences


def _name(by: Sequence[str], key: Sequence[Hashable]) -> str:
    pairs = [(b, as_text(k)) for b, k in zip(by, key, strict=True)]
    values = [value if b in AXES else f"{b}={value}" for b, value in pairs]
    return " ".join([*values[-3:], *values[:-3]])


# As tables and figures


POINT = ("seeds", "mean", "low", "high")
SHOWN = (
    ("spread of pre-activations", ("z_std",)),
    ("spread of gradients", ("dz_std",)),
    ("dead or saturated %", IDLE),
    ("update ratio", ("update_ratio",)),
)
"""The columns of the tables, and the quantities in each."""


def _table(title: str, values: pd.DataFrame, columns: Sequence[tuple[str, tuple[str, ...]]]) -> Table:
    """Return networks as shown, a cell's values from the first layer to the last."""
    by = [column for column in values.columns if column not in (*POINT, "layer", "quantity")]
    rows = []
    for key, part in values.groupby(by, observed=True, dropna=False, sort=True):
        row = [Cell(as_text(value)) for value in key]
        row.append(Cell(str(int(part["seeds"].max()))))
        for _, quantities in columns:
            scale = 100 if quantities == IDLE else 1
            mine = part[part["quantity"].isin(quantities)].sort_values("layer")
            row.append(Cell(" → ".join(f"{scale * value:.3g}" for value in mine["mean"]) or "–"))
        rows.append(row)
    return Table(title, [*by, "seeds", *(name for name, _ in columns)], rows, names=len(by))


def figures(runs: pd.DataFrame, points: pd.DataFrame, start: pd.DataFrame) -> Iterator[Figure]:
    """Yield the figures of the start, and of what becomes of it by epoch in the finished trials."""
    by = [column for column in start.columns if column not in (*POINT, "layer", "quantity", "arch", "init")]
    drawing = Drawing("at_start", AT_START, plots.at_start)
    yield from for_each(_idle_in_percent(start), by, [drawing], most=MOST_COMBINATIONS)
    beside = others(runs)
    finished = _idle_in_percent(points[points["status"] == "finished"])
    by = [*beside, "arch", "layer", "batching", "init", "quantity", "epoch"]
    means = _over_seeds(finished[_drawn_layers(finished)], by)
    drawings = [
        Drawing("idle_by_epoch", IDLE_BY_EPOCH, lambda part: _by_epoch(part, "idle", "dead or saturated %")),
        Drawing(
            "update_ratio_by_epoch",
            UPDATE_RATIO_BY_EPOCH,
            lambda part: _by_epoch(part, "update_ratio", "update ratio", log=True),
        ),
    ]
    yield from for_each(means, beside, drawings, most=MOST_COMBINATIONS)


def _by_epoch(part: pd.DataFrame, quantity: str, title: str, *, log: bool = False) -> Picture | None:
    return plots.by_epoch(part[part["quantity"] == quantity], title, log=log)


def _idle_in_percent(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points with dead and saturated as one quantity, `idle`, in percent."""
    idle = points["quantity"].isin(IDLE)
    points = points.assign(quantity=points["quantity"].where(~idle, "idle"))
    for column in ("value", "mean", "low", "high"):
        if column in points:
            points[column] = points[column].where(~idle, 100 * points[column])
    return points


def _drawn_layers(points: pd.DataFrame) -> pd.Series:
    """Return which points are of layers that are drawn: the first, the middle and the last of many."""
    of = [points["arch"], points["quantity"]]
    first = points["layer"].groupby(of, observed=True).transform("min")
    last = points["layer"].groupby(of, observed=True).transform("max")
    few, layer = last - first < LAYERS, points["layer"]
    return few | (layer == first) | (layer == (first + last) // 2) | (layer == last)


AT_START = (
    "The untrained networks, layer by layer (the last one makes the logits): standard deviation of"
    " pre-activations and of the gradients of single rows' losses with respect to them, over a fixed probe of"
    " training rows and all units, and the share of hidden units that are dead (ReLU: 0 for every row) or"
    " saturated (tanh beyond ±0.99, sigmoid below 0.01 or above 0.99, over units and rows). A point is the"
    " mean over seeds, its bar their range. Compare Glorot & Bengio (2010)."
)
IDLE_BY_EPOCH = (
    "Share of dead (ReLU) or saturated (tanh, sigmoid) hidden units by epoch, 0 being the untrained network:"
    " mean and range over seeds, of finished trials. Of more than three layers the first, middle and last."
)
UPDATE_RATIO_BY_EPOCH = (
    "How far an epoch moved a layer's weights, relative to them: ‖W − W₀‖ / ‖W₀‖ with W₀ from before it."
    " Mean and range over seeds, of finished trials. What is 0 has no place on a logarithmic axis."
)
