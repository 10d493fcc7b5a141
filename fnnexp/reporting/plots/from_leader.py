"""The figure of the answer: how every other configuration differs from the leader."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fnnexp.reporting.plots.layout import add_legend
from fnnexp.reporting.plots.picture import Picture, mark
from fnnexp.reporting.plots.style import COLOURS, GREY, INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from fnnexp.results.comparisons import Findings
    from fnnexp.results.ranking import Ranking

MOST_ROWS = 12
"""The largest number of configurations that are drawn; the closest to the leader are chosen."""

MOST_TICKS = 200
"""With more seeds than this, seeds get no ticks: they would be a grey bar and take megabytes of SVG."""

LONGEST_NAME = 48
"""Maximum number of characters of a configuration's name; longer names are cut in the middle."""

WIDTH, ROW, TOP, BOTTOM, LETTER = 8.2, 0.27, 0.35, 0.8, 0.072  # inches

VERDICTS = {"better": "worse than the leader", "equivalent": "equivalent to the leader", "open": "open"}
STROKES: dict[str, dict[str, Any]] = {
    "better": {"color": GREY, "marker": "o"},
    "equivalent": {"color": COLOURS[0], "marker": "D"},
    "open": {"color": COLOURS[1], "marker": "s"},
}


def from_leader(findings: Findings) -> Picture | None:
    """Return a figure of each configuration's difference from the leader, with its interval and its seeds.

    Differences are paired by seed; those of accuracies are in percentage points. The shaded band is the
    equivalence margin. None if no other configuration shares a seed with the leader.
    """
    leader = next((each for each in findings.configurations if len(each.metric)), None)
    pairs = findings.with_leader[findings.with_leader["seeds"] > 0]
    if leader is None or pairs.empty:
        return None
    ranking, margin = findings.ranking, findings.ranking.margin or 0.0
    by_name = {each.name: each for each in findings.configurations}
    against = pairs["b"].where(pairs["a"] == leader.name, pairs["a"])
    # Omit configurations that did not learn: with them on the axis, the others look alike.
    failed = against.map(lambda name: bool(by_name[name].failed.all()))
    pairs = pairs[~failed] if not failed.all() else pairs
    rows = pairs.head(MOST_ROWS).to_dict("records")
    others = [row["b"] if row["a"] == leader.name else row["a"] for row in rows]
    names = [_short(name) for name in (leader.name, *others)]
    left = 0.25 + LETTER * max(map(len, names))
    high = TOP + BOTTOM + ROW * len(names)
    figure = Picture(figsize=(WIDTH, high), facecolor="none")
    ax = figure.add_axes((left / WIDTH, BOTTOM / high, 1 - (left + 0.2) / WIDTH, ROW * len(names) / high))
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
        values = {column: [row[column]] for column in ("difference", "low", "high", "p_corrected")}
        about = f"{ranking.metric} of {row['a']} minus that of {row['b']}"
        mark(ax, artists, by_name[name].levels, about, [sign * row["difference"]], [y], values,
             names=labels[y : y + 1])  # fmt: skip
    omitted = [
        f"{n:,} {text}"
        for n, text in (
            (len(pairs) - len(rows), "further from the leader"),
            (int(failed.sum()) * (not failed.all()), "that did not learn"),
        )
        if n
    ]
    _set_limits(ax, drawn, intervals)
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
    return figure


def _side(text: str, left: float) -> Literal["left", "right"]:
    """Return the side of the axes to align a text to: left, but right if it is wider than the axes."""
    return "left" if len(text) * LETTER <= WIDTH - left else "right"


def _label(ax: Axes, names: Sequence[str], ranking: Ranking, left: float) -> None:
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), names, color=INK, fontsize=9, parse_math=False)
    ax.tick_params(axis="both", colors=INK, labelsize=8.5, length=0)
    ax.xaxis.set_major_locator(MaxNLocator(7))
    ax.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    unit = " in percentage points" if ranking.is_accuracy else f" in {ranking.unit}" if ranking.unit else ""
    sign = "" if ranking.is_accuracy else " (positive is better)"
    text = f"difference in {ranking.metric} from the leader{unit}, paired by seed{sign}"
    side: Literal["center", "right"] = "center" if _side(text, left) == "left" else "right"
    ax.set_xlabel(text, color=INK, fontsize=9, loc=side, parse_math=False)


def _set_limits(ax: Axes, drawn: Sequence[float], intervals: Sequence[tuple[int, float, float, str]]) -> None:
    """Set limits that show all points, and mark with an arrow each interval that reaches beyond the axis.

    Intervals may be cut because an interval of two seeds can be as wide as the whole range of accuracies.
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


def _short(name: str) -> str:
    """Return a name, cut in the middle if it is too long for a label."""
    half = LONGEST_NAME // 2 - 1
    return name if len(name) <= LONGEST_NAME else f"{name[:half]} … {name[-half:]}"


def caption(pairs: pd.DataFrame) -> str:
    """Return the caption of the figure of differences from the leading configuration."""
    most = int(pairs["seeds"].max()) if len(pairs) else 0
    ticks = f", and below it a tick for each seed that both have, {most} at most"
    if most > MOST_TICKS:
        ticks = f" over the seeds that both have, {most:,} at most (with up to {MOST_TICKS}, each has a tick)"
    return (
        f"Difference of each configuration from the leader: the mean with its 95% interval{ticks}. An arrow "
        "marks an interval that is cut. Differences in the shaded band are too small to matter. "
        "leader.csv has all differences."
    )
