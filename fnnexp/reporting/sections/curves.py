"""Figures of the finished trials: the curves by epoch, and accuracy against training time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnnexp.reporting.document.blocks import Section
from fnnexp.reporting.figures import Drawing, of_finished_trials
from fnnexp.reporting.plots.against_time import against_time as draw_against_time
from fnnexp.reporting.plots.curves import curves as draw_curves
from fnnexp.results.ranking import matching_accuracy, ranking_of

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.results.ranking import Ranking


def section(runs: pd.DataFrame, curves: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section of the curves, of the accuracy and the loss on the images that rank."""
    accuracy = matching_accuracy(runs, ranking or ranking_of(runs))
    split = accuracy.removeprefix("best_").partition("_")[0]

    def drawing(quantity: str) -> Drawing:
        metric = f"{split}_{quantity}"
        return Drawing(metric, _caption(metric), lambda part: draw_curves(part, curves, metric))

    return Section("Curves", of_finished_trials(runs, [drawing("accuracy"), drawing("loss")], ranking))


def against_time(runs: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section of accuracy against training time."""
    metric = matching_accuracy(runs, ranking or ranking_of(runs))
    drawing = Drawing("accuracy_against_time", AGAINST_TIME, lambda part: draw_against_time(part, metric))
    return Section("Accuracy against training time", of_finished_trials(runs, [drawing], ranking))


def _caption(metric: str) -> str:
    start = f"{metric} by epoch: the mean over seeds in its 95% interval (Student's t), of finished trials."
    axis = "The axis is stretched towards 100% (by the logit), where points are hardest to gain."
    if metric.endswith("loss"):
        axis = "The axis ends where a few lines would leave the others; those that end above it are named."
    return f"{start} {axis} Numerically identical configurations lie on top of each other."


AGAINST_TIME = (
    "Mean and 95% interval (Student's t) against the seconds of training of one trial in its stack, as"
    " measured while the sweep ran. The marker is the initializer, its filling the batching mode. The axis is"
    " stretched towards 100%."
)
