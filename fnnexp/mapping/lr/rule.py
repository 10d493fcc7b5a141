"""The suggested learning rate of a range test: where the losses are least while the rate rises."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHARE = 16
"""The logarithm of each loss is averaged with its neighbours: a 1/SHARE part of all losses of the curve."""

FEWEST = 3
"""The least number of losses that are averaged."""

PART = 0.8
"""The suggested rate is so many times the rate of the least losses. Chosen with the rest of the rule on other
networks and data than those of ``benchmarks/lr.py``, where it was best."""

LEARNED = 0.05
"""Where the training loss is so many times its first value, nearly all is learned."""

LEAST = float(np.finfo(np.float32).tiny)
"""A smaller loss is replaced by this, since it may be exactly 0 and has no logarithm then."""

FALL = 0.05
"""If the logarithm of the loss falls by less than this, nothing is learned and no rate is suggested."""

WORSE = 2.0
"""Training diverges where the loss is this multiple of its least value, or, if that is less, where it is
halfway back, as a logarithm, from its least value to its first."""


class Reading(NamedTuple):
    """Three learning rates: the suggested one, where the loss falls fastest, and where training diverges.

    NaN where there is no such rate: the loss hardly falls, or training does not diverge.
    """

    suggested: float
    steepest: float
    diverges: float


def read(
    rates: NDArray[np.float64], train: NDArray[np.float64], val: NDArray[np.float64] | None = None
) -> Reading:
    """Return the suggested rate and two others, given the losses (n,) measured at rising rates (n,).

    At some rate the loss is least: at lower rates it falls too slowly, and at higher rates steps are so
    long that they undo more than they gain. There is such a rate for the training loss and one for the
    validation loss. The suggested rate is :data:`PART` times their geometric mean. The rate of the
    training loss alone is too high for optimizers that learn the few rows of the test by heart, and the
    rate of the validation loss alone is often too low.

    Once nearly all is learned, losses say little about rates. So the suggestion is at most the rate at
    which the training loss reaches :data:`LEARNED` times its first value.

    The other two rates, where the loss falls fastest and where training diverges, are those of the
    training loss. From a divergence on, losses are not finite.
    """
    least, *others = _of_one(rates, train)
    of_val = math.nan if val is None else _of_one(rates, val).suggested
    suggested = PART * (least if math.isnan(of_val) else math.sqrt(least * of_val))
    learned = np.flatnonzero(_smooth(train) < math.log(LEARNED) + _smooth(train)[:1])
    return Reading(min(suggested, float(rates[learned[0]])) if len(learned) else suggested, *others)


def _smooth(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smoothed logarithms of the losses, up to the first loss that is not finite."""
    stop = int(np.argmin(np.append(np.isfinite(losses), False)))
    return smoothed(np.log(np.maximum(losses[:stop], LEAST)), max(len(losses) // SHARE | 1, FEWEST))


def _of_one(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> Reading:
    """Return the three rates of a single curve of losses; the suggested one is the rate of the least loss."""
    smooth = _smooth(losses)
    diverged = math.nan if len(smooth) == len(losses) else float(rates[len(smooth)])
    if len(smooth) < FEWEST:
        return Reading(math.nan, math.nan, diverged)
    least = int(np.argmin(smooth))
    if smooth[0] - smooth[least] < FALL:
        return Reading(math.nan, math.nan, diverged)
    lost = min(math.log(WORSE), (smooth[0] - smooth[least]) / 2)
    worse = np.flatnonzero(smooth[least:] > smooth[least] + lost)
    diverges = float(rates[least + worse[0]]) if len(worse) else diverged
    # With the lowest loss so far, a loss that rises and falls back to where it was does not count as falling.
    lowest = np.minimum.accumulate(smooth)[: least + 1]
    steepest = int(np.argmin(np.gradient(np.exp(lowest))))
    return Reading(float(rates[least]), float(rates[steepest]), diverges)


def smoothed(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the mean of each value and its neighbours, ``width`` in all (odd), or fewer at the ends.

    >>> smoothed(np.array([0.0, 3.0, 0.0, 0.0]), 3).tolist()
    [1.5, 1.0, 1.0, 0.0]
    """
    if not len(values):
        return values
    beyond, n = np.zeros(width // 2), len(values)
    sums, counts = (
        np.convolve(np.concatenate([beyond, each, beyond]), np.ones(width), "valid")
        for each in (values, np.ones(n))
    )
    return np.asarray(sums / counts)
