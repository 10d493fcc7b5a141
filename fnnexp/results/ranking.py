"""What ranks: a metric, which way is better, and within what margin options are equivalent.

What ranks is always a column of a frame of runs. :func:`seconds_to` makes one of the time to a level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.results import frames
from fnnexp.results.arguments import validate_frames
from fnnexp.tracking.run_format import BEST

MARGIN = 0.2
"""Percentage points of accuracy: options whose mean difference is surely smaller are equivalent."""

MOST_MARGIN = 1e9
"""No margin is as large: it would call everything the same."""

NAMES = ("val_accuracy", "val_loss", BEST[0], "test_accuracy", "test_loss", "train_accuracy", "train_loss")
"""The columns of :func:`fnnexp.runs` that can rank."""

SECONDS_TO = "seconds_to_"
"""How the column begins that :func:`seconds_to` makes."""

Numbers = TypeVar("Numbers", pd.Series, "np.ndarray[Any, np.dtype[np.float64]]")


@dataclass(frozen=True)
class Ranking:
    """A metric that ranks.

    Attributes
    ----------
    metric
        A column of the runs.
    margin
        Options whose mean difference is surely smaller are equivalent. It is in percentage points of an
        accuracy, else in the metric's own unit; None: no options are.
    """

    metric: str
    margin: float | None = None

    @property
    def is_accuracy(self) -> bool:
        """Whether it is an accuracy, a share of which more is better; of a loss or a time less is."""
        return self.metric.endswith("accuracy")

    @property
    def is_time(self) -> bool:
        """Whether it is the time to a level, which a trial may never reach."""
        return self.metric.startswith(SECONDS_TO)

    @property
    def scale(self) -> int:
        """What its numbers are multiplied by where they are shown."""
        return 100 if self.is_accuracy else 1

    @property
    def unit(self) -> str:
        """The unit of a difference that is shown; a loss has none."""
        return "points" if self.is_accuracy else "s" if self.is_time else ""

    @property
    def limit(self) -> float:
        """The margin as a difference of the column's numbers; NaN without one."""
        return math.nan if self.margin is None else self.margin / self.scale

    @property
    def bounds(self) -> tuple[float, float]:
        """Between what a value lies."""
        return 0.0, 1.0 if self.is_accuracy else math.inf

    @property
    def difference_bounds(self) -> tuple[float, float]:
        """Between what a difference of two values lies."""
        return (-1.0, 1.0) if self.is_accuracy else (-math.inf, math.inf)

    def goodness(self, values: Numbers) -> Numbers:
        """Return numbers of which more is better: an accuracy itself, minus a loss or a time.

        >>> Ranking("val_loss").goodness(pd.Series([0.25])).tolist()
        [-0.25]
        """
        return values if self.is_accuracy else -values


ACCURACY = Ranking("test_accuracy", MARGIN)
"""How accuracies are shown that do not rank."""


def ranking_of(runs: pd.DataFrame, metric: str | None = None, margin: float | None = None) -> Ranking:
    """Return what ranks these runs.

    Parameters
    ----------
    metric
        One of :data:`NAMES`, or a column that :func:`seconds_to` made, as `seconds_to_0.95`. None:
        validation accuracy if every trial held out rows, else test accuracy.
    margin
        As :attr:`Ranking.margin`. None: 0.2 points of an accuracy, and none of another metric.

    Raises
    ------
    FnnexpError
        When the metric can't rank or no finished trial has it, or the margin is not above 0.
    """
    chosen = frames.ranking(runs) if metric is None else _checked(runs, metric)
    is_accuracy = Ranking(chosen).is_accuracy
    if margin is None:
        return Ranking(chosen, MARGIN if is_accuracy else None)
    if not isinstance(margin, Real) or isinstance(margin, bool) or not 0 < margin < MOST_MARGIN:
        advice = f"percentage points above 0: margin={MARGIN}" if is_accuracy else "a number above 0"
        raise FnnexpError(f"margin={margin!r} is no difference; write {advice}")
    return Ranking(chosen, margin)


