"""Figures of the diagnostics: the state of each layer before training and by epoch, and histograms."""

from __future__ import annotations

import textwrap
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.nn.layer_stats import COUNTED
from fnnexp.reporting.plots import layout
from fnnexp.reporting.plots.layout import add_legend, draw_band, in_rows, legend_lines
from fnnexp.reporting.plots.picture import Picture, mark
from fnnexp.reporting.plots.style import INK, SMALLEST, styles_in

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from fnnexp.results.networks.histograms import Shares

HEIGHT, LOW = 1.7, 1.25  # inches of a panel, and of a panel in a figure of three rows or more
TITLE = 40  # characters that fit above a panel of the usual width
NARROW, WIDE = 2.0, 0.42  # inches of each of three panels that fit on a handout, and between their y axes
ASIDE = 0.3  # markers of a layer are spread over this share of the distance of two layers, to not overlap

TOPS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Where an axis of percentages can end. It ends at the first that is not below the values."""

MOST_PANELS = 36
"""The largest number of panels by epoch; diagnostics.csv has the numbers of all."""


class Quantity(NamedTuple):
    """A quantity of untrained networks: its name in the data, its title, and if its axis is logarithmic."""

    name: str
    title: str
    log: bool


START = (
    Quantity("z_std", "sd of pre-activations", True),
    Quantity("dz_std", "sd of gradients", True),
    Quantity("idle", "dead or saturated %", False),
)


def at_start(points: pd.DataFrame) -> Picture | None:
    """Return a figure of how signals and gradients change from layer to layer in untrained networks.

    It has a row of panels for each architecture, and a column for each quantity of :data:`START`. None if
    `points` has none of them.

    Parameters
    ----------
    points
        The columns `arch init quantity layer mean low high`, where arch and init are categories. A row is a
        point in a panel: the mean over seeds and the range of a quantity in a layer.
    """
    columns = [quantity for quantity in START if (points["quantity"] == quantity.name).any()]
    if not columns:
        return None
    of_columns = [points[points["quantity"] == quantity.name] for quantity in columns]
    points = pd.concat(
        _above_zero(part) if quantity.log else part
        for part, quantity in zip(of_columns, columns, strict=True)
    )
    panels = {
        (str(arch), quantity.title): part[part["quantity"] == quantity.name]
        for arch, part in points.rename(columns={"layer": "x"}).groupby("arch", observed=True)
        for quantity in columns
    }
    size = (NARROW, HEIGHT if len(panels) <= 2 * len(columns) else LOW)
    figure, axes = _drawn(panels, len(columns), x_label="layer", gap=WIDE, aside=ASIDE, size=size)
    lines = list(panels.values())
    for column, quantity in enumerate(columns):
        in_column = slice(column, None, len(columns))
        _share_y_axis(axes[in_column], pd.concat(lines[in_column]), quantity.log)
    for i, ax in enumerate(axes):
        last = int(lines[i - i % len(columns)]["x"].max())
        ax.set_xlim(0.5, last + 0.5)
        ax.set_xticks(range(1, last + 1, -(-last // 12)))
        ax.tick_params(labelleft=True)
    return figure


def by_epoch(points: pd.DataFrame, title: str, *, log: bool) -> Picture | None:
    """Return a figure of one quantity by epoch, one panel per architecture × layer × batching mode.

    Parameters
    ----------
    points
        The columns `arch layer batching init epoch mean low high`, of which `arch`, `batching` and `init` are
        categorical.
    title
        The title of the y axis.
    log
        Whether the y axis is logarithmic.
    """
    if points.empty:
        return None
    points = _above_zero(points) if log else points
    groups = points.rename(columns={"epoch": "x"}).groupby(["arch", "layer", "batching"], observed=True)
    panels = {
        (f"{arch} · {batching}", f"layer {layer} · {title}"): part
        for (arch, layer, batching), part in islice(groups, MOST_PANELS)
    }
    batchings = points["batching"].nunique()
    columns = batchings if 1 < batchings <= layout.COLUMNS else min(layout.COLUMNS, len(panels))
    figure, axes = _drawn(panels, columns, y_label=title)
    _share_y_axis(axes, pd.concat(panels.values()), log)
    return figure


def _drawn(
    panels: Mapping[tuple[str, str], pd.DataFrame],
    columns: int,
    *,
    aside: float = 0.0,
    size: tuple[float, float] = (layout.PANEL[0], HEIGHT),
    **options: Any,
) -> layout.Panels:
    """Return a figure with a panel for each frame of `panels`, a line for each initializer, and a legend.

    Parameters
    ----------
    panels
        The points to draw, with the columns `init x mean low high`. The key of a frame has the two parts of
        its title: the network, and what the panel shows.
    columns, size, options
        The number of panels in a row, their size in inches, and further arguments of :func:`layout.panels`.
    aside
        How far the points of one layer are spread along x, so that they do not overlap; 1 is the distance of
        two layers.
    """
    drawn = styles_in(pd.concat(panels.values())["init"])
    titles = _titles(panels, int(TITLE * size[0] / layout.PANEL[0]))
    grid = layout.panels(in_rows(len(panels), columns), titles, len(drawn), size=size, **options)
    at = {"layer": "layer", "epoch": "x"} if not aside else {"layer": "x"}
    for ax, lines in zip(grid.axes, panels.values(), strict=True):
        for i, (name, style) in enumerate(drawn.items()):
            line = lines[lines["init"] == name].sort_values("x")
            if len(line):
                x = line["x"].to_numpy(float) + (aside * ((i + 0.5) / len(drawn) - 0.5))
                quantity = str(line["quantity"].iloc[0])
                draw_band(ax, x, line, style, i, bars=bool(aside), quantity=quantity, at=at)
    add_legend(grid.figure, legend_lines(drawn))
    return grid


def _titles(parts: Collection[tuple[str, str]], fit: int = TITLE) -> list[str]:
    r"""Return the titles of panels, each joined of two parts: the network, then the layer and quantity.

    If a title has more characters than `fit`, all titles have two lines. Names of networks that do not fit on
    a line are cut in the middle.

    >>> _titles([("relu_100 · mini", "layer 1 · update ratio")])
    ['relu_100 · mini · layer 1 · update ratio']
    >>> _titles([("relu_8x100 · sample", "layer 10 · dead or saturated %")])
    ['relu_8x100 · sample\nlayer 10 · dead or saturated %']
    """
    titles = [" · ".join(part) for part in parts]
    if max(map(len, titles)) <= fit:
        return titles
    half = fit // 2 - 1
    short = (name if len(name) <= fit else f"{name[:half]}…{name[-half:]}" for name, _ in parts)
    return [f"{name}\n{shown}" for name, (_, shown) in zip(short, parts, strict=True)]


def _above_zero(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of a quantity for a logarithmic axis: gaps for means of 0, ranges down to the mean.

    The points are unchanged if all means are 0, because then the axis stays linear.
    """
    if not (points["mean"] > 0).any():
        return points
    mean = points["mean"].where(points["mean"] > 0)
    return points.assign(mean=mean, low=points["low"].where(points["low"] > 0, mean))


