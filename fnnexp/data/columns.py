"""The columns of a table: those that are not read, and the one with the labels; all others must be inputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fnnexp.data.labelled import Numbers, is_label, row_number_columns
from fnnexp.data.sources import listed
from fnnexp.errors import DataError, did_you_mean, to_write

LABEL = re.compile(r".*(label|class|target).*|y", re.IGNORECASE)
"""Matches the usual names of a column with the labels."""
INDEX = ("", "id", "index")
"""The usual names of a column with the numbers of the rows."""

FEWEST_NUMBERS = 5
"""If a first line consists of at least this many consecutive numbers, they count the columns and are not
an image."""


@dataclass(frozen=True)
class Layout:
    """The layout of a CSV, from its first line, without the columns that ``data.drop`` names.

    `separator` is between two cells, and `width` is the number of cells in a line. `places` are the indices
    in a line of the columns that are read, and `names` the names of these columns (None without a header).
    `called` is what ``data.drop`` calls them (:func:`titles`), and `dropped` are the names in ``data.drop``.
    Other indices of columns count those that are read.
    """

    separator: str
    width: int
    places: tuple[int, ...]
    names: list[str] | None
    called: list[str]
    dropped: tuple[str, ...] = ()

    def title(self, column: int) -> str:
        """Return what messages call a column: its name in quotes, or its number in the file, from 1."""
        name = self.names[column] if self.names else ""
        return f"'{name}'" if name else str(self.places[column] + 1)

    def dropping(self, columns: Sequence[int]) -> str:
        """Return the override that leaves out these columns, and those that are left out already."""
        return to_write(
            "data.drop", [*dict.fromkeys([*self.dropped, *(self.called[column] for column in columns)])]
        )


def layout_of(
    separator: str, width: int, names: Sequence[str] | None, dropped: tuple[str, ...], path: Path
) -> Layout:
    """Return the layout of a CSV.

    Parameters
    ----------
    separator, width, names
        What is between two cells; the number of cells in a line; the header of the file, or None.
    dropped
        ``data.drop``: what :func:`titles` calls columns. Those that the file does not have are ignored.
    path
        The file, for messages.

    Raises
    ------
    DataError
        If fewer than two columns are left, or if two of them have the same name.
    """
    called = titles(names, width)
    places = tuple(i for i in range(width) if called[i] not in dropped)
    if len(places) < 2:
        raise DataError(
            f"{to_write('data.drop', dropped)}: leaves {listed([called[i] for i in places])} of the columns "
            f"of {path}; expected a label and at least one input."
        )
    names, called = [names[i] for i in places] if names else None, [called[i] for i in places]
    layout = Layout(separator, width, places, names, called, dropped)
    if layout.names:
        _check_repeated(layout, path)
    return layout


def titles(names: Sequence[str] | None, width: int) -> list[str]:
    """Return what ``data.drop`` calls the columns of a file.

    This is the name of a column or, if it has none, its number from 1. If that number is the name of another
    column, it is the empty text.

    >>> titles(None, 2), titles(["", "a", ""], 3), titles(["", "0", "1"], 3)
    (['1', '2'], ['1', 'a', '3'], ['', '0', '1'])
    """
    if names is None:
        return [str(i + 1) for i in range(width)]
    return [name or ("" if str(i + 1) in names else str(i + 1)) for i, name in enumerate(names)]


def _check_repeated(layout: Layout, path: Path) -> None:
    """Raise if two columns have the same name, or no name."""
    names = layout.names or []
    unnamed = [column for column, name in enumerate(names) if not name]
    if len(unnamed) > 1:
        raise DataError(
            f"{path}: columns {listed([layout.title(column) for column in unnamed])} have no name; write "
            f"{layout.dropping(unnamed)} to leave them out, or name them."
        )
    first = {name.lower(): column for column, name in reversed(list(enumerate(names)))}
    repeated = [column for column, name in enumerate(names) if first[name.lower()] != column]
    if repeated:
        raise DataError(
            f"{path} has duplicate columns ({listed([names[column] for column in repeated])}); expected each "
            f"name once: rename them, or write {layout.dropping(repeated)} to leave them out."
        )


def check_dropped(
    dropped: Sequence[str], headers: Sequence[tuple[Sequence[str] | None, int]], path: Path
) -> None:
    """Raise if ``data.drop`` names a column that none of the files has.

    Parameters
    ----------
    dropped
        The names in ``data.drop``.
    headers
        The header of each file, or None, and the number of its columns.
    path
        The first of the files, for messages.
    """
    known = {title for names, width in headers for title in titles(names, width)}
    if not (unknown := [name for name in dropped if name not in known]):
        return
    names, width = headers[0]
    problem = f"{to_write('data.drop', unknown[:1])}: {path}"
    if names is None:
        raise DataError(
            f"{problem} has no header, so its columns are called 1 to {width}; write data.drop=1 to leave "
            "out the first, or data.header=true if its first line has the names."
        )
    called = titles(names, width)
    raise DataError(
        f"{problem} has no such column; it has {listed(called)}.{did_you_mean(unknown[0], sorted(known))}"
    )


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
    layout: Layout,
    values: Numbers,
    wanted: str | None,
    path: Path,
    worded: int | None = None,
) -> tuple[int, str]:
    """Find the column of a table that has the labels; all other columns must be pixels.

    Parameters
    ----------
    layout
        The names of the columns, or that they have none.
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
    names = layout.names or []
    stem = _stem_of_pixels(names)
    not_pixels = [index for index, name in enumerate(names) if not _is_pixel(name, stem)]
    label = _wanted_column(layout, wanted, path)
    if label is None:
        label = worded
    if label is None and names and (stem is None or any(names[i].lower() not in INDEX for i in not_pixels)):
        label = _label_by_name(layout, not_pixels, path)
    for index in row_number_columns(values):
        if index != label:
            raise DataError(
                f"{path}: column {layout.title(index)} numbers the rows, so it is no input; write "
                f"{layout.dropping([index])} to leave it out."
            )
    unused = [index for index in not_pixels if index != label]
    if unused and label is not None and LABEL.fullmatch(names[unused[0]]):
        other, without = layout.title(unused[0]), layout.dropping(unused[:1])
        if label == worded:
            raise DataError(
                f"{path}: columns {layout.title(label)} and {other} could both be the label; leave out the "
                f"one that is not, as in {without}."
            )
        raise DataError(
            f"{path}: data.label={wanted} makes column {layout.title(label)} the label, but {other} has the "
            f"name of a label; write {to_write('data.label', [names[unused[0]]])}, or {without} to leave it "
            "out."
        )
    if unused:
        raise DataError(
            f"{path}: column {layout.title(unused[0])} is neither the label nor a numbered pixel; write "
            f"{layout.dropping(unused)} to leave {'it' if len(unused) == 1 else 'all such columns'} out."
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


def _wanted_column(layout: Layout, wanted: str | None, path: Path) -> int | None:
    """Return the index of the column that ``data.label`` (`wanted`) names; None if the user has not set it.

    Raise if there is no such column.
    """
    names = layout.names
    if wanted in ("first", "last", None):
        return {"first": 0, "last": len(layout.places) - 1, None: None}[wanted]
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


def _label_by_name(layout: Layout, not_pixels: Sequence[int], path: Path) -> int:
    """Return the index of the column whose name is that of a label; raise if there is none, or several.

    `not_pixels` are the indices of the columns whose names are not those of pixels.
    """
    names = layout.names or []
    candidates = [index for index in not_pixels if LABEL.fullmatch(names[index])]
    if len(candidates) > 1:
        several = [names[index] for index in candidates]
        raise DataError(
            f"{path} has columns {listed(several)}, and only one can be the label; if {several[0]} is, write "
            f"{layout.dropping(candidates[1:])} to leave out the rest."
        )
    if not candidates:
        guess = next((names[index] for index in not_pixels if names[index].lower() not in INDEX), "NAME")
        raise DataError(
            f"{path} has no label column; it has {listed(list(names))}. Rename the column of "
            f"class numbers to 'label', or write {to_write('data.label', [guess])}."
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
