"""The figure of the answer: how every other configuration differs from the leader."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fnnexp.reporting.document.wording import points
from fnnexp.reporting.plots.layout import add_legend
from fnnexp.reporting.plots.picture import Picture, mark
from fnnexp.reporting.plots.style import COLOURS, GREY, INK, SMALLEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Text

    from fnnexp.results.comparisons import Configuration, Findings
    from fnnexp.results.ranking import Ranking

MOST_ROWS = 12
"""The largest number of configurations that are drawn; the closest to the leader are chosen."""

LEAST_AT_EDGE = 3
"""So many configurations that did not learn or have no result are drawn even if the others fill the rows."""

MOST_TICKS = 200
"""With more seeds than this, seeds get no ticks: they would be a grey bar and take megabytes of SVG."""

LONGEST_NAME = 48
"""Maximum number of characters of a configuration's name; longer names are cut in the middle."""

WIDTH, ROW, TOP, BOTTOM, LETTER = 7.8, 0.27, 0.35, 0.72, 0.072  # inches; it fits on a handout
DENSE, FEW = 0.22, 8  # the height of a row if there are more rows than `FEW`
NO_TITLE = 0.08  # the height above the rows if no title is there

VERDICTS = {"better": "worse than the leader", "equivalent": "equivalent to the leader", "open": "open"}
STROKES: dict[str, dict[str, Any]] = {
    "better": {"color": GREY, "marker": "o"},
    "equivalent": {"color": COLOURS[0], "marker": "D"},
    "open": {"color": COLOURS[1], "marker": "s"},
}


class FromLeader(NamedTuple):
    """A figure of how every other configuration differs from the best one (the leader), and its caption."""

    figure: Picture
    caption: str


