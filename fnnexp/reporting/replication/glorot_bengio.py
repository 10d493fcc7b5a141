"""What the figures of Glorot & Bengio (2010) show, in networks of ours: each claim with what was measured.

The paper, "Understanding the difficulty of training deep feedforward neural networks", follows the layers of
deep networks by the spread of their activations and of the back-propagated gradients. Our diagnostics
(:mod:`fnnexp.nn.layer_stats`) measure the same: before training and after each epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from fnnexp.errors import plural
from fnnexp.reporting.document.blocks import EVERYWHERE, FILES, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, percent, points
from fnnexp.reporting.plots import layers as plots
from fnnexp.reporting.plots import picture
from fnnexp.reporting.replication.findings import Ours
from fnnexp.reporting.replication.line_panels import Line, Panel, line_panels
from fnnexp.reporting.replication.presets import NETWORKS, NORMALIZED
from fnnexp.results import statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fnnexp.reporting.document.blocks import Block, Figure

TITLE = "Glorot & Bengio (2010): five hidden layers"

PRINTED = {"sigmoid": "2.21", "tanh": "1.76", "tanh N": "1.64", "softsign": "1.64", "softsign N": "1.72"}
"""The test errors on MNIST in percent, from table 1 of the paper."""

BORNE_OUT, IN_PART, NOT_BORNE_OUT, OPEN = "borne out", "in part", "not borne out", "open"
"""The verdicts. A difference of accuracies is open if its 95% interval contains 0."""

MOST, FEW = 0.5, 0.1
"""A layer counts as saturated if at least the share MOST of its activations are, as free if at most FEW."""

FOLD = 2.0
"""A standard deviation that changes by less than this factor from first to last layer counts as kept."""


class Claim(NamedTuple):
    """A claim of the paper, its place there, what was measured here to check it, and the verdict."""

    text: str
    place: str
    measured: str
    verdict: str


class Layers(NamedTuple):
    """The diagnostics and test accuracies of our networks, which are named as in table 1 of the paper.

    Attributes
    ----------
    diagnostics
        A frame with the columns `network seed epoch layer quantity value`.
    accuracies
        A frame of test accuracies with the columns `network seed epoch value`.
    """

    diagnostics: pd.DataFrame
    accuracies: pd.DataFrame

    @property
    def last(self) -> int:
        """The last epoch of any network."""
        return int(self.accuracies["epoch"].max())

    def hidden(self, network: str, quantity: str, epoch: int) -> pd.DataFrame:
        """Return a quantity of the hidden layers after an epoch: one row per seed, one column per layer."""
        points_of = self.diagnostics
        chosen = (points_of["network"] == network) & (points_of["quantity"] == quantity)
        chosen &= (points_of["epoch"] == epoch) & (points_of["layer"] < points_of["layer"].max())
        table: pd.DataFrame = points_of[chosen].pivot_table(index="seed", columns="layer", values="value")
        return table

    def accuracy(self, network: str, epoch: int) -> pd.Series:
        """Return the test accuracies after an epoch by seed."""
        part = self.accuracies
        part = part[(part["network"] == network) & (part["epoch"] == epoch)]
        return part.set_index("seed")["value"].sort_index()

    def gain(self, network: str, epoch: int) -> pd.Series:
        """Return by how much the paper's normalized initialization improves the test accuracy, by seed."""
        return self.accuracy(f"{network} N", epoch) - self.accuracy(network, epoch)


def sections(ours: Ours) -> list[Section]:
    """Return the section on the networks of Glorot & Bengio, or no section if they were not trained."""
    if not any(share.name in ours.trials for share in NETWORKS.values()):
        return []
    layers = _layers(ours)
    if layers.diagnostics.empty or layers.last < 1:
        return [Section(TITLE, [Text("No diagnostics were recorded: train them with diagnostics=true.")])]
    claims = [claim(layers) for claim in CLAIMS]
    blocks: list[Block] = [
        Text(setting(ours, layers), EVERYWHERE),
        Text(summary(claims), EVERYWHERE),
        _claims_table(claims),
        _errors_table(layers),
        *_figures(layers),
    ]
    data = {"claims": pd.DataFrame(claims), "layers": layers.diagnostics}
    return [Section(TITLE, blocks, data)]


def _layers(ours: Ours) -> Layers:
    names = {share.name: network for network, share in NETWORKS.items()}
    frames = [ours.diagnostics, ours.points[ours.points["metric"] == "test_accuracy"]]
    named = (frame.assign(network=frame["preset"].map(names)) for frame in frames)
    diagnostics, accuracies = (frame.dropna(subset="network") for frame in named)
    return Layers(
        diagnostics[["network", "seed", "epoch", "layer", "quantity", "value"]],
        accuracies[["network", "seed", "epoch", "value"]],
    )


