"""Write the report of an experiment: make its sections once, then render them for each medium.

Each section is a function of frames (:func:`fnnexp.runs` or a selection of its rows), so a report can cover
any part of an experiment.
"""

from __future__ import annotations

import re
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd
from pandas.api.types import is_numeric_dtype

from fnnexp import console as notebook
from fnnexp.config.commands import file_name, ranking_options, report_command
from fnnexp.console import print_plain
from fnnexp.data import sources
from fnnexp.errors import FnnexpError, plural, printable
from fnnexp.pieces import files as files_of_pieces
from fnnexp.reporting import handout as handouts
from fnnexp.reporting import tuned
from fnnexp.reporting.document import html, markdown, terminal
from fnnexp.reporting.document.blocks import Document, Section
from fnnexp.reporting.plots.picture import svg_file
from fnnexp.reporting.sections import (
    curves,
    layers,
    leaderboard,
    mistakes,
    overview,
    own,
    pairs,
    provenance,
    schedules,
    summary,
    troubles,
)
from fnnexp.reporting.sections.by_factor import architecture, boundaries, equal_cost, numeric_factors, shares
from fnnexp.reporting.sections.by_factor import asked as questions_asked
from fnnexp.reporting.sections.by_factor import tuned as tuned_options
from fnnexp.results import filters, frames, questions
from fnnexp.results.factors import by_version
from fnnexp.results.networks import histograms
from fnnexp.results.ranking import level_of, ranking_of, seconds_to
from fnnexp.tracking import experiment as experiments
from fnnexp.tracking import reader, store
from fnnexp.tracking.retry import reason
from fnnexp.tracking.run_format import RANGE_TEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

    from fnnexp.tracking.run_format import Asked


