"""What figures call classes and inputs: their names, if these fit and can be drawn, or else their numbers."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from matplotlib.font_manager import FontProperties, findfont, get_font

from fnnexp.reporting.document.wording import cut

if TYPE_CHECKING:
    from collections.abc import Sequence


def titles(names: Sequence[str], count: int, most: int, before: str = "", first: int = 0) -> list[str]:
    """Return a different text for each class or input, in the order of their numbers.

    Names with characters that the font of figures lacks, such as Japanese ones, are replaced by the number.
    If two names are the same once they are cut, all begin with their number.

    Parameters
    ----------
    names
        The names, or none.
    count
        How many classes or inputs there are.
    most
        The largest number of characters.
    before
        What is written before a number that stands alone.
    first
        The number of the first.

    Examples
    --------
    >>> titles(["ant", "猫", "bumblebee"], 3, 7), titles([], 2, 7, "class ")
    (['ant', '1', 'bumble…'], ['class 0', 'class 1'])
    >>> titles(["house martin", "house sparrow"], 2, 7)
    ['0 hous…', '1 hous…']
    """
    numbers = [f"{before}{number}" for number in range(first, first + count)]
    if not names:
        return numbers
    texts = [
        cut(name, most) if _can_be_drawn(name) else number
        for name, number in zip(names, numbers, strict=True)
    ]
    if len(set(texts)) == count:
        return texts
    return [
        cut(f"{first + i} {name}", most) if _can_be_drawn(name) else numbers[i]
        for i, name in enumerate(names)
    ]


def _can_be_drawn(text: str) -> bool:
    return all(ord(character) in _characters() for character in text)


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
