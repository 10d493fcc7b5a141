"""How far every other configuration is from the leader: the figure of the answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fnnexp.reporting.plots.layout import add_legend, set_title
from fnnexp.reporting.plots.picture import Picture
from fnnexp.reporting.plots.style import COLOURS, INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from fnnexp.results.comparisons import Findings
    from fnnexp.results.ranking import Ranking

MOST_ROWS = 12
"""The most configurations that are drawn beside the leader: those nearest to it."""

LONGEST_NAME = 48
"""Characters of a configuration's name; the middle of a longer one is left out."""

WIDTH, ROW, TOP, BOTTOM, LETTER = 8.2, 0.27, 0.35, 0.95, 0.072  # inches

VERDICTS = {"better": "worse than the leader", "equivalent": "as good within the margin", "open": "open"}
STROKES: dict[str, dict[str, Any]] = {
    "better": {"color": COLOURS[7], "marker": "o"},
    "equivalent": {"color": COLOURS[0], "marker": "D"},
    "open": {"color": COLOURS[1], "marker": "s"},
}


def from_leader(findings: Findings) -> Picture | None:
    """Return each configuration's difference from the leader with its interval, and that of each seed.

    Differences are paired by seed, of accuracies in percentage points; the shaded band is the margin. None
    if no other configuration has a seed in common with the leader.
    """
    leader = next((each for each in findings.configurations if len(each.metric)), None)
    pairs = findings.with_leader[findings.with_leader["seeds"] > 0]
    if leader is None or pairs.empty:
        return None
    ranking, margin = findings.ranking, findings.ranking.margin or 0.0
    by_name = {each.name: each for each in findings.configurations}
    against = pairs["b"].where(pairs["a"] == leader.name, pairs["a"])
    lost = against.map(lambda name: bool(by_name[name].failed.all()))  # their axis would hide the others
    pairs = pairs[~lost] if not lost.all() else pairs
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
    ax.plot([0], [0], linestyle="", marker="o", color=INK, markersize=6)
    drawn: list[float] = [-margin, margin]
    intervals: list[tuple[int, float, float, str]] = []
    for y, (row, name) in enumerate(zip(rows, others, strict=True), start=1):
        sign = -ranking.scale if row["a"] == leader.name else ranking.scale
        stroke = STROKES[row["verdict"] if sign < 0 or row["verdict"] != "better" else "open"]
        gains = ranking.goodness(by_name[name].metric) - ranking.goodness(leader.metric)
        seeds = ranking.scale * gains.dropna().to_numpy(float)
        drawn += [*seeds, sign * row["difference"]]
        ax.plot(seeds, np.full(len(seeds), y + 0.22), "|", color=stroke["color"], alpha=0.55, markersize=5)
        ends = sign * row["low"], sign * row["high"]
        intervals += [(y, min(ends), max(ends), stroke["color"])] if not math.isnan(ends[0]) else []
        ax.plot(ends, [y, y], color=stroke["color"], linewidth=1.6)
        ax.plot([sign * row["difference"]], [y], linestyle="", markersize=6, **stroke)
    left_out = [
        f"{n} {text}"
        for n, text in (
            (len(pairs) - len(rows), "further from the leader"),
            (int(lost.sum()) * (not lost.all()), "did not learn"),
        )
        if n
    ]
    _label(ax, names, ranking, leader.name)
    _set_limits(ax, drawn, intervals)
    if left_out:
        set_title(ax, f"not drawn: {', '.join(left_out)} (leader.csv has all)")
    there = dict.fromkeys(row["verdict"] for row in rows)
    entries: dict[str, Any] = {
        text: Line2D([], [], linewidth=1.6, markersize=6, **STROKES[each])
        for each, text in VERDICTS.items()
        if each in there
    }
    band = {f"±{margin:g} {ranking.unit}".rstrip(): Patch(color=INK, alpha=0.07)} if margin else {}
    add_legend(figure, entries | band)
    return figure


def _label(ax: Axes, names: Sequence[str], ranking: Ranking, leader: str) -> None:
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), names, color=INK, fontsize=9, parse_math=False)
    ax.tick_params(axis="both", colors=INK, labelsize=8.5, length=0)
    ax.xaxis.set_major_locator(MaxNLocator(7))
    ax.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    unit = "percentage points of " if ranking.is_accuracy else "better in "
    text = f"{unit}{ranking.metric} from {_short(leader)}, paired by seed"
    ax.set_xlabel(text, color=INK, fontsize=9, parse_math=False)


def _set_limits(ax: Axes, drawn: Sequence[float], intervals: Sequence[tuple[int, float, float, str]]) -> None:
    """Show all that is drawn, and intervals as far; one that goes on has an arrow at the axis' end.

    Intervals of two seeds can be as wide as all accuracies.
    """
    least, most = min(drawn), max(drawn)
    room = (most - least) or 1.0
    low = max(least - room, min([least, *(start for _, start, _, _ in intervals)])) - 0.06 * room
    high = min(most + room, max([most, *(end for _, _, end, _ in intervals)])) + 0.06 * room
    ax.set_xlim(low, high)
    for y, start, end, color in intervals:
        for beyond, at, arrow in ((start < low, low, "<"), (end > high, high, ">")):
            if beyond:
                ax.scatter([at], [y], s=36, marker=arrow, color=color, clip_on=False)


def _short(name: str) -> str:
    """Return a name without the middle of what is too long for a label."""
    half = LONGEST_NAME // 2 - 1
    return name if len(name) <= LONGEST_NAME else f"{name[:half]} … {name[-half:]}"


def caption(pairs: pd.DataFrame) -> str:
    """Return what the figure shows, in words."""
    most = int(pairs["seeds"].max()) if len(pairs) else 0
    return (
        "How far each configuration is from the leader: the mean difference with its 95% interval, and below "
        f"it a stroke for each seed that both have, {most} at most. An arrow stands where an "
        "interval goes on. In the shaded band a difference hardly matters."
    )