def write(
    experiment: str,
    folder: str | Path | None = None,
    *,
    where: Mapping[str, str] | None = None,
    metric: str | None = None,
    margin: float | None = None,
    compare: Sequence[str] = (),
    handout: bool = False,
    title: str | None = None,
    tracking_uri: str | None = None,
    console: Console | None = None,
) -> Path:
    """Print the report of an experiment, write it as an HTML page and files, and log it to MLflow.

    Parameters
    ----------
    experiment, tracking_uri
        The name of the experiment, and the store that has it; None for the store of `MLFLOW_TRACKING_URI`,
        else MLflow's default.
    folder
        The folder for `report.html` (self-contained), `report.md`, the tables as CSV and the figures as SVG
        and PNG; `reports/<experiment>` if None.
    where
        Report only the trials with these options, such as `{"arch": "tanh_128"}`
        (:func:`fnnexp.results.filters.where`). A report on selected trials is not logged to MLflow.
    metric
        The metric that ranks, such as `val_loss` or `seconds_to_0.95`; None for the default. If it is given,
        the report is not logged to MLflow.
    margin
        The difference below which two options are equivalent, in the unit of :func:`fnnexp.compare`; None for
        the default. If it is given, the report is not logged to MLflow.
    compare
        The factors whose options the answer compares first. By default, the answer begins with what the last
        sweep with `until=settled` asked. If any are given, the report is not logged to MLflow.
    handout
        Whether to write `handout.html` too, which prints on one page.
    title
        The title of both pages; the experiment and the selection if None.
    console
        Where to print; the terminal if None.

    Returns
    -------
    Path
        The path of the HTML page.

    Raises
    ------
    FnnexpError
        If the experiment does not exist or has no matching trials, if the metric cannot rank them, if a
        factor to compare does not vary, if the folder name is empty or the folder cannot be written, or if
        the title is empty or too long.
    """
    _refuse_other_than_a_title(title)
    if folder is not None and not str(folder).strip():
        raise FnnexpError(f"folder={str(folder)!r}: must be a path; omit it for reports/EXPERIMENT")
    given_folder = None if folder is None else sources.place(folder)
    console = console or notebook.terminal()
    with _stages(console) as show_stage:
        show_stage("reading runs, curves and diagnostics")
        now = time.time_ns() // 1_000_000
        whole = frames.whole(experiment, tracking_uri=tracking_uri)
        if whole.runs.empty:
            if reader.map_runs(experiment, tracking_uri):
                raise FnnexpError(
                    f"The experiment '{experiment}' has only maps (of fnnexp map), which have no report; "
                    f"fnnexp.read_map({experiment!r}) returns the arrays of the newest"
                )
            if reader.map_runs(experiment, tracking_uri, RANGE_TEST):
                raise FnnexpError(
                    f"The experiment '{experiment}' has only range tests of learning rates, which have no "
                    "report; to see one again, write the command that made it, which trains nothing"
                )
            raise FnnexpError(f"The experiment '{experiment}' has no fnnexp trials yet; run a sweep first.")
        if where:
            whole = _selected(whole, where)
        options = [f"{key}={value}" for key, value in (where or {}).items()]
        notes: list[str] = []
        if "epochs" not in {*compare, *(where or {})}:
            kept = filters.longest(whole.runs)
            if kept is not whole.runs:
                stored = store.option(tracking_uri) + files_of_pieces.options()
                command_of = partial(report_command, experiment, store=stored)
                notes = _about_longest(whole.runs, kept, command_of, options)
                whole = _with_runs(whole, kept)
        asked = reader.asked(experiment, tracking_uri)
        if compare and level_of(metric) is not None:
            raise FnnexpError(
                f"--compare {','.join(compare)}: --metric {metric} is a time, and times are not tested, "
                "because trials that train together share one measured time; omit --compare, or write "
                "another --metric"
            )
        if compare:
            asked = questions_asked.by_compare(whole.runs, compare)
        rank_options = ranking_options(metric, margin, compare)
        show_stage(f"comparing and drawing {plural(len(whole.runs), 'trial')}")
        document = make(
            experiment,
            options,
            whole,
            tracking_uri,
            given_folder,
            metric=metric,
            margin=margin,
            asked=asked,
            compare=compare,
            handout=handout,
            title=title,
            notes=notes,
        )
        name = file_name("\0".join([experiment, *options]) + rank_options.replace(" --", "\0"))
        target = given_folder or Path("reports", name)
        show_stage(f"writing to {terminal.in_a_line(str(target))}".replace("[", r"\["))
        pages = {}
        if handout:
            pages["handout.html"] = html.render(handouts.of_report(document, whole.runs), "handout.html")
        files = write_files(document, target, "report", pages)
        terminal.show(document, console)
        lines = []
        if not where and not rank_options:
            show_stage("logging the report to MLflow")
            sentences = [*document.section(summary.TITLE).sentences, overview.counts(whole.runs)]
            options_of_store = store.option(tracking_uri) + files_of_pieces.options()
            command = report_command(experiment, store=options_of_store, handout=handout, title=title)
            lines.append(log_files(experiment, tracking_uri, files, sentences, command))
        lines += record_look(experiment, tracking_uri, whole.runs, now)
        lines.append(f"Report: {target / 'report.html'}")
        lines += [f"To print on one page: {target / page}" for page in pages]
    for line in lines:
        print_plain(console, line)
    return target / "report.html"


@dataclass(frozen=True)
class Report:
    """A report that was written. A notebook shows it as a link; `open(report.path)` reads the page.

    Attributes
    ----------
    path
        The HTML page. Its folder has the same content as Markdown, tables as CSV, and figures.
    handout
        The page to print, if it was asked for.
    """

    path: Path
    handout: Path | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        return "<br>".join(_link(page) for page in (self.path, self.handout) if page is not None)


def _link(page: Path) -> str:
    """Return a link to a page for a notebook."""
    path = page.absolute()
    inside = path.is_relative_to(Path.cwd())  # Jupyter opens files below its folder by relative links
    link = quote(path.relative_to(Path.cwd()).as_posix()) if inside else path.as_uri()
    return f'<a href="{escape(link)}" target="_blank">{escape(str(page))}</a>'


