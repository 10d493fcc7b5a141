"""What a sweep found: a leaderboard, an arch × init × batching table, and a page of both with the curves.

The tables are functions of a frame (:func:`fnnexp.runs`, or any part of one). The terminal, the CSV files and
the page are made from the same tables, so they show the same numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fnnexp.errors import FnnexpError
from fnnexp.reporting.document.blocks import Cell, Grid
from fnnexp.reporting.sections.summary import between, plural, sentences
from fnnexp.results import comparisons, frames, statistics
from fnnexp.results.arguments import takes_frames
from fnnexp.results.frames import AXES, groups, others, ranking, varies_within
from fnnexp.tracking import writer as tracking
from fnnexp.tracking.retry import short
from fnnexp.tracking.views import report_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

    from fnnexp.results.comparisons import Findings

NOT_FINISHED = frames.STATUSES[1:]
SAID_ALWAYS = ("finished", "diverged", "failed")  # also when there are none


# The tables


@takes_frames
def leaderboard(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a configuration (everything but the seed), the best first. A trial counts once.

    Parameters
    ----------
    runs
        :func:`fnnexp.runs`, or some of its rows.

    Returns
    -------
    DataFrame
        The factors that vary in this frame; `seeds`, how many finished trials the means are over; `diverged`,
        `failed`, `running`, `interrupted`, how many are not; the ranking metric and test accuracy as mean and
        `…_sd` over seeds (fractions; NaN for one seed), test accuracy of the first alone, unless it ranks;
        `low` and `high`, the ranking mean's 95% interval, and `interval`, how it was found
        (:func:`fnnexp.results.statistics.mean_interval`); `note`, which configurations of this frame are
        numerically the same. Configurations without a finished trial come last.
    """
    runs = frames.once(runs)
    metrics = list(dict.fromkeys([ranking(runs), "test_accuracy"]))
    factors = frames.factors(runs)
    parts = [group for _, group in groups(runs, factors)]
    first = runs.loc[[group.index[0] for group in parts], factors].reset_index(drop=True)
    numbers = pd.DataFrame([_numbers(group, metrics) for group in parts], index=first.index)
    board = pd.concat([first, numbers], axis=1).assign(note=_notes(runs, parts, factors))
    if board.empty:
        return board
    board = board.sort_values(metrics[0], ascending=False, kind="stable", ignore_index=True)
    if metrics[0] != "test_accuracy":
        board.loc[1:, ["test_accuracy", "test_accuracy_sd"]] = np.nan
    return board


