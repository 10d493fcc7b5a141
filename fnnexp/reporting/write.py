"""Write an experiment's report: make its sections once, then render them as page, Markdown and terminal text.

Each section is a function of frames (:func:`fnnexp.runs`, or any part of one), so a report of a part of an
experiment is the report of its rows.
"""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from fnnexp import console as notebook
from fnnexp.config.commands import ranking_options, report_command
from fnnexp.data import sources
from fnnexp.errors import FnnexpError, printable
from fnnexp.reporting.document import html, markdown, terminal
from fnnexp.reporting.document.blocks import Document
from fnnexp.reporting.document.wording import plural
from fnnexp.reporting.plots.picture import svg_file
from fnnexp.reporting.sections import (
    curves,
    layers,
    leaderboard,
    mistakes,
    overview,
    pairs,
    provenance,
    summary,
    troubles,
)
from fnnexp.reporting.sections.by_factor import architecture, equal_cost, numeric_factors, shares
from fnnexp.results import filters, frames, questions
from fnnexp.results.ranking import level_of, ranking_of, seconds_to
from fnnexp.tracking import experiment as experiments
from fnnexp.tracking import store
from fnnexp.tracking.retry import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console


def write(
    experiment: str,
    folder: str | Path | None = None,
    *,
    where: Mapping[str, str] | None = None,
    metric: str | None = None,
    margin: float | None = None,
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
        Only the trials with these options, as :func:`fnnexp.results.filters.where`; such a report is not
        logged to MLflow.
    metric, margin
        What ranks and within what options are equivalent, as for :func:`fnnexp.compare`, also
        `seconds_to_0.95`; a report that is told one is not logged to MLflow either.
    console
        Where to print; the terminal without it.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FnnexpError
        If there is no such experiment, no trial in it or none like that, the metric can't rank them, or the
        folder has no name or cannot be written.
    """
    if folder is not None and not str(folder).strip():
        raise FnnexpError(f"The folder {str(folder)!r} is no name; name one, or none for reports/EXPERIMENT.")
    named = None if folder is None else sources.place(folder)
    console = console or notebook.terminal()
    with _stages(console) as show_stage:
        show_stage("reading runs, curves and diagnostics")
        now = time.time_ns() // 1_000_000
        whole = frames.whole(experiment, tracking_uri=tracking_uri)
        if whole.runs.empty:
            raise FnnexpError(
                f"The experiment '{experiment}' holds no trials of fnnexp yet, so nothing to report."
            )
        if where:
            whole = _part(whole, where)
        options = [f"{key}={value}" for key, value in (where or {}).items()]
        ranked = ranking_options(metric, margin)
        show_stage(f"comparing and drawing {plural(len(whole.runs), 'trial')}")
        document = make(experiment, options, whole, tracking_uri, named, metric=metric, margin=margin)
        name = _file_name("\0".join([experiment, *options]) + ranked.replace(" --", "\0"))
        place = named or Path("reports", name)
        show_stage(f"writing to {terminal.in_a_line(str(place))}".replace("[", r"\["))
        files = write_files(document, place, "report")
        terminal.show(document, console)
        lines = []
        if not where and not ranked:
            show_stage("logging it to MLflow")
            sentences = [*document.section(summary.TITLE).sentences, overview.counts(whole.runs)]
            again = report_command(experiment, store=store.option(tracking_uri))
            lines.append(log_files(experiment, tracking_uri, files, sentences, again))
        lines += record_look(experiment, tracking_uri, whole.runs, now)
        lines.append(f"Report: {place / 'report.html'}")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return place / "report.html"


@contextmanager
def _stages(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the stage under way on a terminal; elsewhere it shows nothing."""
    if not console.is_terminal:
        yield lambda stage: None
        return
    with console.status("") as status:
        yield lambda stage: status.update(f"[dim]{stage} …")


def _part(whole: frames.ExperimentFrames, where: Mapping[str, str]) -> frames.ExperimentFrames:
    """Return the trials with these options."""
    runs = filters.where(whole.runs, where)
    others = (filters.part(each, each["trial"].isin(runs["trial"])) for each in whole[1:])
    return frames.ExperimentFrames(runs, *others)


def make(
    experiment: str,
    where: Sequence[str],
    whole: frames.ExperimentFrames,
    tracking_uri: str | None,
    folder: Path | None = None,
    *,
    metric: str | None = None,
    margin: float | None = None,
) -> Document:
    """Return the report of some trials as data.

    Parameters
    ----------
    experiment, tracking_uri
        Where the trials are.
    where
        The options that a part of the experiment has, `KEY=VALUE`.
    whole
        Its frames.
    folder
        Where the report goes, if not to its usual place.
    metric, margin
        As for :func:`write`.
    """
    if (level := level_of(metric)) is not None:
        whole = whole._replace(runs=seconds_to(whole.runs, whole.curves, level))
    runs = frames.in_order(whole.runs)
    ranking = ranking_of(runs, metric, margin)
    rows, findings = questions.rows_and_findings(runs, ranking)
    ranked = ranking_options(metric, margin)
    command = partial(report_command, experiment, store=store.option(tracking_uri), ranked=ranked)
    sections = [
        summary.section(rows, findings),
        layers.section(runs, whole.diagnostics, ranking),
        *(numeric_factors.sections(runs) if ranking.metric == frames.ranking(runs) else []),
        overview.section(whole.runs, whole.curves, ranking),
        leaderboard.section(runs, ranking),
        architecture.section(runs, ranking),
        pairs.section(rows, findings),
        equal_cost.section(runs, whole.curves, ranking),
        shares.section(runs, findings),
        curves.section(runs, whole.curves, ranking),
        curves.against_time(runs, ranking),
        mistakes.section(rows, findings, tracking_uri),
        troubles.section(runs),
    ]
    files = [*(f"{name}.csv" for section in sections for name in section.data), "report.md"]
    sections.append(provenance.section(command, where, runs, files, folder))
    return Document(" ".join([experiment, *where]) + (f" by {metric}" if metric else ""), sections)


def write_files(document: Document, folder: Path, name: str) -> list[Path]:
    """Write a document as `name`.html and `name`.md, with its data and its figures beside them.

    Raises
    ------
    FnnexpError
        When the folder can't be written.
    """
    texts = {f"{name}.html": html.render(document), f"{name}.md": markdown.render(document)}
    texts |= {f"{figure.name}.svg": svg_file(figure.svg) for figure in document.figures}
    images = {f"{figure.name}.png": figure.png for figure in document.figures}
    tables = {f"{title}.csv": frame for title, frame in document.data.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        for file, image in images.items():
            (folder / file).write_bytes(image)
        for file, frame in tables.items():
            for_spreadsheets(frame).to_csv(folder / file, index=False, encoding="utf-8")
    except OSError as error:
        raise FnnexpError(
            f"The report cannot be written to {folder}: {error}. Name another folder."
        ) from error
    return [folder / file for file in (*texts, *images, *tables)]


def for_spreadsheets(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with an apostrophe before each text, or column's name, that would be a formula.

    Spreadsheets compute what begins with =, +, - or @, and a name in a store can be any text. Numbers stay.
    What would steer a terminal, or end a row, is written out.

    >>> for_spreadsheets(pd.DataFrame({"=a": ["=1+1", "-0.5", "he"], "x": [-1, 2, 3]})).to_dict("list")
    {"'=a": ["'=1+1", '-0.5', 'he'], 'x': [-1, 2, 3]}
    """
    texts = [column for column in frame.columns if not is_numeric_dtype(frame[column].dtype)]
    return frame.assign(**{text: frame[text].map(_harmless) for text in texts}).rename(columns=_harmless)


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return f"'{printable(cell)}" if re.match(FORMULA, cell) else printable(cell)


FORMULA = r"(?i)\s*([=@]|[-+](?!(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*\Z))"


def log_files(
    experiment: str, uri: str | None, files: Sequence[Path], sentences: Sequence[str], again: str
) -> str:
    """Log a report's files to MLflow. Return what became of it: a store that takes none costs no report.

    `again` is the command that makes them again.
    """
    try:
        said = "\n\n".join(map(markdown.escaped, sentences))
        experiments.log_report(experiment, uri, files, said, again)
    except FnnexpError as error:
        return f"The report is not in MLflow: {error}"
    except Exception as error:  # a store's own exceptions are many
        return f"The report is not in MLflow, which did not take it: {reason(error)}"
    return f"In MLflow it is the run '{experiments.REPORT}' of the experiment, under Artifacts."


def record_look(experiment: str, uri: str | None, runs: pd.DataFrame, when: int) -> list[str]:
    """Record in the store that results were seen, as they were at a time in milliseconds, if any are new.

    Return what there is to say: nothing, or why it was not recorded.
    """
    if not (runs["look"].isna() & (runs["status"] == "finished")).any():
        return []
    try:
        experiments.record_look(experiment, uri, when)
    except Exception as error:  # a store's own exceptions are many
        why = str(error) if isinstance(error, FnnexpError) else reason(error)
        return [f"That these results were looked at is not recorded: {why}"]
    return []


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