def report(
    experiment: str,
    *where: str,
    metric: str | None = None,
    margin: float | None = None,
    handout: bool = False,
    title: str | None = None,
    folder: str | Path | None = None,
    tracking_uri: str | None = None,
) -> Report:
    """Print a report of an experiment, on what is best and how sure that is, and write it as a page.

    The command `fnnexp report` prints and writes the same, and takes the same arguments.

    Parameters
    ----------
    experiment, tracking_uri
        The name of the experiment, and the store that has it (see :func:`fnnexp.runs`).
    where
        Report only the trials with these options, each `KEY=VALUE` or `KEY=VALUE,VALUE`.
    metric, margin
        The metric that ranks, such as `val_loss` or `seconds_to_0.95`, and the difference below which two
        options are equivalent (see :func:`fnnexp.compare`).
    handout
        Whether to write `handout.html` beside the page: the answer, one figure, one table and how it was run,
        to print on one sheet.
    title
        The title of the pages, a text of one line. Default: the experiment and the options of `where`.
    folder
        The folder of the page and its files. Default: `reports/EXPERIMENT`.

    Returns
    -------
    Report
        Its `path` is the page `report.html`, and its `handout` the page to print, if it was written. A
        notebook shows links to both.

    Raises
    ------
    FnnexpError
        If the experiment does not exist or has no matching trials, if the metric cannot rank them, if the
        title is empty or too long, or if the folder cannot be written.

    Examples
    --------
    >>> fnnexp.report("card_grid", "batching=mini", metric="val_loss")  # doctest: +SKIP
    """
    frames.refuse_other_than_a_name(experiment, "report")
    selection: dict[str, str] = {}
    for word in where:
        key, _, values = word.partition("=") if isinstance(word, str) else ("", "", "")
        if not key or not values:
            raise FnnexpError(
                f"fnnexp.report({experiment!r}, {word!r}): after the experiment's name follow options as "
                'KEY=VALUE; write "arch=tanh_128"'
            )
        if selection.setdefault(key, values) != values:
            raise FnnexpError(
                f"{key} is given twice, as {selection[key]} and {values}; write "
                f'"{key}={selection[key]},{values}"'
            )
    page = write(
        experiment,
        folder,
        where=selection,
        metric=metric,
        margin=margin,
        handout=handout,
        title=title,
        tracking_uri=tracking_uri,
    )
    return Report(page, page.with_name("handout.html") if handout else None)


LONGEST_TITLE = 120
"""Maximum number of characters of a title; a handout has no room for longer ones."""


def _refuse_other_than_a_title(title: str | None) -> None:
    """Raise if a title is given that is no text of one line."""
    if title is None:
        return
    if (
        isinstance(title, str)
        and title.strip()
        and len(title) <= LONGEST_TITLE
        and len(title.splitlines()) == 1
        and printable(title) == title
    ):
        return
    given = repr(title) if len(repr(title)) <= 2 * LONGEST_TITLE else f"{repr(title)[:LONGEST_TITLE]}…"
    raise FnnexpError(
        f"title={given}: must be a text of 1 to {LONGEST_TITLE} characters on one line; omit it for the "
        "experiment's name"
    )


