"""Find the label column of a table, and check that all others are pixels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from fnnexp.data.labelled import Numbers, column_title, is_label, row_number_columns
from fnnexp.data.sources import listed
from fnnexp.errors import DataError, did_you_mean

LABEL = re.compile(r".*(label|class|target).*|y", re.IGNORECASE)
"""Matches the usual names of a column with the labels."""
INDEX = ("", "id", "index")
"""The usual names of a column with the numbers of the rows."""

FEWEST_NUMBERS = 5
"""If a first line consists of at least this many consecutive numbers, they count the columns and are not
an image."""


def is_header(fields: Sequence[str], second: Sequence[str] = ()) -> bool:
    """Return whether the first line of a CSV has the names of the columns, and not data.

    It has names if it contains words, or if its numbers count the columns (0, 1, 2, …). But if it contains
    words and numbers, and the second line has words in the same columns, the words may be labels in a line of
    data. Then one of them must be a usual name of a label or an index, such as ``class`` or ``id``.

    Parameters
    ----------
    fields, second
        The cells of the first line, and of the second line if there is one.

    >>> is_header(["a", "b", "kind"], ["1.5", "2", "ant"]), is_header(["1", "2", "ant"], ["1.5", "2", "bee"])
    (True, False)
    """
    words = [i for i, field in enumerate(fields) if not is_number(field)]
    numbers = [float(field) for field in fields if is_number(field)]
    if len(numbers) >= FEWEST_NUMBERS and all(b - a == 1 for a, b in pairwise(numbers)):
        return True
    if not words or not numbers or len(second) != len(fields):
        return bool(words)
    can_be_labels = all(second[i] and not is_number(second[i]) for i in words)
    usual = any(LABEL.fullmatch(fields[i]) or fields[i].lower() in INDEX for i in words)
    return usual or not can_be_labels


def is_number(text: str) -> bool:
    """Return whether Python can read the text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def label_of(
    names: Sequence[str] | None,
    values: Numbers,
    wanted: str | None,
    path: Path,
    worded: int | None = None,
) -> tuple[int, str]:
    """Find the column of a table that has the labels; all other columns must be pixels.

    Parameters
    ----------
    names
        The names of the columns, or None.
    values
        The numbers (rows, columns).
    wanted
        The user's ``data.label``: `first`, `last` or a name. None finds the column by its name or, if the
        names do not tell, by its values.
    path
        The file, for messages.
    worded
        The index of the column that has words, if there is one. It is the label unless `wanted` says
        otherwise.

    Returns
    -------
    tuple
        The index of the column; and a note for the user if the values decided, else an empty string.

    Raises
    ------
    DataError
        If no column can be the label, several can be, or another column is not a pixel.
    """
    stem = _stem_of_pixels(names) if names else None
    not_pixels = [index for index, name in enumerate(names or ()) if not _is_pixel(name, stem)]
    label = _wanted_column(names, values.shape[1], wanted, path)
    if label is None:
        label = worded
    if label is None and names and (stem is None or any(names[i].lower() not in INDEX for i in not_pixels)):
        label = _label_by_name(names, not_pixels, path)
    for index in row_number_columns(values):
        if index != label:
            dropped = f".drop(columns=[{names[index]!r}])" if names and names[index] else ""
            raise DataError(
                f"{path}: column {column_title(names, index)} numbers the rows, so it is no input; save "
                f"the table without it, as in table{dropped}.to_csv(path, index=False)."
            )
    unused = [names[index] for index in not_pixels if index != label] if names else []
    if unused and label is not None and LABEL.fullmatch(unused[0]):
        if label == worded:
            raise DataError(
                f"{path}: columns {column_title(names, label)} and '{unused[0]}' could both be the label; "
                "save the table without the column that is not the label, as in "
                f"table.drop(columns=[{unused[0]!r}]).to_csv(path, index=False)."
            )
        raise DataError(
            f"{path}: data.label={wanted} makes column {column_title(names, label)} the label, but "
            f"'{unused[0]}' has the name of a label; write data.label={unused[0]}."
        )
    if unused and names:
        places = [index for index in not_pixels if index != label]
        in_pandas = [names[index] or f"Unnamed: {index}" for index in places]
        raise DataError(
            f"{path}: column {column_title(names, places[0])} is neither the label nor a numbered pixel; "
            f"save the table without it: table.drop(columns={in_pandas}).to_csv(path, index=False)."
        )
    return (label, "") if label is not None else _label_by_values(values, path)


