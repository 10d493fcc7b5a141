"""What ``fnnexp data`` prints and ``fnnexp.show_data`` returns: a data set as a trial would train on it."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fnnexp.config.commands import Command
from fnnexp.config.compose import Sweep, compose, jobs_of
from fnnexp.config.jobs import key_of
from fnnexp.config.resolve import check_scale
from fnnexp.console import columns, padded
from fnnexp.data import datasets
from fnnexp.data.labelled import Numbers, column_name, image_side, is_real, row_name
from fnnexp.errors import ConfigError, FnnexpError, plural, printable
from fnnexp.nn.rows import splits_of
from fnnexp.reporting.data_set import characters, facts
from fnnexp.reporting.data_set.facts import Duplicates
from fnnexp.reporting.document.wording import class_title, cut, number

if TYPE_CHECKING:
    from fnnexp.reporting.plots.picture import Picture

WIDTH, MARGIN = 80, 12
"""Columns of the text, and of the names at its left."""

SAMPLES = 16
"""How many images are shown."""

MOST_TITLE = 28
"""Characters of a class in the table."""

MOST_CLASSES, MOST_INPUTS, MOST_LISTED = 20, 12, 6
"""How many classes and inputs have a line of the text, and how many constant inputs are listed."""

NOTED_ZEROS = 0.01
"""The smallest share of zeros that is mentioned."""

SPLITS = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """A data set as a trial would train on it. Printed, it is a text; in a notebook, a table and a picture.

    Attributes
    ----------
    name
        The name of the data set, or the path of its files.
    classes
        The number of rows by class and by split: `train`, `val` (if rows are held out) and `test`. The index
        has the names of the classes, in the order of their numbers; or the numbers, if there are no names.
    inputs
        The `least`, `mean`, `deviation` and `most` of each input in the training rows, before any scaling.
        The index has the names of the inputs if the file has a header, or else their numbers from 1.
    X, y
        The inputs (n, D) and labels (n,) of the training rows. Labels are the numbers of the classes.
    samples
        The indices of the rows of `X` that are shown: the first of each class, then the second, and so on.
    least, most
        The least and the largest value of an input in all splits.
    scale
        The value of `data.scale`.
    duplicates
        How many rows occur more than once; see :class:`fnnexp.reporting.data_set.facts.Duplicates`.
    checksum
        The SHA-256 of the data, which is its identity.
    notes
        What was decided while the files were read, and warnings.
    command
        The command that trains one trial on this data, from Python a call.
    class_names, input_names
        The names of the classes and of the inputs; () if they are only numbers.
    """

    name: str
    classes: pd.DataFrame
    inputs: pd.DataFrame
    X: Numbers = field(repr=False)
    y: NDArray[np.uint8] = field(repr=False)
    samples: NDArray[np.intp]
    least: float
    most: float
    scale: str
    duplicates: Duplicates
    checksum: str
    notes: tuple[str, ...]
    command: str
    class_names: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        lines = [self.title, "", *_table(self.classes.rename(columns=SPLITS), self.class_names), ""]
        for name, text in self.facts.items():
            lines += _wrapped(text, name)
        lines += ["", *self._rows()]
        if self.notes:
            lines.append("")
        for note in self.notes:
            lines += _wrapped(note, "note")
        return printable("\n".join([*lines, "", f"train on it: {self.command}"]))

    def _repr_html_(self) -> str:
        from fnnexp.reporting.plots.picture import png

        facts_ = self.facts | {"train on it": self.command}
        notes = [("note", note) for note in self.notes]
        rows = "".join(
            f"<tr><th style='text-align:left;vertical-align:top'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(printable(text))}</td></tr>"
            for name, text in [*facts_.items(), *notes]
        )
        image = base64.b64encode(png(self.figure)).decode()
        width = round(96 * self.figure.get_figwidth())
        return (
            f"<div><b>{escape(printable(self.title))}</b><table>{rows}</table>"
            f"<img alt='rows of {escape(printable(self.name))}' width='{width}' style='max-width:100%' "
            f"src='data:image/png;base64,{image}'></div>"
        )

    @property
    def title(self) -> str:
        """The name of the data set, its number of rows, what a row consists of, and the number of classes."""
        rows, size = int(self.classes.to_numpy().sum()), self.X.shape[1]
        what = f"{size:,} {column_name(self.X)}{'s' * (size > 1)}"
        if self.side is not None:
            what = f"{self.side} × {self.side} pixels"
        return f"{self.name}: {rows:,} {row_name(self.X)}s of {what} in {len(self.classes)} classes"

    @property
    def side(self) -> int | None:
        """The side of the images in pixels; None if the rows are not square images."""
        return image_side(self.X)

    @property
    def facts(self) -> dict[str, str]:
        """Sentences on the data by topic, such as `values`, `scaling`, `duplicates` and `guessing`."""
        column, row = column_name(self.X), row_name(self.X)
        kind = "real numbers" if is_real(self.X) else "bytes"
        values = f"{kind} from {number(self.least, '.4g')} to {number(self.most, '.4g')}"
        zeros = np.count_nonzero(self.X == 0) / self.X.size
        values += f"; {zeros:.0%} are 0 in training" if zeros >= NOTED_ZEROS else ""
        constant = self.inputs.index[self.inputs["least"] == self.inputs["most"]]
        missing = "none; files with missing values are refused"
        return {
            "values": values,
            "scaling": f"data.scale={self.scale}: {_scaling(self.scale, real=is_real(self.X))}",
            "constant": _constant(list(constant), self.X.shape[1], column),
            "missing": missing,
            "duplicates": _duplicates(self.duplicates, row),
            "guessing": self._guessing(),
        }

    @cached_property
    def figure(self) -> Picture:
        """A figure of how many rows each class has, beside some rows as images, or points, or histograms.

        Rows with two inputs are points in the plane. Other rows that are no images get a histogram of each
        input.
        """
        from fnnexp.reporting.plots.rows import samples

        counts = self.classes.rename(columns=SPLITS)
        if self.side is not None:
            labels = self.y[self.samples].tolist()
            return samples.of_images(counts, self._images(), labels, self.class_names)
        if self.X.shape[1] == 2:
            names, inputs = self.class_names, self.input_names
            return samples.of_points(counts, np.asarray(self.X), np.asarray(self.y), names, inputs)
        return samples.of_inputs(counts, self.X, self.class_names, self.input_names)

    def _guessing(self) -> str:
        frequent = int(self.classes["train"].to_numpy().argmax())
        share = self.classes["test"].iloc[frequent] / self.classes["test"].sum()
        name = class_title(self.class_names, frequent)
        return f"{name}, the most frequent in training, is right in {share:.1%} of the test rows"

    def _images(self) -> NDArray[np.uint8]:
        """Return the images to show (n, S, S), scaled so that the data's largest value becomes 255."""
        images = self.X[self.samples].reshape(len(self.samples), self.side or 0, -1)
        scaled: NDArray[np.uint8] = np.rint(images * (255 / max(self.most, 1))).astype(np.uint8)
        return scaled

    def _rows(self) -> list[str]:
        """Return lines of text that show rows as images or points, or else the ranges of the inputs."""
        if self.side is not None:
            titles = [class_title(self.class_names, label) for label in self.y[self.samples].tolist()]
            return characters.images(self._images(), titles)
        if self.X.shape[1] == 2:
            names = [cut(name, MOST_TITLE) for name in self.input_names]
            axes = ["across: {}, up: {}".format(*names)] if names else []
            return [*characters.points(np.asarray(self.X), np.asarray(self.y)), *axes]
        shown = self.inputs.head(MOST_INPUTS)
        titles = [cut(str(name), MOST_TITLE) for name in shown.index]
        margin = max(MARGIN, *map(columns, titles))
        lines = [f"{'input':<{margin}}" + "".join(f"{name:>12}" for name in shown)]
        for title, row in zip(titles, shown.to_numpy().tolist(), strict=True):
            lines.append(padded(title, margin) + "".join(f"{number(value, '.4g'):>12}" for value in row))
        rest = len(self.inputs) - len(shown)
        return [*lines, f"and {plural(rest, 'more input')}"] if rest else lines


