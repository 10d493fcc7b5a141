"""Draw the figures of a section, once per combination of the factors that one figure cannot show."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import FILES, PAGE, Text
from fnnexp.reporting.document.wording import listed
from fnnexp.reporting.plots import picture
from fnnexp.results import numeric
from fnnexp.results.factors import AXES, as_text, group_numbers, groups, labels_of, others
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from fnnexp.reporting.document.blocks import Block, Figure, Medium
    from fnnexp.results.ranking import Ranking

MOST_COMBINATIONS = 12
"""The largest number of combinations of other factors that are drawn; curves.csv has the curves of all."""


MOST_OPTIONS = 24
"""The largest number of architectures, of initializers and of batching modes in a figure."""


class Drawing(NamedTuple):
    """A figure to draw: its name, its caption, and a function that draws it from trials.

    The function returns None if these trials have nothing to draw.
    """

    name: str
    caption: str
    draw: Callable[[pd.DataFrame], picture.Picture | None]


def for_each(
    rows: pd.DataFrame,
    factors: Sequence[str],
    drawings: Sequence[Drawing],
    *,
    most: int,
    media: Medium = FILES,
) -> Iterator[Figure]:
    """Draw each of the drawings once for each combination of the factors, and yield these figures.

    The heading of a figure names its combination. Only the first `most` combinations are drawn.
    """
    for i, (values, group) in enumerate(islice(groups(rows, factors), most), start=1):
        about = {name: as_text(value) for name, value in zip(factors, values, strict=True)}
        heading = ", ".join(f"{name}={text}" for name, text in about.items())
        for name, caption, draw in drawings:
            figure = draw(group)
            if figure is not None:
                number = i if factors else None
                yield picture.block(figure, name, caption, heading, number=number, media=media, about=about)


def shared_scale(
    rows: pd.DataFrame, factors: Sequence[str], means: Callable[[pd.DataFrame], pd.Series]
) -> tuple[float, float] | None:
    """Return the range of the means that several figures show, so that all can have the same colours.

    It is the least and the largest mean of the first :data:`MOST_COMBINATIONS` combinations, or None if there
    are no means.

    Parameters
    ----------
    rows, factors
        As for :func:`for_each`.
    means
        A function that returns the means that a figure shows, given the figure's rows.
    """
    first = islice(groups(rows, factors), MOST_COMBINATIONS)
    known = [mean for _, group in first for mean in means(group).dropna()]
    return (min(known), max(known)) if known else None


def of_the_best(finished: pd.DataFrame, ranking: Ranking) -> tuple[pd.DataFrame, str]:
    """Return the trials of the best options, few enough for a figure, and a sentence on what they are.

    A figure has a panel or a line for each architecture, initializer and batching mode. If there are more
    than :data:`MOST_OPTIONS` of one kind, only those with the best trials are kept. If there are not, all
    trials are returned and the sentence is empty.
    """
    notes = []
    goodness = ranking.goodness(finished[ranking.metric])
    for axis in AXES:
        labels = labels_of(finished, axis)
        best = goodness.groupby(labels, observed=True).max().sort_values(ascending=False, kind="stable")
        if len(best) > MOST_OPTIONS:
            finished = finished[labels.isin(best.index[:MOST_OPTIONS])]
            goodness = goodness[finished.index]
            notes.append(f"{MOST_OPTIONS} of {len(best):,} options of {axis}")
    return finished, f"The figures show the {listed(notes)} with the best trials." if notes else ""


def of_finished_trials(
    runs: pd.DataFrame, drawings: Sequence[Drawing], ranking: Ranking | None = None
) -> list[Block]:
    """Return the figures of the finished trials for the page, and sentences on what they show and omit.

    If numeric factors such as `optimizer.lr` vary, each option is drawn at its own best values of them. Other
    figures show all values (:mod:`fnnexp.reporting.sections.by_factor.numeric_factors`).
    """
    runs = numeric.at_best(runs, ranking)
    finished, factors = runs[runs["status"] == "finished"], others(runs)
    drawn, note = of_the_best(finished, ranking or ranking_of(runs))
    blocks: list[Block] = [*for_each(drawn, factors, drawings, most=MOST_COMBINATIONS, media=PAGE)]
    if blocks and note:
        blocks.insert(0, Text(note, PAGE))
    if blocks and (axes := numeric.axes_at_best(runs)):
        blocks.insert(0, Text(f"Each option is shown at its own best {' and '.join(axes)}.", PAGE))
    omitted = group_numbers(drawn, factors).nunique() - MOST_COMBINATIONS
    if not blocks:
        blocks.append(Text("No trial has finished, so there is nothing to draw.", PAGE))
    elif omitted > 0:
        blocks.append(
            Text(f"The files have {plural(omitted, 'more combination')} of {', '.join(factors)}.", PAGE)
        )
    return blocks