def _numbers(group: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    finished = group[group["status"] == "finished"]
    numbers: dict[str, Any] = {"seeds": len(finished)}
    numbers |= {status: int((group["status"] == status).sum()) for status in NOT_FINISHED}
    for metric in metrics:
        numbers[metric] = statistics.mean(finished[metric])
        numbers[f"{metric}_sd"] = statistics.standard_deviation(finished[metric])
    interval = statistics.mean_interval(finished[metrics[0]], within=statistics.ACCURACY)
    return numbers | {"low": interval.low, "high": interval.high, "interval": interval.method}


def _notes(runs: pd.DataFrame, groups: Sequence[pd.DataFrame], factors: Sequence[str]) -> list[str]:
    """Return for each configuration which others are numerically the same: `same as sqrtmax`."""
    training = runs["identical_to"].fillna(runs["trial"])
    holders = defaultdict(list)
    for i, group in enumerate(groups):
        for each in training[group.index]:
            holders[each].append(i)
    notes = []
    for i, group in enumerate(groups):
        shared = Counter(j for each in training[group.index] for j in holders[each] if j != i)
        others = [
            _difference(group, groups[j], factors) + (f" in {n} of {len(group)}" if n < len(group) else "")
            for j, n in shared.items()
        ]
        notes.append("same as " + ", ".join(others) if others else "")
    return notes


def _difference(group: pd.DataFrame, other: pd.DataFrame, factors: Sequence[str]) -> str:
    """Return the other configuration's name, by what differs from the first."""
    mine, its = ({f: frames.as_text(g[f].iloc[0]) for f in factors} for g in (group, other))
    return " ".join(its[f] if f in frames.OPTIONS else f"{f}={its[f]}" for f in factors if its[f] != mine[f])


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the ranking metric in percent as text: arch and init down, batching across.

    A cell is the mean and standard deviation over seeds, `95.12 ± 0.21`; `(2/3)` behind it: so many of the
    configuration's trials finished. A configuration without any says why, one that was not run is empty.
    Where other factors vary (`optimizer.lr`, `epochs`) they are index levels before arch and init. A param
    that varies below an axis is part of its label (`normal std=0.3`).
    """
    runs = frames.once(runs)
    metric = ranking(runs)
    beside = others(runs)
    labelled = runs.assign(**{axis: frames.labels(runs, axis) for axis in AXES})
    cells: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for key, group in groups(labelled, [*beside, *AXES]):
        *row, batching = (frames.as_text(value) for value in key)
        cells[tuple(row)][batching] = _cell(group, metric)
    columns = pd.Index([str(each) for each in labelled["batching"].cat.categories], name="batching")
    index = pd.MultiIndex.from_tuples(list(cells), names=[*beside, "arch", "init"]) if cells else None
    return pd.DataFrame(list(cells.values()), index=index, columns=columns).fillna("")


def followers(runs: pd.DataFrame) -> list[str]:
    """Return what varies, but only with the axes: `optimizer.lr follows batching: full 0.5, mini 0.1`.

    Such a factor can't be told apart from what it follows.
    """
    split = others(runs)
    said = []
    for factor in frames.factors(runs):
        if factor.partition(".")[0] in AXES or factor in split:
            continue
        axis = next((axis for axis in AXES if not varies_within(runs, [axis], factor)), None)
        if axis is None:
            said.append(f"{factor} follows {', '.join(AXES)}")
            continue
        values = runs.groupby(axis, observed=True)[factor].first()
        pairs = ", ".join(f"{option} {frames.as_text(value)}" for option, value in values.items())
        said.append(f"{factor} follows {axis}: {pairs}")
    return said


def _cell(group: pd.DataFrame, metric: str) -> str:
    numbers = _numbers(group, [metric])
    if not numbers["seeds"]:
        return ", ".join(status for status in NOT_FINISHED if numbers[status])
    some = f" ({numbers['seeds']}/{len(group)})" if numbers["seeds"] < len(group) else ""
    return _percent(numbers[metric], numbers[f"{metric}_sd"]) + some


def _percent(mean: float, sd: float) -> str:
    """Return a mean and its spread in percent, as every output shows them.

    >>> _percent(0.95123, 0.0021), _percent(0.95123, float("nan")), _percent(float("nan"), float("nan"))
    ('95.12 ± 0.21', '95.12', '–')
    """
    if np.isnan(mean):
        return "–"
    return f"{100 * mean:.2f}" + ("" if np.isnan(sd) else f" ± {100 * sd:.2f}")


# What is said about them


def counts(runs: pd.DataFrame) -> str:
    """Return how much was run, in a sentence."""
    number = {status: int((runs["status"] == status).sum()) for status in frames.STATUSES}
    configurations = sum(1 for _ in groups(runs, frames.factors(runs)))
    some = ", ".join(f"{n} {status}" for status, n in number.items() if n or status in SAID_ALWAYS)
    return f"{plural(len(runs), 'trial')} of {plural(configurations, 'configuration')}: {some}."


def basis(runs: pd.DataFrame) -> str:
    """Return what the ranking stands on, and what is doubtful about it."""
    over = "the mean over seeds of the finished trials' last epoch; ± is the standard deviation"
    if ranking(runs) == "val_accuracy":
        return f"Ranked by val_accuracy, on rows held out of training: {over}."
    some = frames.held_out(runs).any()
    why = "not all trials held out validation rows" if some else "no trial held out validation rows"
    return (
        f"Ranked by test_accuracy, because {why}: {over}. "
        "Choosing on test data is optimistic: expect the chosen one to do worse on new images."
    )


def common(runs: pd.DataFrame) -> str:
    """Return the params that all trials share, and the seeds; nothing of no trials."""
    if runs.empty:
        return "–"
    params = [column for column in runs.columns if column not in (*frames.RESULTS, "seed")]
    same = [p for p in params if runs[p].notna().all() and (runs[p] == runs[p].iloc[0]).all()]
    seeds = sorted(runs["seed"].dropna().unique())
    said = ",".join(map(str, seeds)) if len(seeds) <= 10 else f"{seeds[0]}…{seeds[-1]} ({len(seeds)} seeds)"
    return " ".join([*(f"{p}={frames.as_text(runs[p].iloc[0])}" for p in same), f"seed={said}"])


def leaderboard_grid(runs: pd.DataFrame, board: pd.DataFrame) -> Grid:
    """Return the leaderboard as shown: params below an option join it, notes tell what is missing."""
    metrics = list(dict.fromkeys([ranking(runs), "test_accuracy"]))
    factors = frames.factors(runs)
    names = [factor for factor in factors if "." not in factor or factor.partition(".")[0] not in factors]
    names = [name for name in names if name.partition(".")[0] in AXES or name in others(runs)]
    labels = {factor: frames.labels(board, factor) for factor in names if factor in frames.OPTIONS}
    rows = []
    for i, record in enumerate(board.to_dict("records")):
        row = [Cell(str(labels[f].iloc[i]) if f in labels else frames.as_text(record[f])) for f in names]
        row.append(Cell(str(record["seeds"]), float(record["seeds"])))
        row.append(Cell(_percent(record[metrics[0]], record[f"{metrics[0]}_sd"]), float(record[metrics[0]])))
        row.append(Cell(between(record["low"], record["high"])))
        for m in metrics[1:]:  # once, for what was chosen
            row.append(Cell(_percent(record[m], record[f"{m}_sd"]) if i == 0 else "", float(record[m])))
        missing = [f"{record[status]} {status}" for status in NOT_FINISHED if record[status]]
        rows.append([*row, Cell("; ".join([*missing, record["note"]] if record["note"] else missing))])
    shown = [name.removeprefix("optimizer.") for name in names]
    titles = [f"{metric.replace('_accuracy', '')} %" for metric in metrics]
    head = [*shown, "seeds", titles[0], "95% interval", *titles[1:], "note"]
    if not any(row[-1].text for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Grid("Leaderboard", head, rows, names=len(names))


def leader_grid(found: Findings) -> Grid:
    """Return the leader against every other configuration, as shown."""
    return Grid(
        "The leader against every other", ["against", *PAIR_HEAD], _pair_rows(found.with_leader, ["b"]), 1
    )


def options_grid(found: Findings) -> Grid:
    """Return every two options of each factor compared, as shown."""
    head = ["factor", "better", "than", *PAIR_HEAD]
    return Grid("Every two options of a factor", head, _pair_rows(found.of_options, ["factor", "a", "b"]), 3)


PAIR_HEAD = ["points", "95% interval", "ahead in", "P(better)", "p", "Holm p", "seeds needed", "verdict"]


def _pair_rows(pairs: pd.DataFrame, names: Sequence[str]) -> list[list[Cell]]:
    rows = []
    for pair in pairs.to_dict("records"):
        row = [Cell(str(pair[name])) for name in names]
        unknown = "" if pair["verdict"] == "settled" else "?"
        needed = unknown if pd.isna(pair["seeds_needed"]) else str(int(pair["seeds_needed"]))
        rows.append([
            *row,
            Cell(_number(100 * pair["difference"], ".2f"), pair["difference"]),
            Cell(between(pair["low"], pair["high"])),
            Cell(f"{pair['ahead']} of {pair['seeds']}", float(pair["ahead"])),
            Cell(_number(pair["probability"], ".2f"), pair["probability"]),
            Cell(_number(pair["p"], ".3g"), pair["p"]),
            Cell(_number(pair["p_corrected"], ".3g"), pair["p_corrected"]),
            Cell(needed),
            Cell(pair["verdict"]),
        ])  # fmt: skip
    return rows


def _number(value: float, form: str) -> str:
    text = "–" if np.isnan(value) else format(value, form).replace("-", "−")
    return text if re.search("[1-9–]", text) else text.removeprefix("−")  # −0.00 is 0.00


def cells_grid(found: Findings) -> Grid:
    """Return the best initializer of each combination of the other factors, as shown."""
    names = [name for name in found.in_each_cell.columns if name not in comparisons.PAIR]
    head = [*names[:-2], "best init", "than the next", *PAIR_HEAD]
    title = "The best initializer for each, and how far ahead of the next"
    return _without(Grid(title, head, _pair_rows(found.in_each_cell, names), len(names)), "P(better)")


def shares_grid(found: Findings) -> Grid:
    """Return the shares of variance, as shown."""
    rows = [
        [Cell(row["effect"]), Cell(f"{100 * row['share']:.1f}", row["share"])]
        for row in found.shares.to_dict("records")
    ]
    return Grid("", ["factor or interaction", "share of variance %"], rows, 1)


def table_grids(runs: pd.DataFrame, cells: pd.DataFrame) -> list[Grid]:
    """Return the table as it is shown: one grid for each combination of the factors beside the three axes."""
    beside = others(runs)
    levels = [cells.index.get_level_values(name) for name in beside]
    split = list(cells.groupby(levels, sort=False)) if beside else [((), cells)]
    grids = []
    for key, part in split:
        rows = [
            [Cell(str(name)) for name in index[-2:]] + [Cell(str(text)) for text in row]
            for index, row in zip(part.index, part.to_numpy(), strict=True)
        ]
        title = ", ".join(f"{name}={value}" for name, value in zip(beside, key, strict=True))
        grids.append(Grid(title, ["arch", "init", *map(str, part.columns)], rows, names=2))
    return grids


def coincidences(runs: pd.DataFrame) -> Grid:
    """Return the trials that were not trained themselves, because another's training is theirs to the bit."""
    names = dict(zip(runs["trial"], runs["name"].map(frames.as_text), strict=True))
    copies = runs[runs["identical_to"].notna()]
    pairs = zip(copies["name"].map(frames.as_text), copies["identical_to"], strict=True)
    rows = [[Cell(name), Cell(names.get(other, f"trial {other}"))] for name, other in pairs]
    return Grid("Numerically identical trials", ["trial", "was trained as"], rows, names=2)


def troubles(runs: pd.DataFrame) -> Grid:
    """Return the diverged and failed trials with their reasons."""
    rows = []
    for trial in runs[runs["status"].isin(["diverged", "failed"])].to_dict("records"):
        error = "" if pd.isna(trial["error"]) else str(trial["error"])
        epoch = "" if pd.isna(trial["diverged_epoch"]) else f"at epoch {trial['diverged_epoch']}"
        told = [epoch, error] if "epoch" not in error else [error]
        reason = ": ".join(filter(None, told)) or "no reason was recorded"
        rows.append([Cell(frames.as_text(trial["name"])), Cell(trial["status"]), Cell(reason)])
    return Grid("Diverged and failed trials", ["trial", "status", "reason"], rows, names=3)


# Where it goes


def write(
    experiment: str,
    folder: str | Path | None = None,
    *,
    where: Mapping[str, str] | None = None,
    tracking_uri: str | None = None,
    console: Console | None = None,
) -> Path:
    """Print the experiment's report, write it as one self-contained HTML page and as files, log it to MLflow.

    Parameters
    ----------
    experiment, tracking_uri
        As for :func:`fnnexp.runs`.
    folder
        Where `report.html`, the same as `report.md`, its tables as CSV and its figures as SVG and PNG go;
        `reports/<experiment>` if None.
    where
        Only the trials with these options, as :func:`fnnexp.results.frames.where`; such a report is not
        logged to MLflow.
    console
        Where to print; the terminal without it.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FnnexpError
        If there is no such experiment, no trial in it or none like that, or the folder has no name or cannot
        be written.
    """
    from rich.console import Console

    if folder is not None and not str(folder).strip():
        raise FnnexpError(f"The folder {str(folder)!r} is no name; name one, or none for reports/EXPERIMENT.")
    console = console or Console()
    with _stages(console) as now:
        return _write(experiment, folder, where or {}, tracking_uri, console, now)


@contextmanager
def _stages(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield what shows the stage that is under way, on a terminal; elsewhere it shows nothing."""
    if not console.is_terminal:
        yield lambda stage: None
        return
    with console.status("") as status:
        yield lambda stage: status.update(f"[dim]{stage} …")


def _write(
    experiment: str,
    folder: str | Path | None,
    where: Mapping[str, str],
    tracking_uri: str | None,
    console: Console,
    now: Callable[[str], None],
) -> Path:
    from fnnexp.reporting.document.html import drawings, html
    from fnnexp.reporting.document.markdown import markdown
    from fnnexp.reporting.plots.curves import svg_file
    from fnnexp.reporting.sections import layers as diagnosis
    from fnnexp.reporting.sections import mistakes

    now("reading runs, curves and diagnostics")
    runs, curves, diagnostics = frames.whole(experiment, tracking_uri=tracking_uri)
    if runs.empty:
        raise FnnexpError(
            f"The experiment '{experiment}' holds no trials of fnnexp yet, so nothing to report."
        )
    part = [f"{key}={value}" for key, value in where.items()]
    if where:
        runs = frames.where(runs, where)
        curves, diagnostics = (
            frames.part(each, each["trial"].isin(runs["trial"])) for each in (curves, diagnostics)
        )
    now(f"comparing {plural(len(runs), 'trial')}")
    board, cells, found = leaderboard(runs), table(runs), comparisons.findings(runs)
    now("looking at diagnostics, and at the best trial's mistakes")
    why = diagnosis.section(runs, diagnostics)
    sections = [*([why] if why else []), mistakes.section(runs, found, tracking_uri)]
    now("drawing")
    drawn = list(drawings(runs, curves))
    place = Path("reports", _file_name("\0".join([experiment, *part]))) if folder is None else Path(folder)
    page = place / "report.html"
    tables = {
        "runs": runs,
        "curves": curves,
        "leaderboard": board,
        "table": cells.reset_index(),
        "leader": found.with_leader,
        "options": found.of_options,
        "cells": found.in_each_cell,
        "shares": found.shares,
        **{name: frame for section in sections for name, frame in section.tables.items()},
    }
    texts = {"report.md": markdown(experiment, runs, board, cells, found, sections, part)}
    texts["report.html"] = html(experiment, runs, drawn, board, cells, found, sections, part)
    drawn += [drawing for section in sections for drawing in section.drawings]
    texts |= {f"{each.name}.svg": svg_file(each.svg) for each in drawn}
    now(f"writing to {_printable(str(place))}".replace("[", r"\["))
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, frame in tables.items():
            frame.to_csv(place / f"{name}.csv", index=False)
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
        for each in drawn:
            (place / f"{each.name}.png").write_bytes(each.png)
    except OSError as error:
        raise FnnexpError(
            f"The report cannot be written to {place}: {error}. Name another folder."
        ) from error
    _print(console, experiment, part, runs, board, cells, found)
    files = [
        place / name for name in (*texts, *(f"{n}.csv" for n in tables), *(f"{d.name}.png" for d in drawn))
    ]
    if not where:
        now("logging it to MLflow")
        logged = log_files(experiment, tracking_uri, files, [*sentences(runs, found), counts(runs)])
        console.print(logged, soft_wrap=True, markup=False, highlight=False)
    console.print(f"Report: {page}", soft_wrap=True, markup=False, highlight=False)
    return page


def log_files(experiment: str, uri: str | None, files: Sequence[Path], said: Sequence[str]) -> str:
    """Log the report's files to MLflow; a store that takes none costs no report. Return what became of it."""
    from fnnexp.reporting.document.markdown import escaped

    try:
        tracking.log_report(experiment, uri, files, "\n\n".join(map(escaped, said)))
    except Exception as error:  # a store's own exceptions are many
        return f"The report is not in MLflow, which did not take it: {short(error)}"
    return f"In MLflow it is the run '{tracking.REPORT}' of the experiment, under Artifacts."


def _file_name(experiment: str) -> str:
    """Return the experiment's name as one that every file system takes; a changed one ends in its hash.

    >>> _file_name("card_grid"), _file_name("a b"), _file_name("a/b"), _file_name("..")
    ('card_grid', 'a_b-c8687a08', 'a_b-c14cddc0', 'experiment-5ec1f7e7')
    """
    name = re.sub(r"[^\w.-]+", "_", experiment).strip("._")[:100].rstrip(".") or "experiment"
    name = f"experiment_{name}" if re.fullmatch(DEVICE, name) else name
    digest = hashlib.sha256(experiment.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return name if name == experiment else f"{name}-{digest}"


DEVICE = r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?"
"""What Windows takes for a device, in any folder and with any suffix."""


# In the terminal

ROWS_SHOWN = 40
WIDE = ("than the next", "ahead in", "P(better)", "p", "Holm p", "seeds needed")
TROUBLES_SHOWN = 10


def _print(
    console: Console,
    experiment: str,
    where: Sequence[str],
    runs: pd.DataFrame,
    board: pd.DataFrame,
    cells: pd.DataFrame,
    found: Findings,
) -> None:
    from rich.text import Text

    for said, style in (
        (f"{' '.join([experiment, *where])} · {counts(runs)}", "bold"),
        (basis(runs), ""),
        (" ".join(sentences(runs, found)), ""),
        (f"In all trials: {common(runs)}", "dim"),
        *((f"{each}.", "") for each in followers(runs)),
    ):
        console.print(Text(said, style=style))
    narrow = _without(leaderboard_grid(runs, board), "test %" if ranking(runs) == "val_accuracy" else "")
    print_grid(console, narrow, ROWS_SHOWN, "leaderboard.csv")
    console.print(Text(f"{ranking(runs)} in percent; (2/3): two of three trials finished", style="italic"))
    for grid in table_grids(runs, cells):
        print_grid(console, grid, ROWS_SHOWN, "table.csv")
    if len(found.in_each_cell):
        narrow = _without(cells_grid(found), *WIDE)
        print_grid(console, narrow, ROWS_SHOWN, "cells.csv")
        names = narrow.head[: narrow.head.index("best init")]
        first = {name: cell.text for name, cell in zip(names, narrow.rows[0], strict=False)}
        if all((runs[k].astype("str") == v).any() for k, v in first.items()):  # a label may say more, or less
            part = [*where, *(f"{key}={value}" for key, value in first.items())]
            console.print(Text(f"One of them by itself: {report_command(experiment, part)}"))
    if len(troubles(runs).rows):
        print_grid(console, troubles(runs), TROUBLES_SHOWN, "report.html")
    if n := len(coincidences(runs).rows):
        console.print(Text(f"{plural(n, 'trial')} shared another's training, numerically the same."))


def _without(grid: Grid, *titles: str) -> Grid:
    """Return the grid without some columns, which a file or the page shows, to fit."""
    keep = [i for i, name in enumerate(grid.head) if name not in titles]
    rows = [[row[i] for i in keep] for row in grid.rows]
    names = sum(i < grid.names for i in keep)
    return grid._replace(head=[grid.head[i] for i in keep], rows=rows, names=names)


def print_grid(console: Console, grid: Grid, limit: int, file: str) -> None:
    """Print the grid's first rows; notes stand below it, where they do not take the width of the numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = Text(_printable(grid.title)) if grid.title else None
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    marks: dict[str, str] = {"": ""}
    for i, name in enumerate(grid.head):
        number = is_number(grid, i)
        head = "" if name == "note" else _printable(name)
        shown.add_column(Text(head), justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in grid.rows[:limit]:
        texts = [_printable(cell.text) for cell in row]
        if grid.head[-1] == "note":
            texts[-1] = marks.setdefault(texts[-1], f"[{len(marks)}]")
        shown.add_row(*map(Text, texts))
    console.print(shown)
    for note, mark in list(marks.items())[1:]:
        console.print(Text(f"{mark} {note}"))
    if len(grid.rows) > limit:
        console.print(Text(f"… and {len(grid.rows) - limit} more rows in {file}", style="dim"))


def is_number(grid: Grid, column: int) -> bool:
    """Whether a column holds numbers: neither a name nor a note."""
    return column >= grid.names and grid.head[column] not in ("note", "verdict")


def _printable(text: str) -> str:
    """Return the text without characters that would steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