@contextmanager
def _stages(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a text, the current stage of the work; it does so only on a terminal."""
    if not console.is_terminal:
        yield lambda stage: None
        return
    with console.status("") as status:
        yield lambda stage: status.update(f"[dim]{stage} …")


def _selected(whole: frames.ExperimentFrames, where: Mapping[str, str]) -> frames.ExperimentFrames:
    """Return the frames of the trials with these options."""
    return _with_runs(whole, filters.where(whole.runs, where))


def _about_longest(
    runs: pd.DataFrame, kept: pd.DataFrame, command: Callable[..., str], options: Sequence[str]
) -> list[str]:
    """Return a note that only the trials with more epochs are reported, with commands to report on others.

    `runs` are all trials, and `kept` those that are reported.
    """
    left_out = sorted(runs.loc[~runs["trial"].isin(kept["trial"]), "epochs"].unique())
    shorter = command([*options, f"epochs={','.join(map(str, left_out))}"])
    both = command(options, ranked=ranking_options(None, None, ["epochs"]))
    return [f"{filters.about_longest(runs, kept)} The others: {shorter}. To compare both: {both}"]


def make(
    experiment: str,
    where: Sequence[str],
    whole: frames.ExperimentFrames,
    tracking_uri: str | None,
    folder: Path | None = None,
    *,
    metric: str | None = None,
    margin: float | None = None,
    asked: Asked | None = None,
    compare: Sequence[str] = (),
    handout: bool = False,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> Document:
    """Return the report on some trials of an experiment as a document, which is not yet written to files.

    Parameters
    ----------
    experiment, tracking_uri
        The name of the experiment, and the store that has it.
    where
        The options by which the trials were selected, as `KEY=VALUE`; the commands on the page repeat them.
    whole
        The runs, curves and diagnostics of these trials.
    folder
        The folder of the report for the commands on the page; None for the default folder.
    metric, margin, compare, handout, title
        The arguments of :func:`write` with these names.
    asked
        The questions whose answers come first, if any were asked.
    notes
        Sentences on which trials are compared.
    """
    with frames.remembering():
        runs, sections = _sections(whole, tracking_uri, metric, margin, asked, notes)
    sections += own.sections(filters.compared(runs))
    rank_options = ranking_options(metric, margin, compare)
    options = store.option(tracking_uri) + files_of_pieces.options()
    command = partial(
        report_command, experiment, store=options, ranked=rank_options, handout=handout, title=title
    )
    files = [*(f"{name}.csv" for name in Document("", sections).data), "report.md"]
    sections.append(provenance.section(command, where, runs, files, folder))
    usual = " ".join([experiment, *where]) + (f" by {metric}" if metric else "")
    return Document(usual if title is None else title, sections)


def _sections(
    whole: frames.ExperimentFrames,
    tracking_uri: str | None,
    metric: str | None,
    margin: float | None,
    asked: Asked | None,
    notes: Sequence[str],
) -> tuple[pd.DataFrame, list[Section]]:
    """Return the runs of a report, and its sections except the user's own and the last (how to reproduce it).

    The arguments are those of :func:`make`.
    """
    whole = whole._replace(runs=by_version(whole.runs))
    if (level := level_of(metric)) is not None:
        whole = whole._replace(runs=seconds_to(whole.runs, whole.curves, level))
    everything = frames.in_order(whole.runs)
    answers = (
        None
        if asked is None
        else questions_asked.answers(filters.compared(everything), asked, metric, margin)
    )
    ranking = ranking_of(everything, metric, margin if answers is None else answers.margin)
    tunings = tuned.all_of(everything, ranking)
    runs, over_values = tuned.parts(everything, tunings)
    what_was_run = overview.section(whole.runs, whole.curves, ranking)
    whole = _with_runs(whole, runs)
    shows_tuning, is_default = over_values is not runs, ranking.metric == frames.ranking(runs)
    keys = tuned.keys(tunings) if shows_tuning else []
    rows, findings = questions.rows_and_findings(runs.drop(columns=keys), ranking)
    findings = tuned.checked(findings, tunings, rows)
    ranks_values = is_default and not shows_tuning
    notes = [*notes, *(numeric_factors.wider_ranges(over_values) if ranks_values else [])]
    return everything, [
        summary.section(rows, findings, answers, notes, tuned=keys, apart=tunings),
        tuned_options.section(tunings, ranking, len(filters.compared(everything)) - len(runs)),
        layers.section(runs, whole.diagnostics, ranking, partial(histograms.of_runs, uri=tracking_uri)),
        *(numeric_factors.sections(over_values, tested=not shows_tuning) if is_default else []),
        what_was_run,
        leaderboard.section(runs, ranking),
        architecture.section(runs, ranking),
        pairs.section(rows, findings),
        equal_cost.section(runs, whole.curves, ranking),
        shares.section(runs, findings),
        curves.section(runs, whole.curves, ranking),
        curves.against_time(runs, ranking),
        *schedules.sections(runs),
        *boundaries.sections(rows, findings, tracking_uri),
        mistakes.section(rows, findings, tracking_uri),
        troubles.section(everything),
    ]


def _with_runs(whole: frames.ExperimentFrames, runs: pd.DataFrame) -> frames.ExperimentFrames:
    """Return the frames with these runs, and with the rows of other frames that belong to these runs."""
    if len(runs) == len(whole.runs):
        return whole._replace(runs=runs)
    others = (filters.part(frame, frame["trial"].isin(runs["trial"])) for frame in whole[1:])
    return frames.ExperimentFrames(runs, *others)


def write_files(
    document: Document, folder: Path, name: str, pages: Mapping[str, str] | None = None
) -> list[Path]:
    """Write a document as `name`.html and `name`.md, its data, its figures and other pages; return all paths.

    `pages` are the texts of the other pages by file name. All files are complete before the first of them
    replaces a file of an earlier report.

    Raises
    ------
    FnnexpError
        If the folder cannot be written.
    """
    texts = {f"{name}.html": html.render(document), f"{name}.md": markdown.render(document)}
    texts |= pages or {}
    texts |= {f"{figure.name}.svg": svg_file(figure.svg) for figure in document.figures}
    images = {f"{figure.name}.png": figure.png for figure in document.figures}
    tables = {f"{title}.csv": frame for title, frame in document.data.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as new:
            for file, text in texts.items():
                Path(new, file).write_text(text, encoding="utf-8")
            for file, image in images.items():
                Path(new, file).write_bytes(image)
            for file, frame in tables.items():
                for_spreadsheets(frame).to_csv(Path(new, file), index=False, encoding="utf-8")
            for file in (*texts, *images, *tables):
                Path(new, file).replace(folder / file)
    except OSError as error:
        raise FnnexpError(
            f"The report cannot be written to {folder}: {error}. Name another folder: --folder FOLDER, or in "
            "Python folder=FOLDER."
        ) from error
    return [folder / file for file in (*texts, *images, *tables)]


def for_spreadsheets(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with an apostrophe before every text and column name that looks like a formula.

    Spreadsheets evaluate text that begins with =, +, - or @, and names in a store can be any text. Numbers
    are unchanged. Control characters and line breaks are escaped.

    >>> for_spreadsheets(pd.DataFrame({"=a": ["=1+1", "-0.5", "he"], "x": [-1, 2, 3]})).to_dict("list")
    {"'=a": ["'=1+1", '-0.5', 'he'], 'x': [-1, 2, 3]}
    """
    texts = [column for column in frame.columns if not is_numeric_dtype(frame[column].dtype)]
    return frame.assign(**{text: _each_harmless(frame[text]) for text in texts}).rename(columns=_harmless)


def _each_harmless(column: pd.Series) -> pd.Series:
    """Return a column with its texts made harmless, as :func:`for_spreadsheets` says.

    A text that occurs in many rows is converted once, which is faster.
    """
    if column.dtype == object:  # pd.factorize needs hashable values
        return column.map(_harmless)
    codes, values = pd.factorize(column)
    harmless = pd.Series([_harmless(value) for value in values], dtype=object)
    return pd.Series(harmless.reindex(codes).to_numpy(), column.index)


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return f"'{printable(cell)}" if re.match(FORMULA, cell) else printable(cell)


FORMULA = r"(?i)\s*([=@]|[-+](?!(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*\Z))"


def log_files(
    experiment: str, uri: str | None, files: Sequence[Path], sentences: Sequence[str], command: str
) -> str:
    """Log the files of a report to MLflow, and return a line that says where they are or why logging failed.

    This raises no exception, because the report has been written already. `command` is the shell command that
    writes these files again; MLflow shows it.
    """
    try:
        text = "\n\n".join(map(markdown.escaped, sentences))
        experiments.log_report(experiment, uri, files, text, command)
    except FnnexpError as error:
        return f"The report is not in MLflow: {error}"
    except Exception as error:  # stores raise exceptions of many types
        return f"The report is not in MLflow: {reason(error)}"
    return f"In MLflow: the artifacts of run '{experiments.REPORT}' in this experiment."


def record_look(experiment: str, uri: str | None, runs: pd.DataFrame, when: int) -> list[str]:
    """Record in the store that these results have been seen, if some of them are seen for the first time.

    `when` is the time in milliseconds. If seeds are added later, the tests account for this look at the
    results. Return the lines to print: none, or one that says why this could not be recorded.
    """
    if not (runs["look"].isna() & (runs["status"] == "finished")).any():
        return []
    try:
        experiments.record_look(experiment, uri, when)
    except Exception as error:  # stores raise exceptions of many types
        why = str(error) if isinstance(error, FnnexpError) else reason(error)
        return [f"Could not record that these results were seen: {why}"]
    return []