def setting(ours: Ours, layers: Layers) -> str:
    """Return sentences on what was trained, and how it differs from the paper."""
    trials = [trial for share in NETWORKS.values() for trial in ours.trials.get(share.name, ())]
    widths = trials[0].recipe.architecture.hidden
    seeds = layers.accuracies.groupby("network")["seed"].nunique().min()
    return (
        f"{len(widths)} hidden layers of {widths[0]} units with sigmoid, tanh or softsign, in batches of 10,"
        f" for {plural(layers.last, 'epoch')} and {plural(int(seeds), 'seed')} each. N is the normalized"
        " start. The paper has 1,000 units a layer, millions of updates, and a learning rate chosen for each"
        " network; most of its figures are of other images (Shapeset-3×2). So its claims can be compared, but"
        " its errors cannot."
    )


def summary(claims: list[Claim]) -> str:
    """Return sentences on how many claims are borne out, and on each other claim with what was measured."""
    held = [claim for claim in claims if claim.verdict == BORNE_OUT]
    rest = [f"{claim.verdict}: {claim.text} ({claim.measured})" for claim in claims if claim not in held]
    return f"{len(held)} of {plural(len(claims), 'claim')} are borne out." + "".join(
        f" {each[0].upper()}{each[1:]}." for each in rest
    )


# The claims


def top_saturates(layers: Layers, epoch: int = 1) -> Claim:
    """Return the claim that the top hidden layer of a sigmoid network soon saturates."""
    top, others = _top_and_others(layers, epoch)
    return Claim(
        "the top hidden layer of a sigmoid network soon saturates at 0, the others do not",
        "figure 2",
        f"after epoch {epoch}, {_range(top)} of the top layer is saturated, and at most"
        f" {percent(float(others.max()))} of another",
        _verdict(bool((top >= MOST).all() and (others <= FEW).all())),
    )


def stays_saturated(layers: Layers) -> Claim:
    """Return the claim that the top hidden layer of a sigmoid network stays saturated to the last epoch."""
    top, _ = _top_and_others(layers, layers.last)
    return Claim(
        "a sigmoid network with five hidden layers does not escape from this",
        "section 3.1",
        f"after epoch {layers.last}, {_range(top)} of the top layer is saturated, and the test accuracy is"
        f" {_range(layers.accuracy('sigmoid', layers.last))}",
        _verdict(bool((top >= MOST).all())),
    )


def first_saturates_first(layers: Layers) -> Claim:
    """Return the claim on the order in which the layers of the tanh network saturate."""
    shares = layers.hidden("tanh", "saturated", layers.last)
    means = shares.mean()
    falls = bool((means.diff().dropna() < 0).all())
    first = bool((shares.iloc[:, 0] > shares.iloc[:, 1:].max(axis="columns")).all())
    return Claim(
        "with tanh and the standard start, the layers saturate one after the other, the first one first",
        "figure 3",
        f"after epoch {layers.last}, from the first layer to the last, "
        f"{' → '.join(percent(share) for share in means)} is saturated",
        BORNE_OUT if falls and first else IN_PART if first else NOT_BORNE_OUT,
    )


def softsign_saturates_less(layers: Layers) -> Claim:
    """Return the claim that layers saturate less with softsign than with tanh."""
    tanh = layers.hidden("tanh", "saturated", layers.last).max(axis="columns")
    softsign = layers.hidden("softsign", "saturated", layers.last).max(axis="columns")
    return Claim(
        "with softsign, the layers saturate less",
        "figure 3",
        f"after epoch {layers.last}, at most {percent(float(softsign.max()))} of a softsign layer is beyond"
        f" ±0.99, and {_range(tanh)} of the most saturated tanh layer",
        _verdict(bool((softsign < tanh).all())),
    )


def activations_shrink(layers: Layers) -> Claim:
    """Return the claim that activations shrink from layer to layer with the standard initialization."""
    standard, normalized = (_fold(layers.hidden(name, "z_std", 0)) for name in ("tanh", "tanh N"))
    return Claim(
        "the standard start shrinks the activations from layer to layer; the normalized start keeps them",
        "figure 6",
        f"sd of pre-activations before training, from the first hidden layer to the last: ×{_folds(standard)}"
        f" and, with the normalized start, ×{_folds(normalized)}",
        _verdict(_shrinks(standard) and _keeps(normalized)),
    )


