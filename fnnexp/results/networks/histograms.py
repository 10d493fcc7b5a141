"""Read the histograms of trials' layers, which ``diagnostics=full`` recorded, from their runs."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fnnexp.data import npz
from fnnexp.errors import FnnexpError
from fnnexp.nn.layer_stats import COUNTED, COUNTS
from fnnexp.results.networks.finding import find
from fnnexp.tracking import artifacts, reader
from fnnexp.tracking.reader import StoredRun
from fnnexp.tracking.run_format import DONE
from fnnexp.tracking.run_format import HISTOGRAMS as TAG

MOST_BYTES = 1 << 28
"""The largest size in bytes of a run's counts that are read: 1,000 epochs of 100 layers take 143 MB."""

MOST_BINS = 10_000


class Histograms(NamedTuple):
    """The histograms of the values in each layer of a trial's network, from its run.

    Attributes
    ----------
    epochs
        The epochs (E,) at whose end the values were counted; 0 is the untrained network.
    counts
        How many values are in each bin: (E, layers, quantities, bins), where the quantities are those of
        :data:`fnnexp.nn.layer_stats.COUNTED`.
    low, high
        The ends of the bins: see :data:`fnnexp.nn.layer_stats.LOW`.
    """

    epochs: NDArray[np.int32]
    counts: NDArray[np.int32]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def histograms(
    trial: str | pd.Series | pd.DataFrame, *, experiment: str | None = None, tracking_uri: str | None = None
) -> pd.DataFrame:
    """Return how the values of each layer are distributed, as recorded with `diagnostics=full`.

    Parameters
    ----------
    trial
        The name or the id of a trial, the id of its MLflow run, or a row of :func:`fnnexp.runs`. Or a frame
        with some of these rows, of which those without histograms are skipped.
    experiment, tracking_uri
        As for :func:`fnnexp.load`.

    Returns
    -------
    DataFrame
        One row for each bin of a histogram.

        - `trial` and `name` (category).
        - `epoch` (Int64): 0 is the untrained network, other epochs are measured at their end.
        - `layer` (Int64), from 1; the last layer computes the logits.
        - `quantity` (category): `a`, the outputs of the activation function, and in the last layer the
          logits; or `dz`, the gradient of each row's loss with respect to the pre-activations.
        - `low` and `high` (float64), the ends of the bin, and `count` (Int64), how many values it has. The
          bins are the same in all runs: logarithmic below 0.05 and above 1, linear between, for both
          signs. A bin of positive values has low < value ≤ high, and negative values mirror these. The bin
          from 0 to 0 counts exact zeros. NaN is in no bin.

    Raises
    ------
    FnnexpError
        If there is no such trial, if it has no histograms, or if their file is damaged.

    Examples
    --------
    >>> frame = fnnexp.histograms("relu_100-he-mini-s0")  # doctest: +SKIP
    >>> at_start = frame.query("epoch == 0 and layer == 1 and quantity == 'a'")  # doctest: +SKIP
    """
    if isinstance(trial, pd.DataFrame) and {"run_id", "trial", "name"} <= {*trial.columns}:
        recorded = reader.runs_with(TAG, tracking_uri)
        tables = [
            (run_id, of_trial, name)
            for run_id, of_trial, name in trial[["run_id", "trial", "name"]].itertuples(index=False)
            if run_id in recorded
        ]
        if not tables:
            raise FnnexpError(f"none of these {len(trial)} trials has histograms; {REMEDY}")
    else:
        run = find(trial, experiment, tracking_uri, function="histograms")
        _refuse_without(run)
        tables = [(run.run_id, run.trial, run.name)]
    frames = [_frame(of_run(run_id, tracking_uri), *names) for run_id, *names in tables]
    frame = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    names = {column: pd.CategoricalDtype(list(dict.fromkeys(frame[column]))) for column in ("trial", "name")}
    return frame.astype(names)


REMEDY = (
    "train with diagnostics=full. A trial that has ended is not trained again in its experiment, so write "
    "tracking.experiment=NAME too, for a new one"
)


