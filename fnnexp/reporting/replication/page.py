"""The page that `fnnexp reproduce` writes: published numbers compared with ours."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.console import print_plain
from fnnexp.errors import FnnexpError, plural
from fnnexp.reporting.document import terminal
from fnnexp.reporting.document.blocks import (
    EVERYWHERE,
    PAGE,
    Cell,
    Code,
    Document,
    Links,
    Section,
    Table,
    Text,
)
from fnnexp.reporting.replication import classics, findings, glorot_bengio, recalls
from fnnexp.reporting.replication.findings import Ours, extent
from fnnexp.reporting.replication.published import (
    APART,
    BY_RANK,
    CLASSICS,
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
from fnnexp.reporting.sections.provenance import ran_with
from fnnexp.reporting.write import log_files, write_files
from fnnexp.results import filters, frames

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from rich.console import Console

    from fnnexp.config.trial import Trial
    from fnnexp.reporting.document.blocks import Block

TITLE = "The published tables, run again"

READING = (
    "A published number comes from a program that was run once; our numbers come from one run per seed."
    " within: it is between our minimum and maximum. One more run of the same program ends there with"
    " probability (n − 1) / (n + 1) for n seeds and any distribution. near: it is outside, but in the 95%"
    " prediction interval of one more run (Student's t). apart: it is outside of both, as are about one in 20"
    " numbers of the same program. A row has the worse verdict of its loss and its accuracy. All rows of"
    " a table come from one run, so fifty epochs that agree are not fifty independent confirmations."
)


def verdicts_table(rows: pd.DataFrame) -> Table:
    """Return a table of how many published rows have each verdict, by published table and program."""
    counted = summary(rows)
    verdicts = [verdict for verdict in VERDICTS if verdict in VERDICTS[:3] or counted[verdict].any()]
    lines = []
    for each in counted.to_dict("records"):
        name = PROGRAMS[each["experiment"]][each["program"]]
        chosen = rows[(rows["experiment"] == each["experiment"]) & (rows["run"] == each["run"])]
        chosen = chosen[(chosen["program"] == each["program"]) & (chosen["verdict"] != NOT_RUN)]
        counts = [Cell(str(each[count]), float(each[count])) for count in ("seeds", "rows", *verdicts)]
        table = Cell(f"{each['experiment']} {each['run']}")
        lines.append([table, Cell(name), *counts, *_end(chosen)])
    head = ["published table", "run as", "seeds", "rows", *verdicts, "last compared %", "ours %"]
    return Table("Verdicts", head, lines, names=2, media=EVERYWHERE)


def _end(chosen: pd.DataFrame) -> list[Cell]:
    """Return two cells of a table: the last published accuracy that was compared, and the range of ours."""
    chosen = chosen[chosen["accuracy_published"] != ""]
    if chosen.empty:
        return [Cell("–"), Cell("–")]
    row = chosen.iloc[-1]
    value = float(row["accuracy_published"])
    ours = extent(100 * row[["accuracy_low", "accuracy_high"]], ".2f")
    return [Cell(f"{100 * value:.2f}", value), Cell(ours)]


def rows_table(rows: pd.DataFrame, title: str) -> Table:
    """Return a table to show: published values, ours, and how many of ours are below the published one.

    `rows` are rows that :func:`compare` returns.
    """
    lines = []
    for row in rows.to_dict("records"):
        line = [Cell(str(row["epoch"])), Cell(row["split"])]
        for quantity in QUANTITIES:
            line += _numbers(row, quantity)
        lines.append([*line, Cell(row["verdict"])])
    head = ["epoch", "on"]
    for quantity in QUANTITIES:
        head += [quantity, "our mean", "our range", "below"]
    return Table(title, [*head, "verdict"], lines, names=2)


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
    """Return a sentence for each published table on how many of its rows agree with our seeds.

    The seeds are those of the program that is expected to give the published numbers.
    """
    sentences = []
    for each in summary(rows).to_dict("records"):
        if each["program"] != next(iter(PROGRAMS[each["experiment"]])):
            continue
        compared = each["rows"] - each[NOT_RUN]
        part = rows[(rows["experiment"] == each["experiment"]) & (rows["run"] == each["run"])]
        part = part[(part["program"] == each["program"]) & (part["verdict"] == APART)]
        counts = ", ".join(f"{each[v]} {v}" for v in VERDICTS[:-1] if each[v] or v == WITHIN)
        where = ", ".join(f"{row['split']} {row['epoch']}" for row in part.to_dict("records"))
        how = "by their rank among" if each["experiment"] in BY_RANK else "epoch by epoch with"
        sentences.append(
            f"{each['experiment']} {each['run']}: {compared} of {plural(each['rows'], 'row')} compared {how}"
            f" {plural(each['seeds'], 'seed')}: {counts}" + (f" (apart: {where})." if where else ".")
        )
    return sentences


def make(ours: Ours, left_out: str, facts: Sequence[str], command: str, full: str) -> Document:
    """Return the page that compares our results with the published tables, not yet written to files.

    Parameters
    ----------
    ours
        Our finished trials, and the results of each at each epoch.
    left_out
        A note on what a shorter run, such as `--quick`, leaves out; "" for the full run.
    facts
        Sentences on the data and the software of the trials.
    command, full
        The command that makes this page again, and the command that makes the page of the full run.
    """
    tables = printed()
    tables = tables[[not ours.trials.keys().isdisjoint(PROGRAMS[name]) for name in tables["experiment"]]]
    counts = ", ".join(
        f"{preset} {len({trial.seed for trial in trials})}" for preset, trials in ours.trials.items()
    )
    run = [Text(f"Number of seeds of each preset: {counts}.", EVERYWHERE)]
    if left_out:
        run.append(Text(f"{left_out} This runs all:", EVERYWHERE, code=full))
    sections = [Section("What was run", [*run, *(Text(each, EVERYWHERE) for each in facts)])]
    if len(tables):
        rows = compare(tables, ours.points)
        texts = [Text(each, EVERYWHERE) for each in (*verdicts(rows), READING)]
        data = {"rows": rows, "tables": summary(rows)}
        sections += [
            Section("Published numbers compared with ours", [*texts, verdicts_table(rows)], data),
            *findings.sections(ours, tables, rows),
            *classics.sections(ours, tables),
        ]
    sections += glorot_bengio.sections(ours)
    if len(tables):
        sections.append(Section(EVERY_ROW_TITLE, [Text(EVERY_ROW), *_tables_of_rows(rows)]))
    files = [f"{name}.csv" for name in Document("", sections).data]
    reproduction: list[Block] = [
        Text("This command makes the page again and trains only unfinished trials:", PAGE),
        Code(command, PAGE),
        Links("Files with the numbers:", [*files, "reproduce.md"]),
    ]
    return Document(TITLE, [*sections, Section(AGAIN_TITLE, reproduction)])


AGAIN_TITLE, EVERY_ROW_TITLE = "How to reproduce this page", "Every row"
EVERY_ROW = (
    "The published number, then ours. below: how many of our seeds are below it. Accuracies are fractions."
)


def _tables_of_rows(rows: pd.DataFrame) -> Iterator[Table]:
    for experiment, programs in PROGRAMS.items():
        selected = rows[rows["experiment"] == experiment]
        for run in selected["run"].unique():
            for program, name in programs.items():
                table = selected[(selected["run"] == run) & (selected["program"] == program)]
                yield rows_table(table, f"{experiment}, run {run}, compared with {name}")


def _layers(diagnostics: pd.DataFrame, presets: Mapping[str, str]) -> pd.DataFrame:
    """Return the diagnostics of the trials in `presets`, which has each trial's preset by its id.

    The columns are `preset seed epoch layer quantity value`.
    """
    named = diagnostics.assign(preset=diagnostics["trial"].astype("str").map(presets)).dropna(subset="preset")
    named = named.astype({"seed": "int64", "epoch": "int64", "layer": "int64", "quantity": "str"})
    return named[["preset", "seed", "epoch", "layer", "quantity", "value"]]


def make_folder(folder: Path) -> None:
    """Make the folder of the page. Raise if it is not writable, before hours of training are lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FnnexpError(
            f"The page cannot be written to {folder}: {error}. Name another folder: --folder FOLDER, or in "
            "Python folder=FOLDER."
        ) from error