def _stem_of_pixels(names: Sequence[str]) -> str | None:
    """Return the pattern that the names of the pixels have, such as `#x#` if they are `1x1`, `1x2` and so on.

    At least half of the columns must have it; otherwise return None.
    """
    stems = Counter(stem for name in names if "#" in (stem := _stem(name)))
    return next((stem for stem, times in stems.most_common(1) if 2 * times >= len(names)), None)


def _stem(name: str) -> str:
    return re.sub(r"\d+", "#", name.lower())


def _is_pixel(name: str, stem: str | None) -> bool:
    """Return whether a column's name is that of a pixel.

    If the names of the pixels have a pattern (`stem`), the name must have it. Otherwise any name is a
    pixel's, except the usual names of labels and indexes, such as ``class`` and ``id``.
    """
    if stem is not None:
        return _stem(name) == stem
    return not LABEL.fullmatch(name) and name.lower() not in INDEX


def _wanted_column(names: Sequence[str] | None, count: int, wanted: str | None, path: Path) -> int | None:
    """Return the index of the column that ``data.label`` (`wanted`) names; None if the user has not set it.

    `count` is the number of columns. Raise if there is no such column.
    """
    if wanted in ("first", "last", None):
        return {"first": 0, "last": count - 1, None: None}[wanted]
    if names is None:
        raise DataError(
            f"data.label={wanted}: {path} has no header; write data.label=first or data.label=last."
        )
    if wanted not in names:
        raise DataError(
            f"data.label={wanted}: {path} has no such column; it has {listed(list(names))}."
            f"{did_you_mean(str(wanted), names)}"
        )
    return names.index(wanted)


def _label_by_name(names: Sequence[str], not_pixels: Sequence[int], path: Path) -> int:
    """Return the index of the column whose name is that of a label; raise if there is none, or several.

    `not_pixels` are the indices of the columns whose names are not those of pixels.
    """
    candidates = [index for index in not_pixels if LABEL.fullmatch(names[index])]
    if len(candidates) > 1:
        several = [names[index] for index in candidates]
        raise DataError(
            f"{path} has columns {listed(several)}, and only one can be the label; if {several[0]} is, save "
            f"the table without the rest: table.drop(columns={several[1:]}).to_csv(path, index=False)."
        )
    if not candidates:
        guess = next((names[index] for index in not_pixels if names[index].lower() not in INDEX), "NAME")
        raise DataError(
            f"{path} has no label column; it has {listed(list(names))}. Rename the column of "
            f"class numbers to 'label', or write data.label={guess}."
        )
    return candidates[0]


def _label_by_values(values: Numbers, path: Path) -> tuple[int, str]:
    """Return the index of the label column, judging by the values, and a note for the user.

    It is the first or the last column. Raise if both of them, or neither, have values like labels.
    """
    ends = {"first": 0, "last": values.shape[1] - 1}
    candidates = {end: index for end, index in ends.items() if is_label(values[:, index])}
    if len(candidates) != 1:
        which = (
            "both its first and its last column have"
            if candidates
            else "neither its first nor its last column has"
        )
        raise DataError(
            f"{path}: {which} the values of a label: 0, 1, 2, … without a gap; write data.label=first or "
            "data.label=last."
        )
    ((end, index),) = candidates.items()
    return index, f"its {end} column is the label, judging by its values (data.label={end})"
