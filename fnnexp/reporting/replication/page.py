"""The published experiments run again: a page that lays each printed number beside ours, and its files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.errors import FnnexpError
from fnnexp.reporting.document import html as page
from fnnexp.reporting.document import markdown
from fnnexp.reporting.document.blocks import Cell, Drawing, Grid, Section
from fnnexp.reporting.plots.curves import panels, png, svg, svg_file
from fnnexp.reporting.replication.findings import Ours, Picture, Showing, extent, showings
from fnnexp.reporting.replication.published import (
    APART,
    CHAOTIC,
    NOT_RUN,
    PROGRAMS,
    QUANTITIES,
    VERDICTS,
    WITHIN,
    compare,
    labelled,
    printed,
    summary,
)
from fnnexp.reporting.sections.provenance import provenance
from fnnexp.reporting.sections.summary import plural
from fnnexp.reporting.write import log_files, print_grid
from fnnexp.results import frames

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from rich.console import Console

    from fnnexp.config.trial import Trial

TITLE = "The published tables, run again"

READING = (
    "A printed number is one draw of a program that was run once; ours are one draw a seed. within: it lies"
    " between our least and our greatest, where one more draw of the same program lies with probability"
    " (n − 1) / (n + 1) at n seeds, whatever the distribution. near: outside, but in the 95% interval of one"
    " more draw (Student's t). apart: outside of both, as about one in 20 numbers of the same"
    " program is. A row"
    " has the worse verdict of its loss and its accuracy. The rows of one table come from one run"
    " and stand or"
    " fall together: fifty epochs that agree are not fifty witnesses."
)


def tables_grid(rows: pd.DataFrame) -> Grid:
    """Return the published tables as shown, each with how many of its rows have which verdict."""
    about = summary(rows)
    told = [verdict for verdict in VERDICTS if verdict in VERDICTS[:3] or about[verdict].any()]
    lines = []
    for each in about.to_dict("records"):
        name = {p.preset: p.said for p in PROGRAMS[each["experiment"]]}[each["program"]]
        chosen = rows[(rows["experiment"] == each["experiment"]) & (rows["run"] == each["run"])]
        chosen = chosen[(chosen["program"] == each["program"]) & (chosen["verdict"] != NOT_RUN)]
        counts = [Cell(str(each[count]), float(each[count])) for count in ("seeds", "rows", *told)]
        table = Cell(f"{each['experiment']} {each['run']}")
        lines.append([table, Cell(name), *counts, *_end(chosen)])
    head = ["published table", "run as", "seeds", "rows", *told, "last compared %", "ours %"]
    return Grid("Verdicts", head, lines, names=2)


def _end(chosen: pd.DataFrame) -> list[Cell]:
    """Return the last accuracy that was printed and run, and ours."""
    chosen = chosen[chosen["accuracy_published"] != ""]
    if chosen.empty:
        return [Cell("–"), Cell("–")]
    row = chosen.iloc[-1]
    value = float(row["accuracy_published"])
    ours = extent(100 * row[["accuracy_low", "accuracy_high"]], ".2f")
    return [Cell(f"{100 * value:.2f}", value), Cell(ours)]


def rows_grid(rows: pd.DataFrame, title: str) -> Grid:
    """Return some rows of :func:`compare` as shown: printed, ours from least to greatest, and the place."""
    lines = []
    for row in rows.to_dict("records"):
        line = [Cell(str(row["epoch"])), Cell(row["split"])]
        for quantity in QUANTITIES:
            line += _numbers(row, quantity)
        lines.append([*line, Cell(row["verdict"])])
    head = ["epoch", "on"]
    for quantity in QUANTITIES:
        head += [quantity, "our mean", "from least to greatest", "below"]
    return Grid(title, [*head, "verdict"], lines, names=2)


def _numbers(row: Mapping[Hashable, Any], quantity: str) -> list[Cell]:
    printed = str(row[f"{quantity}_published"])
    if not printed:
        return [Cell("–")] * 4
    digits = min(len(printed.partition(".")[2]), 4)
    value = float(printed)
    n = int(row[f"{quantity}_seeds"])
    if not n:
        return [Cell(f"{value:.{digits}f}", value), Cell("–"), Cell("–"), Cell("–")]
    mean, low, high = (float(row[f"{quantity}_{k}"]) for k in ("mean", "low", "high"))
    return [
        Cell(f"{value:.{digits}f}", value),
        Cell(f"{mean:.4f}", mean),
        Cell(extent(pd.Series([low, high]), ".4f")),
        Cell(f"{int(row[f'{quantity}_below'])} of {n}"),
    ]


def verdicts(rows: pd.DataFrame) -> list[str]:
    """Return a sentence for each published table, of the program that its numbers should be of."""
    said = []
    for each in summary(rows).to_dict("records"):
        if each["program"] != PROGRAMS[each["experiment"]][0].preset:
            continue
        run = each["rows"] - each[NOT_RUN]
        part = rows[(rows["experiment"] == each["experiment"]) & (rows["run"] == each["run"])]
        part = part[(part["program"] == each["program"]) & (part["verdict"] == APART)]
        counts = ", ".join(f"{each[v]} {v}" for v in VERDICTS[:-1] if each[v] or v == WITHIN)
        where = ", ".join(f"{row['split']} {row['epoch']}" for row in part.to_dict("records"))
        how = "by their place among" if each["experiment"] in CHAOTIC else "epoch by epoch with"
        said.append(
            f"{each['experiment']} {each['run']}: {run} of {plural(each['rows'], 'row')} compared {how}"
            f" {plural(each['seeds'], 'seed')}: {counts}" + (f" (apart: {where})." if where else ".")
        )
    return said


def parts(
    ours: Ours, rows: pd.DataFrame, shown: Sequence[Showing], left_out: str, ran_with: Sequence[str]
) -> list[Section]:
    """Return the page's sections in their order."""
    counts = ", ".join(
        f"{preset} {len({each.seed for each in trials})}" for preset, trials in ours.trials.items()
    )
    asked = [f"Seeds run of each preset: {counts}.", *([left_out] if left_out else []), *ran_with]
    found = [Section("What was run", asked)]
    found.append(Section("Printed beside ours", [*verdicts(rows), READING], grids=[tables_grid(rows)]))
    for each in shown:
        drawings = [_drawn(each.title, picture) for picture in each.pictures]
        found.append(Section(each.title, each.said, drawings, each.grids))
    grids = []
    for experiment, programs in PROGRAMS.items():
        mine = rows[rows["experiment"] == experiment]
        for run in mine["run"].unique():
            for program in programs:
                chosen = mine[(mine["run"] == run) & (mine["program"] == program.preset)]
                grids.append(rows_grid(chosen, f"{experiment}, run {run}, beside {program.said}"))
    said = (
        "The printed number, then ours. below: how many of our seeds lie below it. Accuracies are fractions."
    )
    return [*found, Section("Every row", [said], grids=grids)]


