"""The page: one self-contained HTML file with the tables and the curves, to open offline or to print."""

from __future__ import annotations

import shlex
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fnnexp.analysis import frames
from fnnexp.analysis.answers import sentences
from fnnexp.analysis.frames import groups, others, ranking
from fnnexp.analysis.report import (
    Cell,
    Grid,
    basis,
    coincidences,
    common,
    counts,
    followers,
    is_number,
    leader_grid,
    leaderboard_grid,
    options_grid,
    shares_grid,
    table_grids,
    troubles,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from fnnexp.analysis.comparisons import Findings

STYLE = """
:root { color-scheme: light dark; --line: #d5d9de; --soft: #f4f6f8; --quiet: #59616b; --ink: #1c2127;
  --page: #fff; --link: #1a5fb4 }
@media (prefers-color-scheme: dark) { :root { --line: #363d46; --soft: #1d2228; --quiet: #9aa4af;
  --ink: #dfe4ea; --page: #15181c; --link: #7db4f5 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 1120px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin-top: 2.2rem }
h3 { font-size: 1rem; margin-bottom: .3rem } a { color: var(--link) }
.quiet { color: var(--quiet) } code { overflow-wrap: anywhere }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .22rem .6rem; text-align: left; border-bottom: 1px solid var(--line) }
th { border-bottom-width: 2px } .n { text-align: right; white-space: nowrap } .verdict { white-space: nowrap }
tbody tr:nth-child(even) { background: var(--soft) } svg { width: 100%; height: auto; display: block }
figure { margin: 1rem 0 } figcaption { color: var(--quiet); font-size: .9rem }
@media print { body { margin: 0; max-width: none } figure, tr { break-inside: avoid } }
"""

FIGURES = 12
"""At most so many combinations of other factors have their curves drawn; the rest is in curves.csv."""

FILES = (
    "runs.csv",
    "curves.csv",
    "leaderboard.csv",
    "table.csv",
    "options.csv",
    "leader.csv",
    "shares.csv",
    "report.md",
)

PAIRS = (
    "Differences are paired by seed, in points of percent. P(better): that a new seed of the one beats one of"
    " the other. p: a sign-flip test; under six seeds it can't reach 5%. Holm p: corrected for all pairs"
    " of the table; against the leader for all pairs of configurations, because the leader was picked by"
    " looking. Seeds needed: to settle it in four of five tries at this difference and spread, roughly;"
    " ? is unknown or more than 1,000."
)


def html(
    experiment: str,
    runs: pd.DataFrame,
    drawings: Sequence[Drawing],
    board: pd.DataFrame,
    cells: pd.DataFrame,
    found: Findings,
) -> str:
    """Return the page as text; whatever comes from the store is escaped."""
    grids = table_grids(runs, cells)
    shares = shares_grid(found)
    close = [row[0].text for row in leader_grid(found).rows if row[-1].text != "settled"]
    sections = [
        f"<h1>{escape(experiment)}</h1><h2>What was asked, and how much was run</h2>"
        f"<p>{escape(counts(runs))}</p><p>{escape(basis(runs))}</p>"
        + "".join(f"<p>{escape(each)}.</p>" for each in followers(runs))
        + f"<p class='quiet'>In all trials: <code>{escape(common(runs))}</code></p>",
        "<h2>The answer</h2>" + "".join(f"<p>{escape(each)}</p>" for each in sentences(runs, found)),
        section(leaderboard_grid(runs, board)),
        "<h2>Curves</h2>" + _figures(drawings, "curves", runs),
        f"<h2>By architecture, initializer and batching</h2><p class='quiet'>{ranking(runs)} in percent; "
        "(2/3): two of three trials finished.</p>"
        + _figures(drawings, "map", runs)
        + "".join(section(grid, "h3") for grid in grids),
        f"<h2>Which factor matters how much</h2><p>{escape(found.about_shares)}</p>"
        + (section(shares) if shares.rows else ""),
        f"<h2>Pairs</h2><p class='quiet'>{PAIRS}</p>"
        + "".join(section(grid, "h3") for grid in (options_grid(found), leader_grid(found)) if grid.rows),
        "<h2>Accuracy against training time</h2>" + _figures(drawings, "time", runs),
        "<h2>What diverged, was identical, or was too close to tell</h2>"
        + "".join(section(grid, "h3") for grid in (troubles(runs), coincidences(runs)) if grid.rows)
        + f"<p>Not settled against the leader: {escape(', '.join(close)) or 'none'}.</p>",
        "<h2>How to reproduce it</h2><p>Each run in MLflow has its whole configuration as"
        " <code>config.yaml</code> and, as tags, the versions and the commit that it ran with; the same"
        " configuration trains to the same bits on one kind of processor."
        f" <code>fnnexp report {escape(shlex.quote(experiment))}</code> makes this page again. The numbers as"
        " files: " + ", ".join(f"<a href='{file}'>{file}</a>" for file in FILES) + ".</p>",
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(experiment)} · fnnexp</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def section(grid: Grid, level: str = "h2") -> str:
    """Return a table of the page, its title a heading of this level."""
    kinds = [
        "n" if is_number(grid, i) else "verdict" if grid.head[i] == "verdict" else ""
        for i in range(len(grid.head))
    ]
    head = "".join(_tag("th", escape(name), kind) for name, kind in zip(grid.head, kinds, strict=True))
    rows = (
        "<tr>"
        + "".join(_tag("td", _cell_html(cell), kind) for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in grid.rows
    )
    title = f"<{level}>{escape(grid.title)}</{level}>" if grid.title else ""
    body = "\n".join(rows)
    return (
        f"{title}<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def _tag(name: str, content: str, kind: str) -> str:
    return f"<{name} class='{kind}'>{content}</{name}>" if kind else f"<{name}>{content}</{name}>"


def _cell_html(cell: Cell) -> str:
    if cell.value is None or np.isnan(cell.value):
        return escape(cell.text)
    return f"<data value='{cell.value!r}'>{escape(cell.text)}</data>"


class Drawing(NamedTuple):
    """A figure of the page, and its files' name."""

    section: str
    name: str
    heading: str
    caption: str
    svg: str
    png: bytes


def drawings(runs: pd.DataFrame, curves: pd.DataFrame) -> Iterator[Drawing]:
    """Yield the figures of the finished trials, for each combination of the factors beside the axes."""
    from fnnexp.analysis import plots

    finished = runs[runs["status"] == "finished"]
    beside, metric = others(runs), ranking(runs)
    split = metric.partition("_")[0]
    for i, (key, part) in enumerate(list(groups(finished, beside))[:FIGURES]):
        said = ", ".join(f"{k}={frames.as_text(v)}" for k, v in zip(beside, key, strict=True))
        for section, name, caption, figure in (
            *(
                ("curves", f"{split}_{q}", _caption(split, q), plots.curves(part, curves, f"{split}_{q}"))
                for q in ("accuracy", "loss")
            ),
            ("map", "heat_map", f"{metric} in percent, the mean over seeds; darker is better.",
             plots.heat_map(part, metric)),
            ("time", "accuracy_against_time", TIME, plots.against_time(part, metric)),
        ):  # fmt: skip
            if figure is not None:
                label = f"{name} {said}".replace("_", " ").strip()
                file = name if not beside else f"{name}_{i + 1}"
                yield Drawing(section, file, said, caption, plots.svg(figure, label), plots.png(figure))


TIME = (
    "Mean and 95% interval (Student's t) against the seconds of training of one trial in its stack, as"
    " measured while the sweep ran. The marker is the initializer, its filling the batching mode."
)


def _figures(drawings: Sequence[Drawing], section: str, runs: pd.DataFrame) -> str:
    mine = [drawing for drawing in drawings if drawing.section == section]
    if not mine:
        return "<p>No trial has finished, so there is nothing to draw.</p>"
    text, heading = "", ""
    for each in mine:
        if each.heading != heading:
            text, heading = f"{text}<h3>{escape(each.heading)}</h3>", each.heading
        text += f"<figure>{each.svg}<figcaption>{escape(each.caption)}</figcaption></figure>"
    beside = others(runs)
    more = sum(1 for _ in groups(runs[runs["status"] == "finished"], beside)) - FIGURES
    if more > 0:
        text += f"<p>{more} more combinations of {escape(', '.join(beside))} are in the files.</p>"
    return text


def _caption(split: str, quantity: str) -> str:
    said = f"{split}_{quantity} by epoch: the mean over seeds in its 95% interval (Student's t), "
    said += "of finished trials."
    if quantity == "loss":
        said += (
            " The axis ends where a few lines would flatten the others; those that end above it are named."
        )
    return said + " Numerically identical configurations lie on top of each other."
