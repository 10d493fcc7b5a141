"""Figures of the finished trials: the curves by epoch, and accuracy against training time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnnexp.reporting.document.blocks import Section
from fnnexp.reporting.document.wording import after_stopping
from fnnexp.reporting.figures import Drawing, of_finished_trials
from fnnexp.reporting.plots.against_time import against_time as draw_against_time
from fnnexp.reporting.plots.curves import curves as draw_curves
from fnnexp.results.ranking import matching_accuracy, ranking_of

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.results.ranking import Ranking


TITLE = "Curves"


def section(runs: pd.DataFrame, curves: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section with the curves of accuracy and loss, on the split of the ranking metric."""
    accuracy = matching_accuracy(runs, ranking or ranking_of(runs))
    split = accuracy.removeprefix("best_").partition("_")[0]

    def drawing(quantity: str) -> Drawing:
        metric = f"{split}_{quantity}"
        of_metric = curves[curves["metric"] == metric]
        return Drawing(
            metric,
            _caption(metric) + after_stopping(runs),
            lambda trials: draw_curves(trials, of_metric, metric),
        )

    return Section(TITLE, of_finished_trials(runs, [drawing("accuracy"), drawing("loss")], ranking))


def against_time(runs: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section on accuracy against training time."""
    metric = matching_accuracy(runs, ranking or ranking_of(runs))
    drawing = Drawing("accuracy_against_time", AGAINST_TIME, lambda trials: draw_against_time(trials, metric))
    return Section("Accuracy against training time", of_finished_trials(runs, [drawing], ranking))


def _caption(metric: str) -> str:
    start = f"{metric} by epoch: mean over the seeds of finished trials, with its 95% interval (Student's t)."
    axis = "The axis is stretched towards 100% (logit), where improvements are hardest."
    if metric.endswith("loss"):
        axis = (
            "The axis is cut where a few lines would flatten the others; lines that end above it are listed."
        )
    return f"{start} {axis} The lines of numerically identical configurations coincide."


AGAINST_TIME = (
    "Mean accuracy over seeds with its 95% interval (Student's t), against the training time of one trial in"
    " its stack (the trials that train together), measured while the sweep ran. The marker shows the"
    " initializer, its fill the batching mode. The accuracy axis is stretched towards 100% (logit)."
)
