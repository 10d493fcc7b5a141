"""The page: one self-contained HTML file with the tables and the curves, to open offline or to print."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from fnnexp.reporting.document.blocks import Cell, Drawing, Grid, Section
from fnnexp.reporting.sections.provenance import provenance, rebuilt
from fnnexp.reporting.sections.summary import sentences
from fnnexp.reporting.write import (
    basis,
    cells_grid,
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
from fnnexp.results import frames
from fnnexp.results.frames import groups, others, ranking
from fnnexp.tracking.views import report_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pandas as pd

    from fnnexp.results.comparisons import Findings

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
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .5rem .7rem }
figure { margin: 1rem 0 } figcaption { color: var(--quiet); font-size: .9rem }
@page { margin: 12mm }
@media print { body { margin: 0; max-width: none; font-size: 10pt } figure, tr { break-inside: avoid }
  h1, h2, h3 { break-after: avoid } .wide { overflow: visible } table { font-size: 6.5pt }
  th, td { padding: .1rem .25rem } .n, .verdict { white-space: normal } }
"""

FIGURES = 12
"""At most so many combinations of other factors have their curves drawn; the rest is in curves.csv."""

ROWS_OPEN = 12
"""A list of trials longer than this is closed until it is asked for."""

FILES = (
    "runs.csv",
    "curves.csv",
    "leaderboard.csv",
    "table.csv",
    "options.csv",
    "cells.csv",
    "leader.csv",
    "shares.csv",
    "report.md",
)

PAIRS = (
    "Differences are paired by seed, in points of percent. P(better): that a new seed of the one beats one of"
    " the other. p: a sign-flip test; under six seeds it can't reach 5%. Holm p: corrected for all pairs"
    " of the table; against the leader for all pairs of configurations, because the leader was picked by"
    " looking; in the table of the best initializers for all pairs within its row, each row a question of its"
    " own. Seeds needed: to settle it in four of five tries at this difference and spread, roughly;"
    " ? is unknown or more than 1,000."
)


def html(
    experiment: str,
    runs: pd.DataFrame,
    drawings: Sequence[Drawing],
    board: pd.DataFrame,
    cells: pd.DataFrame,
    found: Findings,
    sections: Sequence[Section] = (),
    where: Sequence[str] = (),
) -> str:
    """Return the page as text; whatever comes from the store is escaped.

    `sections` stand behind the comparisons; `where` are the options that a part of the experiment has.
    """
    title = " ".join([experiment, *where])
    grids = table_grids(runs, cells)
    shares = shares_grid(found)
    pairs = (cells_grid(found), options_grid(found), leader_grid(found))
    files = [*FILES, *(f"{name}.csv" for section in sections for name in section.tables)]
    close = [row[0].text for row in leader_grid(found).rows if row[-1].text != "settled"]
    texts = [
        f"<h1>{escape(title)}</h1><h2>What was asked, and how much was run</h2>"
        f"<p>{escape(counts(runs))}</p><p>{escape(basis(runs))}</p>"
        + "".join(f"<p>{escape(each)}.</p>" for each in followers(runs))
        + f"<p class='quiet'>In all trials: <code>{escape(common(runs))}</code></p>",
        "<h2>The answer</h2>" + "".join(f"<p>{escape(each)}</p>" for each in sentences(runs, found)),
        table(leaderboard_grid(runs, board)),
        "<h2>Curves</h2>" + _figures(drawings, "curves", runs),
        f"<h2>By architecture, initializer and batching</h2><p class='quiet'>{ranking(runs)} in percent; "
        "(2/3): two of three trials finished.</p>"
        + _figures(drawings, "map", runs)
        + "".join(table(grid, "h3") for grid in grids),
        f"<h2>Which factor matters how much</h2><p>{escape(found.about_shares)}</p>"
        + (table(shares) if shares.rows else ""),
        f"<h2>Pairs</h2><p class='quiet'>{PAIRS}</p>"
        + "".join(table(grid, "h3") for grid in pairs if grid.rows),
        "<h2>Accuracy against training time</h2>" + _figures(drawings, "time", runs),
        *map(part, sections),
        "<h2>What diverged, was identical, or was too close to tell</h2>"
        + "".join(_folded(grid) for grid in (troubles(runs), coincidences(runs)) if grid.rows)
        + f"<p>{escape(_not_settled(close, len(found.with_leader)))}</p>",
        _how_to_reproduce(experiment, where, runs, files),
    ]
    return document(title, texts)