def from_leader(findings: Findings) -> FromLeader | None:
    """Return a figure of how every other configuration differs from the best one, the leader.

    A row shows the mean difference of one configuration from the leader, its 95% interval, and a tick for the
    difference in each seed. Differences of accuracies are in percentage points. A shaded band shows the
    margin within which configurations are equivalent.

    Configurations that did not learn, or that have no result, have a text at the edge instead of a point: on
    the axis, their large differences would make all others look alike. Return None if no other configuration
    shares a seed with the leader.
    """
    leader = next((each for each in findings.configurations if len(each.metric)), None)
    pairs = findings.with_leader[findings.with_leader["seeds"] > 0]
    if leader is None or pairs.empty:
        return None
    ranking, margin = findings.ranking, findings.ranking.margin or 0.0
    by_name = {each.name: each for each in findings.configurations}
    against = pairs["b"].where(pairs["a"] == leader.name, pairs["a"])
    failed = against.map(lambda name: bool(by_name[name].failed.all()))
    failed &= not failed.all()  # then the axis is theirs
    rows = pairs[~failed].head(MOST_ROWS).to_dict("records")
    others = [row["b"] if row["a"] == leader.name else row["a"] for row in rows]
    at_edge = _at_edge(pairs[failed], leader, findings)
    drawn_at_edge = dict(islice(at_edge.items(), max(MOST_ROWS - len(rows), LEAST_AT_EDGE)))
    names = [_short(name) for name in (leader.name, *others, *drawn_at_edge)]
    omitted = [
        f"{n:,} {text}"
        for n, text in (
            (len(pairs) - int(failed.sum()) - len(rows), "further from the leader"),
            (len(at_edge) - len(drawn_at_edge), "without a result or without learning"),
        )
        if n
    ]
    left = 0.25 + LETTER * max(map(len, names))
    tall = len(names) * (ROW if len(names) <= FEW else DENSE)
    high = (TOP if omitted else NO_TITLE) + BOTTOM + tall
    figure = Picture(figsize=(WIDTH, high), facecolor="none")
    ax = figure.add_axes((left / WIDTH, BOTTOM / high, 1 - (left + 0.2) / WIDTH, tall / high))
    ax.patch.set_alpha(0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(INK)
    ax.axvspan(-margin, margin, color=INK, alpha=0.07, linewidth=0)
    ax.axvline(0, color=INK, linewidth=0.8)
    _label(ax, names, ranking, left)
    labels = ax.get_yticklabels()
    at_zero = ax.plot([0], [0], linestyle="", marker="o", color=INK, markersize=6)
    about = f"{ranking.metric} of {leader.name}, the leader"
    mark(ax, at_zero, leader.levels, about, [0], [0], {"difference": [0.0]}, names=labels[:1])
    drawn: list[float] = [-margin, margin]
    intervals: list[tuple[int, float, float, str]] = []
    for y, (row, name) in enumerate(zip(rows, others, strict=True), start=1):
        sign = -ranking.scale if row["a"] == leader.name else ranking.scale
        stroke = STROKES[row["verdict"] if sign < 0 or row["verdict"] != "better" else "open"]
        gains = ranking.goodness(by_name[name].metric) - ranking.goodness(leader.metric)
        seeds = ranking.scale * gains.dropna().to_numpy(float)
        seeds = seeds if len(seeds) <= MOST_TICKS else seeds[:0]
        drawn += [*seeds, sign * row["difference"]]
        ticks = np.full(len(seeds), y + 0.22)
        artists = ax.plot(seeds, ticks, "|", color=stroke["color"], alpha=0.55, markersize=5)
        ends = sign * row["low"], sign * row["high"]
        intervals += [(y, min(ends), max(ends), stroke["color"])] if not math.isnan(ends[0]) else []
        artists += ax.plot(ends, [y, y], color=stroke["color"], linewidth=1.6)
        artists += ax.plot([sign * row["difference"]], [y], linestyle="", markersize=6, **stroke)
        _mark_pair(ax, artists, by_name[name].levels, row, sign, y, ranking, labels)
    are_cut = _set_limits(ax, drawn, intervals)
    for y, (name, edge) in enumerate(drawn_at_edge.items(), start=1 + len(rows)):
        written = _draw_at_edge(ax, y, edge)
        if edge.row is not None:
            _mark_pair(ax, [written], by_name[name].levels, edge.row, edge.sign, y, ranking, labels)
    if omitted:
        text = f"not drawn: {', '.join(omitted)}"
        ax.set_title(text, color=INK, fontsize=9, loc=_side(text, left), parse_math=False)
    verdicts = {row["verdict"] for row in rows}
    entries: dict[str, Any] = {
        text: Line2D([], [], linewidth=1.6, markersize=6, **STROKES[verdict])
        for verdict, text in VERDICTS.items()
        if verdict in verdicts
    }
    band = {f"±{margin:g} {ranking.unit}".rstrip(): Patch(color=INK, alpha=0.07)} if margin else {}
    add_legend(figure, entries | band)
    broken = any(edge.row is not None for edge in drawn_at_edge.values())
    return FromLeader(figure, _caption(pairs, are_cut=are_cut, broken=broken, has_margin=bool(band)))


class _Edge(NamedTuple):
    """A text at the edge of the axis, for a configuration that did not learn or has no result.

    `row` is the row of its comparison with the leader, None if it has no result. `sign` is negative if the
    text is at the left edge, as for a configuration that is behind.
    """

    text: str
    row: dict[Any, Any] | None = None
    sign: float = -1.0


def _at_edge(failed: pd.DataFrame, leader: Configuration, findings: Findings) -> dict[str, _Edge]:
    """Return the texts at the edge of the axis, by the name of the configuration.

    They are for configurations that did not learn, whose pairs with the leader are `failed`, and for those
    without a finished trial, except those that a search pruned.
    """
    edges = {}
    for row in failed.to_dict("records"):
        is_behind = row["a"] == leader.name
        sign = -findings.ranking.scale if is_behind else findings.ranking.scale
        difference = points(math.copysign(row["difference"], sign), findings.ranking)
        edges[row["b"] if is_behind else row["a"]] = _Edge(f"{difference}: did not learn", row, sign)
    without = [each for each in findings.configurations if not len(each.metric) and not each.pruned]
    return edges | {each.name: _Edge("no trial finished") for each in without}


def _draw_at_edge(ax: Axes, y: int, edge: _Edge) -> Text:
    """Write a text at the edge of the axis, with an arrow if it names a difference, and return the text."""
    on_left = edge.sign < 0
    x, side = (0.02, "left") if on_left else (0.98, "right")
    if edge.row is not None:
        place: dict[str, Any] = {"marker": "<" if on_left else ">", "clip_on": False}
        ax.scatter([ax.get_xlim()[0 if on_left else 1]], [y], s=36, color=GREY, **place)
    style: dict[str, Any] = {"color": INK, "fontsize": SMALLEST, "va": "center", "ha": side}
    return ax.text(x, y, edge.text, transform=ax.get_yaxis_transform(), parse_math=False, **style)


def _mark_pair(
    ax: Axes,
    artists: Sequence[Artist],
    levels: Mapping[str, str],
    row: Mapping[Any, Any],
    sign: float,
    y: int,
    ranking: Ranking,
    labels: Sequence[Artist],
) -> None:
    """Record what a row of the figure shows, for the page, which shows it beside the pointer.

    Parameters
    ----------
    ax, artists, labels
        The axes, what is drawn in this row, and the labels of all rows.
    levels, row
        The options of the configuration, and the row of its comparison with the leader.
    sign
        The factor from the difference in `row` to the drawn one: negative if the configuration is behind.
    y
        The number of the row, from 0.
    ranking
        The metric that ranks.
    """
    values = {column: [row[column]] for column in ("difference", "low", "high", "p_corrected")}
    about = f"{ranking.metric} of {row['a']} minus that of {row['b']}"
    mark(ax, artists, levels, about, [sign * row["difference"]], [y], values, names=labels[y : y + 1])


def _side(text: str, left: float) -> Literal["left", "right"]:
    """Return the side to which a text below the axes is aligned: "right" if it is wider than the axes.

    `left` is the width of the margin left of the axes, in inches.
    """
    return "left" if len(text) * LETTER <= WIDTH - left else "right"


def _label(ax: Axes, names: Sequence[str], ranking: Ranking, left: float) -> None:
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), names, color=INK, fontsize=9, parse_math=False)
    ax.tick_params(axis="both", colors=INK, labelsize=8.5, length=0)
    ax.tick_params(axis="y", pad=7)  # room for an arrow at the edge
    ax.xaxis.set_major_locator(MaxNLocator(7))
    ax.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    unit = " in percentage points" if ranking.is_accuracy else f" in {ranking.unit}" if ranking.unit else ""
    sign = "" if ranking.is_accuracy else " (positive is better)"
    text = f"difference in {ranking.metric} from the leader{unit}, paired by seed{sign}"
    side: Literal["center", "right"] = "center" if _side(text, left) == "left" else "right"
    ax.set_xlabel(text, color=INK, fontsize=9, loc=side, parse_math=False)


