"""Figures of the finished trials: the curves by epoch, and accuracy against training time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.reporting import averages
from fnnexp.reporting.document.blocks import FILES, MOST_ROWS, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import after_stopping, between, plain
from fnnexp.reporting.figures import Drawing, of_finished_trials
from fnnexp.reporting.plots.against_time import against_time as draw_against_time
from fnnexp.reporting.plots.curves import curves as draw_curves
from fnnexp.results import numeric
from fnnexp.results.factors import AXES, as_text, groups, others
from fnnexp.results.ranking import Ranking, matching_accuracy, ranking_of

if TYPE_CHECKING:
    from collections.abc import Sequence


TITLE = "Curves"


def section(runs: pd.DataFrame, curves: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section with the curves of accuracy and loss on the rows by which trials are ranked.

    Curves of one epoch are a table instead of figures of single points.
    """
    accuracy = matching_accuracy(runs, ranking or ranking_of(runs))
    split = accuracy.removeprefix("best_").partition("_")[0]
    metrics = [f"{split}_{quantity}" for quantity in ("accuracy", "loss")]
    if len(points := _of_one_epoch(numeric.at_best(runs, ranking), curves, metrics)):
        epoch = int(points["epoch"].iloc[0])
        note = Text(ONE_EPOCH.format(epoch) if epoch else UNTRAINED, quiet=True)
        return Section(TITLE, [note, _table(points, metrics)], {"one_epoch": points})

    copies = "identical_to" in runs and runs["identical_to"].notna().any()
    identical = " The lines of numerically identical configurations coincide." if copies else ""

    def drawing(quantity: str) -> Drawing:
        metric = f"{split}_{quantity}"
        of_metric = curves[curves["metric"] == metric]
        return Drawing(
            metric,
            f"{metric} by epoch: mean over the seeds of finished trials.{identical}{after_stopping(runs)}",
            lambda trials: draw_curves(trials, of_metric, metric),
        )

    return Section(TITLE, of_finished_trials(runs, [drawing("accuracy"), drawing("loss")], ranking))


def _of_one_epoch(runs: pd.DataFrame, curves: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the means of metrics over seeds, if the curves of all finished trials have one common epoch.

    There is a row for each combination of all factors. If the curves have several epochs, there are no rows.
    """
    finished = runs[runs["status"] == "finished"]
    factors = others(runs)
    own = curves[curves["trial"].isin(finished["trial"]) & curves["metric"].isin(metrics)]
    if own.empty or own["epoch"].min() != own["epoch"].max():
        return pd.DataFrame()
    by = [*AXES, "epoch"]
    rows = []
    for values, trials in groups(finished, factors):
        parts = [averages.of_curves(trials, own, metric).set_index(by) for metric in metrics]
        columns = ("count", "mean", "low", "high")
        named = [part[[*columns]].add_prefix(f"{m} ") for m, part in zip(metrics, parts, strict=True)]
        means = pd.concat(named, axis=1).reset_index()
        rows.append(means.assign(**dict(zip(factors, map(as_text, values), strict=True))))
    return pd.concat(rows, ignore_index=True)[[*factors, *by, *rows[0].columns.difference([*factors, *by])]]


def _table(points: pd.DataFrame, metrics: Sequence[str]) -> Table:
    """Return the table of the rows of :func:`_of_one_epoch`."""
    names = [*points.columns[: points.columns.get_loc("epoch")]]
    head = [*names, "seeds"]
    for metric in metrics:
        head += [f"{metric} %" if metric.endswith("accuracy") else metric, "95% interval"]
    rows = []
    for point in points.head(MOST_ROWS).to_dict("records"):
        seeds = point[f"{metrics[0]} count"]
        row = [*(Cell(str(point[name])) for name in names), Cell(str(seeds), float(seeds))]
        for metric in metrics:
            mean, low, high = (float(point[f"{metric} {column}"]) for column in ("mean", "low", "high"))
            ranking = Ranking(metric)
            row += [
                Cell(plain(mean, ranking), mean),
                Cell(between(low, high, ranking) if low < high else "–"),
            ]
        rows.append(row)
    return Table("", head, rows, len(names), FILES, file="one_epoch.csv", total=len(points))


def against_time(runs: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section on accuracy against training time."""
    metric = matching_accuracy(runs, ranking or ranking_of(runs))
    drawing = Drawing("accuracy_against_time", AGAINST_TIME, lambda trials: draw_against_time(trials, metric))
    return Section("Accuracy against training time", of_finished_trials(runs, [drawing], ranking))


TITLE = "Curves"
ONE_EPOCH = (
    "All trials have one epoch, so their curves are a table: the mean over the seeds of finished trials after"
    " epoch {}, with its 95% interval (Student's t)."
)
UNTRAINED = (
    "The trials were not trained, so their curves are a table: the mean over the seeds of finished trials,"
    " with its 95% interval (Student's t)."
)


AGAINST_TIME = (
    "Mean accuracy over seeds against the training time of one trial in its stack (the trials that train"
    " together), measured while the sweep ran. The accuracy axis is stretched towards 100% (logit)."
)
