"""Which column of a table is the label, and whether all others are pixels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from fnnexp.data.labelled import Numbers, counting, is_label
from fnnexp.data.sources import listed
from fnnexp.errors import DataError, did_you_mean

LABEL = re.compile(r".*(label|class|target).*|y", re.IGNORECASE)
"""What a column with the labels is called."""
INDEX = ("", "id", "index")
"""What a column that numbers the rows is called."""

FEWEST_NUMBERS = 5
"""So many numbers, each one more than that before, are the columns' numbers and no image."""


def is_header(fields: Sequence[str]) -> bool:
    """Whether a file's first line has names: words, or the columns' numbers."""
    if not all(is_number(field) for field in fields):
        return True
    numbers = [float(field) for field in fields]
    return len(numbers) >= FEWEST_NUMBERS and all(b - a == 1 for a, b in pairwise(numbers))


def is_number(text: str) -> bool:
    """Whether Python reads a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def called(names: Sequence[str] | None, place: int) -> str:
    """Return what a column is called in a message."""
    return f"'{names[place]}'" if names else f"{place + 1}"


def label_of(names: Sequence[str] | None, values: Numbers, wanted: str | None, path: Path) -> tuple[int, str]:
    """Return the place of the label in a table whose other columns are pixels, and how it was found.

    Parameters
    ----------
    names
        The names of the columns, or None.
    values
        The numbers (rows, columns).
    wanted
        `first`, `last` or a name; or None, to find it by its name or, where no name tells, by its values.
    path
        The file, for messages.

    Returns
    -------
    tuple
        The place; and a sentence where the values decided, else an empty string.

    Raises
    ------
    DataError
        No column is the label, or several can be, or another one is no pixel.
    """
    stem = _stem_of_pixels(names) if names else None
    strays = [place for place, name in enumerate(names or ()) if not _is_pixel(name, stem)]
    label = _wanted(names, values.shape[1], wanted, path)
    if label is None and names and (stem is None or any(names[i].lower() not in INDEX for i in strays)):
        label = _named(names, strays, path)
    for place in counting(values):
        if place != label:
            raise DataError(
                f"{path}: column {called(names, place)} numbers the rows and is no pixel; save the table "
                "without it, as pandas does by to_csv(path, index=False)."
            )
    unused = [names[place] for place in strays if place != label] if names else []
    if unused and label is not None and LABEL.fullmatch(unused[0]):
        raise DataError(
            f"{path}: data.label={wanted} takes column {called(names, label)} for the label, and "
            f"'{unused[0]}' is called as a label is; write data.label={unused[0]}."
        )
    if unused:
        raise DataError(
            f"{path}: column '{unused[0]}' is neither the label nor a pixel, as numbered columns are; "
            f"save the table without it: table.drop(columns={unused}).to_csv(path, index=False)."
        )
    return (label, "") if label is not None else _by_values(values, path)


def _stem_of_pixels(names: Sequence[str]) -> str | None:
    """Return what at least half of the names are but for their numbers, as in `#x#` of `1x1` and `1x2`."""
    stems = Counter(stem for name in names if "#" in (stem := _stem(name)))
    return next((stem for stem, times in stems.most_common(1) if 2 * times >= len(names)), None)


def _stem(name: str) -> str:
    return re.sub(r"\d+", "#", name.lower())


def _is_pixel(name: str, stem: str | None) -> bool:
    """Whether a column is a pixel by its name; where pixels are not numbered, any name but some is one."""
    if stem is not None:
        return _stem(name) == stem
    return not LABEL.fullmatch(name) and name.lower() not in INDEX


def _wanted(names: Sequence[str] | None, count: int, wanted: str | None, path: Path) -> int | None:
    """Return the column that ``data.label`` names."""
    if wanted in ("first", "last", None):
        return {"first": 0, "last": count - 1, None: None}[wanted]
    if names is None:
        raise DataError(
            f"data.label={wanted}, and {path} has no header; write data.label=first or data.label=last."
        )
    if wanted not in names:
        raise DataError(
            f"data.label={wanted}: {path} has no such column; it has {listed(list(names))}."
            f"{did_you_mean(str(wanted), names)}"
        )
    return names.index(wanted)


def _named(names: Sequence[str], strays: Sequence[int], path: Path) -> int:
    """Return the one column that is called as a label is."""
    found = [place for place in strays if LABEL.fullmatch(names[place])]
    if len(found) > 1:
        several = [names[place] for place in found]
        raise DataError(
            f"{path} has columns {listed(several)}, of which one is the label; save the table without the "
            f"others, as in table.drop(columns={several[1:]}).to_csv(path, index=False)."
        )
    if not found:
        perhaps = next((names[place] for place in strays if names[place].lower() not in INDEX), "NAME")
        raise DataError(
            f"{path} has no label column; it has {listed(list(names))}. Name the column with the class "
            f"numbers 'label', or write data.label={perhaps}."
        )
    return found[0]


def _by_values(values: Numbers, path: Path) -> tuple[int, str]:
    """Return the label of a table without names: its first or its last column, if only one can be it."""
    ends = {"first": 0, "last": values.shape[1] - 1}
    found = {end: place for end, place in ends.items() if is_label(values[:, place])}
    if len(found) != 1:
        which = "both its first and its last column" if found else "neither its first nor its last column"
        raise DataError(
            f"{path}: {which} can be the label by its values (class numbers 0, 1, 2, … without a gap); write "
            "data.label=first or data.label=last."
        )
    ((end, place),) = found.items()
    return place, f"its {end} column is taken for the label, by its values (data.label={end})"
