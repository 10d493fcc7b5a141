"""The layers before and after training, from `diagnostics=true` or `full`: why initializers differ."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fnnexp.errors import plural
from fnnexp.nn.layer_stats import COUNTED
from fnnexp.reporting import averages
from fnnexp.reporting.document.blocks import MOST_ROWS, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import after_stopping, listed
from fnnexp.reporting.figures import Drawing, for_each
from fnnexp.reporting.plots import layers as plots
from fnnexp.reporting.plots import picture
from fnnexp.results import filters, numeric
from fnnexp.results.factors import AXES, as_text, group_numbers, groups, labels_of, others
from fnnexp.results.networks.histograms import averaged
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from fnnexp.reporting.document.blocks import Figure
    from fnnexp.reporting.plots.picture import Picture
    from fnnexp.results.networks.histograms import Histograms, Shares
    from fnnexp.results.ranking import Ranking

AFTER_THE_START = ("optimizer", "epochs")
"""Factors that, like batching, do not affect the untrained network."""

FOLD = 2.0
"""A standard deviation that changes by less than this factor from first to last layer is said to stay."""

NOTED = 0.05
"""Sentences name configurations with at least this share of dead or saturated units in a layer."""

NAMED = 5
"""The largest number of configurations that a sentence names."""

LAYERS = 3
"""If there are more layers than this, only the first, the middle and the last are drawn by epoch."""

MOST_COMBINATIONS = 4
"""The largest number of combinations of other factors that are drawn; diagnostics.csv has the rest."""

MOST_ARCHS = 4
"""The largest number of architectures that are drawn: those with the best trials."""

IDLE = ("dead", "saturated")
"""The quantities that are shares of units with almost no gradient."""


TITLE = "Why"


def section(
    runs: pd.DataFrame,
    diagnostics: pd.DataFrame,
    ranking: Ranking | None = None,
    read: Callable[[Iterable[str]], tuple[Mapping[str, Histograms], Sequence[str]]] | None = None,
) -> Section:
    """Return the section on the layers of these trials; it is empty if no diagnostics were recorded.

    Parameters
    ----------
    runs, diagnostics
        The frame of :func:`fnnexp.runs` or some of its rows, and the frame of :func:`fnnexp.diagnostics`.
    read
        A function that returns the histograms of runs, given their ids, such as
        :func:`fnnexp.results.networks.histograms.of_runs`. If None, no histograms are drawn.
    """
    runs = numeric.at_best(filters.once(runs), ranking)
    points = _points(runs, diagnostics)
    if points.empty:
        return Section(TITLE, [])
    start, end = at_start(runs, points), at_end(runs, points)
    sentences = [*start_sentences(start), *end_sentences(runs, end)]
    if axes := numeric.axes_at_best(runs):
        sentences.insert(0, f"Each option is shown at its own best {' and '.join(axes)}.")
    with_diagnostics = points["trial"].nunique()
    if with_diagnostics < len(runs):
        verb = "was" if with_diagnostics == 1 else "were"
        sentences.append(
            f"Only {with_diagnostics:,} of {len(runs):,} trials {verb} trained with diagnostics."
        )
    tables = [
        _table("Before training, from the first layer to the last", start, SHOWN[:3]),
        _table("After training, from the first layer to the last", end, SHOWN),
    ]
    archs, omitted = best_archs(runs, ranking)
    drawn_runs = runs[labels_of(runs, "arch").isin(archs)]
    drawn, notes, data = ([], [], {}) if read is None else histograms(drawn_runs, read)
    start_and_end = pd.concat([start.assign(when="start"), end.assign(when="end")], ignore_index=True)
    return Section(
        TITLE,
        [
            *map(Text, [*sentences, *notes, *omitted]),
            *figures(drawn_runs, *(part[part["arch"].isin(archs)] for part in (points, start))),
            *drawn,
            *(table for table in tables if table.rows),
        ],
        {"diagnostics": diagnostics, "why": start_and_end, **data},
    )


def best_archs(runs: pd.DataFrame, ranking: Ranking | None = None) -> tuple[list[str], list[str]]:
    """Return the architectures to draw, and a sentence if others are left out."""
    labels = labels_of(runs, "arch")
    archs = [str(name) for name in labels.cat.categories if (labels == name).any()]
    if len(archs) <= MOST_ARCHS:
        return archs, []
    ranking = ranking or ranking_of(runs)
    finished = runs["status"] == "finished"
    goodness = ranking.goodness(runs[ranking.metric]).where(finished)
    best = goodness.groupby(labels, observed=True).max().sort_values(ascending=False, kind="stable")
    return [str(name) for name in best.index[:MOST_ARCHS]], [
        f"The figures show the {MOST_ARCHS} of {len(archs)} architectures with the best trials. The tables "
        "have all, and a report on others (arch=NAME) draws them."
    ]


# The tables


def _points(runs: pd.DataFrame, diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Return the diagnostics with the labels, factors, status and seed of their trials."""
    trials = runs[["trial", "status", "seed", *others(runs)]].copy()
    trials["last_epoch"] = averages.last_epochs(runs)
    for axis in AXES:
        trials[axis] = labels_of(runs, axis)
    points = diagnostics[["trial", "epoch", "layer", "quantity", "value"]]
    points = points.astype({"trial": "str", "quantity": "str"})
    return trials.merge(points, on="trial", how="inner")


