"""The metric that ranks trials, its direction, and the margin within which options are equivalent.

The metric is always a column of a frame of runs. :func:`seconds_to` adds such a column:
the seconds until a trial reached an accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from fnnexp.config.schema import MOST_MARGIN
from fnnexp.errors import FnnexpError, did_you_mean, plural
from fnnexp.results import frames
from fnnexp.results.arguments import validate_frames
from fnnexp.tracking.run_format import BEST

MARGIN = 0.2
"""Default margin, in percentage points of accuracy: options that surely differ by less are equivalent."""

NAMES = ("val_accuracy", "val_loss", BEST[0], "test_accuracy", "test_loss", "train_accuracy", "train_loss")
"""The columns of :func:`fnnexp.runs` that can rank trials."""

SECONDS_TO = "seconds_to_"
"""The prefix of the column that :func:`seconds_to` adds."""

Numbers = TypeVar("Numbers", pd.Series, "np.ndarray[Any, np.dtype[np.float64]]")


@dataclass(frozen=True)
class Ranking:
    """A metric that ranks trials, and its margin.

    Attributes
    ----------
    metric
        A column of the frame of runs, such as `val_accuracy`.
    margin
        Options are equivalent if their mean difference is surely smaller than this: in percentage points for
        an accuracy, else in the metric's unit. None: no options are equivalent.
    """

    metric: str
    margin: float | None = None

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is an accuracy, where more is better. For losses and times less is better."""
        return self.metric.endswith("accuracy")

    @property
    def is_time(self) -> bool:
        """Whether the metric is the time until an accuracy is reached, which some trials may never reach."""
        return self.metric.startswith(SECONDS_TO)

    @property
    def scale(self) -> int:
        """The factor by which values are multiplied when they are shown: 100 for accuracies, else 1."""
        return 100 if self.is_accuracy else 1

    @property
    def unit(self) -> str:
        """The unit that is printed after a difference: "points" or "s"; "" for a loss, which has none."""
        return "points" if self.is_accuracy else "s" if self.is_time else ""

    @property
    def limit(self) -> float:
        """The margin in the unit of the metric's column: 0.002 for 0.2 points; NaN without a margin."""
        return math.nan if self.margin is None else self.margin / self.scale

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest possible value of the metric."""
        return 0.0, 1.0 if self.is_accuracy else math.inf

    @property
    def difference_bounds(self) -> tuple[float, float]:
        """The smallest and the largest possible difference of two values of the metric."""
        return (-1.0, 1.0) if self.is_accuracy else (-math.inf, math.inf)

    def goodness(self, values: Numbers) -> Numbers:
        """Return numbers of which more is better: accuracies unchanged, losses and times negated.

        >>> Ranking("val_loss").goodness(pd.Series([0.25])).tolist()
        [-0.25]
        """
        return values if self.is_accuracy else -values


ACCURACY = Ranking("test_accuracy", MARGIN)
"""A ranking that is used to format accuracies, also where another metric ranks trials."""


def ranking_of(runs: pd.DataFrame, metric: str | None = None, margin: float | None = None) -> Ranking:
    """Return the metric that ranks these runs, and the margin, as given or by default.

    The defaults of `metric` and `margin` are those of :func:`fnnexp.compare`.

    Raises
    ------
    FnnexpError
        If the metric cannot rank trials, if no finished trial has it, or if the margin is not above 0.
    """
    chosen = frames.ranking(runs) if metric is None else _checked(runs, metric)
    is_accuracy = Ranking(chosen).is_accuracy
    if margin is None:
        return Ranking(chosen, MARGIN if is_accuracy else None)
    if not isinstance(margin, Real) or isinstance(margin, bool) or not 0 < margin < MOST_MARGIN:
        advice = f"percentage points above 0: margin={MARGIN}" if is_accuracy else "a number above 0"
        raise FnnexpError(f"margin={margin!r}: must be above 0 and below {MOST_MARGIN:g}; write {advice}")
    return Ranking(chosen, margin)


def _checked(runs: pd.DataFrame, metric: str) -> str:
    """Return the name of the column that has a metric; raise if the metric cannot rank these trials."""
    level = level_of(metric)
    name = metric if level is None else column_of(level)
    if level is None and name not in NAMES:
        raise FnnexpError(
            f"metric={metric!r} cannot rank trials; write {', '.join(NAMES)} or {SECONDS_TO}0.95."
            f"{did_you_mean(str(metric), NAMES)}"
        )
    if name not in runs:
        advice = "" if level is None else f"; write fnnexp.seconds_to(runs, curves, {level:g}) to add it"
        advice = advice or f"; write {', '.join(column for column in NAMES if column in runs)}"
        raise FnnexpError(f"metric={metric!r}: these runs have no such column{advice}")
    finished = runs[runs["status"] == "finished"]
    if len(finished) and level is not None and finished[name].isna().all():
        raise FnnexpError(
            f"metric={metric!r}: none of {plural(len(finished), 'finished trial')} reached this accuracy; "
            "write a lower one"
        )
    if len(finished) and finished[name].isna().all():
        available = [column for column in NAMES if column in finished and finished[column].notna().any()]
        raise FnnexpError(
            f"metric={metric!r}: none of {plural(len(finished), 'finished trial')} has it; "
            f"they have {', '.join(available)}"
        )
    return name


def level_of(metric: Any) -> float | None:
    """Return the accuracy in a metric's name such as `seconds_to_0.95`; None for any other name.

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
    """Return the name of the column with the seconds until an accuracy was reached.

    >>> column_of(0.950)
    'seconds_to_0.95'
    """
    return f"{SECONDS_TO}{level:g}"


