"""The published experiments that `fnnexp reproduce` runs, with their seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fnnexp.errors import FnnexpError
from fnnexp.reporting.replication.published import HALF

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPERIMENT = "reproduce"
"""The MLflow experiment in which the runs are recorded."""


class Share(NamedTuple):
    """The trials of one preset that `fnnexp reproduce` runs: some seeds, with the overrides in `changed`.

    If the page compares variants of a preset, such as its activations, `part` is the name of this variant.
    """

    preset: str
    seeds: range
    changed: tuple[str, ...] = ()
    part: str = ""

    @property
    def name(self) -> str:
        """The name of these trials on the page: the preset and the variant, if it has variants."""
        return f"{self.preset} {self.part}".rstrip()


STANDARD, NORMALIZED = "glorot_bengio_standard", "glorot_bengio_normalized"

NETWORKS = {
    "sigmoid": Share(STANDARD, range(6), ("arch.activation=sigmoid", "optimizer.lr=1"), "sigmoid"),
    "tanh": Share(STANDARD, range(6)),
    "tanh N": Share(NORMALIZED, range(6)),
    "softsign": Share(STANDARD, range(6), ("arch.activation=softsign",), "softsign"),
    "softsign N": Share(NORMALIZED, range(6), ("arch.activation=softsign",), "softsign"),
}
"""The networks of Glorot & Bengio (2010), by their names in its table 1; N is the normalized start."""

FULL = (
    Share("tanh_mini_batch_as_published", range(6)),
    Share("tanh_mini_batch", range(6)),
    Share("relu98_full_batch", range(4)),
    Share("relu98_full_batch_as_listed", range(2)),
    Share("relu_full_batch", range(8)),
    Share("sigmoid_per_sample", range(12)),
    Share("sigmoid_per_sample", range(12), ("epochs=0",)),
    Share("nielsen_30", range(24)),
    Share("nielsen_100", range(24)),
    Share("nielsen_100_ce_l2", range(24)),
    Share("nielsen_100_ce_l2", range(12), ("regularization.l2=5e-5",), HALF),
    Share("nielsen_100_ce_l2_60", range(20)),
    Share("keras_mlp", range(6)),
    *NETWORKS.values(),
)

QUICK = (
    Share("tanh_mini_batch_as_published", range(3), ("dtype=float32",)),
    Share("tanh_mini_batch", range(3), ("dtype=float32",)),
    Share("relu98_full_batch", range(1), ("epochs=100",)),
    Share("relu98_full_batch_as_listed", range(1), ("epochs=100",)),
    Share("relu98_full_batch", range(1, 3), ("epochs=25",)),
    Share("relu98_full_batch_as_listed", range(1, 3), ("epochs=25",)),
    Share("relu_full_batch", range(3), ("dtype=float32",)),
    Share("sigmoid_per_sample", range(6)),
    Share("sigmoid_per_sample", range(6), ("epochs=0",)),
    Share("nielsen_30", range(6), ("epochs=3",)),
    *(
        each._replace(seeds=range(2), changed=(*each.changed, "data.subset=5000", "epochs=3"))
        for each in NETWORKS.values()
    ),
)

QUICKER = {
    "tanh_mini_batch": "It runs tanh_mini_batch in float32, although it was published in float64.",
    "relu98_full_batch": "Of the 500 epochs of relu98_full_batch it runs 100 for one seed and 25 for two, so"
    " four of its five rows are not run.",
    "relu_full_batch": "It runs relu_full_batch in float32, although it was published in float64.",
    "nielsen_30": "It runs 3 of the 30 epochs of nielsen_30.",
    "glorot_bengio": "It runs the networks of Glorot & Bengio for 3 of 5 epochs on a tenth of the images.",
}
"""What the quick run does differently from the full one, by experiment."""


def left_out(shares: Sequence[Share]) -> str:
    """Return a note on what the quick run of these shares omits or does differently."""
    names = experiments(shares)
    notes = [note for name, note in QUICKER.items() if name in names]
    if set(names) == set(experiments(QUICK)):
        others = [name for name in experiments(FULL) if name not in names]
        notes.append(f"It leaves out {', '.join(others[:-1])} and {others[-1]}.")
    return " ".join(["This is the quick run. It has fewer seeds, so it can tell less apart.", *notes])


def experiments(shares: Sequence[Share]) -> list[str]:
    """Return the names of the published experiments to which these shares belong, each once, in order."""
    names = [experiment_of(share.preset) for share in shares]
    return list(dict.fromkeys(names))


def experiment_of(preset: str) -> str:
    """Return the name of the published experiment to which a preset belongs.

    >>> experiment_of("tanh_mini_batch_as_published"), experiment_of("glorot_bengio_normalized")
    ('tanh_mini_batch', 'glorot_bengio')
    """
    for ending in ("_as_published", "_as_listed", "_standard", "_normalized"):
        preset = preset.removesuffix(ending)
    return preset


def chosen(names: Sequence[str], *, quick: bool) -> list[Share]:
    """Return the trials to run: those of the experiments with these names, or all if no names are given.

    Raises
    ------
    FnnexpError
        If no experiment has one of the names, or the quick run leaves it out.
    """
    shares = QUICK if quick else FULL
    for name in names:
        if name not in experiments(FULL):
            raise FnnexpError(
                f"{name!r}: no published experiment has this name; they are {', '.join(experiments(FULL))}"
            )
        if name not in experiments(shares):
            raise FnnexpError(f"{name}: the quick run leaves it out; omit --quick")
    return [share for share in shares if not names or experiment_of(share.preset) in names]
