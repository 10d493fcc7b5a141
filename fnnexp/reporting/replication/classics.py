"""The section on networks of classic texts, such as Nielsen's book: how widely their results vary by seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import EVERYWHERE, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import listed, percent
from fnnexp.reporting.plots import picture
from fnnexp.reporting.replication.findings import Ours, extent, printed
from fnnexp.reporting.replication.line_panels import Line, Panel, line_panels
from fnnexp.reporting.replication.published import CLASSICS, METRICS, PROGRAMS
from fnnexp.results import statistics

if TYPE_CHECKING:
    from fnnexp.reporting.document.blocks import Block, Figure

LEARNT = 0.1
"""A network has learnt a digit if it recognizes at least this share of its test images: the share of a guess
among ten digits."""

BEST_OF = 3
"""The author of ``nielsen_30`` published the best of this many runs."""


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


# Sentences about the networks


def _network(ours: Ours, tables: pd.DataFrame, preset: str) -> str:
    sentences = [standing(ours, tables, preset), never_learnt(ours, preset)]
    if _split(tables, preset) == "validation":
        sentences.insert(1, gap(ours, tables, preset))
    return " ".join(filter(None, sentences))


def standing(ours: Ours, tables: pd.DataFrame, preset: str) -> str:
    """Return sentences that compare the last published accuracy of a network with those of our seeds."""
    row = tables[tables["experiment"] == preset].iloc[-1]
    values, epoch = _ours_at_end(ours, row, preset)
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
    """Return the probability that `of` seeds, drawn from `seeds`, include any of the `above` best seeds.

    >>> best_of_reaches(4, 1), best_of_reaches(4, 0)
    (0.75, 0.0)
    """
    return 1 - math.comb(seeds - above, of) / math.comb(seeds, of)


def unlearnt(ours: Ours, preset: str) -> dict[int, list[int]]:
    """Return the classes that the final network of each seed has not learnt, without seeds that learnt all.

    A network has learnt a class if it recognizes at least the share :data:`LEARNT` of its test images.
    """
    part = ours.recalls[(ours.recalls["preset"] == preset) & (ours.recalls["recall"] < LEARNT)]
    return {seed: sorted(part.loc[part["seed"] == seed, "class"]) for seed in sorted(part["seed"].unique())}


def never_learnt(ours: Ours, preset: str) -> str:
    """Return a sentence on how many seeds end with a digit that was not learnt."""
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
    recognize = "recognizes" if len(failed) == 1 else "recognize"
    return (
        f"After {epochs}, {len(failed)} of {seeds} of {preset} {recognize} fewer than {percent(LEARNT)} of"
        f" the test images of a digit: {which}. The smallest share among all other digits and seeds is"
        f" {percent(rest)}.{_others(ours, preset, list(failed))}"
    )


def _others(ours: Ours, preset: str, failed: list[int]) -> str:
    """Return a sentence on the test accuracies of the seeds that have learnt every digit, "" without any."""
    ends = ours.ends(preset, "test_accuracy")
    ends = ends[~ends.index.isin(failed)]
    if ends.empty:
        return ""
    return f" The test accuracy of {plural(len(ends), 'seed')} with every digit is {extent(ends, '.4f')}."


def gap(ours: Ours, tables: pd.DataFrame, preset: str) -> str:
    """Return sentences on how far the published validation accuracy is from the mean of our seeds.

    The distance is in standard deviations over our seeds. Some experiments are also run with half the weight
    decay, as by a program that takes (λ/2n) w for the gradient of (λ/2n) Σw², which is (λ/n) w.
    """
    row = tables[tables["experiment"] == preset].iloc[-1]
    sentences = []
    for program, name in PROGRAMS[preset].items():
        values, epoch = _ours_at_end(ours, row, program)
        if epoch != row["epoch"] or len(values) < 2:
            continue
        mean, spread = statistics.mean(values), statistics.standard_deviation(values)
        distance = float(row["accuracy"]) - mean
        sentences.append(
            f"Trained {name}, {plural(len(values), 'seed')} have mean {mean:.4f} and reach"
            f" {values.max():.4f}: the published number is {abs(distance) / spread:.1f} standard deviations"
            f" {'above' if distance > 0 else 'below'} the mean."
        )
    if len(sentences) > 1:
        sentences.append("The published listing has the whole decay.")
    return " ".join(sentences)


def _split(tables: pd.DataFrame, preset: str) -> str:
    return str(tables.loc[tables["experiment"] == preset, "split"].iloc[-1])


def _ours_at_end(ours: Ours, row: pd.Series, program: str) -> tuple[pd.Series, int]:
    """Return our accuracies by seed, and the epoch that they belong to.

    It is the epoch of the published row, or our last one if we trained fewer. A validation accuracy is the
    highest until this epoch.
    """
    part = ours.of(program, f"{METRICS[row['split']]}_accuracy")
    if part.empty:
        return part["value"], 0
    epoch = min(int(part["epoch"].max()), int(row["epoch"]))
    if row["split"] == "validation":
        return part[part["epoch"] <= epoch].groupby("seed")["value"].max(), epoch
    return part[part["epoch"] == epoch].set_index("seed")["value"], epoch


# Table and figure


def _table(ours: Ours, tables: pd.DataFrame, presets: list[str]) -> Table:
    """Return a table of how the accuracies of our seeds are distributed, beside the published accuracy.

    There is a row for each network and program, at the epoch of the last published number.
    """
    rows = []
    for preset, program in [(name, program) for name in presets for program in PROGRAMS[name]]:
        row = tables[tables["experiment"] == preset].iloc[-1]
        values, epoch = _ours_at_end(ours, row, program)
        if not len(values):
            continue
        published = Cell(str(row["accuracy"]), float(row["accuracy"]))
        spread = statistics.standard_deviation(values)
        numbers = [values.mean(), spread, values.min(), values.median(), values.max()]
        what = "highest on validation" if row["split"] == "validation" else "test"
        rows.append([
            Cell(preset), Cell(PROGRAMS[preset][program]), Cell(what), Cell(str(epoch), epoch),
            Cell(str(len(values)), len(values)),
            *(Cell(f"{number:.4f}", float(number)) for number in numbers),
            Cell(str(len(unlearnt(ours, program)))), published if epoch == row["epoch"] else Cell("–"),
        ])  # fmt: skip
    head = [
        "network", "trained", "accuracy", "epochs", "seeds", "mean", "sd", "least", "median", "greatest",
        "without a digit", "published",
    ]  # fmt: skip
    return Table("Accuracies over our seeds", head, rows, names=3, media=EVERYWHERE)


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
