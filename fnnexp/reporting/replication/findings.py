"""The findings on the published experiments: a section for each experiment, computed from our own runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from fnnexp.data import datasets as data
from fnnexp.errors import plural
from fnnexp.nn.testing import gradcheck
from fnnexp.reporting.document.blocks import EVERYWHERE, Cell, Figure, Section, Table, Text
from fnnexp.reporting.document.wording import between, percent, points
from fnnexp.reporting.plots import picture
from fnnexp.reporting.replication import drift
from fnnexp.reporting.replication.line_panels import Line, Panel, line_panels
from fnnexp.reporting.replication.published import APART, NOT_RUN, PROGRAMS, summary
from fnnexp.results import statistics

if TYPE_CHECKING:
    from fnnexp.config.trial import Trial

SLIP, RIGHT = "tanh_mini_batch_as_published", "tanh_mini_batch"
SGD, ADAM = "relu98_full_batch", "relu98_full_batch_as_listed"
SAMPLE, FULL = "sigmoid_per_sample", "relu_full_batch"

CHECKS = ("tanh", "tanh_as_published", "stacked tanh_128", "stacked tanh_128_as_published")


class Ours(NamedTuple):
    """Our finished trials by preset, the points of their curves, and their diagnostics.

    `recalls` is the result of :func:`fnnexp.reporting.replication.recalls.of_test_images` for the networks of
    the classic texts.
    """

    trials: Mapping[str, Sequence[Trial]]
    points: pd.DataFrame
    diagnostics: pd.DataFrame
    recalls: pd.DataFrame

    def of(self, preset: str, metric: str) -> pd.DataFrame:
        """Return the points of one metric of a preset's trials."""
        return self.points[(self.points["preset"] == preset) & (self.points["metric"] == metric)]

    def ends(self, preset: str, metric: str) -> pd.Series:
        """Return a metric's value at the last epoch, for each seed that reached this epoch."""
        part = self.of(preset, metric)
        last: pd.Series = part[part["epoch"] == part["epoch"].max()].set_index("seed")["value"]
        return last.sort_index()

    def line(self, preset: str, metric: str, name: str, since: int = 0) -> Line:
        """Return a metric's mean by epoch as a line to draw, with a band from minimum to maximum over seeds.

        Only seeds that finished the last epoch count. The line begins at the epoch `since`.
        """
        part = self.of(preset, metric)
        part = part[part["seed"].isin(self.ends(preset, metric).index)]
        by = part[part["epoch"] >= since].groupby("epoch")["value"].agg(["mean", "min", "max"])
        return Line(name, by.index.tolist(), by["mean"].tolist(), by["min"].tolist(), by["max"].tolist())


def printed(tables: pd.DataFrame, experiment: str, split: str, quantity: str, run: str = "a") -> Line:
    """Return the published numbers of one run and split as points to draw."""
    chosen = tables[
        (tables["experiment"] == experiment) & (tables["run"] == run) & (tables["split"] == split)
    ]
    chosen = chosen[chosen[quantity] != ""]
    values = chosen[quantity].astype("float64").tolist()
    return Line(f"published, {run}", chosen["epoch"].tolist(), values, alone=True)


def sections(ours: Ours, tables: pd.DataFrame, rows: pd.DataFrame) -> list[Section]:
    """Return a section for each of the published programs about which there is a finding, if it was trained.

    Parameters
    ----------
    tables, rows
        The results of :func:`fnnexp.reporting.replication.published.printed` and `compare`.
    """
    made: dict[str, Callable[[], Section]] = {
        RIGHT: lambda: derivative(ours, tables, rows),
        SGD: lambda: optimizer(ours, tables, rows),
        SAMPLE: lambda: chaos(ours, tables),
        FULL: lambda: start(ours, tables),
    }
    return [section() for preset, section in made.items() if preset in ours.trials]


# The derivative of tanh_mini_batch