def gradients_shrink(layers: Layers) -> Claim:
    """Return the claim that gradients shrink on their way back with the standard initialization."""
    standard, normalized = (1 / _fold(layers.hidden(name, "dz_std", 0)) for name in ("tanh", "tanh N"))
    return Claim(
        "the standard start shrinks the gradients on their way back; the normalized start keeps them",
        "figure 7",
        "sd of gradients before training, from the last hidden layer back to the first:"
        f" ×{_folds(standard)} and, with the normalized start, ×{_folds(normalized)}",
        _verdict(_shrinks(standard) and _keeps(normalized)),
    )


def trend_reverses(layers: Layers) -> Claim:
    """Return the claim that after one epoch gradients grow, and no longer shrink, on their way back."""
    folds = 1 / _fold(layers.hidden("tanh", "dz_std", 1))
    return Claim(
        "training soon reverses this: the gradients grow on their way back",
        "section 4.3",
        f"after epoch 1 with the standard start: ×{_folds(folds)}",
        _verdict(bool((folds > 1).all())),
    )


def converges_faster(layers: Layers) -> Claim:
    """Return the claim that a tanh network learns faster with the normalized initialization."""
    gain = layers.gain("tanh", 1)
    return Claim(
        "a tanh network learns faster from the normalized start",
        "section 5",
        f"test accuracy after epoch 1: {_difference(gain)}",
        _sign(gain),
    )


def ends_better(layers: Layers) -> Claim:
    """Return the claim that a tanh network ends better with the normalized initialization."""
    gain = layers.gain("tanh", layers.last)
    return Claim(
        "a tanh network ends better from the normalized start",
        "table 1",
        f"test accuracy after epoch {layers.last}: {_difference(gain)}",
        _sign(gain),
    )


def softsign_is_robust(layers: Layers) -> Claim:
    """Return the claim that the initialization matters less for softsign than for tanh."""
    tanh, softsign = (layers.gain(name, layers.last) for name in ("tanh", "softsign"))
    return Claim(
        "the start matters less for softsign than for tanh",
        "section 5",
        "gain in test accuracy from the normalized start, tanh minus softsign:"
        f" {_difference(tanh - softsign)}",
        _sign(tanh - softsign),
    )


def sigmoid_is_worst(layers: Layers) -> Claim:
    """Return the claim that the sigmoid network has the largest error."""
    sigmoid = layers.accuracy("sigmoid", layers.last)
    others = min(layers.accuracy(name, layers.last).min() for name in NETWORKS if name != "sigmoid")
    return Claim(
        "the sigmoid network has the largest error",
        "table 1",
        f"test accuracy after epoch {layers.last}: {_range(sigmoid)}, and at least {percent(others)} with the"
        " other networks",
        _verdict(bool(sigmoid.max() < others)),
    )


CLAIMS: tuple[Callable[[Layers], Claim], ...] = (
    top_saturates, stays_saturated, first_saturates_first, softsign_saturates_less, activations_shrink,
    gradients_shrink, trend_reverses, converges_faster, ends_better, softsign_is_robust, sigmoid_is_worst,
)  # fmt: skip


def _top_and_others(layers: Layers, epoch: int) -> tuple[pd.Series, pd.Series]:
    """Return the share of the sigmoid network's top hidden layer that is saturated, by seed.

    The second result is the largest such share of its other hidden layers.
    """
    shares = layers.hidden("sigmoid", "saturated", epoch)
    return shares.iloc[:, -1], shares.iloc[:, :-1].max(axis="columns")


def _fold(spreads: pd.DataFrame) -> pd.Series:
    """Return, by seed, the standard deviation of the last hidden layer divided by that of the first."""
    return spreads.iloc[:, -1] / spreads.iloc[:, 0]


def _shrinks(folds: pd.Series) -> bool:
    return bool((folds <= 1 / FOLD).all())


def _keeps(folds: pd.Series) -> bool:
    return bool(((folds > 1 / FOLD) & (folds < FOLD)).all())


def _verdict(holds: bool) -> str:
    return BORNE_OUT if holds else NOT_BORNE_OUT


def _sign(gain: pd.Series) -> str:
    """Return the verdict on the claim that a difference is positive, by the 95% interval of its mean."""
    interval = statistics.mean_interval(gain, within=statistics.DIFFERENCE)
    if interval.low > 0:
        return BORNE_OUT
    return NOT_BORNE_OUT if interval.high < 0 else OPEN


