"""The figures of a section, drawn for each combination of the factors that one figure can't show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from fnnexp.reporting.document.blocks import FILES, PAGE, Text
from fnnexp.reporting.plots import picture
from fnnexp.results import numeric
from fnnexp.results.factors import as_text, groups, others

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from fnnexp.reporting.document.blocks import Block, Figure, Medium
    from fnnexp.results.ranking import Ranking

MOST_COMBINATIONS = 12
"""The most combinations of other factors that are drawn; curves.csv has the rest."""


class Drawing(NamedTuple):
    """A figure to draw from some rows: its name, its caption, and the function, which may find nothing."""

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
    """Yield the drawings of each combination of the factors, at most so many, under its name as a heading."""
    for i, (key, part) in enumerate(list(groups(rows, factors))[:most], start=1):
        heading = ", ".join(f"{name}={as_text(value)}" for name, value in zip(factors, key, strict=True))
        for name, caption, draw in drawings:
            figure = draw(part)
            if figure is not None:
                number = i if factors else None
                yield picture.block(figure, name, caption, heading, number=number, media=media)


def of_finished_trials(
    runs: pd.DataFrame, drawings: Sequence[Drawing], ranking: Ranking | None = None
) -> list[Block]:
    """Return the drawings for the page, and a sentence where there are none, or not all.

    What numeric factors vary in is drawn at each option's best values: they are axes, with figures of their
    own (:mod:`fnnexp.reporting.sections.by_factor.numeric_factors`).
    """
    runs = numeric.at_best(runs, ranking)
    finished, beside = runs[runs["status"] == "finished"], others(runs)
    blocks: list[Block] = [*for_each(finished, beside, drawings, most=MOST_COMBINATIONS, media=PAGE)]
    if blocks and (axes := numeric.axes_at_best(runs)):
        blocks.insert(0, Text(f"Each at its own best {' and '.join(axes)}.", PAGE))
    more = sum(1 for _ in groups(finished, beside)) - MOST_COMBINATIONS
    if not blocks:
        blocks.append(Text("No trial has finished, so there is nothing to draw.", PAGE))
    elif more > 0:
        blocks.append(Text(f"{more} more combinations of {', '.join(beside)} are in the files.", PAGE))
    return blocks