def derivative(ours: Ours, tables: pd.DataFrame, rows: pd.DataFrame) -> Section:
    """Return the section on the wrong derivative in `tanh_mini_batch`, with a gradient check and curves."""
    checks = gradcheck.run(CHECKS)
    metric = "test_accuracy"
    wrong, right = ours.ends(SLIP, metric), ours.ends(RIGHT, metric)
    epochs = int(ours.of(SLIP, metric)["epoch"].max())
    sentences = [
        "The published backward pass applies tanh to the activation a second time: it computes 1 − tanh(a)²,"
        " but 1 − a² is right. The gradient check finds this error. With the published derivative,"
        f" the relative error is {checks[1].max_relative_error:.2f} in the op and"
        f" {checks[3].max_relative_error:.2f} in the trained network, where {checks[1].tolerance:.0e} is"
        " allowed; with the right derivative, it is"
        f" {checks[0].max_relative_error:.0e} and {checks[2].max_relative_error:.0e}.",
        which(rows, "tanh_mini_batch"),
        f"After {plural(epochs, 'epoch')} the test accuracy is {_mean(wrong)} with the published derivative"
        f" and {_mean(right)} with the right one;"
        f" {percent(float(_last(tables, 'tanh_mini_batch', 'test')))} was published."
        f" {_paired(right - wrong)}",
    ]
    programs = PROGRAMS["tanh_mini_batch"].items()
    panels = [
        Panel(
            f"test {quantity}",
            [
                *(ours.line(preset, f"test_{quantity}", name) for preset, name in programs),
                printed(tables, "tanh_mini_batch", "test", quantity),
            ],
        )
        for quantity in ("loss", "accuracy")
    ]
    head = ["gradient", "largest relative error", "allowed", "verdict"]
    table = Table(
        "The gradient check",
        head,
        [
            [
                Cell(each.name),
                Cell(f"{each.max_relative_error:.1e}", each.max_relative_error),
                Cell(f"{each.tolerance:.0e}", each.tolerance),
                Cell("right" if each.passed else "wrong"),
            ]
            for each in checks
        ],
        names=1,
        media=EVERYWHERE,
    )
    caption = "tanh_mini_batch: the mean and range over our seeds, and the published numbers."
    return _section(
        "tanh_mini_batch: the derivative", sentences, _figure("tanh_mini_batch", caption, panels), table
    )


# The optimizer of relu98_full_batch


def optimizer(ours: Ours, tables: pd.DataFrame, rows: pd.DataFrame) -> Section:
    """Return the section that says which optimizer the published numbers of `relu98_full_batch` came from."""
    programs = PROGRAMS["relu98_full_batch"].items()
    published = tables[tables["experiment"] == "relu98_full_batch"]
    lines = []
    for row in published.to_dict("records"):
        line = [Cell(f"{row['split']} {row['epoch']}")]
        for quantity in ("loss", "accuracy"):
            line.append(Cell(f"{float(row[quantity]):.4f}", float(row[quantity])))
            for preset in (SGD, ADAM):
                part = ours.of(preset, f"{row['split']}_{quantity}")
                values = part.loc[part["epoch"] == row["epoch"], "value"]
                line.append(Cell(extent(values, ".3f")))
        lines.append(line)
    head = ["at", "published loss", "plain SGD", "Adam", "published accuracy", "plain SGD", "Adam"]
    sentences = ["The published listing builds Adam. " + which(rows, "relu98_full_batch")]
    last = int(ours.of(SGD, "train_loss")["epoch"].max())
    at_last = published["epoch"] == published["epoch"].max()
    end = published[at_last & (published["split"] == "train")].iloc[0]
    sentences.append(
        f"After {plural(last, 'epoch')} the training loss here is"
        f" {extent(ours.ends(SGD, 'train_loss'), '.3f')} and the accuracy"
        f" {extent(ours.ends(SGD, 'train_accuracy'), '.3f')} with plain SGD at 0.01, and"
        f" {extent(ours.ends(ADAM, 'train_loss'), '.3f')} and"
        f" {extent(ours.ends(ADAM, 'train_accuracy'), '.3f')} with Adam at its defaults. The published values"
        f" for epoch {end['epoch']} are {float(end['loss']):.3f} and {float(end['accuracy']):.3f}. A loss as"
        f" low is reached {_reached(ours, ADAM, float(end['loss']))} with Adam and"
        f" {_reached(ours, SGD, float(end['loss']))} with plain SGD."
    )
    panels = [
        Panel(
            f"train {quantity}",
            [
                *(ours.line(preset, f"train_{quantity}", name, since=1) for preset, name in programs),
                _until(printed(tables, "relu98_full_batch", "train", quantity), last),
            ],
            log="y" if quantity == "loss" else "",
        )
        for quantity in ("loss", "accuracy")
    ]
    caption = "relu98_full_batch: the mean and range over our seeds, and the published numbers."
    title = "Published numbers compared with the range of our seeds"
    return _section(
        "relu98_full_batch: the optimizer",
        sentences,
        _figure("relu98_full_batch", caption, panels),
        Table(title, head, lines, names=1, media=EVERYWHERE),
    )