def document(title: str, texts: Iterable[str]) -> str:
    """Return the whole HTML file of these parts of its body."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)} · fnnexp</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(texts)
        + "\n</body></html>\n"
    )


def _not_settled(close: Sequence[str], others: int) -> str:
    if others and len(close) == others:
        return f"None of the {others} others is settled against the leader."
    return f"Not settled against the leader: {', '.join(close) or 'none'}."


def _how_to_reproduce(experiment: str, where: Sequence[str], runs: pd.DataFrame, files: Sequence[str]) -> str:
    again = rebuilt(experiment, runs)
    return (
        f"<h2>How to reproduce it</h2><p>{escape(again.said)}</p>"
        + "".join(f"<pre>{escape(command)}</pre>" for command in again.commands)
        + "<p>It ran with these; the same trials come to the same bits on one kind of processor:</p><ul>"
        + "".join(f"<li><code>{escape(each)}</code></li>" for each in provenance(runs))
        + f"</ul><p>This page and its files again:</p><pre>{escape(report_command(experiment, where))}</pre>"
        "<p>The numbers as files: " + ", ".join(f"<a href='{file}'>{file}</a>" for file in files) + ".</p>"
    )


def table(grid: Grid, level: str = "h2") -> str:
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


def _folded(grid: Grid) -> str:
    """Return a table that is closed when it is long; it opens by a click, and runs.csv has it as well."""
    if len(grid.rows) <= ROWS_OPEN:
        return table(grid, "h3")
    summary = f"{escape(grid.title)}: {len(grid.rows)}"
    return f"<details><summary>{summary}</summary>{table(grid._replace(title=''))}</details>"


def _tag(name: str, content: str, kind: str) -> str:
    return f"<{name} class='{kind}'>{content}</{name}>" if kind else f"<{name}>{content}</{name}>"


def _cell_html(cell: Cell) -> str:
    if cell.value is None or np.isnan(cell.value):
        return escape(cell.text)
    return f"<data value='{cell.value!r}'>{escape(cell.text)}</data>"


def drawings(runs: pd.DataFrame, curves: pd.DataFrame) -> Iterator[Drawing]:
    """Yield the figures of the finished trials, for each combination of the factors beside the axes."""
    from fnnexp.reporting.plots import curves as plots

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
            ("map", "heat_map", f"{metric} in percent, the mean over seeds; darker is better, by the logit.",
             plots.heat_map(part, metric)),
            ("time", "accuracy_against_time", TIME, plots.against_time(part, metric)),
        ):  # fmt: skip
            if figure is not None:
                label = f"{name} {said}".replace("_", " ").strip()
                file = name if not beside else f"{name}_{i + 1}"
                yield Drawing(section, file, said, caption, plots.svg(figure, label), plots.png(figure))


TIME = (
    "Mean and 95% interval (Student's t) against the seconds of training of one trial in its stack, as"
    " measured while the sweep ran. The marker is the initializer, its filling the batching mode. The axis is"
    " stretched towards 100%."
)


def _figures(drawings: Sequence[Drawing], section: str, runs: pd.DataFrame) -> str:
    mine = [drawing for drawing in drawings if drawing.section == section]
    if not mine:
        return "<p>No trial has finished, so there is nothing to draw.</p>"
    text = _drawn(mine)
    beside = others(runs)
    more = sum(1 for _ in groups(runs[runs["status"] == "finished"], beside)) - FIGURES
    if more > 0:
        text += f"<p>{more} more combinations of {escape(', '.join(beside))} are in the files.</p>"
    return text


def _drawn(drawings: Sequence[Drawing]) -> str:
    text, heading = "", ""
    for each in drawings:
        if each.heading != heading:
            text, heading = f"{text}<h3>{escape(each.heading)}</h3>", each.heading
        text += f"<figure>{each.svg}<figcaption>{escape(each.caption)}</figcaption></figure>"
    return text


def part(section: Section) -> str:
    """Return a section of the page."""
    return (
        f"<h2>{escape(section.title)}</h2>"
        + "".join(f"<p>{escape(each)}</p>" for each in section.said)
        + _drawn(section.drawings)
        + "".join(table(grid, "h3") for grid in section.grids)
    )


def _caption(split: str, quantity: str) -> str:
    said = f"{split}_{quantity} by epoch: the mean over seeds in its 95% interval (Student's t), "
    said += "of finished trials. "
    if quantity == "loss":
        said += "The axis ends where a few lines would leave the others; those that end above it are named."
    else:
        said += "The axis is stretched towards 100% (by the logit), where points are hardest to gain."
    return said + " Numerically identical configurations lie on top of each other."