def show(command: Command, notes: Sequence[str] = ()) -> DataSet:
    """Return the data set that the trials of a command train on.

    If the command says nothing about the scale and the default does not fit, the data is shown with a scale
    that does, and a note says so.

    Raises
    ------
    FnnexpError
        As for a sweep with this command; also if its trials differ in their data.
    """
    command, why = _scaled(command)
    sweep = compose(command)
    _refuse_several(sweep)
    trial = sweep.trials[0]
    data = trial.config["data"]
    splits = splits_of(trial.recipe, datasets.load(trial.data))
    train = splits["train"]
    labels = np.asarray(train.labels)
    images = [split.images for split in splits.values()]
    words = [word for word in command.overrides if not key_of(word).startswith("tracking")]
    return DataSet(
        name=str(data["path"] or trial.params["data"]),
        classes=facts.class_counts(splits, trial.data.classes, trial.data.class_names),
        inputs=facts.input_ranges(train.images, trial.data.input_names),
        X=train.images,
        y=labels,
        samples=facts.rows_of_each_class(labels, SAMPLES),
        least=float(min(x.min() for x in images)),
        most=float(max(x.max() for x in images)),
        scale=trial.recipe.scale,
        duplicates=facts.duplicates(splits),
        checksum=trial.data.checksum,
        notes=(*notes, *why, *sweep.notes),
        command=replace(command, overrides=tuple(words), multirun=len(sweep.trials) > 1).pasted(),
        class_names=trial.data.class_names,
        input_names=trial.data.input_names,
    )