def _checked(runs: pd.DataFrame, metric: str) -> str:
    """Return the name of the column that a metric means; refuse one that can't rank."""
    level = level_of(metric)
    name = metric if level is None else column_of(level)
    if level is None and name not in NAMES:
        raise FnnexpError(
            f"metric={metric!r} ranks nothing; it can be {', '.join(NAMES)} or {SECONDS_TO}0.95."
            f"{did_you_mean(str(metric), NAMES)}"
        )
    if name not in runs:
        advice = (
            "" if level is None else f"; write fnnexp.seconds_to(runs, curves, {level:g}) for some that do"
        )
        raise FnnexpError(f"metric={metric!r}: these runs have no such column{advice}")
    done = runs[runs["status"] == "finished"]
    if len(done) and level is not None and done[name].isna().all():
        raise FnnexpError(
            f"metric={metric!r}: none of the {len(done)} finished trials reached it; name a lower level"
        )
    if len(done) and done[name].isna().all():
        there = [each for each in NAMES if each in done and done[each].notna().any()]
        raise FnnexpError(
            f"metric={metric!r}: none of the {len(done)} finished trials has it; they have {', '.join(there)}"
        )
    return name


def level_of(metric: Any) -> float | None:
    """Return the level that a time is to; None where a metric is no such time.

    >>> level_of("seconds_to_0.95"), level_of("seconds_to_.950"), level_of("seconds_to_95"), level_of("loss")
    (0.95, 0.95, None, None)
    """
    try:
        level = (
            float(str(metric).removeprefix(SECONDS_TO)) if str(metric).startswith(SECONDS_TO) else math.nan
        )
    except ValueError:
        return None
    return level if 0 < level <= 1 else None


def column_of(level: float) -> str:
    """Return the column of the time to a level.

    >>> column_of(0.950)
    'seconds_to_0.95'
    """
    return f"{SECONDS_TO}{level:g}"


@validate_frames
def seconds_to(runs: pd.DataFrame, curves: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the runs with the seconds of training after which each first reached a level of accuracy.

    It is validation accuracy if every trial held out rows, else test accuracy.

    Parameters
    ----------
    runs, curves
        :func:`fnnexp.runs` and :func:`fnnexp.curves` of the same experiment, or some of their rows.
    level
        A share, from 0 to 1.

    Returns
    -------
    DataFrame
        `runs` with one column more (float64), `seconds_to_0.95` for the level 0.95: the first epoch at whose
        end the accuracy is at least the level, times `seconds_per_epoch`. That was measured while the trial
        trained in a stack with others. NaN where the level was not reached.

    Raises
    ------
    FnnexpError
        When the level is no share.

    Examples
    --------
    >>> timed = fnnexp.seconds_to(runs, curves, 0.95)  # doctest: +SKIP
    >>> fnnexp.compare(timed, "init", metric="seconds_to_0.95")  # doctest: +SKIP
    """
    if not 0 < level <= 1:
        share = f"{level / 100:g}" if 1 < level <= 100 else "0.95"
        raise FnnexpError(f"level={level} is no accuracy, which is a share from 0 to 1; write {share}")
    there = curves[(curves["metric"] == frames.ranking(runs)) & (curves["value"] >= level)]
    first = there.groupby(there["trial"].astype("str"))["epoch"].min()
    epochs = runs["trial"].astype("str").map(first).astype("float64")
    return runs.assign(**{column_of(level): epochs * runs["seconds_per_epoch"]})


def matching_accuracy(runs: pd.DataFrame, ranking: Ranking) -> str:
    """Return the accuracy that goes with what ranks: itself, a loss's of the same images, a time's.

    >>> accuracy_beside(pd.DataFrame(), Ranking("val_loss"))
    'val_accuracy'
    """
    if ranking.is_accuracy:
        return ranking.metric
    loss = ranking.metric.endswith("loss")
    return ranking.metric.replace("loss", "accuracy") if loss else frames.ranking(runs)


def missing_values_note(runs: pd.DataFrame, ranking: Ranking) -> str:
    """Return how many finished trials have no value of what ranks, in a sentence; "" if all have."""
    done = runs[runs["status"] == "finished"]
    missing = int(done[ranking.metric].isna().sum())
    if not missing:
        return ""
    why = "never reached it" if ranking.is_time else "have none"
    return (
        f"{missing} of {len(done)} finished trials {why}: they are in no mean and no pair, so look at how "
        "many seeds are left."
    )
