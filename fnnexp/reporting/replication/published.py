"""The published tables, and how each published number compares with those of our seeds.

A published number is one draw from a program that was run once, with initial weights that are not known. Our
n seeds are n draws from our version of that program. If the programs are the same, all n + 1 draws have the
same distribution, which can be tested. If trajectories are chaotic, only the rank of the published number
among ours is compared. If seeds differ little, epochs are compared one by one, to two or three digits.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.results import statistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

WITHIN, NEAR, APART, TOO_FEW, NOT_RUN = "within", "near", "apart", "too few", "not run"
VERDICTS = (WITHIN, NEAR, APART, TOO_FEW, NOT_RUN)
QUANTITIES = ("loss", "accuracy")

HALF = "half_decay"
"""The name of the part of a preset that decays weights by ηλ/2n at each step instead of ηλ/n."""

PROGRAMS: dict[str, dict[str, str]] = {
    "tanh_mini_batch": {
        "tanh_mini_batch_as_published": "the derivative as published",
        "tanh_mini_batch": "the right derivative",
    },
    "relu98_full_batch": {
        "relu98_full_batch": "plain SGD at 0.01",
        "relu98_full_batch_as_listed": "Adam, as listed",
    },
    "sigmoid_per_sample": {"sigmoid_per_sample": "as published"},
    "relu_full_batch": {"relu_full_batch": "as published"},
    "nielsen_30": {"nielsen_30": "as published"},
    "nielsen_100": {"nielsen_100": "as published"},
    "nielsen_100_ce_l2": {
        "nielsen_100_ce_l2": "as published",
        f"nielsen_100_ce_l2 {HALF}": "with half the decay",
    },
    "nielsen_100_ce_l2_60": {"nielsen_100_ce_l2_60": "as published"},
    "keras_mlp": {"keras_mlp": "as published"},
}
"""The presets that each published experiment is compared with, and their descriptions. The first preset is
expected to give the published numbers."""

CLASSICS = ("nielsen_30", "nielsen_100", "nielsen_100_ce_l2", "nielsen_100_ce_l2_60", "keras_mlp")
"""The experiments of ``classics.csv``."""

BY_RANK = ("sigmoid_per_sample", "relu_full_batch", "nielsen_30", "nielsen_100")
"""Experiments whose seeds differ widely. Only the ranks of their numbers among the seeds are compared."""

METRICS = {"train": "train", "validation": "val", "test": "test"}
"""The splits of the tables, and the prefixes of their metrics' names."""


def published() -> pd.DataFrame:
    """Return the published results: one row per experiment, run, epoch and split.

    Returns
    -------
    DataFrame
        - `experiment` (category): the name of the preset (`fnnexp.sweep(experiment="tanh_mini_batch")`).
        - `run` (category): `a`, or `b` for a second published run of an experiment.
        - `epoch` (Int64): 0 is before training.
        - `split` (category): train, validation or test. Training values are means over the rows during the
          epoch. A validation accuracy is the highest of all epochs so far.
        - `loss`, `accuracy` (float64, a fraction): with the published digits; NaN if not published.

    Examples
    --------
    >>> table = published()
    >>> table.query("experiment == 'tanh_mini_batch' and epoch == 1")["accuracy"].item()
    0.8875
    """
    table = printed()
    for column in ("loss", "accuracy"):  # float() is exact, unlike the parser of some pandas versions
        table[column] = [float(text or "nan") for text in table[column]]
    for column in ("experiment", "run"):
        names = table[column].drop_duplicates().to_list()
        table[column] = table[column].astype(pd.CategoricalDtype(names, ordered=True))
    split = pd.CategoricalDtype(list(METRICS), ordered=True)
    return table.astype({"split": split, "epoch": "Int64"})


def printed() -> pd.DataFrame:
    """Return the published tables with their numbers as text.

    The columns are `experiment run epoch split` (epoch int64), `loss` and `accuracy` (str). The text has the
    published digits, which show the precision; "" means not published.
    """
    texts = classics()
    texts["split"] = texts["split"].str.partition(" ")[0]  # e.g. "validation (images 50001 to 60000)"
    texts = texts.assign(run="a", loss="")[["experiment", "run", "epoch", "split", "loss", "accuracy"]]
    return pd.concat([_read("published.csv"), texts], ignore_index=True).astype({"epoch": "int64"})


def classics() -> pd.DataFrame:
    """Return the numbers printed in the classic texts, as text, with their sources, settings and notes."""
    return _read("classics.csv")


def _read(name: str) -> pd.DataFrame:
    with resources.files(__package__).joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype="str", keep_default_na=False)


class Place(NamedTuple):
    """The position of a published number among our numbers.

    Attributes
    ----------
    seeds, below
        The number of our seeds, and how many of our numbers are below the published number.
    mean, low, high
        Our mean, minimum and maximum.
    predicted_low, predicted_high
        Student's 95% prediction interval for one more run.
    verdict
        See :func:`place`.
    """

    seeds: int
    below: int
    mean: float
    low: float
    high: float
    predicted_low: float
    predicted_high: float
    verdict: str