# The chaos of sigmoid_per_sample


def chaos(ours: Ours, tables: pd.DataFrame) -> Section:
    """Return the section on how fast programs that round differently drift apart in `sigmoid_per_sample`."""
    trial = ours.trials[SAMPLE][0]
    parted = drift.drift(trial, data.load(trial.data))
    close = parted[parted["programs"] <= 1e-9]["samples"]
    hundredth = parted[parted["programs"] >= 1e-2]["samples"]
    last = parted.iloc[-1]
    ends, epochs = ours.ends(SAMPLE, "test_accuracy"), int(ours.of(SAMPLE, "test_accuracy")["epoch"].max())
    sentences = [
        "Two correct programs of ours, the op-by-op reference and the core that trains sweeps, start with the"
        " same weights and use the same order of images in float64. They differ only in the order of"
        " summation. Their largest difference, relative to the largest parameter, "
        + (f"is below 1e-9 for {close.max()} images, " if len(close) else "")
        + (f"reaches 1% by image {hundredth.min():,} " if len(hundredth) else "")
        + f"and is {percent(last['programs'])} after {int(last['samples']):,} images; training itself changed"
        f" no parameter by more than {percent(last['moved'])}. If only the last bit of the first layer's"
        f" weights is changed, the reference differs from itself as much, by {percent(last['last_bit'])}. So"
        " training amplifies rounding; neither program is wrong.",
        "After the first images, therefore, only the rank of this table among many runs can be compared."
        f" After {plural(epochs, 'epoch')} our {plural(len(ends), 'seed')} end with test accuracies"
        f" of {extent(ends, '.4f')}; {_last(tables, SAMPLE, 'test')} was published.",
    ]
    panels = [
        Panel(
            "distance of the parameters",
            [
                Line("two programs", parted["samples"].tolist(), parted["programs"].tolist()),
                Line(
                    "one program, last bit changed", parted["samples"].tolist(), parted["last_bit"].tolist()
                ),
            ],
            log="xy",
            x_label="images trained on",
        ),
        Panel(
            "test accuracy",
            [
                ours.line(SAMPLE, "test_accuracy", "our seeds"),
                printed(tables, SAMPLE, "test", "accuracy"),
            ],
        ),
    ]
    caption = (
        "sigmoid_per_sample: the largest difference of a parameter, relative to the largest parameter, by the"
        " number of training images; and the test accuracy by epoch, mean and range over our seeds."
    )
    return _section(
        "sigmoid_per_sample: chaos",
        sentences,
        _figure("sigmoid_per_sample", caption, panels),
        data={"drift": parted},
    )


def start(ours: Ours, tables: pd.DataFrame) -> Section:
    """Return the section on the start of training in `relu_full_batch`: its seeds and vanishing gradients.

    It shows how the results of our seeds differ, and for how many images the gradient vanishes.
    """
    ends = ours.ends(FULL, "test_accuracy")
    epochs = int(ours.of(FULL, "test_accuracy")["epoch"].max())
    shares = pd.DataFrame(
        [(each.seed, drift.vanished(each, data.load(each.data))) for each in ours.trials[FULL]],
        columns=["seed", "without_gradient"],
    )
    share = shares["without_gradient"]
    sentences = [
        f"After {plural(epochs, 'epoch')} our {plural(len(ends), 'seed')} end with test accuracies of"
        f" {extent(ends, '.3f')}; {_last(tables, FULL, 'test')} was published. Runs of this"
        " experiment differ widely, so its published numbers are compared by their rank among ours.",
        f"For {percent(share.min())} to {percent(share.max())} of the training images, depending on the seed,"
        " the untrained network gives the right class a probability p_y below the loss's ε = 1e-12. For these"
        " images p_y / (p_y + ε), a factor of the exact gradient, is below one half and soon almost 0, so"
        " training starts with the other images.",
    ]
    panels = [
        Panel(
            f"train {quantity}",
            [
                ours.line(FULL, f"train_{quantity}", "our seeds"),
                printed(tables, FULL, "train", quantity),
                printed(tables, FULL, "train", quantity, "b"),
            ],
        )
        for quantity in ("loss", "accuracy")
    ]
    caption = "relu_full_batch: the mean and range over our seeds, and both published runs."
    return _section(
        "relu_full_batch: the start",
        sentences,
        _figure("relu_full_batch", caption, panels),
        data={"without_gradient": shares},
    )


