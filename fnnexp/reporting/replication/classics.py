"""The findings on the classic texts: how widely their networks vary by seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import EVERYWHERE, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import listed, percent, points
from fnnexp.reporting.plots import picture
from fnnexp.reporting.replication.findings import Ours, extent, printed
from fnnexp.reporting.replication.line_panels import Line, Panel, line_panels
from fnnexp.reporting.replication.published import CLASSICS, METRICS
from fnnexp.results import statistics

if TYPE_CHECKING:
    from fnnexp.reporting.document.blocks import Block, Figure

LEARNT = 0.1
"""A network has learnt a digit if it recognizes at least this share of its test images: the share of a guess
among ten digits."""

BEST_OF = 3
"""How many runs the author of ``nielsen_30`` chose his from."""


def sections(ours: Ours, tables: pd.DataFrame) -> list[Section]:
    """Return the section on the classic texts, or no section if none of their networks was trained.

    Parameters
    ----------
    tables
        The result of :func:`fnnexp.reporting.replication.published.printed`.
    """
    presets = [name for name in CLASSICS if name in ours.trials]
    if not presets:
        return []
    texts = [_network(ours, tables, preset) for preset in presets]
    blocks: list[Block] = [
        *(Text(each, EVERYWHERE) for each in texts),
        _figure(ours, tables, presets),
        _table(ours, tables, presets),
    ]
    data = {"recalls": ours.recalls[ours.recalls["preset"].isin(presets)]}
    return [Section("The classic texts", blocks, data)]


# In sentences


def _network(ours: Ours, tables: pd.DataFrame, preset: str) -> str:
    sentences = [standing(ours, tables, preset), never_learnt(ours, preset)]
    if _split(tables, preset) == "validation":
        sentences.insert(1, gap(ours, tables, preset))
    return " ".join(filter(None, sentences))


def standing(ours: Ours, tables: pd.DataFrame, preset: str) -> str:
    """Return sentences on where the last published accuracy of a network stands among ours."""
    row = tables[tables["experiment"] == preset].iloc[-1]
    values, epoch = _ours_at_end(ours, row)
    text, value = str(row["accuracy"]), float(row["accuracy"])
    what = "highest validation" if row["split"] == "validation" else "test"
    sentence = (
        f"{preset}: our {plural(len(values), 'seed')} have {what} accuracies of {extent(values, '.4f')} after"
        f" {plural(epoch, 'epoch')}, with mean {values.mean():.4f} and median {values.median():.4f};"
        f" {text} was published for epoch {row['epoch']}."
    )
    if epoch != row["epoch"]:
        return sentence
    above = int((values >= value).sum())
    sentence += f" {above} of {plural(len(values), 'seed')} reach it."
    if preset == "nielsen_30" and len(values) >= BEST_OF:
        sentence += (
            f" It is the best of {BEST_OF} runs, and the best of {BEST_OF} of our seeds reaches it with"
            f" probability {best_of_reaches(len(values), above):.2f}."
        )
    return sentence


def best_of_reaches(seeds: int, above: int, of: int = BEST_OF) -> float:
    """Return the probability that the best of some seeds, drawn from all, is one of those above a number.

    >>> best_of_reaches(4, 1), best_of_reaches(4, 0)
    (0.75, 0.0)
    """
    return 1 - math.comb(seeds - above, of) / math.comb(seeds, of)


def unlearnt(ours: Ours, preset: str) -> dict[int, list[int]]:
    """Return, by seed, the classes that the network of a seed ends without, for the seeds that have such."""
    part = ours.recalls[(ours.recalls["preset"] == preset) & (ours.recalls["recall"] < LEARNT)]
    return {seed: sorted(part.loc[part["seed"] == seed, "class"]) for seed in sorted(part["seed"].unique())}


def never_learnt(ours: Ours, preset: str) -> str:
    """Return a sentence on how many seeds end without a digit."""
    part = ours.recalls[ours.recalls["preset"] == preset]
    failed = unlearnt(ours, preset)
    rest = part.loc[part["recall"] >= LEARNT, "recall"].min()
    epochs = plural(int(ours.of(preset, "test_accuracy")["epoch"].max()), "epoch")
    seeds = plural(part["seed"].nunique(), "seed")
    if not failed:
        return (
            f"After {epochs}, each of the {seeds} of {preset} recognizes at least {percent(rest)} of the test"
            " images of each digit."
        )
    which = listed([
        f"seed {seed} without {listed([str(each) for each in classes])}" for seed, classes in failed.items()
    ])  # fmt: skip
    return (
        f"After {epochs}, {len(failed)} of {seeds} of {preset} recognize fewer than {percent(LEARNT)} of the"
        f" test images of a digit: {which}. The smallest share among all other digits and seeds is"
        f" {percent(rest)}."
    )


def gap(ours: Ours, tables: pd.DataFrame, preset: str) -> str:
    """Return a sentence on how far a printed highest validation accuracy is from those of our seeds.

    Within a program, the standard deviation over seeds is the unit of the distance.
    """
    row = tables[tables["experiment"] == preset].iloc[-1]
    values, epoch = _ours_at_end(ours, row)
    if epoch != row["epoch"] or len(values) < 2:
        return ""
    distance = float(row["accuracy"]) - statistics.mean(values)
    spread = statistics.standard_deviation(values)
    return (
        f"The published {row['accuracy']} is {points(distance)} above the mean of our seeds, which is"
        f" {distance / spread:.1f} of their standard deviations ({points(spread)})."
    )


def _split(tables: pd.DataFrame, preset: str) -> str:
    return str(tables.loc[tables["experiment"] == preset, "split"].iloc[-1])


def _ours_at_end(ours: Ours, row: pd.Series) -> tuple[pd.Series, int]:
    """Return our accuracies for a row of the tables, at its epoch or our last one if that is earlier."""
    part = ours.of(row["experiment"], f"{METRICS[row['split']]}_accuracy")
    epoch = min(int(part["epoch"].max()), int(row["epoch"]))
    if row["split"] == "validation":
        return part[part["epoch"] <= epoch].groupby("seed")["value"].max(), epoch
    return part[part["epoch"] == epoch].set_index("seed")["value"], epoch


# Table and figure


def _table(ours: Ours, tables: pd.DataFrame, presets: list[str]) -> Table:
    """Return the distribution of each network's last published accuracy over our seeds."""
    rows = []
    for preset in presets:
        row = tables[tables["experiment"] == preset].iloc[-1]
        values, epoch = _ours_at_end(ours, row)
        published = Cell(str(row["accuracy"]), float(row["accuracy"]))
        numbers = [
            values.mean(),
            statistics.standard_deviation(values),
            values.min(),
            values.median(),
            values.max(),
        ]
        what = "highest on validation" if row["split"] == "validation" else "test"
        rows.append([
            Cell(preset), Cell(what), Cell(str(epoch), epoch), Cell(str(len(values)), len(values)),
            *(Cell(f"{number:.4f}", float(number)) for number in numbers),
            Cell(str(len(unlearnt(ours, preset)))), published if epoch == row["epoch"] else Cell("–"),
        ])  # fmt: skip
    head = [
        "network", "accuracy", "epochs", "seeds", "mean", "sd", "least", "median", "greatest",
        "without a digit", "published",
    ]  # fmt: skip
    return Table("Accuracies over our seeds", head, rows, names=2, media=EVERYWHERE)


def _figure(ours: Ours, tables: pd.DataFrame, presets: list[str]) -> Figure:
    panels = []
    for preset in presets:
        split, failed = _split(tables, preset), unlearnt(ours, preset)
        part = ours.of(preset, f"{METRICS[split]}_accuracy")
        lines = []
        for seed, points_of in part[part["epoch"] > 0].groupby("seed"):
            curve = points_of.sort_values("epoch")
            name = "seed without a digit at the end" if seed in failed else "seed with every digit"
            lines.append(Line(name, curve["epoch"].tolist(), curve["value"].tolist()))
        lines.sort(key=lambda line: line.name)
        panels.append(
            Panel(f"{preset}: {split} accuracy", [*lines, printed(tables, preset, split, "accuracy")])
        )
    return picture.block(line_panels(panels), "classics", CAPTION, label=CAPTION)


CAPTION = (
    "The classic texts: the accuracy after each epoch, one line per seed, and the published numbers. A"
    " published validation accuracy is the highest over the epochs."
)