def _drawn(section: str, picture: Picture) -> Drawing:
    figure = panels(picture.panels)
    return Drawing(section, picture.name, "", picture.caption, svg(figure, picture.caption), png(figure))


def html(found: Sequence[Section], files: Iterable[str], command: str) -> str:
    """Return the page as text; `command` makes it again."""
    listed = ", ".join(f"<a href='{file}'>{file}</a>" for file in files)
    how = (
        f"<h2>How to reproduce it</h2><p><code>{command}</code> makes this page again and trains only"
        f" what is not done. The numbers as files: {listed}.</p>"
    )
    return page.document(TITLE, [f"<h1>{TITLE}</h1>", *map(page.part, found), how])


def text(found: Sequence[Section]) -> str:
    """Return the page as Markdown; its figures by their files."""
    return "\n\n".join([f"# {TITLE}", *(each for part in found for each in markdown.part(part))]) + "\n"


def make_folder(folder: Path) -> None:
    """Make the folder of the page, so that one that can't be written is found before hours of training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FnnexpError(f"The page cannot be written to {folder}: {error}. Name another folder.") from error


def write(
    trials: Mapping[str, Sequence[Trial]],
    folder: Path,
    console: Console,
    *,
    experiment: str,
    tracking_uri: str | None = None,
    left_out: str = "",
    command: str,
) -> Path:
    """Lay the published tables beside the finished trials; print it, write it, log it to MLflow.

    Parameters
    ----------
    trials
        Those of each preset; what else the experiment holds is passed over.
    folder
        Where `reproduce.html`, `reproduce.md`, the CSV files and the figures go.
    console
        Where to print.
    experiment, tracking_uri
        Where the trials are.
    left_out
        What a shorter run leaves out, for the reader.
    command
        What makes the page again.

    Raises
    ------
    FnnexpError
        If the folder can't be written, or nothing has finished of a preset.
    """
    runs, curves, _ = frames.whole(experiment, tracking_uri=tracking_uri)
    finished = set(runs.loc[runs["status"] == "finished", "trial"].astype("str"))
    done = {preset: [each for each in group if each.id in finished] for preset, group in trials.items()}
    if nothing := [preset for preset, group in done.items() if not group]:
        raise FnnexpError(
            f"No trial of {', '.join(nothing)} has finished, so there is nothing to lay beside the tables; "
            "start the same command again and it goes on where it was"
        )
    points = labelled(curves, {each.id: preset for preset, group in done.items() for each in group})
    tables, ours = printed(), Ours(done, points)
    rows = compare(tables, points)
    shown = showings(ours, tables, rows)
    mine = runs["trial"].isin([each.id for group in done.values() for each in group])
    found = parts(ours, rows, shown, left_out, provenance(frames.part(runs, mine)))
    csv = {"rows": rows, "tables": summary(rows)}
    for each in shown:
        csv |= each.frames
    files = {"reproduce.md": text(found).encode()}
    for part in found:
        for drawn in part.drawings:
            files |= {f"{drawn.name}.svg": svg_file(drawn.svg).encode(), f"{drawn.name}.png": drawn.png}
    files |= {f"{name}.csv": frame.to_csv(index=False).encode() for name, frame in csv.items()}
    files["reproduce.html"] = html(found, sorted(files), command).encode()
    make_folder(folder)
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise FnnexpError(f"The page cannot be written to {folder}: {error}. Name another folder.") from error
    _print(console, found)
    said = [sentence for part in found[:-1] for sentence in part.said]
    logged = log_files(experiment, tracking_uri, [folder / name for name in files], said)
    for line in (logged, f"Page: {folder / 'reproduce.html'}"):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return folder / "reproduce.html"


def _print(console: Console, found: Sequence[Section]) -> None:
    from rich.text import Text

    for part in found[:-1]:
        console.print(Text(f"\n{part.title}", style="bold"))
        for sentence in part.said:
            console.print(Text(sentence))
        for grid in part.grids:
            print_grid(console, grid, 40, "rows.csv")