def _scaled(command: Command) -> tuple[Command, list[str]]:
    """Return the command with a `data.scale` that fits its data, and a note if this is not the default."""
    job = jobs_of(command)[0]
    wanted = job.config.data
    prepared = datasets.prepare(wanted.name, wanted.path, wanted.test_path, wanted.reading, wanted.toy)
    try:
        check_scale(wanted, prepared)
    except ConfigError:
        if any(key_of(word) == "data.scale" for word in command.overrides):
            raise
        if prepared.real:
            scale, why = "standardize", ", or data.scale=raw: the default, unit, is for bytes 0 to 255"
        else:
            why = f": the default, unit, divides by 255, and the largest pixel is {prepared.brightest}"
            scale = "raw"
        command = replace(command, overrides=(*command.overrides, f"data.scale={scale}"))
        return command, [f"a sweep needs data.scale={scale}, as here{why}"]
    return command, []


def _refuse_several(sweep: Sweep) -> None:
    """Raise if the trials of a sweep differ in their data set, or in how it is scaled, split or changed."""
    rows = {
        (each.data.checksum, each.recipe.scale, each.recipe.validation, each.recipe.subset,
         each.recipe.label_noise, each.recipe.seed_split)
        for each in sweep.trials
    }  # fmt: skip
    if len(rows) > 1:
        raise FnnexpError(
            f"this command has {len(rows)} data sets, or ways to divide or scale one; write one value for "
            "each key of the data, as in fnnexp data digits data.validation=200"
        )


# Sentences


def _scaling(scale: str, *, real: bool) -> str:
    minus_mean = f"each {'input' if real else 'pixel'} minus its mean over the training rows"
    return {
        "raw": "the values stay as they are",
        "unit": "divided by 255",
        "center": minus_mean + ", divided by 255" * (not real),
        "standardize": f"{minus_mean}, divided by its standard deviation",
    }[scale]


def _constant(constant: list[int | str], size: int, column: str) -> str:
    if not constant:
        return f"none: every {column} varies in training"
    listed = f" ({', '.join(map(str, constant))})" if len(constant) <= MOST_LISTED else ""
    verb = "has" if len(constant) == 1 else "have"
    return f"{len(constant)} of {plural(size, column)}{listed} {verb} one value in all training rows"


def _duplicates(duplicates: Duplicates, row: str) -> str:
    parts = [
        (duplicates.train, "training", f"repeat{'s' * (duplicates.train == 1)} an earlier one"),
        (duplicates.val, "validation", _also(duplicates.val, row)),
        (duplicates.test, "test", _also(duplicates.test, row)),
        (duplicates.contradicting, "training", "are equal to others with another label"),
    ]
    texts = [f"{n} {split} {row}{'s' * (n > 1)} {what}" for n, split, what in parts if n]
    return "; ".join(texts) or f"none within training, or between the training {row}s and others"


def _also(n: int, row: str) -> str:
    return f"is also a training {row}" if n == 1 else f"are also training {row}s"


def _wrapped(text: str, name: str) -> list[str]:
    """Return the lines of a paragraph, with its name in the margin."""
    indent = " " * MARGIN
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    return [f"{name:<{MARGIN}}{lines[0].removeprefix(indent)}", *lines[1:]] if lines else []


def _table(classes: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the lines of a table of how many rows each class has, with a bar for its training rows."""
    titles = [
        cut(f"{number} {printable(names[number])}", MOST_TITLE) if names else f"class {number}"
        for number in range(min(len(classes), MOST_CLASSES))
    ]
    margin = max(MARGIN, *map(columns, titles))
    head = f"{'':<{margin}}" + "".join(f"{name:>12}" for name in classes)
    room, most = WIDTH - len(head) - 2, int(classes["train"].max())

    def line(name: str, counts: Sequence[int], bar: str = "") -> str:
        return padded(name, margin) + "".join(f"{count:>12,}" for count in counts) + f"  {bar}".rstrip()

    shown, rest = classes.head(MOST_CLASSES), classes.iloc[MOST_CLASSES:]
    lines = [
        line(title, row, "━" * round(room * row[0] / most))
        for title, row in zip(titles, shown.to_numpy().tolist(), strict=True)
    ]
    if len(rest):
        lines.append(line(f"{len(rest)} more", rest.sum().tolist()))
    return [head, *lines, line("all", classes.sum().tolist())]