def _difference(gain: pd.Series) -> str:
    interval = statistics.mean_interval(gain, within=statistics.DIFFERENCE)
    ends = "" if interval.method == "none" else f" (95% interval {between(interval.low, interval.high)})"
    return points(statistics.mean(gain)) + ends


def _range(shares: pd.Series) -> str:
    """Return the smallest and the largest of some shares in percent."""
    return " to ".join(dict.fromkeys(percent(float(share)) for share in (shares.min(), shares.max())))


def _folds(folds: pd.Series) -> str:
    return " to ".join(dict.fromkeys(f"{fold:.2g}" for fold in (folds.min(), folds.max())))


# Tables and figures


def _claims_table(claims: list[Claim]) -> Table:
    rows = [
        [Cell(claim.text), Cell(claim.place), Cell(claim.measured), Cell(claim.verdict)] for claim in claims
    ]
    head = ["claim", "in the paper", "measured here", "verdict"]
    return Table("What the paper's figures show", head, rows, names=3, media=FILES)


def _errors_table(layers: Layers) -> Table:
    rows = []
    for network, text in PRINTED.items():
        errors = 100 * (1 - layers.accuracy(network, layers.last))
        numbers = [errors.mean(), errors.min(), errors.max()]
        cells = (Cell(f"{number:.2f}", float(number)) for number in numbers)
        rows.append([Cell(network), Cell(str(len(errors))), *cells, Cell(text, float(text))])
    head = [
        "network",
        "seeds",
        "mean test error %",
        "least",
        "greatest",
        "published, after millions of updates",
    ]
    return Table(f"Test errors after {plural(layers.last, 'epoch')}", head, rows, names=1, media=EVERYWHERE)


def _figures(layers: Layers) -> Iterator[Figure]:
    """Yield the figures of the untrained layers, and of the layers' saturation and gradients by epoch."""
    if (figure := plots.at_start(_at_start(layers))) is not None:
        yield picture.block(figure, "glorot_bengio_start", AT_START, label=AT_START)
    for quantity, title, log, caption in (
        ("saturated", "share saturated", "", SATURATED),
        ("dz_std", "sd of gradients", "y", GRADIENTS),
    ):
        panels = [
            Panel(f"{network}: {title}", list(_by_epoch(layers, network, quantity)), log=log)
            for network in NETWORKS
        ]
        yield picture.block(line_panels(panels), f"glorot_bengio_{quantity}", caption, label=caption)


def _at_start(layers: Layers) -> pd.DataFrame:
    """Return the means over seeds of the untrained layers, with their range, for a figure.

    The columns are those that :func:`fnnexp.reporting.plots.layers.at_start` draws.
    """
    start = layers.diagnostics[layers.diagnostics["epoch"] == 0]
    by = ["network", "quantity", "layer"]
    start = start.groupby(by)["value"].agg(mean="mean", low="min", high="max").reset_index()
    normalized = start["network"].map({name: share.preset == NORMALIZED for name, share in NETWORKS.items()})
    kinds = list(dict.fromkeys(name.removesuffix(" N") for name in NETWORKS))
    return start.assign(
        arch=pd.Categorical(start["network"].str.removesuffix(" N"), kinds),
        init=pd.Categorical(
            normalized.map({False: "standard", True: "normalized"}), ["standard", "normalized"]
        ),
    )


def _by_epoch(layers: Layers, network: str, quantity: str) -> Iterator[Line]:
    part = layers.diagnostics
    part = part[(part["network"] == network) & (part["quantity"] == quantity)]
    for layer, rows in part[part["layer"] < layers.diagnostics["layer"].max()].groupby("layer"):
        by = rows.groupby("epoch")["value"].agg(["mean", "min", "max"])
        yield Line(
            f"layer {layer}", by.index.tolist(), by["mean"].tolist(), by["min"].tolist(), by["max"].tolist()
        )


AT_START = (
    "The untrained networks of Glorot & Bengio, layer by layer, the logits last: standard deviation of the"
    " pre-activations and of the gradients of each row's loss with respect to them. Points are means over"
    " seeds, bars their range. Compare figures 6 and 7 of the paper."
)
SATURATED = (
    "The share of saturated activations of each hidden layer by epoch: beyond ±0.99 (tanh, softsign), or"
    " below 0.01 or above 0.99 (sigmoid). Mean and range over seeds; N is the normalized start. Compare"
    " figures 2, 3 and 10 of the paper."
)
GRADIENTS = (
    "The standard deviation of the gradients of each row's loss with respect to the pre-activations of each"
    " hidden layer by epoch. Mean and range over seeds; N is the normalized start. Compare section 4.3 of the"
    " paper."
)