def _set_limits(ax: Axes, drawn: Sequence[float], intervals: Sequence[tuple[int, float, float, str]]) -> bool:
    """Set the limits of the x axis so that it shows all points, and return whether an interval is cut.

    Very wide intervals are cut and get an arrow: an interval of two seeds can be as wide as all accuracies.

    Parameters
    ----------
    drawn
        The x of all points.
    intervals
        The row (y), the ends and the colour of each interval.
    """
    least, most = min(drawn), max(drawn)
    room = (most - least) or 1.0
    low = max(least - room, min([least, *(start for _, start, _, _ in intervals)])) - 0.06 * room
    high = min(most + room, max([most, *(end for _, _, end, _ in intervals)])) + 0.06 * room
    ax.set_xlim(low, high)
    for y, start, end, color in intervals:
        for is_cut, x, arrow in ((start < low, low, "<"), (end > high, high, ">")):
            if is_cut:
                ax.scatter([x], [y], s=36, marker=arrow, color=color, clip_on=False)
    return any(start < low or end > high for _, start, end, _ in intervals)


def _short(name: str) -> str:
    """Return the name of a configuration as a label, with ` … ` for its middle if it is too long."""
    half = LONGEST_NAME // 2 - 1
    return name if len(name) <= LONGEST_NAME else f"{name[:half]} … {name[-half:]}"


def _caption(pairs: pd.DataFrame, *, are_cut: bool, broken: bool, has_margin: bool) -> str:
    """Return the caption of the figure, which explains only what this figure shows.

    Parameters
    ----------
    pairs
        The comparisons with the leader that are drawn.
    are_cut, broken, has_margin
        Whether intervals are cut, whether there are texts at the edge, and whether there is a shaded band.
    """
    most = int(pairs["seeds"].max()) if len(pairs) else 0
    ticks = f", and below it a tick for each seed that both have, {most} at most"
    if most > MOST_TICKS:
        ticks = f" over the seeds that both have, {most:,} at most (with up to {MOST_TICKS}, each has a tick)"
    interval = "the mean with its 95% interval" if most > 1 else "the mean"
    sentences = {
        f"Difference of each configuration from the leader: {interval}{ticks}.": True,
        "An arrow marks an interval that is cut.": are_cut,
        "A configuration that did not learn is beyond the edge, where its difference is written.": broken,
        "Differences in the shaded band are too small to matter.": has_margin,
        "All differences are in leader.csv.": True,
    }
    return " ".join(sentence for sentence, is_shown in sentences.items() if is_shown)