def write(
    trials: Mapping[str, Sequence[Trial]],
    folder: Path,
    console: Console,
    *,
    experiment: str,
    tracking_uri: str | None = None,
    left_out: str = "",
    command: str,
    full: str,
) -> Path:
    """Compare finished trials with the published tables, and make the page of `fnnexp reproduce`.

    The page is printed, written to `folder` and logged to MLflow. Return its path.

    Parameters
    ----------
    trials
        The trials of each published experiment (preset); other trials of the experiment are ignored.
    folder
        The folder for `reproduce.html`, `reproduce.md`, the CSV files and the figures.
    console
        Where to print.
    experiment, tracking_uri
        The experiment and the store that have the trials.
    left_out
        A note on what a shorter run, such as `--quick`, leaves out; "" for the full run.
    command, full
        The command that makes this page again, and the command that makes the page of the full run.

    Raises
    ------
    FnnexpError
        If the folder cannot be written, or if no trial of a preset has finished.
    """
    runs, curves, diagnostics = frames.whole(experiment, tracking_uri=tracking_uri)
    finished = set(runs.loc[runs["status"] == "finished", "trial"].astype("str"))
    done = {preset: [each for each in group if each.id in finished] for preset, group in trials.items()}
    if unfinished := [preset for preset, group in done.items() if not group]:
        raise FnnexpError(
            f"No trial of {', '.join(unfinished)} has finished, so nothing can be compared with the tables; "
            "run the same command again to resume"
        )
    presets = {trial.id: preset for preset, group in done.items() for trial in group}
    facts = ran_with(filters.part(runs, runs["trial"].isin(presets)))
    with_recalls = {preset: group for preset, group in done.items() if preset.partition(" ")[0] in CLASSICS}
    recalled = recalls.of_test_images(
        with_recalls, dict(zip(runs["trial"], runs["run_id"], strict=True)), tracking_uri
    )
    ours = Ours(done, labelled(curves, presets), _layers(diagnostics, presets), recalled)
    document = make(ours, left_out, facts, command, full)
    files = write_files(document, folder, "reproduce")
    terminal.show(document, console)
    kept = [each for each in document.sections if each.title not in (EVERY_ROW_TITLE, AGAIN_TITLE)]
    sentences = [each for section in kept for each in section.sentences]
    logged = log_files(experiment, tracking_uri, files, sentences, command)
    for line in (logged, f"Page: {folder / 'reproduce.html'}"):
        print_plain(console, line)
    return folder / "reproduce.html"
