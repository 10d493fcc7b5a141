"""Figures of the finished trials: the curves by epoch, and accuracy against training time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnnexp.reporting.document.blocks import PAGE, Section, Text
from fnnexp.reporting.plots.against_time import against_time as draw_against_time
from fnnexp.reporting.plots.curves import curves as draw_curves
from fnnexp.reporting.sections.figures import Drawing, for_each
from fnnexp.results.frames import groups, others, ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from fnnexp.reporting.document.blocks import Block

MOST_COMBINATIONS = 12
"""At most so many combinations of other factors are drawn; the rest is in curves.csv."""


def section(runs: pd.DataFrame, curves: pd.DataFrame) -> Section:
    """Return the section of the curves, of the accuracy and the loss that rank."""
    split = ranking(runs).partition("_")[0]

    def drawing(quantity: str) -> Drawing:
        metric = f"{split}_{quantity}"
        return Drawing(metric, _caption(metric), lambda part: draw_curves(part, curves, metric))

    return Section("Curves", figures(runs, [drawing("accuracy"), drawing("loss")]))


def against_time(runs: pd.DataFrame) -> Section:
    """Return the section of accuracy against training time."""
    metric = ranking(runs)
    drawing = Drawing("accuracy_against_time", AGAINST_TIME, lambda part: draw_against_time(part, metric))
    return Section("Accuracy against training time", figures(runs, [drawing]))


def figures(runs: pd.DataFrame, drawings: Sequence[Drawing]) -> list[Block]:
    """Return the drawings of the finished trials, and a sentence where there are none, or not all."""
    finished, beside = runs[runs["status"] == "finished"], others(runs)
    blocks: list[Block] = [*for_each(finished, beside, drawings, most=MOST_COMBINATIONS, media=PAGE)]
    more = sum(1 for _ in groups(finished, beside)) - MOST_COMBINATIONS
    if not blocks:
        blocks.append(Text("No trial has finished, so there is nothing to draw.", PAGE))
    elif more > 0:
        blocks.append(Text(f"{more} more combinations of {', '.join(beside)} are in the files.", PAGE))
    return blocks


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