def _share_y_axis(axes: Sequence[Axes], lines: pd.DataFrame, log: bool) -> None:
    """Give all panels the same y axis.

    If `log`, it is logarithmic and shows the positive values; it stays linear if there are none. Otherwise it
    goes from 0 to a round percentage.
    """
    if not log:
        top = next(each for each in TOPS if each >= min(float(lines["high"].max()), TOPS[-1]))
        for ax in axes:
            ax.set_ylim(-0.04 * top, 1.04 * top)
        return
    positive = lines.loc[lines["mean"] > 0, ["mean", "low", "high"]]
    if positive.empty:
        return
    low = positive["low"].where(positive["low"] > 0, positive["mean"]).min()
    high = positive["high"].max()
    for ax in axes:
        ax.set_ylim(low / 1.5, high * 1.5)  # before set_yscale, which cannot find limits for a panel of zeros
        ax.set_yscale("log")
        ax.tick_params(which="minor", colors=INK, labelleft=False, length=2)


# Histograms

HUE, MOST_SHARE = (0.227, 0.498, 0.835), 0.2
"""The colour of a bin with at least this share of the values. Smaller shares are more transparent, so that a
figure suits light and dark pages."""

MOST_LAYERS, MOST_EPOCHS = 6, 25
"""The largest numbers of layers and of epochs that are drawn, evenly spaced, with the first and the last."""

FAINT = 0.01
"""The largest share of the values of a panel, zeros aside, that may be below the beginning of the axis."""

LINEAR = np.arange(0, 101, 5) / 100
"""The ends of the rows of an axis from 0 to 1."""

TITLES = {"a": "output", "dz": "size of the gradient"}