def _section(
    title: str,
    sentences: Sequence[str],
    figure: Figure,
    *tables: Table,
    data: Mapping[str, pd.DataFrame] = MappingProxyType({}),
) -> Section:
    return Section(title, [*(Text(each, EVERYWHERE) for each in sentences), figure, *tables], data)


def _figure(name: str, caption: str, panels: Sequence[Panel]) -> Figure:
    return picture.block(line_panels(panels), name, caption, label=caption)


# Sentences


def which(rows: pd.DataFrame, experiment: str) -> str:
    """Return sentences on which of two versions of a program computed the published numbers.

    It is clear if at most a tenth of the published rows have the verdict `apart` with one version, and at
    least half of them with the other.
    """
    by_program = {
        row["program"]: row for row in summary(rows[rows["experiment"] == experiment]).to_dict("records")
    }
    counts = []
    for program, name in PROGRAMS[experiment].items():
        row = by_program[program]
        counts.append((name, int(row[APART]), int(row["rows"] - row[NOT_RUN])))
    apart = "; ".join(f"{apart} of {run} with {name}" for name, apart, run in counts)
    (nearest, least, run), (_, most, _) = sorted(counts, key=lambda each: each[1])
    start = f"Published rows with the verdict '{APART}': {apart}."
    if least <= 0.1 * run and most >= 0.5 * run:
        return f"{start} So the published numbers are those of {nearest}."
    return f"{start} These seeds and rows are too few to tell which program was published."


def _reached(ours: Ours, preset: str, loss: float) -> str:
    """Return, in words, in which epoch each of our seeds first had a training loss of `loss` or less."""
    part = ours.of(preset, "train_loss")
    part = part[part["seed"].isin(ours.ends(preset, "train_loss").index)]
    seeds = part["seed"].nunique()
    first = part[part["value"] <= loss].groupby("seed")["epoch"].min().sort_values()
    if not len(first):
        return f"not in {plural(part['epoch'].max(), 'epoch')} ({plural(seeds, 'seed')})"
    epochs = ", ".join(map(str, first))
    return f"at epoch {epochs} ({len(first)} of {plural(seeds, 'seed')})"


def extent(values: pd.Series, form: str) -> str:
    """Return the minimum and maximum of some values as text.

    >>> extent(pd.Series([0.5, 0.25]), ".2f"), extent(pd.Series([0.5]), ".2f"), extent(pd.Series([]), ".2f")
    ('0.25 to 0.50', '0.50', 'not run')
    """
    ends = [f"{value:{form}}" for value in (values.min(), values.max())] if len(values) else [NOT_RUN]
    return " to ".join(dict.fromkeys(ends))


def _mean(values: pd.Series) -> str:
    interval = statistics.mean_interval(values, within=statistics.ACCURACY)
    ends = "" if interval.method == "none" else f" (95% interval {between(interval.low, interval.high)})"
    return percent(statistics.mean(values)) + ends


def _paired(differences: pd.Series) -> str:
    d = differences.dropna()
    if not len(d):
        return "No seed finished with both derivatives, so they cannot be paired."
    ends = statistics.mean_interval(d, within=statistics.DIFFERENCE)
    interval = "" if ends.method == "none" else f", 95% interval {between(ends.low, ends.high)}"
    return (
        f"Paired by seed, the right derivative is {points(statistics.mean(d))} ahead{interval}; it is ahead"
        f" in {int((d > 0).sum())} of {plural(len(d), 'seed')} (sign-flip test, p ="
        f" {statistics.sign_flip_test(d):.3g})."
    )


def _last(tables: pd.DataFrame, experiment: str, split: str) -> str:
    chosen = tables[(tables["experiment"] == experiment) & (tables["split"] == split)]
    return str(chosen.sort_values("epoch")["accuracy"].iloc[-1])


def _until(line: Line, last: int) -> Line:
    kept = [(x, y) for x, y in zip(line.x, line.y, strict=True) if x <= last]
    return line._replace(x=[x for x, _ in kept], y=[y for _, y in kept])
