"""The published tables, and where each of their numbers lies among those of our seeds.

A published number is one draw of a program that was run once, from a start nobody has. Ours are n draws of
the program that is to be the same, one a seed. If it is, all n + 1 are alike, and that can be tested whatever
the trajectories look like: where they are chaotic by the place of the one among the others; where seeds
differ little, epoch by epoch to two digits or three.
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
}
"""For each published experiment the presets that it is compared with, each in words; first the one that its
numbers should be of."""

CHAOTIC = ("sigmoid_per_sample", "relu_full_batch")
"""Where a seed's trajectory says nothing of another's: the place in the distribution alone is compared."""


def published() -> pd.DataFrame:
    """Return what was published of each experiment: one row an epoch and split of a printed run.

    Returns
    -------
    DataFrame
        - `experiment`: a category, the preset's name (`fnnexp.sweep(experiment="tanh_mini_batch")`).
        - `run`: a category; `a`, `b` where an experiment was printed twice.
        - `epoch` (Int64); 0 is before training.
        - `split`: a category, train or test. Training numbers are means over the epoch's rows as met.
        - `loss`, `accuracy` (float64, a fraction), to the digits that were printed; NaN where none was.

    Examples
    --------
    >>> table = published()
    >>> table.query("experiment == 'tanh_mini_batch' and epoch == 1")["accuracy"].item()
    0.8875
    """
    table = printed()
    for column in ("loss", "accuracy"):  # by Python, which reads a number to its last bit with every pandas
        table[column] = [float(text or "nan") for text in table[column]]
    for column in ("experiment", "run"):
        names = table[column].drop_duplicates().to_list()
        table[column] = table[column].astype(pd.CategoricalDtype(names, ordered=True))
    split = pd.CategoricalDtype(["train", "test"], ordered=True)
    return table.astype({"split": split, "epoch": "Int64"})


def printed() -> pd.DataFrame:
    """Return the published tables to the digit.

    `experiment run epoch split` (epoch int64), `loss` and `accuracy` (str). A printed number
    keeps its digits, because they say how exactly it is known; what was not printed is "".
    """
    with resources.files(__package__).joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype="str", keep_default_na=False).astype({"epoch": "int64"})


class Place(NamedTuple):
    """Where a printed number lies among n of ours.

    Attributes
    ----------
    seeds, below
        How many of ours there are, and how many of them are smaller.
    mean, low, high
        Our mean, least and greatest.
    predicted_low, predicted_high
        Student's interval that holds one more draw in 95%.
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
    """Return where a printed number lies among ours, and the verdict.

    - `within`: between our least and our greatest, where one more draw lies with probability
      (n − 1) / (n + 1) whatever the distribution.
    - `near`: outside, but in the 95% interval of one more draw, x̄ ± t s √(1 + 1/n).
    - `apart`: outside of both; so is about one in 20 of the numbers of a program that is the same.
    - `too few`: one seed has no spread. `not run`: none.

    A printed number stands for all that are written so: half a unit of its last digit is given to it.

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
    """Return each row of the published tables beside each program that it is compared with.

    Parameters
    ----------
    tables
        As :func:`printed` returns them.
    ours
        One row a point of a curve: `preset`, `epoch`, `metric`, `value`.

    Returns
    -------
    DataFrame
        `experiment run epoch split`, `program` (the preset), `verdict`: the worse of its numbers' two; then
        for loss and accuracy `…_published` and the fields of :class:`Place`, as in `loss_mean`.
    """
    points = {
        key: group.to_numpy() for key, group in ours.groupby(["preset", "epoch", "metric"])["value"]
    }  # fmt: skip
    rows = []
    for row in tables.to_dict("records"):
        for program in PROGRAMS[row["experiment"]]:
            places = {
                quantity: place(
                    row[quantity],
                    points.get((program, row["epoch"], f"{row['split']}_{quantity}"), []),
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
    """Return the verdict of a row with these.

    >>> worst(["within", "apart"]), worst(["near", "within"])
    ('apart', 'near')
    """
    return max(verdicts, key=VERDICTS.index)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a published table and program, with how many of its rows have which verdict.

    `experiment run program`, `seeds` (the fewest of any row that was run), `rows`, and a column a verdict.
    """
    counted = []
    for (experiment, run, program), part in rows.groupby(["experiment", "run", "program"], sort=False):
        seeds = part.loc[part["verdict"] != NOT_RUN, "loss_seeds"]
        counts = {verdict: int((part["verdict"] == verdict).sum()) for verdict in VERDICTS}
        least = int(seeds.min()) if len(seeds) else 0
        counted.append({"experiment": experiment, "run": run, "program": program, "seeds": least}
                     | {"rows": len(part)} | counts)  # fmt: skip
    return pd.DataFrame(counted)


def labelled(curves: pd.DataFrame, presets: Mapping[str, str]) -> pd.DataFrame:
    """Return the points of the presets' trials, by seed: `trial preset seed epoch metric value`."""
    points = curves[["trial", "seed", "epoch", "metric", "value"]].astype({"trial": "str", "metric": "str"})
    points = points.assign(preset=points["trial"].map(presets))
    points = points.dropna(subset="preset").astype({"epoch": "int64", "seed": "int64"})
    return points.sort_values("seed", kind="stable")