def place(printed: str, ours: ArrayLike) -> Place:
    """Return the position of a published number among our numbers, and the verdict.

    - `within`: between our minimum and maximum. One more run ends there with probability (n − 1) / (n + 1)
      for any continuous distribution.
    - `near`: outside, but in the 95% prediction interval for one more run, x̄ ± t s √(1 + 1/n).
    - `apart`: outside of both, as are about one in 20 numbers of the same program.
    - `too few`: there is one seed, which has no spread. `not run`: there is no seed.

    The verdict allows for rounding of the published number by half a unit of its last digit.

    >>> place("0.96", [0.951, 0.962]).verdict, place("0.99", [0.951, 0.962, 0.955]).verdict
    ('within', 'apart')
    """
    x = np.asarray(ours, dtype=np.float64)
    value, half = float(printed), 0.5 * 10.0 ** -len(printed.partition(".")[2])
    if not x.size:
        nan = float("nan")
        return Place(0, 0, nan, nan, nan, nan, nan, NOT_RUN)
    predicted = statistics.prediction_interval(x)
    low, high = float(x.min()), float(x.max())
    if x.size == 1:
        verdict = TOO_FEW
    elif low <= value + half and value - half <= high:
        verdict = WITHIN
    elif predicted.low <= value + half and value - half <= predicted.high:
        verdict = NEAR
    else:
        verdict = APART
    below = int((x < value).sum())
    return Place(x.size, below, float(x.mean()), low, high, predicted.low, predicted.high, verdict)


def compare(tables: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Compare each published row with our seeds, once for each program that may have computed it.

    Parameters
    ----------
    tables
        The result of :func:`printed`.
    ours
        One row per point of a curve: `preset`, `seed`, `epoch`, `metric`, `value`.

    Returns
    -------
    DataFrame
        `experiment run epoch split`; `program` (the preset); `verdict`, the worse of the verdicts on loss and
        accuracy; then for each of these two `…_published` and the fields of :class:`Place`, e.g. `loss_mean`.
    """
    ours = ours.sort_values("epoch", kind="stable")
    highest = ours.groupby(["preset", "seed", "metric"])["value"].cummax()
    validated = ours["metric"] == f"{METRICS['validation']}_accuracy"
    ours = ours.assign(value=ours["value"].where(~validated, highest))
    points = {
        key: group.to_numpy() for key, group in ours.groupby(["preset", "epoch", "metric"])["value"]
    }  # fmt: skip
    rows = []
    for row in tables.to_dict("records"):
        for program in PROGRAMS[row["experiment"]]:
            places = {
                quantity: place(
                    row[quantity],
                    points.get((program, row["epoch"], f"{METRICS[row['split']]}_{quantity}"), []),
                )
                for quantity in QUANTITIES
                if row[quantity]
            }
            line = {key: row[key] for key in ("experiment", "run", "epoch", "split")}
            line |= {"program": program, "verdict": worst([each.verdict for each in places.values()])}
            for quantity in QUANTITIES:
                line[f"{quantity}_published"] = row[quantity]
                if quantity in places:
                    line |= {f"{quantity}_{k}": v for k, v in places[quantity]._asdict().items()}
            rows.append(line)
    return pd.DataFrame(rows)


def worst(verdicts: Sequence[str]) -> str:
    """Return the worst of some verdicts.

    >>> worst(["within", "apart"]), worst(["near", "within"])
    ('apart', 'near')
    """
    return max(verdicts, key=VERDICTS.index)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many published rows have each verdict, in a row for each published table and program.

    The columns are `experiment run program`, `seeds` (the fewest that a compared row has), `rows`, and one
    column per verdict.
    """
    counted = []
    for (experiment, run, program), part in rows.groupby(["experiment", "run", "program"], sort=False):
        counts_of = part.reindex(columns=[f"{quantity}_seeds" for quantity in QUANTITIES])
        seeds = counts_of[part["verdict"] != NOT_RUN].min(axis="columns")
        counts = {verdict: int((part["verdict"] == verdict).sum()) for verdict in VERDICTS}
        fewest = int(seeds.min()) if len(seeds) else 0
        counted.append({"experiment": experiment, "run": run, "program": program, "seeds": fewest}
                     | {"rows": len(part)} | counts)  # fmt: skip
    return pd.DataFrame(counted)


def labelled(curves: pd.DataFrame, presets: Mapping[str, str]) -> pd.DataFrame:
    """Return the points of the curves of the trials in `presets`, which has each trial's preset by its id.

    The columns are `trial preset seed epoch metric value`; the rows are sorted by seed.
    """
    points = curves[["trial", "seed", "epoch", "metric", "value"]].astype({"trial": "str", "metric": "str"})
    points = points.assign(preset=points["trial"].map(presets))
    points = points.dropna(subset="preset").astype({"epoch": "int64", "seed": "int64"})
    return points.sort_values("seed", kind="stable")