def at_start(runs: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Return statistics over seeds for the layers of the untrained networks.

    Returns
    -------
    DataFrame
        A row for each arch, init, layer and quantity, and for each combination of the other factors that
        affect an untrained network. The columns are these; `seeds`, their number; `mean`; `low`, the minimum;
        and `high`, the maximum.
    """
    factors = [factor for factor in others(runs) if factor.partition(".")[0] not in AFTER_THE_START]
    by = [*factors, "arch", "init", "layer", "quantity"]
    distinct = points[points["epoch"] == 0].drop_duplicates([*by, "seed"])
    return _over_seeds(distinct, by)


def at_end(runs: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Return the statistics of :func:`at_start` for finished trials after their last epoch.

    The rows also distinguish the batching modes and all other factors. A trial is skipped if its last epoch
    has no diagnostics.
    """
    ended = (points["status"] == "finished") & (points["epoch"] == points["last_epoch"])
    by = [*others(runs), "arch", "init", "batching", "layer", "quantity"]
    return _over_seeds(points[ended], by)


def _over_seeds(points: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    grouped = points.groupby(list(by), observed=True, dropna=False, sort=True)["value"]
    return grouped.agg(seeds="count", mean="mean", low="min", high="max").reset_index()


# Sentences about the layers


def start_sentences(start: pd.DataFrame) -> list[str]:
    """Return a sentence per architecture on how standard deviations change across layers by initializer."""
    sentences = []
    for arch, part in start.groupby("arch", observed=True):
        if part["layer"].nunique() < 2:
            continue
        forward, back = _folds(part, "z_std", 0, -1), _folds(part, "dz_std", -1, 0)
        sentences.append(
            f"{arch} before training: from the first layer to the last, the standard deviation of "
            f"pre-activations {_trend(forward)}. From the last layer back to the first, that of gradients "
            f"{_trend(back)}."
        )
    return sentences


def _folds(part: pd.DataFrame, quantity: str, begin: int, end: int) -> dict[str, float]:
    """Return, by initializer, the standard deviation of layer `end` divided by that of layer `begin`."""
    means = part[part["quantity"] == quantity]
    table = means.pivot_table(index="init", columns="layer", values="mean", observed=True)
    if table.shape[1] < 2:
        return {}
    folds = table.iloc[:, end] / table.iloc[:, begin]
    return {str(init): float(fold) for init, fold in folds.items() if math.isfinite(fold)}


def _trend(folds: Mapping[str, float]) -> str:
    """Return, in words, with which initializers a standard deviation shrinks, grows or stays.

    >>> _trend({"max": 0.0812, "he": 1.5, "normal": 12.0})
    'shrinks with max (×0.081), grows with normal (×12) and stays within a factor of 2 with he'
    """
    shrinks = [f"{init} (×{fold:.2g})" for init, fold in folds.items() if fold <= 1 / FOLD]
    grows = [f"{init} (×{fold:.2g})" for init, fold in folds.items() if fold >= FOLD]
    stays = [init for init, fold in folds.items() if 1 / FOLD < fold < FOLD]
    verbs = {"shrinks": shrinks, "grows": grows, f"stays within a factor of {FOLD:g}": stays}
    parts = [f"{verb} with {listed(names)}" for verb, names in verbs.items() if names]
    return listed(parts) if parts else "is not known"


def end_sentences(runs: pd.DataFrame, end: pd.DataFrame) -> list[str]:
    """Return sentences on which configurations end with dead or saturated units, and how many do not."""
    sentences = []
    for idle, units in (("dead", "dead ReLUs"), ("saturated", "saturated activations")):
        shares = end[end["quantity"] == idle]
        by = [*others(runs), "arch", "init", "batching"]
        if shares.empty:
            continue
        shares = shares.assign(configuration=group_numbers(shares, by)).sort_values(
            "configuration", kind="stable"
        )
        worst = shares.sort_values("mean", ascending=False, kind="stable").drop_duplicates("configuration")
        noted = worst[worst["mean"] >= NOTED]
        examples = [
            f"{_name(by, [row[name] for name in by])} ({100 * row['mean']:.0f}% of layer {row['layer']})"
            for row in noted.head(NAMED).to_dict("records")
        ]
        more = f" and {len(noted) - NAMED} more" if len(noted) > NAMED else ""
        rest = len(worst) - len(noted)
        under = f"under {100 * NOTED:g}% in every layer of {plural(rest, 'configuration')}"
        if examples:
            sentences.append(
                f"After training, the largest shares of {units} are in {', '.join(examples)}{more}"
                + (f"; the share is {under}." if rest else ".")
            )
        else:
            sentences.append(f"After training, the share of {units} is {under}.")
    return sentences


def _name(by: Sequence[str], key: Sequence[Hashable]) -> str:
    pairs = [(b, as_text(k)) for b, k in zip(by, key, strict=True)]
    values = [value if b in AXES else f"{b}={value}" for b, value in pairs]
    return " ".join([*values[-3:], *values[:-3]])


# Tables and figures


POINT = ("seeds", "mean", "low", "high")
SHOWN = (
    ("sd of pre-activations", ("z_std",)),
    ("sd of gradients", ("dz_std",)),
    ("dead or saturated %", IDLE),
    ("update ratio", ("update_ratio",)),
)
"""The columns of the tables, each with the quantities that it shows."""


def _table(title: str, values: pd.DataFrame, columns: Sequence[tuple[str, tuple[str, ...]]]) -> Table:
    """Return a table of the layers' diagnostics. Each cell lists values from the first layer to the last."""
    by = [column for column in values.columns if column not in (*POINT, "layer", "quantity")]
    rows = []
    parts = values.groupby(by, observed=True, dropna=False, sort=True)
    for key, part in islice(parts, MOST_ROWS):
        row = [Cell(as_text(value)) for value in key]
        row.append(Cell(str(int(part["seeds"].max()))))
        for _, quantities in columns:
            scale = 100 if quantities == IDLE else 1
            layers = part[part["quantity"].isin(quantities)].sort_values("layer")
            row.append(Cell(" → ".join(f"{scale * value:.3g}" for value in layers["mean"]) or "–"))
        rows.append(row)
    head = [*by, "seeds", *(name for name, _ in columns)]
    return Table(title, head, rows, names=len(by), file="why.csv", total=parts.ngroups)


def figures(runs: pd.DataFrame, points: pd.DataFrame, start: pd.DataFrame) -> Iterator[Figure]:
    """Yield the figures of the untrained networks, and the figures by epoch of the finished trials."""
    by = [column for column in start.columns if column not in (*POINT, "layer", "quantity", "arch", "init")]
    activations = _activations(runs)
    drawing = Drawing("at_start", _at_start_caption(start, activations), plots.at_start)
    yield from for_each(_idle_in_percent(start), by, [drawing], most=MOST_COMBINATIONS)
    factors = others(runs)
    finished = points[points["status"] == "finished"]
    idle = " ".join(
        [
            IDLE_BY_EPOCH,
            *_idle_units(finished, activations),
            "The axis ends at the largest share, rounded up.",
        ]
    )
    finished = _idle_in_percent(finished)
    line = [*factors, "arch", "layer", "batching", "init", "quantity"]
    drawn = finished[_drawn_layers(finished)]
    drawn = averages.carried_forward(drawn, runs, line, ["trial", "layer", "quantity"])
    means = _over_seeds(drawn, [*line, "epoch"])
    ratio = " ".join([UPDATE_RATIO_BY_EPOCH, *_about_zeros(means, ("update_ratio",))])
    note = after_stopping(runs)

    def caption(text: str, quantity: str) -> str:
        parts = (part[part["quantity"] == quantity] for part in (drawn, means, finished))
        return _by_epoch_caption(text, *parts) + note

    drawings = [
        Drawing(
            "idle_by_epoch",
            caption(idle, "idle"),
            lambda part: _by_epoch(part, "idle", "dead or saturated %"),
        ),
        Drawing(
            "update_ratio_by_epoch",
            caption(ratio, "update_ratio"),
            lambda part: _by_epoch(part, "update_ratio", "update ratio", log=True),
        ),
    ]
    yield from for_each(means, factors, drawings, most=MOST_COMBINATIONS)


def _by_epoch(part: pd.DataFrame, quantity: str, title: str, *, log: bool = False) -> Picture | None:
    return plots.by_epoch(part[part["quantity"] == quantity], title, log=log)


def _idle_in_percent(points: pd.DataFrame) -> pd.DataFrame:
    """Return the diagnostics with `dead` and `saturated` renamed to `idle`, and their values in percent."""
    idle = points["quantity"].isin(IDLE)
    points = points.assign(quantity=points["quantity"].where(~idle, "idle"))
    for column in ("value", "mean", "low", "high"):
        if column in points:
            points[column] = points[column].where(~idle, 100 * points[column])
    return points


def _drawn_layers(points: pd.DataFrame) -> pd.Series:
    """Return whether each point is drawn.

    If a network has more than :data:`LAYERS` layers, only its first, its middle and its last layer are.
    """
    keys = [points["arch"], points["quantity"]]
    first = points["layer"].groupby(keys, observed=True).transform("min")
    last = points["layer"].groupby(keys, observed=True).transform("max")
    few, layer = last - first < LAYERS, points["layer"]
    return few | (layer == first) | (layer == (first + last) // 2) | (layer == last)


def histograms(
    runs: pd.DataFrame, read: Callable[[Iterable[str]], tuple[Mapping[str, Histograms], Sequence[str]]]
) -> tuple[list[Figure], list[str], dict[str, pd.DataFrame]]:
    """Return the figures of the finished trials' histograms, sentences on them, and their data."""
    finished = runs[runs["status"] == "finished"]
    by_run, reasons = read(finished["run_id"])
    notes = []
    if reasons:
        notes.append(f"The histograms of {plural(len(reasons), 'trial')} can't be read: {reasons[0]}.")
    trials = finished[finished["run_id"].isin(by_run)]
    if trials.empty:
        return [], notes, {}
    trials = trials.assign(**{axis: labels_of(trials, axis) for axis in AXES})
    factors = [*others(runs), "arch", "batching"]
    shown = [
        (values, _options(group, by_run), _outputs_caption(_activations(group)))
        for values, group in islice(groups(trials, factors), MOST_COMBINATIONS)
    ]
    drawn = []
    for i, (values, options, outputs) in enumerate(shown, start=1):
        about = {name: as_text(value) for name, value in zip(factors, values, strict=True)}
        heading = ", ".join(f"{name}={text}" for name, text in about.items())
        for name, quantity, caption in (("outputs", "a", outputs), ("gradients", "dz", GRADIENTS)):
            figure = plots.histograms(options, quantity)
            if figure is not None:
                number = i if len(shown) > 1 else None
                file = f"histograms_of_{name}"
                most = max(each.shares.shape[1] for each in options.values()) - (quantity == "a")
                text = f"{caption} {HIDDEN_LAYERS}" if most > plots.MOST_LAYERS else caption
                drawn.append(picture.block(figure, file, text, heading, number=number, about=about))
    rows = [
        _shares_frame(each, {**dict(zip(factors, values, strict=True)), "init": init})
        for values, options, _ in shown
        for init, each in options.items()
    ]
    return drawn, notes, {"histograms": pd.concat(rows, ignore_index=True)}


def _options(trials: pd.DataFrame, histograms: Mapping[str, Histograms]) -> dict[str, Shares]:
    """Return the average histograms of each initializer at the epochs that a figure shows."""
    options = {}
    for init, ids in islice(trials.groupby("init", observed=True)["run_id"], MOST_INITS):
        shares = averaged([histograms[run_id] for run_id in ids])
        epochs = plots.spread(len(shares.epochs), plots.MOST_EPOCHS)
        options[str(init)] = shares._replace(epochs=shares.epochs[epochs], shares=shares.shares[epochs])
    return options


MOST_INITS = 8
"""The largest number of initializers in a figure of histograms."""

SHARES = ("layer", "quantity", "epoch", "low", "high", "share")


def _shares_frame(shares: Shares, about: Mapping[str, Any]) -> pd.DataFrame:
    """Return the shares of values in the bins of histograms as a frame, a row for each share above 0.

    The first columns have the values in `about`, such as the initializer; those in :data:`SHARES` follow.
    """
    epoch, layer, quantity, column = np.nonzero(shares.shares)
    names = np.array(COUNTED)
    values = (layer + 1, names[quantity], shares.epochs[epoch], shares.low[column], shares.high[column])
    columns = dict(zip(SHARES, (*values, shares.shares[shares.shares > 0]), strict=True))
    return pd.DataFrame({**about, **columns})


def _at_start_caption(start: pd.DataFrame, activations: Collection[str]) -> str:
    """Return the caption of the figure of untrained networks. A handout shows its first sentences."""
    idle = _idle_units(start, activations)
    return " ".join([
        "The untrained networks, layer by layer; the last layer computes the logits.",
        *idle,
        "Pre-activations and gradients: standard deviation over all units and a fixed sample of training"
        " rows; the gradients are those of each row's loss with respect to the pre-activations.",
        *_about_zeros(start, ("z_std", "dz_std")),
        *(["Points are means over seeds, bars their range."] if start["seeds"].max() > 1 else []),
        *(["The axis of dead or saturated units ends at the largest share, rounded up."] if idle else []),
        "Compare Glorot & Bengio (2010).",
    ])  # fmt: skip


def _by_epoch_caption(start: str, drawn: pd.DataFrame, means: pd.DataFrame, finished: pd.DataFrame) -> str:
    """Return the caption of a figure by epoch.

    `drawn` are the points of single trials, and `means` their means, of one quantity; `finished` are the
    points of all its layers.
    """
    over = "Mean and range over the seeds of finished trials." if means["seeds"].max() > 1 else ""
    left_out = {*finished["layer"]} - {*drawn["layer"]}
    layers = (
        "Of more than three layers, only the first, the middle and the last are drawn." if left_out else ""
    )
    return " ".join(filter(None, [start, over, layers]))


BOUNDED = ("tanh", "tanh_as_published", "softsign")

SATURATED: dict[str, Sequence[str]] = {
    "beyond ±0.99": BOUNDED,
    "below 0.01 or above 0.99": ("sigmoid",),
    "within 1% of its lower bound": ("elu", "selu"),
}
"""Where outputs are saturated, with the activations of which this is so."""

ENDS: dict[str, Sequence[str]] = {"±1": BOUNDED, "0 and 1": ("sigmoid",)}
"""The ends of the outputs of activations."""


def _activations(runs: pd.DataFrame) -> set[str]:
    """Return the activations of these trials."""
    texts = runs["arch.activation"].dropna().astype("str").unique()
    return {name for text in texts for name in re.findall(r"\w+", text)}


def _by_activation(places: Mapping[str, Sequence[str]], activations: Collection[str]) -> str:
    """Return the places with those of their activations that occur, and ": " before them; or "".

    >>> _by_activation(ENDS, {"softsign", "sigmoid", "relu"})
    ': ±1 (softsign), 0 and 1 (sigmoid)'
    """
    occurring = {place: [name for name in names if name in activations] for place, names in places.items()}
    parts = [f"{place} ({', '.join(names)})" for place, names in occurring.items() if names]
    return f": {', '.join(parts)}" if parts else ""


def _idle_units(points: pd.DataFrame, activations: Collection[str]) -> list[str]:
    """Return what dead and saturated units are, as far as these points are shares of them."""
    where = _by_activation(SATURATED, activations)
    texts = {
        "dead": "A dead unit is a ReLU that is 0 for every row.",
        "saturated": f"An output is saturated where its activation is almost flat{where}.",
    }
    return [text for quantity, text in texts.items() if (points["quantity"] == quantity).any()]


def _outputs_caption(activations: Collection[str]) -> str:
    """Return the caption of a figure of the outputs of networks with these activations."""
    ends = _by_activation(ENDS, activations)
    off = ", as those of ReLUs that are off" if "relu" in activations else ""
    return "".join([
        "How the outputs of the hidden layers are distributed.",
        f" Saturated units are at the ends{ends}." if ends else "",
        f" The row at 0 of a logarithmic axis has the outputs that are exactly 0{off}.",
        " Compare figures 4 and 6 of Glorot & Bengio (2010).",
        HISTOGRAM,
    ])  # fmt: skip


def _about_zeros(points: pd.DataFrame, quantities: Sequence[str]) -> list[str]:
    """Return a sentence on the logarithmic axis of some quantities, if there are zeros."""
    own = points[points["quantity"].isin(quantities)]
    return [ZEROS] if (own["low"] <= 0).any() else []


ZEROS = "A logarithmic axis cannot show zeros: lines end there, and a range down to 0 ends at the mean."

IDLE_BY_EPOCH = "Share of dead or saturated hidden units by epoch; epoch 0 is the untrained network."
UPDATE_RATIO_BY_EPOCH = (
    "Relative change of a layer's weights in one epoch: ‖W − W₀‖ / ‖W₀‖, where W₀ are the weights before the"
    " epoch."
)
HISTOGRAM = (
    " From left to right: epochs, where 0 is the untrained network. The stronger the colour, the more of the"
    " values of all units, for a fixed sample of training rows; it is fullest from a fifth of the values on."
    " Means over the seeds of finished trials. histograms.csv has the shares, and fnnexp.histograms() every"
    " count. On the page, the pointer shows the values below which a tenth, a half and nine tenths are"
    " (interpolated)."
)
HIDDEN_LAYERS = "Of more than six layers, some are left out."
GRADIENTS = (
    "How large the gradients are, of each row's loss with respect to the pre-activations, without their sign."
    " They vanish if they are smaller in the first layers than in the last. The row at 0 has those that are"
    " exactly 0. Compare figure 7 of Glorot & Bengio (2010)." + HISTOGRAM
)