@validate_frames
def seconds_to(runs: pd.DataFrame, curves: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the runs with the training time in seconds until each trial first reached a level of accuracy.

    The accuracy is validation accuracy if every trial held out rows, else test accuracy.

    Parameters
    ----------
    runs, curves
        The frames of :func:`fnnexp.runs` and :func:`fnnexp.curves` for one experiment, or some of their rows.
    level
        The accuracy to reach, a fraction from 0 to 1.

    Returns
    -------
    DataFrame
        `runs` with one more column (float64), e.g. `seconds_to_0.95`: the number of the first epoch that
        ended at the level or above, times `seconds_per_epoch`, which was measured while the trial trained in
        a stack with other trials. NaN if the trial never reached the level.

    Raises
    ------
    FnnexpError
        If the level is not above 0 and at most 1.

    Examples
    --------
    >>> timed = fnnexp.seconds_to(runs, curves, 0.95)  # doctest: +SKIP
    >>> fnnexp.compare(timed, "init", metric="seconds_to_0.95")  # doctest: +SKIP
    """
    if not 0 < level <= 1:
        fraction = f"{level / 100:g}" if 1 < level <= 100 else "0.95"
        raise FnnexpError(
            f"level={level}: must be an accuracy, a fraction from 0 to 1; write level={fraction}"
        )
    reached = curves[(curves["metric"] == frames.ranking(runs)) & (curves["value"] >= level)]
    first = reached.groupby(reached["trial"].astype("str"))["epoch"].min()
    epochs = runs["trial"].astype("str").map(first).astype("float64")
    return runs.assign(**{column_of(level): epochs * runs["seconds_per_epoch"]})


def matching_accuracy(runs: pd.DataFrame, ranking: Ranking) -> str:
    """Return the accuracy that tells whether trials learned, if they are ranked by some metric.

    It is the metric itself if that is an accuracy. For a loss it is the accuracy on the same split, and for a
    time the metric that ranks by default.

    >>> matching_accuracy(pd.DataFrame(), Ranking("val_loss"))
    'val_accuracy'
    """
    if ranking.is_accuracy:
        return ranking.metric
    loss = ranking.metric.endswith("loss")
    return ranking.metric.replace("loss", "accuracy") if loss else frames.ranking(runs)


LOSS_KEYS = ("loss", "loss.name", "loss.output", "loss.label_smoothing")
"""The columns that say which function the recorded loss is."""


def different_losses_note(runs: pd.DataFrame, ranking: Ranking) -> str:
    """Return a warning if a loss ranks trials that were trained with different loss functions, else ""."""
    columns = [column for column in frames.params_of(runs) if column in LOSS_KEYS]
    if not ranking.metric.endswith("loss") or not columns:
        return ""
    finished = runs[runs["status"] == "finished"]
    count = len(finished[columns].astype("str").drop_duplicates())
    if count < 2:
        return ""
    return (
        f"These trials were trained with {count} different losses (loss, loss.output and "
        f"loss.label_smoothing). The {ranking.metric} of a trial is measured with its own loss, so trials of "
        f"different losses cannot be compared by it; rank by {ranking.metric.replace('loss', 'accuracy')}."
    )


def missing_values_note(runs: pd.DataFrame, ranking: Ranking) -> str:
    """Return a sentence on how many finished trials lack the ranking metric; "" if all have it."""
    finished = runs[runs["status"] == "finished"]
    missing = int(finished[ranking.metric].isna().sum())
    if not missing:
        return ""
    verb, them = ("does", "it") if missing == 1 else ("do", "them")
    reason = "never reached it" if ranking.is_time else f"{verb} not have it"
    return (
        f"{missing} of {plural(len(finished), 'finished trial')} {reason}. No mean or pair includes "
        f"{them}, so check how many seeds remain."
    )


@validate_frames
def best(runs: pd.DataFrame, *, metric: str | None = None) -> pd.Series:
    """Return the row of the finished trial with the best value of a metric: `fnnexp.load(fnnexp.best(runs))`.

    Parameters
    ----------
    runs
        The frame of :func:`fnnexp.runs`, or some of its rows.
    metric
        The ranking metric, as for :func:`fnnexp.compare`: by default validation accuracy if every trial held
        out rows, else test accuracy.

    Returns
    -------
    Series
        The row, and one more value, `ties`: how many other trials have exactly this value. Of these, the
        first by options, seed and name is returned, whatever the order of the rows.

        The best of many trials is in part the luckiest, so expect less of it on new rows. What is best on
        average over seeds is the first row of :func:`fnnexp.leaderboard`.

    Raises
    ------
    FnnexpError
        If no trial has finished, or the metric cannot rank trials.

    Examples
    --------
    >>> winner = fnnexp.best(runs)  # doctest: +SKIP
    >>> winner["name"], winner["val_accuracy"], winner["ties"]  # doctest: +SKIP
    """
    ranking = ranking_of(runs, metric)
    finished = frames.in_order(runs[runs["status"] == "finished"]).drop_duplicates("trial")
    finished = finished.dropna(subset=[ranking.metric])
    if finished.empty:
        raise FnnexpError(
            f"none of these {plural(len(runs), 'trial')} has finished with a {ranking.metric}; run the sweep "
            "again, or pass other rows"
        )
    goodness = ranking.goodness(finished[ranking.metric]).to_numpy(np.float64)
    row: pd.Series = finished.iloc[int(goodness.argmax())].copy()
    row["ties"] = int(np.count_nonzero(goodness == goodness.max())) - 1
    return row