def _refuse_without(run: StoredRun) -> None:
    """Raise if a run has no histograms; the message says how to record them."""
    if TAG in run.tags:
        return
    if run.status not in DONE:
        raise FnnexpError(
            f"{run.name} (run {run.run_id}) is {run.status}, and histograms are written when a trial ends"
        )
    raise FnnexpError(f"{run.name} (run {run.run_id}) has no histograms; {REMEDY}")


def of_run(run_id: str, uri: str | None = None) -> Histograms:
    """Return the histograms of a run; raise FnnexpError if they are missing or damaged."""
    content = artifacts.read(run_id, artifacts.HISTOGRAMS, uri, most=MOST_BYTES)
    try:
        archive = npz.Archive(io.BytesIO(content))
        shape = archive.header("counts").shape
        if len(shape) != 4 or min(shape) < 1 or shape[2] != len(COUNTED) or shape[3] > MOST_BINS:
            raise npz.DamagedError(
                f"counts has the shape {shape}, not (epochs, layers, {len(COUNTED)}, bins)"
            )
        if math.prod(shape) * COUNTS.itemsize > MOST_BYTES:
            raise npz.DamagedError(f"counts is larger than the {MOST_BYTES:,} bytes allowed")
        quantities = archive.array("quantity", "<U2", shape[2:3]).tolist()
        if quantities != [*COUNTED]:
            raise npz.DamagedError(
                f"its quantities are {', '.join(map(repr, quantities))}, not {', '.join(map(repr, COUNTED))}"
            )
        return Histograms(
            archive.array("epoch", COUNTS, shape[:1]),
            archive.array("counts", COUNTS, shape),
            archive.array("low", np.float64, shape[3:]),
            archive.array("high", np.float64, shape[3:]),
        )
    except npz.DamagedError as error:
        raise FnnexpError(f"the file {artifacts.HISTOGRAMS} of the run is damaged ({error})") from error


def of_runs(run_ids: Iterable[str], uri: str | None = None) -> tuple[dict[str, Histograms], list[str]]:
    """Return the histograms of those runs that recorded any, by run id, and messages.

    The messages say which histograms can't be read, and why.
    """
    recorded, read, reasons = reader.runs_with(TAG, uri), {}, []
    for run_id in run_ids:
        if run_id in recorded:
            try:
                read[run_id] = of_run(run_id, uri)
            except FnnexpError as error:
                reasons.append(str(error))
    return read, reasons


class Shares(NamedTuple):
    """The average histograms of some trials. `shares` has the fraction of values in each bin.

    Its axes are epochs, layers, quantities and bins; each histogram sums to 1.
    """

    epochs: NDArray[np.int32]
    shares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def averaged(several: Sequence[Histograms]) -> Shares:
    """Average the histograms of several trials, each as fractions of its values.

    At each epoch, the average is over the trials that recorded this epoch.
    """
    epochs = np.unique(np.concatenate([each.epochs for each in several]))
    total = np.zeros((len(epochs), *several[0].counts.shape[1:]))
    trials = np.zeros(len(epochs))
    for each in several:
        places = np.searchsorted(epochs, each.epochs)
        sums = each.counts.sum(axis=-1, keepdims=True)
        total[places] += each.counts / np.maximum(sums, 1)
        trials[places] += 1
    return Shares(epochs, total / trials[:, None, None, None], several[0].low, several[0].high)


def _frame(histograms: Histograms, trial: str, name: str) -> pd.DataFrame:
    """Return the frame of :func:`histograms` for one trial, with this id and name."""
    epochs, layers, quantities, bins = histograms.counts.shape
    each = np.indices((epochs, layers, quantities, bins)).reshape(4, -1)
    quantity = pd.Categorical.from_codes(each[2], dtype=pd.CategoricalDtype([*COUNTED], ordered=True))
    return pd.DataFrame(
        {
            "trial": trial,
            "name": name,
            "epoch": pd.array(histograms.epochs[each[0]], dtype="Int64"),
            "layer": pd.array(each[1] + 1, dtype="Int64"),
            "quantity": quantity,
            "low": histograms.low[each[3]],
            "high": histograms.high[each[3]],
            "count": pd.array(histograms.counts.reshape(-1), dtype="Int64"),
        }
    )
