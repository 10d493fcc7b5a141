"""The figures of a section, drawn for each combination of the factors that one figure can't show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from fnnexp.reporting.document.blocks import FILES
from fnnexp.reporting.plots import picture
from fnnexp.results import frames
from fnnexp.results.frames import groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from fnnexp.reporting.document.blocks import Figure, Medium


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
        heading = ", ".join(
            f"{name}={frames.as_text(value)}" for name, value in zip(factors, key, strict=True)
        )
        for name, caption, draw in drawings:
            figure = draw(part)
            if figure is not None:
                number = i if factors else None
                yield picture.block(figure, name, caption, heading, number=number, media=media)
