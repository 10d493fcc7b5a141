"""Train some finished trials again, and compare their numbers with those in the store. `fnnexp verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from fnnexp.errors import FnnexpError, plural
from fnnexp.nn.arrays import Array
from fnnexp.nn.network import Parameters
from fnnexp.nn.pieces.metrics import required_names
from fnnexp.nn.training import engine_version
from fnnexp.results import frames
from fnnexp.results.networks import alone
from fnnexp.results.networks.one_thread import blas_kernel
from fnnexp.results.networks.stored import Recorded, network_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fnnexp.nn.stack import Record
    from fnnexp.results.networks.network import Network

BITWISE, ROUNDING, DIFFERS, UNVERIFIED = "bitwise", "other rounding", "differs", "not verified"

RESULTS = (BITWISE, ROUNDING, DIFFERS, UNVERIFIED)
"""What a comparison found, in the order of tables."""


class Row(NamedTuple):
    """The result of training a trial again: a row of the frame of :func:`verify`."""

    trial: str
    name: str
    result: str
    difference: float
    note: str = ""


def verify(
    experiment: str, *, sample: int = 5, seed: int | None = None, tracking_uri: str | None = None
) -> pd.DataFrame:
    """Train a random sample of an experiment's finished trials again, and compare their numbers.

    Parameters
    ----------
    experiment, tracking_uri
        As for :func:`fnnexp.runs`.
    sample
        How many trials to train; all, if the experiment has fewer.
    seed
        The seed of the sample. Default: another sample at each call.

    Returns
    -------
    DataFrame
        One row for each trial of the sample.

        - `trial` (its id) and `name` (str).
        - `result` (ordered category): `bitwise`, if all losses and accuracies and all final weights are the
          same to the last bit; `other rounding`, if they are not, but the trial was computed by another
          engine or BLAS kernel than is here, which rounds differently; `differs`, if they should be the same
          and are not; `not verified`, if the trial cannot be trained here.
        - `difference` (float64): the largest absolute difference of an accuracy in any epoch, a fraction.
        - `note` (str): what computed the trial, if the result is not `bitwise`, or why it is not verified.

    Raises
    ------
    FnnexpError
        If the experiment does not exist or has no finished trials, or `sample` is below 1.

    Examples
    --------
    >>> fnnexp.verify("card_grid", sample=2)["result"].value_counts()  # doctest: +SKIP
    """
    if not isinstance(sample, int) or sample < 1:
        raise FnnexpError(f"sample={sample!r} must be a number of trials, 1 or more; write sample=5")
    runs = frames.runs(experiment, tracking_uri=tracking_uri)
    finished = runs[runs["status"] == "finished"].sort_values("trial", ignore_index=True)
    if finished.empty:
        raise FnnexpError(
            f"none of the {plural(len(runs), 'trial')} of '{experiment}' has finished; run the sweep again"
        )
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(finished), min(sample, len(finished)), replace=False))
    curves = frames.curves(experiment, metrics=required_names(), tracking_uri=tracking_uri)
    by_trial = dict(list(curves.groupby(curves["trial"].astype("str"))))
    rows = [_compared(finished.iloc[i], by_trial.get(finished["trial"][i]), tracking_uri) for i in chosen]
    frame = pd.DataFrame(rows, columns=list(Row._fields)).astype({"difference": "float64"})
    result = pd.CategoricalDtype(list(RESULTS), ordered=True)
    return frame.astype({"trial": "str", "name": "str", "result": result, "note": "str"})


def _compared(row: pd.Series, curve: pd.DataFrame | None, uri: str | None) -> Row:
    """Train a trial again, and compare its curve and weights with those in the store.

    `row` is its row of :func:`fnnexp.runs`, and `curve` has its rows of :func:`fnnexp.curves`.
    """
    trial, name = str(row["trial"]), str(row["name"])
    try:
        network = network_of(Recorded.of_row(row), uri)
        records, weights, computed_by = _trained(network)
    except FnnexpError as error:
        return Row(trial, name, UNVERIFIED, np.nan, str(error))
    stored = {} if curve is None else _points(curve)
    trained = {
        (metric, record.epoch): value
        for record in records
        for metric, value in record.metrics.items()
        if metric in required_names() and np.isfinite(value)
    }
    common = [point for point in trained.keys() & stored.keys() if point[0].endswith("accuracy")]
    difference = max((abs(trained[point] - stored[point]) for point in common), default=np.nan)
    if trained == stored and all((weights[key] == array).all() for key, array in network.weights.items()):
        return Row(trial, name, BITWISE, 0.0)
    recorded = tuple(str(row[column]) for column in ("engine", "blas"))
    result = DIFFERS if recorded == computed_by else ROUNDING
    note = f"computed by {', '.join(recorded)}; here by {', '.join(computed_by)}"
    return Row(trial, name, result, difference, note)


def _trained(network: Network) -> tuple[Sequence[Record], Mapping[str, Array], tuple[str, str]]:
    """Train the trial of a network again, on this machine.

    Return the records of its epochs, its final weights, and the engine and BLAS kernel that computed them.
    """
    data, engine = network.data, network.engine_here
    records, end = alone.train(data.recipe, network.lane, data.arrays, engine)
    weights = Parameters(data.recipe.architecture, end.theta[None]).named(0)
    return records, weights, (engine_version(data.recipe, engine), blas_kernel())


def _points(curve: pd.DataFrame) -> dict[tuple[str, int], float]:
    """Return the recorded values of a trial's metrics, by metric and epoch.

    `curve` has its rows of :func:`fnnexp.curves`.
    """
    keys = zip(curve["metric"].astype("str"), curve["epoch"].astype("int64").tolist(), strict=True)
    return dict(zip(keys, curve["value"].tolist(), strict=True))