def histograms(options: Mapping[str, Shares], quantity: str, *, widest: float = 11.0) -> Picture | None:
    """Return a figure of how the values of each layer are distributed, by epoch.

    It has a row of panels for each option, and in it a panel for each layer.

    Parameters
    ----------
    options
        The average histograms of each option, by its name.
    quantity
        `a`, the outputs, which are drawn for hidden layers only; or `dz`, the gradients, drawn without their
        sign.
    widest
        The width of the figure in inches.

    Returns
    -------
    The figure; None if there are no hidden layers to draw.
    """
    layers = spread(next(iter(options.values())).shares.shape[1] - (quantity == "a"), MOST_LAYERS)
    if not layers:
        return None
    parts = {name: _drawn_shares(each, quantity, layers) for name, each in options.items()}
    axis = _axis_of([shares for _, shares in parts.values()], next(iter(options.values())), quantity)
    images = {name: (epochs, axis.rows_of(shares)) for name, (epochs, shares) in parts.items()}
    left, right, top, bottom, gap = 0.85, 0.1, 0.3, 0.45, (0.16, 0.36)
    wide = min((widest - left - right + gap[0]) / len(layers) - gap[0], 2.6)
    width = left + right + len(layers) * (wide + gap[0]) - gap[0]
    height = top + bottom + len(parts) * (HEIGHT + gap[1]) - gap[1]
    figure = Picture(figsize=(width, height), facecolor="none")
    for row, (name, (epochs, image)) in enumerate(images.items()):
        for column, layer in enumerate(layers):
            x, y = left + column * (wide + gap[0]), height - top - HEIGHT - row * (HEIGHT + gap[1])
            ax = figure.add_axes((x / width, y / height, wide / width, HEIGHT / height))
            _draw_histograms(ax, epochs, image[:, column], axis)
            place = f" · layer {layer + 1}"
            short = textwrap.shorten(name, int(15 * wide) - len(place), placeholder=" …")
            title = layout.set_title(ax, f"{short}{place}")
            about = f"{TITLES[quantity]}, layer {layer + 1}"
            values = spreads(epochs, parts[name][1][:, column], options[name], signed=quantity == "a")
            middle = [i + 0.5 for i in range(len(epochs))]
            rows = image.shape[-1]
            mark(ax, [], {"init": name}, about, middle, [rows / 2] * len(middle), values, size=(1, rows),
                 names=[title])  # fmt: skip
            ax.tick_params(labelleft=column == 0, labelbottom=row == len(parts) - 1)
            if row == len(parts) - 1:
                ax.set_xlabel("epoch", color=INK, fontsize=9)
            if column == 0:
                ax.set_ylabel(TITLES[quantity], color=INK, fontsize=9)
    return figure


def spreads(
    epochs: NDArray[np.int32], shares: NDArray[np.float64], bins: Shares, *, signed: bool
) -> dict[str, list[Any]]:
    """Return how the values of a layer are distributed at each epoch, for the page.

    Parameters
    ----------
    shares
        The share of the values that is in each bin (epochs, bins).
    bins
        The ends of the bins.
    signed
        Whether values count with their sign; otherwise their absolute values count.

    Returns
    -------
    dict
        Lists with an item for each epoch: `epoch`; `zeros`, the share of values that are exactly 0; `p10`,
        `median` and `p90`, the quantiles 10%, 50% and 90%, interpolated within a bin.
    """
    both = np.array([bins.low, bins.high]) if signed else np.sort(np.abs([bins.low, bins.high]), axis=0)
    (low, high), own = np.unique(both, axis=1, return_inverse=True)
    shares = shares @ np.eye(len(low))[own]  # without its sign, a bin has the values of two
    low, high = np.where(np.isfinite(low), low, high), np.where(np.isfinite(high), high, low)
    ends = shares.cumsum(axis=1)
    columns: dict[str, list[Any]] = {
        "epoch": epochs.tolist(),
        "zeros": shares[:, (low == 0) & (high == 0)].sum(axis=1).tolist(),
    }
    for name, part in QUANTILES.items():
        at = (ends < part * ends[:, -1:]).sum(axis=1)
        row = np.arange(len(ends))
        own = np.maximum(shares[row, at], 1e-300)
        within = np.clip((part * ends[:, -1] - (ends[row, at] - shares[row, at])) / own, 0, 1)
        columns[name] = (low[at] + within * (high[at] - low[at])).tolist()
    return columns


QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the indices of `count` items, evenly spaced, with the first and the last.

    >>> spread(3, 6), spread(9, 4)
    ([0, 1, 2], [0, 3, 5, 8])
    """
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


class _Axis(NamedTuple):
    """The y axis of a histogram that is drawn as an image: which values each row of the image shows.

    From the bottom, it has ``negative`` rows of negative values, ``zeros`` equal rows of zeros, and rows of
    positive values, which end at ``edges``. If ``zeros`` is 0, zeros are in the first row of positive values.
    ``rows`` (bins, rows) has the weight of each bin in each row.
    """

    edges: NDArray[np.float64]
    zeros: int
    negative: int
    rows: NDArray[np.float64]

    def rows_of(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the image (epochs, layers, rows) of the shares of values in bins (epochs, layers, bins)."""
        drawn: NDArray[np.float64] = shares @ self.rows
        return drawn

    def ticks(self) -> tuple[list[float], list[str]]:
        """Return the positions and labels of the ticks: 0 and powers of ten, or 0, 0.5 and 1."""
        exponents = np.log10(np.maximum(self.edges, 1e-300))
        if self.zeros:
            tens = [i for i, each in enumerate(exponents) if i > 1 and abs(each - round(each)) < 1e-9]
            chosen = tens[:: max(-(-len(tens) // (3 if self.negative else 6)), 1)]
        else:
            chosen = [10, 20]
        start = self.negative + self.zeros
        places = {(self.negative + self.zeros / 2): "0"}
        for i in chosen:
            label = f"{self.edges[i]:g}".replace("e-0", "e-")
            places[start + i] = label
            if self.negative:
                places[self.negative - i] = f"-{label}"
        return [*places], [*places.values()]


def _drawn_shares(
    shares: Shares, quantity: str, layers: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the epochs to draw, and the shares of a quantity (epochs, layers, bins) at these epochs."""
    epochs = spread(len(shares.epochs), MOST_EPOCHS)
    part = shares.shares[:, :, COUNTED.index(quantity)]
    return shares.epochs[epochs], part[np.ix_(epochs, layers)]


def _axis_of(parts: Sequence[NDArray[np.float64]], bins: Shares, quantity: str) -> _Axis:
    """Return one y axis for all panels: linear if they show outputs between −1 and 1, else logarithmic.

    `parts` are the shares of values in the bins of each row of panels, and `bins` has the ends of the bins.
    """
    each = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
    size = np.maximum(np.abs(bins.low), np.abs(bins.high))  # the end of a bin that is farther from 0
    is_zero, is_negative = size == 0, bins.low < 0
    ends = np.unique(size[np.isfinite(size) & ~is_zero])
    signed = quantity == "a" and bool(each[:, is_negative].max() > 0)
    if quantity == "a" and not each[:, size > 1].max() > 0:
        edges, zeros = LINEAR, 0
    else:
        small = np.stack([each[:, (size <= end) & ~is_zero].sum(axis=1) for end in ends], axis=1)
        large = np.stack([each[:, size > end].max(axis=1) for end in ends], axis=1)
        first = max(int((small.max(axis=0) <= FAINT).sum()) - 1, 0)
        last = min(int((large.max(axis=0) > 1e-3).sum()), len(ends) - 1)
        apart = [
            end for end in ends[first : max(last, first + 4) + 1] if not 0.1 < end < 1 or end in QUARTERS
        ]
        edges = np.array(apart)
        zeros = max(1, len(edges) // 8)
    negative = (len(edges) - 1) * signed
    place = np.clip(np.searchsorted(edges, size, side="left") - 1, 0, len(edges) - 2)
    rows = np.zeros((len(size), negative + zeros + len(edges) - 1))
    heights = np.full(len(edges) - 1, 1.0) if not zeros else np.diff(np.log10(edges)) / 0.25
    for i, at in enumerate(place):
        if is_zero[i] and zeros:
            rows[i, negative : negative + zeros] = 1
        elif is_negative[i] and signed:
            rows[i, negative - 1 - at] = 1 / heights[at]
        else:
            rows[i, negative + zeros + at] = 1 / heights[at]
    return _Axis(edges, zeros, negative, rows)


QUARTERS = (0.2, 0.3, 0.55)
"""The ends of the rows of a logarithmic axis between 0.1 and 1, about a quarter of a power of ten apart."""


def _draw_histograms(ax: Axes, epochs: NDArray[np.int32], image: NDArray[np.float64], axis: _Axis) -> None:
    """Draw how one layer's values are distributed: an image (epochs, rows), with epochs along x.

    The larger a share, the more opaque it is.
    """
    alpha = np.sqrt(np.clip(image.T / MOST_SHARE, 0, 1))
    pixels = np.concatenate([np.broadcast_to(HUE, (*alpha.shape, 3)), alpha[..., None]], axis=-1)
    ax.imshow(
        pixels, aspect="auto", origin="lower", interpolation="nearest", extent=(0, len(epochs), 0, len(alpha))
    )
    ax.patch.set_alpha(0)
    ax.spines[:].set_color(INK)
    ax.spines[:].set_alpha(0.4)
    shown = range(0, len(epochs), -(-len(epochs) // 6))
    ax.set_xticks([i + 0.5 for i in shown], [str(epochs[i]) for i in shown])
    ax.set_yticks(*axis.ticks(), parse_math=False)
    ax.tick_params(colors=INK, labelsize=SMALLEST, length=2)
